/* test_opencl_cache.c - programs are built once for each device, and what was kept of them is believed only if it is
 * whole and of this source. */
#define _POSIX_C_SOURCE 200809L
#include "opencl.h"
#include "tempdir.h"
#include "../sha256.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

/* How many programs were built from source so far. */
static int built;

static void count_builds(void *user, int level, const char *line)
{
    (void)user, (void)level;
    built += strstr(line, "built opencl/") != NULL;
}

enum { O = 5, I = 3, PACKED = SD_CL_STRIP * I };

/* A device is opened, packs a weight, and is closed; how many programs were built. 1 + which: another program. */
static int builds_with(const char *cache, int which, bool distrust)
{
    static const sd_log log = {count_builds, NULL};
    cl_bench b;
    float packed[PACKED];
    cl_start(&b, 1 << 12);
    b.cl->log = &log;
    b.cl->rebuild = distrust;
    snprintf(b.cl->cache, sizeof b.cl->cache, "%s", cache);
    float *x = cl_numbers(3, O * I, 1, 0);
    uint16_t halves[O * I];
    sd_narrow(halves, SD_F16, x, O * I);
    sd_tensor w = cl_weight(x, 2, (const int64_t[]){O, I, 0, 0});
    if (which) w.dt = SD_F16, w.data = halves;
    built = 0;
    sd_cl_matrix m = sd_cl_packed(&b.run, &w);
    sd_cl_wait(&b.run);
    if (!sd_ok(&b.run)) fail_msg("%s", b.run.err->text);
    if (!which) {
        assert_int_equal(clEnqueueReadBuffer(b.cl->queue, m.buffer, CL_TRUE, 0, sizeof packed, packed, 0, NULL, NULL),
                         CL_SUCCESS);
        for (int o = 0; o < O; o++)
            for (int i = 0; i < I; i++) assert_true(packed[i * SD_CL_STRIP + o] == x[o * I + i]);
    }
    int n = built;
    free(x);
    cl_stop(&b);
    return n;
}

static int builds(const char *cache) { return builds_with(cache, 0, false); }

/* The names of the files in the cache; how many. */
static int files(const char *cache, char name[4][512])
{
    char dir[512];
    int n = 0;
    snprintf(dir, sizeof dir, "%s/opencl", cache);
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d)) != NULL;) {
        if (*f->d_name == '.') continue;
        assert_true(n < 4);
        assert_true(snprintf(name[n++], 512, "%s/%s", dir, f->d_name) < 512);
    }
    if (d) closedir(d);
    return n;
}

static const char *new_cache(void)
{
    static int n;
    char name[32];
    snprintf(name, sizeof name, "made/for/%d", n++);
    return temp_path(name);
}

/* The only file of the cache, read whole. */
static unsigned char *only_file(const char *cache, char name[512], size_t *n)
{
    char names[4][512];
    assert_int_equal(files(cache, names), 1);
    strcpy(name, names[0]);
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    unsigned char *data = malloc(1 << 24);
    assert_non_null(data);
    *n = fread(data, 1, 1 << 24, f);
    fclose(f);
    return data;
}

