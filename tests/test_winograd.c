/* test_winograd.c - the minimal 3x3 convolution of every instruction set: error against double held to that of a
 * published direct convolution, any size, any weight type, and the same bits for any number of threads and any company
 * in the batch. */
#include <math.h>

#include "test.h"
#include "../ops_cpu.h"

static uint32_t state = 1;
static double uniform(void)
{
    state = state * 1664525u + 1013904223u;
    return ((state >> 8) + 0.5) / (1 << 24);
}
static void gaussian(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double radius = sqrt(-2 * log(uniform()));
        x[i] = (float)(radius * cos(6.283185307179586 * uniform()));
    }
}

static const char *const tables[] = {"scalar", "sse2", "avx2", "avx512", "neon"};
static const sd_conv conv3 = {1, 1, 1, 1, 1, false, {0}};

typedef struct layer { int64_t n, h, w, i, o, zoom; } layer;   /* zoom 2: of the picture enlarged to twice its size */
typedef struct numbers { float *x, *w, *bias; } numbers;

static size_t x_size(layer l) { return (size_t)(l.n * l.h * l.w * l.i); }
static size_t y_size(layer l) { return (size_t)(l.n * l.h * l.w * l.o * l.zoom * l.zoom); }
static size_t w_size(layer l) { return (size_t)(l.o * l.i * 9); }

static void *room(size_t bytes)
{
    void *p = malloc(bytes);
    assert_non_null(p);
    return p;
}

static numbers draw(layer l)
{
    numbers d = {room(x_size(l) * 4), room(w_size(l) * 4), room((size_t)l.o * 4)};
    gaussian(d.x, x_size(l));
    gaussian(d.w, w_size(l));
    gaussian(d.bias, (size_t)l.o);
    return d;
}
static void drop(numbers d)
{
    free(d.x);
    free(d.w);
    free(d.bias);
}

/* Output pixel (y, x, o) of picture n in double */
static double truth_at(layer l, numbers d, int64_t n, int64_t y, int64_t x, int64_t o)
{
    double s = d.bias[o];
    for (int64_t ky = 0; ky < 3; ky++)
        for (int64_t kx = 0; kx < 3; kx++) {
            int64_t iy = y + ky - 1, ix = x + kx - 1;
            if (iy < 0 || iy >= l.zoom * l.h || ix < 0 || ix >= l.zoom * l.w) continue;
            const float *pixel = d.x + ((n * l.h + iy / l.zoom) * l.w + ix / l.zoom) * l.i,
                *tap = d.w + o * l.i * 9 + ky * 3 + kx;
            for (int64_t i = 0; i < l.i; i++) s += (double)pixel[i] * tap[i * 9];
        }
    return s;
}

/* y = conv(x); w of type dt. *scratch: the bytes it took */
static float *convolve_on(sd_cpu *cpu, layer l, const float *x, const void *w, sd_dtype dt, const float *bias,
                          bool must_be_winograd, size_t *scratch)
{
    sd_error err = {0};
    sd_run r = {.err = &err, .be = &sd_backend_cpu, .device = cpu};
    assert_int_equal(sd_reserve(&r, (x_size(l) + y_size(l)) * 4 + 4096, "a test"), SD_OK);
    sd_conv c = conv3;
    c.enlarge = l.zoom == 2;
    sd_tensor in = sd_new4(&r, l.n, l.h, l.w, l.i);
    assert_int_equal(err.status, SD_OK);
    sd_tensor weight = {.nd = 4, .dim = {l.o, l.i, 3, 3}, .dt = dt}, tb = {.nd = 1, .dim = {l.o}};
    memcpy(in.data, x, x_size(l) * 4);
    weight.data = (void *)(uintptr_t)w;
    tb.data = (void *)(uintptr_t)bias;
    if (must_be_winograd)
        assert_int_equal(sd_conv_choose(cpu->kern, in.dim, weight.dim, c), c.enlarge ? SD_CONV_WINOGRAD_ENLARGED
                         : SD_CONV_WINOGRAD);
    sd_tensor out = sd_conv2d(&r, in, &weight, &tb, c);
    assert_int_equal(err.status, SD_OK);
    float *y = room(y_size(l) * 4);
    memcpy(y, out.data, y_size(l) * 4);
    *scratch = cpu->scratch_size;
    sd_run_free(&r);
    return y;
}

