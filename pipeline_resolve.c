/* pipeline_resolve.c - floor 6: resolves a run's parameters: fills in every default, checks every value, and finds the
 * scheduler that follows from them and from the model. */
#include "likes.h"
#include "params.h"
#include "pipeline_drawing.h"
#include "unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------- the model's own */

/* scheduler_config.json's own keys are of this very model; then comes its family, or one of the same kind. */
sd_own_values sd_own_values_of(const sd_model *m)
{
    const sd_family *f = m->family ? m->family : sd_family_of_inputs(&m->unet->cfg);
    sd_own_values v = {.steps = f ? f->steps : 25, .guidance = f ? f->guidance : 7.5};
    snprintf(v.steps_from, sizeof v.steps_from, "of %.50s",
             !f ? "this program" : m->family ? f->title : "models of its kind");
    memcpy(v.guidance_from, v.steps_from, sizeof v.guidance_from);
    if (m->sched.steps != SD_DEFAULT) {
        v.steps = m->sched.steps;
        strcpy(v.steps_from, "by _steps in scheduler_config.json");
    }
    if (m->sched.guidance_scale != SD_DEFAULT) {
        v.guidance = m->sched.guidance_scale;
        strcpy(v.guidance_from, "by _guidance_scale in scheduler_config.json");
    }
    return v;
}

static sd_status take_params(const sd_ctx *c, sd_params *out, const sd_params *given, sd_error *e)
{
    if (sd_params_take(out, given, e) || sd_params_check_words(out, e)) return e->status;
    sd_like_apply(&c->model, out);
    sd_own_values own = sd_own_values_of(&c->model);
    if (out->sampling.steps == SD_DEFAULT) out->sampling.steps = own.steps;
    if (out->guidance.scale == SD_DEFAULT) out->guidance.scale = own.guidance;
    return SD_OK;
}

/* ------------------------------------------------------------------------------------ the scheduler */

/* The number of steps, which a list of levels determines. */
static int steps_of(const sd_params *p)
{
    return p->sampling.sigmas ? p->sampling.sigma_count - 1 : p->sampling.timesteps ? p->sampling.timestep_count
        : p->sampling.steps;
}

/* Copies the caller's noise levels, and settings that only some samplers have, to the scheduler. */
static sd_status apply_schedule_params(const sd_params *p, sd_sched_config *s, sd_error *e)
{
    sd_error not_a_spacing = {.status = SD_OK};
    const char *schedule = p->sampling.schedule;
    if (!schedule && p->sampling.sampler && !p->sampling.sigmas && !p->sampling.timesteps)
        schedule = sd_method_schedule(p->sampling.sampler);
    if (schedule && sd_spacing_parse(&s->spacing, schedule, &not_a_spacing) && sd_curve_parse(&s->curve, schedule, e))
        return e->status;
    if (p->sampling.sigmas && p->sampling.timesteps)
        return sd_fail(e, SD_ERR_ARG, "sigmas and timesteps say the same thing in two ways: give one of them");
    if ((p->sampling.sigmas || p->sampling.timesteps) && p->sampling.schedule)
        return sd_fail(e, SD_ERR_ARG, "a schedule and a list of its levels were given: give one of them");
    if (p->sampling.sigmas && (p->sampling.sigma_count < 2 || p->sampling.sigma_count - 1 > s->train_steps))
        return sd_fail(e, SD_ERR_ARG, "sigmas: 2 to %d numbers are possible, not %d", s->train_steps + 1,
                       p->sampling.sigma_count);
    if (p->sampling.timesteps && (p->sampling.timestep_count < 1 || p->sampling.timestep_count > s->train_steps))
        return sd_fail(e, SD_ERR_ARG, "timesteps: 1 to %d numbers are possible, not %d", s->train_steps,
                       p->sampling.timestep_count);
    if (p->sampling.sigmas) s->curve = SD_CURVE_SIGMAS;
    if (p->sampling.timesteps) s->curve = SD_CURVE_TIMESTEPS;
    s->sigmas = p->sampling.sigmas;
    s->timesteps = p->sampling.timesteps;
    if (p->sampling.order != SD_DEFAULT) s->order = s->corrector_order = p->sampling.order;
    s->s_churn = p->sampling.s_churn;
    s->s_tmin = p->sampling.s_tmin;
    s->s_tmax = p->sampling.s_tmax;
    s->s_noise = p->sampling.s_noise;
    if (p->sampling.first_latents)
        s->first = (sd_first)(SD_FIRST_SIGMA + sd_param_word("first_latents", p->sampling.first_latents));
    s->whole_timesteps = p->sampling.whole_timesteps == 1;
    return SD_OK;
}

