/* sampler.c - floor 5: noise schedules, timestep spacings, prediction types; the samplers DDIM, PNDM, Euler, Euler a.
 *
 * Notation: a = alphas_cumprod (the papers' alpha-bar), the share of signal at a timestep of the training schedule. The
 * latents of DDIM and PNDM are x = sqrt(a) x0 + sqrt(1-a) eps, those of the Euler samplers x = x0 + sigma eps with
 * sigma = sqrt((1-a)/a). The table of a is float32, bit for bit diffusers'; what is derived from it is computed in
 * double, and only the latents between two steps are float32.
 *
 * A run is planned before it starts: one `eval` per UNet evaluation says which timestep the UNet is given and between
 * which noise levels the latents move. The step functions then read as the papers' lines. */
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One evaluation of the UNet. */
typedef struct eval {
    double timestep;       /* given to the UNet */
    double alpha, sigma;   /* noise level of what it sees */
    double from, to;       /* DDIM, PNDM: a between which the latents move */
} eval;

struct sd_sampler {
    sd_sched_config c;
    int count;             /* evaluations */
    eval *eval;            /* [count + 1]; the last is where the run ends */
    int runge_kutta;       /* PNDM: evaluations 0 .. runge_kutta - 1 belong to Runge-Kutta steps */
    int next;              /* evaluation that comes next */
    size_t n;              /* numbers in the latents; 0: no step yet */
    float *noise;          /* [n] */
    float *base;           /* [n] PNDM: latents at the start of a step of several evaluations */
    float *history[4];     /* [n] each, PNDM: model outputs, newest first */
    int n_history;
    double *sum;           /* [n] PNDM: Runge-Kutta's weighted sum of model outputs, as far as it has come */
    double *output;        /* [n] PNDM: the model output that the step uses, a mean of several */
};

/* ------------------------------------------------------------------------------ noise schedule
 * float32 and in torch's order of operations, so that the table equals diffusers' in every bit. */

/* torch.linspace: from both ends towards the middle, with a fused multiply-add. */
static void linspace_f32(float *y, double start, double end, int n)
{
    float first = (float)start, last = (float)end, step = n > 1 ? (last - first) / (float)(n - 1) : 0.0f;
    for (int i = 0; i < n; i++) y[i] = i < n / 2 ? fmaf(step, (float)i, first) : fmaf(-step, (float)(n - 1 - i), last);
    if (n == 1) y[0] = first;
}

/* torch.cumprod(1 - betas): a double accumulator, each value rounded. Works in place. */
static void cumprod_of_alphas(float *a, const float *betas, int n)
{
    double product = 1.0;
    for (int i = 0; i < n; i++) {
        product *= 1.0f - betas[i];
        a[i] = (float)product;
    }
}

static double cosine_alpha_bar(double t)   /* [Nichol & Dhariwal 2021, eq. 17] */
{
    double c = cos((t + 0.008) / 1.008 * 3.14159265358979323846 / 2.0);
    return c * c;
}

static void fill_betas(float *betas, const sd_sched_config *c)
{
    int n = c->train_steps;
    switch (c->beta_schedule) {
    case SD_BETA_LINEAR:          /* [Ho et al. 2020, sec. 4] */
        linspace_f32(betas, c->beta_start, c->beta_end, n);
        break;
    case SD_BETA_SCALED_LINEAR:   /* linear in sqrt(beta) [Rombach et al. 2022]; CompVis' code calls it "linear" */
        linspace_f32(betas, sqrt(c->beta_start), sqrt(c->beta_end), n);
        for (int i = 0; i < n; i++) betas[i] *= betas[i];
        break;
    case SD_BETA_COSINE:
        for (int i = 0; i < n; i++) {
            double beta = 1.0 - cosine_alpha_bar((double)(i + 1) / n) / cosine_alpha_bar((double)i / n);
            betas[i] = (float)fmin(beta, 0.999);
        }
        break;
    }
}

/* sqrt(a) shifted and scaled so that the last timestep is pure noise and the first is as it was
 * [Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", Algorithm 1]. */
