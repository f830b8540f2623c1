/* test_brownian.c - rng_brownian.c against torchsde (tests/golden/random_brownian.txt, made by
 * tools/golden_random.py). */
#include "../rng_streams.h"
#include "numbers.h"

#include <math.h>

#include "test.h"
static void torch_normals(void *user, uint32_t seed, float *out, size_t n)
{
    (void)user;
    sd_rng r;
    sd_rng_seed(&r, seed);
    sd_rng_normal(&r, out, n);
}

static sd_brownian *open_path(uint64_t entropy, double t0, double t1, size_t n)
{
    sd_error e = {0};
    sd_brownian *b;
    assert_int_equal(sd_brownian_new(&b, entropy, t0, t1, n, torch_normals, NULL, &e), SD_OK);
    return b;
}

static void increment(sd_brownian *b, double from, double to, float *out)
{
    sd_error e = {0};
    if (sd_brownian_increment(b, from, to, out, &e)) fail_msg("%s", e.text);
}

static struct {
    sd_brownian *path;
    size_t n;
    int asked;
} golden;

static void check_increment(const char *word, char *rest)
{
    if (strcmp(word, "path") == 0) {
        sd_brownian_free(golden.path);
        uint64_t entropy = next_u64(&rest);
        double t0 = next_double(&rest), t1 = next_double(&rest);
        golden.n = (size_t)next_u64(&rest);
        golden.path = open_path(entropy, t0, t1, golden.n);
    } else if (strcmp(word, "increment") == 0) {
        float x[64];
        assert_true(golden.n <= 64);
        double from = next_double(&rest), to = next_double(&rest);
        increment(golden.path, from, to, x);
        uint64_t hash = next_hex(&rest);
        for (int i = 0; i < 3; i++) assert_int_equal(bits_of(x[i]), next_hex(&rest));
        assert_true(fnv1a_f32(x, golden.n) == hash);
        golden.asked++;
    }
}

/* Halves, overlaps, ties of the rounding to 1e-6, times outside the interval, nothing at all, the same again. */
TEST(increments_equal_torchsde_bit_for_bit)
{
    memset(&golden, 0, sizeof golden);
    each_line("random_brownian.txt", NULL, check_increment);
    sd_brownian_free(golden.path);
    golden.path = NULL;
    assert_true(golden.asked > 50);
}

/* What was asked before plays no part: that is why torchsde's tree is halved and not cut where it is asked. */
TEST(the_order_of_questions_does_not_matter)
{
    static const double at[] = {0.11, 0.37, 0.5, 0.731, 0.9};
    sd_brownian *forward = open_path(9, 0, 1, 16), *backward = open_path(9, 0, 1, 16);
    float a[4][16], b[4][16];
    for (int i = 0; i < 4; i++) increment(forward, at[i], at[i + 1], a[i]);
    for (int i = 3; i >= 0; i--) increment(backward, at[i], at[i + 1], b[i]);
    assert_memory_equal(a, b, sizeof a);
    sd_brownian_free(forward);
    sd_brownian_free(backward);
}

TEST(increments_add_up)
{
    sd_brownian *b = open_path(3, 0.029, 14.61, 64);
    float whole[64], sum[64] = {0}, part[64];
    increment(b, 0.029, 14.61, whole);
    for (int i = 0; i < 20; i++) {
        double step = (14.61 - 0.029) / 20, from = 0.029 + i * step;
        increment(b, from, i == 19 ? 14.61 : from + step, part);
        for (int k = 0; k < 64; k++) sum[k] += part[k];
    }
    assert_true(worst(whole, sum, 64) < 2e-5);
    sd_brownian_free(b);
}

/* Increments over intervals that do not overlap are independent, with variances that are their lengths. */
TEST(increments_have_the_right_variances)
{
    enum { MANY = 40000 };
    sd_brownian *b = open_path(11, 0, 10, MANY);
    float *x = malloc(MANY * sizeof *x), *y = malloc(MANY * sizeof *y);
    assert_non_null(x);
    assert_non_null(y);
    increment(b, 1.3, 2.0, x);
    increment(b, 2.0, 7.7, y);
    double xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < MANY; i++) {
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
        xy += (double)x[i] * y[i];
    }
    assert_true(fabs(xx / MANY / 0.7 - 1) < 0.03);
    assert_true(fabs(yy / MANY / 5.7 - 1) < 0.03);
    assert_true(fabs(xy / MANY) < 0.04);
    free(x);
    free(y);
    sd_brownian_free(b);
}

static void assert_refused(sd_brownian *b, double from, double to, const char *why)
{
    sd_error e = {0};
    float x[16];
    assert_int_equal(sd_brownian_increment(b, from, to, x, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, why));
}

