/* ops.c - floor 2: tensors, shape rules and the entry points of the whole-tensor operations; the null backend.
 *
 * Each entry point does the same: stop if an error is set, check shapes, count the work, hand over to the backend, say
 * what was done. */
#include "profile.h"

#include <stdlib.h>
#include <string.h>

const sd_backend sd_backend_null = {.name = "null"};

/* ----------------------------------------------------------------------------------- tensors */

int64_t sd_numel(const sd_tensor *t)
{
    int64_t n = t->nd > 0;
    for (int i = 0; i < t->nd; i++) n *= t->dim[i];
    return n;
}

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
    (void)sd_stopped(r->err);
    return sd_ok(r);
}

sd_tensor sd_new(sd_run *r, int nd, const int64_t *dim)
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
    t.host = sd_arena_alloc(&r->arena, (size_t)n * sizeof(float), &full);
    if (full) {
        sd_fail(r->err, SD_ERR_MEMORY, "%s: working memory of %.1f MB is used up", where(r),
                (double)r->arena.size / 1e6);
        return (sd_tensor){0};
    }
    return t;
}

sd_tensor sd_new2(sd_run *r, int64_t a, int64_t b) { return sd_new(r, 2, (const int64_t[]){a, b}); }
sd_tensor sd_new3(sd_run *r, int64_t a, int64_t b, int64_t c) { return sd_new(r, 3, (const int64_t[]){a, b, c}); }
sd_tensor sd_new4(sd_run *r, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return sd_new(r, 4, (const int64_t[]){a, b, c, d});
}

sd_tensor sd_upload(sd_run *r, int nd, const int64_t *dim, const float *numbers)
{
    sd_tensor t = sd_new(r, nd, dim);
    if (t.host && numbers) memcpy(t.host, numbers, (size_t)sd_numel(&t) * sizeof(float));
    return t;
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

sd_tensor sd_view3(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c)
{
    return view(r, x, 3, (const int64_t[]){a, b, c});
}
sd_tensor sd_view4(sd_run *r, sd_tensor x, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return view(r, x, 4, (const int64_t[]){a, b, c, d});
}

size_t sd_mark(const sd_run *r) { return r->arena.used; }
void sd_reset(sd_run *r, size_t mark) { r->arena.used = mark; }

/* memmove to a lower address, by all threads: what lies below the first byte to be read can be written in any order,
 * again and again. */
static void move_down(const sd_run *r, unsigned char *to, const unsigned char *from, size_t bytes)
{
    enum { PIECE = 1 << 18 };
    size_t gap = (size_t)(from - to);
    (void)r;   /* not so with OpenMP */
    if (gap < 4 * PIECE) memmove(to, from, bytes);
    for (size_t at = 0; at < bytes && gap >= 4 * PIECE; at += gap) {
        size_t n = bytes - at < gap ? bytes - at : gap;
        int pieces = (int)((n + PIECE - 1) / PIECE);
#pragma omp parallel for num_threads(r->threads) if (pieces > 1)
        for (int i = 0; i < pieces; i++) {
            size_t begin = at + (size_t)i * PIECE, left = at + n - begin;
            memcpy(to + begin, from + begin, left < PIECE ? left : PIECE);
        }
    }
}

sd_tensor sd_keep(sd_run *r, size_t mark, sd_tensor y)
{
    sd_reset(r, mark);
    sd_tensor at = sd_new(r, y.nd, y.dim);   /* fits: y lies above the mark */
    if (at.host && at.host != y.host) {
        sd_profile_begin(r);
        move_down(r, at.host, y.host, (size_t)sd_numel(&y) * sizeof(float));
        sd_profile_end(r, &(sd_operation){"move", at, {y}, NULL, NULL, 0});
    }
    return at;
}

/* ------------------------------------------------------------------------------ working memory */

void *sd_scratch(sd_run *r, size_t bytes)
{
    if (bytes > r->scratch_size || !r->scratch) {
        sd_block_free(r->scratch);
        r->scratch = sd_block_alloc(bytes);
        r->scratch_size = r->scratch ? bytes : 0;
        if (!r->scratch)
            sd_fail(r->err, SD_ERR_MEMORY, "%s: no memory for %.1f MB of scratch", where(r), (double)bytes / 1e6);
    }
    return r->scratch;
}

void sd_scratch_free(sd_run *r)
{
    sd_block_free(r->scratch);
    r->scratch = NULL;
    r->scratch_size = 0;
}

void sd_run_free(sd_run *r)
{
    sd_arena_free(&r->arena);
    sd_scratch_free(r);
}

void sd_widen(float *y, const void *x, sd_dtype dt, size_t n, const sd_kern *k)
{
    const unsigned char *src = x;
    switch (dt) {
    case SD_F32: memcpy(y, x, n * sizeof(float)); break;
    case SD_F16:
    case SD_BF16:
        if ((uintptr_t)x % sizeof(uint16_t) == 0) {
            (dt == SD_F16 ? k->widen_f16 : k->widen_bf16)(y, x, n);
            break;
        }
        for (size_t i = 0; i < n; i++) {   /* a file may put a tensor at an odd byte */
            uint16_t h;
            memcpy(&h, src + 2 * i, sizeof h);
            (dt == SD_F16 ? k->widen_f16 : k->widen_bf16)(y + i, &h, 1);
        }
        break;
    case SD_F64:
        for (size_t i = 0; i < n; i++) {
            double d;
            memcpy(&d, src + 8 * i, sizeof d);
            y[i] = (float)d;
        }
        break;
    default: memset(y, 0, n * sizeof(float)); break;   /* binding refuses integer weights */
    }
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
    return (sd_tensor){.nd = 2, .dim = {rows(&t), last(&t)}, .dt = t.dt, .host = t.host, .name = t.name};
}
/* An optional bias of n numbers. */
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
    sd_tensor y = sd_new(r, x.nd, dim);
    if (!sd_ok(r)) return y;
    double flops = 2.0 * (double)rows(&x) * (double)w->dim[0] * (double)w->dim[1];
    r->flops += flops;
    sd_profile_begin(r);
    if (r->be->linear) r->be->linear(r, as_rows(y), as_rows(x), w, b && b->nd ? b : NULL);
    sd_profile_end(r, &(sd_operation){"linear", y, {x}, w, NULL, flops});
    if (r->used) r->used(r->used_user, w);
    return y;
}

