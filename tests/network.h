/* network.h - a small model with weights from a formula, opened, and its traces compared with the goldens as they
 * come. */
#ifndef NETWORK_H
#define NETWORK_H

#include "../pipeline.h"
#include "context.h"
#include "synth.h"

typedef struct network {
    const char *config;
    sd_ctx *ctx;
    golden golden;
    char prefix[48];      /* put before a traced name to find it in the goldens */
    int compared;
    double worst;         /* the largest ratio of error to bound, and whose */
    char worst_name[160];
    double sum_log, sum_log32;   /* of errors and of torch-float32's errors, for their geometric means */
} network;

extern const char *const network_configs[3];

/* The model goes into the test's temporary directory. Fails the test if anything does. */
void network_open(network *n, const char *config, unsigned parts, int precise, const synth_options *options);
void network_close(network *n);

/* A trace sink: fails the test if a name is not known, a shape differs or an error exceeds its bound. user: the
 * network. */
void network_compare(void *user, const sd_traced *t);
/* The same for the names that the goldens have under the prefix; others are not looked at. */
void network_compare_found(void *user, const sd_traced *t);
/* The same for a result by name. */
void network_check(network *n, const char *name, int nd, const int64_t *dim, const float *x);

/* Prints the worst ratio and both mean errors, asks that every golden under `prefix` was compared and that the smallest
 * known mistake of `part` is ten times the bound of the result `name`. */
void network_finish(network *n, const char *prefix, const char *part, const char *name);

float *network_input(const network *n, const char *name, int64_t dim[4]);

#endif
