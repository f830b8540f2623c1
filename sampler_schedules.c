/* sampler_schedules.c - floor 5: the noise levels of a run: betas, timestep spacings, sigmas. */
#include "sampler_run.h"

#include <stdlib.h>
#include <string.h>

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
static void alphas_cumprod(float *a, const sd_sampler *s)
{
    const sd_sched_config *c = &s->c;
    int n = c->train_steps;
    fill_betas(a, c);
    bool zero_snr = c->rescale_zero_snr && c->method != SD_PNDM;
    if (zero_snr) rescale_zero_terminal_snr(a, n);
    cumprod_of_alphas(a, a, n);
    bool by_sigma = s->row->levels == SD_SIGMAS || s->row->levels == SD_SIGMAS_WHOLE;
    if (zero_snr && by_sigma) a[n - 1] = 0x1p-24f;   /* a finite first sigma, 4096 */
}

/* ----------------------------------------------------------------------------------- timesteps */

/* The timesteps of a run, descending [Lin et al. 2023, Table 2]. The Euler classes keep linspace's fractions. The
 * classes
 * of the DPM-Solver family put one more timestep in linspace and leading, and leave it out: their runs do not visit the
 * first training timestep. */
static void space_timesteps(sd_level *at, const sd_sampler *s)
{
    const sd_sched_config *c = &s->c;
    int steps = s->steps, extra = s->row->levels == SD_SIGMAS_WHOLE;
    double train = c->train_steps, stride = train / steps;
    sd_spacing spacing = c->method == SD_DPMPP_2S ? SD_SPACE_LINSPACE : c->spacing;   /* all that the class knows */
    for (int i = 0; i < steps; i++) {
        int left = steps + extra - 1 - i, most = steps + extra - 1;
        double even = most == 0 ? 0.0 : left == most ? train - 1 : left * ((train - 1) / most);
        switch (spacing) {
        case SD_SPACE_LEADING:
            at[i].t = left * (c->train_steps / (steps + extra)) + c->steps_offset;
            break;
        case SD_SPACE_TRAILING:
            /* numpy.arange(train, 0, -stride): this is how it rounds. Where that takes it a step too far (61, 103, ...
             * steps of 1000), diffusers evaluates timestep -1; we do not. */
            at[i].t = rint(train + i * ((train - stride) - train)) - 1;
            break;
        case SD_SPACE_LINSPACE:
            /* float32, but for DPMSolverSDEScheduler */
            at[i].t = s->row->levels != SD_SIGMAS ? rint(even) : c->method == SD_DPMPP_SDE ? even : (double)(float)even;
            break;
        }
    }
}

/* LCM and TCD: an even choice among the timesteps that were distilled. */
static void distilled_timesteps(sd_level *at, const sd_sampler *s)
{
    int original = s->c.original_steps, k = s->c.train_steps / original;
    for (int i = 0; i < s->steps; i++)
        at[i].t = (original - floor(i * ((double)original / s->steps))) * k - 1;
}

/* -------------------------------------------------------------------------------------- levels */

static sd_level level_of_alpha(double t, double a) { return (sd_level){t, sqrt(a), sqrt(1.0 - a)}; }

/* Below the first timestep there is nothing to look up: final_alpha_cumprod. */
sd_level sd_level_at_timestep(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, i = t < 0 ? 0 : t < last ? (int)t : last;
    return level_of_alpha(t, t < 0 && s->c.set_alpha_to_one ? 1.0 : s->alphas[i]);
}

static double sigma_of_alpha(double a) { return sqrt((1.0 - a) / a); }

/* sigma at a timestep: numpy.interp between the training timesteps, constant beyond them. */
static double sigma_at(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, low = t >= last ? last : t > 0 ? (int)t : 0;
    double sigma = sigma_of_alpha(s->alphas[low]);
    return low < last ? sigma + (t - low) * (sigma_of_alpha(s->alphas[low + 1]) - sigma) : sigma;
}

/* k-diffusion interpolates the logarithm. */
static double log_sigma_at(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, low = t < last ? (int)t : last, high = low < last ? low + 1 : last;
    double w = t - low;
    return (1 - w) * log(sigma_of_alpha(s->alphas[low])) + w * log(sigma_of_alpha(s->alphas[high]));
}

/* The table of log sigma as the programs hold it, in float32: the timestep of a sigma may be rounded to a whole one. */
static float log_sigma32(const sd_sampler *s, int t)
{
    float a = s->alphas[t];
    return (float)log((double)sqrtf((1.0f - a) / a));
}

