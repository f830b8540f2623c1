/* params.c - floor 6: the table of parameters. A new one is a field of sd_params, a row here, and the place that uses
 * it: defaults, bounds, the command line with its help, manual page and completions, the text of a picture and
 * sd_params_set follow from the row. */
#include "params.h"
#include "image_transform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) .offset = offsetof(sd_params, field)
#define INT(field) AT(field), .type = SD_PARAM_INT
#define BOOL(field) AT(field), .type = SD_PARAM_BOOL, .least = 0, .most = 1
#define NUMBER(field) AT(field), .type = SD_PARAM_NUMBER
#define TEXT(field) AT(field), .type = SD_PARAM_TEXT
#define FILE_NAME(field) AT(field), .type = SD_PARAM_FILE
#define LIST(field, count) AT(field), .type = SD_PARAM_LIST, .count_offset = offsetof(sd_params, count)
#define PAIR(field, between) AT(field), .type = SD_PARAM_PAIR, .words = (between)
#define BETWEEN(a, b) .least = (a), .most = (b)
#define DEFAULT(x) .initial = (x)
#define ON_LINE(short, long, name_of_value, lines) \
    .letter = (short), .option = (long), .value = (name_of_value), .help = (lines)

#define STREAMS "torch-cpu torch-cuda numpy numpy-pcg64 numpy-pcg64-f32"
#define SPACINGS "leading trailing linspace"

