/* trace_inject.h - floor 3: the sink by which a run goes on with the numbers of another trace. */
#ifndef SD_TRACE_INJECT_H
#define SD_TRACE_INJECT_H

#include "tensors.h"
#include "trace.h"

/* A tensor of a run, and the one of the other trace that takes its place: of the same shape, of a type that we have. */
typedef struct sd_injected { char *name; const sd_entry *from; } sd_injected;

typedef struct sd_injection {
    sd_tensors of;           /* the other trace */
    sd_injected *pair;
    size_t n;
    const sd_log *log;       /* gets a line about what was done, when the run has ended; or NULL */
} sd_injection;
void sd_injection_free(sd_injection *j);
/* That of this name; NULL: none. They must have been sorted, which becoming a sink's does. */
const sd_injected *sd_injected_find(const sd_injected *pair, size_t n, const char *name);

/* Adds the sink behind those that look (see sd_trace_put): they see what was computed, the run goes on with what the
 * other trace has. The injection becomes the sink's, whatever happens. An error: numbers of it that are not finite. */
sd_status sd_trace_put_injection(sd_trace **t, const char *filter, sd_injection *j, sd_error *e);

#endif
