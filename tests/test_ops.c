/* test_ops.c - the backends' operations against plain loops in double, the shape rules, and the same bits for any
 * number of threads, for each picture alone, and on a device again. */
#include <math.h>

#include "test.h"
#include "provider.h"

/* All are held to float32's rounding; the specification to less, since it adds in double. */
static double bound(int provider) { return provider == SPECIFICATION ? 4e-8 : 4e-7; }
#define FOR_PROVIDERS(k) for (int k = next_provider(-1); k < PROVIDERS; k = next_provider(k))

/* ---- convolution */

static double *conv_truth(bench *b, sd_tensor x, const float *w, const float *bias, sd_tensor y, int64_t kh, int64_t kw,
                          sd_conv c)
{
    const float *in = numbers_of(b, x);
    double *out = malloc((size_t)sd_numel(&y) * sizeof *out);
    int64_t zoom = c.enlarge ? 2 : 1, H = x.dim[1] * zoom, W = x.dim[2] * zoom, ci = x.dim[3], co = y.dim[3], at = 0;
    for (int64_t n = 0; n < y.dim[0]; n++)
        for (int64_t oy = 0; oy < y.dim[1]; oy++)
            for (int64_t ox = 0; ox < y.dim[2]; ox++)
                for (int64_t o = 0; o < co; o++, at++) {
                    double s = bias ? bias[o] : 0;
                    for (int64_t i = 0; i < ci; i++)
                        for (int64_t ky = 0; ky < kh; ky++)
                            for (int64_t kx = 0; kx < kw; kx++) {
                                int64_t iy = oy * c.stride + ky - c.pad_top, ix = ox * c.stride + kx - c.pad_left;
                                if (iy >= 0 && iy < H && ix >= 0 && ix < W)
                                    s += (double)in[((n * H + iy) / zoom * (W / zoom) + ix / zoom) * ci + i]
                                        * w[((o * ci + i) * kh + ky) * kw + kx];
                            }
                    out[at] = s;
                }
    return out;
}

TEST(convolution_is_the_textbook_sum)
{
    const struct { int64_t n, h, w, ci, co, k; sd_conv c; } cases[] = {
        {2, 9, 14, 5, 7, 3, {1, 1, 1, 1, 1, false, {0}}},  {1, 8, 8, 16, 32, 3, {2, 1, 1, 1, 1, false, {0}}},
            {1, 7, 9, 3, 8, 3, {2, 0, 0, 1, 1, false, {0}}},
        {1, 6, 5, 9, 13, 3, {1, 1, 1, 1, 1, true, {0}}},
        {2, 5, 6, 40, 9, 1, {1, 0, 0, 0, 0, false, {0}}},  {1, 1, 1, 4, 4, 3, {1, 1, 1, 1, 1, false, {0}}},
            {1, 40, 33, 17, 33, 3, {1, 1, 1, 1, 1, false, {0}}},
    };
    FOR_PROVIDERS(k)
        for (size_t i = 0; i < SD_COUNT(cases); i++) {
            bench b;
            start(&b, k, 2);
            sd_tensor x = random4(&b, cases[i].n, cases[i].h, cases[i].w, cases[i].ci);
            int64_t K = cases[i].k, count = cases[i].co * cases[i].ci * K * K;
            float *w = malloc((size_t)count * sizeof *w), bias[64];
            fill(w, (size_t)count);
            fill(bias, (size_t)cases[i].co);
            sd_tensor tw = {.nd = 4, .dim = {cases[i].co, cases[i].ci, K, K}, .data = w},
                tb = {.nd = 1, .dim = {cases[i].co}, .data = bias};
            sd_tensor y = sd_conv2d(&b.run, x, &tw, &tb, cases[i].c);
            double *truth = conv_truth(&b, x, w, bias, y, K, K, cases[i].c);
            expect_near(&b, y, truth, bound(k));
            free(truth);
            free(w);
            stop(&b);
        }
}

/* Trap 8: the VAE's encoder pads right and bottom only. Padding all round must be told apart. */
TEST(asymmetric_padding_differs_from_symmetric)
{
    const sd_conv right_only = {2, 0, 0, 1, 1, false, {0}}, all_round = {2, 1, 1, 1, 1, false, {0}};
    FOR_PROVIDERS(k) {
        bench b;
        start(&b, k, 1);
        sd_tensor x = random4(&b, 1, 8, 8, 4);
        float w[4 * 4 * 9];
        fill(w, SD_COUNT(w));
        sd_tensor tw = {.nd = 4, .dim = {4, 4, 3, 3}, .data = w};
        sd_tensor right = sd_conv2d(&b.run, x, &tw, NULL, right_only),
            wrong = sd_conv2d(&b.run, x, &tw, NULL, all_round);
        assert_int_equal(right.dim[1], wrong.dim[1]);
        double *truth = conv_truth(&b, x, w, NULL, right, 3, 3, right_only);
        expect_near(&b, right, truth, bound(k));
        assert_true(rel_l2(numbers_of(&b, wrong), truth, (size_t)sd_numel(&right)) > 0.1);
        free(truth);
        stop(&b);
    }
}

