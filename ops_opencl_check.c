/* ops_opencl_check.c - floor 2: the self-test of a device: small cases of every operation, compared with the CPU's
 * specification.
 *
 * Shapes have edges: sizes that no tile divides. All numbers that a case has not written yet are NaN on the device, so
 * that what is forgotten, or read beyond an input's end, shows in the result. */
#include "ops_cpu.h"
#include "ops_opencl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Uniform in [-1, 1], of which inputs and weights are pieces. half, bfloat: the same in these types. */
enum { POOL = 1 << 18, WORKING_MEMORY = 8 << 20 };
typedef struct pool { float *x; uint16_t *half, *bfloat; } pool;

typedef struct check_case check_case;
struct check_case {
    const char *name;
    sd_tensor (*compute)(sd_run *r, const pool *p, const check_case *c);
    double bound;          /* of |x - truth| / |truth|; 0: the same bits */
    int64_t a[8];          /* sizes, as `compute` says */
    sd_dtype type;         /* of a weight */
    bool channels_first;   /* how the result comes back */
    bool shapes;           /* a thorough check computes it in tiles of every shape */
};

/* ---------------------------------------------------------------------------------- the operations */

static sd_tensor input(sd_run *r, const pool *p, size_t from, int nd, const int64_t *dim)
{
    return sd_new_from(r, nd, dim, p->x + from);
}

static sd_tensor weight(const pool *p, size_t from, sd_dtype type, int nd, const int64_t *dim)
{
    void *data = type == SD_F16 ? (void *)(p->half + from) : type == SD_BF16 ? (void *)(p->bfloat + from)
        : (void *)(p->x + from);
    sd_tensor w = {.nd = nd, .dt = type, .data = data, .name = "weight"};
    for (int i = 0; i < nd; i++) w.dim[i] = dim[i];
    return w;
}
static sd_tensor vector(const pool *p, size_t from, int64_t n)
{
    return weight(p, from, SD_F32, 1, (const int64_t[]){n});
}

/* N, H, W, C */
static sd_tensor from_channels_first(sd_run *r, const pool *p, const check_case *c)
{
    return sd_new_from_nchw(r, c->a[0], c->a[3], c->a[1], c->a[2], p->x);
}

/* numbers, and how far they move */
static sd_tensor move(sd_run *r, const pool *p, const check_case *c)
{
    size_t mark = sd_mark(r);
    sd_new2(r, 1, c->a[1]);
    return sd_move_down(r, mark, input(r, p, 0, 2, (const int64_t[]){1, c->a[0]}));
}

/* numbers, dim, flip */
static sd_tensor sinusoid(sd_run *r, const pool *p, const check_case *c)
{
    return sd_sinusoid(r, c->a[0], c->a[1], p->x, c->a[2] != 0, 0);
}

/* rows, I, O */
static sd_tensor linear(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor w = weight(p, 1000, c->type, 2, (const int64_t[]){c->a[2], c->a[1]}), b = vector(p, 7, c->a[2]);
    return sd_linear(r, input(r, p, 300, 2, c->a), &w, c->a[0] % 2 ? &b : NULL);
}

/* N, H, W, I, O, kernel, stride, enlarge */
static sd_tensor conv2d(sd_run *r, const pool *p, const check_case *c)
{
    int k = (int)c->a[5], pad = k / 2, stride = (int)c->a[6];
    sd_tensor w = weight(p, 2000, c->type, 4, (const int64_t[]){c->a[4], c->a[3], k, k}), b = vector(p, 7, c->a[4]);
    int before = stride > 1 ? 0 : pad;   /* as the VAE's encoder pads */
    return sd_conv2d(r, input(r, p, 300, 4, c->a), &w, &b, (sd_conv){.stride = stride, .pad_top = before,
                     .pad_left = before, .pad_bottom = pad, .pad_right = pad, .enlarge = c->a[7] != 0});
}

