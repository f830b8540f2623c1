/* kernels_simd.c - floor 1: the row functions and the matrix product in vectors.
 *
 * Compiled once per instruction set with the flags named in simd.h and -O3 (the tile's loops must be unrolled). Each
 * object has one external symbol, its table. kernels.c says what every entry computes; docs/PROOF.md and
 * tests/test_kernels.c bound the error against it. Elements are treated alike wherever they are in a row, so results do
 * not depend on how a caller cuts its rows; only `sums` and `softmax` add across a row. */
#include "kernels_spec.h"
#include "simd_exp.h"
#include "simd_rows.h"

#include <math.h>

#if defined(SD_ISA_AVX512)
#define TABLE sd_kern_avx512
#define WINOGRAD sd_winograd_avx512
#define ENLARGED sd_winograd_enlarged_avx512
#define TABLE_NAME "avx512"
#elif defined(SD_ISA_AVX2)
#define TABLE sd_kern_avx2
#define WINOGRAD sd_winograd_avx2
#define ENLARGED sd_winograd_enlarged_avx2
#define TABLE_NAME "avx2"
#elif defined(SD_ISA_SSE2)
#define TABLE sd_kern_sse2
#define WINOGRAD sd_winograd_sse2
#define ENLARGED sd_winograd_enlarged_sse2
#define TABLE_NAME "sse2"
#elif defined(SD_ISA_NEON)
#define TABLE sd_kern_neon
#define WINOGRAD sd_winograd_neon
#define ENLARGED sd_winograd_enlarged_neon
#define TABLE_NAME "neon"
#else
#define TABLE sd_kern_scalar
#define WINOGRAD sd_winograd_scalar
#define ENLARGED sd_winograd_enlarged_scalar
#define TABLE_NAME "scalar"
#endif

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

/* Exponentials in float precision, their sum in double. If an entry is NaN the maximum may be wrong, but then the sum
 * is NaN and so is the whole row. */
static void softmax(float *x, size_t n, float scale)
{
    if (n == 0)
        return;
    vf max4[4];
    for (size_t j = 0; j < 4; j++)
        max4[j] = v_set1(x[0]);
    size_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        for (size_t j = 0; j < 4; j++)
            max4[j] = v_max(v_load(x + i + j * VL), max4[j]);
    float max = v_max_lane(v_max(v_max(max4[0], max4[1]), v_max(max4[2], max4[3])));
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;

    const vf m = v_set1(max), s = v_set1(scale);
    vsum sum = s_zero();
    for (i = 0; i + VL <= n; i += VL) {
        vf e = exp_negative(v_sub(v_load(x + i), m), s);
        v_store(x + i, e);
        sum = s_add(sum, e);
    }
    double total = s_total(sum);
    if (i < n) {
        v_store_part(x + i, exp_negative(v_sub(v_load_part(x + i, n - i), m), s), n - i);
        for (size_t j = i; j < n; j++)
            total += x[j];
    }
    const vf factor = v_set1((float)(1.0 / total));
    for (i = 0; i < n; i += VL)
        put(x + i, n - i, v_mul(get(x + i, n - i), factor));
}

/* A strip's rows lie one after the other, so it is read as one sequence of vectors, `vectors` to a row, which is a
 * compile-time constant. */

/* m = the maxima of the columns and m; each column has as many partial ones. */
enum { MAXIMA = 4 };

static inline __attribute__((always_inline)) void column_maxima(vf *m, const float *x, size_t rows, size_t vectors)
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

/* x = 2^(x - m). The difference is taken the other way round, so that x is read by the subtraction itself; a row's
 * columns are side by side, but not their sums: they would not fit the registers. */
static inline __attribute__((always_inline)) void exp2_rows(float *x, size_t rows, size_t vectors, const vf *m)
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

static inline __attribute__((always_inline)) vf column_sum(const float *x, size_t rows, size_t vectors)
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

