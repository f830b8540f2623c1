/* test_opencl_faults.c - every call of OpenCL may fail: the whole life of a device, from its opening to its closing,
 * with each call failing once, and with a device that is lost at each. What is then said, what is left behind. */
#define _POSIX_C_SOURCE 200809L
#include "opencl.h"
#include "child.h"
#include "cl_wrapper.h"
#include "tempdir.h"

#include <stdlib.h>

/* ---------------------------------------------------------------------------------------- a life */

enum { SIDE = 8, C = 32, HEADS = 2, TOKENS = SIDE * SIDE, RESULT = TOKENS * C };

/* The same in each life. */
static const float *numbers(int which, size_t n)
{
    static float *kept[16];
    if (!kept[which]) kept[which] = cl_numbers((uint32_t)which, n, 0.2, 0);
    return kept[which];
}

static sd_tensor weight(uint32_t id, int nd, int64_t a, int64_t b, int64_t side)
{
    const int64_t dim[4] = {a, b, side, side};
    size_t n = (size_t)(a * (nd > 1 ? b : 1) * (nd > 2 ? side * side : 1));
    sd_tensor t = cl_weight(numbers((int)id, n), nd, dim);
    t.id = id;
    return t;
}

/* A network with one operation of each kind. */
static void network(sd_run *r, float *result)
{
    sd_tensor kernel = weight(1, 4, C, C, 3), norm = weight(2, 1, C, 0, 0), bias = weight(3, 1, C, 0, 0);
    sd_tensor query = weight(4, 2, C, C, 0), wide = weight(5, 2, 2 * C, C, 0), time = weight(6, 2, C, 16, 0);
    const float when = 7;
    sd_new2(r, 1, 100);
    size_t mark = sd_mark(r);
    sd_new2(r, 1, 3);
    sd_tensor y = sd_move_down(r, mark, sd_new_from_nchw(r, 1, C, SIDE, SIDE, numbers(9, RESULT)));
    sd_tensor h = sd_group_norm(r, y, &norm, &bias, 4, 1e-5, true);
    h = sd_conv2d(r, h, &kernel, &bias, (sd_conv){1, 1, 1, 1, 1, false, {0, 0, 0}});
    sd_add_channels_(r, h, sd_linear(r, sd_sinusoid(r, 1, 16, &when, true, 0), &time, &bias));
    sd_add_(r, h, y);
    sd_tensor t = sd_layer_norm(r, sd_view3(r, h, 1, TOKENS, C), &norm, &bias, 1e-5);
    t = sd_attention(r, sd_linear(r, t, &query, NULL), t, t, HEADS, false);
    t = sd_geglu(r, sd_linear(r, t, &wide, NULL));
    sd_download(r, sd_view2(r, sd_silu(r, t), 1, RESULT), result);
}

static bool as_gpu;

/* An open device computes, and is closed. */
static sd_status life(sd_error *e, const char *cache, float *result)
{
    static const sd_log silent;
    memset(e, 0, sizeof *e);
    const char *which = getenv("SD_DEVICE");
    sd_cl *cl = sd_cl_open(which && *which ? which : "opencl", cache, &sd_kern_spec, &silent, e);
    if (!cl) return e->status;
    sd_run r = {.err = e, .be = &sd_backend_opencl, .device = cl};
    if (as_gpu) cl->cpu = false;
    if (!sd_reserve(&r, 1 << 20, "a test")) network(&r, result);
    sd_run_free(&r);
    sd_cl_close(cl);
    return e->status;
}

static float expected[RESULT];

static bool absent;

static void needs_device(void)
{
    if (absent) skip();
}

/* What the device says in a life without failures, with the kernels of a CPU or of a GPU: it is lived again until the
 * next record. */
static int record(bool gpu)
{
    static int recorded = -1;
    sd_error e;
    if (recorded == gpu || absent) return 0;
    recorded = as_gpu = gpu;
    cl_watch.record = true;
    cl_watch.replay = false;
    cl_watch_reset();
    absent = life(&e, "", expected) != SD_OK;
    if (absent) print_message("    no OpenCL device: %s\n", e.text);
    cl_watch.record = false;
    cl_watch.replay = true;
    return 0;
}
static int on_a_cpu(void **state) { return (void)state, record(false); }
static int on_a_gpu(void **state) { return (void)state, record(true); }

