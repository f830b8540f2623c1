/* inspect_say.c - floor 6: the sentences of `sd inspect` that its text and its JSON share: what a file is, what is odd
 * about it, and how one draws with it. */
#include "inspect.h"
#include "pipeline_task.h"
#include "pipeline.h"

#include <string.h>

bool sd_is_guessed(const sd_seen_network *w) { return !w->config && !w->is->has_config; }

/* A GGUF file begins with four letters and its version, little-endian. */
int sd_gguf_version(const sd_weight_file *f)
{
    if (f->format != &sd_format_gguf || f->file.size < 8) return 0;
    return (int)sd_from_little_endian((const char *)f->file.data + 4, 3);   /* only 2 and 3 can be opened */
}

int64_t sd_entry_offset(const sd_seen_part *p, const sd_entry *t)
{
    uintptr_t at = (uintptr_t)t->data;
    for (size_t i = 0; i < p->store.n_files && t->data; i++) {
        uintptr_t begin = (uintptr_t)p->store.file[i].file.data;
        if (at >= begin && at - begin < p->store.file[i].file.size) return (int64_t)(at - begin);
    }
    return -1;
}

/* ------------------------------------------------------------------------------------- what it is */

static int count_networks(const sd_seen *s, unsigned part)
{
    int n = 0;
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++) n += s->part[i].is.network[k].part == part;
    return n;
}

static void add_family(const sd_seen *s, sd_text *t)
{
    const sd_family *f = s->main->family;
    sd_text_add(t, " of ");
    if (f) sd_text_add(t, "%s (%s)", f->title, f->name);
    else sd_text_add(t, "no published family");
}

static void add_adapter(const sd_adapter *a, sd_text *t)
{
    if (a->naming) sd_text_add(t, ", %s names", a->naming);
    if (a->base) sd_text_add(t, ", for %s", a->base);
    if (a->vectors)
        sd_text_add(t, ", %d vector%s of %d", a->vectors, a->vectors > 1 ? "s" : "", a->width[0] ? a->width[0] :
                    a->width[1]);
    if (a->vectors && a->width[0] && a->width[1]) sd_text_add(t, " and %d", a->width[1]);
    if (a->rank_max)
        sd_text_add(t, a->rank_min < a->rank_max ? ", ranks %d to %d" : ", rank %d", a->rank_min, a->rank_max);
    if (a->alpha_max > 0)
        sd_text_add(t, a->alpha_min < a->alpha_max ? ", alpha %g to %g" : ", alpha %g", a->alpha_min, a->alpha_max);
    if (a->modules) sd_text_add(t, ", %zu module%s", a->modules, a->modules > 1 ? "s" : "");
    for (int i = 0; i < a->n_targets; i++)
        sd_text_add(t, "%s%zu of the %s%s", i ? ", " : " (", a->target[i].modules, a->target[i].network,
                    i + 1 < a->n_targets ? "" : ")");
}

void sd_seen_what(const sd_seen *s, sd_text *t)
{
    const sd_recognised *r = s->main;
    bool whole = count_networks(s, SD_PART_UNET) && count_networks(s, SD_PART_VAE) && count_networks(s, SD_PART_TEXT);
    switch (r->kind) {
    case SD_FILE_CHECKPOINT: case SD_FILE_UNET: case SD_FILE_VAE: case SD_FILE_TEXT:
        if (whole) sd_text_add(t, "a whole model");
        else if (r->kind == SD_FILE_CHECKPOINT || s->n_parts > 1) sd_text_add(t, "parts of a model");
        else sd_text_add(t, "a %s", s->part[0].network[0].title);
        if (whole || r->family || r->kind == SD_FILE_CHECKPOINT || s->n_parts > 1) add_family(s, t);
        break;
    case SD_FILE_UNKNOWN:
        sd_text_add(t, "nothing that is known here");
        break;
    default:
        sd_text_add(t, "%s", r->kind_name);
        add_adapter(&r->adapter, t);
    }
}

/* ------------------------------------------------------------------------------------- what is odd */

