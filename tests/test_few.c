/* test_few.c - models that draw in few steps, whole runs against diffusers in float64: a latent consistency model,
 * whose UNet is told the guidance scale; the settings of Turbo, Lightning, Hyper-SD and LCM-LoRA. The runs are those of
 * tools/golden_few.py. Then what a model is drawn with if nobody asks for anything else. */
#include <math.h>
#include <sys/stat.h>

#include "test.h"
#include "layouts.h"
#include "network.h"
#include "needs.h"
#include "pictures.h"
#include "tempdir.h"

enum { SEED = 20, WIDTH = 56, HEIGHT = 40 };

/* What a user types. 0, NULL: the default; steps -1: they follow from the timesteps. */
typedef struct run {
    const char *name;
    int steps;
    const char *sampler, *spacing, *prediction;
    double guidance;         /* NAN: the default */
    double strength, eta;
    int batch, clip_skip;
    bool masked;
    const double *timesteps;
    int timestep_count;
} run;

#define OWN .guidance = NAN
static const double three[] = {799, 499, 59}, hyper[] = {800};
static const run lcm[] = {
    {.name = "own", OWN},
    {.name = "scale", .steps = 2, .guidance = 2.3, .batch = 2},
    {.name = "one", .steps = 1, .guidance = 1},
    {.name = "skip", .steps = 3, .clip_skip = 2, OWN},
    {.name = "timesteps", .timesteps = three, .timestep_count = 3, OWN},
    {.name = "img2img", .steps = 3, .strength = 0.6, .guidance = 4},
    {.name = "img2img_all", .steps = 4, .strength = 1, .batch = 2, OWN},
    {.name = "ddim", .sampler = "ddim", .steps = 3, .guidance = 4},
    {.name = "ddim_img2img", .sampler = "ddim", .steps = 5, .guidance = 4, .strength = 0.6},
    {.name = "inpaint", .steps = 5, .guidance = 4, .strength = 0.6, .masked = true},
};
static const run lora[] = {   /* LCM-LoRA's scheduler */
    {.name = "lcm", .sampler = "lcm", .steps = 4, .guidance = 1},
    {.name = "lcm_img2img", .sampler = "lcm", .steps = 5, .guidance = 1, .strength = 0.6},
};
#define TURBO .sampler = "euler", .spacing = "trailing", .prediction = "epsilon", .guidance = 0
static const run turbo[] = {
    {.name = "turbo_1", TURBO, .steps = 1},
    {.name = "turbo_4", TURBO, .steps = 4, .batch = 2},
    {.name = "turbo_img2img", TURBO, .steps = 2, .strength = 0.5},
};
#define TURBO_XL .sampler = "euler_a", .spacing = "trailing", .guidance = 0
#define LIGHTNING .sampler = "euler", .spacing = "trailing", .guidance = 1
static const run xl[] = {
    {.name = "turbo_1", TURBO_XL, .steps = 1},
    {.name = "turbo_4", TURBO_XL, .steps = 4},
    {.name = "turbo_img2img", TURBO_XL, .steps = 2, .strength = 0.5},
    {.name = "lightning_1", LIGHTNING, .prediction = "sample", .steps = 1},
    {.name = "lightning_2", LIGHTNING, .steps = 2},
    {.name = "lightning_4", LIGHTNING, .steps = 4},
    {.name = "hyper_1", .sampler = "lcm", .timesteps = hyper, .timestep_count = 1, .guidance = 1},
    {.name = "hyper_tcd", .sampler = "tcd", .steps = 4, .eta = 1, .guidance = 0},
    {.name = "hyper_tcd_03", .sampler = "tcd", .steps = 3, .eta = 0.3, .guidance = 1},
    {.name = "hyper_ddim", .sampler = "ddim", .spacing = "trailing", .steps = 2, .guidance = 0},
};

