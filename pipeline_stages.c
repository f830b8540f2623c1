/* pipeline_stages.c - floor 6: the text encoder, the UNet and the VAE one by one: their working memory, their runs, and
 * what sd.h offers of them. */
#include "bands.h"
#include "cond.h"
#include "pipeline_apart.h"
#include "profile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- stages
 * A stage's body runs twice: first with the null backend, to find how much working memory it needs, then for real. */

typedef void body(sd_run *r, const sd_ctx *c, void *input);

static sd_module *module_of(const sd_ctx *c, unsigned part) { return sd_model_module(&c->model, part, 0); }

static void weight_used(void *store, const sd_tensor *w)
{
    sd_store_used(store, w->data, sd_dtype_bytes(w->dt, (size_t)sd_numel(w)));
}

/* Frees what earlier stages have left in memory. */
static void make_room(sd_ctx *c, sd_module *module)
{
    if (c->previewing || !sd_model_use(&c->model, module)) return;
    c->run.be->trim(&c->run);
    if (c->run.be->enter) c->run.be->enter(&c->run, c->model.residency == SD_RESIDENCY_STREAM);
    c->run.used = c->model.residency == SD_RESIDENCY_STREAM ? weight_used : NULL;
    c->run.used_user = module->files;
}

/* The working memory that a stage takes, found by running it without numbers. */
static sd_arena rehearse_counting(sd_ctx *c, body *fn, void *input, double *flops)
{
    sd_run dry = {.err = &c->err, .be = &sd_backend_null, .arena = {.part = sd_arena_part_of(&c->run)}};
    if (c->rehearsing) dry.trace = c->run.trace;
    fn(&dry, c, input);
    *flops = dry.flops;
    return dry.arena;
}

static sd_arena rehearse(sd_ctx *c, body *fn, void *input)
{
    double flops;
    return rehearse_counting(c, fn, input, &flops);
}

static sd_status need_parts(sd_ctx *c, const sd_arena *needed, const char *what)
{
    if (c->err.status || sd_arena_fits(needed)) return c->err.status;
    return sd_fail(&c->err, SD_ERR_MEMORY, "%s has a tensor of %.3g GB, and this device can have %.3g GB at once", what,
                   (double)needed->widest / 1e9, (double)needed->part / 1e9);
}

static sd_status run_stage(sd_ctx *c, sd_stage stage, body *fn, void *input, sd_module *module)
{
    sd_arena needed = rehearse(c, fn, input);
    if (c->err.status || c->rehearsing || sd_store_still_there(module->files, &c->err)) return c->err.status;
    sd_profile_stage_begin(&c->run, stage);
    make_room(c, module);
    char what[64];
    snprintf(what, sizeof what, "the working space of %s", module->kind->title);
    if (need_parts(c, &needed, what) || sd_reserve(&c->run, needed.peak, what)) return c->err.status;
    fn(&c->run, c, input);
    sd_reset(&c->run, 0);
    sd_profile_stage_end(&c->run);
    sd_fail_if_stopped(&c->err);
    return c->err.status;
}

typedef struct text_input {
    const sd_clip *net;
    const int32_t *ids;
    int n;
    const sd_clip_output *take;
    float *hidden, *pooled;
} text_input;

static void text_body(sd_run *r, const sd_ctx *c, void *input)
{
    text_input *j = input;
    (void)c;
    sd_clip_forward(r, j->net, j->ids, j->n, SD_TOKENS, j->take, j->hidden, j->pooled);
}

sd_status sd_run_text(sd_ctx *c, int encoder, const int32_t *ids, int n, const sd_clip_output *take, float *hidden,
                      float *pooled)
{
    sd_module *module = sd_model_module(&c->model, SD_PART_TEXT, encoder);
    const sd_clip *net = module->net;
    text_input j = {net, ids, n, take, hidden, pooled};
    sd_trace_prefix(&c->run, "%s.", module->place->name);
    run_stage(c, SD_STAGE_TEXT, text_body, &j, module);
    sd_trace_prefix(&c->run, "%s", "");
    return sd_check_result(c, "the text encoder's result", hidden, (size_t)n * SD_TOKENS * (size_t)net->cfg.width,
                           module, NULL, 0);
}

typedef struct picture_input {
    int n, h, w, channels;           /* of the input */
    const float *in, *timesteps;
    const sd_cond *cond;
    float *out;
    const sd_vae *vae;               /* that encodes or */
    bool decodes;
    sd_bands bands;                  /* its plan */
} picture_input;