sd_tensor sd_linear_once(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    sd_kept *k = r->kept;
    for (int i = 0; k && i < k->n; i++)
        if (k->item[i].w == w) return k->item[i].y;
    sd_tensor y = sd_linear(r, x, w, b);
    if (!k || !y.host) return y;
    size_t bytes = (size_t)sd_numel(&y) * sizeof(float);
    void *more = realloc(k->item, (size_t)(k->n + 1) * sizeof *k->item), *copy = malloc(bytes);
    if (more) k->item = more;
    if (more && copy) {
        k->item[k->n].w = w;
        k->item[k->n].y = y;
        k->item[k->n++].y.host = memcpy(copy, y.host, bytes);
    } else {
        free(copy);   /* without memory for it, it is computed again */
    }
    return y;
}

void sd_kept_free(sd_kept *k)
{
    for (int i = 0; i < k->n; i++) free(k->item[i].y.host);
    free(k->item);
    *k = (sd_kept){0};
}

/* Output size of one axis: floor((n + pads - k) / stride) + 1. */
static bool conv_shape(sd_run *r, const sd_tensor *x, const sd_tensor *w, const sd_tensor *b, sd_conv c, int64_t dim[4])
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
    int64_t zoom = c.enlarge ? 2 : 1;
    int64_t h = zoom * x->dim[1] + c.pad_top + c.pad_bottom - w->dim[2],
        v = zoom * x->dim[2] + c.pad_left + c.pad_right - w->dim[3];
    if (h < 0 || v < 0) {
        shape_error(r, "conv2d", "a picture at least as large as the kernel", x);
        return false;
    }
    dim[0] = x->dim[0];
    dim[1] = h / c.stride + 1;
    dim[2] = v / c.stride + 1;
    dim[3] = w->dim[0];
    return true;
}

sd_tensor sd_conv2d(sd_run *r, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    int64_t dim[4];
    if (!go(r) || !conv_shape(r, &x, w, b, c, dim)) return (sd_tensor){0};
    sd_tensor y = sd_new(r, 4, dim);
    if (!sd_ok(r)) return y;
    double flops = 2.0 * (double)sd_numel(&y) * (double)(w->dim[1] * w->dim[2] * w->dim[3]);
    r->flops += flops;
    sd_profile_begin(r);
    if (r->be->conv2d) r->be->conv2d(r, y, x, w, b && b->nd ? b : NULL, c);
    sd_profile_end(r, &(sd_operation){"conv2d", y, {x}, w, NULL, flops});
    if (r->used) r->used(r->used_user, w);
    return y;
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
    sd_profile_begin(r);
    if (r->be->attention) r->be->attention(r, y, q, k, v, heads, causal);
    sd_profile_end(r, &(sd_operation){"attention", y, {q, k, v}, NULL, NULL, flops});
    return y;
}

sd_tensor sd_group_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups, double eps,
                        bool silu)
{
    if (!go(r)) return (sd_tensor){0};
    if (x.nd < 3 || groups < 1 || last(&x) % groups)
        return shape_error(r, "group_norm", "channels divisible by the number of groups", &x);
    if (sd_numel(g) != last(&x) || sd_numel(b) != last(&x))
        return shape_error(r, "group_norm", "one gain and bias per channel", g);
    sd_tensor y = sd_new(r, x.nd, x.dim);
    if (!sd_ok(r)) return y;
    sd_profile_begin(r);
    if (r->be->group_norm) r->be->group_norm(r, y, x, g, b, groups, eps, silu);
    sd_profile_end(r, &(sd_operation){silu ? "group_norm, silu" : "group_norm", y, {x}, g, NULL, 0});
    return y;
}

