/* ops_cpu.c - floor 2: the CPU backend: its table, norms, element-wise operations, and those that move numbers. OpenMP
 * threads share the outputs, never a sum, so with our own kernels the number of threads does not change the bits. */
#include "ops_cpu.h"

#include <math.h>
#include <string.h>

void sd_cpu_each(int n, void (*fn)(void *user, int i), void *user)
{
#pragma omp parallel for schedule(static, 1) num_threads(n)
    for (int i = 0; i < n; i++) fn(user, i);
}

/* ------------------------------------------------------------------------------------- norms */

/* Group norm [Wu & He 2018, eq. 7] over a group's channels and all pixels: y = (x - mean) rstd g + b.
 * Sums per channel over fixed runs of pixels are joined in a fixed order, in double. Then y = (x - m) a + b' per
 * channel, where m is the mean as a float, a = rstd g, and what m lacks of the mean goes into b'.
 * sums: [run][sum of x, sum of x^2][channel]. */
typedef struct gn_room { double *sums; float *m, *a, *b; } gn_room;

/* Adds to the sums of the runs that n pixels from number `pixel` on belong to. A run that two bands share goes on where
 * the first has left it, pixel after pixel, so that its bits do not depend on where bands end. */
static void gn_sums(const sd_cpu *cpu, double *sums, const float *in, size_t pixel, size_t n, size_t C)
{
    size_t first = pixel / SD_NORM_RUN;
    int runs = (int)(div_up(pixel + n, SD_NORM_RUN) - first);
#pragma omp parallel for num_threads(cpu->threads) if (n * C > SMALL)
    for (int i = 0; i < runs; i++) {
        size_t run = first + (size_t)i, from = max_size(pixel, run * SD_NORM_RUN),
            to = min_size(pixel + n, (run + 1) * SD_NORM_RUN);
        cpu->kern->column_sums(sums + 2 * run * C, sums + (2 * run + 1) * C, in + (from - pixel) * C, to - from, C);
    }
}

static void gn_apply(const sd_cpu *cpu, float *out, const float *in, size_t n, size_t C, gn_room o, bool silu)
{
#pragma omp parallel for num_threads(cpu->threads) if (n * C > SMALL / 4)
    for (int i = 0; i < (int)n; i++)
        cpu->kern->affine(out + (size_t)i * C, in + (size_t)i * C, o.m, o.a, o.b, C, silu);
}

static void gn_coefficients(const double *sums, size_t runs, size_t C, size_t P, int groups, double eps, const float *g,
                            const float *b, gn_room o)
{
    size_t per = C / (size_t)groups;
    for (size_t c0 = 0; c0 < C; c0 += per) {
        double s = 0, ss = 0, count = (double)(P * per);
        for (size_t i = 0; i < runs; i++) {
            for (size_t c = c0; c < c0 + per; c++) {
                s += sums[2 * i * C + c];
                ss += sums[(2 * i + 1) * C + c];
            }
        }
        double mean = s / count, var = ss / count - mean * mean;   /* in double, squares of floats are exact */
        double rstd = 1 / sqrt((var > 0 ? var : 0) + eps);
        for (size_t c = c0; c < c0 + per; c++) {
            o.m[c] = (float)mean;
            o.a[c] = (float)(rstd * (double)g[c]);
            o.b[c] = (float)((double)b[c] - (mean - (double)o.m[c]) * rstd * (double)g[c]);
        }
    }
}

static void cpu_group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                           double eps, bool silu)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t N = (size_t)x.dim[0], C = (size_t)cols(x), P = (size_t)rows(x) / N, runs = div_up(P, SD_NORM_RUN);
    size_t sums = round_up(2 * runs * C * sizeof(double), SD_ALIGN);
    pieces p = {sd_scratch(r, sums + 5 * floats(C))};
    if (!p.at) return;
    gn_room o = {.sums = cut(&p, sums)};
    o.m = cut(&p, C * sizeof(float));
    o.a = cut(&p, C * sizeof(float));
    o.b = cut(&p, C * sizeof(float));
    const float *gain = sd_cpu_f32(r, g, cut(&p, C * sizeof(float))),
        *bias = sd_cpu_f32(r, b, cut(&p, C * sizeof(float)));
    for (size_t n = 0; n < N; n++) {
        const float *in = sd_f32(x) + n * P * C;
        float *out = sd_f32(y) + n * P * C;
        memset(o.sums, 0, sums);
        gn_sums(cpu, o.sums, in, 0, P, C);
        gn_coefficients(o.sums, runs, C, P, groups, eps, gain, bias, o);
        gn_apply(cpu, out, in, P, C, o, silu);
    }
}