static void params_of(const run *r, const sd_image *init, const sd_image *mask, sd_params *p)
{
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->seed = SEED;
    p->batch = r->batch ? r->batch : 1;
    if (r->clip_skip) p->clip_skip = r->clip_skip;
    if (r->steps) p->sampling.steps = r->steps;
    p->sampling.sampler = r->sampler;
    p->sampling.spacing = r->spacing;
    p->sampling.prediction = r->prediction;
    p->sampling.timesteps = r->timesteps;
    p->sampling.timestep_count = r->timestep_count;
    if (r->eta > 0) p->sampling.eta = r->eta;
    if (!isnan(r->guidance)) p->guidance.scale = r->guidance;
    if (r->strength > 0) {
        p->edit.init = init;
        p->edit.mask = r->masked ? mask : NULL;
        p->edit.strength = r->strength;
    } else {
        p->width = 72;
        p->height = 88;
    }
}

/* The name of the run's last latents in the goldens. */
static void last_latents(char name[64], network *n, const run *r)
{
    for (int i = 0; i < 9; i++) {
        char one[64];
        snprintf(one, sizeof one, "run.%s.latents.%d", r->name, i);
        if (golden_compare(&n->golden, one, 0, NULL, NULL).found) memcpy(name, one, sizeof one);
    }
}

