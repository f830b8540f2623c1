/* test_checkpoint.c - which files make up a model's part; shards; leftovers; weights that are not finite; widening to
 * float. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../weights.h"
#include "tempdir.h"

#define STEM "diffusion_pytorch_model"

/* A file of F32 tensors [1] with these names and this number in each. */
static void put(const char *file, float value, const char *a, const char *b)
{
    sd_error e = {0};
    const sd_traced t[] = {{a, SD_F32, 1, {1}, &value}, {b, SD_F32, 1, {1}, &value}};
    assert_int_equal(sd_safetensors_write(temp_path(file), t, b ? 2 : 1, &e), SD_OK);
}

static void put_text(const char *file, const char *text) { temp_write(file, text, strlen(text)); }

static sd_status open_here(sd_store *s, sd_error *e)
{
    memset(e, 0, sizeof *e);
    return sd_store_open_dir(s, temp_path(""), STEM, e);
}

static float number(const sd_store *s, const char *name)
{
    float x = -1;
    const sd_entry *t = sd_store_find(s, name);
    if (t) memcpy(&x, t->data, sizeof x);
    return x;
}

static void expect_number(const char *name, float value)
{
    sd_store s;
    sd_error e = {0};
    assert_int_equal(open_here(&s, &e), SD_OK);
    assert_true(number(&s, name) == value);
    sd_store_close(&s);
}

static void expect_error(sd_status status, const char *says, const char *also)
{
    sd_store s;
    sd_error e = {0};
    sd_status got = open_here(&s, &e);
    bool good = got == status && strstr(e.text, says) && (!also || strstr(e.text, also));
    if (!good) print_error("%s: %s\n", sd_status_name(got), e.text);
    assert_true(good);
    assert_null(s.file);
}

TEST(the_plain_file_goes_before_shards_and_these_before_fp16)
{
    temp_clear();
    put("old-00001-of-00001.fp16.safetensors", 5, "a", NULL);
    put_text(STEM ".safetensors.fp16.index.json", "{\"weight_map\":{\"a\":\"old-00001-of-00001.fp16.safetensors\"}}");
    expect_number("a", 5);
    put("new.fp16-00001-of-00001.safetensors", 4, "a", NULL);
    put_text(STEM ".safetensors.index.fp16.json", "{\"weight_map\":{\"a\":\"new.fp16-00001-of-00001.safetensors\"}}");
    expect_number("a", 4);
    put(STEM ".fp16.safetensors", 3, "a", NULL);
    expect_number("a", 3);
    put("x-00001-of-00001.safetensors", 2, "a", NULL);
    put_text(STEM ".safetensors.index.json",
             "{\"metadata\":{\"total_size\":4},\"weight_map\":{\"a\":\"x-00001-of-00001.safetensors\"}}");
    expect_number("a", 2);
    put(STEM ".safetensors", 1, "a", NULL);
    expect_number("a", 1);
}

/* What a file is named does not say what is in it: here all are safetensors. */
TEST(files_of_all_names_are_found_in_order)
{
    static const char *const names[] = {STEM ".pth", STEM ".pt", STEM ".ckpt", STEM ".gguf", STEM ".non_ema.bin",
                                        STEM ".non_ema.safetensors", "pytorch_model.fp16.bin", STEM ".fp16.bin",
                                        STEM ".fp16.safetensors", "pytorch_model.bin", STEM ".bin",
                                        STEM ".safetensors"};
    temp_clear();
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        put(names[i], (float)i, "a", NULL);
        expect_number("a", (float)i);
    }
    temp_clear();
    put("pytorch_model-00001-of-00001.bin", 1, "a", NULL);
    put_text("pytorch_model.bin.index.json", "{\"weight_map\":{\"a\":\"pytorch_model-00001-of-00001.bin\"}}");
    expect_number("a", 1);
}

TEST(shards_are_opened_once_and_searched_as_one)
{
    sd_store s;
    sd_error e = {0};
    temp_clear();
    put("s1.safetensors", 1, "a", "b");
    put("s2.safetensors", 2, "c", "unlisted");
    put_text(STEM ".safetensors.index.json",
             "{\"weight_map\":{\"a\":\"s1.safetensors\",\"c\":\"s2.safetensors\",\"b\":\"s1.safetensors\"}}");
    assert_int_equal(open_here(&s, &e), SD_OK);
    assert_int_equal(s.n_files, 2);
    assert_true(number(&s, "a") == 1 && number(&s, "b") == 1 && number(&s, "c") == 2);
    assert_null(sd_store_find(&s, "d"));
    sd_store_close(&s);
    sd_store_close(&s);
}

