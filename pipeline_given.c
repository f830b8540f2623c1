/* pipeline_given.c - floor 6: runs of which another program has computed a part: its answers in the place of the
 * UNet's, its latents in the place of the sampler's. */
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

sd_status sd_set_given(sd_ctx *c, const sd_given *given)
{
    static const sd_given none;
    if (sd_begin(c)) return sd_end(c);
    c->given = given ? *given : none;
    if (given && (given->size != sizeof *given || given->answers < 0 || (given->answers && !given->noise_pred))) {
        c->given = none;
        sd_fail(&c->err, SD_ERR_ARG, "given must have its size, %zu bytes, and an array of its %d answers",
                sizeof *given, given->answers);
    }
    return sd_end(c);
}

/* Only the first of two models has a part that is given. */
static bool is_given(const sd_ctx *c, const sd_drawing *d) { return c->given.size && !d->before; }

bool sd_given_replays(const sd_ctx *c) { return c->given.answers > 0 && c->given.noise_pred[0]; }

const float *sd_given_latents(const sd_ctx *c, const sd_drawing *d, int i)
{
    return is_given(c, d) && c->given.latents && i <= c->given.answers ? c->given.latents[i] : NULL;
}

const float *sd_given_answer(const sd_ctx *c, const sd_drawing *d, int i)
{
    return is_given(c, d) && i < c->given.answers ? c->given.noise_pred[i] : NULL;
}

sd_status sd_drawing_check_given(sd_ctx *c, const sd_drawing *d)
{
    const sd_given *g = &c->given;
    size_t n = (size_t)d->B * d->n;
    int count = sd_sampler_count(d->sampler) + d->skipped;
    if (!is_given(c, d)) return SD_OK;
    if ((g->answers || g->latents) && g->count != n)
        return sd_fail(&c->err, SD_ERR_ARG, "what is given of a run must be %zu numbers each, not %zu", n, g->count);
    if (d->evaluations && g->answers > count)
        return sd_fail(&c->err, SD_ERR_ARG, "%d answers are given, and the run has %d evaluations", g->answers, count);
    for (int i = d->skipped; i < g->answers; i++)
        if (!g->noise_pred[i])
            return sd_fail(&c->err, SD_ERR_ARG, "the answer of evaluation %d is missing among %d", i, g->answers);
    for (int i = 0; i <= g->answers; i++) {
        char what[64];
        snprintf(what, sizeof what, "the answer of evaluation %d", i);
        if (i < g->answers && g->noise_pred[i] && sd_check_numbers(c, what, g->noise_pred[i], n)) return c->err.status;
        snprintf(what, sizeof what, "the latents before evaluation %d", i);
        if (g->latents && g->latents[i] && sd_check_numbers(c, what, g->latents[i], n)) return c->err.status;
    }
    return SD_OK;
}
