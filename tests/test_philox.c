/* test_philox.c - rng_philox.c against Random123's published words, the formulas in float64 and numbers that real GPUs
 * gave (tests/golden/random_cuda.txt, made by tools/golden_random.py). */
#include "../rng.h"
#include "numbers.h"

#include <math.h>

#include "test.h"
/* Against float64 from the same float32 uniforms. Measured over 27 million numbers: 6.5e-7. */
static const double bound = 1e-6;
/* Against a GPU: it printed four decimals, and its fast sine adds up to 2.4e-6. */
static const double printed = 0.5e-4 + 3e-6;

static float *draw(uint64_t seed, uint32_t sms, uint32_t threads, size_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    sd_philox r;
    sd_philox_seed(&r, seed, sms, threads);
    sd_philox_normal(&r, x, n);
    return x;
}

/* ---- the words */

/* The known answers of Random123, the authors' own library: all bits 0, all bits 1, digits of pi. */
static const struct answer {
    uint32_t counter[4], key[2], word[4];
} answers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};
enum { ANSWERS = sizeof answers / sizeof answers[0] };

TEST(philox_is_the_published_one)
{
    for (int i = 0; i < ANSWERS; i++) {
        uint32_t word[4];
        sd_philox_words(word, answers[i].counter, answers[i].key);
        assert_memory_equal(word, answers[i].word, sizeof word);
    }
}

/* Philox with any number of rounds, multipliers in the given order; written here a second time. */
static void any_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2], int rounds, bool swapped)
{
    uint32_t c[4], k[2] = {key[0], key[1]};
    memcpy(c, counter, sizeof c);
    for (int i = 0; i < rounds; i++, k[0] += 0x9e3779b9u, k[1] += 0xbb67ae85u) {
        uint64_t first = (uint64_t)c[0] * (swapped ? 0xcd9e8d57u : 0xd2511f53u);
        uint64_t third = (uint64_t)c[2] * (swapped ? 0xd2511f53u : 0xcd9e8d57u);
        uint32_t next[4] = {(uint32_t)(third >> 32) ^ c[1] ^ k[0], (uint32_t)third,
                            (uint32_t)(first >> 32) ^ c[3] ^ k[1], (uint32_t)first};
        memcpy(c, next, sizeof c);
    }
    memcpy(out, c, sizeof c);
}

TEST(twins_with_7_rounds_or_swapped_multipliers_are_wrong)
{
    for (int i = 0; i < ANSWERS; i++) {
        uint32_t word[4];
        any_philox(word, answers[i].counter, answers[i].key, 10, false);
        assert_memory_equal(word, answers[i].word, sizeof word);
        any_philox(word, answers[i].counter, answers[i].key, 7, false);
        assert_memory_not_equal(word, answers[i].word, sizeof word);
        any_philox(word, answers[i].counter, answers[i].key, 10, true);
        assert_memory_not_equal(word, answers[i].word, sizeof word);
    }
}

/* ---- the normals */

static void check_computed(const char *word, char *rest)
{
    (void)word;
    sd_philox r;
    uint64_t seed = next_u64(&rest);
    uint32_t sms = (uint32_t)next_u64(&rest), threads = (uint32_t)next_u64(&rest);
    sd_philox_seed(&r, seed, sms, threads);
    size_t draws = (size_t)next_u64(&rest), n = 0;
    float *x = NULL;
    for (size_t i = 0; i < draws; i++) {
        n = (size_t)next_u64(&rest);
        float *grown = realloc(x, n * sizeof *x);
        assert_non_null(grown);
        x = grown;
        sd_philox_normal(&r, x, n);
    }
    int seen = 0;
    for (; *rest == ' '; seen++) {
        size_t place = (size_t)next_u64(&rest);
        assert_true(place < n);
        assert_true(fabs(x[place] - next_double(&rest)) < bound);
    }
    assert_true(seen > 4);
    free(x);
}

TEST(numbers_follow_the_formulas)
{
    each_line("random_cuda.txt", "computed", check_computed);
}