static void odd_network(const sd_seen_network *w, sd_text *t)
{
    if (*w->unchecked) sd_text_add(t, "the %s was not compared with what it needs: %s\n", w->title, w->unchecked);
    if (w->binder.missing)
        sd_text_add(t, "the %s lacks %zu of its %zu tensors\n", w->title, w->binder.missing, w->binder.tensors);
    if (w->binder.wrong)
        sd_text_add(t, "%zu tensor%s of the %s ha%s another shape or type than it needs\n", w->binder.wrong,
                    w->binder.wrong > 1 ? "s" : "", w->title, w->binder.wrong > 1 ? "ve" : "s");
    if (w->values.nan + w->values.inf)
        sd_text_add(t, "%llu numbers of the %s are NaN and %llu infinite: its results will be, too\n",
                    (unsigned long long)w->values.nan, w->title, (unsigned long long)w->values.inf);
}

/* kohya's trainers write the hash of the numbers into the header. */
static void odd_hashes(const sd_seen *s, sd_text *t)
{
    for (size_t i = 0; s->hashes && i < sd_seen_files(s); i++) {
        const char *said = sd_weight_file_meta(sd_seen_file(s, i), "sshs_model_hash");
        if (said && *s->hashes[i].data && strcmp(said, s->hashes[i].data) != 0)
            sd_text_add(t, "the header's sshs_model_hash is %.12s...: the numbers or their order were changed since\n",
                        said);
    }
}

/* Does some network need a configuration that neither shapes nor a file give? */
static bool needs_config(const sd_seen *s)
{
    bool needs = false;
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++)
            needs = needs || sd_is_guessed(&s->part[i].network[k]);
    return needs;
}

/* Of a single file, of which only its name may tell that it draws in few steps. */
static bool few_hint(const sd_seen *s, sd_few_hint *few)
{
    return !s->directory && sd_few_hint_find(few, s->at, s->main->family);
}

void sd_seen_odd(const sd_seen *s, sd_text *lines)
{
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++) odd_network(&s->part[i].network[k], lines);
    if (s->extra)
        sd_text_add(lines, "%zu tensor%s known to nobody here\n", s->extra, s->extra > 1 ? "s are" : " is");
    if (needs_config(s))
        sd_text_add(lines, "no family has such shapes: only --config can tell how many heads, groups and the like "
                    "there are\n");
    if (count_networks(s, SD_PART_UNET) && !*s->prediction)
        sd_text_add(lines, "it is not said whether the UNet predicts epsilon or v_prediction%s%s%s: unless "
                    "--prediction does, or a YAML file beside it, the UNet is asked before the first picture\n",
                    s->main->hint ? " (likely " : "", s->main->hint ? s->main->hint : "", s->main->hint ? ")" : "");
    sd_few_hint few;
    if (few_hint(s, &few))
        sd_text_add(lines, "it has \"%s\" in its name: if it is %s, it is drawn with %s\n", few.word, few.title,
                    few.options);
    odd_hashes(s, lines);
}

/* ---------------------------------------------------------------------------------------- memory */

static const sd_seen_network *find_network(const sd_seen *s, unsigned part)
{
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++)
            if (s->part[i].is.network[k].part == part) return &s->part[i].network[k];
    return NULL;
}

static bool is_whole(const sd_seen_network *w)
{
    return w && !*w->unchecked && !w->binder.missing && !w->binder.wrong;
}

/* The null backend counts what a pass takes. With guidance the UNet sees two samples at once. */
static double unet_memory(const sd_unet_net *u)
{
    sd_error own = {0};
    sd_run run = {.err = &own, .be = &sd_backend_null};
    const sd_cond cond = sd_unet_blank(&u->cfg, 2, SD_TOKENS);
    sd_unet_in in = {.latents = sd_new4(&run, 2, u->cfg.height, u->cfg.width, u->cfg.in_channels), .cond = &cond};
    sd_unet_forward(&run, u, &in);
    return own.status ? 0 : (double)run.arena.peak;
}

static double decoder_memory(const sd_vae *v, int h, int w)
{
    sd_error own = {0};
    sd_run run = {.err = &own, .be = &sd_backend_null};
    sd_vae_decoder(&run, v, sd_new4(&run, 1, h, w, v->cfg.latent_channels));
    return own.status ? 0 : (double)run.arena.peak;
}

