/* cl_wrapper.c - see cl_wrapper.h. A program, too, can be linked with it: then the environment says what fails,
 *   SD_CL_FAULT="clFinish 3 -5 rest"   the third clFinish, with code -5, and all calls after it ("any": of all calls)
 *   SD_CL_REPORT=file                  where it is written what failed and how many objects were not released */
#define _POSIX_C_SOURCE 200809L
#ifdef SD_WITH_OPENCL
#include "cl_wrapper.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cl_watch cl_watch;

/* ------------------------------------------------------------------------------------- objects */

typedef struct held { cl_kind kind; void *handle; size_t bytes; } held;
static held *all;
static size_t many, room;

void *__real_realloc(void *p, size_t n);
void __real_free(void *p);

static void *more(void *list, size_t n)
{
    void *p = __real_realloc(list, n);
    if (!p) abort();
    return p;
}

static void *hold(cl_kind kind, void *handle, size_t bytes)
{
    if (!handle) return NULL;
    if (many == room) all = more(all, (room = room ? 2 * room : 64) * sizeof *all);
    all[many++] = (held){kind, handle, bytes};
    cl_watch.live[kind]++;
    return handle;
}

static held *find(cl_kind kind, void *handle)
{
    for (size_t i = many; i-- > 0;)
        if (all[i].handle == handle && all[i].kind == kind) return &all[i];
    return NULL;
}

static bool is(const char *call, cl_kind kind, void *handle)
{
    if (find(kind, handle)) return true;
    if (!*cl_watch.misuse)
        snprintf(cl_watch.misuse, sizeof cl_watch.misuse, "%s: there is no such object of kind %d", call, (int)kind);
    return false;
}

static bool inside(const char *call, cl_mem buffer, size_t at, size_t n)
{
    if (!is(call, A_BUFFER, buffer)) return false;
    size_t bytes = find(A_BUFFER, buffer)->bytes;
    if (n && at <= bytes && n <= bytes - at) return true;
    if (!*cl_watch.misuse)
        snprintf(cl_watch.misuse, sizeof cl_watch.misuse, "%s: bytes %zu + %zu of a buffer of %zu", call, at, n, bytes);
    return false;
}

/* At the program's end, and when nothing is left: for a program without memory ends without ado. */
static void report(void)
{
    FILE *f = getenv("SD_CL_REPORT") ? fopen(getenv("SD_CL_REPORT"), "w") : NULL;
    if (!f) return;
    fprintf(f, "live %ld failed %s%s\n", cl_watch_live(), *cl_watch.failed ? cl_watch.failed : "nothing",
            cl_watch.misuse);
    fclose(f);
}

static void drop(const char *call, cl_kind kind, void *handle)
{
    if (!is(call, kind, handle)) return;
    held *h = find(kind, handle);
    if (cl_watch.replay) __real_free(handle);
    *h = all[--many];
    cl_watch.live[kind]--;
    if (many) return;
    __real_free(all);
    all = NULL;
    room = 0;
    report();
}

long cl_watch_live(void)
{
    long n = 0;
    for (int i = 0; i < CL_KINDS; i++) n += cl_watch.live[i];
    return n;
}

/* ---------------------------------------------------------------------------------- the record */

static unsigned char *record;
static size_t recorded, played;

void cl_watch_reset(void)
{
    bool recording = cl_watch.record, replay = cl_watch.replay;
    cl_watch = (struct cl_watch){.record = recording, .replay = replay, .code = CL_OUT_OF_RESOURCES};
    if (recording) {
        __real_free(record);
        record = NULL;
        recorded = 0;
    }
    played = 0;
}

static void remember(const void *data, size_t n)
{
    record = more(record, recorded + n);
    memcpy(record + recorded, data, n);
    recorded += n;
}

static cl_int play(void *to, size_t n)
{
    if (n > recorded - played) {
        snprintf(cl_watch.misuse, sizeof cl_watch.misuse, "more is read than before");
        return CL_INVALID_VALUE;
    }
    memcpy(to, record + played, n);
    played += n;
    return CL_SUCCESS;
}

/* ------------------------------------------------------------------------------------ failures */

static void *library;

