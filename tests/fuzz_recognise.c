/* fuzz_recognise.c - what a file is said to be. A line is a tensor, its name and its sides ("conv_in.weight 8,4,3,3");
 * or "=", a key and a value of the header. Whatever there is, there is a verdict. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../recognise.h"

static const float number[4096];

/* Sides as readers of files let them through: their product fits. */
static void read_sides(sd_entry *t, const char *at)
{
    int64_t n = 1;
    for (char *end; t->nd < 8; at = end + 1) {
        long long side = strtoll(at, &end, 10);
        if (end == at || side < 0 || side > ((int64_t)1 << 60) / (n ? n : 1)) return;
        t->dim[t->nd++] = side;
        n *= side;
        if (*end != ',') return;
    }
}

static void read_line(sd_weight_file *f, char *line)
{
    sd_error e = {0};
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    if (*line == '=') {
        sd_weight_file_add_meta(f, line + 1, rest ? rest : "", &e);
        return;
    }
    sd_entry *t = sd_weight_file_add(f, line, &e);
    if (!t) return;
    t->dt = SD_F32;
    if (rest) read_sides(t, rest);
    int64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i] > 4096 || n > 4096 ? 4097 : t->dim[i];
    if (n <= 4096) t->data = number;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_entry *)a)->name, ((const sd_entry *)b)->name);
}

/* No reader lets a name through twice. */
static bool names_are_apart(const sd_weight_file *f)
{
    for (size_t i = 1; i < f->n; i++)
        if (strcmp(f->entry[i - 1].name, f->entry[i].name) == 0) return false;
    return true;
}

static void check(const sd_recognised *r, const sd_store *s)
{
    size_t n = r->n_leftover;
    for (int i = 0; i < r->n_networks; i++) n += r->network[i].all.tensors;
    for (int i = 0; i < r->n_skipped; i++) n += r->skipped[i].tensors;
    fuzz_demand(r->kind_name && n <= sd_store_count(s) && r->why.n > 0);
    for (int i = 0; i < r->n_networks; i++) {
        sd_unet_net unet;
        sd_error e = {0};
        sd_error_clear(&e);
        const sd_network *x = &r->network[i];
        if (x->part != SD_PART_UNET || !x->has_config) continue;
        fuzz_demand_sentence(sd_unet_walk(&unet, &x->unet, &e), e.text);
        sd_unet_free(&unet);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sd_weight_file f = {0};
    sd_store s = {.file = &f, .n_files = 1};
    sd_recognised r;
    sd_error e = {0};
    char *text = malloc(n + 1);
    if (!text) return 0;
    memcpy(text, data, n);
    text[n] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) read_line(&f, line);
    if (f.n) qsort(f.entry, f.n, sizeof *f.entry, by_name);
    if (names_are_apart(&f)) {
        fuzz_demand(sd_recognise(&s, &r, &e) == SD_OK);
        check(&r, &s);
        sd_recognised_free(&r);
    }
    sd_weight_file_close(&f);
    free(text);
    return 0;
}
