/* arm_neon.h - AArch64's intrinsics for an x86 processor with FMA, for `make test-emulated`: by SIMDe, and here those
 * that SIMDe 0.7.4 lacks or gets wrong. */
#ifndef SD_EMULATED_ARM_NEON_H
#define SD_EMULATED_ARM_NEON_H

#pragma GCC system_header   /* foreign macros: their warnings are not ours */

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>

#ifndef vdivq_f32
#define vdivq_f32(a, b) ((a) / (b))
#endif
#ifndef vdivq_f64
#define vdivq_f64(a, b) ((a) / (b))
#endif
#ifndef vcvt_high_f64_f32
#define vcvt_high_f64_f32(v) vcvt_f64_f32(vget_high_f32(v))
#endif
#undef vshll_n_u16   /* SIMDe refuses 16 bits under clang, which SHLL has */
#define vshll_n_u16(a, n) vshlq_n_u32(vmovl_u16(a), n)

/* FCVTL makes a NaN quiet, as VCVTPH2PS does; SIMDe's own does not. */
static inline float32x4_t emulated_vcvt_f32_f16(float16x4_t h)
{
    return (float32x4_t)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(const void *)&h));
}
#undef vcvt_f32_f16
#define vcvt_f32_f16 emulated_vcvt_f32_f16

#endif
