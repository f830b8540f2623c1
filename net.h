/* net.h - floor 4: configurations, steps and weights of the three networks, and their forward functions. */
#ifndef SD_NET_H
#define SD_NET_H

#include "trace.h"
#include "weights.h"

/* ------------------------------------------------------------------ configurations (model_config.c) */

#define SD_MAX_LEVELS 8
#define SD_MAX_LAYERS 17   /* on the way up: one more than layers_per_block */
#define SD_PATH 160   /* room for a module path */
#define SD_NOTES 512  /* room for notes about keys that have no effect, one line each, for the log */

/* The middle block: resnet, attention, resnet; one resnet [diffusers UNetMidBlock2D]; none. */
typedef enum sd_mid { SD_MID_ATTENTION = 0, SD_MID_RESNET, SD_MID_NONE } sd_mid;

typedef struct sd_unet_config {
    int in_channels, out_channels;
    int levels;                        /* resolutions */
    int channels[SD_MAX_LEVELS];       /* block_out_channels */
    int layers[SD_MAX_LEVELS];         /* layers_per_block, per level on the way down; one more on the way up */
    int depth[SD_MAX_LEVELS];          /* transformer blocks per attention on the way down; 0: no attention */
    int up_depth[SD_MAX_LEVELS];       /* the same on the way up, by level (not by position) */
    /* Where the attentions of one level differ: the depth of the i-th; 0: as above (SSD-1B). */
    unsigned char layer_depth[SD_MAX_LEVELS][SD_MAX_LAYERS], up_layer_depth[SD_MAX_LEVELS][SD_MAX_LAYERS];
    int heads[SD_MAX_LEVELS];          /* attention heads per level */
    bool only_cross[SD_MAX_LEVELS];    /* only_cross_attention: attn1 looks at the context too (x4-upscaler) */
    sd_mid mid;
    int mid_depth;                     /* transformer blocks of its attention */
    int groups;                        /* norm_num_groups */
    double norm_eps;                   /* of resnets and conv_norm_out; transformers' group norms have 1e-6 */
    int context_dim;                   /* cross_attention_dim */
    bool linear_projection;            /* proj_in, proj_out: [C,C] instead of [C,C,1,1] */
    int add_time_dim, add_in_dim;      /* addition_time_embed_dim, projection_class_embeddings_input_dim; 0: not SDXL */
    int class_embeds;                  /* num_class_embeds: rows of a table of which one is added to the time embedding
                                        * (x4-upscaler: by the noise level); 0: none */
    int time_cond_dim;                 /* time_cond_proj_dim: width of a further input of the time embedding (LCM: of
                                        * the guidance scale); 0: none */
    int height, width;                 /* native latent size, sample_size */
    int ldm_gap;                       /* numbers that CompVis' names leave out after the resnets of each level: 1 where
                                        * a script that reckons with two resnets has named one (small-sd, tiny-sd) */
    bool flip_sin_to_cos;
    double freq_shift;
    char notes[SD_NOTES];
} sd_unet_config;

/* One way through a TAESD, all of it of one width: so many blocks at each level. */
typedef struct sd_tiny_way { int levels, width, blocks[SD_MAX_LEVELS]; } sd_tiny_way;

typedef struct sd_vae_config {
    int in_channels, out_channels, latent_channels;
    int levels, channels[SD_MAX_LEVELS], layers;
    int groups;
    double scaling_factor;
    float latent_rgb[5][3];            /* "_latent_rgb", this project's key, for previews: red, green and blue in [-1,1]
                                        * per unit of each of the UNet's four latent channels, and a constant */
    bool own_rgb;                      /* latent_rgb was given */
    bool mid_attention, quant_conv, post_quant_conv;
    bool tiny;                         /* a TAESD [diffusers AutoencoderTiny]: layers, groups and the three above do not
                                        * count; its ways may be of different widths, and one may be absent (levels
                                        * 0) */
    sd_tiny_way tiny_encoder, tiny_decoder;
    char notes[SD_NOTES];
} sd_vae_config;

