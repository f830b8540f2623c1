/* ops_cpu.c - floor 2: the CPU backend: convolution as products of unfolded rows, attention in tiles of queries. OpenMP
 * threads share the outputs, never a sum, so with our own kernels the number of threads does not change the bits. */
#include "ops_cpu.h"

#include <math.h>
#include <string.h>

/* Rows per task: a multiple of every micro-kernel's height (4, 6, 8, 14), and enough to make the cost of packing the
 * other operand small. */
enum { TILE = 168 };

void sd_cpu_each(int n, void (*fn)(void *user, int i), void *user)
{
#pragma omp parallel for schedule(static, 1) num_threads(n)
    for (int i = 0; i < n; i++) fn(user, i);
}

/* ----------------------------------------------------------------------------------- products */

/* The numbers in a row of packed strips of so many columns: whole strips, the last one narrow if that is enough. */
static size_t strips_of(const sd_kern *k, size_t columns)
{
    size_t last = columns % k->panel_columns;
    return columns - last + (last > k->panel_narrow ? k->panel_columns : last ? k->panel_narrow : 0);
}

/* What one thread needs for kern->gemm, a multiple of SD_ALIGN. */
static size_t gemm_room(const sd_cpu *cpu) { return round_up(cpu->kern->gemm_scratch, SD_ALIGN); }

/* A weight as the right operand of a product: rows [N,K] of floats, or of 16-bit numbers that `widen` converts (not
 * with OpenBLAS). */
typedef struct operand {
    const void *data;
    sdk_widen *widen;
} operand;

/* One product C[M,N] = A[M,K] B^T[K,N] + bias. scratch: room for one gemm per thread; turned: room for all of A,
 * packed, or NULL. */
typedef struct product {
    sd_run *r;
    size_t M, N, K;
    const float *A;
    operand B;
    float *C;
    const float *bias;
    unsigned char *scratch;
    float *turned;
} product;

static inline const void *column_of_b(const product *p, size_t j)
{
    return (const unsigned char *)p->B.data + j * p->K * (p->B.widen ? sizeof(uint16_t) : sizeof(float));
}

static inline unsigned char *scratch_of(const product *p)
{
    return p->scratch + (size_t)thread_id() * gemm_room(sd_cpu_of(p->r));
}

/* The columns of a task: a multiple of `step`, for all tasks the same, at most about 384. */
static size_t equal_columns(size_t N, size_t step) { return round_up(div_up(N, div_up(N, 384)), step); }

/* A task packs its columns of B once, so it takes many rows; and all take about as many, for a few that are left would
 * need all of B again. If threads would be idle, it takes fewer columns while it has all rows, for then nothing is
 * packed twice (1280 to 1280 at 512 rows 0.97); then fewer rows, then fewer columns again. */
static void multiply_straight(const product *p)
{
    const sd_cpu *cpu = sd_cpu_of(p->r);
    const size_t M = p->M, N = p->N, K = p->K, step = 32;
    size_t tall = round_up(div_up(M, div_up(M, 8 * TILE)), TILE / 2), wide = equal_columns(N, step);
    while (div_up(M, tall) * div_up(N, wide) < 4 * (size_t)cpu->threads && (tall > 2 * TILE || wide > 2 * step)) {
        if (tall > 2 * TILE && (tall < M || wide <= 5 * step)) tall = round_up(tall / 2, TILE / 2);
        else wide = round_up(wide / 2, step);
    }
    size_t parts = div_up(N, wide);
    int tasks = (int)(div_up(M, tall) * parts);
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads) if (M * N * K > 16 * (size_t)SMALL)
    for (int task = 0; task < tasks; task++) {
        size_t i = (size_t)task / parts * tall, j = (size_t)task % parts * wide;
        size_t m = min_size(tall, M - i), n = min_size(wide, N - j);
        const float *bias = p->bias ? p->bias + j : NULL;
        const void *b = column_of_b(p, j);
        if (sd_is_cancelled(p->r)) continue;
        cpu->kern->gemm(scratch_of(p), m, n, K, p->A + i * K, K, b, K, true, p->B.widen, p->C + i * N + j, N, bias);
    }
}

/* Is it faster to turn A and C than to turn B? A's rows are then the kernel's columns. The numbers are counted; those
 * of A and C twice, as was measured (5120 to 1280 at 512 rows). A product that the last strip of A computes in vain
 * takes a sixteenth of a number. */
