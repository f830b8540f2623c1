/* sampler_run.h - floor 5, private to the sampler files: what a sampler sees of its run. A sampler is one function
 * of an sd_sampling; its body is the paper's lines. sampler.c has the machinery, sampler_schedules.c the noise levels,
 * sampler_onestep.c and sampler_multistep.c the samplers, sampler_table.c their table. */
#ifndef SD_SAMPLER_RUN_H
#define SD_SAMPLER_RUN_H

#include "sampler.h"

#include <math.h>

/* A noise level: latents there are x = signal x0 + noise eps, and the UNet is told t. Two scales are in use: "variance
 * preserving", signal = sqrt(a), noise = sqrt(1-a), and "variance exploding", signal = 1, noise = sigma. Most samplers
 * are written for any signal and noise, so that the same lines serve both. */
typedef struct sd_level { double t, signal, noise; } sd_level;

static inline double sigma_of(sd_level l) { return l.noise / l.signal; }            /* k-diffusion's sigma */
static inline double lambda_of(sd_level l) { return log(l.signal) - log(l.noise); } /* half the log of the SNR */
static inline double alpha_of(sd_level l)                                           /* alphas_cumprod */
{
    return l.signal * l.signal / (l.signal * l.signal + l.noise * l.noise);
}

typedef struct sd_eval { double timestep, sigma, alpha; } sd_eval;

struct sd_sampler {
    sd_sched_config c;
    const struct sd_method_row *row;
    int steps, first;    /* steps first .. steps - 1 are taken */
    sd_level *at;        /* [steps + 1] where each step starts; the last one is where the run ends */
    float *alphas;       /* [train_steps] alphas_cumprod, bit for bit diffusers' */
    sd_eval *evals;      /* [count + 1] what the UNet is given; the last is where the run ends */
    int count, room;
    int vectors;         /* how many the sampler asks for */
    bool draws;          /* does it draw noise? */
    bool kdiffusion;     /* k-diffusion's conventions, which ComfyUI and A1111 share, and not diffusers' */
};

/* A run in progress. */
typedef struct sd_sampling {
    const sd_sampler *s;
    const sd_sched_config *c;
    const sd_level *at;
    int begin, steps;             /* steps begin .. steps - 1 are taken */
    double *x;                    /* [n] the latents; float32 values whenever the UNet has seen them */
    double *output;               /* [n] what the UNet said last, as it said it */
    size_t n;

    bool stop;                    /* an error or a cancel: all calls below do nothing from now on */
    sd_status status;
    sd_sampler *recording;        /* dry run: evaluations are noted here, none is made */
    int evaluations, taken;       /* so far; vectors handed out */
    double *pool, *drawn, *predicted;
    float *latents, *input, *prediction, *scratch;
    const sd_denoiser *hooks;
} sd_sampling;

/* Is there a step i? */
static inline bool sd_goes_on(const sd_sampling *r, int i) { return i < r->steps && !r->stop; }

/* A vector of the latents' size for the sampler, zero at first. It lives as long as the run. */
double *sd_vector(sd_sampling *r);
/* Asks the UNet about x, which lies at a level: the predicted picture x0 and noise eps, either may be NULL. Rounds x to
 * float32, for that is what the UNet sees. */
void sd_predict(sd_sampling *r, double *x, sd_level at, double *x0, double *eps);
/* n standard normals for going from one level to another. */
const double *sd_draw(sd_sampling *r, sd_level from, sd_level to);

/* y = sum of factor * vector; vectors that are NULL do not count. y may be one of them. */
typedef struct sd_term { double factor; const double *v; } sd_term;
void sd_sum(const sd_sampling *r, double *y, const sd_term *terms, size_t count);
#define SUM(r, y, ...) \
    sd_sum(r, y, (const sd_term[]){__VA_ARGS__}, sizeof((const sd_term[]){__VA_ARGS__}) / sizeof(sd_term))

/* What a model output F says at a level, as numbers: x0 = x_skip x + x_out F, eps = eps_skip x + eps_out F; the UNet
 * sees c_in x. With t these are the c_skip, c_out, c_in and c_noise of [Karras et al. 2022, eq. 7]. */
typedef struct sd_scaling { double c_in, x_skip, x_out, eps_skip, eps_out; } sd_scaling;
sd_scaling sd_scaling_at(const sd_sched_config *c, sd_level at);

/* ---- sampler_schedules.c */
void sd_alphas_cumprod(float *a, const sd_sched_config *c);
/* Where the steps of a run start and where the last one ends; the sampler's alphas are filled. */
sd_status sd_place_levels(sd_sampler *s, sd_error *e);
/* The level of a timestep of the training schedule; below 0 the end of DDIM and PNDM (set_alpha_to_one). */
sd_level sd_level_at_timestep(const sd_sampler *s, double t);
/* The level of any sigma, on the sampler's scale, with the fraction of a timestep that belongs to it. */
sd_level sd_level_at_sigma(const sd_sampler *s, double sigma);
double sd_sigma_to_t(const sd_sampler *s, double sigma);

/* ---- the samplers */
typedef void sd_sample_fn(sd_sampling *r);
sd_sample_fn sd_sample_ddim, sd_sample_ddim_inverse, sd_sample_ddpm, sd_sample_lcm, sd_sample_tcd, sd_sample_euler,
    sd_sample_euler_ancestral, sd_sample_heun, sd_sample_restart, sd_sample_dpm2, sd_sample_dpm2_ancestral,
        sd_sample_dpmpp_2s_ancestral,
    /* sampler_onestep.c */
    sd_sample_dpmpp_sde, sd_sample_dpm_fast, sd_sample_dpm_adaptive;
sd_sample_fn sd_sample_pndm, sd_sample_ipndm, sd_sample_lms, sd_sample_dpmpp_multistep, sd_sample_dpmpp_singlestep,
    /* sampler_multistep.c */
    sd_sample_deis, sd_sample_unipc, sd_sample_sa;

/* ---- sampler_table.c */
typedef struct sd_method_row {
    sd_sampler_info about;
    sd_sample_fn *sample;
    enum { SD_VP, SD_VE } scale;   /* of diffusers' class; k-diffusion's samplers are all VE */
    /* Where the levels come from: whole timesteps of the table; sigmas at timesteps with fractions; sigmas at whole
     * timesteps, one more of which is the end; the ends of the table alone; formulas of its own. */
    enum { SD_TABLE, SD_SIGMAS, SD_SIGMAS_WHOLE, SD_RANGE, SD_LCM_STEPS, SD_OWN } levels;
    sd_spacing spacing;            /* defaults of the class */
    bool alpha_to_one, clip;
    enum { SD_BETAS_DDPM, SD_BETAS_LINEAR_SD, SD_BETAS_SD } betas;
    int order;                     /* of the class */
    bool comfy;                    /* ComfyUI has another sampler of this name */
} sd_method_row;
const sd_method_row *sd_method_row_of(sd_method m);
/* "; the nearest are a, b and c" */
void sd_nearest_names(char *out, size_t size, const char *name, const char *const *names, size_t count);

#endif
