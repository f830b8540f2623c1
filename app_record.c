/* app_record.c - floor 7: the beginning of a run in a file, with which sd step and drawing go on. */
#include "app_stages.h"
#include "os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void record_free(record *r)
{
    for (int i = 0; r && i < r->n + 2; i++) {
        if (r->noise_pred) sd_free(r->noise_pred[i]);
        if (r->latents && r->latents[i] != r->last.data) sd_free(r->latents[i]);
    }
    if (!r) return;
    numbers_free(&r->last);
    free(r->noise_pred);
    free(r->latents);
    free(r);
}

/* One tensor of the record, as large as the latents; *x stays NULL if the file has none. */
static int find_one(const settings *s, const char *file, record *r, const char *format, int i, float **x)
{
    char name[64];
    numbers t = {0};
    snprintf(name, sizeof name, format, i);
    int code = find_numbers(s, file, name, &t);
    if (code || !t.data) return code;
    if (numbers_count(&t) == numbers_count(&r->last)) {
        *x = t.data;
        return CLI_OK;
    }
    code = cli_error(CLI_USAGE, "%s: %s has %zu numbers, and the latents before evaluation %d have %zu", file, name,
                     numbers_count(&t), r->n, numbers_count(&r->last));
    numbers_free(&t);
    return code;
}

int read_record(const settings *s, const char *file, int n, record **out)
{
    char name[32];
    snprintf(name, sizeof name, "latents.%d", n);
    const char *const names[] = {name, "latents", NULL};
    record *r = *out = calloc(1, sizeof *r);
    if (!r) return no_memory();
    r->noise_pred = calloc((size_t)n + 2, sizeof *r->noise_pred);
    r->latents = calloc((size_t)n + 2, sizeof *r->latents);
    r->first = r->n = n;
    if (!r->noise_pred || !r->latents) return no_memory();
    int code = read_numbers(s, file, names, &r->last);
    if (!code) code = expect_shape(file, "the latents", &r->last, 4, (const int64_t[]){0, 0, 0, 0});
    r->latents[n] = r->last.data;
    while (!code && r->first > 0) {
        code = find_one(s, file, r, "step.%d.noise_pred", r->first - 1, &r->noise_pred[r->first - 1]);
        if (code || !r->noise_pred[r->first - 1]) break;
        r->first--;
    }
    for (int i = r->first; i < n && !code; i++) code = find_one(s, file, r, "latents.%d", i, &r->latents[i]);
    if (!code && r->first && !r->latents[r->first])   /* where it began is not known: from here on, then */
        for (; r->first < n; r->first++) {
            sd_free(r->noise_pred[r->first]);
            r->noise_pred[r->first] = NULL;
        }
    return code;
}

void say_begins_anew(const settings *s, const char *file, int n)
{
    sd_params all;
    sd_sampler_info about;
    sd_params_init(&all);
    if (s->quiet || sd_resolve_params(context, &s->p, &all)) return;
    for (int i = 0; sd_get_sampler(i, &about); i++)
        if (strcmp(about.name, all.sampling.sampler) == 0 && about.order < 2 && about.draws == SD_DRAWS_NEVER) return;
    fprintf(stderr, "sd: %s has not all answers before evaluation %d: %s begins there anew\n", file, n,
            all.sampling.sampler);
}

int say_other_settings(const settings *s, const char *file, const char *but)
{
    char *text = NULL;
    sd_params p = s->p;
    p.seed = s->seed.value;
    if (s->quiet || sd_os_look(file, NULL) == SD_OS_NOTHING) return CLI_OK;   /* FILE:NAME, a tensor alone */
    sd_status status = sd_settings_differ(context, &p, file, but, &text);
    if (text) fprintf(stderr, "sd: %s is of a run with other settings: %s\n", file, text);
    sd_free(text);
    return status ? report(s, status) : CLI_OK;
}

int go_on(const settings *s, int n, const given_inputs *given, record **r)
{
    int code = read_record(s, s->latents, n, r);
    if (!code) code = say_other_settings(s, s->latents, s->seed.given ? NULL : "seed");   /* else random */
    if (code) return code;
    if ((*r)->first == 0) return set_given(s, given, *r, NULL);
    say_begins_anew(s, s->latents, n);
    return CLI_OK;
}
