/* ops_cpu_gemm.c - floor 2: products of matrices, shared out among threads: linear layers, and unfolded convolutions of
 * kernels that pack no weights. Threads share the elements of a result, never a sum.
 *
 * C[M,N] = A[M,K] B^T + bias, B [N,K], is computed in one of two ways, with the same bits. Straight: B is turned into
 * strips of columns (kern->gemm). Turned: where rows are few it is faster to turn A, compute C^T = B A^T and turn that
 * (kern->gemm_turned). */
#include "ops_cpu.h"

#include <math.h>

/* Column j of B^T, which is a row of the weight */
static inline const void *column_of_b(const sd_product *p, size_t j)
{
    return (const unsigned char *)p->B.data + j * p->K * (p->B.widen ? sizeof(uint16_t) : sizeof(float));
}

static inline unsigned char *scratch_of(const sd_product *p)
{
    return of_thread(p->scratch, gemm_room(sd_cpu_of(p->r)));
}

/* --------------------------------------------------------------------------------- straight */

enum { TALLEST = 8 * TASK_ROWS };   /* most rows of a task */

/* How a product is cut into tasks. A task packs its columns of B once, so it has many rows; and all have about as many,
 * for a few that are left would need all of B again. Where that makes too few tasks for the threads, they are halved:
 * first their columns while a task has all rows, for then nothing is packed twice; then their rows; then their columns
 * again. */
typedef struct grid { size_t tall, wide; } grid;

static grid grid_of(size_t M, size_t N, size_t threads)
{
    enum { STEP = 32, LEAST_ROWS = 2 * TASK_ROWS, FEW_COLUMNS = 5 * STEP, LEAST_COLUMNS = 2 * STEP };
    grid g = {round_up(div_up(M, div_up(M, TALLEST)), TASK_ROWS / 2), equal_columns(N, STEP)};
    while (div_up(M, g.tall) * div_up(N, g.wide) < 4 * threads && (g.tall > LEAST_ROWS || g.wide > LEAST_COLUMNS)) {
        bool rows_next = g.tall < M || g.wide <= FEW_COLUMNS;
        if (g.tall > LEAST_ROWS && rows_next) g.tall = round_up(g.tall / 2, TASK_ROWS / 2);
        else g.wide = round_up(g.wide / 2, STEP);
    }
    return g;
}

static void multiply_straight(const sd_product *p)
{
    const sd_cpu *cpu = sd_cpu_of(p->r);
    const size_t M = p->M, N = p->N, K = p->K;
    const grid g = grid_of(M, N, (size_t)cpu->threads);
    size_t parts = div_up(N, g.wide);
    int tasks = (int)(div_up(M, g.tall) * parts);
#pragma omp parallel for schedule(dynamic) num_threads(cpu->threads) if (M * N * K > 16 * (size_t)SMALL)
    for (int task = 0; task < tasks; task++) {
        size_t i = (size_t)task / parts * g.tall, j = (size_t)task % parts * g.wide;
        size_t m = min_size(g.tall, M - i), n = min_size(g.wide, N - j);
        const float *bias = p->bias ? p->bias + j : NULL;
        const void *b = column_of_b(p, j);
        if (sd_is_cancelled(p->r)) continue;
        cpu->kern->gemm(scratch_of(p), m, n, K, p->A + i * K, K, b, K, true, p->B.widen, p->C + i * N + j, N, bias);
    }
}

/* ----------------------------------------------------------------------------------- turned */

/* Is it faster turned? What counts is how many numbers are turned: straight, those of B, again for each TALLEST rows;
 * turned, those of A and C, each of which takes as long as two of B. The last strip of A may have columns that are
 * computed in vain: each of their terms takes a sixteenth. (Both weights were measured, docs/SPEED.md.) */
static bool is_turned(const sd_kern *k, size_t M, size_t N, size_t K)
{
    if (!k->gemm_turned) return false;
    double m = (double)M, n = (double)N, depth = (double)K, spare = (double)(packed_columns(k, M) - M);
    return 2 * m * (depth + n) + spare * n * depth / 16 < n * depth * ceil(m / TALLEST);
}

