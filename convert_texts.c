/* convert_texts.c - floor 6: the texts beside a model's weights: its configurations, and what files say of themselves.
 *
 * A directory has them as files. A single file has them among the texts of its header, under "sd:" and the file's name,
 * so that a directory can be made of it again. What is in neither is made from what was opened. */
#include "convert.h"
#include "json.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, TEXT_MAX = 16 << 20 };
#define RECORD "__metadata__"   /* sd:unet/__metadata__: what the module's own file said of itself, as JSON */

/* ---------------------------------------------------------------------------------------- pairs */

static const char *text_of(const sd_texts *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->pair[i].key, key) == 0) return t->pair[i].value;
    return NULL;
}

static void add(sd_texts *t, const char *key, const char *value)
{
    if (text_of(t, key)) return;
    sd_pair *more = realloc(t->pair, (t->n + 1) * sizeof *more), pair = {sd_strdup(key), sd_strdup(value)};
    if (more) t->pair = more;
    if (more && pair.key && pair.value) {
        t->pair[t->n++] = pair;
        return;
    }
    free(pair.key);
    free(pair.value);
    t->failed = true;
}

void sd_texts_free(sd_texts *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->pair[i].key);
        free(t->pair[i].value);
    }
    free(t->pair);
    memset(t, 0, sizeof *t);
}

/* Keys by which GGUF describes one file, such as the types in it; they would not be true of another. */
static bool is_of_the_format(const char *key) { return strncmp(key, "general.", 8) == 0; }

/* ----------------------------------------------------------------------------------- files of a directory */

static const char *const files[] = {
    "model_index.json", "scheduler/scheduler_config.json", SD_LOW_RES,
    "tokenizer/special_tokens_map.json", "tokenizer/tokenizer_config.json", "tokenizer/added_tokens.json",
    "tokenizer/tokenizer.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
    "tokenizer_2/special_tokens_map.json", "tokenizer_2/tokenizer_config.json", "tokenizer_2/added_tokens.json",
    "tokenizer_2/tokenizer.json", "tokenizer_2/merges.txt", "tokenizer_2/vocab.json",
    "text_encoder/config.json", "text_encoder_2/config.json", "unet/config.json", "vae/config.json",
};

/* Texts that are the same in every model do not go into a single file. */
static bool is_everywhere(const char *name)
{
    return strstr(name, "merges.txt") || strstr(name, "vocab.json") || strstr(name, "/tokenizer.json");
}

static bool is_in(const char *name, const char *module)
{
    size_t n = strlen(module);
    return strncmp(name, module, n) == 0 && name[n] == '/';
}

/* The opened module, perhaps a tokenizer, in whose directory a file is; NULL: there is none. */
static const sd_module *module_of(const sd_conversion *v, const char *name)
{
    const sd_model *m = &v->c->model;
    for (int i = 0; i < m->n; i++)
        if (is_in(name, m->module[i]->place->name)) return m->module[i];
    return NULL;
}

/* Is it an upscaler, which has a second scheduler? */
static bool upscales(const sd_conversion *v) { return v->c->model.unet->cfg.class_embeds > 0; }

static bool belongs(const sd_conversion *v, const char *name)
{
    if (v->o.only) return is_in(name, v->o.only);
    if (strcmp(name, SD_LOW_RES) == 0) return upscales(v);
    return !strchr(name, '/') || is_in(name, "scheduler") || module_of(v, name);
}

const char *sd_convert_text_name(const sd_conversion *v, int i)
{
    for (size_t k = 0; k < SD_COUNT(files); k++)
        if (belongs(v, files[k]) && i-- == 0) return files[k];
    return NULL;
}

static char *read_text(const sd_conversion *v, const char *dir, const char *name)
{
    char path[PATH_BYTES], *text = NULL;
    size_t n;
    if (sd_path_join(path, sizeof path, dir, name, v->err) || sd_is_absent(path)) return NULL;
    sd_read_file(path, TEXT_MAX, &text, &n, v->err);
    return text;
}

/* The file of a directory that the header of the module's file keeps; if it belongs to no module, the header of the
 * model's file. NULL: it is not there. */
static const char *find_text(const sd_conversion *v, const sd_module *x, const char *name)
{
    char key[128];
    const sd_source *whole = v->c->model.main;
    const sd_store *s = x && x->files ? x->files : whole ? &whole->store : NULL;
    snprintf(key, sizeof key, SD_KEPT "%s", name);
    return s ? sd_store_meta(s, key) : NULL;
}

