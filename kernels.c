/* kernels.c - floor 1: the specification of every kernel, and the choice of a table for this CPU.
 *
 * Each function states its equation and computes it the plain way: arithmetic in double, one rounding to float at the
 * end. Its bits are what --precise gives, and every other table is tested against them. Nothing here may be tuned if
 * that obscures the equation. Infinities and NaN are whatever the equation makes of them in IEEE arithmetic. */
#include "kernels_spec.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ 16-bit floats */

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits. Subnormals (exponent 0) are m 2^-24. Every half is
 * a float, so this is exact. A signalling NaN becomes quiet, as with the conversion instructions. */
float sdk_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000u | (mantissa ? 0x00400000u : 0u) | mantissa << 13);
    if (exponent == 0)
        return (sign ? -1.0f : 1.0f) * ((float)mantissa * 0x1p-24f);
    return float_of_bits(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

/* bfloat16 is the upper half of a float. */
float sdk_bfloat_to_float(uint16_t h)
{
    return float_of_bits((uint32_t)h << 16);
}

static void widen_f16(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = sdk_half_to_float(x[i]);
}

static void widen_bf16(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = sdk_bfloat_to_float(x[i]);
}

/* ------------------------------------------------------------------------------------- activations */

void sdk_spec_silu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)sdk_silu1(x[i]);
}

void sdk_spec_gelu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)sdk_gelu1(x[i]);
}

void sdk_spec_quick_gelu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)sdk_quick_gelu1(x[i]);
}

static void relu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? 0 : x[i];
}

/* 3 tanh(x/3), what a TAESD does to latents first [madebyollin/taesd, Clamp] */
void sdk_spec_soft_clamp(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(3 * tanh((double)x[i] / 3));
}

/* In float, as torch computes them: each rounds once. */
void sdk_spec_to_unit(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] + 1) * 0.5f;
}

void sdk_spec_from_unit(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = 2 * x[i] - 1;
}

/* geglu(v, g) = v gelu(g) [Shazeer 2020] */
void sdk_spec_geglu(float *y, const float *value, const float *gate, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(value[i] * sdk_gelu1(gate[i]));
}

/* e^x for x <= 0, and 0 below -708. Its bits are the same on every machine, which a library's exp does not promise, and
 * vectors can compute it too (kernels_precise.c).
 * n = round(x / ln 2) by adding and subtracting 1.5 2^52;
 * r = x - n ln 2, with ln 2 in two parts, the first of 42 bits, so that its product with n is exact;
 * e^r = 1 + r + r^2 q(r), q of degree 9 by Remez' exchange, relative error 3.3e-17. */
double sdk_exp_negative(double x)
{
    double z = x * SDK_EXP_LOG2E + 0x1.8p52, n = z - 0x1.8p52, r = x - n * SDK_EXP_LN2, q = sdk_exp_q[0];
    r = r - n * SDK_EXP_LN2_REST;
    for (size_t i = 1; i < SDK_EXP_TERMS; i++)
        q = q * r + sdk_exp_q[i];
    uint64_t bits;
    memcpy(&bits, &z, sizeof bits);
    bits = (bits << 52) + (UINT64_C(0x3ff) << 52);
    double power;
    memcpy(&power, &bits, sizeof power);
    return x < -708.0 ? 0 : (1.0 + (r + q * (r * r))) * power;
}

/* softmax(s x)_i = e^(s (x_i - m)) / sum_j e^(s (x_j - m)), m = max_j x_j, s > 0. Subtracting m changes nothing but
 * keeps every exponential in (0, 1]. An entry of -inf (a mask) gets 0; a row of nothing but -inf is NaN.
 * Exponentials are added to 16 sums in turn. Then sums 8 apart are joined, then those 4, 2 and 1 apart. */
