/* winograd.c - floor 2: 3x3 convolution by the minimal algorithm F(4x4,3x3) [Lavin & Gray 2016], 36 products for 16 pixels.
 *
 * Tiles of 4x4 output pixels are numbered through the batch and taken in bands. For a band, all threads write
 *   V[p][k-block][tile][SDK_PANEL] = (B^T d B)_p,   p < 36, the input's channels cut into blocks of at most SDK_PANEL,
 * as panels ready to be multiplied. Then each task takes some output channels (and some of the band's tiles):
 *   U[p][k][o] = (G g G^T)_p    made anew, in double: this costs about as much as the products of eight tiles,
 *   M[p][tile][o] = V U         a small matrix product per p,
 *   y = A^T M A + bias          into the picture.
 * U of a whole SD 1.5 would be 9.6 GB; here nothing is kept, and only a strip of it exists at any time. An element's bits depend on
 * its tile's pixels and its weights alone: not on threads, bands, or the rest of the batch. */
#include "ops_cpu.h"

#include <string.h>

enum {
    OUT = SDK_WINOGRAD_OUT, IN = SDK_WINOGRAD_IN, PLANES = SDK_WINOGRAD_PLANES,
    COLUMNS = 32,              /* output channels of a task, about: their part of U for GROUP input channels is 1.5 MB */
    GROUP = 5 * SDK_PANEL,
    BAND = 40 << 20,           /* bytes of V, about */
    MOST_ROWS = 288, LEAST_ROWS = 48,
    SKEW = 5 * 16              /* between planes, or all 36 would compete for the same lines of the cache */
};

typedef struct plan {
    sd_run *r;
    const sd_tensor *w;
    sd_tensor x, y;
    const float *bias;
    bool accumulate;
    size_t I, O, across, down, tiles;       /* tiles of one picture: across x down; of the batch: tiles */
    size_t blocks;                          /* of the input channels */
    size_t columns;                         /* of a task */
    size_t band, first, count;              /* rows of V: room for them; those of this band */
    size_t v_plane, u_plane, m_plane;
    size_t chunks, chunk;                   /* a band's rows among tasks */
    float *v;
    unsigned char *room;                    /* one thread's U, M, and strip */
    size_t room_size, u_size, m_size, strip_size;
} plan;

static size_t block_start(const plan *p, size_t block) { return p->I * block / p->blocks; }

/* The pixels of tile number t: where they lie in `base` [N,H,W,C], or `outside`. The tile's corner is `reach` pixels up and left of its place. */
static void tile_pixels(const plan *p, size_t t, size_t side, size_t reach, float *base, size_t C, float *outside, float **pixel)
{
    size_t H = (size_t)p->x.dim[1], W = (size_t)p->x.dim[2], per = p->across * p->down;
    size_t top = t % per / p->across * OUT, left = t % p->across * OUT;
    float *picture = base + t / per * H * W * C;
    for (size_t i = 0; i < side; i++) {
        for (size_t j = 0; j < side; j++) {
            size_t y = top + i - reach, x = left + j - reach;   /* -1 wraps to a very large number */
            *pixel++ = y < H && x < W ? picture + (y * W + x) * C : outside;
        }
    }
}

static void transform_input(const plan *p, size_t row, float *zeros)
{
    float *at[IN * IN];
    const float *pixel[IN * IN];
    tile_pixels(p, p->first + row, IN, 1, sd_f32(p->x), p->I, zeros, at);
    for (size_t b = 0; b < p->blocks; b++) {
        size_t k0 = block_start(p, b), kc = block_start(p, b + 1) - k0;
        for (size_t i = 0; i < IN * IN; i++) pixel[i] = at[i] + k0;
        p->r->kern->winograd->input(p->v + (b * p->band + row) * SDK_PANEL, p->v_plane, pixel, kc);
    }
}

/* U for the output channels from o0 and the input channels of one block, as strips. */
static void transform_weights(const plan *p, float *u, float *strip, size_t o0, size_t columns, size_t k0, size_t kc)
{
    const sd_kern *k = p->r->kern;
    size_t width = k->panel_columns, size = sd_dtype_size(p->w->dt), run = kc * 9;
    bool direct = is_f32(p->w);
    float *widened = strip + width * run;
    for (size_t j = 0; j < columns; j += width) {
        size_t n = min_size(width, columns - j), w = n > k->panel_narrow ? width : k->panel_narrow;
        const unsigned char *from = (const unsigned char *)p->w->host + ((o0 + j) * p->I + k0) * 9 * size;
        const float *rows_of_o = (const float *)(const void *)from;
        if (!direct) {
            for (size_t o = 0; o < n; o++) sd_widen(widened + o * run, from + o * p->I * 9 * size, p->w->dt, run, k);
            rows_of_o = widened;
        }
        k->pack_panel(strip, rows_of_o, direct ? p->I * 9 : run, true, n, run);
        for (size_t i = 0; i < kc; i++) k->winograd->weights(u + j * kc + i * w, p->u_plane, strip + i * 9 * w, w);
    }
}