static const sd_param table[] = {
    /* ---- what to draw */
    {{"prompt", TEXT(prompt), ON_LINE('p', "prompt", "TEXT",
      "what the picture shows; @FILE reads it from a file, - from\nthe standard input (also for -n)"),
      .text_key = "Prompt"}, "prompt", SD_WRITTEN_NEVER, NULL},
    {{"negative_prompt", TEXT(negative_prompt), ON_LINE('n', "negative-prompt", "TEXT", "what it does not show"),
      .text_key = "Negative prompt"}, "negative prompt", SD_WRITTEN_NEVER, NULL},
    {{"width", INT(width), BETWEEN(1, 65536), DEFAULT(SD_DEFAULT), ON_LINE('W', "width", "N",
      "pixels, a multiple of 8 (default: the model's own)"), .text_key = "Size"}, "width",
     SD_WRITTEN_ALWAYS, " pixels"},
    {{"height", INT(height), BETWEEN(1, 65536), DEFAULT(SD_DEFAULT), ON_LINE('H', "height", "N",
      "the same for the height")}, "height", SD_WRITTEN_NEVER, " pixels"},
    {{"seed", AT(seed), .type = SD_PARAM_SEED, ON_LINE('s', "seed", "N",
      "of torch's CPU generator (default, and -1: a random one,\nwhich is printed)"), .text_key = "Seed"}, "seed",
     SD_WRITTEN_ALWAYS, NULL},
    {{"rng", TEXT(rng), .words = STREAMS, ON_LINE(0, "rng", "NAME",
      "the generator that takes the seed: torch-cpu (default),\ntorch-cuda, torch-cuda:sms=40,threads=1024, numpy, "
      "...; or\nFILE.safetensors, whose numbers are used in order"), .text_key = "RNG"}, "rng",
     SD_WRITTEN_ALWAYS, NULL},
    {{"sampler_rng", TEXT(sampler_rng), .words = STREAMS " brownian", ON_LINE(0, "sampler-rng", "NAME",
      "the same for the samplers' noise alone; also brownian"), .text_key = "Sampler RNG"}, "sampler rng",
     SD_WRITTEN_CHANGED, NULL},
    {{"seed_per_image", BOOL(seed_per_image), ON_LINE(0, "seed-per-image", NULL,
      "with --batch-size: each picture has its own generator,\nwith seed, seed + 1, ..."),
      .text_key = "Seed per image"}, "seed per image", SD_WRITTEN_CHANGED, NULL},
    {{"batch", INT(batch), BETWEEN(1, 512), DEFAULT(1), ON_LINE(0, "batch-size", "N",
      "pictures drawn together from one seed, as diffusers'\nnum_images_per_prompt"), .text_key = "Batch size"},
     "batch", SD_WRITTEN_CHANGED, NULL},
    {{"keep", INT(keep), BETWEEN(0, 512), ON_LINE(0, "keep", "N", "decodes and writes only picture N of --batch-size"),
      .text_key = "Batch pos"}, "keep", SD_WRITTEN_CHANGED, NULL},

    /* ---- how to draw it */
    {{"steps", INT(sampling.steps), BETWEEN(1, 1000), DEFAULT(SD_DEFAULT), ON_LINE(0, "steps", "N",
      "how many (default: the model's, most often 25; LCM 4,\n"
      "Turbo 1); some samplers evaluate the network twice a step,\npndm once more: see sd schedule"),
      .text_key = "Steps"}, "steps", SD_WRITTEN_ALWAYS, NULL},
    {{"guidance_scale", NUMBER(guidance.scale), BETWEEN(-1000, 1000), DEFAULT(SD_DEFAULT), ON_LINE(0, "cfg-scale", "X",
      "guidance scale (default: the model's, most often 7.5; SDXL 5,\n"
      "Turbo none); 1 or less turns guidance off and takes half the\ntime"),
      .text_key = "CFG scale"},
     "guidance scale", SD_WRITTEN_ALWAYS, NULL},
    {{"sampler", TEXT(sampling.sampler), ON_LINE(0, "sampling-method", "NAME",
      "the sampler, see sd samplers (default: the model's)"), .text_key = "Sampler"}, "sampler",
     SD_WRITTEN_ALWAYS, NULL},
    {{"schedule", TEXT(sampling.schedule), ON_LINE(0, "scheduler", "NAME",
      "how sigmas are placed: karras, ..., see sd samplers; or how\ntimesteps are: leading, trailing, linspace"),
      .text_key = "Schedule type"}, "schedule", SD_WRITTEN_ALWAYS, NULL},
    {{"spacing", TEXT(sampling.spacing), .words = SPACINGS, ON_LINE(0, "spacing", "NAME",
      "how timesteps are placed where --scheduler places sigmas"), .text_key = "Timestep spacing"}, "spacing",
     SD_WRITTEN_ALWAYS, NULL},
    {{"sigmas", LIST(sampling.sigmas, sampling.sigma_count), ON_LINE(0, "sigmas", "LIST",
      "the sigmas themselves, falling: \"14.6,6.5,2.7,0.9,0\""), .text_key = "Sigmas"}, "sigmas",
     SD_WRITTEN_CHANGED, NULL},
    {{"timesteps", LIST(sampling.timesteps, sampling.timestep_count), ON_LINE(0, "timesteps", "LIST",
      "the timesteps themselves, falling"), .text_key = "Timesteps"}, "timesteps", SD_WRITTEN_CHANGED, NULL},
    {{"first_latents", TEXT(sampling.first_latents), .words = "sigma root comfy", ON_LINE(0, "first-latents", "HOW",
      "the initial noise is multiplied by sigma, by the root of\n"
      "sigma^2 + 1, or by what ComfyUI would take (default: as\nthe sampler's own program)"),
      .text_key = "First latents"}, "first latents", SD_WRITTEN_CHANGED, NULL},
    {{"whole_timesteps", BOOL(sampling.whole_timesteps), DEFAULT(SD_DEFAULT), ON_LINE(0, "whole-timesteps", "BOOL",
      "true: the UNet is told whole timesteps by k-diffusion's\nsamplers too, as in ComfyUI"),
      .text_key = "Whole timesteps"}, "whole timesteps", SD_WRITTEN_CHANGED, NULL},
    {{"order", INT(sampling.order), BETWEEN(1, 4), DEFAULT(SD_DEFAULT), ON_LINE(0, "order", "N",
      "order of a multi-step sampler (default, and 0: its own)"), .text_key = "Order"}, "order",
     SD_WRITTEN_CHANGED, NULL},
    {{"steps_offset", INT(sampling.steps_offset), BETWEEN(0, 999), DEFAULT(SD_DEFAULT), ON_LINE(0, "steps-offset", "N",
      "added to timesteps that are placed by leading"),
      .text_key = "Steps offset"}, "steps offset", SD_WRITTEN_ALWAYS, NULL},
    {{"set_alpha_to_one", BOOL(sampling.set_alpha_to_one), DEFAULT(SD_DEFAULT), ON_LINE(0, "set-alpha-to-one", "BOOL",
      "true: the last step of ddim and pndm ends at alphas_cumprod\n1, else at that of timestep 0"),
      .text_key = "Set alpha to one"}, "set_alpha_to_one", SD_WRITTEN_ALWAYS, NULL},
    {{"prediction", TEXT(sampling.prediction), .words = "epsilon v_prediction sample", ON_LINE(0, "prediction", "NAME",
      "what the UNet predicts: epsilon, v_prediction, sample"), .text_key = "Prediction"}, "prediction",
     SD_WRITTEN_ALWAYS, NULL},
    {{"clip_sample", BOOL(sampling.clip_sample), DEFAULT(SD_DEFAULT), ON_LINE(0, "clip-sample", "BOOL",
      "true: ddim clips the latents that it predicts"), .text_key = "Clip sample"}, "clip_sample",
     SD_WRITTEN_ALWAYS, NULL},
    {{"eta", NUMBER(sampling.eta), BETWEEN(0, 1), DEFAULT(SD_DEFAULT), ON_LINE(0, "eta", "X",
      "share of fresh noise in each step (default: ddim 0, euler_a 1)"), .text_key = "Eta"}, "eta",
     SD_WRITTEN_CHANGED, NULL},
    {{"s_churn", NUMBER(sampling.s_churn), BETWEEN(0, 1e6), ON_LINE(0, "s-churn", "X",
      "euler, heun, dpm2: noise that is added again during a run"), .text_key = "Sigma churn"}, "s_churn",
     SD_WRITTEN_CHANGED, NULL},
    {{"s_tmin", NUMBER(sampling.s_tmin), BETWEEN(0, 1e6), ON_LINE(0, "s-tmin", "X",
      "... only where sigma is at least X"), .text_key = "Sigma tmin"}, "s_tmin", SD_WRITTEN_NEVER, NULL},
    {{"s_tmax", NUMBER(sampling.s_tmax), BETWEEN(0, INFINITY), DEFAULT(INFINITY), ON_LINE(0, "s-tmax", "X",
      "... and at most X (default: no limit)"), .text_key = "Sigma tmax"}, "s_tmax", SD_WRITTEN_NEVER, NULL},
    {{"s_noise", NUMBER(sampling.s_noise), BETWEEN(0, 1000), DEFAULT(1), ON_LINE(0, "s-noise", "X",
      "standard deviation of that noise, and of the ancestral\nsamplers' (default 1)"),
      .text_key = "Sigma noise"}, "s_noise", SD_WRITTEN_CHANGED, NULL},
    {{"guidance_rescale", NUMBER(guidance.rescale), BETWEEN(0, 1), ON_LINE(0, "guidance-rescale", "X",
      "brings the guided prediction's standard deviation back to\nthe prompt's: 0 (default) not at all, 1 wholly"),
      .text_key = "CFG rescale phi"}, "guidance rescale", SD_WRITTEN_CHANGED, NULL},
    {{"image_guidance_scale", NUMBER(guidance.image_scale), BETWEEN(0, 1000), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "image-cfg-scale", "X",
      "how strongly the picture counts for a model that follows\ninstructions (default 1.5)"),
      .text_key = "Image CFG scale"}, "image guidance scale", SD_WRITTEN_CHANGED, NULL},
    {{"denoising_start", NUMBER(sampling.denoising_start), BETWEEN(0, 1), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "denoising-start", "X", "goes on with --latents-in after this share of the noise levels"),
      .text_key = "Denoising start"}, "denoising start", SD_WRITTEN_CHANGED, NULL},
    {{"denoising_end", NUMBER(sampling.denoising_end), BETWEEN(0, 1), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "denoising-end", "X", "ends after this share of the noise levels"),
      .text_key = "Denoising end"}, "denoising end", SD_WRITTEN_CHANGED, NULL},
    {{"from_step", INT(sampling.from_step), BETWEEN(0, 100000), DEFAULT(SD_DEFAULT), ON_LINE(0, "from-step", "N",
      "goes on with --latents-in before evaluation N, the latents.N of a\ntrace"), .text_key = "From step"},
     "from step", SD_WRITTEN_CHANGED, NULL},
    {{"refiner_at", NUMBER(sampling.refiner_at), BETWEEN(0, 1), DEFAULT(SD_DEFAULT), ON_LINE(0, "refiner-at", "X",
      "the share of the noise levels after which --refiner takes over\n(default 0.8)"),
      .text_key = "Refiner switch at"}, "refiner at", SD_WRITTEN_CHANGED, NULL},
    {{"latents_name", FILE_NAME(latents_name), ON_LINE(0, "latents-in", "FILE",
      "the latents of another run, which ended at --denoising-start or\n"
      "before --from-step: a file's \"latents\", or its only tensor; with\n--from-step a trace"),
      .text_key = "Latents"}, "latents", SD_WRITTEN_CHANGED, NULL},
    {{"clip_skip", INT(clip_skip), BETWEEN(1, 1000), DEFAULT(1), ON_LINE(0, "clip-skip", "N",
      "the text encoder's layer: 1 the last (default, also 0 and\n-1), 2 the one before it, ..."),
      .text_key = "Clip skip"}, "clip skip", SD_WRITTEN_CHANGED, NULL},
    {{"bytes", TEXT(bytes), .words = "round truncate half-up", ON_LINE(0, "bytes", "HOW",
      "how numbers become bytes: round (default), truncate, half-up"), .text_key = "Bytes"}, "bytes",
     SD_WRITTEN_CHANGED, NULL},
    {{"like", TEXT(like), .words = "diffusers compvis a1111 comfy sdcpp", ON_LINE(0, "like", "PROGRAM",
      "draws as diffusers, compvis, a1111, comfy or sdcpp does, where\nnothing else is said: see sd profiles")},
     "program", SD_WRITTEN_NEVER, NULL},
    {{"noise_name", FILE_NAME(noise_name), ON_LINE(0, "noise", "FILE",
      "initial noise: a safetensors file's tensor \"noise\", or its\n"
      "only one, [batch,channels,height/8,width/8]"),
      .text_key = "Initial noise"}, "noise", SD_WRITTEN_CHANGED, NULL},

    /* ---- beginning from a picture */
    {{"init_name", FILE_NAME(edit.init_name), ON_LINE('i', "init-img", "FILE",
      "the picture: PNG, JPEG or PNM; without -W and -H the result\nhas its size, to the nearest multiple of 8"),
      .text_key = "Init image"}, "init", SD_WRITTEN_ALWAYS, NULL},
    {{"strength", NUMBER(edit.strength), BETWEEN(0, 1), DEFAULT(SD_DEFAULT), ON_LINE(0, "strength", "X",
      "how much it changes: the share of the steps that are taken\n(default 0.8; 1 where something is masked)"),
      .text_key = "Denoising strength"}, "strength", SD_WRITTEN_ALWAYS, NULL},
    {{"mask_name", FILE_NAME(edit.mask_name), ON_LINE(0, "mask", "FILE",
      "white is repainted, black is kept (default: the picture's\nalpha, if any of it is at least half transparent)"),
      .text_key = "Mask"}, "mask", SD_WRITTEN_CHANGED, NULL},
    {{"alpha_mask", BOOL(edit.alpha_mask), ON_LINE(0, "alpha-mask", NULL,
      "takes the picture's alpha as the mask in any case"), .text_key = "Alpha mask"}, "alpha mask",
     SD_WRITTEN_CHANGED, NULL},
    {{"invert_mask", BOOL(edit.invert_mask), ON_LINE(0, "invert-mask", NULL,
      "what the mask keeps is repainted, and the other way round"),
      .text_key = "Mask mode"}, "invert mask", SD_WRITTEN_CHANGED, NULL},
    {{"mask_blur", NUMBER(edit.mask_blur), BETWEEN(0, 1000), ON_LINE(0, "mask-blur", "X",
      "blurs the mask, with a standard deviation of X pixels"),
      .text_key = "Mask blur"}, "mask blur", SD_WRITTEN_CHANGED, " pixels"},
    {{"strength_steps", TEXT(edit.strength_steps), .words = "share above share+1 all",
      ON_LINE(0, "strength-steps", "HOW",
      "how many steps a strength leaves: share (default), above,\n"
      "share+1, all, as diffusers, CompVis, A1111, ComfyUI do"),
      .text_key = "Strength steps"}, "strength steps", SD_WRITTEN_CHANGED, NULL},
    {{"posterior", TEXT(edit.posterior), .words = "sample mean again", ON_LINE(0, "posterior", "HOW",
      "the picture's latents: sample (default), mean; again: a\nsample by a generator that begins again"),
      .text_key = "Posterior"}, "posterior", SD_WRITTEN_CHANGED, NULL},
    {{"mask_rule", TEXT(edit.mask_rule), .words = "latents x0 both", ON_LINE(0, "mask-rule", "HOW",
      "what puts the kept part back: latents (default), after each\nstep; x0, in each predicted picture; both"),
      .text_key = "Mask rule"}, "mask rule", SD_WRITTEN_CHANGED, NULL},
    {{"paste_back", BOOL(edit.paste_back), DEFAULT(SD_DEFAULT), ON_LINE(0, "paste-back", "BOOL",
      "true (default): kept pixels come back byte for byte"), .text_key = "Paste back"}, "paste back",
     SD_WRITTEN_CHANGED, NULL},
    {{"inpaint_crop", INT(edit.inpaint_crop), BETWEEN(0, SD_IMAGE_SIDE), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "inpaint-crop", "N",
      "draws only the mask and N pixels around it, at the model's\nsize, and pastes that into the picture"),
      .text_key = "Inpaint area"}, "inpaint crop", SD_WRITTEN_CHANGED, " pixels"},
    {{"outpaint", AT(edit.outpaint), .type = SD_PARAM_MARGINS, BETWEEN(0, SD_IMAGE_SIDE),
      ON_LINE(0, "outpaint", "L,T,R,B", "adds so many pixels at the left, top, right and bottom, and\npaints them"),
      .text_key = "Outpaint"}, "outpaint", SD_WRITTEN_CHANGED, NULL},
    {{"resize", TEXT(edit.resize), .words = "stretch crop pad", ON_LINE(0, "resize", "HOW",
      "how it gets to -W and -H: stretch (default), crop, pad"),
      .text_key = "Resize"}, "resize", SD_WRITTEN_CHANGED, NULL},
    {{"depth_name", FILE_NAME(edit.depth_name), ON_LINE(0, "depth", "FILE",
      "how near each point is (bright is near), for a model that draws\nby a depth map: a picture, or a safetensors "
      "file"), .text_key = "Depth map"}, "depth", SD_WRITTEN_CHANGED, NULL},
    {{"noise_level", INT(edit.noise_level), BETWEEN(0, 999), DEFAULT(SD_DEFAULT), ON_LINE(0, "noise-level", "N",
      "how much noise an upscaling model removes (default 20)"), .text_key = "Noise level"}, "noise level",
     SD_WRITTEN_CHANGED, NULL},

    /* ---- what SDXL is told of sizes */
    {{"original_size", PAIR(sdxl.original_size, "x"), BETWEEN(1, 65536), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "original-size", "WxH", "of the picture before it was scaled (default: -W x -H)"),
      .text_key = "Original size"}, "original size", SD_WRITTEN_CHANGED, " pixels"},
    {{"crop", PAIR(sdxl.crop, ","), BETWEEN(-65536, 65536), ON_LINE(0, "crop", "TOP,LEFT",
      "where it was cut (default 0,0)"), .text_key = "Crop"}, "crop", SD_WRITTEN_CHANGED, " pixels"},
    {{"target_size", PAIR(sdxl.target_size, "x"), BETWEEN(1, 65536), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "target-size", "WxH", "the size that is asked for (default: -W x -H)"), .text_key = "Target size"},
     "target size", SD_WRITTEN_CHANGED, " pixels"},
    {{"negative_original_size", PAIR(sdxl.negative_original_size, "x"), BETWEEN(1, 65536), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "negative-original-size", "WxH", "the same for the negative prompt (default: the prompt's)"),
      .text_key = "Negative original size"}, "negative original size", SD_WRITTEN_CHANGED, " pixels"},
    {{"negative_crop", PAIR(sdxl.negative_crop, ","), BETWEEN(-65536, 65536), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "negative-crop", "TOP,LEFT", "(default: the prompt's, or 0,0 with another negative size)"),
      .text_key = "Negative crop"}, "negative crop", SD_WRITTEN_CHANGED, " pixels"},
    {{"negative_target_size", PAIR(sdxl.negative_target_size, "x"), BETWEEN(1, 65536), DEFAULT(SD_DEFAULT),
      ON_LINE(0, "negative-target-size", "WxH", "(default: the prompt's)"), .text_key = "Negative target size"},
     "negative target size", SD_WRITTEN_CHANGED, " pixels"},
    {{"aesthetic_score", NUMBER(sdxl.aesthetic_score), BETWEEN(0, 100), DEFAULT(6), ON_LINE(0, "aesthetic-score", "X",
      "how well the picture is liked, for the refiner (default 6)"), .text_key = "Aesthetic score"},
     "aesthetic score", SD_WRITTEN_CHANGED, NULL},
    {{"negative_aesthetic_score", NUMBER(sdxl.negative_aesthetic_score), BETWEEN(0, 100), DEFAULT(2.5),
      ON_LINE(0, "negative-aesthetic-score", "X", "the same for the negative prompt (default 2.5)"),
      .text_key = "Negative aesthetic score"}, "negative aesthetic score", SD_WRITTEN_CHANGED, NULL},
};