static bool is_turned(const sd_kern *k, size_t M, size_t N, size_t K)
{
    if (!k->gemm_turned) return false;
    double m = (double)M, n = (double)N, depth = (double)K, spare = (double)(strips_of(k, M) - M);
    return 2 * m * (depth + n) + spare * n * depth / 16 < n * depth * ceil(m / (8 * TILE));
}

static size_t turned_room(const sd_cpu *cpu, size_t M, size_t N, size_t K)
{
    return !cpu->blas && is_turned(cpu->kern, M, N, K) ? floats(strips_of(cpu->kern, M) * K) : 0;
}

/* How a turned product is shared out: the rows of A in equal parts, and those of B, which are C's columns, `wide` at a
 * time; but what may be each thread's last in halves, so that all threads end at about the same time. */
typedef struct shares {
    size_t parts, tall;
    size_t wide, narrow, wides;   /* rows of B, and how many times `wide` of them */
    size_t tasks;
} shares;

static shares shares_of(const product *p)
{
    enum { ROWS = 256, COLUMNS = 48 };   /* A's piece and a task's sums fit the L2 cache */
    const sd_cpu *cpu = sd_cpu_of(p->r);
    size_t threads = (size_t)cpu->threads;
    shares s = {.tall = round_up(div_up(p->M, div_up(p->M, ROWS)), cpu->kern->panel_columns)};
    s.parts = div_up(p->M, s.tall);
    s.wide = min_size(COLUMNS, round_up(div_up(p->N, 4 * threads), 16));
    s.narrow = s.wide / 2;
    s.wides = p->N / s.wide;
    if (threads > 1) s.wides -= min_size(s.wides, threads);
    s.tasks = (s.wides + div_up(p->N - s.wides * s.wide, s.narrow)) * s.parts;
    return s;
}

/* The first row of B of such a task; past the last one N or more. */
static size_t first_of(const shares *s, size_t task)
{
    size_t i = task / s->parts;
    return i < s->wides ? i * s->wide : s->wides * s->wide + (i - s->wides) * s->narrow;
}

static void turned_task(const product *p, const shares *s, size_t task, size_t then)
{
    size_t j = first_of(s, task), end = min_size(first_of(s, task + s->parts), p->N), m = task % s->parts * s->tall;
    sd_cpu_of(p->r)->kern->gemm_turned(scratch_of(p), min_size(s->tall, p->M - m), end - j, p->K, p->turned + m * p->K,
                                       column_of_b(p, j), p->K, p->B.widen, p->C + m * p->N + j, p->N,
                                       p->bias ? p->bias + j : NULL,
                                       then < s->tasks ? column_of_b(p, first_of(s, then)) : NULL);
}

/* C^T = B A^T: A is packed once, and every task reads its rows of B from where they lie. */
static void multiply_turned(const product *p)
{
    enum { PIECE = 256 };
    const sd_cpu *cpu = sd_cpu_of(p->r);
    const sd_kern *k = cpu->kern;
    const shares s = shares_of(p);
    size_t M = p->M, K = p->K, strip = k->panel_columns, pieces_of_k = div_up(K, PIECE), ticket = 0;
    int packs = (int)(div_up(M, strip) * pieces_of_k);
#pragma omp parallel num_threads(cpu->threads) if (M * p->N * K > 16 * (size_t)SMALL)
    {
#pragma omp for schedule(dynamic)
        for (int i = 0; i < packs; i++) {
            size_t m = (size_t)i / pieces_of_k * strip, k0 = (size_t)i % pieces_of_k * PIECE;
            size_t n = min_size(strip, M - m), width = strips_of(k, n);
            k->pack_panel(p->turned + m * K + k0 * width, p->A + m * K + k0, K, true, NULL, n, min_size(PIECE, K - k0));
        }
        for (size_t task = sd_take(&ticket); task < s.tasks && !sd_is_cancelled(p->r);) {
            size_t then = sd_take(&ticket);
            turned_task(p, &s, task, then);
            task = then;
        }
    }
}

static void multiply(const product *p)
{
    const sd_cpu *cpu = sd_cpu_of(p->r);
    if (cpu->blas) sd_blas_multiply(cpu->blas, cpu->threads, p->M, p->N, p->K, p->A, p->B.data, p->C, p->bias);
    else if (p->turned) multiply_turned(p);
    else multiply_straight(p);
}

