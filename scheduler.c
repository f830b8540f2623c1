/* scheduler.c - floor 5: names of settings, the defaults of diffusers' scheduler classes, and the reading
 * of scheduler_config.json. What the settings mean is in schedules.c, solvers.c and multistep.c. */
#include "solver.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_CJSON
#include <cjson/cJSON.h>
#endif

/* ------------------------------------------------------------------------- names and defaults */

static const char *const prediction_names[] = {"epsilon", "v_prediction", "sample"};
static const char *const spacing_names[] = {"leading", "trailing", "linspace"};
static const char *const beta_names[] = {"linear", "scaled_linear", "squaredcos_cap_v2"};

#define CLASS_NAMES "DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler or EulerAncestralDiscreteScheduler"

void sd_sched_defaults(sd_sched_config *c, sd_method method)
{
    const sd_method_row *row = sd_method_row_of(method);
    *c = (sd_sched_config){
        .method = method, .prediction = SD_PRED_EPSILON, .spacing = row->spacing,
        .beta_schedule = SD_BETA_LINEAR, .beta_start = 0.0001, .beta_end = 0.02, .train_steps = 1000,
        .set_alpha_to_one = row->alpha_to_one, .clip_sample = row->clip, .clip_sample_range = 1.0, .eta = row->about.eta,
    };
}

void sd_sched_as_pipeline(sd_sched_config *c)
{
    c->steps_offset = 1;
    c->clip_sample = false;
}

static int find_name(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return (int)i;
    return -1;
}

const char *sd_prediction_name(sd_prediction p)
{
    return (size_t)p < SD_COUNT(prediction_names) ? prediction_names[p] : "?";
}

const char *sd_spacing_name(sd_spacing s) { return (size_t)s < SD_COUNT(spacing_names) ? spacing_names[s] : "?"; }
const char *sd_beta_name(sd_beta b) { return (size_t)b < SD_COUNT(beta_names) ? beta_names[b] : "?"; }

sd_status sd_prediction_parse(sd_prediction *p, const char *name, sd_error *e)
{
    int i = find_name(prediction_names, SD_COUNT(prediction_names), name);
    if (i < 0)
        return sd_fail(e, SD_ERR_ARG, "unknown prediction type \"%.64s\", expected epsilon, v_prediction or sample",
                       name);
    *p = (sd_prediction)i;
    return SD_OK;
}

sd_status sd_spacing_parse(sd_spacing *s, const char *name, sd_error *e)
{
    int i = find_name(spacing_names, SD_COUNT(spacing_names), name);
    if (i < 0)
        return sd_fail(e, SD_ERR_ARG, "unknown timestep spacing \"%.64s\", expected leading, trailing or linspace",
                       name);
    *s = (sd_spacing)i;
    return SD_OK;
}

sd_status sd_sched_check(const sd_sched_config *c, const char *where, sd_status status, sd_error *e)
{
    if ((size_t)c->method >= SD_METHOD_COUNT || (size_t)c->prediction >= SD_COUNT(prediction_names)
        || (size_t)c->spacing >= SD_COUNT(spacing_names) || (size_t)c->beta_schedule >= SD_COUNT(beta_names))
        return sd_fail(e, status, "%s: unknown sampler, prediction type, spacing or beta schedule", where);
    if (c->train_steps < 1 || c->train_steps > SD_MAX_TRAIN_STEPS)
        return sd_fail(e, status, "%s: num_train_timesteps should be 1..%d, found %d", where, SD_MAX_TRAIN_STEPS,
                       c->train_steps);
    if (!(c->beta_start > 0 && c->beta_start < 1))
        return sd_fail(e, status, "%s: beta_start should lie between 0 and 1, found %g", where, c->beta_start);
    if (!(c->beta_end > 0 && c->beta_end < 1))
        return sd_fail(e, status, "%s: beta_end should lie between 0 and 1, found %g", where, c->beta_end);
    if (c->steps_offset < 0 || c->steps_offset > c->train_steps)
        return sd_fail(e, status, "%s: steps_offset should be 0..%d, found %d", where, c->train_steps, c->steps_offset);
    if (!(c->clip_sample_range > 0 && c->clip_sample_range <= DBL_MAX))
        return sd_fail(e, status, "%s: clip_sample_range should be positive, found %g", where, c->clip_sample_range);
    if (!(c->eta >= 0 && c->eta <= 1)) return sd_fail(e, status, "%s: eta should be 0..1, found %g", where, c->eta);
    return SD_OK;
}

