/* ops.c - floor 2: tensors, shape rules and the entry points of the whole-tensor operations; the null backend.
 *
 * Each entry point does the same: stop if an error is set, check shapes, count the work, call the backend, report what
 * was done. */
#include "profile.h"

#include <stdlib.h>
#include <string.h>

const sd_backend sd_backend_null = {.name = "null"};

/* One operation: calls `entry` of the backend, if it has one, with these arguments, and reports the members of an
 * sd_operation (profile.h) to the profile. */
#define COMPUTE(r, entry, arguments, ...) \
    do { \
        sd_profile_begin(r); \
        if ((r)->be->entry) (r)->be->entry arguments; \
        sd_profile_end((r), &(sd_operation){__VA_ARGS__}); \
    } while (0)

/* ----------------------------------------------------------------------------------- tensors */

const char *sd_shape_text(const sd_tensor *t, char buf[96])
{
    int at = snprintf(buf, 96, "[");
    for (int i = 0; i < t->nd && at < 70; i++)
        at += snprintf(buf + at, 96 - (size_t)at, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    snprintf(buf + at, 96 - (size_t)at, "]");
    return buf;
}

static const char *where(const sd_run *r) { return r->step ? r->step : "input"; }

static sd_tensor shape_error(sd_run *r, const char *op, const char *want, const sd_tensor *found)
{
    char s[96];
    sd_fail(r->err, SD_ERR_SHAPE, "%s: %s expects %s, found %s%s%s", where(r), op, want, sd_shape_text(found, s),
            found->name ? " in " : "", found->name ? found->name : "");
    return (sd_tensor){0};
}

/* False once an error is set or the caller wants to stop. */
static bool go(sd_run *r)
{
    (void)sd_fail_if_stopped(r->err);
    return sd_ok(r);
}

static sd_tensor new_tensor(sd_run *r, int nd, const int64_t *dim)
{
    sd_tensor t = {.nd = nd, .dt = SD_F32};
    if (!go(r)) return (sd_tensor){0};
    int64_t n = 1;
    for (int i = 0; i < nd; i++) {
        if (dim[i] < 1 || n > INT64_MAX / 8 / dim[i]) {
            sd_fail(r->err, SD_ERR_SHAPE, "%s: a tensor side of %lld is out of range", where(r), (long long)dim[i]);
            return (sd_tensor){0};
        }
        t.dim[i] = dim[i];
        n *= dim[i];
    }
    bool full;
    t.data = sd_arena_alloc(&r->arena, (size_t)n * sizeof(float), &full);
    if (full) {
        double bytes = (double)n * sizeof(float), part = (double)r->arena.part;
        if (r->arena.part && bytes > part)
            sd_fail(r->err, SD_ERR_MEMORY, "%s: a tensor of %.1f MB is more than the %.1f MB that this device can have "
                    "at once", where(r), bytes / 1e6, part / 1e6);
        else sd_fail(r->err, SD_ERR_MEMORY, "%s: working memory of %.1f MB is used up", where(r),
                     (double)r->arena.size / 1e6);
        return (sd_tensor){0};
    }
    return t;
}

sd_tensor sd_new2(sd_run *r, int64_t a, int64_t b) { return new_tensor(r, 2, (const int64_t[]){a, b}); }
sd_tensor sd_new3(sd_run *r, int64_t a, int64_t b, int64_t c) { return new_tensor(r, 3, (const int64_t[]){a, b, c}); }
sd_tensor sd_new4(sd_run *r, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return new_tensor(r, 4, (const int64_t[]){a, b, c, d});
}

sd_tensor sd_new_from(sd_run *r, int nd, const int64_t *dim, const float *numbers)
{
    sd_tensor t = new_tensor(r, nd, dim);
    if (numbers) sd_upload(r, t, numbers);
    return t;
}

sd_tensor sd_new_from_nchw(sd_run *r, int64_t n, int64_t c, int64_t h, int64_t w, const float *numbers)
{
    sd_tensor t = sd_new4(r, n, h, w, c);
    if (numbers) sd_upload_channels_first(r, t, numbers);
    return t;
}

void sd_upload(sd_run *r, sd_tensor y, const float *from)
{
    if (go(r) && r->be->upload) r->be->upload(r, y, from, false);
}

void sd_upload_channels_first(sd_run *r, sd_tensor y, const float *from)
{
    if (go(r) && r->be->upload) r->be->upload(r, y, from, true);
}

void sd_download(sd_run *r, sd_tensor x, float *to)
{
    if (go(r) && r->be->download) r->be->download(r, x, to, false);
}

void sd_download_channels_first(sd_run *r, sd_tensor x, float *to)
{
    if (go(r) && r->be->download) r->be->download(r, x, to, true);
}

static sd_tensor view(sd_run *r, sd_tensor x, int nd, const int64_t *dim)
{
    if (!go(r)) return (sd_tensor){0};
    sd_tensor y = x;
    y.nd = nd;
    for (int i = 0; i < nd; i++) y.dim[i] = dim[i];
    if (sd_numel(&y) != sd_numel(&x)) return shape_error(r, "view", "as many numbers as before", &y);
    return y;
}

sd_tensor sd_view2(sd_run *r, sd_tensor x, int64_t a, int64_t b) { return view(r, x, 2, (const int64_t[]){a, b}); }
sd_tensor sd_view3(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c)
{
    return view(r, x, 3, (const int64_t[]){a, b, c});
}
sd_tensor sd_view4(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return view(r, x, 4, (const int64_t[]){a, b, c, d});
}

sd_tensor sd_samples(sd_run *r, sd_tensor x, int64_t n)
{
    if (!go(r)) return (sd_tensor){0};
    if (n < 1 || n > x.dim[0]) return shape_error(r, "samples", "at least as many samples as are wanted", &x);
    x.dim[0] = n;
    return x;
}

size_t sd_mark(const sd_run *r) { return r->arena.used; }
void sd_reset(sd_run *r, size_t mark) { r->arena.used = mark; }

sd_tensor sd_move_down(sd_run *r, size_t mark, sd_tensor y)
{
    sd_reset(r, mark);
    /* It fits, because y lies above the mark. That holds for an arena in parts, too: if there is no room for it in the
     * part of the mark, y does not lie in that, but where the next one begins or above. */
    sd_tensor at = new_tensor(r, y.nd, y.dim);
    sd_copy(r, at, y);
    return at;
}

void sd_copy(sd_run *r, sd_tensor y, sd_tensor x)
{
    if (go(r) && y.data != x.data) COMPUTE(r, copy, (r, y, x), .name = "move", .y = y, .in = {x});
}

sd_tensor sd_repeat(sd_run *r, sd_tensor x, int64_t n)
{
    if (!go(r) || x.dim[0] == n) return x;
    if (n % x.dim[0]) return shape_error(r, "repeat", "a batch of which the other one is a multiple", &x);
    int64_t dim[4] = {n, x.dim[1], x.dim[2], x.dim[3]};
    sd_tensor y = new_tensor(r, x.nd, dim), part = x;
    for (int64_t i = 0; i < n && sd_ok(r); i += x.dim[0]) {
        if (y.data) part.data = (float *)y.data + i * (sd_numel(&x) / x.dim[0]);
        sd_copy(r, part, x);
    }
    return y;
}

/* ------------------------------------------------------------------------------ working memory */

sd_room sd_room_of(const sd_run *r)
{
    return r->be->room ? r->be->room(r) : (sd_room){.bytes = (double)sd_memory_left()};
}

size_t sd_arena_part_of(const sd_run *r) { return r->be->room ? r->be->room(r).part : 0; }

sd_status sd_reserve(sd_run *r, size_t bytes, const char *what)
{
    sd_reset(r, 0);
    if (!r->be->alloc || (r->arena.base && r->arena.size >= bytes)) return r->err->status;
    r->be->release(r, r->arena.base);
    r->arena = (sd_arena){0};
    r->arena.base = r->be->alloc(r, bytes, what);
    if (r->arena.base) r->arena.size = bytes;
    r->arena.part = sd_arena_part_of(r);
    return r->err->status;
}

void sd_forget_cached(sd_run *r)
{
    for (int i = 0; i < r->kept.n; i++) r->be->release(r, r->kept.item[i].y.data);
    free(r->kept.item);
    r->kept = (sd_cached){0};
}

void sd_run_free(sd_run *r)
{
    sd_forget_cached(r);
    if (r->be && r->be->release) r->be->release(r, r->arena.base);
    if (r->be && r->be->trim) r->be->trim(r);
    r->arena = (sd_arena){0};
}

/* -------------------------------------------------------------------------------- shape rules */

static int64_t last(const sd_tensor *t) { return t->nd > 0 ? t->dim[t->nd - 1] : 0; }
static int64_t rows(const sd_tensor *t) { return last(t) ? sd_numel(t) / last(t) : 0; }
static bool same(const sd_tensor *a, const sd_tensor *b)
{
    return a->nd == b->nd && memcmp(a->dim, b->dim, (size_t)a->nd * sizeof a->dim[0]) == 0;
}
static sd_tensor as_rows(sd_tensor t)
{
    return (sd_tensor){.nd = 2, .dim = {rows(&t), last(&t)}, .dt = t.dt, .data = t.data, .name = t.name};
}
/* Is this an optional bias of n numbers? */
static bool bias_fits(const sd_tensor *b, int64_t n) { return !b || b->nd == 0 || sd_numel(b) == n; }

/* [O,I] or the same bytes as a 1x1 kernel [O,I,1,1] */
static bool linear_ok(sd_run *r, const sd_tensor *x, const sd_tensor *w, const sd_tensor *b)
{
    bool matrix = w->nd == 2 || (w->nd == 4 && w->dim[2] == 1 && w->dim[3] == 1);
    if (!matrix || x->nd < 1 || w->dim[1] != last(x)) {
        char want[64];
        snprintf(want, sizeof want, "a weight [O,%lld]", (long long)last(x));
        shape_error(r, "linear", want, w);
    } else if (!bias_fits(b, w->dim[0])) {
        shape_error(r, "linear", "a bias of O numbers", b);
    }
    return sd_ok(r);
}

sd_tensor sd_linear(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    if (!go(r) || !linear_ok(r, &x, w, b)) return (sd_tensor){0};
    int64_t dim[4];
    memcpy(dim, x.dim, sizeof dim);
    dim[x.nd - 1] = w->dim[0];
    sd_tensor y = new_tensor(r, x.nd, dim);
    if (!sd_ok(r)) return y;
    double flops = 2.0 * (double)rows(&x) * (double)w->dim[0] * (double)w->dim[1];
    r->flops += flops;
    COMPUTE(r, linear, (r, as_rows(y), as_rows(x), w, b && b->nd ? b : NULL),
            .name = "linear", .y = y, .in = {x}, .weight = w, .flops = flops);
    if (r->used) r->used(r->used_user, w);
    return y;
}

/* Where the result for this weight is kept (*found), or can be kept; NULL: nothing is kept. */
static sd_tensor *place_to_keep(sd_run *r, const sd_tensor *w, uint64_t version, bool *found)
{
    sd_cached *k = &r->kept;
    int i = 0;
    *found = false;
    if (!version || !w->id || !r->be->alloc) return NULL;
    while (i < k->n && k->item[i].id != w->id) i++;
    if (i == k->n) {
        void *more = realloc(k->item, (size_t)(k->n + 1) * sizeof *k->item);
        if (!more) return NULL;
        k->item = more;
        memset(&k->item[k->n++], 0, sizeof *k->item);
        k->item[i].id = w->id;
    }
    *found = k->item[i].y.nd && k->item[i].version == version && k->item[i].weight_version == w->version;
    k->item[i].version = version;
    k->item[i].weight_version = w->version;
    return &k->item[i].y;
}

sd_tensor sd_linear_cached(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b, uint64_t version)
{
    bool found;
    if (!go(r)) return (sd_tensor){0};
    sd_tensor *kept = place_to_keep(r, w, version, &found);
    if (found) return *kept;
    sd_tensor y = sd_linear(r, x, w, b);
    if (!kept) return y;
    r->be->release(r, kept->data);
    *kept = y;
    kept->data = sd_ok(r) ? r->be->alloc(r, (size_t)sd_numel(&y) * sizeof(float), NULL) : NULL;
    if (kept->data) r->be->copy(r, *kept, y);
    else *kept = (sd_tensor){0};   /* no memory to keep it: it will be computed again */
    return y;
}

/* Along each axis: floor((n + pads - k) / stride) + 1. */
bool sd_conv_result(const int64_t x[4], const int64_t w[4], sd_conv c, int64_t y[4])
{
    int64_t zoom = c.enlarge ? 2 : 1;
    int64_t h = zoom * x[1] + c.pad_top + c.pad_bottom - w[2], v = zoom * x[2] + c.pad_left + c.pad_right - w[3];
    const int64_t dim[] = {x[0], h / c.stride + 1, v / c.stride + 1, w[0]};
    memcpy(y, dim, sizeof dim);
    return h >= 0 && v >= 0;
}

static bool conv_operands(sd_run *r, const sd_tensor *x, const sd_tensor *w, const sd_tensor *b)
{
    if (x->nd != 4 || w->nd != 4 || w->dim[1] != x->dim[3]) {
        char want[64];
        snprintf(want, sizeof want, "a weight [O,%lld,kh,kw]", (long long)last(x));
        shape_error(r, "conv2d", want, w);
        return false;
    }
    if (!bias_fits(b, w->dim[0])) {
        shape_error(r, "conv2d", "a bias of O numbers", b);
        return false;
    }
    return true;
}

static bool conv_shape(sd_run *r, const sd_tensor *x, const sd_tensor *w, const sd_tensor *b, sd_conv c, int64_t dim[4])
{
    if (!conv_operands(r, x, w, b)) return false;
    if (!sd_conv_result(x->dim, w->dim, c, dim)) {
        shape_error(r, "conv2d", "a picture at least as large as the kernel", x);
        return false;
    }
    return true;
}

void sd_conv_reads(sd_conv c, int64_t kernel_height, int64_t height, int64_t from, int64_t to, int64_t *first,
                   int64_t *end)
{
    int64_t zoom = c.enlarge ? 2 : 1, top = from * c.stride - c.pad_top;
    int64_t bottom = (to - 1) * c.stride - c.pad_top + kernel_height - 1;
    *first = top < 0 ? 0 : top / zoom;
    *end = bottom / zoom < height ? bottom / zoom + 1 : height;
}

/* Is y a band of the result that can be computed from x, which has some rows of the picture? */
static bool band_fits(const sd_tensor *y, const sd_tensor *x, const sd_tensor *w, sd_conv c)
{
    const int64_t whole[] = {x->dim[0], c.rows.height, x->dim[2], x->dim[3]};
    int64_t result[4], first, end, to = c.rows.from + y->dim[1];
    if (!sd_conv_result(whole, w->dim, c, result)) return false;
    sd_conv_reads(c, w->dim[2], c.rows.height, c.rows.from, to, &first, &end);
    return y->nd == 4 && y->dim[0] == result[0] && y->dim[2] == result[2] && y->dim[3] == result[3]
        && c.rows.from % sd_conv_band(c) == 0 && (to == result[1] || to % sd_conv_band(c) == 0)
        && c.rows.from >= 0 && y->dim[1] > 0 && to <= result[1]
        && first >= c.rows.first && end <= c.rows.first + x->dim[1];
}

static void convolve(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    double flops = 2.0 * (double)sd_numel(&y) * (double)(w->dim[1] * w->dim[2] * w->dim[3]);
    r->flops += flops;
    sd_conv_how how = {0};
    if (r->profile && r->be->describe) how = r->be->describe(r, x.dim, w->dim, c);
    COMPUTE(r, conv2d, (r, y, x, w, b && b->nd ? b : NULL, c),
            .name = "conv2d", .y = y, .in = {x}, .weight = w, .flops = flops, .how = how);
    if (r->used) r->used(r->used_user, w);
}

sd_tensor sd_conv2d(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    int64_t dim[4];
    if (!go(r) || !conv_shape(r, &x, w, b, c, dim)) return (sd_tensor){0};
    sd_tensor y = new_tensor(r, 4, dim);
    if (sd_ok(r)) convolve(r, y, x, w, b, c);
    return y;
}

void sd_conv2d_into(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    if (!c.rows.height) c.rows.height = x.nd == 4 ? x.dim[1] : 0;
    if (!go(r) || !conv_operands(r, &x, w, b)) return;
    if (band_fits(&y, &x, w, c)) convolve(r, y, x, w, b, c);
    else shape_error(r, "conv2d", "a band of the result whose rows of the picture are there", &y);
}

sd_tensor sd_upsample_conv2d(sd_run *r, sd_tensor x, int64_t h, int64_t w, const sd_tensor *kernel, const sd_tensor *b)
{
    sd_conv c = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    /* For twice the size, the usual case, the enlarged picture is never made: it would take 268 MB at the VAE's last
     * level for 512x512. */
    c.enlarge = h == 2 * x.dim[1] && w == 2 * x.dim[2];
    return sd_conv2d(r, c.enlarge ? x : sd_upsample(r, x, h, w), kernel, b, c);
}

sd_tensor sd_attention(sd_run *r, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    if (!go(r)) return (sd_tensor){0};
    if (q.nd != 3 || heads < 1 || q.dim[2] % heads) return shape_error(r, "attention", "a query [N,T,heads d]", &q);
    if (k.nd != 3 || k.dim[0] != q.dim[0] || k.dim[2] != q.dim[2])
        return shape_error(r, "attention", "a key [N,S,heads d] like the query", &k);
    if (!same(&k, &v)) return shape_error(r, "attention", "a value shaped like the key", &v);
    if (causal && k.dim[1] != q.dim[1])
        return shape_error(r, "attention", "as many keys as queries under a causal mask", &k);
    sd_tensor y = sd_new3(r, q.dim[0], q.dim[1], q.dim[2]);
    if (!sd_ok(r)) return y;
    double flops = 4.0 * (double)sd_numel(&q) * (double)k.dim[1];
    r->flops += flops;
    COMPUTE(r, attention, (r, y, q, k, v, heads, causal), .name = "attention", .y = y, .in = {q, k, v}, .flops = flops);
    return y;
}

/* y may be x */
static void normalise(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                      double eps, bool silu)
{
    if (!go(r)) return;
    if (x.nd < 3 || groups < 1 || last(&x) % groups)
        shape_error(r, "group_norm", "channels divisible by the number of groups", &x);
    else if (sd_numel(g) != last(&x) || sd_numel(b) != last(&x))
        shape_error(r, "group_norm", "one gain and bias per channel", g);
    else COMPUTE(r, group_norm, (r, y, x, g, b, groups, eps, silu),
                 .name = silu ? "group_norm, silu" : "group_norm", .y = y, .in = {x}, .weight = g);
}

sd_tensor sd_group_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps,
                        bool silu)
{
    sd_tensor y = new_tensor(r, x.nd, x.dim);
    normalise(r, y, x, g, b, groups, eps, silu);
    return y;
}

