/* simd_double.h - floor 1: vectors of doubles, for kernels_precise.c. simd.h says how the instruction set is chosen.
 *
 *   vd            DL = VL / 2 doubles; low_half and high_half of a vf are such
 *   PRECISE_ROWS x PRECISE_VECTORS vectors is the block of C that the matrix product keeps in registers.
 *
 * d_fma may round once or twice. It is for products of floats only, which a double holds exactly, so that both give the
 * same bits. */
#ifndef SD_SIMD_DOUBLE_H
#define SD_SIMD_DOUBLE_H

#include "simd.h"

#if defined(SD_ISA_AVX512)

enum { DL = 8, PRECISE_ROWS = 14, PRECISE_VECTORS = 2 };
typedef __m512d vd;

static inline vd d_load(const double *p) { return _mm512_loadu_pd(p); }
static inline void d_store(double *p, vd v) { _mm512_storeu_pd(p, v); }
static inline vd d_set1(double a) { return _mm512_set1_pd(a); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }
static inline vd d_add(vd a, vd b) { return _mm512_add_pd(a, b); }
static inline vd d_sub(vd a, vd b) { return _mm512_sub_pd(a, b); }
static inline vd d_mul(vd a, vd b) { return _mm512_mul_pd(a, b); }
static inline vd d_div(vd a, vd b) { return _mm512_div_pd(a, b); }
/* x < limit ? 0 : v */
static inline vd d_zero_below(vd x, vd limit, vd v)
{
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, limit, _CMP_NLT_UQ), v);
}
/* 2^n for z = 1.5 2^52 + n */
static inline vd d_power_of_two(vd z)
{
    __m512i bits = _mm512_slli_epi64(_mm512_castpd_si512(z), 52);
    return _mm512_castsi512_pd(_mm512_add_epi64(bits, _mm512_set1_epi64(INT64_C(0x3ff) << 52)));
}
static inline vd d_widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
static inline void d_narrow(float *p, vd v) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(v)); }

#elif defined(SD_ISA_AVX2)

enum { DL = 4, PRECISE_ROWS = 6, PRECISE_VECTORS = 2 };
typedef __m256d vd;

static inline vd d_load(const double *p) { return _mm256_loadu_pd(p); }
static inline void d_store(double *p, vd v) { _mm256_storeu_pd(p, v); }
static inline vd d_set1(double a) { return _mm256_set1_pd(a); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }
static inline vd d_add(vd a, vd b) { return _mm256_add_pd(a, b); }
static inline vd d_sub(vd a, vd b) { return _mm256_sub_pd(a, b); }
static inline vd d_mul(vd a, vd b) { return _mm256_mul_pd(a, b); }
static inline vd d_div(vd a, vd b) { return _mm256_div_pd(a, b); }
static inline vd d_zero_below(vd x, vd limit, vd v) { return _mm256_andnot_pd(_mm256_cmp_pd(x, limit, _CMP_LT_OQ), v); }
static inline vd d_power_of_two(vd z)
{
    __m256i bits = _mm256_slli_epi64(_mm256_castpd_si256(z), 52);
    return _mm256_castsi256_pd(_mm256_add_epi64(bits, _mm256_set1_epi64x(INT64_C(0x3ff) << 52)));
}
static inline vd d_widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
static inline void d_narrow(float *p, vd v) { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }

#elif defined(SD_ISA_SSE2)

enum { DL = 2, PRECISE_ROWS = 4, PRECISE_VECTORS = 2 };
typedef __m128d vd;

static inline vd d_load(const double *p) { return _mm_loadu_pd(p); }
static inline void d_store(double *p, vd v) { _mm_storeu_pd(p, v); }
static inline vd d_set1(double a) { return _mm_set1_pd(a); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm_add_pd(_mm_mul_pd(a, b), c); }
static inline vd d_add(vd a, vd b) { return _mm_add_pd(a, b); }
static inline vd d_sub(vd a, vd b) { return _mm_sub_pd(a, b); }
static inline vd d_mul(vd a, vd b) { return _mm_mul_pd(a, b); }
static inline vd d_div(vd a, vd b) { return _mm_div_pd(a, b); }
static inline vd d_zero_below(vd x, vd limit, vd v) { return _mm_andnot_pd(_mm_cmplt_pd(x, limit), v); }
static inline vd d_power_of_two(vd z)
{
    __m128i bits = _mm_slli_epi64(_mm_castpd_si128(z), 52);
    return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_set1_epi64x(INT64_C(0x3ff) << 52)));
}
static inline vd d_widen(const float *p) { return _mm_set_pd(p[1], p[0]); }
static inline void d_narrow(float *p, vd v)
{
    _mm_storel_epi64((__m128i *)(void *)p, _mm_castps_si128(_mm_cvtpd_ps(v)));
}

#elif defined(SD_ISA_NEON)

enum { DL = 2, PRECISE_ROWS = 6, PRECISE_VECTORS = 4 };
typedef float64x2_t vd;

static inline vd d_load(const double *p) { return vld1q_f64(p); }
static inline void d_store(double *p, vd v) { vst1q_f64(p, v); }
static inline vd d_set1(double a) { return vdupq_n_f64(a); }
static inline vd d_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }
static inline vd d_add(vd a, vd b) { return vaddq_f64(a, b); }
static inline vd d_sub(vd a, vd b) { return vsubq_f64(a, b); }
static inline vd d_mul(vd a, vd b) { return vmulq_f64(a, b); }
static inline vd d_div(vd a, vd b) { return vdivq_f64(a, b); }
static inline vd d_zero_below(vd x, vd limit, vd v)
{
    return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(v), vcltq_f64(x, limit)));
}
static inline vd d_power_of_two(vd z)
{
    uint64x2_t bits = vshlq_n_u64(vreinterpretq_u64_f64(z), 52);
    return vreinterpretq_f64_u64(vaddq_u64(bits, vdupq_n_u64(UINT64_C(0x3ff) << 52)));
}
static inline vd d_widen(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
static inline void d_narrow(float *p, vd v) { vst1_f32(p, vcvt_f32_f64(v)); }

#endif

#endif
