/* params_write.c - floor 6: the text that is stored with a picture, from which it can be drawn again: A1111's layout
 * and keys, and keys of our own for what that program has no name for. params_read.c reads it.
 *
 * Numbers have as many digits as it takes to read the same double back. A value with a comma, a colon or a newline is a
 * JSON string. Of a file the text has the name without directories, and a hash of what was read from it. */
#include "pipeline_edit.h"
#include "rng_streams.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------- keys and values */

static void add_value(sd_text *t, const char *key, const char *value)
{
    size_t n = strlen(value);
    bool quote = !n || value[0] == ' ' || value[n - 1] == ' ' || value[0] == '"';
    for (const char *c = value; *c; c++) quote |= *c == ',' || *c == ':' || (unsigned char)*c < 32;
    if (t->n && t->s[t->n - 1] != '\n') sd_text_add(t, ", ");
    sd_text_add(t, "%s: ", key);
    if (quote) sd_text_quoted(t, value);
    else sd_text_addn(t, value, n);
}

static void add_number(sd_text *t, const char *key, double x)
{
    char number[SD_NUMBER_SIZE];
    add_value(t, key, sd_number_text(number, x));
}

static void add_whole(sd_text *t, const char *key, long long x)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", x);
    add_value(t, key, digits);
}

static void add_truth(sd_text *t, const char *key, bool x) { add_value(t, key, x ? "true" : "false"); }

static void add_list(sd_text *t, const char *key, const double *x, int n)
{
    sd_text list = {0};
    for (int i = 0; i < n; i++) {
        char number[SD_NUMBER_SIZE];
        sd_text_add(&list, "%s%s", i ? "," : "", sd_number_text(number, x[i]));
    }
    if (list.failed) t->failed = true;
    else if (n) add_value(t, key, list.s);
    free(list.s);
}

/* The last part of a path, as UTF-8. free() it. */
static char *name_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 2 && path[n - 1] == '.' && path[n - 2] == '/') {   /* "x/." is x */
        n -= 2;
        while (n > 1 && path[n - 1] == '/') n--;
    }
    size_t begin = n;
    while (begin && path[begin - 1] != '/') begin--;
    char *name = malloc(n - begin + 1);
    if (!name) return NULL;
    memcpy(name, path + begin, n - begin);
    name[n - begin] = 0;
    bool utf8 = sd_is_utf8(name, n - begin);
    for (char *c = name; *c && !utf8; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    return name;
}

static void add_name(sd_text *t, const char *key, const char *path)
{
    char *name = path ? name_of(path) : NULL;
    if (path && !name) t->failed = true;
    if (name) add_value(t, key, name);
    free(name);
}

/* ---------------------------------------------------------------------------------------- hashes */

/* As A1111 hashes the picture that it began from: MD5 of its pixels, RGB, or RGBA if it has alpha. */
static void add_picture_hash(sd_text *t, const char *key, const sd_image *i)
{
    sd_md5 m;
    char hex[33];
    size_t n = (size_t)i->width * (size_t)i->height;
    sd_md5_init(&m);
    if (i->channels > 1) sd_md5_add(&m, i->data, n * (size_t)i->channels);
    for (size_t k = 0; i->channels == 1 && k < n; k++)
        sd_md5_add(&m, (const uint8_t[]){i->data[k], i->data[k], i->data[k]}, 3);
    sd_md5_hex(&m, hex);
    add_value(t, key, hex);
}

/* MD5 of float32 numbers, little-endian. */
static void add_numbers_hash(sd_text *t, const char *key, const float *x, size_t n)
{
    sd_md5 m;
    char hex[33];
    sd_md5_init(&m);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        const unsigned char le[] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                                    (unsigned char)(bits >> 24)};
        sd_md5_add(&m, le, 4);
    }
    sd_md5_hex(&m, hex);
    add_value(t, key, hex);
}

/* --------------------------------------------------------------------------------- groups of keys */

/* A1111's names of the levels' schedules [modules/sd_schedulers.py]; NULL: it has none. */
static const char *const labels[SD_CURVE_COUNT] = {
    [SD_CURVE_KARRAS] = "Karras", [SD_CURVE_EXPONENTIAL] = "Exponential", [SD_CURVE_BETA] = "Beta",
    [SD_CURVE_LINSPACE_K] = "Uniform", [SD_CURVE_KARRAS_K] = "Karras", [SD_CURVE_EXPONENTIAL_K] = "Exponential",
    [SD_CURVE_POLYEXPONENTIAL_K] = "Polyexponential", [SD_CURVE_SGM_UNIFORM] = "SGM Uniform",
    [SD_CURVE_SIMPLE] = "Simple", [SD_CURVE_DDIM_UNIFORM] = "DDIM", [SD_CURVE_BETA_COMFY] = "Beta",
    [SD_CURVE_KL_OPTIMAL] = "KL Optimal", [SD_CURVE_AYS_SD1] = "Align Your Steps",
    [SD_CURVE_AYS_SDXL] = "Align Your Steps",
};

