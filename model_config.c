/* model_config.c - floor 4: what a model's config.json files say, checked.
 *
 * No other code asks to which family a model belongs: variants are numbers in sd_*_config. */
#include "json.h"
#include "net.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------- config.json */

#define LEAST_EPS 1e-12   /* anything smaller is lost when it is added to a variance */

typedef struct reader { sd_json *root; const char *path; sd_error *e; } reader;

static reader open_file(const char *path, sd_error *e)
{
    return (reader){.root = sd_json_read(path, (size_t)16 << 20, e), .path = path, .e = e};
}

static reader open_text(const char *text, const char *name, sd_error *e)
{
    return (reader){.root = sd_json_parse(text, strlen(text), name, e), .path = name, .e = e};
}

/* The value of a key; NULL if it is absent or null: then the class' default holds. (Not for truth values: Python's None
 * is false.) */
static const sd_json *find(const reader *j, const char *key)
{
    const sd_json *v = sd_json_get(j->root, key);
    return sd_json_is(v, SD_JSON_NULL) ? NULL : v;
}

static int whole(const reader *j, const sd_json *v, const char *key, int min, int max)
{
    if (sd_json_is(v, SD_JSON_NUMBER) && v->number >= min && v->number <= max && v->number == floor(v->number))
        return (int)v->number;
    sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must be a whole number from %d to %d", j->path, key, min, max);
    return min;
}

static int get_int(const reader *j, const char *key, int otherwise, int min, int max)
{
    const sd_json *v = find(j, key);
    return v ? whole(j, v, key, min, max) : otherwise;
}

static double get_num(const reader *j, const char *key, double otherwise, double least, double most)
{
    const sd_json *v = find(j, key);
    if (!v) return otherwise;
    if (!sd_json_is(v, SD_JSON_NUMBER) || !(v->number >= least && v->number <= most))
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must be a number from %g to %g", j->path, key, least, most);
    return v->number;
}

static bool get_bool(const reader *j, const char *key, bool otherwise)
{
    const sd_json *v = sd_json_get(j->root, key);
    if (!v) return otherwise;
    if (!sd_json_is_bool(v) && !sd_json_is(v, SD_JSON_NULL))
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must be true or false", j->path, key);
    return sd_json_is(v, SD_JSON_TRUE);
}

static const char *get_text(const reader *j, const char *key, const char *otherwise)
{
    const sd_json *v = find(j, key);
    if (!v) return otherwise;
    if (!sd_json_is(v, SD_JSON_TEXT)) {
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must be text", j->path, key);
        return otherwise;
    }
    return v->text;
}

/* A list with one entry per level, or one number for all of them. Returns the list's length, `levels` for a number. */
static int get_levels(const reader *j, const char *key, int *out, int levels, int otherwise, int min, int max)
{
    const sd_json *v = find(j, key);
    if (v && !sd_json_is(v, SD_JSON_LIST)) otherwise = whole(j, v, key, min, max);
    if (!sd_json_is(v, SD_JSON_LIST)) {
        for (int i = 0; i < levels; i++) out[i] = otherwise;
        return levels;
    }
    int n = sd_json_count(v), i = 0;
    if (n < 1 || n > SD_MAX_LEVELS) {
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must have 1 to %d entries, it has %d", j->path, key, SD_MAX_LEVELS, n);
        return levels;
    }
    for (const sd_json *c = v->first; c; c = c->next) out[i++] = whole(j, c, key, min, max);
    if (levels && n != levels)
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must have %d entries, one per level, it has %d", j->path, key, levels, n);
    return n;
}

