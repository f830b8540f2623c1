/* test_kernels.c - the specification against independent formulas, and every table this CPU can run against both.
 *
 * Bounds are in units in the last place of the exact result (ULP). Those of the activations were measured over every
 * float between 2^-6 and 128 of either sign, then rounded up; each one that says something about a formula is also
 * shown to reject a neighbouring formula. */
#define _DEFAULT_SOURCE   /* MAP_ANONYMOUS */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"
#include "../selftest.h"
#include "../kernels.h"
/* ---------------------------------------------------------------------------------------- helpers */
enum { ISAS = 5, TABLES = 2 * ISAS };
static const char *const table_names[ISAS] = {"scalar", "sse2", "avx2", "avx512", "neon"};

/* All tables, those that cannot run here left out: the specification and its forms in vectors, and those that add in
 * float. */
static size_t usable(const sd_kern *tables[TABLES])
{
    size_t n = 0;
    for (size_t i = 0; i < ISAS; i++)
        if (sd_kern_select(table_names[i])) {
            tables[n++] = sd_kern_select_precise(table_names[i]);
            tables[n++] = sd_kern_select(table_names[i]);
        }
    return n;
}

#define FOR_EACH_TABLE(k) \
    const sd_kern *tables[TABLES], *k; \
    for (size_t table_n = usable(tables), table_i = 0; table_i < table_n && (k = tables[table_i], true); table_i++)

static bool rounds_products(const sd_kern *k)   /* no FMA */
{
#ifndef FP_FAST_FMAF
    if (k == &sd_kern_scalar) return true;
#endif
    return !strcmp(k->name, "sse2");
}

static bool is_spec(const sd_kern *k) { return k->precise; }

