/* test_attention.c - attention of every instruction set: against the specification, and against plain loops in double
 * where the largest logit comes early, late or changes often, for any head dimension, under a mask, and the same bits
 * for any threads and company. */
#include <math.h>

#include "test.h"
#include "../ops_cpu.h"

static uint32_t state = 1;
static float uniform(void)   /* (-1, 1) */
{
    state = state * 1664525u + 1013904223u;
    return (float)(((double)(state >> 8) + 0.5) / (1 << 23) - 1);
}

static const char *const tables[] = {"scalar", "sse2", "avx2", "avx512", "neon"};

typedef struct sizes { int64_t n, t, s, heads, d; bool causal; } sizes;
typedef struct numbers { float *q, *k, *v; } numbers;

static size_t q_size(sizes z) { return (size_t)(z.n * z.t * z.heads * z.d); }
static size_t k_size(sizes z) { return (size_t)(z.n * z.s * z.heads * z.d); }

/* Logits are about N(0, spread^2), and grow along the keys by `drift` from first to last. */
static numbers draw(sizes z, double spread, double drift)
{
    numbers x = {malloc(q_size(z) * 4), malloc(k_size(z) * 4), malloc(k_size(z) * 4)};
    assert_true(x.q && x.k && x.v);
    for (size_t i = 0; i < q_size(z); i++) x.q[i] = (float)(uniform() * 3 * spread);
    for (size_t i = 0; i < k_size(z); i++) {
        x.k[i] = uniform();
        x.v[i] = uniform();
    }
    if (drift != 0) {   /* the first coordinate is for it alone */
        for (size_t i = 0; i < q_size(z); i += (size_t)z.d) x.q[i] = (float)sqrt((double)z.d);
        for (size_t i = 0; i < k_size(z); i += (size_t)z.d)
            x.k[i] = (float)(drift * (double)((int64_t)i / (z.heads * z.d) % z.s) / (double)z.s);
    }
    return x;
}
static void drop(numbers x)
{
    free(x.q);
    free(x.k);
    free(x.v);
}

/* One query's result in double. forget: the wrong twin, which does not shrink what it has when the maximum grows at a
 * later piece. */
static void truth(sizes z, numbers x, int64_t n, int64_t t, int64_t h, bool forget, double *out)
{
    int64_t C = z.heads * z.d, seen = z.causal ? t + 1 : z.s;
    double max = -INFINITY, sum = 0, *logit = malloc((size_t)seen * sizeof *logit);
    memset(out, 0, (size_t)z.d * sizeof *out);
    for (int64_t s = 0; s < seen; s++) {
        logit[s] = 0;
        for (int64_t i = 0; i < z.d; i++)
            logit[s] += (double)x.q[(n * z.t + t) * C + h * z.d + i] * x.k[(n * z.s + s) * C + h * z.d + i];
        logit[s] /= sqrt((double)z.d);
    }
    for (int64_t s0 = 0; s0 < seen; s0 += SDK_PANEL) {
        int64_t end = s0 + SDK_PANEL < seen ? s0 + SDK_PANEL : seen;
        double before = max;
        for (int64_t s = s0; s < end; s++) max = fmax(max, logit[s]);
        double c = forget || s0 == 0 ? 1 : exp(before - max);
        sum *= c;
        for (int64_t i = 0; i < z.d; i++) out[i] *= c;
        for (int64_t s = s0; s < end; s++) {
            double e = exp(logit[s] - max);
            sum += e;
            for (int64_t i = 0; i < z.d; i++) out[i] += e * x.v[(n * z.s + s) * C + h * z.d + i];
        }
    }
    for (int64_t i = 0; i < z.d; i++) out[i] /= sum;
    free(logit);
}

