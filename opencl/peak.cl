/* peak.cl - what a device can do at most: multiplications and additions in registers, and bytes through its memory. */

#if CPU
typedef float16 numbers;
#else
typedef float numbers;
#endif

/* 16 times operations for each number of `numbers`: eight chains that do not wait for one another, because an FMA takes
 * several cycles. The result is written where it matters to nobody, so that it has to be calculated. */
__kernel void multiply_add(__global float *y, uint y_at, int times, float a, float b)
{
    numbers first = (numbers)((float)get_global_id(0) * 1e-9f), s0 = first, s1 = first + 1.0f, s2 = first + 2.0f,
        s3 = first + 3.0f, s4 = first + 4.0f, s5 = first + 5.0f, s6 = first + 6.0f, s7 = first + 7.0f;
    const numbers by = (numbers)(a), plus = (numbers)(b);
    for (int t = 0; t < times; t++) {
        s0 = fma(s0, by, plus), s1 = fma(s1, by, plus), s2 = fma(s2, by, plus), s3 = fma(s3, by, plus);
        s4 = fma(s4, by, plus), s5 = fma(s5, by, plus), s6 = fma(s6, by, plus), s7 = fma(s7, by, plus);
    }
    numbers sum = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
#if CPU
    y[y_at + get_global_id(0)] = sum.s0 + sum.s7 + sum.sf;
#else
    y[y_at + get_global_id(0)] = sum;
#endif
}

/* y = x; a group has SPAN numbers. */
#define SPAN (CPU ? 65536 : 1024)
__kernel void copy(__global float *y, uint y_at, __global const float *x, uint x_at)
{
    x += x_at + (size_t)GROUP(0) * SPAN;
    y += y_at + (size_t)GROUP(0) * SPAN;
#if CPU
    for (int i = 0; i < SPAN; i += 16) vstore16(vload16(0, x + i), 0, y + i);
#else
    for (int i = (int)get_local_id(0); i < SPAN; i += 256) y[i] = x[i];
#endif
}

/* Numbers in [-1, 1) that look like any: products of zeros take less power, and so less time. */
__kernel void fill(__global float *y, uint y_at)
{
    y += y_at + (size_t)GROUP(0) * SPAN;
    for (int i = (int)get_local_id(0); i < SPAN; i += (int)get_local_size(0)) {
        uint n = ((uint)GROUP(0) * SPAN + (uint)i) * 2654435761u;
        n = (n ^ n >> 15) * 2246822519u;
        y[i] = (float)(int)(n ^ n >> 13) * 0x1p-31f;
    }
}
