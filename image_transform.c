/* image_transform.c - floor 3: pictures and masks: resampling, fitting, numbers for the networks, blurring, pasting. */
#include "image_transform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ life and copies */

static sd_status check_sides(int width, int height, sd_error *e)
{
    if (e->status) return e->status;
    if (width < 1 || height < 1 || width > SD_IMAGE_SIDE || height > SD_IMAGE_SIDE)
        return sd_fail(e, SD_ERR_ARG, "a picture of %dx%d pixels: expected sides from 1 to %d", width, height,
                       SD_IMAGE_SIDE);
    return SD_OK;
}

sd_status sd_image_new(sd_image *out, int width, int height, int channels, sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (check_sides(width, height, e)) return e->status;
    if (sd_need_memory(e, (double)width * height * channels, "a picture of %dx%d pixels", width, height))
        return e->status;
    out->data = calloc((size_t)width * (size_t)height, (size_t)channels);
    if (!out->data) return sd_fail(e, SD_ERR_MEMORY, "no memory for a picture of %dx%d pixels", width, height);
    out->width = width;
    out->height = height;
    out->channels = channels;
    return SD_OK;
}

void sd_image_free(sd_image *p)
{
    if (!p) return;
    free(p->data);
    memset(p, 0, sizeof *p);
}

/* Nothing comes of what was stopped. */
static sd_status finished(sd_image *out, const sd_error *e)
{
    if (e->status) sd_image_free(out);
    return e->status;
}

static size_t pixels(const sd_image *p) { return (size_t)p->width * (size_t)p->height; }

static uint8_t *pixel(const sd_image *p, int x, int y)
{
    return p->data + ((size_t)y * (size_t)p->width + (size_t)x) * (size_t)p->channels;
}

/* a + (b - a)*m/255 */
static uint8_t mix(unsigned a, unsigned b, unsigned m) { return sd_div255(a * (255 - m) + b * m); }

enum { LOOK = 1 << 20 };   /* pixels between two looks at whether to stop */

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* ----------------------------------------------------------------------------------------- resampling
 * A filter of width `support` is laid over the source at the centre of each target pixel, and widened by the scale when
 * shrinking, so that every source pixel counts. Rows and columns are resampled one after the other, rounded and cut to
 * 0..255 in between: with that, and with weights in fixed point as Pillow has them, the bytes are Pillow's and do not
 * depend on the machine. */

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

/* For each target pixel the source pixels it is made of: `count` weights from `first` on. */
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

/* Target pixels from..from+n-1 of a side of `full` made from one of `in`. */
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

static uint8_t weigh(const uint8_t *from, size_t step, const int32_t *weight, int count)
{
    int64_t sum = 1 << (WEIGHT_BITS - 1);
    for (int k = 0; k < count; k++, from += step) sum += (int64_t)*from * weight[k];
    return sum < 0 ? 0 : sum >> WEIGHT_BITS > 255 ? 255 : (uint8_t)(sum >> WEIGHT_BITS);
}

static void resample_rows(const sd_image *out, const sd_image *in, const taps *t, sd_error *e)
{
    uint8_t *to = out->data;
    for (int y = 0; y < out->height && !sd_stopped(e); y++)
        for (int x = 0; x < out->width; x++)
            for (int c = 0; c < out->channels; c++)
                *to++ = weigh(pixel(in, t->first[x], y) + c, (size_t)in->channels, weights(t, x), t->count[x]);
}

static void resample_columns(const sd_image *out, const sd_image *in, const taps *t, sd_error *e)
{
    uint8_t *to = out->data;
    size_t line = (size_t)out->width * (size_t)out->channels;
    for (int y = 0; y < out->height && !sd_stopped(e); y++)
        for (size_t x = 0; x < line; x++)
            *to++ = weigh(pixel(in, 0, t->first[y]) + x, line, weights(t, y), t->count[y]);
}

