/* simd_pack.h - floor 1: operands of products, packed into strips, for simd_gemm.h: numbers of 16 bits widened, rows
 * turned.
 *
 * A strip [kc][width] has some columns of B side by side, so that a tile reads it in order: as wide as a tile, or one
 * vector wide if the last columns fill no more. */
#ifndef SD_SIMD_PACK_H
#define SD_SIMD_PACK_H

#include "simd_rows.h"

enum { TILE_COLUMNS = TILE_VECTORS * VL };

/* The width of the strip that has these columns, at most TILE_COLUMNS; of more, that of a whole strip */
static inline size_t strip_width(size_t columns) { return columns > VL ? TILE_COLUMNS : VL; }

/* How the numbers of B are stored: as floats, or in 16 bits, which widen_f16 and widen_bf16 convert. */
typedef enum stored { FLOATS, HALVES, BFLOATS } stored;

static inline stored stored_for(sdk_widen *widen)
{
    return !widen ? FLOATS : widen == widen_bf16 ? BFLOATS : HALVES;
}

/* The vector at `from`, of which `left` numbers may be touched; the rest reads as 0. */
INLINE vf get_stored(stored as, const void *from, size_t left)
{
    if (as == FLOATS)
        return get(from, left);
    if (left >= VL)
        return as == HALVES ? v_widen_f16(from) : v_widen_bf16(from);
    uint16_t part[VL] = {0};
    memcpy(part, from, left * sizeof *part);
    return as == HALVES ? v_widen_f16(part) : v_widen_bf16(part);
}

/* Where number `number` from `from` on lies */
static inline const void *stored_at(stored as, const void *from, size_t number)
{
    return (const unsigned char *)from + number * (as == FLOATS ? sizeof(float) : sizeof(uint16_t));
}

/* Where `turn` writes its next row. Numbers of a convolution's weight lie as [channel][tap], and their rows as
 * [tap][channel]: `along` from one tap to the next, `back` from the last tap to the next channel's first. */
typedef struct place {
    float *row;
    size_t tap, taps;
    ptrdiff_t along, back;
} place;

INLINE void next_place(place *p)
{
    bool last = ++p->tap == p->taps;
    p->row += last ? -p->back : p->along;
    p->tap = last ? 0 : p->tap;
}

/* `rows` x `columns` numbers, at most VL each, turned; constants for a whole block. */
INLINE void turn_block(place *to, stored as, const void *from, size_t from_stride, size_t rows, size_t columns)
{
    vf r[VL];
    UNROLL for (size_t i = 0; i < VL; i++)
        r[i] = i < rows ? get_stored(as, stored_at(as, from, i * from_stride), columns) : v_set1(0.0f);
    v_transpose(r);
    UNROLL for (size_t j = 0; j < VL; j++)
        if (j < columns) {
            put(to->row, rows, r[j]);
            next_place(to);
        }
}

/* to[j' to_stride + i] = from[i from_stride + j], i < rows, j < columns. j is channel taps + tap, and j' is tap
 * channels + channel, the order of a convolution's unfolded input. */
INLINE void turn(float *to, size_t to_stride, stored as, const void *from, size_t from_stride, size_t rows,
                 size_t columns, size_t taps)
{
    ptrdiff_t stride = (ptrdiff_t)to_stride, along = (ptrdiff_t)(columns / taps) * stride,
        back = (ptrdiff_t)(taps - 1) * along - stride;
    for (size_t i = 0; i < rows; i += VL) {
        place p = {to + i, 0, taps, along, back};
        const void *row = stored_at(as, from, i * from_stride);
        size_t j = 0;
        if (rows - i >= VL)
            for (; j + VL <= columns; j += VL) {
                UNROLL for (size_t k = 0; k < VL; k++)   /* of the next rows: they come from memory */
                    __builtin_prefetch(stored_at(as, row, j + (VL + k) * from_stride));
                turn_block(&p, as, stored_at(as, row, j), from_stride, VL, VL);
            }
        for (; j < columns; j += VL)
            turn_block(&p, as, stored_at(as, row, j), from_stride, min_size(rows - i, VL), min_size(columns - j, VL));
    }
}

static void transpose(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns)
{
    turn(to, to_stride, FLOATS, from, from_stride, rows, columns, 1);
}

/* Packs `columns` of B as a strip [kc][width], with zeros up to the width, from rows [columns, ldb], which are turned.
 * One function for each way to store numbers, with and without taps: it is a constant in most of them. */
#define TURN(as, taps) turn(to, width, as, b, ldb, columns, kc, taps)
static void pack_turned(float *to, size_t width, stored as, const void *b, size_t ldb, size_t columns, size_t kc,
                        size_t taps)
{
    if (columns < width)
        memset(to, 0, kc * width * sizeof(float));
    switch (as) {
    case FLOATS: if (taps == 1) TURN(FLOATS, 1); else TURN(FLOATS, taps); break;
    case HALVES: if (taps == 1) TURN(HALVES, 1); else TURN(HALVES, taps); break;
    case BFLOATS: if (taps == 1) TURN(BFLOATS, 1); else TURN(BFLOATS, taps); break;
    }
}

/* The same from rows [K, columns], which need not be turned. */
static void pack_straight(float *to, size_t width, const float *b, size_t ldb, size_t columns, size_t kc)
{
    if (columns < width)
        memset(to, 0, kc * width * sizeof(float));
    for (size_t k = 0; k < kc; k++)
        for (size_t j = 0; j < columns; j += VL)
            put(to + k * width + j, columns - j, get(b + k * ldb + j, columns - j));
}

/* See kernels.h. */
static void pack_panel(float *to, const void *b, size_t ldb, bool b_trans, sdk_widen *widen, size_t columns, size_t kc)
{
    stored as = stored_for(widen);
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        size_t n = min_size(columns - j, TILE_COLUMNS);
        if (b_trans)
            pack_turned(to + j * kc, strip_width(n), as, stored_at(as, b, j * ldb), ldb, n, kc, 1);
        else
            pack_straight(to + j * kc, strip_width(n), (const float *)b + j, ldb, n, kc);
    }
}

/* See kernels.h. */
static void pack_conv(float *to, const void *w, sdk_widen *widen, size_t columns, size_t channels, size_t taps)
{
    stored as = stored_for(widen);
    size_t K = channels * taps;
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
        size_t n = min_size(columns - j, TILE_COLUMNS);
        pack_turned(to + j * K, strip_width(n), as, stored_at(as, w, j * K), K, n, K, taps);
    }
}

/* n numbers as floats */
static inline void copy_row(float *to, const void *from, stored as, size_t n)
{
    if (as == FLOATS)
        memcpy(to, from, n * sizeof(float));
    else
        (as == HALVES ? widen_f16 : widen_bf16)(to, from, n);
}

#endif