static void unet_body(sd_run *r, const sd_ctx *c, void *input)
{
    picture_input *j = input;
    const sd_unet_net *u = c->model.unet;
    size_t numbers = (size_t)j->channels * (size_t)j->h * (size_t)j->w;
    bool whole = c->run.trace || c->cpu.blas || !j->in;   /* OpenBLAS' bits may depend on the batch */
    int n = whole ? j->n : sd_unet_distinct(j->in, numbers, j->timesteps, j->cond, &u->cfg);
    sd_tensor x = sd_new_from_nchw(r, n, j->channels, j->h, j->w, j->in);
    const sd_unet_in in = {.latents = x, .timestep = j->timesteps, .cond = j->cond};
    sd_tensor y = sd_unet_forward(r, u, &in);
    sd_download_channels_first(r, y, j->out);
}

typedef struct unet_parts { const sd_ctx *c; const picture_input *whole; int n; } unet_parts;

/* The i-th part's inputs, which lie in the whole's. */
static picture_input unet_part(const unet_parts *u, int i, sd_cond *cond)
{
    const sd_unet_config *cfg = &u->c->model.unet->cfg;
    picture_input j = *u->whole;
    j.n /= u->n;
    size_t first = (size_t)i * (size_t)j.n, pixels = (size_t)j.h * (size_t)j.w;
    *cond = sd_cond_part(j.cond, (int)first, j.n, cfg);
    j.cond = cond;
    j.timesteps += first;
    j.in += first * pixels * (size_t)j.channels;
    j.out += first * pixels * (size_t)cfg->out_channels;
    return j;
}

static void unet_part_body(sd_run *r, void *user, int i)
{
    const unet_parts *u = user;
    sd_cond cond;
    picture_input j = unet_part(u, i, &cond);
    unet_body(r, u->c, &j);
}

/* Computes the UNet's samples apart if that is faster; false: it is not, and nothing was done. */
static bool unet_apart(sd_ctx *c, const picture_input *j, sd_module *module)
{
    double flops;
    sd_cond cond;
    unet_parts u = {c, j, c->rehearsing ? 1 : sd_apart_parts(c, j->n)};
    if (u.n < 2) return false;
    picture_input first = unet_part(&u, 0, &cond);
    first.in = NULL;   /* no numbers, so no equal samples: another part may have fewer of them */
    sd_arena needed = rehearse_counting(c, unet_body, &first, &flops);
    if (flops > SD_SMALL_PASS || c->err.status || sd_store_still_there(module->files, &c->err)) return false;
    make_room(c, module);
    sd_apart_run(c, u.n, needed.peak, "the working space of the UNet", unet_part_body, &u);
    return true;
}

sd_status sd_run_unet(sd_ctx *c, int batch, int h, int w, const float *latents, const float *timesteps,
                      const sd_cond *cond, float *out)
{
    picture_input j = {.n = batch, .h = h, .w = w, .channels = c->model.unet->cfg.in_channels, .in = latents,
                       .timesteps = timesteps, .cond = cond, .out = out};
    if (!unet_apart(c, &j, module_of(c, SD_PART_UNET)) && !c->err.status)
        run_stage(c, SD_STAGE_UNET, unet_body, &j, module_of(c, SD_PART_UNET));
    if (c->err.status) return c->err.status;
    size_t pixels = (size_t)batch * (size_t)h * (size_t)w;
    return sd_check_result(c, "the UNet's result", out, pixels * (size_t)c->model.unet->cfg.out_channels,
                           module_of(c, SD_PART_UNET), latents, pixels * (size_t)c->model.unet->cfg.in_channels);
}

/* ---- the VAE: whole, or in bands if its working space would be too large. With a trace it is whole: the traced
 * tensors are. Bands change no bit. */

/* A device's memory that stages may take. */
static double device_room(const sd_ctx *c) { return sd_room_of(&c->run).bytes + (double)c->run.arena.size; }

/* Bytes that its working space may take; beside it, the call takes so many more, which it may have taken already. */
static size_t vae_room(const sd_ctx *c, double beside)
{
    if (sd_traces(&c->run)) return SIZE_MAX;
    if (c->vae_memory) return (size_t)c->vae_memory;
    double room = c->run.be->room ? device_room(c) : c->halt.memory ? (double)c->halt.memory - beside
        : (double)sd_memory_left() + (double)c->run.arena.size - (c->preparing ? beside : 0);
    return room < 0 ? 0 : room < (double)SIZE_MAX ? (size_t)room : SIZE_MAX;
}

