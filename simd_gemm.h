/* simd_gemm.h - floor 1: the matrix product in vectors, for kernels_simd.c.
 *
 * The order of Goto & van de Geijn 2008 ("Anatomy of High-Performance Matrix Multiplication"), with A and B exchanged:
 * a tile of C, TILE_ROWS x TILE_COLUMNS, stays in registers while k runs over a block of at most BLOCK_K. Its rows of A
 * stay in the L1 cache while the strips of a block of B, BLOCK_N columns at most, come from the L2 cache. B is first
 * copied to scratch, transposed so that a tile's columns are side by side: a strip (simd_pack.h). Of A a tile reads
 * single numbers, so it need not be transposed. Rows of floats are read where they lie, if the addresses of a tile's
 * rows fit the registers (IN_PLACE in simd.h) and their cache lines do not compete for a few places of the L1 cache
 * (in_place); all other rows are read from a copy.
 *
 * Every element is the sum over blocks of k, in order, of sums over k, in order, each in float with FMA; K alone
 * decides where blocks end. Short blocks also keep the error below that of one long sum. */
#ifndef SD_SIMD_GEMM_H
#define SD_SIMD_GEMM_H

#include "simd_pack.h"

enum {
    TALL_ROWS = TILE_ROWS * TILE_VECTORS,   /* of the tile one vector wide, for the rest of N */
    BLOCK_K = 192,                          /* terms that are added in one go */
    BLOCK_N = 768 / TILE_COLUMNS * TILE_COLUMNS,
    A_STRIDE = BLOCK_K + LINE,              /* no power of two: a tile's rows would share cache lines' places */
    TURNED_ROWS = 8 * TILE_ROWS,            /* of B that gemm_turned multiplies at a time, about */
    GEMM_SCRATCH = BLOCK_K * BLOCK_N + TALL_ROWS * A_STRIDE,   /* floats: a block of B, a tile's rows of A */
    /* No constant if gemm_turned's sums did not fit where gemm has its block of B */
    SUMS_FIT = 1 / ((TURNED_ROWS + VL) * (SDK_TURNED + TILE_COLUMNS + LINE) <= BLOCK_K * BLOCK_N)
};

/* The first `columns` of a tile of `rows` x `vectors` vectors: c = acc + plus. */
INLINE void finish_tile(const vf *acc, size_t rows, size_t vectors, size_t columns, float *c, size_t ldc,
                        const float *plus, size_t ldp)
{
    UNROLL for (size_t j = 0; j < vectors; j++) {
        size_t n = columns > j * VL ? columns - j * VL : 0;
        UNROLL for (size_t i = 0; i < rows; i++) {
            vf v = acc[i * vectors + j];
            if (plus)
                v = v_add(v, get(plus + i * ldp + j * VL, n));
            put(c + i * ldc + j * VL, n, v);
        }
    }
}

/* Prefetches the cache lines of c: a store waits for its line, and stores wait for each other. */
INLINE void fetch_tile(size_t rows, size_t vectors, const float *c, size_t ldc)
{
    UNROLL for (size_t i = 0; i < rows; i++)
        UNROLL for (size_t j = 0; j < vectors * VL; j += LINE)
            __builtin_prefetch(c + i * ldc + j, 1);
}

/* c = a b + plus for one tile of `rows` x `vectors` vectors, which are compile-time constants; a's rows are `stride`
 * apart. b is [kc][vectors VL], of which the first `columns` belong to c. plus may be NULL, or c itself; its rows are
 * ldp apart; ldp 0: the same row for all. If `fetches`, the kc floats at `ahead` are prefetched, because they are
 * wanted soon: one with each k, for they come from the L3 cache or from memory, and all at once would wait for each
 * other. */
INLINE void multiply_tile(size_t rows, size_t vectors, size_t stride, size_t columns, size_t kc, const float *a,
                          const float *b, float *c, size_t ldc, const float *plus, size_t ldp, bool fetches,
                          const unsigned char *ahead)
{
    vf acc[TILE_ROWS * TILE_VECTORS];
    fetch_tile(rows, vectors, c, ldc);
    UNROLL for (size_t i = 0; i < rows * vectors; i++)
        acc[i] = v_set1(0.0f);
    for (size_t k = 0; k < kc; k++) {
        vf bk[TILE_VECTORS];
        if (fetches)
            __builtin_prefetch(ahead + k * sizeof(float));
        UNROLL for (size_t j = 0; j < vectors; j++)
            bk[j] = v_load(b + (k * vectors + j) * VL);
        UNROLL for (size_t i = 0; i < rows; i++) {
            vf ai = v_set1(a[i * stride + k]);
            UNROLL for (size_t j = 0; j < vectors; j++)
                acc[i * vectors + j] = v_fma(ai, bk[j], acc[i * vectors + j]);
        }
    }
    if (columns == vectors * VL)
        finish_tile(acc, rows, vectors, vectors * VL, c, ldc, plus, ldp);   /* columns is a constant here */
    else
        finish_tile(acc, rows, vectors, columns, c, ldc, plus, ldp);
}