static void rescale_zero_terminal_snr(float *betas, int n)
{
    float *root = betas, first, last, before = 1.0f;
    cumprod_of_alphas(root, betas, n);
    for (int i = 0; i < n; i++) root[i] = sqrtf(root[i]);
    first = root[0];
    last = root[n - 1];
    for (int i = 0; i < n; i++) {
        float shifted = (root[i] - last) * (first / (first - last)), bar = shifted * shifted;
        betas[i] = 1.0f - (i ? bar / before : bar);
        before = bar;
    }
}

/* alphas_cumprod for every training timestep. */
static void alphas_cumprod(float *a, const sd_sched_config *c)
{
    int n = c->train_steps;
    fill_betas(a, c);
    bool zero_snr = c->rescale_zero_snr && c->method != SD_PNDM;
    if (zero_snr) rescale_zero_terminal_snr(a, n);
    cumprod_of_alphas(a, a, n);
    if (zero_snr && c->method != SD_DDIM) a[n - 1] = 0x1p-24f;   /* the Euler classes: a finite first sigma, 4096 */
}

/* ----------------------------------------------------------------------------------- timesteps */

/* The timesteps of a run, descending [Lin et al. 2023, Table 2]. The Euler classes keep linspace's fractions. */
static void space_timesteps(double *t, const sd_sched_config *c, int steps)
{
    double train = c->train_steps, stride = train / steps;
    bool whole = c->method == SD_DDIM || c->method == SD_PNDM;
    for (int i = 0; i < steps; i++) {
        int left = steps - 1 - i;
        double even = steps == 1 ? 0.0 : left == steps - 1 ? train - 1 : left * ((train - 1) / (steps - 1));
        switch (c->spacing) {
        case SD_SPACE_LEADING:
            t[i] = left * (c->train_steps / steps) + c->steps_offset;
            break;
        case SD_SPACE_TRAILING:
            /* numpy.arange(train, 0, -stride): this is how it rounds. Where that takes it a step too far (61, 103, ...
             * steps of 1000), diffusers evaluates timestep -1; we do not. */
            t[i] = rint(train + i * ((train - stride) - train)) - 1;
            break;
        case SD_SPACE_LINSPACE:
            t[i] = whole ? rint(even) : (double)(float)even;
            break;
        }
    }
}

/* a at a timestep of DDIM or PNDM; below the first there is nothing to look up. */
static double alpha_at(const sd_sched_config *c, const float *table, double t)
{
    if (t < 0) return c->set_alpha_to_one ? 1.0 : table[0];   /* final_alpha_cumprod */
    return table[(int)t];
}

static double sigma_of(double a) { return sqrt((1.0 - a) / a); }

/* sigma at a timestep of an Euler sampler: numpy.interp between the training timesteps, constant beyond them. */
static double sigma_at(const sd_sched_config *c, const float *table, double t)
{
    int last = c->train_steps - 1, low = t < last ? (int)t : last;
    double s = sigma_of(table[low]);
    return low < last ? s + (t - low) * (sigma_of(table[low + 1]) - s) : s;
}

/* ---------------------------------------------------------------------------------------- plans */

static void plan_eval(sd_sampler *s, const float *table, double timestep, double from, double to)
{
    eval *v = &s->eval[s->count++];
    v->timestep = timestep;
    v->alpha = alpha_at(&s->c, table, timestep);
    v->sigma = sigma_of(v->alpha);
    v->from = alpha_at(&s->c, table, from);
    v->to = alpha_at(&s->c, table, to);
}

/* DDIMScheduler: a step goes one stride down, which for linspace is not quite where the next one starts. */
static void plan_ddim(sd_sampler *s, const float *table, const double *t, int steps)
{
    int stride = s->c.train_steps / steps;
    for (int i = 0; i < steps; i++) plan_eval(s, table, t[i], t[i], t[i] - stride);
}

/* PNDMScheduler [Liu et al. 2022, Algorithm 2]. Linear multi-step needs a history. Runge-Kutta makes one: three steps
 * of four evaluations. Without it (skip_prk_steps, all of Stable Diffusion) the first step is taken twice: to its end
 * and, with the mean of both ends' outputs, from its start again; hence one evaluation more than steps. */
