/* ops_wrong.c - floor 2: the backend of ops_wrong.h: the CPU's operations, each with what the mistake in force alters.
 *
 * It is written to be read beside the right operations of ops_cpu*.c and kernels.c, and is as fast as it need be. */
#include "ops_wrong.h"
#include "kernels_spec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static sd_wrong *wrong_of(const sd_run *r) { return r->device; }

/* The mistake of this kind that is to be made in this operation; NULL: none. */
static const sd_wrong_op *made(const sd_run *r, sd_wrong_kind kind)
{
    const sd_wrong *w = wrong_of(r);
    for (int i = 0; i < SD_MOST_WRONG; i++)
        if (w->here[i] && w->op[i].kind == kind) return &w->op[i];
    return NULL;
}

/* Is it made anywhere in this run? */
static bool in_this_run(const sd_run *r, sd_wrong_kind kind)
{
    const sd_wrong *w = wrong_of(r);
    for (int i = 0; i < SD_MOST_WRONG; i++)
        if (w->op[i].kind == kind) return true;
    return false;
}

static bool skipped(sd_run *r, sd_tensor y)
{
    if (wrong_of(r)->skip) memset(y.data, 0, (size_t)sd_numel(&y) * sizeof(float));
    return wrong_of(r)->skip;
}

static size_t count(const sd_tensor *t) { return (size_t)sd_numel(t); }

static float *room(sd_run *r, size_t n)
{
    float *x = malloc((n + 1) * sizeof *x);
    if (!x) sd_fail(r->err, SD_ERR_MEMORY, "no memory to make a mistake");
    return x;
}

/* A copy of x in memory of its own; NULL: there is none. */
static float *copy_of(sd_run *r, sd_tensor x)
{
    float *own = room(r, count(&x));
    if (own) memcpy(own, x.data, count(&x) * sizeof *own);
    return own;
}

/* The same into *kept, which is as large as was ever needed. */
static void keep(sd_run *r, float **kept, size_t *had, sd_tensor x)
{
    size_t n = count(&x);
    if (n > *had) {
        free(*kept);
        *kept = room(r, n);
        *had = *kept ? n : 0;
    }
    if (*kept) memcpy(*kept, x.data, n * sizeof **kept);
}

void sd_wrong_free(sd_wrong *w)
{
    free(w->normed);
    free(w->raw);
    free(w->ends);
    free(w->ids);
    w->normed = w->raw = NULL;
    w->ends = w->ids = NULL;
    w->normed_room = w->raw_numbers = w->n_ids = 0;
}

/* ------------------------------------------------------------------------------------------- norms */

/* What is unusual about a norm. */
typedef struct unusual { double eps; bool outside, unbiased, plain; } unusual;

static bool is_unusual(const sd_run *r, double eps, unusual *u)
{
    const sd_wrong_op *other = made(r, SD_WRONG_EPS);
    *u = (unusual){other ? other->value : eps, made(r, SD_WRONG_EPS_OUTSIDE) != NULL,
                   made(r, SD_WRONG_UNBIASED) != NULL, made(r, SD_WRONG_NO_GAIN) != NULL};
    return u->outside || u->unbiased || u->plain;
}

/* One over the deviation of n numbers, and their mean: number i is x[(i / wide) stride + i % wide]. */
static double normal(const float *x, size_t n, size_t wide, size_t stride, const unusual *u, double *mean)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += x[i / wide * stride + i % wide];
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) {
        double d = x[i / wide * stride + i % wide] - *mean;
        squares += d * d;
    }
    double variance = squares / (double)(u->unbiased && n > 1 ? n - 1 : n);
    return u->outside ? 1 / (sqrt(variance) + u->eps) : 1 / sqrt(variance + u->eps);
}

