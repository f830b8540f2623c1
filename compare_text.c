/* compare_text.c - floor 6: what `sd compare` found, as a text: the first divergence in the first line. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEFORE = 4, BEHIND = 8, WORST = 5, NAMES = 10, MODULES = 8 };

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

/* ----------------------------------------------------------------------------------- the first line */

static void add_shapes(sd_text *t, const sd_compared *r)
{
    sd_text_add(t, "REF ");
    sd_add_shape(t, r->ref->nd, r->ref->dim);
    sd_text_add(t, ", MINE ");
    sd_add_shape(t, r->mine->nd, r->mine->dim);
}

static void add_error(sd_text *t, const sd_comparison *c, const sd_compared *r)
{
    if (!(r->error < HUGE_VAL) && (r->d.odd[0] || r->d.odd[1])) {
        sd_add_odd(t, r);
        return;
    }
    sd_text_add(t, "relative L2 error %.3g", r->error);
    if (sd_is_input(sd_compared_name(r))) sd_text_add(t, " in what the run begins from");
    else if (r->floor > 0) sd_text_add(t, ", %.3g times what float32 does here, %.2g", sd_times(r), r->floor);
    else sd_text_add(t, ", %.3g times the level of %.2g %s", sd_times(r), r->level,
                     c->apart ? "for one operation" : "before it");
}

/* Tensors that have the same NaN and infinities in both are no divergence, but hardly what anybody wants. */
static void add_odd_in_both(sd_text *t, const sd_comparison *c)
{
    size_t first, n = sd_odd_in_both(c, &first);
    if (n)
        sd_text_add(t, ", but %zu tensor%s NaN or infinities in both, first %s", n, n == 1 ? " has" : "s have",
                    sd_compared_name(&c->row[first]));
}

/* One alone, where all others are as they are in REF, is named: that is a fault of the program more often than of its
 * dump. */
static void add_relaid(sd_text *t, const sd_comparison *c)
{
    const sd_compared *r = c->row;
    if (c->relaid != 1 || c->compared == 1) {
        if (c->relaid) sd_text_add(t, " (%zu in another layout)", c->relaid);
        return;
    }
    while (!r->layout) r++;
    sd_text_add(t, ", but %s alone is in another layout: %s", sd_compared_name(r), r->layout);
}

/* What the third trace says, if there is one. */
static void add_own(sd_text *t, const sd_comparison *c)
{
    const sd_comparison *own = c->own;
    if (!own || own->first == own->n) return;
    sd_text_add(t, "; on %s's own inputs %zu module%s add%s more than one operation may be off, first at %s",
                c->own_side ? "MINE" : "REF", c->added, plural(c->added), c->added == 1 ? "s" : "",
                sd_compared_name(&own->row[own->first]));
}

static void headline(const sd_comparison *c, sd_text *t)
{
    const sd_compared *r = &c->row[c->first];
    if (c->first == c->n) {
        sd_text_add(t, "no divergence: %zu tensor%s agree%s", c->compared, plural(c->compared),
                    c->compared == 1 ? "s" : "");
        if (c->row[c->worst].error > 0)
            sd_text_add(t, ", the largest relative L2 error is %.3g, of %s", c->row[c->worst].error,
                        sd_compared_name(&c->row[c->worst]));
        else sd_text_add(t, ", every number is the same");
    } else if (r->verdict == SD_DIVERGES) {
        sd_text_add(t, "diverges first at %s: ", sd_compared_name(r));
        add_error(t, c, r);
    } else {
        sd_text_add(t, "first %s: %s: ", r->verdict == SD_OTHER_SHAPE ? "of another shape" : "that cannot be read",
                    sd_compared_name(r));
        if (r->verdict == SD_OTHER_SHAPE) add_shapes(t, r);
        else sd_text_add(t, "REF has %s, MINE %s", sd_entry_dtype(r->ref), sd_entry_dtype(r->mine));
    }
}

/* ------------------------------------------------------------------------------ about that tensor */

static void add_place(sd_text *t, const sd_compared *r)
{
    int64_t index[SD_COUNT(r->ref->dim)], at = r->d.at;
    for (int d = r->ref->nd; d-- > 0; at /= r->ref->dim[d]) index[d] = at % r->ref->dim[d];
    sd_add_shape(t, r->ref->nd, index);
}