static void check_printed(const char *word, char *rest)
{
    (void)word;
    uint64_t seed = next_u64(&rest);
    uint32_t sms = (uint32_t)next_u64(&rest), threads = (uint32_t)next_u64(&rest);
    size_t n = (size_t)next_u64(&rest), first = (size_t)next_u64(&rest);
    float *x = draw(seed, sms, threads, n);
    for (size_t i = first; *rest == ' '; i++) assert_true(i < n && fabs(x[i] - next_double(&rest)) < printed);
    free(x);
}

static void check_corner(const char *word, char *rest)
{
    (void)word;
    uint64_t seed = next_u64(&rest);
    uint32_t sms = (uint32_t)next_u64(&rest), threads = (uint32_t)next_u64(&rest);
    size_t rows = (size_t)next_u64(&rest), columns = (size_t)next_u64(&rest);
    double mean = next_double(&rest), deviation = next_double(&rest);
    float *x = draw(seed, sms, threads, rows * columns);
    float *other = draw(seed, sms + 1, threads, rows * columns);
    double most = 0, most_other = 0;
    for (size_t i = 0; i < 36; i++) {   /* three rows and columns from either end */
        size_t r = i / 6, c = i % 6, at = (r < 3 ? r : rows - 6 + r) * columns + (c < 3 ? c : columns - 6 + c);
        double theirs = next_double(&rest);
        most = fmax(most, fabs(mean + deviation * x[at] - theirs));
        most_other = fmax(most_other, fabs(mean + deviation * other[at] - theirs));
    }
    assert_true(most < printed * fmax(1, deviation));
    assert_true(most_other > 0.1);      /* one multiprocessor more is another GPU */
    free(x);
    free(other);
}

TEST(numbers_that_gpus_printed_come_out)
{
    each_line("random_cuda.txt", "printed", check_printed);
    each_line("random_cuda.txt", "corner", check_corner);
}

/* TRAPS C2, and what A1111's rng_philox.py says it returns: its first draw of 12 numbers. */
TEST(the_small_case_is_that_of_a1111)
{
    static const double seed0[12] = {-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564,
                                     -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497};
    float *x = draw(0, 0, 0, 12), *t4 = draw(0, 40, 1024, 12);
    for (int i = 0; i < 12; i++) assert_true(fabs(x[i] - seed0[i]) < 2e-6);   /* its uniforms are float64 */
    assert_memory_equal(x, t4, 12 * sizeof *x);
    free(x);
    free(t4);
}

TEST(all_64_bits_of_a_seed_count)
{
    const uint64_t bit32 = UINT64_C(1) << 32, bit63 = UINT64_C(1) << 63;
    float *a = draw(42, 0, 0, 64), *b = draw(bit32 + 42, 0, 0, 64), *c = draw(bit63 + 42, 0, 0, 64);
    assert_true(worst(a, b, 64) > 0.1 && worst(a, c, 64) > 0.1 && worst(b, c, 64) > 0.1);
    free(a);
    free(b);
    free(c);
}

/* A draw of n small numbers uses one counter of each thread, whatever n: the next draw does not depend on it. */
TEST(the_next_draw_does_not_depend_on_the_size_of_a_small_one)
{
    sd_philox a, b, c;
    float x[1000], y[1000], z[1000];
    sd_philox_seed(&a, 5, 0, 0);
    sd_philox_seed(&b, 5, 0, 0);
    sd_philox_seed(&c, 5, 0, 0);
    sd_philox_normal(&a, x, 1);
    sd_philox_normal(&b, y, 1000);
    sd_philox_normal(&c, z, 0);        /* nothing is drawn for nothing */
    sd_philox_normal(&a, x, 1000);
    sd_philox_normal(&b, y, 1000);
    sd_philox_normal(&c, z, 1000);
    assert_memory_equal(x, y, sizeof x);
    assert_true(worst(x, z, 1000) > 0.1);
}

