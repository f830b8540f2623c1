/* compare.c - floor 6: two traces, tensor by tensor in the order of execution. Tensors are matched by name, read
 * once, pair by pair, and let go. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------- pairs by name */

/* The walk through the list that has the order; tensors of the other that stand behind a matched one come behind it. */
typedef struct walk {
    sd_comparison *c;
    const sd_tensors *lead, *other;
    const sd_names *lead_list, *other_list;   /* the names under which they are looked for: c->key */
    sd_name_index lead_names, other_names;    /* the same, sorted */
} walk;

static void add_row(walk *w, const char *key, const sd_entry *lead, const sd_entry *other)
{
    bool ref_leads = w->lead == &w->c->ref;
    const sd_entry *ref = ref_leads ? lead : other, *mine = ref_leads ? other : lead;
    sd_verdict v = ref && mine ? SD_AGREES : ref ? SD_ONLY_REF : SD_ONLY_MINE;
    w->c->renamed += ref && mine && strcmp(ref->name, mine->name) != 0;
    w->c->joined += ref && mine && (sd_tensors_parts(&w->c->ref, ref) || sd_tensors_parts(&w->c->mine, mine));
    if (!ref && sd_find_name(ref_leads ? &w->lead_names : &w->other_names, key) && w->c->taken++ == 0)
        w->c->first_taken = w->c->n;
    w->c->row[w->c->n++] = (sd_compared){.ref = ref, .mine = mine, .key = key, .verdict = v, .d = {.at = -1}};
}

/* The one of the other list that the tensor at `place` of the list `of` is compared with; NULL: none. Of several under
 * one name only one is. */
static const sd_named *partner(const sd_name_index *of, const sd_name_index *others, const char *name, size_t place)
{
    const sd_named *at = sd_find_name(others, name);
    return at && sd_find_name(of, name)->place == place ? at : NULL;
}

/* Tensors that the other alone has, from `place` on in its list, up to the next that both have. */
static void add_others(walk *w, size_t place)
{
    for (; place < w->other->n && !partner(&w->other_names, &w->lead_names, w->other_list->name[place], place); place++)
        add_row(w, w->other_list->name[place], NULL, w->other->at[place]);
}

static void match(walk *w)
{
    add_others(w, 0);
    for (size_t i = 0; i < w->lead->n; i++) {
        const sd_named *at = partner(&w->lead_names, &w->other_names, w->lead_list->name[i], i);
        add_row(w, w->lead_list->name[i], w->lead->at[i], at ? w->other->at[at->place] : NULL);
        if (at) add_others(w, at->place + 1);
    }
}

sd_status sd_compare_rows(sd_comparison *c, const char *mapping, sd_error *e)
{
    bool mine_leads = !c->ref.executed && c->mine.executed;
    walk w = {c, mine_leads ? &c->mine : &c->ref, mine_leads ? &c->ref : &c->mine, &c->key[mine_leads],
              &c->key[!mine_leads], {0}, {0}};
    c->order = mine_leads ? "MINE's file" : c->ref.executed ? "REF's file" : "the names";
    c->row = calloc(c->ref.n + c->mine.n + 1, sizeof *c->row);
    if (!c->row) sd_fail(e, SD_ERR_MEMORY, "no memory to compare %zu tensors", c->ref.n);
    else if (!sd_compare_names(c, mapping, e) &&
             !(c->may_guess && sd_compare_guess(c, &c->key[0], &c->key[1], e)) &&
             !sd_index_names(&w.lead_names, w.lead_list, e) && !sd_index_names(&w.other_names, w.other_list, e))
        match(&w);
    sd_compare_check_mapping(c, e);
    free(w.lead_names.list);
    free(w.other_names.list);
    return e->status;
}

/* ------------------------------------------------------------------------------------- numbers */

static sd_status measure(sd_compared *r, const sd_tolerance *within, sd_error *e)
{
    const sd_scaled a = {.of = *r->ref}, b = {.of = *r->mine};
    if (sd_distance_within(&r->d, &a, &b, within, e)) return e->status;
    r->error = sd_distance_relative(&r->d);
    if (r->d.at >= 0) {
        r->value[0] = sd_entry_number(r->ref, (uint64_t)r->d.at);
        r->value[1] = sd_entry_number(r->mine, (uint64_t)r->d.at);
    }
    return SD_OK;
}

