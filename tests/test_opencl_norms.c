/* test_opencl_norms.c - group norm and layer norm of the OpenCL backend, in the form for CPUs and in the one for GPUs:
 * against sums in double, whole and in bands, with the same bits. */
#include "opencl.h"

#include <math.h>
#include <stdlib.h>

static double distance(const float *x, const double *truth, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += (x[i] - truth[i]) * (x[i] - truth[i]);
        s += truth[i] * truth[i];
    }
    return sqrt(d / (s > 0 ? s : 1));
}

typedef struct norm_case {
    int64_t n, h, w, c;
    int groups;
    double mean, scale;
} norm_case;

static const norm_case cases[] = {
    {2, 9, 7, 24, 4, 0, 1}, {2, 33, 31, 8, 2, 50, 1}, {1, 1, 1, 6, 3, 1, 1}, {1, 40, 40, 20, 20, -3, 1},
    {2, 16, 16, 320, 32, 0.3, 2}, {1, 8, 8, 1280, 32, 0, 30}, {1, 50, 41, 48, 1, 1e3, 1}, {1, 9, 9, 16, 4, 0, 1e-5},
};

/* The norm over `groups` groups of channels of each picture's pixels, or over a row of channels each (pixels 1). */
static double *truth_of(const float *x, int64_t pictures, int64_t pixels, int64_t channels, int groups, double eps,
                        const float *gain, const float *bias)
{
    double *y = malloc((size_t)(pictures * pixels * channels) * sizeof *y);
    int64_t per = channels / groups;
    assert_non_null(y);
    for (int64_t at = 0; at < pictures * groups; at++) {
        int64_t c0 = at % groups * per;
        const float *in = x + at / groups * pixels * channels;
        double mean = 0, variance = 0, count = (double)(pixels * per);
        for (int64_t i = 0; i < pixels * per; i++) mean += in[i / per * channels + c0 + i % per] / count;
        for (int64_t i = 0; i < pixels * per; i++)
            variance += pow(in[i / per * channels + c0 + i % per] - mean, 2) / count;
        for (int64_t i = 0; i < pixels * per; i++) {
            int64_t c = c0 + i % per, k = i / per * channels + c;
            y[at / groups * pixels * channels + k] = (in[k] - mean) / sqrt(variance + eps) * gain[c] + bias[c];
        }
    }
    return y;
}

/* Weights of one width; the caller frees the numbers. */
typedef struct affine { float *gain, *bias; sd_tensor g, b; } affine;
static affine affine_of(int64_t channels)
{
    affine a = {.gain = cl_numbers(5, (size_t)channels, 1, 0.5), .bias = cl_numbers(6, (size_t)channels, 1, 0)};
    a.g = cl_weight(a.gain, 1, (const int64_t[4]){channels});
    a.b = cl_weight(a.bias, 1, (const int64_t[4]){channels});
    return a;
}
static void affine_free(affine *a)
{
    free(a->gain);
    free(a->bias);
}

TEST(group_norm_is_over_groups_and_pixels_in_both_forms)
{
    double worst = 0;
    cl_bench b;
    cl_start(&b, 8 << 20);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        norm_case s = cases[i];
        int64_t dim[] = {s.n, s.h, s.w, s.c};
        size_t count = (size_t)(s.n * s.h * s.w * s.c);
        float *x = cl_numbers(1, count, s.scale, s.mean), *y[2];
        affine a = affine_of(s.c);
        double *truth = truth_of(x, s.n, s.h * s.w, s.c, s.groups, 1e-5, a.gain, a.bias),
            *other = truth_of(x, s.n, s.h * s.w, s.c, s.groups == 1 ? 2 : 1, 1e-5, a.gain, a.bias),
            *eps = truth_of(x, s.n, s.h * s.w, s.c, s.groups, 1e-6, a.gain, a.bias);
        for (int cpu = 0; cpu < 2; cpu++) {
            cl_form(&b, cpu);
            sd_reset(&b.run, 0);
            sd_tensor in = sd_new_from(&b.run, 4, dim, x),
                plain = sd_group_norm(&b.run, in, &a.g, &a.b, s.groups, 1e-5, false),
                silu = sd_group_norm(&b.run, in, &a.g, &a.b, s.groups, 1e-5, true);
            y[cpu] = cl_read(&b.run, plain);
            sd_act_(&b.run, plain, SD_ACT_SILU);
            float *fused = cl_read(&b.run, silu), *apart = cl_read(&b.run, plain);
            assert_memory_equal(fused, apart, count * sizeof *fused);
            free(fused);
            free(apart);
            worst = fmax(worst, distance(y[cpu], truth, count));
        }
        assert_true(distance(y[0], truth, count) < 2e-7);
        assert_memory_equal(y[0], y[1], count * sizeof *x);
        assert_true(distance(y[0], other, count) > 1e-5);                   /* other groups */
        assert_true(distance(y[0], eps, count) > 1e-6 || s.scale > 20);    /* another eps */
        free(x), free(y[0]), free(y[1]), free(truth), free(other), free(eps);
        affine_free(&a);
    }
    print_message("    group norm: at most %.1e\n", worst);
    cl_stop(&b);
}