/* A table of numbers, row by row. */
static void get_table(const reader *j, const char *key, float *out, int rows, int columns)
{
    const sd_json *v = find(j, key), *row = NULL, *x = NULL;
    int n = 0, at = 0;
    if (!v) return;
    SD_JSON_EACH(row, v)
    {
        bool fits = sd_json_is(row, SD_JSON_LIST) && sd_json_count(row) == columns && n++ < rows;
        const sd_json *cells = fits ? row : NULL;
        SD_JSON_EACH(x, cells)
        {
            fits = fits && sd_json_is(x, SD_JSON_NUMBER) && fabs(x->number) < 1e6;
            if (fits) out[at++] = (float)x->number;
        }
        if (!fits) n = rows + 1;
    }
    if (n != rows) sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must be %d lists of %d numbers", j->path, key, rows, columns);
}

static bool same_word(const char *s, const char *word, size_t n)
{
    for (; n && *s && tolower((unsigned char)*s) == tolower((unsigned char)*word); n--) s++, word++;
    return n == 0 && *s == 0;
}

/* Is a value absent, null, false, one of the words in `only` (spaces between them), or a list of such values? */
static bool changes_nothing(const sd_json *v, const char *only)
{
    if (!v || sd_json_is(v, SD_JSON_NULL) || sd_json_is(v, SD_JSON_FALSE)) return true;
    if (sd_json_is(v, SD_JSON_LIST)) {
        for (v = v->first; v && changes_nothing(v, only); v = v->next) continue;
        return !v;
    }
    for (size_t n; only && sd_json_is(v, SD_JSON_TEXT) && *only; only += n + strspn(only + n, " ")) {
        n = strcspn(only, " ");
        if (same_word(v->text, only, n)) return true;
    }
    return false;
}

/* A key for which only one value is supported: a value that would change the result is refused, not ignored. */
static void refuse(const reader *j, const char *key, const char *only)
{
    const sd_json *v = find(j, key);
    if (changes_nothing(v, only)) return;
    char *text = sd_json_print(v);
    sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: %s %.60s is not supported%s%.*s", j->path, key, text ? text : "",
            only ? ", only " : "", only ? (int)strcspn(only, " ") : 0, only ? only : "");
    free(text);
}

static void note(char notes[SD_NOTES], const char *fmt, ...) SD_PRINTF(2, 3);
static void note(char notes[SD_NOTES], const char *fmt, ...)
{
    size_t n = strlen(notes);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(notes + n, SD_NOTES - n, fmt, ap);
    va_end(ap);
}

/* A key that diffusers' classes store and never use in Stable Diffusion: it is noted and otherwise ignored. Numbers
 * equal to `neutral` are not noted. */
static void ignore(const reader *j, const char *key, double neutral, char notes[SD_NOTES])
{
    const sd_json *v = find(j, key), *x = sd_json_is(v, SD_JSON_LIST) ? v->first : v;
    while (x && (changes_nothing(x, NULL) || (sd_json_is(x, SD_JSON_NUMBER) && x->number == neutral)))
        x = sd_json_is(v, SD_JSON_LIST) ? x->next : NULL;
    if (!x) return;
    char *text = sd_json_print(v);
    note(notes, "%s: %s %.40s is ignored, as diffusers ignores it for Stable Diffusion\n", j->path, key, text ? text
         : "");
    free(text);
}

/* The names of the blocks: `plain` (0) or `attending` (1) per level. */
static void block_types(const reader *j, const char *key, const char *plain, const char *attending, int *out,
                        int levels)
{
    const sd_json *v = find(j, key), *c = NULL;
    int n = 0;
    if (!v) {   /* diffusers' default: attention everywhere but at the coarsest level */
        bool up = strncmp(key, "up", 2) == 0;
        for (int i = 0; i < levels; i++) out[i] = attending && i != (up ? 0 : levels - 1);
        return;
    }
    SD_JSON_EACH(c, v)
    {
        bool is_plain = sd_json_is(c, SD_JSON_TEXT) && strcmp(c->text, plain) == 0;
        bool attends = attending && sd_json_is(c, SD_JSON_TEXT) && strcmp(c->text, attending) == 0;
        if (!is_plain && !attends) {
            sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: %s \"%.40s\" is not supported, only %s%s%s", j->path, key,
                    sd_json_is(c, SD_JSON_TEXT) ? c->text : "?", plain, attending ? " and " : "", attending ? attending
                        : "");
            return;
        }
        if (n < levels) out[n] = attends;
        n++;
    }
    if (n != levels)
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must have %d entries, one per level, it has %d", j->path, key, levels, n);
}

