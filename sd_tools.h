/* sd_tools.h - the part of libsd's public interface that looks at files and at runs instead of drawing: what a file is,
 * where two runs part. sd.h includes it. What sd.h says of errors, sizes of structs and NULL holds here too. */
#ifndef SD_TOOLS_H
#define SD_TOOLS_H

#include "sd.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What sd_inspect is to tell. */
typedef struct sd_inspect_options {
    size_t size;             /* sd_inspect_options_init sets it */
    int json;                /* 1: a JSON object, see docs/FILES.md; 0: a text to be read */
    int columns;             /* of the text; 80 */
    int metadata;            /* 1: all texts of the file's header whole; 0: the long ones are shortened */
    const char *tensors;     /* a list of tensors, those whose names fit these globs ("*attn*,*.bias"); NULL: none */
    int values;              /* 1: reads all numbers and counts NaN, infinities, subnormal numbers and zeros */
    int hash;                /* 1: SHA-256 of each file, and of each tensor in that list */
    /* Told while numbers are read: what is done, and how many bytes of how many. 0: go on; else the call ends with
     * SD_ERR_CANCELLED. May be NULL. */
    int (*progress)(void *user, const char *what, double done, double total);
    void *user;
} sd_inspect_options;
#define sd_inspect_options_init(options) sd_inspect_options_init_sized((options), sizeof(sd_inspect_options))
SD_API void sd_inspect_options_init_sized(sd_inspect_options *options, size_t size);

/* What a file of weights or a model directory is: its kind, family and why; its networks with types, and with the
 * tensors that are missing, misshapen or unknown; and how to draw with it. Reads headers, and numbers only for values
 * and hash. options may be NULL. `error` gets the sentence on failure. Free *text with sd_free. */
SD_API sd_status sd_inspect(const char *path, const sd_inspect_options *options, char **text, char error[512]);
/* In which tensors two files or directories differ: only in one, of another shape, of another type, other numbers.
 * Where both have networks that are known, tensors are matched by diffusers' names, whatever the files call them. All
 * numbers are read. *different: 1 if any tensor differs, else 0. */
SD_API sd_status sd_inspect_diff(const char *a, const char *b, const sd_inspect_options *options, char **text,
                                 int *different, char error[512]);

/* How sd_compare is to tell what it finds. */
typedef struct sd_compare_options {
    size_t size;             /* sd_compare_options_init sets it */
    int json;                /* 1: a JSON object, see docs/VALIDATING.md; 0: a text to be read */
    int columns;             /* of the text; 80 */
    int all;                 /* 1: the text lists all tensors; 0: those about the first divergence, and the worst */
    int (*progress)(void *user, const char *what, double done, double total);   /* as that of sd_inspect_options */
    void *user;
    const char *names;       /* a file of lines "MINE'S-NAME REF'S-NAME", one * in each for any text; NULL: none */
    const char *const *calls;   /* n_calls further files of `mine`: it computed a batch in several calls, each in a file
                              * of its own, in the order of the batch */
    int n_calls;
    double rtol, atol;       /* counts numbers that differ by more than atol + rtol |ref|; 1e-3, 1e-5 */
    const char *html;        /* also writes a page with what was found, complete in itself; NULL: none. Of what is there
                              * only an empty file or such a page is replaced */
    /* What float32 itself does to each tensor: a file of lines "RELATIVE-L2-ERROR NAME", see docs/VALIDATING.md, or the
     * name of one that comes with the program, "sd15". Errors are then judged by how many times that they are.
     * NULL: none */
    const char *floor;
    const char *injected;    /* a trace of `ref`'s or `mine`'s program that went on with the other's tensors, see
                              * sd_trace_inject: what each module adds is measured by it. NULL: it is estimated */
} sd_compare_options;
#define sd_compare_options_init(options) sd_compare_options_init_sized((options), sizeof(sd_compare_options))
SD_API void sd_compare_options_init_sized(sd_compare_options *options, size_t size);

