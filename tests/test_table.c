/* test_table.c - the table of samplers: what a row lacks is said in a sentence, so that a new sampler comes with its
 * names, its paper, its reference runs and its place in the documents; and rows say the truth about drawing noise. */
#include "../sampler_run.h"

#include "test.h"

/* The files that have to name each sampler. */
static char *runs, *solver_runs, *document;

static char *read_text(const char *path)
{
    sd_error e = {.status = SD_OK};
    char *text;
    size_t n;
    if (sd_read_file(path, (size_t)1 << 22, &text, &n, &e)) fail_msg("%s", e.text);
    return text;
}

static int load(UNUSED void **state)
{
    runs = read_text("tests/golden/sampler_runs.txt");
    solver_runs = read_text("tests/golden/sampler_solvers.txt");
    document = read_text("docs/SAMPLERS.md");
    return 0;
}

static int unload(UNUSED void **state)
{
    free(runs);
    free(solver_runs);
    free(document);
    return 0;
}

/* A line that begins with `start` and then the name, which ends there. */
static bool has_run(const char *text, const char *start, const char *name)
{
    char line[80];
    snprintf(line, sizeof line, "\n%s %s", start, name);
    for (const char *at = text; (at = strstr(at, line)) != NULL; at++)
        if (strchr(" @", at[strlen(line)])) return true;
    return false;
}

/* The name as a whole word in the first cell of a row of the document's tables. */
static bool is_documented(const char *name)
{
    size_t n = strlen(name);
    for (const char *row = document; (row = strstr(row, "\n| ")) != NULL; row++) {
        const char *end = strchr(row + 3, '|');
        for (const char *at = row; end && (at = strstr(at + 1, name)) != NULL && at < end;)
            if (at[-1] == ' ' && strchr(" ,", at[n])) return true;
    }
    return false;
}

/* What the row lacks, as a sentence; NULL: it is complete. */
static const char *lacks(const sd_method_row *row)
{
    const sd_sampler_info *about = &row->about;
    if (!about->name) return "a sampler of sd_method has no row";
    if (!about->label) return "a label in A1111's manner is missing";
    if (about->a1111 && strcmp(about->a1111, about->label) != 0) return "its label should be A1111's";
    if (!about->paper) return "the paper is missing";
    if (!row->sample) return "the function is missing";
    if (!row->levels || !row->levels->place) return "it is not said how its levels are placed";
    if (about->order < 0 || about->order > 4) return "the order of accuracy should be 0 to 4";
    if (row->class_order < 1 || row->class_order > row->most_order)
        return "class_order should be at least 1 and at most most_order";
    if (about->draws == SD_DRAWS_NEVER && about->eta != 0) return "it never draws noise, but has a share of it";
    if ((row->home == SD_DIFFUSERS) != (about->diffusers != NULL))
        return "its plain name is diffusers' if and only if diffusers has a class for it";
    if (row->elsewhere[row->home]) return "the name at home is the plain one and does not stand in elsewhere";
    if (about->diffusers && about->kdiffusion && !row->elsewhere[SD_KDIFFUSION])
        return "k-diffusion has it too, but there is no name @kdiffusion";
    if ((about->kdiffusion || row->home != SD_DIFFUSERS) && !row->levels->ends_alone
        && row->automatic == SD_CURVE_SPACED)
        return "it is not said which schedule \"Automatic\" is";
    if (!row->reads.prediction && !row->predicts_v) return "it does not read the prediction type";
    if (!row->reads.betas && row->levels->by_sigma) return "it does not read the betas";
    if (!has_run(runs, "run", about->name) && !has_run(solver_runs, "case", about->name))
        return "there are no reference runs in tests/golden (tools/golden_solvers.py)";
    if (!is_documented(about->name)) return "it is in no table of docs/SAMPLERS.md";
    return NULL;
}

TEST(every_row_is_complete)
{
    int wrong = 0;
    for (int m = 0; m < SD_METHOD_COUNT; m++) {
        const sd_method_row *row = sd_method_row_of((sd_method)m);
        const char *lack = lacks(row);
        if (!lack) continue;
        print_error("sampler %d, %s: %s\n", m, row->about.name ? row->about.name : "without a name", lack);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

/* Each way to leave a row unfinished is noticed. */
TEST(twins_of_unfinished_rows_are_wrong)
{
    const sd_method_row good = *sd_method_row_of(SD_EULER), heun = *sd_method_row_of(SD_HEUN);
    assert_null(lacks(&good));
    sd_method_row bad[14];
    for (size_t i = 0; i < SD_COUNT(bad); i++) bad[i] = good;
    bad[0].about.name = NULL;
    bad[1].about.name = "no_such_sampler";
    bad[2].about.paper = NULL;
    bad[3].about.label = NULL;
    bad[13].about.a1111 = "Eulr";
    bad[4].sample = NULL;
    bad[5].levels = NULL;
    bad[6].most_order = 0;
    bad[7].about.eta = 1;
    bad[8].about.diffusers = NULL;
    bad[9].elsewhere[SD_KDIFFUSION] = NULL;
    bad[10].automatic = SD_CURVE_SPACED;
    bad[11].reads = (sd_reads){.prediction = true};
    bad[12].reads = (sd_reads){.betas = true};
    for (size_t i = 0; i < SD_COUNT(bad); i++)
        if (!lacks(&bad[i])) fail_msg("row %zu passes", i);
    assert_null(lacks(&heun));
}

static bool draws(sd_method m, double eta)
{
    sd_sched_config c;
    sd_error e = {.status = SD_OK};
    sd_sampler *s;
    sd_sched_defaults(&c, m);
    c.eta = eta;
    if (sd_sampler_new(&s, &c, 40, &e)) fail_msg("%s", e.text);
    bool does = s->draws;
    sd_sampler_free(s);
    return does;
}

/* What a row says of drawing is what its function does, in 40 steps (restart goes up again from 20 on). */
TEST(rows_say_when_noise_is_drawn)
{
    for (int m = 0; m < SD_METHOD_COUNT; m++) {
        const sd_sampler_info *about = sd_method_about((sd_method)m);
        bool without = draws((sd_method)m, 0), with = draws((sd_method)m, 1);
        if (without != (about->draws == SD_DRAWS_ALWAYS) || with != (about->draws != SD_DRAWS_NEVER))
            fail_msg("%s: with eta 0 it %s, with eta 1 it %s", about->name, without ? "draws" : "does not draw",
                     with ? "draws" : "does not draw");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(twins_of_unfinished_rows_are_wrong),
        cmocka_unit_test(rows_say_when_noise_is_drawn),
    };
    return cmocka_run_group_tests_name("table", tests, load, unload);
}
