/* app_samplers.h - floor 7: samplers and schedules as text, JSON and pictures. */
#ifndef SD_APP_SAMPLERS_H
#define SD_APP_SAMPLERS_H

#include "sd.h"

/* sd samplers. Exit code. */
int show_samplers(int json);
/* sd schedule: the evaluations of a run with these parameters, for each schedule of a comma list (NULL: the parameters'
 * own); a picture of their noise levels if `plot` is not NULL. */
int show_schedules(sd_ctx *ctx, const sd_params *p, const char *schedules, int json, const char *plot);

/* ---- app_plot.c */
enum { PLOT_MOST = 8 };
typedef struct plot_curve {
    const char *name;
    const double *sigma;   /* [n + 1] */
    int n;
} plot_curve;
/* A picture of 1 to PLOT_MOST curves on axes, for sd_image_free. 0: out of memory. */
int plot_sigmas(sd_image *image, const char *title, const plot_curve *curve, int count);
const char *plot_colour(int k);

#endif
