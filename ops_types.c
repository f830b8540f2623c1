/* ops_types.c - floor 2: numbers of every type as floats. */
#include "ops.h"

#include <string.h>

/* ------------------------------------------------------------------------------------- plain types */

typedef void widen(float *y, const unsigned char *x, size_t n, const sd_kern *k);

static void widen_f32(float *y, const unsigned char *x, size_t n, const sd_kern *k)
{
    (void)k;
    memcpy(y, x, n * sizeof *y);
}

/* Kernels want aligned numbers; a file may put a tensor at an odd byte. */
static void widen_halves(float *y, const unsigned char *x, size_t n, sdk_widen *kernel)
{
    if ((uintptr_t)x % sizeof(uint16_t) == 0) {
        kernel(y, (const void *)x, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, x + 2 * i, sizeof h);
        kernel(y + i, &h, 1);
    }
}

static void widen_f16(float *y, const unsigned char *x, size_t n, const sd_kern *k)
{
    widen_halves(y, x, n, k->widen_f16);
}

static void widen_bf16(float *y, const unsigned char *x, size_t n, const sd_kern *k)
{
    widen_halves(y, x, n, k->widen_bf16);
}

static void widen_f64(float *y, const unsigned char *x, size_t n, const sd_kern *k)
{
    (void)k;
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, x + 8 * i, sizeof d);
        y[i] = (float)d;
    }
}

/* ------------------------------------------------------------------------------------- 8-bit floats
 * [Micikevicius et al. 2022, "FP8 formats for deep learning"]. Both become halves by moving bits, and halves have a
 * kernel. E5M2 is a half's upper byte. E4M3's exponent has a bias of 7, a half's one of 15: the half is 2^-8 of the
 * number. In the variant that files have, FN, only 0x7F and 0xFF are no numbers: NaN. */

enum { F8_PIECE = 512 };

static uint16_t half_of_e5m2(unsigned char x) { return (uint16_t)(x << 8); }

/* Adding 1 carries into bit 7 from the seven set bits of a NaN alone; bit 14 then completes a half's NaN. */
static uint16_t half_of_e4m3(unsigned char x)
{
    unsigned size = x & 0x7Fu;
    return (uint16_t)((x & 0x80u) << 8 | size << 7 | (size + 1) >> 7 << 14);
}

static void widen_f8_e5m2(float *y, const unsigned char *x, size_t n, const sd_kern *k)
{
    uint16_t half[F8_PIECE];
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < F8_PIECE ? n - at : F8_PIECE;
        for (size_t i = 0; i < m; i++) half[i] = half_of_e5m2(x[at + i]);
        k->widen_f16(y + at, half, m);
    }
}

static void multiply(float *y, float a, size_t n, const sd_kern *k)
{
    if (k->scale) k->scale(y, y, a, n);
    else
        for (size_t i = 0; i < n; i++) y[i] *= a;
}

static void widen_f8_e4m3(float *y, const unsigned char *x, size_t n, const sd_kern *k)
{
    uint16_t half[F8_PIECE];
    for (size_t at = 0, m; at < n; at += m) {
        m = n - at < F8_PIECE ? n - at : F8_PIECE;
        for (size_t i = 0; i < m; i++) half[i] = half_of_e4m3(x[at + i]);
        k->widen_f16(y + at, half, m);
        multiply(y + at, 256.0f, m, k);
    }
}

/* ------------------------------------------------------------------------------------------- blocks
 * The types of GGUF that SD's files have. A block has d, a half, by which its whole numbers are multiplied; some types
 * have m too, which is added. Fields of several bytes are little-endian. Facts: the structs of ggml (ggml-common.h). */

static float half_at(const unsigned char *p) { return sdk_half_to_float((uint16_t)(p[0] | p[1] << 8)); }

/* restrict: without it the bytes might be those of y, and compilers make slower vectors or none. Q5_0 and Q5_1 are
 * faster without it, so their functions do not have it. */
typedef void widen_block(float *restrict y, const unsigned char *restrict b);

