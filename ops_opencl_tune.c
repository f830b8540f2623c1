/* ops_opencl_tune.c - floor 2: measures what a device can do at most, and which shapes of tiles are the fastest for the
 * products of Stable Diffusion's networks, and keeps that.
 *
 * It is kept for each device in <cache>/opencl/shapes-<hash>, a text: a line that says of which driver and table of
 * shapes it is, then "M N K conv shape" for each product. Another driver's, or one that is broken, is not read. */
#include "ops_opencl.h"
#include "os.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 8, GROUP_ITEMS = 256, CPU_SPAN = 65536, GPU_SPAN = 1024 };   /* opencl/peak.cl */

/* ----------------------------------------------------------------------------------------- roofs */

static void run(sd_cl_call *k, size_t groups, double work)
{
    sd_cl_run(k, (size_t[]){sd_cl_of(k->r)->cpu ? 1 : GROUP_ITEMS, 1, 1}, (size_t[]){groups, 1, 1}, work);
}

static size_t span(const sd_cl *cl) { return cl->cpu ? CPU_SPAN : GPU_SPAN; }

struct tuner;

/* Something that can be done again and again: `times` so much at a time. */
typedef struct task {
    sd_run *r;
    const struct tuner *tuner;      /* of products: what they are */
    cl_mem x, y;
    size_t groups;
    int times;
} task;

static void multiply_add(const task *t)
{
    sd_cl_call k = sd_cl_begin(t->r, "peak", "multiply_add", "");
    sd_cl_buffer(&k, t->y, 0), sd_cl_int(&k, t->times), sd_cl_float(&k, 0.999), sd_cl_float(&k, 0.001);
    run(&k, t->groups, 1);
}

static void copy(const task *t)
{
    for (int i = 0; i < t->times; i++) {
        sd_cl_call k = sd_cl_begin(t->r, "peak", "copy", "");
        sd_cl_buffer(&k, t->y, 0), sd_cl_buffer(&k, t->x, 0);
        run(&k, t->groups, 1);
    }
}

static double seconds_of(const task *t, void (*work)(const task *))
{
    sd_cl_wait(t->r);
    double begin = sd_now();
    work(t);
    sd_cl_wait(t->r);
    return sd_now() - begin;
}

enum { MOST_TIMES = 1 << 24 };

/* The best of several tries, each of which takes 10 ms or more: seconds for one time. */
static double best_of(task *t, void (*work)(const task *), double seconds)
{
    double best = INFINITY, until = sd_now() + seconds;
    t->times = 1;
    seconds_of(t, work);   /* builds the program */
    while (sd_ok(t->r) && seconds_of(t, work) < 0.01 && t->times < MOST_TIMES) t->times *= 2;
    for (int i = 0; sd_ok(t->r) && (i < 3 || sd_now() < until); i++) best = fmin(best, seconds_of(t, work) / t->times);
    return best;
}

/* More than any cache has, but not much of the device's memory. */
static size_t bytes_to_copy(const sd_cl *cl)
{
    uint64_t bytes = (uint64_t)1 << 28, least = cl->memory / 16 < cl->most ? cl->memory / 16 : cl->most;
    return (size_t)(bytes < least ? bytes : least) / (CPU_SPAN * sizeof(float)) * (CPU_SPAN * sizeof(float));
}

sd_status sd_cl_measure_roofs(sd_run *r, sd_roofs *roofs, double seconds)
{
    sd_cl *cl = sd_cl_of(r);
    size_t bytes = bytes_to_copy(cl), width = cl->cpu ? 16 : GROUP_ITEMS;
    task t = {.r = r, .x = sd_cl_new_buffer(r, bytes, "figures"), .y = sd_cl_new_buffer(r, bytes, "figures")};
    *roofs = (sd_roofs){.kernels = cl->name, .threads = 1};
    t.groups = cl->units * (cl->cpu ? 1 : 16);
    roofs->peak = roofs->peak_one = 2 * CHAINS * (double)(t.groups * width) / best_of(&t, multiply_add, seconds) / 1e9;
    t.groups = bytes / sizeof(float) / span(cl);
    roofs->level[SD_COUNT(roofs->level) - 1].name = "memory";
    roofs->level[SD_COUNT(roofs->level) - 1].copy = 2 * (double)bytes / best_of(&t, copy, seconds) / 1e9;
    sd_cl_free_buffer(cl, t.x);
    sd_cl_free_buffer(cl, t.y);
    return r->err->status;
}