/* The timestep of a sigma: where its logarithm lies between those of the training timesteps. */
double sd_sigma_to_t(const sd_sampler *s, double sigma)
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
    return (1 - w) * low + w * high;
}

static bool exploding(const sd_sampler *s) { return s->kdiffusion || s->row->scale == SD_VE; }

static sd_level level_of_sigma(const sd_sampler *s, double t, double sigma)
{
    double size = exploding(s) ? 1.0 : sqrt(sigma * sigma + 1.0);
    return (sd_level){t, 1.0 / size, sigma / size};
}

sd_level sd_level_at_sigma(const sd_sampler *s, double sigma)
{
    return level_of_sigma(s, s->c.method == SD_EDM_EULER ? 0.25 * log(sigma) : sd_sigma_to_t(s, sigma), sigma);
}

/* -------------------------------------------------------------------------------------- curves
 * Pure functions: n sigmas from hi down to lo, without the end of the run. They return how many there are. */

typedef struct range { const sd_sampler *s; double lo, hi; } range;
typedef int curve_fn(double *sigma, int n, range r);

static double even(int i, int n) { return n > 1 ? (double)i / (n - 1) : 0.0; }

/* [Karras et al. 2022, eq. 5] */
static int curve_karras(double *sigma, int n, range r)
{
    double rho = r.s->c.rho, first = pow(r.hi, 1 / rho), last = pow(r.lo, 1 / rho);
    for (int i = 0; i < n; i++) sigma[i] = pow(first + even(i, n) * (last - first), rho);
    return n;
}

static int curve_exponential(double *sigma, int n, range r)   /* even in log sigma */
{
    for (int i = 0; i < n; i++) sigma[i] = exp(log(r.hi) + even(i, n) * (log(r.lo) - log(r.hi)));
    return n;
}

/* diffusers' use_lu_lambdas [Lu et al. 2022] is a polynomial in log sigma with rho = 1: the same as exponential. (Its
 * power of a
 * negative number is one only because rho is 1.) */
static int curve_lu(double *sigma, int n, range r) { return curve_exponential(sigma, n, r); }

/* k-diffusion's "polynomial in log sigma"; its rho is 1 by default, and 1 is what A1111 uses. */
static int curve_polyexponential(double *sigma, int n, range r) { return curve_exponential(sigma, n, r); }

/* The distribution function of Beta(0.6, 0.6): the incomplete beta function as a continued fraction [Abramowitz &
 * Stegun,
 * 26.5.8], evaluated with Lentz' method. */
