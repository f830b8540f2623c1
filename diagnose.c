/* diagnose.c - floor 6: sd_diagnose: which known mistake makes our run agree with a foreign trace?
 *
 * Our run goes on with their numbers after every tensor that they have, so each tensor is computed from their own
 * inputs and judged alone: an error is what was done there, nothing is inherited. At the first tensor that diverges
 * each mistake that could show there is made on purpose, in a run of which only the parts that are looked at are
 * computed. A mistake explains the share 1 - |theirs - wrong|^2 / |theirs - ours|^2 of the residual. What the best one
 * explains is set aside, and the next tensor that diverges is taken, until nothing is left. */
#include "diagnose.h"
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tensor is computed with up to so many before it: queries, keys and values are computed together and shown one after
 * the other, and a mistake in the values shows only in the attention's result. */
enum { WINDOW = 4 };

/* Where nothing before a tensor is theirs, float32 may be off by so much more than sd_one_operation says. */
static const double INHERITED = 1e-4;
static const double HEARD = 0.7;   /* one below the bounds must explain so much of all its places together */
static const double PLACE = 0.5;   /* at a single tensor this says that it is made there; as much more, that not */

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

static bool comparable(const sd_judged *t) { return t->theirs && !t->other_shape; }

/* Has it numbers of another evaluation than that of `at`? */
static bool same_step(const sd_diagnosis *d, size_t i, size_t at)
{
    const char *a = d->t[i].name, *b = d->t[at].name;
    if (!sd_begins_with(a, "step.") || !sd_begins_with(b, "step.")) return true;
    return strcspn(a + 5, ".") == strcspn(b + 5, ".") && strncmp(a, b, 6 + strcspn(a + 5, ".")) == 0;
}

/* --------------------------------------------------------------------------------------- the sink */

/* Sets what the backend does between tensor at - 1 and tensor `at`. */
static void set_next(sd_diagnosis *d)
{
    bool needed = false;
    for (size_t i = d->at; i < d->n && i < d->at + WINDOW; i++) needed |= d->t[i].needed;
    d->wrong.skip = !needed;
    for (int k = 0; k < SD_MOST_WRONG; k++) d->wrong.here[k] = d->at < d->n && (d->t[d->at].place >> k & 1);
}

static sd_status make_room(sd_diagnosis *d, size_t n, sd_error *e)
{
    for (int k = 0; k < 2 && n > d->room_size; k++) {
        free(d->room[k]);
        d->room[k] = malloc(n * sizeof *d->room[k]);
    }
    if (n > d->room_size) d->room_size = d->room[0] && d->room[1] ? n : 0;
    return n <= d->room_size ? SD_OK : sd_fail(e, SD_ERR_MEMORY, "no memory for the numbers of a tensor");
}

/* Their numbers of a tensor, in room[0]. */
static sd_status their_numbers(sd_diagnosis *d, const sd_judged *t, sd_error *e)
{
    sd_borrowed b = {.file = {0}};
    if (make_room(d, (size_t)sd_entry_numbers(t->theirs), e)) return e->status;
    if (!sd_tensors_borrow(&d->theirs, t->theirs, &b, e)) sd_entry_to_floats(&b.of, d->room[0]);
    sd_tensors_return(&d->theirs, &b);
    return e->status;
}

static size_t channels_of(const sd_traced *x) { return x->nd > 1 ? (size_t)x->dim[1] : 1; }

/* noise_pred as u + k (c - u) of the answers that they have, or we. */
static void guide(sd_diagnosis *d, const sd_mistake *m, float *x, size_t n, sd_error *e)
{
    size_t i = d->at;
    while (i > 0 && !sd_ends_with(d->t[i - 1].name, ".unet.conv_out")) i--;
    double w = d->p.guidance.scale, k = m->value + m->power * w;
    if (!i || !comparable(&d->t[i - 1]) || sd_entry_numbers(d->t[i - 1].theirs) != 2 * n
        || their_numbers(d, &d->t[i - 1], e))
        return;
    for (size_t j = 0; j < n; j++) {
        double u = d->room[0][j], c = d->room[0][n + j];
        x[j] = (float)(u + k * (c - u));
    }
}