/* height, W, I, O, first and last row of a band, enlarge */
static sd_tensor conv2d_band(sd_run *r, const pool *p, const check_case *c)
{
    sd_conv how = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1, .enlarge = c->a[6] != 0};
    sd_tensor w = weight(p, 2000, c->type, 4, (const int64_t[]){c->a[3], c->a[2], 3, 3}), b = vector(p, 7, c->a[3]);
    int64_t first, end;
    sd_conv_reads(how, 3, c->a[0], c->a[4], c->a[5], &first, &end);
    how.rows = (sd_rows){c->a[0], first, c->a[4]};
    sd_tensor x = input(r, p, 300, 4, (const int64_t[]){1, end - first, c->a[1], c->a[2]});
    sd_tensor y = sd_new4(r, 1, c->a[5] - c->a[4], how.enlarge ? 2 * c->a[1] : c->a[1], c->a[3]);
    sd_conv2d_into(r, y, x, &w, &b, how);
    return y;
}

/* N, T, S, heads, d, causal */
static sd_tensor attention(sd_run *r, const pool *p, const check_case *c)
{
    int64_t width = c->a[3] * c->a[4], q[] = {c->a[0], c->a[1], width}, k[] = {c->a[0], c->a[2], width};
    return sd_attention(r, input(r, p, 0, 3, q), input(r, p, 501, 3, k), input(r, p, 1003, 3, k), (int)c->a[3],
                        c->a[5] != 0);
}

/* N, H, W, C, groups, silu */
static sd_tensor group_norm(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor g = vector(p, 11, c->a[3]), b = vector(p, 5000, c->a[3]);
    return sd_group_norm(r, input(r, p, 0, 4, c->a), &g, &b, (int)c->a[4], 1e-5, c->a[5] != 0);
}

/* rows in each of two bands, W, C, groups, silu: what the second band becomes */
static sd_tensor group_norm_in_bands(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor g = vector(p, 11, c->a[2]), b = vector(p, 5000, c->a[2]), band = {0};
    int64_t each = c->a[0] * c->a[1], pixels = 2 * each, dim[] = {1, c->a[0], c->a[1], c->a[2]};
    sd_tensor sums = sd_norm_sums_new(r, pixels, c->a[2]), scale = sd_norm_scale_new(r, c->a[2]);
    for (int64_t at = 0; at < pixels; at += each) {
        band = input(r, p, (size_t)(at * c->a[2]), 4, dim);
        sd_norm_sums(r, sums, band, at);
    }
    sd_norm_scale(r, scale, sums, &g, &b, (int)c->a[3], 1e-5, pixels);
    sd_norm_apply(r, band, band, scale, c->a[4] != 0);
    return band;
}

/* rows, C */
static sd_tensor layer_norm(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor g = vector(p, 11, c->a[1]), b = vector(p, 5000, c->a[1]);
    return sd_layer_norm(r, input(r, p, 0, 2, c->a), &g, &b, 1e-5);
}

/* rows, C, which */
static sd_tensor act(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor x = input(r, p, 0, 2, c->a);
    for (int i = 0; i < 3; i++) sd_add_(r, x, x);   /* up to 8: where curves are bent and where they are flat */
    sd_act_(r, x, (sd_act)c->a[2]);
    return x;
}

/* rows, C */
static sd_tensor geglu(sd_run *r, const pool *p, const check_case *c) { return sd_geglu(r, input(r, p, 0, 2, c->a)); }

/* rows, C */
static sd_tensor add(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor y = input(r, p, 0, 2, c->a);
    sd_add_(r, y, input(r, p, 77, 2, c->a));
    return y;
}

/* N, H, W, C */
static sd_tensor add_channels(sd_run *r, const pool *p, const check_case *c)
{
    sd_tensor y = input(r, p, 0, 4, c->a);
    sd_add_channels_(r, y, input(r, p, 77, 2, (const int64_t[]){c->a[0], c->a[3]}));
    return y;
}

