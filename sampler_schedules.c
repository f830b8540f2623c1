/* sampler_schedules.c - floor 5: named schedules. Each is a function that fills a list of sigmas from hi down to lo,
 * without the end of the run, and returns how many it made. sampler_levels.c chooses hi and lo and uses the sigmas. */
#include "sampler_run.h"

static double even(int i, int n) { return n > 1 ? (double)i / (n - 1) : 0.0; }

/* [Karras et al. 2022, eq. 5] */
static int curve_karras(double *sigma, int n, sd_range r)
{
    double rho = r.s->c.rho, first = pow(r.hi, 1 / rho), last = pow(r.lo, 1 / rho);
    for (int i = 0; i < n; i++) sigma[i] = pow(first + even(i, n) * (last - first), rho);
    return n;
}

static int curve_exponential(double *sigma, int n, sd_range r)   /* even in log sigma */
{
    for (int i = 0; i < n; i++) sigma[i] = exp(log(r.hi) + even(i, n) * (log(r.lo) - log(r.hi)));
    return n;
}

/* diffusers' use_lu_lambdas [Lu et al. 2022] is a polynomial in log sigma with rho = 1, so the same as exponential.
 * (It raises a negative number to the power rho, which gives NaN unless rho = 1.) */
static int curve_lu(double *sigma, int n, sd_range r) { return curve_exponential(sigma, n, r); }

/* k-diffusion's polynomial in log sigma. Its default for rho is 1, which A1111 uses: again the same as exponential. */
static int curve_polyexponential(double *sigma, int n, sd_range r) { return curve_exponential(sigma, n, r); }

/* The distribution function of Beta(0.6, 0.6), by the continued fraction of the incomplete beta function [Abramowitz &
 * Stegun, 26.5.8], evaluated with Lentz' method. */
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

/* The number at which that function is p. Bisection always converges. */
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

/* "Beta Sampling is All You Need" [Lee et al. 2024]. diffusers spreads the sigmas by it, ComfyUI the timesteps. */
static int curve_beta(double *sigma, int n, sd_range r)
{
    for (int i = 0; i < n; i++) sigma[i] = r.lo + beta_quantile(1 - even(i, n)) * (r.hi - r.lo);
    return n;
}

static int curve_beta_comfy(double *sigma, int n, sd_range r)
{
    int count = 0, last = r.s->c.train_steps - 1;
    double before = -1;
    for (int i = 0; i < n; i++) {
        double t = rint(beta_quantile(1 - (double)i / n) * last);
        if (t != before) sigma[count++] = sd_sigma_at(r.s, t);   /* no timestep comes twice */
        before = t;
    }
    return count;
}

static int curve_linspace(double *sigma, int n, sd_range r)   /* k-diffusion's get_sigmas; ComfyUI's "normal" */
{
    double last = r.s->c.train_steps - 1;
    for (int i = 0; i < n; i++) sigma[i] = exp(sd_log_sigma_at(r.s, last - even(i, n) * last));
    return n;
}

static int curve_sgm_uniform(double *sigma, int n, sd_range r)   /* the last of n + 1 even timesteps is left out */
{
    double last = r.s->c.train_steps - 1;
    for (int i = 0; i < n; i++) sigma[i] = exp(sd_log_sigma_at(r.s, last - i * last / n));
    return n;
}

static int curve_simple(double *sigma, int n, sd_range r)
{
    int train = r.s->c.train_steps;
    for (int i = 0; i < n; i++) sigma[i] = sd_sigma_at(r.s, train - 1 - (int)(i * ((double)train / n)));
    return n;
}

static int curve_ddim_uniform(double *sigma, int n, sd_range r)   /* 1, 1 + stride, ...: may be more than n steps */
{
    int train = r.s->c.train_steps, stride = train / n > 1 ? train / n : 1, count = (train - 1 + stride - 1) / stride;
    for (int i = 0; i < count; i++) sigma[count - 1 - i] = sd_sigma_at(r.s, 1 + i * stride);
    return count;
}

/* Even in arctan sigma ["Align Your Steps", Sabour et al. 2024, Theorem 3.1 for Gaussian data]; A1111, ComfyUI. */
static int curve_kl_optimal(double *sigma, int n, sd_range r)
{
    for (int i = 0; i < n; i++) sigma[i] = tan(even(i, n) * atan(r.lo) + (1 - even(i, n)) * atan(r.hi));
    return n;
}

/* k-diffusion's get_sigmas_vp: continuous VP levels with its defaults [Song et al. 2021]. */
static int curve_vp(double *sigma, int n, sd_range r)
{
    (void)r;
    for (int i = 0; i < n; i++) {
        double t = 1 + even(i, n) * (1e-3 - 1);
        sigma[i] = sqrt(expm1(19.9 * t * t / 2 + 0.1 * t));
    }
    return n;
}

/* "Align Your Steps" [Sabour et al. 2024], optimised for ten steps. For other numbers of steps log sigma is
 * interpolated, as its authors do it. The last of the eleven numbers is not used, because runs end at 0. */
static int align_your_steps(double *sigma, int n, const double *table)
{
    for (int i = 0; i < n; i++) {
        double at = 10.0 * i / n, w = at - floor(at);
        int low = (int)at;
        sigma[i] = exp((1 - w) * log(table[low]) + w * log(table[low < 10 ? low + 1 : 10]));
    }
    return n;
}

static int curve_ays_sd1(double *sigma, int n, sd_range r)
{
    static const double table[] = {14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177, 1.3943805092,
                                   0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582};
    (void)r;
    return align_your_steps(sigma, n, table);
}

static int curve_ays_sdxl(double *sigma, int n, sd_range r)
{
    static const double table[] = {14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945, 0.8620721141,
                                   0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582};
    (void)r;
    return align_your_steps(sigma, n, table);
}

static int curve_given(double *sigma, int n, sd_range r)
{
    for (int i = 0; i < n; i++) sigma[i] = r.s->c.sigmas[i];
    return n;
}

static const sd_curve_row curves[SD_CURVE_COUNT] = {
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

const sd_curve_row *sd_curve_row_of(sd_curve c) { return &curves[c]; }
const char *sd_curve_name(sd_curve c) { return (size_t)c < SD_CURVE_COUNT ? curves[c].name : "?"; }
const char *sd_schedule_name(int i) { return i < 0 || i >= SD_CURVE_SIGMAS ? NULL : curves[i].name; }