static void add_measures(sd_text *t, const sd_compared *r)
{
    const sd_distance *d = &r->d;
    double scale, shift, left;
    sd_text_add(t, "%s ", sd_entry_dtype(r->ref));
    sd_add_shape(t, r->ref->nd, r->ref->dim);
    sd_text_add(t, ": %llu of %llu numbers differ, at most by %.4g, at ", (unsigned long long)d->other,
                (unsigned long long)d->n, d->max);
    add_place(t, r);
    sd_text_add(t, ", REF %.6g, MINE %.6g; cosine %.9g, NMSE %.1f dB", r->value[0], r->value[1], sd_cosine(d),
                sd_nmse_db(d));
    if (d->odd[0] || d->odd[1]) sd_text_add(t, "; ");
    if (d->odd[0] || d->odd[1]) sd_add_odd(t, r);
    if (sd_fit(d, &scale, &shift, &left))
        sd_text_add(t, "; the best MINE = a REF + b has a = %.6g, b = %.3g and leaves %.3g of the squared error%s",
                    scale, shift, left, left < 1e-3 ? ": MINE is scaled or shifted" : "");
}

/* Names of rows from .. to - 1 with this verdict, the first few. */
static size_t add_names(sd_text *t, const sd_comparison *c, size_t from, size_t to, sd_verdict v, bool all)
{
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        if (c->row[i].verdict != v) continue;
        if (n < NAMES || all) sd_text_add(t, "%s%s", n ? ", " : "", sd_compared_name(&c->row[i]));
        n++;
    }
    if (n > NAMES && !all) sd_text_add(t, " and %zu more", n - NAMES);
    return n;
}

static void bracket(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    size_t from = c->good == c->n ? 0 : c->good + 1;
    sd_text words = {0}, list = {0};
    if (c->good == c->n) sd_text_add(&words, "no tensor before it agrees");
    else
        sd_text_add(&words, "the last before it that agrees: %s, error %.3g", sd_compared_name(&c->row[c->good]),
                    c->row[c->good].error);
    size_t n = add_names(&list, c, from, c->first, SD_ONLY_REF, s->all);
    if (n) sd_text_add(&words, "; between them only REF has %zu, dump these in MINE next: %s", n, list.s ? list.s : "");
    free(list.s);
    list = (sd_text){0};
    n = add_names(&list, c, from, c->first, SD_ONLY_MINE, s->all);
    if (n) sd_text_add(&words, "; between them only MINE has %zu: %s", n, list.s ? list.s : "");
    free(list.s);
    sd_add_words(t, s->o, 2, &words);
}

/* ------------------------------------------------------------------------------------------ the table */

static void add_row(const sd_compared *r, sd_text *t)
{
    static const char *const says[SD_VERDICTS] = {"", "", "another shape", "unreadable", "only REF", "only MINE"};
    if (!sd_has_error(r)) {
        sd_text_add(t, "  %c %-38s  %s", sd_is_fault(r) ? '*' : ' ', says[r->verdict], sd_compared_name(r));
        if (r->verdict == SD_OTHER_SHAPE) sd_text_add(t, "  ");
        if (r->verdict == SD_OTHER_SHAPE) add_shapes(t, r);
    } else {
        sd_text_add(t, "  %c %8.2e %8.3g %8.2e %11.8f  %s", r->verdict == SD_DIVERGES ? '*' : ' ', r->error,
                    sd_times(r), r->d.max, sd_cosine(&r->d), sd_compared_name(r));
    }
    if (r->layout) sd_text_add(t, "  (%s)", r->layout);
    sd_text_add(t, "\n");
}

static void title(sd_text *t, const sd_comparison *c, const char *what)
{
    sd_text_add(t, "\n  %s\n    relative  x %s  max abs      cosine\n", what, c->floors ? "floor" : "level");
}

static bool is_worse(const sd_compared *a, const sd_compared *b)
{
    return sd_has_error(a) && (!b || a->error > b->error);
}

