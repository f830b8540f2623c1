/* params_read.c - floor 6: reads the texts that pictures are stored with: ours (params_write.c writes it), A1111's web
 * UI's and stable-diffusion.cpp's. They have one layout: the prompt, the negative prompt behind "Negative prompt:", and
 * a last line of "Key: value, ...", where a value may be a JSON string.
 *
 * Texts come from anywhere. A last line that is no such line belongs to the prompt, keys without a meaning here are
 * named in a notice, and sd_resolve_params checks the values. */
#include "params.h"
#include "pipeline_edit.h"
#include "rng_streams.h"
#include "text.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reading {
    sd_recipe r;             /* first: it is what the caller holds */
    sd_params p;             /* r.params */
    enum { BY_US, BY_A1111, BY_SDCPP } by;
    char *text;              /* a copy; strings point into it */
    sd_text notices, unknown;   /* unknown: a list of keys */
    sd_error error;          /* no memory */
    const char *sampler, *sampler_name, *schedule_type, *schedule_name, *mask_mode, *inpaint_area;
    int batch_pos, hires, keeps_size, padding;
} reading;

static void notice(reading *g, const char *a, const char *b, const char *c)
{
    sd_text_add(&g->notices, "%s%s%s\n", a, b, c);
}

/* Names are of files in whatever directory the reader chooses. */
static const char *last_part(const char *name)
{
    const char *slash = name ? strrchr(name, '/') : NULL;
    return slash ? slash + 1 : name;
}

/* ------------------------------------------------------------------------------------------ keys */

/* Most keys are in the table of parameters (params.c). These are the keys of no parameter, and those whose value is not
 * just that of their parameter. */
typedef enum kind {
    TEXT,        /* const char * */
    WHOLE,       /* int */
    TRUTH,       /* int */
    SAME,        /* another name of a parameter */
    SEED, SIZE, PRODUCTS,
    HIRES,       /* drawn in two passes: the strength is the second one's */
    WITHOUT      /* it changes nothing */
} kind;

#define R(field) offsetof(reading, r.field), NULL
#define G(field) offsetof(reading, field), NULL
#define NOWHERE 0, NULL
static const struct { const char *name; kind kind; size_t target; const char *parameter; } keys[] = {
    {"Sampler", TEXT, G(sampler)}, {"Sampler name", TEXT, G(sampler_name)},
    {"Schedule type", TEXT, G(schedule_type)}, {"Schedule name", TEXT, G(schedule_name)},
    {"Seed", SEED, NOWHERE}, {"Size", SIZE, NOWHERE}, {"Keeps size", TRUTH, G(keeps_size)},
    {"Refiner", TEXT, R(refiner)}, {"Refiner fingerprint", TEXT, R(refiner_hash)},
    {"Latents hash", TEXT, R(latents_hash)},
    {"Model", TEXT, R(model)}, {"Model fingerprint", TEXT, R(model_hash)}, {"Init image hash", TEXT, R(init_hash)},
    {"TAESD", TEXT, R(taesd)}, {"TAESD fingerprint", TEXT, R(taesd_hash)},
    {"RNG hash", TEXT, R(rng_hash)}, {"Sampler RNG hash", TEXT, R(sampler_rng_hash)},
    {"Initial noise hash", TEXT, R(noise_hash)}, {"Mask hash", TEXT, R(mask_hash)},
    {"Depth map hash", TEXT, R(depth_hash)},
    {"Batch pos", WHOLE, G(batch_pos)}, {"Eta DDIM", SAME, 0, "eta"}, {"Mask mode", TEXT, G(mask_mode)},
    {"Inpaint area", TEXT, G(inpaint_area)}, {"Masked area padding", WHOLE, G(padding)},
    {"Kernels", TEXT, R(kernels)}, {"Device", TEXT, R(device)},
    {"Products", PRODUCTS, NOWHERE}, {"Threads", WHOLE, R(threads)},
    {"Version", TEXT, R(writer)},
    {"Hires upscale", HIRES, NOWHERE}, {"Hires resize", HIRES, NOWHERE}, {"Hires upscaler", HIRES, NOWHERE},
    {"First pass size", HIRES, NOWHERE},
    {"Model hash", WITHOUT, NOWHERE}, {"VAE hash", WITHOUT, NOWHERE}, {"User", WITHOUT, NOWHERE},
    {"Created Date", WITHOUT, NOWHERE},
    {"Guidance", WITHOUT, NOWHERE},   /* stable-diffusion.cpp writes it for models that have none, too */
};