/* ---- linear layers and weight types */

static uint16_t to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)(u >> 16);
}

TEST(weights_of_any_type_and_alignment_give_the_same_numbers)
{
    enum { I = 37, O = 21 };
    static float w[O * I];
    static uint16_t half[O * I], brain[O * I];
    static unsigned char odd[O * I * 4 + 1];
    /* 1, -0.5, ~0.1, subnormal, 65504, ... */
    static const uint16_t pool[] = {0x3c00, 0xb800, 0x2e66, 0x0001, 0x7bff, 0x8400, 0x3555};
    static const sd_dtype dt[] = {SD_F16, SD_BF16, SD_F32};
    for (int type = 0; type < 3; type++) {
        for (size_t i = 0; i < O * I; i++) {
            half[i] = pool[i % SD_COUNT(pool)];
            brain[i] = to_bf16(rnd());
            w[i] = type == 0 ? sdk_half_to_float(half[i]) : type == 1 ? sdk_bfloat_to_float(brain[i]) : rnd();
        }
        memcpy(odd + 1, type == 0 ? (const void *)half : type == 1 ? (const void *)brain : w,
               (size_t)(O * I) * (type == 2 ? 4 : 2));
        sd_tensor plain = {.nd = 2, .dim = {O, I}, .data = w},
            other = {.nd = 2, .dim = {O, I}, .dt = dt[type], .data = odd + 1}, as_conv = other;
        as_conv.nd = 4;
        as_conv.dim[2] = as_conv.dim[3] = 1;
        FOR_PROVIDERS(k) {
            bench b;
            start(&b, k, 2);
            sd_tensor x = random4(&b, 1, 5, 3, I);
            const float *a = numbers_of(&b, sd_linear(&b.run, x, &plain, NULL)),
                *c = numbers_of(&b, sd_linear(&b.run, x, &other, NULL)),
                *d = numbers_of(&b, sd_linear(&b.run, x, &as_conv, NULL));
            assert_memory_equal(a, c, 15 * O * sizeof *a);
            assert_memory_equal(a, d, 15 * O * sizeof *a);
            stop(&b);
        }
    }
}

/* Few rows are multiplied in another order than many; a row's bits must not show that. */
TEST(rows_of_a_linear_layer_do_not_depend_on_their_number)
{
    enum { I = 451, O = 203, MOST = 300 };
    static float w[O * I], bias[O];
    static uint16_t half[O * I], brain[O * I];
    fill(w, O * I);
    fill(bias, O);
    for (size_t i = 0; i < O * I; i++) {
        brain[i] = to_bf16(w[i]);
        half[i] = (uint16_t)(brain[i] % 0x7c00);   /* finite */
    }
    const sd_tensor weights[] = {{.nd = 2, .dim = {O, I}, .data = w},
                                 {.nd = 2, .dim = {O, I}, .dt = SD_F16, .data = half},
                                 {.nd = 2, .dim = {O, I}, .dt = SD_BF16, .data = brain}},
        of_bias = {.nd = 1, .dim = {O}, .data = bias};
    for (int i = 0; i < 6; i++) {
        const sd_tensor *weight = &weights[i / 2], *added = i % 2 ? &of_bias : NULL;
        bench b;
        start(&b, OWN, 1);
        sd_tensor x = random4(&b, 1, 1, MOST, I);
        const float *all = numbers_of(&b, sd_linear(&b.run, x, weight, added));
        size_t mark = sd_mark(&b.run);
        for (int64_t n = 1; n <= MOST; n += n < 100 ? 1 + 6 * (i > 0) : 61) {
            sd_tensor few = x;
            few.dim[2] = n;
            b.cpu.threads = 1 + (int)n % 2;
            assert_memory_equal(sd_f32(sd_linear(&b.run, few, weight, added)), all, (size_t)(n * O) * sizeof *all);
            sd_reset(&b.run, mark);
        }
        stop(&b);
    }
}

/* So many rows of a large weight are a turned product in two parts, whose columns threads take in unequal shares. */
TEST(a_linear_layer_has_the_same_bits_however_threads_share_it)
{
    enum { I = 1500, O = 1403, MOST = 288, FEW = 32 };
    float *w = malloc((size_t)O * I * sizeof *w);
    assert_non_null(w);
    fill(w, (size_t)O * I);
    const sd_tensor weight = {.nd = 2, .dim = {O, I}, .data = w};
    bench b;
    start(&b, OWN, 1);
    sd_tensor x = random4(&b, 1, 1, MOST, I), part = x;
    part.dim[2] = FEW;
    const float *one = numbers_of(&b, sd_linear(&b.run, x, &weight, NULL));
    for (size_t i = 0; i < (size_t)O * MOST; i++) assert_true(one[i] != 0);   /* memory is zero before it is written */
    for (b.cpu.threads = 2; b.cpu.threads <= 5; b.cpu.threads++)
        assert_memory_equal(numbers_of(&b, sd_linear(&b.run, x, &weight, NULL)), one,
                            (size_t)O * MOST * sizeof *one);
    for (int i = 0; i < MOST / FEW; i++, part.data = (float *)part.data + (size_t)FEW * I)
        assert_memory_equal(numbers_of(&b, sd_linear(&b.run, part, &weight, NULL)), one + (size_t)i * FEW * O,
                            (size_t)O * FEW * sizeof *one);
    stop(&b);
    free(w);
}

