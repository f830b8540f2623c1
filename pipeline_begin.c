/* pipeline_begin.c - floor 6: the beginning of a run: noise, or a picture's latents with noise; and what image to image
 * and inpainting do to latents later. */
#include "params.h"
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

static void trace_latents(sd_ctx *c, const sd_drawing *d, float *x, int n, int channels, const char *name)
{
    const int64_t dim[] = {n, channels, d->h, d->w};
    sd_trace_numbers(&c->run, 4, dim, x, "%s", name);
}

/* The generator of posteriors. */
static sd_stream *posterior_stream(sd_ctx *c, sd_drawing *d)
{
    sd_stream_options o = {.seed = d->p.seed, .on_draw = sd_report_draw, .user = c};
    if (d->edit.posterior != SD_POSTERIOR_AGAIN) return d->rng;
    if (!d->posterior_rng) sd_open_stream(c, &d->posterior_rng, d->p.rng, &o);
    return d->posterior_rng;
}

/* Samples of a picture's posterior, [samples,C,h,w]. Noise is drawn for each; not for its mean, nor where a TAESD
 * encodes, whose latents are all the same [diffusers retrieve_latents]. */
static sd_status sample(sd_ctx *c, sd_drawing *d, const char *who, const float *moments, float *latents, int samples)
{
    const sd_vae_config *v = &c->model.encoder->cfg;
    size_t n = (size_t)samples * d->n;
    bool still = v->tiny || d->edit.posterior == SD_POSTERIOR_MEAN;
    float *noise = calloc(n, sizeof *noise);
    sd_stream *rng = still ? NULL : posterior_stream(c, d);
    if (!noise) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the noise of a posterior");
    else if (still || (rng && !sd_stream_normal(rng, who, noise, (size_t)samples, d->n, &c->err)))
        for (size_t i = 0; i < n; i += d->n)
            sd_vae_sample(moments, moments + d->n, noise + i, d->n, v->scaling_factor, latents + i);
    free(noise);
    return c->err.status;
}

/* Latents of d->picture, [samples,C,h,w]. Noise is drawn from the run's generators before the initial noise, as in
 * diffusers' pipelines. prefix: of the traced names (a run may encode two pictures). */
static sd_status encode_picture(sd_ctx *c, sd_drawing *d, const char *who, const char *prefix, float *latents,
                                int samples)
{
    float *moments = calloc(2 * d->n, sizeof *moments);
    if (c->model.vae->cfg.tiny && c->model.encoder != c->model.vae && !c->model.encoder->cfg.tiny && !c->rehearsing)
        sd_logf(&c->log, SD_LOG_NOTICE, "the TAESD has no encoder: the VAE encodes the picture");
    if (!moments) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the moments");
    else if (!sd_run_encode(c, prefix, 1, d->h, d->w, d->picture, moments))
        sample(c, d, who, moments, latents, samples);
    free(moments);
    return c->err.status;
}

/* --------------------------------------------------------------------------------- planes for the UNet */

static void fill_mask(sd_ctx *c, sd_drawing *d, float *plane)
{
    (void)c;
    memcpy(plane, d->mask, (size_t)d->h * (size_t)d->w * sizeof *plane);
}

/* Encodes what an inpainting UNet sees of the picture: its kept pixels, and 0, a middle grey, where it is repainted. */
static void fill_kept_part(sd_ctx *c, sd_drawing *d, float *plane)
{
    size_t pixels = (size_t)d->p.width * (size_t)d->p.height;
    sd_image_to_float(d->picture, &d->edit.init);
    for (size_t i = 0; i < 3 * pixels; i++)
        if (d->edit.mask.data[i % pixels]) d->picture[i] = 0;
    if (encode_picture(c, d, "posterior of the kept part", "masked_image.vae.", plane, 1)) return;
    trace_latents(c, d, plane, 1, d->C, "masked_image_latents");
}

/* What a UNet that follows instructions sees of the picture: the mode of its posterior, which was not scaled in
 * training [Brooks et al. 2023; StableDiffusionInstructPix2PixPipeline.prepare_image_latents]. */
static void fill_picture(sd_ctx *c, sd_drawing *d, float *plane)
{
    float *moments = calloc(2 * d->n, sizeof *moments);
    sd_image_to_float(d->picture, &d->edit.init);
    if (!moments) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the moments");
    else if (!sd_run_encode(c, "vae.", 1, d->h, d->w, d->picture, moments))
        memcpy(plane, moments, d->n * sizeof *plane);
    free(moments);
    if (!c->err.status) trace_latents(c, d, plane, 1, d->C, "image_latents");
}

/* The depth map at the latents' size, from -1 (far) to 1 (near)
 * [StableDiffusionDepth2ImgPipeline.prepare_depth_map]. */
