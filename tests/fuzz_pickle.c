/* fuzz_pickle.c - any bytes as a pickle (first byte 0), as a file of torch.save (1), and as the data.pkl of one, with
 * storages beside it (2): read, every value and every number of every tensor looked at. */
#include "fuzz_weights.h"

#include <stdlib.h>
#include <string.h>

#include "../weights_pickle.h"

static unsigned sum;   /* of all bytes, so that they are read */

static void see_value(const sd_pickle *p, sd_pickled v)
{
    char name[64];
    size_t n = 0, count = 0;
    sd_pickled item;
    const char *s = sd_pickle_text(p, v, &n);
    for (size_t i = 0; s && i < n; i++) sum += (unsigned char)s[i];
    sd_pickle_items at = sd_pickle_begin(p, v);
    for (; sd_pickle_next(&at, &item); count++) fuzz_demand(item < p->n);
    fuzz_demand(count == sd_pickle_count(p, v));
    fuzz_demand(sd_pickle_args(p, v) < p->n && sd_pickle_state(p, v) < p->n && sd_pickle_pairs(p, v) < p->n);
    sd_pickle_name(p, v, name, sizeof name);
    if (sd_pickle_kind(p, v) == SD_PICKLED_GLOBAL) fuzz_demand(sd_pickle_global(p, v)->kind != SD_GLOBAL_REFUSED);
}

static void raw_pickle(const uint8_t *data, size_t n)
{
    sd_pickle p;
    sd_error e = {0};
    sd_status status = sd_pickle_read(&p, data, n, 0, "x.pt", &e);
    fuzz_demand_sentence(status, e.text);
    fuzz_demand(status == SD_OK || !p.value);
    fuzz_demand(p.n * sizeof *p.value + p.n_words * 4 <= SD_PICKLE_GROWTH * n + (64 << 10) + 64);
    for (size_t v = 0; v < p.n; v++) see_value(&p, (sd_pickled)v);
    sd_pickle_free(&p);
}

static unsigned sum_of(const sd_weight_file *f)
{
    unsigned all = 0;
    for (size_t i = 0; i < f->n; i++) {
        const unsigned char *p = f->entry[i].data;
        for (size_t k = 0; k < f->entry[i].bytes; k++) all += p[k];
        for (int k = 0; f->entry[i].stride && k < f->entry[i].nd; k++) fuzz_demand(f->entry[i].stride[k] >= 0);
        fuzz_demand(i == 0 || strcmp(f->entry[i - 1].name, f->entry[i].name) < 0);
    }
    return all;
}

static size_t put(uint8_t *to, size_t at, size_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) to[at + (size_t)i] = (uint8_t)(v >> 8 * i);
    return at + (size_t)bytes;
}

/* A zip archive of x/data.pkl and ten storages, x/data/0 and on, of 512 bytes. */
static void wrapped(const uint8_t *data, size_t n)
{
    enum { STORAGES = 10, BYTES = 512 };
    uint8_t *zip = calloc(1, n + STORAGES * (BYTES + 128) + 512);
    size_t at = 0, place[STORAGES + 1];
    fuzz_demand(zip != NULL);
    for (int i = 0; i <= STORAGES; i++) {
        size_t bytes = i ? BYTES : n;
        place[i] = at;
        memcpy(zip + at, "PK\3\4", 4);
        put(zip, at + 26, i ? 8u : 10u, 2);
        snprintf((char *)zip + at + 30, 12, i ? "x/data/%d" : "x/data.pkl", i - 1);
        at += i ? 38 : 40;
        if (i) memset(zip + at, i, bytes);
        else if (n) memcpy(zip + at, data, n);
        at += bytes;
    }
    size_t directory = at;
    for (int i = 0; i <= STORAGES; i++) {
        memcpy(zip + at, "PK\1\2", 4);
        put(zip, put(zip, at + 20, i ? BYTES : n, 4), i ? BYTES : n, 4);
        put(zip, at + 28, i ? 8u : 10u, 2);
        put(zip, at + 42, place[i], 4);
        snprintf((char *)zip + at + 46, 12, i ? "x/data/%d" : "x/data.pkl", i - 1);
        at += i ? 54 : 56;
    }
    memcpy(zip + at, "PK\5\6", 4);
    put(zip, at + 8, STORAGES + 1, 2);
    put(zip, at + 10, STORAGES + 1, 2);
    put(zip, at + 12, at - directory, 4);
    put(zip, at + 16, directory, 4);
    fuzz_weight_file("x.pt", zip, at + 22, sum_of);
    free(zip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy = n > 1 ? malloc(n - 1) : NULL;   /* of its own size, so that reading beyond it is seen */
    if (!copy) return 0;
    memcpy(copy, data + 1, n - 1);
    if (*data % 3 == 0) raw_pickle(copy, n - 1);
    else if (*data % 3 == 1) fuzz_weight_file("x.pt", copy, n - 1, sum_of);
    else wrapped(copy, n - 1);
    free(copy);
    return 0;
}