/* Norm over groups of channels; a layer norm is that of one group in "pictures" of one pixel. [n,pixels,C] */
static void plain_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, size_t n,
                       size_t groups, const unusual *u)
{
    size_t c = (size_t)cols(x), pixels = count(&x) / c / n, wide = c / groups;
    float *gain = room(r, c), *bias = room(r, c);
    if (!gain || !bias) n = 0;
    if (n) sd_widen_weight(gain, g, 0, c, wrong_of(r)->cpu.kern);
    if (n) sd_widen_weight(bias, b, 0, c, wrong_of(r)->cpu.kern);
    for (size_t k = 0; k < n * groups; k++) {
        size_t first = k % groups * wide;
        const float *from = sd_f32(x) + k / groups * pixels * c + first;
        float *to = sd_f32(y) + k / groups * pixels * c + first;
        double mean, scale = normal(from, pixels * wide, wide, c, u, &mean);
        for (size_t i = 0; i < pixels * wide; i++) {
            size_t at = i / wide * c + i % wide, channel = first + i % wide;
            double normed = (from[at] - mean) * scale;
            to[at] = (float)(u->plain ? normed : normed * gain[channel] + bias[channel]);
        }
    }
    free(gain);
    free(bias);
}

static void wrong_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                             double eps, bool silu)
{
    const sd_wrong_op *other = made(r, SD_WRONG_GROUPS);
    sd_wrong *w = wrong_of(r);
    bool kept = in_this_run(r, SD_WRONG_NORM_ADDED);
    unusual u;
    if (!kept && skipped(r, y)) return;
    if (other && (int64_t)other->value <= cols(x) && cols(x) % (int64_t)other->value == 0) groups = (int)other->value;
    if (is_unusual(r, eps, &u)) plain_norm(r, y, x, g, b, (size_t)x.dim[0], (size_t)groups, &u);
    else sd_backend_cpu.group_norm(r, y, x, g, b, groups, u.eps, silu);
    if (made(r, SD_WRONG_HALF)) sd_wrong_half(sd_f32(y), count(&y));
    if (kept) keep(r, &w->normed, &w->normed_room, y);
}

static void wrong_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    unusual u;
    if (!in_this_run(r, SD_WRONG_POOLED) && skipped(r, y)) return;
    if (is_unusual(r, eps, &u)) plain_norm(r, y, x, g, b, (size_t)rows(x), 1, &u);
    else sd_backend_cpu.layer_norm(r, y, x, g, b, u.eps);
    if (y.nd == 3) {
        wrong_of(r)->rows = sd_f32(y);
        for (int i = 0; i < 3; i++) wrong_of(r)->rows_dim[i] = (size_t)y.dim[i];
    }
}

/* ---------------------------------------------------------------------------------------- products */

/* The weight as floats, altered; data NULL: it stays as it is. */
static sd_tensor altered_weight(sd_run *r, const sd_tensor *w)
{
    const sd_wrong_op *round = made(r, SD_WRONG_ROUNDED);
    bool turn = made(r, SD_WRONG_TRANSPOSED), flip = made(r, SD_WRONG_FLIPPED), flush = made(r, SD_WRONG_FLUSHED),
         half = made(r, SD_WRONG_CONV_HALF) && w->nd == 4, plain = made(r, SD_WRONG_NO_SCALE) && w->scale > 0;
    sd_tensor own = *w;
    own.data = NULL;
    own.scale = 0;
    if (!round && !turn && !flip && !flush && !half && !plain) return own;
    float *x = own.data = room(r, count(w));
    own.dt = SD_F32;
    own.id = 0;
    if (!x) return own;
    sd_widen_weight(x, w, 0, count(w), wrong_of(r)->cpu.kern);
    bool kernels = w->nd == 4 && w->dim[2] == w->dim[3] && w->dim[2] > 1;
    if ((turn || flip) && kernels) sd_wrong_turn_kernels(x, (size_t)(w->dim[0] * w->dim[1]), (size_t)w->dim[2], flip);
    if (turn && !kernels && w->dim[0] == w->dim[1]) sd_wrong_turn_matrix(x, (size_t)w->dim[0]);
    if (round) sd_wrong_round(x, count(w), (int)round->value);
    if (flush) sd_wrong_flush(x, count(w));
    if (half) sd_wrong_half(x, count(w));
    for (size_t i = 0; i < count(w) && plain; i++) x[i] = (float)(x[i] / w->scale);
    return own;
}