sd_tensor sd_layer_norm(sd_run *r, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    if (!go(r)) return (sd_tensor){0};
    if (sd_numel(g) != last(&x) || sd_numel(b) != last(&x))
        return shape_error(r, "layer_norm", "one gain and bias per column", g);
    sd_tensor y = sd_new(r, x.nd, x.dim);
    if (!sd_ok(r)) return y;
    sd_profile_begin(r);
    if (r->be->layer_norm) r->be->layer_norm(r, as_rows(y), as_rows(x), g, b, eps);
    sd_profile_end(r, &(sd_operation){"layer_norm", y, {x}, g, NULL, 0});
    return y;
}

static void activate(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    static const char *const names[] = {"", "silu", "gelu", "quick_gelu"};
    if (!go(r)) return;
    sd_profile_begin(r);
    if (r->be->act) r->be->act(r, y, x, act);
    sd_profile_end(r, &(sd_operation){names[act], y, {x}, NULL, NULL, 0});
}

sd_tensor sd_silu(sd_run *r, sd_tensor x)
{
    sd_tensor y = sd_new(r, x.nd, x.dim);
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
    sd_tensor y = sd_new(r, x.nd, dim);
    if (!sd_ok(r)) return y;
    sd_profile_begin(r);
    if (r->be->geglu) r->be->geglu(r, as_rows(y), as_rows(x));
    sd_profile_end(r, &(sd_operation){"geglu", y, {x}, NULL, NULL, 0});
    return y;
}

void sd_add_(sd_run *r, sd_tensor y, sd_tensor x)
{
    if (!go(r)) return;
    if (!same(&y, &x)) {
        shape_error(r, "add", "two tensors of one shape", &x);
        return;
    }
    sd_profile_begin(r);
    if (r->be->add) r->be->add(r, y, x);
    sd_profile_end(r, &(sd_operation){"add", y, {y, x}, NULL, NULL, 0});
}

void sd_add_channels_(sd_run *r, sd_tensor y, sd_tensor bias)
{
    if (!go(r)) return;
    if (bias.nd != 2 || y.nd < 2 || bias.dim[0] != y.dim[0] || bias.dim[1] != last(&y)) {
        shape_error(r, "add_channels", "one number per sample and channel", &bias);
        return;
    }
    sd_profile_begin(r);
    if (r->be->add_channels) r->be->add_channels(r, y, bias);
    sd_profile_end(r, &(sd_operation){"add_channels", y, {y, bias}, NULL, NULL, 0});
}

sd_tensor sd_concat(sd_run *r, sd_tensor a, sd_tensor b)
{
    if (!go(r)) return (sd_tensor){0};
    if (a.nd < 1 || a.nd != b.nd || memcmp(a.dim, b.dim, (size_t)(a.nd - 1) * sizeof a.dim[0]) != 0)
        return shape_error(r, "concat", "two tensors that differ in channels alone", &b);
    int64_t dim[4];
    memcpy(dim, a.dim, sizeof dim);
    dim[a.nd - 1] += last(&b);
    sd_tensor y = sd_new(r, a.nd, dim);
    if (!sd_ok(r)) return y;
    sd_profile_begin(r);
    if (r->be->concat) r->be->concat(r, as_rows(y), as_rows(a), as_rows(b));
    sd_profile_end(r, &(sd_operation){"concat", y, {a, b}, NULL, NULL, 0});
    return y;
}

sd_tensor sd_upsample(sd_run *r, sd_tensor x, int64_t h, int64_t w)
{
    if (!go(r)) return (sd_tensor){0};
    if (x.nd != 4) return shape_error(r, "upsample", "a picture [N,H,W,C]", &x);
    sd_tensor y = sd_new4(r, x.dim[0], h, w, x.dim[3]);
    if (!sd_ok(r)) return y;
    sd_profile_begin(r);
    if (r->be->upsample) r->be->upsample(r, y, x);
    sd_profile_end(r, &(sd_operation){"upsample", y, {x}, NULL, NULL, 0});
    return y;
}

sd_tensor sd_embed(sd_run *r, const int32_t *ids, int64_t n, int64_t t, const sd_tensor *token,
                   const sd_tensor *position)
{
    if (!go(r)) return (sd_tensor){0};
    if (token->nd != 2 || position->nd != 2 || position->dim[1] != token->dim[1])
        return shape_error(r, "embed", "tables of one width", position);
    if (t > position->dim[0]) return shape_error(r, "embed", "a position for every token", position);
    for (int64_t i = 0; i < n * t; i++) {
        if (ids[i] < 0 || ids[i] >= token->dim[0]) {
            sd_fail(r->err, SD_ERR_ARG, "token id %d is outside the vocabulary of %lld", (int)ids[i],
                    (long long)token->dim[0]);
            return (sd_tensor){0};
        }
    }
    sd_tensor y = sd_new3(r, n, t, token->dim[1]);
    if (!sd_ok(r)) return y;
    sd_profile_begin(r);
    if (r->be->embed) r->be->embed(r, y, ids, token, position);
    /* it reads as many rows as it writes */
    sd_profile_end(r, &(sd_operation){"embed", y, {y}, NULL, token->path, 0});
    return y;
}
