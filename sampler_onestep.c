/* sampler_onestep.c - floor 5: the samplers that look at one step at a time. Each function follows its paper line by
 * line.
 *
 * Letters: x: latents; x0, eps: what the UNet predicts; z: fresh noise; s: the level where a step starts; t: the level
 * where it ends (their .signal and .noise are the papers' alpha and sigma). */
#include "sampler_run.h"

/* DDIM [Song et al. 2020, "Denoising Diffusion Implicit Models", eq. 12 and 16]; diffusers' DDIMScheduler.
 *   x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma z,  sigma = eta sqrt((1-a')/(1-a)) sqrt(1 - a/a')
 * A step goes one stride of timesteps down. With linspace spacing the next step does not start exactly there. */
void sd_sample_ddim(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), *eps = sd_vector(r);
    int stride = r->c->train_steps / r->steps;
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = sd_level_at_timestep(r->s, s.t - stride);
        double a = alpha_of(s), a1 = alpha_of(t);
        double sigma = r->c->eta * sqrt((1.0 - a1) / (1.0 - a) * (1.0 - a / a1));
        sd_predict(r, x, s, x0, eps);
        /* diffusers draws whenever eta > 0, in its last step too, which changes the generator's next picture. */
        const double *z = r->c->eta > 0 ? sd_fresh_noise(r, s, t) : NULL;
        SUM(r, x, {t.signal, x0}, {sqrt(fmax(1.0 - a1 - sigma * sigma, 0.0)), eps}, {sigma, z});
    }
}

/* DDIM run backwards, from a picture to the noise from which it can be drawn [Song et al. 2020, sec. 4.3, eq. 13];
 * DDIMInverseScheduler. The UNet gets the timestep where the step ends. */
void sd_sample_ddim_inverse(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), *eps = sd_vector(r);
    int stride = r->c->train_steps / r->steps, last = r->c->train_steps - 1;
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level t = r->at[i], s = sd_level_at_timestep(r->s, fmin(t.t - stride, last));
        s.t = t.t;
        sd_predict(r, x, s, x0, eps);
        SUM(r, x, {t.signal, x0}, {t.noise, eps});
    }
}

/* Ancestral sampling [Ho et al. 2020, "Denoising Diffusion Probabilistic Models", eq. 6 and 7]; DDPMScheduler. The last
 * step ends at a = 1. The variance is the posterior's (fixed_small) or beta (fixed_large). */
void sd_sample_ddpm(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        double a = alpha_of(s), a1 = alpha_of(t), alpha = a / a1, beta = 1.0 - alpha;
        double posterior = fmax((1.0 - a1) / (1.0 - a) * beta, 1e-20);
        sd_predict(r, x, s, x0, NULL);
        const double *z = s.t > 0 ? sd_fresh_noise(r, s, t) : NULL;
        SUM(r, x, {sqrt(a1) * beta / (1.0 - a), x0}, {sqrt(alpha) * (1.0 - a1) / (1.0 - a), x},
            {sqrt(r->c->variance_large ? beta : posterior), z});
    }
}

/* Latent consistency models [Luo et al. 2023, Algorithm 3]; LCMScheduler. The consistency function
 * f = c_skip x + c_out x0 is the picture; each step but the last adds the next level's noise to it. */
void sd_sample_lcm(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), data = 0.5;
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        double scaled = s.t * r->c->timestep_scaling;
        double sum = scaled * scaled + data * data, c_skip = data * data / sum, c_out = scaled / sqrt(sum);
        bool last = i == r->steps - 1;
        sd_predict(r, x, s, x0, NULL);
        const double *z = last ? NULL : sd_fresh_noise(r, s, t);
        double signal = last ? 1.0 : t.signal;
        SUM(r, x, {signal * c_out, x0}, {signal * c_skip, x}, {t.noise, z});
    }
}

/* Trajectory consistency distillation [Zheng et al. 2024, Algorithm 4]; TCDScheduler. A step to timestep t jumps down
 * to timestep (1 - gamma) t and returns to t with fresh noise. gamma is our eta. */
void sd_sample_tcd(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), *eps = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        bool last = i == r->steps - 1;
        sd_level s = r->at[i], t = sd_level_at_timestep(r->s, last ? 0 : r->at[i + 1].t);
        sd_level low = sd_level_at_timestep(r->s, floor((1.0 - r->c->eta) * t.t));
        sd_predict(r, x, s, x0, eps);
        bool noisy = r->c->eta > 0 && !last;
        const double *z = noisy ? sd_fresh_noise(r, s, t) : NULL;
        double share = noisy ? alpha_of(t) / alpha_of(low) : 1.0;
        SUM(r, x, {sqrt(share) * low.signal, x0}, {sqrt(share) * low.noise, eps}, {sqrt(1.0 - share), z});
    }
}

