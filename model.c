/* model.c - floor 6: opening a model: the kinds of its modules, and the layouts in which models are published. */
#include "model.h"
#include "json.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#ifndef SD_DATADIR
#define SD_DATADIR "/usr/local/share/sd"
#endif

enum { PATH_BYTES = 4096 };

/* -------------------------------------------------------------------------------- kinds of modules */

/* Logs what a configuration says without effect. */
static void log_notes(const sd_log *log, const char *notes)
{
    for (const char *end; (end = strchr(notes, '\n')) != NULL; notes = end + 1)
        sd_logf(log, SD_LOG_NOTICE, "%.*s", (int)(end - notes), notes);
}

static void *new_network(size_t size, sd_error *e)
{
    void *net = calloc(1, size);
    if (!net) sd_fail(e, SD_ERR_MEMORY, "no memory for a network");
    return net;
}

/* The model's own tokenizer, or CLIP's merges from the data directory: they are the same in every published model. */
static void *read_tokenizer(const char *dir, const sd_log *log, sd_error *e)
{
    sd_tokenizer *t = NULL;
    if (sd_is_absent(dir) && sd_is_file(SD_DATADIR "/merges.txt")) {
        sd_logf(log, SD_LOG_NOTICE, "no %s: using the merges of %s, padding with the end token", dir, SD_DATADIR);
        dir = SD_DATADIR;
    }
    sd_tokenizer_open(&t, dir, e);
    return t;
}

static void free_tokenizer(void *net) { sd_tokenizer_close(net); }

static void *read_text(const char *dir, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES];
    sd_clip *net = new_network(sizeof *net, e);
    (void)log;
    if (!net || sd_path_join(path, sizeof path, dir, "config.json", e) || sd_clip_config_read(&net->cfg, path, e))
        return net;
    if (net->cfg.positions < SD_TOKENS)
        sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %d positions, %d are needed", path, net->cfg.positions, SD_TOKENS);
    return net;
}

static sd_status bind_text(void *net, sd_binder *b)
{
    const sd_clip_config cfg = ((const sd_clip *)net)->cfg;
    return sd_clip_bind(net, &cfg, b);
}

static void free_text(void *net)
{
    sd_clip_free(net);
    free(net);
}

static void *read_unet(const char *dir, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES];
    sd_unet_config cfg;
    sd_unet_net *net = new_network(sizeof *net, e);
    if (!net || sd_path_join(path, sizeof path, dir, "config.json", e) || sd_unet_config_read(&cfg, path, e))
        return net;
    log_notes(log, cfg.notes);
    sd_unet_walk(net, &cfg, e);
    return net;
}

static sd_status bind_unet(void *net, sd_binder *b) { return sd_unet_bind(net, b); }

static void free_unet(void *net)
{
    sd_unet_free(net);
    free(net);
}

static void *read_vae(const char *dir, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES];
    sd_vae_config cfg;
    sd_vae *net = new_network(sizeof *net, e);
    if (!net || sd_path_join(path, sizeof path, dir, "config.json", e) || sd_vae_config_read(&cfg, path, e))
        return net;
    log_notes(log, cfg.notes);
    sd_vae_walk(net, &cfg, e);
    return net;
}

static sd_status bind_vae(void *net, sd_binder *b) { return sd_vae_bind(net, b); }

static void free_vae(void *net)
{
    sd_vae_free(net);
    free(net);
}

enum { TOKENIZER, TEXT, UNET, VAE };
static const sd_module_kind kinds[] = {
    [TOKENIZER] = {SD_PART_TOKENIZER, "the tokenizer", read_tokenizer, NULL, free_tokenizer},
    [TEXT] = {SD_PART_TEXT, "the text encoder", read_text, bind_text, free_text},
    [UNET] = {SD_PART_UNET, "the UNet", read_unet, bind_unet, free_unet},
    [VAE] = {SD_PART_VAE, "the VAE", read_vae, bind_vae, free_vae},
};

/* ---------------------------------------------------------------------------------------- layouts */

/* A directory as diffusers saves a pipeline. */
static const sd_module_place diffusers_directory[] = {
    {.kind = &kinds[TOKENIZER], .name = "tokenizer", .dir = "tokenizer", .or_dir = "tokenizer_2"},
    {.kind = &kinds[TEXT], .name = "text_encoder", .dir = "text_encoder", .stem = "model", .strip = "text_model.",
     .or_dir = "text_encoder_2"},
    {.kind = &kinds[TOKENIZER], .name = "tokenizer_2", .dir = "tokenizer_2", .optional = true},
    {.kind = &kinds[TEXT], .name = "text_encoder_2", .dir = "text_encoder_2", .stem = "model", .strip = "text_model.",
     .optional = true},
    {.kind = &kinds[UNET], .name = "unet", .dir = "unet", .stem = "diffusion_pytorch_model"},
    {.kind = &kinds[VAE], .name = "vae", .dir = "vae", .stem = "diffusion_pytorch_model"},
};

