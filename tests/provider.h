/* provider.h - for tests of operations: who computes them, and tensors whose numbers a test may look at wherever they
 * are. Included after test.h. */
#ifndef TEST_PROVIDER_H
#define TEST_PROVIDER_H

#include "../ops_cpu.h"

/* The specification adds in double; the own kernels of this machine's best instruction set; OpenBLAS' products; an
 * OpenCL device with the kernels for CPUs, and with those for GPUs, whatever it is. */
enum { SPECIFICATION, OWN, BLAS, DEVICE, DEVICE_AS_GPU, PROVIDERS };

/* The first that is there of those after this one; -1 begins. For each of them:
 *   for (int k = next_provider(-1); k < PROVIDERS; k = next_provider(k)) */
int next_provider(int after);

/* NULL: this build does without, or it is not installed. */
const sd_blas *openblas(void);

enum { BENCH_COPIES = 32 };
typedef struct bench {
    sd_error err;
    sd_cpu cpu;
    sd_run run;
    int provider, copies;
    float *copy[BENCH_COPIES];
} bench;

/* Makes a run that computes there; it has no memory yet. cpu: to be filled, must live as long. */
sd_run run_of(int provider, sd_cpu *cpu, int threads, sd_error *err);
/* A run with 64 MB of working memory; stop() frees it. threads: of the CPU. */
void start(bench *b, int provider, int threads);
void stop(bench *b);

float rnd(void);           /* of a fixed sequence, about N(0, 1/3) */
void reseed(uint32_t seed);
void fill(float *x, size_t n);

/* A tensor with such numbers, times scale, plus mean. */
sd_tensor random4(bench *b, int64_t n, int64_t h, int64_t w, int64_t c);
sd_tensor scaled4(bench *b, int64_t n, int64_t h, int64_t w, int64_t c, float scale, float mean);
/* A copy of the tensor's numbers as they are now, until stop(). Fails the test if there is an error. */
const float *numbers_of(bench *b, sd_tensor t);

/* |x - truth| / |truth| */
double rel_l2(const float *x, const double *truth, size_t n);
/* Asks that the tensor is so near to the truth, and keeps the largest share of a bound that a provider needed. */
void expect_near(bench *b, sd_tensor x, const double *truth, double bound);
/* A group's teardown: prints those shares, and closes the device. */
int close_providers(void **state);

#endif