static void cpu_norm_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    if (pixel == 0) memset(sums.data, 0, (size_t)sd_numel(&sums) * sizeof(float));
    gn_sums(sd_cpu_of(r), sums.data, sd_f32(x), (size_t)pixel, (size_t)rows(x), (size_t)cols(x));
}

static gn_room gn_room_of(sd_tensor scale)
{
    size_t C = (size_t)cols(scale);
    return (gn_room){.m = sd_f32(scale), .a = sd_f32(scale) + C, .b = sd_f32(scale) + 2 * C};
}

static void cpu_norm_scale(sd_run *r, sd_tensor scale, sd_tensor sums, const sd_tensor *g, const sd_tensor *b,
                           int groups, double eps, int64_t pixels)
{
    size_t C = (size_t)cols(scale);
    pieces p = {sd_scratch(r, 2 * floats(C))};
    if (!p.at) return;
    const float *gain = sd_cpu_f32(r, g, cut(&p, C * sizeof(float))),
        *bias = sd_cpu_f32(r, b, cut(&p, C * sizeof(float)));
    gn_coefficients(sums.data, div_up((size_t)pixels, SD_NORM_RUN), C, (size_t)pixels, groups, eps, gain, bias,
                    gn_room_of(scale));
}

static void cpu_norm_apply(sd_run *r, sd_tensor y, sd_tensor x, sd_tensor scale, bool silu)
{
    gn_apply(sd_cpu_of(r), sd_f32(y), sd_f32(x), (size_t)rows(x), (size_t)cols(x), gn_room_of(scale), silu);
}

/* Layer norm [Ba et al. 2016] over the columns of each row. */
static void cpu_layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t C = (size_t)cols(x);
    pieces p = {sd_scratch(r, 2 * floats(C))};
    if (!p.at) return;
    const float *gain = sd_cpu_f32(r, g, cut(&p, C * sizeof(float))),
        *bias = sd_cpu_f32(r, b, cut(&p, C * sizeof(float)));
    int n = (int)rows(x);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * C > SMALL / 2)
    for (int i = 0; i < n; i++) {
        const float *in = sd_f32(x) + (size_t)i * C;
        double s = 0, ss = 0;
        cpu->kern->sums(&s, &ss, in, C);
        double mean = s / (double)C, var = ss / (double)C - mean * mean;
        cpu->kern->norm_affine(sd_f32(y) + (size_t)i * C, in, mean, 1 / sqrt((var > 0 ? var : 0) + eps), gain, bias, C);
    }
}

/* --------------------------------------------------------------------------------- element-wise */

/* One long row is cut into pieces for the threads; other operations have a row for each pixel. */
enum { CHUNK = 16384 };

static void cpu_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    const sd_kern *k = cpu->kern;
    void (*const kernels[])(float *, const float *, size_t) = {
        [SD_ACT_SILU] = k->silu, [SD_ACT_GELU] = k->gelu, [SD_ACT_QUICK_GELU] = k->quick_gelu, [SD_ACT_RELU] = k->relu,
        [SD_ACT_SOFT_CLAMP] = k->soft_clamp, [SD_ACT_TO_UNIT] = k->to_unit, [SD_ACT_FROM_UNIT] = k->from_unit};
    size_t n = (size_t)sd_numel(&x);
    int tasks = (int)div_up(n, CHUNK);
#pragma omp parallel for num_threads(cpu->threads) if (n > SMALL / 4)
    for (int i = 0; i < tasks; i++) {
        size_t at = (size_t)i * CHUNK;
        kernels[act](sd_f32(y) + at, sd_f32(x) + at, min_size(CHUNK, n - at));
    }
}

/* A row is [value | gate]: y = value * gelu(gate) [Shazeer 2020]. */
static void cpu_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t C = (size_t)cols(y);
    int n = (int)rows(y);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * C > SMALL / 8)
    for (int i = 0; i < n; i++) {
        const float *in = sd_f32(x) + (size_t)i * 2 * C;
        cpu->kern->geglu(sd_f32(y) + (size_t)i * C, in, in + C, C);
    }
}

static void cpu_add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t n = (size_t)sd_numel(&y);
    int tasks = (int)div_up(n, CHUNK);