/* Keys with a value that changes nothing. */
static const char *const neutral[][2] = {
    {"ENSD", "0"}, {"Tiling", "False"}, {"Masked content", "original"}, {"Conditional mask weight", "1.0"},
    {"Conditional mask weight", "1"}, {"VAE Encoder", "Full"}, {"VAE Decoder", "Full"}, {"FP8 weight", "Disable"},
    {"VAE", "Automatic"}, {"VAE", "None"}, {"Emphasis", "Original"}, {"Variation seed strength", "0"},
    {"Image CFG scale", "1.5"},   /* only models that edit by instructions (InstructPix2Pix) have one */
};

static void unknown_key(reading *g, const char *key, const char *value)
{
    for (size_t i = 0; i < SD_COUNT(neutral); i++)
        if (strcmp(key, neutral[i][0]) == 0 && strcmp(value, neutral[i][1]) == 0) return;
    sd_text_add(&g->unknown, "%s%s", g->unknown.n ? ", " : "", key);
}

/* ---------------------------------------------------------------------------------------- values */

static bool read_whole(int *out, const char *value)
{
    double x;
    if (!sd_number_read(&x, value) || x != floor(x) || fabs(x) > INT_MAX) return false;
    *out = (int)x;
    return true;
}

static bool read_truth(int *out, const char *value)
{
    bool yes = strcmp(value, "true") == 0 || strcmp(value, "True") == 0;
    if (!yes && strcmp(value, "false") != 0 && strcmp(value, "False") != 0) return false;
    *out = yes;
    return true;
}

static bool read_size(sd_params *p, char *value)
{
    char *x = strchr(value, 'x');
    int width, height;
    if (!x) return false;
    *x = 0;
    bool good = read_whole(&width, value) && read_whole(&height, x + 1);
    *x = 'x';
    if (!good || width < 1 || height < 1) return false;
    p->width = width;
    p->height = height;
    return true;
}

static bool read_parameter(reading *g, const char *key, const char *value)
{
    return sd_param_read(&g->p, sd_param_find(key), value, &g->error);
}

static bool set(reading *g, size_t i, char *value)
{
    void *field = (char *)g + keys[i].target;
    switch (keys[i].kind) {
    case TEXT: *(const char **)field = value; return true;
    case WHOLE: return read_whole(field, value);
    case TRUTH: return read_truth(field, value);
    case SAME: return read_parameter(g, keys[i].parameter, value);
    case SEED: return (g->r.has_seed = read_parameter(g, "seed", value)) != 0;
    case SIZE: return read_size(&g->p, value);
    case PRODUCTS: if (strcmp(value, "openblas") == 0) g->r.gemm = SD_GEMM_OPENBLAS; return true;
    case HIRES: g->hires = 1; unknown_key(g, keys[i].name, value); return true;
    case WITHOUT: return true;
    }
    return false;
}

static void take_pair(reading *g, const char *key, char *value)
{
    size_t i = 0;
    while (i < SD_COUNT(keys) && strcmp(key, keys[i].name) != 0) i++;
    const sd_param *row = i < SD_COUNT(keys) ? NULL : sd_param_find_text(key);
    bool known = row || i < SD_COUNT(keys);
    bool read = row ? sd_param_read(&g->p, row, value, &g->error) : known && set(g, i, value);
    if (!known) unknown_key(g, key, value);
    else if (!read) notice(g, key, " is not understood: ", value);
}

/* ----------------------------------------------------------------------------------------- layout
 * A1111's own pattern for a pair is \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$), and a last line with three of
 * them holds the settings [modules/infotext_utils.py]. */

static bool in_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80);
}

/* Finds the next "key: value" of a line from *at on, and moves *at behind it; false at the end of the line. What is no
 * pair is skipped. */
static bool find_pair(char **at, char **key, char **key_end, char **value, char **value_end)
{
    for (char *s = *at; *s; s++) {
        if (!in_word(*s)) continue;
        char *end = s;
        while (in_word(*end) || *end == ' ' || *end == '-' || *end == '/') end++;
        if (*end != ':' || end - s < 2) {   /* no key: go on behind the comma */
            s = end;
            while (*s && *s != ',') s++;
            if (!*s) break;
            continue;
        }
        *key = s;
        *key_end = end;
        for (s = end + 1; *s == ' '; s++) continue;
        *value = s;
        if (*s == '"') {
            for (s++; *s && *s != '"'; s++)
                if (*s == '\\' && s[1]) s++;
            if (*s == '"' && (s[1] == ',' || !s[1])) {
                *value_end = s + 1;
                *at = s[1] ? s + 2 : s + 1;
                return true;
            }
            s = *value;
        }
        while (*s && *s != ',') s++;
        *at = *s ? s + 1 : s;
        while (s > *value && s[-1] == ' ') s--;
        *value_end = s;
        return true;
    }
    return false;
}

static int count_pairs(char *line)
{
    char *key, *key_end, *value, *value_end;
    int n = 0;
    while (n < 3 && find_pair(&line, &key, &key_end, &value, &value_end)) n++;
    return n;
}

