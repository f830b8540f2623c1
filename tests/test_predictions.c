/* test_predictions.c - the UNet's answers before guidance: step.<i>.noise_pred_uncond, _text and _image of a trace. */
#include "test.h"
#include "network.h"
#include "pictures.h"
#include "tempdir.h"

#include <math.h>

enum { MOST = 4096, STEPS = 2 };

/* One tensor of a run, for each of its steps. */
typedef struct kept { const char *name; size_t n; float x[STEPS][MOST]; } kept;

enum { ALL, UNCOND, TEXT, IMAGE, GUIDED, KINDS };
typedef struct answers { kept of[KINDS]; int order; int at[STEPS][KINDS]; } answers;

static answers *new_answers(void)
{
    answers *a = calloc(1, sizeof *a);
    const char *const names[KINDS] = {"unet.conv_out", "noise_pred_uncond", "noise_pred_text", "noise_pred_image",
                                      "noise_pred"};
    for (int k = 0; k < KINDS; k++) a->of[k].name = names[k];
    return a;
}

static void keep(void *user, const sd_traced *t)
{
    answers *a = user;
    size_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (size_t)t->dim[i];
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < STEPS; i++) {
            char name[64];
            snprintf(name, sizeof name, "step.%d.%s", i, a->of[k].name);
            if (strcmp(t->name, name) != 0) continue;
            assert_true(n <= MOST);
            memcpy(a->of[k].x[i], t->data, n * sizeof(float));
            a->of[k].n = n;
            a->at[i][k] = ++a->order;
        }
}

static void draw(const char *config, answers *a, void (*change)(sd_params *))
{
    network n;
    sd_params p;
    sd_image image[2], init = golden_picture(40, 32);
    network_open(&n, config, SD_PART_ALL, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, "step.*.noise_pred*,step.*.unet.conv_out", keep, a), SD_OK);
    sd_params_init(&p);
    p.prompt = "a red apple";
    p.negative_prompt = "blurry";
    p.width = 40;
    p.height = 32;
    p.batch = 2;
    p.sampling.steps = STEPS;
    p.sampling.sampler = "euler";
    p.guidance.scale = 7.5;
    if (change) change(&p);
    if (strcmp(config, "pix2pix-small") == 0) p.edit.init = &init;
    if (sd_generate(n.ctx, &p, image)) fail_msg("%s: %s", config, sd_error_text(n.ctx));
    for (int b = 0; b < p.batch; b++) sd_image_free(&image[b]);
    sd_image_free(&init);
    network_close(&n);
    temp_clear();
}

static void expect_pass(const answers *a, int kind, size_t pass)
{
    const kept *all = &a->of[ALL], *one = &a->of[kind];
    for (int i = 0; i < STEPS; i++) {
        assert_true(a->at[i][ALL] < a->at[i][kind] && a->at[i][kind] < a->at[i][GUIDED]);   /* in order of execution */
        assert_memory_equal(one->x[i], all->x[i] + pass * one->n, one->n * sizeof(float));
    }
}

TEST(the_answers_to_both_prompts_are_what_guidance_makes_its_prediction_of)
{
    answers *a = new_answers();
    draw("sd1-small", a, NULL);
    assert_true(a->of[UNCOND].n > 0 && a->of[ALL].n == 2 * a->of[UNCOND].n);
    expect_pass(a, UNCOND, 0);
    expect_pass(a, TEXT, 1);
    assert_int_equal(a->of[IMAGE].n, 0);
    for (int i = 0; i < STEPS; i++)
        for (size_t k = 0; k < a->of[GUIDED].n; k++) {
            double u = a->of[UNCOND].x[i][k], t = a->of[TEXT].x[i][k];
            assert_true(a->of[GUIDED].x[i][k] == (float)(u + 7.5 * (t - u)));
        }
    free(a);
}

static void by_the_picture(sd_params *p) { p->guidance.image_scale = 1.5; }

TEST(a_model_that_follows_instructions_has_three_answers)
{
    answers *a = new_answers();
    draw("pix2pix-small", a, by_the_picture);
    assert_true(a->of[UNCOND].n > 0 && a->of[ALL].n == 3 * a->of[UNCOND].n);
    expect_pass(a, TEXT, 0);
    expect_pass(a, IMAGE, 1);
    expect_pass(a, UNCOND, 2);
    for (int i = 0; i < STEPS; i++)
        for (size_t k = 0; k < a->of[GUIDED].n; k++) {
            double u = a->of[UNCOND].x[i][k], t = a->of[TEXT].x[i][k], m = a->of[IMAGE].x[i][k];
            assert_true(a->of[GUIDED].x[i][k] == (float)(u + 7.5 * (t - m) + 1.5 * (m - u)));
        }
    free(a);
}

static void without_guidance(sd_params *p) { p->guidance.scale = 1; }

TEST(without_guidance_the_only_answer_is_the_prediction)
{
    answers *a = new_answers();
    draw("sd1-small", a, without_guidance);
    assert_int_equal(a->of[UNCOND].n + a->of[TEXT].n + a->of[IMAGE].n, 0);
    for (int i = 0; i < STEPS; i++)
        assert_memory_equal(a->of[GUIDED].x[i], a->of[ALL].x[i], a->of[GUIDED].n * sizeof(float));
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answers_to_both_prompts_are_what_guidance_makes_its_prediction_of),
        cmocka_unit_test(a_model_that_follows_instructions_has_three_answers),
        cmocka_unit_test(without_guidance_the_only_answer_is_the_prediction),
    };
    return cmocka_run_group_tests_name("predictions", tests, temp_make, temp_remove);
}
