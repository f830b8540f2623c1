/* compare_detail.c - floor 6: where in a tensor the error is: how large the differences are, in which channels, and
 * whether it is at the border, as where something is padded in another way. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A border or a channel stands out if its error is so many times that of the rest. */
static const double STANDS_OUT = 4;
enum { SHOWN = 6 };

void sd_detail_free(sd_detail *d)
{
    if (d) free(d->channel);
    free(d);
}

/* Sums while the numbers are walked through. */
typedef struct sums {
    sd_detail *d;
    double *norm;                                  /* of each channel */
    double side[4], inside, cell_n[SD_MAP][SD_MAP];
    double side_n[4], inside_n, rms;
} sums;

/* [N,C,H,W]; [N,T,C], [N,C]: the last. */
static int channel_dim(const sd_entry *x) { return x->nd == 4 ? 1 : x->nd == 2 || x->nd == 3 ? x->nd - 1 : -1; }

static void add_place(sums *s, int64_t row, int64_t column, double square)
{
    sd_detail *d = s->d;
    int64_t i = row * d->rows / d->height, k = column * d->columns / d->width;
    bool at[4] = {row == 0, row == d->height - 1, column == 0, column == d->width - 1};
    d->map[i][k] += square;
    s->cell_n[i][k]++;
    int sides = at[0] + at[1] + at[2] + at[3];
    for (int side = 0; side < 4 && sides == 1; side++) {   /* corners are on two */
        s->side[side] += at[side] ? square : 0;
        s->side_n[side] += at[side];
    }
    if (sides) return;
    s->inside += square;
    s->inside_n++;
}

static void add_bin(sums *s, double apart)
{
    double share = s->rms > 0 ? apart / s->rms : apart;
    int bin = share > 0 ? (int)floor(4 * (log10(share) + 10)) + 1 : 0;
    if (share == 0) return;   /* what is the same is no error */
    if (!(share < HUGE_VAL) || bin >= SD_BINS) bin = SD_BINS - 1;
    s->d->bin[bin < 0 ? 0 : bin]++;
}

/* One number of each side, at place `at`; inner: how many numbers of one channel follow each other. */
static void add_number(sums *s, uint64_t at, uint64_t inner, double x, double y)
{
    sd_detail *d = s->d;
    double apart = x == y || (x != x && y != y) ? 0 : fabs(x - y);
    add_bin(s, apart);
    if (!(apart < HUGE_VAL)) return;
    if (d->channels) {
        size_t c = (size_t)(at / inner % (uint64_t)d->channels);
        d->channel[c] += apart * apart;
        s->norm[c] += x * x;
    }
    if (d->rows)
        add_place(s, (int64_t)(at / (uint64_t)d->width % (uint64_t)d->height), (int64_t)(at % (uint64_t)d->width),
                  apart * apart);
}

static void walk(sums *s, const sd_entry *a, const sd_entry *b)
{
    double x[SD_PIECE], y[SD_PIECE];
    uint64_t n = sd_entry_numbers(a), inner = 1;
    for (int i = s->d->channel_dim + 1; i < a->nd; i++) inner *= (uint64_t)a->dim[i];
    for (uint64_t at = 0; at < n; at += SD_PIECE) {
        size_t some = n - at < SD_PIECE ? (size_t)(n - at) : SD_PIECE;
        sd_entry_piece(x, a, at, some);
        sd_entry_piece(y, b, at, some);
        for (size_t i = 0; i < some; i++) add_number(s, at + i, inner, x[i], y[i]);
    }
}

static void finish(sums *s)
{
    sd_detail *d = s->d;
    for (int64_t c = 0; c < d->channels; c++) d->channel[c] = s->norm[c] > 0 ? sqrt(d->channel[c] / s->norm[c]) : 0;
    for (int i = 0; i < d->rows; i++)
        for (int k = 0; k < d->columns; k++) d->map[i][k] = sqrt(d->map[i][k] / s->cell_n[i][k]);
    for (int i = 0; i < 4; i++) d->side[i] = s->side_n[i] > 0 ? sqrt(s->side[i] / s->side_n[i]) : 0;
    d->inside = s->inside_n > 0 ? sqrt(s->inside / s->inside_n) : 0;
}