static uint32_t random_state;
static int seed(UNUSED void **state)   /* before each test, so that none depends on another */
{
    random_state = 1;
    return 0;
}
static uint32_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}
static double uniform(void) { return (random_bits() + 0.5) / 4294967296.0; }
static double normal(void) { return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()); }

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void *room(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

/* Scratch for k->gemm, aligned as it asks; *base is to be freed. */
static void *scratch_for(const sd_kern *k, void **base)
{
    *base = room(k->gemm_scratch + 64);
    return (char *)*base + (64 - (uintptr_t)*base % 64) % 64;
}

/* Distance between neighbouring floats at `exact`, subnormals included. */
static double ulp(double exact)
{
    int e;
    frexp(fmax(fabs(exact), 0x1p-126), &e);
    return ldexp(1, e - 24);
}

static void check(const sd_kern *k, const char *what, double error, double bound, double at)
{
    if (!(error <= bound))
        fail_msg("%s of %s: error %.3f > %.3f at %.9g", what, k->name, error, bound, at);
}

/* ---------------------------------------------------------------------------------- 16-bit floats */

static double half_value(unsigned h)   /* (-1)^s 2^(e-15) (1 + m/1024), or 2^-14 m/1024 when e is 0 */
{
    int e = (int)(h >> 10 & 31);
    double m = h & 1023, v = e ? ldexp(1 + m / 1024, e - 15) : ldexp(m / 1024, -14);
    return h & 0x8000 ? -v : v;
}

TEST(all_halves_widen_exactly)
{
    static uint16_t h[65536];
    static float y[65536];
    for (unsigned i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    FOR_EACH_TABLE(k) {
        k->widen_f16(y, h, 65536);
        for (unsigned i = 0; i < 65536; i++) {
            if ((i >> 10 & 31) < 31)
                assert_true(y[i] == half_value(i) && !signbit(y[i]) == !(i & 0x8000));
            else if (i & 1023)
                assert_true(isnan(y[i]));
            else
                assert_true(isinf(y[i]) && (y[i] < 0) == (i >> 15));
            assert_int_equal(bits_of(y[i]), bits_of(sdk_half_to_float(h[i])));
        }
    }
}

/* The classic wrong twin: subnormal halves taken for zero. SD weights have thousands of them. */
TEST(flushing_subnormal_halves_would_be_seen)
{
    unsigned differ = 0;
    for (unsigned i = 0; i < 65536; i++) {
        bool subnormal = (i >> 10 & 31) == 0;
        double flushed = subnormal ? 0 : half_value(i);
        differ += (i >> 10 & 31) < 31 && (double)sdk_half_to_float((uint16_t)i) != flushed;
    }
    assert_int_equal(differ, 2 * 1023);
}

TEST(all_bfloats_are_the_upper_half_of_a_float)
{
    static uint16_t h[65536];
    static float y[65536];
    for (unsigned i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    assert_true(sdk_bfloat_to_float(0x3f80) == 1.0f && sdk_bfloat_to_float(0xc049) == -3.140625f);
    assert_true(sdk_bfloat_to_float(0x0001) == 0x1p-133f && isinf(sdk_bfloat_to_float(0x7f80)));
    FOR_EACH_TABLE(k) {
        k->widen_bf16(y, h, 65536);
        for (unsigned i = 0; i < 65536; i++)
            assert_int_equal(bits_of(y[i]), (uint32_t)i << 16);
    }
}

/* ------------------------------------------------------------------------------------- activations */

/* Phi(x) in long double, without the library's erf: the power series of erf near 0 (A&S 7.1.6), the continued fraction
 * of Mills' ratio in the tail (A&S 26.2.14). */
static long double phi(long double x)
{
    long double a = fabsl(x), density = expl(-a * a / 2) * 0.398942280401432677939946L;
    if (a < 3) {
        long double term = a, sum = a;
        for (int n = 1; n < 200; n++)
            sum += term *= a * a / (2 * n + 1);
        return x < 0 ? 0.5L - density * sum : 0.5L + density * sum;
    }
    long double fraction = a;
    for (int n = 400; n > 0; n--)
        fraction = a + n / fraction;
    return x < 0 ? density / fraction : 1 - density / fraction;
}

static double true_silu(double x) { return (double)(x / (1 + expl(-(long double)x))); }
static double true_quick_gelu(double x) { return (double)(x / (1 + expl(-1.702L * x))); }
static double true_gelu(double x) { return (double)(x * phi(x)); }
static double true_relu(double x) { return x < 0 ? 0 : x; }
static double tanh_gelu(double x) { return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

/* Results below this may be flushed to zero by vector code: the exponential ends at the smallest normal float. */
#define FLUSHED 1.1e-36

typedef struct activation {
    const char *name;
    size_t entry;   /* where the table has it */
    double (*truth)(double);
    double bound;   /* ULP; half a ULP for the specification */
} activation;

static const activation activations[] = {
    {"silu", offsetof(sd_kern, silu), true_silu, 3.4},
    {"gelu", offsetof(sd_kern, gelu), true_gelu, 5.4},
    {"quick_gelu", offsetof(sd_kern, quick_gelu), true_quick_gelu, 3.5},
    {"relu", offsetof(sd_kern, relu), true_relu, 0},
};

typedef void (*row_fn)(float *y, const float *x, size_t n);
static row_fn entry_of(const sd_kern *k, const activation *a)
{
    row_fn f;
    memcpy(&f, (const char *)k + a->entry, sizeof f);
    return f;
}

static double error_in_ulps(float y, double exact, double floor_)
{
    double e = fabs(y - exact);
    return e <= floor_ ? 0 : e / ulp(exact);
}

TEST(activations_are_right_over_all_floats)
{
    enum { N = 4096 };
    const uint32_t step = 40009;   /* about a hundred thousand floats of every exponent and both signs */
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        const activation *a = &activations[i];
        double worst[TABLES] = {0};
        float x[N], y[N];
        size_t n = 0;
        for (uint64_t u = 0; u < UINT64_C(1) << 32; u += step) {
            float f = float_of((uint32_t)u);
            if (isfinite(f))
                x[n++] = f;
            if (n < N && u + step < UINT64_C(1) << 32)
                continue;
            FOR_EACH_TABLE(k) {
                entry_of(k, a)(y, x, n);
                for (size_t j = 0; j < n; j++) {
                    double e = error_in_ulps(y[j], a->truth(x[j]), is_spec(k) ? 0 : FLUSHED);
                    check(k, a->name, e, is_spec(k) ? 0.5001 : a->bound, x[j]);
                    worst[table_i] = fmax(worst[table_i], e);
                }
            }
            n = 0;
        }
        FOR_EACH_TABLE(k) printf("    %-10s %-6s max %.2f ULP\n", a->name, k->name, worst[table_i]);
    }
}

/* Between -8 and 8, where networks live, more densely. */
TEST(activations_are_right_where_networks_live)
{
    enum { N = 1024 };
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        for (int part = 0; part < 60; part++) {
            float x[N], y[N];
            for (size_t j = 0; j < N; j++)
                x[j] = (float)(16 * uniform() - 8);
            FOR_EACH_TABLE(k) {
                entry_of(k, &activations[i])(y, x, N);
                for (size_t j = 0; j < N; j++)
                    check(k, activations[i].name, error_in_ulps(y[j], activations[i].truth(x[j]), 0),
                          is_spec(k) ? 0.5001 : activations[i].bound, x[j]);
            }
        }
}

/* The three are within 0.02 of one another, which is why ports mix them up unnoticed. */
TEST(each_gelu_is_out_of_the_others_bounds)
{
    double tanh_error = 0, quick_error = 0, erf_error = 0;
    for (double x = -6; x <= 6; x += 0.01) {
        float f = (float)x;
        tanh_error = fmax(tanh_error, error_in_ulps((float)tanh_gelu(f), true_gelu(f), 0));
        quick_error = fmax(quick_error, error_in_ulps((float)true_quick_gelu(f), true_gelu(f), 0));
        erf_error = fmax(erf_error, error_in_ulps((float)true_gelu(f), true_quick_gelu(f), 0));
    }
    assert_true(tanh_error > 1000 && quick_error > 1000 && erf_error > 1000);
    /* hand values of the three at 1 */
    float one = 1, y;
    sd_kern_spec.gelu(&y, &one, 1);
    assert_true(fabs(y - 0.8413447460685429) < 3e-8);
    sd_kern_spec.quick_gelu(&y, &one, 1);
    assert_true(fabs(y - 0.8457957659328212) < 3e-8);
    sd_kern_spec.silu(&y, &one, 1);
    assert_true(fabs(y - 0.7310585786300049) < 3e-8);
    assert_true(fabs(tanh_gelu(1) - 0.8411919906082768) < 1e-12);
}

TEST(activations_have_no_accidents_at_the_ends)
{
    const float big[] = {20, 87.3f, 88.8f, 104, 1e4f, 1e19f, 1e30f, 3.4e38f};
    FOR_EACH_TABLE(k)
        for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
            row_fn f = entry_of(k, &activations[i]);
            for (size_t j = 0; j < sizeof big / sizeof *big; j++) {
                float x[2] = {big[j], -big[j]}, y[2];
                f(y, x, 2);
                assert_true(y[0] == x[0]);
                assert_true(y[1] <= 0 && y[1] > -1e-7f);
            }
            float x[5] = {0.0f, -0.0f, INFINITY, NAN, float_of(0xffc00001)}, y[5];
            f(y, x, 5);
            assert_true(y[0] == 0 && !signbit(y[0]) && y[1] == 0 && signbit(y[1]));
            assert_true(y[2] == INFINITY && isnan(y[3]) && isnan(y[4]));
        }
}

/* What a TAESD does to its input and its result. */
TEST(ranges_of_a_taesd_are_clamped_and_moved)
{
    enum { N = 3000 };
    float x[N], y[N];
    double linear = 0;
    for (size_t i = 0; i < N; i++) x[i] = (float)(i < 1000 ? 5 * normal() : i < 2000 ? 1e-4 * normal() : 40 * normal());
    FOR_EACH_TABLE(k) {
        k->soft_clamp(y, x, N);
        for (size_t i = 0; i < N; i++) {
            double truth = (double)(3 * tanhl((long double)x[i] / 3));
            check(k, "soft_clamp", error_in_ulps(y[i], truth, 0), 0.501, x[i]);
            assert_true(fabsf(y[i]) <= 3);
            linear = fmax(linear, fabs(x[i] - truth));
        }
        k->to_unit(y, x, N);
        for (size_t i = 0; i < N; i++) assert_true(y[i] == (x[i] + 1) / 2);
        k->from_unit(y, x, N);
        for (size_t i = 0; i < N; i++) assert_true(y[i] == x[i] * 2 - 1);
    }
    assert_true(linear > 30);   /* without the clamp */
}

TEST(geglu_multiplies_by_gelu_of_the_gate)
{
    enum { N = 5000 };
    static float v[N], g[N], y[N];
    for (size_t i = 0; i < N; i++) {
        v[i] = (float)(3 * normal());
        g[i] = (float)(3 * normal());
    }
    FOR_EACH_TABLE(k) {
        k->geglu(y, v, g, N);
        for (size_t i = 0; i < N; i++)
            check(k, "geglu", error_in_ulps(y[i], v[i] * true_gelu(g[i]), FLUSHED), is_spec(k) ? 0.5001 : 6.5, g[i]);
    }
}

/* --------------------------------------------------------------------------------------- softmax */

/* Of the tables that have it: the specification and its forms in vectors. */
#define FOR_EACH_PRECISE(k) FOR_EACH_TABLE(k) if (k->softmax)

/* The largest error over the row, in ULP */
static double softmax_error(const float *y, const float *x, size_t n, double scale)
{
    long double max = -INFINITY, sum = 0, worst = 0;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++)
        sum += expl(scale * (x[i] - max));
    for (size_t i = 0; i < n; i++) {
        double exact = (double)(expl(scale * (x[i] - max)) / sum);
        worst = fmaxl(worst, (long double)error_in_ulps(y[i], exact, 1.2e-38));
    }
    return (double)worst;
}

TEST(softmax_is_right)
{
    enum { N = 400 };
    for (int round = 0; round < 3000; round++) {
        float x[N], y[N];
        size_t n = 1 + random_bits() % N;
        float scale = (float)(0.02 + uniform()), spread = (float)(60 * uniform()), shift = (float)(100 * normal());
        for (size_t i = 0; i < n; i++)
            x[i] = (float)(spread * normal()) + shift;
        FOR_EACH_PRECISE(k) {
            memcpy(y, x, sizeof x);
            k->softmax(y, n, scale);
            check(k, "softmax", softmax_error(y, x, n, scale), 0.5001, (double)n);
        }
    }
    const float three[] = {1, 2, 3};   /* e^-2, e^-1, 1 over their sum */
    const double expected[] = {0.09003057317038046, 0.24472847105479767, 0.6652409557748219};
    FOR_EACH_PRECISE(k) {
        float y[3];
        memcpy(y, three, sizeof y);
        k->softmax(y, 3, 1);
        for (size_t i = 0; i < 3; i++)
            assert_true(fabs(y[i] - expected[i]) < 6e-8);
    }
}

/* 1.02 ULP of double; with ln 2 in one part instead of two, hundreds. */
TEST(the_exponential_of_softmax_is_right)
{
    double worst = 0, twin = 0;
    for (double x = 0; x > -708; x -= 0.00371) {
        long double truth = expl((long double)x), unit = ldexpl(1, ilogbl(truth) - 52),
            n = rintl((long double)x * 1.442695040888963407L);
        long double one_part = expl((long double)(x - (double)n * 0.69314718055994530942)) * ldexpl(1, (int)n);
        worst = fmax(worst, (double)(fabsl(sdk_exp_negative(x) - truth) / unit));
        twin = fmax(twin, (double)(fabsl(one_part - truth) / unit));
    }
    printf("    e^x of softmax max %.2f ULP of double (ln 2 in one part: %.0f)\n", worst, twin);
    assert_true(worst < 1.1 && twin > 20);
    assert_true(sdk_exp_negative(0) == 1 && sdk_exp_negative(-709) == 0 && sdk_exp_negative(-INFINITY) == 0
                && isnan(sdk_exp_negative(NAN)));
}

/* Without subtracting the maximum, scores of 100 and more (SD 2.1 has them) overflow. */
TEST(softmax_survives_large_scores_and_its_twin_does_not)
{
    float x[] = {300, 299, -300, 1e30f}, y[4];
    float sum = 0;
    for (size_t i = 0; i < 3; i++)
        sum += expf(x[i]);
    assert_true(!isfinite(expf(x[0]) / sum));
    FOR_EACH_PRECISE(k) {
        memcpy(y, x, sizeof y);
        k->softmax(y, 3, 1);
        assert_true(fabs(y[0] - 0.7310585786300049) < 1e-7 && fabs(y[1] - 0.2689414213699951) < 1e-7 && y[2] == 0);
        memcpy(y, x, sizeof y);
        k->softmax(y, 4, 1);
        assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0 && y[3] == 1);
    }
}

