/* kernels_simd.c - floor 1: the row functions in vectors, and the table of fast kernels; its matrix product is in
 * simd_gemm.h.
 *
 * Compiled once per instruction set with the flags named in simd.h and with optimization: loops that say UNROLL must be
 * unrolled. Each object has one external symbol, its table. kernels.c says what every entry computes; docs/PROOF.md and
 * tests/test_kernels.c bound the error against it. Elements are treated alike wherever they are in a row, so results do
 * not depend on how a caller cuts its rows; only `sums` adds across a row. */
#include "kernels_spec.h"
#include "simd_exp.h"
#include "simd_gemm.h"
#include "simd_rows.h"

#include <math.h>

#define TABLE OF_ISA(sd_kern)
#define WINOGRAD OF_ISA(sd_winograd)
#define ENLARGED OF_ISA(sd_winograd_enlarged)
extern const sd_kern TABLE;
extern const sd_winograd WINOGRAD, ENLARGED;

/* ------------------------------------------------------------------------------------- activations */

static inline vf silu1(vf x) { return gate(x, 1.0f, 0.0f); }
static inline vf quick_gelu1(vf x) { return gate(x, 1.702f, (float)(1.702 - 1.702f)); }

/* x Phi(x), Phi by two approximations (Remez' exchange, relative errors 5.1e-10 and 1.4e-9).
 * |x| < 1: Phi = 1/2 + x S(x^2), S of degree 5.
 * |x| >= 1: Phi = 1 - Q for x > 0, Q for x < 0, with the upper tail Q(a) = erfc(a / sqrt 2) / 2 of a = |x| written as
 * e^(-a^2/2) P(t) / (a + 3.5), t = (a - 3.5) / (a + 3.5), P of degree 8 on a <= 13.3, where the exponential becomes 0.
 * The exponent is the unrounded product, so that relative accuracy holds to the end of the tail. */
static inline vf gelu1(vf x)
{
    const vf one = v_set1(1.0f), half = v_set1(0.5f), c = v_set1(3.5f);
    vf z = v_mul(x, x);
    vf s = v_fma(v_set1(-7.461112300e-06f), z, v_set1(1.129474945e-04f));
    s = v_fma(s, z, v_set1(-1.185780510e-03f));
    s = v_fma(s, z, v_set1(9.973076496e-03f));
    s = v_fma(s, z, v_set1(-6.649031403e-02f));
    s = v_fma(s, z, v_set1(3.989422777e-01f));
    vf centre = v_fma(x, s, half);

    vf a = v_min(v_set1(14.0f), v_abs(x));
    vf d = v_div(one, v_add(a, c));
    vf t = v_mul(v_sub(a, c), d);
    vf p = v_fma(v_set1(4.267067640e-04f), t, v_set1(-4.036793652e-04f));
    p = v_fma(p, t, v_set1(-3.177217885e-03f));
    p = v_fma(p, t, v_set1(6.467014792e-03f));
    p = v_fma(p, t, v_set1(1.740669868e-02f));
    p = v_fma(p, t, v_set1(-1.160501571e-01f));
    p = v_fma(p, t, v_set1(3.154250060e-01f));
    p = v_fma(p, t, v_set1(-5.655618335e-01f));
    p = v_fma(p, t, v_set1(7.444160753e-01f));
    vf q = v_mul(v_mul(p, d), exp_negative(a, v_mul(a, v_set1(-0.5f))));
    vf tail = v_if_negative(x, q, v_sub(one, q));
    return v_mul(x, v_if_negative(v_sub(a, one), centre, tail));
}

static void silu(float *y, const float *x, size_t n)
{
    EACH_VECTOR(n, put(y + i, left, silu1(get(x + i, left))));
}

static void gelu(float *y, const float *x, size_t n)
{
    EACH_VECTOR(n, put(y + i, left, gelu1(get(x + i, left))));
}

static void quick_gelu(float *y, const float *x, size_t n)
{
    EACH_VECTOR(n, put(y + i, left, quick_gelu1(get(x + i, left))));
}

static void geglu(float *y, const float *value, const float *gates, size_t n)
{
    EACH_VECTOR(n, put(y + i, left, v_mul(get(value + i, left), gelu1(get(gates + i, left)))));
}

/* --------------------------------------------------------------------------- softmax in pieces */

/* softmax_piece, see kernels.h. A strip's rows lie one after the other, so it is read as one sequence of vectors,
 * `vectors` to a row, which is a compile-time constant. */

