/* inspect_diff.c - floor 6: `sd inspect --diff`: in which tensors two files or directories differ. Networks that both
 * have are compared by diffusers' names, in diffusers' shapes, whatever the files call their tensors; what no network
 * needs is then passed over. Files without such a network are compared by the names that they have. */
#include "inspect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct item {
    char *name;
    const char *type;       /* as the file spells it */
    sd_scaled numbers;
} item;

typedef struct side {
    sd_seen seen;
    item *item;             /* sorted by name */
    size_t n, cap, passed;  /* passed: tensors that no network needs */
} side;

typedef enum fate { SAME, ONLY_A, ONLY_B, SHAPE, TYPE, NUMBERS, FATES } fate;

typedef struct row { fate fate; const item *a, *b; sd_distance d; } row;

typedef struct comparison {
    side side[2];
    bool by_networks;
    row *row;               /* of what differs */
    size_t n_rows, count[FATES];
    const sd_inspect_options *o;
    sd_telling telling;
    sd_error *e;
} comparison;

/* ------------------------------------------------------------------------------------------ tensors */

static item *add_item(comparison *c, side *s, const char *prefix, const char *dot, const char *name)
{
    sd_text whole = {0};
    item *list = sd_grow(s->item, s->n, &s->cap, 1024, sizeof *list);
    if (list) s->item = list;
    sd_text_add(&whole, "%s%s%s", prefix, *prefix ? dot : "", name);
    if (!list || whole.failed) {
        free(whole.s);
        sd_fail(c->e, SD_ERR_MEMORY, "no memory to compare %s", s->seen.path);
        return NULL;
    }
    s->item[s->n] = (item){.name = whole.s};
    return &s->item[s->n++];
}

static void add_network(comparison *c, side *s, const sd_seen_part *p, const sd_seen_network *w)
{
    for (size_t i = 0; i < w->binder.n_weights && !c->e->status; i++) {
        const sd_tensor *f = w->binder.weight[i].field;
        const sd_entry *t = sd_store_find(&p->store, f->name);
        item *x = add_item(c, s, w->key, ".", f->path);
        if (!x) return;
        x->type = t ? sd_entry_dtype(t) : sd_dtype_name(f->dt);
        x->numbers = (sd_scaled){{.name = x->name, .dt = f->dt, .nd = f->nd, .data = f->data}, f->scale};
        memcpy(x->numbers.of.dim, f->dim, sizeof f->dim);
        x->numbers.of.bytes = sd_dtype_bytes(f->dt, (size_t)sd_numel(f));
    }
}

/* All tensors under their own names; or, where networks are compared, those that are known to nobody. */
static void add_entries(comparison *c, side *s, const sd_seen_part *p)
{
    size_t n = sd_store_count(&p->store);
    for (size_t i = 0; i < n && !c->e->status; i++) {
        const sd_entry *t = sd_store_at(&p->store, i);
        if (c->by_networks && t->used) continue;
        if (c->by_networks && !p->extra[i]) {
            s->passed++;
            continue;
        }
        item *x = add_item(c, s, p->name, ": ", t->name);
        if (!x) return;
        x->type = sd_entry_dtype(t);
        x->numbers.of = *t;
    }
}

static int by_name(const void *a, const void *b) { return strcmp(((const item *)a)->name, ((const item *)b)->name); }

static void list_tensors(comparison *c, side *s)
{
    for (int i = 0; i < s->seen.n_parts && !c->e->status; i++) {
        const sd_seen_part *p = &s->seen.part[i];
        for (int k = 0; k < p->is.n_networks && c->by_networks; k++) add_network(c, s, p, &p->network[k]);
        add_entries(c, s, p);
    }
    if (s->n) qsort(s->item, s->n, sizeof *s->item, by_name);
}

static bool has_network(const sd_seen *s, const char *key)
{
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++)
            if (strcmp(s->part[i].network[k].key, key) == 0 && !*s->part[i].network[k].unchecked) return true;
    return false;
}

