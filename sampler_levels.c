/* sampler_levels.c - floor 5: the noise levels of a run: from betas to alphas_cumprod, from a number of steps to
 * timesteps or sigmas. There is one function for each way to place them, chosen by the sampler's row of the table. The
 * named schedules of sigmas are in sampler_schedules.c. */
#include "sampler_run.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------ noise schedule
 * Computed in float32 and in torch's order of operations, so that the table equals diffusers' in every bit. */

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

/* Shifts and scales sqrt(a) so that the last timestep is pure noise and the first is unchanged
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
static void alphas_cumprod(float *a, const sd_sampler *s)
{
    const sd_sched_config *c = &s->c;
    int n = c->train_steps;
    fill_betas(a, c);
    bool zero_snr = c->rescale_zero_snr && s->row->reads.zero_snr;
    if (zero_snr) rescale_zero_terminal_snr(a, n);
    cumprod_of_alphas(a, a, n);
    if (zero_snr && s->row->levels->by_sigma) a[n - 1] = 0x1p-24f;   /* a finite first sigma, 4096 */
}

/* ----------------------------------------------------------------------------------- timesteps */

/* The timesteps of a run, descending [Lin et al. 2023, Table 2]. The Euler classes keep linspace's fractions. With
 * linspace and leading, the classes of the DPM-Solver family space one timestep more and leave out the lowest: their
 * runs do not visit the first training timestep. */
static void space_timesteps(sd_level *at, const sd_sampler *s)
{
    const sd_sched_config *c = &s->c;
    const sd_method_row *row = s->row;
    int steps = s->steps, extra = row->levels->one_more;
    double train = c->train_steps, stride = train / steps;
    switch (row->reads.spacing ? c->spacing : row->spacing) {   /* some classes have only one spacing */
    case SD_SPACE_LEADING:
        for (int i = 0; i < steps; i++)
            at[i].t = (steps + extra - 1 - i) * (c->train_steps / (steps + extra)) + c->steps_offset;
        break;
    case SD_SPACE_TRAILING:
        /* numpy.arange(train, 0, -stride) rounds like this. Where that makes it one step too long (61, 103, ... steps
         * of 1000), diffusers evaluates timestep -1; we do not. */
        for (int i = 0; i < steps; i++) at[i].t = rint(train + i * ((train - stride) - train)) - 1;
        break;
    case SD_SPACE_LINSPACE:
        for (int i = 0; i < steps; i++) {
            int left = steps + extra - 1 - i, most = steps + extra - 1;
            double even = most == 0 ? 0.0 : left == most ? train - 1 : left * ((train - 1) / most);
            at[i].t = row->levels->whole ? rint(even) : row->rounding == SD_ROUND_NOT ? even : (double)(float)even;
        }
        break;
    }
}

/* -------------------------------------------------------------------------------------- levels */

static sd_level level_of_alpha(double t, double a) { return (sd_level){t, sqrt(a), sqrt(1.0 - a)}; }

/* Below the first timestep there is nothing to look up: final_alpha_cumprod. */
sd_level sd_level_at_timestep(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, i = t < 0 ? 0 : t < last ? (int)t : last;
    return level_of_alpha(t, t < 0 && s->c.set_alpha_to_one ? 1.0 : s->alphas[i]);
}

/* numpy.interp between the training timesteps, constant beyond them. */
double sd_sigma_at(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, low = t >= last ? last : t > 0 ? (int)t : 0;
    double sigma = sd_sigma_of_alpha(s->alphas[low]);
    return low < last ? sigma + (t - low) * (sd_sigma_of_alpha(s->alphas[low + 1]) - sigma) : sigma;
}

/* k-diffusion interpolates the logarithm. */
double sd_log_sigma_at(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, low = t < last ? (int)t : last, high = low < last ? low + 1 : last;
    double w = t - low;
    return (1 - w) * log(sd_sigma_of_alpha(s->alphas[low])) + w * log(sd_sigma_of_alpha(s->alphas[high]));
}

/* Other programs hold the table of log sigma in float32. Ours must be the same, because the timestep that is found with
 * it may be rounded to a whole one. */
static float log_sigma32(const sd_sampler *s, int t)
{
    float a = s->alphas[t];
    return (float)log((double)sqrtf((1.0f - a) / a));
}

