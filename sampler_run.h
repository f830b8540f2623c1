/* sampler_run.h - floor 5, private to the sampler files: what a sampler sees of its run, and the row of the table that
 * describes a sampler.
 *
 *   sampler_table.c      one row for each sampler: names, defaults, everything in which samplers differ
 *   sampler_onestep.c    the samplers that look at one step at a time, each following its paper line by line
 *   sampler_multistep.c  the samplers that remember earlier answers
 *   sampler.c            runs a sampler: asks the UNet, draws noise, counts evaluations
 *   sampler_levels.c     the noise levels of a run: betas, timesteps, sigmas
 *   sampler_schedules.c  named schedules of sigmas: karras, exponential, beta, ...
 *   sampler_config.c     settings: the classes' defaults, their bounds, scheduler_config.json
 *   sampler_names.c      finds samplers and schedules by the names that people type
 *
 * To add a sampler, write a function and a row (and an entry of sd_method, which numbers the rows); test_table.c tells
 * what the row lacks. */
#ifndef SD_SAMPLER_RUN_H
#define SD_SAMPLER_RUN_H

#include "sampler.h"

#include <math.h>

/* A noise level: its latents are x = signal x0 + noise eps, and its timestep for the UNet is t. There are two scales:
 * "variance preserving" (VP), signal = sqrt(a), noise = sqrt(1-a), and "variance exploding" (VE), signal = 1,
 * noise = sigma. Most samplers are written for any signal and noise, so that the same lines serve both. */
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
    int steps;
    int first, end;      /* steps first .. end - 1 are taken; PNDM: entries of its list */
    bool half;           /* the last one only to its middle */
    sd_level *at;        /* [steps + 1] where each step starts; the last one is where the run ends */
    float *alphas;       /* [train_steps] alphas_cumprod, bit for bit diffusers' */
    sd_eval *evals;      /* [count + 1] what the UNet gets; the last is where the run ends */
    int count, room;
    double least, most;  /* sigmas of the whole run, the least above zero */
    int vectors;         /* how many the sampler needs */
    bool draws;          /* does it draw noise? */
    bool kdiffusion;     /* k-diffusion's conventions, which ComfyUI and A1111 share, instead of diffusers' */
};

/* A run in progress. */
typedef struct sd_sampling {
    const sd_sampler *s;
    const sd_sched_config *c;
    const sd_level *at;
    int steps;                    /* of the whole run */
    int begin, end;               /* steps begin .. end - 1 are taken */
    double *x;                    /* [n] the latents; float32 values whenever the UNet has seen them */
    double *output;               /* [n] the UNet's last output, unconverted */
    size_t n;

    bool stop;                    /* an error or a cancel: all calls below do nothing from now on */
    sd_status status;
    sd_sampler *recording;        /* dry run: evaluations are noted here, none is made */
    int evaluations, taken;       /* so far; vectors handed out */
    double *pool, *fresh, *predicted;
    float *latents, *input, *prediction, *scratch;
    const sd_denoiser *hooks;
} sd_sampling;

/* Is there a step i? */
static inline bool sd_has_step(const sd_sampling *r, int i) { return i < r->end && !r->stop; }
/* Does the run end in the middle of step i? */
static inline bool sd_ends_within(const sd_sampling *r, int i) { return r->s->half && i == r->end - 1; }

/* A vector of the latents' size for the sampler, zero at first. It lives as long as the run. */
double *sd_vector(sd_sampling *r);
/* Asks the UNet about x, whose level is `at`, for the predicted picture x0 and the noise eps; either may be NULL. It
 * rounds x to float32, because that is what the UNet sees. */
void sd_predict(sd_sampling *r, double *x, sd_level at, double *x0, double *eps);
/* Fresh noise, n standard normals, for a step from one level to another. */
const double *sd_fresh_noise(sd_sampling *r, sd_level from, sd_level to);

/* y = sum of factor * vector; NULL vectors do not count. y may be one of them. */
typedef struct sd_term { double factor; const double *v; } sd_term;
void sd_sum(const sd_sampling *r, double *y, const sd_term *terms, size_t count);
#define SUM(r, y, ...) \
    sd_sum(r, y, (const sd_term[]){__VA_ARGS__}, sizeof((const sd_term[]){__VA_ARGS__}) / sizeof(sd_term))

/* d = (x - signal x0) / noise: the noise in x if x0 is the picture. Where signal is 1 it is dx/dsigma, the slope of the
 * probability flow ODE [Karras et al. 2022, eq. 1 and 3]; k-diffusion's to_d. d may be x0. */