static double beta_distribution(double x)
{
    const double a = 0.6, log_constant = -0.8818418061417858;   /* lgamma(2a) - 2 lgamma(a) */
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    if (x > 0.5) return 1 - beta_distribution(1 - x);
    double f = 1, C = 1, D = 0;
    for (int i = 0; i <= 500; i++) {
        int m = i / 2;
        double k = i == 0 ? 1.0 : i % 2 == 0 ? m * (a - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                 : -(a + m) * (2 * a + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        D = 1 / (1 + k * D);
        C = 1 + k / C;
        f *= C * D;
        if (fabs(1 - C * D) < 1e-16) break;
    }
    return exp(log_constant + a * log(x) + a * log1p(-x)) / a * (f - 1);
}

/* Where it is p: bisection, which cannot go astray. */
static double beta_quantile(double p)
{
    if (p <= 0 || p >= 1) return p <= 0 ? 0 : 1;
    double low = 0, high = 1;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        *(beta_distribution(middle) < p ? &low : &high) = middle;
    }
    return (low + high) / 2;
}

/* "Beta Sampling is All You Need" [Lee et al. 2024]: diffusers spreads sigmas, ComfyUI timesteps. */
static int curve_beta(double *sigma, int n, range r)
{
    for (int i = 0; i < n; i++) sigma[i] = r.lo + beta_quantile(1 - even(i, n)) * (r.hi - r.lo);
    return n;
}

static int curve_beta_comfy(double *sigma, int n, range r)
{
    int count = 0, last = r.s->c.train_steps - 1;
    double before = -1;
    for (int i = 0; i < n; i++) {
        double t = rint(beta_quantile(1 - (double)i / n) * last);
        if (t != before) sigma[count++] = sigma_at(r.s, t);   /* a timestep is not visited twice */
        before = t;
    }
    return count;
}

static int curve_linspace(double *sigma, int n, range r)   /* k-diffusion's get_sigmas; ComfyUI's "normal" */
{
    double last = r.s->c.train_steps - 1;
    for (int i = 0; i < n; i++) sigma[i] = exp(log_sigma_at(r.s, last - even(i, n) * last));
    return n;
}

static int curve_sgm_uniform(double *sigma, int n, range r)   /* the last of n + 1 even timesteps is left out */
{
    double last = r.s->c.train_steps - 1;
    for (int i = 0; i < n; i++) sigma[i] = exp(log_sigma_at(r.s, last - i * last / n));
    return n;
}

static int curve_simple(double *sigma, int n, range r)
{
    int train = r.s->c.train_steps;
    for (int i = 0; i < n; i++) sigma[i] = sigma_at(r.s, train - 1 - (int)(i * ((double)train / n)));
    return n;
}

static int curve_ddim_uniform(double *sigma, int n, range r)   /* 1, 1 + stride, ...: may be more than n steps */
{
    int train = r.s->c.train_steps, stride = train / n > 1 ? train / n : 1, count = (train - 1 + stride - 1) / stride;
    for (int i = 0; i < count; i++) sigma[count - 1 - i] = sigma_at(r.s, 1 + i * stride);
    return count;
}

/* Even in arctan sigma ["Align Your Steps", Sabour et al. 2024, Theorem 3.1 for Gaussian data]; in A1111 and ComfyUI.
 * */
static int curve_kl_optimal(double *sigma, int n, range r)
{
    for (int i = 0; i < n; i++) sigma[i] = tan(even(i, n) * atan(r.lo) + (1 - even(i, n)) * atan(r.hi));
    return n;
}

/* k-diffusion's get_sigmas_vp: continuous VP levels with its defaults [Song et al. 2021]. */
static int curve_vp(double *sigma, int n, range r)
{
    (void)r;
    for (int i = 0; i < n; i++) {
        double t = 1 + even(i, n) * (1e-3 - 1);
        sigma[i] = sqrt(expm1(19.9 * t * t / 2 + 0.1 * t));
    }
    return n;
}

/* "Align Your Steps" [Sabour et al. 2024], optimised for ten steps; for other numbers log sigma is interpolated, as its
 * authors do. The last of the eleven is not used: runs end at 0. */
static int align_your_steps(double *sigma, int n, const double *table)
{
    for (int i = 0; i < n; i++) {
        double at = 10.0 * i / n, w = at - floor(at);
        int low = (int)at;
        sigma[i] = exp((1 - w) * log(table[low]) + w * log(table[low < 10 ? low + 1 : 10]));
    }
    return n;
}

static int curve_ays_sd1(double *sigma, int n, range r)
{
    static const double table[] = {14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
                                   0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582};
    (void)r;
    return align_your_steps(sigma, n, table);
}

static int curve_ays_sdxl(double *sigma, int n, range r)
{
    static const double table[] = {14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141,
                                   0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582};
    (void)r;
    return align_your_steps(sigma, n, table);
}

static int curve_given(double *sigma, int n, range r)
{
    for (int i = 0; i < n; i++) sigma[i] = r.s->c.sigmas[i];
    return n;
}

static const struct { const char *name; curve_fn *fn; bool diffusers; } curves[SD_CURVE_COUNT] = {
    [SD_CURVE_SPACED] = {"spaced", NULL, true},
    [SD_CURVE_KARRAS] = {"karras", curve_karras, true},
    [SD_CURVE_EXPONENTIAL] = {"exponential", curve_exponential, true},
    [SD_CURVE_BETA] = {"beta", curve_beta, true},
    [SD_CURVE_LU] = {"lu_lambdas", curve_lu, true},
    [SD_CURVE_LINSPACE_K] = {"linspace@kdiffusion", curve_linspace, false},
    [SD_CURVE_KARRAS_K] = {"karras@kdiffusion", curve_karras, false},
    [SD_CURVE_EXPONENTIAL_K] = {"exponential@kdiffusion", curve_exponential, false},
    [SD_CURVE_POLYEXPONENTIAL_K] = {"polyexponential", curve_polyexponential, false},
    [SD_CURVE_VP_K] = {"vp", curve_vp, false},
    [SD_CURVE_SGM_UNIFORM] = {"sgm_uniform", curve_sgm_uniform, false},
    [SD_CURVE_SIMPLE] = {"simple", curve_simple, false},
    [SD_CURVE_DDIM_UNIFORM] = {"ddim_uniform", curve_ddim_uniform, false},
    [SD_CURVE_BETA_COMFY] = {"beta@comfy", curve_beta_comfy, false},
    [SD_CURVE_KL_OPTIMAL] = {"kl_optimal", curve_kl_optimal, false},
    [SD_CURVE_AYS_SD1] = {"align_your_steps", curve_ays_sd1, false},
    [SD_CURVE_AYS_SDXL] = {"align_your_steps_sdxl", curve_ays_sdxl, false},
    [SD_CURVE_SIGMAS] = {"sigmas", curve_given, false},
    [SD_CURVE_TIMESTEPS] = {"timesteps", NULL, true},
};

const char *sd_curve_name(sd_curve c) { return (size_t)c < SD_CURVE_COUNT ? curves[c].name : "?"; }

const char *sd_schedule_name(int i) { return i < 0 || i >= SD_CURVE_SIGMAS ? NULL : curves[i].name; }

/* --------------------------------------------------------------------------------------- plans */

static sd_status check_table(const float *table, int n, sd_error *e)
{
    for (int i = 0; i < n; i++)
        if (!(table[i] >= 0.0f && table[i] < 1.0f))
            return sd_fail(e, SD_ERR_ARG, "unusable noise schedule: alphas_cumprod[%d] should be in [0,1), is %g",
                           i, (double)table[i]);
    return SD_OK;
}

static bool by_timesteps(const sd_sampler *s) { return s->row->levels == SD_TABLE && !s->kdiffusion; }

/* A list of the caller's. Noise levels keep squares and quotients inside of what a float32 latent can hold. */
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
    bool whole = s->row->levels != SD_SIGMAS && !s->kdiffusion;   /* diffusers' classes would cut the fraction off */
    for (int i = 0; i < s->steps; i++) {
        if (!(t[i] >= 0 && t[i] <= last))
            return sd_fail(e, SD_ERR_ARG, "timesteps: each should be 0 to %d, number %d of %d is %g", last, i + 1,
                           s->steps, t[i]);
        if (i && !(t[i] < t[i - 1]))
            return sd_fail(e, SD_ERR_ARG, "timesteps should fall, but number %d of %d is %g and comes after %g", i + 1,
                           s->steps,
                           t[i], t[i - 1]);
        if (whole && t[i] != floor(t[i]))
            return sd_fail(e, SD_ERR_ARG, "%s takes whole timesteps, number %d of %d is %g",
                           sd_method_name(s->c.method), i + 1,
                           s->steps, t[i]);
    }
    return SD_OK;
}

