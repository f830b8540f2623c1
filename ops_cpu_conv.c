/* ops_cpu_conv.c - floor 2: convolution: the choice of an algorithm, and convolution as products of unfolded rows.
 * ops_cpu_winograd.c has the other algorithms. */
#include "ops_cpu.h"

#include <math.h>
#include <string.h>

/* A weight [O,I,kh,kw] in the order in which a channels-last picture unfolds: rows [O][kh,kw,I] or, for kernels that
 * have such, strips [kh,kw,I][panel_columns], the last one narrow if that is enough. */
typedef struct unfolded_weight {
    bool packed;
    sdk_widen *widen;   /* of the numbers as they are stored, when they are packed */
    size_t O, I, taps;
    size_t size;        /* numbers in all */
    size_t row_room;    /* numbers that a thread needs to make it */
} unfolded_weight;

static unfolded_weight unfolded_weight_of(const sd_cpu *cpu, const sd_tensor *w)
{
    const sd_kern *k = cpu->kern;
    unfolded_weight u = {.O = (size_t)w->dim[0], .I = (size_t)w->dim[1], .taps = (size_t)(w->dim[2] * w->dim[3])};
    size_t K = u.I * u.taps, strip = k->panel_columns;
    u.packed = !cpu->blas && k->pack_conv;
    u.widen = u.packed ? widened_on_the_way(k, w) : NULL;
    u.size = (u.packed ? packed_columns(k, u.O) : u.O) * K;
    u.row_room = u.widen || is_f32(w) ? 0 : floats(u.packed ? strip * K : K) / sizeof(float);
    return u;
}

/* Packs the strip of the output channels from number `from` on. row: room for u->row_room numbers */
static void pack_strip(const sd_cpu *cpu, const unfolded_weight *u, float *out, const sd_tensor *w, size_t from,
                       float *row)
{
    const sd_kern *k = cpu->kern;
    size_t K = u->I * u->taps, n = min_size(k->panel_columns, u->O - from);
    bool direct = u->widen || is_f32(w);
    if (!direct) sd_widen_weight(row, w, from * K, n * K, k);
    k->pack_conv(out, direct ? number_at(w, from * K) : row, u->widen, n, u->I, u->taps);
}

static void pack_weights(const sd_cpu *cpu, const unfolded_weight *u, float *out, const sd_tensor *w, float *row)
{
    size_t K = u->I * u->taps, strip = cpu->kern->panel_columns;
    int strips = (int)div_up(u->O, strip);
#pragma omp parallel for num_threads(cpu->threads) if (u->O * K > SMALL)
    for (int s = 0; s < strips; s++) {
        size_t from = (size_t)s * strip;
        pack_strip(cpu, u, out + from * K, w, from, row + (size_t)thread_id() * u->row_room);
    }
}

static void turn_weights(const sd_cpu *cpu, const unfolded_weight *u, float *out, const sd_tensor *w, float *row)
{
    size_t I = u->I, taps = u->taps, K = I * taps;
    bool direct = is_f32(w);
    int O = (int)u->O;
#pragma omp parallel for num_threads(cpu->threads) if (u->O * K > SMALL)
    for (int o = 0; o < O; o++) {
        float *mine = row + (size_t)thread_id() * u->row_room;
        const float *in = direct ? (const float *)w->data + (size_t)o * K : mine;
        if (!direct) sd_widen_weight(mine, w, (size_t)o * K, K, cpu->kern);
        float *to = out + (size_t)o * K;
        for (size_t t = 0; t < taps; t++)
            for (size_t i = 0; i < I; i++) to[t * I + i] = in[i * taps + t];
    }
}

/* Unfolds the input of output pixel number p of the batch: kh*kw runs of I channels, zeros outside the picture. */
static void unfold_pixel(float *out, sd_tensor x, sd_tensor y, int64_t p, int64_t kh, int64_t kw, sd_conv c)
{
    int64_t zoom = c.enlarge ? 2 : 1, H = sd_conv_height(x.dim, c), W = x.dim[2], I = x.dim[3];
    int64_t n = p / (y.dim[1] * y.dim[2]), row = c.rows.from + p / y.dim[2] % y.dim[1];
    int64_t top = row * c.stride - c.pad_top, left = p % y.dim[2] * c.stride - c.pad_left;
    const float *picture = sd_f32(x) + n * x.dim[1] * W * I;
    bool inside = zoom == 1 && left >= 0 && left + kw <= W;   /* a row's neighbours lie side by side */
    int64_t run = inside ? kw : 1;
    for (int64_t ky = 0; ky < kh; ky++) {
        for (int64_t kx = 0; kx < kw; kx += run, out += run * I) {
            int64_t iy = top + ky, ix = left + kx;
            size_t bytes = (size_t)(run * I) * sizeof(float);
            if (iy < 0 || iy >= zoom * H || ix < 0 || ix >= zoom * W) memset(out, 0, bytes);
            else memcpy(out, picture + ((iy / zoom - c.rows.first) * W + ix / zoom) * I, bytes);
        }
    }
}