TEST(softmax_of_masked_rows)
{
    enum { N = 77 };
    FOR_EACH_PRECISE(k) {
        float x[N], y[N], z[N];
        for (size_t seen = 1; seen <= N; seen++) {   /* a causal mask: -inf after the first `seen` */
            for (size_t i = 0; i < N; i++)
                x[i] = i < seen ? (float)(4 * normal()) : -INFINITY;
            memcpy(y, x, sizeof x);
            k->softmax(y, N, 0.125f);
            memcpy(z, x, sizeof x);
            k->softmax(z, seen, 0.125f);
            for (size_t i = 0; i < N; i++)   /* the masked entries add exact zeros, but perhaps in another order */
                assert_true(i < seen ? fabsf(y[i] - z[i]) <= 1.2e-7f * z[i] : y[i] == 0);
        }
        float one = -3e38f;
        k->softmax(&one, 1, 1000);
        assert_true(one == 1);
        for (size_t n = 1; n <= N; n++) {
            for (size_t bad = 0; bad < n; bad++) {   /* a NaN or +inf anywhere spoils the row, as in PyTorch */
                memset(y, 0, sizeof y);
                y[bad] = bad % 2 ? NAN : INFINITY;
                k->softmax(y, n, 1);
                for (size_t i = 0; i < n; i++)
                    assert_true(isnan(y[i]));
            }
            for (size_t i = 0; i < n; i++)
                y[i] = -INFINITY;
            k->softmax(y, n, 1);
            for (size_t i = 0; i < n; i++)
                assert_true(isnan(y[i]));
        }
    }
}

/* -------------------------------------------------------------------------------- sums and norms */

TEST(sums_lose_nothing)
{
    enum { N = 200000 };
    float *x = room(N * sizeof *x);
    long double s1 = 0, s2 = 0;
    float f1 = 0, f2 = 0;
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(300 + normal());
        s1 += x[i];
        s2 += (long double)x[i] * x[i];
        f1 += x[i];   /* the wrong twin: float sums */
        f2 += x[i] * x[i];
    }
    const double bound = 1e-12;
    FOR_EACH_TABLE(k) {
        double a = NAN, b = NAN;
        k->sums(&a, &b, x, N);
        assert_true(fabs((double)(a - s1)) <= bound * (double)s1 && fabs((double)(b - s2)) <= bound * (double)s2);
        k->sums(&a, &b, x, 0);
        assert_true(a == 0 && b == 0);
    }
    double variance = (double)(s2 / N - s1 * s1 / N / N), twin = (double)f2 / N - (double)f1 / N * f1 / N;
    assert_true(fabs(variance - 1) < 0.05 && fabs(twin - variance) > 1e-3);
    free(x);
}

TEST(column_sums_are_the_specifications_bits)
{
    enum { ROWS = 37, N = 131 };
    static float x[ROWS * N];
    for (size_t i = 0; i < ROWS * N; i++)
        x[i] = (float)(2 + normal());
    FOR_EACH_TABLE(k)
        for (size_t rows = 0; rows <= ROWS; rows++)
            for (size_t n = 0; n <= N; n += n < 40 ? 1 : 13) {
                double a[N + 2], b[N + 2], c[N + 2], d[N + 2];
                for (size_t i = 0; i < N + 2; i++) {
                    a[i] = c[i] = (double)i / 3;
                    b[i] = d[i] = (double)i / 7;
                }
                for (size_t r = 0; r < rows; r++)
                    for (size_t i = 0; i < n; i++) {
                        c[i + 1] += x[r * n + i];
                        d[i + 1] += (double)x[r * n + i] * x[r * n + i];
                    }
                k->column_sums(a + 1, b + 1, x, rows, n);
                assert_memory_equal(a, c, sizeof a);
                assert_memory_equal(b, d, sizeof b);
            }
}