/* ----------------------------------------------------- the probability flow ODE in sigma
 * dx/dsigma = (x - x0) / sigma = eps [Karras et al. 2022, "Elucidating the Design Space", eq. 1 and 3].
 * From here on x = x0 + sigma eps: a level's signal is 1 and its noise is sigma. */

/* Churn [Karras et al. 2022, Algorithm 2, lines 4 to 6]: before a step, noise raises the latents to a higher level,
 * which is returned. k-diffusion draws the noise even if it does not churn. (diffusers' Euler has an argument s_churn
 * that its pipelines cannot set, and it churns after the UNet has answered.) */
static sd_level churn(sd_sampling *r, sd_level s)
{
    const sd_sched_config *c = r->c;
    bool inside = c->s_tmin <= s.noise && s.noise <= c->s_tmax;
    double gamma = inside ? fmin(c->s_churn / r->steps, sqrt(2.0) - 1.0) : 0.0;
    if (gamma == 0.0 && !r->s->kdiffusion) return s;
    sd_level hat = gamma > 0.0 ? sd_level_at_sigma(r->s, s.noise * (1.0 + gamma)) : s;
    const double *z = sd_fresh_noise(r, hat, s);
    SUM(r, r->x, {1, r->x}, {c->s_noise * sqrt(hat.noise * hat.noise - s.noise * s.noise), z});
    return hat;
}

/* Euler [Karras et al. 2022, Algorithm 1 without its second-order correction]; EulerDiscreteScheduler, sample_euler. */
void sd_sample_euler(sd_sampling *r)
{
    double *x = r->x, *d = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level t = r->at[i + 1], s = churn(r, r->at[i]);
        sd_predict(r, x, s, d, NULL);
        sd_slope(r, d, x, d, s);
        SUM(r, x, {1, x}, {t.noise - s.noise, d});
    }
}

/* Heun: a step's slope is the mean of the slopes at its two ends [Karras et al. 2022, Algorithm 2]. */
typedef struct heun { double *d, *x2, *d2; } heun;

static heun heun_vectors(sd_sampling *r) { return (heun){sd_vector(r), sd_vector(r), sd_vector(r)}; }

/* half: the step ends before its second evaluation, and so is Euler's. */
static void heun_step(sd_sampling *r, const heun *v, sd_level s, sd_level t, bool half)
{
    double *x = r->x, dt = t.noise - s.noise;
    sd_predict(r, x, s, v->d, NULL);
    sd_slope(r, v->d, x, v->d, s);
    if (t.noise > 0 && !half) {
        SUM(r, v->x2, {1, x}, {dt, v->d});
        sd_predict(r, v->x2, t, v->d2, NULL);
        sd_slope(r, v->d2, v->x2, v->d2, t);
        SUM(r, v->d, {0.5, v->d}, {0.5, v->d2});
    }
    SUM(r, x, {1, x}, {dt, v->d});
}

/* HeunDiscreteScheduler, sample_heun. */
void sd_sample_heun(sd_sampling *r)
{
    heun v = heun_vectors(r);
    for (int i = r->begin; sd_has_step(r, i); i++)
        heun_step(r, &v, churn(r, r->at[i]), r->at[i + 1], sd_ends_within(r, i));
}

/* Level i of n on the curve of [Karras et al. 2022, eq. 5]; i = n is the end of a run, sigma 0. */
static sd_level karras_level(const sd_sampling *r, int i, int n, double hi, double lo)
{
    double w = n > 1 ? (double)i / (n - 1) : 0.0, first = pow(hi, 1.0 / 7), last = pow(lo, 1.0 / 7);
    return i == n ? (sd_level){0.0, 1.0, 0.0} : sd_level_at_sigma(r->s, pow(first + w * (last - first), 7));
}

/* How A1111 divides the steps of a restart run. Of 20 steps or more, 9 are for one restart; of 36 or more, a quarter
 * is for each of two restarts. The others go down Karras' curve. A run with fewer steps is Heun's. */
typedef struct restart { int n, again, times; double hi, lo; } restart;

static restart restart_plan(const sd_sampling *r)
{
    int steps = r->steps - r->begin, times = steps >= 36 ? 2 : steps >= 20 ? 1 : 0, again = times == 2 ? steps / 4 : 9;
    return (restart){steps - again * times, again, times, r->at[r->begin].noise, r->at[r->steps - 1].noise};
}

