/* tensors_index.c - floor 3: tensors.json, which says of a directory of .npy files what the files alone do not: in
 * which order their tensors were computed, and the settings of the run. It is a JSON object,
 * {"settings": {KEY: TEXT, ...}, "tensors": [NAME, ...]}. */
#include "json.h"
#include "tensors.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX "tensors.json"
#define ENDING ".npy"
enum { MOST_BYTES = 64 << 20 };

void sd_index_free(sd_index *x)
{
    for (size_t i = 0; i < x->n; i++) free(x->name[i]);
    for (size_t i = 0; i < x->n_meta; i++) {
        free(x->meta[i].key);
        free(x->meta[i].value);
    }
    free(x->name);
    free(x->meta);
    *x = (sd_index){0};
}

sd_status sd_index_set(sd_index *x, const char *key, const char *value, sd_error *e)
{
    size_t i = 0;
    char *copy = sd_strdup(value);
    while (i < x->n_meta && strcmp(x->meta[i].key, key) != 0) i++;
    sd_pair *list = i < x->n_meta ? x->meta : sd_grow(x->meta, x->n_meta, &x->cap_meta, 32, sizeof *list);
    if (list) x->meta = list;
    if (list && i == x->n_meta && copy && (list[i].key = sd_strdup(key)) != NULL) list[x->n_meta++].value = NULL;
    if (!copy || !list || i == x->n_meta) {
        free(copy);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for the settings of a trace");
    }
    free(x->meta[i].value);
    x->meta[i].value = copy;
    return SD_OK;
}

/* ------------------------------------------------------------------------------------------ reading */

static sd_status take_names(sd_index *x, const sd_json *list, const char *path, sd_error *e)
{
    const sd_json *name;
    x->name = calloc((size_t)sd_json_count(list) + 1, sizeof *x->name);
    if (!x->name) return sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
    SD_JSON_EACH(name, list) {
        if (!sd_json_text(name))
            return sd_fail(e, SD_ERR_FORMAT, "%s: \"tensors\" must be a list of names, and has %s", path,
                           sd_json_kind(name));
        x->name[x->n] = sd_strdup(name->text);
        if (!x->name[x->n]) return sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
        x->n++;
    }
    return SD_OK;
}

static sd_status take_settings(sd_index *x, const sd_json *settings, const char *path, sd_error *e)
{
    const sd_json *value;
    SD_JSON_EACH(value, settings) {
        char *printed = sd_json_text(value) ? NULL : sd_json_print(value);
        const char *text = printed ? printed : sd_json_text(value);
        if (!text) sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
        else sd_index_set(x, value->key, text, e);
        free(printed);
        if (e->status) break;
    }
    return e->status;
}

sd_status sd_index_read(sd_index *x, const char *directory, sd_error *e)
{
    char path[4096];
    *x = (sd_index){0};
    if (sd_path_join(path, sizeof path, directory, INDEX, e) || sd_is_absent(path)) return e->status;
    sd_json *all = sd_json_read(path, MOST_BYTES, e);
    const sd_json *names = sd_json_get(all, "tensors"), *settings = sd_json_get(all, "settings");
    if (!e->status && (!sd_json_is(names, SD_JSON_LIST) || (settings && !sd_json_is(settings, SD_JSON_OBJECT))))
        sd_fail(e, SD_ERR_FORMAT, "%s must have a list of names, \"tensors\", and settings, if any, as an object",
                path);
    if (!e->status && !take_names(x, names, path, e)) take_settings(x, settings, path, e);
    sd_json_free(all);
    if (e->status) sd_index_free(x);
    return e->status;
}

/* ------------------------------------------------------------------------------------------ the order */

