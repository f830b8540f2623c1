/* ops_cpu_gemm.c - floor 2: products of matrices: linear layers, and what unfolded convolutions have of them. Threads
 * share the elements of a result, never a sum. */
#include "ops_cpu.h"

#include <math.h>

static inline const void *column_of_b(const sd_product *p, size_t j)
{
    return (const unsigned char *)p->B.data + j * p->K * (p->B.widen ? sizeof(uint16_t) : sizeof(float));
}

static inline unsigned char *scratch_of(const sd_product *p)
{
    return p->scratch + (size_t)thread_id() * gemm_room(sd_cpu_of(p->r));
}

/* A task packs its columns of B once, so it takes many rows; and all take about as many, for a few that are left would
 * need all of B again. If threads would be idle, it takes fewer columns while it has all rows, for then nothing is
 * packed twice (1280 to 1280 at 512 rows 0.97); then fewer rows, then fewer columns again. */
static void multiply_straight(const sd_product *p)
{
    const sd_cpu *cpu = sd_cpu_of(p->r);
    const size_t M = p->M, N = p->N, K = p->K, step = 32;
    size_t tall = round_up(div_up(M, div_up(M, 8 * TASK_ROWS)), TASK_ROWS / 2), wide = equal_columns(N, step);
    while (div_up(M, tall) * div_up(N, wide) < 4 * (size_t)cpu->threads && (tall > 2 * TASK_ROWS || wide > 2 * step)) {
        if (tall > 2 * TASK_ROWS && (tall < M || wide <= 5 * step)) tall = round_up(tall / 2, TASK_ROWS / 2);
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
    double m = (double)M, n = (double)N, depth = (double)K, spare = (double)(packed_columns(k, M) - M);
    return 2 * m * (depth + n) + spare * n * depth / 16 < n * depth * ceil(m / (8 * TASK_ROWS));
}

static size_t turned_room(const sd_cpu *cpu, size_t M, size_t N, size_t K)
{
    return !cpu->blas && is_turned(cpu->kern, M, N, K) ? floats(packed_columns(cpu->kern, M) * K) : 0;
}

/* How a turned product is shared out: the rows of A in equal parts, and those of B, which are C's columns, `wide` at a
 * time; but what may be each thread's last in halves, so that all threads end at about the same time. */
typedef struct shares {
    size_t parts, tall;
    size_t wide, narrow, wides;   /* rows of B, and how many times `wide` of them */
    size_t tasks;
} shares;

static shares shares_of(const sd_product *p)
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

static void turned_task(const sd_product *p, const shares *s, size_t task, size_t then)
{
    size_t j = first_of(s, task), end = min_size(first_of(s, task + s->parts), p->N), m = task % s->parts * s->tall;
    sd_cpu_of(p->r)->kern->gemm_turned(scratch_of(p), min_size(s->tall, p->M - m), end - j, p->K, p->turned + m * p->K,
                                       column_of_b(p, j), p->K, p->B.widen, p->C + m * p->N + j, p->N,
                                       p->bias ? p->bias + j : NULL,
                                       then < s->tasks ? column_of_b(p, first_of(s, then)) : NULL);
}

/* C^T = B A^T: A is packed once, and every task reads its rows of B from where they lie. */
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

void sd_cpu_multiply(const sd_product *p)
{
    const sd_cpu *cpu = sd_cpu_of(p->r);
    if (cpu->blas) sd_blas_multiply(cpu->blas, cpu->threads, p->M, p->N, p->K, p->A, p->B.data, p->C, p->bias);
    else if (p->turned) multiply_turned(p);
    else multiply_straight(p);
}

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
