/* ops_cpu.h - floor 2: what the files of the CPU backend share. */
#ifndef SD_OPS_CPU_H
#define SD_OPS_CPU_H

#include "profile.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* ---- ops_cpu_blas.c: OpenBLAS, which is loaded at run time and only if somebody asks for it */
typedef void sd_blas_sgemm(int order, int turn_a, int turn_b, int M, int N, int K, float alpha, const float *A, int lda,
                           const float *B, int ldb, float beta, float *C, int ldc);
typedef struct sd_blas {
    sd_blas_sgemm *sgemm;
    int (*threads)(void);
    void (*set_threads)(int n);
} sd_blas;

/* SD_ERR_UNSUPPORTED: this build does without, or it is not installed. */
sd_status sd_blas_load(sd_blas *b, sd_error *e);
/* C[M,N] = A[M,K] B[N,K]^T + bias[N], which may be NULL */
void sd_blas_multiply(const sd_blas *b, int threads, size_t M, size_t N, size_t K, const float *A, const float *B,
                      float *C, const float *bias);

/* ---- ops_cpu_winograd.c: how long convolutions of one shape took in two orders of work, which give the same bits.
 * [0]: planes in the outer loop, [1]: strips or tiles, see there. */
typedef struct sd_conv_times {
    size_t tiles, I, O, planes;
    double least[2];                    /* seconds */
    int tries[2];
} sd_conv_times;

/* What run->device points to. */
typedef struct sd_cpu {
    const sd_kern *kern;                /* kernels.h: the functions for this processor's instructions */
    const sd_blas *blas;                /* multiplies in linear layers and unfolded convolutions; NULL: kern does */
    int threads;
    sd_cache_sizes caches;              /* what blocks are made to fit; all zero: unknown, they are then small */
    sd_conv_times times[64];            /* of the shapes that have come so far; a network has fewer */
    size_t shapes;
    void *scratch;                      /* working memory within an operation, kept for the next one */
    size_t scratch_size;
} sd_cpu;

static inline sd_cpu *sd_cpu_of(const sd_run *r) { return r->device; }
static inline float *sd_f32(sd_tensor t) { return (float *)t.data; }

/* At least `bytes` of SD_ALIGN-aligned scratch, contents undefined; NULL (and r->err set) when there is none. */
void *sd_scratch(sd_run *r, size_t bytes);
/* Working memory for a convolution that need not be allocated: what the arena has above its mark and above the n
 * tensors of the operation. Sets *bytes. SD_ALIGN-aligned. Other operations must not use it: when they run, tensors
 * that are still wanted may lie there. */
void *sd_spare(const sd_run *r, const sd_tensor *operand, int n, size_t *bytes);

/* How sd_backend_cpu computes a convolution of x [N,H,W,I] and w [O,I,kh,kw]: it depends on their shapes without N. */
typedef enum sd_conv_kind {
    SD_CONV_LINEAR, SD_CONV_UNFOLD, SD_CONV_WINOGRAD, SD_CONV_WINOGRAD_ENLARGED
} sd_conv_kind;
sd_conv_kind sd_conv_choose(const sd_kern *k, const int64_t x[4], const int64_t w[4], sd_conv c);
/* Its name, and its share of multiplications for a result y [N,H,W,O]. */
sd_conv_how sd_conv_kind_describe(sd_conv_kind kind, const int64_t y[4]);

/* Starting the other threads takes as long as about this many additions; smaller jobs run on one thread. Where an
 * element takes longer than an addition, the limit is a part of it (an activation: a quarter); where it takes less, a
 * multiple (a term of a product: a sixteenth of an addition). */
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

/* The number of the next task. A thread takes its next one before it begins the one that it has, so that it knows what
 * to fetch meanwhile. */
static inline size_t sd_take(size_t *ticket)
{
    size_t taken;
#pragma omp atomic capture
    taken = (*ticket)++;
    return taken;
}

/* Scratch is cut into consecutive aligned pieces. */
typedef struct pieces { unsigned char *at; } pieces;
static inline void *cut(pieces *p, size_t bytes)
{
    void *here = p->at;
    p->at += round_up(bytes, SD_ALIGN);
    return here;
}
/* The bytes of such a piece of n floats */
/* This thread's part of a piece that has so many bytes for each thread */
static inline void *of_thread(void *first, size_t bytes)
{
    return (unsigned char *)first + (size_t)thread_id() * bytes;
}
static inline size_t floats(size_t n) { return round_up(n * sizeof(float), SD_ALIGN); }

