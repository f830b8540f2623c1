/* sampler_names.c - floor 5: finds samplers and schedules by the names that people type: ours, and those of diffusers,
 * k-diffusion, A1111's web UI, ComfyUI and stable-diffusion.cpp, in any spelling. */
#include "sampler_run.h"
#include "text.h"

#include <string.h>

/* Writes "a, b and c": the three names most similar to `name`. */
static void nearest_names(char *out, size_t size, const char *name, const char *const *names, size_t count)
{
    enum { MOST = 48 };   /* letters that are compared */
    size_t taken[3] = {count, count, count}, letters = strlen(name);
    if (letters > MOST) letters = MOST;
    for (int k = 0; k < 3; k++) {
        size_t least = SIZE_MAX;
        for (size_t i = 0; i < count; i++) {
            size_t d = sd_edit_distance(name, letters, names[i], strlen(names[i]), false, false);
            if (d < least && i != taken[0] && i != taken[1]) {
                least = d;
                taken[k] = i;
            }
        }
    }
    snprintf(out, size, "%s, %s and %s", names[taken[0]], names[taken[1]], names[taken[2]]);
}

/* ------------------------------------------------------------------------------------ samplers */

/* Samplers of other programs that this one lacks, and what to use instead. */
#define NO_CFGPP "CFG++ is not built in, take the sampler without it"
static const struct { const char *name, *instead; } missing[] = {
    {"euler_cfg_pp", NO_CFGPP}, {"euler_a_cfg_pp", NO_CFGPP}, {"euler_ancestral_cfg_pp", NO_CFGPP},
    {"ddim_cfg_pp", NO_CFGPP}, {"dpmpp_2m_cfg_pp", NO_CFGPP}, {"dpmpp_2s_ancestral_cfg_pp", NO_CFGPP},
    {"gradient_estimation_cfg_pp", NO_CFGPP}, {"res_multistep_cfg_pp", NO_CFGPP},
    {"res_multistep_ancestral_cfg_pp", NO_CFGPP},
    {"dpm++2mv2", "the nearest is dpm++2m"}, {"dpm++2m_sde_heun", "the nearest is dpm++2m_sde"},
    {"dpm++2m_sde_heun_gpu", "the nearest is dpm++2m_sde"},
    {"dpm++2m_sde_bt", "it is dpm++2m_sde with the samplers' random stream \"brownian\""},
    {"heunpp2", "the nearest is heun"}, {"ipndm_v", "the nearest is ipndm"},
    {"res_2s", "the nearest is dpm++2s"}, {"exp_heun_2_x0", "the nearest is dpm++2s"},
    {"er_sde", "the nearest is dpm++3m_sde"}, {"seeds_2", "the nearest is dpm++sde"},
    {"seeds_3", "the nearest is dpm++sde"}, {"sa_solver_pece", "the nearest is sa_solver"},
};

/* What a text means: a sampler, which this program may lack, followed by a schedule or spacing. */
typedef struct meaning {
    int method;              /* -1: no sampler of this program */
    bool kdiffusion;         /* it is the name of k-diffusion's function */
    const char *schedule;    /* or NULL */
    const char *instead;     /* if this program lacks the sampler: what to use */
    const char *rest;        /* the text after the sampler's name */
} meaning;

static const char *schedule_named(const char *text)
{
    sd_spacing spacing;
    sd_curve curve;
    sd_error quiet = {.status = SD_OK};
    if (sd_spacing_parse(&spacing, text, &quiet) == SD_OK) return sd_spacing_name(spacing);
    quiet.status = SD_OK;
    return sd_curve_parse(&curve, text, &quiet) == SD_OK ? sd_curve_name(curve) : NULL;
}

/* m becomes the best meaning if `text` is `name`, or `name` and a schedule: "DPM++ 2M Karras". Longer names win. */
static void consider(meaning *best, const char *text, const char *name, meaning m)
{
    const char *rest = name ? sd_after_name(text, name) : NULL;
    if (!rest || (best->rest && rest <= best->rest)) return;
    const char *schedule = *rest ? schedule_named(rest) : m.schedule;
    if (*rest && !schedule) return;
    *best = m;
    best->schedule = schedule;
    best->rest = rest;
}

