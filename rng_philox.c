/* rng_philox.c - floor 0: torch's generator on a CUDA GPU, computed without one.
 *
 * Philox4x32-10 [Salmon et al. 2011, section 4.3] turns a counter and a key into four words. torch.randn on a GPU
 * (ATen's native/cuda/DistributionTemplates.h) gives every GPU thread a counter of its own and has it draw four normals
 * at a time by cuRAND's curand_normal4 (Box & Muller [1958] in float32).
 *
 * A GPU computes sin and cos in special units, with other last bits. So the words are equal, and the normals differ by
 * a few 1e-6: the fast sine is off by at most 2^-21.4 for angles up to pi [CUDA C Programming Guide, intrinsic
 * functions], times a radius of at most 6.7. */
#include "rng.h"

#include <math.h>

enum { BLOCK = 256 };   /* threads in a block of torch's distribution kernels */

void sd_philox_words(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t a = UINT64_C(0xd2511f53) * c[0], b = UINT64_C(0xcd9e8d57) * c[2];
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k[0];
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k[1];
        c[3] = (uint32_t)a;
        k[0] += 0x9e3779b9u;   /* Weyl sequences: the golden ratio and sqrt(3) - 1 */
        k[1] += 0xbb67ae85u;
    }
    for (int i = 0; i < 4; i++) out[i] = c[i];
}

void sd_philox_seed(sd_philox *r, uint64_t seed, uint32_t sms, uint32_t threads)
{
    r->seed = seed;
    r->offset = 0;
    r->most_blocks = sms * (threads / BLOCK);
}

/* cuRAND's Box-Muller: two words become a sine (first) and a cosine. u in (0, 1], v in (0, 2 pi]; the GPU's compiler
 * fuses the multiplication and the addition. */
static void box_muller(uint32_t x, uint32_t y, float *sine, float *cosine)
{
    static const float scale = 2.3283064e-10f, turn = 2.3283064e-10f * 6.2831855f;   /* 2^-32, 2^-32 * 2 pi */
    float u = fmaf((float)x, scale, scale / 2), v = fmaf((float)y, turn, turn / 2);
    float radius = sqrtf(-2.0f * logf(u));
    *sine = radius * sinf(v);
    *cosine = radius * cosf(v);
}

/* out[i] comes from thread i % all. A thread's four words make the numbers i, i + all, i + 2 all, i + 3 all; then it
 * takes its next counter. With n <= all, the usual case, three of the four are never used. */
void sd_philox_normal(sd_philox *r, float *out, size_t n)
{
    if (n == 0) return;   /* torch launches no kernel then */
    uint64_t blocks = (n + BLOCK - 1) / BLOCK;
    if (r->most_blocks && blocks > r->most_blocks) blocks = r->most_blocks;
    uint64_t all = blocks * BLOCK;
    const uint32_t key[2] = {(uint32_t)r->seed, (uint32_t)(r->seed >> 32)};
    for (uint64_t first = 0; first < n; first += 4 * all, r->offset++)
        for (uint64_t thread = 0; thread < all && first + thread < n; thread++) {
            const uint32_t counter[4] = {(uint32_t)r->offset, (uint32_t)(r->offset >> 32),
                                         (uint32_t)thread, (uint32_t)(thread >> 32)};
            uint32_t word[4];
            float normal[4] = {0};
            sd_philox_words(word, counter, key);
            box_muller(word[0], word[1], normal, normal + 1);
            if (first + thread + 2 * all < n) box_muller(word[2], word[3], normal + 2, normal + 3);
            for (uint64_t i = 0, at = first + thread; i < 4 && at < n; i++, at += all)
                out[at] = normal[i] + 0.0f;   /* + mean: turns -0 into 0 */
        }
}
