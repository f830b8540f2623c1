/* bands.c - floor 4: a network of the VAE in little memory, without another bit in its result: which of its steps are
 * computed whole, and which in bands of rows.
 *
 * At 2048x2048 one tensor of the decoder's last level has 2.1 GB, and a resnet needs three at a time. Tiles that are
 * decoded one by one and blended need little memory, but draw another picture: each has its own group norms, and its
 * edges are blurred into the next one. Bands are exact, because everything but two operations is local:
 *   - a row of a convolution depends on the row above and the one below (the bands of bands_chain.c keep those);
 *   - a group norm depends on two sums over everything. They are taken in a pass of their own, in the order in which
 *     the whole norm takes them; then the norm is local, too;
 *   - the attention in the middle depends on everything. It is computed whole, at the lowest resolution.
 * So a run of steps can be computed from its whole input to its whole result, with nothing whole in between. It is
 * computed once more for each group norm in it. That is the price: the shorter the runs, the less is computed twice and
 * the more tensors are whole.
 *
 * The plan is the cheapest way through the steps whose memory fits. A piece of it is one step computed whole, or a run
 * of steps in bands. best[k], the least work for the steps before k, is the least best[i] + work(i, k) of all pieces
 * i .. k that fit [Bellman 1957]. Which plan is taken changes memory and time alone: a row's bits depend neither on the
 * piece nor on the band in which it is computed.
 *
 * Why not in a file? A resnet at 2048x2048 would write and read 2.1 GB three times; where memory is scarce, so is often
 * the disk, and /tmp is memory itself on many systems. */
#include "bands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BAND_PIXELS = 16384, LEAST_BAND = 8 };

/* A network, step by step, as it is when computed whole. */
typedef struct walk {
    const sd_run *r;
    const sd_net *net;
    int n;
    size_t part;              /* sd_arena.part of the run to come */
    bool fits;                /* each tensor fits into a part */
    size_t input;             /* bytes of the network's input, which stays */
    int64_t (*dim)[4];        /* dim[i]: of what step i gets; dim[n]: the network's result */
    sd_piece *whole;          /* [n] each step, whole */
    sd_piece *best;           /* [n + 1] the last piece of the best plan for the steps before; work and bytes: of that
                               * plan */
} walk;

/* ---------------------------------------------------------------------------------- a step, whole */

static double step_work(const walk *w, int i)
{
    const int64_t *d = w->dim[i];
    double T = (double)(d[1] * d[2]), C = (double)d[3];
    sd_chain c;
    if (w->net->steps.step[i].kind == SD_STEP_VAE_ATTN) return T * (4 * C * C + 2 * T * C);
    return sd_chain_make(&c, w->r, w->net, i, i + 1, d, d[1]) ? c.once : 0;
}

/* Runs the steps one by one without numbers, and notes shapes and memory. Returns the memory of all together. */
static size_t walk_whole(walk *w, const int64_t x[4], sd_error *e)
{
    sd_run dry = {.err = e, .be = &sd_backend_null, .arena = {.part = w->part}};
    sd_flow f = {.x = sd_new4(&dry, x[0], x[1], x[2], x[3])};
    size_t most = 0;
    w->input = dry.arena.peak;
    for (int i = 0; i < w->n && sd_ok(&dry); i++) {
        memcpy(w->dim[i], f.x.dim, sizeof w->dim[i]);
        dry.arena.peak = dry.arena.widest = 0;
        sd_net_forward(&dry, w->net, &f, i, i + 1);
        bool fits = sd_arena_fits(&dry.arena);
        w->whole[i] = (sd_piece){.from = i, .to = i + 1, .bytes = fits ? dry.arena.peak : SIZE_MAX};
        w->fits &= fits;
        if (dry.arena.peak > most) most = dry.arena.peak;
    }
    memcpy(w->dim[w->n], f.x.dim, sizeof w->dim[w->n]);
    return most;
}

/* --------------------------------------------------------------------------------------- the plan */

static size_t bytes_of(const int64_t d[4]) { return (size_t)(d[0] * d[1] * d[2] * d[3]) * sizeof(float); }

static sd_piece in_bands(const walk *w, int from, int to, int64_t rows)
{
    sd_chain c;
    if (!sd_chain_make(&c, w->r, w->net, from, to, w->dim[from], rows)) return (sd_piece){0};
    size_t in = bytes_of(w->dim[from]) + (size_t)c.gap, out = bytes_of(w->dim[to]);
    if (from == 0) in = 0;   /* counted in w->input: it stays */
    size_t both = ((in > out ? in : out) + SD_ALIGN - 1) / SD_ALIGN * SD_ALIGN;
    if (w->part && (both > w->part || c.widest > w->part))
        return (sd_piece){.from = from, .to = to, .bytes = SIZE_MAX};
    return (sd_piece){.from = from, .to = to, .rows = (int)rows, .bytes = w->input + both + c.windows, .work = c.work};
}

