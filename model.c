/* model.c - floor 6: opening a model, whether its modules fit each other, the weights' fingerprint. */
#include "model.h"
#include "json.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

/* ---------------------------------------------------------------------------------------- opening */

/* A training checkpoint keeps an average of each of the UNet's weights [LDM, modules/ema.py]: binding takes these. */
static sd_status use_averages(sd_module *x, const sd_origin *from, sd_error *e)
{
    if (!from->network || !from->source->what.ema)
        return sd_fail(e, SD_ERR_MISSING, "%s has no averages of the UNet's weights (model_ema.*)", from->source->path);
    x->binder.root = SD_AVERAGES_ROOT;
    x->binder.dotless = true;
    return SD_OK;
}

static sd_status bind_weights(sd_model *m, sd_module *x, sd_origin *from, const sd_model_request *q, sd_error *e)
{
    sd_binder *b = &x->binder;
    const sd_log *log = q->log;
    const char *name = x->place->name;
    char what[300];
    if (!from->source) from->source = sd_model_source(m, from->weights, x->place->stem, e);
    if (!from->source) return e->status;
    b->store = x->files = &from->source->store;
    if (q->options->ema && x->kind->part == SD_PART_UNET && use_averages(x, from, e)) return e->status;
    snprintf(what, sizeof what, "%.240s: %s", from->source->path, name);
    if (x->kind->bind(x->net, b) || sd_bind_finish(b, what, log)) return e->status;
    /* Both ways of a TAESD may be in one file, under these names. */
    const char *of = x->kind->part == SD_PART_TAESD && !b->root ? name + strlen("taesd_") : b->root;
    sd_store_log_unused(&from->source->store, of, name, log);
    sd_logf(log, SD_LOG_DETAIL, "%s: %zu tensors, %zu parameters, %.1f MB", name, b->tensors, b->params,
            (double)b->bytes / 1e6);
    return SD_OK;
}

uint32_t sd_model_last_id(const sd_model *m) { return m->n ? m->module[m->n - 1]->binder.last_id : m->last_id; }

/* An empty module at the end of the list. */
static sd_module *add_module(sd_model *m, const sd_module_place *place, const sd_origin *from, sd_error *e)
{
    sd_module **more = realloc(m->module, (size_t)(m->n + 1) * sizeof *more), *x = more ? calloc(1, sizeof *x) : NULL;
    if (more) m->module = more;
    if (!x) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for the modules of a model");
        return NULL;
    }
    x->kind = place->kind;
    x->place = place;
    uint32_t last_id = sd_model_last_id(m);
    const char *root = from->network && *from->network->root ? from->network->root : NULL;
    x->binder = (sd_binder){.root = root, .strip = place->strip, .err = e, .last_id = last_id};
    x->padded = from->pad;
    x->dir = *from->dir && !from->family ? sd_strdup(from->dir) : NULL;
    if (*from->dir && !from->family && !x->dir) sd_fail(e, SD_ERR_MEMORY, "no memory for the modules of a model");
    return m->module[m->n++] = x;
}

static sd_status open_module(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_error *e)
{
    sd_origin *from = NULL;
    bool found = false;
    bool spared = place->kind->part == SD_PART_VAE && sd_taesd_suffices(m, q);
    if (!(m->parts & place->kind->part) || spared) return SD_OK;
    from = calloc(1, sizeof *from);
    if (!from) return sd_fail(e, SD_ERR_MEMORY, "no memory to open a model");
    sd_module *x = NULL;
    if (!(place->beside ? sd_taesd_find : sd_origin_find)(m, place, q, from, &found, e) && found)
        x = add_module(m, place, from, e);
    if (x) x->from_shapes = from->network && !*from->dir && !from->family
                            && strcmp(from->network->config_from, "shapes") == 0;
    if (x && !e->status) x->net = place->kind->read(from, place->index, q->log, e);
    if (!e->status && x && place->kind->bind) bind_weights(m, x, from, q, e);
    free(from);
    return e->status;
}

/* The network of a part's module 0, or `none`. */
static const void *network_or(const sd_model *m, unsigned part, const void *none)
{
    const sd_module *x = sd_model_module(m, part, 0);
    return x ? x->net : none;
}