/* -------------------------------------------------------------------------------------- finding */

const sd_param *sd_param_at(size_t i) { return i < SD_COUNT(table) ? &table[i] : NULL; }

static bool same_key(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !(*a == '-' && *b == '_') && !(*a == '_' && *b == '-')) return false;
    return *a == *b;
}

const sd_param *sd_param_find(const char *key)
{
    for (size_t i = 0; i < SD_COUNT(table) && key; i++)
        if (same_key(key, table[i].about.key) || same_key(key, table[i].about.option)) return &table[i];
    return NULL;
}

const sd_param *sd_param_find_text(const char *text_key)
{
    for (size_t i = 0; i < SD_COUNT(table); i++)
        if (table[i].about.text_key && strcmp(text_key, table[i].about.text_key) == 0) return &table[i];
    return NULL;
}

static bool within(const sd_param *row, size_t begin, size_t size)
{
    return row->about.offset >= begin && row->about.offset < begin + size;
}
#define WITHIN(row, group) within(row, offsetof(sd_params, group), sizeof((sd_params *)0)->group)

static const char *group_of(const sd_param *row)
{
    return WITHIN(row, sampling) ? "sampling" : WITHIN(row, guidance) ? "guidance" : WITHIN(row, edit) ? "edit"
        : WITHIN(row, sdxl) ? "sdxl" : "";
}

