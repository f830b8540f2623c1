/* rng_streams.h - floor 0: streams of normal numbers by name, a Brownian path, and a record of every draw. */
#ifndef SD_RNG_STREAMS_H
#define SD_RNG_STREAMS_H

#include "base.h"
#include "rng.h"

/* ------------------------------------------------------------------------------ Brownian path */

/* One path of Brownian motion, n independent coordinates, on [t0, t1]: torchsde's BrownianTree(entropy=..., tol=1e-6,
 * pool_size=24), which is a BrownianInterval with halfway_tree=True. The increment over [a, b] depends on the entropy,
 * t0, t1, a and b alone, not on earlier queries. Times are rounded to 1e-6. [t0, t1] is halved again and again; each
 * half is drawn by the Brownian bridge, from a generator seeded with a hash of the half's place. */
typedef struct sd_brownian sd_brownian;

/* Fills out with n normals from a generator freshly seeded with `seed`. */
typedef void (*sd_seeded_normals)(void *user, uint32_t seed, float *out, size_t n);

/* t0 <= t1, both within +-1e9. */
sd_status sd_brownian_new(sd_brownian **out, uint64_t entropy, double t0, double t1, size_t n, sd_seeded_normals draw,
                          void *user, sd_error *e);
void sd_brownian_free(sd_brownian *b);
/* W(b) - W(a), a <= b, n numbers; a and b are clamped to [t0, t1]. */
sd_status sd_brownian_increment(sd_brownian *path, double a, double b, float *out, sd_error *e);

/* -------------------------------------------------------------------------------------- streams */

typedef struct sd_stream_options {
    uint64_t seed;
    int generators;         /* 0: one for the whole batch, as diffusers draws with one generator. B: one per picture,
                             * seeded seed, seed + 1, ..., as A1111 draws and diffusers with a list of B generators */
    const uint64_t *seeds;  /* NULL, or `generators` seeds instead */
    void (*on_draw)(void *user, const sd_random_draw *draw);   /* called after every draw; may be NULL */
    void *user;
} sd_stream_options;

typedef struct sd_stream sd_stream;

/* spec: torch-cpu | torch-cuda[:sms=N,threads=M] | numpy | numpy-pcg64 | numpy-pcg64-f32 | brownian[:torch-cpu or
 * :torch-cuda...]; NULL is torch-cpu. Other programs' cpu, cuda, GPU and NV are known too. */
sd_status sd_stream_open(sd_stream **out, const char *spec, const sd_stream_options *o, sd_error *e);
/* Our name, without settings, for another program's name; `spec` itself for anything else. */
const char *sd_stream_canonical(const char *spec);
/* A stream of numbers that somebody else drew. They are copied and given out in order; the seed plays no part. */
sd_status sd_stream_open_numbers(sd_stream **out, const char *name, const float *numbers, size_t n,
                                 const sd_stream_options *o, sd_error *e);
void sd_stream_close(sd_stream *s);

/* torch.randn(images, ...) with `each` numbers per picture, float32. With a generator per picture, the first `images`
 * of them draw. One draw of 2n numbers differs from two draws of n: see rng.h. */
sd_status sd_stream_normal(sd_stream *s, const char *who, float *out, size_t images, size_t each, sd_error *e);

/* The noise that a sampler adds on its way from one noise level to another, of unit variance. A Brownian stream gives
 * (W(to) - W(from)) / sqrt|to - from|, like BrownianTreeNoiseSampler of k-diffusion and diffusers. Other
 * streams give new normals. */
sd_status sd_stream_noise(sd_stream *s, const char *who, double from, double to, float *out, size_t images, size_t each,
                          sd_error *e);
/* Before its first noise a Brownian stream must know the range of noise levels: the least above zero and the greatest.
 * This begins a new path, the same for the same seed. It has no effect on other streams. */
sd_status sd_stream_span(sd_stream *s, double sigma_min, double sigma_max, sd_error *e);

#endif
