/* bench.c - how fast the whole-tensor operations run on the shapes of SD 1.5 and SDXL, then the stages of a model, and
 * which share that is of what this machine, or a device, can do; or which of two such measurements is slower.
 * usage: bench [--json] [--cpu] [--threads N] [--isa NAME] [--device NAME] [--model DIR] [--size PIXELS]
 *              [--only operations|stages]
 *        bench --compare A.json B.json [--percent N]
 *
 * GFLOP/s count the plain algorithm's multiplications and additions, which is what a user gets. "of the roof" is the
 * least time that this machine needs, by the lower of two roofs, over the time that was taken: the products really made
 * (fewer by Winograd) at the micro-kernel's own speed, or the bytes of input, weights and output, each once, at the
 * bandwidth of the memory that holds them all. Both are measured first (profile_roof.c). An operation finds what it
 * used a moment ago in the caches; in a stage weights come from memory. "own speed" is that of the products alone,
 * within the convolution, over the micro-kernel's. --cpu measures the process' time divided by the number of threads:
 * steadier where others use the machine, blind to threads that wait.
 * On a device of OpenCL the roofs are its FMAs and its memory's copies, and what is measured includes the wait for each
 * operation. A stage is measured without: there the host runs ahead of the device. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "../device.h"
#include "../os.h"
#include "../pipeline.h"
#include "../profile.h"
#include "../profile_roof.h"
#include "../text.h"

typedef enum what { LINEAR, CONV, ATTENTION, GROUP_NORM, LAYER_NORM, GEGLU, UPSAMPLE } what;

/* N pictures of side x side pixels (or so many tokens); i, o: channels in and out. ATTENTION: o heads over `keys`
 * tokens. */
typedef struct entry {
    const char *name;
    what op;
    int64_t n, side, i, o, keys;
    sd_conv conv;
    int64_t kernel;
} entry;

#define PADDED .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1
#define SAME {.stride = 1, PADDED}, 3
#define TWICE {.stride = 1, PADDED, .enlarge = true}, 3
static const entry entries[] = {
    {"conv 320 at 64x64", CONV, 2, 64, 320, 320, 0, SAME},
    {"conv 960 to 320 at 64x64", CONV, 2, 64, 960, 320, 0, SAME},
    {"conv 640 at 32x32", CONV, 2, 32, 640, 640, 0, SAME},
    {"conv 1920 to 640 at 32x32", CONV, 2, 32, 1920, 640, 0, SAME},
    {"conv 1280 at 16x16", CONV, 2, 16, 1280, 1280, 0, SAME},
    {"conv 2560 to 1280 at 8x8", CONV, 2, 8, 2560, 1280, 0, SAME},
    {"conv 320 at 64x64, stride 2", CONV, 2, 64, 320, 320, 0, {.stride = 2, PADDED}, 3},
    {"conv 512 at 128x128", CONV, 1, 128, 512, 512, 0, SAME},
    {"conv 256 at 256x256", CONV, 1, 256, 256, 256, 0, SAME},
    {"conv 128 at 512x512", CONV, 1, 512, 128, 128, 0, SAME},
    {"conv 128 to 3 at 512x512", CONV, 1, 512, 128, 3, 0, SAME},
    {"conv 1280 at 16x16, enlarged", CONV, 2, 16, 1280, 1280, 0, TWICE},
    {"conv 640 at 32x32, enlarged", CONV, 2, 32, 640, 640, 0, TWICE},
    {"conv 512 at 128x128, enlarged", CONV, 1, 128, 512, 512, 0, TWICE},
    {"conv 256 at 256x256, enlarged", CONV, 1, 256, 256, 256, 0, TWICE},
    {"conv 320 at 128x128", CONV, 2, 128, 320, 320, 0, SAME},
    {"conv 640 at 64x64", CONV, 2, 64, 640, 640, 0, SAME},
    {"linear 4096 to 4096", LINEAR, 1, 64, 4096, 4096, 0, {0}, 0},
    {"linear 320 to 2560", LINEAR, 2, 64, 320, 2560, 0, {0}, 0},
    {"linear 1280 to 320", LINEAR, 2, 64, 1280, 320, 0, {0}, 0},
    {"linear 1280 to 10240", LINEAR, 2, 16, 1280, 10240, 0, {0}, 0},
    {"linear 640 to 5120", LINEAR, 2, 64, 640, 5120, 0, {0}, 0},
    {"linear 1280 to 10240 at 32x32", LINEAR, 2, 32, 1280, 10240, 0, {0}, 0},
    {"attention 4096, d 40", ATTENTION, 2, 64, 320, 8, 4096, {0}, 0},
    {"attention 1024, d 80", ATTENTION, 2, 32, 640, 8, 1024, {0}, 0},
    {"attention 256, d 160", ATTENTION, 2, 16, 1280, 8, 256, {0}, 0},
    {"attention 4096 to 77, d 40", ATTENTION, 2, 64, 320, 8, 77, {0}, 0},
    {"attention 4096, d 64", ATTENTION, 2, 64, 640, 10, 4096, {0}, 0},
    {"attention 1024, d 64", ATTENTION, 2, 32, 1280, 20, 1024, {0}, 0},
    {"attention 4096, d 512", ATTENTION, 1, 64, 512, 1, 4096, {0}, 0},
    {"group norm and SiLU 320", GROUP_NORM, 2, 64, 320, 32, 0, {0}, 0},
    {"group norm and SiLU 128", GROUP_NORM, 1, 512, 128, 32, 0, {0}, 0},
    {"layer norm 320", LAYER_NORM, 2, 64, 320, 0, 0, {0}, 0},
    {"geglu 2560", GEGLU, 2, 64, 2560, 0, 0, {0}, 0},
    {"upsample 256 to 512x512", UPSAMPLE, 1, 256, 256, 0, 0, {0}, 0},
};

