/* trace.c - floor 3: names of intermediate results, who wants to see them, and in which order.
 *
 * What a sink does with a tensor is in its own file: trace_callback.c, trace_dump.c. */
#include "trace.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 320, PREFIX_BYTES = 128 };

/* A sink and what it wants to see. */
typedef struct listener {
    sd_sink sink;
    char *filter;
    bool wants;                  /* it wants the current tensor */
    size_t taken;                /* tensors that passed the filter */
    char example[NAME_BYTES];    /* a name that did not pass */
} listener;

struct sd_trace {
    char owner[PREFIX_BYTES / 8], prefix[PREFIX_BYTES];
    listener *list;
    int n;
    sd_error err;                /* the first error; it sticks, as the run's does */
    size_t offered;              /* names seen */
    bool stopped;                /* by a sink that stops */
    float *room;                 /* for the numbers of one tensor */
    size_t room_size;
};

/* ----------------------------------------------------------------------------- begin and end */

static void close_sink(const sd_sink *s, sd_error *e)
{
    if (s->close) s->close(s->user, e);
}

sd_status sd_trace_add(sd_trace *t, const char *filter, const sd_sink *sink, sd_error *e)
{
    char *copy = e->status ? NULL : sd_strdup(filter ? filter : "");
    listener *more = copy ? realloc(t->list, (size_t)(t->n + 1) * sizeof *more) : NULL;
    if (more) {
        t->list = more;
        more[t->n++] = (listener){.sink = *sink, .filter = copy};
        return SD_OK;
    }
    free(copy);
    if (!e->status) sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
    close_sink(sink, e);
    return e->status;
}

sd_status sd_trace_new(sd_trace **out, const char *filter, const sd_sink *sink, sd_error *e)
{
    sd_trace *t = *out = e->status ? NULL : calloc(1, sizeof *t);
    if (!t) {
        if (!e->status) sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
        close_sink(sink, e);
    } else if (sd_trace_add(t, filter, sink, e)) {
        sd_trace_abort(t);
        *out = NULL;
    }
    return e->status;
}

sd_status sd_trace_put(sd_trace **t, const char *filter, const sd_sink *sink, sd_error *e)
{
    return *t ? sd_trace_add(*t, filter, sink, e) : sd_trace_new(t, filter, sink, e);
}

sd_status sd_trace_finish(sd_trace *t, sd_error *e)
{
    if (!t) return e->status;
    if (t->err.status) sd_fail(e, t->err.status, "%s", t->err.text);
    for (int i = 0; i < t->n; i++) {
        const listener *l = &t->list[i];
        if (t->offered && !l->taken && !e->status)
            sd_fail(e, SD_ERR_ARG, "nothing was traced: the filter \"%.100s\" matches none of %zu names, such as %s",
                    l->filter, t->offered, l->example);
        close_sink(&l->sink, e);
        free(l->filter);
    }
    free(t->list);
    free(t->room);
    free(t);
    return e->status;
}

bool sd_trace_stopped(const sd_trace *t) { return t && t->stopped; }

void sd_trace_abort(sd_trace *t)
{
    sd_error e = {.status = SD_ERR_CANCELLED};
    sd_trace_finish(t, &e);
}

const char *sd_trace_strict_filter(const sd_trace *t, int i)
{
    for (int k = 0; t && k < t->n; k++)
        if (t->list[k].sink.strict && *t->list[k].filter && i-- == 0) return t->list[k].filter;
    return NULL;
}

bool sd_traces(const sd_run *r) { return r->trace != NULL; }

bool sd_trace_writes(const sd_run *r)
{
    for (int i = 0; r->trace && i < r->trace->n; i++)
        if (r->trace->list[i].sink.writes) return true;
    return false;
}

/* ----------------------------------------------------------------------------------- settings */

bool sd_trace_notes(const sd_run *r)
{
    for (int i = 0; r->trace && i < r->trace->n; i++)
        if (r->trace->list[i].sink.note) return true;
    return false;
}

void sd_trace_note(sd_run *r, const char *key, const char *value)
{
    sd_trace *t = r->trace;
    for (int i = 0; t && i < t->n && sd_ok(r); i++) {
        const sd_sink *s = &t->list[i].sink;
        if (s->note && s->note(s->user, key, value, &t->err)) sd_fail(r->err, t->err.status, "%s", t->err.text);
    }
}

/* -------------------------------------------------------------------------------------- names */

void sd_trace_prefix(sd_run *r, const char *fmt, ...)
{
    if (!r->trace) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->trace->prefix, sizeof r->trace->prefix, fmt, ap);
    va_end(ap);
}

void sd_trace_owner(sd_run *r, const char *owner)
{
    if (r->trace) snprintf(r->trace->owner, sizeof r->trace->owner, "%s", owner);
}

/* Makes an error of the trace one of the run; the trace keeps it for sd_trace_finish. */
static void pass_on(sd_run *r) { sd_fail(r->err, r->trace->err.status, "%s", r->trace->err.text); }

