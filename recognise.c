/* recognise.c - floor 4: what a file of tensors is, and why: its networks, its family, what its UNet predicts. */
#include "recognise.h"
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void because(sd_recognised *r, const char *fmt, ...) SD_PRINTF(2, 3);
static void because(sd_recognised *r, const char *fmt, ...)
{
    char line[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    sd_text_add(&r->why, "%s\n", line);
}

static bool has(const sd_store *s, const char *root, const char *name)
{
    char whole[256];
    int n = snprintf(whole, sizeof whole, "%s%s", root, name);
    return n >= 0 && (size_t)n < sizeof whole && sd_store_find(s, whole);
}

/* -------------------------------------------------------------------------------- where networks are
 * What the names of a network begin with, in the files of many programs [CompVis ldm; generative-models for SDXL]. The
 * first root that has one counts. `written` says for which of a model's networks sd convert takes the root: of text
 * encoders those by OpenAI are called "transformer", those by OpenCLIP "model". */
enum { OPENAI = 16, OPENCLIP = 32, ANY = OPENAI | OPENCLIP };
#define NEVER 0
static const struct root { unsigned part; int index; const char *root; unsigned written; } roots[] = {
    {SD_PART_UNET, 0, "model.diffusion_model.", SD_ROLE_ONLY | ANY},
    {SD_PART_UNET, 0, "diffusion_model.", NEVER},
    {SD_PART_UNET, 0, "unet.", NEVER},
    {SD_PART_UNET, 0, "", NEVER},
    {SD_PART_VAE, 0, "first_stage_model.", SD_ROLE_ONLY | ANY},
    {SD_PART_VAE, 0, "vae.", NEVER},
    {SD_PART_VAE, 0, "", NEVER},
    {SD_PART_TEXT, 0, "cond_stage_model.transformer.", SD_ROLE_ONLY | OPENAI},   /* CompVis' CLIP-L */
    {SD_PART_TEXT, 0, "cond_stage_model.model.", SD_ROLE_ONLY | OPENCLIP},       /* Stability's OpenCLIP-H */
    {SD_PART_TEXT, 0, "conditioner.embedders.0.transformer.", SD_ROLE_FIRST | SD_ROLE_REFINERS | OPENAI},
    {SD_PART_TEXT, 0, "conditioner.embedders.0.model.", SD_ROLE_FIRST | SD_ROLE_REFINERS | OPENCLIP},
    {SD_PART_TEXT, 0, "text_encoder.", NEVER},
    {SD_PART_TEXT, 0, "", NEVER},
    {SD_PART_TEXT, 1, "conditioner.embedders.1.model.", SD_ROLE_SECOND | OPENCLIP},
    {SD_PART_TEXT, 1, "conditioner.embedders.1.transformer.", SD_ROLE_SECOND | OPENAI},
    {SD_PART_TEXT, 1, "cond_stage_model.1.transformer.", NEVER},   /* stable-diffusion.cpp's SDXL */
    {SD_PART_TEXT, 1, "text_encoder_2.", NEVER},
};

const char *sd_root_written(unsigned part, sd_role role, bool openclip)
{
    unsigned all = (unsigned)role | (openclip ? OPENCLIP : OPENAI);
    for (size_t i = 0; i < SD_COUNT(roots); i++)
        if (roots[i].part == part && (roots[i].written & all) == all) return roots[i].root;
    return "";
}

const char *sd_root_find(const char *name, unsigned *part, int *index, size_t *length)
{
    *length = 0;
    for (const char *at = name; *at && !*length; at += strcspn(at, ".") + (at[strcspn(at, ".")] == '.'))
        for (size_t i = 0; i < SD_COUNT(roots); i++) {
            size_t n = strlen(roots[i].root);
            if (n <= *length || !sd_begins_with(at, roots[i].root)) continue;
            *length = n;
            *part = roots[i].part;
            *index = roots[i].index;
            name = at;
        }
    return *length ? name : NULL;
}

/* A network has one of these tensors. What comes after the root must tell it from a ControlNet, which has no way up,
 * and from small autoencoders. */
static const struct spelling { unsigned part; const char *naming, *key[2]; } spellings[] = {
    {SD_PART_UNET, "LDM", {"output_blocks.0.0.in_layers.2.weight", NULL}},
    {SD_PART_UNET, "diffusers", {"up_blocks.0.resnets.0.conv1.weight", NULL}},
    {SD_PART_VAE, "LDM", {"decoder.mid.block_1.conv1.weight", "encoder.mid.block_1.conv1.weight"}},
    {SD_PART_VAE, "diffusers",
     {"decoder.mid_block.resnets.0.conv1.weight", "encoder.mid_block.resnets.0.conv1.weight"}},
    {SD_PART_TEXT, "transformers",
     {"text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"}},
    {SD_PART_TEXT, "OpenCLIP", {"token_embedding.weight", NULL}},
};

static const char *part_name(const sd_network *n)
{
    return n->part == SD_PART_UNET ? "the UNet" : n->part == SD_PART_VAE ? "the VAE"
         : n->index ? "the second text encoder" : "the text encoder";
}

/* The key of a spelling that this root has; NULL: none. */
static const char *key_of(const sd_store *s, const char *root, const struct spelling *p)
{
    for (int i = 0; i < 2 && p->key[i]; i++)
        if (has(s, root, p->key[i])) return p->key[i];
    return NULL;
}

static void find_network(const sd_store *s, sd_recognised *r, const struct root *at)
{
    if (sd_recognised_network(r, at->part, at->index) || r->n_networks == SD_NETWORKS) return;
    for (size_t i = 0; i < SD_COUNT(spellings); i++) {
        const char *key = spellings[i].part == at->part ? key_of(s, at->root, &spellings[i]) : NULL;
        if (!key) continue;
        sd_network *n = &r->network[r->n_networks++];
        *n = (sd_network){.part = at->part, .index = at->index, .root = at->root, .naming = spellings[i].naming,
                          .config_from = "shapes"};
        because(r, "%s: %s%s is one of its names as %s has them", part_name(n), at->root, key, n->naming);
        return;
    }
}

const sd_network *sd_recognised_network(const sd_recognised *r, unsigned part, int i)
{
    for (int k = 0; k < r->n_networks; k++)
        if (r->network[k].part == part && r->network[k].index == i) return &r->network[k];
    return NULL;
}

/* -------------------------------------------------------------------------------------- the UNet */

/* Depths of a way, one level after the other; where attentions of a level differ, joined by "+". */
static void say_depths(sd_text *t, const sd_unet_config *c, bool up)
{
    for (int level = 0; level < c->levels; level++) {
        const unsigned char *each = up ? c->up_layer_depth[level] : c->layer_depth[level];
        sd_text_add(t, "%s%d", level ? "," : "", sd_unet_depth(c, up, level, 0));
        for (int i = 1; each[0] && i < c->layers[level] + up; i++) sd_text_add(t, "+%d", each[i]);
    }
}

static void say_levels(sd_text *t, const sd_unet_config *c)
{
    for (int i = 0; i < c->levels; i++) sd_text_add(t, "%s%d", i ? "," : "; channels ", c->channels[i]);
    for (int i = 0; i < c->levels; i++) sd_text_add(t, "%s%d", i ? "," : "; resnets ", c->layers[i]);
    sd_text_add(t, "; transformer blocks ");
    say_depths(t, c, false);
    sd_text_add(t, " down and ");
    say_depths(t, c, true);
    sd_text_add(t, " up, ");
    if (c->mid == SD_MID_ATTENTION) sd_text_add(t, "%d in the middle", c->mid_depth);
    else sd_text_add(t, c->mid == SD_MID_NONE ? "no middle block" : "one resnet in the middle");
    for (int i = 0; i < c->levels; i++)
        if (c->only_cross[i]) sd_text_add(t, "; attn1.to_k of level %d reads the context", i);
}

/* What the shapes of a UNet say, for the sentence that names its family. */
static void say_unet(sd_text *t, const sd_network *n)
{
    const sd_unet_config *c = &n->unet;
    bool ldm = strcmp(n->naming, "LDM") == 0;
    sd_text_add(t, "%s reads %d channels", ldm ? "input_blocks.0.0" : "conv_in", c->in_channels);
    if (c->context_dim) sd_text_add(t, "; attn2.to_k reads %d numbers", c->context_dim);
    say_levels(t, c);
    if (c->add_in_dim)
        sd_text_add(t, "; %s reads %d numbers", ldm ? "label_emb.0.0" : "add_embedding.linear_1", c->add_in_dim);
    else if (n->class_in)
        sd_text_add(t, "; %s reads %d numbers", ldm ? "label_emb.0.0" : "class_embedding.linear_1", n->class_in);
    else if (c->class_embeds)
        sd_text_add(t, "; %s has %d rows", ldm ? "label_emb" : "class_embedding", c->class_embeds);
    else sd_text_add(t, "; no %s", ldm ? "label_emb" : "add_embedding");
    if (c->time_cond_dim) sd_text_add(t, "; time_embedding.cond_proj reads %d numbers", c->time_cond_dim);
}

/* Names of the families whose shapes are those of f. */
static void say_alike(sd_recognised *r, const sd_family *f)
{
    sd_text t = {0};
    int n = 0;
    const sd_family *g;
    for (size_t i = 0; (g = sd_family_at(i)) != NULL; i++)
        if (sd_family_of(&g->unet, g->class_in) == f) sd_text_add(&t, "%s%s", n++ ? ", " : "", g->name);
    if (n > 1) because(r, "shapes do not tell these families apart: %s", t.s ? t.s : "");
    free(t.s);
}

static void family_of_unet(sd_recognised *r, sd_network *n)
{
    sd_text t = {0};
    say_unet(&t, n);
    r->family = sd_family_of(&n->unet, n->class_in);
    if (r->family) because(r, "family %s, %s: %s", r->family->name, r->family->title, t.s ? t.s : "");
    else because(r, "no family has a UNet of these shapes: %s", t.s ? t.s : "");
    free(t.s);
    if (!r->family) return;
    say_alike(r, r->family);
    r->refusal = r->family->refusal;
}

/* What shapes do not tell. */
static void take_from_family(sd_unet_config *c, const sd_unet_config *f)
{
    memcpy(c->heads, f->heads, sizeof c->heads);
    c->groups = f->groups;
    c->norm_eps = f->norm_eps;
    c->add_time_dim = f->add_time_dim;
    c->height = f->height;
    c->width = f->width;
    c->flip_sin_to_cos = f->flip_sin_to_cos;
    c->freq_shift = f->freq_shift;
}

static void unet_from_shapes(const sd_store *s, sd_recognised *r, sd_network *n)
{
    sd_unet_config given = n->unet;
    bool fits = sd_unet_from_shapes(s, n->root, &n->unet, &n->class_in);
    if (fits) family_of_unet(r, n);
    else if (!n->unet.in_channels || !n->unet.out_channels) because(r, "the UNet lacks its first or last convolution");
    else because(r, "the UNet's blocks do not belong together: the way up must have the way down's levels, with one "
                    "resnet more");
    if (!fits) n->unet.levels = 0;   /* what is left of it is no network */
    if (n->has_config) {
        int gap = n->unet.ldm_gap;   /* of the file's names, not of the model */
        n->unet = given;
        n->unet.ldm_gap = gap;
    } else if (r->family) {
        take_from_family(&n->unet, &r->family->unet);
        n->has_config = true;
    }
}

/* --------------------------------------------------------------------------------------- the VAE */

static bool same_vae(const sd_vae_config *a, const sd_vae_config *b)
{
    return a->levels == b->levels && a->latent_channels == b->latent_channels && a->layers == b->layers &&
           memcmp(a->channels, b->channels, sizeof a->channels) == 0;
}

static void vae_from_shapes(const sd_store *s, sd_recognised *r, sd_network *n)
{
    const sd_family *f = NULL;
    bool several = false;
    if (n->has_config) return;
    if (!sd_vae_from_shapes(s, n->root, &n->vae)) {
        because(r, "the VAE's encoder and decoder do not make one");
        return;
    }
    for (size_t i = 0; sd_family_at(i); i++) {
        const sd_family *g = sd_family_at(i);
        if (!same_vae(&n->vae, &g->vae)) continue;
        several = several || (f && f->vae.scaling_factor != g->vae.scaling_factor);
        if (!f || g == r->family) f = g;
    }
    n->has_config = f != NULL;
    if (!f) {
        because(r, "no family has a VAE of these shapes: %d levels, decoder.conv_in reads %d channels, the first level "
                   "has %d", n->vae.levels, n->vae.latent_channels, n->vae.channels[0]);
        return;
    }
    n->vae.mid_attention = f->vae.mid_attention;   /* a file without them is not another network: it lacks them */
    n->vae.quant_conv = f->vae.quant_conv;
    n->vae.post_quant_conv = f->vae.post_quant_conv;
    n->vae.scaling_factor = f->vae.scaling_factor;
    memcpy(n->vae.latent_rgb, f->vae.latent_rgb, sizeof n->vae.latent_rgb);
    if (f == r->family || !several)
        because(r, "the VAE makes latents of %d levels below the picture: scaling factor %g, that of %s",
                n->vae.levels - 1, f->vae.scaling_factor, f->name);
    else
        because(r, "scaling factor %g is taken: the VAEs of SD 1, SD 2 and SDXL have the same shapes, and the file has "
                   "no UNet of theirs", f->vae.scaling_factor);
}

/* ---------------------------------------------------------------------------------- text encoders */

/* A single file has all 24 layers of OpenCLIP-H, of which Stable Diffusion 2 uses 23. */
static const sd_clip_config *known_clip(const sd_clip_config *c)
{
    const sd_family *f;
    for (size_t i = 0; (f = sd_family_at(i)) != NULL; i++)
        for (int k = 0; k < f->n_clip; k++) {
            const sd_clip_config *g = &f->clip[k];
            bool spare = g->layers == 23 && c->layers == 24;
            if (g->width == c->width && g->ff == c->ff && (g->layers == c->layers || spare)) return g;
        }
    return NULL;
}

static void text_from_shapes(const sd_store *s, sd_recognised *r, sd_network *n)
{
    sd_clip_config *c = &n->clip;
    if (n->has_config) return;
    if (!sd_clip_from_shapes(s, n->root, c, &n->naming)) {
        because(r, "%s lacks its embeddings or its layers", part_name(n));
        return;
    }
    const sd_clip_config *known = known_clip(c);
    n->has_config = known != NULL;
    if (!known) {
        because(r, "%s is none that a family has: %d layers of %d numbers", part_name(n), c->layers, c->width);
        return;
    }
    because(r, "%s has %d heads and %s as a family's with %d layers of %d numbers", part_name(n), known->heads,
            known->act == SD_ACT_GELU ? "gelu" : "quick_gelu", known->layers, known->width);
    if (c->layers != known->layers)
        because(r, "%s has %d layers, of which %d count", part_name(n), c->layers, known->layers);
    c->layers = known->layers;
    c->heads = known->heads;
    c->act = known->act;
    c->eps = known->eps;
    if (!known->projection) c->projection = 0;
}

/* ---------------------------------------------------------------------------- configurations in texts */

/* Our own single files have the config.json files of the directory that they were made from. */
static const struct { unsigned part; int index; const char *key; } texts[] = {
    {SD_PART_UNET, 0, SD_KEPT "unet/config.json"},
    {SD_PART_VAE, 0, SD_KEPT "vae/config.json"},
    {SD_PART_TEXT, 0, SD_KEPT "text_encoder/config.json"},
    {SD_PART_TEXT, 1, SD_KEPT "text_encoder_2/config.json"},
};

static sd_status parse_config(sd_network *n, const char *text, const char *key, sd_error *e)
{
    switch (n->part) {
    case SD_PART_UNET: return sd_unet_config_parse(&n->unet, text, key, e);
    case SD_PART_VAE: return sd_vae_config_parse(&n->vae, text, key, e);
    default: return sd_clip_config_parse(&n->clip, text, key, e);
    }
}

static void read_config(const sd_store *s, sd_recognised *r, sd_network *n)
{
    for (size_t i = 0; i < SD_COUNT(texts); i++) {
        const char *text = texts[i].part == n->part && texts[i].index == n->index ? sd_store_meta(s, texts[i].key)
                         : NULL;
        sd_error e = {0};
        if (!text) continue;
        if (parse_config(n, text, texts[i].key, &e)) {
            because(r, "%s: the header's text is not used: %s", part_name(n), e.text);
            continue;
        }
        n->has_config = true;
        n->config_from = texts[i].key;
        because(r, "%s is configured by the header's text %s", part_name(n), texts[i].key);
    }
}

static void configure(const sd_store *s, sd_recognised *r)
{
    for (int i = 0; i < r->n_networks; i++) {   /* the UNet comes first: it tells the family */
        sd_network *n = &r->network[i];
        read_config(s, r, n);
        if (n->part == SD_PART_UNET) unet_from_shapes(s, r, n);
        else if (n->part == SD_PART_VAE) vae_from_shapes(s, r, n);
        else text_from_shapes(s, r, n);
    }
}

/* -------------------------------------------------------------------------------------- prediction */

/* Tensors that stand in a file as marks, and texts of its header. The first that is there decides. */
static const struct mark { const char *tensor, *text, *value, *prediction; } marks[] = {
    {"v_pred", NULL, NULL, "v_prediction"},
    {"edm_vpred.sigma_max", NULL, NULL, "v_prediction"},
    {NULL, "modelspec.prediction_type", "v", "v_prediction"},
    {NULL, "modelspec.prediction_type", "v_prediction", "v_prediction"},
    {NULL, "modelspec.prediction_type", "epsilon", "epsilon"},
    {NULL, "modelspec.architecture", "stable-diffusion-v2-768-v*", "v_prediction"},
    {NULL, "modelspec.architecture", "stable-diffusion-v2-512*", "epsilon"},
    {NULL, "global_step", "875000", "epsilon"},   /* the training of Stable Diffusion 2.0 at 512 pixels ended there */
};

static bool is_set(const sd_store *s, const struct mark *m)
{
    if (m->tensor) return sd_store_find(s, m->tensor) != NULL;
    const char *value = sd_store_meta(s, m->text);
    return value && sd_glob(m->value, value);
}

/* What scheduler_config.json says, if the file has its text. */
static void ask_scheduler(const sd_store *s, sd_recognised *r)
{
    static const char key[] = SD_KEPT "scheduler/scheduler_config.json";
    const char *text = sd_store_meta(s, key);
    sd_error e = {0};
    sd_json *root = text ? sd_json_parse(text, strlen(text), key, &e) : NULL;
    const char *said = sd_json_text(sd_json_get(root, "prediction_type"));
    static const char *const known[] = {"epsilon", "v_prediction"};
    for (size_t i = 0; root && i < SD_COUNT(known); i++)
        if (strcmp(said ? said : known[0], known[i]) == 0) r->prediction = known[i];
    if (r->prediction) because(r, "prediction %s: %s in the header says so", r->prediction, key);
    if (sd_json_is(sd_json_get(root, "rescale_betas_zero_snr"), SD_JSON_TRUE)) {
        r->zero_snr = true;
        because(r, "zero terminal SNR: %s in the header says so", key);
    }
    sd_json_free(root);
}

/* In UNets of Stable Diffusion 2 these biases spread more when they were trained for v. No proof, only a hint
 * [ComfyUI's model detection]. */
static void look_for_hint(const sd_store *s, sd_recognised *r, const sd_network *unet)
{
    static const char *const biases[] = {"output_blocks.11.1.transformer_blocks.0.norm1.bias",
                                         "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"};
    float x[4096];
    char name[256];
    for (size_t i = 0; i < SD_COUNT(biases) && !r->hint; i++) {
        snprintf(name, sizeof name, "%s%s", unet->root, biases[i]);
        size_t n = sd_entry_floats(sd_store_find(s, name), x, SD_COUNT(x));
        double sum = 0, squares = 0;
        for (size_t k = 0; k < n; k++) sum += x[k], squares += (double)x[k] * x[k];
        double spread = n ? sqrt(squares / (double)n - sum / (double)n * (sum / (double)n)) : 0;
        if (!(spread > 0)) continue;   /* not there, or nothing but equal numbers */
        r->hint = spread > 0.09 ? "v_prediction" : "epsilon";
        because(r, "prediction likely %s: the standard deviation of %s is %.3f, and 0.09 lies between the two", r->hint,
                name, spread);
    }
}

/* Texts of the header that name one of several families with the same shapes. */
static const struct { const char *family, *text, *glob; } named[] = {
    {"sd-turbo", "modelspec.title", "*Turbo*,*turbo*"},
    {"sdxl-turbo", "modelspec.title", "*Turbo*,*turbo*"},
    {"sdxl-lightning", "modelspec.title", "*Lightning*,*lightning*"},
};

static void prefer_named(const sd_store *s, sd_recognised *r)
{
    for (size_t i = 0; i < SD_COUNT(named); i++) {
        const char *value = sd_store_meta(s, named[i].text);
        const sd_family *f = sd_family_find(named[i].family);
        if (!r->family || !value || !sd_glob_list(named[i].glob, value)) continue;
        if (sd_family_of(&f->unet, f->class_in) != r->family) continue;
        if (r->prediction && strcmp(r->prediction, f->prediction) != 0) continue;
        r->family = f;
        r->prediction = f->prediction;
        because(r, "family %s, %s: %s in the header is %s", f->name, f->title, named[i].text, value);
        return;
    }
}

/* Do all families with the shapes of f predict the same? */
static bool one_prediction(const sd_family *f)
{
    return !(sd_family_with(f, "epsilon") && sd_family_with(f, "v_prediction"));
}

static void decide_prediction(const sd_store *s, sd_recognised *r, const sd_network *unet)
{
    ask_scheduler(s, r);
    for (size_t i = 0; i < SD_COUNT(marks) && !r->prediction; i++) {
        if (!is_set(s, &marks[i])) continue;
        r->prediction = marks[i].prediction;
        if (marks[i].tensor) because(r, "prediction %s: the file has %s", r->prediction, marks[i].tensor);
        else because(r, "prediction %s: %s in the header is %s", r->prediction, marks[i].text,
                     sd_store_meta(s, marks[i].text));
    }
    if (!r->prediction && r->family && one_prediction(r->family)) {
        r->prediction = r->family->prediction;
        because(r, "prediction %s: as in every family of these shapes, and nothing in the file says otherwise",
                r->prediction);
    }
    prefer_named(s, r);
    if (!r->prediction) {
        because(r, "prediction not decided: no v_pred, no text of the header, and shapes do not tell");
        look_for_hint(s, r, unet);
    }
    const sd_family *f = r->family && r->prediction ? sd_family_with(r->family, r->prediction) : NULL;
    if (f && f != r->family) {
        r->family = f;
        because(r, "family %s, %s: the one of these shapes that predicts %s", f->name, f->title, f->prediction);
    }
}

static const struct { const char *tensor, *text; } zero_snr_marks[] = {
    {"ztsnr", NULL}, {NULL, "ss_zero_terminal_snr"}};

static double number_of(const sd_store *s, const char *name)
{
    float x = 0;
    return sd_entry_floats(sd_store_find(s, name), &x, 1) ? x : 0;
}

static void decide_noise(const sd_store *s, sd_recognised *r)
{
    for (size_t i = 0; i < SD_COUNT(zero_snr_marks) && !r->zero_snr; i++) {
        const char *tensor = zero_snr_marks[i].tensor, *key = zero_snr_marks[i].text;
        const char *value = key ? sd_store_meta(s, key) : NULL;
        r->zero_snr = tensor ? sd_store_find(s, tensor) != NULL : value && sd_same_name(value, "true");
        if (r->zero_snr) because(r, "zero terminal SNR: %s%s", tensor ? "the file has " : "the header has ",
                                 tensor ? tensor : key);
    }
    r->sigma_min = number_of(s, "edm_vpred.sigma_min");
    r->sigma_max = number_of(s, "edm_vpred.sigma_max");
    if (sd_store_find(s, "edm_vpred.sigma_max")) {
        r->refusal = "CosXL's continuous noise levels (EDM) are not supported yet";
        because(r, "CosXL: the file has edm_vpred.sigma_max, %g", r->sigma_max);
    } else if (sd_store_find(s, "edm_mean") && sd_store_find(s, "edm_std")) {
        r->refusal = "Playground 2.5's preconditioning (EDM) is not supported yet";
        because(r, "Playground 2.5: the file has edm_mean and edm_std");
    }
}

/* --------------------------------------------------------------------------------- counting tensors */

int sd_network_of(const sd_recognised *r, const char *name)
{
    int best = -1;
    for (int i = 0; i < r->n_networks; i++) {
        const char *root = r->network[i].root;
        if (sd_begins_with(name, root) && (best < 0 || strlen(root) > strlen(r->network[best].root))) best = i;
    }
    return best;
}

/* Rules for the last layer and the projection of some text encoders do not hold for all of them. */
static bool needs(const sd_network *n, const char *leaf)
{
    static const char *const layers[] = {"transformer.resblocks.%d.", "text_model.encoder.layers.%d.",
                                         "encoder.layers.%d."};
    int layer;
    if (!n || n->part != SD_PART_TEXT) return false;
    if (sd_glob_list("*text_projection,text_projection.weight", leaf)) return n->clip.projection > 0;
    for (size_t i = 0; i < SD_COUNT(layers); i++)
        if (sscanf(leaf, layers[i], &layer) == 1) return layer < n->clip.layers;
    return false;
}

static void add_share(sd_share *to, const sd_entry *t)
{
    to->tensors++;
    to->params += sd_entry_numbers(t);
    to->bytes += t->bytes;
}

static void add_skipped(sd_recognised *r, const sd_skip_rule *rule)
{
    int i = 0;
    while (i < r->n_skipped && r->skipped[i].rule != rule) i++;
    if (i == (int)SD_COUNT(r->skipped)) return;
    if (i == r->n_skipped) r->skipped[r->n_skipped++] = (sd_skipped){.rule = rule};
    r->skipped[i].tensors++;
}

static void count_tensor(sd_recognised *r, const sd_entry *t)
{
    int owner = sd_network_of(r, t->name);
    sd_network *n = owner < 0 ? NULL : &r->network[owner];
    const char *leaf = t->name + (n ? strlen(n->root) : 0);
    const sd_skip_rule *rule = r->kind == SD_FILE_LORA && sd_adapter_knows(r, t->name) ? NULL : sd_skip_find(t->name);
    if (!rule && n) rule = sd_skip_find(leaf);
    if (sd_glob("model_ema.*", t->name) && !sd_glob_list("model_ema.decay*,model_ema.num_*", t->name)) r->ema++;
    if (rule && !needs(n, leaf)) {
        add_skipped(r, rule);
    } else if (n) {
        add_share(&n->all, t);
        add_share(&n->by_type[t->dt], t);
        if (n->part == SD_PART_UNET && strcmp(n->naming, "LDM") == 0 &&
            (sd_begins_with(leaf, "up_blocks.") || sd_begins_with(leaf, "down_blocks.")))
            r->layout = "mixed";
    } else if (!sd_adapter_knows(r, t->name)) {
        r->leftover[r->n_leftover++] = t->name;
    }
}

static sd_status count_tensors(const sd_store *s, sd_recognised *r, sd_error *e)
{
    size_t n = sd_store_count(s);
    r->leftover = malloc((n + 1) * sizeof *r->leftover);
    if (!r->leftover) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of %zu tensors", n);
    for (size_t i = 0; i < n; i++) count_tensor(r, sd_store_at(s, i));
    if (r->ema > 100)
        because(r, "%zu tensors model_ema.* are averages of the UNet's weights; the weights themselves are taken",
                r->ema);
    for (int i = 0; i < r->n_skipped; i++)
        because(r, "%zu tensor%s skipped: %s", r->skipped[i].tensors, r->skipped[i].tensors == 1 ? "" : "s",
                r->skipped[i].rule->why);
    if (r->layout) because(r, "layout mixed: the UNet has names of LDM and, behind the same root, some of diffusers");
    return SD_OK;
}

/* ------------------------------------------------------------------------------------ all together */

static void decide_kind(sd_recognised *r)
{
    static const struct { unsigned part; sd_file_kind kind; const char *name; } alone[] = {
        {SD_PART_UNET, SD_FILE_UNET, "UNet"}, {SD_PART_VAE, SD_FILE_VAE, "VAE"},
        {SD_PART_TEXT, SD_FILE_TEXT, "text encoder"}};
    if (r->n_networks > 1) {
        r->kind = SD_FILE_CHECKPOINT;
        r->kind_name = "checkpoint";
    }
    for (size_t i = 0; i < SD_COUNT(alone) && r->n_networks == 1; i++)
        if (r->network[0].part == alone[i].part) {
            r->kind = alone[i].kind;
            r->kind_name = alone[i].name;
        }
}

/* The id of the padding that the header's text of a tokenizer names; -1: none, or one that CLIP's do not have. */
static int padding_of_text(const sd_store *s, const char *key)
{
    static const struct { const char *piece; int id; } known[] = {{"!", 0}, {"<|endoftext|>", 49407}};
    const char *text = sd_store_meta(s, key);
    sd_error e = {0};
    sd_json *root = text ? sd_json_parse(text, strlen(text), key, &e) : NULL;
    const sd_json *pad = sd_json_get(root, "pad_token");
    const char *piece = sd_json_text(sd_json_is(pad, SD_JSON_OBJECT) ? sd_json_get(pad, "content") : pad);
    int id = -1;
    for (size_t i = 0; i < SD_COUNT(known) && piece; i++)
        if (strcmp(piece, known[i].piece) == 0) id = known[i].id;
    sd_json_free(root);
    return id;
}

/* Padding is what the header says, or the family; else it follows from the text encoder: CLIP-L's tokenizer pads with
 * its end token, OpenCLIP's with 0. */
static void decide_padding(const sd_store *s, sd_recognised *r)
{
    static const char *const keys[] = {SD_KEPT "tokenizer/special_tokens_map.json",
                                       SD_KEPT "tokenizer_2/special_tokens_map.json"};
    for (int i = 0; i < 2; i++) {
        const sd_network *n = sd_recognised_network(r, SD_PART_TEXT, i);
        bool open_clip = n && n->clip.act == SD_ACT_GELU;
        int said = padding_of_text(s, keys[i]);
        r->pad[i] = said >= 0 ? said : r->family ? r->family->pad[i] : open_clip ? 0 : 49407;
        if (n) because(r, "%s's prompts are padded with %d, as %s does", part_name(n), r->pad[i], said >= 0 ? keys[i]
                       : r->family ? r->family->name : open_clip ? "OpenCLIP" : "CLIP-L");
    }
}

sd_status sd_recognise(const sd_store *s, sd_recognised *r, sd_error *e)
{
    memset(r, 0, sizeof *r);
    r->kind_name = "unknown";
    for (size_t i = 0; i < SD_COUNT(roots); i++) find_network(s, r, &roots[i]);
    decide_kind(r);
    configure(s, r);
    const sd_network *unet = sd_recognised_network(r, SD_PART_UNET, 0), *vae = sd_recognised_network(r, SD_PART_VAE, 0);
    if (unet) {
        decide_prediction(s, r, unet);
        decide_noise(s, r);
    }
    decide_padding(s, r);
    r->scaling_factor = vae ? vae->vae.scaling_factor : r->family ? r->family->vae.scaling_factor : 0;
    sd_recognise_adapter(s, r);
    if (count_tensors(s, r, e)) return e->status;
    if (!r->layout && r->n_networks) r->layout = r->network[0].naming;
    if (r->kind == SD_FILE_UNKNOWN)
        because(r, "unknown: no tensor has a name by which a network or an adapter is known");
    return r->why.failed ? sd_fail(e, SD_ERR_MEMORY, "no memory for what a file is") : SD_OK;
}

void sd_recognised_free(sd_recognised *r)
{
    free(r->leftover);
    free(r->why.s);
    memset(r, 0, sizeof *r);
}
