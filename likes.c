/* likes.c - floor 6: what other programs do by default and this one does otherwise: a row for each thing, a column for
 * each program, with the place in that program's source. Whoever asks to draw like one of them gets its column.
 *
 * Sources are of the versions in `programs`. KD in front of a place: k-diffusion's, which A1111 calls. */
#include "likes.h"
#include "sampler.h"
#include "sd.h"
#include "sd_tools.h"

#include <string.h>

enum { DIFFUSERS, COMPVIS, A1111, COMFY, SDCPP, PROGRAMS };

static const struct {
    const char *key, *title, *version;
    bool kdiffusion;          /* its samplers are k-diffusion's or follow them */
    const char *schedule;     /* of samplers that take one; "automatic": A1111's for each sampler; NULL: the model's */
    const char *brownian;     /* the noise of its SDE samplers; NULL: as that of others */
} programs[PROGRAMS] = {
    {"diffusers", "diffusers", "0.42.1", false, NULL, NULL},
    {"compvis", "CompVis' scripts", "CompVis/stable-diffusion at 21f890f", false, NULL, NULL},
    {"a1111", "A1111's web UI", "AUTOMATIC1111/stable-diffusion-webui 1.10.1, k-diffusion at 4601bf0", true,
     "automatic", "brownian:torch-cuda"},
    {"comfy", "ComfyUI", "0.3.64, at a125cd8", true, "simple", "brownian"},
    {"sdcpp", "stable-diffusion.cpp", "master-827-97d2990", true, "discrete", NULL},
};

/* One program's way: the value that its parameter gets, NULL if nothing is set; what it does; where that stands; and
 * how it was compared. */
typedef struct cell { const char *sets, *does, *at; sd_like_check check; } cell;
#define RUN SD_LIKE_RUN
#define WRITTEN SD_LIKE_WRITTEN
#define READ SD_LIKE_READ
#define NOT_HERE SD_LIKE_NOT_HERE
#define PIPE "pipeline_stable_diffusion.py"
#define IMG2IMG "pipeline_stable_diffusion_img2img.py"
#define INPAINT "pipeline_stable_diffusion_inpaint.py"
#define XL "pipeline_stable_diffusion_xl.py"