TEST(affine_rows_are_right)
{
    enum { N = 3000 };
    static float x[N], m[N], a[N], b[N], y[N], z[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(50 + normal());
        m[i] = (float)(50 + 0.1 * normal());
        a[i] = (float)normal();
        b[i] = (float)normal();
    }
    const double mean = 50.0123456789, rstd = 1.0123456789;
    double twin = 0;
    FOR_EACH_TABLE(k) {
        k->norm_affine(y, x, mean, rstd, a, b, N);
        for (size_t i = 0; i < N; i++) {   /* errors in ULP of the larger term, since b may cancel */
            double t = (x[i] - mean) * rstd * a[i], size = fmax(fabs(t), fabs(b[i]));
            check(k, "norm_affine", fabs(y[i] - (t + b[i])) / ulp(size), is_spec(k) ? 1 : 3.5, x[i]);
            double rounded_mean = (x[i] - (double)(float)mean) * rstd * a[i];
            twin = fmax(twin, fabs(rounded_mean - t) / ulp(t));
        }
        k->affine(y, x, m, a, b, N, false);
        for (size_t i = 0; i < N; i++) {
            double t = ((double)x[i] - m[i]) * a[i], size = fmax(fabs(t), fabs(b[i]));
            check(k, "affine", fabs(y[i] - (t + b[i])) / ulp(size), is_spec(k) ? 1 : 3, x[i]);
        }
        k->affine(z, x, m, a, b, N, true);
        k->silu(y, y, N);
        assert_memory_equal(y, z, sizeof y);   /* fused is unfused */
    }
    assert_true(twin > 10);
}

/* ----------------------------------------------- every row function: lengths, alignments, edges */

enum { LONGEST = 130, OFFSETS = 16, GUARD = 16, SPACE = GUARD + OFFSETS + LONGEST + GUARD };
#define GUARD_BITS 0x7fa5a5a5u   /* a NaN that arithmetic would not leave alone */

/* A float row inside guards, at `offset` from the alignment malloc gives. */
typedef struct guarded { float cell[SPACE]; } guarded;

static float *guarded_row(guarded *g, size_t offset)
{
    for (size_t i = 0; i < SPACE; i++)
        g->cell[i] = float_of(GUARD_BITS);
    return g->cell + GUARD + offset;
}

static void assert_guards(const guarded *g, size_t offset, size_t n)
{
    for (size_t i = 0; i < SPACE; i++)
        if (i < GUARD + offset || i >= GUARD + offset + n)
            assert_int_equal(bits_of(g->cell[i]), GUARD_BITS);
}

/* What they are, and how far they may be from the specification. */
#define rows_of_all_kinds sd_row_kinds
typedef sd_row_inputs inputs;
static void fill_inputs(float *x, float *m, float *a, float *b, uint16_t *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)normal();
        m[i] = (float)normal();
        a[i] = (float)normal();
        b[i] = (float)normal();
        h[i] = (uint16_t)(random_bits() % 0x7c00 + (random_bits() & 0x8000));
    }
}

static void assert_row(const sd_kern *k, size_t kind, const float *y, const float *spec, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double e = is_spec(k) || rows_of_all_kinds[kind].bound == 0 ? (bits_of(y[i]) == bits_of(spec[i]) ? 0 : INFINITY)
                                                                    : fabs((double)y[i] - spec[i])
                                                                        / ulp(fmax(fabs(spec[i]), 0.125));
        check(k, rows_of_all_kinds[kind].name, e, rows_of_all_kinds[kind].bound, (double)n);
    }
}

TEST(rows_of_any_length_and_alignment_match_the_specification)
{
    FOR_EACH_TABLE(k)
        for (size_t kind = 0; kind < sd_row_kinds_of(k); kind++)
            for (size_t n = 0; n <= LONGEST; n++) {
                float x[LONGEST], m[LONGEST], a[LONGEST], b[LONGEST], spec[LONGEST];
                uint16_t h[LONGEST];
                fill_inputs(x, m, a, b, h, LONGEST);
                rows_of_all_kinds[kind].run(&sd_kern_spec, spec, (inputs){x, m, a, b, h}, n);
                for (size_t offset = 0; offset < OFFSETS; offset++) {
                    guarded gx, gm, ga, gb, gy;
                    uint16_t gh[OFFSETS + LONGEST];
                    size_t other = (offset * 5 + n) % OFFSETS;   /* inputs aligned otherwise than the output */
                    float *cx = guarded_row(&gx, other), *cm = guarded_row(&gm, offset), *ca = guarded_row(&ga, other);
                    float *cb = guarded_row(&gb, offset), *y = guarded_row(&gy, offset);
                    memcpy(cx, x, n * sizeof *x);
                    memcpy(cm, m, n * sizeof *m);
                    memcpy(ca, a, n * sizeof *a);
                    memcpy(cb, b, n * sizeof *b);
                    memcpy(gh + other, h, n * sizeof *h);
                    inputs in = {cx, cm, ca, cb, gh + other};
                    rows_of_all_kinds[kind].run(k, y, in, n);
                    assert_row(k, kind, y, spec, n);
                    assert_guards(&gy, offset, n);
                    assert_guards(&gx, other, n);
                    assert_memory_equal(cx, x, n * sizeof *x);
                    rows_of_all_kinds[kind].run(k, cx, in, n);   /* in place: the same bits */
                    assert_memory_equal(cx, y, n * sizeof *x);
                    assert_guards(&gx, other, n);
                }
            }
}

/* A block of memory between two pages that must not be touched. */
typedef struct fence { char *start; size_t page; } fence;

static fence fence_open(void)
{
    fence f;
    f.page = (size_t)sysconf(_SC_PAGESIZE);
    f.start = mmap(NULL, 3 * f.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f.start != MAP_FAILED);
    assert_int_equal(mprotect(f.start, f.page, PROT_NONE), 0);
    assert_int_equal(mprotect(f.start + 2 * f.page, f.page, PROT_NONE), 0);
    return f;
}
static void *fence_first(fence f) { return f.start + f.page; }
static void *fence_last(fence f, size_t bytes) { return f.start + 2 * f.page - bytes; }
static void fence_close(fence f) { munmap(f.start, 3 * f.page); }

/* Reading one byte too far ends this test by a signal. */
TEST(rows_may_end_where_memory_ends)
{
    fence f[6];
    for (size_t i = 0; i < 6; i++)
        f[i] = fence_open();
    FOR_EACH_TABLE(k)
        for (size_t kind = 0; kind < sd_row_kinds_of(k); kind++)
            for (size_t n = 0; n <= LONGEST; n++)
                for (int end = 0; end < 2; end++) {
                    float *p[5];
                    for (size_t i = 0; i < 5; i++)
                        p[i] = end ? fence_last(f[i], n * sizeof(float)) : fence_first(f[i]);
                    uint16_t *h = end ? fence_last(f[5], n * sizeof *h) : fence_first(f[5]);
                    fill_inputs(p[0], p[1], p[2], p[3], h, n);
                    rows_of_all_kinds[kind].run(k, p[4], (inputs){p[0], p[1], p[2], p[3], h}, n);
                    double s, s2;
                    k->sums(&s, &s2, p[0], n);
                    k->column_sums(fence_last(f[4], n * sizeof s), fence_last(f[3], n * sizeof s), p[0], n ? 1 : 0, n);
                }
    for (size_t i = 0; i < 6; i++)
        fence_close(f[i]);
}

