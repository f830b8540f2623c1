/* model_layouts.c - floor 6: where the parts of a model are: in a file, in a directory as diffusers saves it, in the
 * cache of Hugging Face, or in files and directories of their own. */
#include "json.h"
#include "model.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, MOST_JSON = 1 << 20 };

/* -------------------------------------------------------------------------------- what a path is */

/* Is there a/b? A path that is too long is none. */
static bool exists(char path[PATH_BYTES], const char *a, const char *b)
{
    sd_error too_long = {.status = SD_OK};
    return !sd_path_join(path, PATH_BYTES, a, b, &too_long) && !sd_is_absent(path);
}

static bool is_subdir(const char *dir, const char *name)
{
    char path[PATH_BYTES];
    return exists(path, dir, name) && sd_is_dir(path);
}

/* What was found in a directory: how many files of weights, how many indexes of shards, and some of their names. */
typedef struct listing {
    enum { ANYTHING, WEIGHTS } wanted;
    int n, indexes;
    char name[256], index[256];   /* the last one; the last index of shards */
    char some[200];               /* the first ones, with commas between them */
} listing;

static void see(void *user, const char *name)
{
    static const char *const endings[] = {".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"};
    listing *l = user;
    size_t used = strlen(l->some);
    bool fits = l->wanted == ANYTHING;
    if (strlen(name) >= sizeof l->name) return;
    if (l->wanted == WEIGHTS && sd_has_ending(name, ".index.json")) {
        l->indexes++;
        snprintf(l->index, sizeof l->index, "%s", name);
    }
    for (size_t i = 0; i < SD_COUNT(endings) && !fits; i++) fits = sd_has_ending(name, endings[i]);
    if (!fits || *name == '.') return;
    l->n++;
    snprintf(l->name, sizeof l->name, "%s", name);
    if (used + strlen(name) + 3 < sizeof l->some)
        snprintf(l->some + used, sizeof l->some - used, "%s%s", used ? ", " : "", name);
}

/* Hugging Face's cache keeps a repository as refs/main, which names a directory below snapshots. */
static sd_status leave_cache(char path[PATH_BYTES], const sd_log *log, sd_error *e)
{
    char dir[PATH_BYTES], ref[PATH_BYTES], *text = NULL;
    size_t n;
    listing l = {ANYTHING, 0, 0, "", "", ""};
    if (!is_subdir(path, "snapshots") || !(is_subdir(path, "refs") || is_subdir(path, "blobs"))) return SD_OK;
    if (sd_path_join(dir, sizeof dir, path, "snapshots", e)) return e->status;
    if (exists(ref, path, "refs/main")) {
        if (sd_read_file(ref, 200, &text, &n, e)) return e->status;
        text[strcspn(text, "\r\n \t")] = 0;
        bool plain = *text && strspn(text, "0123456789abcdefABCDEF") == strlen(text);
        if (plain) snprintf(l.name, sizeof l.name, "%s", text);
        free(text);
        if (!plain) return sd_fail(e, SD_ERR_FORMAT, "%s must be the name of a snapshot, hexadecimal digits", ref);
    } else if (!sd_os_list(dir, see, &l) || l.n != 1) {
        return sd_fail(e, SD_ERR_MISSING, "%s has no refs/main: give one of its snapshots (%s)", path, l.some);
    }
    if (sd_path_join(ref, sizeof ref, dir, l.name, e)) return e->status;
    if (!sd_find_dir(ref, e))
        return e->status ? e->status : sd_fail(e, SD_ERR_MISSING, "there is no snapshot %s: it was not loaded", ref);
    sd_logf(log, SD_LOG_DETAIL, "%s is a repository in Hugging Face's cache: its snapshot is %s", path, ref);
    memcpy(path, ref, sizeof ref);
    return SD_OK;
}

static bool is_model_dir(const char *dir)
{
    char path[PATH_BYTES];
    if (exists(path, dir, "model_index.json") || is_subdir(dir, "scheduler")) return true;
    for (size_t i = 0; i < sd_module_place_count; i++)
        if (!sd_module_places[i].beside && is_subdir(dir, sd_module_places[i].name)) return true;
    return false;
}

static bool is_part_dir(const char *dir)
{
    static const char *const files[] = {"config.json", "merges.txt", "tokenizer.json"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < SD_COUNT(files); i++)
        if (exists(path, dir, files[i])) return true;
    return false;
}