/* --------------------------------------------------------------------------------- kept choices */

enum { MOST_FILE = 1 << 20, MOST_CHOICES = 1024 };

/* The file's name, and the first line that it must have. */
static bool place_of(const sd_cl *cl, bool make, char path[SD_CL_PATH], char head[96])
{
    char name[16 + SD_CL_HASH] = "shapes-", hex[SD_CL_HASH], table[32 * 32] = "";
    size_t n = 0;
    for (int i = 0; i < sd_cl_shapes() && n + 32 < sizeof table; n += strlen(table + n), i++)
        sd_cl_shape_text(i, table + n);
    sd_cl_hash(hex, (const char *[]){cl->platform_name, cl->name}, 2);
    memcpy(name + strlen(name), hex, sizeof hex);
    sd_cl_hash(hex, (const char *[]){cl->platform_version, cl->driver, table, sd_cl_source("gemm")}, 4);
    snprintf(head, 96, "sd shapes %s\n", hex);
    return sd_cl_cached_path(cl, name, make, path);
}

static bool add_choice(sd_cl *cl, sd_cl_choice c)
{
    sd_cl_choice *more = cl->choices < MOST_CHOICES ? realloc(cl->choice, (cl->choices + 1) * sizeof *more) : NULL;
    if (!more) return false;
    cl->choice = more;
    cl->choice[cl->choices++] = c;
    return true;
}

void sd_cl_read_choices(sd_cl *cl)
{
    char path[SD_CL_PATH], head[96], *text = NULL;
    size_t n = 0;
    sd_error quiet = {.status = SD_OK};
    if (!place_of(cl, false, path, head) || sd_os_look(path, NULL) != SD_OS_FILE
        || sd_read_file(path, MOST_FILE, &text, &n, &quiet))
        return;
    const char *at = text + strlen(head);
    bool sound = n > strlen(head) && memcmp(text, head, strlen(head)) == 0;
    for (int used = 0; sound && *at; at += used) {
        long long M, N, K;
        int conv, row;
        sound = sscanf(at, "%lld %lld %lld %d %d\n%n", &M, &N, &K, &conv, &row, &used) == 5 && M > 0 && row >= 0
            && row < sd_cl_shapes() && add_choice(cl, (sd_cl_choice){M, N, K, conv != 0, row});
    }
    free(text);
    if (sound) return;
    sd_cl_forget_choices(cl);
}

void sd_cl_forget_choices(sd_cl *cl)
{
    free(cl->choice);
    cl->choice = NULL;
    cl->choices = 0;
}

static void write_choices(sd_run *r)
{
    sd_cl *cl = sd_cl_of(r);
    char path[SD_CL_PATH], head[96];
    sd_outfile out;
    if (!place_of(cl, true, path, head) || sd_outfile_open(&out, path, r->err)) return;
    fputs(head, out.f);
    for (size_t i = 0; i < cl->choices; i++) {
        const sd_cl_choice *c = &cl->choice[i];
        fprintf(out.f, "%lld %lld %lld %d %d\n", (long long)c->M, (long long)c->N, (long long)c->K, c->conv, c->shape);
    }
    sd_outfile_commit(&out, r->err);
}

/* ----------------------------------------------------------------------------------- what to measure
 * Products of a guided step at the models' own sizes, and of the VAE. M rows, N columns, sums of K terms; in a
 * convolution M is side x side of `batch` pictures, and K = 9 channels. A choice holds for half as many rows to twice
 * as many. */

typedef struct product { int64_t M, N, K, batch; bool conv; } product;

enum { LEVELS = 7, KINDS = 9 };

/* A level of a UNet: tokens of two pictures, channels, numbers of a word; and whether there are transformers. */
static const struct { int64_t tokens, channels, context; } levels[LEVELS] = {
    {8192, 320, 768}, {2048, 640, 768}, {512, 1280, 768}, {128, 1280, 768},   /* SD 1.5, 512x512 */
    {32768, 320, 2048}, {8192, 640, 2048}, {2048, 1280, 2048}};              /* SDXL, 1024x1024 */

static const product others[] = {
    {4096, 512, 512, 1, false}, {1024, 512, 512, 36, false}, {4096, 512, 512, 36, false}, {16384, 256, 256, 36, false},
    {128, 1280, 11520, 1, true}, {128, 1280, 23040, 1, true}};