/* The same of a convolution that is unfolded: its weights are packed from where they lie, or by way of floats. */
TEST(weights_of_an_unfolded_convolution_may_be_of_any_type_and_alignment)
{
    enum { I = 37, O = 53, NUMBERS = O * I * 9, PIXELS = 3 * 2 };
    static float w[NUMBERS];
    static uint16_t half[NUMBERS];
    static unsigned char odd[NUMBERS * 4 + 1];
    static const sd_dtype dt[] = {SD_F16, SD_BF16, SD_F32};
    const sd_conv by_two = {2, 1, 1, 1, 1, false, {0}};
    for (int type = 0; type < 3; type++) {
        for (size_t i = 0; i < NUMBERS; i++) {
            half[i] = type == 0 ? (uint16_t)(0x2e66 + i % 999) : to_bf16(rnd());
            w[i] = type == 0 ? sdk_half_to_float(half[i]) : type == 1 ? sdk_bfloat_to_float(half[i]) : rnd();
        }
        const void *stored = type == 2 ? (const void *)w : half;
        memcpy(odd + 1, stored, (size_t)NUMBERS * (type == 2 ? 4 : 2));
        sd_tensor plain = {.nd = 4, .dim = {O, I, 3, 3}, .data = w}, even = plain, uneven = plain;
        even.dt = uneven.dt = dt[type];
        even.data = type == 2 ? (void *)w : half;
        uneven.data = odd + 1;
        FOR_PROVIDERS(k) {
            bench b;
            start(&b, k, 2);
            sd_tensor x = random4(&b, 1, 5, 3, I);
            const float *a = numbers_of(&b, sd_conv2d(&b.run, x, &plain, NULL, by_two)),
                *c = numbers_of(&b, sd_conv2d(&b.run, x, &even, NULL, by_two)),
                *d = numbers_of(&b, sd_conv2d(&b.run, x, &uneven, NULL, by_two));
            assert_memory_equal(a, c, PIXELS * O * sizeof *a);
            assert_memory_equal(a, d, PIXELS * O * sizeof *a);
            stop(&b);
        }
    }
}

/* ---- attention */

typedef struct asked { int64_t n, t, s, c; const float *q, *k, *v; } asked;

static double *attention_truth(asked a, int heads, bool causal, double scale)
{
    int64_t N = a.n, T = a.t, S = a.s, C = a.c, d = C / heads;
    double *out = calloc((size_t)(N * T * C), sizeof *out), *p = malloc((size_t)S * sizeof *p);
    for (int64_t n = 0; n < N; n++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t t = 0; t < T; t++) {
                int64_t seen = causal ? t + 1 : S;
                double max = -INFINITY, sum = 0;
                for (int64_t s = 0; s < seen; s++) {
                    p[s] = 0;
                    for (int64_t i = 0; i < d; i++)
                        p[s] += (double)a.q[(n * T + t) * C + h * d + i] * a.k[(n * S + s) * C + h * d + i];
                    p[s] *= scale;
                    max = fmax(max, p[s]);
                }
                for (int64_t s = 0; s < seen; s++) sum += p[s] = exp(p[s] - max);
                for (int64_t s = 0; s < seen; s++)
                    for (int64_t i = 0; i < d; i++)
                        out[(n * T + t) * C + h * d + i] += p[s] / sum * a.v[(n * S + s) * C + h * d + i];
            }
    free(p);
    return out;
}

TEST(attention_is_softmax_of_scaled_products)
{
    const struct { int64_t n, t, s, c; int heads; bool causal; } cases[] = {
        {2, 9, 77, 40, 5, false}, {1, 77, 77, 48, 4, true}, {1, 400, 400, 16, 2, false}, {1, 1, 1, 8, 8, true},
            {2, 170, 33, 24, 1, false}};
    FOR_PROVIDERS(k)
        for (size_t i = 0; i < SD_COUNT(cases); i++) {
            bench b;
            start(&b, k, 2);
            sd_tensor q = scaled4(&b, 1, cases[i].n, cases[i].t, cases[i].c, 4, 0),   /* logits with contrast */
                key = random4(&b, 1, cases[i].n, cases[i].s, cases[i].c),
                v = random4(&b, 1, cases[i].n, cases[i].s, cases[i].c);
            q = sd_view3(&b.run, q, cases[i].n, cases[i].t, cases[i].c);
            key = sd_view3(&b.run, key, cases[i].n, cases[i].s, cases[i].c);
            v = sd_view3(&b.run, v, cases[i].n, cases[i].s, cases[i].c);
            sd_tensor y = sd_attention(&b.run, q, key, v, cases[i].heads, cases[i].causal);
            asked a = {cases[i].n, cases[i].t, cases[i].s, cases[i].c,
                       numbers_of(&b, q), numbers_of(&b, key), numbers_of(&b, v)};
            double scale = 1 / sqrt((double)cases[i].c / cases[i].heads);
            double *truth = attention_truth(a, cases[i].heads, cases[i].causal, scale);
            size_t n = (size_t)sd_numel(&y);
            double limit = k ? 6e-7 : 1.5e-7;   /* the logits in between are floats in both */
            expect_near(&b, y, truth, limit);
            if (cases[i].t > 1) {   /* traps 4 and 17: another number of heads, and no mask where there is one, must
                                     * exceed the bound */
                const float *got = numbers_of(&b, y);
                double *heads = attention_truth(a, cases[i].heads == 1 ? 2 : 1, cases[i].causal, scale);
                assert_true(rel_l2(got, heads, n) > 100 * limit);
                double *mask = attention_truth(a, cases[i].heads, false, scale);
                assert_true(cases[i].causal == (rel_l2(got, mask, n) > 100 * limit));
                free(heads);
                free(mask);
            }
            free(truth);
            stop(&b);
        }
}