/* The input, altered; data NULL: it stays as it is. */
static sd_tensor altered_input(sd_run *r, sd_tensor x)
{
    const sd_wrong *w = wrong_of(r);
    const sd_wrong_op *round = made(r, SD_WRONG_ROUNDED), *times = made(r, SD_WRONG_INPUT_TIMES);
    bool raw = made(r, SD_WRONG_NO_SILU) && w->raw && w->raw_numbers == count(&x);
    bool half = made(r, SD_WRONG_CONV_HALF) && x.nd == 4;
    sd_tensor own = x;
    own.data = NULL;
    if (!round && !times && !raw && !half) return own;
    float *numbers = own.data = copy_of(r, x);
    if (raw && numbers) memcpy(numbers, w->raw, count(&x) * sizeof *numbers);
    for (size_t i = 0; i < count(&x) && times && numbers; i++) numbers[i] = (float)(numbers[i] * times->value);
    if (round && numbers) sd_wrong_round(numbers, count(&x), (int)round->value);
    if (half && numbers) sd_wrong_half(numbers, count(&x));
    return own;
}

/* Which of an attention's three projections has this weight; -1: none. */
static int role_of(const sd_tensor *w)
{
    static const char *const roles[3] = {"*to_q.weight,*q_proj.weight", "*to_k.weight,*k_proj.weight",
                                         "*to_v.weight,*v_proj.weight"};
    for (int i = 0; i < 3 && w->path; i++)
        if (sd_glob_list(roles[i], w->path)) return i;
    return -1;
}

static void exchange(sd_wrong *w, int a, int b)
{
    if (!w->projected[a] || !w->projected[b] || w->projected_numbers[a] != w->projected_numbers[b]) return;
    for (size_t i = 0; i < w->projected_numbers[a]; i++) {
        float swap = w->projected[a][i];
        w->projected[a][i] = w->projected[b][i];
        w->projected[b][i] = swap;
    }
}

/* Queries, keys and values are computed in this order; when all three are there they change places. */
static void change_order(sd_run *r, sd_tensor y, const sd_tensor *weight)
{
    const sd_wrong_op *order = made(r, SD_WRONG_ORDER);
    sd_wrong *w = wrong_of(r);
    int role = role_of(weight);
    if (!order || role < 0) return;
    w->projected[role] = sd_f32(y);
    w->projected_numbers[role] = count(&y);
    if (role != 2) return;
    int how = (int)order->value;
    if (how == 0) exchange(w, 1, 2);
    if (how == 1 || how == 2) exchange(w, 0, 1);    /* k,q,v */
    if (how == 2) exchange(w, 1, 2);                /* k,v,q */
    if (how == 3) exchange(w, 0, 2);                /* v,k,q */
    if (how == 3) exchange(w, 1, 2);                /* v,q,k */
}

/* The pooled vector's row of each text is another one. x [n,c], which is copied to *own. */
static void take_row(sd_run *r, sd_tensor x, const sd_tensor *weight, sd_tensor *own)
{
    const sd_wrong_op *row = made(r, SD_WRONG_POOLED);
    const sd_wrong *w = wrong_of(r);
    if (!row || !w->rows || !weight->path || !sd_ends_with(weight->path, "text_projection.weight")) return;
    size_t n = w->rows_dim[0], t = w->rows_dim[1], c = w->rows_dim[2];
    if (count(&x) != n * c) return;
    free(own->data);
    *own = x;
    float *to = own->data = room(r, n * c);
    for (size_t i = 0; i < n && to; i++)
        memcpy(to + i * c, w->rows + (i * t + (row->value > 0 ? t - 1 : 0)) * c, c * sizeof *to);
}

static void wrong_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    if (skipped(r, y)) return;
    sd_tensor weight = altered_weight(r, w), input = altered_input(r, x);
    take_row(r, x, w, &input);
    if (sd_ok(r))
        sd_backend_cpu.linear(r, y, input.data ? input : x, weight.data ? &weight : w,
                              made(r, SD_WRONG_NO_BIAS) ? NULL : b);
    if (made(r, SD_WRONG_HALF)) sd_wrong_half(sd_f32(y), count(&y));
    change_order(r, y, w);
    free(weight.data);
    free(input.data);
}

/* ------------------------------------------------------------------------------------ convolutions */

