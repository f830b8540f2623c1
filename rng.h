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

/* torch.Generator("cpu").manual_seed(seed). Only the low 32 bits of the seed matter, as in torch. */
void sd_rng_seed(sd_rng *r, uint64_t seed);
uint32_t sd_rng_u32(sd_rng *r);
/* torch.randn(n, generator=r), float32. One call for n numbers is not two calls for n/2 each: n < 16 takes another
 * path, and an n that is no multiple of 16 draws its last 16 numbers twice. */
void sd_rng_normal(sd_rng *r, float *out, size_t n);

#endif
