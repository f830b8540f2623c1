/* test_opencl.c - the OpenCL backend's memory: numbers go there, move, and come back. */
#include "opencl.h"

#include <stdlib.h>

TEST(numbers_go_to_the_device_and_come_back)
{
    cl_bench b;
    cl_start(&b, 1 << 20);
    float *x = cl_numbers(1, 4096, 1, 0);
    sd_new2(&b.run, 3, 5);
    sd_tensor t = sd_new_from(&b.run, 2, (const int64_t[]){64, 64}, x);
    float *y = cl_read(&b.run, t);
    assert_memory_equal(x, y, 4096 * sizeof *x);
    free(x);
    free(y);
    cl_stop(&b);
}

TEST(what_is_kept_moves_down_whole)
{
    const int64_t gaps[] = {5000, 1000, 100, 7};
    for (size_t g = 0; g < SD_COUNT(gaps); g++) {
        cl_bench b;
        cl_start(&b, 1 << 20);
        float *x = cl_numbers(2, 3001, 1, 0);
        size_t mark = sd_mark(&b.run);
        sd_new2(&b.run, 1, gaps[g]);
        sd_tensor t = sd_move_down(&b.run, mark, sd_new_from(&b.run, 2, (const int64_t[]){1, 3001}, x));
        float *y = cl_read(&b.run, t);
        assert_memory_equal(x, y, 3001 * sizeof *x);
        free(x);
        free(y);
        cl_stop(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_go_to_the_device_and_come_back),
        cmocka_unit_test(what_is_kept_moves_down_whole),
    };
    return cmocka_run_group_tests_name("opencl", tests, NULL, NULL);
}
