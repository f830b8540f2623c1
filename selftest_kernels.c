/* selftest_kernels.c - floor 6: the kernels of every instruction set that this processor has, against the
 * specification. */
#include "selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ row functions */

static void row_f16(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->widen_f16(y, in.h, n); }
static void row_bf16(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->widen_bf16(y, in.h, n); }
static void row_silu(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->silu(y, in.x, n); }
static void row_gelu(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->gelu(y, in.x, n); }
static void row_quick(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->quick_gelu(y, in.x, n); }
static void row_relu(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->relu(y, in.x, n); }
static void row_geglu(const sd_kern *k, float *y, sd_row_inputs in, size_t n) { k->geglu(y, in.x, in.m, n); }
static void row_softmax(const sd_kern *k, float *y, sd_row_inputs in, size_t n)
{
    memmove(y, in.x, n * sizeof *y);
    k->softmax(y, n, 0.5f);
}
static void row_add(const sd_kern *k, float *y, sd_row_inputs in, size_t n)
{
    k->add(y, in.x, in.m, n);
}
static void row_norm(const sd_kern *k, float *y, sd_row_inputs in, size_t n)
{
    k->norm_affine(y, in.x, 0.3, 1.7, in.a, in.b, n);
}
static void row_affine(const sd_kern *k, float *y, sd_row_inputs in, size_t n)
{
    k->affine(y, in.x, in.m, in.a, in.b, n, false);
}
static void row_affine_silu(const sd_kern *k, float *y, sd_row_inputs in, size_t n)
{
    k->affine(y, in.x, in.m, in.a, in.b, n, true);
}

const sd_row_kind sd_row_kinds[SD_ROW_KINDS] = {
    {"widen_f16", row_f16, 0}, {"widen_bf16", row_bf16, 0}, {"silu", row_silu, 4}, {"gelu", row_gelu, 6},
    {"quick_gelu", row_quick, 4}, {"geglu", row_geglu, 7}, {"add", row_add, 0},
    {"relu", row_relu, 0}, {"norm_affine", row_norm, 64}, {"affine", row_affine, 64},
    {"affine+silu", row_affine_silu, 64}, {"softmax", row_softmax, 0},
};

enum { LONGEST = 130, ROOM = 4 * LONGEST };

/* One rounding of a float near x. */
static double ulp(double x)
{
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, exponent - 24);
}

static double row_error(float found, float expected, double bound)
{
    if (memcmp(&found, &expected, sizeof found) == 0) return 0;
    if (!(bound > 0)) return INFINITY;
    return fabs((double)found - (double)expected) / ulp(fmax(fabs((double)expected), 0.125)) / bound;
}

static void check_rows(const sd_kern *k, sd_check_row *row, const float *x)
{
    uint16_t half[LONGEST];
    for (size_t i = 0; i < LONGEST; i++) half[i] = (uint16_t)((i * 7919 + 13) % 0x7C00 | (i % 2 ? 0x8000u : 0u));
    for (size_t kind = 0; kind < sd_row_kinds_of(k); kind++)
        for (size_t n = 1; n <= LONGEST; n++) {
            float found[LONGEST], expected[LONGEST];
            const sd_row_kind *r = &sd_row_kinds[kind];
            const sd_row_inputs in = {x, x + LONGEST, x + 2 * LONGEST, x + 3 * LONGEST, half};
            r->run(k, found, in, n);
            r->run(&sd_kern_spec, expected, in, n);
            for (size_t i = 0; i < n; i++)
                sd_check_note(row, row_error(found[i], expected[i], k->precise ? 0 : r->bound),
                              "%s of %zu numbers: number %zu is %.9g, not %.9g", r->name, n, i, (double)found[i],
                              (double)expected[i]);
        }
}

/* ------------------------------------------------------------------------------------------ products */

enum { M = 37, N = 51, K = 77 };

enum { PLAIN, TRANSPOSED, TURNED };   /* B is [K,N]; [N,K]; the same, by gemm_turned */

/* With small whole numbers every sum is exact, however it is computed. */
static void check_products(const sd_kern *k, sd_check_row *row, int order)
{
    float a[M * K], b[K * N], bias[N], *c = malloc(M * N * sizeof *c);
    void *scratch = k->gemm_scratch ? sd_block_alloc(k->gemm_scratch) : NULL;
    for (size_t i = 0; i < M * K; i++) a[i] = (float)((int)(i * 31 % 17) - 8);
    for (size_t i = 0; i < K * N; i++) b[i] = (float)((int)(i * 29 % 15) - 7);
    for (size_t j = 0; j < N; j++) bias[j] = (float)((int)j - 20);
    bool turned = order == TURNED, b_trans = order != PLAIN;
    float *packed = turned ? sd_block_alloc((M + k->panel_columns) * K * sizeof *packed) : NULL;
    bool ready = c && (scratch || !k->gemm_scratch) && (packed || !turned);
    if (!ready) sd_check_note(row, INFINITY, "no memory for a product of whole numbers");
    if (ready && turned) {
        k->pack_panel(packed, a, K, true, NULL, M, K);
        k->gemm_turned(scratch, M, N, K, packed, b, K, NULL, c, N, bias, NULL);
    } else if (ready) {
        k->gemm(scratch, M, N, K, a, K, b, b_trans ? K : N, b_trans, NULL, c, N, bias);
    }
    for (size_t i = 0; ready && i < M; i++)
        for (size_t j = 0; j < N; j++) {
            double sum = (double)bias[j];
            for (size_t l = 0; l < K; l++) sum += (double)a[i * K + l] * (double)b[b_trans ? j * K + l : l * N + j];
            sd_check_note(row, (double)c[i * N + j] == sum ? 0 : INFINITY,
                          "product of whole numbers%s: row %zu, column %zu is %.9g, not %g",
                          turned ? ", turned" : b_trans ? ", transposed" : "", i, j, (double)c[i * N + j], sum);
        }
    sd_block_free(packed);
    sd_block_free(scratch);
    free(c);
}

sd_status sd_check_kernels(sd_selftest_run *s)
{
    float x[ROOM];
    sd_synth_fill(x, "selftest.kernels", ROOM, 2, 0, false);
    for (int i = 0; i < s->tables && !s->e->status; i++) {
        sd_check_row *row;
        if (sd_check_wanted(s, "kernels", "rows") && (row = sd_check_row_of(s, "kernels", "rows", s->table[i].name)))
            check_rows(s->table[i].kern, row, x);
        if (!sd_check_wanted(s, "kernels", "products")) continue;
        row = sd_check_row_of(s, "kernels", "products", s->table[i].name);
        for (int order = PLAIN; row && order <= TURNED; order++)
            if (order != TURNED || s->table[i].kern->gemm_turned) check_products(s->table[i].kern, row, order);
    }
    return s->e->status;
}