static const sd_net *net_of(const picture_input *j) { return j->decodes ? &j->vae->decoder : &j->vae->encoder; }

static void vae_body(sd_run *r, const sd_ctx *c, void *input)
{
    picture_input *j = input;
    (void)c;
    sd_tensor x = sd_new_from_nchw(r, j->n, j->channels, j->h, j->w, j->in);
    sd_tensor y = j->bands.piece ? sd_bands_forward(r, net_of(j), &j->bands, x)
        : j->decodes ? sd_vae_decoder(r, j->vae, x) : sd_vae_encoder(r, j->vae, x);
    sd_download_channels_first(r, y, j->out);
}

/* Does the input's plan fit? */
static bool vae_fits(sd_ctx *c, picture_input *j, size_t room)
{
    sd_arena needed = rehearse(c, vae_body, j);
    j->bands.bytes = needed.peak;
    return (needed.peak <= room && (sd_arena_fits(&needed) || room == SIZE_MAX)) || c->err.status;
}

/* The input's plan. Several pictures are computed together if that fits whole, else one by one: then j->n becomes 1.
 * If the arena is in parts, a plan may take more than it says, because of what is left empty at the end of a part: then
 * the next plan gets less. */
static void plan_vae(sd_ctx *c, picture_input *j, size_t room)
{
    enum { MOST_PLANS = 4 };
    const int64_t dim[] = {1, j->h, j->w, j->channels};
    if (vae_fits(c, j, room)) return;
    if (j->n > 1) {
        j->n = 1;
        if (vae_fits(c, j, room)) return;
    }
    size_t budget = room;
    for (int i = 0; i < MOST_PLANS && !j->vae->cfg.tiny && !c->err.status; i++) {
        sd_bands_free(&j->bands);
        sd_bands_plan(&j->bands, &c->run, net_of(j), dim, budget, &c->err);
        if (!sd_arena_part_of(&c->run) || vae_fits(c, j, room) || j->bands.bytes - room >= budget) return;
        budget -= j->bands.bytes - room;
    }
}

typedef struct percent { sd_ctx *c; int done; double since; } percent;

static void report_percent(void *user, double share)
{
    percent *p = user;
    int done = (int)(100 * share);
    if (done <= p->done || done >= 100) return;
    double now = sd_now();
    sd_report(p->c, "vae", done, 100, now - p->since);
    p->done = done;
    p->since = now;
}

static void describe_bands(sd_ctx *c, sd_stage stage, const sd_bands *b)
{
    double times = b->piece ? b->work / b->whole : 1;
    if (stage == SD_STAGE_DECODE) c->timings.vae_work = times;
    if (b->piece)
        sd_logf(&c->log, SD_LOG_DETAIL,
                "the VAE %s in bands: %.3g GB of working memory instead of %.3g, %.2f times the multiplications",
                stage == SD_STAGE_DECODE ? "decodes" : "encodes", (double)b->bytes / 1e9, (double)b->whole_bytes / 1e9,
                times);
}

/* j->n pictures of j->in, `out` numbers each, to j->out. beside: see vae_room. */
static sd_status run_vae(sd_ctx *c, sd_stage stage, picture_input *j, size_t out, double beside)
{
    sd_module *module = sd_model_module_of(&c->model, j->vae);
    int batch = j->n;
    size_t in = (size_t)j->channels * (size_t)j->h * (size_t)j->w;
    percent p = {c, 0, sd_now()};
    if (!c->rehearsing) {   /* whose names come once, from run_stage */
        plan_vae(c, j, vae_room(c, fmax(beside, c->beside)));
        if (!c->err.status) describe_bands(c, stage, &j->bands);
    }
    if (j->bands.piece && stage == SD_STAGE_DECODE) {
        j->bands.progress = report_percent;
        j->bands.user = &p;
    }
    for (int i = 0; i < batch && !c->err.status; i += j->n) {
        p.done = 0;
        run_stage(c, stage, vae_body, j, module);
        if (j->in) j->in += in * (size_t)j->n;
        if (j->out) j->out += out * (size_t)j->n;
    }
    sd_bands_free(&j->bands);
    return c->err.status;
}

/* A picture as numbers and as bytes. */
static double picture_bytes(int batch, int h, int w) { return 3.0 * (sizeof(float) + 1) * batch * h * w; }

static picture_input decoding_of(const sd_ctx *c, int batch, int h, int w, const float *latents, float *picture)
{
    return (picture_input){.n = batch, .h = h, .w = w, .channels = c->model.vae->cfg.latent_channels, .in = latents,
                           .out = picture, .vae = c->model.vae, .decodes = true};
}

