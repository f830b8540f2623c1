/* opencl.c - see opencl.h. */
#define _POSIX_C_SOURCE 200809L
#ifdef SD_WITH_OPENCL
#include "opencl.h"

#include <math.h>
#include <stdlib.h>

sd_cl *cl_open(bool as_gpu)
{
    static const sd_log silent;
    static bool said;
    sd_error e = {0};
    const char *which = getenv("SD_DEVICE");
    setenv("POCL_CACHE_DIR", "build/pocl", 0);
    sd_cl *cl = sd_cl_open(which ? which : "opencl", "", &sd_kern_spec, &silent, &e);
    if (!cl && which) fail_msg("%s: %s", which, e.text);
    if (!cl && !said) print_message("no OpenCL device: %s\n", e.text);
    said = said || !cl;
    if (cl && as_gpu) cl->cpu = false;
    return cl;
}

void cl_start(cl_bench *b, size_t bytes)
{
    memset(b, 0, sizeof *b);
    b->cpu = (sd_cpu){.kern = &sd_kern_spec, .threads = 1};
    b->cl = cl_open(false);
    if (!b->cl) skip();
    b->run = (sd_run){.err = &b->err, .be = &sd_backend_opencl, .device = b->cl};
    b->near = (sd_run){.err = &b->near_err, .be = &sd_backend_cpu, .device = &b->cpu};
    assert_int_equal(sd_reserve(&b->run, bytes, "a test"), SD_OK);
    assert_int_equal(sd_reserve(&b->near, bytes, "a test"), SD_OK);
}

void cl_form(cl_bench *b, bool cpu)
{
    b->cl->cpu = cpu;
    sd_cl_free_programs(b->cl);
}

void cl_stop(cl_bench *b)
{
    sd_run_free(&b->run);
    sd_run_free(&b->near);
    assert_int_equal(b->cl->blocks, 0);
    sd_cl_close(b->cl);
}

float *cl_numbers(uint32_t seed, size_t n, double scale, double mean)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(((double)(seed >> 8) / (1 << 23) - 1) * scale + mean);
    }
    return x;
}

sd_tensor cl_weight(const float *numbers, int nd, const int64_t dim[4])
{
    sd_tensor t = {.nd = nd, .dt = SD_F32, .data = (void *)(uintptr_t)numbers, .name = "weight"};
    for (int i = 0; i < nd; i++) t.dim[i] = dim[i];
    return t;
}

float *cl_read(sd_run *r, sd_tensor t)
{
    float *x = malloc((size_t)sd_numel(&t) * sizeof *x);
    assert_non_null(x);
    sd_download(r, t, x);
    if (!sd_ok(r)) fail_msg("%s", r->err->text);
    return x;
}

double cl_distance(const float *x, const float *truth, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)x[i] - truth[i]) * ((double)x[i] - truth[i]);
        s += (double)truth[i] * truth[i];
    }
    return sqrt(d / (s > 0 ? s : 1));
}
#else
typedef int nothing_without_opencl;
#endif
