/* test_devices.c - what can compute: which device a name means, what is said of those that cannot be used, and what the
 * program says of them. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "../device.h"
#include "child.h"
#include "tempdir.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef SD_WITH_OPENCL
#include "opencl.h"
#endif

#define DRAW "-p", "a red apple", "--steps", "1", "-s", "1"

static const char *out(const char *name) { return temp_path(name); }

/* What is compiled stays in build/, also for the program, which runs elsewhere. */
static int set_up(void **state)
{
    char here[256], path[300];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(path, sizeof path, "%s/build/pocl", here);
    setenv("POCL_CACHE_DIR", path, 0);
    snprintf(path, sizeof path, "%s/build/cache", here);
    setenv("XDG_CACHE_HOME", path, 0);
    return child_setup(state);
}

/* ---------------------------------------------------------------------------------------- names */

typedef struct seen { int n, chosen; char first[32], refused[256]; size_t units; } seen;
static void see(void *user, const sd_device_info *d)
{
    seen *s = user;
    if (!s->n++) {
        snprintf(s->first, sizeof s->first, "%s", d->which);
        snprintf(s->refused, sizeof s->refused, "%s", d->refused);
        s->units = d->units;
    }
    s->chosen += d->chosen;
    assert_non_null(d->name);
    assert_true(*d->name);
}

TEST(the_cpu_is_listed_first_and_can_be_used)
{
    seen s = {0};
    char error[512];
    sd_devices(NULL, 0, see, &s, error);
    assert_true(s.n >= 1);
    assert_string_equal(s.first, "cpu");
    assert_string_equal(s.refused, "");
    assert_true(s.units >= 1);
}

TEST(a_list_without_a_function_is_an_error)
{
    char error[512];
    assert_int_equal(sd_devices(NULL, 0, NULL, NULL, error), SD_ERR_ARG);
    assert_true(*error);
}

