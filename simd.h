/* simd.h - floor 1: the few vector operations that the fast kernels are written in, for one instruction set per
 * compilation.
 *
 * The build defines exactly one of SD_ISA_SSE2, SD_ISA_AVX2 (with -mavx2 -mfma -mf16c), SD_ISA_AVX512 (with -mavx512f,
 * nothing more is used), SD_ISA_NEON (AArch64) and SD_ISA_SCALAR, where a vector is one number and all is plain C99.
 * Everything is inline; nothing reads or writes beyond the elements it was given.
 *
 *   vf            VL floats                        vsum            VL running sums in double
 *   TILE_ROWS x TILE_VECTORS vectors is the block of C that the matrix product keeps in registers.
 *   IN_PLACE      the addresses of TILE_ROWS rows fit the registers too, so rows of A need not be copied first
 *
 * The other operations are explained where AVX-512 has them. v_fma is a b + c with one rounding where the machine has
 * such an instruction, else (SSE2) with two; v_fma_once never rounds the product. v_max(a, b) and v_min(a, b) give b
 * when b is NaN. */
#ifndef SD_SIMD_H
#define SD_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(SD_ISA_SSE2) || defined(SD_ISA_AVX2) || defined(SD_ISA_AVX512)
#include <immintrin.h>
#elif defined(SD_ISA_NEON)
#include <arm_neon.h>
#elif defined(SD_ISA_SCALAR)
#include <math.h>
#else
#error "define one of SD_ISA_SSE2, SD_ISA_AVX2, SD_ISA_AVX512, SD_ISA_NEON, SD_ISA_SCALAR"
#endif

/* Before a loop that must be unrolled: its count is a compile-time constant, and its array must become registers. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"   /* where a function is not inlined, its loops remain */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* A function whose arguments are constants where it is called, so that they are constants in it, too. */
#define INLINE static inline __attribute__((always_inline))

/* ---------------------------------------------------------------------------------------- AVX-512F */
#if defined(SD_ISA_AVX512)

#define ISA avx512
enum { VL = 16, TILE_ROWS = 14, TILE_VECTORS = 2, IN_PLACE = 0 };   /* 28 of 32 registers hold C */
typedef __m512 vf;
typedef struct vsum { __m512d low, high; } vsum;

static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline __mmask16 first_lanes(size_t n) { return (__mmask16)((1u << n) - 1u); }
static inline vf v_load_part(const float *p, size_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static inline void v_store_part(float *p, vf v, size_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
static inline vf v_set1(float a) { return _mm512_set1_ps(a); }
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_fma_once(vf a, vf b, vf c) { return v_fma(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_abs(vf a) { return _mm512_abs_ps(a); }

/* x < 0 ? a : b */
static inline vf v_if_negative(vf x, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}
/* x < limit ? 0 : v */
static inline vf v_zero_below(vf x, vf limit, vf v)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), v);
}
/* v 2^n for a whole n and z = 1.5 2^23 + n; exact where the result is a normal float */
static inline vf v_times_power(vf v, vf n, vf z)
{
    (void)z;
    return _mm512_scalef_ps(v, n);
}
/* The low bits of a float's bits moved to a float's exponent */
static inline vf v_exponent(vf z) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(z), 23)); }

/* Of each 128 bits: a0 b0 a1 b1; a2 b2 a3 b3; a0 a1 b0 b1; a2 a3 b2 b3 */
static inline vf v_zip_low(vf a, vf b) { return _mm512_unpacklo_ps(a, b); }
static inline vf v_zip_high(vf a, vf b) { return _mm512_unpackhi_ps(a, b); }
static inline vf v_pair_low(vf a, vf b) { return _mm512_shuffle_ps(a, b, 0x44); }
static inline vf v_pair_high(vf a, vf b) { return _mm512_shuffle_ps(a, b, 0xee); }
/* The quarters of r[c], r[4 + c], r[8 + c], r[12 + c] as a 4x4 block, transposed */
static inline void v_regroup(vf *r)
{
    UNROLL for (size_t c = 0; c < 4; c++) {
        vf even01 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88), odd01 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        vf even23 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88),
            odd23 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
        r[c] = _mm512_shuffle_f32x4(even01, even23, 0x88);
        r[4 + c] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
        r[12 + c] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
    }
}
static inline float v_max_lane(vf v) { return _mm512_reduce_max_ps(v); }