/* Fits the VAE of SD 1 and 2; tools/fit_preview.py makes one for another. */
#define SD_LATENT_RGB \
    {{0.298f, 0.207f, 0.208f}, {0.187f, 0.286f, 0.173f}, {-0.158f, 0.189f, 0.264f}, {-0.184f, -0.271f, -0.473f}, {0}}

typedef struct sd_clip_config {
    int vocab, positions, width, heads, layers, ff;
    sd_act act;
    double eps;
    int projection;                    /* columns of text_projection; 0: no such tensor */
} sd_clip_config;

/* Transformer blocks of a level's i-th attention. */
static inline int sd_unet_depth(const sd_unet_config *c, bool up, int level, int i)
{
    int own = up ? c->up_layer_depth[level][i] : c->layer_depth[level][i];
    int all = up ? c->up_depth[level] : c->depth[level];
    return all && own ? own : all;
}

/* A family of models (model_families.c): everything that a file of weights alone does not say. */
typedef struct sd_family {
    const char *name;                  /* "sd15" */
    const char *title;                 /* "Stable Diffusion 1" */
    sd_unet_config unet;
    int class_in;                      /* unCLIP: numbers of a picture's embedding that is projected; 0: none */
    sd_vae_config vae;
    sd_clip_config clip[2];
    int n_clip;
    int pad[2];                        /* each tokenizer's padding id */
    const char *prediction;            /* "epsilon", "v_prediction" */
    const char *scheduler;             /* scheduler_config.json as published, its text */
    const char *low_res_scheduler;     /* the upscaler's other one: how much noise the small picture gets; NULL: none */
    int steps;                         /* how many it is drawn with, ... */
    double guidance;                   /* ... and by which guidance scale; 0: it is drawn without guidance */
    bool by_name;                      /* only --config or a title says that a model is this one */
    const char *refusal;               /* why it cannot be run or planned, a sentence; NULL: it can */
} sd_family;
const sd_family *sd_family_find(const char *name);    /* NULL: unknown */
const sd_family *sd_family_at(size_t i);              /* NULL: there are no more */
/* The family with the same shapes as f and this prediction, f if it fits; NULL: there is none. */
const sd_family *sd_family_with(const sd_family *f, const char *prediction);
/* Is this the i-th family that has f's shapes and prediction? NULL: there are no more. The first is i = 0. */
const sd_family *sd_family_like(const sd_family *f, size_t i);
/* The first family whose UNet gets the same kinds of input, whatever its shapes: a small model is drawn as that one.
 * NULL: there is none. */
const sd_family *sd_family_of_inputs(const sd_unet_config *c);
/* The first family with these shapes; heads, groups and sizes do not count. NULL: there is none. */
const sd_family *sd_family_of(const sd_unet_config *c, int class_in);
#define SD_FAMILY_NAMES 512
const char *sd_family_names(char text[SD_FAMILY_NAMES]);   /* of those that can be planned: "sd15, sd15-inpaint, ..." */

/* A configuration out of the text of a config.json; `name` stands for the path in sentences. */
sd_status sd_unet_config_parse(sd_unet_config *c, const char *text, const char *name, sd_error *e);
sd_status sd_vae_config_parse(sd_vae_config *c, const char *text, const char *name, sd_error *e);
sd_status sd_clip_config_parse(sd_clip_config *c, const char *text, const char *name, sd_error *e);
sd_status sd_unet_config_read(sd_unet_config *c, const char *path, sd_error *e);
sd_status sd_vae_config_read(sd_vae_config *c, const char *path, sd_error *e);
sd_status sd_clip_config_read(sd_clip_config *c, const char *path, sd_error *e);

/* model_config_write.c. The other way round: the text of a config.json that says the same. free() it; NULL, and an
 * error: out of memory. What diffusers cannot say is left out: ldm_gap. */
char *sd_unet_config_text(const sd_unet_config *c, sd_error *e);
char *sd_vae_config_text(const sd_vae_config *c, sd_error *e);
char *sd_clip_config_text(const sd_clip_config *c, sd_error *e);

/* ------------------------------------------------------------------ tokenizer.c */

