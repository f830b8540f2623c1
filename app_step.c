/* app_step.c - floor 7: sd step, one step of a sampler from files into files. */
#include "app_stages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cli_option step_options[MOST_OPTIONS];
static const cli_option step_rows[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "What there is"},
    MODEL_OPTION,
    PART_OPTIONS,
    {CLI_TEXT, 0, "latents", AT(latents), 0, 0, "FILE",
     "before the step: a file of sd step or a trace, with what was\n"
     "before; or \"latents\", or its only tensor, [B,C,h,w]"},
    {CLI_TEXT, 0, "pred", AT(pred), 0, 0, "FILE",
     "the UNet's guided answer: \"noise_pred\" or its only tensor\n(default: the trace's, of that evaluation)"},
    PARAM("from_step"),
    {CLI_TEXT, 0, "from", AT(level_from), 0, 0, "SIGMA", "a step that belongs to no run: from this noise level ..."},
    {CLI_TEXT, 0, "to", AT(level_to), 0, 0, "SIGMA", "... to this one, which may be 0"},
    OUTPUT_OPTION("step.safetensors"),
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "The run it belongs to"},
    PARAM("steps"),
    PARAMS("sampling"),
    PARAM("width"),
    PARAM("height"),
    PARAM("batch"),
    PARAM("seed"),
    PARAM("rng"),
    PARAM("sampler_rng"),
    PARAM("seed_per_image"),
    PARAM("noise_name"),
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "only errors"},
    {CLI_FLAG, 'v', "verbose", AT(verbose), 0, 0, NULL, "everything that was decided"},
    HELP_OPTION,
};
cli_command step_command = {
    "step",
    "usage: sd step [--steps N] [--sampling-method NAME] [-s N] -o FILE             the beginning of a run\n"
    "       sd step --latents FILE --pred FILE [--from-step K] [the same] -o FILE  what follows on an answer\n"
    "       sd step --latents FILE --pred FILE --sampling-method NAME --from S --to S -o FILE\n\n"
    "Writes what a sampler makes of an answer: latents, and with them sample and timestep, which the UNet is to be\n"
    "given next; denoised, sigma; and all answers so far, for samplers that remember them and for their generators.\n"
    "A loop of sd unet and sd step with the same options is the run, bit for bit.\n",
    step_options, 0, NULL, 0, 0, NULL};

void fill_step_options(void) { step_command.n_options = expand_options(step_options, step_rows, COUNT(step_rows)); }

/* ---------------------------------------------------------------------------------------- sd step */

/* Settings that count for what the UNet answers, and not for what a sampler makes of that. */
#define OF_ANSWERS "prompt,negative_prompt,guidance_*,image_guidance_scale,clip_skip"

/* Which evaluation the latents are before: what was said, what the file says, or the first. */
static int choose_evaluation(const settings *s, int *n)
{
    numbers t = {0};
    *n = s->p.sampling.from_step == SD_DEFAULT ? 0 : s->p.sampling.from_step;
    if (s->p.sampling.from_step != SD_DEFAULT || s->level_from || s->p.sampling.steps == 1) return CLI_OK;
    int code = find_numbers(s, s->latents, "evaluation", &t);
    if (code) return code;
    if (t.data) *n = (int)t.data[0];
    else code = cli_error(CLI_USAGE, "give --from-step K, the evaluation that %s is before, from 0; or --from and "
                          "--to, two noise levels", s->latents);
    numbers_free(&t);
    return !code && *n < 0 ? cli_error(CLI_USAGE, "%s: evaluation %d", s->latents, *n) : code;
}

static int read_answer(const settings *s, int n, const record *r, numbers *answer)
{
    static const char *const names[] = {"noise_pred", NULL};
    char name[64];
    snprintf(name, sizeof name, "step.%d.noise_pred", n);
    int code = s->pred ? read_numbers(s, s->pred, names, answer) : find_numbers(s, s->latents, name, answer);
    if (!code && !answer->data)
        code = cli_error(CLI_USAGE, "give --pred FILE, the UNet's answer: %s has no tensor \"%s\"", s->latents, name);
    if (!code) code = expect_shape(s->pred ? s->pred : s->latents, "the answer", answer, 4, r->last.dim);
    return code;
}

/* The parameters of the run: its size is the latents'. */
static int set_params(settings *s, const record *r)
{
    sd_model_info info = {0};
    sd_params *p = &s->p;
    sd_get_info(context, &info);
    const int64_t *d = r->last.dim;
    if (d[1] != info.latent_channels || d[0] > 512 || d[2] > 8192 || d[3] > 8192)
        return cli_error(CLI_USAGE, "%s: latents must be [N,%d,h,w], found [%lld,%lld,%lld,%lld]", s->latents,
                         info.latent_channels, (long long)d[0], (long long)d[1], (long long)d[2], (long long)d[3]);
    p->batch = (int)d[0];
    p->height = (int)d[2] * info.scale;
    p->width = (int)d[3] * info.scale;
    p->sampling.from_step = r->first ? r->first : SD_DEFAULT;
    p->latents = r->first ? r->latents[r->first] : NULL;
    p->latents_count = r->first ? numbers_count(&r->last) : 0;
    return CLI_OK;
}

