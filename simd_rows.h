/* simd_rows.h - floor 1: row functions in vectors whose bits are the specification's, for kernels_simd.c and
 * kernels_precise.c. */
#ifndef SD_SIMD_ROWS_H
#define SD_SIMD_ROWS_H

#include "kernels.h"
#include "simd.h"

#include <math.h>

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/* The vector at p, of which `left` elements may be touched; the rest reads as 0. */
static inline vf get(const float *p, size_t left) { return left >= VL ? v_load(p) : v_load_part(p, left); }

static inline void put(float *p, size_t left, vf v)
{
    if (left >= VL)
        v_store(p, v);
    else
        v_store_part(p, v, left);
}

/* Does `statement` for each vector of a row of n numbers: i is where it begins, and `left` numbers may be touched.
 * Whole vectors have a loop of their own: what decides about the rest would take as long as the work. */
#define EACH_VECTOR(n, statement) \
    do { \
        size_t i = 0, whole = (n) / VL * VL; \
        for (const size_t left = VL; i < whole; i += VL) { statement; } \
        for (const size_t left = (n) - whole; i < (n); i += VL) { statement; } \
    } while (0)

/* ------------------------------------------------------------------------------------- 16-bit floats */

static void widen_f16(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(y + i, v_widen_f16(x + i));
    for (; i < n; i++)
        y[i] = sdk_half_to_float(x[i]);
}

static void widen_bf16(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(y + i, v_widen_bf16(x + i));
    for (; i < n; i++)
        y[i] = sdk_bfloat_to_float(x[i]);
}

/* ------------------------------------------------------------------------------------------- sums */

static void add(float *y, const float *a, const float *b, size_t n)
{
    EACH_VECTOR(n, put(y + i, left, v_add(get(a + i, left), get(b + i, left))));
}

static void relu(float *y, const float *x, size_t n)
{
    EACH_VECTOR(n, put(y + i, left, v_zero_below(get(x + i, left), v_set1(0), get(x + i, left))));
}

/* Adds row after row for each column, as the specification does: the same bits. Rows are read side by side, which
 * processors do not seem to foresee, so the next strip is fetched in the order of its lines meanwhile. */
static void column_sums(double *sum, double *sum_sq, const float *x, size_t rows, size_t n)
{
    enum { STRIP = 4 };   /* rows whose sums stay in registers */
    for (size_t r0 = 0; r0 < rows; r0 += STRIP) {
        const float *strip = x + r0 * n;
        size_t count = rows - r0 < STRIP ? rows - r0 : STRIP, c = 0;
        for (; c + VL <= n; c += VL) {
            vsum s1 = s_load(sum + c), s2 = s_load(sum_sq + c);
            for (size_t r = 0; r < count; r++) {
                vf v = v_load(strip + r * n + c);
                if (r * VL % LINE == 0)
                    __builtin_prefetch(strip + STRIP * n + STRIP * c + r * VL);
                s1 = s_add(s1, v);
                s2 = s_add_square(s2, v);
            }
            s_store(sum + c, s1);
            s_store(sum_sq + c, s2);
        }
        for (; c < n; c++)
            for (size_t r = 0; r < count; r++) {
                double t = strip[r * n + c];
                sum[c] += t;
                sum_sq[c] += t * t;
            }
    }
}

static void extremes(float *min, float *max, float *least, const float *x, size_t n)
{
    size_t i = 0;
    vf low = v_set1(x[0]), high = low, size = v_abs(low);
    float lane[3][VL];
    for (; i + VL <= n; i += VL) {
        vf v = v_load(x + i);
        low = v_min(low, v);
        high = v_max(high, v);
        size = v_min(size, v_abs(v));
    }
    v_store(lane[0], low);
    v_store(lane[1], high);
    v_store(lane[2], size);
    float lowest = x[0], highest = x[0], smallest = lane[2][0];
    for (size_t k = 0; k < VL; k++) {
        lowest = lane[0][k] < lowest ? lane[0][k] : lowest;
        highest = lane[1][k] > highest ? lane[1][k] : highest;
        smallest = lane[2][k] < smallest ? lane[2][k] : smallest;
    }
    for (; i < n; i++) {
        lowest = x[i] < lowest ? x[i] : lowest;
        highest = x[i] > highest ? x[i] : highest;
        smallest = fabsf(x[i]) < smallest ? fabsf(x[i]) : smallest;
    }
    *min = lowest;
    *max = highest;
    *least = smallest;
}

#endif
