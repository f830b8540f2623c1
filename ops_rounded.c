/* ops_rounded.c - floor 2: the backend of ops_rounded.h.
 *
 * Two operations lose digits in float32 however they are written, and ours do not, for they compute the inside in
 * double or by an approximation of the tail. A program that is right may lose them:
 *     sinusoid: the angle is a product, t f_i with f_i = e^(-i ln(10000) / half). Roundings of the exponent are errors
 *         of f_i as large as the exponent is; at t = 1000 the last digit of an angle is 6e-5. f_0 = 1 is exact.
 *     GELU, GEGLU: x (1 + erf(x / sqrt 2)) / 2. For x << 0 the sum cancels, and what is left is erf's last digit.
 * And the sum of n terms that are added one after another, as a plain loop does it, has an error that grows with the
 * root of n: of random signs, partial sum k is sqrt(k / n) times the result in size and is rounded by 0.4 of 2^-24 of
 * it, so that the whole error is 0.28 sqrt(n) 2^-24 of the result. Sums in blocks, as ours, have far less.
 * All else is rounded by whoever sees its results (sd_round_apart). */
#include "ops_rounded.h"
#include "kernels_spec.h"

#include <stdlib.h>
#include <string.h>

static const double ROUNDING = 0x1p-24;   /* the largest relative error of one */

/* ------------------------------------------------------------------------------------- random bits */

/* [Steele et al. 2014], of the state after `at` steps. */
static uint64_t bits(uint64_t begin, uint64_t at)
{
    uint64_t z = begin + (at + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* The stream of the next call. */
static uint64_t next_stream(sd_rounded *w) { return bits(bits(0, w->start), w->calls++); }

/* Number i of a stream, in (-1,1). */
static double between(uint64_t stream, size_t i)
{
    return ((double)(bits(stream, i / 8) >> (i % 8 * 8) & 255) - 127.5) / 128;
}

void sd_round_apart(sd_rounded *w, float *x, size_t n)
{
    uint64_t stream = next_stream(w), now = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        if (i % 32 == 0) now = bits(stream, i / 32);
        uint32_t way = (uint32_t)(now >> (i % 32 * 2)) & 3;
        memcpy(&u, &x[i], sizeof u);
        uint32_t exponent = u & UINT32_C(0x7F800000);
        if (way > 1 || exponent == 0 || exponent == UINT32_C(0x7F800000)) continue;   /* 0, and what has no neighbour */
        u = way ? u + 1 : u - 1;
        memcpy(&x[i], &u, sizeof u);
    }
}

/* --------------------------------------------------------------------------------------- operations */

static void rounded_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    size_t n = (size_t)y.dim[0], dim = (size_t)y.dim[1], half = dim / 2;
    uint64_t stream = next_stream(r->device);
    float *row = y.data;
    memset(row, 0, n * dim * sizeof *row);
    for (size_t k = 0; k < n; k++, row += dim)
        for (size_t i = 0; i < half; i++) {
            double exponent = log(10000.0) * (double)i / ((double)half - shift);
            double error = ROUNDING * (between(stream, 2 * i) * exponent + between(stream, 2 * i + 1));
            double angle = value[k] * exp(-exponent) * (exponent > 0 ? 1 + error : 1);
            row[flip ? i : half + i] = (float)cos(angle);
            row[flip ? half + i : i] = (float)sin(angle);
        }
}

/* value gate / 2 times an error of erf, which is added to y. value NULL: 1. Where erf is rounded to -1 all of y is
 * lost, and no more than that. */
static void add_erf_error(float *y, const float *value, const float *gate, size_t n, uint64_t stream)
{
    for (size_t i = 0; i < n; i++) {
        double error = 0.5 * ROUNDING * between(stream, i) * gate[i] * (value ? (double)value[i] : 1);
        double most = fabs(y[i]);
        y[i] = (float)(y[i] + (error > most ? most : error < -most ? -most : error));
    }
}

/* y is the result of sums of so many terms. */
static void add_sums_error(sd_run *r, sd_tensor y, double terms)
{
    sd_rounded *w = r->device;
    size_t n = (size_t)sd_numel(&y);
    float *x = y.data;
    double squares = 0;
    if (!w->in_turn || !sd_ok(r)) return;
    uint64_t stream = next_stream(w);
    for (size_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
    double size = sqrt(squares / (double)n) * 0.28 * sqrt(terms) * ROUNDING * sqrt(3);   /* `between` has 1 / sqrt 3 */
    for (size_t i = 0; i < n; i++) x[i] = (float)(x[i] + size * between(stream, i));
}

static void rounded_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    sd_backend_cpu.linear(r, y, x, w, b);
    add_sums_error(r, y, (double)cols(x));
}

static void rounded_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    sd_backend_cpu.conv2d(r, y, x, w, b, c);
    add_sums_error(r, y, (double)(w->dim[1] * w->dim[2] * w->dim[3]));
}

static void rounded_attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    sd_backend_cpu.attention(r, y, q, k, v, heads, causal);
    add_sums_error(r, y, (double)k.dim[1]);
}

static void rounded_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    size_t n = (size_t)sd_numel(&x);
    float *gate = act == SD_ACT_GELU ? malloc((n + 1) * sizeof *gate) : NULL;   /* y may be x */
    if (act == SD_ACT_GELU && !gate) sd_fail(r->err, SD_ERR_MEMORY, "no memory to round an activation");
    if (gate) memcpy(gate, x.data, n * sizeof *gate);
    sd_backend_cpu.act(r, y, x, act);
    if (gate) add_erf_error(y.data, NULL, gate, n, next_stream(r->device));
    free(gate);
}

static void rounded_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    size_t c = (size_t)cols(y), n = (size_t)rows(y);
    uint64_t stream = next_stream(r->device);
    sd_backend_cpu.geglu(r, y, x);
    for (size_t i = 0; i < n; i++) {
        const float *value = sd_f32(x) + 2 * i * c;
        add_erf_error(sd_f32(y) + i * c, value, value + c, c, bits(stream, i));
    }
}

sd_backend sd_backend_rounded(void)
{
    sd_backend b = sd_backend_cpu;
    b.name = "cpu, rounded otherwise";
    b.sinusoid = rounded_sinusoid;
    b.linear = rounded_linear;
    b.conv2d = rounded_conv2d;
    b.attention = rounded_attention;
    b.act = rounded_act;
    b.geglu = rounded_geglu;
    return b;
}
