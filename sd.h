/* sd.h - the public interface of libsd: Stable Diffusion in C99. This draws a picture:
 *
 *     sd_ctx *ctx;
 *     sd_options options;
 *     sd_params params;
 *     sd_image image = {0};
 *     sd_options_init(&options);
 *     options.model = "v1-5-pruned.safetensors";   // or a directory in diffusers layout
 *     sd_params_init(&params);
 *     params.prompt = "a lighthouse in a storm";
 *     params.sampling.steps = 20;
 *     sd_status status = sd_open(&ctx, &options);
 *     if (!status) status = sd_generate(ctx, &params, &image);
 *     if (!status) status = sd_image_write(ctx, "lighthouse.png", &image, NULL);
 *     if (status) fprintf(stderr, "%s\n", sd_error_text(ctx));
 *     sd_image_free(&image);
 *     sd_close(ctx);
 *
 * examples/txt2img.c is a program that does so.
 *
 * A context holds one model and one error text. Only one thread may use it at a time; two contexts may work in two
 * threads. sd_cancel alone may be called from anywhere, even from a signal handler.
 *
 * Every function that can fail returns an sd_status. sd_error_text(ctx) is a sentence that says what was expected, what
 * was found and where. Nothing here exits, prints or keeps global state.
 *
 * SD_ERR_ARG, with a sentence that names it: a pointer is NULL that must not be, a size is out of range, a picture has
 * no pixels, or a number with which the networks would calculate is NaN or infinite. In functions that cannot report an
 * error (sd_image_free, the *_init functions, sd_get_timings, sd_default_model, ...) NULL is harmless. A NULL context
 * means that sd_open was out of memory.
 *
 * A program can run with a library of another version, whose structs may have more fields at their end. sd_options and
 * sd_params begin with their size, which their *_init sets. If the library fills in a struct for the caller, a macro
 * passes the struct's size to a function named *_sized. sd_image, sd_traced and sd_tokens never change. Structs that
 * the library itself makes, sd_recipe and the arguments of callbacks, need no size.
 *
 * Tensors cross this interface as plain C arrays of float in PyTorch's order ([N,C,H,W], row major), so that they can
 * be compared with those of any other implementation.
 *
 * Names follow diffusers and transformers; the formulas and their sources are in docs/MODEL.md, docs/SAMPLERS.md and
 * docs/RANDOM.md. */
#ifndef SD_H
#define SD_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SD_VERSION "0.1.0"

#if defined(SD_BUILD_SHARED) && defined(__GNUC__)
#define SD_API __attribute__((visibility("default")))
#else
#define SD_API
#endif

#define SD_TOKENS 77 /* length of CLIP's context, BOS and EOS included */

/* ------------------------------------------------------------------------------------- status */

typedef enum sd_status {
    SD_OK = 0,
    SD_ERR_ARG,         /* a parameter of the caller: a size, a count, a name, text that is not UTF-8 */
    SD_ERR_IO,          /* a file could not be opened, read or written */
    SD_ERR_FORMAT,      /* a file's content breaks its format */
    SD_ERR_SHAPE,       /* a tensor has another shape than the model needs */
    SD_ERR_MISSING,     /* tensors or files that the model needs do not exist */
    SD_ERR_UNSUPPORTED, /* valid, but this build cannot do it */
    SD_ERR_MEMORY,      /* out of memory */
    SD_ERR_NUMERIC,     /* NaN or infinity in weights or results */
    SD_ERR_CANCELLED,   /* sd_cancel was called */
    SD_ERR_DEVICE       /* a device that computes for the CPU: its driver failed, or it computes wrongly */
} sd_status;

/* The name of a status, for example "shape". Never NULL. */
SD_API const char *sd_status_name(sd_status status);

/* SD_VERSION of the library and how it was built (kernels in use, BLAS, OpenMP, readers). */
SD_API const char *sd_version(void);
SD_API const char *sd_build_info(void);

/* ------------------------------------------------------------------------------- opening a model */

typedef struct sd_ctx sd_ctx;

/* Parts of a model. A program that only tokenizes need not read gigabytes of weights. */
enum {
    SD_PART_TOKENIZER = 1,
    SD_PART_TEXT = 2,
    SD_PART_UNET = 4,
    SD_PART_VAE = 8,
    SD_PART_ALL = 15,
    SD_PART_SCHEDULE = 16   /* all that sd_schedule needs; included in SD_PART_UNET */
};

enum {
    SD_RESIDENCY_MAP = 0,   /* files are mapped; what a stage has read leaves memory when the stage is over */
    SD_RESIDENCY_STREAM,    /* files are mapped; each weight leaves memory after use: least memory, more page faults.
                             * A device's memory it leaves too, and is uploaded whenever it is used */
    SD_RESIDENCY_RAM        /* files are read when the model is opened: no page faults later, for slow disks */
    /* A mapped file must not be made shorter while the context is open (replacing it by another file is harmless). Each
     * stage checks that first, and fails with SD_ERR_IO. If a file is made shorter while the stage runs, or a disk
     * fails, the process gets SIGBUS. The library has no handler: a program that must survive this needs its own, or
     * uses RAM. */
};

/* Whose matrix products linear layers and unfolded convolutions use. With the library's own, a result has the same bits
 * for any number of threads and in any batch. Winograd convolutions and attention always use the library's own if there
 * are vector instructions. */
enum {
    SD_GEMM_OWN = 0,
    SD_GEMM_OPENBLAS        /* SD_ERR_UNSUPPORTED in a build without it. Its last bits depend on the number of rows that
                             * it is given: on the batch, and on the VAE's bands */
};

/* For every number in sd_params and sd_options: the model's or this library's default. For pointers that is NULL. */
#define SD_DEFAULT INT_MIN

