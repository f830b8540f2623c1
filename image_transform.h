/* image_transform.h - floor 3: reading pictures, and changing pictures and masks before and after the networks. */
#ifndef SD_IMAGE_TRANSFORM_H
#define SD_IMAGE_TRANSFORM_H

#include <math.h>

#include "base.h"

#define SD_IMAGE_SIDE 16384   /* the longest side allowed; so a picture has at most 2^28 pixels */

/* A mask is a picture of one channel: 255 is repainted, 0 is kept. */

typedef struct sd_rect {
    int x, y, width, height;
} sd_rect;

/* v/255 rounded, for v up to 255*255, without a division: Pillow's rounding wherever two pictures are mixed. */
static inline uint8_t sd_div255(unsigned v)
{
    v += 128;
    return (uint8_t)(((v >> 8) + v) >> 8);
}

/* In all functions below, `out` is overwritten without being freed, must not be `in`, and is all zero on failure. */
sd_status sd_check_size(int width, int height, sd_error *e);   /* sides that a picture may have */
sd_status sd_image_new(sd_image *out, int width, int height, int channels, sd_error *e);   /* all bytes 0 */

/* ---- image_resample.c: size */
typedef enum sd_filter {
    SD_FILTER_NEAREST,
    SD_FILTER_BOX,       /* area averages */
    SD_FILTER_LANCZOS    /* a = 3 */
} sd_filter;

typedef enum sd_fit {
    SD_FIT_STRETCH,      /* both sides become the wanted ones */
    SD_FIT_CROP,         /* covers the wanted size, the excess is cut off evenly */
    SD_FIT_PAD           /* fits inside the wanted size, centred; the rest is filled */
} sd_fit;
/* "stretch" (NULL), "crop", "pad" */
sd_status sd_fit_parse(sd_fit *fit, const char *name, sd_error *e);

sd_status sd_image_resample(sd_image *out, const sd_image *in, int width, int height, sd_filter filter,
                            sd_error *e);
/* fill: colour of what PAD adds, `channels` bytes; NULL: the edge pixels repeated. */
sd_status sd_image_fit(sd_image *out, const sd_image *in, int width, int height, sd_fit fit, sd_filter filter,
                         const uint8_t *fill, sd_error *e);
/* The same row by row. The caller gives every row of the source, from top to bottom. finish hands out the picture,
 * unless there is an error, and frees r in any case. */
typedef struct sd_resizing {
    int width, height, channels;   /* of the source */
    int to_width, to_height;
    sd_fit fit;
    sd_filter filter;
} sd_resizing;
typedef struct sd_resampler sd_resampler;
sd_status sd_resampler_new(sd_resampler **r, const sd_resizing *s, sd_error *e);
void sd_resampler_row(sd_resampler *r, const uint8_t *row);
sd_status sd_resampler_finish(sd_resampler *r, sd_image *out, const uint8_t *fill, sd_error *e);
void sd_resampler_free(sd_resampler *r);   /* instead of finishing it; NULL is harmless */

/* A part of a picture, in shares of its sides: {0, 0, 1, 1} is all of it. */
typedef struct sd_region {
    double x, y, width, height;
} sd_region;
/* A part of the numbers [height,width] at another size, as torch.nn.functional.interpolate(mode="bicubic",
 * align_corners=False) has them: four neighbours each way, edges repeated, and when shrinking nothing is averaged. */
void sd_numbers_resample(float *out, int to_width, int to_height, const float *in, int width, int height,
                         const sd_region *part);

/* ---- image_read.c: reads PNG, JPEG and PNM (P2, P3, P5, P6), recognised by content, as 3 or 4 channels, turned
 * upright by their EXIF orientation. Colour values are those of Pillow's Image.open(..).convert("RGB"). `name` names
 * the file in error texts. *unended (may be NULL): true for a PNG that ends after its pixels, without its end chunk.
 *
 * fitted (may be NULL): the size at which the picture is wanted. If the picture shrinks to that size, stands upright
 * and is opaque, it is resized while it is read, to the same bytes as sd_image_fit's, and `hash` is the MD5 of the
 * file's pixels. Otherwise the whole picture is read and `hash` is "": if it is enlarged or turned, if it is not opaque
 * (its alpha may be a mask), or if it is an interlaced PNG. */
