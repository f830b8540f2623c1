/* trace_inject.h - floor 3: the sink by which a run goes on with the numbers of another trace. */
#ifndef SD_TRACE_INJECT_H
#define SD_TRACE_INJECT_H

#include "tensors.h"
#include "trace.h"

/* A tensor of a run, and the one of the other trace that takes its place: of as many numbers, in a type that we
 * have. */
typedef struct sd_injected {
    char *name;
    const sd_entry *from;
    int nd;                  /* its shape in the run; 0: as `from` has it */
    int64_t dim[8];
    const int *order;        /* in which order these dimensions lie in `from`; NULL: in theirs */
} sd_injected;

typedef struct sd_injection {
    sd_tensors of;           /* the other trace */
    sd_injected *pair;
    size_t n;
    const sd_log *log;       /* gets a line about what was done, when the run has ended; or NULL */
} sd_injection;
void sd_injection_free(sd_injection *j);
/* That of this name; NULL: none. They must have been sorted, which becoming a sink's does. */
const sd_injected *sd_injected_find(const sd_injected *pair, size_t n, const char *name);

/* The other trace's numbers as the run has them. */
sd_status sd_injected_read(const sd_injection *j, const sd_injected *p, float *to, sd_error *e);
/* If the other program has the prompt before the negative prompt, so that its numbers fit only with the halves of the
 * batch exchanged, exchanges them. n of each; dim0: how large the batch is. *others: whether this was so of the last
 * tensor of which it was plain, which is what counts if the halves are much alike. */
bool sd_injected_exchange(float *theirs, const float *ours, size_t n, int64_t dim0, bool *others);

/* Adds the sink behind those that look (see sd_trace_put): they see what was computed, the run goes on with what the
 * other trace has. The injection becomes the sink's, whatever happens. An error: numbers of it that are not finite. */
sd_status sd_trace_put_injection(sd_trace **t, const char *filter, sd_injection *j, sd_error *e);

#endif
