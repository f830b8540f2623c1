/* weights_values.c - floor 3: what a tensor's numbers are like: NaN, infinities, subnormal numbers, zeros, extremes,
 * mean and standard deviation; how far the numbers of two tensors are apart; a tensor's bytes in the order of its
 * shape.
 *
 * Tensors are looked at in parts of a fixed size, on all cores, and the parts' results are joined in their order. So
 * the number of threads changes no bit. */
#include "weights_values.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PART = 1 << 16, PIECE = SD_PIECE };   /* numbers; whole blocks of every type */

/* --------------------------------------------------------------------------------- numbers of any type */

/* Bytes of n numbers from number `at` on, counted row by row: where they lie, or gathered into `room`. */
static const unsigned char *bytes_at(const sd_entry *t, uint64_t at, size_t n, unsigned char *room)
{
    const unsigned char *data = t->data;
    size_t size = sd_dtype_size(t->dt);
    int64_t index[SD_COUNT(t->dim)];
    if (!t->stride) return data + sd_dtype_bytes(t->dt, (size_t)at);
    for (int d = t->nd; d-- > 0;) {
        index[d] = (int64_t)(at % (uint64_t)t->dim[d]);
        at /= (uint64_t)t->dim[d];
    }
    for (size_t i = 0; i < n; i++) {
        int64_t from = 0;
        for (int d = 0; d < t->nd; d++) from += index[d] * t->stride[d];
        memcpy(room + i * size, data + (size_t)from * size, size);
        for (int d = t->nd; d-- > 0 && ++index[d] == t->dim[d];) index[d] = 0;
    }
    return room;
}

/* y = n whole numbers of an integer type. */
static void integers(double *y, const unsigned char *x, sd_dtype dt, size_t n)
{
    size_t size = sd_dtype_size(dt);
    bool sign = dt != SD_U8 && dt != SD_BOOL;
    for (size_t i = 0; i < n; i++, x += size) {
        uint64_t v = sign && x[size - 1] & 0x80 ? UINT64_MAX : 0;   /* what is above the number has its sign */
        for (size_t k = size; k-- > 0;) v = v << 8 | x[k];
        y[i] = sign ? (double)(int64_t)v : (double)v;
    }
}

/* y = numbers at .. at + n - 1, n at most PIECE; `at` begins a block. */
static void numbers_at(double *y, const sd_entry *t, uint64_t at, size_t n, const sd_kern *k)
{
    unsigned char room[PIECE * 8];
    float wide[PIECE];
    const unsigned char *x = bytes_at(t, at, n, room);
    if (t->dt == SD_F64) {
        memcpy(y, x, n * sizeof *y);
    } else if (sd_dtype_is_float(t->dt)) {
        sd_widen(wide, x, t->dt, n, k);
        for (size_t i = 0; i < n; i++) y[i] = (double)wide[i];
    } else {
        integers(y, x, t->dt, n);
    }
}

static sd_status can_read(const sd_entry *t, sd_error *e)
{
    if (t->dt == SD_DTYPE_UNKNOWN)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "tensor \"%.100s\" is of type %s, which cannot be read", t->name,
                       sd_entry_dtype(t));
    return e->status;
}

/* -------------------------------------------------------------------------------------------- values */

/* A type's smallest normal number; 0: its numbers have no exponent of their own. */
static double smallest_normal(sd_dtype dt)
{
    static const struct { sd_dtype dt; int exponent; } of[] = {
        {SD_F32, -126}, {SD_F16, -14}, {SD_BF16, -126}, {SD_F64, -1022}, {SD_F8_E4M3, -6}, {SD_F8_E5M2, -14},
    };
    for (size_t i = 0; i < SD_COUNT(of); i++)
        if (of[i].dt == dt) return ldexp(1, of[i].exponent);
    return 0;
}