static int begin(void **state)
{
    setenv("POCL_CACHE_DIR", "build/pocl", 0);
    return child_setup(state);
}

static int forget(void **state) { return child_teardown(state); }

/* ------------------------------------------------------------------------------------ each call */

/* What a driver answers when something is given back, how large a buffer is, how a platform is called, which kernel is
 * the fastest, whether there is a binary to keep: and whatever it says when everything has been computed.
 * A buffer that cannot be had is asked for again when other things have been given back. */
static bool may_be_survived(const char *call)
{
    static const char *const calls[] = {"clReleaseContext", "clReleaseCommandQueue", "clReleaseMemObject",
        "clReleaseProgram", "clReleaseKernel", "clReleaseEvent", "clGetMemObjectInfo", "clGetProgramInfo",
        "clGetKernelWorkGroupInfo of memory", "clGetDeviceInfo of vectors", "clGetPlatformInfo",
        "clCreateProgramWithBinary", "clCreateBuffer"};
    for (size_t i = 0; i < SD_COUNT(calls); i++)
        if (strcmp(calls[i], call) == 0) return true;
    return cl_watch.late;
}

/* One life in which call number n fails, and all after it if the device is lost. */
static void live_with_failure(long n, cl_int code, bool lost, const char *cache)
{
    static float result[RESULT];
    sd_error e;
    memset(result, 0, sizeof result);
    cl_watch_reset();
    cl_watch.fail_at = n;
    cl_watch.code = code;
    cl_watch.rest = lost;
    life(&e, cache, result);
    const char *call = cl_watch.failed;
    if (*cl_watch.misuse) fail_msg("call %ld, %s: %s", n, call, cl_watch.misuse);
    if (cl_watch_live()) fail_msg("call %ld, %s: %ld objects are left", n, call, cl_watch_live());
    if (e.status) {
        if (e.status != SD_ERR_DEVICE && e.status != SD_ERR_MEMORY)
            fail_msg("call %ld, %s: status %d: %s", n, call, (int)e.status, e.text);
        if (!strchr(e.text, ' ') || strlen(e.text) < 20) fail_msg("call %ld, %s: no sentence: %s", n, call, e.text);
        return;
    }
    bool survivable = may_be_survived(call) || (*cache && strcmp(call, "clBuildProgram") == 0);
    if (*call && !survivable) fail_msg("call %ld, %s: its failure was not noticed", n, call);
    if (memcmp(result, expected, sizeof result) != 0) fail_msg("call %ld, %s: other numbers", n, call);
}

static void live_with_each(cl_int code, bool lost, const char *cache)
{
    long n = 0;
    needs_device();
    do live_with_failure(++n, code, lost, cache);
    while (*cl_watch.failed);
    assert_true(n > 200);
    print_message("    %ld lives\n", n);
}

TEST(every_call_that_fails_is_survived) { live_with_each(CL_OUT_OF_RESOURCES, false, ""); }
TEST(every_call_without_memory_is_survived) { live_with_each(CL_MEM_OBJECT_ALLOCATION_FAILURE, false, ""); }
TEST(a_device_that_is_lost_is_survived) { live_with_each(CL_OUT_OF_RESOURCES, true, ""); }

/* Built programs are written first, later read. If one cannot be loaded it is built. */
TEST(every_call_that_fails_beside_a_cache_is_survived)
{
    live_with_each(CL_OUT_OF_RESOURCES, false, in_work("cache"));
    live_with_each(CL_OUT_OF_HOST_MEMORY, true, in_work("cache"));
}

/* The same for the host's memory. */
static void starve_each(const char *cache)
{
    static float result[RESULT];
    sd_error e;
    long n = 0;
    needs_device();
    do {
        cl_watch_reset();
        cl_watch.armed = true;
        cl_watch.starve_at = ++n;
        life(&e, cache, result);
        cl_watch.armed = false;
        if (*cl_watch.misuse) fail_msg("request %ld: %s", n, cl_watch.misuse);
        if (cl_watch_live()) fail_msg("request %ld: %ld objects are left", n, cl_watch_live());
        if (cl_watch.blocks) fail_msg("request %ld: %ld blocks of memory are left", n, cl_watch.blocks);
        bool noticed = e.status == SD_ERR_MEMORY && strstr(e.text, "memory");
        if (e.status ? !noticed : cl_watch.starved && !*cache)
            fail_msg("request %ld: status %d, %s", n, (int)e.status, e.text);
        if (!e.status) assert_memory_equal(result, expected, sizeof result);
    } while (cl_watch.starved);
    assert_true(n > 20);
    print_message("    %ld lives\n", n);
}

