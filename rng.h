/* rng.h - floor 0: the generators that SD programs share. rng_streams.h gives them names. */
#ifndef SD_RNG_H
#define SD_RNG_H

#include <stddef.h>
#include <stdint.h>

/* torch's CPU generator: mt19937, and the normal that the scalar path keeps for its next call. */
typedef struct sd_rng {
    uint32_t state[624];
    int index;             /* next word of state; 624: refill first */
    int has_normal;        /* scalar path: a second normal is waiting */
    double normal;
} sd_rng;

/* torch.Generator("cpu").manual_seed(seed). Only the low 32 bits of the seed matter, as in torch. */
void sd_rng_seed(sd_rng *r, uint64_t seed);
uint32_t sd_rng_u32(sd_rng *r);
/* torch.randn(n, generator=r), float32. One call for n numbers differs from two calls for n/2 each: n < 16 takes
 * another path, and if n is no multiple of 16, the last 16 numbers are drawn twice. */
void sd_rng_normal(sd_rng *r, float *out, size_t n);

/* torch's generator on a CUDA GPU: Philox4x32-10, one counter per GPU thread. Between calls it only keeps how many
 * blocks of four every thread has used. All 64 bits of the seed matter. */
typedef struct sd_philox {
    uint64_t seed, offset;
    uint32_t most_blocks;  /* of 256 threads, that the GPU runs at once; 0: enough for every draw */
} sd_philox;

/* sms: multiprocessors; threads: the most threads that one of them holds (1024, 1536 or 2048). They matter once a draw
 * has more numbers than the GPU has threads. sms = 0: a GPU with more threads than any draw has numbers. */
void sd_philox_seed(sd_philox *r, uint64_t seed, uint32_t sms, uint32_t threads);
/* torch.randn(n, device="cuda", generator=r), float32 (rounded to float16 it is the float16 draw too). */
void sd_philox_normal(sd_philox *r, float *out, size_t n);
/* Philox4x32-10 itself: four words from a counter and a key. */
void sd_philox_words(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* NumPy's legacy generator, numpy.random.RandomState(seed): the same mt19937, seeded in the same way, so it uses sd_rng
 * and sd_rng_seed, but its normals are made differently. (NumPy refuses seeds above 32 bits.) Draw normals of one kind
 * only from an sd_rng. */
double sd_numpy_normal(sd_rng *r);

/* numpy.random.SeedSequence(entropy, spawn_key, pool_size): makes 32-bit words from a seed. */
enum { SD_SEED_POOL = 24 };
typedef struct sd_seedseq {
    uint32_t pool[SD_SEED_POOL];
    size_t size;           /* words in use: 4 in NumPy's generators, 24 in torchsde's trees */
} sd_seedseq;
void sd_seedseq_init(sd_seedseq *s, size_t pool_size, uint64_t entropy, const uint64_t *spawn_key, size_t keys);
void sd_seedseq_words(const sd_seedseq *s, uint32_t *out, size_t n);

/* numpy.random.default_rng(seed): PCG64. The float32 normals are another stream, not the float64 ones rounded. */
typedef struct sd_pcg64 {
    uint64_t high, low, step_high, step_low;  /* the state and the odd increment, 128 bits each */
    uint32_t spare;                           /* a 32-bit draw uses half a word and keeps the other half */
    int has_spare;
} sd_pcg64;
void sd_pcg64_seed(sd_pcg64 *r, uint64_t seed);
uint64_t sd_pcg64_u64(sd_pcg64 *r);
uint32_t sd_pcg64_u32(sd_pcg64 *r);
double sd_pcg64_normal(sd_pcg64 *r);      /* standard_normal() */
float sd_pcg64_normal_f32(sd_pcg64 *r);   /* standard_normal(dtype=np.float32) */

#endif
