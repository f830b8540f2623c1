/* fuzz_params.c - the structs and lists that a program hands over: parameters of any numbers and texts, custom levels,
 * trace filters, texts. The model in weights/tiny is open without its weights; nothing is drawn, but everything is
 * checked, planned and told. */
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LEVELS = 40, MOST_TEXT = 200 };

static sd_ctx *opened(void)
{
    static sd_ctx *c;   /* for all inputs */
    if (c) return c;
    sd_options o;
    char model[1024];
    sd_options_init(&o);
    fuzz_demand(sd_default_model(".", model, sizeof model));
    o.model = model;
    o.parts = SD_PART_SCHEDULE | SD_PART_TOKENIZER;
    o.threads = 1;
    fuzz_demand(sd_open(&c, &o) == SD_OK);
    return c;
}

static const double *levels(fuzz_bytes *b, double room[MOST_LEVELS], int *count)
{
    uint8_t n = fuzz_byte(b);
    if (n >= 200) *count = (int)fuzz_int(b);   /* with NULL: a count without a list */
    if (n >= 128) return NULL;
    *count = n % (MOST_LEVELS + 1);
    bool falls = n & 64;
    for (int i = 0; i < *count; i++) room[i] = falls ? (double)(*count - 1 - i) * 0.25 : fuzz_number(b);
    return room;
}

/* A name: one of those there are, or any text. */
static const char *name(fuzz_bytes *b, const char *(*listed)(int))
{
    uint8_t n = fuzz_byte(b);
    if (n < 64) return NULL;
    if (n < 200 && listed) return listed(n - 64);
    return fuzz_text(b, 64);
}

static const char *sampler_name(int i)
{
    sd_sampler_info info;
    return sd_get_sampler(i, &info) ? info.name : NULL;
}

static void fill(sd_params *p, fuzz_bytes *b, double sigmas[MOST_LEVELS], double timesteps[MOST_LEVELS])
{
    p->prompt = fuzz_text(b, MOST_TEXT);
    p->negative_prompt = fuzz_text(b, MOST_TEXT);
    p->sampling.sampler = name(b, sampler_name);
    p->sampling.schedule = name(b, sd_schedule_name);
    p->sampling.spacing = name(b, NULL);
    p->sampling.prediction = name(b, NULL);
    p->rng = name(b, NULL);
    p->sampler_rng = name(b, NULL);
    sd_sampling_params *m = &p->sampling;
    sd_edit_params *e = &p->edit;
    int *const ints[] = {&p->width, &p->height, &m->steps, &p->batch, &p->keep, &m->order, &p->clip_skip,
                         &m->steps_offset, &m->set_alpha_to_one, &m->clip_sample, &p->seed_per_image, &e->paste_back,
                         &e->inpaint_crop, &e->outpaint[0], &e->outpaint[3]};
    double *const numbers[] = {&p->guidance.scale, &m->s_churn, &m->s_tmin, &m->s_tmax, &m->s_noise,
                               &p->guidance.rescale, &m->eta, &e->strength, &e->mask_blur};
    for (uint8_t n = fuzz_byte(b) % 8; n > 0; n--) *ints[fuzz_byte(b) % SD_COUNT(ints)] = (int)fuzz_int(b);
    for (uint8_t n = fuzz_byte(b) % 8; n > 0; n--) *numbers[fuzz_byte(b) % SD_COUNT(numbers)] = fuzz_number(b);
    p->sampling.sigmas = levels(b, sigmas, &p->sampling.sigma_count);
    p->sampling.timesteps = levels(b, timesteps, &p->sampling.timestep_count);
}

static void schedule(sd_ctx *c, const sd_params *p)
{
    int n = 0;
    sd_status status = sd_schedule(c, p, &n, NULL, NULL, NULL);
    fuzz_demand_sentence(status, sd_error_text(c));
    if (status || n == 0) return;
    fuzz_demand(n > 0 && n < 100000);
    double *t = malloc((size_t)n * sizeof *t), *s = malloc((size_t)(n + 1) * sizeof *s),
        *a = malloc((size_t)(n + 1) * sizeof *a);
    fuzz_demand(t && s && a);
    status = sd_schedule(c, p, &n, t, s, a);
    fuzz_demand_sentence(status, sd_error_text(c));
    for (int i = 0; i < n && !status; i++)   /* the UNet is told a timestep, or EDM's ln(sigma) / 4 */
        fuzz_demand(!isnan(s[i]) && !isnan(a[i]) && t[i] < 1000.5 && (t[i] >= 0 || fabs(t[i] - log(s[i]) / 4) < 1e-6));
    free(t);
    free(s);
    free(a);
}

static void on_tensor(void *user, const sd_traced *t) { (void)user, (void)t; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fuzz_bytes b = {data, n};
    double sigmas[MOST_LEVELS], timesteps[MOST_LEVELS];
    sd_ctx *c = opened();
    sd_params p, r;
    char *text = NULL;
    sd_tokens tokens;
    sd_params_init(&p);
    fill(&p, &b, sigmas, timesteps);
    sd_status status = sd_resolve_params(c, &p, &r);
    fuzz_demand_sentence(status, sd_error_text(c));
    schedule(c, &p);
    status = sd_parameters_text(c, &p, &text);
    fuzz_demand_sentence(status, sd_error_text(c));
    sd_free(text);
    const char *words = fuzz_text(&b, MOST_TEXT), *filter = fuzz_text(&b, MOST_TEXT);
    status = sd_tokenize(c, words ? words : "", &tokens);
    fuzz_demand_sentence(status, sd_error_text(c));
    status = sd_set_trace(c, filter, on_tensor, NULL);
    fuzz_demand_sentence(status, sd_error_text(c));
    sd_set_trace(c, NULL, NULL, NULL);
    fuzz_free();
    return 0;
}