TEST(every_request_for_memory_that_fails_is_survived) { starve_each(""); }
TEST(every_request_for_memory_that_fails_beside_a_cache_is_survived) { starve_each(in_work("cache")); }

/* The driver itself, not its record: what it does with commands that are left when a call fails. */
TEST(a_real_device_survives_some_of_them)
{
    needs_device();
    cl_watch.replay = false;
    cl_watch_reset();
    for (long n = 1; n == 1 || *cl_watch.failed; n += 17) live_with_failure(n, CL_OUT_OF_RESOURCES, n % 2, "");
    cl_watch.replay = true;
}

/* ... and what becomes of the self-test. There are thousands of calls: some of them fail. */
static void check_with_failure(long call, long request)
{
    static const sd_log silent;
    sd_error e = {.status = SD_OK};
    sd_cl_checked done;
    cl_watch_reset();
    cl_watch.fail_at = call;
    cl_watch.code = CL_OUT_OF_RESOURCES;
    cl_watch.armed = request > 0;
    cl_watch.starve_at = request;
    sd_cl *cl = sd_cl_open("opencl", "", &sd_kern_spec, &silent, &e);
    if (cl) sd_cl_check(cl, &sd_backend_opencl, false, &done, &e);
    sd_cl_close(cl);
    cl_watch.armed = false;
    if (*cl_watch.misuse) fail_msg("call %ld, request %ld: %s", call, request, cl_watch.misuse);
    if (cl_watch_live()) fail_msg("call %ld, request %ld: %ld objects are left", call, request, cl_watch_live());
    if (cl_watch.blocks) fail_msg("call %ld, request %ld: %ld blocks are left", call, request, cl_watch.blocks);
    if (!e.status && *cl_watch.failed && !may_be_survived(cl_watch.failed))
        fail_msg("call %ld, %s: its failure was not noticed", call, cl_watch.failed);
    if (cl_watch.starved && e.status != SD_ERR_MEMORY) fail_msg("request %ld: \"%s\"", request, e.text);
    if (e.status && strstr(e.text, "computes wrongly")) fail_msg("call %ld, request %ld: %s", call, request, e.text);
}

TEST(a_self_test_survives_calls_and_requests_that_fail)
{
    long lives = 0;
    needs_device();
    cl_watch.replay = false;
    for (long n = 1; n == 1 || *cl_watch.failed; n += 131, lives++) check_with_failure(n, 0);
    for (long n = 1; n == 1 || cl_watch.starved; n += 23, lives++) check_with_failure(0, n);
    cl_watch.replay = true;
    print_message("    %ld lives\n", lives);
    assert_true(lives > 12);
}

/* ---------------------------------------------------------------------------- what these tests see */

TEST(what_is_forgotten_or_given_back_twice_is_noticed)
{
    cl_int code;
    cl_watch_reset();
    cl_context c = clCreateContext(NULL, 1, NULL, NULL, NULL, &code);
    cl_mem b = clCreateBuffer(c, CL_MEM_READ_WRITE, 64, NULL, &code);
    cl_command_queue q = clCreateCommandQueue(c, NULL, 0, &code);
    float numbers[16] = {0};
    assert_int_equal(cl_watch_live(), 3);
    assert_int_equal(clEnqueueWriteBuffer(q, b, CL_TRUE, 0, 64, numbers, 0, NULL, NULL), CL_SUCCESS);
    assert_int_equal(*cl_watch.misuse, 0);
    assert_int_equal(clEnqueueWriteBuffer(q, b, CL_TRUE, 4, 64, numbers, 0, NULL, NULL), CL_INVALID_VALUE);
    assert_string_equal(cl_watch.misuse, "clEnqueueWriteBuffer: bytes 4 + 64 of a buffer of 64");
    clReleaseCommandQueue(q);
    clReleaseMemObject(b);
    clReleaseContext(c);
    assert_int_equal(cl_watch_live(), 0);
    cl_watch_reset();
    assert_int_equal(clReleaseContext(c), CL_INVALID_VALUE);
    assert_non_null(strstr(cl_watch.misuse, "clReleaseContext: there is no such object"));
}