/* The part r of what `in` would be with full_width x full_height pixels. */
static sd_status resample_plain(sd_image *out, const sd_image *in, int full_width, int full_height, sd_rect r,
                                sd_filter filter, sd_error *e)
{
    taps across = {0}, down = {0};
    sd_image half = {0};
    if (sd_image_new(out, r.width, r.height, in->channels, e)) return e->status;
    /* Which comes first shows in the bytes. Pillow (since 13.0) turns the order where it spares most work. */
    int fewer_rows = in->height - full_height, fewer_columns = in->width - full_width;
    bool down_first = fewer_rows > 0 && fewer_rows > 2 * (int64_t)fewer_columns;
    if (!taps_make(&across, in->width, full_width, r.x, r.width, filter) ||
        !taps_make(&down, in->height, full_height, r.y, r.height, filter))
        sd_fail(e, SD_ERR_MEMORY, "no memory to resize to %dx%d pixels", r.width, r.height);
    if (down_first && !sd_image_new(&half, in->width, r.height, in->channels, e)) {
        resample_columns(&half, in, &down, e);
        resample_rows(out, &half, &across, e);
    } else if (!down_first && !sd_image_new(&half, r.width, in->height, in->channels, e)) {
        resample_rows(&half, in, &across, e);
        resample_columns(out, &half, &down, e);
    }
    taps_free(&across);
    taps_free(&down);
    sd_image_free(&half);
    return finished(out, e);
}

static void premultiply(const sd_image *p)
{
    for (uint8_t *v = p->data, *end = v + 4 * pixels(p); v < end; v += 4)
        for (int c = 0; c < 3; c++) v[c] = sd_div255((unsigned)v[c] * v[3]);
}

static void unpremultiply(const sd_image *p)
{
    for (uint8_t *v = p->data, *end = v + 4 * pixels(p); v < end; v += 4)
        for (int c = 0; c < 3 && v[3]; c++) v[c] = (uint8_t)clamp(255 * v[c] / v[3], 0, 255);
}

/* Transparent pixels lend no colour to their neighbours: colours are weighted by alpha, as Pillow does it (mode
 * RGBa). */
static sd_status resample(sd_image *out, const sd_image *in, int full_width, int full_height, sd_rect r,
                          sd_filter filter, sd_error *e)
{
    sd_image weighted = {0};
    memset(out, 0, sizeof *out);
    bool alpha = in->channels == 4 && filters[filter].f && (full_width != in->width || full_height != in->height);
    if (!alpha) return resample_plain(out, in, full_width, full_height, r, filter, e);
    if (sd_image_crop(&weighted, in, (sd_rect){0, 0, in->width, in->height}, e)) return e->status;
    premultiply(&weighted);
    if (!resample_plain(out, &weighted, full_width, full_height, r, filter, e)) unpremultiply(out);
    sd_image_free(&weighted);
    return e->status;
}

