/* sampler_multistep.c - floor 5: the samplers that remember the UNet's answers at earlier steps. Letters as in
 * sampler_onestep.c. */
#include "sampler_run.h"

#include <string.h>

/* Makes room for a new entry: the oldest of n vectors moves to history[0], which is returned. */
static double *newest(double **history, size_t n)
{
    double *oldest = history[n - 1];
    memmove(history + 1, history, (n - 1) * sizeof *history);
    return history[0] = oldest;
}

/* --------------------------------------------------------------------------------------- PNDM */

/* PNDM's step [Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", eq. 9]:
 *   x' = sqrt(a'/a) x - (a' - a) e / (a sqrt(1-a') + sqrt(a (1-a) a'))
 * where x are the latents at the start of the step and e is the mean of several outputs. PNDMScheduler takes the mean
 * of the outputs as they are (v stays v) and converts that mean to noise at the start of the step. It refuses sample
 * prediction; here that is treated in the same way. */
static void transfer(sd_sampling *r, const double *start, const double *output, sd_level s, sd_level t)
{
    double a = alpha_of(s), a1 = alpha_of(t);
    double to_x = sqrt(a1 / a), to_eps = -(a1 - a) / (a * sqrt(1.0 - a1) + sqrt(a * (1.0 - a) * a1));
    sd_scaling k = sd_scaling_at(r->c, s);
    SUM(r, r->x, {to_x + to_eps * k.eps_skip, start}, {to_eps * k.eps_out, output});
}

enum { PRK_ENTRIES = 12 };   /* three Runge-Kutta steps of four evaluations */

/* Entry k of PNDMScheduler's list of timesteps with Runge-Kutta: for three steps t0, m, m, t1, t1, ..., with m half a
 * stride above the end of the step; then t3, t4, ... */
static sd_level prk_entry(const sd_sampling *r, int k)
{
    int half = r->c->train_steps / r->steps / 2, i = k / 4;
    if (k >= PRK_ENTRIES) return r->at[k - 9];
    if (k % 4 == 0) return r->at[i];
    return k % 4 == 3 ? r->at[i + 1] : sd_level_at_timestep(r->s, r->at[i + 1].t + half);
}

/* Pseudo Runge-Kutta [Liu et al. 2022, eq. 13], PNDMScheduler.step_prk: four evaluations from one starting point, which
 * make the history that linear multi-step needs. The trial steps use their own outputs.
 * In image to image a run begins at entry k > 0 of the list, while `count` counts its evaluations from 0. diffusers
 * gives the UNet the timestep of entry k, but takes the start of the step from entry `count`; so do we. */
static void runge_kutta(sd_sampling *r, int k, int count, double *start, double *first, double *sum)
{
    static const double share[] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    int half = r->c->train_steps / r->steps / 2, part = count % 4;
    sd_level now = prk_entry(r, k), s = prk_entry(r, count - part);
    sd_level t = sd_level_at_timestep(r->s, now.t - (count % 2 ? 0 : half));
    if (part == 0) SUM(r, start, {1, r->x});
    sd_predict(r, r->x, now, NULL, NULL);
    if (part == 0) SUM(r, first, {1, r->output});
    SUM(r, sum, {part ? 1 : 0, sum}, {share[part], r->output});
    transfer(r, start, part == 3 ? sum : r->output, s, t);
}

/* Weights of Adams-Bashforth, by how many outputs are known. */
static const double adams_bashforth[4][4] = {
    {1.0}, {3.0 / 2, -1.0 / 2}, {23.0 / 12, -16.0 / 12, 5.0 / 12}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};

/* PNDM [Liu et al. 2022, Algorithm 2]; PNDMScheduler.step_plms. Without Runge-Kutta (skip_prk_steps, all of Stable
 * Diffusion) the first step is taken twice: to its end and, with the mean of both ends' outputs, from its start again.
 * So there is one evaluation more than steps, and diffusers' list of timesteps is t0, t1, t1, t2, ...
 * In image to image a run begins at entry j of that list, and whichever step comes first is taken twice. So with j > 0
 * the third evaluation gets the timestep after the one where the latents are, as in diffusers. */
