/* sampler_config.c - floor 5: the settings of a sampler: their defaults, their bounds, and how scheduler_config.json is
 * read. Which keys a class reads is in its row of sampler_table.c. */
#include "json.h"
#include "sampler_run.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------- names and defaults */

static const char *const prediction_names[] = {"epsilon", "v_prediction", "sample"};
static const char *const spacing_names[] = {"leading", "trailing", "linspace"};
static const char *const beta_names[] = {"linear", "scaled_linear", "squaredcos_cap_v2"};

void sd_sched_defaults(sd_sched_config *c, sd_method method)
{
    const sd_method_row *row = sd_method_row_of(method);
    static const struct { sd_beta schedule; double start, end; } betas[] = {
        [SD_BETAS_DDPM] = {SD_BETA_LINEAR, 0.0001, 0.02},
        [SD_BETAS_LINEAR_SD] = {SD_BETA_LINEAR, 0.00085, 0.012},
        [SD_BETAS_SD] = {SD_BETA_SCALED_LINEAR, 0.00085, 0.012}};
    *c = (sd_sched_config){
        .method = method, .program = row->home,
        .prediction = SD_PRED_EPSILON, .spacing = row->spacing,
        .beta_schedule = betas[row->betas].schedule, .beta_start = betas[row->betas].start,
        .beta_end = betas[row->betas].end, .train_steps = 1000, .guidance_scale = SD_DEFAULT,
        .steps = SD_DEFAULT,
        .set_alpha_to_one = row->alpha_to_one, .clip_sample = row->clip, .clip_sample_range = 1.0,
        .eta = row->step_eta > 0 ? row->step_eta : row->about.eta,   /* see sd_sched_as_pipeline */
        .threshold_ratio = 0.995, .threshold_max = 1,
        .lambda_min = -INFINITY, .order = row->class_order, .corrector_order = 2, .solver = row->solver,
        .lower_order_final = row->lower_order_final, .final_sigma_min = row->ends_above_zero,
        .original_steps = 50, .strength = 1, .timestep_scaling = 10, .s_tmax = INFINITY, .s_noise = 1,
        .sigma_min = 0.002, .sigma_max = 80, .sigma_data = 0.5, .rho = 7,
    };
}

void sd_sched_as_pipeline(sd_sched_config *c, bool as_it_is)
{
    if (!as_it_is) {
        c->steps_offset = 1;
        c->clip_sample = false;
    }
    c->eta = sd_method_about(c->method)->eta;
}

const char *sd_prediction_name(sd_prediction p)
{
    return (size_t)p < SD_COUNT(prediction_names) ? prediction_names[p] : "?";
}

const char *sd_spacing_name(sd_spacing s) { return (size_t)s < SD_COUNT(spacing_names) ? spacing_names[s] : "?"; }

/* The index of a name in any spelling; -1. */
static int find_spelling(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (sd_same_name(name, names[i])) return (int)i;
    return -1;
}

sd_status sd_prediction_parse(sd_prediction *p, const char *name, sd_error *e)
{
    static const char *const short_names[] = {"eps", "v", "x0"};   /* stable-diffusion.cpp's, in the same order */
    int i = find_spelling(prediction_names, SD_COUNT(prediction_names), name);
    if (i < 0) i = find_spelling(short_names, SD_COUNT(short_names), name);
    if (i < 0)
        return sd_fail(e, SD_ERR_ARG, "unknown prediction type \"%.64s\", expected epsilon, v_prediction or sample",
                       name);
    *p = (sd_prediction)i;
    return SD_OK;
}

sd_status sd_spacing_parse(sd_spacing *s, const char *name, sd_error *e)
{
    int i = find_spelling(spacing_names, SD_COUNT(spacing_names), name);
    if (i < 0)
        return sd_fail(e, SD_ERR_ARG, "unknown timestep spacing \"%.64s\", expected leading, trailing or linspace",
                       name);
    *s = (sd_spacing)i;
    return SD_OK;
}

