/* test_opencl_kernels.c - every kernel in both forms, for CPUs and for GPUs, on small shapes: against the
 * specification. Small enough for a simulator, which looks at each access (tools/oclgrind.sh). */
#include "opencl.h"

#include <math.h>

enum { BYTES = 1 << 20 };   /* of working memory */

/* ---- the same tensor on the device and on the host */

typedef struct pair { sd_tensor far, near; } pair;

static pair made(cl_bench *b, int nd, const int64_t *dim, double scale, double mean)
{
    static uint32_t seed = 7;
    size_t n = 1;
    for (int i = 0; i < nd; i++) n *= (size_t)dim[i];
    float *x = cl_numbers(seed++, n, scale, mean);
    pair p = {sd_new_from(&b->run, nd, dim, x), sd_new_from(&b->near, nd, dim, x)};
    free(x);
    return p;
}
#define MADE(b, scale, mean, ...) \
    made(b, (int)SD_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__}, scale, mean)

static void compare(cl_bench *b, const char *what, pair y, double bound)
{
    if (!sd_ok(&b->near)) fail_msg("%s: the specification: %s", what, b->near_err.text);
    if (!sd_ok(&b->run)) fail_msg("%s: %s", what, b->err.text);
    size_t n = (size_t)sd_numel(&y.near);
    assert_int_equal(sd_numel(&y.far), (int64_t)n);
    float *far = cl_read(&b->run, y.far), *near = cl_read(&b->near, y.near);
    double d = cl_distance(far, near, n);
    if (!(d <= bound)) fail_msg("%s: %.2g apart, %.2g is allowed", what, d, bound);
    free(far);
    free(near);
}

/* Oclgrind 21.10 forgets which numbers of a buffer were written when the host writes anywhere but at its start. So
 * there a kernel moves them into place, from a buffer of their own: in the form for CPUs, one row repeated once. */
static void upload_by_kernel(sd_run *r, sd_tensor y, const float *from, bool channels_first)
{
    static const size_t one[3] = {1, 1, 1};
    bool cpu = sd_cl_of(r)->cpu;
    int64_t n = sd_numel(&y);
    sd_tensor there = y;
    there.data = sd_cl_alloc(r, (size_t)n * sizeof(float), "a test");
    if (!there.data) return;
    sd_cl_upload(r, there, from, channels_first);
    sd_cl_of(r)->cpu = true;
    sd_cl_call k = sd_cl_begin(r, "rows", "repeat_nearest", "-DUPLOAD");
    sd_cl_of(r)->cpu = cpu;
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, there), sd_cl_int(&k, 1), sd_cl_int(&k, n);
    for (int i = 0; i < 4; i++) sd_cl_int(&k, 1);
    sd_cl_float(&k, 1), sd_cl_float(&k, 1);
    sd_cl_run(&k, one, one, (double)n);
    sd_cl_wait(r);
    sd_cl_release(r, there.data);
}

static bool simulated(const cl_bench *b) { return strstr(b->cl->platform_name, "Oclgrind") != NULL; }

/* Both arenas are empty; the device's has NaNs, so that what is used without having been written is seen in results. A
 * simulator sees it by itself. */
static void next(cl_bench *b)
{
    enum { N = BYTES / 4 };
    sd_reset(&b->run, 0);
    sd_reset(&b->near, 0);
    if (simulated(b)) return;
    float *nans = malloc(BYTES);
    assert_non_null(nans);
    for (int i = 0; i < N; i++) nans[i] = NAN;
    sd_new_from(&b->run, 2, (const int64_t[]){1, N}, nans);
    free(nans);
    sd_reset(&b->run, 0);
}

/* Where Oclgrind looks for numbers that were never written, it takes weights that a kernel has packed for such. */
static void skip_packed(void)
{
    if (!getenv("OCLGRIND_UNINITIALIZED")) return;
    print_message("packed weights: not watched\n");
    skip();
}

static void begin(cl_bench *b, int gpu)
{
    static sd_backend slow;
    cl_start(b, BYTES);
    if (gpu) b->cl->cpu = false;
    slow = sd_backend_opencl;
    slow.upload = upload_by_kernel;
    if (simulated(b)) b->run.be = &slow;
    next(b);
}

/* A weight of that type: its numbers, which the caller frees. */
static void *weight(sd_tensor *w, sd_dtype dt, int nd, const int64_t *dim, double scale)
{
    *w = cl_weight(NULL, nd, dim);
    size_t n = (size_t)sd_numel(w);
    float *x = cl_numbers(99, n, scale, 0);
    void *narrow = malloc(4 * n);
    assert_non_null(narrow);
    sd_narrow(narrow, dt, x, n);
    free(x);
    w->dt = dt;
    w->data = narrow;
    return narrow;
}
static const sd_dtype types[] = {SD_F32, SD_F16, SD_BF16};

