/* test_arguments.c - the public interface under arguments that make no sense: NULL, sizes out of range, pictures
 * without pixels, numbers that are none. Each gets a status and a sentence; nothing crashes, and the context works
 * afterwards. */
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <math.h>

#include "test.h"
#include "network.h"
#include "tempdir.h"

static sd_ctx *ctx;

static int open_usual(void **state)
{
    ctx = open_tiny(SD_PART_ALL, 1);
    return temp_make(state);
}

static int close_usual(void **state)
{
    sd_close(ctx);
    return temp_remove(state);
}

/* The call was refused with a sentence that has `word` in it. */
static void refused(sd_status status, const char *word, const char *call)
{
    const char *text = sd_error_text(ctx);
    if (status != SD_ERR_ARG || !strstr(text, word) || strchr(text, '\n'))
        fail_msg("%s: status %d, \"%s\", expected \"%s\"", call, status, text, word);
}
#define REFUSED(word, call) refused(call, word, #call)

static void the_context_still_works(void)
{
    sd_params p = short_run("a tree", 32);
    sd_image image;
    if (sd_generate(ctx, &p, &image)) fail_msg("%s", sd_error_text(ctx));
    sd_image_free(&image);
}

TEST(null_is_refused_or_harmless_everywhere)
{
    sd_params p = short_run("a tree", 32);
    sd_image image = {0}, pixel = {1, 1, 3, (uint8_t[3]){0}};
    sd_tokens tokens;
    float x[16] = {0}, *data;
    int n, nd;
    int64_t dim[4];
    char *text, error[512];
    sd_denoised step = {0, 1, 1, 4, 4, 4, NULL};
    /* without a context there is nowhere to write a sentence */
    assert_int_equal(sd_open(NULL, NULL), SD_ERR_ARG);
    sd_ctx *usual = NULL;
    sd_open(&usual, NULL);           /* the default model, wherever it is */
    sd_close(usual);
    sd_close(NULL);
    sd_cancel(NULL);
    sd_free(NULL);
    sd_image_free(NULL);
    sd_options_init(NULL);
    sd_params_init(NULL);
    sd_randn(1, NULL, 5);
    sd_get_timings(ctx, NULL);
    sd_get_timings(NULL, &(sd_timings){0});
    sd_set_progress(NULL, NULL, NULL);
    sd_set_step(NULL, NULL, NULL);
    sd_set_random_draw(NULL, NULL, NULL);
    assert_non_null(sd_error_text(NULL));
    assert_non_null(sd_error_place(NULL));
    assert_non_null(sd_status_name((sd_status)-1));
    assert_null(sd_token_piece(NULL, 0));
    assert_null(sd_token_piece(ctx, -1));
    assert_null(sd_token_piece(ctx, INT32_MAX));
    assert_int_equal(sd_get_sampler(0, NULL), 0);
    assert_int_equal(sd_default_model(NULL, NULL, 9), 0);
    assert_int_equal(sd_default_model(NULL, error, 0), 0);
    assert_int_equal(sd_set_profile(NULL, NULL, NULL), SD_ERR_MEMORY);
    assert_int_equal(sd_measure_roofs(NULL, 0.001, NULL), SD_ERR_MEMORY);
    assert_true(sd_roof_seconds(NULL, 1, 1, 1) == 0);
    assert_int_equal(sd_get_info(ctx, NULL), SD_ERR_ARG);
    assert_int_equal(sd_get_info(NULL, NULL), SD_ERR_MEMORY);
    assert_int_equal(sd_generate(NULL, &p, &image), SD_ERR_MEMORY);
    assert_int_equal(sd_plan(NULL, 0, 0, 0, &text, error), SD_ERR_ARG);
    assert_non_null(strstr(error, "must not be NULL"));
    assert_int_equal(sd_plan(NULL, 0, 0, 0, NULL, NULL), SD_ERR_ARG);
    assert_int_equal(sd_plan("sd15", 0, 0, 0, &text, NULL), SD_OK);
    sd_free(text);
    /* with one there is */
    REFUSED("tokens", sd_tokenize(ctx, "a", NULL));
    assert_int_equal(sd_tokenize(ctx, NULL, &tokens), SD_OK);   /* "" */
    REFUSED("out", sd_encode_text(ctx, "a", 0, NULL, SD_TOKENS * 96));
    REFUSED("pooled", sd_encode_text_pooled(ctx, "a", 0, x, SD_TOKENS * 96, NULL, 0));
    REFUSED("input", sd_unet_evaluate(ctx, NULL, x));
    REFUSED("latents", sd_unet(ctx, 1, 1, 1, NULL, x, x, x));
    REFUSED("timesteps", sd_unet(ctx, 1, 1, 1, x, NULL, x, x));
    REFUSED("context", sd_unet(ctx, 1, 1, 1, x, x, NULL, x));
    REFUSED("out", sd_unet(ctx, 1, 1, 1, x, x, x, NULL));
    REFUSED("latents", sd_vae_decode(ctx, 1, 1, 1, NULL, x));
    REFUSED("picture", sd_vae_decode(ctx, 1, 1, 1, x, NULL));
    REFUSED("picture", sd_vae_encode(ctx, 1, 1, 1, NULL, x, x));
    REFUSED("mean", sd_vae_encode(ctx, 1, 1, 1, x, NULL, x));
    REFUSED("logvar", sd_vae_encode(ctx, 1, 1, 1, x, x, NULL));
    REFUSED("params", sd_generate(ctx, NULL, &image));
    REFUSED("images", sd_generate(ctx, &p, NULL));
    REFUSED("params", sd_resolve_params(ctx, NULL, &p));
    REFUSED("resolved", sd_resolve_params(ctx, &p, NULL));
    REFUSED("params", sd_parameters_text(ctx, NULL, &text));
    assert_null(text);
    REFUSED("text", sd_parameters_text(ctx, &p, NULL));
    REFUSED("params", sd_schedule(ctx, NULL, &n, NULL, NULL, NULL));
    REFUSED("n must", sd_schedule(ctx, &p, NULL, NULL, NULL, NULL));
    REFUSED("path", sd_image_read(ctx, NULL, &image));
    REFUSED("image", sd_image_read(ctx, "a.png", NULL));
    REFUSED("picture", sd_image_resize(ctx, NULL, 8, 8, NULL, &image));
    REFUSED("out", sd_image_resize(ctx, &pixel, 8, 8, NULL, NULL));
    REFUSED("picture", sd_image_to_floats(ctx, NULL, x));
    REFUSED("out", sd_image_to_floats(ctx, &pixel, NULL));
    REFUSED("from", sd_image_from_floats(ctx, 1, 1, NULL, &image));
    REFUSED("image", sd_image_from_floats(ctx, 1, 1, x, NULL));
    REFUSED("sides", sd_image_from_floats(ctx, 0, 1, x, &image));
    REFUSED("picture", sd_image_write(ctx, "a.png", NULL, NULL));
    REFUSED("path", sd_image_write(ctx, NULL, &pixel, NULL));
    REFUSED("UTF-8", sd_image_write(ctx, "a.png", &pixel, "\xff\xfe"));
    REFUSED("path", sd_tensors_write(ctx, NULL, NULL, 0));
    REFUSED("tensors", sd_tensors_write(ctx, "a.safetensors", NULL, 1));
    REFUSED("path", sd_tensor_read(ctx, NULL, NULL, &data, &nd, dim));
    REFUSED("data", sd_tensor_read(ctx, "a", NULL, NULL, &nd, dim));
    REFUSED("nd", sd_tensor_read(ctx, "a", NULL, &data, NULL, dim));
    REFUSED("dim", sd_tensor_read(ctx, "a", NULL, &data, &nd, NULL));
    REFUSED("params", sd_trace_list(ctx, NULL, NULL, NULL, NULL));
    REFUSED("roofs", sd_measure_roofs(ctx, 0.001, NULL));
    REFUSED("up to 60 seconds, not inf", sd_measure_roofs(ctx, INFINITY, &(sd_roofs){0}));
    REFUSED("up to 60 seconds, not nan", sd_measure_roofs(ctx, NAN, &(sd_roofs){0}));
    REFUSED("path", sd_trace_open(ctx, NULL, NULL));
    the_context_still_works();   /* sd_step_picture belongs to a call, whose error it would go on with */
    REFUSED("step", sd_step_picture(ctx, NULL, 0, 0, &image));
    the_context_still_works();
    REFUSED("image", sd_step_picture(ctx, &step, 0, 0, NULL));
    the_context_still_works();
    REFUSED("x0", sd_step_picture(ctx, &step, 0, 0, &image));
    the_context_still_works();
}