/* The timestep of a sigma, by interpolating its logarithm between those of the training timesteps. */
static double sigma_to_t(const sd_sampler *s, double sigma)
{
    int low = 0, high = s->c.train_steps - 1;
    double l = log(fmax(sigma, 1e-10));
    if (high == 0) return 0;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        *(l >= log_sigma32(s, middle) ? &low : &high) = middle;
    }
    float below = log_sigma32(s, low), above = log_sigma32(s, high);
    double w = fmin(fmax((below - l) / (below - above), 0.0), 1.0);
    if (s->c.whole_timesteps && s->kdiffusion) return w > 0.5 ? high : low;   /* ComfyUI's argmin takes the lower one */
    return (1 - w) * low + w * high;
}

static sd_level level_of_sigma(const sd_sampler *s, double t, double sigma)
{
    double size = sd_is_exploding(s) ? 1.0 : sqrt(sigma * sigma + 1.0);
    return (sd_level){t, 1.0 / size, sigma / size};
}

sd_level sd_level_at_sigma(const sd_sampler *s, double sigma)
{
    return level_of_sigma(s, s->row->edm ? 0.25 * log(sigma) : sigma_to_t(s, sigma), sigma);
}

/* --------------------------------------------------------------------------------------- checks */

static sd_status check_table(const float *table, int n, sd_error *e)
{
    for (int i = 0; i < n; i++)
        if (!(table[i] >= 0.0f && table[i] < 1.0f))
            return sd_fail(e, SD_ERR_ARG, "unusable noise schedule: alphas_cumprod[%d] should be in [0,1), is %g",
                           i, (double)table[i]);
    return SD_OK;
}

/* Checks the caller's list. The bounds keep squares and quotients of sigmas within the range of float32. */
static sd_status check_sigmas(const sd_sampler *s, sd_error *e)
{
    const double *sigma = s->c.sigmas, most = 1e9;
    for (int i = 0; i <= s->steps; i++) {
        bool end = i == s->steps && sigma[i] == 0;
        if (!end && !(sigma[i] >= 1 / most && sigma[i] <= most))
            return sd_fail(e, SD_ERR_ARG,
                           "sigmas: each should be %g to %g, and the last may be 0; number %d of %d is %g", 1 / most,
                           most, i + 1, s->steps + 1, sigma[i]);
        if (i && !(sigma[i] < sigma[i - 1]))
            return sd_fail(e, SD_ERR_ARG, "sigmas should fall, but number %d of %d is %g and comes after %g", i + 1,
                           s->steps + 1, sigma[i], sigma[i - 1]);
    }
    return SD_OK;
}

static sd_status check_timesteps(const sd_sampler *s, sd_error *e)
{
    const double *t = s->c.timesteps;
    int last = s->c.train_steps - 1;
    bool whole = s->row->levels->whole && !s->kdiffusion;   /* these classes of diffusers would drop the fraction */
    for (int i = 0; i < s->steps; i++) {
        if (!(t[i] >= 0 && t[i] <= last))
            return sd_fail(e, SD_ERR_ARG, "timesteps: each should be 0 to %d, number %d of %d is %g", last, i + 1,
                           s->steps, t[i]);
        if (i && !(t[i] < t[i - 1]))
            return sd_fail(e, SD_ERR_ARG, "timesteps should fall, but number %d of %d is %g and comes after %g", i + 1,
                           s->steps, t[i], t[i - 1]);
        if (whole && t[i] != floor(t[i]))
            return sd_fail(e, SD_ERR_ARG, "%s takes whole timesteps, number %d of %d is %g",
                           sd_method_name(s->c.method), i + 1, s->steps, t[i]);
    }
    return SD_OK;
}

bool sd_takes_curve(const sd_sched_config *c)
{
    const sd_method_row *row = sd_method_row_of(c->method);
    if (c->curve == SD_CURVE_SPACED) return true;
    if (c->curve == SD_CURVE_TIMESTEPS) return row->levels->takes_timesteps;
    if (row->edm) return c->curve == SD_CURVE_KARRAS || c->curve == SD_CURVE_EXPONENTIAL;
    return sd_is_kdiffusion(c) ? !row->levels->ends_alone : row->levels->by_sigma;
}

