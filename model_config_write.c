/* model_config_write.c - floor 4: configurations as the config.json files that diffusers and transformers read. */
#include "json.h"
#include "net.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------------- one key */

static void key(sd_text *t, const char *name)
{
    if (t->n > 1) sd_text_add(t, ",");
    sd_text_quoted(t, name);
    sd_text_add(t, ":");
}

static void add_word(sd_text *t, const char *name, const char *word)
{
    key(t, name);
    sd_text_quoted(t, word);
}

static void add_int(sd_text *t, const char *name, int x)
{
    key(t, name);
    sd_text_add(t, "%d", x);
}

static void add_int_or_null(sd_text *t, const char *name, int x)
{
    key(t, name);
    if (x) sd_text_add(t, "%d", x);
    else sd_text_add(t, "null");
}

static void add_number(sd_text *t, const char *name, double x)
{
    char digits[SD_NUMBER_SIZE];
    key(t, name);
    sd_text_add(t, "%s", sd_number_text(digits, x));
}

static void add_bool(sd_text *t, const char *name, bool x)
{
    key(t, name);
    sd_text_add(t, x ? "true" : "false");
}

/* One number if all n are the same, else a list. */
static void add_levels(sd_text *t, const char *name, const int *x, int n)
{
    bool same = true;
    for (int i = 1; i < n; i++) same = same && x[i] == x[0];
    key(t, name);
    if (same) sd_text_add(t, "%d", x[0]);
    for (int i = 0; i < n && !same; i++) sd_text_add(t, "%s%d%s", i ? "," : "[", x[i], i + 1 < n ? "" : "]");
}

static void add_list(sd_text *t, const char *name, const int *x, int n)
{
    key(t, name);
    for (int i = 0; i < n; i++) sd_text_add(t, "%s%d", i ? "," : "[", x[i]);
    sd_text_add(t, "]");
}

/* `plain`, or `other` where a depth is not 0, level by level; from the coarsest on if `down` is false. */
static void add_types(sd_text *t, const char *name, const char *plain, const char *other, const int *depth, int n,
                      bool down)
{
    key(t, name);
    for (int i = 0; i < n; i++) {
        int level = down ? i : n - 1 - i;
        sd_text_add(t, "%s\"%s\"", i ? "," : "[", depth && depth[level] ? other : plain);
    }
    sd_text_add(t, "]");
}

static char *finish(sd_text *t, const char *what, sd_error *e)
{
    sd_text_add(t, "}");
    return sd_json_lines_of(t, what, e);
}

/* -------------------------------------------------------------------------------------- the UNet */

/* Depths of one way, in the order of its blocks. The list has numbers for blocks without attention too: 1; and for the
 * coarsest level the middle block's. */
static int depth_of(const sd_unet_config *c, const int *depth, int level)
{
    return depth[level] ? depth[level] : level == c->levels - 1 && c->mid_depth ? c->mid_depth : 1;
}

static void add_depths(sd_text *t, const char *name, const sd_unet_config *c, bool up)
{
    const int *depth = up ? c->up_depth : c->depth;
    bool simple = !up;   /* one number says it all */
    for (int i = 0; i < c->levels; i++)
        simple = simple && !c->layer_depth[i][0] && depth_of(c, depth, i) == depth_of(c, depth, 0);
    key(t, name);
    if (simple) {
        sd_text_add(t, "%d", depth_of(c, depth, 0));
        return;
    }
    for (int i = 0; i < c->levels; i++) {
        int level = up ? c->levels - 1 - i : i, layers = c->layers[level] + up;
        const unsigned char *each = (up ? c->up_layer_depth : c->layer_depth)[level];
        sd_text_add(t, i ? "," : "[");
        if (!each[0]) sd_text_add(t, "%d", depth_of(c, depth, level));
        for (int k = 0; each[0] && k < layers; k++)
            sd_text_add(t, "%s%d%s", k ? "," : "[", each[k], k + 1 < layers ? "" : "]");
    }
    sd_text_add(t, "]");
}

/* Does the way up have other depths than the way down? */
static bool is_asymmetric(const sd_unet_config *c)
{
    for (int i = 0; i < c->levels; i++)
        if (c->layer_depth[i][0] || c->up_layer_depth[i][0] ||
            (c->up_depth[i] && c->up_depth[i] != depth_of(c, c->depth, i)))
            return true;
    return false;
}

static void add_only_cross(sd_text *t, const sd_unet_config *c)
{
    bool any = false;
    for (int i = 0; i < c->levels; i++) any = any || c->only_cross[i];
    key(t, "only_cross_attention");
    if (!any) sd_text_add(t, "false");
    for (int i = 0; i < c->levels && any; i++)
        sd_text_add(t, "%s%s%s", i ? "," : "[", c->only_cross[i] ? "true" : "false", i + 1 < c->levels ? "" : "]");
}

static void add_middle(sd_text *t, const sd_unet_config *c)
{
    static const char *const types[] = {[SD_MID_ATTENTION] = "UNetMidBlock2DCrossAttn",
                                        [SD_MID_RESNET] = "UNetMidBlock2D"};
    if (c->mid != SD_MID_NONE) add_word(t, "mid_block_type", types[c->mid]);
    else add_int_or_null(t, "mid_block_type", 0);
}