void sd_seen_memory(const sd_seen *s, sd_memory_need *m)
{
    const sd_seen_network *u = find_network(s, SD_PART_UNET), *v = find_network(s, SD_PART_VAE);
    *m = (sd_memory_need){0};
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++) m->weights += (double)s->part[i].network[k].binder.bytes;
    if (!is_whole(u)) return;
    const sd_unet_config *c = &u->net.unet.cfg;
    int scale = is_whole(v) ? sd_vae_scale(&v->net.vae.cfg) : 8;
    m->working = unet_memory(&u->net.unet);
    double decoding = is_whole(v) ? decoder_memory(&v->net.vae, c->height, c->width) : 0;
    if (m->working > 0 && decoding > m->working) m->working = decoding;
    m->width = scale * c->width;
    m->height = scale * c->height;
}

/* ----------------------------------------------------------------------------------- how to draw */

/* A word of a command line, in quotes if a shell would change it. */
static void add_word(sd_text *t, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:=@%,";
    if (*word && !word[strspn(word, plain)]) {
        sd_text_add(t, "%s", word);
        return;
    }
    sd_text_add(t, "'");
    for (; *word; word++) sd_text_add(t, *word == '\'' ? "'\\''" : "%c", *word);
    sd_text_add(t, "'");
}

/* The first reason that speaks against drawing with it; false: none does. */
static bool add_reason(const sd_seen *s, sd_text *t)
{
    const sd_recognised *r = s->main;
    if (r->refusal) {
        sd_text_add(t, "%s", r->refusal);
        return true;
    }
    if (r->kind == SD_FILE_UNKNOWN) {
        sd_text_add(t, "nothing in it is known here");
        return true;
    }
    if (count_networks(s, SD_PART_ALL) == 0 && !r->n_networks) {
        sd_text_add(t, "the program cannot use a file of this kind (%s)", r->kind_name);
        return true;
    }
    for (int i = 0; i < s->n_parts; i++)
        for (int k = 0; k < s->part[i].is.n_networks; k++) {
            const sd_seen_network *w = &s->part[i].network[k];
            if (!*w->unchecked && !w->binder.missing && !w->binder.wrong) continue;
            if (*w->unchecked) sd_text_add(t, "the %s: %s", w->title, w->unchecked);
            else sd_text_add(t, "the %s is not complete", w->title);
            return true;
        }
    const sd_seen_network *u = find_network(s, SD_PART_UNET);
    sd_error own = {0};
    if (u && sd_unet_can_draw(&u->net.unet.cfg, &own)) sd_text_add(t, "%s", own.text);
    return own.status != SD_OK;
}

void sd_seen_command(const sd_seen *s, sd_text *t, bool *runs)
{
    static const struct { unsigned part; const char *option; } parts[] = {
        {SD_PART_UNET, "--unet"}, {SD_PART_VAE, "--vae"}, {SD_PART_TEXT, "--text-encoder"},
    };
    if (s->main->kind == SD_FILE_TAESD && !s->main->refusal) {
        const sd_adapter *a = &s->main->adapter;
        *runs = a->base && strncmp(a->base, "SD", 2) == 0;
        if (*runs) {   /* an encoder alone cannot draw */
            sd_text_add(t, "sd -m MODEL --taesd %s", strcmp(a->method, "TAESD encoder") == 0 ? "DECODER," : "");
            add_word(t, s->path);
            sd_text_add(t, " -p \"a red apple\"");
        } else {
            sd_text_add(t, "it is for %s, which is not supported", a->base);
        }
        return;
    }
    *runs = !add_reason(s, t);
    if (!*runs) return;
    bool model = s->main->kind == SD_FILE_CHECKPOINT || s->n_parts > 1;
    sd_text_add(t, "sd -m ");
    if (model) add_word(t, s->path);
    else sd_text_add(t, "MODEL");
    for (size_t i = 0; i < SD_COUNT(parts); i++) {
        bool has = count_networks(s, parts[i].part) > 0;
        if (has == model) continue;   /* a model brings what it has; a part alone is one of another model's */
        sd_text_add(t, " %s ", parts[i].option);
        if (model) sd_text_add(t, "FILE");
        else add_word(t, s->path);
    }
    sd_few_hint few;
    if (needs_config(s)) sd_text_add(t, " --config DIR");
    else if (few_hint(s, &few)) sd_text_add(t, " %s", few.options);
    const sd_seen_network *u = find_network(s, SD_PART_UNET);
    sd_text_add(t, " %s", u ? sd_task_of(&u->net.unet.cfg)->example : "-p \"a red apple\"");
}