/* Two noise levels are a run of one step. */
static int set_levels(settings *s)
{
    char list[64], error[512];
    if (!s->level_from && !s->level_to) return CLI_OK;
    if (!s->level_from || !s->level_to) return cli_error(CLI_USAGE, "--from and --to are two noise levels: give both");
    if (s->p.sampling.from_step != SD_DEFAULT || s->p.sampling.sigmas)
        return cli_error(CLI_USAGE, "--from and --to are a step that belongs to no run: leave out --from-step and "
                         "--sigmas");
    if (snprintf(list, sizeof list, "%s,%s", s->level_from, s->level_to) >= (int)sizeof list)
        return cli_error(CLI_USAGE, "--from and --to must be numbers");
    sd_status status = sd_params_set(&s->p, "sigmas", list, error);
    return status ? cli_error(exit_code(status), "--from and --to: %s", error) : CLI_OK;
}

/* Relative L2: above that no rounding, of float16 either, is the reason. */
#define OTHER_LATENTS 0.01

/* The answers and latents of a run so far, and what follows: at most so many tensors. */
enum { FIXED = 6, NAME_BYTES = 32 };

static int write_step(const settings *s, const char *path, const record *r, const sd_stepped *o, int next)
{
    size_t room = FIXED + 2 * ((size_t)next + 2), n = 0;
    sd_traced *t = calloc(room, sizeof *t);
    char (*name)[NAME_BYTES] = calloc(room, sizeof *name);
    int code = t && name ? CLI_OK : no_memory();
    float timestep = (float)o->timestep, sigma = (float)o->sigma, evaluation = (float)next;
    const int64_t *d = r->last.dim;
    const sd_traced like = {NULL, SD_F32, 4, {d[0], d[1], d[2], d[3]}, o->latents}, one = {NULL, SD_F32, 1, {1}, NULL};
    const struct { const char *name; sd_traced like; const void *data; int there; } fixed[FIXED] = {
        {"latents", like, o->latents, 1}, {"sample", like, o->sample, !o->ended},
        {"timestep", one, &timestep, !o->ended}, {"sigma", one, &sigma, 1}, {"evaluation", one, &evaluation, 1},
        {"denoised", like, o->denoised, next > r->first},
    };
    for (int i = 0; i < FIXED && !code; i++) {
        if (!fixed[i].there) continue;
        t[n] = fixed[i].like;
        if (i == 1) t[n].dim[1] = (int64_t)(o->sample_count / (size_t)(d[0] * d[2] * d[3]));
        t[n].name = fixed[i].name;
        t[n++].data = fixed[i].data;
    }
    for (int i = r->first; i <= next && !code; i++)
        for (int k = 0; k < 2; k++) {
            const float *x = k ? i < next ? r->noise_pred[i] : NULL : i < next ? r->latents[i] : o->latents;
            if (!x) continue;
            snprintf(name[n], sizeof *name, k ? "step.%d.noise_pred" : "latents.%d", i);
            t[n] = like;
            t[n].name = name[n];
            t[n++].data = x;
        }
    if (!code && ends_with(path, ".npy")) n = 1;
    sd_status status = code ? SD_OK : sd_tensors_write(context, path, t, n);
    if (status) code = report(s, status);
    free(t);
    free(name);
    return code;
}

static void tell(const settings *s, const char *path, const sd_stepped *o, const record *r, int next)
{
    const int64_t *d = r->last.dim;
    if (s->quiet) return;
    printf("%s: latents [%lld,%lld,%lld,%lld] ", path, (long long)d[0], (long long)d[1], (long long)d[2],
           (long long)d[3]);
    if (o->ended) printf("at the end, sigma %.9g\n", o->sigma);
    else if (o->evaluations)
        printf("before evaluation %d of %d, timestep %.9g, sigma %.9g\n", next, o->evaluations, o->timestep, o->sigma);
    else printf("before evaluation %d, timestep %.9g\n", next, o->timestep);
}