static sd_status close_json(reader *j)
{
    sd_json_free(j->root);
    return j->e->status;
}

/* Channels must split evenly into groups, and into heads where there is attention. */
static void check_split(const reader *j, const int *channels, int levels, int groups)
{
    for (int i = 0; i < levels; i++)
        if (channels[i] % groups)
            sd_fail(j->e, SD_ERR_FORMAT, "%s: %d channels do not divide into norm_num_groups %d", j->path, channels[i],
                    groups);
}

/* Depths of one block's attentions: a number, or a list with one for each of its `layers`. */
static int get_depth(const reader *j, const sd_json *v, const char *key, unsigned char *each, int layers)
{
    int i = 0;
    if (!sd_json_is(v, SD_JSON_LIST)) return whole(j, v, key, 1, 64);
    if (sd_json_count(v) != layers) {
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must have %d entries for a block of %d layers, it has %d", j->path, key,
                layers, layers, sd_json_count(v));
        return 1;
    }
    for (const sd_json *x = v->first; x; x = x->next) each[i++] = (unsigned char)whole(j, x, key, 1, 64);
    return each[0];
}

/* The depths of all blocks of one way. The list of the way up runs from coarse to fine. */
static void get_depths(const reader *j, const sd_unet_config *c, const char *key, bool up, int *depth,
                       unsigned char each[][SD_MAX_LAYERS])
{
    const sd_json *v = find(j, key);
    int n = c->levels, i = 0;
    bool list = sd_json_is(v, SD_JSON_LIST);
    for (int level = 0; level < n; level++) depth[level] = v && !list ? whole(j, v, key, 1, 64) : 1;
    if (!list) return;
    if (sd_json_count(v) != n) {
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %s must have %d entries, one per level, it has %d", j->path, key, n,
                sd_json_count(v));
        return;
    }
    for (const sd_json *x = v->first; x; x = x->next, i++) {
        int level = up ? n - 1 - i : i;
        depth[level] = get_depth(j, x, key, each[level], c->layers[level] + up);
    }
}

