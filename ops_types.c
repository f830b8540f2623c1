/* ops_types.c - floor 2: numbers of every type as floats. */
#include "ops.h"

#include <string.h>

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

static widen *const table[] = {
    [SD_F32] = widen_f32, [SD_F16] = widen_f16, [SD_BF16] = widen_bf16, [SD_F64] = widen_f64,
};

void sd_widen(float *y, const void *x, sd_dtype dt, size_t n, const sd_kern *k)
{
    widen *fn = (size_t)dt < SD_COUNT(table) ? table[dt] : NULL;
    if (fn) fn(y, x, n, k);
    else memset(y, 0, n * sizeof *y);   /* binding refuses integer weights */
}

void sd_widen_weight(float *y, const sd_tensor *w, size_t at, size_t n, const sd_kern *k)
{
    sd_widen(y, (const unsigned char *)w->data + sd_dtype_bytes(w->dt, at), w->dt, n, k);
    if (w->scale != 0)
        for (size_t i = 0; i < n; i++) y[i] *= w->scale;
}
