/* common.cl - comes before each of the other files: what they share.
 *
 * Options of every program: CPU, 1 if a work-group is one work-item that calculates in vectors, else 0; WEIGHT, how the
 * numbers of a weight stand in memory (ops_opencl.h: 0 float, 1 half, 2 bfloat), where there is one. */
#pragma OPENCL FP_CONTRACT OFF

/* The number of this work-group. A launch may be cut into pieces that begin at an offset, which get_group_id ignores. */
#define GROUP(d) ((int)(get_global_id(d) / get_local_size(d)))

#ifndef WEIGHT
#define WEIGHT 0
#endif
#if WEIGHT == 0
typedef float weight_t;
#else
typedef ushort weight_t;
#endif

/* The number at w[i], w[i .. i + 3], ... as floats. */
inline float weight1(__global const weight_t *w, size_t i)
{
#if WEIGHT == 0
    return w[i];
#elif WEIGHT == 1
    return vload_half(i, (__global const half *)w);
#else
    return as_float((uint)w[i] << 16);
#endif
}
inline float4 weight4(__global const weight_t *w)
{
#if WEIGHT == 0
    return vload4(0, w);
#elif WEIGHT == 1
    return vload_half4(0, (__global const half *)w);
#else
    return as_float4(convert_uint4(vload4(0, w)) << 16);
#endif
}
inline float16 weight16(__global const weight_t *w)
{
#if WEIGHT == 0
    return vload16(0, w);
#elif WEIGHT == 1
    return vload_half16(0, (__global const half *)w);
#else
    return as_float16(convert_uint16(vload16(0, w)) << 16);
#endif
}