TEST(impossible_questions_are_refused)
{
    sd_error e = {0};
    sd_brownian *b;
    static const double bad[][2] = {{1, 0}, {NAN, 1}, {0, NAN}, {0, INFINITY}, {-2e9, 0}, {0, 2e9}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error_clear(&e);
        assert_int_equal(sd_brownian_new(&b, 0, bad[i][0], bad[i][1], 16, torch_normals, NULL, &e), SD_ERR_ARG);
        assert_null(b);
    }
    b = open_path(0, 0, 1, 16);
    assert_refused(b, 0.7, 0.3, "forward");
    assert_refused(b, NAN, 0.3, "forward");
    assert_refused(b, 0.3, NAN, "forward");
    assert_refused(b, 0.3, 0.3000001, "too close");
    float x[16];
    increment(b, 5, 6, x);          /* outside: nothing happens there */
    for (int i = 0; i < 16; i++) assert_true(x[i] == 0);
    sd_brownian_free(b);
    b = open_path(0, 2, 2, 16);     /* an interval without length */
    increment(b, 0, 3, x);
    for (int i = 0; i < 16; i++) assert_true(x[i] == 0);
    sd_brownian_free(b);
    b = open_path(0, -1e9, 1e9, 16);
    increment(b, 0.3, 0.300001, x); /* the deepest tree there is */
    sd_brownian_free(b);
    sd_brownian_free(NULL);
}

/* The ends of a path are rounded to 1e-6. A last step down to level 0 has nothing of it but what rounding left
 * inside. */
TEST(what_rounding_leaves_of_a_path_is_nothing)
{
    float x[16];
    sd_brownian *b = open_path(0, 0.932358325, 14.6146, 16);   /* begins at 0.932358 */
    x[0] = 1;
    increment(b, 0, 0.932358325, x);
    for (int i = 0; i < 16; i++) assert_true(x[i] == 0);
    increment(b, 0.932358325, 1, x);
    assert_true(x[0] != 0);
    assert_refused(b, 0.9323581, 0.932358325, "too close");
    sd_brownian_free(b);
    b = open_path(0, 0.1, 14.6146423, 16);                     /* ends at 14.614642 */
    increment(b, 14.6146418, 20, x);
    for (int i = 0; i < 16; i++) assert_true(x[i] == 0);
    sd_brownian_free(b);
}

/* ---- wrong twins: the first half of [0, 1], made otherwise */

static void half_by_hand(float *half, uint64_t entropy, size_t pool, uint64_t key, uint64_t depth, bool keyed)
{
    const uint64_t place[2] = {key, depth};
    sd_seedseq s;
    uint32_t root, word;
    float whole[64], noise[64];
    sd_seedseq_init(&s, pool, entropy, NULL, 0);
    sd_seedseq_words(&s, &root, 1);
    torch_normals(NULL, root, whole, 64);
    sd_seedseq_init(&s, pool, entropy, place, keyed ? 2 : 0);
    sd_seedseq_words(&s, &word, 1);
    torch_normals(NULL, word, noise, 64);
    for (int i = 0; i < 64; i++) half[i] = 0.5f * whole[i] + 0.5f * noise[i];   /* sqrt(1/2 * 1/2) */
}

TEST(twins_with_other_seeds_are_wrong)
{
    float right[64], twin[64];
    sd_brownian *b = open_path(5, 0, 1, 64);
    increment(b, 0, 0.5, right);
    half_by_hand(twin, 5, 24, 0, 0, true);
    assert_true(worst(right, twin, 64) < 1e-6);
    half_by_hand(twin, 5, 8, 0, 0, true);    /* BrownianInterval's default pool */
    assert_true(worst(right, twin, 64) > 0.1);
    half_by_hand(twin, 5, 24, 0, 1, true);   /* depth counted from one */
    assert_true(worst(right, twin, 64) > 0.1);
    half_by_hand(twin, 5, 24, 0, 0, false);  /* no spawn key: the root's own noise again */
    assert_true(worst(right, twin, 64) > 0.1);
    sd_brownian_free(b);
}

/* Fresh noise of the right variance, as the ancestral samplers add it, is no Brownian motion: both halves of an
 * interval must add up to the whole. */
TEST(twin_with_independent_noise_is_wrong)
{
    float whole[64], left[64], right[64], sum[64];
    sd_rng r;
    sd_rng_seed(&r, 5);
    sd_rng_normal(&r, whole, 64);
    sd_rng_normal(&r, left, 64);
    sd_rng_normal(&r, right, 64);
    for (int i = 0; i < 64; i++) sum[i] = (left[i] + right[i]) * (float)sqrt(0.5);
    assert_true(worst(whole, sum, 64) > 0.1);
    sd_brownian *b = open_path(5, 0, 1, 64);
    increment(b, 0, 1, whole);
    increment(b, 0, 0.5, left);
    increment(b, 0.5, 1, right);
    for (int i = 0; i < 64; i++) sum[i] = left[i] + right[i];
    assert_true(worst(whole, sum, 64) < 1e-6);
    sd_brownian_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(increments_equal_torchsde_bit_for_bit),
        cmocka_unit_test(the_order_of_questions_does_not_matter),
        cmocka_unit_test(increments_add_up),
        cmocka_unit_test(increments_have_the_right_variances),
        cmocka_unit_test(impossible_questions_are_refused),
        cmocka_unit_test(what_rounding_leaves_of_a_path_is_nothing),
        cmocka_unit_test(twins_with_other_seeds_are_wrong),
        cmocka_unit_test(twin_with_independent_noise_is_wrong),
    };
    return cmocka_run_group_tests_name("brownian", tests, NULL, NULL);
}
