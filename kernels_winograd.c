/* kernels_winograd.c - floor 1: the transforms of two minimal 3x3 convolutions, in vectors over channels.
 *
 * F(4x4,3x3) [Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", eq. 8]:
 *   Y = A^T [(G g G^T) * (B^T d B)] A,
 * 36 products for 16 pixels where the plain sum needs 144. The matrices are Cook-Toom's for the points 0, +-a, +-b and
 * infinity. The textbook's a = 1, b = 2 has twice the rounding error of a = 5/8, b = 3/2 (docs/SPEED.md), which are
 * used here. These, their squares and cubes are exact in a float.
 *
 * The second convolution is of a picture enlarged to twice its size, each pixel standing for 2x2. Along one axis
 *   y[2i] = g0 s[i-1] + (g1 + g2) s[i],   y[2i+1] = (g0 + g1) s[i] + g2 s[i+1]:
 * two convolutions of two taps, each F(4,2) with the points +-3/8, +-5/4 and infinity. This takes 10 products for 8
 * pixels of an axis, 100 for 64 pixels of the picture.
 *
 * Compiled once per instruction set, like kernels_simd.c. */
#include "kernels.h"
#include "simd.h"

#define WINOGRAD OF_ISA(sd_winograd)
#define ENLARGED OF_ISA(sd_winograd_enlarged)
extern const sd_winograd WINOGRAD, ENLARGED;

enum { IN = SDK_WINOGRAD_IN, MOST_OUT = SDK_WINOGRAD_MOST_OUT };
enum { PLAIN_PLANES = 6, ENLARGED_PLANES = 10, MOST_PLANES = ENLARGED_PLANES };   /* along one axis */

static inline vf k(double x) { return v_set1((float)x); }

/* The transforms along one axis. The tiles' functions, further below, apply them to columns and then to rows. */
typedef void input_axis(vf *y, const vf *d);
typedef void output_axis(vf *y, const vf *m);
typedef void weights_axis(vf *y, vf g0, vf g1, vf g2);

/* ---------------------------------------------------------------------------------- points and sums */

#define PA 0.625   /* a, b of F(4,3) */
#define PB 1.5
#define QA 0.375   /* and of F(4,2) */
#define QB 1.25

/* The rows of B^T for the points +-a, +-b. A point's row has the coefficients of the product of (x - p) over all other
 * points p: for a, (x + a)(x^2 - b^2) = (x^3 - b^2 x) + a (x^2 - b^2). */
static inline void to_points(vf *y, double a, double b, vf d0, vf d1, vf d2, vf d3)
{
    vf odd_a = v_fma(k(-b * b), d0, d2), even_a = v_fma(k(-b * b), d1, d3);
    vf odd_b = v_fma(k(-a * a), d0, d2), even_b = v_fma(k(-a * a), d1, d3);
    y[0] = v_fma(k(a), odd_a, even_a);
    y[1] = v_fma(k(-a), odd_a, even_a);
    y[2] = v_fma(k(b), odd_b, even_b);
    y[3] = v_fma(k(-b), odd_b, even_b);
}

/* The row of B^T for infinity: the product over all points, (x^2 - a^2)(x^2 - b^2) = x^4 - (a^2 + b^2) x^2 + a^2
 * b^2. */
static inline vf to_infinity(double a, double b, vf d0, vf d2, vf d4)
{
    return v_fma(k(-a * a - b * b), d2, v_fma(k(a * a * (b * b)), d0, d4));
}

/* The columns of A^T for the points +-a, +-b: powers of the points. */
static inline void from_points(vf *y, double a, double b, vf plus_a, vf minus_a, vf plus_b, vf minus_b)
{
    vf sum_a = v_add(plus_a, minus_a), dif_a = v_sub(plus_a, minus_a), sum_b = v_add(plus_b, minus_b),
        dif_b = v_sub(plus_b, minus_b);
    y[0] = v_add(sum_a, sum_b);
    y[1] = v_fma(k(a), dif_a, v_mul(k(b), dif_b));
    y[2] = v_fma(k(a * a), sum_a, v_mul(k(b * b), sum_b));
    y[3] = v_fma(k(a * a * a), dif_a, v_mul(k(b * b * b), dif_b));
}