typedef struct sd_options {
    size_t size;        /* sd_options_init sets it */
    const char *model;  /* a file with a whole model, or a directory in diffusers' layout; NULL: the default model, see
                         * sd_default_model */
    unsigned parts;     /* SD_PART_*, 0 means all */
    int threads;        /* 1..1024; SD_DEFAULT: one per core that the process may use: OMP_NUM_THREADS, else its cores
                         * within the CPU quota of its control group */
    int residency;      /* SD_RESIDENCY_*: where the weights are while they are used; it changes no bit of a result */
    int precise;        /* 1: every sum in double, no BLAS (slower, see docs/PROOF.md) */
    int gemm;           /* SD_GEMM_* */
    uint64_t memory;    /* bytes that a call may take; a run that needs more is refused before it begins. 0: what is
                         * free when the call begins, within the limits of the process and of its control group;
                         * UINT64_MAX: no limit */
    /* Called with one line of text, without a newline; level 0 warning, 1 notice, 2 detail. May be NULL. */
    void (*log)(void *user, int level, const char *line);
    void *user;
    /* Parts that replace those of `model`: a file that has it, alone or among others, or a directory with its
     * config.json and weights, or a model's directory. NULL: the model's own. */
    const char *unet, *vae, *text_encoder, *text_encoder_2;
    const char *tokenizer;  /* a directory with merges.txt or tokenizer.json, or one of these files */
    const char *config;     /* what a file does not say of itself, as diffusers' from_single_file(config=...) takes it:
                             * a directory in diffusers' layout, of which only the configurations are read; the YAML
                             * file of an LDM checkpoint; or the name of a family, see `sd plan --help`. NULL: decided
                             * from the file, and from what is beside it */
    int ema;                /* 1: the UNet's weights are the averages that a checkpoint keeps beside them (model_ema.*).
                             * Else they are the plain ones, as in diffusers */
    const char *refiner;    /* a second model, which takes over at sd_sampling_params.refiner_at; NULL: none */
    const char *taesd;      /* a TAESD, a small autoencoder that stands for the VAE [madebyollin/taesd]: its file, two
                             * files with a comma between them, or a directory: diffusers' AutoencoderTiny, or one with
                             * taesd_decoder.safetensors and taesd_encoder.safetensors. Without its encoder the VAE
                             * encodes. NULL: none */
    int taesd_preview_only; /* 1: it decodes only what sd_step_picture is asked for with SD_STEP_TAESD */
    uint64_t vae_memory;    /* bytes of working memory that the VAE takes, about: what does not fit whole is computed
                             * in bands of rows, without changing a bit (but see SD_GEMM_OPENBLAS), in more time. Less
                             * than the least is the least. 0: all that a call may take (see `memory`) */
    const char *device;     /* what computes: "cpu"; "opencl": a device that OpenCL knows, see sd_devices for which;
                             * "opencl:1": the one with that number; "opencl:NAME": one in whose name, or platform's
                             * name, NAME is found, in any case. It is refused if it computes a few small cases of
                             * each operation otherwise than the CPU. NULL: the environment variable SD_DEVICE, else
                             * "cpu", as always with precise or SD_GEMM_OPENBLAS */
    const char *cache;      /* directory for what a device's driver compiled and what was measured of the device. NULL:
                             * $XDG_CACHE_HOME/sd, else $HOME/.cache/sd; "": nothing is kept */
} sd_options;

/* Fills in the defaults above: SD_PART_ALL, SD_RESIDENCY_MAP, SD_GEMM_OWN. */
#define sd_options_init(options) sd_options_init_sized((options), sizeof(sd_options))
SD_API void sd_options_init_sized(sd_options *options, size_t size);   /* what that macro calls */

/* Opens a model. *ctx is set even on failure, so that sd_error_text can say why, unless memory ran out (then it is
 * NULL). Pass it to sd_close in any case. On a context that could not be opened every other call returns the same
 * error again; on NULL, SD_ERR_MEMORY. */
SD_API sd_status sd_open(sd_ctx **ctx, const sd_options *options);
SD_API void sd_close(sd_ctx *ctx);

/* A sentence about the first error since the last successful call; "" if there is none. */
SD_API const char *sd_error_text(const sd_ctx *ctx);
/* Where in the source that error was raised, "file.c:123", for bug reports. */
SD_API const char *sd_error_place(const sd_ctx *ctx);

/* Asks the call that is running in this context to stop with SD_ERR_CANCELLED. It does so within a second (a device's
 * compiler, which works when kernels are used for the first time, ends before) and leaves no file. If no call is
 * running nothing happens, and the next one is not cancelled. Safe in signal handlers and other threads. (Without gcc's
 * or C11's atomics, only in signal handlers.) */
SD_API void sd_cancel(sd_ctx *ctx);
/* For a program that is about to end without returning from the running call: removes the temporary file that the call
 * is writing, if there is one. Safe in signal handlers; follow it by _exit. */
SD_API void sd_abandon(sd_ctx *ctx);

/* What was opened. */
typedef struct sd_model_info {
    const char *path;        /* the model's directory or file */
    const char *prediction;  /* "epsilon", "v_prediction" or "sample"; if it is not decided, what is most likely */
    const char *sampler;     /* name of the sampler that its scheduler_config.json asks for */
    int width, height;       /* native picture size in pixels */
    int scale;               /* pixels per latent, 8 for every SD 1.x and 2.x VAE */
    int latent_channels;     /* 4 */
    int context_dim;         /* width of the text embedding, which is that of two encoders side by side in SDXL */
    double scaling_factor;   /* latents = scaling_factor * VAE sample, where they are decoded; 1: a TAESD decodes */
    const char *kernels;     /* "avx2" and so on, "scalar", "precise" */
    const char *gemm;        /* "own" or "openblas" */
    int threads;
    const char *family;      /* "sd15", "sd21", ...; "": its UNet is none of a published family, or was not opened */
    const char *layout;      /* "diffusers directory", "LDM file", "diffusers file", ... */
    const char *prediction_why;   /* what decided the prediction, or that the first draw will ask the UNet */
    int in_channels;         /* of the UNet's input: latent_channels, and more if it sees a picture, a mask or depths */
    int pooled_dim;          /* of the vector for a whole text that SDXL's UNets take; 0: none */
    int time_ids;            /* numbers that SDXL's UNets are told of sizes: 6, the refiner 5; 0: none */
    int class_labels;        /* rows of the table from which the x4-upscaler's UNet is told a noise level; 0: none */
    int time_cond_dim;       /* numbers by which an LCM's UNet is told the guidance scale; 0: none */
    const char *task;        /* what it is made for: "drawing", "inpainting", "following instructions", "drawing by a
                              * depth map", "enlarging pictures"; "": that is not known */
    int enlarges;            /* pixels of the result for one of the picture to begin from, each way: 1; upscaler 4 */
    int steps;               /* what it is drawn with if nobody asks for anything else: steps ... */
    double guidance_scale;   /* ... and guidance scale */
    double encoding_factor;  /* scaling_factor where they are encoded: another, if a TAESD without encoder decodes */
    const char *device;      /* what computes: "cpu", or "opencl:0 NAME" */
    int text_encoders;       /* 1; SDXL 2; 0: they were not opened */
} sd_model_info;
#define sd_get_info(ctx, info) sd_get_info_sized((ctx), (info), sizeof(sd_model_info))
SD_API sd_status sd_get_info_sized(const sd_ctx *ctx, sd_model_info *info, size_t size);

/* -------------------------------------------------------------------------------------- devices */