void sd_sample_pndm(sd_sampling *r)
{
    double *start = sd_vector(r), *mean = sd_vector(r);
    double *h[] = {sd_vector(r), sd_vector(r), sd_vector(r), sd_vector(r)};
    bool prk = !r->c->skip_prk_steps, repeats = !prk && r->steps > 1;
    int stride = r->c->train_steps / r->steps, known = 0, j = r->begin, entries = r->steps + (prk ? 9 : repeats);
    if (r->s->end) entries = r->s->end;
    for (int count = 0; prk && count < PRK_ENTRIES && j < entries && !r->stop; count++, j++) {
        if (count % 4 == 0) newest(h, 4);
        runge_kutta(r, j, count, start, h[0], mean);
        known = count / 4 + 1;
    }
    for (int second = j + 1; j < entries && !r->stop; j++) {
        sd_level s = prk ? prk_entry(r, j) : r->at[repeats && j > 1 ? j - 1 : j];
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

/* IPNDM [Zhang & Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator", sec. 3.3]: Adams-Bashforth
 * on eps. diffusers' IPNDMScheduler is for models with cosine levels and timesteps in [0,1]; ComfyUI's sampler of this
 * name works in sigma. Both go straight from s to t with the mean eps. */
void sd_sample_ipndm(sd_sampling *r)
{
    double *x = r->x, *eps = sd_vector(r);
    double *h[] = {sd_vector(r), sd_vector(r), sd_vector(r), sd_vector(r)};
    for (int i = r->begin, known = 0; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        sd_predict(r, x, s, NULL, newest(h, 4));
        const double *w = adams_bashforth[known < r->c->order ? known++ : known - 1];
        if (r->s->kdiffusion && t.noise == 0) w = adams_bashforth[0];   /* ComfyUI ends with x0 itself */
        SUM(r, eps, {w[0], h[0]}, {w[1], h[1]}, {w[2], h[2]}, {w[3], h[3]});
        double from_x = s.signal > 0 ? t.signal / s.signal : 0.0;
        SUM(r, x, {from_x, x}, {t.noise - from_x * s.noise, eps});
    }
}

/* ---------------------------------------------------------------------------------------- LMS */

/* The integral over a step of the Lagrange polynomial that is 1 at node j and 0 at the other nodes. Gauss' rule of two
 * points is exact up to degree 3. */
static double lagrange_integral(const sd_level *at, int i, int order, int j)
{
    double from = at[i].noise, to = at[i + 1].noise, sum = 0.0;
    for (int side = -1; side <= 1; side += 2) {
        double tau = (from + to) / 2 + side * (to - from) / (2 * sqrt(3.0)), product = 1.0;
        for (int k = 0; k < order; k++)
            if (k != j) product *= (tau - at[i - k].noise) / (at[i - j].noise - at[i - k].noise);
        sum += product * (to - from) / 2;
    }
    return sum;
}

/* Linear multi-step: Adams-Bashforth for steps of any size, in sigma; LMSDiscreteScheduler, sample_lms. (They integrate
 * numerically to a tolerance of 1e-4, but their rule is exact for polynomials.) */
void sd_sample_lms(sd_sampling *r)
{
    double *x = r->x;
    double *d[] = {sd_vector(r), sd_vector(r), sd_vector(r), sd_vector(r)};
    for (int i = r->begin, known = 0; sd_has_step(r, i); i++) {
        double *now = newest(d, 4), w[4] = {0};
        sd_predict(r, x, r->at[i], now, NULL);
        sd_slope(r, now, x, now, r->at[i]);
        if (known < r->c->order) known++;
        /* A run that begins in the middle has fewer slopes than nodes. diffusers computes the weights for all nodes and
         * uses as many as it has slopes. k-diffusion gets only the remaining sigmas, so it has fewer nodes. */
        int nodes = r->s->kdiffusion ? known : i + 1 < r->c->order ? i + 1 : r->c->order;
        for (int k = 0; k < known; k++) w[k] = lagrange_integral(r->at, i, nodes, k);
        SUM(r, x, {1, x}, {w[0], d[0]}, {w[1], d[1]}, {w[2], d[2]}, {w[3], d[3]});
    }
}

/* ------------------------------------------------------------------------ gradient estimation */

/* Permenter & Yuan 2023, "Interpreting and Improving Diffusion Models from an Optimization Perspective": eps is the
 * gradient of a distance to the data; a better estimate is eps_i + (gamma - 1) (eps_i - eps_(i-1)) with gamma = 2:
 *   x' = x + (sigma' - sigma) (gamma eps_i + (1 - gamma) eps_(i-1))
 * ComfyUI's sample_gradient_estimation, stable-diffusion.cpp's euler_ge. The first step and the step to sigma 0 are
 * Euler's. */
void sd_sample_gradient_estimation(sd_sampling *r)
{
    double *x = r->x, *eps[] = {sd_vector(r), sd_vector(r)};
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        double *now = newest(eps, 2), step = t.noise - s.noise, gamma = i > r->begin && t.noise > 0 ? 2 : 1;
        sd_predict(r, x, s, now, NULL);
        sd_slope(r, now, x, now, s);
        SUM(r, x, {1, x}, {step * gamma, eps[0]}, {step * (1 - gamma), eps[1]});
    }
}

/* ----------------------------------------------------------------------------------------- RES */

/* Refined exponential solver, multi-step of order 2 [Zhang, Song & Chen 2023, "Improved Order Analysis and Design of
 * Exponential Integrator for Diffusion Models Sampling", sec. 3]: x0 as a straight line in lambda = -ln sigma through
 * the last two answers, integrated exactly. With h the step in lambda and c = (lambda_(i-1) - lambda_i) / h,
 *   x' = e^-h x + h (phi1 - phi2/c) x0_i + h phi2/c x0_(i-1),   phi1 = (1 - e^-h)/h, phi2 = (1 - phi1)/h
 * (DPM-Solver++(2M) with the weights of its "heun" is the same.) ComfyUI's sample_res_multistep, and with ancestral
 * steps sample_res_multistep_ancestral. In an ancestral step h is the distance down, and the distance down of the step
 * before replaces lambda_i - lambda_(i-1), as in ComfyUI. */
void sd_sample_res_multistep(sd_sampling *r)
{
    double *x = r->x, *m[] = {sd_vector(r), sd_vector(r)}, before = 0.0;   /* before: the last step's h */
    bool noisy = r->s->row->about.draws != SD_DRAWS_NEVER;
    for (int i = r->begin; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        sd_ancestral to = sd_ancestral_step(s.noise, t.noise, noisy ? r->c->eta : 0.0);
        double keep = to.down / s.noise, h = -log(keep), grow = 1.0 - keep, w = 0.0;   /* keep = e^-h, grow = h phi1 */
        if (i > r->begin && to.down > 0) w = -(1.0 - grow / h) * h / before;           /* h phi2 / c */
        sd_predict(r, x, s, newest(m, 2), NULL);
        const double *z = noisy && t.noise > 0 ? sd_fresh_noise(r, s, t) : NULL;
        SUM(r, x, {keep, x}, {grow - w, m[0]}, {w, m[1]}, {to.up * r->c->s_noise, z});
        before = h;
    }
}

/* ------------------------------------------------------------------------------- DPM-Solver++ */

/* The order of step i if `known` answers exist, this step's included. diffusers lowers it towards the end of short
 * runs, k-diffusion only for the step to sigma 0. */
static int dpmpp_order(const sd_sampling *r, int i, int known)
{
    const sd_sched_config *c = r->c;
    bool few = c->lower_order_final && r->steps < 15, last = i == r->steps - 1;
    int most = c->order < known ? c->order : known;
    if (r->s->kdiffusion) return r->at[i + 1].noise == 0 ? 1 : most;
    if (last && (c->euler_at_final || few || !c->final_sigma_min)) return 1;
    return few && i == r->steps - 2 && most > 2 ? 2 : most;
}

/* DPM-Solver++ multi-step [Lu et al. 2022, "DPM-Solver++", Algorithm 2 and Appendix B]: x0's Taylor polynomial in
 * lambda, from divided differences D, is integrated exactly against the exponential. h is the step in lambda, and
 * H = (1 + eta) h: eta = 0 solves the ODE, eta = 1 the SDE (sde-dpmsolver++; k-diffusion's 2m_sde and 3m_sde).
 *   x' = (sigma'/sigma) e^(-eta h) x + alpha' (1 - e^-H) D0 + ... + sigma' sqrt(1 - e^(-2 eta h)) z
 * DPMSolverMultistepScheduler, sample_dpmpp_2m, _2m_sde, _3m_sde. */
void sd_sample_dpmpp_multistep(sd_sampling *r)
{
    double *x = r->x, *m[] = {sd_vector(r), sd_vector(r), sd_vector(r)}, *d1 = sd_vector(r), *d2 = sd_vector(r);
    bool sde = r->s->row->about.draws == SD_DRAWS_WITH_ETA && r->c->eta > 0;
    double eta = sde ? r->c->eta : 0.0;
    bool heun = r->c->solver == SD_SOLVER_HEUN || (r->s->kdiffusion && r->c->order == 3);   /* sample_dpmpp_3m_sde */
    for (int i = r->begin, known = 0; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        double h = lambda_of(t) - lambda_of(s), H = (1 + eta) * h, grow = -expm1(-H), to_d1 = 0.0, to_d2 = 0.0;
        sd_predict(r, x, s, newest(m, 3), NULL);
        const double *z = sde && !(r->s->kdiffusion && t.noise == 0) ? sd_fresh_noise(r, s, t) : NULL;
        int order = dpmpp_order(r, i, ++known);
        if (order == 2) {
            double r0 = (lambda_of(s) - lambda_of(r->at[i - 1])) / h;
            SUM(r, d1, {1 / r0, m[0]}, {-1 / r0, m[1]});
            to_d1 = heun ? 1 - grow / H : 0.5 * grow;
        } else if (order == 3) {
            double r0 = (lambda_of(s) - lambda_of(r->at[i - 1])) / h;
            double r1 = (lambda_of(r->at[i - 1]) - lambda_of(r->at[i - 2])) / h;
            double u = r0 / (r0 + r1), v = 1 / (r0 + r1);
            /* first differences (m0 - m1) / r0 and (m1 - m2) / r1 */
            SUM(r, d1, {(1 + u) / r0, m[0]}, {-(1 + u) / r0 - u / r1, m[1]}, {u / r1, m[2]});
            SUM(r, d2, {v / r0, m[0]}, {-v / r0 - v / r1, m[1]}, {v / r1, m[2]});
            to_d1 = 1 - grow / H;
            /* Taylor's expansion has - 1/2 here. diffusers' SDE has + 1/2, and we follow it: see docs/SAMPLERS.md. */
            to_d2 = -((H - grow) / (H * H) - (sde && !r->s->kdiffusion ? -0.5 : 0.5));
        }
        double keep = t.noise / s.noise * (sde ? exp(-eta * h) : 1.0);
        SUM(r, x, {keep, x}, {t.signal * grow, m[0]}, {t.signal * to_d1, order > 1 ? d1 : NULL},
            {t.signal * to_d2, order > 2 ? d2 : NULL}, {r->c->s_noise * t.noise * sqrt(-expm1(-2 * eta * h)), z});
    }
}

/* The order of step i of the single-step solver: 1, 2, 3, 1, 2, 3, ..., but 1 for a last step that needs it. */
static int singlestep_order(const sd_sampling *r, int i)
{
    int k = r->c->order, order = i % k + 1;
    bool even = r->steps % k == 0;
    return i == r->steps - 1 && (!r->c->final_sigma_min || (even && r->c->lower_order_final)) ? 1 : order;
}

/* DPM-Solver++ single-step [Lu et al. 2022, "DPM-Solver++", Algorithm 1; orders 2 and 3 of "DPM-Solver" with x0 instead
 * of eps]. The steps of a group all start where the group starts, each with one answer more than the one before; the
 * last one's result is the group's. DPMSolverSinglestepScheduler. */
void sd_sample_dpmpp_singlestep(sd_sampling *r)
{
    double *x = r->x, *start = sd_vector(r), *m[] = {sd_vector(r), sd_vector(r), sd_vector(r)};
    for (int i = r->begin, known = 0; sd_has_step(r, i); i++) {
        int order = singlestep_order(r, i);
        sd_predict(r, x, r->at[i], newest(m, 3), NULL);
        if (++known < order) order = known;
        if (order == 1) SUM(r, start, {1, x});
        sd_level s = r->at[i - order + 1], t = r->at[i + 1];
        const double *d0 = m[order - 1];
        double h = lambda_of(t) - lambda_of(s), grow = -expm1(-h), keep = t.noise / s.noise;
        double heun = 1 - grow / h, r0 = (lambda_of(r->at[i]) - lambda_of(s)) / h;
        bool midpoint = r->c->solver == SD_SOLVER_MIDPOINT;
        if (order == 1) {
            SUM(r, x, {keep, start}, {t.signal * grow, d0});
        } else if (order == 2) {
            double w = t.signal * (midpoint ? 0.5 * grow : heun) / r0;   /* of D1 = (m0 - m1) / r0 */
            SUM(r, x, {keep, start}, {t.signal * grow - w, d0}, {w, m[0]});
        } else {
            /* first differences a = (m1 - m2) / r1 and b = (m0 - m2) / r0 from the group's start */
            double r1 = (lambda_of(r->at[i - 1]) - lambda_of(s)) / h;
            double d2 = midpoint ? 0.0 : -((h - grow) / (h * h) - 0.5) * 2 / (r0 - r1);   /* of (b - a) */
            double b = midpoint ? heun : -heun * r1 / (r0 - r1) + d2, a = midpoint ? 0.0 : heun * r0 / (r0 - r1) - d2;
            SUM(r, x, {keep, start}, {t.signal * (grow - a / r1 - b / r0), d0}, {t.signal * a / r1, m[1]},
                {t.signal * b / r0, m[0]});
        }
    }
}

/* --------------------------------------------------------------------------------------- DEIS */

/* The integral over rho = sigma from s to t of the polynomial in log rho that is 1 at a and 0 at the others (one or
 * two). */
static double log_lagrange(double s, double t, double a, const double *others, int n)
{
    double b = log(others[0]), c = n > 1 ? log(others[1]) : 0.0, scale = log(a) - b, sum = 0.0;
    if (n > 1) scale *= log(a) - c;
    for (int end = 0; end < 2; end++) {
        double rho = end ? t : s, l = log(rho);
        double first = n > 1 ? l * l - 2 * l + 2 - (b + c) * (l - 1) + b * c : l - 1 - b;
        sum += (end ? 1 : -1) * rho * first / scale;
    }
    return sum;
}

/* DEIS [Zhang & Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator", sec. 3.2]: eps is a
 * polynomial in log rho, and dx/drho = eps is integrated exactly; DEISMultistepScheduler (logrho). */
void sd_sample_deis(sd_sampling *r)
{
    double *x = r->x, *m[] = {sd_vector(r), sd_vector(r), sd_vector(r)}, *x0 = sd_vector(r);
    for (int i = r->begin, known = 0; sd_has_step(r, i); i++) {
        sd_level s = r->at[i], t = r->at[i + 1];
        double *eps = newest(m, 3), rho = sigma_of(s), rho1 = sigma_of(t), w[3] = {rho1 - rho, 0, 0};
        bool few = r->c->lower_order_final && r->steps < 15;
        sd_predict(r, x, s, x0, NULL);
        sd_slope(r, eps, x, x0, s);   /* eps of the clipped x0 */
        int order = ++known < r->c->order ? known : r->c->order;
        if (few && order > r->steps - i) order = r->steps - i;
        if (order > 1) {
            double node[3] = {rho, sigma_of(r->at[i - 1]), order > 2 ? sigma_of(r->at[i - 2]) : 0.0};
            for (int k = 0; k < order; k++)
                w[k] = log_lagrange(rho, rho1, node[k], (double[]){node[(k + 1) % order], node[(k + 2) % order]},
                                    order - 1);
        }
        SUM(r, x, {t.signal / s.signal, x}, {t.signal * w[0], m[0]}, {t.signal * w[1], order > 1 ? m[1] : NULL},
            {t.signal * w[2], order > 2 ? m[2] : NULL});
    }
}

/* -------------------------------------------------------------------------------------- UniPC */

/* Solves R w = b for up to three unknowns. */
static void solve(double R[3][3], double *b, int n)
{
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++) {
            if (i == k) continue;
            double f = R[i][k] / R[k][k];
            for (int j = k; j < n; j++) R[i][j] -= f * R[k][j];
            b[i] -= f * b[k];
        }
    for (int k = 0; k < n; k++) b[k] /= R[k][k];
}