/* Refuses settings that cannot be combined. */
static sd_status check_settings(const sd_sampler *s, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    const char *name = sd_method_name(c->method);
    if (s->row->reads.prk && !c->skip_prk_steps && s->steps < 4)
        return sd_fail(e, SD_ERR_ARG, "%s with skip_prk_steps false needs 4 steps or more, found %d", name, s->steps);
    if (c->curve == SD_CURVE_SIGMAS && !c->sigmas)
        return sd_fail(e, SD_ERR_ARG, "a schedule of sigmas needs a list of them");
    if (c->curve == SD_CURVE_TIMESTEPS && !c->timesteps)
        return sd_fail(e, SD_ERR_ARG, "a schedule of timesteps needs a list of them");
    if (!sd_takes_curve(c) && c->curve == SD_CURVE_TIMESTEPS)
        return sd_fail(e, SD_ERR_ARG,
                       "%s goes by its own timesteps and takes none: euler, dpm++2m, ddpm, lcm and others do", name);
    if (!sd_takes_curve(c))
        return sd_fail(e, SD_ERR_ARG,
                       "%s makes its own noise levels and takes no schedule, found \"%s\": euler, dpm++2m, unipc and "
                       "others take one", name, sd_curve_name(c->curve));
    if (c->curve == SD_CURVE_SIGMAS && check_sigmas(s, e)) return e->status;
    if (c->curve == SD_CURVE_TIMESTEPS && check_timesteps(s, e)) return e->status;
    return SD_OK;
}

/* Sigmas must descend, whether a caller or a schedule made them: multi-step formulas divide by their differences. */
static sd_status check_falling(const sd_sampler *s, const sd_level *at, sd_error *e)
{
    for (int i = 1; i < s->steps; i++)
        if (!(sigma_of(at[i]) < sigma_of(at[i - 1])) || !(sigma_of(at[i]) > 0))
            return sd_fail(e, SD_ERR_ARG, "sigmas should fall, but after step %d of %d comes %g and not less than %g: "
                           "take fewer steps or another schedule", i, s->steps, sigma_of(at[i]), sigma_of(at[i - 1]));
    return SD_OK;
}

/* ---------------------------------------------------------------------- whole timesteps of the table */

static sd_level level_without_noise(void) { return (sd_level){-1, 1.0, 0.0}; }   /* a = 1 */

/* The steps start at spaced timesteps, or at the caller's. The run ends at a = 1. */
static sd_status place_table(sd_sampler *s, double *sigma, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    int steps = s->steps;
    double highest = (double)(steps - 1) * (c->train_steps / steps) + c->steps_offset;
    (void)sigma;
    if (c->curve == SD_CURVE_TIMESTEPS)
        for (int i = 0; i < steps; i++) s->at[i].t = c->timesteps[i];
    else if (c->spacing == SD_SPACE_LEADING && highest >= c->train_steps)
        return sd_fail(e, SD_ERR_ARG, "%d steps with steps_offset %d begin at timestep %.0f, but the last one is %d: "
                       "take fewer steps or a smaller offset", steps, c->steps_offset, highest, c->train_steps - 1);
    else space_timesteps(s->at, s);
    for (int i = 0; i < steps; i++) s->at[i] = sd_level_at_timestep(s, s->at[i].t);
    s->at[steps] = level_without_noise();
    return SD_OK;
}

/* Each step, the last one too, goes one stride of timesteps down from where it starts. */
static sd_status place_strides(sd_sampler *s, double *sigma, sd_error *e)
{
    if (place_table(s, sigma, e)) return e->status;
    s->at[s->steps] = sd_level_at_timestep(s, s->at[s->steps - 1].t - s->c.train_steps / s->steps);
    return SD_OK;
}

/* The same upwards; the run ends where the last step ends. */
static sd_status place_inverse(sd_sampler *s, double *sigma, sd_error *e)
{
    int n = s->steps;
    if (s->c.spacing == SD_SPACE_LINSPACE)
        return sd_fail(e, SD_ERR_ARG, "%s knows leading and trailing spacing, not linspace",
                       sd_method_name(s->c.method));
    if (place_table(s, sigma, e)) return e->status;
    for (int i = 0; i < n / 2; i++) {
        sd_level l = s->at[i];
        s->at[i] = s->at[n - 1 - i];
        s->at[n - 1 - i] = l;
    }
    s->at[n] = s->at[n - 1];
    return SD_OK;
}