static inline __attribute__((always_inline)) bool softmax_strip(float *x, size_t rows, size_t vectors, float *max,
                                                                double *sum, float *factor)
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
    for (size_t c = 0; c < vectors * VL; c++) {   /* bits: compilers make vectors of this loop */
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

static inline __attribute__((always_inline)) void affine_row(float *y, const float *x, const float *m, const float *a,
                                                             const float *b, size_t n, bool with_silu)
{
    EACH_VECTOR(n, {
        vf t = affine1(x + i, m + i, a + i, b + i, left);
        put(y + i, left, with_silu ? silu1(t) : t);
    });
}

/* The steps of one vector's SiLU wait for each other. Several vectors side by side fill that time: 0.60 ns a number
 * instead of 0.69 (AVX2, Zen 3). */
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

/* -------------------------------------------------------------------------------- matrix product
 *
 * The order of Goto & van de Geijn 2008 ("Anatomy of High-Performance Matrix Multiplication"), with A and B exchanged:
 * a tile of C, TILE_ROWS x TILE_COLUMNS, stays in registers while k runs over a block of at most BLOCK_K. Its rows of A
 * stay in the L1 cache while the strips of a block of B, BLOCK_N columns at most, come from the L2 cache. B is first
 * copied to scratch, transposed so that a tile's columns are side by side. Of A a tile reads single numbers, so it need
 * not be transposed: rows of floats are read where they lie if the addresses of a tile's rows fit the registers
 * (IN_PLACE) and their lines the L1 cache's places (in_place), and all others from a copy.
 *
 * Every element is the sum over blocks of k, in order, of sums over k, in order, each in float with FMA; K alone
 * decides where blocks end. Short blocks also keep the error below that of one long sum. */

enum {
    TILE_COLUMNS = TILE_VECTORS * VL,
    TALL_ROWS = TILE_ROWS * TILE_VECTORS,   /* of the tile one vector wide, for the rest of N */
    BLOCK_K = 192,
    BLOCK_N = 768 / TILE_COLUMNS * TILE_COLUMNS,
    A_STRIDE = BLOCK_K + 16,  /* no power of two: a tile's rows would share cache lines' places */
    TURNED_ROWS = 8 * TILE_ROWS
};

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/* The first `columns` of a tile of `rows` x `vectors` vectors: c = acc + plus. */
static inline __attribute__((always_inline)) void finish_tile(const vf *acc, size_t rows, size_t vectors,
                                                              size_t columns, float *c, size_t ldc,
                                                              const float *plus, size_t ldp)
{
    UNROLL for (size_t j = 0; j < vectors; j++) {
        size_t n = columns > j * VL ? columns - j * VL : 0;
        UNROLL for (size_t i = 0; i < rows; i++) {
            vf v = acc[i * vectors + j];
            if (plus)
                v = v_add(v, get(plus + i * ldp + j * VL, n));
            put(c + i * ldc + j * VL, n, v);
        }
    }
}

/* Prefetches the cache lines of c: a store waits for its line, and stores wait for each other. */
static inline __attribute__((always_inline)) void fetch_tile(size_t rows, size_t vectors, const float *c, size_t ldc)
{
    UNROLL for (size_t i = 0; i < rows; i++)
        UNROLL for (size_t j = 0; j < vectors * VL; j += LINE)
            __builtin_prefetch(c + i * ldc + j, 1);
}

/* c = a b + plus for one tile of `rows` x `vectors` vectors, which are compile-time constants; a's rows are `stride`
 * apart. b is [kc][vectors VL], of which the first `columns` belong to c. plus may be NULL, or c itself; its rows are
 * ldp apart; ldp 0: the same row for all. If `fetches`, `ahead` are as many floats as a row of a has, which are wanted
 * soon: they come from the L3 cache or from memory, and asked for all at once they would wait for each other. */
static inline __attribute__((always_inline)) void multiply_tile(size_t rows, size_t vectors, size_t stride,
                                                                size_t columns, size_t kc,
                                                                const float *a, const float *b, float *c, size_t ldc,
                                                                const float *plus, size_t ldp, bool fetches,
                                                                const unsigned char *ahead)
{
    vf acc[TILE_ROWS * TILE_VECTORS];
    fetch_tile(rows, vectors, c, ldc);
    UNROLL for (size_t i = 0; i < rows * vectors; i++)
        acc[i] = v_set1(0.0f);
    for (size_t k = 0; k < kc; k++) {
        vf bk[TILE_VECTORS];
        if (fetches)
            __builtin_prefetch(ahead + k * sizeof(float));
        UNROLL for (size_t j = 0; j < vectors; j++)
            bk[j] = v_load(b + (k * vectors + j) * VL);
        UNROLL for (size_t i = 0; i < rows; i++) {
            vf ai = v_set1(a[i * stride + k]);
            UNROLL for (size_t j = 0; j < vectors; j++)
                acc[i * vectors + j] = v_fma(ai, bk[j], acc[i * vectors + j]);
        }
    }
    if (columns == vectors * VL)
        finish_tile(acc, rows, vectors, vectors * VL, c, ldc, plus, ldp);   /* columns is a constant here */
    else
        finish_tile(acc, rows, vectors, columns, c, ldc, plus, ldp);
}

/* Tiles of every height up to TILE_ROWS, so that the last rows of a block leave no sums idle, and of the shape's
 * greatest height, which is one of 8, 12, 14, 16, 24 and 28. */
#define HEIGHT(n) \
    case n: \
        if (n <= TILE_ROWS || n == MOST) \
            multiply_tile(n, VECTORS, stride, columns, kc, a, b, c, ldc, plus, ldp, FETCHES, ahead); \
        break;
#define TILES(name, most, vectors, a_stride, fetches) \
    static void name(size_t rows, size_t columns, size_t kc, const float *a, size_t lda, const float *b, float *c, \
                     size_t ldc, const float *plus, size_t ldp, const void *ahead) \
    { \
        enum { MOST = most, VECTORS = vectors, FETCHES = fetches }; \
        const size_t stride = a_stride; \
        (void)lda; \
        switch (rows) { \
            HEIGHT(1) HEIGHT(2) HEIGHT(3) HEIGHT(4) HEIGHT(5) HEIGHT(6) HEIGHT(7) HEIGHT(8) HEIGHT(9) HEIGHT(10) \
            HEIGHT(11) HEIGHT(12) HEIGHT(13) HEIGHT(14) HEIGHT(16) HEIGHT(24) HEIGHT(28) \
        } \
    }

TILES(wide_tile, TILE_ROWS, TILE_VECTORS, IN_PLACE ? lda : A_STRIDE, IN_PLACE)
TILES(tall_tile, TALL_ROWS, 1, IN_PLACE ? lda : A_STRIDE, IN_PLACE)
TILES(wide_panel, TILE_ROWS, TILE_VECTORS, SDK_PANEL, false)
TILES(tall_panel, TALL_ROWS, 1, SDK_PANEL, false)

/* Two shapes with the same number of sums in registers, each for a product's and for a panel's rows of a. */
typedef void tile_fn(size_t rows, size_t columns, size_t kc, const float *a, size_t lda, const float *b, float *c,
                     size_t ldc, const float *plus, size_t ldp, const void *ahead);
typedef struct shapes {
    tile_fn *wide, *tall;
} shapes;
static const shapes for_gemm = {wide_tile, tall_tile}, for_panel = {wide_panel, tall_panel};

static inline size_t strip_width(size_t columns) { return columns > VL ? TILE_COLUMNS : VL; }

/* How the numbers of B are stored: as floats, or in 16 bits, which widen_f16 and widen_bf16 convert. */
typedef enum stored { FLOATS, HALVES, BFLOATS } stored;

static inline stored stored_for(sdk_widen *widen)
{
    return !widen ? FLOATS : widen == widen_bf16 ? BFLOATS : HALVES;
}

/* The vector at `from`, of which `left` numbers may be touched; the rest reads as 0. */
static inline __attribute__((always_inline)) vf get_stored(stored as, const void *from, size_t left)
{
    if (as == FLOATS)
        return get(from, left);
    if (left >= VL)
        return as == HALVES ? v_widen_f16(from) : v_widen_bf16(from);
    uint16_t part[VL] = {0};
    memcpy(part, from, left * sizeof *part);
    return as == HALVES ? v_widen_f16(part) : v_widen_bf16(part);
}

static inline const void *row_of(stored as, const void *from, size_t number)
{
    return (const unsigned char *)from + number * (as == FLOATS ? sizeof(float) : sizeof(uint16_t));
}

/* Where `turn` writes its next row. Numbers of a convolution's weight lie as [channel][tap], and their rows as
 * [tap][channel]: `along` from one tap to the next, `back` from the last tap to the next channel's first. */
typedef struct place {
    float *row;
    size_t tap, taps;
    ptrdiff_t along, back;
} place;

static inline __attribute__((always_inline)) void next_place(place *p)
{
    bool last = ++p->tap == p->taps;
    p->row += last ? -p->back : p->along;
    p->tap = last ? 0 : p->tap;
}

/* `rows` x `columns` numbers, at most VL each, turned; constants for a whole block. */
static inline __attribute__((always_inline)) void turn_block(place *to, stored as, const void *from, size_t from_stride,
                                                             size_t rows, size_t columns)
{
    vf r[VL];
    UNROLL for (size_t i = 0; i < VL; i++)
        r[i] = i < rows ? get_stored(as, row_of(as, from, i * from_stride), columns) : v_set1(0.0f);
    v_transpose(r);
    UNROLL for (size_t j = 0; j < VL; j++)
        if (j < columns) {
            put(to->row, rows, r[j]);
            next_place(to);
        }
}

/* to[j' to_stride + i] = from[i from_stride + j], i < rows, j < columns. j is channel taps + tap, and j' is tap
 * channels + channel, the order of a convolution's unfolded input. */
static inline __attribute__((always_inline)) void turn(float *to, size_t to_stride, stored as, const void *from,
                                                       size_t from_stride, size_t rows, size_t columns, size_t taps)
{
    ptrdiff_t stride = (ptrdiff_t)to_stride, along = (ptrdiff_t)(columns / taps) * stride,
        back = (ptrdiff_t)(taps - 1) * along - stride;
    for (size_t i = 0; i < rows; i += VL) {
        place p = {to + i, 0, taps, along, back};
        const void *row = row_of(as, from, i * from_stride);
        size_t j = 0;
        if (rows - i >= VL)
            for (; j + VL <= columns; j += VL) {
                UNROLL for (size_t k = 0; k < VL; k++)   /* of the next rows: they come from memory */
                    __builtin_prefetch(row_of(as, row, j + (VL + k) * from_stride));
                turn_block(&p, as, row_of(as, row, j), from_stride, VL, VL);
            }
        for (; j < columns; j += VL)
            turn_block(&p, as, row_of(as, row, j), from_stride, min_size(rows - i, VL), min_size(columns - j, VL));
    }
}

static void transpose(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns)
{
    turn(to, to_stride, FLOATS, from, from_stride, rows, columns, 1);
}

/* Packs `columns` of B as a strip [kc][width], with zeros up to the width, from rows [columns, ldb], which are turned.
 * One function for each way to store numbers, with and without taps: it is a constant in most of them. */
#define TURN(as, taps) turn(to, width, as, b, ldb, columns, kc, taps)
static void pack_turned(float *to, size_t width, stored as, const void *b, size_t ldb, size_t columns, size_t kc,
                        size_t taps)
{
    if (columns < width)
        memset(to, 0, kc * width * sizeof(float));
    switch (as) {
    case FLOATS: if (taps == 1) TURN(FLOATS, 1); else TURN(FLOATS, taps); break;
    case HALVES: if (taps == 1) TURN(HALVES, 1); else TURN(HALVES, taps); break;
    case BFLOATS: if (taps == 1) TURN(BFLOATS, 1); else TURN(BFLOATS, taps); break;
    }
}

/* The same from rows [K, columns], which need not be turned. */
static void pack_straight(float *to, size_t width, const float *b, size_t ldb, size_t columns, size_t kc)
{
    if (columns < width)
        memset(to, 0, kc * width * sizeof(float));
    for (size_t k = 0; k < kc; k++)
        for (size_t j = 0; j < columns; j += VL)
            put(to + k * width + j, columns - j, get(b + k * ldb + j, columns - j));
}

/* How rows are shared out among tiles: so many tall ones, then tiles of low + 1 rows, then of low ones. What is left
 * after the tall tiles is shared out evenly, because a very low tile would wait for its own sums. */
typedef struct heights { size_t tall, higher, low; } heights;

static inline heights heights_of(size_t rows, size_t columns)
{
    heights h = {.tall = columns <= VL ? rows / TALL_ROWS : 0};
    size_t left = rows - h.tall * TALL_ROWS, tiles = (left + TILE_ROWS - 1) / TILE_ROWS;
    h.low = left;
    if (tiles > 1) {   /* 32 bits: a division of 64 takes longer than some products */
        h.low = (uint32_t)left / (uint32_t)tiles;
        h.higher = left - h.low * tiles;
    }
    return h;
}

static inline size_t next_height(heights *h)
{
    if (h->tall) {
        h->tall--;
        return TALL_ROWS;
    }
    if (!h->higher)
        return h->low;
    h->higher--;
    return h->low + 1;
}

/* Strips [depth][strip_width], one after the other; of each, rows from k0 on are used. */
typedef struct strips {
    const float *at;
    size_t depth, k0;
} strips;

/* Of n numbers from `at` on, `each` are fetched with every tile: many at once would wait for each other, and the tile's
 * own loads for them. */
typedef struct fetching {
    const float *at;
    size_t n, each;
} fetching;

static inline void fetch_share(fetching *f)
{
    size_t n = min_size(f->n, f->each);
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i += LINE)
        __builtin_prefetch(f->at + i);
    f->at += n;
    f->n -= n;
}