/* The output channels from o0 of the tiles row0 .. row0 + n of the band. */
static void multiply(const plan *p, unsigned char *room, size_t o0, size_t row0, size_t n)
{
    const sd_kern *k = p->r->kern;
    pieces cuts = {room};
    float *u = cut(&cuts, p->u_size), *m = cut(&cuts, p->m_size), *strip = cut(&cuts, p->strip_size);
    size_t columns = min_size(p->columns, p->O - o0);
    for (size_t b0 = 0; b0 < p->blocks; b0 += GROUP / SDK_PANEL) {
        size_t b1 = min_size(p->blocks, b0 + GROUP / SDK_PANEL), start = block_start(p, b0);
        for (size_t b = b0; b < b1; b++) {
            size_t k0 = block_start(p, b);
            transform_weights(p, u + (k0 - start) * p->columns, strip, o0, columns, k0, block_start(p, b + 1) - k0);
        }
        for (size_t plane = 0; plane < PLANES; plane++) {
            for (size_t b = b0; b < b1; b++) {
                size_t k0 = block_start(p, b);
                k->panel(n, columns, block_start(p, b + 1) - k0, p->v + plane * p->v_plane + (b * p->band + row0) * SDK_PANEL,
                         u + plane * p->u_plane + (k0 - start) * p->columns, m + plane * p->m_plane, p->columns, b > 0);
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        float *pixel[OUT * OUT];
        tile_pixels(p, p->first + row0 + i, OUT, 0, sd_f32(p->y), p->O, NULL, pixel);
        for (size_t j = 0; j < OUT * OUT; j++) pixel[j] = pixel[j] ? pixel[j] + o0 : NULL;
        k->winograd->output(pixel, m + i * p->columns, p->m_plane, p->bias ? p->bias + o0 : NULL, columns, p->accumulate);
    }
}

/* Sizes that follow from the shapes. */
static plan make_plan(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, bool accumulate)
{
    plan p = {.r = r, .w = w, .x = x, .y = y, .accumulate = accumulate, .I = (size_t)w->dim[1], .O = (size_t)w->dim[0]};
    p.across = div_up((size_t)x.dim[2], OUT);
    p.down = div_up((size_t)x.dim[1], OUT);
    p.tiles = p.across * p.down * (size_t)x.dim[0];
    p.blocks = div_up(p.I, SDK_PANEL);
    p.columns = round_up(COLUMNS, r->kern->panel_columns);
    size_t most = max_size(LEAST_ROWS, min_size(MOST_ROWS, BAND / (PLANES * sizeof(float) * SDK_PANEL * p.blocks)));
    p.band = round_up(div_up(p.tiles, div_up(p.tiles, most)), 12);
    p.chunks = 1;
    while (div_up(p.O, p.columns) * p.chunks < 2 * (size_t)r->threads && p.band / p.chunks > 2 * LEAST_ROWS) p.chunks++;
    p.chunk = round_up(div_up(p.band, p.chunks), 12);
    p.v_plane = round_up(p.band * p.blocks * SDK_PANEL, 1024) + SKEW;
    p.u_plane = round_up(min_size(GROUP, p.I) * p.columns, 1024) + SKEW;
    p.m_plane = round_up(p.chunk * p.columns, 1024) + SKEW;
    p.u_size = floats(PLANES * p.u_plane);
    p.m_size = floats(PLANES * p.m_plane);
    p.strip_size = floats(2 * r->kern->panel_columns * SDK_PANEL * 9);
    p.room_size = p.u_size + p.m_size + p.strip_size;
    return p;
}

void sd_winograd_conv(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, bool accumulate)
{
    plan p = make_plan(r, y, x, w, accumulate);
    size_t v = floats(PLANES * p.v_plane + SDK_PANEL_SPARE * SDK_PANEL);
    pieces cuts = {sd_scratch(r, v + floats(p.O) + floats(p.I) + p.room_size * (size_t)r->threads)};
    if (!cuts.at) return;
    p.v = cut(&cuts, v);
    p.bias = sd_cpu_f32(r, b, cut(&cuts, p.O * sizeof(float)));
    float *zeros = memset(cut(&cuts, p.I * sizeof(float)), 0, p.I * sizeof(float));
    p.room = cuts.at;
    int across = (int)div_up(p.O, p.columns);
    for (p.first = 0; p.first < p.tiles && !sd_is_cancelled(r); p.first += p.band) {
        p.count = min_size(p.band, p.tiles - p.first);
#pragma omp parallel for schedule(dynamic, 4) num_threads(r->threads)
        for (int row = 0; row < (int)p.count; row++) transform_input(&p, (size_t)row, zeros);
#pragma omp parallel for schedule(dynamic) num_threads(r->threads)
        for (int task = 0; task < across * (int)p.chunks; task++) {
            size_t row0 = (size_t)(task / across) * p.chunk;
            if (row0 >= p.count || sd_is_cancelled(r)) continue;
            multiply(&p, p.room + (size_t)thread_id() * p.room_size, (size_t)(task % across) * p.columns, row0, min_size(p.chunk, p.count - row0));
        }
    }
}