/* N, H, W, C, C of the other */
static sd_tensor concat(sd_run *r, const pool *p, const check_case *c)
{
    const int64_t other[] = {c->a[0], c->a[1], c->a[2], c->a[4]};
    return sd_concat(r, input(r, p, 0, 4, c->a), input(r, p, 77, 4, other));
}

/* N, H, W, C */
static sd_tensor upsample(sd_run *r, const pool *p, const check_case *c)
{
    return sd_upsample(r, input(r, p, 0, 4, c->a), 2 * c->a[1], 2 * c->a[2]);
}

/* N, T, C, tokens */
static sd_tensor embed(sd_run *r, const pool *p, const check_case *c)
{
    int32_t ids[64];
    int64_t n = c->a[0] * c->a[1];
    for (int64_t i = 0; i < n && i < (int64_t)SD_COUNT(ids); i++) ids[i] = (int32_t)(i * 37 % c->a[3]);
    sd_tensor token = weight(p, 64, c->type, 2, (const int64_t[]){c->a[3], c->a[2]});
    sd_tensor position = weight(p, 9000, c->type, 2, (const int64_t[]){c->a[1], c->a[2]});
    return sd_embed(r, ids, c->a[0], c->a[1], &token, &position);
}

/* Four to five times what tests ask of devices that were tried: sums may be ordered otherwise, and a driver's own
 * functions have a few units in the last place. Numbers of 16 bits, or sums in a TF32, are off by 3e-4 or more. */
#define SUMS 2e-6
#define CURVES 1e-6

