/* model_modules.c - floor 6: the modules of a model: their kinds, the table of those that there are, their files. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

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

static void *read_tokenizer(const sd_origin *from, int index, const sd_log *log, sd_error *e)
{
    sd_tokenizer *t = NULL;
    (void)index;
    if (from->pad) {
        sd_logf(log, SD_LOG_DETAIL, "the model has no tokenizer: using the merges of %s, padding with \"%s\"",
                from->dir, from->pad);
        sd_tokenizer_open_padded(&t, from->dir, from->pad, e);
    } else {
        sd_tokenizer_open(&t, from->dir, e);
    }
    return t;
}

static void free_tokenizer(void *net) { sd_tokenizer_close(net); }

/* config.json in the directory that a module is from. */
static const char *config_path(char path[PATH_BYTES], const sd_origin *from, sd_error *e)
{
    return sd_path_join(path, PATH_BYTES, from->dir, "config.json", e) ? "" : path;
}

/* Where a configuration is from, in the order of what counts more: the family that was named, config.json, the file's
 * own keys and shapes. `path` becomes what sentences call it. */
enum config_from { FROM_FAMILY, FROM_FILE, FROM_SHAPES };
static enum config_from config_of(const sd_origin *from, char path[PATH_BYTES], sd_error *e)
{
    if (from->family) return snprintf(path, PATH_BYTES, "%s", from->family->name), FROM_FAMILY;
    if (*from->dir) return config_path(path, from, e), FROM_FILE;
    snprintf(path, PATH_BYTES, "%s", from->source->path);
    return FROM_SHAPES;
}

/* Shapes do not say how many heads and groups there are: a family does. */
static sd_status check_shapes(const sd_origin *from, const char *what, sd_error *e)
{
    if (e->status || from->network->has_config) return e->status;
    return sd_fail(e, SD_ERR_UNSUPPORTED,
                   "%s: the shapes of %s are those of no family that is known, and they do not say how many heads and "
                   "groups it has: give --config, a directory with its configurations", from->source->path, what);
}

static void *read_text(const sd_origin *from, int index, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES];
    sd_clip *net = new_network(sizeof *net, e);
    (void)log;
    if (!net) return net;
    switch (config_of(from, path, e)) {
    case FROM_FAMILY:
        if (index < from->family->n_clip) net->cfg = from->family->clip[index];
        else sd_fail(e, SD_ERR_ARG, "the family %s has no text encoder %d", path, index + 1);
        break;
    case FROM_FILE: sd_clip_config_read(&net->cfg, path, e); break;
    case FROM_SHAPES:
        net->cfg = from->network->clip;
        check_shapes(from, "the text encoder", e);
        break;
    }
    if (!e->status && net->cfg.positions < SD_TOKENS)
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

static void *read_unet(const sd_origin *from, int index, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES];
    sd_unet_config cfg = {0};
    sd_unet_net *net = new_network(sizeof *net, e);
    (void)index;
    if (!net) return net;
    switch (config_of(from, path, e)) {
    case FROM_FAMILY: cfg = from->family->unet; break;
    case FROM_FILE: sd_unet_config_read(&cfg, path, e); break;
    case FROM_SHAPES:
        cfg = from->network->unet;
        check_shapes(from, "the UNet", e);
        break;
    }
    log_notes(log, cfg.notes);
    if (!e->status) sd_unet_walk(net, &cfg, e);
    return net;
}

static sd_status bind_unet(void *net, sd_binder *b) { return sd_unet_bind(net, b); }

static void free_unet(void *net)
{
    sd_unet_free(net);
    free(net);
}

static sd_status vae_config(const sd_origin *from, sd_vae_config *cfg, const sd_log *log, sd_error *e)
{
    char path[PATH_BYTES];
    *cfg = (sd_vae_config){0};
    switch (config_of(from, path, e)) {
    case FROM_FAMILY: *cfg = from->family->vae; break;
    case FROM_FILE: sd_vae_config_read(cfg, path, e); break;
    case FROM_SHAPES:
        *cfg = from->network->vae;
        check_shapes(from, "the VAE", e);
        break;
    }
    log_notes(log, cfg->notes);
    return e->status;
}

static void *read_vae(const sd_origin *from, int index, const sd_log *log, sd_error *e)
{
    sd_vae_config cfg;
    sd_vae *net = new_network(sizeof *net, e);
    (void)index;
    if (net && !vae_config(from, &cfg, log, e)) sd_vae_walk(net, &cfg, e);
    return net;
}

/* Decoder (index 0) and encoder are modules of their own: they may be in two files, or one of them in none. */
static void *read_taesd(const sd_origin *from, int index, const sd_log *log, sd_error *e)
{
    sd_vae_config cfg;
    sd_vae *net = new_network(sizeof *net, e);
    if (!net || vae_config(from, &cfg, log, e)) return net;
    *(index ? &cfg.tiny_decoder : &cfg.tiny_encoder) = (sd_tiny_way){0};
    sd_vae_walk(net, &cfg, e);
    return net;
}