/* Rows of a product's left operand, `ld` numbers apart. */
typedef struct rows_of {
    const void *at;
    size_t ld;
    stored as;
} rows_of;

static inline const void *row_at(rows_of a, size_t i) { return row_of(a.as, a.at, i * a.ld); }

/* The first n numbers of row i */
static inline void fetch_row(rows_of a, size_t i, size_t n)
{
    for (size_t k = 0; k < n; k += a.as == FLOATS ? LINE : 2 * LINE)
        __builtin_prefetch(row_of(a.as, row_at(a, i), k));
}

/* c[rows, columns] = a b + plus. The tiles of a strip fetch one of the `rows_ahead` rows of a that are wanted next; if
 * there are more rows than strips, the rest is fetched before the tiles. (Where rows are always copied, none of these
 * are fetched.) Each tile also fetches its share of what `ahead` says, SDK_AHEAD of them or NULL. */
static inline __attribute__((always_inline)) void multiply_block(const shapes *shape, size_t rows, size_t columns,
                                                                 size_t kc, const float *a, size_t lda, strips b,
                                                                 float *c, size_t ldc, const float *plus, size_t ldp,
                                                                 rows_of next, size_t rows_ahead, fetching *ahead)
{
    size_t all = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    for (size_t j = 0, s = 0; j < columns; j += TILE_COLUMNS, s++) {
        size_t n = min_size(columns - j, TILE_COLUMNS);
        const float *strip = b.at + j * b.depth + b.k0 * strip_width(n);
        tile_fn *multiply = n > VL ? shape->wide : shape->tall;
        const void *fetched = s < rows_ahead ? row_at(next, s) : a;
        for (size_t r = s + all; IN_PLACE && r < rows_ahead; r += all)
            fetch_row(next, r, kc);
        heights h = heights_of(rows, n);
        for (size_t i = 0, height; i < rows; i += height) {
            height = next_height(&h);
            if (ahead)
                UNROLL for (size_t k = 0; k < SDK_AHEAD; k++)
                    fetch_share(ahead + k);
            multiply(height, n, kc, a + i * lda, lda, strip, c + i * ldc + j, ldc, plus ? plus + i * ldp + j : NULL,
                     ldp, fetched);
        }
    }
}

