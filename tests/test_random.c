/* test_random.c - rng_streams.c: names of streams, generators per batch and per picture, the record of draws; the noise
 * of diffusers' SDE sampler (tests/golden/random_brownian.txt, made by tools/golden_random.py). */
#include "../rng_streams.h"
#include "numbers.h"

#include <math.h>

#include "test.h"
static char drawn_from[96];   /* the stream of the last draw, by its whole name */
static void hear_name(UNUSED void *user, const sd_random_draw *d)
{
    snprintf(drawn_from, sizeof drawn_from, "%s", d->stream);
}

static sd_stream *open_stream(const char *spec, uint64_t seed, int generators)
{
    sd_error e = {0};
    sd_stream *s;
    sd_stream_options o = {.seed = seed, .generators = generators, .on_draw = hear_name};
    if (sd_stream_open(&s, spec, &o, &e)) fail_msg("%s", e.text);
    return s;
}

/* Of a stream that is no Brownian path. */
static const char *name_of(sd_stream *s)
{
    float one;
    sd_error e = {0};
    assert_int_equal(sd_stream_normal(s, "a name", &one, 1, 1, &e), SD_OK);
    return drawn_from;
}

TEST(other_programs_names_are_the_same_generators)
{
    static const struct { const char *name, *own; } names[] = {
        {"cpu", "torch-cpu"}, {"CPU", "torch-cpu"}, {"cuda", "torch-cuda"}, {"NV", "torch-cuda"}, {"GPU", "torch-cuda"},
        {"numpy", "numpy"}, {"torch-cuda:sms=40,threads=1024", "torch-cuda:sms=40,threads=1024"}};
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        sd_stream *s = open_stream(names[i].name, 1, 0);
        assert_string_equal(name_of(s), names[i].own);
        assert_string_equal(sd_stream_canonical(names[i].name), names[i].own);
        sd_stream_close(s);
    }
    sd_stream *s = open_stream("cuda:sms=40,threads=1024", 1, 0);
    assert_string_equal(name_of(s), "torch-cuda:sms=40,threads=1024");
    sd_stream_close(s);
    assert_null(sd_stream_canonical(NULL));
}

static void draw(sd_stream *s, float *out, size_t images, size_t each)
{
    sd_error e = {0};
    if (sd_stream_normal(s, "test", out, images, each, &e)) fail_msg("%s", e.text);
}

/* ---- each name is the generator that it says, for several draws in a row */

static void reference(const char *spec, uint64_t seed, const size_t *sizes, size_t draws, float *out)
{
    sd_rng mt;
    sd_philox cuda;
    sd_pcg64 pcg;
    sd_rng_seed(&mt, seed);
    sd_pcg64_seed(&pcg, seed);
    sd_philox_seed(&cuda, seed, 0, 0);
    if (strcmp(spec, "torch-cuda:sms=1,threads=256") == 0) sd_philox_seed(&cuda, seed, 1, 256);
    for (size_t d = 0; d < draws; out += sizes[d++]) {
        if (strcmp(spec, "torch-cpu") == 0) sd_rng_normal(&mt, out, sizes[d]);
        else if (strncmp(spec, "torch-cuda", 10) == 0) sd_philox_normal(&cuda, out, sizes[d]);
        else
            for (size_t i = 0; i < sizes[d]; i++) {
                if (strcmp(spec, "numpy") == 0) out[i] = (float)sd_numpy_normal(&mt);
                else if (strcmp(spec, "numpy-pcg64") == 0) out[i] = (float)sd_pcg64_normal(&pcg);
                else out[i] = sd_pcg64_normal_f32(&pcg);
            }
    }
}

static const char *const specs[] = {"torch-cpu", "torch-cuda", "torch-cuda:sms=1,threads=256", "numpy", "numpy-pcg64",
                                    "numpy-pcg64-f32"};
enum { SPECS = sizeof specs / sizeof specs[0], MOST = 2048 };