/* Means and sums of squares about them join as in [Chan, Golub & LeVeque 1983, eq. 2.1]. */
void sd_values_join(sd_values *v, const sd_values *w)
{
    double a = (double)v->finite, b = (double)w->finite;
    if (w->finite && v->finite) {
        double apart = w->mean - v->mean;
        double squares = a * v->std * v->std + b * w->std * w->std + apart * apart * a * b / (a + b);
        v->mean += apart * b / (a + b);
        v->std = sqrt(squares / (a + b));
        v->min = fmin(v->min, w->min);
        v->max = fmax(v->max, w->max);
    } else if (w->finite) {
        v->mean = w->mean;
        v->std = w->std;
        v->min = w->min;
        v->max = w->max;
    }
    v->n += w->n;
    v->nan += w->nan;
    v->inf += w->inf;
    v->subnormal += w->subnormal;
    v->zero += w->zero;
    v->finite += w->finite;
}

/* Of n numbers, n at most PIECE, which are changed: those that are not finite become 0. */
static sd_values look(double *x, size_t n, double normal)
{
    sd_values v = {.n = n, .min = HUGE_VAL, .max = -HUGE_VAL};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double a = fabs(x[i]);
        bool finite = a < HUGE_VAL;
        v.nan += x[i] != x[i];
        v.inf += a == HUGE_VAL;
        v.zero += a == 0;
        v.subnormal += a < normal && a > 0;
        v.finite += finite;
        v.min = finite && x[i] < v.min ? x[i] : v.min;
        v.max = finite && x[i] > v.max ? x[i] : v.max;
        x[i] = finite ? x[i] : 0;
        sum += x[i];
    }
    if (!v.finite) {
        v.min = v.max = 0;
        return v;
    }
    v.mean = sum / (double)v.finite;
    for (size_t i = 0; i < n; i++) squares += (x[i] - v.mean) * (x[i] - v.mean);
    squares -= (double)(n - v.finite) * v.mean * v.mean;   /* of the zeros that stand for others */
    v.std = sqrt(squares > 0 ? squares / (double)v.finite : 0);
    return v;
}

/* The same of PIECE float32 numbers, by kernels: a trace's statistics look at gigabytes. False: some numbers are not
 * finite, or the variance is so small beside the mean that the difference of sums would lose its digits, and `look` is
 * to be asked. */
static bool look_quickly(sd_values *v, const float *x, const sd_kern *k)
{
    enum { LANES = 32 };
    double sum[LANES] = {0}, square[LANES] = {0}, all = 0, squares = 0;
    float min, max, least;
    uint64_t zero = 0, subnormal = 0;
    k->column_sums(sum, square, x, PIECE / LANES, LANES);
    for (size_t i = 0; i < LANES; i++) {
        all += sum[i];
        squares += square[i];
    }
    if (!isfinite(squares)) return false;   /* no sum of so many squares of floats is too large for a double */
    k->extremes(&min, &max, &least, x, PIECE);
    double mean = all / PIECE, variance = squares / PIECE - mean * mean;
    if (variance < 1e-6 * mean * mean) return false;
    for (size_t i = 0; i < PIECE && least < FLT_MIN; i++) {
        float size = fabsf(x[i]);
        zero += size == 0;
        subnormal += size < FLT_MIN && size > 0;
    }
    *v = (sd_values){.n = PIECE, .zero = zero, .subnormal = subnormal, .finite = PIECE, .min = (double)min,
                     .max = (double)max, .mean = mean, .std = sqrt(variance > 0 ? variance : 0)};
    return true;
}

/* PIECE float32 numbers as they lie, or, where no float may lie, in `room`; NULL: they are something else. */
static const float *plain_piece(const sd_entry *t, uint64_t at, size_t n, float room[PIECE])
{
    if (t->dt != SD_F32 || t->stride || n != PIECE) return NULL;
    const unsigned char *data = (const unsigned char *)t->data + (size_t)at * sizeof *room;
    if ((uintptr_t)data % sizeof *room == 0) return (const float *)(const void *)data;
    memcpy(room, data, PIECE * sizeof *room);
    return room;
}

static sd_values look_at_part(const sd_entry *t, uint64_t from, size_t n, const sd_kern *k)
{
    sd_values v = {0};
    double x[PIECE], normal = smallest_normal(t->dt);
    float floats[PIECE];
    for (size_t i = 0; i < n; i += PIECE) {
        size_t some = n - i < PIECE ? n - i : PIECE;
        const float *plain = plain_piece(t, from + i, some, floats);
        sd_values piece;
        if (!plain || !look_quickly(&piece, plain, k)) {
            numbers_at(x, t, from + i, some, k);
            piece = look(x, some, normal);
        }
        sd_values_join(&v, &piece);
    }
    return v;
}

