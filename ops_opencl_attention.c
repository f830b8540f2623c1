/* ops_opencl_attention.c - floor 2: attention with a running softmax: which form of opencl/attention.cl computes it. */
#include "ops_opencl.h"

#include <math.h>

/* On a GPU: tx x ty work-items have ty tm queries; see attention.cl. For heads of at most `most` numbers. The last of
 * the rows that would do needs 16 KB of local memory and 64 work-items. */
typedef struct shape { int most, tx, ty, tm, tn, dc, vc; } shape;
static const shape shapes[] = {
    {40, 8, 8, 8, 8, 40, 32},   {40, 8, 16, 4, 8, 40, 32}, {40, 8, 8, 4, 8, 16, 16},
    {64, 8, 8, 8, 8, 32, 32},   {64, 8, 16, 4, 8, 32, 32}, {64, 8, 8, 4, 8, 16, 16},
    {80, 16, 8, 8, 4, 40, 32},  {80, 16, 8, 4, 4, 40, 32}, {80, 16, 4, 4, 4, 16, 8},
    {160, 16, 8, 4, 4, 32, 16}, {160, 16, 4, 4, 4, 16, 8},
    {512, 32, 8, 4, 4, 32, 8},  {512, 32, 8, 4, 4, 16, 4}, {512, 32, 2, 4, 4, 16, 4}};

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

/* How ill a shape suits the device. The bytes of a work-item's memory beside its registers: if it has some, these did
 * not suffice. Eight queries of an item take some 230 registers, which devices whose work-items run in step by 32 have;
 * others may not say that they lack them. */
static cl_ulong badness(const sd_cl_call *c, const shape *s)
{
    const sd_cl *cl = sd_cl_of(c->r);
    cl_ulong bytes = 0;
    size_t step = cl->step;
    clGetKernelWorkGroupInfo(c->kernel, cl->device, CL_KERNEL_PRIVATE_MEM_SIZE, sizeof bytes, &bytes, NULL);
    if (!step)
        clGetKernelWorkGroupInfo(c->kernel, cl->device, CL_KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE, sizeof step,
                                 &step, NULL);
    return bytes + (s->tm > 4 && step != 32);
}

/* Begins the call with *best, the first of the shapes that fit and suit best. */
static sd_cl_call choose(sd_run *r, int d, const shape **best)
{
    sd_cl_call chosen = {.r = r};
    const sd_cl *cl = sd_cl_of(r);
    cl_ulong least = 0;
    int most = 0;
    for (size_t i = 0; i < SD_COUNT(shapes) && sd_ok(r) && (!*best || least); i++) {
        const shape *s = &shapes[i];
        size_t items = (size_t)(s->tx * s->ty);
        if (!most && d <= s->most) most = s->most;
        if (s->most != most || items > cl->most_group || local_bytes(s, d) > cl->local_memory) continue;
        sd_cl_call c = begin_shape(r, s, d);
        if (!sd_ok(r) || c.most_group < items) continue;
        cl_ulong bad = badness(&c, s);
        if (*best && bad >= least) continue;
        *best = s;
        chosen = c;
        least = bad;
    }
    if (!*best)
        sd_fail(r->err, SD_ERR_DEVICE, "%s: %s: no kernel for attention with heads of %d numbers fits this device, "
                "which has %zu bytes of local memory and groups of %zu", cl->name, r->step ? r->step : "input", d,
                cl->local_memory, cl->most_group);
    return chosen;
}

/* Strips of 16 queries of a work-item on a CPU */
static int strips(int d) { return d <= 160 ? 4 : 2; }

void sd_cl_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    char options[64];
    bool cpu = sd_cl_of(r)->cpu;
    int64_t N = q.dim[0], T = q.dim[1], S = k.dim[1];
    int d = (int)(q.dim[2] / heads);
    const shape *s = NULL;
    snprintf(options, sizeof options, "-DD=%d -DSTRIPS=%d", d, strips(d));
    sd_cl_call c = cpu ? sd_cl_begin(r, "attention", "attention", options) : choose(r, d, &s);
    if (!cpu && !s) return;
    int64_t queries = cpu ? 16 * strips(d) : s->ty * s->tm, tiles = (T + queries - 1) / queries;
    sd_cl_tensor(&c, y), sd_cl_tensor(&c, q), sd_cl_tensor(&c, k), sd_cl_tensor(&c, v);
    sd_cl_int(&c, T), sd_cl_int(&c, S), sd_cl_int(&c, heads), sd_cl_int(&c, causal);
    sd_cl_float(&c, 1.4426950408889634 / sqrt((double)d));
    size_t items = cpu ? 1 : (size_t)(s->tx * s->ty), groups[] = {(size_t)tiles, (size_t)heads, (size_t)N};
    sd_cl_run(&c, (size_t[]){items, 1, 1}, groups,
              2.0 * (double)(N * T * S) * (double)q.dim[2]);
}
