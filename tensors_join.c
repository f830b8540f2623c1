/* tensors_join.c - floor 3: several files of tensors as one list, and several tensors as one: a batch that a program
 * computed in calls of fewer samples each. */
#include "tensors.h"
#include "weights_values.h"

#include <stdlib.h>
#include <string.h>

sd_status sd_tensors_add(sd_tensors *t, const char *path, sd_error *e)
{
    sd_tensors *list = realloc(t->more, (t->n_more + 1) * sizeof *list);
    if (list) t->more = list;
    if (!list) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
    sd_tensors *m = &t->more[t->n_more];
    if (sd_tensors_open(m, path, e)) return e->status;
    t->n_more++;
    m->begin = t->n;
    const sd_entry **at = realloc(t->at, (t->n + m->n + 1) * sizeof *at);
    if (!at) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of the tensors of %s", path);
    memcpy(at + t->n, m->at, m->n * sizeof *at);
    t->at = at;
    t->n += m->n;
    t->executed = t->executed && m->executed;
    return SD_OK;
}

static void free_joined(sd_joined *j)
{
    if (!j) return;
    free(j->whole.name);
    free(j->part);
    free(j);
}

/* "a + b", and the first dimension is the sum of theirs. */
static bool make_whole(sd_joined *j)
{
    sd_text name = {0};
    j->whole = *j->part[0];
    j->whole.data = NULL;
    j->whole.stride = NULL;
    for (size_t i = 0; i < j->n; i++) {
        sd_text_add(&name, "%s%s", i ? " + " : "", j->part[i]->name);
        if (i) j->whole.dim[0] += j->part[i]->dim[0];
    }
    j->whole.bytes = (size_t)sd_entry_numbers(&j->whole) * sd_dtype_size(j->whole.dt);
    j->whole.name = name.failed ? NULL : name.s;
    if (name.failed) free(name.s);
    return !name.failed;
}

/* Where it is, or belongs, in the list, which is sorted by address. */
static size_t place_of(const sd_tensors *t, const sd_entry *x)
{
    size_t low = 0, high = t->n_joined;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if ((uintptr_t)&t->joined[mid]->whole < (uintptr_t)x) low = mid + 1;
        else high = mid;
    }
    return low;
}

const sd_entry *sd_tensors_join(sd_tensors *t, const sd_entry *const *part, size_t n, sd_error *e)
{
    sd_joined *j = calloc(1, sizeof *j), **list = sd_grow(t->joined, t->n_joined, &t->cap_joined, 64, sizeof *list);
    if (list) t->joined = list;
    if (j) j->part = malloc(n * sizeof *j->part);
    if (j && j->part) memcpy(j->part, part, n * sizeof *part);
    if (j) j->n = n;
    if (!list || !j || !j->part || !make_whole(j)) {
        free_joined(j);
        sd_fail(e, SD_ERR_MEMORY, "no memory to put tensors of %s together", t->path);
        return NULL;
    }
    size_t place = place_of(t, &j->whole);
    memmove(t->joined + place + 1, t->joined + place, (t->n_joined - place) * sizeof *t->joined);
    t->joined[place] = j;
    t->n_joined++;
    return &j->whole;
}

const sd_joined *sd_tensors_parts(const sd_tensors *t, const sd_entry *x)
{
    size_t place = place_of(t, x);
    return place < t->n_joined && &t->joined[place]->whole == x ? t->joined[place] : NULL;
}

void sd_tensors_free_joined(sd_tensors *t)
{
    for (size_t i = 0; i < t->n_joined; i++) free_joined(t->joined[i]);
    for (size_t i = 0; i < t->n_more; i++) sd_tensors_close(&t->more[i]);
    free(t->joined);
    free(t->more);
}

/* ------------------------------------------------------------------------------------------- numbers */

static void append(void *user, const void *bytes, size_t n)
{
    unsigned char **at = user;
    memcpy(*at, bytes, n);
    *at += n;
}

sd_status sd_tensors_borrow_joined(const sd_tensors *t, const sd_joined *j, sd_borrowed *b, sd_error *e)
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