TEST(names_that_mean_nothing_are_an_error_that_suggests)
{
    const struct { const char *name, *word; } cases[] = {
        {"openlc", "did you mean opencl?"}, {"gpu", "did you mean opencl?"}, {"opencl:", "opencl:NUMBER"},
        {"CPU", "cpu"}, {"opencl0", "did you mean opencl?"}, {"cuda:0", "did you mean opencl?"},
        {"xyzzy", "opencl:NAME, not \"xyzzy\""}, {"cp", "did you mean cpu?"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        seen s = {0};
        char error[512];
        assert_int_equal(sd_devices(cases[i].name, 0, see, &s, error), SD_ERR_ARG);
        assert_int_equal(s.n, 0);
        if (!strstr(error, cases[i].word)) fail_msg("\"%s\" does not say %s", error, cases[i].word);
        RUN(DRAW, "-o", out("a.ppm"), "--device", cases[i].name);
        expect_error(cases[i].name, 2, cases[i].word);
    }
}

TEST(precise_sums_and_a_device_exclude_each_other)
{
    RUN(DRAW, "-o", out("a.ppm"), "--device", "opencl", "--precise");
    expect_error("precise", 2, "choose one of them");
    RUN(DRAW, "-o", in_work("a.ppm"), "--device", "cpu", "--precise");
    expect_success("precise on the CPU");
}

/* Which may still fail, for there may be no device. */
TEST(a_picture_of_precise_sums_can_be_drawn_again_by_a_device)
{
    RUN(DRAW, "-o", in_work("p.png"), "--precise");
    expect_success("precise");
    RUN("--from", in_work("p.png"), "-q", "-o", in_work("q.png"), "--device", "opencl:9999");
    assert_int_not_equal(ran.code, 0);
    assert_null(strstr(ran.err, "choose one of them"));
    RUN("--from", in_work("p.png"), "-q", "-o", in_work("q.png"), "--device", "opencl:9999", "--precise");
    expect_error("precise by the command line", 2, "choose one of them");
    RUN("--from", in_work("p.png"), "-q", "-o", in_work("q.png"), "--device", "cpu");
    expect_success("the CPU");
    RUN("show", in_work("q.png"));
    assert_non_null(strstr(ran.out, "Kernels: precise,"));
}

TEST(timings_say_that_the_cpu_computed)
{
    RUN(DRAW, "-o", in_work("a.ppm"), "--device", "cpu", "--timings", "json");
    expect_success("timings");
    assert_non_null(strstr(ran.out, ",\"device\":\"cpu\"}\n"));
}

/* Whatever would have to be opened fails here: the environment names a device that is not there. */
TEST(what_computes_nothing_needs_no_device)
{
    run_with.env[0] = "SD_DEVICE=opencl:9999";
    RUN("tokenize", "a red apple");
    expect_success("tokenize");
    run_with.env[0] = "SD_DEVICE=opencl:9999";
    RUN("schedule", "--steps", "3");
    expect_success("schedule");
    run_with.env[0] = "SD_DEVICE=opencl:9999";
    RUN("trace", "--list", "--filter", "latents.*");
    expect_success("trace");
    run_with.env[0] = "SD_DEVICE=opencl:9999";
    RUN("convert", "weights/tiny", in_work("a.safetensors"), "--only", "vae");
    expect_success("convert");
    run_with.env[0] = "SD_DEVICE=opencl:9999";
    RUN(DRAW, "-o", out("a.ppm"));
    assert_int_not_equal(ran.code, 0);
    run_with.env[0] = "SD_DEVICE=openlc";
    RUN(DRAW, "-o", out("a.ppm"));
    expect_error("a wrong $SD_DEVICE", 2, "$SD_DEVICE: a device is cpu");
    run_with.env[0] = "SD_DEVICE=opencl:9999";
    RUN(DRAW, "-o", in_work("a.ppm"), "--device", "cpu");
    expect_success("--device goes before $SD_DEVICE");
}

/* ----------------------------------------------------------------------------- without OpenCL */

#ifndef SD_WITH_OPENCL
TEST(a_build_without_opencl_says_so)
{
    RUN("devices");
    expect_success("devices");
    assert_non_null(strstr(ran.out, "cpu: "));
    assert_non_null(strstr(ran.out, "this build has no OpenCL"));
    RUN("devices", "--json");
    expect_success("devices --json");
    assert_non_null(strstr(ran.out, "],\"error\":\"this build has no OpenCL\"}\n"));
    RUN(DRAW, "-o", out("a.ppm"), "--device", "opencl");
    expect_error("draw", 2, "this build has no OpenCL");
    RUN("devices", "--device", "opencl:1");
    expect_error("devices", 2, "this build has no OpenCL");
}
#else

/* ------------------------------------------------------------------------------------ choosing */

/* A device that is none: choosing looks at these fields alone. */
static sd_cl made(int number, const char *name, const char *platform, cl_device_type type, uint64_t memory)
{
    sd_cl cl = {.number = number, .type = type, .cpu = type & CL_DEVICE_TYPE_CPU, .memory = memory};
    snprintf(cl.name, sizeof cl.name, "%s", name);
    snprintf(cl.platform_name, sizeof cl.platform_name, "%s", platform);
    snprintf(cl.label, sizeof cl.label, "opencl:%d %s", number, name);
    return cl;
}

enum { HOST, SMALL_CARD, BROKEN_CARD, LARGE_CARD, BOARD, DEVICES };
static void some_devices(sd_cl d[DEVICES])
{
    d[HOST] = made(HOST, "pthread-Some Processor", "Portable Computing Language", CL_DEVICE_TYPE_CPU, 64);
    d[SMALL_CARD] = made(SMALL_CARD, "Radiance 500", "Fast Graphics", CL_DEVICE_TYPE_GPU, 8);
    d[BROKEN_CARD] = made(BROKEN_CARD, "Radiance 900", "Fast Graphics", CL_DEVICE_TYPE_GPU, 80);
    d[LARGE_CARD] = made(LARGE_CARD, "Geometer 9", "Other Graphics", CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_DEFAULT, 24);
    d[BOARD] = made(BOARD, "Board 1", "Boards", CL_DEVICE_TYPE_ACCELERATOR, 32);
    snprintf(d[BROKEN_CARD].refused, sizeof d[0].refused, "its driver has no compiler for kernels");
}

TEST(a_name_means_the_best_device_that_can_be_used)
{
    const struct { const char *which; int is; const char *why; } cases[] = {
        {"opencl", LARGE_CARD, "of 4 a GPU with the most memory"}, {"opencl:0", HOST, "its number"},
        {"opencl:4", BOARD, "its number"}, {"opencl:radiance", SMALL_CARD, "the only one with that name"},
        {"opencl:5", SMALL_CARD, "name"}, {"opencl:graphics", LARGE_CARD, "of 2 a GPU"},
        {"opencl:processor", HOST, "name"}, {"opencl:or", HOST, "the only one"}, {"opencl:board", BOARD, "name"}};
    sd_cl d[DEVICES];
    some_devices(d);
    const sd_cl_list l = {d, DEVICES};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error e = {.status = SD_OK};
        char why[SD_CL_WHY];
        size_t is = sd_cl_choose(&l, cases[i].which, why, &e);
        if (e.status || is != (size_t)cases[i].is) fail_msg("%s is %zu, \"%s\"", cases[i].which, is, e.text);
        if (!strstr(why, cases[i].why)) fail_msg("%s: \"%s\" is not \"%s\"", cases[i].which, why, cases[i].why);
    }
    d[SMALL_CARD].type = d[LARGE_CARD].type = CL_DEVICE_TYPE_CUSTOM;
    sd_error e = {.status = SD_OK};
    char why[SD_CL_WHY];
    assert_int_equal(sd_cl_choose(&l, "opencl", why, &e), BOARD);   /* an accelerator before a CPU */
    assert_non_null(strstr(why, "the only accelerator"));
}