/* An unfolded convolution: C[P,O] = (x unfolded)[P,K] weight^T[K,O] + bias */
typedef struct unfolding {
    sd_run *r;
    sd_tensor y, x;
    const sd_tensor *w;
    sd_conv c;
    int64_t kh, kw;
    size_t P, O, K;
    size_t tile;             /* rows that are unfolded at a time */
    size_t columns;          /* output channels whose weights a thread packs at a time; 0: all are in order before */
    unfolded_weight order;
    float *weight;           /* in this order: all, or the columns of each thread */
    float *row;              /* room to make it */
    const float *bias;
    unsigned char *scratch;  /* one gemm's for each thread */
    float *rows;             /* the unfolded ones */
} unfolding;

/* All threads unfold, then share the product. */
static void unfold_together(const unfolding *u)
{
    const sd_cpu *cpu = sd_cpu_of(u->r);
    (void)cpu;   /* used only with OpenMP */
    for (size_t at = 0; at < u->P && !sd_is_cancelled(u->r); at += u->tile) {
        int n = (int)min_size(u->tile, u->P - at);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * u->K > SMALL)
        for (int i = 0; i < n; i++)
            unfold_pixel(u->rows + (size_t)i * u->K, u->x, u->y, (int64_t)at + i, u->kh, u->kw, u->c);
        sd_cpu_multiply(&(sd_product){u->r, (size_t)n, u->O, u->K, u->rows, {u->weight, NULL}, sd_f32(u->y) + at * u->O,
                            u->bias, u->scratch, NULL});
    }
}

/* Packs some output channels' weights and multiplies n unfolded rows by them while they are in this thread's cache. */
static void multiply_columns(const unfolding *u, size_t at, size_t n, size_t j)
{
    const sd_cpu *cpu = sd_cpu_of(u->r);
    size_t me = (size_t)thread_id(), columns = min_size(u->columns, u->O - j), K = u->K;
    float *weight = u->weight + me * u->columns * K;
    for (size_t s = 0; s < columns; s += cpu->kern->panel_columns)
        pack_strip(cpu, &u->order, weight + s * K, u->w, j + s, u->row + me * u->order.row_room);
    cpu->kern->gemm_packed(u->scratch + me * gemm_room(cpu), n, columns, K, u->rows, K, weight,
                           sd_f32(u->y) + at * u->O + j, u->O, u->bias ? u->bias + j : NULL);
}

/* All threads unfold, then share the output channels. */
static void unfold_columns(const unfolding *u)
{
    const sd_cpu *cpu = sd_cpu_of(u->r);
    int tasks = (int)div_up(u->O, u->columns);
    (void)cpu;   /* used only with OpenMP */
    for (size_t at = 0; at < u->P; at += u->tile) {
        int n = (int)min_size(u->tile, u->P - at);
#pragma omp parallel num_threads(cpu->threads) if ((size_t)n * u->K > SMALL || u->O * u->K > SMALL)
        {
#pragma omp for
            for (int i = 0; i < n; i++)
                unfold_pixel(u->rows + (size_t)i * u->K, u->x, u->y, (int64_t)at + i, u->kh, u->kw, u->c);
#pragma omp for schedule(dynamic)
            for (int task = 0; task < tasks; task++)
                if (!sd_is_cancelled(u->r)) multiply_columns(u, at, (size_t)n, (size_t)task * u->columns);
        }
    }
}

/* A thread unfolds some rows and multiplies them while they are in its cache. */
static void unfold_apart(const unfolding *u)
{
    const sd_cpu *cpu = sd_cpu_of(u->r);
    size_t P = u->P, O = u->O, K = u->K, wide = equal_columns(O, cpu->kern->panel_columns);
    int tasks = (int)div_up(P, u->tile);
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads)
    for (int task = 0; task < tasks; task++) {
        size_t at = (size_t)task * u->tile, n = min_size(u->tile, P - at);
        float *rows = u->rows + (size_t)thread_id() * u->tile * K;
        unsigned char *mine = u->scratch + (size_t)thread_id() * gemm_room(cpu);
        if (sd_is_cancelled(u->r)) continue;
        for (size_t i = 0; i < n; i++)
            unfold_pixel(rows + i * K, u->x, u->y, (int64_t)(at + i), u->kh, u->kw, u->c);
        for (size_t j = 0; j < O; j += wide)
            cpu->kern->gemm_packed(mine, n, min_size(wide, O - j), K, rows, K, u->weight + j * K,
                                   sd_f32(u->y) + at * O + j, O, u->bias ? u->bias + j : NULL);
    }
}

/* How many output channels' weights a thread packs at a time: about as many as there are rows, for those are read again
 * for each time; and few enough that all threads have some, and end together. */
static size_t columns_at_once(const sd_cpu *cpu, size_t P, size_t O)
{
    return round_up(min_size(P, div_up(O, 4 * (size_t)cpu->threads)), cpu->kern->panel_columns);
}