static sd_level restart_level(const sd_sampling *r, const restart *p, int i)
{
    return p->times ? karras_level(r, i, p->n, p->hi, p->lo) : r->at[r->begin + i];
}

static int nearest_level(const sd_sampling *r, const restart *p, double sigma)
{
    int best = 0;
    for (int i = 1; i <= p->n; i++) {
        double off = fabs(restart_level(r, p, i).noise - sigma);
        if (off < fabs(restart_level(r, p, best).noise - sigma)) best = i;
    }
    return best;
}

/* Restart sampling [Xu et al. 2023, "Restart Sampling for Improving Generative Processes", Algorithm 1] with Heun's
 * steps: when a run has reached sigma 0.1, fresh noise raises it to 2 again, and it goes down once more. */
void sd_sample_restart(sd_sampling *r)
{
    heun v = heun_vectors(r);
    restart p = restart_plan(r);
    int low = p.times ? nearest_level(r, &p, 0.1) : -1, high = p.times ? nearest_level(r, &p, 2) : -1;
    for (int i = 0; i < p.n && !r->stop; i++) {
        heun_step(r, &v, restart_level(r, &p, i), restart_level(r, &p, i + 1), false);
        for (int k = 0; k < p.times && i + 1 == low && high < low; k++) {
            sd_level top = restart_level(r, &p, high), end = restart_level(r, &p, low);
            double up = sqrt(top.noise * top.noise - end.noise * end.noise);
            SUM(r, r->x, {1, r->x}, {r->c->s_noise * up, sd_fresh_noise(r, top, end)});
            for (int j = 0; j < p.again; j++)
                heun_step(r, &v, karras_level(r, j, p.again + 1, top.noise, end.noise),
                          karras_level(r, j + 1, p.again + 1, top.noise, end.noise), false);
        }
    }
}

static sd_level between(const sd_sampling *r, double from, double to, double ratio)   /* in log sigma */
{
    return sd_level_at_sigma(r->s, exp(log(from) + ratio * (log(to) - log(from))));
}

/* DPM-Solver-2 [Lu et al. 2022, "DPM-Solver", Algorithm 1 with r = 1/2] in Karras' form: the step uses the slope in its
 * middle, which is the middle in log sigma; KDPM2DiscreteScheduler, sample_dpm_2. */
void sd_sample_dpm2(sd_sampling *r)
{
    double *x = r->x, *d = sd_vector(r), *x2 = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level t = r->at[i + 1], s = churn(r, r->at[i]);
        sd_predict(r, x, s, d, NULL);
        sd_slope(r, d, x, d, s);
        if (t.noise > 0) {
            sd_level middle = between(r, s.noise, t.noise, 0.5);
            SUM(r, x2, {1, x}, {middle.noise - s.noise, d});
            if (sd_ends_within(r, i)) {
                SUM(r, x, {1, x2});
                return;
            }
            sd_predict(r, x2, middle, d, NULL);
            sd_slope(r, d, x2, d, middle);
        }
        SUM(r, x, {1, x}, {t.noise - s.noise, d});
    }
}

sd_ancestral sd_ancestral_step(double from, double to, double eta)
{
    double up = fmin(to, eta * sqrt(to * to * (from * from - to * to) / (from * from)));
    return (sd_ancestral){sqrt(to * to - up * up), up};
}

/* Euler with ancestral steps; EulerAncestralDiscreteScheduler, sample_euler_ancestral. diffusers draws in the last step
 * too, where the noise is multiplied by 0. */
void sd_sample_euler_ancestral(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        sd_ancestral to = sd_ancestral_step(s.noise, t.noise, r->c->eta);
        sd_predict(r, x, s, x0, NULL);
        double step = (to.down - s.noise) / s.noise;
        const double *z = r->s->kdiffusion && t.noise == 0 ? NULL : sd_fresh_noise(r, s, t);
        SUM(r, x, {1.0 + step, x}, {-step, x0}, {to.up * r->c->s_noise, z});
    }
}