static const struct { const char *key, *what; cell by[PROGRAMS]; } rows[] = {
    {"sampler", "sampler", {
        {NULL, "the model's", PIPE ":708", RUN},
        {"ddim", "DDIM", "scripts/txt2img.py:256", RUN},
        {"dpm++2m", "DPM++ 2M", "modules/processing_scripts/sampler.py:25, sd_samplers_kdiffusion.py:11", RUN},
        {"euler", "euler", "comfy/samplers.py:730, 1108", RUN},
        {"euler_a", "euler_a", "src/stable-diffusion.cpp:3974", WRITTEN}}},
    {NULL, "schedule of sigmas", {
        {NULL, "the model's", "schedulers/", RUN},
        {NULL, "DDIM's own, uniform", "ldm/modules/diffusionmodules/util.py:48", RUN},
        {NULL, "automatic: DPM++ 2M karras", "modules/sd_samplers_kdiffusion.py:11, 90", RUN},
        {NULL, "simple", "comfy/samplers.py:413, 1106", RUN},
        {NULL, "discrete", "src/runtime/denoiser.hpp:32", WRITTEN}}},
    {NULL, "its samplers are", {
        {NULL, "diffusers'", "schedulers/", RUN},
        {NULL, "its own", "ldm/models/diffusion/ddim.py:166", RUN},
        {NULL, "k-diffusion's; DDIM, PLMS, UniPC its own, not here", "modules/sd_samplers_timesteps_impl.py:12", RUN},
        {NULL, "a copy of k-diffusion's", "comfy/k_diffusion/sampling.py", RUN},
        {NULL, "written after k-diffusion's", "src/runtime/denoiser.hpp:1526", READ}}},
    {"steps", "steps", {
        {"50", "50", PIPE ":785", READ},
        {"50", "50", "scripts/txt2img.py:128", READ},
        {"20", "20", "modules/processing_scripts/sampler.py:27", READ},
        {"20", "20", "nodes.py:1506", READ},
        {"20", "20", "src/stable-diffusion.cpp:3661", READ}}},
    {"guidance_scale", "guidance scale", {
        {NULL, "7.5; SDXL 5", PIPE ":788", READ},
        {"7.5", "7.5", "scripts/txt2img.py:202", READ},
        {"7", "7", "modules/ui.py:303", READ},
        {"8", "8", "nodes.py:1507", READ},
        {"7", "7", "src/stable-diffusion.cpp:3652", READ}}},
    {"rng", "generator", {
        {"torch-cpu", "torch's of the CPU, as its examples", PIPE ":708", RUN},
        {"torch-cuda", "torch's of the GPU", "scripts/txt2img.py:243, ldm/models/diffusion/ddim.py:123", READ},
        {"torch-cuda", "torch's of the GPU", "modules/shared_options.py:183, rng.py:20", READ},
        {"torch-cpu", "torch's of the CPU", "comfy/sample.py:15", RUN},
        {"torch-cuda", "Philox, as torch's of the GPU", "src/stable-diffusion.cpp:3552, core/rng_philox.hpp", READ}}},
    {"sampler_rng", "samplers' noise", {
        {NULL, "the same generator", "schedulers/scheduling_euler_ancestral_discrete.py:458", RUN},
        {NULL, "the same generator", "ldm/models/diffusion/ddim.py:200", READ},
        {NULL, "the same; of SDE samplers a Brownian path", "modules/sd_samplers_common.py:224, 325", READ},
        {"torch-cuda", "the GPU's, again from the seed; SDE: Brownian, the CPU's",
         "comfy/k_diffusion/sampling.py:75, 737", READ},
        {NULL, "the same generator", "src/stable-diffusion.cpp:889, 2899", READ}}},
    {"seed_per_image", "generators of a batch", {
        {NULL, "one", "utils/torch_utils.py:102", RUN},
        {NULL, "one", "ldm/models/diffusion/ddim.py:123", READ},
        {"true", "one each, seed + i", "modules/processing.py:904, rng.py:106", READ},
        {NULL, "one", "comfy/sample.py:15", READ},
        {"true", "one each, seed + i", "src/stable-diffusion.cpp:5678", READ}}},
    {NULL, "eta noise seed delta", {
        {NULL, "none", "", READ},
        {NULL, "none", "", READ},
        {NULL, "0, another is not here", "modules/shared_options.py:399, rng.py:148", READ},
        {NULL, "none", "", READ},
        {NULL, "none", "", READ}}},
    {"first_latents", "first latents: noise times", {
        {NULL, "sigma, or root(sigma^2+1) with leading spacing", "schedulers/scheduling_euler_discrete.py:278", RUN},
        {NULL, "1 (DDIM)", "ldm/models/diffusion/ddim.py:123", RUN},
        {"sigma", "sigma", "modules/sd_samplers_kdiffusion.py:198", RUN},
        {"comfy", "root(sigma^2+1) at the largest sigma, else sigma",
         "comfy/model_sampling.py:39, samplers.py:725", RUN},
        {"sigma", "sigma", "src/runtime/denoiser.hpp:1181", WRITTEN}}},
    {"whole_timesteps", "timesteps told to the UNet", {
        {NULL, "by class: fractions or whole", "schedulers/scheduling_euler_discrete.py:483", RUN},
        {NULL, "whole", "ldm/models/diffusion/ddim.py:142", RUN},
        {"false", "fractions", "modules/shared_options.py:176", RUN},
        {"true", "the nearest whole one", "comfy/model_sampling.py:163", RUN},
        {"false", "fractions", "src/runtime/denoiser.hpp:1140", WRITTEN}}},
    {"spacing", "spacing of DDIM", {
        {NULL, "the model's", "schedulers/scheduling_ddim.py", RUN},
        {"leading", "leading; where 1000/steps is not whole it takes more steps, not here",
         "ldm/modules/diffusionmodules/util.py:48", RUN},
        {NULL, "leading, a step less, not here", "modules/sd_samplers_timesteps.py:94", NOT_HERE},
        {NULL, "DDIM is euler", "comfy/samplers.py:1091", READ},
        {NULL, "DDIM trailing, not here", "src/runtime/denoiser.hpp:2519", NOT_HERE}}},
    {"steps_offset", "steps offset", {
        {NULL, "the model's; below SDXL 1", PIPE ":214", RUN},
        {"1", "1", "ldm/modules/diffusionmodules/util.py:57", RUN},
        {NULL, "of DDIM 1", "modules/sd_samplers_timesteps.py:94", READ},
        {NULL, "none", "", READ},
        {NULL, "none", "", READ}}},
    {"set_alpha_to_one", "the last step of DDIM ends at", {
        {NULL, "the model's", "schedulers/scheduling_ddim.py:236", RUN},
        {"false", "alphas_cumprod[0]", "ldm/modules/diffusionmodules/util.py:66", RUN},
        {NULL, "alphas_cumprod[0]", "modules/sd_samplers_timesteps_impl.py:15", READ},
        {NULL, "sigma 0", "comfy/samplers.py:430", READ},
        {NULL, "sigma 0", "src/runtime/denoiser.hpp:52", READ}}},
    {NULL, "penultimate sigma", {
        {NULL, "kept", "", READ},
        {NULL, "kept", "", READ},
        {NULL, "left out for DPM2, DPM2 a, DPM++ 3M SDE, not here", "modules/sd_samplers_kdiffusion.py:16", NOT_HERE},
        {NULL, "left out for dpm_2, uni_pc, not here", "comfy/samplers.py:1100", NOT_HERE},
        {NULL, "kept", "src/runtime/denoiser.hpp:32", READ}}},
    {NULL, "alphas_cumprod", {
        {NULL, "float32", "schedulers/scheduling_ddim.py:230", RUN},
        {NULL, "float64, not here", "ldm/models/diffusion/ddpm.py:125", NOT_HERE},
        {NULL, "float64, not here", "ldm/models/diffusion/ddpm.py:125", NOT_HERE},
        {NULL, "float32 of float64 betas, not here", "comfy/model_sampling.py:133", NOT_HERE},
        {NULL, "float32, another sum, not here", "src/stable-diffusion.cpp:183", NOT_HERE}}},
    {"strength", "strength", {
        {NULL, "0.8, inpainting 1", IMG2IMG ":864, " INPAINT ":890", READ},
        {"0.75", "0.75", "scripts/img2img.py:162", READ},
        {"0.75", "0.75", "modules/ui.py:663", READ},
        {"1", "1", "nodes.py:1513", READ},
        {"0.75", "0.75", "src/stable-diffusion.cpp:3718", READ}}},
    {"strength_steps", "steps that a strength leaves", {
        {"share", "int(steps strength)", IMG2IMG ":726", RUN},
        {"above", "as many, with the noise of the step before",
         "scripts/img2img.py:240, ldm/models/diffusion/ddim.py:207", RUN},
        {"share+1", "int(steps strength) + 1", "modules/sd_samplers_common.py:29, sd_samplers_kdiffusion.py:139", RUN},
        {"all", "all: the last of int(steps / strength)", "comfy/samplers.py:1139", RUN},
        {"share+1", "int(steps strength) + 1", "src/stable-diffusion.cpp:4945, 4971", WRITTEN}}},
    {"posterior", "latents of a picture", {
        {"sample", "a sample, by the run's generator", IMG2IMG ":769", RUN},
        {"mean", "a sample that no seed gives again; here the mean",
         "ldm/modules/distributions/distributions.py:36", READ},
        {"mean", "a sample that no seed gives again; here the mean", "modules/sd_samplers_common.py:103", READ},
        {"mean", "the mean", "comfy/ldm/models/autoencoder.py:14", RUN},
        {"again", "a sample, the generator begins again", "src/stable-diffusion.cpp:5630, 5681", WRITTEN}}},
    {"mask_rule", "the kept part comes back in", {
        {"latents", "the latents, after each step", INPAINT ":1303", RUN},
        {NULL, "no script has it", "scripts/inpaint.py", READ},
        {"x0", "each predicted picture", "modules/sd_samplers_cfg_denoiser.py:292", WRITTEN},
        {"both", "what the UNet sees, and each predicted picture", "comfy/samplers.py:407, 410", RUN},
        {"x0", "each predicted picture", "src/stable-diffusion.cpp:2889", WRITTEN}}},
    {NULL, "the mask at the latents' size", {
        {NULL, "nearest", INPAINT ":771", RUN},
        {NULL, "nearest", "scripts/inpaint.py:77", READ},
        {NULL, "bicubic, rounded, not here", "modules/processing.py:1738", NOT_HERE},
        {NULL, "bilinear, soft, not here", "comfy/utils.py:1044", NOT_HERE},
        {NULL, "the largest, not here", "src/stable-diffusion.cpp:5005", NOT_HERE}}},
    {NULL, "blur of the mask", {
        {NULL, "none", "", READ},
        {NULL, "none", "", READ},
        {NULL, "4 pixels: give --mask-blur 4", "modules/processing.py:1563", READ},
        {NULL, "none", "", READ},
        {NULL, "none", "", READ}}},
    {"paste_back", "kept pixels are pasted back", {
        {"false", "no, without padding_mask_crop", INPAINT ":1355", READ},
        {"true", "yes", "scripts/inpaint.py:96", READ},
        {"true", "yes", "modules/processing.py:1077", READ},
        {"false", "no", "nodes.py:290", READ},
        {"false", "no", "src/stable-diffusion.cpp:5407", READ}}},
    {"bytes", "bytes of 255 x", {
        {"round", "rounded, halves to even", "image_processor.py:143", RUN},
        {"truncate", "cut off", "scripts/txt2img.py:324", WRITTEN},
        {"truncate", "cut off", "modules/processing.py:1035", WRITTEN},
        {"truncate", "cut off", "nodes.py:1594", WRITTEN},
        {"half-up", "rounded, halves up", "src/runtime/preprocessing.hpp:34", WRITTEN}}},
    {NULL, "scaling_factor", {
        {NULL, "divided by before decoding", PIPE ":1085", RUN},
        {NULL, "times 1/0.18215", "ldm/models/diffusion/ddpm.py:713", READ},
        {NULL, "times 1/0.18215", "ldm/models/diffusion/ddpm.py:713", READ},
        {NULL, "divided by", "comfy/latent_formats.py:15", READ},
        {NULL, "divided by", "src/model/vae/auto_encoder_kl.hpp:825", READ}}},
    {NULL, "clip skip: the last layer is", {
        {NULL, "0: give one more to --clip-skip", PIPE ":342", READ},
        {NULL, "no option", "ldm/modules/encoders/modules.py:158", READ},
        {NULL, "1, as here", "modules/sd_hijack_clip.py:352", READ},
        {NULL, "-1: give its positive number", "nodes.py:627", READ},
        {NULL, "1, as here", "src/conditioning/conditioner.hpp:425", READ}}},
    {"negative_prompt", "SDXL without a negative prompt", {
        {NULL, "zeros", XL ":424", RUN},
        {NULL, "no SDXL", "", READ},
        {NULL, "zeros", "modules/sd_models_xl.py:31", READ},
        {"", "an empty text", "nodes.py:72", READ},
        {NULL, "zeros, but not for the pooled vector, not here", "src/stable-diffusion.cpp:5258", NOT_HERE}}},
    {NULL, "weights in a prompt", {
        {NULL, "none", "", READ},
        {NULL, "none", "", READ},
        {NULL, "(word:1.2), the mean kept, not here", "modules/sd_emphasis.py:41", NOT_HERE},
        {NULL, "(word:1.2), from the empty text, not here", "comfy/sd1_clip.py:62", NOT_HERE},
        {NULL, "(word:1.2), the mean kept, not here", "src/conditioning/conditioner.hpp:113", NOT_HERE}}},
    {NULL, "more than 75 tokens", {
        {NULL, "are cut off", PIPE ":399", RUN},
        {NULL, "are cut off", "ldm/modules/encoders/modules.py:153", READ},
        {NULL, "windows of 75, not here", "modules/sd_hijack_clip.py:35", NOT_HERE},
        {NULL, "windows of 75, not here", "comfy/sd1_clip.py:526", NOT_HERE},
        {NULL, "windows of 75, not here", "src/conditioning/conditioner.hpp", NOT_HERE}}},
    {NULL, "order of the guided batch", {
        {NULL, "negative, prompt", PIPE ":978", RUN},
        {NULL, "negative, prompt; no bit depends on it here", "ldm/models/diffusion/ddim.py:176", READ},
        {NULL, "prompt, negative; no bit depends on it here", "modules/sd_samplers_cfg_denoiser.py:203", READ},
        {NULL, "by free memory; no bit depends on it here", "comfy/samplers.py:192", READ},
        {NULL, "one by one; no bit depends on it here", "src/stable-diffusion.cpp:2560", READ}}},
};

