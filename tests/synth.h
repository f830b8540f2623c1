/* synth.h - small models with weights from a formula, and the truth about them (tools/make_golden.py explains both).
 *
 * A test of the networks does this:
 *     synth_write_model(dir, "sd1-small", NULL, &e);              a model directory in diffusers layout
 *     golden_open(&g, "sd1-small", &e);                           tests/golden/net_sd1-small.safetensors
 *     float *latents = synth_input("sd1-small", "latents", dim, &e);   ... "context", "vae_latents", "picture"
 *     golden_read(&g, "timesteps", t, 2);
 *     sd_set_trace(ctx, NULL, callback, &g);                      callback: golden_compare(&g, traced->name, ...)
 *     sd_unet(ctx, 2, dim[2], dim[3], latents, t, context, out);  traces "unet.<module>"
 * and asks that every traced name is found, has the right shape and result.ratio <= 1; that golden_unseen(&g, "unet.")
 * is NULL (every module was traced); that golden_least_mistake(&g, "unet", &name) is ten times the bound of the result
 * (the goldens can fail). sd_vae_decode and sd_vae_encode trace "vae.<module>"; results besides: vae.mean, vae.logvar,
 * prompt_embeds, clip_skip.<K> (as sd_encode_text counts) and tokens, all of [negative prompt, prompt].
 * Runs: synth_runs gives the parameters for sd_generate. Of what it traces, tokens, prompt_embeds and text_encoder.*
 * have these names (and are those of guidance with one picture); all but step.*.unet.* and vae.* is "run.<name>.*". */
#ifndef SYNTH_H
#define SYNTH_H

#include "../selftest_synth.h"

typedef struct synth_options {
    sd_dtype dtype;      /* SD_F32; SD_F16 and SD_BF16 only for sd1-small, whose numbers all three types have */
    int shards;          /* 0 or 1: one file per part; else so many, with their index */
    bool no_prefix;      /* text encoder keys without "text_model.", as transformers 5 writes them */
    const char *without; /* leave out tensors whose name matches this glob; NULL: none */
} synth_options;
/* Writes the model of a configuration ("sd1-small", "sd2-small", "asym-small") into the existing directory dir. options
 * may be NULL. */
sd_status synth_write_model(const char *dir, const char *config, const synth_options *options, sd_error *e);

/* Adds one part of a configuration ("unet") in F32, with diffusers' names. streams: "", or another word before the
 * names of the streams, for other numbers. */
sd_status synth_tensors(sd_tensor_set *set, const char *config, const char *part, const char *streams, sd_error *e);

/* An input of the goldens, in PyTorch's order; free() it. NULL on failure. */
float *synth_input(const char *config, const char *name, int64_t dim[4], sd_error *e);

#define SYNTH_MAX_RUNS 8
typedef struct synth_run {
    char name[32], sampler[16];   /* sampler "": the model's own */
    int width, height, steps, batch;
    double guidance, eta;         /* eta -1: the sampler's own */
    unsigned long long seed;
} synth_run;
typedef struct synth_run_list {
    synth_run run[SYNTH_MAX_RUNS];
    int n;
    char prompt[256], negative[256];
} synth_run_list;
sd_status synth_runs(synth_run_list *runs, const char *config, sd_error *e);

/* What sd selftest has too goes by shorter names here. */
typedef sd_golden golden;
typedef sd_golden_result golden_result;
#define golden_compare sd_golden_compare
#define golden_open_file sd_golden_open
#define golden_close sd_golden_close
#define golden_read sd_golden_read
#define golden_unseen sd_golden_unseen

sd_status golden_open(golden *g, const char *config, sd_error *e);
/* golden_read for int64 (tokens). */
bool golden_read_i64(golden *g, const char *name, int64_t *out, size_t n);

/* The smallest error that a known mistake makes in the result of `part` ("unet", "encoder", "decoder", "text", "run");
 * 0: none stored. */
double golden_least_mistake(const golden *g, const char *part, const char **name);

#endif
