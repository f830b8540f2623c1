/* selftest_samplers.c - floor 6: every sampler on every schedule, with a formula in the UNet's place, against the
 * program that it is from, in float64 (tools/golden_solvers.py). */
#include "rng.h"
#include "selftest.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = SD_SAMPLER_CASE_NUMBERS, SHOWN = SD_SAMPLER_CASE_SHOWN, MOST_ROWS = SD_SAMPLER_CASE_ROWS };

/* ------------------------------------------------------------------------------------- reading */

static bool read_row(sd_sampler_case *c, const char *word, const char *rest)
{
    sd_sampler_case_row *r = *word == 'e' ? &c->end : &c->rows[c->n_rows];
    if (*word == 'e') return sscanf(rest, "%lf %lf %lf", &r->x[0], &r->x[1], &r->e32) == 3;
    if (c->n_rows == MOST_ROWS) return false;
    c->n_rows++;
    return sscanf(rest, "%d %lf %lf %lf %lf %lf", &r->i, &r->t, &r->sigma, &r->x[0], &r->x[1], &r->e32) == 6;
}

static bool read_case(sd_sampler_case *c, const char *rest)
{
    int used = 0;
    memset(c, 0, sizeof *c);
    if (sscanf(rest, "%31s %31s %15s %15s %d %d %lf %lf %lf %lf%n", c->name, c->curve, c->spacing, c->prediction,
               &c->steps, &c->count, &c->next, &c->sum_t, &c->sum_it, &c->sum_sigma, &used) != 10)
        return false;
    snprintf(c->more, sizeof c->more, "%s", rest + used);
    const char *first = strstr(c->more, "first=");
    if (first) c->first = (int)strtol(first + 6, NULL, 10);
    return true;
}

sd_status sd_sampler_cases_read(const char *path, sd_sampler_case **cases, int *n, sd_error *e)
{
    sd_description d;
    char *word, *rest;
    size_t cap = 0;
    *cases = NULL;
    *n = 0;
    if (sd_describe(&d, path, e)) return e->status;
    while (!e->status && (word = sd_next_item(&d, &rest))) {
        bool begins = strcmp(word, "case") == 0;
        if (!begins && strcmp(word, "at") != 0 && strcmp(word, "end") != 0) continue;
        sd_sampler_case *more = begins ? sd_grow(*cases, (size_t)*n, &cap, 64, sizeof *more) : *cases;
        if (begins && !more) sd_fail(e, SD_ERR_MEMORY, "no memory for cases of samplers");
        else *cases = more;
        if (e->status) break;
        if (begins) ++*n;
        if (*n == 0 || !(begins ? read_case(*cases + *n - 1, rest) : read_row(*cases + *n - 1, word, rest)))
            sd_fail(e, SD_ERR_FORMAT, "%s: no case of a sampler: %s %.60s", path, word, rest);
    }
    free(d.text);
    if (e->status) {
        free(*cases);
        *cases = NULL;
    }
    return e->status;
}

