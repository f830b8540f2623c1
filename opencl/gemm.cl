/* gemm.cl - products c = a w^T + bias, and convolutions as such products without an unfolded picture.
 *
 * a [M][K], c [M][N], w packed: [strips][K][32 output channels]. In a convolution (CONV 1) a row of a is what an output
 * pixel is made of, K counts (ky, kx, channel), and its numbers are looked up in the picture.
 *
 * Options: a work-group computes BM x BN numbers of c, a work-item TM x TN at a time. CHUNK terms are added in a row,
 * then the sum is added to the total: so the bits depend neither on BM, BN, BK, TM, TN nor on M, and errors stay small.
 * On a GPU, BK terms lie in local memory at a time; VEC 4: numbers of a are read in fours, which stand at multiples of
 * four; TOTAL 1: totals are in registers, 0: they are in c. */

typedef struct picture {
    int height, width, zoom;      /* of the whole picture; zoom 1: each pixel stands for 2x2 */
    int first, rows, channels;    /* the rows of it that are there */
    int out_rows, out_width, from;
    int kernel_width, stride, top, left;
} picture;

#if CONV
#define MORE_ARGUMENTS int height, int width, int zoom, int first, int rows, int channels, int out_rows, \
    int out_width, int from, int kernel_width, int stride, int top, int left, int part
#define PICTURE \
    const picture p = {height, width, zoom, first, rows, channels, out_rows, out_width, from, kernel_width, stride, \
                       top, left}; \
    const int I = channels
/* Group number 2 adds only a part of the terms, into a c of its own. */
#define MOVE_TO_BATCH \
    const int first_k = GROUP(2) * part, end_k = min(K, first_k + part); \
    c += (size_t)GROUP(2) * M * N
#define C_STRIDE 0
#else
#define MORE_ARGUMENTS int a_stride, int w_stride, int c_stride
#define PICTURE const picture p = {0}; const int I = K
#define MOVE_TO_BATCH \
    const int first_k = 0, end_k = K; \
    a += (size_t)GROUP(2) * a_stride, w += (size_t)GROUP(2) * w_stride, c += (size_t)GROUP(2) * c_stride
#define C_STRIDE c_stride
#endif
#define ARGUMENTS __global const float *restrict a, uint a_at, __global const weight_t *restrict w, uint w_at, \
    __global float *restrict c, uint c_at, __global const float *restrict bias, uint bias_at, int M, int N, int K, \
    int has_bias, MORE_ARGUMENTS
#define MOVE_TO_START a += a_at, w += w_at, c += c_at, bias += bias_at

/* Where row m of a begins; in a convolution, where its picture begins, and the pixel of its first tap. */
typedef struct source { int at, y, x; } source;

static inline source source_of(int m, int K, picture p)
{
#if CONV
    int n = m / (p.out_rows * p.out_width), row = m / p.out_width % p.out_rows, column = m % p.out_width;
    return (source){n * p.rows * p.width * p.channels, (row + p.from) * p.stride - p.top, column * p.stride - p.left};
#else
    return (source){m * K, 0, 0};
#endif
}

/* The place of a k: channel i of tap (ky, kx). */
typedef struct term { int k, i, ky, kx; } term;

static inline term term_at(int k, int I, picture p)
{
#if CONV
    int tap = k / I;
    return (term){k, k % I, tap / p.kernel_width, tap % p.kernel_width};
#else
    return (term){k, k, 0, 0};
#endif
}

static inline term term_after(term t, int n, int I, picture p)
{
    t.k += n;
    t.i += n;
#if CONV
    while (t.i >= I) {
        t.i -= I;
        t.kx++;
        if (t.kx == p.kernel_width) t.kx = 0, t.ky++;
    }
#endif
    return t;
}

/* Where the numbers of a tap begin; negative: outside the picture, all zeros. */
static inline int tap_of(source s, term t, picture p)
{
#if CONV
    int y = s.y + t.ky, x = s.x + t.kx;
    bool inside = y >= 0 && y < p.height << p.zoom && x >= 0 && x < p.width << p.zoom;
    return inside ? s.at + (((y >> p.zoom) - p.first) * p.width + (x >> p.zoom)) * p.channels : -1;
#else
    return s.at;
#endif
}

#define STRIP 32

#if CPU
/* ------------------------------------------------------------------------- one work-item, in vectors
 * A panel of BM rows by CHUNK terms is copied once, then multiplied with strip after strip. */

static inline void pack_row(float *to, __global const float *a, source s, term t, int n, int I, picture p)
{
    for (int done = 0, run; done < n; done += run, t = term_after(t, run, I, p)) {
        int at = tap_of(s, t, p);
        run = min(I - t.i, n - done);
        if (at < 0)
            for (int j = 0; j < run; j++) to[done + j] = 0;
        else
            for (int j = 0; j < run; j++) to[done + j] = a[at + t.i + j];
    }
}

#define FN (TN / 16)