/* In the table of the largest errors: of equal ones the first comes first. last: NULL, the table is empty. */
static bool is_behind(const sd_compared *r, const sd_compared *last)
{
    return !last || r->error < last->error || (r->error == last->error && r > last);
}

static void add_worst(const sd_comparison *c, sd_text *t)
{
    const sd_compared *last = NULL;
    title(t, c, "the largest errors");
    for (int k = 0; k < WORST; k++) {
        const sd_compared *next = NULL;
        for (size_t i = 0; i < c->n; i++)
            if (is_worse(&c->row[i], next) && is_behind(&c->row[i], last)) next = &c->row[i];
        if (!next || next->error == 0) break;
        add_row(next, t);
        last = next;
    }
}

static void add_table(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    bool found = c->first < c->n;
    size_t from = s->all || c->first < BEFORE ? 0 : c->first - BEFORE;
    size_t to = s->all || c->first + BEHIND > c->n ? c->n : c->first + BEHIND;
    if (s->all || found) title(t, c, s->all ? "all tensors; * diverges" : "about the first divergence; * diverges");
    for (size_t i = from; i < to && (s->all || found); i++) add_row(&c->row[i], t);
    if (!s->all && c->compared && c->row[c->worst].error > 0) add_worst(c, t);
}

/* ------------------------------------------------------------------------------------------- modules */

static void add_or_blank(sd_text *t, const char *format, double x)
{
    if (x >= 0) sd_text_add(t, format, x);
    else sd_text_add(t, "%10s", "");
}

static void add_module(const sd_comparison *c, const sd_added *m, sd_text *t)
{
    const char *tensor = m->at ? m->at->key : "";
    sd_text_add(t, "  %c ", c->measured && m->times > 1 ? '*' : ' ');
    add_or_blank(t, "%10.2e", m->inherited);
    add_or_blank(t, "%10.2e", m->error);
    add_or_blank(t, "%10.2e", m->added);
    add_or_blank(t, "%10.3g", m->times);
    sd_text_add(t, "  %.*s", (int)m->length, m->name);
    if (c->measured && strlen(tensor) > m->length) sd_text_add(t, " (%s)", tensor + m->length + 1);
    sd_text_add(t, "\n");
}

/* Those that add most, the first of them first. */
static void add_most(const sd_comparison *c, sd_text *t)
{
    bool *shown = calloc(c->n_modules + 1, sizeof *shown);
    for (int k = 0; k < MODULES && shown; k++) {
        size_t next = c->n_modules;
        for (size_t i = 0; i < c->n_modules; i++)
            if (!shown[i] && (next == c->n_modules || c->module[i].times > c->module[next].times)) next = i;
        if (next == c->n_modules || !(c->module[next].times > 0)) break;
        shown[next] = true;
        add_module(c, &c->module[next], t);
    }
    free(shown);
}

void sd_add_what_modules_add(sd_text *t, const sd_comparison *c)
{
    static const char *const sides[] = {"REF", "MINE"};
    if (!c->measured)
        sd_text_add(t, "by module, estimated: inherited is the largest error of its inputs, added the part of its "
                    "result's error that is not theirs, x its result's error in those inherited (--injected FILE "
                    "measures what it adds)");
    else
        sd_text_add(t, "by module: added is its largest error on %s%s, x that in what one operation may be off; %zu of "
                    "%zu add more than that", c->own ? sides[c->own_side] : "the other's",
                    c->own ? "'s own inputs" : " inputs", c->added, c->n_modules);
    if (c->own)
        sd_text_add(t, ", as %s has it", c->own_side ? c->own->ref.path : c->own->mine.path);
}

static void modules(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    sd_text words = {0};
    if (!c->n_modules || (c->first == c->n && !s->all && !c->own)) return;
    sd_text_add(t, "\n");
    sd_add_what_modules_add(&words, c);
    sd_add_words(t, s->o, 2, &words);
    sd_text_add(t, "     inherited    result     added         x\n");
    if (!s->all) add_most(c, t);
    else for (size_t i = 0; i < c->n_modules; i++) add_module(c, &c->module[i], t);
}

/* ------------------------------------------------------------------------------- settings and inputs */