char *sd_unet_config_text(const sd_unet_config *c, sd_error *e)
{
    sd_text t = {0};
    int n = c->levels, size[] = {c->height, c->width};
    sd_text_add(&t, "{");
    add_word(&t, "_class_name", "UNet2DConditionModel");
    add_word(&t, "_diffusers_version", "0.42.1");
    add_word(&t, "act_fn", "silu");
    if (c->add_in_dim) {
        add_word(&t, "addition_embed_type", "text_time");
        add_int(&t, "addition_time_embed_dim", c->add_time_dim);
    }
    add_levels(&t, "attention_head_dim", c->heads, n);
    add_list(&t, "block_out_channels", c->channels, n);
    add_bool(&t, "center_input_sample", false);
    add_int(&t, "cross_attention_dim", c->context_dim);
    add_types(&t, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", c->depth, n, true);
    add_int(&t, "downsample_padding", 1);
    add_bool(&t, "flip_sin_to_cos", c->flip_sin_to_cos);
    add_number(&t, "freq_shift", c->freq_shift);
    add_int(&t, "in_channels", c->in_channels);
    add_levels(&t, "layers_per_block", c->layers, n);
    add_int(&t, "mid_block_scale_factor", 1);
    add_middle(&t, c);
    add_number(&t, "norm_eps", c->norm_eps);
    add_int(&t, "norm_num_groups", c->groups);
    add_int_or_null(&t, "num_class_embeds", c->class_embeds);
    add_only_cross(&t, c);
    add_int(&t, "out_channels", c->out_channels);
    add_int_or_null(&t, "projection_class_embeddings_input_dim", c->add_in_dim);
    if (is_asymmetric(c)) add_depths(&t, "reverse_transformer_layers_per_block", c, true);
    add_levels(&t, "sample_size", size, 2);
    add_int_or_null(&t, "time_cond_proj_dim", c->time_cond_dim);
    add_depths(&t, "transformer_layers_per_block", c, false);
    add_types(&t, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", c->up_depth, n, false);
    add_bool(&t, "use_linear_projection", c->linear_projection);
    return finish(&t, "the UNet's config.json", e);
}

/* -------------------------------------------------------------------------------------- the others */

static void add_way(sd_text *t, const char *channels, const char *blocks, const sd_tiny_way *way)
{
    int width[SD_MAX_LEVELS];
    for (int i = 0; i < way->levels; i++) width[i] = way->width;
    add_list(t, channels, width, way->levels);
    add_list(t, blocks, way->blocks, way->levels);
}

static char *taesd_config_text(const sd_vae_config *c, sd_error *e)
{
    sd_text t = {0};
    sd_text_add(&t, "{");
    add_word(&t, "_class_name", "AutoencoderTiny");
    add_word(&t, "_diffusers_version", "0.42.1");
    add_word(&t, "act_fn", "relu");
    add_int(&t, "in_channels", c->in_channels);
    add_int(&t, "latent_channels", c->latent_channels);
    add_int(&t, "out_channels", c->out_channels);
    add_number(&t, "scaling_factor", c->scaling_factor);
    add_way(&t, "encoder_block_out_channels", "num_encoder_blocks", &c->tiny_encoder);
    add_way(&t, "decoder_block_out_channels", "num_decoder_blocks", &c->tiny_decoder);
    return finish(&t, "the TAESD's config.json", e);
}

char *sd_vae_config_text(const sd_vae_config *c, sd_error *e)
{
    if (c->tiny) return taesd_config_text(c, e);
    sd_text t = {0};
    sd_text_add(&t, "{");
    add_word(&t, "_class_name", "AutoencoderKL");
    add_word(&t, "_diffusers_version", "0.42.1");
    add_word(&t, "act_fn", "silu");
    add_list(&t, "block_out_channels", c->channels, c->levels);
    add_types(&t, "down_block_types", "DownEncoderBlock2D", NULL, NULL, c->levels, true);
    add_int(&t, "in_channels", c->in_channels);
    add_int(&t, "latent_channels", c->latent_channels);
    add_int(&t, "layers_per_block", c->layers);
    add_bool(&t, "mid_block_add_attention", c->mid_attention);
    add_int(&t, "norm_num_groups", c->groups);
    add_int(&t, "out_channels", c->out_channels);
    add_number(&t, "scaling_factor", c->scaling_factor);
    add_types(&t, "up_block_types", "UpDecoderBlock2D", NULL, NULL, c->levels, false);
    add_bool(&t, "use_post_quant_conv", c->post_quant_conv);
    add_bool(&t, "use_quant_conv", c->quant_conv);
    return finish(&t, "the VAE's config.json", e);
}

/* Ids as in the published files: what transformers really uses comes from the tokenizer. */
char *sd_clip_config_text(const sd_clip_config *c, sd_error *e)
{
    sd_text t = {0};
    sd_text_add(&t, "{");
    key(&t, "architectures");
    sd_text_add(&t, "[\"%s\"]", c->projection ? "CLIPTextModelWithProjection" : "CLIPTextModel");
    add_number(&t, "attention_dropout", 0);
    add_int(&t, "bos_token_id", 0);
    add_int(&t, "eos_token_id", 2);
    add_word(&t, "hidden_act", c->act == SD_ACT_GELU ? "gelu" : "quick_gelu");
    add_int(&t, "hidden_size", c->width);
    add_number(&t, "initializer_factor", 1);
    add_number(&t, "initializer_range", 0.02);
    add_int(&t, "intermediate_size", c->ff);
    add_number(&t, "layer_norm_eps", c->eps);
    add_int(&t, "max_position_embeddings", c->positions);
    add_word(&t, "model_type", "clip_text_model");
    add_int(&t, "num_attention_heads", c->heads);
    add_int(&t, "num_hidden_layers", c->layers);
    add_int(&t, "pad_token_id", 1);
    add_int(&t, "projection_dim", c->projection ? c->projection : c->width);
    add_int(&t, "vocab_size", c->vocab);
    return finish(&t, "the text encoder's config.json", e);
}