static inline vf v_widen_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf v_widen_bf16(const uint16_t *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline __m512d low_half(vf v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
static inline __m512d high_half(vf v)
{
    return _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
}

static inline vsum s_zero(void) { return (vsum){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
static inline vsum s_load(const double *p) { return (vsum){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
static inline void s_store(double *p, vsum s)
{
    _mm512_storeu_pd(p, s.low);
    _mm512_storeu_pd(p + 8, s.high);
}
static inline vsum s_add(vsum s, vf v)
{
    return (vsum){_mm512_add_pd(s.low, low_half(v)), _mm512_add_pd(s.high, high_half(v))};
}
static inline vsum s_mul(vsum s, vf v)
{
    return (vsum){_mm512_mul_pd(s.low, low_half(v)), _mm512_mul_pd(s.high, high_half(v))};
}
static inline vsum s_add_square(vsum s, vf v)
{
    __m512d l = low_half(v), h = high_half(v);
    return (vsum){_mm512_add_pd(s.low, _mm512_mul_pd(l, l)), _mm512_add_pd(s.high, _mm512_mul_pd(h, h))};
}
static inline double s_total(vsum s) { return _mm512_reduce_add_pd(_mm512_add_pd(s.low, s.high)); }

/* -------------------------------------------------------------------------------- AVX2, FMA, F16C */
#elif defined(SD_ISA_AVX2)

#define ISA avx2
enum { VL = 8, TILE_ROWS = 6, TILE_VECTORS = 2, IN_PLACE = 1 };   /* 12 of 16 registers hold C */
typedef __m256 vf;
typedef struct vsum { __m256d low, high; } vsum;

static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline __m256i first_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf v_load_part(const float *p, size_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
static inline void v_store_part(float *p, vf v, size_t n) { _mm256_maskstore_ps(p, first_lanes(n), v); }
static inline vf v_set1(float a) { return _mm256_set1_ps(a); }
static inline vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_fma_once(vf a, vf b, vf c) { return v_fma(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }

static inline vf v_if_negative(vf x, vf a, vf b) { return _mm256_blendv_ps(b, a, x); }
static inline vf v_zero_below(vf x, vf limit, vf v) { return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), v); }
static inline vf v_times_power(vf v, vf n, vf z)   /* the low bits of z, shifted to the exponent of 1.0f */
{
    (void)n;
    __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(z), 23);
    return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3f800000))));
}
static inline vf v_exponent(vf z) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(z), 23)); }

