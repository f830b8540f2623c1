/* sched.h - test helper: reads a scheduler_config.json. */
#ifndef SCHED_H
#define SCHED_H

#include "../sampler.h"

/* As this sampler reads it; NULL: as the class that it names. */
sd_status sched_read(sd_sched_config *c, const char *path, const char *sampler, sd_error *e);

#endif