void sd_slope(const sd_sampling *r, double *d, const double *x, const double *x0, sd_level at);

/* To which sigma an ancestral step goes down, and how much noise brings it up to its end: eta = 1 gives the variance of
 * DDPM's posterior [Song et al. 2020, eq. 16]; k-diffusion's get_ancestral_step. */
typedef struct sd_ancestral { double down, up; } sd_ancestral;
sd_ancestral sd_ancestral_step(double from, double to, double eta);

/* What a model output F means at a level: x0 = x_skip x + x_out F, eps = eps_skip x + eps_out F; the UNet sees c_in x.
 * With t these are the c_skip, c_out, c_in and c_noise of [Karras et al. 2022, eq. 7]. */
typedef struct sd_scaling { double c_in, x_skip, x_out, eps_skip, eps_out; } sd_scaling;
sd_scaling sd_scaling_at(const sd_sched_config *c, sd_level at);

/* ---- sampler_levels.c */
/* How a kind of sampler places its noise levels. */
typedef struct sd_levels {
    /* Fills the levels at[0 .. steps]; sigma has room for train_steps + 1 numbers. */
    sd_status (*place)(sd_sampler *s, double *sigma, sd_error *e);
    bool by_sigma;          /* it places sigmas, so it takes schedules: karras, ... */
    bool whole;             /* its timesteps are whole numbers */
    bool takes_timesteps;   /* the caller may give them as a list */
    bool one_more;          /* it spaces one timestep more than there are steps and leaves out the lowest */
    bool ends_alone;        /* it gets only the two ends of the training schedule and chooses the levels between them */
    bool upwards;           /* from a picture to noise: the first level may be sigma 0 */
} sd_levels;
extern const sd_levels sd_levels_strides, sd_levels_table, sd_levels_inverse, sd_levels_distilled, sd_levels_sigmas,
    sd_levels_whole, sd_levels_range, sd_levels_ipndm, sd_levels_edm;

/* Places the levels where the steps of a run start and where the last one ends; also fills the sampler's alphas. */
sd_status sd_place_levels(sd_sampler *s, sd_error *e);
/* The level of a timestep of the training schedule; below 0 it is the end of DDIM and PNDM (set_alpha_to_one). */
sd_level sd_level_at_timestep(const sd_sampler *s, double t);
/* The level of any sigma, on the sampler's scale, with its timestep, which may have a fraction. */
sd_level sd_level_at_sigma(const sd_sampler *s, double sigma);
/* sigma at a timestep, interpolated as in diffusers, and its logarithm, interpolated as in k-diffusion. */
double sd_sigma_at(const sd_sampler *s, double t);
double sd_log_sigma_at(const sd_sampler *s, double t);
static inline double sd_sigma_of_alpha(double a) { return sqrt((1.0 - a) / a); }

/* ---- sampler_schedules.c */
typedef struct sd_range { const sd_sampler *s; double lo, hi; } sd_range;
/* Fills n sigmas from hi down to lo, without the end of the run; returns how many it made, usually n. */
typedef int sd_curve_fn(double *sigma, int n, sd_range r);
typedef struct sd_curve_row {
    const char *name;
    sd_curve_fn *fn;        /* NULL: its levels are those of timesteps */
    bool diffusers;         /* diffusers' classes have it, between their own ends and with their own rounding */
} sd_curve_row;
const sd_curve_row *sd_curve_row_of(sd_curve c);

/* ---- the samplers */
typedef void sd_sample_fn(sd_sampling *r);
sd_sample_fn sd_sample_ddim, sd_sample_ddim_inverse, sd_sample_ddpm, sd_sample_lcm, sd_sample_tcd, sd_sample_euler,
    sd_sample_euler_ancestral, sd_sample_heun, sd_sample_restart, sd_sample_dpm2, sd_sample_dpm2_ancestral,
    sd_sample_dpmpp_2s_ancestral, sd_sample_dpmpp_sde, sd_sample_dpm_fast, sd_sample_dpm_adaptive;   /* _onestep.c */
sd_sample_fn sd_sample_pndm, sd_sample_ipndm, sd_sample_lms, sd_sample_dpmpp_multistep, sd_sample_dpmpp_singlestep,
    sd_sample_deis, sd_sample_unipc, sd_sample_sa, sd_sample_gradient_estimation,
    sd_sample_res_multistep;   /* _multistep.c */