TEST(a_device_that_is_not_there_or_cannot_be_used_is_an_error)
{
    const struct { const char *which, *word; sd_status status; } cases[] = {
        {"opencl:7", "opencl:4 (Board 1)", SD_ERR_ARG}, {"opencl:99999999999", "opencl:1 (Radiance 500)", SD_ERR_ARG},
        {"opencl:radiant", "did you mean opencl:1 Radiance 500?", SD_ERR_ARG},
        {"opencl:xyz", "there are opencl:0 (pthread-Some Processor)", SD_ERR_ARG},
        {"opencl:2", "opencl:2 Radiance 900 cannot be used: its driver has no compiler", SD_ERR_DEVICE},
        {"opencl:900", "opencl:2 Radiance 900 cannot be used", SD_ERR_DEVICE}};
    sd_cl d[DEVICES];
    some_devices(d);
    const sd_cl_list l = {d, DEVICES};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error e = {.status = SD_OK};
        char why[SD_CL_WHY];
        assert_int_equal(sd_cl_choose(&l, cases[i].which, why, &e), DEVICES);
        if (e.status != cases[i].status || !strstr(e.text, cases[i].word))
            fail_msg("%s: %s, \"%s\"", cases[i].which, sd_status_name(e.status), e.text);
    }
}

/* ----------------------------------------------------------------------------------- self-test */

/* One number of a result is off by a hundredth. */
static void nudge(sd_run *r, sd_tensor y)
{
    size_t n = (size_t)sd_numel(&y);
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    sd_cl_download(r, y, x, false);
    x[n - 1] *= 1.01f;
    sd_cl_upload(r, y, x, false);
    free(x);
}

#define NUDGED(entry, parameters, arguments) \
    static void wrong_##entry parameters { sd_backend_opencl.entry arguments; nudge(r, y); }
NUDGED(sinusoid, (sd_run *r, sd_tensor y, const float *v, bool flip, double shift), (r, y, v, flip, shift))
NUDGED(linear, (sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b), (r, y, x, w, b))
NUDGED(conv2d, (sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c),
       (r, y, x, w, b, c))
NUDGED(attention, (sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal),
       (r, y, q, k, v, heads, causal))
NUDGED(group_norm, (sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps,
                    bool silu), (r, y, x, g, b, groups, eps, silu))
NUDGED(norm_apply, (sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu), (r, y, x, scale, silu))
NUDGED(layer_norm, (sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps),
       (r, y, x, g, b, eps))
NUDGED(act, (sd_run *r, sd_tensor y, sd_tensor x, sd_act act), (r, y, x, act))
NUDGED(geglu, (sd_run *r, sd_tensor y, sd_tensor x), (r, y, x))
NUDGED(add, (sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b), (r, y, a, b))
NUDGED(add_channels, (sd_run *r, sd_tensor y, sd_tensor bias), (r, y, bias))
NUDGED(concat, (sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b), (r, y, a, b))
NUDGED(upsample, (sd_run *r, sd_tensor y, sd_tensor x), (r, y, x))
NUDGED(embed, (sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position),
       (r, y, ids, token, position))
NUDGED(copy, (sd_run *r, sd_tensor y, sd_tensor x), (r, y, x))

/* These do nothing. */
static void wrong_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    (void)r, (void)sums, (void)x, (void)pixel;
}
static void wrong_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b,
                             int groups, double eps, int64_t pixels)
{
    (void)r, (void)scale, (void)sums, (void)g, (void)b, (void)groups, (void)eps, (void)pixels;
}
static void wrong_download(sd_run *r, sd_tensor x, float *to, bool channels_first)
{
    (void)r, (void)x, (void)to, (void)channels_first;
}
/* ... and this forgets the order. */
static void wrong_upload(sd_run *r, sd_tensor y, const float *from, bool channels_first)
{
    (void)channels_first;
    sd_cl_upload(r, y, from, false);
}

