/* test_bench.c - the benchmark's comparison of two results: what it calls slower, what it notes, and its exit code; and
 * its arguments. */
#define _XOPEN_SOURCE 700   /* realpath */
#include "test.h"
#include "child.h"
#include "tempdir.h"

#define RESULT(peak, conv, linear, decode) \
    "{\"kernels\": \"avx2\", \"threads\": 2, \"peak_gflops\": " peak ", \"operations\": [" \
    "{\"name\": \"conv\", \"ms\": " conv "}, {\"name\": \"linear\", \"ms\": " linear "}], " \
    "\"stages\": [{\"name\": \"VAE decode\", \"ms\": " decode "}]}"

static void write_result(const char *name, const char *json) { spill(in_work("%s", name), json, strlen(json)); }

static const char *bench_program(void)
{
    static char program[4096];
    const char *path = getenv("SD_BENCH");
    if (!realpath(path ? path : "build/tools/bench", program)) fail_msg("no build/tools/bench, and no SD_BENCH");
    return program;
}

static void compare(const char *percent)
{
    char before[512], after[512];
    snprintf(before, sizeof before, "%s", in_work("a.json"));
    snprintf(after, sizeof after, "%s", in_work("b.json"));
    run_with.program = bench_program();
    RUN("--compare", before, after, "--percent", percent);
}

TEST(what_became_slower_is_named_and_is_the_exit_code)
{
    write_result("a.json", RESULT("190", "10", "20", "1000"));
    write_result("b.json", RESULT("191", "10.4", "18", "1100"));
    compare("5");
    assert_int_equal(ran.code, 1);
    assert_non_null(strstr(ran.out, "slower: VAE decode: 1000.000 to 1100.000 ms (+10.0%)"));
    assert_non_null(strstr(ran.out, "faster: linear: 20.000 to 18.000 ms (-10.0%)"));
    assert_null(strstr(ran.out, "conv"));
    assert_null(strstr(ran.out, "note"));
    assert_non_null(strstr(ran.out, "3 compared, 1 slower by more than 5%"));
    compare("3");
    assert_non_null(strstr(ran.out, "slower: conv"));
    compare("11");
    assert_int_equal(ran.code, 0);
}

TEST(another_machine_is_noted)
{
    write_result("a.json", RESULT("190", "10", "20", "1000"));
    write_result("b.json", RESULT("150", "10", "20", "1000"));
    compare("5");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "note: the peak was 190.0 GFLOP/s, then 150.0"));
}

TEST(what_cannot_be_compared_is_neither_slower_nor_well)
{
    write_result("a.json", RESULT("190", "10", "20", "1000"));
    write_result("b.json", "{\"operations\": [], \"stages\": []}");
    compare("5");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "nothing in common"));
    write_result("b.json", "{\"operations\": ");
    compare("5");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "b.json"));
}

TEST(other_settings_and_what_is_in_one_alone_are_noted)
{
    static const char *const said[] = {
        "machine: \"X\", then \"Y\"", "clock: \"wall clock\", then \"processor time\"",
        "pictures of 0 pixels, then of 64", "2 are in one of the two alone", "1 compared"};
    write_result("a.json", "{\"machine\": \"X\", \"clock\": \"wall clock\", \"size\": 0, \"operations\": ["
                           "{\"name\": \"conv\", \"ms\": 10}, {\"name\": \"gone\", \"ms\": 10}]}");
    write_result("b.json", "{\"machine\": \"Y\", \"clock\": \"processor time\", \"size\": 64, \"operations\": ["
                           "{\"name\": \"conv\", \"ms\": 10}, {\"name\": \"new\", \"ms\": 10},"
                           "{\"name\": \"inf\", \"ms\": 1e999}]}");
    compare("5");
    assert_int_equal(ran.code, 0);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strstr(ran.out, said[i])) fail_msg("\"%s\" is not in\n%s", said[i], ran.out);
}

/* A mistyped word must not be taken for none, nor a number for 0. */
TEST(wrong_arguments_are_refused)
{
    static const char *const wrong[][2] = {
        {"--only", "stage"}, {"--threads", "two"}, {"--threads", "0"}, {"--size", "-64"}, {"--size", "64x"},
        {"--percent", "nan"}, {"--percent", "-5"}, {"--isa", "mmx"}, {"--json", "--fast"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        run_with.program = bench_program();
        RUN(wrong[i][0], wrong[i][1], "--model", "/no/such");
        if (ran.code != 2 || ran.out[0] || !ran.err[0]) fail_msg("%s %s: %d", wrong[i][0], wrong[i][1], ran.code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_became_slower_is_named_and_is_the_exit_code),
        cmocka_unit_test(another_machine_is_noted),
        cmocka_unit_test(what_cannot_be_compared_is_neither_slower_nor_well),
        cmocka_unit_test(other_settings_and_what_is_in_one_alone_are_noted),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, child_setup, child_teardown);
}