typedef struct sd_fitted {
    int width, height;
    sd_fit fit;
    char hash[33];
} sd_fitted;
sd_status sd_image_load(sd_image *out, const char *path, sd_fitted *fitted, bool *unended, sd_error *e);
sd_status sd_image_load_memory(sd_image *out, const void *data, size_t n, const char *name, sd_fitted *fitted,
                               bool *unended, sd_error *e);
/* The sides according to the file's header; 0 for what can be read only once, such as a pipe. */
sd_status sd_image_sides(int *width, int *height, const char *path, sd_error *e);

/* ---- image_transform.c: cutting */
sd_status sd_image_crop(sd_image *out, const sd_image *in, sd_rect r, sd_error *e);
/* Adds margins, filled as above. (To get a mask of the new area, extend a mask of zeros by white.) */
sd_status sd_image_extend(sd_image *out, const sd_image *in, int left, int top, int right, int bottom,
                            const uint8_t *fill, sd_error *e);

/* ---- channels and numbers */
/* To RGB. Alpha is dropped, as by Pillow's convert("RGB"); or, if `background` (3 bytes) is not NULL, the picture is
 * laid over it. */
sd_status sd_image_to_rgb(sd_image *out, const sd_image *in, const uint8_t *background, sd_error *e);
/* [3, height, width] in [-1,1], v/127.5 - 1 in float: the bits of diffusers' VaeImageProcessor. */
void sd_image_to_float(float *out, const sd_image *p);
/* [-1,1] -> [0,1] [diffusers VaeImageProcessor.denormalize] */
static inline float sd_unit(float x) { return fminf(fmaxf(x / 2 + 0.5f, 0), 1); }
/* How 255 x becomes a byte: halves to even, as NumPy rounds for diffusers; cut off, which is one lower almost
 * everywhere (CompVis, A1111, ComfyUI); 1/2 added and cut off (stable-diffusion.cpp). The words of the parameter
 * "bytes". */
typedef enum sd_bytes { SD_BYTES_ROUND, SD_BYTES_TRUNCATE, SD_BYTES_HALF_UP } sd_bytes;
/* RGB from [3, height, width], which is in [0,1] if `unit`, else in [-1,1]. */
sd_status sd_image_from_float(sd_image *out, int width, int height, const float *from, bool unit, sd_bytes how,
                              sd_error *e);

/* ---- masks; functions without `out` change `mask` */
sd_status sd_mask_from_luma(sd_image *out, const sd_image *in, sd_error *e);    /* brightness: Pillow's convert("L") */
sd_status sd_mask_from_alpha(sd_image *out, const sd_image *in, sd_error *e);   /* transparency: 255 - alpha */
void sd_mask_threshold(sd_image *mask);   /* v/255 >= 0.5 becomes 255, the rest 0 */
void sd_mask_invert(sd_image *mask);
/* Gaussian blur with this standard deviation in pixels; the bytes are those of PIL.ImageFilter.GaussianBlur. */
sd_status sd_mask_blur(sd_image *mask, double radius, sd_error *e);
/* Fades towards the kept pixels, within the mask: v becomes at most 255*d/(width+1), where d is the distance to the
 * nearest 0. Zeros stay zeros. */
sd_status sd_mask_feather(sd_image *mask, double width, sd_error *e);
/* The rectangle of all pixels above 0 and `pad` pixels around it, inside the mask; if width is not 0, grown to the
 * shape of width x height as by diffusers' get_crop_region. False if the mask is all 0. */
bool sd_mask_region(const sd_image *mask, int pad, int width, int height, sd_rect *region);
/* out [height, width]: 1 where the mask is >= 0.5, else 0, sampled as
 * torch.nn.functional.interpolate(mode="nearest") does. */
void sd_mask_to_latent(float *out, int height, int width, const sd_image *mask);

/* Pastes `over` (1, 3 or 4 channels) onto `base` at x, y, cut at its borders: base + (over - base)*mask/255, rounded as
 * in PIL.Image.paste. The mask has the size of `over`; where it is 0 no byte of base changes; NULL is a white mask. */
sd_status sd_image_paste(sd_image *base, int x, int y, const sd_image *over, const sd_image *mask, sd_error *e);

#endif
