/* recognise_shapes.c - floor 4: configurations of networks from the names and shapes of their tensors.
 *
 * What shapes do not tell, heads, groups and epsilons, is what the families have: 32 groups; 8 heads where the context
 * has 768 numbers (SD 1), else heads of 64 numbers. */
#include "recognise.h"

#include <string.h>

typedef struct place { const sd_store *s; const char *root; } place;

static const sd_entry *tensor(const place *p, const char *fmt, ...) SD_PRINTF(2, 3);
static const sd_entry *tensor(const place *p, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    int n = snprintf(name, sizeof name, "%s", p->root);
    if (n < 0 || (size_t)n >= sizeof name) return NULL;
    va_start(ap, fmt);
    int m = vsnprintf(name + n, sizeof name - (size_t)n, fmt, ap);
    va_end(ap);
    return m >= 0 && (size_t)m < sizeof name - (size_t)n ? sd_store_find(p->s, name) : NULL;
}

/* Of two tensors that say the same the first that is there: a file that lacks one of them is known by the other, and
 * what it lacks is told by name. */
static const sd_entry *either(const sd_entry *a, const sd_entry *b) { return a ? a : b; }

/* -------------------------------------------------------------------------------------------- UNet */

/* The way down and the way up in both spellings. CompVis counts the blocks through; a level ends with `ends`. */
static const struct way { const char *ldm, *hf, *ends[2]; bool apart; } ways[2] = {
    {"input_blocks", "down_blocks", {"0.op", NULL}, true},   /* the end has a number of its own */
    {"output_blocks", "up_blocks", {"1.conv", "2.conv"}, false},
};
enum { DOWN, UP };

/* What one level has, in the order of the way. */
typedef struct level {
    int layers, channels;
    int depth[SD_MAX_LAYERS];   /* of each layer's attention; 0: it has none */
    bool only_cross;            /* attn1 reads the context */
} level;
typedef struct levels {
    level at[SD_MAX_LEVELS];
    int n;
    int gap;              /* numbers of blocks that are left out at the end of the first level */
    char attention[64];   /* the first one's path; "": there is none */
} levels;

/* How many transformer blocks an attention has. */
static int blocks_of(const place *p, const char *path)
{
    int n = 0;
    while (n < 64 && (tensor(p, "%s.transformer_blocks.%d.attn1.to_q.weight", path, n) ||
                      tensor(p, "%s.transformer_blocks.%d.norm1.weight", path, n)))
        n++;
    return n;
}

/* Files of distilled models mix both spellings: an attention may have either path. */
static void add_layer(levels *l, const place *p, const sd_entry *conv, const char *ldm, const char *hf)
{
    level *a = &l->at[l->n];
    const char *path = blocks_of(p, ldm) ? ldm : hf;
    int depth = blocks_of(p, path);
    if (a->layers == SD_MAX_LAYERS) return;
    if (!a->layers) a->channels = sd_entry_side(conv, 0);
    if (sd_entry_side(conv, 0) != a->channels) a->channels = 0;   /* no level of ours */
    a->depth[a->layers++] = depth;
    if (!depth) return;
    const sd_entry *k = tensor(p, "%s.transformer_blocks.0.attn1.to_k.weight", path);
    a->only_cross = sd_entry_side(k, 1) != sd_entry_side(k, 0);
    if (!*l->attention) snprintf(l->attention, sizeof l->attention, "%s", path);
}

static bool ends_level(const place *p, const struct way *w, int i)
{
    for (int k = 0; k < 2 && w->ends[k]; k++)
        if (tensor(p, "%s.%d.%s.weight", w->ldm, i, w->ends[k]) || tensor(p, "%s.%d.%s.bias", w->ldm, i, w->ends[k]))
            return true;
    return false;
}