static void plan_pndm(sd_sampler *s, const float *table, const double *t, int steps)
{
    int stride = s->c.train_steps / steps, half = stride / 2, i = 0;
    if (!s->c.skip_prk_steps) {
        for (; i < 3; i++) {
            double middle = t[i + 1] + half;
            plan_eval(s, table, t[i], t[i], t[i] - half);
            plan_eval(s, table, middle, t[i], middle);
            plan_eval(s, table, middle, t[i], t[i + 1]);
            plan_eval(s, table, t[i + 1], t[i], t[i + 1]);
        }
        s->runge_kutta = s->count;
    }
    for (; i < steps; i++) {
        plan_eval(s, table, t[i], t[i], t[i] - stride);
        if (i == 0 && steps > 1) plan_eval(s, table, t[1], t[1] + stride, t[1]);
    }
}

/* EulerDiscreteScheduler, EulerAncestralDiscreteScheduler: down to sigma 0. */
static void plan_euler(sd_sampler *s, const float *table, const double *t, int steps)
{
    for (int i = 0; i < steps; i++) {
        eval *v = &s->eval[s->count++];
        v->timestep = t[i];
        v->sigma = sigma_at(&s->c, table, t[i]);
        v->alpha = 1.0 / (1.0 + v->sigma * v->sigma);
        v->from = v->to = 0;
    }
}

static bool is_euler(const sd_sched_config *c) { return c->method == SD_EULER || c->method == SD_EULER_A; }

static sd_status check_table(const float *table, int n, sd_error *e)
{
    for (int i = 0; i < n; i++)
        if (!(table[i] >= 0.0f && table[i] < 1.0f))
            return sd_fail(e, SD_ERR_ARG, "unusable noise schedule: alphas_cumprod[%d] should be in [0,1), is %g",
                           i, (double)table[i]);
    return SD_OK;
}

/* At a = 0 there is no signal to divide by: only DDIM can start there, and not from a prediction of the noise. */
static sd_status check_levels(const sd_sampler *s, sd_error *e)
{
    for (int i = 0; i < s->count; i++) {
        const eval *v = &s->eval[i];
        bool usable = is_euler(&s->c) ? v->sigma > 0 && v->sigma <= DBL_MAX : v->from > 0 && v->alpha > 0;
        if (!usable && !(s->c.method == SD_DDIM && s->c.prediction != SD_PRED_EPSILON))
            return sd_fail(e, SD_ERR_ARG, "%s with %s prediction cannot use timestep %g: its sigma is %g",
                           sd_method_name(s->c.method), sd_prediction_name(s->c.prediction), v->timestep, v->sigma);
    }
    return SD_OK;
}

static sd_status check_steps(const sd_sched_config *c, int steps, sd_error *e)
{
    if (steps < 1 || steps > c->train_steps)
        return sd_fail(e, SD_ERR_ARG, "steps should be 1..%d (num_train_timesteps), found %d", c->train_steps, steps);
    if (c->method == SD_PNDM && !c->skip_prk_steps && steps < 4)
        return sd_fail(e, SD_ERR_ARG, "pndm with skip_prk_steps false needs 4 steps or more, found %d", steps);
    double highest = (double)(steps - 1) * (c->train_steps / steps) + c->steps_offset;
    if (c->spacing == SD_SPACE_LEADING && !is_euler(c) && highest >= c->train_steps)
        return sd_fail(e, SD_ERR_ARG, "%d steps with steps_offset %d begin at timestep %.0f, but the last one is %d: "
                       "take fewer steps or a smaller offset", steps, c->steps_offset, highest, c->train_steps - 1);
    return SD_OK;
}

static sd_status plan(sd_sampler *s, float *table, double *t, int steps, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    alphas_cumprod(table, c);
    if (check_table(table, c->train_steps, e)) return e->status;
    space_timesteps(t, c, steps);
    if (c->method == SD_DDIM) plan_ddim(s, table, t, steps);
    else if (c->method == SD_PNDM) plan_pndm(s, table, t, steps);
    else plan_euler(s, table, t, steps);
    eval *end = &s->eval[s->count];
    end->alpha = is_euler(c) ? 1.0 : s->eval[s->count - 1].to;
    end->sigma = sigma_of(end->alpha);
    return check_levels(s, e);
}