/* The weights rho of UniPC for the first n nodes [Zhao et al. 2023, "UniPC", eq. 5 and 8]: R rho = b, where row k of R
 * has the nodes to the power k. B(h) is -h (bh1) or e^-h - 1 (bh2). */
static void unipc_weights(double *rho, const double *node, int n, double h, double B)
{
    double R[3][3], hh = -h, phi = expm1(hh) / hh - 1, factorial = 1;
    for (int k = 0; k < n; k++) {
        for (int j = 0; j < n; j++) R[k][j] = k == 0 ? 1.0 : k == 1 ? node[j] : node[j] * node[j];
        rho[k] = phi * factorial / B;
        factorial *= k + 2;
        phi = phi / hh - 1 / factorial;
    }
    solve(R, rho, n);
}

/* One step from `from` at level s to x at level t. m are the answers at at[i], at[i-1], ...; `there` is the answer at t
 * for the corrector, NULL for the predictor. */
static void unipc_step(sd_sampling *r, int i, int order, const double *from, double *const *m, const double *there)
{
    sd_level s = r->at[i], t = r->at[i + 1];
    double h = lambda_of(t) - lambda_of(s), grow = expm1(-h), B = r->c->solver == SD_SOLVER_BH1 ? -h : grow;
    double node[3], rho[3] = {0.5, 0, 0}, to_m[3] = {0}, to_there = 0.0;
    for (int k = 1; k < order; k++) node[k - 1] = (lambda_of(r->at[i - k]) - lambda_of(s)) / h;
    node[order - 1] = 1.0;
    /* For a single weight the class takes 1/2, which is correct up to the order that counts. */
    if (there && order > 1) unipc_weights(rho, node, order, h, B);
    else if (order > 2) unipc_weights(rho, node, order - 1, h, B);
    if (there) to_there = -t.signal * B * rho[order - 1];
    double to_m0 = -t.signal * grow - to_there;
    for (int k = 1; k < order; k++) {
        to_m[k] = -t.signal * B * rho[k - 1] / node[k - 1];   /* of the difference (m_k - m_0) / node */
        to_m0 -= to_m[k];
    }
    SUM(r, r->x, {t.noise / s.noise, from}, {to_m0, m[0]}, {to_m[1], order > 1 ? m[1] : NULL},
        {to_m[2], order > 2 ? m[2] : NULL}, {to_there, there});
}

