/* compare_layout.c - floor 6: the same numbers in another layout: channels last, transposed, halves of the batch
 * exchanged, or both. A layout is taken if it brings MINE much nearer to REF; numbers that have nothing to do with each
 * other are about sqrt(2) apart in relative L2. */
#include "compare.h"

#include <math.h>
#include <string.h>

static const char EXCHANGED[] = "halves of the batch exchanged";
static const double TRY_ABOVE = 0.1, MUCH_NEARER = 0.1, ALIKE = 0.5;

/* In which order REF's dimensions lie in MINE's memory, the outermost first. both: with the halves of the batch
 * exchanged as well; NULL where the batch is not outermost. */
static const struct layout { const char *name, *both; int nd, order[4]; } layouts[SD_LAYOUTS - 1] = {
    {"channels last", "channels last and halves of the batch exchanged", 4, {0, 2, 3, 1}},
    {"channels first", "channels first and halves of the batch exchanged", 4, {0, 3, 1, 2}},
    {"rows and columns exchanged", "rows and columns, and halves of the batch exchanged", 4, {0, 1, 3, 2}},
    {"transposed", "transposed and halves of the batch exchanged", 3, {0, 2, 1}},
    {"the batch behind the sequence", NULL, 3, {1, 0, 2}},
    {"transposed", NULL, 2, {1, 0}},
};
static const char SHAPE[] = "another shape", SHAPE_BOTH[] = "another shape and halves of the batch exchanged";

/* The part of a tensor from its k-th half on. */
static sd_entry half_of(const sd_entry *x, int k)
{
    sd_entry h = *x;
    h.dim[0] /= 2;
    h.bytes /= 2;
    h.data = (const char *)x->data + (k ? h.bytes : 0);
    return h;
}

static void take(sd_compared *r, const sd_distance *d, const char *name, const int *order, double value_ref,
                 double value_mine)
{
    r->d = *d;
    r->error = sd_distance_relative(d);
    r->layout = name;
    r->order = order;
    r->value[0] = value_ref;
    r->value[1] = value_mine;
}

static sd_status try_view(sd_compared *r, const char *name, const int *order, const sd_tolerance *within, double *best,
                          sd_error *e)
{
    int64_t stride[8];
    const sd_scaled a = {.of = *r->ref};
    const sd_scaled b = {.of = sd_entry_in_order(r->mine, r->ref->nd, r->ref->dim, order, stride)};
    sd_distance d;
    if (sd_distance_within(&d, &a, &b, within, e) || !(sd_distance_relative(&d) < *best)) return e->status;
    *best = sd_distance_relative(&d);
    uint64_t at = d.at >= 0 ? (uint64_t)d.at : 0;
    take(r, &d, name, order, sd_entry_number(r->ref, at), sd_entry_number(&b.of, at));
    return SD_OK;
}

/* [negative, positive] against [positive, negative], each in this order. */
static sd_status try_halves(sd_compared *r, const char *name, const int *order, const sd_tolerance *within,
                            double *best, sd_error *e)
{
    sd_distance whole = {.at = -1}, d;
    sd_scaled a, b;
    int64_t stride[8];
    if (r->ref->dim[0] % 2 || r->ref->stride || sd_dtype_block(r->ref->dt) > 1) return e->status;
    for (int k = 0; k < 2; k++) {
        a = (sd_scaled){.of = half_of(r->ref, k)};
        const sd_entry half = half_of(r->mine, !k);
        b = (sd_scaled){.of = sd_entry_in_order(&half, a.of.nd, a.of.dim, order, stride)};
        if (sd_distance_within(&d, &a, &b, within, e)) return e->status;
        sd_distance_join(&whole, &d, k ? sd_entry_numbers(&a.of) : 0);
    }
    if (!(sd_distance_relative(&whole) < *best)) return e->status;
    *best = sd_distance_relative(&whole);
    uint64_t half = sd_entry_numbers(&a.of), at = whole.at >= 0 ? (uint64_t)whole.at : 0;
    const sd_entry view = sd_entry_in_order(r->mine, r->ref->nd, r->ref->dim, order, stride);
    take(r, &whole, name, order, sd_entry_number(r->ref, at),
         sd_entry_number(&view, at < half ? at + half : at - half));
    r->halves = true;
    return SD_OK;
}

static bool same_shape(const sd_compared *r)
{
    return sd_same_shape(r->ref->nd, r->ref->dim, r->mine->nd, r->mine->dim);
}

/* The layout that was found, if any, with the halves exchanged; NULL: the batch is not outermost in it. */
static const char *with_halves(const sd_compared *r)
{
    for (size_t i = 0; i < SD_COUNT(layouts); i++)
        if (r->order == layouts[i].order) return layouts[i].both;
    return same_shape(r) ? EXCHANGED : SHAPE_BOTH;
}

