/* device.c - floor 2: what computes: the CPU, or a device that a run's backend speaks to. */
#include "device.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_OPENCL
#include "ops_opencl.h"
#endif

sd_status sd_device_open(sd_run *r, sd_cpu *cpu, const char *which, const char *cache, const sd_log *log)
{
    if (!which || !*which) which = getenv("SD_DEVICE");
    r->be = &sd_backend_cpu;
    r->device = cpu;
    if (!which || !*which || strcmp(which, "cpu") == 0) return SD_OK;
#ifdef SD_WITH_OPENCL
    sd_cl *cl = sd_cl_open(which, cache, cpu->kern, log, r->err);
    if (!cl) return r->err->status;
    r->be = &sd_backend_opencl;
    r->device = cl;
    return SD_OK;
#else
    (void)cache;
    (void)log;
    return sd_fail(r->err, SD_ERR_UNSUPPORTED, "there is no device %s: this build has the CPU alone", which);
#endif
}

void sd_device_close(sd_run *r)
{
    sd_run_free(r);
#ifdef SD_WITH_OPENCL
    if (r->be == &sd_backend_opencl) sd_cl_close(r->device);
#endif
}
