/* test_rng.c - rng_torch.c against torch (tests/golden/rng.txt, made by tools/golden_sampler.py). */
#include "../rng.h"
#include "numbers.h"

#include <math.h>

#include "test.h"
static const double promised = 1e-6;   /* what the documentation promises; here the bits are equal */

static float *draw(uint64_t seed, size_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    sd_rng r;
    sd_rng_seed(&r, seed);
    sd_rng_normal(&r, x, n);
    return x;
}

static void assert_words(char *rest, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t expected = (uint32_t)next_hex(&rest);
        assert_true(fabs((double)x[i] - float_of(expected)) <= promised);
        assert_int_equal(bits_of(x[i]), expected);
    }
}

static void check_draw(const char *word, char *rest)
{
    (void)word;
    uint64_t seed = strtoull(rest, &rest, 10);
    size_t n = strtoul(rest, &rest, 10);
    float *x = draw(seed, n);
    assert_words(rest, x, n);
    free(x);
}

static void check_mixed(const char *word, char *rest)
{
    (void)word;
    sd_rng r;
    sd_rng_seed(&r, strtoull(rest, &rest, 10));
    size_t calls = strtoul(rest, &rest, 10), n = 0;
    float x[256];
    for (size_t i = 0; i < calls; i++) {
        size_t size = strtoul(rest, &rest, 10);
        assert_true(n + size <= 256);
        sd_rng_normal(&r, x + n, size);
        n += size;
    }
    assert_words(rest, x, n);
}

static void check_long(const char *word, char *rest)
{
    (void)word;
    uint64_t seed = strtoull(rest, &rest, 10);
    size_t n = strtoul(rest, &rest, 10);
    uint64_t hash = strtoull(rest, &rest, 16);
    float *x = draw(seed, n), ends[8];
    memcpy(ends, x, 4 * sizeof *x);
    memcpy(ends + 4, x + n - 4, 4 * sizeof *x);
    assert_words(rest, ends, 8);
    assert_true(fnv1a_f32(x, n) == hash);
    free(x);
}

TEST(mt19937_is_the_published_one)
{
    sd_rng r;
    sd_rng_seed(&r, 5489);   /* the 10000th output that the C++ standard states for std::mt19937 */
    for (int i = 1; i < 10000; i++) sd_rng_u32(&r);
    assert_int_equal(sd_rng_u32(&r), 4123659995u);
}

TEST(draws_equal_torch_bit_for_bit) { each_line("rng.txt", "draw", check_draw); }

TEST(consecutive_draws_of_mixed_sizes_equal_torch)
{
    each_line("rng.txt", "mixed", check_mixed);
}

TEST(long_draws_equal_torch_bit_for_bit) { each_line("rng.txt", "long", check_long); }

/* Numbers printed elsewhere, independent of the golden file. */
TEST(published_numbers_come_out)
{
    static const double seed0[16] = {-1.12584, -1.15236, -0.25058, -0.43388, 0.84871, 0.69201, -0.31601, -2.11522,
                                     0.32227, -1.26333, 0.34998, 0.30813, 0.11984, 1.23766, 1.11678, -0.24728};
    static const double tail20[4] = {0.93182659, 1.25900924, 2.00498056, 0.05373690};
    static const double seed42[4] = {1.92691529, 1.48728406, 0.90071720, -2.10552096};
    float *a = draw(0, 16), *b = draw(0, 20), *c = draw(42, 4 * 64 * 64);
    for (int i = 0; i < 16; i++) assert_true(fabs(a[i] - seed0[i]) < 6e-6);
    for (int i = 0; i < 4; i++) assert_true(fabs(b[16 + i] - tail20[i]) < 1e-8);
    for (int i = 0; i < 4; i++) assert_true(fabs(c[i] - seed42[i]) < 1e-8);
    free(a);
    free(b);
    free(c);
}

TEST(only_the_low_half_of_a_seed_counts)
{
    float *a = draw(42, 64), *b = draw((UINT64_C(1) << 32) + 42, 64), *c = draw(43, 64);
    assert_memory_equal(a, b, 64 * sizeof *a);
    assert_true(worst(a, c, 64) > 0.1);
    free(a);
    free(b);
    free(c);
}

TEST(seeding_forgets_the_waiting_normal)
{
    sd_rng r;
    float x[2], y;
    sd_rng_seed(&r, 7);
    sd_rng_normal(&r, x, 1);
    sd_rng_seed(&r, 7);
    sd_rng_normal(&r, &y, 1);
    assert_true(x[0] == y);
    sd_rng_normal(&r, x + 1, 0);   /* nothing is drawn for nothing */
    sd_rng_normal(&r, &y, 1);
    float *both = draw(7, 2);
    assert_true(both[1] == y);
    free(both);
}