TEST(names_are_the_generators_they_say)
{
    static const size_t sizes[] = {7, 1000, 3, 16, 0, 20, 500};
    float ours[SPECS][MOST], theirs[MOST];
    for (int k = 0; k < SPECS; k++) {
        size_t n = 0;
        sd_stream *s = open_stream(specs[k], 77, 0);
        for (size_t d = 0; d < SD_COUNT(sizes); n += sizes[d++]) draw(s, ours[k] + n, 1, sizes[d]);
        reference(specs[k], 77, sizes, SD_COUNT(sizes), theirs);
        assert_memory_equal(ours[k], theirs, n * sizeof(float));
        assert_string_equal(name_of(s), specs[k]);
        sd_stream_close(s);
        for (int j = 0; j < k; j++) assert_true(worst(ours[j], ours[k], n) > 0.1);   /* six streams */
    }
}

TEST(no_name_is_torch_on_the_cpu)
{
    sd_stream *s = open_stream(NULL, 0, 0);
    float x[4 * 4];
    draw(s, x, 1, 16);
    assert_true(fabs(x[0] - -1.12584) < 6e-6 && fabs(x[15] - -0.24728) < 6e-6);
    assert_string_equal(name_of(s), "torch-cpu");
    sd_stream_close(s);
}

/* ---- one generator, or one per picture */

TEST(a_generator_per_picture_is_a_stream_per_picture)
{
    enum { EACH = 20 };   /* no multiple of 16: the tails show where a draw ends */
    for (int k = 0; k < SPECS; k++) {
        float each[3 * EACH], batch[3 * EACH], own[EACH];
        sd_stream *s = open_stream(specs[k], 10, 3), *all = open_stream(specs[k], 10, 0);
        draw(s, each, 3, EACH);
        draw(s, each, 3, EACH);   /* the second draw goes on where each generator stood */
        draw(all, batch, 3, EACH);
        draw(all, batch, 3, EACH);
        for (uint64_t i = 0; i < 3; i++) {
            sd_stream *one = open_stream(specs[k], 10 + i, 0);
            draw(one, own, 1, EACH);
            draw(one, own, 1, EACH);
            assert_memory_equal(own, each + i * EACH, sizeof own);
            sd_stream_close(one);
        }
        /* Trap 52, the wrong twin: diffusers draws a batch from one generator. */
        assert_true(worst(each + EACH, batch + EACH, 2 * EACH) > 0.1);
        sd_stream_close(s);
        sd_stream_close(all);
    }
}

TEST(seeds_can_be_listed_and_wrap)
{
    const uint64_t seeds[2] = {99, 5};
    sd_stream_options o = {.seed = 1, .generators = 2, .seeds = seeds};
    sd_error e = {0};
    sd_stream *s, *five = open_stream("torch-cuda", 5, 0);
    float x[2 * 16], y[16];
    assert_int_equal(sd_stream_open(&s, "torch-cuda", &o, &e), SD_OK);
    draw(s, x, 2, 16);
    draw(five, y, 1, 16);
    assert_memory_equal(x + 16, y, sizeof y);
    sd_stream_close(s);
    sd_stream_close(five);
    s = open_stream("torch-cuda", UINT64_MAX, 2);   /* seed + 1 is 0 */
    five = open_stream("torch-cuda", 0, 0);
    draw(s, x, 2, 16);
    draw(five, y, 1, 16);
    assert_memory_equal(x + 16, y, sizeof y);
    sd_stream_close(s);
    sd_stream_close(five);
}

/* ---- numbers that somebody else drew */

