/* test_opencl_recovery.c - a whole model on a device: after a call that failed, or that was cancelled, the next one
 * draws the same picture as if nothing had happened. */
#define _POSIX_C_SOURCE 200809L
#include "opencl.h"
#include "cl_wrapper.h"
#include "context.h"
#include "tempdir.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { SIDE = 64, BYTES = SIDE * SIDE * 3 };

static unsigned char whole[BYTES];

static sd_ctx *open_on_device(void)
{
    sd_ctx *c = NULL;
    sd_options o;
    sd_options_init(&o);
    o.model = "weights/tiny";
    o.cache = "";
    setenv("POCL_CACHE_DIR", "build/pocl", 0);
    setenv("SD_DEVICE", "opencl", 0);
    cl_watch_reset();
    if (sd_open(&c, &o) == SD_OK) return c;
    print_message("    no OpenCL device: %s\n", sd_error_text(c));
    sd_close(c);
    skip();
    return NULL;
}

static sd_status draw(sd_ctx *c, unsigned char *bytes)
{
    sd_image image;
    sd_params p = short_run("a red apple", SIDE);
    sd_status status = sd_generate(c, &p, &image);
    if (status) return status;
    assert_int_equal(image.width * image.height * 3, BYTES);
    memcpy(bytes, image.data, BYTES);
    sd_image_free(&image);
    return SD_OK;
}

/* From now on. */
static void fail_at(const char *call, long number, cl_int code, bool rest)
{
    cl_watch.of = call;
    cl_watch.counted = 0;
    cl_watch.fail_at = number;
    cl_watch.code = code;
    cl_watch.rest = rest;
    *cl_watch.failed = 0;
}

static void close_device(sd_ctx *c)
{
    sd_close(c);
    assert_string_equal(cl_watch.misuse, "");
    assert_int_equal(cl_watch_live(), 0);
}

static void expect_the_same_picture(sd_ctx *c)
{
    static unsigned char again[BYTES];
    fail_at(NULL, 0, CL_SUCCESS, false);
    if (draw(c, again)) fail_msg("the next call failed: %s", sd_error_text(c));
    assert_memory_equal(again, whole, BYTES);
}

TEST(two_pictures_in_a_row_are_the_same)
{
    sd_ctx *c = open_on_device();
    assert_int_equal(draw(c, whole), SD_OK);
    expect_the_same_picture(c);
    close_device(c);
}

/* Weights on their way, a buffer that is not there, the middle of a network. */
TEST(after_a_call_that_failed_the_next_one_draws)
{
    static const struct { const char *call; long number; cl_int code; } cases[] = {
        {"clCreateBuffer", 40, CL_MEM_OBJECT_ALLOCATION_FAILURE}, {"clEnqueueWriteBuffer", 50, CL_OUT_OF_RESOURCES},
        {"clEnqueueCopyBuffer", 5, CL_OUT_OF_RESOURCES}, {"clEnqueueBarrierWithWaitList", 60, CL_OUT_OF_HOST_MEMORY},
        {"clEnqueueNDRangeKernel", 100, CL_OUT_OF_RESOURCES}, {"clEnqueueNDRangeKernel", 900, CL_OUT_OF_RESOURCES},
        {"clBuildProgram", 1, CL_BUILD_PROGRAM_FAILURE}, {"clEnqueueReadBuffer", 2, CL_OUT_OF_RESOURCES}};
    static unsigned char never[BYTES];
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_ctx *c = open_on_device();
        fail_at(cases[i].call, cases[i].number, cases[i].code, false);
        sd_status status = draw(c, never);
        print_message("    %s\n", sd_error_text(c));
        bool survived = status == SD_OK && strcmp(cases[i].call, "clCreateBuffer") == 0;   /* it is asked for again */
        if (status != SD_ERR_DEVICE && status != SD_ERR_MEMORY && !survived)
            fail_msg("%s, number %ld: status %d", cases[i].call, cases[i].number, (int)status);
        assert_string_equal(cl_watch.failed, cases[i].call);
        expect_the_same_picture(c);
        close_device(c);
    }
}

/* A lost device stays lost: each call says so, and closing is possible. */
TEST(a_lost_device_is_said_each_time)
{
    static unsigned char never[BYTES];
    sd_ctx *c = open_on_device();
    fail_at("clEnqueueNDRangeKernel", 300, CL_OUT_OF_RESOURCES, true);
    assert_int_equal(draw(c, never), SD_ERR_DEVICE);
    assert_int_equal(draw(c, never), SD_ERR_DEVICE);
    assert_non_null(strstr(sd_error_text(c), "CL_OUT_OF_RESOURCES"));
    close_device(c);
}

static void *cancel_soon(void *user)
{
    nanosleep(&(struct timespec){0, 60000000}, NULL);
    sd_cancel(user);
    return NULL;
}

TEST(after_a_cancelled_call_the_next_one_draws)
{
    static unsigned char never[BYTES];
    pthread_t thread;
    sd_ctx *c = open_on_device();
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, c), 0);
    assert_int_equal(draw(c, never), SD_ERR_CANCELLED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    expect_the_same_picture(c);
    close_device(c);
}

/* Programs that were built when a device is opened, of which a number is wrong; -1: it is refused. */
static long built_with_wrong_number(const char *cache, bool spoil)
{
    static const sd_log silent;
    sd_error e = {.status = SD_OK};
    sd_cpu cpu = {.kern = &sd_kern_spec, .threads = 1};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    cl_watch_reset();
    cl_watch.of = "clCreateProgramWithSource";
    if (spoil) cl_watch.spoil_at = 12;
    sd_device_open(&r, &cpu, getenv("SD_DEVICE"), cache, &silent);
    assert_true(cl_watch.reads >= 12);
    long built = cl_watch.counted;
    if (!e.status) sd_device_close(&r);
    else assert_non_null(strstr(e.text, "computes wrongly and is refused"));
    assert_int_equal(cl_watch_live(), 0);
    return e.status ? -1 : built;
}

/* The compiler's fault or the cache's: what is built anew says which. */
TEST(a_device_that_computes_wrongly_with_a_cache_is_asked_again_without)
{
    sd_close(open_on_device());   /* is there one? */
    long all = built_with_wrong_number(temp_path("cache"), false);
    assert_true(all > 3);
    assert_int_equal(built_with_wrong_number(temp_path("cache"), false), 0);
    assert_true(built_with_wrong_number(temp_path("cache"), true) >= all);
    assert_int_equal(built_with_wrong_number(temp_path("cache"), false), 0);
    assert_int_equal(built_with_wrong_number("", true), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_pictures_in_a_row_are_the_same),
        cmocka_unit_test(after_a_call_that_failed_the_next_one_draws),
        cmocka_unit_test(a_lost_device_is_said_each_time),
        cmocka_unit_test(after_a_cancelled_call_the_next_one_draws),
        cmocka_unit_test(a_device_that_computes_wrongly_with_a_cache_is_asked_again_without),
    };
    return cmocka_run_group_tests_name("opencl_recovery", tests, temp_make, temp_remove);
}
