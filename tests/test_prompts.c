/* test_prompts.c - prompts from files and standard input, names of several pictures, and how many threads are taken
 * when nobody says. */
#define _XOPEN_SOURCE 700
#include <sys/stat.h>

#include "test.h"
#include "../sd.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

#define DRAW "-W", "64", "-H", "64", "--steps", "2", "-s", "1", "-q"

static const char *out(const char *name) { return temp_path(name); }

static const char *text_file(const char *name, const char *text)
{
    spill(in_work("%s", name), text, strlen(text));
    return in_work("%s", name);
}

static void draws_as(const char *what, const char *a, const char *b)
{
    if (!same_files(a, b)) fail_msg("%s: another picture", what);
}

/* --------------------------------------------------------------------------------- -p @FILE, -p - */

TEST(a_prompt_may_be_in_a_file)
{
    char at[4200];
    snprintf(at, sizeof at, "@%s", text_file("p.txt", "a red apple\n"));
    RUN(DRAW, "-p", "a red apple", "-n", "blue", "-o", out("a.ppm"));
    expect_success("a text");
    RUN(DRAW, "-p", at, "-n", "blue", "-o", out("b.ppm"));
    expect_success("-p @FILE");
    draws_as("-p @FILE", out("a.ppm"), out("b.ppm"));
    run_with.input = text_file("stdin.txt", "a red apple\n");
    RUN(DRAW, "-p", "-", "-n", "blue", "-o", out("b.ppm"));
    expect_success("-p -");
    draws_as("-p -", out("a.ppm"), out("b.ppm"));
    snprintf(at, sizeof at, "@%s", text_file("n.txt", "blue"));
    RUN(DRAW, "-p", "a red apple", "-n", at, "-o", out("b.ppm"));
    draws_as("-n @FILE", out("a.ppm"), out("b.ppm"));
    temp_clear();
}

TEST(two_signs_are_one_sign_and_no_file)
{
    size_t n;
    RUN("-p", "@@x", DRAW, "-o", out("c.png"));
    char *png = slurp(out("c.png"), &n);
    int found = 0;
    for (size_t i = 0; i + 10 < n; i++)
        found += memcmp(png + i, "parameters", 10) == 0 && memcmp(png + i + 11, "@x\n", 3) == 0;
    assert_int_equal(found, 1);
    free(png);
    temp_clear();
}

TEST(texts_that_cannot_be_read_say_why)
{
    RUN(DRAW, "-p", "@no/such.txt", "-o", out("a.ppm"));
    expect_error("no file", 2, "@@");
    RUN(DRAW, "-p", "-", "--prompts", "-", "-o", out("a.ppm"));
    expect_error("twice", 2, "only one of");
    RUN(DRAW, "-p", "@.", "-o", out("a.ppm"));
    expect_error("a directory", 2, "directory");
    spill(in_work("nul"), "a\0b", 3);
    RUN(DRAW, "--prompts", in_work("nul"), "-o", out("a.ppm"));
    expect_error("NUL", 2, "NUL");
    RUN(DRAW, "--prompts", "/dev/zero", "-o", out("a.ppm"));
    expect_error("/dev/zero", 2, "16 MB");
}

/* ------------------------------------------------------------------------------------- --prompts */

