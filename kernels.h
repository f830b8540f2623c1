/* kernels.h - floor 1: the table of raw-row functions, one table per instruction set.
 *
 * kernels.c is the specification: plain C99, sums in double. The other tables add in float: one for each instruction
 * set, and "scalar", also plain C99, for machines whose vectors are not supported here.
 * Rows are contiguous floats. Lengths may be 0, nothing need be aligned, and input and output may be the same row. */
#ifndef SD_KERNELS_H
#define SD_KERNELS_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "build without -ffast-math, -Ofast, -ffinite-math-only: without infinity and NaN every picture is black"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 2
#error "build with -msse2 -mfpmath=sse: sums with more digits than a float has are other bits on every compiler"
#endif

/* Convolution of 3x3 with padding 1 by a minimal algorithm, kernels_winograd.c: Y = A^T [(G g G^T) * (B^T d B)] A. A
 * tile is out x out output pixels Y, which come from 6x6 input pixels d that begin one pixel up and left of it; the
 * next tile's input is `step` pixels further on. * multiplies two matrices of `planes` numbers each, element by
 * element. The p-th numbers of all tiles and channels are plane p; planes lie `plane` numbers apart. All channels are
 * treated alike and independently. */
enum { SDK_WINOGRAD_IN = 6, SDK_WINOGRAD_MOST_OUT = 8 };
typedef struct sd_winograd {
    size_t out, step, planes;
    /* v[p plane + c] = (B^T d B)_p for channel c < n; d are the c-th numbers at the 36 addresses `pixel`, row by row.
     * It prefetches the next tile's pixels, `ahead` numbers on, and that tile's place in v, SDK_PANEL numbers on. */
    void (*input)(float *v, size_t plane, const float *const *pixel, size_t ahead, size_t n);
    /* u[p plane + k width + i] = (G g G^T)_p for input channel k < n and output channel i < width, which is
     * panel_narrow or panel_columns; g are the nine numbers w[(9 k + tap) width + i]: weights packed by pack_panel */
    void (*weights)(float *u, size_t plane, const float *w, size_t width, size_t n);
    /* The c-th numbers of a tile's pixels, c < n: A^T m A + bias, m_p = m[p plane + c]. NULL in `pixel`: no such pixel.
     * bias may be NULL. */
    void (*output)(float *const *pixel, const float *m, size_t plane, const float *bias, size_t n);
} sd_winograd;

/* A panel is a block of a product's left operand: rows of at most SDK_PANEL numbers, beginning SDK_PANEL apart. Such
 * short sums keep the rounding error small. */
enum { SDK_PANEL = 64 };

/* n numbers that the caller reads soon: a hint. n may be 0, and `at` then anything. SDK_AHEAD: from so many places. */
typedef struct sdk_ahead { const float *at; size_t n; } sdk_ahead;
enum { SDK_AHEAD = 2 };
enum { SDK_TURNED = 512 };   /* most rows of gemm_turned's left operand */

typedef void sdk_widen(float *y, const uint16_t *x, size_t n);   /* 16-bit numbers to float, exact */

/* One head of an attention: queries, keys, values and results have d numbers each and begin `ld` numbers apart. */
typedef struct sdk_head {
    const float *q, *k, *v;
    float *y;
    size_t ld, d, keys;
    bool causal;        /* query t sees the keys 0..t alone */
} sdk_head;