/* dpm2 with ancestral steps; KDPM2AncestralDiscreteScheduler, sample_dpm_2_ancestral. */
void sd_sample_dpm2_ancestral(sd_sampling *r)
{
    double *x = r->x, *d = sd_vector(r), *x2 = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        sd_ancestral to = sd_ancestral_step(s.noise, t.noise, r->c->eta);
        const double *z = NULL;
        sd_predict(r, x, s, d, NULL);
        sd_slope(r, d, x, d, s);
        if (to.down > 0) {
            sd_level middle = between(r, s.noise, to.down, 0.5);
            SUM(r, x2, {1, x}, {middle.noise - s.noise, d});
            if (sd_ends_within(r, i)) {
                SUM(r, x, {1, x2});
                return;
            }
            sd_predict(r, x2, middle, d, NULL);
            sd_slope(r, d, x2, d, middle);
            z = sd_fresh_noise(r, s, t);
        }
        SUM(r, x, {1, x}, {to.down - s.noise, d}, {to.up * r->c->s_noise, z});
    }
}

/* DPM-Solver++(2S) [Lu et al. 2022, "DPM-Solver++", Algorithm 1] with ancestral steps; sample_dpmpp_2s_ancestral. */
void sd_sample_dpmpp_2s_ancestral(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), *x2 = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        sd_ancestral to = sd_ancestral_step(s.noise, t.noise, r->c->eta);
        sd_predict(r, x, s, x0, NULL);
        if (to.down > 0) {
            sd_level middle = between(r, s.noise, to.down, 0.5);
            double ratio = middle.noise / s.noise;
            SUM(r, x2, {ratio, x}, {1.0 - ratio, x0});
            sd_predict(r, x2, middle, x0, NULL);
        }
        double ratio = to.down / s.noise;   /* exp(-h); 1 - ratio = -expm1(-h) */
        const double *z = t.noise > 0 ? sd_fresh_noise(r, s, t) : NULL;
        SUM(r, x, {ratio, x}, {1.0 - ratio, x0}, {to.up * r->c->s_noise, z});
    }
}

/* DPM-Solver++ with noise [Lu et al. 2022, "DPM-Solver++", sec. 5 and its SDE version]: two stages with noise in each,
 * r = 1/2; DPMSolverSDEScheduler, sample_dpmpp_sde. Both programs take that noise from a Brownian tree. */
void sd_sample_dpmpp_sde(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), *x2 = sd_vector(r);
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        const double *z = NULL;
        sd_ancestral to = {0.0, 0.0};
        sd_predict(r, x, s, x0, NULL);
        if (t.noise > 0) {
            sd_level middle = between(r, s.noise, t.noise, 0.5);
            to = sd_ancestral_step(s.noise, middle.noise, r->c->eta);
            z = sd_fresh_noise(r, s, middle);
            SUM(r, x2, {to.down / s.noise, x}, {1.0 - to.down / s.noise, x0}, {to.up * r->c->s_noise, z});
            if (sd_ends_within(r, i)) {
                SUM(r, x, {1, x2});
                return;
            }
            sd_predict(r, x2, middle, x0, NULL);   /* with r = 1/2 only the second answer counts */
            to = sd_ancestral_step(s.noise, t.noise, r->c->eta);
            z = sd_fresh_noise(r, s, t);
        }
        SUM(r, x, {to.down / s.noise, x}, {1.0 - to.down / s.noise, x0}, {to.up * r->c->s_noise, z});
    }
}

/* ------------------------------------------------------ DPM-Solver of three orders, in lambda */

typedef struct dpm { double *eps, *eps1, *eps2, *u; } dpm;

static dpm dpm_vectors(sd_sampling *r) { return (dpm){sd_vector(r), sd_vector(r), sd_vector(r), sd_vector(r)}; }

/* DPM-Solver-1, -2 and -3 [Lu et al. 2022, "DPM-Solver", eq. 3.7, Algorithms 1 and 2] from x at s to y at t. v->eps is
 * predicted already, and if `known` also v->eps1. */
static void dpm_step(sd_sampling *r, int order, double r1, const dpm *v, bool known, double *y, sd_level s, sd_level t)
{
    double r2 = 2.0 / 3, h = log(s.noise / t.noise), grow = expm1(h);
    if (order == 1) {
        SUM(r, y, {1, r->x}, {-t.noise * grow, v->eps});
        return;
    }
    sd_level s1 = between(r, s.noise, t.noise, r1);
    if (!known) {
        SUM(r, v->u, {1, r->x}, {-s1.noise * expm1(r1 * h), v->eps});
        sd_predict(r, v->u, s1, NULL, v->eps1);
    }
    if (order == 2) {
        double to_d = t.noise / (2 * r1) * grow;
        SUM(r, y, {1, r->x}, {to_d - t.noise * grow, v->eps}, {-to_d, v->eps1});
        return;
    }
    sd_level s2 = between(r, s.noise, t.noise, r2);
    double to_d = s2.noise * (r2 / r1) * (expm1(r2 * h) / (r2 * h) - 1);
    SUM(r, v->u, {1, r->x}, {to_d - s2.noise * expm1(r2 * h), v->eps}, {-to_d, v->eps1});
    sd_predict(r, v->u, s2, NULL, v->eps2);
    to_d = t.noise / r2 * (grow / h - 1);
    SUM(r, y, {1, r->x}, {to_d - t.noise * grow, v->eps}, {-to_d, v->eps2});
}

