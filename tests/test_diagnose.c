/* test_diagnose.c - sd diagnose names the mistake that was made in diffusers, says so if it knows none, and is silent
 * where there is none. The traces are those of tools/golden_diagnose.py, of few tensors each. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "../base.h"
#include "../diagnose.h"
#include "child.h"

#include <math.h>
#include <stdlib.h>

#define RUN_OF_GOLDENS "-m", "weights/tiny", "-p", "a red apple", "-s", "1", "--steps", "2", "--cfg-scale", "7.5", \
    "-W", "32", "-H", "32"

/* Diagnoses the golden, and expects this exit code and this first line. */
static void expect(const char *golden, int code, const char *first_line)
{
    char path[256], line[256];
    snprintf(path, sizeof path, "tests/golden/diagnose/%s.safetensors", golden);
    RUN("diagnose", path, RUN_OF_GOLDENS);
    snprintf(line, sizeof line, "%.*s", (int)strcspn(ran.out, "\n"), ran.out);
    if (ran.code != code) fail_msg("%s: exit code %d: %s%.300s", golden, ran.code, ran.err, ran.out);
    if (strcmp(line, first_line) != 0) fail_msg("%s: not \"%s\" but \"%s\"", golden, first_line, line);
}

/* Each of these was made in diffusers, in float32. */
TEST(mistakes_in_diffusers_are_named)
{
    static const char *const ids[] = {
        "resnet-norm-eps-1e-6", "transformer-norm-eps-1e-5", "layer-norm-eps-1e-6", "geglu-tanh",
        "geglu-gate-first", "heads-as-columns", "one-head", "attention-scale-of-all-columns", "sinusoid-sin-first",
        "sinusoid-half-minus-1", "time-without-silu", "downsample-pads-after", "skip-first", "residual-is-normed",
        "vae-norm-eps-1e-5", "vae-attention-two-heads", "residual-left-out", "text-gelu",
        "text-norm-eps-1e-6", "not-causal", "pad-token-0", "convolution-wraps", "latents-not-divided"};
    for (size_t i = 0; i < SD_COUNT(ids); i++) expect(ids[i], 1, ids[i]);
}

TEST(coarser_arithmetic_is_told_but_is_no_mistake)
{
    expect("products-in-tf32", 0, "no mistake, but coarser arithmetic: products-in-tf32");
    expect("products-in-bfloat16", 0, "no mistake, but coarser arithmetic: products-in-bfloat16");
}

TEST(an_unknown_fault_is_none_of_mine)
{
    expect("none-query", 1, "none of mine at step.0.unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q");
    expect("none-moved", 1, "none of mine at step.0.unet.up_blocks.1.resnets.0.conv2");
}

TEST(a_trace_without_mistake_raises_no_alarm)
{
    RUN("diagnose", "tests/golden/diagnose/clean.safetensors", RUN_OF_GOLDENS);
    if (ran.code || !sd_begins_with(ran.out, "nothing diverges: "))
        fail_msg("exit code %d: %s%.300s", ran.code, ran.err, ran.out);
}

TEST(what_cannot_be_compared_is_no_divergence)
{
    RUN("diagnose", "nowhere.safetensors", RUN_OF_GOLDENS);
    assert_int_equal(ran.code, 2);
    RUN("diagnose", "tests/golden/net_taesd-small.safetensors", RUN_OF_GOLDENS);
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "no tensor of"));
}

/* ---------------------------------------------------------------------------------------------- signs */

/* Numbers in PyTorch's order, [n,c,h,w]. */
typedef struct numbers { float *x; size_t count, n, c, h, w; } numbers;
typedef void alter(const numbers *t, const float *right);

static void as_bfloat16(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) {
        uint32_t u;
        memcpy(&u, &right[i], sizeof u);
        u &= 0xFFFF0000u;
        memcpy(&t->x[i], &u, sizeof u);
    }
}

static void as_float16(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = (float)(rint(ldexp(right[i], 8)) / 256);   /* 1 <= |x| < 8 */
}

