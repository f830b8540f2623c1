/* profile_roof.c - floor 2: measures what this machine can do at most.
 *
 * Other programs and a changing clock rate make a single figure too small, never too large. So each figure is the best
 * of many short tries, which all threads begin together. Memory is shared: a try lasts from the first thread's begin to
 * the last one's end. A core's arithmetic is its own: there each thread's best try counts, so a program that keeps one
 * core busy does no harm. */
#include "profile_roof.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

/* ------------------------------------------------------------------------------ tries, together */

/* What one thread does `times` times, and its own buffers for it. */
typedef struct task {
    const sd_kern *kern;
    size_t rows, columns;      /* of a product c = a b */
    float *a, *b, *c;
    void *scratch;
    size_t bytes;              /* that are read or copied, from a on */
    double best;               /* seconds of its shortest try, for one time */
} task;
typedef void work(const task *t, int times);

/* Seconds from when the first thread begins to when the last one ends. */
static double try_once(work *w, task *tasks, int threads, int times)
{
    double first = INFINITY, last = 0;
    (void)threads;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
#endif
    {
        int id = 0;
#ifdef _OPENMP
        id = omp_get_thread_num();
#pragma omp barrier
#endif
        double begin = sd_now();
        w(&tasks[id], times);
        double end = sd_now();
        tasks[id].best = fmin(tasks[id].best, (end - begin) / times);
#ifdef _OPENMP
#pragma omp critical
#endif
        {
            first = fmin(first, begin);
            last = fmax(last, end);
        }
    }
    return last - first;
}

static void forget(task *tasks, int threads)
{
    for (int i = 0; i < threads; i++) tasks[i].best = INFINITY;
}

/* How many times the work must be done to take a millisecond. Of three tries the shortest time of any thread counts: a
 * try that other programs delay would say that doing it once is enough, and then a clock is measured. */
static int times_for(work *w, task *tasks, int threads)
{
    for (int times = 1;; times *= 2) {
        double least = INFINITY;
        forget(tasks, threads);
        for (int i = 0; i < 3; i++) try_once(w, tasks, threads, times);
        for (int i = 0; i < threads; i++) least = fmin(least, tasks[i].best * times);
        if (least >= 1e-3 || times >= 1 << 24) return times;
    }
}

/* The shortest time in which all threads do the work once, from tries of a millisecond or more; each thread's own
 * shortest time goes to `best`. */
static double best_of(work *w, task *tasks, int threads, double seconds)
{
    int times = times_for(w, tasks, threads);
    double best = INFINITY, until = sd_now() + seconds;
    forget(tasks, threads);
    do best = fmin(best, try_once(w, tasks, threads, times) / times);
    while (sd_now() < until);
    return best;
}

/* 0: a clock of whole seconds did not move. */
static double rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

/* ------------------------------------------------------------------------------------- the peak */

enum { MOST_TILES = 8, MOST_STRIPS = 2 };

static size_t tile_of(const sd_kern *k) { return k->panel ? k->panel_rows : 8; }
static size_t strip_of(const sd_kern *k) { return k->panel ? k->panel_columns : 16; }

/* Multiplies with the micro-kernel, or with gemm if the table has none; then B is [columns, SDK_PANEL]. */
static void multiply(const task *t, int times)
{
    const sd_kern *k = t->kern;
    for (int i = 0; i < times; i++) {
        if (k->panel) k->panel(t->rows, t->columns, SDK_PANEL, t->a, t->b, t->c, t->columns, false);
        else k->gemm(t->scratch, t->rows, t->columns, SDK_PANEL, t->a, SDK_PANEL, t->b, SDK_PANEL, true, NULL, t->c,
                     t->columns, NULL);
    }
}

/* The cores that so many threads have at most, as a share of one for each. Threads that take turns on a core have the
 * same best try as threads with cores of their own. */
static double cores_share(int threads)
{
#ifdef _OPENMP
    int cores = omp_get_num_procs();
    return threads > cores ? (double)cores / threads : 1;
#else
    return threads == 1;
#endif
}

/* GFLOP/s: the best shape of whole tiles and strips. */
static double peak_of(task *tasks, int threads, double seconds)
{
    static const struct { size_t tiles, strips; } shapes[] = {{2, 1}, {4, 1}, {4, MOST_STRIPS}, {MOST_TILES, 1}};
    double best = 0;
    for (size_t s = 0; s < SD_COUNT(shapes); s++) {
        for (int i = 0; i < threads; i++) {
            tasks[i].rows = shapes[s].tiles * tile_of(tasks[i].kern);
            tasks[i].columns = shapes[s].strips * strip_of(tasks[i].kern);
        }
        double flops = 2.0 * (double)(tasks[0].rows * tasks[0].columns * SDK_PANEL), together = 0;
        best_of(multiply, tasks, threads, seconds / (double)SD_COUNT(shapes));
        for (int i = 0; i < threads; i++) together += rate(flops, tasks[i].best);
        best = fmax(best, together);
    }
    return best * cores_share(threads) / 1e9;
}

enum { LEVELS = 4 };   /* of memory, sd.h */

/* ------------------------------------------------------------------------------------ bandwidth
 * To read, memchr looks for a byte that is not there: the C library does that with the widest vectors. The byte, and
 * the number of bytes to copy, are read from memory each time, or a compiler would do the work only once. */

static void read_all(const task *t, int times)
{
    volatile int absent = 1;
    for (int i = 0; i < times; i++)
        if (memchr(t->a, absent, t->bytes)) return;
}

