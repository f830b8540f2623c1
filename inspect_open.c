/* inspect_open.c - floor 6: what `sd inspect` looks at: opens a file or a directory, recognises what is in it, and
 * compares each network with what such a network needs, by binding it. Reads headers alone. */
#include "inspect.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------- what is opened */

/* The parts of a diffusers directory that hold weights, the one that says most first. */
static const struct { const char *dir, *stem; } components[] = {
    {"unet", "diffusion_pytorch_model"}, {"vae", "diffusion_pytorch_model"}, {"text_encoder", "model"},
    {"text_encoder_2", "model"}, {"controlnet", "diffusion_pytorch_model"}, {"image_encoder", "model"},
    {"safety_checker", "model"},
};

/* The names of weights in a component's own directory. */
static const char *const stems[] = {"diffusion_pytorch_model", "model"};

static sd_seen_part *new_part(sd_seen *s, const char *name)
{
    sd_seen_part *p = &s->part[s->n_parts++];
    p->name = name;
    return p;
}

static sd_status find_config(sd_seen_part *p, const char *dir, sd_error *e)
{
    if (sd_path_join(p->config, sizeof p->config, dir, "config.json", e)) return e->status;
    if (!sd_is_file(p->config)) p->config[0] = 0;
    return SD_OK;
}

/* Opens a directory that is one component: the first of the names of weights that is there. */
static sd_status open_component(sd_seen *s, const char *path, sd_error *e)
{
    sd_seen_part *p = new_part(s, "");
    for (size_t i = 0; i < SD_COUNT(stems); i++) {
        sd_error why = {.halt = e->halt};
        if (!sd_store_open_dir(&p->store, path, stems[i], &why)) return find_config(p, path, e);
        if (why.status != SD_ERR_MISSING) return sd_fail(e, why.status, "%s", why.text);
    }
    return sd_fail(e, SD_ERR_MISSING, "%s has none of the parts of a model in diffusers layout (unet, vae, "
                   "text_encoder, ...) and no weights of its own (diffusion_pytorch_model, model)", path);
}

static void read_scheduler(sd_seen *s, sd_error *e)
{
    char path[4096];
    sd_error own = {.halt = e->halt};
    if (sd_path_join(path, sizeof path, s->at, "scheduler/scheduler_config.json", &own) || !sd_is_file(path)) return;
    sd_json *root = sd_json_read(path, 1 << 20, &own);
    const char *name = sd_json_text(sd_json_get(root, "_class_name"));
    const char *prediction = sd_json_text(sd_json_get(root, "prediction_type"));
    snprintf(s->scheduler, sizeof s->scheduler, "%.63s", name ? name : root ? "without a class" : "not readable");
    if (root) snprintf(s->prediction, sizeof s->prediction, "%.31s", prediction ? prediction : "epsilon");
    sd_json_free(root);
}

static sd_status open_directory(sd_seen *s, sd_error *e)
{
    char dir[4096];
    s->directory = true;
    for (size_t i = 0; i < SD_COUNT(components) && e->status == SD_OK; i++) {
        if (sd_path_join(dir, sizeof dir, s->at, components[i].dir, e) || !sd_is_dir(dir)) continue;
        sd_seen_part *p = new_part(s, components[i].dir);
        if (!sd_store_open_dir(&p->store, dir, components[i].stem, e)) find_config(p, dir, e);
    }
    if (e->status == SD_OK && s->n_parts == 0) return open_component(s, s->at, e);
    if (!sd_path_join(dir, sizeof dir, s->at, "tokenizer", e)) s->tokenizer = sd_is_dir(dir);
    read_scheduler(s, e);
    return e->status;
}

/* Finds what a path leads to as drawing does: through Hugging Face's cache, and to the only file of weights in a
 * directory. */
static sd_status open_path(sd_seen *s, sd_error *e)
{
    static const sd_log quiet;
    sd_path_kind kind;
    if (strlen(s->path) < sizeof s->at && sd_is_absent(s->path))
        return sd_fail(e, SD_ERR_MISSING, "there is no file or directory %s", s->path);
    if (sd_path_resolve(s->at, &kind, s->path, &quiet, e)) return e->status;
    if (kind != SD_PATH_FILE) return open_directory(s, e);
    sd_seen_part *p = new_part(s, "");
    return sd_store_open_file(&p->store, s->at, e);
}

/* ---------------------------------------------------------------------------------- networks, bound */

