/* test_spare.c - what lies above the arena's mark is working memory of a convolution while it runs: it puts its
 * transformed weights there, with the same bits; and networks keep nothing there then. */
#include "test.h"
#include "network.h"
#include "../ops_cpu.h"

/* ------------------------------------------------------------------------------- one convolution */

enum { GUARD = 0x5a };

typedef struct layer { int64_t h, w, i, o; bool enlarge; } layer;

static int64_t y_numbers(layer l) { return l.h * l.w * l.o * (l.enlarge ? 4 : 1); }

static void fill(float *x, int64_t n)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
}

/* Computes l with `spare` bytes above its tensors, into y. x_above: x lies above the mark, where its end is; the result
 * is written below it. Returns how many bytes of the spare ones were written; x must stay. */
static size_t convolve(layer l, const char *isa, const float *w, size_t spare, bool x_above, float *y)
{
    sd_error e = {0};
    /* caches so small that U is never whole in the room for parts */
    sd_cpu cpu = {.kern = sd_kern_select(isa), .threads = 2, .caches = {16 << 10, 64 << 10, 1 << 20, 64, "test"}};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    const sd_tensor weight = {.nd = 4, .dim = {l.o, l.i, 3, 3}, .dt = SD_F32, .data = (void *)(uintptr_t)w};
    int64_t inputs = l.h * l.w * l.i;
    size_t bytes = (size_t)(inputs + y_numbers(l)) * sizeof(float) + 2 * SD_ALIGN, written = 0;
    assert_int_equal(sd_reserve(&r, bytes + spare, "a test"), SD_OK);
    memset(r.arena.base, GUARD, r.arena.size);
    if (x_above) sd_new2(&r, 1, y_numbers(l));
    sd_tensor x = sd_new4(&r, 1, l.h, l.w, l.i);
    fill(sd_f32(x), inputs);
    size_t top = sd_mark(&r);
    if (x_above) sd_reset(&r, 0);
    sd_tensor out = sd_conv2d(&r, x, &weight, NULL, (sd_conv){1, 1, 1, 1, 1, l.enlarge, {0}});
    assert_int_equal(e.status, SD_OK);
    if (sd_mark(&r) > top) top = sd_mark(&r);
    memcpy(y, out.data, (size_t)y_numbers(l) * sizeof(float));
    for (size_t i = top; i < r.arena.size; i++) written += r.arena.base[i] != GUARD;
    float *again = malloc((size_t)inputs * sizeof(float));
    assert_non_null(again);
    fill(again, inputs);
    assert_memory_equal(x.data, again, (size_t)inputs * sizeof(float));
    free(again);
    sd_run_free(&r);
    return written;
}

TEST(weights_kept_in_spare_memory_change_no_bit)
{
    const layer layers[] = {{104, 72, 300, 260, false}, {60, 60, 200, 140, true}};
    const char *const tables[] = {NULL, "sse2"};
    enum { PLENTY = 64 << 20, LITTLE = 8 << 20 };
    for (size_t n = 0; n < SD_COUNT(layers) * SD_COUNT(tables); n++) {
        layer l = layers[n / SD_COUNT(tables)];
        const char *isa = tables[n % SD_COUNT(tables)];
        const sd_kern *k = sd_kern_select(isa);
        if (!k || !k->winograd) continue;   /* sse2 where there is none */
        int64_t weights = l.o * l.i * 9;
        float *w = malloc((size_t)weights * sizeof(float)), *want = malloc((size_t)y_numbers(l) * sizeof(float)),
            *y = malloc((size_t)y_numbers(l) * sizeof(float));
        assert_true(w && want && y);
        fill(w, weights);
        assert_int_equal(convolve(l, isa, w, 0, false, want), 0);
        assert_int_equal(convolve(l, isa, w, LITTLE, false, y), 0);   /* U has 11 MB */
        assert_memory_equal(y, want, (size_t)y_numbers(l) * sizeof(float));
        for (int x_above = 0; x_above < 2; x_above++) {
            assert_true(convolve(l, isa, w, PLENTY, x_above, y) > LITTLE);
            assert_memory_equal(y, want, (size_t)y_numbers(l) * sizeof(float));
        }
        free(w);
        free(want);
        free(y);
    }
}

/* ----------------------------------------------------------------------------------- the networks */

static size_t spoilt;

/* A convolution may use what lies above the mark and above its operands. One of a band does not. */
static void spoil_and_convolve(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    size_t bytes = 0;
    void *free_now = c.rows.height ? NULL : sd_spare(r, (const sd_tensor[]){x, y}, 2, &bytes);
    if (free_now) memset(free_now, 0xff, bytes);   /* NaN */
    spoilt += bytes;
    sd_backend_cpu.conv2d(r, y, x, w, b, c);
}

enum { SIDE = 8, PICTURE = 3 * 64 * 64, MOMENTS = 4 * SIDE * SIDE };
typedef struct results { float moments[2 * MOMENTS]; uint8_t picture[PICTURE]; } results;

static void draw(sd_ctx *c, results *got)
{
    static float ramp[PICTURE];
    sd_params p;
    sd_image image;
    for (int i = 0; i < PICTURE; i++) ramp[i] = (float)(i % 509) / 254 - 1;
    sd_params_init(&p);
    p.prompt = "a red apple";
    p.sampling.steps = 4;
    if (sd_generate(c, &p, &image) != SD_OK) fail_msg("%s", sd_error_text(c));
    memcpy(got->picture, image.data, sizeof got->picture);
    sd_image_free(&image);
    assert_int_equal(sd_vae_encode(c, 1, SIDE, SIDE, ramp, got->moments, got->moments + MOMENTS), SD_OK);
}

TEST(networks_keep_nothing_above_the_mark)
{
    static results want, got;
    sd_backend twin = sd_backend_cpu;
    twin.conv2d = spoil_and_convolve;
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    draw(c, &want);
    c->run.be = &twin;
    draw(c, &got);
    assert_true(spoilt > 1 << 20);
    assert_memory_equal(got.picture, want.picture, sizeof want.picture);
    assert_memory_equal(got.moments, want.moments, sizeof want.moments);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_kept_in_spare_memory_change_no_bit),
        cmocka_unit_test(networks_keep_nothing_above_the_mark),
    };
    return cmocka_run_group_tests_name("spare", tests, NULL, NULL);
}