sd_status sd_image_resample(sd_image *out, const sd_image *in, int width, int height, sd_filter filter, sd_error *e)
{
    return resample(out, in, width, height, (sd_rect){0, 0, width, height}, filter, e);
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

/* The sides for one that keeps its shape follow diffusers' VaeImageProcessor (_resize_and_crop, _resize_and_fill):
 * the other side's quotient rounded down, centred by the difference of the halves. */
sd_status sd_image_fit(sd_image *out, const sd_image *in, int width, int height, sd_fit fit, sd_filter filter,
                         const uint8_t *fill, sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (check_sides(width, height, e)) return e->status;
    if (fit == SD_FIT_STRETCH) return sd_image_resample(out, in, width, height, filter, e);
    bool wider = (int64_t)width * in->height > (int64_t)in->width * height;   /* what is wanted, than the picture */
    bool by_width = wider == (fit == SD_FIT_CROP);
    int w = by_width ? width : (int)((int64_t)in->width * height / in->height);
    int h = by_width ? (int)((int64_t)in->height * width / in->width) : height;
    if (fit == SD_FIT_CROP) {
        sd_rect middle = {w / 2 - width / 2, h / 2 - height / 2, width, height};
        return resample(out, in, w, h, middle, filter, e);
    }

    sd_image inner = {0};
    w = w < 1 ? 1 : w;
    h = h < 1 ? 1 : h;
    int left = width / 2 - w / 2, top = height / 2 - h / 2;
    if (!sd_image_resample(&inner, in, w, h, filter, e))
        sd_image_extend(out, &inner, left, top, width - w - left, height - h - top, fill, e);
    sd_image_free(&inner);
    return e->status;
}

/* ------------------------------------------------------------------------------------ cutting and extending */

sd_status sd_image_crop(sd_image *out, const sd_image *in, sd_rect r, sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (e->status) return e->status;
    if (r.x < 0 || r.y < 0 || r.width < 1 || r.height < 1 || r.width > in->width - r.x || r.height > in->height - r.y)
        return sd_fail(e, SD_ERR_ARG, "cannot cut %dx%d pixels at %d,%d out of a picture of %dx%d", r.width, r.height,
                       r.x, r.y, in->width, in->height);
    if (sd_image_new(out, r.width, r.height, in->channels, e)) return e->status;
    for (int y = 0; y < r.height; y++)
        memcpy(pixel(out, 0, y), pixel(in, r.x, r.y + y), (size_t)r.width * (size_t)in->channels);
    return SD_OK;
}

sd_status sd_image_extend(sd_image *out, const sd_image *in, int left, int top, int right, int bottom,
                            const uint8_t *fill, sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (e->status) return e->status;
    const int margin[] = {left, top, right, bottom};
    for (size_t i = 0; i < SD_COUNT(margin); i++)
        if (margin[i] < 0 || margin[i] > SD_IMAGE_SIDE)
            return sd_fail(e, SD_ERR_ARG, "a margin of %d pixels: expected 0 to %d", margin[i], SD_IMAGE_SIDE);
    if (sd_image_new(out, left + in->width + right, top + in->height + bottom, in->channels, e)) return e->status;
    uint8_t *to = out->data;
    for (int y = 0; y < out->height && !sd_stopped(e); y++)
        for (int x = 0; x < out->width; x++, to += in->channels) {
            int sx = clamp(x - left, 0, in->width - 1), sy = clamp(y - top, 0, in->height - 1);
            bool inside = sx == x - left && sy == y - top;
            memcpy(to, inside || !fill ? pixel(in, sx, sy) : fill, (size_t)in->channels);
        }
    return finished(out, e);
}

/* -------------------------------------------------------------------------------- channels and numbers */

sd_status sd_image_to_rgb(sd_image *out, const sd_image *in, const uint8_t *background, sd_error *e)
{
    if (sd_image_new(out, in->width, in->height, 3, e)) return e->status;
    const uint8_t *from = in->data;
    size_t i = 0;
    for (uint8_t *to = out->data, *end = to + 3 * pixels(out); to < end; to += 3, from += in->channels) {
        if (i++ % LOOK == 0 && sd_stopped(e)) break;
        for (int c = 0; c < 3; c++) {
            to[c] = from[in->channels == 1 ? 0 : c];
            if (in->channels == 4 && background)
                to[c] = mix(background[c], to[c], from[3]);
        }
    }
    return finished(out, e);
}

void sd_image_to_float(float *out, const sd_image *p)
{
    size_t n = pixels(p);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            *out++ = (float)p->data[i * (size_t)p->channels + (p->channels == 1 ? 0 : c)] / 127.5f - 1.0f;
}

sd_status sd_image_from_float(sd_image *out, int width, int height, const float *from, bool unit, sd_error *e)
{
    if (sd_image_new(out, width, height, 3, e)) return e->status;
    size_t n = pixels(out);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++) {
            float x = from[c * n + i];
            out->data[3 * i + c] = (uint8_t)lrintf(255 * (unit ? x : sd_unit(x)));
        }
    return SD_OK;
}