/* What can compute. Texts live until the function returns. */
typedef struct sd_device_info {
    const char *which;             /* for sd_options.device: "cpu", "opencl:0" */
    const char *name;              /* the driver's; of the CPU the kernels: "avx2 kernels" */
    const char *type;              /* "CPU", "GPU", "accelerator", "other" */
    const char *platform, *platform_version, *driver;   /* "" for the CPU */
    uint64_t memory, largest;      /* bytes: of the device (the CPU: that are left); of one buffer at most */
    uint64_t shared;               /* bytes that a work-group shares */
    size_t units, group;           /* compute units, or cores; work-items of a work-group at most */
    const char *refused;           /* why it cannot be used, a sentence after "it cannot be used:"; "": it can */
    int chosen;                    /* 1: the one that was asked about */
    const char *why;               /* why it is that one: "of 2 the only GPU"; "" for the others */
    int checked;                   /* cases of the self-test that it passed; 0: it was not checked, or is refused */
    double check_seconds;
    double check_worst;            /* largest error, as a share of its bound */
} sd_device_info;
/* Calls fn for the CPU, then for each device of OpenCL, numbered over all platforms. device: which of them is asked
 * about, as in sd_options; NULL: SD_DEVICE; else, and for "cpu", "opencl". "opencl" is a GPU before an accelerator
 * before a CPU, then the one with the most memory. check: 1 runs the self-test on each, which compiles kernels and may
 * take seconds. `error` has the sentence if there is no device (SD_ERR_DEVICE), not that one (SD_ERR_ARG), or no OpenCL
 * in this build (SD_ERR_UNSUPPORTED). */
SD_API sd_status sd_devices(const char *device, int check, void (*fn)(void *user, const sd_device_info *device),
                            void *user, char error[512]);

/* ------------------------------------------------------------------------------------ callbacks */

typedef struct sd_progress {
    const char *stage;   /* "text", "step", "vae" (while that decodes in bands, per cent of each picture, too) */
    int done, total;     /* finished and planned units of this stage */
    double seconds;      /* spent in the unit that just ended */
    int steps;           /* of the run, of which some samplers make several units; 0: it has none */
} sd_progress;
/* Called after each unit of work. */
SD_API void sd_set_progress(sd_ctx *ctx, void (*fn)(void *user, const sd_progress *progress), void *user);

/* A step's prediction of the finished picture (x0). */
typedef struct sd_denoised {
    int index, total;        /* the evaluation that has ended, from 0; of how many (0: not known before the end) */
    int batch, channels, height, width;
    const float *x0;         /* [batch,channels,height,width], scaling_factor times the VAE's latents; valid only during
                              * the call */
} sd_denoised;
/* Called after each evaluation. If fn makes a call that fails, the run ends with that error. */
SD_API void sd_set_step(sd_ctx *ctx, void (*fn)(void *user, const sd_denoised *step), void *user);

/* Types of numbers in files. F8_*: 8-bit floats, as in safetensors. Q*: GGUF's blocks of numbers with common scales. */
typedef enum sd_dtype {
    SD_F32 = 0, SD_F16, SD_BF16, SD_F64, SD_I64, SD_I32, SD_I16, SD_I8, SD_U8, SD_BOOL,
    SD_F8_E4M3, SD_F8_E5M2,
    SD_Q8_0, SD_Q4_0, SD_Q4_1, SD_Q5_0, SD_Q5_1, SD_Q2_K, SD_Q3_K, SD_Q4_K, SD_Q5_K, SD_Q6_K
} sd_dtype;

/* A named intermediate result. Names are diffusers' and transformers' module paths, see docs/FILES.md. */
typedef struct sd_traced {
    const char *name;
    sd_dtype dtype;      /* SD_F32, or SD_I64 for tokens */
    int nd;
    int64_t dim[4];      /* PyTorch's order */
    const void *data;    /* contiguous, valid only during the call */
} sd_traced;
/* `filter` is a list of globs ("step.0.unet.mid_block*,latents.*"), NULL for everything. fn NULL turns tracing off. */
SD_API sd_status sd_set_trace(sd_ctx *ctx, const char *filter, void (*fn)(void *user, const sd_traced *tensor),
                              void *user);
/* Writes every traced tensor to a safetensors file; or, if path ends with a slash, to a directory with a .npy file for
 * each and tensors.json, which has their order and the settings of the run. It is complete and gets its name at
 * sd_trace_close; until then it is temporary. A directory may have another trace, which goes, but no other .npy files.
 * Ends an sd_set_trace. */
SD_API sd_status sd_trace_open(sd_ctx *ctx, const char *path, const char *filter);
SD_API sd_status sd_trace_close(sd_ctx *ctx);

/* (sd_trace_list, below sd_params, gives the names before a run.) */

/* One operation of a run, measured. Strings are valid only during the call. */
enum { SD_PROFILE_INPUT, SD_PROFILE_WEIGHTS, SD_PROFILE_PRODUCTS, SD_PROFILE_OUTPUT, SD_PROFILE_PARTS };
typedef struct sd_profiled {
    const char *stage;       /* "text_encoder", "unet", "vae_decode", "vae_encode" */
    int pass;                /* how often that stage has run before, since sd_set_profile */
    const char *block;       /* the step of `sd plan` it belongs to: "down_blocks.0.resnets.0" */
    const char *module;      /* as in a trace, without the stage: the module whose weights it used,
                              * "down_blocks.0.resnets.0.conv1", or the enclosing module */
    const char *operation;   /* "conv2d", "linear", "attention", "add", "move", ...; "stage": a pass as a whole */
    const char *algorithm;   /* "winograd F(4x4,3x3)"; "" where there is only one */
    int nd;
    int64_t dim[4];          /* of the result, channels last */
    double seconds;
    double flops;            /* multiplications and additions of the plain algorithm */
    double share;            /* the share of these that was really computed: Winograd's algorithm needs fewer */
    double bytes;            /* activations that must be read and written, each once */
    double weight_bytes;     /* the same for weights, as the file has them */
    double part[SD_PROFILE_PARTS];   /* seconds of all threads together in parts of the operation: preparing input and
                                      * weights, the products, making the output; all 0: not measured by parts */
} sd_profiled;
/* fn is called after each operation; NULL ends it. Measuring changes no bit of a result. */
SD_API sd_status sd_set_profile(sd_ctx *ctx, void (*fn)(void *user, const sd_profiled *op), void *user);

/* What this machine can do at most, measured: no operation is faster than its products at `peak`, nor than its bytes at
 * their bandwidth [Williams, Waterman & Patterson 2009, "Roofline"]. */
typedef struct sd_roofs {
    const char *kernels;         /* "avx2", ... */
    int threads;
    double peak_one, peak;       /* GFLOP/s of the micro-kernel on operands in the L1 cache: of one thread; of all */
    struct {
        const char *name;        /* "L1", "L2", "L3", "memory" */
        size_t bytes;            /* that it holds, for all threads together; for memory 0 */
        double read, copy;       /* GB/s of all threads; bytes read and bytes written both count; 0: not measured */
    } level[4];
} sd_roofs;
/* Takes about `seconds` for each of ten figures, with the threads and kernels of the context. */
#define sd_measure_roofs(ctx, seconds, roofs) sd_measure_roofs_sized((ctx), (seconds), (roofs), sizeof(sd_roofs))
SD_API sd_status sd_measure_roofs_sized(sd_ctx *ctx, double seconds, sd_roofs *roofs, size_t size);
/* The least possible seconds for these multiplications and additions, bytes of activations, and bytes of weights, which
 * come from memory. */
SD_API double sd_roof_seconds(const sd_roofs *roofs, double flops, double bytes, double weight_bytes);