static sd_status bind_vae(void *net, sd_binder *b) { return sd_vae_bind(net, b); }

static void free_vae(void *net)
{
    sd_vae_free(net);
    free(net);
}

enum { TOKENIZER, TEXT, UNET, VAE, TAESD };
static const sd_module_kind kinds[] = {
    [TOKENIZER] = {SD_PART_TOKENIZER, "the tokenizer", read_tokenizer, NULL, free_tokenizer},
    [TEXT] = {SD_PART_TEXT, "the text encoder", read_text, bind_text, free_text},
    [UNET] = {SD_PART_UNET, "the UNet", read_unet, bind_unet, free_unet},
    [VAE] = {SD_PART_VAE, "the VAE", read_vae, bind_vae, free_vae},
    [TAESD] = {SD_PART_TAESD, "the TAESD", read_taesd, bind_vae, free_vae},
};

/* They are opened in this order. */
#define GIVEN(option) offsetof(sd_options, option)
#define WEIGHTS .stem = "diffusion_pytorch_model"
#define TEXT_WEIGHTS .stem = "model", .strip = "text_model."
const sd_module_place sd_module_places[] = {
    {&kinds[TOKENIZER], 0, .name = "tokenizer", .or_name = "tokenizer_2", .given = GIVEN(tokenizer),
     .option = "--tokenizer"},
    {&kinds[TEXT], 0, .name = "text_encoder", TEXT_WEIGHTS, .or_name = "text_encoder_2", .given = GIVEN(text_encoder),
     .option = "--text-encoder"},
    {&kinds[TOKENIZER], 1, .name = "tokenizer_2", .optional = true, .given = GIVEN(tokenizer),
     .option = "--tokenizer"},
    {&kinds[TEXT], 1, .name = "text_encoder_2", TEXT_WEIGHTS, .optional = true, .given = GIVEN(text_encoder_2),
     .option = "--text-encoder-2"},
    {&kinds[UNET], 0, .name = "unet", WEIGHTS, .given = GIVEN(unet), .option = "--unet"},
    {&kinds[TAESD], 0, .name = "taesd_decoder", WEIGHTS, .given = GIVEN(taesd), .option = "--taesd",
     .beside = true},
    {&kinds[TAESD], 1, .name = "taesd_encoder", WEIGHTS, .optional = true, .given = GIVEN(taesd), .option = "--taesd",
     .beside = true},
    {&kinds[VAE], 0, .name = "vae", WEIGHTS, .given = GIVEN(vae), .option = "--vae"},
};
const size_t sd_module_place_count = SD_COUNT(sd_module_places);

/* ----------------------------------------------------------------------------------- modules and files */

sd_module *sd_model_module(const sd_model *m, unsigned part, int i)
{
    for (int k = 0; k < m->n; k++)
        if (m->module[k]->kind->part == part && i-- == 0) return m->module[k];
    return NULL;
}

sd_module *sd_model_module_of(const sd_model *m, const void *net)
{
    for (int k = 0; k < m->n; k++)
        if (m->module[k]->net == net) return m->module[k];
    return NULL;
}

sd_source *sd_model_source(sd_model *m, const char *path, const char *stem, sd_error *e)
{
    for (int i = 0; i < m->n_sources; i++)
        if (strcmp(m->source[i]->path, path) == 0) return m->source[i];
    sd_source **more = realloc(m->source, (size_t)(m->n_sources + 1) * sizeof *more);
    sd_source *s = more ? calloc(1, sizeof *s) : NULL;
    if (more) m->source = more;
    if (!s || !(s->path = sd_strdup(path))) {
        free(s);
        sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
        return NULL;
    }
    m->source[m->n_sources++] = s;
    bool in_memory = m->residency == SD_RESIDENCY_RAM && (m->parts & (SD_PART_TEXT | SD_PART_UNET | SD_PART_VAE));
    if (stem) (in_memory ? sd_store_load_dir : sd_store_open_dir)(&s->store, path, stem, e);
    else if (!(in_memory ? sd_store_load_file : sd_store_open_file)(&s->store, path, e)) sd_source_recognise(s, e);
    return e->status ? NULL : s;
}

sd_status sd_source_recognise(sd_source *s, sd_error *e)
{
    if (!s->recognised) sd_recognise(&s->store, &s->what, e);
    s->recognised = true;
    return e->status;
}

sd_status sd_model_need(const sd_model *m, unsigned parts, sd_error *e)
{
    for (size_t i = 0; i < SD_COUNT(kinds); i++)
        if (parts & ~m->parts & kinds[i].part) return sd_fail(e, SD_ERR_ARG, "%s was not opened", kinds[i].title);
    return SD_OK;
}
