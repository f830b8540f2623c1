/* winograd.cl - the transforms of F(4x4,3x3) [Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
 * eq. 8]:
 *   Y = A^T [(G g G^T) * (B^T d B)] A,
 * with the points 0, +-5/8, +-3/2 and infinity, and the operations of kernels_winograd.c, which says why these points.
 *
 * On a CPU a work-item takes a whole tile, or a run of the weights, in vectors; elsewhere one channel of it. Channels
 * follow one another in memory, so neighbours read and write neighbours. */

#if CPU
#define VL 16
typedef float16 vf;
#define LOAD(p) vload16(0, p)
#define STORE(v, p) vstore16(v, 0, p)
#define WEIGHTS(w, i) weight16((w) + (i))
#else
#define VL 1
typedef float vf;
#define LOAD(p) (*(p))
#define STORE(v, p) (*(p) = (v))
#define WEIGHTS(w, i) weight1(w, i)
#endif

/* a, b: the points. The constants below are exact but for those of G, each of which is rounded once. */
#define A1 0.625f
#define A2 0.390625f
#define A3 0.244140625f
#define B1 1.5f
#define B2 2.25f
#define B3 3.375f
/* G's: 1 / (a^2 b^2), and fa = 1 / (2 a^2 (a^2 - b^2)), fb = 1 / (2 b^2 (b^2 - a^2)) times powers of the points */
#define G_ZERO 1.13777781f
#define FA -0.688403368f
#define A1_FA -0.430252105f
#define A2_FA -0.268907577f
#define FB 0.119514471f
#define B1_FB 0.179271713f
#define B2_FB 0.268907577f

#define K(c) ((vf)(c))

typedef struct { vf s0, s1, s2, s3, s4, s5; } six;
typedef struct { vf s0, s1, s2, s3; } four;

/* Six numbers, each in the next plane. */
static inline void write_planes(__global float *to, int plane, six r)
{
    STORE(r.s0, to);
    STORE(r.s1, to + plane);
    STORE(r.s2, to + 2 * plane);
    STORE(r.s3, to + 3 * plane);
    STORE(r.s4, to + 4 * plane);
    STORE(r.s5, to + 5 * plane);
}

/* ------------------------------------------------------------------------------ along one axis */

/* The row of B^T for infinity: (x^2 - a^2)(x^2 - b^2) */
static inline vf to_infinity(vf d0, vf d2, vf d4) { return fma(K(-A2 - B2), d2, fma(K(A2 * B2), d0, d4)); }

/* B^T d */
static inline six input_axis(vf d0, vf d1, vf d2, vf d3, vf d4, vf d5)
{
    vf odd_a = fma(K(-B2), d1, d3), even_a = fma(K(-B2), d2, d4);
    vf odd_b = fma(K(-A2), d1, d3), even_b = fma(K(-A2), d2, d4);
    six y;
    y.s0 = to_infinity(d0, d2, d4);
    y.s1 = fma(K(A1), odd_a, even_a);
    y.s2 = fma(K(-A1), odd_a, even_a);
    y.s3 = fma(K(B1), odd_b, even_b);
    y.s4 = fma(K(-B1), odd_b, even_b);
    y.s5 = to_infinity(d1, d3, d5);
    return y;
}

/* A^T m */
static inline four output_axis(vf m0, vf m1, vf m2, vf m3, vf m4, vf m5)
{
    vf sum_a = m1 + m2, dif_a = m1 - m2, sum_b = m3 + m4, dif_b = m3 - m4;
    four y;
    y.s0 = m0 + (sum_a + sum_b);
    y.s1 = fma(K(A1), dif_a, K(B1) * dif_b);
    y.s2 = fma(K(A2), sum_a, K(B2) * sum_b);
    y.s3 = fma(K(A3), dif_a, K(B3) * dif_b) + m5;
    return y;
}

/* G g */
static inline six weights_axis(vf g0, vf g1, vf g2)
{
    vf even_a = fma(g2, K(A2_FA), g0 * K(FA)), odd_a = g1 * K(A1_FA);
    vf even_b = fma(g2, K(B2_FB), g0 * K(FB)), odd_b = g1 * K(B1_FB);
    six y;
    y.s0 = g0 * K(G_ZERO);
    y.s1 = even_a + odd_a;
    y.s2 = even_a - odd_a;
    y.s3 = even_b + odd_b;
    y.s4 = even_b - odd_b;
    y.s5 = g2;
    return y;
}

/* ------------------------------------------------------------------------------------- tiles
 * Tiles are numbered through the batch, across x down of each picture; a work-item's share of `numbers` per tile is
 * from .. to - 1. The last vector of a run overlaps the one before it where VL does not divide the run. */

#if CPU
#define SHARE(tile, from, to, numbers) \
    int tile = (int)get_global_id(0), from = 0, to = numbers
#else
#define SHARE(tile, from, to, numbers) \
    int tile = (int)get_global_id(0) / (numbers), from = (int)get_global_id(0) % (numbers), to = from + 1
#endif

/* The number of the first channel of pixel `at` along an axis of `size` pixels that begins with pixel `first`, each
 * read `zoom` times; `step` numbers lie between two pixels. Below 0 outside. */
static inline int place(int at, int zoom, int size, int first, int step)
{
    return at < 0 || at >= zoom * size ? INT_MIN : (at / zoom - first) * step;
}

