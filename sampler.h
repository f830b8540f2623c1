/* sampler.h - floor 5: what the pipeline sees of samplers: their settings, their names, the evaluations of a run, and
 * the run itself. What the sampler files share among themselves is in sampler_run.h. */
#ifndef SD_SAMPLER_H
#define SD_SAMPLER_H

#include "base.h"

typedef enum sd_prediction { SD_PRED_EPSILON, SD_PRED_V, SD_PRED_SAMPLE } sd_prediction;
typedef enum sd_spacing { SD_SPACE_LEADING, SD_SPACE_TRAILING, SD_SPACE_LINSPACE } sd_spacing;
typedef enum sd_beta { SD_BETA_LINEAR, SD_BETA_SCALED_LINEAR, SD_BETA_COSINE } sd_beta;

typedef enum sd_method {
    SD_DDIM, SD_PNDM, SD_EULER, SD_EULER_A,
    SD_HEUN, SD_DPM2, SD_DPM2_A, SD_LMS, SD_DPMPP_2M, SD_DPMPP_2M_SDE, SD_DPMPP_3M_SDE, SD_DPMPP_2S, SD_DPMPP_2S_A,
    SD_DPMPP_SDE, SD_DPM_FAST, SD_DPM_ADAPTIVE, SD_UNIPC, SD_DEIS, SD_SA_SOLVER, SD_DDPM, SD_LCM, SD_TCD, SD_IPNDM,
    SD_EDM_EULER, SD_DDIM_INVERSE, SD_RESTART, SD_GRADIENT_ESTIMATION, SD_RES_MULTISTEP, SD_RES_MULTISTEP_A,
    SD_METHOD_COUNT
} sd_method;

/* Whose conventions a sampler follows where programs differ: the scale of its latents, its first noise level, when it
 * draws noise, how a timestep is found for a sigma. */
typedef enum sd_program { SD_DIFFUSERS, SD_KDIFFUSION, SD_COMFY, SD_PROGRAM_COUNT } sd_program;
/* How the sigmas of a run are placed. SPACED: at the timesteps of the spacing. Where diffusers has another formula, _K
 * stands for k-diffusion's and _COMFY for ComfyUI's. */
typedef enum sd_curve {
    SD_CURVE_SPACED, SD_CURVE_KARRAS, SD_CURVE_EXPONENTIAL, SD_CURVE_BETA, SD_CURVE_LU,
    SD_CURVE_LINSPACE_K, SD_CURVE_KARRAS_K, SD_CURVE_EXPONENTIAL_K, SD_CURVE_POLYEXPONENTIAL_K, SD_CURVE_VP_K,
    SD_CURVE_SGM_UNIFORM, SD_CURVE_SIMPLE, SD_CURVE_DDIM_UNIFORM, SD_CURVE_BETA_COMFY, SD_CURVE_KL_OPTIMAL,
    SD_CURVE_AYS_SD1, SD_CURVE_AYS_SDXL, SD_CURVE_SIGMAS, SD_CURVE_TIMESTEPS,
    SD_CURVE_COUNT
} sd_curve;
/* What a VE sampler's first noise is multiplied by: what its program says; sigma; sqrt(sigma^2 + 1); the same where the
 * run begins at the largest sigma of the model, else sigma. */
typedef enum sd_first { SD_FIRST_OWN, SD_FIRST_SIGMA, SD_FIRST_ROOT, SD_FIRST_COMFY, SD_FIRST_COUNT } sd_first;
typedef enum sd_solver { SD_SOLVER_MIDPOINT, SD_SOLVER_HEUN, SD_SOLVER_BH1, SD_SOLVER_BH2 } sd_solver;

#define SD_MAX_TRAIN_STEPS 100000
#define SD_MOST_GUIDANCE 1000   /* of either sign */

/* A scheduler_config.json, with the defaults of its class filled in. As in diffusers, a sampler ignores settings that
 * its class does not know: the rows of sampler_table.c say what each of them reads. */