TEST(broken_indexes_are_refused)
{
    static const struct { const char *json; sd_status status; const char *says, *also; } bad[] = {
        {"", SD_ERR_FORMAT, "is not JSON from byte 0 on", NULL},
        {"{\"weight_map\":", SD_ERR_FORMAT, "is not JSON from byte 14 on", NULL},
        {"[]", SD_ERR_FORMAT, "expected a JSON object", NULL},
        {"{}", SD_ERR_FORMAT, "weight_map is missing", NULL},
        {"{\"weight_map\":[]}", SD_ERR_FORMAT, "weight_map is missing", NULL},
        {"{\"weight_map\":{}}", SD_ERR_FORMAT, "weight_map is missing, empty", NULL},
        {"{\"weight_map\":{\"a\":1}}", SD_ERR_FORMAT, "\"a\" must name a file", NULL},
        {"{\"weight_map\":{\"a\":\"\"}}", SD_ERR_FORMAT, "\"a\" must name a file", NULL},
        {"{\"weight_map\":{\"a\":\".\"}}", SD_ERR_FORMAT, "\"a\" must name a file", NULL},
        {"{\"weight_map\":{\"a\":\"../s1.safetensors\"}}", SD_ERR_FORMAT, "\"a\" must name a file", "found ../s1"},
        {"{\"weight_map\":{\"a\":\"..\"}}", SD_ERR_FORMAT, "\"a\" must name a file", NULL},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", SD_ERR_FORMAT, "\"a\" must name a file", "found /etc/passwd"},
        {"{\"weight_map\":{\"a\":\"sub\\\\s1\"}}", SD_ERR_FORMAT, "\"a\" must name a file", NULL},
        {"{\"weight_map\":{\"a\":\"s9.safetensors\"}}", SD_ERR_MISSING, "s9.safetensors: No such file", NULL},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"zz\":\"s1.safetensors\"}}", SD_ERR_FORMAT,
         "\"zz\" should be in s1.safetensors", NULL},
        {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"c\":\"s3.safetensors\"}}", SD_ERR_FORMAT, "\"a\" is both in",
         "s3.safetensors"},
    };
    temp_clear();
    put("s1.safetensors", 1, "a", "b");
    put("s3.safetensors", 2, "a", "c");
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        put_text(STEM ".safetensors.index.json", bad[i].json);
        expect_error(bad[i].status, bad[i].says, bad[i].also);
    }
}

TEST(what_is_missing_is_explained)
{
    sd_store s;
    sd_error e = {0};
    temp_clear();
    expect_error(SD_ERR_MISSING, "looked for " STEM " with", ".safetensors.index.json, .bin");
    put_text("pytorch_model.fp16.bin", "no tensors");
    expect_error(SD_ERR_FORMAT, "pytorch_model.fp16.bin", NULL);
    put(STEM ".fp16.safetensors", 1, "a", NULL);
    expect_number("a", 1);
    temp_clear();
    mkdir(temp_path(STEM ".safetensors"), 0700);
    expect_error(SD_ERR_ARG, "found a directory", STEM ".safetensors");
    assert_int_equal(sd_store_open_dir(&s, temp_path("nowhere"), STEM, &e), SD_ERR_MISSING);
    assert_non_null(strstr(e.text, "there is no directory"));
    char stem[300];
    memset(stem, 's', sizeof stem - 1);
    stem[sizeof stem - 1] = 0;
    sd_error_clear(&e);
    assert_int_equal(sd_store_open_dir(&s, temp_path(""), stem, &e), SD_ERR_ARG);
}

/* ---------------------------------------------------------------------------------- leftovers */

typedef struct lines { char text[4096]; int count[3]; } lines;

static void collect(void *user, int level, const char *line)
{
    lines *l = user;
    l->count[level]++;
    strncat(l->text, line, sizeof l->text - strlen(l->text) - 2);
    strcat(l->text, "\n");
}

