/* attention.c - floor 2: y = softmax(q k^T / sqrt(d)) v without ever holding a row of weights.
 *
 * A tile of queries goes through the keys SDK_PANEL at a time and keeps, for each query, the largest logit m so far, the sum l of
 * e^(s - m) and the unfinished result o = sum of e^(s - m) v; when m grows by a later piece, l and o shrink by e^(old m - m)
 * [Milakov & Gimelshein 2018; Rabe & Staats 2021]. y = o / l at the end. Keys and values are packed once for all tiles of a head.
 *
 * A query's bits depend on its own row and the keys alone: not on the tile it is in, the threads, or the rest of the batch. */
#include "ops_cpu.h"

#include <math.h>
#include <string.h>

enum { TILE_MAX = 96, PIECE = SDK_PANEL };

typedef struct plan {
    const sd_kern *kern;
    size_t T, S, C, d;
    size_t pieces;          /* of the keys */
    size_t blocks;          /* of d, for the products with the keys */
    size_t tile;            /* queries taken together */
    size_t wide;            /* d and the zeros that make whole vectors of it */
    size_t v_piece;         /* floats of a packed piece of the values; of the keys: PIECE d */
    size_t head;            /* floats of a head's packed keys, and as many more for its values */
    float *packed;
    float scale;            /* log2(e) / sqrt(d): of the queries, so that logits are powers of two */
    bool causal;
} plan;

static size_t block_start(const plan *p, size_t block) { return p->d * block / p->blocks; }

/* Keys as [block of d][strips of the piece's keys], values as [strips of d]. */
static void pack(const plan *p, const float *k, const float *v, float *head, size_t piece)
{
    size_t s0 = piece * PIECE, n = min_size(PIECE, p->S - s0);
    float *keys = head + piece * PIECE * p->d, *values = head + p->pieces * PIECE * p->d + piece * p->v_piece;
    for (size_t b = 0; b < p->blocks; b++) {
        size_t i0 = block_start(p, b);
        p->kern->pack_panel(keys + i0 * PIECE, k + s0 * p->C + i0, p->C, true, n, block_start(p, b + 1) - i0);
    }
    p->kern->pack_panel(values, v + s0 * p->C, p->C, false, p->d, n);
}

/* One thread's working memory: a tile's queries as panels, logits and then weights, unfinished results. */
typedef struct tile { float *q, *s, *o; } tile;

static size_t tile_rows(const plan *p) { return p->tile + SDK_PANEL_SPARE; }
static size_t tile_room(const plan *p)
{
    return floats(p->blocks * tile_rows(p) * SDK_PANEL) + floats(tile_rows(p) * PIECE) + floats(p->tile * p->wide);
}

static tile tile_at(const plan *p, unsigned char *room)
{
    pieces cuts = {room};
    tile t;
    t.q = cut(&cuts, p->blocks * tile_rows(p) * SDK_PANEL * sizeof(float));
    t.s = cut(&cuts, tile_rows(p) * PIECE * sizeof(float));
    t.o = cut(&cuts, p->tile * p->wide * sizeof(float));
    return t;
}

/* n queries of one head from t0; q and y point at the head's first. Products are of whole tiles and vectors: rows from n on are
 * whatever lay there, and keys beyond the last zeros, which softmax_piece drops. */
