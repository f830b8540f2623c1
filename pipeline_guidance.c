/* pipeline_guidance.c - floor 6: classifier-free guidance: one prediction from those with and without the prompt. */
#include "pipeline_drawing.h"

#include <math.h>

static double deviation(const float *x, size_t n)   /* torch.std: the sample's, divided by n - 1 */
{
    double mean = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n > 1 ? n - 1 : 1));
}

/* Guidance makes predictions larger than those in training. By a share phi, this brings each picture's deviation back
 * to that of the prompt's own prediction [Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are
 * Flawed", sec. 3.4, eq. 15 and 16; diffusers rescale_noise_cfg]. */
static void rescale_guidance(sd_drawing *d)
{
    double phi = d->p.guidance.rescale;
    for (int b = 0; b < d->B && phi > 0; b++) {
        float *guided = d->prediction + (size_t)b * d->n;
        const float *cond = d->prediction + ((size_t)d->B + (size_t)b) * d->n;
        double own = deviation(guided, d->n), factor = own > 0 ? deviation(cond, d->n) / own : 1.0;
        for (size_t i = 0; i < d->n; i++) guided[i] = (float)(guided[i] * (phi * factor + 1.0 - phi));
    }
}

/* noise_pred = uncond + w (cond - uncond) [Ho & Salimans 2022, eq. 6, where our w is w + 1], into the first half. */
void sd_guide(sd_drawing *d)
{
    if (d->G == 1) return;
    size_t n = (size_t)d->B * d->n;
    for (size_t i = 0; i < n; i++) {
        double uncond = d->prediction[i], cond = d->prediction[n + i];
        d->prediction[i] = (float)(uncond + d->p.guidance.scale * (cond - uncond));
    }
    rescale_guidance(d);
}
