/* tensors.c - floor 3: files of named tensors, traces above all, in the order in which they were computed.
 *
 * A header lists names in any order; the places of the numbers in the file say in which order they were written. Some
 * writers sort by name, safetensors' own for torch does. Then the names must tell. */
#include "tensors.h"
#include "weights_values.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const sd_entry *const *)a)->name, (*(const sd_entry *const *)b)->name);
}

static int by_execution(const void *a, const void *b)
{
    int order = sd_trace_order((*(const sd_entry *const *)a)->name, (*(const sd_entry *const *)b)->name);
    return order ? order : by_name(a, b);
}

/* Are the tensors of each type sorted by name, as safetensors.torch.save_file does it? Three and more are no
 * accident. */
static bool is_sorted(const sd_entry *const *at, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (at[i]->dt == at[i - 1]->dt && strcmp(at[i - 1]->name, at[i]->name) > 0) return false;
    return n > 2;
}

/* One file after another, each as its numbers lie. */
static sd_status list(sd_tensors *t, sd_error *e)
{
    size_t n = 0;
    for (size_t i = 0; i < t->store.n_files && !e->status; i++) {
        const sd_entry **order = sd_weight_file_by_place(&t->store.file[i], e);
        if (!order) break;
        memcpy(t->at + n, order, t->store.file[i].n * sizeof *order);
        n += t->store.file[i].n;
        free(order);
    }
    t->n = n;
    return e->status;
}

/* ---------------------------------------------------------------------------- a directory of .npy files */

#define ENDING ".npy"

typedef struct listing { sd_tensors *t; sd_error *e; } listing;

/* path: of the file that has this tensor. */
static sd_status file_of(char path[4096], const sd_tensors *t, const char *name, sd_error *e)
{
    sd_text file = {0};
    sd_text_add(&file, "%s%s", name, ENDING);
    if (file.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", name);
    else sd_path_join(path, 4096, t->path, file.s, e);
    free(file.s);
    return e->status;
}

static void see_file(void *user, const char *file)
{
    listing *l = user;
    sd_tensors *t = l->t;
    if (l->e->status || !sd_has_ending(file, ENDING)) return;
    sd_entry *list = sd_grow(t->own, t->n_own, &t->cap_own, 256, sizeof *list);
    if (list) t->own = list;
    char *name = list ? sd_strdup(file) : NULL;
    if (!name) {
        sd_fail(l->e, SD_ERR_MEMORY, "no memory for a list of the files in %s", t->path);
        return;
    }
    name[strlen(name) - (sizeof ENDING - 1)] = 0;
    t->own[t->n_own++] = (sd_entry){.name = name};
}

/* What an array's header says, without its numbers: names of a file and of its tensor are the same. */
static sd_status look_into(const sd_tensors *t, sd_entry *x, sd_error *e)
{
    sd_weight_file f;
    char path[4096], *name = x->name;
    if (file_of(path, t, name, e) || sd_weight_file_open(&f, path, e)) return e->status;
    if (f.format != &sd_format_npy) sd_fail(e, SD_ERR_FORMAT, "%s is not a .npy file", path);
    else *x = f.entry[0];
    x->name = name;
    x->data = NULL;
    x->stride = NULL;
    sd_weight_file_close(&f);
    return e->status;
}

static sd_status list_directory(sd_tensors *t, sd_error *e)
{
    listing l = {t, e};
    t->raw = sd_tensors_is_raw(t->path);
    if (t->raw) return sd_tensors_list_raw(t, e);
    if (!sd_os_list(t->path, see_file, &l)) return sd_fail(e, SD_ERR_IO, "cannot read the directory %s", t->path);
    if (!e->status && !t->n_own)
        return sd_fail(e, SD_ERR_MISSING, "%s is a directory without .npy files: give a file, or one with them",
                       t->path);
    for (size_t i = 0; i < t->n_own && !e->status; i++) look_into(t, &t->own[i], e);
    if (!e->status && !sd_index_read(&t->index, t->path, e)) {
        t->meta = t->index.meta;
        t->n_meta = t->index.n_meta;
    }
    return e->status;
}

/* ------------------------------------------------------------------------------------------ the whole */

static sd_status open_all(sd_tensors *t, const char *path, sd_error *e)
{
    bool directory = sd_find_dir(path, e);
    t->path = sd_strdup(path);
    if (!t->path) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
    sd_error_clear(e);   /* opening says better why a path leads nowhere */
    if (directory ? list_directory(t, e) : sd_store_open_file(&t->store, path, e)) return e->status;
    size_t n = directory ? t->n_own : sd_store_count(&t->store);
    t->at = malloc((n + 1) * sizeof *t->at);
    if (!t->at) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of the tensors of %s", path);
    for (; t->n < t->n_own; t->n++) t->at[t->n] = &t->own[t->n];
    if (!directory && list(t, e)) return e->status;
    if (!directory && t->store.n_files) t->meta = t->store.file[0].meta;
    if (!directory && t->store.n_files) t->n_meta = t->store.file[0].n_meta;
    t->executed = t->raw || (directory ? sd_index_order(&t->index, t->at, n, e) : !is_sorted(t->at, n));
    if (!t->executed) qsort(t->at, n, sizeof *t->at, by_execution);
    return e->status;
}

void sd_joined_free(sd_joined *j)
{
    if (!j) return;
    free(j->whole.name);
    free(j->part);
    free(j);
}

/* Where it is, or belongs, in the list, which is sorted by address. */
size_t sd_tensors_place(const sd_tensors *t, const sd_entry *x)
{
    size_t low = 0, high = t->n_joined;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if ((uintptr_t)&t->joined[mid]->whole < (uintptr_t)x) low = mid + 1;
        else high = mid;
    }
    return low;
}

