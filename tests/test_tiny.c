/* test_tiny.c - a picture of the model in the box, 25 steps, and one of its distilled sibling, 4 steps, against
 * diffusers in float64 (tools/golden_tiny.py). */
#include "test.h"
#include "child.h"
#include "network.h"

#define OWN 2.5   /* tiny-lcm's own guidance scale */

/* A run of one of the two, and what its goldens say of it. */
typedef struct run {
    const char *model;      /* below weights/ */
    const char *last;       /* latents of the last evaluation */
    const char *filter;
    sd_params params;
} run;

static sd_params asked(int steps, double guidance)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = "a red apple on a blue background";
    if (steps) p.sampling.steps = steps;
    if (guidance > 0) p.guidance.scale = guidance;
    p.seed = 7;
    return p;
}

static run tiny_run(void) { return (run){"tiny", "run.latents.26", "latents.1,latents.26,image", asked(25, 5)}; }

/* Steps and guidance are what the model's own scheduler_config.json says. */
static run lcm_run(void) { return (run){"tiny-lcm", "run.latents.4", "latents.1,latents.4,image", asked(0, 0)}; }

static network begin(const run *r)
{
    sd_error e = {0};
    char path[64];
    snprintf(path, sizeof path, "weights/%s", r->model);
    sd_options o;
    sd_options_init(&o);
    o.model = path;
    network n = {.config = r->model, .prefix = "run.", .ctx = open_context(&o, SD_OK)};
    if (golden_open(&n.golden, n.config, &e)) fail_msg("%s", e.text);
    return n;
}

static void end(network *n)
{
    golden_close(&n->golden);
    sd_close(n->ctx);
}

static void draw(sd_ctx *c, const sd_params *p)
{
    sd_image image;
    if (sd_generate(c, p, &image) != SD_OK) fail_msg("%s", sd_error_text(c));
    sd_image_free(&image);
}

static void compare(run r)
{
    network n = begin(&r);
    assert_int_equal(sd_set_trace(n.ctx, r.filter, network_compare, &n), SD_OK);
    draw(n.ctx, &r.params);
    assert_int_equal(n.compared, 3);
    assert_null(golden_unseen(&n.golden, "run."));
    end(&n);
}

TEST(the_picture_is_diffusers_picture) { compare(tiny_run()); }

TEST(the_distilled_model_draws_diffusers_picture_in_its_own_4_steps) { compare(lcm_run()); }

/* A guidance scale that is off by a hundredth makes another picture than the bound allows. */
typedef struct watched {
    network net;
    const run *run;
} watched;

static void note_ratio(void *user, const sd_traced *t)
{
    watched *w = user;
    golden_result r = golden_compare(&w->net.golden, w->run->last, t->nd, t->dim, t->data);
    assert_true(r.found && r.same_shape);
    w->net.worst = r.ratio;
}

static void miss(run r, double guidance)
{
    watched w = {begin(&r), &r};
    r.params.guidance.scale = guidance;
    assert_int_equal(sd_set_trace(w.net.ctx, r.last + strlen("run."), note_ratio, &w), SD_OK);
    draw(w.net.ctx, &r.params);
    assert_true(w.net.worst > 10);
    end(&w.net);
}

TEST(a_wrong_guidance_is_seen) { miss(tiny_run(), 5.01); }

TEST(a_wrong_guidance_is_seen_where_it_is_embedded) { miss(lcm_run(), OWN + 0.01); }

/* Only UNet and scheduler were distilled; a directory that stands alone has the rest, too. */
TEST(the_parts_that_were_not_distilled_are_those_of_the_model_in_the_box)
{
    static const char *const same[] = {"text_encoder/config.json", "text_encoder/model.safetensors", "vae/config.json",
                                       "vae/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt",
                                       "tokenizer/vocab.json", "tokenizer/tokenizer_config.json"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char a[128], b[128];
        snprintf(a, sizeof a, "weights/tiny/%s", same[i]);
        snprintf(b, sizeof b, "weights/tiny-lcm/%s", same[i]);
        if (!same_files(a, b)) fail_msg("%s is not %s", b, a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_picture_is_diffusers_picture),
        cmocka_unit_test(a_wrong_guidance_is_seen),
        cmocka_unit_test(the_distilled_model_draws_diffusers_picture_in_its_own_4_steps),
        cmocka_unit_test(a_wrong_guidance_is_seen_where_it_is_embedded),
        cmocka_unit_test(the_parts_that_were_not_distilled_are_those_of_the_model_in_the_box),
    };
    return cmocka_run_group_tests_name("tiny", tests, NULL, NULL);
}