/* Files of distilled models leave numbers of blocks out, so their order counts, not the number. */
static void levels_of_ldm(levels *l, const place *p, const struct way *w)
{
    char ldm[64], hf[64];
    int last = 0;
    for (int i = 0; i < 160 && l->n < SD_MAX_LEVELS; i++) {
        const sd_entry *conv = either(tensor(p, "%s.%d.0.in_layers.2.weight", w->ldm, i),
                                      tensor(p, "%s.%d.0.out_layers.3.weight", w->ldm, i));
        snprintf(ldm, sizeof ldm, "%s.%d.1", w->ldm, i);
        snprintf(hf, sizeof hf, "%s.%d.attentions.%d", w->hf, l->n, l->at[l->n].layers);
        if (conv) {
            add_layer(l, p, conv, ldm, hf);
            last = i;
        }
        if (!ends_level(p, w, i)) continue;
        if (l->n++ == 0 && w->apart) l->gap = i - last - 1;
    }
    if (l->n < SD_MAX_LEVELS && l->at[l->n].layers) l->n++;
}

static const sd_entry *hf_conv(const place *p, const char *way, int i, int j)
{
    return either(tensor(p, "%s.%d.resnets.%d.conv1.weight", way, i, j),
                  tensor(p, "%s.%d.resnets.%d.conv2.weight", way, i, j));
}

static void levels_of_hf(levels *l, const place *p, const struct way *w)
{
    char hf[64];
    for (; l->n < SD_MAX_LEVELS; l->n++) {
        const sd_entry *conv;
        for (int j = 0; (conv = hf_conv(p, w->hf, l->n, j)) != NULL; j++) {
            snprintf(hf, sizeof hf, "%s.%d.attentions.%d", w->hf, l->n, j);
            add_layer(l, p, conv, hf, hf);
        }
        if (!l->at[l->n].layers) break;
    }
}

static levels levels_of(const place *p, int way)
{
    levels l = {.n = 0};
    levels_of_ldm(&l, p, &ways[way]);
    if (l.n == 0) levels_of_hf(&l, p, &ways[way]);
    return l;
}

/* Depths of a level's attentions; one by one only where they differ. */
static void set_depths(const level *l, int *depth, unsigned char *each)
{
    bool even = true;
    *depth = l->depth[0];
    for (int i = 1; i < l->layers; i++) even = even && l->depth[i] == l->depth[0];
    for (int i = 0; i < l->layers && !even; i++) each[i] = (unsigned char)l->depth[i];
}

/* Both ways must have the same levels, the way up with one layer more. */
static bool join_ways(const levels *down, const levels *up, sd_unet_config *c)
{
    c->levels = down->n;
    if (down->n == 0 || up->n != down->n) return false;
    for (int i = 0; i < down->n; i++) {
        const level *d = &down->at[i], *u = &up->at[up->n - 1 - i];
        if (u->layers != d->layers + 1 || u->channels != d->channels || !d->channels) return false;
        c->channels[i] = d->channels;
        c->layers[i] = d->layers;
        c->only_cross[i] = d->depth[0] ? d->only_cross : u->only_cross;
        set_depths(d, &c->depth[i], c->layer_depth[i]);
        set_depths(u, &c->up_depth[i], c->up_layer_depth[i]);
    }
    return true;
}

static void middle_of(const place *p, sd_unet_config *c)
{
    int as_ldm = blocks_of(p, "middle_block.1");
    c->mid_depth = as_ldm ? as_ldm : blocks_of(p, "mid_block.attentions.0");
    bool resnet = tensor(p, "middle_block.0.in_layers.2.weight") || tensor(p, "middle_block.0.out_layers.3.weight") ||
                  tensor(p, "mid_block.resnets.0.conv1.weight") || tensor(p, "mid_block.resnets.0.conv2.weight");
    c->mid = c->mid_depth ? SD_MID_ATTENTION : resnet ? SD_MID_RESNET : SD_MID_NONE;
}

/* What the first attention says of all of them. */
static void attention_of(const place *p, const char *path, sd_unet_config *c)
{
    if (!*path) return;
    const sd_entry *in = tensor(p, "%s.proj_in.weight", path);
    c->context_dim = sd_entry_side(either(tensor(p, "%s.transformer_blocks.0.attn2.to_k.weight", path),
                                          tensor(p, "%s.transformer_blocks.0.attn2.to_v.weight", path)), 1);
    c->linear_projection = in && in->nd == 2;
}