/* Checks settings that only some samplers have. */
static sd_status check_more(const sd_sched_config *c, const char *where, sd_status status, sd_error *e)
{
    const sd_method_row *row = sd_method_row_of(c->method);
    int most = row->most_order;
    if (c->order < 1 || c->order > most)
        return sd_fail(e, status, "%s: the order of %s should be 1..%d, found %d", where, sd_method_name(c->method),
                       most, c->order);
    if (row->reads.sa && (c->corrector_order < 1 || c->corrector_order > most))
        return sd_fail(e, status, "%s: the order of %s's corrector should be 1..%d, found %d", where,
                       row->about.name, most, c->corrector_order);
    if ((size_t)c->curve >= SD_CURVE_COUNT || (size_t)c->program >= SD_PROGRAM_COUNT
        || (size_t)c->solver > SD_SOLVER_BH2)
        return sd_fail(e, status, "%s: unknown schedule, program or solver type", where);
    if (row->first_order_to_zero && !c->lower_order_final && !c->final_sigma_min && c->order > 1)
        return sd_fail(e, status, "%s: %s cannot end at sigma 0 with lower_order_final false", where,
                       row->about.name);
    if (c->original_steps < 1 || c->original_steps > SD_MAX_TRAIN_STEPS)
        return sd_fail(e, status, "%s: original_inference_steps should be 1..%d, found %d", where, SD_MAX_TRAIN_STEPS,
                       c->original_steps);
    if (!(c->s_churn >= 0 && c->s_churn <= DBL_MAX && c->s_tmin >= 0 && c->s_tmax >= 0))
        return sd_fail(e, status, "%s: s_churn, s_tmin and s_tmax should not be negative", where);
    if (!(c->s_noise >= 0 && c->s_noise <= 1000))
        return sd_fail(e, status, "%s: s_noise should be 0..1000, found %g", where, c->s_noise);
    if (!(c->sigma_min >= 1e-9 && c->sigma_min < c->sigma_max && c->sigma_max <= 1e9 && c->sigma_data >= 1e-9
          && c->sigma_data <= 1e9 && c->rho >= 0.1 && c->rho <= 100))
        return sd_fail(e, status, "%s: sigma_min, sigma_max and sigma_data should be 1e-9..1e9, sigma_min less than "
                       "sigma_max, and rho 0.1..100", where);
    if (!(c->threshold_ratio >= 0 && c->threshold_ratio <= 1 && c->threshold_max >= 1 && c->threshold_max <= DBL_MAX))
        return sd_fail(e, status, "%s: dynamic_thresholding_ratio should be 0..1, sample_max_value 1 or more", where);
    if (!(c->timestep_scaling >= 1e-6 && c->timestep_scaling <= 1e6))
        return sd_fail(e, status, "%s: timestep_scaling should be 1e-6..1e6, found %g", where, c->timestep_scaling);
    if (c->guidance_scale != SD_DEFAULT && !(fabs(c->guidance_scale) <= SD_MOST_GUIDANCE))
        return sd_fail(e, status, "%s: _guidance_scale should be -%d..%d, found %g", where, SD_MOST_GUIDANCE,
                       SD_MOST_GUIDANCE, c->guidance_scale);
    if (c->steps != SD_DEFAULT && (c->steps < 1 || c->steps > c->train_steps))
        return sd_fail(e, status, "%s: _steps should be 1..%d, found %d", where, c->train_steps, c->steps);
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
    if (!(c->lambda_min < 100))
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: lambda_min_clipped %g leaves no noise levels", where, c->lambda_min);
    if (c->continuous && c->prediction == SD_PRED_V)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: timestep_type \"continuous\" is not supported with v_prediction",
                       where);
    if (!(c->eta >= 0 && c->eta <= 1)) return sd_fail(e, status, "%s: eta should be 0..1, found %g", where, c->eta);
    return check_more(c, where, status, e);
}

/* ---------------------------------------------------------------------- scheduler_config.json */