/* LCM and TCD: evenly chosen from the timesteps of the distillation, or from the last of them. */
static sd_status place_distilled(sd_sampler *s, double *sigma, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    int steps = s->steps, original = c->original_steps, k = c->train_steps / original;
    (void)sigma;
    if (original > c->train_steps || steps > original)
        return sd_fail(e, SD_ERR_ARG, "%s takes 1 to %d steps (original_inference_steps), found %d",
                       sd_method_name(c->method), original < c->train_steps ? original : c->train_steps, steps);
    int begins = (int)(original * c->strength);   /* with the original schedule's step of this number */
    if (begins < 1)
        return sd_fail(e, SD_ERR_ARG, "strength %g leaves none of the %d steps that %s chooses from: a strength of %g "
                       "or more is needed", c->strength, original, sd_method_name(c->method), (double)steps / original);
    if (steps > begins)
        return sd_fail(e, SD_ERR_ARG, "strength %g leaves %d of the %d steps that %s chooses from: take %d steps or "
                       "less, or a larger strength", c->strength, begins, original, sd_method_name(c->method), begins);
    for (int i = 0; i < steps; i++) {
        double t = (begins - floor(i * ((double)begins / steps))) * k - 1;
        s->at[i] = sd_level_at_timestep(s, c->curve == SD_CURVE_TIMESTEPS ? c->timesteps[i] : t);
    }
    s->at[steps] = level_without_noise();
    return SD_OK;
}

/* ------------------------------------------------------------------------------------- sigmas */

/* The timestep of a sigma, as each class rounds it before the UNet sees it. */
static double timestep_of(const sd_sampler *s, double sigma)
{
    double t = sigma_to_t(s, sigma);
    bool karras = s->c.curve == SD_CURVE_KARRAS || s->c.curve == SD_CURVE_LU;
    bool cosine = s->c.beta_schedule == SD_BETA_COSINE;
    if (s->kdiffusion || !sd_curve_row_of(s->c.curve)->diffusers) return t;
    switch (s->row->rounding) {
    case SD_ROUND_NOT: return t;
    case SD_ROUND_FLOAT32: break;
    case SD_ROUND_FLOAT32_KARRAS: return karras ? rint(t) : (double)(float)t;
    case SD_ROUND_WHOLE: return karras ? rint(t) : floor(t);
    case SD_ROUND_WHOLE_COSINE: return karras && !cosine ? rint(t) : floor(t);
    }
    return (double)(float)t;
}

/* The sigma where the last step of a list of sigmas ends. lo: the lowest sigma that a schedule may reach. */
static double last_sigma(const sd_sampler *s, bool shaped, double lo)
{
    const sd_sched_config *c = &s->c;
    if (c->curve == SD_CURVE_SIGMAS) return c->sigmas[s->steps];
    if (!c->final_sigma_min || s->kdiffusion) return 0.0;
    if (!s->row->levels->one_more) return sd_sigma_of_alpha(s->alphas[0]);
    return s->row->repeats_last && shaped ? sigma_of(s->at[s->steps - 1]) : lo;
}

/* Sigmas at the spaced timesteps, or a schedule's. In diffusers' Euler family a schedule goes from the highest to the
 * lowest sigma of the spaced timesteps; in its DPM-Solver family and in all other programs, from one end of the
 * training schedule to the other. */
static sd_status place_sigmas(sd_sampler *s, double *sigma, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    sd_level *at = s->at;
    sd_curve curve = s->kdiffusion && c->curve == SD_CURVE_SPACED ? SD_CURVE_LINSPACE_K : c->curve;
    const sd_curve_row *shape = sd_curve_row_of(curve);
    bool own_ends = sd_curve_row_of(c->curve)->diffusers && !s->kdiffusion && !s->row->levels->one_more;
    sd_range ends = {s, sd_sigma_of_alpha(s->alphas[0]), sd_sigma_of_alpha(s->alphas[c->train_steps - 1])};
    if (curve == SD_CURVE_TIMESTEPS)
        for (int i = 0; i < s->steps; i++) at[i].t = c->timesteps[i];
    else space_timesteps(at, s);
    if (own_ends && curve != SD_CURVE_TIMESTEPS)
        ends = (sd_range){s, sd_sigma_at(s, at[s->steps - 1].t), sd_sigma_at(s, at[0].t)};
    if (shape->fn) {
        s->steps = shape->fn(sigma, s->steps, ends);
        for (int i = 0; i < s->steps; i++) at[i] = level_of_sigma(s, timestep_of(s, sigma[i]), sigma[i]);
    } else {
        for (int i = 0; i < s->steps; i++) at[i] = level_of_sigma(s, at[i].t, sd_sigma_at(s, at[i].t));
    }
    double end = last_sigma(s, shape->fn != NULL, ends.lo);
    if (s->row->ends_above_zero && !(end > 0))
        return sd_fail(e, SD_ERR_ARG, "%s cannot end at sigma 0: its last sigma should be positive",
                       sd_method_name(c->method));
    at[s->steps] = level_of_sigma(s, 0.0, end);
    bool spaced = curve == SD_CURVE_SPACED && !s->row->levels->one_more;   /* these are sure to descend */
    return spaced ? SD_OK : check_falling(s, at, e);
}

