/* compare_json.c - floor 6: what `sd compare` found, as one JSON object. docs/VALIDATING.md says what its keys mean;
 * they stay as they are. */
#include "compare.h"

#include <string.h>

static void add_pair(sd_text *t, const sd_compared *r)
{
    const sd_distance *d = &r->d;
    double scale, shift, left;
    sd_add_json_number(t, ",\"relative_l2\":", r->error);
    sd_add_json_number(t, ",\"level\":", r->level);
    if (r->floor > 0) sd_add_json_number(t, ",\"floor\":", r->floor);
    if (r->floor > 0) sd_add_json_number(t, ",\"times\":", sd_times(r));
    sd_text_add(t, ",\"numbers\":%llu,\"other\":%llu", (unsigned long long)d->n, (unsigned long long)d->other);
    sd_add_json_number(t, ",\"max\":", d->max);
    sd_text_add(t, ",\"at\":%lld", (long long)d->at);
    if (d->at >= 0) {
        sd_add_json_number(t, ",\"ref\":", r->value[0]);
        sd_add_json_number(t, ",\"mine\":", r->value[1]);
    }
    sd_add_json_number(t, ",\"cosine\":", sd_cosine(d));
    sd_add_json_number(t, ",\"nmse_db\":", sd_nmse_db(d));
    sd_text_add(t, ",\"outside\":%llu", (unsigned long long)d->outside);
    sd_text_add(t, ",\"not_finite\":[%llu,%llu]", (unsigned long long)d->odd[0], (unsigned long long)d->odd[1]);
    if (!sd_fit(d, &scale, &shift, &left)) return;
    sd_add_json_number(t, ",\"fit\":{\"a\":", scale);
    sd_add_json_number(t, ",\"b\":", shift);
    sd_add_json_number(t, ",\"left\":", left);
    sd_text_add(t, "}");
}

static void add_shape(sd_text *t, const char *key, const sd_entry *x)
{
    if (!x) return;
    sd_text_add(t, "%s", key);
    sd_add_shape(t, x->nd, x->dim);
}

static void add_row(sd_text *t, const sd_comparison *c, const sd_compared *r)
{
    static const char *const verdicts[SD_VERDICTS] = {"agrees", "diverges", "other_shape", "unreadable", "only_ref",
                                                      "only_mine"};
    sd_add_json_text(t, "{\"name\":", sd_compared_name(r));
    sd_add_json_text(t, ",\"verdict\":", verdicts[r->verdict]);
    if (r->ref && r->mine && strcmp(r->ref->name, r->mine->name) != 0)
        sd_add_json_text(t, ",\"name_mine\":", r->mine->name);
    if (r->layout) sd_add_json_text(t, ",\"layout\":", r->layout);
    if (r->ref && r->mine && sd_is_guess(c, r)) sd_text_add(t, ",\"guess\":true");
    add_shape(t, ",\"shape\":", r->ref ? r->ref : r->mine);
    if (r->layout || r->verdict == SD_OTHER_SHAPE) add_shape(t, ",\"shape_mine\":", r->mine);
    if (sd_has_error(r)) add_pair(t, r);
    sd_text_add(t, "}");
}

/* Where in the first tensor that diverges the error is. */
static void add_detail(sd_text *t, const sd_comparison *c)
{
    static const char *const side[] = {"{\"top\":", ",\"bottom\":", ",\"left\":", ",\"right\":"};
    const sd_detail *d = c->detail;
    if (!d) return;
    sd_text_add(t, ",\"in_first\":{\"channels\":[");
    for (int64_t i = 0; i < d->channels; i++) sd_add_json_number(t, i ? "," : "", d->channel[i]);
    sd_text_add(t, "]");
    if (d->rows) sd_text_add(t, ",\"border\":");
    for (int i = 0; i < 4 && d->rows; i++) sd_add_json_number(t, side[i], d->side[i]);
    if (d->rows) sd_add_json_number(t, ",\"inside\":", d->inside);
    sd_text_add(t, d->rows ? "}}" : "}");
}

