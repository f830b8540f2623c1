/* test_numpy_rng.c - rng_numpy.c against NumPy (tests/golden/random_numpy.txt, made by tools/golden_random.py). */
#include "../rng.h"
#include "numbers.h"

#include <math.h>

#include "test.h"
static double legacy_next(void *r) { return sd_numpy_normal(r); }
static double pcg_next(void *r) { return sd_pcg64_normal(r); }

static void assert_doubles(char *rest, double (*next)(void *r), void *r)
{
    size_t n = (size_t)next_u64(&rest);
    uint64_t hash = next_hex(&rest);
    double *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = next(r);
    for (size_t i = 0; *rest == ' '; i++) {
        double theirs = double_of(next_hex(&rest));
        assert_true(x[i] == theirs);
    }
    assert_true(fnv1a_f64(x, n) == hash);
    free(x);
}

static void check_legacy(const char *word, char *rest)
{
    (void)word;
    sd_rng r;
    sd_rng_seed(&r, next_u64(&rest));
    assert_doubles(rest, legacy_next, &r);
}

static void check_pcg64(const char *word, char *rest)
{
    (void)word;
    sd_pcg64 r;
    sd_pcg64_seed(&r, next_u64(&rest));
    assert_doubles(rest, pcg_next, &r);
}

static void check_pcg64_f32(const char *word, char *rest)
{
    (void)word;
    sd_pcg64 r;
    sd_pcg64_seed(&r, next_u64(&rest));
    size_t n = (size_t)next_u64(&rest);
    uint64_t hash = next_hex(&rest);
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = sd_pcg64_normal_f32(&r);
    for (size_t i = 0; *rest == ' '; i++) assert_int_equal(bits_of(x[i]), next_hex(&rest));
    assert_true(fnv1a_f32(x, n) == hash);
    free(x);
}

static void check_raw(const char *word, char *rest)
{
    (void)word;
    sd_pcg64 r, halves;
    sd_pcg64_seed(&r, next_u64(&rest));
    halves = r;
    while (*rest == ' ') {
        uint64_t theirs = next_hex(&rest), low = sd_pcg64_u32(&halves), high = sd_pcg64_u32(&halves);
        assert_true(sd_pcg64_u64(&r) == theirs);
        assert_true((low | high << 32) == theirs);
    }
}

static void check_words(const char *word, char *rest)
{
    (void)word;
    sd_seedseq s;
    uint64_t key[4], entropy = next_u64(&rest);
    size_t pool = (size_t)next_u64(&rest), keys = (size_t)next_u64(&rest);
    assert_true(keys <= 4);
    for (size_t i = 0; i < keys; i++) key[i] = next_u64(&rest);
    uint32_t ours[8];
    sd_seedseq_init(&s, pool, entropy, key, keys);
    sd_seedseq_words(&s, ours, 8);
    for (size_t i = 0; i < 8; i++) assert_int_equal(ours[i], next_hex(&rest));
}

static void check_tail(const char *word, char *rest)
{
    sd_pcg64 r;
    sd_pcg64_seed(&r, next_u64(&rest));
    size_t place = (size_t)next_u64(&rest);
    uint64_t theirs = next_hex(&rest);
    for (size_t i = 0; i < place; i++) {
        if (strcmp(word, "tail") == 0) sd_pcg64_normal(&r);
        else sd_pcg64_normal_f32(&r);
    }
    if (strcmp(word, "tail") == 0) assert_true(sd_pcg64_normal(&r) == double_of(theirs));
    else assert_int_equal(bits_of(sd_pcg64_normal_f32(&r)), theirs);
}

static void check_edge(const char *word, char *rest)
{
    (void)word;
    sd_pcg64 r = {0};
    r.high = next_hex(&rest);
    r.low = next_hex(&rest);
    r.step_high = next_hex(&rest);
    r.step_low = next_hex(&rest);
    for (int i = 0; i < 2; i++) assert_true(sd_pcg64_normal(&r) == double_of(next_hex(&rest)));
}

static void check_edge_f32(const char *word, char *rest)
{
    (void)word;
    sd_pcg64 r;
    sd_pcg64_seed(&r, 5);
    r.has_spare = 1;
    r.spare = (uint32_t)next_hex(&rest);
    for (int i = 0; i < 2; i++) assert_int_equal(bits_of(sd_pcg64_normal_f32(&r)), next_hex(&rest));
}

TEST(legacy_normals_equal_numpy_bit_for_bit)
{
    each_line("random_numpy.txt", "legacy", check_legacy);
}

TEST(pcg64_words_equal_numpy) { each_line("random_numpy.txt", "raw", check_raw); }

TEST(seed_sequences_equal_numpy)
{
    each_line("random_numpy.txt", "words", check_words);
}

TEST(pcg64_normals_equal_numpy_bit_for_bit)
{
    each_line("random_numpy.txt", "pcg64", check_pcg64);
    each_line("random_numpy.txt", "pcg64_f32", check_pcg64_f32);
}

TEST(numbers_of_the_tail_equal_numpy)
{
    each_line("random_numpy.txt", "tail", check_tail);
    each_line("random_numpy.txt", "tail_f32", check_tail);
}

