/* cond.c - floor 6: the UNet's inputs besides latents and timesteps, made: tokens, text encoders, numbers [diffusers
 * StableDiffusionPipeline.encode_prompt]. */
#include "cond.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------- tokens */

/* A text encoder's own tokenizer, or the model's only one. */
static const sd_tokenizer *tokenizer_of(const sd_model *m, int i)
{
    const sd_module *module = sd_model_module(m, SD_PART_TOKENIZER, i);
    return module ? module->net : m->tokenizer;
}

static void warn(const sd_ctx *c, const char *what, const char *text, const sd_tokens *t)
{
    sd_warn_of_syntax(&c->log, what, text);
    if (t->dropped)
        sd_logf(&c->log, SD_LOG_WARNING, "%s is too long: its last %d tokens are dropped (%d fit)", what, t->dropped,
                SD_TOKENS - 2);
}

/* ids [n,77] of text encoder i. */
static sd_status tokenize(sd_ctx *c, int i, const char *const *text, const char *const *what, int n, int32_t *ids)
{
    for (int k = 0; k < n; k++) {
        sd_tokens t;
        if (sd_tokenizer_encode(tokenizer_of(&c->model, i), text[k], &t, &c->err)) return c->err.status;
        if (i == 0 && what) warn(c, what[k], text[k], &t);
        memcpy(ids + k * SD_TOKENS, t.id, sizeof t.id);
    }
    return SD_OK;
}

static void trace_tokens(sd_ctx *c, int i, const int32_t *ids, int n)
{
    int64_t *wide = malloc((size_t)(n * SD_TOKENS) * sizeof *wide);
    for (int k = 0; k < n * SD_TOKENS && wide; k++) wide[k] = ids[k];
    if (!wide) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for tokens");
    const int64_t dim[] = {n, SD_TOKENS};
    if (i == 0) sd_trace_readonly(&c->run, SD_I64, 2, dim, wide, "tokens");
    else sd_trace_readonly(&c->run, SD_I64, 2, dim, wide, "tokens_%d", i + 1);
    free(wide);
}

/* ------------------------------------------------------------------------------------ text encoders */

/* Puts one encoder's columns [rows,part_width] into the context [rows,width], at column `at`. */
static void put_columns(float *context, size_t width, size_t at, const float *part, size_t part_width, size_t rows)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(context + r * width + at, part + r * part_width, part_width * sizeof *part);
}

/* Texts, or their ids, and what becomes of them. */
typedef struct encoding {
    const char *const *text, *const *what;
    const int32_t *const *tokens;   /* of each encoder, [n,77]; NULL, or entries that are: those of the texts */
    int n, clip_skip;
    bool traced;
    float *context, *pooled;        /* [n,77,width], [n,pooled width]; pooled may be NULL if the plan has none */
    int32_t *const *made;           /* gets the ids of each encoder; NULL, or entries that are: nothing */
} encoding;

/* Are all n 77 ids in the encoder's vocabulary? */
static sd_status check_ids(sd_ctx *c, const sd_clip *net, int n, const int32_t *ids)
{
    for (int i = 0; i < n * SD_TOKENS; i++)
        if (ids[i] < 0 || ids[i] >= net->cfg.vocab)
            return sd_fail(&c->err, SD_ERR_ARG, "token %d of text %d must be 0 to %d, not %d", i % SD_TOKENS,
                           i / SD_TOKENS + 1, net->cfg.vocab - 1, (int)ids[i]);
    return SD_OK;
}

static sd_status ids_of(sd_ctx *c, const encoding *j, int i, int32_t *ids)
{
    size_t bytes = (size_t)j->n * SD_TOKENS * sizeof *ids;
    const int32_t *given = j->tokens ? j->tokens[i] : NULL;
    if (given && !check_ids(c, sd_cond_encoder(&c->model, i), j->n, given)) memcpy(ids, given, bytes);
    if (!given && !sd_need(c, SD_PART_TOKENIZER)) tokenize(c, i, j->text, j->what, j->n, ids);
    if (c->err.status) return c->err.status;
    if (j->made && j->made[i]) memcpy(j->made[i], ids, bytes);
    if (j->traced) trace_tokens(c, i, ids, j->n);
    return c->err.status;
}

static sd_status encode(sd_ctx *c, const sd_cond_plan *plan, const encoding *j)
{
    const int n = j->n, clip_skip = j->clip_skip;
    size_t width = (size_t)sd_cond_width(&c->model, plan), rows = (size_t)n * SD_TOKENS, at = 0;
    int32_t *ids = malloc(rows * sizeof *ids);
    float *part = calloc(rows * width, sizeof *part);
    if (!ids || !part) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d texts", n);
    for (int i = 0; i < plan->encoders && !c->err.status; i++) {
        const sd_clip *net = sd_cond_encoder(&c->model, i);
        sd_clip_output take = plan->text[i];
        if (!net) {
            sd_fail(&c->err, SD_ERR_MISSING, "the model has no text encoder %d", i + 1);
            break;
        }
        if (clip_skip < 0 || clip_skip > net->cfg.layers - take.from_end) {
            sd_fail(&c->err, SD_ERR_ARG, "clip skip must be 0 to %d, the layers of the text encoder, not %d",
                    net->cfg.layers - take.from_end, clip_skip);
            break;
        }
        take.from_end += clip_skip > 1 ? clip_skip - 1 : 0;
        if (ids_of(c, j, i, ids) || sd_run_text(c, i, ids, n, &take, part, j->pooled)) break;
        put_columns(j->context, width, at, part, (size_t)net->cfg.width, rows);
        at += (size_t)net->cfg.width;
    }
    free(ids);
    free(part);
    return c->err.status;
}

