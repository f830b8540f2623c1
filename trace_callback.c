/* trace_callback.c - floor 3: the sink that calls a function for each tensor. */
#include "trace.h"

#include <stdlib.h>

typedef struct callback {
    void (*fn)(void *user, const sd_traced *x);
    void *user;
} callback;

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    const callback *c = user;
    (void)writable;
    c->fn(c->user, x);
    return e->status;
}

static sd_status finish(void *user, sd_error *e)
{
    free(user);
    return e->status;
}

sd_status sd_trace_to_callback(sd_trace **out, const char *filter, void (*fn)(void *, const sd_traced *), void *user,
                               sd_error *e)
{
    callback *c = malloc(sizeof *c);
    *out = NULL;
    if (!c) return sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
    *c = (callback){fn, user};
    return sd_trace_new(out, filter, &(sd_sink){.user = c, .see = see, .close = finish, .strict = true}, e);
}