static double now(const sd_run *r, bool cpu)
{
    struct timespec t;
    clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    if (cpu) return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec) / r->profile->threads;
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

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (x) fill(x, n);
    return x;
}

static sd_tensor filled(sd_run *r, int64_t a, int64_t b, int64_t c, int64_t d)
{
    float *x = numbers((size_t)(a * b * c * d));
    sd_tensor t = {0};
    if (!x) sd_fail(r->err, SD_ERR_MEMORY, "no memory for numbers");
    else t = sd_new_from(r, 4, (const int64_t[]){a, b, c, d}, x);
    free(x);
    return t;
}

/* A weight lies in the host's memory; a device keeps its copy under the id. */
static sd_tensor weight(sd_run *r, uint32_t id, int64_t o, int64_t i, int64_t side)
{
    sd_tensor t = {.nd = 4, .dim = {o, i, side, side}, .id = id, .data = numbers((size_t)(o * i * side * side))};
    if (!t.data) sd_fail(r->err, SD_ERR_MEMORY, "no memory for a weight");
    return t;
}

typedef struct operands { sd_tensor x, k, w, bias; } operands;

static operands make(sd_run *r, const entry *e)
{
    operands d = {.x = filled(r, e->n, e->side, e->side, e->i)};
    uint32_t id = 2 * (uint32_t)(e - entries);
    if (e->op == ATTENTION) {
        d.x = sd_view3(r, d.x, e->n, e->side * e->side, e->i);
        d.k = sd_view3(r, filled(r, e->n, 1, e->keys, e->i), e->n, e->keys, e->i);
    } else if (e->op == LINEAR || e->op == CONV) {
        int64_t side = e->op == CONV ? e->kernel : 1;
        d.w = weight(r, id + 1, e->o, e->i, side);
        d.bias = weight(r, id + 2, e->o, 1, 1);
    } else if (e->op == GROUP_NORM || e->op == LAYER_NORM) {
        d.w = weight(r, id + 1, e->i, 1, 1);
        d.bias = weight(r, id + 2, e->i, 1, 1);
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
    case LAYER_NORM: sd_layer_norm(r, d.x, &d.w, &d.bias, 1e-5); break;
    case GEGLU: sd_geglu(r, d.x); break;
    case UPSAMPLE: sd_upsample(r, d.x, 2 * e->side, 2 * e->side); break;
    }
}

static const char *const stage_names[] = {"text encoder, one prompt", "UNet, guided step", "VAE decode", "VAE encode"};

static void run_stage(work *j)
{
    const float times[2] = {501, 501};
    switch (j->stage) {
    case 0: sd_encode_text(j->c, "a cat", 0, j->context, SD_TOKENS * (size_t)j->c->model.text->cfg.width); break;
    case 1: sd_unet(j->c, 2, j->side, j->side, j->latents, times, j->context, j->out[0]); break;
    case 2: sd_vae_decode(j->c, 1, j->side, j->side, j->latents, j->picture); break;
    default: sd_vae_encode(j->c, 1, j->side, j->side, j->picture, j->out[0], j->out[1]); break;
    }
}

/* ------------------------------------------------------------------------- what one take consists of */