/* Equal numbers may have been seen by their bytes alone: then how many of them are no numbers is still to be told. */
static sd_status count_odd(sd_compared *r, sd_error *e)
{
    sd_values v;
    if (r->d.other || !sd_has_error(r) || sd_values_of(&v, r->ref, e)) return e->status;
    r->d.odd[0] = r->d.odd[1] = v.nan + v.inf;
    return SD_OK;
}

/* Shapes come first, for they cost nothing. */
static sd_verdict verdict_of_kind(const sd_entry *a, const sd_entry *b)
{
    if (a->dt == SD_DTYPE_UNKNOWN || b->dt == SD_DTYPE_UNKNOWN) return SD_UNREADABLE;
    return a->nd == b->nd && !memcmp(a->dim, b->dim, (size_t)a->nd * sizeof *a->dim) ? SD_AGREES : SD_OTHER_SHAPE;
}

static sd_status compare_pair(sd_comparison *c, sd_compared *r, sd_error *e)
{
    sd_borrowed a = {.file = {0}}, b = {.file = {0}};
    sd_compared with_numbers = *r;
    r->verdict = with_numbers.verdict = verdict_of_kind(r->ref, r->mine);
    if (r->verdict == SD_UNREADABLE) return e->status;
    if (!sd_tensors_borrow(&c->ref, r->ref, &a, e) && !sd_tensors_borrow(&c->mine, r->mine, &b, e)) {
        with_numbers.ref = &a.of;
        with_numbers.mine = &b.of;
        if (r->verdict == SD_AGREES) measure(&with_numbers, &c->within, e);
        if (!e->status && !sd_compare_layouts(&with_numbers, &c->within, &c->exchanged, e)) count_odd(&with_numbers, e);
        with_numbers.ref = r->ref;
        with_numbers.mine = r->mine;
        *r = with_numbers;
    }
    sd_tensors_return(&c->ref, &a);
    sd_tensors_return(&c->mine, &b);
    c->compared += sd_has_error(r);
    c->relaid += r->layout != NULL;
    return e->status;
}

static sd_status compare_all(sd_comparison *c, const sd_inspect_options *o, sd_error *e)
{
    sd_telling telling = {.o = o, .what = "comparing"};
    for (size_t i = 0; i < c->n; i++)
        if (c->row[i].ref && c->row[i].mine) telling.total += (double)c->row[i].ref->bytes;
    for (size_t i = 0; i < c->n && sd_tell(&telling, 0, e); i++) {
        sd_compared *r = &c->row[i];
        if (!r->ref || !r->mine || compare_pair(c, r, e)) continue;
        sd_tell(&telling, (double)r->ref->bytes, e);
    }
    if (!sd_store_still_there(&c->ref.store, e)) sd_store_still_there(&c->mine.store, e);
    return e->status;
}

sd_status sd_comparison_make(sd_comparison *c, const char *ref, const char *mine, const sd_compare_options *given,
                             sd_error *e)
{
    const sd_inspect_options o = {.size = sizeof o, .progress = given->progress, .user = given->user};
    c->within = (sd_tolerance){given->rtol, given->atol};
    c->may_guess = true;
    if (sd_tensors_open(&c->ref, ref, e) || sd_tensors_open(&c->mine, mine, e)) return e->status;
    for (int i = 0; i < given->n_calls; i++)
        if (sd_tensors_add(&c->mine, given->calls[i], e)) return e->status;
    if (sd_compare_settings(c, e) || sd_compare_rows(c, given->names, e)) return e->status;
    size_t pairs = 0;
    for (size_t i = 0; i < c->n; i++) pairs += c->row[i].ref && c->row[i].mine;
    if (!pairs)
        return sd_fail(e, SD_ERR_FORMAT, "no tensor has the same name in both%s: %.100s has \"%.80s\" and %zu more, "
                       "%.100s has \"%.80s\" and %zu more",
                       c->not_guessed ? ", and they are too many to guess which is which (--names says it)" : "", ref,
                       c->ref.n ? c->ref.at[0]->name : "nothing", c->ref.n ? c->ref.n - 1 : 0, mine,
                       c->mine.n ? c->mine.at[0]->name : "nothing", c->mine.n ? c->mine.n - 1 : 0);
    return compare_all(c, &o, e);
}

void sd_comparison_free(sd_comparison *c)
{
    sd_tensors_close(&c->ref);
    sd_tensors_close(&c->mine);
    for (int i = 0; i < 2; i++) sd_names_free(&c->key[i]);
    sd_mapping_free(&c->mapping);
    free(c->row);
    free(c->setting);
    sd_detail_free(c->detail);
    free(c->module);
    if (c->own) sd_comparison_free(c->own);
    free(c->own);
    free(c->guessed);
}