static void name_network(sd_seen_network *w)
{
    static const struct { unsigned part; const char *key[2], *title[2]; } names[] = {
        {SD_PART_UNET, {"unet", "unet_2"}, {"UNet", "UNet 2"}},
        {SD_PART_VAE, {"vae", "vae_2"}, {"VAE", "VAE 2"}},
        {SD_PART_TEXT, {"text_encoder", "text_encoder_2"}, {"text encoder", "text encoder 2"}},
    };
    for (size_t i = 0; i < SD_COUNT(names); i++)
        if (names[i].part == w->is->part) {
            w->key = names[i].key[w->is->index == 1];
            w->title = names[i].title[w->is->index == 1];
        }
}

static sd_status no_network(sd_seen_network *w)
{
    return sd_fail(&w->err, SD_ERR_SHAPE, "the shapes of its tensors make no %s", w->title);
}

/* A component's config.json says how the network is built; else what was recognised does. */
static sd_status bind_unet(sd_seen_network *w)
{
    sd_unet_config c = w->is->unet;
    if (w->config && sd_unet_config_read(&c, w->config, &w->err)) return w->err.status;
    if (c.levels < 1) return no_network(w);
    if (sd_unet_walk(&w->net.unet, &c, &w->err)) return w->err.status;
    return sd_unet_bind(&w->net.unet, &w->binder);
}

static sd_status bind_vae(sd_seen_network *w)
{
    sd_vae_config c = w->is->vae;
    if (w->config && sd_vae_config_read(&c, w->config, &w->err)) return w->err.status;
    if (c.levels < 1) return no_network(w);
    if (sd_vae_walk(&w->net.vae, &c, &w->err)) return w->err.status;
    return sd_vae_bind(&w->net.vae, &w->binder);
}

static sd_status bind_text(sd_seen_network *w)
{
    sd_clip_config c = w->is->clip;
    if (w->config && sd_clip_config_read(&c, w->config, &w->err)) return w->err.status;
    if (c.layers < 1 || c.width < 1) return no_network(w);
    return sd_clip_bind(&w->net.clip, &c, &w->binder);
}

static void bind_network(sd_seen *s, sd_seen_part *p, sd_seen_network *w, bool copies, sd_error *e)
{
    bool unet = w->is->part == SD_PART_UNET, text = w->is->part == SD_PART_TEXT;
    name_network(w);
    w->err.halt = e->halt;
    if (!s->directory && p->is.n_networks == 1 && !sd_config_beside(p->config, s->at, w->is->part)) *p->config = 0;
    w->config = *p->config && p->is.n_networks == 1 ? p->config : NULL;
    w->binder = (sd_binder){.store = &p->store, .root = w->is->root && *w->is->root ? w->is->root : NULL,
                            .strip = text ? "text_model." : NULL, .err = &w->err, .look = !copies};
    if (unet ? bind_unet(w) : text ? bind_text(w) : bind_vae(w))
        snprintf(w->unchecked, sizeof w->unchecked, "%.255s", w->err.text);
    if (w->err.status == SD_ERR_MEMORY) sd_fail(e, SD_ERR_MEMORY, "%s", w->err.text);
    if (*w->unchecked) return;
    s->missing += w->binder.missing;
    s->wrong += w->binder.wrong;
}

static bool is_skipped(const sd_seen_part *p, const char *name)
{
    bool skipped = sd_skip_find(name) != NULL;
    for (int i = 0; i < p->is.n_networks && !skipped; i++) {   /* rules have names without the root of their network */
        size_t n = strlen(p->is.network[i].root);
        skipped = n && strncmp(name, p->is.network[i].root, n) == 0 && sd_skip_find(name + n);
    }
    return skipped;
}

/* Finds the tensors that no network took and that no rule passes over. If some network could not be bound, these are
 * only the tensors that recognising found no place for. */
static sd_status find_extra(sd_seen *s, sd_seen_part *p, sd_error *e)
{
    size_t n = sd_store_count(&p->store);
    bool all = p->is.n_networks > 0;
    p->extra = calloc(n ? n : 1, sizeof *p->extra);
    if (!p->extra) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of %zu tensors", n);
    for (int i = 0; i < p->is.n_networks; i++) all = all && !*p->network[i].unchecked;
    for (size_t i = 0; i < n; i++) {
        const sd_entry *t = sd_store_at(&p->store, i);
        p->extra[i] = all && !t->used && !is_skipped(p, t->name);
        for (size_t k = 0; k < p->is.n_leftover && !p->extra[i]; k++)
            p->extra[i] = !t->used && strcmp(t->name, p->is.leftover[k]) == 0;
        s->extra += p->extra[i];
    }
    return SD_OK;
}

