/* immintrin.h - AVX-512F's intrinsics in those of AVX2, FMA and F16C, for `make test-emulated`: SIMDe's, and here those
 * that SIMDe 0.7.4 lacks. A sum's order is that of the compiler's own header. */
#ifndef SD_EMULATED_IMMINTRIN_H
#define SD_EMULATED_IMMINTRIN_H

#pragma GCC system_header   /* foreign macros: their warnings are not ours */

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

static inline __m512 emulated_maskz_loadu_ps(__mmask16 lanes, const float *p)
{
    float x[16];
    for (int i = 0; i < 16; i++)
        x[i] = lanes >> i & 1 ? p[i] : 0;
    return _mm512_loadu_ps(x);
}

static inline void emulated_mask_storeu_ps(float *p, __mmask16 lanes, __m512 v)
{
    float x[16];
    _mm512_storeu_ps(x, v);
    for (int i = 0; i < 16; i++)
        if (lanes >> i & 1)
            p[i] = x[i];
}

static inline __m512d emulated_cvtps_pd(__m256 v)
{
    return simde__m512d_from_private((simde__m512d_private){
        .m256d = {_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))}});
}

static inline __m256 emulated_cvtpd_ps(__m512d v)
{
    simde__m512d_private half = simde__m512d_to_private(v);
    return _mm256_set_m128(_mm256_cvtpd_ps(half.m256d[1]), _mm256_cvtpd_ps(half.m256d[0]));
}

static inline __m512 emulated_cvtph_ps(__m256i v)
{
    return simde__m512_from_private((simde__m512_private){
        .m256 = {_mm256_cvtph_ps(_mm256_castsi256_si128(v)), _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1))}});
}

static inline __m512i emulated_cvtepu16_epi32(__m256i v)
{
    return simde__m512i_from_private((simde__m512i_private){
        .m256i = {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                  _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1))}});
}

static inline double emulated_reduce_add_pd(__m512d v)
{
    simde__m512d_private half = simde__m512d_to_private(v);
    __m256d four = _mm256_add_pd(half.m256d[1], half.m256d[0]);
    __m128d two = _mm_add_pd(_mm256_extractf128_pd(four, 1), _mm256_castpd256_pd128(four));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static inline float emulated_reduce_max_ps(__m512 v)
{
    simde__m512_private half = simde__m512_to_private(v);
    __m256 eight = _mm256_max_ps(half.m256[1], half.m256[0]);
    __m128 four = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

#undef _mm512_shuffle_f32x4   /* SIMDe has it, not under this name */
#define _mm512_shuffle_f32x4 simde_mm512_shuffle_f32x4
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_cvtps_pd emulated_cvtps_pd
#define _mm512_cvtpd_ps emulated_cvtpd_ps
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_reduce_add_pd emulated_reduce_add_pd
#define _mm512_reduce_max_ps emulated_reduce_max_ps

#endif