TEST(given_numbers_come_out_in_order_and_end)
{
    float given[10], x[6];
    for (int i = 0; i < 10; i++) given[i] = (float)i;
    sd_error e = {0};
    sd_stream *s;
    sd_stream_options o = {.seed = 3, .generators = 2};
    assert_int_equal(sd_stream_open_numbers(&s, "noise.safetensors", given, 10, &o, &e), SD_OK);
    given[0] = 100;   /* they were copied */
    draw(s, x, 2, 3);
    assert_true(x[0] == 0 && x[5] == 5);
    draw(s, x, 1, 3);
    assert_true(x[0] == 6 && x[2] == 8);
    assert_int_equal(sd_stream_normal(s, "step 2", x, 1, 2, &e), SD_ERR_SHAPE);
    assert_string_equal(e.text, "step 2: noise.safetensors has 10 numbers, 9 of them used, and 2 are needed");
    draw(s, x, 1, 1);
    assert_true(x[0] == 9);
    draw(s, x, 1, 0);
    sd_stream_close(s);
}

/* ---- the record */

static struct {
    sd_random_draw draw[16];
    char who[16][32], stream[16][64];
    int n;
} heard;

static void hear(void *user, const sd_random_draw *d)
{
    assert_ptr_equal(user, &heard);
    assert_true(heard.n < 16);
    snprintf(heard.who[heard.n], sizeof heard.who[0], "%s", d->who);
    snprintf(heard.stream[heard.n], sizeof heard.stream[0], "%s", d->stream);
    heard.draw[heard.n++] = *d;
}

TEST(every_draw_is_recorded)
{
    memset(&heard, 0, sizeof heard);
    sd_error e = {0};
    sd_stream *s;
    sd_stream_options o = {.seed = 40, .on_draw = hear, .user = &heard};
    float x[2 * 32];
    assert_int_equal(sd_stream_open(&s, "torch-cuda:threads=1024,sms=40", &o, &e), SD_OK);
    assert_int_equal(sd_stream_normal(s, "initial noise", x, 2, 32, &e), SD_OK);
    assert_int_equal(sd_stream_noise(s, "step 0", 3, 2, x, 2, 32, &e), SD_OK);
    sd_stream_close(s);
    assert_int_equal(heard.n, 2);
    assert_string_equal(heard.who[0], "initial noise");
    assert_string_equal(heard.who[1], "step 0");
    assert_string_equal(heard.stream[1], "torch-cuda:sms=40,threads=1024");
    for (int i = 0; i < 2; i++) {
        const sd_random_draw *d = &heard.draw[i];
        assert_true(d->seed == 40 && d->image == -1 && d->count == 64 && d->position == (uint64_t)i * 64);
        assert_false(d->between_levels);
    }
    heard.n = 0;
    o.generators = 2;
    assert_int_equal(sd_stream_open(&s, "brownian", &o, &e), SD_OK);
    assert_int_equal(sd_stream_span(s, 0.5, 8, &e), SD_OK);
    assert_int_equal(sd_stream_noise(s, "step 0", 8, 2, x, 2, 32, &e), SD_OK);
    assert_int_equal(sd_stream_noise(s, "step 1", 2, 0.5, x, 2, 32, &e), SD_OK);
    sd_stream_close(s);
    assert_int_equal(heard.n, 4);
    for (int i = 0; i < 4; i++) {
        const sd_random_draw *d = &heard.draw[i];
        assert_string_equal(heard.stream[i], "brownian");
        assert_true(d->seed == 40 + (uint64_t)(i % 2) && d->image == i % 2 && d->count == 32);
        assert_true(d->position == (i < 2 ? 0u : 32u) && d->between_levels);
        assert_true(d->from == (i < 2 ? 8 : 2) && d->to == (i < 2 ? 2 : 0.5));
    }
}

/* ---- Brownian streams */

static struct {
    sd_stream *s;
    size_t images, each;
    int asked;
    double worst;
} golden;