/* Two traces of what should be the same run, `ref` of the implementation that is trusted: the tensor at which `mine`
 * diverges first, in the order of execution; what both have, by name; what only one has. Files of any format that
 * sd_inspect reads, or directories of .npy files. Numbers are read pair by pair. *different: 1 if any tensor diverges,
 * has another shape or cannot be read, else 0. options may be NULL. `error` gets the sentence on failure. Free *text
 * with sd_free. */
SD_API sd_status sd_compare(const char *ref, const char *mine, const sd_compare_options *options, char **text,
                            int *different, char error[512]);

/* ---- floors: what float32 itself does */

/* Writes the file that sd_compare takes as `floor`: for each tensor the largest relative L2 error between any two of n
 * traces of the same run that are right, but rounded differently. options->names is followed, values of options->floor
 * are kept where they are larger; options may be NULL. Of what is there only an empty file or
 * one of floors is replaced. */
SD_API sd_status sd_measure_floor(const char *const *traces, size_t n, const char *path,
                                  const sd_compare_options *options, char error[512]);
/* Writes such a file for the run with these parameters, measured by this program alone: the run is made with every sum
 * in double, as usual, and from so many starts one rounding apart (SD_DEFAULT: 8); the largest error against the first
 * counts. That is starts + 2 runs, one of them three to four times as slow. On the CPU. A trace that is set or open
 * gets nothing. */
SD_API sd_status sd_make_floor(sd_ctx *ctx, const sd_params *params, int starts, const char *path);

/* ---- what other programs do otherwise: see sd_params.like */

typedef struct sd_like_info {
    const char *key;         /* for sd_params.like */
    const char *title, *version;
} sd_like_info;
/* The i-th program, i = 0, 1, ...; 0 if there is none. All strings are constants. */
#define sd_get_like(i, info) sd_get_like_sized((i), (info), sizeof(sd_like_info))
SD_API int sd_get_like_sized(int i, sd_like_info *info, size_t size);

typedef enum sd_like_check {
    SD_LIKE_RUN,             /* a test compares a run, or its parts, with what that program's own code made of it */
    SD_LIKE_WRITTEN,         /* a test compares it with lines that were written after that program's source */
    SD_LIKE_READ,            /* it was read in that program's source, and not compared */
    SD_LIKE_NOT_HERE         /* this program cannot do it, or not for that program */
} sd_like_check;

/* One thing that programs do differently, as one of them does it. */
typedef struct sd_like_row {
    const char *what;        /* the thing */
    const char *parameter;   /* the key of the parameter that does it; NULL: none, or more than one */
    const char *does;        /* what that program does */
    const char *sets;        /* what `like` sets that parameter to; NULL: nothing */
    const char *source;      /* "file:line" of that version; "": there is nothing to cite */
    sd_like_check check;
} sd_like_row;
/* Row 0, 1, ... for the i-th program; 0 if there is none. All strings are constants. */
#define sd_get_like_row(row, i, out) sd_get_like_row_sized((row), (i), (out), sizeof(sd_like_row))
SD_API int sd_get_like_row_sized(int row, int i, sd_like_row *out, size_t size);

/* ---- tables: what the tensors of a run, or of a file, are like */

/* From now on a row is made of each traced tensor: mean, standard deviation, extremes, norm, and how many numbers are
 * not finite; as JSON or CSV, if the path ends so, else as a text. Comes behind what sd_trace_open, sd_set_trace and
 * the other call set, and before sd_trace_inject. The file appears at sd_trace_close. filter: as that of
 * sd_trace_open. */
SD_API sd_status sd_trace_stats(sd_ctx *ctx, const char *path, const char *filter);
/* The same with the SHA-256 of each tensor's numbers, little-endian and in the order of its shape, in lines as
 * sha256sum prints them: runs with the same bits have the same file. */
SD_API sd_status sd_trace_hashes(sd_ctx *ctx, const char *path, const char *filter);