sd_status sd_sampler_new(sd_sampler **out, const sd_sched_config *c, int steps, sd_error *e)
{
    *out = NULL;
    if (sd_sched_check(c, "sampler settings", SD_ERR_ARG, e) || check_steps(c, steps, e)) return e->status;
    sd_sampler *s = calloc(1, sizeof *s);
    float *table = malloc((size_t)c->train_steps * sizeof *table);
    double *t = malloc((size_t)steps * sizeof *t);
    eval *evals = calloc((size_t)steps + 10, sizeof *evals);   /* PNDM with Runge-Kutta: steps + 9, and the end */
    sd_status status;
    if (s && table && t && evals) {
        s->c = *c;
        s->eval = evals;
        evals = NULL;
        status = plan(s, table, t, steps, e);
    } else {
        status = sd_fail(e, SD_ERR_MEMORY, "no memory for a schedule of %d steps", steps);
    }
    free(table);
    free(t);
    free(evals);
    if (status) {
        sd_sampler_free(s);
        return status;
    }
    *out = s;
    return SD_OK;
}

static void free_buffers(sd_sampler *s)
{
    free(s->noise);
    free(s->base);
    free(s->sum);
    free(s->output);
    s->noise = s->base = NULL;
    s->sum = s->output = NULL;
    for (size_t k = 0; k < SD_COUNT(s->history); k++) {
        free(s->history[k]);
        s->history[k] = NULL;
    }
}

void sd_sampler_free(sd_sampler *s)
{
    if (!s) return;
    free_buffers(s);
    free(s->eval);
    free(s);
}

int sd_sampler_count(const sd_sampler *s) { return s->count; }
double sd_sampler_timestep(const sd_sampler *s, int i) { return s->eval[i].timestep; }
double sd_sampler_sigma(const sd_sampler *s, int i) { return s->eval[i].sigma; }
double sd_sampler_alpha(const sd_sampler *s, int i) { return s->eval[i].alpha; }

/* init_noise_sigma. Euler's leading spacing starts below the last training timestep, where x = x0 + sigma eps still
 * holds signal: its standard deviation for data of unit variance is sqrt(sigma^2 + 1). */
double sd_sampler_init_sigma(const sd_sampler *s)
{
    if (!is_euler(&s->c)) return 1.0;
    double largest = 0.0;
    for (int i = 0; i < s->count; i++) largest = fmax(largest, s->eval[i].sigma);
    return s->c.spacing == SD_SPACE_LEADING ? sqrt(largest * largest + 1.0) : largest;
}

/* ---------------------------------------------------------------------------- prediction types */

/* What a model output F says about x = sqrt(a) x0 + sqrt(1-a) eps, as four numbers: x0 = x_skip x + x_out F and
 * eps = eps_skip x + eps_out F. v = sqrt(a) eps - sqrt(1-a) x0 [Salimans & Ho 2022, "Progressive Distillation", sec.
 * 4]. */
typedef struct scaling { double x_skip, x_out, eps_skip, eps_out; } scaling;

static scaling scaling_at(sd_prediction p, double a)
{
    double signal = sqrt(a), noise = sqrt(1.0 - a);
    switch (p) {
    case SD_PRED_V: return (scaling){signal, -noise, noise, signal};
    case SD_PRED_SAMPLE: return (scaling){0.0, 1.0, 1.0 / noise, -signal / noise};
    case SD_PRED_EPSILON: break;
    }
    return (scaling){1.0 / signal, -noise / signal, 0.0, 1.0};
}

/* c_in [Karras et al. 2022, eq. 7] brings the Euler samplers' x = x0 + sigma eps to the scale that the UNet knows. */
static double c_in(const sd_sampler *s, int i)
{
    double sigma = s->eval[i].sigma;
    return is_euler(&s->c) ? 1.0 / sqrt(sigma * sigma + 1.0) : 1.0;
}

void sd_sampler_scale_input(const sd_sampler *s, int i, float *out, const float *in, size_t n)
{
    double scale = c_in(s, i);
    for (size_t k = 0; k < n; k++) out[k] = (float)(in[k] * scale);
}

/* ----------------------------------------------------------------------------------------- steps */

/* DDIM [Song et al. 2020, "Denoising Diffusion Implicit Models", eq. 12 and 16]; diffusers' DDIMScheduler.step.
 *   x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma noise,  sigma = eta sqrt((1-a')/(1-a)) sqrt(1 - a/a')
 * Clipping changes x0 alone: eps stays what the model said (use_clipped_model_output is false). */
