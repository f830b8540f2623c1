/* test_codec.c - sd encode, sd decode, sd roundtrip from outside, against what the pipeline traces. */
#include <math.h>
#include <sys/stat.h>

#include "test.h"
#include "../sd.h"
#include "child.h"
#include "reader.h"
#include "tempdir.h"

#define DRAW "-p", "a red apple on a white background", "--sampling-method", "ddim", "--steps", "2", "-s", "5"

static const char *out(const char *name) { return temp_path(name); }

/* [1,4,h,w]; free it with sd_free */
static float *tensor(const char *path, const char *name, int h, int w)
{
    float *data;
    int nd;
    int64_t d[4];
    if (sd_tensor_read(reader, path, name, &data, &nd, d)) fail_msg("%s", sd_error_text(reader));
    const int64_t want[] = {1, 4, h, w};
    assert_int_equal(nd, 4);
    assert_memory_equal(d, want, sizeof want);
    return data;
}

/* The same numbers that image to image begins with: posterior, scaling and noise are the pipeline's, bit for bit. */
TEST(latents_are_those_of_image_to_image)
{
    RUN(DRAW, "-W", "72", "-H", "40", "-o", out("a.ppm"));
    expect_success("a picture");
    RUN(DRAW, "-i", out("a.ppm"), "--strength", "0.5", "-o", out("b.ppm"), "--trace", out("t.safetensors"),
        "--trace-filter", "image_latents");
    expect_success("image to image");
    RUN("encode", out("a.ppm"), "-s", "5", "-o", out("l.safetensors"));
    expect_success("encode");
    assert_non_null(strstr(ran.out, "seed: 5\n"));
    assert_non_null(strstr(ran.out, "l.safetensors: [1,4,5,9]\n"));
    float *x = tensor(out("l.safetensors"), "latents", 5, 9), *y = tensor(out("t.safetensors"), NULL, 5, 9);
    assert_memory_equal(x, y, 180 * sizeof *x);
    RUN("encode", out("a.ppm"), "-s", "5", "--unscaled", "-o", out("u.safetensors"));
    expect_success("unscaled");
    float *u = tensor(out("u.safetensors"), "latents", 5, 9), *mean = tensor(out("u.safetensors"), "mean", 5, 9);
    float *logvar = tensor(out("u.safetensors"), "logvar", 5, 9), noise[180];
    sd_randn(5, noise, 180);
    double factor = (double)x[0] / (double)u[0];
    assert_true(fabs(factor - 1) > 0.01);
    for (int i = 0; i < 180; i++) {
        assert_true(fabs((double)u[i] * factor - (double)x[i]) < 1e-5);
        assert_true(fabs((double)mean[i] + exp((double)logvar[i] / 2) * (double)noise[i] - (double)u[i]) < 1e-5);
    }
    RUN("encode", out("a.ppm"), "-s", "6", "-o", out("v.safetensors"));
    expect_success("another seed");
    float *v = tensor(out("v.safetensors"), "latents", 5, 9), *same = tensor(out("v.safetensors"), "mean", 5, 9);
    assert_memory_not_equal(x, v, 180 * sizeof *x);
    assert_memory_equal(mean, same, 180 * sizeof *x);
    float *all[] = {x, y, u, v, mean, logvar, same};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sd_free(all[i]);
    temp_clear();
}

/* The last latents of a run are the picture that the run draws. */
TEST(decoding_draws_what_the_run_draws)
{
    RUN(DRAW, "-o", out("a.ppm"), "--trace", out("t.safetensors"), "--trace-filter", "latents.2");
    expect_success("a run");
    RUN("decode", out("t.safetensors"), "-o", out("b.ppm"));
    expect_success("decode");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    RUN("decode", out("t.safetensors"), "-o", out("c.ppm"), "--unscaled");
    expect_success("decode, wrongly unscaled");
    assert_false(same_files(out("a.ppm"), out("c.ppm")));
    temp_clear();
}

TEST(every_latent_of_a_batch_becomes_a_picture)
{
    RUN(DRAW, "--batch-size", "2", "-o", out("a.ppm"), "--trace", out("t.safetensors"), "--trace-filter", "latents.2");
    expect_success("a run");
    RUN("decode", "-q", out("t.safetensors"), "-o", out("b.ppm"));
    expect_success("decode");
    assert_string_equal(ran.out, "");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    assert_true(same_files(out("a_2.ppm"), out("b_2.ppm")));
    temp_clear();
}

TEST(several_files_go_into_a_directory)
{
    char a[256], b[256], dir[256];
    snprintf(a, sizeof a, "%s", in_work("one.ppm"));
    snprintf(b, sizeof b, "%s", in_work("two.more.ppm"));
    snprintf(dir, sizeof dir, "%s", in_work("results"));
    RUN(DRAW, "-o", out("a.ppm"));
    expect_success("a run");
    size_t n;
    char *data = slurp(out("a.ppm"), &n);
    spill(a, data, n);
    spill(b, data, n);
    free(data);
    RUN("encode", a, "-s", "1", b, "-o", dir);
    expect_success("encode two");
    assert_true(same_files(in_work("results/one.safetensors"), in_work("results/two.more.safetensors")));
    RUN("decode", in_work("results/one.safetensors"), in_work("results/two.more.safetensors"), "-o", dir);
    expect_success("decode two");
    assert_non_null(strstr(ran.out, "two.more" PICTURE ": 128x128\n"));
    RUN("encode", a, "-s", "1", "-o", in_work("new/"));   /* a slash says so of one, too */
    expect_success("encode into a new directory");
    assert_true(same_files(in_work("new/one.safetensors"), in_work("results/one.safetensors")));
    RUN("roundtrip", a, b);
    expect_success("roundtrip of two");
    assert_non_null(strstr(ran.out, "mean of 2: PSNR "));
    temp_clear();
}

