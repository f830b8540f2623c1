/* ops_cpu.h - floor 2: what the files of the CPU backend share. */
#ifndef SD_OPS_CPU_H
#define SD_OPS_CPU_H

#include "profile.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* Waking the other threads costs as long as this many additions take: less is done by one. */
enum { SMALL = 1 << 16 };

static inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
static inline size_t div_up(size_t n, size_t by) { return (n + by - 1) / by; }

static inline int64_t cols(sd_tensor t) { return t.dim[t.nd - 1]; }
static inline int64_t rows(sd_tensor t) { return sd_numel(&t) / cols(t); }

static inline int thread_id(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Scratch is cut into consecutive aligned pieces. */
typedef struct pieces { unsigned char *at; } pieces;
static inline void *cut(pieces *p, size_t bytes)
{
    void *here = p->at;
    p->at += round_up(bytes, SD_ALIGN);
    return here;
}
static inline size_t floats(size_t n) { return round_up(n * sizeof(float), SD_ALIGN); }

/* Can a weight be read where it lies? */
static inline bool is_f32(const sd_tensor *w) { return w->dt == SD_F32 && (uintptr_t)w->host % sizeof(float) == 0; }
/* A whole weight as float: itself, or widened into `room`; NULL for none. */
const float *sd_cpu_f32(sd_run *r, const sd_tensor *w, float *room);

/* ops_cpu_attention.c: attention with a running softmax, for kernels that have panels */
void sd_attention_tiles(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);

/* ops_cpu_winograd.c: 3x3 convolution with stride 1 and padding 1 by a minimal algorithm. y may be twice the size of x:
 * x enlarged is meant. */
void sd_winograd_conv(sd_run *r, const sd_winograd *how, sd_tensor y, sd_tensor x, const sd_tensor *w,
                      const sd_tensor *b);

#endif
