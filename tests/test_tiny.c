/* test_tiny.c - one picture of the model in the box, 25 steps, against diffusers in float64 (tools/golden_tiny.py). */
#include "test.h"
#include "network.h"

static sd_params parameters(void)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = "a red apple on a blue background";
    p.sampling.steps = 25;
    p.guidance.scale = 5;
    p.seed = 7;
    return p;
}

static void draw(sd_ctx *c, const sd_params *p)
{
    sd_image image;
    if (sd_generate(c, p, &image) != SD_OK) fail_msg("%s", sd_error_text(c));
    sd_image_free(&image);
}

TEST(the_picture_is_diffusers_picture)
{
    sd_error e = {0};
    network n = {.config = "tiny", .prefix = "run.", .ctx = open_tiny(SD_PART_ALL, 0)};
    if (golden_open(&n.golden, n.config, &e)) fail_msg("%s", e.text);
    const sd_params p = parameters();
    assert_int_equal(sd_set_trace(n.ctx, "latents.1,latents.26,image", network_compare, &n), SD_OK);
    draw(n.ctx, &p);
    assert_int_equal(n.compared, 3);
    assert_null(golden_unseen(&n.golden, "run."));
    golden_close(&n.golden);
    sd_close(n.ctx);
}

/* A guidance scale that is off by a hundredth makes another picture than the bound allows. */
static void note_ratio(void *user, const sd_traced *t)
{
    network *n = user;
    golden_result r = golden_compare(&n->golden, "run.latents.26", t->nd, t->dim, t->data);
    assert_true(r.found && r.same_shape);
    n->worst = r.ratio;
}

TEST(a_wrong_guidance_is_seen)
{
    sd_error e = {0};
    network n = {.config = "tiny", .ctx = open_tiny(SD_PART_ALL, 0)};
    if (golden_open(&n.golden, n.config, &e)) fail_msg("%s", e.text);
    sd_params p = parameters();
    p.guidance.scale = 5.01;
    assert_int_equal(sd_set_trace(n.ctx, "latents.26", note_ratio, &n), SD_OK);
    draw(n.ctx, &p);
    assert_true(n.worst > 10);
    golden_close(&n.golden);
    sd_close(n.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_picture_is_diffusers_picture),
        cmocka_unit_test(a_wrong_guidance_is_seen),
    };
    return cmocka_run_group_tests_name("tiny", tests, NULL, NULL);
}
