/* fuzz_zip.c - a zip archive of any bytes: its directory read, every file in it found, unpacked and read. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../zip.h"

static unsigned sum;   /* of all bytes, so that they are read */

static void read_entry(const sd_zip *z, const sd_zip_entry *t, const uint8_t *data, size_t n)
{
    fuzz_demand(t->data >= data && (size_t)(t->data - data) <= n && t->packed <= n - (size_t)(t->data - data));
    fuzz_demand(sd_zip_find(z, t->name) == t);
    fuzz_demand(t->deflated ? t->bytes / 1032 <= t->packed : t->bytes == t->packed);
    for (size_t i = 0; i < t->packed; i++) sum += t->data[i];
    if (!t->deflated) return;
    sd_error e = {0};
    unsigned char *to = malloc(t->bytes + 1);
    fuzz_demand(to != NULL);
    sd_status status = sd_zip_inflate(t, to, "x.ckpt", &e);
    fuzz_demand_sentence(status, e.text);
    for (size_t i = 0; !status && i < t->bytes; i++) sum += to[i];
    free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sd_zip z;
    sd_error e = {0};
    uint8_t *copy = malloc(n + 1);   /* of its own size, so that reading beyond it is seen */
    fuzz_demand(copy != NULL);
    if (n) memcpy(copy, data, n);
    uint8_t *exact = n ? realloc(copy, n) : copy;
    sd_status status = sd_zip_open(&z, exact, n, "x.ckpt", &e);
    fuzz_demand_sentence(status, e.text);
    fuzz_demand(status == SD_OK || (!z.entry && !z.names));
    for (size_t i = 0; i < z.n; i++) read_entry(&z, &z.entry[i], exact, n);
    sd_zip_close(&z);
    free(exact);
    return 0;
}

#ifdef SD_LIBFUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

/* Mostly with the end record at the end again and pointing at a directory: else few changes would get beyond it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
    n = LLVMFuzzerMutate(data, n, max);
    if (seed % 4 == 0 || n < 22) return n;
    size_t end = n - 22, at = 0;
    while (end > 0 && memcmp(data + end, "PK\5\6", 4) != 0) end--;
    while (at < end && memcmp(data + at, "PK\1\2", 4) != 0) at++;
    size_t values[] = {end - at, at, n - end - 22};
    static const struct { size_t place; int bytes; } where[] = {{12, 4}, {16, 4}, {20, 2}};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < where[i].bytes; k++) data[end + where[i].place + (size_t)k] = (uint8_t)(values[i] >> 8 * k);
    return n;
}
#endif
