/* multistep.c - floor 5: the samplers that remember what the UNet said at earlier steps. Letters as in solvers.c. */
#include "solver.h"

#include <string.h>

/* Makes room for a newest entry of a history: the oldest vector, now history[0]. */
static double *newest(double **history, size_t n)
{
    double *oldest = history[n - 1];
    memmove(history + 1, history, (n - 1) * sizeof *history);
    return history[0] = oldest;
}

/* --------------------------------------------------------------------------------------- PNDM */

/* PNDM's step [Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", eq. 9]:
 *   x' = sqrt(a'/a) x - (a' - a) e / (a sqrt(1-a') + sqrt(a (1-a) a'))
 * with x where the step started and e the mean of several outputs. PNDMScheduler takes the mean of the outputs as they
 * are (v stays v) and turns it into noise at the start of the step; sample prediction, which it refuses, goes the same
 * way. */
static void transfer(sd_sampling *r, const double *start, const double *output, sd_level s, sd_level t)
{
    double a = alpha_of(s), a1 = alpha_of(t);
    double to_x = sqrt(a1 / a), to_eps = -(a1 - a) / (a * sqrt(1.0 - a1) + sqrt(a * (1.0 - a) * a1));
    sd_scaling k = sd_scaling_at(r->c, s);
    SUM(r, r->x, {to_x + to_eps * k.eps_skip, start}, {to_eps * k.eps_out, output});
}

/* Pseudo Runge-Kutta [Liu et al. 2022, eq. 13], PNDMScheduler.step_prk: four evaluations from one starting point, which
 * make the history that linear multi-step needs. The trial steps use their own outputs. */
static void runge_kutta_step(sd_sampling *r, int i, double *start, double *first, double *sum)
{
    int half = r->c->train_steps / r->steps / 2;
    sd_level s = r->at[i], t = r->at[i + 1];
    sd_level middle = sd_level_at_timestep(r->s, t.t + half), low = sd_level_at_timestep(r->s, s.t - half);
    SUM(r, start, {1, r->x});
    sd_predict(r, r->x, s, NULL, NULL);
    SUM(r, first, {1, r->output});
    SUM(r, sum, {1.0 / 6, r->output});
    transfer(r, start, r->output, s, low);
    sd_predict(r, r->x, middle, NULL, NULL);
    SUM(r, sum, {1, sum}, {1.0 / 3, r->output});
    transfer(r, start, r->output, s, middle);
    sd_predict(r, r->x, middle, NULL, NULL);
    SUM(r, sum, {1, sum}, {1.0 / 3, r->output});
    transfer(r, start, r->output, s, t);
    sd_predict(r, r->x, t, NULL, NULL);
    SUM(r, sum, {1, sum}, {1.0 / 6, r->output});
    transfer(r, start, sum, s, t);
}

/* Weights of Adams-Bashforth, by how many outputs are known. */
static const double adams_bashforth[4][4] = {
    {1.0}, {3.0 / 2, -1.0 / 2}, {23.0 / 12, -16.0 / 12, 5.0 / 12}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};

/* PNDM [Liu et al. 2022, Algorithm 2]; PNDMScheduler.step_plms. Without Runge-Kutta (skip_prk_steps, all of Stable
 * Diffusion) the first step is taken twice: to its end and, with the mean of both ends' outputs, from its start again;
 * hence one evaluation more than steps, and diffusers' list of timesteps t0, t1, t1, t2, ...
 * A run that begins at entry j of that list (image to image) takes the first step that it meets twice, whatever it is: with
 * j > 0 its third evaluation is then told the timestep after the one where the latents are. diffusers does so. */
void sd_sample_pndm(sd_sampling *r)
{
    double *start = sd_vector(r), *mean = sd_vector(r);
    double *h[] = {sd_vector(r), sd_vector(r), sd_vector(r), sd_vector(r)};
    int stride = r->c->train_steps / r->steps, known = 0, j = r->begin;
    if (!r->c->skip_prk_steps)
        for (; j < r->begin + 3 && sd_goes_on(r, j); j++, known++) runge_kutta_step(r, j, start, newest(h, 4), mean);
    bool repeats = r->c->skip_prk_steps && r->steps > 1;
    for (int second = j + 1; j < r->steps + repeats && !r->stop; j++) {
        sd_level s = r->at[repeats && j > 1 ? j - 1 : j];
        if (repeats && j == second) {
            sd_predict(r, r->x, s, NULL, NULL);   /* this output is not remembered */
            SUM(r, mean, {0.5, r->output}, {0.5, h[0]});
            transfer(r, start, mean, sd_level_at_timestep(r->s, s.t + stride), s);
            continue;
        }
        SUM(r, start, {1, r->x});
        sd_predict(r, r->x, s, NULL, NULL);
        SUM(r, newest(h, 4), {1, r->output});
        const double *w = adams_bashforth[known < 4 ? known++ : 3];
        SUM(r, mean, {w[0], h[0]}, {w[1], h[1]}, {w[2], h[2]}, {w[3], h[3]});
        transfer(r, start, mean, s, sd_level_at_timestep(r->s, s.t - stride));
    }
}