static void cpu_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    product p = {.r = r, .M = (size_t)rows(x), .N = (size_t)w->dim[0], .K = (size_t)w->dim[1], .A = sd_f32(x),
                 .B.widen = cpu->blas ? NULL : widened_on_the_way(cpu->kern, w), .C = sd_f32(y)};
    size_t gemm = gemm_room(cpu) * (size_t)cpu->threads, turned = turned_room(cpu, p.M, p.N, p.K);
    pieces cuts = {sd_scratch(r, gemm + floats(p.N) + turned + (p.B.widen || is_f32(w) ? 0 : floats(p.N * p.K)))};
    if (!cuts.at) return;
    p.scratch = cut(&cuts, gemm);
    p.bias = sd_cpu_f32(r, b, cut(&cuts, p.N * sizeof(float)));
    p.turned = turned ? cut(&cuts, turned) : NULL;
    p.B.data = p.B.widen ? w->data : sd_cpu_f32(r, w, (float *)(void *)cuts.at);
    multiply(&p);
}

/* -------------------------------------------------------------------------------- convolution */

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
    u.size = (u.packed ? strips_of(k, u.O) : u.O) * K;
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
        multiply(&(product){u->r, (size_t)n, u->O, u->K, u->rows, {u->weight, NULL}, sd_f32(u->y) + at * u->O,
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

/* Many pixels: each thread has its own, at most TILE at a time. Few, a kernel without packed weights, or so many
 * threads that their pixels are more than UNFOLDED numbers: all threads unfold at most so many at a time, and share the
 * output channels, whose packed weights then need not be kept: they are more than such pixels. */
static void unfold_conv(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    const size_t UNFOLDED = (size_t)8 << 20, threads = (size_t)cpu->threads;
    unfolding u = {.r = r, .y = y, .x = x, .w = w, .c = c, .kh = w->dim[2], .kw = w->dim[3], .P = (size_t)rows(y),
                   .O = (size_t)w->dim[0], .K = (size_t)(w->dim[1] * w->dim[2] * w->dim[3]), .tile = TILE,
                   .order = unfolded_weight_of(cpu, w)};
    bool packed = u.order.packed,
        apart = packed && div_up(u.P, TILE) >= 4 * threads && threads * TILE * u.K <= UNFOLDED;
    if (apart) u.tile = div_up(u.P, round_up(div_up(u.P, TILE), threads));   /* each thread has as many parts */
    while (!apart && u.tile < u.P && (u.tile + TILE) * u.K <= UNFOLDED) u.tile += TILE;
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

static sd_conv_how cpu_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    int64_t y[4];
    sd_conv_result(x, w, c, y);
    return sd_conv_kind_describe(sd_conv_choose(sd_cpu_of(r)->kern, x, w, c), y);
}

static void cpu_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    const sd_kern *kern = sd_cpu_of(r)->kern;
    switch (sd_conv_choose(kern, x.dim, w->dim, c)) {
    case SD_CONV_LINEAR: cpu_linear(r, y, x, w, b); break;
    case SD_CONV_UNFOLD: unfold_conv(r, y, x, w, b, c); break;
    case SD_CONV_WINOGRAD: sd_winograd_conv(r, kern->winograd, y, x, w, b, c); break;
    case SD_CONV_WINOGRAD_ENLARGED: sd_winograd_conv(r, kern->winograd_enlarged, y, x, w, b, c); break;
    }
}

/* ---------------------------------------------------------------------------------- attention */

/* Shares heads and tiles of queries among the threads. The kernels compute one head's attention, or
 * ops_cpu_attention.c does. */
static void cpu_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    if (cpu->kern->panel) {
        sd_attention_tiles(r, y, q, k, v, heads, causal);
        return;
    }
    size_t T = (size_t)q.dim[1], S = (size_t)k.dim[1], C = (size_t)q.dim[2], d = C / (size_t)heads;
    size_t tiles = div_up(T, TILE), room = gemm_room(cpu) + floats(TILE * S);
    unsigned char *scratch = sd_scratch(r, room * (size_t)cpu->threads);
    if (!scratch) return;
    int tasks = (int)((size_t)q.dim[0] * (size_t)heads * tiles);
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads) if ((size_t)sd_numel(&q) * S > 8 * (size_t)SMALL)
    for (int task = 0; task < tasks; task++) {
        if (sd_is_cancelled(r)) continue;
        size_t n = (size_t)task / tiles / (size_t)heads, at = (size_t)task / tiles % (size_t)heads * d,
            first = (size_t)task % tiles * TILE;
        sdk_head h = {sd_f32(q) + n * T * C + at, sd_f32(k) + n * S * C + at, sd_f32(v) + n * S * C + at,
                      sd_f32(y) + n * T * C + at, C, d, S, causal};
        unsigned char *mine = scratch + (size_t)thread_id() * room;
        float *weights = (float *)(void *)(mine + gemm_room(cpu));
        cpu->kern->attention(mine, weights, &h, first, min_size(TILE, T - first));
    }
}