typedef struct sd_tokenizer sd_tokenizer;
/* dir has merges.txt, perhaps vocab.json, and files that say which token pads. */
sd_status sd_tokenizer_open(sd_tokenizer **out, const char *dir, sd_error *e);
/* The same merges with this padding token, as if special_tokens_map.json named it and nothing else: what dir says of
 * tokens does not count. */
sd_status sd_tokenizer_open_padded(sd_tokenizer **out, const char *dir, const char *pad, sd_error *e);
void sd_tokenizer_close(sd_tokenizer *t);
sd_status sd_tokenizer_encode(const sd_tokenizer *t, const char *text, sd_tokens *out, sd_error *e);
const char *sd_tokenizer_piece(const sd_tokenizer *t, int32_t id);

/* ------------------------------------------------------------------ steps (layers.c)
 * A network is written once as a flat list of steps. Binding, the forward function, `sd plan` and the null backend all
 * read that list. */

typedef enum sd_step_kind {
    SD_STEP_CONV_IN, SD_STEP_RES, SD_STEP_ATTN, SD_STEP_VAE_ATTN, SD_STEP_DOWN, SD_STEP_UP, SD_STEP_NORM_OUT,
    SD_STEP_CONV_OUT,
    SD_STEP_CONV1, /* the VAE's 1x1 quant_conv and post_quant_conv */
    SD_STEP_TINY,  /* a TAESD's block */
    SD_STEP_RELU
} sd_step_kind;

typedef struct sd_step {
    sd_step_kind kind;
    int ci, co;          /* channels in (after joining a skip) and out */
    int depth, heads;    /* ATTN */
    bool only_cross;     /* ATTN: no self-attention, both look at the context */
    int skip;            /* RES on the way up: channels of the skip that it pops and concatenates; 0: none */
    bool push;           /* its result is pushed as a skip */
    char hf[64], ldm[64];
} sd_step;

typedef struct sd_net_steps {
    sd_step *step;
    int n;
    bool failed;         /* out of memory; checked once, at the end of the walk */
    sd_step spare;       /* sd_step_add then returns this, so that its callers need no checks */
} sd_net_steps;

/* Appends one step under its diffusers path; the other function gives it its CompVis path. */
sd_step *sd_step_add(sd_net_steps *p, sd_step_kind kind, int ci, int co, const char *hf, ...) SD_PRINTF(5, 6);
void sd_step_ldm(sd_step *s, const char *ldm, ...) SD_PRINTF(2, 3);
sd_status sd_steps_done(const sd_net_steps *p, sd_error *e);

/* ------------------------------------------------------------------ weights and layers (layers.c) */

typedef struct sd_wb { sd_tensor w, b; } sd_wb;   /* weight and bias (or gain and bias) of one module */

typedef struct sd_res_w { sd_wb norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut; } sd_res_w;
typedef struct sd_attn_w { sd_wb to_q, to_k, to_v, to_out; } sd_attn_w;
typedef struct sd_block_w { sd_wb norm1, norm2, norm3, ff_in, ff_out; sd_attn_w attn1, attn2; } sd_block_w;
typedef struct sd_transformer_w { sd_wb norm, proj_in, proj_out; sd_block_w *block; } sd_transformer_w;
typedef struct sd_tiny_w { sd_wb conv[3]; } sd_tiny_w;
typedef struct sd_vae_attn_w { sd_wb norm; sd_attn_w attn; } sd_vae_attn_w;

/* The weights of one step, whose kind says which member is used. */
typedef struct sd_step_w {
    sd_wb one;                    /* CONV_IN, DOWN, UP, NORM_OUT, CONV_OUT, CONV1 */
    sd_res_w res;
    sd_transformer_w attn;
    sd_vae_attn_w vae_attn;
    sd_tiny_w tiny;
    size_t params;
} sd_step_w;

/* What the steps of one network have in common. */
typedef struct sd_net_dims {
    int groups;
    double eps;                   /* of resnets and conv_norm_out */
    int temb, context;            /* widths; 0: none */
    bool linear_projection;
    bool pad_after;               /* downsampling pads right and bottom only (the VAE's encoder) */
    bool vae;                     /* CompVis names of the VAE */
    bool tiny;                    /* a TAESD: convolutions that change the size have no bias */
} sd_net_dims;

