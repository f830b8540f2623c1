/* fuzz_image.c - sd_image_load_memory fed with anything. */
#include "fuzz.h"

#include <string.h>

#include "../image_transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const sd_image nothing;
    sd_error e = {0};
    sd_image p;
    sd_error_clear(&e);
    sd_status status = sd_image_load_memory(&p, data, n, "the input", NULL, NULL, &e);
    fuzz_demand(status == e.status);
    if (status) {
        fuzz_demand(memcmp(&p, &nothing, sizeof p) == 0);
        fuzz_demand(strncmp(e.text, "cannot read the input: ", 23) == 0 || status == SD_ERR_MEMORY);
        return 0;
    }
    fuzz_demand(p.width >= 1 && p.height >= 1 && p.width <= SD_IMAGE_SIDE && p.height <= SD_IMAGE_SIDE);
    fuzz_demand(p.channels == 3 || p.channels == 4);
    unsigned sum = 0;
    for (size_t i = 0; i < (size_t)p.width * (size_t)p.height * (size_t)p.channels; i++) sum += p.data[i];
    volatile unsigned all_read = sum;
    (void)all_read;
    sd_image_free(&p);
    return 0;
}

#ifdef SD_LIBFUZZER

size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
    }
    return ~c;
}

/* Mostly with the checksums of PNG chunks put right again: else few changes would get beyond them. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
    n = LLVMFuzzerMutate(data, n, max);
    if (seed % 8 == 0 || n < 8 || memcmp(data, "\x89PNG", 4) != 0) return n;
    for (size_t at = 8; n - at >= 12;) {
        uint32_t length = 0;
        for (size_t i = 0; i < 4; i++) length = length << 8 | data[at + i];
        if (length > n - at - 12) break;
        uint32_t crc = crc_of(data + at + 4, length + 4);
        at += 8 + (size_t)length;
        for (int i = 0; i < 4; i++) data[at++] = (uint8_t)(crc >> (24 - 8 * i));
    }
    return n;
}

#endif
