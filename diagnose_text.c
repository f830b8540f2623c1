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

static void headline(const sd_diagnosis *d, sd_text *t)
{
    const sd_finding *unknown = nameless(d);
    int named = 0;
    if (!d->diverge) {
        sd_text_add(t, "nothing diverges: %zu tensor%s agree, each on its own inputs\n", d->compared,
                    plural(d->compared));
        return;
    }
    for (int i = 0; i < d->n_findings; i++) {
        const sd_finding *f = &d->finding[i];
        if (!sd_is_named(f)) continue;
        sd_text_add(t, named++ ? "; " : "");
        add_ids(t, &f->best[0]);
    }
    if (unknown) sd_text_add(t, "%snone of mine at %s", named ? "; " : "", d->t[unknown->at].name);
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
    sd_text_add(&words, "%s: relative L2 error %.3g on its own inputs", d->t[f->at].name,
                sd_judged_error(&d->t[f->at]));
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
        sd_text_add(&words, "; it explains %zu tensor%s of all steps%s", f->explained, plural(f->explained),
                    f->subtle ? ", though none diverges further than float32's errors reach" : "");
        sd_add_words(t, o, 4, &words);
    } else {
        sd_text_add(&words, "none of mine: of %d tried %s explains as much as 90%% of the residual", f->tried,
                    f->tried == 1 ? "it does not" : "none");
        sd_add_words(t, o, 4, &words);
    }
    const char *at = f->signs.s;
    int length;
    for (const char *line; at && (line = sd_next_line(&at, &length));) {
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
    sd_text_add(&words, "; %d runs, %.1f s", d->runs, d->seconds);
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

void sd_diagnosis_json(const sd_diagnosis *d, sd_text *t)
{
    sd_add_json_text(t, "{\"sd\":", sd_version());
    sd_add_json_text(t, ",\"theirs\":", d->theirs.path);
    sd_text_add(t, ",\"tensors\":%zu,\"compared\":%zu,\"diverge\":%zu,\"runs\":%d", d->n, d->compared, d->diverge,
                d->runs);
    sd_add_json_number(t, ",\"seconds\":", d->seconds);
    sd_text_add(t, ",\"findings\":[");
    for (int i = 0; i < d->n_findings; i++) {
        const sd_finding *f = &d->finding[i];
        sd_add_json_text(t, i ? ",{\"at\":" : "{\"at\":", d->t[f->at].name);
        sd_add_json_number(t, ",\"error\":", sd_judged_error(&d->t[f->at]));
        sd_add_json_text(t, ",\"mistake\":", sd_is_named(f) ? f->best[0].m[0]->id : NULL);
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
