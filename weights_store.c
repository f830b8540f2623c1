/* weights_store.c - floor 3: the file or files that hold one network's weights, seen as one set of tensors. */
#include "json.h"
#include "weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------- which files */

/* How diffusers and transformers name the weight file of a part, by its stem, or by one of transformers' own; the first
 * file that exists is taken. Plain files come first. The ".fp16" files hold the same weights, rounded; ".non_ema" those
 * that are no averages over the training. Older releases had another name for their index of shards. */
static const struct { const char *stem, *ending; bool index; } spellings[] = {   /* stem NULL: the part's */
    {NULL, ".safetensors", false},
    {NULL, ".safetensors.index.json", true},
    {NULL, ".bin", false},
    {"pytorch_model", ".bin", false},
    {NULL, ".bin.index.json", true},
    {"pytorch_model", ".bin.index.json", true},
    {NULL, ".fp16.safetensors", false},
    {NULL, ".safetensors.index.fp16.json", true},
    {NULL, ".safetensors.fp16.index.json", true},
    {NULL, ".fp16.bin", false},
    {"pytorch_model", ".fp16.bin", false},
    {NULL, ".non_ema.safetensors", false},
    {NULL, ".non_ema.bin", false},
    {NULL, ".gguf", false},
    {NULL, ".ckpt", false},
    {NULL, ".pt", false},
    {NULL, ".pth", false},
};

enum { PATH_MAX_BYTES = 4096, INDEX_MAX = 64 << 20 };

static sd_status name_file(char path[PATH_MAX_BYTES], const char *dir, const char *stem, const char *ending,
                           sd_error *e)
{
    char name[256];
    int n = snprintf(name, sizeof name, "%s%s", stem, ending);
    if (n < 0 || (size_t)n >= sizeof name) return sd_fail(e, SD_ERR_ARG, "file name is too long: %.100s...", stem);
    return sd_path_join(path, PATH_MAX_BYTES, dir, name, e);
}

static sd_status add_file(sd_store *s, const char *path, sd_error *e)
{
    sd_weight_file *more = realloc(s->file, (s->n_files + 1) * sizeof *more);
    if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
    s->file = more;
    if ((s->in_memory ? sd_weight_file_load : sd_weight_file_open)(&more[s->n_files], path, e)) return e->status;
    s->n_files++;
    return SD_OK;
}

/* ------------------------------------------------------------------------------------- shards */

/* A shard is beside its index, so a name must not be a path, which could lead anywhere. */
static bool shard_name_ok(const char *name)
{
    return name && *name && strlen(name) < 256 && !strpbrk(name, "/\\") && strcmp(name, ".") != 0 &&
           !strstr(name, "..");
}

/* The shard of this name, opened now if it was not open. `names` are the names of s->file, in the same order; the JSON
 * owns them. */
static sd_weight_file *open_shard(sd_store *s, const char ***names, const char *dir, const char *name, sd_error *e)
{
    for (size_t i = 0; i < s->n_files; i++)
        if (strcmp((*names)[i], name) == 0) return &s->file[i];
    char path[PATH_MAX_BYTES];
    const char **more = realloc(*names, (s->n_files + 1) * sizeof *more);
    if (!more) {
        sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", name);
        return NULL;
    }
    *names = more;
    more[s->n_files] = name;
    if (sd_path_join(path, sizeof path, dir, name, e) || add_file(s, path, e)) return NULL;
    return &s->file[s->n_files - 1];
}

static sd_status read_weight_map(sd_store *s, const sd_json *map, const char *dir, const char *index, sd_error *e)
{
    const char **names = NULL;
    if (!sd_json_is(map, SD_JSON_OBJECT) || !map->first)
        return sd_fail(e, SD_ERR_FORMAT, "%s: weight_map is missing, empty or not a JSON object", index);
    for (const sd_json *v = map->first; v && e->status == SD_OK; v = v->next) {
        const char *shard = sd_json_text(v);
        if (!shard_name_ok(shard)) {
            sd_fail(e, SD_ERR_FORMAT, "%s: \"%.100s\" must name a file beside the index, found %.80s", index, v->key,
                    shard ? shard : "no text");
            break;
        }
        const sd_weight_file *f = open_shard(s, &names, dir, shard, e);
        if (f && !sd_weight_file_find(f, v->key))
            sd_fail(e, SD_ERR_FORMAT, "%s: \"%.100s\" should be in %.80s and is not", index, v->key, shard);
    }
    free(names);
    return e->status;
}

static sd_status open_shards(sd_store *s, const char *dir, const char *index, sd_error *e)
{
    sd_json *root = sd_json_read(index, INDEX_MAX, e);
    if (root) read_weight_map(s, sd_json_get(root, "weight_map"), dir, index, e);
    sd_json_free(root);
    return e->status;
}

