/* device.h - floor 2: what computes: the CPU, or a device that a run's backend speaks to. */
#ifndef SD_DEVICE_H
#define SD_DEVICE_H

#include "ops_cpu.h"

/* Sets the run's backend and device. which: "cpu", "opencl", "opencl:N" or "opencl:NAME"; NULL or "": the environment
 * variable SD_DEVICE, else "cpu". cache: see sd_options. */
sd_status sd_device_open(sd_run *r, sd_cpu *cpu, const char *which, const char *cache, const sd_log *log);
/* Frees the run's memory and what the device is. */
void sd_device_close(sd_run *r);

#endif