/* The index of a name, spelled exactly; -1. */
static int find_name(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return (int)i;
    return -1;
}

#define READ_BY(member) offsetof(sd_reads, member)
#define BY_ALL SIZE_MAX
#define FIELD(member) offsetof(sd_sched_config, member)
#define OR_NULL "null"

/* The arguments of the classes' constructors. A class ignores the keys it does not know: `euler` ignores thresholding
 * in a file. A key that a class knows and we do not implement must have the value that changes nothing. Samplers that
 * diffusers lacks read the keys that describe the model. */
static const struct key {
    const char *name;
    size_t reader;        /* the member of sd_reads that says whether a class reads it; BY_ALL */
    enum { INTEGER, REAL, FLAG, PREDICTION, SPACING, BETAS, CURVE, ENDING, SOLVER, VARIANCE, SIGMAS, TIMESTEPS,
           ONLY_NULL, ONLY_FALSE, ONLY_TRUE, ONLY_TEXT, NOT_TEXT, ONLY_NONE } kind;
    size_t field;         /* offset in sd_sched_config; CURVE: which one */
    const char *text;     /* for ONLY_TEXT, NOT_TEXT; for INTEGER, REAL: OR_NULL if null means the same as absent */
} keys[] = {
    {"num_train_timesteps", BY_ALL, INTEGER, FIELD(train_steps), NULL},
    {"_guidance_scale", BY_ALL, REAL, FIELD(guidance_scale), NULL},
    {"_steps", BY_ALL, INTEGER, FIELD(steps), NULL},
    {"beta_start", READ_BY(betas), REAL, FIELD(beta_start), NULL},
    {"beta_end", READ_BY(betas), REAL, FIELD(beta_end), NULL},
    {"beta_schedule", READ_BY(betas), BETAS, 0, NULL},
    {"prediction_type", READ_BY(prediction), PREDICTION, 0, NULL},
    {"timestep_spacing", READ_BY(spacing), SPACING, 0, NULL},
    {"steps_offset", READ_BY(steps_offset), INTEGER, FIELD(steps_offset), OR_NULL},
    {"set_alpha_to_one", READ_BY(alpha_to_one), FLAG, FIELD(set_alpha_to_one), NULL},
    {"clip_sample", READ_BY(clip), FLAG, FIELD(clip_sample), NULL},
    {"clip_sample_range", READ_BY(clip), REAL, FIELD(clip_sample_range), OR_NULL},
    {"skip_prk_steps", READ_BY(prk), FLAG, FIELD(skip_prk_steps), NULL},
    {"rescale_betas_zero_snr", READ_BY(zero_snr), FLAG, FIELD(rescale_zero_snr), NULL},
    {"trained_betas", BY_ALL, ONLY_NULL, 0, NULL},
    {"thresholding", READ_BY(threshold), FLAG, FIELD(thresholding), NULL},
    {"dynamic_thresholding_ratio", READ_BY(threshold), REAL, FIELD(threshold_ratio), OR_NULL},
    {"sample_max_value", READ_BY(threshold), REAL, FIELD(threshold_max), OR_NULL},
    {"use_karras_sigmas", READ_BY(curves), CURVE, SD_CURVE_KARRAS, NULL},
    {"use_exponential_sigmas", READ_BY(curves), CURVE, SD_CURVE_EXPONENTIAL, NULL},
    {"use_beta_sigmas", READ_BY(curves), CURVE, SD_CURVE_BETA, NULL},
    {"use_lu_lambdas", READ_BY(lu_lambdas), CURVE, SD_CURVE_LU, NULL},
    {"use_flow_sigmas", READ_BY(flow), ONLY_FALSE, 0, NULL},
    {"interpolation_type", READ_BY(euler), ONLY_TEXT, 0, "linear"},
    {"timestep_type", READ_BY(euler), TIMESTEPS, 0, NULL},
    {"final_sigmas_type", READ_BY(ending), ENDING, 0, NULL},
    {"solver_order", READ_BY(order), INTEGER, FIELD(order), NULL},
    {"solver_type", READ_BY(solver), SOLVER, 0, NULL},
    {"lower_order_final", READ_BY(lower_order), FLAG, FIELD(lower_order_final), NULL},
    {"euler_at_final", READ_BY(euler_at_final), FLAG, FIELD(euler_at_final), NULL},
    {"predict_x0", READ_BY(unipc), ONLY_TRUE, 0, NULL},
    {"predictor_order", READ_BY(sa), INTEGER, FIELD(order), NULL},
    {"corrector_order", READ_BY(sa), INTEGER, FIELD(corrector_order), NULL},
    {"algorithm_type", READ_BY(sa), NOT_TEXT, 0, "noise_prediction"},
    {"algorithm_type", READ_BY(singlestep), NOT_TEXT, 0, "dpmsolver"},
    {"algorithm_type", READ_BY(singlestep), NOT_TEXT, 0, "sde-dpmsolver++"},
    {"disable_corrector", READ_BY(unipc), ONLY_NONE, 0, NULL},
    {"solver_p", READ_BY(unipc), ONLY_NULL, 0, NULL},
    {"lambda_min_clipped", READ_BY(lambda_min), REAL, FIELD(lambda_min), NULL},
    {"variance_type", READ_BY(lambda_min), NOT_TEXT, 0, "learned"},
    {"variance_type", READ_BY(lambda_min), NOT_TEXT, 0, "learned_range"},
    {"variance_type", READ_BY(variance), VARIANCE, 0, NULL},
    {"original_inference_steps", READ_BY(distilled), INTEGER, FIELD(original_steps), NULL},
    {"timestep_scaling", READ_BY(lcm), REAL, FIELD(timestep_scaling), NULL},
    {"sigma_min", READ_BY(edm), REAL, FIELD(sigma_min), NULL},
    {"sigma_max", READ_BY(edm), REAL, FIELD(sigma_max), NULL},
    {"sigma_data", READ_BY(edm), REAL, FIELD(sigma_data), NULL},
    {"rho", READ_BY(edm), REAL, FIELD(rho), NULL},
    {"sigma_schedule", READ_BY(edm), SIGMAS, 0, NULL},
};

