/* params_write.c - floor 6: the text that is stored with a picture, from which it can be drawn again: A1111's layout
 * and keys, and keys of our own for what that program has no name for. params_read.c reads it.
 *
 * Numbers have as many digits as it takes to read the same double back. A value with a comma, a colon or a newline is a
 * JSON string. Of a file the text has the name without directories, and a hash of what was read from it. */
#include "params.h"
#include "pipeline.h"
#include "pipeline_edit.h"
#include "rng_streams.h"
#include "tensors.h"
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

/* ------------------------------------------------------------------------------------------- rows */

/* What rows are written from. `p` is resolved. */
typedef struct sd_writer {
    sd_ctx *c;
    sd_text *t;
    const sd_params *p;
    const sd_sched_config *sched;
    const sd_edit *edit;
} sd_writer;

/* A1111's label, or ours in its manner; and our name where that does not say all. */
static void write_sampler(sd_writer *w, const sd_param *row)
{
    const sd_sched_config *s = w->sched;
    const char *sampler = sd_method_about(s->method)->label;
    add_value(w->t, row->about.text_key, sampler);
    if (!sd_name_means(sampler, s->method, s->program))
        add_value(w->t, "Sampler name", sd_method_full_name(s->method, s->program));
}

static void write_schedule(sd_writer *w, const sd_param *row)
{
    sd_curve curve;
    sd_error none = {.status = SD_OK};
    const char *schedule = labels[w->sched->curve];
    if (w->p->sampling.sigmas || w->p->sampling.timesteps) return;   /* which say it themselves */
    if (schedule) add_value(w->t, row->about.text_key, schedule);
    bool said = schedule && !sd_curve_parse(&curve, schedule, &none) && curve == w->sched->curve;
    if (!said) add_value(w->t, "Schedule name", sd_curve_name(w->sched->curve));
}

static void write_seed(sd_writer *w, const sd_param *row)
{
    const sd_params *p = w->p;
    uint64_t seed = p->seed + (p->seed_per_image && p->keep ? (uint64_t)p->keep - 1 : 0);
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)seed);
    add_value(w->t, row->about.text_key, digits);
}

static void write_size(sd_writer *w, const sd_param *row)
{
    const sd_edit *e = w->edit;
    bool own = e->way == SD_EDIT_CANVAS;
    char size[32];
    snprintf(size, sizeof size, "%dx%d", own ? e->out_width : w->p->width, own ? e->out_height : w->p->height);
    add_value(w->t, row->about.text_key, size);
}

/* A random stream by the name A1111 has for it, or by ours; or its file, and under "... hash" what is in it. */
static void write_stream(sd_writer *w, const sd_param *row)
{
    static const char *const a1111[][2] = {{"torch-cpu", "CPU"}, {"torch-cuda", "NV"}};
    const char *spec = *(const char *const *)((const char *)w->p + row->about.offset);
    if (!spec && row->written != SD_WRITTEN_ALWAYS) return;
    const char *name = spec ? sd_stream_canonical(spec) : "torch-cpu", *ending = strrchr(name, '.');
    bool file = ending && strcmp(ending, ".safetensors") == 0;
    for (size_t i = 0; i < SD_COUNT(a1111); i++)
        if (strcmp(name, a1111[i][0]) == 0) name = a1111[i][1];
    if (!file) {
        add_value(w->t, row->about.text_key, name);
        return;
    }
    char hash_key[32];
    float *numbers;
    int nd;
    int64_t d[4];
    snprintf(hash_key, sizeof hash_key, "%s hash", row->about.text_key);
    add_name(w->t, row->about.text_key, name);
    if (sd_read_floats(spec, "noise", &numbers, &nd, d, &w->c->err)) return;
    add_numbers_hash(w->t, hash_key, numbers, (size_t)(d[0] * d[1] * d[2] * d[3]));
    free(numbers);
}

static void write_place(sd_writer *w, const sd_param *row)
{
    if (w->p->batch > 1 && w->p->keep) add_whole(w->t, row->about.text_key, w->p->keep - 1);
}

static void write_noise(sd_writer *w, const sd_param *row)
{
    const sd_params *p = w->p;
    if (!p->noise) return;
    add_value(w->t, row->about.text_key, p->noise_name ? p->noise_name : "given");
    add_numbers_hash(w->t, "Initial noise hash", p->noise, p->noise_count);
}

static void write_latents(sd_writer *w, const sd_param *row)
{
    const sd_params *p = w->p;
    if (!p->latents) return;
    add_name(w->t, row->about.text_key, p->latents_name ? p->latents_name : "given");
    add_numbers_hash(w->t, "Latents hash", p->latents, p->latents_count);
}

