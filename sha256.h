/* sha256.h - floor 0: SHA-256 [FIPS 180-4], by which files and tensors of models are known. */
#ifndef SD_SHA256_H
#define SD_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct sd_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64];   /* the last bytes % 64 of them */
} sd_sha256;

#define SD_SHA256_HEX 65   /* 64 digits and a NUL */
void sd_sha256_init(sd_sha256 *h);
void sd_sha256_add(sd_sha256 *h, const void *data, size_t n);
void sd_sha256_hex(sd_sha256 *h, char hex[SD_SHA256_HEX]);   /* ends it */

#endif
