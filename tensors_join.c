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

const sd_entry *sd_tensors_join(sd_tensors *t, const sd_entry *const *part, size_t n, sd_error *e)
{
    sd_joined *j = calloc(1, sizeof *j), **list = sd_grow(t->joined, t->n_joined, &t->cap_joined, 64, sizeof *list);
    if (list) t->joined = list;
    if (j) j->part = malloc(n * sizeof *j->part);
    if (j && j->part) memcpy(j->part, part, n * sizeof *part);
    if (j) j->n = n;
    if (!list || !j || !j->part || !make_whole(j)) {
        sd_joined_free(j);
        sd_fail(e, SD_ERR_MEMORY, "no memory to put tensors of %s together", t->path);
        return NULL;
    }
    size_t place = sd_tensors_place(t, &j->whole);
    memmove(t->joined + place + 1, t->joined + place, (t->n_joined - place) * sizeof *t->joined);
    t->joined[place] = j;
    t->n_joined++;
    return &j->whole;
}

