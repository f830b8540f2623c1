/* ops_cpu_conv.c - floor 2: convolution: the choice of an algorithm, and convolution as products of unfolded rows.
 * ops_cpu_winograd.c has the minimal algorithms. */
#include "ops_cpu.h"

#include <math.h>
#include <string.h>

/* A weight [O,I,kh,kw] in the order in which a channels-last picture unfolds: rows [O][kh,kw,I] or, for kernels that
 * pack weights, strips [kh,kw,I][panel_columns], the last one narrow if that is enough. */
typedef struct unfolded_weight {
    bool packed;
    sdk_widen *widen;   /* of the numbers as they are stored, when they are packed */
    size_t O, I, taps;
    size_t size;        /* numbers in all */
    size_t row_room;    /* bytes that a thread needs to make it */
} unfolded_weight;

/* How threads share an unfolded convolution.
 * APART: pixels are many. A thread unfolds some pixels and multiplies their rows by the whole weight, which was packed
 * before, while they are in its cache.
 * COLUMNS: pixels are few, or threads so many that their rows would take too much memory. All unfold, then share the
 * output channels. A thread packs some channels' weights when it comes to them, and they are not kept.
 * TOGETHER: for kernels that pack no weights, and for OpenBLAS. All unfold, then share one product. */
typedef enum way { APART, COLUMNS, TOGETHER } way;

/* An unfolded convolution: y[P,O] = rows[P,K] weight^T[K,O] + bias. A pixel's row are the numbers that it is made of,
 * K = kh kw I. */
typedef struct unfolding {
    way way;
    sd_run *r;
    sd_tensor y, x;
    const sd_tensor *w;
    sd_conv c;
    int64_t kh, kw;
    size_t P, O, K;
    size_t tile;             /* pixels that are unfolded at a time, by each thread or by all */
    size_t columns;          /* COLUMNS: output channels whose weights a thread packs at a time */
    unfolded_weight order;
    float *weight;           /* in this order: all, or the columns of each thread */
    float *row;              /* room to make it */
    const float *bias;
    unsigned char *scratch;  /* one gemm's for each thread */
    float *rows;             /* the unfolded ones */
} unfolding;

/* ------------------------------------------------------------------------------------ weights */

static unfolded_weight unfolded_weight_of(const sd_cpu *cpu, const sd_tensor *w)
{
    const sd_kern *k = cpu->kern;
    unfolded_weight u = {.O = (size_t)w->dim[0], .I = (size_t)w->dim[1], .taps = (size_t)(w->dim[2] * w->dim[3])};
    size_t K = u.I * u.taps, strip = k->panel_columns;
    u.packed = !cpu->blas && k->pack_conv;
    u.widen = u.packed ? widened_on_the_way(k, w) : NULL;
    u.size = (u.packed ? packed_columns(k, u.O) : u.O) * K;
    u.row_room = u.widen || is_f32(w) ? 0 : floats(u.packed ? strip * K : K);
    return u;
}

/* Packs the strip of the output channels from number `from` on. */
static void pack_strip(const unfolding *u, float *out, size_t from)
{
    const sd_kern *k = sd_cpu_of(u->r)->kern;
    size_t n = min_size(k->panel_columns, u->O - from);
    bool direct = u->order.widen || is_f32(u->w);
    float *row = of_thread(u->row, u->order.row_room);
    if (!direct) sd_widen_weight(row, u->w, from * u->K, n * u->K, k);
    k->pack_conv(out, direct ? number_at(u->w, from * u->K) : row, u->order.widen, n, u->order.I, u->order.taps);
}

static void pack_weights(const unfolding *u)
{
    size_t strip = sd_cpu_of(u->r)->kern->panel_columns;
    int strips = (int)div_up(u->O, strip);
#pragma omp parallel for num_threads(sd_cpu_of(u->r)->threads) if (u->O * u->K > SMALL)
    for (int s = 0; s < strips; s++) pack_strip(u, u->weight + (size_t)s * strip * u->K, (size_t)s * strip);
}