TEST(a_device_is_refused_by_the_operation_that_it_gets_wrong)
{
    cl_bench b;
    cl_start(&b, 1 << 20);
    const sd_backend own = sd_backend_opencl;
    struct { const char *word; sd_backend twin; } cases[] = {
        {"sinusoid", own}, {"linear", own}, {"conv2d", own}, {"attention", own}, {"group_norm", own},
        {"group_norm in bands", own}, {"layer_norm", own}, {"act SiLU", own}, {"geglu", own}, {"add", own},
        {"add_channels", own}, {"concat", own}, {"upsample", own}, {"embed", own}, {"copy", own},
        {"group_norm in bands", own}, {"group_norm in bands", own}, {"upload", own}, {"upload", own}};
    int i = 0;
#define WRONG(entry) cases[i++].twin.entry = wrong_##entry
    WRONG(sinusoid), WRONG(linear), WRONG(conv2d), WRONG(attention), WRONG(group_norm), WRONG(norm_apply);
    WRONG(layer_norm), WRONG(act), WRONG(geglu), WRONG(add), WRONG(add_channels), WRONG(concat), WRONG(upsample);
    WRONG(embed), WRONG(copy), WRONG(norm_sums), WRONG(norm_scale), WRONG(download), WRONG(upload);
    assert_int_equal(i, SD_COUNT(cases));
    sd_error right = {.status = SD_OK};
    sd_cl_checked done;
    if (sd_cl_check(b.cl, &own, false, &done, &right)) fail_msg("%s", right.text);
    int all = done.cases;
    print_message("    %d cases in %.2f s, the largest error is %.2f of its bound\n", all, done.seconds, done.worst);
    assert_true(all >= 40);
    assert_true(done.worst < 0.7);
    for (i = 0; i < (int)SD_COUNT(cases); i++) {
        sd_error e = {.status = SD_OK};
        char begin[96];
        snprintf(begin, sizeof begin, " computes wrongly and is refused: %s", cases[i].word);
        assert_int_equal(sd_cl_check(b.cl, &cases[i].twin, false, &done, &e), SD_ERR_DEVICE);
        if (!strstr(e.text, begin)) fail_msg("%s: \"%s\"", cases[i].word, e.text);
        assert_true(done.cases < all);
    }
    cl_stop(&b);
}

/* With the kernels of a CPU and with those of a GPU, in tiles of every shape. */
TEST(both_kinds_of_kernels_pass_the_thorough_check)
{
    for (int cpu = 0; cpu < 2; cpu++) {
        cl_bench b;
        sd_error e = {.status = SD_OK};
        sd_cl_checked done;
        cl_start(&b, 1 << 20);
        b.cl->cpu = cpu;
        const char *whose = cpu ? "a CPU's" : "a GPU's";
        if (sd_cl_check(b.cl, &sd_backend_opencl, true, &done, &e)) fail_msg("%s kernels: %s", whose, e.text);
        print_message("    %s kernels: %d cases, the largest error is %.2f of its bound\n", whose, done.cases,
                      done.worst);
        assert_true(done.cases > 50);
        assert_true(done.worst < 0.7);
        cl_stop(&b);
    }
}

/* ------------------------------------------------------------------------------------- program */

/* The loader of drivers finds none in an empty directory. */
TEST(without_a_driver_the_list_says_so_and_drawing_fails)
{
    char none[512];
    snprintf(none, sizeof none, "OCL_ICD_VENDORS=%s/", in_work("."));
    run_with.env[0] = none;
    RUN("devices");
    expect_success("devices");
    assert_non_null(strstr(ran.out, "there is no OpenCL platform"));
    run_with.env[0] = none;
    RUN("devices", "--device", "opencl");
    expect_error("devices --device", 1, "there is no OpenCL platform");
    run_with.env[0] = none;
    RUN(DRAW, "-o", out("a.ppm"), "--device", "opencl");
    expect_error("draw", 1, "there is no OpenCL platform");
}

static bool there_is_a_device(void)
{
    seen s = {0};
    char error[512];
    return sd_devices("opencl", 0, see, &s, error) == SD_OK;
}

