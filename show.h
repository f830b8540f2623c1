/* show.h - floor 7: samplers and schedules as text, JSON and pictures. */
#ifndef SD_SHOW_H
#define SD_SHOW_H

#include "sd.h"

/* sd samplers. Exit code. */
int show_samplers(int json);
/* sd schedule: the evaluations of a run with these parameters, for each schedule of a comma list (NULL: the parameters'
 * own); a picture of their noise levels if `plot` is not NULL. */
int show_schedules(sd_ctx *ctx, const sd_params *p, const char *schedules, int json, const char *plot);

#endif