/* Has the model another part in the place of this one? SDXL's refiner has only the second text encoder. */
static bool has_other(const char *dir, const sd_module_place *place)
{
    return place->or_name && !is_subdir(dir, place->name) && is_subdir(dir, place->or_name);
}

/* A directory that is not a model's may hold a single file that is one. */
static sd_status only_file(char path[PATH_BYTES], sd_path_kind *kind, const sd_log *log, sd_error *e)
{
    char file[PATH_BYTES];
    listing l = {WEIGHTS, 0, 0, "", "", ""};
    *kind = SD_PATH_MODEL;   /* where what is missing is said by name */
    if (!sd_os_list(path, see, &l)) return SD_OK;
    if (l.n == 0 && l.indexes == 0)
        return sd_fail(e, SD_ERR_MISSING, "%s has nothing of a model: neither its directories (unet, vae, ...) nor a "
                       "file of weights", path);
    if (l.n > 1 && l.indexes != 1)
        return sd_fail(e, SD_ERR_ARG, "%s is not a model's directory, and has %d files of weights: give one of them "
                       "(%s%s)", path, l.n, l.some, strlen(l.some) + 40 > sizeof l.some ? ", ..." : "");
    const char *name = l.indexes == 1 && l.n != 1 ? l.index : l.name;
    if (sd_path_join(file, sizeof file, path, name, e)) return e->status;
    sd_logf(log, SD_LOG_NOTICE, "%s has one file of weights, which is taken: %s", path, name);
    memcpy(path, file, sizeof file);
    *kind = SD_PATH_FILE;
    return SD_OK;
}

/* One of several shards means all of them: X-00001-of-00002.safetensors, X.safetensors.index.json. */
static void leave_shard(char path[PATH_BYTES], const sd_log *log)
{
    char index[PATH_BYTES + 16];
    const char *of = strstr(path, "-of-"), *dot = strrchr(path, '.');
    if (!of || !dot || of - path < 6 || of[-6] != '-' || dot - of != 9 || strspn(of - 5, "0123456789") != 5
        || strspn(of + 4, "0123456789") != 5)
        return;
    snprintf(index, sizeof index, "%.*s%s.index.json", (int)(of - 6 - path), path, dot);
    if (sd_is_absent(index) || strlen(index) >= PATH_BYTES) return;
    sd_logf(log, SD_LOG_NOTICE, "%s is one of several shards: all of them are opened, by %s", path, index);
    strcpy(path, index);
}

sd_status sd_path_resolve(char out[PATH_BYTES], sd_path_kind *kind, const char *path, const sd_log *log, sd_error *e)
{
    if (strlen(path) >= PATH_BYTES)
        return sd_fail(e, SD_ERR_ARG, "the model's path is longer than %d bytes", PATH_BYTES - 1);
    strcpy(out, path);
    bool found = sd_find_dir(path, e);
    *kind = SD_PATH_FILE;
    if (e->status) return e->status;
    if (!found && sd_is_file(path)) return leave_shard(out, log), SD_OK;
    if (!found && sd_is_stream(path))
        return sd_fail(e, SD_ERR_ARG, "%s is a pipe or a device: a model is a file or a directory", path);
    if (!found) return sd_fail(e, SD_ERR_MISSING, "no model directory %s, and no file of that name", path);
    if (leave_cache(out, log, e)) return e->status;
    *kind = SD_PATH_MODEL;
    if (is_model_dir(out)) return SD_OK;
    *kind = SD_PATH_PART;
    return is_part_dir(out) ? SD_OK : only_file(out, kind, log, e);
}

/* ------------------------------------------------------------------------------ files that are no model */