/* ---- norms */

TEST(group_norm_is_over_groups_and_pixels)
{
    const struct { int64_t h, w, c; int groups; double mean;
                  } cases[] = {{9, 7, 24, 4, 0}, {33, 31, 8, 2, 50}, {1, 1, 6, 3, 1}, {40, 40, 20, 20, -3}};
    FOR_PROVIDERS(k)
        for (size_t i = 0; i < SD_COUNT(cases); i++) {
            bench b;
            start(&b, k, 2);
            int64_t C = cases[i].c, P = cases[i].h * cases[i].w, per = C / cases[i].groups;
            sd_tensor x = scaled4(&b, 2, cases[i].h, cases[i].w, C, 1, (float)cases[i].mean);
            float gain[64], bias[64];
            fill(gain, (size_t)C);
            fill(bias, (size_t)C);
            sd_tensor g = {.nd = 1, .dim = {C}, .data = gain}, o = {.nd = 1, .dim = {C}, .data = bias};
            sd_tensor y = sd_group_norm(&b.run, x, &g, &o, cases[i].groups, 1e-5, false),
                z = sd_group_norm(&b.run, x, &g, &o, cases[i].groups, 1e-5, true);
            double *truth = malloc((size_t)sd_numel(&x) * sizeof *truth),
                *act = malloc((size_t)sd_numel(&x) * sizeof *act);
            const float *both = numbers_of(&b, x);
            for (int64_t n = 0; n < 2; n++)
                for (int64_t c0 = 0; c0 < C; c0 += per) {
                    const float *in = both + n * P * C;
                    double mean = 0, var = 0;
                    for (int64_t p = 0; p < P; p++)
                        for (int64_t c = c0; c < c0 + per; c++) mean += in[p * C + c] / (double)(P * per);
                    for (int64_t p = 0; p < P; p++)
                        for (int64_t c = c0; c < c0 + per; c++)
                            var += (in[p * C + c] - mean) * (in[p * C + c] - mean) / (double)(P * per);
                    for (int64_t p = 0; p < P; p++)
                        for (int64_t c = c0; c < c0 + per; c++) {
                            double v = (in[p * C + c] - mean) / sqrt(var + 1e-5) * gain[c] + bias[c];
                            truth[n * P * C + p * C + c] = v;
                            act[n * P * C + p * C + c] = v / (1 + exp(-v));
                        }
                }
            /* A mean of 50 costs torch's one-pass form 50 times the rounding; here the mean is taken off first. */
            expect_near(&b, y, truth, 2e-7);
            expect_near(&b, z, act, 3e-7);
            sd_tensor same = sd_silu(&b.run, y);   /* fused or not: the same bits */
            assert_memory_equal(numbers_of(&b, same), numbers_of(&b, z), (size_t)sd_numel(&y) * 4);
            sd_group_norm_(&b.run, x, &g, &o, cases[i].groups, 1e-5, true);   /* in place: too */
            assert_memory_equal(numbers_of(&b, x), numbers_of(&b, z), (size_t)sd_numel(&y) * 4);
            free(truth);
            free(act);
            stop(&b);
        }
}

/* Long enough to be cut into pieces for threads. */
TEST(activations_are_of_each_number)
{
    static const sd_act acts[] = {SD_ACT_SILU, SD_ACT_RELU, SD_ACT_SOFT_CLAMP, SD_ACT_TO_UNIT, SD_ACT_FROM_UNIT};
    FOR_PROVIDERS(k)
        for (size_t a = 0; a < SD_COUNT(acts); a++) {
            bench b;
            start(&b, k, 2);
            sd_tensor x = random4(&b, 1, 97, 89, 7);
            size_t n = (size_t)sd_numel(&x);
            double *truth = malloc(n * sizeof *truth);
            const float *in = numbers_of(&b, x);
            for (size_t i = 0; i < n; i++) {
                double v = in[i];
                const double values[] = {v / (1 + exp(-v)), v < 0 ? 0 : v, 3 * tanh(v / 3), (v + 1) / 2, 2 * v - 1};
                truth[i] = values[a];
            }
            sd_act_(&b.run, x, acts[a]);
            expect_near(&b, x, truth, 1.5e-7);
            free(truth);
            stop(&b);
        }
}

