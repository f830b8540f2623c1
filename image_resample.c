/* image_resample.c - floor 3: resizes pictures row by row. Only the source rows under the filter are held, so that a
 * picture can be resized while it is read. */
#include "image_transform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* ----------------------------------------------------------------------------------------- resampling
 * A filter of width `support` is laid over the source at the centre of each target pixel. When shrinking, it is widened
 * by the scale, so that every source pixel counts. Rows and columns are resampled one after the other, rounded and
 * clamped to 0..255 in between. So, and because weights are in fixed point like Pillow's, the bytes are Pillow's and do
 * not depend on the machine. */

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }

static double sinc(double x)
{
    const double pi = 3.14159265358979323846;
    return x == 0 ? 1 : sin(pi * x) / (pi * x);
}

static double lanczos3(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct { double (*f)(double x); double support; } filters[] = {
    [SD_FILTER_NEAREST] = {NULL, 0}, [SD_FILTER_BOX] = {box, 0.5}, [SD_FILTER_LANCZOS] = {lanczos3, 3},
};

/* For each target pixel, the source pixels it is made of: `count` weights from `first` on. */
enum { WEIGHT_BITS = 22 };
typedef struct taps {
    int n, most;
    int *first, *count;
    int32_t *weight;   /* [n, most] */
} taps;

static int32_t *weights(const taps *t, int i) { return t->weight + (size_t)i * (size_t)t->most; }

static void taps_free(taps *t)
{
    free(t->first);
    free(t->count);
    free(t->weight);
}

/* For target pixels from..from+n-1 of a side that is resized from `in` to `full`. */
static bool taps_make(taps *t, int in, int full, int from, int n, sd_filter filter)
{
    double scale = (double)in / full, wide = scale < 1 ? 1 : scale, support = filters[filter].support * wide;
    memset(t, 0, sizeof *t);
    t->n = n;
    t->most = filters[filter].f ? (int)ceil(support) * 2 + 1 : 1;
    t->first = calloc((size_t)n, sizeof *t->first);
    t->count = calloc((size_t)n, sizeof *t->count);
    t->weight = calloc((size_t)n * (size_t)t->most, sizeof *t->weight);
    double *w = calloc((size_t)t->most, sizeof *w);
    if (!t->first || !t->count || !t->weight || !w) {
        free(w);
        return false;
    }
    for (int i = 0; i < n; i++) {
        double centre = (from + i + 0.5) * scale, sum = 0;
        if (!filters[filter].f) {
            t->first[i] = (int)((2 * ((int64_t)from + i) + 1) * in / (2 * (int64_t)full));
            t->count[i] = 1;
            *weights(t, i) = 1 << WEIGHT_BITS;
            continue;
        }
        int first = clamp((int)(centre - support + 0.5), 0, in - 1);
        int end = clamp((int)(centre + support + 0.5), first + 1, in);
        for (int k = first; k < end; k++) sum += w[k - first] = filters[filter].f((k - centre + 0.5) / wide);
        for (int k = 0; k < end - first; k++)
            weights(t, i)[k] = (int32_t)lround(w[k] / sum * (1 << WEIGHT_BITS));
        t->first[i] = first;
        t->count[i] = end - first;
    }
    free(w);
    return true;
}

static const int64_t HALF = 1 << (WEIGHT_BITS - 1);

static uint8_t rounded(int64_t sum)
{
    return sum < 0 ? 0 : sum >> WEIGHT_BITS > 255 ? 255 : (uint8_t)(sum >> WEIGHT_BITS);
}

static uint8_t weigh(const uint8_t *from, size_t step, const int32_t *weight, int count)
{
    int64_t sum = HALF;
    for (int k = 0; k < count; k++, from += step) sum += (int64_t)*from * weight[k];
    return rounded(sum);
}

/* ------------------------------------------------------------------------------------------- rows */

struct sd_resampler {
    int width, channels;      /* of the source */
    int taken;                /* rows of it, so far */
    taps across, down;
    bool down_first;          /* the order of the two directions shows in the bytes */
    bool weighted;            /* colours are weighted by alpha, as in Pillow (mode RGBa), so that transparent pixels do
                               * not colour their neighbours */
    int rows;                 /* in the ring */
    size_t line;              /* bytes of one */
    uint8_t *ring;            /* the last rows; already resampled across, unless down_first */
    uint8_t *row;             /* one of the source, weighted */
    uint8_t *wide;            /* one of the result, not yet resampled across */
    int64_t *sum;             /* [line] */
    sd_image part;            /* the result, without margins */
    int done;                 /* rows of it */
    int left, top, right, bottom;   /* margins to be added */
};

static void premultiply(uint8_t *to, const uint8_t *from, int width)
{
    for (const uint8_t *end = from + 4 * (size_t)width; from < end; from += 4, to += 4) {
        for (int c = 0; c < 3; c++) to[c] = sd_div255((unsigned)from[c] * from[3]);
        to[3] = from[3];
    }
}

static void unpremultiply(uint8_t *v, int width)
{
    for (uint8_t *end = v + 4 * (size_t)width; v < end; v += 4)
        for (int c = 0; c < 3 && v[3]; c++) v[c] = (uint8_t)clamp(255 * v[c] / v[3], 0, 255);
}

static void resample_across(uint8_t *to, const uint8_t *from, const taps *t, size_t channels)
{
    for (int x = 0; x < t->n; x++)
        for (size_t c = 0; c < channels; c++)
            *to++ = weigh(from + (size_t)t->first[x] * channels + c, channels, weights(t, x), t->count[x]);
}

/* Makes row y of the result from the ring. */
static void resample_down(sd_resampler *r, uint8_t *to, int y)
{
    const taps *t = &r->down;
    for (size_t i = 0; i < r->line; i++) r->sum[i] = HALF;
    for (int k = 0; k < t->count[y]; k++) {
        const uint8_t *row = r->ring + (size_t)((t->first[y] + k) % r->rows) * r->line;
        int32_t weight = weights(t, y)[k];
        for (size_t i = 0; i < r->line; i++) r->sum[i] += (int64_t)row[i] * weight;
    }
    for (size_t i = 0; i < r->line; i++) to[i] = rounded(r->sum[i]);
}

void sd_resampler_row(sd_resampler *r, const uint8_t *row)
{
    const taps *t = &r->down;
    size_t channels = (size_t)r->channels;
    int y = r->taken++;
    if (r->done == t->n || y < t->first[0]) return;   /* this row is not needed */
    uint8_t *to = r->ring + (size_t)(y % r->rows) * r->line;
    if (r->weighted) premultiply(r->row, row, r->width);
    if (r->weighted) row = r->row;
    if (r->down_first) memcpy(to, row, r->line);
    else resample_across(to, row, &r->across, channels);
    for (; r->done < t->n && t->first[r->done] + t->count[r->done] <= r->taken; r->done++) {
        uint8_t *out = r->part.data + (size_t)r->done * (size_t)r->part.width * channels;
        resample_down(r, r->down_first ? r->wide : out, r->done);
        if (r->down_first) resample_across(out, r->wide, &r->across, channels);
        if (r->weighted) unpremultiply(out, r->part.width);
    }
}

/* -------------------------------------------------------------------------------------- begin and end */

/* The picture's sides after resizing, and which part of the result is wanted. The fits that keep the picture's shape
 * follow diffusers' VaeImageProcessor (_resize_and_crop, _resize_and_fill): the other side is the quotient rounded
 * down, centred by the difference of the halves. */
static void fit_sides(sd_resampler *r, const sd_resizing *s, int *full_width, int *full_height, sd_rect *part)
{
    bool wider = (int64_t)s->to_width * s->height > (int64_t)s->width * s->to_height;   /* is the wanted picture? */
    bool by_width = wider == (s->fit == SD_FIT_CROP);
    int w = s->to_width, h = s->to_height;
    if (s->fit != SD_FIT_STRETCH && !by_width) w = (int)((int64_t)s->width * s->to_height / s->height);
    if (s->fit != SD_FIT_STRETCH && by_width) h = (int)((int64_t)s->height * s->to_width / s->width);
    *full_width = w = w < 1 ? 1 : w;
    *full_height = h = h < 1 ? 1 : h;
    *part = (sd_rect){0, 0, w, h};
    if (s->fit == SD_FIT_CROP)
        *part = (sd_rect){w / 2 - s->to_width / 2, h / 2 - s->to_height / 2, s->to_width, s->to_height};
    if (s->fit != SD_FIT_PAD) return;
    r->left = s->to_width / 2 - w / 2;
    r->top = s->to_height / 2 - h / 2;
    r->right = s->to_width - w - r->left;
    r->bottom = s->to_height - h - r->top;
}

static sd_status begin(sd_resampler *r, const sd_resizing *s, sd_error *e)
{
    int full_width, full_height;
    sd_rect part;
    fit_sides(r, s, &full_width, &full_height, &part);
    r->width = s->width;
    r->channels = s->channels;
    r->weighted = s->channels == 4 && filters[s->filter].f && (full_width != s->width || full_height != s->height);
    /* Pillow (since 13.0) chooses the order with less work. */
    int fewer_rows = s->height - full_height, fewer_columns = s->width - full_width;
    r->down_first = fewer_rows > 0 && fewer_rows > 2 * (int64_t)fewer_columns;
    if (sd_image_new(&r->part, part.width, part.height, s->channels, e)) return e->status;
    bool room = taps_make(&r->across, s->width, full_width, part.x, part.width, s->filter)
        && taps_make(&r->down, s->height, full_height, part.y, part.height, s->filter);
    r->line = (size_t)(r->down_first ? s->width : part.width) * (size_t)s->channels;
    r->rows = r->down.most < s->height ? r->down.most : s->height;
    if (room && sd_need_memory(e, (double)r->rows * (double)r->line, "resizing to %dx%d pixels", full_width,
                               full_height)) return e->status;
    if (room) {
        r->ring = malloc((size_t)r->rows * r->line);
        r->row = malloc((size_t)s->width * (size_t)s->channels);
        r->wide = malloc(r->line);
        r->sum = malloc(r->line * sizeof *r->sum);
    }
    if (room && r->ring && r->row && r->wide && r->sum) return SD_OK;
    return sd_fail(e, SD_ERR_MEMORY, "no memory to resize to %dx%d pixels", part.width, part.height);
}

sd_status sd_resampler_new(sd_resampler **out, const sd_resizing *s, sd_error *e)
{
    *out = NULL;
    if (sd_check_size(s->width, s->height, e) || sd_check_size(s->to_width, s->to_height, e)) return e->status;
    sd_resampler *r = calloc(1, sizeof *r);
    if (!r) return sd_fail(e, SD_ERR_MEMORY, "no memory to resize a picture");
    if (begin(r, s, e)) sd_resampler_free(r);
    else *out = r;
    return e->status;
}

void sd_resampler_free(sd_resampler *r)
{
    if (!r) return;
    taps_free(&r->across);
    taps_free(&r->down);
    free(r->ring);
    free(r->row);
    free(r->wide);
    free(r->sum);
    sd_image_free(&r->part);
    free(r);
}

sd_status sd_resampler_finish(sd_resampler *r, sd_image *out, const uint8_t *fill, sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (!e->status && (r->left || r->top || r->right || r->bottom)) {
        sd_image_extend(out, &r->part, r->left, r->top, r->right, r->bottom, fill, e);
    } else if (!e->status) {
        *out = r->part;
        r->part = (sd_image){0};
    }
    sd_resampler_free(r);
    return e->status;
}

sd_status sd_fit_parse(sd_fit *fit, const char *name, sd_error *e)
{
    static const char *const names[] = {[SD_FIT_STRETCH] = "stretch", [SD_FIT_CROP] = "crop", [SD_FIT_PAD] = "pad"};
    *fit = SD_FIT_STRETCH;
    if (!name) return SD_OK;
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *fit = (sd_fit)i;
        return SD_OK;
    }
    return sd_fail(e, SD_ERR_ARG, "resize must be stretch, crop or pad, not \"%.40s\"", name);
}

