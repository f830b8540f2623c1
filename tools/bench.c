/* bench.c - how fast the whole-tensor operations run on the shapes of SD 1.5, then the stages of a model, and which share that is of what
 * this machine can do.
 * usage: bench [--json] [--cpu] [--threads N] [--isa NAME] [--model DIR] [--size PIXELS] [--only operations|stages]
 *
 * The peak is that of the panel kernel on operands in the first cache, times the number of threads. GFLOP/s count the plain
 * algorithm's multiplications and additions, which is what a user gets; the share of the peak counts those that a convolution really
 * does, fewer with Winograd, so that it says how far a kernel is from what it could be. A stage's share counts the plain ones: it can
 * exceed 1. --cpu measures the process' time divided by the number of threads: steadier where others use the machine, blind to
 * threads that wait. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../pipeline.h"

typedef enum what { LINEAR, CONV, ATTENTION, GROUP_NORM, GEGLU, UPSAMPLE } what;

/* N pictures of side x side pixels (or so many tokens); i, o: channels in and out. ATTENTION: o heads over `keys` tokens. */
typedef struct entry {
    const char *name;
    what op;
    int64_t n, side, i, o, keys;
    sd_conv conv;
    int64_t kernel;
} entry;

#define SAME {1, 1, 1, 1, 1, false}, 3
#define TWICE {1, 1, 1, 1, 1, true}, 3
static const entry entries[] = {
    {"conv 320 at 64x64", CONV, 2, 64, 320, 320, 0, SAME},
    {"conv 960 to 320 at 64x64", CONV, 2, 64, 960, 320, 0, SAME},
    {"conv 640 at 32x32", CONV, 2, 32, 640, 640, 0, SAME},
    {"conv 1920 to 640 at 32x32", CONV, 2, 32, 1920, 640, 0, SAME},
    {"conv 1280 at 16x16", CONV, 2, 16, 1280, 1280, 0, SAME},
    {"conv 2560 to 1280 at 8x8", CONV, 2, 8, 2560, 1280, 0, SAME},
    {"conv 320 at 64x64, stride 2", CONV, 2, 64, 320, 320, 0, {2, 1, 1, 1, 1, false}, 3},
    {"conv 512 at 128x128", CONV, 1, 128, 512, 512, 0, SAME},
    {"conv 256 at 256x256", CONV, 1, 256, 256, 256, 0, SAME},
    {"conv 128 at 512x512", CONV, 1, 512, 128, 128, 0, SAME},
    {"conv 128 to 3 at 512x512", CONV, 1, 512, 128, 3, 0, SAME},
    {"conv 1280 at 16x16, enlarged", CONV, 2, 16, 1280, 1280, 0, TWICE},
    {"conv 640 at 32x32, enlarged", CONV, 2, 32, 640, 640, 0, TWICE},
    {"conv 512 at 128x128, enlarged", CONV, 1, 128, 512, 512, 0, TWICE},
    {"conv 256 at 256x256, enlarged", CONV, 1, 256, 256, 256, 0, TWICE},
    {"linear 320 to 2560", LINEAR, 2, 64, 320, 2560, 0, {0}, 0},
    {"linear 1280 to 320", LINEAR, 2, 64, 1280, 320, 0, {0}, 0},
    {"linear 1280 to 10240", LINEAR, 2, 16, 1280, 10240, 0, {0}, 0},
    {"attention 4096, d 40", ATTENTION, 2, 64, 320, 8, 4096, {0}, 0},
    {"attention 1024, d 80", ATTENTION, 2, 32, 640, 8, 1024, {0}, 0},
    {"attention 256, d 160", ATTENTION, 2, 16, 1280, 8, 256, {0}, 0},
    {"attention 4096 to 77, d 40", ATTENTION, 2, 64, 320, 8, 77, {0}, 0},
    {"attention 4096, d 512", ATTENTION, 1, 64, 512, 1, 4096, {0}, 0},
    {"group norm and SiLU 320", GROUP_NORM, 2, 64, 320, 32, 0, {0}, 0},
    {"group norm and SiLU 128", GROUP_NORM, 1, 512, 128, 32, 0, {0}, 0},
    {"geglu 2560", GEGLU, 2, 64, 2560, 0, 0, {0}, 0},
    {"upsample 256 to 512x512", UPSAMPLE, 1, 256, 256, 0, 0, {0}, 0},
};

static double now(const sd_run *r, bool cpu)
{
    struct timespec t;
    clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    if (cpu) return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec) / r->threads;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill(float *x, size_t n)
{
    uint32_t s = 1;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)((double)(s >> 8) / (1 << 23) - 1);
    }
}

static sd_tensor filled(sd_run *r, int64_t a, int64_t b, int64_t c, int64_t d)
{
    sd_tensor t = sd_new4(r, a, b, c, d);
    if (t.host) fill(sd_f32(t), (size_t)sd_numel(&t));
    return t;
}