void sd_group_norm_(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps, bool silu)
{
    normalise(r, x, x, g, b, groups, eps, silu);
}

/* Two doubles for each run and channel, a sum and a sum of squares. */
sd_tensor sd_norm_sums_new(sd_run *r, int64_t pixels, int64_t channels)
{
    enum { FLOATS = sizeof(double) / sizeof(float) };
    return sd_new3(r, (pixels + SD_NORM_RUN - 1) / SD_NORM_RUN, 2, FLOATS * channels);
}

/* What is subtracted from a channel's numbers, what they are multiplied by, and what is added then. */
sd_tensor sd_norm_scale_new(sd_run *r, int64_t channels) { return sd_new2(r, 3, channels); }

void sd_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    if (go(r)) COMPUTE(r, norm_sums, (r, sums, x, pixel), .name = "group_norm, sums", .y = sums, .in = {x});
}

void sd_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b, int groups,
                   double eps, int64_t pixels)
{
    if (!go(r)) return;
    if (sd_numel(g) != last(&scale) || sd_numel(b) != last(&scale) || last(&scale) % groups) {
        shape_error(r, "group_norm", "one gain and bias per channel", g);
        return;
    }
    COMPUTE(r, norm_scale, (r, scale, sums, g, b, groups, eps, pixels), .name = "group_norm, scale", .y = scale,
            .in = {sums}, .weight = g);
}