/* The same with a table. NULL where the machine cannot run it. */
static float *convolve_with(sd_cache_sizes caches, const char *isa, layer l, const float *x, const void *w, sd_dtype dt,
                            const float *bias, int threads, bool must_be_winograd)
{
    sd_cpu cpu = {.kern = sd_kern_select(isa), .threads = threads, .caches = caches};
    size_t scratch;
    return cpu.kern ? convolve_on(&cpu, l, x, w, dt, bias, must_be_winograd, &scratch) : NULL;
}

/* An L2 that is unknown, and so counts as small, and a large one: loops then have other orders, see choose_order. */
static const sd_cache_sizes orders[] = {{0}, {32 << 10, 2 << 20, 32 << 20, 64, "test"}};

static float *convolve(const char *isa, layer l, const float *x, const void *w, sd_dtype dt, const float *bias,
                       int threads, bool must_be_winograd)
{
    return convolve_with((sd_cache_sizes){0}, isa, l, x, w, dt, bias, threads, must_be_winograd);
}

static double error(layer l, numbers d, const float *y)
{
    double miss = 0, size = 0;
    for (int64_t n = 0; n < l.n; n++)
        for (int64_t v = 0; v < l.zoom * l.h; v++)
            for (int64_t u = 0; u < l.zoom * l.w; u++)
                for (int64_t o = 0; o < l.o; o++) {
                    double t = truth_at(l, d, n, v, u, o), e = y[((n * l.zoom * l.h + v) * l.zoom * l.w + u) * l.o + o]
                        - t;
                    miss += e * e;
                    size += t * t;
                }
    return sqrt(miss / size);
}

/* PyTorch 2.13's direct convolution of Gaussian numbers has a relative error of 6.0e-7, 9.5e-7 and 1.9e-6 at 128, 320
 * and 1280 channels (measured, float32, against float64); 1.5 times this is allowed. */
TEST(error_is_that_of_a_published_direct_convolution)
{
    const struct { layer l; double torch; } cases[] = {
        {{1, 20, 24, 128, 16, 1}, 6.0e-7}, {{1, 20, 24, 128, 16, 2}, 6.0e-7}, {{1, 12, 12, 1280, 16, 2}, 1.9e-6},
            {{2, 8, 12, 320, 32, 1}, 9.5e-7}, {{1, 8, 8, 1280, 16, 1}, 1.9e-6}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        numbers d = draw(cases[i].l);
        for (size_t t = 0; t < SD_COUNT(tables); t++) {
            float *y = convolve(tables[t], cases[i].l, d.x, d.w, SD_F32, d.bias, 2, true);
            if (!y) continue;
            double e = error(cases[i].l, d, y);
            print_message("%s, %d channels: %.2e, %.2f of the direct convolution's\n", tables[t], (int)cases[i].l.i, e,
                          e / cases[i].torch);
            assert_true(e <= 1.5 * cases[i].torch);
            free(y);
        }
        drop(d);
    }
}

/* Sizes that no tile divides, channels that no vector divides, more output channels than one task takes, more input
 * channels than one block; tiles, strips or planes in the outer loop. */
TEST(any_size_is_the_textbook_sum)
{
    const layer cases[] = {{1, 21, 19, 37, 45, 1}, {2, 9, 30, 70, 17, 1}, {3, 8, 8, 65, 33, 1}, {1, 66, 12, 32, 3, 1},
                           {1, 8, 9, 330, 20, 1}, {1, 9, 7, 70, 300, 1},
                           {1, 21, 19, 37, 45, 2}, {2, 9, 15, 70, 17, 2}, {1, 33, 12, 32, 3, 2},
                               {1, 13, 12, 330, 20, 2}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        layer l = cases[i];
        numbers d = draw(l);
        for (size_t t = 0; t < SD_COUNT(tables); t++) {
            for (size_t c = 0; c < SD_COUNT(orders); c++) {
                float *y = convolve_with(orders[c], tables[t], l, d.x, d.w, SD_F32, d.bias, 2, true);
                if (!y) continue;
                assert_true(error(l, d, y) < 1.1e-6);
                free(y);
            }
        }
        drop(d);
    }
}