/* UniPC [Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework", Algorithms 1 and 2] for x0: each answer
 * first corrects the step that led to it; UniPCMultistepScheduler. */
void sd_sample_unipc(sd_sampling *r)
{
    double *x = r->x, *last = sd_vector(r), *now = sd_vector(r), *m[] = {sd_vector(r), sd_vector(r), sd_vector(r)};
    for (int i = r->begin, known = 0, order = 0; sd_has_step(r, i); i++) {
        sd_predict(r, x, r->at[i], now, NULL);
        if (order) unipc_step(r, i - 1, order, last, m, now);
        SUM(r, newest(m, 3), {1, now});
        order = ++known < r->c->order ? known : r->c->order;
        if (r->c->lower_order_final && order > r->steps - i) order = r->steps - i;
        SUM(r, last, {1, x});
        unipc_step(r, i, order, last, m, NULL);
    }
}

/* ---------------------------------------------------------------------------------- SA-Solver */

/* The integrals over u = -h .. 0 of e^(c u) times the Lagrange polynomials of up to three nodes u_k. */
static void exponential_lagrange(double *w, const double *node, int n, double c, double h)
{
    double J[3] = {0};
    J[0] = -expm1(-c * h) / c;
    for (int p = 1; p < n; p++) J[p] = (-pow(-h, p) * exp(-c * h) - p * J[p - 1]) / c;
    for (int k = 0; k < n; k++) {
        double a = node[(k + 1) % n], b = node[(k + 2) % n];   /* the others */
        w[k] = n == 1 ? J[0] : n == 2 ? (J[1] - a * J[0]) / (node[k] - a)
             : (J[2] - (a + b) * J[1] + a * b * J[0]) / ((node[k] - a) * (node[k] - b));
    }
}