/* SDXL's UNet gets the pooled vector of the last text encoder, and 6 ids; the refiner's, which has one encoder, 5. */
static sd_status check_added(const sd_model *m, sd_error *e)
{
    const sd_unet_config *u = &m->unet->cfg;
    const sd_module *second = sd_model_module(m, SD_PART_TEXT, 1), *last = second ? second
        : sd_model_module(m, SD_PART_TEXT, 0);
    int pooled = ((const sd_clip *)last->net)->cfg.projection, ids = second ? 6 : 5;
    if (pooled && u->add_in_dim == pooled + ids * u->add_time_dim) return SD_OK;
    return sd_fail(e, SD_ERR_SHAPE, "the UNet's add_embedding reads %d numbers, but the text encoder's text_projection "
                   "gives %d, and %d ids of %d make the rest: not one model", u->add_in_dim, pooled, ids,
                   u->add_time_dim);
}

/* Who decodes and encodes. A TAESD stands for the VAE as far as it goes. */
static void assign_roles(sd_model *m)
{
    const sd_module *decoder = sd_model_module(m, SD_PART_TAESD, 0), *encoder = sd_model_module(m, SD_PART_TAESD, 1);
    m->preview = decoder ? decoder->net : NULL;
    if (m->taesd_for_previews) return;
    if (decoder) m->vae = decoder->net;
    if (encoder) m->encoder = encoder->net;
}

/* All that decode and encode must mean the same latents. */
static sd_status check_taesd(const sd_model *m, sd_error *e)
{
    const sd_module *vae = sd_model_module(m, SD_PART_VAE, 0);
    const sd_vae *all[] = {m->preview, m->encoder, vae ? vae->net : NULL};
    const sd_vae_config *is = &m->vae->cfg;
    for (size_t i = 0; i < SD_COUNT(all) && m->preview; i++) {
        const sd_vae_config *c = all[i] ? &all[i]->cfg : is;
        if (c->levels && (c->latent_channels != is->latent_channels || sd_vae_scale(c) != sd_vae_scale(is)))
            return sd_fail(e, SD_ERR_SHAPE, "the TAESD and the VAE are not of one model: %d and %d latent channels, %d "
                           "and %d pixels for a latent", is->latent_channels, c->latent_channels, sd_vae_scale(is),
                           sd_vae_scale(c));
    }
    return SD_OK;
}

static sd_status check_modules_fit(const sd_model *m, sd_error *e)
{
    const sd_module *x;
    int width = 0, latents = m->unet->cfg.out_channels;
    for (int i = 0; (x = sd_model_module(m, SD_PART_TEXT, i)) != NULL; i++)
        width += ((const sd_clip *)x->net)->cfg.width;
    if (width && latents && width != m->unet->cfg.context_dim)
        return sd_fail(e, SD_ERR_SHAPE,
                       "the UNet's cross_attention_dim is %d, the text encoder's hidden_size %d: not one model",
                       m->unet->cfg.context_dim, width);
    if (width && m->unet->cfg.add_in_dim && check_added(m, e)) return e->status;
    if (latents && m->vae->cfg.levels && m->vae->cfg.latent_channels != latents)
        return sd_fail(e, SD_ERR_SHAPE, "the UNet has %d latent channels, the %s %d: not one model", latents,
                       m->vae->cfg.tiny ? "TAESD" : "VAE", m->vae->cfg.latent_channels);
    return check_taesd(m, e);
}

/* What a pipeline keeps of itself. The default of StableDiffusionXLPipeline is to take zeros, its refiner's file says
 * false; that of StableDiffusionUpscalePipeline is a noise level of 350. */
static sd_status open_index(sd_model *m, const char *dir, sd_error *e)
{
    enum { MOST_NOISE = 350 };
    char path[PATH_BYTES];
    const sd_unet_config *u = &m->unet->cfg;
    bool two = sd_model_module(m, SD_PART_TEXT, 1) != NULL;   /* text encoders, perhaps opened without a UNet */
    m->zeros_for_no_negative = (two || u->add_in_dim > 0) && !(m->family && m->family->n_clip == 1);
    m->most_noise = u->class_embeds > MOST_NOISE ? MOST_NOISE : u->class_embeds - 1;
    if (!(two || u->add_in_dim || u->class_embeds) || !dir) return e->status;
    if (sd_path_join(path, sizeof path, dir, "model_index.json", e)) return e->status;
    if (!sd_is_file(path)) return SD_OK;
    sd_json *root = sd_json_read(path, (size_t)1 << 20, e);
    const sd_json *v = sd_json_get(root, "force_zeros_for_empty_prompt");
    if (v) m->zeros_for_no_negative = sd_json_is(v, SD_JSON_TRUE);
    m->scored = sd_json_is(sd_json_get(root, "requires_aesthetics_score"), SD_JSON_TRUE);
    v = sd_json_get(root, "max_noise_level");
    if (sd_json_is(v, SD_JSON_NUMBER) && v->number >= 0 && v->number < u->class_embeds) m->most_noise = (int)v->number;
    sd_json_free(root);
    return e->status;
}