/* ---- sampler_table.c */

/* The keys of scheduler_config.json that a class reads; it ignores the others, as in diffusers. A member stands for one
 * key or several that belong together, as the table of keys in sampler_config.c shows. */
typedef struct sd_reads {
    bool betas, prediction, spacing, steps_offset, alpha_to_one, clip, prk, zero_snr, threshold, curves, lu_lambdas,
        flow, euler, ending, order, solver, lower_order, euler_at_final, lambda_min, variance, unipc, sa, singlestep,
        distilled, lcm, edm;
} sd_reads;

/* How a diffusers class rounds the timestep of a sigma that a schedule has placed. */
typedef enum sd_rounding {
    SD_ROUND_FLOAT32,          /* it stays a fraction */
    SD_ROUND_NOT,              /* the same, in double */
    SD_ROUND_FLOAT32_KARRAS,   /* a fraction, but the nearest whole one with Karras' sigmas */
    SD_ROUND_WHOLE,            /* the nearest whole one with Karras' sigmas, else the one below */
    SD_ROUND_WHOLE_COSINE,     /* the same, and with cosine betas always the one below */
} sd_rounding;

/* Where a run can be cut into parts, see sd_sampler_part in sampler.h. */
typedef enum sd_cut {
    SD_CUT_STEPS,         /* between two steps */
    SD_CUT_EVALUATIONS,   /* the same, and in the middle of a step, for its class counts two timesteps a step */
    SD_CUT_ENTRIES,       /* between any two entries of its list of timesteps, of which image to image counts, too */
} sd_cut;

/* Everything that describes a sampler. What a row leaves out is false, 0 or NULL. */
typedef struct sd_method_row {
    sd_sampler_info about;        /* names, paper, order of accuracy, when it draws, its eta */

    /* Names elsewhere */
    sd_program home;              /* whose conventions its plain name stands for */
    const char *elsewhere[SD_PROGRAM_COUNT];   /* its name with the conventions of another program */
    struct { const char *name, *schedule; } also[3];   /* further names; such a name may mean a schedule as well */
    sd_curve automatic;           /* A1111's "Automatic" for it; SPACED: it has its own levels */

    /* How it computes */
    sd_sample_fn *sample;
    const sd_levels *levels;
    enum { SD_VP, SD_VE } scale;  /* of diffusers' class; k-diffusion's samplers are all VE */
    sd_rounding rounding;
    bool edm;                     /* for models of [Karras et al. 2022]: scaled by sigma_data, t = ln(sigma) / 4 */
    bool open_ended;              /* the number of evaluations depends on the UNet's answers */
    bool two_a_step;              /* its list of timesteps in diffusers has two entries for a step */
    sd_cut cut;                   /* of diffusers' class; k-diffusion's are cut between steps */
    const char *uncut;            /* why its runs have no parts; NULL: they do */
    bool needs_signal;            /* it cannot begin at zero SNR, whatever the UNet predicts */
    bool ends_above_zero;         /* its formulas divide by the last sigma */
    bool repeats_last;            /* with a schedule, final_sigmas_type sigma_min is the last sigma of the schedule */
    bool first_order_to_zero;     /* to sigma 0 it needs a step of order 1, which lower_order_final allows */
    bool predicts_v;              /* its class has no other prediction type */
    bool never_clips;             /* its class has arguments for clipping and thresholding but does not use them */

    /* The class in diffusers: which of its samplers this is, its defaults, what it reads */
    const char *algorithm;        /* algorithm_type, where one class is several samplers */
    bool order_in_name;           /* the order is in the sampler's name and overrides the file's */
    int class_order, most_order;  /* solver_order: default, largest */
    double step_eta;              /* default of its step's argument eta, where pipelines pass another */
    sd_spacing spacing;
    enum { SD_BETAS_DDPM, SD_BETAS_LINEAR_SD, SD_BETAS_SD } betas;
    sd_solver solver;
    bool alpha_to_one, clip, lower_order_final;
    sd_reads reads;
} sd_method_row;
const sd_method_row *sd_method_row_of(sd_method m);
/* Does a run with these settings follow k-diffusion's conventions? */
bool sd_is_kdiffusion(const sd_sched_config *c);
/* Are its latents x0 + sigma eps? */
static inline bool sd_is_exploding(const sd_sampler *s) { return s->kdiffusion || s->row->scale == SD_VE; }

#endif
