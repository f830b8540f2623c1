/* trace.h - floor 3: sinks for named intermediate results. */
#ifndef SD_TRACE_H
#define SD_TRACE_H

#include "ops.h"

typedef struct sd_trace sd_trace;

/* A sink that calls fn, or one that writes a safetensors file (under temporary names until sd_trace_finish). A file
 * takes each name once. Under the null backend fn is called with data NULL, for names and shapes; a file ignores such
 * tensors. */
sd_status sd_trace_to_callback(sd_trace **out, const char *filter, void (*fn)(void *, const sd_traced *), void *user,
                               sd_error *e);
sd_status sd_trace_to_file(sd_trace **out, const char *filter, const char *path, sd_error *e);
/* Completes the file and frees t. Errors that happened while tracing are raised again, and so is a filter that nothing
 * passed. */
sd_status sd_trace_finish(sd_trace *t, sd_error *e);
/* The filter of one that writes a file; NULL if there is none, or t is no such trace. */
const char *sd_trace_file_filter(const sd_trace *t);
void sd_trace_abort(sd_trace *t);                       /* leaves no file, frees t; NULL is harmless */

/* Put before every name until changed: "step.3.unet." */
void sd_trace_prefix(sd_run *r, const char *fmt, ...) SD_PRINTF(2, 3);

bool sd_traces(const sd_run *r);   /* is anything listening? */

/* Hands x on under a name. 4-D tensors [N,H,W,C] are written as [N,C,H,W]; others as they are. */
void sd_trace_tensor(sd_run *r, sd_tensor x, const char *fmt, ...) SD_PRINTF(3, 4);
/* x [N,T,C] written as [N,C,T] (the VAE's attention normalises such a view). */
void sd_trace_transposed(sd_run *r, sd_tensor x, const char *fmt, ...) SD_PRINTF(3, 4);
/* Something that is not a tensor of the arena, already in PyTorch's order. */
void sd_trace_raw(sd_run *r, sd_dtype dt, int nd, const int64_t *dim, const void *data, const char *fmt, ...)
    SD_PRINTF(6, 7);

#endif