/* ---------------------------------------------------------------------------------------- opening */

static sd_status bind_weights(sd_module *x, const char *dir, int residency, const sd_log *log, sd_error *e)
{
    sd_binder *b = &x->binder;
    const char *name = x->place->name;
    if ((residency == SD_RESIDENCY_RAM ? sd_store_load_dir : sd_store_open_dir)(&x->files, dir, x->place->stem, e)
        || x->kind->bind(x->net, b) || sd_bind_finish(b, name, log))
        return e->status;
    sd_store_log_unused(&x->files, b->root, name, log);
    sd_logf(log, SD_LOG_DETAIL, "%s: %zu tensors, %zu parameters, %.1f MB", name, b->tensors, b->params,
            (double)b->bytes / 1e6);
    return SD_OK;
}

/* An empty module at the end of the list. */
static sd_module *add_module(sd_model *m, const sd_module_place *place, sd_error *e)
{
    sd_module **more = realloc(m->module, (size_t)(m->n + 1) * sizeof *more), *x = more ? calloc(1, sizeof *x) : NULL;
    if (more) m->module = more;
    if (!x) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for the modules of a model");
        return NULL;
    }
    x->kind = place->kind;
    x->place = place;
    uint32_t last_id = m->n ? m->module[m->n - 1]->binder.last_id : 0;
    x->binder = (sd_binder){.store = &x->files, .root = place->root, .strip = place->strip, .err = e,
                            .last_id = last_id};
    return m->module[m->n++] = x;
}

static sd_status open_module(sd_model *m, const sd_module_place *place, const sd_log *log, sd_error *e)
{
    char dir[PATH_BYTES];
    if (!(m->parts & place->kind->part)) return SD_OK;
    if (sd_path_join(dir, sizeof dir, m->path, place->dir, e)) return e->status;
    if (place->optional && sd_is_absent(dir)) return SD_OK;
    if (place->or_dir && sd_is_absent(dir)) {   /* SDXL's refiner has only the second text encoder */
        char other[PATH_BYTES];
        if (sd_path_join(other, sizeof other, m->path, place->or_dir, e)) return e->status;
        if (!sd_is_absent(other)) return SD_OK;
    }
    sd_module *x = add_module(m, place, e);
    if (!x) return e->status;
    x->net = place->kind->read(dir, log, e);
    if (!e->status && place->kind->bind) bind_weights(x, dir, m->residency, log, e);
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
                   "gives %d, and %d ids of %d make the rest: not one model", u->add_in_dim, pooled, ids, u->add_time_dim);
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
        return sd_fail(e, SD_ERR_SHAPE, "the UNet has %d latent channels, the VAE %d: not one model", latents,
                       m->vae->cfg.latent_channels);
    return SD_OK;
}

/* StableDiffusionXLPipeline's default is true. */
static sd_status open_index(sd_model *m, sd_error *e)
{
    char path[PATH_BYTES];
    m->zeros_for_no_negative = m->unet->cfg.add_in_dim > 0;
    if (!m->zeros_for_no_negative || sd_path_join(path, sizeof path, m->path, "model_index.json", e)) return e->status;
    if (!sd_is_file(path)) return SD_OK;
    sd_json *root = sd_json_read(path, (size_t)1 << 20, e);
    const sd_json *v = sd_json_get(root, "force_zeros_for_empty_prompt");
    if (v) m->zeros_for_no_negative = sd_json_is(v, SD_JSON_TRUE);
    sd_json_free(root);
    return e->status;
}

static sd_status open_scheduler(sd_model *m, sd_error *e)
{
    char path[PATH_BYTES];
    if (sd_path_join(path, sizeof path, m->path, "scheduler/scheduler_config.json", e)) return e->status;
    m->sched_path = sd_strdup(path);
    if (!m->sched_path) return sd_fail(e, SD_ERR_MEMORY, "no memory for a path");
    if ((m->parts & (SD_PART_UNET | SD_PART_SCHEDULE)) && sd_sched_read(&m->sched, m->sched_path, e)) return e->status;
    sd_sched_as_pipeline(&m->sched);
    return SD_OK;
}

