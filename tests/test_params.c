/* test_params.c - the table of parameters: each row is set by its key, told by the command line's texts and the manual
 * page, and comes back out of the text of a picture; and callers that were compiled with another version of sd.h. */
#include "test.h"
#include "../sd.h"
#include "child.h"
#include "context.h"
#include "tempdir.h"

#include <math.h>

static sd_ctx *ctx;

static int open_it(UNUSED void **state)
{
    ctx = open_tiny(SD_PART_ALL, 1);
    return 0;
}

static int close_it(UNUSED void **state)
{
    sd_close(ctx);
    return 0;
}

static void set(sd_params *p, const char *key, const char *text)
{
    char error[512];
    if (sd_params_set(p, key, text, error)) fail_msg("%s = %s: %s", key, text ? text : "NULL", error);
}

static char *get(const sd_params *p, const char *key)
{
    char *text, error[512];
    if (sd_params_get(p, key, &text, error)) fail_msg("%s: %s", key, error);
    return text;
}

/* A value that a run can have and that is not the default. */
static const char *another(const sd_param_info *r, char text[32])
{
    static const struct { const char *key, *value; } own[] = {
        {"sampler", "heun"}, {"schedule", "karras"}, {"width", "128"}, {"height", "72"}, {"sigmas", "9,3.25,1,0"},
        {"timesteps", "999,500.5,21"}, {"strength", "0.5"}, {"inpaint_crop", "4"}, {"outpaint", "1,2,3,4"},
        {"batch", "3"}, {"noise_name", "n.safetensors"}, {"rng", "numpy"}, {"sampler_rng", "brownian"}, {"keep", "2"},
        {"paste_back", "false"}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(own[i].key, r->key) == 0) return own[i].value;
    switch (r->type) {
    case SD_PARAM_INT: return "2";
    case SD_PARAM_BOOL: return r->initial == 1 ? "false" : "true";
    case SD_PARAM_NUMBER: return "0.25";
    case SD_PARAM_SEED: return "18446744073709551615";
    case SD_PARAM_PAIR: return *r->words == 'x' ? "1024x768" : "16,8";
    default: break;
    }
    const char *last = r->words ? strrchr(r->words, ' ') : NULL;   /* the first may be what is meant without it */
    snprintf(text, 32, "%s", last ? last + 1 : "text");
    return text;
}

TEST(each_parameter_is_set_and_told_by_its_key_and_by_its_option)
{
    sd_param_info r;
    int n = 0;
    for (; sd_get_param(n, &r); n++) {
        char room[32];
        const char *value = another(&r, room), *const names[] = {r.key, r.option};
        for (int k = 0; k < 2; k++) {
            sd_params p;
            sd_params_init(&p);
            if (get(&p, r.key)) fail_msg("%s does not begin with its default", r.key);
            set(&p, names[k], value);
            char *got = get(&p, names[1 - k]);
            if (!got || strcmp(got, value) != 0) fail_msg("%s: set to %s, got %s", names[k], value, got ? got : "NULL");
            set(&p, r.key, NULL);
            assert_null(get(&p, r.key));
            sd_free(got);
            sd_params_free(&p);
        }
    }
    assert_true(n > 0);
    assert_int_equal(sd_get_param(-1, &r), 0);
}

TEST(each_parameter_refuses_what_it_cannot_be_and_keeps_its_value)
{
    sd_param_info r;
    for (int i = 0; sd_get_param(i, &r); i++) {
        static const char *const wrong[] = {"", "x", "1e999", "-2000", "2,x", "nan", "0x10", "1 2"};
        char room[32], error[512];
        if (r.type == SD_PARAM_TEXT || r.type == SD_PARAM_FILE) continue;
        sd_params p;
        sd_params_init(&p);
        set(&p, r.key, another(&r, room));
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            if (r.type == SD_PARAM_LIST && strcmp(wrong[k], "-2000") == 0) continue;   /* a list of one number */
            if (sd_params_set(&p, r.key, wrong[k], error) != SD_ERR_ARG) fail_msg("%s took \"%s\"", r.key, wrong[k]);
            if (strncmp(error, r.key, strlen(r.key)) != 0 || !strstr(error, wrong[k])) fail_msg("%s", error);
        }
        char *got = get(&p, r.key);
        assert_string_equal(got, another(&r, room));
        sd_free(got);
        sd_params_free(&p);
    }
    char error[512];
    sd_params p;
    sd_params_init(&p);
    assert_int_equal(sd_params_set(&p, "no_such", "1", error), SD_ERR_ARG);
    assert_string_equal(error, "there is no parameter \"no_such\"");
}

