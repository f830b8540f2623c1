/* ops_cpu_winograd.c - floor 2: 3x3 convolution by a minimal algorithm [Lavin & Gray 2016]: F(4x4,3x3), 36 products for
 * 16 pixels, or the one for enlarged pictures, 100 for 64 (kernels_winograd.c).
 *
 * Tiles of output pixels are numbered through the batch. Of a tile and a channel the transforms make as many numbers as
 * the algorithm has products, 36 or 100; the p-th of all of them are plane p. So there are three matrices V, U and M
 * for each plane, and a tile is a row of V and of M:
 *   V[p][block][tile][SDK_PANEL] = (B^T d B)_p     from the input d, its channels cut into blocks of at most SDK_PANEL,
 *   U[p][strip][k][columns]      = (G g G^T)_p     from the weights g, the output's channels cut into strips of
 *                                                  panel_columns,
 *   M[p][strip][tile][columns]   = V U             a matrix product for each plane,
 *   y = A^T M A + bias                             into the picture.
 * They would be large (U of SD 1.5 is 9.6 GB), so only parts of them exist at a time, whose sizes follow from the
 * caches. There are three orders of work:
 *
 * Room for all of U, in the L3 cache: tiles in the outer loop. Once U is there, no thread waits for another. It takes
 * some tiles, as many as lie in the L1 cache with their numbers of one plane and block, makes their V, and then, strip
 * after strip and plane after plane, M of that strip alone, from which it writes its pixels. So M never leaves the L2
 * cache, and U comes from L3 once for each such task.
 *
 * Few tiles, or a larger U: strips in the outer loop. A band of tiles has its V, which all threads write and read. A
 * thread takes some strips, makes U for one block after the other in its own L2 cache, and multiplies. Making U takes
 * about as long as the products of four tiles, so bands are long.
 *
 * Very many tiles, or too few strips for all threads: planes in the outer loop. A band of tiles, a group of blocks and
 * a group of strips are taken at a time. All threads write V and U for them, then share the planes: some rows of V_p
 * stay in the L2 cache while every strip of the group passes, and a few rows of M in L1 while all blocks are added. The
 * way of U through the L3 cache and back costs, too, so bands are as long as memory allows. Where many bands would each
 * make U again, it is kept whole in memory that is free just now.
 *
 * Which of two orders is faster for a shape is found out as it comes again and again: both are timed, and one stays.
 *
 * In all orders the numbers that come next are fetched while others are multiplied: waiting for the L3 cache, not its
 * bandwidth, is what slows the products down.
 *
 * However the parts are chosen, an element of M is the sum over blocks, in order, of sums over a block's channels. So
 * its bits depend on a tile's pixels and the weights alone, not on threads, caches, bands, or the rest of the batch. */
#include "ops_cpu.h"

#include <string.h>

enum {
    IN = SDK_WINOGRAD_IN, MOST_OUT = SDK_WINOGRAD_MOST_OUT,
    LEAST_ROOM = 16 << 20,     /* bytes of V, U, and M together, about */
    USUAL_ROOM = 24 << 20,     /* the same where the size of the L3 cache is not known */
    MOST_ROOM = 40 << 20,
    LEAST_ROWS = 48,           /* tiles of a band; fewer do not pay for U */
    GOOD_ROWS = 112,           /* planes outside: so that there are as many, fewer blocks are taken at a time */
    MOST_ROWS = 196,           /* planes outside */
    FEW_TILES = 64,            /* up to here U's way through the L3 cache does not pay */
    STRIPS_TILES = 144,        /* of a band, strips outside */
    STRIPS_V = 40 << 20,       /* bytes of its V, at most */
    STRIPS_BANDS = 8,          /* with more, making U again costs too much */
    LARGE_L2 = 1 << 20,        /* from here on planes outside are the first guess */
    TRIES = 2,                 /* of each of two orders, to see which is faster */
    SKEW = 5 * 16              /* a gap between planes, or all would compete for the same lines of the cache */
};

/* Which loop is the outer one, or what is `outside`. */
typedef enum order { PLANES, STRIPS, TILES } order;