/* The machine: the kernels that are chosen here, its cores, and its caches, to which blocks of work are cut. */
typedef struct sd_machine {
    const char *kernels;
    int cores;
    size_t l1, l2, l3, line;     /* bytes of a core's own L1 and L2, of the shared L3 (0: none), of a cache line */
    const char *caches_from;     /* "sysfs", "cpuid" or "default" */
} sd_machine;
#define sd_get_machine(machine) sd_get_machine_sized((machine), sizeof(sd_machine))
SD_API void sd_get_machine_sized(sd_machine *machine, size_t size);

/* ------------------------------------------------------------------------------------- tuning */

/* One kind of product, for which each shape of tiles was measured. */
typedef struct sd_tuned {
    int done, of;                  /* products that were measured; that will be */
    const char *operation;         /* "product", "36 products", "convolution" */
    int64_t rows, columns, terms;  /* of the result; of each sum */
    char shape[32];                /* the fastest: "128x64x16, 8x4" */
    double gflops, before;         /* GFLOP/s with it; with the one that would be used without having measured */
} sd_tuned;
/* Measures which kernels are the fastest on a device of OpenCL for the products of SD 1.5 and SDXL, and keeps that in
 * the cache, where sd_open finds it. Takes seconds on a GPU, minutes on a CPU. No bit of a picture depends on it.
 * device, cache: as in sd_options; NULL: SD_DEVICE, else "opencl". fn, which may be NULL, is called after each product;
 * what it returns other than 0 ends the call with SD_ERR_CANCELLED, and nothing is kept. */
SD_API sd_status sd_tune(const char *device, const char *cache, int (*fn)(void *user, const sd_tuned *tuned),
                         void *user, char error[512]);

/* ------------------------------------------------------------------------------------ pictures */

/* 8 bits per channel, sRGB, rows from top to bottom. Generated pictures have 3 channels, those from files 3 or 4.
 * Functions accept all three kinds. */
typedef struct sd_image {
    int width, height;
    int channels;        /* 1: grey, as a mask; 3: RGB; 4: RGBA, straight alpha, 255 is opaque */
    uint8_t *data;       /* [height,width,channels]; free() it, or all of it with sd_image_free */
} sd_image;
SD_API void sd_image_free(sd_image *image);
/* Reads PNG (8 and 16 bit, grey, palette, alpha), JPEG (turned upright by its EXIF orientation) or PNM, whatever the
 * file's name. */
SD_API sd_status sd_image_read(sd_ctx *ctx, const char *path, sd_image *image);
/* The sides of the picture in a file, from its header; 0 and 0 if it can be read only once, like a pipe. */
SD_API sd_status sd_image_size(sd_ctx *ctx, const char *path, int *width, int *height);
/* If the picture shrinks to this size, is opaque, not turned and no interlaced PNG: the same as sd_image_read and then
 * sd_image_resize, but its rows are resized while they are read. This takes memory only for the rows under the filter,
 * not for the file or the picture (but for all coefficients of a progressive JPEG). `hash` gets the MD5 of the file's
 * pixels, for sd_edit_params.init_hash. Otherwise the picture is sd_image_read's, and hash is "". */
SD_API sd_status sd_image_read_fitted(sd_ctx *ctx, const char *path, int width, int height, const char *how,
                                      sd_image *image, char hash[33]);
/* Resizes to width x height with Lanczos' filter; how: "stretch" (NULL), "crop", "pad" (repeats the edges). Drops
 * alpha; grey stays grey. */
SD_API sd_status sd_image_resize(sd_ctx *ctx, const sd_image *image, int width, int height, const char *how,
                                 sd_image *out);
/* Convert between bytes and the VAE's numbers, [3,height,width] in [-1,1]: v/127.5 - 1, and round(255*clamp(x/2+1/2)),
 * halves to even, both as in diffusers. Alpha is dropped. */
SD_API sd_status sd_image_to_floats(sd_ctx *ctx, const sd_image *image, float *out);
SD_API sd_status sd_image_from_floats(sd_ctx *ctx, int width, int height, const float *from, sd_image *image);
/* Only within the function of sd_set_step: picture `index` of the batch. SD_STEP_DECODED: by what decodes the finished
 * picture; SD_STEP_ROUGH: one pixel per latent, by the linear map "_latent_rgb" of the VAE's config.json, else by one
 * that fits the family; SD_STEP_TAESD: by the TAESD of sd_options. */
enum { SD_STEP_DECODED = 0, SD_STEP_ROUGH = 1, SD_STEP_TAESD = 2 };
SD_API sd_status sd_step_picture(sd_ctx *ctx, const sd_denoised *step, int index, int how, sd_image *image);

/* ------------------------------------------------------------------------------ text to image */

/* Parameters of a picture; params.c has their table, which sd_get_param and sd_params_set read. Any number may be
 * SD_DEFAULT and any pointer NULL, with the meaning given here. */

/* How the noise is removed. */
typedef struct sd_sampling_params {
    int steps;                    /* 1..1000; SD_DEFAULT: the model's own, "_steps" in its scheduler_config.json, else
                                   * its family's: most often 25; LCM 4, Turbo 1, the upscaler 75 */
    const char *sampler;          /* any name of sd_get_sampler in any spelling, ComfyUI's or stable-diffusion.cpp's; a
                                   * schedule may follow, "DPM++ 2M Karras"; "name@program"; NULL:
                                   * scheduler_config.json's, or "dpm++2m" if that sampler has its own levels and
                                   * others are asked for */
    const char *schedule;         /* how sigmas are placed: a name of sd_schedule_name or of a spacing; NULL: as
                                   * scheduler_config.json says */
    const char *spacing;          /* "leading", "trailing", "linspace"; NULL: scheduler_config.json's */
    const char *prediction;       /* "epsilon", "v_prediction", "sample"; NULL: scheduler_config.json's */
    const double *sigmas;         /* custom noise levels, descending, 1e-9 to 1e9, one more than steps, the last may be
                                   * 0; NULL: none. They determine the steps */
    const double *timesteps;      /* custom timesteps, descending, 0 to 999, as many as steps; NULL: none */
    int sigma_count, timestep_count;
    int order;                    /* of a multi-step sampler, 1..4; SD_DEFAULT: its own */
    int steps_offset;             /* 0..999, added to leading timesteps; SD_DEFAULT: scheduler_config.json's */
    int set_alpha_to_one;         /* 0 or 1; SD_DEFAULT: scheduler_config.json's */
    int clip_sample;              /* 0 or 1; SD_DEFAULT: scheduler_config.json's */
    double eta;                   /* share of fresh noise in a step, 0..1 [Song et al. 2020, eq. 16]; SD_DEFAULT: the
                                   * sampler's own (ddim 0, euler_a 1) */
    double s_churn, s_tmin, s_tmax, s_noise;   /* [Karras et al. 2022, Algorithm 2], for euler, heun, dpm2; s_noise also
                                                * for the ancestral samplers. Defaults 0, 0, infinity, 1 */
    /* A run that begins or ends within the noise levels of `steps` steps, which are then spread over the whole of them,
     * shares of the training timesteps, 0..1: the steps up to denoising_end, those from denoising_start on
     * [StableDiffusionXLPipeline; Balaji et al. 2022, "eDiff-I"]. SD_DEFAULT: off */
    double denoising_start, denoising_end;
    double refiner_at;            /* where the refiner takes over, 0..1; SD_DEFAULT: 0.8 if there is one */
    int from_step;                /* the run goes on with `latents` before this evaluation, counted from 0 as traces
                                   * count them (latents.3); it must begin a step. A sampler that remembers earlier
                                   * answers begins anew, unless sd_set_given has them. SD_DEFAULT: off */
    int whole_timesteps;          /* 1: samplers with k-diffusion's conventions tell the UNet the nearest whole
                                   * timestep, as ComfyUI's do; 0 and SD_DEFAULT: fractions, as k-diffusion's own do */
    const char *first_latents;    /* by what a sampler that works with sigmas multiplies the initial noise: "sigma";
                                   * "root", sqrt(sigma^2 + 1), which A1111 calls SGM noise multiplier; "comfy", the
                                   * root where the run begins at the model's largest sigma, else sigma; NULL: as its
                                   * program does, see docs/SAMPLERS.md */
    uint64_t reserved[11];        /* room to grow: leave it as sd_params_init has it */
} sd_sampling_params;