static void check_noise(const char *word, char *rest)
{
    sd_error e = {0};
    if (strcmp(word, "sampler") == 0) {
        sd_stream_close(golden.s);
        int generators = (int)next_u64(&rest);
        golden.s = open_stream("brownian", next_u64(&rest), generators);
        golden.images = (size_t)next_u64(&rest);
        golden.each = (size_t)next_u64(&rest);
        double low = next_double(&rest), high = next_double(&rest);
        assert_int_equal(sd_stream_span(golden.s, low, high, &e), SD_OK);
    } else if (strcmp(word, "noise") == 0) {
        float x[256];
        size_t n = golden.images * golden.each;
        assert_true(n <= 256);
        double from = next_double(&rest), to = next_double(&rest);
        if (sd_stream_noise(golden.s, "noise", from, to, x, golden.images, golden.each, &e)) fail_msg("%s", e.text);
        for (size_t i = 0; i < 4; i++) {
            float theirs = float_of((uint32_t)next_hex(&rest)), ours = x[i < 3 ? i : n - 1];
            golden.worst = fmax(golden.worst, fabs((double)ours - theirs));
        }
        golden.asked++;
    }
}

/* Increments are equal to the bit; what differs is the square root of the difference of levels: torch's own (MKL's) is
 * an ulp off for one number in six. */
TEST(noise_equals_that_of_diffusers_sde_sampler)
{
    memset(&golden, 0, sizeof golden);
    each_line("random_brownian.txt", NULL, check_noise);
    sd_stream_close(golden.s);
    assert_true(golden.asked > 80);
    assert_true(golden.worst < 1e-6);
}

static void noise(sd_stream *s, double from, double to, float *out, size_t images, size_t each)
{
    sd_error e = {0};
    if (sd_stream_noise(s, "test", from, to, out, images, each, &e)) fail_msg("%s", e.text);
}

static void span(sd_stream *s, double low, double high)
{
    sd_error e = {0};
    if (sd_stream_span(s, low, high, &e)) fail_msg("%s", e.text);
}

TEST(brownian_noise_turns_with_the_direction)
{
    sd_stream *s = open_stream("brownian", 4, 0);
    span(s, 0.1, 10);
    float down[64], up[64];
    noise(s, 10, 3, down, 1, 64);
    noise(s, 3, 10, up, 1, 64);
    for (int i = 0; i < 64; i++) assert_true(down[i] == -up[i]);
    span(s, 0.1, 10);   /* a new run: the same path */
    noise(s, 10, 3, up, 1, 64);
    assert_memory_equal(up, down, sizeof up);
    span(s, 0.2, 10);   /* wrong twin: told other levels, it is another path */
    noise(s, 10, 3, up, 1, 64);
    assert_true(worst(up, down, 64) > 0.1);
    sd_stream_close(s);
}

/* A path is rough: over a time d it moves by about sqrt(d). A level that float32 arithmetic missed by its last bit can
 * be another of the times, 1e-6 apart, at which the path is known, and the noise is then 1e-3 off. It follows that an
 * SDE sampler must make its levels in float32, as torch does. */
TEST(twin_with_a_level_one_ulp_off_is_wrong)
{
    sd_stream *s = open_stream("brownian", 1, 0);
    span(s, 0.03, 14.6);
    static float x[4096], y[4096];
    noise(s, 9.9, 9.0, x, 1, 4096);
    noise(s, 9.9, (double)9.0f + 1e-8, y, 1, 4096);   /* the same float32 */
    assert_memory_equal(x, y, sizeof x);
    noise(s, 9.9, nextafterf(9.0f, 10.0f), y, 1, 4096);
    assert_true(worst(x, y, 4096) > 1e-3 && worst(x, y, 4096) < 1e-2);
    sd_stream_close(s);
}

