/* test_opencl_attention.c - attention on an OpenCL device, in the form for CPUs and in that for GPUs: against plain
 * loops in double, for any head, mask and number of keys, wherever the largest logit is, and the same bits in any
 * company. */
#include "opencl.h"

#include <math.h>
#include <stdlib.h>

typedef struct sizes { int64_t n, t, s, heads, d; bool causal; } sizes;
typedef struct numbers { float *q, *k, *v; } numbers;

static int64_t width(sizes z) { return z.heads * z.d; }
static size_t q_size(sizes z) { return (size_t)(z.n * z.t * width(z)); }

/* Logits grow along the keys by `drift`, which has the first coordinate of each head. */
static numbers draw(sizes z, double drift)
{
    size_t keys = (size_t)(z.n * z.s * width(z));
    numbers x = {cl_numbers(1, q_size(z), 3, 0), cl_numbers(2, keys, 1, 0), cl_numbers(3, keys, 1, 0)};
    for (size_t i = 0; drift != 0 && i < q_size(z); i += (size_t)z.d) x.q[i] = (float)sqrt((double)z.d);
    for (size_t i = 0; drift != 0 && i < keys; i += (size_t)z.d)
        x.k[i] = (float)(drift * (double)((int64_t)i / width(z) % z.s) / (double)z.s);
    return x;
}

static void drop(numbers x)
{
    free(x.q);
    free(x.k);
    free(x.v);
}

/* One query's result in double */
static void truth(sizes z, numbers x, int64_t n, int64_t t, int64_t h, double *out)
{
    int64_t C = width(z), seen = z.causal ? t + 1 : z.s;
    double max = -INFINITY, sum = 0, *logit = malloc((size_t)seen * sizeof *logit);
    assert_non_null(logit);
    for (int64_t s = 0; s < seen; s++) {
        logit[s] = 0;
        for (int64_t i = 0; i < z.d; i++)
            logit[s] += (double)x.q[(n * z.t + t) * C + h * z.d + i] * x.k[(n * z.s + s) * C + h * z.d + i];
        logit[s] /= sqrt((double)z.d);
        max = fmax(max, logit[s]);
    }
    for (int64_t i = 0; i < z.d; i++) out[i] = 0;
    for (int64_t s = 0; s < seen; s++) {
        double e = exp(logit[s] - max);
        sum += e;
        for (int64_t i = 0; i < z.d; i++) out[i] += e * x.v[(n * z.s + s) * C + h * z.d + i];
    }
    for (int64_t i = 0; i < z.d; i++) out[i] /= sum;
    free(logit);
}

/* Over every `step`-th query */
static double error(sizes z, numbers x, const float *y, int64_t step)
{
    double miss = 0, size = 0, want[512];
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t t = 0; t < z.t; t += step)
            for (int64_t h = 0; h < z.heads; h++) {
                truth(z, x, n, t, h, want);
                for (int64_t i = 0; i < z.d; i++) {
                    double e = y[((n * z.t + t) * z.heads + h) * z.d + i] - want[i];
                    miss += e * e;
                    size += want[i] * want[i];
                }
            }
    return sqrt(miss / size);
}

static float *attend(cl_bench *b, sizes z, numbers x)
{
    sd_reset(&b->run, 0);
    const int64_t qs[] = {z.n, z.t, width(z)}, ks[] = {z.n, z.s, width(z)};
    sd_tensor q = sd_new_from(&b->run, 3, qs, x.q), k = sd_new_from(&b->run, 3, ks, x.k),
              v = sd_new_from(&b->run, 3, ks, x.v);
    return cl_read(&b->run, sd_attention(&b->run, q, k, v, (int)z.heads, z.causal));
}

/* `check` in the form for CPUs, and in that for GPUs of several kinds, whatever the device is. */
static void in_each_form(void (*check)(cl_bench *b))
{
    static const struct { size_t memory, group, step; } gpus[] = {
        {0, 0, 0}, {48 << 10, 256, 32}, {32 << 10, 256, 32}, {32 << 10, 256, 64}, {16 << 10, 64, 16}};
    for (size_t i = 0; i < SD_COUNT(gpus); i++) {
        cl_bench b;
        cl_start(&b, 64 << 20);
        b.cl->cpu = !gpus[i].memory;
        if (gpus[i].memory) b.cl->local_memory = gpus[i].memory, b.cl->most_group = gpus[i].group;
        b.cl->step = gpus[i].step;
        check(&b);
        cl_stop(&b);
    }
}