static void unet_depths(const reader *j, sd_unet_config *c)
{
    static const char down_key[] = "transformer_layers_per_block", up_key[] = "reverse_transformer_layers_per_block";
    int n = c->levels, down[SD_MAX_LEVELS], up[SD_MAX_LEVELS], depth[SD_MAX_LEVELS], up_depth[SD_MAX_LEVELS];
    block_types(j, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", down, n);
    block_types(j, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", up, n);
    get_depths(j, c, down_key, false, depth, c->layer_depth);
    if (find(j, up_key)) get_depths(j, c, up_key, true, up_depth, c->up_layer_depth);
    else memcpy(up_depth, depth, sizeof depth);
    for (int i = 0; i < n && !j->e->status; i++) {
        if (c->layer_depth[i][0] && !find(j, up_key))
            sd_fail(j->e, SD_ERR_FORMAT, "%s: %s has a list for a block, so there must be %s", j->path, down_key,
                    up_key);
        c->depth[i] = down[i] ? depth[i] : 0;
        c->up_depth[i] = up[n - 1 - i] ? up_depth[i] : 0;
        if ((c->depth[i] || c->up_depth[i] || i == n - 1) && c->channels[i] % c->heads[i])
            sd_fail(j->e, SD_ERR_FORMAT, "%s: %d channels do not divide into %d attention heads", j->path,
                    c->channels[i], c->heads[i]);
    }
    c->mid_depth = depth[n - 1];   /* the coarsest level's, whether or not its own block has attention */
}

/* Here null differs from absent. */
static void unet_middle(const reader *j, sd_unet_config *c)
{
    static const struct { const char *name; sd_mid mid; } kinds[] = {{"UNetMidBlock2DCrossAttn", SD_MID_ATTENTION},
                                                                     {"UNetMidBlock2D", SD_MID_RESNET}};
    const sd_json *v = sd_json_get(j->root, "mid_block_type");
    const char *name = v ? sd_json_text(v) : kinds[0].name;
    c->mid = SD_MID_NONE;
    for (size_t i = 0; i < SD_COUNT(kinds) && name; i++)
        if (strcmp(kinds[i].name, name) == 0) c->mid = kinds[i].mid;
    if (c->mid == SD_MID_NONE && !sd_json_is(v, SD_JSON_NULL))
        sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: mid_block_type \"%.60s\" is not supported, only %s, %s and null",
                j->path, name ? name : "?", kinds[0].name, kinds[1].name);
}

/* only_cross_attention: true or false, or a list of them, one per level. */
static void unet_only_cross(const reader *j, sd_unet_config *c)
{
    const sd_json *v = find(j, "only_cross_attention"), *x = sd_json_is(v, SD_JSON_LIST) ? v->first : v;
    bool one = !sd_json_is(v, SD_JSON_LIST);
    if (!one && sd_json_count(v) != c->levels)
        sd_fail(j->e, SD_ERR_FORMAT, "%s: only_cross_attention must have %d entries, one per level, it has %d", j->path,
                c->levels, sd_json_count(v));
    for (int i = 0; i < c->levels && x; i++, x = one ? x : x->next) {
        if (!sd_json_is_bool(x))
            sd_fail(j->e, SD_ERR_FORMAT, "%s: only_cross_attention must be true or false", j->path);
        c->only_cross[i] = sd_json_is(x, SD_JSON_TRUE);
    }
}

static void unet_refusals(const reader *j)
{
    static const struct { const char *key, *only; } one_way[] = {
        {"act_fn", "silu swish"}, {"center_input_sample", NULL},
        {"dual_cross_attention", NULL},
        {"class_embed_type", NULL},
        {"encoder_hid_dim", NULL},
        {"encoder_hid_dim_type", NULL}, {"time_embedding_type", "positional"}, {"time_embedding_act_fn", NULL},
        {"timestep_post_act", NULL},
        {"resnet_time_scale_shift", "default"}, {"attention_type", "default"},
        {"class_embeddings_concat", NULL},
        {"addition_embed_type", "text_time"}};
    for (size_t i = 0; i < SD_COUNT(one_way); i++) refuse(j, one_way[i].key, one_way[i].only);
    static const char *const kernels[] = {"conv_in_kernel", "conv_out_kernel"};
    for (size_t i = 0; i < SD_COUNT(kernels); i++)
        if (get_int(j, kernels[i], 3, 1, 99) != 3)
            sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: %s must be 3", j->path, kernels[i]);
    static const char *const ones[] = {"mid_block_scale_factor", "downsample_padding"};
    for (size_t i = 0; i < SD_COUNT(ones); i++)
        if (get_num(j, ones[i], 1, -1e9, 1e9) != 1)
            sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: %s must be 1", j->path, ones[i]);
}

/* Keys for attention blocks of other kinds, which have no effect on these blocks. */
static void unet_ignored(const reader *j, sd_unet_config *c)
{
    ignore(j, "resnet_out_scale_factor", 1, c->notes);
    ignore(j, "resnet_skip_time_act", 0, c->notes);
    ignore(j, "cross_attention_norm", 0, c->notes);
    ignore(j, "mid_block_only_cross_attention", 0, c->notes);
}

/* sample_size: one number, or [height, width]. In files of diffusers before 0.9 one number is changed as
 * StableDiffusionPipeline's constructor changes it. */
static void unet_size(const reader *j, sd_unet_config *c)
{
    const sd_json *v = find(j, "sample_size");
    c->height = c->width = 64;
    if (sd_json_is(v, SD_JSON_LIST) && sd_json_count(v) == 2) {
        c->height = whole(j, v->first, "sample_size", 1, 4096);
        c->width = whole(j, v->first->next, "sample_size", 1, 4096);
        return;
    }
    c->height = c->width = get_int(j, "sample_size", 64, 1, 4096);
    int major = 1, minor = 0;
    const char *version = get_text(j, "_diffusers_version", "1.0");
    if (c->height >= 64 || sscanf(version, "%d.%d", &major, &minor) != 2 || major > 0 || minor >= 9) return;
    note(c->notes, "%s: sample_size %d of diffusers %.20s is taken for 64, as its pipelines take it\n", j->path,
         c->height, version);
    c->height = c->width = 64;
}

/* Numbers for which a network like ours has only one possible value, or the same for all of its levels. */
static void unet_fixed(const reader *j, sd_unet_config *c)
{
    int dim[SD_MAX_LEVELS], usual = 4 * c->channels[0], given = get_int(j, "time_embedding_dim", usual, 1, 1 << 20);
    if (given != usual)
        sd_fail(j->e, SD_ERR_UNSUPPORTED,
                "%s: time_embedding_dim %d is not supported, only 4 times block_out_channels[0], %d", j->path, given,
                    usual);
    get_levels(j, "cross_attention_dim", dim, c->levels, 1280, 1, 65536);
    for (int i = 1; i < c->levels && !j->e->status; i++)
        if (dim[i] != dim[0])
            sd_fail(j->e, SD_ERR_UNSUPPORTED,
                    "%s: cross_attention_dim differs between levels, %d and %d, which is not supported", j->path,
                        dim[0], dim[i]);
    c->context_dim = dim[0];
    /* the frequencies of the timestep's sinusoid are 10000^(-i / (channels/2 - freq_shift)) */
    c->freq_shift = get_num(j, "freq_shift", 0, -1e6, c->channels[0] / 2 - 1e-3);
}

static sd_status unet_config(reader *j, sd_unet_config *c)
{
    memset(c, 0, sizeof *c);
    if (!j->root) return j->e->status;
    refuse(j, "_class_name", "UNet2DConditionModel");
    unet_refusals(j);
    unet_ignored(j, c);
    c->in_channels = get_int(j, "in_channels", 4, 1, 64);
    c->out_channels = get_int(j, "out_channels", 4, 1, 64);
    int usual[SD_MAX_LEVELS] = {320, 640, 1280, 1280};
    memcpy(c->channels, usual, sizeof usual);
    c->levels = find(j, "block_out_channels") ? get_levels(j, "block_out_channels", c->channels, 0, 0, 1, 16384) : 4;
    if (c->levels < 1) sd_fail(j->e, SD_ERR_FORMAT, "%s: block_out_channels must be a list", j->path);
    if (j->e->status) return close_json(j);
    get_levels(j, "layers_per_block", c->layers, c->levels, 2, 1, 16);
    /* Published files call the number of heads attention_head_dim. */
    get_levels(j, find(j, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim", c->heads, c->levels,
               8, 1, 1024);
    c->groups = get_int(j, "norm_num_groups", 32, 1, 16384);
    c->norm_eps = get_num(j, "norm_eps", 1e-5, LEAST_EPS, 1);
    c->linear_projection = get_bool(j, "use_linear_projection", false);
    c->flip_sin_to_cos = get_bool(j, "flip_sin_to_cos", true);
    unet_size(j, c);
    unet_fixed(j, c);
    if (find(j, "addition_embed_type")) {
        c->add_time_dim = get_int(j, "addition_time_embed_dim", 256, 1, 65536);
        c->add_in_dim = get_int(j, "projection_class_embeddings_input_dim", 2816, 1, 65536);
    }
    if (!j->e->status) check_split(j, c->channels, c->levels, c->groups);
    c->class_embeds = get_int(j, "num_class_embeds", 0, 1, 1 << 20);
    c->time_cond_dim = get_int(j, "time_cond_proj_dim", 0, 1, 65536);
    unet_middle(j, c);
    if (!j->e->status) unet_only_cross(j, c);
    if (!j->e->status) unet_depths(j, c);
    return close_json(j);
}

sd_status sd_unet_config_read(sd_unet_config *c, const char *path, sd_error *e)
{
    reader j = open_file(path, e);
    return unet_config(&j, c);
}

sd_status sd_unet_config_parse(sd_unet_config *c, const char *text, const char *name, sd_error *e)
{
    reader j = open_text(text, name, e);
    return unet_config(&j, c);
}

/* One way of a TAESD. Its classes can be made with several widths, but not run. */
static void tiny_way(const reader *j, const char *channels, const char *blocks, const int *otherwise, sd_tiny_way *way)
{
    int width[SD_MAX_LEVELS];
    way->levels = find(j, blocks) ? get_levels(j, blocks, way->blocks, 0, 1, 0, 64) : 4;
    if (!find(j, blocks)) memcpy(way->blocks, otherwise, 4 * sizeof *otherwise);
    if (j->e->status) return;
    get_levels(j, channels, width, way->levels, 64, 1, 16384);
    way->width = width[0];
    for (int i = 1; i < way->levels && !j->e->status; i++)
        if (width[i] != width[0])
            sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: %s must all be the same, not %d and %d: diffusers' AutoencoderTiny "
                    "has no layer that changes their number", j->path, channels, width[0], width[i]);
}

static sd_status tiny_config(reader *j, sd_vae_config *c)
{
    static const int down[] = {1, 3, 3, 3}, up[] = {3, 3, 3, 1};
    refuse(j, "act_fn", "relu");
    refuse(j, "upsample_fn", "nearest");
    c->tiny = true;
    c->in_channels = get_int(j, "in_channels", 3, 3, 3);
    c->out_channels = get_int(j, "out_channels", 3, 3, 3);
    c->latent_channels = get_int(j, "latent_channels", 4, 1, 64);
    get_int(j, "upsampling_scaling_factor", 2, 2, 2);
    c->scaling_factor = get_num(j, "scaling_factor", 1, 1e-6, 1e6);
    ignore(j, "shift_factor", 0, c->notes);
    tiny_way(j, "encoder_block_out_channels", "num_encoder_blocks", down, &c->tiny_encoder);
    tiny_way(j, "decoder_block_out_channels", "num_decoder_blocks", up, &c->tiny_decoder);
    if (!j->e->status && c->tiny_encoder.levels != c->tiny_decoder.levels)
        sd_fail(j->e, SD_ERR_FORMAT, "%s: %d levels of num_encoder_blocks and %d of num_decoder_blocks do not make "
                "pictures of the same size", j->path, c->tiny_encoder.levels, c->tiny_decoder.levels);
    c->levels = c->tiny_decoder.levels;
    for (int i = 0; i < c->levels; i++) c->channels[i] = c->tiny_decoder.width;
    return close_json(j);
}

static sd_status vae_config(reader *j, sd_vae_config *c)
{
    int plain[SD_MAX_LEVELS];
    memset(c, 0, sizeof *c);
    if (!j->root) return j->e->status;
    static const float sd[5][3] = SD_LATENT_RGB;
    memcpy(c->latent_rgb, sd, sizeof sd);
    get_table(j, "_latent_rgb", &c->latent_rgb[0][0], 5, 3);
    c->own_rgb = find(j, "_latent_rgb");
    const sd_json *class = find(j, "_class_name");
    if (sd_json_is(class, SD_JSON_TEXT) && strcmp(class->text, "AutoencoderTiny") == 0) return tiny_config(j, c);
    refuse(j, "_class_name", "AutoencoderKL");
    refuse(j, "act_fn", "silu swish");
    ignore(j, "shift_factor", 0, c->notes);
    ignore(j, "latents_mean", 0, c->notes);
    ignore(j, "latents_std", 1, c->notes);
    c->in_channels = get_int(j, "in_channels", 3, 3, 3);
    c->out_channels = get_int(j, "out_channels", 3, 3, 3);
    c->latent_channels = get_int(j, "latent_channels", 4, 1, 64);
    c->levels = get_levels(j, "block_out_channels", c->channels, find(j, "block_out_channels") ? 0 : 1, 64, 1, 16384);
    if (c->levels < 1) sd_fail(j->e, SD_ERR_FORMAT, "%s: block_out_channels must be a list", j->path);
    c->layers = get_int(j, "layers_per_block", 1, 1, 16);
    c->groups = get_int(j, "norm_num_groups", 32, 1, 16384);
    c->scaling_factor = get_num(j, "scaling_factor", 0.18215, 1e-6, 1e6);
    c->mid_attention = get_bool(j, "mid_block_add_attention", true);
    c->quant_conv = get_bool(j, "use_quant_conv", true);
    c->post_quant_conv = get_bool(j, "use_post_quant_conv", true);
    if (!j->e->status) check_split(j, c->channels, c->levels, c->groups);
    if (!j->e->status) block_types(j, "down_block_types", "DownEncoderBlock2D", NULL, plain, c->levels);
    if (!j->e->status) block_types(j, "up_block_types", "UpDecoderBlock2D", NULL, plain, c->levels);
    return close_json(j);
}

sd_status sd_vae_config_read(sd_vae_config *c, const char *path, sd_error *e)
{
    reader j = open_file(path, e);
    return vae_config(&j, c);
}

sd_status sd_vae_config_parse(sd_vae_config *c, const char *text, const char *name, sd_error *e)
{
    reader j = open_text(text, name, e);
    return vae_config(&j, c);
}

static sd_status clip_config(reader *j, sd_clip_config *c)
{
    memset(c, 0, sizeof *c);
    if (!j->root) return j->e->status;
    const sd_json *inner = sd_json_get(j->root, "text_config");
    sd_json *root = j->root;
    if (sd_json_is(inner, SD_JSON_OBJECT)) j->root = (sd_json *)inner;   /* a whole CLIPModel's file */
    c->vocab = get_int(j, "vocab_size", 49408, 1, 1 << 24);
    c->positions = get_int(j, "max_position_embeddings", 77, 1, 1 << 16);
    c->width = get_int(j, "hidden_size", 512, 1, 65536);
    c->ff = get_int(j, "intermediate_size", 2048, 1, 262144);
    c->layers = get_int(j, "num_hidden_layers", 12, 1, 256);
    c->heads = get_int(j, "num_attention_heads", 8, 1, 1024);
    c->eps = get_num(j, "layer_norm_eps", 1e-5, LEAST_EPS, 1);
    refuse(j, "use_attention_mask", NULL);   /* diffusers' pipelines use it */
    const char *act = get_text(j, "hidden_act", "quick_gelu");
    if (strcmp(act, "quick_gelu") == 0) c->act = SD_ACT_QUICK_GELU;
    else if (strcmp(act, "gelu") == 0) c->act = SD_ACT_GELU;
    else sd_fail(j->e, SD_ERR_UNSUPPORTED, "%s: hidden_act \"%.40s\" is not supported, only quick_gelu and gelu",
                 j->path, act);
    const sd_json *arch = sd_json_item(find(j, "architectures"), 0);
    if (sd_json_is(arch, SD_JSON_TEXT) && strcmp(arch->text, "CLIPTextModelWithProjection") == 0)
        c->projection = get_int(j, "projection_dim", 512, 1, 65536);
    if (!j->e->status && c->width % c->heads)
        sd_fail(j->e, SD_ERR_FORMAT, "%s: hidden_size %d does not divide into %d heads", j->path, c->width, c->heads);
    j->root = root;
    return close_json(j);
}

sd_status sd_clip_config_read(sd_clip_config *c, const char *path, sd_error *e)
{
    reader j = open_file(path, e);
    return clip_config(&j, c);
}

sd_status sd_clip_config_parse(sd_clip_config *c, const char *text, const char *name, sd_error *e)
{
    reader j = open_text(text, name, e);
    return clip_config(&j, c);
}

