/* diagnose_theirs.c - floor 6: the numbers of theirs: read when they are needed, and kept as far as memory allows. */
#include "diagnose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t sd_judged_index(const sd_diagnosis *d, const char *name)
{
    size_t i = 0;
    while (i < d->n && strcmp(d->t[i].name, name) != 0) i++;
    return i;
}

sd_status sd_diagnosis_room(sd_diagnosis *d, int k, size_t n, sd_error *e)
{
    if (n <= d->room_size[k]) return SD_OK;
    free(d->room[k]);
    d->room[k] = malloc(n * sizeof *d->room[k]);
    d->room_size[k] = d->room[k] ? n : 0;
    return d->room[k] ? SD_OK : sd_fail(e, SD_ERR_MEMORY, "no memory for the numbers of a tensor");
}

/* Into `to`, n numbers; how many of them are no numbers is noted. */
static sd_status read_numbers(sd_diagnosis *d, sd_judged *t, float *to, size_t n, sd_error *e)
{
    sd_borrowed b = {.file = {0}};
    if (!sd_tensors_borrow(&d->theirs, t->theirs, &b, e)) sd_entry_to_floats(&b.of, to);
    sd_tensors_return(&d->theirs, &b);
    if (t->counted || e->status) return e->status;
    for (size_t i = 0; i < n; i++) t->odd += isfinite(to[i]) ? 0 : 1;
    t->counted = true;
    return e->status;
}

/* As many as d->may_keep allows stay in memory, for each run needs them again. */
const float *sd_their_numbers(sd_diagnosis *d, sd_judged *t, sd_error *e)
{
    size_t n = (size_t)sd_entry_numbers(t->theirs);
    double bytes = (double)n * sizeof(float);
    if (t->kept) return t->kept;
    if (bytes > d->may_keep || !(t->kept = malloc((n + 1) * sizeof *t->kept)))
        return sd_diagnosis_room(d, 0, n, e) || read_numbers(d, t, d->room[0], n, e) ? NULL : d->room[0];
    d->may_keep -= bytes;
    return read_numbers(d, t, t->kept, n, e) ? NULL : t->kept;
}