/* Further inputs that are added to the time embedding. CompVis spells SDXL's and unCLIP's alike: widths tell them
 * apart. */
static void added_of(const place *p, sd_unet_config *c, int *class_in)
{
    static const int pictures[] = {2048, 1536};   /* embeddings of pictures and their noise: of CLIP-H, of CLIP-L */
    int ldm = sd_entry_side(tensor(p, "label_emb.0.0.weight"), 1);
    *class_in = sd_entry_side(tensor(p, "class_embedding.linear_1.weight"), 1);
    for (size_t i = 0; i < SD_COUNT(pictures); i++)
        if (ldm == pictures[i]) *class_in = ldm;
    c->add_in_dim = *class_in ? 0 : ldm ? ldm : sd_entry_side(tensor(p, "add_embedding.linear_1.weight"), 1);
    c->add_time_dim = c->add_in_dim ? 256 : 0;
    c->class_embeds = sd_entry_side(either(tensor(p, "label_emb.weight"), tensor(p, "class_embedding.weight")), 0);
    c->time_cond_dim = sd_entry_side(tensor(p, "time_embedding.cond_proj.weight"), 1);
}

static int likely_heads(int context, int channels)
{
    int heads = context == 768 ? 8 : channels / 64;
    return heads > 0 && channels % heads == 0 ? heads : 1;
}

bool sd_unet_from_shapes(const sd_store *s, const char *root, sd_unet_config *c, int *class_in)
{
    place p = {s, root};
    levels down = levels_of(&p, DOWN), up = levels_of(&p, UP);
    *c = (sd_unet_config){.groups = 32, .norm_eps = 1e-5, .flip_sin_to_cos = true, .height = 64, .width = 64};
    c->in_channels = sd_entry_side(either(tensor(&p, "input_blocks.0.0.weight"), tensor(&p, "conv_in.weight")), 1);
    c->out_channels = sd_entry_side(either(either(tensor(&p, "out.2.weight"), tensor(&p, "out.2.bias")),
                                           either(tensor(&p, "conv_out.weight"), tensor(&p, "conv_out.bias"))), 0);
    c->ldm_gap = down.gap;
    bool fits = join_ways(&down, &up, c) && c->in_channels && c->out_channels;
    middle_of(&p, c);
    attention_of(&p, down.attention, c);
    added_of(&p, c, class_in);
    for (int i = 0; i < c->levels; i++) c->heads[i] = likely_heads(c->context_dim, c->channels[i]);
    return fits;
}

/* --------------------------------------------------------------------------------------------- VAE */

/* Channels per level and layers per level, of the encoder or, if there is none, of the decoder. CompVis counts the
 * decoder's levels from the finest, diffusers from the coarsest. */
static const struct { const char *blocks, *layer; bool coarse_first; int more; } vae_ways[] = {
    {"encoder.down", "block", false, 0},
    {"encoder.down_blocks", "resnets", false, 0},
    {"decoder.up", "block", false, 1},
    {"decoder.up_blocks", "resnets", true, 1},
};

static const sd_entry *vae_layer(const place *p, size_t way, int i, int j)
{
    const char *blocks = vae_ways[way].blocks, *layer = vae_ways[way].layer;
    return either(tensor(p, "%s.%d.%s.%d.conv1.weight", blocks, i, layer, j),
                  tensor(p, "%s.%d.%s.%d.conv2.weight", blocks, i, layer, j));
}

static void vae_levels(const place *p, sd_vae_config *c)
{
    for (size_t way = 0; way < SD_COUNT(vae_ways) && !c->levels; way++) {
        int n = 0, channels[SD_MAX_LEVELS];
        const sd_entry *first;
        for (; n < SD_MAX_LEVELS && (first = vae_layer(p, way, n, 0)) != NULL; n++)
            channels[n] = sd_entry_side(first, 0);
        while (n && c->layers < 16 && vae_layer(p, way, 0, c->layers)) c->layers++;
        c->layers -= n ? vae_ways[way].more : 0;
        c->levels = n;
        for (int i = 0; i < n; i++) c->channels[i] = channels[vae_ways[way].coarse_first ? n - 1 - i : i];
    }
}