static void pack_panel(float *to, const void *b, size_t ldb, bool b_trans, sdk_widen *widen, size_t columns, size_t kc)
{
    stored as = stored_for(widen);
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        size_t n = min_size(columns - j, TILE_COLUMNS);
        if (b_trans)
            pack_turned(to + j * kc, strip_width(n), as, row_of(as, b, j * ldb), ldb, n, kc, 1);
        else
            pack_straight(to + j * kc, strip_width(n), (const float *)b + j, ldb, n, kc);
    }
}

static void pack_conv(float *to, const void *w, sdk_widen *widen, size_t columns, size_t channels, size_t taps)
{
    stored as = stored_for(widen);
    size_t K = channels * taps;
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        size_t n = min_size(columns - j, TILE_COLUMNS);
        pack_turned(to + j * K, strip_width(n), as, row_of(as, w, j * K), K, n, K, taps);
    }
}

static void panel(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc,
                  bool accumulate)
{
    multiply_block(&for_panel, rows, columns, kc, a, SDK_PANEL, (strips){b, kc, 0}, c, ldc, accumulate ? c : NULL, ldc,
                   (rows_of){0}, 0, NULL);
}

static void panel_ahead(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc,
                        bool accumulate, const sdk_ahead ahead[SDK_AHEAD])
{
    size_t height = columns > VL ? TILE_ROWS : TALL_ROWS;
    size_t tiles = (rows + height - 1) / height * ((columns + TILE_COLUMNS - 1) / TILE_COLUMNS);
    fetching f[SDK_AHEAD];
    tiles = tiles ? tiles : 1;
    for (size_t k = 0; k < SDK_AHEAD; k++) {
        size_t lines = (ahead[k].n + LINE - 1) / LINE;
        f[k] = (fetching){ahead[k].at, ahead[k].n, (lines + tiles - 1) / tiles * LINE};
    }
    multiply_block(&for_panel, rows, columns, kc, a, SDK_PANEL, (strips){b, kc, 0}, c, ldc, accumulate ? c : NULL, ldc,
                   (rows_of){0}, 0, f);
}