/* -------------------------------------------------------------------------------- matrix product */

typedef struct problem {
    size_t M, N, K, lda, ldb, ldc;
    bool b_trans, with_bias;
    float *A, *B, *C, *bias;   /* C holds what it held before; a guard of `ldc` floats on either side of it */
} problem;

static size_t c_cells(const problem *p) { return (p->M + 2) * p->ldc; }

static problem problem_new(size_t M, size_t N, size_t K, size_t slack, unsigned options, double (*draw)(void))
{
    problem p = {.M = M, .N = N, .K = K, .b_trans = options & 1, .with_bias = options & 2};
    size_t b_rows = p.b_trans ? N : K;
    p.lda = K + slack;
    p.ldb = (p.b_trans ? K : N) + 2 * slack;
    p.ldc = N + slack / 2;
    p.A = room(M * p.lda * sizeof(float));
    p.B = room(b_rows * p.ldb * sizeof(float));
    p.C = room(c_cells(&p) * sizeof(float));
    p.bias = room(N * sizeof(float));
    for (size_t i = 0; i < M * p.lda; i++)
        p.A[i] = i % p.lda < K ? (float)draw() : NAN;   /* what must not be read would spoil the result */
    for (size_t i = 0; i < b_rows * p.ldb; i++)
        p.B[i] = i % p.ldb < p.ldb - 2 * slack ? (float)draw() : NAN;
    for (size_t i = 0; i < c_cells(&p); i++)
        p.C[i] = i >= p.ldc && i < (M + 1) * p.ldc && i % p.ldc < N ? (float)draw() : float_of(GUARD_BITS);
    for (size_t i = 0; i < N; i++)
        p.bias[i] = (float)draw();
    return p;
}

static void problem_free(problem *p)
{
    free(p->A);
    free(p->B);
    free(p->C);
    free(p->bias);
}

/* Runs k on a copy of C, which the caller frees. */
static float *solve(const sd_kern *k, const problem *p)
{
    void *base, *scratch = scratch_for(k, &base);
    float *C = room(c_cells(p) * sizeof(float));
    memcpy(C, p->C, c_cells(p) * sizeof(float));
    k->gemm(k->gemm_scratch ? scratch : NULL, p->M, p->N, p->K, p->A, p->lda, p->B, p->ldb, p->b_trans, NULL,
            C + p->ldc, p->ldc, p->with_bias ? p->bias : NULL);
    free(base);
    return C;
}

static double element(const problem *p, size_t i, size_t j)
{
    double s = 0;
    for (size_t k = 0; k < p->K; k++)
        s += (double)p->A[i * p->lda + k] * p->B[p->b_trans ? j * p->ldb + k : k * p->ldb + j];
    return s + (p->with_bias ? p->bias[j] : 0);
}

static double small_integer(void) { return (double)(random_bits() % 17) - 8; }

/* With small integers every sum is exact in float too, so all tables must give the same bits, guards included. */
static void check_exactly(size_t M, size_t N, size_t K, size_t slack, unsigned options)
{
    problem p = problem_new(M, N, K, slack, options, small_integer);
    float *expected = room(c_cells(&p) * sizeof(float));
    memcpy(expected, p.C, c_cells(&p) * sizeof(float));
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++)
            expected[(i + 1) * p.ldc + j] = (float)element(&p, i, j);
    FOR_EACH_TABLE(k) {
        float *C = solve(k, &p);
        if (memcmp(C, expected, c_cells(&p) * sizeof(float)) != 0)
            fail_msg("gemm of %s differs: M %zu N %zu K %zu options %u", k->name, M, N, K, options);
        free(C);
    }
    free(expected);
    problem_free(&p);
}

TEST(products_of_integers_are_exact_in_every_size)
{
    const size_t depths[] = {0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 40};
    size_t turn = 0;
    for (size_t M = 0; M <= 40; M++)
        for (size_t N = 0; N <= 40; N++)
            for (unsigned options = 0; options < 4; options++, turn++)
                if ((M + N) % 3 == options % 3 || M % 8 < 2)
                    check_exactly(M, N, depths[turn % 11], turn % 5 * 3, options);
}

TEST(large_products_of_integers_are_exact)
{
    static const size_t sizes[][3] = {   /* across every block size of simd_gemm.h */
        {1, 1000, 300}, {197, 33, 193}, {97, 785, 385}, {13, 1543, 200}, {200, 40, 1000}, {77, 320, 768}, {300, 3, 577},
        {85, 769, 192}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned options = 0; options < 4; options++)
            check_exactly(sizes[s][0], sizes[s][1], sizes[s][2], options * 5 % 7, options);
}

TEST(product_of_a_hand_example)
{
    /* [1 2 3; 4 5 6] times [7 8; 9 10; 11 12] = [58 64; 139 154] */
    const float A[] = {1, 2, 3, 4, 5, 6}, B[] = {7, 8, 9, 10, 11, 12}, BT[] = {7, 9, 11, 8, 10, 12};
    const float bias[] = {100, 200};
    FOR_EACH_TABLE(k) {
        void *base, *scratch = scratch_for(k, &base);
        float C[4] = {NAN, NAN, NAN, NAN}, D[4] = {1, 2, 3, 4};
        k->gemm(scratch, 2, 2, 3, A, 3, B, 2, false, NULL, C, 2, NULL);
        assert_true(C[0] == 58 && C[1] == 64 && C[2] == 139 && C[3] == 154);
        k->gemm(scratch, 2, 2, 3, A, 3, BT, 3, true, NULL, D, 2, bias);
        assert_true(D[0] == 158 && D[1] == 264 && D[2] == 239 && D[3] == 354);
        free(base);
    }
}