bool sd_param_is_edit(const sd_param *row) { return WITHIN(row, edit); }

/* -------------------------------------------------------------------------- fields and defaults */

static void *field_of(const sd_params *p, size_t offset) { return (char *)(uintptr_t)p + offset; }

/* INT, BOOL and NUMBER */
static bool is_number(const sd_param *row)
{
    return row->about.type == SD_PARAM_INT || row->about.type == SD_PARAM_BOOL || row->about.type == SD_PARAM_NUMBER;
}

static double number_of(const sd_params *p, const sd_param *row)
{
    const void *field = field_of(p, row->about.offset);
    return row->about.type == SD_PARAM_NUMBER ? *(const double *)field : *(const int *)field;
}

static void set_number(sd_params *p, const sd_param *row, double x)
{
    void *field = field_of(p, row->about.offset);
    if (row->about.type == SD_PARAM_NUMBER) *(double *)field = x;
    else *(int *)field = (int)x;
}

static void set_default(sd_params *p, const sd_param *row)
{
    static const sd_params nothing;
    void *field = field_of(p, row->about.offset);
    switch (row->about.type) {
    case SD_PARAM_INT: case SD_PARAM_BOOL: case SD_PARAM_NUMBER: set_number(p, row, row->about.initial); break;
    case SD_PARAM_SEED: *(uint64_t *)field = 0; break;
    case SD_PARAM_MARGINS: memcpy(field, nothing.edit.outpaint, sizeof nothing.edit.outpaint); break;
    case SD_PARAM_PAIR:
        for (int i = 0; i < 2; i++) ((int *)field)[i] = (int)row->about.initial;
        break;
    case SD_PARAM_LIST:
        *(int *)field_of(p, row->about.count_offset) = 0;
        *(const double **)field = NULL;
        break;
    case SD_PARAM_TEXT: case SD_PARAM_FILE: *(const char **)field = NULL; break;
    }
}