/* Refuses a tensor that is in two shards: it would be taken from whichever comes first. */
static sd_status check_apart(const sd_store *s, sd_error *e)
{
    for (size_t i = 0; i < s->n_files; i++)
        for (size_t j = 0; j < i; j++)
            for (size_t k = 0; k < s->file[i].n; k++)
                if (sd_weight_file_find(&s->file[j], s->file[i].entry[k].name))
                    return sd_fail(e, SD_ERR_FORMAT, "tensor \"%.100s\" is both in %.150s and in %.150s",
                                   s->file[i].entry[k].name, s->file[j].path, s->file[i].path);
    return SD_OK;
}

/* -------------------------------------------------------------------------------------- store */

static sd_status nothing_found(const char *dir, const char *stem, sd_error *e)
{
    char looked_for[400] = "";
    if (!sd_find_dir(dir, e))
        return e->status ? e->status : sd_fail(e, SD_ERR_MISSING, "there is no directory %s", dir);
    for (size_t i = 0, at = 0; i < SD_COUNT(spellings) && at < sizeof looked_for; i++)
        if (!spellings[i].stem)
            at += (size_t)snprintf(looked_for + at, sizeof looked_for - at, "%s%s", i ? ", " : "", spellings[i].ending);
    return sd_fail(e, SD_ERR_MISSING, "no weights in %s: looked for %s with one of the endings %s", dir, stem,
                   looked_for);
}

/* The spelling under which a part's file exists; -1: it does not, or an error. */
static int find_spelling(char path[PATH_MAX_BYTES], const char *dir, const char *stem, sd_error *e)
{
    for (size_t i = 0; i < SD_COUNT(spellings); i++) {
        const char *own = spellings[i].stem;
        if (name_file(path, dir, own ? own : stem, spellings[i].ending, e)) return -1;
        if (sd_is_file(path) || sd_is_dir(path)) return (int)i;   /* a directory of that name gets its own error */
    }
    return -1;
}

bool sd_store_is_in(const char *dir, const char *stem)
{
    char path[PATH_MAX_BYTES];
    sd_error too_long = {.status = SD_OK};
    return find_spelling(path, dir, stem, &too_long) >= 0;
}

static sd_status open_parts(sd_store *s, const char *dir, const char *stem, sd_error *e)
{
    char path[PATH_MAX_BYTES];
    int i = find_spelling(path, dir, stem, e);
    if (i < 0) return e->status ? e->status : nothing_found(dir, stem, e);
    if (!spellings[i].index) return add_file(s, path, e);
    return open_shards(s, dir, path, e) ? e->status : check_apart(s, e);
}

/* An index of shards, by the end of its name. */
static bool is_index(const char *path) { return sd_ends_with(path, ".index.json"); }

static sd_status open_one(sd_store *s, const char *path, sd_error *e)
{
    char dir[PATH_MAX_BYTES];
    if (!is_index(path)) return add_file(s, path, e);
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    if (n >= sizeof dir) return sd_fail(e, SD_ERR_ARG, "the path is too long: %.100s...", path);
    memcpy(dir, path, n);
    dir[n] = 0;
    return open_shards(s, n ? dir : ".", path, e) ? e->status : check_apart(s, e);
}

/* stem NULL: `path` is a file; else a directory. */
static sd_status open_as(sd_store *s, bool in_memory, const char *path, const char *stem, sd_error *e)
{
    *s = (sd_store){.in_memory = in_memory};
    if (e->status == SD_OK) stem ? open_parts(s, path, stem, e) : open_one(s, path, e);
    if (e->status) sd_store_close(s);
    return e->status;
}

sd_status sd_store_open_dir(sd_store *s, const char *dir, const char *stem, sd_error *e)
{
    return open_as(s, false, dir, stem, e);
}

sd_status sd_store_load_dir(sd_store *s, const char *dir, const char *stem, sd_error *e)
{
    return open_as(s, true, dir, stem, e);
}

sd_status sd_store_open_file(sd_store *s, const char *path, sd_error *e) { return open_as(s, false, path, NULL, e); }
sd_status sd_store_load_file(sd_store *s, const char *path, sd_error *e) { return open_as(s, true, path, NULL, e); }

/* Files are in the order of the names, which is nearly that of use. So what comes next in the file is prefetched, when
 * a part of it has been passed, not after each tensor, for the system looks at every page that it is asked for. */