void sd_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu)
{
    if (!go(r)) return;
    if (!same(&y, &x) || last(&x) != last(&scale)) {
        shape_error(r, "group_norm", "two tensors of one shape", &x);
        return;
    }
    COMPUTE(r, norm_apply, (r, y, x, scale, silu), .name = silu ? "group_norm, silu" : "group_norm", .y = y,
            .in = {x});
}

sd_tensor sd_layer_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    if (!go(r)) return (sd_tensor){0};
    if (sd_numel(g) != last(&x) || sd_numel(b) != last(&x))
        return shape_error(r, "layer_norm", "one gain and bias per column", g);
    sd_tensor y = new_tensor(r, x.nd, x.dim);
    if (!sd_ok(r)) return y;
    COMPUTE(r, layer_norm, (r, as_rows(y), as_rows(x), g, b, eps),
            .name = "layer_norm", .y = y, .in = {x}, .weight = g);
    return y;
}

static void activate(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    static const char *const names[] = {"", "silu", "gelu", "quick_gelu", "relu", "soft_clamp", "to_unit",
                                        "from_unit"};
    if (!go(r)) return;
    COMPUTE(r, act, (r, y, x, act), .name = names[act], .y = y, .in = {x});
}

sd_tensor sd_silu(sd_run *r, sd_tensor x)
{
    sd_tensor y = new_tensor(r, x.nd, x.dim);
    activate(r, y, x, SD_ACT_SILU);
    return y;
}