/* text: without @program. A1111's short forms begin with k_. */
static meaning read_name(const char *text)
{
    meaning best = {.method = -1};
    if (strncmp(text, "k_", 2) == 0) text += 2;
    for (int i = 0; i < SD_METHOD_COUNT; i++) {
        const sd_method_row *row = sd_method_row_of((sd_method)i);
        const char *const names[] = {row->about.name, row->about.diffusers, row->about.label, row->about.comfyui};
        for (size_t k = 0; k < SD_COUNT(names); k++) consider(&best, text, names[k], (meaning){.method = i});
        consider(&best, text, row->about.kdiffusion, (meaning){.method = i, .kdiffusion = true});
        for (size_t k = 0; k < SD_COUNT(row->also); k++)
            consider(&best, text, row->also[k].name, (meaning){.method = i, .schedule = row->also[k].schedule});
    }
    for (size_t i = 0; i < SD_COUNT(missing); i++)
        consider(&best, text, missing[i].name, (meaning){.method = -1, .instead = missing[i].instead});
    return best;
}

/* The part of a name before its @; NULL if it is too long to be a name. */
static const char *before_at(char out[80], const char *name)
{
    size_t n = strcspn(name, "@");
    if (n >= 80) return NULL;
    memcpy(out, name, n);
    out[n] = 0;
    return out;
}

const char *sd_method_schedule(const char *name)
{
    char plain[80];
    return before_at(plain, name) ? read_name(plain).schedule : NULL;
}

static sd_status unknown_sampler(const char *name, sd_error *e)
{
    const char *names[SD_METHOD_COUNT];
    char nearest[128];
    for (int k = 0; k < SD_METHOD_COUNT; k++) names[k] = sd_method_about((sd_method)k)->name;
    nearest_names(nearest, sizeof nearest, name, names, SD_METHOD_COUNT);
    return sd_fail(e, SD_ERR_ARG, "unknown sampler \"%.64s\", the nearest are %s", name, nearest);
}

static const char *const program_names[SD_PROGRAM_COUNT] = {"diffusers", "kdiffusion", "comfy"};

/* at: "@program" within `name`. *program: the one that the name means without it. */
static sd_status read_program(sd_program *program, const sd_method_row *row, const char *name, const char *at,
                              sd_error *e)
{
    int k = 0;
    while (k < SD_PROGRAM_COUNT && strcmp(at + 1, program_names[k]) != 0) k++;
    if (k == SD_PROGRAM_COUNT)
        return sd_fail(e, SD_ERR_ARG, "unknown program in \"%.64s\", expected @diffusers, @kdiffusion or @comfy", name);
    if (row->home != (sd_program)k && !row->elsewhere[k])
        return sd_fail(e, SD_ERR_ARG, "\"%.64s\": %s@%s is not there, %s is %s's", name, row->about.name,
                       program_names[k], row->about.name, program_names[*program]);
    *program = (sd_program)k;
    return SD_OK;
}

sd_status sd_method_parse(sd_method *m, sd_program *program, const char *name, sd_error *e)
{
    char plain[80];
    const char *at = strchr(name, '@');
    meaning is = {.method = -1};
    if (before_at(plain, name)) is = read_name(plain);
    if (is.instead)
        return sd_fail(e, SD_ERR_ARG, "the sampler \"%.64s\" is not supported: %s", name, is.instead);
    if (is.method < 0) return unknown_sampler(name, e);
    const sd_method_row *row = sd_method_row_of((sd_method)is.method);
    sd_program p = is.kdiffusion ? SD_KDIFFUSION : row->home;
    if (at && read_program(&p, row, name, at, e)) return e->status;
    *m = (sd_method)is.method;
    if (program) *program = p;
    return SD_OK;
}

