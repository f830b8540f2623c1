/* compare_parts.c - floor 6: a batch that one program computes at once and the other in calls of fewer samples each:
 * [negative, positive] as NAME.uncond and NAME.cond, as call_0.NAME and call_1.NAME, or in a file for each call. Such
 * parts become one tensor. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

enum { CALLS = 64 };

/* Which part of the batch a word means: the negative prompt comes first, as in our traces. */
static const struct { const char *word; int part; } words[] = {
    {"uncond", 0}, {"unconditional", 0}, {"negative", 0}, {"neg", 0}, {"uc", 0},
    {"cond", 1}, {"conditional", 1}, {"positive", 1}, {"pos", 1},
};
/* These have a number: "call_1", "call1", "call.1". */
static const char *const numbered[] = {"call", "pass", "batch", "chunk", "sample", "part", "half"};

/* A tensor that may be a part: its name without what says so. */
typedef struct piece { char *name; int part; size_t place; } piece;

static bool same(const char *a, size_t n, const char *b) { return strlen(b) == n && memcmp(a, b, n) == 0; }

/* How many letters at the end of a path's part name a part of the batch; 0: none. */
static size_t word_at_end(const char *s, size_t n, int *part)
{
    for (size_t i = 0; i < SD_COUNT(words); i++) {
        size_t m = strlen(words[i].word);
        bool whole = same(s, n, words[i].word);
        *part = words[i].part;
        if (whole) return n;
        if (n > m + 1 && s[n - m - 1] == '_' && same(s + n - m, m, words[i].word)) return m + 1;
    }
    return 0;
}

/* How many letters at s are "call_1" or "call.1", up to the end of a path's part; 0: they are not. */
static size_t call_at(const char *s, int *part)
{
    for (size_t i = 0; i < SD_COUNT(numbered); i++) {
        if (!sd_begins_with(s, numbered[i])) continue;
        size_t m = strlen(numbered[i]);
        m += s[m] == '_' || s[m] == '.';
        size_t digits = strspn(s + m, "0123456789");
        if (!digits || digits > 2 || (s[m + digits] && s[m + digits] != '.')) continue;
        *part = (int)strtol(s + m, NULL, 10);
        return m + digits;
    }
    return 0;
}

/* How many letters at the end are "#1"; 0: none. */
static size_t number_at_end(const char *name, int *part)
{
    const char *mark = strrchr(name, '#');
    if (!mark || mark == name || strlen(mark) < 2 || strlen(mark) > 3 || mark[1 + strspn(mark + 1, "0123456789")])
        return 0;
    *part = (int)strtol(mark + 1, NULL, 10);
    return strlen(mark);
}

/* The name without n letters from `at` on, and without the dot that is then too much. */
static char *without(const char *name, size_t at, size_t n)
{
    sd_text t = {0};
    size_t end = at + n;
    if ((at == 0 || name[at - 1] == '.') && name[end] == '.') end++;
    else if (at && name[at - 1] == '.' && !name[end]) at--;
    sd_text_addn(&t, name, at);
    sd_text_add(&t, "%s", name + end);
    if (!t.failed) return t.s;
    free(t.s);
    return NULL;
}

/* The name without what says which part it is; NULL: nothing does, or out of memory. */
static char *part_of(const char *name, int *part)
{
    for (const char *at = name; *at;) {
        size_t n = strcspn(at, "."), m = call_at(at, part);
        if (m) return without(name, (size_t)(at - name), m);
        m = word_at_end(at, n, part);
        if (m) return without(name, (size_t)(at - name) + n - m, m);
        at += n + (at[n] == '.');
    }
    size_t m = number_at_end(name, part);
    return m ? without(name, strlen(name) - m, m) : NULL;
}

static int by_name(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->part != y->part ? x->part - y->part : (x->place > y->place) - (x->place < y->place);
}

/* Which of several files a place in the list is from. */
static int file_of(const sd_tensors *t, size_t place)
{
    int file = 0;
    for (size_t i = 0; i < t->n_more; i++) file += place >= t->more[i].begin;
    return file;
}

static sd_status find_pieces(piece **out, size_t *n, const sd_names *names, const sd_tensors *t, sd_error *e)
{
    piece *list = *out = calloc(names->n + 1, sizeof *list);
    *n = 0;
    if (!list) return sd_fail(e, SD_ERR_MEMORY, "no memory to compare %zu tensors", names->n);
    for (size_t i = 0; i < names->n; i++) {
        int part = 0;
        char *name = part_of(names->name[i], &part);
        if (!name && t->n_more) name = sd_strdup(names->name[i]);
        if (!name) continue;
        if (!*name || t->at[i]->nd == 0) free(name);
        else list[(*n)++] = (piece){name, file_of(t, i) * CALLS + part, i};
    }
    if (*n) qsort(list, *n, sizeof *list, by_name);
    return SD_OK;
}

