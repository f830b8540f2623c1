/* diagnose_search.c - floor 6: which mistakes explain what diverges. At the first tensor that diverges each mistake
 * that could show there is made on purpose, in a run of which only the parts that are looked at are computed. A mistake
 * explains the share 1 - |theirs - wrong|^2 / |theirs - ours|^2 of the residual. What the best one explains is set
 * aside, and the next tensor that diverges is taken, until nothing is left. */
#include "diagnose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double HEARD = 0.7;   /* one below the bounds must explain so much of all its places together */
static const double PLACE = 0.5;   /* at a single tensor this says that it is made there; as much more, that not */

/* Has it numbers of another evaluation than that of `at`? */
static bool same_step(const sd_diagnosis *d, size_t i, size_t at)
{
    const char *a = d->t[i].name, *b = d->t[at].name;
    if (!sd_begins_with(a, "step.") || !sd_begins_with(b, "step.")) return true;
    return strcspn(a + 5, ".") == strcspn(b + 5, ".") && strncmp(a, b, 6 + strcspn(a + 5, ".")) == 0;
}
/* ------------------------------------------------------------------------------------- one mistake */

/* Does everything that comes behind follow from this one, and from no other before it? */
static bool is_narrow(const sd_diagnosis *d, size_t i)
{
    static const char names[] = "*.unet.conv_out,vae.*conv_out,vae.post_quant_conv,vae.decoder.conv_in,image";
    bool pooled = i + 1 < d->n && strcmp(d->t[i + 1].name, "pooled_prompt_embeds") == 0;
    return sd_glob_list(names, d->t[i].name) || (!pooled && strcmp(d->t[i].name, "prompt_embeds") == 0);
}

/* In how many tensors from i on a mistake at i would show: one that alters a traced tensor shows there alone. */
static size_t window_of(const sd_diagnosis *d, size_t i)
{
    for (int k = 0; k < SD_MOST_WRONG; k++)
        if (d->now[k] && !d->now[k]->seen && sd_glob_list(d->now[k]->where, d->t[i].name)) return SD_WINDOW;
    return sd_is_comparable(&d->t[i]) ? 1 : 0;
}

/* Which tensors a run with d->now looks at: those that diverge, in the step of `at`, and those where the mistake would
 * show. False: it cannot show at tensor `at`. */
static bool choose(sd_diagnosis *d, size_t at)
{
    bool shows = false;
    d->last = at;
    for (size_t i = 0; i < d->n; i++) d->t[i].judged = false;
    for (size_t i = 0; i < d->n; i++) {
        bool here = same_step(d, i, at) && ((d->now[0] && sd_glob_list(d->now[0]->where, d->t[i].name))
                                            || (d->now[1] && sd_glob_list(d->now[1]->where, d->t[i].name)));
        size_t window = here ? window_of(d, i) : 0;
        for (size_t k = i; k < d->n && window; k++) {
            if (!sd_is_comparable(&d->t[k])) continue;
            d->t[k].judged = true;
            shows |= k == at;
            window = is_narrow(d, k) ? 0 : window - 1;
        }
    }
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        t->judged |= t->diverges && same_step(d, i, at);
        t->wrong = -1;
        if (t->judged) d->last = i;
    }
    return shows;
}

/* The share of the residual at tensor i that the mistake explains. */
static double explains(const sd_judged *t) { return t->wrong < 0 || !(t->ours > 0) ? 0 : 1 - t->wrong / t->ours; }

/* Does the mistake change anything there? */
static bool is_other(const sd_judged *t)
{
    return t->wrong >= 0 && fabs(t->wrong - t->ours) > 1e-6 * (t->wrong + t->ours);
}

static void weigh(const sd_diagnosis *d, size_t at, sd_tried *r)
{
    double ours = 0, wrong = 0;
    *r = (sd_tried){.m = {d->now[0], d->now[1]}, .first = explains(&d->t[at]), .at = d->n, .not_at = d->n};
    for (size_t i = 0; i < d->n; i++) {
        const sd_judged *t = &d->t[i];
        if (t->diverges && t->norm > 0) {
            ours += t->ours / t->norm;
            wrong += (t->wrong < 0 ? t->ours : t->wrong) / t->norm;
        }
        bool made = explains(t) >= PLACE;
        if (!is_other(t) || t->by >= 0 || (!made && -explains(t) < PLACE)) continue;   /* or it cannot be told */
        r->places++;
        r->made += made;
        size_t *first = made ? &r->at : &r->not_at;
        if (*first == d->n) *first = i;
    }
    r->all = ours > 0 ? 1 - wrong / ours : 0;
}

