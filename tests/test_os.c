/* test_os.c - os_*.c: names of files, files as memory, and the limits of control groups, from directories made for the
 * purpose. */
#define _XOPEN_SOURCE 700
#include "test.h"
#include "../os.h"
#include "child.h"
#include "tempdir.h"

#include <sys/stat.h>
#include <unistd.h>

/* A made-up /proc and /sys: path and contents. */
static void plant(const char *root, const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *c = full + strlen(root) + 1; (c = strchr(c, '/')) != NULL; *c++ = '/') {
        *c = 0;
        mkdir(full, 0777);
    }
    spill(full, text, strlen(text));
}

/* A root with this in its /proc/self/cgroup and these files. */
static const char *made_up(const char *name, size_t i, const char *group, const char *const files[3][2])
{
    static char root[256];
    snprintf(root, sizeof root, "%.200s", in_work(name, i));
    mkdir(root, 0777);
    plant(root, "/proc/self/cgroup", group);
    for (int k = 0; k < 3 && files[k][0]; k++) plant(root, files[k][0], files[k][1]);
    return root;
}

TEST(quotas_of_control_groups_count_in_both_versions)
{
    static const struct { const char *group, *files[3][2]; int cores; } cases[] = {
        {"0::/\n", {{"/sys/fs/cgroup/cpu.max", "250000 100000\n"}}, 3},
        {"0::/\n", {{"/sys/fs/cgroup/cpu.max", "max 100000\n"}}, 0},
        {"0::/a/b\n", {{"/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"}, {"/sys/fs/cgroup/a/cpu.max", "200000 100000\n"},
                       {"/sys/fs/cgroup/cpu.max", "800000 100000\n"}}, 2},
        {"0::/inside/of/another\n", {{"/sys/fs/cgroup/cpu.max", "100000 100000\n"}}, 1},
        {"5:cpu,cpuacct:/x\n3:memory:/\n", {{"/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000\n"},
                                          {"/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"}}, 1},
        {"2:cpu:/x\n0::/\n", {{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n"},
                            {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}}, 4},
        {"2:cpu:/\n", {{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
                       {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}}, 0},
        {"2:cpuset:/\n", {{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"},
                         {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}}, 0},
        {"0::/\n", {{"/sys/fs/cgroup/cpu.max", "nonsense\n"}}, 0},
        {"nonsense\n:\n::\n", {{NULL, NULL}}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *root = made_up("root%zu", i, cases[i].group, cases[i].files);
        if (sd_cores_quota(root) != cases[i].cores) fail_msg("case %zu: %d cores", i, sd_cores_quota(root));
    }
    assert_int_equal(sd_cores_quota("/no/such/root"), 0);
    assert_true(sd_cores_usable() >= 1);
}

TEST(limits_of_memory_count_in_both_versions)
{
    static const struct { const char *group, *files[3][2]; uint64_t left; } cases[] = {
        {"0::/\n", {{"/sys/fs/cgroup/memory.max", "max\n"}}, UINT64_MAX},
        {"0::/\n", {{"/sys/fs/cgroup/memory.max", "1000\n"}}, 1000},
        {"0::/\n", {{"/sys/fs/cgroup/memory.max", "1000\n"}, {"/sys/fs/cgroup/memory.current", "700\n"},
                    {"/sys/fs/cgroup/memory.stat", "anon 500\nfile 200\nkernel 1\n"}}, 500},
        {"0::/a/b\n", {{"/sys/fs/cgroup/a/b/memory.max", "max\n"}, {"/sys/fs/cgroup/a/memory.max", "300\n"},
                       {"/sys/fs/cgroup/memory.max", "900\n"}}, 300},
        {"0::/a\n", {{"/sys/fs/cgroup/a/memory.max", "300\n"}, {"/sys/fs/cgroup/a/memory.current", "400\n"}}, 0},
        {"9:memory:/x\n", {{"/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "5000\n"},
                           {"/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "3000\n"},
                           {"/sys/fs/cgroup/memory/x/memory.stat", "cache 7\ntotal_cache 1000\n"}}, 3000},
        {"9:memory:/x\n", {{"/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n"},
                           {"/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "3000\n"}}, UINT64_MAX},
        {"9:cpu:/x\n", {{"/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "5000\n"}}, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *root = made_up("memory%zu", i, cases[i].group, cases[i].files);
        uint64_t left = sd_memory_of_groups(root);
        if (left != cases[i].left) fail_msg("case %zu: %llu bytes", i, (unsigned long long)left);
    }
    assert_true(sd_memory_of_groups("/no/such/root") == UINT64_MAX);
    assert_true(sd_memory_left() > 0 && sd_memory_peak() > 100000);
}

/* The C library's mathematics, which every program here has loaded already */
TEST(functions_of_a_library_are_found_by_name)
{
    static const char *const names[] = {"libm.so.6", "libm.so", "libm.dylib", "libSystem.dylib"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++) library = sd_os_library(names[i]);
    if (!library) skip();
    double (*square_root)(double) = (double (*)(double))sd_os_library_function(library, "sqrt");
    assert_non_null(square_root);
    assert_true(square_root(6.25) == 2.5);
    assert_null(sd_os_library_function(library, "no_such_function"));
    assert_null(sd_os_library("libnosuchlibrary.so.0"));
}

TEST(names_are_told_apart)
{
    uint64_t bytes = 9;
    temp_write("file", "12345", 5);
    assert_int_equal(mkfifo(temp_path("pipe"), 0600), 0);
    assert_int_equal(sd_os_look(temp_path("file"), &bytes), SD_OS_FILE);
    assert_true(bytes == 5);
    assert_int_equal(sd_os_look(temp_path("none"), &bytes), SD_OS_NOTHING);
    assert_true(bytes == 0);
    assert_int_equal(sd_os_look(temp_path("file/none"), NULL), SD_OS_NOTHING);
    assert_int_equal(sd_os_look(temp_path(""), NULL), SD_OS_DIRECTORY);
    assert_int_equal(sd_os_look(temp_path("pipe"), NULL), SD_OS_STREAM);
    assert_int_equal(sd_os_look("/dev/null", NULL), SD_OS_STREAM);
    static const struct { const char *name; int fd; } descriptors[] = {
        {"/dev/stdout", 1}, {"/dev/stderr", 2}, {"/dev/fd/17", 17}, {"/proc/self/fd/3", 3}, {"/dev/fd/", -1},
        {"/dev/fd/1x", -1}, {"/dev/stdout2", -1}, {"dev/stdout", -1}};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
        assert_int_equal(sd_os_descriptor(descriptors[i].name), descriptors[i].fd);
    temp_clear();
}

TEST(a_mapped_file_tells_that_it_was_made_shorter)
{
    sd_os_map m = {0};
    uint64_t bytes = 0;
    temp_write("file", "12345", 5);
    assert_true(sd_os_map_open(&m, temp_path("file")));
    assert_true(m.mapped && m.size == 5 && memcmp(m.data, "12345", 5) == 0);
    sd_os_map_advise(&m, 1, 5, false);   /* it leaves memory, and is there again */
    sd_os_map_scattered(&m, true);
    assert_memory_equal(m.data, "12345", 5);
    sd_os_map_scattered(&m, false);
    assert_int_equal(truncate(temp_path("file"), 2), 0);
    assert_true(sd_os_map_length(&m, &bytes) && bytes == 2);
    sd_os_map_close(&m);
    temp_write("file", "", 0);
    assert_false(sd_os_map_open(&m, temp_path("file")));   /* empty */
    assert_false(sd_os_map_open(&m, temp_path("")));
    assert_false(sd_os_map_open(&m, temp_path("none")));
    temp_clear();
}

TEST(blocks_of_any_size_are_aligned)
{
    static const size_t sizes[] = {1, 63, 65, 4096, (4 << 20) - 1, 4 << 20, (9 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = sd_block_alloc(sizes[i]);
        assert_non_null(p);
        assert_true((uintptr_t)p % SD_ALIGN == 0);
        p[0] = p[sizes[i] - 1] = 1;
        sd_block_free(p);
    }
    sd_block_free(NULL);
    assert_null(sd_block_alloc(SIZE_MAX));
    assert_null(sd_block_alloc(SIZE_MAX - 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotas_of_control_groups_count_in_both_versions),
        cmocka_unit_test(limits_of_memory_count_in_both_versions),
        cmocka_unit_test(functions_of_a_library_are_found_by_name),
        cmocka_unit_test(names_are_told_apart),
        cmocka_unit_test(a_mapped_file_tells_that_it_was_made_shorter),
        cmocka_unit_test(blocks_of_any_size_are_aligned),
    };
    return cmocka_run_group_tests_name("os", tests, child_setup, child_teardown);
}