static product product_at(int i)
{
    if (i >= LEVELS * KINDS) return others[i - LEVELS * KINDS];
    int64_t M = levels[i / KINDS].tokens, c = levels[i / KINDS].channels;
    const product kinds[KINDS] = {
        {M, c, c, 1, false}, {M, 8 * c, c, 1, false}, {M, c, 4 * c, 1, false},   /* attention; feed-forward */
        {154, c, levels[i / KINDS].context, 1, false},
        {M, c, 2 * c, 1, false}, {M, c, 3 * c, 1, false},                        /* shortcuts of resnets */
        {M / 16, c, c, 36, false}, {M / 16, c, 2 * c, 36, false},                /* Winograd */
        {M / 4, c, 9 * c, 1, true}};                                             /* stride 2 */
    return kinds[i % KINDS];
}

static int products(void) { return LEVELS * KINDS + (int)SD_COUNT(others); }

/* ------------------------------------------------------------------------------------- measuring */

/* What is measured with: the operands of products; a convolution's picture, result and kernel. */
typedef struct tuner {
    sd_run *r;
    const product *p;
    cl_mem a, w, c;
    sd_tensor x, y, kernel;
} tuner;

static size_t padded(int64_t n) { return (size_t)(n + SD_CL_STRIP - 1) / SD_CL_STRIP * SD_CL_STRIP; }
static size_t most_of(size_t a, size_t b) { return a > b ? a : b; }

/* Numbers of the largest operand. */
static size_t largest(const product *p)
{
    int64_t pixels = p->conv ? 4 * p->M : p->M, terms = p->conv ? p->K / 9 : p->K;
    size_t c = (size_t)(p->M * p->N), w = padded(p->N) * (size_t)p->K;
    return (size_t)p->batch * most_of(most_of((size_t)(pixels * terms), c), w);
}

/* Does a device have room for three operands, for a convolution's picture and kernel, and for what others need? */
static bool fits(const sd_cl *cl, const product *p)
{
    uint64_t bytes = largest(p) * sizeof(float);
    return bytes <= cl->most && (p->conv ? 8 : 5) * bytes <= cl->memory;
}