TEST(a_million_numbers_are_standard_normal)
{
    const size_t n = 1000000;
    float *x = draw(2024, n);
    assert_standard_normal(x, n);
    free(x);
}

/* ---- wrong twins: mistakes that exceed the bound which the right code meets */

/* Trap 48: the last 16 of a length that is no multiple of 16 are drawn again. The twin leaves them as a shorter draw
 * would. */
TEST(twin_without_the_second_tail_is_wrong)
{
    float *right = draw(0, 20), *twin = draw(0, 32);
    assert_memory_equal(right, twin, 4 * sizeof *right);    /* the numbers before the tail are the same */
    assert_true(worst(right + 4, twin + 4, 16) > 1e5 * promised);
    free(right);
    free(twin);
}

/* Trap 48: fewer than 16 numbers take the scalar path in double. The twin takes the first of a block of 16. */
TEST(twin_with_one_path_for_all_lengths_is_wrong)
{
    float *right = draw(0, 15), *twin = draw(0, 16);
    assert_true(worst(right, twin, 15) > 1e5 * promised);
    free(right);
    free(twin);
}

/* Trap 50: the dtype of the draw is part of the stream. The twin draws in double, two words to a uniform, and casts. */
TEST(twin_that_draws_in_double_is_wrong)
{
    float *right = draw(3, 16), twin[16];
    double u[16];
    sd_rng r;
    sd_rng_seed(&r, 3);
    for (int i = 0; i < 16; i++) {
        uint64_t high = sd_rng_u32(&r), low = sd_rng_u32(&r);
        u[i] = (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
    }
    for (int i = 0; i < 8; i++) {
        double radius = sqrt(-2 * log(1 - u[i])), theta = 6.283185307179586 * u[i + 8];
        twin[i] = (float)(radius * cos(theta));
        twin[i + 8] = (float)(radius * sin(theta));
    }
    assert_true(fabs(twin[0] - -0.2177) < 1e-4);   /* it is torch.randn(16, dtype=torch.float64) with seed 3 */
    assert_true(worst(right, twin, 16) > 1e5 * promised);
    free(right);
}

/* Trap 49: Box-Muller with exact functions is close, but not what an x86 torch computes. */
TEST(twin_with_exact_functions_is_close_but_not_equal)
{
    enum { BLOCKS = 1000 };
    float *right = draw(9, 16 * BLOCKS);
    sd_rng r;
    sd_rng_seed(&r, 9);
    int differ = 0;
    double most = 0;
    for (int b = 0; b < BLOCKS; b++) {
        double u[16];
        for (int i = 0; i < 16; i++) u[i] = (sd_rng_u32(&r) & 0xffffffu) * 0x1p-24;
        for (int i = 0; i < 8; i++) {
            double radius = sqrt(-2 * log(1 - u[i])), theta = 6.283185307179586 * u[i + 8];
            float twin = (float)(radius * cos(theta)), ours = right[16 * b + i];
            differ += twin != ours;
            most = fmax(most, fabs((double)twin - ours));
        }
    }
    assert_true(differ > BLOCKS);
    assert_true(most > 5e-7 && most < 3e-6);
    free(right);
}

/* Trap 52: one generator for a batch is not one generator per picture. */
TEST(twin_with_a_generator_per_picture_is_wrong)
{
    float *batch = draw(10, 128), *first = draw(10, 64), *second = draw(11, 64);
    assert_memory_equal(batch, first, 64 * sizeof *batch);
    assert_true(worst(batch + 64, second, 64) > 1e5 * promised);
    free(batch);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mt19937_is_the_published_one),
        cmocka_unit_test(draws_equal_torch_bit_for_bit),
        cmocka_unit_test(consecutive_draws_of_mixed_sizes_equal_torch),
        cmocka_unit_test(long_draws_equal_torch_bit_for_bit),
        cmocka_unit_test(published_numbers_come_out),
        cmocka_unit_test(only_the_low_half_of_a_seed_counts),
        cmocka_unit_test(seeding_forgets_the_waiting_normal),
        cmocka_unit_test(a_million_numbers_are_standard_normal),
        cmocka_unit_test(twin_without_the_second_tail_is_wrong),
        cmocka_unit_test(twin_with_one_path_for_all_lengths_is_wrong),
        cmocka_unit_test(twin_that_draws_in_double_is_wrong),
        cmocka_unit_test(twin_with_exact_functions_is_close_but_not_equal),
        cmocka_unit_test(twin_with_a_generator_per_picture_is_wrong),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
