/* pipeline_prepare.c - floor 6: the second step of a run: sizes, the sampler, and all memory that the run will take. */
#include "params.h"
#include "pipeline_drawing.h"

#include <stdlib.h>

void sd_drawing_free(sd_drawing *d)
{
    sd_sampler_free(d->sampler);
    if (d->sampler_rng != d->rng) sd_stream_close(d->sampler_rng);
    sd_stream_close(d->rng);
    sd_stream_close(d->posterior_rng);
    sd_prompts_free(&d->prompts);
    free(d->latents);
    free(d->input);
    free(d->prediction);
    free(d->timestep);
    free(d->picture);
    free(d->noise);
    free(d->image_latents);
    free(d->planes);
    free(d->mask);
    sd_edit_free(&d->edit);
}

/* Before anything is allocated, asks for the memory of all arrays of the drawing, of the largest stage, and of the
 * pictures that are handed out. */
static sd_status check_memory(sd_ctx *c, const sd_drawing *d)
{
    double B = d->B, GB = B * d->G, latent = (double)d->n, pixels = (double)d->p.width * (double)d->p.height;
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    double floats = GB * SD_TOKENS * sd_cond_width(&c->model, plan) + 2 * B * latent
                  + GB * latent * (1 + (double)d->channels / d->C) + 3 * B * pixels
                  + (double)d->n_image_latents * latent + (1.0 + d->channels - d->C) * d->h * d->w;
    int decoded = sd_traces(&c->run) ? d->B : 1;
    c->beside = 4 * floats + 3 * B * pixels;
    double stages = sd_stages_memory(c, d->B * d->G, decoded, d->h, d->w, c->beside);
    char what[96];
    snprintf(what, sizeof what, "drawing %d picture%s of %dx%d at once", d->B, d->B == 1 ? "" : "s", d->p.width,
             d->p.height);
    return c->err.status ? c->err.status : sd_need_stages(c, stages, c->beside, what);
}

/* Finds all counts and sizes of the drawing. */
static sd_status count(sd_ctx *c, sd_drawing *d)
{
    const sd_unet_config *unet = &c->model.unet->cfg;
    int scale = sd_vae_scale(&c->model.vae->cfg);
    d->B = d->p.batch;
    /* With a list of generators StableDiffusionImg2ImgPipeline draws from each, StableDiffusionInpaintPipeline only
     * from the first. */
    bool each = d->p.seed_per_image && d->edit.posterior == SD_POSTERIOR_SAMPLE;
    d->n_image_latents = d->edit.active && !d->edit.masked && each ? d->B : 1;
    d->first = d->p.keep ? d->p.keep - 1 : 0;
    d->n_images = d->p.keep ? 1 : d->B;
    d->task = sd_task_of(unet);
    d->passes = sd_task_passes(d->task, unet, &d->p.guidance);
    d->G = d->passes->n;
    d->C = unet->out_channels;
    d->channels = unet->in_channels;
    d->h = d->p.height / scale;
    d->w = d->p.width / scale;
    d->n = (size_t)d->C * (size_t)d->h * (size_t)d->w;
    return SD_OK;
}

static float *zeros(size_t a, size_t b) { return calloc(a * b, sizeof(float)); }

static sd_status allocate(sd_ctx *c, sd_drawing *d)
{
    size_t B = (size_t)d->B, GB = B * (size_t)d->G, pixels = (size_t)d->h * (size_t)d->w;
    d->latents = zeros(B, d->n);
    d->input = zeros(GB * (size_t)d->channels, pixels);
    d->prediction = zeros(GB, d->n);
    d->timestep = zeros(GB, 1);
    d->picture = zeros(B * 3, (size_t)d->p.height * (size_t)d->p.width);
    d->noise = zeros(B, d->n);
    d->image_latents = zeros((size_t)d->n_image_latents, d->n);
    d->planes = zeros((size_t)(d->channels - d->C) + 1, pixels);   /* never empty */
    d->mask = zeros(1, pixels);
    const float *all[] = {d->latents, d->input, d->prediction, d->timestep, d->picture, d->noise, d->image_latents,
                          d->planes, d->mask};
    for (size_t i = 0; i < SD_COUNT(all); i++)
        if (!all[i])
            return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d pictures of %dx%d", d->B, d->p.width, d->p.height);
    return SD_OK;
}

/* Image to image takes the last int(steps * strength) steps [StableDiffusionImg2ImgPipeline.get_timesteps]. */
static sd_status make_sampler(sd_ctx *c, sd_drawing *d)
{
    sd_sampler_part part = sd_part_of(&d->p, &d->levels);
    if (sd_given_replays(c)) part.evaluation = 0;
    d->skipped = part.evaluation;
    if (d->edit.active && !d->task->from_noise && sd_method_is_open_ended(d->levels.method))
        return sd_fail(&c->err, SD_ERR_ARG, "%s cannot begin from a picture: its noise levels are not known before",
                       sd_method_name(d->levels.method));
    /* StableDiffusionInpaintPipeline's constructor; the other pipelines leave it as it is. */
    if (d->edit.masked) d->levels.skip_prk_steps = true;
    int steps = sd_steps_of_levels(&d->p);
    if (sd_sampler_new_part(&d->sampler, &d->levels, steps, &part, &c->err)) return c->err.status;
    d->evaluations = sd_sampler_count(d->sampler);
    c->steps = steps - part.first;
    return SD_OK;
}

void sd_drawing_prepare(sd_ctx *c, sd_drawing *d)
{
    if (c->err.status || count(c, d) || (!c->rehearsing && check_memory(c, d))) return;
    int shrunk = d->task->enlarges ? sd_vae_scale(&c->model.vae->cfg) : 1;
    if (sd_edit_fill(c, &d->p, d->p.width / shrunk, d->p.height / shrunk, &d->edit) || allocate(c, d)) return;
    if (!make_sampler(c, d)) sd_drawing_check_given(c, d);
}
