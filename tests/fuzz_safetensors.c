/* fuzz_safetensors.c - a safetensors file of any bytes: mapped, read into memory, every number of every tensor read. */
#include "fuzz_weights.h"

static unsigned sum_of(const sd_weight_file *f)
{
    unsigned sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        const unsigned char *p = f->entry[i].data;
        for (size_t k = 0; k < f->entry[i].bytes; k++) sum += p[k];
        fuzz_demand(i == 0 || strcmp(f->entry[i - 1].name, f->entry[i].name) < 0);
        fuzz_demand(sd_weight_file_find(f, f->entry[i].name) == &f->entry[i]);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fuzz_weight_file("x.safetensors", data, n, sum_of);
    return 0;
}

#ifdef SD_LIBFUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

/* Mostly with the header's length put right again, to the last brace: else few changes would get beyond it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
    n = LLVMFuzzerMutate(data, n, max);
    if (seed % 8 == 0 || n < 10) return n;
    size_t end = n;
    while (end > 9 && data[end - 1] != '}') end--;
    for (int i = 0; i < 8; i++) data[i] = (uint8_t)((end - 8) >> 8 * i & 0xFF);
    return n;
}
#endif
