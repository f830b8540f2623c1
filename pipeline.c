/* pipeline.c - floor 6: text to image [Rombach et al. 2022; diffusers StableDiffusionPipeline].
 *
 * sd_run_pipeline, at the end, is the whole pipeline: seven steps, one after another. The prompts become vectors
 * (cond.c), noise becomes latents (pipeline_begin.c). The sampler (sampler.h) asks the UNet which part of the latents
 * is noise and removes it step by step, guided by the prompts (pipeline_guidance.c). The VAE decodes what remains. */
#include "params.h"
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------- prompts */

static void encode_prompts(sd_ctx *c, sd_drawing *d)
{
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    const char *text[SD_MOST_PASSES], *what[SD_MOST_PASSES];
    float both[2][SD_MOST_IDS], ids[SD_MOST_PASSES][SD_MOST_IDS];
    double start = sd_now();
    sd_cond_ids(plan, &d->p, both);
    for (int k = 0; k < d->G; k++) {
        bool prompt = d->passes->pass[k].prompt;
        text[k] = prompt ? d->p.prompt : d->p.negative_prompt;
        what[k] = prompt ? "the prompt" : "the negative prompt";
        memcpy(ids[k], both[prompt], sizeof ids[k]);
    }
    sd_prompts_in in = {.text = text, .what = what, .n = d->G, .repeat = d->B, .clip_skip = d->p.clip_skip,
                        .ids = ids, .guidance = d->p.guidance.scale, .label = d->p.edit.noise_level};
    if (sd_drawing_done(c, d)) return;
    sd_given_prompts(c, d, &in, text);
    sd_trace_owner(&c->run, c->refines ? "refiner." : "");
    sd_prompts_encode(c, &d->prompts, plan, &in);
    sd_trace_owner(&c->run, "");
    if (c->err.status) return;
    c->timings.text = (d->before ? c->timings.text : 0) + sd_now() - start;
    sd_report(c, "text", d->before ? 2 : 1, d->before || d->followed ? 2 : 1, sd_now() - start);
}

/* -------------------------------------------------------------------------------------- denoising */

/* What is needed to answer the sampler's questions. */
typedef struct denoiser {
    sd_ctx *c;
    sd_drawing *d;
    double start;        /* when the current evaluation began */
    int room;            /* in step_seconds */
} denoiser;

static void trace_latents(sd_ctx *c, const sd_drawing *d, float *x, const char *fmt, int i)
{
    const int64_t dim[] = {d->B, d->C, d->h, d->w};
    char name[64];
    snprintf(name, sizeof name, fmt, i);
    sd_trace_numbers(&c->run, 4, dim, x, "%s", name);
}

/* What the passes of evaluation i answered: x [B,C,h,w] each, one behind the other. */
static void trace_answers(sd_ctx *c, const sd_drawing *d, float *x, int i)
{
    const int64_t dim[] = {d->B, d->C, d->h, d->w};
    for (int k = 0; k < d->G && d->G > 1; k++, x += (size_t)d->B * d->n)
        sd_trace_numbers(&c->run, 4, dim, x, "step.%d.%s", i, d->passes->pass[k].name);
}

static sd_status make_room_for_seconds(denoiser *q, int i)
{
    sd_ctx *c = q->c;
    if (i < q->room) return SD_OK;
    double *more = realloc(c->step_seconds, 2 * (size_t)q->room * sizeof *more);
    if (!more) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d steps", 2 * q->room);
    c->timings.steps = c->step_seconds = more;
    q->room *= 2;
    return SD_OK;
}

/* How traces count evaluation i of this part. */
static int number_of(const sd_drawing *d, int i) { return d->before + d->skipped + i; }

