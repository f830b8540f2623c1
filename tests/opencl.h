/* opencl.h - for tests of the OpenCL backend: a run on the first device, and one of the CPU's specification. */
#ifndef TEST_OPENCL_H
#define TEST_OPENCL_H

#include "test.h"
#include "../device.h"
#include "../ops_opencl.h"

typedef struct cl_bench {
    sd_error err, near_err;
    sd_cpu cpu;
    sd_cl *cl;
    sd_run run;     /* on the device */
    sd_run near;    /* the specification: plain C, sums in double */
} cl_bench;

/* The device that SD_DEVICE names; without it the one that "opencl" chooses, or NULL and a message if there is none.
 * PoCL keeps what it compiles in build/pocl. as_gpu: it gets the kernels that a GPU gets, whatever it is. */
sd_cl *cl_open(bool as_gpu);

/* Both runs with so much working memory. Skips the test if there is no device. */
void cl_start(cl_bench *b, size_t bytes);
void cl_form(cl_bench *b, bool cpu);   /* from now on kernels are in their form for CPUs, or for GPUs */
void cl_stop(cl_bench *b);   /* everything is freed, or the test fails */

/* n numbers of a fixed sequence, about N(0, 1/3), times scale, plus mean; free() them. */
float *cl_numbers(uint32_t seed, size_t n, double scale, double mean);
/* A weight of the host's with these numbers; id 0. */
sd_tensor cl_weight(const float *numbers, int nd, const int64_t dim[4]);
/* The numbers of a tensor of that run; free() them. */
float *cl_read(sd_run *r, sd_tensor t);
/* |x - truth| / |truth| */
double cl_distance(const float *x, const float *truth, size_t n);

#endif
