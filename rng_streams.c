/* rng_streams.c - floor 0: streams of normal numbers by name, one generator per batch or per picture, and the record of
 * what was drawn. The generators are in rng_torch.c, rng_philox.c and rng_numpy.c, the Brownian path in
 * rng_brownian.c. */
#include "rng_streams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_GENERATORS = 65536, MOST_SMS = 65535, MOST_THREADS = 65536 };

typedef union generator {
    sd_rng mt;
    sd_philox philox;
    sd_pcg64 pcg;
} generator;

typedef struct gpu_size {
    uint32_t sms, threads;   /* 0, 0: a GPU with more threads than any draw has numbers */
} gpu_size;

typedef struct kind {
    const char *name;
    uint64_t most_seed;
    void (*seed)(generator *g, uint64_t seed, const gpu_size *gpu);
    void (*normal)(generator *g, float *out, size_t n);
} kind;

struct sd_stream {
    char name[96];
    const kind *kind;        /* NULL: numbers given by the caller */
    gpu_size gpu;
    bool per_image;
    int count;               /* generators, or Brownian paths */
    uint64_t *seed, *position;
    generator *generator;    /* NULL for Brownian paths */
    bool brownian, spanned;
    double sigma_min, sigma_max;
    sd_brownian **path;
    size_t each;             /* coordinates of a path; 0: none yet */
    float *numbers;
    size_t given;
    void (*on_draw)(void *user, const sd_random_draw *draw);
    void *user;
};

/* --------------------------------------------------------------------------------------- kinds */

static void mt_seed(generator *g, uint64_t seed, const gpu_size *gpu)
{
    (void)gpu;
    sd_rng_seed(&g->mt, seed);
}

static void philox_seed(generator *g, uint64_t seed, const gpu_size *gpu)
{
    sd_philox_seed(&g->philox, seed, gpu->sms, gpu->threads);
}

static void pcg_seed(generator *g, uint64_t seed, const gpu_size *gpu)
{
    (void)gpu;
    sd_pcg64_seed(&g->pcg, seed);
}

static void mt_normal(generator *g, float *out, size_t n) { sd_rng_normal(&g->mt, out, n); }
static void philox_normal(generator *g, float *out, size_t n) { sd_philox_normal(&g->philox, out, n); }

static void numpy_normal(generator *g, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)sd_numpy_normal(&g->mt);
}

static void pcg_normal(generator *g, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)sd_pcg64_normal(&g->pcg);
}

static void pcg_normal_f32(generator *g, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = sd_pcg64_normal_f32(&g->pcg);
}

static const kind kinds[] = {
    /* torch.randn with a CPU generator: diffusers' examples, ComfyUI */
    {"torch-cpu", UINT64_MAX, mt_seed, mt_normal},
    /* torch.randn with a CUDA generator: A1111, diffusers with a generator on the GPU */
    {"torch-cuda", UINT64_MAX, philox_seed, philox_normal},
    /* numpy.random.RandomState(seed).standard_normal, rounded to float32 */
    {"numpy", UINT32_MAX, mt_seed, numpy_normal},
    /* numpy.random.default_rng(seed).standard_normal in float64, rounded to float32 */
    {"numpy-pcg64", UINT64_MAX, pcg_seed, pcg_normal},
    /* numpy.random.default_rng(seed).standard_normal(dtype=float32) */
    {"numpy-pcg64-f32", UINT64_MAX, pcg_seed, pcg_normal_f32},
    /* torchsde's Brownian tree, for samplers alone: DPM++ SDE */
    {"brownian", UINT64_MAX, NULL, NULL},
};

/* ------------------------------------------------------------------------------------ the spec */

