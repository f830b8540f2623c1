/* trace.h - floor 3: named intermediate results, and those who look at them. */
#ifndef SD_TRACE_H
#define SD_TRACE_H

#include "ops.h"

typedef struct sd_trace sd_trace;

/* Who looks at named tensors. A trace may have several sinks: they see a tensor in the order in which they were added,
 * each as the ones before it have left it. */
typedef struct sd_sink {
    void *user;
    /* One tensor in PyTorch's order. Under the null backend x->data is NULL: names and shapes alone. `writable` are the
     * same numbers for a sink that `writes`: the run goes on with what it finds there. NULL where nothing is to be
     * changed: nobody reads the numbers after they were seen (tokens, a step's x0), they are not float32, or they are
     * not computed. A status other than SD_OK, with its sentence in e, ends the run. */
    sd_status (*see)(void *user, const sd_traced *x, float *writable, sd_error *e);
    /* Called once, last: completes what the sink makes if e->status is SD_OK, leaves nothing behind if it is not, and
     * frees the user. May be NULL. */
    sd_status (*close)(void *user, sd_error *e);
    bool writes;
    bool strict;   /* each glob of its filter has to mean one of the run's names: that is asked before the run */
} sd_sink;

/* A trace with one sink, which gets what passes the filter: a list of globs, NULL for everything. The sink belongs to
 * the trace from then on; without a trace (*out is NULL) it has been closed. */
sd_status sd_trace_new(sd_trace **out, const char *filter, const sd_sink *sink, sd_error *e);
/* One more sink, behind the others. */
sd_status sd_trace_add(sd_trace *t, const char *filter, const sd_sink *sink, sd_error *e);
/* Closes the sinks and frees t. Errors that happened while tracing are raised again, and so is a filter that nothing
 * passed. */
sd_status sd_trace_finish(sd_trace *t, sd_error *e);
void sd_trace_abort(sd_trace *t);      /* the same, but nothing is completed; NULL is harmless */
/* The filter of the i-th strict sink that has one; NULL if there is none. t may be NULL. */
const char *sd_trace_strict_filter(const sd_trace *t, int i);

/* ---- sinks
 * trace_callback.c: calls fn. */
sd_status sd_trace_to_callback(sd_trace **out, const char *filter, void (*fn)(void *, const sd_traced *), void *user,
                               sd_error *e);
/* trace_dump.c: a safetensors file, under a temporary name until sd_trace_finish. It takes each name once, and ignores
 * tensors without numbers. */
sd_status sd_trace_to_file(sd_trace **out, const char *filter, const char *path, sd_error *e);

/* ---- for those who have tensors
 * Put before every name until changed: "step.3.unet." */
void sd_trace_prefix(sd_run *r, const char *fmt, ...) SD_PRINTF(2, 3);

bool sd_traces(const sd_run *r);         /* is anybody looking? */
bool sd_trace_writes(const sd_run *r);   /* ... who may change what is seen? */

/* Shows x under a name. 4-D tensors [N,H,W,C] are seen as [N,C,H,W]; others as they are. Its numbers may be changed. */
void sd_trace_tensor(sd_run *r, sd_tensor x, const char *fmt, ...) SD_PRINTF(3, 4);
/* x [N,T,C] seen as [N,C,T] (the VAE's attention normalises such a view). */
void sd_trace_transposed(sd_run *r, sd_tensor x, const char *fmt, ...) SD_PRINTF(3, 4);
/* Numbers that are not in the arena, already in PyTorch's order, which the caller goes on with ... */
void sd_trace_numbers(sd_run *r, int nd, const int64_t *dim, float *x, const char *fmt, ...) SD_PRINTF(5, 6);
/* ... or which nobody reads again. */
void sd_trace_last_look(sd_run *r, sd_dtype dt, int nd, const int64_t *dim, const void *x, const char *fmt, ...)
    SD_PRINTF(6, 7);

#endif
