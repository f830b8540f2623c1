/* test_spare.c - what lies above the arena's mark is working memory of a convolution while it runs: it puts its
 * transformed weights there, with the same bits; and networks keep nothing there then. */
#include "test.h"
#include "network.h"
#include "provider.h"
#include "../ops_cpu.h"

/* ------------------------------------------------------------------------------- one convolution */

enum { GUARD = 0x5a };

typedef struct layer { int64_t h, w, i, o; bool enlarge; } layer;

static int64_t x_numbers(layer l) { return l.h * l.w * l.i; }
static int64_t w_numbers(layer l) { return l.o * l.i * 9; }
static int64_t y_numbers(layer l) { return l.h * l.w * l.o * (l.enlarge ? 4 : 1); }

static float *numbers_drawn(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    fill(x, (size_t)n);
    return x;
}

/* Computes l with `spare` bytes above its tensors, into y. x_above: x lies above the mark, where its end is; the result
 * is written below it. Returns how many bytes of the spare ones were written; x must stay. */
static size_t convolve(layer l, const char *isa, const float *numbers, const float *w, size_t spare, bool x_above,
                       float *y)
{
    sd_error e = {0};
    /* planes outside, for L2 is large; and an L3 so small that U is never whole in the room for parts */
    sd_cpu cpu = {.kern = sd_kern_select(isa), .threads = 2, .caches = {16 << 10, 1 << 20, 1 << 20, 64, "test"}};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    const sd_tensor weight = {.nd = 4, .dim = {l.o, l.i, 3, 3}, .dt = SD_F32, .data = (void *)(uintptr_t)w};
    size_t x_bytes = (size_t)x_numbers(l) * sizeof(float), y_bytes = (size_t)y_numbers(l) * sizeof(float), written = 0;
    assert_int_equal(sd_reserve(&r, x_bytes + y_bytes + 2 * SD_ALIGN + spare, "a test"), SD_OK);
    memset(r.arena.base, GUARD, r.arena.size);
    if (x_above) sd_new2(&r, 1, y_numbers(l));
    sd_tensor x = sd_new4(&r, 1, l.h, l.w, l.i);
    memcpy(x.data, numbers, x_bytes);
    size_t top = sd_mark(&r);
    if (x_above) sd_reset(&r, 0);
    sd_tensor out = sd_conv2d(&r, x, &weight, NULL, (sd_conv){1, 1, 1, 1, 1, l.enlarge, {0}});
    assert_int_equal(e.status, SD_OK);
    if (sd_mark(&r) > top) top = sd_mark(&r);
    memcpy(y, out.data, y_bytes);
    for (size_t i = top; i < r.arena.size; i++) written += r.arena.base[i] != GUARD;
    assert_memory_equal(x.data, numbers, x_bytes);
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
        if (!k) continue;   /* sse2 where there is none */
        size_t y_bytes = (size_t)y_numbers(l) * sizeof(float);
        float *x = numbers_drawn(x_numbers(l)), *w = numbers_drawn(w_numbers(l)), *want = malloc(y_bytes),
            *y = malloc(y_bytes);
        assert_true(want && y);
        assert_int_equal(convolve(l, isa, x, w, 0, false, want), 0);
        assert_int_equal(convolve(l, isa, x, w, LITTLE, false, y), 0);   /* U has 11 MB */
        assert_memory_equal(y, want, y_bytes);
        for (int x_above = 0; x_above < 2; x_above++) {
            assert_true(convolve(l, isa, x, w, PLENTY, x_above, y) > LITTLE);
            assert_memory_equal(y, want, y_bytes);
        }
        free(x);
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

TEST(networks_keep_nothing_above_the_mark)
{
    static float want[2 * ENCODED], got[2 * ENCODED];
    sd_backend twin = sd_backend_cpu;
    twin.conv2d = spoil_and_convolve;
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    sd_image before = draw_and_encode(c, want);
    c->run.be = &twin;
    sd_image after = draw_and_encode(c, got);
    assert_true(spoilt > 1 << 20);
    assert_int_equal(after.width, before.width);
    assert_int_equal(after.height, before.height);
    assert_memory_equal(after.data, before.data, 3 * (size_t)before.width * (size_t)before.height);
    assert_memory_equal(got, want, sizeof want);
    sd_image_free(&before);
    sd_image_free(&after);
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