/* Many pixels: each thread has its own, at most TASK_ROWS at a time. Few, a kernel without packed weights, or so many
 * threads that their pixels are more than UNFOLDED numbers: all threads unfold at most so many at a time, and share the
 * output channels, whose packed weights then need not be kept: they are more than such pixels. */
static void unfold_conv(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    const size_t UNFOLDED = (size_t)8 << 20, threads = (size_t)cpu->threads;
    unfolding u = {.r = r, .y = y, .x = x, .w = w, .c = c, .kh = w->dim[2], .kw = w->dim[3], .P = (size_t)rows(y),
                   .O = (size_t)w->dim[0], .K = (size_t)(w->dim[1] * w->dim[2] * w->dim[3]), .tile = TASK_ROWS,
                   .order = unfolded_weight_of(cpu, w)};
    bool packed = u.order.packed,
        apart = packed && div_up(u.P, TASK_ROWS) >= 4 * threads && threads * TASK_ROWS * u.K <= UNFOLDED;
    if (apart) u.tile = div_up(u.P, round_up(div_up(u.P, TASK_ROWS), threads));   /* each thread has as many parts */
    while (!apart && u.tile < u.P && (u.tile + TASK_ROWS) * u.K <= UNFOLDED) u.tile += TASK_ROWS;
    if (packed && !apart) u.columns = columns_at_once(cpu, u.P, u.O);
    size_t gemm = gemm_room(cpu) * threads, row = u.order.row_room * threads,
        weight = u.columns ? threads * u.columns * u.K : u.order.size, unfolded = (apart ? threads : 1) * u.tile * u.K;
    pieces p = {sd_scratch(r, gemm + floats(u.O) + floats(weight) + floats(row) + floats(unfolded))};
    if (!p.at) return;
    u.scratch = cut(&p, gemm);
    u.bias = sd_cpu_f32(r, b, cut(&p, u.O * sizeof(float)));
    u.weight = cut(&p, weight * sizeof(float));
    u.row = cut(&p, row * sizeof(float));
    u.rows = cut(&p, unfolded * sizeof(float));
    if (u.columns) {
        unfold_columns(&u);
        return;
    }
    (packed ? pack_weights : turn_weights)(cpu, &u.order, u.weight, w, u.row);
    (apart ? unfold_apart : unfold_together)(&u);
}

/* What a convolution costs; the unit is one multiplication for each pair of channels.
 * The plain sum: one for each tap and pixel; and the unfolding, which all output channels share.
 * A minimal algorithm: one for each plane of a tile; the transforms of the tile, each shared by the channels of the
 * other side; and the transform of the weights.
 * Products are computed for eight output channels at a time. The numbers were measured for 36 planes, see
 * docs/SPEED.md. The number of pictures must not matter, or a picture's bits would depend on the rest of its batch. */
typedef struct conv_size {
    double height, width;   /* of the result */
    double i, o;            /* channels in and out */
    double padded;          /* o rounded up to eights, as a multiple of o */
} conv_size;

static double plain_cost(conv_size s) { return s.height * s.width * (9 * s.padded + 100 / s.o); }

static double minimal_cost(conv_size s, double out, double planes)
{
    double tiles = ceil(s.height / out) * ceil(s.width / out);
    return planes / 36 * (tiles * (36 * s.padded + 400 / s.i + 400 / s.o) + 150);
}

static bool padded_by(sd_conv c, int n)
{
    return c.pad_top == n && c.pad_left == n && c.pad_bottom == n && c.pad_right == n;
}

sd_conv_kind sd_conv_choose(const sd_kern *k, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    if (w[2] == 1 && w[3] == 1 && c.stride == 1 && !c.enlarge && padded_by(c, 0)) return SD_CONV_LINEAR;
    if (!k->winograd || w[2] != 3 || w[3] != 3 || c.stride != 1 || !padded_by(c, 1) || w[1] < 32) return SD_CONV_UNFOLD;
    double zoom = c.enlarge ? 2 : 1, o = (double)w[0];
    conv_size s = {zoom * (double)sd_conv_height(x, c), zoom * (double)x[2], (double)w[1], o,
                   (double)((w[0] + 7) / 8 * 8) / o};
    double plain = plain_cost(s), four = minimal_cost(s, 4, 36);
    if (c.enlarge && minimal_cost(s, 8, 100) < fmin(plain, four)) return SD_CONV_WINOGRAD_ENLARGED;
    return four < plain ? SD_CONV_WINOGRAD : SD_CONV_UNFOLD;
}

sd_conv_how sd_conv_kind_describe(sd_conv_kind kind, const int64_t y[4])
{
    static const char *const names[] = {"linear", "unfold", "winograd F(4x4,3x3)", "phases F(4x4,2x2)"};
    double height = (double)y[1], width = (double)y[2], share = 1;
    if (kind == SD_CONV_WINOGRAD) share = 36 * ceil(height / 4) * ceil(width / 4) / (9 * height * width);
    if (kind == SD_CONV_WINOGRAD_ENLARGED) share = 100 * ceil(height / 8) * ceil(width / 8) / (9 * height * width);
    return (sd_conv_how){names[kind], share};
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