/* "sms=N,threads=M" in either order. Both or neither: a GPU's numbers depend on their product. */
static sd_status parse_gpu(gpu_size *g, const char *spec, const char *settings, sd_error *e)
{
    for (const char *s = settings; *s;) {
        size_t key = strcspn(s, "=,");
        char *end = NULL;
        bool digits = s[key] == '=' && s[key + 1] >= '0' && s[key + 1] <= '9';
        unsigned long value = digits ? strtoul(s + key + 1, &end, 10) : 0;
        bool sms = key == 3 && strncmp(s, "sms", 3) == 0, threads = key == 7 && strncmp(s, "threads", 7) == 0;
        if (!end || (*end && (*end != ',' || !end[1])) || !(sms || threads))
            return sd_fail(e, SD_ERR_ARG, "random stream \"%s\": settings are sms=N,threads=M, not \"%s\"", spec,
                           settings);
        if (sms && (value < 1 || value > MOST_SMS))
            return sd_fail(e, SD_ERR_ARG, "random stream \"%s\": sms must be 1 to %d, not %lu", spec, MOST_SMS,
                           value);
        if (threads && (value < 256 || value > MOST_THREADS))
            return sd_fail(e, SD_ERR_ARG, "random stream \"%s\": threads must be 256 to %d, not %lu", spec,
                           MOST_THREADS, value);
        *(sms ? &g->sms : &g->threads) = (uint32_t)value;
        s = *end ? end + 1 : end;
    }
    if (!g->sms || !g->threads)
        return sd_fail(e, SD_ERR_ARG, "random stream \"%s\": a GPU is sms=N,threads=M, both of them", spec);
    return SD_OK;
}

/* Other programs' names: cpu and cuda in stable-diffusion.cpp; CPU, GPU and NV in A1111. */
static const struct { const char *name, *kind; } other_names[] = {
    {"cpu", "torch-cpu"}, {"cuda", "torch-cuda"}, {"gpu", "torch-cuda"}, {"nv", "torch-cuda"},
};

static const char *own_name(const char *name, size_t length)
{
    char word[8] = "";
    if (length < sizeof word) memcpy(word, name, length);
    for (size_t i = 0; i < SD_COUNT(other_names); i++)
        if (sd_same_name(word, other_names[i].name)) return other_names[i].kind;
    return NULL;
}

const char *sd_stream_canonical(const char *spec)
{
    const char *own = spec ? own_name(spec, strlen(spec)) : NULL;
    return own ? own : spec;
}

static const kind *find_kind(const char *name, size_t length)
{
    const char *own = own_name(name, length);
    if (own) {
        name = own;
        length = strlen(own);
    }
    for (size_t i = 0; i < SD_COUNT(kinds); i++)
        if (strlen(kinds[i].name) == length && strncmp(kinds[i].name, name, length) == 0) return &kinds[i];
    return NULL;
}

static sd_status parse_spec(sd_stream *s, const char *spec, sd_error *e)
{
    const char *base = spec;
    size_t length = strcspn(base, ":");
    const kind *k = find_kind(base, length);
    if (k && !k->seed) {   /* brownian: what follows names the generator of its bridges */
        s->brownian = true;
        base = base[length] ? base + length + 1 : kinds[0].name;
        length = strcspn(base, ":");
        k = find_kind(base, length);
        if (k != &kinds[0] && k != &kinds[1])
            return sd_fail(e, SD_ERR_ARG, "random stream \"%s\": a Brownian path draws from torch-cpu or torch-cuda",
                           spec);
    }
    if (!k && sd_same_name(spec, "std_default"))
        return sd_fail(e, SD_ERR_ARG, "the random stream std_default is not supported: C++'s default engine is another "
                       "on each system; use cpu or cuda");
    if (!k)
        return sd_fail(e, SD_ERR_ARG, "no random stream \"%s\": there are torch-cpu, torch-cuda[:sms=N,threads=M], "
                       "numpy, numpy-pcg64, numpy-pcg64-f32 and, for samplers, brownian", spec);
    s->kind = k;
    if (base[length] && k->seed != philox_seed)
        return sd_fail(e, SD_ERR_ARG, "random stream \"%s\": %s takes no settings", spec, k->name);
    if (base[length]) {
        sd_status st = parse_gpu(&s->gpu, spec, base + length + 1, e);
        if (st) return st;
    }
    const char *prefix = !s->brownian ? "" : k == &kinds[0] ? "brownian" : "brownian:";
    int n = snprintf(s->name, sizeof s->name, "%s%s", prefix, s->brownian && k == &kinds[0] ? "" : k->name);
    if (s->gpu.sms)
        snprintf(s->name + n, sizeof s->name - (size_t)n, ":sms=%u,threads=%u", (unsigned)s->gpu.sms,
                 (unsigned)s->gpu.threads);
    return SD_OK;
}

/* ---------------------------------------------------------------------------- opening, closing */

