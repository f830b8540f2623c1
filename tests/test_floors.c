/* test_floors.c - sd compare --floor and --measure-floor: errors judged by what float32 itself does to each tensor. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <sys/stat.h>

#include "test.h"
#include "../json.h"
#include "../ops_rounded.h"
#include "../weights.h"
#include "child.h"
#include "synth.h"

/* --------------------------------------------------------------------------------------- made traces */

enum { TENSORS = 30, NUMBERS = 64, AT = 13 };

typedef struct made {
    float x[TENSORS][NUMBERS];
    char name[TENSORS][80];
    sd_traced t[TENSORS];
} made;

/* The relative L2 error that float32 makes in each tensor. */
static double usual(int i) { return i % 7 == 5 ? 4e-5 : 5e-6; }

static void spoil(made *m, int i, double error)
{
    for (int k = 0; k < NUMBERS; k++) m->x[i][k] *= (float)(1 + (k % 2 ? error : -error));
}

/* Numbers that are the same in every call; `times` the usual errors. */
static made *make(double times)
{
    made *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (int i = 0; i < TENSORS; i++) {
        for (int k = 0; k < NUMBERS; k++) m->x[i][k] = (float)(1 + (i * 31 + k * 17) % 101);
        snprintf(m->name[i], sizeof m->name[i], "step.%d.unet.mid_block.resnets.%d.%s", i / 15, i % 15 / 5,
                 (const char *const[]){"norm1", "conv1", "time_emb_proj", "norm2", "conv2"}[i % 5]);
        m->t[i] = (sd_traced){m->name[i], SD_F32, 4, {1, 4, 4, 4}, m->x[i]};
        spoil(m, i, times * usual(i));
    }
    return m;
}

static const char *path_of(const char *name)
{
    static char path[16][512];
    static int next;
    snprintf(path[next % 16], sizeof *path, "%s", in_work("%s", name));
    return path[next++ % 16];
}

static const char *put(const char *name, made *m)
{
    sd_error e = {0};
    const char *path = path_of(name);
    if (sd_safetensors_write(path, m->t, TENSORS, &e)) fail_msg("%s", e.text);
    free(m);
    return path;
}

static const char *reference(void) { return put("ref.safetensors", make(0)); }

static const char *text_file(const char *name, const char *text)
{
    const char *path = path_of(name);
    spill(path, text, strlen(text));
    return path;
}

/* The floors of these traces, as they are measured. */
static const char *measured(void)
{
    const char *path = path_of("floors.txt");
    RUN("compare", "-q", "--measure-floor", path, reference(), put("clean.safetensors", make(1)));
    expect_success("measuring");
    return path;
}

static void expect(const char *floors, const char *mine, int code, const char *words)
{
    RUN("compare", "--floor", floors, reference(), mine);
    if (ran.code != code) fail_msg("exit code %d: %s%.300s", ran.code, ran.err, ran.out);
    if (!strstr(ran.out, words)) fail_msg("not \"%s\": %.2000s", words, ran.out);
}

/* ------------------------------------------------------------------------------------------ verdicts */

TEST(twice_what_float32_does_is_no_divergence)
{
    expect(measured(), put("twice.safetensors", make(2)), 0, "no divergence: 30 tensors agree");
    expect(measured(), put("again.safetensors", make(2)), 0, "30 judged by what float32 does there");
}

/* An error that is smaller than what other tensors have, and than any bound on all of them. */
TEST(a_small_error_is_found_where_float32_makes_none)
{
    made *m = make(1);
    for (int i = AT; i < TENSORS; i++) spoil(m, i, i % 7 == 5 ? 0 : 8 * 5e-6);
    const char *mine = put("small.safetensors", m);
    RUN("compare", reference(), mine);
    expect_success("without floors");
    expect(measured(), mine, 1, "diverges first at step.0.unet.mid_block.resnets.2.norm2: relative L2 error");
    assert_non_null(strstr(ran.out, "times what float32 does here, 5e-06"));
}

/* A single tensor may be worse in one run than in another, if nothing of it stays; 60 times is too much. */
TEST(what_does_not_stay_is_forgiven_unless_it_is_large)
{
    made *m = make(1);
    spoil(m, AT, 20 * 5e-6);
    expect(measured(), put("alone.safetensors", m), 0, "no divergence");
    m = make(1);
    spoil(m, AT, 60 * 5e-6);
    expect(measured(), put("large.safetensors", m), 1, "diverges first at step.0.unet.mid_block.resnets.2");
}

