/* winograd.c - floor 2: 3x3 convolution by a minimal algorithm [Lavin & Gray 2016]: F(4x4,3x3), 36 products for 16 pixels, or the one for
 * enlarged pictures, 100 for 64 (winograd_simd.c).
 *
 * Tiles of output pixels are numbered through the batch and taken in bands. For a band, all threads write
 *   V[p][k-block][tile][SDK_PANEL] = (B^T d B)_p,   p < planes, the input's channels cut into blocks of at most SDK_PANEL,
 * as panels ready to be multiplied. Then each task takes some output channels (and some of the band's tiles):
 *   U[p][k][o] = (G g G^T)_p    made anew: this costs about as much as the products of four tiles,
 *   M[p][tile][o] = V U         a small matrix product per p,
 *   y = A^T M A + bias          into the picture.
 * U of a whole SD 1.5 would be 9.6 GB; here nothing is kept, and only a strip of it exists at any time. An element's bits depend on
 * its tile's pixels and its weights alone: not on threads, bands, or the rest of the batch. */
#include "ops_cpu.h"

#include <string.h>

enum {
    IN = SDK_WINOGRAD_IN, MOST_OUT = SDK_WINOGRAD_MOST_OUT,
    COLUMNS = 32,              /* output channels of a task, about */
    GROUP = 180,               /* blocks of input channels whose U is made at a time, times planes: 1.5 MB for COLUMNS */
    BAND = 40 << 20,           /* bytes of V, about */
    MOST_ROWS = 288, LEAST_ROWS = 48,
    SKEW = 5 * 16              /* between planes, or all of them would compete for the same lines of the cache */
};

typedef struct plan {
    sd_run *r;
    const sd_winograd *how;
    const sd_tensor *w;
    sd_tensor x, y;
    size_t zoom;                            /* 2: tiles are of the input enlarged, which is never made */
    const float *bias;
    size_t I, O, across, down, tiles;       /* tiles of one picture: across x down; of the batch: tiles */
    size_t blocks, group;                   /* of the input channels; of them at a time */
    size_t columns;                         /* of a task */
    size_t band, first, count;              /* rows of V: room for them; those of this band */
    size_t v_plane, u_plane, m_plane;
    size_t chunks, chunk;                   /* a band's rows among tasks */
    float *v;
    unsigned char *room;                    /* one thread's U, M, and strip */
    size_t room_size, u_size, m_size, strip_size;
} plan;

static size_t block_start(const plan *p, size_t block) { return p->I * block / p->blocks; }

/* The side x side pixels of a tensor [N,H,W,C], each read `zoom` times along both axes, that belong to tile number t; `outside` for those beyond
 * its edges. The first tile begins `reach` pixels up and left of the picture, the next is `step` pixels on. */
typedef struct window { sd_tensor of; size_t zoom, side, step, reach; float *outside; } window;

static void tile_pixels(const plan *p, size_t t, window w, float **pixel)
{
    size_t h = (size_t)w.of.dim[1], width = (size_t)w.of.dim[2], C = (size_t)w.of.dim[3], per = p->across * p->down;
    size_t top = t % per / p->across * w.step, left = t % p->across * w.step;
    float *picture = sd_f32(w.of) + t / per * h * width * C;
    for (size_t i = 0; i < w.side; i++) {
        for (size_t j = 0; j < w.side; j++) {
            size_t y = top + i - w.reach, x = left + j - w.reach;   /* -1 wraps to a very large number */
            *pixel++ = y < w.zoom * h && x < w.zoom * width ? picture + (y / w.zoom * width + x / w.zoom) * C : w.outside;
        }
    }
}

static void transform_input(const plan *p, size_t row, float *zeros)
{
    float *at[IN * IN];
    const float *pixel[IN * IN];
    tile_pixels(p, p->first + row, (window){p->x, p->zoom, IN, p->how->step, 1, zeros}, at);
    for (size_t b = 0; b < p->blocks; b++) {
        size_t k0 = block_start(p, b), kc = block_start(p, b + 1) - k0;
        for (size_t i = 0; i < IN * IN; i++) pixel[i] = at[i] + k0;
        p->how->input(p->v + (b * p->band + row) * SDK_PANEL, p->v_plane, pixel, kc);
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
        for (size_t i = 0; i < kc; i++) p->how->weights(u + j * kc + i * w, p->u_plane, strip + i * 9 * w, w);
    }
}