/* A network that both have, and none that could not be bound. */
static bool share_networks(const sd_seen *a, const sd_seen *b)
{
    bool share = false;
    for (int turn = 0; turn < 2; turn++) {
        const sd_seen *s = turn ? b : a, *other = turn ? a : b;
        for (int i = 0; i < s->n_parts; i++)
            for (int k = 0; k < s->part[i].is.n_networks; k++) {
                if (*s->part[i].network[k].unchecked) return false;
                share = share || has_network(other, s->part[i].network[k].key);
            }
    }
    return share;
}

/* --------------------------------------------------------------------------------------- comparing */

static void add_row(comparison *c, fate why, const item *a, const item *b, const sd_distance *d)
{
    c->count[why]++;
    if (why != SAME) c->row[c->n_rows++] = (row){why, a, b, d ? *d : (sd_distance){.at = -1}};
}

static void compare_pair(comparison *c, const item *a, const item *b)
{
    sd_distance d;
    const sd_entry *of_a = &a->numbers.of, *of_b = &b->numbers.of;
    if (!sd_same_shape(of_a->nd, of_a->dim, of_b->nd, of_b->dim)) {
        add_row(c, SHAPE, a, b, NULL);
        return;
    }
    bool same_type = strcmp(a->type, b->type) == 0;
    if (sd_distance_of(&d, &a->numbers, &b->numbers, c->e)) return;
    add_row(c, !same_type ? TYPE : d.other ? NUMBERS : SAME, a, b, &d);
    for (int i = 0; i < c->side[0].seen.n_parts; i++)
        sd_store_used(&c->side[0].seen.part[i].store, a->numbers.of.data, a->numbers.of.bytes);
    for (int i = 0; i < c->side[1].seen.n_parts; i++)
        sd_store_used(&c->side[1].seen.part[i].store, b->numbers.of.data, b->numbers.of.bytes);
}

static void compare_all(comparison *c)
{
    const side *a = &c->side[0], *b = &c->side[1];
    c->telling = (sd_telling){.o = c->o, .what = "comparing"};
    for (size_t i = 0; i < a->n; i++) c->telling.total += (double)a->item[i].numbers.of.bytes;
    c->row = malloc((a->n + b->n + 1) * sizeof *c->row);
    if (!c->row) sd_fail(c->e, SD_ERR_MEMORY, "no memory to compare %zu tensors", a->n);
    for (size_t i = 0, k = 0; (i < a->n || k < b->n) && sd_tell(&c->telling, 0, c->e);) {
        int order = i == a->n ? 1 : k == b->n ? -1 : strcmp(a->item[i].name, b->item[k].name);
        if (order == 0) compare_pair(c, &a->item[i], &b->item[k]);
        else if (order < 0) add_row(c, ONLY_A, &a->item[i], NULL, NULL);
        else add_row(c, ONLY_B, NULL, &b->item[k], NULL);
        if (order <= 0) c->telling.done += (double)a->item[i].numbers.of.bytes;
        i += order <= 0;
        k += order >= 0;
    }
}

/* What differs most comes first. */
static int by_fate(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->fate != y->fate) return x->fate < y->fate ? -1 : 1;
    double p = sd_distance_relative(&x->d), q = sd_distance_relative(&y->d);
    if (p != q) return p > q ? -1 : 1;
    return strcmp((x->a ? x->a : x->b)->name, (y->a ? y->a : y->b)->name);
}

/* ----------------------------------------------------------------------------------------- metadata */

static const char *said(const sd_seen *s, const char *key)
{
    const char *value = NULL;
    for (int i = 0; i < s->n_parts && !value; i++) value = sd_store_meta(&s->part[i].store, key);
    return value;
}

typedef void each_pair(void *user, const char *key, const char *a, const char *b);   /* a, b NULL: not there */

/* Calls `see` for each key whose texts differ, once. */
static size_t metadata_differences(const comparison *c, each_pair *see, void *user)
{
    size_t n = 0;
    for (int turn = 0; turn < 2; turn++) {
        const sd_seen *s = &c->side[turn].seen, *other = &c->side[!turn].seen;
        for (size_t i = 0; i < sd_seen_files(s); i++)
            for (size_t k = 0; k < sd_seen_file(s, i)->n_meta; k++) {
                const sd_pair *p = &sd_seen_file(s, i)->meta[k];
                const char *theirs = said(other, p->key);
                if (said(s, p->key) != p->value || (theirs && (turn || strcmp(theirs, p->value) == 0))) continue;
                see(user, p->key, turn ? theirs : p->value, turn ? p->value : theirs);
                n++;
            }
    }
    return n;
}

