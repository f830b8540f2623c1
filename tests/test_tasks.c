/* test_tasks.c - whole runs of small models whose UNet sees more than latents against float64: a depth map, a small
 * picture to be enlarged, a picture to be edited by an instruction. The runs are those of tools/golden_tasks.py. */
#include <math.h>

#include "test.h"
#include "network.h"
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
    float *d = malloc((size_t)width * (size_t)height * sizeof *d);
    assert_non_null(d);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) d[y * width + x] = (float)((7 * x + 13 * y + x * y / 5) % 97) / 4 + 10;
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

/* Compares what the goldens have. */
static void compare(void *user, const sd_traced *t)
{
    network *n = user;
    char name[256];
    snprintf(name, sizeof name, "%s%s", n->prefix, t->name);
    if (t->dtype == SD_F32 && golden_compare(&n->golden, name, t->nd, t->dim, t->data).found)
        network_check(n, name, t->nd, t->dim, t->data);
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
    for (int precise = 0; precise < 2; precise++) {
        network n;
        network_open(&n, config, SD_PART_ALL, precise, NULL);
        assert_int_equal(sd_set_trace(n.ctx, NULL, compare, &n), SD_OK);
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

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(drawing_by_a_depth_map_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(enlarging_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(following_instructions_is_within_its_bound_of_float64, clear),
    };
    return cmocka_run_group_tests_name("tasks", tests, temp_make, temp_remove);
}