static void write_eta(sd_writer *w, const sd_param *row)
{
    const sd_sampler_info *about = sd_method_about(w->sched->method);
    double eta = w->p->sampling.eta;
    if (about->draws != SD_DRAWS_NEVER || eta != about->eta) add_number(w->t, row->about.text_key, eta);
}

static void write_churn(sd_writer *w, const sd_param *row)
{
    const sd_sampling_params *s = &w->p->sampling;
    if (!(s->s_churn > 0)) return;
    add_number(w->t, row->about.text_key, s->s_churn);
    add_number(w->t, "Sigma tmin", s->s_tmin);
    if (isfinite(s->s_tmax)) add_number(w->t, "Sigma tmax", s->s_tmax);
}

static void write_init(sd_writer *w, const sd_param *row)
{
    add_name(w->t, row->about.text_key, w->p->edit.init_name);
    if (w->edit->way == SD_EDIT_CANVAS) add_truth(w->t, "Keeps size", true);
}

static void write_mask(sd_writer *w, const sd_param *row)
{
    if (!w->p->edit.mask) return;
    add_name(w->t, row->about.text_key, w->p->edit.mask_name);
    add_picture_hash(w->t, "Mask hash", w->p->edit.mask);
}

static void write_depth(sd_writer *w, const sd_param *row)
{
    const sd_edit_params *e = &w->p->edit;
    if (!e->depth) return;
    add_name(w->t, row->about.text_key, e->depth_name ? e->depth_name : "given");
    add_numbers_hash(w->t, "Depth map hash", e->depth, (size_t)e->depth_width * (size_t)e->depth_height);
}

static void write_mask_mode(sd_writer *w, const sd_param *row)
{
    if (w->p->edit.invert_mask) add_value(w->t, row->about.text_key, "Inpaint not masked");
}

static void write_crop(sd_writer *w, const sd_param *row)
{
    if (w->p->edit.inpaint_crop < 0) return;
    add_value(w->t, row->about.text_key, "Only masked");
    add_whole(w->t, "Masked area padding", w->p->edit.inpaint_crop);
}

static void write_value(sd_writer *w, const sd_param *row)
{
    sd_text value = {0};
    if (row->written == SD_WRITTEN_NEVER) return;
    bool changed = sd_param_add_text(&value, w->p, row);
    sd_text_addn(&value, "", 0);
    if (value.failed) w->t->failed = true;
    else if (changed || row->written == SD_WRITTEN_ALWAYS) add_value(w->t, row->about.text_key, value.s);
    free(value.s);
}

/* ---- what is no parameter */

static void add_model_name(sd_text *t, const char *key, const char *path)
{
    char *name = name_of(path);
    bool nameless = name && (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0);
    char *real = nameless ? sd_os_full_path(path) : NULL;   /* "." and ".." have no name of their own */
    add_name(t, key, real ? real : path);
    free(real);
    free(name);
}

static void write_model(sd_writer *w, const sd_param *row)
{
    (void)row;
    sd_ctx *c = w->c;
    add_value(w->t, "Model fingerprint", sd_model_fingerprint(&c->model));
    add_model_name(w->t, "Model", c->model.path);
    char taesd[17];
    if (!sd_model_taesd_fingerprint(&c->model, taesd)) return;
    add_name(w->t, "TAESD", c->model.taesd);
    add_value(w->t, "TAESD fingerprint", taesd);
}

/* A1111's two keys, and ours for a hash that A1111 does not know. */
static void write_refiner(sd_writer *w, const sd_param *row)
{
    if (!sd_run_has_refiner(w->c, w->p)) return;
    add_model_name(w->t, "Refiner", w->c->refiner.path);
    add_number(w->t, row->about.text_key, w->p->sampling.refiner_at);
    add_value(w->t, "Refiner fingerprint", sd_model_fingerprint(&w->c->refiner));
}

static void write_init_hash(sd_writer *w, const sd_param *row)
{
    (void)row;
    const sd_edit_params *e = &w->p->edit;
    if (e->init && e->init_hash) add_value(w->t, "Init image hash", e->init_hash);
    else if (e->init) add_picture_hash(w->t, "Init image hash", e->init);
}

/* The order of the keys: A1111's where that program puts them; key NULL: what is no parameter. Rows that are not listed
 * follow with their values. */
