/* ops_opencl_attention.c - floor 2: attention with a running softmax: which form of opencl/attention.cl computes it. */
#include "ops_opencl.h"

#include <math.h>

/* On a GPU: tx x ty work-items have ty tm queries; see attention.cl. For heads of at most `most` numbers. Where several
 * rows would do, the first is the fastest on devices with many registers and much local memory, the last needs 16 KB
 * and 64 work-items. They add in the same order up to heads of 256 numbers. */
typedef struct shape { int most, tx, ty, tm, tn, dc, vc; } shape;
static const shape shapes[] = {
    {40, 8, 8, 8, 8, 40, 32},     {40, 8, 16, 4, 8, 40, 32},   {40, 8, 8, 4, 8, 16, 16},
    {64, 8, 8, 8, 4, 32, 32},     {64, 8, 16, 4, 4, 32, 32},   {64, 8, 8, 4, 4, 16, 16},
    {80, 16, 8, 8, 4, 16, 16},    {80, 16, 16, 4, 4, 16, 16},  {80, 16, 4, 4, 4, 16, 8},
    {160, 16, 16, 4, 4, 16, 8},   {160, 16, 8, 4, 4, 16, 8},   {160, 16, 4, 4, 4, 16, 8},
    {512, 32, 8, 4, 4, 16, 4},    {512, 32, 4, 4, 4, 16, 4},   {512, 32, 2, 4, 4, 16, 4}};

static int min_int(int a, int b) { return a < b ? a : b; }
static int max_int(int a, int b) { return a > b ? a : b; }

/* Numbers of a head at a time */
static int chunk(const shape *s, int d) { return min_int(s->dc, (d + 7) / 8 * 8); }

static size_t local_bytes(const shape *s, int d)
{
    int queries = s->ty * s->tm + 4, keys = s->tx * s->tn + 4, values = (d + s->tx - 1) / s->tx * s->tx;
    return sizeof(cl_float) * (size_t)(chunk(s, d) * queries + max_int(chunk(s, d) * keys, s->vc * values)
                                       + 4 * s->tx * queries);
}

static sd_cl_call begin_shape(sd_run *r, const shape *s, int d)
{
    char options[128];
    snprintf(options, sizeof options, "-DD=%d -DTX=%d -DTY=%d -DTM=%d -DTN=%d -DDC=%d -DVC=%d", d, s->tx, s->ty, s->tm,
             s->tn, chunk(s, d), s->vc);
    return sd_cl_begin(r, "attention", "attention", options);
}

/* The bytes of a work-item's memory beside its registers: where it needs some, the registers did not suffice. */
static cl_ulong spilled(const sd_cl_call *c)
{
    cl_ulong bytes = 0;
    clGetKernelWorkGroupInfo(c->kernel, sd_cl_of(c->r)->device, CL_KERNEL_PRIVATE_MEM_SIZE, sizeof bytes, &bytes, NULL);
    return bytes;
}

/* The first of the shapes that fit which spills least. */
static const shape *choose(sd_run *r, int d)
{
    const sd_cl *cl = sd_cl_of(r);
    const shape *best = NULL;
    cl_ulong least = 0;
    int most = 0;
    for (size_t i = 0; i < SD_COUNT(shapes) && sd_ok(r) && (!best || least); i++) {
        const shape *s = &shapes[i];
        size_t items = (size_t)(s->tx * s->ty);
        if (!most && d <= s->most) most = s->most;
        if (s->most != most || items > cl->most_group || local_bytes(s, d) > cl->local_memory) continue;
        sd_cl_call c = begin_shape(r, s, d);
        if (!sd_ok(r) || c.most_group < items) continue;
        cl_ulong bytes = spilled(&c);
        if (best && bytes >= least) continue;
        best = s;
        least = bytes;
    }
    if (!best)
        sd_fail(r->err, SD_ERR_DEVICE, "%s: %s: no kernel for attention with heads of %d numbers fits this device, which "
                "has %zu bytes of local memory and groups of %zu", cl->name, r->step ? r->step : "input", d,
                cl->local_memory, cl->most_group);
    return best;
}

/* Strips of 16 queries of a work-item on a CPU */
static int strips(int d) { return d <= 160 ? 4 : 2; }

void sd_cl_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    char options[64];
    bool cpu = sd_cl_of(r)->cpu;
    int64_t N = q.dim[0], T = q.dim[1], S = k.dim[1];
    int d = (int)(q.dim[2] / heads);
    const shape *s = cpu ? NULL : choose(r, d);
    if (!cpu && !s) return;
    int64_t queries = cpu ? 16 * strips(d) : s->ty * s->tm, tiles = (T + queries - 1) / queries;
    snprintf(options, sizeof options, "-DD=%d -DSTRIPS=%d", d, strips(d));
    sd_cl_call c = cpu ? sd_cl_begin(r, "attention", "attention", options) : begin_shape(r, s, d);
    sd_cl_tensor(&c, y), sd_cl_tensor(&c, q), sd_cl_tensor(&c, k), sd_cl_tensor(&c, v);
    sd_cl_int(&c, T), sd_cl_int(&c, S), sd_cl_int(&c, heads), sd_cl_int(&c, causal);
    sd_cl_float(&c, 1.4426950408889634 / sqrt((double)d));
    sd_cl_run(&c, (size_t[]){cpu ? 1 : (size_t)(s->tx * s->ty), 1, 1}, (size_t[]){(size_t)tiles, (size_t)heads, (size_t)N},
              2.0 * (double)(N * T * S) * (double)q.dim[2]);
}
