/* compare_verdict.c - floor 6: which errors of a trace are no longer float32's own, and what the sums about a pair say.
 *
 * No single bound can tell: in correct float32 runs one tensor is 7e-5 away where its neighbours are 1e-6 away (the
 * gated product of a feed-forward layer, whose GELU has few digits where it is nearly 0); a wrong epsilon does less.
 * But float32's errors do not stay: what follows such a tensor is as good as what was before. So a tensor diverges if
 * its error is FAR times the level, the median of the good errors before it, or NEAR times, and most of those after it
 * are above KEPT times as well. The bounds were chosen on runs of 3 and 20 steps of weights/tiny against diffusers in
 * float32 and against --precise, one prompt and one seed. There the largest error is 70 levels, and of the eight
 * tensors behind one above KEPT levels at most a quarter are. What a run begins from is copied, not computed, and has
 * a bound of its own.
 *
 * Where the floor of a tensor is known, what float32 does to just that one, its error is compared with that instead,
 * and the bounds are narrower: FLOOR_FAR, FLOOR_NEAR and FLOOR_KEPT. docs/VALIDATING.md has the runs on which they were
 * chosen, and others by which they were judged. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_LEVEL = 1e-6;
/* Angles of sinusoids are up to 1000, so their float32 loses three digits: diffusers is 5.4e-6 off in time_proj, 1.4e-5
 * in the embedding of a guidance scale. */
static const char SINUSOIDS[] = "*time_proj,*timestep_cond,*time_embedding.cond_proj";
static const double SINUSOIDS_LEVEL = 5e-6;
/* In levels, and in floors. */
typedef struct bounds { double far, near, kept; } bounds;
static const bounds of_levels = {300, 10, 5}, of_floors = {25, 5, 2.5};
enum { WINDOW = 64, AFTER = 8 };

bool sd_is_input(const char *name)
{
    return sd_glob_list("tokens,noise,timestep.*,*.tokens,*.noise,*.timestep.*", name);
}

/* The last errors of tensors that agree. */
typedef struct window { double error[WINDOW]; size_t n; } window;

int sd_by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double level_of(const window *w)
{
    double sorted[WINDOW];
    size_t n = w->n < WINDOW ? w->n : WINDOW;
    if (!n) return LEAST_LEVEL;
    memcpy(sorted, w->error, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, sd_by_size);
    double median = sorted[n / 2];
    return median > LEAST_LEVEL ? median : LEAST_LEVEL;
}

static const bounds *bounds_of(const sd_compared *r) { return r->floor > 0 ? &of_floors : &of_levels; }

/* Is it above what the next tensors of a fault are? level: before the fault. */
static bool is_kept(const sd_compared *r, double level)
{
    return r->error > bounds_of(r)->kept * (r->floor > 0 ? r->floor : level);
}

/* Are at least half of the next tensors above KEPT? What has another shape counts as one. */
static bool stays(const sd_comparison *c, size_t i, double level)
{
    int seen = 0, above = 0;
    for (size_t k = i + 1; k < c->n && seen < AFTER; k++) {
        const sd_compared *r = &c->row[k];
        if (!r->ref || !r->mine || sd_is_input(sd_compared_name(r))) continue;
        seen++;
        above += !sd_has_error(r) || is_kept(r, level);
    }
    return 2 * above >= seen;
}

static bool diverges(const sd_comparison *c, size_t i)
{
    const sd_compared *r = &c->row[i];
    if (sd_is_input(sd_compared_name(r))) return r->error > SD_INPUT_ERROR;
    if (c->apart) return r->error > r->level;
    if (sd_times(r) > bounds_of(r)->far) return true;
    return sd_times(r) > bounds_of(r)->near && stays(c, i, r->level);
}

static void note(sd_comparison *c, size_t i)
{
    const sd_compared *r = &c->row[i];
    c->count[r->verdict]++;
    if (sd_has_error(r) && (c->worst == c->n || r->error > c->row[c->worst].error)) c->worst = i;
    if (c->first != c->n) return;
    if (sd_is_fault(r)) c->first = i;
    else if (r->verdict == SD_AGREES) c->good = i;
}

void sd_compare_judge(sd_comparison *c)
{
    window w = {.n = 0};
    c->first = c->good = c->worst = c->n;
    memset(c->count, 0, sizeof c->count);
    for (size_t i = 0; i < c->n; i++) {
        sd_compared *r = &c->row[i];
        if (!c->apart) {
            r->level = level_of(&w);
            if (r->level < SINUSOIDS_LEVEL && sd_glob_list(SINUSOIDS, sd_compared_name(r))) r->level = SINUSOIDS_LEVEL;
        }
        if (sd_has_error(r)) {
            r->verdict = diverges(c, i) ? SD_DIVERGES : SD_AGREES;
            if (r->verdict == SD_AGREES && !sd_is_input(sd_compared_name(r))) w.error[w.n++ % WINDOW] = r->error;
        }
        note(c, i);
    }
}

size_t sd_odd_in_both(const sd_comparison *c, size_t *first)
{
    size_t n = 0;
    for (size_t i = c->n; i-- > 0;) {
        const sd_compared *r = &c->row[i];
        if (!sd_has_error(r) || !r->d.odd[0] || !r->d.odd[1]) continue;
        *first = i;
        n++;
    }
    return n;
}

void sd_compare_bounds(const sd_comparison *c, double *near, double *far)
{
    const bounds *of = c->floors ? &of_floors : &of_levels;
    *near = c->apart ? 1 : of->near;
    *far = c->apart ? 1 : of->far;
}

/* ---------------------------------------------------------------------------------- what sums say */

double sd_cosine(const sd_distance *d)
{
    if (d->other == 0) return 1;
    double norms = sqrt(d->square[0] * d->square[1]);
    return norms > 0 ? d->product / norms : 0;
}

double sd_nmse_db(const sd_distance *d)
{
    if (d->squares == 0) return -HUGE_VAL;
    return d->norm > 0 ? 10 * log10(d->squares / d->norm) : HUGE_VAL;
}

bool sd_fit(const sd_distance *d, double *scale, double *shift, double *left)
{
    double n = (double)d->both;
    if (d->both < 3 || d->odd[0] || d->odd[1]) return false;
    double aa = d->square[0] - d->sum[0] * d->sum[0] / n, ab = d->product - d->sum[0] * d->sum[1] / n;
    double bb = d->square[1] - d->sum[1] * d->sum[1] / n;
    if (!(aa > 1e-12 * d->square[0]) || !(d->squares > 0)) return false;
    *scale = ab / aa;
    *shift = (d->sum[1] - *scale * d->sum[0]) / n;
    double rest = bb - ab * ab / aa;
    *left = rest > 0 ? rest / d->squares : 0;
    return true;
}