static void check_drifts(cl_bench *b)
{
    const sizes cases[] = {{1, 100, 300, 2, 40, false}, {2, 7, 77, 3, 80, false},  {1, 97, 193, 1, 160, false},
                           {1, 13, 150, 1, 512, false}, {1, 150, 150, 2, 64, true}, {1, 30, 64, 2, 33, false},
                           {1, 5, 65, 1, 8, false},     {1, 3, 1, 2, 5, false},     {2, 66, 66, 1, 1, true},
                           {1, 77, 77, 2, 64, true},    {1, 20, 20, 1, 300, true}};
    const double drifts[] = {0, 40, -40, 500};
    for (size_t i = 0; i < SD_COUNT(cases); i++)
        for (size_t j = 0; j < SD_COUNT(drifts); j++) {
            sizes z = cases[i], open = z;
            numbers x = draw(z, drifts[j]);
            float *y = attend(b, z, x);
            double e = error(z, x, y, 3), bound = 6e-7 + 1.5e-7 * fabs(drifts[j]);   /* roundings of a large logit */
            if (!(e < bound)) fail_msg("%d heads of %d, drift %g: %.3g", (int)z.heads, (int)z.d, drifts[j], e);
            open.causal = false;
            if (z.causal && drifts[j] >= 0) assert_true(error(open, x, y, 3) > 100 * bound);   /* the wrong twin */
            free(y);
            drop(x);
        }
}
TEST(wherever_the_largest_logit_is) { in_each_form(check_drifts); }

static void check_many(cl_bench *b)
{
    const sizes cases[] = {{1, 4, 9000, 1, 40, false}, {1, 4, 9000, 1, 512, false}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        numbers x = draw(cases[i], 0);
        float *y = attend(b, cases[i], x);
        double e = error(cases[i], x, y, 1);
        if (!(e < 6e-7)) fail_msg("9000 keys, heads of %d: %.3g", (int)cases[i].d, e);
        free(y);
        drop(x);
    }
}
TEST(many_keys) { in_each_form(check_many); }

static void check_company(cl_bench *b)
{
    sizes z = {3, 200, 250, 5, 40, false}, one = {1, 200, 250, 5, 40, false}, few = {1, 37, 250, 5, 40, false};
    numbers x = draw(z, 10);
    float *y = attend(b, z, x), *again = attend(b, z, x);
    assert_memory_equal(y, again, q_size(z) * sizeof *y);
    for (size_t n = 0; n < 3; n++) {
        size_t keys = n * 250 * 200;
        numbers part = {x.q + n * q_size(one), x.k + keys, x.v + keys};
        float *alone = attend(b, one, part);
        assert_memory_equal(y + n * q_size(one), alone, q_size(one) * sizeof *y);
        free(alone);
        part.q += 100 * 200;   /* a query in another place of another tile */
        alone = attend(b, few, part);
        assert_memory_equal(y + n * q_size(one) + 100 * 200, alone, q_size(few) * sizeof *y);
        free(alone);
    }
    free(y);
    free(again);
    drop(x);
}
TEST(bits_do_not_depend_on_company) { in_each_form(check_company); }

static void check_nan(cl_bench *b)
{
    sizes z = {1, 20, 130, 1, 16, false};
    numbers x = draw(z, 0);
    x.q[3 * 16] = NAN;
    float *y = attend(b, z, x);
    for (int i = 0; i < 20 * 16; i++) assert_true(!!isnan(y[i]) == (i / 16 == 3));
    free(y);
    drop(x);
}
TEST(what_is_not_a_number_stays_in_its_row) { in_each_form(check_nan); }

static void check_refusal(cl_bench *b)
{
    sizes z = {1, 4, 4, 1, 64, false};
    numbers x = draw(z, 0);
    b->cl->cpu = false;
    b->cl->local_memory = 1 << 10;
    sd_tensor t = sd_new_from(&b->run, 3, (const int64_t[]){1, 4, 64}, x.q);
    sd_attention(&b->run, t, t, t, 1, false);
    assert_int_equal(b->err.status, SD_ERR_DEVICE);
    assert_non_null(strstr(b->err.text, "no kernel for attention with heads of 64 numbers"));
    drop(x);
}
TEST(a_device_with_too_little_is_told_so) { in_each_form(check_refusal); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wherever_the_largest_logit_is),
        cmocka_unit_test(many_keys),
        cmocka_unit_test(bits_do_not_depend_on_company),
        cmocka_unit_test(what_is_not_a_number_stays_in_its_row),
        cmocka_unit_test(a_device_with_too_little_is_told_so),
    };
    return cmocka_run_group_tests_name("opencl attention", tests, NULL, NULL);
}