static bool same_bits(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* The turned product of A and B, stored as `widen` says, gives the bits of gemm, `want`. */
static void check_turned(const sd_kern *k, void *scratch, const problem *p, const void *B, sdk_widen *widen,
                         const float *want)
{
    float *C = room(c_cells(p) * sizeof *C), *packed = room((p->M + k->panel_columns) * p->K * sizeof *packed);
    const float *bias = p->with_bias ? p->bias : NULL;
    memcpy(C, p->C, c_cells(p) * sizeof *C);
    k->pack_panel(packed, p->A, p->lda, true, NULL, p->M, p->K);
    k->gemm_turned(scratch, p->M, p->N, p->K, packed, B, p->ldb, widen, C + p->ldc, p->ldc, bias, B);
    assert_true(same_bits(C, want, c_cells(p)));
    free(packed);
    free(C);
}

/* Whatever rectangles of C a caller asks for, each element has the bits it has in the whole. */
TEST(bits_do_not_depend_on_how_m_and_n_are_split)
{
    static const size_t sizes[][3] = {{50, 71, 40}, {101, 797, 450}, {16, 33, 1000}};
    FOR_EACH_TABLE(k)
        for (size_t s = 0; s < 3; s++)
            for (unsigned options = 0; options < 4; options++) {
                problem p = problem_new(sizes[s][0], sizes[s][1], sizes[s][2], 3, options, normal);
                void *base, *scratch = scratch_for(k, &base);
                float *whole = solve(k, &p), *parts = room(c_cells(&p) * sizeof(float));
                if (p.b_trans && k->gemm_turned) check_turned(k, scratch, &p, p.B, NULL, whole);
                for (int cut = 0; cut < 4; cut++) {
                    memcpy(parts, p.C, c_cells(&p) * sizeof(float));
                    size_t di, dj;
                    for (size_t i = 0; i < p.M; i += di) {
                        di = 1 + random_bits() % (cut ? p.M : 7);
                        di = di < p.M - i ? di : p.M - i;
                        for (size_t j = 0; j < p.N; j += dj) {
                            dj = 1 + random_bits() % (cut ? p.N : 50);
                            dj = dj < p.N - j ? dj : p.N - j;
                            k->gemm(scratch, di, dj, p.K, p.A + i * p.lda, p.lda, p.B + (p.b_trans ? j * p.ldb : j),
                                    p.ldb, p.b_trans, NULL, parts + (i + 1) * p.ldc + j, p.ldc,
                                    p.with_bias ? p.bias + j : NULL);
                        }
                    }
                    assert_true(same_bits(parts, whole, c_cells(&p)));
                }
                free(base);
                free(whole);
                free(parts);
                problem_free(&p);
            }
}

/* Weights of 16-bit numbers, widened on the way, give the bits of the same weights widened before. */
TEST(sixteen_bit_weights_give_the_same_bits)
{
    static const size_t sizes[][3] = {{7, 5, 3}, {45, 61, 333}, {100, 797, 450}, {3, 16, 128}, {9, 33, 192}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        problem p = problem_new(sizes[s][0], sizes[s][1], sizes[s][2], 2, 1, normal);
        size_t numbers = p.N * p.ldb;
        uint16_t *narrow = room(numbers * sizeof *narrow);
        for (size_t i = 0; i < numbers; i++)
            narrow[i] = (uint16_t)(random_bits() % 0x7c00);   /* finite, as a half and as a bfloat */
        for (int bf = 0; bf < 2; bf++) {
            for (size_t i = 0; i < numbers; i++)
                p.B[i] = bf ? sdk_bfloat_to_float(narrow[i]) : sdk_half_to_float(narrow[i]);
            FOR_EACH_TABLE(k) {
                void *base, *scratch = scratch_for(k, &base);
                float *want = solve(k, &p), *C = room(c_cells(&p) * sizeof(float));
                memcpy(C, p.C, c_cells(&p) * sizeof(float));
                sdk_widen *widen = bf ? k->widen_bf16 : k->widen_f16;
                k->gemm(scratch, p.M, p.N, p.K, p.A, p.lda, narrow, p.ldb, true, widen, C + p.ldc, p.ldc,
                        p.with_bias ? p.bias : NULL);
                assert_true(same_bits(C, want, c_cells(&p)));
                if (k->gemm_turned) check_turned(k, scratch, &p, narrow, widen, want);
                free(base);
                free(want);
                free(C);
            }
        }
        free(narrow);
        problem_free(&p);
    }
}

/* Weights [N, channels, taps] that are packed for a convolution give the bits of rows [N][taps, channels], however they
 * are stored. */
TEST(packed_weights_give_the_same_bits)
{
    static const size_t sizes[][4] = {   /* M, N, channels, taps */
        {7, 5, 3, 9}, {16, 160, 160, 9}, {45, 61, 37, 9}, {64, 97, 48, 1}, {3, 16, 4, 16}, {100, 797, 50, 9}};
    for (size_t s = 0; s < SD_COUNT(sizes); s++) {
        size_t channels = sizes[s][2], taps = sizes[s][3], K = channels * taps;
        problem p = problem_new(sizes[s][0], sizes[s][1], K, 0, 3, normal);
        uint16_t *narrow = room(p.N * K * sizeof *narrow);
        float *wide = room(p.N * K * sizeof *wide);
        for (size_t i = 0; i < p.N * K; i++) narrow[i] = (uint16_t)(random_bits() % 0x7c00);   /* finite */
        for (int stored = 0; stored < 3; stored++) {
            for (size_t i = 0; i < p.N * K; i++) {
                wide[i] = stored == 2 ? sdk_bfloat_to_float(narrow[i]) : sdk_half_to_float(narrow[i]);
                p.B[i / K * K + i % K % taps * channels + i % K / taps] = wide[i];
            }
            FOR_EACH_TABLE(k) {
                if (!k->pack_conv) continue;
                sdk_widen *widen = stored == 2 ? k->widen_bf16 : stored ? k->widen_f16 : NULL;
                void *base, *scratch = scratch_for(k, &base);
                float *want = solve(k, &p), *C = room(c_cells(&p) * sizeof(float));
                float *packed = room((p.N + k->panel_columns) * K * sizeof *packed);
                memcpy(C, p.C, c_cells(&p) * sizeof(float));
                k->pack_conv(packed, widen ? (const void *)narrow : wide, widen, p.N, channels, taps);
                k->gemm_packed(scratch, p.M, p.N, K, p.A, p.lda, packed, C + p.ldc, p.ldc, p.with_bias ? p.bias : NULL);
                assert_true(same_bits(C, want, c_cells(&p)));
                free(base);
                free(want);
                free(packed);
                free(C);
            }
        }
        free(narrow);
        free(wide);
        problem_free(&p);
    }
}

/* Sums that cancel: the second half of the terms is the first with the other sign, in another order. What is left is
 * nothing but what double rounded on the way, so that a float shows every change of the order. */
static problem problem_cancelling(size_t M, size_t N, size_t K, unsigned options)
{
    problem p = problem_new(M, N, 2 * K, 1, options, normal);
    for (size_t k = 0; k < K; k++) {
        size_t other = K + k * 7 % K;
        for (size_t i = 0; i < M; i++)
            p.A[i * p.lda + other] = -p.A[i * p.lda + k];
        for (size_t j = 0; j < N; j++)
            p.B[p.b_trans ? j * p.ldb + other : other * p.ldb + j] = p.B[p.b_trans ? j * p.ldb + k : k * p.ldb + j];
    }
    return p;
}

/* One element added wrongly: from the end, or even and odd terms apart. */
static float added_in_another_order(const problem *p, size_t i, size_t j, bool backwards)
{
    double s[2] = {0, 0};
    for (size_t n = 0; n < p->K; n++) {
        size_t k = backwards ? p->K - 1 - n : n;
        s[backwards ? 0 : k % 2] += (double)p->A[i * p->lda + k] * p->B[p->b_trans ? j * p->ldb + k : k * p->ldb + j];
    }
    return (float)(s[0] + s[1] + (p->with_bias ? p->bias[j] : 0));
}

TEST(precise_products_in_vectors_are_the_specifications_bits)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {3, 5, 20}, {29, 33, 65}, {168, 40, 200}, {15, 385, 129},
                                      {171, 20, 64}, {57, 9, 600}};
    size_t differ[2] = {0, 0}, elements = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (unsigned options = 0; options < 4; options++) {
            problem p = problem_cancelling(sizes[s][0], sizes[s][1], sizes[s][2], options & 1);
            p.with_bias = options & 2;
            for (size_t j = 0; j < p.N; j++)
                p.bias[j] = (float)(normal() * 1e-16);
            float *spec = solve(&sd_kern_spec, &p);
            FOR_EACH_TABLE(k) {
                float *C = solve(k, &p);
                bool same = same_bits(C, spec, c_cells(&p));
                if (is_spec(k) ? !same : same && p.K > 30)
                    fail_msg("gemm of %s: M %zu N %zu K %zu options %u", k->name, p.M, p.N, p.K, options);
                free(C);
            }
            for (size_t i = 0; i < p.M && p.K > 30; i++)
                for (size_t j = 0; j < p.N; j++, elements++)
                    for (int twin = 0; twin < 2; twin++)
                        differ[twin] += added_in_another_order(&p, i, j, twin) != spec[(i + 1) * p.ldc + j];
            free(spec);
            problem_free(&p);
        }
    assert_true(differ[0] > elements / 2 && differ[1] > elements / 2);
}

