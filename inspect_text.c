/* inspect_text.c - floor 6: what `sd inspect` found, as a text for people: what it is first, how to draw with it last,
 * and between them what is in it and what is odd. */
#include "inspect.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_NAMES = 8, MOST_PAIRS = 16, VALUE_BYTES = 100 };

static void heading(sd_text *t, const char *title) { sd_text_add(t, "\n  %s\n", title); }

/* ----------------------------------------------------------------------------------------- networks */

/* "F16 97 %, F32": shares of bytes, the largest first; the last one is what remains. */
static void add_types(sd_text *t, const sd_network *w)
{
    bool told[SD_DTYPE_UNKNOWN + 1] = {false};
    bool several = false;
    for (;;) {
        int best = -1;
        for (int d = 0; d <= (int)SD_DTYPE_UNKNOWN; d++)
            if (!told[d] && w->by_type[d].bytes && (best < 0 || w->by_type[d].bytes > w->by_type[best].bytes)) best = d;
        if (best < 0) return;
        told[best] = true;
        double share = 100 * (double)w->by_type[best].bytes / (double)w->all.bytes;
        sd_text_add(t, "%s%s", several ? ", " : "",
                    best == (int)SD_DTYPE_UNKNOWN ? "other" : sd_dtype_name((sd_dtype)best));
        if (share < 99.5 && w->by_type[best].bytes < w->all.bytes)
            sd_text_add(t, share < 0.5 ? " <1%%" : " %.0f%%", share);
        several = true;
    }
}

static void add_state(sd_text *t, const sd_seen_network *w)
{
    const sd_binder *b = &w->binder;
    if (*w->unchecked) sd_text_add(t, "not checked");
    else if (!b->missing && !b->wrong) sd_text_add(t, "complete");
    if (b->missing) sd_text_add(t, "%zu missing", b->missing);
    if (b->wrong) sd_text_add(t, "%s%zu misfit%s", b->missing ? ", " : "", b->wrong, b->wrong > 1 ? "s" : "");
}

static void add_row(sd_text *t, const sd_seen_network *w)
{
    char tensors[SD_SIZE_TEXT], params[SD_SIZE_TEXT], bytes[SD_SIZE_TEXT];
    sd_text types = {0}, state = {0};
    add_types(&types, w->is);
    add_state(&state, w);
    sd_text_add(t, "  %-15s %7s %13s %8s  %-16s %s\n", w->title, sd_count_text(tensors, w->is->all.tensors),
                sd_count_text(params, w->is->all.params), sd_size_text(bytes, (double)w->is->all.bytes),
                types.s ? types.s : "", state.s ? state.s : "");
    free(types.s);
    free(state.s);
}

static void add_numbers(sd_text *t, const int *x, int n)
{
    bool same = true;
    for (int i = 1; i < n; i++) same = same && x[i] == x[0];
    for (int i = 0; i < (same ? 1 : n); i++) sd_text_add(t, "%s%d", i ? "-" : "", x[i]);
}

static void add_config(sd_text *t, const sd_seen_network *w)
{
    const sd_network *is = w->is;
    bool bound = !*w->unchecked;
    if (is->part == SD_PART_UNET) {
        const sd_unet_config *c = bound ? &w->net.unet.cfg : &is->unet;
        add_numbers(t, c->channels, c->levels);
        sd_text_add(t, " channels, ");
        add_numbers(t, c->layers, c->levels);
        sd_text_add(t, " resnet%s a level, ", c->layers[0] == 1 ? "" : "s");
        if (sd_is_guessed(w)) sd_text_add(t, "unknown");
        else add_numbers(t, c->heads, c->levels);
        sd_text_add(t, " heads, context of %d, takes %d channels", c->context_dim, c->in_channels);
        if (c->add_in_dim) sd_text_add(t, ", a vector of %d", c->add_in_dim);
    } else if (is->part == SD_PART_VAE) {
        const sd_vae_config *c = bound ? &w->net.vae.cfg : &is->vae;
        add_numbers(t, c->channels, c->levels);
        sd_text_add(t, " channels, %d latent, scaling factor %g", c->latent_channels, c->scaling_factor);
    } else {
        const sd_clip_config *c = bound ? &w->net.clip.cfg : &is->clip;
        sd_text_add(t, "%d layers of %d", c->layers, c->width);
        if (sd_is_guessed(w)) sd_text_add(t, ", unknown heads");
        else
            sd_text_add(t, ", %d head%s, %s", c->heads, c->heads == 1 ? "" : "s",
                        c->act == SD_ACT_GELU ? "gelu" : "quick_gelu");
        if (c->projection) sd_text_add(t, ", projection to %d", c->projection);
    }
}

