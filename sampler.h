/* sampler.h - floor 5: betas, noise levels, timestep spacings, prediction types, samplers. */
#ifndef SD_SAMPLER_H
#define SD_SAMPLER_H

#include "base.h"

typedef enum sd_prediction { SD_PRED_EPSILON, SD_PRED_V, SD_PRED_SAMPLE } sd_prediction;
typedef enum sd_spacing { SD_SPACE_LEADING, SD_SPACE_TRAILING, SD_SPACE_LINSPACE } sd_spacing;
typedef enum sd_beta { SD_BETA_LINEAR, SD_BETA_SCALED_LINEAR, SD_BETA_COSINE } sd_beta;

typedef enum sd_method {
    SD_DDIM, SD_PNDM, SD_EULER, SD_EULER_A,
    SD_METHOD_COUNT
} sd_method;

/* Whose conventions a sampler follows where programs differ: the scale of its latents, its first noise level, when it
 * draws, how a timestep is found for a sigma. */
typedef enum sd_program { SD_DIFFUSERS, SD_KDIFFUSION } sd_program;

#define SD_MAX_TRAIN_STEPS 100000

/* A scheduler_config.json, defaults of its class filled in. What a class does not know it ignores, as in diffusers:
 * the Euler samplers neither clip nor have a last alpha. */
typedef struct sd_sched_config {
    sd_method method;
    sd_program program;
    sd_prediction prediction;
    sd_spacing spacing;
    sd_beta beta_schedule;
    double beta_start, beta_end;  /* each in (0,1) */
    int train_steps;              /* num_train_timesteps, 1..SD_MAX_TRAIN_STEPS */
    int steps_offset;             /* leading spacing only, 0..train_steps */
    bool set_alpha_to_one;        /* DDIM, PNDM */
    bool clip_sample;             /* DDIM */
    bool skip_prk_steps;          /* PNDM */
    bool rescale_zero_snr;        /* all but PNDM */
    double clip_sample_range;     /* DDIM; 1 */
    double eta;                   /* share of fresh noise, 0..1; DDIM: 0, ancestral samplers: 1; an argument of diffusers' step */
} sd_sched_config;

/* Class defaults of diffusers' scheduler for a method (they differ: see docs/MODEL.md). */
void sd_sched_defaults(sd_sched_config *c, sd_method method);
/* Reads scheduler_config.json; class name and keys as diffusers reads them. Keys that would change the result and are
 * not implemented end in SD_ERR_UNSUPPORTED. */
sd_status sd_sched_read(sd_sched_config *c, const char *path, sd_error *e);
/* Changing the sampler keeps what the file says and takes the new class' defaults for the rest, as diffusers'
 * NewScheduler.from_config(old.config) does. `sampler` is any name of sd_method_parse, for model_index.json may name
 * another class than the file. NULL leaves all as it is. */
sd_status sd_sched_read_as(sd_sched_config *c, const char *path, const char *sampler, sd_error *e);
/* What StableDiffusionPipeline's constructor does to the scheduler it is given, whatever the file says: steps_offset
 * becomes 1, clip_sample false. (StableDiffusionXLPipeline does not.) */
void sd_sched_as_pipeline(sd_sched_config *c);
/* Bounds of everything that a file or a caller can set; `where` begins the sentence. */
sd_status sd_sched_check(const sd_sched_config *c, const char *where, sd_status status, sd_error *e);

/* What there is to say about a sampler. */
typedef struct sd_method_info {
    const char *name;        /* ours */
    const char *diffusers;   /* its scheduler class there, NULL if there is none */
    const char *a1111;       /* its name in A1111's menu */
    const char *kdiffusion;  /* its function there */
    const char *paper;
    int order;               /* global order of accuracy */
    enum { SD_DRAWS_NEVER, SD_DRAWS_WITH_ETA, SD_DRAWS_ALWAYS } draws;
    double eta;              /* its own share of fresh noise */
} sd_method_info;
const sd_method_info *sd_method_about(sd_method m);

const char *sd_method_name(sd_method m);
const char *sd_prediction_name(sd_prediction p);
const char *sd_spacing_name(sd_spacing s);
const char *sd_beta_name(sd_beta b);
sd_status sd_prediction_parse(sd_prediction *p, const char *name, sd_error *e);
sd_status sd_spacing_parse(sd_spacing *s, const char *name, sd_error *e);
/* Our name, diffusers' class, or A1111's or k-diffusion's name of a sampler. */
sd_status sd_method_parse(sd_method *m, const char *name, sd_error *e);

/* The evaluations of one run. */
typedef struct sd_sampler sd_sampler;
/* steps: 1..train_steps. Fails where diffusers would index out of its table (DDIM and PNDM with leading spacing: 1000
 * steps with steps_offset 1). */
sd_status sd_sampler_new(sd_sampler **out, const sd_sched_config *c, int steps, sd_error *e);
/* A run that leaves out the first steps, as image to image does: what begins in the middle has that level's noise. */
sd_status sd_sampler_new_from(sd_sampler **out, const sd_sched_config *c, int steps, int first, sd_error *e);
void sd_sampler_free(sd_sampler *s);

int sd_sampler_count(const sd_sampler *s);               /* UNet evaluations; PNDM: steps + 1 (Runge-Kutta: + 9) */
double sd_sampler_timestep(const sd_sampler *s, int i);  /* given to the UNet at evaluation i; some have fractions */
double sd_sampler_sigma(const sd_sampler *s, int i);     /* sqrt((1-a)/a); i = count: where the last step ends */
double sd_sampler_alpha(const sd_sampler *s, int i);     /* a = alphas_cumprod at that level */
double sd_sampler_init_sigma(const sd_sampler *s);       /* init_noise_sigma: initial latents = noise times this */

/* x0 with the noise of evaluation i's level: what evaluation i would see of it. */
void sd_sampler_add_noise(const sd_sampler *s, int i, float *out, const float *x0, const float *noise, size_t n);

/* What a sampler needs from its caller. A status other than SD_OK ends the run with that status. */
typedef struct sd_denoiser {
    void *user;
    /* The guided prediction (epsilon, v or x0) of evaluation i for `input`, which has been scaled for the UNet. */
    sd_status (*model)(void *user, int i, double timestep, const float *input, float *prediction);
    /* Latents before evaluation i (i = count: the final ones). They may be changed, as 4-channel inpainting does. May be
     * NULL. */
    sd_status (*arrive)(void *user, int i, float *latents);
    /* The predicted x0 of evaluation i. May be NULL. */
    void (*denoised)(void *user, int i, const float *x0);
    /* n standard normals for going from one sigma to another. NULL for samplers that draw nothing. */
    void (*noise)(void *user, double sigma_from, double sigma_to, float *out, size_t n);
} sd_denoiser;

/* Runs the sampler on latents (n numbers in all), which begin as noise times init_sigma and end as the picture's. A
 * sampler is not changed by a run: it can be run again, and from several threads. */
sd_status sd_sampler_run(const sd_sampler *s, float *latents, size_t n, const sd_denoiser *d, sd_error *e);

#endif
