/* norm.cl - group norm [Wu & He 2018, eq. 7] and layer norm [Ba et al. 2016].
 *
 * A sum is a pair of floats, high + low, which holds about 48 bits: errors of additions and squares are found exactly
 * [Knuth, TAOCP 2, section 4.2.2, theorem B; Dekker 1971] and added up in `low`. So a large mean costs nothing. */

#define RUN 512                    /* SD_NORM_RUN of ops.h: pixels whose sums are one sum */
#define LANES 64                   /* partial sums of a row or of a group of channels */
#define PIXELS (CPU ? 32 : 4)      /* rows of a group, where each is treated alone */

/* Work for lanes 0 .. LANES - 1: each has its work-item, or all have one. */
#if CPU
#define EACH_LANE(l) for (int l = 0; l < LANES; l++)
#define SYNC
#else
#define EACH_LANE(l) for (int l = (int)get_local_id(0), once = 1; once; once = 0)
#define SYNC barrier(CLK_LOCAL_MEM_FENCE);
#endif

/* plus: high + low += x + rest. plus_square: high + low += x^2 */
#define SUMS(N, F) \
static inline void plus##N(F *high, F *low, F x, F rest) \
{ \
    F sum = *high + x, part = sum - *high; \
    *low += ((*high - (sum - part)) + (x - part)) + rest; \
    *high = sum; \
} \
static inline void plus_square##N(F *high, F *low, F x) \
{ \
    F square = x * x; \
    plus##N(high, low, square, fma(x, x, -square)); \
}
SUMS(1, float)
SUMS(16, float16)

/* ---- pairs of floats as float2, (high, low) */

static inline float2 pair_of(float high, float low)
{
    float sum = high + low;
    return (float2)(sum, low - (sum - high));
}

static inline float2 pair_plus(float2 a, float2 b)
{
    float high = a.x, low = a.y;
    plus1(&high, &low, b.x, b.y);
    return pair_of(high, low);
}

static inline float2 pair_times(float2 a, float2 b)
{
    float p = a.x * b.x;
    return pair_of(p, fma(a.x, b.x, -p) + fma(a.x, b.y, a.y * b.x));
}

/* 1 / sqrt(a): one step of Newton's iteration, with a pair's digits */
static inline float2 pair_rsqrt(float2 a)
{
    float r = 1.0f / sqrt(a.x), square = r * r, one = a.x * square;
    float rest = fma(a.x, square, -one) + fma(a.x, fma(r, r, -square), a.y * square);
    return pair_of(r, 0.5f * r * ((1.0f - one) - rest));
}

/* ---- sums in local memory: [high, low of x; high, low of x^2][LANES] */

/* part[..][0] = the sum over all lanes, in pairs of lanes n apart */
static inline void join(__local float *part)
{
    for (int n = LANES / 2; n > 0; n /= 2) {
        SYNC
#if CPU
        if (n >= 16) {
            for (int at = 0; at < 4 * LANES; at += 2 * LANES)
                for (int l = at; l < at + n; l += 16) {
                    float16 high = vload16(0, part + l), low = vload16(0, part + l + LANES);
                    plus16(&high, &low, vload16(0, part + l + n), vload16(0, part + l + n + LANES));
                    vstore16(high, 0, part + l);
                    vstore16(low, 0, part + l + LANES);
                }
            continue;
        }
#endif
        EACH_LANE(l) {
            if (l >= n) continue;
            for (int i = l; i < 4 * LANES; i += 2 * LANES) {
                float high = part[i], low = part[i + LANES];
                plus1(&high, &low, part[i + n], part[i + n + LANES]);
                part[i] = high;
                part[i + LANES] = low;
            }
        }
    }
    SYNC
}

/* From the sums: the mean, and 1 / sqrt(variance + eps). inverse: 1 / count */
static inline void moments(__local const float *part, float2 inverse, float2 eps, float2 *mean, float2 *rstd)
{
    *mean = pair_times(pair_of(part[0], part[LANES]), inverse);
    float2 variance = pair_plus(pair_times(pair_of(part[2 * LANES], part[3 * LANES]), inverse),
                                -pair_times(*mean, *mean));
    *rstd = pair_rsqrt(pair_plus(variance.x > 0.0f ? variance : (float2)(0.0f), eps));
}

/* ---- group norm */