/* An ancestral step that does not go below the end of the run. */
static sd_ancestral dpm_ancestral(const sd_sampling *r, double from, double to)
{
    double end = r->at[r->steps].noise, down = fmax(end, sd_ancestral_step(from, to, r->c->eta).down);
    return r->c->eta > 0 ? (sd_ancestral){down, sqrt(to * to - down * down)} : (sd_ancestral){to, 0.0};
}

/* DPM-Solver-fast [Lu et al. 2022, sec. 3.4]: as many steps of order 3 as the evaluations allow, evenly spaced in
 * lambda; sample_dpm_fast. Noise is drawn in each step, even if it is multiplied by 0. */
void sd_sample_dpm_fast(sd_sampling *r)
{
    dpm v = dpm_vectors(r);
    int n = r->steps - r->begin, m = n / 3 + 1, left = n;
    double first = r->at[r->begin].noise, end = r->at[r->steps].noise;
    for (int i = 0; i < m && !r->stop; i++) {
        int order = left > 3 ? 3 : left == 3 ? 2 : left;
        sd_level s = between(r, first, end, (double)i / m), t = between(r, first, end, (double)(i + 1) / m);
        sd_ancestral to = dpm_ancestral(r, s.noise, t.noise);
        sd_predict(r, r->x, s, NULL, v.eps);
        dpm_step(r, order, order == 3 ? 1.0 / 3 : 0.5, &v, false, r->x, s, sd_level_at_sigma(r->s, to.down));
        SUM(r, r->x, {1, r->x}, {to.up * r->c->s_noise, sd_fresh_noise(r, s, t)});
        left -= order;
    }
}

/* Root mean square of (low - high) / max(atol, rtol max(|low|, |before|)). */
static double step_error(const sd_sampling *r, const double *low, const double *high, const double *before)
{
    const double atol = 0.0078, rtol = 0.05;
    double sum = 0.0;
    for (size_t j = 0; j < r->n; j++) {
        double e = (low[j] - high[j]) / fmax(atol, rtol * fmax(fabs(low[j]), fabs(before[j])));
        sum += e * e;
    }
    return sqrt(sum / (double)r->n);
}

/* DPM-Solver-12 and -23 [Lu et al. 2022, Appendix C]: the difference of two orders sets the size of the next step, by
 * an integral controller with a limiter; sample_dpm_adaptive. The number of evaluations is known only at the end; the
 * number of steps is not used. */
void sd_sample_dpm_adaptive(sd_sampling *r)
{
    dpm v = dpm_vectors(r);
    double *low = sd_vector(r), *high = sd_vector(r), *before = sd_vector(r);
    double lambda = -log(r->at[r->begin].noise), end = -log(r->at[r->steps].noise), h = 0.05;
    int order = r->c->order < 3 ? 2 : 3, tries = 0;
    double power = 1.0 / (r->c->eta > 0 ? 1.5 : order);
    SUM(r, before, {1, r->x});
    while (lambda < end - 1e-5 && !r->stop && tries++ < 10000) {
        double next = fmin(end, lambda + h);
        sd_level s = sd_level_at_sigma(r->s, exp(-lambda)), t = sd_level_at_sigma(r->s, exp(-next));
        sd_ancestral to = dpm_ancestral(r, s.noise, t.noise);
        sd_level down = sd_level_at_sigma(r->s, to.down);
        sd_predict(r, r->x, s, NULL, v.eps);
        dpm_step(r, order - 1, 1.0 / 3, &v, false, low, s, down);
        dpm_step(r, order, order == 3 ? 1.0 / 3 : 0.5, &v, order == 3, high, s, down);
        double factor = 1 + atan(pow(1 / (step_error(r, low, high, before) + 1e-8), power) - 1);
        h *= factor;
        if (!(factor >= 0.81)) continue;
        SUM(r, before, {1, low});
        SUM(r, r->x, {1, high}, {to.up * r->c->s_noise, sd_fresh_noise(r, s, t)});
        lambda = next;
    }
}