static void step_ddim(sd_sampler *s, int i, float *x, const float *model, float *denoised, size_t n,
                      const float *noise)
{
    double a = s->eval[i].from, a1 = s->eval[i].to, range = s->c.clip_sample_range;
    scaling k = scaling_at(s->c.prediction, a);
    double sigma = s->c.eta * sqrt((1.0 - a1) / (1.0 - a) * (1.0 - a / a1));
    double to_x0 = sqrt(a1), to_eps = sqrt(fmax(1.0 - a1 - sigma * sigma, 0.0));
    for (size_t j = 0; j < n; j++) {
        double x0 = k.x_skip * x[j] + k.x_out * model[j], eps = k.eps_skip * x[j] + k.eps_out * model[j];
        if (s->c.clip_sample) x0 = x0 < -range ? -range : x0 > range ? range : x0;   /* NaN stays NaN */
        if (denoised) denoised[j] = (float)x0;
        double y = to_x0 * x0 + to_eps * eps;
        if (noise) y += sigma * noise[j];
        x[j] = (float)y;
    }
}

/* Euler on the probability flow ODE dx/dsigma = (x - D(x; sigma)) / sigma [Karras et al. 2022, "Elucidating the Design
 * Space", eq. 1 and 3, Algorithm 1 without its second-order correction]; EulerDiscreteScheduler.step with s_churn 0.
 * With noise: EulerAncestralDiscreteScheduler.step, which goes down further and comes back up with fresh noise
 * (k-diffusion's get_ancestral_step with eta 1). D = c_skip x + c_out F. */
static void step_euler(sd_sampler *s, int i, float *x, const float *model, float *denoised, size_t n,
                       const float *noise)
{
    double sigma = s->eval[i].sigma, to = s->eval[i + 1].sigma, up = 0.0, down = to;
    if (noise) {
        up = sqrt(to * to * (sigma * sigma - to * to) / (sigma * sigma));
        down = sqrt(to * to - up * up);
    }
    scaling k = scaling_at(s->c.prediction, s->eval[i].alpha);
    double c_skip = k.x_skip * c_in(s, i), c_out = k.x_out;
    for (size_t j = 0; j < n; j++) {
        double d0 = c_skip * x[j] + c_out * model[j], slope = (x[j] - d0) / sigma;
        if (denoised) denoised[j] = (float)d0;
        double y = x[j] + slope * (down - sigma);
        if (noise) y += up * noise[j];
        x[j] = (float)y;
    }
}

static void remember(sd_sampler *s, const float *model, size_t n)
{
    float *oldest = s->history[3];
    memmove(&s->history[1], &s->history[0], 3 * sizeof s->history[0]);
    s->history[0] = oldest;
    memcpy(oldest, model, n * sizeof *model);
    if (s->n_history < 4) s->n_history++;
}

/* Pseudo Runge-Kutta [Liu et al. 2022, eq. 13], PNDMScheduler.step_prk: four evaluations from one starting point. The
 * trial steps use their own outputs, the last one (e1 + 2 e2 + 2 e3 + e4) / 6. */
static void combine_runge_kutta(sd_sampler *s, int i, const float *x, const float *model, size_t n)
{
    static const double weight[] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    int phase = i % 4;
    if (phase == 0) {
        memcpy(s->base, x, n * sizeof *x);
        remember(s, model, n);
    }
    for (size_t j = 0; j < n; j++) {
        s->sum[j] = (phase ? s->sum[j] : 0.0) + weight[phase] * model[j];
        s->output[j] = phase == 3 ? s->sum[j] : model[j];
    }
}

/* Pseudo linear multi-step [Liu et al. 2022, eq. 12], PNDMScheduler.step_plms: Adams-Bashforth of the order that the
 * history allows. */
static void combine_multi_step(sd_sampler *s, int i, const float *x, const float *model, size_t n)
{
    static const double adams_bashforth[4][4] = {
        {1.0}, {3.0 / 2, -1.0 / 2}, {23.0 / 12, -16.0 / 12, 5.0 / 12}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};
    if (i == 1 && !s->runge_kutta) {   /* the first step once more, from its start; this output is not remembered */
        for (size_t j = 0; j < n; j++) s->output[j] = ((double)model[j] + s->history[0][j]) / 2.0;
        return;
    }
    memcpy(s->base, x, n * sizeof *x);
    remember(s, model, n);
    for (size_t j = 0; j < n; j++) {
        s->output[j] = 0.0;
        for (int k = 0; k < s->n_history; k++) s->output[j] += adams_bashforth[s->n_history - 1][k] * s->history[k][j];
    }
}

