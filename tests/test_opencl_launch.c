/* test_opencl_launch.c - long launches are cut into pieces, which changes no bit, and which a cancelled call ends
 * between; kernels that take small groups only give way to others. */
#define _POSIX_C_SOURCE 200809L
#include "opencl.h"
#include "child.h"
#include "cl_wrapper.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* ------------------------------------------------------------------------------------ cancelling */

typedef struct canceller { sd_halt halt; double after, at; } canceller;

static void *cancel(void *user)
{
    canceller *c = user;
    struct timespec t = {(time_t)c->after, (long)(1e9 * (c->after - (double)(time_t)c->after))};
    nanosleep(&t, NULL);
    c->at = sd_now();
    sd_flag_set(&c->halt.stop, 1);
    return NULL;
}

/* Seconds from the request until the device is free again. The work is repeated until the request comes: so it comes
 * in the middle of a convolution on a fast machine too. */
static double seconds_to_stop(void (*work)(sd_run *r), double after)
{
    cl_bench b;
    canceller c = {.after = after};
    pthread_t thread;
    cl_start(&b, 220 << 20);
    b.run.err->halt = &c.halt;
    assert_int_equal(pthread_create(&thread, NULL, cancel, &c), 0);
    double began = sd_now();
    size_t mark = sd_mark(&b.run);
    while (b.run.err->status == SD_OK && sd_now() < began + after + 60) {
        work(&b.run);
        sd_reset(&b.run, mark);
    }
    double ended = sd_now();
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (b.run.err->status != SD_ERR_CANCELLED) fail_msg("not cancelled: %s", b.run.err->text);
    assert_int_equal(clFinish(b.cl->queue), CL_SUCCESS);
    double idle = sd_now();
    print_message("    stopped after %.2f s, the device was free after %.2f s\n", ended - c.at, idle - c.at);
    b.run.err->halt = NULL;
    cl_stop(&b);
    return idle - c.at;
}

/* 10^11 multiplications in one launch: 1.5 s for each of two AVX-512 cores that never wait */
static void long_convolution(sd_run *r)
{
    enum { C = 512, SIDE = 224 };
    float *w = cl_numbers(1, C * C * 9, 0.01, 0);
    sd_tensor kernel = cl_weight(w, 4, (const int64_t[]){C, C, 3, 3});
    sd_tensor x = sd_new4(r, 1, SIDE, SIDE, C);
    sd_conv2d(r, x, &kernel, NULL, (sd_conv){1, 1, 1, 1, 1, false, {0, 0, 0}});
    free(w);
}

TEST(a_long_convolution_stops_within_a_second)
{
    double best = 10;   /* the first time the kernel is compiled; and others may need the cores */
    for (int i = 0; i < 4 && best > 1.0 * SLOW; i++) {
        double s = seconds_to_stop(long_convolution, 0.5);
        if (s < best) best = s;
    }
    assert_true(best < 1.0 * SLOW);
}

/* ------------------------------------------------------------------------------- in pieces */

enum { SIDE = 12, C = 64, TOKENS = SIDE * SIDE, HEADS = 2, GROUPS = 8 };

typedef struct weights { sd_tensor kernel, square, wide, bias; } weights;
typedef sd_tensor operation(sd_run *r, sd_tensor x, const weights *w);

static const sd_conv conv3 = {1, 1, 1, 1, 1, false, {0, 0, 0}};
static sd_tensor tokens(sd_run *r, sd_tensor x) { return sd_view3(r, x, 2, TOKENS, C); }

static sd_tensor conv2d(sd_run *r, sd_tensor x, const weights *w) { return sd_conv2d(r, x, &w->kernel, NULL, conv3); }
static sd_tensor linear(sd_run *r, sd_tensor x, const weights *w)
{
    return sd_linear(r, tokens(r, x), &w->square, &w->bias);
}
static sd_tensor group_norm(sd_run *r, sd_tensor x, const weights *w)
{
    return sd_group_norm(r, x, &w->bias, &w->bias, GROUPS, 1e-5, true);
}
static sd_tensor layer_norm(sd_run *r, sd_tensor x, const weights *w)
{
    return sd_layer_norm(r, tokens(r, x), &w->bias, &w->bias, 1e-5);
}
static sd_tensor attention(sd_run *r, sd_tensor x, const weights *w)
{
    (void)w;
    return sd_attention(r, tokens(r, x), tokens(r, x), tokens(r, x), HEADS, false);
}
static sd_tensor silu(sd_run *r, sd_tensor x, const weights *w) { return (void)w, sd_silu(r, x); }
static sd_tensor geglu(sd_run *r, sd_tensor x, const weights *w) { return (void)w, sd_geglu(r, tokens(r, x)); }
static sd_tensor concat(sd_run *r, sd_tensor x, const weights *w) { return (void)w, sd_concat(r, x, x); }
static sd_tensor upsample(sd_run *r, sd_tensor x, const weights *w) { return (void)w, sd_upsample(r, x, 24, 24); }
static sd_tensor added(sd_run *r, sd_tensor x, const weights *w)
{
    const float when[] = {1, 500};
    (void)w;
    sd_tensor y = sd_silu(r, x);
    sd_add_(r, y, x);
    sd_add_channels_(r, y, sd_sinusoid(r, 2, C, when, true, 0));
    return y;
}

