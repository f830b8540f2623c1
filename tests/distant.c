/* distant.c - see distant.h. Also an example of what a backend for a device consists of: docs/MAP.md, "A backend". */
#define _DEFAULT_SOURCE
#include "distant.h"

#include <sys/mman.h>

#include "test.h"

static const size_t SPACE = (size_t)1 << 31, PAGE = 4096;

distant *distant_open(const sd_cpu *cpu)
{
    distant *d = calloc(1, sizeof *d);
    assert_non_null(d);
    d->cpu = *cpu;
    d->cpu.scratch = NULL;
    d->cpu.scratch_size = 0;
    d->space = mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(d->space != MAP_FAILED);
    return d;
}

void distant_close(distant *d)
{
    assert_int_equal(d->blocks, 0);
    for (int i = 0; i < d->weights; i++) free(d->weight[i].copy);
    munmap(d->space, SPACE);
    free(d->block);
    free(d->weight);
    free(d);
}

/* ------------------------------------------------------------------------------ the CPU's own run */

/* The run as the CPU backend is to see it: its own state, the same error and flags. */
static sd_run near_run(const sd_run *r)
{
    sd_run near = *r;
    near.be = &sd_backend_cpu;
    near.device = &((distant *)r->device)->cpu;
    near.arena = (sd_arena){0};   /* the device's memory: the CPU has none of it to spare */
    return near;
}

/* A tensor of the device where the CPU finds it. */
static sd_tensor near_tensor(const sd_run *r, sd_tensor t)
{
    const distant *d = r->device;
    unsigned char *at = t.data;
    for (int i = 0; i < d->blocks; i++) {
        const distant_block *b = &d->block[i];
        if (at < b->address || at >= b->address + b->bytes) continue;
        assert_true((size_t)sd_numel(&t) * sizeof(float) <= b->bytes - (size_t)(at - b->address));
        t.data = b->memory + (at - b->address);
        return t;
    }
    fail_msg("%s: this is no tensor of the device", r->step ? r->step : "input");
    return t;
}

/* A weight's copy on the device. Made once for each id and version: others would be found under a number that is not
 * theirs. */
static sd_tensor near_weight(const sd_run *r, const sd_tensor *w)
{
    distant *d = r->device;
    sd_tensor t = *w;
    int i = 0;
    assert_int_not_equal(w->id, 0);
    while (i < d->weights && (d->weight[i].id != w->id || d->weight[i].version != w->version)) i++;
    if (i == d->weights) {
        size_t bytes = sd_dtype_bytes(w->dt, (size_t)sd_numel(w));
        void *more = realloc(d->weight, (size_t)(i + 1) * sizeof *d->weight), *copy = malloc(bytes);
        assert_true(more && copy);
        d->weight = more;
        d->weight[d->weights++] = (distant_weight){w->id, w->version, memcpy(copy, w->data, bytes)};
    }
    t.data = d->weight[i].copy;
    return t;
}

/* What most entries begin with: `near`, the CPU's run, and tensors and weights under the same names. */
#define RUN sd_run near = near_run(r)
#define TENSOR(t) t = near_tensor(r, t)
#define WEIGHT(w) \
    sd_tensor w##_near = {0}; \
    if (w) { \
        w##_near = near_weight(r, w); \
        w = &w##_near; \
    }

/* -------------------------------------------------------------------------------------- memory */

static void *distant_alloc(sd_run *r, size_t bytes, const char *what)
{
    distant *d = r->device;
    RUN;
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE + PAGE;   /* one that is nobody's between two blocks */
    unsigned char *memory = sd_backend_cpu.alloc(&near, bytes, what);
    void *more = realloc(d->block, (size_t)(d->blocks + 1) * sizeof *d->block);
    assert_true(memory && more && pages <= SPACE - d->used);
    d->block = more;
    d->block[d->blocks++] = (distant_block){d->space + d->used, memory, bytes};
    memset(memory, 0xff, bytes);   /* NaN */
    d->used += pages;
    return d->block[d->blocks - 1].address;
}