/* Wrong twin: a convolution that wraps round, or repeats the edge, in place of zeros differs at the edge alone. */
TEST(zeros_surround_the_picture)
{
    layer l = {1, 12, 12, 32, 16, 1};
    numbers d = draw(l);
    float *y = convolve(NULL, l, d.x, d.w, SD_F32, d.bias, 1, true);
    assert_non_null(y);
    layer taller = {1, 14, 14, 32, 16, 1};   /* the edge repeated, its inner 12x12 pixels compared */
    numbers wrong = {room(x_size(taller) * 4), d.w, d.bias};
    for (int64_t v = 0; v < 14; v++)
        for (int64_t u = 0; u < 14; u++) {
            int64_t from_v = v < 1 ? 0 : v > 12 ? 11 : v - 1, from_u = u < 1 ? 0 : u > 12 ? 11 : u - 1;
            memcpy(wrong.x + (v * 14 + u) * 32, d.x + (from_v * 12 + from_u) * 32, 32 * 4);
        }
    double miss = 0, size = 0;
    for (int64_t v = 0; v < 12; v++)
        for (int64_t u = 0; u < 12; u++) {
            double t = truth_at(taller, wrong, 0, v + 1, u + 1, 0), e = y[(v * 12 + u) * 16] - t;
            miss += e * e;
            size += t * t;
        }
    assert_true(sqrt(miss / size) > 0.1);
    free(wrong.x);
    free(y);
    drop(d);
}

/* With one channel of small integers the input's transform is exact, and what is left is the weights' one rounding, the
 * product's and the output's transform. */
TEST(one_channel_at_a_time_is_nearly_exact)
{
    layer l = {1, 12, 12, 32, 16, 1};
    numbers d = draw(l);
    for (int64_t p = 0; p < 144; p++)
        for (int64_t i = 0; i < 32; i++) d.x[p * 32 + i] = i == 5 ? (float)(p * 7 % 31 - 15) : 0.0f;
    for (size_t j = 0; j < w_size(l); j++) d.w[j] = (float)((int)(j * 11 % 17) - 8);
    for (size_t t = 0; t < SD_COUNT(tables); t++) {
        float *y = convolve(tables[t], l, d.x, d.w, SD_F32, d.bias, 1, true);
        if (!y) continue;
        double e = error(l, d, y);
        print_message("%s, one channel: %.2e\n", tables[t], e);
        assert_true(e < 6e-7);
        free(y);
    }
    drop(d);
}

static void compare_bits(int64_t zoom)
{
    const int threads[] = {2, 3, 7};
    layer l = {3, 18, 22, 96, 72, zoom}, one = {1, 18, 22, 96, 72, zoom};
    numbers d = draw(l);
    for (size_t t = 0; t < SD_COUNT(tables); t++) {
        float *y = convolve(tables[t], l, d.x, d.w, SD_F32, d.bias, 1, true);
        if (!y) continue;
        for (size_t i = 0; i < SD_COUNT(threads); i++) {
            float *other = convolve(tables[t], l, d.x, d.w, SD_F32, d.bias, threads[i], true);
            assert_memory_equal(y, other, y_size(l) * 4);
            free(other);
        }
        for (size_t n = 0; n < 3; n++) {
            float *alone = convolve(tables[t], one, d.x + n * x_size(one), d.w, SD_F32, d.bias, 2, true);
            assert_memory_equal(y + n * y_size(one), alone, y_size(one) * 4);
            free(alone);
        }
        free(y);
    }
    drop(d);
}

TEST(bits_do_not_depend_on_threads_or_company)
{
    compare_bits(1);
    compare_bits(2);
}

/* Caches decide which loop is the outer one, and how many channels and tiles are taken at a time: here all, some, or
 * the fewest, with several bands. */
TEST(bits_do_not_depend_on_caches)
{
    const sd_cache_sizes caches[] = {{0}, {16 << 10, 64 << 10, 0, 64, "test"},
                                     {32 << 10, 512 << 10, 1 << 20, 64, "test"},
                                     {48 << 10, 2 << 20, 36 << 20, 64, "test"},
                                         {32 << 10, 1 << 20, 256 << 20, 64, "test"}};
    const layer layers[] = {{1, 68, 60, 330, 360, 1}, {1, 36, 36, 330, 72, 2}, {1, 20, 16, 270, 100, 1},
                            {1, 36, 36, 270, 300, 1}, {1, 52, 48, 70, 520, 2}, {1, 12, 8, 70, 300, 2}};
    for (size_t i = 0; i < SD_COUNT(layers); i++) {
        layer l = layers[i];
        numbers d = draw(l);
        for (size_t t = 0; t < SD_COUNT(tables); t++) {
            float *y = convolve_with(caches[0], tables[t], l, d.x, d.w, SD_F32, d.bias, 1, true);
            for (size_t c = 0; y && c < SD_COUNT(caches); c++) {
                const int threads[] = {2, 7, 3, 1, 2};   /* too few strips for seven: planes outside */
                float *other = convolve_with(caches[c], tables[t], l, d.x, d.w, SD_F32, d.bias, threads[c], true);
                assert_memory_equal(y, other, y_size(l) * 4);
                free(other);
            }
            free(y);
        }
        drop(d);
    }
}