void sd_store_used(const sd_store *s, const void *data, size_t bytes)
{
    enum { PART = 8 << 20, AHEAD = 4 * PART };
    for (size_t i = 0; i < s->n_files; i++) {
        const sd_weight_file *f = &s->file[i];
        uintptr_t begin = (uintptr_t)f->file.data, at = (uintptr_t)data;
        if (!data) {
            sd_weight_file_release(f, NULL, 0);
        } else if (at >= begin && at - begin < f->file.size) {
            sd_weight_file_release(f, data, bytes);
            size_t from = at - begin;
            if (bytes < f->file.size - from && from / PART != (from + bytes) / PART)
                sd_weight_file_expect(f, (const char *)data + bytes, AHEAD);
        }
    }
}

void sd_store_release(const sd_store *s, const void *data, size_t bytes)
{
    for (size_t i = 0; i < s->n_files && data; i++) sd_weight_file_release(&s->file[i], data, bytes);
}

sd_status sd_store_still_there(const sd_store *s, sd_error *e)
{
    for (size_t i = 0; i < s->n_files; i++)
        if (sd_weight_file_still_there(&s->file[i], e)) return e->status;
    return e->status;
}

void sd_store_close(sd_store *s)
{
    for (size_t i = 0; i < s->n_files; i++) sd_weight_file_close(&s->file[i]);
    free(s->file);
    memset(s, 0, sizeof *s);
}

sd_entry *sd_store_find(const sd_store *s, const char *name)
{
    for (size_t i = 0; i < s->n_files; i++) {
        sd_entry *t = sd_weight_file_find(&s->file[i], name);
        if (t) return t;
    }
    return NULL;
}

sd_entry *sd_store_find_dotless(const sd_store *s, const char *root, const char *name)
{
    char whole[256];
    int n = snprintf(whole, sizeof whole, "%s", root);
    if (n < 0 || (size_t)n + strlen(name) >= sizeof whole) return NULL;
    for (char *to = whole + n; ; name++) {
        if (*name != '.') *to++ = *name;
        if (!*name) return sd_store_find(s, whole);
    }
}

size_t sd_store_count(const sd_store *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_files; i++) n += s->file[i].n;
    return n;
}

sd_entry *sd_store_at(const sd_store *s, size_t i)
{
    size_t f = 0;
    for (; i >= s->file[f].n; f++) i -= s->file[f].n;
    return &s->file[f].entry[i];
}

const char *sd_store_meta(const sd_store *s, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < s->n_files && !value; i++) value = sd_weight_file_meta(&s->file[i], key);
    return value;
}

/* ---------------------------------------------------------------------------------- leftovers */

void sd_store_log_unused(const sd_store *s, const char *root, const char *what, const sd_log *log)
{
    size_t n = 0, skip = root ? strlen(root) : 0;
    for (size_t i = 0; i < s->n_files; i++) {
        for (size_t k = 0; k < s->file[i].n; k++) {
            const sd_entry *t = &s->file[i].entry[k];
            if (t->used || (skip && strncmp(t->name, root, skip) != 0) || sd_skip_find(t->name + skip) ||
                sd_skip_find(t->name))
                continue;
            sd_logf(log, SD_LOG_DETAIL, "%s: not used: %s in %s", what, t->name, s->file[i].path);
            n++;
        }
    }
    if (n)
        sd_logf(log, SD_LOG_NOTICE, "%s: %zu tensor%s of its files %s not used", what, n, n == 1 ? "" : "s",
                n == 1 ? "is" : "are");
}

/* Index of the first number that is not finite, n if there is none. */
static size_t first_not_finite(const unsigned char *p, sd_dtype dt, size_t n)
{
    enum { PIECE = 4096 };   /* a multiple of every type's block */
    float x[PIECE];
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < PIECE ? n - at : PIECE;
        sd_widen(x, p + sd_dtype_bytes(dt, at), dt, m, &sd_kern_spec);
        for (size_t i = 0; i < m; i++)
            if (!isfinite(x[i])) return at + i;
    }
    return n;
}

static sd_status check_entry(const sd_entry *t, const char *path, sd_error *e)
{
    if (!sd_dtype_is_float(t->dt) || t->stride) return SD_OK;
    size_t block = sd_dtype_block(t->dt), n = t->bytes / sd_dtype_bytes(t->dt, block) * block;
    size_t i = first_not_finite(t->data, t->dt, n);
    if (i == n) return SD_OK;
    return sd_fail(e, SD_ERR_NUMERIC,
                   "weight \"%.100s\" is not finite: number %zu of %zu is NaN or infinite (in %.200s)", t->name, i, n,
                   path);
}

sd_status sd_store_check_finite(const sd_store *s, sd_error *e)
{
    for (size_t i = 0; i < s->n_files && e->status == SD_OK; i++)
        for (size_t k = 0; k < s->file[i].n && e->status == SD_OK; k++)
            if (s->file[i].entry[k].used) check_entry(&s->file[i].entry[k], s->file[i].path, e);
    return e->status;
}
