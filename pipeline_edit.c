/* pipeline_edit.c - floor 6: pictures and masks before and after the networks: sizes, margins, the working region,
 * pasting back. */
#include "params.h"
#include "pipeline_edit.h"
#include "pipeline_task.h"

#include <stdlib.h>
#include <string.h>

/* New area is painted from noise and fades into the old picture over this many pixels. */
static const double OUTPAINT_SEAM = 16;

void sd_edit_free(sd_edit *e)
{
    sd_image_free(&e->init);
    sd_image_free(&e->mask);
    sd_image_free(&e->whole);
    sd_image_free(&e->soft);
    memset(e, 0, sizeof *e);
}

/* Is some pixel's alpha at most `most`? */
static bool transparent(const sd_image *i, int most)
{
    size_t n = (size_t)i->width * (size_t)i->height;
    for (size_t k = 0; i->channels == 4 && k < n; k++)
        if (i->data[4 * k + 3] <= most) return true;
    return false;
}

/* Alpha is the mask if none is given and some pixel is more transparent than opaque. (Slight transparency, as editors
 * leave it at edges, would make a black mask.) */
static bool alpha_is_mask(const sd_params *p, const sd_edit *e)
{
    return !e->looked_at && (p->edit.alpha_mask || (!p->edit.mask && transparent(p->edit.init, 127)));
}

static const uint8_t white_pixel[] = {255, 255, 255};   /* the background of a picture whose alpha is no mask */

/* Makes the RGB picture to work on: *rgb is the caller's picture, or `own`, made from it, over white if over_white. */
static sd_status without_alpha(sd_image *rgb, sd_image *own, const sd_params *p, bool over_white, sd_error *e)
{
    *rgb = *p->edit.init;
    if (p->edit.init->channels != 3 && !sd_image_to_rgb(own, p->edit.init, over_white ? white_pixel : NULL, e))
        *rgb = *own;
    return e->status;
}

static sd_status check(const sd_params *p, sd_error *e)
{
    static const char *const sides[] = {"left", "top", "right", "bottom"};
    for (int i = 0; i < 4; i++)
        if (p->edit.outpaint[i] < 0 || p->edit.outpaint[i] > SD_IMAGE_SIDE)
            return sd_fail(e, SD_ERR_ARG, "outpaint must be 0 to %d pixels on the %s, not %d", SD_IMAGE_SIDE,
                           sides[i], p->edit.outpaint[i]);
    if (sd_outpaints(p) && (p->width || p->height))
        return sd_fail(e, SD_ERR_ARG,
                       "outpainting takes its size from the picture: width and height are not possible with it");
    if (sd_outpaints(p) && p->edit.inpaint_crop >= 0)
        return sd_fail(e, SD_ERR_ARG, "outpaint and inpaint crop are not possible together");
    if (p->edit.alpha_mask && p->edit.mask)
        return sd_fail(e, SD_ERR_ARG, "a mask and the picture's alpha as mask were given: choose one");
    if (p->edit.alpha_mask && p->edit.init->channels != 4)
        return sd_fail(e, SD_ERR_ARG, "the picture has no alpha to be the mask");
    return SD_OK;
}

/* The caller's mask at the picture's size, blurred, 255 where it is repainted; without data if nothing is masked. */
static sd_status make_mask(sd_image *mask, const sd_params *p, const sd_edit *edit, sd_error *e)
{
    sd_image luma = {0};
    memset(mask, 0, sizeof *mask);
    if (p->edit.mask) {
        if (sd_mask_from_luma(&luma, p->edit.mask, e)) return e->status;
        sd_image_resample(mask, &luma, p->edit.init->width, p->edit.init->height, SD_FILTER_LANCZOS, e);
        sd_image_free(&luma);
    } else if (alpha_is_mask(p, edit)) {
        sd_mask_from_alpha(mask, p->edit.init, e);
    } else {
        return SD_OK;
    }
    if (e->status) return e->status;
    if (p->edit.invert_mask) sd_mask_invert(mask);
    return p->edit.mask_blur > 0 ? sd_mask_blur(mask, p->edit.mask_blur, e) : SD_OK;
}

/* Adds noise of up to 32/255, which depends on the seed, to the masked pixels: if strength is below 1, smeared edges
 * would stay smears. It is not drawn from the latents' generator, whose stream must not depend on the picture's
 * size. */