TEST(layer_norm_is_over_columns)
{
    FOR_PROVIDERS(k) {
        bench b;
        start(&b, k, 2);
        enum { C = 53 };
        sd_tensor x = scaled4(&b, 1, 3, 11, C, 1, 7);
        const float *in = numbers_of(&b, x);
        float gain[C], bias[C];
        fill(gain, C);
        fill(bias, C);
        sd_tensor g = {.nd = 1, .dim = {C}, .data = gain}, o = {.nd = 1, .dim = {C}, .data = bias};
        sd_tensor y = sd_layer_norm(&b.run, x, &g, &o, 1e-5);
        double truth[33 * C];
        for (int r = 0; r < 33; r++) {
            double mean = 0, var = 0;
            for (int c = 0; c < C; c++) mean += in[r * C + c] / (double)C;
            for (int c = 0; c < C; c++) var += (in[r * C + c] - mean) * (in[r * C + c] - mean) / C;
            for (int c = 0; c < C; c++)
                truth[r * C + c] = (in[r * C + c] - mean) / sqrt(var + 1e-5) * gain[c] + bias[c];
        }
        expect_near(&b, y, truth, 2e-7);
        stop(&b);
    }
}

/* ---- the small ones */

TEST(upsampling_repeats_and_follows_the_skips_size)
{
    FOR_PROVIDERS(k) {
        bench b;
        start(&b, k, 1);
        /* rows 0 0 1 1 2 of floor(i 3/5), columns 0 0 1 1 */
        sd_tensor x = random4(&b, 1, 3, 2, 1), y = sd_upsample(&b.run, x, 5, 4);
        const float *in = numbers_of(&b, x), *out = numbers_of(&b, y);
        const int row[] = {0, 0, 1, 1, 2}, col[] = {0, 0, 1, 1};
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 4; j++) assert_true(out[i * 4 + j] == in[row[i] * 2 + col[j]]);
        stop(&b);
    }
}

/* Trap 3: the value comes first, the gate second. */
TEST(geglu_gates_with_the_second_half)
{
    const float in[] = {2, 3, 1, -1};
    FOR_PROVIDERS(k) {
        bench b;
        start(&b, k, 1);
        sd_tensor x = sd_new_from(&b.run, 2, (const int64_t[]){1, 4}, in);
        const float *y = numbers_of(&b, sd_geglu(&b.run, x));
        assert_true(fabs(y[0] - 2 * 0.8413447460685429) < 1e-6);     /* 2 gelu(1) */
        assert_true(fabs(y[1] + 3 * 0.15865525393145707) < 1e-6);    /* 3 gelu(-1) */
        stop(&b);
    }
}

TEST(joining_and_adding)
{
    FOR_PROVIDERS(k) {
        bench b;
        start(&b, k, 2);
        sd_tensor a = random4(&b, 2, 2, 2, 3), c = random4(&b, 2, 2, 2, 2), y = sd_concat(&b.run, a, c),
            bias = sd_view2(&b.run, random4(&b, 1, 1, 2, 5), 2, 5), z = sd_new4(&b.run, 2, 2, 2, 5);
        sd_copy(&b.run, z, y);
        sd_add_channels_(&b.run, z, bias);
        sd_tensor twice = sd_concat(&b.run, a, c);
        sd_add_(&b.run, twice, y);
        sd_tensor sum = sd_new4(&b.run, 2, 2, 2, 5), other = sd_concat(&b.run, a, c);
        sd_add_into(&b.run, sum, z, y);
        sd_add_into(&b.run, other, z, other);
        const float *ns = numbers_of(&b, sum), *no = numbers_of(&b, other);
        const float *na = numbers_of(&b, a), *nc = numbers_of(&b, c), *ny = numbers_of(&b, y), *nz = numbers_of(&b, z),
            *nb = numbers_of(&b, bias), *nt = numbers_of(&b, twice);
        for (int p = 0; p < 8; p++)
            for (int i = 0; i < 5; i++) {
                float want = i < 3 ? na[p * 3 + i] : nc[p * 2 + i - 3];
                assert_true(ny[p * 5 + i] == want);
                assert_true(nz[p * 5 + i] == want + nb[p / 4 * 5 + i]);
                assert_true(nt[p * 5 + i] == want + want);
                assert_true(ns[p * 5 + i] == nz[p * 5 + i] + want && no[p * 5 + i] == ns[p * 5 + i]);
            }
        stop(&b);
    }
}