/* PNDM [Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", eq. 9];
 * PNDMScheduler._get_prev_sample:
 *   x' = sqrt(a'/a) x - (a' - a) e / (a sqrt(1-a') + sqrt(a (1-a) a'))
 * with x where the step started and e the mean of several outputs. The mean is taken of the outputs as they are (v
 * stays v) and turned into noise at the start of the step, as the class does; sample prediction, which it refuses, goes
 * the same way. The class predicts no x0: `denoised` is what this evaluation's own output F says together with the
 * latents x and the timestep that the UNet was given, x0 = x_skip x + x_out F there (also at Runge-Kutta's trial
 * points). */
static void step_pndm(sd_sampler *s, int i, float *x, const float *model, float *denoised, size_t n,
                      const float *noise)
{
    (void)noise;
    if (i == 0) s->n_history = 0;
    scaling here = scaling_at(s->c.prediction, s->eval[i].alpha);
    for (size_t j = 0; denoised && j < n; j++) denoised[j] = (float)(here.x_skip * x[j] + here.x_out * model[j]);

    if (i < s->runge_kutta) combine_runge_kutta(s, i, x, model, n);
    else combine_multi_step(s, i, x, model, n);

    double a = s->eval[i].from, a1 = s->eval[i].to;
    scaling k = scaling_at(s->c.prediction, a);
    double to_x = sqrt(a1 / a), to_eps = -(a1 - a) / (a * sqrt(1.0 - a1) + sqrt(a * (1.0 - a) * a1));
    for (size_t j = 0; j < n; j++) {
        double eps = k.eps_skip * s->base[j] + k.eps_out * s->output[j];
        x[j] = (float)(to_x * s->base[j] + to_eps * eps);
    }
}

/* Buffers of the size of the latents, known at the first step. */
static sd_status reserve(sd_sampler *s, size_t n, bool noisy, sd_error *e)
{
    if (s->n) {
        if (s->n != n) return sd_fail(e, SD_ERR_ARG, "latents had %zu numbers at the first step, now %zu", s->n, n);
        return SD_OK;
    }
    if (n == 0 || n > SIZE_MAX / sizeof(double)) return sd_fail(e, SD_ERR_ARG, "latents of %zu numbers", n);
    bool full = true;
    if (noisy) full = (s->noise = malloc(n * sizeof(float))) != NULL;
    if (s->c.method == SD_PNDM) {
        full = (s->base = malloc(n * sizeof(float))) && (s->sum = malloc(n * sizeof(double)))
            && (s->output = malloc(n * sizeof(double)));
        for (size_t k = 0; k < SD_COUNT(s->history); k++)
            full = (s->history[k] = malloc(n * sizeof(float))) && full;
    }
    if (!full) {
        free_buffers(s);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for a sampler of %zu numbers", n);
    }
    s->n = n;
    return SD_OK;
}

sd_status sd_sampler_step(sd_sampler *s, int i, float *latents, const float *noise_pred, float *denoised, size_t n,
                          sd_rng *rng, sd_error *e)
{
    if (i < 0 || i >= s->count || (i != 0 && i != s->next))
        return sd_fail(e, SD_ERR_ARG, "step %d of a run of %d evaluations, expected %d or 0", i, s->count, s->next);
    /* diffusers draws whenever eta > 0, and always in Euler a: also in its last step, where the noise counts for
     * nothing but the next picture from the same generator depends on it. */
    bool noisy = s->c.method == SD_EULER_A || (s->c.method == SD_DDIM && s->c.eta > 0);
    if (noisy && !rng)
        return sd_fail(e, SD_ERR_ARG, "%s draws noise and needs a generator", sd_method_name(s->c.method));
    if (reserve(s, n, noisy, e)) return e->status;
    if (noisy) sd_rng_normal(rng, s->noise, n);
    static void (*const steps[])(sd_sampler *, int, float *, const float *, float *, size_t, const float *) = {
        [SD_DDIM] = step_ddim, [SD_PNDM] = step_pndm, [SD_EULER] = step_euler, [SD_EULER_A] = step_euler};
    steps[s->c.method](s, i, latents, noise_pred, denoised, n, noisy ? s->noise : NULL);
    s->next = i + 1;
    return SD_OK;
}
