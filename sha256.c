/* sha256.c - floor 0: SHA-256 [FIPS 180-4]. */
#include "sha256.h"

#include <stdio.h>
#include <string.h>

/* The first 32 bits of the fractions of the square roots of the first 8 primes [sec. 5.3.3]. */
void sd_sha256_init(sd_sha256 *h)
{
    *h = (sd_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                               0x5be0cd19}};
}

/* The same of the cube roots of the first 64 primes [sec. 4.2.2]. */
static const uint32_t roots[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint32_t word_at(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One round [sec. 6.2.2, step 3], with the names of the eight variables turned instead of their values. */
#define ROUND(a, b, c, d, e, f, g, h, i) do { \
    uint32_t t = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (g ^ (e & (f ^ g))) + roots[i] + w[i]; \
    d += t; \
    h = t + (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) | (c & (a | b))); \
} while (0)

static void add_blocks(uint32_t state[8], const unsigned char *p, size_t blocks)
{
    uint32_t w[64];
    for (; blocks--; p += 64) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 16; i++) w[i] = word_at(p + 4 * i);
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
                   (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
        for (int i = 0; i < 64; i += 8) {
            ROUND(a, b, c, d, e, f, g, h, i);
            ROUND(h, a, b, c, d, e, f, g, i + 1);
            ROUND(g, h, a, b, c, d, e, f, i + 2);
            ROUND(f, g, h, a, b, c, d, e, i + 3);
            ROUND(e, f, g, h, a, b, c, d, i + 4);
            ROUND(d, e, f, g, h, a, b, c, i + 5);
            ROUND(c, d, e, f, g, h, a, b, i + 6);
            ROUND(b, c, d, e, f, g, h, a, i + 7);
        }
        const uint32_t now[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; i++) state[i] += now[i];
    }
}

void sd_sha256_add(sd_sha256 *h, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t have = h->bytes % 64;
    if (n == 0) return;
    h->bytes += n;
    if (have) {
        size_t take = n < 64 - have ? n : 64 - have;
        memcpy(h->block + have, p, take);
        p += take;
        n -= take;
        if (have + take < 64) return;
        add_blocks(h->state, h->block, 1);
    }
    add_blocks(h->state, p, n / 64);
    if (n % 64) memcpy(h->block, p + n / 64 * 64, n % 64);
}

/* A one, zeros up to 8 bytes before the end of a block, and the message's length in bits [sec. 5.1.1]. */
void sd_sha256_hex(sd_sha256 *h, char hex[SD_SHA256_HEX])
{
    static const unsigned char padding[64] = {0x80};
    unsigned char bits[8];
    for (int i = 0; i < 8; i++) bits[i] = (unsigned char)(h->bytes << 3 >> (56 - 8 * i));
    size_t have = h->bytes % 64;
    sd_sha256_add(h, padding, have < 56 ? 56 - have : 120 - have);
    sd_sha256_add(h, bits, sizeof bits);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", (unsigned)h->state[i]);
}