static sd_status open_generators(sd_stream *s, const sd_stream_options *o, sd_error *e)
{
    if (o->generators < 0 || o->generators > MOST_GENERATORS)
        return sd_fail(e, SD_ERR_ARG, "there must be 0 to %d generators, not %d", MOST_GENERATORS, o->generators);
    s->on_draw = o->on_draw;
    s->user = o->user;
    s->per_image = o->generators > 0 && s->kind;
    s->count = s->per_image ? o->generators : 1;
    size_t n = (size_t)s->count;
    s->seed = calloc(n, sizeof *s->seed);
    s->position = calloc(n, sizeof *s->position);
    if (s->brownian) s->path = calloc(n, sizeof *s->path);
    else if (s->kind) s->generator = calloc(n, sizeof *s->generator);
    if (!s->seed || !s->position || (s->brownian && !s->path) || (s->kind && !s->brownian && !s->generator))
        return sd_fail(e, SD_ERR_MEMORY, "no memory for %d random generators", s->count);
    for (size_t i = 0; i < n && s->kind; i++) {
        s->seed[i] = s->per_image && o->seeds ? o->seeds[i] : o->seed + i;
        if (s->seed[i] > s->kind->most_seed)
            return sd_fail(e, SD_ERR_ARG, "random stream %s takes seeds up to %llu, not %llu", s->name,
                           (unsigned long long)s->kind->most_seed, (unsigned long long)s->seed[i]);
        if (s->generator) s->kind->seed(&s->generator[i], s->seed[i], &s->gpu);
    }
    return SD_OK;
}

sd_status sd_stream_open(sd_stream **out, const char *spec, const sd_stream_options *o, sd_error *e)
{
    *out = NULL;
    sd_stream *s = calloc(1, sizeof *s);
    if (!s) return sd_fail(e, SD_ERR_MEMORY, "no memory for a random stream");
    sd_status st = parse_spec(s, spec ? spec : kinds[0].name, e);
    if (!st) st = open_generators(s, o, e);
    if (st) sd_stream_close(s);
    else *out = s;
    return st;
}

sd_status sd_stream_open_numbers(sd_stream **out, const char *name, const float *numbers, size_t n,
                                 const sd_stream_options *o, sd_error *e)
{
    *out = NULL;
    if (n > SIZE_MAX / sizeof(float)) return sd_fail(e, SD_ERR_ARG, "%s: %zu numbers are more than memory", name, n);
    sd_stream *s = calloc(1, sizeof *s);
    float *copy = malloc((n ? n : 1) * sizeof *copy);
    if (!s || !copy) {
        free(s);
        free(copy);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for the %zu numbers of %s", n, name);
    }
    if (n) memcpy(copy, numbers, n * sizeof *copy);
    s->numbers = copy;
    s->given = n;
    snprintf(s->name, sizeof s->name, "%s", name);
    sd_status st = open_generators(s, o, e);
    if (st) sd_stream_close(s);
    else *out = s;
    return st;
}

static void free_paths(sd_stream *s)
{
    for (int i = 0; s->path && i < s->count; i++) {
        sd_brownian_free(s->path[i]);
        s->path[i] = NULL;
    }
    s->each = 0;
}

void sd_stream_close(sd_stream *s)
{
    if (!s) return;
    free_paths(s);
    free(s->path);
    free(s->generator);
    free(s->seed);
    free(s->position);
    free(s->numbers);
    free(s);
}

/* ------------------------------------------------------------------------------------- drawing */

/* Finds how many numbers each generator draws for a batch. */
static sd_status shares(const sd_stream *s, const char *who, size_t images, size_t each, size_t *n, sd_error *e)
{
    if (s->per_image && images > (size_t)s->count)
        return sd_fail(e, SD_ERR_ARG, "%s: %zu pictures cannot draw from %d generators", who, images, s->count);
    if (each && images > SIZE_MAX / sizeof(float) / each)
        return sd_fail(e, SD_ERR_ARG, "%s: %zu times %zu numbers are more than memory", who, images, each);
    *n = s->per_image ? each : images * each;
    return SD_OK;
}

static int asked(const sd_stream *s, size_t images) { return s->per_image ? (int)images : s->count; }

static void record(sd_stream *s, int i, const char *who, size_t n, bool between_levels, double from, double to)
{
    if (s->on_draw) {
        int image = s->per_image ? i : -1;
        sd_random_draw d = {who, s->name, s->seed[i], image, s->position[i], n, between_levels, from, to};
        s->on_draw(s->user, &d);
    }
    s->position[i] += n;
}

