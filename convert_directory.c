/* convert_directory.c - floor 6: a model as a directory in diffusers' layout.
 *
 * It is written under another name beside its own and renamed when it is complete. */
#include "convert.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, NAME_BYTES = 128 };

/* What has been made, so that a failure can remove it. */
typedef struct made {
    sd_conversion *v;
    char temp[PATH_BYTES];     /* the directory */
    char **path;               /* it and all in it, in the order in which they were made */
    size_t n;
} made;

static sd_status cannot_write(const made *d, const char *path)
{
    int why = errno;
    return sd_fail(d->v->err, sd_errno_status(why), "cannot write %s: %s", path, strerror(why));
}

/* Notes that a path is about to be made. */
static sd_status note(made *d, const char *path)
{
    char **more = realloc(d->path, (d->n + 1) * sizeof *more), *copy = sd_strdup(path);
    if (more) d->path = more;
    if (more && copy) {
        d->path[d->n++] = copy;
        return SD_OK;
    }
    free(copy);
    return sd_fail(d->v->err, SD_ERR_MEMORY, "no memory to write %s", path);
}

static sd_status make_directory(made *d, const char *path)
{
    errno = EEXIST;
    if (note(d, path)) return d->v->err->status;
    return sd_os_make_directory(path) && sd_is_dir(path) ? SD_OK : cannot_write(d, path);
}

static void clean_up(made *d)
{
    for (size_t i = d->n; i-- > 0;) {
        if (d->v->err->status) remove(d->path[i]);   /* a directory too, once it is empty */
        free(d->path[i]);
    }
    free(d->path);
}

/* ---------------------------------------------------------------------------------------- texts */

static sd_status write_text(made *d, const char *name, const char *text)
{
    char path[PATH_BYTES];
    sd_outfile o;
    sd_error *e = d->v->err;
    if (sd_path_join(path, sizeof path, d->temp, name, e) || note(d, path) || sd_outfile_open(&o, path, e))
        return e->status;
    if (fputs(text, o.f) == EOF) cannot_write(d, path);
    if (e->status) sd_outfile_abort(&o);
    else sd_outfile_commit(&o, e);
    return e->status;
}

/* "unet/config.json" is in the directory "unet", or in the one that is written if it is the only part. */
static const char *place_of(const made *d, const char *name)
{
    const char *slash = strchr(name, '/');
    return d->v->o.only && slash ? slash + 1 : name;
}

/* Makes the directory that a name lies in, if it was not made yet. */
static sd_status make_place(made *d, const char *name)
{
    char path[PATH_BYTES], part[NAME_BYTES];
    const char *slash = strchr(name, '/');
    if (!slash) return SD_OK;
    snprintf(part, sizeof part, "%.*s", (int)(slash - name), name);
    if (sd_path_join(path, sizeof path, d->temp, part, d->v->err)) return d->v->err->status;
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->path[i], path) == 0) return SD_OK;
    return make_directory(d, path);
}

static sd_status write_texts(made *d)
{
    const char *name;
    for (int i = 0; (name = sd_convert_text_name(d->v, i)) != NULL; i++) {
        char *text = sd_convert_text(d->v, name);
        if (text && !make_place(d, place_of(d, name))) write_text(d, place_of(d, name), text);
        free(text);
        if (d->v->err->status) return d->v->err->status;
    }
    return SD_OK;
}

/* ---------------------------------------------------------------------------------------- weights */

static uint64_t bytes_of(const sd_output *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (uint64_t)t->dim[i];
    return sd_dtype_bytes(t->dt, (size_t)n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_output *)a)->name, ((const sd_output *)b)->name);
}

/* The number of tensors, from the first on, whose bytes fit into one shard; at least one. */
static size_t fill_shard(const sd_output *t, size_t n, uint64_t most)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += bytes_of(&t[i]);
        if (i && bytes > most) return i;
    }
    return n;
}

/* What the weights of a module are called [diffusers WEIGHTS_NAME, transformers SAFE_WEIGHTS_NAME]. number 0: all of
 * them in one file. */
static sd_status name_weights(const made *d, const sd_module *x, int number, int of, char name[NAME_BYTES])
{
    char shard[40] = "";
    if (number) snprintf(shard, sizeof shard, "-%05d-of-%05d", number, of);
    int n = snprintf(name, NAME_BYTES, "%s/%s%s.safetensors", x->place->name, x->place->stem, shard);
    return n < NAME_BYTES ? SD_OK : sd_fail(d->v->err, SD_ERR_ARG, "a file's name is too long: %s", name);
}

