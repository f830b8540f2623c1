/* pipeline.h - floor 6: the contents of the opaque sd_ctx, and what the files of this floor offer each other. */
#ifndef SD_PIPELINE_H
#define SD_PIPELINE_H

#include "image.h"
#include "model.h"
#include "device.h"

/* pipeline_apart.c: runs of one thread each, for the samples of a batch; kept from one evaluation to the next. */
typedef struct sd_apart_part { sd_run run; sd_cpu cpu; sd_error err; } sd_apart_part;
typedef struct sd_apart { sd_apart_part *part; int n; } sd_apart;
void sd_apart_free(sd_apart *a);

struct sd_ctx {
    sd_error err;
    sd_log log;
    sd_error broken;             /* why the context could not be opened: every call returns that. SD_OK: it is open */
    sd_halt halt;
    int depth;                   /* running calls: more than one if a callback makes a call */
    sd_model model;              /* the one that is in use */
    sd_model refiner;            /* the other one */
    bool has_refiner, refines;   /* refines: the two have changed places */
    sd_run run;
    sd_cpu cpu;                  /* what run.device points to */
    sd_blas openblas;            /* if it was asked for, else all NULL */
    sd_apart apart;
    bool previewing;             /* a TAESD decodes between two steps: the UNet's weights stay in memory */
    uint64_t vae_memory;         /* sd_options.vae_memory */
    double beside;               /* bytes that a run takes besides the working memory of its stages */
    bool preparing;              /* ... and has not taken yet */
    bool rehearsing;             /* stages run only with the null backend: names and shapes, no numbers */

    sd_given given;              /* sd_set_given's */

    void (*progress)(void *user, const sd_progress *p);
    void *progress_user;
    void (*random_draw)(void *user, const sd_random_draw *d);
    void *random_draw_user;
    void (*step)(void *user, const sd_denoised *step);
    void *step_user;
    int steps;                   /* of the run, for progress */
    sd_timings timings;
    double *step_seconds;        /* what timings.steps points to */
};

/* sd.c: a file that comes with the program: `beside` it or in the working directory, before it is installed, and
 * `installed` where data are installed. */
bool sd_find_data(const char *installed, const char *beside, char path[4096]);

/* Every public call begins here. The last call's error is cleared, and so is a cancel that came when nothing was
 * running. SD_OK; or an error that the call must return at once, through sd_end: the context was not opened (NULL:
 * there was no memory for it), or the call is made from within one that has failed. */
sd_status sd_begin(sd_ctx *c);
sd_status sd_end(sd_ctx *c);   /* ... and ends here */

/* SD_ERR_ARG unless these parts were opened. */
static inline sd_status sd_need(sd_ctx *c, unsigned parts) { return sd_model_need(&c->model, parts, &c->err); }
/* model_probe.c: if nothing decides what the UNet predicts, asks it, once for a model. */
sd_status sd_probe(sd_ctx *c);
/* sd_resolve_params within another call; s receives the scheduler, edit (may be NULL) what is done to the pictures. */
struct sd_edit;
sd_status sd_resolve(sd_ctx *c, const sd_params *p, sd_params *out, sd_sched_config *s, struct sd_edit *edit);
/* What a model is drawn with if nobody asks for anything else, and who says so. */
typedef struct sd_own_values {
    int steps;
    double guidance;
    char steps_from[64], guidance_from[64];   /* "of Stable Diffusion 1" */
} sd_own_values;
sd_own_values sd_own_values_of(const sd_model *m);
/* prompt.c: a warning if a prompt has weights, "(a cat:1.3)", or adapters, "<lora:x:1>"; what: "the prompt". */
void sd_warn_of_syntax(const sd_log *log, const char *what, const char *text);
void sd_report(sd_ctx *c, const char *stage, int done, int total, double seconds);

/* The stages on the internal error state; arrays in PyTorch's order, as sd.h has them. */
sd_status sd_run_text(sd_ctx *c, int encoder, const int32_t *ids, int n, const sd_clip_output *take, float *hidden,
                      float *pooled);
sd_status sd_run_unet(sd_ctx *c, int batch, int h, int w, const float *latents, const float *timesteps,
                      const sd_cond *cond, float *out);
sd_status sd_run_decode(sd_ctx *c, int batch, int h, int w, const float *latents, float *picture);
/* moments [batch, 2C, h, w]: mean | logvar, clamped as in diffusers' DiagonalGaussianDistribution. prefix: of the
 * traced names, "vae." unless a run encodes two pictures. */
sd_status sd_run_encode(sd_ctx *c, const char *prefix, int batch, int h, int w, const float *picture, float *moments);

/* pipeline_given.c: which inputs are given, "tokens,timesteps"; "" if none. Returns text. */
const char *sd_given_names(const sd_ctx *c, char text[64]);
/* The body of sd_generate; images NULL: no pictures are handed out. latents not NULL: the last latents go there, and
 * nothing is decoded; SD_ERR_ARG unless they are `count` numbers. */
sd_status sd_run_pipeline(sd_ctx *c, const sd_params *params, sd_image *images, float *latents, size_t count);
/* pipeline_refiner.c: opens the second model; exchanges the two, and the weights of the one that rests leave memory. */
sd_status sd_open_refiner(sd_ctx *c, const sd_options *o, const char *merges);
void sd_use_refiner(sd_ctx *c, bool yes);
/* Does it go on in a run with these resolved parameters? */
bool sd_run_has_refiner(const sd_ctx *c, const sd_params *p);
/* Does the sampler decide while it runs how many evaluations there are? */
bool sd_run_is_open_ended(sd_ctx *c, const sd_params *params);
/* sd_trace_list within another call; fn may be NULL. */
sd_status sd_rehearse(sd_ctx *c, const sd_params *p, const char *filter, void (*fn)(void *, const sd_traced *),
                      void *user);

/* The tensors that a run will trace, and its settings, as a trace of it that has no numbers. sd_tensors_close in any
 * case. */
struct sd_tensors;
sd_status sd_rehearse_tensors(sd_ctx *c, const sd_params *p, struct sd_tensors *of);

/* Bytes of working memory of the largest stage, for `batch` UNet samples and `pictures` pictures at once. What the run
 * takes besides is not the VAE's. */
double sd_stages_memory(sd_ctx *c, int batch, int pictures, int h, int w, double beside);
/* SD_ERR_MEMORY, "WHAT takes ...", unless there is so much memory for stages, and so much of the host's beside. */
sd_status sd_need_stages(sd_ctx *c, double stages, double beside, const char *what);

/* ---- pipeline_check.c: SD_ERR_ARG and a sentence that begins with `what`, unless ... */
sd_status sd_check_not_null(sd_ctx *c, const char *what, const void *p);                          /* p is not NULL */
sd_status sd_check_sides(sd_ctx *c, const char *what, const sd_image *image);            /* its sides are possible */
sd_status sd_check_image(sd_ctx *c, const char *what, const sd_image *image);            /* ... and it has pixels */
sd_status sd_check_numbers(sd_ctx *c, const char *what, const float *x, size_t n);       /* all are finite */
sd_status sd_check_timesteps(sd_ctx *c, const float *x, size_t n);   /* ... and the model was trained with such */
/* SD_OK if all n numbers of a stage's result are finite; otherwise the error names a weight that is not finite, an
 * input of extreme magnitude, or the stage. */
sd_status sd_check_result(sd_ctx *c, const char *what, const float *x, size_t n, const sd_module *module,
                          const float *input, size_t inputs);

#endif