/* x as the mistake leaves it. */
static void spoil(sd_diagnosis *d, const sd_mistake *m, const sd_traced *t, float *x, size_t n, sd_error *e)
{
    size_t half = n / 2, c = channels_of(t), pixels = n / (size_t)t->dim[0] / c;
    for (size_t i = 0; i < n && m->seen == SD_SEEN_TIMES; i++) x[i] = (float)(x[i] * m->value);
    for (size_t i = 0; i < n && m->seen == SD_SEEN_BYTES; i++)
        x[i] = (float)((m->value > 0 ? rint(255.0 * x[i]) : floor(255.0 * x[i])) / 255);
    for (size_t i = 0; i < half && m->seen == SD_SEEN_HALVES && t->dim[0] % 2 == 0; i++) {
        float swap = x[i];
        x[i] = x[half + i];
        x[half + i] = swap;
    }
    for (size_t i = 0; i < n && m->seen == SD_SEEN_REVERSED; i++) {
        size_t channel = i / pixels % c, other = i + (c - 1 - channel) * pixels - channel * pixels;
        if (other <= i) continue;
        float swap = x[i];
        x[i] = x[other];
        x[other] = swap;
    }
    if (m->seen == SD_SEEN_GUIDED) guide(d, m, x, n, e);
}

/* Our numbers of tensor i as floats in room[1], with what mistakes make of a tensor itself. */
static void our_numbers(sd_diagnosis *d, size_t i, const sd_traced *x, size_t n, sd_error *e)
{
    const int64_t *whole = x->data;
    const float *numbers = x->data;
    for (size_t k = 0; k < n; k++) d->room[1][k] = x->dtype == SD_I64 ? (float)whole[k] : numbers[k];
    for (int k = 0; k < SD_MOST_WRONG; k++)
        if (d->now[k] && d->now[k]->seen && (d->t[i].place >> k & 1)) spoil(d, d->now[k], x, d->room[1], n, e);
}

/* Compares tensor i, and lets the run go on with theirs. */
static sd_status judge(sd_diagnosis *d, size_t i, const sd_traced *x, float *writable, sd_error *e)
{
    sd_judged *t = &d->t[i];
    size_t n = sd_traced_numbers(x);
    if (!x->data || !comparable(t) || n != sd_entry_numbers(t->theirs) || make_room(d, n, e)) return e->status;
    if (t->judged) {
        sd_distance s;
        our_numbers(d, i, x, n, e);
        if (their_numbers(d, t, e)) return e->status;
        const sd_scaled theirs = {.of = {.dt = SD_F32, .nd = 1, .dim = {(int64_t)n}, .data = d->room[0],
                                         .bytes = n * sizeof(float)}},
                        ours = {.of = {.dt = SD_F32, .nd = 1, .dim = {(int64_t)n}, .data = d->room[1],
                                       .bytes = n * sizeof(float)}};
        if (sd_distance_of(&s, &theirs, &ours, e)) return e->status;
        if (s.odd[0] != s.odd[1]) s.squares += s.norm;   /* NaN or infinities on one side */
        if (s.norm > 0) t->norm = s.norm;
        *(d->now[0] ? &t->wrong : &t->ours) = s.squares;
        if (d->signs_of) sd_add_signs(d->room[0], d->room[1], t->nd, t->dim, &d->signs_of->signs);
    } else if (writable && their_numbers(d, t, e)) {
        return e->status;
    }
    if (writable) memcpy(writable, d->room[0], n * sizeof *writable);
    return e->status;
}

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    sd_diagnosis *d = user;
    size_t i = d->at;
    while (i < d->n && strcmp(d->t[i].name, x->name) != 0) i++;
    if (i == d->n) return e->status;   /* a run with other parameters makes more */
    d->at = i;
    judge(d, i, x, writable, e);
    d->at = i + 1;
    set_next(d);
    if (i < d->last || e->status) return e->status;
    d->stopped = true;
    return sd_fail(e, SD_ERR_CANCELLED, "all that is looked at has been seen");
}

