/* trace.h - floor 3: named intermediate results, and the sinks that look at them. */
#ifndef SD_TRACE_H
#define SD_TRACE_H

#include "ops.h"

typedef struct sd_trace sd_trace;

/* Looks at named tensors. A trace may have several sinks. They see a tensor in the order in which they were added, each
 * as the one before has left it. */
typedef struct sd_sink {
    void *user;
    /* One tensor in PyTorch's order. Under the null backend x->data is NULL: there are only names and shapes.
     * `writable` points to the same numbers for a sink that `writes`: the run goes on with what the sink leaves there.
     * It is NULL where nothing can be changed: nobody reads the numbers afterwards (tokens, a step's x0), they are not
     * float32, or they were not computed. A status other than SD_OK, with its sentence in e, ends the run. */
    sd_status (*see)(void *user, const sd_traced *x, float *writable, sd_error *e);
    /* Called once, at the end. If e->status is SD_OK it completes what the sink makes, else it leaves nothing behind.
     * It frees `user`. May be NULL. */
    sd_status (*close)(void *user, sd_error *e);
    /* A setting of the run, before its first tensor: "seed", "1". May be NULL. */
    sd_status (*note)(void *user, const char *key, const char *value, sd_error *e);
    bool writes;
    bool unordered;   /* it may get the numbers in any order: where nobody needs PyTorch's, they are not copied */
    bool stops;    /* after what passes its filter, and was shown to all sinks, nothing more is computed */
    bool strict;   /* each glob of its filter must match one of the run's names; that is checked before the run */
} sd_sink;

/* A trace with one sink, which gets what passes the filter: a list of globs, NULL for everything. From then on the sink
 * belongs to the trace. On failure *out is NULL and the sink has been closed. */
sd_status sd_trace_new(sd_trace **out, const char *filter, const sd_sink *sink, sd_error *e);
/* Adds a sink after the others. */
sd_status sd_trace_add(sd_trace *t, const char *filter, const sd_sink *sink, sd_error *e);
/* Adds a sink behind *t's; if *t is NULL, it becomes a trace of that sink. */
sd_status sd_trace_put(sd_trace **t, const char *filter, const sd_sink *sink, sd_error *e);
/* Closes the sinks and frees t. Errors that happened while tracing are raised again. A filter that nothing passed is an
 * error too. */
sd_status sd_trace_finish(sd_trace *t, sd_error *e);
/* Has a sink that `stops` ended the run? Its error is then no fault. t may be NULL. */
bool sd_trace_stopped(const sd_trace *t);
void sd_trace_abort(sd_trace *t);      /* the same, but nothing is completed; NULL is harmless */
/* The filter of the i-th strict sink that has one; NULL if there is none. t may be NULL. */
const char *sd_trace_strict_filter(const sd_trace *t, int i);

/* ---- sinks
 * trace_callback.c: calls fn. */
sd_status sd_trace_to_callback(sd_trace **out, const char *filter, void (*fn)(void *, const sd_traced *), void *user,
                               sd_error *e);
/* trace_dump.c: a safetensors file; or, if path ends with a slash, a directory with a .npy file for each tensor and a
 * tensors.json. They appear at sd_trace_finish. It takes each name once, and ignores tensors without numbers. */
sd_status sd_trace_to_file(sd_trace **out, const char *filter, const char *path, sd_error *e);

/* trace_stop.c: ends the run after the first tensor whose name passes the glob. */
sd_status sd_trace_add_stop(sd_trace **t, const char *name, sd_error *e);

/* ---- for code that computes tensors
 * The prefix of every name from now on: "step.3.unet." */
void sd_trace_prefix(sd_run *r, const char *fmt, ...) SD_PRINTF(2, 3);
/* What stands before that, until it is changed: "refiner."; "": nothing. */
void sd_trace_owner(sd_run *r, const char *owner);

/* Tells sinks a setting of the run; does any sink want to know? */
void sd_trace_note(sd_run *r, const char *key, const char *value);
bool sd_trace_notes(const sd_run *r);

bool sd_traces(const sd_run *r);         /* is anybody looking? */
bool sd_trace_writes(const sd_run *r);   /* ... and may change what it sees? */

/* Shows x under a name. 4-D tensors [N,H,W,C] are shown as [N,C,H,W], others as they are. Sinks may change x. */
void sd_trace_tensor(sd_run *r, sd_tensor x, const char *fmt, ...) SD_PRINTF(3, 4);
/* Shows x [N,T,C] as [N,C,T] (the VAE's attention normalises such a view). */
void sd_trace_transposed(sd_run *r, sd_tensor x, const char *fmt, ...) SD_PRINTF(3, 4);
/* Shows numbers that are not in the arena, already in PyTorch's order, with which the caller goes on ... */
void sd_trace_numbers(sd_run *r, int nd, const int64_t *dim, float *x, const char *fmt, ...) SD_PRINTF(5, 6);
/* ... or which nobody reads again. */
void sd_trace_readonly(sd_run *r, sd_dtype dt, int nd, const int64_t *dim, const void *x, const char *fmt, ...)
    SD_PRINTF(6, 7);

#endif