static const char *what_it_is(const sd_recognised *r)
{
    static const char *const kinds[] = {
        [SD_FILE_UNKNOWN] = "none of its tensors is known",
        [SD_FILE_LORA] = "it changes the weights of a model, and is none: merge it into one first",
        [SD_FILE_EMBEDDING] = "it is a word for prompts, and no model; embeddings are not supported yet",
        [SD_FILE_HYPERNETWORK] = "it changes a model's attention, and is none; hypernetworks are not supported",
        [SD_FILE_CONTROLNET] = "it steers a model by a picture, and is none; that is not supported yet",
        [SD_FILE_IP_ADAPTER] = "it steers a model by a picture, and is none; that is not supported yet",
        [SD_FILE_TAESD] = "it stands for the VAE of a model, and is none: give it with --taesd",
        [SD_FILE_UPSCALER] = "it enlarges pictures, and is no model of Stable Diffusion; it is not supported",
        [SD_FILE_OTHER] = "it is no model of Stable Diffusion, and not supported"};
    if (r->refusal) return r->refusal;
    return (size_t)r->kind < SD_COUNT(kinds) ? kinds[r->kind] : NULL;
}

/* An error if no network of the file can be used, which says what the file is instead. */
static sd_status refuse(const sd_source *s, sd_error *e)
{
    const char *why = what_it_is(&s->what);
    if (s->what.n_networks && !s->what.refusal) return SD_OK;
    if (s->what.kind == SD_FILE_UNKNOWN && s->what.n_leftover)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is no model: nobody knows its tensors (%.80s%s)", s->path,
                       s->what.leftover[0], s->what.n_leftover > 1 ? ", ..." : "");
    return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is %s %s: %s", s->path,
                   sd_article(s->what.kind_name), s->what.kind_name, why ? why : "not supported");
}

static const char *given(const sd_model_request *q, const sd_module_place *place)
{
    return *(const char *const *)(const void *)((const char *)q->options + place->given);
}

static sd_source *open_file(sd_model *m, const char *path, sd_error *e)
{
    sd_source *s = sd_model_source(m, path, NULL, e);
    return s && !refuse(s, e) ? s : NULL;
}

/* What a model's file lacks, all in one sentence. */
static sd_status lacks(const sd_model *m, const sd_model_request *q, sd_error *e)
{
    char what[200] = "", options[200] = "";
    const sd_source *s = m->main;
    for (size_t i = 0, n = 0; i < sd_module_place_count; i++) {
        const sd_module_place *p = &sd_module_places[i];
        if (!(m->parts & p->kind->part) || p->optional || p->beside || !p->stem || given(q, p)
            || (s ? sd_recognised_network(&s->what, p->kind->part, p->index) != NULL : m->only == p->kind->part))
            continue;
        size_t at = strlen(what), to = strlen(options);
        snprintf(what + at, sizeof what - at, "%s%s", n ? ", " : "", p->kind->title);
        snprintf(options + to, sizeof options - to, "%s%s", n++ ? ", " : "", p->option);
    }
    const char *kind = s ? s->what.kind_name : "directory of one part";
    return sd_fail(e, SD_ERR_MISSING, "%s is %s %s: it lacks %s, to be given with %s", m->at,
                   sd_article(kind), kind, what, options);
}

/* --------------------------------------------------------------------------------------- origins */