static void as_bytes(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = (float)(floor(255.0 * right[i]) / 255);
}

static void scaled(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = 0.18215f * right[i];
}

static void over_256(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = 255.0f / 256 * right[i];
}

static void as_0_to_1(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = 0.5f * right[i] + 0.5f;
}

static void one_later(const numbers *t, const float *right) { t->x[0] = right[0] + 1; }

static void other_half_first(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = right[(i + t->count / 2) % t->count];
}

static void as_bgr(const numbers *t, const float *right)
{
    size_t pixels = t->h * t->w;
    for (size_t i = 0; i < t->count; i++) t->x[i] = right[(t->c - 1 - i / pixels) * pixels + i % pixels];
}

static void two_channels_exchanged(const numbers *t, const float *right)
{
    size_t bytes = t->h * t->w * sizeof(float);
    memcpy(t->x + 5 * t->h * t->w, right + 7 * t->h * t->w, bytes);
    memcpy(t->x + 7 * t->h * t->w, right + 5 * t->h * t->w, bytes);
}

static void turned(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++)
        t->x[i] = right[i - i % (t->h * t->w) + i % t->w * t->w + i / t->w % t->h];
}

static void moved_up(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) t->x[i] = right[i / t->w % t->h + 1 < t->h ? i + t->w : i];
}

static void wrong_at_borders(const numbers *t, const float *right)
{
    for (size_t i = 0; i < t->count; i++) {
        size_t x = i % t->w, y = i / t->w % t->h;
        if (!x || !y || x == t->w - 1 || y == t->h - 1) t->x[i] = right[i] * (i % 3 ? 1.2f : 0.7f) + 0.1f;
    }
}

/* An error that has no form. */
static void noisy(const numbers *t, const float *right)
{
    uint32_t seed = 12345;
    for (size_t i = 0; i < t->count; i++) {
        seed = seed * 1664525u + 1013904223u;
        t->x[i] = right[i] * (float)(1 + 0.01 * ((double)(seed >> 8) / (1 << 23) - 1));
    }
}

static void unaltered(const numbers *t, const float *right) { memcpy(t->x, right, t->count * sizeof *right); }

/* In the order in which they are computed. */
static const char *const traced[] = {"prompt_embeds", "noise", "latents.0", "timestep.0", "step.0.unet.conv_in",
    "step.0.unet.conv_out", "vae.post_quant_conv", "vae.decoder.conv_in", "vae.decoder.conv_out", "image"};
#define TRACED "prompt_embeds,noise,latents.0,timestep.0,step.0.unet.conv_in,step.0.unet.conv_out," \
    "vae.post_quant_conv,vae.decoder.conv_in,vae.decoder.conv_out,image"

/* The numbers of a tensor in PyTorch's order, altered. *right: as they were. Both are to be freed. */
static numbers altered(float *data, int nd, const int64_t *dims, alter *how, float **right)
{
    numbers x = {.x = data, .count = 1};
    size_t dim[4] = {1, 1, 1, 1};
    for (int i = 0; i < nd; i++) x.count *= dim[i] = (size_t)dims[i];
    x.n = dim[0], x.c = dim[1], x.h = dim[2], x.w = dim[3];
    *right = malloc(x.count * sizeof **right);
    assert_non_null(*right);
    memcpy(*right, x.x, x.count * sizeof **right);
    how(&x, *right);
    return x;
}