/* ---------------------------------------------------------------------------------------------- masks */

/* ITU-R 601-2 luma in 16-bit fixed point. */
static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

sd_status sd_mask_from_luma(sd_image *out, const sd_image *in, sd_error *e)
{
    if (sd_image_new(out, in->width, in->height, 1, e)) return e->status;
    const uint8_t *from = in->data;
    for (size_t i = 0; i < pixels(in); i++, from += in->channels) {
        if (i % LOOK == 0 && sd_stopped(e)) break;
        out->data[i] = in->channels == 1 ? *from : luma(from);
    }
    return finished(out, e);
}

sd_status sd_mask_from_alpha(sd_image *out, const sd_image *in, sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (e->status) return e->status;
    if (in->channels != 4) return sd_fail(e, SD_ERR_ARG, "the picture has no transparency to make a mask of");
    if (sd_image_new(out, in->width, in->height, 1, e)) return e->status;
    for (size_t i = 0; i < pixels(in); i++) out->data[i] = (uint8_t)(255 - in->data[4 * i + 3]);
    return SD_OK;
}

void sd_mask_threshold(sd_image *mask)
{
    for (size_t i = 0; i < pixels(mask); i++) mask->data[i] = mask->data[i] >= 128 ? 255 : 0;
}

void sd_mask_invert(sd_image *mask)
{
    for (size_t i = 0; i < pixels(mask); i++) mask->data[i] = (uint8_t)(255 - mask->data[i]);
}

/* The extended box filter of Gwosdek, Grewenig, Bruhn and Weickert 2011, "Theoretical Foundations of Gaussian
 * Convolution by Extended Box Filtering": 2r+1 whole pixels and a fraction of one more at either end; three passes
 * are close to a Gaussian. Weights in 24-bit fixed point and the arithmetic in float are Pillow's, so that its bytes
 * come out. */
enum { BLUR_PASSES = 3 };
typedef struct blur_box { int r; uint32_t inner, outer; } blur_box;

static blur_box blur_box_of(float sigma)
{
    float variance = sigma * sigma / BLUR_PASSES;
    float length = (float)sqrt(12.0 * variance + 1.0);                   /* [7] */
    float l = (float)floor((length - 1.0) / 2.0);                        /* [11] */
    float a = (2 * l + 1) * (l * (l + 1) - 3 * variance);                /* [14] */
    a /= 6 * (variance - (l + 1) * (l + 1));
    float radius = l + a;
    blur_box b = {.r = (int)radius};
    b.inner = (uint32_t)((float)(1 << 24) / (radius * 2 + 1));
    b.outer = ((1u << 24) - (uint32_t)(2 * b.r + 1) * b.inner) / 2;
    return b;
}

/* n bytes, `step` apart; beyond its ends a line goes on as it ended. */
static void blur_line(uint8_t *line, uint8_t *copy, int n, size_t step, blur_box b)
{
    for (int i = 0; i < n; i++) copy[i] = line[(size_t)i * step];
    uint32_t sum = 0;
    for (int k = -b.r - 1; k < b.r; k++) sum += copy[clamp(k, 0, n - 1)];
    for (int i = 0; i < n; i++) {
        uint32_t before = copy[clamp(i - b.r - 1, 0, n - 1)], after = copy[clamp(i + b.r + 1, 0, n - 1)];
        sum += copy[clamp(i + b.r, 0, n - 1)] - before;
        line[(size_t)i * step] = (uint8_t)((sum * b.inner + (before + after) * b.outer + (1u << 23)) >> 24);
    }
}