/* How strongly the prompt counts. */
typedef struct sd_guidance_params {
    double scale;                 /* w of noise_pred = uncond + w*(cond-uncond) [Ho & Salimans 2022]; w <= 1: no
                                   * guidance, one evaluation per step; -1000..1000; SD_DEFAULT: the model's own,
                                   * "_guidance_scale" in its scheduler_config.json, else its family's, the default
                                   * of its pipeline in diffusers: most often 7.5; SDXL 5, LCM 8.5, the upscaler
                                   * 9; Turbo 0. An LCM is told the scale, which needs no second evaluation: for it
                                   * scales up to 1 are scales as well */
    double rescale;               /* phi of [Lin et al. 2023, sec. 3.4], 0..1: brings the guided prediction's deviation
                                   * back to that of the prompt's; 0: off */
    double image_scale;           /* w_I of a UNet that follows instructions, how strongly the picture counts [Brooks
                                   * et al. 2023, eq. 3]; below 1: no guidance; 0..1000; SD_DEFAULT: 1.5 */
    uint64_t reserved[15];
} sd_guidance_params;

/* Image to image, inpainting, outpainting: all of these need `init`. */
typedef struct sd_edit_params {
    const sd_image *init;         /* the picture to begin from; NULL: text to image */
    const sd_image *mask;         /* bright is repainted, dark is kept, any size; NULL: init's alpha if it is at most
                                   * 127 anywhere, transparent is repainted. A picture whose alpha is no mask is laid
                                   * over white */
    const char *init_name, *mask_name;   /* the files' names for sd_parameters_text; NULL: none */
    double strength;              /* share of the steps that are taken: int(steps*strength) of them; 0..1 [SDEdit, Meng
                                   * et al. 2021]; SD_DEFAULT: 0.8, or 1 with a mask (diffusers' defaults) */
    double mask_blur;             /* standard deviation in pixels, 0..1000; 0: none */
    int alpha_mask;               /* 1: init's alpha is the mask, whatever its values */
    int invert_mask;              /* 1: the other way round */
    int paste_back;               /* 1 and SD_DEFAULT: pixels whose mask is 0 come back byte for byte */
    int inpaint_crop;             /* redraws only the mask's surroundings, this many pixels around it, at width x
                                   * height, and pastes the result back into the whole picture; SD_DEFAULT: off */
    int outpaint[4];              /* pixels to add left, top, right, bottom; the old ones come back byte for byte */
    const char *resize;           /* how init gets to width x height: "stretch" (NULL), "crop", "pad" */
    const char *init_hash;        /* sd_image_read_fitted's, for sd_parameters_text; NULL: that of init's pixels */
    const float *depth;           /* how near each point is, larger is nearer, in any unit: [depth_height,depth_width],
                                   * for a model that draws by a depth map; NULL: none */
    int depth_width, depth_height;
    const char *depth_name;       /* its file's name for sd_parameters_text; NULL: none */
    int noise_level;              /* timestep of the noise that an upscaling model is told to remove from its picture,
                                   * 0 to the most that the model knows, 350; SD_DEFAULT: 20 */
    /* What programs do differently. NULL is each one's first word, which is diffusers'. */
    const char *strength_steps;   /* how many steps a strength leaves: "share", int(steps strength); "above", as many,
                                   * with the noise of the step before them (CompVis); "share+1", one more (A1111,
                                   * stable-diffusion.cpp); "all", the last ones of int(steps / strength) (ComfyUI) */
    const char *posterior;        /* init's latents: "sample" of the posterior, from the run's generator; its "mean"
                                   * (ComfyUI); a sample from a generator that begins "again" with the seed
                                   * (stable-diffusion.cpp) */
    const char *mask_rule;        /* what puts the kept part back: "latents", after each step, unless the UNet is one
                                   * for inpainting; "x0", in each predicted picture (A1111, stable-diffusion.cpp);
                                   * "both", there and in what the UNet sees (ComfyUI) */
    uint64_t reserved[8];
} sd_edit_params;

/* What UNets of the SDXL family are told besides the prompt [Podell et al. 2023, sections 2.2 and 2.5]; others ignore
 * it. Sizes are width, height in pixels; crops are top, left. */
typedef struct sd_sdxl_params {
    int original_size[2];         /* of the training picture before it was scaled; SD_DEFAULT: width, height */
    int crop[2];                  /* where it was cut; 0, 0 */
    int target_size[2];           /* the size asked for; SD_DEFAULT: width, height */
    /* The same for the negative prompt. If none of the three is given, it is told the same as the prompt (but the
     * refiner a crop of 0, 0); else a size that is not given is the prompt's, and the crop 0, 0
     * [StableDiffusionXLPipeline]. */
    int negative_original_size[2], negative_crop[2], negative_target_size[2];
    double aesthetic_score, negative_aesthetic_score;   /* the refiner's: 0..100; 6 and 2.5 */
    uint64_t reserved[16];
} sd_sdxl_params;