TEST(json_has_floors_and_multiples)
{
    made *m = make(1);
    spoil(m, AT, 60 * 5e-6);
    const char *floors = measured();
    RUN("compare", "--json", "--floor", floors, reference(), put("json.safetensors", m));
    sd_error e = {0};
    sd_json *j = sd_json_parse(ran.out, strlen(ran.out), "the answer", &e);
    if (!j) fail_msg("%s", e.text);
    const sd_json *c = sd_json_item(sd_json_get(j, "compared"), 0), *t = sd_json_item(sd_json_get(c, "tensors"), AT);
    assert_string_equal(sd_json_text(sd_json_get(c, "floor")), floors);
    double times = sd_json_get(t, "times")->number, floor = sd_json_get(t, "floor")->number;
    assert_true(fabs(floor - 5e-6) < 1e-7);
    assert_true(fabs(times * floor - sd_json_get(t, "relative_l2")->number) < 1e-12 && times > 55 && times < 65);
    sd_json_free(j);
}

/* ---------------------------------------------------------------------------------------- whose is whose */

TEST(a_star_stands_for_a_number_and_a_later_step_is_as_the_last)
{
    const char *stars = text_file("stars.txt", "# every step\n\n1e-3 step.*.unet.mid_block.resnets.0.norm1\n"
                                               "1e-3 step.0.unet.mid_block.resnets.1.norm1\n");
    made *m = make(0);
    const int at[] = {0, 15, 5, 20};   /* of the first two by the star, of the others by the earlier step */
    for (int i = 0; i < 4; i++) spoil(m, at[i], 2e-3);
    const char *mine = put("stars.safetensors", m);
    RUN("compare", reference(), mine);
    assert_int_equal(ran.code, 1);
    expect(stars, mine, 0, "4 judged by what float32 does there");
}

TEST(floors_of_a_run_hold_for_a_module_alone_and_for_other_names)
{
    const char *floors = text_file("run.txt", "1e-3 step.0.unet.text_model.conv_in\n1e-3 step.0.unet.conv_out\n");
    static float x[2][2] = {{1, 2}, {1.002f, 2}};
    const sd_traced t[2][2] = {{{"module.conv_in", SD_F32, 1, {2}, x[0]}, {"conv_out", SD_F32, 1, {2}, x[0]}},
                               {{"module.conv_in", SD_F32, 1, {2}, x[1]}, {"conv_out", SD_F32, 1, {2}, x[1]}}};
    sd_error e = {0};
    const char *a = path_of("module.safetensors"), *b = path_of("module2.safetensors");
    assert_int_equal(sd_safetensors_write(a, t[0], 2, &e), SD_OK);
    assert_int_equal(sd_safetensors_write(b, t[1], 2, &e), SD_OK);
    RUN("compare", "--floor", floors, a, b);
    expect_success("a module alone");
    assert_non_null(strstr(ran.out, "2 judged by what float32 does there"));
}

/* ------------------------------------------------------------------------------------------ measuring */

TEST(the_farthest_pair_counts_and_so_does_a_file)
{
    const char *path = path_of("three.txt"), *before = text_file("before.txt", "1e-2 step.1.unet.conv_out\n"
                                                                 "1e-9 step.0.unet.mid_block.resnets.0.norm1\n");
    RUN("compare", "-q", "--floor", before, "--measure-floor", path, reference(), put("a.safetensors", make(1)),
        put("b.safetensors", make(-2)));
    expect_success("measuring");
    size_t n;
    char *text = slurp(path, &n);
    assert_non_null(strstr(text, "\n1.50e-05 step.0.unet.mid_block.resnets.0.norm1\n"));
    assert_non_null(strstr(text, "\n1.00e-02 step.1.unet.conv_out\n"));
    free(text);
}