sd_status sd_mask_blur(sd_image *mask, double radius, sd_error *e)
{
    if (e->status) return e->status;
    if (!(radius >= 0 && radius <= SD_IMAGE_SIDE))
        return sd_fail(e, SD_ERR_ARG, "a blur of %g pixels: expected 0 to %d", radius, SD_IMAGE_SIDE);
    if (radius == 0) return SD_OK;
    uint8_t *copy = malloc(SD_IMAGE_SIDE);
    if (!copy) return sd_fail(e, SD_ERR_MEMORY, "no memory to blur a mask");
    blur_box b = blur_box_of((float)radius);
    for (int y = 0; y < mask->height && !sd_stopped(e); y++)
        for (int pass = 0; pass < BLUR_PASSES; pass++) blur_line(pixel(mask, 0, y), copy, mask->width, 1, b);
    size_t stride = (size_t)mask->width;
    for (int x = 0; x < mask->width && !sd_stopped(e); x++)
        for (int pass = 0; pass < BLUR_PASSES; pass++) blur_line(pixel(mask, x, 0), copy, mask->height, stride, b);
    free(copy);
    return e->status;
}

/* Squared distances along a line: out[i] = min over k of f[k] + (i-k)^2, the lower envelope of parabolas
 * [Felzenszwalb and Huttenlocher 2012, "Distance Transforms of Sampled Functions", algorithm 1]. `f`, `site` and
 * `from` have room for n. */
static void parabolas(float *line, size_t step, int n, float *f, int *site, double *from)
{
    int top = -1;
    for (int i = 0; i < n; i++) {
        f[i] = line[(size_t)i * step];
        if (isinf(f[i])) continue;
        double meet = -HUGE_VAL;
        while (top >= 0) {
            int s = site[top];
            meet = (((double)f[i] + (double)i * i) - ((double)f[s] + (double)s * s)) / (2.0 * (i - s));
            if (meet > from[top]) break;
            top--;
        }
        site[++top] = i;
        from[top] = top ? meet : -HUGE_VAL;
    }
    for (int i = 0, k = 0; i < n && top >= 0; i++) {
        while (k < top && from[k + 1] < i) k++;
        float d = (float)(i - site[k]);
        line[(size_t)i * step] = d * d + f[site[k]];
    }
}

/* Squared Euclidean distance of each pixel to the nearest 0, infinite if there is none; NULL without memory.
 * free() it. Below 2^24, so for masks of up to 2895 pixels a side, the floats are exact. */
static float *distances(const sd_image *mask, sd_error *e)
{
    size_t stride = (size_t)mask->width, longest = (size_t)(mask->width > mask->height ? mask->width : mask->height);
    if (sd_need_memory(e, (double)pixels(mask) * sizeof(float), "the distances in a mask")) return NULL;
    float *d = malloc(pixels(mask) * sizeof *d), *f = malloc(longest * sizeof *f);
    int *sites = malloc(longest * sizeof *sites);
    double *from = malloc(longest * sizeof *from);
    bool room = d && f && sites && from;
    for (size_t i = 0; room && i < pixels(mask); i++) d[i] = mask->data[i] == 0 ? 0.0f : HUGE_VALF;
    for (int x = 0; room && x < mask->width && !sd_stopped(e); x++)
        parabolas(d + x, stride, mask->height, f, sites, from);
    for (int y = 0; room && y < mask->height && !sd_stopped(e); y++)
        parabolas(d + (size_t)y * stride, 1, mask->width, f, sites, from);
    free(f);
    free(sites);
    free(from);
    if (room) return d;
    free(d);
    return NULL;
}

sd_status sd_mask_feather(sd_image *mask, double width, sd_error *e)
{
    if (e->status) return e->status;
    if (!(width >= 0 && width <= SD_IMAGE_SIDE))
        return sd_fail(e, SD_ERR_ARG, "feathering a mask over %g pixels: expected 0 to %d", width, SD_IMAGE_SIDE);
    float *d = distances(mask, e);
    if (!d) return sd_fail(e, SD_ERR_MEMORY, "no memory to feather a mask");
    for (size_t i = 0; i < pixels(mask); i++) {
        double most = 255 * sqrt(d[i]) / (width + 1);
        if (mask->data[i] > most) mask->data[i] = (uint8_t)lround(most);
    }
    free(d);
    return e->status;
}