/* One convolution, and how it is split. */
typedef struct split {
    order order;
    sd_run *r;
    const sd_cpu *cpu;
    const sd_winograd *how;
    const sd_tensor *w;
    sd_tensor x, y;
    size_t zoom;                            /* 2: V is of the input enlarged, which is never made */
    const float *bias;
    float *zeros;
    sd_conv_times *times;                   /* of both orders, while they are compared; else NULL */
    size_t I, O, across, down, tiles;       /* channels; tiles of one picture or band, across x down; of the batch */
    size_t height, first, top;              /* of x's picture; the number of x's first row; rows of tiles above y */
    size_t columns, strips;                 /* of a strip; of the output's channels */
    size_t blocks;                          /* of the input's channels */
    size_t deep, wide;                      /* blocks and strips taken at a time */
    size_t band;                            /* rows of V and M */
    size_t piece, few;                      /* planes outside: those of a task's products; those in the L1 cache */
    size_t v_plane, u_plane, m_plane;
    float *v, *u, *m;                       /* of the first thread, where each has its own */
    unsigned char *room;                    /* each thread's packed weights */
    size_t v_size, u_size, m_size, room_size;
    bool of_band;                           /* y is a band of a picture */
    bool small;                             /* not worth waking other threads */
} split;

static bool u_is_whole(const split *p) { return p->deep >= p->blocks && p->wide >= p->strips; }

/* What is taken at a time: `rows` tiles from `first` on, blocks b0 .. b1 of input channels, strips s0 .. s1 of output
 * channels. */
typedef struct part { size_t first, rows, b0, b1, s0, s1; } part;

static size_t block_start(const split *p, size_t block) { return p->I * block / p->blocks; }

/* The number of columns of a strip in U and M: the last strip may be narrow. */
static size_t strip_width(const split *p, size_t strip)
{
    return p->O - strip * p->columns > p->cpu->kern->panel_narrow ? p->columns : p->cpu->kern->panel_narrow;
}

/* The side x side pixels of a tensor [N,H,W,C], each read `zoom` times along both axes, that belong to tile number t;
 * `outside` for those beyond its edges. The first tile begins `reach` pixels up and left of the picture, the next is
 * `step` pixels on. */
typedef struct window {
    sd_tensor of;
    size_t zoom, side, step, reach;
    size_t height, first, top;   /* of the picture; the number of the first row that is there; rows of tiles above */
    float *outside;
} window;

static void tile_pixels(const split *p, size_t t, window w, float **pixel)
{
    size_t rows_there = (size_t)w.of.dim[1], width = (size_t)w.of.dim[2], C = (size_t)w.of.dim[3];
    size_t per = p->across * p->down, top = (w.top + t % per / p->across) * w.step, left = t % p->across * w.step;
    float *picture = sd_f32(w.of) + t / per * rows_there * width * C;
    for (size_t i = 0; i < w.side; i++) {
        for (size_t j = 0; j < w.side; j++) {
            size_t y = top + i - w.reach, x = left + j - w.reach;   /* -1 wraps to a very large number */
            bool inside = y < w.zoom * w.height && x < w.zoom * width;
            *pixel++ = inside ? picture + ((y / w.zoom - w.first) * width + x / w.zoom) * C : w.outside;
        }
    }
}

/* V for one row of the band. */
static void transform_input(const split *p, const part *a, float *v, size_t row)
{
    float *at[IN * IN];
    const float *pixel[IN * IN];
    double t = sd_profile_time(p->r);
    size_t ahead = p->how->step / p->zoom * p->I;   /* to the next tile's */
    const window w = {.of = p->x, .zoom = p->zoom, .side = IN, .step = p->how->step, .reach = 1, .height = p->height,
                      .first = p->first, .top = p->top, .outside = p->zeros};
    tile_pixels(p, a->first + row, w, at);
    for (size_t b = a->b0; b < a->b1; b++) {
        size_t k0 = block_start(p, b), kc = block_start(p, b + 1) - k0;
        for (size_t i = 0; i < IN * IN; i++) pixel[i] = at[i] + k0;
        p->how->input(v + ((b - a->b0) * p->band + row) * SDK_PANEL, p->v_plane, pixel, ahead, kc);
    }
    sd_profile_part(p->r, thread_id(), SD_PROFILE_INPUT, t);
}

/* U for one block of input channels and one strip of output channels. */
static void transform_weights(const split *p, float *u, size_t block, size_t strip)
{
    const sd_kern *k = p->cpu->kern;
    float *packed = of_thread(p->room, p->room_size);
    size_t k0 = block_start(p, block), kc = block_start(p, block + 1) - k0, run = kc * 9;
    size_t o0 = strip * p->columns, n = min_size(p->columns, p->O - o0), w = strip_width(p, strip);
    sdk_widen *widen = widened_on_the_way(k, p->w);
    double t = sd_profile_time(p->r);
    size_t from = (o0 * p->I + k0) * 9;
    if (widen || is_f32(p->w)) {
        k->pack_panel(packed, number_at(p->w, from), p->I * 9, true, widen, n, run);
    } else {
        float *widened = packed + p->columns * run;
        for (size_t o = 0; o < n; o++) sd_widen_weight(widened + o * run, p->w, from + o * p->I * 9, run, k);
        k->pack_panel(packed, widened, run, true, NULL, n, run);
    }
    p->how->weights(u, p->u_plane, packed, w, kc);
    sd_profile_part(p->r, thread_id(), SD_PROFILE_WEIGHTS, t);
}