bool sd_param_is_default(const sd_params *p, const sd_param *row)
{
    return is_number(row) ? number_of(p, row) == row->about.initial
                          : !*(const char *const *)field_of(p, row->about.offset);
}

static void set_defaults(sd_params *p)
{
    *p = (sd_params){.size = sizeof *p};
    for (size_t i = 0; i < SD_COUNT(table); i++) set_default(p, &table[i]);
}

void sd_params_init_sized(sd_params *p, size_t size)
{
    sd_params all;
    if (!p) return;
    set_defaults(&all);
    all.size = size;
    sd_copy_struct(p, size, &all, sizeof all);
}

size_t sd_params_size(void) { return sizeof(sd_params); }

int sd_get_param_sized(int i, sd_param_info *info, size_t size)
{
    const sd_param *row = i < 0 ? NULL : sd_param_at((size_t)i);
    if (!row || !info) return 0;
    sd_param_info about = row->about;
    about.group = group_of(row);
    sd_copy_struct(info, size, &about, sizeof about);
    return 1;
}

/* -------------------------------------------------------------------------------------- words */

int sd_param_word(const char *key, const char *value)
{
    size_t n = value ? strlen(value) : 0;
    int i = 0;
    for (const char *w = sd_param_find(key)->about.words; value; i++) {
        size_t length = strcspn(w, " ");
        if (length == n && strncmp(w, value, n) == 0) return i;
        if (!w[length]) return -1;
        w += length + 1;
    }
    return 0;
}

