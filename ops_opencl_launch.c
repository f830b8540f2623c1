/* ops_opencl_launch.c - floor 2: kernels with their arguments, handed to the device; errors of OpenCL as sentences; how
 * far the host may run ahead of the device. */
#include "ops_opencl.h"

/* ------------------------------------------------------------------------------------- errors */

const char *sd_cl_code_name(cl_int code)
{
#define CODE(c) {c, #c}
    static const struct { cl_int code; const char *name; } names[] = {
        CODE(CL_DEVICE_NOT_FOUND), CODE(CL_DEVICE_NOT_AVAILABLE), CODE(CL_COMPILER_NOT_AVAILABLE),
        CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE), CODE(CL_OUT_OF_RESOURCES), CODE(CL_OUT_OF_HOST_MEMORY),
        CODE(CL_PROFILING_INFO_NOT_AVAILABLE), CODE(CL_MEM_COPY_OVERLAP), CODE(CL_BUILD_PROGRAM_FAILURE),
        CODE(CL_MAP_FAILURE), CODE(CL_MISALIGNED_SUB_BUFFER_OFFSET),
        CODE(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST), CODE(CL_INVALID_VALUE), CODE(CL_INVALID_DEVICE_TYPE),
        CODE(CL_INVALID_PLATFORM), CODE(CL_INVALID_DEVICE), CODE(CL_INVALID_CONTEXT),
        CODE(CL_INVALID_QUEUE_PROPERTIES), CODE(CL_INVALID_COMMAND_QUEUE), CODE(CL_INVALID_HOST_PTR),
        CODE(CL_INVALID_MEM_OBJECT), CODE(CL_INVALID_BINARY), CODE(CL_INVALID_BUILD_OPTIONS), CODE(CL_INVALID_PROGRAM),
        CODE(CL_INVALID_PROGRAM_EXECUTABLE), CODE(CL_INVALID_KERNEL_NAME), CODE(CL_INVALID_KERNEL),
        CODE(CL_INVALID_ARG_INDEX), CODE(CL_INVALID_ARG_VALUE), CODE(CL_INVALID_ARG_SIZE), CODE(CL_INVALID_KERNEL_ARGS),
        CODE(CL_INVALID_WORK_DIMENSION), CODE(CL_INVALID_WORK_GROUP_SIZE), CODE(CL_INVALID_WORK_ITEM_SIZE),
        CODE(CL_INVALID_GLOBAL_OFFSET), CODE(CL_INVALID_EVENT_WAIT_LIST), CODE(CL_INVALID_EVENT),
        CODE(CL_INVALID_OPERATION), CODE(CL_INVALID_BUFFER_SIZE), CODE(CL_INVALID_GLOBAL_WORK_SIZE),
        {-1001, "CL_PLATFORM_NOT_FOUND_KHR"}};
#undef CODE
    for (size_t i = 0; i < SD_COUNT(names); i++)
        if (names[i].code == code) return names[i].name;
    return "an unknown error";
}

/* When a call ends early, its caller may free or change numbers that the device still fetches from the host. */
static void settle(sd_run *r)
{
    sd_cl *cl = sd_cl_of(r);
    if (cl->uploads) clFinish(cl->uploads);
}

bool sd_cl_failed(sd_run *r, cl_int code, const char *call)
{
    if (code == CL_SUCCESS) return false;
    settle(r);
    bool memory = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY;
    sd_fail(r->err, memory ? SD_ERR_MEMORY : SD_ERR_DEVICE, "%s: %s: %s failed with %s (%d)", sd_cl_of(r)->name,
            r->step ? r->step : "input", call, sd_cl_code_name(code), (int)code);
    return true;
}

/* ---------------------------------------------------------------------------------- arguments */

sd_cl_call sd_cl_begin(sd_run *r, const char *program, const char *kernel, const char *options)
{
    sd_cl_call c = {.r = r, .name = kernel};
    if (sd_ok(r)) c.kernel = sd_cl_kernel(r, program, kernel, options, &c.most_group);
    return c;
}

static void argument(sd_cl_call *c, size_t size, const void *value)
{
    if (sd_ok(c->r)) sd_cl_failed(c->r, clSetKernelArg(c->kernel, c->arguments++, size, value), "clSetKernelArg");
}

void sd_cl_buffer(sd_cl_call *c, cl_mem buffer, size_t at)
{
    cl_uint first = (cl_uint)at;
    argument(c, sizeof buffer, &buffer);
    argument(c, sizeof first, &first);
}

void sd_cl_tensor(sd_cl_call *c, sd_tensor t)
{
    if (!sd_ok(c->r)) return;
    sd_cl_place p = sd_cl_find(c->r, t);
    sd_cl_buffer(c, p.buffer, p.at);
}

void sd_cl_int(sd_cl_call *c, int64_t n)
{
    cl_int value = (cl_int)n;
    argument(c, sizeof value, &value);
}

