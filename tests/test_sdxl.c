/* test_sdxl.c - whole runs of a small model of SDXL's topology against float64: two text encoders, the pooled vector,
 * sizes, and what stands in for a negative prompt that is not given. The runs are those of tools/golden_sdxl.py. */
#include <math.h>

#include "test.h"
#include "network.h"
#include "needs.h"
#include "pictures.h"
#include "tempdir.h"

#include "../cond.h"

enum { SEED = 20 };

typedef struct run {
    const char *name, *negative;
    int original[2], crop[2], target[2];             /* width, height; top, left */
    int negative_original[2], negative_crop[2], negative_target[2];
    int batch, clip_skip;
    double guidance;
    double strength;                                 /* 0: from a text alone; else from golden_edit.py's picture */
    bool masked;                                     /* ... with its mask */
    double score, negative_score;                    /* 0: the default */
} run;

#define UNSAID {SD_DEFAULT, SD_DEFAULT}
#define SAME .original = UNSAID, .target = UNSAID, .negative_original = UNSAID, .negative_crop = UNSAID, \
             .negative_target = UNSAID
static const run sdxl[] = {
    {.name = "zeros", .negative = NULL, SAME},
    {.name = "empty", .negative = "", SAME},
    {.name = "sizes", .negative = "blurry", .original = {512, 640}, .crop = {16, 8}, .target = {80, 96},
     .negative_original = {256, 320}, .negative_crop = {0, 24}, .negative_target = {48, 64}},
    {.name = "crop", .negative = "blurry", SAME, .crop = {5, 7}, .batch = 2},
    {.name = "skip", .negative = "blurry", SAME, .clip_skip = 2},
    {.name = "no_guidance", .negative = NULL, SAME, .guidance = 1},
    {.name = "img2img", .negative = NULL, SAME, .crop = {5, 7}, .strength = 0.6},
    {.name = "inpaint", .negative = "blurry", SAME, .strength = 0.6, .masked = true},
};
static const run inpainting[] = {   /* of a UNet that is made for it */
    {.name = "inpaint9", .negative = NULL, SAME, .strength = 0.6, .masked = true},
    {.name = "whole", .negative = "blurry", SAME, .strength = 1, .masked = true},
};
static const run refiner[] = {
    {.name = "refine", .negative = NULL, SAME, .crop = {5, 7}, .strength = 0.6},
    {.name = "scores", .negative = "blurry", .original = {512, 640}, .target = UNSAID, .negative_original = UNSAID,
     .negative_crop = UNSAID, .negative_target = UNSAID, .strength = 0.6, .score = 7.5, .negative_score = 1.25},
};

static void params_of(const run *r, const sd_image *init, const sd_image *mask, sd_params *p)
{
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->negative_prompt = r->negative;
    if (r->strength > 0) {
        p->edit.init = init;
        p->edit.mask = r->masked ? mask : NULL;
        p->edit.strength = r->strength;
        p->sampling.steps = 5;
    } else {
        p->width = 72;
        p->height = 88;
        p->sampling.steps = 3;
    }
    if (r->score > 0) {
        p->sdxl.aesthetic_score = r->score;
        p->sdxl.negative_aesthetic_score = r->negative_score;
    }
    p->seed = SEED;
    p->batch = r->batch ? r->batch : 1;
    p->clip_skip = r->clip_skip ? r->clip_skip : 1;
    p->guidance.scale = r->guidance > 0 ? r->guidance : 5;
    memcpy(p->sdxl.original_size, r->original, sizeof r->original);
    memcpy(p->sdxl.crop, r->crop, sizeof r->crop);
    memcpy(p->sdxl.target_size, r->target, sizeof r->target);
    memcpy(p->sdxl.negative_original_size, r->negative_original, sizeof r->original);
    memcpy(p->sdxl.negative_crop, r->negative_crop, sizeof r->crop);
    memcpy(p->sdxl.negative_target_size, r->negative_target, sizeof r->target);
}

/* Compares what the goldens have: results of the run under its name, modules of the text encoders where both prompts
 * go through them. */