/* Tiles of every height up to TILE_ROWS, so that the last rows of a block leave no sums idle, and of the shape's
 * greatest height, which is one of 8, 12, 14, 16, 24 and 28. */
#define HEIGHT(n) \
    case n: \
        if (n <= TILE_ROWS || n == MOST) \
            multiply_tile(n, VECTORS, stride, columns, kc, a, b, c, ldc, plus, ldp, FETCHES, ahead); \
        break;
#define TILES(name, most, vectors, a_stride, fetches) \
    static void name(size_t rows, size_t columns, size_t kc, const float *a, size_t lda, const float *b, float *c, \
                     size_t ldc, const float *plus, size_t ldp, const void *ahead) \
    { \
        enum { MOST = most, VECTORS = vectors, FETCHES = fetches }; \
        const size_t stride = a_stride; \
        (void)lda; \
        switch (rows) { \
            HEIGHT(1) HEIGHT(2) HEIGHT(3) HEIGHT(4) HEIGHT(5) HEIGHT(6) HEIGHT(7) HEIGHT(8) HEIGHT(9) HEIGHT(10) \
            HEIGHT(11) HEIGHT(12) HEIGHT(13) HEIGHT(14) HEIGHT(16) HEIGHT(24) HEIGHT(28) \
        } \
    }

TILES(wide_tile, TILE_ROWS, TILE_VECTORS, IN_PLACE ? lda : A_STRIDE, IN_PLACE)
TILES(tall_tile, TALL_ROWS, 1, IN_PLACE ? lda : A_STRIDE, IN_PLACE)
TILES(wide_panel, TILE_ROWS, TILE_VECTORS, SDK_PANEL, false)
TILES(tall_panel, TALL_ROWS, 1, SDK_PANEL, false)

/* Two shapes with the same number of sums in registers, each for a product's and for a panel's rows of a. */
typedef void tile_fn(size_t rows, size_t columns, size_t kc, const float *a, size_t lda, const float *b, float *c,
                     size_t ldc, const float *plus, size_t ldp, const void *ahead);
typedef struct shapes {
    tile_fn *wide, *tall;
} shapes;
static const shapes for_gemm = {wide_tile, tall_tile}, for_panel = {wide_panel, tall_panel};

/* How rows are shared out among tiles: so many tall ones, then tiles of low + 1 rows, then of low ones. What is left
 * after the tall tiles is shared out evenly, because a very low tile would wait for its own sums. */
typedef struct heights { size_t tall, higher, low; } heights;

static inline heights heights_of(size_t rows, size_t columns)
{
    heights h = {.tall = columns <= VL ? rows / TALL_ROWS : 0};
    size_t left = rows - h.tall * TALL_ROWS, tiles = (left + TILE_ROWS - 1) / TILE_ROWS;
    h.low = left;
    if (tiles > 1) {   /* 32 bits: a division of 64 takes longer than some products */
        h.low = (uint32_t)left / (uint32_t)tiles;
        h.higher = left - h.low * tiles;
    }
    return h;
}

static inline size_t next_height(heights *h)
{
    if (h->tall) {
        h->tall--;
        return TALL_ROWS;
    }
    if (!h->higher)
        return h->low;
    h->higher--;
    return h->low + 1;
}

/* Strips [depth][strip_width], one after the other; of each, rows from k0 on are used. */
typedef struct strips {
    const float *at;
    size_t depth, k0;
} strips;

/* Of n numbers from `at` on, `each` are fetched with every tile: many at once would wait for each other, and the tile's
 * own loads for them. */
typedef struct fetching {
    const float *at;
    size_t n, each;
} fetching;

static inline void fetch_share(fetching *f)
{
    size_t n = min_size(f->n, f->each);
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i += LINE)
        __builtin_prefetch(f->at + i);
    f->at += n;
    f->n -= n;
}