TEST(the_list_names_every_device_and_the_chosen_one)
{
    seen s = {0};
    char error[512];
    if (!there_is_a_device()) skip();
    assert_int_equal(sd_devices("opencl", 0, see, &s, error), SD_OK);
    assert_int_equal(s.chosen, 1);
    s = (seen){0};
    assert_int_equal(sd_devices("opencl:9999", 0, see, &s, error), SD_ERR_ARG);
    assert_int_equal(s.chosen, 0);
    assert_true(s.n > 1);
    RUN("devices");
    expect_success("devices");
    assert_non_null(strstr(ran.out, "\nopencl:0: "));
    assert_non_null(strstr(ran.out, "    chosen    by --device opencl: "));
    RUN("devices", "--json");
    expect_success("devices --json");
    assert_non_null(strstr(ran.out, "{\"device\":\"opencl:0\",\"name\":"));
    assert_non_null(strstr(ran.out, "\"chosen\":true"));
    assert_non_null(strstr(ran.out, "],\"error\":\"\"}\n"));
    RUN("devices", "--device", "opencl:9999");
    expect_error("devices --device", 2, "there is no device opencl:9999");
    RUN("--version", "-v");
    expect_success("version");
    assert_non_null(strstr(ran.out, "device opencl:0: "));
}

TEST(a_check_says_how_far_from_the_bounds_each_device_is)
{
    if (!there_is_a_device()) skip();
    RUN("devices", "--check");
    expect_success("devices --check");
    assert_non_null(strstr(ran.out, "    checked   "));
    assert_non_null(strstr(ran.out, " of its bound\n"));
}

/* Drawn twice by the device, and once by the CPU. */
TEST(a_picture_says_which_device_drew_it)
{
    if (!there_is_a_device()) skip();
    RUN(DRAW, "-o", in_work("a" PICTURE), "--device", "opencl", "--timings");
    expect_success("draw");
    assert_non_null(strstr(ran.out, "\ndevice opencl:"));
#ifdef SD_WITH_PNG
    RUN("show", in_work("a" PICTURE));
    expect_success("show");
    assert_non_null(strstr(ran.out, ", Kernels: opencl, Device: "));
    RUN("--from", in_work("a" PICTURE), "-o", in_work("b" PICTURE), "--device", "opencl");
    expect_success("draw again");
    assert_string_equal(ran.err, "");
    assert_true(same_files(in_work("a" PICTURE), in_work("b" PICTURE)));
    RUN("--from", in_work("a" PICTURE), "-o", in_work("b" PICTURE), "--device", "cpu");
    expect_success("draw on the CPU");
    assert_non_null(strstr(ran.err, "the picture was drawn by another device"));
#endif
}

TEST(a_profile_says_which_device_computed)
{
    if (!there_is_a_device()) skip();
    RUN(DRAW, "-o", in_work("a.ppm"), "--device", "opencl", "--profile");
    expect_success("profile");
    assert_non_null(strstr(ran.out, "Device opencl:"));
    assert_non_null(strstr(ran.out, " GB/s.\n"));
    RUN(DRAW, "-o", in_work("a.ppm"), "--device", "opencl", "--profile", "json");
    expect_success("profile as JSON");
    assert_non_null(strstr(ran.out, "{\"profile\":{\"device\":\"opencl:"));
    assert_non_null(strstr(ran.out, "\"levels\":[{\"name\":\"memory\""));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_listed_first_and_can_be_used),
        cmocka_unit_test(a_list_without_a_function_is_an_error),
        cmocka_unit_test(names_that_mean_nothing_are_an_error_that_suggests),
        cmocka_unit_test(precise_sums_and_a_device_exclude_each_other),
        cmocka_unit_test(a_picture_of_precise_sums_can_be_drawn_again_by_a_device),
        cmocka_unit_test(timings_say_that_the_cpu_computed),
        cmocka_unit_test(what_computes_nothing_needs_no_device),
#ifdef SD_WITH_OPENCL
        cmocka_unit_test(a_name_means_the_best_device_that_can_be_used),
        cmocka_unit_test(a_device_that_is_not_there_or_cannot_be_used_is_an_error),
        cmocka_unit_test(a_device_is_refused_by_the_operation_that_it_gets_wrong),
        cmocka_unit_test(both_kinds_of_kernels_pass_the_thorough_check),
        cmocka_unit_test(without_a_driver_the_list_says_so_and_drawing_fails),
        cmocka_unit_test(the_list_names_every_device_and_the_chosen_one),
        cmocka_unit_test(a_check_says_how_far_from_the_bounds_each_device_is),
        cmocka_unit_test(a_picture_says_which_device_drew_it),
        cmocka_unit_test(a_profile_says_which_device_computed),
#else
        cmocka_unit_test(a_build_without_opencl_says_so),
#endif
    };
    return cmocka_run_group_tests_name("devices", tests, set_up, child_teardown);
}