typedef struct sd_params {
    size_t size;                  /* sd_params_init sets it. A smaller struct, from a program that was compiled with an
                                   * older sd.h, has the defaults for what it lacks; a larger one is refused */
    const char *prompt;           /* UTF-8; NULL is "" */
    const char *negative_prompt;  /* UTF-8; NULL is "", but for models of the SDXL family: without a negative prompt
                                   * their UNet gets zeros in its place (force_zeros_for_empty_prompt in
                                   * model_index.json) */
    int width, height;            /* pixels, multiples of 8; SD_DEFAULT: the model's native size */
    uint64_t seed;                /* 0 */
    const char *rng;              /* which generator the seed is for: "torch-cpu" (NULL),
                                   * "torch-cuda[:sms=N,threads=M]", "numpy", "numpy-pcg64", "numpy-pcg64-f32", see
                                   * docs/RANDOM.md; "cpu", "cuda", "NV" as other programs say; or a .safetensors file
                                   * whose numbers are given out in order */
    const char *sampler_rng;      /* the sampler's own generator, with the same seed; also "brownian"; NULL: it shares
                                   * `rng` */
    int seed_per_image;           /* 1: picture i of a batch has its own generator with seed + i (A1111); 0: one draws
                                   * for all */
    int batch;                    /* pictures drawn from one generator, as diffusers' num_images_per_prompt; 1..512 */
    int keep;                     /* 1..batch: only this picture of the batch is decoded and returned; 0: all of them */
    int clip_skip;                /* 1: the text encoder's last layer (default); 2: the one before it, and so on */
    const float *noise;           /* initial noise, unit variance, [batch,C,height/8,width/8]; NULL: drawn from seed */
    size_t noise_count;           /* floats in `noise`, checked */
    const char *noise_name;       /* the name of its file for sd_parameters_text; NULL: none */
    void *copies;                 /* what sd_params_set copied, for sd_params_free. NULL in a copy of the struct */
    sd_sampling_params sampling;
    sd_guidance_params guidance;
    sd_edit_params edit;
    sd_sdxl_params sdxl;
    const float *latents;         /* the last latents of another run, [batch,C,height/8,width/8], from which this one
                                   * goes on at sampling.denoising_start: see sd_generate_latents; NULL: none */
    size_t latents_count;         /* floats in `latents`, checked */
    const char *latents_name;     /* the name of their file for sd_parameters_text; NULL: none */
    const char *bytes;            /* how numbers become bytes: "round" (NULL), halves to even, as diffusers does;
                                   * "truncate" (CompVis, A1111, ComfyUI); "half-up" (stable-diffusion.cpp) */
    const char *like;             /* a program: "diffusers", "compvis", "a1111", "comfy", "sdcpp". What it does
                                   * otherwise becomes the default of the parameters here that are at theirs;
                                   * sd_resolve_params says what comes of it, and sd_get_like_row where that is known
                                   * from; NULL: none */
} sd_params;

/* Defaults: seed 0, batch 1, everything else from the model. */
#define sd_params_init(params) sd_params_init_sized((params), sizeof(sd_params))
/* What that macro calls, so that a library whose struct has grown does not write beyond an older caller's. */
SD_API void sd_params_init_sized(sd_params *params, size_t size);

typedef enum sd_param_type {
    SD_PARAM_TEXT,       /* const char * */
    SD_PARAM_FILE,       /* const char *: a file's name; the caller reads the file, see sd_image_read */
    SD_PARAM_INT,        /* int */
    SD_PARAM_BOOL,       /* int, 0 or 1; "true", "false", "1", "0", "yes", "no", "on", "off" in any case */
    SD_PARAM_NUMBER,     /* double */
    SD_PARAM_SEED,       /* uint64_t */
    SD_PARAM_LIST,       /* const double *, and an int that counts them; "14.6,6.5,0" */
    SD_PARAM_MARGINS,    /* int[4]; "0,64,0,64" */
    SD_PARAM_PAIR        /* int[2]; "1024x768", "16,0": `words` is what stands between them */
} sd_param_type;

/* One of the parameters. */
typedef struct sd_param_info {
    const char *key;         /* "steps", "guidance_scale", ...: for sd_params_set, which takes `option` as well */
    const char *group;       /* of the struct: "" (sd_params itself), "sampling", "guidance", "edit", "sdxl" */
    sd_param_type type;
    size_t offset;           /* of its field in sd_params */
    size_t count_offset;     /* SD_PARAM_LIST: of the int that counts */
    double least, most;      /* what an INT, NUMBER or BOOL may be */
    double initial;          /* a number's default; SD_DEFAULT: the model or the sampler decides */
    const char *words;       /* the usual values of a TEXT, with blanks between them, or NULL. sd_params_set takes any
                              * text; sd_resolve_params says which the model or the generator does not know. Of a
                              * PAIR what is written between its numbers */
    const char *option;      /* of the command line, without its dashes */
    char letter;             /* the short option; 0: none */
    const char *value;       /* what the help calls the value; NULL: a flag */
    const char *help;        /* lines end with \n */
    const char *text_key;    /* in the text of a picture, A1111's where that program has it; NULL: none */
} sd_param_info;
/* The i-th parameter, i = 0, 1, ...; 0 if there is none. All strings are constants. */
#define sd_get_param(i, info) sd_get_param_sized((i), (info), sizeof(sd_param_info))
SD_API int sd_get_param_sized(int i, sd_param_info *info, size_t size);
/* sizeof(sd_params) in the library: for programs in other languages, which treat the struct as bytes. */
SD_API size_t sd_params_size(void);

/* Sets one parameter from text, which is copied; NULL: its default. `error` gets the sentence on failure. */
SD_API sd_status sd_params_set(sd_params *params, const char *key, const char *text, char error[512]);
/* The other way round: *text is what sd_params_set would set it with, NULL for the default. Free with sd_free. */
SD_API sd_status sd_params_get(const sd_params *params, const char *key, char **text, char error[512]);
/* Frees what sd_params_set copied; fields still point to it. */
SD_API void sd_params_free(sd_params *params);
/* *to = *from, where the two may come from different versions of this file: *to gets the defaults for what *from lacks,
 * and nothing is written beyond its own fields. Texts and lists are not copied: they live as long as those of *from. */
#define sd_params_copy(to, from) sd_params_copy_sized((to), (from), sizeof(sd_params))
SD_API void sd_params_copy_sized(sd_params *to, const sd_params *from, size_t size);

typedef struct sd_timings {
    double load, text, vae_decode;   /* seconds */
    const double *steps;             /* seconds of each step of the last sd_generate */
    int n_steps;         /* evaluations; heun and others make two per step */
    double vae_work;     /* multiplications of the last decoding as a multiple of the whole decoder's: 1, or more in
                          * bands */
} sd_timings;

/* Draws params->batch pictures; images has room for that many. Free each with sd_image_free. Pixels are
 * round(255*clamp(x/2+1/2)), halves to even, as diffusers rounds. */
SD_API sd_status sd_generate(sd_ctx *ctx, const sd_params *params, sd_image *images);
/* The same, but what comes back is the last latents, [batch,C,height/8,width/8] (`count` floats), times the VAE's
 * scaling_factor as the UNet sees them; nothing is decoded. With sampling.denoising_end they are noisy still, and
 * another run, of this or another model, can go on with them. */
SD_API sd_status sd_generate_latents(sd_ctx *ctx, const sd_params *params, float *latents, size_t count);
#define sd_get_timings(ctx, timings) sd_get_timings_sized((ctx), (timings), sizeof(sd_timings))
SD_API void sd_get_timings_sized(const sd_ctx *ctx, sd_timings *timings, size_t size);

