/* model_families.c - floor 4: the families of published models, as data.
 *
 * No other code asks to which family a model belongs: variants are numbers in sd_*_config. Facts are from the published
 * config.json, scheduler_config.json and tokenizer files. */
#include "net.h"

#include <string.h>

/* ---------------------------------------------------------------------------------------- networks */

#define VAE_COMMON \
    .in_channels = 3, .out_channels = 3, .latent_channels = 4, .layers = 2, .groups = 32, \
    .mid_attention = true, .quant_conv = true, .post_quant_conv = true
#define VAE(scale, ...) \
    {VAE_COMMON, .levels = 4, .channels = {128, 256, 512, 512}, .scaling_factor = scale, .latent_rgb = __VA_ARGS__}
#define VAE_F4(scale, ...) \
    {VAE_COMMON, .levels = 3, .channels = {128, 256, 512}, .scaling_factor = scale, .latent_rgb = __VA_ARGS__}
/* Maps for rough previews, as ComfyUI publishes them [comfy/latent_formats.py]. */
#define XL_RGB \
    {{0.3651f, 0.4232f, 0.4341f}, {-0.2533f, -0.0042f, 0.1068f}, {0.1076f, 0.1111f, -0.0362f}, \
     {-0.3165f, -0.2492f, -0.2188f}, {0.1084f, -0.0175f, -0.0011f}}
#define X4_RGB \
    {{-0.2340f, -0.3863f, -0.3257f}, {0.0994f, 0.0885f, -0.0908f}, {-0.2833f, -0.2349f, -0.3741f}, \
     {0.2523f, -0.0055f, -0.1651f}, {0}}

#define CLIP_L {.vocab = 49408, .positions = 77, .width = 768, .heads = 12, .layers = 12, \
                .ff = 3072, .act = SD_ACT_QUICK_GELU, .eps = 1e-5}
#define CLIP_H {.vocab = 49408, .positions = 77, .width = 1024, .heads = 16, .layers = 23, \
                .ff = 4096, .act = SD_ACT_GELU, .eps = 1e-5}
#define CLIP_G {.vocab = 49408, .positions = 77, .width = 1280, .heads = 20, .layers = 32, \
                .ff = 5120, .act = SD_ACT_GELU, .eps = 1e-5, .projection = 1280}

#define UNET_COMMON .out_channels = 4, .groups = 32, .norm_eps = 1e-5, .flip_sin_to_cos = true
#define FOUR_LEVELS .levels = 4, .channels = {320, 640, 1280, 1280}, .depth = {1, 1, 1, 0}, .up_depth = {1, 1, 1, 0}
#define SIZE(n) .height = n, .width = n

/* SD 1: 8 heads at every level, CLIP-L. */
#define SD1_COMMON \
    UNET_COMMON, FOUR_LEVELS, .layers = {2, 2, 2, 2}, .heads = {8, 8, 8, 8}, .mid_depth = 1, .context_dim = 768
#define SD1_UNET(in, size) {SD1_COMMON, .in_channels = in, SIZE(size)}
#define SD1_REST \
    .vae = VAE(0.18215, SD_LATENT_RGB), .clip = {CLIP_L}, .n_clip = 1, .pad = {49407}, .prediction = "epsilon"
/* SD 2: heads of 64 numbers, OpenCLIP-H, linear projections. */
#define SD2_UNET(in, size) \
    {UNET_COMMON, FOUR_LEVELS, .in_channels = in, .layers = {2, 2, 2, 2}, .heads = {5, 10, 20, 20}, .mid_depth = 1, \
     .context_dim = 1024, .linear_projection = true, SIZE(size)}
#define SD2_REST .vae = VAE(0.18215, SD_LATENT_RGB), .clip = {CLIP_H}, .n_clip = 1, .pad = {0}
/* SDXL: heads of 64 numbers, CLIP-L and OpenCLIP-bigG, sizes and crops as further inputs. */
#define SDXL_COMMON \
    UNET_COMMON, .levels = 3, .channels = {320, 640, 1280}, .layers = {2, 2, 2}, .heads = {5, 10, 20}, \
    .context_dim = 2048, .linear_projection = true, .add_time_dim = 256, .add_in_dim = 2816
#define SDXL_UNET(in, size) \
    {SDXL_COMMON, .in_channels = in, .depth = {0, 2, 10}, .up_depth = {0, 2, 10}, .mid_depth = 10, SIZE(size)}
#define SDXL_REST \
    .vae = VAE(0.13025, XL_RGB), .clip = {CLIP_L, CLIP_G}, .n_clip = 2, .pad = {49407, 0}, .prediction = "epsilon"

/* -------------------------------------------------------------------------------------- schedulers */

