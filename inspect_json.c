/* inspect_json.c - floor 6: what `sd inspect` found, as one JSON object. docs/FILES.md says what its keys mean;
 * they stay as they are. */
#include "inspect.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------- values */

static void add_ints(sd_text *t, const char *key, const int *x, int n)
{
    sd_text_add(t, "%s[", key);
    for (int i = 0; i < n; i++) sd_text_add(t, "%s%d", i ? "," : "", x[i]);
    sd_text_add(t, "]");
}

static const char *yes(bool b) { return b ? "true" : "false"; }

static void add_values(sd_text *t, const sd_values *v)
{
    sd_text_add(t, "{\"n\":%llu,\"nan\":%llu,\"inf\":%llu,\"subnormal\":%llu,\"zero\":%llu", (unsigned long long)v->n,
                (unsigned long long)v->nan, (unsigned long long)v->inf, (unsigned long long)v->subnormal,
                (unsigned long long)v->zero);
    sd_add_json_number(t, ",\"min\":", v->min);
    sd_add_json_number(t, ",\"max\":", v->max);
    sd_add_json_number(t, ",\"mean\":", v->mean);
    sd_add_json_number(t, ",\"std\":", v->std);
    sd_text_add(t, "}");
}

/* ----------------------------------------------------------------------------------------- networks */

/* Under the names of diffusers' configurations, where they have one. */
static void add_config(sd_text *t, const sd_seen_network *w)
{
    const sd_network *is = w->is;
    bool bound = !*w->unchecked;
    sd_text_add(t, ",\"config\":{");
    sd_add_json_text(t, "\"from\":", w->config ? w->config : is->config_from);
    sd_text_add(t, ",\"guessed\":%s", yes(sd_is_guessed(w)));
    if (is->part == SD_PART_UNET) {
        const sd_unet_config *c = bound ? &w->net.unet.cfg : &is->unet;
        sd_text_add(t, ",\"in_channels\":%d,\"out_channels\":%d,\"cross_attention_dim\":%d", c->in_channels,
                    c->out_channels, c->context_dim);
        add_ints(t, ",\"block_out_channels\":", c->channels, c->levels);
        add_ints(t, ",\"layers_per_block\":", c->layers, c->levels);
        add_ints(t, ",\"transformer_layers_per_block\":", c->depth, c->levels);
        add_ints(t, ",\"heads\":", c->heads, c->levels);
        sd_text_add(t, ",\"use_linear_projection\":%s,\"projection_class_embeddings_input_dim\":%d",
                    yes(c->linear_projection), c->add_in_dim);
    } else if (is->part == SD_PART_VAE) {
        const sd_vae_config *c = bound ? &w->net.vae.cfg : &is->vae;
        sd_text_add(t, ",\"in_channels\":%d,\"out_channels\":%d,\"latent_channels\":%d,\"layers_per_block\":%d",
                    c->in_channels, c->out_channels, c->latent_channels, c->layers);
        add_ints(t, ",\"block_out_channels\":", c->channels, c->levels);
        sd_add_json_number(t, ",\"scaling_factor\":", c->scaling_factor);
    } else {
        const sd_clip_config *c = bound ? &w->net.clip.cfg : &is->clip;
        sd_text_add(t, ",\"hidden_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
                    "\"intermediate_size\":%d,\"vocab_size\":%d,\"max_position_embeddings\":%d,\"projection_dim\":%d,"
                    "\"hidden_act\":\"%s\"",
                    c->width, c->layers, c->heads, c->ff, c->vocab, c->positions, c->projection,
                    c->act == SD_ACT_GELU ? "gelu" : "quick_gelu");
    }
    sd_text_add(t, "}");
}

static void add_types(sd_text *t, const sd_network *is)
{
    bool first = true;
    sd_text_add(t, ",\"types\":{");
    for (int d = 0; d <= (int)SD_DTYPE_UNKNOWN; d++) {
        if (!is->by_type[d].tensors) continue;
        sd_text_add(t, "%s\"%s\":{\"tensors\":%zu,\"parameters\":%llu,\"bytes\":%llu}", first ? "" : ",",
                    d == (int)SD_DTYPE_UNKNOWN ? "other" : sd_dtype_name((sd_dtype)d), is->by_type[d].tensors,
                    (unsigned long long)is->by_type[d].params, (unsigned long long)is->by_type[d].bytes);
        first = false;
    }
    sd_text_add(t, "}");
}

/* A line of the binder's list is "name: expected [1], found [2]". */
static void add_misfits(sd_text *t, const char *lines)
{
    const char *at = lines, *line;
    int n;
    for (bool first = true; (line = sd_next_line(&at, &n)) != NULL; first = false) {
        const char *colon = memchr(line, ':', (size_t)n);
        int name = colon ? (int)(colon - line) : n, skip = name + 2 < n ? name + 2 : n;
        sd_text one = {0}, how = {0};
        sd_text_add(&one, "%.*s", name, line);
        sd_text_add(&how, "%.*s", n - skip, line + skip);
        sd_add_json_text(t, first ? "{\"name\":" : ",{\"name\":", one.s ? one.s : "");
        sd_add_json_text(t, ",\"how\":", how.s ? how.s : "");
        sd_text_add(t, "}");
        free(one.s);
        free(how.s);
    }
}

