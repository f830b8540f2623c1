/* pipeline_task.c - floor 6: the tasks, as data: a UNet for inpainting, one that follows instructions, ...
 *
 * A UNet that sees more than the latents has more input channels, and their number says what it is made for. */
#include "pipeline_task.h"
#include "pipeline_edit.h"

/* ------------------------------------------------------------------------------------------ passes */

static double the_only_one(const sd_guidance_params *g, const double *e)
{
    (void)g;
    return e[0];
}

/* noise_pred = uncond + w (cond - uncond) [Ho & Salimans 2022, eq. 6, where our w is w + 1] */
static double classifier_free(const sd_guidance_params *g, const double *e) { return e[0] + g->scale * (e[1] - e[0]); }

/* noise_pred = uncond + w_T (text - image) + w_I (image - uncond), where `text` knows the instruction and the picture,
 * `image` the picture alone, `uncond` neither [Brooks et al. 2023, eq. 3] */
static double of_text_and_picture(const sd_guidance_params *g, const double *e)
{
    return e[2] + g->scale * (e[0] - e[1]) + g->image_scale * (e[1] - e[2]);
}

static const sd_passes unguided = {1, {{true, true}}, the_only_one, 0};
static const sd_passes guided = {2, {{false, true}, {true, true}}, classifier_free, 1};
static const sd_passes guided_by_both = {3, {{true, true}, {false, true}, {false, false}}, of_text_and_picture, 0};

/* ------------------------------------------------------------------------------------------- tasks */

static const sd_task tasks[] = {
    {.name = "drawing", .guided = &guided, .pipeline = "StableDiffusionPipeline",
     .xl_pipeline = "StableDiffusionXLPipeline", .example = "-p \"a red apple\""},
    {.name = "inpainting", .plane = {SD_PLANE_MASK, SD_PLANE_KEPT}, .needs_picture = true, .needs_mask = true,
     .guided = &guided, .pipeline = "StableDiffusionInpaintPipeline", .xl_pipeline = "StableDiffusionXLInpaintPipeline",
     .example = "-i PICTURE --mask MASK -p \"a red apple\""},
    {.name = "following instructions", .plane = {SD_PLANE_PICTURE}, .needs_picture = true, .from_noise = true,
     .guided = &guided_by_both, .pipeline = "StableDiffusionInstructPix2PixPipeline",
     .example = "-i PICTURE -p \"make the apple green\""},
    {.name = "drawing by a depth map", .plane = {SD_PLANE_DEPTH}, .needs_depth = true, .guided = &guided,
     .pipeline = "StableDiffusionDepth2ImgPipeline", .example = "--depth MAP -i PICTURE -p \"a red apple\""},
    {.name = "enlarging pictures", .plane = {SD_PLANE_SMALL}, .needs_picture = true, .from_noise = true,
     .enlarges = true, .guided = &guided, .pipeline = "StableDiffusionUpscalePipeline",
     .example = "-i PICTURE -p \"a red apple\""},
};

int sd_plane_channels(sd_plane_kind kind, int C)
{
    static const int channels[SD_PLANE_KINDS] = {[SD_PLANE_MASK] = 1, [SD_PLANE_DEPTH] = 1, [SD_PLANE_SMALL] = 3};
    return kind == SD_PLANE_KEPT || kind == SD_PLANE_PICTURE ? C : channels[kind];
}

/* What the UNet sees in all. */
static int channels_of(const sd_task *t, int C)
{
    int channels = C;
    for (int k = 0; k < SD_MOST_PLANES; k++) channels += sd_plane_channels(t->plane[k], C);
    return channels;
}

const sd_task *sd_task_of(const sd_unet_config *u)
{
    for (size_t i = 0; i < SD_COUNT(tasks); i++)
        if (channels_of(&tasks[i], u->out_channels) == u->in_channels) return &tasks[i];
    return NULL;
}

bool sd_task_has(const sd_task *t, sd_plane_kind kind)
{
    for (int i = 0; i < SD_MOST_PLANES; i++)
        if (t->plane[i] == kind) return true;
    return false;
}