TEST(what_tells_nothing_of_float32_is_refused)
{
    const char *path = path_of("refused.txt");
    RUN("compare", "--measure-floor", path, reference(), reference());
    expect_error("the same trace", 2, "30 of 30 tensors are the same");
    RUN("compare", "--measure-floor", path, reference());
    expect_error("one trace", 2, "sd compare --help");
    made *m = make(1);
    spoil(m, AT, 2);
    RUN("compare", "--measure-floor", path, reference(), put("wrong.safetensors", m));
    expect_error("a wrong trace", 2, "one of them is wrong there");
    m = make(1);
    m->t[AT].dim[0] = 2;
    m->t[AT].dim[1] = 2;
    spoil(m, AT, 1);
    RUN("compare", "--measure-floor", path, reference(), put("shape.safetensors", m));
    expect_error("another shape", 2, "not of the same run");
}

/* Two traces may compute a tensor in the same way; a third need not, and is not wrong for that. */
TEST(what_is_the_same_in_both_has_no_floor)
{
    const char *path = path_of("same.txt");
    made *m = make(1), *other = make(1), *plain = make(0);
    memcpy(m->x[AT], plain->x[AT], sizeof m->x[AT]);
    free(plain);
    RUN("compare", "-q", "--measure-floor", path, reference(), put("same.safetensors", m));
    expect_success("measuring");
    expect(path, put("other.safetensors", other), 0, "29 judged by what float32 does there");
}

TEST(measuring_writes_over_floors_alone)
{
    const char *a = reference(), *b = put("clean.safetensors", make(1)), *c = put("third.safetensors", make(2));
    size_t before, after;
    free(slurp(c, &before));
    RUN("compare", "--measure-floor", c, a, b);
    expect_error("a trace in the floors' place", 2, "third.safetensors is there and is no file of floors");
    free(slurp(c, &after));
    assert_int_equal(before, after);
    for (int i = 0; i < 2; i++) {
        RUN("compare", "-q", "--measure-floor", path_of("twice.txt"), a, b);
        expect_success("measuring again");
    }
    RUN("compare", "-q", "--measure-floor", text_file("void.txt", ""), a, b);
    expect_success("into an empty file");
}

TEST(measuring_refuses_options_of_a_text)
{
    static const char *const options[] = {"--json", "--calls", "--all", "--html=x.html"};
    const char *a = reference(), *b = put("clean.safetensors", make(1));
    for (size_t i = 0; i < SD_COUNT(options); i++) {
        RUN("compare", options[i], "--measure-floor", path_of("options.txt"), a, b);
        expect_error(options[i], 2, "it writes floors alone");
    }
}

TEST(a_file_that_is_none_is_refused)
{
    const char *mine = put("mine.safetensors", make(1)), *ref = reference();
    static const struct { const char *text, *says; } bad[] = {
        {"1e-6\n", "line 1: expected a relative error"}, {"# x\nmuch conv_in\n", "line 2: expected a relative error"},
        {"-1e-6 conv_in\n", "expected a relative error"}, {"inf conv_in\n", "expected a relative error"},
        {"# nothing\n", "has no floor"}, {"1e-6 conv_in\n", "has a floor for none of the 30 tensors"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        RUN("compare", "--floor", text_file("bad.txt", bad[i].text), ref, mine);
        expect_error(bad[i].text, 2, bad[i].says);
    }
    RUN("compare", "--floor", path_of("absent.txt"), ref, mine);
    expect_error("no file", 2, "absent.txt");
}

/* ---------------------------------------------------------------------------------------------- runs */

TEST(floors_of_a_run_hold_for_another_seed_and_prompt)
{
    static const char *const how[][5] = {{"a red apple", "1", "-q"}, {"a red apple", "1", "--precise"},
                                         {"two cats", "2", "-q"}, {"two cats", "2", "--precise"}};
    const char *path[4], *floors = path_of("run.txt");
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "run%d.safetensors", i);
        path[i] = path_of(name);
        RUN("-p", how[i][0], "-s", how[i][1], "--steps", "2", "--trace", path[i], "-o", path_of("x.ppm"), "-q",
            how[i][2]);
        expect_success("drawing");
    }
    RUN("compare", "-q", "--measure-floor", floors, path[0], path[1]);
    expect_success("measuring");
    RUN("compare", "--floor", floors, path[2], path[3]);
    expect_success("another run");
    assert_non_null(strstr(ran.out, "judged by what float32 does there"));
}

/* ---------------------------------------------------------------------------------------- made by itself */

