/* kernels_precise.c - floor 1: the specification's matrix product and softmax in vectors of doubles, bit for bit.
 *
 * Compiled once per instruction set, like kernels_simd.c. In a matrix product a lane holds one element of C: it adds
 * the products A_ik B_kj over k in order, beginning at 0, as kernels.c does. A product of two floats has at most 48
 * significant bits and an exponent that a double can hold, so it is exact. Hence an FMA, which rounds once, gives the
 * same bits as a product and a sum, where only the sum is rounded.
 *
 * The order of loops is that of simd_gemm.h. Sums are kept in double from one block of k to the next, so that the
 * result does not show where blocks end. */
#include "kernels_spec.h"
#include "simd_double.h"
#include "simd_rows.h"

#include <math.h>

#define TABLE OF_ISA(sd_kern_precise)
extern const sd_kern TABLE;

/* ----------------------------------------------------------------------------------------- softmax */

static inline vd exp_negative(vd x)   /* sdk_exp_negative; products and sums are rounded one by one */
{
    const vd round = d_set1(0x1.8p52);
    vd z = d_add(d_mul(x, d_set1(SDK_EXP_LOG2E)), round), n = d_sub(z, round), q = d_set1(sdk_exp_q[0]);
    vd r = d_sub(x, d_mul(n, d_set1(SDK_EXP_LN2)));
    r = d_sub(r, d_mul(n, d_set1(SDK_EXP_LN2_REST)));
    UNROLL for (size_t i = 1; i < SDK_EXP_TERMS; i++)
        q = d_add(d_mul(q, r), d_set1(sdk_exp_q[i]));
    vd e = d_add(d_set1(1.0), d_add(r, d_mul(q, d_mul(r, r))));
    return d_zero_below(x, d_set1(-708.0), d_mul(e, d_power_of_two(z)));
}

