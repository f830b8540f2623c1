/* simd_exp.h - floor 1: exponentials in vectors, and x sigma(c x), for kernels_simd.c. */
#ifndef SD_SIMD_EXP_H
#define SD_SIMD_EXP_H

#include "simd.h"

/* Powers of so many vectors are computed step by step side by side, so that none waits for its own last step. */
enum { TOGETHER = 4 };

/* d_j = e^(d_j s + low_j) for at most TOGETHER vectors d_j s <= 0; low is a correction below the last bit of d s, if it
 * is `corrected`. Exactly 0 below the smallest normal float, 2^-126 = e^-87.3365.
 *
 * n = round(d s / ln 2) by adding and subtracting 1.5 2^23, r = d s - n ln 2 in (-0.35, 0.35), e^(d s) = 2^n e^r. The
 * product d s is never rounded: n times the 15-bit head of ln 2 is exact, so one FMA gives the rest of d s.
 * e^r = 1 + r + r^2 q(r), q of degree 4 by Remez' exchange for the relative error of the whole, 3.1e-9. */
INLINE void exps_corrected(vf *d, vf s, bool corrected, const vf *low, size_t count)
{
    static const float terms[] = {0.008368745110f, 0.04166839078f, 0.1666652040f, 0.4999999343f};
    const vf round = v_set1(0x1.8p23f), log2e = v_mul(s, v_set1(1.44269504f));
    vf z[TOGETHER], n[TOGETHER], r[TOGETHER], q[TOGETHER];
    UNROLL for (size_t j = 0; j < count; j++) {
        z[j] = v_fma(d[j], log2e, round);
        n[j] = v_sub(z[j], round);
        r[j] = v_fma_once(d[j], s, v_mul(n[j], v_set1(-0x1.62e4p-1f)));
        r[j] = v_fma(n[j], v_set1(-0x1.7f7d1cp-20f), corrected ? v_add(r[j], low[j]) : r[j]);
        q[j] = v_set1(0.001381454019f);
    }
    UNROLL for (size_t k = 0; k < sizeof terms / sizeof *terms; k++)
        UNROLL for (size_t j = 0; j < count; j++)
            q[j] = v_fma(q[j], r[j], v_set1(terms[k]));
    UNROLL for (size_t j = 0; j < count; j++) {
        vf e = v_add(v_set1(1.0f), v_fma(q[j], v_mul(r[j], r[j]), r[j]));
        d[j] = v_zero_below(v_mul(d[j], s), v_set1(-87.3365f), v_times_power(e, n[j], z[j]));
    }
}

INLINE vf exp_negative(vf d, vf s)
{
    exps_corrected(&d, s, false, NULL, 1);
    return d;
}

/* x_j sigma(c x_j) for at most TOGETHER vectors. With E = e^(-c|x|): sigma = 1 / (1 + E) for x >= 0, E / (1 + E) for
 * x < 0, so nothing overflows. c = c_high + c_low, which has more bits than a float. */
INLINE void gates(vf *x, float c_high, float c_low, size_t count)
{
    const vf one = v_set1(1.0f);
    vf e[TOGETHER], low[TOGETHER];
    UNROLL for (size_t j = 0; j < count; j++) {
        e[j] = v_abs(x[j]);
        low[j] = v_mul(e[j], v_set1(-c_low));
    }
    exps_corrected(e, v_set1(-c_high), c_low != 0, low, count);
    UNROLL for (size_t j = 0; j < count; j++)
        x[j] = v_mul(x[j], v_div(v_if_negative(x[j], e[j], one), v_add(one, e[j])));
}

INLINE vf gate(vf x, float c_high, float c_low)
{
    gates(&x, c_high, c_low, 1);
    return x;
}

/* d_j = 2^-d_j for at most TOGETHER vectors d_j >= 0; 0 below the smallest normal float. n = round(-d) by adding and
 * subtracting 1.5 2^23 + 128, r = -d - n exactly, 2^r = 1 + r q(r) with q of degree 5 by Remez' exchange, relative
 * error 3.0e-9: below 0.8 ULP with all roundings (1.1 without FMA; tests/test_kernels.c). All terms are halved, which
 * rounds nothing: so the low bits of z = 1.5 2^23 + 128 + n are as they are the exponent of the other factor. */
INLINE void exp2_minus(vf *d, size_t count)
{
    static const float halves[] = {0.5f * 1.339080627e-03f, 0.5f * 9.618505836e-03f, 0.5f * 5.550359935e-02f,
                                   0.5f * 2.402264774e-01f, 0.5f * 6.931471825e-01f, 0.5f};
    const vf round = v_set1(0x1.8p23f + 128);
    vf z[TOGETHER], r[TOGETHER], q[TOGETHER];
    UNROLL for (size_t j = 0; j < count; j++) {
        z[j] = v_sub(round, d[j]);
        r[j] = v_sub(v_sub(round, z[j]), d[j]);
        q[j] = v_set1(0.5f * 1.532646274e-04f);
    }
    UNROLL for (size_t k = 0; k < sizeof halves / sizeof *halves; k++)
        UNROLL for (size_t j = 0; j < count; j++)
            q[j] = v_fma(q[j], r[j], v_set1(halves[k]));
    UNROLL for (size_t j = 0; j < count; j++)
        d[j] = v_zero_below(v_set1(126.0f), d[j], v_mul(q[j], v_exponent(z[j])));
}

#endif