/* -------------------------------------------------------------------------------------------- text */

typedef struct writing { sd_text *t; const sd_inspect_options *o; size_t n; } writing;

static void write_pair(void *user, const char *key, const char *a, const char *b)
{
    writing *w = user;
    sd_text words = {0};
    if (sd_is_kept(key)) return;
    if (w->n++ == 0) sd_text_add(w->t, "\n  headers say otherwise\n");
    sd_text_add(&words, "%s: %.60s%s / %.60s%s", key, a ? a : "-", a && strlen(a) > 60 ? "..." : "", b ? b : "-",
                b && strlen(b) > 60 ? "..." : "");
    sd_add_words(w->t, w->o, 4, &words);
}

static void write_row(sd_text *t, const row *r)
{
    const item *x = r->a ? r->a : r->b;
    sd_text_add(t, "%s: ", x->name);
    if (r->fate == TYPE) sd_text_add(t, "%s / %s, ", r->a->type, r->b->type);
    if (r->fate == SHAPE || !r->a || !r->b) {
        sd_text_add(t, "%s ", x->type);
        sd_add_shape(t, x->numbers.of.nd, x->numbers.of.dim);
    }
    if (r->fate == SHAPE) {
        sd_text_add(t, " / %s ", r->b->type);
        sd_add_shape(t, r->b->numbers.of.nd, r->b->numbers.of.dim);
    }
    if ((r->fate == TYPE || r->fate == NUMBERS) && r->d.other)
        sd_text_add(t, "%llu of %llu numbers, at most %.4g apart, at %lld; relative L2 %.3g",
                    (unsigned long long)r->d.other, (unsigned long long)r->d.n, r->d.max, (long long)r->d.at,
                    sd_distance_relative(&r->d));
    else if (r->fate == TYPE) sd_text_add(t, "the same numbers");
}

enum { MOST_ROWS = 20 };

static void write_text(comparison *c, sd_text *t)
{
    static const char *const titles[FATES] = {NULL, "only in the first", "only in the second", "of another shape",
                                              "of another type", "other numbers"};
    writing w = {t, c->o, 0};
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        sd_text what = {0};
        sd_text_add(&what, "%s: ", c->side[i].seen.path);
        sd_seen_what(&c->side[i].seen, &what);
        sd_add_words(t, c->o, 0, &what);
    }
    sd_text_add(t, "\n  %zu tensors are the same, %zu differ; matched by %s\n", c->count[SAME], c->n_rows,
                c->by_networks ? "diffusers' names" : "their names");
    if (c->side[0].passed + c->side[1].passed)
        sd_text_add(t, "  %zu and %zu that no network needs are passed over\n", c->side[0].passed, c->side[1].passed);
    for (int f = SAME + 1; f < FATES; f++) {
        if (c->count[f]) sd_text_add(t, "\n  %s (%zu)\n", titles[f], c->count[f]);
        for (size_t i = 0; i < c->count[f]; i++) {
            sd_text words = {0};
            if (i < MOST_ROWS || c->o->tensors) write_row(&words, &c->row[at + i]);
            sd_add_words(t, c->o, 4, &words);
        }
        if (c->count[f] > MOST_ROWS && !c->o->tensors)
            sd_text_add(t, "    and %zu more; --tensors lists all\n", c->count[f] - MOST_ROWS);
        at += c->count[f];
    }
    metadata_differences(c, write_pair, &w);
}

/* -------------------------------------------------------------------------------------------- JSON */

static void json_pair(void *user, const char *key, const char *a, const char *b)
{
    writing *w = user;
    sd_add_json_text(w->t, w->n++ ? ",{\"key\":" : "{\"key\":", key);
    sd_add_json_text(w->t, ",\"a\":", a);
    sd_add_json_text(w->t, ",\"b\":", b);
    sd_text_add(w->t, "}");
}