/* Explaining more at the tensor in question comes first, then being wrong at fewer places, then explaining more. */
static bool is_better(const sd_tried *a, const sd_tried *b)
{
    double near = a->first >= SD_NAMED && b->first >= SD_NAMED ? 0.02 : 1e-6;
    if (fabs(a->first - b->first) > near) return a->first > b->first;
    size_t wrong_a = a->places - a->made, wrong_b = b->places - b->made;
    if (wrong_a != wrong_b) return wrong_a < wrong_b;
    if (!a->m[1] != !b->m[1]) return !a->m[1];
    return a->all > b->all;
}

static void rank(sd_finding *f, const sd_tried *r)
{
    int i = f->n;
    if (!(r->first > 0)) return;
    while (i > 0 && is_better(r, &f->best[i - 1])) i--;
    if (i == SD_MOST_TRIED) return;
    f->n = f->n < SD_MOST_TRIED ? f->n + 1 : f->n;
    memmove(&f->best[i + 1], &f->best[i], (size_t)(f->n - i - 1) * sizeof *f->best);
    f->best[i] = *r;
}

/* Runs with d->now and puts what that explains in its place. False: it cannot be made, or cannot show at f->at. */
static bool try_mistake(sd_diagnosis *d, sd_finding *f)
{
    sd_tried r;
    if (!choose(d, f->at) || !sd_diagnosis_run(d)) return false;
    weigh(d, f->at, &r);
    f->tried++;
    rank(f, &r);
    return is_other(&d->t[f->at]);
}

/* ------------------------------------------------------------------------------------ one divergence */

/* The mistakes that change a tensor, those that explain most of it first: of these pairs are made. */
enum { MOST_PAIRED = 8 };
typedef struct candidates { const sd_mistake *m[MOST_PAIRED]; double explains[MOST_PAIRED]; int n; } candidates;

static void add_candidate(candidates *c, const sd_mistake *m, double share)
{
    int i = c->n;
    while (i > 0 && share > c->explains[i - 1]) i--;
    if (i == MOST_PAIRED) return;
    c->n = c->n < MOST_PAIRED ? c->n + 1 : c->n;
    size_t behind = (size_t)(c->n - i - 1);
    memmove(&c->m[i + 1], &c->m[i], behind * sizeof *c->m);
    memmove(&c->explains[i + 1], &c->explains[i], behind * sizeof *c->explains);
    c->m[i] = m;
    c->explains[i] = share;
}

/* All mistakes alone; then, if none is the one, pairs. */
static void try_all(sd_diagnosis *d, sd_finding *f)
{
    candidates can = {.n = 0};
    for (size_t i = 0; i < sd_mistake_count && !d->c->err.status; i++) {
        d->now[0] = &sd_mistakes[i];
        if (try_mistake(d, f)) add_candidate(&can, d->now[0], explains(&d->t[f->at]));
    }
    bool done = sd_is_named(f);
    for (int i = 0; i < can.n && !done; i++)
        for (int k = i + 1; k < can.n && !d->c->err.status; k++) {
            d->now[0] = can.m[i];
            d->now[1] = can.m[k];
            try_mistake(d, f);
        }
    d->now[0] = d->now[1] = NULL;
}

/* Our run without a mistake once more, as far as that tensor, for the signs of the difference. */
static void look_for_signs(sd_diagnosis *d, sd_finding *f)
{
    for (size_t i = 0; i < d->n; i++) d->t[i].judged = i == f->at;
    d->last = f->at;
    d->signs_of = f;
    sd_diagnosis_run(d);
    d->signs_of = NULL;
    if (f->signs.failed) sd_fail(&d->c->err, SD_ERR_MEMORY, "no memory for the signs of a difference");
}

/* A name with the number of its step left out; of "latents.3" too. */
static const char *behind_step(const char *name)
{
    static const char *const numbered[] = {"step.", "latents.", "timestep."};
    for (size_t i = 0; i < SD_COUNT(numbered); i++) {
        const char *number = sd_begins_with(name, numbered[i]) ? name + strlen(numbered[i]) : NULL;
        size_t digits = number ? strspn(number, "0123456789") : 0;
        if (digits) return number[digits] ? number + digits : numbered[i];
    }
    return name;
}