/* ---- products */

static void multiply(int gpu)
{
    const struct { int64_t rows, i, o; bool bias; } cases[] = {
        {1, 1, 1, true}, {5, 37, 21, false}, {33, 64, 40, true}, {70, 130, 97, true}, {3, 300, 33, false}};
    cl_bench b;
    skip_packed();
    begin(&b, gpu);
    for (size_t k = 0; k < SD_COUNT(cases); k++)
        for (size_t t = 0; t < SD_COUNT(types); t++) {
            sd_tensor w, bias;
            void *free_w = weight(&w, types[t], 2, (int64_t[]){cases[k].o, cases[k].i, 0, 0}, 1),
                *free_bias = weight(&bias, types[t], 1, (int64_t[]){cases[k].o, 0, 0, 0}, 1);
            pair x = MADE(&b, 1, 0, cases[k].rows, cases[k].i), y;
            const sd_tensor *with = cases[k].bias ? &bias : NULL;
            y.far = sd_linear(&b.run, x.far, &w, with);
            y.near = sd_linear(&b.near, x.near, &w, with);
            compare(&b, "linear", y, 4e-7);
            free(free_w);
            free(free_bias);
            next(&b);
        }
    cl_stop(&b);
}
TEST(products_on_a_cpu) { multiply(0); }
TEST(products_on_a_gpu) { multiply(1); }

static void convolve(int gpu)
{
    const struct { int64_t n, h, w, i, o, k; sd_conv c; } cases[] = {
        {2, 5, 7, 5, 7, 3, {1, 1, 1, 1, 1, false, {0}}}, {1, 7, 9, 3, 8, 3, {2, 0, 0, 1, 1, false, {0}}},
        {1, 6, 6, 9, 40, 3, {2, 1, 1, 1, 1, false, {0}}}, {1, 5, 4, 8, 33, 3, {1, 1, 1, 1, 1, true, {0}}},
        {2, 3, 5, 12, 9, 1, {1, 0, 0, 0, 0, false, {0}}}, {1, 9, 8, 4, 5, 4, {2, 1, 1, 1, 1, false, {0}}},
        {1, 3, 3, 229, 5, 3, {2, 1, 1, 1, 1, false, {0}}}};   /* so many terms are added in parts */
    cl_bench b;
    skip_packed();
    begin(&b, gpu);
    for (size_t k = 0; k < SD_COUNT(cases); k++) {
        sd_tensor w, bias;
        void *free_w = weight(&w, types[k % 3], 4, (int64_t[]){cases[k].o, cases[k].i, cases[k].k, cases[k].k}, 1),
            *free_bias = weight(&bias, SD_F32, 1, (int64_t[]){cases[k].o, 0, 0, 0}, 1);
        pair x = MADE(&b, 1, 0, cases[k].n, cases[k].h, cases[k].w, cases[k].i), y;
        y.far = sd_conv2d(&b.run, x.far, &w, &bias, cases[k].c);
        y.near = sd_conv2d(&b.near, x.near, &w, &bias, cases[k].c);
        compare(&b, "conv2d", y, 4e-7);
        free(free_w);
        free(free_bias);
        next(&b);
    }
    cl_stop(&b);
}
TEST(convolutions_on_a_cpu) { convolve(0); }
TEST(convolutions_on_a_gpu) { convolve(1); }

/* Called by name: so small a picture would be convolved otherwise. */
static void winograd(int gpu)
{
    const struct { int64_t n, h, w, i, o; bool enlarge; } cases[] = {
        {1, 4, 4, 16, 16, false}, {2, 9, 6, 19, 34, false}, {1, 5, 3, 20, 17, true}};
    cl_bench b;
    skip_packed();
    begin(&b, gpu);
    for (size_t k = 0; k < SD_COUNT(cases); k++) {
        sd_tensor w, bias;
        sd_conv c = {1, 1, 1, 1, 1, cases[k].enlarge, {0}};
        int64_t zoom = c.enlarge ? 2 : 1;
        void *free_w = weight(&w, types[k % 3], 4, (int64_t[]){cases[k].o, cases[k].i, 3, 3}, 1),
            *free_bias = weight(&bias, SD_F32, 1, (int64_t[]){cases[k].o, 0, 0, 0}, 1);
        pair x = MADE(&b, 1, 0, cases[k].n, cases[k].h, cases[k].w, cases[k].i), y;
        y.far = sd_new4(&b.run, cases[k].n, zoom * cases[k].h, zoom * cases[k].w, cases[k].o);
        sd_cl_winograd(&b.run, y.far, x.far, &w, &bias, c);
        y.near = sd_conv2d(&b.near, x.near, &w, &bias, c);
        compare(&b, "winograd", y, 1.1e-6);
        free(free_w);
        free(free_bias);
        next(&b);
    }
    cl_stop(&b);
}
TEST(winograds_algorithm_on_a_cpu) { winograd(0); }
TEST(winograds_algorithm_on_a_gpu) { winograd(1); }

