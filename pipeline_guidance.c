/* pipeline_guidance.c - floor 6: classifier-free guidance: one prediction from those with and without the prompt. */
#include "pipeline_drawing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double deviation(const float *x, size_t n)   /* torch.std: the sample's, divided by n - 1 */
{
    double mean = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n > 1 ? n - 1 : 1));
}

/* Picture b's answers become one, in the first of them. Guidance makes predictions larger than those in training. By a
 * share phi, its deviation is brought back to that of the prompt's own prediction [Lin et al. 2023, "Common Diffusion
 * Noise Schedules and Sample Steps are Flawed", sec. 3.4, eq. 15 and 16; diffusers rescale_noise_cfg]. */
static void guide_picture(sd_drawing *d, size_t b)
{
    size_t pass = (size_t)d->B * d->n;
    float *answer = d->prediction + b * d->n;
    double phi = d->p.guidance.rescale;
    double prompts = phi > 0 ? deviation(answer + (size_t)d->passes->prompt * pass, d->n) : 0;
    for (size_t i = 0; i < d->n; i++) {
        double e[SD_MOST_PASSES];
        for (size_t k = 0; k < (size_t)d->G; k++) e[k] = answer[k * pass + i];
        answer[i] = (float)d->passes->guide(&d->p.guidance, e);
    }
    if (!(phi > 0)) return;
    double own = deviation(answer, d->n), factor = own > 0 ? prompts / own : 1.0;
    for (size_t i = 0; i < d->n; i++) answer[i] = (float)(answer[i] * (phi * factor + 1.0 - phi));
}

void sd_guide(sd_drawing *d)
{
    for (size_t b = 0; b < (size_t)d->B && d->G > 1; b++) guide_picture(d, b);
}

static sd_status guide_answers(sd_ctx *c, const sd_guidance_params *g, int batch, size_t n, const float *answers,
                               float *noise_pred, int *passes)
{
    const sd_unet_config *u = &c->model.unet->cfg;
    sd_drawing d = {.B = batch, .n = n, .p.guidance = *g};
    size_t one = (size_t)batch * n;
    if (g->scale == SD_DEFAULT) d.p.guidance.scale = sd_own_values_of(&c->model).guidance;
    if (g->image_scale == SD_DEFAULT) d.p.guidance.image_scale = 1.5;
    d.passes = sd_task_passes(sd_task_of(u), u, &d.p.guidance);
    d.G = *passes = d.passes->n;
    if (!answers) return SD_OK;
    if (batch < 1 || batch > 1024 || n < 1 || n > SIZE_MAX / 1024 / SD_MOST_PASSES / sizeof(float))
        return sd_fail(&c->err, SD_ERR_ARG, "answers for %d pictures of %zu numbers", batch, n);
    d.prediction = malloc((size_t)d.G * one * sizeof(float));
    if (!d.prediction) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d answers", d.G * batch);
    memcpy(d.prediction, answers, (size_t)d.G * one * sizeof(float));
    sd_guide(&d);
    memcpy(noise_pred, d.prediction, one * sizeof(float));
    free(d.prediction);
    return SD_OK;
}

sd_status sd_guide_answers(sd_ctx *c, const sd_guidance_params *guidance, int batch, size_t n, const float *answers,
                           float *noise_pred, int *passes)
{
    if (!sd_begin(c) && !sd_need(c, SD_PART_UNET) && !sd_check_not_null(c, "guidance", guidance)
        && !sd_check_not_null(c, "passes", passes) && !(answers && sd_check_not_null(c, "noise_pred", noise_pred))
        && !sd_unet_can_draw(&c->model.unet->cfg, &c->err))
        guide_answers(c, guidance, batch, n, answers, noise_pred, passes);
    return sd_end(c);
}