void sd_act_(sd_run *r, sd_tensor x, sd_act act) { activate(r, x, x, act); }

sd_tensor sd_geglu(sd_run *r, sd_tensor x)
{
    if (!go(r)) return (sd_tensor){0};
    if (x.nd < 1 || last(&x) % 2) return shape_error(r, "geglu", "an even number of columns", &x);
    int64_t dim[4];
    memcpy(dim, x.dim, sizeof dim);
    dim[x.nd - 1] /= 2;
    sd_tensor y = new_tensor(r, x.nd, dim);
    if (!sd_ok(r)) return y;
    COMPUTE(r, geglu, (r, as_rows(y), as_rows(x)), .name = "geglu", .y = y, .in = {x});
    return y;
}

void sd_add_into(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    if (!go(r)) return;
    if (!same(&a, &b) || !same(&y, &a)) {
        shape_error(r, "add", "tensors of one shape", same(&a, &b) ? &y : &b);
        return;
    }
    COMPUTE(r, add, (r, y, a, b), .name = "add", .y = y, .in = {a, b});
}

void sd_add_(sd_run *r, sd_tensor y, sd_tensor x) { sd_add_into(r, y, y, x); }

void sd_add_channels_(sd_run *r, sd_tensor y, sd_tensor bias)
{
    if (!go(r)) return;
    if (bias.nd != 2 || y.nd < 2 || bias.dim[0] != y.dim[0] || bias.dim[1] != last(&y)) {
        shape_error(r, "add_channels", "one number per sample and channel", &bias);
        return;
    }
    COMPUTE(r, add_channels, (r, y, bias), .name = "add_channels", .y = y, .in = {y, bias});
}

