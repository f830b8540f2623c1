/* test_opencl_products.c - the OpenCL backend's products and convolutions, as a GPU computes them and as a CPU does,
 * against the specification; the same bits from every shape of tile, in every batch and in bands. */
#include "opencl.h"

#include <math.h>

/* ops_opencl.h: products add at most 256 terms in a row */
static const double BOUND = 4e-7;

enum { MB = 1 << 20 };

/* Both forms of the kernels: that of a GPU, then that of a CPU. */
static void start(cl_bench *b, int form)
{
    cl_start(b, 64 * MB);
    b->cl->cpu = form;
}

static sd_tensor tensor(sd_run *r, const int64_t dim[4], const float *x) { return sd_new_from(r, 4, dim, x); }

/* Uses this row of the table of shapes for a product, whatever is measured or the rule says. */
static void force(cl_bench *b, sd_cl_choice *c, int row, int64_t M, int64_t N, int64_t K, bool conv)
{
    *c = (sd_cl_choice){M, N, K, conv, row};
    b->cl->choice = c;
    b->cl->choices = 1;
    assert_int_equal(sd_cl_shape_for(b->cl, M, N, K, 1, conv), row);
}

static const struct { int64_t rows, in, out; bool bias; } products[] = {
    {1, 1, 1, true}, {2, 320, 1280, true}, {77, 768, 320, false}, {130, 37, 33, true}, {64, 64, 64, false},
    {257, 131, 100, true}, {33, 1280, 40, true}, {5, 2563, 70, false}};

TEST(a_linear_layer_is_the_textbook_sum)
{
    for (int form = 0; form < 2; form++) {
        cl_bench b;
        start(&b, form);
        for (size_t i = 0; i < SD_COUNT(products); i++) {
            int64_t M = products[i].rows, I = products[i].in, O = products[i].out;
            float *x = cl_numbers(1, (size_t)(M * I), 1, 0), *w = cl_numbers(2, (size_t)(O * I), 1, 0),
                *bias = cl_numbers(3, (size_t)O, 1, 0);
            sd_tensor tw = cl_weight(w, 2, (const int64_t[4]){O, I}), tb = cl_weight(bias, 1, (const int64_t[4]){O});
            const int64_t dim[] = {M, I};
            sd_run *runs[] = {&b.run, &b.near};
            float *y[2];
            for (int k = 0; k < 2; k++) {
                sd_reset(runs[k], 0);
                y[k] = cl_read(runs[k], sd_linear(runs[k], sd_new_from(runs[k], 2, dim, x), &tw,
                                                  products[i].bias ? &tb : NULL));
            }
            double d = cl_distance(y[0], y[1], (size_t)(M * O));
            if (!(d < BOUND)) fail_msg("form %d, product %d: %g", form, (int)i, d);
            free(x), free(w), free(bias), free(y[0]), free(y[1]);
        }
        cl_stop(&b);
    }
}

typedef struct conv_case { int64_t n, h, w, in, out, k; sd_conv c; } conv_case;

/* None for which Winograd's algorithm is chosen. */
static const conv_case convs[] = {
    {2, 9, 14, 5, 7, 3, {1, 1, 1, 1, 1, false, {0}}},   {1, 8, 8, 16, 32, 3, {2, 1, 1, 1, 1, false, {0}}},
    {1, 7, 9, 3, 8, 3, {2, 0, 0, 1, 1, false, {0}}},    {2, 5, 6, 40, 9, 1, {1, 0, 0, 0, 0, false, {0}}},
    {1, 1, 1, 4, 4, 3, {1, 1, 1, 1, 1, false, {0}}},    {1, 20, 17, 20, 36, 3, {1, 1, 1, 1, 1, false, {0}}},
    {2, 6, 5, 12, 40, 3, {1, 1, 1, 1, 1, true, {0}}},   {1, 16, 16, 132, 68, 3, {2, 1, 1, 1, 1, false, {0}}},
    {1, 12, 10, 9, 33, 3, {1, 1, 1, 1, 1, false, {0}}}, {2, 9, 9, 8, 16, 1, {2, 0, 0, 0, 0, false, {0}}},
    {1, 9, 11, 6, 10, 5, {1, 2, 2, 2, 2, false, {0}}},  {1, 7, 4, 10, 8, 3, {1, 1, 1, 1, 1, true, {0}}},
    {1, 9, 8, 260, 34, 3, {2, 1, 1, 1, 1, false, {0}}}};   /* 2340 terms for few pixels: they are cut in two */