/* Gets the latents before evaluation i, when the one before has ended. */
static sd_status before_evaluation(void *user, int i, float *latents)
{
    denoiser *q = user;
    sd_ctx *c = q->c;
    double now = sd_now();
    int done = q->d->before + i, count = q->d->evaluations;   /* 0: the sampler decides while it runs */
    const float *given = sd_given_latents(c, q->d, number_of(q->d, i));
    if (make_room_for_seconds(q, done)) return c->err.status;
    if (i > 0) sd_drawing_keep_unmasked(q->d, i, latents);
    if (given) memcpy(latents, given, (size_t)q->d->B * q->d->n * sizeof *latents);
    if (!q->d->followed || done < sd_sampler_count(q->d->sampler))   /* else the next part begins with them */
        trace_latents(c, q->d, latents, "latents.%d", number_of(q->d, i));
    if (i > 0) {
        c->step_seconds[done - 1] = now - q->start;
        c->timings.n_steps = done;
        sd_report(c, "step", done, count ? count : done, c->step_seconds[done - 1]);
    }
    q->start = now;
    return c->err.status;
}

/* One evaluation. A picture's latents go in once for each pass, as a rule with the negative prompt and with the prompt,
 * and guidance makes one prediction of the answers. */
static sd_status predict_noise(void *user, int i, double t, const float *input, float *prediction)
{
    denoiser *q = user;
    sd_ctx *c = q->c;
    sd_drawing *d = q->d;
    size_t sample = (size_t)d->channels * (size_t)d->h * (size_t)d->w;
    i = number_of(d, i);
    const float *given = sd_given_answer(c, d, i), *told = sd_given_timestep(c, d, i);
    float t32 = told ? *told : (float)t;
    sd_trace_numbers(&c->run, 1, (const int64_t[]){1}, &t32, "timestep.%d", i);
    if (given) {
        memcpy(prediction, given, (size_t)d->B * d->n * sizeof *prediction);
        trace_latents(c, d, prediction, "step.%d.noise_pred", i);
        return c->err.status;
    }
    for (int k = 0; k < d->G * d->B; k++) {
        d->timestep[k] = t32;
        sd_drawing_input(d, d->input + (size_t)k * sample, input + (size_t)(k % d->B) * d->n,
                         d->passes->pass[k / d->B].planes);
    }
    sd_trace_prefix(&c->run, "step.%d.unet.", i);
    sd_run_unet(c, d->G * d->B, d->h, d->w, d->input, d->timestep, &d->prompts.cond, d->prediction);
    sd_trace_prefix(&c->run, "%s", "");
    if (c->err.status) return c->err.status;

    trace_answers(c, d, d->prediction, i);
    sd_guide(d);
    trace_latents(c, d, d->prediction, "step.%d.noise_pred", i);
    memcpy(prediction, d->prediction, (size_t)d->B * d->n * sizeof *prediction);
    return c->err.status;
}

static void see_denoised(void *user, int i, const float *x0)
{
    const denoiser *q = user;
    sd_ctx *c = q->c;
    const sd_drawing *d = q->d;
    const int64_t dim[] = {d->B, d->C, d->h, d->w};
    sd_trace_readonly(&c->run, SD_F32, 4, dim, x0, "step.%d.denoised", number_of(d, i));
    if (c->step && !c->err.status)
        c->step(c->step_user, &(sd_denoised){d->before + i, d->evaluations, d->B, d->C, d->h, d->w, x0});
}

static sd_status draw_noise(void *user, double sigma_from, double sigma_to, float *out, size_t n)
{
    const denoiser *q = user;
    (void)n;
    return sd_drawing_fresh_noise(q->c, q->d, sigma_from, sigma_to, out);
}

static void keep_input(void *user, double signal, double noise, double *latents)
{
    sd_drawing_keep_input(((const denoiser *)user)->d, signal, noise, latents);
}

static void keep_x0(void *user, double *x0) { sd_drawing_keep_x0(((const denoiser *)user)->d, x0); }