const sd_joined *sd_tensors_parts(const sd_tensors *t, const sd_entry *x)
{
    size_t place = sd_tensors_place(t, x);
    return place < t->n_joined && &t->joined[place]->whole == x ? t->joined[place] : NULL;
}

static void free_joined_tensors(sd_tensors *t)
{
    for (size_t i = 0; i < t->n_joined; i++) sd_joined_free(t->joined[i]);
    for (size_t i = 0; i < t->n_more; i++) sd_tensors_close(&t->more[i]);
    free(t->joined);
    free(t->more);
}

sd_status sd_tensors_open(sd_tensors *t, const char *path, sd_error *e)
{
    *t = (sd_tensors){0};
    if (open_all(t, path, e)) sd_tensors_close(t);
    return e->status;
}

void sd_tensors_close(sd_tensors *t)
{
    sd_store_close(&t->store);
    free_joined_tensors(t);
    for (size_t i = 0; i < t->n_own; i++) free(t->own[i].name);
    free(t->own);
    sd_index_free(&t->index);
    free(t->at);
    free(t->path);
    *t = (sd_tensors){0};
}

static bool is_in(const sd_entry *x, const sd_entry *list, size_t n)
{
    return n && (uintptr_t)x >= (uintptr_t)list && (uintptr_t)x < (uintptr_t)(list + n);
}

/* The file or directory that this tensor of the list is from. */
static const sd_tensors *source_of(const sd_tensors *t, const sd_entry *x)
{
    for (size_t i = 0; i < t->n_more; i++) {
        const sd_tensors *m = &t->more[i];
        if (is_in(x, m->own, m->n_own)) return m;
        for (size_t k = 0; k < m->store.n_files; k++)
            if (is_in(x, m->store.file[k].entry, m->store.file[k].n)) return m;
    }
    return t;
}

static void append(void *user, const void *bytes, size_t n)
{
    unsigned char **at = user;
    memcpy(*at, bytes, n);
    *at += n;
}

static sd_status borrow_joined(const sd_tensors *t, const sd_joined *j, sd_borrowed *b, sd_error *e)
{
    b->own = malloc(j->whole.bytes + 1);
    if (!b->own) return sd_fail(e, SD_ERR_MEMORY, "no memory to put %.200s together", j->whole.name);
    unsigned char *at = b->own;
    b->of = j->whole;
    b->of.data = b->own;
    for (size_t i = 0; i < j->n && !e->status; i++) {
        sd_borrowed part;
        if (!sd_tensors_borrow(t, j->part[i], &part, e)) sd_entry_bytes(&part.of, append, &at, e);
        sd_tensors_return(t, &part);
    }
    return e->status;
}

sd_status sd_tensors_borrow(const sd_tensors *t, const sd_entry *x, sd_borrowed *b, sd_error *e)
{
    char path[4096];
    const sd_joined *joined = sd_tensors_parts(t, x);
    *b = (sd_borrowed){.of = *x};
    if (joined) return borrow_joined(t, joined, b, e);
    t = source_of(t, x);
    if (!t->n_own) return e->status;
    if (t->raw) return sd_tensors_read_raw(t, x, b, e);
    if (file_of(path, t, x->name, e) || sd_weight_file_open(&b->file, path, e)) return e->status;
    const sd_entry *now = b->file.n ? &b->file.entry[0] : x;
    if (now->nd != x->nd || now->dt != x->dt || memcmp(now->dim, x->dim, sizeof x->dim) || now->bytes != x->bytes)
        return sd_fail(e, SD_ERR_IO, "%s was changed while it was in use", path);
    b->of = *now;
    return SD_OK;
}

void sd_tensors_return(const sd_tensors *t, sd_borrowed *b)
{
    if (!b->own && b->of.data) sd_store_used(&t->store, b->of.data, b->of.bytes);
    for (size_t i = 0; i < t->n_more && !b->own && b->of.data; i++)
        sd_store_used(&t->more[i].store, b->of.data, b->of.bytes);
    sd_weight_file_close(&b->file);
    free(b->own);
}