static void settings(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    sd_text words = {0};
    for (size_t i = 0; i < c->n_settings; i++) {
        const sd_setting *x = &c->setting[i];
        sd_text_add(&words, "%s%s: ", i ? "; " : "settings that differ: ", x->key);
        if (*x->how) sd_text_add(&words, "%s", x->how);
        else sd_text_add(&words, "REF \"%s\", MINE \"%s\"", x->ref, x->mine);
    }
    if (!c->n_settings && c->settings)
        sd_text_add(&words, "%zu setting%s that both files tell agree%s", c->settings, plural(c->settings),
                    c->settings == 1 ? "s" : "");
    sd_add_words(t, s->o, 2, &words);
}

/* All that the run begins from, wherever it is used. */
static void inputs(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    size_t agree = 0, others = 0;
    sd_text words = {0}, list = {0};
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        if (!r->ref || !r->mine || !sd_is_input(sd_compared_name(r))) continue;
        agree += r->verdict == SD_AGREES;
        if (r->verdict == SD_AGREES || ++others > NAMES) continue;
        sd_text_add(&list, "%s%s: ", others > 1 ? "; " : "", sd_compared_name(r));
        if (r->verdict == SD_OTHER_SHAPE) add_shapes(&list, r);
        else sd_add_input(&list, r);
    }
    if (others)
        sd_text_add(&words, "inputs that differ (%zu of %zu): %s", others, others + agree, list.s ? list.s : "");
    else if (agree) sd_text_add(&words, "%zu input%s agree%s: tokens, noise, timesteps", agree, plural(agree),
                                agree == 1 ? "s" : "");
    if (others > NAMES) sd_text_add(&words, " and %zu more", others - NAMES);
    free(list.s);
    sd_add_words(t, s->o, 2, &words);
}

static void add_side(sd_text *t, const char *side, const sd_tensors *of)
{
    sd_text maker = {0};
    sd_add_maker(&maker, of);
    sd_text_add(t, "  %s %s%s%s%s\n", side, of->path, maker.n ? " (" : "", maker.n ? maker.s : "", maker.n ? ")" : "");
    free(maker.s);
}

/* ------------------------------------------------------------------------------------------ the whole */

/* Pairs under two names, and pairs in another layout: the first few, or all. */
static void add_guesses(sd_text *t, const sd_comparison *c, bool layouts, bool all)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        if (layouts ? !r->layout : !r->ref || !r->mine || strcmp(r->ref->name, r->mine->name) == 0) continue;
        if (n < NAMES || all)
            sd_text_add(t, "%s%s %s %s", n ? ", " : "", layouts ? r->layout : r->mine->name, layouts ? "in" : "is",
                        r->ref->name);
        n++;
    }
    if (n > NAMES && !all) sd_text_add(t, " and %zu more", n - NAMES);
}