TEST(words_and_their_positions_are_looked_up)
{
    enum { WORDS = 11, T = 5, C = 7 };
    static const int32_t ids[2 * T] = {0, 10, 3, 3, 7, 10, 9, 0, 1, 2};
    float token[WORDS * C], position[T * C];
    uint16_t brain[WORDS * C];
    fill(position, SD_COUNT(position));
    for (size_t i = 0; i < SD_COUNT(token); i++) {
        brain[i] = to_bf16(rnd());
        token[i] = sdk_bfloat_to_float(brain[i]);
    }
    sd_tensor words = {.nd = 2, .dim = {WORDS, C}, .dt = SD_BF16, .data = brain},
        places = {.nd = 2, .dim = {T, C}, .data = position};
    FOR_PROVIDERS(k) {
        bench b;
        start(&b, k, 1);
        const float *y = numbers_of(&b, sd_embed(&b.run, ids, 2, T, &words, &places)),
            *z = numbers_of(&b, sd_embed(&b.run, ids, 2, T, &words, NULL));
        for (int i = 0; i < 2 * T * C; i++) {
            float word = token[ids[i / C] * C + i % C];
            assert_true(y[i] == word + position[i % (T * C)]);
            assert_true(z[i] == word);
        }
        stop(&b);
    }
}

/* cos(v f) and sin(v f), f = 10000^(-i / (HALF - shift)), rounded once; and nobody has other bits. */
TEST(a_sinusoid_is_the_formula_and_the_same_everywhere)
{
    enum { N = 3, HALF = 6, DIM = 2 * HALF };
    static const float value[N] = {0, 7.25f, 999};
    float want[N * DIM];
    FOR_PROVIDERS(k)
        for (int flip = 0; flip < 2; flip++) {
            bench b;
            start(&b, k, 1);
            sdk_sinusoid(want, value, N, DIM, flip, 1);
            for (int i = 0; i < N * DIM; i++) {
                double angle = value[i / DIM] * pow(10000, -(double)(i % HALF) / (HALF - 1));
                double truth = (i % DIM < HALF) == (flip != 0) ? cos(angle) : sin(angle);
                assert_true(fabs(want[i] - truth) < 3.1e-8);
            }
            const float *y = numbers_of(&b, sd_sinusoid(&b.run, N, DIM, value, flip, 1));
            assert_memory_equal(y, want, sizeof want);
            stop(&b);
        }
}

/* ---- one result for any number of threads */

/* A device has no threads of ours: it is asked again, with other numbers in between. */
TEST(bits_do_not_depend_on_the_number_of_threads)
{
    const int threads[] = {1, 2, 3, 7};
    enum { C = 40, O = 72 };
    static float w[O * C * 9], gain[C], first[2 * 23 * 29 * O];
    fill(w, SD_COUNT(w));
    fill(gain, C);
    FOR_PROVIDERS(k)
        for (int i = 0; i < 4; i++) {
            if (k == BLAS) continue;   /* its products depend on them */
            bench b;
            start(&b, k, threads[i]);
            reseed(99);
            sd_tensor x = random4(&b, 2, 23, 29, C), g = {.nd = 1, .dim = {C}, .data = gain},
                tw = {.nd = 4, .dim = {O, C, 3, 3}, .data = w};
            sd_tensor h = sd_group_norm(&b.run, x, &g, &g, 4, 1e-5, true);
            sd_tensor tokens = sd_view3(&b.run, h, 2, 23 * 29, C);
            h = sd_view4(&b.run, sd_attention(&b.run, tokens, tokens, tokens, 5, false), 2, 23, 29, C);
            h = sd_conv2d(&b.run, h, &tw, NULL, (sd_conv){1, 1, 1, 1, 1, false, {0}});
            const float *out = numbers_of(&b, h);
            if (i == 0) memcpy(first, out, sizeof first);
            else assert_memory_equal(first, out, sizeof first);
            stop(&b);
        }
}

/* Products with more than one task, weights of 16 bits, a convolution that is unfolded: whole, and each picture
 * alone. */
TEST(products_do_not_depend_on_threads_or_company)
{
    const int threads[] = {1, 2, 3, 7};
    enum { N = 3, H = 25, W = 31, C = 40, O = 72, HALF = 13 * 16 };
    static uint16_t brain[O * C * 9];
    static float in[N * H * W * C], first[N * H * W * O], first_half[N * HALF * O];
    for (size_t i = 0; i < SD_COUNT(brain); i++) brain[i] = to_bf16(rnd());
    fill(in, SD_COUNT(in));
    sd_tensor matrix = {.nd = 2, .dim = {O, C}, .dt = SD_BF16, .data = brain},
        kernel = {.nd = 4, .dim = {O, C, 3, 3}, .dt = SD_BF16, .data = brain};
    FOR_PROVIDERS(k)
        for (int i = 0; i < 4; i++)
            for (int alone = -1; alone < (i == 1 ? N : 0); alone++) {   /* -1: all of them */
                if (k == BLAS) continue;
                bench b;
                start(&b, k, threads[i]);
                size_t skip = alone < 0 ? 0 : (size_t)alone, pictures = alone < 0 ? N : 1;
                sd_tensor x = sd_new_from(&b.run, 4, (const int64_t[]){alone < 0 ? N : 1, H, W, C},
                                          in + skip * H * W * C);
                sd_tensor y = sd_linear(&b.run, x, &matrix, NULL),
                    z = sd_conv2d(&b.run, x, &kernel, NULL, (sd_conv){2, 1, 1, 1, 1, false, {0}});
                const float *ny = numbers_of(&b, y), *nz = numbers_of(&b, z);
                assert_int_equal(sd_numel(&z), (int64_t)pictures * HALF * O);
                if (i == 0) {
                    memcpy(first, ny, sizeof first);
                    memcpy(first_half, nz, sizeof first_half);
                }
                assert_memory_equal(first + skip * H * W * O, ny, pictures * H * W * O * sizeof *first);
                assert_memory_equal(first_half + skip * HALF * O, nz, pictures * HALF * O * sizeof *first);
                stop(&b);
            }
}