typedef struct sd_show_options {
    size_t size;             /* sd_show_options_init sets it */
    int json, csv, hash;     /* 1: the table so; 0: as a text */
    const char *filter;      /* only tensors whose names fit these globs; NULL: all */
    const char *tensor;      /* the numbers of this one, perhaps a part of it: "latents.0[0,:,4:8,-1]"; NULL: the
                              * table */
    int all;                 /* 1: all of them; 0: without those in the middle of a large one */
    int (*progress)(void *user, const char *what, double done, double total);   /* as that of sd_inspect_options */
    void *user;
} sd_show_options;
#define sd_show_options_init(options) sd_show_options_init_sized((options), sizeof(sd_show_options))
SD_API void sd_show_options_init_sized(sd_show_options *options, size_t size);

/* What is in a file of tensors, such as a trace, or in a directory of .npy files: the same rows for each, in the order
 * of execution; or the numbers of one. `error` gets the sentence on failure. Free *text with sd_free. */
SD_API sd_status sd_show(const char *path, const sd_show_options *options, char **text, char error[512]);

/* ---- injection: a run that goes on with the numbers of another program */

typedef struct sd_inject_options {
    size_t size;             /* sd_inject_options_init sets it */
    const char *filter;      /* globs of this run's names, as sd_trace_open has them: only these; NULL: all */
    const char *names;       /* a file of lines "NAME-IN-REF NAME-HERE", one * in each for any text; NULL: none */
} sd_inject_options;
#define sd_inject_options_init(options) sd_inject_options_init_sized((options), sizeof(sd_inject_options))
SD_API void sd_inject_options_init_sized(sd_inject_options *options, size_t size);

/* The next run, with these parameters, is made of the inputs that `ref` has: a trace of another program, or a directory
 * of .npy files. Whenever a tensor has been traced, the run goes on with what `ref` has under that name. So no module
 * has an error but its own. Comes after sd_trace_open or sd_set_trace, if there is one: they get what was computed. It
 * ends with sd_trace_close. Tensors are matched as sd_compare matches them. The log says what `ref` lacks. A tensor of
 * another shape is an error, with SD_ERR_ARG. options may be NULL. */
SD_API sd_status sd_trace_inject(sd_ctx *ctx, const sd_params *params, const char *ref,
                                 const sd_inject_options *options);

/* Writes a minimal case to `path`: a module of a run with these parameters, by its name in a trace; its weights and its
 * inputs, which are those of `trace`; what the module makes of them here, "ours", and what `trace` has, "theirs". See
 * docs/VALIDATING.md. A trace that is set or open gets nothing. options: as above; `filter` does not count. */
SD_API sd_status sd_extract(sd_ctx *ctx, const sd_params *params, const char *trace, const char *module,
                            const char *path, const sd_inject_options *options);
/* Computes a case again, from its file alone. *different: 1 if "theirs" is further away than float32's own errors
 * reach, else 0. `error` gets the sentence on failure. Free *text with sd_free. */
SD_API sd_status sd_replay(const char *path, char **text, int *different, char error[512]);

/* ---------------------------------------------------------------------------------------- stages
 * Those of a run, one by one, beside sd_unet_evaluate, sd_vae_encode and sd_vae_decode of sd.h. */

/* Text embeddings of several texts at once, as a run makes them. */
typedef struct sd_text_batch {
    size_t size;                     /* sizeof(sd_text_batch) */
    int n;                           /* texts, 1 to 1024 */
    const char *const *text;         /* [n]; the first may be NULL: what a run takes that has no negative prompt, which
                                      * is "", or zeros where the model has them for that (SDXL) */
    int clip_skip;                   /* as in sd_params */
    const int32_t *tokens[2];        /* ids for each text encoder, [n,77], without the first text's if that is zeros;
                                      * NULL: those of the texts */
    float *prompt_embeds;            /* becomes [n,77,context_dim]; so many floats: */
    size_t prompt_embeds_count;
    float *pooled_prompt_embeds;     /* becomes [n,pooled_dim]; NULL where the model has none, or if it is not wanted */
    size_t pooled_prompt_embeds_count;
    int32_t *ids[2];                 /* become the ids that the encoders got, [told,77]; NULL: not wanted */
    int told;                        /* becomes how many texts they got: n, or n - 1 */
} sd_text_batch;
/* Traces what a run traces of its texts. */
SD_API sd_status sd_encode_texts(sd_ctx *ctx, sd_text_batch *texts);
/* Behind sd_trace_open or sd_set_trace, or alone: runs end after the first tensor whose name fits the glob, with SD_OK
 * and without pictures or latents: `images` is as it was. Ends with sd_trace_close. */
