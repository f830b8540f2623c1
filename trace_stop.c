/* trace_stop.c - floor 3: the sink that ends a run after a tensor. */
#include "trace.h"

#include <string.h>

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    (void)user;
    (void)x;
    (void)writable;
    return e->status;
}

sd_status sd_trace_add_stop(sd_trace **t, const char *name, sd_error *e)
{
    const sd_sink sink = {.see = see, .stops = true, .strict = true};
    if (!name[strspn(name, ",")]) return sd_fail(e, SD_ERR_ARG, "the run is to end after a tensor, and none is named");
    return sd_trace_put(t, name, &sink, e);
}