static void attend(const plan *p, tile t, const float *head, const float *q, float *y, size_t t0, size_t n)
{
    const sd_kern *kern = p->kern;
    float max[TILE_MAX], factor[TILE_MAX];
    double sum[TILE_MAX];
    size_t seen = p->causal ? t0 + n : p->S;   /* by any query of the tile */
    size_t whole = round_up(n, kern->panel_rows);
    for (size_t i = 0; i < n; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
        for (size_t b = 0; b < p->blocks; b++) {
            size_t i0 = block_start(p, b);
            kern->scale(t.q + (b * tile_rows(p) + i) * SDK_PANEL, q + (t0 + i) * p->C + i0, p->scale, block_start(p, b + 1) - i0);
        }
    }
    for (size_t piece = 0; piece * PIECE < seen; piece++) {
        size_t s0 = piece * PIECE, m = min_size(PIECE, p->S - s0), vectors = round_up(m, kern->panel_narrow);
        for (size_t b = 0; b < p->blocks; b++) {
            size_t i0 = block_start(p, b);
            kern->panel(whole, vectors, block_start(p, b + 1) - i0, t.q + b * tile_rows(p) * SDK_PANEL, head + piece * PIECE * p->d + i0 * PIECE,
                        t.s, PIECE, b > 0);
        }
        if (p->causal)
            for (size_t i = 0; i < n; i++)
                for (size_t s = max_size(t0 + i + 1, s0); s < s0 + m; s++) t.s[i * PIECE + s - s0] = -INFINITY;
        kern->softmax_piece(t.s, n, m, max, sum, factor);
        for (size_t i = 0; i < n && piece > 0; i++)
            if (factor[i] != 1) kern->scale(t.o + i * p->wide, t.o + i * p->wide, factor[i], p->wide);
        kern->panel(whole, p->wide, m, t.s, head + p->pieces * PIECE * p->d + piece * p->v_piece, t.o, p->wide, piece > 0);
    }
    for (size_t i = 0; i < n; i++) kern->scale(y + (t0 + i) * p->C, t.o + i * p->wide, (float)(1 / sum[i]), p->d);
}

void sd_attention_tiles(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    plan p = {.kern = r->kern, .T = (size_t)q.dim[1], .S = (size_t)k.dim[1], .C = (size_t)q.dim[2], .causal = causal};
    size_t H = (size_t)heads;
    p.d = p.C / H;
    p.pieces = div_up(p.S, PIECE);
    p.blocks = div_up(p.d, SDK_PANEL);
    p.tile = TILE_MAX / r->kern->panel_rows * r->kern->panel_rows;
    p.wide = round_up(p.d, r->kern->panel_narrow);
    size_t tiles = div_up(p.T, p.tile);
    p.v_piece = round_up(p.d, r->kern->panel_columns) * PIECE;
    p.head = p.pieces * (PIECE * p.d + p.v_piece);
    p.scale = (float)(1.4426950408889634 / sqrt((double)p.d));
    pieces cuts = {sd_scratch(r, floats(H * p.head) + tile_room(&p) * (size_t)r->threads)};
    if (!cuts.at) return;
    p.packed = cut(&cuts, H * p.head * sizeof(float));
    bool small = (size_t)sd_numel(&q) * p.S <= 8 * (size_t)SMALL;
    (void)small;   /* without OpenMP nobody asks */
    for (size_t n = 0; n < (size_t)q.dim[0] && !sd_is_cancelled(r); n++) {   /* one picture's keys at a time */
        const float *qn = sd_f32(q) + n * p.T * p.C, *kn = sd_f32(k) + n * p.S * p.C, *vn = sd_f32(v) + n * p.S * p.C;
        float *yn = sd_f32(y) + n * p.T * p.C;
#pragma omp parallel for num_threads(r->threads) if (!small)
        for (int i = 0; i < (int)(H * p.pieces); i++) {
            size_t h = (size_t)i / p.pieces;
            pack(&p, kn + h * p.d, vn + h * p.d, p.packed + h * p.head, (size_t)i % p.pieces);
        }
#pragma omp parallel for schedule(dynamic) num_threads(r->threads) if (!small)
        for (int i = 0; i < (int)(H * tiles); i++) {
            size_t h = (size_t)i / tiles, t0 = (size_t)i % tiles * p.tile;
            if (sd_is_cancelled(r)) continue;
            attend(&p, tile_at(&p, cuts.at + (size_t)thread_id() * tile_room(&p)), p.packed + h * p.head, qn + h * p.d, yn + h * p.d, t0,
                   min_size(p.tile, p.T - t0));
        }
    }
}
