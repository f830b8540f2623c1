/* trace_dump.c - floor 3: the sink that writes a safetensors file, or a directory of .npy files.
 *
 * The header comes first in the format but is known only at the end of the run. So numbers go to a file without a name
 * at first. Closing the sink writes header and numbers into a second file and renames that to <path>. A run that fails,
 * or is killed, leaves neither. A directory gets its files at the end too. */
#include "tensors.h"
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A tensor whose numbers are in the data file. */
typedef struct entry { sd_traced t; char *name; uint64_t at, bytes; } entry;

typedef struct dump {
    char *path;
    bool directory;                                /* path is one */
    sd_index before;                               /* of the trace that is in it */
    FILE *data;
    uint64_t at;                                   /* bytes in it */
    entry *list;
    size_t n, cap, *by_name;                       /* by_name: sorted indices of list; names must differ */
    sd_index settings;                             /* of the run */
} dump;

/* ------------------------------------------------------------------------------------ one tensor */

/* Where `name` is, or belongs, in by_name. */
static size_t place_of(const dump *t, const char *name, bool *there)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(t->list[t->by_name[mid]].name, name) < 0) low = mid + 1;
        else high = mid;
    }
    *there = low < t->n && strcmp(t->list[t->by_name[low]].name, name) == 0;
    return low;
}

static bool list_room(dump *t)
{
    if (t->n < t->cap) return true;
    size_t cap = t->cap ? 2 * t->cap : 256, *order = realloc(t->by_name, cap * sizeof *order);
    if (order) t->by_name = order;
    entry *list = realloc(t->list, cap * sizeof *list);
    if (list) t->list = list;
    if (order && list) t->cap = cap;
    return order && list;
}

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    dump *t = user;
    bool there;
    (void)writable;
    size_t place = place_of(t, x->name, &there), bytes = sd_dtype_size(x->dtype);
    for (int i = 0; i < x->nd; i++) bytes *= (size_t)x->dim[i];
    if (!x->data) return SD_OK;   /* nothing was computed */
    if (there)
        return sd_fail(e, SD_ERR_ARG, "cannot write the trace %s: it has \"%.100s\" already, and holds one run",
                       t->path, x->name);
    char *name = list_room(t) ? sd_strdup(x->name) : NULL;
    if (!name) return sd_fail(e, SD_ERR_MEMORY, "no memory to trace \"%.100s\"", x->name);
    if (fwrite(x->data, 1, bytes, t->data) != bytes) {
        free(name);
        return sd_fail(e, SD_ERR_IO, "cannot write the trace %s: %s", t->path, strerror(errno));
    }
    memmove(t->by_name + place + 1, t->by_name + place, (t->n - place) * sizeof *t->by_name);
    t->by_name[place] = t->n;
    t->list[t->n] = (entry){.t = *x, .name = name, .at = t->at, .bytes = bytes};
    t->list[t->n++].t.name = name;
    t->at += bytes;
    return SD_OK;
}

static sd_status note(void *user, const char *key, const char *value, sd_error *e)
{
    dump *t = user;
    return sd_index_set(&t->settings, key, value, e);
}

/* --------------------------------------------------------------------------- the file as a whole */

static sd_status flush(const dump *t, sd_error *e)
{
    errno = 0;
    if (fflush(t->data) || ferror(t->data))
        sd_fail(e, SD_ERR_IO, "cannot write the trace %s: %s", t->path, strerror(errno));
    return e->status;
}

static sd_status find_numbers(const dump *t, size_t i, const char *path, sd_error *e)
{
    if (sd_os_seek(t->data, t->list[i].at)) return SD_OK;
    return sd_fail(e, SD_ERR_IO, "cannot read back the trace %s: %s", path, strerror(errno));
}

/* Copies the numbers of tensor i from the data file. */
static sd_status put(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    dump *t = user;
    uint64_t left = t->list[i].bytes;
    unsigned char block[1 << 16];
    if (find_numbers(t, i, path, e)) return e->status;
    while (left) {
        if (sd_fail_if_stopped(e)) return e->status;
        size_t n = left < sizeof block ? (size_t)left : sizeof block;
        if (fread(block, 1, n, t->data) != n) return sd_fail(e, SD_ERR_IO, "cannot read back the trace %s", path);
        if (fwrite(block, 1, n, to) != n)
            return sd_fail(e, SD_ERR_IO, "cannot write the trace %s: %s", path, strerror(errno));
        left -= n;
    }
    return SD_OK;
}