enum { MOST_KINDS = 32 };
typedef struct part { char name[64]; double seconds; } part;
typedef struct taken {
    const sd_roofs *roofs;
    bool warm;                              /* weights are where the activations are: it has just been done */
    double flops, roof;                     /* of the plain algorithm; the least seconds */
    double made, products;                  /* of operations that tell their parts: flops, the threads' seconds in
                                             * them */
    char algorithm[32];                     /* of the last operation */
    part kind[MOST_KINDS];
    int kinds;
} taken;

static void see(void *user, const sd_profiled *op)
{
    taken *t = user;
    int k = 0;
    char name[64];
    if (!strcmp(op->operation, "stage")) return;
    double made = op->flops * op->share, cold = t->warm ? 0 : op->weight_bytes;
    t->flops += op->flops;
    if (op->part[SD_PROFILE_PRODUCTS] > 0) {
        t->made += made;
        t->products += op->part[SD_PROFILE_PRODUCTS];
    }
    t->roof += sd_roof_seconds(t->roofs, made, op->bytes + op->weight_bytes - cold, cold);
    snprintf(t->algorithm, sizeof t->algorithm, "%s", op->algorithm);
    snprintf(name, sizeof name, "%s%s%s", op->operation, *op->algorithm ? ", " : "", op->algorithm);
    while (k < t->kinds && strcmp(t->kind[k].name, name) != 0) k++;
    if (k == MOST_KINDS) return;
    if (k == t->kinds) {
        memcpy(t->kind[k].name, name, sizeof name);
        t->kind[t->kinds++].seconds = 0;
    }
    t->kind[k].seconds += op->seconds;
}

/* ----------------------------------------------------------------------------------------- measuring */

typedef struct output { bool json, cpu, device, first; sd_roofs roofs; } output;

static void print_taken(output *o, const char *name, double seconds, const taken *t, bool stage)
{
    double rate = t->flops / seconds / 1e9, roof = t->roof / seconds;
    double own = t->products > 0 && !o->device ? t->made / t->products / 1e9 / (o->roofs.peak / o->roofs.threads) : 0;
    if (o->json) {
        printf("%s\n{\"name\": \"%s\", \"algorithm\": \"%s\", \"ms\": %.4f, \"gflops\": %.2f, \"roof\": %.4f",
               o->first ? "" : ",", name, stage ? "" : t->algorithm, seconds * 1e3, rate, roof);
        if (own > 0) printf(", \"own_speed\": %.4f", own);
        if (stage) printf(", \"kinds\": [");
        for (int k = 0; stage && k < t->kinds; k++)
            printf("%s{\"kind\": \"%s\", \"ms\": %.4f}", k ? ", " : "", t->kind[k].name, t->kind[k].seconds * 1e3);
        printf("%s}", stage ? "]" : "");
    } else {
        printf("%-30s %-20s %9.2f ms", name, stage ? "" : t->algorithm, seconds * 1e3);
        if (rate > 0) printf(" %8.1f GFLOP/s", rate);
        else printf(" %16s", "");
        printf("  %5.2f of the roof", roof);
        if (own > 0) printf(", products at %.2f of their own speed", own);
        printf("\n");
        for (int k = 0; stage && k < t->kinds; k++)
            if (t->kind[k].seconds > 0.01 * seconds)
                printf("    %-46s %9.2f ms  %4.1f%%\n", t->kind[k].name, t->kind[k].seconds * 1e3,
                       100 * t->kind[k].seconds / seconds);
    }
    fflush(stdout);
    o->first = false;
}

/* Takes it some times and prints the best. A device's stage is then taken once more, to see what it consists of. */
static void measure(output *o, const char *name, void (*take)(work *), work *j)
{
    sd_run *r = j->r;
    sd_profile *profile = r->profile;
    taken best = {0}, t;
    double least = 1e30, spent = 0;
    profile->user = &t;
    if (o->device && !j->e) r->profile = NULL;
    for (int i = 0; sd_ok(r) && (i < 3 || (spent < 1 && i < 200)); i++) {
        t = (taken){.roofs = &o->roofs, .warm = j->e != NULL};
        if (j->e) sd_profile_stage_begin(r, SD_STAGE_UNET);   /* operations are told of in a stage */
        double begin = now(r, o->cpu);
        take(j);
        double seconds = now(r, o->cpu) - begin;
        spent += seconds;
        if (seconds >= least) continue;
        least = seconds;
        best = t;
    }
    if (!r->profile && sd_ok(r)) {
        r->profile = profile;
        take(j);
        best = t;
    }
    r->profile = profile;
    if (sd_ok(r)) print_taken(o, name, least, &best, j->e == NULL);
}