/* The last position of a layer that is taken at once and the first that is not, in which a million draws never end. */
TEST(edges_of_the_layers_equal_numpy)
{
    each_line("random_numpy.txt", "edge", check_edge);
    each_line("random_numpy.txt", "edge_f32", check_edge_f32);
}

/* Numbers that NumPy's documentation and a thousand notebooks print. */
TEST(published_numbers_come_out)
{
    static const double legacy[5] = {1.76405235, 0.40015721, 0.97873798, 2.24089320, 1.86755799};
    static const double pcg[4] = {0.12573022, -0.13210486, 0.64042265, 0.10490012};
    sd_rng a;
    sd_pcg64 b;
    sd_rng_seed(&a, 0);
    sd_pcg64_seed(&b, 0);
    for (int i = 0; i < 5; i++) assert_true(fabs(sd_numpy_normal(&a) - legacy[i]) < 6e-9);
    for (int i = 0; i < 4; i++) assert_true(fabs(sd_pcg64_normal(&b) - pcg[i]) < 6e-9);
}

static void moments(double (*next)(void *r), void *r)
{
    const int n = 1000000;
    double mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < n; i++) {
        double x = next(r);
        mean += x;
        square += x * x;
        fourth += x * x * x * x;
    }
    assert_true(fabs(mean / n) < 4e-3);
    assert_true(fabs(square / n - 1) < 6e-3);
    assert_true(fabs(fourth / n - 3) < 0.05);
}

static double pcg_next_f32(void *r) { return sd_pcg64_normal_f32(r); }

TEST(a_million_numbers_are_standard_normal)
{
    sd_rng a;
    sd_pcg64 b;
    sd_rng_seed(&a, 2024);
    moments(legacy_next, &a);
    sd_pcg64_seed(&b, 2024);
    moments(pcg_next, &b);
    sd_pcg64_seed(&b, 2024);
    moments(pcg_next_f32, &b);
}

/* ---- wrong twins */

/* The polar method's second number comes first; in order of their making they are swapped. */
TEST(twin_that_returns_the_first_of_a_pair_first_is_wrong)
{
    sd_rng r;
    sd_rng_seed(&r, 0);
    double first = sd_numpy_normal(&r), second = sd_numpy_normal(&r);
    assert_true(fabs(first - 1.76405235) < 6e-9);
    assert_true(fabs(second - 1.76405235) > 0.1);
}

TEST(twins_legacy_pcg64_and_torch_are_three_streams)
{
    sd_rng a, t;
    sd_pcg64 b, c;
    float torch[16], x[3][16];
    sd_rng_seed(&a, 5);
    sd_rng_seed(&t, 5);
    sd_rng_normal(&t, torch, 16);
    sd_pcg64_seed(&b, 5);
    sd_pcg64_seed(&c, 5);
    for (int i = 0; i < 16; i++) {
        x[0][i] = (float)sd_numpy_normal(&a);
        x[1][i] = (float)sd_pcg64_normal(&b);
        x[2][i] = sd_pcg64_normal_f32(&c);
    }
    for (int i = 0; i < 3; i++) {
        assert_true(worst(x[i], torch, 16) > 0.1);
        for (int k = 0; k < i; k++) assert_true(worst(x[i], x[k], 16) > 0.1);   /* float32 is not float64 rounded */
    }
}

/* All bits of a seed count, also those above 2^32; the twin cuts them off. */
TEST(twin_with_half_a_seed_is_wrong)
{
    sd_pcg64 a, b;
    sd_pcg64_seed(&a, UINT64_C(1) << 32 | 42);
    sd_pcg64_seed(&b, 42);
    assert_true(sd_pcg64_u64(&a) != sd_pcg64_u64(&b));
}

/* A pool of the wrong size and a spawn key taken for entropy. */
TEST(twins_of_the_seed_sequence_are_wrong)
{
    const uint64_t key[2] = {5, 3};
    uint32_t right[4], twin[4];
    sd_seedseq s;
    sd_seedseq_init(&s, 24, 42, key, 2);
    sd_seedseq_words(&s, right, 4);
    sd_seedseq_init(&s, 8, 42, key, 2);
    sd_seedseq_words(&s, twin, 4);
    assert_memory_not_equal(right, twin, sizeof right);
    sd_seedseq_init(&s, 24, 42, NULL, 0);
    sd_seedseq_words(&s, twin, 4);
    assert_memory_not_equal(right, twin, sizeof right);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legacy_normals_equal_numpy_bit_for_bit),
        cmocka_unit_test(pcg64_words_equal_numpy),
        cmocka_unit_test(seed_sequences_equal_numpy),
        cmocka_unit_test(pcg64_normals_equal_numpy_bit_for_bit),
        cmocka_unit_test(numbers_of_the_tail_equal_numpy),
        cmocka_unit_test(edges_of_the_layers_equal_numpy),
        cmocka_unit_test(published_numbers_come_out),
        cmocka_unit_test(a_million_numbers_are_standard_normal),
        cmocka_unit_test(twin_that_returns_the_first_of_a_pair_first_is_wrong),
        cmocka_unit_test(twins_legacy_pcg64_and_torch_are_three_streams),
        cmocka_unit_test(twin_with_half_a_seed_is_wrong),
        cmocka_unit_test(twins_of_the_seed_sequence_are_wrong),
    };
    return cmocka_run_group_tests_name("numpy_rng", tests, NULL, NULL);
}