static void add_name(const sd_comparison *c, sd_text *t, const char *key, size_t i)
{
    sd_add_json_text(t, key, i < c->n ? sd_compared_name(&c->row[i]) : NULL);
}

static void add_settings(const sd_comparison *c, sd_text *t)
{
    sd_text_add(t, ",\"settings\":%zu,\"other_settings\":[", c->settings);
    for (size_t i = 0; i < c->n_settings; i++) {
        sd_text_add(t, "%s", i ? "," : "");
        sd_add_json_text(t, "{\"key\":", c->setting[i].key);
        sd_add_json_text(t, ",\"ref\":", c->setting[i].ref);
        sd_add_json_text(t, ",\"mine\":", c->setting[i].mine);
        sd_text_add(t, "}");
    }
    sd_text_add(t, "]");
}

static void add_modules(const sd_comparison *c, sd_text *t)
{
    sd_add_json_text(t, ",\"injected\":", c->own ? c->own_side ? c->own->ref.path : c->own->mine.path : NULL);
    sd_text_add(t, ",\"measured\":%s,\"modules\":[", c->measured ? "true" : "false");
    for (size_t i = 0; i < c->n_modules; i++) {
        const sd_added *m = &c->module[i];
        char name[1024];
        snprintf(name, sizeof name, "%.*s", (int)m->length, m->name);
        sd_add_json_text(t, i ? ",{\"name\":" : "{\"name\":", name);
        if (m->inherited >= 0) sd_add_json_number(t, ",\"inherited\":", m->inherited);
        if (m->error >= 0) sd_add_json_number(t, ",\"error\":", m->error);
        if (m->added >= 0) sd_add_json_number(t, ",\"added\":", m->added);
        if (m->times >= 0) sd_add_json_number(t, ",\"times\":", m->times);
        if (m->at && c->measured) sd_add_json_text(t, ",\"at\":", sd_compared_name(m->at));
        sd_text_add(t, "}");
    }
    sd_text_add(t, "]");
}

void sd_compare_json(const sd_comparison *c, sd_text *t)
{
    size_t first;
    sd_add_json_text(t, "{\"ref\":", c->ref.path);
    sd_add_json_text(t, ",\"mine\":", c->mine.path);
    sd_text_add(t, ",\"different\":%s", c->first < c->n ? "true" : "false");
    add_settings(c, t);
    add_name(c, t, ",\"first\":", c->first);
    add_name(c, t, ",\"last_good\":", c->good);
    add_detail(t, c);
    add_modules(c, t);
    sd_add_json_text(t, ",\"order\":", c->order);
    sd_add_json_text(t, ",\"floor\":", c->floors);
    sd_add_json_text(t, ",\"before_names\":{\"ref\":", c->prefix[0]);
    sd_add_json_text(t, ",\"mine\":", c->prefix[1]);
    sd_text_add(t, "},\"renamed\":%zu,\"other_layout\":%zu,\"joined\":%zu", c->renamed, c->relaid,
                c->joined);
    sd_text_add(t, ",\"guessed\":%zu,\"not_guessed\":%zu,\"cut\":%zu,\"cut_open\":%zu", c->n_guessed,
                c->not_guessed, c->cut, c->cut_open);
    sd_text_add(t, ",\"unused_lines\":%d,\"first_unused_line\":%d,\"name_taken\":%zu", c->mapping.unused,
                c->mapping.first_unused, c->taken);
    sd_text_add(t, ",\"not_finite_in_both\":%zu", sd_odd_in_both(c, &first));
    sd_text_add(t, ",\"compared\":%zu,\"diverge\":%zu,\"other_shape\":%zu,\"unreadable\":%zu,\"only_ref\":%zu,"
                "\"only_mine\":%zu,\"tensors\":[", c->compared, c->count[SD_DIVERGES], c->count[SD_OTHER_SHAPE],
                c->count[SD_UNREADABLE], c->count[SD_ONLY_REF], c->count[SD_ONLY_MINE]);
    for (size_t i = 0; i < c->n; i++) {
        if (i) sd_text_add(t, ",");
        add_row(t, c, &c->row[i]);
    }
    sd_text_add(t, "]}");
}
