/* kernels_spec.h - floor 1: row functions of the specification (kernels.c) that all its tables share; kernels.h says what they compute. */
#ifndef SD_KERNELS_SPEC_H
#define SD_KERNELS_SPEC_H

#include "kernels.h"

void sdk_spec_silu(float *y, const float *x, size_t n);
void sdk_spec_gelu(float *y, const float *x, size_t n);
void sdk_spec_quick_gelu(float *y, const float *x, size_t n);
void sdk_spec_geglu(float *y, const float *value, const float *gate, size_t n);
void sdk_spec_softmax(float *x, size_t n, float scale);
void sdk_spec_sums(double *sum, double *sum_sq, const float *x, size_t n);
void sdk_spec_norm_affine(float *y, const float *x, double mean, double rstd, const float *g, const float *b, size_t n);
void sdk_spec_affine(float *y, const float *x, const float *m, const float *a, const float *b, size_t n, bool silu);

/* And these have the same bits however they are computed. */
#define SDK_SPEC_ROWS \
    .widen_f16 = widen_f16, .widen_bf16 = widen_bf16, .add = add, .column_sums = column_sums, \
    .silu = sdk_spec_silu, .gelu = sdk_spec_gelu, .quick_gelu = sdk_spec_quick_gelu, .geglu = sdk_spec_geglu, \
    .softmax = sdk_spec_softmax, .sums = sdk_spec_sums, .norm_affine = sdk_spec_norm_affine, .affine = sdk_spec_affine,

#endif