static picture_input encoding_of(const sd_ctx *c, int batch, int h, int w, const float *picture, float *moments)
{
    int scale = sd_vae_scale(&c->model.encoder->cfg);
    return (picture_input){.n = batch, .h = h * scale, .w = w * scale, .channels = 3, .in = picture, .out = moments,
                           .vae = c->model.encoder};
}

sd_status sd_run_decode(sd_ctx *c, int batch, int h, int w, const float *latents, float *picture)
{
    int scale = sd_vae_scale(&c->model.vae->cfg);
    picture_input j = decoding_of(c, batch, h, w, latents, picture);
    sd_module *module = sd_model_module_of(&c->model, c->model.vae);
    sd_trace_prefix(&c->run, "vae.");
    run_vae(c, SD_STAGE_DECODE, &j, 3 * (size_t)h * (size_t)w * (size_t)scale * (size_t)scale,
            picture_bytes(batch, h * scale, w * scale));
    sd_trace_prefix(&c->run, "%s", "");
    if (c->err.status) return c->err.status;
    size_t pixels = (size_t)batch * (size_t)h * (size_t)w;
    return sd_check_result(c, "the VAE's result", picture, pixels * 3 * (size_t)scale * (size_t)scale,
                           module, latents, pixels * (size_t)c->model.vae->cfg.latent_channels);
}

/* A TAESD has no posterior: a picture's encoding is the mean of one without a deviation. */
static void spread_encodings(float *moments, size_t batch, size_t half)
{
    for (size_t i = batch; i-- > 0;) {
        float *mean = moments + 2 * i * half;
        memmove(mean, moments + i * half, half * sizeof *mean);
        for (size_t k = 0; k < half; k++) mean[half + k] = -INFINITY;
    }
}

sd_status sd_run_encode(sd_ctx *c, const char *prefix, int batch, int h, int w, const float *picture, float *moments)
{
    const sd_vae_config *v = &c->model.encoder->cfg;
    sd_module *module = sd_model_module_of(&c->model, c->model.encoder);
    int scale = sd_vae_scale(v);
    picture_input j = encoding_of(c, batch, h, w, picture, moments);
    size_t half = (size_t)v->latent_channels * (size_t)h * (size_t)w;
    sd_trace_prefix(&c->run, "%s", prefix);
    run_vae(c, SD_STAGE_ENCODE, &j, (v->tiny ? 1 : 2) * half, picture_bytes(batch, h * scale, w * scale));
    sd_trace_prefix(&c->run, "%s", "");
    sd_check_result(c, "the VAE's result", moments, (size_t)batch * (v->tiny ? 1 : 2) * half, module, picture,
                    (size_t)batch * 3 * (size_t)(h * scale) * (size_t)(w * scale));
    if (v->tiny) spread_encodings(moments, (size_t)batch, half);
    for (size_t i = 0; i < (size_t)batch && !v->tiny && !c->err.status; i++) {
        float *logvar = moments + (2 * i + 1) * half;
        for (size_t k = 0; k < half; k++) logvar[k] = fminf(fmaxf(logvar[k], -30), 20);
    }
    return c->err.status;
}

/* Working memory of the encoder or decoder. */
static size_t vae_memory(sd_ctx *c, picture_input j, double beside)
{
    if (!c->err.status) plan_vae(c, &j, vae_room(c, beside));
    size_t bytes = j.bands.bytes;
    sd_bands_free(&j.bands);
    return bytes;
}

/* Working memory of the VAE's larger half, while the call has taken nothing yet. */
static double most_of_vae(sd_ctx *c, int pictures, int h, int w, double beside)
{
    c->preparing = true;
    size_t decoding = vae_memory(c, decoding_of(c, pictures, h, w, NULL, NULL), beside);
    size_t encoding = vae_memory(c, encoding_of(c, 1, h, w, NULL, NULL), beside);
    c->preparing = false;
    return (double)(decoding > encoding ? decoding : encoding);
}

double sd_stages_memory(sd_ctx *c, int batch, int pictures, int h, int w, double beside)
{
    float *timesteps = calloc((size_t)batch, sizeof *timesteps);   /* the only numbers that are read */
    sd_cond cond = sd_unet_blank(&c->model.unet->cfg, batch, SD_TOKENS);
    picture_input unet = {.n = batch, .h = h, .w = w, .channels = c->model.unet->cfg.in_channels,
                          .timesteps = timesteps, .cond = &cond};
    sd_arena most = {0};
    if (!timesteps) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d timesteps", batch);
    else most = rehearse(c, unet_body, &unet);
    free(timesteps);
    need_parts(c, &most, "the UNet");
    return fmax((double)most.peak, most_of_vae(c, pictures, h, w, beside));
}