/* A network of steps with its weights. */
typedef struct sd_net {
    sd_net_steps steps;
    sd_step_w *w;                 /* one per step */
    sd_net_dims dims;
} sd_net;

sd_status sd_net_bind(sd_net *n, sd_binder *b);   /* steps must be complete; allocates w */
void sd_net_free(sd_net *n);

/* What cross-attention looks at, [N,S,context] or absent, and the version of its numbers (sd_cond). */
typedef struct sd_context { sd_tensor tokens; uint64_t version; } sd_context;

/* What the forward pass of such a network carries from step to step. */
#define SD_MAX_SKIPS 160
typedef struct sd_flow {
    sd_tensor x;                  /* the running result [N,H,W,C] */
    size_t mark;                  /* where x begins in the arena; above it are only x and what may be freed */
    bool own;                     /* x is neither the caller's input nor a skip, so the next result may replace it */
    sd_tensor temb;               /* SiLU(time embedding) [N,temb], or absent */
    sd_context context;
    struct { sd_tensor t; size_t mark; } skip[SD_MAX_SKIPS];
    int n_skips;
} sd_flow;
/* Runs the steps from .. to - 1, in order; f->x is their input and becomes their result. The first call gets a flow
 * with x, temb and context; the next goes on with what the last one left. */
void sd_net_forward(sd_run *r, const sd_net *n, sd_flow *f, int from, int to);

/* How a step that is one convolution convolves: 3x3 with padding 1; quant_conv and post_quant_conv 1x1; DOWN 3x3 with
 * stride 2, where UNet and TAESD pad all round and the VAE's encoder right and bottom only; UP of a picture enlarged to
 * twice its size (the UNet's may be enlarged to another one). */
sd_conv sd_step_conv(const sd_step *s, const sd_net_dims *d);

/* Binds "<hf>weight" and "<hf>bias" of a linear layer [o,i]; o 0: absent. */
void sd_bind_linear(sd_binder *b, sd_wb *wb, const char *hf, const char *ldm, int64_t o, int64_t i);

/* The module paths of an attention's four projections, which differ between networks. */
typedef struct sd_attn_names { const char *q, *k, *v, *out; } sd_attn_names;
/* to_out(softmax(q k^T / sqrt(d)) v) with q, k and v from x [N,T,C]; traced as "<path>.<name>". */
sd_tensor sd_self_attend(sd_run *r, const sd_attn_w *w, sd_tensor x, int heads, bool causal, const char *path,
                         const sd_attn_names *names);

/* ------------------------------------------------------------------ the networks */

/* The UNet's inputs besides latents and timesteps, for n samples. The caller owns the arrays. Under the null backend
 * they are NULL. */
typedef struct sd_cond {
    int n, tokens, width;
    const float *context;         /* [n,tokens,width]: what cross-attention looks at */
    int pooled_width;
    const float *pooled;          /* [n,pooled_width]: a text encoder's vector for the whole prompt (SDXL); or NULL */
    int n_ids;
    const float *ids;             /* [n,n_ids]: SDXL's time ids, sizes and crops in pixels; or NULL */
    const int32_t *labels;        /* [n]: rows of the class embedding; or NULL */
    const float *time_cond;       /* [n,time_cond_dim]; or NULL */
    uint64_t version;             /* changes whenever the context's numbers change: what a network computes from the
                                   * context alone is kept under it. 0: nothing is kept */
} sd_cond;

/* What a ControlNet adds to the skips, in the order in which they are made, and to the result of the middle block. Each
 * has the shape of what it is added to, channels last [diffusers UNet2DConditionModel: down_block_additional_residuals,
 * mid_block_additional_residual]. */
typedef struct sd_residuals {
    int n;
    const sd_tensor *skip;        /* n */
    sd_tensor middle;
} sd_residuals;

