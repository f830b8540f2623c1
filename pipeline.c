/* pipeline.c - floor 6: text to image, from parameters to pictures [Rombach et al. 2022; diffusers
 * StableDiffusionPipeline]. */
#include "pipeline_edit.h"
#include "rng_streams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------- parameters */

void sd_params_init_sized(sd_params *p, size_t size)
{
    const sd_params init = {.size = size, .batch = 1, .sampling = {.steps = 25, .steps_offset = -1,
        .set_alpha_to_one = -1, .clip_sample = -1, .eta = -1, .s_tmax = INFINITY, .s_noise = 1},
        .guidance.scale = NAN, .edit = {.strength = -1, .paste_back = 1, .inpaint_crop = -1}};
    if (p) memcpy(p, &init, size < sizeof init ? size : sizeof init);
}

/* Lists of levels say how many steps there are. */
static int steps_of(const sd_params *p)
{
    return p->sampling.sigmas ? p->sampling.sigma_count - 1 : p->sampling.timesteps ? p->sampling.timestep_count
        : p->sampling.steps;
}

/* Where a run's noise levels come from, and what single samplers are told. */
static sd_status schedule_wishes(const sd_params *p, sd_sched_config *s, sd_error *e)
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
    if (p->sampling.order < 0)
        return sd_fail(e, SD_ERR_ARG, "the order must not be negative, but is %d", p->sampling.order);
    if (p->sampling.order) s->order = s->corrector_order = p->sampling.order;
    s->s_churn = p->sampling.s_churn;
    s->s_tmin = p->sampling.s_tmin;
    s->s_tmax = p->sampling.s_tmax;
    s->s_noise = p->sampling.s_noise;
    return SD_OK;
}

/* The file's settings, read as a sampler's, with the caller's noise levels. */
static sd_status read_as(sd_ctx *c, const sd_params *p, const char *sampler, sd_sched_config *s)
{
    sd_error *e = &c->err;
    *s = c->model.sched;
    if (sampler && sd_sched_read_as(s, c->model.sched_path, sampler, e)) return e->status;
    sd_sched_as_pipeline(s);
    if (p->sampling.spacing && sd_spacing_parse(&s->spacing, p->sampling.spacing, e)) return e->status;
    return schedule_wishes(p, s, e);
}

/* The scheduler a run will use: the file's, read as the wanted class, then the caller's wishes. Most models' files name
 * PNDM or DDIM, which go by their own levels; a caller who asks for others without naming a sampler gets the one that
 * these schedules are used with. tell: as a notice too. */
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
    if (p->sampling.steps_offset < -1 || p->sampling.steps_offset >= s->train_steps)
        return sd_fail(e, SD_ERR_ARG, "steps offset must be 0 to %d, not %d", s->train_steps - 1,
                       p->sampling.steps_offset);
    if (!(p->sampling.eta >= 0 && p->sampling.eta <= 1) && p->sampling.eta != -1)
        return sd_fail(e, SD_ERR_ARG, "eta must be 0 to 1, not %g", p->sampling.eta);
    if (p->sampling.set_alpha_to_one < -1 || p->sampling.set_alpha_to_one > 1 || p->sampling.clip_sample < -1
        || p->sampling.clip_sample > 1)
        return sd_fail(e, SD_ERR_ARG, "set_alpha_to_one and clip_sample must be -1, 0 or 1, not %d and %d",
                       p->sampling.set_alpha_to_one, p->sampling.clip_sample);
    if (p->sampling.steps_offset >= 0) s->steps_offset = p->sampling.steps_offset;
    if (p->sampling.set_alpha_to_one >= 0) s->set_alpha_to_one = p->sampling.set_alpha_to_one != 0;
    if (p->sampling.clip_sample >= 0) s->clip_sample = p->sampling.clip_sample != 0;
    if (p->sampling.eta >= 0) s->eta = p->sampling.eta;
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

/* A random stream by its name, or by that of a safetensors file with the numbers to give out: its tensor "noise" or its
 * only one. */
static sd_status open_stream(sd_ctx *c, sd_stream **out, const char *spec, const sd_stream_options *o)
{
    const char *ending = spec ? strrchr(spec, '.') : NULL;
    if (!ending || strcmp(ending, ".safetensors") != 0) return sd_stream_open(out, spec, o, &c->err);
    float *numbers;
    int nd;
    int64_t d[4];
    *out = NULL;
    if (sd_read_floats(c, spec, "noise", &numbers, &nd, d)) return c->err.status;
    size_t n = (size_t)(d[0] * d[1] * d[2] * d[3]);
    if (!sd_check_numbers(c, spec, numbers, n)) sd_stream_open_numbers(out, spec, numbers, n, o, &c->err);
    free(numbers);
    return c->err.status;
}