/* The directory that a file is in. */
static void parent(char dir[PATH_BYTES], const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(dir, PATH_BYTES, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    else strcpy(dir, ".");
}

/* The part whose class a config.json names; 0: of none. */
static unsigned part_of_config(const char *dir)
{
    static const struct { const char *name; unsigned part; } classes[] = {
        {"UNet2DConditionModel", SD_PART_UNET}, {"AutoencoderKL", SD_PART_VAE}, {"AutoencoderTiny", SD_PART_VAE},
        {"CLIPTextModel", SD_PART_TEXT},
        {"CLIPTextModelWithProjection", SD_PART_TEXT}, {"CLIPModel", SD_PART_TEXT}};
    char path[PATH_BYTES];
    sd_error unread = {.status = SD_OK};
    if (!exists(path, dir, "config.json")) return 0;
    sd_json *root = sd_json_read(path, MOST_JSON, &unread);
    const char *name = sd_json_text(sd_json_get(root, "_class_name"));
    if (!name) name = sd_json_text(sd_json_item(sd_json_get(root, "architectures"), 0));
    unsigned part = 0;
    for (size_t i = 0; i < SD_COUNT(classes) && name; i++)
        if (strcmp(classes[i].name, name) == 0) part = classes[i].part;
    sd_json_free(root);
    return part;
}

bool sd_config_beside(char path[PATH_BYTES], const char *file, unsigned part)
{
    char dir[PATH_BYTES];
    parent(dir, file);
    return part_of_config(dir) == part && exists(path, dir, "config.json");
}

/* The configuration that --config names counts more than a file's. */
static void use_config(const sd_model *m, const sd_module_place *place, sd_origin *out)
{
    char dir[PATH_BYTES], path[PATH_BYTES];
    out->family = m->config_family;
    if (m->config_dir && exists(dir, m->config_dir, place->name) && exists(path, dir, "config.json"))
        memcpy(out->dir, dir, sizeof dir);
}

/* A part that replaces one of a directory: what its shapes leave open is as that directory has it. */
static void use_replaced_config(const sd_model *m, const sd_module_place *place, sd_origin *out)
{
    char dir[PATH_BYTES], path[PATH_BYTES];
    if (out->network->has_config || out->family || *out->dir || m->kind != SD_PATH_MODEL) return;
    if (exists(dir, m->at, place->name) && exists(path, dir, "config.json")) memcpy(out->dir, dir, sizeof dir);
}

/* Which of a file's text encoders a place has. The only one of SDXL's refiner is what other models have as their
 * second; diffusers calls it text_encoder_2. -1: none. */
static int index_in(const sd_source *s, const sd_module_place *place)
{
    const sd_network *unet = sd_recognised_network(&s->what, SD_PART_UNET, 0);
    bool refiner = unet && unet->unet.add_in_dim && !sd_recognised_network(&s->what, SD_PART_TEXT, 1);
    return refiner && place->kind->part == SD_PART_TEXT ? place->index - 1 : place->index;
}

static sd_status from_file(sd_model *m, const sd_module_place *place, const sd_model_request *q, const char *path,
                           sd_origin *out, bool *found, sd_error *e)
{
    unsigned part = place->kind->part;
    sd_source *s = open_file(m, path, e);
    if (!s) return e->status;
    out->source = s;
    int index = index_in(s, place);
    if (index < 0 && !given(q, place) && sd_recognised_network(&s->what, part, 0)) return SD_OK;
    out->network = index < 0 ? NULL : sd_recognised_network(&s->what, part, index);
    if (!out->network && given(q, place)) out->network = sd_recognised_network(&s->what, part, 0);
    if (!out->network && given(q, place))
        return sd_fail(e, SD_ERR_MISSING, "%s has not %s: it is %s %s", path, place->kind->title,
                       sd_article(s->what.kind_name), s->what.kind_name);
    if (!out->network) return place->optional ? SD_OK : lacks(m, q, e);
    *found = true;
    if (s->what.n_networks == 1) {   /* as people keep a part's file and its config.json together */
        parent(out->dir, path);
        if (part_of_config(out->dir) != part) *out->dir = 0;
    }
    use_config(m, place, out);
    if (given(q, place)) use_replaced_config(m, place, out);
    return SD_OK;
}

static sd_status from_dir(sd_model *m, const sd_module_place *place, const char *dir, sd_origin *out, bool *found,
                          sd_error *e)
{
    char path[PATH_BYTES];
    *found = true;
    if (strlen(dir) >= PATH_BYTES) return sd_fail(e, SD_ERR_ARG, "the path is too long: %.100s...", dir);
    strcpy(out->weights, dir);
    strcpy(out->dir, dir);
    use_config(m, place, out);
    if (exists(path, out->dir, "config.json") || out->family || !sd_store_is_in(dir, place->stem)) return SD_OK;
    out->source = sd_model_source(m, dir, place->stem, e);   /* weights alone: their shapes have to say the rest */
    if (!out->source || sd_source_recognise(out->source, e) || refuse(out->source, e)) return e->status;
    out->network = sd_recognised_network(&out->source->what, place->kind->part, 0);
    *out->dir = 0;
    const char *kind = out->source->what.kind_name;
    return out->network ? SD_OK : sd_fail(e, SD_ERR_MISSING, "%s has not %s: it is %s %s", dir, place->kind->title,
                                          sd_article(kind), kind);
}

/* ------------------------------------------------------------------------------------- tokenizers */

static bool says_padding(const char *dir)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < SD_COUNT(files); i++)
        if (exists(path, dir, files[i])) return true;
    return false;
}

