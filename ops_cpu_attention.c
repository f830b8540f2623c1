/* ops_cpu_attention.c - floor 2: y = softmax(q k^T / sqrt(d)) v [Vaswani et al. 2017, eq. 1], with fast kernels without
 * ever holding a row of weights.
 *
 * Everything is transposed: queries are columns. A strip of queries, as wide as the panel functions' strips, goes
 * through the keys SDK_PANEL at a time. For each query it keeps the largest logit m so far, the sum l of e^(s - m) and
 * the unfinished result o = sum of e^(s - m) v. When a later piece raises m, l and o are multiplied by e^(old m - m)
 * [Milakov & Gimelshein 2018; Rabe & Staats 2021]. At the end y = o / l.
 *
 *   S^T [keys, queries] = K Q^T     a piece of the keys is the panel, the queries are the strip
 *   O^T [d, queries] += V^T P^T     the transposed values are the panel, the weights P^T replace S^T: already a strip
 *
 * So a query's maximum and sum stay in one lane of a vector, and neither 77 keys nor a head of 40 numbers leaves a part
 * of a vector idle. Keys and values are packed once for all strips of a head; the strips of a tile share a piece of
 * them.
 *
 * A query's bits depend on its own row, the keys and the values alone: not on the strip or tile it is in, the threads,
 * or the rest of the batch. */
#include "ops_cpu.h"

#include <math.h>

enum {
    TILE = 96,           /* queries of a tile, at most */
    PIECE = SDK_PANEL,   /* keys of a piece */
    WIDEST = 32,         /* queries of the widest strip */
    NARROWEST = 4,       /* and of the narrowest one */
    CHUNK = 48           /* numbers of a value, of the d: so many of a piece's values fit L1 beside the weights */
};

/* One attention, and how it is split. */
typedef struct split {
    const sd_kern *kern;
    size_t T, S, C, d;
    size_t pieces;          /* of the keys */
    size_t blocks;          /* of d, for the products with the keys */
    size_t strips;          /* of a tile */
    size_t tiles;           /* of a head */
    size_t piece;           /* floats of a packed piece: keys in panels [block of d][PIECE], then V^T */
    float *packed;          /* [head][piece] */
    float scale;            /* log2(e) / sqrt(d), applied to the keys, so that weights are 2^logit */
    bool causal;
} split;

static size_t block_start(const split *p, size_t block) { return p->d * block / p->blocks; }
static size_t block_size(const split *p, size_t block) { return block_start(p, block + 1) - block_start(p, block); }
static size_t tile_queries(const split *p) { return p->strips * p->kern->panel_columns; }

/* Packs the piece of keys and values that begins with key s0: keys as they are, scaled; values transposed. */
static void pack(const split *p, const float *k, const float *v, float *to, size_t s0)
{
    size_t n = min_size(PIECE, p->S - s0);
    for (size_t b = 0; b < p->blocks; b++)
        for (size_t i = 0; i < n; i++)
            p->kern->scale(to + (b * PIECE + i) * SDK_PANEL, k + (s0 + i) * p->C + block_start(p, b), p->scale,
                           block_size(p, b));
    p->kern->transpose(to + p->blocks * PIECE * SDK_PANEL, SDK_PANEL, v + s0 * p->C, p->C, n, p->d);
}

/* n queries from t0 on, one lane for each: queries and unfinished results are [d][width]; logits, which become weights,
 * are [PIECE][width]. */
typedef struct strip {
    size_t t0, n, width;
    float *q, *o, *s;
    float max[WIDEST];
    double sum[WIDEST];
} strip;

static size_t strip_room(const split *p)
{
    return 2 * floats(p->d * p->kern->panel_columns) + floats(PIECE * p->kern->panel_columns);
}