/* What else a run must have where it has this. */
static void prepare(sd_params *p, const char *key, const sd_image *init, const sd_image *mask)
{
    static const char *const needs[][3] = {{"keep", "batch", "3"}, {"s_tmin", "s_churn", "1"},
                                           {"s_tmax", "s_churn", "1"}, {"order", "sampler", "dpm++2m"}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (strcmp(key, needs[i][0]) == 0) set(p, needs[i][1], needs[i][2]);
    bool from_step = strcmp(key, "from_step") == 0;
    if (strncmp(key, "denoising_", 10) == 0 || strcmp(key, "latents_name") == 0 || from_step) {
        static const float latents[4 * 16 * 16];
        if (strcmp(key, "denoising_end") == 0) return;
        if (!from_step) set(p, "denoising_start", "0.5");
        p->latents = latents;
        p->latents_count = sizeof latents / sizeof *latents;
        return;
    }
    p->edit.init = init;
    p->edit.init_name = "init.png";
    bool own_mask = strcmp(key, "outpaint") != 0 && strcmp(key, "alpha_mask") != 0;
    p->edit.mask = own_mask ? mask : NULL;
    p->edit.mask_name = own_mask ? "mask.png" : NULL;
}

/* test_refiner.c and test_tasks.c have them. */
static bool needs_another_model(const char *key)
{
    static const char *const keys[] = {"refiner_at", "depth_name", "noise_level", "image_guidance_scale"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

TEST(each_parameter_comes_back_out_of_the_text_of_a_picture)
{
    uint8_t clear[4 * 64 * 64] = {0}, white[64 * 64];
    const sd_image init = {64, 64, 4, clear}, mask = {64, 64, 1, white};
    static float noise[4 * 8 * 8];
    sd_param_info r;
    memset(white, 255, sizeof white);
    for (int i = 0; sd_get_param(i, &r); i++) {
        char room[32], error[512], *text, *was, *is;
        sd_recipe *recipe;
        sd_params p;
        if (needs_another_model(r.key) || strcmp(r.key, "like") == 0) continue;   /* what comes of it is in the text */
        sd_params_init(&p);
        prepare(&p, r.key, &init, &mask);
        set(&p, r.key, another(&r, room));
        if (strcmp(r.key, "noise_name") == 0) p.noise = noise, p.noise_count = sizeof noise / sizeof *noise;
        if (sd_parameters_text(ctx, &p, &text)) fail_msg("%s: %s", r.key, sd_error_text(ctx));
        assert_int_equal(sd_recipe_read(text, &recipe, error), SD_OK);
        was = get(&p, r.key);
        is = get(recipe->params, r.key);
        if (!is || strcmp(was, is) != 0) fail_msg("%s: %s became %s in\n%s", r.key, was, is ? is : "NULL", text);
        sd_free(was);
        sd_free(is);
        sd_free(text);
        sd_recipe_free(recipe);
        sd_params_free(&p);
    }
}

TEST(each_parameter_stands_in_the_readme_and_the_manual_page)
{
    char *readme = slurp("README.md", NULL), *man = slurp("share/sd.1", NULL);
    sd_param_info r;
    for (int i = 0; sd_get_param(i, &r); i++) {
        char plain[64], roff[96] = "\\fB\\-\\-";
        snprintf(plain, sizeof plain, "--%s", r.option);
        for (const char *c = r.option; *c; c++) strcat(roff, *c == '-' ? "\\-" : (char[]){*c, 0});
        strcat(roff, "\\fR");
        if (!strstr(readme, plain)) fail_msg("README.md lacks %s", plain);
        if (!strstr(man, roff)) fail_msg("share/sd.1 lacks %s", roff);
    }
    free(readme);
    free(man);
}

/* ------------------------------------------------------------------------------- other versions */

TEST(an_older_callers_smaller_struct_is_not_written_behind_and_lacks_nothing)
{
    enum { OLD = offsetof(sd_params, edit) };   /* as if editing had come later */
    union { sd_params p; unsigned char byte[sizeof(sd_params)]; } given, resolved;
    memset(&given, 0xA5, sizeof given);
    memset(&resolved, 0xA5, sizeof resolved);
    sd_params_init_sized(&given.p, OLD);
    assert_int_equal(given.p.size, OLD);
    assert_int_equal(given.p.sampling.steps, SD_DEFAULT);
    given.p.prompt = "x";
    if (sd_resolve_params(ctx, &given.p, &resolved.p)) fail_msg("%s", sd_error_text(ctx));
    assert_int_equal(resolved.p.size, OLD);
    assert_string_equal(resolved.p.prompt, "x");
    for (size_t i = OLD; i < sizeof given; i++)
        if (given.byte[i] != 0xA5 || resolved.byte[i] != 0xA5) fail_msg("byte %zu behind %d was written", i, (int)OLD);
    char error[512];
    assert_int_equal(sd_params_set(&given.p, "strength", "0.5", error), SD_ERR_ARG);
    assert_non_null(strstr(error, "strength"));
    set(&given.p, "steps", "7");
    sd_params_free(&given.p);
    sd_params_init_sized(&given.p, offsetof(sd_params, sampling.sigma_count));   /* a list without its count */
    assert_int_equal(sd_params_set(&given.p, "sigmas", "5,4,1", error), SD_ERR_ARG);
    sd_params_init_sized(&given.p, OLD);
    given.p.prompt = "x";
    set(&given.p, "steps", "7");
    int n;   /* the strange bytes behind mean nothing */
    if (sd_schedule(ctx, &given.p, &n, NULL, NULL, NULL)) fail_msg("%s", sd_error_text(ctx));
}

TEST(a_newer_callers_larger_struct_is_refused)
{
    struct { sd_params p; double more; } given;
    sd_params resolved;
    sd_params_init_sized(&given.p, sizeof given);
    assert_int_equal(sd_resolve_params(ctx, &given.p, &resolved), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(ctx), "compiled for a newer one"));
    given.p.size = 0;
    assert_int_equal(sd_resolve_params(ctx, &given.p, &resolved), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(ctx), "call sd_params_init first"));
    struct { sd_options o; double more; } options;
    sd_ctx *c;
    sd_options_init_sized(&options.o, sizeof options);
    assert_int_equal(sd_open(&c, &options.o), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "sd_options_init"));
    sd_close(c);
}