/* Our own trace as far as `name`, which is altered: diagnosed as JSON. */
static void diagnose_altered(const char *trace, const char *name, alter *how)
{
    sd_error e = {0};
    sd_traced t[SD_COUNT(traced)];
    float *data[SD_COUNT(traced)], *right = NULL;
    size_t n = 0;
    for (bool last = false; !last && n < SD_COUNT(traced); n++) {
        t[n] = (sd_traced){.name = traced[n], .dtype = SD_F32};
        if (sd_read_floats(trace, traced[n], &data[n], &t[n].nd, t[n].dim, &e)) fail_msg("%s", e.text);
        t[n].data = data[n];
        last = strcmp(traced[n], name) == 0;
    }
    altered(data[n - 1], t[n - 1].nd, t[n - 1].dim, how, &right);
    free(right);
    char path[512];
    snprintf(path, sizeof path, "%s", in_work("altered.safetensors"));
    if (sd_write_tensors(path, t, n, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < n; i++) free(data[i]);
    RUN("diagnose", "--json", path, RUN_OF_GOLDENS);
}

/* What is said of the difference of a tensor and itself, altered. */
static char *signs_of(const char *trace, const char *name, alter *how)
{
    sd_error e = {0};
    sd_text t = {0};
    int nd;
    int64_t dim[4];
    float *data, *right;
    if (sd_read_floats(trace, name, &data, &nd, dim, &e)) fail_msg("%s", e.text);
    altered(data, nd, dim, how, &right);
    sd_text_addn(&t, "", 0);
    sd_add_signs(data, right, nd, dim, &t);
    free(data);
    free(right);
    return t.s;
}

TEST(signs_of_a_difference_are_told)
{
    char trace[512], picture[512];
    snprintf(trace, sizeof trace, "%s", in_work("own.safetensors"));
    snprintf(picture, sizeof picture, "%s", in_work("own.ppm"));
    static const struct { const char *name; alter *how; const char *signs; } cases[] = {
        {"vae.decoder.conv_in", as_bfloat16, "their numbers are all bfloat16"},
        {"vae.decoder.conv_in", as_float16, "their numbers are all float16 or TF32: 10 bits behind the point"},
        {"image", as_bytes, "their numbers are bytes, 255ths, that were cut: on average 0.5"},
        {"step.0.unet.conv_in", scaled, "their numbers are ours times 0.18215 (scaling_factor of SD 1 and 2)"},
        {"image", over_256, "their numbers are ours times 0.99609 (255/256)"},
        {"vae.decoder.conv_out", as_0_to_1, "their numbers are ours times 0.5 (1/2) plus 0.5"},
        {"timestep.0", one_later, "theirs is ours +1"},
        {"prompt_embeds", other_half_first, "their numbers are ours with the halves of the batch exchanged: the "
         "prompt and the negative one"},
        {"image", as_bgr, "their numbers are ours with the channels in reverse"},
        {"vae.decoder.conv_in", two_channels_exchanged, "each of their channels is one of ours: 2 of 64 are at other "
         "places"},
        {"vae.decoder.conv_out", turned, "their numbers are ours with rows and columns exchanged"},
        {"vae.decoder.conv_out", moved_up, "their numbers are ours moved up by a pixel"},
        {"vae.decoder.conv_out", wrong_at_borders, "of the squared error is in the outermost pixels, which are 12% of "
         "all: padding"},
        {"step.0.unet.conv_in", noisy, ""},
        {"step.0.unet.conv_out", noisy, ""},
        {"image", noisy, ""},
    };
    RUN(RUN_OF_GOLDENS, "--trace", trace, "--trace-filter", TRACED, "-o", picture);
    expect_success("a trace of our own");
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        char *signs = signs_of(trace, cases[i].name, cases[i].how);
        if (*cases[i].signs ? !strstr(signs, cases[i].signs) : *signs != 0)
            fail_msg("case %zu: not \"%s\" but \"%s\"", i, cases[i].signs, signs);
        free(signs);
    }
    diagnose_altered(trace, "step.0.unet.conv_in", scaled);
    if (ran.code != 1 || !strstr(ran.out, "\"findings\":[{\"at\":\"step.0.unet.conv_in\"")
        || !strstr(ran.out, "\"signs\":[\"their numbers are ours times 0.18215"))
        fail_msg("exit code %d: %s%.700s", ran.code, ran.err, ran.out);
    diagnose_altered(trace, "image", unaltered);
    if (ran.code || strstr(ran.out, "\"signs\"")) fail_msg("exit code %d: %s%.300s", ran.code, ran.err, ran.out);
}

/* ------------------------------------------------------------------------------------ other settings */