/* What a run with these parameters will trace, in the order in which it is made: names and shapes, `data` NULL. They
 * follow from the parameters; nothing is computed. SD_ERR_ARG, with the nearest names, if one of the filter's globs
 * matches none of them; sd_generate checks the same before it begins, if a trace is set or open. If the sampler decides
 * while it runs (dpm_adaptive), the first evaluation stands for all. fn may be NULL. */
SD_API sd_status sd_trace_list(sd_ctx *ctx, const sd_params *params, const char *filter,
                               void (*fn)(void *user, const sd_traced *tensor),
                               void *user);

/* One draw of random numbers from a generator, as --explain-seed prints it. Texts live until the function returns. */
typedef struct sd_random_draw {
    const char *who;              /* for what: "initial noise" */
    const char *stream;           /* "torch-cuda:sms=40,threads=1024" */
    uint64_t seed;                /* of the generator */
    int image;                    /* the picture, if each has its own generator; -1: one generator for all */
    uint64_t position;            /* how many numbers the generator gave before this draw */
    size_t count;                 /* how many it gave in this draw */
    int between_levels;           /* 1: a Brownian increment, from one noise level to another */
    double from, to;              /* these levels */
} sd_random_draw;
/* Called after each draw. */
SD_API void sd_set_random_draw(sd_ctx *ctx, void (*fn)(void *user, const sd_random_draw *draw), void *user);

/* What a run with these parameters will really use: SD_DEFAULT and NULL are replaced by the model's values, and every
 * value is checked. *resolved is as large as *params. The strings live as long as the context. */
SD_API sd_status sd_resolve_params(sd_ctx *ctx, const sd_params *params, sd_params *resolved);

/* Writes a picture to a temporary file with a name of its own in the same directory, and renames it when it is on the
 * disk: if two writers use one name, the last one's complete file stays. A pipe or a device ("/dev/stdout") is written
 * to directly. The ending chooses the format: .png (text, if not NULL, goes into the tEXt or iTXt chunk `parameters`)
 * or .ppm. */
SD_API sd_status sd_image_write(sd_ctx *ctx, const char *path, const sd_image *image, const char *text);
/* The text that A1111 stores with a picture: prompt, negative prompt and one line of "Key: value", the same in every
 * locale. It has everything that determines the picture; for files and the model, a name without directories and a
 * hash. With params->keep it is the text of that picture of the batch. Free with sd_free. */
SD_API sd_status sd_parameters_text(sd_ctx *ctx, const sd_params *params, char **text);

/* The contents of such a text, ours, A1111's or stable-diffusion.cpp's. Everything lives until sd_recipe_free. */
typedef struct sd_recipe {
    const sd_params *params;     /* sd_params_init's values where the text says nothing. Pictures and noise are not
                                  * read: init_name, mask_name, noise_name and rng are the names of their files. To
                                  * change one, take a copy with sd_params_copy */
    const char *writer;          /* "sd 0.1.0", "v1.10.1" (A1111), "stable-diffusion.cpp"; NULL: it does not say */
    const char *model;           /* names and hashes are NULL where there are none */
    const char *model_hash, *init_hash, *mask_hash, *noise_hash, *rng_hash, *sampler_rng_hash;
    const char *depth_hash;
    const char *kernels;         /* "avx2" */
    int precise, gemm, threads;  /* as in sd_options; SD_DEFAULT: it does not say, or they do not count */
    int from_picture;            /* 1: the run began from a picture, whether it is named or not */
    int has_seed;                /* 1: params.seed is the text's; 0: it has none, or none that can be read */
    const char *taesd;           /* what stood for the VAE; NULL: nothing */
    const char *taesd_hash;
    const char *notices;         /* lines about what cannot be reproduced; "" if everything can */
    const char *refiner, *refiner_hash, *latents_hash;   /* A1111's name of a refiner ends with its hash in brackets */
    const char *device;          /* its driver's name for it; NULL: the CPU. Then kernels are not "avx2" but "opencl" */
} sd_recipe;
/* On failure *recipe is NULL and `error` has the sentence. */
SD_API sd_status sd_recipe_read(const char *text, sd_recipe **recipe, char error[512]);
SD_API void sd_recipe_free(sd_recipe *recipe);
/* The text of settings that a PNG keeps (`parameters` in tEXt, zTXt or iTXt), a JPEG or a WebP (EXIF's UserComment, as
 * A1111 writes it, or stable-diffusion.cpp's comment and XMP), or all of a file that is none of them but text, as
 * UTF-8. SD_ERR_MISSING: a picture without one. Free with sd_free. */
SD_API sd_status sd_image_text_read(const char *path, char **text, char error[512]);

/* ------------------------------------------------------------------------------------- stages */

/* This struct never changes. */
typedef struct sd_tokens {
    int32_t id[SD_TOKENS];   /* BOS, pieces, EOS, padding */
    int n;                   /* ids before the padding, BOS and EOS included */
    int dropped;             /* pieces that did not fit */
} sd_tokens;
/* CLIP's byte-pair encoding, equal to transformers' CLIPTokenizer. */
SD_API sd_status sd_tokenize(sd_ctx *ctx, const char *text, sd_tokens *tokens);
/* The vocabulary entry of an id ("cat</w>"), NULL if there is none. */
SD_API const char *sd_token_piece(const sd_ctx *ctx, int32_t id);

/* Text embedding of one text. out: [77, context_dim]. clip_skip as in sd_params. */
SD_API sd_status sd_encode_text(sd_ctx *ctx, const char *text, int clip_skip, float *out, size_t count);
/* ... and SDXL's vector for the whole text, [pooled_dim]. */
SD_API sd_status sd_encode_text_pooled(sd_ctx *ctx, const char *text, int clip_skip, float *out, size_t count,
                                       float *pooled, size_t pooled_count);

/* One UNet evaluation of SD 1 and 2. latents: [batch,in_channels,h,w]; timesteps: [batch]; context:
 * [batch,77,context_dim]; out: [batch,latent_channels,h,w]. */
SD_API sd_status sd_unet(sd_ctx *ctx, int batch, int h, int w, const float *latents, const float *timesteps,
                         const float *context, float *out);

/* All that a UNet can take, under diffusers' names for it. Those below the first three are for the families that have
 * them (sd_model_info says which), and NULL otherwise. */
typedef struct sd_unet_input {
    size_t size;                   /* sizeof(sd_unet_input) */
    int batch, h, w;
    const float *sample;           /* [batch,in_channels,h,w] */
    const float *timestep;         /* [batch] */
    const float *encoder_hidden_states;   /* [batch,77,context_dim] */
    const float *text_embeds;      /* [batch,pooled_dim]: sd_encode_text_pooled's vector */
    const float *time_ids;         /* [batch,time_ids]: original height, width; crop top, left; target height, width
                                    * (the refiner: an aesthetic score) */
    const int32_t *class_labels;   /* [batch], 0 to class_labels - 1 */
    const float *timestep_cond;    /* [batch,time_cond_dim] */
} sd_unet_input;
/* One UNet evaluation; out: [batch,latent_channels,h,w]. */
SD_API sd_status sd_unet_evaluate(sd_ctx *ctx, const sd_unet_input *input, float *out);

