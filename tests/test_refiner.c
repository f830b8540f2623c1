/* test_refiner.c - two models draw together, SDXL's and its refiner's, against float64 (tools/golden_refiner.py has the
 * same runs); the same as two runs, with latents that go out of one and into the other; and what is refused. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <sys/stat.h>

#include "test.h"
#include "network.h"
#include "needs.h"
#include "pictures.h"
#include "tempdir.h"
#include "../pipeline.h"

enum { SEED = 23, WIDTH = 56, HEIGHT = 40, MOST = 2 * 4 * 5 * 7 };

typedef struct run {
    const char *name, *sampler, *negative;
    int steps, batch, evaluations;
    double at, guidance, strength;
    bool sizes;
} run;

static const run runs[] = {
    {"usual", NULL, NULL, 5, 1, 5, 0.8, 5, 0, false},
    {"sizes", NULL, "blurry", 5, 2, 5, 0.5, 5, 0, true},
    {"ddim", "ddim", "", 7, 1, 7, 0.6, 5, 0, false},
    {"dpm++2m", "dpm++2m", "blurry", 7, 1, 7, 0.37, 5, 0, false},
    {"heun", "heun", "blurry", 6, 1, 12, 0.6, 5, 0, false},
    {"euler_a", "euler_a", "blurry", 5, 1, 5, 0.5, 5, 0, false},
    {"pndm", "pndm", "blurry", 5, 1, 6, 0.5, 5, 0, false},
    {"no_guidance", NULL, NULL, 5, 1, 5, 0.8, 1, 0, false},
    {"img2img", NULL, NULL, 5, 1, 4, 0.6, 5, 0.8, false},
};

static void make_model(char path[512], const char *config)
{
    sd_error e = {0};
    snprintf(path, 512, "%s", temp_path(config));
    mkdir(path, 0777);
    if (synth_write_model(path, config, NULL, &e)) fail_msg("%s", e.text);
}

/* A context of a model and a refiner; either may be NULL: SDXL's, none. */
static sd_ctx *open_two(const char *config, const char *refiner, int precise, int residency, sd_status want)
{
    char model[512], second[512];
    sd_options o;
    sd_ctx *c;
    make_model(model, config ? config : "sdxl-small");
    if (refiner) make_model(second, refiner);
    sd_options_init(&o);
    o.model = model;
    o.refiner = refiner ? second : NULL;
    o.precise = precise;
    o.residency = residency;
    if (sd_open(&c, &o) != want) fail_msg("%s", sd_error_text(c));
    return c;
}

static void params_of(const run *r, const sd_image *init, sd_params *p)
{
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->negative_prompt = r->negative;
    p->width = WIDTH;
    p->height = HEIGHT;
    p->seed = SEED;
    p->batch = r->batch;
    p->sampling.sampler = r->sampler;
    p->sampling.steps = r->steps;
    p->sampling.refiner_at = r->at;
    p->guidance.scale = r->guidance;
    if (r->strength > 0) {
        p->edit.init = init;
        p->edit.strength = r->strength;
    }
    if (!r->sizes) return;
    p->sdxl.original_size[0] = 512;
    p->sdxl.original_size[1] = 640;
    p->sdxl.crop[0] = 5;
    p->sdxl.crop[1] = 7;
    p->sdxl.aesthetic_score = 7.5;
    p->sdxl.negative_aesthetic_score = 1.25;
}

/* ------------------------------------------------------------------------------- against float64 */