/* A stochastic Adams step from `from` at at[i] to x at at[i+1]. The nodes are the levels at[top], at[top-1], ..., whose
 * answers are in m: top = i predicts (Adams-Bashforth), top = i + 1 corrects (Adams-Moulton). */
static void adams_step(sd_sampling *r, int i, int top, int order, double tau, const double *from, double *const *m,
                       const double *z)
{
    sd_level s = r->at[i], t = r->at[i + 1];
    double h = lambda_of(t) - lambda_of(s), c = 1 + tau * tau, w[3] = {0}, node[3];
    for (int k = 0; k < order; k++) node[k] = lambda_of(r->at[top - k]) - lambda_of(t);
    exponential_lagrange(w, node, order, c, h);
    if (order == 2) {   /* the class' own correction, which makes order 2 in h exact */
        double rest = (h * c - 1 + exp(-c * h)) / (c * c);
        double more = top == i ? (h * h / 2 - rest) / (node[0] - node[1]) : h / 2 - rest / h;
        w[0] += more;
        w[1] -= more;
    }
    double scale = c * t.signal;
    SUM(r, r->x, {exp(-tau * tau * h) * t.noise / s.noise, from}, {scale * w[0], m[0]},
        {scale * w[1], order > 1 ? m[1] : NULL}, {scale * w[2], order > 2 ? m[2] : NULL},
        {t.noise * sqrt(-expm1(-2 * tau * tau * h)), z});
}

