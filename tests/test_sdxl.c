/* test_sdxl.c - whole runs of a small model of SDXL's topology against float64: two text encoders, the pooled vector,
 * sizes, and what stands in for a negative prompt that is not given. The runs are those of tools/golden_sdxl.py. */
#include <math.h>

#include "test.h"
#include "network.h"
#include "tempdir.h"

#include "../cond.h"

enum { STEPS = 3, WIDTH = 72, HEIGHT = 88, SEED = 20 };

typedef struct run {
    const char *name, *negative;
    int original[2], crop[2], target[2];             /* width, height; top, left */
    int negative_original[2], negative_crop[2], negative_target[2];
    int batch, clip_skip;
    double guidance;
} run;

#define UNSAID {SD_DEFAULT, SD_DEFAULT}
#define SAME .original = UNSAID, .target = UNSAID, .negative_original = UNSAID, .negative_crop = UNSAID, \
             .negative_target = UNSAID
static const run runs[] = {
    {.name = "zeros", .negative = NULL, SAME},
    {.name = "empty", .negative = "", SAME},
    {.name = "sizes", .negative = "blurry", .original = {512, 640}, .crop = {16, 8}, .target = {80, 96},
     .negative_original = {256, 320}, .negative_crop = {0, 24}, .negative_target = {48, 64}},
    {.name = "crop", .negative = "blurry", SAME, .crop = {5, 7}, .batch = 2},
    {.name = "skip", .negative = "blurry", SAME, .clip_skip = 2},
    {.name = "no_guidance", .negative = NULL, SAME, .guidance = 1},
};

static void params_of(const run *r, sd_params *p)
{
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->negative_prompt = r->negative;
    p->width = WIDTH;
    p->height = HEIGHT;
    p->seed = SEED;
    p->batch = r->batch ? r->batch : 1;
    p->clip_skip = r->clip_skip ? r->clip_skip : 1;
    p->sampling.steps = STEPS;
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
    if (module && strcmp(n->prefix, "run.sizes.") != 0) return;
    if (golden_compare(&n->golden, name, t->nd, t->dim, t->data).found)
        network_check(n, name, t->nd, t->dim, t->data);
}

static void draw(network *n, const run *r)
{
    const char *mistake;
    char last[64];
    sd_params p;
    sd_image image[2];
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->name);
    params_of(r, &p);
    if (sd_generate(n->ctx, &p, image)) fail_msg("%s: %s", r->name, sd_error_text(n->ctx));
    for (int i = 0; i < p.batch; i++) sd_image_free(&image[i]);
    const char *unseen = golden_unseen(&n->golden, n->prefix);
    if (unseen) fail_msg("%s: nothing was traced under %s", r->name, unseen);
    snprintf(last, sizeof last, "run.%s.latents.%d", r->name, STEPS);
    golden_result g = golden_compare(&n->golden, last, 0, NULL, NULL);
    double least = golden_least_mistake(&n->golden, r->name, &mistake);
    if (*mistake && !(least > 10 * fmax(3 * g.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", r->name, mistake, least);
}

static void against_float64(int precise)
{
    network n;
    network_open(&n, "sdxl-small", SD_PART_ALL, precise, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, compare, &n), SD_OK);
    for (size_t i = 0; i < SD_COUNT(runs); i++) draw(&n, &runs[i]);
    network_finish(&n, "run.", NULL, NULL);
    assert_true(n.compared > 150);
    network_close(&n);
}

TEST(sdxl_is_within_its_bound_of_float64) { against_float64(0); }
TEST(sdxl_is_within_its_bound_precisely) { against_float64(1); }

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(sdxl_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(sdxl_is_within_its_bound_precisely, clear),
    };
    return cmocka_run_group_tests_name("sdxl", tests, temp_make, temp_remove);
}