static const char *const ending_names[] = {"zero", "sigma_min"};
static const char *const solver_names[] = {"midpoint", "heun", "bh1", "bh2", "logrho"};
static const char *const variance_names[] = {"fixed_small", "fixed_large"};
static const char *const timestep_names[] = {"discrete", "continuous"};
static const char *const sigma_names[] = {"karras", "exponential"};

static sd_status wrong_kind(const struct key *k, const sd_json *j, const char *expected, const char *path, sd_error *e)
{
    return sd_fail(e, SD_ERR_FORMAT, "%s: %s should be %s, found %s", path, k->name, expected, sd_json_kind(j));
}

static sd_status read_choice(int *out, const struct key *k, const sd_json *j, const char *const *names, size_t n,
                             const char *path, sd_error *e)
{
    if (!sd_json_is(j, SD_JSON_TEXT)) return wrong_kind(k, j, "text", path, e);
    *out = find_name(names, n, j->text);
    if (*out < 0)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s \"%.64s\" is not supported, expected %s, %s%s%s", path, k->name,
                       j->text, names[0], names[1], n > 2 ? " or " : "", n > 2 ? names[2] : "");
    return SD_OK;
}

static sd_status read_key(sd_sched_config *c, const struct key *k, const sd_json *j, const char *path, sd_error *e)
{
    char *field = (char *)c + k->field;
    int choice = 0;
    switch (k->kind) {
    case INTEGER:
        if (sd_json_is(j, SD_JSON_NULL) && k->text) return SD_OK;
        if (!sd_json_is(j, SD_JSON_NUMBER) || j->number != floor(j->number) || fabs(j->number) > 1e9)
            return wrong_kind(k, j, "a whole number", path, e);
        *(int *)(void *)field = (int)j->number;
        return SD_OK;
    case REAL:
        if (sd_json_is(j, SD_JSON_NULL) && k->text) return SD_OK;
        if (!sd_json_is(j, SD_JSON_NUMBER)) return wrong_kind(k, j, "a number", path, e);
        *(double *)(void *)field = j->number;
        return SD_OK;
    case FLAG:   /* Python takes None for false */
        if (!sd_json_is_bool(j) && !sd_json_is(j, SD_JSON_NULL)) return wrong_kind(k, j, "true or false", path, e);
        *(bool *)(void *)field = sd_json_is(j, SD_JSON_TRUE);
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
    case CURVE:
        if (!sd_json_is_bool(j) && !sd_json_is(j, SD_JSON_NULL)) return wrong_kind(k, j, "true or false", path, e);
        if (!sd_json_is(j, SD_JSON_TRUE)) return SD_OK;
        if (c->curve != SD_CURVE_SPACED)
            return sd_fail(e, SD_ERR_FORMAT, "%s: %s is one schedule too many, there is %s already", path, k->name,
                           sd_curve_name(c->curve));
        c->curve = (sd_curve)k->field;
        return SD_OK;
    case ENDING:
        if (read_choice(&choice, k, j, ending_names, SD_COUNT(ending_names), path, e)) return e->status;
        c->final_sigma_min = choice == 1;
        return SD_OK;
    case SOLVER:   /* each class reads the other's names as its default */
        if (read_choice(&choice, k, j, solver_names, SD_COUNT(solver_names), path, e)) return e->status;
        if (choice < 4 && (choice >= SD_SOLVER_BH1) == (c->solver >= SD_SOLVER_BH1)) c->solver = (sd_solver)choice;
        return SD_OK;
    case VARIANCE:
        if (sd_json_is(j, SD_JSON_NULL)) return SD_OK;
        if (read_choice(&choice, k, j, variance_names, SD_COUNT(variance_names), path, e)) return e->status;
        c->variance_large = choice == 1;
        return SD_OK;
    case TIMESTEPS:
        if (sd_json_is(j, SD_JSON_NULL)) return SD_OK;
        if (read_choice(&choice, k, j, timestep_names, SD_COUNT(timestep_names), path, e)) return e->status;
        c->continuous = choice == 1;
        return SD_OK;
    case SIGMAS:
        if (read_choice(&choice, k, j, sigma_names, SD_COUNT(sigma_names), path, e)) return e->status;
        c->curve = choice ? SD_CURVE_EXPONENTIAL : SD_CURVE_KARRAS;
        return SD_OK;
    case ONLY_TRUE:
        if (sd_json_is(j, SD_JSON_TRUE)) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is not supported as %s, expected true", path, k->name,
                       sd_json_is(j, SD_JSON_FALSE) ? "false" : sd_json_kind(j));
    case ONLY_NULL:
        if (sd_json_is(j, SD_JSON_NULL)) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is not supported, expected null, found %s", path, k->name,
                       sd_json_kind(j));
    case ONLY_FALSE:
        if (sd_json_is(j, SD_JSON_NULL) || sd_json_is(j, SD_JSON_FALSE)) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is not supported, expected false, found %s", path, k->name,
                       sd_json_is(j, SD_JSON_TRUE) ? "true" : sd_json_kind(j));
    case ONLY_TEXT:
        if (sd_json_is(j, SD_JSON_TEXT) && strcmp(j->text, k->text) == 0) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is supported as \"%s\" alone, found \"%.64s\"", path, k->name,
                       k->text, sd_json_is(j, SD_JSON_TEXT) ? j->text : sd_json_kind(j));
    case NOT_TEXT:
        if (!sd_json_is(j, SD_JSON_TEXT) || strcmp(j->text, k->text) != 0) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s \"%s\" is not supported for %s", path, k->name, k->text,
                       sd_method_name(c->method));
    case ONLY_NONE:
        if (sd_json_is(j, SD_JSON_NULL) || (sd_json_is(j, SD_JSON_LIST) && sd_json_count(j) == 0)) return SD_OK;
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s is not supported, expected an empty list", path, k->name);
    }
    return SD_OK;
}