static void both_refuse(const sd_params *p, const char *word, const char *change)
{
    sd_image image;
    sd_params out;
    refused(sd_generate(ctx, p, &image), word, change);
    refused(sd_resolve_params(ctx, p, &out), word, change);
}

/* One member of the parameters out of range. */
#define WRONG(word, ...)          \
    do {                          \
        sd_params p = short_run("a tree", 32);    \
        p.sampling.sampler = "euler"; \
        __VA_ARGS__;              \
        both_refuse(&p, word, #__VA_ARGS__); \
    } while (0)

TEST(lists_out_of_range_are_refused_by_name)
{
    static const double two[] = {5, 1}, wrong[] = {NAN, 1}, below[] = {5, -3};
    WRONG("sigmas: 2 to 1001 numbers are possible", p.sampling.sigmas = two, p.sampling.sigma_count = INT_MIN);
    WRONG("sigmas: 2 to 1001", p.sampling.sigmas = two, p.sampling.sigma_count = 0);
    WRONG("sigmas: 2 to 1001", p.sampling.sigmas = two, p.sampling.sigma_count = INT_MAX);
    WRONG("timesteps: 1 to 1000 numbers are possible", p.sampling.timesteps = two, p.sampling.timestep_count = INT_MIN);
    WRONG("timesteps: 1 to 1000", p.sampling.timesteps = two, p.sampling.timestep_count = 0);
    WRONG("timesteps: 1 to 1000", p.sampling.timesteps = two, p.sampling.timestep_count = INT_MAX);
    WRONG("noise", p.noise = (const float[1]){0}, p.noise_count = SIZE_MAX);
    /* what is in a list shows where the run is planned */
    sd_params p = short_run("a tree", 32);
    int n;
    p.sampling.sampler = "euler";
    p.sampling.timesteps = wrong;
    p.sampling.timestep_count = 2;
    REFUSED("number 1 of 2 is nan", sd_schedule(ctx, &p, &n, NULL, NULL, NULL));
    p.sampling.timesteps = below;
    REFUSED("number 2 of 2 is -3", sd_schedule(ctx, &p, &n, NULL, NULL, NULL));
    p.sampling.timesteps = NULL;
    p.sampling.sigmas = wrong;
    p.sampling.sigma_count = 2;
    REFUSED("number 1 of 2 is nan", sd_schedule(ctx, &p, &n, NULL, NULL, NULL));
}

TEST(numbers_out_of_range_are_refused_by_name)
{
    WRONG("steps", p.sampling.steps = INT_MIN + 1);
    WRONG("steps", p.sampling.steps = INT_MAX);
    WRONG("steps", p.sampling.steps = 0);
    WRONG("width", p.width = INT_MAX);
    WRONG("height", p.height = INT_MIN + 1);
    WRONG("width", p.width = -8);
    WRONG("batch", p.batch = INT_MIN + 1);
    WRONG("batch", p.batch = INT_MAX);
    WRONG("guidance scale must be -1000 to 1000", p.guidance.scale = 1e300);
    WRONG("guidance scale", p.guidance.scale = -INFINITY);
    WRONG("guidance rescale", p.guidance.rescale = NAN);
    WRONG("eta", p.sampling.eta = NAN);
    WRONG("eta", p.sampling.eta = INFINITY);
    WRONG("order", p.sampling.order = INT_MIN + 1);
    WRONG("order", p.sampling.order = INT_MAX);
    WRONG("s_churn", p.sampling.s_churn = NAN);
    WRONG("s_churn", p.sampling.s_churn = INFINITY);
    WRONG("s_tmin", p.sampling.s_tmin = NAN);
    WRONG("s_tmax", p.sampling.s_tmax = -1);
    WRONG("s_noise must be 0 to 1000", p.sampling.s_noise = 1e300);
    WRONG("s_noise", p.sampling.s_noise = NAN);
    WRONG("clip skip", p.clip_skip = INT_MAX);
    WRONG("clip skip", p.clip_skip = INT_MIN + 1);
    WRONG("steps offset", p.sampling.steps_offset = INT_MIN + 1);
    WRONG("steps offset", p.sampling.steps_offset = INT_MAX);
    WRONG("set_alpha_to_one", p.sampling.set_alpha_to_one = 2);
    WRONG("clip_sample", p.sampling.clip_sample = INT_MIN + 1);
    WRONG("needs a picture", p.edit.strength = NAN);
    WRONG("needs a picture", p.edit.inpaint_crop = INT_MAX);
    WRONG("needs a picture", p.edit.outpaint[0] = INT_MIN);
    uint8_t rgb[3 * 64] = {0};
    const sd_image init = {8, 8, 3, rgb};
    WRONG("strength", p.edit.init = &init, p.edit.strength = NAN);
    WRONG("strength", p.edit.init = &init, p.edit.strength = 1.5);
    WRONG("mask blur", p.edit.init = &init, p.edit.mask_blur = NAN);
    WRONG("inpaint crop", p.edit.init = &init, p.edit.inpaint_crop = INT_MIN + 1);
    WRONG("outpaint", p.edit.init = &init, p.edit.outpaint[3] = INT_MIN);
    WRONG("outpaint", p.edit.init = &init, p.edit.outpaint[1] = INT_MAX);
    WRONG("strength 0.3 leaves none of 2 steps: 4 steps or more are needed, or a strength of 0.5 or more",
          p.edit.init = &init, p.edit.strength = 0.3);
    WRONG("strength 0.3 leaves none of 1 step", p.edit.init = &init, p.edit.strength = 0.3,
          p.sampling.sigmas = (const double[]){5, 1},
          p.sampling.sigma_count = 2);
    the_context_still_works();
}

TEST(pictures_without_pixels_or_too_large_are_refused)
{
    uint8_t rgb[3 * 64] = {0};
    const sd_image good = {8, 8, 3, rgb};
    const struct { sd_image image; const char *word; } bad[] = {
        {{INT_MAX, INT_MAX, 3, rgb}, "sides of 1 to 16384 pixels, not 2147483647x2147483647"},
            {{0, 8, 3, rgb}, "not 0x8"},
        {{8, INT_MIN, 3, rgb}, "not 8x-2147483648"}, {{16385, 1, 3, rgb}, "not 16385x1"},
            {{8, 8, 3, NULL}, "has no pixels"},
        {{8, 8, 2, rgb}, "must have 1 channel (grey), 3 (RGB) or 4 (RGBA), not 2"}, {{8, 8, 0, rgb}, "not 0"}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_image image;
        sd_params p = short_run("a tree", 32);
        p.edit.init = &bad[i].image;
        refused(sd_generate(ctx, &p, &image), bad[i].word, "init");
        p.edit.init = &good;
        p.edit.mask = &bad[i].image;
        refused(sd_generate(ctx, &p, &image), bad[i].word, "mask");
        refused(sd_image_write(ctx, temp_path("a.ppm"), &bad[i].image, NULL), bad[i].word, "write");
        refused(sd_image_resize(ctx, &bad[i].image, 8, 8, NULL, &image), bad[i].word, "resize");
    }
    sd_image image;
    REFUSED("", sd_image_resize(ctx, &good, INT_MAX, 8, NULL, &image));
    REFUSED("", sd_image_resize(ctx, &good, 8, -1, NULL, &image));
    REFUSED("resize must be", sd_image_resize(ctx, &good, 8, 8, "squeeze", &image));
    assert_int_equal(temp_files(), 0);
}

TEST(options_that_mean_nothing_are_refused)
{
    static char long_path[5000];
    memset(long_path, 'a', sizeof long_path - 1);
    const struct { sd_options o; const char *word; } bad[] = {
        {{.parts = 32}, "not 0x20"}, {{.parts = UINT_MAX}, "parts must be"}, {{.threads = -1}, "threads"},
            {{.threads = INT_MAX}, "threads"},
        {{.residency = 3}, "residency"}, {{.residency = -1}, "residency"}, {{.gemm = 99}, "gemm"},
            {{.gemm = -1}, "gemm"},
        {{.model = long_path}, "longer than 4095 bytes"}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_ctx *c;
        sd_options o = bad[i].o;
        o.size = sizeof o;
        if (!o.threads) o.threads = 1;
        if (!o.model) o.model = "weights/tiny";
        assert_int_equal(sd_open(&c, &o), SD_ERR_ARG);
        if (!strstr(sd_error_text(c), bad[i].word)) fail_msg("%s: %s", bad[i].word, sd_error_text(c));
        sd_close(c);
    }
}

/* Not the network's fault, and found before it runs. */
TEST(numbers_that_are_none_are_refused_where_they_enter)
{
    enum { H = 4, W = 4, N = 4 * H * W };
    static float latents[N], picture[3 * 64 * H * W], context[SD_TOKENS * 4096], mean[N], logvar[N];
    float t[1] = {500};
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        sd_params p = short_run("a tree", 32);
        sd_image image;
        latents[5] = bad[i];
        REFUSED("the latents must be finite, but number 6 of 64 is", sd_unet(ctx, 1, H, W, latents, t, context, mean));
        REFUSED("the latents must be finite, but number 6 of 64 is", sd_vae_decode(ctx, 1, H, W, latents, picture));
        p.noise = latents;
        p.noise_count = N;
        REFUSED("the initial noise must be finite, but number 6 of 64 is", sd_generate(ctx, &p, &image));
        const sd_traced tensor = {"noise", SD_F32, 4, {1, 4, H, W}, latents};
        assert_int_equal(sd_tensors_write(ctx, temp_path("n.safetensors"), &tensor, 1), SD_OK);
        p.noise = NULL;
        p.rng = temp_path("n.safetensors");
        REFUSED("n.safetensors must be finite, but number 6 of 64 is", sd_generate(ctx, &p, &image));
        p.rng = NULL;
        p.sampler_rng = temp_path("n.safetensors");
        REFUSED("n.safetensors must be finite", sd_generate(ctx, &p, &image));
        latents[5] = 0;
        t[0] = bad[i];
        REFUSED("the timesteps must be finite", sd_unet(ctx, 1, H, W, latents, t, context, mean));
        t[0] = 500;
        context[7] = bad[i];
        REFUSED("the context must be finite", sd_unet(ctx, 1, H, W, latents, t, context, mean));
        context[7] = 0;
        picture[9] = bad[i];
        REFUSED("the picture must be finite", sd_vae_encode(ctx, 1, H, W, picture, mean, logvar));
        picture[9] = 0;
    }
    /* finite, but more than float32 can calculate with: the sentence names the input */
    for (int i = 0; i < N; i++) latents[i] = i & 1 ? 3e38f : -3e38f;
    sd_status status = sd_vae_decode(ctx, 1, H, W, latents, picture);
    if (status != SD_ERR_NUMERIC || !strstr(sd_error_text(ctx), "for an input that reaches 3e+38"))
        fail_msg("%d: %s", status, sd_error_text(ctx));
    the_context_still_works();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_refused_or_harmless_everywhere),
        cmocka_unit_test(lists_out_of_range_are_refused_by_name),
        cmocka_unit_test(numbers_out_of_range_are_refused_by_name),
        cmocka_unit_test(pictures_without_pixels_or_too_large_are_refused),
        cmocka_unit_test(options_that_mean_nothing_are_refused),
        cmocka_unit_test(numbers_that_are_none_are_refused_where_they_enter),
    };
    return cmocka_run_group_tests_name("arguments", tests, open_usual, close_usual);
}
