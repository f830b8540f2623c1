/* ops_narrow.c - floor 2: floats as numbers of other types, rounded to the nearest as torch and gguf round them. */
#include "ops.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ narrower floats */

/* A type of floats: bits of its mantissa, its exponent's bias, where its sign is; and without the sign the bits of its
 * largest number, of what is larger, and of NaN. */
typedef struct narrow { uint32_t mantissa, bias, sign; int32_t largest, beyond, nan; } narrow;
enum { INFINITE = 0x7F800000 };   /* bits of infinity; of NaN more */

static const narrow types[] = {
    [SD_F16] = {10, 15, 15, 0x7BFF, 0x7C00, 0x7E00},
    [SD_BF16] = {7, 127, 15, 0x7F7F, 0x7F80, 0x7FC0},
    [SD_F8_E4M3] = {3, 7, 7, 0x7E, 0x7E, 0x7F},      /* FN: no infinity; what is too large becomes the largest */
    [SD_F8_E5M2] = {2, 15, 7, 0x7B, 0x7C, 0x7F},
};

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The number of a type that is nearest to x; of two that are as near, the one whose last bit is 0. Exponent and
 * mantissa are treated as one whole number, so that rounding up carries from the one into the other. Below the smallest
 * normal number there is no leading one, and numbers are multiples of the smallest, u: in a sum with 2^23 u the last
 * bit means u, so the addition rounds. Masks instead of branches, so that compilers make vectors of it. */
static inline uint32_t nearest(float x, const narrow *t)
{
    const uint32_t drop = 23 - t->mantissa, normal = (128 - t->bias) << 23, sum = (128 - t->bias + drop) << 23;
    uint32_t bits = bits_of(x), size = bits & 0x7FFFFFFF, below = (uint32_t)((int32_t)(size - normal) >> 31);
    uint32_t large = (size - normal + (1u << 23) + (1u << (drop - 1)) - 1 + (size >> drop & 1)) >> drop;
    uint32_t small = bits_of(float_of(size) + float_of(sum)) - sum;
    int32_t y = (int32_t)((small & below) | (large & ~below));
    y = y > t->largest ? t->beyond : y;
    y = (int32_t)size > INFINITE ? t->nan : y;
    return (uint32_t)y | bits >> 31 << t->sign;
}

static void narrow_16(unsigned char *y, const float *x, size_t n, sd_dtype dt)
{
    enum { PIECE = 256 };
    const narrow t = types[dt];
    uint16_t piece[PIECE];
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < m; i++) piece[i] = (uint16_t)nearest(x[at + i], &t);
        memcpy(y + 2 * at, piece, 2 * m);
    }
}

static void narrow_8(unsigned char *y, const float *x, size_t n, sd_dtype dt)
{
    const narrow t = types[dt];
    for (size_t i = 0; i < n; i++) y[i] = (unsigned char)nearest(x[i], &t);
}

/* -------------------------------------------------------------------------------------- other types */

static void copy_f32(unsigned char *y, const float *x, size_t n, sd_dtype dt) { memcpy(y, x, sd_dtype_bytes(dt, n)); }

static void to_f64(unsigned char *y, const float *x, size_t n, sd_dtype dt)
{
    (void)dt;
    for (size_t i = 0; i < n; i++) {
        double d = x[i];
        memcpy(y + 8 * i, &d, sizeof d);
    }
}

/* To the nearest whole number; of two that are as near, the one that is further from 0. |x| < 2^24 */
static int round_away(float x)
{
    float a = fabsf(x);
    int whole = (int)a, n = whole + (a - (float)whole >= 0.5f);
    return x < 0 ? -n : n;
}

/* The bits of the largest of 32 sizes: without signs, floats are in the order of their bits, infinity and NaN last. */
static int32_t largest(const float *x)
{
    int32_t most = 0;
    for (int i = 0; i < 32; i++) {
        int32_t size = (int32_t)(bits_of(x[i]) & 0x7FFFFFFF);
        most = size > most ? size : most;
    }
    return most;
}

/* Blocks of 32: d = max |x| / 127 as a half, then x / d as signed bytes, computed with d before it was rounded
 * (ggml, quantize_row_q8_0_ref). A block that has a NaN or an infinity becomes NaN. */
static void to_q8_0(unsigned char *y, const float *x, size_t n, sd_dtype dt)
{
    (void)dt;
    for (const float *end = x + n; x < end; x += 32, y += 34) {
        int32_t most = largest(x);
        float d = most < INFINITE ? float_of((uint32_t)most) / 127.0f : NAN;
        float inverse = d > 0 ? 1.0f / d : 0.0f;
        if (inverse > FLT_MAX) inverse = 0;   /* d is then far below the smallest half */
        narrow_16(y, &d, 1, SD_F16);
        for (int i = 0; i < 32; i++) y[2 + i] = inverse > 0 ? (unsigned char)round_away(x[i] * inverse) : 0;
    }
}

/* -------------------------------------------------------------------------------------------- table */

static void (*const table[])(unsigned char *y, const float *x, size_t n, sd_dtype dt) = {
    [SD_F32] = copy_f32, [SD_F16] = narrow_16, [SD_BF16] = narrow_16, [SD_F64] = to_f64,
    [SD_F8_E4M3] = narrow_8, [SD_F8_E5M2] = narrow_8, [SD_Q8_0] = to_q8_0,
};

bool sd_can_narrow(sd_dtype dt) { return (size_t)dt < SD_COUNT(table) && table[dt]; }

void sd_narrow(void *y, sd_dtype dt, const float *x, size_t n)
{
    if (sd_can_narrow(dt)) table[dt](y, x, n, dt);
    else memset(y, 0, sd_dtype_bytes(dt, n));
}