/* Adds to sums [picture][run][4][channels] what n pixels of x [picture][n][channels], from number `pixel` on, add to
 * the runs that they belong to. One item has a channel of a run, pixel after pixel; on a CPU it has 16. */
__kernel void norm_sums(__global float *sums, uint sums_at, __global const float *x, uint x_at, int channels, int pixel,
                        int n, int runs)
{
    int run = pixel / RUN + GROUP(0), from = max(pixel, run * RUN), to = min(pixel + n, run * RUN + RUN);
    bool goes_on = from > run * RUN;
    x += x_at + ((size_t)GROUP(2) * n + (from - pixel)) * channels;
    sums += sums_at + ((size_t)GROUP(2) * runs + run) * 4 * channels;
#if CPU
    int c = GROUP(1) * 16;
    if (c + 16 <= channels) {
        float16 s = 0.0f, s_low = 0.0f, q = 0.0f, q_low = 0.0f;
        if (goes_on) {
            s = vload16(0, sums + c), s_low = vload16(0, sums + c + channels);
            q = vload16(0, sums + c + 2 * channels), q_low = vload16(0, sums + c + 3 * channels);
        }
        x += c;
        for (int i = from; i < to; i++, x += channels) {
            float16 v = vload16(0, x);
            plus16(&s, &s_low, v, (float16)(0.0f));
            plus_square16(&q, &q_low, v);
        }
        vstore16(s, 0, sums + c), vstore16(s_low, 0, sums + c + channels);
        vstore16(q, 0, sums + c + 2 * channels), vstore16(q_low, 0, sums + c + 3 * channels);
        return;
    }
    for (; c < channels; c++)
#else
    int c = GROUP(1) * LANES + (int)get_local_id(0);
    if (c < channels)
#endif
    {
        float s = 0.0f, s_low = 0.0f, q = 0.0f, q_low = 0.0f;
        if (goes_on) {
            s = sums[c], s_low = sums[c + channels];
            q = sums[c + 2 * channels], q_low = sums[c + 3 * channels];
        }
        __global const float *in = x + c;
        int left = to - from;
        for (; left >= 8; left -= 8, in += 8 * (size_t)channels) {
            float v[8];   /* on their way at the same time */
            for (int i = 0; i < 8; i++) v[i] = in[i * channels];
            for (int i = 0; i < 8; i++) {
                plus1(&s, &s_low, v[i], 0.0f);
                plus_square1(&q, &q_low, v[i]);
            }
        }
        for (; left > 0; left--, in += channels) {
            plus1(&s, &s_low, *in, 0.0f);
            plus_square1(&q, &q_low, *in);
        }
        sums[c] = s, sums[c + channels] = s_low;
        sums[c + 2 * channels] = q, sums[c + 3 * channels] = q_low;
    }
}

/* Per channel, into scale [picture][3][channels]: m, a, b of y = (x - m) a + b. What of the mean a float cannot hold
 * goes into b. A work-group has one group of `per` channels; its sums are joined in a fixed order. */
__kernel void norm_scale(__global float *scale, uint scale_at, __global const float *sums, uint sums_at,
                         __global const float *gain, uint gain_at, __global const float *bias, uint bias_at,
                         int channels, int per, int runs, float inverse, float inverse_low, float eps, float eps_low)
{
    __local float part[4 * LANES];
    int c0 = GROUP(0) * per;
    float2 mean, rstd;
    sums += sums_at + (size_t)GROUP(1) * runs * 4 * channels + c0;
    scale += scale_at + (size_t)GROUP(1) * 3 * channels + c0;
    EACH_LANE(l) {
        float s = 0.0f, s_low = 0.0f, q = 0.0f, q_low = 0.0f;
        for (int i = l; i < runs * per; i += LANES) {
            __global const float *in = sums + (size_t)(i / per) * 4 * channels + i % per;
            plus1(&s, &s_low, in[0], in[channels]);
            plus1(&q, &q_low, in[2 * channels], in[3 * channels]);
        }
        part[l] = s, part[l + LANES] = s_low;
        part[l + 2 * LANES] = q, part[l + 3 * LANES] = q_low;
    }
    join(part);
    moments(part, (float2)(inverse, inverse_low), (float2)(eps, eps_low), &mean, &rstd);
    EACH_LANE(l)
        for (int c = l; c < per; c += LANES) {
            float g = gain[gain_at + c0 + c], a = g * rstd.x;
            a += fma(g, rstd.x, -a) + g * rstd.y;
            scale[c] = mean.x;
            scale[c + channels] = a;
            scale[c + 2 * channels] = fma(-mean.y, a, bias[bias_at + c0 + c]);
        }
}