static inline vf pixel(__global const float *x, int row, int column)
{
    vf d = K(0.0f);
    if (row >= 0 && column >= 0) d = LOAD(x + row + column);
    return d;
}

/* V[plane][tile][I] = B^T d B. x has some rows of pictures of `height` rows, those from `first` on; `top` rows of tiles
 * lie above the first tile. */
__kernel void input(__global float *v, uint v_at, __global const float *x, uint x_at, int tile0, int tiles, int plane,
                    int I, int across, int down, int zoom, int height, int width, int rows, int first, int top)
{
    SHARE(tile, c0, c1, I);
    if (tile >= tiles) return;
    int t = tile0 + tile, line = t / across, y = (top + line % down) * 4 - 1, u = t % across * 4 - 1;
    int pitch = width * I;
    v += v_at, x += x_at;
    x += line / down * rows * pitch;
#define ROW(i) int row##i = place(y + i, zoom, height, first, pitch), col##i = place(u + i, zoom, width, 0, I)
    ROW(0); ROW(1); ROW(2); ROW(3); ROW(4); ROW(5);
#undef ROW
    for (int n = c0; n < c1; n += VL) {
        int c = min(n, I - VL);
        __global const float *from = x + c;
        __global float *to = v + tile * I + c;
#define D(i, j) pixel(from, row##i, col##j)
#define COLUMN(j) six t##j = input_axis(D(0, j), D(1, j), D(2, j), D(3, j), D(4, j), D(5, j))
        COLUMN(0); COLUMN(1); COLUMN(2); COLUMN(3); COLUMN(4); COLUMN(5);
#undef COLUMN
#undef D
#define PLANES(i) \
    write_planes(to + 6 * i * plane, plane, input_axis(t0.s##i, t1.s##i, t2.s##i, t3.s##i, t4.s##i, t5.s##i))
        PLANES(0); PLANES(1); PLANES(2); PLANES(3); PLANES(4); PLANES(5);
#undef PLANES
    }
}

/* Writes four pixels of a row of y, as far as they are inside. */
static inline void write_row(__global float *y, four v, vf bias, bool inside, int columns, int O)
{
    if (!inside) return;
    STORE(v.s0 + bias, y);
    if (columns > 1) STORE(v.s1 + bias, y + O);
    if (columns > 2) STORE(v.s2 + bias, y + 2 * O);
    if (columns > 3) STORE(v.s3 + bias, y + 3 * O);
}

/* y[..][o0 .. o0 + N - 1] = A^T M A + bias; M[plane][tile][N]. y has O channels; rows x width pixels of each
 * picture. */
__kernel void output(__global float *y, uint y_at, __global const float *m, uint m_at, __global const float *bias,
                     uint bias_at, int has_bias, int tile0, int tiles, int plane, int N, int o0, int O, int across,
                     int down, int rows, int width)
{
    SHARE(tile, c0, c1, N);
    if (tile >= tiles) return;
    int t = tile0 + tile, line = t / across, row = line % down * 4, column = t % across * 4;
    y += y_at, m += m_at, bias += bias_at;
    y += ((line / down * rows + row) * width + column) * O + o0;
    for (int n = c0; n < c1; n += VL) {
        int c = min(n, N - VL);
        __global const float *from = m + tile * N + c;
#define M(i, j) LOAD(from + (6 * i + j) * plane)
#define COLUMN(j) four t##j = output_axis(M(0, j), M(1, j), M(2, j), M(3, j), M(4, j), M(5, j))
        COLUMN(0); COLUMN(1); COLUMN(2); COLUMN(3); COLUMN(4); COLUMN(5);
#undef COLUMN
#undef M
        vf b = K(0.0f);
        if (has_bias) b = LOAD(bias + o0 + c);
#define PIXELS(i) \
    write_row(y + i * width * O + c, output_axis(t0.s##i, t1.s##i, t2.s##i, t3.s##i, t4.s##i, t5.s##i), b, \
              row + i < rows, width - column, O)
        PIXELS(0); PIXELS(1); PIXELS(2); PIXELS(3);
#undef PIXELS
    }
}

/* U[plane][strip][I][32] = G g G^T for some strips; w [strip][9 I][32], taps outside channels. numbers: of the I x 32;
 * a work-item takes `run` of them. */
__kernel void weights(__global float *u, uint u_at, __global const weight_t *w, uint w_at, int items, int plane,
                      int numbers, int run, int runs)
{
    int item = (int)get_global_id(0), strip = item / runs, n0 = item % runs * run;
    if (item >= items) return;
    u += u_at + (size_t)strip * numbers, w += w_at + (size_t)strip * 9 * numbers;
    for (int n = n0; n < min(n0 + run, numbers); n += VL) {
        __global float *to = u + n;
#define W(tap) WEIGHTS(w, n + (tap) * numbers)
#define COLUMN(j) six t##j = weights_axis(W(j), W(3 + j), W(6 + j))
        COLUMN(0); COLUMN(1); COLUMN(2);
#undef COLUMN
#undef W
#define PLANES(i) write_planes(to + 6 * i * plane, plane, weights_axis(t0.s##i, t1.s##i, t2.s##i))
        PLANES(0); PLANES(1); PLANES(2); PLANES(3); PLANES(4); PLANES(5);
#undef PLANES
    }
}