static int take_step(const settings *s, const char *path, const record *r, int next)
{
    sd_model_info info = {0};
    sd_get_info(context, &info);
    size_t n = numbers_count(&r->last), pixels = n / (size_t)r->last.dim[1];
    sd_stepped o = {.size = sizeof o, .count = n, .sample_count = pixels * (size_t)info.in_channels};
    o.latents = calloc(n, sizeof(float));
    o.denoised = calloc(n, sizeof(float));
    o.sample = calloc(o.sample_count, sizeof(float));
    int code = o.latents && o.denoised && o.sample ? CLI_OK : no_memory();
    sd_status status = code ? SD_OK : sd_sampler_step(context, &s->p, &o);
    if (status) code = report(s, status);
    if (!code) code = write_step(s, path, r, &o, next);
    if (!code) tell(s, path, &o, r, next);
    free(o.latents);
    free(o.denoised);
    free(o.sample);
    return code;
}

/* The size of the run's latents, which are yet to be made. */
static int begin(const settings *s, record *r)
{
    sd_model_info info = {0};
    sd_params all;
    sd_params_init(&all);
    sd_get_info(context, &info);
    sd_status status = sd_resolve_params(context, &s->p, &all);
    if (status) return report(s, status);
    r->last = (numbers){NULL, 4, {all.batch, info.latent_channels, all.height / info.scale, all.width / info.scale}};
    return CLI_OK;
}

/* The answers so far lead to the file's latents, if the sampler, the steps and the seed are those of its run. */
static int say_other_latents(const settings *s, record *r)
{
    size_t n = numbers_count(&r->last);
    double apart = 0, norm = 0;
    if (s->quiet || r->first || !r->n) return CLI_OK;
    sd_stepped o = {.size = sizeof o, .count = n};
    o.latents = calloc(n, sizeof(float));
    if (!o.latents) return no_memory();
    r->latents[r->n] = NULL;   /* those are to be made */
    int code = set_given(s, NULL, r, NULL);
    sd_status status = code ? SD_OK : sd_sampler_step(context, &s->p, &o);
    r->latents[r->n] = r->last.data;
    for (size_t i = 0; i < n; i++) {
        double d = (double)o.latents[i] - r->last.data[i];
        apart += d * d;
        norm += (double)r->last.data[i] * r->last.data[i];
    }
    free(o.latents);
    if (status) return report(s, status);
    if (!code && apart > OTHER_LATENTS * OTHER_LATENTS * norm)
        fprintf(stderr, "sd: %s: its answers and these settings make other latents before evaluation %d than it has "
                "(relative L2 %.2g): another sampler, other steps or another seed?\n", s->latents, r->n,
                sqrt(apart / norm));
    return code;
}

/* What a UNet sees of a picture, sd step cannot make; and a model that needs one has no run without. */
static int sees_latents_alone(void)
{
    sd_model_info info = {0};
    sd_get_info(context, &info);
    if (info.in_channels == info.latent_channels) return CLI_OK;
    return cli_error(CLI_USAGE, "this model's UNet sees %d channels, the %d of the latents and a picture's, which sd "
                     "step does not take: a sampler's step is the same with any other model; whole runs take --inject "
                     "and --stop-after", info.in_channels, info.latent_channels);
}

static int run(settings *s, const char *output, inputs *in, record **r)
{
    numbers answer = {0};
    int n = 0, code;
    if (!s->latents) {
        *r = calloc(1, sizeof **r);
        code = !*r ? no_memory() : s->noise ? read_given_noise(s, in) : CLI_OK;
        if (!code) code = begin(s, *r);
        return code ? code : take_step(s, output, *r, 0);
    }
    code = choose_evaluation(s, &n);
    if (!code) code = read_record(s, s->latents, n, r);
    if (!code) code = read_answer(s, n, *r, &answer);
    if (!code) code = set_params(s, *r);
    if (!code && s->noise) code = read_given_noise(s, in);
    if (!code && !s->level_from) code = say_other_settings(s, s->latents, OF_ANSWERS);
    if (!code && (*r)->first) say_begins_anew(s, s->latents, (*r)->first);
    if (!code) code = say_other_latents(s, *r);
    if (!code) code = set_given(s, NULL, *r, answer.data);
    else numbers_free(&answer);   /* else the record has it */
    return code ? code : take_step(s, output, *r, n + 1);
}

int run_step(settings *s, const char *argv0)
{
    view v = {.s = s};
    const char *output;
    record *r = NULL;
    inputs in = {.record = NULL};
    if (s->pred && !s->latents) return cli_error(CLI_USAGE, "--pred needs --latents FILE; see sd step --help");
    s->p.seed = s->seed.value;
    int code = set_levels(s);
    if (!code) code = check_stage(s, &output, "step.safetensors");
    if (!code) code = open_model(s, argv0, SD_PART_ALL, &v);
    if (!code) code = sees_latents_alone();
    if (!code) code = run(s, output, &in, &r);
    record_free(r);
    inputs_free(&in);
    return code;
}