/* 16 numbers of c that begin at column n */
static inline void put16(__global float *c, __global const float *bias, float16 sum, int n, int N, bool begin, bool end)
{
    if (n + 16 <= N) {
        if (!begin) sum += vload16(0, c);
        if (end) sum += vload16(0, bias);
        vstore16(sum, 0, c);
        return;
    }
    float one[16];
    vstore16(sum, 0, one);
    for (int j = 0; n + j < N; j++) {
        float x = one[j];
        if (!begin) x += c[j];
        if (end) x += bias[j];
        c[j] = x;
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void product(ARGUMENTS)
{
    float panel[BM * CHUNK];
    PICTURE;
    MOVE_TO_START;
    MOVE_TO_BATCH;
    const int m0 = GROUP(1) * BM, n0 = GROUP(0) * BN, live = min(BM, M - m0), columns = min(BN, N - n0);
    for (int k0 = first_k; k0 < end_k; k0 += CHUNK) {
        const int n = min(CHUNK, end_k - k0);
        const bool begin = k0 == first_k, end = k0 + n == end_k && has_bias;
        const term t = term_at(k0, I, p);
        for (int r = 0; r < (live + TM - 1) / TM * TM; r++)
            pack_row(panel + r * CHUNK, a, source_of(min(m0 + r, M - 1), K, p), t, n, I, p);
        for (int j = 0; j < columns; j += TN) {
            __global const weight_t *strip = w + ((size_t)((n0 + j) / STRIP) * K + k0) * STRIP + j % STRIP;
            for (int r0 = 0; r0 < live; r0 += TM) {
                float16 sum[TM][FN];
#pragma unroll
                for (int r = 0; r < TM; r++)
#pragma unroll
                    for (int h = 0; h < FN; h++) sum[r][h] = 0;
                for (int i = 0; i < n; i++) {
                    float16 y[FN];
#pragma unroll
                    for (int h = 0; h < FN; h++) y[h] = weight16(strip + i * STRIP + 16 * h);
#pragma unroll
                    for (int r = 0; r < TM; r++) {
                        const float16 x = panel[(r0 + r) * CHUNK + i];
#pragma unroll
                        for (int h = 0; h < FN; h++) sum[r][h] = fma(x, y[h], sum[r][h]);
                    }
                }
#pragma unroll
                for (int r = 0; r < TM; r++)
#pragma unroll
                    for (int h = 0; h < FN; h++) {
                        const int m = m0 + r0 + r, at = n0 + j + 16 * h;
                        if (m < M && at < N) put16(c + m * N + at, bias + at, sum[r][h], at, N, begin, end);
                    }
            }
        }
    }
}

#else
/* ------------------------------------------------------------------------- a group shares local memory
 * While a tile of BK terms is multiplied, the next one is on its way into registers; two tiles of local memory take
 * turns, so one barrier for each tile is enough. */

#define ITEMS (BM / TM * (BN / TN))
#define PIECES (BK / VEC)
#define A_LOADS (BM * PIECES / ITEMS)
#define W_LOADS (BK * BN / 4 / ITEMS)
#if A_LOADS * ITEMS != BM * PIECES || W_LOADS * ITEMS * 4 != BK * BN || ITEMS % PIECES || CHUNK % BK
#error "each work-item must load as much as the others"
#endif
#define FM (TM / 4)
#define FN (TN / 4)

#if VEC == 4
typedef float4 piece;
#else
typedef float piece;
#endif

/* Four numbers of a weight as they are in memory, at a multiple of four, and as floats. */
#if WEIGHT == 0
typedef float4 raw4;
#define WIDEN(x) (x)
#elif WEIGHT == 1
typedef ushort4 raw4;
static inline float4 widen_half4(ushort4 x)
{
    ushort h[4];
    vstore4(x, 0, h);
    return vload_half4(0, (const half *)h);
}
#define WIDEN(x) widen_half4(x)
#else
typedef ushort4 raw4;
#define WIDEN(x) as_float4(convert_uint4(x) << 16)
#endif

/* Numbers n .. n + 3 of a row of c; quads: N is a multiple of four, and so are the places of rows. */
static inline void put4(__global float *c, __global const float *bias, float4 sum, int n, int N, bool begin, bool end,
                 bool quads)
{
    if (quads && n < N) {
        if (!begin) sum += *(__global float4 *)c;
        if (end) sum += *(__global const float4 *)bias;
        *(__global float4 *)c = sum;
    }
    if (quads) return;
    const float one[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (n + j >= N) continue;
        float x = one[j];
        if (!begin) x += c[j];
        if (end) x += bias[j];
        c[j] = x;
    }
}

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void product(ARGUMENTS)
{
    __local float4 at[2][BK][BM / 4 + 1], wt[2][BK][BN / 4];
    PICTURE;
    MOVE_TO_START;
    MOVE_TO_BATCH;
    const int me = get_local_id(0), mx = me % (BN / TN), my = me / (BN / TN);
    const int m0 = GROUP(1) * BM, n0 = GROUP(0) * BN;
    const int strips = (N + STRIP - 1) / STRIP, tiles = (end_k - first_k + BK - 1) / BK;
    const bool quads = ((uint)N | c_at | (uint)C_STRIDE) % 4 == 0;
    float4 sum[TM][FN];
#if TOTAL
    float4 total[TM][FN];
#endif
    source row_of[A_LOADS];
#pragma unroll
    for (int i = 0; i < A_LOADS; i++)
        row_of[i] = source_of(min(m0 + me / PIECES + i * (ITEMS / PIECES), M - 1), K, p);
    term next = term_at(first_k + me % PIECES * VEC, I, p);

    for (int tile = 0; tile <= tiles; tile++) {
        piece a_next[A_LOADS];
        raw4 w_next[W_LOADS];
        if (tile < tiles) {
#pragma unroll
            for (int i = 0; i < A_LOADS; i++) {
                int begin = next.k < end_k ? tap_of(row_of[i], next, p) : -1;
                a_next[i] = 0;
                if (begin >= 0) a_next[i] = *(__global const piece *)(a + begin + next.i);
            }
            next = term_after(next, BK, I, p);
#pragma unroll
            for (int i = 0; i < W_LOADS; i++) {
                const int e = me + i * ITEMS, k = first_k + tile * BK + e / (BN / 4), j = e % (BN / 4);
                const int strip = min(n0 / STRIP + j / (STRIP / 4), strips - 1);
                w_next[i] = 0;
                if (k < end_k) w_next[i] = *(__global const raw4 *)(w + (strip * K + k) * STRIP + j % (STRIP / 4) * 4);
            }
        }
        if (tile > 0) {
            const int done = tile - 1, last = done & 1, in_chunk = done % (CHUNK / BK);
            if (in_chunk == 0) {
#pragma unroll
                for (int r = 0; r < TM; r++)
#pragma unroll
                    for (int h = 0; h < FN; h++) sum[r][h] = 0;
            }
#pragma unroll 2
            for (int k = 0; k < BK; k++) {
                float4 x[FM], y[FN];
#pragma unroll
                for (int f = 0; f < FM; f++) x[f] = at[last][k][f * (BM / FM / 4) + my];
#pragma unroll
                for (int h = 0; h < FN; h++) y[h] = wt[last][k][h * (BN / FN / 4) + mx];
#pragma unroll
                for (int f = 0; f < FM; f++) {
#pragma unroll
                    for (int h = 0; h < FN; h++) {
                        sum[4 * f][h] = fma((float4)(x[f].x), y[h], sum[4 * f][h]);
                        sum[4 * f + 1][h] = fma((float4)(x[f].y), y[h], sum[4 * f + 1][h]);
                        sum[4 * f + 2][h] = fma((float4)(x[f].z), y[h], sum[4 * f + 2][h]);
                        sum[4 * f + 3][h] = fma((float4)(x[f].w), y[h], sum[4 * f + 3][h]);
                    }
                }
            }
            if (in_chunk == CHUNK / BK - 1 || tile == tiles) {
                const bool begin = done < CHUNK / BK, end = tile == tiles;
                const int never = done >> 24;   /* 0: or addresses would be computed before the loop, and kept */
#pragma unroll
                for (int r = 0; r < TM; r++) {
                    const int m = m0 + never + r / 4 * (BM / FM) + my * 4 + r % 4;
#pragma unroll
                    for (int h = 0; h < FN; h++) {
                        const int n = n0 + never + h * (BN / FN) + mx * 4;
#if TOTAL
                        total[r][h] = begin ? sum[r][h] : total[r][h] + sum[r][h];
                        if (end && m < M)
                            put4(c + m * N + n, bias + n, total[r][h], n, N, true, has_bias, quads);
#else
                        if (m < M) put4(c + m * N + n, bias + n, sum[r][h], n, N, begin, end && has_bias, quads);
#endif
                    }
                }
            }
        }
        if (tile < tiles) {
#pragma unroll
            for (int i = 0; i < A_LOADS; i++) {
                const int row = me / PIECES + i * (ITEMS / PIECES), k = me % PIECES * VEC;
#if VEC == 4
                ((__local float *)at[tile & 1][k])[row] = a_next[i].x;
                ((__local float *)at[tile & 1][k + 1])[row] = a_next[i].y;
                ((__local float *)at[tile & 1][k + 2])[row] = a_next[i].z;
                ((__local float *)at[tile & 1][k + 3])[row] = a_next[i].w;
#else
                ((__local float *)at[tile & 1][k])[row] = a_next[i];
#endif
            }
#pragma unroll
            for (int i = 0; i < W_LOADS; i++) {
                const int e = me + i * ITEMS;
                wt[tile & 1][e / (BN / 4)][e % (BN / 4)] = WIDEN(w_next[i]);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
#endif

/* y [n] = the sum of its parts x [parts][n] + bias [N] */
__kernel void add_parts(__global float *restrict y, uint y_at, __global const float *restrict x, uint x_at,
                        __global const float *restrict bias, uint bias_at, int n, int N, int parts, int has_bias)
{
    const int i = get_global_id(0);
    if (i >= n) return;
    x += x_at + i;
    float sum = *x;
    for (int k = 1; k < parts; k++) {
        x += n;
        sum += *x;
    }
    y[y_at + i] = has_bias ? sum + bias[bias_at + i % N] : sum;
}