/* Where others have exchanged halves, those of one that are much alike may be exchanged, too. */
static sd_status try_halves_again(sd_compared *r, const sd_tolerance *within, sd_error *e)
{
    double best = MUCH_NEARER * r->error;
    const char *name = with_halves(r);
    if (r->halves || !name || !(r->error > 0) || r->ref->nd == 0 || r->mine->stride ||
        !(r->layout || same_shape(r)) || sd_dtype_block(r->mine->dt) > 1)
        return e->status;
    return try_halves(r, name, r->order, within, &best, e);
}

/* In every layout in which the batch is outermost. */
static sd_status try_all_halves(sd_compared *r, const sd_tolerance *within, double *best, sd_error *e)
{
    try_halves(r, same_shape(r) ? EXCHANGED : SHAPE_BOTH, NULL, within, best, e);
    for (size_t i = 0; i < SD_COUNT(layouts) && !e->status; i++)
        if (layouts[i].nd == r->ref->nd && layouts[i].both)
            try_halves(r, layouts[i].both, layouts[i].order, within, best, e);
    return e->status;
}

static sd_status try_all(sd_compared *r, const sd_tolerance *within, sd_error *e)
{
    bool shaped = r->verdict == SD_AGREES;
    double best = shaped ? MUCH_NEARER * r->error : ALIKE;
    uint64_t n = sd_entry_numbers(r->ref);
    if (best > ALIKE) best = ALIKE;
    if ((shaped && !(r->error > TRY_ABOVE)) || n == 0 || n != sd_entry_numbers(r->mine) || r->mine->stride ||
        sd_dtype_block(r->mine->dt) > 1 || r->ref->nd == 0)
        return e->status;
    if (!shaped) try_view(r, SHAPE, NULL, within, &best, e);
    for (size_t i = 0; i < SD_COUNT(layouts) && !e->status; i++)
        if (layouts[i].nd == r->ref->nd) try_view(r, layouts[i].name, layouts[i].order, within, &best, e);
    if (r->layout) best = MUCH_NEARER * r->error;
    if (!e->status && (!r->layout || r->error > TRY_ABOVE)) try_all_halves(r, within, &best, e);
    if (r->layout) r->verdict = SD_AGREES;
    return e->status;
}

sd_status sd_compare_layouts(sd_compared *r, const sd_tolerance *within, bool *exchanged, sd_error *e)
{
    if (!try_all(r, within, e) && *exchanged) try_halves_again(r, within, e);
    *exchanged |= r->halves;
    return e->status;
}

bool sd_layout_view(const sd_compared *r, sd_entry *view_of, int64_t stride[8])
{
    *view_of = *r->mine;
    if (r->halves) return false;
    if (!r->layout) return true;
    *view_of = sd_entry_in_order(r->mine, r->ref->nd, r->ref->dim, r->order, stride);
    return true;
}

/* ------------------------------------------------------------------------------------- by shape alone */

/* Dimensions without those of 1. */
static int plain_shape(int64_t *to, const sd_entry *x, const int *order)
{
    int n = 0;
    for (int i = 0; i < x->nd; i++) {
        int64_t dim = x->dim[order ? order[i] : i];
        if (dim != 1) to[n++] = dim;
    }
    return n;
}

/* Does b put dimensions of a together that follow each other, [2,64,64,4] as [2,4096,4]? */
static bool puts_together(const int64_t *a, int m, const int64_t *b, int n)
{
    int i = 0;
    for (int k = 0; k < n; k++) {
        int64_t product = 1;
        while (i < m && product < b[k]) product *= a[i++];
        if (product != b[k]) return false;
    }
    return i == m;
}

static bool fits(const sd_entry *ref, const sd_entry *mine, const int *order)
{
    int64_t a[8], b[8];
    int m = plain_shape(a, ref, order), n = plain_shape(b, mine, NULL);
    return puts_together(a, m, b, n) || puts_together(b, n, a, m);
}

size_t sd_layouts_by_shape(const sd_entry *ref, const sd_entry *mine, sd_layout found[SD_LAYOUTS])
{
    size_t n = 0;
    if (mine->stride || sd_dtype_block(mine->dt) > 1 || sd_entry_numbers(ref) != sd_entry_numbers(mine)) return 0;
    if (fits(ref, mine, NULL))
        found[n++] = (sd_layout){sd_same_shape(ref->nd, ref->dim, mine->nd, mine->dim) ? NULL : SHAPE, NULL};
    for (size_t i = 0; i < SD_COUNT(layouts); i++)
        if (layouts[i].nd == ref->nd && fits(ref, mine, layouts[i].order))
            found[n++] = (sd_layout){layouts[i].name, layouts[i].order};
    return n;
}