static strip begin(const split *p, pieces *room, const float *q, size_t t0, size_t n)
{
    size_t narrow = p->kern->panel_narrow;
    strip g = {.t0 = t0, .n = n, .width = n > narrow ? p->kern->panel_columns : narrow};
    g.q = cut(room, p->d * g.width * sizeof(float));
    g.o = cut(room, p->d * g.width * sizeof(float));
    g.s = cut(room, PIECE * g.width * sizeof(float));
    for (size_t c = 0; c < g.width; c++) g.max[c] = -INFINITY;
    p->kern->pack_panel(g.q, q + t0 * p->C, p->C, true, NULL, n, p->d);
    return g;
}

/* How many of the keys s0 .. s0 + PIECE - 1 any query of the strip sees. */
static size_t seen(const split *p, const strip *g, size_t s0)
{
    size_t end = p->causal ? g->t0 + g->n : p->S;
    return s0 < end ? min_size(PIECE, end - s0) : 0;
}

/* Turns the logits of the keys from s0 on into weights. */
static void weigh(const split *p, strip *g, size_t s0)
{
    float factor[WIDEST];
    size_t n = seen(p, g, s0);
    for (size_t i = 0; p->causal && i < n; i++)   /* queries before key s0 + i */
        for (size_t c = 0; c < g->width && g->t0 + c < s0 + i; c++) g->s[i * g->width + c] = -INFINITY;
    bool grew = p->kern->softmax_piece(g->s, n, g->width, g->max, g->sum, factor);
    if (grew && s0 > 0) p->kern->scale_columns(g->o, p->d, g->width, factor);
}

/* All strips process the piece of keys and values that begins at key s0, one block of it after the other, so that the
 * block stays in the L1 cache. */
static void attend(const split *p, strip *tile, size_t strips, const float *keys, size_t s0)
{
    const sd_kern *kern = p->kern;
    const float *values = keys + p->blocks * PIECE * SDK_PANEL;
    for (size_t b = 0; b < p->blocks; b++)
        for (strip *g = tile; g < tile + strips; g++)
            kern->panel(seen(p, g, s0), g->width, block_size(p, b), keys + b * PIECE * SDK_PANEL,
                        g->q + block_start(p, b) * g->width, g->s, g->width, b > 0);
    for (strip *g = tile; g < tile + strips; g++) weigh(p, g, s0);
    size_t chunks = div_up(p->d, CHUNK);
    for (size_t b = 0; b < chunks; b++) {
        size_t i0 = p->d * b / chunks, i1 = p->d * (b + 1) / chunks;
        for (strip *g = tile; g < tile + strips; g++)
            kern->panel(i1 - i0, g->width, seen(p, g, s0), values + i0 * SDK_PANEL, g->s, g->o + i0 * g->width,
                        g->width, s0 > 0);
    }
}

/* y = o / l, transposed back */
static void finish(const split *p, const strip *g, float *y)
{
    float factor[WIDEST];
    for (size_t c = 0; c < g->width; c++) factor[c] = (float)(1 / g->sum[c]);
    p->kern->scale_columns(g->o, p->d, g->width, factor);
    p->kern->transpose(y + g->t0 * p->C, p->C, g->o, g->width, p->d, g->n);
}

/* A tile of one head: the queries from t0 on. `packed` has the head's packed keys and values. */
static void attend_tile(const split *p, unsigned char *room, const float *packed, const float *q, float *y, size_t t0)
{
    strip tile[TILE / NARROWEST];
    pieces cuts = {room};
    size_t end = min_size(t0 + tile_queries(p), p->T), strips = 0;
    for (size_t t = t0; t < end; t += p->kern->panel_columns)
        tile[strips++] = begin(p, &cuts, q, t, min_size(p->kern->panel_columns, end - t));
    for (size_t piece = 0; piece < p->pieces; piece++)
        attend(p, tile, strips, packed + piece * p->piece, piece * PIECE);
    for (strip *g = tile; g < tile + strips; g++) finish(p, g, y);
}