/* ---------------------------------------------------------------------------------------- following */

/* A number that the model itself says is better than a program's for all models. */
static bool models_own(const sd_model *m, const char *key)
{
    const sd_family *f = m->family ? m->family : sd_family_of_inputs(&m->unet->cfg);
    bool few = f && (f->steps != 25 || f->guidance <= 1);
    if (strcmp(key, "steps") == 0) return few || m->sched.steps != SD_DEFAULT;
    if (strcmp(key, "guidance_scale") == 0) return few || m->sched.guidance_scale != SD_DEFAULT;
    return strcmp(key, "sampler") == 0 && few;
}

/* Schedules by k-diffusion's formulas, where other programs' names mean them. */
static const char *kdiffusion_schedule(const char *name)
{
    sd_curve curve;
    sd_error quiet = {.status = SD_OK};
    if (!name || sd_curve_parse(&curve, name, &quiet)) return name;
    return curve == SD_CURVE_KARRAS ? sd_curve_name(SD_CURVE_KARRAS_K)
        : curve == SD_CURVE_EXPONENTIAL ? sd_curve_name(SD_CURVE_EXPONENTIAL_K) : name;
}

/* A sampler's plain name means another program's, and has its schedule. */
static void follow_sampler(int program, sd_sampling_params *s, const char **brownian)
{
    sd_method m;
    sd_program p;
    sd_error quiet = {.status = SD_OK};
    bool listed = s->sigmas || s->timesteps;
    if (!programs[program].kdiffusion || !s->sampler || sd_method_parse(&m, &p, s->sampler, &quiet)) return;
    const char *usual = programs[program].schedule;
    const char *schedule = s->schedule ? s->schedule : sd_method_schedule(s->sampler);
    if (!strchr(s->sampler, '@') && sd_method_about(m)->kdiffusion) p = SD_KDIFFUSION;
    s->sampler = sd_method_full_name(m, p);
    if (p == SD_DIFFUSERS) return;
    if (!schedule && strcmp(usual, "automatic") != 0) schedule = usual;
    else if (!schedule || sd_same_name(schedule, "automatic"))
        schedule = sd_method_automatic(m) == SD_CURVE_SPACED ? NULL : sd_curve_name(sd_method_automatic(m));
    if (!listed && sd_method_takes_schedules(m)) s->schedule = kdiffusion_schedule(schedule);
    bool sde = m == SD_DPMPP_SDE || m == SD_DPMPP_2M_SDE || m == SD_DPMPP_3M_SDE;
    if (sde) *brownian = programs[program].brownian;
}