static void distant_release(sd_run *r, void *data)
{
    distant *d = r->device;
    RUN;
    for (int i = 0; data && i < d->blocks; i++) {
        if (d->block[i].address != data) continue;
        sd_backend_cpu.release(&near, d->block[i].memory);
        d->block[i] = d->block[--d->blocks];
        return;
    }
    if (data) fail_msg("released twice, or never allocated");
}

static void distant_trim(sd_run *r)
{
    RUN;
    sd_backend_cpu.trim(&near);
}

static void distant_upload(sd_run *r, sd_tensor y, const float *from, bool channels_first)
{
    RUN;
    ((distant *)r->device)->uploads++;
    sd_backend_cpu.upload(&near, near_tensor(r, y), from, channels_first);
}

static void distant_download(sd_run *r, sd_tensor x, float *to, bool channels_first)
{
    RUN;
    ((distant *)r->device)->downloads++;
    sd_backend_cpu.download(&near, near_tensor(r, x), to, channels_first);
}

static void distant_copy(sd_run *r, sd_tensor y, sd_tensor x)
{
    RUN;
    sd_backend_cpu.copy(&near, near_tensor(r, y), near_tensor(r, x));
}

/* ---------------------------------------------------------------------------------- operations */

static void distant_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    RUN;
    sd_backend_cpu.sinusoid(&near, near_tensor(r, y), value, flip, shift);
}

static void distant_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    RUN;
    TENSOR(y), TENSOR(x);
    WEIGHT(w);
    WEIGHT(b);
    sd_backend_cpu.linear(&near, y, x, w, b);
}

static void distant_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    RUN;
    TENSOR(y), TENSOR(x);
    WEIGHT(w);
    WEIGHT(b);
    sd_backend_cpu.conv2d(&near, y, x, w, b, c);
}

static sd_conv_how distant_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    RUN;
    return sd_backend_cpu.describe(&near, x, w, c);
}

static void distant_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    RUN;
    TENSOR(y), TENSOR(q), TENSOR(k), TENSOR(v);
    sd_backend_cpu.attention(&near, y, q, k, v, heads, causal);
}

static void distant_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                               double eps, bool silu)
{
    RUN;
    TENSOR(y), TENSOR(x);
    WEIGHT(g);
    WEIGHT(b);
    sd_backend_cpu.group_norm(&near, y, x, g, b, groups, eps, silu);
}

static void distant_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    RUN;
    TENSOR(y), TENSOR(x);
    WEIGHT(g);
    WEIGHT(b);
    sd_backend_cpu.layer_norm(&near, y, x, g, b, eps);
}

static void distant_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    RUN;
    sd_backend_cpu.act(&near, near_tensor(r, y), near_tensor(r, x), act);
}

static void distant_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    RUN;
    sd_backend_cpu.geglu(&near, near_tensor(r, y), near_tensor(r, x));
}

static void distant_add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    RUN;
    sd_backend_cpu.add(&near, near_tensor(r, y), near_tensor(r, a), near_tensor(r, b));
}

static void distant_add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    RUN;
    sd_backend_cpu.add_channels(&near, near_tensor(r, y), near_tensor(r, bias));
}

static void distant_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    RUN;
    sd_backend_cpu.concat(&near, near_tensor(r, y), near_tensor(r, a), near_tensor(r, b));
}

static void distant_upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    RUN;
    sd_backend_cpu.upsample(&near, near_tensor(r, y), near_tensor(r, x));
}

static void distant_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    RUN;
    WEIGHT(token);
    WEIGHT(position);
    sd_backend_cpu.embed(&near, near_tensor(r, y), ids, token, position);
}

const sd_backend distant_backend = {
    .name = "distant",
    .alloc = distant_alloc,
    .release = distant_release,
    .trim = distant_trim,
    .upload = distant_upload,
    .download = distant_download,
    .copy = distant_copy,
    .sinusoid = distant_sinusoid,
    .linear = distant_linear,
    .conv2d = distant_conv2d,
    .describe = distant_describe,
    .attention = distant_attention,
    .group_norm = distant_group_norm,
    .layer_norm = distant_layer_norm,
    .act = distant_act,
    .geglu = distant_geglu,
    .add = distant_add,
    .add_channels = distant_add_channels,
    .concat = distant_concat,
    .upsample = distant_upsample,
    .embed = distant_embed,
};