/* [O][I][taps] becomes [O][taps][I]. */
static void turn_weights(const unfolding *u)
{
    size_t I = u->order.I, taps = u->order.taps, K = u->K;
    bool direct = is_f32(u->w);
    int O = (int)u->O;
#pragma omp parallel for num_threads(sd_cpu_of(u->r)->threads) if (u->O * K > SMALL)
    for (int o = 0; o < O; o++) {
        float *mine = of_thread(u->row, u->order.row_room), *to = u->weight + (size_t)o * K;
        const float *in = direct ? (const float *)u->w->data + (size_t)o * K : mine;
        if (!direct) sd_widen_weight(mine, u->w, (size_t)o * K, K, sd_cpu_of(u->r)->kern);
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < I; i++) to[t * I + i] = in[i * taps + t];
    }
}

/* ----------------------------------------------------------------------------------- unfolding */

/* The row of output pixel number p of the batch: kh*kw runs of I channels, zeros outside the picture. */
static void unfold_pixel(const unfolding *u, float *out, int64_t p)
{
    const sd_conv c = u->c;
    int64_t height = u->y.dim[1], width = u->y.dim[2];
    int64_t zoom = c.enlarge ? 2 : 1, H = sd_conv_height(u->x.dim, c), W = u->x.dim[2], I = u->x.dim[3];
    int64_t n = p / (height * width), row = c.rows.from + p / width % height;
    int64_t top = row * c.stride - c.pad_top, left = p % width * c.stride - c.pad_left;
    const float *picture = sd_f32(u->x) + n * u->x.dim[1] * W * I;
    bool inside = zoom == 1 && left >= 0 && left + u->kw <= W;   /* a row's neighbours lie side by side */
    int64_t run = inside ? u->kw : 1;
    for (int64_t ky = 0; ky < u->kh; ky++) {
        for (int64_t kx = 0; kx < u->kw; kx += run, out += run * I) {
            int64_t iy = top + ky, ix = left + kx;
            size_t bytes = (size_t)(run * I) * sizeof(float);
            if (iy < 0 || iy >= zoom * H || ix < 0 || ix >= zoom * W) memset(out, 0, bytes);
            else memcpy(out, picture + ((iy / zoom - c.rows.first) * W + ix / zoom) * I, bytes);
        }
    }
}

/* Multiplies n unfolded rows, which begin with pixel number `at`, by the weights of some output channels from number j
 * on, packed. */
static void multiply_packed(const unfolding *u, const float *rows, size_t at, size_t n, size_t j, size_t channels,
                            const float *packed)
{
    const sd_cpu *cpu = sd_cpu_of(u->r);
    cpu->kern->gemm_packed(of_thread(u->scratch, gemm_room(cpu)), n, channels, u->K, rows, u->K, packed,
                           sd_f32(u->y) + at * u->O + j, u->O, u->bias ? u->bias + j : NULL);
}

static void unfold_apart(const unfolding *u)
{
    const sd_cpu *cpu = sd_cpu_of(u->r);
    size_t wide = equal_columns(u->O, cpu->kern->panel_columns);
    int tasks = (int)div_up(u->P, u->tile);
    pack_weights(u);
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads)
    for (int task = 0; task < tasks; task++) {
        size_t at = (size_t)task * u->tile, n = min_size(u->tile, u->P - at);
        float *rows = of_thread(u->rows, u->tile * u->K * sizeof *rows);
        if (sd_is_cancelled(u->r)) continue;
        for (size_t i = 0; i < n; i++) unfold_pixel(u, rows + i * u->K, (int64_t)(at + i));
        for (size_t j = 0; j < u->O; j += wide)
            multiply_packed(u, rows, at, n, j, min_size(wide, u->O - j), u->weight + j * u->K);
    }
}

/* Packs the weights of some output channels, from number j on, and multiplies by them while they are in this thread's
 * cache. */
static void multiply_columns(const unfolding *u, size_t at, size_t n, size_t j)
{
    size_t channels = min_size(u->columns, u->O - j);
    float *weight = of_thread(u->weight, u->columns * u->K * sizeof *weight);
    for (size_t s = 0; s < channels; s += sd_cpu_of(u->r)->kern->panel_columns)
        pack_strip(u, weight + s * u->K, j + s);
    multiply_packed(u, u->rows, at, n, j, channels, weight);
}