/* What a file's names and shapes say, for those who want to know. */
static void log_reasons(const sd_model *m, const sd_log *log)
{
    for (int i = 0; i < m->n_sources; i++) {
        const sd_source *s = m->source[i];
        if (!s->recognised) continue;
        sd_logf(log, SD_LOG_DETAIL, "%s: %s", s->path, s->what.kind_name ? s->what.kind_name : "unknown");
        for (const char *at = s->what.why.s, *end; at && *at; at = *end ? end + 1 : end) {
            end = at + strcspn(at, "\n");
            sd_logf(log, SD_LOG_DETAIL, "%s: %.*s", s->path, (int)(end - at), at);
        }
        for (size_t k = 0; k < s->what.n_leftover; k++)
            sd_logf(log, SD_LOG_DETAIL, "%s: nobody knows the tensor %s", s->path, s->what.leftover[k]);
    }
    sd_logf(log, SD_LOG_DETAIL, "the model is a %s of family %s", m->layout, m->family ? m->family->name : "unknown");
    if (m->sched_text)
        sd_logf(log, SD_LOG_DETAIL, "%s; prediction %s: %s", m->sched_name,
                m->asks ? "open" : sd_prediction_name(m->sched.prediction), m->prediction_why);
}

sd_status sd_model_open(sd_model *m, const sd_model_request *q, sd_error *e)
{
    static const sd_unet_net no_unet;
    static const sd_vae no_vae;
    static const sd_clip no_text;
    unsigned parts = q->options->parts;
    int residency = q->options->residency;
    *m = (sd_model){.parts = parts, .residency = residency, .last_id = q->last_id, .unet = &no_unet, .vae = &no_vae,
                    .encoder = &no_vae, .text = &no_text, .layout = ""};
    if (parts & ~(unsigned)(SD_PART_ALL | SD_PART_SCHEDULE))
        return sd_fail(e, SD_ERR_ARG, "parts must be made of SD_PART_TOKENIZER, TEXT, UNET, VAE and SCHEDULE, not 0x%x",
                       parts);
    if (residency < SD_RESIDENCY_MAP || residency > SD_RESIDENCY_RAM)
        return sd_fail(e, SD_ERR_ARG, "residency must be one of SD_RESIDENCY_MAP, STREAM and RAM, not %d", residency);
    m->taesd = q->options->taesd ? sd_strdup(q->options->taesd) : NULL;
    if (q->options->taesd && !m->taesd) return sd_fail(e, SD_ERR_MEMORY, "no memory for a path");
    m->taesd_for_previews = m->taesd && q->options->taesd_preview_only;
    if (sd_model_find_layout(m, q, e) || sd_model_find_family(m, q, e) || sd_model_find_sched(m, q, e))
        return e->status;
    for (size_t i = 0; i < sd_module_place_count; i++)
        if (open_module(m, &sd_module_places[i], q, e)) return e->status;
    m->unet = network_or(m, SD_PART_UNET, &no_unet);
    m->vae = m->encoder = network_or(m, SD_PART_VAE, &no_vae);
    assign_roles(m);
    m->text = network_or(m, SD_PART_TEXT, &no_text);
    m->tokenizer = network_or(m, SD_PART_TOKENIZER, NULL);
    if (sd_model_settle(m, e)) return e->status;
    log_reasons(m, q->log);
    const char *dir = m->config_dir ? m->config_dir : m->kind == SD_PATH_MODEL ? m->at : NULL;
    return open_index(m, dir, e) || sd_model_find_low_res(m, e) ? e->status : check_modules_fit(m, e);
}