static float *attend_with(const sd_kern *k, sizes z, numbers x, int threads)
{
    if (!k) return NULL;   /* not on this machine */
    sd_error err = {0};
    sd_cpu cpu = {.kern = k, .threads = threads};
    sd_run r = {.err = &err, .be = &sd_backend_cpu, .device = &cpu};
    int64_t C = z.heads * z.d;
    sd_tensor q = {.nd = 3, .dim = {z.n, z.t, C}, .data = x.q}, key = {.nd = 3, .dim = {z.n, z.s, C}, .data = x.k},
        v = key;
    v.data = x.v;
    assert_int_equal(sd_reserve(&r, q_size(z) * 4 + 4096, "a test"), SD_OK);
    sd_tensor y = sd_attention(&r, q, key, v, (int)z.heads, z.causal);
    assert_int_equal(err.status, SD_OK);
    float *out = malloc(q_size(z) * 4);
    assert_non_null(out);
    memcpy(out, y.data, q_size(z) * 4);
    sd_run_free(&r);
    return out;
}

/* Over every `step`-th query */
static double error(sizes z, numbers x, const float *y, bool forget, int64_t step)
{
    double miss = 0, size = 0, want[512];
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t t = 0; t < z.t; t += step)
            for (int64_t h = 0; h < z.heads; h++) {
                truth(z, x, n, t, h, forget, want);
                for (int64_t i = 0; i < z.d; i++) {
                    double e = y[((n * z.t + t) * z.heads + h) * z.d + i] - want[i];
                    miss += e * e;
                    size += want[i] * want[i];
                }
            }
    return sqrt(miss / size);
}

static float *attend(const char *isa, sizes z, numbers x, int threads)
{
    return attend_with(sd_kern_select(isa), z, x, threads);
}

/* rel-L2 distance of two results */
static double distance(sizes z, const float *y, const float *from)
{
    double miss = 0, size = 0;
    for (size_t i = 0; i < q_size(z); i++) {
        miss += ((double)y[i] - from[i]) * ((double)y[i] - from[i]);
        size += (double)from[i] * from[i];
    }
    return sqrt(miss / size);
}

/* kernels.c has the equation, queries one by one. The precise tables take its bits by other ways, tiles of queries at a
 * time; the fast ones are near it, and a mask that is forgotten is not. */
TEST(every_way_is_the_specifications)
{
    const sizes cases[] = {{1, 400, 400, 2, 24, true}, {2, 9, 77, 5, 8, false},  {1, 170, 33, 1, 40, false},
                           {1, 77, 77, 3, 64, true},   {1, 1, 1, 8, 1, true},    {1, 3, 200, 1, 160, false}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sizes z = cases[i], open = z;
        numbers x = draw(z, 1.5, 0);
        float *spec = attend_with(&sd_kern_spec, z, x, 2);
        open.causal = false;
        float *unmasked = attend_with(&sd_kern_spec, open, x, 2);
        assert_true(error(z, x, spec, false, 1) < 1.5e-7);   /* logits and weights are floats in between */
        for (size_t t = 0; t < SD_COUNT(tables); t++) {
            float *precise = attend_with(sd_kern_select_precise(tables[t]), z, x, 2),
                *fast = attend(tables[t], z, x, 2);
            if (!fast) continue;
            assert_memory_equal(precise, spec, q_size(z) * 4);
            assert_true(distance(z, fast, spec) < 6e-7);
            assert_true((z.causal && z.s > 1) == (distance(z, fast, unmasked) > 6e-5));
            free(precise);
            free(fast);
        }
        free(spec);
        free(unmasked);
        drop(x);
    }
}

