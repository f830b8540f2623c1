/* sampler_table.c - floor 5: the table of samplers, a row for each, with everything in which they differ. sampler_run.h
 * explains the members. sampler_names.c finds a row by any of its names. */
#include "sampler_run.h"

#define EDM "Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative Models"
#define DPM "Lu et al. 2022, DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling"
#define DPMPP "Lu et al. 2022, DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models"
#define RES "Zhang, Song & Chen 2023, Improved Order Analysis and Design of Exponential Integrator for Diffusion " \
            "Models Sampling"
#define DEIS "Zhang & Chen 2022, Fast Sampling of Diffusion Models with Exponential Integrator"

/* The label of A1111's menu. Where it has none, .label is ours, in its manner. */
#define IN_A1111(name) .label = (name), .a1111 = (name)

/* What several classes of diffusers have in common. */
#define READS_MODEL .betas = true, .prediction = true
#define READS_SPACED READS_MODEL, .spacing = true, .steps_offset = true
/* DDIMScheduler and similar classes, which look up alphas_cumprod by whole timesteps */
#define READS_TABLE READS_MODEL, .steps_offset = true, .clip = true, .zero_snr = true
/* DPMSolverMultistepScheduler, ...Singlestep..., UniPC..., DEIS..., SASolverScheduler */
#define READS_SOLVER READS_MODEL, .threshold = true, .curves = true, .flow = true, .lower_order = true
#define READS_DPMPP READS_SOLVER, .ending = true, .order = true, .solver = true, .lambda_min = true
#define READS_DPMPP_MULTISTEP READS_DPMPP, .spacing = true, .steps_offset = true, .zero_snr = true, \
    .lu_lambdas = true, .euler_at_final = true

