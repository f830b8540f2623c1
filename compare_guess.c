/* compare_guess.c - floor 6: which tensors of two traces are the same, where names do not tell: by their order, their
 * shapes in any layout, and what their numbers are like. Each guess is said.
 *
 * Both lists are walked through in order; of all ways to pair them without crossing, the one of the largest sum of
 * scores is taken [Needleman & Wunsch 1970, without a price for gaps]. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Only where fewer than this share of the shorter list has found its like. Two correct runs of another layout have the
 * same mean and deviation, but for float32's errors. */
static const double FEW = 0.1, CLOSE = 0.02;
enum { SHAPE = 1, NUMBERS = 8 };
static const size_t MOST_CELLS = (size_t)1 << 24;

typedef struct looks { size_t place; const sd_entry *of; int nd; int64_t dim[8]; double mean, std; } looks;

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static sd_status look(looks *l, const sd_tensors *t, size_t place, sd_error *e)
{
    sd_borrowed b;
    sd_values v = {0};
    *l = (looks){.place = place, .of = t->at[place]};
    for (int i = 0; i < l->of->nd; i++)
        if (l->of->dim[i] != 1) l->dim[l->nd++] = l->of->dim[i];
    qsort(l->dim, (size_t)l->nd, sizeof *l->dim, by_size);
    if (l->of->dt == SD_DTYPE_UNKNOWN) return e->status;
    if (!sd_tensors_borrow(t, l->of, &b, e)) sd_values_of(&v, &b.of, e);
    sd_tensors_return(t, &b);
    l->mean = v.mean;
    l->std = v.std;
    return e->status;
}

static int score(const looks *a, const looks *b)
{
    if (a->nd != b->nd || memcmp(a->dim, b->dim, sizeof a->dim) != 0) return 0;
    double room = CLOSE * (a->std + fabs(a->mean));
    bool close = fabs(a->mean - b->mean) <= room && fabs(a->std - b->std) <= room;
    return SHAPE + (close ? NUMBERS : 0);
}

/* Tensors of one side whose names the other has not. */
static sd_status list(looks **out, size_t *n, const sd_names *of, const sd_names *other, const sd_tensors *t,
                      sd_error *e)
{
    char **sorted = sd_sorted_names(other, e);
    *n = 0;
    *out = malloc((of->n + 1) * sizeof **out);
    if (!*out) sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu tensors", of->n);
    for (size_t i = 0; i < of->n && sorted && *out; i++) {
        if (!sd_has_name(sorted, other->n, of->name[i]) && look(&(*out)[(*n)++], t, i, e)) break;
    }
    free(sorted);
    return e->status;
}

/* best[i][k]: the largest sum for a[i ..] and b[k ..]. */
static void fill(uint32_t *best, const looks *a, size_t m, const looks *b, size_t n)
{
    for (size_t i = m + 1; i-- > 0;)
        for (size_t k = n + 1; k-- > 0;) {
            uint32_t *at = &best[i * (n + 1) + k];
            *at = 0;
            if (i == m || k == n) continue;
            uint32_t skip_a = at[n + 1], skip_b = at[1], both = at[n + 2] + (uint32_t)score(&a[i], &b[k]);
            *at = skip_a > skip_b ? skip_a : skip_b;
            if (score(&a[i], &b[k]) && both >= *at) *at = both;
        }
}

static sd_status take(sd_comparison *c, const looks *a, const looks *b, const sd_names *ref, sd_names *mine,
                      sd_error *e)
{
    char *name = sd_strdup(ref->name[a->place]);
    if (!name) return sd_fail(e, SD_ERR_MEMORY, "no memory to match names");
    free(mine->name[b->place]);
    mine->name[b->place] = name;
    c->guessed[c->n_guessed++] = b->of;
    return SD_OK;
}

static sd_status pair_up(sd_comparison *c, const looks *a, size_t m, const looks *b, size_t n, const sd_names *ref,
                         sd_names *mine, sd_error *e)
{
    uint32_t *best = malloc((m + 1) * (n + 1) * sizeof *best);
    c->guessed = malloc((n + 1) * sizeof *c->guessed);
    if (!best || !c->guessed) sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu tensors with %zu", m, n);
    else fill(best, a, m, b, n);
    for (size_t i = 0, k = 0; i < m && k < n && !e->status;) {
        const uint32_t *at = &best[i * (n + 1) + k];
        uint32_t both = (uint32_t)score(&a[i], &b[k]);
        if (both && *at == at[n + 2] + both) take(c, &a[i++], &b[k++], ref, mine, e);
        else if (*at == at[n + 1]) i++;
        else k++;
    }
    free(best);
    return e->status;
}

sd_status sd_compare_guess(sd_comparison *c, const sd_names *ref, sd_names *mine, sd_error *e)
{
    looks *a = NULL, *b = NULL;
    size_t m = 0, n = 0, fewer = ref->n < mine->n ? ref->n : mine->n;
    char **sorted = sd_sorted_names(ref, e);
    size_t found = 0;
    for (size_t i = 0; i < mine->n && sorted; i++)
        found += sd_has_name(sorted, ref->n, mine->name[i]);
    free(sorted);
    if (e->status || (double)found >= FEW * (double)fewer) return e->status;
    if ((ref->n + 1) * (mine->n + 1) > MOST_CELLS) {
        c->not_guessed = mine->n - found;
        return e->status;
    }
    if (!list(&a, &m, ref, mine, &c->ref, e) && !list(&b, &n, mine, ref, &c->mine, e))
        pair_up(c, a, m, b, n, ref, mine, e);
    free(a);
    free(b);
    return e->status;
}

bool sd_is_guess(const sd_comparison *c, const sd_compared *r)
{
    for (size_t i = 0; i < c->n_guessed; i++)
        if (c->guessed[i] == r->mine) return true;
    return false;
}