bool sd_takes_curve(const sd_sched_config *c)
{
    const sd_method_row *row = sd_method_row_of(c->method);
    bool listed = row->levels == SD_SIGMAS || row->levels == SD_SIGMAS_WHOLE;
    bool strides = c->method == SD_PNDM || c->method == SD_DDIM || c->method == SD_DDIM_INVERSE;
    if (c->curve == SD_CURVE_SPACED) return true;
    if (c->curve == SD_CURVE_TIMESTEPS) return !strides && (row->levels < SD_RANGE || row->levels == SD_LCM_STEPS);
    if (c->method == SD_EDM_EULER) return c->curve == SD_CURVE_KARRAS || c->curve == SD_CURVE_EXPONENTIAL;
    return c->program != SD_DIFFUSERS || !row->about.diffusers ? row->levels != SD_RANGE : listed;
}

/* What cannot be combined. */
static sd_status check_settings(const sd_sampler *s, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    const char *name = sd_method_name(c->method);
    int steps = s->steps;
    if (c->method == SD_PNDM && !c->skip_prk_steps && steps < 4)
        return sd_fail(e, SD_ERR_ARG, "pndm with skip_prk_steps false needs 4 steps or more, found %d", steps);
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
    if (s->row->levels == SD_LCM_STEPS && (c->original_steps > c->train_steps || steps > c->original_steps))
        return sd_fail(e, SD_ERR_ARG, "%s takes 1 to %d steps (original_inference_steps), found %d", name,
                       c->original_steps < c->train_steps ? c->original_steps : c->train_steps, steps);
    if (c->method == SD_DDIM_INVERSE && c->spacing == SD_SPACE_LINSPACE)
        return sd_fail(e, SD_ERR_ARG, "%s knows leading and trailing spacing, not linspace", name);
    double highest = (double)(steps - 1) * (c->train_steps / steps) + c->steps_offset;
    if (c->spacing == SD_SPACE_LEADING && by_timesteps(s) && c->curve == SD_CURVE_SPACED && highest >= c->train_steps)
        return sd_fail(e, SD_ERR_ARG, "%d steps with steps_offset %d begin at timestep %.0f, but the last one is %d: "
                       "take fewer steps or a smaller offset", steps, c->steps_offset, highest, c->train_steps - 1);
    return SD_OK;
}