static sd_status make(sd_comparison *c, const sd_compared *r, sd_error *e)
{
    sd_entry view;
    int64_t stride[8];
    if (!sd_layout_view(r, &view, stride)) return e->status;
    sd_detail *d = c->detail = calloc(1, sizeof *d);
    sums *s = calloc(1, sizeof *s);
    if (d) d->channel_dim = channel_dim(r->ref);
    if (d && d->channel_dim >= 0) d->channels = r->ref->dim[d->channel_dim];
    if (d) d->channel = calloc((size_t)d->channels + 1, sizeof *d->channel);
    if (s) s->norm = calloc((size_t)(d ? d->channels : 0) + 1, sizeof *s->norm);
    if (!d || !s || !d->channel || !s->norm) {
        sd_fail(e, SD_ERR_MEMORY, "no memory to look into %.100s", r->ref->name);
    } else {
        s->d = d;
        s->rms = r->d.n ? sqrt(r->d.norm / (double)r->d.n) : 0;
        bool picture = r->ref->nd == 4 && r->ref->dim[2] > 2 && r->ref->dim[3] > 2;
        d->height = picture ? r->ref->dim[2] : 0;
        d->width = picture ? r->ref->dim[3] : 0;
        d->rows = d->height < SD_MAP ? (int)d->height : SD_MAP;
        d->columns = d->width < SD_MAP ? (int)d->width : SD_MAP;
        walk(s, r->ref, &view);
        finish(s);
    }
    if (s) free(s->norm);
    free(s);
    return e->status;
}

sd_status sd_compare_detail(sd_comparison *c, sd_error *e)
{
    sd_borrowed a = {.file = {0}}, b = {.file = {0}};
    if (e->status || c->first == c->n || c->row[c->first].verdict != SD_DIVERGES) return e->status;
    sd_compared with_numbers = c->row[c->first];
    if (with_numbers.ref->nd == 0 || sd_entry_numbers(with_numbers.ref) < 2) return e->status;
    if (!sd_tensors_borrow(&c->ref, with_numbers.ref, &a, e) &&
        !sd_tensors_borrow(&c->mine, with_numbers.mine, &b, e)) {
        with_numbers.ref = &a.of;
        with_numbers.mine = &b.of;
        make(c, &with_numbers, e);
    }
    sd_tensors_return(&c->ref, &a);
    sd_tensors_return(&c->mine, &b);
    return e->status;
}

/* -------------------------------------------------------------------------------------- what stands out */

/* Channels whose error is far above that of most. */
static void add_channels(sd_text *t, const sd_detail *d)
{
    double *sorted = d->channels > 1 ? malloc((size_t)d->channels * sizeof *sorted) : NULL;
    if (!sorted) return;
    memcpy(sorted, d->channel, (size_t)d->channels * sizeof *sorted);
    qsort(sorted, (size_t)d->channels, sizeof *sorted, sd_by_size);
    double most = sorted[d->channels - 1], usual = sorted[d->channels / 2], bound = STANDS_OUT * usual;
    int64_t n = 0;
    for (int64_t i = 0; i < d->channels; i++) n += d->channel[i] > bound;
    sd_text_add(t, "; by channel the error is %.2g at the least, %.2g in most, %.2g at the most", sorted[0], usual,
                most);
    if (n) sd_text_add(t, "; it stands out in %lld of %lld:", (long long)n, (long long)d->channels);
    int64_t shown = 0;
    for (int64_t i = 0; i < d->channels && n && shown < SHOWN; i++)
        if (d->channel[i] > bound) sd_text_add(t, "%s %lld", shown++ ? "," : "", (long long)i);
    if (n > SHOWN) sd_text_add(t, " and more");
    free(sorted);
}

static void add_border(sd_text *t, const sd_detail *d)
{
    static const char *const name[] = {"top", "bottom", "left", "right"};
    int n = 0;
    double most = 0;
    for (int i = 0; i < 4; i++)
        if (d->side[i] > STANDS_OUT * d->inside) {
            sd_text_add(t, "%s%s", n++ ? ", " : "; at the border it is larger: ", name[i]);
            if (d->side[i] > most) most = d->side[i];
        }
    if (n && d->inside > 0) sd_text_add(t, ", up to %.3g times that inside", most / d->inside);
    else if (n) sd_text_add(t, ", and inside there is none");
    if (n) sd_text_add(t, ", as another padding makes it");
}

void sd_add_detail(sd_text *t, const sd_comparison *c)
{
    const sd_detail *d = c->detail;
    const sd_compared *r = &c->row[c->first];
    sd_text_add(t, "; %llu of %llu are outside %g + %g |REF|", (unsigned long long)r->d.outside,
                (unsigned long long)r->d.n, c->within.absolute, c->within.relative);
    if (!d) return;
    add_channels(t, d);
    if (d->rows) add_border(t, d);
}
