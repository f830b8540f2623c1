/* inject.c - floor 6: sd_trace_inject: which tensors of a run take their numbers from another program's trace. The run
 * is rehearsed for its names and shapes, so that all that can be wrong is found before it begins. */
#include "case.h"
#include "compare.h"
#include "pipeline.h"
#include "trace_inject.h"

#include <stdlib.h>
#include <string.h>

void sd_inject_options_init_sized(sd_inject_options *o, size_t size)
{
    const sd_inject_options fresh = {.size = sizeof fresh};
    sd_copy_struct(o, size, &fresh, sizeof fresh);
    o->size = size;
}

/* ------------------------------------------------------------------------------- what the run will have */

/* The tensors that the run will trace, as if it had been written already. */
static sd_status rehearse(sd_ctx *c, const sd_params *p, const char *filter, sd_tensors *of)
{
    if (sd_run_is_open_ended(c, p))
        return sd_fail(&c->err, SD_ERR_UNSUPPORTED, "this sampler decides while it runs how many evaluations there "
                       "are, so that their names are not known before: tensors can be injected with others");
    if (c->err.status || sd_rehearse_tensors(c, p, of)) return c->err.status;
    return filter ? sd_rehearse(c, p, filter, NULL, NULL) : SD_OK;   /* each of its globs means something */
}

/* ------------------------------------------------------------------------------------------------- pairs */

/* How often each layout is the only one that the shapes allow. A square tensor is in that of most others. */
typedef struct votes { struct { const char *name; size_t n; } of[SD_LAYOUTS]; } votes;

static size_t *votes_for(votes *v, const char *name)
{
    size_t i = 0;
    while (i + 1 < SD_LAYOUTS && v->of[i].n && v->of[i].name != name) i++;
    v->of[i].name = name;
    return &v->of[i].n;
}

static void vote(votes *v, const sd_compared *r)
{
    sd_layout found[SD_LAYOUTS];
    if (r->mine && sd_layouts_by_shape(r->ref, r->mine, found) == 1) ++*votes_for(v, found[0].name);
}

static sd_status fail_shape(const sd_compared *r, const char *path, sd_error *e)
{
    const sd_entry *run = r->ref, *from = r->mine;
    sd_text want = {0}, found = {0};
    sd_add_shape(&want, run->nd, run->dim);
    sd_add_shape(&found, from->nd, from->dim);
    if (want.failed || found.failed) sd_fail(e, SD_ERR_MEMORY, "no memory for a sentence");
    else sd_fail(e, SD_ERR_ARG, SD_TENSOR "expected %s, as this run has %s, found %s", path, from->name, want.s,
                 run->name, found.s);
    free(want.s);
    free(found.s);
    return e->status;
}

/* In which layout the numbers are: the one that the shapes allow; of several the one that most others are in. */
static sd_status find_layout(sd_layout *is, votes *v, const sd_compared *r, const char *path, sd_error *e)
{
    sd_layout found[SD_LAYOUTS];
    const sd_entry *from = r->mine;
    if (from->dt == SD_DTYPE_UNKNOWN)
        return sd_fail(e, SD_ERR_UNSUPPORTED, SD_TENSOR "type %s cannot be read", path, from->name,
                       sd_entry_dtype(from));
    size_t n = sd_layouts_by_shape(r->ref, from, found), most = 0;
    if (!n && sd_same_shape(r->ref->nd, r->ref->dim, from->nd, from->dim)) found[n++] = (sd_layout){NULL, NULL};
    if (!n) return fail_shape(r, path, e);
    *is = found[0];
    for (size_t i = 0; i < n && n > 1; i++) {
        size_t has = *votes_for(v, found[i].name);
        if (has > most) *is = found[i];
        if (has > most) most = has;
    }
    return e->status;
}

static sd_status add_pair(sd_injection *j, const sd_compared *r, const sd_layout *is, sd_error *e)
{
    char *name = sd_strdup(r->ref->name);
    if (!name) return sd_fail(e, SD_ERR_MEMORY, "no memory for the names of a run");
    sd_injected *p = &j->pair[j->n++];
    *p = (sd_injected){.name = name, .from = r->mine, .nd = is->name ? r->ref->nd : 0, .order = is->order};
    memcpy(p->dim, r->ref->dim, sizeof p->dim);
    return e->status;
}

/* Some names, for a sentence. */
typedef struct some { sd_text list; size_t n; } some;

static void add_name(some *s, const char *how, const char *name)
{
    enum { SHOWN = 6 };
    if (s->n++ < SHOWN) sd_text_add(&s->list, "%s%s%s", s->n == 1 ? "" : ", ", how, name);
    else if (s->n == SHOWN + 1) sd_text_add(&s->list, ", ...");
}