static void softmax(float *x, size_t n, float scale)
{
    double max = -INFINITY, sums[SDK_SOFTMAX_SUMS] = {0};
    for (size_t i = 0; i < n; i++)
        if (x[i] > max)
            max = x[i];
    for (size_t i = 0; i < n; i++)
        sums[i % SDK_SOFTMAX_SUMS] += sdk_exp_negative(scale * (x[i] - max));
    double sum = sdk_join_sums(sums);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(sdk_exp_negative(scale * (x[i] - max)) / sum);
}

/* ------------------------------------------------------------------------------- sums and norms */

static void add(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

/* S1 = sum x_i, S2 = sum x_i^2. Then mean = S1/n and variance = S2/n - mean^2. A float has 24 significant bits, so that
 * each square is exact in double and the cancellation costs nothing unless |mean| is 10^5 standard deviations. */
void sdk_spec_sums(double *sum, double *sum_sq, const float *x, size_t n)
{
    double s1 = 0, s2 = 0;
    for (size_t i = 0; i < n; i++) {
        double t = x[i];
        s1 += t;
        s2 += t * t;
    }
    *sum = s1;
    *sum_sq = s2;
}

/* The same for each column of x [rows, n], added to what is in sum[c] and sum_sq[c]. */
static void column_sums(double *sum, double *sum_sq, const float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < n; c++) {
            double t = x[r * n + c];
            sum[c] += t;
            sum_sq[c] += t * t;
        }
}

static void extremes(float *min, float *max, float *least, const float *x, size_t n)
{
    *min = *max = x[0];
    *least = fabsf(x[0]);
    for (size_t i = 0; i < n; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
        *least = fabsf(x[i]) < *least ? fabsf(x[i]) : *least;
    }
}

/* y_i = (x_i - mean) rstd g_i + b_i */
void sdk_spec_norm_affine(float *y, const float *x, double mean, double rstd, const float *g, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * rstd * g[i] + b[i]);
}

/* y_c = f((x_c - m_c) a_c + b_c), f = SiLU or identity. The norm's result is rounded before the SiLU too, so that what
 * follows does not depend on whether somebody looks at that result. */
void sdk_spec_affine(float *y, const float *x, const float *m, const float *a, const float *b, size_t n, bool with_silu)
{
    for (size_t c = 0; c < n; c++) {
        float t = (float)(((double)x[c] - m[c]) * a[c] + b[c]);
        y[c] = with_silu ? (float)sdk_silu1(t) : t;
    }
}

/* -------------------------------------------------------------------------------- matrix product */

enum { TILE = 4 };

/* acc[i][j] += sum_k a[i][k] b_kj for a 4x4 tile. a[i] walks one row of A; the columns of B are `columns` and b_kj is
 * columns[j][k step]. There are sixteen sums at once only so that the processor need not wait for each addition: every
 * sum still runs over k in order. */
static void gemm_tile(double acc[TILE][TILE], const float *const a[TILE], const float *const columns[TILE], size_t step,
                      size_t K)
{
    double s[TILE][TILE];
    memcpy(s, acc, sizeof s);
    for (size_t k = 0; k < K; k++) {
        double b[TILE];
        for (size_t j = 0; j < TILE; j++)
            b[j] = columns[j][k * step];
        for (size_t i = 0; i < TILE; i++) {
            double ai = a[i][k];
            for (size_t j = 0; j < TILE; j++)
                s[i][j] += ai * b[j];
        }
    }
    memcpy(acc, s, sizeof s);
}

/* The same with columns of 16-bit numbers, a piece at a time. */
static void gemm_tile_widened(double acc[TILE][TILE], const float *const a[TILE], const uint16_t *const columns[TILE],
                              sdk_widen *widen, size_t K)
{
    enum { PIECE = 128 };
    float b[TILE][PIECE];
    for (size_t k = 0; k < K; k += PIECE) {
        size_t n = K - k < PIECE ? K - k : PIECE;
        const float *rows[TILE], *widened[TILE];
        for (size_t j = 0; j < TILE; j++) {
            widen(b[j], columns[j] + k, n);
            widened[j] = b[j];
            rows[j] = a[j] + k;
        }
        gemm_tile(acc, rows, widened, 1, n);
    }
}

