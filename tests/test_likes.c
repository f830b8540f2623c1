/* test_likes.c - drawing like other programs: whole runs against what those programs' own code makes of the same model
 * in float64 (tools/golden_likes.py), diffusers' own runs, bytes, what wins, and the table. */
#include <math.h>

#include "test.h"
#include "../params.h"
#include "../sd_tools.h"
#include "child.h"
#include "network.h"
#include "pictures.h"

enum { WIDTH = 56, HEIGHT = 40, PIXELS = WIDTH * HEIGHT };

/* The parameters of golden_edit.py, without picture and mask where they are NULL. */
static sd_params params_for(const sd_image *init, const sd_image *mask)
{
    static synth_run_list list;
    sd_error e = {0};
    sd_params p;
    if (!list.n && synth_runs(&list, "sd1-small", &e)) fail_msg("%s", e.text);
    sd_params_init(&p);
    p.prompt = list.prompt;
    p.negative_prompt = list.negative;
    p.seed = 31;
    p.sampling.steps = 5;
    p.guidance.scale = 7.5;
    p.edit.init = init;
    p.edit.mask = mask;
    if (!init) p.width = WIDTH, p.height = HEIGHT;
    return p;
}

static void open_with(network *n, const char *file)
{
    sd_error e = {0};
    network_open(n, "sd1-small", SD_PART_ALL, 0, NULL);
    sd_golden_close(&n->golden);
    memset(&n->golden, 0, sizeof n->golden);
    if (sd_weight_file_open(&n->golden.file, file, &e)) fail_msg("%s", e.text);
    assert_int_equal(sd_set_trace(n->ctx, "latents.*", network_compare_found, n), SD_OK);
}

/* --------------------------------------------------------------------------- against the programs */

typedef struct run {
    const char *like, *name, *sampler, *schedule;
    double strength;      /* 0: from noise */
    bool masked;
} run;
static const run runs[] = {
    {"compvis", "text", NULL, NULL, 0, false},
    {"compvis", "picture", NULL, NULL, 0.55, false},
    {"a1111", "text", NULL, NULL, 0, false},
    {"a1111", "euler_a", "Euler a", NULL, 0, false},
    {"a1111", "picture", NULL, NULL, 0.55, false},
    {"a1111", "mask", NULL, NULL, 0.55, true},
    {"a1111", "whole", "euler_a", NULL, 1, true},
    {"comfy", "text", NULL, NULL, 0, false},
    {"comfy", "karras", NULL, "karras", 0, false},
    {"comfy", "euler_a", "euler_ancestral", NULL, 0, false},
    {"comfy", "picture", NULL, NULL, 0.55, false},
    {"comfy", "mask", "euler_ancestral", NULL, 0.55, true},
    {"comfy", "whole", NULL, NULL, 1, true},
    {"sdcpp", "text", NULL, NULL, 0, false},
    {"sdcpp", "picture", NULL, NULL, 0.55, false},
    {"sdcpp", "mask", NULL, NULL, 0.55, true},
};

static void draw(network *n, const sd_params *p)
{
    sd_image out = {0};
    int compared = n->compared;
    if (sd_generate(n->ctx, p, &out)) fail_msg("%s: %s", n->prefix, sd_error_text(n->ctx));
    if (n->compared == compared) fail_msg("%s: nothing was compared", n->prefix);
    sd_image_free(&out);
}

/* Generator, first latents, sigmas, timesteps, steps of a strength, the picture's latents and the mask's rule are all
 * in the last latents; each program's known mistakes would be seen. */
