/* ops_opencl_program.c - floor 2: programs built from opencl/, and their kernels by name; the cache of built programs.
 *
 * The cache has one file for each device, program and options: <cache>/opencl/<hash of these>. Its first line has a
 * hash of what the program was made of (sources, versions of platform and driver), and one of the bytes that follow,
 * the driver's binary. If a line or a binary is not what is expected, the program is built again and the file replaced.
 * A file that cannot be written is no error. */
#include "ops_opencl.h"

#include <stdlib.h>
#include <string.h>

#include "sha256.h"

typedef struct cl_function { char *name; cl_kernel kernel; size_t most_group; } cl_function;
typedef struct sd_cl_program {
    char *name, *options;
    cl_program program;
    bool cached;                        /* the binary came from the cache */
    cl_function *kernel;
    size_t kernels, kernel_cap;
} sd_cl_program;

static void free_program(sd_cl_program *p)
{
    for (size_t i = 0; i < p->kernels; i++) {
        clReleaseKernel(p->kernel[i].kernel);
        free(p->kernel[i].name);
    }
    if (p->program) clReleaseProgram(p->program);
    free(p->kernel);
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

bool sd_cl_distrust_cache(sd_cl *cl)
{
    bool any = false;
    for (size_t i = 0; i < cl->programs; i++) any |= cl->program[i].cached;
    if (any) sd_cl_free_programs(cl);
    cl->rebuild |= any;
    return any;
}

/* --------------------------------------------------------------------------------------- cache */

bool sd_cl_cached_path(const sd_cl *cl, const char *name, bool make, char path[SD_CL_PATH])
{
    if (!*cl->cache || snprintf(path, SD_CL_PATH, "%s/opencl/%s", cl->cache, name) >= SD_CL_PATH) return false;
    for (char *slash = strchr(path + 1, '/'); make && slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        sd_os_make_directory(path);   /* if that fails, so will the file's opening */
        *slash = '/';
    }
    return true;
}

void sd_cl_hash(char hex[SD_CL_HASH], const char *const *text, size_t n)
{
    sd_sha256 h;
    sd_sha256_init(&h);
    for (size_t i = 0; i < n; i++) sd_sha256_add(&h, text[i], strlen(text[i]) + 1);
    sd_sha256_hex(&h, hex);
}

enum { HEAD = 11 + SD_SHA256_HEX + SD_SHA256_HEX, MOST_BINARY = 1 << 28 };

/* A program that is to be built, and its place in the cache. */
typedef struct recipe {
    const char *source[2];
    char options[512], file[SD_SHA256_HEX], origin[SD_SHA256_HEX];
} recipe;

static recipe recipe_of(const sd_cl *cl, const sd_cl_program *p)
{
    recipe c = {.source = {sd_cl_source("common"), sd_cl_source(p->name)}};
    snprintf(c.options, sizeof c.options, "-cl-std=CL1.2 -DCPU=%d %s", cl->cpu, p->options);
    sd_cl_hash(c.file, (const char *[]){cl->platform_name, cl->name, p->name, c.options}, 4);
    sd_cl_hash(c.origin, (const char *[]){cl->platform_version, cl->driver, c.source[0], c.source[1]}, 4);
    return c;
}

static void head_of(char head[HEAD + 1], const recipe *c, const void *binary, size_t n)
{
    sd_sha256 h;
    char content[SD_SHA256_HEX];
    sd_sha256_init(&h);
    sd_sha256_add(&h, binary, n);
    sd_sha256_hex(&h, content);
    snprintf(head, HEAD + 1, "sd program %s %s\n", c->origin, content);
}

/* Builds p from its file, if that is sound and the driver accepts it. */
static bool load(sd_run *r, sd_cl_program *p, const recipe *c)
{
    const sd_cl *cl = sd_cl_of(r);
    char path[SD_CL_PATH], head[HEAD + 1], *data = NULL;
    size_t n = 0;
    cl_int code = CL_INVALID_BINARY, status = CL_INVALID_BINARY;
    sd_error quiet = {.halt = r->err->halt};
    if (cl->rebuild || !sd_cl_cached_path(cl, c->file, false, path) || sd_os_look(path, NULL) != SD_OS_FILE
        || sd_read_file(path, MOST_BINARY, &data, &n, &quiet))
        return false;
    if (n > HEAD) {
        const unsigned char *binary = (const unsigned char *)data + HEAD;
        n -= HEAD;
        head_of(head, c, binary, n);
        if (memcmp(head, data, HEAD) == 0)
            p->program = clCreateProgramWithBinary(cl->context, 1, &cl->device, &n, &binary, &status, &code);
    }
    free(data);
    if (code == CL_SUCCESS && status == CL_SUCCESS
        && clBuildProgram(p->program, 1, &cl->device, c->options, NULL, NULL) == CL_SUCCESS)
        return p->cached = true;
    if (code == CL_SUCCESS) clReleaseProgram(p->program);
    p->program = NULL;
    return false;
}

static void write_file(sd_run *r, const recipe *c, const void *binary, size_t n)
{
    char path[SD_CL_PATH], head[HEAD + 1];
    sd_outfile out;
    sd_error quiet = {.halt = r->err->halt};
    if (!sd_cl_cached_path(sd_cl_of(r), c->file, true, path) || sd_outfile_open(&out, path, &quiet)) return;
    head_of(head, c, binary, n);
    fwrite(head, 1, HEAD, out.f);
    fwrite(binary, 1, n, out.f);
    sd_outfile_commit(&out, &quiet);
}

static void keep(sd_run *r, const sd_cl_program *p, const recipe *c)
{
    size_t n = 0;
    if (!*sd_cl_of(r)->cache
        || clGetProgramInfo(p->program, CL_PROGRAM_BINARY_SIZES, sizeof n, &n, NULL) != CL_SUCCESS || !n)
        return;
    unsigned char *binary = malloc(n);
    if (binary && clGetProgramInfo(p->program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
        write_file(r, c, binary, n);
    free(binary);
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
    sd_fail(r->err, SD_ERR_DEVICE, "%s cannot build opencl/%s.cl with %s: %s (%d)%s%.300s", cl->name, p->name,
            p->options, sd_cl_code_name(code), (int)code, text && *text ? ": " : "", text ? text : "");
    free(text);
}

static void build(sd_run *r, sd_cl_program *p)
{
    const sd_cl *cl = sd_cl_of(r);
    cl_int code;
    recipe c = recipe_of(cl, p);
    if (load(r, p, &c)) return;
    double start = sd_now();
    p->program = clCreateProgramWithSource(cl->context, 2, c.source, NULL, &code);
    if (code != CL_SUCCESS) p->program = NULL;
    if (sd_cl_failed(r, code, "clCreateProgramWithSource")) return;
    code = clBuildProgram(p->program, 1, &cl->device, c.options, NULL, NULL);
    if (code != CL_SUCCESS) {
        build_failed(r, p, code);
        return;
    }
    keep(r, p, &c);
    sd_logf(cl->log, SD_LOG_DETAIL, "%s: built opencl/%s.cl %s in %.1f s", cl->name, p->name, p->options,
            sd_now() - start);
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

static cl_function *new_kernel(sd_run *r, sd_cl_program *p, const char *name)
{
    cl_int code;
    cl_function k = {.name = sd_strdup(name)}, *more = sd_grow(p->kernel, p->kernels, &p->kernel_cap, 4, sizeof *more);
    if (more) p->kernel = more;
    if (!more || !k.name) sd_fail(r->err, SD_ERR_MEMORY, "no memory for a kernel");
    else {
        k.kernel = clCreateKernel(p->program, name, &code);
        if (!sd_cl_failed(r, code, "clCreateKernel")
            && sd_cl_failed(r, clGetKernelWorkGroupInfo(k.kernel, sd_cl_of(r)->device, CL_KERNEL_WORK_GROUP_SIZE,
                                                        sizeof k.most_group, &k.most_group, NULL),
                            "clGetKernelWorkGroupInfo"))
            clReleaseKernel(k.kernel);
    }
    if (!sd_ok(r)) {
        free(k.name);
        return NULL;
    }
    p->kernel[p->kernels] = k;
    return &p->kernel[p->kernels++];
}

cl_kernel sd_cl_kernel(sd_run *r, const char *program, const char *kernel, const char *options, size_t *most_group)
{
    sd_cl_program *p = sd_ok(r) ? program_of(r, program, options) : NULL;
    cl_function *k = NULL;
    for (size_t i = 0; p && i < p->kernels; i++)
        if (strcmp(p->kernel[i].name, kernel) == 0) k = &p->kernel[i];
    if (p && !k) k = new_kernel(r, p, kernel);
    *most_group = k ? k->most_group : 0;
    return k ? k->kernel : NULL;
}