typedef struct sd_sched_config {
    sd_method method;
    sd_program program;
    sd_prediction prediction;
    sd_spacing spacing;
    sd_beta beta_schedule;
    double beta_start, beta_end;  /* each in (0,1) */
    int train_steps;              /* num_train_timesteps, 1..SD_MAX_TRAIN_STEPS */
    int steps_offset;             /* leading spacing only, 0..train_steps */
    bool set_alpha_to_one;        /* below the first timestep a = 1, not that timestep's a */
    bool clip_sample;             /* x0 is clipped to +-clip_sample_range */
    bool skip_prk_steps;          /* PNDM without Runge-Kutta */
    bool rescale_zero_snr;        /* rescale_betas_zero_snr */
    double lambda_min;            /* lambda_min_clipped: no level may be below it; -infinity */
    bool continuous;              /* timestep_type "continuous": no effect, but refused with v_prediction */
    double clip_sample_range;     /* 1 */
    bool thresholding;            /* [Saharia et al. 2022, sec. 2.3] */
    double threshold_ratio;       /* dynamic_thresholding_ratio, 0.995 */
    double threshold_max;         /* sample_max_value, 1 */
    double guidance_scale;        /* "_guidance_scale", this project's key: the best value for the model;
                                   * SD_DEFAULT: the file does not say */
    int steps;                    /* "_steps", likewise: how many the model is drawn with */
    double eta;                   /* share of fresh noise, 0..1, an argument of diffusers' step; in SA-Solver tau */
    sd_curve curve;
    int order;                    /* of the multi-step samplers, 1..3 (LMS, IPNDM: 4); SA-Solver: the predictor's */
    int corrector_order;          /* SA-Solver, 1..3 */
    sd_solver solver;             /* DPM-Solver++: midpoint, heun; UniPC: bh1, bh2 */
    bool lower_order_final;       /* fewer history points at the end; DPM-Solver++ and DEIS: only below 15 steps */
    bool euler_at_final;          /* DPM-Solver++: first order in the last step */
    bool final_sigma_min;         /* the last step ends at the first training timestep, not at sigma 0 */
    bool variance_large;          /* DDPM: the variance is beta, not the posterior's */
    int original_steps;           /* LCM, TCD: steps of the distillation; 50 */
    double strength;              /* the share of these that a run has, from the end; 1 */
    double timestep_scaling;      /* LCM; 10 */
    double s_churn, s_tmin, s_tmax, s_noise;   /* [Karras et al. 2022, Algorithm 2]: Euler, Heun, DPM2; 0, 0, inf, 1 */
    double sigma_min, sigma_max, sigma_data, rho;   /* EDM: 0.002, 80, 0.5, 7 */
    sd_first first;
    bool whole_timesteps;         /* with k-diffusion's conventions: the timestep of a sigma is the nearest whole one */
    const double *sigmas;         /* SD_CURVE_SIGMAS: [steps + 1], descending, the last may be 0 */
    const double *timesteps;      /* SD_CURVE_TIMESTEPS: [steps], descending */
} sd_sched_config;

/* Class defaults of diffusers' scheduler for a method (they differ: see docs/SAMPLERS.md). */
void sd_sched_defaults(sd_sched_config *c, sd_method method);
/* Reads class name and keys out of the text of a scheduler_config.json as diffusers does; `name` is what sentences call
 * it. For another sampler it keeps what the text says and takes the new class' defaults for the rest, like diffusers'
 * NewScheduler.from_config(old.config). `sampler` is any name that sd_method_parse knows, because model_index.json may
 * name another class than the file. NULL: the text's own class. SD_ERR_UNSUPPORTED: a key that would change the result
 * is not implemented. */
sd_status sd_sched_parse_as(sd_sched_config *c, const char *text, const char *name, const char *sampler, sd_error *e);
/* What StableDiffusionPipeline does to its scheduler, whatever the file says: steps_offset becomes 1, clip_sample
 * false. StableDiffusionXLPipeline and LatentConsistencyModelPipeline (as_it_is) do not. Every call passes eta = 0 to
 * the classes whose step takes it, so TCD's own 0.3 never counts. */
void sd_sched_as_pipeline(sd_sched_config *c, bool as_it_is);
/* Bounds of everything that a file or a caller can set; `where` begins the sentence. */
sd_status sd_sched_check(const sd_sched_config *c, const char *where, sd_status status, sd_error *e);

/* Can the sampler place its noise levels on this curve? */
bool sd_takes_curve(const sd_sched_config *c);

const sd_sampler_info *sd_method_about(sd_method m);
/* The schedule that "Automatic" means in A1111 for this sampler; SD_CURVE_SPACED: the sampler has its own. */
sd_curve sd_method_automatic(sd_method m);
/* Does it take any schedule? */
bool sd_method_takes_schedules(sd_method m);
/* Does the number of evaluations depend on the UNet's answers? */
bool sd_method_is_open_ended(sd_method m);
bool sd_method_is_edm(sd_method m);   /* the network is told log(sigma) / 4 in a timestep's place */

const char *sd_method_name(sd_method m);
/* Its name, followed by the program if the plain name means another one: "euler@kdiffusion". */
const char *sd_method_full_name(sd_method m, sd_program p);
const char *sd_prediction_name(sd_prediction p);
const char *sd_spacing_name(sd_spacing s);
sd_status sd_prediction_parse(sd_prediction *p, const char *name, sd_error *e);
sd_status sd_spacing_parse(sd_spacing *s, const char *name, sd_error *e);
/* Names are compared without regard to case, spaces, '_', '-' and brackets, and '+' counts as 'p': "DPM++ 2M" is
 * dpmpp_2m. Our names are known, and those of diffusers, A1111, k-diffusion, ComfyUI and stable-diffusion.cpp. A
 * schedule may follow: "DPM++ 2M Karras". "@diffusers", "@kdiffusion" or "@comfy" at the end chooses the program;
 * without it, diffusers is meant if it has the sampler. program may be NULL. */