/* The words behind a case: what its options set. */
static sd_status set_option(sd_sched_config *c, const char *word, sd_error *e)
{
    static const char *const solvers[] = {"midpoint", "heun", "bh1", "bh2"};
    const char *value = strchr(word, '=') + 1;
    double x = strtod(value, NULL);
    size_t n = (size_t)(value - word) - 1;
#define IS(s) (strlen(s) == n && strncmp(word, s, n) == 0)
    if (IS("order")) c->order = c->corrector_order = (int)x;
    else if (IS("corrector")) c->corrector_order = (int)x;
    else if (IS("eta")) c->eta = x;
    else if (IS("clip")) c->clip_sample = true;
    else if (IS("end")) c->final_sigma_min = true;
    else if (IS("lower")) c->lower_order_final = false;
    else if (IS("euler")) c->euler_at_final = true;
    else if (IS("zero_snr")) c->rescale_zero_snr = true;
    else if (IS("beta")) c->beta_schedule = SD_BETA_COSINE;
    else if (IS("first")) (void)x;   /* where the run begins: no setting */
    else if (IS("prk")) c->skip_prk_steps = x == 0;
    else if (IS("large")) c->variance_large = true;
    else if (IS("threshold")) c->thresholding = true, c->threshold_max = x;
    else if (IS("s_churn")) c->s_churn = x;
    else if (IS("s_tmin")) c->s_tmin = x;
    else if (IS("s_tmax")) c->s_tmax = x;
    else if (IS("s_noise")) c->s_noise = x;
    else if (IS("solver") || IS("solver_type"))
        for (int i = 0; i < 4; i++) c->solver = strcmp(value, solvers[i]) == 0 ? (sd_solver)i : c->solver;
    else return sd_fail(e, SD_ERR_FORMAT, "a case of a sampler has an unknown setting, %.60s", word);
#undef IS
    return SD_OK;
}

sd_status sd_sampler_case_config(const sd_sampler_case *g, sd_sched_config *c, sd_error *e)
{
    sd_method m = SD_DDIM;
    sd_program program = SD_DIFFUSERS;
    if (sd_method_parse(&m, &program, g->name, e)) return e->status;
    sd_sched_defaults(c, m);
    c->program = program;
    c->beta_schedule = SD_BETA_SCALED_LINEAR;
    c->beta_start = 0.00085;
    c->beta_end = 0.012;
    c->steps_offset = 1;
    c->clip_sample = false;
    if (sd_curve_parse(&c->curve, g->curve, e) || sd_spacing_parse(&c->spacing, g->spacing, e)
        || sd_prediction_parse(&c->prediction, g->prediction, e))
        return e->status;
    char words[sizeof g->more];
    strcpy(words, g->more);
    for (char *w = words, *next; *(w += strspn(w, " ")) && !e->status; w = next) {
        next = w + strcspn(w, " ");
        if (*next) *next++ = 0;
        set_option(c, w, e);
    }
    return e->status;
}

/* ------------------------------------------------------------------------------------- running */

typedef struct caller {
    const sd_sampler_case *g;
    const sd_sampler *s;
    sd_rng rng;
    sd_sampler_case_result r;
    double sum_t, sum_it, sum_sigma;
    int next_row;
} caller;

static void note(double *worst, double bad)
{
    if (!(bad <= *worst)) *worst = bad;
}

/* Error as a share of what is allowed: three times torch-float32's own, at least a few roundings of the largest
 * number. */
static double judge(const float *found, const sd_sampler_case_row *r)
{
    double largest = 1, worst = 0;
    for (int k = 0; k < SHOWN; k++) largest = fmax(largest, fabs(r->x[k]));
    for (int k = 0; k < SHOWN; k++) note(&worst, fabs(found[k] - r->x[k]));
    return worst / fmax(3 * r->e32, 4 * (double)FLT_EPSILON * largest);
}

static double off_by(double found, double expected)
{
    if (expected > 1e200) return isinf(found) ? 0 : INFINITY;
    return fabs(found - expected) / fmax(fabs(expected), 1e-3);
}

static sd_status compare_latents(void *user, int i, float *latents)
{
    caller *c = user;
    const sd_sampler_case *g = c->g;
    if (i == g->count) note(&c->r.worst, judge(latents, &g->end));
    else if (c->next_row < g->n_rows && g->rows[c->next_row].i == i)
        note(&c->r.worst, judge(latents, &g->rows[c->next_row]));
    return SD_OK;
}