sd_status sd_params_check_words(const sd_params *p, sd_error *e)
{
    static const char *const keys[] = {"like", "first_latents", "bytes", "strength_steps", "posterior", "mask_rule"};
    for (size_t i = 0; i < SD_COUNT(keys); i++) {
        const sd_param *row = sd_param_find(keys[i]);
        const char *value = *(const char *const *)field_of(p, row->about.offset);
        if (sd_param_word(keys[i], value) < 0)
            return sd_fail(e, SD_ERR_ARG, "%s \"%.64s\": one of these words is possible: %s", row->name, value,
                           row->about.words);
    }
    return SD_OK;
}

/* ------------------------------------------------------------------------- a caller's parameters */

enum { SMALLEST = offsetof(sd_params, sampling) };   /* what every version has */

/* As sd_params_take, without a check of numbers. */
static sd_status take_unchecked(sd_params *out, const sd_params *given, sd_error *e)
{
    if (!given) return sd_fail(e, SD_ERR_ARG, "params must not be NULL");
    size_t size = given->size;
    if (size < SMALLEST)
        return sd_fail(e, SD_ERR_ARG, "params has a size of %zu bytes, which none has: call sd_params_init first",
                       size);
    if (size > sizeof *out)
        return sd_fail(e, SD_ERR_ARG, "params has %zu bytes, of which this library (sd %s) knows %zu: the program was "
                       "compiled for a newer one", size, SD_VERSION, sizeof *out);
    set_defaults(out);
    memcpy(out, given, size);
    out->size = sizeof *out;
    for (size_t i = 0; i < SD_COUNT(table); i++)
        if (is_number(&table[i]) && number_of(out, &table[i]) == SD_DEFAULT) set_default(out, &table[i]);
    return SD_OK;
}

void sd_params_copy_sized(sd_params *to, const sd_params *from, size_t size)
{
    sd_params all;
    sd_error e = {.status = SD_OK};
    if (!to) return;
    if (take_unchecked(&all, from, &e)) set_defaults(&all);
    all.size = size;
    all.copies = NULL;
    sd_copy_struct(to, size, &all, sizeof all);
}

/* Both numbers, or neither, are SD_DEFAULT; other numbers are within their bounds. */
static sd_status check_pair(const sd_params *p, const sd_param *row, sd_error *e)
{
    const sd_param_info *r = &row->about;
    const int *pair = field_of(p, r->offset);
    if (pair[0] == SD_DEFAULT && pair[1] == SD_DEFAULT) return SD_OK;
    for (int i = 0; i < 2; i++)
        if (!(pair[i] >= r->least && pair[i] <= r->most))
            return sd_fail(e, SD_ERR_ARG, "%s must be two numbers of %.0f to %.0f%s, not %d%s%d", row->name, r->least,
                           r->most, row->unit, pair[0], r->words, pair[1]);
    return SD_OK;
}

sd_status sd_params_take(sd_params *out, const sd_params *given, sd_error *e)
{
    if (take_unchecked(out, given, e)) return e->status;
    for (size_t i = 0; i < SD_COUNT(table); i++) {
        const sd_param *row = &table[i];
        const sd_param_info *r = &row->about;
        if (r->type == SD_PARAM_PAIR && check_pair(out, row, e)) return e->status;
        if (!is_number(row) || (sd_param_is_edit(row) && !out->edit.init)) continue;
        double x = number_of(out, row);
        if (x == SD_DEFAULT || (x >= r->least && x <= r->most)) continue;
        const char *unit = row->unit ? row->unit : "";
        if (isinf(r->most)) return sd_fail(e, SD_ERR_ARG, "%s must be at least %g, not %g", row->name, r->least, x);
        if (r->type == SD_PARAM_NUMBER)
            return sd_fail(e, SD_ERR_ARG, "%s must be %g to %g%s, not %g", row->name, r->least, r->most, unit, x);
        return sd_fail(e, SD_ERR_ARG, "%s must be %.0f to %.0f%s, not %.0f", row->name, r->least, r->most, unit, x);
    }
    return SD_OK;
}

/* --------------------------------------------------------------------------------- values as text */

typedef struct copy { struct copy *next; } copy;

void sd_params_free(sd_params *p)
{
    if (!p || p->size < offsetof(sd_params, copies) + sizeof p->copies) return;
    for (copy *c = p->copies, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    p->copies = NULL;
}

/* n bytes that sd_params_free frees; NULL: no memory. */
static void *keep(sd_params *p, size_t n, sd_error *e)
{
    const size_t head = sizeof(double) > sizeof(copy) ? sizeof(double) : sizeof(copy);
    copy *c = malloc(head + n);
    if (!c) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for a parameter of %zu bytes", n);
        return NULL;
    }
    c->next = p->copies;
    p->copies = c;
    return (char *)c + head;
}

static bool read_bool(double *x, const char *value)
{
    static const char *const words[][2] = {{"false", "true"}, {"0", "1"}, {"no", "yes"}, {"off", "on"}};
    for (size_t i = 0; i < SD_COUNT(words); i++)
        for (int v = 0; v < 2; v++) {
            const char *a = value, *b = words[i][v];
            while (*a && *b && (*a == *b || (*a >= 'A' && *a <= 'Z' && *a + ('a' - 'A') == *b))) a++, b++;
            if (*a || *b) continue;
            *x = v;
            return true;
        }
    return false;
}

