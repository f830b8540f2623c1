/* methods.c - floor 5: the table of samplers, and finding one by any of its names. */
#include "solver.h"

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
        "Zheng et al. 2024, Trajectory Consistency Distillation", 1, WITH_ETA, 0.3},
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
    if (i < 0 || i >= SD_METHOD_COUNT) return 0;
    *info = methods[i].about;
    return 1;
}

static const char *const program_names[] = {"diffusers", "kdiffusion", "comfy"};

const char *sd_program_name(sd_program p) { return (size_t)p < SD_COUNT(program_names) ? program_names[p] : "?"; }

/* ---------------------------------------------------------------------------------------- names */

/* How many letters must be put in, taken out or changed to make one name of the other. */
static int distance(const char *a, const char *b)
{
    enum { MOST = 48 };
    int row[MOST + 1], n = (int)strlen(b);
    if (n > MOST) n = MOST;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; *a && i <= MOST; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int change = diagonal + (*a != b[j - 1]), best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < best ? change : best;
        }
    }
    return row[n];
}

void sd_nearest_names(char *out, size_t size, const char *name, const char *const *names, size_t count)
{
    size_t taken[3] = {count, count, count};
    for (int k = 0; k < 3; k++) {
        int least = 1000;
        for (size_t i = 0; i < count; i++) {
            int d = distance(name, names[i]);
            if (d < least && i != taken[0] && i != taken[1]) {
                least = d;
                taken[k] = i;
            }
        }
    }
    snprintf(out, size, "%s, %s and %s", names[taken[0]], names[taken[1]], names[taken[2]]);
}

static bool same(const char *name, size_t n, const char *other)
{
    return other && strlen(other) == n && strncmp(name, other, n) == 0;
}

static int find_method(const char *name, size_t n)
{
    for (int i = 0; i < SD_METHOD_COUNT; i++) {
        const sd_sampler_info *a = &methods[i].about;
        if (same(name, n, a->name) || same(name, n, a->diffusers) || same(name, n, a->a1111)
            || same(name, n, a->kdiffusion))
            return i;
    }
    return same(name, n, "plms") ? SD_PNDM : -1;
}

sd_status sd_method_parse(sd_method *m, sd_program *program, const char *name, sd_error *e)
{
    const char *at = strchr(name, '@');
    size_t n = at ? (size_t)(at - name) : strlen(name);
    int i = find_method(name, n);
    if (i < 0) {
        const char *names[SD_METHOD_COUNT];
        char nearest[128];
        for (int k = 0; k < SD_METHOD_COUNT; k++) names[k] = methods[k].about.name;
        sd_nearest_names(nearest, sizeof nearest, name, names, SD_METHOD_COUNT);
        return sd_fail(e, SD_ERR_ARG, "unknown sampler \"%.64s\", the nearest are %s", name, nearest);
    }
    const sd_method_row *row = &methods[i];
    sd_program p = row->about.diffusers ? SD_DIFFUSERS : SD_KDIFFUSION;
    if (same(name, n, row->about.kdiffusion)) p = SD_KDIFFUSION;
    if (at) {
        size_t k = 0;
        while (k < SD_COUNT(program_names) && strcmp(at + 1, program_names[k]) != 0) k++;
        const bool has[] = {row->about.diffusers != NULL, row->about.kdiffusion || !row->about.diffusers, row->comfy};
        if (k == SD_COUNT(program_names))
            return sd_fail(e, SD_ERR_ARG, "unknown program in \"%.64s\", expected @diffusers, @kdiffusion or @comfy",
                           name);
        if (!has[k])
            return sd_fail(e, SD_ERR_ARG, "\"%.64s\": %s@%s is not there, %s is %s's", name, row->about.name,
                           program_names[k], row->about.name, sd_program_name(p));
        p = (sd_program)k;
    }
    *m = (sd_method)i;
    if (program) *program = p;
    return SD_OK;
}