/* Rows of a product's left operand, `ld` numbers apart. */
typedef struct rows_of {
    const void *at;
    size_t ld;
    stored as;
} rows_of;

static inline const void *row_at(rows_of a, size_t i) { return stored_at(a.as, a.at, i * a.ld); }

/* The first n numbers of row i */
static inline void fetch_row(rows_of a, size_t i, size_t n)
{
    for (size_t k = 0; k < n; k += a.as == FLOATS ? LINE : 2 * LINE)
        __builtin_prefetch(stored_at(a.as, row_at(a, i), k));
}

/* c[rows, columns] = a b + plus, strip after strip. next: the `rows_ahead` rows of A that are wanted next. While strip
 * number s is multiplied, its tiles prefetch row s of them; where there are more rows than strips, rows s + strips and
 * so on are prefetched before. (Where rows are always copied, none of these are.) ahead: SDK_AHEAD places, of each of
 * which every tile prefetches its share; or NULL. */
INLINE void multiply_block(const shapes *shape, size_t rows, size_t columns, size_t kc, const float *a, size_t lda,
                           strips b, float *c, size_t ldc, const float *plus, size_t ldp, rows_of next,
                           size_t rows_ahead, fetching *ahead)
{
    size_t strips_of_b = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    for (size_t j = 0, s = 0; j < columns; j += TILE_COLUMNS, s++) {
        size_t n = min_size(columns - j, TILE_COLUMNS);
        const float *strip = b.at + j * b.depth + b.k0 * strip_width(n);
        tile_fn *multiply = n > VL ? shape->wide : shape->tall;
        const void *fetched = s < rows_ahead ? row_at(next, s) : a;
        for (size_t r = s + strips_of_b; IN_PLACE && r < rows_ahead; r += strips_of_b)
            fetch_row(next, r, kc);
        heights h = heights_of(rows, n);
        for (size_t i = 0, height; i < rows; i += height) {
            height = next_height(&h);
            if (ahead)
                UNROLL for (size_t k = 0; k < SDK_AHEAD; k++)
                    fetch_share(ahead + k);
            multiply(height, n, kc, a + i * lda, lda, strip, c + i * ldc + j, ldc, plus ? plus + i * ldp + j : NULL,
                     ldp, fetched);
        }
    }
}

static void panel(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc,
                  bool accumulate)
{
    multiply_block(&for_panel, rows, columns, kc, a, SDK_PANEL, (strips){b, kc, 0}, c, ldc, accumulate ? c : NULL, ldc,
                   (rows_of){0}, 0, NULL);
}

static void panel_ahead(size_t rows, size_t columns, size_t kc, const float *a, const float *b, float *c, size_t ldc,
                        bool accumulate, const sdk_ahead ahead[SDK_AHEAD])
{
    size_t height = columns > VL ? TILE_ROWS : TALL_ROWS;
    size_t tiles = (rows + height - 1) / height * ((columns + TILE_COLUMNS - 1) / TILE_COLUMNS);
    fetching f[SDK_AHEAD];
    tiles = tiles ? tiles : 1;
    for (size_t k = 0; k < SDK_AHEAD; k++) {
        size_t lines = (ahead[k].n + LINE - 1) / LINE;
        f[k] = (fetching){ahead[k].at, ahead[k].n, (lines + tiles - 1) / tiles * LINE};
    }
    multiply_block(&for_panel, rows, columns, kc, a, SDK_PANEL, (strips){b, kc, 0}, c, ldc, accumulate ? c : NULL, ldc,
                   (rows_of){0}, 0, f);
}

/* May a tile read these rows where they lie? Those that begin a multiple of 4 KiB apart would share a few places of the
 * L1 cache. */
static inline bool in_place(rows_of a) { return IN_PLACE && a.as == FLOATS && a.ld % 1024 != 0; }

/* C[M,N] = A[M,kc] B + plus, see multiply_tile; a tile's height of rows passes all columns before the next. then: rows
 * that are wanted after those of A, as many of them, or NULL. room: for a copy of a tile's rows of A. */
static void multiply_rows(float *room, size_t M, size_t N, size_t kc, rows_of A, const void *then, strips b, float *C,
                          size_t ldc, const float *plus, size_t ldp)
{
    bool copied = !in_place(A);
    heights h = heights_of(M, N);
    for (size_t i = 0, height; i < M; i += height) {
        height = next_height(&h);
        const float *rows = copied ? room : row_at(A, i);
        if (copied)
            for (size_t r = 0; r < height; r++)
                copy_row(room + r * A_STRIDE, row_at(A, i + r), A.as, kc);
        size_t left = M - i - height;
        rows_of next = {left ? row_at(A, i + height) : then, A.ld, A.as};
        multiply_block(&for_gemm, height, N, kc, rows, copied ? A_STRIDE : A.ld, b, C + i * ldc, ldc,
                       plus ? plus + i * ldp : NULL, ldp, next, left ? min_size(left, height) : then ? height : 0,
                       NULL);
    }
}