sd_status sd_stream_normal(sd_stream *s, const char *who, float *out, size_t images, size_t each, sd_error *e)
{
    size_t n = 0;
    if (!who) who = "noise";
    sd_status st = shares(s, who, images, each, &n, e);
    if (st) return st;
    if (s->brownian)
        return sd_fail(e, SD_ERR_ARG, "%s: a Brownian path has noise between two levels only, for samplers", who);
    for (int i = 0; i < asked(s, images); i++) {
        if (s->kind) s->kind->normal(&s->generator[i], out + (size_t)i * n, n);
        else if (n > s->given - (size_t)s->position[i])
            return sd_fail(e, SD_ERR_SHAPE, "%s: %s has %zu numbers, %zu of them used, and %zu are needed", who,
                           s->name, s->given, (size_t)s->position[i], n);
        else if (n) memcpy(out, s->numbers + (size_t)s->position[i], n * sizeof *out);
        record(s, i, who, n, false, 0.0, 0.0);
    }
    return SD_OK;
}

/* ------------------------------------------------------------------------------ Brownian paths */

/* torch.randn(size, generator=torch.Generator(device).manual_seed(seed)) */
static void seeded_normals(void *user, uint32_t seed, float *out, size_t n)
{
    const sd_stream *s = user;
    generator g;
    s->kind->seed(&g, seed, &s->gpu);
    s->kind->normal(&g, out, n);
}

/* (double)(float)x. volatile, because GCC 12 at -O2 drops both conversions when it vectorises two such stores. */
static double rounded(double x)
{
    volatile float narrow = (float)x;
    return (double)narrow;
}

sd_status sd_stream_span(sd_stream *s, double sigma_min, double sigma_max, sd_error *e)
{
    if (!s->brownian) return SD_OK;
    if (!(sigma_min >= 0 && sigma_min < sigma_max && sigma_max <= 1e9))
        return sd_fail(e, SD_ERR_ARG, "a Brownian path spans noise levels 0 <= low < high <= 1e9, not %g to %g",
                       sigma_min, sigma_max);
    free_paths(s);
    s->sigma_min = rounded(sigma_min);   /* torch.as_tensor of a number is a float32 */
    s->sigma_max = rounded(sigma_max);
    s->spanned = true;
    for (int i = 0; i < s->count; i++) s->position[i] = 0;
    return SD_OK;
}

static sd_status open_paths(sd_stream *s, const char *who, size_t n, sd_error *e)
{
    if (!s->spanned) return sd_fail(e, SD_ERR_ARG, "%s: a Brownian path must be told the noise levels it spans", who);
    if (s->each && s->each != n)
        return sd_fail(e, SD_ERR_ARG, "%s: a Brownian path of %zu numbers cannot give %zu", who, s->each, n);
    for (int i = 0; i < s->count && !s->each; i++) {
        sd_status st = sd_brownian_new(&s->path[i], s->seed[i], s->sigma_min, s->sigma_max, n, seeded_normals, s, e);
        if (st) {
            free_paths(s);
            return st;
        }
    }
    s->each = n;
    return SD_OK;
}

sd_status sd_stream_noise(sd_stream *s, const char *who, double from, double to, float *out, size_t images, size_t each,
                          sd_error *e)
{
    if (!s->brownian) return sd_stream_normal(s, who, out, images, each, e);
    if (!who) who = "noise";
    size_t n = 0;
    sd_status st = shares(s, who, images, each, &n, e);
    if (st || n == 0) return st;
    st = open_paths(s, who, n, e);
    if (st) return st;
    float a = (float)from, b = (float)to, scale = sqrtf(fabsf(b - a)), sign = a < b ? 1.0f : -1.0f;
    if (!(scale > 0))
        return sd_fail(e, SD_ERR_ARG, "%s: there is no noise between the levels %.9g and %.9g", who, from, to);
    for (int i = 0; i < asked(s, images); i++) {
        float *x = out + (size_t)i * n;
        st = sd_brownian_increment(s->path[i], fminf(a, b), fmaxf(a, b), x, e);
        if (st) return st;
        for (size_t k = 0; k < n; k++) x[k] = x[k] * sign / scale;
        record(s, i, who, n, true, a, b);
    }
    return SD_OK;
}