static void draw(network *n, const run *r)
{
    const char *mistake, *unseen;
    char last[64];
    sd_params p;
    sd_image image[2], init = golden_picture(WIDTH, HEIGHT);
    double before = n->worst;
    n->worst = 0;
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->name);
    params_of(r, &init, &p);
    if (sd_generate(n->ctx, &p, image)) fail_msg("%s: %s", r->name, sd_error_text(n->ctx));
    for (int i = 0; i < r->batch; i++) sd_image_free(&image[i]);
    sd_image_free(&init);
    if ((unseen = golden_unseen(&n->golden, n->prefix)) != NULL) fail_msg("nothing was traced under %s", unseen);
    snprintf(last, sizeof last, "run.%s.latents.%d", r->name, r->evaluations);
    golden_result g = golden_compare(&n->golden, last, 0, NULL, NULL);
    if (!g.found) fail_msg("%s: no %s", r->name, last);
    double least = golden_least_mistake(&n->golden, r->name, &mistake), bound = fmax(3 * g.e32, 2e-6);
    if (!(least > 10 * bound)) fail_msg("%s: the mistake %s (%.2g) would not be seen", r->name, mistake, least);
    print_message("%-12s worst %.2f of its bound, least mistake %s %.0f times the bound\n", r->name, n->worst, mistake,
                  least / bound);
    n->worst = fmax(n->worst, before);
}

static void against_float64(int precise)
{
    network n = {.config = "sdxl-small and its refiner"};
    sd_error e = {0};
    if (golden_open_file(&n.golden, "tests/golden/refiner_chain.safetensors", &e)) fail_msg("%s", e.text);
    n.ctx = open_two(NULL, "refiner-small", precise, SD_RESIDENCY_MAP, SD_OK);
    assert_int_equal(sd_set_trace(n.ctx, NULL, network_compare_found, &n), SD_OK);
    for (size_t i = 0; i < SD_COUNT(runs); i++) draw(&n, &runs[i]);
    network_finish(&n, "run.", NULL, NULL);
    if (n.compared < 240) fail_msg("only %d tensors were compared", n.compared);
    network_close(&n);
}

TEST(two_models_are_within_their_bounds_of_float64) { against_float64(0); }
TEST(two_models_are_within_their_bounds_precisely) { against_float64(1); }

/* ----------------------------------------------------------------------- one run, or one after another */

static sd_status latents_of(sd_ctx *c, const sd_params *p, float *out)
{
    return sd_generate_latents(c, p, out, (size_t)(p->batch * 4 * (HEIGHT / 8) * (WIDTH / 8)));
}

/* Both models' runs one after another have the bits of one run of both. */
TEST(two_runs_give_the_bits_of_one_run_of_two_models)
{
    sd_ctx *both = open_two(NULL, "refiner-small", 0, SD_RESIDENCY_MAP, SD_OK);
    sd_ctx *first = open_two(NULL, NULL, 0, SD_RESIDENCY_MAP, SD_OK);
    sd_ctx *second = open_two("refiner-small", NULL, 0, SD_RESIDENCY_MAP, SD_OK);
    sd_image init = golden_picture(WIDTH, HEIGHT);
    for (size_t i = 0; i < SD_COUNT(runs); i++) {
        float whole[MOST], middle[MOST], end[MOST];
        const run *r = &runs[i];
        sd_params p;
        size_t n = (size_t)r->batch * MOST / 2;
        if (r->sampler && strcmp(r->sampler, "euler_a") == 0) continue;   /* its generator goes on */
        params_of(r, &init, &p);
        if (latents_of(both, &p, whole)) fail_msg("%s: %s", r->name, sd_error_text(both));
        p.sampling.refiner_at = SD_DEFAULT;
        p.sampling.denoising_end = r->at;
        if (latents_of(first, &p, middle)) fail_msg("%s: %s", r->name, sd_error_text(first));
        p.sampling.denoising_end = SD_DEFAULT;
        p.sampling.denoising_start = r->at;
        p.edit.init = NULL;
        p.edit.strength = SD_DEFAULT;
        p.latents = middle;
        p.latents_count = n;
        if (!p.sampling.sampler) p.sampling.sampler = "euler";
        if (latents_of(second, &p, end)) fail_msg("%s: %s", r->name, sd_error_text(second));
        assert_memory_equal(whole, end, n * sizeof *whole);
    }
    sd_image_free(&init);
    sd_close(both);
    sd_close(first);
    sd_close(second);
}