/* ---- attention */

static void attend(int gpu)
{
    const struct { int64_t n, t, s, d; int heads; bool causal; } cases[] = {
        {2, 3, 7, 8, 2, false}, {1, 35, 77, 40, 1, false}, {1, 19, 19, 12, 2, true}, {1, 5, 9, 80, 1, false},
        {1, 4, 3, 160, 1, false}, {1, 3, 5, 512, 1, false}, {1, 1, 1, 1, 1, true}};
    cl_bench b;
    begin(&b, gpu);
    for (size_t k = 0; k < SD_COUNT(cases); k++) {
        int64_t C = cases[k].d * cases[k].heads;
        pair q = MADE(&b, 4, 0, cases[k].n, cases[k].t, C), key = MADE(&b, 1, 0, cases[k].n, cases[k].s, C),
            v = MADE(&b, 1, 0, cases[k].n, cases[k].s, C), y;
        y.far = sd_attention(&b.run, q.far, key.far, v.far, cases[k].heads, cases[k].causal);
        y.near = sd_attention(&b.near, q.near, key.near, v.near, cases[k].heads, cases[k].causal);
        compare(&b, "attention", y, 6e-7);
        next(&b);
    }
    cl_stop(&b);
}
TEST(attention_on_a_cpu) { attend(0); }
TEST(attention_on_a_gpu) { attend(1); }

/* ---- norms */

static void norms(int gpu)
{
    const struct { int64_t n, h, w, c; int groups; bool silu; } cases[] = {
        {2, 3, 5, 12, 4, false}, {1, 27, 21, 6, 3, true}, {1, 1, 1, 2, 1, false}, {1, 9, 4, 40, 5, true}};
    cl_bench b;
    begin(&b, gpu);
    for (size_t k = 0; k < SD_COUNT(cases); k++) {
        sd_tensor gain, bias;
        const int64_t C = cases[k].c;
        void *free_gain = weight(&gain, types[k % 3], 1, (int64_t[]){C, 0, 0, 0}, 1),
            *free_bias = weight(&bias, types[k % 3], 1, (int64_t[]){C, 0, 0, 0}, 1);
        pair x = MADE(&b, 1, 3, cases[k].n, cases[k].h, cases[k].w, C), y;
        y.far = sd_group_norm(&b.run, x.far, &gain, &bias, cases[k].groups, 1e-5, cases[k].silu);
        y.near = sd_group_norm(&b.near, x.near, &gain, &bias, cases[k].groups, 1e-5, cases[k].silu);
        compare(&b, "group norm", y, 3e-7);
        y.far = sd_layer_norm(&b.run, x.far, &gain, &bias, 1e-5);
        y.near = sd_layer_norm(&b.near, x.near, &gain, &bias, 1e-5);
        compare(&b, "layer norm", y, 2e-7);
        free(free_gain);
        free(free_bias);
        next(&b);
    }
    cl_stop(&b);
}
TEST(norms_on_a_cpu) { norms(0); }
TEST(norms_on_a_gpu) { norms(1); }

/* A picture in bands: the sums grow, one scale, each band scaled. */
static void bands(int gpu)
{
    enum { H = 30, W = 20, C = 6, BAND = 13 };
    cl_bench b;
    begin(&b, gpu);
    sd_tensor gain;
    void *free_gain = weight(&gain, SD_F32, 1, (int64_t[]){C, 0, 0, 0}, 1);
    pair x = MADE(&b, 1, 1, 1, H, W, C), y = {sd_new4(&b.run, 1, H, W, C), {0}};
    sd_tensor sums = sd_norm_sums_new(&b.run, H * W, C), scale = sd_norm_scale_new(&b.run, C);
    for (int64_t from = 0; from < H; from += BAND) {
        sd_tensor band = x.far;
        band.dim[1] = H - from < BAND ? H - from : BAND;
        band.data = (float *)band.data + from * W * C;
        sd_norm_sums(&b.run, sums, band, from * W);
    }
    sd_norm_scale(&b.run, scale, sums, &gain, &gain, 3, 1e-5, H * W);
    sd_norm_apply(&b.run, y.far, x.far, scale, true);
    y.near = sd_group_norm(&b.near, x.near, &gain, &gain, 3, 1e-5, true);
    compare(&b, "group norm in bands", y, 3e-7);
    free(free_gain);
    cl_stop(&b);
}
TEST(norms_in_bands_on_a_cpu) { bands(0); }
TEST(norms_in_bands_on_a_gpu) { bands(1); }

/* ---- the rest */