static const sd_method_row methods[SD_METHOD_COUNT] = {
    [SD_DDIM] = {
        .about = {.name = "ddim", .diffusers = "DDIMScheduler", IN_A1111("DDIM"), .comfyui = "ddim", .order = 1,
                  .draws = SD_DRAWS_WITH_ETA, .paper = "Song et al. 2020, Denoising Diffusion Implicit Models"},
        .also = {{"ddim_trailing", "trailing"}},
        .sample = sd_sample_ddim, .levels = &sd_levels_strides, .scale = SD_VP,
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LEADING, .alpha_to_one = true, .clip = true,
        .reads = {READS_TABLE, .spacing = true, .alpha_to_one = true, .threshold = true},
    },
    [SD_PNDM] = {
        .about = {.name = "pndm", .diffusers = "PNDMScheduler", IN_A1111("PLMS"), .order = 2,
                  .paper = "Liu et al. 2022, Pseudo Numerical Methods for Diffusion Models on Manifolds"},
        .also = {{"plms", NULL}},
        .sample = sd_sample_pndm, .levels = &sd_levels_strides, .scale = SD_VP, .needs_signal = true,
        .cut = SD_CUT_ENTRIES,
        .class_order = 4, .most_order = 4, .spacing = SD_SPACE_LEADING,
        .reads = {READS_SPACED, .alpha_to_one = true, .prk = true},
    },
    [SD_EULER] = {
        .about = {.name = "euler", .diffusers = "EulerDiscreteScheduler", IN_A1111("Euler"),
                  .kdiffusion = "sample_euler", .comfyui = "euler", .order = 1, .paper = EDM},
        .elsewhere = {[SD_KDIFFUSION] = "euler@kdiffusion"}, .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_euler, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_SPACED, .zero_snr = true, .curves = true, .euler = true, .ending = true},
    },
    [SD_EULER_A] = {
        .about = {.name = "euler_a", .diffusers = "EulerAncestralDiscreteScheduler", IN_A1111("Euler a"),
                  .kdiffusion = "sample_euler_ancestral", .comfyui = "euler_ancestral", .order = 1,
                  .draws = SD_DRAWS_ALWAYS, .eta = 1, .paper = EDM},
        .elsewhere = {[SD_KDIFFUSION] = "euler_a@kdiffusion"},
        .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_euler_ancestral, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_SPACED, .zero_snr = true},
    },
    [SD_HEUN] = {
        .about = {.name = "heun", .diffusers = "HeunDiscreteScheduler", IN_A1111("Heun"), .kdiffusion = "sample_heun",
                  .comfyui = "heun", .order = 2, .paper = EDM},
        .elsewhere = {[SD_KDIFFUSION] = "heun@kdiffusion"}, .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_heun, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .cut = SD_CUT_EVALUATIONS,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .betas = SD_BETAS_LINEAR_SD,
        .reads = {READS_SPACED, .clip = true, .curves = true},
    },
    [SD_DPM2] = {
        .about = {.name = "dpm2", .diffusers = "KDPM2DiscreteScheduler", IN_A1111("DPM2"), .kdiffusion = "sample_dpm_2",
                  .comfyui = "dpm_2", .order = 2, .paper = DPM},
        .elsewhere = {[SD_KDIFFUSION] = "dpm2@kdiffusion"}, .automatic = SD_CURVE_KARRAS_K,
        .sample = sd_sample_dpm2, .levels = &sd_levels_sigmas, .scale = SD_VE, .rounding = SD_ROUND_FLOAT32_KARRAS,
        .two_a_step = true, .cut = SD_CUT_EVALUATIONS,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .betas = SD_BETAS_LINEAR_SD,
        .reads = {READS_SPACED, .curves = true},
    },
    [SD_DPM2_A] = {
        .about = {.name = "dpm2_a", .diffusers = "KDPM2AncestralDiscreteScheduler", IN_A1111("DPM2 a"),
                  .kdiffusion = "sample_dpm_2_ancestral", .comfyui = "dpm_2_ancestral", .order = 2,
                  .draws = SD_DRAWS_ALWAYS, .eta = 1, .paper = DPM},
        .elsewhere = {[SD_KDIFFUSION] = "dpm2_a@kdiffusion"},
        .automatic = SD_CURVE_KARRAS_K,
        .sample = sd_sample_dpm2_ancestral, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .cut = SD_CUT_EVALUATIONS,
        .rounding = SD_ROUND_FLOAT32_KARRAS, .two_a_step = true,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .betas = SD_BETAS_LINEAR_SD,
        .reads = {READS_SPACED, .curves = true},
    },
    [SD_LMS] = {
        .about = {.name = "lms", .diffusers = "LMSDiscreteScheduler", IN_A1111("LMS"), .kdiffusion = "sample_lms",
                  .comfyui = "lms", .order = 4, .paper = "Adams-Bashforth in sigma, K. Crowson's k-diffusion"},
        .elsewhere = {[SD_KDIFFUSION] = "lms@kdiffusion"}, .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_lms, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 4, .most_order = 4, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_SPACED, .curves = true},
    },
    [SD_DPMPP_2M] = {
        .about = {.name = "dpm++2m", .diffusers = "DPMSolverMultistepScheduler", IN_A1111("DPM++ 2M"),
                  .kdiffusion = "sample_dpmpp_2m", .comfyui = "dpmpp_2m", .order = 2, .paper = DPMPP},
        .elsewhere = {[SD_KDIFFUSION] = "dpm++2m@kdiffusion"}, .automatic = SD_CURVE_KARRAS_K,
        .sample = sd_sample_dpmpp_multistep, .levels = &sd_levels_whole, .scale = SD_VP,
        .rounding = SD_ROUND_WHOLE_COSINE,
        .algorithm = "dpmsolver++", .order_in_name = true, .class_order = 2, .most_order = 3,
        .spacing = SD_SPACE_LINSPACE, .lower_order_final = true,
        .reads = {READS_DPMPP_MULTISTEP},
    },
    [SD_DPMPP_2M_SDE] = {
        .about = {.name = "dpm++2m_sde", .diffusers = "DPMSolverMultistepScheduler", IN_A1111("DPM++ 2M SDE"),
                  .kdiffusion = "sample_dpmpp_2m_sde", .comfyui = "dpmpp_2m_sde", .order = 2,
                  .draws = SD_DRAWS_WITH_ETA, .eta = 1, .paper = DPMPP},
        .elsewhere = {[SD_KDIFFUSION] = "dpm++2m_sde@kdiffusion"}, .also = {{"dpmpp_2m_sde_gpu", NULL}},
        .automatic = SD_CURVE_EXPONENTIAL_K,
        .sample = sd_sample_dpmpp_multistep, .levels = &sd_levels_whole, .scale = SD_VP,
        .rounding = SD_ROUND_WHOLE_COSINE,
        .algorithm = "sde-dpmsolver++", .order_in_name = true, .class_order = 2, .most_order = 3,
        .spacing = SD_SPACE_LINSPACE, .lower_order_final = true,
        .reads = {READS_DPMPP_MULTISTEP},
    },
    /* Three points, but order 2: see docs/SAMPLERS.md. */
    [SD_DPMPP_3M_SDE] = {
        .about = {.name = "dpm++3m_sde", .diffusers = "DPMSolverMultistepScheduler", IN_A1111("DPM++ 3M SDE"),
                  .kdiffusion = "sample_dpmpp_3m_sde", .comfyui = "dpmpp_3m_sde", .order = 2,
                  .draws = SD_DRAWS_WITH_ETA, .eta = 1, .paper = DPMPP},
        .elsewhere = {[SD_KDIFFUSION] = "dpm++3m_sde@kdiffusion"}, .also = {{"dpmpp_3m_sde_gpu", NULL}},
        .automatic = SD_CURVE_EXPONENTIAL_K,
        .sample = sd_sample_dpmpp_multistep, .levels = &sd_levels_whole, .scale = SD_VP,
        .rounding = SD_ROUND_WHOLE_COSINE,
        .algorithm = "sde-dpmsolver++", .order_in_name = true, .class_order = 3, .most_order = 3,
        .spacing = SD_SPACE_LINSPACE, .lower_order_final = true,
        .reads = {READS_DPMPP_MULTISTEP},
    },
    [SD_DPMPP_2S] = {
        .about = {.name = "dpm++2s", .diffusers = "DPMSolverSinglestepScheduler", .label = "DPM++ 2S", .order = 2,
                  .paper = DPMPP},
        .sample = sd_sample_dpmpp_singlestep, .levels = &sd_levels_whole, .scale = SD_VP, .rounding = SD_ROUND_WHOLE,
        .order_in_name = true, .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_DPMPP, .singlestep = true},
    },
    [SD_DPMPP_2S_A] = {
        .about = {.name = "dpm++2s_a", IN_A1111("DPM++ 2S a"), .kdiffusion = "sample_dpmpp_2s_ancestral",
                  .comfyui = "dpmpp_2s_ancestral", .order = 2, .draws = SD_DRAWS_ALWAYS, .eta = 1, .paper = DPMPP},
        .home = SD_KDIFFUSION, .automatic = SD_CURVE_KARRAS_K,
        .sample = sd_sample_dpmpp_2s_ancestral, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
    [SD_DPMPP_SDE] = {
        .about = {.name = "dpm++sde", .diffusers = "DPMSolverSDEScheduler", IN_A1111("DPM++ SDE"),
                  .kdiffusion = "sample_dpmpp_sde", .comfyui = "dpmpp_sde", .order = 2, .draws = SD_DRAWS_ALWAYS,
                  .eta = 1, .paper = DPMPP},
        .elsewhere = {[SD_KDIFFUSION] = "dpm++sde@kdiffusion"}, .also = {{"dpmpp_sde_gpu", NULL}},
        .automatic = SD_CURVE_KARRAS_K,
        .sample = sd_sample_dpmpp_sde, .levels = &sd_levels_sigmas, .scale = SD_VE, .rounding = SD_ROUND_NOT,
        .two_a_step = true, .cut = SD_CUT_EVALUATIONS,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .betas = SD_BETAS_LINEAR_SD,
        .reads = {READS_SPACED, .curves = true},
    },
    [SD_DPM_FAST] = {
        .about = {.name = "dpm_fast", IN_A1111("DPM fast"), .kdiffusion = "sample_dpm_fast", .comfyui = "dpm_fast",
                  .order = 3, .draws = SD_DRAWS_ALWAYS, .paper = DPM},
        .home = SD_KDIFFUSION,
        .sample = sd_sample_dpm_fast, .levels = &sd_levels_range, .scale = SD_VE,
        .uncut = "its noise levels are not those of its steps",
        .class_order = 3, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
    [SD_DPM_ADAPTIVE] = {
        .about = {.name = "dpm_adaptive", IN_A1111("DPM adaptive"), .kdiffusion = "sample_dpm_adaptive",
                  .comfyui = "dpm_adaptive", .order = 3, .draws = SD_DRAWS_ALWAYS, .paper = DPM},
        .home = SD_KDIFFUSION, .also = {{"dpm_ad", NULL}},
        .sample = sd_sample_dpm_adaptive, .levels = &sd_levels_range, .scale = SD_VE, .open_ended = true,
        .uncut = "its noise levels are not known before",
        .class_order = 3, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
    [SD_UNIPC] = {
        .about = {.name = "unipc", .diffusers = "UniPCMultistepScheduler", IN_A1111("UniPC"), .comfyui = "uni_pc_bh2",
                  .order = 3,
                  .paper = "Zhao et al. 2023, UniPC: A Unified Predictor-Corrector Framework for Fast Sampling"},
        .sample = sd_sample_unipc, .levels = &sd_levels_whole, .scale = SD_VP, .rounding = SD_ROUND_WHOLE,
        .repeats_last = true, .first_order_to_zero = true,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .solver = SD_SOLVER_BH2,
        .lower_order_final = true,
        .reads = {READS_SOLVER, .spacing = true, .steps_offset = true, .zero_snr = true, .ending = true,
                  .order = true, .solver = true, .unipc = true},
    },
    [SD_DEIS] = {
        .about = {.name = "deis", .diffusers = "DEISMultistepScheduler", .label = "DEIS", .comfyui = "deis", .order = 2,
                  .paper = DEIS},
        .sample = sd_sample_deis, .levels = &sd_levels_whole, .scale = SD_VP, .rounding = SD_ROUND_WHOLE,
        .ends_above_zero = true, .repeats_last = true,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .lower_order_final = true,
        .reads = {READS_SOLVER, .spacing = true, .steps_offset = true, .order = true},
    },
    [SD_SA_SOLVER] = {
        .about = {.name = "sa_solver", .diffusers = "SASolverScheduler", .label = "SA-Solver", .comfyui = "sa_solver",
                  .order = 2, .draws = SD_DRAWS_ALWAYS, .eta = 1,
                  .paper = "Xue et al. 2023, SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models"},
        .sample = sd_sample_sa, .levels = &sd_levels_whole, .scale = SD_VP, .rounding = SD_ROUND_WHOLE,
        .ends_above_zero = true, .repeats_last = true,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE, .lower_order_final = true,
        .reads = {READS_SOLVER, .spacing = true, .steps_offset = true, .lambda_min = true, .sa = true},
    },
    [SD_DDPM] = {
        .about = {.name = "ddpm", .diffusers = "DDPMScheduler", .label = "DDPM", .comfyui = "ddpm",
                  .draws = SD_DRAWS_ALWAYS, .eta = 1,
                  .paper = "Ho et al. 2020, Denoising Diffusion Probabilistic Models"},
        .sample = sd_sample_ddpm, .levels = &sd_levels_table, .scale = SD_VP,
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LEADING, .alpha_to_one = true, .clip = true,
        .reads = {READS_TABLE, .spacing = true, .threshold = true, .variance = true},
    },
    [SD_LCM] = {
        .about = {.name = "lcm", .diffusers = "LCMScheduler", IN_A1111("LCM"), .comfyui = "lcm",
                  .draws = SD_DRAWS_ALWAYS, .eta = 1, .paper = "Luo et al. 2023, Latent Consistency Models"},
        .sample = sd_sample_lcm, .levels = &sd_levels_distilled, .scale = SD_VP,
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LEADING, .betas = SD_BETAS_SD, .alpha_to_one = true,
        .reads = {READS_TABLE, .alpha_to_one = true, .threshold = true, .distilled = true, .lcm = true},
    },
    [SD_TCD] = {
        .about = {.name = "tcd", .diffusers = "TCDScheduler", .label = "TCD", .order = 1, .draws = SD_DRAWS_WITH_ETA,
                  .paper = "Zheng et al. 2024, Trajectory Consistency Distillation"},
        .sample = sd_sample_tcd, .levels = &sd_levels_distilled, .scale = SD_VP, .never_clips = true,
        .class_order = 1, .most_order = 3, .step_eta = 0.3, .spacing = SD_SPACE_LEADING, .betas = SD_BETAS_SD,
        .alpha_to_one = true,
        .reads = {READS_TABLE, .alpha_to_one = true, .threshold = true, .distilled = true},
    },
    [SD_IPNDM] = {
        .about = {.name = "ipndm", .diffusers = "IPNDMScheduler", .label = "IPNDM", .comfyui = "ipndm", .order = 4,
                  .paper = DEIS},
        .elsewhere = {[SD_COMFY] = "ipndm@comfy"},
        .sample = sd_sample_ipndm, .levels = &sd_levels_ipndm, .scale = SD_VP, .predicts_v = true,
        .uncut = "its timesteps are none of the training schedule",
        .class_order = 4, .most_order = 4, .spacing = SD_SPACE_LINSPACE,
    },
    [SD_EDM_EULER] = {
        .about = {.name = "edm_euler", .diffusers = "EDMEulerScheduler", .label = "EDM Euler", .order = 1,
                  .paper = EDM},
        .sample = sd_sample_euler, .levels = &sd_levels_edm, .scale = SD_VE, .edm = true,
        .uncut = "its timesteps are none of the training schedule",
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {.prediction = true, .ending = true, .edm = true},
    },
    [SD_DDIM_INVERSE] = {
        .about = {.name = "ddim_inverse", .diffusers = "DDIMInverseScheduler", .label = "DDIM Inverse", .order = 1,
                  .paper = "Song et al. 2020, Denoising Diffusion Implicit Models, sec. 4.3"},
        .sample = sd_sample_ddim_inverse, .levels = &sd_levels_inverse, .scale = SD_VP,
        .uncut = "it goes from a picture to noise",
        .class_order = 1, .most_order = 3, .spacing = SD_SPACE_LEADING, .alpha_to_one = true, .clip = true,
        .reads = {READS_TABLE, .spacing = true, .alpha_to_one = true},
    },
    /* A1111's own, on top of k-diffusion. */
    [SD_RESTART] = {
        .about = {.name = "restart", IN_A1111("Restart"), .order = 2, .draws = SD_DRAWS_ALWAYS,
                  .paper = "Xu et al. 2023, Restart Sampling for Improving Generative Processes"},
        .home = SD_KDIFFUSION, .automatic = SD_CURVE_KARRAS_K,
        .sample = sd_sample_restart, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .uncut = "it goes back to noise levels that it has passed",
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
    /* From ComfyUI and stable-diffusion.cpp. */
    [SD_GRADIENT_ESTIMATION] = {
        .about = {.name = "gradient_estimation", .label = "Gradient Estimation", .comfyui = "gradient_estimation",
                  .order = 1,
                  .paper = "Permenter & Yuan 2023, Interpreting and Improving Diffusion Models from an Optimization "
                           "Perspective"},
        .home = SD_COMFY, .also = {{"euler_ge", NULL}}, .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_gradient_estimation, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
    [SD_RES_MULTISTEP] = {
        .about = {.name = "res_multistep", .label = "RES Multistep", .comfyui = "res_multistep", .order = 2,
                  .paper = RES},
        .home = SD_COMFY, .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_res_multistep, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
    [SD_RES_MULTISTEP_A] = {
        .about = {.name = "res_multistep_a", .label = "RES Multistep a", .comfyui = "res_multistep_ancestral",
                  .order = 2, .draws = SD_DRAWS_ALWAYS, .eta = 1, .paper = RES},
        .home = SD_COMFY, .automatic = SD_CURVE_LINSPACE_K,
        .sample = sd_sample_res_multistep, .levels = &sd_levels_sigmas, .scale = SD_VE,
        .class_order = 2, .most_order = 3, .spacing = SD_SPACE_LINSPACE,
        .reads = {READS_MODEL},
    },
};

const sd_method_row *sd_method_row_of(sd_method m) { return &methods[m]; }
const sd_sampler_info *sd_method_about(sd_method m) { return &methods[m].about; }
const char *sd_method_name(sd_method m) { return (size_t)m < SD_METHOD_COUNT ? methods[m].about.name : "?"; }
sd_curve sd_method_automatic(sd_method m) { return methods[m].automatic; }
bool sd_method_takes_schedules(sd_method m) { return !methods[m].levels->ends_alone; }
bool sd_method_is_open_ended(sd_method m) { return methods[m].open_ended; }
bool sd_method_is_edm(sd_method m) { return methods[m].edm; }

bool sd_is_kdiffusion(const sd_sched_config *c)
{
    return c->program != SD_DIFFUSERS || methods[c->method].home != SD_DIFFUSERS;
}

const char *sd_method_full_name(sd_method m, sd_program p)
{
    bool known = (size_t)m < SD_METHOD_COUNT && (size_t)p < SD_PROGRAM_COUNT;
    const char *other = known ? methods[m].elsewhere[p] : NULL;
    return other ? other : sd_method_name(m);
}

int sd_get_sampler_sized(int i, sd_sampler_info *info, size_t size)
{
    if (i < 0 || i >= SD_METHOD_COUNT || !info) return 0;
    sd_copy_struct(info, size, &methods[i].about, sizeof methods[i].about);
    return 1;
}