void sd_like_apply(const sd_model *m, sd_params *p)
{
    int program = p->like ? sd_param_word("like", p->like) : -1;
    if (program < 0) return;
    bool own_levels = p->sampling.sigmas || p->sampling.timesteps;
    const char *given = p->sampler_rng, *brownian = NULL;
    for (size_t i = 0; i < SD_COUNT(rows); i++) {
        const char *sets = rows[i].by[program].sets;
        const sd_param *row = rows[i].key && sets ? sd_param_find(rows[i].key) : NULL;
        if (!row || !sd_param_is_default(p, row) || models_own(m, rows[i].key)) continue;
        if (strcmp(rows[i].key, "strength") == 0 && (!p->edit.init || p->edit.strength != SD_DEFAULT)) continue;
        if (strcmp(rows[i].key, "steps") == 0 && own_levels) continue;
        sd_param_set_constant(p, row, sets);
    }
    follow_sampler(program, &p->sampling, &brownian);
    if (brownian && !given) p->sampler_rng = brownian;
}

/* ------------------------------------------------------------------------------------- the table */

int sd_get_like_sized(int i, sd_like_info *info, size_t size)
{
    if (i < 0 || i >= PROGRAMS || !info) return 0;
    sd_like_info all = {programs[i].key, programs[i].title, programs[i].version};
    sd_copy_struct(info, size, &all, sizeof all);
    return 1;
}

int sd_get_like_row_sized(int row, int program, sd_like_row *out, size_t size)
{
    if (row < 0 || (size_t)row >= SD_COUNT(rows) || program < 0 || program >= PROGRAMS || !out) return 0;
    const cell *c = &rows[row].by[program];
    sd_like_row all = {rows[row].what, rows[row].key, c->does, c->sets, c->at, c->check};
    sd_copy_struct(out, size, &all, sizeof all);
    return 1;
}