#define BETAS_OF(start, end) \
    "\"num_train_timesteps\":1000,\"beta_start\":" start ",\"beta_end\":" end ",\"beta_schedule\":\"scaled_linear\"," \
    "\"trained_betas\":null,\"clip_sample\":false,\"set_alpha_to_one\":false,\"steps_offset\":1"
#define BETAS BETAS_OF("0.00085", "0.012")
#define SCHEDULER(class, rest) "{\"_class_name\":\"" class "\"," BETAS ",\"skip_prk_steps\":true" rest "}"
#define PREDICTS(type) ",\"prediction_type\":\"" type "\""
#define SPACED(how) ",\"timestep_spacing\":\"" how "\""

static const char pndm[] = SCHEDULER("PNDMScheduler", "");
static const char pndm_epsilon[] = SCHEDULER("PNDMScheduler", PREDICTS("epsilon"));
static const char ddim[] = SCHEDULER("DDIMScheduler", "");
static const char ddim_v[] = SCHEDULER("DDIMScheduler", PREDICTS("v_prediction"));
static const char euler_leading[] =
    SCHEDULER("EulerDiscreteScheduler", PREDICTS("epsilon") SPACED("leading")
              ",\"interpolation_type\":\"linear\",\"use_karras_sigmas\":false,\"sample_max_value\":1.0");
static const char euler_trailing[] = SCHEDULER("EulerDiscreteScheduler", PREDICTS("epsilon") SPACED("trailing"));
static const char euler_a[] = SCHEDULER("EulerAncestralDiscreteScheduler", PREDICTS("epsilon"));
static const char euler_a_trailing[] =
    SCHEDULER("EulerAncestralDiscreteScheduler", PREDICTS("epsilon") SPACED("trailing")
              ",\"interpolation_type\":\"linear\"");
static const char lcm[] =
    SCHEDULER("LCMScheduler", PREDICTS("epsilon") SPACED("leading")
              ",\"original_inference_steps\":50,\"timestep_scaling\":10.0");
static const char dpmpp[] = SCHEDULER("DPMSolverMultistepScheduler", PREDICTS("epsilon"));
static const char x4[] =
    "{\"_class_name\":\"DDIMScheduler\"," BETAS_OF("0.0001", "0.02") PREDICTS("v_prediction") "}";
static const char x4_low_res[] =
    "{\"_class_name\":\"DDPMScheduler\",\"num_train_timesteps\":1000,\"beta_start\":0.0001,\"beta_end\":0.02,"
    "\"beta_schedule\":\"scaled_linear\",\"trained_betas\":null,\"clip_sample\":true,"
    "\"variance_type\":\"fixed_small\"" PREDICTS("epsilon") "}";

/* ---------------------------------------------------------------------------------------- families
 * Of families whose shapes are the same the first is the one that a file without further signs is taken for. */

/* Guidance scales are the defaults of diffusers' pipelines. So are the steps of LCM and the upscaler; the others'
 * default there is 50, and 100 for InstructPix2Pix, of which half or a quarter is enough with today's samplers. Turbo
 * and Lightning are drawn as their model cards say. */
#define DRAWN(n, scale) .steps = n, .guidance = scale

#define UNCLIP "Stable unCLIP makes pictures from a picture's embedding, which is not supported"