/* ------------------------------------------------------------------------------------------ F(4,3) */

/* B^T d. Because 0 is a point too, the rows of the others, infinity's among them, have a factor x: they begin at d1.
 * The row of 0 has the product over the four others. */
static inline void plain_input_axis(vf *y, const vf *d)
{
    y[0] = to_infinity(PA, PB, d[0], d[2], d[4]);
    to_points(y + 1, PA, PB, d[1], d[2], d[3], d[4]);
    y[5] = to_infinity(PA, PB, d[1], d[3], d[5]);
}

/* A^T m: column p has the powers of point p; 0 and infinity have one number each, in the first row and the last. */
static inline void plain_output_axis(vf *y, const vf *m)
{
    from_points(y, PA, PB, m[1], m[2], m[3], m[4]);
    y[0] = v_add(m[0], y[0]);
    y[3] = v_add(y[3], m[5]);
}

/* G g: the value of g0 + g1 x + g2 x^2 at each point p, divided by the product of p - q over all other points q: a^2
 * b^2 for 0, 2 a^2 (a^2 - b^2) for +-a, likewise for +-b; infinity's value is g2. */
static inline void plain_weights_axis(vf *y, vf g0, vf g1, vf g2)
{
    const double A = PA * PA, B = PB * PB, fa = 1 / (2 * A * (A - B)), fb = 1 / (2 * B * (B - A));
    vf even_a = v_fma(g2, k(A * fa), v_mul(g0, k(fa))), odd_a = v_mul(g1, k(PA * fa));
    vf even_b = v_fma(g2, k(B * fb), v_mul(g0, k(fb))), odd_b = v_mul(g1, k(PB * fb));
    y[0] = v_mul(g0, k(1 / (A * B)));
    y[1] = v_add(even_a, odd_a);
    y[2] = v_sub(even_a, odd_a);
    y[3] = v_add(even_b, odd_b);
    y[4] = v_sub(even_b, odd_b);
    y[5] = g2;
}

/* ------------------------------------------------------------------------- F(4,2) of the two phases
 * 0 is no point here. The even pixels come from d0 .. d4, the odd ones from d1 .. d5. */

static inline void phase_input(vf *y, const vf *d)
{
    to_points(y, QA, QB, d[0], d[1], d[2], d[3]);
    y[4] = to_infinity(QA, QB, d[0], d[2], d[4]);
}

static inline void enlarged_input_axis(vf *y, const vf *d)
{
    phase_input(y, d);
    phase_input(y + 5, d + 1);
}

static inline void enlarged_output_axis(vf *y, const vf *m)
{
    vf even[4], odd[4];
    from_points(even, QA, QB, m[0], m[1], m[2], m[3]);
    from_points(odd, QA, QB, m[5], m[6], m[7], m[8]);
    even[3] = v_add(even[3], m[4]);
    odd[3] = v_add(odd[3], m[9]);
    UNROLL for (size_t i = 0; i < 4; i++) {
        y[2 * i] = even[i];
        y[2 * i + 1] = odd[i];
    }
}

/* The values of g0 + g1 x, divided by 2 a (a^2 - b^2) for a, by minus that for -a, likewise for +-b; infinity's is
 * g1. */
static inline void phase_weights(vf *y, vf g0, vf g1)
{
    const double A = QA * QA, B = QB * QB, fa = 1 / (2 * QA * (A - B)), fb = 1 / (2 * QB * (B - A));
    vf a = v_mul(g0, k(fa)), b = v_mul(g0, k(fb)), a1 = v_mul(g1, k(QA * fa)), b1 = v_mul(g1, k(QB * fb));
    y[0] = v_add(a1, a);
    y[1] = v_sub(a1, a);
    y[2] = v_add(b1, b);
    y[3] = v_sub(b1, b);
    y[4] = g1;
}

