/* common.cl - comes before each of the other files: what they share.
 *
 * Options of every program: CPU, 1 if a work-group is one work-item that calculates in vectors, else 0; WEIGHT, how the
 * numbers of a weight stand in memory (ops_opencl.h: 0 float, 1 half, 2 bfloat), where there is one. */
#pragma OPENCL FP_CONTRACT OFF

/* The number of this work-group. A launch may be cut into pieces that begin at an offset: get_group_id knows none. */
#define GROUP(d) ((int)(get_global_id(d) / get_local_size(d)))

#ifndef WEIGHT
#define WEIGHT 0
#endif
#if WEIGHT == 0
typedef float weight_t;
#else
typedef ushort weight_t;
#endif

/* The number at w[i], w[i .. i + 3], ... as floats. */
static inline float weight1(__global const weight_t *w, size_t i)
{
#if WEIGHT == 0
    return w[i];
#elif WEIGHT == 1
    return vload_half(i, (__global const half *)w);
#else
    return as_float((uint)w[i] << 16);
#endif
}
static inline float4 weight4(__global const weight_t *w)
{
#if WEIGHT == 0
    return vload4(0, w);
#elif WEIGHT == 1
    return vload_half4(0, (__global const half *)w);
#else
    return as_float4(convert_uint4(vload4(0, w)) << 16);
#endif
}
static inline float16 weight16(__global const weight_t *w)
{
#if WEIGHT == 0
    return vload16(0, w);
#elif WEIGHT == 1
    return vload_half16(0, (__global const half *)w);
#else
    return as_float16(convert_uint16(vload16(0, w)) << 16);
#endif
}

/* ---- mathematics. The functions of drivers differ by up to 16 units in the last place; these are the same everywhere,
 * and kernels_simd.c has them too. N: how many numbers a value has, 1, 4 or 16. */

#define MATH(N, F, AS_FLOAT, AS_UINT) \
/* a / b within half a unit in the last place but for rare cases; b and 1/b are normal numbers */ \
static inline F divide##N(F a, F b) \
{ \
    F r = (F)(1.0f) / b; \
    r = fma(fma(-b, r, (F)(1.0f)), r, r); \
    F q = a * r; \
    return fma(fma(-b, q, a), r, q); \
} \
/* v 2^n for z = 1.5 2^23 + n, n >= -126 */ \
static inline F times_power##N(F v, F z) { return v * AS_FLOAT((AS_UINT(z) << 23) + 0x3f800000u); } \
/* e^(d s + low) for d s <= 0; low is a correction below the last bit of d s. Exactly 0 below the smallest normal \
 * float. n = round(d s / ln 2), r = d s - n ln 2 without rounding d s; e^r = 1 + r + r^2 q(r), error 3.1e-9 */ \
static inline F exp_negative##N(F d, F s, F low) \
{ \
    F z = fma(d, s * 1.44269504f, (F)(0x1.8p23f)), n = z - 0x1.8p23f; \
    F r = fma(n, (F)(-0x1.7f7d1cp-20f), fma(d, s, n * -0x1.62e4p-1f) + low); \
    F q = fma((F)(0.001381454019f), r, (F)(0.008368745110f)); \
    q = fma(q, r, (F)(0.04166839078f)); \
    q = fma(q, r, (F)(0.1666652040f)); \
    q = fma(q, r, (F)(0.4999999343f)); \
    F e = times_power##N(fma(q, r * r, r) + 1.0f, z); \
    return select(e, (F)(0.0f), d * s < (F)(-87.3365f)); \
} \
/* 2^d for d <= 0, 0 below the smallest normal float; relative error 3.0e-9 and roundings */ \
static inline F exp2_negative##N(F d) \
{ \
    F z = d + 0x1.8p23f, r = d - (z - 0x1.8p23f); \
    F q = fma((F)(1.532646274e-04f), r, (F)(1.339080627e-03f)); \
    q = fma(q, r, (F)(9.618505836e-03f)); \
    q = fma(q, r, (F)(5.550359935e-02f)); \
    q = fma(q, r, (F)(2.402264774e-01f)); \
    q = fma(q, r, (F)(6.931471825e-01f)); \
    return select(times_power##N(fma(q, r, (F)(1.0f)), z), (F)(0.0f), d < (F)(-126.0f)); \
} \
/* x / (1 + e^(-c x)), c = high + low, with E = e^(-c|x|): 1 / (1 + E) for x >= 0, E / (1 + E) for x < 0 */ \
static inline F gate##N(F x, float high, float low) \
{ \
    F a = fabs(x), e = exp_negative##N(a, (F)(-high), a * -low); \
    return x * divide##N(select((F)(1.0f), e, x < (F)(0.0f)), e + 1.0f); \
} \
static inline F silu##N(F x) { return gate##N(x, 1.0f, 0.0f); } \
/* x Phi(x). |x| < 1: Phi = 1/2 + x S(x^2). Else by the upper tail of a = |x|, e^(-a^2/2) P(t) / (a + 3.5) with \
 * t = (a - 3.5) / (a + 3.5). Relative errors 5.1e-10 and 1.4e-9 */ \
static inline F gelu##N(F x) \
{ \
    F z = x * x, s = fma((F)(-7.461112300e-06f), z, (F)(1.129474945e-04f)); \
    s = fma(s, z, (F)(-1.185780510e-03f)); \
    s = fma(s, z, (F)(9.973076496e-03f)); \
    s = fma(s, z, (F)(-6.649031403e-02f)); \
    s = fma(s, z, (F)(3.989422777e-01f)); \
    F a = fmin(fabs(x), (F)(14.0f)), d = divide##N((F)(1.0f), a + 3.5f), t = (a - 3.5f) * d; \
    F p = fma((F)(4.267067640e-04f), t, (F)(-4.036793652e-04f)); \
    p = fma(p, t, (F)(-3.177217885e-03f)); \
    p = fma(p, t, (F)(6.467014792e-03f)); \
    p = fma(p, t, (F)(1.740669868e-02f)); \
    p = fma(p, t, (F)(-1.160501571e-01f)); \
    p = fma(p, t, (F)(3.154250060e-01f)); \
    p = fma(p, t, (F)(-5.655618335e-01f)); \
    p = fma(p, t, (F)(7.444160753e-01f)); \
    F q = p * d * exp_negative##N(a, a * -0.5f, (F)(0.0f)); \
    F tail = select((F)(1.0f) - q, q, x < (F)(0.0f)); \
    return x * select(tail, fma(x, s, (F)(0.5f)), a < (F)(1.0f)); \
}

MATH(1, float, as_float, as_uint)
MATH(4, float4, as_float4, as_uint4)
MATH(16, float16, as_float16, as_uint16)
