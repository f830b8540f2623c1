/* diagnose_text.c - floor 6: what `sd diagnose` found, as a text with the verdict in its first line, and as JSON. */
#include "diagnose.h"

#include <stdlib.h>
#include <string.h>

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

static void add_ids(sd_text *t, const sd_tried *r)
{
    sd_text_add(t, "%s", r->m[0]->id);
    if (r->m[1]) sd_text_add(t, " and %s", r->m[1]->id);
}

/* The finding with the first tensor that nothing explains; NULL: there is none. */
static const sd_finding *nameless(const sd_diagnosis *d)
{
    for (int i = 0; i < d->n_findings; i++)
        if (!sd_is_named(&d->finding[i])) return &d->finding[i];
    return NULL;
}

bool sd_only_arithmetic(const sd_diagnosis *d)
{
    bool all = d->n_findings > 0 && !d->unexplained;
    for (int i = 0; i < d->n_findings; i++) all &= sd_is_arithmetic(&d->finding[i]);
    return all;
}

/* What theirs was drawn with, before anything else: the rest was found with these. */
static void add_settings(const sd_diagnosis *d, sd_text *t)
{
    for (int i = 0; i < d->n_other; i++) {
        const sd_other *o = &d->other[i];
        bool text = sd_glob_list("prompt,negative_prompt", o->key), noise = strcmp(o->key, "noise_name") == 0;
        sd_text_add(t, "%s%s %s%s%s", i ? "; " : "other settings: ", noise ? "noise" : o->key, text ? "\"" : "",
                    o->theirs, text ? "\"" : "");
        if (o->here) sd_text_add(t, text ? ", not \"%s\"" : ", not %s", o->here);
    }
    if (d->n_other) sd_text_add(t, "\n");
}

/* The first tensor of theirs in which something is no number, where ours are numbers. */
static const sd_judged *first_odd(const sd_diagnosis *d)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->t[i].odd && d->t[i].diverges) return &d->t[i];
    return NULL;
}

/* Without their tokens or noise another prompt or seed looks like a mistake in what is made of these. */
static void add_question(const sd_diagnosis *d, const char *name, sd_text *t)
{
    static const struct { const char *at, *input, *setting; } of[] = {
        {"text_encoder*embeddings*", "tokens", "prompt"}, {"latents.0", "noise", "seed"}};
    for (size_t i = 0; i < SD_COUNT(of); i++) {
        size_t k = sd_judged_index(d, of[i].input);
        if (sd_glob_list(of[i].at, name) && !(k < d->n && sd_is_comparable(&d->t[k])))
            sd_text_add(t, ": theirs has no %s: is it the same %s?", of[i].input, of[i].setting);
    }
}

static void headline(const sd_diagnosis *d, sd_text *t)
{
    const sd_finding *unknown = nameless(d);
    const sd_judged *odd = first_odd(d);
    int named = 0;
    add_settings(d, t);
    if (!d->diverge) {
        sd_text_add(t, "nothing diverges: %zu tensor%s agree, each on its own inputs\n", d->compared,
                    plural(d->compared));
        return;
    }
    if (odd)
        sd_text_add(t, "NaN or infinity at %s, in %llu of %llu numbers: ", odd->name, (unsigned long long)odd->odd,
                    (unsigned long long)sd_entry_numbers(odd->theirs));
    if (sd_only_arithmetic(d)) sd_text_add(t, "no mistake, but coarser arithmetic: ");
    for (int i = 0; i < d->n_findings; i++) {
        const sd_finding *f = &d->finding[i];
        if (!sd_is_named(f)) continue;
        sd_text_add(t, named++ ? "; " : "");
        add_ids(t, &f->best[0]);
    }
    if (unknown) {
        sd_text_add(t, "%snone of mine at %s", named ? "; " : "", d->t[unknown->at].name);
        add_question(d, d->t[unknown->at].name, t);
    }
    sd_text_add(t, "\n");
}

/* ------------------------------------------------------------------------------------------- as a text */