typedef struct sd_kern {
    const char *name;   /* "scalar", "sse2", "avx2", "avx512", "neon"; "precise", "precise sse2" and so on */
    bool precise;       /* the specification's bits */

    /* C[M,N] = A[M,K] op(B) + bias[N] (bias may be NULL). C overlaps neither A nor B.
     * b_trans: B is [N,K] (a weight matrix), otherwise [K,N]. ld* are row strides in numbers. It uses one thread.
     * B holds floats; or, if `widen` is not NULL, 16-bit numbers that are widened on the way (only with b_trans), with
     * the same bits. `widen` is the same table's widen_f16 or widen_bf16. scratch: gemm_scratch bytes, 64-byte aligned,
     * contents irrelevant; one per thread; may be NULL if gemm_scratch is 0. The bits of an element of C depend on its
     * row of A, its column of B and K alone, never on M or N: a caller may split M and N among threads as it likes. */
    size_t gemm_scratch;
    void (*gemm)(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const void *B, size_t ldb,
                 bool b_trans, sdk_widen *widen, float *C, size_t ldc, const float *bias);

    /* The same in parts, for callers who lay out the operands themselves; NULL in the specification. pack_panel turns
     * `columns` columns of B (see gemm) into strips [kc][panel_columns], one after the other; the last one is only
     * panel_narrow wide if that is enough. panel: c[rows, columns] = a[rows, kc] b, or += if `accumulate`; a is a
     * panel, b such strips. Every number of rows is equally fast per row (the tallest tile has panel_rows);
     * columns are fastest in multiples of panel_narrow. panel_ahead: the same, and `ahead` is fetched into the caches
     * meanwhile, a share with each tile. */
    size_t panel_columns, panel_narrow, panel_rows;
    void (*pack_panel)(float *to, const void *b, size_t ldb, bool b_trans, sdk_widen *widen, size_t columns, size_t kc);
    void (*panel)(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc,
                  bool accumulate);
    void (*panel_ahead)(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc,
                        bool accumulate, const sdk_ahead ahead[SDK_AHEAD]);

    /* A convolution's weights [columns, channels, taps] as such strips [taps channels][panel_columns], in the order of
     * the unfolded input; and gemm with all of B packed so. NULL in the specification. */
    void (*pack_conv)(float *to, const void *w, sdk_widen *widen, size_t columns, size_t channels, size_t taps);
    void (*gemm_packed)(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const float *packed,
                        float *C, size_t ldc, const float *bias);
    /* gemm with all of A packed instead, as pack_panel packs columns, and b_trans: B is read where it lies, which is
     * faster for few rows. M is at most SDK_TURNED. after: the row that this thread multiplies next, of this B or of
     * one with its ldb and widen, to be fetched; or NULL. The entry is NULL where it is not faster. */
    void (*gemm_turned)(void *scratch, size_t M, size_t N, size_t K, const float *packed, const void *B, size_t ldb,
                        sdk_widen *widen, float *C, size_t ldc, const float *bias, const void *after);
    const sd_winograd *winograd;            /* F(4x4,3x3): out 4, step 4, 36 planes */
    const sd_winograd *winograd_enlarged;   /* of a picture enlarged to twice its size: out 8, step 4, 100 planes */

    sdk_widen *widen_f16;    /* IEEE half */
    sdk_widen *widen_bf16;

    void (*silu)(float *y, const float *x, size_t n);            /* x / (1 + e^-x) */
    void (*gelu)(float *y, const float *x, size_t n);            /* x Phi(x) = x (1 + erf(x/sqrt 2)) / 2 */
    void (*quick_gelu)(float *y, const float *x, size_t n);      /* x / (1 + e^(-1.702 x)) */
    void (*relu)(float *y, const float *x, size_t n);            /* x, or 0 where x < 0; NaN stays */
    void (*soft_clamp)(float *y, const float *x, size_t n);      /* 3 tanh(x/3), in [-3,3] */
    void (*to_unit)(float *y, const float *x, size_t n);         /* (x + 1)/2: from [-1,1] to [0,1] */
    void (*from_unit)(float *y, const float *x, size_t n);       /* 2x - 1: the other way round */
    void (*geglu)(float *y, const float *value, const float *gate, size_t n);   /* value * gelu(gate) */

    /* y_t = sum_s p_s v_s, p = softmax_s(q_t k_s / sqrt(d)), for n queries from t = first on [Vaswani et al. 2017, eq.
     * 1]. weights: room for n rows of as many numbers as there are keys. softmax: x_i = e^(scale (x_i - max)) / sum, in
     * place. Both are NULL in tables that have panels, where ops_cpu_attention.c computes attention. */
    void (*attention)(void *scratch, float *weights, const sdk_head *h, size_t first, size_t n);
    void (*softmax)(float *x, size_t n, float scale);

    /* What ops_cpu_attention.c needs besides panels. A softmax in pieces, over the columns of a strip x [rows][width];
     * width is panel_columns or panel_narrow, and logits are exponents of two. With m = max(max[c], x_ic over i):
     * x_ic = 2^(x_ic - m), factor[c] = 2^(max[c] - m), sum[c] = factor[c] sum[c] + sum of x_ic, max[c] = m.
     * True if a factor is not 1. */
    bool (*softmax_piece)(float *x, size_t rows, size_t width, float *max, double *sum, float *factor);
    /* x_ic = factor[c] x_ic in such a strip */
    void (*scale_columns)(float *x, size_t rows, size_t width, const float *factor);
    /* to[j to_stride + i] = from[i from_stride + j], i < rows, j < columns */
    void (*transpose)(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns);
    void (*scale)(float *y, const float *x, float a, size_t n);  /* y = a x; what panel has */

    void (*add)(float *y, const float *a, const float *b, size_t n);       /* y = a + b; y may be a or b */
    void (*sums)(double *sum, double *sum_sq, const float *x, size_t n);   /* of x and x^2, squares exact in double */
    /* y = (x - mean) rstd g + b; the part of mean that a float cannot hold is subtracted too */
    void (*norm_affine)(float *y, const float *x, double mean, double rstd, const float *g, const float *b, size_t n);
    /* y_c = (x_c - m_c) a_c + b_c over one pixel's channels; then SiLU if silu. y may be x. */
    void (*affine)(float *y, const float *x, const float *m, const float *a, const float *b, size_t n, bool silu);
    /* column sums over rows of n columns: sum[c] += x[r,c], sum_sq[c] += x[r,c]^2, r < rows */
    void (*column_sums)(double *sum, double *sum_sq, const float *x, size_t rows, size_t n);
    /* The least and the greatest of n numbers, n > 0, and the least of their sizes. If one is NaN they mean nothing. */
    void (*extremes)(float *min, float *max, float *least, const float *x, size_t n);
} sd_kern;

extern const sd_kern sd_kern_spec, sd_kern_scalar;

/* The best table this CPU can run, or the one called `name`; NULL if it is not known or cannot run here. */
const sd_kern *sd_kern_select(const char *name);
/* The specification in that table's instructions: the same bits, faster. */
const sd_kern *sd_kern_select_precise(const char *name);

/* y [n,dim]: e_i = cos(v f_i) for i < half, then sin(v f_i); f_i = 10000^(-i / (half - shift)), half = dim/2. Without
 * `flip` the sines come first [Vaswani et al. 2017, section 3.5; Ho et al. 2020; diffusers get_timestep_embedding].
 * Computed in double: at v near 1000, rounding the product v f_i to float alone would cost 3e-5 radians. */
void sdk_sinusoid(float *y, const float *value, size_t n, size_t dim, bool flip, double shift);

/* Single values, used by the row functions and by tests. */
float sdk_half_to_float(uint16_t h);
float sdk_bfloat_to_float(uint16_t h);
double sdk_exp_negative(double x);

#endif