sd_status sd_need_stages(sd_ctx *c, double stages, double beside, const char *what)
{
    if (!c->run.be->room) return sd_need_memory(&c->err, stages + beside, "%s", what);
    if (sd_need_memory(&c->err, beside, "%s", what) || stages <= device_room(c)) return c->err.status;
    return sd_fail(&c->err, SD_ERR_MEMORY, "%s takes %.3g GB of the device's memory, and %.3g GB are free", what,
                   stages / 1e9, device_room(c) / 1e9);
}

/* ------------------------------------------------------------------------- the stages, publicly */

sd_status sd_tokenize(sd_ctx *c, const char *text, sd_tokens *tokens)
{
    if (!sd_begin(c) && !sd_need(c, SD_PART_TOKENIZER) && !sd_check_not_null(c, "tokens", tokens))
        sd_tokenizer_encode(c->model.tokenizer, text ? text : "", tokens, &c->err);
    return sd_end(c);
}

const char *sd_token_piece(const sd_ctx *c, int32_t id)
{
    return c && c->model.tokenizer ? sd_tokenizer_piece(c->model.tokenizer, id) : NULL;
}

/* Checks bounds that keep every product of sizes far below 2^64. */
static sd_status expect_size(sd_ctx *c, int batch, int h, int w)
{
    if (batch < 1 || batch > 1024 || h < 1 || w < 1 || h > 8192 || w > 8192)
        return sd_fail(&c->err, SD_ERR_ARG,
                       "a batch of 1 to 1024 and latent sides of 1 to 8192 are possible, not %d of %dx%d", batch, w, h);
    return SD_OK;
}

/* The inputs that some UNets have besides the first three: there if this one has them, else NULL. */
static sd_status check_more_inputs(sd_ctx *c, const sd_unet_input *in, const sd_cond *cond)
{
    const sd_unet_config *u = &c->model.unet->cfg;
    const struct { const char *name; const float *x; int width; } more[] = {
        {"text_embeds", in->text_embeds, cond->pooled_width}, {"time_ids", in->time_ids, cond->n_ids},
        {"timestep_cond", in->timestep_cond, u->time_cond_dim}};
    for (size_t i = 0; i < SD_COUNT(more); i++) {
        if (!more[i].width && more[i].x)
            return sd_fail(&c->err, SD_ERR_ARG, "this UNet takes no %s: it must be NULL", more[i].name);
        if (more[i].width
            && sd_check_numbers(c, more[i].name, more[i].x, (size_t)in->batch * (size_t)more[i].width))
            return c->err.status;
    }
    if (!u->class_embeds != !in->class_labels)
        return sd_fail(&c->err, SD_ERR_ARG, u->class_embeds ? "class_labels must not be NULL"
                       : "this UNet takes no class_labels: it must be NULL");
    for (int i = 0; i < in->batch && u->class_embeds; i++)
        if (in->class_labels[i] < 0 || in->class_labels[i] >= u->class_embeds)
            return sd_fail(&c->err, SD_ERR_ARG, "class_labels must be 0 to %d, not %d", u->class_embeds - 1,
                           (int)in->class_labels[i]);
    return SD_OK;
}

static sd_status evaluate(sd_ctx *c, const sd_unet_input *in, float *out)
{
    const sd_unet_config *u = &c->model.unet->cfg;
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    const size_t n = (size_t)in->batch, pixels = n * (size_t)in->h * (size_t)in->w;
    const sd_cond cond = {.n = in->batch, .tokens = SD_TOKENS, .width = u->context_dim,
                          .context = in->encoder_hidden_states,
                          .pooled_width = sd_cond_pooled_width(&c->model, plan),
                          .pooled = in->text_embeds, .n_ids = plan->n_ids, .ids = in->time_ids,
                          .labels = in->class_labels, .time_cond = in->timestep_cond};
    if (expect_size(c, in->batch, in->h, in->w)
        || sd_check_numbers(c, "the latents", in->sample, pixels * (size_t)u->in_channels)
        || sd_check_timesteps(c, in->timestep, n)
        || sd_check_numbers(c, "the context", in->encoder_hidden_states, n * SD_TOKENS * (size_t)u->context_dim)
        || check_more_inputs(c, in, &cond))
        return c->err.status;
    sd_trace_prefix(&c->run, "unet.");
    sd_run_unet(c, in->batch, in->h, in->w, in->sample, in->timestep, &cond, out);
    sd_trace_prefix(&c->run, "%s", "");
    return c->err.status;
}