bool sd_name_means(const char *name, sd_method m, sd_program p)
{
    sd_method method;
    sd_program program;
    sd_error quiet = {.status = SD_OK};
    return !sd_method_parse(&method, &program, name, &quiet) && method == m && program == p;
}

/* ----------------------------------------------------------------------------------- schedules */

/* Further names of schedules. curve < 0: this program lacks it; `instead` says what to use. */
static const struct { const char *name; int curve; const char *instead; } levels[] = {
    {"default", SD_CURVE_SPACED, NULL}, {"automatic", SD_CURVE_SPACED, NULL},
    {"karras@diffusers", SD_CURVE_KARRAS, NULL}, {"exponential@diffusers", SD_CURVE_EXPONENTIAL, NULL},
    {"beta@diffusers", SD_CURVE_BETA, NULL}, {"lu_lambdas@diffusers", SD_CURVE_LU, NULL}, {"lu", SD_CURVE_LU, NULL},
    {"normal", SD_CURVE_LINSPACE_K, NULL}, {"uniform", SD_CURVE_LINSPACE_K, NULL},
    {"discrete", SD_CURVE_LINSPACE_K, NULL},
    {"karras@comfy", SD_CURVE_KARRAS_K, NULL}, {"exponential@comfy", SD_CURVE_EXPONENTIAL_K, NULL},
    {"polyexponential@kdiffusion", SD_CURVE_POLYEXPONENTIAL_K, NULL}, {"vp@kdiffusion", SD_CURVE_VP_K, NULL},
    {"sgm_uniform@comfy", SD_CURVE_SGM_UNIFORM, NULL}, {"simple@comfy", SD_CURVE_SIMPLE, NULL},
    {"ddim_uniform@comfy", SD_CURVE_DDIM_UNIFORM, NULL}, {"ddim", SD_CURVE_DDIM_UNIFORM, NULL},
    {"kl_optimal@comfy", SD_CURVE_KL_OPTIMAL, NULL},
    {"align_your_steps_sd1", SD_CURVE_AYS_SD1, NULL}, {"ays", SD_CURVE_AYS_SD1, NULL},
    {"ays_sd1", SD_CURVE_AYS_SD1, NULL}, {"ays_sdxl", SD_CURVE_AYS_SDXL, NULL},
    {"gits", -1, "the nearest is align_your_steps"}, {"smoothstep", -1, "the nearest is sgm_uniform"},
    {"bong_tangent", -1, "the nearest is kl_optimal"}, {"logit_normal", -1, "the nearest is beta"},
    {"linear_quadratic", -1, "the nearest is simple"}, {"karras_exponential", -1, "take karras or exponential"},
    {"lcm", -1, "the sampler lcm has it of itself"},
    {"flux", -1, "it is for models of another kind"}, {"flux2", -1, "it is for models of another kind"},
    {"ltx2", -1, "it is for models of another kind"},
};

sd_status sd_curve_parse(sd_curve *c, const char *name, sd_error *e)
{
    const char *names[SD_CURVE_COUNT];
    for (int i = 0; i < SD_CURVE_SIGMAS; i++) {   /* the last two are lists of numbers, without names */
        names[i] = sd_curve_name((sd_curve)i);
        *c = (sd_curve)i;
        if (sd_same_name(name, names[i])) return SD_OK;
    }
    for (size_t i = 0; i < SD_COUNT(levels); i++) {
        if (!sd_same_name(name, levels[i].name)) continue;
        if (levels[i].instead)
            return sd_fail(e, SD_ERR_ARG, "the schedule \"%.64s\" is not supported: %s", name, levels[i].instead);
        *c = (sd_curve)levels[i].curve;
        return SD_OK;
    }
    char nearest[128];
    nearest_names(nearest, sizeof nearest, name, names, SD_CURVE_SIGMAS);
    return sd_fail(e, SD_ERR_ARG, "unknown schedule \"%.64s\": the spacings are leading, trailing and linspace, the "
                   "nearest schedules are %s", name, nearest);
}