TEST(runs_agree_with_what_the_programs_own_code_makes_in_float64)
{
    network n;
    sd_image init = golden_picture(WIDTH, HEIGHT), mask = golden_mask(WIDTH, HEIGHT);
    open_with(&n, "tests/golden/likes_sd1-small.safetensors");
    for (size_t i = 0; i < SD_COUNT(runs); i++) {
        const run *r = &runs[i];
        sd_params p = params_for(r->strength > 0 ? &init : NULL, r->masked ? &mask : NULL);
        p.like = r->like;
        p.sampling.sampler = r->sampler;
        p.sampling.schedule = r->schedule;
        if (r->strength > 0) p.edit.strength = r->strength;
        snprintf(n.prefix, sizeof n.prefix, "%s.%s.", r->like, r->name);
        draw(&n, &p);
    }
    assert_int_equal(n.compared, SD_COUNT(runs));
    network_finish(&n, "compvis.", "compvis", "compvis.text.latents.5");
    network_finish(&n, "a1111.", "a1111", "a1111.text.latents.5");
    network_finish(&n, "comfy.", "comfy", "comfy.text.latents.5");
    network_finish(&n, "sdcpp.", "sdcpp", "sdcpp.text.latents.5");
    network_close(&n);
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* What a picture's text says draws it again without the name of the program. */
TEST(what_comes_of_it_is_in_the_text_of_the_picture)
{
    network n;
    sd_image init = golden_picture(WIDTH, HEIGHT), mask = golden_mask(WIDTH, HEIGHT);
    open_with(&n, "tests/golden/likes_sd1-small.safetensors");
    for (size_t i = 0; i < SD_COUNT(runs); i++) {
        const run *r = &runs[i];
        char *text, error[512];
        sd_recipe *recipe;
        if (!r->masked) continue;
        sd_params p = params_for(&init, &mask), again;
        p.like = r->like;
        p.sampling.sampler = r->sampler;
        p.edit.strength = r->strength;
        if (sd_parameters_text(n.ctx, &p, &text)) fail_msg("%s", sd_error_text(n.ctx));
        assert_int_equal(sd_recipe_read(text, &recipe, error), SD_OK);
        sd_params_copy(&again, recipe->params);
        assert_null(again.like);
        again.edit.init = &init;
        again.edit.mask = &mask;
        snprintf(n.prefix, sizeof n.prefix, "%s.%s.", r->like, r->name);
        draw(&n, &again);
        sd_recipe_free(recipe);
        sd_free(text);
    }
    network_close(&n);
    sd_image_free(&init);
    sd_image_free(&mask);
}

TEST(like_diffusers_is_a_run_of_diffusers)
{
    static const struct { const char *kind, *sampler; bool masked; } some[] = {
        {"img2img", "euler", false}, {"img2img", "pndm", false}, {"inpaint", "euler_a", true},
        {"inpaint", "dpm2", true}};
    network n;
    sd_image init = golden_picture(WIDTH, HEIGHT), mask = golden_mask(WIDTH, HEIGHT);
    open_with(&n, "tests/golden/edit_sd1-small.safetensors");
    for (size_t i = 0; i < SD_COUNT(some); i++) {
        sd_params p = params_for(&init, some[i].masked ? &mask : NULL);
        p.like = "diffusers";
        p.sampling.sampler = some[i].sampler;
        p.edit.strength = 0.5;
        snprintf(n.prefix, sizeof n.prefix, "%s.%s.0.5.", some[i].kind, some[i].sampler);
        draw(&n, &p);
    }
    network_close(&n);
    sd_image_free(&init);
    sd_image_free(&mask);
}

/* -------------------------------------------------------------------------------------------- bytes */

static void keep_image(void *user, const sd_traced *t)
{
    if (strcmp(t->name, "image") == 0) memcpy(user, t->data, 3 * PIXELS * sizeof(float));
}

/* 255 x in float32, as NumPy and C++ compute it there. */
TEST(bytes_are_made_as_each_program_makes_them)
{
    static const struct { const char *like; float add; bool even; } programs[] = {
        {"diffusers", 0, true}, {"compvis", 0, false}, {"a1111", 0, false}, {"comfy", 0, false},
        {"sdcpp", 0.5f, false}};
    network n;
    float *numbers = calloc(3 * PIXELS, sizeof *numbers);
    assert_non_null(numbers);
    network_open(&n, "sd1-small", SD_PART_ALL, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, "image", keep_image, numbers), SD_OK);
    for (size_t k = 0; k < SD_COUNT(programs); k++) {
        sd_image out = {0};
        sd_params p = params_for(NULL, NULL);
        int others = 0;
        p.sampling.steps = 1;
        p.like = programs[k].like;
        if (sd_generate(n.ctx, &p, &out)) fail_msg("%s", sd_error_text(n.ctx));
        for (size_t i = 0; i < 3 * PIXELS; i++) {
            float x = 255 * numbers[i % 3 * PIXELS + i / 3];
            int want = programs[k].even ? (int)rintf(x) : (int)floorf(x + programs[k].add);
            if (out.data[i] != want) fail_msg("%s: %g became %d, not %d", p.like, (double)x, out.data[i], want);
            others += want != (int)(programs[k].add > 0 || programs[k].even ? floorf(x) : rintf(x));
        }
        assert_true(others > PIXELS);   /* the other way would be seen */
        sd_image_free(&out);
    }
    network_close(&n);
    free(numbers);
}