static const char *text_of(const sd_json *root, const char *key)
{
    const sd_json *j = sd_json_get(root, key);
    return sd_json_is(j, SD_JSON_TEXT) ? j->text : "";
}

/* The sampler of a class. One class may be several of our samplers: algorithm_type says which, and if several have the
 * same one, solver_order. */
static sd_status sampler_of_class(sd_method *m, const char *name, const sd_json *root, const char *path, sd_error *e)
{
    const char *algorithm = text_of(root, "algorithm_type");
    const sd_json *order = sd_json_get(root, "solver_order");
    bool known = false, found = false;
    if (*algorithm == 0 || strcmp(algorithm, "deis") == 0) algorithm = "dpmsolver++";   /* as diffusers takes them */
    for (int i = 0; i < SD_METHOD_COUNT; i++) {
        const sd_method_row *row = sd_method_row_of((sd_method)i);
        if (!row->about.diffusers || strcmp(row->about.diffusers, name) != 0) continue;
        known = true;
        if (row->algorithm && strcmp(row->algorithm, algorithm) != 0) continue;
        if (found && !(sd_json_is(order, SD_JSON_NUMBER) && order->number == row->class_order)) continue;
        *m = (sd_method)i;
        found = true;
    }
    if (!known) return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: scheduler class \"%.64s\" is not supported", path, name);
    if (!found)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: algorithm_type \"%.64s\" is not supported, expected dpmsolver++ or "
                       "sde-dpmsolver++", path, algorithm);
    return SD_OK;
}