#pragma omp parallel for num_threads(cpu->threads) if (n > SMALL)
    for (int i = 0; i < tasks; i++) {
        size_t at = (size_t)i * CHUNK;
        cpu->kern->add(sd_f32(y) + at, sd_f32(a) + at, sd_f32(b) + at, min_size(CHUNK, n - at));
    }
}

static void cpu_add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t C = (size_t)cols(y), P = (size_t)(rows(y) / y.dim[0]);
    int n = (int)rows(y);
#pragma omp parallel for num_threads(cpu->threads) if ((size_t)n * C > SMALL)
    for (int i = 0; i < n; i++) {
        float *to = sd_f32(y) + (size_t)i * C;
        cpu->kern->add(to, to, sd_f32(bias) + (size_t)i / P * C, C);
    }
}

static void cpu_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    (void)r;   /* used only with OpenMP */
    size_t A = (size_t)cols(a), B = (size_t)cols(b);
    int n = (int)rows(y);
#pragma omp parallel for num_threads(sd_cpu_of(r)->threads) if ((size_t)n * (A + B) > SMALL)
    for (int i = 0; i < n; i++) {
        float *to = sd_f32(y) + (size_t)i * (A + B);
        memcpy(to, sd_f32(a) + (size_t)i * A, A * sizeof(float));
        memcpy(to + A, sd_f32(b) + (size_t)i * B, B * sizeof(float));
    }
}

/* Nearest: source = floor(target * in/out), the ratio a float as in torch's upsample_nearest2d. */
static void cpu_upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    (void)r;   /* used only with OpenMP */
    int64_t H = y.dim[1], W = y.dim[2], h = x.dim[1], w = x.dim[2];
    size_t C = (size_t)cols(x);
    float sy = (float)h / (float)H, sx = (float)w / (float)W;
    int n = (int)(y.dim[0] * H);
#pragma omp parallel for num_threads(sd_cpu_of(r)->threads) if ((size_t)sd_numel(&y) > SMALL)
    for (int i = 0; i < n; i++) {
        int64_t iy = (int64_t)((float)(i % H) * sy);
        const float *from = sd_f32(x) + (size_t)((i / H * h + (iy < h ? iy : h - 1)) * w) * C;
        float *to = sd_f32(y) + (size_t)i * (size_t)W * C;
        for (int64_t ox = 0; ox < W; ox++) {
            int64_t ix = (int64_t)((float)ox * sx);
            memcpy(to + (size_t)ox * C, from + (size_t)(ix < w ? ix : w - 1) * C, C * sizeof(float));
        }
    }
}

static void cpu_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    (void)r;
    sdk_sinusoid(sd_f32(y), value, (size_t)y.dim[0], (size_t)y.dim[1], flip, shift);
}

/* y[n,t] = token[ids[n,t]] + position[t], if there are positions */
static void cpu_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    const sd_cpu *cpu = sd_cpu_of(r);
    size_t T = (size_t)y.dim[1], C = (size_t)y.dim[2], n = (size_t)y.dim[0] * T;
    float *row = sd_scratch(r, C * sizeof(float));
    if (!row) return;
    for (size_t i = 0; i < n; i++) {
        float *to = sd_f32(y) + i * C;
        sd_widen_weight(to, token, (size_t)ids[i] * C, C, cpu->kern);
        if (!position) continue;
        sd_widen_weight(row, position, i % T * C, C, cpu->kern);
        cpu->kern->add(to, to, row, C);
    }
}

const sd_backend sd_backend_cpu = {
    .name = "cpu",
    .alloc = sd_cpu_alloc,
    .release = sd_cpu_release,
    .trim = sd_cpu_trim,
    .upload = sd_cpu_upload,
    .download = sd_cpu_download,
    .copy = sd_cpu_copy,
    .sinusoid = cpu_sinusoid,
    .linear = sd_cpu_linear,
    .conv2d = sd_cpu_conv2d,
    .describe = sd_cpu_describe,
    .attention = sd_cpu_attention,
    .group_norm = cpu_group_norm,
    .norm_sums = cpu_norm_sums,
    .norm_scale = cpu_norm_scale,
    .norm_apply = cpu_norm_apply,
    .layer_norm = cpu_layer_norm,
    .act = cpu_act,
    .geglu = cpu_geglu,
    .add = cpu_add,
    .add_channels = cpu_add_channels,
    .concat = cpu_concat,
    .upsample = cpu_upsample,
    .embed = cpu_embed,
};