TEST(a_copy_has_no_more_and_no_less_than_the_struct_that_it_is_for)
{
    enum { OLD = offsetof(sd_params, edit) };
    union { sd_params p; unsigned char byte[sizeof(sd_params)]; } small, large;
    sd_params from;
    sd_params_init(&from);
    set(&from, "prompt", "x");
    set(&from, "steps", "7");
    set(&from, "strength", "0.5");
    memset(&small, 0xA5, sizeof small);
    sd_params_copy_sized(&small.p, &from, OLD);   /* of an older program */
    assert_int_equal(small.p.size, OLD);
    assert_int_equal(small.p.sampling.steps, 7);
    assert_ptr_equal(small.p.prompt, from.prompt);
    assert_null(small.p.copies);
    for (size_t i = OLD; i < sizeof small; i++) assert_int_equal(small.byte[i], 0xA5);
    sd_params_copy(&large.p, &small.p);           /* and back: what was lost on the way is the default */
    assert_int_equal(large.p.size, sizeof(sd_params));
    assert_int_equal(large.p.sampling.steps, 7);
    assert_true(large.p.edit.strength == SD_DEFAULT);
    sd_params_copy(&large.p, NULL);
    assert_int_equal(large.p.sampling.steps, SD_DEFAULT);
    sd_params_free(&from);
}