/* Do these pieces of one name make a whole? */
static bool fit(const piece *p, size_t n, const sd_tensors *t)
{
    const sd_entry *first = t->at[p[0].place];
    for (size_t i = 1; i < n; i++) {
        const sd_entry *x = t->at[p[i].place];
        bool shape = x->nd == first->nd && !memcmp(x->dim + 1, first->dim + 1, sizeof x->dim - sizeof *x->dim);
        if (!shape || x->dt != first->dt || p[i].part == p[i - 1].part) return false;
    }
    return n > 1 && n <= CALLS && sd_dtype_block(first->dt) == 1 && sd_dtype_size(first->dt);
}

static sd_status join(const piece *p, size_t n, sd_names *names, sd_tensors *t, sd_error *e)
{
    const sd_entry *part[CALLS];
    size_t first = p[0].place;
    for (size_t i = 0; i < n; i++) {
        part[i] = t->at[p[i].place];
        if (p[i].place < first) first = p[i].place;
    }
    const sd_entry *whole = sd_tensors_join(t, part, n, e);
    char *name = whole ? sd_strdup(p[0].name) : NULL;
    if (!name) return e->status ? e->status : sd_fail(e, SD_ERR_MEMORY, "no memory to match names");
    for (size_t i = 0; i < n; i++) t->at[p[i].place] = NULL;
    t->at[first] = whole;
    free(names->name[first]);
    names->name[first] = name;
    return SD_OK;
}

/* Takes out what has become part of another. */
static void close_gaps(sd_names *names, sd_tensors *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (!t->at[i]) {
            free(names->name[i]);
            continue;
        }
        t->at[n] = t->at[i];
        names->name[n++] = names->name[i];
    }
    t->n = names->n = n;
}

/* What has a tensor of this name already is not a batch in parts: noise_pred beside noise_pred_uncond. */
static void drop_taken(piece *list, size_t *n, char *const *sorted, size_t n_sorted)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        if (sd_has_name(sorted, n_sorted, list[i].name)) free(list[i].name);
        else list[kept++] = list[i];
    }
    *n = kept;
}

sd_status sd_join_parts(sd_names *names, sd_tensors *t, sd_error *e)
{
    piece *list;
    size_t n;
    if (find_pieces(&list, &n, names, t, e)) return e->status;
    if (!t->n_more) {
        char **sorted = sd_sorted_names(names, e);
        if (sorted) drop_taken(list, &n, sorted, names->n);
        free(sorted);
    }
    for (size_t i = 0, end; i < n && !e->status; i = end) {
        for (end = i + 1; end < n && strcmp(list[end].name, list[i].name) == 0;) end++;
        if (fit(list + i, end - i, t)) join(list + i, end - i, names, t, e);
    }
    close_gaps(names, t);
    for (size_t i = 0; i < n; i++) free(list[i].name);
    free(list);
    return e->status;
}

/* ------------------------------------------------------------------------------------ and apart again */

/* Puts the parts of the joined tensor at `place` in its stead. There is room, for they were in the list before. */
static sd_status part_again(sd_names *names, sd_tensors *t, size_t place, const char *prefix, sd_error *e)
{
    const sd_joined *j = sd_tensors_parts(t, t->at[place]);
    size_t more = j->n - 1;
    memmove(t->at + place + j->n, t->at + place + 1, (t->n - place - 1) * sizeof *t->at);
    memmove(names->name + place + j->n, names->name + place + 1, (t->n - place - 1) * sizeof *names->name);
    free(names->name[place]);
    t->n = names->n += more;
    for (size_t i = 0; i <= more; i++) {
        char *plain = sd_plain_name(j->part[i]->name);
        sd_text name = {0};
        sd_text_add(&name, "%s%s", prefix, plain ? plain : "");
        t->at[place + i] = j->part[i];
        names->name[place + i] = name.s;
        if (!plain || name.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to match names");
        free(plain);
    }
    return e->status;
}

sd_status sd_part_misfits(sd_names *names, sd_tensors *t, const sd_names *others, const sd_tensors *other,
                          const char *prefix, sd_error *e)
{
    if (e->status || !t->n_joined) return e->status;
    sd_name_index index;
    if (sd_index_names(&index, others, e)) return e->status;
    for (size_t i = 0; i < t->n && !e->status; i++) {
        if (!sd_tensors_parts(t, t->at[i])) continue;
        const sd_named *of = sd_find_name(&index, names->name[i]);
        if (!of || sd_entry_numbers(other->at[of->place]) != sd_entry_numbers(t->at[i]))
            part_again(names, t, i, prefix, e);
    }
    free(index.list);
    return e->status;
}