static inline vf v_zip_low(vf a, vf b) { return _mm256_unpacklo_ps(a, b); }
static inline vf v_zip_high(vf a, vf b) { return _mm256_unpackhi_ps(a, b); }
static inline vf v_pair_low(vf a, vf b) { return _mm256_shuffle_ps(a, b, 0x44); }
static inline vf v_pair_high(vf a, vf b) { return _mm256_shuffle_ps(a, b, 0xee); }
static inline void v_regroup(vf *r)
{
    UNROLL for (size_t c = 0; c < 4; c++) {
        vf low = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20), high = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
        r[c] = low;
        r[4 + c] = high;
    }
}
static inline float v_max_lane(vf v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline vf v_widen_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vf v_widen_bf16(const uint16_t *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static inline __m256d low_half(vf v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
static inline __m256d high_half(vf v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }

static inline vsum s_zero(void) { return (vsum){_mm256_setzero_pd(), _mm256_setzero_pd()}; }
static inline vsum s_load(const double *p) { return (vsum){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
static inline void s_store(double *p, vsum s)
{
    _mm256_storeu_pd(p, s.low);
    _mm256_storeu_pd(p + 4, s.high);
}
static inline vsum s_add(vsum s, vf v)
{
    return (vsum){_mm256_add_pd(s.low, low_half(v)), _mm256_add_pd(s.high, high_half(v))};
}
static inline vsum s_mul(vsum s, vf v)
{
    return (vsum){_mm256_mul_pd(s.low, low_half(v)), _mm256_mul_pd(s.high, high_half(v))};
}
static inline vsum s_add_square(vsum s, vf v)
{
    __m256d l = low_half(v), h = high_half(v);
    return (vsum){_mm256_add_pd(s.low, _mm256_mul_pd(l, l)), _mm256_add_pd(s.high, _mm256_mul_pd(h, h))};
}
static inline double s_total(vsum s)
{
    __m256d t = _mm256_add_pd(s.low, s.high);
    __m128d h = _mm_add_pd(_mm256_castpd256_pd128(t), _mm256_extractf128_pd(t, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}

/* -------------------------------------------------------------------------------------------- SSE2 */
#elif defined(SD_ISA_SSE2)

#define ISA sse2
enum { VL = 4, TILE_ROWS = 4, TILE_VECTORS = 2, IN_PLACE = 1 };   /* 8 of 16 registers hold C, products need one more */
typedef __m128 vf;
typedef struct vsum { __m128d low, high; } vsum;

static inline vf v_load(const float *p) { return _mm_loadu_ps(p); }
static inline void v_store(float *p, vf v) { _mm_storeu_ps(p, v); }
static inline vf v_set1(float a) { return _mm_set1_ps(a); }
static inline vf v_add(vf a, vf b) { return _mm_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
static inline vf v_max(vf a, vf b) { return _mm_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm_min_ps(a, b); }
static inline vf v_abs(vf a) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); }

static inline vf v_if_negative(vf x, vf a, vf b)
{
    __m128 m = _mm_cmplt_ps(x, _mm_setzero_ps());
    return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b));
}
static inline vf v_zero_below(vf x, vf limit, vf v) { return _mm_andnot_ps(_mm_cmplt_ps(x, limit), v); }
static inline vf v_times_power(vf v, vf n, vf z)
{
    (void)n;
    __m128i bits = _mm_slli_epi32(_mm_castps_si128(z), 23);
    return _mm_mul_ps(v, _mm_castsi128_ps(_mm_add_epi32(bits, _mm_set1_epi32(0x3f800000))));
}
static inline vf v_exponent(vf z) { return _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(z), 23)); }

static inline vf v_zip_low(vf a, vf b) { return _mm_unpacklo_ps(a, b); }
static inline vf v_zip_high(vf a, vf b) { return _mm_unpackhi_ps(a, b); }
static inline vf v_pair_low(vf a, vf b) { return _mm_shuffle_ps(a, b, 0x44); }
static inline vf v_pair_high(vf a, vf b) { return _mm_shuffle_ps(a, b, 0xee); }
static inline void v_regroup(vf *r) { (void)r; }
static inline float v_max_lane(vf v)
{
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}

/* The half's exponent and mantissa, moved to where a float has its own, make 2^-112 times the half's value, also for
 * subnormal halves. Infinity and NaN get the float's largest exponent, and NaN is made quiet. */
static inline vf v_widen_f16(const uint16_t *p)
{
    __m128i h = _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p), _mm_setzero_si128());
    __m128i magnitude = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
    __m128i sign = _mm_slli_epi32(_mm_xor_si128(h, magnitude), 16);
    __m128 finite = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(magnitude, 13)), _mm_set1_ps(0x1p112f));
    __m128i special = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)), _mm_set1_epi32(0x7f800000));
    __m128i nan = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7c00)), _mm_set1_epi32(0x00400000));
    return _mm_or_ps(finite, _mm_castsi128_ps(_mm_or_si128(_mm_or_si128(special, nan), sign)));
}
static inline vf v_widen_bf16(const uint16_t *p)
{
    __m128i h = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), h));
}

static inline __m128d low_half(vf v) { return _mm_cvtps_pd(v); }
static inline __m128d high_half(vf v) { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); }
static inline vf v_fma_once(vf a, vf b, vf c)
{
    __m128d low = _mm_add_pd(_mm_mul_pd(low_half(a), low_half(b)), low_half(c));
    __m128d high = _mm_add_pd(_mm_mul_pd(high_half(a), high_half(b)), high_half(c));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}

static inline vsum s_zero(void) { return (vsum){_mm_setzero_pd(), _mm_setzero_pd()}; }
static inline vsum s_load(const double *p) { return (vsum){_mm_loadu_pd(p), _mm_loadu_pd(p + 2)}; }
static inline void s_store(double *p, vsum s)
{
    _mm_storeu_pd(p, s.low);
    _mm_storeu_pd(p + 2, s.high);
}
static inline vsum s_add(vsum s, vf v)
{
    return (vsum){_mm_add_pd(s.low, low_half(v)), _mm_add_pd(s.high, high_half(v))};
}
static inline vsum s_mul(vsum s, vf v)
{
    return (vsum){_mm_mul_pd(s.low, low_half(v)), _mm_mul_pd(s.high, high_half(v))};
}
static inline vsum s_add_square(vsum s, vf v)
{
    __m128d l = low_half(v), h = high_half(v);
    return (vsum){_mm_add_pd(s.low, _mm_mul_pd(l, l)), _mm_add_pd(s.high, _mm_mul_pd(h, h))};
}
static inline double s_total(vsum s)
{
    __m128d t = _mm_add_pd(s.low, s.high);
    return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}