sd_status sd_model_open(sd_model *m, const char *path, unsigned parts, int residency, const sd_log *log, sd_error *e)
{
    static const sd_unet_net no_unet;
    static const sd_vae no_vae;
    static const sd_clip no_text;
    *m = (sd_model){.parts = parts, .residency = residency, .unet = &no_unet, .vae = &no_vae, .text = &no_text};
    if (parts & ~(unsigned)(SD_PART_ALL | SD_PART_SCHEDULE))
        return sd_fail(e, SD_ERR_ARG, "parts must be made of SD_PART_TOKENIZER, TEXT, UNET, VAE and SCHEDULE, not 0x%x",
                       parts);
    if (strlen(path) >= PATH_BYTES)
        return sd_fail(e, SD_ERR_ARG, "the model's path is longer than %d bytes", PATH_BYTES - 1);
    if (residency < SD_RESIDENCY_MAP || residency > SD_RESIDENCY_RAM)
        return sd_fail(e, SD_ERR_ARG, "residency must be one of SD_RESIDENCY_MAP, STREAM and RAM, not %d", residency);
    m->path = sd_strdup(path);
    if (!m->path) return sd_fail(e, SD_ERR_MEMORY, "no memory for a path");
    bool found = sd_find_dir(path, e);
    if (e->status) return e->status;
    if (!found && sd_is_file(path))
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is a file: a directory in diffusers layout is expected", path);
    if (!found) return sd_fail(e, SD_ERR_MISSING, "no model directory %s", path);
    if (open_scheduler(m, e)) return e->status;
    for (size_t i = 0; i < SD_COUNT(diffusers_directory); i++)
        if (open_module(m, &diffusers_directory[i], log, e)) return e->status;
    m->unet = network_or(m, SD_PART_UNET, &no_unet);
    m->vae = network_or(m, SD_PART_VAE, &no_vae);
    m->text = network_or(m, SD_PART_TEXT, &no_text);
    m->tokenizer = network_or(m, SD_PART_TOKENIZER, NULL);
    return open_index(m, e) ? e->status : check_modules_fit(m, e);
}

void sd_model_close(sd_model *m)
{
    for (int i = 0; i < m->n; i++) {
        sd_module *x = m->module[i];
        if (x->net) x->kind->free(x->net);
        sd_binder_free(&x->binder);
        sd_store_close(&x->files);
        free(x);
    }
    free(m->module);
    free(m->path);
    free(m->sched_path);
    memset(m, 0, sizeof *m);
}

/* ----------------------------------------------------------------------------------------- modules */

sd_module *sd_model_module(const sd_model *m, unsigned part, int i)
{
    for (int k = 0; k < m->n; k++)
        if (m->module[k]->kind->part == part && i-- == 0) return m->module[k];
    return NULL;
}

sd_status sd_model_need(const sd_model *m, unsigned parts, sd_error *e)
{
    for (size_t i = 0; i < SD_COUNT(kinds); i++)
        if (parts & ~m->parts & kinds[i].part) return sd_fail(e, SD_ERR_ARG, "%s was not opened", kinds[i].title);
    return SD_OK;
}

bool sd_model_use(sd_model *m, const sd_module *module)
{
    if (m->in_use == module) return false;
    for (int i = 0; i < m->n; i++)
        if (m->module[i] != module) sd_store_used(&m->module[i]->files, NULL, 0);
    m->in_use = module;
    return true;
}

/* ------------------------------------------------------------------------------------- fingerprint */

/* Hashes of weights are added up, so that it does not matter how the weights are spread over files. */
static void add_to_fingerprint(unsigned char sum[16], const sd_entry *w)
{
    enum { SAMPLE = 64 };
    sd_md5 m;
    size_t n = w->bytes < SAMPLE ? w->bytes : SAMPLE;
    sd_md5_init(&m);
    sd_md5_add(&m, w->name, strlen(w->name));
    for (int i = 0; i < w->nd; i++) {
        char side[24];
        sd_md5_add(&m, side, (size_t)snprintf(side, sizeof side, ",%lld", (long long)w->dim[i]));
    }
    sd_md5_add(&m, sd_dtype_name(w->dt), strlen(sd_dtype_name(w->dt)));
    sd_md5_add(&m, (const unsigned char *)w->data + (w->bytes - n) / 2, n);
    char hex[33];
    sd_md5_hex(&m, hex);
    for (unsigned i = 0; i < 16; i++) sum[i] = (unsigned char)(sum[i] + (m.state[i / 4] >> 8 * (i % 4)));
}

const char *sd_model_fingerprint(sd_model *m)
{
    unsigned char sum[16] = {0};
    size_t seen = 0;
    if (*m->fingerprint) return m->fingerprint;
    for (int k = 0; k < m->n; k++) {
        const sd_store *s = &m->module[k]->files;
        for (size_t f = 0; f < s->n_files; f++)
            for (size_t i = 0; i < s->file[f].n; i++) {
                if (!s->file[f].entry[i].used) continue;
                add_to_fingerprint(sum, &s->file[f].entry[i]);
                if (++seen % 32 == 0) sd_store_used(s, NULL, 0);   /* each sample pulls its neighbours into memory */
            }
        sd_store_used(s, NULL, 0);
    }
    for (int i = 0; i < 8; i++) snprintf(m->fingerprint + 2 * i, 3, "%02x", sum[i]);
    return m->fingerprint;
}
