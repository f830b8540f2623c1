/* pipeline_rehearse.c - floor 6: a run without numbers. It finds what follows from the parameters alone: the names,
 * shapes and order of all traced tensors, and whether a filter's globs match any of them. */
#include "pipeline.h"
#include "tensors.h"
#include "text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAME = 160, NEAREST = 2 };

typedef struct near_name {
    char name[MOST_NAME];
    size_t changes;
} near_name;

/* One glob of a filter. */
typedef struct glob {
    char text[MOST_NAME];
    bool used;
    near_name near[NEAREST];   /* the nearest first; searched only if no name matches */
} glob;

typedef struct rehearsal {
    glob *list;
    int n;
    bool first_only;           /* the number of evaluations is unknown: the first one stands for all */
    bool look_for_near;
    size_t names;
    void (*fn)(void *user, const sd_traced *t);
    void *user;
    sd_index *settings;        /* gets those of the run; may be NULL */
} rehearsal;

/* ---------------------------------------------------------------------------------------- globs */

static const char *const numbered[] = {"step.", "latents.", "timestep."};

/* The number of an evaluation within a name or glob; NULL if it has none. */
static char *number_in(char *name)
{
    for (size_t i = 0; i < SD_COUNT(numbered); i++) {
        size_t n = strlen(numbered[i]);
        if (strncmp(name, numbered[i], n) == 0 && isdigit((unsigned char)name[n])) return name + n;
    }
    return NULL;
}

/* "step.12.unet*" -> "step.0.unet*" */
static void first_evaluation(char *name)
{
    char *at = number_in(name);
    if (!at) return;
    size_t n = strspn(at, "0123456789");
    *at = '0';
    memmove(at + 1, at + n, strlen(at + n) + 1);
}

static bool split(rehearsal *r, const char *filter)
{
    size_t most = 1;
    for (const char *c = filter; *c; c++) most += *c == ',';
    r->list = calloc(most, sizeof *r->list);
    for (const char *c = filter; r->list && *c;) {
        size_t n = strcspn(c, ",");
        if (n && n < MOST_NAME) memcpy(r->list[r->n++].text, c, n);
        c += n + (c[n] == ',');
    }
    return r->list != NULL;
}

static bool matches(const rehearsal *r, const glob *g, const char *name)
{
    char text[MOST_NAME];
    memcpy(text, g->text, sizeof text);
    if (r->first_only) first_evaluation(text);
    return sd_glob(text, name);
}

/* How many letters must be inserted, removed or changed; a '*' at either end stands for any letters. */
static size_t changes(const char *glob_text, const char *name)
{
    size_t m = strlen(glob_text);
    bool open = m > 0 && glob_text[0] == '*', shut = m == 0 || glob_text[m - 1] != '*';
    if (open) {
        glob_text++;
        m--;
    }
    if (!shut && m) m--;
    return sd_edit_distance(glob_text, m, name, strlen(name), open, !shut);
}

static void note_near(glob *g, const char *name)
{
    char first[MOST_NAME], core[MOST_NAME];
    snprintf(first, sizeof first, "%s", g->text);
    first_evaluation(first);
    snprintf(core, sizeof core, "%s", first + (first[0] == '*'));
    core[strcspn(core, "*")] = 0;
    bool within = strlen(core) > 3 && strstr(name, core) != NULL;   /* only what is around it is missing */
    near_name now = {"", within ? 1 : changes(first, name)};
    snprintf(now.name, sizeof now.name, "%s", name);
    for (int i = 0; i < NEAREST; i++) {
        if (g->near[i].name[0] && g->near[i].changes <= now.changes) continue;
        near_name worse = g->near[i];
        g->near[i] = now;
        now = worse;
    }
}

/* ---------------------------------------------------------------------------------- the rehearsal */

static void see(void *user, const sd_traced *t)
{
    rehearsal *r = user;
    char name[MOST_NAME];
    snprintf(name, sizeof name, "%s", t->name);
    const char *number = number_in(name);
    bool first = !number || strtol(number, NULL, 10) == 0, wanted = r->n == 0;
    if (r->first_only && !first) return;
    r->names++;
    for (int i = 0; i < r->n; i++) {
        glob *g = &r->list[i];
        bool yes = matches(r, g, t->name);
        if (yes) g->used = wanted = true;
        else if (r->look_for_near && first && !g->used) note_near(g, name);
    }
    if (wanted && r->fn) r->fn(r->user, &(sd_traced){.name = t->name, .dtype = t->dtype, .nd = t->nd,
                                                     .dim = {t->dim[0], t->dim[1], t->dim[2], t->dim[3]}});
}

static sd_status see_tensor(void *user, const sd_traced *t, float *writable, sd_error *e)
{
    (void)writable;
    see(user, t);
    return e->status;
}

static sd_status note(void *user, const char *key, const char *value, sd_error *e)
{
    const rehearsal *r = user;
    return sd_index_set(r->settings, key, value, e);
}

