/* test_floors.c - sd compare --floor and --measure-floor: errors judged by what float32 itself does to each tensor. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "test.h"
#include "../json.h"
#include "../weights.h"
#include "child.h"

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
    };
    return cmocka_run_group_tests_name("floors", tests, child_setup, child_teardown);
}