/* A list of numbers, of the caller or of a schedule, must fall; multi-step formulas divide by its differences. */
static sd_status check_falling(const sd_sampler *s, const sd_level *at, sd_error *e)
{
    for (int i = 1; i < s->steps; i++)
        if (!(sigma_of(at[i]) < sigma_of(at[i - 1])) || !(sigma_of(at[i]) > 0))
            return sd_fail(e, SD_ERR_ARG, "sigmas should fall, but after step %d of %d comes %g and not less than %g: "
                           "take fewer steps or another schedule", i, s->steps, sigma_of(at[i]), sigma_of(at[i - 1]));
    return SD_OK;
}

/* The timestep of a sigma, as each class rounds it before the UNet sees it. */
static double timestep_of(const sd_sampler *s, double sigma)
{
    double t = sd_sigma_to_t(s, sigma);
    if (s->kdiffusion || !curves[s->c.curve].diffusers) return t;
    bool karras = s->c.curve == SD_CURVE_KARRAS || s->c.curve == SD_CURVE_LU;
    bool cosine = s->c.beta_schedule == SD_BETA_COSINE;
    bool dpmpp = s->c.method == SD_DPMPP_2M || s->c.method == SD_DPMPP_2M_SDE || s->c.method == SD_DPMPP_3M_SDE;
    if (s->row->levels == SD_SIGMAS) {
        bool dpm2 = s->c.method == SD_DPM2 || s->c.method == SD_DPM2_A;
        return karras && dpm2 ? rint(t) : s->c.method == SD_DPMPP_SDE ? t : (double)(float)t;
    }
    return karras && !(dpmpp && cosine) ? rint(t) : floor(t);   /* the rest become integers by truncation */
}

/* Sigmas at the spaced timesteps, or on a curve between the same ends; the DPM-Solver family and the other programs'
 * curves
 * take the ends of the training schedule. */
static sd_status place_sigmas(sd_sampler *s, double *sigma, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    sd_level *at = s->at;
    int last = c->train_steps - 1;
    bool whole = s->row->levels == SD_SIGMAS_WHOLE, own = curves[c->curve].diffusers && !s->kdiffusion;
    range ends = {s, sigma_of_alpha(s->alphas[0]), sigma_of_alpha(s->alphas[last])};
    sd_curve curve = s->kdiffusion && c->curve == SD_CURVE_SPACED ? SD_CURVE_LINSPACE_K : c->curve;
    if (curve == SD_CURVE_TIMESTEPS)
        for (int i = 0; i < s->steps; i++) at[i].t = c->timesteps[i];
    else if (curve != SD_CURVE_LINSPACE_K) space_timesteps(at, s);
    if (own && !whole && curve != SD_CURVE_TIMESTEPS) {
        ends.lo = sigma_at(s, at[s->steps - 1].t);
        ends.hi = sigma_at(s, at[0].t);
    }
    if (curves[curve].fn) {
        s->steps = curves[curve].fn(sigma, s->steps, ends);
        for (int i = 0; i < s->steps; i++) at[i] = level_of_sigma(s, timestep_of(s, sigma[i]), sigma[i]);
    } else {
        for (int i = 0; i < s->steps; i++) at[i] = level_of_sigma(s, at[i].t, sigma_at(s, at[i].t));
    }
    double end = 0.0;
    if (c->final_sigma_min && !s->kdiffusion) {
        bool repeats = c->method == SD_UNIPC || c->method == SD_DEIS || c->method == SD_SA_SOLVER;
        end = repeats && curves[curve].fn ? sigma_of(at[s->steps - 1]) : ends.lo;
        if (!whole) end = sigma_of_alpha(s->alphas[0]);
    }
    if (curve == SD_CURVE_SIGMAS) end = c->sigmas[s->steps];
    bool needs_end = c->method == SD_DEIS || c->method == SD_SA_SOLVER;
    if (needs_end && !(end > 0))
        return sd_fail(e, SD_ERR_ARG, "%s cannot end at sigma 0: its last sigma should be positive",
                       sd_method_name(c->method));
    at[s->steps] = level_of_sigma(s, 0.0, end);
    if (whole || curve != SD_CURVE_SPACED || s->kdiffusion) return check_falling(s, at, e);
    return SD_OK;
}