/* ------------------------------------------------------------------------------------- norms */

/* Group norm [Wu & He 2018, eq. 7] over a group's channels and all pixels: y = (x - m) rstd g + b.
 * Sums per channel over fixed runs of pixels are joined in a fixed order, in double. Then y = (x - m) a + b' per
 * channel; the part of the mean that a float cannot hold goes into b'. */
typedef struct gn_room { double *sums; float *m, *a, *b; } gn_room;

/* Adds to the sums of the runs that n pixels from number `pixel` on belong to. A run that two bands share goes on where
 * the first has left it, pixel after pixel, so that its bits do not depend on where bands end. */
static void gn_sums(const sd_cpu *cpu, double *sums, const float *in, size_t pixel, size_t n, size_t C)
{
    size_t first = pixel / SD_NORM_RUN;
    int runs = (int)(div_up(pixel + n, SD_NORM_RUN) - first);
    (void)cpu->threads;   /* used only with OpenMP */
#pragma omp parallel for num_threads(cpu->threads) if (n * C > SMALL)
    for (int i = 0; i < runs; i++) {
        size_t run = first + (size_t)i, from = max_size(pixel, run * SD_NORM_RUN),
            to = min_size(pixel + n, (run + 1) * SD_NORM_RUN);
        cpu->kern->column_sums(sums + 2 * run * C, sums + (2 * run + 1) * C, in + (from - pixel) * C, to - from, C);
    }
}

static void gn_apply(const sd_cpu *cpu, float *out, const float *in, size_t n, size_t C, gn_room o, bool silu)
{
#pragma omp parallel for num_threads(cpu->threads) if (n * C > SMALL / 4)
    for (int i = 0; i < (int)n; i++)
        cpu->kern->affine(out + (size_t)i * C, in + (size_t)i * C, o.m, o.a, o.b, C, silu);
}

static void gn_coefficients(const double *sums, size_t runs, size_t C, size_t P, int groups, double eps, const float *g,
                            const float *b, gn_room o)
{
    size_t per = C / (size_t)groups;
    for (size_t c0 = 0; c0 < C; c0 += per) {
        double s = 0, ss = 0, count = (double)(P * per);
        for (size_t i = 0; i < runs; i++) {
            for (size_t c = c0; c < c0 + per; c++) {
                s += sums[2 * i * C + c];
                ss += sums[(2 * i + 1) * C + c];
            }
        }
        double mean = s / count, var = ss / count - mean * mean;   /* in double, squares of floats are exact */
        double rstd = 1 / sqrt((var > 0 ? var : 0) + eps);
        for (size_t c = c0; c < c0 + per; c++) {
            o.m[c] = (float)mean;
            o.a[c] = (float)(rstd * (double)g[c]);
            o.b[c] = (float)((double)b[c] - (mean - (double)o.m[c]) * rstd * (double)g[c]);
        }
    }
}

static void cpu_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                           double eps, bool silu)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t N = (size_t)x.dim[0], C = (size_t)cols(x), P = (size_t)rows(x) / N, runs = div_up(P, SD_NORM_RUN);
    size_t sums = round_up(2 * runs * C * sizeof(double), SD_ALIGN);
    pieces p = {sd_scratch(r, sums + 5 * floats(C))};
    if (!p.at) return;
    gn_room o = {.sums = cut(&p, sums)};
    o.m = cut(&p, C * sizeof(float));
    o.a = cut(&p, C * sizeof(float));
    o.b = cut(&p, C * sizeof(float));
    const float *gain = sd_cpu_f32(r, g, cut(&p, C * sizeof(float))),
        *bias = sd_cpu_f32(r, b, cut(&p, C * sizeof(float)));
    for (size_t n = 0; n < N; n++) {
        const float *in = sd_f32(x) + n * P * C;
        float *out = sd_f32(y) + n * P * C;
        memset(o.sums, 0, sums);
        gn_sums(cpu, o.sums, in, 0, P, C);
        gn_coefficients(o.sums, runs, C, P, groups, eps, gain, bias, o);
        gn_apply(cpu, out, in, P, C, o, silu);
    }
}