static sd_status see_part(sd_seen *s, sd_seen_part *p, bool copies, sd_error *e)
{
    if (sd_recognise(&p->store, &p->is, e)) return e->status;
    p->network = calloc((size_t)p->is.n_networks + 1, sizeof *p->network);
    if (!p->network) return sd_fail(e, SD_ERR_MEMORY, "no memory for the networks of %s", s->path);
    for (int i = 0; i < p->is.n_networks; i++) {
        p->network[i].is = &p->is.network[i];
        bind_network(s, p, &p->network[i], copies, e);
    }
    return e->status ? e->status : find_extra(s, p, e);
}

/* Is this reason about skipped tensors? Then it is left out, for the list of what is passed over says the same. */
static bool is_about_skipped(const char *line, size_t n)
{
    static const char *const parts[] = {" tensor skipped: ", " tensors skipped: ", " are averages of "};
    for (size_t i = 0; i < SD_COUNT(parts); i++)
        for (size_t at = 0, m = strlen(parts[i]); at + m <= n; at++)
            if (memcmp(line + at, parts[i], m) == 0) return true;
    return false;
}

/* Reasons, line by line. A scheduler_config.json says what weights cannot. */
static sd_status collect_reasons(sd_seen *s, sd_error *e)
{
    static const char about[] = "prediction ";
    const char *at = s->main->why.s, *line;
    int n;
    while ((line = sd_next_line(&at, &n)) != NULL) {
        if (*s->scheduler && strncmp(line, about, sizeof about - 1) == 0) continue;
        if (is_about_skipped(line, (size_t)n)) continue;
        sd_text_add(&s->why, "%.*s\n", n, line);
    }
    if (*s->scheduler)
        sd_text_add(&s->why, "%s%s: scheduler/scheduler_config.json\n", about,
                    *s->prediction ? s->prediction : "not decided");
    return s->why.failed ? sd_fail(e, SD_ERR_MEMORY, "no memory to tell what %s is", s->path) : e->status;
}

/* The second text encoder of a directory is alone in its file, where nothing says that it is the second. */
static void number_encoders(sd_seen *s)
{
    for (int i = 0; i < s->n_parts; i++)
        if (strcmp(s->part[i].name, "text_encoder_2") == 0 && s->part[i].is.n_networks == 1) {
            s->part[i].network[0].key = "text_encoder_2";
            s->part[i].network[0].title = "text encoder 2";
        }
}

sd_status sd_seen_open(sd_seen *s, const char *path, bool copies, sd_error *e)
{
    memset(s, 0, sizeof *s);
    s->path = path;
    s->free_memory = (double)sd_memory_left();
    if (e->status || open_path(s, e)) return e->status;
    for (int i = 0; i < s->n_parts; i++)
        if (see_part(s, &s->part[i], copies, e)) return e->status;
    s->main = &s->part[0].is;
    number_encoders(s);
    if (!*s->prediction && s->main->prediction)
        snprintf(s->prediction, sizeof s->prediction, "%.31s", s->main->prediction);
    return collect_reasons(s, e);
}

static void free_network(sd_seen_network *w)
{
    if (w->is->part == SD_PART_UNET) sd_unet_free(&w->net.unet);
    else if (w->is->part == SD_PART_VAE) sd_vae_free(&w->net.vae);
    else sd_clip_free(&w->net.clip);
    sd_binder_free(&w->binder);
}

void sd_seen_close(sd_seen *s)
{
    for (int i = 0; i < s->n_parts; i++) {
        sd_seen_part *p = &s->part[i];
        for (int k = 0; p->network && k < p->is.n_networks; k++)
            if (p->network[k].is) free_network(&p->network[k]);
        free(p->network);
        free(p->values);
        free(p->hash);
        free(p->extra);
        sd_recognised_free(&p->is);
        sd_store_close(&p->store);
    }
    free(s->hashes);
    free(s->why.s);
    memset(s, 0, sizeof *s);
}

/* ---------------------------------------------------------------------------------------- its files */

size_t sd_seen_files(const sd_seen *s)
{
    size_t n = 0;
    for (int i = 0; i < s->n_parts; i++) n += s->part[i].store.n_files;
    return n;
}

const sd_weight_file *sd_seen_file(const sd_seen *s, size_t i)
{
    int p = 0;
    for (; i >= s->part[p].store.n_files; p++) i -= s->part[p].store.n_files;
    return &s->part[p].store.file[i];
}