/* Where weights are changes no bit; and after a run of both, the first model draws as before. */
TEST(two_models_draw_the_same_wherever_their_weights_are)
{
    static const int where[] = {SD_RESIDENCY_MAP, SD_RESIDENCY_STREAM, SD_RESIDENCY_RAM};
    float bits[3][MOST], alone[3][MOST];
    for (int i = 0; i < 3; i++) {
        sd_ctx *c = open_two(NULL, "refiner-small", 0, where[i], SD_OK);
        sd_params p;
        params_of(&runs[0], NULL, &p);
        for (int twice = 0; twice < 2; twice++)
            if (latents_of(c, &p, bits[i])) fail_msg("%s", sd_error_text(c));
        p.sampling.refiner_at = 1;   /* never */
        if (latents_of(c, &p, alone[i])) fail_msg("%s", sd_error_text(c));
        sd_close(c);
        assert_memory_equal(bits[i], bits[0], sizeof bits[0] / 2);
        assert_memory_equal(alone[i], alone[0], sizeof bits[0] / 2);
    }
    assert_memory_not_equal(bits[0], alone[0], sizeof bits[0] / 2);
}

/* The text has the model's own settings, as the offset of its timesteps, and the refiner's stay its own. */
TEST(two_models_draw_again_what_their_text_says)
{
    sd_ctx *c = open_two(NULL, "refiner-small", 0, SD_RESIDENCY_MAP, SD_OK);
    for (int k = 0; k < 3; k++) {
        float first[MOST], again[MOST];
        char *text, error[512];
        sd_recipe *r;
        sd_params p;
        params_of(&runs[3], NULL, &p);
        if (k == 0) p.sampling.sampler = NULL;
        if (k == 2) p.sampling.sampler = "DPM++ 2M Karras";
        if (latents_of(c, &p, first)) fail_msg("%s", sd_error_text(c));
        if (sd_parameters_text(c, &p, &text)) fail_msg("%s", sd_error_text(c));
        assert_non_null(strstr(text, "Refiner: refiner-small, Refiner switch at: 0.37, Refiner fingerprint: "));
        if (sd_recipe_read(text, &r, error)) fail_msg("%s", error);
        assert_string_equal(r->refiner, "refiner-small");
        assert_int_equal(strlen(r->refiner_hash), 16);
        assert_string_equal(r->notices, "");
        if (latents_of(c, r->params, again)) fail_msg("%s", sd_error_text(c));
        assert_memory_equal(first, again, sizeof first / 2);
        sd_recipe_free(r);
        sd_free(text);
    }
    sd_close(c);
}

typedef struct watch { int steps, total, texts, decodings; double seconds; } watch;

static void see_progress(void *user, const sd_progress *p)
{
    watch *w = user;
    if (strcmp(p->stage, "text") == 0) {
        w->texts++;
        assert_int_equal(p->total, 2);
        assert_int_equal(p->done, w->texts);
    }
    if (strcmp(p->stage, "vae") == 0) w->decodings++;
    if (strcmp(p->stage, "step") != 0) return;
    assert_int_equal(p->done, ++w->steps);
    w->total = p->total;
}

TEST(progress_and_timings_count_over_both_models)
{
    sd_ctx *c = open_two(NULL, "refiner-small", 0, SD_RESIDENCY_MAP, SD_OK);
    sd_params p;
    sd_image image;
    sd_timings t;
    watch w = {0};
    params_of(&runs[0], NULL, &p);
    sd_set_progress(c, see_progress, &w);
    assert_int_equal(sd_generate(c, &p, &image), SD_OK);
    sd_image_free(&image);
    sd_get_timings(c, &t);
    assert_int_equal(w.texts, 2);
    assert_int_equal(w.steps, 5);
    assert_int_equal(w.total, 5);
    assert_int_equal(w.decodings, 1);
    assert_int_equal(t.n_steps, 5);
    for (int i = 0; i < 5; i++) assert_true(t.steps[i] > 0);
    sd_close(c);
}

static void count_names(void *user, UNUSED const sd_traced *t) { ++*(int *)user; }