/* Why FMA may be used for it: the product of two floats is a double, that of two doubles is not. */
TEST(a_product_of_floats_is_exact_in_double)
{
    unsigned differ = 0;
    for (int n = 0; n < 100000; n++) {
        double s = normal();
        float a = float_of(random_bits()), b = float_of(random_bits());
        if (!isfinite(a) || !isfinite(b))
            continue;
        volatile double product = (double)a * b, of_doubles = s * 1.1;
        assert_true(fma(a, b, -product) == 0 && fma(a, b, s) == product + s);
        differ += fma(s, 1.1, -of_doubles) != 0;
    }
    assert_true(differ > 50000);
    assert_true((double)0x1p-149f * 0x1p-149f == 0x1p-298 && (double)0x1.fffffep127f * 0x1.fffffep127f < 0x1p256);
}

TEST(transposed_b_gives_the_same_bits)
{
    problem p = problem_new(45, 61, 333, 0, 1, normal), q = p;
    q.B = room(p.N * p.K * sizeof(float));
    q.b_trans = false;
    q.ldb = p.N;
    for (size_t j = 0; j < p.N; j++)
        for (size_t k = 0; k < p.K; k++)
            q.B[k * p.N + j] = p.B[j * p.K + k];
    FOR_EACH_TABLE(k) {
        float *x = solve(k, &p), *y = solve(k, &q);
        assert_true(same_bits(x, y, c_cells(&p)));
        free(x);
        free(y);
    }
    free(q.B);
    problem_free(&p);
}

/* rel-L2 against double for normal numbers: no worse than 3.3e-7 however long the sum; one plain float sum is worse. */
TEST(long_products_are_accurate_and_one_float_sum_is_not)
{
    const size_t depths[] = {40, 320, 2880, 11520};
    for (size_t d = 0; d < 4; d++) {
        problem p = problem_new(24, 40, depths[d], 0, 1, normal);
        double *exact = room(p.M * p.N * sizeof *exact), norm = 0, twin = 0;
        for (size_t i = 0; i < p.M; i++)
            for (size_t j = 0; j < p.N; j++) {
                float s = 0;
                for (size_t k = 0; k < p.K; k++)
                    s = fmaf(p.A[i * p.lda + k], p.B[j * p.ldb + k], s);
                exact[i * p.N + j] = element(&p, i, j);
                norm += exact[i * p.N + j] * exact[i * p.N + j];
                twin += pow(s - exact[i * p.N + j], 2);
            }
        FOR_EACH_TABLE(k) {
            float *C = solve(k, &p);
            double e = 0;
            for (size_t i = 0; i < p.M * p.N; i++)
                e += pow(C[p.ldc + i] - exact[i], 2);
            e = sqrt(e / norm);
            printf("    gemm %-6s K %5zu rel-L2 %.2e (one float sum %.2e)\n", k->name, p.K, e, sqrt(twin / norm));
            assert_true(e <= (is_spec(k) ? 3e-8 : 3.3e-7));
            free(C);
        }
        if (p.K > 1000)
            assert_true(sqrt(twin / norm) > 6e-7);
        free(exact);
        problem_free(&p);
    }
}

TEST(products_may_end_where_memory_ends)
{
    fence a = fence_open(), b = fence_open(), c = fence_open(), d = fence_open();
    static const float packed[64 * 32];
    FOR_EACH_TABLE(k) {
        void *base, *scratch = scratch_for(k, &base);
        for (size_t M = 1; M <= 30; M += 2)
            for (size_t N = 1; N <= 34; N++)
                for (size_t K = 1; K <= 30; K += 4)
                    for (int end = 0; end < 2; end++) {
                        size_t size = sizeof(float);
                        float *A = end ? fence_last(a, M * K * size) : fence_first(a);
                        float *B = end ? fence_last(b, N * K * size) : fence_first(b);
                        float *C = end ? fence_last(c, M * N * size) : fence_first(c);
                        float *bias = end ? fence_last(d, N * size) : fence_first(d);
                        k->gemm(scratch, M, N, K, A, K, B, K, true, NULL, C, N, bias);
                        k->gemm(scratch, M, N, K, A, K, B, N, false, NULL, C, N, bias);
                        const void *halves = end ? fence_last(b, N * K * sizeof(uint16_t)) : fence_first(b);
                        k->gemm(scratch, M, N, K, A, K, halves, K, true, k->widen_f16, C, N, bias);
                        if (k->gemm_turned) k->gemm_turned(scratch, M, N, K, packed, B, K, NULL, C, N, bias, NULL);
                    }
        free(base);
    }
    fence_close(a);
    fence_close(b);
    fence_close(c);
    fence_close(d);
}

/* A NaN or infinity of A or B shows in its row or column of C and nowhere else. */
TEST(nan_stays_in_its_row_and_column)
{
    FOR_EACH_TABLE(k)
        for (unsigned options = 0; options < 2; options++) {
            problem p = problem_new(23, 37, 300, 1, options, small_integer);
            p.A[17 * p.lda + 299] = NAN;
            p.B[p.b_trans ? 33 * p.ldb : 33] = INFINITY;
            float *C = solve(k, &p);
            for (size_t i = 0; i < p.M; i++)
                for (size_t j = 0; j < p.N; j++)
                    assert_true((i == 17 || j == 33) == !isfinite(C[(i + 1) * p.ldc + j]));
            free(C);
            problem_free(&p);
        }
}

/* Columns of at most 64 logits in powers of two. Each weight is within 0.8 ULP of 2^(x - m), x - m in float (1.1
 * without FMA), and sum and maximum go on from piece to piece as kernels.h says. */