static sd_status write_file(dump *t, sd_error *e)
{
    if (flush(t, e)) return e->status;
    sd_traced *tensors = malloc((t->n + 1) * sizeof *tensors);
    if (!tensors) return sd_fail(e, SD_ERR_MEMORY, "no memory to write the trace %s", t->path);
    for (size_t i = 0; i < t->n; i++) tensors[i] = t->list[i].t;
    const sd_file_plan p = {.tensor = tensors, .n = t->n, .put = put, .user = t, .meta = t->settings.meta,
                            .n_meta = t->settings.n_meta};
    sd_safetensors_write_plan(t->path, &p, e);
    free(tensors);
    return e->status;
}

static sd_status write_array(dump *t, size_t i, sd_error *e)
{
    char file[512], path[4096];
    sd_traced x = t->list[i].t;
    size_t bytes = (size_t)t->list[i].bytes;
    int length = snprintf(file, sizeof file, "%s.npy", x.name);
    if (length >= (int)sizeof file || strchr(x.name, '/'))
        return sd_fail(e, SD_ERR_ARG, "\"%.200s\" cannot be the name of a file: write a .safetensors file", x.name);
    void *numbers = malloc(bytes + 1);
    if (!numbers) return sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", x.name);
    x.data = numbers;
    if (!sd_path_join(path, sizeof path, t->path, file, e) && !find_numbers(t, i, path, e)) {
        if (fread(numbers, 1, bytes, t->data) != bytes)
            sd_fail(e, SD_ERR_IO, "cannot read back the trace %s", t->path);
        else sd_npy_write(path, &x, e);
    }
    free(numbers);
    return e->status;
}

/* The trace that was there goes first, so that no file of it is left among the new ones. */
static sd_status write_directory(dump *t, sd_error *e)
{
    size_t done = 0;
    if (flush(t, e)) return e->status;
    const char **names = malloc((t->n + 1) * sizeof *names);
    if (!names) return sd_fail(e, SD_ERR_MEMORY, "no memory to write the trace %s", t->path);
    sd_index_remove(t->path, (const char *const *)t->before.name, t->before.n);
    for (; done < t->n && !e->status && !sd_fail_if_stopped(e); done++) {
        names[done] = t->list[done].name;
        write_array(t, done, e);
    }
    if (!e->status) sd_index_write(t->path, names, t->n, t->settings.meta, t->settings.n_meta, e);
    if (e->status) sd_index_remove(t->path, names, done);
    free(names);
    return e->status;
}

static sd_status finish(void *user, sd_error *e)
{
    dump *t = user;
    if (!e->status) (t->directory ? write_directory : write_file)(t, e);
    if (t->data) fclose(t->data);
    sd_index_free(&t->before);
    for (size_t i = 0; i < t->n; i++) free(t->list[i].name);
    sd_index_free(&t->settings);
    free(t->list);
    free(t->by_name);
    free(t->path);
    free(t);
    return e->status;
}

static sd_status open_data(dump *t, const char *path, sd_error *e)
{
    t->path = sd_strdup(path);
    if (!t->path) return sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
    t->directory = sd_ends_with(path, "/");
    if (t->directory && !sd_os_make_directory(path))
        return sd_fail(e, sd_errno_status(errno), "cannot make the directory %s: %s", path, strerror(errno));
    if (t->directory && (sd_index_read(&t->before, path, e) || sd_index_covers(&t->before, path, e))) return e->status;
    if (!t->directory && sd_is_dir(path))
        return sd_fail(e, SD_ERR_ARG, "cannot write the trace %s: it is a directory", path);
    t->data = sd_file_without_name(path, e);
    return e->status;
}

sd_status sd_trace_to_file(sd_trace **out, const char *filter, const char *path, sd_error *e)
{
    dump *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
    if (!e->status) open_data(t, path, e);
    return sd_trace_new(out, filter, &(sd_sink){.user = t, .see = see, .close = finish, .note = note, .strict = true},
                        e);
}