static const struct { const char *key; void (*write)(sd_writer *w, const sd_param *row); } order[] = {
    {"steps", write_value}, {"sampler", write_sampler}, {"schedule", write_schedule}, {"guidance_scale", write_value},
    {"seed", write_seed}, {"width", write_size}, {NULL, write_model}, {"strength", write_value},
    {"clip_skip", write_value}, {NULL, write_init_hash}, {"rng", write_stream}, {"sampler_rng", write_stream},
    {"seed_per_image", write_value}, {"batch", write_value}, {"keep", write_place}, {"noise_name", write_noise},
    {"refiner_at", write_refiner}, {"latents_name", write_latents},
    {"eta", write_eta}, {"s_churn", write_churn}, {"s_noise", write_value}, {"guidance_rescale", write_value},
    {"sigmas", write_value}, {"timesteps", write_value}, {"order", write_value}, {"spacing", write_value},
    {"steps_offset", write_value}, {"prediction", write_value}, {"set_alpha_to_one", write_value},
    {"clip_sample", write_value}, {"init_name", write_init}, {"mask_name", write_mask}, {"alpha_mask", write_value},
    {"invert_mask", write_mask_mode}, {"mask_blur", write_value}, {"inpaint_crop", write_crop},
    {"paste_back", write_value}, {"outpaint", write_value}, {"resize", write_value},
    {"depth_name", write_depth},
};

static bool is_ordered(const sd_param *row)
{
    for (size_t i = 0; i < SD_COUNT(order); i++)
        if (order[i].key && strcmp(order[i].key, row->about.key) == 0) return true;
    return false;
}

/* Of a picture to begin from nothing is written where there is none. */
static bool is_written(const sd_writer *w, const sd_param *row)
{
    return !row || !sd_param_is_edit(row) || w->p->edit.init || strcmp(row->about.key, "depth_name") == 0;
}

static void write_rows(sd_writer *w)
{
    const sd_param *row;
    for (size_t i = 0; i < SD_COUNT(order); i++) {
        row = sd_param_find(order[i].key);
        if (is_written(w, row)) order[i].write(w, row);
    }
    for (size_t i = 0; (row = sd_param_at(i)) != NULL; i++)
        if (!is_ordered(row) && is_written(w, row)) write_value(w, row);
}

/* Bits of the result depend on these. With its own products a picture does not depend on the number of threads. */
static void add_kernels(const sd_ctx *c, sd_text *t)
{
    if (c->run.be != &sd_backend_cpu) {
        const char *label = sd_device_name(&c->run), *name = strchr(label, ' ');
        add_value(t, "Kernels", c->run.be->name);
        add_value(t, "Device", name ? name + 1 : label);   /* its number is the machine's own */
        return;
    }
    /* precise: the same bits on every machine */
    add_value(t, "Kernels", c->cpu.kern->precise ? "precise" : c->cpu.kern->name);
    if (!c->cpu.blas) return;
    add_value(t, "Products", "openblas");
    add_whole(t, "Threads", c->cpu.threads);
}

/* ------------------------------------------------------------------------------------- all of it */

/* An empty negative prompt has a line only where it is another thing than none. */
static void add_prompts(const sd_ctx *c, sd_text *t, const sd_params *p)
{
    sd_text_add(t, "%s\n", p->prompt);
    if (p->negative_prompt && (*p->negative_prompt || c->model.zeros_for_no_negative))
        sd_text_add(t, "Negative prompt: %s\n", p->negative_prompt);
}

/* Prompts that the layout cannot hold ("\nNegative prompt:" within one) are written once more, as JSON strings. */
static void add_prompts_exactly(sd_text *t, const sd_params *p)
{
    sd_recipe *r;
    char error[512];
    if (t->failed || sd_recipe_read(t->s, &r, error)) return;
    const char *negative = r->params->negative_prompt ? r->params->negative_prompt : "";
    const char *wanted = p->negative_prompt ? p->negative_prompt : "";
    bool same = strcmp(r->params->prompt, p->prompt) == 0 && strcmp(negative, wanted) == 0;
    sd_recipe_free(r);
    if (same) return;
    add_value(t, "Prompt", p->prompt);
    add_value(t, "Negative prompt", wanted);
}

sd_status sd_parameters_text(sd_ctx *c, const sd_params *params, char **text)
{
    sd_sched_config s;
    sd_params p;
    sd_edit edit = {0};
    sd_text t = {0};
    char given[64];
    if (text) *text = NULL;
    if (sd_begin(c) || sd_check_not_null(c, "text", text)) return sd_end(c);
    sd_log log = c->log;
    c->log.fn = NULL;   /* notices were given when the picture was drawn */
    sd_resolve(c, params, &p, &s, &edit);
    c->log = log;
    if (c->err.status) return sd_end(c);
    add_prompts(c, &t, &p);
    write_rows(&(sd_writer){c, &t, &p, &s, &edit});
    if (*sd_given_names(c, given)) add_value(&t, "Given", given);
    add_kernels(c, &t);
    add_prompts_exactly(&t, &p);
    add_value(&t, "Version", "sd " SD_VERSION);
    if (t.failed) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the parameters' text");
    if (c->err.status) free(t.s);
    else *text = t.s;
    return sd_end(c);
}