static void fill_depth(sd_ctx *c, sd_drawing *d, float *plane)
{
    static const sd_region all = {0, 0, 1, 1};
    const sd_edit_params *e = &d->p.edit;
    size_t n = (size_t)d->h * (size_t)d->w;
    float least = INFINITY, most = -INFINITY;
    const sd_region *seen = d->edit.active ? &d->edit.seen : &all;
    sd_numbers_resample(plane, d->w, d->h, e->depth, e->depth_width, e->depth_height, seen);
    for (size_t i = 0; i < n; i++) {
        least = fminf(least, plane[i]);
        most = fmaxf(most, plane[i]);
    }
    if (!(most > least)) {
        sd_fail(&c->err, SD_ERR_ARG, "the depth map is flat at %dx%d: all points are equally near", d->w, d->h);
        return;
    }
    for (size_t i = 0; i < n; i++)
        plane[i] = (float)(2 * ((double)plane[i] - (double)least) / ((double)most - (double)least) - 1);
    trace_latents(c, d, plane, 1, 1, "depth_mask");
}

/* The small picture with the noise of its level, which the UNet is told [StableDiffusionUpscalePipeline]. */
static void fill_small(sd_ctx *c, sd_drawing *d, float *plane)
{
    size_t n = 3 * (size_t)d->h * (size_t)d->w;
    double level = d->p.edit.noise_level;
    sd_sched_config levels = c->model.low_res;
    sd_sampler *s = NULL;
    float *noise = malloc(n * sizeof *noise);
    levels.curve = SD_CURVE_TIMESTEPS;
    levels.timesteps = &level;
    if (!noise) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the noise of the small picture");
    else if (!sd_sampler_new(&s, &levels, 1, &c->err)
             && !sd_stream_normal(d->rng, "noise of the small picture", noise, 1, n, &c->err)) {
        trace_latents(c, d, noise, 1, 3, "low_res_noise");
        sd_image_to_float(d->picture, &d->edit.init);
        sd_sampler_add_noise(s, 0, plane, d->picture, noise, n);
        trace_latents(c, d, plane, 1, 3, "low_res_image");
    }
    sd_sampler_free(s);
    free(noise);
}

/* Fills the planes that are made before the run's noise is drawn, or those that are made after it, in the order of
 * diffusers' pipelines: what they draw comes from the same generator. */
static sd_status fill_planes(sd_ctx *c, sd_drawing *d, bool after_noise)
{
    static const struct { void (*fill)(sd_ctx *c, sd_drawing *d, float *plane); bool after_noise; } how[] = {
        [SD_PLANE_MASK] = {fill_mask, true},
        [SD_PLANE_KEPT] = {fill_kept_part, true},
        [SD_PLANE_PICTURE] = {fill_picture, false},
        [SD_PLANE_DEPTH] = {fill_depth, false},
        [SD_PLANE_SMALL] = {fill_small, false},
    };
    float *plane = d->planes;
    for (int i = 0; i < SD_MOST_PLANES && !c->err.status; i++) {
        sd_plane_kind kind = d->task->plane[i];
        if (kind != SD_PLANE_NONE && how[kind].after_noise == after_noise) how[kind].fill(c, d, plane);
        plane += (size_t)sd_plane_channels(kind, d->C) * (size_t)d->h * (size_t)d->w;
    }
    return c->err.status;
}

/* ------------------------------------------------------------------------------------------- latents */

static sd_status encode_init(sd_ctx *c, sd_drawing *d)
{
    sd_image_to_float(d->picture, &d->edit.init);
    if (encode_picture(c, d, "posterior of the picture", "vae.", d->image_latents, d->n_image_latents))
        return c->err.status;
    trace_latents(c, d, d->image_latents, d->n_image_latents, d->C, "image_latents");
    return SD_OK;
}

/* The latents of the picture from which picture b begins. */
static const float *image_latents(const sd_drawing *d, size_t b)
{
    return d->image_latents + b % (size_t)d->n_image_latents * d->n;
}

/* The sampler whose first level the picture's latents get: the run's; or, by the rule "above", one that begins a step
 * before it, for the caller to free. */
static sd_sampler *sampler_above(sd_ctx *c, const sd_drawing *d)
{
    sd_sampler *above = NULL;
    sd_sampler_part part = sd_part_of(&d->p, &d->levels);
    if (sd_param_word("strength_steps", d->p.edit.strength_steps) != SD_STEPS_ABOVE || !part.first--) return NULL;
    sd_sampler_new_part(&above, &d->levels, sd_steps_of_levels(&d->p), &part, &c->err);
    return above;
}