/* The floor of a tensor in a file; 0: it has none. */
static double floor_in(const char *path, const char *name)
{
    size_t n;
    char *text = slurp(path, &n), *at = strstr(text, name);
    while (at && (at[-1] != ' ' || at[strlen(name)] != '\n')) at = strstr(at + 1, name);
    while (at && at > text && at[-1] != '\n') at--;
    double value = at ? atof(at) : 0;
    free(text);
    return value;
}

/* What diffusers 0.42 in float32 was off from every sum in double, in five ways to compute: the largest. A run of ours
 * beside a precise one has nothing of time_proj, and a thirtieth of ff.net.0. */
static const struct { const char *name; double theirs; } foreign[] = {
    {"step.0.unet.time_proj", 5.4e-6},
    {"step.0.unet.time_embedding.act", 4.0e-6},
    {"step.0.unet.up_blocks.0.attentions.1.transformer_blocks.0.ff.net.0", 7.0e-5},
    {"step.0.unet.up_blocks.0.attentions.1.transformer_blocks.0.ff.net.2", 2.0e-6},
    {"step.0.unet.up_blocks.0.resnets.0.conv1", 7.6e-7},
    {"step.0.unet.down_blocks.1.resnets.0.conv2", 4.7e-7},
    {"step.2.unet.mid_block.resnets.0.conv1", 6.1e-7},
    {"step.0.noise_pred", 1.0e-6},
};

TEST(floors_that_a_run_makes_itself_hold_for_a_foreign_float32)
{
    const char *own = path_of("own.txt"), *ref = path_of("own-ref.safetensors"), *other = path_of("own.safetensors");
    RUN("-p", "a red apple", "-s", "1", "--steps", "3", "--cfg-scale", "7.5", "--floor", own, "--trace", ref, "-o",
        path_of("own.ppm"), "-q");
    expect_success("making floors");
    for (size_t i = 0; i < SD_COUNT(foreign); i++) {
        double value = floor_in(own, foreign[i].name), times = foreign[i].theirs / value;
        if (!(value > 0 && times < 1.5 && times > 0.15)) fail_msg("%s: %g", foreign[i].name, value);
    }
    RUN("-p", "a red apple", "-s", "1", "--steps", "3", "--cfg-scale", "7.5", "--precise", "--trace", other, "-o",
        path_of("own.ppm"), "-q");
    expect_success("drawing");
    RUN("compare", "--floor", own, other, ref);
    expect_success("a run and its floors");
    assert_non_null(strstr(ran.out, "no divergence"));
}

/* The largest of four steps. */
static double floor_of_steps(const char *path, const char *name)
{
    double most = floor_in(path, name);
    char step[300];
    for (int i = 0; i < 4 && strncmp(name, "unet.", 5) == 0; i++) {
        snprintf(step, sizeof step, "step.%d.%s", i, name);
        most = fmax(most, floor_in(path, step));
    }
    return most;
}

/* Weights by a formula, for which torch's float32 errors are known, of other inputs. An attention whose softmax is
 * about to prefer another token is an exception. Without starts one in thirty is above. */
TEST(few_tensors_of_a_network_have_a_floor_far_below_torchs_error)
{
    sd_error e = {0};
    golden g;
    int seen = 0, above = 0, tight = 0;
    const char *own = path_of("small.txt"), *model = path_of("small-model");
    assert_int_equal(mkdir(model, 0777), 0);
    if (synth_write_model(model, "sd1-small", NULL, &e) || golden_open(&g, "sd1-small", &e)) fail_msg("%s", e.text);
    RUN("-m", model, "-p", "a red apple", "-s", "5", "--steps", "4", "--sampling-method", "ddim", "--cfg-scale", "7.5",
        "--floor", own, "--floor-starts", "4", "-o", path_of("small.ppm"), "-q");
    expect_success("making floors");
    for (size_t i = 0; i < g.file.n; i++) {
        const sd_entry *x = &g.file.entry[i];
        const char *dot = strrchr(x->name, '.');
        char name[256];
        float e32;
        if (!dot || strcmp(dot, ".e32") != 0 || strncmp(x->name, "run.", 4) == 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(dot - x->name), x->name);
        double value = floor_of_steps(own, name);
        memcpy(&e32, x->data, sizeof e32);
        if (!(value > 0)) continue;
        seen++;
        above += e32 > 5 * fmax(value, 6e-8);
        tight += e32 > 0.1 * value;
    }
    golden_close(&g);
    if (seen < 600 || 100 * above > seen || 4 * tight < 3 * seen) fail_msg("%d, %d above, %d near", seen, above, tight);
}