/* Reads the file's settings as this sampler does, with the caller's noise levels. */
static sd_status read_as(sd_ctx *c, const sd_params *p, const char *sampler, sd_sched_config *s)
{
    sd_error *e = &c->err;
    *s = c->model.sched;
    if (sampler && sd_model_read_sched(&c->model, sampler, s, e)) return e->status;
    if (p->sampling.spacing && sd_spacing_parse(&s->spacing, p->sampling.spacing, e)) return e->status;
    return apply_schedule_params(p, s, e);
}

/* The scheduler that a run will use: the file's, read as the wanted class, then changed by the caller's parameters.
 * Most models' files name PNDM or DDIM, which have their own levels. A caller who asks for other levels without naming
 * a sampler gets the sampler that is usually used with them; if `tell`, a notice says so. */
static sd_status schedule_config(sd_ctx *c, const sd_params *p, sd_sched_config *s, bool tell)
{
    static const char instead[] = "dpm++2m";
    sd_error *e = &c->err;
    if (read_as(c, p, p->sampling.sampler, s)) return e->status;
    if (!p->sampling.sampler && !sd_takes_curve(s)) {
        if (tell)
            sd_logf(&c->log, SD_LOG_NOTICE,
                    "the model's sampler, %s, goes by its own noise levels: %s draws with those of %s",
                    sd_method_name(s->method), instead, sd_curve_name(s->curve));
        if (read_as(c, p, instead, s)) return e->status;
    }
    if (p->sampling.prediction && sd_prediction_parse(&s->prediction, p->sampling.prediction, e)) return e->status;
    int steps = steps_of(p);
    if (steps < 1 || steps > s->train_steps)
        return sd_fail(e, SD_ERR_ARG, "steps must be 1 to %d, not %d", s->train_steps, steps);
    if (p->sampling.order > steps && !sd_method_is_open_ended(s->method))
        return sd_fail(e, SD_ERR_ARG, "order %d needs %d steps or more, not %d", p->sampling.order, p->sampling.order,
                       steps);
    if (p->sampling.steps_offset >= s->train_steps)
        return sd_fail(e, SD_ERR_ARG, "steps offset must be 0 to %d, not %d", s->train_steps - 1,
                       p->sampling.steps_offset);
    if (p->sampling.steps_offset != SD_DEFAULT) s->steps_offset = p->sampling.steps_offset;
    if (p->sampling.set_alpha_to_one != SD_DEFAULT) s->set_alpha_to_one = p->sampling.set_alpha_to_one != 0;
    if (p->sampling.clip_sample != SD_DEFAULT) s->clip_sample = p->sampling.clip_sample != 0;
    if (p->sampling.eta != SD_DEFAULT) s->eta = p->sampling.eta;
    return SD_OK;
}

static sd_status check_side(sd_ctx *c, const char *what, int *side, int native, int scale)
{
    int most = 8192 * scale, below = *side / scale * scale;
    if (*side == 0) *side = native;
    else if (*side < scale || *side > most)
        return sd_fail(&c->err, SD_ERR_ARG, "%s must be %d to %d pixels, not %d", what, scale, most, *side);
    else if (*side != below)
        return sd_fail(&c->err, SD_ERR_ARG, "%s must be a multiple of %d, not %d: %d and %d are the nearest", what,
                       scale, *side, below, below + scale);
    return SD_OK;
}

static sd_status check_stream(sd_ctx *c, const char *spec)
{
    sd_stream *s = NULL;
    if (!sd_open_stream(c, &s, spec, &(sd_stream_options){0})) sd_stream_close(s);
    return c->err.status;
}