/* The output channels from o0 of the tiles row0 .. row0 + n of the band. */
static void multiply(const plan *p, unsigned char *room, size_t o0, size_t row0, size_t n)
{
    const sd_kern *k = p->r->kern;
    pieces cuts = {room};
    float *u = cut(&cuts, p->u_size), *m = cut(&cuts, p->m_size), *strip = cut(&cuts, p->strip_size);
    size_t columns = min_size(p->columns, p->O - o0);
    for (size_t b0 = 0; b0 < p->blocks; b0 += p->group) {
        size_t b1 = min_size(p->blocks, b0 + p->group), start = block_start(p, b0);
        for (size_t b = b0; b < b1; b++) {
            size_t k0 = block_start(p, b);
            transform_weights(p, u + (k0 - start) * p->columns, strip, o0, columns, k0, block_start(p, b + 1) - k0);
        }
        for (size_t plane = 0; plane < p->how->planes; plane++) {
            for (size_t b = b0; b < b1; b++) {
                size_t k0 = block_start(p, b);
                k->panel(n, columns, block_start(p, b + 1) - k0, p->v + plane * p->v_plane + (b * p->band + row0) * SDK_PANEL,
                         u + plane * p->u_plane + (k0 - start) * p->columns, m + plane * p->m_plane, p->columns, b > 0);
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        size_t out = p->how->out;
        float *pixel[MOST_OUT * MOST_OUT];
        tile_pixels(p, p->first + row0 + i, (window){p->y, 1, out, out, 0, NULL}, pixel);
        for (size_t j = 0; j < out * out; j++) pixel[j] = pixel[j] ? pixel[j] + o0 : NULL;
        p->how->output(pixel, m + i * p->columns, p->m_plane, p->bias ? p->bias + o0 : NULL, columns);
    }
}

/* Sizes that follow from the shapes. */
static plan make_plan(sd_run *r, const sd_winograd *how, sd_tensor y, sd_tensor x, const sd_tensor *w)
{
    plan p = {.r = r, .how = how, .w = w, .x = x, .y = y, .I = (size_t)w->dim[1], .O = (size_t)w->dim[0]};
    size_t planes = how->planes;
    p.across = div_up((size_t)y.dim[2], how->out);
    p.down = div_up((size_t)y.dim[1], how->out);
    p.zoom = (size_t)(y.dim[1] / x.dim[1]) * how->step / how->out;
    p.tiles = p.across * p.down * (size_t)x.dim[0];
    p.blocks = div_up(p.I, SDK_PANEL);
    p.group = max_size(GROUP / planes, 1);
    p.columns = round_up(COLUMNS, r->kern->panel_columns);
    size_t most = max_size(LEAST_ROWS, min_size(MOST_ROWS, BAND / (planes * sizeof(float) * SDK_PANEL * p.blocks)));
    p.band = round_up(div_up(p.tiles, div_up(p.tiles, most)), 12);
    p.chunks = 1;
    while (div_up(p.O, p.columns) * p.chunks < 2 * (size_t)r->threads && p.band / p.chunks > 2 * LEAST_ROWS) p.chunks++;
    p.chunk = round_up(div_up(p.band, p.chunks), 12);
    p.v_plane = round_up(p.band * p.blocks * SDK_PANEL, 1024) + SKEW;
    p.u_plane = round_up(min_size(p.group * SDK_PANEL, p.I) * p.columns, 1024) + SKEW;
    p.m_plane = round_up(p.chunk * p.columns, 1024) + SKEW;
    p.u_size = floats(planes * p.u_plane);
    p.m_size = floats(planes * p.m_plane);
    p.strip_size = floats(2 * r->kern->panel_columns * SDK_PANEL * 9);
    p.room_size = p.u_size + p.m_size + p.strip_size;
    return p;
}

void sd_winograd_conv(sd_run *r, const sd_winograd *how, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    plan p = make_plan(r, how, y, x, w);
    size_t v = floats(how->planes * p.v_plane + SDK_PANEL_SPARE * SDK_PANEL);
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