static void copy_half(const task *t, int times)
{
    volatile size_t half = t->bytes / 2;
    for (int i = 0; i < times; i++) memcpy(t->a, (const unsigned char *)t->a + half, half);
}

static void clear_all(const task *t, int times)
{
    for (int i = 0; i < times; i++) memset(t->a, 0, t->bytes);
}

/* The bytes of a buffer that is certainly in this level of memory and not in the one before; 0: there is none. */
static size_t buffer_of(int level, const sd_cache_sizes *c, int threads)
{
    const size_t n = (size_t)threads, least = (size_t)64 << 20, most = (size_t)512 << 20;
    size_t memory = 4 * c->l3 > least ? 4 * c->l3 : least;
    switch (level) {
    case 0: return c->l1 / 2;
    case 1: return c->l2 / 2 > c->l1 ? c->l2 / 2 : 0;
    case 2: return c->l3 / 2 / n > 2 * c->l2 ? c->l3 / 2 / n : c->l3 / n >= 2 * c->l2 ? 2 * c->l2 : 0;
    default: return (memory < most ? memory : most) / n;
    }
}

static void measure_level(sd_roofs *roofs, int level, const sd_cache_sizes *c, task *tasks, int threads, double seconds)
{
    static const char *const names[] = {"L1", "L2", "L3", "memory"};
    const size_t holds[] = {c->l1 * (size_t)threads, c->l2 * (size_t)threads, c->l3, 0};
    size_t bytes = buffer_of(level, c, threads) / SD_ALIGN * SD_ALIGN;
    roofs->level[level].name = names[level];
    roofs->level[level].bytes = holds[level];
    if (!bytes) return;
    for (int i = 0; i < threads; i++) tasks[i].bytes = bytes;
    double all = (double)bytes * threads / 1e9;
    roofs->level[level].read = rate(all, best_of(read_all, tasks, threads, seconds));
    roofs->level[level].copy = rate(all, best_of(copy_half, tasks, threads, seconds));
}

/* ------------------------------------------------------------------------------------------ all */

/* A thread's buffers in one block: the operands of the largest product, or what is read and copied. */
typedef struct sizes { size_t a, b, c, all; } sizes;   /* floats; all: bytes */

static sizes sizes_for(const sd_kern *k, const sd_cache_sizes *caches, int threads)
{
    size_t rows = MOST_TILES * tile_of(k), columns = MOST_STRIPS * strip_of(k), line = SD_ALIGN / sizeof(float);
    sizes s = {.a = rows * SDK_PANEL, .b = SDK_PANEL * columns};
    s.c = (rows * columns + line - 1) / line * line;
    s.all = (s.a + s.b + s.c) * sizeof(float) + k->gemm_scratch;
    for (int level = 0; level < LEVELS; level++) {
        size_t bytes = buffer_of(level, caches, threads);
        if (bytes > s.all) s.all = bytes;
    }
    s.all = (s.all + SD_ALIGN - 1) / SD_ALIGN * SD_ALIGN;
    return s;
}

sd_status sd_roofs_measure(sd_roofs *roofs, const sd_kern *kern, const sd_cache_sizes *caches, int threads,
                           double seconds, sd_error *e)
{
    sizes s = sizes_for(kern, caches, threads);
    unsigned char *memory = malloc((size_t)threads * s.all + SD_ALIGN);
    task *tasks = calloc((size_t)threads, sizeof *tasks);
    *roofs = (sd_roofs){.threads = threads, .kernels = kern->name};
    if (!memory || !tasks)
        sd_fail(e, SD_ERR_MEMORY, "no memory for %.1f MB to measure with", (double)threads * (double)s.all / 1e6);
    if (e->status) threads = 0;
    for (int i = 0; i < threads; i++) {
        unsigned char *at = memory + (SD_ALIGN - (uintptr_t)memory % SD_ALIGN) % SD_ALIGN + (size_t)i * s.all;
        float *a = (float *)(void *)at;
        tasks[i] = (task){.kern = kern, .a = a, .b = a + s.a, .c = a + s.a + s.b, .scratch = a + s.a + s.b + s.c,
                          .bytes = s.all};
    }
    if (threads) {
        try_once(clear_all, tasks, threads, 1);   /* each thread touches its own first */
        roofs->peak_one = peak_of(tasks, 1, seconds);
        roofs->peak = threads > 1 ? peak_of(tasks, threads, seconds) : roofs->peak_one;
        for (int level = 0; level < LEVELS; level++) measure_level(roofs, level, caches, tasks, threads, seconds);
    }
    free(memory);
    free(tasks);
    return e->status;
}

/* Activations come as fast as the level that holds them allows; weights come from memory. */
double sd_roof_seconds(const sd_roofs *r, double flops, double bytes, double weight_bytes)
{
    int level = 0;
    if (!r) return 0;
    double product = r->peak > 0 ? flops / r->peak : 0, moving = 0;
    while (level + 1 < LEVELS && (!(r->level[level].read > 0) || bytes > (double)r->level[level].bytes)) level++;
    double near = fmax(r->level[level].read, r->level[level].copy);
    double far = fmax(r->level[LEVELS - 1].read, r->level[LEVELS - 1].copy);
    if (near > 0 && far > 0) moving = bytes / near + weight_bytes / far;
    return fmax(product, moving) * 1e-9;
}

void sd_get_machine_sized(sd_machine *m, size_t size)
{
    sd_cache_sizes c = sd_caches_find();
    const sd_machine all = {sd_kern_select(NULL)->name, sd_cores_usable(), c.l1, c.l2, c.l3, c.line, c.from};
    if (m) sd_copy_struct(m, size, &all, sizeof all);
}