TEST(a_brownian_path_can_draw_from_a_gpus_generator)
{
    sd_stream *cpu = open_stream("brownian:torch-cpu", 4, 0), *gpu = open_stream("brownian:torch-cuda", 4, 0);
    sd_stream *t4 = open_stream("brownian:torch-cuda:sms=40,threads=1024", 4, 0);
    float x[64], y[64], z[64], root[64];
    span(cpu, 0, 4);
    span(gpu, 0, 4);
    span(t4, 0, 4);
    noise(cpu, 0, 4, x, 1, 64);
    assert_string_equal(drawn_from, "brownian");
    noise(gpu, 0, 4, y, 1, 64);
    assert_string_equal(drawn_from, "brownian:torch-cuda");
    noise(t4, 0, 4, z, 1, 64);
    assert_string_equal(drawn_from, "brownian:torch-cuda:sms=40,threads=1024");
    assert_true(worst(x, y, 64) > 0.1);
    assert_memory_equal(y, z, sizeof y);
    sd_seedseq q;   /* the whole interval is the root's noise */
    uint32_t seed;
    sd_philox r;
    sd_seedseq_init(&q, 24, 4, NULL, 0);
    sd_seedseq_words(&q, &seed, 1);
    sd_philox_seed(&r, seed, 0, 0);
    sd_philox_normal(&r, root, 64);
    assert_memory_equal(y, root, sizeof y);
    sd_stream_close(cpu);
    sd_stream_close(gpu);
    sd_stream_close(t4);
}

TEST(other_streams_draw_afresh_between_levels)
{
    for (int k = 0; k < SPECS; k++) {
        sd_stream *a = open_stream(specs[k], 8, 0), *b = open_stream(specs[k], 8, 0);
        float x[2][40], y[2][40];
        span(a, 0.1, 10);   /* means nothing here */
        for (int i = 0; i < 2; i++) {
            noise(a, 3, 2, x[i], 2, 20);
            draw(b, y[i], 2, 20);
        }
        assert_memory_equal(x, y, sizeof x);
        assert_true(worst(x[0], x[1], 40) > 0.1);
        sd_stream_close(a);
        sd_stream_close(b);
    }
}

/* ---- what cannot be opened or asked */