/* The first text, if it is NULL, is zeros, or "". */
static bool begins_with_zeros(const sd_ctx *c, const sd_text_batch *t)
{
    return !t->text[0] && c->model.zeros_for_no_negative;
}

static void trace_embeds(sd_ctx *c, int n, int width, float *context, int pooled_width, float *pooled)
{
    sd_trace_numbers(&c->run, 3, (const int64_t[]){n, SD_TOKENS, width}, context, "prompt_embeds");
    if (pooled_width) sd_trace_numbers(&c->run, 2, (const int64_t[]){n, pooled_width}, pooled, "pooled_prompt_embeds");
}

static sd_status encode_texts(sd_ctx *c, sd_text_batch *t, bool traced)
{
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    const size_t one = SD_TOKENS * (size_t)sd_cond_width(&c->model, plan), n = (size_t)t->n;
    const size_t more = (size_t)sd_cond_pooled_width(&c->model, plan);
    const char *text[1024];
    if (t->prompt_embeds_count != n * one)
        return sd_fail(&c->err, SD_ERR_ARG, "the text embedding must have %zu numbers, not %zu", n * one,
                       t->prompt_embeds_count);
    if (t->pooled_prompt_embeds && t->pooled_prompt_embeds_count != n * more)
        return sd_fail(&c->err, SD_ERR_ARG, "the pooled text embedding must have %zu numbers, not %zu", n * more,
                       t->pooled_prompt_embeds_count);
    size_t zeros = begins_with_zeros(c, t);
    float *own = more && !t->pooled_prompt_embeds ? malloc(n * more * sizeof *own) : NULL;
    float *pooled = own ? own : t->pooled_prompt_embeds;
    if (more && !pooled) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %zu texts", n);
    for (size_t i = 0; i < n; i++) text[i] = t->text[i] ? t->text[i] : "";
    memset(t->prompt_embeds, 0, zeros * one * sizeof(float));
    if (more) memset(pooled, 0, zeros * more * sizeof(float));
    t->told = t->n - (int)zeros;
    const encoding j = {.text = text + zeros, .tokens = t->tokens, .n = t->told, .clip_skip = t->clip_skip,
                        .traced = traced, .context = t->prompt_embeds + zeros * one,
                        .pooled = more ? pooled + zeros * more : NULL, .made = t->ids};
    if (t->told && !encode(c, plan, &j) && traced)
        trace_embeds(c, t->n, (int)(one / SD_TOKENS), t->prompt_embeds, (int)more, pooled);
    free(own);
    return c->err.status;
}

sd_status sd_encode_texts(sd_ctx *c, sd_text_batch *t)
{
    if (sd_begin(c) || sd_need(c, SD_PART_TEXT) || sd_check_not_null(c, "texts", t)) return sd_end(c);
    if (t->size != sizeof *t)
        sd_fail(&c->err, SD_ERR_ARG, "texts has a size of %zu bytes, not %zu: set it to sizeof(sd_text_batch)", t->size,
                sizeof *t);
    else if (t->n < 1 || t->n > 1024)
        sd_fail(&c->err, SD_ERR_ARG, "1 to 1024 texts can be encoded at once, not %d", t->n);
    else if (!sd_check_not_null(c, "text", t->text) && !sd_check_not_null(c, "prompt_embeds", t->prompt_embeds))
        encode_texts(c, t, true);
    return sd_end(c);
}

static sd_status encode_text(sd_ctx *c, const char *text, int clip_skip, float *context, size_t count, float *pooled,
                             size_t pooled_count)
{
    const char *const one[] = {text ? text : ""};
    sd_text_batch t = {.n = 1, .text = one, .clip_skip = clip_skip, .prompt_embeds = context,
                       .prompt_embeds_count = count,
                  .pooled_prompt_embeds = pooled, .pooled_prompt_embeds_count = pooled_count};
    return encode_texts(c, &t, false);
}

sd_status sd_encode_text(sd_ctx *c, const char *text, int clip_skip, float *out, size_t count)
{
    if (!sd_begin(c) && !sd_need(c, SD_PART_TOKENIZER | SD_PART_TEXT) && !sd_check_not_null(c, "out", out))
        encode_text(c, text, clip_skip, out, count, NULL, 0);
    return sd_end(c);
}

