/* test_compare_names.c - sd compare --names from outside: lines that do nothing, files that are none, and several
 * tensors of MINE under one name of REF; and numbers in two other layouts at once. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "../tensors.h"
#include "child.h"
#include "provider.h"

enum { N = 12 };

/* Tensors "k", "l", ... in the order of the alphabet, or backwards: then a trace has an order of its own. */
static void put(const char *name, bool backwards)
{
    static float x[N][4];
    char names[N][2];
    sd_traced t[N];
    sd_error e = {0};
    for (int i = 0; i < N; i++) {
        int k = backwards ? N - 1 - i : i;
        for (int j = 0; j < 4; j++) x[i][j] = (float)(k * 4 + j + 1);
        names[i][0] = (char)('k' + k);
        names[i][1] = 0;
        t[i] = (sd_traced){names[i], SD_F32, 1, {4}, x[i]};
    }
    assert_int_equal(sd_safetensors_write(name, t, N, &e), SD_OK);
}

/* Compares by a file of n letters, in JSON. */
static void compare_by(const char *lines, size_t n, bool ref_backwards, bool mine_backwards)
{
    char ref[512], mine[512], list[512];
    snprintf(ref, sizeof ref, "%s", in_work("ref.safetensors"));
    snprintf(mine, sizeof mine, "%s", in_work("mine.safetensors"));
    snprintf(list, sizeof list, "%s", in_work("names.txt"));
    put(ref, ref_backwards);
    put(mine, mine_backwards);
    spill(list, lines, n);
    RUN("compare", "--json", "--names", list, ref, mine);
}

static void expect_keys(const char *keys)
{
    if (!strstr(ran.out, keys)) fail_msg("not %s: %s %.1500s", keys, ran.err, ran.out);
}

/* Numbers [2,3,4,4], channels last and with the prompt first, are the same numbers; also where the halves are alike, if
 * they are not in others. */
TEST(channels_last_and_exchanged_halves_at_once_are_seen)
{
    static float x[2][N][96];
    static char names[N][3];
    sd_traced t[2][N];
    sd_error e = {0};
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%c", 'w' - i);
        for (int k = 0; k < 96; k++) x[0][i][k] = rnd();
        for (int k = 0; k < 48 && i > 5; k++) x[0][i][k + 48] = x[0][i][k] * 1.01f;
        for (int k = 0; k < 96; k++) x[1][i][(k / 48 ^ 1) * 48 + k % 16 * 3 + k / 16 % 3] = x[0][i][k];
        t[0][i] = (sd_traced){names[i], SD_F32, 4, {2, 3, 4, 4}, x[0][i]};
        t[1][i] = (sd_traced){names[i], SD_F32, 4, {2, 4, 4, 3}, x[1][i]};
    }
    char ref[512];
    snprintf(ref, sizeof ref, "%s", in_work("nchw.safetensors"));
    assert_int_equal(sd_safetensors_write(ref, t[0], N, &e), SD_OK);
    assert_int_equal(sd_safetensors_write(in_work("nhwc.safetensors"), t[1], N, &e), SD_OK);
    RUN("compare", ref, in_work("nhwc.safetensors"));
    assert_int_equal(ran.code, 0);
    expect_keys("no divergence: 12 tensors agree, every number is the same (12 in another layout)");
    x[1][3][5] += 1;
    assert_int_equal(sd_safetensors_write(in_work("nhwc.safetensors"), t[1], N, &e), SD_OK);
    RUN("compare", ref, in_work("nhwc.safetensors"));
    assert_int_equal(ran.code, 1);
    expect_keys("diverges first at t: ");
    expect_keys(" 1 of 96 numbers differ, at most by 1, at [1,2,0,1]");
}

/* No such tensor in MINE, no such name in REF, and a tensor that a line before it has. */
TEST(lines_that_do_nothing_are_counted)
{
    static const char lines[] = "# ours theirs\nk k\nnone* k\nl nowhere\n\nk l\n* *\n";
    compare_by(lines, sizeof lines - 1, true, true);
    expect_keys("\"unused_lines\":3,\"first_unused_line\":3,\"name_taken\":0,");
    RUN("compare", "--names", in_work("names.txt"), in_work("ref.safetensors"), in_work("mine.safetensors"));
    expect_keys("fit nothing, the first is line 3");
    compare_by("* *\n", 4, true, true);
    expect_keys("\"unused_lines\":0,\"first_unused_line\":0,");
}

TEST(a_file_without_a_line_or_of_other_bytes_is_an_error)
{
    static const struct { const char *text; size_t n; const char *says; } bad[] = {
        {"", 0, "expected lines of two names, found none"}, {"# k k\n", 6, "expected lines of two names, found none"},
        {"k\0k k\n", 6, "it is no text"}, {"k k\n\1\2\3 k\n", 10, "it is no text"}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        compare_by(bad[i].text, bad[i].n, true, true);
        expect_error(bad[i].says, 2, bad[i].says);
    }
}

/* Whichever of the two has the order: each tensor is in one row. */
TEST(of_several_tensors_under_one_name_one_is_compared_and_the_others_are_said)
{
    for (int i = 0; i < 4; i++) {
        compare_by("* k\n", 4, i & 1, i >> 1);
        expect_keys("\"name_taken\":11,");
        expect_keys("\"compared\":1,");
        expect_keys("\"only_ref\":11,\"only_mine\":11,");
    }
    RUN("compare", "--names", in_work("names.txt"), in_work("ref.safetensors"), in_work("mine.safetensors"));
    expect_keys("11 of MINE are not compared, for another has the same name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_last_and_exchanged_halves_at_once_are_seen),
        cmocka_unit_test(lines_that_do_nothing_are_counted),
        cmocka_unit_test(a_file_without_a_line_or_of_other_bytes_is_an_error),
        cmocka_unit_test(of_several_tensors_under_one_name_one_is_compared_and_the_others_are_said),
    };
    return cmocka_run_group_tests_name("compare-names", tests, child_setup, child_teardown);
}