/* The class to read the file as: `sampler` if given, else the one that the file names. */
static sd_status read_method(sd_method *m, sd_program *program, const sd_json *root, const char *sampler,
                             const char *path, sd_error *e)
{
    const char *name = sampler ? sampler : text_of(root, "_class_name");
    if (*name == 0 && !sampler)
        return sd_fail(e, SD_ERR_FORMAT, "%s: _class_name should be the name of a scheduler class", path);
    if (sampler && sd_method_parse(m, program, sampler, e)) return e->status;
    const char *class_name = sampler ? sd_method_about(*m)->diffusers : NULL;
    if (sampler && (!class_name || strcmp(class_name, sampler) != 0)) return SD_OK;
    return sampler_of_class(m, name, root, path, e);
}

/* Does the row's class read the key? */
static bool reads_key(const sd_method_row *row, const struct key *k)
{
    return k->reader == BY_ALL || *(const bool *)((const char *)&row->reads + k->reader);
}

static sd_status read_root(sd_sched_config *c, const sd_json *root, const char *sampler, const char *path, sd_error *e)
{
    sd_method method = SD_DDIM;
    sd_program program = SD_DIFFUSERS;
    if (read_method(&method, &program, root, sampler, path, e)) return e->status;
    sd_sched_defaults(c, method);
    c->program = program;
    const sd_method_row *row = sd_method_row_of(method);
    const sd_json *j;
    SD_JSON_EACH(j, root)
        for (size_t i = 0; i < SD_COUNT(keys); i++)
            if (reads_key(row, &keys[i]) && strcmp(j->key, keys[i].name) == 0
                && read_key(c, &keys[i], j, path, e))
                return e->status;
    bool class_name = sampler && strstr(sampler, "Scheduler") != NULL;
    if (sampler && !class_name && row->order_in_name) c->order = row->class_order;
    return sd_sched_check(c, path, SD_ERR_FORMAT, e);
}

sd_status sd_sched_parse_as(sd_sched_config *c, const char *text, const char *name, const char *sampler, sd_error *e)
{
    sd_json *root = sd_json_load(text, strlen(text), name, e);
    if (root) read_root(c, root, sampler, name, e);
    sd_json_free(root);
    return e->status;
}
