/* model_probe.c - floor 6: what a UNet predicts, found by asking it. Some files have the same names and shapes whether
 * they were trained to predict epsilon or v (Stable Diffusion 2 at 512 and at 768 pixels).
 *
 * At the last timestep the latents are nearly all noise: x_t = alpha x_0 + sigma e with alpha = 0.07 and sigma = 0.998,
 * so that e = (x_t - alpha x_0) / sigma is nearly x_t itself, and v = alpha e - sigma x_0 nearly -x_0 [Salimans & Ho
 * 2022]. Asked about noise, a UNet that predicts epsilon gives back its input, whatever it has learned; the correlation
 * of both,
 *
 *     r = <out, x> / (|out| |x|)
 *
 * is nearly 1. One that predicts v answers with the average of all pictures, of which the noise knows next to nothing:
 * |r| is small. Half way between lies the boundary. */
#include "cond.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_SIDE = 32 };   /* of the latents: a smaller picture is as good a question as one of the native size */

/* Correlation of the answer with the first of its inputs' channels, which were the noise. */
static double correlation(const float *out, const float *x, size_t n)
{
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)out[i] * (double)x[i];
        a += (double)out[i] * (double)out[i];
        b += (double)x[i] * (double)x[i];
    }
    return a > 0 && b > 0 ? dot / sqrt(a * b) : 0;
}

/* Noise, and for a UNet that repaints a mask of ones and latents of nothing. */
static void question(float *x, const sd_unet_config *u, size_t pixels)
{
    size_t noise = (size_t)u->out_channels * pixels, all = (size_t)u->in_channels * pixels;
    sd_rng rng;
    sd_rng_seed(&rng, 0);
    sd_rng_normal(&rng, x, noise);
    for (size_t i = noise; i < all; i++) x[i] = i < noise + pixels ? 1 : 0;
}

/* One evaluation with the empty prompt. */
static sd_status ask(sd_ctx *c, double *r)
{
    const sd_unet_config *u = &c->model.unet->cfg;
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    int h = u->height < MOST_SIDE ? u->height : MOST_SIDE, w = u->width < MOST_SIDE ? u->width : MOST_SIDE;
    size_t pixels = (size_t)h * (size_t)w, n = (size_t)u->out_channels * pixels;
    float ids[2][SD_MOST_IDS], *x = malloc((size_t)u->in_channels * pixels * sizeof *x), *out = malloc(n * sizeof *out);
    const float last = (float)(c->model.sched.train_steps - 1);
    sd_params p;
    sd_prompts prompts = {0};
    sd_params_init(&p);
    p.width = 8 * w;
    p.height = 8 * h;
    sd_cond_ids(plan, &p, ids);
    const char *const empty = "";
    const sd_prompts_in in = {.text = &empty, .n = 1, .repeat = 1, .ids = plan->n_ids ? ids : NULL};
    if (!x || !out) sd_fail(&c->err, SD_ERR_MEMORY, "no memory to ask the UNet what it predicts");
    if (!c->err.status && !sd_prompts_encode(c, &prompts, plan, &in)) {
        question(x, u, pixels);
        prompts.cond.version = 0;   /* nothing of it is kept for the run that follows */
        if (!sd_run_unet(c, 1, h, w, x, &last, &prompts.cond, out)) *r = correlation(out, x, n);
    }
    sd_prompts_free(&prompts);
    free(x);
    free(out);
    return c->err.status;
}

sd_status sd_probe(sd_ctx *c)
{
    char why[200];
    double r = 0;
    if (!c->model.asks || c->err.status) return c->err.status;
    struct sd_trace *trace = c->run.trace;   /* it is no part of what somebody traces, measures or rehearses */
    struct sd_profile *profile = c->run.profile;
    bool rehearsing = c->rehearsing;
    c->run.trace = NULL;
    c->run.profile = NULL;
    c->rehearsing = false;
    ask(c, &r);
    c->run.trace = trace;
    c->run.profile = profile;
    c->rehearsing = rehearsing;
    if (c->err.status) return c->err.status;
    snprintf(why, sizeof why, "asked about noise at the last timestep, it answers with a correlation of %.3f (epsilon: "
             "nearly 1, v: nearly 0)", r);
    if (r > 0.3 && r < 0.7)
        sd_logf(&c->log, SD_LOG_WARNING, "what the UNet predicts is not clear, give it with --prediction: %s", why);
    return sd_model_decide(&c->model, r > 0.5 ? SD_PRED_EPSILON : SD_PRED_V, why, &c->log, &c->err);
}