/* A1111's names, and ours where those do not say all. */
static void add_sampler(sd_text *t, const sd_params *p, const sd_sched_config *s)
{
    sd_curve curve;
    sd_error none = {.status = SD_OK};
    const char *sampler = sd_method_about(s->method)->a1111, *schedule = labels[s->curve];
    add_value(t, "Sampler", sampler);
    if (!sd_name_means(sampler, s->method, s->program))
        add_value(t, "Sampler name", sd_method_full_name(s->method, s->program));
    if (p->sampling.sigmas || p->sampling.timesteps) return;   /* see add_levels */
    if (schedule) add_value(t, "Schedule type", schedule);
    bool said = schedule && !sd_curve_parse(&curve, schedule, &none) && curve == s->curve;
    if (!said) add_value(t, "Schedule name", sd_curve_name(s->curve));
}

/* What A1111 knows, where it puts it. */
static void add_common(sd_ctx *c, sd_text *t, const sd_params *p, const sd_edit *edit)
{
    bool own_size = edit->way == SD_EDIT_CANVAS;
    uint64_t seed = p->seed + (p->seed_per_image && p->keep ? (uint64_t)p->keep - 1 : 0);
    add_number(t, "CFG scale", p->guidance.scale);
    sd_text_add(t, ", Seed: %llu, Size: %dx%d", (unsigned long long)seed, own_size ? edit->out_width : p->width,
                own_size ? edit->out_height : p->height);
    add_value(t, "Model fingerprint", sd_model_fingerprint(&c->model));
    char *name = name_of(c->model.path);
    bool nameless = name && (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0);
    char *real = nameless ? sd_os_full_path(c->model.path) : NULL;   /* "." and ".." have no name of their own */
    add_name(t, "Model", real ? real : c->model.path);
    free(real);
    free(name);
    if (p->edit.init) add_number(t, "Denoising strength", p->edit.strength);
    if (p->clip_skip > 1) add_whole(t, "Clip skip", p->clip_skip);
    if (p->edit.init) add_picture_hash(t, "Init image hash", p->edit.init);
}

/* A random stream by the name A1111 has for it, or by ours; or its file. */
static void add_stream(sd_ctx *c, sd_text *t, const char *key, const char *hash_key, const char *spec)
{
    static const char *const a1111[][2] = {{"torch-cpu", "CPU"}, {"torch-cuda", "NV"}};
    const char *name = spec ? sd_stream_canonical(spec) : "torch-cpu", *ending = strrchr(name, '.');
    bool file = ending && strcmp(ending, ".safetensors") == 0;
    for (size_t i = 0; i < SD_COUNT(a1111); i++)
        if (strcmp(name, a1111[i][0]) == 0) name = a1111[i][1];
    if (!file) {
        add_value(t, key, name);
        return;
    }
    float *numbers;
    int nd;
    int64_t d[4];
    add_name(t, key, name);
    if (sd_read_floats(spec, "noise", &numbers, &nd, d, &c->err)) return;
    add_numbers_hash(t, hash_key, numbers, (size_t)(d[0] * d[1] * d[2] * d[3]));
    free(numbers);
}

static void add_randomness(sd_ctx *c, sd_text *t, const sd_params *p, const sd_sched_config *s)
{
    add_stream(c, t, "RNG", "RNG hash", p->rng);
    if (p->sampler_rng) add_stream(c, t, "Sampler RNG", "Sampler RNG hash", p->sampler_rng);
    if (p->seed_per_image) add_truth(t, "Seed per image", true);
    if (p->batch > 1) add_whole(t, "Batch size", p->batch);
    if (p->batch > 1 && p->keep) add_whole(t, "Batch pos", p->keep - 1);
    if (p->noise) {
        add_value(t, "Initial noise", p->noise_name ? p->noise_name : "given");
        add_numbers_hash(t, "Initial noise hash", p->noise, p->noise_count);
    }
    if (sd_method_about(s->method)->draws != SD_DRAWS_NEVER || p->sampling.eta != sd_method_about(s->method)->eta)
        add_number(t, "Eta", p->sampling.eta);
    if (p->sampling.s_churn > 0) {
        add_number(t, "Sigma churn", p->sampling.s_churn);
        add_number(t, "Sigma tmin", p->sampling.s_tmin);
        if (isfinite(p->sampling.s_tmax)) add_number(t, "Sigma tmax", p->sampling.s_tmax);
    }
    if (p->sampling.s_noise != 1) add_number(t, "Sigma noise", p->sampling.s_noise);
}

