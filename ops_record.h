/* ops_record.h - floor 2: a backend that notes what another one computes, so that one result can be followed back to
 * the numbers that it was made of. */
#ifndef SD_OPS_RECORD_H
#define SD_OPS_RECORD_H

#include "ops.h"

enum { SD_NOTED_INPUTS = 3, SD_NOTED_ARGS = 6, SD_NOTED_NAME = 320 };

/* A result: of an operation on other results; or numbers that came from the host, if `op` is NULL. Shapes are ours,
 * channels last. */
typedef struct sd_noted {
    const char *op;                 /* as in a case: docs/VALIDATING.md has its table */
    int nd, n_in, n_args;
    int64_t dim[4];
    struct { struct sd_noted *of; int nd; int64_t dim[4]; } in[SD_NOTED_INPUTS];   /* seen in this shape */
    const sd_tensor *w, *b;         /* weights, or NULL */
    double arg[SD_NOTED_ARGS];
    float *numbers;                 /* of the host's */
    char *name;                     /* under which those were traced; NULL: not traced */
    int users;                      /* it is freed with the last one */
    int number;                     /* for whoever walks the results; 0 */
} sd_noted;

typedef struct sd_recorder {
    sd_backend be;                  /* run->be while it records */
    const sd_backend *inner;
    struct sd_place { const void *at; sd_noted *of; } *place;   /* what lies where now */
    size_t n, cap;
    const void *shown;              /* what was brought to the host last, ... */
    bool unnamed;                   /* ... if nobody has asked for it yet, ... */
    bool channels_first;            /* ... in which order, ... */
    bool same;                      /* ... and comes back as it was, ... */
    char name[SD_NOTED_NAME];       /* ... or as other numbers of this name; "" */
} sd_recorder;

/* From now on operations of the run are noted; until sd_recorder_end, which frees all. */
void sd_recorder_begin(sd_recorder *c, sd_run *r);
void sd_recorder_end(sd_recorder *c, sd_run *r);
/* The tensor that was just brought to the host now goes back: as other numbers of this name; NULL: as it was. */
void sd_recorder_name(sd_recorder *c, const char *name);
/* That tensor, before it is named; NULL: what is traced was not in the run's memory. */
sd_noted *sd_recorder_shown(const sd_recorder *c);

#endif