/* Writes the pixels of one tile of the band, in the output channels of the strips s0 .. s1. m: the first row of M in
 * the first of these strips. */
static void transform_output(const split *p, const part *a, const float *m, size_t row)
{
    size_t out = p->how->out;
    float *pixel[MOST_OUT * MOST_OUT], *at[MOST_OUT * MOST_OUT];
    double t = sd_profile_time(p->r);
    const window w = {.of = p->y, .zoom = 1, .side = out, .step = out, .height = (size_t)p->y.dim[1]};
    tile_pixels(p, a->first + row, w, pixel);
    for (size_t s = a->s0; s < a->s1; s++) {
        size_t o0 = s * p->columns;
        for (size_t j = 0; j < out * out; j++) at[j] = pixel[j] ? pixel[j] + o0 : NULL;
        p->how->output(at, m + ((s - a->s0) * p->band + row) * p->columns, p->m_plane, p->bias ? p->bias + o0 : NULL,
                       min_size(p->columns, p->O - o0));
    }
    sd_profile_part(p->r, thread_id(), SD_PROFILE_OUTPUT, t);
}

/* --------------------------------------------------------------------------------- planes outside */

/* A task: M of some rows of one plane, for all blocks and strips of a part. */
typedef struct task { size_t plane, row0, rows; } task;

static size_t tasks_of(const split *p, const part *a) { return p->how->planes * div_up(a->rows, p->piece); }

static task task_of(const split *p, const part *a, size_t number)
{
    size_t of_plane = div_up(a->rows, p->piece), row0 = number % of_plane * p->piece;
    return (task){number / of_plane, row0, min_size(p->piece, a->rows - row0)};
}

/* Share `number` of `of` about equal ones of n numbers. */
static sdk_ahead share(const float *at, size_t n, size_t number, size_t of)
{
    size_t from = n * number / of;
    return (sdk_ahead){at + from, n * (number + 1) / of - from};
}

/* What is fetched while the rows from i on of this task are multiplied, in strip s and block b: a share of the next
 * strip of U, and one of the next task's rows of V, which all strips bring in together. next NULL: no task follows. */
static void look_ahead(const split *p, const part *a, const task *now, const task *next, size_t s, size_t b, size_t i,
                       sdk_ahead ahead[SDK_AHEAD])
{
    size_t start = block_start(p, a->b0), depth = block_start(p, a->b1) - start, k0 = block_start(p, b) - start,
        kc = block_start(p, b + 1) - start - k0, across = a->s1 - a->s0;
    size_t then = s + 1 < a->s1 ? s + 1 : a->s0, w = strip_width(p, then);
    const task *of_u = s + 1 < a->s1 ? now : next;
    for (size_t j = 0; j < SDK_AHEAD; j++) ahead[j] = (sdk_ahead){NULL, 0};
    if (of_u)
        ahead[0] = share(p->u + of_u->plane * p->u_plane + (then - a->s0) * depth * p->columns + k0 * w, kc * w,
                         i / p->few, div_up(now->rows, p->few));
    if (next && i < next->rows)
        ahead[1] = share(p->v + next->plane * p->v_plane
                             + ((b - a->b0) * p->band + next->row0 + i) * SDK_PANEL,
                         min_size(p->few, next->rows - i) * SDK_PANEL, s - a->s0, across);
}

