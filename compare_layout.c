/* compare_layout.c - floor 6: the same numbers in another layout: channels last, transposed, halves of the batch
 * exchanged. A layout is taken if it brings MINE much nearer to REF; numbers that have nothing to do with each other
 * are about sqrt(2) apart in relative L2. */
#include "compare.h"

#include <math.h>
#include <string.h>

static const double TRY_ABOVE = 0.1, MUCH_NEARER = 0.1, ALIKE = 0.5;

/* In which order REF's dimensions lie in MINE's memory, the outermost first. */
static const struct layout { const char *name; int nd, order[4]; } layouts[] = {
    {"channels last", 4, {0, 2, 3, 1}}, {"channels first", 4, {0, 3, 1, 2}},
    {"rows and columns exchanged", 4, {0, 1, 3, 2}}, {"transposed", 3, {0, 2, 1}},
    {"the batch behind the sequence", 3, {1, 0, 2}}, {"transposed", 2, {1, 0}},
};

/* MINE's numbers as a tensor of REF's shape. */
typedef struct view { sd_entry of; int64_t stride[8]; } view;

static view view_as(const sd_entry *mine, const sd_entry *ref, const int *order)
{
    view v = {.of = *mine};
    int64_t step = 1;
    v.of.nd = ref->nd;
    memcpy(v.of.dim, ref->dim, sizeof ref->dim);
    for (int i = ref->nd; i-- > 0;) {
        int d = order ? order[i] : i;
        v.stride[d] = step;
        step *= ref->dim[d];
    }
    return v;
}

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
    view v = view_as(r->mine, r->ref, order);
    if (order) v.of.stride = v.stride;
    const sd_scaled a = {.of = *r->ref}, b = {.of = v.of};
    sd_distance d;
    if (sd_distance_within(&d, &a, &b, within, e) || !(sd_distance_relative(&d) < *best)) return e->status;
    *best = sd_distance_relative(&d);
    uint64_t at = d.at >= 0 ? (uint64_t)d.at : 0;
    take(r, &d, name, order, sd_entry_number(r->ref, at), sd_entry_number(&v.of, at));
    return SD_OK;
}

/* [negative, positive] against [positive, negative]. */
static sd_status try_halves(sd_compared *r, const sd_tolerance *within, double *best, sd_error *e)
{
    sd_distance whole = {.at = -1}, d;
    sd_scaled a, b;
    if (r->ref->dim[0] % 2 || r->ref->stride || sd_dtype_block(r->ref->dt) > 1) return e->status;
    for (int k = 0; k < 2; k++) {
        a = (sd_scaled){.of = half_of(r->ref, k)};
        b = (sd_scaled){.of = half_of(r->mine, !k)};
        if (sd_distance_within(&d, &a, &b, within, e)) return e->status;
        sd_distance_join(&whole, &d, k ? sd_entry_numbers(&a.of) : 0);
    }
    if (!(sd_distance_relative(&whole) < *best)) return e->status;
    *best = sd_distance_relative(&whole);
    uint64_t half = sd_entry_numbers(&a.of), at = whole.at >= 0 ? (uint64_t)whole.at : 0;
    take(r, &whole, "halves of the batch exchanged", NULL, sd_entry_number(r->ref, at),
         sd_entry_number(r->mine, at < half ? at + half : at - half));
    return SD_OK;
}

sd_status sd_compare_layouts(sd_compared *r, const sd_tolerance *within, sd_error *e)
{
    bool shaped = r->verdict == SD_AGREES;
    double best = shaped ? MUCH_NEARER * r->error : ALIKE;
    uint64_t n = sd_entry_numbers(r->ref);
    if (best > ALIKE) best = ALIKE;
    if ((shaped && !(r->error > TRY_ABOVE)) || n == 0 || n != sd_entry_numbers(r->mine) || r->mine->stride ||
        sd_dtype_block(r->mine->dt) > 1 || r->ref->nd == 0)
        return e->status;
    if (!shaped) try_view(r, "another shape", NULL, within, &best, e);
    for (size_t i = 0; i < SD_COUNT(layouts) && !e->status; i++)
        if (layouts[i].nd == r->ref->nd) try_view(r, layouts[i].name, layouts[i].order, within, &best, e);
    if (shaped && !e->status) try_halves(r, within, &best, e);
    if (r->layout) r->verdict = SD_AGREES;
    return e->status;
}

bool sd_layout_view(const sd_compared *r, sd_entry *view_of, int64_t stride[8])
{
    *view_of = *r->mine;
    if (r->layout && !r->order && sd_same_shape(r->ref->nd, r->ref->dim, r->mine->nd, r->mine->dim)) return false;
    if (!r->layout) return true;
    view v = view_as(r->mine, r->ref, r->order);
    memcpy(stride, v.stride, sizeof v.stride);
    *view_of = v.of;
    if (r->order) view_of->stride = stride;
    return true;
}