static void draw(network *n, const run *r)
{
    const char *mistake;
    char last[64] = "";
    sd_params p;
    sd_image image[2], init = golden_picture(WIDTH, HEIGHT), mask = golden_mask(WIDTH, HEIGHT);
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->name);
    params_of(r, &init, &mask, &p);
    if (sd_generate(n->ctx, &p, image)) fail_msg("%s: %s", r->name, sd_error_text(n->ctx));
    for (int i = 0; i < p.batch; i++) sd_image_free(&image[i]);
    sd_image_free(&init);
    sd_image_free(&mask);
    const char *unseen = golden_unseen(&n->golden, n->prefix);
    if (unseen) fail_msg("%s: nothing was traced under %s", r->name, unseen);
    last_latents(last, n, r);
    golden_result g = golden_compare(&n->golden, last, 0, NULL, NULL);
    double least = golden_least_mistake(&n->golden, r->name, &mistake);
    if (*mistake && !(least > 10 * fmax(3 * g.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", r->name, mistake, least);
}

/* goldens: NULL: the model's own. */
static void against_float64(const char *config, const char *goldens, const run *runs, size_t count, int tensors)
{
    for (int precise = 0; precise < precisions(); precise++) {
        network n;
        sd_error e = {0};
        network_open(&n, config, SD_PART_ALL, precise, NULL);
        if (goldens) {
            golden_close(&n.golden);
            if (golden_open_file(&n.golden, goldens, &e)) fail_msg("%s", e.text);
        }
        assert_int_equal(sd_set_trace(n.ctx, NULL, network_compare_found, &n), SD_OK);
        for (size_t i = 0; i < count; i++) draw(&n, &runs[i]);
        network_finish(&n, "run.", NULL, NULL);
        if (n.compared < tensors) fail_msg("%s: only %d tensors were compared", config, n.compared);
        network_close(&n);
    }
}

TEST(a_latent_consistency_model_is_within_its_bound_of_float64)
{
    against_float64("lcm-small", NULL, lcm, SD_COUNT(lcm), 150);
}
TEST(lcm_loras_settings_are_within_their_bound)
{
    against_float64("sd1-small", "tests/golden/few_sd1-small.safetensors", lora, SD_COUNT(lora), 34);
}
TEST(sd_turbos_settings_are_within_their_bound)
{
    against_float64("sd2-small", "tests/golden/few_sd2-small.safetensors", turbo, SD_COUNT(turbo), 34);
}
TEST(settings_of_turbo_lightning_and_hyper_are_within_their_bound)
{
    against_float64("sdxl-small", "tests/golden/few_sdxl-small.safetensors", xl, SD_COUNT(xl), 125);
}

/* --------------------------------------------------------------------------- what nobody asked for */

typedef struct lines { char text[2048]; } lines;   /* what was logged, details too */

static void keep_line(void *user, int level, const char *line)
{
    lines *l = user;
    size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%d %s\n", level, line);
}

/* A small model in the test's directory, with another scheduler if there is one. */
static sd_ctx *open_small(const char *config, const char *scheduler, lines *log)
{
    sd_error e = {0};
    sd_options o;
    char name[64];
    mkdir(temp_path(config), 0777);
    if (synth_write_model(temp_path(config), config, NULL, &e)) fail_msg("%s", e.text);
    snprintf(name, sizeof name, "%s/scheduler/scheduler_config.json", config);
    if (scheduler) temp_write(name, scheduler, strlen(scheduler));
    sd_options_init(&o);
    o.model = temp_path(config);
    o.log = keep_line;
    o.user = log;
    return open_context(&o, SD_OK);
}

#define BETAS "\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\""

static void small_picture(sd_ctx *c, const sd_params *given)
{
    sd_params p = *given;
    sd_image image = {0};
    p.width = p.height = 32;
    if (sd_generate(c, &p, &image)) fail_msg("%s", sd_error_text(c));
    sd_image_free(&image);
}

static sd_params resolved(sd_ctx *c, const sd_params *given)
{
    sd_params all;
    sd_params_init(&all);
    if (sd_resolve_params(c, given, &all)) fail_msg("%s", sd_error_text(c));
    return all;
}

/* The model's own keys first, then its family's, or that of the same kind; and what the caller says before all. */
TEST(steps_and_guidance_are_the_callers_else_the_models_else_its_kinds)
{
    static const struct { const char *config, *scheduler; int steps; double guidance; const char *says; } cases[] = {
        {"sd1-small", NULL, 25, 7.5, "2 25 steps, the default of models of its kind\n"
                                     "2 guidance scale 7.5, the default of models of its kind\n"},
        {"sd1-small", "{\"_class_name\": \"DDIMScheduler\", \"_steps\": 7, \"_guidance_scale\": 3, " BETAS "}", 7, 3,
         "2 7 steps, the default by _steps in scheduler_config.json\n"
         "2 guidance scale 3, the default by _guidance_scale in scheduler_config.json\n"},
        {"sdxl-small", NULL, 25, 5, "2 25 steps, the default of models of its kind\n"},
        {"lcm-small", NULL, 4, 8.5, "2 4 steps, the default of models of its kind\n"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        lines log = {""};
        sd_ctx *c = open_small(cases[i].config, cases[i].scheduler, &log);
        sd_params p, all;
        sd_model_info info;
        sd_params_init(&p);
        assert_int_equal(p.sampling.steps, SD_DEFAULT);
        p.prompt = "x";
        all = resolved(c, &p);
        assert_int_equal(sd_get_info(c, &info), SD_OK);
        assert_int_equal(all.sampling.steps, cases[i].steps);
        assert_true(all.guidance.scale == cases[i].guidance);
        assert_int_equal(info.steps, cases[i].steps);
        assert_true(info.guidance_scale == cases[i].guidance);
        log.text[0] = 0;
        if (cases[i].steps < 10) small_picture(c, &p);
        if (cases[i].steps < 10 && !strstr(log.text, cases[i].says)) fail_msg("%zu: %s", i, log.text);
        p.sampling.steps = 1;
        p.guidance.scale = 2;
        all = resolved(c, &p);
        assert_true(all.sampling.steps == 1 && all.guidance.scale == 2);
        log.text[0] = 0;
        small_picture(c, &p);
        assert_null(strstr(log.text, "the default"));
        sd_close(c);
        temp_clear();
    }
}

TEST(steps_of_scheduler_config_json_are_checked)
{
    static const struct { const char *value, *says; } cases[] = {
        {"0", "_steps should be 1..1000, found 0"}, {"1001", "_steps should be 1..1000, found 1001"},
        {"4.5", "_steps should be a whole number"}, {"\"4\"", "_steps should be a whole number"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        char text[256];
        sd_error e = {0};
        sd_sched_config s;
        snprintf(text, sizeof text, "{\"_class_name\": \"LCMScheduler\", \"_steps\": %s}", cases[i].value);
        assert_int_not_equal(sd_sched_parse_as(&s, text, "a.json", NULL, &e), SD_OK);
        if (!strstr(e.text, cases[i].says)) fail_msg("%s", e.text);
    }
}

/* Only the configurations of a published model, as a directory: what its weights do not say. */
static void configs_of(const char *family, const char *scheduler)
{
    sd_error e = {0};
    sd_unet_config u = sd_family_find(family)->unet;
    char *text = sd_unet_config_text(&u, &e);
    assert_non_null(text);
    mkdir(temp_path("m"), 0777);
    mkdir(temp_path("m/unet"), 0777);
    mkdir(temp_path("m/scheduler"), 0777);
    temp_write("m/model_index.json", "{}", 2);
    temp_write("m/unet/config.json", text, strlen(text));
    if (!scheduler) scheduler = sd_family_find(family)->scheduler;
    temp_write("m/scheduler/scheduler_config.json", scheduler, strlen(scheduler));
    free(text);
}

/* Turbo's UNets have the shapes of other families; a directory's scheduler tells them apart. */
TEST(a_directory_of_turbo_is_known_by_its_scheduler)
{
    static const char euler_a[] = "{\"_class_name\": \"EulerAncestralDiscreteScheduler\", " BETAS
                                  ", \"timestep_spacing\": \"trailing\"}";
    static const char euler[] = "{\"_class_name\": \"EulerDiscreteScheduler\", " BETAS
                                ", \"timestep_spacing\": \"trailing\"}";
    static const struct { const char *config, *scheduler, *family; int steps; double guidance; } cases[] = {
        {"sd-turbo", NULL, "sd-turbo", 1, 0}, {"sdxl-turbo", NULL, "sdxl-turbo", 1, 0},
        {"sd21-base", NULL, "sd21-base", 25, 7.5}, {"sdxl", NULL, "sdxl", 25, 5}, {"sd21", NULL, "sd21", 25, 7.5},
        {"sd15", euler, "sd15", 25, 7.5}, {"lcm", NULL, "lcm", 4, 8.5},
        {"sdxl", euler_a, "sdxl", 25, 5},   /* at SDXL's size */
        {"sdxl", euler, "sdxl", 25, 5},     /* which Lightning may be or may not */
        {"sdxl-turbo", euler, "sdxl", 25, 5}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_options o;
        sd_model_info info;
        configs_of(cases[i].config, cases[i].scheduler);
        sd_options_init(&o);
        o.model = temp_path("m");
        o.parts = SD_PART_SCHEDULE;
        sd_ctx *c = open_context(&o, SD_OK);
        assert_int_equal(sd_get_info(c, &info), SD_OK);
        if (strcmp(info.family, cases[i].family) != 0) fail_msg("%zu: %s", i, info.family);
        assert_int_equal(info.steps, cases[i].steps);
        assert_true(info.guidance_scale == cases[i].guidance);
        int n;
        sd_params p;
        sd_params_init(&p);
        if (sd_schedule(c, &p, &n, NULL, NULL, NULL)) fail_msg("%s", sd_error_text(c));
        assert_in_range(n, cases[i].steps, cases[i].steps + 1);   /* pndm has one more */
        sd_close(c);
        temp_clear();
    }
}

TEST(a_negative_prompt_without_effect_is_said)
{
    static const struct { const char *config, *negative; double guidance; const char *says; } cases[] = {
        {"lcm-small", "blurry", 8, "1 the negative prompt has no effect: this model is told the guidance scale"},
        {"lcm-small", "", 8, NULL}, {"lcm-small", NULL, 8, NULL},
        {"sd1-small", "blurry", 1, "1 the negative prompt has no effect without guidance: the guidance scale is 1"},
        {"sd1-small", "blurry", 2, NULL}, {"sd1-small", NULL, 1, NULL}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        lines log = {""};
        sd_ctx *c = open_small(cases[i].config, NULL, &log);
        sd_params p;
        sd_params_init(&p);
        p.prompt = "x";
        p.negative_prompt = cases[i].negative;
        p.guidance.scale = cases[i].guidance;
        p.sampling.steps = 1;
        small_picture(c, &p);
        if (cases[i].says ? !strstr(log.text, cases[i].says) : strstr(log.text, "no effect") != NULL)
            fail_msg("%zu: %s", i, log.text);
        sd_close(c);
        temp_clear();
    }
}

/* The names of published files and of others, and what their makers' cards say. */
TEST(the_name_of_a_file_tells_how_such_a_model_is_drawn)
{
    static const struct { const char *path, *family, *options; } cases[] = {
        {"x/sd_xl_turbo_1.0_fp16.safetensors", "sdxl", "--config sdxl-turbo"},
        {"TurboVisionXL.safetensors", "sdxl", "--config sdxl-turbo"},
        {"sd_turbo.safetensors", "sd21", "--config sd-turbo"},
        {"sd_turbo.safetensors", "sd15", NULL},
        {"turbo/model.safetensors", "sdxl", NULL},   /* a directory's name is not the file's */
        {"sdxl_lightning_4step.safetensors", "sdxl", "--config sdxl-lightning --steps 4"},
        {"sdxl_lightning_8step_unet.safetensors", "sdxl", "--config sdxl-lightning --steps 8"},
        {"sdxl_lightning_1step_x0.safetensors", "sdxl", "--config sdxl-lightning --steps 1 --prediction sample"},
        {"dreamshaperXL_lightningDPMSDE.safetensors", "sdxl", "--config sdxl-lightning --steps 4"},
        {"sdxl_lightning_4step.safetensors", "sdxl-lightning", NULL},   /* its title has said it */
        {"Hyper-SDXL-1step-Unet.safetensors", "sdxl", "--sampling-method lcm --timesteps 800 --cfg-scale 1"},
        {"model-Hyper-8-steps.safetensors", "sdxl",
         "--sampling-method ddim --spacing trailing --steps 8 --cfg-scale 1"},
        {"dreamshaper_8LCM.safetensors", "sd15", "--sampling-method lcm --steps 4 --cfg-scale 1"},
        {"LCM_Dreamshaper_v7_4k.safetensors", "lcm", NULL},   /* its UNet is told the guidance */
        {"calcmodel.safetensors", "sd15", NULL},
        {"sd_xl_base_1.0.safetensors", "sdxl", NULL},
        {"lightning_65steps.ckpt", "sdxl", "--config sdxl-lightning --steps 4"},
        {"step-turbo", "sdxl", "--config sdxl-turbo"}, {"", "sdxl", NULL}, {"turbo", NULL, NULL}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_few_hint h;
        const sd_family *f = cases[i].family ? sd_family_find(cases[i].family) : NULL;
        assert_int_equal(sd_few_hint_find(&h, cases[i].path, f), cases[i].options != NULL);
        assert_true((h.word != NULL) == (cases[i].options != NULL));
        if (cases[i].options) assert_string_equal(h.options, cases[i].options);
    }
}

/* A file with the list of tensors of a published one. */
static const char *published_as(const char *list, const char *name)
{
    sd_error e = {0};
    key_list l;
    if (key_list_find(&l, list, &e) || key_list_write(&l, temp_path(name), &e)) fail_msg("%s", e.text);
    key_list_free(&l);
    return temp_path(name);
}

/* It is told, by `sd inspect` as well, and decides nothing: a file draws the same under every name. */
TEST(the_name_of_a_file_decides_nothing)
{
    static const char *const names[] = {"sd_xl_base_1.0.safetensors", "xl_turbo.safetensors"};
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        char error[512], *text;
        sd_options o;
        sd_model_info info;
        sd_options_init(&o);
        o.model = published_as("sd_xl_base_1.0.safetensors", names[i]);
        o.parts = SD_PART_SCHEDULE;
        sd_ctx *c = open_context(&o, SD_OK);
        assert_int_equal(sd_get_info(c, &info), SD_OK);
        assert_string_equal(info.family, "sdxl");
        assert_string_equal(info.sampler, "euler");
        assert_int_equal(info.steps, 25);
        assert_true(info.guidance_scale == 5);
        sd_close(c);
        if (sd_inspect(o.model, NULL, &text, error)) fail_msg("%s", error);
        assert_int_equal(strstr(text, "--config sdxl-turbo -p") != NULL, i);
        assert_int_equal(strstr(text, "it has \"turbo\" in its name") != NULL, i);
        sd_free(text);
        o.config = "sdxl-turbo";   /* what the user says does */
        c = open_context(&o, SD_OK);
        assert_int_equal(sd_get_info(c, &info), SD_OK);
        assert_string_equal(info.sampler, "euler_a");
        assert_int_equal(info.steps, 1);
        assert_true(info.guidance_scale == 0);
        sd_close(c);
        temp_clear();
    }
}

static void count_steps(void *user, const sd_progress *p)
{
    int *seen = user;
    if (strcmp(p->stage, "step") == 0) seen[0]++, seen[1] = p->steps;
    else assert_int_equal(p->steps, 0);
}

/* The share of the steps that a picture leaves: of the steps themselves, or in an LCM of those of the distillation. */
TEST(a_strength_that_leaves_nothing_is_refused_and_what_to_change_is_said)
{
    static const struct {
        const char *config, *sampler;
        int steps;
        double strength;
        int taken;
        const char *says;
    } cases[] = {
        {"sd1-small", "euler", 2, 0.5, 1, NULL},
        {"sd1-small", "euler", 1, 0.5, 0,
         "strength 0.5 leaves none of 1 step: 2 steps or more are needed, or a strength of 1"},
        {"sd1-small", "euler", 4, 0.2, 0,
         "strength 0.2 leaves none of 4 steps: 5 steps or more are needed, or a strength of 0.25"},
        {"sd1-small", "euler", 4, 0, 0, "strength 0 leaves none of 4 steps: a strength of 0.25 or more is needed"},
        {"sd1-small", "lcm", 4, 0.2, 0, "strength 0.2 leaves none of 4 steps"},
        {"lcm-small", NULL, 4, 0.2, 4, NULL}, {"lcm-small", NULL, 4, 1, 4, NULL},
        {"lcm-small", NULL, 4, 0.05, 0,
         "strength 0.05 leaves 2 of the 50 steps that lcm chooses from: take 2 steps or less"},
        {"lcm-small", NULL, 4, 0, 0, "strength 0 leaves none of the 50 steps"},
        {"lcm-small", "ddim", 4, 0.2, 0, "strength 0.2 leaves none of 4 steps"},
    };
    sd_image init = golden_picture(32, 32);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        lines log = {""};
        sd_ctx *c = open_small(cases[i].config, NULL, &log);
        sd_params p, all;
        int seen[2] = {0, 0};
        sd_image out = {0};
        sd_params_init(&p);
        p.edit.init = &init;
        p.edit.strength = cases[i].strength;
        p.sampling.steps = cases[i].steps;
        p.sampling.sampler = cases[i].sampler;
        sd_set_progress(c, count_steps, seen);
        sd_params_init(&all);
        assert_int_equal(sd_resolve_params(c, &p, &all), cases[i].says ? SD_ERR_ARG : SD_OK);
        assert_int_equal(sd_generate(c, &p, &out), cases[i].says ? SD_ERR_ARG : SD_OK);
        if (cases[i].says && !strstr(sd_error_text(c), cases[i].says)) fail_msg("%zu: %s", i, sd_error_text(c));
        assert_int_equal(seen[0], cases[i].taken);
        assert_int_equal(seen[1], cases[i].taken);
        sd_image_free(&out);
        sd_close(c);
        temp_clear();
    }
    sd_image_free(&init);
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_latent_consistency_model_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(lcm_loras_settings_are_within_their_bound, clear),
        cmocka_unit_test_teardown(sd_turbos_settings_are_within_their_bound, clear),
        cmocka_unit_test_teardown(settings_of_turbo_lightning_and_hyper_are_within_their_bound, clear),
        cmocka_unit_test_teardown(steps_and_guidance_are_the_callers_else_the_models_else_its_kinds, clear),
        cmocka_unit_test_teardown(steps_of_scheduler_config_json_are_checked, clear),
        cmocka_unit_test_teardown(a_directory_of_turbo_is_known_by_its_scheduler, clear),
        cmocka_unit_test_teardown(a_negative_prompt_without_effect_is_said, clear),
        cmocka_unit_test_teardown(the_name_of_a_file_tells_how_such_a_model_is_drawn, clear),
        cmocka_unit_test_teardown(the_name_of_a_file_decides_nothing, clear),
        cmocka_unit_test_teardown(a_strength_that_leaves_nothing_is_refused_and_what_to_change_is_said, clear),
    };
    return cmocka_run_group_tests_name("few", tests, temp_make, temp_remove);
}