static void multiply_piece(const split *p, const part *a, const task *now, const task *next)
{
    const sd_kern *k = p->cpu->kern;
    const float *v = p->v + now->plane * p->v_plane + now->row0 * SDK_PANEL;
    double t = sd_profile_time(p->r);
    size_t start = block_start(p, a->b0), depth = block_start(p, a->b1) - start;
    sdk_ahead ahead[SDK_AHEAD];
    for (size_t s = a->s0; s < a->s1; s++) {
        size_t w = strip_width(p, s);
        const float *u = p->u + now->plane * p->u_plane + (s - a->s0) * depth * p->columns;
        float *m = p->m + now->plane * p->m_plane + (s * p->band + now->row0) * p->columns;
        for (size_t i = 0; i < now->rows; i += p->few) {
            for (size_t b = a->b0; b < a->b1; b++) {
                size_t k0 = block_start(p, b);
                look_ahead(p, a, now, next, s, b, i, ahead);
                k->panel_ahead(min_size(p->few, now->rows - i), w, block_start(p, b + 1) - k0,
                               v + ((b - a->b0) * p->band + i) * SDK_PANEL, u + (k0 - start) * w, m + i * p->columns,
                               p->columns, b > 0, ahead);
            }
        }
    }
    sd_profile_part(p->r, thread_id(), SD_PROFILE_PRODUCTS, t);
}

static void multiply_part(const split *p, const part *a, size_t *ticket)
{
    size_t tasks = tasks_of(p, a), mine = sd_take(ticket);
    while (mine < tasks) {
        size_t then = sd_take(ticket);
        task now = task_of(p, a, mine), next = task_of(p, a, then);
        if (!sd_is_cancelled(p->r)) multiply_piece(p, a, &now, then < tasks ? &next : NULL);
        mine = then;
    }
}

/* All threads share these loops. Threads that are done do not wait for the others, except at a `barrier`. */
static void write_outputs(const split *p, size_t first)
{
    const part a = {.first = first, .rows = min_size(p->band, p->tiles - first), .s1 = p->strips};
#pragma omp for schedule(dynamic, 4) nowait
    for (int row = 0; row < (int)a.rows; row++)
        if (!sd_is_cancelled(p->r)) transform_output(p, &a, p->m, (size_t)row);
}

static void write_weights(const split *p, const part *a)
{
    size_t across = a->s1 - a->s0, start = block_start(p, a->b0), depth = block_start(p, a->b1) - start;
    int blocks_of_u = (int)(across * (a->b1 - a->b0));
#pragma omp for schedule(dynamic) nowait
    for (int i = 0; i < blocks_of_u; i++) {
        size_t s = a->s0 + (size_t)i % across, b = a->b0 + (size_t)i / across;
        float *u = p->u + (s - a->s0) * depth * p->columns + (block_start(p, b) - start) * strip_width(p, s);
        if (!sd_is_cancelled(p->r)) transform_weights(p, u, b, s);
    }
}

/* V and U of a part, as far as they are new, then its products */
static void do_part(const split *p, const part *a, bool new_v, bool new_u, size_t *ticket)
{
    int rows_of_v = new_v ? (int)a->rows : 0;
#pragma omp for schedule(dynamic, 8) nowait
    for (int row = 0; row < rows_of_v; row++)
        if (!sd_is_cancelled(p->r)) transform_input(p, a, p->v, (size_t)row);
    if (new_u) write_weights(p, a);
    if (thread_id() == 0) *ticket = 0;
#pragma omp barrier
    multiply_part(p, a, ticket);
#pragma omp barrier
}

static void planes_outside(const split *p)
{
    bool whole = u_is_whole(p);   /* so it is made once for all bands */
    size_t ticket = 0;
#pragma omp parallel num_threads(p->cpu->threads) if (!p->small)
    {
        for (size_t first = 0; first < p->tiles; first += p->band) {
            if (first > 0) write_outputs(p, first - p->band);
            for (size_t b = 0; b < p->blocks; b += p->deep)
                for (size_t s = 0; s < p->strips; s += p->wide) {
                    part a = {first, min_size(p->band, p->tiles - first), b, min_size(b + p->deep, p->blocks), s,
                              min_size(s + p->wide, p->strips)};
                    do_part(p, &a, s == 0, !whole || first == 0, &ticket);
                }
        }
        write_outputs(p, (p->tiles - 1) / p->band * p->band);
    }
}

/* --------------------------------------------------------------------------------- strips outside */

/* One plane and one block, all strips of a; the next plane's V comes from the L3 cache meanwhile, U is in L2. */
static void multiply_plane(const split *p, const part *a, size_t plane, size_t b, const float *u, float *m)
{
    const float *v = p->v + plane * p->v_plane + b * p->band * SDK_PANEL;
    size_t kc = block_start(p, b + 1) - block_start(p, b), next = plane + 1 < p->how->planes ? a->rows * SDK_PANEL : 0;
    for (size_t s = a->s0; s < a->s1; s++) {
        const sdk_ahead ahead[SDK_AHEAD] = {share(v + p->v_plane, next, s - a->s0, a->s1 - a->s0), {NULL, 0}};
        p->cpu->kern->panel_ahead(a->rows, strip_width(p, s), kc, v, u, m, p->columns, b > 0, ahead);
        u += SDK_PANEL * p->columns;
        m += p->band * p->columns;
    }
}

