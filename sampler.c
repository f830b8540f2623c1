/* sampler.c - floor 5: runs a sampler: turns the UNet's answers into x0 and eps, draws noise, counts evaluations. The
 * samplers themselves are in sampler_onestep.c and sampler_multistep.c.
 *
 * Notation: a = alphas_cumprod (the papers' alpha-bar), the share of signal at a timestep of the training schedule. The
 * table of a is float32, bit for bit diffusers'; what is derived from it is computed in double. The latents are float32
 * whenever the UNet sees them, and double within a step.
 *
 * A sampler is a function that calls sd_predict whenever it needs the UNet. Its code alone decides which evaluations a
 * run has. To know them in advance, the sampler is run once without a UNet, on one number, and its calls are noted. */
#include "sampler_run.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VECTORS = 32 };

/* ---------------------------------------------------------------------------- prediction types */

/* The UNet sees x' = x / r, r = sqrt(signal^2 + noise^2). With S = signal / r, N = noise / r and the UNet's output F,
 *   epsilon: x0 = (x' - N F) / S
 *   v:       x0 = S x' - N F, because v = S eps - N x0 [Salimans & Ho 2022, "Progressive Distillation", sec. 4]
 *   sample:  x0 = F */
sd_scaling sd_scaling_at(const sd_sched_config *c, sd_level at)
{
    double size = sqrt(at.signal * at.signal + at.noise * at.noise), c_in = 1.0 / size;
    double S = at.signal * c_in, N = at.noise * c_in;
    if (sd_method_row_of(c->method)->edm) {   /* [Karras et al. 2022, Table 1]; with v, F has the other sign */
        double d = c->sigma_data, sum = at.noise * at.noise + d * d, skip = d * d / sum;
        double out = (c->prediction == SD_PRED_V ? -1 : 1) * at.noise * d / sqrt(sum);
        return (sd_scaling){1.0 / sqrt(sum), skip, out, (1.0 - skip) / at.noise, -out / at.noise};
    }
    switch (c->prediction) {
    case SD_PRED_V: return (sd_scaling){c_in, S * c_in, -N, N * c_in, S};
    case SD_PRED_SAMPLE: return (sd_scaling){c_in, 0.0, 1.0, 1.0 / at.noise, -at.signal / at.noise};
    case SD_PRED_EPSILON: break;
    }
    return (sd_scaling){c_in, 1.0 / at.signal, -at.noise / at.signal, 0.0, 1.0};
}

/* ------------------------------------------------------------------------------------ vectors */

double *sd_vector(sd_sampling *r)
{
    return r->pool + (size_t)r->taken++ * r->n;
}

void sd_sum(const sd_sampling *r, double *y, const sd_term *terms, size_t count)
{
    if (r->stop) return;
    for (size_t j = 0; j < r->n; j++) {
        double sum = 0.0;
        for (size_t k = 0; k < count; k++)
            if (terms[k].v) sum += terms[k].factor * terms[k].v[j];
        y[j] = sum;
    }
}

void sd_slope(const sd_sampling *r, double *d, const double *x, const double *x0, sd_level at)
{
    SUM(r, d, {1 / at.noise, x}, {-at.signal / at.noise, x0});
}

/* --------------------------------------------------------------------------------- evaluations */

static void record(sd_sampler *s, sd_level at)
{
    if (s->count == s->room) {
        int room = s->room ? 2 * s->room : 64;
        sd_eval *more = realloc(s->evals, ((size_t)room + 1) * sizeof *more);
        if (!more) return;   /* sd_sampler_new notices that count is too small */
        s->evals = more;
        s->room = room;
    }
    s->evals[s->count++] = (sd_eval){at.t, sigma_of(at), alpha_of(at)};
}

static bool failed(sd_sampling *r, sd_status status)
{
    if (status) r->stop = true, r->status = status;
    return r->stop;
}