TEST(a_million_numbers_are_standard_normal)
{
    const size_t n = 1000000;
    float *x = draw(2024, 40, 1024, n);
    assert_standard_normal(x, n);
    free(x);
}

/* ---- wrong twins */

/* Trap 51: 65,536 numbers, SDXL's latents at 1024 x 1024, are more than a T4 has threads (40,960) and fewer than an
 * H100 has (270,336). A1111's rng_philox is right for the H100 alone. */
TEST(twin_with_the_wrong_gpu_is_wrong_for_65536_numbers)
{
    const size_t n = 65536, t4 = 40960;
    float *right = draw(1, 40, 1024, n), *h100 = draw(1, 132, 2048, n), *a1111 = draw(1, 0, 0, n);
    assert_memory_equal(h100, a1111, n * sizeof *h100);
    assert_memory_equal(right, h100, t4 * sizeof *right);   /* up to there all agree */
    assert_true(worst(right + t4, h100 + t4, n - t4) > 1e5 * bound);
    float *small = draw(1, 40, 1024, 16384), *large = draw(1, 0, 0, 16384);
    assert_memory_equal(small, large, 16384 * sizeof *small);   /* SD 1.5's latents are safe */
    free(right);
    free(h100);
    free(a1111);
    free(small);
    free(large);
}

/* Box-Muller's other half, the seed in the counter, and the thread in the wrong word of it. */
TEST(twins_with_cosine_or_swapped_counters_are_wrong)
{
    enum { COUNT = 64 };
    float *right = draw(3, 0, 0, COUNT), twin[3][COUNT];
    double ours = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint32_t key[2] = {3, 0}, no_key[2] = {0, 0};
        const uint32_t counter[4] = {0, 0, i, 0}, swapped[4] = {i, 0, 0, 0}, seeded[4] = {3, 0, i, 0};
        uint32_t w[3][4];
        sd_philox_words(w[0], counter, key);
        sd_philox_words(w[1], swapped, key);
        sd_philox_words(w[2], seeded, no_key);
        for (int t = 0; t < 3; t++) {
            double u = (w[t][0] + 0.5) * 0x1p-32, v = (w[t][1] + 0.5) * 0x1p-32 * 6.283185307179586;
            if (t == 0) ours = fmax(ours, fabs(sqrt(-2 * log(u)) * sin(v) - right[i]));
            twin[t][i] = (float)(sqrt(-2 * log(u)) * (t == 0 ? cos(v) : sin(v)));
        }
    }
    assert_true(ours < 1e-5);   /* here u and v are not rounded to float32 */
    for (int t = 0; t < 3; t++) assert_true(worst(right, twin[t], COUNT) > 1e5 * bound);
    free(right);
}

/* Trap 52: one generator for a batch is not one generator per picture. */
TEST(twin_with_a_generator_per_picture_is_wrong)
{
    float *batch = draw(10, 0, 0, 128), *first = draw(10, 0, 0, 64), *second = draw(11, 0, 0, 64);
    assert_memory_equal(batch, first, 64 * sizeof *batch);
    assert_true(worst(batch + 64, second, 64) > 1e5 * bound);
    free(batch);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_is_the_published_one),
        cmocka_unit_test(numbers_follow_the_formulas),
        cmocka_unit_test(numbers_that_gpus_printed_come_out),
        cmocka_unit_test(the_small_case_is_that_of_a1111),
        cmocka_unit_test(all_64_bits_of_a_seed_count),
        cmocka_unit_test(the_next_draw_does_not_depend_on_the_size_of_a_small_one),
        cmocka_unit_test(a_million_numbers_are_standard_normal),
        cmocka_unit_test(twins_with_7_rounds_or_swapped_multipliers_are_wrong),
        cmocka_unit_test(twin_with_the_wrong_gpu_is_wrong_for_65536_numbers),
        cmocka_unit_test(twins_with_cosine_or_swapped_counters_are_wrong),
        cmocka_unit_test(twin_with_a_generator_per_picture_is_wrong),
    };
    return cmocka_run_group_tests_name("philox", tests, NULL, NULL);
}