/* The band of `rows` tiles from `first` on, in the output channels of the strips from s0 on, as many as a thread
 * takes */
static void do_strips(const split *p, size_t first, size_t rows, size_t s0)
{
    const part a = {.first = first, .rows = rows, .s0 = s0, .s1 = min_size(s0 + p->wide, p->strips)};
    size_t strip_of_u = SDK_PANEL * p->columns;
    float *u = of_thread(p->u, p->u_size), *m = of_thread(p->m, p->m_size);
    for (size_t b = 0; b < p->blocks; b++) {
        for (size_t s = a.s0; s < a.s1; s++) transform_weights(p, u + (s - s0) * strip_of_u, b, s);
        double t = sd_profile_time(p->r);
        for (size_t plane = 0; plane < p->how->planes; plane++)
            multiply_plane(p, &a, plane, b, u + plane * p->u_plane, m + plane * p->m_plane);
        sd_profile_part(p->r, thread_id(), SD_PROFILE_PRODUCTS, t);
    }
    for (size_t row = 0; row < rows; row++) transform_output(p, &a, m, row);
}

static void strips_outside(const split *p)
{
    int tasks = (int)div_up(p->strips, p->wide);
#pragma omp parallel num_threads(p->cpu->threads) if (!p->small)
    for (size_t first = 0; first < p->tiles; first += p->band) {
        const part band = {.first = first, .rows = min_size(p->band, p->tiles - first), .b1 = p->blocks};
#pragma omp for schedule(dynamic)
        for (int row = 0; row < (int)band.rows; row++)
            if (!sd_is_cancelled(p->r)) transform_input(p, &band, p->v, (size_t)row);
#pragma omp for schedule(dynamic)
        for (int i = 0; i < tasks; i++)
            if (!sd_is_cancelled(p->r)) do_strips(p, first, band.rows, (size_t)i * p->wide);
    }
}

/* ---------------------------------------------------------------------------------- tiles outside */

/* One plane and one strip, all blocks. The U that comes next is fetched meanwhile, and the next plane's V. */
static void multiply_strip(const split *p, const part *a, size_t plane, size_t s, const float *v, float *m)
{
    bool last = plane + 1 == p->how->planes;
    size_t next = last ? 0 : plane + 1, then = last ? s + 1 : s, w = strip_width(p, s),
        width = then < p->strips ? strip_width(p, then) : 0;
    const float *u = p->u + plane * p->u_plane + s * p->I * p->columns,
        *next_u = p->u + next * p->u_plane + then * p->I * p->columns;
    for (size_t b = 0; b < p->blocks; b++) {
        size_t k0 = block_start(p, b), kc = block_start(p, b + 1) - k0;
        const float *of_b = v + b * p->band * SDK_PANEL;
        const sdk_ahead ahead[SDK_AHEAD] = {{next_u + k0 * width, kc * width},
                                            {of_b + next * p->v_plane, a->rows * SDK_PANEL}};
        p->cpu->kern->panel_ahead(a->rows, w, kc, of_b + plane * p->v_plane, u + k0 * w, m + plane * p->m_plane,
                                  p->columns, b > 0, ahead);
    }
}

/* These tiles, from the input to the pixels */
static void do_tiles(const split *p, size_t first, size_t rows)
{
    float *v = of_thread(p->v, p->v_size), *m = of_thread(p->m, p->m_size);
    part a = {.first = first, .rows = rows, .b1 = p->blocks};
    for (size_t row = 0; row < rows; row++) transform_input(p, &a, v, row);
    for (; a.s0 < p->strips; a.s0++) {
        double t = sd_profile_time(p->r);
        a.s1 = a.s0 + 1;
        for (size_t plane = 0; plane < p->how->planes; plane++) multiply_strip(p, &a, plane, a.s0, v, m);
        sd_profile_part(p->r, thread_id(), SD_PROFILE_PRODUCTS, t);
        for (size_t row = 0; row < rows; row++) transform_output(p, &a, m, row);
    }
}

static void tiles_outside(const split *p)
{
    const part all = {.b1 = p->blocks, .s1 = p->strips};
    size_t tasks = div_up(p->tiles, p->band);
#pragma omp parallel num_threads(p->cpu->threads) if (!p->small)
    {
        write_weights(p, &all);
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (int i = 0; i < (int)tasks; i++) {
            size_t first = p->tiles * (size_t)i / tasks, end = p->tiles * (size_t)(i + 1) / tasks;
            if (!sd_is_cancelled(p->r)) do_tiles(p, first, end - first);
        }
    }
}