static void add_mistake(sd_text *t, const sd_mistake *m)
{
    sd_text_add(t, "%s", m->what);
    if (m->trap) sd_text_add(t, " (trap %d)", m->trap);
    sd_text_add(t, "; right is: %s", m->source);
}

static void add_places(const sd_diagnosis *d, sd_text *t, const sd_tried *r)
{
    if (r->made == r->places) {
        sd_text_add(t, "it is made wherever it would show, in %zu tensor%s", r->made, plural(r->made));
        return;
    }
    sd_text_add(t, "it shows in %zu of %zu tensors where it could: in %s", r->made, r->places,
                r->at < d->n ? d->t[r->at].name : "none");
    if (r->not_at < d->n) sd_text_add(t, ", not in %s", d->t[r->not_at].name);
}

static void add_finding(const sd_diagnosis *d, const sd_finding *f, const sd_inspect_options *o, sd_text *t)
{
    sd_text words = {0};
    bool named = sd_is_named(f);
    const sd_judged *at = &d->t[f->at];
    if (at->odd) sd_text_add(&words, "%s: %llu numbers are NaN or infinite, ours from the same inputs are not",
                             at->name, (unsigned long long)at->odd);
    else sd_text_add(&words, "%s: relative L2 error %.3g on its own inputs", at->name, sd_judged_error(at));
    sd_add_words(t, o, 2, &words);
    if (named) {
        const sd_tried *r = &f->best[0];
        add_mistake(&words, r->m[0]);
        sd_add_words(t, o, 4, &words);
        if (r->m[1]) {
            add_mistake(&words, r->m[1]);
            sd_add_words(t, o, 4, &words);
        }
        add_places(d, &words, r);
        sd_text_add(&words, "; it explains %zu tensor%s of all steps", f->explained, plural(f->explained));
        sd_add_words(t, o, 4, &words);
        if (f->subtle)
            sd_text_add(&words, "each of these errors alone is as small as float32's own are; but they have the form "
                        "of this mistake, which float32's have not");
        if (f->subtle) sd_add_words(t, o, 4, &words);
    } else {
        sd_text_add(&words, "none of mine: of %d tried %s explains as much as 90%% of the residual", f->tried,
                    f->tried == 1 ? "it does not" : "none");
        sd_add_words(t, o, 4, &words);
        if (f->again)
            sd_text_add(&words, "it diverges in %zu other step%s too, which %s not looked into", f->again,
                        plural(f->again), f->again == 1 ? "was" : "were");
        if (f->again) sd_add_words(t, o, 4, &words);
    }
    const char *rest = f->signs.s;
    int length;
    for (const char *line; rest && (line = sd_next_line(&rest, &length));) {
        sd_text_add(&words, "%.*s", length, line);
        sd_add_words(t, o, 4, &words);
    }
    for (int i = 0; i < f->n; i++) {
        const sd_tried *r = &f->best[i];
        if (i && r->first < 0.01) break;
        sd_text_add(t, "    %6.2f%% here, %6.2f%% of all  ", 100 * r->first, 100 * r->all);
        add_ids(t, r);
        sd_text_add(t, ", in %zu of %zu\n", r->made, r->places);
    }
}

static void add_all(const sd_diagnosis *d, sd_text *t)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->t[i].ours >= 0)
            sd_text_add(t, "  %c %8.2e  %s\n", d->t[i].diverges ? '*' : ' ', sd_judged_error(&d->t[i]), d->t[i].name);
}