TEST(each_line_is_a_picture_with_its_own_options)
{
    static const char lines[] = "# a comment\n\na red apple\r\n"
        "  a blue car  --steps 3 --seed 5 --negative_prompt bad hands --cfg_scale 4\n"
        "--prompt a green dog --sampler_name \"Euler a\"\n"
        "an owl -- or two --seed 8 -b 2\n";
    RUN(DRAW, "--prompts", text_file("l.txt", lines), "-o", out("l_%02d.ppm"));
    expect_success("--prompts");
    assert_string_equal(ran.out, "seed: 1\nseed: 5\nseed: 1\nseed: 8\nseed: 9\n");
    expect_files_in_out(5, "five pictures");
    static const char *const alone[][12] = {
        {"-p", "a red apple"}, {"-p", "a blue car", "--steps", "3", "-s", "5", "-n", "bad hands", "--cfg-scale", "4"},
        {"-p", "a green dog", "--sampling-method", "euler_a"}, {"-p", "an owl -- or two", "-s", "8"},
        {"-p", "an owl -- or two", "-s", "9"}};
    for (int i = 0; i < 5; i++) {
        const char *const *a = alone[i];
        char name[32];
        snprintf(name, sizeof name, "l_%02d.ppm", i + 1);
        RUN(DRAW, "-o", out("alone.ppm"), a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
        expect_success(a[1]);
        draws_as(a[1], out(name), out("alone.ppm"));
    }
    temp_clear();
    run_with.input = text_file("stdin.txt", lines);
    RUN(DRAW, "--prompts", "-", "-o", in_work("new/"));
    expect_success("from the standard input");
    struct stat st;
    assert_int_equal(stat(in_work("new/output_5.png"), &st) == 0 || stat(in_work("new/output_5.ppm"), &st) == 0, 1);
}

TEST(lines_are_checked_before_the_first_is_drawn)
{
    static const struct { const char *lines, *words[2]; } cases[] = {
        {"a\nb --stepz 3\n", {":2: ", "did you mean --steps?"}},
        {"a\n\nb --sampler foo\n", {":3: ", "unknown sampler"}},
        {"a --steps \"3\n", {":1: ", "quote"}}, {"a --model x\n", {":1: ", "before all lines"}},
        {"a --vae x\n", {":1: ", "before all lines"}}, {"a --profile json\n", {":1: ", "before all lines"}},
        {"a --vae-memory 1\n", {":1: ", "before all lines"}}, {"a --lora-model-dir x\n", {":1: ", "not supported"}},
        {"a\nb --output x.gif\n", {":2: ", "must end in"}}, {"a\nb\xff --steps 1\n", {":2: ", "not UTF-8"}},
        {"\n# nothing\n", {"no prompts", "a line each"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RUN(DRAW, "--prompts", text_file("bad.txt", cases[i].lines), "-o", out("a.ppm"));
        expect_error(cases[i].lines, 2, cases[i].words[0]);
        expect_error(cases[i].lines, 2, cases[i].words[1]);
        assert_string_equal(ran.out, "");
    }
    RUN(DRAW, "--prompts", text_file("two.txt", "a\nb\n"), "--trace", out("t.safetensors"), "-o", out("a.ppm"));
    expect_error("--trace", 2, "--prompts asks for several");
}

/* ----------------------------------------------------------------------------------------- names */

TEST(pictures_are_numbered_as_the_name_says)
{
    static const struct { const char *output, *first, *second; } names[] = {
        {"a_%03d.ppm", "a_001.ppm", "a_002.ppm"}, {"a%d.ppm", "a1.ppm", "a2.ppm"}, {"%3d.ppm", "  1.ppm", "  2.ppm"},
        {"a.ppm", "a.ppm", "a_2.ppm"}, {"100%.ppm", "100%.ppm", "100%_2.ppm"}, {"%s%n.ppm", "%s%n.ppm", "%s%n_2.ppm"},
        {"%999999999d.ppm", "%999999999d.ppm", "%999999999d_2.ppm"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat st;
        RUN(DRAW, "-p", "x", "-b", "2", "-o", out(names[i].output));
        expect_success(names[i].output);
        expect_files_in_out(2, names[i].output);
        if (stat(out(names[i].first), &st) || stat(out(names[i].second), &st)) fail_msg("%s", names[i].output);
        temp_clear();
    }
    RUN("-p", "x", DRAW, "-o", out("%03d.ppm"));   /* one picture has a number too */
    struct stat st;
    assert_int_equal(stat(out("001.ppm"), &st), 0);
    temp_clear();
}

/* --------------------------------------------------------------------------------------- threads */

static int threads_of_a_run(const char *environment)
{
    run_with.env[0] = environment;
    RUN(DRAW, "-p", "x", "-o", out("a.ppm"), "--timings", "json");
    expect_success("threads");
    const char *at = strstr(ran.out, "\"threads\":");
    assert_non_null(at);
    return atoi(at + 10);
}

TEST(omp_num_threads_is_respected)
{
    if (strstr(sd_build_info(), "no OpenMP")) skip();
    assert_int_equal(threads_of_a_run("OMP_NUM_THREADS=3"), 3);
    assert_int_equal(threads_of_a_run("OMP_NUM_THREADS=1"), 1);
    run_with.env[0] = "OMP_NUM_THREADS=3";
    RUN(DRAW, "-p", "x", "-t", "2", "-o", out("a.ppm"), "--timings", "json");
    assert_non_null(strstr(ran.out, "\"threads\":2"));   /* -t is nearer */
    temp_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_may_be_in_a_file),
        unit_test_needing(NEED_PNG, two_signs_are_one_sign_and_no_file),
        cmocka_unit_test(texts_that_cannot_be_read_say_why),
        cmocka_unit_test(each_line_is_a_picture_with_its_own_options),
        cmocka_unit_test(lines_are_checked_before_the_first_is_drawn),
        cmocka_unit_test(pictures_are_numbered_as_the_name_says),
        cmocka_unit_test(omp_num_threads_is_respected),
    };
    return cmocka_run_group_tests_name("prompts", tests, child_setup, child_teardown);
}