/* ------------------------------------------------------------------------------------------ sizes */

static void plane_sizes(split *p)
{
    size_t planes = p->how->planes, strips_of_m[] = {[PLANES] = p->strips, [STRIPS] = p->wide, [TILES] = 1};
    p->v_plane = round_up(p->band * p->deep * SDK_PANEL, 1024) + SKEW;
    size_t depth = p->order == STRIPS ? SDK_PANEL : min_size(p->deep * SDK_PANEL, p->I);
    p->u_plane = round_up(depth * p->columns * p->wide, 1024) + SKEW;
    p->m_plane = round_up(p->band * p->columns * strips_of_m[p->order], 1024) + SKEW;
    p->v_size = floats(planes * p->v_plane);
    p->u_size = floats(planes * p->u_plane);
    p->m_size = floats(planes * p->m_plane);
    p->room_size = floats(2 * p->columns * SDK_PANEL * 9);
}

/* Bytes of V, U, and M together: three quarters of the L3 cache, if it is known. */
static size_t room_for_parts(const sd_cpu *cpu)
{
    return cpu->caches.l3 ? max_size(LEAST_ROOM, min_size(MOST_ROOM, cpu->caches.l3 / 4 * 3)) : USUAL_ROOM;
}

/* How many rows of V and M have room, if V is of so many input channels. */
static size_t rows_in(const split *p, size_t room, size_t depth)
{
    return room / (p->how->planes * sizeof(float) * (depth + p->strips * p->columns));
}

static size_t band_of(const split *p, size_t rows)
{
    return div_up(p->tiles, div_up(p->tiles, max_size(LEAST_ROWS, min_size(MOST_ROWS, rows))));
}

static size_t level2(const split *p) { return p->cpu->caches.l2 ? p->cpu->caches.l2 : 256 << 10; }

/* Chooses blocks, strips and rows of a part. As many blocks as let the rows of V that a task needs, and the strip of U
 * for them, lie in the L2 cache together. All strips if they take at most half of the room (of all blocks, so that U is
 * made but once: five eighths), else as many as take a quarter; rows for the rest of the room. Fewer blocks if there
 * would be too few rows to pay for U. */
static void choose_part(split *p, size_t room)
{
    enum { OF_CHANNEL = 1600 };   /* bytes of the L2 cache for each input channel, of V and U */
    size_t deep = max_size(2, level2(p) / OF_CHANNEL / SDK_PANEL), wanted = min_size(p->tiles, GOOD_ROWS), rows;
    for (;; deep = div_up(deep, 2)) {
        p->deep = div_up(p->blocks, div_up(p->blocks, deep));
        size_t depth = min_size(p->deep * SDK_PANEL, p->I),
            strip = p->how->planes * sizeof(float) * depth * p->columns;
        size_t most = p->deep >= p->blocks ? room / 8 * 5 : room / 2,
            wide = p->strips * strip <= most ? p->strips : max_size(2, room / 4 / strip);
        p->wide = div_up(p->strips, div_up(p->strips, wide));
        rows = rows_in(p, room - min_size(room, p->wide * strip), depth);
        if (rows >= wanted || p->deep <= 2) break;
    }
    p->band = band_of(p, rows);
}

/* How many strips a thread takes at a time, at most `most`: as many as let all threads end at about the same time. */
static size_t strips_of_task(const split *p, size_t most)
{
    size_t best = 1, least = 0;
    for (size_t wide = 1; wide <= most; wide++) {
        size_t slowest = div_up(div_up(p->strips, wide), (size_t)p->cpu->threads) * wide;
        if (least == 0 || slowest <= least) best = wide, least = slowest;
    }
    return best;
}

/* Strips outside, if there are enough of them for all threads, and few bands. U for one block may be twice as large as
 * L2. */
static bool choose_strips(split *p)
{
    size_t planes = p->how->planes, most = level2(p) < LARGE_L2 ? 64 : 32,   /* output channels that a thread takes */
        columns = min_size(most, 2 * level2(p) / (planes * SDK_PANEL * sizeof(float))),
        rows = min_size(STRIPS_TILES, STRIPS_V / (planes * p->blocks * SDK_PANEL * sizeof(float)));
    size_t threads = (size_t)p->cpu->threads, fewest = threads > 1 ? 4 * threads : 2;
    if (p->strips < fewest || rows < LEAST_ROWS) return false;
    if (div_up(p->tiles, rows) > (planes > 36 ? 1 : STRIPS_BANDS)) return false;   /* 100 planes take much memory */
    p->order = STRIPS;
    p->band = div_up(p->tiles, div_up(p->tiles, rows));
    p->deep = p->blocks;
    p->wide = strips_of_task(p, max_size(1, columns / p->columns));
    return true;
}

