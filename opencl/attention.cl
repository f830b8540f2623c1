/* attention.cl - y = softmax(q k^T / sqrt(D)) v per head with a running softmax: no row of weights is ever whole.
 *
 * The keys come in pieces. A query keeps the largest logit m so far, the sum l of e^(s - m) and o, the sum of
 * e^(s - m) v. When a later piece raises m, l and o are multiplied by e^(old m - m) [Milakov & Gimelshein 2018; Rabe &
 * Staats 2021]. At the end y = o / l. The products of a piece are summed apart and then added to o.
 *
 * q [N,T,H D], k and v [N,S,H D]. Group (i, h, n) has tile i of the queries of head h of picture n. A query's bits
 * depend on its own row, the keys and the values alone.
 *
 * Options: D, numbers of a head; what else there is stands at each form. scale is log2(e) / sqrt(D): weights are powers
 * of two. m is the largest scaled logit as it was rounded once, so that the rounding cancels. */

/* (l, low), whose sum is a number of about 48 bits, becomes (l + low) f + x. */
#define ADD_TO_SUM(name, real) \
    static inline void name(real *l, real *low, real f, real x) \
    { \
        real a = *l * f, lost = fma(*l, f, -a), s = a + x, b = s - a; \
        *low = fma(*low, f, lost + ((a - (s - b)) + (x - b))); \
        *l = s; \
    }

#if CPU
/* One work-item has STRIPS strips of 16 queries, one lane of a vector for each. */
ADD_TO_SUM(add_to_sum16, float16)

enum { PIECE = 64, RUN = D > 64 ? 32 : D };   /* keys; products of a logit that are added in a row */

/* p[s] = q k[s], 4 keys at once; s counts from the piece's first key. Keys after the last one stand for it. */
static inline void logits(float16 *p, const float16 *q, __global const float *k, int keys, int C)
{
    for (int s = 0; s < keys; s += 4) {
        __global const float *k0 = k + min(s, keys - 1) * C, *k1 = k + min(s + 1, keys - 1) * C,
                             *k2 = k + min(s + 2, keys - 1) * C, *k3 = k + min(s + 3, keys - 1) * C;
        float16 a[4] = {0, 0, 0, 0};
        for (int from = 0; from < D; from += RUN) {
            float16 b0 = 0, b1 = 0, b2 = 0, b3 = 0;
            for (int c = from; c < min(D, from + RUN); c++) {
                b0 = fma(q[c], (float16)(k0[c]), b0);
                b1 = fma(q[c], (float16)(k1[c]), b1);
                b2 = fma(q[c], (float16)(k2[c]), b2);
                b3 = fma(q[c], (float16)(k3[c]), b3);
            }
            a[0] += b0, a[1] += b1, a[2] += b2, a[3] += b3;
        }
        p[s] = a[0], p[s + 1] = a[1], p[s + 2] = a[2], p[s + 3] = a[3];
    }
}

/* o = o factor + sum of p[s] v[s], 4 numbers of the head at once */
static inline void add_values(float16 *o, const float16 *p, __global const float *v, int keys, int C, float16 factor)
{
    int c = 0;
    for (; c + 4 <= D; c += 4) {
        float16 b0 = 0, b1 = 0, b2 = 0, b3 = 0;
        for (int s = 0; s < keys; s++) {
            float4 x = vload4(0, v + s * C + c);
            b0 = fma(p[s], (float16)(x.x), b0);
            b1 = fma(p[s], (float16)(x.y), b1);
            b2 = fma(p[s], (float16)(x.z), b2);
            b3 = fma(p[s], (float16)(x.w), b3);
        }
        o[c] = fma(o[c], factor, b0);
        o[c + 1] = fma(o[c + 1], factor, b1);
        o[c + 2] = fma(o[c + 2], factor, b2);
        o[c + 3] = fma(o[c + 3], factor, b3);
    }
    for (; c < D; c++) {
        float16 b = 0;
        for (int s = 0; s < keys; s++) b = fma(p[s], (float16)(v[s * C + c]), b);
        o[c] = fma(o[c], factor, b);
    }
}