/* A UNet that is told the guidance scale answers as if it had been guided [Luo et al. 2023, section 4.3]. Without
 * enough guidance by the picture, diffusers' pipeline has none by the text either. */
const sd_passes *sd_task_passes(const sd_task *t, const sd_unet_config *u, const sd_guidance_params *g)
{
    bool guides = g->scale > 1 && !u->time_cond_dim && (t->guided != &guided_by_both || g->image_scale >= 1);
    return guides ? t->guided : &unguided;
}

sd_status sd_unet_can_draw(const sd_unet_config *u, sd_error *e)
{
    char text[256];
    const sd_task *t = sd_task_of(u);
    if (t && t->enlarges == (u->class_embeds > 0)) return SD_OK;
    if (t)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "a UNet with %d input channels and %s class embedding cannot draw pictures",
                       u->in_channels, t->enlarges ? "no" : "a");
    size_t n = 0;
    for (size_t i = 0; i < SD_COUNT(tasks) && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%d (%s)", i + 1 == SD_COUNT(tasks) ? " or " : i ? ", " : "",
                              channels_of(&tasks[i], u->out_channels), tasks[i].name);
    return sd_fail(e, SD_ERR_UNSUPPORTED, "a UNet with %d input channels cannot draw pictures, only one with %s",
                   u->in_channels, text);
}

/* ------------------------------------------------------------------------------------- its parameters */

static sd_status check_edit(const sd_task *t, const sd_params *p, const sd_edit *edit, sd_error *e)
{
    const sd_edit_params *q = &p->edit;
    bool other_part = q->mask || q->alpha_mask || q->inpaint_crop >= 0;
    if ((t->needs_picture && !edit->active) || (t->needs_mask && !edit->masked))
        return sd_fail(e, SD_ERR_ARG, "this model is made for %s: it needs a picture%s", t->name,
                       t->needs_mask ? " and a mask" : "");
    if (t->from_noise && (other_part || sd_outpaints(p)))
        return sd_fail(e, SD_ERR_ARG, "this model is made for %s, and changes the whole of them: a mask, outpainting or "
                       "an area is not possible with it", t->name);
    if (t->from_noise && q->strength != SD_DEFAULT && q->strength != 1)
        return sd_fail(e, SD_ERR_ARG, "this model is made for %s, and begins from noise: a strength of %g is not possible "
                       "with it, only 1", t->name, q->strength);
    if (t->needs_depth && sd_outpaints(p))
        return sd_fail(e, SD_ERR_ARG, "outpainting is not possible with a depth map, which does not say how near the new "
                       "parts are");
    return SD_OK;
}

static sd_status check_depth(const sd_task *t, const sd_edit_params *q, sd_error *e)
{
    if (!t->needs_depth && q->depth)
        return sd_fail(e, SD_ERR_ARG, "a depth map needs a model that draws by one, this one is made for %s", t->name);
    if (!t->needs_depth) return SD_OK;
    if (!q->depth) return sd_fail(e, SD_ERR_ARG, "this model is made for %s: it needs one", t->name);
    if (q->depth_width < 1 || q->depth_height < 1 || q->depth_width > SD_IMAGE_SIDE || q->depth_height > SD_IMAGE_SIDE)
        return sd_fail(e, SD_ERR_ARG, "the depth map must have sides of 1 to %d numbers, not %dx%d", SD_IMAGE_SIDE,
                       q->depth_width, q->depth_height);
    size_t n = (size_t)q->depth_width * (size_t)q->depth_height;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(q->depth[i]) < 1e30f))
            return sd_fail(e, SD_ERR_ARG, "the depth map has %g as number %zu of %zu, which is no depth",
                           (double)q->depth[i], i + 1, n);
    return SD_OK;
}

sd_status sd_task_check(const sd_task *t, const sd_params *p, const sd_edit *edit, sd_error *e)
{
    if (!t->enlarges && p->edit.noise_level != SD_DEFAULT)
        return sd_fail(e, SD_ERR_ARG, "a noise level needs a model that enlarges pictures, this one is made for %s",
                       t->name);
    return check_edit(t, p, edit, e) ? e->status : check_depth(t, &p->edit, e);
}