/* The index of shards, as json.dumps(index, indent=2, sort_keys=True) writes it. */
static sd_status write_index(made *d, const sd_module *x, size_t first, size_t n, int shards)
{
    sd_conversion *v = d->v;
    char name[NAME_BYTES];
    uint64_t total = 0;
    sd_text t = {0};
    for (size_t i = first; i < first + n; i++) total += bytes_of(&v->out[i]);
    sd_text_add(&t, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {\n",
                (unsigned long long)total);
    size_t left = 0;
    int number = 0;
    for (size_t i = first; i < first + n && !v->err->status; i++, left--) {
        if (!left) {
            left = fill_shard(&v->out[i], first + n - i, v->o.shard_bytes);
            if (name_weights(d, x, ++number, shards, name)) break;
        }
        sd_text_add(&t, "    ");
        sd_text_quoted(&t, v->out[i].name);
        sd_text_add(&t, ": \"%s\"%s\n", strchr(name, '/') + 1, i + 1 < first + n ? "," : "");
    }
    sd_text_add(&t, "  }\n}\n");
    if (t.failed) sd_fail(v->err, SD_ERR_MEMORY, "no memory for an index of shards");
    snprintf(name, sizeof name, "%s/%s.safetensors.index.json", x->place->name, x->place->stem);
    if (!v->err->status) write_text(d, place_of(d, name), t.s);
    free(t.s);
    return v->err->status;
}

static sd_status write_weights(made *d, const char *name, size_t first, size_t n, const sd_texts *texts)
{
    char path[PATH_BYTES];
    sd_error *e = d->v->err;
    if (make_place(d, place_of(d, name)) || sd_path_join(path, sizeof path, d->temp, place_of(d, name), e) ||
        note(d, path))
        return e->status;
    return sd_convert_write(d->v, path, first, n, texts);
}

static sd_status write_module(made *d, const sd_module *x, size_t first, size_t n)
{
    sd_conversion *v = d->v;
    char name[NAME_BYTES];
    sd_texts texts = {0};
    int shards = 0;
    uint64_t most = v->o.shard_bytes ? v->o.shard_bytes : UINT64_MAX;
    if (n) qsort(v->out + first, n, sizeof *v->out, by_name);
    for (size_t i = 0; i < n; i += fill_shard(&v->out[first + i], n - i, most)) shards++;
    sd_convert_module_texts(v, x, &texts);
    if (!v->err->status && shards > 1) {
        snprintf(name, sizeof name, "%s/", x->place->name);
        if (!make_place(d, place_of(d, name))) write_index(d, x, first, n, shards);
    }
    for (int number = 1; number <= shards && !v->err->status; number++) {
        size_t part = fill_shard(&v->out[first], n, most);
        if (!name_weights(d, x, shards > 1 ? number : 0, shards, name)) write_weights(d, name, first, part, &texts);
        first += part;
        n -= part;
    }
    sd_texts_free(&texts);
    return v->err->status;
}

static sd_status write_all(made *d)
{
    sd_conversion *v = d->v;
    size_t first = 0;
    const sd_module *x;
    if (make_directory(d, d->temp) || write_texts(d)) return v->err->status;
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++) {
        size_t n = 0;
        while (first + n < v->n && v->out[first + n].module == i) n++;
        if (write_module(d, x, first, n)) return v->err->status;
        first += n;
    }
    return SD_OK;
}

/* ---------------------------------------------------------------------------------------- the whole */

/* Messages name the directory as the caller does. */
static void name_as_asked(char *text, size_t size, const char *temp, const char *to)
{
    char rest[512];
    char *at = strstr(text, temp);
    if (!at) return;
    snprintf(rest, sizeof rest, "%s", at + strlen(temp));
    snprintf(at, size - (size_t)(at - text), "%s%s", to, rest);
}

static int by_module(const void *a, const void *b)
{
    return ((const sd_output *)a)->module - ((const sd_output *)b)->module;
}

sd_status sd_convert_directory(sd_conversion *v)
{
    made d = {.v = v};
    char to[PATH_BYTES];
    size_t n = strlen(v->o.output);
    while (n > 1 && v->o.output[n - 1] == '/') n--;
    if (n == 0 || n > sizeof to - 64)
        return sd_fail(v->err, SD_ERR_ARG, "a path of 1 to %zu bytes is expected for the output", sizeof to - 64);
    snprintf(to, sizeof to, "%.*s", (int)n, v->o.output);
    if (!sd_is_absent(to))
        return sd_fail(v->err, SD_ERR_ARG, "%s exists already: a model is written into a new directory", to);
    const char *slash = strrchr(to, '/');
    snprintf(d.temp, sizeof d.temp, "%.*s.sd-%016llx.part", slash ? (int)(slash - to) + 1 : 0, to,
             (unsigned long long)sd_os_any_number());
    if (v->n) qsort(v->out, v->n, sizeof *v->out, by_module);
    if (!write_all(&d) && !sd_fail_if_stopped(v->err) && rename(d.temp, to) != 0) cannot_write(&d, to);
    clean_up(&d);
    name_as_asked(v->err->text, sizeof v->err->text, d.temp, to);
    return v->err->status;
}