TEST(making_floors_refuses_what_it_cannot_do)
{
    RUN("-p", "x", "--steps", "2", "--floor", path_of("x.txt"), "--batch-count", "2");
    expect_error("two runs", 2, "--floor is for one run");
    RUN("-p", "x", "--steps", "2", "--floor-starts", "2");
    expect_error("no file", 2, "--floor-starts needs --floor FILE");
    RUN("-p", "x", "--steps", "2", "--floor", reference());
    expect_error("a trace", 2, "is there and is no file of floors");
    RUN("-p", "x", "--floor", path_of("x.txt"), "--sampling-method", "dpm_adaptive");
    if (ran.code != 2 || !*ran.err) fail_msg("%d %s", ran.code, ran.err);
}

TEST(tables_of_published_models_have_names)
{
    static const char *const names[] = {"tiny", "sd15", "sd21", "sdxl"};
    const char *a = path_of("named.safetensors"), *b = path_of("named2.safetensors");
    static float x[2][2] = {{1, 2}, {1.0000002f, 2}};
    const sd_traced t[2] = {{"step.7.unet.conv_in", SD_F32, 1, {2}, x[0]},
                            {"step.7.unet.conv_in", SD_F32, 1, {2}, x[1]}};
    sd_error e = {0};
    assert_int_equal(sd_safetensors_write(a, &t[0], 1, &e), SD_OK);
    assert_int_equal(sd_safetensors_write(b, &t[1], 1, &e), SD_OK);
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        RUN("compare", "--floor", names[i], a, b);
        expect_success(names[i]);
        assert_non_null(strstr(ran.out, "1 judged by what float32 does there"));
    }
    RUN("compare", "--floor", "sd16", a, b);
    expect_error("no such table", 2, "sd16");
}

/* The same start has the same roundings, another one others; each number moves by one rounding at most. */
TEST(roundings_are_those_of_their_start)
{
    enum { N = 4096 };
    static float x[3][N];
    int moved = 0;
    for (int k = 0; k < 3; k++) {
        sd_rounded w = {.start = k < 2 ? 1 : 2};
        for (int i = 0; i < N; i++) x[k][i] = (float)(i - N / 2) / 7;
        sd_round_apart(&w, x[k], N);
    }
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    assert_memory_not_equal(x[0], x[2], sizeof x[0]);
    for (int i = 0; i < N; i++) {
        float right = (float)(i - N / 2) / 7;
        assert_true(x[0][i] == right || x[0][i] == nextafterf(right, INFINITY)
                    || x[0][i] == nextafterf(right, -INFINITY));
        moved += x[0][i] != right;
    }
    assert_true(moved > 0.4 * N && moved < 0.6 * N && x[0][N / 2] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_what_float32_does_is_no_divergence),
        cmocka_unit_test(a_small_error_is_found_where_float32_makes_none),
        cmocka_unit_test(what_does_not_stay_is_forgiven_unless_it_is_large),
        cmocka_unit_test(json_has_floors_and_multiples),
        cmocka_unit_test(a_star_stands_for_a_number_and_a_later_step_is_as_the_last),
        cmocka_unit_test(floors_of_a_run_hold_for_a_module_alone_and_for_other_names),
        cmocka_unit_test(the_farthest_pair_counts_and_so_does_a_file),
        cmocka_unit_test(what_tells_nothing_of_float32_is_refused),
        cmocka_unit_test(what_is_the_same_in_both_has_no_floor),
        cmocka_unit_test(measuring_writes_over_floors_alone),
        cmocka_unit_test(measuring_refuses_options_of_a_text),
        cmocka_unit_test(a_file_that_is_none_is_refused),
        cmocka_unit_test(floors_of_a_run_hold_for_another_seed_and_prompt),
        cmocka_unit_test(floors_that_a_run_makes_itself_hold_for_a_foreign_float32),
        cmocka_unit_test(few_tensors_of_a_network_have_a_floor_far_below_torchs_error),
        cmocka_unit_test(making_floors_refuses_what_it_cannot_do),
        cmocka_unit_test(tables_of_published_models_have_names),
        cmocka_unit_test(roundings_are_those_of_their_start),
    };
    return cmocka_run_group_tests_name("floors", tests, child_setup, child_teardown);
}
