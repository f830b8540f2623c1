/* sampler_table.c - floor 5: the table of samplers. sampler_names.c finds one by any of its names. */
#include "sampler_run.h"

#include <string.h>

#define EDM "Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative Models"
#define DPM "Lu et al. 2022, DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling"
#define DPMPP "Lu et al. 2022, DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models"
#define DEIS "Zhang & Chen 2022, Fast Sampling of Diffusion Models with Exponential Integrator"

#define NEVER SD_DRAWS_NEVER
#define WITH_ETA SD_DRAWS_WITH_ETA
#define ALWAYS SD_DRAWS_ALWAYS
#define LEADING SD_SPACE_LEADING
#define LINSPACE SD_SPACE_LINSPACE

/* name, diffusers, A1111, k-diffusion, paper, order, draws, eta | function, scale, levels, spacing, alpha_to_one, clip,
 * betas, order of the class, ComfyUI's own */
static const sd_method_row methods[SD_METHOD_COUNT] = {
    [SD_DDIM] = {{"ddim", "DDIMScheduler", "DDIM", NULL,
        "Song et al. 2020, Denoising Diffusion Implicit Models", 1, WITH_ETA, 0},
        sd_sample_ddim, SD_VP, SD_TABLE, LEADING, true, true, SD_BETAS_DDPM, 1, false},
    [SD_PNDM] = {{"pndm", "PNDMScheduler", "PLMS", NULL,
        "Liu et al. 2022, Pseudo Numerical Methods for Diffusion Models on Manifolds", 2, NEVER, 0},
        sd_sample_pndm, SD_VP, SD_TABLE, LEADING, false, false, SD_BETAS_DDPM, 4, false},
    [SD_EULER] = {{"euler", "EulerDiscreteScheduler", "Euler", "sample_euler",
        EDM, 1, NEVER, 0},
        sd_sample_euler, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_DDPM, 1, false},
    [SD_EULER_A] = {{"euler_a", "EulerAncestralDiscreteScheduler", "Euler a", "sample_euler_ancestral",
        EDM, 1, ALWAYS, 1},
        sd_sample_euler_ancestral, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_DDPM, 1, false},
    [SD_HEUN] = {{"heun", "HeunDiscreteScheduler", "Heun", "sample_heun",
        EDM, 2, NEVER, 0},
        sd_sample_heun, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_LINEAR_SD, 2, false},
    [SD_DPM2] = {{"dpm2", "KDPM2DiscreteScheduler", "DPM2", "sample_dpm_2",
        DPM, 2, NEVER, 0},
        sd_sample_dpm2, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_LINEAR_SD, 2, false},
    [SD_DPM2_A] = {{"dpm2_a", "KDPM2AncestralDiscreteScheduler", "DPM2 a", "sample_dpm_2_ancestral",
        DPM, 2, ALWAYS, 1},
        sd_sample_dpm2_ancestral, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_LINEAR_SD, 2, false},
    [SD_LMS] = {{"lms", "LMSDiscreteScheduler", "LMS", "sample_lms",
        "Adams-Bashforth in sigma, K. Crowson's k-diffusion", 4, NEVER, 0},
        sd_sample_lms, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_DDPM, 4, false},
    [SD_DPMPP_2M] = {{"dpm++2m", "DPMSolverMultistepScheduler", "DPM++ 2M", "sample_dpmpp_2m",
        DPMPP, 2, NEVER, 0},
        sd_sample_dpmpp_multistep, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    [SD_DPMPP_2M_SDE] = {{"dpm++2m_sde", "DPMSolverMultistepScheduler", "DPM++ 2M SDE", "sample_dpmpp_2m_sde",
        DPMPP, 2, WITH_ETA, 1},
        sd_sample_dpmpp_multistep, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    /* Three points, but order 2: see docs/MODEL.md. */
    [SD_DPMPP_3M_SDE] = {{"dpm++3m_sde", "DPMSolverMultistepScheduler", "DPM++ 3M SDE", "sample_dpmpp_3m_sde",
        DPMPP, 2, WITH_ETA, 1},
        sd_sample_dpmpp_multistep, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 3, false},
    [SD_DPMPP_2S] = {{"dpm++2s", "DPMSolverSinglestepScheduler", "DPM++ 2S", NULL,
        DPMPP, 2, NEVER, 0},
        sd_sample_dpmpp_singlestep, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    [SD_DPMPP_2S_A] = {{"dpm++2s_a", NULL, "DPM++ 2S a", "sample_dpmpp_2s_ancestral",
        DPMPP, 2, ALWAYS, 1},
        sd_sample_dpmpp_2s_ancestral, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    [SD_DPMPP_SDE] = {{"dpm++sde", "DPMSolverSDEScheduler", "DPM++ SDE", "sample_dpmpp_sde",
        DPMPP, 2, ALWAYS, 1},
        sd_sample_dpmpp_sde, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_LINEAR_SD, 2, false},
    [SD_DPM_FAST] = {{"dpm_fast", NULL, "DPM fast", "sample_dpm_fast",
        DPM, 3, ALWAYS, 0},
        sd_sample_dpm_fast, SD_VE, SD_RANGE, LINSPACE, false, false, SD_BETAS_DDPM, 3, false},
    [SD_DPM_ADAPTIVE] = {{"dpm_adaptive", NULL, "DPM adaptive", "sample_dpm_adaptive",
        DPM, 3, ALWAYS, 0},
        sd_sample_dpm_adaptive, SD_VE, SD_RANGE, LINSPACE, false, false, SD_BETAS_DDPM, 3, false},
    [SD_UNIPC] = {{"unipc", "UniPCMultistepScheduler", "UniPC", NULL,
        "Zhao et al. 2023, UniPC: A Unified Predictor-Corrector Framework for Fast Sampling", 3, NEVER, 0},
        sd_sample_unipc, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    [SD_DEIS] = {{"deis", "DEISMultistepScheduler", "DEIS", NULL,
        DEIS, 2, NEVER, 0},
        sd_sample_deis, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    [SD_SA_SOLVER] = {{"sa_solver", "SASolverScheduler", "SA-Solver", NULL,
        "Xue et al. 2023, SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models", 2, ALWAYS, 1},
        sd_sample_sa, SD_VP, SD_SIGMAS_WHOLE, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
    [SD_DDPM] = {{"ddpm", "DDPMScheduler", "DDPM", NULL,
        "Ho et al. 2020, Denoising Diffusion Probabilistic Models", 0, ALWAYS, 1},
        sd_sample_ddpm, SD_VP, SD_TABLE, LEADING, true, true, SD_BETAS_DDPM, 1, false},
    [SD_LCM] = {{"lcm", "LCMScheduler", "LCM", NULL,
        "Luo et al. 2023, Latent Consistency Models", 0, ALWAYS, 1},
        sd_sample_lcm, SD_VP, SD_LCM_STEPS, LEADING, true, false, SD_BETAS_SD, 1, false},
    [SD_TCD] = {{"tcd", "TCDScheduler", "TCD", NULL,
        "Zheng et al. 2024, Trajectory Consistency Distillation", 1, WITH_ETA, 0},
        sd_sample_tcd, SD_VP, SD_LCM_STEPS, LEADING, true, false, SD_BETAS_SD, 1, false},
    [SD_IPNDM] = {{"ipndm", "IPNDMScheduler", "IPNDM", NULL,
        DEIS, 4, NEVER, 0},
        sd_sample_ipndm, SD_VP, SD_OWN, LINSPACE, false, false, SD_BETAS_DDPM, 4, true},
    [SD_EDM_EULER] = {{"edm_euler", "EDMEulerScheduler", "EDM Euler", NULL,
        EDM, 1, NEVER, 0},
        sd_sample_euler, SD_VE, SD_OWN, LINSPACE, false, false, SD_BETAS_DDPM, 1, false},
    [SD_DDIM_INVERSE] = {{"ddim_inverse", "DDIMInverseScheduler", "DDIM Inverse", NULL,
        "Song et al. 2020, Denoising Diffusion Implicit Models, sec. 4.3", 1, NEVER, 0},
        sd_sample_ddim_inverse, SD_VP, SD_TABLE, LEADING, true, true, SD_BETAS_DDPM, 1, false},
    /* A1111's; it stands on k-diffusion. */
    [SD_RESTART] = {{"restart", NULL, "Restart", NULL,
        "Xu et al. 2023, Restart Sampling for Improving Generative Processes", 2, ALWAYS, 0},
        sd_sample_restart, SD_VE, SD_SIGMAS, LINSPACE, false, false, SD_BETAS_DDPM, 2, false},
};

const sd_method_row *sd_method_row_of(sd_method m) { return &methods[m]; }
const sd_sampler_info *sd_method_about(sd_method m) { return &methods[m].about; }
const char *sd_method_name(sd_method m) { return (size_t)m < SD_METHOD_COUNT ? methods[m].about.name : "?"; }

/* Names of what other programs do differently, for those whose plain name is diffusers'. */
static const char *const kdiffusion_names[SD_METHOD_COUNT] = {
    [SD_EULER] = "euler@kdiffusion", [SD_EULER_A] = "euler_a@kdiffusion", [SD_HEUN] = "heun@kdiffusion",
    [SD_DPM2] = "dpm2@kdiffusion", [SD_DPM2_A] = "dpm2_a@kdiffusion", [SD_LMS] = "lms@kdiffusion",
    [SD_DPMPP_2M] = "dpm++2m@kdiffusion", [SD_DPMPP_2M_SDE] = "dpm++2m_sde@kdiffusion",
    [SD_DPMPP_3M_SDE] = "dpm++3m_sde@kdiffusion", [SD_DPMPP_SDE] = "dpm++sde@kdiffusion",
};

const char *sd_method_full_name(sd_method m, sd_program p)
{
    if (p == SD_COMFY) return m == SD_IPNDM ? "ipndm@comfy" : "?";
    const char *other = p == SD_KDIFFUSION && (size_t)m < SD_METHOD_COUNT ? kdiffusion_names[m] : NULL;
    return other ? other : sd_method_name(m);
}

int sd_get_sampler(int i, sd_sampler_info *info)
{
    if (i < 0 || i >= SD_METHOD_COUNT || !info) return 0;
    *info = methods[i].about;
    return 1;
}

static const char *const program_names[] = {"diffusers", "kdiffusion", "comfy"};

const char *sd_program_name(sd_program p) { return (size_t)p < SD_COUNT(program_names) ? program_names[p] : "?"; }
