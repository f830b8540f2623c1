/* solvers.c - floor 5: the samplers that look at one step at a time. Each function is the paper's lines.
 *
 * Letters: x latents, x0 and eps what the UNet predicts, z fresh noise; s the level where a step starts and t the one
 * where it ends (their .signal and .noise are the papers' alpha and sigma). */
#include "solver.h"

/* DDIM [Song et al. 2020, "Denoising Diffusion Implicit Models", eq. 12 and 16]; diffusers' DDIMScheduler.
 *   x' = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps + sigma z,  sigma = eta sqrt((1-a')/(1-a)) sqrt(1 - a/a')
 * A step goes one stride of timesteps down, which for linspace is not quite where the next one starts. */
void sd_sample_ddim(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r), *eps = sd_vector(r);
    int stride = r->c->train_steps / r->steps;
    for (int i = r->begin; sd_goes_on(r, i); i++) {
        sd_level s = r->at[i], t = sd_level_at_timestep(r->s, s.t - stride);
        double a = alpha_of(s), a1 = alpha_of(t);
        double sigma = r->c->eta * sqrt((1.0 - a1) / (1.0 - a) * (1.0 - a / a1));
        sd_predict(r, x, s, x0, eps);
        /* diffusers draws whenever eta > 0, also in its last step: the next picture from the same generator depends on
         * it. */
        const double *z = r->c->eta > 0 ? sd_draw(r, s, t) : NULL;
        SUM(r, x, {t.signal, x0}, {sqrt(fmax(1.0 - a1 - sigma * sigma, 0.0)), eps}, {sigma, z});
    }
}

/* Euler on the probability flow ODE dx/dsigma = (x - x0) / sigma [Karras et al. 2022, "Elucidating the Design Space",
 * eq. 1 and 3, Algorithm 1 without its second-order correction]; EulerDiscreteScheduler. */
void sd_sample_euler(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r);
    for (int i = r->begin; sd_goes_on(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        sd_predict(r, x, s, x0, NULL);
        double step = (t.noise - s.noise) / s.noise;
        SUM(r, x, {1.0 + step, x}, {-step, x0});
    }
}

/* Where an ancestral step goes down to, and how much noise brings it up again to t: eta = 1 is the variance of DDPM's
 * posterior [Song et al. 2020, eq. 16]; k-diffusion's get_ancestral_step. */
typedef struct ancestral { double down, up; } ancestral;

static ancestral ancestral_step(double from, double to, double eta)
{
    double up = fmin(to, eta * sqrt(to * to * (from * from - to * to) / (from * from)));
    return (ancestral){sqrt(to * to - up * up), up};
}

/* Euler with ancestral steps; EulerAncestralDiscreteScheduler, sample_euler_ancestral. diffusers draws in the last step
 * too, where the noise counts for nothing. */
void sd_sample_euler_ancestral(sd_sampling *r)
{
    double *x = r->x, *x0 = sd_vector(r);
    for (int i = r->begin; sd_goes_on(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        ancestral to = ancestral_step(s.noise, t.noise, r->c->eta);
        sd_predict(r, x, s, x0, NULL);
        double step = (to.down - s.noise) / s.noise;
        SUM(r, x, {1.0 + step, x}, {-step, x0}, {to.up, sd_draw(r, s, t)});
    }
}
