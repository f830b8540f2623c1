/* test_types.c - numbers of every type as floats, and floats as numbers of other types: the bits of torch and gguf
 * (tests/golden/types.*, written by tools/golden_types.py). */
#include <float.h>
#include <math.h>

#include "test.h"
#include "../weights.h"

static sd_weight_file golden;

static int open_golden(UNUSED void **fixture)
{
    sd_error e = {0};
    if (sd_weight_file_open(&golden, "tests/golden/types.safetensors", &e)) print_error("%s\n", e.text);
    return e.status != SD_OK;
}

static int close_golden(UNUSED void **fixture)
{
    sd_weight_file_close(&golden);
    return 0;
}

static const sd_entry *entry(const char *name)
{
    const sd_entry *t = sd_weight_file_find(&golden, name);
    if (!t) print_error("no %s\n", name);
    assert_non_null(t);
    return t;
}

/* ------------------------------------------------------------------------------------------- F8 */

/* E4M3FN by its definition: 1.mmm 2^(e-7), 0.mmm 2^-6, and NaN where all bits are set. */
static double e4m3(int x)
{
    int exponent = x >> 3 & 15, mantissa = x & 7;
    double size = exponent ? ldexp(1 + mantissa / 8.0, exponent - 7) : ldexp(mantissa / 8.0, -6);
    if ((x & 127) == 127) return NAN;
    return x & 128 ? -size : size;
}

/* E5M2: 1.mm 2^(e-15), 0.mm 2^-14; the largest exponent means infinity and NaN, as in IEEE 754 */
static double e5m2(int x)
{
    int exponent = x >> 2 & 31, mantissa = x & 3;
    double size = exponent ? ldexp(1 + mantissa / 4.0, exponent - 15) : ldexp(mantissa / 4.0, -14);
    if (exponent == 31) size = mantissa ? NAN : INFINITY;
    return x & 128 ? -size : size;
}

static bool same(double a, double b) { return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b); }

TEST(every_8_bit_float_has_its_value_in_all_kernels)
{
    static const char *const names[] = {"spec", "scalar", "sse2", "avx2", "avx512", "neon"};
    unsigned char x[1 + 3 * 256];
    float y[3 * 256];
    for (size_t i = 0; i < sizeof x; i++) x[i] = (unsigned char)(i - 1);
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        const sd_kern *k = i ? sd_kern_select(names[i]) : &sd_kern_spec;
        if (!k) continue;
        sd_widen(y, x + 1, SD_F8_E4M3, 3 * 256, k);
        for (int j = 0; j < 3 * 256; j++) assert_true(same(y[j], e4m3(j & 255)));
        sd_widen(y, x + 1, SD_F8_E5M2, 3 * 256, k);
        for (int j = 0; j < 3 * 256; j++) assert_true(same(y[j], e5m2(j & 255)));
    }
}

TEST(a_scale_multiplies_what_was_widened)
{
    unsigned char x[2] = {0x38, 0xB9};   /* 1, -1.125 */
    sd_tensor w = {.nd = 1, .dim = {2}, .dt = SD_F8_E4M3, .scale = 0.3f, .data = x};
    float y[2];
    sd_widen_weight(y, &w, 0, 2, &sd_kern_spec);
    assert_true(y[0] == 0.3f && y[1] == -1.125f * 0.3f);
    sd_widen_weight(y, &w, 1, 1, &sd_kern_spec);
    assert_true(y[0] == -1.125f * 0.3f);
    w.scale = 0;
    sd_widen_weight(y, &w, 1, 1, &sd_kern_spec);
    assert_true(y[0] == -1.125f);
}

/* ------------------------------------------------------------------------------------------ narrowing */

/* torch's and ours may be different NaN. */
static bool is_nan(sd_dtype dt, const unsigned char *p)
{
    float y;
    sd_widen(&y, p, dt, 1, &sd_kern_spec);
    return isnan(y);
}