/* ------------------------------------------------------------------------------------------- a run */

/* Gives d->p the value that the mistake says. */
static sd_status change_parameter(sd_diagnosis *d, const sd_mistake *m, sd_error *e)
{
    char key[64], error[512];
    const char *value = strchr(m->set, '=');
    snprintf(key, sizeof key, "%.*s", (int)(value - m->set), m->set);
    sd_status status = sd_params_set(&d->p, key, value + 1, error);
    return status ? sd_fail(e, status, "%s", error) : SD_OK;
}

static void take_mistakes(sd_diagnosis *d)
{
    double factor = d->c->model.vae->cfg.scaling_factor;
    for (int k = 0; k < SD_MOST_WRONG; k++) {
        const sd_mistake *m = d->now[k];
        d->wrong.op[k] = m ? m->op : (sd_wrong_op){SD_RIGHT, 0};
        if (m && m->op.kind && m->power) d->wrong.op[k].value = pow(factor, m->power);
        for (size_t i = 0; i < d->n; i++) {
            unsigned here = m && sd_glob_list(m->where, d->t[i].name);
            d->t[i].place = (unsigned char)((d->t[i].place & ~(1u << k)) | here << k);
        }
        if (m && m->set) change_parameter(d, m, &d->c->err);
    }
}

/* Runs ours with the mistakes d->now, as far as tensor d->last. An error that a mistake leads to is none of ours:
 * false then, and when the caller wants to stop. */
static bool run(sd_diagnosis *d)
{
    sd_ctx *c = d->c;
    sd_trace *t, *own_trace = c->run.trace;
    sd_log log = c->log;
    void (*progress)(void *, const sd_progress *) = c->progress;
    sd_params_init(&d->p);
    sd_params_copy(&d->p, d->given);
    d->p.copies = NULL;
    take_mistakes(d);
    const sd_sink sink = {.user = d, .see = see, .writes = true};
    if (sd_trace_new(&t, NULL, &sink, &c->err)) return false;
    d->wrong.cpu = c->cpu;
    d->at = 0;
    d->stopped = false;
    set_next(d);
    c->run.be = &sd_backend_wrong;
    c->run.device = &d->wrong;
    c->run.trace = t;
    c->progress = NULL;
    if (d->now[0]) c->log.fn = NULL;
    sd_run_pipeline(c, &d->p, NULL, NULL, 0);
    sd_trace_abort(t);
    c->cpu = d->wrong.cpu;   /* whose scratch may have grown */
    c->run.be = &sd_backend_cpu;
    c->run.device = &c->cpu;
    c->run.trace = own_trace;
    c->progress = progress;
    c->log = log;
    sd_params_free(&d->p);
    d->runs++;
    bool wanted = !sd_flag_get(&c->halt.stop);
    if (wanted && (d->stopped || (d->now[0] && c->err.status && c->err.status != SD_ERR_MEMORY))) {
        bool well = d->stopped;
        sd_error_clear(&c->err);
        return well;
    }
    return wanted && !c->err.status;
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
        d->t[i].needed = d->t[i].judged = true;
        if (comparable(&d->t[i])) d->last = i;
    }
    run(d);
    for (size_t i = 0, missing = 0; i < d->n && !d->c->err.status; i++) {
        sd_judged *t = &d->t[i];
        missing += !comparable(t);
        if (t->ours < 0) continue;
        d->compared++;
        t->diverges = !(sd_judged_error(t) <= bound_of(t, (double)missing / (double)(i + 1))) && !is_noise(t);
        d->diverge += t->diverges;
    }
    return d->c->err.status;
}