static const struct { const char *name; operation *compute; } operations[] = {
    {"conv2d", conv2d}, {"linear", linear}, {"attention", attention}, {"group norm", group_norm},
    {"layer norm", layer_norm}, {"silu", silu}, {"geglu", geglu}, {"concat", concat}, {"upsample", upsample},
    {"add", added}};

/* The operation's numbers, and how many launches it took. */
static float *compute(operation *f, bool as_gpu, bool cut, size_t *n, long *launches)
{
    cl_bench b;
    cl_start(&b, 8 << 20);
    if (as_gpu) b.cl->cpu = false;
    float *x = cl_numbers(1, 2 * TOKENS * C, 1, 0), *k = cl_numbers(2, 2 * C * C * 9, 0.1, 0);
    weights w = {cl_weight(k, 4, (const int64_t[]){2 * C, C, 3, 3}), cl_weight(k, 2, (const int64_t[]){C, C, 0, 0}),
                 cl_weight(k, 2, (const int64_t[]){2 * C, C, 0, 0}), cl_weight(k, 1, (const int64_t[]){C, 0, 0, 0})};
    sd_tensor t = sd_new_from(&b.run, 4, (const int64_t[]){2, SIDE, SIDE, C}, x);
    w.kernel.id = 1, w.square.id = 2, w.wide.id = 3, w.bias.id = 4;
    f(&b.run, t, &w);   /* has the weights brought over */
    if (cut) {
        b.cl->least_quantum = b.cl->quantum = 1;
        b.cl->units = 1;
    }
    cl_watch.launches = 0;
    t = f(&b.run, t, &w);
    *launches = cl_watch.launches;
    *n = (size_t)sd_numel(&t);
    float *y = cl_read(&b.run, t);
    free(x);
    free(k);
    cl_stop(&b);
    return y;
}

static void same_in_pieces(bool as_gpu)
{
    for (size_t i = 0; i < SD_COUNT(operations); i++) {
        long whole, parts;
        size_t n, m;
        float *x = compute(operations[i].compute, as_gpu, false, &n, &whole);
        float *y = compute(operations[i].compute, as_gpu, true, &m, &parts);
        print_message("    %s: %ld launches, %ld pieces\n", operations[i].name, whole, parts);
        assert_int_equal(n, m);
        if (memcmp(x, y, n * sizeof *x) != 0) fail_msg("%s: other bits in pieces", operations[i].name);
        if (parts <= whole) fail_msg("%s: %ld launches, and %ld pieces", operations[i].name, whole, parts);
        free(x);
        free(y);
    }
}

/* A kernel of many registers takes small groups, and only the driver knows how small: another shape does its work. */
TEST(a_gpu_whose_kernels_take_small_groups_computes_everything)
{
    for (size_t i = 0; i < SD_COUNT(operations); i++) {
        long launches;
        size_t n, m;
        float *x = compute(operations[i].compute, true, false, &n, &launches);
        cl_watch.most_group = 64;
        float *y = compute(operations[i].compute, true, false, &m, &launches);
        cl_watch.most_group = 0;
        assert_int_equal(n, m);
        assert_true(cl_distance(y, x, n) < 1e-6);
        free(x);
        free(y);
    }
}

TEST(a_launch_in_pieces_computes_the_same_on_a_cpu) { same_in_pieces(false); }
TEST(a_launch_in_pieces_computes_the_same_on_a_gpu) { same_in_pieces(true); }

/* ----------------------------------------------------------------------------- small groups */

TEST(where_a_kernel_takes_smaller_groups_than_the_device_another_computes)
{
    enum { ROWS = 512, WIDE = 2 * C };
    float *x = cl_numbers(1, ROWS * C, 1, 0), *k = cl_numbers(2, WIDE * C, 0.1, 0), *y[2], *z[2];
    sd_tensor w = cl_weight(k, 2, (const int64_t[]){WIDE, C, 0, 0});
    for (int small = 0; small < 2; small++) {
        cl_bench b;
        cl_start(&b, 8 << 20);
        b.cl->cpu = false;
        b.cl->units = 1;
        cl_watch.most_group = small ? 64 : 0;
        sd_tensor t = sd_new_from(&b.run, 3, (const int64_t[]){1, ROWS, C}, x);
        y[small] = cl_read(&b.run, sd_linear(&b.run, t, &w, NULL));
        z[small] = cl_read(&b.run, sd_attention(&b.run, t, t, t, HEADS, false));
        assert_int_equal(!!b.cl->given_up, small);
        cl_stop(&b);
    }
    cl_watch.most_group = 0;
    assert_memory_equal(y[0], y[1], ROWS * WIDE * sizeof *x);
    assert_memory_equal(z[0], z[1], ROWS * C * sizeof *x);
    for (int small = 0; small < 2; small++) free(y[small]), free(z[small]);
    free(x);
    free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_a_kernel_takes_smaller_groups_than_the_device_another_computes),
        cmocka_unit_test(a_launch_in_pieces_computes_the_same_on_a_cpu),
        cmocka_unit_test(a_launch_in_pieces_computes_the_same_on_a_gpu),
        cmocka_unit_test(a_gpu_whose_kernels_take_small_groups_computes_everything),
        cmocka_unit_test(a_long_convolution_stops_within_a_second),
    };
    return cmocka_run_group_tests_name("opencl_launch", tests, NULL, NULL);
}