static split split_of(const sd_cpu *cpu, sd_tensor q, sd_tensor k, int heads, bool causal)
{
    split p = {.kern = cpu->kern, .T = (size_t)q.dim[1], .S = (size_t)k.dim[1], .C = (size_t)q.dim[2],
               .causal = causal};
    const double log2_e = 1.4426950408889634;
    p.d = p.C / (size_t)heads;
    p.pieces = div_up(p.S, PIECE);
    p.blocks = div_up(p.d, SDK_PANEL);
    p.piece = p.blocks * PIECE * SDK_PANEL + p.d * SDK_PANEL;
    p.scale = (float)(log2_e / sqrt((double)p.d));
    size_t half = max_size(cpu->caches.l2, (size_t)256 << 10) / 2;   /* of the L2 cache, for a tile */
    p.strips = max_size(1, min_size(TILE / p.kern->panel_columns, half / strip_room(&p)));
    p.tiles = div_up(p.T, tile_queries(&p));
    return p;
}

static void attention_in_pieces(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    split p = split_of(cpu, q, k, heads, causal);
    size_t H = (size_t)heads, head = p.pieces * p.piece, tile_room = p.strips * strip_room(&p);
    pieces cuts = {sd_scratch(r, floats(H * head) + tile_room * (size_t)cpu->threads)};
    if (!cuts.at) return;
    p.packed = cut(&cuts, H * head * sizeof(float));
    bool small = (size_t)sd_numel(&q) * p.S <= 8 * (size_t)SMALL;
    (void)small;   /* unused without OpenMP */
    for (size_t n = 0; n < (size_t)q.dim[0] && !sd_is_cancelled(r); n++) {   /* one picture's keys at a time */
        const float *qn = sd_f32(q) + n * p.T * p.C, *kn = sd_f32(k) + n * p.S * p.C, *vn = sd_f32(v) + n * p.S * p.C;
        float *yn = sd_f32(y) + n * p.T * p.C;
#pragma omp parallel for num_threads(cpu->threads) if (!small)
        for (int i = 0; i < (int)(H * p.pieces); i++) {
            size_t at = (size_t)i / p.pieces * p.d;
            pack(&p, kn + at, vn + at, p.packed + (size_t)i * p.piece, (size_t)i % p.pieces * PIECE);
        }
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads) if (!small)
        for (int i = 0; i < (int)(H * p.tiles); i++) {
            size_t h = (size_t)i / p.tiles;
            if (sd_is_cancelled(r)) continue;
            attend_tile(&p, of_thread(cuts.at, tile_room), p.packed + h * head, qn + h * p.d,
                        yn + h * p.d, (size_t)i % p.tiles * tile_queries(&p));
        }
    }
}

/* ---------------------------------------------------------------------------- whole rows of weights */

/* For tables without panels, which have a function for some queries of a head instead: the specification's. Threads
 * share heads and tiles of queries. */
static void attention_by_rows(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t T = (size_t)q.dim[1], S = (size_t)k.dim[1], C = (size_t)q.dim[2], d = C / (size_t)heads;
    size_t tiles = div_up(T, TASK_ROWS), room = gemm_room(cpu) + floats(TASK_ROWS * S);
    unsigned char *scratch = sd_scratch(r, room * (size_t)cpu->threads);
    if (!scratch) return;
    int tasks = (int)((size_t)q.dim[0] * (size_t)heads * tiles);
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads) if ((size_t)sd_numel(&q) * S > 8 * (size_t)SMALL)
    for (int task = 0; task < tasks; task++) {
        if (sd_is_cancelled(r)) continue;
        size_t n = (size_t)task / tiles / (size_t)heads, at = (size_t)task / tiles % (size_t)heads * d,
            first = (size_t)task % tiles * TASK_ROWS;
        sdk_head h = {sd_f32(q) + n * T * C + at, sd_f32(k) + n * S * C + at, sd_f32(v) + n * S * C + at,
                      sd_f32(y) + n * T * C + at, C, d, S, causal};
        unsigned char *mine = of_thread(scratch, room);
        float *weights = (float *)(void *)(mine + gemm_room(cpu));
        cpu->kern->attention(mine, weights, &h, first, min_size(TASK_ROWS, T - first));
    }
}

void sd_cpu_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    (sd_cpu_of(r)->kern->panel ? attention_in_pieces : attention_by_rows)(r, y, q, k, v, heads, causal);
}
