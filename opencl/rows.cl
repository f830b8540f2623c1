/* rows.cl - element-wise operations, and those that move numbers.
 *
 * ops.h says what they compute. On a CPU a work-item takes numbers one after the other, 16 at a time; elsewhere those
 * of a group take them in turns. */

#define SPAN (CPU ? 4096 : 1024)   /* numbers of a group, where rows do not matter */
#define ROWS (CPU ? 32 : 1)        /* rows of a group, where they do */

/* For all i < n that belong to this work-item: `wide` for i .. i + 15 at once, `narrow` for i alone. */
#if CPU
#define EACH(n, wide, narrow) { \
        int i = 0; \
        for (; i + 16 <= (n); i += 16) { wide; } \
        for (; i < (n); i++) { narrow; } \
    }
#else
#define EACH(n, wide, narrow) for (int i = (int)get_local_id(0); i < (n); i += (int)get_local_size(0)) { narrow; }
#endif
/* y[i] = F(x[i]), where F<N> is of N numbers */
#define MAP(n, F) EACH(n, vstore16(F##16(vload16(0, x + i)), 0, y + i), y[i] = F##1(x[i]))
#define COPY(n, to, from) EACH(n, vstore16(vload16(0, (from) + i), 0, (to) + i), (to)[i] = (from)[i])
#define EACH_ROW(row, rows) \
    for (int row = GROUP(0) * ROWS, end = min((rows), GROUP(0) * ROWS + ROWS); row < end; row++)

/* 3 tanh(x / 3). |x| < 1.875: x + x^3 R(x^2), R by least squares weighted until the relative error is even, 9.3e-9.
 * Else 3 - 6 E / (1 + E), E = e^(-2|x|/3). */
#define ACTIVATIONS(N, F) \
static inline F quick_gelu##N(F x) { return gate##N(x, 1.702f, -2.1934509e-08f); } \
static inline F relu##N(F x) { return select(x, (F)(0.0f), x < (F)(0.0f)); } \
static inline F to_unit##N(F x) { return (x + 1.0f) * 0.5f; } \
static inline F from_unit##N(F x) { return x * 2.0f - 1.0f; } \
static inline F soft_clamp##N(F x) \
{ \
    F a = fabs(x), u = x * x, r = fma((F)(-9.661444267e-08f), u, (F)(3.145722758e-06f)); \
    r = fma(r, u, (F)(-7.371702668e-05f)); \
    r = fma(r, u, (F)(1.645857119e-03f)); \
    r = fma(r, u, (F)(-3.703698143e-02f)); \
    F e = exp_negative##N(a, (F)(-0.666666687f), a * 1.98682149e-08f); \
    F outer = copysign((F)(3.0f) - divide##N(e * 6.0f, e + 1.0f), x); \
    return select(outer, fma(r * u, x, x), !(a >= (F)(1.875f))); \
}
ACTIVATIONS(1, float)
ACTIVATIONS(16, float16)

/* which: sd_act of ops.h */
__kernel void act(__global float *y, uint y_at, __global const float *x, uint x_at, int count, int which)
{
    int n = min(SPAN, count - GROUP(0) * SPAN);
    x += x_at + (size_t)GROUP(0) * SPAN;
    y += y_at + (size_t)GROUP(0) * SPAN;
    switch (which) {
    case 1: MAP(n, silu) break;
    case 2: MAP(n, gelu) break;
    case 3: MAP(n, quick_gelu) break;
    case 4: MAP(n, relu) break;
    case 5: MAP(n, soft_clamp) break;
    case 6: MAP(n, to_unit) break;
    default: MAP(n, from_unit) break;
    }
}

__kernel void add(__global float *y, uint y_at, __global const float *a, uint a_at, __global const float *b, uint b_at,
                  int count)
{
    int n = min(SPAN, count - GROUP(0) * SPAN);
    a += a_at + (size_t)GROUP(0) * SPAN;
    b += b_at + (size_t)GROUP(0) * SPAN;
    y += y_at + (size_t)GROUP(0) * SPAN;
    EACH(n, vstore16(vload16(0, a + i) + vload16(0, b + i), 0, y + i), y[i] = a[i] + b[i])
}

/* A row is [value | gate]. */
__kernel void geglu(__global float *y, uint y_at, __global const float *x, uint x_at, int rows, int columns)
{
    EACH_ROW(row, rows) {
        __global const float *value = x + x_at + (size_t)row * 2 * columns, *gate = value + columns;
        __global float *to = y + y_at + (size_t)row * columns;
        EACH(columns, vstore16(vload16(0, value + i) * gelu16(vload16(0, gate + i)), 0, to + i),
             to[i] = value[i] * gelu1(gate[i]))
    }
}

/* y [rows / pixels, pixels, columns] += bias [rows / pixels, columns] */
__kernel void add_channels(__global float *y, uint y_at, __global const float *bias, uint bias_at, int rows,
                           int columns, int pixels)
{
    EACH_ROW(row, rows) {
        __global const float *from = bias + bias_at + (size_t)(row / pixels) * columns;
        __global float *to = y + y_at + (size_t)row * columns;
        EACH(columns, vstore16(vload16(0, to + i) + vload16(0, from + i), 0, to + i), to[i] += from[i])
    }
}

__kernel void concat(__global float *y, uint y_at, __global const float *a, uint a_at, __global const float *b,
                     uint b_at, int rows, int a_columns, int b_columns)
{
    EACH_ROW(row, rows) {
        __global const float *left = a + a_at + (size_t)row * a_columns, *right = b + b_at + (size_t)row * b_columns;
        __global float *to = y + y_at + (size_t)row * (a_columns + b_columns);
        COPY(a_columns, to, left)
        COPY(b_columns, to + a_columns, right)
    }
}

/* upsample, which is a function's name in OpenCL: x [N, h, w, columns] to y [N, H, W, columns]. A row is a pixel of
 * y; its source is floor(target times ratio). */
__kernel void repeat_nearest(__global float *y, uint y_at, __global const float *x, uint x_at, int rows, int columns,
                             int H, int W, int h, int w, float y_ratio, float x_ratio)
{
    EACH_ROW(row, rows) {
        int line = row / W, from_y = min((int)((float)(line % H) * y_ratio), h - 1),
            from_x = min((int)((float)(row % W) * x_ratio), w - 1);
        __global const float *from = x + x_at + (size_t)((line / H * h + from_y) * w + from_x) * columns;
        __global float *to = y + y_at + (size_t)row * columns;
        COPY(columns, to, from)
    }
}