static void take_pairs(reading *g, char *line)
{
    char *key, *key_end, *value, *value_end, *said;
    while (find_pair(&line, &key, &key_end, &value, &value_end)) {
        *key_end = *value_end = 0;
        while (key_end > key && key_end[-1] == ' ') *--key_end = 0;
        if (*value != '"' || !sd_text_unquote(value, &said)) said = value;
        take_pair(g, key, said);
    }
}

/* Splits the text: *line is its last line if that has settings, else NULL. */
static void split(reading *g, char **line)
{
    static const char mark[] = "Negative prompt:";
    size_t n = strlen(g->text);
    while (n && strchr("\r\n ", g->text[n - 1])) g->text[--n] = 0;
    char *last = strrchr(g->text, '\n'), *prompt = g->text, *negative = NULL;
    *line = last ? last + 1 : g->text;
    if (count_pairs(*line) < 3) *line = NULL;
    else if (last) last[last > g->text && last[-1] == '\r' ? -1 : 0] = 0;
    else prompt += n;
    for (char *s = prompt; s && !negative; s = strchr(s, '\n')) {
        if (*s == '\n') s++;
        if (strncmp(s, mark, sizeof mark - 1) != 0) continue;
        negative = s + sizeof mark - 1;
        if (s > prompt) s[s > prompt + 1 && s[-2] == '\r' ? -2 : -1] = 0;
        else *s = 0;
        if (*negative == ' ') negative++;
    }
    g->p.prompt = prompt;
    g->p.negative_prompt = negative;
}

/* --------------------------------------------------------------------------------------- meanings */

/* The schedule of another program's picture; SD_CURVE_SPACED: the sampler has levels of its own. */
static sd_curve their_schedule(reading *g, sd_method m, const char *label)
{
    sd_curve curve;
    sd_error e = {.status = SD_OK};
    const char *type = g->schedule_type ? g->schedule_type : sd_method_schedule(label);
    sd_curve automatic = sd_method_automatic(m);   /* [A1111, modules/sd_samplers_kdiffusion.py] */
    if (!sd_method_takes_schedules(m) || (automatic == SD_CURVE_SPACED && !type)) return SD_CURVE_SPACED;
    if (!type) return SD_CURVE_LINSPACE_K;   /* before there was a key for it, karras stood in the sampler's name */
    if (sd_same_name(type, "automatic")) return automatic;
    if (sd_curve_parse(&curve, type, &e)) {
        notice(g, e.text, "", "");
        return SD_CURVE_SPACED;
    }
    if (curve == SD_CURVE_KARRAS) return SD_CURVE_KARRAS_K;
    return curve == SD_CURVE_EXPONENTIAL ? SD_CURVE_EXPONENTIAL_K : curve;
}

static void settle_sampler(reading *g)
{
    sd_method m;
    sd_program program;
    sd_curve curve = SD_CURVE_SPACED;
    sd_error e = {.status = SD_OK};
    const char *label = g->sampler_name ? g->sampler_name : g->sampler;
    if (!label) return;
    if (sd_method_parse(&m, &program, label, &e)) {
        notice(g, e.text, "", "");
        return;
    }
    const char *ours = g->schedule_name ? g->schedule_name : g->schedule_type;
    if (g->by != BY_US && sd_method_about(m)->kdiffusion) program = SD_KDIFFUSION;
    g->p.sampling.sampler = sd_method_full_name(m, program);
    if (g->by != BY_US) curve = their_schedule(g, m, label);
    else if (ours && sd_curve_parse(&curve, ours, &e)) notice(g, e.text, "", "");
    bool said = g->by == BY_US ? ours && !e.status : curve != SD_CURVE_SPACED;
    if (said) g->p.sampling.schedule = sd_curve_name(curve);
}

static void settle_randomness(reading *g)
{
    sd_params *p = &g->p;
    sd_error e = {.status = SD_OK};
    sd_stream *s;
    const char *ending = p->rng ? strrchr(p->rng, '.') : NULL;
    if (g->by != BY_US && !p->rng) p->rng = "torch-cuda";   /* "GPU", which A1111 does not write */
    p->sampler_rng = sd_stream_canonical(p->sampler_rng);
    if (!p->rng || (ending && strcmp(ending, ".safetensors") == 0)) return;
    if (!sd_stream_open(&s, p->rng, &(sd_stream_options){0}, &e)) sd_stream_close(s);
    if (e.status) notice(g, e.text, "", "");
    p->rng = e.status ? NULL : sd_stream_canonical(p->rng);
    if (p->rng && strcmp(p->rng, "torch-cpu") == 0) p->rng = NULL;
}

/* To draw one picture of a batch again, the batch is drawn and that one kept. A picture of A1111's has a generator of
 * its own and is drawn alone. */