SD_API sd_status sd_trace_stop_after(sd_ctx *ctx, const char *name);

/* What another program has computed of a run. Runs take it in the place of their own, until it is set anew. Arrays must
 * live as long; what is NULL is the run's own, and so is all that an older sd.h lacks. */
typedef struct sd_given {
    size_t size;                     /* sizeof(sd_given) */
    int answers;                     /* how many evaluations have been answered; the UNet is asked from the next on */
    const float *const *noise_pred;  /* [answers] the guided answers, [batch,C,height/8,width/8] each. With from_step
                                      * those before it may be NULL: then the sampler begins there, anew */
    const float *const *latents;     /* [answers + 1] those before evaluation i; an entry NULL, or all: as the sampler
                                      * makes them */
    size_t count;                    /* floats in each of these */
    /* The inputs of a run of one model. A row is one text for the UNet, in the order of a trace: the negative prompt's,
     * if there is guidance, and the prompt's. */
    const int32_t *tokens[2];        /* ids in the prompts' place for each text encoder, [token_rows,77], all in its
                                      * vocabulary; without the negative prompt's row zeros stand for that prompt, where
                                      * the model has zeros for none (SDXL) */
    int token_rows;
    int embed_rows;                  /* of the next two: a row for each text, or for each picture of each text */
    const float *prompt_embeds;      /* [embed_rows,77,context_dim], in the place of what the text encoders make */
    const float *pooled_prompt_embeds;   /* [embed_rows,pooled_dim], together with these where the model has them */
    const float *timestep;           /* what the UNet is told at evaluation i. The sampler goes by its own */
    int timesteps;                   /* as many as the whole run has evaluations */
} sd_given;
/* given may be NULL: nothing from now on. */
SD_API sd_status sd_set_given(sd_ctx *ctx, const sd_given *given);

/* *text becomes the settings that a trace tells otherwise than a run with these parameters has them, in one line, "seed
 * "1", here "2""; NULL if none. A run that begins in the middle counts as a whole. `but` is a list of globs, keys that
 * do not count; may be NULL. Free *text with sd_free. */
SD_API sd_status sd_settings_differ(sd_ctx *ctx, const sd_params *params, const char *trace, const char *but,
                                    char **text);

/* What a sampler makes of the answers that it has got. */
typedef struct sd_stepped {
    size_t size;                     /* sizeof(sd_stepped) */
    float *latents;                  /* become the latents then; NULL here and below: not wanted. So many floats: */
    size_t count;
    float *sample;                   /* becomes what the UNet is to be shown, [batch,in_channels,height/8,width/8] */
    size_t sample_count;
    float *denoised;                 /* becomes what the last answer says the finished latents are; `count` floats */
    double timestep, sigma;          /* become what the UNet is to be told, and the noise level */
    int evaluations;                 /* becomes how many the run has; 0: that is not known */
    int ended;                       /* becomes 1 if no evaluation follows */
} sd_stepped;
/* Makes a run with these parameters as far as sd_set_given's answers go: each stands for an evaluation of the UNet.
 * With no answers, its beginning. All that a run does between two evaluations is done, so the latents have its bits. */
SD_API sd_status sd_sampler_step(sd_ctx *ctx, const sd_params *params, sd_stepped *out);

/* One prediction out of the UNet's answers, [passes,batch,n], where passes is 2 with the first answer the negative
 * prompt's (1 without guidance, 3 for a UNet that follows instructions): noise_pred [batch,n] = uncond + scale (text -
 * uncond), with guidance->rescale. *passes becomes their number; with answers NULL nothing else is done. */
SD_API sd_status sd_guide_answers(sd_ctx *ctx, const sd_guidance_params *guidance, int batch, size_t n,
                                  const float *answers, float *noise_pred, int *passes);

/* ------------------------------------------------------------------------------------- self-test */