TEST(unused_tensors_are_listed_but_for_the_idle_ones)
{
    const float x = 0;
    const int64_t id = 0;
    const sd_traced t[] = {{"weight", SD_F32, 1, {1}, &x},
                           {"text_model.embeddings.position_ids", SD_I64, 1, {1}, &id},
                           {"position_ids", SD_I64, 1, {1}, &id},
                           {"betas", SD_F32, 1, {1}, &x},
                           {"model_ema.decay", SD_F32, 1, {1}, &x},
                           {"betas_of_mine", SD_F32, 1, {1}, &x},
                           {"extra", SD_F32, 1, {1}, &x}};
    sd_store s;
    sd_error e = {0};
    lines l = {{0}, {0}};
    const sd_log log = {collect, &l};
    temp_clear();
    assert_int_equal(sd_safetensors_write(temp_path(STEM ".safetensors"), t, SD_COUNT(t), &e), SD_OK);
    assert_int_equal(open_here(&s, &e), SD_OK);
    sd_store_find(&s, "weight")->used = true;
    sd_store_log_unused(&s, NULL, "unet", &log);
    assert_int_equal(l.count[SD_LOG_DETAIL], 2);
    assert_int_equal(l.count[SD_LOG_NOTICE], 1);
    assert_int_equal(l.count[SD_LOG_WARNING], 0);
    assert_non_null(strstr(l.text, "unet: not used: betas_of_mine in "));
    assert_non_null(strstr(l.text, "unet: not used: extra in "));
    assert_non_null(strstr(l.text, "unet: 2 tensors of its files are not used"));
    sd_store_find(&s, "extra")->used = sd_store_find(&s, "betas_of_mine")->used = true;
    memset(&l, 0, sizeof l);
    sd_store_log_unused(&s, NULL, "unet", &log);
    assert_int_equal(l.text[0], 0);
    sd_store_log_unused(&s, NULL, "unet", NULL);
    sd_store_close(&s);
}

TEST(the_first_number_that_is_not_finite_is_named)
{
    const float good[3] = {3.4028235e38f, -3.4028235e38f, 1e-45f}, inf[3] = {0, 0, -INFINITY}, nan_[3] = {0, NAN, NAN};
    const uint16_t half_good[3] = {0x7BFF, 0xFBFF, 0x0001}, half_inf[3] = {0x7C00, 0, 0}, half_nan[3] = {0, 0, 0xFE00};
    const uint16_t bf_good[3] = {0x7F7F, 0xFF7F, 0x7C00}, bf_nan[3] = {0, 0x7F81, 0};
    const double d_good[3] = {3.4e38, -3.4e38, 5e-324}, d_inf[3] = {0, 0, INFINITY}, d_large[3] = {0, 1e39, 0};
    const unsigned char e4m3_good[3] = {0x7E, 0xFE, 1}, e4m3_nan[3] = {0, 0xFF, 0};
    const unsigned char e5m2_good[3] = {0x7B, 0xFB, 1}, e5m2_inf[3] = {0, 0, 0x7C};
    const int64_t integers[3] = {-1, INT64_MAX, 0x7FF0000000000000};
    const struct { sd_dtype dt; const void *x; int at; } cases[] = {
        {SD_F32, good, -1}, {SD_F32, inf, 2}, {SD_F32, nan_, 1}, {SD_F16, half_good, -1}, {SD_F16, half_inf, 0},
        {SD_F16, half_nan, 2}, {SD_BF16, bf_good, -1}, {SD_BF16, bf_nan, 1}, {SD_F64, d_good, -1}, {SD_F64, d_inf, 2},
        {SD_F64, d_large, 1}, {SD_F8_E4M3, e4m3_good, -1}, {SD_F8_E4M3, e4m3_nan, 1}, {SD_F8_E5M2, e5m2_good, -1},
        {SD_F8_E5M2, e5m2_inf, 2}, {SD_I64, integers, -1}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        const sd_traced t[] = {{"a.fine", SD_F32, 1, {3}, good},
                               {"the.weight", cases[i].dt, 1, {3}, cases[i].x},
                               {"z.unused", SD_F32, 1, {3}, nan_}};
        sd_store s;
        sd_error e = {0};
        char where[64];
        temp_clear();
        assert_int_equal(sd_safetensors_write(temp_path(STEM ".safetensors"), t, 3, &e), SD_OK);
        assert_int_equal(open_here(&s, &e), SD_OK);
        assert_int_equal(sd_store_check_finite(&s, &e), SD_OK);   /* nothing is bound yet */
        sd_store_find(&s, "a.fine")->used = sd_store_find(&s, "the.weight")->used = true;
        assert_int_equal(sd_store_check_finite(&s, &e), cases[i].at < 0 ? SD_OK : SD_ERR_NUMERIC);
        snprintf(where, sizeof where, "number %d of 3", cases[i].at);
        if (cases[i].at >= 0)
            assert_true(strstr(e.text, "the.weight") && strstr(e.text, where) && strstr(e.text, STEM));
        sd_store_close(&s);
    }
}