/* Makes the full name. Does anybody want it? */
static bool wanted(sd_run *r, char name[NAME_BYTES], const char *fmt, va_list ap)
{
    sd_trace *t = r->trace;
    bool any = false;
    if (!sd_ok(r)) return false;
    if (t->err.status == SD_OK) {
        int at = snprintf(name, NAME_BYTES, "%s%s", t->owner, t->prefix),
            n = vsnprintf(name + at, (size_t)(NAME_BYTES - at), fmt, ap);
        if (n < 0 || n >= NAME_BYTES - at)
            sd_fail(&t->err, SD_ERR_ARG, "a traced name is longer than %d bytes: %.100s...", NAME_BYTES - 1, name);
    }
    if (t->err.status) {
        pass_on(r);
        return false;
    }
    t->offered++;
    for (int i = 0; i < t->n; i++) {
        listener *l = &t->list[i];
        l->wants = sd_glob_list(l->filter, name);
        if (l->wants) l->taken++;
        else memcpy(l->example, name, sizeof l->example);
        any |= l->wants;
    }
    return any;
}

/* ------------------------------------------------------------------------------------ numbers */

/* Shows x to those who want it. writable: x->data, or NULL. True: somebody may have changed it. */
static bool show(sd_run *r, const sd_traced *x, float *writable)
{
    sd_trace *t = r->trace;
    bool changed = false, stops = false;
    for (int i = 0; i < t->n && sd_ok(r); i++) {
        const listener *l = &t->list[i];
        if (!l->wants) continue;
        bool writes = l->sink.writes && writable;
        if (l->sink.see(l->sink.user, x, writes ? writable : NULL, &t->err)) pass_on(r);
        changed |= writes;
        stops |= l->sink.stops;
    }
    if (stops && sd_ok(r)) {
        t->stopped = true;
        sd_fail(r->err, SD_ERR_CANCELLED, "the run was to end after %s", x->name);
    }
    return changed;
}

/* The trace's own room for n numbers; NULL, and an error: out of memory. */
static float *room_for(sd_run *r, size_t n)
{
    sd_trace *t = r->trace;
    if (n <= t->room_size) return t->room;
    free(t->room);
    t->room_size = 0;
    t->room = malloc(n * sizeof *t->room);
    if (t->room) {
        t->room_size = n;
    } else {
        sd_fail(&t->err, SD_ERR_MEMORY, "no memory for %.1f MB to trace a tensor", (double)n * sizeof *t->room / 1e6);
        pass_on(r);
    }
    return t->room;
}

/* Is all that those who want the current tensor ask for there already, in the host's memory? */
static bool suits_as_it_lies(const sd_run *r)
{
    for (int i = 0; i < r->trace->n; i++)
        if (r->trace->list[i].wants && !r->trace->list[i].sink.unordered) return false;
    return r->be == &sd_backend_cpu;
}

/* Shows the numbers of x in the shape that is in t->dim already; if channels_first, [N,..,C] is shown as [N,C,..].
 * Changed numbers are converted back. */
static void show_tensor(sd_run *r, sd_traced *t, sd_tensor x, bool channels_first)
{
    float *room = NULL;
    if (sd_has_numbers(r)) {
        if (x.dt != SD_F32)
            sd_fail(r->err, SD_ERR_ARG, "a traced activation must be F32, not %s", sd_dtype_name(x.dt));
        else if (suits_as_it_lies(r)) {
            t->data = x.data;
            show(r, t, NULL);
            return;
        } else room = room_for(r, (size_t)sd_numel(&x));
        if (!sd_ok(r)) return;
        (channels_first ? sd_download_channels_first : sd_download)(r, x, room);
    }
    t->data = room;
    if (show(r, t, room)) (channels_first ? sd_upload_channels_first : sd_upload)(r, x, room);
}

#define NAME_OR_RETURN(name) \
    char name[NAME_BYTES]; \
    va_list ap; \
    if (!r->trace) return; \
    va_start(ap, fmt); \
    bool yes = wanted(r, name, fmt, ap); \
    va_end(ap); \
    if (!yes) return

void sd_trace_tensor(sd_run *r, sd_tensor x, const char *fmt, ...)
{
    NAME_OR_RETURN(name);
    sd_traced t = {.name = name, .dtype = x.dt, .nd = x.nd};
    const int64_t H = x.dim[1], W = x.dim[2], C = x.dim[3], nchw[] = {x.dim[0], C, H, W};   /* [N,H,W,C] -> [N,C,H,W] */
    memcpy(t.dim, x.nd == 4 ? nchw : x.dim, sizeof nchw);
    show_tensor(r, &t, x, x.nd == 4);
}

void sd_trace_transposed(sd_run *r, sd_tensor x, const char *fmt, ...)
{
    NAME_OR_RETURN(name);
    sd_traced t = {.name = name, .dtype = x.dt, .nd = 3, .dim = {x.dim[0], x.dim[2], x.dim[1]}};
    show_tensor(r, &t, x, true);
}

static void show_raw(sd_run *r, const char *name, sd_dtype dt, int nd, const int64_t *dim, const void *x,
                     float *writable)
{
    sd_traced t = {.name = name, .dtype = dt, .nd = nd, .data = x};
    for (int i = 0; i < nd; i++) t.dim[i] = dim[i];
    show(r, &t, writable);
}

void sd_trace_numbers(sd_run *r, int nd, const int64_t *dim, float *x, const char *fmt, ...)
{
    NAME_OR_RETURN(name);
    show_raw(r, name, SD_F32, nd, dim, x, x);
}

void sd_trace_readonly(sd_run *r, sd_dtype dt, int nd, const int64_t *dim, const void *x, const char *fmt, ...)
{
    NAME_OR_RETURN(name);
    show_raw(r, name, dt, nd, dim, x, NULL);
}