TEST(floats_become_narrower_ones_with_the_bits_of_torch)
{
    static const struct { const char *name; sd_dtype dt; } to[] = {
        {"narrow.F16", SD_F16}, {"narrow.BF16", SD_BF16}, {"narrow.F8_E4M3", SD_F8_E4M3},
        {"narrow.F8_E5M2", SD_F8_E5M2},
    };
    const sd_entry *x = entry("narrow.x");
    size_t n = x->bytes / sizeof(float), nans = 0, wrong = 0;
    for (size_t i = 0; i < SD_COUNT(to); i++) {
        size_t size = sd_dtype_size(to[i].dt);
        const unsigned char *want = entry(to[i].name)->data;
        unsigned char *got = malloc(n * size + 1);   /* at an odd address, too */
        sd_narrow(got + 1, to[i].dt, x->data, n);
        for (size_t k = 0; k < n; k++) {
            bool nan = is_nan(to[i].dt, want + k * size);
            nans += nan;
            const unsigned char *mine = got + 1 + k * size;
            if (nan ? is_nan(to[i].dt, mine) : !memcmp(mine, want + k * size, size)) continue;
            if (wrong++ < 5) print_error("%s: number %zu, %a\n", to[i].name, k, (double)((const float *)x->data)[k]);
        }
        free(got);
    }
    assert_int_equal(wrong, 0);
    assert_true(nans > 4 && nans < n);
}

TEST(what_was_widened_narrows_to_the_same_bits)
{
    static const sd_dtype types[] = {SD_F16, SD_BF16, SD_F8_E4M3, SD_F8_E5M2};
    for (size_t i = 0; i < SD_COUNT(types); i++) {
        size_t size = sd_dtype_size(types[i]), n = size == 1 ? 256 : 65536;
        for (size_t k = 0; k < n; k++) {
            unsigned char x[2] = {(unsigned char)k, (unsigned char)(k >> 8)}, again[2];
            float y;
            sd_widen(&y, x, types[i], 1, &sd_kern_spec);
            sd_narrow(again, types[i], &y, 1);
            if (isnan(y)) assert_true(is_nan(types[i], again));
            else assert_memory_equal(x, again, size);
        }
    }
}

TEST(floats_become_blocks_with_the_bits_of_gguf)
{
    const sd_entry *x = entry("q8_0.x"), *want = entry("q8_0.bytes");
    unsigned char got[8 * 34];
    assert_int_equal(want->bytes, sizeof got);
    sd_narrow(got, SD_Q8_0, x->data, 8 * 32);
    assert_memory_equal(got, want->data, sizeof got);
}

/* The mistakes: halves to the even number; the scale rounded before it divides. */
TEST(rounding_to_even_or_by_the_rounded_scale_would_be_seen)
{
    const float *x = entry("q8_0.x")->data;
    const unsigned char *want = entry("q8_0.bytes")->data;
    int even = 0, rounded = 0;
    for (int b = 0; b < 8; b++, x += 32, want += 34) {
        float most = 0, half;
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[i]));
        float d = most / 127.0f;
        sd_widen(&half, want, SD_F16, 1, &sd_kern_spec);
        for (int i = 0; i < 32 && half > 0; i++) {
            even += (int)rintf(x[i] * (1.0f / d)) != (int8_t)want[2 + i];
            rounded += (int)roundf(x[i] * (1.0f / half)) != (int8_t)want[2 + i];
        }
    }
    assert_true(even > 3);
    assert_true(rounded > 3);
}

TEST(a_block_with_a_nan_or_an_infinity_does_not_look_like_numbers)
{
    const float bad[] = {NAN, INFINITY, -INFINITY, FLT_MAX};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        float x[32] = {1, 2, 3}, y[32];
        unsigned char block[34];
        x[17] = bad[i];
        sd_narrow(block, SD_Q8_0, x, 32);
        sd_widen(y, block, SD_Q8_0, 32, &sd_kern_spec);
        assert_true(!isfinite(y[17]));
    }
}

TEST(only_types_that_can_be_written_are_narrowed_to)
{
    float x[32] = {1};
    unsigned char block[32] = {7};
    assert_true(sd_can_narrow(SD_F32) && sd_can_narrow(SD_F64) && sd_can_narrow(SD_Q8_0));
    assert_false(sd_can_narrow(SD_I32) || sd_can_narrow(SD_Q4_0) || sd_can_narrow(SD_Q6_K));
    assert_false(sd_can_narrow(SD_DTYPE_UNKNOWN));
    sd_narrow(block, SD_Q4_0, x, 32);
    assert_int_equal(block[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_8_bit_float_has_its_value_in_all_kernels),
        cmocka_unit_test(a_scale_multiplies_what_was_widened),
        cmocka_unit_test(floats_become_narrower_ones_with_the_bits_of_torch),
        cmocka_unit_test(what_was_widened_narrows_to_the_same_bits),
        cmocka_unit_test(floats_become_blocks_with_the_bits_of_gguf),
        cmocka_unit_test(rounding_to_even_or_by_the_rounded_scale_would_be_seen),
        cmocka_unit_test(a_block_with_a_nan_or_an_infinity_does_not_look_like_numbers),
        cmocka_unit_test(only_types_that_can_be_written_are_narrowed_to),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
