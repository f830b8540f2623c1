/* device.h - floor 2: what computes: the CPU, or a device that a run's backend speaks to. */
#ifndef SD_DEVICE_H
#define SD_DEVICE_H

#include "ops_cpu.h"

/* Sets the run's backend and device, unless the device fails its self-test. which: see sd_options.device. cache: see
 * sd_options.cache. */
sd_status sd_device_open(sd_run *r, sd_cpu *cpu, const char *which, const char *cache, const sd_log *log);
/* Frees the run's memory and what the device is. */
void sd_device_close(sd_run *r);
const char *sd_device_name(const sd_run *r);   /* "cpu", or "opencl:0 NAME" */
/* See sd_devices. */
sd_status sd_device_list(const char *which, bool check, void (*fn)(void *user, const sd_device_info *device),
                         void *user, sd_error *e);

/* What it can do at most: of a device of OpenCL one figure for arithmetic and one for its memory. */
sd_status sd_device_roofs(sd_run *r, const sd_cpu *cpu, double seconds, sd_roofs *roofs);
sd_status sd_device_tune(const char *which, const char *cache, int (*fn)(void *user, const sd_tuned *tuned),
                         void *user, sd_error *e);   /* sd_tune, sd.h */

#endif