/* So few rows of V that they, U of one block and strip, and their M lie in L1. */
static size_t rows_of_l1(const split *p)
{
    size_t l1 = p->cpu->caches.l1 ? p->cpu->caches.l1 : 32 << 10, step = p->cpu->kern->panel_rows,
        floats_of_l1 = l1 / 4 * 3 / sizeof(float), strip_of_block = SDK_PANEL * p->columns,
        fits = (floats_of_l1 - min_size(floats_of_l1, strip_of_block)) / (SDK_PANEL + p->columns);
    return max_size(step, fits / step * step);
}

/* Tiles outside, if all of U takes at most five eighths of the room, V of MOST tiles for each thread at most half of
 * it, and there are LEAST for each. */
static bool choose_tiles(split *p, size_t room)
{
    enum { MOST = 16, LEAST = 8 };
    size_t threads = p->small ? 1 : (size_t)p->cpu->threads, planes = p->how->planes,
        fit = room / 2 / (threads * planes * p->I * sizeof(float)),
        tasks = round_up(div_up(p->tiles, max_size(MOST, min_size(rows_of_l1(p), fit))), threads),
        band = div_up(p->tiles, tasks);
    double u_bytes = (double)planes * (double)p->I * (double)p->O * sizeof(float);
    if (fit < MOST || (threads > 1 && band < LEAST) || u_bytes > (double)(room / 8 * 5)) return false;
    p->order = TILES;
    p->deep = p->blocks;
    p->wide = p->strips;
    p->band = band;
    return true;
}

/* Where U would be made anew for many bands, it is kept whole, in `spare` bytes of memory that nobody uses now: they
 * need not fit a cache. Each band reads a plane of U once, fetched ahead, and the room is for V and M alone. */
static bool keep_u(split *p, size_t room, size_t spare)
{
    enum { MANY_BANDS = 3 };
    size_t rows = rows_in(p, room, p->I);
    if (u_is_whole(p) || div_up(p->tiles, p->band) < MANY_BANDS || rows < LEAST_ROWS) return false;
    split whole = *p;
    whole.deep = p->blocks;
    whole.wide = p->strips;
    whole.band = band_of(p, rows);
    plane_sizes(&whole);
    if (whole.u_size > spare) return false;
    *p = whole;
    return true;
}

/* The rows of a task lie in half of L2, and of these some at a time in L1; enough tasks for all threads. */
static void choose_pieces(split *p)
{
    size_t step = p->cpu->kern->panel_rows, depth = min_size(p->deep * SDK_PANEL, p->I),
        most = max_size(step, level2(p) / 2 / (depth * sizeof(float)) / step * step);
    p->few = rows_of_l1(p);
    p->piece = round_up(div_up(p->band, div_up(p->band, most)), step);
    while (p->piece > step && p->how->planes * div_up(p->band, p->piece) < 8 * (size_t)p->cpu->threads)
        p->piece = round_up(p->piece / 2, step);
}

/* Planes outside. Bands of a picture are for a machine whose memory is short, and their arena has little to spare. */
static void choose_planes(sd_run *r, split *p, size_t room)
{
    choose_part(p, room);
    if (!p->of_band) {
        size_t spare;
        void *free_now = sd_spare(r, (const sd_tensor[]){p->x, p->y}, 2, &spare);
        if (keep_u(p, room, spare)) p->u = free_now;
    }
    choose_pieces(p);
}

/* The times of this shape; NULL: there is no room for more shapes. */
static sd_conv_times *times_of(sd_cpu *cpu, const split *p)
{
    for (sd_conv_times *t = cpu->times; t < cpu->times + cpu->shapes; t++)
        if (t->tiles == p->tiles && t->I == p->I && t->O == p->O && t->planes == p->how->planes) return t;
    if (cpu->shapes == SD_COUNT(cpu->times)) return NULL;
    sd_conv_times *t = &cpu->times[cpu->shapes++];
    *t = (sd_conv_times){.tiles = p->tiles, .I = p->I, .O = p->O, .planes = p->how->planes};
    return t;
}

