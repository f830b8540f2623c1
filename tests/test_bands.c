/* test_bands.c - a VAE in bands of rows has the bits of the whole one: by every plan, with every kernel, for any number
 * of threads, and on a device; and its plans take the memory that they say. */
#include "test.h"
#include "../bands.h"
#include "../ops_cpu.h"
#include "context.h"
#include "needs.h"
#include "provider.h"

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

/* With more threads the L2 cache is a large one, too: convolutions then have another order of work. */
static void compute_with(small *s, const sd_kern *k, int threads)
{
    sd_run_free(&s->run);
    s->cpu = (sd_cpu){.kern = k, .threads = threads, .caches = {.l2 = threads > 1 ? 2 << 20 : 0}};
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

/* From the memory of the whole network down to the least, in steps of an eighth; of a half where that is
 * slow. Returns how many plans differed in memory. */
static int same_by_every_plan(small *s, const sd_net *net, int64_t h, int64_t w, int64_t c)
{
    const int64_t dim[] = {1, h, w, c};
    float *x = random_numbers((size_t)(h * w * c));
    size_t n, m, last = 0;
    int plans = 0;
    sd_bands b;
    float *whole = result(s, net, dim, x, SIZE_MAX, &b, &n);
    assert_null(b.piece);
    for (size_t budget = b.bytes - 1; budget > 0; budget -= budget / (cases_are_slow() ? 2 : 8) + 1) {
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
    for (int k = next_provider(BLAS); k < PROVIDERS; k = next_provider(k)) {
        sd_run_free(&s.run);
        s.run = run_of(k, &s.cpu, 1, &s.err);
        fn(&s);
    }
    for (size_t i = 0; i <= SD_COUNT(names) && !on_device(); i++) {
        const sd_kern *k = i < SD_COUNT(names) ? sd_kern_select(names[i]) : sd_kern_select_precise(NULL);
        if (!k || (i < SD_COUNT(names) && strcmp(k->name, names[i]) != 0)) continue;
        compute_with(&s, k, i % 2 ? 3 : 1);
        fn(&s);
    }
    small_close(&s);
}

static void decode_and_encode(small *s)
{
    int least = cases_are_slow() ? 2 : 5;
    assert_true(same_by_every_plan(s, &s->vae.decoder, 61, 13, 4) >= least);
    assert_true(same_by_every_plan(s, &s->vae.encoder, 244, 52, 3) >= least);
}

static void decode_and_encode_odd(small *s)
{
    int least = cases_are_slow() ? 2 : 3;
    assert_true(same_by_every_plan(s, &s->vae.decoder, 37, 9, 3) >= least);
    assert_true(same_by_every_plan(s, &s->vae.encoder, 58, 22, 3) >= least);
}

/* ---- known mistakes: each must change the result */

/* The row below a band is not there. */
static void without_halo(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    if (c.rows.height && w->dim[2] == 3 && c.rows.first + x.dim[1] < c.rows.height) {
        size_t row = (size_t)(x.dim[2] * x.dim[3]), last = (size_t)(x.dim[1] - 1) * row;
        float *kept = malloc(row * sizeof *kept);
        memcpy(kept, (float *)x.data + last, row * sizeof *kept);
        memset((float *)x.data + last, 0, row * sizeof *kept);
        sd_backend_cpu.conv2d(r, y, x, w, b, c);
        memcpy((float *)x.data + last, kept, row * sizeof *kept);
        free(kept);
    } else {
        sd_backend_cpu.conv2d(r, y, x, w, b, c);
    }
}

/* Only the last band is in the sums. */
static void forgotten_sums(sd_run *r, sd_tensor sums, sd_tensor x, int64_t pixel)
{
    if (pixel) memset(sums.data, 0, (size_t)sd_numel(&sums) * sizeof(float));
    sd_backend_cpu.norm_sums(r, sums, x, pixel);
}

/* The algorithm is that of a picture of the band's height. */
static void own_algorithms(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    if (c.rows.height) c.rows.height = c.rows.first + x.dim[1];
    sd_backend_cpu.conv2d(r, y, x, w, b, c);
}

TEST(bands_that_are_wrong_have_other_bits)
{
    const int64_t dim[] = {1, 45, 13, 4};
    sd_backend twin[] = {sd_backend_cpu, sd_backend_cpu, sd_backend_cpu};
    small s;
    size_t n, m;
    sd_bands b;
    twin[0].conv2d = without_halo;
    twin[1].norm_sums = forgotten_sums;
    twin[2].conv2d = own_algorithms;
    small_open(&s, &usual);
    compute_with(&s, sd_kern_select("scalar"), 1);
    float *x = random_numbers((size_t)(dim[1] * dim[2] * dim[3])),
        *whole = result(&s, &s.vae.decoder, dim, x, SIZE_MAX, &b, &n);
    for (size_t i = 0; i < SD_COUNT(twin); i++) {
        s.run.be = &twin[i];
        float *y = result(&s, &s.vae.decoder, dim, x, 1, &b, &m);
        assert_int_not_equal(memcmp(y, whole, n * sizeof *y), 0);
        sd_bands_free(&b);
        free(y);
    }
    s.run.be = &sd_backend_cpu;
    free(whole);
    free(x);
    small_close(&s);
}

/* Rows `from` .. `from + rows` - 1 of x, added to the sums. */
static void add_band(bench *b, sd_tensor sums, sd_tensor x, int64_t from, int64_t rows)
{
    int64_t row = x.dim[2] * x.dim[3];
    x.data = (float *)x.data + from * row;
    x.dim[1] = rows;
    sd_norm_sums(&b->run, sums, x, from * x.dim[2]);
}

static void compare_sums(int provider)
{
    enum { H = 61, W = 37, C = 24, BAND = 9 };
    bench b;
    start(&b, provider, 2);
    sd_tensor x = random4(&b, 1, H, W, C), sums[3];
    for (int i = 0; i < 3; i++) sums[i] = sd_norm_sums_new(&b.run, H * W, C);
    sd_norm_sums(&b.run, sums[0], x, 0);
    for (int at = 0; at < H; at += BAND) {
        int rows = at + BAND < H ? BAND : H - at, half = at ? rows / 2 : 0;
        add_band(&b, sums[1], x, at, rows);
        add_band(&b, sums[2], x, at + half, rows - half);   /* the twin: the lower half first */
        if (half) add_band(&b, sums[2], x, at, half);
    }
    size_t bytes = (size_t)sd_numel(&sums[0]) * sizeof(float);
    const float *whole = numbers_of(&b, sums[0]);
    assert_memory_equal(numbers_of(&b, sums[1]), whole, bytes);
    assert_int_not_equal(memcmp(numbers_of(&b, sums[2]), whole, bytes), 0);
    stop(&b);
}

/* A difference in the last bit of such a double is mostly lost when coefficients become floats: so look at the sums. */
TEST(sums_of_bands_are_the_bits_of_the_whole_sums)
{
    for (int k = next_provider(SPECIFICATION); k < PROVIDERS; k = next_provider(k)) compare_sums(k);
}

/* ---- through sd.h */

static float *decoded(uint64_t room, int batch, double *work)
{
    enum { SIDE = 40 };
    sd_options o;
    sd_timings t;
    sd_options_init(&o);
    o.parts = SD_PART_VAE;
    o.vae_memory = room;
    sd_ctx *c = open_context(&o, SD_OK);
    size_t n = (size_t)batch * 3 * 64 * SIDE * SIDE;
    float *x = malloc((size_t)batch * 4 * SIDE * SIDE * sizeof *x), *y = malloc(n * sizeof *y);
    sd_randn(7, x, (size_t)batch * 4 * SIDE * SIDE);
    if (sd_vae_decode(c, batch, SIDE, SIDE, x, y)) fail_msg("%s", sd_error_text(c));
    sd_get_timings(c, &t);
    *work = t.vae_work;
    free(x);
    sd_close(c);
    return y;
}

TEST(pictures_of_a_batch_that_is_decoded_in_bands_are_the_same)
{
    double whole, bands;
    float *x = decoded(0, 2, &whole), *y = decoded(3000000, 2, &bands);
    assert_true(whole == 1);
    assert_true(bands > 1);
    assert_memory_equal(x, y, 2 * 3 * 320 * 320 * sizeof *x);
    free(x);
    free(y);
}

typedef struct seen { sd_ctx *ctx; int calls, last, stop_at; bool in_order; } seen;

static void see_progress(void *user, const sd_progress *p)
{
    seen *s = user;
    s->in_order &= strcmp(p->stage, "vae") == 0 && p->done > s->last && p->done < p->total && p->total == 100;
    s->last = p->done;
    if (++s->calls == s->stop_at) sd_cancel(s->ctx);
}

static void ignore(void *user, const sd_traced *t)
{
    (void)user;
    (void)t;
}

TEST(a_picture_in_bands_reports_its_progress_and_can_be_cancelled_and_a_traced_one_is_whole)
{
    enum { SIDE = 40, N = 4 * SIDE * SIDE };
    sd_options o;
    sd_timings t;
    sd_options_init(&o);
    o.parts = SD_PART_VAE;
    o.vae_memory = 1;   /* the least */
    seen s = {.ctx = open_context(&o, SD_OK), .in_order = true};
    float *x = random_numbers(N), *y = malloc((size_t)48 * N * sizeof *y);
    sd_set_progress(s.ctx, see_progress, &s);
    assert_int_equal(sd_vae_decode(s.ctx, 1, SIDE, SIDE, x, y), SD_OK);
    assert_true(s.in_order && s.calls > 20);
    s = (seen){.ctx = s.ctx, .in_order = true, .stop_at = 3};
    assert_int_equal(sd_vae_decode(s.ctx, 1, SIDE, SIDE, x, y), SD_ERR_CANCELLED);
    assert_int_equal(s.calls, 3);
    sd_set_progress(s.ctx, NULL, NULL);
    assert_int_equal(sd_set_trace(s.ctx, NULL, ignore, NULL), SD_OK);
    assert_int_equal(sd_vae_decode(s.ctx, 1, SIDE, SIDE, x, y), SD_OK);
    sd_get_timings(s.ctx, &t);
    assert_true(t.vae_work == 1);
    sd_close(s.ctx);
    free(x);
    free(y);
}

TEST(every_plan_has_the_bits_of_the_whole_vae) { for_kernels(&usual, decode_and_encode); }
TEST(odd_sizes_and_channels_have_the_same_bits_too) { for_kernels(&odd, decode_and_encode_odd); }

/* ---- a device that has its memory in parts */

static size_t part_bytes;
static int crossings, convolutions;
static sd_room room_in_parts(const sd_run *r)
{
    (void)r;
    return (sd_room){1e12, part_bytes};
}

static bool crosses(const sd_run *r, const sd_tensor *t)
{
    size_t at = (size_t)((const unsigned char *)t->data - r->arena.base), bytes = (size_t)sd_numel(t) * sizeof(float);
    return at / part_bytes != (at + bytes - 1) / part_bytes;
}

static void watched_conv(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    crossings += crosses(r, &x) + crosses(r, &y);
    convolutions++;
    sd_backend_cpu.conv2d(r, y, x, w, b, c);
}

static float *decoded_in_parts(small *s, const int64_t dim[4], const float *x, size_t budget, sd_bands *b)
{
    sd_error e = {0};
    if (sd_bands_plan(b, &s->run, &s->vae.decoder, dim, budget, &s->err)) fail_msg("%s", s->err.text);
    sd_run dry = {.err = &e, .be = &sd_backend_null, .arena = {.part = part_bytes}};
    sd_bands_forward(&dry, &s->vae.decoder, b, sd_new4(&dry, dim[0], dim[1], dim[2], dim[3]));
    if (!sd_arena_fits(&dry.arena))
        fail_msg("a tensor of %zu bytes, %zu in all, in parts of %zu", dry.arena.widest, budget, part_bytes);
    sd_run_free(&s->run);   /* whose parts may have been larger */
    if (sd_reserve(&s->run, dry.arena.peak, "a test")) fail_msg("%s", s->err.text);
    sd_tensor y = sd_bands_forward(&s->run, &s->vae.decoder, b, sd_new_from(&s->run, 4, dim, x));
    if (s->err.status) fail_msg("%zu bytes in parts of %zu: %s", budget, part_bytes, s->err.text);
    float *out = malloc((size_t)sd_numel(&y) * sizeof *out);
    assert_non_null(out);
    sd_download(&s->run, y, out);
    sd_reset(&s->run, 0);
    return out;
}

TEST(memory_in_parts_changes_no_bit_and_no_tensor_lies_in_two_of_them)
{
    const int64_t dim[] = {1, 12, 12, 4};
    const size_t n = 48 * 48 * 3;
    const size_t parts[] = {600000, 450048, 300032};   /* the largest tensor has 589824 bytes */
    sd_backend in_parts = sd_backend_cpu;
    small s;
    in_parts.room = room_in_parts;
    in_parts.conv2d = watched_conv;
    small_open(&s, &usual);
    compute_with(&s, &sd_kern_spec, 2);
    float *x = random_numbers(12 * 12 * 4), *whole = NULL;
    for (size_t p = 0; p < SD_COUNT(parts); p++) {
        part_bytes = (p ? parts[p] : SIZE_MAX / 2) / SD_ALIGN * SD_ALIGN;
        for (size_t budget = (size_t)4 << 20; budget > 100000; budget /= 2) {
            sd_bands b;
            if (p == 0) part_bytes = budget == (size_t)4 << 20 ? SIZE_MAX / 2 / SD_ALIGN * SD_ALIGN : 600000;
            s.run.be = &in_parts;
            float *y = decoded_in_parts(&s, dim, x, budget, &b);
            if (p > 1) assert_non_null(b.piece);   /* the whole one would have a tensor that is too large */
            if (!whole) whole = y;
            else if (memcmp(whole, y, n * sizeof *y) != 0) fail_msg("parts of %zu bytes: other bits", part_bytes);
            if (whole != y) free(y);
            bool least = b.bytes > budget;
            sd_bands_free(&b);
            if (least) break;
        }
    }
    assert_true(convolutions > 100);
    assert_int_equal(crossings, 0);
    sd_run_free(&s.run);
    part_bytes = 100032;
    assert_int_equal(sd_reserve(&s.run, 1 << 20, "a test"), SD_OK);
    sd_new2(&s.run, 1, 25008);
    assert_int_equal(s.err.status, SD_OK);
    sd_new2(&s.run, 1, 25009);
    assert_int_equal(s.err.status, SD_ERR_MEMORY);
    assert_non_null(strstr(s.err.text, "a tensor of 0.1 MB is more than the 0.1 MB that this device can have at once"));
    free(whole);
    free(x);
    small_close(&s);
}

int main(void)
{
    if (cases_are_slow()) print_message("memory in steps of a half, not an eighth: cases are slow here\n");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_in_parts_changes_no_bit_and_no_tensor_lies_in_two_of_them),
        cmocka_unit_test(every_plan_has_the_bits_of_the_whole_vae),
        cmocka_unit_test(bands_that_are_wrong_have_other_bits),
        cmocka_unit_test(sums_of_bands_are_the_bits_of_the_whole_sums),
        cmocka_unit_test(pictures_of_a_batch_that_is_decoded_in_bands_are_the_same),
        cmocka_unit_test(a_picture_in_bands_reports_its_progress_and_can_be_cancelled_and_a_traced_one_is_whole),
        cmocka_unit_test(odd_sizes_and_channels_have_the_same_bits_too),
    };
    return cmocka_run_group_tests_name("bands", tests, NULL, close_providers);
}