/* How much noise an upscaler's picture gets [StableDiffusionUpscalePipeline.check_inputs]. */
static sd_status resolve_noise_level(sd_ctx *c, int *level)
{
    enum { USUAL = 20 };
    int most = c->model.most_noise;
    if (*level == SD_DEFAULT) *level = most < USUAL ? most : USUAL;
    if (*level >= 0 && *level <= most) return SD_OK;
    return sd_fail(&c->err, SD_ERR_ARG, "the noise level must be 0 to %d for this model, not %d", most, *level);
}

static sd_status resolve_edit(sd_ctx *c, const sd_params *p, sd_params *out, sd_edit *edit, bool tells)
{
    sd_log log = c->log;
    if (!tells) c->log.fn = NULL;   /* the notices about an edit are for the run itself */
    if (!sd_edit_resolve(c, p, &out->width, &out->height, edit) && edit->active) out->edit.strength = edit->strength;
    c->log = log;
    const sd_task *task = sd_task_of(&c->model.unet->cfg);
    if (c->err.status || sd_task_check(task, p, edit, &c->err)) return c->err.status;
    if (sd_task_guides_by_picture(task) && out->guidance.image_scale == SD_DEFAULT) out->guidance.image_scale = 1.5;
    return task->enlarges ? resolve_noise_level(c, &out->edit.noise_level) : SD_OK;
}

static sd_status check_prompts(const sd_params *p, sd_error *e)
{
    if (p->prompt && sd_utf8_check(p->prompt, "the prompt", e)) return e->status;
    return p->negative_prompt ? sd_utf8_check(p->negative_prompt, "the negative prompt", e) : SD_OK;
}

/* A share of the steps, from the end [StableDiffusionImg2ImgPipeline.get_timesteps]. A model that is told the guidance
 * takes all of them, chosen from a share of those that it was distilled with
 * [LatentConsistencyModelImg2ImgPipeline]. */
static sd_status apply_strength(const sd_ctx *c, const sd_params *p, const sd_edit *edit, sd_sched_config *s,
                                sd_error *e)
{
    int steps = p->sampling.steps, least = 1;
    double strength = p->edit.strength;
    bool all_steps = c->model.unet->cfg.time_cond_dim && s->method == SD_LCM && s->curve != SD_CURVE_TIMESTEPS;
    int rule = sd_param_word("strength_steps", p->edit.strength_steps);
    if (!edit->active) return SD_OK;
    if (all_steps && !edit->masked) {
        s->strength = strength;
        return SD_OK;
    }
    if ((int)(steps * strength) >= 1 || rule == SD_STEPS_ONE_MORE || (rule == SD_STEPS_ALL && strength > 0))
        return SD_OK;
    while (least <= s->train_steps && (int)(least * strength) < 1) least++;
    if (least > s->train_steps)
        return sd_fail(e, SD_ERR_ARG, "strength %g leaves none of %d steps: a strength of %g or more is needed",
                       strength, steps, 1.0 / steps);
    return sd_fail(e, SD_ERR_ARG, "strength %g leaves none of %d step%s: %d steps or more are needed, or a strength of "
                   "%g or more", strength, steps, steps == 1 ? "" : "s", least, 1.0 / steps);
}

