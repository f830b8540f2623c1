/* kernels_spec.h - floor 1: row functions of the specification (kernels.c) that all its tables share; kernels.h says
 * what they compute. */
#ifndef SD_KERNELS_SPEC_H
#define SD_KERNELS_SPEC_H

#include "kernels.h"

#include <math.h>

/* silu(x) = x sigma(x) = x / (1 + e^-x) */
static inline double sdk_silu1(double x)
{
    return x / (1.0 + exp(-x));
}

/* gelu(x) = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2 = erfc(-x / sqrt 2) / 2 [Hendrycks & Gimpel 2016]. Written
 * with erfc because 1 + erf cancels for negative x. */
static inline double sdk_gelu1(double x)
{
    return x * (0.5 * erfc(-x * 0.70710678118654752440));
}

/* quick_gelu(x) = x sigma(1.702 x), with which OpenAI's CLIP was trained (transformers: QuickGELUActivation). */
static inline double sdk_quick_gelu1(double x)
{
    return x / (1.0 + exp(-1.702 * x));
}

void sdk_spec_silu(float *y, const float *x, size_t n);
void sdk_spec_gelu(float *y, const float *x, size_t n);
void sdk_spec_quick_gelu(float *y, const float *x, size_t n);
void sdk_spec_soft_clamp(float *y, const float *x, size_t n);
void sdk_spec_to_unit(float *y, const float *x, size_t n);
void sdk_spec_from_unit(float *y, const float *x, size_t n);
void sdk_spec_geglu(float *y, const float *value, const float *gate, size_t n);
void sdk_spec_sums(double *sum, double *sum_sq, const float *x, size_t n);
void sdk_spec_norm_affine(float *y, const float *x, double mean, double rstd, const float *g, const float *b, size_t n);
void sdk_spec_affine(float *y, const float *x, const float *m, const float *a, const float *b, size_t n, bool silu);

/* The constants of softmax's exponential and sum, for other code that must compute the same bits */
#define SDK_EXP_LOG2E 0x1.71547652b82fep+0
#define SDK_EXP_LN2 0x1.62e42fefa38p-1   /* 42 bits */
#define SDK_EXP_LN2_REST 0x1.ef35793c7673p-45
enum { SDK_EXP_TERMS = 10, SDK_SOFTMAX_SUMS = 16 };
static const double sdk_exp_q[SDK_EXP_TERMS] = {
    0x1.a4943272a22b4p-26, 0x1.288ccc7af9211p-22, 0x1.71e469dc059a7p-19, 0x1.a019c06c7c387p-16, 0x1.a019ff13c7752p-13,
    0x1.6c16c175284cfp-10, 0x1.1111111176a4cp-7, 0x1.5555555554d34p-5, 0x1.555555555542bp-3, 0x1.ffffffffffffep-2,
};
static inline double sdk_join_sums(double *s)
{
    for (size_t n = SDK_SOFTMAX_SUMS / 2; n > 0; n /= 2)
        for (size_t i = 0; i < n; i++)
            s[i] += s[i + n];
    return s[0];
}

/* These have the same bits however they are computed. */
#define SDK_SPEC_ROWS \
    .widen_f16 = widen_f16, .widen_bf16 = widen_bf16, .add = add, .column_sums = column_sums, .softmax = softmax, \
    .extremes = extremes, \
    .relu = relu, .silu = sdk_spec_silu, .gelu = sdk_spec_gelu, .quick_gelu = sdk_spec_quick_gelu, \
    .soft_clamp = sdk_spec_soft_clamp, .to_unit = sdk_spec_to_unit, .from_unit = sdk_spec_from_unit, \
    .geglu = sdk_spec_geglu, .sums = sdk_spec_sums, .norm_affine = sdk_spec_norm_affine, .affine = sdk_spec_affine,

#endif