/* The place that stands for place i of a line of n, if i is outside of it. */
static int64_t outside(int64_t i, int64_t n, sd_wrong_pads how)
{
    if (i >= 0 && i < n) return i;
    if (how == SD_PADS_WRAP) return (i + n) % n;
    if (how == SD_PADS_MIRROR && n > 1) return i < 0 ? -i : 2 * (n - 1) - i;
    return i < 0 ? 0 : n - 1;
}

/* A picture with a border of one pixel; its data is to be freed. */
static sd_tensor with_border(sd_run *r, sd_tensor x, sd_wrong_pads how)
{
    sd_tensor y = x;
    y.dim[1] += 2;
    y.dim[2] += 2;
    float *to = y.data = room(r, count(&y));
    size_t c = (size_t)x.dim[3];
    for (int64_t n = 0; n < x.dim[0] && to; n++)
        for (int64_t i = -1; i <= x.dim[1]; i++)
            for (int64_t k = -1; k <= x.dim[2]; k++, to += c) {
                int64_t row = outside(i, x.dim[1], how), column = outside(k, x.dim[2], how);
                memcpy(to, sd_f32(x) + ((n * x.dim[1] + row) * x.dim[2] + column) * x.dim[3], c * sizeof *to);
            }
    return y;
}

/* Place of pixel i of h in a line of n pixels, with halves of pixels as the origin: align_corners=False in torch. */
static void between(int64_t i, int64_t h, int64_t n, int64_t *at, double *part)
{
    double place = ((double)i + 0.5) * (double)n / (double)h - 0.5;
    if (place < 0) place = 0;
    *at = (int64_t)place;
    *part = *at + 1 < n ? place - (double)*at : 0;
    if (*at > n - 1) *at = n - 1;
}

/* y [N,h,w,C] from x [N,H,W,C] by bilinear interpolation. */
static void interpolate(sd_tensor y, sd_tensor x)
{
    size_t c = (size_t)x.dim[3], row = (size_t)x.dim[2] * c;
    float *to = sd_f32(y);
    for (int64_t n = 0; n < y.dim[0]; n++)
        for (int64_t i = 0; i < y.dim[1]; i++)
            for (int64_t k = 0; k < y.dim[2]; k++, to += c) {
                int64_t top, left;
                double down, right;
                between(i, y.dim[1], x.dim[1], &top, &down);
                between(k, y.dim[2], x.dim[2], &left, &right);
                const float *a = sd_f32(x) + (size_t)(n * x.dim[1] + top) * row + (size_t)left * c;
                size_t below = down > 0 ? row : 0, beside = right > 0 ? c : 0;
                for (size_t j = 0; j < c; j++)
                    to[j] = (float)((1 - down) * ((1 - right) * a[j] + right * a[beside + j])
                                    + down * ((1 - right) * a[below + j] + right * a[below + beside + j]));
            }
}

static sd_tensor enlarged(sd_run *r, sd_tensor x)
{
    sd_tensor y = x;
    y.dim[1] *= 2;
    y.dim[2] *= 2;
    y.data = room(r, count(&y));
    if (y.data) interpolate(y, x);
    return y;
}

/* Other pads for stride 2, whose result has the same size. */
static void move_pads(sd_conv *c, int64_t h, int64_t w, sd_wrong_pads how)
{
    c->pad_top = c->pad_left = how != SD_PADS_AFTER;
    c->pad_bottom = how != SD_PADS_BEFORE || h % 2;
    c->pad_right = how != SD_PADS_BEFORE || w % 2;
}