/* VAE. latents are the VAE's own, not multiplied by scaling_factor; pictures are in [-1,1].
 * decode: [batch,C,h,w] -> [batch,3,8h,8w]. encode: [batch,3,8h,8w] -> mean and logvar (clamped to [-30,20]), each
 * [batch,C,h,w]. A TAESD has no posterior: its latents are the mean, and logvar is minus infinity. */
SD_API sd_status sd_vae_decode(sd_ctx *ctx, int batch, int h, int w, const float *latents, float *picture);
SD_API sd_status sd_vae_encode(sd_ctx *ctx, int batch, int h, int w, const float *picture, float *mean, float *logvar);
/* Samples n latents: factor * (mean + exp(logvar/2) noise), noise of unit variance; factor: scaling_factor for the
 * UNet's latents, 1 for the VAE's own. latents may be the same array as noise. */
SD_API void sd_vae_sample(const float *mean, const float *logvar, const float *noise, size_t n, double factor,
                          float *latents);
/* SD_ERR_MEMORY if encoding or decoding [1,C,h,w] takes more memory than is free or allowed, including the picture's
 * numbers and bytes. It saves preparing a picture in vain; encoding and decoding check this themselves, too. */
SD_API sd_status sd_vae_fits(sd_ctx *ctx, int h, int w);

/* The evaluations that a sampler will make: timesteps [n], and for each the noise level sigma = sqrt((1-a)/a) and
 * a = alphas_cumprod (sigma and alpha have one more entry: where the last step ends). *n becomes the number of
 * evaluations, 0 if dpm_adaptive decides while it runs; the arrays may be NULL, to get only n. */
SD_API sd_status sd_schedule(sd_ctx *ctx, const sd_params *params, int *n, double *timesteps, double *sigmas,
                             double *alphas);

/* ------------------------------------------------------------------------------- what there is */

typedef enum sd_draws { SD_DRAWS_NEVER, SD_DRAWS_WITH_ETA, SD_DRAWS_ALWAYS } sd_draws;
typedef struct sd_sampler_info {
    const char *name;        /* what sd_params.sampler takes */
    const char *diffusers;   /* its scheduler class there, NULL if there is none */
    const char *a1111;       /* its label in the menu of A1111's web UI, NULL if there is none */
    const char *kdiffusion;  /* its function there, NULL if there is none */
    const char *paper;
    int order;               /* global order of accuracy on the probability flow ODE, measured; 0: it solves no ODE */
    sd_draws draws;          /* fresh noise during the run */
    double eta;              /* its default share of fresh noise */
    const char *comfyui;     /* its name in ComfyUI, NULL if there is none */
    const char *label;       /* what the text of a picture calls it: A1111's label, else one in that manner */
} sd_sampler_info;
/* The i-th sampler, i = 0, 1, ...; 0 if there is none. All strings are constants. */
#define sd_get_sampler(i, info) sd_get_sampler_sized((i), (info), sizeof(sd_sampler_info))
SD_API int sd_get_sampler_sized(int i, sd_sampler_info *info, size_t size);
/* The name of the i-th schedule, NULL if there is none. */
SD_API const char *sd_schedule_name(int i);

/* ------------------------------------------------------------------------------------- helpers */

/* n standard normal numbers of torch.randn with torch.Generator("cpu").manual_seed(seed). */
SD_API void sd_randn(uint64_t seed, float *out, size_t n);

/* Reads one tensor (the one called `name`, else the only one) as float, out of a file of safetensors, a .npy, .npz or
 * any other that sd_inspect reads, or a directory of .npy files. In "FILE:NAME" the path itself says which. Free *data
 * with sd_free. */
SD_API sd_status sd_tensor_read(sd_ctx *ctx, const char *path, const char *name, float **data, int *nd, int64_t dim[4]);

/* Reads a depth map for sd_edit_params.depth: the brightness of a picture, where bright is near, 0 to 255; or the
 * tensor "depth" of a .safetensors file, or its only one, [height,width], perhaps with ones before them. Free *depth
 * with sd_free. */
SD_API sd_status sd_depth_read(sd_ctx *ctx, const char *path, float **depth, int *width, int *height);

/* Writes tensors to a safetensors file, completely or not at all; if the name ends in .npy, the one tensor to a file of
 * NumPy's; in "/", each to NAME.npy in that directory. Names are UTF-8 without control characters, all different, not
 * empty and not "__metadata__". */
SD_API sd_status sd_tensors_write(sd_ctx *ctx, const char *path, const sd_traced *tensors, size_t n);

/* How an opened model is written into other files. */
typedef struct sd_convert_options {
    size_t size;            /* sd_convert_options_init sets it */
    const char *output;     /* FILE.safetensors and FILE.gguf: all in one file; else a directory in diffusers' layout,
                             * which must not exist yet */
    const char *type;       /* "F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2", or "Q8_0" for GGUF; NULL or "keep": as
                             * it is. Vectors and embeddings keep their types under the last three */
    const char *spelling;   /* names of tensors in a file: NULL or "ldm": CompVis' and OpenCLIP's; "diffusers" */
    const char *only;       /* "unet", "vae", "text_encoder" or "text_encoder_2"; NULL: all that was opened */
    uint64_t shard_bytes;   /* of a directory: files of at most so many bytes; 0: one for each part */
    int ema;                /* 1: the UNet is the average over training that some checkpoints have, too */
    int keep_all;           /* 1: tensors that no network needs are written as well, where they have a name */
} sd_convert_options;
#define sd_convert_options_init(options) sd_convert_options_init_sized((options), sizeof(sd_convert_options))
SD_API void sd_convert_options_init_sized(sd_convert_options *options, size_t size);
/* Writes the model's weights and configurations, completely or not at all, and never over a file that it reads. The
 * same input gives the same bytes. Progress is reported as the stage "convert", a unit for each tensor. */
SD_API sd_status sd_convert(sd_ctx *ctx, const sd_convert_options *options);

/* The unrolled networks of a model's directory or file, of a family ("sd15", "sd21", "sdxl", ...) or of a UNet's
 * config.json, for a picture of width x height (SD_DEFAULT or 0: native), as text or JSON. Reads no weights. `error`
 * gets the sentence on failure. Free *text with sd_free. */
SD_API sd_status sd_plan(const char *model_or_config, int width, int height, int json, char **text, char error[512]);

/* Where the default model is: $SD_MODEL, weights/tiny beside the program (program = argv[0]'s directory, may be NULL),
 * or the installed data directory. Writes the first that exists; 0 if none does. */
SD_API int sd_default_model(const char *program_dir, char *path, size_t size);

SD_API void sd_free(void *p);

#ifdef __cplusplus
}
#endif

#include "sd_tools.h"   /* what looks at files and at runs, instead of drawing */
#endif