typedef struct sd_unet_in {
    sd_tensor latents;            /* [M,H,W,in_channels]: M = N, or fewer, see below */
    const float *timestep;        /* [N] */
    const sd_cond *cond;          /* of N samples */
    const sd_residuals *control;  /* NULL: none */
} sd_unet_in;

/* unet.c */
typedef struct sd_unet_net {
    sd_unet_config cfg;
    sd_net net;
    int up;                       /* the first step on the way up */
    sd_wb time1, time2, add1, add2;
    sd_tensor class_embedding, cond_proj;
} sd_unet_net;
sd_status sd_unet_walk(sd_unet_net *u, const sd_unet_config *c, sd_error *e);
sd_status sd_unet_bind(sd_unet_net *u, sd_binder *b);
void sd_unet_free(sd_unet_net *u);
/* The inputs of n samples, without numbers: for the null backend. */
sd_cond sd_unet_blank(const sd_unet_config *c, int n, int tokens);
/* Those of the samples from .. from + n - 1. */
sd_cond sd_cond_part(const sd_cond *c, int from, int n, const sd_unet_config *u);
/* [N,H,W,out_channels]. Guidance asks with and without a prompt about the same latents. Until the text is read, at the
 * first cross-attention, all is the same for both, and is computed once: samples M and on need not be given if sample i
 * differs from i mod M by its context alone. The bits are the same as with all of them. Not if something is traced,
 * because traced tensors have all samples, nor with control, nor with OpenBLAS, whose bits may depend on the batch. */
sd_tensor sd_unet_forward(sd_run *r, const sd_unet_net *u, const sd_unet_in *in);
/* The least such M for n samples, each of `numbers` latents. */
int sd_unet_distinct(const float *latents, size_t numbers, const float *timestep, const sd_cond *cond,
                     const sd_unet_config *c);

/* vae.c: also a TAESD, by the functions of taesd.c */
typedef struct sd_vae {
    sd_vae_config cfg;
    sd_net encoder, decoder;
} sd_vae;
int sd_vae_scale(const sd_vae_config *c);   /* pixels per latent: 2^(levels-1) */
sd_status sd_vae_walk(sd_vae *v, const sd_vae_config *c, sd_error *e);
sd_status sd_vae_bind(sd_vae *v, sd_binder *b);
void sd_vae_free(sd_vae *v);
sd_tensor sd_vae_decoder(sd_run *r, const sd_vae *v, sd_tensor latents);   /* [N,h,w,C] -> [N,8h,8w,3] */
sd_tensor sd_vae_encoder(sd_run *r, const sd_vae *v, sd_tensor picture);   /* -> [N,h,w,2C]: mean | logvar; of a
                                                                            * TAESD [N,h,w,C] */

/* taesd.c */
void sd_taesd_walk(sd_vae *v);
/* These two change their input. */
sd_tensor sd_taesd_decoder(sd_run *r, const sd_vae *v, sd_tensor latents);
sd_tensor sd_taesd_encoder(sd_run *r, const sd_vae *v, sd_tensor picture);

/* clip.c */
typedef struct sd_clip_layer_w { sd_wb ln1, ln2, fc1, fc2; sd_attn_w attn; } sd_clip_layer_w;
typedef struct sd_clip {
    sd_clip_config cfg;
    sd_tensor token, position, projection;
    sd_clip_layer_w *layer;
    sd_wb ln_final;
} sd_clip;
sd_status sd_clip_bind(sd_clip *c, const sd_clip_config *cfg, sd_binder *b);
void sd_clip_free(sd_clip *c);
/* What is taken from a text encoder. */
typedef struct sd_clip_output {
    int from_end;        /* whose layer's result is taken: 0, the last one's; 1, that of the one before, ... */
    bool final_norm;     /* it goes through the final layer norm */
    bool pooled;         /* also a vector for the whole text: text_projection of the last layer's final norm, at the end
                          * token */
} sd_clip_output;
/* ids [n,t] -> hidden [n,t,width] and pooled [n,projection], in host memory; pooled may be NULL. */
void sd_clip_forward(sd_run *r, const sd_clip *c, const int32_t *ids, int64_t n, int64_t t, const sd_clip_output *take,
                     float *hidden, float *pooled);

#endif
