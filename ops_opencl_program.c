/* ops_opencl_program.c - floor 2: programs built from opencl/, and their kernels by name. */
#include "ops_opencl.h"

#include <stdlib.h>
#include <string.h>

typedef struct sd_cl_program {
    char *name, *options;
    cl_program program;
    struct { char *name; cl_kernel kernel; } kernel[8];
    int kernels;
} sd_cl_program;

static void free_program(sd_cl_program *p)
{
    for (int i = 0; i < p->kernels; i++) {
        clReleaseKernel(p->kernel[i].kernel);
        free(p->kernel[i].name);
    }
    if (p->program) clReleaseProgram(p->program);
    free(p->name);
    free(p->options);
}

void sd_cl_free_programs(sd_cl *cl)
{
    for (size_t i = 0; i < cl->programs; i++) free_program(&cl->program[i]);
    free(cl->program);
    cl->program = NULL;
    cl->programs = cl->program_cap = 0;
}

/* ------------------------------------------------------------------------------------ building */

/* The compiler's message is part of the error: its first lines. */
static void build_failed(sd_run *r, const sd_cl_program *p, cl_int code)
{
    size_t n = 0;
    char *text = NULL;
    const sd_cl *cl = sd_cl_of(r);
    if (clGetProgramBuildInfo(p->program, cl->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &n) == CL_SUCCESS && n > 1)
        text = malloc(n);
    if (text && clGetProgramBuildInfo(p->program, cl->device, CL_PROGRAM_BUILD_LOG, n, text, NULL) == CL_SUCCESS)
        text[n - 1] = 0;
    else if (text) *text = 0;
    sd_fail(r->err, SD_ERR_DEVICE, "%s cannot build opencl/%s.cl with %s: %s (%d): %.300s", cl->name, p->name,
            p->options, sd_cl_code_name(code), (int)code, text ? text : "");
    free(text);
}

static void build(sd_run *r, sd_cl_program *p)
{
    const sd_cl *cl = sd_cl_of(r);
    const char *source[] = {sd_cl_source("common"), sd_cl_source(p->name)};
    char options[512];
    cl_int code;
    snprintf(options, sizeof options, "-cl-std=CL1.2 -DCPU=%d %s", cl->cpu, p->options);
    p->program = clCreateProgramWithSource(cl->context, 2, source, NULL, &code);
    if (sd_cl_failed(r, code, "clCreateProgramWithSource")) return;
    code = clBuildProgram(p->program, 1, &cl->device, options, NULL, NULL);
    if (code != CL_SUCCESS) build_failed(r, p, code);
}

static sd_cl_program *program_of(sd_run *r, const char *name, const char *options)
{
    sd_cl *cl = sd_cl_of(r);
    for (size_t i = 0; i < cl->programs; i++)
        if (strcmp(cl->program[i].name, name) == 0 && strcmp(cl->program[i].options, options) == 0)
            return &cl->program[i];
    sd_cl_program *more = sd_grow(cl->program, cl->programs, &cl->program_cap, 16, sizeof *more);
    sd_cl_program p = {.name = sd_strdup(name), .options = sd_strdup(options)};
    if (more) cl->program = more;
    if (!more || !p.name || !p.options) sd_fail(r->err, SD_ERR_MEMORY, "no memory for a program of kernels");
    else build(r, &p);
    if (!sd_ok(r)) {
        free_program(&p);
        return NULL;
    }
    cl->program[cl->programs] = p;
    return &cl->program[cl->programs++];
}

cl_kernel sd_cl_kernel(sd_run *r, const char *program, const char *kernel, const char *options)
{
    sd_cl_program *p = program_of(r, program, options);
    cl_int code;
    if (!p) return NULL;
    for (int i = 0; i < p->kernels; i++)
        if (strcmp(p->kernel[i].name, kernel) == 0) return p->kernel[i].kernel;
    char *name = sd_strdup(kernel);
    if (!name || p->kernels == SD_COUNT(p->kernel)) {
        sd_fail(r->err, SD_ERR_MEMORY, "no memory for a kernel");
        free(name);
        return NULL;
    }
    cl_kernel k = clCreateKernel(p->program, kernel, &code);
    if (sd_cl_failed(r, code, "clCreateKernel")) {
        free(name);
        return NULL;
    }
    p->kernel[p->kernels].name = name;
    p->kernel[p->kernels++].kernel = k;
    return k;
}
