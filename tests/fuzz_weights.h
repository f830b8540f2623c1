/* fuzz_weights.h - what fuzz targets of files of tensors share. */
#ifndef SD_FUZZ_WEIGHTS_H
#define SD_FUZZ_WEIGHTS_H

#include <string.h>

#include "../weights.h"
#include "fuzz.h"

/* The bytes as a file of this name, mapped and read into memory: both give the same error, or files whose sums are the
 * same. A failure leaves nothing. */
static inline void fuzz_weight_file(const char *name, const uint8_t *data, size_t n,
                                    unsigned (*sum_of)(const sd_weight_file *f))
{
    static const sd_weight_file nothing;
    sd_weight_file mapped, loaded;
    sd_error e = {0}, e2 = {0};
    const char *path = fuzz_file(name, data, n);
    sd_status status = sd_weight_file_open(&mapped, path, &e), again = sd_weight_file_load(&loaded, path, &e2);
    fuzz_demand_sentence(status, e.text);
    fuzz_demand(status == again && strcmp(e.text, e2.text) == 0);
    if (status) fuzz_demand(memcmp(&mapped, &nothing, sizeof mapped) == 0);
    else fuzz_demand(sum_of(&mapped) == sum_of(&loaded));
    sd_weight_file_close(&mapped);
    sd_weight_file_close(&loaded);
    fuzz_remove(name);
}

#endif
