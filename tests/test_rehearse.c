/* test_rehearse.c - the names that a run will trace are known before it: equal to those of the run itself, in its
 * order; filters that mean nothing are found before anything is computed, and a finished picture is written in any
 * case. */
#define _XOPEN_SOURCE 700
#include "test.h"
#include "../sd.h"
#include "child.h"
#include "context.h"
#include "tempdir.h"

#define DRAW "-p", "a red apple", "-s", "1", "--steps", "2", "-W", "64", "-H", "64"

static const char *out(const char *name) { return temp_path(name); }

/* "name type nd dims" of every tensor, and whether it had numbers. */
typedef struct heard { char *text; size_t n, cap; int tensors, with_data; } heard;

static void hear(void *user, const sd_traced *t)
{
    heard *h = user;
    char line[512];
    int n = snprintf(line, sizeof line, "%s %d", t->name, (int)t->dtype);
    for (int i = 0; i < t->nd; i++) n += snprintf(line + n, sizeof line - (size_t)n, " %lld", (long long)t->dim[i]);
    n += snprintf(line + n, sizeof line - (size_t)n, "\n");
    if (h->n + (size_t)n + 1 > h->cap) {
        h->cap = 2 * (h->n + (size_t)n + 1);
        h->text = realloc(h->text, h->cap);
        assert_non_null(h->text);
    }
    memcpy(h->text + h->n, line, (size_t)n + 1);
    h->n += (size_t)n;
    h->tensors++;
    h->with_data += t->data != NULL;
}

static void count_progress(void *user, const sd_progress *p)
{
    (void)p;
    ++*(int *)user;
}

/* The list, then the run: the same lines. Returns the number of tensors. */
static int same_as_run(sd_ctx *c, const sd_params *p, const char *filter)
{
    heard before = {0}, during = {0};
    sd_image images[2];
    int told = 0;
    sd_set_progress(c, count_progress, &told);
    if (sd_trace_list(c, p, filter, hear, &before)) fail_msg("%s", sd_error_text(c));
    assert_int_equal(told, 0);
    assert_int_equal(before.with_data, 0);
    assert_int_equal(sd_set_trace(c, filter, hear, &during), SD_OK);
    if (sd_generate(c, p, images)) fail_msg("%s", sd_error_text(c));
    for (int i = 0; i < p->batch; i++) sd_image_free(&images[i]);
    sd_set_trace(c, NULL, NULL, NULL);
    sd_set_progress(c, NULL, NULL);
    assert_int_equal(during.with_data, during.tensors);
    assert_int_equal(before.tensors, during.tensors);
    assert_string_equal(before.text, during.text);
    free(before.text);
    free(during.text);
    return before.tensors;
}

TEST(the_list_is_what_the_run_traces)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p;
    sd_params_init(&p);
    p.prompt = "a red apple";
    p.sampling.steps = 3;
    p.width = p.height = 64;
    assert_true(same_as_run(c, &p, NULL) > 800);
    assert_int_equal(same_as_run(c, &p, "latents.*,timestep.?"), 5 + 4);   /* pndm: four evaluations for three steps */
    p.sampling.sampler = "heun";
    p.batch = 2;
    same_as_run(c, &p, NULL);
    p.guidance.scale = 1;
    p.sampling.sampler = "dpm++2s_a";
    same_as_run(c, &p, NULL);
    sd_params_init(&p);
    p.sampling.steps = 4;
    p.sampling.sampler = "ddim";
    uint8_t rgb[64 * 64 * 3], rgba[64 * 64 * 4];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof rgba; i++) rgba[i] = i % 4 < 3 ? (uint8_t)(i * 7) : i / 4 % 64 < 32 ? 0 : 255;
    sd_image init = {64, 64, 3, rgb};
    p.edit.init = &init;
    p.edit.strength = 0.5;
    same_as_run(c, &p, NULL);
    init = (sd_image){64, 64, 4, rgba};
    same_as_run(c, &p, "image_latents,mask,vae.encoder.*");
    sd_close(c);
}

TEST(a_list_changes_nothing_of_what_comes_after)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p;
    sd_image a, b;
    sd_params_init(&p);
    p.sampling.steps = 2;
    p.width = p.height = 64;
    p.sampling.sampler = "euler_a";
    assert_int_equal(sd_generate(c, &p, &a), SD_OK);
    assert_int_equal(sd_trace_list(c, &p, NULL, NULL, NULL), SD_OK);
    sd_timings t;
    sd_get_timings(c, &t);
    assert_true(t.n_steps == 2 && t.steps[1] > 0);
    assert_int_equal(sd_trace_list(c, &p, "no.such", NULL, NULL), SD_ERR_ARG);
    assert_int_equal(sd_generate(c, &p, &b), SD_OK);
    assert_memory_equal(a.data, b.data, 64 * 64 * 3);
    sd_image_free(&a);
    sd_image_free(&b);
    sd_close(c);
}