/* Rows that begin a multiple of 4 KiB apart would share a few lines' places in the L1 cache. */
static inline bool in_place(rows_of a) { return IN_PLACE && a.as == FLOATS && a.ld % 1024 != 0; }

static inline void copy_row(float *to, const void *from, stored as, size_t n)
{
    if (as == FLOATS)
        memcpy(to, from, n * sizeof(float));
    else
        (as == HALVES ? widen_f16 : widen_bf16)(to, from, n);
}

/* C[M,N] = A[M,kc] B + plus, see multiply_tile. `then`: rows that are wanted next, as many as those of A, or NULL.
 * room: for a tile's rows of A. */
static void multiply_rows(float *room, size_t M, size_t N, size_t kc, rows_of A, const void *then, strips b, float *C,
                          size_t ldc, const float *plus, size_t ldp)
{
    bool copied = !in_place(A);
    heights h = heights_of(M, N);
    for (size_t i = 0, height; i < M; i += height) {
        height = next_height(&h);
        const float *rows = copied ? room : row_at(A, i);
        if (copied)
            for (size_t r = 0; r < height; r++)
                copy_row(room + r * A_STRIDE, row_at(A, i + r), A.as, kc);
        size_t left = M - i - height;
        rows_of next = {left ? row_at(A, i + height) : then, A.ld, A.as};
        multiply_block(&for_gemm, height, N, kc, rows, copied ? A_STRIDE : A.ld, b, C + i * ldc, ldc,
                       plus ? plus + i * ldp : NULL, ldp, next, left ? min_size(left, height) : then ? height : 0,
                       NULL);
    }
}