/* Lane i of row[c] is number c of row i of x. There are n rows; the last one stands for those after it. */
static inline void turn(float16 *row, __global const float *x, int n, int C)
{
    for (int c = 0; c < D; c++) {
        float lane[16];
        for (int i = 0; i < 16; i++) lane[i] = x[min(i, n - 1) * C + c];
        row[c] = vload16(0, lane);
    }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void attention(__global float *y, uint y_at, __global const float *q, uint q_at, __global const float *k, uint k_at,
               __global const float *v, uint v_at, int T, int S, int heads, int causal, float scale)
{
    int t0 = GROUP(0) * 16 * STRIPS, head = GROUP(1), n = GROUP(2), C = heads * D;
    int strips = min(STRIPS, (T - t0 + 15) / 16);
    size_t queries = ((size_t)n * T + t0) * C + head * D, keys = (size_t)n * S * C + head * D;
    float16 rows[STRIPS][D], o[STRIPS][D], m[STRIPS], l[STRIPS], low[STRIPS], p[PIECE];
    y += y_at + queries, q += q_at + queries, k += k_at + keys, v += v_at + keys;
    for (int g = 0; g < strips; g++) {
        turn(rows[g], q + g * 16 * C, T - t0 - g * 16, C);
        for (int c = 0; c < D; c++) o[g][c] = 0;
        m[g] = -INFINITY, l[g] = 0, low[g] = 0;
    }
    for (int s0 = 0; s0 < (causal ? min(S, t0 + 16 * STRIPS) : S); s0 += PIECE) {
        int there = min(PIECE, S - s0);
        __global const float *ks = k + s0 * C, *vs = v + s0 * C;
        for (int g = 0; g < strips; g++) {
            int16 last = causal ? t0 + g * 16 - s0 + (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
                                : (int16)(there - 1);
            float16 high = -INFINITY, sum = 0;
            logits(p, rows[g], ks, there, C);
            for (int s = 0; s < there; s++) {
                p[s] = select(p[s], (float16)(-INFINITY), (int16)(s) > last);
                high = fmax(high, p[s]);
            }
            high = fmax(m[g], high * scale);
            float16 factor = exp2_negative16(m[g] - high);
            for (int s = 0; s < there; s++) {
                p[s] = exp2_negative16(fma(p[s], (float16)(scale), -high));
                sum += p[s];
            }
            m[g] = high;
            add_to_sum16(&l[g], &low[g], factor, sum);
            add_values(o[g], p, vs, there, C, factor);
        }
    }
    for (int g = 0; g < strips; g++) {
        float16 part = divide16((float16)(1.0f), l[g] + low[g]);
        for (int c = 0; c < D; c++) {
            float lane[16];
            vstore16(o[g][c] * part, 0, lane);
            for (int i = 0; i < min(16, T - t0 - g * 16); i++) y[(g * 16 + i) * C + c] = lane[i];
        }
    }
}

#else
/* A group of TX x TY work-items has BQ = TY TM queries; a piece has TX TN keys. An item has the logits of TM queries
 * and TN keys, and TM x DN numbers of o, in registers; local memory has what the items share: DC numbers of the queries
 * and of the piece's keys, or VC values, and the weights of TX x 4 keys at a time. All that is read there by vectors of
 * 4 lies along the queries or the keys, so that neighbours read neighbouring vectors, or the same one; rows are one
 * vector longer than they need be, so that those who write a column meet in few banks.
 *
 * The item number tx of its row has the keys 4 tx .. 4 tx + 3 of each 4 TX, and writes weight number l of those to row
 * l TX + tx: the rows are a permutation of the keys, which the values take, too. DC is a multiple of 8, TM and TN
 * are multiples of 4, VC a divisor of 4 TX. */
ADD_TO_SUM(add_to_sum4, float4)

#define ITEMS (TX * TY)
#define BQ (TY * TM)
#define BK (TX * TN)
#define ROWS (TM / 4)                    /* vectors of an item's queries */
#define PART (4 * TX)                    /* keys whose weights are in local memory at a time */
#define DN ((D + TX - 1) / TX)           /* numbers of o: tx, tx + TX, ... */
#define DP (TX * DN)
#define DQ ((D + DC - 1) / DC * DC)
#define WHOLE (DQ == DC)                 /* the queries stay in local memory */
#define QS (BQ / 4 + 1)                  /* vectors from row to row */
#define KS (BK / 4 + 1)
#define SHARED (DC * KS > VC * DP / 4 ? DC * KS : VC * DP / 4)

/* x[at .. at + 3] of a row of D; 0 after its end */
static inline float4 four(__global const float *x, int at)
{
#if D % DC == 0 && D == DP
    return vload4(0, x + at);
#else
    float4 y = (float4)(x[min(at, D - 1)], x[min(at + 1, D - 1)], x[min(at + 2, D - 1)], x[min(at + 3, D - 1)]);
    return select(y, (float4)(0.0f), at + (int4)(0, 1, 2, 3) >= D);
#endif
}

/* The numbers from c0 to c0 + DC of `rows` rows, turned: to[c][row], `stride` from c to c + 1. The last row that is
 * there stands for those after it, of which nothing becomes. */
static inline void turn(__local float *to, int stride, __global const float *x, int rows, int there, int C, int c0)
{
    for (int i = get_local_id(0); i < rows * (DC / 4); i += ITEMS) {
        int pair = (i >> 1) / rows, row = (i >> 1) - pair * rows, c = (2 * pair + (i & 1)) * 4;
        float4 a = four(x + min(row, there - 1) * C, c0 + c);
        to[c * stride + row] = a.x;
        to[(c + 1) * stride + row] = a.y;
        to[(c + 2) * stride + row] = a.z;
        to[(c + 3) * stride + row] = a.w;
    }
}

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
void attention(__global float *y, uint y_at, __global const float *q, uint q_at, __global const float *k, uint k_at,
               __global const float *v, uint v_at, int T, int S, int heads, int causal, float scale)
{
    __local float4 lq[DC * QS], shared[SHARED], lp[PART * QS];
    int id = get_local_id(0), ty = id / TX, tx = id - ty * TX;
    int t0 = GROUP(0) * BQ, head = GROUP(1), n = GROUP(2), C = heads * D;
    size_t queries = ((size_t)n * T + t0) * C + head * D, keys = (size_t)n * S * C + head * D;
    float4 o[DN][ROWS], m[ROWS], l[ROWS], low[ROWS];
    y += y_at + queries, q += q_at + queries, k += k_at + keys, v += v_at + keys;
    #pragma unroll
    for (int i = 0; i < ROWS; i++) {
        m[i] = -INFINITY, l[i] = 0, low[i] = 0;
        #pragma unroll
        for (int j = 0; j < DN; j++) o[j][i] = 0;
    }
    if (WHOLE) turn((__local float *)lq, 4 * QS, q, BQ, T - t0, C, 0);
    int end = causal ? min(S, t0 + BQ) : S;
    for (int s0 = 0; s0 < end; s0 += BK) {
        float4 s[TN][ROWS], f[ROWS];
        #pragma unroll
        for (int j = 0; j < TN; j++)
            #pragma unroll
            for (int i = 0; i < ROWS; i++) s[j][i] = 0;
        for (int c0 = 0; c0 < D; c0 += DC) {   /* s^T = k q^T */
            barrier(CLK_LOCAL_MEM_FENCE);
            if (!WHOLE) turn((__local float *)lq, 4 * QS, q, BQ, T - t0, C, c0);
            turn((__local float *)shared, 4 * KS, k + s0 * C, BK, S - s0, C, c0);
            barrier(CLK_LOCAL_MEM_FENCE);
#if D > 64
            float4 sum[TN][ROWS];
            #pragma unroll
            for (int j = 0; j < TN; j++)
                #pragma unroll
                for (int i = 0; i < ROWS; i++) sum[j][i] = s[j][i], s[j][i] = 0;
#endif
            #pragma unroll 4
            for (int c = 0; c < DC; c++) {
                float4 a[ROWS];
                #pragma unroll
                for (int i = 0; i < ROWS; i++) a[i] = lq[c * QS + ty * ROWS + i];
                #pragma unroll
                for (int j = 0; j < TN; j += 4) {
                    float4 b = shared[c * KS + j / 4 * TX + tx];
                    #pragma unroll
                    for (int i = 0; i < ROWS; i++) {
                        s[j][i] = fma(a[i], (float4)(b.x), s[j][i]);
                        s[j + 1][i] = fma(a[i], (float4)(b.y), s[j + 1][i]);
                        s[j + 2][i] = fma(a[i], (float4)(b.z), s[j + 2][i]);
                        s[j + 3][i] = fma(a[i], (float4)(b.w), s[j + 3][i]);
                    }
                }
            }
#if D > 64
            #pragma unroll
            for (int j = 0; j < TN; j++)
                #pragma unroll
                for (int i = 0; i < ROWS; i++) s[j][i] += sum[j][i];
#endif
        }
        if (s0 + BK > S || (causal && s0 + BK > t0)) {   /* some see some of the keys */
            #pragma unroll
            for (int i = 0; i < ROWS; i++) {
                int4 row = t0 + 4 * (ty * ROWS + i) + (int4)(0, 1, 2, 3);
                int4 last = causal ? min(row, (int4)(S - 1)) : (int4)(S - 1);
                #pragma unroll
                for (int j = 0; j < TN; j++)
                    s[j][i] = select(s[j][i], (float4)(-INFINITY), (int4)(s0 + j / 4 * PART + 4 * tx + j % 4) > last);
            }
        }

        /* the largest logits: of an item's keys, then of the piece's */
        #pragma unroll
        for (int i = 0; i < ROWS; i++) {
            float4 high = s[0][i];
            #pragma unroll
            for (int j = 1; j < TN; j++) high = fmax(high, s[j][i]);
            lp[tx * QS + ty * ROWS + i] = high;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        #pragma unroll
        for (int i = 0; i < ROWS; i++) {
            float4 high = lp[ty * ROWS + i], sum = 0;
            for (int x = 1; x < TX; x++) high = fmax(high, lp[x * QS + ty * ROWS + i]);
            high = fmax(m[i], high * scale);
            f[i] = exp2_negative4(m[i] - high);
            m[i] = high;
            #pragma unroll
            for (int j = 0; j < TN; j++) {
                s[j][i] = exp2_negative4(fma(s[j][i], (float4)(scale), -high));
                sum += s[j][i];
            }
            add_to_sum4(&l[i], &low[i], f[i], sum);
        }

        #pragma unroll
        for (int h = 0; h < TN / 4; h++) {   /* o = o f + p v, with 4 TX keys at a time */
            float4 part[DN][ROWS];
            #pragma unroll
            for (int j = 0; j < DN; j++)
                #pragma unroll
                for (int i = 0; i < ROWS; i++) part[j][i] = 0;
            for (int v0 = 0; v0 < PART; v0 += VC) {
                barrier(CLK_LOCAL_MEM_FENCE);
                if (v0 == 0) {
                    #pragma unroll
                    for (int j = 0; j < 4; j++)
                        #pragma unroll
                        for (int i = 0; i < ROWS; i++) lp[(j * TX + tx) * QS + ty * ROWS + i] = s[h * 4 + j][i];
                }
                for (int i = id; i < VC * (DP / 4); i += ITEMS) {
                    int row = i / (DP / 4), c = 4 * (i - row * (DP / 4));
                    int from = (v0 + row) / TX, key = s0 + h * PART + 4 * (v0 + row - from * TX) + from;
                    shared[i] = four(v + min(key, S - 1) * C, c);
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                #pragma unroll 2
                for (int at = 0; at < VC; at++) {
                    float4 p[ROWS];
                    #pragma unroll
                    for (int i = 0; i < ROWS; i++) p[i] = lp[(v0 + at) * QS + ty * ROWS + i];
                    #pragma unroll
                    for (int j = 0; j < DN; j++) {
                        float4 x = (float4)(((__local float *)shared)[at * DP + j * TX + tx]);
                        #pragma unroll
                        for (int i = 0; i < ROWS; i++) part[j][i] = fma(p[i], x, part[j][i]);
                    }
                }
            }
            #pragma unroll
            for (int i = 0; i < ROWS; i++) {
                #pragma unroll
                for (int j = 0; j < DN; j++) o[j][i] = fma(o[j][i], f[i], part[j][i]);
                f[i] = 1;
            }
        }
    }

    /* y = o / l, with the sum of the items' l */
    barrier(CLK_LOCAL_MEM_FENCE);
    #pragma unroll
    for (int i = 0; i < ROWS; i++) lp[tx * QS + ty * ROWS + i] = l[i] + low[i];
    barrier(CLK_LOCAL_MEM_FENCE);
    #pragma unroll
    for (int i = 0; i < ROWS; i++) {
        float4 sum = 0, rest = 0;
        for (int x = 0; x < TX; x++) add_to_sum4(&sum, &rest, 1, lp[x * QS + ty * ROWS + i]);
        sum = divide4((float4)(1.0f), sum + rest);
        int row = 4 * (ty * ROWS + i);
        #pragma unroll
        for (int j = 0; j < DN; j++) {
            float4 x = o[j][i] * sum;
            int c = j * TX + tx;
            if (c < D && t0 + row < T) y[row * C + c] = x.x;
            if (c < D && t0 + row + 1 < T) y[(row + 1) * C + c] = x.y;
            if (c < D && t0 + row + 2 < T) y[(row + 2) * C + c] = x.z;
            if (c < D && t0 + row + 3 < T) y[(row + 3) * C + c] = x.w;
        }
    }
}
#endif