/* diffusers' VaeImageProcessor.get_crop_region, third part, for one axis: from..to, of 0..side, becomes `wanted`
 * long if there is room. */
static void grow_side(int *from, int *to, double wanted, int side)
{
    int more = (int)(wanted - (*to - *from));
    *from -= more / 2;
    *to += more - more / 2;
    if (*to > side) {
        *from -= *to - side;
        *to = side;
    }
    if (*from < 0) {
        *to -= *from;
        *from = 0;
    }
    if (*to > side) *to = side;
}

bool sd_mask_region(const sd_image *mask, int pad, int width, int height, sd_rect *region)
{
    int x1 = mask->width, y1 = mask->height, x2 = 0, y2 = 0;
    const uint8_t *v = mask->data;
    for (int y = 0; y < mask->height; y++)
        for (int x = 0; x < mask->width; x++, v++) {
            if (!*v) continue;
            if (x < x1) x1 = x;
            if (x >= x2) x2 = x + 1;
            if (y < y1) y1 = y;
            y2 = y + 1;
        }
    memset(region, 0, sizeof *region);
    if (x2 == 0) return false;
    pad = clamp(pad, 0, SD_IMAGE_SIDE);
    x1 = clamp(x1 - pad, 0, mask->width);
    y1 = clamp(y1 - pad, 0, mask->height);
    x2 = clamp(x2 + pad, 0, mask->width);
    y2 = clamp(y2 + pad, 0, mask->height);
    if (width > 0 && height > 0) {
        double shape = (double)width / height, now = (double)(x2 - x1) / (y2 - y1);
        if (now > shape) grow_side(&y1, &y2, (x2 - x1) / shape, mask->height);
        else grow_side(&x1, &x2, (y2 - y1) * shape, mask->width);
    }
    *region = (sd_rect){x1, y1, x2 - x1, y2 - y1};
    return true;
}

/* torch multiplies by a float32 scale and rounds down: for sides that are no multiples, exact arithmetic may pick a
 * neighbour. */
static int nearest_of(int i, int in, int out)
{
    float scale = (float)in / (float)out;
    return clamp((int)floorf((float)i * scale), 0, in - 1);
}

void sd_mask_to_latent(float *out, int height, int width, const sd_image *mask)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int sx = nearest_of(x, mask->width, width), sy = nearest_of(y, mask->height, height);
            *out++ = *pixel(mask, sx, sy) >= 128 ? 1.0f : 0.0f;
        }
}

/* --------------------------------------------------------------------------------------------- pasting */

/* Channel c of a pixel with `channels` of them: grey stands for all colours, and what has no alpha is opaque. */
static uint8_t channel(const uint8_t *v, int channels, int c)
{
    if (c < channels && channels > 1) return v[c];
    return c == 3 ? 255 : v[0];
}

sd_status sd_image_paste(sd_image *base, int x, int y, const sd_image *over, const sd_image *mask, sd_error *e)
{
    if (e->status) return e->status;
    if (mask && (mask->width != over->width || mask->height != over->height || mask->channels != 1))
        return sd_fail(e, SD_ERR_ARG, "cannot paste %dx%d pixels through a mask of %dx%d pixels and %d channels",
                       over->width, over->height, mask->width, mask->height, mask->channels);
    for (int oy = 0; oy < over->height && !sd_stopped(e); oy++)
        for (int ox = 0; ox < over->width; ox++) {
            if (oy + y < 0 || oy + y >= base->height || ox + x < 0 || ox + x >= base->width) continue;
            unsigned m = mask ? *pixel(mask, ox, oy) : 255;
            uint8_t *to = pixel(base, ox + x, oy + y);
            const uint8_t *from = pixel(over, ox, oy);
            for (int c = 0; c < base->channels; c++) to[c] = mix(to[c], channel(from, over->channels, c), m);
        }
    return e->status;
}