static void tell(const sd_log *log, const char *path, some *lacks, some *extra, some *relaid, size_t joined)
{
    if (relaid->n && !relaid->list.failed)
        sd_logf(log, SD_LOG_NOTICE, "%zu tensor%s of %s in another layout than this run's, and taken so: %s", relaid->n,
                relaid->n == 1 ? "" : "s", path, relaid->list.s);
    if (joined)
        sd_logf(log, SD_LOG_NOTICE, "%zu tensor%s of %s put together from calls of fewer samples", joined,
                joined == 1 ? "" : "s", path);
    free(relaid->list.s);
    if (lacks->n && !lacks->list.failed)
        sd_logf(log, SD_LOG_NOTICE, "%s lacks %zu tensors of this run, which are computed: %s", path, lacks->n,
                lacks->list.s);
    if (extra->n && !extra->list.failed)
        sd_logf(log, SD_LOG_NOTICE, "%s has %zu tensors that this run has not: %s", path, extra->n, extra->list.s);
    free(lacks->list.s);
    free(extra->list.s);
}

/* The pairs of the rows that the filter lets pass; c->mine becomes the injection's. */
static sd_status take_pairs(sd_injection *j, sd_comparison *c, const char *filter, sd_error *e)
{
    some lacks = {.n = 0}, extra = {.n = 0}, relaid = {.n = 0};
    votes v[SD_COUNT(c->row->ref->dim) + 1] = {{.of = {{.n = 0}}}};   /* by how many dimensions */
    j->of = c->mine;
    c->mine = (sd_tensors){.n = 0};
    j->pair = malloc((c->n + 1) * sizeof *j->pair);
    if (!j->pair) return sd_fail(e, SD_ERR_MEMORY, "no memory for %zu names", c->n);
    for (size_t i = 0; i < c->n; i++)
        if (c->row[i].ref) vote(&v[c->row[i].ref->nd], &c->row[i]);
    for (size_t i = 0; i < c->n && !e->status; i++) {
        const sd_compared *r = &c->row[i];
        sd_layout is = {NULL, NULL};
        if (!r->ref) add_name(&extra, "", r->mine->name);
        else if (!sd_glob_list(filter ? filter : "", r->ref->name)) continue;
        else if (!r->mine) add_name(&lacks, "", r->ref->name);
        else if (!find_layout(&is, &v[r->ref->nd], r, j->of.path, e)) add_pair(j, r, &is, e);
        if (!is.name) continue;
        sd_text how = {0};
        sd_text_add(&how, "%s in ", is.name);
        add_name(&relaid, how.s ? how.s : "", r->ref->name);
        free(how.s);
    }
    if (!e->status && !j->n)
        sd_fail(e, SD_ERR_FORMAT, "%.120s has none of the %zu tensors that were to take its numbers, such as %.200s",
                j->of.path, lacks.n, lacks.list.s ? lacks.list.s : "none");
    if (c->mapping.unused && !e->status)
        sd_logf(j->log, SD_LOG_NOTICE, "%d line%s of %s fit%s nothing, the first is line %d", c->mapping.unused,
                c->mapping.unused == 1 ? "" : "s", c->mapping.path, c->mapping.unused == 1 ? "s" : "",
                c->mapping.first_unused);
    tell(e->status ? NULL : j->log, j->of.path, &lacks, &extra, &relaid, c->joined);
    return e->status;
}

/* ----------------------------------------------------------------------------------------- the interface */

sd_status sd_inject_match(sd_ctx *c, const sd_params *p, const char *ref, const sd_inject_options *o, sd_injection *j)
{
    sd_comparison *all = calloc(1, sizeof *all);
    if (!all) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory to open %.200s", ref);
    if (!rehearse(c, p, o->filter, &all->ref) && !sd_tensors_open(&all->mine, ref, &c->err)
        && !sd_compare_rows(all, o->names, &c->err))
        take_pairs(j, all, o->filter, &c->err);
    sd_comparison_free(all);
    free(all);
    return c->err.status;
}

sd_status sd_trace_inject(sd_ctx *c, const sd_params *params, const char *ref, const sd_inject_options *options)
{
    sd_inject_options o;
    sd_inject_options_init_sized(&o, sizeof o);
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "the trace's path", ref))
        return sd_end(c);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    sd_injection j = {.log = &c->log};
    if (!sd_inject_match(c, params, ref, &o, &j)) {   /* whoever writes a trace is told */
        sd_trace_note(&c->run, SD_NOTE_INJECTED, ref);
        if (o.filter) sd_trace_note(&c->run, SD_NOTE_INJECTED_ONLY, o.filter);
    }
    if (c->err.status) sd_injection_free(&j);
    else sd_trace_put_injection(&c->run.trace, o.filter, &j, &c->err);
    return sd_end(c);
}
