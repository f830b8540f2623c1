/* diagnose.c - floor 6: sd_diagnose: which known mistake makes our run agree with a foreign trace?
 *
 * Our run goes on with their numbers after every tensor that they have, so each tensor is computed from their own
 * inputs and judged alone: an error is what was done there, nothing is inherited. */
#include "diagnose.h"
#include "os.h"
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where nothing before a tensor is theirs, float32 may be off by so much more than sd_one_operation says. */
static const double INHERITED = 1e-4;

/* ---------------------------------------------------------------------------------- the run's tensors */

/* The run's tensors, and of each that of the same name in theirs, as `sd compare` finds it. */
static sd_status match(sd_diagnosis *d, sd_error *e)
{
    sd_comparison all = {.ref = d->run, .mine = d->theirs};
    const sd_entry *own = d->run.own;
    d->n = d->run.n_own;
    d->t = calloc(d->n + 1, sizeof *d->t);
    if (!d->t) sd_fail(e, SD_ERR_MEMORY, "no memory for %zu tensors", d->n);
    else sd_compare_rows(&all, NULL, e);
    d->run = all.ref;
    d->theirs = all.mine;
    for (size_t i = 0; i < d->n && d->t; i++) {
        d->t[i] = (sd_judged){.name = own[i].name, .nd = own[i].nd, .ours = -1, .wrong = -1, .by = -1};
        memcpy(d->t[i].dim, own[i].dim, sizeof d->t[i].dim);
    }
    for (size_t i = 0; i < all.n && !e->status; i++) {
        const sd_compared *r = &all.row[i];
        if (!r->ref || !r->mine || r->ref < own || r->ref >= own + d->n) continue;   /* ours, in one piece */
        sd_judged *t = &d->t[r->ref - own];
        t->theirs = r->mine;
        t->other_shape = r->mine->dt == SD_DTYPE_UNKNOWN || r->mine->nd != t->nd
            || memcmp(r->mine->dim, t->dim, (size_t)t->nd * sizeof *t->dim) != 0;
    }
    all.ref = all.mine = (sd_tensors){.n = 0};
    sd_comparison_free(&all);
    return e->status;
}

/* ------------------------------------------------------------------------------------ without mistakes */

/* missing: the share of the tensors before it that they do not have, whose errors it inherits. */
static double bound_of(const sd_judged *t, double missing)
{
    return sd_one_operation(t->name) + INHERITED * missing;
}

/* The noise may be of another seed or generator: the run goes on with theirs. */
static bool is_noise(const sd_judged *t) { return sd_glob_list("noise,*.noise", t->name); }

static sd_status run_right(sd_diagnosis *d)
{
    for (size_t i = 0; i < d->n; i++) {
        d->t[i].judged = true;
        if (sd_is_comparable(&d->t[i])) d->last = i;
    }
    d->compared = d->diverge = 0;
    sd_diagnosis_run(d);
    for (size_t i = 0, missing = 0; i < d->n && !d->c->err.status; i++) {
        sd_judged *t = &d->t[i];
        missing += !sd_is_comparable(t);
        if (t->ours < 0) continue;
        d->compared++;
        t->diverges = !(sd_judged_error(t) <= bound_of(t, (double)missing / (double)(i + 1))) && !is_noise(t);
        d->diverge += t->diverges;
    }
    return d->c->err.status;
}
/* ---------------------------------------------------------------------------------- the interface */

void sd_diagnose_options_init_sized(sd_diagnose_options *o, size_t size)
{
    const sd_diagnose_options fresh = {.size = sizeof fresh, .columns = 80};
    sd_copy_struct(o, size, &fresh, sizeof fresh);
    o->size = size;
}

int sd_get_mistake_sized(int i, sd_mistake_info *info, size_t size)
{
    if (i < 0 || (size_t)i >= sd_mistake_count || !info) return 0;
    const sd_mistake *m = &sd_mistakes[i];
    const sd_mistake_info all = {m->id, m->trap, m->what, m->source, m->signature, m->where};
    sd_copy_struct(info, size, &all, sizeof all);
    return 1;
}