static const sd_family families[] = {
    {.name = "sd15", .title = "Stable Diffusion 1", .unet = SD1_UNET(4, 64), SD1_REST, .scheduler = pndm,
     DRAWN(25, 7.5)},
    {.name = "sd15-inpaint", .title = "Stable Diffusion 1 for inpainting", .unet = SD1_UNET(9, 64), SD1_REST,
     .scheduler = ddim, DRAWN(25, 7.5)},
    {.name = "instruct-pix2pix", .title = "InstructPix2Pix", .unet = SD1_UNET(8, 64), SD1_REST, .scheduler = euler_a,
     DRAWN(25, 7.5)},
    {.name = "lcm", .title = "a latent consistency model of Stable Diffusion 1",
     .unet = {SD1_COMMON, .in_channels = 4, .time_cond_dim = 256, SIZE(96)}, SD1_REST, .scheduler = lcm, DRAWN(4, 8.5)},
    {.name = "small-sd", .title = "small-sd, also BK-SDM-base",
     .unet = {UNET_COMMON, FOUR_LEVELS, .in_channels = 4, .layers = {1, 1, 1, 1}, .heads = {8, 8, 8, 8},
              .mid_depth = 1, .context_dim = 768, SIZE(64)},
     SD1_REST, .scheduler = dpmpp, DRAWN(25, 7.5)},
    {.name = "bk-sdm-small", .title = "BK-SDM-small",
     .unet = {UNET_COMMON, FOUR_LEVELS, .in_channels = 4, .layers = {1, 1, 1, 1}, .heads = {8, 8, 8, 8},
              .mid = SD_MID_NONE, .context_dim = 768, SIZE(64)},
     SD1_REST, .scheduler = dpmpp, DRAWN(25, 7.5)},
    {.name = "tiny-sd", .title = "tiny-sd, also BK-SDM-tiny",
     .unet = {UNET_COMMON, .in_channels = 4, .levels = 3, .channels = {320, 640, 1280}, .layers = {1, 1, 1},
              .depth = {1, 1, 1}, .up_depth = {1, 1, 1}, .heads = {8, 8, 8}, .mid = SD_MID_NONE, .context_dim = 768,
              SIZE(64)},
     SD1_REST, .scheduler = dpmpp, DRAWN(25, 7.5)},

    {.name = "sd21", .title = "Stable Diffusion 2 at 768 pixels", .unet = SD2_UNET(4, 96), SD2_REST,
     .prediction = "v_prediction", .scheduler = ddim_v, DRAWN(25, 7.5)},
    {.name = "sd21-base", .title = "Stable Diffusion 2 at 512 pixels", .unet = SD2_UNET(4, 64), SD2_REST,
     .prediction = "epsilon", .scheduler = pndm_epsilon, DRAWN(25, 7.5)},
    {.name = "sd21-inpaint", .title = "Stable Diffusion 2 for inpainting", .unet = SD2_UNET(9, 64), SD2_REST,
     .prediction = "epsilon", .scheduler = pndm, DRAWN(25, 7.5)},
    {.name = "sd2-depth", .title = "Stable Diffusion 2 with a depth map", .unet = SD2_UNET(5, 64), SD2_REST,
     .prediction = "epsilon", .scheduler = pndm, DRAWN(25, 7.5)},
    {.name = "sd-turbo", .title = "SD-Turbo", .unet = SD2_UNET(4, 64), SD2_REST,
     .prediction = "epsilon", .scheduler = euler_trailing, DRAWN(1, 0)},
    {.name = "sd21-unclip-h", .title = "Stable unCLIP with CLIP-H", .unet = SD2_UNET(4, 96),
     .class_in = 2048, SD2_REST, .prediction = "v_prediction", .scheduler = ddim_v, DRAWN(25, 10), .refusal = UNCLIP},
    {.name = "sd21-unclip-l", .title = "Stable unCLIP with CLIP-L", .unet = SD2_UNET(4, 96),
     .class_in = 1536, SD2_REST, .prediction = "v_prediction", .scheduler = ddim_v, DRAWN(25, 10), .refusal = UNCLIP},
    {.name = "x4-upscaler", .title = "Stable Diffusion's upscaler by four",
     .unet = {UNET_COMMON, .in_channels = 7, .levels = 4, .channels = {256, 512, 512, 1024}, .layers = {2, 2, 2, 2},
              .depth = {0, 1, 1, 1}, .up_depth = {0, 1, 1, 1}, .heads = {8, 8, 8, 8}, .mid_depth = 1,
              .context_dim = 1024, .linear_projection = true, .only_cross = {true, true, true, false},
              .class_embeds = 1000, SIZE(128)},
     .vae = VAE_F4(0.08333, X4_RGB), .clip = {CLIP_H}, .n_clip = 1, .pad = {0}, .prediction = "v_prediction",
     .scheduler = x4, .low_res_scheduler = x4_low_res, DRAWN(75, 9)},

    {.name = "sdxl", .title = "Stable Diffusion XL", .unet = SDXL_UNET(4, 128), SDXL_REST,
     .scheduler = euler_leading, DRAWN(25, 5)},
    {.name = "sdxl-inpaint", .title = "Stable Diffusion XL for inpainting", .unet = SDXL_UNET(9, 128), SDXL_REST,
     .scheduler = euler_leading, DRAWN(25, 7.5)},
    {.name = "sdxl-turbo", .title = "SDXL-Turbo", .unet = SDXL_UNET(4, 64), SDXL_REST, .scheduler = euler_a_trailing,
     DRAWN(1, 0)},
    {.name = "sdxl-lightning", .title = "SDXL-Lightning", .unet = SDXL_UNET(4, 128), SDXL_REST,
     .scheduler = euler_trailing, DRAWN(4, 0), .by_name = true},
    {.name = "ssd-1b", .title = "SSD-1B",
     .unet = {SDXL_COMMON, .in_channels = 4, .depth = {0, 2, 4}, .up_depth = {0, 2, 4},
              .up_layer_depth = {{0}, {2, 1, 1}, {4, 4, 10}}, .mid = SD_MID_RESNET, SIZE(128)},
     SDXL_REST, .scheduler = euler_leading, DRAWN(25, 5)},
    {.name = "vega", .title = "Segmind-Vega",
     .unet = {SDXL_COMMON, .in_channels = 4, .depth = {0, 1, 2}, .up_depth = {0, 1, 2}, .mid = SD_MID_RESNET,
              SIZE(128)},
     SDXL_REST, .scheduler = euler_leading, DRAWN(25, 5)},
    {.name = "sdxl-refiner", .title = "Stable Diffusion XL's refiner",
     .unet = {UNET_COMMON, .in_channels = 4, .levels = 4, .channels = {384, 768, 1536, 1536}, .layers = {2, 2, 2, 2},
              .depth = {0, 4, 4, 0}, .up_depth = {0, 4, 4, 0}, .heads = {6, 12, 24, 24}, .mid_depth = 4,
              .context_dim = 1280, .linear_projection = true, .add_time_dim = 256, .add_in_dim = 2560, SIZE(128)},
     .vae = VAE(0.13025, XL_RGB), .clip = {CLIP_G}, .n_clip = 1, .pad = {0}, .prediction = "epsilon",
     .scheduler = euler_leading, DRAWN(25, 5)},
};

