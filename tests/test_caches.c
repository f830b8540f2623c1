/* test_caches.c - the sizes of caches as Linux' sysfs tells them, from directories made for the purpose, and what this
 * machine says. */
#define _POSIX_C_SOURCE 200809L
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../os.h"
#include "tempdir.h"

enum { INDICES = 4 };
static const char *const fields[] = {"level", "type", "size", "coherency_line_size"};

/* index<i> of a directory like Linux', with these fields */
static void cache(int index, const char *level, const char *type, const char *size, const char *line)
{
    const char *const text[] = {level, type, size, line};
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s/index%d", temp_path(""), index);
    mkdir(dir, 0700);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, fields[i]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "%s\n", text[i]);
        fclose(f);
    }
}

static int forget(UNUSED void **state)
{
    for (int index = 0; index < INDICES; index++) {
        char path[600];
        for (int i = 0; i < 4; i++) {
            snprintf(path, sizeof path, "%s/index%d/%s", temp_path(""), index, fields[i]);
            remove(path);
        }
        snprintf(path, sizeof path, "%s/index%d", temp_path(""), index);
        rmdir(path);
    }
    return 0;
}

TEST(sysfs_tells_data_caches_by_level)
{
    cache(0, "1", "Data", "48K", "64");
    cache(1, "1", "Instruction", "96K", "64");
    cache(2, "2", "Unified", "1280K", "64");
    cache(3, "3", "Unified", "36M", "128");
    sd_cache_sizes c;
    assert_true(sd_caches_from_sysfs(&c, temp_path("")));
    assert_true(c.l1 == 48 << 10 && c.l2 == 1280 << 10 && c.l3 == 36 << 20 && c.line == 128);
    assert_string_equal(c.from, "sysfs");
}

/* No directory, no second cache, one smaller than the first, rubbish: not believed. */
TEST(nonsense_is_not_believed)
{
    sd_cache_sizes c;
    assert_false(sd_caches_from_sysfs(&c, "/no/such/directory"));
    cache(0, "1", "Data", "32K", "64");
    assert_false(sd_caches_from_sysfs(&c, temp_path("")));
    cache(2, "2", "Unified", "16K", "64");
    assert_false(sd_caches_from_sysfs(&c, temp_path("")));
    cache(2, "2", "Unified", "512K", "64");
    assert_true(sd_caches_from_sysfs(&c, temp_path("")));
    assert_true(c.l3 == 0);
    cache(0, "1", "Data", "many", "64");
    assert_false(sd_caches_from_sysfs(&c, temp_path("")));
}

TEST(this_machine_has_caches_that_grow)
{
    sd_cache_sizes c = sd_caches_find(), asked;
    assert_true(c.l1 > 0 && c.l2 > c.l1 && (c.l3 == 0 || c.l3 >= c.l2 / 2) && c.line > 0);
    print_message("%s: %zu, %zu, %zu KB\n", c.from, c.l1 >> 10, c.l2 >> 10, c.l3 >> 10);
    if (sd_caches_from_cpuid(&asked))
        print_message("cpuid: %zu, %zu, %zu KB\n", asked.l1 >> 10, asked.l2 >> 10, asked.l3 >> 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(sysfs_tells_data_caches_by_level, forget),
        cmocka_unit_test_teardown(nonsense_is_not_believed, forget),
        cmocka_unit_test(this_machine_has_caches_that_grow),
    };
    return cmocka_run_group_tests_name("caches", tests, temp_make, temp_remove);
}