TEST(a_softmax_in_pieces_is_right)
{
    enum { WIDEST = 32 };
    FOR_EACH_TABLE(k) {
        if (!k->softmax_piece)
            continue;
        double worst = 0;
        for (size_t n = 1; n <= SDK_PANEL; n++) {
            size_t width = n % 2 ? k->panel_columns : k->panel_narrow;
            float x[SDK_PANEL * WIDEST], before[SDK_PANEL * WIDEST], max[WIDEST], max0[WIDEST], factor[WIDEST];
            double sum[WIDEST];
            bool grows = false;
            assert_true(width <= WIDEST);
            for (size_t i = 0; i < n * width; i++)
                before[i] = x[i] = (float)(20 * normal());
            for (size_t c = 0; c < width; c++) {
                max0[c] = max[c] = c == 0 ? -INFINITY : n % 4 == 0 ? 200 : (float)(20 * normal());
                sum[c] = c == 0 ? 0 : 1.5;
            }
            bool grew = k->softmax_piece(x, n, width, max, sum, factor);
            for (size_t c = 0; c < width; c++) {
                double m = max0[c], total = 0;
                for (size_t i = 0; i < n; i++)
                    /* fmax here stops gcc 12.2 for aarch64 */
                    m = before[i * width + c] > m ? before[i * width + c] : m;
                assert_true(max[c] == (float)m);
                for (size_t i = 0; i < n; i++) {
                    float d = before[i * width + c] - max[c];
                    double e = exp2(d), got = x[i * width + c];
                    if (e > 0x1p-120)
                        worst = fmax(worst, fabs(got - e) / ldexp(1, ilogb(e) - 23));
                    else
                        assert_true(got >= 0 && got < 0x1p-119);
                    total += got;
                }
                float step = max0[c] - max[c];
                double shrunk = c == 0 ? 0 : exp2(step);
                assert_true(fabs(factor[c] - shrunk) <= 1e-7 * shrunk);
                assert_true(fabs(sum[c] - (factor[c] * (c == 0 ? 0 : 1.5) + total)) <= 3e-7 * sum[c]);
                grows |= max[c] > max0[c];
            }
            assert_true(grew == grows);
        }
        printf("    softmax in pieces, %-6s max %.2f ULP\n", k->name, worst);
        assert_true(worst <= (rounds_products(k) ? 1.1 : 0.8));
    }
}

/* Of every size up to a few vectors, between numbers that must not change; and a strip whose columns are scaled. */
TEST(a_transpose_and_a_scaling_of_columns_touch_what_they_should)
{
    enum { MOST = 37, STRIDE = 40 };
    FOR_EACH_TABLE(k) {
        if (!k->transpose)
            continue;
        float from[MOST * STRIDE], to[MOST * STRIDE], factor[MOST];
        for (size_t i = 0; i < MOST * STRIDE; i++)
            from[i] = (float)i;
        for (size_t rows = 1; rows <= MOST; rows++)
            for (size_t columns = 1; columns <= MOST; columns++) {
                for (size_t i = 0; i < MOST * STRIDE; i++)
                    to[i] = -1;
                k->transpose(to, STRIDE, from, STRIDE, rows, columns);
                for (size_t j = 0; j < MOST; j++)
                    for (size_t i = 0; i < STRIDE; i++)
                        assert_true(to[j * STRIDE + i] == (i < rows && j < columns ? from[i * STRIDE + j] : -1.0f));
            }
        for (size_t c = 0; c < MOST; c++)
            factor[c] = 1 + (float)c;
        size_t width = k->panel_columns, n = 3 * width;
        memcpy(to, from, sizeof to);
        k->scale_columns(to, 3, width, factor);
        for (size_t i = 0; i < MOST * STRIDE; i++)
            assert_true(to[i] == (i < n ? from[i] * factor[i % width] : from[i]));
    }
}

/* --------------------------------------------------------------------------------------- selection */

TEST(selection_knows_names_and_the_cpu)
{
    assert_ptr_equal(sd_kern_select("scalar"), &sd_kern_scalar);
    assert_ptr_equal(sd_kern_select_precise("scalar"), &sd_kern_spec);
    assert_null(sd_kern_select("precise"));
    assert_null(sd_kern_select("mmx"));
    assert_null(sd_kern_select(""));
    assert_null(sd_kern_select("AVX2"));
    const sd_kern *best = sd_kern_select(NULL);
    assert_non_null(best);
    assert_ptr_equal(sd_kern_select(best->name), best);
    for (size_t i = 0; i < ISAS; i++) {
        const sd_kern *k = sd_kern_select(table_names[i]);
        printf("    %-6s %s%s\n", table_names[i], k ? "tested" : "not built or not for this CPU: not tested",
               k && k == best ? ", the best here" : "");
        const sd_kern *precise = sd_kern_select_precise(table_names[i]);
        assert_true(!precise == !k);
        if (k) {
            assert_string_equal(k->name, table_names[i]);
            assert_true(precise->precise && !k->precise
                        && (strstr(precise->name, k->name) || precise == &sd_kern_spec));
        }
    }
}

#define SEEDED(test) cmocka_unit_test_setup(test, seed)
int main(void)
{
    const struct CMUnitTest tests[] = {
        SEEDED(selection_knows_names_and_the_cpu), SEEDED(all_halves_widen_exactly), SEEDED(softmax_is_right),
        SEEDED(flushing_subnormal_halves_would_be_seen), SEEDED(all_bfloats_are_the_upper_half_of_a_float),
        SEEDED(activations_are_right_over_all_floats), SEEDED(activations_are_right_where_networks_live),
        SEEDED(each_gelu_is_out_of_the_others_bounds), SEEDED(activations_have_no_accidents_at_the_ends),
        SEEDED(ranges_of_a_taesd_are_clamped_and_moved), SEEDED(geglu_multiplies_by_gelu_of_the_gate),
        SEEDED(the_exponential_of_softmax_is_right), SEEDED(softmax_survives_large_scores_and_its_twin_does_not),
        SEEDED(softmax_of_masked_rows), SEEDED(sums_lose_nothing), SEEDED(column_sums_are_the_specifications_bits),
        SEEDED(affine_rows_are_right), SEEDED(rows_of_any_length_and_alignment_match_the_specification),
        SEEDED(rows_may_end_where_memory_ends), SEEDED(product_of_a_hand_example), SEEDED(a_softmax_in_pieces_is_right),
        SEEDED(products_of_integers_are_exact_in_every_size), SEEDED(large_products_of_integers_are_exact),
        SEEDED(bits_do_not_depend_on_how_m_and_n_are_split), SEEDED(sixteen_bit_weights_give_the_same_bits),
        SEEDED(packed_weights_give_the_same_bits), SEEDED(precise_products_in_vectors_are_the_specifications_bits),
        SEEDED(a_product_of_floats_is_exact_in_double), SEEDED(transposed_b_gives_the_same_bits),
        SEEDED(a_transpose_and_a_scaling_of_columns_touch_what_they_should), SEEDED(products_may_end_where_memory_ends),
        SEEDED(long_products_are_accurate_and_one_float_sum_is_not), SEEDED(nan_stays_in_its_row_and_column),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
