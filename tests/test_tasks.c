/* test_tasks.c - whole runs of small models whose UNet sees more than latents against float64: a depth map, a small
 * picture to be enlarged, a picture to be edited by an instruction. The runs are those of tools/golden_tasks.py. */
#include <math.h>

#include "test.h"
#include "network.h"
#include "needs.h"
#include "pictures.h"
#include "tempdir.h"

enum { SEED = 20 };

typedef struct run {
    const char *name, *sampler;
    int depth[2];                    /* sides of the map; 0: 31, 23 */
    int sides[2];                    /* of the small picture; 0: 20, 12 */
    int batch;
    double strength, guidance, image_scale;   /* 0: the default */
    int noise_level;                 /* -1: the default */
    bool from_noise;                 /* without a picture */
    int evaluations;
} run;

static const run depth_runs[] = {
    {.name = "own", .evaluations = 5},
    {.name = "half", .sampler = "ddim", .strength = 0.5, .batch = 2, .depth = {3, 4}, .evaluations = 2},
    {.name = "whole", .sampler = "euler_a", .strength = 1, .evaluations = 5},
    {.name = "no_guidance", .sampler = "ddim", .guidance = 1, .evaluations = 4},
    {.name = "noise", .sampler = "ddim", .from_noise = true, .evaluations = 5},
};
static const run upscaling[] = {
    {.name = "own", .noise_level = -1, .evaluations = 3},
    {.name = "level", .sampler = "euler", .noise_level = 350, .batch = 2, .evaluations = 3},
    {.name = "clean", .noise_level = 0, .evaluations = 3},
    {.name = "odd", .sides = {9, 13}, .noise_level = 111, .evaluations = 3},
    {.name = "no_guidance", .sampler = "euler_a", .guidance = 1, .noise_level = -1, .evaluations = 3},
};
static const run instructions[] = {
    {.name = "own", .evaluations = 3},
    {.name = "scales", .sampler = "ddim", .guidance = 4, .image_scale = 2.5, .batch = 2, .evaluations = 3},
    {.name = "pndm", .sampler = "pndm", .evaluations = 4},
    {.name = "no_guidance", .sampler = "ddim", .guidance = 1, .evaluations = 3},
    {.name = "image_scale_below_1", .sampler = "ddim", .image_scale = 0.5, .evaluations = 3},
};

/* golden_tasks.py's depth_map */
static float *depth_map(int width, int height)
{
    float *d = sd_synth_depth(width, height);
    assert_non_null(d);
    return d;
}

/* What the runs of a kind of model have in common, and this one's own. */
static void params_of(const char *config, const run *r, const sd_image *init, const float *depth, sd_params *p)
{
    bool by_depth = strcmp(config, "depth-small") == 0, enlarges = strcmp(config, "x4-small") == 0;
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->negative_prompt = "blurry";
    p->seed = SEED;
    p->batch = r->batch ? r->batch : 1;
    p->sampling.steps = by_depth ? 5 : 3;
    p->sampling.sampler = r->sampler;
    p->guidance.scale = r->guidance > 0 ? r->guidance : enlarges ? 9 : 7.5;
    if (r->image_scale > 0) p->guidance.image_scale = r->image_scale;
    p->edit.init = r->from_noise ? NULL : init;
    if (r->from_noise) {
        p->width = init->width;
        p->height = init->height;
    }
    if (r->strength > 0) p->edit.strength = r->strength;
    if (enlarges && r->noise_level >= 0) p->edit.noise_level = r->noise_level;
    if (by_depth) {
        p->edit.depth = depth;
        p->edit.depth_width = r->depth[0] ? r->depth[0] : 31;
        p->edit.depth_height = r->depth[0] ? r->depth[1] : 23;
    }
}