sd_status sd_unet_evaluate(sd_ctx *c, const sd_unet_input *input, float *out)
{
    sd_unet_input in = {0};
    if (sd_begin(c) || sd_need(c, SD_PART_UNET) || sd_check_not_null(c, "input", input)
        || sd_check_not_null(c, "out", out))
        return sd_end(c);
    if (input->size < offsetof(sd_unet_input, text_embeds) || input->size > sizeof in)
        sd_fail(&c->err, SD_ERR_ARG, "input has a size of %zu bytes, %zu are the most here: set it to "
                "sizeof(sd_unet_input)", input->size, sizeof in);
    else memcpy(&in, input, input->size);
    if (!c->err.status) evaluate(c, &in, out);
    return sd_end(c);
}

sd_status sd_unet(sd_ctx *c, int batch, int h, int w, const float *latents, const float *timesteps,
                  const float *context, float *out)
{
    return sd_unet_evaluate(c, &(sd_unet_input){.size = sizeof(sd_unet_input), .batch = batch, .h = h, .w = w,
                                                .sample = latents, .timestep = timesteps,
                                                .encoder_hidden_states = context}, out);
}

sd_status sd_vae_decode(sd_ctx *c, int batch, int h, int w, const float *latents, float *picture)
{
    if (!sd_begin(c) && !sd_need(c, SD_PART_VAE) && !expect_size(c, batch, h, w)
        && !sd_check_not_null(c, "picture", picture)
        && !sd_check_numbers(c, "the latents", latents,
                          (size_t)batch * (size_t)c->model.vae->cfg.latent_channels * (size_t)h * (size_t)w))
        sd_run_decode(c, batch, h, w, latents, picture);
    return sd_end(c);
}

/* The posterior's parameters [Kingma & Welling 2013]. */
sd_status sd_vae_encode(sd_ctx *c, int batch, int h, int w, const float *picture, float *mean, float *logvar)
{
    if (sd_begin(c) || sd_need(c, SD_PART_VAE) || expect_size(c, batch, h, w) || sd_check_not_null(c, "mean", mean)
        || sd_check_not_null(c, "logvar", logvar))
        return sd_end(c);
    size_t side = (size_t)sd_vae_scale(&c->model.vae->cfg);
    if (sd_check_numbers(c, "the picture", picture, (size_t)batch * 3 * (size_t)h * (size_t)w * side * side))
        return sd_end(c);
    size_t half = (size_t)c->model.vae->cfg.latent_channels * (size_t)h * (size_t)w;
    float *moments = malloc((size_t)batch * 2 * half * sizeof *moments);
    if (!moments) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the moments");
    else sd_run_encode(c, "vae.", batch, h, w, picture, moments);
    for (int i = 0; i < batch && !c->err.status; i++) {
        const float *from = moments + (size_t)i * 2 * half;
        memcpy(mean + (size_t)i * half, from, half * sizeof *mean);
        memcpy(logvar + (size_t)i * half, from + half, half * sizeof *logvar);
    }
    free(moments);
    return sd_end(c);
}

/* z = mean + exp(logvar/2) noise [Kingma & Welling 2013, section 2.4] */
void sd_vae_sample(const float *mean, const float *logvar, const float *noise, size_t n, double factor, float *latents)
{
    if (!mean || !logvar || !noise || !latents) return;
    for (size_t i = 0; i < n; i++)
        latents[i] = (float)(factor * ((double)mean[i] + exp((double)logvar[i] / 2) * (double)noise[i]));
}

sd_status sd_vae_fits(sd_ctx *c, int h, int w)
{
    if (sd_begin(c) || sd_need(c, SD_PART_VAE) || expect_size(c, 1, h, w)) return sd_end(c);
    int scale = sd_vae_scale(&c->model.vae->cfg);
    double picture = picture_bytes(1, h * scale, w * scale), most = most_of_vae(c, 1, h, w, picture);
    char what[96];
    snprintf(what, sizeof what, "the VAE with a picture of %dx%d pixels", w * scale, h * scale);
    if (!c->err.status) sd_need_stages(c, most, picture, what);
    return sd_end(c);
}