static void add_networks(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    bool any = false;
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++) {
            const sd_seen_network *w = &s->part[i].network[k];
            sd_text words = {0};
            if (!any)
                sd_text_add(t, "\n  %-15s %7s %13s %8s  %-16s %s\n", "network", "tensors", "parameters", "size",
                            "types", "state");
            any = true;
            add_row(t, w);
            add_config(&words, w);
            if (*w->is->root) sd_text_add(&words, "; names begin with %s", w->is->root);
            sd_add_words(t, o, 4, &words);
        }
}

/* ------------------------------------------------------------------------------------ lists of names */

static void add_lines(sd_text *t, const sd_inspect_options *o, const char *title, const sd_text *lines, size_t total)
{
    const char *at = lines->s, *line;
    int n;
    if (!total) return;
    sd_text_add(t, "\n  %s\n", title);
    for (size_t i = 0; i < MOST_NAMES && (line = sd_next_line(&at, &n)) != NULL; i++)
        sd_add_paragraph(t, o, 4, line, (size_t)n);
    if (total > MOST_NAMES) sd_text_add(t, "    and %zu more; --json has all\n", total - MOST_NAMES);
}

static void add_unfit(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    char title[64];
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++) {
            const sd_seen_network *w = &s->part[i].network[k];
            snprintf(title, sizeof title, "missing from the %s", w->title);
            add_lines(t, o, title, &w->binder.missing_list, *w->unchecked ? 0 : w->binder.missing);
            snprintf(title, sizeof title, "of another shape or type, in the %s", w->title);
            add_lines(t, o, title, &w->binder.wrong_list, *w->unchecked ? 0 : w->binder.wrong);
        }
}

static void add_extra(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    sd_text lines = {0};
    for (int i = 0; i < s->n_parts; i++)
        for (size_t k = 0; k < sd_store_count(&s->part[i].store); k++) {
            const sd_entry *x = sd_store_at(&s->part[i].store, k);
            if (!s->part[i].extra[k]) continue;
            sd_text_add(&lines, "%s %s ", x->name, sd_entry_dtype(x));
            sd_add_shape(&lines, x->nd, x->dim);
            sd_text_add(&lines, "\n");
        }
    add_lines(t, o, "known to nobody here", &lines, s->extra);
    free(lines.s);
}

static void add_skipped(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    sd_text words = {0};
    bool any = false;
    for (int i = 0; i < s->n_parts; i++) {
        const sd_recognised *r = &s->part[i].is;
        if (!any && r->n_skipped) heading(t, "passed over");
        any = any || r->n_skipped;
        for (int k = 0; k < r->n_skipped; k++) {
            sd_text_add(&words, "%zu: %s", r->skipped[k].tensors, r->skipped[k].rule->why);
            sd_add_words(t, o, 4, &words);
        }
    }
}

/* --------------------------------------------------------------------------------------- the header */

static void add_pair(sd_text *t, const sd_inspect_options *o, const sd_pair *p)
{
    sd_text words = {0};
    size_t n = strlen(p->value), show = n;
    if (!o->metadata && n > VALUE_BYTES) {
        show = VALUE_BYTES;
        while (show && ((unsigned char)p->value[show] & 0xC0) == 0x80) show--;   /* whole characters of UTF-8 */
    }
    sd_text_add(&words, "%s: %.*s", p->key, (int)show, p->value);
    if (show < n) sd_text_add(&words, " ... (%zu bytes)", n);
    sd_add_words(t, o, 4, &words);
}

/* Does an earlier file say the same? */
static bool is_repeated(const sd_seen *s, size_t file, const sd_pair *p)
{
    bool repeated = false;
    for (size_t i = 0; i < file && !repeated; i++) {
        const char *said = sd_weight_file_meta(sd_seen_file(s, i), p->key);
        repeated = said && strcmp(said, p->value) == 0;
    }
    return repeated;
}

static void add_metadata(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    size_t told = 0, total = 0, ours = 0, most = o->metadata ? SIZE_MAX : MOST_PAIRS;
    for (size_t i = 0; i < sd_seen_files(s); i++) {
        const sd_weight_file *f = sd_seen_file(s, i);
        for (size_t k = 0; k < f->n_meta; k++) {
            if (is_repeated(s, i, &f->meta[k])) continue;
            if (total + ours == 0) heading(t, "the header says");
            if (!o->metadata && sd_is_kept(f->meta[k].key)) {
                ours++;
                continue;
            }
            total++;
            if (told < most) add_pair(t, o, &f->meta[k]);
            told += told < most;
        }
    }
    if (total > told) sd_text_add(t, "    and %zu more; --metadata has all\n", total - told);
    if (ours) sd_text_add(t, "    sd:...: the %zu texts beside the weights that were converted\n", ours);
}

