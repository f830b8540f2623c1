/* rng.h - floor 0: the random streams that SD programs share. */
#ifndef SD_RNG_H
#define SD_RNG_H

#include <stddef.h>
#include <stdint.h>

/* torch's CPU generator: mt19937 plus the normal that the scalar path keeps for its next call. */
typedef struct sd_rng {
    uint32_t state[624];
    int index;             /* next word of state; 624: refill first */
    int has_normal;        /* scalar path: a second normal is waiting */
    double normal;
} sd_rng;

void sd_rng_seed(sd_rng *r, uint64_t seed);           /* torch.Generator("cpu").manual_seed(seed) */
uint32_t sd_rng_u32(sd_rng *r);
void sd_rng_normal(sd_rng *r, float *out, size_t n);  /* torch.randn(n, generator=r), float32 */

#endif