TEST(useless_globs_are_all_named_with_what_is_near)
{
    static const struct { const char *filter, *words[3]; } cases[] = {
        {"latnts.*", {"\"latnts.*\"", "latents.0"}},
        {"tokens,mid_block*", {"\"mid_block*\"", "step.0.unet.mid_block."}},
        {"foo,tokens,bar.*", {"\"foo\", \"bar.*\"", "mean none"}},
        {"step.7.unet.conv_in", {"step.0.unet.conv_in"}},
        {"step.0.unet.midblock*", {"step.0.unet.mid_block"}},
        {"vae.decoder.conv_ou", {"vae.decoder.conv_out"}},
        {"text_encoder.text_model.encoder.layers.0.mlp.fc3", {"mlp.fc1"}}};
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p;
    sd_params_init(&p);
    p.sampling.steps = 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heard h = {0};
        assert_int_equal(sd_trace_list(c, &p, cases[i].filter, hear, &h), SD_ERR_ARG);
        for (int k = 0; k < 3 && cases[i].words[k]; k++)
            if (!strstr(sd_error_text(c), cases[i].words[k])) fail_msg("%s", sd_error_text(c));
        free(h.text);
    }
    sd_close(c);
}

/* As for a trace into a file, before anything is computed. */
TEST(a_run_refuses_a_useless_filter_of_a_function_too)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p;
    sd_image image = {0};
    heard h = {0};
    int told = 0;
    sd_params_init(&p);
    p.sampling.steps = 1;
    p.sampling.sampler = "ddim";
    p.width = p.height = 32;
    sd_set_progress(c, count_progress, &told);
    assert_int_equal(sd_set_trace(c, "latents.0,latnts.1", hear, &h), SD_OK);
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "\"latnts.1\""));
    assert_int_equal(told, 0);
    assert_int_equal(h.tensors, 0);
    assert_int_equal(sd_set_trace(c, "latents.0,latents.1", hear, &h), SD_OK);
    assert_int_equal(sd_generate(c, &p, &image), SD_OK);
    assert_int_equal(h.tensors, 2);
    sd_image_free(&image);
    free(h.text);
    sd_close(c);
}

/* How many evaluations it makes only the run knows: any number may come. */
TEST(an_adaptive_samplers_first_evaluation_stands_for_all)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_params p;
    heard h = {0};
    sd_params_init(&p);
    p.sampling.sampler = "dpm_adaptive";
    assert_int_equal(sd_trace_list(c, &p, "step.*.noise_pred,latents.17,step.12.unet.conv_in", hear, &h), SD_OK);
    assert_string_equal(h.text,
                        "latents.0 0 1 4 16 16\nstep.0.unet.conv_in 0 2 48 16 16\nstep.0.noise_pred 0 1 4 16 16\n");
    assert_int_equal(sd_trace_list(c, &p, "step.12.unet.conv_inn", NULL, NULL), SD_ERR_ARG);
    free(h.text);
    sd_close(c);
}

TEST(the_program_checks_a_filter_before_it_draws)
{
    static const struct { const char *file, *filter, *word; } cases[] = {
        {"t.safetensors", "latnts.*", "latents.0"}, {"t.safetensors", "latents.*,foo", "\"foo\""},
        {"t.npy", "latents.*", "must end in .safetensors"}, {"t.pt", "latents.*", "must end in .safetensors"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RUN(DRAW, "-o", out("a.ppm"), "--trace", out(cases[i].file), "--trace-filter", cases[i].filter);
        expect_error(cases[i].filter, 2, cases[i].word);   /* and no file is left */
        assert_string_equal(ran.out, "");                  /* not even a seed */
    }
}

TEST(a_finished_picture_is_written_though_its_trace_is_empty)
{
    RUN(DRAW, "-o", out("a.ppm"), "--sampling-method", "dpm_adaptive", "--trace", out("t.safetensors"),
        "--trace-filter",
        "step.999999.unet.conv_in");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "nothing was traced"));
    expect_files_in_out(1, "the picture");
    RUN(DRAW, "-o", out("b.ppm"), "--sampling-method", "dpm_adaptive");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    temp_clear();
}

TEST(the_program_lists_what_it_would_trace)
{
    RUN("trace", "--list", "--filter", "latents.*,step.1.unet.conv_in,image", "--steps", "2", "--sampling-method",
        "ddim",
        "-W", "64", "-H", "128", "--batch-size", "2");
    expect_success("trace --list");
    static const char *const lines[] = {"latents.0 ", "latents.1 ", "step.1.unet.conv_in ", "latents.2 ", "image "};
    const char *at = ran.out;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strncmp(at, lines[i], strlen(lines[i])) != 0) fail_msg("line %zu of %s", i, ran.out);
        at = strchr(at, '\n') + 1;
    }
    assert_non_null(strstr(ran.out, "F32 [2,4,16,8] 4096\n"));
    assert_non_null(strstr(ran.out, "F32 [2,3,128,64] 196608\n"));
    assert_string_equal(at, "5 tensors, 307200 bytes (0.3 MB)\n");
    RUN("trace", "--list", "--filter", "foo");
    expect_error("foo", 2, "nearest");
    RUN("trace", "-p", "x");
    expect_error("no --list", 2, "--list");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list_is_what_the_run_traces),
        cmocka_unit_test(a_list_changes_nothing_of_what_comes_after),
        cmocka_unit_test(useless_globs_are_all_named_with_what_is_near),
        cmocka_unit_test(a_run_refuses_a_useless_filter_of_a_function_too),
        cmocka_unit_test(an_adaptive_samplers_first_evaluation_stands_for_all),
        cmocka_unit_test(the_program_checks_a_filter_before_it_draws),
        cmocka_unit_test(a_finished_picture_is_written_though_its_trace_is_empty),
        cmocka_unit_test(the_program_lists_what_it_would_trace),
    };
    return cmocka_run_group_tests_name("rehearse", tests, child_setup, child_teardown);
}