static const check_case cases[] = {
    {"upload of channels first", from_channels_first, 0, {2, 5, 7, 12}, 0, false, false},
    {"download of channels first", from_channels_first, 0, {2, 5, 7, 12}, 0, true, false},
    {"copy to where it overlaps", move, 0, {5001, 300}, 0, false, false},
    {"copy by little", move, 0, {5001, 7}, 0, false, false},
    {"sinusoid", sinusoid, 0, {3, 64, 1}, 0, false, false},
    {"add", add, 0, {33, 68}, 0, false, false},
    {"add_channels", add_channels, 0, {2, 5, 7, 68}, 0, false, false},
    {"concat", concat, 0, {2, 5, 7, 64, 36}, 0, false, false},
    {"upsample", upsample, 0, {2, 5, 7, 36}, 0, false, false},
    {"embed", embed, 0, {2, 7, 96, 50}, SD_F32, false, false},
    {"embed, F16", embed, 0, {2, 7, 96, 50}, SD_F16, false, false},
    {"act SiLU", act, CURVES, {33, 68, SD_ACT_SILU}, 0, false, false},
    {"act GELU", act, CURVES, {33, 68, SD_ACT_GELU}, 0, false, false},
    {"act quick GELU", act, CURVES, {33, 68, SD_ACT_QUICK_GELU}, 0, false, false},
    {"act ReLU", act, 0, {33, 68, SD_ACT_RELU}, 0, false, false},
    {"act soft clamp", act, CURVES, {33, 68, SD_ACT_SOFT_CLAMP}, 0, false, false},
    {"act to unit", act, CURVES, {33, 68, SD_ACT_TO_UNIT}, 0, false, false},
    {"act from unit", act, CURVES, {33, 68, SD_ACT_FROM_UNIT}, 0, false, false},
    {"geglu", geglu, CURVES, {33, 136}, 0, false, false},
    {"layer_norm", layer_norm, SUMS, {33, 320}, 0, false, false},
    {"group_norm", group_norm, SUMS, {2, 9, 7, 96, 32, 0}, 0, false, false},
    {"group_norm with SiLU", group_norm, SUMS, {1, 24, 32, 64, 32, 1}, 0, false, false},
    {"group_norm in bands", group_norm_in_bands, SUMS, {16, 40, 64, 32, 1}, 0, false, false},
    {"linear", linear, SUMS, {70, 77, 45}, SD_F32, false, false},
    {"linear of one row", linear, SUMS, {1, 320, 200}, SD_F32, false, false},
    {"linear, F16", linear, SUMS, {133, 320, 130}, SD_F16, false, true},
    {"linear, BF16", linear, SUMS, {40, 200, 72}, SD_BF16, false, false},
    {"conv2d 3x3 of few channels", conv2d, SUMS, {2, 9, 11, 4, 40, 3, 1, 0}, SD_F32, false, false},
    {"conv2d 3x3 to few channels", conv2d, SUMS, {1, 9, 11, 64, 3, 3, 1, 0}, SD_F32, false, false},
    {"conv2d 3x3, F16", conv2d, SUMS, {1, 18, 17, 128, 128, 3, 1, 0}, SD_F16, false, false},
    {"conv2d 1x1", conv2d, SUMS, {1, 9, 11, 36, 68, 1, 1, 0}, SD_F32, false, false},
    {"conv2d 3x3", conv2d, SUMS, {1, 13, 11, 36, 132, 3, 1, 0}, SD_F16, false, true},
    {"conv2d with stride 2", conv2d, SUMS, {1, 10, 12, 32, 36, 3, 2, 0}, SD_F32, false, false},
    {"conv2d of an enlarged picture", conv2d, SUMS, {1, 9, 8, 128, 128, 3, 1, 1}, SD_F32, false, false},
    {"conv2d in bands", conv2d_band, SUMS, {20, 17, 128, 128, 8, 16, 0}, SD_F32, false, false},
    {"conv2d in bands, enlarged", conv2d_band, SUMS, {20, 9, 32, 36, 8, 24, 1}, SD_F32, false, false},
    {"attention, d 40", attention, SUMS, {2, 70, 77, 2, 40, 0}, 0, false, false},
    {"attention, d 64, causal", attention, SUMS, {1, 77, 77, 2, 64, 1}, 0, false, false},
    {"attention, d 80", attention, SUMS, {1, 66, 130, 1, 80, 0}, 0, false, false},
    {"attention, d 160", attention, SUMS, {1, 33, 77, 1, 160, 0}, 0, false, false},
    {"attention, d 512", attention, SUMS, {1, 80, 80, 1, 512, 0}, 0, false, false},
};

/* ------------------------------------------------------------------------------------ comparison */

static bool pool_new(pool *p)
{
    uint32_t seed = 1;
    p->x = malloc(POOL * sizeof *p->x);
    p->half = malloc(POOL * sizeof *p->half);
    p->bfloat = malloc(POOL * sizeof *p->bfloat);
    if (!p->x || !p->half || !p->bfloat) return false;
    for (size_t i = 0; i < POOL; i++) {
        seed = seed * 1664525u + 1013904223u;   /* [Knuth, vol. 2, 3.3.4, table 1, line 16] */
        p->x[i] = (float)((double)(seed >> 8) / (1 << 23) - 1);
    }
    sd_narrow(p->half, SD_F16, p->x, POOL);
    sd_narrow(p->bfloat, SD_BF16, p->x, POOL);
    return true;
}
static void pool_free(pool *p)
{
    free(p->x);
    free(p->half);
    free(p->bfloat);
}

/* Fills the first `bytes` of the run's working memory with NaN. */
static void spoil(sd_run *r, size_t bytes, float *room)
{
    size_t n = bytes / sizeof *room;
    for (size_t i = 0; i < n; i++) room[i] = NAN;
    sd_upload(r, sd_new2(r, 1, (int64_t)n), room);
    sd_reset(r, 0);
}

static void read_result(sd_run *r, const check_case *c, sd_tensor t, float *to)
{
    if (c->channels_first) sd_download_channels_first(r, t, to);
    else sd_download(r, t, to);
}