static inline size_t blocks_of(size_t K) { return K ? (K + BLOCK_K - 1) / BLOCK_K : 1; }

static void gemm(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const void *B, size_t ldb,
                 bool b_trans, sdk_widen *widen, float *C, size_t ldc, const float *bias)
{
    float *packed = scratch, *room = packed + BLOCK_K * BLOCK_N;
    size_t blocks = blocks_of(K);
    for (size_t j0 = 0; j0 < N; j0 += BLOCK_N) {
        size_t nc = min_size(N - j0, BLOCK_N);
        for (size_t block = 0; block < blocks; block++) {
            size_t k0 = K * block / blocks, kc = K * (block + 1) / blocks - k0;
            size_t from = b_trans ? j0 * ldb + k0 : k0 * ldb + j0;
            pack_panel(packed, stored_at(stored_for(widen), B, from), ldb, b_trans, widen, nc, kc);
            const float *plus = block ? C + j0 : bias ? bias + j0 : NULL;
            multiply_rows(room, M, nc, kc, (rows_of){A + k0, lda, FLOATS}, NULL, (strips){packed, kc, 0}, C + j0, ldc,
                          plus, block ? ldc : 0);
        }
    }
}

static void gemm_packed(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const float *packed,
                        float *C, size_t ldc, const float *bias)
{
    size_t blocks = blocks_of(K);
    for (size_t block = 0; block < blocks; block++) {
        size_t k0 = K * block / blocks, kc = K * (block + 1) / blocks - k0;
        multiply_rows(scratch, M, N, kc, (rows_of){A + k0, lda, FLOATS}, NULL, (strips){packed, K, k0}, C, ldc,
                      block ? C : bias, block ? ldc : 0);
    }
}

/* C^T = B A^T: rows of B are the left operand, read where they lie; A's strips are the right one. About TURNED_ROWS
 * rows of B are taken at a time: their sums stay in scratch, over all blocks of k, and are then turned into C. */
static void gemm_turned(void *scratch, size_t M, size_t N, size_t K, const float *packed, const void *B, size_t ldb,
                        sdk_widen *widen, float *C, size_t ldc, const float *bias, const void *after)
{
    size_t blocks = blocks_of(K), strips_end = M / TILE_COLUMNS * TILE_COLUMNS,
        width = strips_end + (M > strips_end ? strip_width(M - strips_end) : 0), ldt = width + LINE;
    float *room = scratch, *turned = room + TALL_ROWS * A_STRIDE;
    rows_of rows = {B, ldb, stored_for(widen)};
    size_t times = (N + TURNED_ROWS - 1) / TURNED_ROWS,
        few = times ? (N + times * VL - 1) / (times * VL) * VL : 1;   /* equal numbers of rows, whole vectors */
    for (size_t j = 0; j < N; j += few) {
        size_t n = min_size(N - j, few);
        for (size_t i = 0; bias && i < n; i++)
            for (size_t m = 0; m < width; m += VL)
                v_store(turned + i * ldt + m, v_set1(bias[j + i]));
        for (size_t block = 0; block < blocks; block++) {
            size_t k0 = K * block / blocks, k1 = K * (block + 1) / blocks;
            rows_of here = {stored_at(rows.as, row_at(rows, j), k0), ldb, rows.as};
            const void *then = block + 1 < blocks ? stored_at(rows.as, here.at, k1 - k0)
                : j + n < N ? row_at(rows, j + n) : after;
            multiply_rows(room, n, width, k1 - k0, here, then, (strips){packed, K, k0}, turned, ldt,
                          block || bias ? turned : NULL, ldt);
        }
        for (size_t m = 0; m < M; m += VL) {
            for (size_t i = m + VL; i < min_size(M, m + 2 * VL); i++)   /* the next rows: their lines are far away */
                for (size_t c = 0; c < n; c += LINE)
                    __builtin_prefetch(C + i * ldc + j + c, 1);
            transpose(C + m * ldc + j, ldc, turned + m, ldt, n, min_size(VL, M - m));
        }
    }
}

#endif