/* 32 numbers: d, 32 signed bytes */
static void block_q8_0(float *restrict y, const unsigned char *restrict b)
{
    float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

/* 32 numbers: d, 16 bytes; their lower halves are the first 16 numbers. */
static void block_q4_0(float *restrict y, const unsigned char *restrict b)
{
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[16 + i] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

/* ... with d and m */
static void block_q4_1(float *restrict y, const unsigned char *restrict b)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b[4 + i] & 15) + m;
        y[16 + i] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* Fifth bits, as 16 or 0. Number i's stands in the i-th bit of four bytes. A byte's bits go to eight bytes: each keeps
 * the bit of its place, 1 << i, and with 0x7F more it has bit 7 where that was not 0. */
static void fifth_bits(unsigned char to[32], const unsigned char *from)
{
    for (int i = 0; i < 4; i++) {
        uint64_t eight = (from[i] * 0x0101010101010101u & 0x8040201008040201u) + 0x7F7F7F7F7F7F7F7Fu;
        eight = eight >> 3 & 0x1010101010101010u;
        memcpy(to + 8 * i, &eight, sizeof eight);
    }
}

/* 32 numbers: d, 4 bytes of fifth bits, 16 bytes as in Q4_0 */
static void block_q5_0(float *y, const unsigned char *b)
{
    float d = half_at(b);
    unsigned char high[32];
    fifth_bits(high, b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(((b[6 + i] & 15) | high[i]) - 16);
        y[16 + i] = d * (float)((b[6 + i] >> 4 | high[16 + i]) - 16);
    }
}

/* ... with d and m */
static void block_q5_1(float *y, const unsigned char *b)
{
    float d = half_at(b), m = half_at(b + 2);
    unsigned char high[32];
    fifth_bits(high, b + 4);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[8 + i] & 15) | high[i]) + m;
        y[16 + i] = d * (float)(b[8 + i] >> 4 | high[16 + i]) + m;
    }
}

/* "K quants": 256 numbers in runs of 16 or 32, each with a scale of its own, which d multiplies. Two bits of number i
 * stand in byte i / 128 * 32 + i % 32, shifted by 2 (i % 128 / 32). */

/* 16 bytes: for each run of 16, 4 bits of scale and 4 bits of what is subtracted; 64 bytes of two bits; d, m */
static void block_q2_k(float *restrict y, const unsigned char *restrict b)
{
    float d = half_at(b + 80), m = half_at(b + 82);
    for (int run = 0; run < 16; run++, y += 16) {
        const unsigned char *low = b + 16 + run / 8 * 32 + run % 2 * 16;
        float scale = d * (float)(b[run] & 15), minus = m * (float)(b[run] >> 4);
        int shift = run % 8 / 2 * 2;
        for (int i = 0; i < 16; i++) y[i] = scale * (float)(low[i] >> shift & 3) - minus;
    }
}

/* 32 bytes of third bits, 64 bytes of two bits, 12 bytes of scales with 6 bits, d. Bit i / 32 of byte i % 32 is number
 * i's third bit: if it is 0, 4 is subtracted. */
static void block_q3_k(float *restrict y, const unsigned char *restrict b)
{
    const unsigned char *scales = b + 96;
    float d = half_at(b + 108);
    for (int run = 0; run < 16; run++, y += 16) {
        const unsigned char *low = b + 32 + run / 8 * 32 + run % 2 * 16, *high = b + run % 2 * 16;
        int six = (scales[run % 8] >> run / 8 * 4 & 15) | (scales[8 + run % 4] >> run / 4 * 2 & 3) << 4;
        float scale = d * (float)(six - 32);
        int shift = run % 8 / 2 * 2, bit = run / 2;
        for (int i = 0; i < 16; i++)
            y[i] = scale * (float)((low[i] >> shift & 3) - (high[i] >> bit & 1 ? 0 : 4));
    }
}

/* Q4_K and Q5_K have 12 bytes with a scale and what is subtracted for each run of 32, 6 bits each: of the first four
 * runs in the lower bits of bytes 0..3 and 4..7; of the others in the halves of bytes 8..11, and their upper two bits
 * in those that bytes 0..7 have left. */