/* Calls fn(user, 0 .. n - 1), each on a thread of its own. */
void sd_cpu_each(int n, void (*fn)(void *user, int i), void *user);

/* ops_cpu_memory.c: entries of the backend */
void *sd_cpu_alloc(sd_run *r, size_t bytes, const char *what);
void sd_cpu_release(sd_run *r, void *data);
void sd_cpu_trim(sd_run *r);
void sd_cpu_upload(sd_run *r, sd_tensor y, const float *from, bool channels_first);
void sd_cpu_download(sd_run *r, sd_tensor x, float *to, bool channels_first);
void sd_cpu_copy(sd_run *r, sd_tensor y, sd_tensor x);

/* Can a weight be read where it lies? */
static inline bool is_f32(const sd_tensor *w)
{
    return w->dt == SD_F32 && w->scale == 0 && (uintptr_t)w->data % sizeof(float) == 0;
}
/* The function with which the kernels widen this 16-bit weight as they read it; NULL: they want floats. */
static inline sdk_widen *widened_on_the_way(const sd_kern *k, const sd_tensor *w)
{
    if (w->scale != 0 || (uintptr_t)w->data % sizeof(uint16_t)) return NULL;
    return w->dt == SD_F16 ? k->widen_f16 : w->dt == SD_BF16 ? k->widen_bf16 : NULL;
}
/* Where number `at` of a weight lies. */
static inline const void *number_at(const sd_tensor *w, size_t at)
{
    return (const unsigned char *)w->data + sd_dtype_bytes(w->dt, at);
}
/* A whole weight as floats: in place, or widened into `room`; NULL for an absent one. */
const float *sd_cpu_f32(sd_run *r, const sd_tensor *w, float *room);

/* ---- ops_cpu_gemm.c: products of matrices */

/* Rows per task: a multiple of every micro-kernel's height (4, 6, 8, 14), and enough to make the cost of packing the
 * other operand small. */
enum { TASK_ROWS = 168 };

/* How many columns the packed strips of so many columns have: whole strips, the last one narrow if that is enough. */
static inline size_t packed_columns(const sd_kern *k, size_t columns)
{
    size_t last = columns % k->panel_columns;
    return columns - last + (last > k->panel_narrow ? k->panel_columns : last ? k->panel_narrow : 0);
}

/* What one thread needs for kern->gemm, a multiple of SD_ALIGN. */
static inline size_t gemm_room(const sd_cpu *cpu) { return round_up(cpu->kern->gemm_scratch, SD_ALIGN); }

/* A weight as the right operand of a product: rows [N,K] of floats, or of 16-bit numbers that `widen` converts (not
 * with OpenBLAS). */
typedef struct sd_operand {
    const void *data;
    sdk_widen *widen;
} sd_operand;

/* One product C[M,N] = A[M,K] B^T[K,N] + bias. scratch: room for one gemm per thread. turned: room for all of A,
 * packed, for a product that is computed turned; else NULL. */
typedef struct sd_product {
    sd_run *r;
    size_t M, N, K;
    const float *A;
    sd_operand B;
    float *C;
    const float *bias;
    unsigned char *scratch;
    float *turned;
} sd_product;

/* The columns of a task: a multiple of `step`, for all tasks the same, at most about 384, of which a block of terms
 * (BLOCK_K in simd_gemm.h) fits the L2 cache. */
static inline size_t equal_columns(size_t N, size_t step) { return round_up(div_up(N, div_up(N, 384)), step); }

void sd_cpu_multiply(const sd_product *p);
void sd_cpu_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b);

/* ops_cpu_conv.c: entries of the backend */
void sd_cpu_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c);
sd_conv_how sd_cpu_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c);

/* ops_cpu_attention.c: an entry of the backend */
void sd_cpu_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal);

/* ops_cpu_winograd.c: 3x3 convolution with stride 1 and padding 1 by a minimal algorithm, of x or of x enlarged. */
void sd_winograd_conv(sd_run *r, const sd_winograd *how, sd_tensor y, sd_tensor x, const sd_tensor *w,
                      const sd_tensor *b, sd_conv c);

#endif
