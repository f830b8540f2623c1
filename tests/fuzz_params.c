/* fuzz_params.c - the structs and lists that a program hands over: parameters of any numbers and texts, custom levels,
 * trace filters, texts. The model in weights/tiny is open without its weights; nothing is drawn, but everything is
 * checked, planned and told. */
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LEVELS = 40, MOST_TEXT = 200, MOST_LISTS = 4 };

/* What parameters point to. */
typedef struct pointed {
    double list[MOST_LISTS][MOST_LEVELS];
    int lists;
    sd_image init, mask;
} pointed;

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

static const char *sampler_name(int i)
{
    sd_sampler_info info;
    return sd_get_sampler(i, &info) ? info.name : NULL;
}

/* The i-th of words with blanks between them; NULL beyond the last. */
static const char *word(const char *words, int i, char room[64])
{
    for (; words && i > 0; i--) words = strchr(words, ' ') ? strchr(words, ' ') + 1 : NULL;
    return words ? strncat(strcpy(room, ""), words, strcspn(words, " ") % 64) : NULL;
}

/* A text: one that the parameter is meant to have, or any. Set by its key, it is copied. */
static void fill_text(sd_params *p, const sd_param_info *r, fuzz_bytes *b)
{
    char room[64], error[512];
    int n = fuzz_byte(b);
    const char *text = n >= 200 ? NULL : strcmp(r->key, "sampler") == 0 ? sampler_name(n)
                     : strcmp(r->key, "schedule") == 0 ? sd_schedule_name(n) : word(r->words, n % 8, room);
    if (!text) text = fuzz_text(b, MOST_TEXT);
    fuzz_demand(sd_params_set(p, r->key, text, error) == SD_OK);
}

/* Any text by its key: refused with a sentence, or what sd_params_get says is set again to the same. */
static void fill_by_key(sd_params *p, const sd_param_info *r, fuzz_bytes *b)
{
    char error[512], *was, *is;
    const char *text = fuzz_text(b, 64);
    sd_status status = sd_params_set(p, r->key, text, error);
    fuzz_demand_sentence(status, error);
    if (status) return;
    fuzz_demand(sd_params_get(p, r->key, &was, error) == SD_OK && sd_params_set(p, r->key, was, error) == SD_OK);
    fuzz_demand(sd_params_get(p, r->key, &is, error) == SD_OK);
    fuzz_demand(was ? is && strcmp(was, is) == 0 : !is);
    sd_free(was);
    sd_free(is);
}

/* A parameter's field, with whatever a caller may have written into it. */
static void fill_field(sd_params *p, const sd_param_info *r, fuzz_bytes *b, pointed *to)
{
    void *field = (char *)p + r->offset;
    int *margin = field;
    switch (r->type) {
    case SD_PARAM_TEXT: case SD_PARAM_FILE: fill_text(p, r, b); break;
    case SD_PARAM_INT: case SD_PARAM_BOOL: *(int *)field = (int)fuzz_int(b); break;
    case SD_PARAM_NUMBER: *(double *)field = fuzz_number(b); break;
    case SD_PARAM_SEED: *(uint64_t *)field = (uint64_t)fuzz_int(b); break;
    case SD_PARAM_PAIR: for (int i = 0; i < 2; i++) margin[i] = (int)fuzz_int(b); break;
    case SD_PARAM_MARGINS: for (int i = 0; i < 4; i++) margin[i] = (int)fuzz_int(b); break;
    case SD_PARAM_LIST:
        fuzz_demand(to->lists < MOST_LISTS);
        *(const double **)field = levels(b, to->list[to->lists++], (int *)(void *)((char *)p + r->count_offset));
        break;
    }
}

/* Each parameter of the table has its default, any field, or any text. */
static void fill(sd_params *p, fuzz_bytes *b, pointed *to)
{
    static uint8_t pixels[4 * 24 * 16];
    sd_param_info r;
    for (int i = 0; sd_get_param(i, &r); i++) {
        uint8_t how = fuzz_byte(b);
        if (how >= 224) fill_by_key(p, &r, b);
        else if (how >= 160) fill_field(p, &r, b, to);
    }
    uint8_t pictures = fuzz_byte(b);
    to->init = (sd_image){16, 24, 4, pixels};
    to->mask = (sd_image){24, 16, 1, pixels};
    if (pictures & 1) p->edit.init = &to->init;
    if (pictures & 2) p->edit.mask = &to->mask;
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
    pointed to = {.lists = 0};
    sd_ctx *c = opened();
    sd_params p, r;
    char *text = NULL;
    sd_tokens tokens;
    sd_params_init(&p);
    fill(&p, &b, &to);
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
    sd_params_free(&p);
    fuzz_free();
    return 0;
}