/* GFLOP/s of one thread multiplying 48x64 by 64x32 in the first cache */
static double panel_peak(const sd_kern *k)
{
    const sd_run one = {.threads = 1};
    static float a[(48 + SDK_PANEL_SPARE) * SDK_PANEL], b[SDK_PANEL * 32], c[48 * 32];
    double best = 0;
    if (!k->panel) return 0;
    fill(a, SD_COUNT(a));
    fill(b, SD_COUNT(b));
    for (int round = 0; round < 20; round++) {
        double begin = now(&one, true);
        for (int i = 0; i < 500; i++) k->panel(48, 32, SDK_PANEL, a, b, c, 32, false);
        double rate = 500 * 2.0 * 48 * 32 * SDK_PANEL / (now(&one, true) - begin) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

typedef struct operands { sd_tensor x, k, w, bias; } operands;

static operands make(sd_run *r, const entry *e)
{
    operands d = {.x = filled(r, e->n, e->side, e->side, e->i)};
    if (e->op == ATTENTION) {
        d.x = sd_view3(r, d.x, e->n, e->side * e->side, e->i);
        d.k = sd_view3(r, filled(r, e->n, 1, e->keys, e->i), e->n, e->keys, e->i);
    } else if (e->op == LINEAR || e->op == CONV) {
        int64_t side = e->op == CONV ? e->kernel : 1;
        d.w = filled(r, e->o, e->i, side, side);
        d.bias = filled(r, 1, 1, 1, e->o);
    } else if (e->op == GROUP_NORM) {
        d.w = d.bias = filled(r, 1, 1, 1, e->i);
    }
    return d;
}

/* One thing that can be done again and again. */
typedef struct work {
    sd_run *r;
    const entry *e;                        /* an operation, or NULL: */
    operands d;
    size_t mark;
    sd_ctx *c;                             /* a stage of this model */
    int stage, side, size;                 /* side: of the latents, size: of the picture */
    float *latents, *context, *picture, *out[2];
} work;

static void apply(work *j)
{
    sd_run *r = j->r;
    const entry *e = j->e;
    operands d = j->d;
    sd_reset(r, j->mark);
    switch (e->op) {
    case LINEAR: sd_linear(r, d.x, &d.w, &d.bias); break;
    case CONV: sd_conv2d(r, d.x, &d.w, &d.bias, e->conv); break;
    case ATTENTION: sd_attention(r, d.x, d.k, d.k, (int)e->o, false); break;
    case GROUP_NORM: sd_group_norm(r, d.x, &d.w, &d.bias, (int)e->o, 1e-5, true); break;
    case GEGLU: sd_geglu(r, d.x); break;
    case UPSAMPLE: sd_upsample(r, d.x, 2 * e->side, 2 * e->side); break;
    }
}

static const char *const stage_names[] = {"text encoder, one prompt", "UNet, guided step", "VAE decode", "VAE encode"};

static void run_stage(work *j)
{
    const float times[2] = {501, 501};
    switch (j->stage) {
    case 0: sd_encode_text(j->c, "a cat", 0, j->context, SD_TOKENS * (size_t)j->c->clip.cfg.width); break;
    case 1: sd_unet(j->c, 2, j->side, j->side, j->latents, times, j->context, j->out[0]); break;
    case 2: sd_vae_decode(j->c, 1, j->side, j->side, j->latents, j->picture); break;
    default: sd_vae_encode(j->c, 1, j->side, j->side, j->picture, j->out[0], j->out[1]); break;
    }
}

typedef struct output { bool json, cpu, first; double peak; } output;

/* Takes it some times and prints the best. share: of the plain sum's multiplications that are done; 0: there are none. */
static void measure(output *o, const char *name, const char *how, double share, void (*take)(work *), work *j)
{
    sd_run *r = j->r;
    double best = 1e30, spent = 0;
    for (int i = 0; sd_ok(r) && (i < 2 || (spent < 1 && i < 100)); i++) {
        r->flops = 0;
        double begin = now(r, o->cpu);
        take(j);
        double t = now(r, o->cpu) - begin;
        spent += t;
        if (t < best) best = t;
    }
    double rate = r->flops / best / 1e9, bytes = j->e ? 4.0 * (double)sd_numel(&j->d.x) / best / 1e9 : 0;
    if (o->json) {
        printf("%s\n{\"name\": \"%s\", \"how\": \"%s\", \"ms\": %.3f, \"gflops\": %.1f, \"share\": %.3f, \"input_gb_per_s\": %.2f}", o->first ? "" : ",",
               name, how, best * 1e3, rate, o->peak > 0 ? rate * share / o->peak : 0, bytes);
    } else {
        printf("%-30s %-20s %9.2f ms", name, how, best * 1e3);
        if (rate > 0) printf(" %8.1f GFLOP/s", rate);
        if (rate > 0 && o->peak > 0) printf("  %5.2f of the peak", rate * share / o->peak);
        if (rate <= 0) printf(" %8.2f GB/s read", bytes);
        printf("\n");
    }
    fflush(stdout);
    o->first = false;
}

static void operation(output *o, sd_run *r, const entry *e)
{
    sd_reset(r, 0);
    work j = {.r = r, .e = e, .d = make(r, e)};
    sd_conv_how how = SD_CONV_UNFOLD;
    j.mark = sd_mark(r);
    if (e->op == CONV && sd_ok(r)) how = sd_conv_choose(r->kern, j.d.x.dim, j.d.w.dim, e->conv);
    int64_t side = e->side / (e->op == CONV ? e->conv.stride : 1);
    double share = e->op == CONV ? sd_conv_share(how, (const int64_t[]){e->n, side, side, e->o}) : 1;
    measure(o, e->name, e->op == CONV ? sd_conv_name(how) : "", share, apply, &j);
}

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (x) fill(x, n);
    return x;
}

/* size: of the picture, 0: the model's own */
static int stages(output *o, const char *model, int size, int threads)
{
    sd_options options;
    work j = {0};
    sd_model_info info;
    sd_options_init(&options);
    options.model = model;
    options.threads = threads;
    sd_status status = sd_open(&j.c, &options);
    if (!status) status = sd_get_info(j.c, &info);
    if (!status) {
        j.r = &j.c->run;
        j.size = size ? size : info.width;
        j.side = j.size / info.scale;
        size_t latents = (size_t)info.latent_channels * (size_t)j.side * (size_t)j.side;
        j.latents = numbers(2 * (size_t)j.c->unet.cfg.in_channels * (size_t)j.side * (size_t)j.side);
        j.context = numbers(2 * SD_TOKENS * (size_t)info.context_dim);
        j.picture = numbers(3 * (size_t)j.size * (size_t)j.size);
        for (int i = 0; i < 2; i++) j.out[i] = numbers(2 * latents);
    }
    for (; !status && j.stage < (int)SD_COUNT(stage_names); j.stage++) measure(o, stage_names[j.stage], "", 1, run_stage, &j);
    if (status || *sd_error_text(j.c)) fprintf(stderr, "bench: %s\n", sd_error_text(j.c));
    int failed = status || *sd_error_text(j.c);
    free(j.latents);
    free(j.context);
    free(j.picture);
    for (int i = 0; i < 2; i++) free(j.out[i]);
    sd_close(j.c);
    return failed;
}

static int operations(output *o, sd_run *r)
{
    if (sd_arena_init(&r->arena, (size_t)1200 << 20, r->err) == SD_OK)
        for (size_t i = 0; i < SD_COUNT(entries); i++) operation(o, r, &entries[i]);
    if (r->err->status != SD_OK) fprintf(stderr, "bench: %s\n", r->err->text);
    int failed = r->err->status != SD_OK;
    sd_run_free(r);
    return failed;
}

int main(int argc, char **argv)
{
    output o = {.first = true};
    const char *isa = getenv("SD_ISA"), *model = NULL, *only = "";
    int size = 0, failed = 0;
    sd_error err = {0};
    sd_run r = {.err = &err, .be = &sd_backend_cpu, .threads = 2, .caches = sd_caches_find()};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--json")) o.json = true;
        else if (!strcmp(argv[i], "--cpu")) o.cpu = true;
        else if (!strcmp(argv[i], "--threads") && value) r.threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--isa") && value) isa = argv[++i];
        else if (!strcmp(argv[i], "--model") && value) model = argv[++i];
        else if (!strcmp(argv[i], "--size") && value) size = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--only") && value) only = argv[++i];
        else {
            fprintf(stderr, "usage: bench [--json] [--cpu] [--threads N] [--isa NAME] [--model DIR] [--size PIXELS] [--only operations|stages]\n");
            return 2;
        }
    }
    r.kern = sd_kern_select(isa);
    if (!r.kern || r.threads < 1 || setenv("SD_ISA", r.kern->name, 1)) {
        fprintf(stderr, "bench: no such kernels here, or no threads\n");
        return 2;
    }
    o.peak = panel_peak(r.kern) * r.threads;
    if (o.json) printf("{\"kernels\": \"%s\", \"threads\": %d, \"peak_gflops\": %.1f, \"operations\": [", r.kern->name, r.threads, o.peak);
    else printf("kernels %s, %d threads, peak %.1f GFLOP/s\n", r.kern->name, r.threads, o.peak);
    if (strcmp(only, "stages")) failed |= operations(&o, &r);
    o.first = true;
    if (o.json) printf("\n], \"stages\": [");
    if (strcmp(only, "operations")) failed |= stages(&o, model, size, r.threads);
    if (o.json) printf("\n]}\n");
    return failed;
}
