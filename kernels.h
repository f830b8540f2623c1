/* kernels.h - floor 1: the table of raw-row functions, one table per instruction set.
 *
 * kernels.c is the specification: plain C99, double accumulators. A SIMD table overrides entries of it.
 * Rows are contiguous floats; lengths may be 0 and nothing need be aligned. In and out may be the same row. */
#ifndef SD_KERNELS_H
#define SD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Convolution of 3x3 by the minimal algorithm F(4x4,3x3), winograd_simd.c. A tile is 4x4 output pixels; it has 36 planes, one for
 * each product. All channels are treated alike and apart from each other. */
enum { SDK_WINOGRAD_OUT = 4, SDK_WINOGRAD_IN = 6, SDK_WINOGRAD_PLANES = 36 };
typedef struct sd_winograd {
    /* v[plane p, c] = (B^T d B)_p over the 6x6 pixels d of a tile, row by row: c-th numbers of `pixel`, c < n */
    void (*input)(float *v, size_t plane, const float *const *pixel, size_t n);
    /* u[plane p, i] = (G g G^T)_p, rounded once, over g = w[0..8][i]: rows of a transposed weight, `width` numbers each, i < width */
    void (*weights)(float *u, size_t plane, const float *w, size_t width);
    /* The 4x4 pixels of a tile: A^T m A + bias, or added to what is there. NULL in `pixel`: no such pixel. bias may be NULL. */
    void (*output)(float *const *pixel, const float *m, size_t plane, const float *bias, size_t n, bool accumulate);
} sd_winograd;

/* A panel is a block of a product's left operand: rows of at most SDK_PANEL numbers, beginning SDK_PANEL apart. Short sums are
 * what keeps the rounding error small. Up to SDK_PANEL_SPARE rows after the last are read, and what comes of them dropped. */
enum { SDK_PANEL = 64, SDK_PANEL_SPARE = 28 };

typedef struct sd_kern {
    const char *name;   /* "scalar", "sse2", "avx2", "avx512", "neon" */

    /* C[M,N] = A[M,K] op(B) + (accumulate ? C : 0) + bias[N] (bias may be NULL).
     * b_trans: B is [N,K] (a weight matrix), otherwise [K,N]. ld* are row strides in floats. Sequential.
     * scratch: gemm_scratch bytes, 64-byte aligned, contents irrelevant; one per thread; may be NULL if gemm_scratch is 0.
     * The bits of an element of C depend on its row of A, its column of B and K alone, never on M or N: a caller may
     * split M and N among threads as it likes. */
    size_t gemm_scratch;
    void (*gemm)(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const float *B, size_t ldb,
                 bool b_trans, float *C, size_t ldc, const float *bias, bool accumulate);

    /* The same by parts, for those who lay out the operands themselves; NULL in the specification. pack_panel turns `columns` columns of
     * B (see gemm) into strips [kc][panel_columns], one after the other; the last one is only panel_narrow wide if it fits there.
     * panel: c[rows, columns] = or += a[rows, kc] b. */
    size_t panel_columns, panel_narrow;
    void (*pack_panel)(float *to, const float *b, size_t ldb, bool b_trans, size_t columns, size_t kc);
    void (*panel)(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc, bool accumulate);
    const sd_winograd *winograd;

    void (*widen_f16)(float *y, const uint16_t *x, size_t n);    /* IEEE half to float, exact */
    void (*widen_bf16)(float *y, const uint16_t *x, size_t n);

    void (*silu)(float *y, const float *x, size_t n);            /* x / (1 + e^-x) */
    void (*gelu)(float *y, const float *x, size_t n);            /* x Phi(x) = x (1 + erf(x/sqrt 2)) / 2 */
    void (*quick_gelu)(float *y, const float *x, size_t n);      /* x / (1 + e^(-1.702 x)) */
    void (*geglu)(float *y, const float *value, const float *gate, size_t n);   /* value * gelu(gate) */
    void (*softmax)(float *x, size_t n, float scale);            /* x_i = e^(scale(x_i - max)) / sum, in place */

    /* A softmax taken in pieces of SDK_PANEL numbers, of which the first n count; what panel has. With m = max(*max, x_i): x_i =
     * e^(scale(x_i - m)), 0 from n on; *max = m; c = e^(scale(old max - m)), *sum = c *sum + sum of x_i. Returns c. */
    float (*softmax_piece)(float *x, size_t n, float scale, float *max, double *sum);
    void (*scale)(float *y, const float *x, float a, size_t n);  /* y = a x; what panel has */

    void (*add)(float *y, const float *x, size_t n);             /* y += x */
    void (*sums)(double *sum, double *sum_sq, const float *x, size_t n);   /* sums of x and x^2: squares of floats are exact in double */
    /* y = (x - mean) rstd g + b; what a float cannot hold of mean is subtracted too */
    void (*norm_affine)(float *y, const float *x, double mean, double rstd, const float *g, const float *b, size_t n);
    /* y_c = (x_c - m_c) a_c + b_c over one pixel's channels; then SiLU if silu. */
    void (*affine)(float *y, const float *x, const float *m, const float *a, const float *b, size_t n, bool silu);
    /* column sums over rows of n columns: sum[c] += x[r,c], sum_sq[c] += x[r,c]^2, r < rows */
    void (*column_sums)(double *sum, double *sum_sq, const float *x, size_t rows, size_t n);
} sd_kern;

extern const sd_kern sd_kern_scalar;

/* The best table this CPU can run, or the one called `name`; NULL if it is not known or cannot run here. */
const sd_kern *sd_kern_select(const char *name);

/* Single values, used by the row functions and by tests. */
float sdk_half_to_float(uint16_t h);
float sdk_bfloat_to_float(uint16_t h);

#endif