/* Sets aside what the best one explains, with another run of it over all steps. */
static void set_aside(sd_diagnosis *d, sd_finding *f)
{
    const sd_tried *best = &f->best[0];
    int number = (int)(f - d->finding);
    bool named = sd_is_named(f);
    if (named) {
        memcpy(d->now, best->m, sizeof d->now);
        choose(d, f->at);
        for (size_t i = 0; i < d->n; i++) {
            sd_judged *t = &d->t[i];
            bool place = sd_is_comparable(t) && (sd_glob_list(best->m[0]->where, t->name)
                                           || (best->m[1] && sd_glob_list(best->m[1]->where, t->name)));
            t->judged = t->by < 0 && (t->diverges || place);
            if (t->judged) d->last = i;
        }
        sd_diagnosis_run(d);
        memset(d->now, 0, sizeof d->now);
    }
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        if (t->by >= 0 || !named || !is_other(t) || explains(t) < (t->diverges ? SD_NAMED : PLACE)) continue;
        t->by = number;
        f->explained++;
    }
    d->t[f->at].by = number;
    for (size_t i = f->at + 1; i < d->n; i++) {   /* the same in other steps, and what is no number on from here */
        sd_judged *t = &d->t[i];
        bool same = !named && strcmp(behind_step(t->name), behind_step(d->t[f->at].name)) == 0;
        if (!t->diverges || t->by >= 0 || !(same || (d->t[f->at].odd && t->odd))) continue;
        t->by = number;
        f->again += same;
    }
}

static void explain_divergences(sd_diagnosis *d)
{
    for (size_t i = 0; i < d->n && d->n_findings < SD_MOST_FINDINGS && !d->c->err.status; i++) {
        if (!d->t[i].diverges || d->t[i].by >= 0) continue;
        sd_finding *f = &d->finding[d->n_findings++];
        *f = (sd_finding){.at = i};
        try_all(d, f);
        if (!d->c->err.status) look_for_signs(d, f);
        set_aside(d, f);
    }
    for (size_t i = 0; i < d->n; i++) d->unexplained += d->t[i].diverges && d->t[i].by < 0;
}

/* -------------------------------------------------------------------------- what is below the bounds
 * A mistake of few digits may lie below the bounds of float32 where it is made. But float32's own errors do not point
 * where the mistake does: over all places they are never explained by it. */

/* Tries a subtle mistake at all its places that nothing explains yet. Returns the first tensor that shows it, or
 * d->n. */
static size_t listen(sd_diagnosis *d, const sd_mistake *m, sd_tried *r)
{
    double ours = 0, wrong = 0;
    d->now[0] = m;
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        t->judged = sd_is_comparable(t) && t->by < 0 && sd_glob_list(m->where, t->name);
        t->wrong = -1;
        if (t->judged) d->last = i;
    }
    *r = (sd_tried){.m = {m, NULL}, .at = d->n, .not_at = d->n};
    if (!sd_diagnosis_run(d)) return d->n;
    for (size_t i = 0; i < d->n; i++) {
        const sd_judged *t = &d->t[i];
        if (!is_other(t) || !(t->norm > 0)) continue;
        bool made = explains(t) >= PLACE;
        ours += t->ours / t->norm;
        wrong += t->wrong / t->norm;
        r->made += made;
        r->places += made || -explains(t) >= PLACE;
        if (explains(t) > r->first) r->first = explains(t);
        size_t *first = made ? &r->at : &r->not_at;
        if (*first == d->n && (made || -explains(t) >= PLACE)) *first = i;
    }
    r->all = ours > 0 ? 1 - wrong / ours : 0;
    return r->at;
}

/* Does it explain most of the residual at its places, and none of them denies it? */
static bool is_heard(const sd_tried *r) { return r->all >= HEARD && r->made == r->places && r->made > 0; }

static bool find_subtle(sd_diagnosis *d)
{
    sd_finding *f = &d->finding[d->n_findings];
    *f = (sd_finding){.subtle = true};
    for (size_t i = 0; i < sd_mistake_count && !d->c->err.status; i++) {
        sd_tried r;
        if (!sd_mistakes[i].subtle) continue;
        listen(d, &sd_mistakes[i], &r);
        f->tried++;
        if (is_heard(&r) && (!f->n || r.all > f->best[0].all)) {
            f->best[0] = r;
            f->n = 1;
        }
    }
    if (!f->n || d->c->err.status) return false;
    f->at = f->best[0].at;
    listen(d, f->best[0].m[0], &f->best[0]);
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        if (!is_other(t) || explains(t) < PLACE) continue;
        d->diverge += !t->diverges;
        t->diverges = true;
        t->by = d->n_findings;
        f->explained++;
    }
    d->n_findings++;
    return true;
}

void sd_find_mistakes(sd_diagnosis *d)
{
    explain_divergences(d);
    while (d->n_findings < SD_MOST_FINDINGS && find_subtle(d)) continue;
    memset(d->now, 0, sizeof d->now);
}