static void write_to(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

TEST(a_program_is_built_once)
{
    char name[4][512];
    char cache[512];
    snprintf(cache, sizeof cache, "%s", new_cache());
    assert_int_equal(builds(cache), 1);
    assert_int_equal(builds(cache), 0);
    assert_int_equal(files(cache, name), 1);
    assert_int_equal(builds_with(cache, 1, false), 1);   /* other options, another file */
    assert_int_equal(files(cache, name), 2);
    assert_int_equal(builds_with(cache, 1, false) + builds(cache), 0);
}

TEST(without_a_cache_nothing_is_kept)
{
    assert_int_equal(builds(""), 1);
    assert_int_equal(builds(""), 1);
}

/* Each of these is mended: it is built from source, and read the next time. */
TEST(a_file_that_is_not_whole_is_built_anew)
{
    char cache[512], name[512];
    size_t n, head = 141;
    snprintf(cache, sizeof cache, "%s", new_cache());
    assert_int_equal(builds(cache), 1);
    unsigned char *whole = only_file(cache, name, &n), *other = malloc(n + 1);
    assert_non_null(other);
    assert_true(n > head + 100 && whole[head - 1] == '\n');
    const size_t lengths[] = {0, 1, head - 1, head, head + 1, n / 2, n - 1};
    for (size_t i = 0; i < SD_COUNT(lengths); i++) {
        write_to(name, whole, lengths[i]);
        assert_int_equal(builds(cache), 1);
        assert_int_equal(builds(cache), 0);
    }
    const size_t flips[] = {0, 11, 75, 76, 139, head, head + 9, n / 2, n - 1};
    for (size_t i = 0; i < SD_COUNT(flips); i++) {
        memcpy(other, whole, n);
        other[flips[i]] ^= 1;
        write_to(name, other, n);
        assert_int_equal(builds(cache), 1);
        assert_int_equal(builds(cache), 0);
    }
    memcpy(other, whole, n);
    other[n] = 0;
    write_to(name, other, n + 1);
    assert_int_equal(builds(cache), 1);
    free(whole);
    free(other);
}

/* Its hashes are right, but no driver could make anything of it. */
TEST(a_binary_that_the_driver_refuses_is_built_anew)
{
    char cache[512], name[512], text[200], hex[SD_SHA256_HEX];
    size_t n;
    sd_sha256 h;
    snprintf(cache, sizeof cache, "%s", new_cache());
    assert_int_equal(builds(cache), 1);
    unsigned char *whole = only_file(cache, name, &n);
    sd_sha256_init(&h);
    sd_sha256_add(&h, "no binary", 9);
    sd_sha256_hex(&h, hex);
    snprintf(text, sizeof text, "%.76s%s\nno binary", (char *)whole, hex);
    write_to(name, text, strlen(text));
    assert_int_equal(builds(cache), 1);
    assert_int_equal(builds(cache), 0);
    free(whole);
}

/* What another driver or another source left under the same name. */
TEST(a_stale_binary_is_built_anew)
{
    char cache[512], name[512];
    size_t n;
    snprintf(cache, sizeof cache, "%s", new_cache());
    assert_int_equal(builds(cache), 1);
    unsigned char *whole = only_file(cache, name, &n);
    memset(whole + 11, 'a', 64);
    write_to(name, whole, n);
    assert_int_equal(builds(cache), 1);
    assert_int_equal(builds(cache), 0);
    free(whole);
}

TEST(a_cache_that_cannot_be_written_is_no_error)
{
    char cache[512], name[512];
    size_t n;
    temp_write("file", "x", 1);
    snprintf(cache, sizeof cache, "%s/below", temp_path("file"));
    assert_int_equal(builds(cache), 1);
    assert_int_equal(builds(cache), 1);
    snprintf(cache, sizeof cache, "%s", new_cache());
    assert_int_equal(builds(cache), 1);
    free(only_file(cache, name, &n));
    assert_int_equal(remove(name), 0);
    assert_int_equal(symlink("/dev/full", name), 0);   /* what is written there finds a full disk */
    assert_int_equal(builds(cache), 1);
    assert_int_equal(remove(name), 0);
    assert_int_equal(builds(cache), 1);
    assert_int_equal(builds(cache), 0);
}

/* The self-test failed with programs of the cache: that may be their fault. */
TEST(a_cache_is_distrusted_once_and_then_made_anew)
{
    cl_bench b;
    char cache[512];
    snprintf(cache, sizeof cache, "%s", new_cache());
    assert_int_equal(builds(cache), 1);
    assert_int_equal(builds_with(cache, 0, true), 1);
    cl_start(&b, 1 << 12);
    snprintf(b.cl->cache, sizeof b.cl->cache, "%s", cache);
    sd_cl_begin(&b.run, "pack", "pack", "-DWEIGHT=0");
    assert_int_equal(sd_cl_distrust_cache(b.cl), true);
    assert_int_equal(b.cl->programs, 0);
    sd_cl_begin(&b.run, "pack", "pack", "-DWEIGHT=0");
    assert_int_equal(sd_cl_distrust_cache(b.cl), false);
    assert_int_equal(b.cl->programs, 1);
    assert_true(sd_ok(&b.run));
    cl_stop(&b);
}

/* ---------------------------------------------------------------------------- building, launching */

TEST(a_program_that_cannot_be_built_has_the_compilers_words)
{
    cl_bench b;
    cl_start(&b, 1 << 12);
    sd_cl_begin(&b.run, "pack", "pack", "-Dint=fish");
    assert_int_equal(b.run.err->status, SD_ERR_DEVICE);
    assert_non_null(strstr(b.run.err->text, "cannot build opencl/pack.cl"));
    assert_non_null(strstr(b.run.err->text, "CL_BUILD_PROGRAM_FAILURE"));
    assert_non_null(strstr(b.run.err->text, "error"));
    assert_int_equal(b.cl->programs, 0);
    cl_stop(&b);
}

TEST(a_group_that_a_kernel_cannot_have_is_a_sentence)
{
    cl_bench b;
    cl_start(&b, 1 << 12);
    sd_cl_call k = sd_cl_begin(&b.run, "pack", "pack", "-DWEIGHT=0");
    assert_true(k.most_group >= 1);
    k.most_group = 64;
    sd_cl_run(&k, (size_t[]){65, 1, 1}, (size_t[]){1, 1, 1}, 1);
    assert_int_equal(b.run.err->status, SD_ERR_DEVICE);
    assert_non_null(strstr(b.run.err->text, "groups of kernel pack have 65 work-items, this device takes at most 64"));
    cl_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_built_once),
        cmocka_unit_test(without_a_cache_nothing_is_kept),
        cmocka_unit_test(a_file_that_is_not_whole_is_built_anew),
        cmocka_unit_test(a_binary_that_the_driver_refuses_is_built_anew),
        cmocka_unit_test(a_stale_binary_is_built_anew),
        cmocka_unit_test(a_cache_that_cannot_be_written_is_no_error),
        cmocka_unit_test(a_cache_is_distrusted_once_and_then_made_anew),
        cmocka_unit_test(a_program_that_cannot_be_built_has_the_compilers_words),
        cmocka_unit_test(a_group_that_a_kernel_cannot_have_is_a_sentence),
    };
    return cmocka_run_group_tests_name("opencl_cache", tests, temp_make, temp_remove);
}
