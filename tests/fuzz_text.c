/* fuzz_text.c - pictures' texts: the chunks of a PNG, and what the text is understood to say. The first byte chooses:
 * even, a PNG; odd, a text. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../image.h"
#include "../text.h"

/* Every string and list of a recipe is read to its end. */
static size_t all_read(const sd_recipe *r)
{
    const char *const strings[] = {r->writer, r->model, r->model_hash, r->init_hash, r->mask_hash, r->noise_hash,
                                   r->rng_hash, r->sampler_rng_hash, r->kernels, r->notices};
    size_t n = 0;
    sd_param_info info;
    for (size_t i = 0; i < SD_COUNT(strings); i++) n += strings[i] ? strlen(strings[i]) : 0;
    for (int i = 0; sd_get_param(i, &info); i++) {
        char *text, error[512];
        fuzz_demand(sd_params_get(r->params, info.key, &text, error) == SD_OK);
        n += text ? strlen(text) : 0;
        sd_free(text);
    }
    return n;
}

static void read_recipe(const char *text)
{
    char error[512];
    sd_recipe *r;
    sd_status status = sd_recipe_read(text, &r, error);
    fuzz_demand_sentence(status, error);
    fuzz_demand((status == SD_OK) == (r != NULL));
    if (!r) return;
    volatile size_t n = all_read(r);
    (void)n;
    const sd_params *p = r->params;
    fuzz_demand(p->prompt && r->notices && p->keep >= 0 && p->keep <= (p->batch > 0 ? p->batch : 0));
    fuzz_demand(!p->edit.init_name || !strchr(p->edit.init_name, '/'));
    sd_recipe_free(r);
}

/* What is quoted is read back. */
static void quote(const char *text)
{
    sd_text t = {0};
    char *said;
    sd_text_quoted(&t, text);
    fuzz_demand(!t.failed && sd_text_unquote(t.s, &said) && strcmp(said, text) == 0);
    free(t.s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sd_error e = {.status = SD_OK};
    char *text = NULL;
    if (!n) return 0;
    if (data[0] % 2) {
        text = malloc(n);
        fuzz_demand(text != NULL);
        memcpy(text, data + 1, n - 1);
        text[n - 1] = 0;
        quote(text);
    } else {
        sd_status status = sd_image_text_memory(&text, data + 1, n - 1, "the input", &e);
        fuzz_demand_sentence(status, e.text);
        fuzz_demand((status == SD_OK) == (text != NULL));
        fuzz_demand(!text || sd_is_utf8(text, strlen(text)));
    }
    if (text) read_recipe(text);
    free(text);
    return 0;
}
