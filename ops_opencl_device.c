/* ops_opencl_device.c - floor 2: finds an OpenCL device, asks what it can do, opens and closes it. */
#include "ops_opencl.h"

#include <stdlib.h>
#include <string.h>

static sd_status ask(sd_cl *cl, sd_error *e)
{
    cl_device_type type = 0;
    cl_uint units = 0;
    cl_ulong memory = 0, most = 0, local = 0;
    size_t group = 0;
    const struct { cl_device_info what; size_t size; void *to; } facts[] = {
        {CL_DEVICE_TYPE, sizeof type, &type}, {CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units},
        {CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory}, {CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most},
        {CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local}, {CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group},
        {CL_DEVICE_NAME, sizeof cl->name, cl->name}, {CL_DRIVER_VERSION, sizeof cl->driver, cl->driver}};
    for (size_t i = 0; i < SD_COUNT(facts); i++)
        if (clGetDeviceInfo(cl->device, facts[i].what, facts[i].size, facts[i].to, NULL) != CL_SUCCESS)
            return sd_fail(e, SD_ERR_DEVICE, "an OpenCL device does not say what it is");
    clGetPlatformInfo(cl->platform, CL_PLATFORM_NAME, sizeof cl->platform_name, cl->platform_name, NULL);
    clGetPlatformInfo(cl->platform, CL_PLATFORM_VERSION, sizeof cl->platform_version, cl->platform_version, NULL);
    cl->cpu = type & CL_DEVICE_TYPE_CPU;
    cl->units = units;
    cl->memory = memory;
    cl->most = most < (cl_ulong)1 << 33 ? most : (cl_ulong)1 << 33;
    cl->local_memory = local;
    cl->most_group = group;
    return SD_OK;
}

static sd_status begin(sd_cl *cl, sd_error *e)
{
    cl_int code;
    cl->context = clCreateContext(NULL, 1, &cl->device, NULL, NULL, &code);
    if (code == CL_SUCCESS) cl->queue = clCreateCommandQueue(cl->context, cl->device, 0, &code);
    if (code == CL_SUCCESS) cl->nothing = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, 64, NULL, &code);
    if (code != CL_SUCCESS)
        return sd_fail(e, SD_ERR_DEVICE, "%s cannot be opened: %s (%d)", cl->name, sd_cl_code_name(code), (int)code);
    cl->taken = 64;
    cl->quantum = 2e7;
    return SD_OK;
}

sd_cl *sd_cl_open(const char *which, const char *cache, const sd_kern *kern, const sd_log *log, sd_error *e)
{
    cl_uint n = 0;
    sd_cl *cl = calloc(1, sizeof *cl);
    (void)which;
    (void)cache;
    if (!cl) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for an OpenCL device");
        return NULL;
    }
    cl->kern = kern;
    cl->log = log;
    if (clGetPlatformIDs(1, &cl->platform, &n) != CL_SUCCESS || !n
        || clGetDeviceIDs(cl->platform, CL_DEVICE_TYPE_ALL, 1, &cl->device, &n) != CL_SUCCESS || !n)
        sd_fail(e, SD_ERR_DEVICE, "there is no OpenCL device");
    else if (!ask(cl, e)) begin(cl, e);
    if (e->status) {
        sd_cl_close(cl);
        return NULL;
    }
    return cl;
}

void sd_cl_close(sd_cl *cl)
{
    if (!cl) return;
    if (cl->mark) clReleaseEvent(cl->mark);
    sd_cl_free_weights(cl);
    sd_cl_free_programs(cl);
    sd_cl_free_buffer(cl, cl->nothing);
    if (cl->queue) clReleaseCommandQueue(cl->queue);
    if (cl->context) clReleaseContext(cl->context);
    free(cl->block);
    free(cl);
}