static float *convolve(sd_run *r, const conv_case *k, int64_t n, const float *x, const float *w, const float *bias)
{
    sd_tensor tw = cl_weight(w, 4, (const int64_t[4]){k->out, k->in, k->k, k->k}),
        tb = cl_weight(bias, 1, (const int64_t[4]){k->out});
    sd_reset(r, 0);
    sd_new2(r, 1, 3);   /* so that tensors do not all begin at the start of a buffer */
    sd_tensor y = sd_conv2d(r, tensor(r, (const int64_t[4]){n, k->h, k->w, k->in}, x), &tw, bias ? &tb : NULL, k->c);
    return cl_read(r, y);
}

static size_t result_size(const conv_case *k, int64_t n)
{
    int64_t y[4];
    sd_conv_result((const int64_t[4]){n, k->h, k->w, k->in}, (const int64_t[4]){k->out, k->in, k->k, k->k}, k->c, y);
    return (size_t)(y[0] * y[1] * y[2] * y[3]);
}

TEST(a_convolution_is_the_textbook_sum)
{
    for (int form = 0; form < 2; form++) {
        cl_bench b;
        start(&b, form);
        for (size_t i = 0; i < SD_COUNT(convs); i++) {
            const conv_case *k = &convs[i];
            float *x = cl_numbers(4, (size_t)(k->n * k->h * k->w * k->in), 1, 0),
                *w = cl_numbers(5, (size_t)(k->out * k->in * k->k * k->k), 1, 0),
                *bias = i % 3 ? cl_numbers(6, (size_t)k->out, 1, 0) : NULL;
            float *y = convolve(&b.run, k, k->n, x, w, bias), *near = convolve(&b.near, k, k->n, x, w, bias);
            double d = cl_distance(y, near, result_size(k, k->n));
            if (!(d < BOUND)) fail_msg("form %d, convolution %d: %g", form, (int)i, d);
            free(x), free(w), free(bias), free(y), free(near);
        }
        cl_stop(&b);
    }
}

/* The VAE's encoder pads right and bottom only. Padding left and top instead must be told apart. */
TEST(padding_on_the_wrong_side_exceeds_the_bound)
{
    for (int form = 0; form < 2; form++) {
        cl_bench b;
        start(&b, form);
        conv_case right = {1, 8, 8, 4, 4, 3, {2, 0, 0, 1, 1, false, {0}}}, wrong = right;
        wrong.c = (sd_conv){2, 1, 1, 0, 0, false, {0}};
        float *x = cl_numbers(7, 8 * 8 * 4, 1, 0), *w = cl_numbers(8, 4 * 4 * 9, 1, 0);
        float *y = convolve(&b.run, &wrong, 1, x, w, NULL), *near = convolve(&b.near, &right, 1, x, w, NULL);
        assert_true(cl_distance(y, near, result_size(&right, 1)) > 1e4 * BOUND);
        free(x), free(w), free(y), free(near);
        cl_stop(&b);
    }
}

TEST(every_shape_of_tile_gives_the_same_bits)
{
    static const conv_case cases[] = {{2, 9, 10, 24, 70, 3, {1, 1, 1, 1, 1, false, {0}}},
                                      {1, 9, 7, 5, 33, 3, {2, 1, 1, 1, 1, false, {0}}},
                                      {1, 3, 50, 300, 132, 1, {1, 0, 0, 0, 0, false, {0}}},
                                      {1, 6, 9, 116, 36, 5, {2, 2, 2, 2, 2, false, {0}}}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        const conv_case *k = &cases[i];
        float *x = cl_numbers(9, (size_t)(k->n * k->h * k->w * k->in), 1, 0),
            *w = cl_numbers(10, (size_t)(k->out * k->in * k->k * k->k), 1, 0), *bias = cl_numbers(11, 256, 1, 0);
        float *first = NULL;
        size_t n = result_size(k, k->n);
        int tried = 0;
        for (int form = 0; form < 2; form++) {
            cl_bench b;
            start(&b, form);
            for (int row = 0; row < sd_cl_shapes(); row++) {
                sd_cl_choice choice;
                if (!sd_cl_shape_runs(b.cl, row)) continue;
                force(&b, &choice, row, (int64_t)n / k->out, k->out, k->in * k->k * k->k, k->k > 1);
                float *y = convolve(&b.run, k, k->n, x, w, bias);
                if (first && memcmp(first, y, n * sizeof *y) != 0)
                    fail_msg("form %d, shape %d, convolution %d: other bits", form, row, (int)i);
                if (first) free(y);
                else first = y;
                tried++;
            }
            b.cl->choice = NULL;
            b.cl->choices = 0;
            cl_stop(&b);
        }
        assert_int_equal(tried, sd_cl_shapes());
        free(x), free(w), free(bias), free(first);
    }
}