/* --------------------------------------------------------------------------------- the program sd */

/* Draws on the device, which fails like this; the program's words and exit code are in `ran`. */
static void draw(const char *fault)
{
    static char program[4096], variable[2][4200];
    char *slash;
    assert_true(sd_os_program_path(program, sizeof program));
    slash = strrchr(program, '/');
    assert_non_null(slash);
    strcpy(slash, "/sd_faults");
    snprintf(variable[0], sizeof variable[0], "SD_CL_FAULT=%s", fault);
    snprintf(variable[1], sizeof variable[1], "SD_CL_REPORT=%s", in_work("report"));
    run_with.program = program;
    run_with.env[0] = "SD_DEVICE=opencl";
    run_with.env[1] = variable[0];
    run_with.env[2] = variable[1];
    run_with.env[3] = "XDG_CACHE_HOME=", run_with.env[4] = "HOME=";   /* nothing is kept: everything is compiled */
    RUN("-p", "a red apple", "-o", temp_path("a.ppm"), "--steps", "1", "--quiet");
}

TEST(the_program_ends_with_1_and_a_sentence_when_a_device_fails)
{
    static const struct { const char *fault, *call, *words; } cases[] = {
        {"clGetPlatformIDs 1 -1001", "clGetPlatformIDs", "no OpenCL"},
        {"clGetDeviceIDs 1 -1", "clGetDeviceIDs", "no OpenCL device"},
        {"clCreateContext 1 -6", "clCreateContext", "CL_OUT_OF_HOST_MEMORY"},
        {"clBuildProgram 1 -11", "clBuildProgram", "cannot build opencl/"},
        {"clCreateBuffer 2 -4 rest", "clCreateBuffer", "has no memory for"},
        {"clEnqueueNDRangeKernel 2 -5 rest", "clEnqueueNDRangeKernel", "CL_OUT_OF_RESOURCES"},
        {"clEnqueueReadBuffer 1 -14", "clEnqueueReadBuffer", "clEnqueueReadBuffer failed"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        char expected_report[100];
        needs_device();
        remove(in_work("report"));
        draw(cases[i].fault);
        expect_error(cases[i].fault, 1, cases[i].words);
        snprintf(expected_report, sizeof expected_report, "live 0 failed %s\n", cases[i].call);
        char *report = slurp(in_work("report"), NULL);
        assert_string_equal(report, expected_report);
        free(report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_call_that_fails_is_survived, on_a_cpu),
        cmocka_unit_test_setup(every_call_without_memory_is_survived, on_a_cpu),
        cmocka_unit_test_setup(every_call_that_fails_beside_a_cache_is_survived, on_a_cpu),
        cmocka_unit_test_setup(a_device_that_is_lost_is_survived, on_a_cpu),
        cmocka_unit_test_setup(every_request_for_memory_that_fails_is_survived, on_a_cpu),
        cmocka_unit_test_setup(every_request_for_memory_that_fails_beside_a_cache_is_survived, on_a_cpu),
        cmocka_unit_test_setup(a_real_device_survives_some_of_them, on_a_cpu),
        cmocka_unit_test_setup(every_call_that_fails_is_survived, on_a_gpu),
        cmocka_unit_test_setup(a_device_that_is_lost_is_survived, on_a_gpu),
        cmocka_unit_test_setup(every_request_for_memory_that_fails_is_survived, on_a_gpu),
        cmocka_unit_test(a_self_test_survives_calls_and_requests_that_fail),
        cmocka_unit_test_setup(what_is_forgotten_or_given_back_twice_is_noticed, on_a_cpu),
        cmocka_unit_test(the_program_ends_with_1_and_a_sentence_when_a_device_fails),
    };
    return cmocka_run_group_tests_name("opencl_faults", tests, begin, forget);
}