sd_tensor sd_concat(sd_run *r, sd_tensor a, sd_tensor b)
{
    if (!go(r)) return (sd_tensor){0};
    if (a.nd < 1 || a.nd != b.nd || memcmp(a.dim, b.dim, (size_t)(a.nd - 1) * sizeof a.dim[0]) != 0)
        return shape_error(r, "concat", "two tensors that differ in channels alone", &b);
    int64_t dim[4];
    memcpy(dim, a.dim, sizeof dim);
    dim[a.nd - 1] += last(&b);
    sd_tensor y = new_tensor(r, a.nd, dim);
    if (!sd_ok(r)) return y;
    COMPUTE(r, concat, (r, as_rows(y), as_rows(a), as_rows(b)), .name = "concat", .y = y, .in = {a, b});
    return y;
}

sd_tensor sd_upsample(sd_run *r, sd_tensor x, int64_t h, int64_t w)
{
    if (!go(r)) return (sd_tensor){0};
    if (x.nd != 4) return shape_error(r, "upsample", "a picture [N,H,W,C]", &x);
    sd_tensor y = sd_new4(r, x.dim[0], h, w, x.dim[3]);
    if (!sd_ok(r)) return y;
    COMPUTE(r, upsample, (r, y, x), .name = "upsample", .y = y, .in = {x});
    return y;
}

