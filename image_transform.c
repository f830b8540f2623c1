/* image_transform.c - floor 3: pictures and masks: numbers for the networks, blurring, pasting. */
#include "image_transform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ life and copies */

sd_status sd_check_size(int width, int height, sd_error *e)
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
    if (sd_check_size(width, height, e)) return e->status;
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

/* A stopped call has no result. */
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

enum { LOOK = 1 << 20 };   /* pixels between two checks whether to stop */

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

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
    for (int y = 0; y < out->height && !sd_fail_if_stopped(e); y++)
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
        if (i++ % LOOK == 0 && sd_fail_if_stopped(e)) break;
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

static uint8_t byte_of(float x, sd_bytes how)
{
    switch (how) {
    case SD_BYTES_TRUNCATE: return (uint8_t)(255 * x);
    case SD_BYTES_HALF_UP: return (uint8_t)(255 * x + 0.5f);
    case SD_BYTES_ROUND: break;
    }
    return (uint8_t)lrintf(255 * x);
}

sd_status sd_image_from_float(sd_image *out, int width, int height, const float *from, bool unit, sd_bytes how,
                              sd_error *e)
{
    if (sd_image_new(out, width, height, 3, e)) return e->status;
    size_t n = pixels(out);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++) {
            float x = from[c * n + i];
            out->data[3 * i + c] = byte_of(unit ? x : sd_unit(x), how);
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
        if (i % LOOK == 0 && sd_fail_if_stopped(e)) break;
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
 * are close to a Gaussian. As in Pillow, weights are in 24-bit fixed point and the arithmetic is in float, so the bytes
 * are Pillow's. */
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

/* Blurs n bytes, `step` apart; beyond its ends a line repeats its end pixels. */
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
    for (int y = 0; y < mask->height && !sd_fail_if_stopped(e); y++)
        for (int pass = 0; pass < BLUR_PASSES; pass++) blur_line(pixel(mask, 0, y), copy, mask->width, 1, b);
    size_t stride = (size_t)mask->width;
    for (int x = 0; x < mask->width && !sd_fail_if_stopped(e); x++)
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
    for (int x = 0; room && x < mask->width && !sd_fail_if_stopped(e); x++)
        parabolas(d + x, stride, mask->height, f, sites, from);
    for (int y = 0; room && y < mask->height && !sd_fail_if_stopped(e); y++)
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

/* diffusers' VaeImageProcessor.get_crop_region, third part, for one axis: from..to, within 0..side, is made `wanted`
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

/* torch multiplies by a float32 scale and rounds down. For sides that are no multiples, exact arithmetic could pick a
 * neighbour instead. */
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

/* Channel c of a pixel that has `channels` of them: grey serves for every colour, and without alpha it is opaque. */
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
    for (int oy = 0; oy < over->height && !sd_fail_if_stopped(e); oy++)
        for (int ox = 0; ox < over->width; ox++) {
            if (oy + y < 0 || oy + y >= base->height || ox + x < 0 || ox + x >= base->width) continue;
            unsigned m = mask ? *pixel(mask, ox, oy) : 255;
            uint8_t *to = pixel(base, ox + x, oy + y);
            const uint8_t *from = pixel(over, ox, oy);
            for (int c = 0; c < base->channels; c++) to[c] = mix(to[c], channel(from, over->channels, c), m);
        }
    return e->status;
}
