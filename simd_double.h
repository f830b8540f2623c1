/* simd_double.h - floor 1: vectors of doubles, for kernels_precise.c. simd.h says how the instruction set is chosen.
 *
 *   vd            DL = VL / 2 doubles; low_half and high_half of a vf are such
 *   PRECISE_ROWS x PRECISE_VECTORS vectors is the block of C that the matrix product keeps in registers.
 *
 * d_fma may round once or twice: it is for products of floats, which a double holds exactly, so that both give the same bits. */
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

#elif defined(SD_ISA_AVX2)

enum { DL = 4, PRECISE_ROWS = 6, PRECISE_VECTORS = 2 };
typedef __m256d vd;

static inline vd d_load(const double *p) { return _mm256_loadu_pd(p); }
static inline void d_store(double *p, vd v) { _mm256_storeu_pd(p, v); }
static inline vd d_set1(double a) { return _mm256_set1_pd(a); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }

#elif defined(SD_ISA_SSE2)

enum { DL = 2, PRECISE_ROWS = 4, PRECISE_VECTORS = 2 };
typedef __m128d vd;

static inline vd d_load(const double *p) { return _mm_loadu_pd(p); }
static inline void d_store(double *p, vd v) { _mm_storeu_pd(p, v); }
static inline vd d_set1(double a) { return _mm_set1_pd(a); }
static inline vd d_fma(vd a, vd b, vd c) { return _mm_add_pd(_mm_mul_pd(a, b), c); }

#elif defined(SD_ISA_NEON)

enum { DL = 2, PRECISE_ROWS = 6, PRECISE_VECTORS = 4 };
typedef float64x2_t vd;

static inline vd d_load(const double *p) { return vld1q_f64(p); }
static inline void d_store(double *p, vd v) { vst1q_f64(p, v); }
static inline vd d_set1(double a) { return vdupq_n_f64(a); }
static inline vd d_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }

#endif

#endif
