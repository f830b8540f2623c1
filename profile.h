/* profile.h - floor 2: measures the whole-tensor operations of a run for whoever wants to know (sd_set_profile).
 *
 * ops.c reports when an operation begins and ends and how the backend computes it; the backend reports where the time
 * of its threads went. While nobody listens (run->profile NULL) each of these calls costs one comparison. */
#ifndef SD_PROFILE_H
#define SD_PROFILE_H

#include "ops.h"

enum { SD_PROFILE_PATH = 256 };

typedef enum sd_stage { SD_STAGE_TEXT, SD_STAGE_UNET, SD_STAGE_DECODE, SD_STAGE_ENCODE, SD_STAGES } sd_stage;

/* One thread's seconds, padded: threads that write to the same cache line wait for each other. */
typedef struct sd_profile_sums {
    double part[SD_PROFILE_PARTS];
    char apart[SD_ALIGN];
} sd_profile_sums;

typedef struct sd_profile {
    void (*fn)(void *user, const sd_profiled *op);
    void *user;
    int passes[SD_STAGES];              /* that have begun */
    char module[SD_PROFILE_PATH];       /* whose weights were used last in this pass */
    double begin, stage_begin;
    sd_profiled op;                     /* the operation that is being computed */
    int threads;
    sd_profile_sums sums[];             /* one per thread */
} sd_profile;

/* NULL: no memory. free() it. */
sd_profile *sd_profile_new(int threads, void (*fn)(void *user, const sd_profiled *op), void *user);

/* One pass of a stage; its end is reported as an operation "stage". */
void sd_profile_stage_begin(sd_run *r, sd_stage stage);
void sd_profile_stage_end(sd_run *r);

/* What was computed. */
typedef struct sd_operation {
    const char *name;
    sd_tensor y, in[3];                 /* the result; what was read (nd 0: nothing) */
    const sd_tensor *weight;            /* names the module, and was read too; NULL: none */
    const char *key;                    /* without a weight: a name all the same, or NULL */
    double flops;                       /* of the plain algorithm */
    sd_conv_how how;                    /* how it was computed; all zero: plainly */
} sd_operation;
void sd_profile_begin(sd_run *r);
void sd_profile_end(sd_run *r, const sd_operation *op);

/* For backends, on any thread:
 *   t = sd_profile_time(r);  work;  t = sd_profile_part(r, thread, SD_PROFILE_INPUT, t);  other work;  ... */
static inline double sd_profile_time(const sd_run *r) { return r->profile ? sd_now() : 0; }
static inline double sd_profile_part(const sd_run *r, int thread, int part, double since)
{
    if (!r->profile) return 0;
    double now = sd_now();
    if (thread < r->profile->threads) r->profile->sums[thread].part[part] += now - since;
    return now;
}

#endif