static void operation(output *o, sd_run *r, const entry *e)
{
    sd_reset(r, 0);
    work j = {.r = r, .e = e, .d = make(r, e)};
    j.mark = sd_mark(r);
    measure(o, e->name, apply, &j);
    free(j.d.w.data);
    free(j.d.bias.data);
}

static int operations(output *o, sd_run *r, int threads)
{
    r->profile = sd_profile_new(threads, see, NULL);
    if (!r->profile) sd_fail(r->err, SD_ERR_MEMORY, "no memory");
    else if (sd_reserve(r, (size_t)1200 << 20, "the operands") == SD_OK)
        for (size_t i = 0; i < SD_COUNT(entries); i++) operation(o, r, &entries[i]);
    if (r->err->status != SD_OK) fprintf(stderr, "bench: %s\n", r->err->text);
    free(r->profile);
    r->profile = NULL;
    return r->err->status != SD_OK;
}

/* size: of the picture, 0: the model's own */
static int stages(output *o, const char *model, const char *device, int size, int threads)
{
    sd_options options;
    work j = {0};
    sd_model_info info;
    sd_options_init(&options);
    options.model = model;
    options.threads = threads;
    options.device = device;
    sd_status status = sd_open(&j.c, &options);
    if (!status) status = sd_get_info(j.c, &info);
    if (!status) status = sd_set_profile(j.c, see, NULL);
    if (!status) {
        j.r = &j.c->run;
        j.size = size ? size : info.width;
        j.side = j.size / info.scale;
        size_t latents = (size_t)info.latent_channels * (size_t)j.side * (size_t)j.side;
        size_t sample = (size_t)j.c->model.unet->cfg.in_channels * (size_t)j.side * (size_t)j.side;
        j.latents = numbers(2 * sample);
        if (j.latents) memcpy(j.latents + sample, j.latents, sample * sizeof *j.latents);   /* as guidance asks */
        j.context = numbers(2 * SD_TOKENS * (size_t)info.context_dim);
        j.picture = numbers(3 * (size_t)j.size * (size_t)j.size);
        for (int i = 0; i < 2; i++) j.out[i] = numbers(2 * latents);
    }
    for (; !status && j.stage < (int)SD_COUNT(stage_names); j.stage++) measure(o, stage_names[j.stage], run_stage, &j);
    if (status || *sd_error_text(j.c)) fprintf(stderr, "bench: %s\n", sd_error_text(j.c));
    int failed = status || *sd_error_text(j.c);
    free(j.latents);
    free(j.context);
    free(j.picture);
    for (int i = 0; i < 2; i++) free(j.out[i]);
    sd_close(j.c);
    return failed;
}

/* ---------------------------------------------------------------------------------------------- main */

static void print_machine(const output *o, const sd_cache_sizes *c)
{
    const sd_roofs *r = &o->roofs;
    double copy = r->level[SD_COUNT(r->level) - 1].copy;
    if (o->device && o->json)
        printf("{\"device\": \"%s\", \"peak_gflops\": %.1f, \"copy_gb_per_s\": %.1f,\n", r->kernels, r->peak, copy);
    else if (o->device)
        printf("%s; FMAs at most %.1f GFLOP/s, copies at most %.0f GB/s\n", r->kernels, r->peak, copy);
    if (o->device) return;
    if (o->json) {
        printf("{\"kernels\": \"%s\", \"threads\": %d, \"peak_gflops\": %.1f, \"peak_gflops_one\": %.1f,\n", r->kernels,
               r->threads, r->peak, r->peak_one);
        printf("\"caches\": {\"l1\": %zu, \"l2\": %zu, \"l3\": %zu, \"from\": \"%s\"}, \"levels\": [", c->l1, c->l2,
               c->l3,
               c->from);
        for (size_t i = 0; i < SD_COUNT(r->level); i++)
            printf("%s{\"name\": \"%s\", \"read_gb_per_s\": %.1f, \"copy_gb_per_s\": %.1f}", i ? ", " : "",
                   r->level[i].name,
                   r->level[i].read, r->level[i].copy);
        printf("],\n");
        return;
    }
    printf("kernels %s, %d threads; products at most %.1f GFLOP/s with one thread, %.1f with all\n", r->kernels,
           r->threads,
           r->peak_one, r->peak);
    printf("caches of %zu KB, %zu KB and %zu KB (by %s); GB/s of all threads:", c->l1 >> 10, c->l2 >> 10, c->l3 >> 10,
           c->from);
    for (size_t i = 0; i < SD_COUNT(r->level); i++)
        printf("%s %s read %.0f copy %.0f", i ? "," : "", r->level[i].name, r->level[i].read, r->level[i].copy);
    printf("\n");
}