/* ---------------------------------------------------------------------------------- NEON, AArch64 */
#elif defined(SD_ISA_NEON)

#define ISA neon
enum { VL = 4, TILE_ROWS = 8, TILE_VECTORS = 3, IN_PLACE = 1 };   /* 24 of 32 registers hold C */
typedef float32x4_t vf;
typedef struct vsum { float64x2_t low, high; } vsum;

static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vf v) { vst1q_f32(p, v); }
static inline vf v_set1(float a) { return vdupq_n_f32(a); }
static inline vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf v_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf v_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_fma_once(vf a, vf b, vf c) { return v_fma(a, b, c); }
static inline vf v_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline vf v_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf v_abs(vf a) { return vabsq_f32(a); }

static inline vf v_if_negative(vf x, vf a, vf b) { return vbslq_f32(vcltzq_f32(x), a, b); }
static inline vf v_zero_below(vf x, vf limit, vf v)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(x, limit)));
}
static inline vf v_times_power(vf v, vf n, vf z)
{
    (void)n;
    uint32x4_t bits = vshlq_n_u32(vreinterpretq_u32_f32(z), 23);
    return vmulq_f32(v, vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(0x3f800000))));
}
static inline vf v_exponent(vf z) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(z), 23)); }

static inline vf v_zip_low(vf a, vf b) { return vzip1q_f32(a, b); }
static inline vf v_zip_high(vf a, vf b) { return vzip2q_f32(a, b); }
static inline vf v_pair_low(vf a, vf b) { return vcombine_f32(vget_low_f32(a), vget_low_f32(b)); }
static inline vf v_pair_high(vf a, vf b) { return vcombine_f32(vget_high_f32(a), vget_high_f32(b)); }
static inline void v_regroup(vf *r) { (void)r; }
static inline float v_max_lane(vf v) { return vmaxvq_f32(v); }

static inline vf v_widen_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline vf v_widen_bf16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }

static inline float64x2_t low_half(vf v) { return vcvt_f64_f32(vget_low_f32(v)); }
static inline float64x2_t high_half(vf v) { return vcvt_high_f64_f32(v); }

static inline vsum s_zero(void) { return (vsum){vdupq_n_f64(0), vdupq_n_f64(0)}; }
static inline vsum s_load(const double *p) { return (vsum){vld1q_f64(p), vld1q_f64(p + 2)}; }
static inline void s_store(double *p, vsum s)
{
    vst1q_f64(p, s.low);
    vst1q_f64(p + 2, s.high);
}
static inline vsum s_add(vsum s, vf v)
{
    return (vsum){vaddq_f64(s.low, low_half(v)), vaddq_f64(s.high, high_half(v))};
}
static inline vsum s_mul(vsum s, vf v)
{
    return (vsum){vmulq_f64(s.low, low_half(v)), vmulq_f64(s.high, high_half(v))};
}
static inline vsum s_add_square(vsum s, vf v)
{
    float64x2_t l = low_half(v), h = high_half(v);
    return (vsum){vaddq_f64(s.low, vmulq_f64(l, l)), vaddq_f64(s.high, vmulq_f64(h, h))};
}
static inline double s_total(vsum s) { return vaddvq_f64(vaddq_f64(s.low, s.high)); }

/* ------------------------------------------------------------------------------- one number, plain C99 */
#elif defined(SD_ISA_SCALAR)

#define ISA scalar
enum { VL = 1, TILE_ROWS = 4, TILE_VECTORS = 4, IN_PLACE = 1 };   /* 16 of a RISC machine's 32 registers */
typedef float vf;
typedef double vsum;