static sd_status check_stream(sd_ctx *c, const char *spec)
{
    sd_stream *s = NULL;
    if (!open_stream(c, &s, spec, &(sd_stream_options){0})) sd_stream_close(s);
    return c->err.status;
}

static sd_status plan_edit(sd_ctx *c, const sd_params *p, sd_params *out, sd_edit *edit)
{
    sd_edit local;
    sd_log log = c->log;
    if (!edit) c->log.fn = NULL;   /* its notices are for the run itself */
    edit = edit ? edit : &local;
    if (!sd_edit_plan(c, p, &out->width, &out->height, edit) && edit->active) out->edit.strength = edit->strength;
    c->log = log;
    return c->err.status;
}

sd_status sd_resolve(sd_ctx *c, const sd_params *p, sd_params *out, sd_sched_config *s, sd_edit *edit)
{
    if (sd_given(c, "params", p)) return c->err.status;
    *out = *p;
    if (sd_need(c, SD_PART_ALL) || plan_edit(c, p, out, edit)) return c->err.status;
    int scale = sd_vae_scale(&c->model.vae->cfg);
    if (check_side(c, "width", &out->width, scale * c->model.unet->cfg.width, scale)
        || check_side(c, "height", &out->height, scale * c->model.unet->cfg.height, scale))
        return c->err.status;
    if (p->batch < 1 || p->batch > 512) return sd_fail(&c->err, SD_ERR_ARG, "batch must be 1 to 512, not %d", p->batch);
    if (p->keep < 0 || p->keep > p->batch)
        return sd_fail(&c->err, SD_ERR_ARG, "a picture of 1 to %d can be kept of the batch, or 0 for all, not %d",
                       p->batch, p->keep);
    if (!(p->guidance.rescale >= 0 && p->guidance.rescale <= 1))
        return sd_fail(&c->err, SD_ERR_ARG, "guidance rescale must be 0 to 1, not %g", p->guidance.rescale);
    if (check_stream(c, p->rng) || check_stream(c, p->sampler_rng)) return c->err.status;
    if (p->clip_skip < 0 || p->clip_skip > c->model.text->cfg.layers)
        return sd_fail(&c->err, SD_ERR_ARG, "clip skip must be 0 to %d, not %d", c->model.text->cfg.layers,
                       p->clip_skip);
    if (schedule_config(c, p, s, edit != NULL) || sd_sched_check(s, "parameters", SD_ERR_ARG, &c->err))
        return c->err.status;
    if (isnan(p->guidance.scale)) out->guidance.scale = c->model.sched.guidance_scale;
    if (!(fabs(out->guidance.scale) <= SD_MOST_GUIDANCE))
        return sd_fail(&c->err, SD_ERR_ARG, "the guidance scale must be -%d to %d, not %g", SD_MOST_GUIDANCE,
                       SD_MOST_GUIDANCE, out->guidance.scale);
    size_t latents = (size_t)p->batch * (size_t)c->model.unet->cfg.out_channels * (size_t)(out->height / scale)
        * (size_t)(out->width / scale);
    if (p->noise && p->noise_count != latents)
        return sd_fail(&c->err, SD_ERR_ARG, "the initial noise must be [%d,%d,%d,%d], %zu numbers, not %zu", p->batch,
                       c->model.unet->cfg.out_channels,
                       out->height / scale, out->width / scale, latents, p->noise_count);
    if (p->noise && sd_check_numbers(c, "the initial noise", p->noise, latents)) return c->err.status;
    if (!out->prompt) out->prompt = "";
    if (!out->negative_prompt) out->negative_prompt = "";
    out->sampling.sampler = sd_method_full_name(s->method, s->program);
    out->sampling.schedule = s->curve == SD_CURVE_SPACED || s->curve >= SD_CURVE_SIGMAS ? NULL
        : sd_curve_name(s->curve);
    out->sampling.steps = steps_of(p);
    if (p->edit.init && (int)(out->sampling.steps * out->edit.strength) < 1)
        return sd_fail(&c->err, SD_ERR_ARG, "strength %g of %d steps is less than one step", out->edit.strength,
                       out->sampling.steps);
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

sd_status sd_resolve_params(sd_ctx *c, const sd_params *params, sd_params *resolved)
{
    sd_sched_config s;
    sd_sampler *sampler = NULL;   /* lists of levels are checked where one is made of them */
    if (!sd_begin(c) && !sd_given(c, "resolved", resolved) && !sd_resolve(c, params, resolved, &s, NULL))
        sd_sampler_new(&sampler, &s, resolved->sampling.steps, &c->err);
    sd_sampler_free(sampler);
    return sd_end(c);
}

sd_status sd_schedule(sd_ctx *c, const sd_params *params, int *n, double *timesteps, double *sigmas, double *alphas)
{
    sd_sched_config s;
    sd_sampler *sampler = NULL;
    if (n) *n = 0;
    if (sd_begin(c) || sd_given(c, "params", params) || sd_given(c, "n", n)) return sd_end(c);
    bool known = c->model.parts & SD_PART_SCHEDULE || !sd_need(c, SD_PART_UNET);
    if (known && !schedule_config(c, params, &s, true) && !sd_sampler_new(&sampler, &s, steps_of(params), &c->err)) {
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

/* ----------------------------------------------------------------------------------- one run */

/* Everything one sd_generate owns. B pictures, G = 2 with guidance (uncond first) or 1, n = C h w numbers per latent.
 * The UNet sees `in` channels: C, or 2C + 1 if it is made for inpainting. */
typedef struct job {
    sd_params p;
    sd_edit edit;
    sd_sched_config sched;
    sd_sampler *sampler;
    sd_stream *rng, *sampler_rng;   /* the same one unless asked for */
    int B, G, C, h, w, in;
    int first, kept;     /* pictures of the batch that are decoded */
    size_t n;
    float *context;      /* [G B, 77, D] */
    float *latents;      /* [B,C,h,w] */
    float *input;        /* [G B,in,h,w], what the UNet sees */
    float *pred;         /* [G B,C,h,w], its answers; the first B become the guided ones */
    float *timestep;     /* [G B] */
    float *picture;      /* [B,3,H,W] */
    float *noise;        /* [B,C,h,w], what the run began with */
    int olds;            /* samples of the posterior of the picture to begin from: one, or one of each picture's
                          * generator */
    float *old;          /* [olds,C,h,w], its latents */
    float *seen;         /* [C,h,w], latents of its kept part, for an inpainting UNet */
    float *mask;         /* [h,w], 1 where it is repainted */
} job;

static void job_free(job *j)
{
    sd_sampler_free(j->sampler);
    if (j->sampler_rng != j->rng) sd_stream_close(j->sampler_rng);
    sd_stream_close(j->rng);
    free(j->context);
    free(j->latents);
    free(j->input);
    free(j->pred);
    free(j->timestep);
    free(j->picture);
    free(j->noise);
    free(j->old);
    free(j->seen);
    free(j->mask);
    sd_edit_free(&j->edit);
}

/* Before anything is allocated: all arrays of the job, the stage that takes most, and the pictures that are handed
 * out. */
static sd_status check_memory(sd_ctx *c, const job *j)
{
    double B = j->B, GB = B * j->G, latent = (double)j->n, pixels = (double)j->p.width * (double)j->p.height;
    double floats = GB * SD_TOKENS * c->model.text->cfg.width + 2 * B * latent
                  + GB * latent * (1 + (double)j->in / j->C) + 3 * B * pixels
                  + (1 + (double)j->olds) * latent + (double)j->h * j->w;
    int decoded = sd_traces(&c->run) ? j->B : 1;
    double bytes = 4 * floats + 3 * B * pixels + sd_stages_memory(c, j->B * j->G, decoded, j->h, j->w);
    if (c->err.status) return c->err.status;
    return sd_need_memory(&c->err, bytes, "drawing %d picture%s of %dx%d at once", j->B, j->B == 1 ? "" : "s",
                          j->p.width, j->p.height);
}

static sd_status job_init(sd_ctx *c, job *j)
{
    int scale = sd_vae_scale(&c->model.vae->cfg);
    j->B = j->p.batch;
    /* StableDiffusionImg2ImgPipeline with a list of generators draws from each; StableDiffusionInpaintPipeline from the
     * first. */
    j->olds = j->edit.active && !j->edit.masked && j->p.seed_per_image ? j->B : 1;
    j->first = j->p.keep ? j->p.keep - 1 : 0;
    j->kept = j->p.keep ? 1 : j->B;
    j->G = j->p.guidance.scale > 1 ? 2 : 1;
    j->C = c->model.unet->cfg.out_channels;
    j->in = c->model.unet->cfg.in_channels;
    if (j->in != j->C && j->in != 2 * j->C + 1)
        return sd_fail(&c->err, SD_ERR_UNSUPPORTED,
                       "the UNet takes %d channels: %d (latents) or %d (latents, mask, latents of what is kept) are "
                           "possible",
                       j->in, j->C, 2 * j->C + 1);
    if (j->in != j->C && !j->edit.masked)
        return sd_fail(&c->err, SD_ERR_ARG, "this model is made for inpainting: it needs a picture and a mask");
    j->h = j->p.height / scale;
    j->w = j->p.width / scale;
    j->n = (size_t)j->C * (size_t)j->h * (size_t)j->w;
    size_t B = (size_t)j->B, GB = B * (size_t)j->G, D = (size_t)c->model.text->cfg.width;
    if (!c->rehearsing && check_memory(c, j)) return c->err.status;
    if (sd_edit_fill(c, &j->p, j->p.width, j->p.height, &j->edit)) return c->err.status;
    j->context = calloc(GB * SD_TOKENS * D, sizeof(float));
    j->latents = calloc(B * j->n, sizeof(float));
    j->input = calloc(GB * (size_t)j->in * (size_t)j->h * (size_t)j->w, sizeof(float));
    j->pred = calloc(GB * j->n, sizeof(float));
    j->timestep = calloc(GB, sizeof(float));
    j->picture = calloc(B * 3 * (size_t)j->p.height * (size_t)j->p.width, sizeof(float));
    j->noise = calloc(B * j->n, sizeof(float));
    j->old = calloc((size_t)j->olds * j->n, sizeof(float));
    j->seen = calloc(j->n, sizeof(float));
    j->mask = calloc((size_t)j->h * (size_t)j->w, sizeof(float));
    if (!j->context || !j->latents || !j->input || !j->pred || !j->timestep || !j->picture || !j->noise || !j->old
        || !j->seen || !j->mask)
        return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d pictures of %dx%d", j->B, j->p.width, j->p.height);
    /* Image to image takes the last int(steps * strength) steps [diffusers
     * StableDiffusionImg2ImgPipeline.get_timesteps]. */
    int taken = j->edit.active ? (int)(j->p.sampling.steps * j->edit.strength) : j->p.sampling.steps;
    if (j->edit.active && sd_method_is_open_ended(j->sched.method))
        return sd_fail(&c->err, SD_ERR_ARG, "%s cannot begin from a picture: its noise levels are not known before",
                       sd_method_name(j->sched.method));
    /* StableDiffusionInpaintPipeline's constructor; the other pipelines leave it as it is. */
    if (j->edit.masked) j->sched.skip_prk_steps = true;
    return sd_sampler_new_from(&j->sampler, &j->sched, j->p.sampling.steps, j->p.sampling.steps - taken, &c->err);
}

static void trace_latents(sd_ctx *c, const job *j, float *x, const char *fmt, int i)
{
    const int64_t dim[] = {j->B, j->C, j->h, j->w};
    char name[64];
    snprintf(name, sizeof name, fmt, i);
    sd_trace_numbers(&c->run, 4, dim, x, "%s", name);
}

/* prompt_embeds: [uncond | cond], each repeated for every picture of the batch. */
static sd_status embed_prompts(sd_ctx *c, job *j)
{
    double start = sd_now();
    sd_tokens t[2];
    int32_t ids[2 * SD_TOKENS];
    int64_t ids64[2 * SD_TOKENS];
    const char *text[] = {j->p.negative_prompt, j->p.prompt};
    const char *what[] = {"the negative prompt", "the prompt"};
    for (int g = 0; g < j->G; g++) {
        int k = 2 - j->G + g;
        if (sd_tokenizer_encode(c->model.tokenizer, text[k], &t[g], &c->err)) return c->err.status;
        sd_warn_of_syntax(&c->log, what[k], text[k]);
        if (t[g].dropped)
            sd_logf(&c->log, SD_LOG_WARNING, "%s is too long: its last %d tokens are dropped (%d fit)", what[k],
                    t[g].dropped, SD_TOKENS - 2);
        memcpy(ids + g * SD_TOKENS, t[g].id, sizeof t[g].id);
    }
    for (int i = 0; i < j->G * SD_TOKENS; i++) ids64[i] = ids[i];
    sd_trace_last_look(&c->run, SD_I64, 2, (const int64_t[]){j->G, SD_TOKENS}, ids64, "tokens");
    size_t one = SD_TOKENS * (size_t)c->model.text->cfg.width, B = (size_t)j->B;
    if (sd_run_text(c, ids, j->G, j->p.clip_skip, j->context)) return c->err.status;
    for (size_t g = (size_t)j->G; g-- > 0;)   /* spread from the back: [u c] -> [u u .. c c ..] */
        for (size_t b = B; b-- > 0;) memmove(j->context + (g * B + b) * one, j->context + g * one, one * sizeof(float));
    sd_trace_numbers(&c->run, 3, (const int64_t[]){j->G * j->B, SD_TOKENS, c->model.text->cfg.width}, j->context,
                     "prompt_embeds");
    c->timings.text = sd_now() - start;
    sd_report(c, "text", 1, 1, c->timings.text);
    return c->err.status;
}

static double deviation(const float *x, size_t n)   /* torch.std: of a sample, divided by n - 1 */
{
    double mean = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n > 1 ? n - 1 : 1));
}

/* Guidance makes the prediction larger than what the UNet was trained for; this brings each picture's deviation back
 * to that of the prompt's own prediction, by a share phi [Lin et al. 2023, "Common Diffusion Noise Schedules and Sample
 * Steps are Flawed", sec. 3.4, eq. 15 and 16; diffusers rescale_noise_cfg]. */
static void rescale_guidance(job *j)
{
    double phi = j->p.guidance.rescale;
    for (int b = 0; b < j->B && phi > 0; b++) {
        float *guided = j->pred + (size_t)b * j->n;
        const float *cond = j->pred + ((size_t)j->B + (size_t)b) * j->n;
        double own = deviation(guided, j->n), factor = own > 0 ? deviation(cond, j->n) / own : 1.0;
        for (size_t i = 0; i < j->n; i++) guided[i] = (float)(guided[i] * (phi * factor + 1.0 - phi));
    }
}

/* noise_pred = uncond + w (cond - uncond) [Ho & Salimans 2022, eq. 6 with their w + 1 as w], into the first half. */
static void guide(job *j)
{
    if (j->G == 1) return;
    size_t n = (size_t)j->B * j->n;
    for (size_t i = 0; i < n; i++) {
        double uncond = j->pred[i], cond = j->pred[n + i];
        j->pred[i] = (float)(uncond + j->p.guidance.scale * (cond - uncond));
    }
    rescale_guidance(j);
}

/* ---- image to image and inpainting */

/* Latents of a picture [3,H,W] in [-1,1], [samples,C,h,w]: scaling_factor (mean + exp(logvar/2) noise), noise from the
 * run's generators. The posterior is sampled, and before the run's own noise is drawn, as diffusers' pipelines do.
 * prefix: of the traced names, for a run may encode two pictures. */
static sd_status encode_picture(sd_ctx *c, job *j, const char *who, const char *prefix, const float *picture,
                                float *latents, int samples)
{
    size_t n = (size_t)samples * j->n;
    float *moments = calloc(2 * j->n, sizeof *moments), *noise = malloc(n * sizeof *noise);
    if (!moments || !noise) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the moments");
    else if (!sd_run_encode(c, prefix, 1, j->h, j->w, picture, moments)) {
        if (sd_stream_normal(j->rng, who, noise, (size_t)samples, j->n, &c->err)) memset(noise, 0, n * sizeof *noise);
        for (size_t i = 0; i < n; i++) {
            double mean = (double)moments[i % j->n], logvar = fmin(fmax((double)moments[j->n + i % j->n], -30), 20);
            latents[i] = (float)(c->model.vae->cfg.scaling_factor * (mean + exp(logvar / 2) * (double)noise[i]));
        }
    }
    free(moments);
    free(noise);
    return c->err.status;
}

static void trace_some(sd_ctx *c, const job *j, float *x, int n, int channels, const char *name)
{
    const int64_t dim[] = {n, channels, j->h, j->w};
    sd_trace_numbers(&c->run, 4, dim, x, "%s", name);
}

/* What an inpainting UNet is shown of the picture: its kept pixels, and 0, a middle grey, where it is repainted. */
static sd_status encode_kept(sd_ctx *c, job *j)
{
    size_t pixels = (size_t)j->p.width * (size_t)j->p.height;
    sd_image_to_float(j->picture, &j->edit.init);
    for (size_t i = 0; i < 3 * pixels; i++)
        if (j->edit.mask.data[i % pixels]) j->picture[i] = 0;
    if (encode_picture(c, j, "posterior of the kept part", "masked_image.vae.", j->picture, j->seen, 1))
        return c->err.status;
    trace_some(c, j, j->seen, 1, j->C, "masked_image_latents");
    return SD_OK;
}

static void told(void *user, const sd_stream_draw *d)
{
    sd_ctx *c = user;
    sd_drawn public = {d->who, d->stream, d->seed, d->image, d->position, d->count, d->between_levels, d->from, d->to};
    if (c->drawn) c->drawn(c->drawn_user, &public);
}

/* j->noise: the caller's numbers, or the generator's. */
static sd_status initial_noise(sd_ctx *c, job *j)
{
    const char *who = "initial noise";
    if (!j->p.noise) return sd_stream_normal(j->rng, who, j->noise, (size_t)j->B, j->n, &c->err);
    sd_stream_options o = {.on_draw = told, .user = c};
    sd_stream *given;
    if (sd_stream_open_numbers(&given, "given numbers", j->p.noise, j->p.noise_count, &o, &c->err))
        return c->err.status;
    sd_stream_normal(given, who, j->noise, (size_t)j->B, j->n, &c->err);
    sd_stream_close(given);
    return c->err.status;
}

/* Where the run begins. The order of the draws is diffusers': the picture's posterior (unless nobody needs it), the
 * noise, the kept part's posterior [StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline.prepare_latents]. */
static sd_status begin_latents(sd_ctx *c, job *j)
{
    size_t n = (size_t)j->B * j->n;
    bool from_noise = !j->edit.active || (j->edit.masked && j->edit.strength == 1);
    if (j->edit.active && (j->in == j->C || !from_noise)) {
        sd_image_to_float(j->picture, &j->edit.init);
        if (encode_picture(c, j, "posterior of the picture", "vae.", j->picture, j->old, j->olds)) return c->err.status;
        trace_some(c, j, j->old, j->olds, j->C, "image_latents");
    }
    if (initial_noise(c, j)) return c->err.status;
    trace_latents(c, j, j->noise, "noise", 0);
    double init = sd_sampler_init_sigma(j->sampler);
    for (size_t i = 0; i < n && from_noise; i++) j->latents[i] = (float)(init * (double)j->noise[i]);
    for (size_t b = 0; b < (size_t)j->B && !from_noise; b++)
        sd_sampler_add_noise(j->sampler, 0, j->latents + b * j->n, j->old + (b % (size_t)j->olds) * j->n,
                             j->noise + b * j->n, j->n);
    if (!j->edit.masked) return SD_OK;
    sd_mask_to_latent(j->mask, j->h, j->w, &j->edit.mask);
    trace_some(c, j, j->mask, 1, 1, "mask");
    if (j->in != j->C) return encode_kept(c, j);
    /* A plain UNet needs no kept part, but diffusers draws for it all the same. */
    return sd_stream_normal(j->rng, "posterior of the kept part, unused", j->seen, 1, j->n, &c->err);
}

/* One sample for the UNet: latents, or latents | mask | latents of what is kept. */
static void unet_input(const job *j, float *out, const float *latents)
{
    size_t pixels = (size_t)j->h * (size_t)j->w;
    memcpy(out, latents, j->n * sizeof *out);
    if (j->in == j->C) return;
    memcpy(out + j->n, j->mask, pixels * sizeof *out);
    memcpy(out + j->n + pixels, j->seen, j->n * sizeof *out);
}

/* A UNet that does not know of masks: after each step the kept part is put back with the noise of the level that comes
 * next, after the last one without any [diffusers StableDiffusionInpaintPipeline; RePaint, Lugmayr et al. 2022, eq.
 * 8]. */
static void keep_old(job *j, int i, float *latents)
{
    if (!j->edit.masked || j->in != j->C) return;
    size_t pixels = (size_t)j->h * (size_t)j->w;
    bool last = i == sd_sampler_count(j->sampler);
    float *old = j->input;   /* free between evaluations */
    for (size_t b = 0; b < (size_t)j->B; b++, latents += j->n) {
        if (last) memcpy(old, j->old, j->n * sizeof *old);
        else sd_sampler_add_noise(j->sampler, i, old, j->old, j->noise + b * j->n, j->n);
        for (size_t k = 0; k < j->n; k++)
            latents[k] = (1 - j->mask[k % pixels]) * old[k] + j->mask[k % pixels] * latents[k];
    }
}

/* The sampler's caller. */
typedef struct denoiser {
    sd_ctx *c;
    job *j;
    double start;        /* when the evaluation that runs was begun */
    int room;            /* in step_seconds */
} denoiser;

/* Latents before evaluation i: the one before it has ended. */
static sd_status before_evaluation(void *user, int i, float *latents)
{
    denoiser *d = user;
    sd_ctx *c = d->c;
    double now = sd_now();
    int count = sd_sampler_count(d->j->sampler);   /* 0: dpm_adaptive decides while it runs */
    if (i == d->room) {
        double *more = realloc(c->step_seconds, 2 * (size_t)d->room * sizeof *more);
        if (!more) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d steps", 2 * d->room);
        c->timings.steps = c->step_seconds = more;
        d->room *= 2;
    }
    if (i > 0) keep_old(d->j, i, latents);
    trace_latents(c, d->j, latents, "latents.%d", i);
    if (i > 0) {
        c->step_seconds[i - 1] = now - d->start;
        c->timings.n_steps = i;
        sd_report(c, "step", i, count ? count : i, c->step_seconds[i - 1]);
    }
    d->start = now;
    return c->err.status;
}

/* One evaluation of the UNet, guided. */
static sd_status predict_noise(void *user, int i, double t, const float *input, float *prediction)
{
    denoiser *d = user;
    sd_ctx *c = d->c;
    job *j = d->j;
    size_t n = (size_t)j->B * j->n, pixels = (size_t)j->h * (size_t)j->w;
    float t32 = (float)t;
    sd_trace_numbers(&c->run, 1, (const int64_t[]){1}, &t32, "timestep.%d", i);
    for (int k = 0; k < j->G * j->B; k++) j->timestep[k] = t32;
    for (int k = 0; k < j->G * j->B; k++)
        unet_input(j, j->input + (size_t)k * (size_t)j->in * pixels, input + (size_t)(k % j->B) * j->n);

    sd_trace_prefix(&c->run, "step.%d.unet.", i);
    sd_cond cond = {.n = j->G * j->B, .tokens = SD_TOKENS, .width = c->model.unet->cfg.context_dim, .context = j->context,
                    .version = 1};   /* the same in all steps; denoise forgets what was made of it */
    sd_run_unet(c, j->G * j->B, j->h, j->w, j->input, j->timestep, &cond, j->pred);
    sd_trace_prefix(&c->run, "%s", "");
    if (c->err.status) return c->err.status;

    guide(j);
    trace_latents(c, j, j->pred, "step.%d.noise_pred", i);
    memcpy(prediction, j->pred, n * sizeof *prediction);
    return c->err.status;
}

static void see_denoised(void *user, int i, const float *x0)
{
    denoiser *d = user;
    sd_ctx *c = d->c;
    const job *j = d->j;
    const int64_t dim[] = {j->B, j->C, j->h, j->w};
    sd_trace_last_look(&c->run, SD_F32, 4, dim, x0, "step.%d.denoised", i);
    if (c->step && !c->err.status)
        c->step(c->step_user, &(sd_denoised){i, sd_sampler_count(j->sampler), j->B, j->C, j->h, j->w, x0});
}

static sd_status draw_noise(void *user, double sigma_from, double sigma_to, float *out, size_t n)
{
    denoiser *d = user;
    (void)n;
    return sd_stream_noise(d->j->sampler_rng, "sampler", sigma_from, sigma_to, out, (size_t)d->j->B, d->j->n,
                           &d->c->err);
}

/* The generators of a run. A Brownian path is told which levels the sampler will go through. */
static sd_status open_streams(sd_ctx *c, job *j)
{
    sd_stream_options o = {.seed = j->p.seed, .generators = j->p.seed_per_image ? j->B : 0, .on_draw = told, .user = c};
    if (open_stream(c, &j->rng, j->p.rng, &o)) return c->err.status;
    j->sampler_rng = j->rng;
    if (!j->p.sampler_rng) return SD_OK;
    double least = INFINITY, most = 0;
    for (int i = 0; i <= sd_sampler_count(j->sampler); i++) {
        double sigma = sd_sampler_sigma(j->sampler, i);
        if (sigma > 0) least = fmin(least, sigma);
        most = fmax(most, sigma);
    }
    sd_stream *s;
    if (open_stream(c, &s, j->p.sampler_rng, &o)) return c->err.status;
    j->sampler_rng = s;
    return sd_stream_span(s, least, most, &c->err);
}

static sd_status denoise(sd_ctx *c, job *j)
{
    int room = sd_sampler_count(j->sampler) + 16;
    size_t n = (size_t)j->B * j->n;
    free(c->step_seconds);
    c->step_seconds = calloc((size_t)room, sizeof *c->step_seconds);
    c->timings.steps = c->step_seconds;
    c->timings.n_steps = 0;
    if (!c->step_seconds) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d steps", room);
    if (open_streams(c, j) || begin_latents(c, j)) return c->err.status;
    denoiser d = {.c = c, .j = j, .room = room};
    sd_denoiser hooks = {&d, predict_noise, before_evaluation, see_denoised, draw_noise, j->B};
    sd_sampler_run(j->sampler, j->latents, n, &hooks, &c->err);
    sd_forget(&c->run);
    return c->err.status;
}

/* Pictures one by one, which takes the least memory; all at once for those who trace, so that each name appears
 * once. */
static sd_status decode(sd_ctx *c, job *j)
{
    double start = sd_now();
    size_t n = (size_t)j->B * j->n, pixels = 3 * (size_t)j->p.width * (size_t)j->p.height;
    for (size_t i = 0; i < n; i++) j->input[i] = (float)((double)j->latents[i] / c->model.vae->cfg.scaling_factor);
    int at_once = sd_traces(&c->run) ? j->kept : 1;
    for (int b = j->first; b < j->first + j->kept; b += at_once)
        if (sd_run_decode(c, at_once, j->h, j->w, j->input + (size_t)b * j->n, j->picture + (size_t)b * pixels))
            return c->err.status;
    float *first = j->picture + (size_t)j->first * pixels;
    for (size_t i = 0; i < (size_t)j->kept * pixels; i++) first[i] = sd_unit(first[i]);
    sd_trace_numbers(&c->run, 4, (const int64_t[]){j->kept, 3, j->p.height, j->p.width}, first, "image");
    c->timings.vae_decode = sd_now() - start;
    sd_report(c, "vae", 1, 1, c->timings.vae_decode);
    return c->err.status;
}

static sd_status to_images(sd_ctx *c, const job *j, sd_image *images)
{
    int width = j->p.width, height = j->p.height;
    size_t floats = 3 * (size_t)width * (size_t)height;
    for (int b = 0; b < j->kept && !c->err.status; b++) {
        sd_image drawn = {0};
        const sd_image *result = &j->edit.init;
        if (!j->edit.nothing) {
            sd_image_from_float(&drawn, width, height, j->picture + (size_t)(j->first + b) * floats, true, &c->err);
            result = &drawn;
        }
        images[b] = drawn;
        if (j->edit.active && !c->err.status) {
            sd_edit_finish(&j->edit, result, &images[b], &c->err);
            sd_image_free(&drawn);
        }
        while (c->err.status && b >= 0) sd_image_free(&images[b--]);
    }
    return c->err.status;
}

sd_status sd_run_pipeline(sd_ctx *c, const sd_params *params, sd_image *images)
{
    job j = {0};
    if (!sd_resolve(c, params, &j.p, &j.sched, &j.edit) && !job_init(c, &j) &&
        (j.edit.nothing || (!embed_prompts(c, &j) && !denoise(c, &j) && !decode(c, &j))) && images)
        to_images(c, &j, images);
    sd_trace_prefix(&c->run, "%s", "");
    job_free(&j);
    return c->err.status;
}

bool sd_run_is_open_ended(sd_ctx *c, const sd_params *params)
{
    sd_sched_config s;
    return !schedule_config(c, params, &s, false) && sd_method_is_open_ended(s.method);
}

sd_status sd_generate(sd_ctx *c, const sd_params *params, sd_image *images)
{
    if (sd_begin(c) || sd_given(c, "params", params) || sd_given(c, "images", images)) return sd_end(c);
    const char *filter;
    for (int i = 0; (filter = sd_trace_strict_filter(c->run.trace, i)) && !c->err.status; i++)
        sd_rehearse(c, params, filter, NULL, NULL);
    if (!c->err.status) sd_run_pipeline(c, params, images);
    return sd_end(c);
}

/* ------------------------------------------------------------------------- pictures of single steps */

/* About what the decoder makes of each latent. */
static void quick_picture(const sd_vae_config *v, float *picture, const float *latents, size_t pixels, int channels)
{
    for (size_t k = 0; k < 3; k++)
        for (size_t p = 0; p < pixels; p++) {
            picture[k * pixels + p] = v->latent_rgb[4][k];
            for (size_t ch = 0; ch < 4 && ch < (size_t)channels; ch++)
                picture[k * pixels + p] += v->latent_rgb[ch][k] * latents[ch * pixels + p];
        }
}

/* No sd_begin: this happens inside of a run, whose error it becomes. */
sd_status sd_step_picture(sd_ctx *c, const sd_denoised *step, int index, int quick, sd_image *image)
{
    if (image) *image = (sd_image){0};
    if (!c || c->err.status || sd_given(c, "step", step) || sd_given(c, "image", image) || sd_given(c, "x0", step->x0))
        return c ? c->err.status : SD_ERR_MEMORY;
    sd_trace *trace = c->run.trace;
    int scale = quick ? 1 : sd_vae_scale(&c->model.vae->cfg);
    size_t n = (size_t)step->channels * (size_t)step->height * (size_t)step->width;
    size_t pixels = (size_t)step->height * (size_t)step->width * (size_t)scale * (size_t)scale;
    if (index < 0 || index >= step->batch)
        return sd_fail(&c->err, SD_ERR_ARG, "there is no picture %d in a batch of %d", index, step->batch);
    float *latents = malloc(n * sizeof *latents), *picture = malloc(3 * pixels * sizeof *picture);
    if (!latents || !picture) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the picture of a step");
    for (size_t i = 0; i < n && latents; i++) {
        double x = (double)step->x0[(size_t)index * n + i];
        latents[i] = (float)(quick ? x : x / c->model.vae->cfg.scaling_factor);
    }
    c->run.trace = NULL;   /* the decoder's names are those of the finished picture */
    if (!c->err.status && quick) quick_picture(&c->model.vae->cfg, picture, latents, pixels, step->channels);
    else if (!c->err.status) sd_run_decode(c, 1, step->height, step->width, latents, picture);
    c->run.trace = trace;
    if (!c->err.status)
        sd_image_from_float(image, step->width * scale, step->height * scale, picture, false, &c->err);
    free(latents);
    free(picture);
    return c->err.status;
}
