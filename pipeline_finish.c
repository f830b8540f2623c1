/* pipeline_finish.c - floor 6: pictures that are handed out: those of a run, and those of a single step. */
#include "params.h"
#include "pipeline_drawing.h"

#include <stdlib.h>

/* ---------------------------------------------------------------------------------- of a whole run */

static sd_status make_image(sd_ctx *c, const sd_drawing *d, int i, sd_image *image)
{
    size_t floats = 3 * (size_t)d->p.width * (size_t)d->p.height;
    const float *picture = d->picture + (size_t)(d->first + i) * floats;
    sd_image drawn = {0};
    sd_bytes how = (sd_bytes)sd_param_word("bytes", d->p.bytes);
    if (!d->edit.nothing && sd_image_from_float(&drawn, d->p.width, d->p.height, picture, true, how,
                                                 &c->err))
        return c->err.status;
    if (!d->edit.active || d->edit.looked_at) {
        *image = drawn;
        return SD_OK;
    }
    sd_edit_finish(&d->edit, d->edit.nothing ? &d->edit.init : &drawn, image, &c->err);
    sd_image_free(&drawn);
    return c->err.status;
}

void sd_drawing_finish(sd_ctx *c, const sd_drawing *d, sd_image *images)
{
    for (int i = 0; images && i < d->n_images && !c->err.status; i++) {
        images[i] = (sd_image){0};
        make_image(c, d, i, &images[i]);
        while (c->err.status && i >= 0) sd_image_free(&images[i--]);
    }
}

/* --------------------------------------------------------------------------------- of a single step */

/* An approximation of the decoder's result, one pixel for each latent. */
static void quick_picture(const float rgb[5][3], float *picture, const float *latents, size_t pixels, int channels)
{
    for (size_t k = 0; k < 3; k++)
        for (size_t p = 0; p < pixels; p++) {
            picture[k * pixels + p] = rgb[4][k];
            for (size_t ch = 0; ch < 4 && ch < (size_t)channels; ch++)
                picture[k * pixels + p] += rgb[ch][k] * latents[ch * pixels + p];
        }
}

/* A TAESD decodes in the place of what decodes finished pictures. */
static void run_preview(sd_ctx *c, const sd_denoised *step, const float *latents, float *picture)
{
    const sd_vae *vae = c->model.vae;
    void (*used)(void *, const sd_tensor *) = c->run.used;
    c->model.vae = c->model.preview;
    c->previewing = true;
    c->run.used = NULL;   /* it is small: its weights stay */
    sd_run_decode(c, 1, step->height, step->width, latents, picture);
    c->run.used = used;
    c->previewing = false;
    c->model.vae = vae;
}

/* Without sd_begin: this happens within a run, and an error becomes the run's. */
sd_status sd_step_picture(sd_ctx *c, const sd_denoised *step, int index, int how, sd_image *image)
{
    if (image) *image = (sd_image){0};
    if (!c || c->err.status || sd_check_not_null(c, "step", step) || sd_check_not_null(c, "image", image)
        || sd_check_not_null(c, "x0", step->x0))
        return c ? c->err.status : SD_ERR_MEMORY;
    bool quick = how == SD_STEP_ROUGH, taesd = how == SD_STEP_TAESD;
    sd_trace *trace = c->run.trace;
    int scale = quick ? 1 : sd_vae_scale(&c->model.vae->cfg);
    size_t n = (size_t)step->channels * (size_t)step->height * (size_t)step->width;
    size_t pixels = (size_t)step->height * (size_t)step->width * (size_t)scale * (size_t)scale;
    if (index < 0 || index >= step->batch)
        return sd_fail(&c->err, SD_ERR_ARG, "there is no picture %d in a batch of %d", index, step->batch);
    if (taesd && !c->model.preview)
        return sd_fail(&c->err, SD_ERR_ARG, "a TAESD is to decode the picture of a step, and none was opened");
    double factor = quick ? 1 : (taesd ? c->model.preview : c->model.vae)->cfg.scaling_factor;
    float *latents = malloc(n * sizeof *latents), *picture = malloc(3 * pixels * sizeof *picture);
    if (!latents || !picture) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the picture of a step");
    for (size_t i = 0; i < n && latents; i++) {
        double x = (double)step->x0[(size_t)index * n + i];
        latents[i] = (float)(x / factor);
    }
    void (*progress)(void *, const sd_progress *) = c->progress;
    c->run.trace = NULL;   /* the decoder's names and its progress belong to the finished picture */
    c->progress = NULL;
    const float (*rgb)[3] = (const float (*)[3])c->model.latent_rgb;
    if (!c->err.status && quick) quick_picture(rgb, picture, latents, pixels, step->channels);
    else if (!c->err.status && taesd) run_preview(c, step, latents, picture);
    else if (!c->err.status) sd_run_decode(c, 1, step->height, step->width, latents, picture);
    c->run.trace = trace;
    c->progress = progress;
    if (!c->err.status)
        sd_image_from_float(image, step->width * scale, step->height * scale, picture, false, SD_BYTES_ROUND,
                            &c->err);
    free(latents);
    free(picture);
    return c->err.status;
}
