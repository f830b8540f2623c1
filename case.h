/* case.h - floor 6: minimal cases: one module of a run with its weights, its inputs, and what two programs made of
 * them, in one file. */
#ifndef SD_CASE_H
#define SD_CASE_H

#include "pipeline.h"
#include "trace_inject.h"

#define SD_CASE_PROGRAM "program"   /* the key of the file's text that says what is computed */

/* The result of a computation that has more is an error. */
enum { SD_CASE_MOST = 4096 };

/* ---- inject.c: which tensors of a run with these parameters take their numbers from the trace `ref` */
sd_status sd_inject_match(sd_ctx *c, const sd_params *p, const char *ref, const sd_inject_options *o, sd_injection *j);

#endif
