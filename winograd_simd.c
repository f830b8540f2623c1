/* winograd_simd.c - floor 1: the three transforms of the minimal convolution F(4x4,3x3), in vectors over channels.
 *
 * Lavin & Gray 2016 ("Fast Algorithms for Convolutional Neural Networks", eq. 8): Y = A^T [(G g G^T) * (B^T d B)] A, 36 products
 * for 16 pixels where the plain sum needs 144. Cook-Toom matrices for the points 0, +-a, +-b and infinity; the textbook's a = 1,
 * b = 2 doubles the rounding error of a = 5/8, b = 3/2 (docs/SPEED.md). These, their squares and cubes are exact in a float.
 *
 * Compiled once per instruction set, like kernels_simd.c. */
#include "kernels.h"
#include "simd.h"

#if defined(SD_ISA_AVX512)
#define WINOGRAD sd_winograd_avx512
#elif defined(SD_ISA_AVX2)
#define WINOGRAD sd_winograd_avx2
#elif defined(SD_ISA_SSE2)
#define WINOGRAD sd_winograd_sse2
#else
#define WINOGRAD sd_winograd_neon
#endif

extern const sd_winograd WINOGRAD;

#define PA 0.625   /* a */
#define PB 1.5     /* b */
enum { IN = SDK_WINOGRAD_IN, OUT = SDK_WINOGRAD_OUT };

static inline vf k(double x) { return v_set1((float)x); }

/* B^T d: the coefficients of the products of all (x - point) but one, x(x^2-a^2)(x^2-b^2) for infinity. */
static inline void input1(vf y[IN], vf d0, vf d1, vf d2, vf d3, vf d4, vf d5)
{
    const double A = PA * PA, B = PB * PB;
    vf even_a = v_fma(k(-B), d2, d4), odd_a = v_fma(k(-B), d1, d3);
    vf even_b = v_fma(k(-A), d2, d4), odd_b = v_fma(k(-A), d1, d3);
    y[0] = v_fma(k(-A - B), d2, v_fma(k(A * B), d0, d4));
    y[1] = v_fma(k(PA), odd_a, even_a);
    y[2] = v_fma(k(-PA), odd_a, even_a);
    y[3] = v_fma(k(PB), odd_b, even_b);
    y[4] = v_fma(k(-PB), odd_b, even_b);
    y[5] = v_fma(k(-A - B), d3, v_fma(k(A * B), d1, d5));
}

static inline void input_tile(float *v, size_t plane, const float *const *pixel, size_t c, size_t left)
{
    vf t[IN][IN], y[IN];
#define D(i, j) (left >= VL ? v_load(pixel[(i) * IN + (j)] + c) : v_load_part(pixel[(i) * IN + (j)] + c, left))
    for (int j = 0; j < IN; j++) {
        input1(y, D(0, j), D(1, j), D(2, j), D(3, j), D(4, j), D(5, j));
        UNROLL for (int i = 0; i < IN; i++)
            t[i][j] = y[i];
    }
#undef D
    for (int i = 0; i < IN; i++) {
        input1(y, t[i][0], t[i][1], t[i][2], t[i][3], t[i][4], t[i][5]);
        float *row = v + (size_t)i * IN * plane + c;
        UNROLL for (size_t j = 0; j < IN; j++) {
            if (left >= VL)
                v_store(row + j * plane, y[j]);
            else
                v_store_part(row + j * plane, y[j], left);
        }
    }
}

static void input(float *v, size_t plane, const float *const *pixel, size_t n)
{
    size_t c = 0;
    for (; c + VL <= n; c += VL)
        input_tile(v, plane, pixel, c, VL);
    if (c < n)
        input_tile(v, plane, pixel, c, n - c);
}

