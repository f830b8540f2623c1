/* compare_cut.c - floor 6: names that GGML cut. It keeps 63 letters of a tensor's name [GGML_MAX_NAME, ggml.h], and a
 * view's name is made of its tensor's, so that words such as " (view)" may be cut as well. Such a name stands for the
 * only one of the other side that begins with it; of several, for the only one that has as many numbers. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

/* Of a tensor in parts, the first part's name. */
static const char *raw_name(const sd_tensors *t, const sd_entry *x)
{
    const sd_joined *j = sd_tensors_parts(t, x);
    return j ? j->part[0]->name : x->name;
}

bool sd_is_cut(const sd_tensors *t, const sd_entry *x) { return strlen(raw_name(t, x)) == GGML_LETTERS; }

bool sd_may_be_cut(const sd_tensors *t)
{
    bool any = false;
    for (size_t i = 0; i < t->n; i++) {
        size_t n = strlen(raw_name(t, t->at[i]));
        if (n > GGML_LETTERS) return false;
        any |= n == GGML_LETTERS;
    }
    return any;
}

/* The names of the other side that may be taken, and how the search is going. */
typedef struct search {
    sd_names *of;
    const sd_tensors *t, *other;
    const sd_names *others;
    const char *prefix;      /* what was put before all names of `of` */
    bool *taken;             /* by their places */
    char **sorted;           /* the others */
} search;

static bool begins_with(const search *s, size_t k, const char *key)
{
    const char *name = s->others->name[k];
    size_t n = strlen(s->prefix);
    return sd_begins_with(name, key) || (n && strncmp(name, s->prefix, n) == 0 && sd_begins_with(name + n, key));
}

/* The only one that fits; others->n: none or several. */
static size_t find(const search *s, size_t i, size_t *fit)
{
    size_t found = s->others->n, alike = s->others->n, n_alike = 0;
    *fit = 0;
    for (size_t k = 0; k < s->others->n; k++) {
        if (s->taken[k] || !begins_with(s, k, s->of->name[i])) continue;
        ++*fit;
        found = k;
        if (sd_entry_numbers(s->other->at[k]) != sd_entry_numbers(s->t->at[i])) continue;
        n_alike++;
        alike = k;
    }
    return *fit == 1 ? found : n_alike == 1 ? alike : s->others->n;
}

static sd_status take_names(sd_comparison *c, search *s, sd_error *e)
{
    for (size_t i = 0; i < s->of->n && !e->status; i++) {
        size_t fit;
        if (!sd_is_cut(s->t, s->t->at[i]) || sd_has_name(s->sorted, s->others->n, s->of->name[i])) continue;
        size_t at = find(s, i, &fit);
        c->cut_open += at == s->others->n && fit > 1;
        if (at == s->others->n) continue;
        char *name = sd_strdup(s->others->name[at]);
        if (!name) return sd_fail(e, SD_ERR_MEMORY, "no memory to match names");
        free(s->of->name[i]);
        s->of->name[i] = name;
        s->taken[at] = true;
        c->cut++;
    }
    return e->status;
}

sd_status sd_compare_cut(sd_comparison *c, int side, sd_error *e)
{
    sd_tensors *const t[] = {&c->ref, &c->mine};
    if (e->status || !sd_may_be_cut(t[side])) return e->status;
    search s = {&c->key[side], t[side], t[!side], &c->key[!side], c->prefix[side], NULL, NULL};
    s.taken = calloc(s.others->n + 1, sizeof *s.taken);
    s.sorted = s.taken ? sd_sorted_names(s.others, e) : NULL;
    char **sorted = s.taken ? sd_sorted_names(s.of, e) : NULL;
    if (!s.taken) sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu names", s.others->n);
    for (size_t k = 0; sorted && k < s.others->n; k++)
        s.taken[k] = sd_has_name(sorted, s.of->n, s.others->name[k]);
    free(sorted);
    if (!e->status) take_names(c, &s, e);
    free(s.taken);
    free(s.sorted);
    return e->status;
}