void sd_cl_float(sd_cl_call *c, double x)
{
    cl_float value = (cl_float)x;
    argument(c, sizeof value, &value);
}

/* ----------------------------------------------------------------------------------- launches
 * A cancelled call has to end within a second, so the host runs at most two marks ahead of the device. Between two
 * marks lies as much work as the device was seen to do in TURN seconds. */

#define TURN 0.1                        /* seconds */
static const double MOST_FASTER = 4;

/* Waits for the mark before the last one, and learns from it how fast the device is. */
static void pace(sd_run *r, double work)
{
    sd_cl *cl = sd_cl_of(r);
    cl_event now;
    cl->since_mark += work;
    if (cl->since_mark < cl->quantum || sd_cl_failed(r, clEnqueueMarkerWithWaitList(cl->queue, 0, NULL, &now),
                                                     "clEnqueueMarkerWithWaitList"))
        return;
    if (sd_cl_failed(r, clFlush(cl->queue), "clFlush")) {
        clReleaseEvent(now);
        return;
    }
    if (cl->mark) {
        sd_cl_failed(r, clWaitForEvents(1, &cl->mark), "clWaitForEvents");
        clReleaseEvent(cl->mark);
        double seconds = sd_now() - cl->mark_time, fits = cl->marked * TURN / (seconds > 1e-6 ? seconds : 1e-6);
        if (fits > MOST_FASTER * cl->quantum) fits = MOST_FASTER * cl->quantum;
        cl->quantum = fits > cl->least_quantum ? fits : cl->least_quantum;
    }
    cl->mark = now;
    cl->marked = cl->since_mark;
    cl->since_mark = 0;
    cl->mark_time = sd_now();
}

static void forget_mark(sd_cl *cl)
{
    if (cl->mark) clReleaseEvent(cl->mark);
    cl->mark = NULL;
    cl->since_mark = 0;
}

void sd_cl_wait(sd_run *r)
{
    sd_cl *cl = sd_cl_of(r);
    sd_cl_failed(r, clFinish(cl->queue), "clFinish");
    forget_mark(cl);
}

/* n: how many groups a launch has along each dimension. At most about as many as a quantum of work has, but enough to
 * give each compute unit one. */
static void cut(const sd_cl *cl, const size_t groups[3], double work, size_t n[3])
{
    double all = (double)groups[0] * (double)groups[1] * (double)groups[2], fits = cl->quantum / (work + 1) * all;
    if (fits < (double)cl->units) fits = (double)cl->units;
    for (int d = 0; d < 3; d++) {
        n[d] = (double)groups[d] <= fits ? groups[d] : fits > 1 ? (size_t)fits : 1;
        fits /= (double)groups[d];
    }
}

/* The groups from number `at` on, `n` along each dimension. */
static void launch(sd_cl_call *c, const size_t group[3], const size_t at[3], const size_t n[3], double work)
{
    size_t global[3], offset[3];
    for (int d = 0; d < 3; d++) {
        global[d] = group[d] * n[d];
        offset[d] = group[d] * at[d];
    }
    if (sd_fail_if_stopped(c->r->err)) {
        settle(c->r);
        return;
    }
    cl_int code = clEnqueueNDRangeKernel(sd_cl_of(c->r)->queue, c->kernel, 3, offset, global, group, 0, NULL, NULL);
    if (!sd_cl_failed(c->r, code, "clEnqueueNDRangeKernel")) pace(c->r, work);
}

static size_t rest(const size_t groups[3], const size_t at[3], const size_t most[3], int d)
{
    return groups[d] - at[d] < most[d] ? groups[d] - at[d] : most[d];
}

void sd_cl_run(sd_cl_call *c, const size_t group[3], const size_t groups[3], double work)
{
    sd_run *r = c->r;
    size_t most[3], at[3], items = group[0] * group[1] * group[2];
    double each = work / ((double)groups[0] * (double)groups[1] * (double)groups[2]);
    if (!sd_ok(r)) return;
    if (items > c->most_group) {
        sd_fail(r->err, SD_ERR_DEVICE, "%s: %s: groups of kernel %s have %zu work-items, this device takes at most %zu",
                sd_cl_of(r)->name, r->step ? r->step : "input", c->name, items, c->most_group);
        return;
    }
    cut(sd_cl_of(r), groups, work, most);
    for (at[2] = 0; at[2] < groups[2] && sd_ok(r); at[2] += most[2])
        for (at[1] = 0; at[1] < groups[1] && sd_ok(r); at[1] += most[1])
            for (at[0] = 0; at[0] < groups[0] && sd_ok(r); at[0] += most[0]) {
                size_t n[3] = {rest(groups, at, most, 0), rest(groups, at, most, 1), rest(groups, at, most, 2)};
                launch(c, group, at, n, each * (double)n[0] * (double)n[1] * (double)n[2]);
            }
    if (sd_ok(r) && r->profile) sd_cl_wait(r);
}