/* A^T m: powers of the points, and of the third power the leading coefficient. */
static inline void output1(vf y[OUT], vf m0, vf m1, vf m2, vf m3, vf m4, vf m5)
{
    const double A = PA * PA, B = PB * PB;
    vf sum_a = v_add(m1, m2), dif_a = v_sub(m1, m2), sum_b = v_add(m3, m4), dif_b = v_sub(m3, m4);
    y[0] = v_add(m0, v_add(sum_a, sum_b));
    y[1] = v_fma(k(PA), dif_a, v_mul(k(PB), dif_b));
    y[2] = v_fma(k(A), sum_a, v_mul(k(B), sum_b));
    y[3] = v_fma(k(PA * A), dif_a, v_fma(k(PB * B), dif_b, m5));
}

static inline void output_tile(float *const *pixel, const float *m, size_t plane, const float *bias, size_t c, size_t left,
                               bool accumulate)
{
    vf t[OUT][IN], y[OUT];
    vf b = !bias ? v_set1(0.0f) : left >= VL ? v_load(bias + c) : v_load_part(bias + c, left);
#define M(i, j) (left >= VL ? v_load(m + (size_t)((i) * IN + (j)) * plane + c) : v_load_part(m + (size_t)((i) * IN + (j)) * plane + c, left))
    for (int j = 0; j < IN; j++) {
        output1(y, M(0, j), M(1, j), M(2, j), M(3, j), M(4, j), M(5, j));
        UNROLL for (int i = 0; i < OUT; i++)
            t[i][j] = y[i];
    }
#undef M
    for (int i = 0; i < OUT; i++) {
        output1(y, t[i][0], t[i][1], t[i][2], t[i][3], t[i][4], t[i][5]);
        for (int j = 0; j < OUT; j++) {
            float *to = pixel[i * OUT + j];
            if (!to)
                continue;
            vf v = v_add(y[j], b);
            if (left >= VL) {
                v_store(to + c, accumulate ? v_add(v, v_load(to + c)) : v);
            } else {
                v_store_part(to + c, accumulate ? v_add(v, v_load_part(to + c, left)) : v, left);
            }
        }
    }
}

static void output(float *const *pixel, const float *m, size_t plane, const float *bias, size_t n, bool accumulate)
{
    size_t c = 0;
    for (; c + VL <= n; c += VL)
        output_tile(pixel, m, plane, bias, c, VL, accumulate);
    if (c < n)
        output_tile(pixel, m, plane, bias, c, n - c, accumulate);
}

/* G g: values of g0 + g1 x + g2 x^2 at the points, divided by the products of the differences of the points. In double. */
static inline void weights1(vd y[IN], vd g0, vd g1, vd g2)
{
    const double A = PA * PA, B = PB * PB, fa = 1 / (2 * A * (A - B)), fb = 1 / (2 * B * (B - A));
    vd even_a = d_fma(g2, d_set1(A * fa), d_mul(g0, d_set1(fa))), odd_a = d_mul(g1, d_set1(PA * fa));
    vd even_b = d_fma(g2, d_set1(B * fb), d_mul(g0, d_set1(fb))), odd_b = d_mul(g1, d_set1(PB * fb));
    y[0] = d_mul(g0, d_set1(1 / (A * B)));
    y[1] = d_add(even_a, odd_a);
    y[2] = d_sub(even_a, odd_a);
    y[3] = d_add(even_b, odd_b);
    y[4] = d_sub(even_b, odd_b);
    y[5] = g2;
}

/* width is a multiple of VL. */
static void weights(float *u, size_t plane, const float *w, size_t width)
{
    for (size_t at = 0; at < width; at += VL) {
        for (size_t half = 0; half < VL; half += VL / 2) {
            const float *g = w + at + half;
            vd t[3][IN], y[IN];
            for (size_t j = 0; j < 3; j++)
                weights1(t[j], d_widen(g + j * width), d_widen(g + (3 + j) * width), d_widen(g + (6 + j) * width));
            for (size_t i = 0; i < IN; i++) {
                weights1(y, t[0][i], t[1][i], t[2][i]);
                float *row = u + i * IN * plane + at + half;
                UNROLL for (size_t j = 0; j < IN; j++)
                    d_round(row + j * plane, y[j]);
            }
        }
    }
}

const sd_winograd WINOGRAD = {.input = input, .weights = weights, .output = output};
