/* test_opencl_tune.c - sd tune: shapes of tiles are measured, kept, found again by the next run, and not believed where
 * they are another driver's or broken. */
#define _POSIX_C_SOURCE 200809L
#include "opencl.h"
#include "tempdir.h"

#include <stdlib.h>

/* So little memory that of all products only a few small ones have room. */
enum { MEMORY = 7 << 20 };

static char place[SD_CL_PATH];

/* A device with a cache of its own */
static void start(cl_bench *b, const char *directory)
{
    cl_start(b, 1 << 20);
    snprintf(b->cl->cache, sizeof b->cl->cache, "%s", directory);
    b->cl->memory = MEMORY;
    sd_cl_read_choices(b->cl);
}

typedef struct seen { int n, of, stop; sd_tuned last; } seen;
static int see(void *user, const sd_tuned *t)
{
    seen *s = user;
    s->last = *t;
    s->of = t->of;
    return ++s->n == s->stop;
}

/* The one file below directory/opencl whose name begins like that of the choices */
static char *kept(const char *directory)
{
    char command[SD_CL_PATH];
    snprintf(command, sizeof command, "ls %s/opencl/shapes-* 2>/dev/null", directory);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    if (!fgets(place, sizeof place, f)) *place = 0;
    pclose(f);
    place[strcspn(place, "\n")] = 0;
    return *place ? place : NULL;
}

static void write_text(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(text, 1, n, f);
    assert_int_equal(fclose(f), 0);
}

static size_t choices_after(const char *directory, const char *path, const char *text, size_t n)
{
    cl_bench b;
    write_text(path, text, n);
    start(&b, directory);
    n = b.cl->choices;
    cl_stop(&b);
    return n;
}

TEST(what_was_measured_is_kept_and_found_again)
{
    const char *directory = temp_path("cache");
    char *text;
    size_t n;
    seen s = {0};
    cl_bench b;
    sd_error e = {.status = SD_OK};
    start(&b, directory);
    assert_int_equal(b.cl->choices, 0);
    assert_int_equal(sd_cl_tune(&b.run, see, &s), SD_OK);
    assert_true(s.n > 0 && s.n == s.of && s.last.gflops > 0 && s.last.gflops >= s.last.before && *s.last.shape);
    assert_int_equal(b.cl->choices, s.n);
    sd_cl_choice first = b.cl->choice[0];
    cl_stop(&b);

    start(&b, directory);
    assert_int_equal(b.cl->choices, s.n);
    assert_int_equal(b.cl->choice[0].shape, first.shape);
    assert_int_equal(sd_cl_shape_for(b.cl, first.M, first.N, first.K, 1, first.conv), first.shape);
    for (int row = 0; row < sd_cl_shapes(); row++) {   /* whichever it is, it is used */
        if (!sd_cl_shape_runs(b.cl, row)) continue;
        b.cl->choice[0].shape = row;
        assert_int_equal(sd_cl_shape_for(b.cl, first.M, first.N, first.K, 1, first.conv), row);
    }
    cl_stop(&b);

    assert_non_null(kept(directory));
    assert_int_equal(sd_read_file(place, 1 << 20, &text, &n, &e), SD_OK);
    assert_int_equal(choices_after(directory, place, text, n), s.n);
    assert_int_equal(choices_after(directory, place, text, n - 3), 0);              /* cut off */
    assert_int_equal(choices_after(directory, place, text, 0), 0);
    text[12] = text[12] == '0' ? '1' : '0';                                         /* another driver's */
    assert_int_equal(choices_after(directory, place, text, n), 0);
    text[12] = text[12] == '0' ? '1' : '0';
    text = realloc(text, n + 12);
    assert_non_null(text);
    memcpy(text + n, "1 2 3 0 99\n", 12);                                            /* no such shape */
    assert_int_equal(choices_after(directory, place, text, n + 11), 0);
    free(text);
}

TEST(a_run_that_is_stopped_keeps_nothing)
{
    const char *directory = temp_path("stopped");
    seen s = {.stop = 1};
    cl_bench b;
    start(&b, directory);
    assert_int_equal(sd_cl_tune(&b.run, see, &s), SD_ERR_CANCELLED);
    assert_int_equal(s.n, 1);
    assert_null(kept(directory));
    sd_error_clear(&b.err);
    cl_stop(&b);
}

TEST(what_a_device_can_do_at_most_is_measured)
{
    sd_roofs roofs;
    cl_bench b;
    cl_start(&b, 1 << 20);
    b.cl->memory = (uint64_t)256 << 20;
    if (sd_cl_measure_roofs(&b.run, &roofs, 0.05)) fail_msg("%s", b.err.text);
    print_message("    %.1f GFLOP/s, %.1f GB/s\n", roofs.peak, roofs.level[3].copy);
    assert_true(roofs.peak > 0.1 && roofs.level[3].copy > 0.1);
    assert_true(sd_roof_seconds(&roofs, 1e9 * roofs.peak, 0, 0) > 0.999);
    assert_true(sd_roof_seconds(&roofs, 0, 1e9 * roofs.level[3].copy, 0) > 0.999);
    cl_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_measured_is_kept_and_found_again),
        cmocka_unit_test(a_run_that_is_stopped_keeps_nothing),
        cmocka_unit_test(what_a_device_can_do_at_most_is_measured),
    };
    return cmocka_run_group_tests_name("opencl_tune", tests, temp_make, temp_remove);
}