/* What follows from the model and not from the caller. */
static void tell(sd_ctx *c, const sd_params *given, const sd_params *p)
{
    const sd_unet_config *u = &c->model.unet->cfg;
    sd_own_values own = sd_own_values_of(&c->model);
    bool has_negative = given->negative_prompt && *given->negative_prompt;
    bool steps = given->sampling.steps == SD_DEFAULT && !given->sampling.sigmas && !given->sampling.timesteps;
    bool guidance = given->guidance.scale == SD_DEFAULT;
    const sd_family *f = c->model.family;
    if (steps && guidance && f && own.guidance <= 1 && !c->model.config_family) {   /* fewer than one may expect */
        sd_logf(&c->log, SD_LOG_NOTICE, "drawn as %s is: %d step%s without guidance, unless --steps and --cfg-scale, "
                "or --config, say otherwise", f->title, own.steps, own.steps == 1 ? "" : "s");
        steps = guidance = false;
    }
    if (steps && guidance && !given->sampling.sampler && c->model.few.word)
        sd_logf(&c->log, SD_LOG_NOTICE, "the file has \"%s\" in its name: if it is %s, it is drawn with %s",
                c->model.few.word, c->model.few.title, c->model.few.options);
    if (steps)
        sd_logf(&c->log, SD_LOG_DETAIL, "%d steps, the default %s", own.steps, own.steps_from);
    if (guidance)
        sd_logf(&c->log, SD_LOG_DETAIL, "guidance scale %g, the default %s", own.guidance, own.guidance_from);
    if (has_negative && u->time_cond_dim)
        sd_logf(&c->log, SD_LOG_NOTICE, "the negative prompt has no effect: this model is told the guidance scale, and "
                "its UNet is not asked about another prompt");
    else if (has_negative && sd_task_passes(sd_task_of(u), u, &p->guidance)->n == 1)
        sd_logf(&c->log, SD_LOG_NOTICE, "the negative prompt has no effect without guidance: the guidance scale is %g, "
                "and would have to be more than 1", p->guidance.scale);
}

/* What is as always need not stand in a picture's text; and what another program does has been followed. */
static void name_nothing_usual(sd_params *p)
{
    const struct { const char *key, **value; } words[] = {
        {"bytes", &p->bytes}, {"strength_steps", &p->edit.strength_steps}, {"posterior", &p->edit.posterior},
        {"mask_rule", &p->edit.mask_rule}};
    for (size_t i = 0; i < SD_COUNT(words); i++)
        if (sd_param_word(words[i].key, *words[i].value) == 0) *words[i].value = NULL;
    if (p->edit.paste_back != 0) p->edit.paste_back = SD_DEFAULT;
    if (p->sampling.whole_timesteps != 1) p->sampling.whole_timesteps = SD_DEFAULT;
    p->like = NULL;
}

sd_status sd_resolve(sd_ctx *c, const sd_params *params, sd_params *out, sd_sched_config *s, sd_edit *edit)
{
    sd_params given;
    const sd_params *p = &given;
    sd_edit local;
    if (take_params(c, &given, params, &c->err)) return c->err.status;
    if (p->width == SD_DEFAULT) given.width = 0;   /* 0 means the same in sd_edit_resolve */
    if (p->height == SD_DEFAULT) given.height = 0;
    *out = given;
    out->copies = NULL;
    if (sd_need(c, SD_PART_ALL) || sd_unet_can_draw(&c->model.unet->cfg, &c->err) || check_prompts(p, &c->err) ||
        (!p->sampling.prediction && sd_probe(c)) || resolve_edit(c, p, out, edit ? edit : &local, edit != NULL))
        return c->err.status;
    int scale = sd_vae_scale(&c->model.vae->cfg);
    if (check_side(c, "width", &out->width, scale * c->model.unet->cfg.width, scale)
        || check_side(c, "height", &out->height, scale * c->model.unet->cfg.height, scale))
        return c->err.status;
    if (p->keep > p->batch)
        return sd_fail(&c->err, SD_ERR_ARG, "a picture of 1 to %d can be kept of the batch, or 0 for all, not %d",
                       p->batch, p->keep);
    if (check_stream(c, p->rng) || check_stream(c, p->sampler_rng)) return c->err.status;
    if (p->clip_skip > c->model.text->cfg.layers)
        return sd_fail(&c->err, SD_ERR_ARG, "clip skip must be 1 to %d, not %d", c->model.text->cfg.layers,
                       p->clip_skip);
    if (schedule_config(c, p, s, edit != NULL) || sd_sched_check(s, "parameters", SD_ERR_ARG, &c->err))
        return c->err.status;
    size_t latents = (size_t)p->batch * (size_t)c->model.unet->cfg.out_channels * (size_t)(out->height / scale)
        * (size_t)(out->width / scale);
    if (p->noise && p->noise_count != latents)
        return sd_fail(&c->err, SD_ERR_ARG, "the initial noise must be [%d,%d,%d,%d], %zu numbers, not %zu", p->batch,
                       c->model.unet->cfg.out_channels,
                       out->height / scale, out->width / scale, latents, p->noise_count);
    if (p->noise && sd_check_numbers(c, "the initial noise", p->noise, latents)) return c->err.status;
    if (sd_resolve_part(c, out, edit ? edit->masked : p->edit.mask != NULL, latents)) return c->err.status;
    if (!out->prompt) out->prompt = "";
    if (!out->negative_prompt && !c->model.zeros_for_no_negative) out->negative_prompt = "";
    out->sampling.sampler = sd_method_full_name(s->method, s->program);
    out->sampling.schedule = s->curve == SD_CURVE_SPACED || s->curve >= SD_CURVE_SIGMAS ? NULL
        : sd_curve_name(s->curve);
    out->sampling.steps = steps_of(p);
    name_nothing_usual(out);
    if (apply_strength(c, out, edit ? edit : &local, s, &c->err)) return c->err.status;
    if (edit) tell(c, params, out);
    out->rng = sd_stream_canonical(p->rng);
    out->sampler_rng = sd_stream_canonical(p->sampler_rng);
    out->sampling.spacing = sd_spacing_name(s->spacing);
    out->sampling.prediction = sd_prediction_name(s->prediction);
    out->sampling.steps_offset = s->steps_offset;
    out->sampling.set_alpha_to_one = s->set_alpha_to_one;
    out->sampling.clip_sample = s->clip_sample;
    out->sampling.eta = s->eta;
    return SD_OK;
}