static void close_source(sd_source *s)
{
    if (s->recognised) sd_recognised_free(&s->what);
    sd_store_close(&s->store);
    free(s->path);
    free(s);
}

void sd_model_close(sd_model *m)
{
    for (int i = 0; i < m->n; i++) {
        sd_module *x = m->module[i];
        if (x->net) x->kind->free(x->net);
        sd_binder_free(&x->binder);
        free(x->dir);
        free(x);
    }
    for (int i = 0; i < m->n_sources; i++) close_source(m->source[i]);
    free(m->source);
    free(m->module);
    free(m->path);
    free(m->taesd);
    free(m->at);
    free(m->config_dir);
    free(m->sched_text);
    free(m->sched_name);
    free(m->low_res_text);
    memset(m, 0, sizeof *m);
}

/* ----------------------------------------------------------------------------------------- modules */

/* The weights of one module may leave memory; other modules may have theirs in the same file. */
static void release(const sd_module *x, const sd_store *in_use)
{
    if (x->files && x->files != in_use) {
        sd_store_used(x->files, NULL, 0);
        return;
    }
    for (size_t i = 0; i < x->binder.n_weights; i++) {
        const sd_tensor *w = x->binder.weight[i].field;
        sd_store_release(x->files, w->data, sd_dtype_bytes(w->dt, (size_t)sd_numel(w)));
    }
}

bool sd_model_use(sd_model *m, const sd_module *module)
{
    if (m->in_use == module) return false;
    for (int i = 0; i < m->n; i++)
        if (m->module[i] != module) release(m->module[i], module->files);
    m->in_use = module;
    return true;
}

void sd_model_rest(sd_model *m)
{
    for (int i = 0; i < m->n; i++)
        if (m->module[i]->files) release(m->module[i], NULL);
    m->in_use = NULL;
}

/* ------------------------------------------------------------------------------------- fingerprint */

/* Hashes of weights are added up, so that it does not matter how the weights are spread over files. Names and shapes
 * are those of diffusers, so that it does not matter either under which names files have them. */
static void add_to_fingerprint(unsigned char sum[16], const sd_weight *w)
{
    enum { SAMPLE = 64 };
    sd_md5 m;
    const sd_tensor *t = w->field;
    size_t bytes = sd_dtype_bytes(t->dt, (size_t)sd_numel(t)), n = bytes < SAMPLE ? bytes : SAMPLE;
    sd_md5_init(&m);
    sd_md5_add(&m, w->path, strlen(w->path));
    for (int i = 0; i < w->nd; i++) {
        char side[24];
        long long d = i < t->nd ? (long long)t->dim[i] : 1;
        sd_md5_add(&m, side, (size_t)snprintf(side, sizeof side, ",%lld", d));
    }
    sd_md5_add(&m, sd_dtype_name(t->dt), strlen(sd_dtype_name(t->dt)));
    sd_md5_add(&m, (const unsigned char *)t->data + (bytes - n) / 2, n);
    char hex[33];
    sd_md5_hex(&m, hex);
    for (unsigned i = 0; i < 16; i++) sum[i] = (unsigned char)(sum[i] + (m.state[i / 4] >> 8 * (i % 4)));
}

/* Of a TAESD's modules, or of all others. */
static void sum_fingerprint(const sd_model *m, bool taesd, char hex[17])
{
    unsigned char sum[16] = {0};
    size_t seen = 0;
    for (int k = 0; k < m->n; k++) {
        const sd_module *x = m->module[k];
        if ((x->kind->part == SD_PART_TAESD) != taesd) continue;
        for (size_t i = 0; i < x->binder.n_weights; i++) {
            add_to_fingerprint(sum, &x->binder.weight[i]);
            if (++seen % 32 == 0) sd_store_used(x->files, NULL, 0);   /* a sample pulls its neighbours into memory */
        }
        if (x->files) sd_store_used(x->files, NULL, 0);
    }
    for (int i = 0; i < 8; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

const char *sd_model_fingerprint(sd_model *m)
{
    if (!*m->fingerprint) sum_fingerprint(m, false, m->fingerprint);
    return m->fingerprint;
}

bool sd_model_taesd_fingerprint(const sd_model *m, char hex[17])
{
    if (!m->taesd || m->taesd_for_previews) return false;
    sum_fingerprint(m, true, hex);
    return true;
}