/* The taps of the even pixels, then those of the odd ones: see the first comment. */
static inline void enlarged_weights_axis(vf *y, vf g0, vf g1, vf g2)
{
    phase_weights(y, g0, v_add(g1, g2));
    phase_weights(y + 5, v_add(g0, g1), g2);
}

/* ------------------------------------------------------------------------------- tiles: both axes */

/* Before a loop that must not be unrolled: each of its addresses would take an instruction and a place on the stack. */
#if defined(__clang__)
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ROLLED _Pragma("GCC unroll 1")
#endif

/* V of VL channels from number c on, of which `left` are there. The next tile's first two columns of pixels are this
 * one's last two, so they need not be fetched. */
INLINE void input_tile(input_axis *transform, size_t planes, float *v, size_t plane, const float *const *pixel,
                       size_t ahead, size_t c, size_t left)
{
    vf t[MOST_PLANES][IN], y[MOST_PLANES], d[IN];
    for (size_t j = 0; j < IN; j++) {
        if (j >= 2)
            UNROLL for (size_t i = 0; i < IN; i++)
                __builtin_prefetch(pixel[i * IN + j] + ahead + c);
        UNROLL for (size_t i = 0; i < IN; i++)
            d[i] = left >= VL ? v_load(pixel[i * IN + j] + c) : v_load_part(pixel[i * IN + j] + c, left);
        transform(y, d);
        UNROLL for (size_t i = 0; i < planes; i++)
            t[i][j] = y[i];
    }
    for (size_t i = 0; i < planes; i++) {
        transform(y, t[i]);
        float *row = v + i * planes * plane + c;
        UNROLL for (size_t j = 0; j < planes; j++) {
            __builtin_prefetch(row + j * plane + SDK_PANEL, 1);
            if (left >= VL)
                v_store(row + j * plane, y[j]);
            else
                v_store_part(row + j * plane, y[j], left);
        }
    }
}

INLINE void input(input_axis *transform, size_t planes, float *v, size_t plane, const float *const *pixel, size_t ahead,
                  size_t n)
{
    size_t c = 0;
    for (; c + VL <= n; c += VL)
        input_tile(transform, planes, v, plane, pixel, ahead, c, VL);
    if (c < n)
        input_tile(transform, planes, v, plane, pixel, ahead, c, n - c);
}

/* The pixels of VL channels from number c on */
INLINE void output_tile(output_axis *transform, size_t planes, size_t out, float *const *pixel, const float *m,
                        size_t plane, const float *bias, size_t c, size_t left)
{
    vf t[MOST_OUT][MOST_PLANES], y[MOST_OUT], column[MOST_PLANES];
    vf b = !bias ? v_set1(0.0f) : left >= VL ? v_load(bias + c) : v_load_part(bias + c, left);
    ROLLED for (size_t j = 0; j < planes; j++) {
        UNROLL for (size_t i = 0; i < planes; i++) {
            const float *at = m + (i * planes + j) * plane + c;
            column[i] = left >= VL ? v_load(at) : v_load_part(at, left);
        }
        transform(y, column);
        UNROLL for (size_t i = 0; i < out; i++)
            t[i][j] = y[i];
    }
    ROLLED for (size_t i = 0; i < out; i++) {
        transform(y, t[i]);
        for (size_t j = 0; j < out; j++) {
            float *to = pixel[i * out + j];
            if (!to)
                continue;
            __builtin_prefetch(to + c + 2 * LINE, 1);   /* the next strip's channels, or the next pixel's */
            vf v = v_add(y[j], b);
            if (left >= VL)
                v_store(to + c, v);
            else
                v_store_part(to + c, v, left);
        }
    }
}

INLINE void output(output_axis *transform, size_t planes, size_t out, float *const *pixel, const float *m, size_t plane,
                   const float *bias, size_t n)
{
    size_t c = 0;
    for (; c + VL <= n; c += VL)
        output_tile(transform, planes, out, pixel, m, plane, bias, c, VL);
    if (c < n)
        output_tile(transform, planes, out, pixel, m, plane, bias, c, n - c);
}

/* U is made in two rows of planes at a time, those whose results along the first axis have terms in common; more of
 * them and their addresses would not fit the registers. */