/* Runs the pipeline with the null backend. Of all callbacks only the trace is called. */
static sd_status walk(sd_ctx *c, const sd_params *p, rehearsal *r)
{
    const sd_sink sink = {.user = r, .see = see_tensor, .note = r->settings ? note : NULL};
    sd_trace *t, *own_trace = c->run.trace;
    sd_log log = c->log;
    sd_timings timings = c->timings;
    double *seconds = c->step_seconds;
    void (*progress)(void *, const sd_progress *) = c->progress;
    void (*random_draw)(void *, const sd_random_draw *) = c->random_draw;
    void (*step)(void *, const sd_denoised *) = c->step;
    if (sd_trace_new(&t, NULL, &sink, &c->err)) return c->err.status;
    c->run.trace = t;
    c->rehearsing = true;
    c->log.fn = NULL;
    c->progress = NULL;
    c->random_draw = NULL;
    c->step = NULL;
    c->step_seconds = NULL;
    sd_run_pipeline(c, p, NULL, NULL, 0);
    free(c->step_seconds);
    sd_trace_abort(t);
    c->run.trace = own_trace;
    c->rehearsing = false;
    c->log = log;
    c->timings = timings;
    c->step_seconds = seconds;
    c->progress = progress;
    c->random_draw = random_draw;
    c->step = step;
    return c->err.status;
}

static sd_status report_unmatched(sd_ctx *c, const rehearsal *r)
{
    sd_text which = {0}, near = {0};
    for (int i = 0; i < r->n; i++) {
        const glob *g = &r->list[i];
        if (g->used) continue;
        sd_text_add(&which, "%s\"%s\"", which.n ? ", " : "", g->text);
        sd_text_add(&near, "%s\"%s\"", near.n ? "; to " : "", g->text);
        for (int k = 0; k < NEAREST && g->near[k].name[0]; k++)
            sd_text_add(&near, "%s %s", k ? "," : ":", g->near[k].name);
    }
    if (which.failed || near.failed) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for a sentence");
    else sd_fail(&c->err, SD_ERR_ARG, "%s %s none of this run's %zu names; nearest to %s", which.s,
                 strchr(which.s, ',') ? "mean" : "means", r->names, near.s);
    free(which.s);
    free(near.s);
    return c->err.status;
}

static sd_status rehearse(sd_ctx *c, const sd_params *p, const char *filter, rehearsal *given)
{
    rehearsal r = *given;
    bool unmatched = false;
    r.first_only = sd_run_is_open_ended(c, p);
    if (c->err.status) return c->err.status;
    if (filter && !split(&r, filter)) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for a filter");
    walk(c, p, &r);
    for (int i = 0; i < r.n; i++) unmatched |= !r.list[i].used;
    if (!c->err.status && unmatched && r.names) {
        r.look_for_near = true;
        r.fn = NULL;
        r.names = 0;
        if (!walk(c, p, &r)) report_unmatched(c, &r);
    }
    free(r.list);
    return c->err.status;
}

sd_status sd_rehearse(sd_ctx *c, const sd_params *p, const char *filter, void (*fn)(void *, const sd_traced *),
                      void *user)
{
    return rehearse(c, p, filter, &(rehearsal){.fn = fn, .user = user});
}

sd_status sd_trace_list(sd_ctx *c, const sd_params *params, const char *filter, void (*fn)(void *, const sd_traced *),
                        void *user)
{
    if (!sd_begin(c) && !sd_check_not_null(c, "params", params)) sd_rehearse(c, params, filter, fn, user);
    return sd_end(c);
}

/* --------------------------------------------------------------------------------- as a list of tensors */

typedef struct listing { sd_tensors *of; sd_error *e; } listing;

static void list_tensor(void *user, const sd_traced *t)
{
    listing *l = user;
    sd_entry *own = sd_grow(l->of->own, l->of->n_own, &l->of->cap_own, 256, sizeof *own);
    if (own) l->of->own = own;
    char *name = own ? sd_strdup(t->name) : NULL;
    if (!name) {
        sd_fail(l->e, SD_ERR_MEMORY, "no memory for the names of a run");
        return;
    }
    sd_entry *x = &own[l->of->n_own++];
    *x = (sd_entry){.name = name, .dt = t->dtype, .nd = t->nd};
    memcpy(x->dim, t->dim, (size_t)t->nd * sizeof *t->dim);
}

sd_status sd_rehearse_tensors(sd_ctx *c, const sd_params *p, sd_tensors *of)
{
    listing l = {of, &c->err};
    if (rehearse(c, p, NULL, &(rehearsal){.fn = list_tensor, .user = &l, .settings = &of->index}))
        return c->err.status;
    of->meta = of->index.meta;
    of->n_meta = of->index.n_meta;
    of->executed = true;
    of->at = malloc((of->n_own + 1) * sizeof *of->at);
    if (!of->at) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the names of a run");
    for (; of->n < of->n_own; of->n++) of->at[of->n] = &of->own[of->n];
    return SD_OK;
}