/* The figures, computed here again from the picture that came back. */
TEST(roundtrip_measures_what_came_back)
{
    char psnr[64];
    sd_image a, b;
    RUN(DRAW, "-o", out("a.ppm"));
    expect_success("a run");
    RUN("roundtrip", out("a.ppm"), "-o", out("b.ppm"));
    expect_success("roundtrip");
    assert_int_equal(sd_image_read(reader, out("a.ppm"), &a), SD_OK);
    assert_int_equal(sd_image_read(reader, out("b.ppm"), &b), SD_OK);
    double sum = 0;
    for (int i = 0; i < 128 * 128 * 3; i++) sum += (a.data[i] - b.data[i]) * (a.data[i] - b.data[i]);
    snprintf(psnr, sizeof psnr, "a.ppm: 128x128  PSNR %.2f dB  SSIM 0.",
             20 * log10(255) - 10 * log10(sum / (128 * 128 * 3)));
    if (!strstr(ran.out, psnr)) fail_msg("\"%s\" is not in: %s", psnr, ran.out);
    sd_image_free(&a);
    sd_image_free(&b);
    temp_clear();
}

TEST(sizes_are_rounded_with_a_notice_or_given)
{
    char ppm[] =
        "P6\n3 13\n255\n01234567890123456789012345678901234567890123456789012345678901234567890123456789"
                 "0123456789012345678901234567890123456";
    spill(in_work("odd.ppm"), ppm, sizeof ppm - 1);
    RUN("encode", in_work("odd.ppm"), "-o", out("l.safetensors"), "-s", "1");
    expect_success("odd");
    assert_non_null(strstr(ran.err, "odd.ppm of 3x13 becomes 8x16, multiples of 8\n"));
    RUN("encode", in_work("odd.ppm"), "-W", "24", "-H", "16", "--resize", "pad", "-o", out("l.safetensors"), "-s", "1");
    expect_success("given");
    assert_string_equal(ran.err, "");
    assert_non_null(strstr(ran.out, "[1,4,2,3]\n"));
    temp_clear();
}

TEST(what_cannot_be_done_is_said_in_one_line)
{
    static const char garbage[] = "garbage, neither a picture nor a file of tensors";
    char junk[256], good[256], three[256];
    snprintf(junk, sizeof junk, "%s", in_work("junk.png"));
    snprintf(good, sizeof good, "%s", in_work("good.ppm"));
    snprintf(three, sizeof three, "%s", in_work("three.safetensors"));
    spill(junk, garbage, sizeof garbage);
    spill(good, "P6\n1 1\n255\nabc", 14);
    static const char header[] =
        "\x3b\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"F32\",\"shape\":[3,1,1],\"data_offsets\":[0,12]}}............";
    char file[sizeof header];
    memcpy(file, header, sizeof header);
    file[0] = (char)(strchr(header + 8, '.') - (header + 8));
    spill(three, file, sizeof header - 1);
    const struct { const char *args[8]; int code; const char *word; } cases[] = {
        {{"encode"}, 2, "give a picture"},
        {{"decode"}, 2, "give a file of latents"},
        {{"roundtrip"}, 2, "give a picture"},
        {{"encode", junk}, 2, "junk.png"},
        {{"encode", "nowhere.png"}, 2, "nowhere.png"},
        {{"encode", "tests"}, 2, "tests"},
        {{"decode", junk}, 2, "junk.png"},
        {{"decode", "nowhere"}, 2, "nowhere"},
        {{"decode", three}, 2, "latents must be [N,4,h,w] or [4,h,w], found 3 dimensions: [3,1,1,1]"},
        {{"encode", good, "-W", "12"}, 2, "multiples of 8, not 12x8"},
        {{"encode", good, "--resize", "fill"}, 2, "stretch, crop or pad"},
        {{"encode", good, "-o", "x.ppm"}, 2, ".safetensors"},
        {{"decode", three, "-o", "x.jpg"}, 2, ".ppm"},
        {{"encode", good, good}, 2, "one file"},
        {{"encode", good, "-o", "nowhere/x.safetensors"}, 2, "nowhere/x.safetensors"},
        {{"roundtrip", good, "-m", "nowhere"}, 2, "nowhere"},
        {{"roundtrip", good, "--seed", "1"}, 2, "unknown option --seed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[64];
        snprintf(what, sizeof what, "case %zu", i);
        run_list(cases[i].args);
        expect_error(what, cases[i].code, cases[i].word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_are_those_of_image_to_image),
        cmocka_unit_test(decoding_draws_what_the_run_draws),
        cmocka_unit_test(every_latent_of_a_batch_becomes_a_picture),
        cmocka_unit_test(several_files_go_into_a_directory),
        cmocka_unit_test(roundtrip_measures_what_came_back),
        cmocka_unit_test(sizes_are_rounded_with_a_notice_or_given),
        cmocka_unit_test(what_cannot_be_done_is_said_in_one_line),
    };
    return cmocka_run_group_tests_name("codec", tests, reader_setup, reader_teardown);
}