TEST(an_older_callers_options_are_taken)
{
    enum { OLD = offsetof(sd_options, memory) };
    union { sd_options o; unsigned char byte[sizeof(sd_options)]; } given;
    sd_ctx *c;
    memset(&given, 0xA5, sizeof given);
    sd_options_init_sized(&given.o, OLD);
    for (size_t i = OLD; i < sizeof given; i++) assert_int_equal(given.byte[i], 0xA5);
    given.o.parts = SD_PART_TOKENIZER;
    given.o.model = "weights/tiny";
    if (sd_open(&c, &given.o)) fail_msg("%s", sd_error_text(c));   /* log and user are not what lies there */
    sd_close(c);
}

TEST(what_the_library_fills_in_ends_where_the_callers_struct_does)
{
    union { sd_model_info i; unsigned char byte[sizeof(sd_model_info)]; } info;
    union { sd_sampler_info s; unsigned char byte[sizeof(sd_sampler_info) + 8]; } sampler;
    memset(&info, 0xA5, sizeof info);
    assert_int_equal(sd_get_info_sized(ctx, &info.i, offsetof(sd_model_info, threads)), SD_OK);
    for (size_t i = offsetof(sd_model_info, threads); i < sizeof info; i++) assert_int_equal(info.byte[i], 0xA5);
    memset(&sampler, 0xA5, sizeof sampler);   /* a newer caller's further fields are 0 */
    assert_int_equal(sd_get_sampler_sized(0, &sampler.s, sizeof sampler), 1);
    for (size_t i = sizeof sampler.s; i < sizeof sampler; i++) assert_int_equal(sampler.byte[i], 0);
}

TEST(sd_default_means_the_default_everywhere)
{
    sd_param_info r;
    for (int i = 0; sd_get_param(i, &r); i++) {
        sd_params p, plain, a, b;
        sd_params_init(&plain);
        plain.prompt = "x";
        p = plain;
        if (r.type == SD_PARAM_INT || r.type == SD_PARAM_BOOL) *(int *)(void *)((char *)&p + r.offset) = SD_DEFAULT;
        else if (r.type == SD_PARAM_NUMBER) *(double *)(void *)((char *)&p + r.offset) = SD_DEFAULT;
        else continue;
        if (sd_resolve_params(ctx, &p, &a) || sd_resolve_params(ctx, &plain, &b)) fail_msg("%s", sd_error_text(ctx));
        char *x = get(&a, r.key), *y = get(&b, r.key);
        if ((x == NULL) != (y == NULL) || (x && strcmp(x, y) != 0)) fail_msg("%s: %s, not %s", r.key, x, y);
        sd_free(x);
        sd_free(y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_parameter_is_set_and_told_by_its_key_and_by_its_option),
        cmocka_unit_test(each_parameter_refuses_what_it_cannot_be_and_keeps_its_value),
        cmocka_unit_test(each_parameter_stands_in_the_readme_and_the_manual_page),
        cmocka_unit_test(each_parameter_comes_back_out_of_the_text_of_a_picture),
        cmocka_unit_test(an_older_callers_smaller_struct_is_not_written_behind_and_lacks_nothing),
        cmocka_unit_test(a_newer_callers_larger_struct_is_refused),
        cmocka_unit_test(a_copy_has_no_more_and_no_less_than_the_struct_that_it_is_for),
        cmocka_unit_test(an_older_callers_options_are_taken),
        cmocka_unit_test(what_the_library_fills_in_ends_where_the_callers_struct_does),
        cmocka_unit_test(sd_default_means_the_default_everywhere),
    };
    return cmocka_run_group_tests_name("params", tests, open_it, close_it);
}
