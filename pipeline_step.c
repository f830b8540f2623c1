/* pipeline_step.c - floor 6: one step of a sampler.
 *
 * A sampler is made to take a step alone by letting it take all steps up to there again, with the answers that are
 * known. So it remembers what it would remember, its generator stands where it would stand, and the step has a run's
 * bits. */
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

typedef struct stepper { sd_ctx *c; sd_drawing *d; sd_stepped *out; bool asked; } stepper;

static sd_status before_evaluation(void *user, int i, float *latents)
{
    stepper *s = user;
    size_t bytes = (size_t)s->d->B * s->d->n * sizeof *latents;
    const float *given = sd_given_latents(s->c, s->d, s->d->skipped + i);
    if (i > 0) sd_drawing_keep_unmasked(s->d, i, latents);
    if (given) memcpy(latents, given, bytes);
    if (s->d->skipped + i == s->c->given.answers && s->out->latents) memcpy(s->out->latents, latents, bytes);
    return s->c->err.status;
}

/* The first question without an answer ends it. */
static sd_status answer(void *user, int i, double t, const float *input, float *prediction)
{
    stepper *s = user;
    const sd_drawing *d = s->d;
    const float *given = sd_given_answer(s->c, d, d->skipped + i);
    size_t sample = (size_t)d->channels * (size_t)d->h * (size_t)d->w;
    if (given) memcpy(prediction, given, (size_t)d->B * d->n * sizeof *prediction);
    if (given) return SD_OK;
    for (size_t b = 0; b < (size_t)d->B && s->out->sample; b++)
        sd_drawing_input(d, s->out->sample + b * sample, input + b * d->n, true);
    s->out->timestep = t;
    s->asked = true;
    return SD_ERR_CANCELLED;
}

static void see_denoised(void *user, int i, const float *x0)
{
    stepper *s = user;
    if (s->d->skipped + i == s->c->given.answers - 1 && s->out->denoised)
        memcpy(s->out->denoised, x0, (size_t)s->d->B * s->d->n * sizeof *x0);
}

static sd_status draw_noise(void *user, double sigma_from, double sigma_to, float *out, size_t n)
{
    stepper *s = user;
    (void)n;
    return sd_drawing_fresh_noise(s->c, s->d, sigma_from, sigma_to, out);
}

static sd_status check_counts(sd_ctx *c, const sd_drawing *d, const sd_stepped *out)
{
    size_t n = (size_t)d->B * d->n, sample = (size_t)d->B * (size_t)d->channels * (size_t)d->h * (size_t)d->w;
    if ((out->latents || out->denoised) && out->count != n)
        return sd_fail(&c->err, SD_ERR_ARG, "the latents of this run are %zu numbers, not %zu", n, out->count);
    if (out->sample && out->sample_count != sample)
        return sd_fail(&c->err, SD_ERR_ARG, "this UNet sees %zu numbers, not %zu", sample, out->sample_count);
    return SD_OK;
}

static void take_step(sd_ctx *c, sd_drawing *d, sd_stepped *out)
{
    stepper s = {c, d, out, false};
    const sd_denoiser hooks = {&s, answer, before_evaluation, see_denoised, draw_noise, d->B, NULL, NULL};
    sd_error end = {.halt = c->err.halt};
    int i = c->given.answers - d->skipped, count = sd_sampler_count(d->sampler);
    sd_drawing_begin(c, d);
    if (sd_drawing_done(c, d)) return;
    sd_sampler_run(d->sampler, d->latents, (size_t)d->B * d->n, &hooks, &end);
    if (end.status && !s.asked && !c->err.status) sd_fail(&c->err, end.status, "%s", end.text);
    out->ended = !s.asked;
    out->evaluations = d->evaluations ? count + d->skipped : 0;
    out->sigma = i >= 0 && i <= count ? sd_sampler_sigma(d->sampler, i) : 0;
}

sd_status sd_sampler_step(sd_ctx *c, const sd_params *params, sd_stepped *out)
{
    sd_drawing d = {.before = 0};
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "out", out)) return sd_end(c);
    if (out->size != sizeof *out)
        sd_fail(&c->err, SD_ERR_ARG, "out has a size of %zu bytes, not %zu: set it to sizeof(sd_stepped)", out->size,
                sizeof *out);
    if (!c->err.status) sd_drawing_resolve(c, &d, params);
    sd_drawing_prepare(c, &d);
    if (!c->err.status && !check_counts(c, &d, out)) take_step(c, &d, out);
    c->beside = 0;
    sd_drawing_free(&d);
    return sd_end(c);
}