static void compute(const task *t)
{
    const tuner *u = t->tuner;
    const product *p = u->p;
    const sd_conv half = {.stride = 2, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    const sd_cl_product all = {
        .a = u->a, .w = u->w, .c = u->c, .bias = sd_cl_of(t->r)->nothing, .a_stride = (size_t)(p->M * p->K),
        .w_stride = padded(p->N) * (size_t)p->K, .c_stride = (size_t)(p->M * p->N), .type = SD_CL_FLOAT, .M = p->M,
        .N = p->N, .K = p->K, .batch = p->batch};
    for (int i = 0; i < t->times && sd_ok(t->r); i++) {
        if (p->conv) sd_cl_conv2d(t->r, u->y, u->x, &u->kernel, NULL, half);
        else sd_cl_multiply(t->r, &all);
    }
}

static double seconds_with(tuner *u, int row)
{
    task t = {.r = u->r, .tuner = u, .times = 1};
    sd_cl_of(u->r)->only = row + 1;
    double seconds = best_of(&t, compute, 0);
    sd_cl_of(u->r)->only = 0;
    return seconds;
}

/* Another shape than the one that is used anyway must be faster by so much: measurements differ. */
#define FASTER 1.02

static bool tune(tuner *u, sd_tuned *told)
{
    sd_cl *cl = sd_cl_of(u->r);
    const product *p = u->p;
    int best = sd_cl_shape_for(cl, p->M, p->N, p->K, p->batch, p->conv), first = best;
    static const char *const names[] = {"product", "36 products", "convolution"};
    double before = seconds_with(u, first), least = before, flops = 2 * (double)(p->M * p->N * p->K * p->batch);
    for (int row = 0; row < sd_cl_shapes() && sd_ok(u->r); row++) {
        double seconds = row == first || !sd_cl_shape_runs(cl, row) ? INFINITY : seconds_with(u, row);
        if (seconds * FASTER >= least) continue;
        least = seconds;
        best = row;
    }
    told->operation = names[p->conv ? 2 : p->batch > 1];
    told->rows = p->M, told->columns = p->N, told->terms = p->K;
    told->before = flops / before / 1e9, told->gflops = flops / least / 1e9;
    sd_cl_shape_text(best, told->shape);
    return sd_ok(u->r) && add_choice(cl, (sd_cl_choice){p->M, p->N, p->K, p->conv, best});
}

static void fill(sd_run *r, cl_mem to, size_t bytes)
{
    sd_cl_call k = sd_cl_begin(r, "peak", "fill", "");
    sd_cl_buffer(&k, to, 0);
    run(&k, bytes / sizeof(float) / span(sd_cl_of(r)), (double)bytes / sizeof(float));
}

/* The three operands, large enough for all products that are measured, and full of numbers. */
static void make_operands(tuner *u, size_t numbers)
{
    sd_cl *cl = sd_cl_of(u->r);
    size_t bytes = (numbers + span(cl) - 1) / span(cl) * span(cl) * sizeof(float);
    cl_mem *const operands[] = {&u->a, &u->w, &u->c};
    for (size_t i = 0; i < SD_COUNT(operands) && sd_ok(u->r); i++) {
        *operands[i] = sd_cl_new_buffer(u->r, bytes, "a product's operands");
        if (*operands[i]) fill(u->r, *operands[i], bytes);
    }
}

/* A convolution's picture and result in working memory; its kernel, which is packed once for all that have its size. */
static void make_picture(tuner *u, uint16_t *halves, uint32_t id)
{
    const product *p = u->p;
    int64_t side = (int64_t)(sqrt((double)p->M / 2) + 0.5), channels = p->K / 9;
    sd_reset(u->r, 0);
    u->x = sd_new4(u->r, 2, 2 * side, 2 * side, channels);
    u->y = sd_new4(u->r, 2, side, side, p->N);
    u->kernel = (sd_tensor){.nd = 4, .dim = {p->N, channels, 3, 3}, .dt = SD_F16, .data = halves, .id = id};
    if (!sd_ok(u->r)) return;
    sd_cl_place x = sd_cl_find(u->r, u->x);
    sd_cl_failed(u->r, clEnqueueCopyBuffer(sd_cl_of(u->r)->queue, u->a, x.buffer, 0, x.at * sizeof(float),
                                           (size_t)sd_numel(&u->x) * sizeof(float), 0, NULL, NULL),
                 "clEnqueueCopyBuffer");
}

enum { MOST_KERNEL = 1280 * 2560 * 9 };

static uint16_t *kernel_numbers(sd_run *r)
{
    uint16_t *half = malloc(MOST_KERNEL * sizeof *half);
    if (!half) sd_fail(r->err, SD_ERR_MEMORY, "no memory for a convolution's kernel");
    for (size_t i = 0; half && i < MOST_KERNEL; i++) half[i] = (uint16_t)(0x2000 + i * 40503 % 0x1400 + i % 2 * 0x8000);
    return half;
}

sd_status sd_cl_tune(sd_run *r, int (*fn)(void *user, const sd_tuned *tuned), void *user)
{
    sd_cl *cl = sd_cl_of(r);
    sd_tuned told = {0};
    product p;
    tuner u = {.r = r, .p = &p};
    size_t numbers = 0, picture = 0;
    uint16_t *halves = kernel_numbers(r);
    sd_cl_forget_choices(cl);
    for (int i = 0; i < products(); i++) {
        p = product_at(i);
        if (!fits(cl, &p)) continue;
        told.of++;
        numbers = most_of(numbers, largest(&p));
        if (p.conv) picture = most_of(picture, (size_t)(4 * p.M * p.K / 9 + p.M * p.N) * sizeof(float));
    }
    if (sd_ok(r)) make_operands(&u, numbers);
    if (sd_ok(r)) sd_reserve(r, picture + 4096, "a convolution");
    for (int i = 0; i < products() && sd_ok(r); i++) {
        p = product_at(i);
        if (!fits(cl, &p)) continue;
        if (p.conv) make_picture(&u, halves, (uint32_t)i + 1);
        told.done++;
        if (!tune(&u, &told) || !fn || !fn(user, &told)) continue;
        sd_fail(r->err, SD_ERR_CANCELLED, "stopped");
    }
    if (sd_ok(r)) write_choices(r);
    sd_cl_free_buffer(cl, u.a), sd_cl_free_buffer(cl, u.w), sd_cl_free_buffer(cl, u.c);
    free(halves);
    return r->err->status;
}