static inline vf v_load(const float *p) { return *p; }
static inline void v_store(float *p, vf v) { *p = v; }
static inline vf v_set1(float a) { return a; }
static inline vf v_add(vf a, vf b) { return a + b; }
static inline vf v_sub(vf a, vf b) { return a - b; }
static inline vf v_mul(vf a, vf b) { return a * b; }
static inline vf v_div(vf a, vf b) { return a / b; }
#ifdef FP_FAST_FMAF   /* C99 7.12: fmaf is about as fast as a product and a sum */
static inline vf v_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
#else
static inline vf v_fma(vf a, vf b, vf c) { return a * b + c; }
#endif
static inline vf v_fma_once(vf a, vf b, vf c) { return (vf)((double)a * b + c); }
static inline vf v_max(vf a, vf b) { return a > b ? a : b; }
static inline vf v_min(vf a, vf b) { return a < b ? a : b; }
static inline vf v_abs(vf a) { return fabsf(a); }

static inline vf v_if_negative(vf x, vf a, vf b) { return x < 0 ? a : b; }
static inline vf v_zero_below(vf x, vf limit, vf v) { return x < limit ? 0 : v; }
static inline uint32_t bits_of(vf v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}
static inline vf of_bits(uint32_t bits)
{
    vf v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
static inline vf v_times_power(vf v, vf n, vf z)
{
    (void)n;
    return v * of_bits((bits_of(z) << 23) + 0x3f800000u);
}
static inline vf v_exponent(vf z) { return of_bits(bits_of(z) << 23); }
static inline float v_max_lane(vf v) { return v; }

static inline vf v_widen_f16(const uint16_t *p)   /* as with SSE2 */
{
    uint32_t magnitude = *p & 0x7fffu, special = magnitude > 0x7bff ? 0x7f800000u : 0, nan = magnitude > 0x7c00
        ? 0x00400000u : 0;
    return of_bits(bits_of(of_bits(magnitude << 13) * 0x1p112f) | special | nan | (uint32_t)(*p & 0x8000u) << 16);
}
static inline vf v_widen_bf16(const uint16_t *p) { return of_bits((uint32_t)*p << 16); }

static inline vsum s_zero(void) { return 0; }
static inline vsum s_load(const double *p) { return *p; }
static inline void s_store(double *p, vsum s) { *p = s; }
static inline vsum s_add(vsum s, vf v) { return s + v; }
static inline vsum s_mul(vsum s, vf v) { return s * v; }
static inline vsum s_add_square(vsum s, vf v) { return s + (double)v * v; }
static inline double s_total(vsum s) { return s; }

#endif

/* ------------------------------------------------------------------------------------- shared by all */

enum { LINE = 16 };   /* floats of a cache line */

/* What this compilation makes bears the name of its instruction set: OF_ISA(sd_kern) is sd_kern_avx2, and ISA_TEXT is
 * "avx2". */
#define OF_ISA(name) JOINED(name, ISA)
#define JOINED(name, isa) NAME_OF(name, isa)
#define NAME_OF(name, isa) name##_##isa
#define ISA_TEXT TEXT_OF(ISA)
#define TEXT_OF(isa) QUOTED(isa)
#define QUOTED(isa) #isa

#if !defined(SD_ISA_AVX2) && !defined(SD_ISA_AVX512)   /* no masked access to memory: through a buffer */
static inline vf v_load_part(const float *p, size_t n)
{
    float buffer[VL] = {0};
    for (size_t i = 0; i < n; i++)
        buffer[i] = p[i];
    return v_load(buffer);
}
static inline void v_store_part(float *p, vf v, size_t n)
{
    float buffer[VL];
    v_store(buffer, v);
    for (size_t i = 0; i < n; i++)
        p[i] = buffer[i];
}
#endif

/* r[i] lane j becomes r[j] lane i: first 4x4 blocks within each 128 bits, then groups of 128 bits change places. */
#if defined(SD_ISA_SCALAR)
static inline void v_transpose(vf *r) { (void)r; }   /* one number */
#else
static inline void v_transpose(vf *r)
{
    UNROLL for (size_t i = 0; i < VL; i += 4) {
        vf low01 = v_zip_low(r[i], r[i + 1]), high01 = v_zip_high(r[i], r[i + 1]);
        vf low23 = v_zip_low(r[i + 2], r[i + 3]), high23 = v_zip_high(r[i + 2], r[i + 3]);
        r[i] = v_pair_low(low01, low23);
        r[i + 1] = v_pair_high(low01, low23);
        r[i + 2] = v_pair_low(high01, high23);
        r[i + 3] = v_pair_high(high01, high23);
    }
    v_regroup(r);
}
#endif

#endif