static void cpu_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    if (pixel == 0) memset(sums.data, 0, (size_t)sd_numel(&sums) * sizeof(float));
    gn_sums(sd_cpu_of(r), sums.data, sd_f32(x), (size_t)pixel, (size_t)rows(x), (size_t)cols(x));
}

static gn_room gn_room_of(sd_tensor scale)
{
    size_t C = (size_t)cols(scale);
    return (gn_room){.m = sd_f32(scale), .a = sd_f32(scale) + C, .b = sd_f32(scale) + 2 * C};
}

static void cpu_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b,
                           int groups, double eps, int64_t pixels)
{
    size_t C = (size_t)cols(scale);
    pieces p = {sd_scratch(r, 2 * floats(C))};
    if (!p.at) return;
    const float *gain = sd_cpu_f32(r, g, cut(&p, C * sizeof(float))),
        *bias = sd_cpu_f32(r, b, cut(&p, C * sizeof(float)));
    gn_coefficients(sums.data, div_up((size_t)pixels, SD_NORM_RUN), C, (size_t)pixels, groups, eps, gain, bias,
                    gn_room_of(scale));
}

static void cpu_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu)
{
    gn_apply(sd_cpu_of(r), sd_f32(y), sd_f32(x), (size_t)rows(x), (size_t)cols(x), gn_room_of(scale), silu);
}

/* Layer norm [Ba et al. 2016] over the columns of each row. */
static void cpu_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t C = (size_t)cols(x);
    pieces p = {sd_scratch(r, 2 * floats(C))};
    if (!p.at) return;
    const float *gain = sd_cpu_f32(r, g, cut(&p, C * sizeof(float))),
        *bias = sd_cpu_f32(r, b, cut(&p, C * sizeof(float)));
    int n = (int)rows(x);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * C > SMALL / 2)
    for (int i = 0; i < n; i++) {
        const float *in = sd_f32(x) + (size_t)i * C;
        double s = 0, ss = 0;
        cpu->kern->sums(&s, &ss, in, C);
        double mean = s / (double)C, var = ss / (double)C - mean * mean;
        cpu->kern->norm_affine(sd_f32(y) + (size_t)i * C, in, mean, 1 / sqrt((var > 0 ? var : 0) + eps), gain, bias, C);
    }
}

/* --------------------------------------------------------------------------------- element-wise */

/* One long row, or one row per pixel, cut into pieces for the threads. */
enum { CHUNK = 16384 };

static void cpu_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    const sd_kern *k = cpu->kern;
    void (*const kernels[])(float *, const float *, size_t) = {
        [SD_ACT_SILU] = k->silu, [SD_ACT_GELU] = k->gelu, [SD_ACT_QUICK_GELU] = k->quick_gelu, [SD_ACT_RELU] = k->relu,
        [SD_ACT_SOFT_CLAMP] = k->soft_clamp, [SD_ACT_TO_UNIT] = k->to_unit, [SD_ACT_FROM_UNIT] = k->from_unit};
    size_t n = (size_t)sd_numel(&x);
    int tasks = (int)((n + CHUNK - 1) / CHUNK);
#pragma omp parallel for num_threads(cpu->threads) if (n > SMALL / 4)
    for (int i = 0; i < tasks; i++) {
        size_t at = (size_t)i * CHUNK;
        kernels[act](sd_f32(y) + at, sd_f32(x) + at, min_size(CHUNK, n - at));
    }
}

/* A row is [value | gate]: y = value * gelu(gate) [Shazeer 2020]. */
static void cpu_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t C = (size_t)cols(y);
    int n = (int)rows(y);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * C > SMALL / 8)
    for (int i = 0; i < n; i++) {
        const float *in = sd_f32(x) + (size_t)i * 2 * C;
        cpu->kern->geglu(sd_f32(y) + (size_t)i * C, in, in + C, C);
    }
}