static sd_status golden_model(void *user, int i, double t, const float *input, float *prediction)
{
    caller *c = user;
    const sd_sampler_case *g = c->g;
    c->r.evaluations++;
    for (int k = 0; k < SIZE; k++) prediction[k] = (float)(0.9 * sin(1.3 * input[k] + 0.2 * k) + 0.05 * cos(0.02 * t));
    double sigma = sd_sampler_count(c->s) ? sd_sampler_sigma(c->s, i) : NAN;   /* dpm_adaptive's are not known before */
    if (c->next_row < g->n_rows && g->rows[c->next_row].i == i) {
        const sd_sampler_case_row *r = &g->rows[c->next_row++];
        note(&c->r.worst_schedule, fabs(t - r->t) / fmax(fabs(r->t), 1.0));
        if (!isnan(sigma)) note(&c->r.worst_schedule, off_by(sigma, r->sigma));
    }
    c->sum_t += t;
    c->sum_it += i * t;
    if (sigma < 1e200) c->sum_sigma += sigma;
    return SD_OK;
}

static sd_status golden_noise(void *user, double from, double to, float *out, size_t n)
{
    (void)from;
    (void)to;
    sd_rng_normal(&((caller *)user)->rng, out, n);
    return SD_OK;
}

sd_status sd_sampler_case_run(const sd_sampler_case *g, const sd_sched_config *c, sd_sampler_case_result *r,
                              sd_error *e)
{
    caller by = {.g = g};
    sd_sampler *s;
    if (sd_sampler_new_from(&s, c, g->steps, g->first, e)) return e->status;
    float next, *x = by.r.x;
    by.s = s;
    sd_rng_seed(&by.rng, 77);
    sd_rng_normal(&by.rng, x, SIZE);
    for (int k = 0; k < SIZE; k++) x[k] = (float)(x[k] * sd_sampler_init_sigma(s));
    sd_denoiser d = {&by, golden_model, compare_latents, NULL, golden_noise, 1, NULL, NULL};
    sd_sampler_run(s, x, SIZE, &d, e);
    sd_rng_normal(&by.rng, &next, 1);
    if (fabs(next - g->next) > 1e-6 || by.r.evaluations != g->count) note(&by.r.worst, INFINITY);
    note(&by.r.worst_schedule, off_by(by.sum_t, g->sum_t));
    note(&by.r.worst_schedule, off_by(by.sum_it, g->sum_it));
    if (sd_sampler_count(s)) note(&by.r.worst_schedule, off_by(by.sum_sigma, g->sum_sigma));
    sd_sampler_free(s);
    *r = by.r;
    return e->status;
}

/* ------------------------------------------------------------------------------- the self-test */

static void check_case(sd_selftest_run *s, const sd_sampler_case *g)
{
    sd_sched_config c;
    sd_sampler_case_result r = {0};
    sd_error e = {0};
    if (!sd_check_wanted(s, "samplers", g->name)) return;
    sd_check_row *row = sd_check_row_of(s, "samplers", g->name, "");
    if (!row) return;
    if (sd_sampler_case_config(g, &c, &e) || sd_sampler_case_run(g, &c, &r, &e)) {
        sd_check_note(row, INFINITY, "%s %s: %s", g->curve, g->spacing, e.text);
        return;
    }
    /* dpm_adaptive's levels follow from its latents, which are float32 */
    double allowed = c.method == SD_DPM_ADAPTIVE ? 1e-5 : 1e-6;
    sd_check_note(row, r.worst, "%s %s %s, %d steps%s: the latents", g->curve, g->spacing, g->prediction, g->steps,
                  g->more);
    sd_check_note(row, r.worst_schedule / allowed, "%s %s %s, %d steps%s: the schedule", g->curve, g->spacing,
                  g->prediction, g->steps, g->more);
}

sd_status sd_check_samplers(sd_selftest_run *s)
{
    char path[4096];
    sd_sampler_case *cases;
    int n;
    if (sd_check_path(s, "samplers.txt", path) || sd_sampler_cases_read(path, &cases, &n, s->e)) return s->e->status;
    for (int i = 0; i < n && !s->e->status; i++) check_case(s, &cases[i]);
    free(cases);
    return s->e->status;
}