/* What the levels and the predictions are. */
static void add_levels(sd_text *t, const sd_params *p)
{
    if (p->guidance.rescale > 0) add_number(t, "CFG rescale phi", p->guidance.rescale);
    if (p->sampling.sigmas) add_list(t, "Sigmas", p->sampling.sigmas, p->sampling.sigma_count);
    if (p->sampling.timesteps) add_list(t, "Timesteps", p->sampling.timesteps, p->sampling.timestep_count);
    if (p->sampling.order) add_whole(t, "Order", p->sampling.order);
    add_value(t, "Timestep spacing", p->sampling.spacing);
    add_whole(t, "Steps offset", p->sampling.steps_offset);
    add_value(t, "Prediction", p->sampling.prediction);
    add_truth(t, "Set alpha to one", p->sampling.set_alpha_to_one);
    add_truth(t, "Clip sample", p->sampling.clip_sample);
}

static void add_edit(sd_text *t, const sd_params *p, const sd_edit *edit)
{
    const int *m = p->edit.outpaint;
    if (!p->edit.init) return;
    add_name(t, "Init image", p->edit.init_name);
    if (edit->way == SD_EDIT_CANVAS) add_truth(t, "Keeps size", true);
    if (p->edit.mask) {
        add_name(t, "Mask", p->edit.mask_name);
        add_picture_hash(t, "Mask hash", p->edit.mask);
    }
    if (p->edit.alpha_mask) add_truth(t, "Alpha mask", true);
    if (p->edit.invert_mask) add_value(t, "Mask mode", "Inpaint not masked");
    if (p->edit.mask_blur > 0) add_number(t, "Mask blur", p->edit.mask_blur);
    if (p->edit.inpaint_crop >= 0) {
        add_value(t, "Inpaint area", "Only masked");
        add_whole(t, "Masked area padding", p->edit.inpaint_crop);
    }
    if (!p->edit.paste_back) add_truth(t, "Paste back", false);
    if (m[0] || m[1] || m[2] || m[3]) {
        const double margins[] = {m[0], m[1], m[2], m[3]};
        add_list(t, "Outpaint", margins, 4);
    }
    if (p->edit.resize) add_value(t, "Resize", p->edit.resize);
}

/* Bits of the result depend on these. With its own products a picture does not depend on the number of threads. */
static void add_kernels(const sd_ctx *c, sd_text *t)
{
    /* precise: the same bits on every machine */
    add_value(t, "Kernels", c->cpu.kern->precise ? "precise" : c->cpu.kern->name);
    if (!c->cpu.blas) return;
    add_value(t, "Products", "openblas");
    add_whole(t, "Threads", c->cpu.threads);
}

/* ------------------------------------------------------------------------------------- all of it */

static void add_prompts(sd_text *t, const sd_params *p)
{
    sd_text_add(t, "%s\n", p->prompt);
    if (*p->negative_prompt) sd_text_add(t, "Negative prompt: %s\n", p->negative_prompt);
}

/* Prompts that the layout cannot hold ("\nNegative prompt:" within one) are told once more, as strings. */
static void add_prompts_exactly(sd_text *t, const sd_params *p)
{
    sd_recipe *r;
    char error[512];
    if (t->failed || sd_recipe_read(t->s, &r, error)) return;
    const char *negative = r->params.negative_prompt ? r->params.negative_prompt : "";
    bool same = strcmp(r->params.prompt, p->prompt) == 0 && strcmp(negative, p->negative_prompt) == 0;
    sd_recipe_free(r);
    if (same) return;
    add_value(t, "Prompt", p->prompt);
    add_value(t, "Negative prompt", p->negative_prompt);
}

sd_status sd_parameters_text(sd_ctx *c, const sd_params *params, char **text)
{
    sd_sched_config s;
    sd_params p;
    sd_edit edit = {0};
    sd_text t = {0};
    if (text) *text = NULL;
    if (sd_begin(c) || sd_given(c, "text", text)) return sd_end(c);
    sd_log log = c->log;
    c->log.fn = NULL;   /* what there is to notice was said when it was drawn */
    sd_resolve(c, params, &p, &s, &edit);
    c->log = log;
    if (c->err.status) return sd_end(c);
    add_prompts(&t, &p);
    add_whole(&t, "Steps", p.sampling.steps);
    add_sampler(&t, &p, &s);
    add_common(c, &t, &p, &edit);
    add_randomness(c, &t, &p, &s);
    add_levels(&t, &p);
    add_edit(&t, &p, &edit);
    add_kernels(c, &t);
    add_prompts_exactly(&t, &p);
    add_value(&t, "Version", "sd " SD_VERSION);
    if (t.failed) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the parameters' text");
    if (c->err.status) free(t.s);
    else *text = t.s;
    return sd_end(c);
}