static void place_table(sd_sampler *s)
{
    const sd_sched_config *c = &s->c;
    sd_level *at = s->at, *end = &at[s->steps];
    if (c->curve == SD_CURVE_TIMESTEPS)
        for (int i = 0; i < s->steps; i++) at[i].t = c->timesteps[i];
    else if (s->row->levels == SD_LCM_STEPS) distilled_timesteps(at, s);
    else space_timesteps(at, s);
    for (int i = 0; i < s->steps; i++) at[i] = sd_level_at_timestep(s, at[i].t);
    *end = c->method == SD_DDPM || s->row->levels == SD_LCM_STEPS ? (sd_level){-1, 1.0, 0.0}
         : sd_level_at_timestep(s, end[-1].t - c->train_steps / s->steps);
    if (c->method == SD_DDIM_INVERSE) {   /* upwards; the run ends where the last step leads */
        for (int i = 0; i < s->steps / 2; i++) {
            sd_level l = at[i];
            at[i] = at[s->steps - 1 - i];
            at[s->steps - 1 - i] = l;
        }
        *end = at[s->steps - 1];
    }
}

/* Levels of classes for other models than Stable Diffusion. */
static void place_own(sd_sampler *s, double *sigma)
{
    const sd_sched_config *c = &s->c;
    int n = s->steps;
    if (c->method == SD_EDM_EULER) {   /* [Karras et al. 2022, Table 1 and eq. 5] */
        curve_fn *fn = c->curve == SD_CURVE_EXPONENTIAL ? curve_exponential : curve_karras;
        fn(sigma, n, (range){s, c->sigma_min, c->sigma_max});
        if (n == 1 && c->curve == SD_CURVE_EXPONENTIAL) sigma[0] = c->sigma_min;   /* the class counts upwards */
        for (int i = 0; i < n; i++) s->at[i] = sd_level_at_sigma(s, sigma[i]);
        s->at[n] = (sd_level){0.0, 1.0, c->final_sigma_min ? sigma[n - 1] : 0.0};
        return;
    }
    const double half_pi = 1.57079632679489661923;
    for (int i = 0; i <= n; i++) {   /* IPNDMScheduler */
        double f = (double)(n - i) / n, wave = sin(f * half_pi), noise = wave * wave, signal = sqrt(1 - noise * noise);
        s->at[i] = (sd_level){atan2(noise, signal) / half_pi, signal, noise};
    }
}

sd_status sd_place_levels(sd_sampler *s, sd_error *e)
{
    if (check_settings(s, e)) return e->status;
    alphas_cumprod(s->alphas, s);
    if (check_table(s->alphas, s->c.train_steps, e)) return e->status;
    double least = -log(sigma_of_alpha(s->alphas[s->c.train_steps - 1]));
    if (s->row->levels == SD_SIGMAS_WHOLE && least < s->c.lambda_min)
        return sd_fail(e, SD_ERR_UNSUPPORTED,
                       "lambda_min_clipped %g is not supported where it leaves levels out: the lowest lambda "
                       "is %g", s->c.lambda_min, least);
    double *sigma = malloc(((size_t)s->c.train_steps + 2) * sizeof *sigma);
    if (!sigma) return sd_fail(e, SD_ERR_MEMORY, "no memory for a schedule of %d steps", s->steps);
    bool listed = s->row->levels == SD_SIGMAS || s->row->levels == SD_SIGMAS_WHOLE;
    if (s->row->levels == SD_RANGE) {
        double lo = sigma_of_alpha(s->alphas[0]), hi = sigma_of_alpha(s->alphas[s->c.train_steps - 1]);
        curve_exponential(sigma, s->steps + 1, (range){s, lo, hi});
        for (int i = 0; i <= s->steps; i++) s->at[i] = sd_level_at_sigma(s, sigma[i]);
    } else if (listed || s->kdiffusion) {
        place_sigmas(s, sigma, e);
    } else if (s->row->levels == SD_OWN) {
        place_own(s, sigma);
    } else {
        place_table(s);
    }
    free(sigma);
    return e->status;
}