/* ------------------------------------------------------------------------------------- what wins */

static void expect_text(const char *found, const char *want)
{
    if (want ? !found || strcmp(found, want) != 0 : found != NULL)
        fail_msg("\"%s\" is not \"%s\"", found ? found : "NULL", want ? want : "NULL");
}

TEST(what_is_given_wins)
{
    network n;
    sd_params p, r;
    network_open(&n, "sd1-small", SD_PART_ALL, 0, NULL);
    sd_params_init(&p);
    p.like = "a1111";
    sd_params_init(&r);
    assert_int_equal(sd_resolve_params(n.ctx, &p, &r), SD_OK);
    expect_text(r.like, NULL);
    expect_text(r.sampling.sampler, "dpm++2m@kdiffusion");
    expect_text(r.sampling.schedule, "karras@kdiffusion");
    expect_text(r.rng, "torch-cuda");
    expect_text(r.bytes, "truncate");
    expect_text(r.sampler_rng, NULL);
    assert_int_equal(r.seed_per_image, 1);
    assert_int_equal(r.sampling.steps, 20);
    assert_true(r.guidance.scale == 7);

    p.sampling.sampler = "DPM++ SDE";   /* its schedule and its noise follow */
    assert_int_equal(sd_resolve_params(n.ctx, &p, &r), SD_OK);
    expect_text(r.sampling.schedule, "karras@kdiffusion");
    expect_text(r.sampler_rng, "brownian:torch-cuda");

    p.sampling.sampler = "euler@diffusers";
    p.sampling.schedule = "exponential";
    p.sampling.first_latents = "root";
    p.rng = "numpy";
    p.sampler_rng = "torch-cpu";
    p.bytes = "round";
    p.sampling.steps = 3;
    p.guidance.scale = 2;
    assert_int_equal(sd_resolve_params(n.ctx, &p, &r), SD_OK);
    expect_text(r.sampling.sampler, "euler");
    expect_text(r.sampling.schedule, "exponential");
    expect_text(r.sampling.first_latents, "root");
    expect_text(r.rng, "numpy");
    expect_text(r.sampler_rng, "torch-cpu");
    expect_text(r.bytes, NULL);
    assert_int_equal(r.sampling.steps, 3);
    assert_true(r.guidance.scale == 2);
    network_close(&n);
}

/* ComfyUI's steps are all taken, of a finer schedule; A1111 takes at least one, whatever the strength. */
TEST(a_strength_leaves_as_many_steps_as_in_the_program)
{
    static const struct { const char *rule; double strength; int evaluations; } cases[] = {
        {"share", 0.55, 2}, {"above", 0.55, 2}, {"share+1", 0.55, 3}, {"all", 0.55, 5}, {"share+1", 0, 1},
        {"share+1", 1, 5}, {"all", 1, 5}, {"all", 0.1, 5}};
    network n;
    sd_image init = golden_picture(WIDTH, HEIGHT);
    network_open(&n, "sd1-small", SD_PART_ALL, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_timings t = {0};
        sd_image out = {0};
        sd_params p = params_for(&init, NULL);
        p.sampling.sampler = "euler";
        p.edit.strength_steps = cases[i].rule;
        p.edit.strength = cases[i].strength;
        if (sd_generate(n.ctx, &p, &out)) fail_msg("%s", sd_error_text(n.ctx));
        sd_get_timings(n.ctx, &t);
        if (t.n_steps != cases[i].evaluations)
            fail_msg("%s %g: %d evaluations, not %d", cases[i].rule, cases[i].strength, t.n_steps,
                     cases[i].evaluations);
        sd_image_free(&out);
    }
    network_close(&n);
    sd_image_free(&init);
}