TEST(bad_names_end_in_one_sentence)
{
    static const struct { const char *spec, *why; } bad[] = {
        {"", "no random stream"}, {"torch", "no random stream"}, {"torch-cpux", "no random stream"}, {":", "no random"},
        {"TORCH-CPU", "no random stream"}, {"torch-cpu:sms=1,threads=256", "takes no settings"},
        {"numpy:", "takes no settings"}, {"numpy-pcg64:f32", "takes no settings"}, {"torch-cuda:", "both of them"},
        {"torch-cuda:sms=40", "both of them"}, {"torch-cuda:threads=1024", "both of them"},
        {"torch-cuda:sms=0,threads=1024", "sms must be"}, {"torch-cuda:sms=65536,threads=1024", "sms must be"},
        {"torch-cuda:sms=99999999999999999999,threads=1024", "sms must be"},
        {"torch-cuda:sms=-1,threads=1024", "settings are"}, {"torch-cuda:sms= 1,threads=1024", "settings are"},
        {"torch-cuda:sms=40,threads=255", "threads must be"}, {"torch-cuda:sms=40,threads=65537", "threads must be"},
        {"torch-cuda:sms=40,", "settings are"}, {"torch-cuda:sms=40;threads=1024", "settings are"},
        {"torch-cuda:sms=4x,threads=1024", "settings are"}, {"torch-cuda:sms", "settings are"},
        {"torch-cuda:cores=40", "settings are"}, {"torch-cuda:,", "settings are"},
        {"torch-cuda:smsx=1", "settings are"},
        {"std_default", "use cpu or cuda"}, {"brownian:", "draws from"}, {"brownian:numpy", "draws from"},
        {"brownian:brownian", "draws from"},
        {"brownian:torch-cpu:sms=1", "takes no settings"}, {"brownian:torch-cuda:sms=1", "both of them"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        sd_stream *s;
        sd_stream_options o = {.seed = 1};
        if (sd_stream_open(&s, bad[i].spec, &o, &e) != SD_ERR_ARG) fail_msg("\"%s\" was taken", bad[i].spec);
        assert_null(s);
        if (!strstr(e.text, bad[i].why)) fail_msg("\"%s\": %s", bad[i].spec, e.text);
    }
}

static void assert_not_opened(const char *spec, sd_stream_options o, const char *why)
{
    sd_error e = {0};
    sd_stream *s;
    assert_int_equal(sd_stream_open(&s, spec, &o, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, why));
}

TEST(impossible_requests_end_in_one_sentence)
{
    sd_error e = {0};
    float x[64];
    /* np.random.seed refuses them too; cutting them off would be another program's seed */
    assert_not_opened("numpy", (sd_stream_options){.seed = UINT64_C(1) << 32}, "up to 4294967295");
    assert_not_opened("numpy", (sd_stream_options){.seed = UINT32_MAX, .generators = 2}, "up to 4294967295");
    sd_stream_close(open_stream("numpy", UINT32_MAX, 1));
    assert_not_opened("torch-cpu", (sd_stream_options){.generators = -1}, "generators");
    assert_not_opened("torch-cpu", (sd_stream_options){.generators = 65537}, "generators");

    sd_stream *s = open_stream("torch-cpu", 1, 2);
    assert_int_equal(sd_stream_normal(s, "noise", x, 3, 8, &e), SD_ERR_ARG);
    assert_string_equal(e.text, "noise: 3 pictures cannot draw from 2 generators");
    sd_error_clear(&e);
    sd_stream_close(s);
    s = open_stream("torch-cpu", 1, 0);
    assert_int_equal(sd_stream_normal(s, "noise", x, 3, SIZE_MAX / 2, &e), SD_ERR_ARG);
    sd_error_clear(&e);
    sd_stream_close(s);

    s = open_stream("brownian", 1, 0);
    assert_int_equal(sd_stream_normal(s, "initial noise", x, 1, 8, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "initial noise: a Brownian path"));
    sd_error_clear(&e);
    assert_int_equal(sd_stream_noise(s, "step 0", 3, 2, x, 1, 8, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "must be told"));
    static const double bad[][2] = {{1, 1}, {2, 1}, {-1, 1}, {NAN, 1}, {0, NAN}, {0, INFINITY}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error_clear(&e);
        assert_int_equal(sd_stream_span(s, bad[i][0], bad[i][1], &e), SD_ERR_ARG);
    }
    sd_error_clear(&e);
    span(s, 1, 4);
    noise(s, 4, 2, x, 1, 8);
    assert_int_equal(sd_stream_noise(s, "step 1", 2, 1, x, 1, 9, &e), SD_ERR_ARG);
    assert_string_equal(e.text, "step 1: a Brownian path of 8 numbers cannot give 9");
    sd_error_clear(&e);
    assert_int_equal(sd_stream_noise(s, "step 1", 2, 2, x, 1, 8, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "no noise between"));
    sd_error_clear(&e);
    assert_int_equal(sd_stream_noise(s, "step 1", NAN, 2, x, 1, 8, &e), SD_ERR_ARG);
    sd_stream_close(s);
    sd_stream_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_the_generators_they_say),
        cmocka_unit_test(other_programs_names_are_the_same_generators),
        cmocka_unit_test(no_name_is_torch_on_the_cpu),
        cmocka_unit_test(a_generator_per_picture_is_a_stream_per_picture),
        cmocka_unit_test(seeds_can_be_listed_and_wrap),
        cmocka_unit_test(given_numbers_come_out_in_order_and_end),
        cmocka_unit_test(every_draw_is_recorded),
        cmocka_unit_test(noise_equals_that_of_diffusers_sde_sampler),
        cmocka_unit_test(brownian_noise_turns_with_the_direction),
        cmocka_unit_test(twin_with_a_level_one_ulp_off_is_wrong),
        cmocka_unit_test(a_brownian_path_can_draw_from_a_gpus_generator),
        cmocka_unit_test(other_streams_draw_afresh_between_levels),
        cmocka_unit_test(bad_names_end_in_one_sentence),
        cmocka_unit_test(impossible_requests_end_in_one_sentence),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