static void scale_of_run(const unsigned char *s, int run, float d, float m, float *scale, float *minus)
{
    int a = s[run] & 63, b = s[run + 4] & 63;
    if (run >= 4) {
        a = (s[run + 4] & 15) | s[run - 4] >> 6 << 4;
        b = s[run + 4] >> 4 | s[run] >> 6 << 4;
    }
    *scale = d * (float)a;
    *minus = m * (float)b;
}

/* d, m, 12 bytes of scales; 128 bytes: of each 32, the lower halves are one run and the upper ones the next */
static void block_q4_k(float *restrict y, const unsigned char *restrict b)
{
    float scale, minus;
    for (int run = 0; run < 8; run++, y += 32) {
        const unsigned char *low = b + 16 + run / 2 * 32;
        int shift = run % 2 * 4;
        scale_of_run(b + 4, run, half_at(b), half_at(b + 2), &scale, &minus);
        for (int i = 0; i < 32; i++) y[i] = scale * (float)(low[i] >> shift & 15) - minus;
    }
}

/* ... with 32 bytes of fifth bits before them: bit `run` of byte i */
static void block_q5_k(float *restrict y, const unsigned char *restrict b)
{
    const unsigned char *high = b + 16;
    float scale, minus;
    for (int run = 0; run < 8; run++, y += 32) {
        const unsigned char *low = b + 48 + run / 2 * 32;
        int shift = run % 2 * 4;
        scale_of_run(b + 4, run, half_at(b), half_at(b + 2), &scale, &minus);
        for (int i = 0; i < 32; i++)
            y[i] = scale * (float)((low[i] >> shift & 15) | (high[i] >> run & 1) << 4) - minus;
    }
}

/* 128 bytes of four bits: of each 64, the lower halves first; 64 bytes of two more bits; a signed byte of scale for
 * each run of 16; d */
static void block_q6_k(float *restrict y, const unsigned char *restrict b)
{
    float d = half_at(b + 208);
    for (int run = 0; run < 16; run++, y += 16) {
        const unsigned char *low = b + run / 8 * 64 + run % 4 * 16, *high = b + 128 + run / 8 * 32 + run % 2 * 16;
        float scale = d * (float)(int8_t)b[192 + run];
        int low_shift = run % 8 / 4 * 4, high_shift = run % 8 / 2 * 2;
        for (int i = 0; i < 16; i++)
            y[i] = scale * (float)(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
    }
}

/* ------------------------------------------------------------------------------------------- tables */

static widen *const plain[] = {
    [SD_F32] = widen_f32, [SD_F16] = widen_f16, [SD_BF16] = widen_bf16, [SD_F64] = widen_f64,
    [SD_F8_E4M3] = widen_f8_e4m3, [SD_F8_E5M2] = widen_f8_e5m2,
};

static widen_block *const blocks[] = {
    [SD_Q8_0] = block_q8_0, [SD_Q4_0] = block_q4_0, [SD_Q4_1] = block_q4_1, [SD_Q5_0] = block_q5_0,
    [SD_Q5_1] = block_q5_1, [SD_Q2_K] = block_q2_k, [SD_Q3_K] = block_q3_k, [SD_Q4_K] = block_q4_k,
    [SD_Q5_K] = block_q5_k, [SD_Q6_K] = block_q6_k,
};

void sd_widen(float *y, const void *x, sd_dtype dt, size_t n, const sd_kern *k)
{
    const unsigned char *from = x;
    size_t numbers = sd_dtype_block(dt), bytes = sd_dtype_bytes(dt, numbers);
    if ((size_t)dt < SD_COUNT(plain) && plain[dt]) plain[dt](y, from, n, k);
    else if ((size_t)dt < SD_COUNT(blocks) && blocks[dt])
        for (size_t i = 0; i < n / numbers; i++) blocks[dt](y + i * numbers, from + i * bytes);
    else memset(y, 0, n * sizeof *y);   /* binding refuses integer weights */
}

void sd_widen_weight(float *y, const sd_tensor *w, size_t at, size_t n, const sd_kern *k)
{
    sd_widen(y, (const unsigned char *)w->data + sd_dtype_bytes(w->dt, at), w->dt, n, k);
    if (w->scale != 0) multiply(y, w->scale, n, k);
}