typedef size_t pair[2];
static const pair plain_pairs[PLAIN_PLANES / 2] = {{0, 5}, {1, 2}, {3, 4}},
    enlarged_pairs[ENLARGED_PLANES / 2] = {{0, 1}, {2, 3}, {4, 9}, {5, 6}, {7, 8}};

/* The planes that come from such a pair */
INLINE void weights_pair(weights_axis *transform, const size_t *two, size_t planes, float *u, size_t plane,
                         const float *w, size_t width, size_t n)
{
    float *row[2] = {u + two[0] * planes * plane, u + two[1] * planes * plane};
    for (size_t at = 0; at < n * width; at += VL) {
        const float *g = w + at / width * 9 * width + at % width;
        vf t[2][3], y[MOST_PLANES];
        UNROLL for (size_t j = 0; j < 3; j++) {
            transform(y, v_load(g + j * width), v_load(g + (3 + j) * width), v_load(g + (6 + j) * width));
            t[0][j] = y[two[0]];
            t[1][j] = y[two[1]];
        }
        UNROLL for (size_t i = 0; i < 2; i++) {
            transform(y, t[i][0], t[i][1], t[i][2]);
            UNROLL for (size_t j = 0; j < planes; j++) {
                if (at % LINE == 0)
                    __builtin_prefetch(row[i] + j * plane + at + 4 * LINE, 1);
                v_store(row[i] + j * plane + at, y[j]);
            }
        }
    }
}

/* So many input channels at a time: their w stays in the L1 cache for all pairs. */
enum { CHANNELS = 8 };

INLINE void weights(weights_axis *transform, const pair *pairs, size_t planes, float *u, size_t plane, const float *w,
                    size_t width, size_t n)
{
    for (size_t k = 0; k < n; k += CHANNELS)
        UNROLL for (size_t p = 0; p < planes / 2; p++)
            weights_pair(transform, pairs[p], planes, u + k * width, plane, w + k * 9 * width, width,
                         n - k < CHANNELS ? n - k : CHANNELS);
}

/* width is one of two numbers, constants here. */
#define WEIGHTS(name, transform, pairs, planes) \
    static void name(float *u, size_t plane, const float *w, size_t width, size_t n) \
    { \
        if (width == VL) \
            weights(transform, pairs, planes, u, plane, w, VL, n); \
        else \
            weights(transform, pairs, planes, u, plane, w, TILE_VECTORS * VL, n); \
    }
WEIGHTS(plain_weights, plain_weights_axis, plain_pairs, PLAIN_PLANES)
WEIGHTS(enlarged_weights, enlarged_weights_axis, enlarged_pairs, ENLARGED_PLANES)

/* ------------------------------------------------------------------------------------------ tables */

static void plain_input(float *v, size_t plane, const float *const *pixel, size_t ahead, size_t n)
{
    input(plain_input_axis, PLAIN_PLANES, v, plane, pixel, ahead, n);
}

static void plain_output(float *const *pixel, const float *m, size_t plane, const float *bias, size_t n)
{
    output(plain_output_axis, PLAIN_PLANES, 4, pixel, m, plane, bias, n);
}

static void enlarged_input(float *v, size_t plane, const float *const *pixel, size_t ahead, size_t n)
{
    input(enlarged_input_axis, ENLARGED_PLANES, v, plane, pixel, ahead, n);
}

static void enlarged_output(float *const *pixel, const float *m, size_t plane, const float *bias, size_t n)
{
    output(enlarged_output_axis, ENLARGED_PLANES, 8, pixel, m, plane, bias, n);
}

const sd_winograd WINOGRAD = {.out = 4, .step = 4, .planes = PLAIN_PLANES * PLAIN_PLANES,
                              .input = plain_input, .weights = plain_weights, .output = plain_output};
const sd_winograd ENLARGED = {.out = 8, .step = 4, .planes = ENLARGED_PLANES * ENLARGED_PLANES,
                              .input = enlarged_input, .weights = enlarged_weights, .output = enlarged_output};