/* The guess has the first turn, which also pays for memory that is touched for the first time. So it may win after one
 * turn each, and lose only after all. */
static bool is_settled(const sd_conv_times *t, int guess)
{
    const double clear = 1.1;
    bool wins = t->least[!guess] > clear * t->least[guess];
    return t->tries[0] == t->tries[1] && (t->tries[0] == TRIES || (t->tries[0] > 0 && wins));
}

/* The number of the order to take now. They take turns, `guess` first, until the guess was clearly faster or each has
 * had its tries; then the faster one stays. The guess if they are equal: a clock may be too coarse to tell. */
static int order_of_times(const sd_conv_times *t, int guess)
{
    if (t->tries[0] != t->tries[1]) return !guess;
    return is_settled(t, guess) && t->least[!guess] < t->least[guess] ? !guess : guess;
}

static void keep_time(sd_conv_times *t, int which, double seconds)
{
    if (t->tries[which]++ == 0 || seconds < t->least[which]) t->least[which] = seconds;
}

/* Planes outside, or what makes better use of a small L2 cache: what is faster depends on the other caches, too, and on
 * who else uses them. So there is a guess from L2's size, and the machine decides. */
static void choose_order(sd_run *r, split *p)
{
    size_t room = room_for_parts(p->cpu);
    if (p->tiles <= FEW_TILES && choose_strips(p)) return;
    split other = *p;
    if (choose_tiles(&other, room) || choose_strips(&other)) {
        int guess = level2(p) < LARGE_L2;
        sd_conv_times *t = times_of(sd_cpu_of(r), p);
        other.times = p->times = t && !is_settled(t, guess) ? t : NULL;
        if (t ? order_of_times(t, guess) : guess) {
            *p = other;
            return;
        }
    }
    choose_planes(r, p, room);
}

static split make_split(sd_run *r, const sd_winograd *how, sd_tensor y, sd_tensor x, const sd_tensor *w, sd_conv c)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    split p = {.r = r, .cpu = cpu, .how = how, .w = w, .x = x, .y = y, .I = (size_t)w->dim[1], .O = (size_t)w->dim[0]};
    p.across = div_up((size_t)y.dim[2], how->out);
    p.down = div_up((size_t)y.dim[1], how->out);
    p.zoom = (c.enlarge ? 2 : 1) * how->step / how->out;   /* the algorithm for enlarged pictures does that itself */
    p.height = (size_t)sd_conv_height(x.dim, c);
    p.first = (size_t)c.rows.first;
    p.top = (size_t)c.rows.from / how->out;
    p.of_band = c.rows.height != 0;
    p.tiles = p.across * p.down * (size_t)x.dim[0];
    p.blocks = div_up(p.I, SDK_PANEL);
    p.columns = cpu->kern->panel_columns;
    p.strips = div_up(p.O, p.columns);
    p.small = how->planes * p.tiles * p.I * p.O <= 32 * (size_t)SMALL;
    choose_order(r, &p);
    plane_sizes(&p);
    return p;
}

void sd_winograd_conv(sd_run *r, const sd_winograd *how, sd_tensor y, sd_tensor x, const sd_tensor *w,
                      const sd_tensor *b, sd_conv c)
{
    split p = make_split(r, how, y, x, w, c);
    size_t threads = (size_t)p.cpu->threads, of_v = p.v_size * (p.order == TILES ? threads : 1),
        of_u = p.u ? 0 : p.u_size * (p.order == STRIPS ? threads : 1),
        of_m = p.m_size * (p.order == PLANES ? 1 : threads);
    pieces cuts = {sd_scratch(r, of_v + of_u + of_m + threads * p.room_size + floats(p.O) + floats(p.I))};
    if (!cuts.at) return;
    p.v = cut(&cuts, of_v);
    if (!p.u) p.u = cut(&cuts, of_u);
    p.m = cut(&cuts, of_m);
    p.room = cut(&cuts, threads * p.room_size);
    p.bias = sd_cpu_f32(r, b, cut(&cuts, p.O * sizeof(float)));
    p.zeros = memset(cut(&cuts, p.I * sizeof(float)), 0, p.I * sizeof(float));
    void (*const do_it[])(const split *) = {[PLANES] = planes_outside, [STRIPS] = strips_outside,
                                            [TILES] = tiles_outside};
    double start = p.times ? sd_now() : 0;
    do_it[p.order](&p);
    if (p.times && !sd_is_cancelled(r)) keep_time(p.times, p.order != PLANES, sd_now() - start);
}