static void guesses(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    sd_text words = {0};
    for (int i = 0; i < 2; i++)
        if (*c->prefix[i])
            sd_text_add(&words, "%s's names are taken to begin with \"%s\"; ", i ? "MINE" : "REF", c->prefix[i]);
    if (c->mapping.unused)
        sd_text_add(&words, "%d line%s of %s fit%s nothing, the first is line %d; ", c->mapping.unused,
                    plural((size_t)c->mapping.unused), c->mapping.path, c->mapping.unused == 1 ? "s" : "",
                    c->mapping.first_unused);
    if (c->taken)
        sd_text_add(&words, "%zu of MINE %s not compared, for another has the same name in REF, first %s, which is "
                    "%s; ", c->taken, c->taken == 1 ? "is" : "are", c->row[c->first_taken].mine->name,
                    c->row[c->first_taken].key);
    if (c->n_guessed)
        sd_text_add(&words, "hardly any name is in both, so %zu pair%s guessed by order, shape and numbers: --names "
                    "FILE says it surely; ", c->n_guessed, c->n_guessed == 1 ? " was" : "s were");
    if (c->not_guessed)
        sd_text_add(&words, "hardly any name is in both, and the pairs of %zu and %zu tensors are too many to guess "
                    "among: say with --names FILE which is which; ", c->ref.n, c->mine.n);
    if (c->cut)
        sd_text_add(&words, "%zu name%s of 63 letters, as GGML cuts them, %s taken for the longer name%s; ", c->cut,
                    plural(c->cut), c->cut == 1 ? "is" : "are", plural(c->cut));
    if (c->cut_open)
        sd_text_add(&words, "%zu name%s of 63 letters, as GGML cuts them, fit%s several and %s not compared: say with "
                    "--names FILE which is which; ", c->cut_open, plural(c->cut_open), c->cut_open == 1 ? "s" : "",
                    c->cut_open == 1 ? "is" : "are");
    if (c->joined)
        sd_text_add(&words, "%zu tensor%s put together from calls of fewer samples; ", c->joined,
                    c->joined == 1 ? " was" : "s were");
    if (c->renamed) {
        sd_text_add(&words, "%zu pair%s under two names: ", c->renamed, plural(c->renamed));
        add_guesses(&words, c, false, s->all);
    } else if (words.n > 2) {
        words.s[words.n -= 2] = 0;   /* "; " */
    }
    if (words.n) sd_add_words(t, s->o, 2, &words);
    if (!c->relaid) return;
    sd_text_add(&words, "%zu of MINE fit%s in another layout: ", c->relaid, c->relaid == 1 ? "s" : "");
    add_guesses(&words, c, true, s->all);
    sd_add_words(t, s->o, 2, &words);
}

static void counts(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    sd_text words = {0};
    sd_text_add(&words, "%zu tensors in REF, %zu in MINE; %zu compared, %zu diverge, in the order of %s", c->ref.n,
                c->mine.n, c->compared, c->count[SD_DIVERGES], c->order);
    if (c->floors)
        sd_text_add(&words, "; %zu judged by what float32 does there, as %s says", c->floored, c->floors);
    if (c->count[SD_OTHER_SHAPE]) sd_text_add(&words, "; %zu have another shape", c->count[SD_OTHER_SHAPE]);
    if (c->count[SD_UNREADABLE]) sd_text_add(&words, "; %zu cannot be read", c->count[SD_UNREADABLE]);
    sd_add_words(t, s->o, 2, &words);
    guesses(c, s, t);
    for (int k = 0; k < 2; k++) {
        sd_verdict v = k ? SD_ONLY_MINE : SD_ONLY_REF;
        if (!c->count[v]) continue;
        sd_text_add(&words, "not compared, for only %s has %s (%zu): ", k ? "MINE" : "REF",
                    c->count[v] == 1 ? "it" : "them", c->count[v]);
        add_names(&words, c, 0, c->n, v, s->all);
        sd_add_words(t, s->o, 2, &words);
    }
}

void sd_compare_text(const sd_comparison *c, const sd_compare_style *s, sd_text *t)
{
    if (c->n_settings)
        sd_text_add(t, "%zu setting%s differ%s; ", c->n_settings, plural(c->n_settings), c->n_settings == 1 ? "s" : "");
    headline(c, t);
    add_odd_in_both(t, c);
    add_own(t, c);
    if (c->count[SD_ONLY_REF] + c->count[SD_ONLY_MINE])
        sd_text_add(t, " (%zu not compared: only one side has them)", c->count[SD_ONLY_REF] + c->count[SD_ONLY_MINE]);
    add_relaid(t, c);
    if (c->n_guessed)
        sd_text_add(t, " (%zu pair%s)", c->n_guessed, c->n_guessed == 1 ? " is a guess" : "s are guesses");
    if (c->not_guessed) sd_text_add(t, " (names do not tell, and there are too many pairs to guess)");
    sd_text_add(t, "\n");
    add_side(t, "REF ", &c->ref);
    add_side(t, "MINE", &c->mine);
    settings(c, s, t);
    inputs(c, s, t);
    if (c->first < c->n) {
        sd_text words = {0};
        if (c->row[c->first].verdict == SD_DIVERGES) {
            add_measures(&words, &c->row[c->first]);
            sd_add_detail(&words, c);
        }
        sd_add_words(t, s->o, 2, &words);
        bracket(c, s, t);
    }
    counts(c, s, t);
    modules(c, s, t);
    add_table(c, s, t);
}