/* One thread, and two, unfold the first pixels and multiply them in parts; three threads unfold all of them and share
 * the output channels. Of the second ones two threads unfold a part at a time, because they have many channels. There
 * are more output channels than a part has, and a part of the last pixels. */
TEST(an_unfolded_convolution_does_not_depend_on_how_its_pixels_are_shared_out)
{
    enum { MOST_WEIGHTS = 1388 * 9 * 9, MOST_CHANNELS = 400, MOST = 37 * 39 * 400 };
    static const struct { int64_t height, width, in, out; int stride; } cases[] = {{37, 39, 5, MOST_CHANNELS, 1},
                                                                                   {52, 51, 1388, 9, 2}};
    static float w[MOST_WEIGHTS], bias[MOST_CHANNELS], first[MOST];
    fill(w, SD_COUNT(w));
    fill(bias, SD_COUNT(bias));
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        int64_t I = cases[i].in, O = cases[i].out;
        sd_tensor kernel = {.nd = 4, .dim = {O, I, 3, 3}, .data = w}, b = {.nd = 1, .dim = {O}, .data = bias};
        FOR_PROVIDERS(k)
            for (int threads = 1; threads <= 3; threads++) {
                bench t;
                if (k == BLAS) continue;   /* its products depend on them */
                start(&t, k, threads);
                reseed(99);
                sd_tensor x = random4(&t, 1, cases[i].height, cases[i].width, I);
                sd_tensor y = sd_conv2d(&t.run, x, &kernel, &b, (sd_conv){cases[i].stride, 1, 1, 1, 1, false, {0}});
                size_t size = (size_t)sd_numel(&y) * sizeof *first;
                assert_true(size > 0 && size <= sizeof first);
                if (threads == 1) memcpy(first, numbers_of(&t, y), size);
                else assert_memory_equal(first, numbers_of(&t, y), size);
                stop(&t);
            }
    }
}

/* ---- errors */