/* The largest number of a row, skipping NaN; -inf if it is empty */
static float row_max(const float *x, size_t n)
{
    vf max = v_set1(-INFINITY);
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        max = v_max(v_load(x + i), max);
    float m = v_max_lane(max);
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

static void softmax(float *x, size_t n, float scale)
{
    enum { STEP = SDK_SOFTMAX_SUMS, VECTORS = STEP / DL };
    double max = row_max(x, n), sums[STEP];
    const vd m = d_set1(max), s = d_set1(scale);
    vd sum[VECTORS];
    UNROLL for (size_t v = 0; v < VECTORS; v++)
        sum[v] = d_set1(0);
    size_t whole = n / STEP * STEP;
    for (size_t i = 0; i < whole; i += STEP)
        UNROLL for (size_t v = 0; v < VECTORS; v++)
            sum[v] = d_add(sum[v], exp_negative(d_mul(s, d_sub(d_widen(x + i + v * DL), m))));
    UNROLL for (size_t v = 0; v < VECTORS; v++)
        d_store(sums + v * DL, sum[v]);
    for (size_t i = whole; i < n; i++)
        sums[i - whole] += sdk_exp_negative(scale * (x[i] - max));
    double total = sdk_join_sums(sums);
    const vd divisor = d_set1(total);
    size_t i = 0;
    for (; i + DL <= n; i += DL)
        d_narrow(x + i, d_div(exp_negative(d_mul(s, d_sub(d_widen(x + i), m))), divisor));
    for (; i < n; i++)
        x[i] = (float)(sdk_exp_negative(scale * (x[i] - max)) / total);
}

/* ---------------------------------------------------------------------------------- matrix product */

enum {
    TILE_COLUMNS = PRECISE_VECTORS * DL,
    TALL_ROWS = PRECISE_ROWS * PRECISE_VECTORS,   /* of the tile one vector wide, for the rest of N */
    BLOCK_K = 128,                                /* so many terms of a tile's rows and columns fit the L1 cache */
    BLOCK_M = 168 / TALL_ROWS * TALL_ROWS,
    CHUNK = 3 * BLOCK_M,                          /* rows for which a block of B is packed once */
    BLOCK_N = 384 / TILE_COLUMNS * TILE_COLUMNS,
    A_STRIDE = BLOCK_K + 8                        /* no power of two: a tile's rows would share cache lines' places */
};

static inline size_t strip_width(size_t columns) { return columns > DL ? TILE_COLUMNS : DL; }

/* sum[rows, vectors DL] = (sum +) a b: `rows` rows of a, A_STRIDE apart, and b [kc][vectors DL] */
INLINE void multiply_tile(size_t rows, size_t vectors, size_t kc, const double *a, const double *b, double *sum,
                          bool first)
{
    vd acc[PRECISE_ROWS * PRECISE_VECTORS];
    UNROLL for (size_t i = 0; i < rows * vectors; i++)
        acc[i] = first ? d_set1(0) : d_load(sum + i * DL);
    for (size_t k = 0; k < kc; k++) {
        vd bk[PRECISE_VECTORS];
        UNROLL for (size_t j = 0; j < vectors; j++)
            bk[j] = d_load(b + (k * vectors + j) * DL);
        UNROLL for (size_t i = 0; i < rows; i++) {
            vd ai = d_set1(a[i * A_STRIDE + k]);
            UNROLL for (size_t j = 0; j < vectors; j++)
                acc[i * vectors + j] = d_fma(ai, bk[j], acc[i * vectors + j]);
        }
    }
    UNROLL for (size_t i = 0; i < rows * vectors; i++)
        d_store(sum + i * DL, acc[i]);
}

static void wide_tile(size_t kc, const double *a, const double *b, double *sum, bool first)
{
    multiply_tile(PRECISE_ROWS, PRECISE_VECTORS, kc, a, b, sum, first);
}

static void tall_tile(size_t kc, const double *a, const double *b, double *sum, bool first)
{
    multiply_tile(TALL_ROWS, 1, kc, a, b, sum, first);
}

/* Stores a vector of floats as doubles: all of it, or its first DL */
static inline void store_wide(double *to, vf v, bool whole)
{
    d_store(to, low_half(v));
    if (whole)
        d_store(to + DL, high_half(v));
}

/* Packs rows x kc of A into [..][A_STRIDE], with rows of zeros up to a whole tile of either shape. Rows may end with
 * numbers that are never read. */
static void pack_a(double *to, const float *a, size_t lda, size_t rows, size_t kc)
{
    size_t r = 0;
    for (; r < rows; r++)
        for (size_t k = 0; k < kc; k += VL)
            store_wide(to + r * A_STRIDE + k, get(a + r * lda + k, kc - k), true);
    for (; r % TALL_ROWS; r++)
        memset(to + r * A_STRIDE, 0, kc * sizeof *to);
}

/* Packs `columns` of B as a strip [kc][width], with zeros up to the width. b is [columns, K] if b_trans, else
 * [K, columns]. */
static void pack_strip(double *to, size_t width, const float *b, size_t ldb, bool b_trans, size_t columns, size_t kc)
{
    for (size_t j = 0; j < width; j += VL)
        for (size_t k = 0; k < kc; k += b_trans ? VL : 1) {
            vf r[VL];
            if (!b_trans) {
                store_wide(to + k * width + j, j < columns ? get(b + k * ldb + j, columns - j) : v_set1(0.0f),
                           j + DL < width);
                continue;
            }
            UNROLL for (size_t i = 0; i < VL; i++)
                r[i] = j + i < columns ? get(b + (j + i) * ldb + k, kc - k) : v_set1(0.0f);
            v_transpose(r);
            UNROLL for (size_t i = 0; i < VL; i++)
                if (k + i < kc)
                    store_wide(to + (k + i) * width + j, r[i], j + DL < width);
        }
}

static void pack_b(double *to, const void *B, size_t from, size_t ldb, bool b_trans, sdk_widen *widen, size_t columns,
                   size_t kc)
{
    float rows[TILE_COLUMNS * BLOCK_K];   /* widened */
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        size_t n = min_size(columns - j, TILE_COLUMNS), at = from + j * (b_trans ? ldb : 1);
        for (size_t i = 0; widen && i < n; i++)
            widen(rows + i * BLOCK_K, (const uint16_t *)B + at + i * ldb, kc);
        pack_strip(to + j * kc, strip_width(columns - j), widen ? rows : (const float *)B + at, widen ? BLOCK_K : ldb,
                   b_trans, n, kc);
    }
}