/* SA-Solver [Xue et al. 2023, "SA-Solver: Stochastic Adams Solver", Algorithm 1], data prediction; SASolverScheduler.
 * tau(t), the strength of the noise, is eta from timestep 200 to 800 and 0 elsewhere; the class' default is eta = 1.
 * Noise is drawn in every step, even if it is multiplied by 0. */
void sd_sample_sa(sd_sampling *r)
{
    double *x = r->x, *last = sd_vector(r), *z = sd_vector(r), tau = 0.0;
    double *m[] = {sd_vector(r), sd_vector(r), sd_vector(r)};
    for (int i = r->begin, known = 0, corrector = 0; sd_has_step(r, i); i++) {
        sd_level s = r->at[i];
        sd_predict(r, x, s, newest(m, 3), NULL);
        if (corrector) adams_step(r, i - 1, i, corrector, tau, last, m, z);
        SUM(r, z, {1, sd_fresh_noise(r, s, r->at[i + 1])});
        tau = s.t >= 200 && s.t <= 800 ? r->c->eta : 0.0;
        int left = r->c->lower_order_final ? r->steps - i : r->steps, predictor = r->c->order;
        corrector = r->c->corrector_order;
        if (predictor > left) predictor = left;
        if (corrector > left + 1) corrector = left + 1;
        known++;
        if (predictor > known) predictor = known;
        if (corrector > known + 1) corrector = known + 1;
        SUM(r, last, {1, x});
        adams_step(r, i, i, predictor, tau, last, m, z);
    }
}