static void unfold_columns(const unfolding *u)
{
    int tasks = (int)div_up(u->O, u->columns);
    for (size_t at = 0; at < u->P; at += u->tile) {
        int n = (int)min_size(u->tile, u->P - at);
#pragma omp parallel num_threads(sd_cpu_of(u->r)->threads) if ((size_t)n * u->K > SMALL || u->O * u->K > SMALL)
        {
#pragma omp for
            for (int i = 0; i < n; i++) unfold_pixel(u, u->rows + (size_t)i * u->K, (int64_t)at + i);
#pragma omp for schedule(dynamic)
            for (int task = 0; task < tasks; task++)
                if (!sd_is_cancelled(u->r)) multiply_columns(u, at, (size_t)n, (size_t)task * u->columns);
        }
    }
}

static void unfold_together(const unfolding *u)
{
    turn_weights(u);
    for (size_t at = 0; at < u->P && !sd_is_cancelled(u->r); at += u->tile) {
        int n = (int)min_size(u->tile, u->P - at);
#pragma omp parallel for num_threads(sd_cpu_of(u->r)->threads) if ((size_t)n * u->K > SMALL)
        for (int i = 0; i < n; i++) unfold_pixel(u, u->rows + (size_t)i * u->K, (int64_t)at + i);
        sd_cpu_multiply(&(sd_product){.r = u->r, .M = (size_t)n, .N = u->O, .K = u->K, .A = u->rows,
                                      .B.data = u->weight, .C = sd_f32(u->y) + at * u->O, .bias = u->bias,
                                      .scratch = u->scratch});
    }
}

/* How many output channels' weights a thread packs at a time: about as many as there are rows, for those are read again
 * for each time; and few enough that all threads have some, and end together. */
static size_t columns_at_once(const sd_cpu *cpu, size_t P, size_t O)
{
    return round_up(min_size(P, div_up(O, 4 * (size_t)cpu->threads)), cpu->kern->panel_columns);
}

/* The way, and how many pixels are unfolded at a time. */
static void choose_way(unfolding *u)
{
    const size_t most = (size_t)8 << 20, threads = (size_t)sd_cpu_of(u->r)->threads;   /* most: numbers of `rows` */
    bool many = div_up(u->P, TASK_ROWS) >= 4 * threads && threads * TASK_ROWS * u->K <= most;
    u->way = !u->order.packed ? TOGETHER : many ? APART : COLUMNS;
    u->tile = TASK_ROWS;
    if (u->way == APART) u->tile = div_up(u->P, round_up(div_up(u->P, TASK_ROWS), threads));   /* as many for each */
    else while (u->tile < u->P && (u->tile + TASK_ROWS) * u->K <= most) u->tile += TASK_ROWS;
    if (u->way == COLUMNS) u->columns = columns_at_once(sd_cpu_of(u->r), u->P, u->O);
}

static void unfold_conv(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    const size_t threads = (size_t)cpu->threads;
    void (*const do_it[])(const unfolding *) = {[APART] = unfold_apart, [COLUMNS] = unfold_columns,
                                                [TOGETHER] = unfold_together};
    unfolding u = {.r = r, .y = y, .x = x, .w = w, .c = c, .kh = w->dim[2], .kw = w->dim[3], .P = (size_t)rows(y),
                   .O = (size_t)w->dim[0], .K = (size_t)(w->dim[1] * w->dim[2] * w->dim[3]),
                   .order = unfolded_weight_of(cpu, w)};
    choose_way(&u);
    size_t gemm = gemm_room(cpu) * threads, row = u.order.row_room * threads,
        weight = u.way == COLUMNS ? threads * u.columns * u.K : u.order.size,
        unfolded = (u.way == APART ? threads : 1) * u.tile * u.K;
    pieces p = {sd_scratch(r, gemm + floats(u.O) + floats(weight) + row + floats(unfolded))};
    if (!p.at) return;
    u.scratch = cut(&p, gemm);
    u.bias = sd_cpu_f32(r, b, cut(&p, u.O * sizeof(float)));
    u.weight = cut(&p, weight * sizeof(float));
    u.row = cut(&p, row);
    u.rows = cut(&p, unfolded * sizeof(float));
    do_it[u.way](&u);
}

/* ---------------------------------------------------------------------------------- the choice */

/* The algorithms. A minimal one computes tiles of side x side pixels of the result by so many products a pair of
 * channels, one for each plane; side 0: it is the plain sum. */