static size_t part_size(uint64_t n, size_t part)
{
    uint64_t left = n - (uint64_t)part * PART;
    return left < PART ? (size_t)left : PART;
}

sd_status sd_values_of(sd_values *v, const sd_entry *t, sd_error *e)
{
    return sd_values_with(v, t, sd_kern_select(NULL), sd_cores_usable(), e);
}

sd_status sd_values_with(sd_values *v, const sd_entry *t, const sd_kern *k, int threads, sd_error *e)
{
    (void)threads;   /* without OpenMP */
    uint64_t n = sd_entry_numbers(t);
    size_t parts = (size_t)((n + PART - 1) / PART);
    *v = (sd_values){0};
    if (can_read(t, e) || parts == 0) return e->status;
    sd_values *of = malloc(parts * sizeof *of);
    if (!of) return sd_fail(e, SD_ERR_MEMORY, "no memory to look at the numbers of %.100s", t->name);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (parts > 1)
    for (size_t i = 0; i < parts; i++) of[i] = look_at_part(t, (uint64_t)i * PART, part_size(n, i), k);
    for (size_t i = 0; i < parts; i++) sd_values_join(v, &of[i]);
    free(of);
    return SD_OK;
}

/* ------------------------------------------------------------------------------------------ distance */

void sd_distance_join(sd_distance *d, const sd_distance *part, uint64_t from)
{
    if (part->at >= 0 && part->max > d->max) {
        d->max = part->max;
        d->at = part->at + (int64_t)from;
    }
    d->n += part->n;
    d->other += part->other;
    d->outside += part->outside;
    d->squares += part->squares;
    d->norm += part->norm;
    d->both += part->both;
    d->product += part->product;
    for (int i = 0; i < 2; i++) {
        d->odd[i] += part->odd[i];
        d->sum[i] += part->sum[i];
        d->square[i] += part->square[i];
    }
}

static void scaled_at(double *y, const sd_scaled *t, uint64_t at, size_t n, const sd_kern *k)
{
    numbers_at(y, &t->of, at, n, k);
    for (size_t i = 0; i < n && t->scale != 0; i++) y[i] *= (double)t->scale;
}

static void add_moments(sd_distance *d, double x, double y)
{
    bool finite[2] = {fabs(x) < HUGE_VAL, fabs(y) < HUGE_VAL};
    d->odd[0] += !finite[0];
    d->odd[1] += !finite[1];
    if (!finite[0] || !finite[1]) return;
    d->both++;
    d->sum[0] += x;
    d->sum[1] += y;
    d->square[0] += x * x;
    d->square[1] += y * y;
    d->product += x * y;
}

static sd_distance compare_part(const sd_scaled *a, const sd_scaled *b, const sd_tolerance *within, uint64_t from,
                                size_t n, const sd_kern *k)
{
    sd_distance d = {.n = n, .at = -1};
    double x[PIECE], y[PIECE];
    for (size_t i = 0; i < n; i += PIECE) {
        size_t some = n - i < PIECE ? n - i : PIECE;
        scaled_at(x, a, from + i, some, k);
        scaled_at(y, b, from + i, some, k);
        for (size_t j = 0; j < some; j++) {
            bool nans = x[j] != x[j] && y[j] != y[j];
            if (fabs(x[j]) < HUGE_VAL) d.norm += x[j] * x[j];
            add_moments(&d, x[j], y[j]);
            if (x[j] == y[j] || nans) continue;
            double apart = fabs(x[j] - y[j]);
            if (apart != apart) apart = HUGE_VAL;
            if (apart > d.max) {
                d.max = apart;
                d.at = (int64_t)(i + j);
            }
            d.other++;
            d.outside += within && !(apart < HUGE_VAL && apart <= within->absolute + within->relative * fabs(x[j]));
            d.squares += apart * apart;
        }
    }
    return d;
}

