/* rng_torch.c - floor 0: torch's CPU generator, so that a seed means here what it means in diffusers.
 *
 * mt19937 [Matsumoto & Nishimura 1998], seeded as init_genrand does; normals by Box & Muller [1958] in torch's two ways
 * (ATen/native/cpu/DistributionTemplates.h, normal_kernel): a scalar one in double for fewer than 16 numbers, and one
 * that fills blocks of 16 in float32. On x86, torch's block path has its own float32 log and sincos (polynomials of
 * Cephes [Moshier 1992], with fused multiply-adds). They are written out below because the noise's last bits depend on
 * them: with these it is equal bit for bit, with libm's functions up to 2.2e-6 off. */
#include "rng.h"

#include <math.h>
#include <string.h>

enum { N = 624, M = 397 };

/* ---------------------------------------------------------------------------------- mt19937 */

void sd_rng_seed(sd_rng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)(seed & 0xffffffffu);   /* torch drops the high half */
    for (uint32_t j = 1; j < N; j++)
        r->state[j] = 1812433253u * (r->state[j - 1] ^ (r->state[j - 1] >> 30)) + j;
    r->index = N;
    r->has_normal = 0;
    r->normal = 0.0;
}

static void refill(uint32_t *s)
{
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1u ? 0x9908b0dfu : 0u);
    }
}

uint32_t sd_rng_u32(sd_rng *r)
{
    if (r->index == N) {
        refill(r->state);
        r->index = 0;
    }
    uint32_t y = r->state[r->index++];   /* tempering */
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* ---------------------------------------------------------------------- fewer than 16 numbers */

static const double pi = 3.14159265358979323846;

/* Uniform in [0,1): the low 53 of 64 bits, the first word being the high half. */
static double uniform53(sd_rng *r)
{
    uint64_t high = sd_rng_u32(r), low = sd_rng_u32(r);
    return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* at::normal_distribution<double>: the cosine is returned, the sine waits for the next call of this path. The block
 * path neither uses nor clears it; only seeding does. */
static double normal_one(sd_rng *r)
{
    if (r->has_normal) {
        r->has_normal = 0;
        return r->normal;
    }
    double u1 = uniform53(r), u2 = uniform53(r);
    double radius = sqrt(-2.0 * log1p(-u2)), theta = 2.0 * pi * u1;
    r->normal = radius * sin(theta);
    r->has_normal = 1;
    return radius * cos(theta);
}

/* --------------------------------------------------------------------------- 16 numbers or more */

/* ln x for normal x > 0: x = 2^e * m with m in [sqrt(1/2), sqrt(2)), ln m by a polynomial in t = m - 1. */
static float log_f32(float x)
{
    static const float p[] = {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f,
                              1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
                              3.3333331174e-1f};
    static const float ln2_low = -2.12194440e-4f, ln2_high = 0.693359375f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    float e = (float)((int)(bits >> 23) - 126), m;
    bits = (bits & 0x007fffffu) | 0x3f000000u;   /* the mantissa in [0.5, 1) */
    memcpy(&m, &bits, sizeof m);
    float t = m - 1.0f;
    if (m < 0.707106781186547524f) {             /* sqrt(1/2): double it */
        e -= 1.0f;
        t += m;
    }
    float y = p[0], tt = t * t;
    for (int i = 1; i < 9; i++) y = fmaf(y, t, p[i]);
    y = fmaf(y * t, tt, e * ln2_low) - 0.5f * tt;
    return fmaf(e, ln2_high, t + y);
}

/* sin x and cos x for x >= 0. An even multiple j of pi/4, in three parts to lose little, is subtracted from x. */
static void sincos_f32(float x, float *sine, float *cosine)
{
    int j = ((int)(x * 1.27323954473516f) + 1) & ~1;   /* 4/pi */
    float k = (float)j;
    x = fmaf(k, -0.78515625f, x);
    x = fmaf(k, -2.4187564849853515625e-4f, x);
    x = fmaf(k, -3.77489497744594108e-8f, x);
    float xx = x * x;
    float c = fmaf(fmaf(2.443315711809948e-5f, xx, -1.388731625493765e-3f), xx, 4.166664568298827e-2f) * xx;
    c = fmaf(c, xx, -0.5f * xx) + 1.0f;
    float s = fmaf(fmaf(-1.9515295891e-4f, xx, 8.3321608736e-3f), xx, -1.6666654611e-1f) * xx;
    s = fmaf(s, x, x);
    int quarter = (j / 2) % 4;                         /* x + quarter * pi/2 */
    float s_or_c = quarter % 2 ? c : s, c_or_s = quarter % 2 ? s : c;
    *sine = quarter >= 2 ? -s_or_c : s_or_c;
    *cosine = quarter == 1 || quarter == 2 ? -c_or_s : c_or_s;
}

/* 16 uniforms become 16 normals: Box & Muller on pairs (j, j + 8). */
static void box_muller_16(float *x)
{
    for (int j = 0; j < 8; j++) {
        float u1 = 1.0f - x[j], u2 = x[j + 8];   /* (0, 1] for the logarithm */
        float radius = sqrtf(-2.0f * log_f32(u1)), sine, cosine;
        sincos_f32((float)(2.0 * pi) * u2, &sine, &cosine);
        x[j] = radius * cosine + 0.0f;           /* + mean: turns -0 into 0 */
        x[j + 8] = radius * sine + 0.0f;
    }
}

static void uniforms24(sd_rng *r, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(sd_rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

void sd_rng_normal(sd_rng *r, float *out, size_t n)
{
    if (n < 16) {
        for (size_t i = 0; i < n; i++) out[i] = (float)normal_one(r);
        return;
    }
    uniforms24(r, out, n);   /* all of them first: the tail's second draw comes after */
    for (size_t i = 0; i + 16 <= n; i += 16) box_muller_16(out + i);
    if (n % 16) {            /* the last 16 are drawn again, over numbers that are already normal */
        uniforms24(r, out + n - 16, 16);
        box_muller_16(out + n - 16);
    }
}