/* The least mistake of a run's result must be ten times as large as the bound. */
static void expect_seen(network *n, const char *part, const char *result)
{
    const char *mistake;
    golden_result g = golden_compare(&n->golden, result, 0, NULL, NULL);
    double least = golden_least_mistake(&n->golden, part, &mistake);
    if (*mistake && !(least > 10 * fmax(3 * g.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", part, mistake, least);
}

static void draw(network *n, const run *r)
{
    char name[64], part[64];
    sd_params p;
    bool enlarges = strcmp(n->config, "x4-small") == 0;
    int width = r->sides[0] ? r->sides[0] : enlarges ? 20 : 56, height = r->sides[0] ? r->sides[1] : enlarges ? 12 : 40;
    sd_image image[2], init = golden_picture(width, height);
    float *depth = depth_map(r->depth[0] ? r->depth[0] : 31, r->depth[0] ? r->depth[1] : 23);
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->name);
    params_of(n->config, r, &init, depth, &p);
    if (sd_generate(n->ctx, &p, image)) fail_msg("%s: %s", r->name, sd_error_text(n->ctx));
    for (int i = 0; i < p.batch; i++) {
        assert_int_equal(image[i].width, enlarges ? 4 * width : width);
        assert_int_equal(image[i].height, enlarges ? 4 * height : height);
        sd_image_free(&image[i]);
    }
    sd_image_free(&init);
    free(depth);
    const char *unseen = golden_unseen(&n->golden, n->prefix);
    if (unseen) fail_msg("%s: nothing was traced under %s", r->name, unseen);
    snprintf(name, sizeof name, "run.%s.latents.%d", r->name, r->evaluations);
    expect_seen(n, r->name, name);
    snprintf(part, sizeof part, "%s_image", r->name);
    snprintf(name, sizeof name, "run.%s.image", r->name);
    expect_seen(n, part, name);
}

static void against_float64(const char *config, const run *runs, size_t count, int tensors)
{
    for (int precise = 0; precise < precisions(); precise++) {
        network n;
        network_open(&n, config, SD_PART_ALL, precise, NULL);
        assert_int_equal(sd_set_trace(n.ctx, NULL, network_compare_found, &n), SD_OK);
        for (size_t i = 0; i < count; i++) draw(&n, &runs[i]);
        network_finish(&n, "run.", NULL, NULL);
        if (n.compared < tensors) fail_msg("%s: only %d tensors were compared", config, n.compared);
        network_close(&n);
    }
}

TEST(drawing_by_a_depth_map_is_within_its_bound_of_float64)
{
    against_float64("depth-small", depth_runs, SD_COUNT(depth_runs), 110);
}
TEST(enlarging_is_within_its_bound_of_float64) { against_float64("x4-small", upscaling, SD_COUNT(upscaling), 90); }
TEST(following_instructions_is_within_its_bound_of_float64)
{
    against_float64("pix2pix-small", instructions, SD_COUNT(instructions), 80);
}

/* ---------------------------------------------------------------------------------------- parameters */

/* A small model and parameters that draw with it. */
typedef struct bench {
    network n;
    sd_image init, mask;
    float *depth;
    sd_params p;
} bench;

static void prepare(bench *b, const char *config)
{
    static const run plain = {.name = "plain", .noise_level = -1};
    network_open(&b->n, config, SD_PART_ALL, 0, NULL);
    assert_int_equal(sd_set_trace(b->n.ctx, NULL, NULL, NULL), SD_OK);
    b->init = golden_picture(56, 40);
    b->mask = golden_mask(56, 40);
    b->depth = depth_map(31, 23);
    params_of(config, &plain, &b->init, b->depth, &b->p);
}

static void tidy(bench *b)
{
    network_close(&b->n);
    sd_image_free(&b->init);
    sd_image_free(&b->mask);
    free(b->depth);
}

static void expect_refused(bench *b, const sd_params *p, const char *sentence)
{
    sd_image image[2];
    if (!sd_generate(b->n.ctx, p, image)) fail_msg("not refused: %s", sentence);
    assert_string_equal(sd_error_text(b->n.ctx), sentence);
}
#define REFUSED(sentence, ...) do { p = b.p; __VA_ARGS__; expect_refused(&b, &p, sentence); } while (0)

TEST(what_a_model_of_depths_lacks_is_said)
{
    bench b;
    sd_params p;
    float flat[4] = {3, 3, 3, 3}, bad[4] = {1, 2, NAN, 4};
    prepare(&b, "depth-small");
    REFUSED("this model is made for drawing by a depth map: it needs one", p.edit.depth = NULL);
    REFUSED("the depth map must have sides of 1 to 16384 numbers, not 0x23", p.edit.depth_width = 0);
    REFUSED("the depth map must have sides of 1 to 16384 numbers, not 31x16385", p.edit.depth_height = 16385);
    REFUSED("the depth map is flat at 7x5: all points are equally near",
            p.edit.depth = flat; p.edit.depth_width = p.edit.depth_height = 2);
    REFUSED("the depth map has nan as number 3 of 4, which is no depth",
            p.edit.depth = bad; p.edit.depth_width = p.edit.depth_height = 2);
    REFUSED("outpainting is not possible with a depth map: it does not say how near the new area is",
            p.edit.outpaint[0] = 8);
    REFUSED("a noise level needs a model that enlarges pictures, this one is made for drawing by a depth map",
            p.edit.noise_level = 20);
    tidy(&b);
}

TEST(what_an_upscaler_lacks_is_said)
{
    static const char whole[] = "this model is made for enlarging pictures, and changes the whole picture: a mask, "
                                "outpainting or inpaint crop is not possible";
    bench b;
    sd_params p;
    prepare(&b, "x4-small");
    REFUSED("this model is made for enlarging pictures: it needs a picture", p.edit.init = NULL);
    REFUSED(whole, p.edit.mask = &b.mask);
    REFUSED(whole, p.edit.outpaint[2] = 8);
    REFUSED("this model is made for enlarging pictures, and begins from noise: only a strength of 1 is possible, not "
            "0.5", p.edit.strength = 0.5);
    REFUSED("the noise level must be 0 to 350 for this model, not 351", p.edit.noise_level = 351);
    REFUSED("noise level must be 0 to 999, not -2", p.edit.noise_level = -2);
    REFUSED("width must be a multiple of 4, not 98: 96 and 100 are the nearest", p.width = 98);
    REFUSED("a depth map needs a model that draws by one, this one is made for enlarging pictures",
            p.edit.depth = b.depth; p.edit.depth_width = 31; p.edit.depth_height = 23);
    tidy(&b);
}

TEST(what_a_model_that_follows_instructions_lacks_is_said)
{
    bench b;
    sd_params p;
    prepare(&b, "pix2pix-small");
    REFUSED("this model is made for following instructions: it needs a picture", p.edit.init = NULL);
    REFUSED("this model is made for following instructions, and changes the whole picture: a mask, outpainting or "
            "inpaint crop is not possible", p.edit.mask = &b.mask);
    REFUSED("this model is made for following instructions, and begins from noise: only a strength of 1 is possible, "
            "not 0.5", p.edit.strength = 0.5);
    REFUSED("image guidance scale must be 0 to 1000, not -1", p.guidance.image_scale = -1);
    tidy(&b);
}

TEST(they_have_their_pipelines_defaults)
{
    bench b;
    sd_params p, all;
    sd_model_info info;
    prepare(&b, "x4-small");
    p = b.p;
    p.sampling.steps = SD_DEFAULT;
    p.guidance.scale = SD_DEFAULT;
    sd_params_init(&all);
    if (sd_resolve_params(b.n.ctx, &p, &all)) fail_msg("%s", sd_error_text(b.n.ctx));
    assert_true(all.sampling.steps == 75 && all.guidance.scale == 9 && all.edit.noise_level == 20);
    assert_true(all.edit.strength == 1 && all.width == 4 * 56 && all.height == 4 * 40);
    assert_int_equal(sd_get_info(b.n.ctx, &info), SD_OK);
    assert_int_equal(info.enlarges, 4);
    assert_string_equal(info.task, "enlarging pictures");
    tidy(&b);
    prepare(&b, "depth-small");
    if (sd_resolve_params(b.n.ctx, &b.p, &all)) fail_msg("%s", sd_error_text(b.n.ctx));
    assert_true(all.edit.strength == 0.8 && all.edit.noise_level == SD_DEFAULT);
    tidy(&b);
}

/* Transparent parts of a picture that is only looked at are no mask. */
TEST(alpha_is_no_mask_for_an_upscaler)
{
    bench b;
    sd_image image[1], rgba = {8, 8, 4, NULL};
    uint8_t pixels[8 * 8 * 4];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i % 4 == 3 ? (i < 100 ? 0 : 255) : i);
    prepare(&b, "x4-small");
    rgba.data = pixels;
    b.p.edit.init = &rgba;
    if (sd_generate(b.n.ctx, &b.p, image)) fail_msg("%s", sd_error_text(b.n.ctx));
    assert_int_equal(image[0].width, 32);
    sd_image_free(&image[0]);
    tidy(&b);
}

/* -------------------------------------------------------------------- where a depth map lies on its picture */

static void keep_depth(void *user, const sd_traced *t)
{
    if (strcmp(t->name, "depth_mask") == 0) memcpy(user, t->data, 25 * sizeof(float));   /* [1,1,5,5] */
}

/* Left of a share of the picture's width everything is far. How many of five columns are far to the UNet? */
static int far_columns(bench *b, double share, const sd_params *p)
{
    enum { W = 800, H = 4 };
    static float map[W * H];
    float seen[25];
    int columns = 0;
    sd_image image[1];
    sd_params q = *p;
    for (int i = 0; i < W * H; i++) map[i] = i % W >= share * W;
    q.edit.depth = map;
    q.edit.depth_width = W;
    q.edit.depth_height = H;
    q.sampling.steps = 2;
    assert_int_equal(sd_set_trace(b->n.ctx, "depth_mask", keep_depth, seen), SD_OK);
    if (sd_generate(b->n.ctx, &q, image)) fail_msg("%s", sd_error_text(b->n.ctx));
    sd_image_free(&image[0]);
    for (int i = 0; i < 5; i++) columns += seen[10 + i] < 0;
    return columns;
}

TEST(a_depth_map_follows_what_becomes_of_its_picture)
{
    bench b;
    sd_image wide = golden_picture(80, 40), mask = {80, 40, 1, calloc(80 * 40, 1)};
    prepare(&b, "depth-small");
    sd_params p = b.p;
    p.edit.init = &wide;
    p.width = p.height = 40;
    assert_int_equal(far_columns(&b, 0.375, &p), 2);   /* centres of columns at 0.1, 0.3, 0.5, ... of the width */
    p.edit.resize = "pad";
    assert_int_equal(far_columns(&b, 0.375, &p), 2);
    p.edit.resize = "crop";                            /* shows 20 to 60 of 80: the edge at 30 lies at a quarter */
    assert_int_equal(far_columns(&b, 0.375, &p), 1);
    assert_non_null(mask.data);
    for (int i = 0; i < 80 * 40; i++) mask.data[i] = i % 80 < 40 ? 255 : 0;
    p.edit.resize = NULL;
    p.edit.mask = &mask;
    p.edit.inpaint_crop = 0;                           /* shows 0 to 40 */
    assert_int_equal(far_columns(&b, 0.375, &p), 4);
    p.edit.inpaint_crop = SD_DEFAULT;
    wide.width = mask.width = 35;                      /* a part of the same memory, widened to 40 by its mask */
    wide.height = mask.height = 40;
    p.width = p.height = SD_DEFAULT;
    assert_int_equal(far_columns(&b, 0.375, &p), 2);   /* 13 of 40 */
    assert_int_equal(far_columns(&b, 0.86, &p), 4);    /* 30 of 40; centres at 0.7, 0.9 */
    sd_image_free(&wide);
    sd_image_free(&mask);
    tidy(&b);
}

/* A map's unit does not matter, so a grey picture is as good as its numbers. */
TEST(depth_maps_are_read_from_pictures_and_from_tensors)
{
    bench b;
    float *depth, numbers[6] = {1, 2, 3, 4, 5, 6};
    int width, height;
    sd_traced t = {.name = "depth", .dtype = SD_F32, .nd = 4, .dim = {1, 1, 2, 3}, .data = numbers};
    prepare(&b, "depth-small");
    temp_write("depth.pgm", "P5 3 2 255\n\1\2\3\4\5\6", 17);
    if (sd_depth_read(b.n.ctx, temp_path("depth.pgm"), &depth, &width, &height)) fail_msg("%s", sd_error_text(b.n.ctx));
    assert_true(width == 3 && height == 2);
    assert_memory_equal(depth, numbers, sizeof numbers);
    sd_free(depth);
    assert_int_equal(sd_tensors_write(b.n.ctx, temp_path("depth.safetensors"), &t, 1), SD_OK);
    if (sd_depth_read(b.n.ctx, temp_path("depth.safetensors"), &depth, &width, &height))
        fail_msg("%s", sd_error_text(b.n.ctx));
    assert_true(width == 3 && height == 2);
    assert_memory_equal(depth, numbers, sizeof numbers);
    sd_free(depth);
    t.dim[1] = 2;
    t.dim[2] = 1;
    assert_int_equal(sd_tensors_write(b.n.ctx, temp_path("two.safetensors"), &t, 1), SD_OK);
    assert_int_equal(sd_depth_read(b.n.ctx, temp_path("two.safetensors"), &depth, &width, &height), SD_ERR_SHAPE);
    assert_null(depth);
    assert_non_null(strstr(sd_error_text(b.n.ctx), "a depth map is [height,width]"));
    assert_non_null(strstr(sd_error_text(b.n.ctx), "[1,2,1,3]"));
    tidy(&b);
}

/* ------------------------------------------------------------------------------ texts and files */

TEST(the_text_of_a_picture_has_what_these_models_were_given)
{
    static const struct { const char *config, *has; } texts[] = {
        {"depth-small", "Depth map: d.safetensors, Depth map hash: "}, {"x4-small", "Noise level: 20"},
        {"pix2pix-small", "Image CFG scale: 2"},
    };
    for (size_t i = 0; i < SD_COUNT(texts); i++) {
        bench b;
        char *text, error[512];
        sd_recipe *r;
        prepare(&b, texts[i].config);
        b.p.edit.depth_name = "somewhere/d.safetensors";
        b.p.guidance.image_scale = i == 2 ? 2 : SD_DEFAULT;
        if (i == 0) b.p.edit.init = NULL;   /* a depth map is written without a picture, too */
        if (sd_parameters_text(b.n.ctx, &b.p, &text)) fail_msg("%s", sd_error_text(b.n.ctx));
        if (!strstr(text, texts[i].has)) fail_msg("%s lacks %s", text, texts[i].has);
        if (sd_recipe_read(text, &r, error)) fail_msg("%s", error);
        assert_string_equal(r->notices, "");
        if (i == 0) assert_string_equal(r->params->edit.depth_name, "d.safetensors");
        if (i == 0) assert_int_equal(strlen(r->depth_hash), 32);
        if (i == 1) assert_int_equal(r->params->edit.noise_level, 20);
        if (i == 2) assert_true(r->params->guidance.image_scale == 2);
        sd_recipe_free(r);
        sd_free(text);
        tidy(&b);
    }
}

static void keep_low_res(void *user, const sd_traced *t)
{
    if (strcmp(t->name, "low_res_image") == 0) memcpy(user, t->data, 4 * sizeof(float));
}

/* Draws with a model, whose first numbers of the small picture with noise are to be seen. */
static void low_res_of(const char *model, float seen[4])
{
    sd_options o;
    sd_ctx *c;
    sd_params p;
    sd_image image[1], init = golden_picture(20, 12);
    static const run plain = {.name = "plain", .noise_level = -1};
    sd_options_init(&o);
    o.model = model;
    if (sd_open(&c, &o)) fail_msg("%s", sd_error_text(c));
    params_of("x4-small", &plain, &init, NULL, &p);
    p.sampling.steps = 1;
    assert_int_equal(sd_set_trace(c, "low_res_image", keep_low_res, seen), SD_OK);
    if (sd_generate(c, &p, image)) fail_msg("%s", sd_error_text(c));
    sd_image_free(&image[0]);
    sd_image_free(&init);
    sd_close(c);
}

/* low_res_scheduler/scheduler_config.json counts, in a directory and in a file that was made of it. */
TEST(an_upscalers_second_scheduler_is_read_and_kept)
{
    static const char other[] = "{\"_class_name\":\"DDPMScheduler\",\"beta_start\":0.001,\"beta_end\":0.05,"
                                "\"beta_schedule\":\"linear\"}";
    float published[4], none[4], own[4], kept[4];
    char model[512], file[512], config[600];
    network n;
    network_open(&n, "x4-small", SD_PART_ALL, 0, NULL);
    snprintf(model, sizeof model, "%s", temp_path("x4-small"));
    snprintf(file, sizeof file, "%s", temp_path("kept.safetensors"));
    snprintf(config, sizeof config, "%s/low_res_scheduler/scheduler_config.json", model);
    low_res_of(model, published);
    remove(config);
    low_res_of(model, none);
    assert_memory_equal(published, none, sizeof none);
    temp_write("x4-small/low_res_scheduler/scheduler_config.json", other, sizeof other - 1);
    low_res_of(model, own);
    assert_true(fabsf(own[0] - published[0]) > 1e-3f);
    sd_ctx *c;
    sd_options o;
    sd_convert_options to;
    sd_options_init(&o);
    sd_convert_options_init(&to);
    o.model = model;
    to.output = file;
    if (sd_open(&c, &o) || sd_convert(c, &to)) fail_msg("%s", sd_error_text(c));
    sd_close(c);
    low_res_of(file, kept);
    assert_memory_equal(own, kept, sizeof kept);
    network_close(&n);
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(drawing_by_a_depth_map_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(enlarging_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(following_instructions_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(what_a_model_of_depths_lacks_is_said, clear),
        cmocka_unit_test_teardown(what_an_upscaler_lacks_is_said, clear),
        cmocka_unit_test_teardown(what_a_model_that_follows_instructions_lacks_is_said, clear),
        cmocka_unit_test_teardown(they_have_their_pipelines_defaults, clear),
        cmocka_unit_test_teardown(alpha_is_no_mask_for_an_upscaler, clear),
        cmocka_unit_test_teardown(a_depth_map_follows_what_becomes_of_its_picture, clear),
        cmocka_unit_test_teardown(depth_maps_are_read_from_pictures_and_from_tensors, clear),
        cmocka_unit_test_teardown(the_text_of_a_picture_has_what_these_models_were_given, clear),
        cmocka_unit_test_teardown(an_upscalers_second_scheduler_is_read_and_kept, clear),
    };
    return cmocka_run_group_tests_name("tasks", tests, temp_make, temp_remove);
}