/* The bytes of scratch that a convolution takes once both orders have these times, in seconds. settled: it is not timed
 * again. */
static size_t scratch_of(const sd_cpu *tried, const double seconds[2], int tries, bool settled, layer l, numbers d,
                         const float *y)
{
    sd_cpu cpu = *tried;
    size_t scratch;
    sd_conv_times *t = cpu.times;
    memcpy(t->least, seconds, sizeof t->least);
    t->tries[0] = t->tries[1] = tries;
    float *again = convolve_on(&cpu, l, d.x, d.w, SD_F32, d.bias, true, &scratch);
    assert_memory_equal(y, again, y_size(l) * 4);
    assert_int_equal(cpu.shapes, 1);
    assert_int_equal(t->tries[0] + t->tries[1], 2 * tries + !settled);
    free(again);
    return scratch;
}

/* Two orders take turns, then the faster one stays. They differ in the scratch that they take. */
TEST(of_two_orders_the_faster_one_stays)
{
    const layer l = {1, 68, 60, 330, 360, 1};
    numbers d = draw(l);
    for (size_t i = 0; i < SD_COUNT(orders); i++) {
        sd_cpu cpu = {.kern = sd_kern_select(NULL), .threads = 2, .caches = orders[i]};
        size_t taken[5];
        float *y = convolve_on(&cpu, l, d.x, d.w, SD_F32, d.bias, true, &taken[0]);
        const sd_conv_times *t = cpu.times;
        int guess = t->tries[1];
        assert_int_equal(guess, i == 0);   /* an unknown L2 counts as small */
        assert_int_equal(t->tries[0] + t->tries[1], 1);
        for (size_t turn = 1; turn < SD_COUNT(taken); turn++) {
            float *again = convolve_on(&cpu, l, d.x, d.w, SD_F32, d.bias, true, &taken[turn]);
            assert_memory_equal(y, again, y_size(l) * 4);
            free(again);
        }
        assert_int_equal(cpu.shapes, 1);
        assert_int_equal(t->tries[0], t->tries[1]);
        assert_in_range(t->tries[0], 1, 2);
        assert_true(t->least[0] > 0 && t->least[1] > 0);
        assert_int_not_equal(taken[0], taken[1]);
        double wins[2], loses[2], nearly[2] = {1, 1}, still[2] = {0, 0};   /* still: a clock that does not move */
        wins[guess] = loses[!guess] = 1;
        wins[!guess] = loses[guess] = 2;
        nearly[guess] = 1.01;
        assert_int_equal(scratch_of(&cpu, wins, 2, true, l, d, y), taken[0]);
        assert_int_equal(scratch_of(&cpu, loses, 2, true, l, d, y), taken[1]);
        assert_int_equal(scratch_of(&cpu, nearly, 2, true, l, d, y), taken[1]);
        assert_int_equal(scratch_of(&cpu, still, 2, true, l, d, y), taken[0]);
        /* After one turn each: the guess's was slow as any first one may be, and it has another. */
        assert_int_equal(scratch_of(&cpu, wins, 1, true, l, d, y), taken[0]);
        assert_int_equal(scratch_of(&cpu, loses, 1, false, l, d, y), taken[0]);
        assert_int_equal(scratch_of(&cpu, nearly, 1, false, l, d, y), taken[0]);
        sd_cpu full = {.kern = cpu.kern, .threads = 2, .caches = orders[i], .shapes = SD_COUNT(full.times)};
        float *again = convolve_on(&full, l, d.x, d.w, SD_F32, d.bias, true, &taken[1]);
        assert_memory_equal(y, again, y_size(l) * 4);
        assert_int_equal(taken[1], taken[0]);   /* no room for one more shape: the guess */
        assert_int_equal(full.shapes, SD_COUNT(full.times));
        free(again);
        free(y);
    }
    drop(d);
}