static inline size_t blocks_of(size_t K) { return K ? (K + BLOCK_K - 1) / BLOCK_K : 1; }

static void gemm(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const void *B, size_t ldb,
                 bool b_trans, sdk_widen *widen, float *C, size_t ldc, const float *bias)
{
    float *packed = scratch, *room = packed + BLOCK_K * BLOCK_N;
    size_t blocks = blocks_of(K);
    for (size_t j0 = 0; j0 < N; j0 += BLOCK_N) {
        size_t nc = min_size(N - j0, BLOCK_N);
        for (size_t block = 0; block < blocks; block++) {
            size_t k0 = K * block / blocks, kc = K * (block + 1) / blocks - k0;
            size_t from = b_trans ? j0 * ldb + k0 : k0 * ldb + j0;
            pack_panel(packed, row_of(stored_for(widen), B, from), ldb, b_trans, widen, nc, kc);
            const float *plus = block ? C + j0 : bias ? bias + j0 : NULL;
            multiply_rows(room, M, nc, kc, (rows_of){A + k0, lda, FLOATS}, NULL, (strips){packed, kc, 0}, C + j0, ldc,
                          plus, block ? ldc : 0);
        }
    }
}

static void gemm_packed(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const float *packed,
                        float *C, size_t ldc, const float *bias)
{
    size_t blocks = blocks_of(K);
    for (size_t block = 0; block < blocks; block++) {
        size_t k0 = K * block / blocks, kc = K * (block + 1) / blocks - k0;
        multiply_rows(scratch, M, N, kc, (rows_of){A + k0, lda, FLOATS}, NULL, (strips){packed, K, k0}, C, ldc,
                      block ? C : bias, block ? ldc : 0);
    }
}