/* y = (x - m) a + b, then SiLU if silu; x [rows][channels], and each picture has `pixels` rows. */
__kernel void norm_apply(__global float *y, uint y_at, __global const float *x, uint x_at, __global const float *scale,
                         uint scale_at, int rows, int channels, int pixels, int silu)
{
    for (int row = GROUP(0) * PIXELS, end = min(rows, row + PIXELS); row < end; row++) {
        __global const float *from = x + x_at + (size_t)row * channels,
            *m = scale + scale_at + (size_t)(row / pixels) * 3 * channels, *a = m + channels, *b = a + channels;
        __global float *to = y + y_at + (size_t)row * channels;
#if CPU
        int c = 0;
        for (; c + 16 <= channels; c += 16) {
            float16 v = fma(vload16(0, from + c) - vload16(0, m + c), vload16(0, a + c), vload16(0, b + c));
            vstore16(silu ? silu16(v) : v, 0, to + c);
        }
        for (; c < channels; c++)
#else
        for (int c = (int)get_local_id(0); c < channels; c += LANES)
#endif
        {
            float v = fma(from[c] - m[c], a[c], b[c]);
            to[c] = silu ? silu1(v) : v;
        }
    }
}

/* ---- layer norm: a work-group has a row; on a CPU it has several, one after the other. Lane l sums the columns l,
 * l + LANES, ... */
__kernel void layer_norm(__global float *y, uint y_at, __global const float *x, uint x_at, __global const float *gain,
                         uint gain_at, __global const float *bias, uint bias_at, int rows, int columns, float inverse,
                         float inverse_low, float eps, float eps_low)
{
    __local float part[4 * LANES];
    gain += gain_at;
    bias += bias_at;
#if CPU
    for (int row = GROUP(0) * PIXELS, end = min(rows, row + PIXELS); row < end; row++)
#else
    int row = GROUP(0);
#endif
    {
        __global const float *in = x + x_at + (size_t)row * columns;
        __global float *to = y + y_at + (size_t)row * columns;
        float2 mean, rstd;
#if CPU
        for (int l = 0; l < LANES; l += 16) {
            float16 s = 0.0f, s_low = 0.0f, q = 0.0f, q_low = 0.0f;
            for (int c = l; c < columns; c += LANES) {
                float16 v = 0.0f;
                if (c + 16 <= columns) v = vload16(0, in + c);
                else for (int i = 0; c + i < columns; i++) ((float *)&v)[i] = in[c + i];
                plus16(&s, &s_low, v, (float16)(0.0f));
                plus_square16(&q, &q_low, v);
            }
            vstore16(s, 0, part + l), vstore16(s_low, 0, part + l + LANES);
            vstore16(q, 0, part + l + 2 * LANES), vstore16(q_low, 0, part + l + 3 * LANES);
        }
#else
        EACH_LANE(l) {
            float s = 0.0f, s_low = 0.0f, q = 0.0f, q_low = 0.0f;
            for (int c = l; c < columns; c += LANES) {
                plus1(&s, &s_low, in[c], 0.0f);
                plus_square1(&q, &q_low, in[c]);
            }
            part[l] = s, part[l + LANES] = s_low;
            part[l + 2 * LANES] = q, part[l + 3 * LANES] = q_low;
        }
#endif
        join(part);
        moments(part, (float2)(inverse, inverse_low), (float2)(eps, eps_low), &mean, &rstd);
#if CPU
        int c = 0;
        for (; c + 16 <= columns; c += 16) {
            float16 v = ((vload16(0, in + c) - mean.x) - mean.y) * rstd.x;
            vstore16(fma(v, vload16(0, gain + c), vload16(0, bias + c)), 0, to + c);
        }
        for (; c < columns; c++)
#else
        for (int c = (int)get_local_id(0); c < columns; c += LANES)
#endif
            to[c] = fma(((in[c] - mean.x) - mean.y) * rstd.x, gain[c], bias[c]);
    }
}