/* For samplers that choose their own levels between the two ends of the training schedule. */
static sd_status place_range(sd_sampler *s, double *sigma, sd_error *e)
{
    sd_range ends = {s, sd_sigma_of_alpha(s->alphas[0]), sd_sigma_of_alpha(s->alphas[s->c.train_steps - 1])};
    (void)e;
    sd_curve_row_of(SD_CURVE_EXPONENTIAL)->fn(sigma, s->steps + 1, ends);
    for (int i = 0; i <= s->steps; i++) s->at[i] = sd_level_at_sigma(s, sigma[i]);
    return SD_OK;
}

/* ----------------------------------------------------- classes for other models than Stable Diffusion */

/* EDMEulerScheduler [Karras et al. 2022, Table 1 and eq. 5]. */
static sd_status place_edm(sd_sampler *s, double *sigma, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    int n = s->steps;
    bool exponential = c->curve == SD_CURVE_EXPONENTIAL;
    (void)e;
    sd_curve_row_of(exponential ? c->curve : SD_CURVE_KARRAS)->fn(sigma, n, (sd_range){s, c->sigma_min, c->sigma_max});
    if (n == 1 && exponential) sigma[0] = c->sigma_min;   /* the class counts upwards */
    for (int i = 0; i < n; i++) s->at[i] = sd_level_at_sigma(s, sigma[i]);
    s->at[n] = (sd_level){0.0, 1.0, c->final_sigma_min ? sigma[n - 1] : 0.0};
    return SD_OK;
}

/* IPNDMScheduler: noise = sin^2, and the UNet's timestep is in [0,1]. */
static sd_status place_ipndm(sd_sampler *s, double *sigma, sd_error *e)
{
    const double half_pi = 1.57079632679489661923;
    int n = s->steps;
    (void)sigma;
    (void)e;
    for (int i = 0; i <= n; i++) {
        double f = (double)(n - i) / n, wave = sin(f * half_pi), noise = wave * wave, signal = sqrt(1 - noise * noise);
        s->at[i] = (sd_level){atan2(noise, signal) / half_pi, signal, noise};
    }
    return SD_OK;
}

/* --------------------------------------------------------------------------------------- choice */

const sd_levels sd_levels_strides = {.place = place_strides, .whole = true};
const sd_levels sd_levels_table = {.place = place_table, .whole = true, .takes_timesteps = true};
const sd_levels sd_levels_inverse = {.place = place_inverse, .whole = true, .upwards = true};
const sd_levels sd_levels_distilled = {.place = place_distilled, .whole = true, .takes_timesteps = true};
const sd_levels sd_levels_sigmas = {.place = place_sigmas, .by_sigma = true, .takes_timesteps = true};
const sd_levels sd_levels_whole = {.place = place_sigmas, .by_sigma = true, .whole = true, .takes_timesteps = true,
                                   .one_more = true};
const sd_levels sd_levels_range = {.place = place_range, .ends_alone = true};
const sd_levels sd_levels_ipndm = {.place = place_ipndm};
const sd_levels sd_levels_edm = {.place = place_edm};

sd_status sd_place_levels(sd_sampler *s, sd_error *e)
{
    if (check_settings(s, e)) return e->status;
    alphas_cumprod(s->alphas, s);
    if (check_table(s->alphas, s->c.train_steps, e)) return e->status;
    double least = -log(sd_sigma_of_alpha(s->alphas[s->c.train_steps - 1]));
    if (least < s->c.lambda_min)
        return sd_fail(e, SD_ERR_UNSUPPORTED,
                       "lambda_min_clipped %g is not supported where it leaves levels out: the lowest lambda "
                       "is %g", s->c.lambda_min, least);
    double *sigma = malloc(((size_t)s->c.train_steps + 2) * sizeof *sigma);
    if (!sigma) return sd_fail(e, SD_ERR_MEMORY, "no memory for a schedule of %d steps", s->steps);
    const sd_levels *levels = s->row->levels;
    if (s->kdiffusion && !levels->ends_alone) levels = &sd_levels_sigmas;   /* k-diffusion gives sigmas to all others */
    levels->place(s, sigma, e);
    free(sigma);
    return e->status;
}