static size_t turned_room(const sd_cpu *cpu, size_t M, size_t N, size_t K)
{
    return !cpu->blas && is_turned(cpu->kern, M, N, K) ? floats(packed_columns(cpu->kern, M) * K) : 0;
}

/* How a turned product is shared out: the rows of A in equal parts of `tall`, and those of B, which are C's columns,
 * `wide` at a time. But the last of these, as many as there are threads, are two of `narrow` each, so that all threads
 * end at about the same time. */
typedef struct shares {
    size_t parts, tall;
    size_t wide, narrow, wides;   /* rows of B, and how many times `wide` of them */
    size_t tasks;
} shares;

static shares shares_of(const sd_product *p)
{
    enum { ROWS = SDK_TURNED / 2, COLUMNS = 48 };   /* A's piece and a task's sums fit the L2 cache */
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

/* The first row of B of a task; past the last task N or more. */
static size_t first_of(const shares *s, size_t task)
{
    size_t i = task / s->parts;
    return i < s->wides ? i * s->wide : s->wides * s->wide + (i - s->wides) * s->narrow;
}

/* then: the number of this thread's next task, whose first row of B is fetched */
static void turned_task(const sd_product *p, const shares *s, size_t task, size_t then)
{
    size_t j = first_of(s, task), end = min_size(first_of(s, task + s->parts), p->N), m = task % s->parts * s->tall;
    sd_cpu_of(p->r)->kern->gemm_turned(scratch_of(p), min_size(s->tall, p->M - m), end - j, p->K, p->turned + m * p->K,
                                       column_of_b(p, j), p->K, p->B.widen, p->C + m * p->N + j, p->N,
                                       p->bias ? p->bias + j : NULL,
                                       then < s->tasks ? column_of_b(p, first_of(s, then)) : NULL);
}

/* A is packed once by all threads, a piece of a strip's rows at a time; then every task reads its rows of B from where
 * they lie. */
static void multiply_turned(const sd_product *p)
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
            size_t n = min_size(strip, M - m), width = packed_columns(k, n);
            k->pack_panel(p->turned + m * K + k0 * width, p->A + m * K + k0, K, true, NULL, n, min_size(PIECE, K - k0));
        }
        for (size_t task = sd_take(&ticket); task < s.tasks && !sd_is_cancelled(p->r);) {
            size_t then = sd_take(&ticket);
            turned_task(p, &s, task, then);
            task = then;
        }
    }
}

/* -------------------------------------------------------------------------------------- both */

void sd_cpu_multiply(const sd_product *p)
{
    const sd_cpu *cpu = sd_cpu_of(p->r);
    if (cpu->blas) sd_blas_multiply(cpu->blas, cpu->threads, p->M, p->N, p->K, p->A, p->B.data, p->C, p->bias);
    else if (p->turned) multiply_turned(p);
    else multiply_straight(p);
}

/* y = x W^T + b */
void sd_cpu_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    sd_product p = {.r = r, .M = (size_t)rows(x), .N = (size_t)w->dim[0], .K = (size_t)w->dim[1], .A = sd_f32(x),
                    .B.widen = cpu->blas ? NULL : widened_on_the_way(cpu->kern, w), .C = sd_f32(y)};
    size_t gemm = gemm_room(cpu) * (size_t)cpu->threads, turned = turned_room(cpu, p.M, p.N, p.K);
    pieces cuts = {sd_scratch(r, gemm + floats(p.N) + turned + (p.B.widen || is_f32(w) ? 0 : floats(p.N * p.K)))};
    if (!cuts.at) return;
    p.scratch = cut(&cuts, gemm);
    p.bias = sd_cpu_f32(r, b, cut(&cuts, p.N * sizeof(float)));
    p.turned = turned ? cut(&cuts, turned) : NULL;
    p.B.data = p.B.widen ? w->data : sd_cpu_f32(r, w, (float *)(void *)cuts.at);
    sd_cpu_multiply(&p);
}
