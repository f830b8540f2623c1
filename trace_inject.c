/* trace_inject.c - floor 3: the sink by which a run goes on with the numbers of another trace. What a module then makes
 * of its inputs has no error but its own, for the inputs have none: they are the other's. */
#include "trace_inject.h"
#include "weights_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct inject {
    sd_injection j;
    size_t done, fixed;     /* tensors that were replaced, and that could not be: nothing is computed from them */
    char fixed_name[128];   /* the first of these */
} inject;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_injected *)a)->name, ((const sd_injected *)b)->name);
}

const sd_injected *sd_injected_find(const sd_injected *pair, size_t n, const char *name)
{
    const sd_injected key = {.name = (char *)name};
    return n ? bsearch(&key, pair, n, sizeof key, by_name) : NULL;
}

/* Copies the numbers of *x, n of them, to `to`. */
static sd_status take_numbers(const sd_tensors *of, const sd_entry *x, float *to, size_t n, sd_error *e)
{
    sd_borrowed b = {.file = {0}};
    if (!sd_tensors_borrow(of, x, &b, e)) sd_entry_to_floats(&b.of, to);
    sd_tensors_return(of, &b);
    for (size_t i = 0; i < n && !e->status; i++)
        if (!isfinite(to[i]))
            sd_fail(e, SD_ERR_NUMERIC, SD_TENSOR "number %zu is not finite: nothing can be computed from it", of->path,
                    x->name, i);
    return e->status;
}

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    inject *t = user;
    const sd_injected *p = sd_injected_find(t->j.pair, t->j.n, x->name);
    size_t n = sd_traced_numbers(x);
    if (!p || !x->data) return SD_OK;
    if (!writable) {
        if (t->fixed++ == 0) snprintf(t->fixed_name, sizeof t->fixed_name, "%s", x->name);
        return SD_OK;
    }
    if (n != sd_entry_numbers(p->from))
        return sd_fail(e, SD_ERR_ARG, SD_TENSOR "expected %zu numbers, as this run has, found %llu", t->j.of.path,
                       p->from->name, n, (unsigned long long)sd_entry_numbers(p->from));
    t->done++;
    return take_numbers(&t->j.of, p->from, writable, n, e);
}

static void report(const inject *t)
{
    sd_logf(t->j.log, SD_LOG_NOTICE, "%zu tensors were replaced by those of %s", t->done, t->j.of.path);
    if (t->fixed)
        sd_logf(t->j.log, SD_LOG_DETAIL, "%zu could not be, since nothing is computed from them, such as %s", t->fixed,
                t->fixed_name);
}

static sd_status finish(void *user, sd_error *e)
{
    inject *t = user;
    if (!e->status) sd_store_still_there(&t->j.of.store, e);
    if (!e->status && t->j.log) report(t);
    sd_injection_free(&t->j);
    free(t);
    return e->status;
}

void sd_injection_free(sd_injection *j)
{
    for (size_t i = 0; i < j->n; i++) free(j->pair[i].name);
    free(j->pair);
    sd_tensors_close(&j->of);
    *j = (sd_injection){.n = 0};
}

sd_status sd_trace_put_injection(sd_trace **t, const char *filter, sd_injection *j, sd_error *e)
{
    inject *x = e->status ? NULL : calloc(1, sizeof *x);
    if (!x) {
        if (!e->status) sd_fail(e, SD_ERR_MEMORY, "no memory to replace tensors");
        sd_injection_free(j);
        return e->status;
    }
    x->j = *j;
    *j = (sd_injection){.n = 0};
    if (x->j.n) qsort(x->j.pair, x->j.n, sizeof *x->j.pair, by_name);
    return sd_trace_put(t, filter, &(sd_sink){.user = x, .see = see, .close = finish, .writes = true}, e);
}