/* The tensors of our run, and theirs beside them. */
static sd_status list_tensors(sd_diagnosis *d, sd_error *e)
{
    for (size_t i = 0; i < d->n && d->t; i++) free(d->t[i].kept);
    free(d->t);
    d->t = NULL;
    d->n = 0;
    sd_tensors_close(&d->run);
    d->run = (sd_tensors){.n = 0};
    return sd_rehearse_tensors(d->c, &d->asked, &d->run) ? e->status : match(d, e);
}

static sd_status open_both(sd_diagnosis *d, const char *theirs, sd_error *e)
{
    bool sizes = false;
    if (d->c->run.be != &sd_backend_cpu)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "mistakes are made on the CPU: open the model with device \"cpu\"");
    if (sd_tensors_open(&d->theirs, theirs, e) || sd_settings_of_header(d, e) || list_tensors(d, e)
        || sd_settings_of_numbers(d, &sizes, e))
        return e->status;
    if (sizes && (list_tensors(d, e) || sd_settings_of_numbers(d, &sizes, e))) return e->status;
    for (size_t i = 0; i < d->n; i++)
        if (sd_is_comparable(&d->t[i])) return SD_OK;
    return sd_fail(e, SD_ERR_FORMAT, "no tensor of %.120s has the name and the shape of one of this run's %zu: the run "
                   "has \"%.80s\", it has \"%.80s\"", theirs, d->n, d->n ? d->t[0].name : "nothing",
                   d->theirs.n ? d->theirs.at[0]->name : "nothing");
}

static void close_both(sd_diagnosis *d)
{
    sd_tensors_close(&d->theirs);
    sd_tensors_close(&d->run);
    sd_index_free(&d->notes);
    for (int i = 0; i < d->n_findings; i++) free(d->finding[i].signs.s);
    for (int i = 0; i < d->n_other; i++) {
        free(d->other[i].theirs);
        free(d->other[i].here);
    }
    for (size_t i = 0; i < d->n; i++) free(d->t[i].kept);
    free(d->t);
    free(d->room[0]);
    free(d->room[1]);
    sd_wrong_free(&d->wrong);
    sd_params_free(&d->asked);
    free(d);
}

sd_status sd_diagnose(sd_ctx *c, const sd_params *params, const char *theirs, const sd_diagnose_options *options,
                      char **text, int *found)
{
    sd_text t = {0};
    sd_diagnose_options o;
    sd_diagnose_options_init_sized(&o, sizeof o);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    if (text) *text = NULL;
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "theirs", theirs)
        || sd_check_not_null(c, "text", text) || sd_check_not_null(c, "found", found))
        return sd_end(c);
    double start = sd_now();
    sd_diagnosis *d = calloc(1, sizeof *d);
    if (!d) {
        sd_fail(&c->err, SD_ERR_MEMORY, "no memory for a diagnosis");
        return sd_end(c);
    }
    d->c = c;
    sd_params_init(&d->asked);
    sd_params_copy(&d->asked, params);
    d->may_keep = fmin((double)sd_memory_left() / 4, 4e9);
    if (!open_both(d, theirs, &c->err) && !run_right(d)) {
        sd_settings_of_noise(d);
        if (sd_settings_of_sampler(d) && !list_tensors(d, &c->err)) run_right(d);
        if (!c->err.status) sd_find_mistakes(d);
    }
    if (!c->err.status) {
        const sd_inspect_options style = {.size = sizeof style, .columns = o.columns < 40 ? 40 : o.columns};
        d->seconds = sd_now() - start;
        *found = d->diverge > 0 && !sd_only_arithmetic(d);
        for (int i = 0; i < d->n_other; i++) *found |= !d->other[i].harmless;
        if (o.json) sd_diagnosis_json(d, &t);
        else sd_diagnosis_text(d, &style, o.all != 0, &t);
        if (t.failed) sd_fail(&c->err, SD_ERR_MEMORY, "no memory to tell what was found");
    }
    if (c->err.status) free(t.s);
    else *text = t.s;
    close_both(d);
    return sd_end(c);
}