/* m = the maxima of the columns and m. A column has so many partial ones, each of every fourth row, so that the steps
 * of one do not wait for those of another. */
enum { MAXIMA = 4 };

INLINE void column_maxima(vf *m, const float *x, size_t rows, size_t vectors)
{
    vf v[MAXIMA * TILE_VECTORS];
    size_t i = 0;
    UNROLL for (size_t k = 0; k < MAXIMA * vectors; k++)
        v[k] = m[k % vectors];
    for (; i + MAXIMA <= rows; i += MAXIMA)
        UNROLL for (size_t k = 0; k < MAXIMA * vectors; k++)
            v[k] = v_max(v_load(x + (i * vectors + k) * VL), v[k]);
    for (; i < rows; i++)
        UNROLL for (size_t c = 0; c < vectors; c++)
            v[c] = v_max(v_load(x + (i * vectors + c) * VL), v[c]);
    UNROLL for (size_t c = 0; c < vectors; c++)
        m[c] = v_max(v_max(v[c], v[c + vectors]), v_max(v[c + 2 * vectors], v[c + 3 * vectors]));
}

/* x = 2^(x - m), computed as 2^-(m - x), whose subtraction reads x from memory itself. A row's vectors go side by side;
 * their sums are taken in a pass of their own, for which the registers would not suffice here. */
INLINE void exp2_rows(float *x, size_t rows, size_t vectors, const vf *m)
{
    for (size_t i = 0; i < rows; i++, x += vectors * VL) {
        vf e[TILE_VECTORS];
        UNROLL for (size_t c = 0; c < vectors; c++)
            e[c] = v_sub(m[c], v_load(x + c * VL));
        exp2_minus(e, vectors);
        UNROLL for (size_t c = 0; c < vectors; c++)
            v_store(x + c * VL, e[c]);
    }
}

/* The sums of VL columns. Row i belongs to partial sum i % CHAINS: eight short sums, joined in pairs, instead of a long
 * one. */
enum { CHAINS = 8 };

INLINE vf column_sum(const float *x, size_t rows, size_t vectors)
{
    const size_t width = vectors * VL;
    vf v[CHAINS];
    size_t i = 0;
    UNROLL for (size_t j = 0; j < CHAINS; j++)
        v[j] = v_set1(0.0f);
    for (; i + CHAINS <= rows; i += CHAINS)
        UNROLL for (size_t j = 0; j < CHAINS; j++)
            v[j] = v_add(v[j], v_load(x + (i + j) * width));
    UNROLL for (size_t j = 0; j < CHAINS; j++)
        if (i + j < rows)
            v[j] = v_add(v[j], v_load(x + (i + j) * width));
    UNROLL for (size_t n = CHAINS / 2; n > 0; n /= 2)
        UNROLL for (size_t j = 0; j < n; j++)
            v[j] = v_add(v[j], v[j + n]);
    return v[0];
}

/* The new maxima; the factors by which they shrink what was summed before; the exponentials; the sums; and whether any
 * factor is not 1. */
INLINE bool softmax_strip(float *x, size_t rows, size_t vectors, float *max, double *sum, float *factor)
{
    vf m[TILE_VECTORS], shrunk[TILE_VECTORS];
    uint32_t differ = 0;
    UNROLL for (size_t c = 0; c < vectors; c++)
        m[c] = v_load(max + c * VL);
    column_maxima(m, x, rows, vectors);
    UNROLL for (size_t c = 0; c < vectors; c++) {
        shrunk[c] = v_sub(m[c], v_load(max + c * VL));
        v_store(max + c * VL, m[c]);
    }
    exp2_minus(shrunk, vectors);
    UNROLL for (size_t c = 0; c < vectors; c++)
        v_store(factor + c * VL, shrunk[c]);
    exp2_rows(x, rows, vectors, m);
    UNROLL for (size_t c = 0; c < vectors; c++)
        s_store(sum + c * VL, s_add(s_mul(s_load(sum + c * VL), v_load(factor + c * VL)),
                                    column_sum(x + c * VL, rows, vectors)));
    for (size_t c = 0; c < vectors * VL; c++) {   /* by their bits, for compilers make vectors of such a loop */
        uint32_t bits;
        memcpy(&bits, factor + c, sizeof bits);
        differ |= bits ^ 0x3f800000u;   /* 1.0f */
    }
    return differ != 0;
}

static bool softmax_piece(float *x, size_t rows, size_t width, float *max, double *sum, float *factor)
{
    return width > VL ? softmax_strip(x, rows, TILE_VECTORS, max, sum, factor)
        : softmax_strip(x, rows, 1, max, sum, factor);
}