TEST(an_unknown_word_is_refused_with_those_there_are)
{
    static const char *const cases[][3] = {
        {"like", "webui", "program \"webui\": one of these words is possible: diffusers compvis a1111 comfy sdcpp"},
        {"bytes", "up", "bytes \"up\": one of these words is possible: round truncate half-up"},
        {"mask_rule", "latent", "mask rule \"latent\": one of these words is possible: latents x0 both"},
        {"posterior", "", "posterior \"\": one of these words is possible: sample mean again"}};
    network n;
    network_open(&n, "sd1-small", SD_PART_ALL, 0, NULL);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        char error[512];
        sd_params p = params_for(NULL, NULL), r;
        sd_params_init(&r);
        assert_int_equal(sd_params_set(&p, cases[i][0], cases[i][1], error), SD_OK);
        assert_int_equal(sd_resolve_params(n.ctx, &p, &r), SD_ERR_ARG);
        assert_string_equal(sd_error_text(n.ctx), cases[i][2]);
        sd_params_free(&p);
    }
    network_close(&n);
}

/* -------------------------------------------------------------------------------------- the table */

TEST(the_table_has_values_that_parameters_take_and_a_place_for_each)
{
    sd_like_info info;
    sd_like_row r;
    int programs = 0, set = 0;
    for (; sd_get_like(programs, &info); programs++)
        assert_int_equal(sd_param_word("like", info.key), programs);
    assert_int_equal(programs, 5);
    for (int row = 0; sd_get_like_row(row, 0, &r); row++)
        for (int i = 0; i < programs; i++) {
            sd_params p;
            char error[512];
            assert_int_equal(sd_get_like_row(row, i, &r), 1);
            assert_true(r.what && *r.what && r.does && *r.does);
            if (!*r.source && (r.check != SD_LIKE_READ || r.sets)) fail_msg("%s: whose source?", r.what);
            if (r.check == SD_LIKE_NOT_HERE && (r.sets || !strstr(r.does, ", not here")))
                fail_msg("%s of %d: is it here?", r.what, i);
            if (!r.sets) continue;
            sd_params_init(&p);
            if (sd_params_set(&p, r.parameter, r.sets, error)) fail_msg("%s: %s", r.what, error);
            sd_params_free(&p);
            set++;
        }
    assert_true(set > 50);
    assert_int_equal(sd_get_like_row(0, programs, &r), 0);
    assert_int_equal(sd_get_like(-1, &info), 0);
}

/* ------------------------------------------------------------------------------------ the program */

TEST(sd_profiles_prints_the_table)
{
    RUN("profiles");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "  = a1111      DPM++ 2M  "));
    assert_non_null(strstr(ran.out, "  = comfy      euler  "));
    RUN("profiles", "comfy");
    assert_int_equal(ran.code, 0);
    assert_null(strstr(ran.out, "a1111 "));
    RUN("profiles", "sdcpp", "--json");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "{\"what\":\"bytes of 255 x\",\"parameter\":\"bytes\",\"by\":{\"sdcpp\":{\"does\":"
                                    "\"rounded, halves up\",\"sets\":\"half-up\",\"check\":\"written\",\"source\":"
                                    "\"src/runtime/preprocessing.hpp:34\"}}}"));
    RUN("profiles", "webui");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "there is no profile \"webui\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_agree_with_what_the_programs_own_code_makes_in_float64),
        cmocka_unit_test(what_comes_of_it_is_in_the_text_of_the_picture),
        cmocka_unit_test(like_diffusers_is_a_run_of_diffusers),
        cmocka_unit_test(bytes_are_made_as_each_program_makes_them),
        cmocka_unit_test(what_is_given_wins),
        cmocka_unit_test(a_strength_leaves_as_many_steps_as_in_the_program),
        cmocka_unit_test(an_unknown_word_is_refused_with_those_there_are),
        cmocka_unit_test(the_table_has_values_that_parameters_take_and_a_place_for_each),
        cmocka_unit_test(sd_profiles_prints_the_table),
    };
    return cmocka_run_group_tests_name("likes", tests, child_setup, child_teardown);
}