/* A list of what will be traced is that of both parts; each name comes once, so that a file can have it. */
TEST(a_trace_has_both_models_and_each_name_once)
{
    sd_ctx *c = open_two(NULL, "refiner-small", 0, SD_RESIDENCY_MAP, SD_OK);
    sd_params p;
    sd_image image;
    int listed = 0, refiners = 0;
    params_of(&runs[4], NULL, &p);   /* heun, cut in the middle of a step */
    assert_int_equal(sd_trace_list(c, &p, NULL, count_names, &listed), SD_OK);
    assert_int_equal(sd_trace_list(c, &p, "refiner.*", NULL, NULL), SD_OK);
    static const char both[] = "latents.12,step.11.unet.conv_in,refiner.text_encoder_2.*";
    assert_int_equal(sd_trace_list(c, &p, both, NULL, NULL), SD_OK);
    assert_int_equal(sd_trace_list(c, &p, "latents.13", NULL, NULL), SD_ERR_ARG);
    assert_int_equal(sd_trace_open(c, temp_path("trace.safetensors"), NULL), SD_OK);
    if (sd_generate(c, &p, &image)) fail_msg("%s", sd_error_text(c));
    sd_image_free(&image);
    if (sd_trace_close(c)) fail_msg("%s", sd_error_text(c));
    assert_int_equal(sd_set_trace(c, "refiner.prompt_embeds,latents.12", count_names, &refiners), SD_OK);
    assert_int_equal(sd_generate(c, &p, &image), SD_OK);
    sd_image_free(&image);
    assert_int_equal(refiners, 2);
    assert_true(listed > 1000);
    sd_close(c);
}

/* ------------------------------------------------------------------------------------- refusals */

static void refused(sd_ctx *c, const sd_params *p, sd_status status, const char *because)
{
    float out[MOST];
    sd_status got = latents_of(c, p, out);
    if (got != status || !strstr(sd_error_text(c), because))
        fail_msg("expected %d \"%s\": %d %s", status, because, got, sd_error_text(c));
}

TEST(parts_that_do_not_fit_are_refused_with_a_sentence)
{
    sd_ctx *c = open_two(NULL, "refiner-small", 0, SD_RESIDENCY_MAP, SD_OK);
    sd_image init = golden_picture(WIDTH, HEIGHT), mask = golden_mask(WIDTH, HEIGHT);
    float latents[MOST] = {0};
    sd_params p;
    params_of(&runs[0], NULL, &p);
    p.sampling.refiner_at = 0;
    refused(c, &p, SD_ERR_ARG, "the refiner must take over after 0");
    p.sampling.refiner_at = 0.9999;
    refused(c, &p, SD_ERR_ARG, "no step of 5 of euler is between the shares 0.9999 and 1 of the run");
    p.sampling.refiner_at = 0.05;
    refused(c, &p, SD_ERR_ARG, "no step of 5 of euler is between the shares 0 and 0.05 of the run");
    p.sampling.refiner_at = SD_DEFAULT;
    p.sampling.sampler = "dpm_adaptive";
    refused(c, &p, SD_ERR_ARG, "dpm_adaptive can neither begin nor end in the middle of a run");
    p.sampling.sampler = NULL;
    p.sampling.denoising_start = 0.5;
    refused(c, &p, SD_ERR_ARG, "a run that starts in the middle needs the latents of the run before it");
    p.latents = latents;
    p.latents_count = 17;
    refused(c, &p, SD_ERR_ARG, "the latents of the run before this one must be 140 numbers, not 17");
    p.latents_count = MOST / 2;
    latents[3] = NAN;
    refused(c, &p, SD_ERR_ARG, "the latents of the run before this one must be finite, but number 4 of 140 is nan");
    latents[3] = 0;
    p.edit.init = &init;
    refused(c, &p, SD_ERR_ARG, "latents of another run and a picture were given");
    p.edit.init = NULL;
    p.sampling.denoising_start = SD_DEFAULT;
    refused(c, &p, SD_ERR_ARG, "but not after which share of the run: the denoising start");
    p.sampling.denoising_start = 0.9;
    refused(c, &p, SD_ERR_ARG, "goes from a share of 0 or more to a larger one, at most 1, not from 0.9 to 0.8");
    params_of(&runs[0], &init, &p);
    p.edit.init = &init;
    p.edit.mask = &mask;
    refused(c, &p, SD_ERR_UNSUPPORTED, "with a mask a run cannot end in the middle, nor a refiner go on");
    params_of(&runs[0], NULL, &p);
    assert_int_equal(sd_generate_latents(c, &p, latents, 5), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "the latents of this run are 140 numbers, not 5"));
    assert_int_equal(sd_generate_latents(c, &p, NULL, 140), SD_ERR_ARG);
    sd_close(c);
    c = open_two(NULL, NULL, 0, SD_RESIDENCY_MAP, SD_OK);
    refused(c, &p, SD_ERR_ARG, "a refiner is to take over at 0.8, but none was opened");
    sd_close(c);
    sd_image_free(&init);
    sd_image_free(&mask);
}

