/* ops_wrong_numbers.c - floor 2: what mistakes make of the numbers of a weight, an input or a result. */
#include "ops_wrong.h"

#include <math.h>
#include <string.h>

/* To the nearest number with so many bits behind the point, ties to even; exponents are float32's. */
void sd_wrong_round(float *x, size_t n, int bits)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        if ((u & 0x7F800000u) == 0x7F800000u) continue;
        uint32_t drop = 23 - (uint32_t)bits, half = (UINT32_C(1) << (drop - 1)) - 1;
        u += half + ((u >> drop) & 1);
        u &= ~((UINT32_C(1) << drop) - 1);
        memcpy(&x[i], &u, sizeof u);
    }
}

/* Kernels [O,I,kh,kw]: element (i,j) of each becomes that of (j,i), or of the opposite place. */
void sd_wrong_turn_kernels(float *w, size_t kernels, size_t side, bool flip)
{
    enum { MOST = 16 * 16 };
    float old[MOST];
    size_t n = side * side;
    for (size_t k = 0; k < kernels && n <= MOST; k++, w += n) {
        memcpy(old, w, n * sizeof *old);
        for (size_t i = 0; i < n; i++) w[i] = flip ? old[n - 1 - i] : old[i % side * side + i / side];
    }
}

void sd_wrong_turn_matrix(float *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++) {
            float swap = w[i * n + k];
            w[i * n + k] = w[k * n + i];
            w[k * n + i] = swap;
        }
}

/* float16 ends at 65504, and below 2^-14 its numbers are multiples of 2^-24; infinity beyond. */
void sd_wrong_half(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fabsf(x[i]) < 6.103515625e-5f) x[i] = rintf(x[i] * 16777216.0f) / 16777216.0f;
        else sd_wrong_round(&x[i], 1, 10);
        if (fabsf(x[i]) > 65504.0f) x[i] = copysignf(INFINITY, x[i]);
    }
}

void sd_wrong_flush(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) < 6.103515625e-5f) x[i] = 0;
}

/* The channels that a UNet is shown beside its latents, of which there are 4. */
void sd_wrong_shown(float *to, const float *x, size_t pixels, size_t c, sd_wrong_order how)
{
    static const unsigned char mask_first[] = {4, 0, 1, 2, 3, 5, 6, 7, 8}, mask_last[] = {0, 1, 2, 3, 5, 6, 7, 8, 4};
    for (size_t p = 0; p < pixels; p++, x += c, to += c)
        for (size_t i = 0; i < c; i++) {
            size_t from = how == SD_SHOWN_FIRST ? (i + 4) % c : how == SD_SHOWN_MASK_FIRST && c == 9 ? mask_first[i]
                : how == SD_SHOWN_MASK_LAST && c == 9 ? mask_last[i] : i;
            bool turned = (how == SD_SHOWN_MASK_INVERTED && c == 9 && i == 4);
            to[i] = turned ? 1 - x[i] : how == SD_SHOWN_NEGATIVE && c == 5 && i == 4 ? -x[i] : x[from];
        }
}