void sd_drawing_resolve(sd_ctx *c, sd_drawing *d, const sd_params *params)
{
    sd_resolve(c, params, &d->p, &d->levels, &d->edit);
    sd_drawing_cut(c, d);
}

sd_status sd_resolve_params(sd_ctx *c, const sd_params *params, sd_params *resolved)
{
    sd_sched_config s;
    sd_params p;
    sd_sampler *sampler = NULL;   /* is made only because that checks lists of levels */
    if (!sd_begin(c) && !sd_check_not_null(c, "resolved", resolved) && !sd_resolve(c, params, &p, &s, NULL)
        && !sd_sampler_new_part(&sampler, &s, sd_steps_of_levels(&p),
                                &(sd_sampler_part){sd_part_of(&p, &s).first, 0, 1, 0}, &c->err)) {
        size_t size = params->size;   /* of the caller's sd_params, so of *resolved too */
        sd_copy_struct(resolved, size, &p, sizeof p);
        resolved->size = size;
    }
    sd_sampler_free(sampler);
    return sd_end(c);
}

sd_status sd_schedule(sd_ctx *c, const sd_params *params, int *n, double *timesteps, double *sigmas, double *alphas)
{
    sd_sched_config s;
    sd_params p;
    sd_sampler *sampler = NULL;
    if (n) *n = 0;
    if (sd_begin(c) || sd_check_not_null(c, "n", n) || take_params(c, &p, params, &c->err)) return sd_end(c);
    bool known = c->model.parts & SD_PART_SCHEDULE || !sd_need(c, SD_PART_UNET);
    if (known && !schedule_config(c, &p, &s, true) && !sd_sampler_new(&sampler, &s, steps_of(&p), &c->err)) {
        *n = sd_sampler_count(sampler);
        for (int i = 0; i <= *n; i++) {
            if (timesteps && i < *n) timesteps[i] = sd_sampler_timestep(sampler, i);
            if (sigmas) sigmas[i] = sd_sampler_sigma(sampler, i);
            if (alphas) alphas[i] = sd_sampler_alpha(sampler, i);
        }
    }
    sd_sampler_free(sampler);
    return sd_end(c);
}

bool sd_run_is_open_ended(sd_ctx *c, const sd_params *params)
{
    sd_sched_config s;
    sd_params p;
    return !take_params(c, &p, params, &c->err) && !schedule_config(c, &p, &s, false)
        && sd_method_is_open_ended(s.method);
}