/* ------------------------------------------------------------------------------------- one mistake */

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
        size_t seen = 0;
        for (size_t k = i; here && k < d->n && seen < WINDOW; k++) {
            if (!comparable(&d->t[k])) continue;
            d->t[k].judged = true;
            shows |= k == at;
            seen++;
        }
    }
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        t->judged |= t->diverges && same_step(d, i, at);
        t->needed = t->judged || !comparable(t);
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
    if (!choose(d, f->at) || !run(d)) return false;
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
    for (size_t i = 0; i < d->n; i++) {
        d->t[i].judged = i == f->at;
        d->t[i].needed = i == f->at || !comparable(&d->t[i]);
    }
    d->last = f->at;
    d->signs_of = f;
    run(d);
    d->signs_of = NULL;
    if (f->signs.failed) sd_fail(&d->c->err, SD_ERR_MEMORY, "no memory for the signs of a difference");
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
            bool place = comparable(t) && (sd_glob_list(best->m[0]->where, t->name)
                                           || (best->m[1] && sd_glob_list(best->m[1]->where, t->name)));
            t->judged = t->by < 0 && (t->diverges || place);
            t->needed = t->judged || !comparable(t);
            if (t->judged) d->last = i;
        }
        run(d);
        memset(d->now, 0, sizeof d->now);
    }
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        if (t->by >= 0 || !named || !is_other(t) || explains(t) < (t->diverges ? SD_NAMED : PLACE)) continue;
        t->by = number;
        f->explained++;
    }
    d->t[f->at].by = number;
}

static void find_mistakes(sd_diagnosis *d)
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
        t->judged = comparable(t) && t->by < 0 && sd_glob_list(m->where, t->name);
        t->needed = t->judged || !comparable(t);
        t->wrong = -1;
        if (t->judged) d->last = i;
    }
    *r = (sd_tried){.m = {m, NULL}, .at = d->n, .not_at = d->n};
    if (!run(d)) return d->n;
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

static void find_all(sd_diagnosis *d)
{
    find_mistakes(d);
    while (d->n_findings < SD_MOST_FINDINGS && find_subtle(d)) continue;
    memset(d->now, 0, sizeof d->now);
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

static sd_status open_both(sd_diagnosis *d, const char *theirs, sd_error *e)
{
    if (d->c->run.be != &sd_backend_cpu)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "mistakes are made on the CPU: open the model with device \"cpu\"");
    if (sd_tensors_open(&d->theirs, theirs, e) || sd_rehearse_tensors(d->c, d->given, &d->run) || match(d, e))
        return e->status;
    for (size_t i = 0; i < d->n; i++)
        if (comparable(&d->t[i])) return SD_OK;
    return sd_fail(e, SD_ERR_FORMAT, "no tensor of %.120s has the name and the shape of one of this run's %zu: the run "
                   "has \"%.80s\", it has \"%.80s\"", theirs, d->n, d->n ? d->t[0].name : "nothing",
                   d->theirs.n ? d->theirs.at[0]->name : "nothing");
}

static void close_both(sd_diagnosis *d)
{
    sd_tensors_close(&d->theirs);
    sd_tensors_close(&d->run);
    for (int i = 0; i < d->n_findings; i++) free(d->finding[i].signs.s);
    free(d->t);
    free(d->room[0]);
    free(d->room[1]);
    sd_wrong_free(&d->wrong);
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
    d->given = params;
    if (!open_both(d, theirs, &c->err) && !run_right(d)) find_all(d);
    if (!c->err.status) {
        const sd_inspect_options style = {.size = sizeof style, .columns = o.columns < 40 ? 40 : o.columns};
        d->seconds = sd_now() - start;
        *found = d->diverge > 0;
        if (o.json) sd_diagnosis_json(d, &t);
        else sd_diagnosis_text(d, &style, o.all != 0, &t);
        if (t.failed) sd_fail(&c->err, SD_ERR_MEMORY, "no memory to tell what was found");
    }
    if (c->err.status) free(t.s);
    else *text = t.s;
    close_both(d);
    return sd_end(c);
}