/* Makes this piece the last one of the best plan, if it fits and is better. By memory: the less the better. */
static void consider(walk *w, sd_piece p, size_t budget, bool by_memory)
{
    const sd_piece *before = &w->best[p.from];
    sd_piece *now = &w->best[p.to];
    if (!p.to || p.bytes > budget || !(before->work < HUGE_VAL)) return;
    if (before->bytes > p.bytes) p.bytes = before->bytes;
    p.work += before->work;
    bool better = p.work < now->work || (p.work <= now->work && p.bytes < now->bytes);
    if (by_memory) better = p.bytes < now->bytes || (p.bytes == now->bytes && p.work < now->work);
    if (better) *now = p;
}

static void find_best(walk *w, size_t budget, bool by_memory)
{
    for (int i = 0; i <= w->n; i++) w->best[i] = (sd_piece){.work = i ? HUGE_VAL : 0, .bytes = i ? SIZE_MAX : 0};
    for (int from = 0; from < w->n; from++) {
        int64_t most = LEAST_BAND;
        while (most * w->dim[from][2] < BAND_PIXELS) most *= 2;
        consider(w, w->whole[from], budget, by_memory);
        for (int to = from + 1; to <= w->n; to++) {
            sd_piece p = {.to = 1};
            for (int64_t rows = most; rows >= LEAST_BAND && p.to; rows /= 2) {
                p = in_bands(w, from, to, rows);
                consider(w, p, budget, by_memory);
            }
            if (!p.to) break;
        }
    }
}

/* The pieces of the best plan, the last first. */
static sd_status write_down(sd_bands *b, const walk *w, sd_error *e)
{
    b->piece = calloc((size_t)w->n, sizeof *b->piece);
    if (!b->piece) return sd_fail(e, SD_ERR_MEMORY, "no memory for a plan of bands");
    b->bytes = w->best[w->n].bytes;
    b->work = w->best[w->n].work;
    for (int to = w->n; to > 0; to = w->best[to].from) b->n++;
    for (int to = w->n, k = b->n - 1; to > 0; to = w->best[to].from, k--) {
        b->piece[k] = w->best[to];
        b->piece[k].work -= w->best[w->best[to].from].work;
        b->in_bands += b->piece[k].rows > 0;
    }
    return SD_OK;
}

static void plan(sd_bands *b, walk *w, size_t budget, sd_error *e)
{
    for (int i = 0; i < w->n; i++) w->whole[i].work = step_work(w, i);
    find_best(w, budget, false);
    if (!(w->best[w->n].work < HUGE_VAL)) {   /* nothing fits: the least memory, and the least work with that */
        find_best(w, SIZE_MAX, true);
        find_best(w, w->best[w->n].bytes, false);
    }
    write_down(b, w, e);
}

sd_status sd_bands_plan(sd_bands *b, const sd_run *r, const sd_net *n, const int64_t x[4], size_t budget, sd_error *e)
{
    int steps = n->steps.n;
    walk w = {.r = r, .net = n, .n = steps, .part = sd_arena_part_of(r), .fits = true};
    *b = (sd_bands){0};
    w.dim = calloc((size_t)steps + 1, sizeof *w.dim);
    w.whole = calloc((size_t)steps, sizeof *w.whole);
    w.best = calloc((size_t)steps + 1, sizeof *w.best);
    if (!w.dim || !w.whole || !w.best) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for a plan of bands");
    } else {
        b->whole_bytes = walk_whole(&w, x, e);
        b->bytes = w.fits ? b->whole_bytes : SIZE_MAX;
        if (!e->status && b->bytes > budget) plan(b, &w, budget, e);
        for (int i = 0; i < steps; i++) b->whole += w.whole[i].work;
    }
    free(w.dim);
    free(w.whole);
    free(w.best);
    return e->status;
}

void sd_bands_free(sd_bands *b)
{
    free(b->piece);
    memset(b, 0, sizeof *b);
}

/* ------------------------------------------------------------------------------------ the forward */

static void forward_in_bands(sd_run *r, const sd_net *n, sd_bands *b, const sd_piece *p, sd_flow *f)
{
    sd_chain c;
    size_t mark = f->own ? f->mark : sd_mark(r);
    r->step = n->steps.step[p->from].hf;
    if (r->be->trim) r->be->trim(r);   /* the attention's working memory may be as large as a tensor */
    if (!sd_chain_make(&c, r, n, p->from, p->to, f->x.dim, p->rows)) return;
    f->x = sd_chain_forward(r, &c, f->x, mark, f->own, b);
    f->mark = mark;
    f->own = true;
    r->step = NULL;
}

sd_tensor sd_bands_forward(sd_run *r, const sd_net *n, sd_bands *b, sd_tensor x)
{
    sd_flow f = {.x = x};
    b->done = 0;
    if (!b->piece) sd_net_forward(r, n, &f, 0, n->steps.n);
    for (int i = 0; i < b->n && sd_ok(r); i++) {
        const sd_piece *p = &b->piece[i];
        if (p->rows) {
            forward_in_bands(r, n, b, p, &f);
            continue;
        }
        sd_net_forward(r, n, &f, p->from, p->to);
        sd_bands_did(r, b, p->work);
    }
    return f.x;
}