/* CLIP's padding is the end token or "!", ids 49407 and 0 of its vocabulary. A file may say it in its header. */
static const char *padding(const sd_model *m, int index)
{
    const int *pad = m->main && !m->config_family ? m->main->what.pad : m->family ? m->family->pad : NULL;
    return pad && pad[index] == 0 ? "!" : "<|endoftext|>";
}

static sd_status given_tokenizer(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_origin *out,
                                 sd_error *e)
{
    char path[PATH_BYTES];
    sd_path_kind kind;
    if (sd_path_resolve(path, &kind, given(q, place), q->log, e)) return e->status;
    if (kind == SD_PATH_FILE) parent(out->dir, path);
    else if (kind == SD_PATH_PART) memcpy(out->dir, path, sizeof path);
    else if (sd_path_join(out->dir, sizeof out->dir, path, place->name, e)) return e->status;
    if (!says_padding(out->dir)) out->pad = padding(m, place->index);
    return SD_OK;
}

static sd_status find_tokenizer(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_origin *out,
                                bool *found, sd_error *e)
{
    const char *const owners[] = {m->config_dir, m->kind == SD_PATH_MODEL ? m->at : NULL};
    bool second = place->index > 0;
    *found = !second || (m->family && m->family->n_clip > 1) ||
             (m->main && sd_recognised_network(&m->main->what, SD_PART_TEXT, 1));
    if (given(q, place)) return *found ? given_tokenizer(m, place, q, out, e) : SD_OK;
    for (size_t i = 0; i < SD_COUNT(owners); i++)
        if (owners[i] && exists(out->dir, owners[i], place->name)) return *found = true, SD_OK;
    if (m->kind == SD_PATH_MODEL && (second || has_other(m->at, place))) *found = false;   /* it has what it needs */
    if (!*found) return SD_OK;
    if (!q->merges)
        return sd_fail(e, SD_ERR_MISSING, "%s has no tokenizer, and CLIP's merges are not installed: give a directory "
                       "that has merges.txt with --tokenizer", m->at);
    snprintf(out->dir, sizeof out->dir, "%s", q->merges);
    out->pad = padding(m, place->index);
    return SD_OK;
}

/* --------------------------------------------------------------------------------------- interface */

sd_status sd_model_find_layout(sd_model *m, const sd_model_request *q, sd_error *e)
{
    m->path = sd_strdup(q->path);
    m->at = malloc(PATH_BYTES);
    if (!m->path || !m->at) return sd_fail(e, SD_ERR_MEMORY, "no memory for a path");
    if (sd_path_resolve(m->at, &m->kind, q->path, q->log, e)) return e->status;
    m->layout = m->kind == SD_PATH_MODEL ? "diffusers directory" : "directory of one part";
    if (m->kind == SD_PATH_PART) m->only = part_of_config(m->at);
    if (m->kind != SD_PATH_FILE) return SD_OK;
    m->main = open_file(m, m->at, e);
    if (!m->main) return e->status;
    const char *naming = m->main->what.layout ? m->main->what.layout : "unknown";
    m->layout = strcmp(naming, "LDM") == 0 ? "LDM file" : strcmp(naming, "diffusers") == 0 ? "diffusers file"
              : "file of mixed names";
    return SD_OK;
}

sd_status sd_origin_find(sd_model *m, const sd_module_place *place, const sd_model_request *q, sd_origin *out,
                         bool *found, sd_error *e)
{
    char path[PATH_BYTES], dir[PATH_BYTES];
    sd_path_kind kind = m->kind;
    bool replaced = given(q, place) != NULL;
    *found = false;
    if (!place->stem) return find_tokenizer(m, place, q, out, found, e);
    if (replaced) {
        if (sd_path_resolve(path, &kind, given(q, place), q->log, e)) return e->status;
    } else {
        memcpy(path, m->at, sizeof path);
    }
    if (kind == SD_PATH_FILE) return from_file(m, place, q, path, out, found, e);
    if (kind == SD_PATH_PART && (replaced || (m->only == place->kind->part && place->index == 0)))
        return from_dir(m, place, path, out, found, e);
    if (kind == SD_PATH_PART) return place->optional ? SD_OK : lacks(m, q, e);
    if (sd_path_join(dir, sizeof dir, path, place->name, e)) return e->status;
    if (!replaced && ((place->optional && sd_is_absent(dir)) || has_other(path, place))) return SD_OK;
    return from_dir(m, place, dir, out, found, e);
}