static void add_network(sd_text *t, const sd_seen_part *p, const sd_seen_network *w, bool values)
{
    const sd_network *is = w->is;
    bool checked = !*w->unchecked;
    sd_text_add(t, "{\"name\":\"%s\"", w->key);
    sd_add_json_text(t, ",\"component\":", *p->name ? p->name : NULL);
    sd_add_json_text(t, ",\"root\":", is->root);
    sd_add_json_text(t, ",\"naming\":", is->naming);
    sd_text_add(t, ",\"tensors\":%zu,\"parameters\":%llu,\"bytes\":%llu", is->all.tensors,
                (unsigned long long)is->all.params, (unsigned long long)is->all.bytes);
    add_types(t, is);
    add_config(t, w);
    sd_add_json_text(t, ",\"unchecked\":", checked ? NULL : w->unchecked);
    sd_text_add(t, ",\"missing\":[");
    if (checked) sd_add_json_lines(t, w->binder.missing_list.s);
    sd_text_add(t, "],\"misfits\":[");
    if (checked) add_misfits(t, w->binder.wrong_list.s);
    sd_text_add(t, "]");
    if (values) {
        sd_text_add(t, ",\"values\":");
        add_values(t, &w->values);
    }
    sd_text_add(t, "}");
}

static void add_networks(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    bool first = true;
    sd_text_add(t, ",\"networks\":[");
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++, first = false) {
            if (!first) sd_text_add(t, ",");
            add_network(t, &s->part[i], &s->part[i].network[k], o->values != 0);
        }
    sd_text_add(t, "]");
}

/* ------------------------------------------------------------------------------------------- the file */

static void add_file(sd_text *t, const sd_weight_file *f, const sd_file_hashes *h)
{
    sd_add_json_text(t, "{\"path\":", f->path);
    sd_add_json_text(t, ",\"format\":", f->format->name);
    if (sd_gguf_version(f)) sd_text_add(t, ",\"version\":%d", sd_gguf_version(f));
    sd_text_add(t, ",\"bytes\":%zu,\"tensors\":%zu,\"metadata\":{", f->file.size, f->n);
    for (size_t i = 0; i < f->n_meta; i++) {
        sd_add_json_text(t, i ? "," : "", f->meta[i].key);
        sd_add_json_text(t, ":", f->meta[i].value);
    }
    sd_text_add(t, "}");
    if (h) {
        sd_text_add(t, ",\"hashes\":{\"sha256\":\"%s\",\"a1111\":\"%.10s\",\"autov2\":\"%.10s\"", h->file, h->file,
                    h->file);
        if (*h->data) sd_text_add(t, ",\"autov3\":\"%.12s\",\"sshs_model_hash\":\"%s\"", h->data, h->data);
        if (*h->old) sd_text_add(t, ",\"a1111_old\":\"%.8s\"", h->old);
        sd_text_add(t, "}");
    }
    sd_text_add(t, "}");
}

static void add_files(const sd_seen *s, sd_text *t)
{
    sd_text_add(t, ",\"files\":[");
    for (size_t i = 0; i < sd_seen_files(s); i++) {
        if (i) sd_text_add(t, ",");
        add_file(t, sd_seen_file(s, i), s->hashes ? &s->hashes[i] : NULL);
    }
    sd_text_add(t, "]");
}

static void add_adapter(const sd_adapter *a, sd_text *t)
{
    sd_add_json_text(t, ",\"adapter\":{\"method\":", a->method);
    sd_add_json_text(t, ",\"naming\":", a->naming);
    sd_add_json_text(t, ",\"base\":", a->base);
    sd_add_json_text(t, ",\"says\":", a->says);
    sd_text_add(t, ",\"rank\":[%d,%d]", a->rank_min, a->rank_max);
    sd_add_json_number(t, ",\"alpha\":[", a->alpha_min);
    sd_add_json_number(t, ",", a->alpha_max);
    sd_text_add(t, "],\"modules\":%zu,\"targets\":{", a->modules);
    for (int i = 0; i < a->n_targets; i++)
        sd_text_add(t, "%s\"%s\":%zu", i ? "," : "", a->target[i].network, a->target[i].modules);
    sd_text_add(t, "},\"vectors\":%d,\"width\":[%d,%d]}", a->vectors, a->width[0], a->width[1]);
}