/* Multiplies `rows` rows of a chunk from row0 on. The chunk's sums are [CHUNK][width] for each strip of columns, one
 * after the other. */
static void multiply_block(size_t row0, size_t rows, size_t columns, size_t kc, const double *a, const double *b,
                           double *sum, bool first)
{
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        bool wide = columns - j > DL;
        size_t width = wide ? TILE_COLUMNS : DL, height = wide ? PRECISE_ROWS : TALL_ROWS;
        for (size_t i = 0; i < rows; i += height)
            (wide ? wide_tile : tall_tile)(kc, a + i * A_STRIDE, b + j * kc, sum + j * CHUNK + (row0 + i) * width,
                                           first);
    }
}

static void finish(size_t rows, size_t columns, const double *sum, float *c, size_t ldc, const float *bias)
{
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        size_t width = strip_width(columns - j), n = min_size(columns - j, width);
        for (size_t i = 0; i < rows; i++)
            for (size_t l = 0; l < n; l++)
                c[i * ldc + j + l] = (float)(sum[j * CHUNK + i * width + l] + (bias ? (double)bias[j + l] : 0.0));
    }
}

static void gemm(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const void *B, size_t ldb,
                 bool b_trans, sdk_widen *widen, float *C, size_t ldc, const float *bias)
{
    double *a = scratch, *b = a + BLOCK_M * A_STRIDE, *sum = b + BLOCK_K * BLOCK_N;
    for (size_t j0 = 0; j0 < N; j0 += BLOCK_N)
        for (size_t i0 = 0; i0 < M; i0 += CHUNK) {
            size_t nc = min_size(N - j0, BLOCK_N), rows = min_size(M - i0, CHUNK);
            for (size_t k0 = 0; k0 == 0 || k0 < K; k0 += BLOCK_K) {
                size_t kc = min_size(K - k0, BLOCK_K);
                pack_b(b, B, b_trans ? j0 * ldb + k0 : k0 * ldb + j0, ldb, b_trans, widen, nc, kc);
                for (size_t i = 0; i < rows; i += BLOCK_M) {
                    size_t mc = min_size(rows - i, BLOCK_M);
                    pack_a(a, A + (i0 + i) * lda + k0, lda, mc, kc);
                    multiply_block(i, mc, nc, kc, a, b, sum, k0 == 0);
                }
            }
            finish(rows, nc, sum, C + i0 * ldc + j0, ldc, bias ? bias + j0 : NULL);
        }
}

/* The specification's attention for all queries together: two products with a softmax of rows between them. */
static void attention(void *scratch, float *weights, const sdk_head *h, size_t first, size_t n)
{
    float scale = (float)(1 / sqrt((double)h->d));
    size_t S = h->keys;
    gemm(scratch, n, S, h->d, h->q + first * h->ld, h->ld, h->k, h->ld, true, NULL, weights, S, NULL);
    for (size_t i = 0; i < n; i++) {
        size_t seen = h->causal ? first + i + 1 : S;
        softmax(weights + i * S, seen, scale);
        memset(weights + i * S + seen, 0, (S - seen) * sizeof *weights);
    }
    gemm(scratch, n, h->d, S, weights, S, h->v, h->ld, false, NULL, h->y + first * h->ld, h->ld, NULL);
}

const sd_kern TABLE = {
    .name = "precise " ISA_TEXT,
    .precise = true,
    .gemm_scratch = (BLOCK_M * A_STRIDE + BLOCK_K * BLOCK_N + CHUNK * BLOCK_N) * sizeof(double),
    .gemm = gemm,
    .attention = attention,
    SDK_SPEC_ROWS
};