TEST(wrong_shapes_are_named)
{
    sd_error err = {0};
    sd_run r = {.err = &err, .be = &sd_backend_null, .step = "mid_block.resnets.0"};
    sd_tensor x = sd_new4(&r, 1, 4, 4, 8), w = {.nd = 4, .dim = {8, 9, 3, 3}, .name = "conv1.weight"};
    sd_conv2d(&r, x, &w, NULL, (sd_conv){1, 1, 1, 1, 1, false, {0}});
    assert_int_equal(err.status, SD_ERR_SHAPE);
    assert_string_equal(err.text,
                        "mid_block.resnets.0: conv2d expects a weight [O,8,kh,kw], found [8,9,3,3] in conv1.weight");
    sd_tensor y = sd_silu(&r, x);   /* sticks: later operations do nothing */
    assert_int_equal(y.nd, 0);
    const struct { int what; const char *part;
                  } cases[] = {{0, "linear"}, {1, "attention"}, {2, "group_norm"}, {3, "concat"}, {4, "add"},
                               {5, "geglu"},
                                                            {6, "view"}, {7, "layer_norm"}, {8, "upsample"},
                                                                {9, "add_channels"}, {10, "larger"}, {11, "embed"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error_clear(&err);
        sd_tensor g = {.nd = 1, .dim = {5}}, t = sd_new3(&r, 1, 4, 9), m = {.nd = 2, .dim = {3, 7}};
        int32_t id = 0;
        switch (cases[i].what) {
        case 0: sd_linear(&r, x, &m, NULL); break;
        case 1: sd_attention(&r, t, t, t, 2, false); break;
        case 2: sd_group_norm(&r, x, &g, &g, 3, 1e-5, false); break;
        case 3: sd_concat(&r, x, t); break;
        case 4: sd_add_(&r, x, t); break;
        case 5: sd_geglu(&r, t); break;
        case 6: sd_view3(&r, x, 1, 2, 3); break;
        case 7: sd_layer_norm(&r, x, &g, &g, 1e-5); break;
        case 8: sd_upsample(&r, t, 2, 2); break;
        case 9: sd_add_channels_(&r, x, t); break;
        case 10: w.dim[1] = 8; w.dim[2] = 9; sd_conv2d(&r, x, &w, NULL, (sd_conv){1, 1, 1, 1, 1, false, {0}}); break;
        default: sd_embed(&r, &id, 1, 9, &m, &m); break;
        }
        assert_int_equal(err.status, SD_ERR_SHAPE);
        assert_non_null(strstr(err.text, cases[i].what == 10 ? "kernel" : cases[i].part));
    }
    sd_error_clear(&err);
    int32_t bad = 3;
    sd_tensor table3 = {.nd = 2, .dim = {3, 7}};
    sd_embed(&r, &bad, 1, 1, &table3, &table3);
    assert_int_equal(err.status, SD_ERR_ARG);
}

TEST(the_null_backend_knows_memory_and_work_exactly)
{
    enum { C = 16 };
    static float w[C * C * 9];
    fill(w, SD_COUNT(w));
    sd_tensor tw = {.nd = 4, .dim = {C, C, 3, 3}, .data = w};
    sd_error err = {0};
    sd_run dry = {.err = &err, .be = &sd_backend_null};
    bench b;
    start(&b, OWN, 2);
    sd_run *runs[] = {&dry, &b.run};
    for (int i = 0; i < 2; i++) {
        sd_tensor x = sd_new4(runs[i], 1, 10, 10, C);
        if (x.data) fill(sd_f32(x), 1600);
        size_t mark = sd_mark(runs[i]);
        sd_tensor y = sd_silu(runs[i], sd_conv2d(runs[i], x, &tw, NULL, (sd_conv){1, 1, 1, 1, 1, false, {0}}));
        y = sd_move_down(runs[i], mark, y);
        assert_true(!y.data || (unsigned char *)y.data == (unsigned char *)x.data + 1600 * 4);
        assert_int_equal(runs[i]->arena.peak, 3 * 1600 * 4);
        assert_int_equal(runs[i]->arena.used, 2 * 1600 * 4);
        assert_true(runs[i]->flops == 2.0 * 1600 * C * 9);
    }
    stop(&b);
}

/* By a gap that is larger than the tensor, smaller, and too small for pieces of their own. */
TEST(what_is_kept_moves_down_whole)
{
    const int64_t gaps[] = {5000000, 1000000, 300000, 7};
    const int threads[] = {1, 2, 7};
    for (size_t g = 0; g < SD_COUNT(gaps); g++)
        for (size_t t = 0; t < SD_COUNT(threads); t++) {
            bench b;
            start(&b, OWN, threads[t]);
            size_t mark = sd_mark(&b.run);
            sd_new2(&b.run, 1, gaps[g]);
            sd_tensor y = sd_new2(&b.run, 1, 3000001);
            for (int i = 0; i < 3000001; i++) sd_f32(y)[i] = (float)i;
            y = sd_move_down(&b.run, mark, y);
            assert_ptr_equal(y.data, b.run.arena.base + mark);
            for (int i = 0; i < 3000001; i++)
                if (sd_f32(y)[i] != (float)i) fail_msg("number %d is %f", i, (double)sd_f32(y)[i]);
            stop(&b);
        }
}

TEST(cancelling_stops_with_its_own_status)
{
    sd_halt halt = {.writing = {0}};
    bench b;
    start(&b, OWN, 2);
    sd_flag_set(&halt.stop, 1);
    b.err.halt = &halt;
    sd_new2(&b.run, 2, 2);
    assert_int_equal(b.err.status, SD_ERR_CANCELLED);
    stop(&b);
}

TEST(running_out_of_working_memory_is_an_error)
{
    bench b;
    start(&b, OWN, 1);
    sd_new4(&b.run, 1, 10000, 10000, 64);
    assert_int_equal(b.err.status, SD_ERR_MEMORY);
    sd_error_clear(&b.err);
    sd_new4(&b.run, INT64_MAX / 8, INT64_MAX / 8, 4, 4);
    assert_int_equal(b.err.status, SD_ERR_SHAPE);
    stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution_is_the_textbook_sum),
        cmocka_unit_test(asymmetric_padding_differs_from_symmetric),
        cmocka_unit_test(weights_of_any_type_and_alignment_give_the_same_numbers),
        cmocka_unit_test(rows_of_a_linear_layer_do_not_depend_on_their_number),
        cmocka_unit_test(a_linear_layer_has_the_same_bits_however_threads_share_it),
        cmocka_unit_test(weights_of_an_unfolded_convolution_may_be_of_any_type_and_alignment),
        cmocka_unit_test(attention_is_softmax_of_scaled_products),
        cmocka_unit_test(group_norm_is_over_groups_and_pixels),
        cmocka_unit_test(activations_are_of_each_number),
        cmocka_unit_test(layer_norm_is_over_columns),
        cmocka_unit_test(upsampling_repeats_and_follows_the_skips_size),
        cmocka_unit_test(geglu_gates_with_the_second_half),
        cmocka_unit_test(joining_and_adding),
        cmocka_unit_test(words_and_their_positions_are_looked_up),
        cmocka_unit_test(a_sinusoid_is_the_formula_and_the_same_everywhere),
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(products_do_not_depend_on_threads_or_company),
        cmocka_unit_test(an_unfolded_convolution_does_not_depend_on_how_its_pixels_are_shared_out),
        cmocka_unit_test(wrong_shapes_are_named),
        cmocka_unit_test(the_null_backend_knows_memory_and_work_exactly),
        cmocka_unit_test(what_is_kept_moves_down_whole),
        cmocka_unit_test(cancelling_stops_with_its_own_status),
        cmocka_unit_test(running_out_of_working_memory_is_an_error),
    };
    return cmocka_run_group_tests_name("ops", tests, NULL, close_providers);
}