static void settle_batch(reading *g)
{
    sd_params *p = &g->p;
    if (g->by != BY_US) p->batch = 1;
    if (p->batch <= 1 || g->batch_pos < 0 || g->batch_pos >= p->batch) return;
    p->keep = g->batch_pos + 1;
    if (p->seed_per_image) p->seed -= (uint64_t)g->batch_pos;
}

static void settle_edit_and_files(reading *g)
{
    sd_params *p = &g->p;
    if (g->hires) p->edit.strength = SD_DEFAULT;
    g->r.from_picture = p->edit.strength != SD_DEFAULT || p->edit.init_name || g->r.init_hash;
    p->edit.init_name = last_part(p->edit.init_name);
    p->edit.mask_name = last_part(p->edit.mask_name);
    p->edit.depth_name = last_part(p->edit.depth_name);
    p->noise_name = last_part(p->noise_name);
    p->latents_name = last_part(p->latents_name);
    p->rng = last_part(p->rng);
    p->sampler_rng = last_part(p->sampler_rng);
    p->edit.invert_mask = g->mask_mode && strcmp(g->mask_mode, "Inpaint not masked") == 0;
    if (g->inpaint_area && strcmp(g->inpaint_area, "Only masked") == 0) p->edit.inpaint_crop = g->padding;
    if (g->keeps_size) p->width = p->height = SD_DEFAULT;
    if (p->clip_skip < 1) p->clip_skip = SD_DEFAULT;   /* -1 in stable-diffusion.cpp's */
}

static void settle_kernels(reading *g)
{
    g->r.precise = g->r.kernels && strcmp(g->r.kernels, "precise") == 0;
    if (g->r.gemm != SD_GEMM_OPENBLAS) {
        g->r.threads = SD_DEFAULT;
        if (g->by == BY_US) g->r.gemm = SD_GEMM_OWN;
    }
}

static bool begins(const char *text, const char *with) { return text && strncmp(text, with, strlen(with)) == 0; }

static void settle(reading *g)
{
    g->by = begins(g->r.writer, "sd ") ? BY_US : begins(g->r.writer, "stable-diffusion.cpp") ? BY_SDCPP : BY_A1111;
    double *eta = &g->p.sampling.eta;
    if (g->by == BY_SDCPP && *eta == 0) *eta = SD_DEFAULT;   /* it writes 0 whatever the sampler did */
    settle_sampler(g);
    settle_randomness(g);
    settle_batch(g);
    settle_edit_and_files(g);
    settle_kernels(g);
    if (!g->r.has_seed) notice(g, "no seed can be read: the picture will be another one", "", "");
    if (g->unknown.n) notice(g, "not followed: ", g->unknown.s, "");
    if (g->by != BY_US)
        notice(g, "drawn by ", g->by == BY_SDCPP ? "stable-diffusion.cpp" : "another program",
               ": its arithmetic is another, the picture will be alike and not the same");
}

/* ---------------------------------------------------------------------------------------- publicly */

static sd_status say(char error[512], const sd_error *e)
{
    snprintf(error, 512, "%s", e->text);
    return e->status;
}

sd_status sd_recipe_read(const char *text, sd_recipe **recipe, char error[512])
{
    reading *g = calloc(1, sizeof *g);
    sd_error e = {.status = SD_OK};
    char *line;
    *recipe = NULL;
    error[0] = 0;
    if (g) g->text = sd_strdup(text ? text : "");
    if (!g || !g->text) {
        free(g);
        sd_fail(&e, SD_ERR_MEMORY, "no memory for a picture's text");
        return say(error, &e);
    }
    sd_params_init(&g->p);
    g->r.params = &g->p;
    g->batch_pos = -1;
    g->padding = 32;   /* A1111's default */
    g->r.gemm = g->r.threads = SD_DEFAULT;
    split(g, &line);
    if (line) {
        take_pairs(g, line);
        settle(g);
    } else {
        notice(g, "the text has no line of settings: all of it is the prompt", "", "");
    }
    sd_text_addn(&g->notices, "", 0);
    g->r.notices = g->notices.s ? g->notices.s : "";
    if (g->notices.failed || g->unknown.failed || g->error.status) {
        sd_fail(&e, SD_ERR_MEMORY, "no memory for a picture's text");
        sd_recipe_free(&g->r);
        return say(error, &e);
    }
    *recipe = &g->r;
    return SD_OK;
}

void sd_recipe_free(sd_recipe *recipe)
{
    reading *g = (reading *)recipe;
    if (!g) return;
    free(g->text);
    sd_params_free(&g->p);
    free(g->notices.s);
    free(g->unknown.s);
    free(g);
}

sd_status sd_image_text_read(const char *path, char **text, char error[512])
{
    sd_error e = {.status = SD_OK};
    error[0] = 0;
    return sd_image_text(text, path, &e) ? say(error, &e) : SD_OK;
}