static void begin(void)
{
    static char name[40];
    const char *fault = getenv("SD_CL_FAULT");
    long n = 0;
    int code = 0;
    char rest[8] = "";
    library = dlopen("libOpenCL.so.1", RTLD_NOW);
    if (!library) abort();
    atexit(report);
    if (!fault || sscanf(fault, "%39s %ld %d %7s", name, &n, &code, rest) < 3) return;
    cl_watch.of = strcmp(name, "any") ? name : NULL;
    cl_watch.fail_at = n;
    cl_watch.code = code;
    cl_watch.rest = *rest;
}

static void *address(const char *call)
{
    void *p = dlsym(library, call);
    if (!p) abort();
    return p;
}
#define REAL(call) (((union { void *p; __typeof__(call) *f; }){address(#call)}).f)

/* Counts a call; true if it is to fail. */
static bool refused(const char *call)
{
    if (!library) begin();
    cl_watch.calls++;
    if (cl_watch.rest && *cl_watch.failed) return true;
    if (cl_watch.of && strcmp(cl_watch.of, call) != 0) return false;
    if (++cl_watch.counted != cl_watch.fail_at) return false;
    snprintf(cl_watch.failed, sizeof cl_watch.failed, "%s", call);
    cl_watch.late = played == recorded;
    return true;
}

#define OR_FAIL(call) if (refused(call)) return cl_watch.code
#define OR_NULL(call, code) do { \
        if (refused(call)) return *(code) = cl_watch.code, (void *)0; \
        *(code) = CL_SUCCESS; \
    } while (0)

static void *empty(cl_kind kind, size_t bytes) { return hold(kind, more(NULL, 1), bytes); }

static cl_int answer(const void *value, size_t n, size_t size, void *to, size_t *bytes)
{
    if (to && size < n) return CL_INVALID_VALUE;
    if (to) memcpy(to, value, n);
    if (bytes) *bytes = n;
    return CL_SUCCESS;
}

/* ---------------------------------------------------------------------------- the host's memory
 * The linker has what it links call these (--wrap), and not libraries, whose failures are their own. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);
void __wrap_free(void *p);

static bool starves(void)
{
    bool now = cl_watch.armed && ++cl_watch.requests == cl_watch.starve_at;
    cl_watch.starved |= now;
    return now;
}

static void *got(void *p)
{
    if (cl_watch.armed && p) cl_watch.blocks++;
    return p;
}

void *__wrap_malloc(size_t n) { return starves() ? NULL : got(__real_malloc(n)); }
void *__wrap_calloc(size_t n, size_t size) { return starves() ? NULL : got(__real_calloc(n, size)); }

void *__wrap_realloc(void *p, size_t n)
{
    if (starves()) return NULL;
    return p ? __real_realloc(p, n) : got(__real_malloc(n));
}

int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    if (starves()) return ENOMEM;
    int code = __real_posix_memalign(p, align, n);
    if (code == 0) got(*p);
    return code;
}

void __wrap_free(void *p)
{
    if (cl_watch.armed && p) cl_watch.blocks--;
    __real_free(p);
}

/* ------------------------------------------------------------------------ platforms and devices */

cl_int clGetPlatformIDs(cl_uint n, cl_platform_id *platforms, cl_uint *count)
{
    OR_FAIL("clGetPlatformIDs");
    return REAL(clGetPlatformIDs)(n, platforms, count);
}

cl_int clGetPlatformInfo(cl_platform_id p, cl_platform_info what, size_t size, void *to, size_t *bytes)
{
    OR_FAIL("clGetPlatformInfo");
    return REAL(clGetPlatformInfo)(p, what, size, to, bytes);
}

cl_int clGetDeviceIDs(cl_platform_id p, cl_device_type type, cl_uint n, cl_device_id *devices, cl_uint *count)
{
    OR_FAIL("clGetDeviceIDs");
    return REAL(clGetDeviceIDs)(p, type, n, devices, count);
}

cl_int clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t size, void *to, size_t *bytes)
{
    const cl_bool none = CL_FALSE;
    OR_FAIL(what == CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT ? "clGetDeviceInfo of vectors" : "clGetDeviceInfo");
    if (cl_watch.no_compiler && what == CL_DEVICE_COMPILER_AVAILABLE)
        return answer(&none, sizeof none, size, to, bytes);
    return REAL(clGetDeviceInfo)(d, what, size, to, bytes);
}

