/* pipeline_begin.c - floor 6: the beginning of a run: noise, or a picture's latents with noise; and what image to image
 * and inpainting do to latents later. */
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

static void trace_latents(sd_ctx *c, const sd_drawing *d, float *x, int n, int channels, const char *name)
{
    const int64_t dim[] = {n, channels, d->h, d->w};
    sd_trace_numbers(&c->run, 4, dim, x, "%s", name);
}

/* Latents of d->picture, [samples,C,h,w]: samples of its posterior. Their noise is drawn from the run's generators
 * before the initial noise, as in diffusers' pipelines. prefix: of the traced names (a run may encode two pictures). */
static sd_status encode_picture(sd_ctx *c, sd_drawing *d, const char *who, const char *prefix, float *latents,
                                int samples)
{
    size_t n = (size_t)samples * d->n;
    float *moments = calloc(2 * d->n, sizeof *moments), *noise = malloc(n * sizeof *noise);
    if (!moments || !noise) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the moments");
    else if (!sd_run_encode(c, prefix, 1, d->h, d->w, d->picture, moments)
             && !sd_stream_normal(d->rng, who, noise, (size_t)samples, d->n, &c->err))
        for (size_t i = 0; i < n; i += d->n)
            sd_vae_sample(moments, moments + d->n, noise + i, d->n, c->model.vae->cfg.scaling_factor, latents + i);
    free(moments);
    free(noise);
    return c->err.status;
}

/* Encodes what an inpainting UNet sees of the picture: its kept pixels, and 0, a middle grey, where it is repainted. */
static sd_status encode_kept_part(sd_ctx *c, sd_drawing *d)
{
    size_t pixels = (size_t)d->p.width * (size_t)d->p.height;
    sd_image_to_float(d->picture, &d->edit.init);
    for (size_t i = 0; i < 3 * pixels; i++)
        if (d->edit.mask.data[i % pixels]) d->picture[i] = 0;
    if (encode_picture(c, d, "posterior of the kept part", "masked_image.vae.", d->masked_latents, 1))
        return c->err.status;
    trace_latents(c, d, d->masked_latents, 1, d->C, "masked_image_latents");
    return SD_OK;
}

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

/* x = sigma_max noise; or the picture's latents with the noise of the first level that is used. */
static void first_latents(sd_drawing *d, bool from_noise)
{
    size_t B = (size_t)d->B, n = d->n;
    double init = sd_sampler_init_sigma(d->sampler);
    for (size_t i = 0; i < B * n && from_noise; i++) d->latents[i] = (float)(init * (double)d->noise[i]);
    for (size_t b = 0; b < B && !from_noise; b++)
        sd_sampler_add_noise(d->sampler, 0, d->latents + b * n, image_latents(d, b), d->noise + b * n, n);
}

/* The order of the draws is diffusers': the picture's posterior (if it is needed), the noise, the kept part's posterior
 * [StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline.prepare_latents]. */
void sd_drawing_begin(sd_ctx *c, sd_drawing *d)
{
    bool from_noise = !d->edit.active || (d->edit.masked && d->edit.strength == 1), knows_masks = d->channels != d->C;
    if (sd_drawing_done(c, d) || sd_drawing_open_streams(c, d)) return;
    if (d->edit.active && (!knows_masks || !from_noise) && encode_init(c, d)) return;
    if (sd_drawing_noise(c, d)) return;
    trace_latents(c, d, d->noise, d->B, d->C, "noise");
    first_latents(d, from_noise);
    if (!d->edit.masked) return;
    sd_mask_to_latent(d->mask, d->h, d->w, &d->edit.mask);
    trace_latents(c, d, d->mask, 1, 1, "mask");
    if (knows_masks) encode_kept_part(c, d);
    else   /* a plain UNet does not need the kept part, but diffusers draws noise for it all the same */
        sd_stream_normal(d->rng, "posterior of the kept part, unused", d->masked_latents, 1, d->n, &c->err);
}

void sd_drawing_input(const sd_drawing *d, float *out, const float *latents)
{
    size_t pixels = (size_t)d->h * (size_t)d->w;
    memcpy(out, latents, d->n * sizeof *out);
    if (d->channels == d->C) return;
    memcpy(out + d->n, d->mask, pixels * sizeof *out);
    memcpy(out + d->n + pixels, d->masked_latents, d->n * sizeof *out);
}

/* The kept part gets the noise of the next level, and after the last step none [diffusers
 * StableDiffusionInpaintPipeline; RePaint, Lugmayr et al. 2022, eq. 8]. */
void sd_drawing_keep_unmasked(sd_drawing *d, int i, float *latents)
{
    if (!d->edit.masked || d->channels != d->C) return;
    size_t pixels = (size_t)d->h * (size_t)d->w;
    bool last = i == sd_sampler_count(d->sampler);
    float *kept = d->input;   /* free between evaluations */
    for (size_t b = 0; b < (size_t)d->B; b++, latents += d->n) {
        if (last) memcpy(kept, image_latents(d, b), d->n * sizeof *kept);
        else sd_sampler_add_noise(d->sampler, i, kept, image_latents(d, b), d->noise + b * d->n, d->n);
        for (size_t k = 0; k < d->n; k++)
            latents[k] = (1 - d->mask[k % pixels]) * kept[k] + d->mask[k % pixels] * latents[k];
    }
}