static void roughen(sd_image *picture, const sd_image *mask, uint64_t seed)
{
    uint64_t state = seed ^ UINT64_C(0x9E3779B97F4A7C15);
    size_t n = (size_t)picture->width * (size_t)picture->height * 3;
    for (size_t i = 0; i < n; i++) {
        if (!mask->data[i / 3]) continue;
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int v = picture->data[i] + (int)(state >> 58) - 32;
        picture->data[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

/* ---- sizes, which need no pixel */

static int to_multiple(int side, int scale)
{
    int rounded = (side + scale / 2) / scale * scale;
    return rounded ? rounded : scale;
}

static int to_next_multiple(int side, int scale) { return (scale - side % scale) % scale; }

/* A picture whose kept pixels come back is not resized to a multiple of `scale`, because they would not be the same
 * pixels. It is extended by what is missing, which is kept like the rest and cut off in the end. */
static bool keeps_its_size(sd_ctx *c, const sd_params *p, int scale, bool masked, int width, int height)
{
    int w = p->edit.init->width, h = p->edit.init->height;
    if (!masked || !p->edit.paste_back || width || height || (w % scale == 0 && h % scale == 0)) return false;
    sd_logf(&c->log, SD_LOG_NOTICE,
            "the picture of %dx%d is widened to multiples of %d for the model, and comes back in its own size", w, h,
            scale);
    return true;
}

/* The canvas of outpainting. The result has the margins that were asked for; the working picture may be larger, because
 * its sides must be multiples of `scale`. */
static sd_status resolve_canvas(const sd_params *p, int scale, int *width, int *height, sd_edit *e, sd_error *err)
{
    const int *m = p->edit.outpaint;
    int64_t w = (int64_t)p->edit.init->width + m[0] + m[2], h = (int64_t)p->edit.init->height + m[1] + m[3];
    if (w > SD_IMAGE_SIDE || h > SD_IMAGE_SIDE)
        return sd_fail(err, SD_ERR_ARG, "the picture would grow to %lldx%lld, at most %d pixels a side are possible",
                       (long long)w, (long long)h, SD_IMAGE_SIDE);
    e->way = SD_EDIT_CANVAS;
    e->out_width = (int)w;
    e->out_height = (int)h;
    *width = e->out_width + to_next_multiple(e->out_width, scale);
    *height = e->out_height + to_next_multiple(e->out_height, scale);
    return SD_OK;
}

/* The mask's surroundings become the working picture, at the model's own size; the rest of the picture is unchanged. */
static void resolve_crop(const sd_ctx *c, const sd_params *p, int scale, int *width, int *height, sd_edit *e)
{
    e->way = SD_EDIT_CROP;
    e->out_width = p->edit.init->width;
    e->out_height = p->edit.init->height;
    if (!*width) *width = scale * c->model.unet->cfg.width;
    if (!*height) *height = scale * c->model.unet->cfg.height;
}

/* The whole picture at the caller's size, or at its own, rounded to multiples of `scale`; or so many times as large. */
static void resolve_whole(sd_ctx *c, const sd_params *p, int scale, bool enlarges, int *width, int *height, sd_edit *e)
{
    int w = p->edit.init->width, h = p->edit.init->height;
    int own_w = enlarges ? w * scale : to_multiple(w, scale), own_h = enlarges ? h * scale : to_multiple(h, scale);
    e->way = SD_EDIT_WHOLE;
    if (!enlarges && !*width && !*height && (own_w != w || own_h != h))
        sd_logf(&c->log, SD_LOG_NOTICE, "the picture of %dx%d becomes %dx%d, multiples of %d", w, h, own_w, own_h,
                scale);
    if (!*width) *width = own_w;
    if (!*height) *height = own_h;
    e->out_width = *width;
    e->out_height = *height;
}

sd_status sd_edit_resolve(sd_ctx *c, const sd_params *p, int *width, int *height, sd_edit *e)
{
    sd_error *err = &c->err;
    memset(e, 0, sizeof *e);
    if (!p->edit.init) {
        bool wanted = p->edit.mask || p->edit.alpha_mask || sd_outpaints(p) || p->edit.inpaint_crop >= 0
            || p->edit.strength != SD_DEFAULT;
        if (!wanted) return SD_OK;
        return sd_fail(err, SD_ERR_ARG, "a mask, a strength or outpainting needs a picture to begin from");
    }
    if (sd_check_sides(c, "the picture to begin from", p->edit.init)
        || (p->edit.mask && sd_check_sides(c, "the mask", p->edit.mask))
        || check(p, err))
        return err->status;
    int scale = sd_vae_scale(&c->model.vae->cfg);
    const sd_task *task = sd_task_of(&c->model.unet->cfg);
    e->active = true;
    e->looked_at = task && task->from_noise;
    bool masked = p->edit.mask || alpha_is_mask(p, e);
    e->paste = p->edit.paste_back != 0 || p->edit.inpaint_crop >= 0;
    e->masked = masked || sd_outpaints(p);
    e->posterior = sd_param_word("posterior", p->edit.posterior);
    e->mask_rule = sd_param_word("mask_rule", p->edit.mask_rule);
    e->strength = e->looked_at ? 1 : p->edit.strength == SD_DEFAULT ? e->masked ? 1 : 0.8 : p->edit.strength;
    if (p->edit.inpaint_crop >= 0) {
        if (!masked)
            return sd_fail(err, SD_ERR_ARG, "inpaint crop needs a mask, or a picture with transparent parts");
        resolve_crop(c, p, scale, width, height, e);
    } else if (sd_outpaints(p) || keeps_its_size(c, p, scale, masked, *width, *height)) {
        if (resolve_canvas(p, scale, width, height, e, err)) return err->status;
    } else {
        resolve_whole(c, p, scale, task && task->enlarges, width, height, e);
    }
    return p->edit.inpaint_crop < 0 ? sd_fit_parse(&e->fit, p->edit.resize, err) : err->status;
}

/* ---- pixels */

/* The picture between margins that repeat its edges; in the mask, new area to be outpainted is white. */
static sd_status fill_canvas(const sd_params *p, const sd_image *rgb, const sd_image *mask, int width, int height,
                             sd_edit *e, sd_error *err)
{
    const uint8_t fill = sd_outpaints(p) ? 255 : 0;
    const int *m = p->edit.outpaint;
    sd_image none = {0};
    int right = width - m[0] - rgb->width, bottom = height - m[1] - rgb->height;
    /* black: all of it is kept */
    if (!mask->data && sd_image_new(&none, rgb->width, rgb->height, 1, err)) return err->status;
    sd_image_extend(&e->soft, mask->data ? mask : &none, m[0], m[1], right, bottom, &fill, err);
    sd_image_free(&none);
    return err->status ? err->status : sd_image_extend(&e->whole, rgb, m[0], m[1], right, bottom, NULL, err);
}

static sd_status fill_crop(const sd_params *p, const sd_image *rgb, const sd_image *mask, int width, int height,
                           sd_edit *e, sd_error *err)
{
    sd_image part = {0};
    if (!sd_mask_region(mask, p->edit.inpaint_crop, width, height, &e->place))
        e->place = (sd_rect){0, 0, rgb->width, rgb->height};
    if (sd_image_to_rgb(&e->whole, rgb, NULL, err) || sd_image_crop(&part, rgb, e->place, err))
        return err->status;
    sd_image_resample(&e->init, &part, width, height, SD_FILTER_LANCZOS, err);
    sd_image_free(&part);
    if (err->status || sd_image_crop(&e->soft, mask, e->place, err)) return err->status;
    return sd_image_resample(&e->mask, &e->soft, width, height, SD_FILTER_LANCZOS, err);
}

/* The working picture is the whole picture, at one size. */
static sd_status fill_whole(const sd_params *p, const sd_image *rgb, const sd_image *mask, int width, int height,
                            sd_edit *e, sd_error *err)
{
    static const uint8_t black = 0;   /* what padding adds around a mask is kept */
    if (e->way == SD_EDIT_CANVAS) {
        fill_canvas(p, rgb, mask, width, height, e, err);
    } else if (!sd_image_fit(&e->whole, rgb, width, height, e->fit, SD_FILTER_LANCZOS, NULL, err) && mask->data) {
        sd_image_fit(&e->soft, mask, width, height, e->fit, SD_FILTER_LANCZOS, &black, err);
    }
    e->place = (sd_rect){0, 0, width, height};
    if (err->status || sd_image_to_rgb(&e->init, &e->whole, NULL, err) || !e->masked) return err->status;
    return sd_image_fit(&e->mask, &e->soft, width, height, SD_FIT_STRETCH, SD_FILTER_NEAREST, NULL, err);
}

/* Makes two masks: the networks' has two values, the one for pasting is soft. */
static sd_status finish_mask(sd_ctx *c, const sd_params *p, sd_edit *e)
{
    sd_mask_threshold(&e->mask);
    size_t n = (size_t)e->mask.width * (size_t)e->mask.height, white = 0;
    for (size_t i = 0; i < n; i++) white += e->mask.data[i] != 0;
    e->nothing = white == 0;
    if (e->nothing) sd_logf(&c->log, SD_LOG_WARNING, "the mask is black: nothing is repainted");
    if (sd_outpaints(p)) roughen(&e->init, &e->mask, p->seed);
    if (white == n) sd_logf(&c->log, SD_LOG_NOTICE, "the mask is white: everything is repainted");
    return sd_outpaints(p) ? sd_mask_feather(&e->soft, OUTPAINT_SEAM, &c->err) : SD_OK;
}

/* Which part of the caller's picture the working picture of width x height shows. Where its shape is another one, what
 * is cut off or added on both sides. */
static sd_region find_seen(const sd_params *p, int width, int height, const sd_edit *e)
{
    double w = p->edit.init->width, h = p->edit.init->height, wider = w * height / (h * width);
    const int *m = p->edit.outpaint;
    sd_region all = {0, 0, 1, 1};
    if (e->way == SD_EDIT_CANVAS) return (sd_region){-m[0] / w, -m[1] / h, width / w, height / h};
    if (e->way == SD_EDIT_CROP)
        return (sd_region){e->place.x / w, e->place.y / h, e->place.width / w, e->place.height / h};
    if (e->fit == SD_FIT_STRETCH) return all;
    if ((e->fit == SD_FIT_CROP) == (wider > 1)) all.width = 1 / wider;
    else all.height = wider;
    all.x = (1 - all.width) / 2;
    all.y = (1 - all.height) / 2;
    return all;
}

sd_status sd_edit_fill(sd_ctx *c, const sd_params *p, int width, int height, sd_edit *e)
{
    sd_image mask = {0}, rgb, own = {0};
    sd_error *err = &c->err;
    if (!e->active) return SD_OK;
    if (sd_check_image(c, "the picture to begin from", p->edit.init)
        || (p->edit.mask && sd_check_image(c, "the mask", p->edit.mask)))
        return err->status;
    bool over_white = transparent(p->edit.init, 254) && !alpha_is_mask(p, e);
    if (!without_alpha(&rgb, &own, p, over_white, err) && over_white)
        sd_logf(&c->log, SD_LOG_NOTICE, "the picture is a little transparent, which is no mask: it is laid over white");
    if (!err->status && !make_mask(&mask, p, e, err))
        (e->way == SD_EDIT_CROP ? fill_crop : fill_whole)(p, &rgb, &mask, width, height, e, err);
    sd_image_free(&mask);
    sd_image_free(&own);
    e->seen = find_seen(p, width, height, e);
    return !err->status && e->masked ? finish_mask(c, p, e) : err->status;
}

sd_status sd_edit_finish(const sd_edit *e, const sd_image *result, sd_image *image, sd_error *err)
{
    sd_image at_place = {0}, whole = {0};
    const sd_rect all = {0, 0, e->out_width, e->out_height};
    sd_image_resample(&at_place, result, e->place.width, e->place.height, SD_FILTER_LANCZOS, err);
    if (!err->status && e->masked && e->paste) {
        if (!sd_image_to_rgb(&whole, &e->whole, NULL, err))
            sd_image_paste(&whole, e->place.x, e->place.y, &at_place, &e->soft, err);
        if (!err->status) sd_image_crop(image, &whole, all, err);
    } else if (!err->status) {
        sd_image_crop(image, &at_place, all, err);
    }
    sd_image_free(&at_place);
    sd_image_free(&whole);
    return err->status;
}