sd_status sd_method_parse(sd_method *m, sd_program *program, const char *name, sd_error *e);
/* Is this a name of the sampler with this program's conventions? */
bool sd_name_means(const char *name, sd_method m, sd_program p);
/* The schedule or spacing that follows a sampler's name; NULL if there is none. */
const char *sd_method_schedule(const char *name);
const char *sd_curve_name(sd_curve c);
sd_status sd_curve_parse(sd_curve *c, const char *name, sd_error *e);

/* The evaluations of one run. */
typedef struct sd_sampler sd_sampler;
/* steps: 1..train_steps. Fails where diffusers would index outside its table (DDIM and PNDM with leading spacing: 1000
 * steps with steps_offset 1). */
sd_status sd_sampler_new(sd_sampler **out, const sd_sched_config *c, int steps, sd_error *e);
/* A run without the first steps, for image to image: it begins with the noise of the level where it starts. */
sd_status sd_sampler_new_from(sd_sampler **out, const sd_sched_config *c, int steps, int first, sd_error *e);
/* A part of a run: without its first steps; and of the rest what lies between two shares of the training schedule, 0 to
 * 1 each, diffusers' denoising_start and denoising_end. With the cutoff T = round((1 - share) train_steps) a part that
 * ends there has the evaluations at timesteps of T and more, and one that starts there those below T. Each part is a
 * run of its own, so a sampler that remembers earlier answers begins anew. Where diffusers' class counts two timesteps
 * a step, a part may end in the middle of a step; the next one then takes that step again
 * [StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline.get_timesteps]. An error if nothing is left. */
typedef struct sd_sampler_part {
    int first;
    double start, end;
    int evaluation;   /* not 0: of the whole run, instead of `first` and `start`; it must begin a step */
} sd_sampler_part;
sd_status sd_sampler_new_part(sd_sampler **out, const sd_sched_config *c, int steps, const sd_sampler_part *part,
                              sd_error *e);
void sd_sampler_free(sd_sampler *s);

int sd_sampler_count(const sd_sampler *s);               /* UNet evaluations; PNDM: steps + 1 (Runge-Kutta: + 9);
                                                          * 0: dpm_adaptive decides while it runs */
double sd_sampler_timestep(const sd_sampler *s, int i);  /* given to the UNet at evaluation i; some have fractions */
double sd_sampler_sigma(const sd_sampler *s, int i);     /* sqrt((1-a)/a); i = count: where the last step ends */
double sd_sampler_alpha(const sd_sampler *s, int i);     /* a = alphas_cumprod at that level */
double sd_sampler_init_sigma(const sd_sampler *s);       /* init_noise_sigma: initial latents = noise times this */
/* What is to be added to x0 with the noise of evaluation 0, so that it begins as sd_first says: noise times this. */
double sd_sampler_more_noise(const sd_sampler *s);

/* The least sigma above zero and the greatest; of a part, those of the whole run. */
void sd_sampler_span(const sd_sampler *s, double *least, double *most);

/* x0 with the noise of evaluation i's level, as evaluation i would see it. In the middle of a step it is the level of
 * the step's end, as in diffusers. */
void sd_sampler_add_noise(const sd_sampler *s, int i, float *out, const float *x0, const float *noise, size_t n);

/* What a sampler needs from its caller. A status other than SD_OK ends the run with that status. */
typedef struct sd_denoiser {
    void *user;
    /* The guided prediction (epsilon, v or x0) of evaluation i for `input`, which has been scaled for the UNet. */
    sd_status (*model)(void *user, int i, double timestep, const float *input, float *prediction);
    /* Gets the latents before evaluation i, and the final ones with i = count. It may change them, as 4-channel
     * inpainting does. May be NULL. */
    sd_status (*before_evaluation)(void *user, int i, float *latents);
    /* The predicted x0 of evaluation i. May be NULL. */
    void (*denoised)(void *user, int i, const float *x0);
    /* n standard normals for going from one sigma to another. NULL for samplers that draw nothing. */
    sd_status (*noise)(void *user, double sigma_from, double sigma_to, float *out, size_t n);
    int pictures;   /* number of pictures in the latents, for thresholding; 0 counts as 1 */
    /* Both may be NULL, or change what they get: the latents x = signal x0 + noise eps that the UNet will see, not
     * those that the run goes on with; and the x0 that the sampler goes on with, whose eps follows. */
    void (*see)(void *user, double signal, double noise, double *latents);
    void (*keep)(void *user, double *x0);
} sd_denoiser;

/* Runs the sampler on latents (n numbers in all), which begin as noise times init_sigma and end as the picture's. A run
 * does not change the sampler: it can be run again, and from several threads. */
sd_status sd_sampler_run(const sd_sampler *s, float *latents, size_t n, const sd_denoiser *d, sd_error *e);

#endif