cl_context clCreateContext(const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,
                           void (CL_CALLBACK *told)(const char *, const void *, size_t, void *), void *user,
                           cl_int *code)
{
    OR_NULL("clCreateContext", code);
    if (cl_watch.replay) return empty(A_CONTEXT, 0);
    return hold(A_CONTEXT, REAL(clCreateContext)(properties, n, devices, told, user, code), 0);
}

cl_command_queue clCreateCommandQueue(cl_context c, cl_device_id d, cl_command_queue_properties properties,
                                      cl_int *code)
{
    OR_NULL("clCreateCommandQueue", code);
    if (!is("clCreateCommandQueue", A_CONTEXT, c)) return *code = CL_INVALID_CONTEXT, NULL;
    if (cl_watch.replay) return empty(A_QUEUE, 0);
    return hold(A_QUEUE, REAL(clCreateCommandQueue)(c, d, properties, code), 0);
}

/* ------------------------------------------------------------------- releases, which happen anyway */

#define RELEASE(call, kind, type) \
cl_int call(type handle) \
{ \
    bool fails = refused(#call); \
    if (!find(kind, handle)) return is(#call, kind, handle), CL_INVALID_VALUE; \
    cl_int done = cl_watch.replay ? CL_SUCCESS : REAL(call)(handle); \
    drop(#call, kind, handle); \
    return fails ? cl_watch.code : done; \
}
RELEASE(clReleaseContext, A_CONTEXT, cl_context)
RELEASE(clReleaseCommandQueue, A_QUEUE, cl_command_queue)
RELEASE(clReleaseMemObject, A_BUFFER, cl_mem)
RELEASE(clReleaseProgram, A_PROGRAM, cl_program)
RELEASE(clReleaseKernel, A_KERNEL, cl_kernel)
RELEASE(clReleaseEvent, AN_EVENT, cl_event)

/* ----------------------------------------------------------------------------- programs, kernels */

cl_program clCreateProgramWithSource(cl_context c, cl_uint n, const char **text, const size_t *length, cl_int *code)
{
    OR_NULL("clCreateProgramWithSource", code);
    if (!is("clCreateProgramWithSource", A_CONTEXT, c)) return *code = CL_INVALID_CONTEXT, NULL;
    if (cl_watch.replay) return empty(A_PROGRAM, 0);
    return hold(A_PROGRAM, REAL(clCreateProgramWithSource)(c, n, text, length, code), 0);
}

cl_program clCreateProgramWithBinary(cl_context c, cl_uint n, const cl_device_id *d, const size_t *length,
                                     const unsigned char **binary, cl_int *status, cl_int *code)
{
    OR_NULL("clCreateProgramWithBinary", code);
    if (!is("clCreateProgramWithBinary", A_CONTEXT, c)) return *code = CL_INVALID_CONTEXT, NULL;
    if (cl_watch.replay) return *status = CL_SUCCESS, empty(A_PROGRAM, 0);
    return hold(A_PROGRAM, REAL(clCreateProgramWithBinary)(c, n, d, length, binary, status, code), 0);
}

cl_int clBuildProgram(cl_program p, cl_uint n, const cl_device_id *devices, const char *options,
                      void (CL_CALLBACK *told)(cl_program, void *), void *user)
{
    OR_FAIL("clBuildProgram");
    if (!is("clBuildProgram", A_PROGRAM, p)) return CL_INVALID_PROGRAM;
    return cl_watch.replay ? CL_SUCCESS : REAL(clBuildProgram)(p, n, devices, options, told, user);
}

cl_int clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_program_build_info what, size_t size, void *to,
                             size_t *bytes)
{
    OR_FAIL("clGetProgramBuildInfo");
    const char *log = cl_watch.log ? cl_watch.log : "";
    if (!is("clGetProgramBuildInfo", A_PROGRAM, p)) return CL_INVALID_PROGRAM;
    if (cl_watch.replay || cl_watch.log) return answer(log, strlen(log) + 1, size, to, bytes);
    return REAL(clGetProgramBuildInfo)(p, d, what, size, to, bytes);
}

cl_int clGetProgramInfo(cl_program p, cl_program_info what, size_t size, void *to, size_t *bytes)
{
    static const size_t length = 1;
    OR_FAIL("clGetProgramInfo");
    if (!is("clGetProgramInfo", A_PROGRAM, p)) return CL_INVALID_PROGRAM;
    if (!cl_watch.replay) return REAL(clGetProgramInfo)(p, what, size, to, bytes);
    if (what == CL_PROGRAM_BINARY_SIZES) return answer(&length, sizeof length, size, to, bytes);
    **(unsigned char **)to = 0;
    return CL_SUCCESS;
}

cl_kernel clCreateKernel(cl_program p, const char *name, cl_int *code)
{
    OR_NULL("clCreateKernel", code);
    if (!is("clCreateKernel", A_PROGRAM, p)) return *code = CL_INVALID_PROGRAM, NULL;
    if (cl_watch.replay) return empty(A_KERNEL, 0);
    return hold(A_KERNEL, REAL(clCreateKernel)(p, name, code), 0);
}

cl_int clGetKernelWorkGroupInfo(cl_kernel k, cl_device_id d, cl_kernel_work_group_info what, size_t size, void *to,
                                size_t *bytes)
{
    static const size_t most = 4096;
    OR_FAIL(what == CL_KERNEL_WORK_GROUP_SIZE ? "clGetKernelWorkGroupInfo" : "clGetKernelWorkGroupInfo of memory");
    if (!is("clGetKernelWorkGroupInfo", A_KERNEL, k)) return CL_INVALID_KERNEL;
    if (cl_watch.most_group && what == CL_KERNEL_WORK_GROUP_SIZE)
        return answer(&cl_watch.most_group, sizeof cl_watch.most_group, size, to, bytes);
    if (cl_watch.replay) return answer(&most, sizeof most, size, to, bytes);
    return REAL(clGetKernelWorkGroupInfo)(k, d, what, size, to, bytes);
}

cl_int clSetKernelArg(cl_kernel k, cl_uint i, size_t size, const void *value)
{
    OR_FAIL("clSetKernelArg");
    if (!is("clSetKernelArg", A_KERNEL, k)) return CL_INVALID_KERNEL;
    return cl_watch.replay ? CL_SUCCESS : REAL(clSetKernelArg)(k, i, size, value);
}

/* -------------------------------------------------------------------------------------- buffers */

cl_mem clCreateBuffer(cl_context c, cl_mem_flags flags, size_t bytes, void *host, cl_int *code)
{
    OR_NULL("clCreateBuffer", code);
    if (!is("clCreateBuffer", A_CONTEXT, c)) return *code = CL_INVALID_CONTEXT, NULL;
    if (cl_watch.replay) return empty(A_BUFFER, bytes);
    return hold(A_BUFFER, REAL(clCreateBuffer)(c, flags, bytes, host, code), bytes);
}

cl_int clGetMemObjectInfo(cl_mem b, cl_mem_info what, size_t size, void *to, size_t *bytes)
{
    OR_FAIL("clGetMemObjectInfo");
    if (!is("clGetMemObjectInfo", A_BUFFER, b)) return CL_INVALID_MEM_OBJECT;
    if (what == CL_MEM_SIZE) return answer(&find(A_BUFFER, b)->bytes, sizeof(size_t), size, to, bytes);
    return REAL(clGetMemObjectInfo)(b, what, size, to, bytes);
}

/* ------------------------------------------------------------------------------------- commands */

/* The event of a command that nothing was done for. */
static cl_int done(cl_event *e)
{
    if (e) *e = empty(AN_EVENT, 0);
    return CL_SUCCESS;
}

static cl_int begun(cl_int code, cl_event *e)
{
    if (e && code == CL_SUCCESS) hold(AN_EVENT, *e, 0);
    return code;
}

static bool ready(const char *call, cl_command_queue q, cl_uint n, const cl_event *wait)
{
    bool good = is(call, A_QUEUE, q);
    for (cl_uint i = 0; i < n; i++) good &= is(call, AN_EVENT, wait[i]);
    return good;
}

cl_int clEnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint dimensions, const size_t *offset,
                              const size_t *global, const size_t *local, cl_uint n, const cl_event *wait, cl_event *e)
{
    OR_FAIL("clEnqueueNDRangeKernel");
    cl_watch.launches++;
    if (!ready("clEnqueueNDRangeKernel", q, n, wait) || !is("clEnqueueNDRangeKernel", A_KERNEL, k))
        return CL_INVALID_VALUE;
    if (cl_watch.replay) return done(e);
    return begun(REAL(clEnqueueNDRangeKernel)(q, k, dimensions, offset, global, local, n, wait, e), e);
}

cl_int clEnqueueWriteBuffer(cl_command_queue q, cl_mem b, cl_bool blocking, size_t at, size_t bytes, const void *from,
                            cl_uint n, const cl_event *wait, cl_event *e)
{
    OR_FAIL("clEnqueueWriteBuffer");
    if (!ready("clEnqueueWriteBuffer", q, n, wait) || !inside("clEnqueueWriteBuffer", b, at, bytes))
        return CL_INVALID_VALUE;
    if (!cl_watch.replay) return begun(REAL(clEnqueueWriteBuffer)(q, b, blocking, at, bytes, from, n, wait, e), e);
    void *copy = more(NULL, bytes);   /* whether there are so many bytes: the address sanitizer looks */
    memcpy(copy, from, bytes);
    __real_free(copy);
    return done(e);
}

cl_int clEnqueueReadBuffer(cl_command_queue q, cl_mem b, cl_bool blocking, size_t at, size_t bytes, void *to, cl_uint n,
                           const cl_event *wait, cl_event *e)
{
    static const float wrong = 12345;
    OR_FAIL("clEnqueueReadBuffer");
    if (!ready("clEnqueueReadBuffer", q, n, wait) || !inside("clEnqueueReadBuffer", b, at, bytes))
        return CL_INVALID_VALUE;
    if (cl_watch.replay) return done(e), play(to, bytes);
    cl_int code = REAL(clEnqueueReadBuffer)(q, b, blocking | cl_watch.record, at, bytes, to, n, wait, e);
    if (code == CL_SUCCESS && cl_watch.record) remember(to, bytes);
    else played += bytes;
    if (++cl_watch.reads == cl_watch.spoil_at && bytes >= sizeof wrong) memcpy(to, &wrong, sizeof wrong);
    return begun(code, e);
}

cl_int clEnqueueCopyBuffer(cl_command_queue q, cl_mem a, cl_mem b, size_t from, size_t to, size_t bytes, cl_uint n,
                           const cl_event *wait, cl_event *e)
{
    OR_FAIL("clEnqueueCopyBuffer");
    if (!ready("clEnqueueCopyBuffer", q, n, wait) || !inside("clEnqueueCopyBuffer", a, from, bytes)
        || !inside("clEnqueueCopyBuffer", b, to, bytes))
        return CL_INVALID_VALUE;
    if (cl_watch.replay) return done(e);
    return begun(REAL(clEnqueueCopyBuffer)(q, a, b, from, to, bytes, n, wait, e), e);
}

#define AWAIT(call) \
cl_int call(cl_command_queue q, cl_uint n, const cl_event *wait, cl_event *e) \
{ \
    OR_FAIL(#call); \
    if (!ready(#call, q, n, wait)) return CL_INVALID_VALUE; \
    return cl_watch.replay ? done(e) : begun(REAL(call)(q, n, wait, e), e); \
}
AWAIT(clEnqueueMarkerWithWaitList)
AWAIT(clEnqueueBarrierWithWaitList)

cl_int clWaitForEvents(cl_uint n, const cl_event *wait)
{
    OR_FAIL("clWaitForEvents");
    for (cl_uint i = 0; i < n; i++)
        if (!is("clWaitForEvents", AN_EVENT, wait[i])) return CL_INVALID_EVENT;
    return cl_watch.replay ? CL_SUCCESS : REAL(clWaitForEvents)(n, wait);
}

#define ON_QUEUE(call) \
cl_int call(cl_command_queue q) \
{ \
    OR_FAIL(#call); \
    if (!is(#call, A_QUEUE, q)) return CL_INVALID_COMMAND_QUEUE; \
    return cl_watch.replay ? CL_SUCCESS : REAL(call)(q); \
}
ON_QUEUE(clFlush)
ON_QUEUE(clFinish)
#else
typedef int nothing_without_opencl;
#endif