static void denoise(sd_ctx *c, sd_drawing *d)
{
    if (sd_drawing_done(c, d)) return;
    denoiser q = {.c = c, .d = d, .room = d->evaluations + 16};
    if (!d->before) {
        free(c->step_seconds);
        c->step_seconds = calloc((size_t)q.room, sizeof *c->step_seconds);
        c->timings.steps = c->step_seconds;
        c->timings.n_steps = 0;
    }
    if (!c->step_seconds) {
        sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d steps", q.room);
        return;
    }
    sd_denoiser hooks = {.user = &q, .model = predict_noise, .before_evaluation = before_evaluation,
                         .denoised = see_denoised, .noise = draw_noise, .pictures = d->B};
    if (d->edit.masked && d->edit.mask_rule != SD_MASK_LATENTS) hooks.keep = keep_x0;
    if (d->edit.masked && d->edit.mask_rule == SD_MASK_BOTH) hooks.see = keep_input;
    sd_sampler_run(d->sampler, d->latents, (size_t)d->B * d->n, &hooks, &c->err);
    sd_forget_cached(&c->run);
    sd_apart_free(&c->apart);
}

/* --------------------------------------------------------------------------------------- decoding */

/* Decodes pictures one by one, which takes the least memory; but all at once if there is a trace, so that each name
 * appears once. */
static void decode(sd_ctx *c, sd_drawing *d)
{
    double start = sd_now();
    size_t n = (size_t)d->B * d->n, picture = 3 * (size_t)d->p.width * (size_t)d->p.height;
    if (sd_drawing_done(c, d)) return;
    for (size_t i = 0; i < n; i++) d->input[i] = (float)((double)d->latents[i] / c->model.vae->cfg.scaling_factor);
    int at_once = sd_traces(&c->run) ? d->n_images : 1;
    for (int b = d->first; b < d->first + d->n_images; b += at_once)
        if (sd_run_decode(c, at_once, d->h, d->w, d->input + (size_t)b * d->n, d->picture + (size_t)b * picture))
            return;
    float *first = d->picture + (size_t)d->first * picture;
    for (size_t i = 0; i < (size_t)d->n_images * picture; i++) first[i] = sd_unit(first[i]);
    sd_trace_numbers(&c->run, 4, (const int64_t[]){d->n_images, 3, d->p.height, d->p.width}, first, "image");
    c->timings.vae_decode = sd_now() - start;
    sd_report(c, "vae", 1, 1, c->timings.vae_decode);
}

/* --------------------------------------------------------------------------------- the pipeline */

static void draw(sd_ctx *c, sd_drawing *d)
{
    encode_prompts(c, d);                  /* text -> [G B,77,width] */
    sd_drawing_begin(c, d);                /* noise, or a picture and noise -> latents [B,C,h,w] */
    denoise(c, d);                         /* latents -> latents */
}

static void hand_out_latents(sd_ctx *c, const sd_drawing *d, float *latents, size_t count)
{
    size_t n = (size_t)d->B * d->n;
    if (c->err.status) return;
    if (count != n) sd_fail(&c->err, SD_ERR_ARG, "the latents of this run are %zu numbers, not %zu", n, count);
    else memcpy(latents, d->latents, n * sizeof *latents);
}

sd_status sd_run_pipeline(sd_ctx *c, const sd_params *params, sd_image *images, float *latents, size_t count)
{
    sd_drawing part[2] = {{.before = 0}, {.before = 0}}, *d = &part[0];
    sd_drawing_resolve(c, d, params);      /* defaults filled in, everything checked */
    sd_drawing_prepare(c, d);              /* sizes, the sampler, memory */
    if (d->followed) sd_drawing_prepare_refiner(c, part, params);
    sd_drawing_note_settings(c, d);
    draw(c, d);
    if (d->followed && !c->err.status) {   /* a second model goes on */
        sd_drawing_take_over(c, &part[1], d);
        d = &part[1];
        draw(c, d);
    }
    if (latents) {
        hand_out_latents(c, d, latents, count);
    } else {
        decode(c, d);                      /* latents -> pictures [B,3,H,W] in [0,1] */
        sd_drawing_finish(c, d, images);   /* ... -> bytes, pasted into the picture that was edited */
    }
    sd_use_refiner(c, false);
    sd_trace_prefix(&c->run, "%s", "");
    c->beside = 0;
    sd_drawing_free(&part[0]);
    sd_drawing_free(&part[1]);
    return c->err.status;
}