/* Small pictures are enlarged on the way by the other algorithms: the bits of the picture enlarged before. */
TEST(enlarging_on_the_way_changes_no_bit)
{
    layer l = {2, 5, 3, 40, 24, 2}, large = {2, 10, 6, 40, 24, 1};
    numbers d = draw(l);
    float *x = room(x_size(large) * 4);
    for (int64_t p = 0; p < large.n * large.h * large.w; p++) {
        int64_t n = p / 60, v = p / 6 % 10, u = p % 6;
        memcpy(x + p * l.i, d.x + ((n * l.h + v / 2) * l.w + u / 2) * l.i, (size_t)l.i * 4);
    }
    for (size_t t = 0; t < SD_COUNT(tables); t++) {
        float *a = convolve(tables[t], l, d.x, d.w, SD_F32, d.bias, 2, false),
            *b = convolve(tables[t], large, x, d.w, SD_F32, d.bias, 2, false);
        if (a) assert_memory_equal(a, b, y_size(l) * 4);
        free(a);
        free(b);
    }
    free(x);
    drop(d);
}

/* Wrong twin: the phases the wrong way round are another picture. */
TEST(phases_have_their_places)
{
    layer l = {1, 12, 12, 32, 16, 2};
    numbers d = draw(l);
    float *y = convolve(NULL, l, d.x, d.w, SD_F32, d.bias, 1, true);
    for (size_t p = 0; p < 24 * 24; p += 2)
        for (size_t o = 0; o < 16; o++) {
            float even = y[p * 16 + o];
            y[p * 16 + o] = y[(p + 1) * 16 + o];
            y[(p + 1) * 16 + o] = even;
        }
    assert_true(error(l, d, y) > 0.1);
    free(y);
    drop(d);
}

TEST(sixteen_bit_weights_give_the_bits_of_their_values)
{
    layer l = {1, 12, 8, 130, 40, 1};
    numbers d = draw(l);
    unsigned char *half = room(w_size(l) * 2 + 1);   /* at an odd address */
    float *wide = room(w_size(l) * 4);
    for (int brain = 0; brain < 2; brain++) {
        for (size_t i = 0; i < w_size(l); i++) {
            uint32_t bits;
            memcpy(&bits, &d.w[i], 4);
            uint16_t h = brain ? (uint16_t)(bits >> 16)
                : (uint16_t)(0x3000u + bits % 0x0bffu + (bits & 0x80000000u ? 0x8000u : 0));
            memcpy(half + 1 + 2 * i, &h, 2);
            wide[i] = brain ? sdk_bfloat_to_float(h) : sdk_half_to_float(h);
        }
        float *a = convolve(NULL, l, d.x, wide, SD_F32, d.bias, 2, true);
        float *b = convolve(NULL, l, d.x, half + 1, brain ? SD_BF16 : SD_F16, d.bias, 2, true);
        assert_memory_equal(a, b, y_size(l) * 4);
        free(a);
        free(b);
    }
    free(half);
    free(wide);
    drop(d);
}