/* ---------------------------------------------------------------------- scheduler_config.json */

#ifdef SD_WITH_CJSON

enum { DDIM = 1u << SD_DDIM, PNDM = 1u << SD_PNDM, EULER = 1u << SD_EULER, EULER_A = 1u << SD_EULER_A,
       EVERY = DDIM | PNDM | EULER | EULER_A };

/* The arguments of the four constructors. A class ignores the keys it does not know, so `euler` may find thresholding
 * in a file and go on; what a class does know and we do not do must have the value that changes nothing. */
static const struct key {
    const char *name;
    unsigned classes;
    enum { INTEGER, REAL, FLAG, PREDICTION, SPACING, BETAS, ONLY_NULL, ONLY_FALSE, ONLY_TEXT } kind;
    size_t field;         /* offset in sd_sched_config */
    const char *text;     /* ONLY_TEXT */
} keys[] = {
    {"num_train_timesteps", EVERY, INTEGER, offsetof(sd_sched_config, train_steps), NULL},
    {"beta_start", EVERY, REAL, offsetof(sd_sched_config, beta_start), NULL},
    {"beta_end", EVERY, REAL, offsetof(sd_sched_config, beta_end), NULL},
    {"beta_schedule", EVERY, BETAS, 0, NULL},
    {"prediction_type", EVERY, PREDICTION, 0, NULL},
    {"timestep_spacing", EVERY, SPACING, 0, NULL},
    {"steps_offset", EVERY, INTEGER, offsetof(sd_sched_config, steps_offset), NULL},
    {"set_alpha_to_one", DDIM | PNDM, FLAG, offsetof(sd_sched_config, set_alpha_to_one), NULL},
    {"clip_sample", DDIM, FLAG, offsetof(sd_sched_config, clip_sample), NULL},
    {"clip_sample_range", DDIM, REAL, offsetof(sd_sched_config, clip_sample_range), NULL},
    {"skip_prk_steps", PNDM, FLAG, offsetof(sd_sched_config, skip_prk_steps), NULL},
    {"rescale_betas_zero_snr", DDIM | EULER | EULER_A, FLAG, offsetof(sd_sched_config, rescale_zero_snr), NULL},
    {"trained_betas", EVERY, ONLY_NULL, 0, NULL},
    {"thresholding", DDIM, ONLY_FALSE, 0, NULL},
    {"use_karras_sigmas", EULER, ONLY_FALSE, 0, NULL},
    {"use_exponential_sigmas", EULER, ONLY_FALSE, 0, NULL},
    {"use_beta_sigmas", EULER, ONLY_FALSE, 0, NULL},
    {"interpolation_type", EULER, ONLY_TEXT, 0, "linear"},
    {"timestep_type", EULER, ONLY_TEXT, 0, "discrete"},
    {"final_sigmas_type", EULER, ONLY_TEXT, 0, "zero"},
};

static const char *json_kind(const cJSON *j)
{
    return cJSON_IsNull(j) ? "null" : cJSON_IsBool(j) ? "true or false" : cJSON_IsNumber(j) ? "a number"
         : cJSON_IsString(j) ? "text" : cJSON_IsArray(j) ? "a list" : "an object";
}

static sd_status wrong_kind(const struct key *k, const cJSON *j, const char *expected, const char *path, sd_error *e)
{
    return sd_fail(e, SD_ERR_FORMAT, "%s: %s should be %s, found %s", path, k->name, expected, json_kind(j));
}

static sd_status read_choice(int *out, const struct key *k, const cJSON *j, const char *const *names, size_t n,
                             const char *path, sd_error *e)
{
    if (!cJSON_IsString(j)) return wrong_kind(k, j, "text", path, e);
    *out = find_name(names, n, j->valuestring);
    if (*out < 0)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s \"%.64s\" is not supported, expected %s, %s or %s", path, k->name,
                       j->valuestring, names[0], names[1], names[2]);
    return SD_OK;
}

