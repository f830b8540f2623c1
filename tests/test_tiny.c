/* test_tiny.c - a picture of the model in the box, 25 steps, one of its distilled sibling, 4 steps, and what its small
 * autoencoder decodes and encodes, against diffusers in float64 (tools/golden_tiny.py). */
#include "test.h"
#include "child.h"
#include "network.h"
#include "needs.h"

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

/* ------------------------------------------------------------------------------------ tiny-taesd */

/* Its inputs are those of test_taesd.c's TAESD. The smallest known mistake must be ten times the bound. */
static void compare_taesd(int precise)
{
    sd_error e = {0};
    int64_t at[4], of[4];
    sd_options o;
    sd_options_init(&o);
    o.model = "weights/tiny";
    o.taesd = "weights/tiny-taesd";
    o.parts = SD_PART_VAE;
    o.precise = precise;
    network n = {.config = "taesd-small", .ctx = open_context(&o, SD_OK)};
    if (golden_open(&n.golden, "tiny-taesd", &e)) fail_msg("%s", e.text);
    float *latents = network_input(&n, "vae_latents", at), *shown = network_input(&n, "picture", of);
    size_t count = (size_t)(of[0] * 4 * (of[2] / 8) * (of[3] / 8));
    float *picture = malloc((size_t)(at[0] * 3 * 64 * at[2] * at[3]) * sizeof *picture),
        *mean = malloc(count * sizeof *mean), *logvar = malloc(count * sizeof *logvar);
    assert_int_equal(sd_vae_decode(n.ctx, (int)at[0], (int)at[2], (int)at[3], latents, picture), SD_OK);
    assert_int_equal(sd_vae_encode(n.ctx, (int)of[0], (int)of[2] / 8, (int)of[3] / 8, shown, mean, logvar), SD_OK);
    network_check(&n, "vae.picture", 4, (const int64_t[]){at[0], 3, 8 * at[2], 8 * at[3]}, picture);
    network_check(&n, "vae.mean", 4, (const int64_t[]){of[0], 4, of[2] / 8, of[3] / 8}, mean);
    network_finish(&n, "vae.", "decoder", "vae.picture");
    network_finish(&n, "vae.", "encoder", "vae.mean");
    free(latents);
    free(shown);
    free(picture);
    free(mean);
    free(logvar);
    end(&n);
}

TEST(the_small_autoencoder_decodes_and_encodes_as_diffusers_does) { compare_taesd(0); }

TEST(the_small_autoencoder_does_so_precisely) { compare_taesd(1); }

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
        cmocka_unit_test(the_small_autoencoder_decodes_and_encodes_as_diffusers_does),
        unit_test_needing(NEED_CPU, the_small_autoencoder_does_so_precisely),
        cmocka_unit_test(the_parts_that_were_not_distilled_are_those_of_the_model_in_the_box),
    };
    return cmocka_run_group_tests_name("tiny", tests, NULL, NULL);
}