/* Shows the latents to the caller, as float32. The run goes on with what comes back, changed or not. */
static bool hand_over(sd_sampling *r, double *x)
{
    for (size_t j = 0; j < r->n; j++) r->latents[j] = (float)x[j];
    const sd_denoiser *d = r->hooks;
    if (d->before_evaluation && failed(r, d->before_evaluation(d->user, r->evaluations, r->latents))) return false;
    for (size_t j = 0; j < r->n; j++) x[j] = r->latents[j];
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Dynamic thresholding [Saharia et al. 2022, "Imagen", sec. 2.3]: if a quantile of the absolute values of a picture's
 * x0 is above 1, x0 is clipped to that quantile and divided by it; diffusers' _threshold_sample. */
static void threshold(sd_sampling *r, double *x0)
{
    size_t pictures = r->hooks->pictures > 1 ? (size_t)r->hooks->pictures : 1, n = r->n / pictures;
    double place = r->c->threshold_ratio * (double)(n - 1);   /* torch.quantile interpolates between two values */
    size_t low = (size_t)place, high = low + 1 < n ? low + 1 : low;
    for (size_t b = 0; b < pictures; b++) {
        double *x = x0 + b * n, *sorted = r->fresh;
        bool numbers = true;
        for (size_t j = 0; j < n; j++) {
            sorted[j] = fabs(x[j]);
            numbers = numbers && sorted[j] == sorted[j];
        }
        if (!numbers) continue;   /* NaN cannot be sorted: x0 stays as it is */
        qsort(sorted, n, sizeof *sorted, ascending);
        double s = sorted[low] + (place - (double)low) * (sorted[high] - sorted[low]);
        s = fmin(fmax(s, 1.0), r->c->threshold_max);
        for (size_t j = 0; j < n; j++) x[j] = (x[j] < -s ? -s : x[j] > s ? s : x[j]) / s;
    }
}

void sd_predict(sd_sampling *r, double *x, sd_level at, double *x0, double *eps)
{
    if (r->stop) return;
    if (r->recording) {
        record(r->recording, at);
        r->evaluations++;
        return;
    }
    if (!hand_over(r, x)) return;
    const double *latents = x;
    int i = r->evaluations++;
    sd_scaling k = sd_scaling_at(r->c, at);
    const sd_denoiser *hooks = r->hooks;
    if (hooks->see) {
        memcpy(r->predicted, x, r->n * sizeof *x);
        hooks->see(hooks->user, at.signal, at.noise, r->predicted);
        x = r->predicted;   /* each number of it is read before x0's takes its place */
    }
    for (size_t j = 0; j < r->n; j++) r->input[j] = (float)(x[j] * k.c_in);
    if (failed(r, hooks->model(hooks->user, i, at.t, r->input, r->prediction))) return;

    /* Clipping and thresholding change x0 only: eps stays the model's. NaN stays NaN. */
    double range = r->c->clip_sample && !r->c->thresholding ? r->c->clip_sample_range : INFINITY;
    double *predicted = r->predicted;
    for (size_t j = 0; j < r->n; j++) {
        double F = r->output[j] = r->prediction[j], y = k.x_skip * x[j] + k.x_out * F;
        if (eps) eps[j] = k.eps_skip * x[j] + k.eps_out * F;
        predicted[j] = y < -range ? -range : y > range ? range : y;
    }
    if (r->c->thresholding) threshold(r, predicted);
    if (hooks->keep) {
        hooks->keep(hooks->user, predicted);
        if (eps) sd_slope(r, eps, latents, predicted, at);
    }
    for (size_t j = 0; j < r->n; j++) {
        r->scratch[j] = (float)predicted[j];
        if (x0) x0[j] = predicted[j];
    }
    if (hooks->denoised) hooks->denoised(hooks->user, i, r->scratch);
}

const double *sd_fresh_noise(sd_sampling *r, sd_level from, sd_level to)
{
    if (r->recording) r->recording->draws = true;
    if (r->stop || r->recording) return r->fresh;
    if (failed(r, r->hooks->noise(r->hooks->user, sigma_of(from), sigma_of(to), r->scratch, r->n))) return r->fresh;
    for (size_t j = 0; j < r->n; j++) r->fresh[j] = r->scratch[j];
    return r->fresh;
}

/* --------------------------------------------------------------------------------------- runs */

static void begin(sd_sampling *r, const sd_sampler *s)
{
    *r = (sd_sampling){.s = s, .c = &s->c, .at = s->at, .begin = s->first, .steps = s->steps,
                       .end = s->end ? s->end : s->steps};
}

/* Runs the sampler without a UNet, on one number, to learn which evaluations it will request. */
static sd_status rehearse(sd_sampler *s, sd_error *e)
{
    double pool[MOST_VECTORS] = {0}, x = 0, output = 0, fresh = 0;
    sd_sampling r;
    begin(&r, s);
    r.recording = s;
    r.n = 1;
    r.pool = pool;
    r.x = &x;
    r.output = &output;
    r.fresh = &fresh;
    s->count = 0;
    s->row->sample(&r);
    s->vectors = r.taken;
    if (s->row->open_ended) s->count = r.evaluations = 0;
    if (!s->evals || s->count != r.evaluations)
        return sd_fail(e, SD_ERR_MEMORY, "no memory for a schedule of %d steps", s->steps);
    s->evals[s->count] = (sd_eval){0.0, sigma_of(s->at[s->steps]), alpha_of(s->at[s->steps])};
    return SD_OK;
}

static sd_status check_levels(const sd_sampler *s, sd_error *e)
{
    for (int i = 0; i < s->count; i++) {
        const sd_eval *v = &s->evals[i];
        if (!s->row->edm && !(v->timestep >= 0 && v->timestep <= s->c.train_steps))
            return sd_fail(e, SD_ERR_ARG, "evaluation %d of %s would be at timestep %g, of 0 to %d", i,
                           sd_method_name(s->c.method), v->timestep, s->c.train_steps - 1);
        /* At a = 0 there is no signal to divide by: a run can begin there only if the UNet does not predict noise. */
        bool endless = s->c.prediction != SD_PRED_EPSILON && !s->row->needs_signal;
        bool from_zero = s->row->levels->upwards && s->c.prediction != SD_PRED_SAMPLE;
        if (!((v->sigma > 0 || (from_zero && v->sigma == 0)) && v->sigma <= (endless ? INFINITY : DBL_MAX)))
            return sd_fail(e, SD_ERR_ARG, "%s with %s prediction cannot use timestep %g: its sigma is %g%s",
                           sd_method_name(s->c.method), sd_prediction_name(s->c.prediction), v->timestep, v->sigma,
                           s->c.rescale_zero_snr ? " by rescale_betas_zero_snr" : "");
    }
    return SD_OK;
}

sd_status sd_sampler_new(sd_sampler **out, const sd_sched_config *c, int steps, sd_error *e)
{
    return sd_sampler_new_from(out, c, steps, 0, e);
}

sd_status sd_sampler_new_from(sd_sampler **out, const sd_sched_config *c, int steps, int first, sd_error *e)
{
    return sd_sampler_new_part(out, c, steps, &(sd_sampler_part){first, 0, 1, 0}, e);
}

/* How diffusers counts the whole run's timesteps: once for each step, or once for each evaluation. */
static bool counts_evaluations(const sd_sampler *s) { return !s->kdiffusion && s->row->cut != SD_CUT_STEPS; }

/* How many timesteps of the whole run are below the cutoff of a share of the training schedule; `of`: how many there
 * are. */
static int timesteps_below(const sd_sampler *s, double share, int *of)
{
    bool evaluations = counts_evaluations(s);
    int below = 0, n = *of = evaluations ? s->count : s->steps;
    double train = s->c.train_steps, cutoff = rint(train - share * train);   /* Python's round(): halves to even */
    for (int i = 0; i < n; i++) below += (evaluations ? s->evals[i].timestep : s->at[i].t) < cutoff;
    return below;
}

static sd_status check_cut(const sd_sampler *s, sd_error *e)
{
    if (!s->row->uncut || (s->kdiffusion && s->row->home == SD_DIFFUSERS)) return SD_OK;
    return sd_fail(e, SD_ERR_ARG, "%s can neither begin nor end in the middle of a run: %s",
                   sd_method_name(s->c.method), s->row->uncut);
}

/* Finds s->first, s->end and s->half, when the whole run has been rehearsed. The last entry of s->evals will be where
 * the part ends. */
static sd_status cut(sd_sampler *s, const sd_sampler_part *p, sd_eval *where, sd_error *e)
{
    const char *name = sd_method_name(s->c.method);
    int n, list = s->row->cut == SD_CUT_EVALUATIONS && !s->kdiffusion ? 2 : 1, first = list * p->first;
    if (check_cut(s, e)) return e->status;
    if (!(p->start >= 0 && p->start < p->end && p->end <= 1))
        return sd_fail(e, SD_ERR_ARG, "a part of a run goes from a share of 0 or more to a larger one, at most 1, not "
                       "from %g to %g", p->start, p->end);
    int left = timesteps_below(s, p->start, &n), end = p->end < 1 ? n - timesteps_below(s, p->end, &n) : n;
    if (p->start > 0 && list == 2 && left % 2 == 0) left++;   /* from the beginning of a step */
    if (p->start > 0) first = n - left;
    if (first >= end)
        return sd_fail(e, SD_ERR_ARG, "no step of %d of %s is between the shares %g and %g of the run", s->steps, name,
                       p->start, p->end);
    if (end < n && counts_evaluations(s)) *where = s->evals[end];
    else if (end < n) *where = (sd_eval){s->at[end].t, sigma_of(s->at[end]), alpha_of(s->at[end])};
    s->first = first / list;
    s->end = list == 2 ? (end + 1) / 2 : end;
    s->half = list == 2 && end < n && end % 2;
    return SD_OK;
}

static void find_span(sd_sampler *s)
{
    s->least = INFINITY;
    s->most = 0;
    for (int i = 0; i <= s->count; i++) {
        double sigma = s->evals[i].sigma;
        if (sigma > 0) s->least = fmin(s->least, sigma);
        s->most = fmax(s->most, sigma);
    }
}

void sd_sampler_span(const sd_sampler *s, double *least, double *most)
{
    *least = s->least;
    *most = s->most;
}

/* Makes the run begin with the step whose first evaluation is number `evaluation` of the whole run, which has been
 * rehearsed: the one after which as many evaluations are left. */
static sd_status begin_at(sd_sampler *s, int evaluation, sd_error *e)
{
    int whole = s->count, steps = s->steps > whole ? s->steps : whole;
    if (check_cut(s, e)) return e->status;
    if (evaluation < 0 || evaluation >= whole)
        return sd_fail(e, SD_ERR_ARG, "a run with %d evaluations begins with one of 0 to %d, not %d", whole, whole - 1,
                       evaluation);
    for (s->first = 0; s->first < steps; s->first++) {
        if (rehearse(s, e)) return e->status;
        if (whole - s->count >= evaluation) break;
    }
    if (whole - s->count == evaluation) return SD_OK;
    return sd_fail(e, SD_ERR_ARG, "evaluation %d of %s is in the middle of a step: a run can begin with %d, not with "
                   "it", evaluation, sd_method_name(s->c.method), evaluation + 1);
}

static sd_status rehearse_part(sd_sampler *s, const sd_sampler_part *part, sd_error *e)
{
    bool whole = part->start == 0 && part->end == 1;
    sd_eval end = {-1, 0, 0};
    if (!whole) s->first = 0;
    if (rehearse(s, e)) return e->status;
    find_span(s);
    if (part->evaluation && begin_at(s, part->evaluation, e)) return e->status;
    if (whole) return check_levels(s, e);
    if (cut(s, part, &end, e) || rehearse(s, e)) return e->status;
    if (end.timestep >= 0) s->evals[s->count] = end;
    return check_levels(s, e);
}

sd_status sd_sampler_new_part(sd_sampler **out, const sd_sched_config *c, int steps, const sd_sampler_part *part,
                              sd_error *e)
{
    int first = part->first;
    *out = NULL;
    if (sd_sched_check(c, "sampler settings", SD_ERR_ARG, e)) return e->status;
    if (steps < 1 || steps > c->train_steps)
        return sd_fail(e, SD_ERR_ARG, "steps should be 1..%d (num_train_timesteps), found %d", c->train_steps, steps);
    if (first < 0 || first >= steps)
        return sd_fail(e, SD_ERR_ARG, "the first of %d steps should be 0..%d, found %d", steps, steps - 1, first);
    sd_sampler *s = calloc(1, sizeof *s);
    if (!s) return sd_fail(e, SD_ERR_MEMORY, "no memory for a sampler");
    s->first = first;
    s->c = *c;
    s->row = sd_method_row_of(c->method);
    /* A class ignores the settings it does not know. */
    s->c.clip_sample = c->clip_sample && s->row->reads.clip && !s->row->never_clips;
    s->c.thresholding = c->thresholding && s->row->reads.threshold && !s->row->never_clips;
    s->kdiffusion = sd_is_kdiffusion(c);
    if (s->row->predicts_v && !s->kdiffusion) s->c.prediction = SD_PRED_V;
    s->steps = steps;
    s->alphas = malloc((size_t)c->train_steps * sizeof *s->alphas);
    s->at = calloc((size_t)c->train_steps + 2, sizeof *s->at);
    if (!s->alphas || !s->at) sd_fail(e, SD_ERR_MEMORY, "no memory for a schedule of %d steps", steps);
    else if (!sd_place_levels(s, e) && first >= s->steps)
        sd_fail(e, SD_ERR_ARG, "the schedule has %d steps, and the first of them should be %d", s->steps, first);
    else if (!e->status) rehearse_part(s, part, e);
    if (e->status) {
        sd_sampler_free(s);
        return e->status;
    }
    *out = s;
    return SD_OK;
}

void sd_sampler_free(sd_sampler *s)
{
    if (!s) return;
    free(s->at);
    free(s->alphas);
    free(s->evals);
    free(s);
}

int sd_sampler_count(const sd_sampler *s) { return s->count; }
double sd_sampler_timestep(const sd_sampler *s, int i) { return s->evals[i].timestep; }
double sd_sampler_sigma(const sd_sampler *s, int i) { return s->evals[i].sigma; }
double sd_sampler_alpha(const sd_sampler *s, int i) { return s->evals[i].alpha; }

/* How ComfyUI finds that a run begins at the largest sigma [comfy/samplers.py, Sampler.max_denoise]. */
static bool is_largest(const sd_sampler *s, double sigma)
{
    double most = sd_sigma_of_alpha(s->alphas[s->c.train_steps - 1]);
    return sigma > most || most - sigma <= 1e-5 * most;
}

static double first_scale(const sd_sampler *s, double sigma)
{
    bool root = s->c.first == SD_FIRST_ROOT || (s->c.first == SD_FIRST_COMFY && is_largest(s, sigma));
    return root ? sqrt(sigma * sigma + 1.0) : sigma;
}

/* [comfy/model_sampling.py, EPS.noise_scaling] A1111's multiplier is not for runs that begin from a picture. */
double sd_sampler_more_noise(const sd_sampler *s)
{
    double sigma = s->count ? s->evals[0].sigma : 0;
    return sd_is_exploding(s) && s->c.first == SD_FIRST_COMFY ? first_scale(s, sigma) - sigma : 0;
}

/* init_noise_sigma. Leading spacing starts below the last training timestep, where x = x0 + sigma eps still holds
 * signal: its standard deviation for data of unit variance is sqrt(sigma^2 + 1). */
double sd_sampler_init_sigma(const sd_sampler *s)
{
    if (sd_is_exploding(s) && s->c.first != SD_FIRST_OWN && !s->row->edm)
        return first_scale(s, sigma_of(s->at[0]));
    if (s->kdiffusion) return s->at[0].noise;
    if (s->row->scale == SD_VP) return 1.0;
    double largest = 0.0;
    for (int i = 0; i < s->steps; i++) largest = fmax(largest, sigma_of(s->at[i]));
    if (s->row->edm) largest = s->c.sigma_max;
    return s->c.spacing == SD_SPACE_LEADING || s->row->edm ? sqrt(largest * largest + 1.0) : largest;
}

/* Is evaluation i in the middle of a step? In that case diffusers' add_noise takes the level of the step's end, which
 * KDPM2DiscreteScheduler and similar classes have in the middle's place in their list `sigmas`. */
static bool at_middle(const sd_sampler *s, int i)
{
    return s->row->two_a_step && !s->kdiffusion && i % 2 == 1;
}

/* [Ho et al. 2020, eq. 4; Karras et al. 2022, table 1] diffusers' add_noise. */
void sd_sampler_add_noise(const sd_sampler *s, int i, float *out, const float *x0, const float *noise, size_t n)
{
    bool exploding = sd_is_exploding(s);
    const sd_level *end = at_middle(s, i) ? &s->at[s->first + i / 2 + 1] : NULL;
    double a = end ? alpha_of(*end) : s->evals[i].alpha, ratio = end ? sigma_of(*end) : s->evals[i].sigma;
    double signal = exploding ? 1.0 : sqrt(a), sigma = exploding ? ratio : sqrt(1.0 - a);
    for (size_t j = 0; j < n; j++) out[j] = (float)(signal * x0[j] + sigma * noise[j]);
}

sd_status sd_sampler_run(const sd_sampler *s, float *latents, size_t n, const sd_denoiser *d, sd_error *e)
{
    size_t most = SIZE_MAX / sizeof(double) / ((size_t)s->vectors + 4);
    if (n == 0 || n > most) return sd_fail(e, SD_ERR_ARG, "latents of %zu numbers", n);
    if (s->draws && !d->noise)
        return sd_fail(e, SD_ERR_ARG, "%s draws noise and needs a generator", sd_method_name(s->c.method));
    double *pool = calloc(((size_t)s->vectors + 4) * n, sizeof *pool);
    float *pool32 = malloc(3 * n * sizeof *pool32);
    if (!pool || !pool32) {
        free(pool);
        free(pool32);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for a sampler of %zu numbers", n);
    }
    sd_sampling r;
    begin(&r, s);
    r.n = n;
    r.hooks = d;
    r.x = pool;
    r.output = pool + n;
    r.fresh = pool + 2 * n;
    r.predicted = pool + 3 * n;
    r.pool = pool + 4 * n;
    r.latents = latents;
    r.input = pool32;
    r.prediction = pool32 + n;
    r.scratch = pool32 + 2 * n;
    for (size_t j = 0; j < n; j++) r.x[j] = latents[j];
    s->row->sample(&r);
    if (!r.stop) hand_over(&r, r.x);
    free(pool);
    free(pool32);
    if (r.status && !e->status) sd_fail(e, r.status, "the run was ended at evaluation %d", r.evaluations);
    return r.status;
}