static void scale_columns(float *x, size_t rows, size_t width, const float *factor)
{
    for (size_t c = 0; c < width; c += VL) {
        vf f = v_load(factor + c);
        for (size_t i = 0; i < rows; i++)
            v_store(x + i * width + c, v_mul(v_load(x + i * width + c), f));
    }
}

static void scale(float *y, const float *x, float a, size_t n)
{
    const vf factor = v_set1(a);
    EACH_VECTOR(n, put(y + i, left, v_mul(get(x + i, left), factor)));
}

/* ------------------------------------------------------------------------------- sums and norms */

static void sums(double *sum, double *sum_sq, const float *x, size_t n)
{
    vsum s1 = s_zero(), s2 = s_zero();
    EACH_VECTOR(n, {
        vf v = get(x + i, left);
        s1 = s_add(s1, v);
        s2 = s_add_square(s2, v);
    });
    *sum = s_total(s1);
    *sum_sq = s_total(s2);
}

static void norm_affine(float *y, const float *x, double mean, double rstd, const float *g, const float *b, size_t n)
{
    float mean_high = (float)mean;
    const vf high = v_set1(mean_high), low = v_set1((float)(mean - mean_high)), r = v_set1((float)rstd);
    EACH_VECTOR(n, {
        vf t = v_mul(v_sub(v_sub(get(x + i, left), high), low), r);
        put(y + i, left, v_fma(t, get(g + i, left), get(b + i, left)));
    });
}

static inline vf affine1(const float *x, const float *m, const float *a, const float *b, size_t left)
{
    return v_fma(v_sub(get(x, left), get(m, left)), get(a, left), get(b, left));
}

INLINE void affine_row(float *y, const float *x, const float *m, const float *a, const float *b, size_t n,
                       bool with_silu)
{
    EACH_VECTOR(n, {
        vf t = affine1(x + i, m + i, a + i, b + i, left);
        put(y + i, left, with_silu ? silu1(t) : t);
    });
}

/* The steps of one vector's SiLU wait for each other. Several vectors side by side fill that time. */
static void affine_silu(float *y, const float *x, const float *m, const float *a, const float *b, size_t n)
{
    size_t i = 0;
    for (; i + TOGETHER * VL <= n; i += TOGETHER * VL) {
        vf t[TOGETHER];
        UNROLL for (size_t j = 0, c = i; j < TOGETHER; j++, c += VL)
            t[j] = affine1(x + c, m + c, a + c, b + c, VL);
        gates(t, 1.0f, 0.0f, TOGETHER);
        UNROLL for (size_t j = 0; j < TOGETHER; j++)
            v_store(y + i + j * VL, t[j]);
    }
    affine_row(y + i, x + i, m + i, a + i, b + i, n - i, true);
}

/* Two loops, neither of which asks for each vector whether it is to take the SiLU. */
static void affine(float *y, const float *x, const float *m, const float *a, const float *b, size_t n, bool with_silu)
{
    if (with_silu)
        affine_silu(y, x, m, a, b, n);
    else
        affine_row(y, x, m, a, b, n, false);
}

const sd_kern TABLE = {
    .name = ISA_TEXT,
    .gemm_scratch = GEMM_SCRATCH * sizeof(float),
    .gemm = gemm,
    .panel_columns = TILE_COLUMNS,
    .panel_narrow = VL,
    .panel_rows = TALL_ROWS,
    .pack_panel = pack_panel,
    .pack_conv = pack_conv,
    .gemm_packed = gemm_packed,
    .gemm_turned = IN_PLACE ? gemm_turned : NULL,
    .panel = panel,
    .panel_ahead = panel_ahead,
    .winograd = &WINOGRAD,
    .winograd_enlarged = &ENLARGED,
    .widen_f16 = widen_f16,
    .widen_bf16 = widen_bf16,
    .silu = silu,
    .gelu = gelu,
    .quick_gelu = quick_gelu,
    .relu = relu,
    .soft_clamp = sdk_spec_soft_clamp,
    .to_unit = sdk_spec_to_unit,
    .from_unit = sdk_spec_from_unit,
    .geglu = geglu,
    .softmax_piece = softmax_piece,
    .scale_columns = scale_columns,
    .transpose = transpose,
    .scale = scale,
    .add = add,
    .sums = sums,
    .norm_affine = norm_affine,
    .affine = affine,
    .column_sums = column_sums,
    .extremes = extremes,
};
