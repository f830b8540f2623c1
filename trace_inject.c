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
    bool exchange;          /* the last batch of which it is plain had its halves exchanged */
    size_t exchanged;       /* tensors whose halves of the batch had to be exchanged */
    char exchanged_name[128];
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

sd_status sd_injected_read(const sd_injection *j, const sd_injected *p, float *to, sd_error *e)
{
    sd_borrowed b = {.file = {0}};
    int64_t stride[8];
    if (!sd_tensors_borrow(&j->of, p->from, &b, e)) {
        sd_entry view = p->nd ? sd_entry_in_order(&b.of, p->nd, p->dim, p->order, stride) : b.of;
        sd_entry_to_floats(&view, to);
    }
    sd_tensors_return(&j->of, &b);
    return e->status;
}

/* The relative L2 error of n numbers. */
static double error_of(const float *theirs, const float *ours, size_t n, size_t moved)
{
    double squares = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double a = (double)ours[i], d = a - (double)theirs[i < n - moved ? i + moved : i - (n - moved)];
        squares += d * d;
        norm += a * a;
    }
    return norm > 0 ? sqrt(squares / norm) : HUGE_VAL;
}

bool sd_injected_exchange(float *theirs, const float *ours, size_t n, int64_t dim0, bool *others)
{
    static const double FAR = 0.1, MUCH_NEARER = 0.1;   /* as sd compare has them */
    if (dim0 % 2) return false;
    double as_is = error_of(theirs, ours, n, 0), exchanged = error_of(theirs, ours, n, n / 2);
    if (as_is > FAR && exchanged < MUCH_NEARER * as_is) *others = true;
    else if (exchanged > FAR && as_is < MUCH_NEARER * exchanged) *others = false;
    for (size_t i = 0; i < n / 2 && *others; i++) {
        float first = theirs[i];
        theirs[i] = theirs[n / 2 + i];
        theirs[n / 2 + i] = first;
    }
    return *others;
}

/* Batches that have the negative prompt first. */
static bool has_prompts(const char *name)
{
    return sd_glob_list("text_encoder*,prompt_embeds*,pooled*,*unet.*", name);
}

/* The numbers that take the place of *x's. */
static sd_status take_numbers(inject *t, const sd_injected *p, const sd_traced *x, float *to, size_t n, sd_error *e)
{
    float *theirs = malloc(n * sizeof *theirs + 1);
    if (!theirs) return sd_fail(e, SD_ERR_MEMORY, "no memory to replace %.200s", x->name);
    sd_injected_read(&t->j, p, theirs, e);
    for (size_t i = 0; i < n && !e->status; i++)
        if (!isfinite(theirs[i]))
            sd_fail(e, SD_ERR_NUMERIC, SD_TENSOR "number %zu is not finite: nothing can be computed from it",
                    t->j.of.path, p->from->name, i);
    bool exchanged = !e->status && x->nd && has_prompts(x->name) &&
                     sd_injected_exchange(theirs, x->data, n, x->dim[0], &t->exchange);
    if (exchanged && t->exchanged++ == 0)
        snprintf(t->exchanged_name, sizeof t->exchanged_name, "%s", x->name);
    if (!e->status) memcpy(to, theirs, n * sizeof *to);
    free(theirs);
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
    return take_numbers(t, p, x, writable, n, e);
}

static void report(const inject *t)
{
    sd_logf(t->j.log, SD_LOG_NOTICE, "%zu tensors were replaced by those of %s", t->done, t->j.of.path);
    if (t->exchanged)
        sd_logf(t->j.log, SD_LOG_NOTICE, "%zu of them were taken with the halves of the batch exchanged, as they fit, "
                "the first is %s", t->exchanged, t->exchanged_name);
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