/* ------------------------------------------------------------------------------------ model_index.json */

/* Is the part of a model_index.json with this name among what is written? */
static bool is_written(const sd_conversion *v, const char *part)
{
    char name[80];
    snprintf(name, sizeof name, "%.60s/", part);
    return strcmp(part, "scheduler") == 0 || module_of(v, name)
        || (strcmp(part, "low_res_scheduler") == 0 && upscales(v));
}

/* [library, class]: a part of the model. */
static bool is_part(const sd_json *x)
{
    return sd_json_is(x, SD_JSON_LIST) && sd_json_count(x) == 2 && sd_json_text(sd_json_item(x, 1));
}

/* The text of model_index.json without the parts that are not written (the safety checker, an image encoder), for which
 * from_pretrained would look. If all parts are written it is the same text; else that is freed. */
static char *without_others(const sd_conversion *v, char *text)
{
    sd_json *root = sd_json_parse(text, strlen(text), "model_index.json", v->err), *x;
    bool changed = false;
    for (x = root ? root->first : NULL; x; x = x->next) {
        if (!is_part(x) || is_written(v, x->key)) continue;
        x->first->type = x->first->next->type = SD_JSON_NULL;
        x->first->text = x->first->next->text = NULL;
        changed = true;
    }
    for (x = root ? root->first : NULL; x && changed; x = x->next)
        if (strcmp(x->key, "requires_safety_checker") == 0) x->type = SD_JSON_FALSE;
    char *other = changed ? sd_json_print_lines(root) : NULL;
    if (changed && !other) sd_fail(v->err, SD_ERR_MEMORY, "no memory for model_index.json");
    sd_json_free(root);
    if (!changed) return text;
    free(text);
    return other;
}

/* ---------------------------------------------------------------------------------------- one text */

/* The text of scheduler_config.json: the model's own; for a directory without one that of the family, with what the
 * UNet turned out to predict. add_key in model_schedule.c puts keys behind the others. Of two equal keys the last
 * counts: where there are two, the text is written anew without the first. */
static char *scheduler_text(const sd_conversion *v, const char *name)
{
    const sd_model *m = &v->c->model;
    if (!m->sched_text || (m->stands_in && v->target != SD_TARGET_DIRECTORY)) return NULL;
    size_t n = strlen(m->sched_text);
    sd_json *root = sd_json_load(m->sched_text, n, name, v->err), *all = sd_json_parse(m->sched_text, n, name, v->err);
    bool as_it_is = !m->stands_in && sd_json_count(root) == sd_json_count(all);
    char *text = !root || !all ? NULL : as_it_is ? sd_strdup(m->sched_text) : sd_json_print_lines(root);
    if (root && all && !text) sd_fail(v->err, SD_ERR_MEMORY, "no memory for %s", name);
    sd_json_free(root);
    sd_json_free(all);
    return text;
}

/* Files that a tokenizer does not need beside its others: they are copied, but never made. */
static bool is_optional(const char *name) { return strstr(name, "/tokenizer.json") || strstr(name, "added_tokens"); }

static char *copy(const sd_conversion *v, const char *text, const char *name)
{
    char *own = sd_strdup(text);
    if (!own) sd_fail(v->err, SD_ERR_MEMORY, "no memory for %s", name);
    return own;
}

/* The upscaler's second scheduler: the model's own, or for a directory the published one. */
static char *low_res_text(const sd_conversion *v, const char *name)
{
    const char *text = v->c->model.low_res_text;
    if (!text && v->target == SD_TARGET_DIRECTORY) text = sd_family_find("x4-upscaler")->low_res_scheduler;
    return text ? copy(v, text, name) : NULL;
}

/* The text of a file of this module as the input has it: in its directory, or in a header. */
static char *read_own(const sd_conversion *v, const sd_module *x, const char *name)
{
    const sd_model *m = &v->c->model;
    const char *file = strchr(name, '/'), *found;
    bool tokens = x && x->padded && !is_everywhere(name);   /* its directory does not say how this model pads */
    char *text = NULL;
    if (!x && m->kind == SD_PATH_MODEL) text = read_text(v, m->config_dir ? m->config_dir : m->at, name);
    if (x && x->dir && !tokens) text = read_text(v, x->dir, file + 1);
    if (text || v->err->status || (x && x->dir && !x->padded)) return text;
    found = find_text(v, x, name);
    return found ? copy(v, found, name) : NULL;
}