/* What sd_selftest is to check. */
typedef struct sd_selftest_options {
    size_t size;             /* sd_selftest_options_init sets it */
    int json;                /* 1: a JSON object, see docs/VALIDATING.md; 0: a text to be read */
    int all;                 /* 1: the text has a line for each sampler and generator; 0: one for each group */
    int threads;             /* the most that are used; SD_DEFAULT: as sd_options.threads */
    const char *only;        /* globs of checks, "samplers *,networks sdxl*"; NULL: all of them */
    const char *device;      /* as sd_options.device; "cpu": only the CPU; NULL: every device but OpenCL's of CPUs,
                              * which compile for minutes */
    const char *data;        /* directory of the expected numbers; NULL: share/selftest beside the program, or where
                              * they were installed */
    const char *scratch;     /* small models are written into a new directory there, and removed again; NULL: $TMPDIR,
                              * else /tmp */
    int (*progress)(void *user, const char *what, double done, double total);   /* as that of sd_inspect_options */
    void *user;
} sd_selftest_options;
#define sd_selftest_options_init(options) sd_selftest_options_init_sized((options), sizeof(sd_selftest_options))
SD_API void sd_selftest_options_init_sized(sd_selftest_options *options, size_t size);

/* Does this build compute on this machine what diffusers, k-diffusion, transformers, torch and NumPy compute? Random
 * numbers, tokens, samplers and small models of every family, with the kernels of every instruction set that the
 * processor has and on devices, are compared with numbers that are shipped. *failed: how many checks failed.
 * options may be NULL. `error` gets the sentence if it could not be done. Free *text with sd_free. */
SD_API sd_status sd_selftest(const sd_selftest_options *options, char **text, int *failed, char error[512]);

/* ---- diagnosis: the mistake in another program */

/* A mistake that implementations of Stable Diffusion make, and that can be made here on purpose. */
typedef struct sd_mistake_info {
    const char *id;          /* "geglu-tanh" */
    int trap;                /* its number in docs/TRAPS.md; 0: it is not there */
    const char *what;        /* what is wrong: "GEGLU's GELU is the tanh form" */
    const char *source;      /* what is right, and where that stands */
    const char *signature;   /* how its error looks */
    const char *where;       /* globs of the tensors where it begins to show */
} sd_mistake_info;
/* The i-th mistake, i = 0, 1, ...; 0 if there is none. All strings are constants. */
#define sd_get_mistake(i, info) sd_get_mistake_sized((i), (info), sizeof(sd_mistake_info))
SD_API int sd_get_mistake_sized(int i, sd_mistake_info *info, size_t size);

/* How sd_diagnose is to tell what it finds. */
typedef struct sd_diagnose_options {
    size_t size;             /* sd_diagnose_options_init sets it */
    int json;                /* 1: a JSON object, see docs/VALIDATING.md; 0: a text to be read */
    int columns;             /* of the text; 80 */
    int all;                 /* 1: the text lists each tensor's error on their own inputs */
} sd_diagnose_options;
#define sd_diagnose_options_init(options) sd_diagnose_options_init_sized((options), sizeof(sd_diagnose_options))
SD_API void sd_diagnose_options_init_sized(sd_diagnose_options *options, size_t size);

/* Which mistakes explain a foreign trace of what should be the run with these parameters? `theirs`: a file or a
 * directory as sd_compare takes it. Our run goes on with their numbers after each tensor that they have, so that each
 * is computed from their own inputs; where one diverges, mistakes are made on purpose, each in a run of its own. The
 * model must have been opened with all its parts, on the CPU. Settings with which theirs was
 * drawn, if they are others, are found first and taken over. *found: 1 if anything diverges or was drawn with other
 * settings, else 0; products rounded to TF32 or bfloat16 are named, but are no mistake, and alone give 0. options may
 * be NULL. Free *text with sd_free. */
SD_API sd_status sd_diagnose(sd_ctx *ctx, const sd_params *params, const char *theirs,
                             const sd_diagnose_options *options, char **text, int *found);

#ifdef __cplusplus
}
#endif
#endif
