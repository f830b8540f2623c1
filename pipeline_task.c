/* pipeline_task.c - floor 6: the tasks, as data: a UNet for inpainting, one that follows instructions, ...
 *
 * A UNet that sees more than the latents has more input channels, and their number says what it is made for. */
#include "pipeline_task.h"

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

#define UNCOND "noise_pred_uncond"
#define TEXT "noise_pred_text"
#define IMAGE "noise_pred_image"
static const sd_passes unguided = {1, {{true, true, NULL}}, the_only_one, 0};
static const sd_passes guided = {2, {{false, true, UNCOND}, {true, true, TEXT}}, classifier_free, 1};
static const sd_passes guided_by_both = {3, {{true, true, TEXT}, {false, true, IMAGE}, {false, false, UNCOND}},
                                         of_text_and_picture, 0};

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

bool sd_task_guides_by_picture(const sd_task *t) { return t->guided == &guided_by_both; }

/* A UNet that is told the guidance scale answers as if it had been guided [Luo et al. 2023, section 4.3]. Without
 * enough guidance by the picture, diffusers' pipeline has none by the text either. */
const sd_passes *sd_task_passes(const sd_task *t, const sd_unet_config *u, const sd_guidance_params *g)
{
    bool guides = g->scale > 1 && !u->time_cond_dim && (!sd_task_guides_by_picture(t) || g->image_scale >= 1);
    return guides ? t->guided : &unguided;
}

sd_status sd_unet_can_draw(const sd_unet_config *u, sd_error *e)
{
    char text[256];
    const sd_task *t = sd_task_of(u);
    if (t && t->enlarges == (u->class_embeds > 0)) return SD_OK;
    if (t)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "a UNet with %d input channels and %s class embedding cannot draw",
                       u->in_channels, t->enlarges ? "no" : "a");
    size_t n = 0;
    for (size_t i = 0; i < SD_COUNT(tasks) && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%d (%s)", i + 1 == SD_COUNT(tasks) ? " or " : i ? ", " : "",
                              channels_of(&tasks[i], u->out_channels), tasks[i].name);
    return sd_fail(e, SD_ERR_UNSUPPORTED, "a UNet with %d input channels cannot draw pictures, only one with %s",
                   u->in_channels, text);
}