static void compare(void *user, const sd_traced *t)
{
    network *n = user;
    char name[256];
    bool module = strncmp(t->name, "text_encoder", 12) == 0;
    snprintf(name, sizeof name, "%s%s", module ? "" : n->prefix, t->name);
    if (t->dtype != SD_F32 || (module && t->dim[0] != 2)) return;
    if (module && strcmp(n->prefix, "run.sizes.") != 0 && strcmp(n->prefix, "run.scores.") != 0) return;
    if (golden_compare(&n->golden, name, t->nd, t->dim, t->data).found)
        network_check(n, name, t->nd, t->dim, t->data);
}

static void draw(network *n, const run *r)
{
    const char *mistake;
    char last[64];
    sd_params p;
    sd_image image[2], init = golden_picture(56, 40), mask = golden_mask(56, 40);
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->name);
    params_of(r, &init, &mask, &p);
    if (sd_generate(n->ctx, &p, image)) fail_msg("%s: %s", r->name, sd_error_text(n->ctx));
    for (int i = 0; i < p.batch; i++) sd_image_free(&image[i]);
    sd_image_free(&init);
    sd_image_free(&mask);
    const char *unseen = golden_unseen(&n->golden, n->prefix);
    if (unseen) fail_msg("%s: nothing was traced under %s", r->name, unseen);
    snprintf(last, sizeof last, "run.%s.latents.%d", r->name, r->strength == 1 ? 5 : 3);   /* so many evaluations */
    golden_result g = golden_compare(&n->golden, last, 0, NULL, NULL);
    double least = golden_least_mistake(&n->golden, r->name, &mistake);
    if (*mistake && !(least > 10 * fmax(3 * g.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", r->name, mistake, least);
}

static void against_float64(const char *config, const run *runs, size_t count, int tensors, int precise)
{
    network n;
    network_open(&n, config, SD_PART_ALL, precise, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, compare, &n), SD_OK);
    for (size_t i = 0; i < count; i++) draw(&n, &runs[i]);
    network_finish(&n, "run.", NULL, NULL);
    if (n.compared < tensors) fail_msg("%s: only %d tensors were compared", config, n.compared);
    network_close(&n);
}

TEST(sdxl_is_within_its_bound_of_float64) { against_float64("sdxl-small", sdxl, SD_COUNT(sdxl), 180, 0); }
TEST(sdxl_is_within_its_bound_precisely) { against_float64("sdxl-small", sdxl, SD_COUNT(sdxl), 180, 1); }
TEST(sdxl_for_inpainting_is_within_its_bound_of_float64)
{
    for (int precise = 0; precise < precisions(); precise++)
        against_float64("inpaint-xl-small", inpainting, SD_COUNT(inpainting), 40, precise);
}
TEST(its_refiner_is_within_its_bound_of_float64)
{
    for (int precise = 0; precise < precisions(); precise++)
        against_float64("refiner-small", refiner, SD_COUNT(refiner), 70, precise);
}

/* Without a guidance scale it is that of StableDiffusionXLPipeline; the size is the UNet's. */
TEST(sdxl_has_defaults_of_its_own)
{
    network n;
    sd_params p, all;
    network_open(&n, "sdxl-small", SD_PART_ALL, 0, NULL);
    sd_params_init(&p);
    sd_params_init(&all);
    if (sd_resolve_params(n.ctx, &p, &all)) fail_msg("%s", sd_error_text(n.ctx));
    assert_true(all.guidance.scale == 5);
    assert_null(all.negative_prompt);
    assert_int_equal(all.width, 64);
    network_close(&n);
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(sdxl_is_within_its_bound_of_float64, clear),
        unit_test_needing_teardown(NEED_CPU, sdxl_is_within_its_bound_precisely, clear),
        cmocka_unit_test_teardown(sdxl_for_inpainting_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(sdxl_has_defaults_of_its_own, clear),
        cmocka_unit_test_teardown(its_refiner_is_within_its_bound_of_float64, clear),
    };
    return cmocka_run_group_tests_name("sdxl", tests, temp_make, temp_remove);
}