static sd_status read_key(sd_sched_config *c, const struct key *k, const cJSON *j, const char *path, sd_error *e)
{
    char *field = (char *)c + k->field;
    int choice = 0;
    switch (k->kind) {
    case INTEGER:
        if (!cJSON_IsNumber(j) || j->valuedouble != floor(j->valuedouble) || fabs(j->valuedouble) > 1e9)
            return wrong_kind(k, j, "a whole number", path, e);
        *(int *)(void *)field = (int)j->valuedouble;
        return SD_OK;
    case REAL:
        if (!cJSON_IsNumber(j)) return wrong_kind(k, j, "a number", path, e);
        *(double *)(void *)field = j->valuedouble;
        return SD_OK;
    case FLAG:   /* Python takes None for false */
        if (!cJSON_IsBool(j) && !cJSON_IsNull(j)) return wrong_kind(k, j, "true or false", path, e);
        *(bool *)(void *)field = cJSON_IsTrue(j);
        return SD_OK;
    case PREDICTION:
        if (read_choice(&choice, k, j, prediction_names, SD_COUNT(prediction_names), path, e)) return e->status;
        c->prediction = (sd_prediction)choice;
        return SD_OK;
    case SPACING:
        if (read_choice(&choice, k, j, spacing_names, SD_COUNT(spacing_names), path, e)) return e->status;
        c->spacing = (sd_spacing)choice;
        return SD_OK;
    case BETAS:
        if (read_choice(&choice, k, j, beta_names, SD_COUNT(beta_names), path, e)) return e->status;
        c->beta_schedule = (sd_beta)choice;
        return SD_OK;
    case ONLY_NULL:
        if (cJSON_IsNull(j)) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is not supported, expected null, found %s", path, k->name,
                       json_kind(j));
    case ONLY_FALSE:
        if (cJSON_IsNull(j) || cJSON_IsFalse(j)) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is not supported, expected false, found %s", path, k->name,
                       cJSON_IsTrue(j) ? "true" : json_kind(j));
    case ONLY_TEXT:
        if (cJSON_IsString(j) && strcmp(j->valuestring, k->text) == 0) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is supported as \"%s\" alone, found \"%.64s\"", path, k->name,
                       k->text, cJSON_IsString(j) ? j->valuestring : json_kind(j));
    }
    return SD_OK;
}

/* Which class the file is read as: `sampler` if given, else what the file names. */
static sd_status read_method(sd_method *m, const cJSON *root, const char *sampler, const char *path, sd_error *e)
{
    if (sampler) return sd_method_parse(m, sampler, e);
    const cJSON *j = cJSON_GetObjectItemCaseSensitive(root, "_class_name");
    if (!cJSON_IsString(j))
        return sd_fail(e, SD_ERR_FORMAT, "%s: _class_name should be the name of a scheduler class", path);
    for (int i = 0; i < SD_METHOD_COUNT; i++) {
        const char *class_name = sd_method_about((sd_method)i)->diffusers;
        *m = (sd_method)i;
        if (class_name && strcmp(j->valuestring, class_name) == 0) return SD_OK;
    }
    return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: scheduler class \"%.64s\" is not supported, expected " CLASS_NAMES, path,
                   j->valuestring);
}

static sd_status read_root(sd_sched_config *c, const cJSON *root, const char *sampler, const char *path, sd_error *e)
{
    if (!cJSON_IsObject(root))
        return sd_fail(e, SD_ERR_FORMAT, "%s: expected a JSON object, found %s", path, json_kind(root));
    sd_method method = SD_DDIM;
    if (read_method(&method, root, sampler, path, e)) return e->status;
    sd_sched_defaults(c, method);
    const cJSON *j;
    cJSON_ArrayForEach(j, root)   /* in the file's order: of a repeated key the last one counts, as in Python */
        for (size_t i = 0; i < SD_COUNT(keys); i++)
            if ((keys[i].classes & 1u << method) && strcmp(j->string, keys[i].name) == 0
                && read_key(c, &keys[i], j, path, e))
                return e->status;
    return sd_sched_check(c, path, SD_ERR_FORMAT, e);
}

sd_status sd_sched_read_as(sd_sched_config *c, const char *path, const char *sampler, sd_error *e)
{
    char *text;
    size_t n;
    if (sd_read_file(path, (size_t)1 << 20, &text, &n, e)) return e->status;
    cJSON *root = strlen(text) == n ? cJSON_ParseWithOpts(text, NULL, 1) : NULL;   /* 1: only white space after it */
    free(text);
    if (!root) return sd_fail(e, SD_ERR_FORMAT, "%s is not valid JSON", path);
    sd_status status = read_root(c, root, sampler, path, e);
    cJSON_Delete(root);
    return status;
}

#else

sd_status sd_sched_read_as(sd_sched_config *c, const char *path, const char *sampler, sd_error *e)
{
    (void)c;
    (void)sampler;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "cannot read %s: built without cJSON", path);
}

#endif

sd_status sd_sched_read(sd_sched_config *c, const char *path, sd_error *e)
{
    return sd_sched_read_as(c, path, NULL, e);
}