/* C_ij = sum_k A_ik B_kj + bias_j, where B_kj lies at B[j ldb + k] if b_trans, else at B[k ldb + j]. */
static void gemm(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const void *B, size_t ldb,
                 bool b_trans, sdk_widen *widen, float *C, size_t ldc, const float *bias)
{
    (void)scratch;
    size_t column_step = b_trans ? ldb : 1, k_step = b_trans ? 1 : ldb;
    for (size_t j0 = 0; j0 < N; j0 += TILE) {
        size_t nj = N - j0 < TILE ? N - j0 : TILE;
        const float *columns[TILE];   /* past the edge, a tile repeats the last row or column and drops the result */
        const uint16_t *narrow[TILE];
        for (size_t j = 0; j < TILE; j++) {
            size_t at = (j0 + (j < nj ? j : nj - 1)) * column_step;
            columns[j] = widen ? NULL : (const float *)B + at;
            narrow[j] = widen ? (const uint16_t *)B + at : NULL;
        }
        for (size_t i0 = 0; i0 < M; i0 += TILE) {
            size_t ni = M - i0 < TILE ? M - i0 : TILE;
            const float *rows[TILE];
            for (size_t i = 0; i < TILE; i++)
                rows[i] = A + (i0 + (i < ni ? i : ni - 1)) * lda;
            double acc[TILE][TILE] = {{0}};
            if (widen)
                gemm_tile_widened(acc, rows, narrow, widen, K);
            else
                gemm_tile(acc, rows, columns, k_step, K);
            for (size_t i = 0; i < ni; i++)
                for (size_t j = 0; j < nj; j++)
                    C[(i0 + i) * ldc + j0 + j] = (float)(acc[i][j] + (bias ? (double)bias[j0 + j] : 0.0));
        }
    }
}

/* ------------------------------------------------------------------------------------- attention */

/* y_t = sum_s p_s v_s, p = softmax_s(q_t k_s / sqrt(d)) [Vaswani et al. 2017, eq. 1]. One query after the other: its
 * products with the keys that it sees, their softmax, and the values weighted by that. */
static void attention(void *scratch, float *weights, const sdk_head *h, size_t first, size_t n)
{
    float scale = (float)(1 / sqrt((double)h->d)), *p = weights;
    (void)scratch;
    for (size_t t = first; t < first + n; t++) {
        const float *q = h->q + t * h->ld;
        float *y = h->y + t * h->ld;
        size_t seen = h->causal ? t + 1 : h->keys;
        for (size_t s = 0; s < seen; s++) {
            const float *k = h->k + s * h->ld;
            double product = 0;
            for (size_t i = 0; i < h->d; i++)
                product += (double)q[i] * k[i];
            p[s] = (float)product;
        }
        softmax(p, seen, scale);
        for (size_t i = 0; i < h->d; i++) {
            double sum = 0;
            for (size_t s = 0; s < seen; s++)
                sum += (double)p[s] * h->v[s * h->ld + i];
            y[i] = (float)sum;
        }
    }
}

/* ------------------------------------------------------------------------- sinusoidal embedding */

void sdk_sinusoid(float *y, const float *value, size_t n, size_t dim, bool flip, double shift)
{
    size_t half = dim / 2;
    memset(y, 0, n * dim * sizeof *y);   /* an odd width ends in a zero */
    for (size_t k = 0; k < n; k++) {
        float *first = y + k * dim, *second = first + half;
        for (size_t i = 0; i < half; i++) {
            double angle = (double)value[k] * exp(-log(10000.0) * (double)i / ((double)half - shift));
            (flip ? first : second)[i] = (float)cos(angle);
            (flip ? second : first)[i] = (float)sin(angle);
        }
    }
}

const sd_kern sd_kern_spec = {
    .name = "precise",
    .precise = true,
    .gemm_scratch = 0,
    .gemm = gemm,
    .attention = attention,
    SDK_SPEC_ROWS
};