/* A's strips, and some rows of B at a time: C^T = B A^T. The sums stay in scratch until they are whole and are then
 * turned into C. */
static void gemm_turned(void *scratch, size_t M, size_t N, size_t K, const float *packed, const void *B, size_t ldb,
                        sdk_widen *widen, float *C, size_t ldc, const float *bias, const void *after)
{
    size_t blocks = blocks_of(K), strips_end = M / TILE_COLUMNS * TILE_COLUMNS,
        width = strips_end + (M > strips_end ? strip_width(M - strips_end) : 0), ldt = width + 16;
    float *room = scratch, *turned = room + TALL_ROWS * A_STRIDE;
    rows_of rows = {B, ldb, stored_for(widen)};
    size_t few = (N + TURNED_ROWS - 1) / TURNED_ROWS;   /* about as many at a time */
    few = few ? (N + few * VL - 1) / (few * VL) * VL : 1;
    for (size_t j = 0; j < N; j += few) {
        size_t n = min_size(N - j, few);
        for (size_t i = 0; bias && i < n; i++)
            for (size_t m = 0; m < width; m += VL)
                v_store(turned + i * ldt + m, v_set1(bias[j + i]));
        for (size_t block = 0; block < blocks; block++) {
            size_t k0 = K * block / blocks, k1 = K * (block + 1) / blocks;
            rows_of here = {row_of(rows.as, row_at(rows, j), k0), ldb, rows.as};
            const void *then = block + 1 < blocks ? row_of(rows.as, here.at, k1 - k0)
                : j + n < N ? row_at(rows, j + n) : after;
            multiply_rows(room, n, width, k1 - k0, here, then, (strips){packed, K, k0}, turned, ldt,
                          block || bias ? turned : NULL, ldt);
        }
        for (size_t m = 0; m < M; m += VL) {
            for (size_t i = m + VL; i < min_size(M, m + 2 * VL); i++)   /* the next rows: their lines are far away */
                for (size_t c = 0; c < n; c += LINE)
                    __builtin_prefetch(C + i * ldc + j + c, 1);
            transpose(C + m * ldc + j, ldc, turned + m, ldt, n, min_size(VL, M - m));
        }
    }
}

const sd_kern TABLE = {
    .name = TABLE_NAME,
    .gemm_scratch = (BLOCK_K * BLOCK_N + TALL_ROWS * A_STRIDE) * sizeof(float),
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
    .softmax = softmax,
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