sd_status sd_encode_text_pooled(sd_ctx *c, const char *text, int clip_skip, float *out, size_t count, float *pooled,
                                size_t pooled_count)
{
    if (!sd_begin(c) && !sd_need(c, SD_PART_TOKENIZER | SD_PART_TEXT) && !sd_check_not_null(c, "out", out)
        && !sd_check_not_null(c, "pooled", pooled))
        encode_text(c, text, clip_skip, out, count, pooled, pooled_count);
    return sd_end(c);
}

/* ------------------------------------------------------------------------------------- all of it */

/* Rows [n,size] -> [n,repeat,size], from the back: [u c] -> [u u .. c c ..]. */
static void repeat_rows(float *x, size_t n, size_t repeat, size_t size)
{
    for (size_t i = n; i-- > 0;)
        for (size_t k = repeat; k-- > 0;) memmove(x + (i * repeat + k) * size, x + i * size, size * sizeof *x);
}

/* The guidance scale as a UNet is told it: [sin(u f_i) | cos(u f_i)], u = 1000 (scale - 1), f_i = 10000^(-i/(n/2 - 1))
 * [Luo et al. 2023; LatentConsistencyModelPipeline.get_guidance_scale_embedding]. */
static void embed_guidance(float *e, int n, double scale)
{
    int half = n / 2;
    for (int i = 0; i < half; i++) {
        double angle = 1000 * (scale - 1) * exp(-log(10000.0) / (half - 1) * i);
        e[i] = (float)sin(angle);
        e[half + i] = (float)cos(angle);
    }
}

sd_status sd_prompts_encode(sd_ctx *c, sd_prompts *out, const sd_cond_plan *plan, const sd_prompts_in *in)
{
    const int width = sd_cond_width(&c->model, plan), pooled = sd_cond_pooled_width(&c->model, plan);
    const int zeros = in->text[0] == NULL, told = in->n - zeros, repeat = in->repeat, total = in->n * repeat;
    size_t all = (size_t)total, one = SD_TOKENS * (size_t)width, ids = (size_t)plan->n_ids;
    size_t told_scale = (size_t)c->model.unet->cfg.time_cond_dim;
    bool labelled = c->model.unet->cfg.class_embeds > 0;
    out->context = calloc(all * one, sizeof(float));
    out->pooled = pooled ? calloc(all * (size_t)pooled, sizeof(float)) : NULL;
    out->ids = ids ? calloc(all * ids, sizeof(float)) : NULL;
    out->time_cond = told_scale ? calloc(all * told_scale, sizeof(float)) : NULL;
    out->labels = labelled ? calloc(all, sizeof *out->labels) : NULL;
    if (!out->context || (pooled && !out->pooled) || (ids && !out->ids) || (told_scale && !out->time_cond)
        || (labelled && !out->labels))
        return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d prompts", in->n);
    const char *const *what = in->what ? in->what + zeros : NULL;
    const encoding j = {.text = in->text + zeros, .what = what, .tokens = in->tokens, .n = told,
                        .clip_skip = in->clip_skip, .traced = true, .context = out->context + (size_t)zeros * one,
                        .pooled = pooled ? out->pooled + zeros * pooled : NULL};
    if (in->context) {
        memcpy(out->context, in->context, (size_t)in->rows * one * sizeof(float));
        if (pooled) memcpy(out->pooled, in->pooled, (size_t)in->rows * (size_t)pooled * sizeof(float));
    } else if (encode(c, plan, &j)) return c->err.status;
    bool once = !in->context || in->rows == in->n;
    if (once) repeat_rows(out->context, (size_t)in->n, (size_t)repeat, one);
    if (once && pooled) repeat_rows(out->pooled, (size_t)in->n, (size_t)repeat, (size_t)pooled);
    for (int i = 0; i < total && ids; i++)
        memcpy(out->ids + (size_t)i * ids, in->ids[i / repeat], ids * sizeof(float));
    for (size_t i = 0; i < all && told_scale; i++)
        embed_guidance(out->time_cond + i * told_scale, (int)told_scale, in->guidance);
    for (size_t i = 0; i < all && labelled; i++) out->labels[i] = in->label;
    trace_embeds(c, total, width, out->context, pooled, out->pooled);
    if (ids) sd_trace_numbers(&c->run, 2, (const int64_t[]){total, plan->n_ids}, out->ids, "add_time_ids");
    if (told_scale)
        sd_trace_numbers(&c->run, 2, (const int64_t[]){total, (int64_t)told_scale}, out->time_cond, "timestep_cond");
    /* One version is enough: the numbers do not change during a run, and at its end the run forgets what was computed
     * from them. */
    out->cond = (sd_cond){.n = total, .tokens = SD_TOKENS, .width = width, .context = out->context,
                          .pooled_width = pooled, .pooled = out->pooled, .n_ids = plan->n_ids, .ids = out->ids,
                          .labels = out->labels, .time_cond = out->time_cond, .version = 1};
    return c->err.status;
}

void sd_prompts_free(sd_prompts *p)
{
    free(p->context);
    free(p->pooled);
    free(p->ids);
    free(p->time_cond);
    free(p->labels);
    *p = (sd_prompts){0};
}