TEST(wherever_the_largest_logit_is)
{
    const sizes cases[] = {{1, 100, 300, 2, 40, false}, {2, 7, 77, 3, 80, false},  {1, 97, 193, 1, 160, false},
                           {1, 13, 70, 1, 512, false},
                           {1, 150, 150, 2, 64, true},  {1, 30, 64, 2, 33, false}, {1, 5, 65, 1, 8, false},
                               {1, 3, 1, 2, 5, false}};
    const double drifts[] = {0, 40, -40, 500};
    for (size_t i = 0; i < SD_COUNT(cases); i++)
        for (size_t j = 0; j < SD_COUNT(drifts); j++) {
            sizes z = cases[i];
            numbers x = draw(z, 1.0, drifts[j]);
            for (size_t t = 0; t < SD_COUNT(tables); t++) {
                float *y = attend(tables[t], z, x, 2);
                if (!y) continue;
                /* and the roundings of a large logit */
                assert_true(error(z, x, y, false, 5) < 8e-7 + 1.5e-7 * fabs(drifts[j]));
                if (z.s > 2 * SDK_PANEL && j == 1) assert_true(error(z, x, y, true, 5) > 1e-2);
                free(y);
            }
            drop(x);
        }
}

TEST(bits_do_not_depend_on_threads_or_company)
{
    const int threads[] = {2, 3, 7};
    sizes z = {3, 200, 250, 5, 40, false}, one = {1, 200, 250, 5, 40, false}, few = {1, 37, 250, 5, 40, false};
    numbers x = draw(z, 1.0, 10);
    for (size_t t = 0; t < SD_COUNT(tables); t++) {
        float *y = attend(tables[t], z, x, 1);
        if (!y) continue;
        for (size_t i = 0; i < SD_COUNT(threads); i++) {
            float *other = attend(tables[t], z, x, threads[i]);
            assert_memory_equal(y, other, q_size(z) * 4);
            free(other);
        }
        for (size_t n = 0; n < 3; n++) {
            numbers part = {x.q + n * q_size(one), x.k + n * k_size(one), x.v + n * k_size(one)};
            float *alone = attend(tables[t], one, part, 2);
            assert_memory_equal(y + n * q_size(one), alone, q_size(one) * 4);
            free(alone);
            part.q += 100 * 5 * 40;   /* a query in another place of another tile */
            alone = attend(tables[t], few, part, 2);
            assert_memory_equal(y + n * q_size(one) + 100 * 5 * 40, alone, q_size(few) * 4);
            free(alone);
        }
        free(y);
    }
    drop(x);
}

TEST(what_is_not_a_number_stays_in_its_row)
{
    sizes z = {1, 20, 130, 1, 16, false};
    numbers x = draw(z, 1.0, 0);
    x.q[3 * 16] = NAN;
    for (size_t t = 0; t < SD_COUNT(tables); t++) {
        float *y = attend(tables[t], z, x, 1);
        if (!y) continue;
        for (int i = 0; i < 20 * 16; i++) assert_true(!!isnan(y[i]) == (i / 16 == 3));
        free(y);
    }
    drop(x);
}

/* A key that is none spoils the queries that see it, and no other. */
TEST(a_key_that_is_not_a_number_spoils_those_who_see_it)
{
    enum { KEY = 100, LENGTH = 130, D = 16 };
    sizes z = {1, LENGTH, LENGTH, 1, D, true};
    numbers x = draw(z, 1.0, 0);
    const float bad[] = {NAN, INFINITY};
    for (size_t b = 0; b < SD_COUNT(bad); b++)
        for (size_t t = 0; t < SD_COUNT(tables); t++) {
            for (int i = 0; i < D; i++) x.k[KEY * D + i] = i ? 0 : bad[b];
            for (int i = 0; i < LENGTH; i++) x.q[i * D] = 1;   /* so that an infinite key's logits are +inf */
            float *y = attend(tables[t], z, x, 1);
            if (!y) continue;
            for (int i = 0; i < LENGTH * D; i++) assert_true(!!isnan(y[i]) == (i / D >= KEY));
            free(y);
        }
    drop(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_is_the_specifications),
        cmocka_unit_test(wherever_the_largest_logit_is),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_company),
        cmocka_unit_test(what_is_not_a_number_stays_in_its_row),
        cmocka_unit_test(a_key_that_is_not_a_number_spoils_those_who_see_it),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