sd_tensor sd_sinusoid(sd_run *r, int64_t n, int64_t dim, const float *value, bool flip, double shift)
{
    sd_tensor y = sd_new2(r, n, dim);
    if (sd_ok(r) && r->be->sinusoid) r->be->sinusoid(r, y, value, flip, shift);
    return y;
}

sd_tensor sd_embed(sd_run *r, const int32_t *ids, int64_t n, int64_t t, const sd_tensor *token,
                   const sd_tensor *position)
{
    if (!go(r)) return (sd_tensor){0};
    if (token->nd != 2 || (position && (position->nd != 2 || position->dim[1] != token->dim[1])))
        return shape_error(r, "embed", "tables of one width", position ? position : token);
    if (position && t > position->dim[0]) return shape_error(r, "embed", "a position for every token", position);
    for (int64_t i = 0; i < n * t && ids; i++) {
        if (ids[i] < 0 || ids[i] >= token->dim[0]) {
            sd_fail(r->err, SD_ERR_ARG, "token id %d is outside the vocabulary of %lld", (int)ids[i],
                    (long long)token->dim[0]);
            return (sd_tensor){0};
        }
    }
    sd_tensor y = sd_new3(r, n, t, token->dim[1]);
    if (!sd_ok(r)) return y;
    /* it reads as many numbers of `token` as it writes */
    COMPUTE(r, embed, (r, y, ids, token, position), .name = "embed", .y = y, .in = {y}, .key = token->path);
    return y;
}