void sd_diagnosis_text(const sd_diagnosis *d, const sd_inspect_options *o, bool all, sd_text *t)
{
    sd_text words = {0};
    headline(d, t);
    for (int i = 0; i < d->n_findings; i++) add_finding(d, &d->finding[i], o, t);
    sd_text_add(&words, "%s: %zu of this run's %zu tensors compared, %zu diverge", d->theirs.path, d->compared, d->n,
                d->diverge);
    if (d->unexplained) sd_text_add(&words, ", %zu were not looked at any more", d->unexplained);
    sd_text_add(&words, "; %d runs, %.1f s, %.0f ms each", d->runs, d->seconds,
                d->runs ? 1e3 * d->seconds / d->runs : 0);
    sd_add_words(t, o, 2, &words);
    size_t shapes = 0, first = d->n;
    for (size_t i = d->n; i-- > 0;)
        if (d->t[i].other_shape) {
            shapes++;
            first = i;
        }
    if (shapes)
        sd_text_add(&words, "not compared, for they have another shape: %zu, the first is %s", shapes,
                    d->t[first].name);
    if (shapes) sd_add_words(t, o, 2, &words);
    if (all) add_all(d, t);
}

/* --------------------------------------------------------------------------------------------- as JSON */

static void add_tried_json(const sd_diagnosis *d, sd_text *t, const sd_tried *r)
{
    sd_add_json_text(t, "{\"id\":", r->m[0]->id);
    sd_add_json_text(t, ",\"and\":", r->m[1] ? r->m[1]->id : NULL);
    sd_add_json_number(t, ",\"explains\":", r->first);
    sd_add_json_number(t, ",\"of_all\":", r->all);
    sd_text_add(t, ",\"places\":%zu,\"made\":%zu", r->places, r->made);
    sd_add_json_text(t, ",\"at\":", r->at < d->n ? d->t[r->at].name : NULL);
    sd_add_json_text(t, ",\"not_at\":", r->not_at < d->n ? d->t[r->not_at].name : NULL);
    sd_text_add(t, "}");
}

static void add_other_json(sd_text *t, const sd_other *o, bool comma)
{
    sd_add_json_text(t, comma ? ",{\"key\":" : "{\"key\":", o->key);
    sd_add_json_text(t, ",\"theirs\":", o->theirs);
    sd_add_json_text(t, ",\"here\":", o->here);
    sd_text_add(t, ",\"from\":\"%s\",\"taken\":%s}", o->of_header ? "header" : "numbers", o->taken ? "true" : "false");
}

static void add_odd_json(const sd_diagnosis *d, sd_text *t)
{
    const sd_judged *odd = first_odd(d);
    sd_add_json_text(t, "", odd ? odd->name : NULL);
}

void sd_diagnosis_json(const sd_diagnosis *d, sd_text *t)
{
    sd_add_json_text(t, "{\"sd\":", sd_version());
    sd_add_json_text(t, ",\"theirs\":", d->theirs.path);
    sd_text_add(t, ",\"tensors\":%zu,\"compared\":%zu,\"diverge\":%zu,\"runs\":%d", d->n, d->compared, d->diverge,
                d->runs);
    sd_add_json_number(t, ",\"seconds\":", d->seconds);
    sd_text_add(t, ",\"settings\":[");
    for (int i = 0; i < d->n_other; i++) add_other_json(t, &d->other[i], i > 0);
    sd_text_add(t, "],\"not_numbers\":");
    add_odd_json(d, t);
    sd_text_add(t, ",\"findings\":[");
    for (int i = 0; i < d->n_findings; i++) {
        const sd_finding *f = &d->finding[i];
        sd_add_json_text(t, i ? ",{\"at\":" : "{\"at\":", d->t[f->at].name);
        sd_add_json_number(t, ",\"error\":", sd_judged_error(&d->t[f->at]));
        sd_add_json_text(t, ",\"mistake\":", sd_is_named(f) ? f->best[0].m[0]->id : NULL);
        sd_text_add(t, ",\"arithmetic\":%s", sd_is_arithmetic(f) ? "true" : "false");
        sd_text_add(t, ",\"explained\":%zu,\"signs\":[", f->explained);
        if (f->signs.s) sd_add_json_lines(t, f->signs.s);
        sd_text_add(t, "],\"tried\":[");
        for (int k = 0; k < f->n; k++) {
            sd_text_add(t, k ? "," : "");
            add_tried_json(d, t, &f->best[k]);
        }
        sd_text_add(t, "]}");
    }
    sd_text_add(t, "]}\n");
}