TEST(models_of_other_latents_are_no_refiners)
{
    sd_ctx *c = open_two("sd1-small", "refiner-small", 0, SD_RESIDENCY_MAP, SD_ERR_SHAPE);
    assert_non_null(strstr(sd_error_text(c), "the model's latents are 1/8 of the picture, times 0.18215"));
    sd_close(c);
}

/* Any model of the same latents can go on: here one of SD 1's shape, with itself, in the steps of its own scheduler. */
TEST(a_model_of_sd_1_can_be_a_refiner)
{
    sd_ctx *two = open_two("sd1-small", "sd1-small", 0, SD_RESIDENCY_MAP, SD_OK);
    sd_ctx *one = open_two("sd1-small", NULL, 0, SD_RESIDENCY_MAP, SD_OK);
    float chain[MOST], whole[MOST];
    sd_params p;
    params_of(&runs[2], NULL, &p);   /* ddim: what is drawn in parts is what is drawn at once */
    if (latents_of(two, &p, chain)) fail_msg("%s", sd_error_text(two));
    p.sampling.refiner_at = SD_DEFAULT;
    if (latents_of(one, &p, whole)) fail_msg("%s", sd_error_text(one));
    assert_memory_equal(chain, whole, sizeof chain / 2);
    sd_close(two);
    sd_close(one);
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

/* What is kept of a weight is kept under its number. */
TEST(no_two_weights_of_the_two_models_have_one_number)
{
    sd_ctx *c = open_two(NULL, "refiner-small", 0, SD_RESIDENCY_MAP, SD_OK);
    const sd_model *m = &c->refiner;
    uint32_t first = 0;
    for (int i = m->n; i-- > 0;)
        if (m->module[i]->binder.n_weights) first = m->module[i]->binder.weight[0].field->id;
    assert_true(first > 1);
    assert_int_equal(first, sd_model_last_id(&c->model) + 1);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(no_two_weights_of_the_two_models_have_one_number, clear),
        cmocka_unit_test_teardown(two_models_are_within_their_bounds_of_float64, clear),
        unit_test_needing_teardown(NEED_CPU, two_models_are_within_their_bounds_precisely, clear),
        cmocka_unit_test_teardown(two_runs_give_the_bits_of_one_run_of_two_models, clear),
        cmocka_unit_test_teardown(two_models_draw_the_same_wherever_their_weights_are, clear),
        cmocka_unit_test_teardown(two_models_draw_again_what_their_text_says, clear),
        cmocka_unit_test_teardown(progress_and_timings_count_over_both_models, clear),
        cmocka_unit_test_teardown(a_trace_has_both_models_and_each_name_once, clear),
        cmocka_unit_test_teardown(parts_that_do_not_fit_are_refused_with_a_sentence, clear),
        cmocka_unit_test_teardown(models_of_other_latents_are_no_refiners, clear),
        cmocka_unit_test_teardown(a_model_of_sd_1_can_be_a_refiner, clear),
    };
    return cmocka_run_group_tests_name("refiner", tests, temp_make, temp_remove);
}