static void add_skipped(const sd_seen *s, sd_text *t)
{
    size_t ema = 0;
    bool first = true;
    sd_text_add(t, ",\"skipped\":[");
    for (int i = 0; i < s->n_parts; i++) {
        ema += s->part[i].is.ema;
        for (int k = 0; k < s->part[i].is.n_skipped; k++, first = false) {
            const sd_skipped *x = &s->part[i].is.skipped[k];
            sd_add_json_text(t, first ? "{\"rule\":" : ",{\"rule\":", x->rule->glob);
            sd_add_json_text(t, ",\"why\":", x->rule->why);
            sd_text_add(t, ",\"tensors\":%zu}", x->tensors);
        }
    }
    sd_text_add(t, "],\"ema\":%zu,\"unknown\":[", ema);
    first = true;
    for (int i = 0; i < s->n_parts; i++)
        for (size_t k = 0; k < sd_store_count(&s->part[i].store); k++) {
            if (!s->part[i].extra[k]) continue;
            sd_add_json_text(t, first ? "" : ",", sd_store_at(&s->part[i].store, k)->name);
            first = false;
        }
    sd_text_add(t, "]");
}

static void add_tensor(sd_text *t, const sd_seen_part *p, size_t i)
{
    const sd_entry *x = sd_store_at(&p->store, i);
    int64_t at = sd_entry_offset(p, x);
    sd_add_json_text(t, "{\"name\":", x->name);
    sd_add_json_text(t, ",\"component\":", *p->name ? p->name : NULL);
    sd_add_json_text(t, ",\"type\":", sd_entry_dtype(x));
    sd_text_add(t, ",\"shape\":");
    sd_add_shape(t, x->nd, x->dim);
    sd_text_add(t, ",\"offset\":");
    if (at >= 0) sd_text_add(t, "%lld", (long long)at);
    else sd_text_add(t, "null");
    sd_text_add(t, ",\"bytes\":%zu,\"contiguous\":%s", x->bytes, yes(!x->stride));
    if (p->values) {
        sd_text_add(t, ",\"values\":");
        add_values(t, &p->values[i]);
    }
    if (p->hash) sd_text_add(t, ",\"sha256\":\"%s\"", p->hash[i]);
    sd_text_add(t, "}");
}

static void add_tensors(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    bool first = true;
    sd_text_add(t, ",\"tensor_list\":[");
    for (int i = 0; i < s->n_parts; i++)
        for (size_t k = 0; k < sd_store_count(&s->part[i].store); k++) {
            if (!sd_glob_list(o->tensors, sd_store_at(&s->part[i].store, k)->name)) continue;
            if (!first) sd_text_add(t, ",");
            add_tensor(t, &s->part[i], k);
            first = false;
        }
    sd_text_add(t, "]");
}

static void add_verdict(const sd_seen *s, sd_text *t)
{
    sd_text odd = {0}, command = {0};
    sd_memory_need m;
    bool runs;
    sd_seen_odd(s, &odd);
    sd_seen_command(s, &command, &runs);
    sd_text_add(t, ",\"odd\":[");
    sd_add_json_lines(t, odd.s);
    sd_text_add(t, "],\"why\":[");
    sd_add_json_lines(t, s->why.s);
    sd_add_json_text(t, "],\"command\":", runs ? command.s : NULL);
    sd_add_json_text(t, ",\"refusal\":", runs ? NULL : command.s);
    sd_seen_memory(s, &m);
    if (m.working > 0)
        sd_text_add(t, ",\"memory\":{\"weights\":%.0f,\"working\":%.0f,\"width\":%d,\"height\":%d}", m.weights,
                    m.working, m.width, m.height);
    t->failed = t->failed || odd.failed || command.failed;
    free(odd.s);
    free(command.s);
}

void sd_seen_json(const sd_seen *s, const sd_inspect_options *o, sd_text *t)
{
    const sd_recognised *r = s->main;
    sd_text what = {0};
    sd_seen_what(s, &what);
    sd_add_json_text(t, "{\"path\":", s->path);
    sd_text_add(t, ",\"directory\":%s", yes(s->directory));
    sd_add_json_text(t, ",\"what\":", what.s);
    free(what.s);
    sd_add_json_text(t, ",\"kind\":", r->kind_name);
    sd_add_json_text(t, ",\"family\":", r->family ? r->family->name : NULL);
    sd_add_json_text(t, ",\"layout\":", r->layout);
    sd_add_json_text(t, ",\"prediction\":", *s->prediction ? s->prediction : NULL);
    sd_text_add(t, ",\"zero_terminal_snr\":%s", yes(r->zero_snr));
    sd_add_json_text(t, ",\"scheduler\":", *s->scheduler ? s->scheduler : NULL);
    add_verdict(s, t);
    add_files(s, t);
    add_networks(s, o, t);
    if (r->adapter.method) add_adapter(&r->adapter, t);
    add_skipped(s, t);
    if (o->tensors) add_tensors(s, o, t);
    sd_text_add(t, "}");
}