char *sd_convert_text(const sd_conversion *v, const char *name)
{
    if (is_in(name, "scheduler")) return scheduler_text(v, name);
    if (strcmp(name, SD_LOW_RES) == 0) return low_res_text(v, name);
    const sd_module *x = module_of(v, name);
    char *text = x && x->padded && is_optional(name) ? NULL : read_own(v, x, name);
    if (text && strcmp(name, "model_index.json") == 0) text = without_others(v, text);
    if (text || v->err->status || v->target != SD_TARGET_DIRECTORY) return text;
    if (x && (is_optional(name) || (x->dir && !x->padded))) return NULL;
    return sd_convert_make(v, x, name);
}

/* ---------------------------------------------------------------------------------- texts of headers */

/* Does another module of the input share this one's file? */
static bool shares_store(const sd_conversion *v, const sd_module *x)
{
    const sd_module *y;
    for (int i = 0; (y = sd_convert_module(v, i)) != NULL; i++)
        if (y != x && y->files == x->files) return true;
    return false;
}

/* What the module's files say of themselves, but for the directory's files that they keep. */
static void carry(const sd_module *x, sd_texts *t)
{
    for (size_t k = 0; k < x->files->n_files; k++)
        for (size_t i = 0; i < x->files->file[k].n_meta; i++)
            if (!sd_is_kept(x->files->file[k].meta[i].key) && !is_of_the_format(x->files->file[k].meta[i].key))
                add(t, x->files->file[k].meta[i].key, x->files->file[k].meta[i].value);
}

static sd_status texts_done(const sd_conversion *v, const sd_texts *t)
{
    if (t->failed) sd_fail(v->err, SD_ERR_MEMORY, "no memory for the texts of %s", v->o.output);
    return v->err->status;
}

/* What the file of a module in a directory is to say of itself. If the input has a file for this module, it is what
 * that says. If the input is a single file that was made of a directory, it is what the module's file said there. */
sd_status sd_convert_module_texts(const sd_conversion *v, const sd_module *x, sd_texts *t)
{
    char name[80];
    const sd_json *p;
    snprintf(name, sizeof name, "%s/" RECORD, x->place->name);
    const char *record = find_text(v, x, name);
    if (record) {
        sd_json *root = sd_json_parse(record, strlen(record), name, v->err);
        SD_JSON_EACH(p, root)
            if (sd_json_text(p)) add(t, p->key, p->text);
        sd_json_free(root);
    } else if (!shares_store(v, x)) {
        carry(x, t);
    } else {
        add(t, "format", "pt");   /* without it transformers refuses the file */
        if (x == sd_convert_module(v, 0)) carry(x, t);
    }
    return texts_done(v, t);
}

/* Keeps what the module's own file says of itself, for a directory that may be made of the output one day. */
static void add_record(const sd_conversion *v, const sd_module *x, sd_texts *t)
{
    sd_texts own = {0};
    sd_text record = {0};
    char key[80];
    snprintf(key, sizeof key, SD_KEPT "%s/" RECORD, x->place->name);
    if (shares_store(v, x) && !find_text(v, x, key + sizeof SD_KEPT - 1)) return;
    sd_convert_module_texts(v, x, &own);
    sd_text_add(&record, "{");
    for (size_t i = 0; i < own.n; i++) {
        if (i) sd_text_add(&record, ",");
        sd_text_quoted(&record, own.pair[i].key);
        sd_text_add(&record, ":");
        sd_text_quoted(&record, own.pair[i].value);
    }
    sd_text_add(&record, "}");
    if (record.failed) t->failed = true;
    else add(t, key, record.s);
    free(record.s);
    sd_texts_free(&own);
}

sd_status sd_convert_texts(const sd_conversion *v, sd_texts *t)
{
    const sd_module *x;
    const char *name;
    char key[128];
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++) carry(x, t);
    for (int i = 0; (name = sd_convert_text_name(v, i)) != NULL; i++) {
        char *text = is_everywhere(name) ? NULL : sd_convert_text(v, name);
        snprintf(key, sizeof key, SD_KEPT "%s", name);
        if (text) add(t, key, text);
        free(text);
    }
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++) add_record(v, x, t);
    return texts_done(v, t);
}
