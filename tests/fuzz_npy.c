/* fuzz_npy.c - any bytes as a .npy file, or behind a first byte 1 as a .npz archive: read twice, every number of a type
 * that we have looked at, in C's order and in Fortran's. */
#include "fuzz.h"
#include "fuzz_weights.h"

#include "../weights_values.h"

/* All that a reader of the file could look at. */
static unsigned sum_of(const sd_weight_file *f)
{
    unsigned sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        const sd_entry *t = &f->entry[i];
        sd_values v;
        sd_error e = {0};
        fuzz_demand(t->nd >= 0 && t->nd <= 8 && *t->name);
        for (int d = 0; d < t->nd; d++) fuzz_demand(t->dim[d] >= 0);
        if (t->dt == SD_DTYPE_UNKNOWN) continue;
        fuzz_demand(sd_entry_numbers(t) * sd_dtype_size(t->dt) == t->bytes);
        fuzz_demand_sentence(sd_values_of(&v, t, &e), e.text);
        fuzz_demand(v.n == sd_entry_numbers(t) && v.nan + v.inf + v.finite == v.n);
        sum = 31 * sum + (unsigned)(v.nan + 3 * v.inf + 7 * v.zero);
        if (v.n) sum += (unsigned)(sd_entry_number(t, v.n - 1) == sd_entry_number(t, v.n - 1));
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n) fuzz_weight_file(data[0] == 1 ? "x.npz" : "x.npy", data + 1, n - 1, sum_of);
    return 0;
}

#ifdef SD_LIBFUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

/* Mostly with the length that the header then has: else few changes would get beyond it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
    n = LLVMFuzzerMutate(data, n, max);
    if (seed % 4 == 0 || n < 20 || data[0] == 1) return n;
    size_t end = 11;
    while (end < n && data[end] != '}') end++;
    memcpy(data + 1, "\x93NUMPY\1\0", 8);
    data[9] = (uint8_t)(end + 1 - 11);
    data[10] = (uint8_t)((end + 1 - 11) >> 8);
    return n;
}
#endif