static void wrong_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    const sd_wrong_op *pads = made(r, SD_WRONG_PADDING), *shown = made(r, SD_WRONG_SHOWN);
    if (skipped(r, y)) return;
    sd_tensor weight = altered_weight(r, w), input = altered_input(r, x), other = {0};
    if (shown && !input.data) {
        input = x;
        input.data = room(r, count(&x));
        if (input.data)
            sd_wrong_shown(sd_f32(input), sd_f32(x), (size_t)rows(x), (size_t)cols(x), (sd_wrong_order)shown->value);
    }
    if (input.data) x = input;
    if (c.enlarge && made(r, SD_WRONG_BILINEAR)) {
        x = other = enlarged(r, x);
        c.enlarge = false;
    }
    sd_wrong_pads how = pads ? (sd_wrong_pads)pads->value : SD_PADS_AROUND;
    if (pads && c.stride == 2 && how < SD_PADS_EDGE) move_pads(&c, x.dim[1], x.dim[2], how);
    if (pads && c.stride == 1 && how >= SD_PADS_EDGE && w->dim[2] == 3 && !c.enlarge && !other.data) {
        x = other = with_border(r, x, how);
        c = (sd_conv){.stride = 1};
    }
    if (sd_ok(r))
        sd_backend_cpu.conv2d(r, y, x, weight.data ? &weight : w, made(r, SD_WRONG_NO_BIAS) ? NULL : b, c);
    if (made(r, SD_WRONG_HALF)) sd_wrong_half(sd_f32(y), count(&y));
    free(weight.data);
    free(input.data);
    free(other.data);
}

static void wrong_upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    if (made(r, SD_WRONG_BILINEAR)) interpolate(y, x);
    else sd_backend_cpu.upsample(r, y, x);
}

/* --------------------------------------------------------------------------------------- attention */

/* Columns [heads, d] of each row become [d, heads], or back. */
static sd_tensor heads_exchanged(sd_run *r, sd_tensor x, size_t heads, bool back)
{
    sd_tensor y = x;
    size_t c = (size_t)cols(x), d = c / heads;
    float *to = y.data = room(r, count(&x));
    for (size_t row = 0; row < (size_t)rows(x) && to; row++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < d; i++) {
                size_t heads_first = row * c + h * d + i, heads_last = row * c + i * heads + h;
                to[back ? heads_last : heads_first] = sd_f32(x)[back ? heads_first : heads_last];
            }
    return y;
}

/* softmax over the first `seen` keys. One query row of one head: q [d], k and v [seen] rows of `stride` numbers. */
static void attend_row(float *y, const float *q, const float *k, const float *v, size_t d, size_t stride, size_t seen,
                       double *weight)
{
    double most = -HUGE_VAL, sum = 0;
    for (size_t s = 0; s < seen; s++) {
        weight[s] = 0;
        for (size_t i = 0; i < d; i++) weight[s] += (double)q[i] * k[s * stride + i];
        weight[s] /= sqrt((double)d);
        if (weight[s] > most) most = weight[s];
    }
    for (size_t s = 0; s < seen; s++) sum += weight[s] = exp(weight[s] - most);
    for (size_t i = 0; i < d; i++) {
        double x = 0;
        for (size_t s = 0; s < seen; s++) x += weight[s] * v[s * stride + i];
        y[i] = (float)(x / sum);
    }
}

/* Attention in which a text's padding is not seen. */
static void attend_masked(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    const sd_wrong *w = wrong_of(r);
    size_t c = (size_t)q.dim[2], d = c / (size_t)heads, T = (size_t)q.dim[1], S = (size_t)k.dim[1];
    double *weight = malloc((S + 1) * sizeof *weight);
    if (!weight) sd_fail(r->err, SD_ERR_MEMORY, "no memory to make a mistake");
    for (size_t row = 0; row < (size_t)q.dim[0] * T && weight; row++) {
        size_t n = row / T, t = row % T, seen = causal ? t + 1 : S;
        if (w->ends && (int64_t)n < w->texts && seen > (size_t)w->ends[n] + 1) seen = (size_t)w->ends[n] + 1;
        for (size_t h = 0; h < (size_t)heads; h++)
            attend_row(sd_f32(y) + row * c + h * d, sd_f32(q) + row * c + h * d, sd_f32(k) + n * S * c + h * d,
                       sd_f32(v) + n * S * c + h * d, d, c, seen, weight);
    }
    free(weight);
}

static void attend_heads_last(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    sd_tensor a = heads_exchanged(r, q, (size_t)heads, false), b = heads_exchanged(r, k, (size_t)heads, false),
              c = heads_exchanged(r, v, (size_t)heads, false);
    if (sd_ok(r)) sd_backend_cpu.attention(r, y, a, b, c, heads, causal);
    sd_tensor back = sd_ok(r) ? heads_exchanged(r, y, (size_t)heads, true) : (sd_tensor){0};
    if (back.data) memcpy(y.data, back.data, count(&y) * sizeof(float));
    free(a.data);
    free(b.data);
    free(c.data);
    free(back.data);
}