/* ------------------------------------------------------------------------------------- selection
 *
 * The build sets SD_HAVE_SSE2, _AVX2, _AVX512, _NEON if kernels_simd.c and kernels_precise.c were compiled for that
 * instruction set. It can be used if the processor knows it (CPUID) and the system saves its registers when it switches
 * tasks (XGETBV). */

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define SD_X86 1
#include <cpuid.h>
#endif

#if !defined(SD_X86) && (defined(SD_HAVE_SSE2) || defined(SD_HAVE_AVX2) || defined(SD_HAVE_AVX512))
#error "x86 kernels need a GCC-compatible compiler for x86 here as well"
#endif

#if defined(SD_HAVE_AVX2) || defined(SD_HAVE_AVX512)
/* XCR0: the register sets the system saves; 0 if it does not say. */
static uint32_t saved_registers(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

enum { SAVES_YMM = 0x06, SAVES_ZMM = 0xe6 };   /* bits 1-2: XMM, YMM; bits 5-7: mask registers and the halves of ZMM */
#endif

#ifdef SD_HAVE_SSE2
extern const sd_kern sd_kern_sse2, sd_kern_precise_sse2;
static bool has_sse2(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (d & bit_SSE2);
}
#endif

#ifdef SD_HAVE_AVX2
extern const sd_kern sd_kern_avx2, sd_kern_precise_avx2;
static bool has_avx2(void)   /* and FMA and F16C, which every CPU with AVX2 has had so far */
{
    const unsigned need = bit_AVX | bit_FMA | bit_F16C;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & need) != need || (saved_registers() & SAVES_YMM) != SAVES_YMM)
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}
#endif

#ifdef SD_HAVE_AVX512
extern const sd_kern sd_kern_avx512, sd_kern_precise_avx512;
static bool has_avx512(void)   /* AVX512F, the part every AVX-512 CPU has */
{
    unsigned a, b, c, d;
    return (saved_registers() & SAVES_ZMM) == SAVES_ZMM && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX512F);
}
#endif

#ifdef SD_HAVE_NEON
extern const sd_kern sd_kern_neon, sd_kern_precise_neon;
static bool has_neon(void)   /* part of AArch64's base, the only ARM that kernels_simd.c is compiled for */
{
    return true;
}
#endif

#ifdef SD_WITH_SIMDE
extern const sd_kern sd_kern_avx512, sd_kern_precise_avx512, sd_kern_neon, sd_kern_precise_neon;
#endif

static bool has_c99(void)
{
    return true;
}

typedef struct candidate {
    const sd_kern *fast, *precise;
    bool (*usable)(void);
} candidate;

static const candidate candidates[] = {   /* best first */
#ifdef SD_HAVE_AVX512
    {&sd_kern_avx512, &sd_kern_precise_avx512, has_avx512},
#endif
#ifdef SD_HAVE_AVX2
    {&sd_kern_avx2, &sd_kern_precise_avx2, has_avx2},
#endif
#ifdef SD_HAVE_SSE2
    {&sd_kern_sse2, &sd_kern_precise_sse2, has_sse2},
#endif
#ifdef SD_HAVE_NEON
    {&sd_kern_neon, &sd_kern_precise_neon, has_neon},
#endif
    {&sd_kern_scalar, &sd_kern_spec, has_c99},
#ifdef SD_WITH_SIMDE   /* in instructions of AVX2, for tests: only their names choose them */
    {&sd_kern_avx512, &sd_kern_precise_avx512, has_avx2},
    {&sd_kern_neon, &sd_kern_precise_neon, has_avx2},
#endif
};

static const candidate *find(const char *name)
{
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if ((!name || !strcmp(name, candidates[i].fast->name)) && candidates[i].usable())
            return &candidates[i];
    return NULL;
}

const sd_kern *sd_kern_select(const char *name)
{
    const candidate *c = find(name);
    return c ? c->fast : NULL;
}

const sd_kern *sd_kern_select_precise(const char *name)
{
    const candidate *c = find(name);
    return c ? c->precise : NULL;
}
