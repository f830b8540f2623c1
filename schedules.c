/* schedules.c - floor 5: the noise levels of a run: betas, timestep spacings, sigmas. */
#include "solver.h"

#include <stdlib.h>

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
    if (zero_snr && s->row->levels == SD_SIGMAS) a[n - 1] = 0x1p-24f;   /* a finite first sigma, 4096 */
}

/* ----------------------------------------------------------------------------------- timesteps */

/* The timesteps of a run, descending [Lin et al. 2023, Table 2]. The Euler classes keep linspace's fractions. */
static void space_timesteps(sd_level *at, const sd_sampler *s)
{
    const sd_sched_config *c = &s->c;
    int steps = s->steps;
    double train = c->train_steps, stride = train / steps;
    for (int i = 0; i < steps; i++) {
        int left = steps - 1 - i;
        double even = steps == 1 ? 0.0 : left == steps - 1 ? train - 1 : left * ((train - 1) / (steps - 1));
        switch (c->spacing) {
        case SD_SPACE_LEADING:
            at[i].t = left * (c->train_steps / steps) + c->steps_offset;
            break;
        case SD_SPACE_TRAILING:
            /* numpy.arange(train, 0, -stride): this is how it rounds. Where that takes it a step too far (61, 103, ...
             * steps of 1000), diffusers evaluates timestep -1; we do not. */
            at[i].t = rint(train + i * ((train - stride) - train)) - 1;
            break;
        case SD_SPACE_LINSPACE:
            at[i].t = s->row->levels == SD_TABLE ? rint(even) : (double)(float)even;
            break;
        }
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

static double sigma_of_alpha(double a) { return sqrt((1.0 - a) / a); }

/* sigma at a timestep: numpy.interp between the training timesteps, constant beyond them. */
static double sigma_at(const sd_sampler *s, double t)
{
    int last = s->c.train_steps - 1, low = t < last ? (int)t : last;
    double sigma = sigma_of_alpha(s->alphas[low]);
    return low < last ? sigma + (t - low) * (sigma_of_alpha(s->alphas[low + 1]) - sigma) : sigma;
}

/* --------------------------------------------------------------------------------------- plans */

static sd_status check_table(const float *table, int n, sd_error *e)
{
    for (int i = 0; i < n; i++)
        if (!(table[i] >= 0.0f && table[i] < 1.0f))
            return sd_fail(e, SD_ERR_ARG, "unusable noise schedule: alphas_cumprod[%d] should be in [0,1), is %g",
                           i, (double)table[i]);
    return SD_OK;
}

static sd_status check_steps(const sd_sampler *s, sd_error *e)
{
    const sd_sched_config *c = &s->c;
    int steps = s->steps;
    if (c->method == SD_PNDM && !c->skip_prk_steps && steps < 4)
        return sd_fail(e, SD_ERR_ARG, "pndm with skip_prk_steps false needs 4 steps or more, found %d", steps);
    double highest = (double)(steps - 1) * (c->train_steps / steps) + c->steps_offset;
    if (c->spacing == SD_SPACE_LEADING && s->row->levels == SD_TABLE && highest >= c->train_steps)
        return sd_fail(e, SD_ERR_ARG, "%d steps with steps_offset %d begin at timestep %.0f, but the last one is %d: "
                       "take fewer steps or a smaller offset", steps, c->steps_offset, highest, c->train_steps - 1);
    return SD_OK;
}

sd_status sd_plan_levels(sd_sampler *s, sd_error *e)
{
    if (check_steps(s, e)) return e->status;
    alphas_cumprod(s->alphas, s);
    if (check_table(s->alphas, s->c.train_steps, e)) return e->status;
    sd_level *at = s->at, *end = &at[s->steps];
    space_timesteps(at, s);
    if (s->row->levels == SD_TABLE) {
        for (int i = 0; i < s->steps; i++) at[i] = sd_level_at_timestep(s, at[i].t);
        *end = sd_level_at_timestep(s, end[-1].t - s->c.train_steps / s->steps);
    } else {
        for (int i = 0; i < s->steps; i++) at[i] = (sd_level){at[i].t, 1.0, sigma_at(s, at[i].t)};
        *end = (sd_level){0.0, 1.0, 0.0};
    }
    return SD_OK;
}
