/* ops_cpu_memory.c - floor 2: the CPU backend's memory: blocks, scratch, numbers from and to the caller, weights. */
#include "ops_cpu.h"

#include <string.h>

/* ------------------------------------------------------------------------------------- blocks */

void *sd_cpu_alloc(sd_run *r, size_t bytes, const char *what)
{
    if (what && sd_need_memory(r->err, (double)bytes, "%s", what)) return NULL;
    void *data = bytes > SIZE_MAX / 2 ? NULL : sd_block_alloc(bytes);
    if (!data && what) sd_fail(r->err, SD_ERR_MEMORY, "no memory for %s: %.1f MB", what, (double)bytes / 1e6);
    return data;
}

void sd_cpu_release(sd_run *r, void *data)
{
    (void)r;
    sd_block_free(data);
}

void *sd_scratch(sd_run *r, size_t bytes)
{
    sd_cpu *cpu = sd_cpu_of(r);
    if (bytes > cpu->scratch_size || !cpu->scratch) {
        sd_cpu_trim(r);
        cpu->scratch = sd_block_alloc(bytes);
        cpu->scratch_size = cpu->scratch ? bytes : 0;
        if (!cpu->scratch)
            sd_fail(r->err, SD_ERR_MEMORY, "%s: no memory for %.1f MB of scratch", r->step ? r->step : "input",
                    (double)bytes / 1e6);
    }
    return cpu->scratch;
}

void *sd_spare(const sd_run *r, const sd_tensor *operand, int n, size_t *bytes)
{
    const sd_arena *a = &r->arena;
    size_t top = a->used;
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)((uintptr_t)operand[i].data - (uintptr_t)a->base),
            end = at + (size_t)sd_numel(&operand[i]) * sizeof(float);
        if (at < a->size && end > top) top = end;   /* others lie elsewhere */
    }
    top = round_up(top, SD_ALIGN);
    *bytes = a->base && top < a->size ? a->size - top : 0;
    return *bytes ? a->base + top : NULL;
}

void sd_cpu_trim(sd_run *r)
{
    sd_cpu *cpu = sd_cpu_of(r);
    sd_block_free(cpu->scratch);
    cpu->scratch = NULL;
    cpu->scratch_size = 0;
}

/* ------------------------------------------------------------------------------------ numbers */

/* Copies with all threads. If the two overlap, `to` is the lower one. So all bytes below the first that is still to be
 * read can be written in any order; then the next lot, and so on. */
void sd_cpu_copy(sd_run *r, sd_tensor y, sd_tensor x)
{
    enum { PIECE = 1 << 18 };
    unsigned char *to = y.data;
    const unsigned char *from = x.data;
    size_t bytes = (size_t)sd_numel(&x) * sizeof(float), gap = (uintptr_t)from - (uintptr_t)to;
    (void)r;   /* used only with OpenMP */
    if (gap < 4 * PIECE) memmove(to, from, bytes);
    for (size_t at = 0; at < bytes && gap >= 4 * PIECE; at += gap) {
        size_t n = min_size(bytes - at, gap);
        int parts = (int)div_up(n, PIECE);
#pragma omp parallel for num_threads(sd_cpu_of(r)->threads) if (parts > 1)
        for (int i = 0; i < parts; i++) {
            size_t begin = at + (size_t)i * PIECE;
            memcpy(to + begin, from + begin, min_size(PIECE, at + n - begin));
        }
        if (n < gap) break;
    }
}

/* y[n][c][p] = x[n][p][c]: in tiles, because one of the two is always read or written across cache lines. */
static void transpose(sd_run *r, float *y, const float *x, size_t N, size_t P, size_t C)
{
    enum { TILE_C = 16, TILE_P = 256 };
    size_t strips = div_up(C, TILE_C);
    (void)r;   /* used only with OpenMP */
#pragma omp parallel for num_threads(sd_cpu_of(r)->threads) if (N * P * C > SMALL)
    for (int s = 0; s < (int)(N * strips); s++) {
        size_t n = (size_t)s / strips, c0 = (size_t)s % strips * TILE_C, c1 = min_size(c0 + TILE_C, C);
        const float *from = x + n * P * C;
        float *to = y + n * P * C;
        for (size_t p0 = 0; p0 < P; p0 += TILE_P) {
            size_t p1 = min_size(p0 + TILE_P, P);
            for (size_t c = c0; c < c1; c++)
                for (size_t p = p0; p < p1; p++) to[c * P + p] = from[p * C + c];
        }
    }
}

void sd_cpu_upload(sd_run *r, sd_tensor y, const float *from, bool channels_first)
{
    size_t n = (size_t)sd_numel(&y), N = (size_t)y.dim[0], C = (size_t)cols(y);
    if (channels_first) transpose(r, sd_f32(y), from, N, C, n / N / C);   /* [N,C,P] -> [N,P,C] */
    else memcpy(y.data, from, n * sizeof *from);
}

void sd_cpu_download(sd_run *r, sd_tensor x, float *to, bool channels_first)
{
    size_t n = (size_t)sd_numel(&x), N = (size_t)x.dim[0], C = (size_t)cols(x);
    if (channels_first) transpose(r, to, sd_f32(x), N, n / N / C, C);     /* [N,P,C] -> [N,C,P] */
    else memcpy(to, x.data, n * sizeof *to);
}

/* ------------------------------------------------------------------------------------ weights */

const float *sd_cpu_f32(sd_run *r, const sd_tensor *w, float *room)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    if (!w) return NULL;
    if (is_f32(w)) return w->data;
    size_t n = (size_t)sd_numel(w), step = 16384;   /* a multiple of every type's block */
    int tasks = (int)div_up(n, step);
#pragma omp parallel for num_threads(cpu->threads) if (n > SMALL)
    for (int t = 0; t < tasks; t++) {
        size_t at = (size_t)t * step;
        sd_widen_weight(room + at, w, at, min_size(step, n - at), cpu->kern);
    }
    return room;
}