static void wrong_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    const sd_wrong_op *other = made(r, SD_WRONG_HEADS), *scale = made(r, SD_WRONG_SCALE),
                      *mask = made(r, SD_WRONG_CAUSAL);
    int64_t c = q.dim[2];
    if (skipped(r, y)) return;
    double times = !scale ? 1 : scale->value > 0 ? scale->value : scale->value < 0 ? sqrt((double)(c / heads))
        : 1 / sqrt((double)heads);
    if (other && other->value >= 1 && c % (int64_t)other->value == 0) heads = (int)other->value;
    else if (other && other->value < 0 && c % (int64_t)-other->value == 0) heads = (int)(c / (int64_t)-other->value);
    else if (other && other->value == 0) heads = (int)(c / heads);
    if (mask && q.dim[1] == k.dim[1]) causal = mask->value > 0;
    float *scaled = times == 1 ? NULL : copy_of(r, q);
    for (size_t i = 0; i < count(&q) && scaled; i++) scaled[i] = (float)(scaled[i] * times);
    if (scaled) q.data = scaled;
    if (made(r, SD_WRONG_MASK)) attend_masked(r, y, q, k, v, heads, causal);
    else if (made(r, SD_WRONG_HEADS_LAST)) attend_heads_last(r, y, q, k, v, heads, causal);
    else sd_backend_cpu.attention(r, y, q, k, v, heads, causal);
    free(scaled);
}

/* ------------------------------------------------------------------------------------- activations */

/* gelu(x) ~ x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 [Hendrycks & Gimpel 2016] */
static double gelu_tanh(double x)
{
    static const double root = 0.79788456080286535588;
    return x * (1 + tanh(root * (x + 0.044715 * x * x * x))) / 2;
}

static void wrong_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    const sd_wrong_op *other = made(r, SD_WRONG_ACT);
    sd_wrong *w = wrong_of(r);
    if (act == SD_ACT_SILU && x.nd == 2 && in_this_run(r, SD_WRONG_NO_SILU)) {
        keep(r, &w->raw, &w->raw_numbers, x);
        w->raw_numbers = count(&x);
    }
    if (made(r, SD_WRONG_TANH) && (act == SD_ACT_GELU || act == SD_ACT_QUICK_GELU)) {
        for (size_t i = 0; i < count(&x); i++) sd_f32(y)[i] = (float)gelu_tanh(sd_f32(x)[i]);
        return;
    }
    if (other) act = (sd_act)other->value;
    if (act == SD_ACT_NONE) memmove(y.data, x.data, count(&x) * sizeof(float));
    else sd_backend_cpu.act(r, y, x, act);
}

static void wrong_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    bool swap = made(r, SD_WRONG_GATE_FIRST);
    double (*f)(double) = made(r, SD_WRONG_TANH) ? gelu_tanh : made(r, SD_WRONG_GEGLU_QUICK) ? sdk_quick_gelu1
        : made(r, SD_WRONG_GEGLU_SILU) ? sdk_silu1 : swap ? sdk_gelu1 : NULL;
    size_t c = (size_t)cols(y);
    if (!f) {
        sd_backend_cpu.geglu(r, y, x);
        return;
    }
    for (size_t row = 0; row < (size_t)rows(y); row++) {
        const float *half[2] = {sd_f32(x) + 2 * row * c, sd_f32(x) + (2 * row + 1) * c};
        for (size_t i = 0; i < c; i++) sd_f32(y)[row * c + i] = (float)(half[swap][i] * f(half[!swap][i]));
    }
}

/* ---------------------------------------------------------------------------------- sums and joins */

static void wrong_add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    const sd_wrong *w = wrong_of(r);
    const sd_wrong_op *alone = made(r, SD_WRONG_NOT_ADDED);
    if (alone) memmove(y.data, alone->value > 0 ? b.data : a.data, count(&y) * sizeof(float));
    if (alone) return;
    if (made(r, SD_WRONG_NORM_ADDED) && w->normed && w->normed_room >= count(&y)) a.data = w->normed;
    sd_backend_cpu.add(r, y, a, b);
}

