/* test_bands.c - a VAE in bands of rows has the bits of the whole one: by every plan, with every kernel, for any number
 * of threads; and its plans take the memory that they say. */
#include "test.h"
#include "../bands.h"
#include "../ops_cpu.h"

static uint32_t state = 1;
static float rnd(void)   /* about N(0,1/3) */
{
    state = state * 1664525u + 1013904223u;
    return (float)((double)(state >> 8) / (1 << 23) - 1);
}

/* ---- a small VAE with weights that lie in memory */

typedef struct small {
    sd_error err;
    sd_cpu cpu;
    sd_run run;
    sd_vae vae;
    sd_binder b;
    float **numbers;
} small;

static const sd_vae_config usual = {
    .in_channels = 3, .out_channels = 3, .latent_channels = 4, .levels = 3, .channels = {32, 64, 64}, .layers = 2,
    .groups = 8, .mid_attention = true, .quant_conv = true, .post_quant_conv = true};
static const sd_vae_config odd = {   /* no Winograd, runs of channels that vectors do not divide */
    .in_channels = 3, .out_channels = 5, .latent_channels = 3, .levels = 2, .channels = {10, 15}, .layers = 1,
    .groups = 5};

/* Weights of a size that keeps the numbers near 1. */
static void small_open(small *s, const sd_vae_config *c)
{
    memset(s, 0, sizeof *s);
    s->b.err = &s->err;
    assert_int_equal(sd_vae_walk(&s->vae, c, &s->err), SD_OK);
    assert_int_equal(sd_vae_bind(&s->vae, &s->b), SD_OK);
    s->numbers = calloc(s->b.n_weights, sizeof *s->numbers);
    for (size_t i = 0; i < s->b.n_weights; i++) {
        sd_tensor *w = s->b.weight[i].field;
        size_t n = (size_t)sd_numel(w), inputs = w->nd > 1 ? n / (size_t)w->dim[0] : 0;
        s->numbers[i] = malloc(n * sizeof(float));
        for (size_t k = 0; k < n; k++) s->numbers[i][k] = inputs ? rnd() * 3 / (float)(inputs / 8 + 4) : 1 + rnd() / 2;
        w->data = s->numbers[i];
        w->dt = SD_F32;
    }
    s->run = (sd_run){.err = &s->err, .be = &sd_backend_cpu, .device = &s->cpu};
}

static void small_close(small *s)
{
    for (size_t i = 0; i < s->b.n_weights; i++) free(s->numbers[i]);
    free(s->numbers);
    sd_run_free(&s->run);
    sd_vae_free(&s->vae);
    sd_binder_free(&s->b);
}

static void compute_with(small *s, const sd_kern *k, int threads)
{
    sd_run_free(&s->run);
    s->cpu = (sd_cpu){.kern = k, .threads = threads};
}

static float *random_numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = rnd();
    return x;
}

/* The network's result for x [N,C,H,W], with at most so much memory. */
static float *result(small *s, const sd_net *net, const int64_t dim[4], const float *x, size_t budget, sd_bands *b,
                     size_t *count)
{
    if (sd_bands_plan(b, &s->run, net, dim, budget, &s->err)) fail_msg("%s", s->err.text);
    if (sd_reserve(&s->run, b->bytes, "a test")) fail_msg("%s", s->err.text);
    sd_tensor in = sd_new_from_nchw(&s->run, dim[0], dim[3], dim[1], dim[2], x);
    sd_tensor y = sd_bands_forward(&s->run, net, b, in);
    if (s->err.status) fail_msg("%s", s->err.text);
    *count = (size_t)sd_numel(&y);
    float *out = malloc(*count * sizeof *out);
    sd_download_channels_first(&s->run, y, out);
    sd_reset(&s->run, 0);
    return out;
}

static size_t rehearsed(const sd_net *net, const int64_t dim[4], sd_bands *b)
{
    sd_error e = {0};
    sd_run dry = {.err = &e, .be = &sd_backend_null};
    sd_bands_forward(&dry, net, b, sd_new4(&dry, dim[0], dim[1], dim[2], dim[3]));
    assert_int_equal(e.status, SD_OK);
    return dry.arena.peak;
}

/* From the memory of the whole network down to the least. Returns how many plans differed in memory. */
static int same_by_every_plan(small *s, const sd_net *net, int64_t h, int64_t w, int64_t c)
{
    const int64_t dim[] = {1, h, w, c};
    float *x = random_numbers((size_t)(h * w * c));
    size_t n, m, last = 0;
    int plans = 0;
    sd_bands b;
    float *whole = result(s, net, dim, x, SIZE_MAX, &b, &n);
    assert_null(b.piece);
    for (size_t budget = b.bytes - 1; budget > 0; budget -= budget / 8 + 1) {
        sd_bands_free(&b);
        float *y = result(s, net, dim, x, budget, &b, &m);
        assert_int_equal(m, n);
        if (memcmp(y, whole, n * sizeof *y) != 0) fail_msg("%zu bytes: other bits", b.bytes);
        free(y);
        assert_int_equal(rehearsed(net, dim, &b), b.bytes);
        assert_true(b.in_bands > 0);
        plans += b.bytes != last;
        last = b.bytes;
        if (b.bytes > budget) break;   /* the least */
    }
    sd_bands_free(&b);
    free(whole);
    free(x);
    return plans;
}

static void for_kernels(const sd_vae_config *c, void (*fn)(small *s))
{
    static const char *const names[] = {"scalar", "sse2", "avx2", "avx512", "neon"};
    small s;
    small_open(&s, c);
    for (size_t i = 0; i <= SD_COUNT(names); i++) {
        const sd_kern *k = i < SD_COUNT(names) ? sd_kern_select(names[i]) : sd_kern_select_precise(NULL);
        if (!k || (i < SD_COUNT(names) && strcmp(k->name, names[i]) != 0)) continue;
        compute_with(&s, k, i % 2 ? 3 : 1);
        fn(&s);
    }
    small_close(&s);
}

static void decode_and_encode(small *s)
{
    assert_true(same_by_every_plan(s, &s->vae.decoder, 61, 13, 4) >= 5);
    assert_true(same_by_every_plan(s, &s->vae.encoder, 244, 52, 3) >= 5);
}

static void decode_and_encode_odd(small *s)
{
    assert_true(same_by_every_plan(s, &s->vae.decoder, 37, 9, 3) >= 3);
    assert_true(same_by_every_plan(s, &s->vae.encoder, 58, 22, 3) >= 3);
}

TEST(every_plan_has_the_bits_of_the_whole_vae) { for_kernels(&usual, decode_and_encode); }
TEST(odd_sizes_and_channels_have_the_same_bits_too) { for_kernels(&odd, decode_and_encode_odd); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_plan_has_the_bits_of_the_whole_vae),
        cmocka_unit_test(odd_sizes_and_channels_have_the_same_bits_too),
    };
    return cmocka_run_group_tests_name("bands", tests, NULL, NULL);
}
