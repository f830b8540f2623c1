/* pipeline_refiner.c - floor 6: runs of two models: the first one draws down to a noise level, and the refiner goes on
 * from there [Podell et al. 2023, section 2.5; Balaji et al. 2022, "eDiff-I"; diffusers' "ensemble of expert
 * denoisers"]. */
#include "params.h"
#include "pipeline_drawing.h"

#include <math.h>
#include <string.h>

/* Both must mean the same by latents, for these go from one to the other as they are. */
static sd_status check_latents_fit(const sd_model *base, const sd_model *refiner, sd_error *e)
{
    const sd_vae_config *a = &base->vae->cfg, *b = &refiner->vae->cfg;
    int ours = base->unet->cfg.out_channels, others = refiner->unet->cfg.out_channels;
    if (ours && others && ours != others)
        return sd_fail(e, SD_ERR_SHAPE, "the model has %d latent channels, the refiner %d: it cannot go on with them",
                       ours, others);
    if (!a->levels || !b->levels) return SD_OK;
    double off = fabs(a->scaling_factor - b->scaling_factor);
    if (sd_vae_scale(a) != sd_vae_scale(b) || off > 1e-6 * a->scaling_factor)
        return sd_fail(e, SD_ERR_SHAPE, "the model's latents are 1/%d of the picture, times %g, and the refiner's "
                       "1/%d, times %g: it cannot go on with them", sd_vae_scale(a), a->scaling_factor,
                       sd_vae_scale(b), b->scaling_factor);
    return SD_OK;
}

sd_status sd_open_refiner(sd_ctx *c, const sd_options *o, const char *merges)
{
    sd_options own = *o;   /* parts that replace the model's are not for the refiner, but for what decodes in the end */
    own.unet = own.text_encoder = own.text_encoder_2 = own.tokenizer = own.config = NULL;
    const sd_model_request q = {.path = o->refiner, .options = &own, .merges = merges, .log = &c->log,
                                .last_id = sd_model_last_id(&c->model)};
    if (sd_model_open(&c->refiner, &q, &c->err)) return c->err.status;
    c->has_refiner = true;
    sd_logf(&c->log, SD_LOG_DETAIL, "the refiner is %s", c->refiner.path);
    return check_latents_fit(&c->model, &c->refiner, &c->err);
}

void sd_use_refiner(sd_ctx *c, bool yes)
{
    if (yes == c->refines) return;
    sd_model now = c->refiner;
    sd_model_rest(&c->model);
    c->refiner = c->model;
    c->model = now;
    c->refines = yes;
}

static bool same(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

/* The refiner's scheduler is its own, read as the same sampler, for the latents' scale depends on that. Settings of the
 * caller's are for both models; but those that are the first model's own in any case are not: the text of a picture has
 * them, whoever set them. */
static sd_status settings_of_refiner(sd_ctx *c, sd_sampling_params *out, const sd_params *base)
{
    const sd_sampling_params *now = &base->sampling;
    sd_params bare, own;
    sd_sched_config s;
    sd_params_init(&bare);
    bare.sampling.sampler = out->sampler = now->sampler;
    bare.sampling.steps = out->steps = now->steps;
    if (sd_resolve(c, &bare, &own, &s, NULL)) return c->err.status;
    if (now->steps_offset == own.sampling.steps_offset) out->steps_offset = SD_DEFAULT;
    if (now->set_alpha_to_one == own.sampling.set_alpha_to_one) out->set_alpha_to_one = SD_DEFAULT;
    if (now->clip_sample == own.sampling.clip_sample) out->clip_sample = SD_DEFAULT;
    if (same(now->spacing, own.sampling.spacing)) out->spacing = NULL;
    if (now->sigmas || now->timesteps) return SD_OK;
    out->schedule = same(now->schedule, own.sampling.schedule) ? NULL : now->schedule ? now->schedule
        : sd_curve_name(SD_CURVE_SPACED);
    return SD_OK;
}

/* What the refiner is to do: the same as the model, but from the model's latents on. */
static sd_status params_of_refiner(sd_ctx *c, sd_params *out, const sd_params *given, const sd_drawing *base)
{
    sd_params plain;
    sd_params_init(&plain);
    if (sd_params_take(out, given, &c->err)) return c->err.status;
    out->sampling.denoising_start = base->p.sampling.refiner_at;
    out->sampling.refiner_at = SD_DEFAULT;
    out->sampling.from_step = SD_DEFAULT;
    out->sampling.prediction = NULL;
    out->guidance.scale = base->p.guidance.scale;
    out->width = base->p.width;
    out->height = base->p.height;
    out->edit = plain.edit;
    out->noise = NULL;
    out->latents = base->latents;   /* zeros until they are drawn */
    out->latents_count = (size_t)base->B * base->n;
    return settings_of_refiner(c, &out->sampling, &base->p);
}

void sd_drawing_prepare_refiner(sd_ctx *c, sd_drawing part[2], const sd_params *given)
{
    sd_params p;
    if (c->err.status || params_of_refiner(c, &p, given, &part[0])) return;
    sd_use_refiner(c, true);
    sd_drawing_resolve(c, &part[1], &p);
    sd_drawing_prepare(c, &part[1]);
    sd_use_refiner(c, false);
    if (c->err.status) return;
    part[1].before = sd_sampler_count(part[0].sampler);
    part[0].evaluations = part[1].evaluations = part[1].before + sd_sampler_count(part[1].sampler);
}

/* One generator draws for both, as two pipelines of diffusers do that are called with one generator. */
void sd_drawing_take_over(sd_ctx *c, sd_drawing *d, sd_drawing *base)
{
    sd_use_refiner(c, true);
    d->rng = base->rng;
    d->sampler_rng = base->sampler_rng;
    base->rng = base->sampler_rng = NULL;
    d->edit = base->edit;   /* how the picture is handed out */
    base->edit = (sd_edit){0};
}