/* ----------------------------------------------------------------------------------- widening */

/* IEEE 754: sign, exponent, fraction, from the definition. */
static double by_definition(unsigned bits, int exponent_bits, int fraction_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, e = (int)(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    double f = (double)(bits & ((1u << fraction_bits) - 1)) / (1 << fraction_bits), sign = bits >> 15 ? -1.0 : 1.0;
    if (e == (1 << exponent_bits) - 1) return f > 0 ? NAN : sign * INFINITY;
    return sign * (e ? ldexp(1 + f, e - bias) : ldexp(f, 1 - bias));
}

TEST(every_half_and_bfloat_widens_exactly)
{
    enum { N = 65536 };
    unsigned char *raw = malloc(2 * N + 1);
    float *y = malloc(N * sizeof *y);
    for (int odd = 0; odd < 2; odd++) {   /* and from an odd address */
        for (unsigned i = 0; i < N; i++) {
            uint16_t h = (uint16_t)i;
            memcpy(raw + odd + 2 * i, &h, sizeof h);
        }
        for (int bf = 0; bf < 2; bf++) {
            sd_widen(y, raw + odd, bf ? SD_BF16 : SD_F16, N, &sd_kern_spec);
            for (unsigned i = 0; i < N; i++) {
                double want = by_definition(i, bf ? 8 : 5, bf ? 7 : 10);
                bool same = isnan(want) ? isnan(y[i]) : (double)y[i] == want && !signbit(y[i]) == !signbit(want);
                if (!same)
                    print_error("%s 0x%04x: expected %.9g, found %.9g\n", bf ? "BF16" : "F16", i, want, (double)y[i]);
                assert_true(same);
            }
        }
    }
    free(raw);
    free(y);
}

TEST(floats_and_doubles_widen_at_any_alignment)
{
    const float f[3] = {1.5f, -0.0f, 1e-45f};
    const double d[4] = {0.1, 1.0 + 1.0 / (1 << 24), 1.0 + 3.0 / (1 << 24), 1e300};   /* ties go to even */
    const float rounded[4] = {0.1f, 1.0f, 1.0f + 2.0f / (1 << 23), INFINITY};
    unsigned char raw[64];
    float y[4];
    for (size_t shift = 0; shift < 8; shift++) {
        memcpy(raw + shift, f, sizeof f);
        sd_widen(y, raw + shift, SD_F32, 3, &sd_kern_spec);
        assert_memory_equal(y, f, sizeof f);
        memcpy(raw + shift, d, sizeof d);
        sd_widen(y, raw + shift, SD_F64, 4, &sd_kern_spec);
        assert_memory_equal(y, rounded, sizeof rounded);
    }
    sd_widen(y, raw, SD_F16, 0, &sd_kern_spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plain_file_goes_before_shards_and_these_before_fp16),
        cmocka_unit_test(files_of_all_names_are_found_in_order),
        cmocka_unit_test(shards_are_opened_once_and_searched_as_one),
        cmocka_unit_test(broken_indexes_are_refused),
        cmocka_unit_test(what_is_missing_is_explained),
        cmocka_unit_test(unused_tensors_are_listed_but_for_the_idle_ones),
        cmocka_unit_test(the_first_number_that_is_not_finite_is_named),
        cmocka_unit_test(every_half_and_bfloat_widens_exactly),
        cmocka_unit_test(floats_and_doubles_widen_at_any_alignment),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, temp_make, temp_remove);
}