TEST(the_choice_follows_the_shape)
{
    const sd_kern *k = sd_kern_select(NULL);
    assert_non_null(k->winograd);
    const struct { int64_t h, w, i, o, side; sd_conv c; sd_conv_kind how; } cases[] = {
        {64, 64, 320, 320, 3, {1, 1, 1, 1, 1, false, {0}}, SD_CONV_WINOGRAD},
            {16, 16, 2560, 1280, 3, {1, 1, 1, 1, 1, false, {0}}, SD_CONV_WINOGRAD},
        {64, 64, 320, 320, 3, {2, 1, 1, 1, 1, false, {0}}, SD_CONV_UNFOLD},
            {512, 512, 128, 128, 3, {1, 1, 1, 1, 1, false, {0}}, SD_CONV_WINOGRAD},
        {64, 64, 4, 320, 3, {1, 1, 1, 1, 1, false, {0}}, SD_CONV_UNFOLD},
            {512, 512, 128, 3, 3, {1, 1, 1, 1, 1, false, {0}}, SD_CONV_WINOGRAD},
        {64, 64, 320, 320, 3, {1, 0, 0, 1, 1, false, {0}}, SD_CONV_UNFOLD},
            {64, 64, 320, 320, 1, {1, 0, 0, 0, 0, false, {0}}, SD_CONV_LINEAR},
        {4, 4, 1280, 1280, 3, {1, 1, 1, 1, 1, false, {0}}, SD_CONV_UNFOLD},
        {256, 256, 256, 256, 3, {1, 1, 1, 1, 1, true, {0}}, SD_CONV_WINOGRAD_ENLARGED},
        {32, 32, 640, 640, 3, {1, 1, 1, 1, 1, true, {0}}, SD_CONV_WINOGRAD_ENLARGED},
        {16, 16, 1280, 1280, 3, {1, 1, 1, 1, 1, true, {0}}, SD_CONV_WINOGRAD_ENLARGED},
        {8, 8, 1280, 1280, 3, {1, 1, 1, 1, 1, true, {0}}, SD_CONV_WINOGRAD},
        {2, 2, 1280, 1280, 3, {1, 1, 1, 1, 1, true, {0}}, SD_CONV_UNFOLD},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        int64_t x[4] = {1, cases[i].h, cases[i].w, cases[i].i},
            w[4] = {cases[i].o, cases[i].i, cases[i].side, cases[i].side};
        assert_int_equal(sd_conv_choose(k, x, w, cases[i].c), cases[i].how);
        sd_conv_kind precise = cases[i].how != SD_CONV_LINEAR ? SD_CONV_UNFOLD : cases[i].how;
        /* the specification stays the plain sum */
        assert_int_equal(sd_conv_choose(&sd_kern_spec, x, w, cases[i].c), precise);
        x[0] = 8;
        assert_int_equal(sd_conv_choose(k, x, w, cases[i].c), cases[i].how);
    }
    const int64_t y[4] = {1, 64, 62, 320};
    sd_conv_how four = sd_conv_kind_describe(SD_CONV_WINOGRAD, y),
        eight = sd_conv_kind_describe(SD_CONV_WINOGRAD_ENLARGED, y), plain = sd_conv_kind_describe(SD_CONV_UNFOLD, y);
    assert_string_equal(four.name, "winograd F(4x4,3x3)");
    assert_string_equal(eight.name, "phases F(4x4,2x2)");
    assert_true(fabs(four.share - 36.0 * 16 * 16 / (9 * 64 * 62)) < 1e-12);
    assert_true(fabs(eight.share - 100.0 * 8 * 8 / (9 * 64 * 62)) < 1e-12);
    assert_true(plain.share == 1);
}

/* Nothing, a part of a line, one line for each tile, more than there are tiles. */
TEST(fetching_ahead_changes_no_bit)
{
    static const size_t ahead_of[][SDK_AHEAD] = {{0, 0}, {3, 0}, {0, 1024}, {1500, 20}};
    enum { ROWS = 29, DEPTH = 37, WIDEST = 64 };
    static float a[ROWS * SDK_PANEL], b[DEPTH * WIDEST];
    gaussian(a, SD_COUNT(a));
    gaussian(b, SD_COUNT(b));
    for (size_t n = 0; n < SD_COUNT(ahead_of) * SD_COUNT(tables); n++) {
        const sd_kern *k = sd_kern_select(tables[n % SD_COUNT(tables)]);
        if (!k || !k->panel) continue;
        const size_t *numbers_of = ahead_of[n / SD_COUNT(tables)], width = k->panel_columns;
        const sdk_ahead ahead[SDK_AHEAD] = {{b, numbers_of[0]}, {a, numbers_of[1]}};
        float want[ROWS * WIDEST] = {0}, c[ROWS * WIDEST] = {0};
        for (int again = 0; again < 2; again++) {
            k->panel(ROWS, width, DEPTH, a, b, want, width, again);
            k->panel_ahead(ROWS, width, DEPTH, a, b, c, width, again, ahead);
        }
        assert_memory_equal(c, want, sizeof c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_is_that_of_a_published_direct_convolution),
        cmocka_unit_test(any_size_is_the_textbook_sum),
        cmocka_unit_test(zeros_surround_the_picture),
        cmocka_unit_test(one_channel_at_a_time_is_nearly_exact),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_company),
        cmocka_unit_test(bits_do_not_depend_on_caches),
        cmocka_unit_test(of_two_orders_the_faster_one_stays),
        cmocka_unit_test(enlarging_on_the_way_changes_no_bit),
        cmocka_unit_test(phases_have_their_places),
        cmocka_unit_test(sixteen_bit_weights_give_the_bits_of_their_values),
        cmocka_unit_test(fetching_ahead_changes_no_bit),
        cmocka_unit_test(the_choice_follows_the_shape),
    };
    return cmocka_run_group_tests_name("winograd", tests, NULL, NULL);
}