/* x = sigma_max noise; or the picture's latents with the noise of the first level that is used. */
static void first_latents(sd_ctx *c, sd_drawing *d, bool from_noise)
{
    size_t B = (size_t)d->B, n = d->n;
    double init = sd_sampler_init_sigma(d->sampler), more = from_noise ? init : sd_sampler_more_noise(d->sampler);
    sd_sampler *above = from_noise ? NULL : sampler_above(c, d);
    for (size_t b = 0; b < B && !from_noise; b++)
        sd_sampler_add_noise(above ? above : d->sampler, 0, d->latents + b * n, image_latents(d, b), d->noise + b * n,
                             n);
    sd_sampler_free(above);
    for (size_t i = 0; i < B * n && more > 0; i++)
        d->latents[i] = (float)((from_noise ? 0 : (double)d->latents[i]) + more * (double)d->noise[i]);
}

/* The order of the draws is diffusers': the picture's posterior (if it is needed), the noise, the kept part's posterior
 * [StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline.prepare_latents]. */
void sd_drawing_begin(sd_ctx *c, sd_drawing *d)
{
    if (sd_drawing_done(c, d) || sd_drawing_open_streams(c, d) || fill_planes(c, d, false)) return;
    if (d->p.latents && !(sd_given_replays(c) && !d->before)) {   /* another run began them */
        memcpy(d->latents, d->p.latents, (size_t)d->B * d->n * sizeof *d->latents);
        return;
    }
    bool usual = d->edit.mask_rule == SD_MASK_LATENTS;   /* else every run from a picture begins with its latents */
    bool from_noise = !d->edit.active || d->task->from_noise || (d->edit.masked && d->edit.strength == 1 && usual);
    bool knows_masks = sd_task_has(d->task, SD_PLANE_MASK);
    bool needs_latents = d->edit.active && (!from_noise || (d->edit.masked && !knows_masks));
    if (needs_latents && encode_init(c, d)) return;
    if (sd_drawing_noise(c, d)) return;
    trace_latents(c, d, d->noise, d->B, d->C, "noise");
    first_latents(c, d, from_noise);
    if (!d->edit.masked) return;
    sd_mask_to_latent(d->mask, d->h, d->w, &d->edit.mask);
    trace_latents(c, d, d->mask, 1, 1, "mask");
    if (knows_masks) fill_planes(c, d, true);
    else if (!c->model.encoder->cfg.tiny && usual && d->edit.posterior == SD_POSTERIOR_SAMPLE)
        /* a plain UNet does not need the kept part, but its noise is drawn */
        sd_stream_normal(d->rng, "posterior of the kept part, unused", d->input, 1, d->n, &c->err);
}

void sd_drawing_input(const sd_drawing *d, float *out, const float *latents, bool planes)
{
    size_t more = (size_t)(d->channels - d->C) * (size_t)d->h * (size_t)d->w;
    memcpy(out, latents, d->n * sizeof *out);
    if (planes) memcpy(out + d->n, d->planes, more * sizeof *out);
    else memset(out + d->n, 0, more * sizeof *out);
}

/* The kept part gets the noise of the next level, and after the last step none [diffusers
 * StableDiffusionInpaintPipeline; RePaint, Lugmayr et al. 2022, eq. 8]. */
void sd_drawing_keep_unmasked(sd_drawing *d, int i, float *latents)
{
    bool last = i == sd_sampler_count(d->sampler);
    bool usual = d->edit.mask_rule == SD_MASK_LATENTS && !sd_task_has(d->task, SD_PLANE_MASK);
    if (!d->edit.masked || (!usual && !(last && d->edit.mask_rule != SD_MASK_LATENTS))) return;
    size_t pixels = (size_t)d->h * (size_t)d->w;
    float *kept = d->input;   /* free between evaluations */
    for (size_t b = 0; b < (size_t)d->B; b++, latents += d->n) {
        if (last) memcpy(kept, image_latents(d, b), d->n * sizeof *kept);
        else sd_sampler_add_noise(d->sampler, i, kept, image_latents(d, b), d->noise + b * d->n, d->n);
        for (size_t k = 0; k < d->n; k++)
            latents[k] = (1 - d->mask[k % pixels]) * kept[k] + d->mask[k % pixels] * latents[k];
    }
}

/* numbers [B,C,h,w] become `kept` where the mask keeps the picture: its latents, and `noise` times the run's noise. */
static void put_back(const sd_drawing *d, double signal, double noise, double *numbers)
{
    size_t pixels = (size_t)d->h * (size_t)d->w;
    for (size_t b = 0; b < (size_t)d->B; b++, numbers += d->n)
        for (size_t k = 0; k < d->n; k++) {
            double m = d->mask[k % pixels], image = image_latents(d, b)[k], fresh = d->noise[b * d->n + k];
            numbers[k] = (1 - m) * (signal * image + noise * fresh) + m * numbers[k];
        }
}

void sd_drawing_keep_input(const sd_drawing *d, double signal, double noise, double *latents)
{
    put_back(d, signal, noise, latents);
}

void sd_drawing_keep_x0(const sd_drawing *d, double *x0) { put_back(d, 1, 0, x0); }
