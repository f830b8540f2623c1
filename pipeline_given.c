/* pipeline_given.c - floor 6: runs of which another program has computed a part: its inputs, its answers in the place
 * of the UNet's, its latents in the place of the sampler's. */
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

sd_status sd_set_given(sd_ctx *c, const sd_given *given)
{
    sd_given g = {.size = 0};
    if (sd_begin(c)) return sd_end(c);
    bool sized = given && given->size >= offsetof(sd_given, tokens) && given->size <= sizeof g;
    if (sized) memcpy(&g, given, given->size);
    c->given = g;
    if (given && (!sized || g.answers < 0 || (g.answers && !g.noise_pred))) {
        c->given = (sd_given){.size = 0};
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

const float *sd_given_timestep(const sd_ctx *c, const sd_drawing *d, int i)
{
    return is_given(c, d) && c->given.timestep && i < c->given.timesteps ? &c->given.timestep[i] : NULL;
}

void sd_given_prompts(const sd_ctx *c, const sd_drawing *d, sd_prompts_in *in, const char **text)
{
    const sd_given *g = &c->given;
    if (!is_given(c, d)) return;
    for (int i = 0; i < SD_MOST_TEXT_ENCODERS; i++) in->tokens[i] = g->tokens[i];
    if (g->tokens[0] && g->token_rows == in->n && !text[0]) text[0] = "";   /* else zeros would stand for it */
    in->context = g->prompt_embeds;
    in->pooled = g->pooled_prompt_embeds;
    in->rows = g->embed_rows;
}

const char *sd_given_names(const sd_ctx *c, char text[64])
{
    const sd_given *g = &c->given;
    const struct { const char *name; bool there; } of[] = {
        {"tokens", g->tokens[0]}, {"prompt_embeds", g->prompt_embeds}, {"timesteps", g->timestep}};
    size_t used = 0;
    *text = 0;
    for (size_t i = 0; i < SD_COUNT(of); i++)
        if (of[i].there) used += (size_t)snprintf(text + used, 64 - used, "%s%s", used ? "," : "", of[i].name);
    return text;
}

/* ------------------------------------------------------------------------------------ does it fit this run? */

/* Ids for all text encoders, in the number of texts that they get. */
static sd_status check_tokens(sd_ctx *c, const sd_drawing *d)
{
    const sd_given *g = &c->given;
    int encoders = sd_cond_plan_of(&c->model)->encoders;
    bool zeros = !d->passes->pass[0].prompt && !d->p.negative_prompt;
    for (int i = 0; i < SD_MOST_TEXT_ENCODERS; i++)
        if ((i < encoders) != (g->tokens[i] != NULL))
            return sd_fail(&c->err, SD_ERR_ARG, i < encoders ? "ids are given, but not those of text encoder %d"
                           : "ids of text encoder %d are given, which this model has not", i + 1);
    if (g->token_rows == d->G || (zeros && g->token_rows == d->G - 1)) return SD_OK;
    return sd_fail(&c->err, SD_ERR_ARG, "ids of %d texts are given, and this run has %d%s", g->token_rows, d->G,
                   d->G == 2 ? ": the negative prompt and the prompt" : d->G == 1 ? ": the prompt" : "");
}

static sd_status check_embeds(sd_ctx *c, const sd_drawing *d)
{
    const sd_given *g = &c->given;
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    size_t width = (size_t)sd_cond_width(&c->model, plan), pooled = (size_t)sd_cond_pooled_width(&c->model, plan);
    if (g->embed_rows != d->G && g->embed_rows != d->G * d->B)
        return sd_fail(&c->err, SD_ERR_ARG, "%d rows of embeddings are given, and this run needs %d%s", g->embed_rows,
                       d->G, d->B > 1 ? ", or one for each picture of each" : "");
    if (!pooled != !g->pooled_prompt_embeds)
        return sd_fail(&c->err, SD_ERR_ARG, pooled ? "embeddings are given, but not the pooled ones"
                       : "pooled embeddings are given, which this UNet does not take");
    size_t n = (size_t)g->embed_rows;
    if (!sd_check_numbers(c, "the embeddings", g->prompt_embeds, n * SD_TOKENS * width) && pooled)
        sd_check_numbers(c, "the pooled embeddings", g->pooled_prompt_embeds, n * pooled);
    return c->err.status;
}

static sd_status check_timesteps(sd_ctx *c, const sd_drawing *d)
{
    const sd_given *g = &c->given;
    int count = sd_sampler_count(d->sampler) + d->skipped;
    if (!d->evaluations)
        return sd_fail(&c->err, SD_ERR_ARG, "timesteps are given, and %s decides while it runs how many there are",
                       sd_method_name(d->levels.method));
    if (g->timesteps != count)
        return sd_fail(&c->err, SD_ERR_ARG, "%d timesteps are given, and the run has %d evaluations", g->timesteps,
                       count);
    return sd_check_timesteps(c, g->timestep, (size_t)count);
}

static sd_status check_inputs(sd_ctx *c, const sd_drawing *d)
{
    const sd_given *g = &c->given;
    bool tokens = g->tokens[0] || g->tokens[1];
    if (d->followed && (tokens || g->prompt_embeds || g->timestep))
        return sd_fail(&c->err, SD_ERR_ARG, "ids, embeddings and timesteps can be given to one model, and a refiner "
                       "goes on in this run");
    if (tokens && g->prompt_embeds)
        return sd_fail(&c->err, SD_ERR_ARG, "ids are given, and the embeddings that would be made of them: give one of "
                       "the two");
    if ((tokens && check_tokens(c, d)) || (g->prompt_embeds && check_embeds(c, d))) return c->err.status;
    return g->timestep ? check_timesteps(c, d) : SD_OK;
}

sd_status sd_drawing_check_given(sd_ctx *c, const sd_drawing *d)
{
    const sd_given *g = &c->given;
    size_t n = (size_t)d->B * d->n;
    int count = sd_sampler_count(d->sampler) + d->skipped;
    if (!is_given(c, d)) return SD_OK;
    if (check_inputs(c, d)) return c->err.status;
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
