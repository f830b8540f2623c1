/* pipeline_noise.c - floor 6: the random numbers of a run: its generators, its initial noise, the report of draws. */
#include "pipeline_drawing.h"
#include "tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void sd_report_draw(void *user, const sd_random_draw *d)
{
    sd_ctx *c = user;
    if (c->random_draw) c->random_draw(c->random_draw_user, d);
}

sd_status sd_open_stream(sd_ctx *c, sd_stream **out, const char *spec, const sd_stream_options *o)
{
    const char *ending = spec ? strrchr(spec, '.') : NULL;
    if (!ending || strcmp(ending, ".safetensors") != 0) return sd_stream_open(out, spec, o, &c->err);
    float *numbers;
    int nd;
    int64_t d[4];
    *out = NULL;
    if (sd_read_floats(spec, "noise", &numbers, &nd, d, &c->err)) return c->err.status;
    size_t n = (size_t)(d[0] * d[1] * d[2] * d[3]);
    if (!sd_check_numbers(c, spec, numbers, n)) sd_stream_open_numbers(out, spec, numbers, n, o, &c->err);
    free(numbers);
    return c->err.status;
}

sd_status sd_drawing_open_streams(sd_ctx *c, sd_drawing *d)
{
    sd_stream_options o = {.seed = d->p.seed, .generators = d->p.seed_per_image ? d->B : 0, .on_draw = sd_report_draw,
                           .user = c};
    if (d->rng) return SD_OK;   /* they are those of the part before */
    if (sd_open_stream(c, &d->rng, d->p.rng, &o)) return c->err.status;
    d->sampler_rng = d->rng;
    if (!d->p.sampler_rng) return SD_OK;
    double least, most;   /* the range of noise levels, which a Brownian path needs */
    sd_sampler_span(d->sampler, &least, &most);
    sd_stream *s;
    if (sd_open_stream(c, &s, d->p.sampler_rng, &o)) return c->err.status;
    d->sampler_rng = s;
    return sd_stream_span(s, least, most, &c->err);
}

sd_status sd_drawing_noise(sd_ctx *c, sd_drawing *d)
{
    const char *who = "initial noise";
    if (!d->p.noise) return sd_stream_normal(d->rng, who, d->noise, (size_t)d->B, d->n, &c->err);
    sd_stream_options o = {.on_draw = sd_report_draw, .user = c};
    sd_stream *given;
    if (sd_stream_open_numbers(&given, "given numbers", d->p.noise, d->p.noise_count, &o, &c->err))
        return c->err.status;
    sd_stream_normal(given, who, d->noise, (size_t)d->B, d->n, &c->err);
    sd_stream_close(given);
    return c->err.status;
}

sd_status sd_drawing_fresh_noise(sd_ctx *c, const sd_drawing *d, double sigma_from, double sigma_to, float *out)
{
    return sd_stream_noise(d->sampler_rng, "sampler", sigma_from, sigma_to, out, (size_t)d->B, d->n, &c->err);
}