/* ----------------------------------------------------------------------------------- numbers, hashes */

static void add_values_row(sd_text *t, const char *name, const sd_values *v)
{
    char zero[SD_SIZE_TEXT], tiny[SD_SIZE_TEXT];
    sd_text_add(t, "  %-14s %4llu %3llu %9s %8s %8.3g %8.3g %8.2g %7.2g\n", name, (unsigned long long)v->nan,
                (unsigned long long)v->inf, sd_count_text(tiny, v->subnormal), sd_count_text(zero, v->zero), v->min,
                v->max, v->mean, v->std);
}

/* Tensors with numbers that are not finite, and those that are all zero. */
static void add_odd_tensors(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    sd_text lines = {0};
    size_t total = 0;
    for (int i = 0; i < s->n_parts; i++)
        for (size_t k = 0; k < sd_store_count(&s->part[i].store); k++) {
            const sd_values *v = &s->part[i].values[k];
            const char *name = sd_store_at(&s->part[i].store, k)->name;
            if (!(v->nan || v->inf)) continue;
            sd_text_add(&lines, "%s: %llu NaN and %llu infinite of %llu\n", name, (unsigned long long)v->nan,
                        (unsigned long long)v->inf, (unsigned long long)v->n);
            total++;
        }
    add_lines(t, o, "numbers that are not finite", &lines, total);
    free(lines.s);
}

static void add_values(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    bool any = false;
    sd_text_add(t, "\n  %-14s %4s %3s %9s %8s %8s %8s %8s %7s\n", "numbers", "NaN", "inf", "subnormal", "zero", "min",
                "max", "mean", "std");
    for (int i = 0; i < s->n_parts; i++) {
        const sd_seen_part *p = &s->part[i];
        sd_values all = {0};
        for (int k = 0; k < p->is.n_networks; k++) add_values_row(t, p->network[k].title, &p->network[k].values);
        any = any || p->is.n_networks;
        for (size_t k = 0; k < sd_store_count(&p->store); k++) sd_values_join(&all, &p->values[k]);
        if (!p->is.n_networks) add_values_row(t, *p->name ? p->name : "all tensors", &all);
    }
    add_odd_tensors(s, o, t);
}

static void add_hashes(const sd_seen *s, sd_text *t)
{
    for (size_t i = 0; i < sd_seen_files(s); i++) {
        const sd_file_hashes *h = &s->hashes[i];
        heading(t, "SHA-256");
        if (sd_seen_files(s) > 1) sd_text_add(t, "    %s\n", sd_seen_file(s, i)->path);
        sd_text_add(t, "    file     %s\n", h->file);
        if (*h->data) sd_text_add(t, "    numbers  %s\n", h->data);
        sd_text_add(t, "    A1111 and AutoV2 %.10s", h->file);
        if (*h->data) sd_text_add(t, ", AutoV3 %.12s", h->data);
        if (*h->old) sd_text_add(t, ", A1111 of old %.8s", h->old);
        sd_text_add(t, "\n");
    }
}

/* ------------------------------------------------------------------------------------------- tensors */

static void add_tensor(sd_text *t, const sd_seen_part *p, size_t i)
{
    const sd_entry *x = sd_store_at(&p->store, i);
    sd_text_add(t, "  %s%s%s  %s ", p->name, *p->name ? ": " : "", x->name, sd_entry_dtype(x));
    sd_add_shape(t, x->nd, x->dim);
    int64_t at = sd_entry_offset(p, x);
    if (at >= 0) sd_text_add(t, "  %zu bytes at %lld", x->bytes, (long long)at);
    else sd_text_add(t, "  %zu bytes, unpacked", x->bytes);
    if (x->stride) sd_text_add(t, ", not contiguous");
    sd_text_add(t, "\n");
    if (p->values) {
        const sd_values *v = &p->values[i];
        sd_text_add(t, "    %llu NaN, %llu infinite, %llu subnormal, %llu zero; %.6g to %.6g, mean %.4g, std %.4g\n",
                    (unsigned long long)v->nan, (unsigned long long)v->inf, (unsigned long long)v->subnormal,
                    (unsigned long long)v->zero, v->min, v->max, v->mean, v->std);
    }
    if (p->hash) sd_text_add(t, "    SHA-256 %s\n", p->hash[i]);
}