typedef struct placed { const char *name; const sd_entry *of; size_t place; } placed;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const placed *)a)->name, ((const placed *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

/* The index' names, sorted, to find them by; free() it. NULL: there are none, or no memory. */
static placed *sorted(const sd_index *x)
{
    placed *list = x->n ? calloc(x->n, sizeof *list) : NULL;
    for (size_t i = 0; i < x->n && list; i++) list[i] = (placed){x->name[i], NULL, i};
    if (list) qsort(list, x->n, sizeof *list, by_name);
    return list;
}

static const placed *find(const placed *list, size_t n, const char *name)
{
    const placed key = {name, NULL, 0};
    return list ? bsearch(&key, list, n, sizeof *list, by_name) : NULL;
}

bool sd_index_order(const sd_index *x, const sd_entry **at, size_t n, sd_error *e)
{
    placed *names = sorted(x), *list = calloc(n + 1, sizeof *list);
    bool all = x->n > 0;
    if (!list || (x->n && !names)) sd_fail(e, SD_ERR_MEMORY, "no memory for the order of %zu tensors", n);
    for (size_t i = 0; i < n && all && !e->status; i++) {
        const placed *known = find(names, x->n, at[i]->name);
        all = known != NULL;
        if (known) list[i] = (placed){at[i]->name, at[i], known->place};
    }
    all = all && !e->status;
    if (all) qsort(list, n, sizeof *list, by_place);
    for (size_t i = 0; i < n && all; i++) at[i] = list[i].of;
    free(names);
    free(list);
    return all;
}

/* ------------------------------------------------------------------------------------------ writing */

typedef struct search { const placed *names; size_t n; char other[256]; } search;

static void see_file(void *user, const char *file)
{
    search *s = user;
    char name[sizeof s->other];
    if (!sd_has_ending(file, ENDING) || snprintf(name, sizeof name, "%s", file) >= (int)sizeof name) return;
    name[strlen(name) - (sizeof ENDING - 1)] = 0;
    if (!find(s->names, s->n, name)) memcpy(s->other, name, sizeof s->other);
}

sd_status sd_index_covers(const sd_index *x, const char *directory, sd_error *e)
{
    placed *names = sorted(x);
    search s = {.names = names, .n = x->n};
    if (x->n && !names) return sd_fail(e, SD_ERR_MEMORY, "no memory to look into %s", directory);
    sd_os_list(directory, see_file, &s);   /* what cannot be listed cannot be found to be other's */
    free(names);
    if (!*s.other) return SD_OK;
    return sd_fail(e, SD_ERR_ARG, "cannot write a trace into %s: it has %s" ENDING ", which is of no trace that was "
                   "written there; give another directory", directory, s.other);
}

void sd_index_remove(const char *directory, const char *const *name, size_t n)
{
    char path[4096], file[512];
    sd_error none = {.status = SD_OK};
    if (!sd_path_join(path, sizeof path, directory, INDEX, &none)) remove(path);
    for (size_t i = 0; i < n; i++) {
        int length = snprintf(file, sizeof file, "%s" ENDING, name[i]);
        if (length < (int)sizeof file && !strchr(file, '/') && !sd_path_join(path, sizeof path, directory, file, &none))
            remove(path);
    }
}

sd_status sd_index_write(const char *directory, const char *const *name, size_t n, const sd_pair *meta, size_t n_meta,
                         sd_error *e)
{
    char path[4096];
    sd_text t = {0};
    sd_outfile o = {0};
    sd_text_add(&t, "{\n\"settings\": {");
    for (size_t i = 0; i < n_meta; i++) {
        sd_text_add(&t, i ? ",\n" : "\n");
        sd_text_quoted(&t, meta[i].key);
        sd_text_add(&t, ": ");
        sd_text_quoted(&t, meta[i].value);
    }
    sd_text_add(&t, "\n},\n\"tensors\": [");
    for (size_t i = 0; i < n; i++) {
        sd_text_add(&t, i ? ",\n" : "\n");
        sd_text_quoted(&t, name[i]);
    }
    sd_text_add(&t, "\n]\n}\n");
    if (t.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to write a list of tensors");
    else if (!sd_path_join(path, sizeof path, directory, INDEX, e) && !sd_outfile_open(&o, path, e)) {
        if (fwrite(t.s, 1, t.n, o.f) == t.n) sd_outfile_commit(&o, e);
        else sd_fail(e, SD_ERR_IO, "cannot write %s: %s", path, strerror(errno));
        if (e->status) sd_outfile_abort(&o);
    }
    free(t.s);
    return e->status;
}