typedef struct algorithm { const char *name; double side, planes; } algorithm;
static const algorithm algorithms[] = {
    [SD_CONV_LINEAR] = {"linear", 0, 0}, [SD_CONV_UNFOLD] = {"unfold", 0, 0},
    [SD_CONV_WINOGRAD] = {"winograd F(4x4,3x3)", 4, 36}, [SD_CONV_WINOGRAD_ENLARGED] = {"phases F(4x4,2x2)", 8, 100}};

static double tiles_of(algorithm a, double height, double width)
{
    return ceil(height / a.side) * ceil(width / a.side);
}

/* What a convolution costs; the unit is one multiplication for each pair of channels. Products are computed for eight
 * output channels at a time. The numbers were measured for 36 planes (docs/SPEED.md). The number of pictures must not
 * matter, or a picture's bits would depend on the rest of its batch. */
typedef struct conv_size {
    double height, width;   /* of the result */
    double i, o;            /* channels in and out */
    double padded;          /* o rounded up to eights, as a multiple of o */
} conv_size;

/* A pixel: one for each tap; and the unfolding, which all output channels share. */
static double plain_cost(conv_size s) { return s.height * s.width * (9 * s.padded + 100 / s.o); }

/* A tile: one for each plane; and its transforms, of which all output channels share the input's, and all input
 * channels the output's. Once, the transform of the weights. */
static double minimal_cost(conv_size s, sd_conv_kind kind)
{
    algorithm a = algorithms[kind];
    return a.planes / 36 * (tiles_of(a, s.height, s.width) * (36 * s.padded + 400 / s.i + 400 / s.o) + 150);
}

static bool padded_by(sd_conv c, int n)
{
    return c.pad_top == n && c.pad_left == n && c.pad_bottom == n && c.pad_right == n;
}

sd_conv_kind sd_conv_choose(const sd_kern *k, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    enum { LEAST_CHANNELS = 32 };   /* fewer do not average the rounding of a minimal algorithm's transforms away */
    if (w[2] == 1 && w[3] == 1 && c.stride == 1 && !c.enlarge && padded_by(c, 0)) return SD_CONV_LINEAR;
    if (!k->winograd || w[2] != 3 || w[3] != 3 || c.stride != 1 || !padded_by(c, 1) || w[1] < LEAST_CHANNELS)
        return SD_CONV_UNFOLD;
    double zoom = c.enlarge ? 2 : 1, o = (double)w[0];
    conv_size s = {zoom * (double)sd_conv_height(x, c), zoom * (double)x[2], (double)w[1], o,
                   (double)((w[0] + 7) / 8 * 8) / o};
    double plain = plain_cost(s), four = minimal_cost(s, SD_CONV_WINOGRAD);
    if (c.enlarge && minimal_cost(s, SD_CONV_WINOGRAD_ENLARGED) < fmin(plain, four)) return SD_CONV_WINOGRAD_ENLARGED;
    return four < plain ? SD_CONV_WINOGRAD : SD_CONV_UNFOLD;
}

sd_conv_how sd_conv_kind_describe(sd_conv_kind kind, const int64_t y[4])
{
    algorithm a = algorithms[kind];
    double height = (double)y[1], width = (double)y[2];
    return (sd_conv_how){a.name, a.side > 0 ? a.planes * tiles_of(a, height, width) / (9 * height * width) : 1};
}

sd_conv_how sd_cpu_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    int64_t y[4];
    sd_conv_result(x, w, c, y);
    return sd_conv_kind_describe(sd_conv_choose(sd_cpu_of(r)->kern, x, w, c), y);
}

void sd_cpu_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    const sd_kern *kern = sd_cpu_of(r)->kern;
    switch (sd_conv_choose(kern, x.dim, w->dim, c)) {
    case SD_CONV_LINEAR: sd_cpu_linear(r, y, x, w, b); break;
    case SD_CONV_UNFOLD: unfold_conv(r, y, x, w, b, c); break;
    case SD_CONV_WINOGRAD: sd_winograd_conv(r, kern->winograd, y, x, w, b, c); break;
    case SD_CONV_WINOGRAD_ENLARGED: sd_winograd_conv(r, kern->winograd_enlarged, y, x, w, b, c); break;
    }
}