/* The same bytes are the same numbers, and quickly seen. */
static bool same_bytes(const sd_scaled *a, const sd_scaled *b)
{
    return a->of.dt == b->of.dt && !a->of.stride && !b->of.stride && a->scale == b->scale &&
           a->of.bytes == b->of.bytes && memcmp(a->of.data, b->of.data, a->of.bytes) == 0;
}

sd_status sd_distance_within(sd_distance *d, const sd_scaled *a, const sd_scaled *b, const sd_tolerance *within,
                             sd_error *e)
{
    uint64_t n = sd_entry_numbers(&a->of);
    size_t parts = (size_t)((n + PART - 1) / PART);
    const sd_kern *k = sd_kern_select(NULL);
    *d = (sd_distance){.n = n, .at = -1};
    if (parts == 0 || same_bytes(a, b)) return e->status;
    if (can_read(&a->of, e) || can_read(&b->of, e)) return e->status;
    d->n = 0;
    sd_distance *of = malloc(parts * sizeof *of);
    if (!of) return sd_fail(e, SD_ERR_MEMORY, "no memory to compare the numbers of %.100s", a->of.name);
#pragma omp parallel for schedule(dynamic) num_threads(sd_cores_usable()) if (parts > 1)
    for (size_t i = 0; i < parts; i++) of[i] = compare_part(a, b, within, (uint64_t)i * PART, part_size(n, i), k);
    for (size_t i = 0; i < parts; i++) sd_distance_join(d, &of[i], (uint64_t)i * PART);
    free(of);
    return SD_OK;
}

double sd_distance_relative(const sd_distance *d)
{
    if (d->squares == 0) return 0;
    return d->norm > 0 && d->norm < HUGE_VAL ? sqrt(d->squares / d->norm) : HUGE_VAL;
}

double sd_entry_number(const sd_entry *t, uint64_t at)
{
    double block[PIECE];
    uint64_t begin = at - at % sd_dtype_block(t->dt), n = sd_entry_numbers(t) - begin;
    numbers_at(block, t, begin, n < sd_dtype_block(t->dt) ? (size_t)n : sd_dtype_block(t->dt), sd_kern_select(NULL));
    return block[at - begin];
}

void sd_entry_piece(double *to, const sd_entry *t, uint64_t at, size_t n)
{
    numbers_at(to, t, at, n, sd_kern_select(NULL));
}

void sd_entry_to_floats(const sd_entry *t, float *to)
{
    double block[PIECE];
    uint64_t n = sd_entry_numbers(t);
    const sd_kern *k = sd_kern_select(NULL);
    if (!t->stride && sd_dtype_is_float(t->dt)) {
        sd_widen(to, t->data, t->dt, (size_t)n, k);
        return;
    }
    for (uint64_t at = 0; at < n; at += PIECE) {
        size_t some = n - at < PIECE ? (size_t)(n - at) : PIECE;
        numbers_at(block, t, at, some, k);
        for (size_t i = 0; i < some; i++) to[at + i] = (float)block[i];
    }
}

sd_entry sd_entry_in_order(const sd_entry *t, int nd, const int64_t *dim, const int *order, int64_t stride[8])
{
    sd_entry v = *t;
    int64_t step = 1;
    v.nd = nd;
    memset(v.dim, 0, sizeof v.dim);
    memcpy(v.dim, dim, (size_t)nd * sizeof *dim);
    for (int i = nd; i-- > 0;) {
        int d = order ? order[i] : i;
        stride[d] = step;
        step *= dim[d];
    }
    if (order) v.stride = stride;
    return v;
}

/* --------------------------------------------------------------------------------------------- bytes */

sd_status sd_entry_bytes(const sd_entry *t, sd_take_bytes *take, void *user, sd_error *e)
{
    if (!t->stride) {
        if (t->bytes) take(user, t->data, t->bytes);
        return e->status;
    }
    unsigned char room[PIECE * 8];
    uint64_t n = sd_entry_numbers(t);
    for (uint64_t at = 0; at < n; at += PIECE) {
        size_t some = n - at < PIECE ? (size_t)(n - at) : PIECE;
        take(user, bytes_at(t, at, some, room), some * sd_dtype_size(t->dt));
    }
    return e->status;
}
