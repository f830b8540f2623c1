/* tensors.c - floor 3: files of named tensors, traces above all, in the order in which they were computed.
 *
 * A header lists names in any order; the places of the numbers in the file say in which order they were written. Some
 * writers sort by name, safetensors' own for torch does. Then the names must tell. */
#include "tensors.h"

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

/* Are the tensors of each size of number sorted by name? Three and more in a row are no accident. */
static bool is_sorted(const sd_entry *const *at, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (sd_dtype_size(at[i]->dt) == sd_dtype_size(at[i - 1]->dt) && strcmp(at[i - 1]->name, at[i]->name) > 0)
            return false;
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

static sd_status open_all(sd_tensors *t, const char *path, sd_error *e)
{
    t->path = sd_strdup(path);
    if (!t->path) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
    if (sd_store_open_file(&t->store, path, e)) return e->status;
    size_t n = sd_store_count(&t->store);
    t->at = malloc((n + 1) * sizeof *t->at);
    if (!t->at) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of the tensors of %s", path);
    if (list(t, e)) return e->status;
    t->executed = !is_sorted(t->at, n);
    if (!t->executed) qsort(t->at, n, sizeof *t->at, by_execution);
    return SD_OK;
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
    free(t->at);
    free(t->path);
    *t = (sd_tensors){0};
}

void sd_tensors_used(const sd_tensors *t, const sd_entry *x) { sd_store_used(&t->store, x->data, x->bytes); }