TEST(a_picture_has_the_same_bits_in_every_batch)
{
    for (int form = 0; form < 2; form++) {
        cl_bench b;
        start(&b, form);
        for (size_t i = 0; i < SD_COUNT(convs); i++) {
            const conv_case *k = &convs[i];
            size_t one = (size_t)(k->h * k->w * k->in), n = result_size(k, 1);
            float *x = cl_numbers(12, 3 * one, 1, 0), *w = cl_numbers(13, (size_t)(k->out * k->in * k->k * k->k), 1, 0);
            float *all = convolve(&b.run, k, 3, x, w, NULL), *last = convolve(&b.run, k, 1, x + 2 * one, w, NULL);
            assert_memory_equal(all + 2 * n, last, n * sizeof *last);
            free(x), free(w), free(all), free(last);
        }
        cl_stop(&b);
    }
}

/* Rows from .. to - 1 of the result from those rows of the picture that they are made of. */
static void convolve_band(sd_run *r, const conv_case *k, sd_tensor y, const float *x, const sd_tensor *w, int64_t from,
                          int64_t to)
{
    int64_t first, end, row = k->w * k->in;
    sd_conv c = k->c;
    sd_conv_reads(c, k->k, k->h, from, to, &first, &end);
    c.rows = (sd_rows){k->h, first, from};
    sd_tensor some = tensor(r, (const int64_t[4]){1, end - first, k->w, k->in}, x + first * row), band = y;
    band.dim[1] = to - from;
    band.data = (char *)y.data + from * y.dim[2] * y.dim[3] * (int64_t)sizeof(float);
    sd_conv2d_into(r, band, some, w, NULL, c);
}

TEST(a_band_has_the_bits_of_the_whole)
{
    for (int form = 0; form < 2; form++) {
        cl_bench b;
        start(&b, form);
        for (size_t i = 0; i < SD_COUNT(convs); i++) {
            const conv_case *k = &convs[i];
            float *x = cl_numbers(14, (size_t)(k->h * k->w * k->in), 1, 0),
                *w = cl_numbers(15, (size_t)(k->out * k->in * k->k * k->k), 1, 0);
            float *whole = convolve(&b.run, k, 1, x, w, NULL);
            sd_tensor tw = cl_weight(w, 4, (const int64_t[4]){k->out, k->in, k->k, k->k});
            int64_t dim[4];
            assert_true(sd_conv_result((const int64_t[4]){1, k->h, k->w, k->in}, tw.dim, k->c, dim));
            sd_reset(&b.run, 0);
            sd_tensor y = sd_new4(&b.run, 1, dim[1], dim[2], dim[3]);
            for (int64_t at = 0, step = sd_conv_band(k->c); at < dim[1]; at += step)
                convolve_band(&b.run, k, y, x, &tw, at, at + step < dim[1] ? at + step : dim[1]);
            float *bands = cl_read(&b.run, y);
            assert_memory_equal(whole, bands, (size_t)sd_numel(&y) * sizeof *bands);
            free(x), free(w), free(whole), free(bands);
        }
        cl_stop(&b);
    }
}

TEST(weights_in_16_bits_give_the_bits_of_their_floats)
{
    enum { I = 40, O = 72, ROWS = 21 };
    static const uint16_t pool[] = {0x3c00, 0xb800, 0x2e66, 0x7bff, 0x3555, 0x0400, 0xc123};
    uint16_t w16[O * I];
    float w[O * I], *x = cl_numbers(16, ROWS * I, 1, 0);
    for (int type = 0; type < 2; type++)
        for (int form = 0; form < 2; form++) {
            cl_bench b;
            start(&b, form);
            for (size_t i = 0; i < O * I; i++) {
                w16[i] = pool[(i * i + i / 7) % SD_COUNT(pool)];
                w[i] = type ? sdk_bfloat_to_float(w16[i]) : sdk_half_to_float(w16[i]);
            }
            sd_tensor plain = cl_weight(w, 2, (const int64_t[4]){O, I}), packed = plain;
            packed.data = w16;
            packed.dt = type ? SD_BF16 : SD_F16;
            sd_tensor in = sd_new_from(&b.run, 2, (const int64_t[]){ROWS, I}, x);
            float *y = cl_read(&b.run, sd_linear(&b.run, in, &plain, NULL)),
                *z = cl_read(&b.run, sd_linear(&b.run, in, &packed, NULL));
            assert_memory_equal(y, z, ROWS * O * sizeof *y);
            free(y), free(z);
            cl_stop(&b);
        }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_linear_layer_is_the_textbook_sum),
        cmocka_unit_test(a_convolution_is_the_textbook_sum),
        cmocka_unit_test(padding_on_the_wrong_side_exceeds_the_bound),
        cmocka_unit_test(every_shape_of_tile_gives_the_same_bits),
        cmocka_unit_test(a_picture_has_the_same_bits_in_every_batch),
        cmocka_unit_test(a_band_has_the_bits_of_the_whole),
        cmocka_unit_test(weights_in_16_bits_give_the_bits_of_their_floats),
    };
    return cmocka_run_group_tests_name("opencl products", tests, NULL, NULL);
}
