/* net.h - floor 4: configurations, plans and weights of the three networks, and their forward functions. */
#ifndef SD_NET_H
#define SD_NET_H

#include "trace.h"
#include "weights.h"

/* ------------------------------------------------------------------ configurations (config.c) */

#define SD_MAX_LEVELS 8

typedef struct sd_unet_config {
    int in_channels, out_channels;
    int levels;                        /* resolutions */
    int channels[SD_MAX_LEVELS];       /* block_out_channels */
    int layers[SD_MAX_LEVELS];         /* layers_per_block, per level on the way down; one more on the way up */
    int depth[SD_MAX_LEVELS];          /* transformer blocks per attention on the way down; 0: no attention */
    int up_depth[SD_MAX_LEVELS];       /* the same on the way up, by level (not by position) */
    int heads[SD_MAX_LEVELS];          /* attention heads per level */
    int mid_depth;                     /* transformer blocks in the middle; 0: none */
    int groups;                        /* norm_num_groups */
    double norm_eps;                   /* of resnets and conv_norm_out; the transformers' group norm has 1e-6 */
    int context_dim;                   /* cross_attention_dim */
    bool linear_projection;            /* proj_in, proj_out: [C,C] instead of [C,C,1,1] */
    int add_time_dim, add_in_dim;      /* SDXL: addition_time_embed_dim, projection_class_embeddings_input_dim; 0: none */
    int sample_size;                   /* native latent size */
    bool flip_sin_to_cos;
    double freq_shift;
} sd_unet_config;

typedef struct sd_vae_config {
    int in_channels, out_channels, latent_channels;
    int levels, channels[SD_MAX_LEVELS], layers;
    int groups;
    double scaling_factor;
    bool mid_attention, quant_conv, post_quant_conv;
    int sample_size;
} sd_vae_config;

typedef struct sd_clip_config {
    int vocab, positions, width, heads, layers, ff;
    sd_act act;
    double eps;
    int projection;                    /* columns of text_projection; 0: no such tensor */
} sd_clip_config;

/* A family: what `sd plan --config` knows by name. */
typedef struct sd_family {
    const char *name;
    sd_unet_config unet;
    sd_vae_config vae;
    sd_clip_config clip[2];
    int n_clip;
} sd_family;
const sd_family *sd_family_find(const char *name);    /* NULL: unknown */
const char *sd_family_names(void);                    /* "sd15, sd21, sdxl, sdxl-refiner" */

sd_status sd_unet_config_read(sd_unet_config *c, const char *path, sd_error *e);
sd_status sd_vae_config_read(sd_vae_config *c, const char *path, sd_error *e);
sd_status sd_clip_config_read(sd_clip_config *c, const char *path, sd_error *e);

/* ------------------------------------------------------------------ tokenizer.c */

typedef struct sd_tokenizer sd_tokenizer;
/* dir has merges.txt (and, if it is there, vocab.json) and says which token pads. */
sd_status sd_tokenizer_open(sd_tokenizer **out, const char *dir, sd_error *e);
void sd_tokenizer_close(sd_tokenizer *t);
sd_status sd_tokenizer_encode(const sd_tokenizer *t, const char *text, sd_tokens *out, sd_error *e);
const char *sd_tokenizer_piece(const sd_tokenizer *t, int32_t id);
int32_t sd_tokenizer_pad(const sd_tokenizer *t);

/* ------------------------------------------------------------------ plans (layers.c)
 * A network is walked once into a flat list of steps. Binding, forward, the printed plan and the null backend all read that list. */

typedef enum sd_step_kind {
    SD_STEP_CONV_IN, SD_STEP_RES, SD_STEP_ATTN, SD_STEP_VAE_ATTN, SD_STEP_DOWN, SD_STEP_UP, SD_STEP_NORM_OUT, SD_STEP_CONV_OUT,
    SD_STEP_CONV1  /* the VAE's 1x1 quant_conv and post_quant_conv */
} sd_step_kind;

typedef struct sd_step {
    sd_step_kind kind;
    int ci, co;          /* channels in (after joining a skip) and out */
    int depth, heads;    /* ATTN */
    int skip;            /* RES on the way up: channels of the skip it pops and joins; 0: none */
    bool push;           /* its result is kept as a skip */
    char hf[56], ldm[40];
} sd_step;

typedef struct sd_net_plan {
    sd_step *step;
    int n;
} sd_net_plan;

typedef struct sd_conv_w { sd_tensor w, b; } sd_conv_w;
typedef struct sd_norm_w { sd_tensor w, b; } sd_norm_w;

#endif
