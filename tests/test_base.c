/* test_base.c - errors that stick, the arena, globs, text, files that appear whole or not at all. */
#define _POSIX_C_SOURCE 200809L
#include <unistd.h>

#include "test.h"
#include "../base.h"

TEST(the_first_error_wins_and_stays_one_line)
{
    sd_error e = {0};
    assert_int_equal(sd_fail(&e, SD_ERR_SHAPE, "a\nname %d", 7), SD_ERR_SHAPE);
    assert_int_equal(sd_fail(&e, SD_ERR_IO, "later"), SD_ERR_SHAPE);
    assert_string_equal(e.text, "a?name 7");
    assert_non_null(strstr(e.place, "test_base.c:"));
    sd_error_clear(&e);
    assert_int_equal(e.status, SD_OK);
    assert_string_equal(sd_status_name(SD_ERR_CANCELLED), "cancelled");
    assert_string_equal(sd_status_name((sd_status)99), "unknown");
}

TEST(the_arena_counts_and_holds_alike)
{
    sd_arena counting = {0}, real = {.base = sd_block_alloc(256), .size = 256};
    bool full;
    assert_null(sd_arena_alloc(&counting, 100, &full));
    assert_false(full);
    unsigned char *p = sd_arena_alloc(&real, 100, &full);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % SD_ALIGN, 0);
    assert_int_equal(real.used, counting.used);
    assert_int_equal(real.used, 128);
    assert_non_null(sd_arena_alloc(&real, 128, &full));
    memset(p, 1, 256);   /* all of it is ours (the sanitizer watches) */
    assert_null(sd_arena_alloc(&real, 1, &full));
    assert_true(full);
    assert_int_equal(real.peak, 256);
    sd_arena_alloc(&counting, SIZE_MAX - 10, &full);
    assert_true(full);
    sd_block_free(real.base);
}

TEST(globs)
{
    const struct { const char *list, *name; bool match; } cases[] = {
        {NULL, "a", true}, {"", "a", true}, {"a", "a", true}, {"a", "ab", false}, {"*", "a.b", true},
        {"latents.*", "latents.3", true},
        {"latents.*", "latent.3", false}, {"step.?.noise_pred", "step.2.noise_pred", true},
        {"step.?.noise_pred", "step.12.noise_pred", false},
        {"x,*.mid_block*,y", "step.0.unet.mid_block.resnets.0", true}, {"x,y", "y", true}, {"x,y", "xy", false},
        {"*a*b*c", "xxaxxbxxbc", true},
        {"*a*b*c", "xxaxxbxxbcd", false}, {"a,", "b", false}};
    for (size_t i = 0; i < SD_COUNT(cases); i++)
        assert_int_equal(sd_glob_list(cases[i].list, cases[i].name), cases[i].match);
}

TEST(text_grows)
{
    sd_text t = {0};
    for (int i = 0; i < 1000; i++) sd_text_add(&t, "%d,", i);
    assert_false(t.failed);
    assert_int_equal(strlen(t.s), t.n);
    assert_int_equal(t.n, 10 * 2 + 90 * 3 + 900 * 4);
    free(t.s);
}

static char dir[] = "/tmp/sd-base-XXXXXX";

TEST(files_appear_whole_or_not_at_all)
{
    char path[64], part[80], *data;
    size_t n;
    sd_error e = {0};
    sd_outfile o;
    snprintf(path, sizeof path, "%s/f", dir);
    snprintf(part, sizeof part, "%s.part", path);
    assert_int_equal(sd_outfile_open(&o, path, &e), SD_OK);
    fputs("abc", o.f);
    assert_false(sd_is_file(path));
    assert_int_equal(sd_outfile_commit(&o, &e), SD_OK);
    assert_int_equal(sd_read_file(path, 3, &data, &n, &e), SD_OK);
    assert_int_equal(n, 3);
    assert_string_equal(data, "abc");
    free(data);
    assert_int_equal(sd_outfile_open(&o, path, &e), SD_OK);   /* an aborted rewrite leaves the old file */
    fputs("xyz", o.f);
    sd_outfile_abort(&o);
    assert_false(sd_is_file(part));
    assert_int_equal(sd_read_file(path, 2, &data, &n, &e), SD_ERR_FORMAT);   /* larger than allowed */
    unlink(path);
}

TEST(unusable_paths_say_why)
{
    sd_error e = {0};
    sd_outfile o;
    char *data, path[4], missing[64];
    size_t n;
    assert_int_equal(sd_read_file(dir, 100, &data, &n, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "directory"));
    sd_error_clear(&e);
    assert_int_equal(sd_outfile_open(&o, dir, &e), SD_ERR_ARG);
    sd_error_clear(&e);
    snprintf(missing, sizeof missing, "%s/none/f", dir);
    assert_int_equal(sd_outfile_open(&o, missing, &e), SD_ERR_MISSING);
    assert_non_null(strstr(e.text, "No such file"));
    sd_error_clear(&e);
    assert_int_equal(sd_read_file(missing, 100, &data, &n, &e), SD_ERR_MISSING);
    sd_error_clear(&e);
    assert_int_equal(sd_path_join(path, sizeof path, "ab", "cd", &e), SD_ERR_ARG);
}

static int make_dir(UNUSED void **state) { return mkdtemp(dir) ? 0 : -1; }
static int remove_dir(UNUSED void **state) { return rmdir(dir); }   /* fails if a test left something */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_wins_and_stays_one_line),
        cmocka_unit_test(the_arena_counts_and_holds_alike),
        cmocka_unit_test(globs),
        cmocka_unit_test(text_grows),
        cmocka_unit_test(files_appear_whole_or_not_at_all),
        cmocka_unit_test(unusable_paths_say_why),
    };
    return cmocka_run_group_tests_name("base", tests, make_dir, remove_dir);
}