static void cpu_add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t n = (size_t)sd_numel(&y);
    int tasks = (int)((n + CHUNK - 1) / CHUNK);
#pragma omp parallel for num_threads(cpu->threads) if (n > SMALL)
    for (int i = 0; i < tasks; i++) {
        size_t at = (size_t)i * CHUNK;
        cpu->kern->add(sd_f32(y) + at, sd_f32(a) + at, sd_f32(b) + at, min_size(CHUNK, n - at));
    }
}

static void cpu_add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t C = (size_t)cols(y), P = (size_t)(rows(y) / y.dim[0]);
    int n = (int)rows(y);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * C > SMALL)
    for (int i = 0; i < n; i++) {
        float *to = sd_f32(y) + (size_t)i * C;
        cpu->kern->add(to, to, sd_f32(bias) + (size_t)i / P * C, C);
    }
}

static void cpu_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    (void)cpu;   /* used only with OpenMP */
    size_t A = (size_t)cols(a), B = (size_t)cols(b);
    int n = (int)rows(y);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * (A + B) > SMALL)
    for (int i = 0; i < n; i++) {
        float *to = sd_f32(y) + (size_t)i * (A + B);
        memcpy(to, sd_f32(a) + (size_t)i * A, A * sizeof(float));
        memcpy(to + A, sd_f32(b) + (size_t)i * B, B * sizeof(float));
    }
}

/* Nearest: source = floor(target * in/out), the ratio a float as in torch's upsample_nearest2d. */
static void cpu_upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    (void)cpu;   /* used only with OpenMP */
    int64_t H = y.dim[1], W = y.dim[2], h = x.dim[1], w = x.dim[2];
    size_t C = (size_t)cols(x);
    float sy = (float)h / (float)H, sx = (float)w / (float)W;
    int n = (int)(y.dim[0] * H);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)sd_numel(&y) > SMALL)
    for (int i = 0; i < n; i++) {
        int64_t iy = (int64_t)((float)(i % H) * sy);
        const float *from = sd_f32(x) + (size_t)((i / H * h + (iy < h ? iy : h - 1)) * w) * C;
        float *to = sd_f32(y) + (size_t)i * (size_t)W * C;
        for (int64_t ox = 0; ox < W; ox++) {
            int64_t ix = (int64_t)((float)ox * sx);
            memcpy(to + (size_t)ox * C, from + (size_t)(ix < w ? ix : w - 1) * C, C * sizeof(float));
        }
    }
}

static void cpu_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    (void)r;
    sdk_sinusoid(sd_f32(y), value, (size_t)y.dim[0], (size_t)y.dim[1], flip, shift);
}

/* y[n,t] = token[ids[n,t]] + position[t], if there are positions */
static void cpu_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t T = (size_t)y.dim[1], C = (size_t)y.dim[2], n = (size_t)y.dim[0] * T;
    float *row = sd_scratch(r, C * sizeof(float));
    if (!row) return;
    for (size_t i = 0; i < n; i++) {
        float *to = sd_f32(y) + i * C;
        sd_widen_weight(to, token, (size_t)ids[i] * C, C, cpu->kern);
        if (!position) continue;
        sd_widen_weight(row, position, i % T * C, C, cpu->kern);
        cpu->kern->add(to, to, row, C);
    }
}

const sd_backend sd_backend_cpu = {
    .name = "cpu",
    .alloc = sd_cpu_alloc,
    .release = sd_cpu_release,
    .trim = sd_cpu_trim,
    .upload = sd_cpu_upload,
    .download = sd_cpu_download,
    .copy = sd_cpu_copy,
    .sinusoid = cpu_sinusoid,
    .linear = cpu_linear,
    .conv2d = cpu_conv2d,
    .describe = cpu_describe,
    .attention = cpu_attention,
    .group_norm = cpu_group_norm,
    .norm_sums = cpu_norm_sums,
    .norm_scale = cpu_norm_scale,
    .norm_apply = cpu_norm_apply,
    .layer_norm = cpu_layer_norm,
    .act = cpu_act,
    .geglu = cpu_geglu,
    .add = cpu_add,
    .add_channels = cpu_add_channels,
    .concat = cpu_concat,
    .upsample = cpu_upsample,
    .embed = cpu_embed,
};