/* A copy of the trace whose header tells nothing. */
static void without_header(const char *trace, const char *to)
{
    sd_error e = {0};
    sd_tensors of;
    if (sd_tensors_open(&of, trace, &e)) fail_msg("%s", e.text);
    sd_traced *t = calloc(of.n, sizeof *t);
    float **data = calloc(of.n, sizeof *data);
    assert_non_null(t);
    assert_non_null(data);
    for (size_t i = 0; i < of.n; i++) {
        t[i] = (sd_traced){.name = of.at[i]->name, .dtype = SD_F32};
        if (sd_read_floats(trace, t[i].name, &data[i], &t[i].nd, t[i].dim, &e)) fail_msg("%s", e.text);
        t[i].data = data[i];
    }
    if (sd_write_tensors(to, t, of.n, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < of.n; i++) free(data[i]);
    free(data);
    free(t);
    sd_tensors_close(&of);
}

#define SAID "other settings: "

TEST(other_settings_are_said_first_and_taken)
{
    char own[512], plain[512], picture[512], line[128];
    snprintf(own, sizeof own, "%s", in_work("settings.safetensors"));
    snprintf(plain, sizeof plain, "%s", in_work("plain.safetensors"));
    snprintf(picture, sizeof picture, "%s", in_work("settings.ppm"));
    RUN(RUN_OF_GOLDENS, "--trace", own, "--trace-filter", "tokens,prompt_embeds,noise,latents.*,timestep.*,"
        "*.noise_pred,*.unet.conv_in,*.unet.conv_out,*.denoised,image", "-o", picture);
    expect_success("a trace of our own");
    without_header(own, plain);
    static const struct { const char *option, *value, *said, *by_numbers; int code; } cases[] = {
        {"--cfg-scale", "5", SAID "guidance_scale 7.5, not 5", NULL, 1},
        {"-p", "a blue apple", SAID "prompt \"a red apple\", not \"a blue apple\"", NULL, 1},
        {"-n", "ugly", SAID "negative_prompt \"\", not \"ugly\"", NULL, 1},
        {"-s", "9", SAID "seed 1, not 9", SAID "seed 1", 0},
        {"--rng", "torch-cuda", SAID "rng torch-cpu", NULL, 0},
        {"--steps", "4", SAID "steps 2, not 4", NULL, 1},
        {"--sampling-method", "dpm++2m", SAID "sampler pndm, not dpm++2m", NULL, 1},
        {"-W", "64", SAID "width 32, not 64", NULL, 1},
    };
    for (size_t i = 0; i < 2 * SD_COUNT(cases); i++) {
        bool by_numbers = i % 2;
        const char *said = by_numbers && cases[i / 2].by_numbers ? cases[i / 2].by_numbers : cases[i / 2].said;
        RUN("diagnose", by_numbers ? plain : own, RUN_OF_GOLDENS, cases[i / 2].option, cases[i / 2].value);
        snprintf(line, sizeof line, "%.*s", (int)strcspn(ran.out, "\n"), ran.out);
        const char *next = strchr(ran.out, '\n');
        if (ran.code != cases[i / 2].code || strcmp(line, said) != 0 || !next
            || !sd_begins_with(next, "\nnothing diverges"))
            fail_msg("%s, by %s: exit code %d: %.300s%.300s", said, by_numbers ? "numbers" : "the header", ran.code,
                     ran.err, ran.out);
    }
    RUN(RUN_OF_GOLDENS, "--trace", own, "--trace-filter", "latents.*,*.noise_pred,*.unet.conv_in,image", "-o", picture);
    without_header(own, plain);   /* no timesteps: what latents there are tells the steps */
    RUN("diagnose", plain, RUN_OF_GOLDENS, "--steps", "20");
    if (!sd_begins_with(ran.out, SAID "steps 2, not 20\nnothing diverges")) fail_msg("%s%.300s", ran.err, ran.out);
    RUN("diagnose", plain, RUN_OF_GOLDENS, "-s", "9");
    if (!strstr(ran.out, "at latents.0: theirs has no noise: is it the same seed?\n"))
        fail_msg("%s%.300s", ran.err, ran.out);
}

/* ----------------------------------------------------------------------------------- what is no number */

static void two_are_none(const numbers *t, const float *right)
{
    (void)right;
    t->x[3] = NAN;
    t->x[5] = -INFINITY;
}

static void none_is(const numbers *t, const float *right)
{
    (void)right;
    for (size_t i = 0; i < t->count; i++) t->x[i] = NAN;
}

TEST(what_is_no_number_is_said_first_and_where_it_begins)
{
    char trace[512], picture[512];
    snprintf(trace, sizeof trace, "%s", in_work("numbers.safetensors"));
    snprintf(picture, sizeof picture, "%s", in_work("numbers.ppm"));
    RUN(RUN_OF_GOLDENS, "--trace", trace, "--trace-filter", TRACED, "-o", picture);
    expect_success("a trace of our own");
    static const struct { const char *name; alter *how; const char *json; } cases[] = {
        {"step.0.unet.conv_in", two_are_none, "\"not_numbers\":\"step.0.unet.conv_in\""},
        {"prompt_embeds", none_is, "\"not_numbers\":\"prompt_embeds\""},
        {"image", unaltered, "\"not_numbers\":null"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        diagnose_altered(trace, cases[i].name, cases[i].how);
        if (!strstr(ran.out, cases[i].json)) fail_msg("not %s: %s%.500s", cases[i].json, ran.err, ran.out);
    }
    diagnose_altered(trace, "step.0.unet.conv_in", two_are_none);
    RUN("diagnose", in_work("altered.safetensors"), RUN_OF_GOLDENS);
    if (!sd_begins_with(ran.out, "NaN or infinity at step.0.unet.conv_in, in 2 of "))
        fail_msg("exit code %d: %s%.300s", ran.code, ran.err, ran.out);
}

TEST(every_mistake_is_listed_with_its_source_and_signature)
{
    sd_mistake_info m, other;
    RUN("wrong");
    assert_int_equal(ran.code, 0);
    for (int i = 0; sd_get_mistake(i, &m); i++) {
        if (!*m.id || !*m.what || !*m.source || !*m.signature || !*m.where) fail_msg("mistake %d lacks a text", i);
        if (!strstr(ran.out, m.id) || !strstr(ran.out, m.what)) fail_msg("%s is not listed", m.id);
        for (int k = 0; k < i && sd_get_mistake(k, &other); k++)
            if (strcmp(m.id, other.id) == 0) fail_msg("%s is there twice", m.id);
    }
}

TEST(half_of_the_traps_have_a_mistake)
{
    enum { TRAPS = 86, FEWEST = 45 };
    bool has[TRAPS + 1] = {false};
    int n = 0;
    sd_mistake_info m;
    for (int i = 0; sd_get_mistake(i, &m); i++) {
        if (m.trap < 0 || m.trap > TRAPS) fail_msg("%s: there is no trap %d", m.id, m.trap);
        n += m.trap && !has[m.trap];
        has[m.trap] = true;
    }
    if (n < FEWEST) fail_msg("%d traps have a mistake", n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_in_diffusers_are_named),
        cmocka_unit_test(coarser_arithmetic_is_told_but_is_no_mistake),
        cmocka_unit_test(an_unknown_fault_is_none_of_mine),
        cmocka_unit_test(a_trace_without_mistake_raises_no_alarm),
        cmocka_unit_test(what_cannot_be_compared_is_no_divergence),
        cmocka_unit_test(signs_of_a_difference_are_told),
        cmocka_unit_test(other_settings_are_said_first_and_taken),
        cmocka_unit_test(what_is_no_number_is_said_first_and_where_it_begins),
        cmocka_unit_test(half_of_the_traps_have_a_mistake),
        cmocka_unit_test(every_mistake_is_listed_with_its_source_and_signature),
    };
    return cmocka_run_group_tests_name("diagnose", tests, child_setup, child_teardown);
}