static bool read_seed(uint64_t *out, const char *value)
{
    uint64_t v = 0;
    if (!*value || strlen(value) > 20 || value[strspn(value, "0123456789")]) return false;
    for (; *value; value++) {
        uint64_t digit = (uint64_t)(*value - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

/* A part of a list that ends at a comma or with the text, and may have spaces around it. */
static bool read_item(double *out, const char *item, size_t n)
{
    char text[80];
    while (n && item[0] == ' ') item++, n--;
    while (n && item[n - 1] == ' ') n--;
    if (n >= sizeof text) return false;
    memcpy(text, item, n);
    text[n] = 0;
    return sd_number_read(out, text);
}

/* "1,2,3": up to `most` numbers; 0 if it is no list, or a longer one. */
static size_t read_items(double *out, size_t most, const char *value)
{
    size_t n = 0;
    for (const char *at = value;; at++) {
        size_t length = strcspn(at, ",");
        if (n == most || !read_item(&out[n], at, length) || !isfinite(out[n])) return 0;
        n++;
        at += length;
        if (!*at) return n;
    }
}

static bool read_list(sd_params *p, const sd_param *row, const char *value, sd_error *e)
{
    size_t most = 1;
    for (const char *c = value; *c; c++) most += *c == ',';
    double *list = most > INT_MAX ? NULL : keep(p, most * sizeof *list, e);
    size_t n = list ? read_items(list, most, value) : 0;
    if (!n) return false;
    *(const double **)field_of(p, row->about.offset) = list;
    *(int *)field_of(p, row->about.count_offset) = (int)n;
    return true;
}

static bool read_margins(int margins[4], const char *value)
{
    double list[4];
    if (read_items(list, 4, value) != 4) return false;
    for (int i = 0; i < 4; i++)
        if (list[i] != floor(list[i]) || fabs(list[i]) > SD_IMAGE_SIDE) return false;
    for (int i = 0; i < 4; i++) margins[i] = (int)list[i];
    return true;
}

/* "1024x768" or "16,0", as the row says */
static bool read_pair(int pair[2], const sd_param *row, const char *value)
{
    size_t first = strcspn(value, row->about.words);
    double list[2];
    if (!value[first] || !read_item(&list[0], value, first) || !sd_number_read(&list[1], value + first + 1))
        return false;
    for (int i = 0; i < 2; i++)
        if (!(list[i] >= row->about.least && list[i] <= row->about.most) || list[i] != floor(list[i])) return false;
    for (int i = 0; i < 2; i++) pair[i] = (int)list[i];
    return true;
}

/* INT, BOOL, NUMBER */
static bool read_number(double *x, const sd_param *row, const char *value)
{
    if (row->about.type == SD_PARAM_BOOL) return read_bool(x, value);
    if (!sd_number_read(x, value)) return false;
    return row->about.type == SD_PARAM_NUMBER || (*x == floor(*x) && fabs(*x) <= INT_MAX);
}

bool sd_param_read(sd_params *p, const sd_param *row, const char *value, sd_error *e)
{
    void *field = field_of(p, row->about.offset);
    double x;
    char *text;
    switch (row->about.type) {
    case SD_PARAM_INT: case SD_PARAM_BOOL: case SD_PARAM_NUMBER:
        if (!read_number(&x, row, value)) return false;
        set_number(p, row, x);
        return true;
    case SD_PARAM_SEED: return read_seed(field, value);
    case SD_PARAM_LIST: return read_list(p, row, value, e);
    case SD_PARAM_MARGINS: return read_margins(field, value);
    case SD_PARAM_PAIR: return read_pair(field, row, value);
    case SD_PARAM_TEXT: case SD_PARAM_FILE:
        text = keep(p, strlen(value) + 1, e);
        if (text) *(const char **)field = strcpy(text, value);
        return text != NULL;
    }
    return false;
}

void sd_param_set_constant(sd_params *p, const sd_param *row, const char *value)
{
    double x;
    if (!is_number(row)) *(const char **)field_of(p, row->about.offset) = value;
    else if (read_number(&x, row, value)) set_number(p, row, x);
}

static void add_numbers(sd_text *t, const double *x, int n)
{
    for (int i = 0; i < n; i++) {
        char number[SD_NUMBER_SIZE];
        sd_text_add(t, "%s%s", i ? "," : "", sd_number_text(number, x[i]));
    }
}

bool sd_param_add_text(sd_text *t, const sd_params *p, const sd_param *row)
{
    const void *field = field_of(p, row->about.offset);
    const int *m = field;
    double x;
    char number[SD_NUMBER_SIZE];
    switch (row->about.type) {
    case SD_PARAM_INT: case SD_PARAM_BOOL: case SD_PARAM_NUMBER:
        x = number_of(p, row);
        if (row->about.type == SD_PARAM_BOOL) sd_text_add(t, "%s", x != 0 ? "true" : "false");
        else if (row->about.type == SD_PARAM_INT) sd_text_add(t, "%.0f", x);
        else sd_text_add(t, "%s", sd_number_text(number, x));
        return x != row->about.initial;
    case SD_PARAM_SEED:
        sd_text_add(t, "%llu", (unsigned long long)*(const uint64_t *)field);
        return *(const uint64_t *)field != 0;
    case SD_PARAM_LIST:
        if (!*(const double *const *)field) return false;
        add_numbers(t, *(const double *const *)field, *(const int *)field_of(p, row->about.count_offset));
        return true;
    case SD_PARAM_MARGINS:
        sd_text_add(t, "%d,%d,%d,%d", m[0], m[1], m[2], m[3]);
        return m[0] || m[1] || m[2] || m[3];
    case SD_PARAM_PAIR:
        sd_text_add(t, "%d%s%d", m[0], row->about.words, m[1]);
        return m[0] != row->about.initial || m[1] != row->about.initial;
    case SD_PARAM_TEXT: case SD_PARAM_FILE:
        if (!*(const char *const *)field) return false;
        sd_text_add(t, "%s", *(const char *const *)field);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------------------------ by their key */

static sd_status say(char error[512], const sd_error *e)
{
    if (error) snprintf(error, 512, "%s", e->text);
    return e->status;
}

static size_t size_of(const sd_param *row)
{
    static const size_t sizes[] = {
        [SD_PARAM_TEXT] = sizeof(char *), [SD_PARAM_FILE] = sizeof(char *), [SD_PARAM_INT] = sizeof(int),
        [SD_PARAM_BOOL] = sizeof(int), [SD_PARAM_NUMBER] = sizeof(double), [SD_PARAM_SEED] = sizeof(uint64_t),
        [SD_PARAM_LIST] = sizeof(double *), [SD_PARAM_MARGINS] = 4 * sizeof(int),
        [SD_PARAM_PAIR] = 2 * sizeof(int)};
    return sizes[row->about.type];
}

/* The row of a key, if the caller's struct has its field. */
static const sd_param *row_of(const sd_params *p, const char *key, sd_error *e)
{
    const sd_param *row = sd_param_find(key);
    if (!p) sd_fail(e, SD_ERR_ARG, "params must not be NULL");
    else if (!row) sd_fail(e, SD_ERR_ARG, "there is no parameter \"%.100s\"", key ? key : "");
    else if (p->size > sizeof *p || p->size < SMALLEST || p->size < row->about.offset + size_of(row)
             || (row->about.type == SD_PARAM_LIST && p->size < row->about.count_offset + sizeof(int)))
        sd_fail(e, SD_ERR_ARG, "%.100s: params has a size of %zu bytes, where that is not in", key, p->size);
    return e->status ? NULL : row;
}

/* key: as the caller calls it */
static void refuse(sd_error *e, const sd_param *row, const char *key, const char *text)
{
    const sd_param_info *r = &row->about;
    switch (r->type) {
    case SD_PARAM_INT:
        sd_fail(e, SD_ERR_ARG, "%s must be a whole number from %.0f to %.0f, not \"%.100s\"", key, r->least, r->most,
                text);
        break;
    case SD_PARAM_NUMBER:
        if (isinf(r->most))
            sd_fail(e, SD_ERR_ARG, "%s must be a number and at least %g, not \"%.100s\"", key, r->least, text);
        else
            sd_fail(e, SD_ERR_ARG, "%s must be a number from %g to %g, not \"%.100s\"", key, r->least, r->most, text);
        break;
    case SD_PARAM_BOOL: sd_fail(e, SD_ERR_ARG, "%s must be true or false, not \"%.100s\"", key, text); break;
    case SD_PARAM_SEED:
        sd_fail(e, SD_ERR_ARG, "%s must be a whole number from 0 to %llu, not \"%.100s\"", key,
                (unsigned long long)UINT64_MAX, text);
        break;
    case SD_PARAM_LIST:
        sd_fail(e, SD_ERR_ARG, "%s must be decimal numbers with commas between them, not \"%.100s\"", key, text);
        break;
    case SD_PARAM_MARGINS:
        sd_fail(e, SD_ERR_ARG, "%s takes four numbers of pixels, left,top,right,bottom, not \"%.100s\"", key, text);
        break;
    case SD_PARAM_PAIR:
        sd_fail(e, SD_ERR_ARG, "%s takes two whole numbers from %.0f to %.0f, %s, not \"%.100s\"", key, r->least,
                r->most, r->value, text);
        break;
    case SD_PARAM_TEXT: case SD_PARAM_FILE: break;   /* anything will do; memory has run out */
    }
}

sd_status sd_params_set(sd_params *p, const char *key, const char *text, char error[512])
{
    sd_error e = {.status = SD_OK};
    const sd_param *row = row_of(p, key, &e);
    double x = 0;
    if (row && !text) set_default(p, row);
    if (row && text) {
        bool number = is_number(row);
        bool spaced = row->about.type == SD_PARAM_LIST && strchr(text, ' ');   /* only other programs' texts are */
        bool good = number ? read_number(&x, row, text) && x >= row->about.least && x <= row->about.most
                           : !spaced && sd_param_read(p, row, text, &e);
        if (good && number) set_number(p, row, x);
        if (!good && !e.status) refuse(&e, row, key, text);
    }
    return say(error, &e);
}

sd_status sd_params_get(const sd_params *p, const char *key, char **text, char error[512])
{
    sd_error e = {.status = SD_OK};
    const sd_param *row = row_of(p, key, &e);
    sd_text t = {0};
    if (text) *text = NULL;
    else sd_fail(&e, SD_ERR_ARG, "text must not be NULL");
    if (e.status) return say(error, &e);
    bool other = sd_param_add_text(&t, p, row);
    sd_text_addn(&t, "", 0);
    if (t.failed) sd_fail(&e, SD_ERR_MEMORY, "no memory for a parameter's text");
    if (other && !t.failed) *text = t.s;
    else free(t.s);
    return say(error, &e);
}