static double distance(const float *x, const float *truth, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)x[i] - truth[i]) * ((double)x[i] - truth[i]);
        s += (double)truth[i] * truth[i];
    }
    return sqrt(d / s);
}

/* Two runs side by side: of the device, and of the CPU's specification. */
typedef struct check {
    sd_run r, near;
    pool p;
    float *room, *truth;     /* results; of the device, of the specification */
    sd_cl_checked *done;
} check;

/* How far the device is from the truth. name: of the case and how it is computed. */
static void judge(check *k, const check_case *c, size_t numbers, const char *name)
{
    sd_run *r = &k->r;
    const sd_cl *cl = sd_cl_of(r);
    spoil(r, k->near.arena.peak, k->room);
    sd_tensor x = sd_ok(r) ? c->compute(r, &k->p, c) : (sd_tensor){0};
    if (sd_ok(r)) read_result(r, c, x, k->room);
    if (!sd_ok(r)) return;
    sd_reset(r, 0);
    double d = distance(k->room, k->truth, numbers);
    if (!(d <= c->bound))
        sd_fail(r->err, SD_ERR_DEVICE, "%s computes wrongly and is refused: %s is off by %.2g of its size, at most "
                "%.2g is right (driver %s)", cl->label, name, d, c->bound, cl->driver);
    if (c->bound > 0 && d / c->bound > k->done->worst) k->done->worst = d / c->bound;
    k->done->cases++;
}

/* A product is computed in tiles of one of several shapes: in each that this device can run. */
static void judge_shapes(check *k, const check_case *c, size_t numbers)
{
    char name[96];
    sd_cl *cl = sd_cl_of(&k->r);
    for (int row = 0; row < sd_cl_shapes() && sd_ok(&k->r); row++) {
        if (!sd_cl_shape_runs(cl, row)) continue;
        snprintf(name, sizeof name, "%s, in tiles of shape %d", c->name, row);
        cl->only = row + 1;
        judge(k, c, numbers, name);
    }
    cl->only = 0;
}

static void compare(check *k, const check_case *c, bool thorough)
{
    char step[80];
    sd_run *near = &k->near;
    snprintf(step, sizeof step, "self-test of %s", c->name);
    k->r.step = near->step = step;
    sd_reset(near, 0);
    near->arena.peak = 0;
    sd_tensor t = c->compute(near, &k->p, c);
    if (sd_ok(near)) read_result(near, c, t, k->truth);
    if (sd_ok(near)) judge(k, c, (size_t)sd_numel(&t), c->name);
    if (sd_ok(near) && thorough && c->shapes) judge_shapes(k, c, (size_t)sd_numel(&t));
}

sd_status sd_cl_check(sd_cl *cl, const sd_backend *be, bool thorough, sd_cl_checked *done, sd_error *e)
{
    double start = sd_now();
    sd_cpu cpu = {.kern = sd_kern_select_precise(NULL), .threads = 1};
    check k = {.r = {.err = e, .be = be, .device = cl}, .near = {.err = e, .be = &sd_backend_cpu, .device = &cpu},
               .room = malloc(2 * WORKING_MEMORY), .done = done};
    *done = (sd_cl_checked){0};
    if (!pool_new(&k.p) || !k.room) sd_fail(e, SD_ERR_MEMORY, "no memory for a device's self-test");
    else k.truth = k.room + WORKING_MEMORY / sizeof *k.room;
    if (sd_ok(&k.r)) sd_reserve(&k.r, WORKING_MEMORY, "the self-test");
    if (sd_ok(&k.r)) sd_reserve(&k.near, WORKING_MEMORY, "the self-test");
    for (size_t i = 0; i < SD_COUNT(cases) && sd_ok(&k.r); i++) compare(&k, &cases[i], thorough);
    sd_run_free(&k.r);
    sd_run_free(&k.near);
    pool_free(&k.p);
    free(k.room);
    done->seconds = sd_now() - start;
    return e->status;
}