/* ---------------------------------------------------------------------------------------- looking */

const sd_family *sd_family_at(size_t i) { return i < SD_COUNT(families) ? &families[i] : NULL; }

const sd_family *sd_family_find(const char *name)
{
    for (size_t i = 0; i < SD_COUNT(families); i++)
        if (strcmp(families[i].name, name) == 0) return &families[i];
    return NULL;
}

static bool same_level(const sd_unet_config *a, const sd_unet_config *b, int level)
{
    bool attends = a->depth[level] || a->up_depth[level];
    if (a->channels[level] != b->channels[level] || a->layers[level] != b->layers[level] ||
        (attends && a->only_cross[level] != b->only_cross[level]))
        return false;
    for (int i = 0; i < a->layers[level]; i++)
        if (sd_unet_depth(a, false, level, i) != sd_unet_depth(b, false, level, i)) return false;
    for (int i = 0; i <= a->layers[level]; i++)
        if (sd_unet_depth(a, true, level, i) != sd_unet_depth(b, true, level, i)) return false;
    return true;
}

/* Whether projections are linear or convolutions of 1x1 does not count: their numbers are the same, and files of SD 2
 * have been saved either way. */
static bool same_shapes(const sd_unet_config *a, const sd_unet_config *b)
{
    for (int i = 0; a->levels == b->levels && i < a->levels; i++)
        if (!same_level(a, b, i)) return false;
    return a->levels == b->levels && a->in_channels == b->in_channels && a->out_channels == b->out_channels &&
           a->mid == b->mid && (a->mid != SD_MID_ATTENTION || a->mid_depth == b->mid_depth) &&
           a->context_dim == b->context_dim && a->add_in_dim == b->add_in_dim && a->class_embeds == b->class_embeds &&
           a->time_cond_dim == b->time_cond_dim;
}

const sd_family *sd_family_of(const sd_unet_config *c, int class_in)
{
    for (size_t i = 0; i < SD_COUNT(families); i++)
        if (class_in == families[i].class_in && same_shapes(c, &families[i].unet)) return &families[i];
    return NULL;
}

const sd_family *sd_family_with(const sd_family *f, const char *prediction)
{
    if (strcmp(f->prediction, prediction) == 0) return f;
    for (size_t i = 0; i < SD_COUNT(families); i++) {
        const sd_family *g = &families[i];
        if (f->class_in == g->class_in && same_shapes(&f->unet, &g->unet) && strcmp(g->prediction, prediction) == 0)
            return g;
    }
    return NULL;
}

const sd_family *sd_family_like(const sd_family *f, size_t i)
{
    for (size_t k = 0; k < SD_COUNT(families); k++) {
        const sd_family *g = &families[k];
        bool like = f->class_in == g->class_in && same_shapes(&f->unet, &g->unet)
            && strcmp(f->prediction, g->prediction) == 0;
        if (like && i-- == 0) return g;
    }
    return NULL;
}

const sd_family *sd_family_of_inputs(const sd_unet_config *c)
{
    for (size_t i = 0; i < SD_COUNT(families); i++) {
        const sd_unet_config *u = &families[i].unet;
        if (u->in_channels == c->in_channels && !u->add_in_dim == !c->add_in_dim && !u->class_embeds == !c->class_embeds
            && !u->time_cond_dim == !c->time_cond_dim)
            return &families[i];
    }
    return NULL;
}

const char *sd_family_names(char text[SD_FAMILY_NAMES])
{
    size_t n = 0;
    *text = 0;
    for (size_t i = 0; i < SD_COUNT(families) && n < SD_FAMILY_NAMES; i++)
        if (!families[i].refusal)
            n += (size_t)snprintf(text + n, SD_FAMILY_NAMES - n, "%s%s", n ? ", " : "", families[i].name);
    return text;
}