static void add_tensors(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    size_t told = 0;
    heading(t, "tensors");
    for (int i = 0; i < s->n_parts; i++)
        for (size_t k = 0; k < sd_store_count(&s->part[i].store); k++) {
            if (!sd_glob_list(o->tensors, sd_store_at(&s->part[i].store, k)->name)) continue;
            add_tensor(t, &s->part[i], k);
            told++;
        }
    if (!told) sd_text_add(t, "    none has a name like %s\n", o->tensors);
}

/* ---------------------------------------------------------------------------------------------- all */

static void add_facts(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    size_t files = sd_seen_files(s), tensors = 0;
    double bytes = 0;
    char size[SD_SIZE_TEXT], count[SD_SIZE_TEXT];
    sd_text words = {0};
    for (size_t i = 0; i < files; i++) {
        bytes += (double)sd_seen_file(s, i)->file.size;
        tensors += sd_seen_file(s, i)->n;
    }
    sd_text_add(&words, "%s", sd_seen_file(s, 0)->format->name);
    if (sd_gguf_version(sd_seen_file(s, 0))) sd_text_add(&words, " version %d", sd_gguf_version(sd_seen_file(s, 0)));
    sd_text_add(&words, ", %s, %s tensor%s", sd_size_text(size, bytes), sd_count_text(count, tensors),
                tensors == 1 ? "" : "s");
    if (files > 1) sd_text_add(&words, " in %zu files", files);
    if (s->main->layout) sd_text_add(&words, ", %s names", s->main->layout);
    if (*s->prediction) sd_text_add(&words, "; predicts %s", s->prediction);
    if (s->main->zero_snr) sd_text_add(&words, ", zero terminal SNR");
    if (*s->scheduler) sd_text_add(&words, "; %s", s->scheduler);
    sd_add_words(t, o, 2, &words);
}

static void add_sentences(sd_text *t, const sd_inspect_options *o, const char *title, const sd_text *lines)
{
    const char *at = lines->s, *line;
    int n;
    if (lines->n) heading(t, title);
    while ((line = sd_next_line(&at, &n)) != NULL) sd_add_paragraph(t, o, 4, line, (size_t)n);
}

/* Weights are in mapped files: where memory is short, the system drops them and reads them again. */
static void add_memory(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    sd_memory_need m;
    char weights[SD_SIZE_TEXT], working[SD_SIZE_TEXT], left[SD_SIZE_TEXT];
    sd_text words = {0};
    sd_seen_memory(s, &m);
    if (m.working <= 0) return;
    heading(t, "memory");
    sd_text_add(&words, "%s of weights, %s to draw %dx%d; %s are free", sd_size_text(weights, m.weights),
                sd_size_text(working, m.working), m.width, m.height, sd_size_text(left, s->free_memory));
    if (m.working > s->free_memory) sd_text_add(&words, ": too little for this size");
    else if (m.working + m.weights > s->free_memory) sd_text_add(&words, ": weights will be read again and again");
    sd_add_words(t, o, 4, &words);
}

static void add_end(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    sd_text words = {0};
    bool runs;
    sd_seen_command(s, &words, &runs);
    if (runs) add_memory(s, o, t);
    heading(t, runs ? "draw with it" : "it cannot be drawn with");
    if (runs) sd_text_add(t, "    %s\n", words.s ? words.s : "");   /* a command line is copied: never broken */
    else sd_add_paragraph(t, o, 4, words.s ? words.s : "", words.n);
    free(words.s);
}

void sd_seen_text(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    sd_text words = {0}, odd = {0};
    sd_text_add(t, "%s\n", s->path);
    sd_seen_what(s, &words);
    sd_add_words(t, o, 2, &words);
    add_facts(s, o, t);
    add_networks(s, o, t);
    sd_seen_odd(s, &odd);
    add_sentences(t, o, "odd", &odd);
    add_unfit(s, o, t);
    add_extra(s, o, t);
    add_skipped(s, o, t);
    add_sentences(t, o, "why", &s->why);
    add_metadata(s, o, t);
    if (o->values) add_values(s, o, t);
    if (o->tensors) add_tensors(s, o, t);
    if (s->hashes) add_hashes(s, t);
    add_end(s, o, t);
    t->failed = t->failed || odd.failed;
    free(odd.s);
}