/* Sums in float, of x and of x^2, are out of the bound where the mean is large: the pairs are needed. */
TEST(sums_of_floats_alone_would_not_do)
{
    float *x = cl_numbers(1, 2050 * 48, 1, 1e3), s = 0, q = 0;
    double mean = 0, variance = 0, n = 2050 * 48;
    for (int i = 0; i < 2050 * 48; i++) {
        s += x[i];
        q += x[i] * x[i];
        mean += x[i] / n;
    }
    for (int i = 0; i < 2050 * 48; i++) variance += pow(x[i] - mean, 2) / n;
    assert_true(fabs(q / n - (s / n) * (s / n) - variance) > 1e-3 * variance);
    free(x);
}

/* Bands that end anywhere, also within a run; and each picture alone. */
TEST(bands_and_single_pictures_have_the_bits_of_the_whole)
{
    enum { H = 45, W = 37, C = 40 };
    const int64_t heights[] = {45, 7, 1, 20};
    affine a = affine_of(C);
    float *x = cl_numbers(3, 2 * H * W * C, 1, 2);
    cl_bench b;
    cl_start(&b, 8 << 20);
    for (int cpu = 0; cpu < 2; cpu++) {
        cl_form(&b, cpu);
        sd_reset(&b.run, 0);
        float *both = cl_read(&b.run, sd_group_norm(&b.run, sd_new_from(&b.run, 4, (const int64_t[]){2, H, W, C}, x),
                                                    &a.g, &a.b, 8, 1e-5, true));
        for (int n = 0; n < 2; n++) {
            for (size_t i = 0; i < SD_COUNT(heights); i++) {
                sd_reset(&b.run, 0);
                sd_tensor in = sd_new_from(&b.run, 4, (const int64_t[]){1, H, W, C}, x + n * H * W * C),
                    sums = sd_norm_sums_new(&b.run, H * W, C), scale = sd_norm_scale_new(&b.run, C);
                for (int64_t at = 0, rows; at < H; at += rows) {
                    rows = heights[i] < H - at ? heights[i] : H - at;
                    sd_tensor band = in;
                    band.dim[1] = rows;
                    band.data = (float *)in.data + at * W * C;
                    sd_norm_sums(&b.run, sums, band, at * W);
                }
                sd_norm_scale(&b.run, scale, sums, &a.g, &a.b, 8, 1e-5, H * W);
                sd_norm_apply(&b.run, in, in, scale, true);
                float *y = cl_read(&b.run, in);
                assert_memory_equal(y, both + n * H * W * C, H * W * C * sizeof *y);
                free(y);
            }
        }
        free(both);
    }
    free(x);
    affine_free(&a);
    cl_stop(&b);
}

TEST(layer_norm_is_over_columns_in_both_forms)
{
    const struct { int64_t rows, columns; double mean; } sizes[] = {
        {33, 53, 7}, {1, 1, 0}, {77, 768, 0}, {70, 320, 0.5}, {5, 1280, 1e3}, {3, 16, 0}, {2, 100, -50}};
    double worst = 0;
    cl_bench b;
    cl_start(&b, 4 << 20);
    for (size_t i = 0; i < SD_COUNT(sizes); i++) {
        int64_t R = sizes[i].rows, C = sizes[i].columns;
        size_t count = (size_t)(R * C);
        float *x = cl_numbers(2, count, 1, sizes[i].mean), *y[2];
        affine a = affine_of(C);
        double *truth = truth_of(x, R, 1, C, 1, 1e-5, a.gain, a.bias),
            *eps = truth_of(x, R, 1, C, 1, 1e-6, a.gain, a.bias), *rows = truth_of(x, 1, R, C, 1, 1e-5, a.gain, a.bias);
        for (int cpu = 0; cpu < 2; cpu++) {
            cl_form(&b, cpu);
            sd_reset(&b.run, 0);
            y[cpu] = cl_read(&b.run, sd_layer_norm(&b.run, sd_new_from(&b.run, 2, (const int64_t[]){R, C}, x), &a.g,
                                                   &a.b, 1e-5));
        }
        worst = fmax(worst, distance(y[0], truth, count));
        assert_true(distance(y[0], truth, count) < 2e-7);
        assert_memory_equal(y[0], y[1], count * sizeof *x);
        assert_true(C == 1 || distance(y[0], eps, count) > 1e-6);   /* another eps */
        assert_true(R == 1 || distance(y[0], rows, count) > 1e-3);  /* over all rows */
        free(x), free(y[0]), free(y[1]), free(truth), free(eps), free(rows);
        affine_free(&a);
    }
    print_message("    layer norm: at most %.1e\n", worst);
    cl_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(group_norm_is_over_groups_and_pixels_in_both_forms),
        cmocka_unit_test(sums_of_floats_alone_would_not_do),
        cmocka_unit_test(bands_and_single_pictures_have_the_bits_of_the_whole),
        cmocka_unit_test(layer_norm_is_over_columns_in_both_forms),
    };
    return cmocka_run_group_tests_name("opencl_norms", tests, NULL, NULL);
}