static void pointwise(int gpu)
{
    cl_bench b;
    begin(&b, gpu);
    static const int64_t sizes[] = {1, 3, 17, 130};
    for (size_t k = 0; k < SD_COUNT(sizes); k++) {
        int64_t C = sizes[k];
        for (int act = SD_ACT_SILU; act <= SD_ACT_FROM_UNIT; act++) {
            pair x = MADE(&b, 3, 0, 3, 2 * C);
            sd_act_(&b.run, x.far, (sd_act)act);
            sd_act_(&b.near, x.near, (sd_act)act);
            compare(&b, "act", x, 2e-7);
        }
        pair a = MADE(&b, 1, 0, 2, 3, 5, C), c = MADE(&b, 1, 0, 2, 3, 5, 7), bias = MADE(&b, 1, 0, 2, C),
            x = MADE(&b, 2, 0, 5, 2 * C), y;
        y.far = sd_geglu(&b.run, x.far);
        y.near = sd_geglu(&b.near, x.near);
        compare(&b, "geglu", y, 3e-7);
        y.far = sd_concat(&b.run, a.far, c.far);
        y.near = sd_concat(&b.near, a.near, c.near);
        compare(&b, "concat", y, 0);
        y.far = sd_upsample(&b.run, a.far, 7, 9);
        y.near = sd_upsample(&b.near, a.near, 7, 9);
        compare(&b, "upsample", y, 0);
        sd_add_channels_(&b.run, a.far, bias.far);
        sd_add_channels_(&b.near, a.near, bias.near);
        compare(&b, "add_channels", a, 0);
        sd_add_(&b.run, a.far, a.far);
        sd_add_(&b.near, a.near, a.near);
        compare(&b, "add", a, 0);
        next(&b);
    }
    cl_stop(&b);
}
TEST(rows_on_a_cpu) { pointwise(0); }
TEST(rows_on_a_gpu) { pointwise(1); }

static void look_up(int gpu)
{
    enum { WORDS = 5, T = 3, C = 7 };
    static const int32_t ids[T] = {4, 0, 2};
    static const float value[2] = {0, 999};
    cl_bench b;
    begin(&b, gpu);
    for (size_t t = 0; t < SD_COUNT(types); t++) {
        sd_tensor words, places;
        void *free_words = weight(&words, types[t], 2, (int64_t[]){WORDS, C, 0, 0}, 1),
            *free_places = weight(&places, types[t], 2, (int64_t[]){T, C, 0, 0}, 1);
        pair y = {sd_embed(&b.run, ids, 1, T, &words, &places), sd_embed(&b.near, ids, 1, T, &words, &places)};
        compare(&b, "embed", y, 0);
        free(free_words);
        free(free_places);
    }
    pair y = {sd_sinusoid(&b.run, 2, 10, value, false, 0), sd_sinusoid(&b.near, 2, 10, value, false, 0)};
    compare(&b, "sinusoid", y, 0);
    cl_stop(&b);
}
TEST(words_on_a_cpu) { look_up(0); }
TEST(words_on_a_gpu) { look_up(1); }

/* The self-test multiplies in tiles of every shape, too. */
static void check_all(int gpu)
{
    cl_bench b;
    sd_cl_checked done;
    skip_packed();
    begin(&b, gpu);
    if (sd_cl_check(b.cl, &sd_backend_opencl, true, &done, &b.err)) fail_msg("%s", b.err.text);
    assert_true(done.cases > 20 && done.worst > 0);
    cl_stop(&b);
}
TEST(tiles_of_every_shape_on_a_cpu) { check_all(0); }
TEST(tiles_of_every_shape_on_a_gpu) { check_all(1); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_on_a_cpu), cmocka_unit_test(products_on_a_gpu),
        cmocka_unit_test(convolutions_on_a_cpu), cmocka_unit_test(convolutions_on_a_gpu),
        cmocka_unit_test(winograds_algorithm_on_a_cpu), cmocka_unit_test(winograds_algorithm_on_a_gpu),
        cmocka_unit_test(attention_on_a_cpu), cmocka_unit_test(attention_on_a_gpu),
        cmocka_unit_test(norms_on_a_cpu), cmocka_unit_test(norms_on_a_gpu),
        cmocka_unit_test(norms_in_bands_on_a_cpu), cmocka_unit_test(norms_in_bands_on_a_gpu),
        cmocka_unit_test(rows_on_a_cpu), cmocka_unit_test(rows_on_a_gpu),
        cmocka_unit_test(words_on_a_cpu), cmocka_unit_test(words_on_a_gpu),
        cmocka_unit_test(tiles_of_every_shape_on_a_cpu), cmocka_unit_test(tiles_of_every_shape_on_a_gpu),
    };
    return cmocka_run_group_tests_name("opencl_kernels", tests, NULL, NULL);
}