static int usage(void)
{
    fprintf(stderr, "usage: bench [--json] [--cpu] [--threads N] [--isa NAME] [--device NAME] [--model DIR]\n"
                    "             [--size PIXELS] [--only operations|stages]\n"
                    "       bench --compare A.json B.json [--percent N]\n");
    return 2;
}

typedef struct settings {
    bool json, cpu;
    const char *isa, *model, *device, *only, *before, *after;
    double threads, size, percent;
} settings;

/* A whole argument as a number from least to most; false: it is none. */
static bool take_number(const char *text, double least, double most, double *number)
{
    return sd_number_read(number, text) && *number >= least && *number <= most;
}

static bool take_word(const char *text, const char **word)
{
    *word = text;
    return !strcmp(text, "operations") || !strcmp(text, "stages");
}

static void print_text(const char *key, const char *text)
{
    sd_text t = {0};
    sd_text_quoted(&t, text);
    printf("\"%s\": %s, ", key, t.failed ? "null" : t.s);
    free(t.s);
}

/* What bench_compare tells if it is not the same in both results. */
static void print_settings(const settings *s)
{
    char machine[256];
    print_text("machine", sd_os_machine(machine, sizeof machine));
    print_text("clock", s->cpu ? "processor time" : "wall clock");
    print_text("model", s->model ? s->model : "the one in the box");
    printf("\"size\": %.0f,\n", s->size);
}

static bool take_arguments(int argc, char **argv, settings *s)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool right = true;   /* the value */
        if (!strcmp(name, "--json") || !strcmp(name, "--cpu")) {
            *(name[2] == 'j' ? &s->json : &s->cpu) = true;
            continue;
        }
        if (!value) return false;
        if (!strcmp(name, "--threads")) right = take_number(value, 1, 1024, &s->threads);
        else if (!strcmp(name, "--size")) right = take_number(value, 8, 16384, &s->size);
        else if (!strcmp(name, "--percent")) right = take_number(value, 0, 1e6, &s->percent);
        else if (!strcmp(name, "--isa")) s->isa = value;
        else if (!strcmp(name, "--device")) s->device = value;
        else if (!strcmp(name, "--model")) s->model = value;
        else if (!strcmp(name, "--only")) right = take_word(value, &s->only);
        else if (!strcmp(name, "--compare") && i + 2 < argc) s->before = argv[++i], s->after = argv[i + 1];
        else return false;
        if (!right) fprintf(stderr, "bench: %s cannot be %s\n", name, value);
        if (!right) return false;
        i++;
    }
    return true;
}

int main(int argc, char **argv)
{
    settings s = {.isa = getenv("SD_ISA"), .device = "cpu", .only = "", .threads = 2, .percent = 5};
    output o = {.first = true};
    int failed = 0;
    sd_error err = {0};
    sd_run r = {.err = &err};
    static const sd_log silent;
    if (!take_arguments(argc, argv, &s)) return usage();
    if (s.before) return bench_compare(s.before, s.after, s.percent);
    sd_cpu cpu = {.kern = sd_kern_select(s.isa), .threads = (int)s.threads, .caches = sd_caches_find()};
    o.json = s.json;
    o.cpu = s.cpu;
    if (!cpu.kern || setenv("SD_ISA", cpu.kern->name, 1)) {
        fprintf(stderr, "bench: no kernels %s here\n", s.isa);
        return 2;
    }
    if (sd_device_open(&r, &cpu, s.device, NULL, &silent) || sd_device_roofs(&r, &cpu, 0.5, &o.roofs)) {
        fprintf(stderr, "bench: %s\n", err.text);
        return 1;
    }
    o.device = r.device != &cpu;
    print_machine(&o, &cpu.caches);
    if (o.json) print_settings(&s);
    if (o.json) printf("\"operations\": [");
    if (strcmp(s.only, "stages")) failed |= operations(&o, &r, cpu.threads);
    sd_device_close(&r);
    o.first = true;
    if (o.json) printf("\n], \"stages\": [");
    if (strcmp(s.only, "operations")) failed |= stages(&o, s.model, s.device, (int)s.size, cpu.threads);
    if (o.json) printf("\n]}\n");
    return failed;
}