static void json_item(sd_text *t, const char *key, const item *x)
{
    if (!x) return;
    sd_add_json_text(t, key, x->type);
    sd_text_add(t, ",\"shape\":");
    sd_add_shape(t, x->numbers.of.nd, x->numbers.of.dim);
    sd_text_add(t, "}");
}

static void json_row(sd_text *t, const row *r)
{
    sd_add_json_text(t, "{\"name\":", (r->a ? r->a : r->b)->name);
    json_item(t, ",\"a\":{\"type\":", r->a);
    json_item(t, ",\"b\":{\"type\":", r->b);
    if (r->fate == TYPE || r->fate == NUMBERS) {
        sd_text_add(t, ",\"numbers\":%llu,\"other\":%llu", (unsigned long long)r->d.n, (unsigned long long)r->d.other);
        sd_add_json_number(t, ",\"max\":", r->d.max);
        sd_text_add(t, ",\"at\":%lld", (long long)r->d.at);
        sd_add_json_number(t, ",\"relative_l2\":", sd_distance_relative(&r->d));
    }
    sd_text_add(t, "}");
}

static void write_json(comparison *c, sd_text *t)
{
    static const char *const keys[FATES] = {NULL, "only_a", "only_b", "other_shape", "other_type", "other_numbers"};
    writing w = {t, c->o, 0};
    size_t at = 0;
    sd_add_json_text(t, "{\"a\":", c->side[0].seen.path);
    sd_add_json_text(t, ",\"b\":", c->side[1].seen.path);
    sd_text_add(t, ",\"different\":%s,\"matched\":\"%s\",\"same\":%zu,\"passed_over\":[%zu,%zu]",
                c->n_rows ? "true" : "false", c->by_networks ? "diffusers" : "names", c->count[SAME], c->side[0].passed,
                c->side[1].passed);
    for (int f = SAME + 1; f < FATES; f++) {
        sd_text_add(t, ",\"%s\":[", keys[f]);
        for (size_t i = 0; i < c->count[f]; i++) {
            if (i) sd_text_add(t, ",");
            json_row(t, &c->row[at + i]);
        }
        sd_text_add(t, "]");
        at += c->count[f];
    }
    sd_text_add(t, ",\"metadata\":[");
    metadata_differences(c, json_pair, &w);
    sd_text_add(t, "]}");
}

/* ------------------------------------------------------------------------------------ the interface */

static void compare(comparison *c, const char *a, const char *b, sd_text *t)
{
    if (sd_seen_open(&c->side[0].seen, a, true, c->e) || sd_seen_open(&c->side[1].seen, b, true, c->e)) return;
    c->by_networks = share_networks(&c->side[0].seen, &c->side[1].seen);
    for (int i = 0; i < 2; i++) list_tensors(c, &c->side[i]);
    if (!c->e->status) compare_all(c);
    if (c->e->status) return;
    if (c->n_rows) qsort(c->row, c->n_rows, sizeof *c->row, by_fate);
    (c->o->json ? write_json : write_text)(c, t);
}

sd_status sd_inspect_diff(const char *a, const char *b, const sd_inspect_options *options, char **text, int *different,
                          char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_text t = {0};
    const sd_inspect_options o = sd_inspect_options_of(options);
    if (error) *error = 0;
    if (!text || !different) return SD_ERR_ARG;
    *text = NULL;
    *different = 0;
    comparison *c = calloc(1, sizeof *c);
    if (!a || !b) sd_fail(&e, SD_ERR_ARG, "the paths to compare must not be NULL");
    else if (!c) sd_fail(&e, SD_ERR_MEMORY, "no memory to compare %.200s", a);
    if (c && !e.status) {
        c->o = &o;
        c->e = &e;
        compare(c, a, b, &t);
        *different = c->n_rows > 0;
    }
    for (int i = 0; i < 2 && c; i++) {
        for (size_t k = 0; k < c->side[i].n; k++) free(c->side[i].item[k].name);
        free(c->side[i].item);
        sd_seen_close(&c->side[i].seen);
    }
    if (c) free(c->row);
    free(c);
    return sd_inspect_end(&t, text, error, &e);
}