sd_status sd_image_fit(sd_image *out, const sd_image *in, int width, int height, sd_fit fit, sd_filter filter,
                       const uint8_t *fill, sd_error *e)
{
    sd_resampler *r;
    const sd_resizing s = {in->width, in->height, in->channels, width, height, fit, filter};
    memset(out, 0, sizeof *out);
    if (e->status || sd_resampler_new(&r, &s, e)) return e->status;
    size_t line = (size_t)in->width * (size_t)in->channels;
    for (int y = 0; y < in->height && !sd_fail_if_stopped(e); y++) sd_resampler_row(r, in->data + (size_t)y * line);
    return sd_resampler_finish(r, out, fill, e);
}

sd_status sd_image_resample(sd_image *out, const sd_image *in, int width, int height, sd_filter filter, sd_error *e)
{
    return sd_image_fit(out, in, width, height, SD_FIT_STRETCH, filter, NULL, e);
}

/* ---------------------------------------------------------------------------------------- numbers */

/* The weights of four neighbours for a place that is t behind the second of them: cubic convolution with a = -3/4 [Keys
 * 1981, eq. 4 with torch's a]. */
static void cubic_weights(double w[4], double t)
{
    const double a = -0.75;
    double far[] = {t + 1, 2 - t}, near[] = {t, 1 - t};
    for (int i = 0; i < 2; i++) {
        w[3 * i] = ((a * far[i] - 5 * a) * far[i] + 8 * a) * far[i] - 4 * a;
        w[1 + i] = ((a + 2) * near[i] - (a + 3)) * near[i] * near[i] + 1;
    }
}

/* Where pixel i of `to`, which show `share` of `from` pixels from `begin` on, lies among these: the second neighbour,
 * and the weights of all four. */
static int cubic_at(double w[4], int i, int to, int from, double begin, double share)
{
    double at = (begin + (i + 0.5) / to * share) * from - 0.5;
    cubic_weights(w, at - floor(at));
    return (int)floor(at);
}

void sd_numbers_resample(float *out, int to_width, int to_height, const float *in, int width, int height,
                         const sd_region *part)
{
    double across[4], down[4];
    for (int y = 0; y < to_height; y++) {
        int top = cubic_at(down, y, to_height, height, part->y, part->height) - 1;
        for (int x = 0; x < to_width; x++) {
            int left = cubic_at(across, x, to_width, width, part->x, part->width) - 1;
            double sum = 0;
            for (int k = 0; k < 16; k++) {
                int row = clamp(top + k / 4, 0, height - 1), column = clamp(left + k % 4, 0, width - 1);
                sum += down[k / 4] * across[k % 4] * in[(size_t)row * (size_t)width + (size_t)column];
            }
            *out++ = (float)sum;
        }
    }
}