static void wrong_add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    if (!made(r, SD_WRONG_NOT_ADDED)) sd_backend_cpu.add_channels(r, y, bias);
}

static void wrong_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    if (made(r, SD_WRONG_JOIN)) sd_backend_cpu.concat(r, y, b, a);
    else sd_backend_cpu.concat(r, y, a, b);
}

/* -------------------------------------------------------------------------------------- embeddings */

static void wrong_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    const sd_wrong_op *plus = made(r, SD_WRONG_TIME_PLUS), *times = made(r, SD_WRONG_TIME_TIMES),
                      *other = made(r, SD_WRONG_FREQUENCIES);
    size_t n = (size_t)y.dim[0];
    float *own = room(r, n);
    for (size_t i = 0; i < n && own; i++)
        own[i] = (float)((value[i] + (plus ? plus->value : 0)) * (times ? times->value : 1));
    if (own)
        sd_backend_cpu.sinusoid(r, y, own, made(r, SD_WRONG_SIN_FIRST) ? !flip : flip, other ? other->value : shift);
    free(own);
}

/* The end token has the largest id; the first one counts. */
static void note_ends(sd_run *r, const int32_t *ids, int64_t n, int64_t t)
{
    sd_wrong *w = wrong_of(r);
    free(w->ends);
    w->texts = n;
    w->ends = calloc((size_t)n, sizeof *w->ends);
    for (int64_t i = 0; i < n && w->ends; i++)
        for (int64_t k = 1; k < t; k++)
            if (ids[i * t + k] > ids[i * t + w->ends[i]]) w->ends[i] = (int32_t)k;
}

/* Theirs, if they are as many and all in the vocabulary. */
static const int32_t *ids_to_embed(const sd_wrong *w, const int32_t *ids, sd_tensor y, const sd_tensor *token)
{
    size_t n = y.nd == 3 ? (size_t)(y.dim[0] * y.dim[1]) : 0, i = 0;
    if (!n || n != w->n_ids) return ids;
    while (i < n && w->ids[i] >= 0 && w->ids[i] < token->dim[0]) i++;
    return i == n ? w->ids : ids;
}

static void wrong_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    const sd_wrong_op *plus = made(r, SD_WRONG_POSITION_PLUS);
    sd_tensor moved = {0};
    ids = ids_to_embed(wrong_of(r), ids, y, token);
    if (in_this_run(r, SD_WRONG_MASK) && y.nd == 3) note_ends(r, ids, y.dim[0], y.dim[1]);
    if (plus && position) {
        size_t n = (size_t)position->dim[0], c = (size_t)position->dim[1];
        moved = *position;
        moved.dt = SD_F32;
        moved.id = 0;
        moved.scale = 0;
        float *x = moved.data = room(r, n * c);
        for (size_t i = 0; i < n && x; i++) {
            size_t from = i + (size_t)plus->value < n ? i + (size_t)plus->value : n - 1;
            sd_widen_weight(x + i * c, position, from * c, c, wrong_of(r)->cpu.kern);
        }
    }
    if (sd_ok(r))
        sd_backend_cpu.embed(r, y, ids, token,
                             made(r, SD_WRONG_NO_POSITION) ? NULL : moved.data ? &moved : position);
    free(moved.data);
}

const sd_backend sd_backend_wrong = {
    .name = "cpu, with mistakes",
    .alloc = sd_cpu_alloc,
    .release = sd_cpu_release,
    .trim = sd_cpu_trim,
    .upload = sd_cpu_upload,
    .download = sd_cpu_download,
    .copy = sd_cpu_copy,
    .sinusoid = wrong_sinusoid,
    .linear = wrong_linear,
    .conv2d = wrong_conv2d,
    .attention = wrong_attention,
    .group_norm = wrong_group_norm,
    .layer_norm = wrong_layer_norm,
    .act = wrong_act,
    .geglu = wrong_geglu,
    .add = wrong_add,
    .add_channels = wrong_add_channels,
    .concat = wrong_concat,
    .upsample = wrong_upsample,
    .embed = wrong_embed,
};
