/* app_given.c - floor 7: inputs of a run out of files: ids, embeddings and timesteps in the place of its own. */
#include "app_stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct given_inputs {
    sd_given g;             /* points to what follows */
    int32_t *tokens[2];
    numbers embeds, pooled, timesteps;
};

void given_free(given_inputs *x)
{
    if (!x) return;
    free(x->tokens[0]);
    free(x->tokens[1]);
    numbers_free(&x->embeds);
    numbers_free(&x->pooled);
    numbers_free(&x->timesteps);
    free(x);
}

static int to_ids(const char *file, const numbers *t, int32_t **ids)
{
    size_t n = numbers_count(t);
    *ids = malloc((n + 1) * sizeof **ids);
    if (!*ids) return no_memory();
    for (size_t k = 0; k < n; k++) {
        float x = t->data[k];
        (*ids)[k] = x >= 0 && x <= 1e6F ? (int32_t)x : -1;
        if ((float)(*ids)[k] != x)
            return cli_error(CLI_USAGE, "%s: token %zu is %g, which is no id", file, k + 1, (double)x);
    }
    return CLI_OK;
}

int read_tokens(const settings *s, int encoders, int32_t *ids[2], int *rows)
{
    static const char *const first[] = {"tokens", NULL};
    const char *file = s->tokens_in;
    int code = CLI_OK;
    for (int i = 0; i < encoders && !code; i++) {
        numbers t = {0};
        code = i ? find_numbers(s, file, "tokens_2", &t) : read_numbers(s, file, first, &t);
        if (!code && !t.data)
            code = cli_error(CLI_USAGE, "%s has no tensor \"tokens_2\", the ids for the model's second text encoder",
                             file);
        if (!code)
            code = expect_shape(file, i ? "tokens_2" : "tokens", &t, 2, (const int64_t[]){i ? *rows : 0, SD_TOKENS});
        if (!code && t.dim[0] > MOST_TEXTS)
            code = cli_error(CLI_USAGE, "%s has more than %d texts", file, MOST_TEXTS);
        if (!code) code = to_ids(file, &t, &ids[i]);
        *rows = (int)t.dim[0];
        numbers_free(&t);
    }
    return code;
}

static int read_embeds(const settings *s, const sd_model_info *info, given_inputs *x)
{
    static const char *const names[] = {"prompt_embeds", NULL};
    const char *file = s->embeds;
    int code = read_numbers(s, file, names, &x->embeds);
    if (!code)
        code = expect_shape(file, "the embeddings", &x->embeds, 3, (const int64_t[]){0, SD_TOKENS, info->context_dim});
    if (code || !info->pooled_dim) return code;
    code = find_numbers(s, file, "pooled_prompt_embeds", &x->pooled);
    if (!code && !x->pooled.data)
        code = cli_error(CLI_USAGE, "%s has no tensor \"pooled_prompt_embeds\", which this model's UNet takes too",
                         file);
    return code ? code : expect_shape(file, "the pooled embeddings", &x->pooled, 2,
                                      (const int64_t[]){x->embeds.dim[0], info->pooled_dim});
}

/* A trace has a tensor for each evaluation, timestep.0 and so on; one of the end of a run has the last of these. */
static int gather_timesteps(const settings *s, numbers *all)
{
    int code = CLI_OK, n = 0, first = s->p.sampling.from_step > 0 ? s->p.sampling.from_step : 0;
    for (int i = 0, more = 1; more && !code; i++) {
        char name[32];
        numbers one = {0};
        snprintf(name, sizeof name, "timestep.%d", i);
        code = find_numbers(s, s->timestep, name, &one);
        more = one.data != NULL || i < first;
        float *list = code || !more ? NULL : realloc(all->data, (size_t)(i + 1) * sizeof *list);
        if (list) {
            all->data = list;
            list[i] = one.data ? *one.data : 0;   /* before the beginning: nobody asks for it */
            n += one.data != NULL;
            all->dim[0] = i + 1;
        } else if (!code && more) code = no_memory();
        numbers_free(&one);
    }
    if (n) return code;
    numbers_free(all);
    return code;
}

static int read_timesteps(const settings *s, numbers *t)
{
    static const char *const names[] = {"timesteps", NULL};
    *t = (numbers){NULL, 1, {0, 1, 1, 1}};
    int code = gather_timesteps(s, t);
    if (!code && !t->data) code = read_numbers(s, s->timestep, names, t);
    if (!code && t->nd > 1) code = expect_shape(s->timestep, "the timesteps", t, 1, (const int64_t[]){0});
    return code;
}

int read_given(const settings *s, given_inputs **out)
{
    sd_model_info info = {0};
    if (!s->tokens_in && !s->embeds && !s->timestep) return CLI_OK;
    if (s->tokens_in && s->embeds)
        return cli_error(CLI_USAGE, "--tokens-in and --embeds-in are the same input before and behind the text "
                         "encoder: give one of them");
    given_inputs *x = *out = calloc(1, sizeof *x);
    if (!x) return no_memory();
    sd_get_info(context, &info);
    int code = s->tokens_in ? read_tokens(s, info.text_encoders, x->tokens, &x->g.token_rows) : CLI_OK;
    if (!code && s->embeds) code = read_embeds(s, &info, x);
    if (!code && s->timestep) code = read_timesteps(s, &x->timesteps);
    for (int i = 0; i < 2; i++) x->g.tokens[i] = x->tokens[i];
    x->g.size = sizeof x->g;
    x->g.prompt_embeds = x->embeds.data;
    x->g.pooled_prompt_embeds = x->pooled.data;
    x->g.embed_rows = (int)x->embeds.dim[0];
    x->g.timestep = x->timesteps.data;
    x->g.timesteps = x->timesteps.data ? (int)numbers_count(&x->timesteps) : 0;
    return code;
}

int set_given(const settings *s, const given_inputs *x, record *r, float *answer)
{
    sd_given g = {.size = sizeof g};
    if (x) g = x->g;
    if (r) {
        r->noise_pred[r->n] = answer;
        g.answers = r->n + (answer != NULL);
        g.latents = (const float *const *)r->latents;
        g.noise_pred = (const float *const *)r->noise_pred;
        g.count = numbers_count(&r->last);
    }
    sd_status status = sd_set_given(context, &g);
    return status ? report(s, status) : CLI_OK;
}