bool sd_vae_from_shapes(const sd_store *s, const char *root, sd_vae_config *c)
{
    static const float rgb[5][3] = SD_LATENT_RGB;
    place p = {s, root};
    memset(c, 0, sizeof *c);
    vae_levels(&p, c);
    int latents = sd_entry_side(tensor(&p, "decoder.conv_in.weight"), 1);
    c->in_channels = sd_entry_side(tensor(&p, "encoder.conv_in.weight"), 1);
    c->out_channels = sd_entry_side(tensor(&p, "decoder.conv_out.weight"), 0);
    c->latent_channels = latents ? latents : sd_entry_side(tensor(&p, "encoder.conv_out.weight"), 0) / 2;
    if (!c->in_channels) c->in_channels = c->out_channels;
    if (!c->out_channels) c->out_channels = c->in_channels;
    static const char *const attention[] = {"encoder.mid.attn_1.norm.weight", "decoder.mid.attn_1.norm.weight",
                                            "encoder.mid_block.attentions.0.group_norm.weight",
                                            "decoder.mid_block.attentions.0.group_norm.weight"};
    for (size_t i = 0; i < SD_COUNT(attention); i++)
        if (tensor(&p, "%s", attention[i])) c->mid_attention = true;
    c->quant_conv = tensor(&p, "quant_conv.weight") != NULL;
    c->post_quant_conv = tensor(&p, "post_quant_conv.weight") != NULL;
    c->groups = 32;
    c->scaling_factor = 0.18215;
    memcpy(c->latent_rgb, rgb, sizeof rgb);
    return c->levels && c->layers > 0 && c->latent_channels && c->in_channels;
}

/* -------------------------------------------------------------------------------------------- CLIP */

static const struct clip_names { const char *naming, *token, *position, *layer, *ff, *projection; int columns; }
clip_names[] = {
    {"transformers", "text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
     "text_model.encoder.layers", "mlp.fc1", "text_projection.weight", 0},
    {"transformers", "embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "encoder.layers",
     "mlp.fc1", "text_projection.weight", 0},
    /* x W: the columns are the projection's numbers */
    {"OpenCLIP", "token_embedding.weight", "positional_embedding", "transformer.resblocks", "mlp.c_fc",
     "text_projection", 1},
};

static const sd_entry *clip_ff(const place *p, const struct clip_names *n, int layer)
{
    return either(tensor(p, "%s.%d.%s.weight", n->layer, layer, n->ff),
                  tensor(p, "%s.%d.%s.bias", n->layer, layer, n->ff));
}

bool sd_clip_from_shapes(const sd_store *s, const char *root, sd_clip_config *c, const char **naming)
{
    place p = {s, root};
    memset(c, 0, sizeof *c);
    const struct clip_names *n = clip_names;
    while (n < clip_names + SD_COUNT(clip_names) && !tensor(&p, "%s", n->token)) n++;
    if (n == clip_names + SD_COUNT(clip_names)) return false;
    const sd_entry *token = tensor(&p, "%s", n->token);
    *naming = n->naming;
    c->vocab = sd_entry_side(token, 0);
    c->width = sd_entry_side(token, 1);
    const sd_entry *position = tensor(&p, "%s", n->position);
    c->positions = position ? sd_entry_side(position, 0) : 77;   /* every CLIP's */
    while (c->layers < 256 && clip_ff(&p, n, c->layers)) c->layers++;
    c->ff = sd_entry_side(clip_ff(&p, n, 0), 0);
    c->projection = sd_entry_side(tensor(&p, "%s", n->projection), n->columns);
    if (!c->projection)   /* OpenCLIP's x W among transformers' names, as stable-diffusion.cpp has it */
        c->projection = sd_entry_side(tensor(&p, "text_model.text_projection"), 1);
    c->heads = c->width % 64 || !c->width ? 1 : c->width / 64;
    c->act = n->columns ? SD_ACT_GELU : SD_ACT_QUICK_GELU;
    c->eps = 1e-5;
    return c->vocab && c->width && c->positions && c->layers && c->ff;
}
