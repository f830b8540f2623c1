/* test_plan.c - the walk over a configuration gives the published models' tensors, to the last one, and the committed
 * plans. */
#include "test.h"
#include "../net.h"
#include "../ops_cpu.h"

/* Counts of the published files: the UNet's tensors, parameters and steps; the VAE's tensors and parameters; the text
 * encoders' tensors and parameters. */
#define VAE_F8 {248, 83653863}
#define CLIP_L {196, 123060480}
#define CLIP_H {372, 340387840}
#define CLIP_G {517, 694659840}
static const struct published { const char *name; size_t tensors, parameters, steps; size_t vae[2], text[2][2];
                               } published[] = {
    {"sd15", 686, 859520964, 47, VAE_F8, {CLIP_L}},
    {"sd15-inpaint", 686, 859535364, 47, VAE_F8, {CLIP_L}},
    {"instruct-pix2pix", 686, 859532484, 47, VAE_F8, {CLIP_L}},
    {"lcm", 687, 859602884, 47, VAE_F8, {CLIP_L}},
    {"small-sd", 442, 579384964, 33, VAE_F8, {CLIP_L}},
    {"bk-sdm-small", 396, 482346884, 30, VAE_F8, {CLIP_L}},
    {"tiny-sd", 358, 323384964, 25, VAE_F8, {CLIP_L}},
    {"sd21", 686, 865910724, 47, VAE_F8, {CLIP_H}},
    {"sd21-base", 686, 865910724, 47, VAE_F8, {CLIP_H}},
    {"sd21-inpaint", 686, 865925124, 47, VAE_F8, {CLIP_H}},
    {"sd2-depth", 686, 865913604, 47, VAE_F8, {CLIP_H}},
    {"sd-turbo", 686, 865910724, 47, VAE_F8, {CLIP_H}},
    {"x4-upscaler", 687, 473398020, 47, {204, 55325927}, {CLIP_H}},   /* its VAE has a level less */
    {"sdxl", 1680, 2567463684, 35, VAE_F8, {CLIP_L, CLIP_G}},
    {"sdxl-inpaint", 1680, 2567478084, 35, VAE_F8, {CLIP_L, CLIP_G}},
    {"sdxl-turbo", 1680, 2567463684, 35, VAE_F8, {CLIP_L, CLIP_G}},
    {"sdxl-lightning", 1680, 2567463684, 35, VAE_F8, {CLIP_L, CLIP_G}},
    {"ssd-1b", 944, 1331334404, 33, VAE_F8, {CLIP_L, CLIP_G}},
    {"vega", 564, 745225604, 33, VAE_F8, {CLIP_L, CLIP_G}},
    {"sdxl-refiner", 1220, 2259526660, 42, VAE_F8, {CLIP_G}},
};

static char *plan(const char *what, int width, int height, int json)
{
    struct { char *text, error[512]; } *r = calloc(1, sizeof *r);
    assert_non_null(r);
    if (sd_plan(what, width, height, json, &r->text, r->error) != SD_OK) fail_msg("%s", r->error);
    char *text = r->text;
    free(r);
    return text;
}

/* The number that follows "key": after the first `from`. */
static size_t number(const char *json, const char *from, const char *key)
{
    const char *section = strstr(json, from), *at = section ? strstr(section, key) : NULL;
    if (!at) {
        fail_msg("no %s after %s", key, from);
        return 0;
    }
    return (size_t)strtoull(at + strlen(key), NULL, 10);
}

TEST(the_published_models_come_out_to_the_last_tensor)
{
    size_t runs = 0;
    const sd_family *f;
    for (size_t i = 0; (f = sd_family_at(i)) != NULL; i++) runs += !f->refusal;
    assert_int_equal(runs, SD_COUNT(published));
    for (size_t i = 0; i < SD_COUNT(published); i++) {
        const struct published *p = &published[i];
        char *json = plan(p->name, 0, 0, 1);
        assert_int_equal(number(json, "\"unet\"", "\"tensors\":"), p->tensors);
        assert_int_equal(number(json, "\"unet\"", "\"parameters\":"), p->parameters);
        assert_int_equal(number(json, "\"vae\"", "\"tensors\":"), p->vae[0]);
        assert_int_equal(number(json, "\"vae\"", "\"parameters\":"), p->vae[1]);
        const char *encoders[] = {"\"text_encoder\"", "\"text_encoder_2\""};
        for (int k = 0; k < 2 && p->text[k][0]; k++) {
            assert_int_equal(number(json, encoders[k], "\"tensors\":"), p->text[k][0]);
            assert_int_equal(number(json, encoders[k], "\"parameters\":"), p->text[k][1]);
        }
        free(json);
        sd_unet_net u;
        sd_error e = {0};
        assert_int_equal(sd_unet_walk(&u, &sd_family_find(p->name)->unet, &e), SD_OK);
        assert_int_equal(u.net.steps.n, p->steps);
        sd_unet_free(&u);
    }
}

TEST(a_family_says_what_it_is_drawn_with)
{
    char *json = plan("x4-upscaler", 0, 0, 1);
    const char begin[] = "{\"family\":\"x4-upscaler\",\"title\":\"Stable Diffusion's upscaler by four\","
                         "\"size\":[512,512],\"steps\":75,\"guidance\":9,\"unet\":{";
    assert_memory_equal(json, begin, sizeof begin - 1);
    free(json);
    json = plan("weights/tiny", 0, 0, 1);   /* no published family */
    assert_memory_equal(json, "{\"unet\":{", 9);
    free(json);
}

/* Multiplications and additions, one sample (docs/SPEED.md counts them layer by layer). */
TEST(the_work_is_what_was_counted_by_hand)
{
    char *json = plan("sd15", 512, 512, 1);
    assert_in_range(number(json, "\"unet\"", "\"flops\":"), 803200000000, 803500000000);
    assert_in_range(number(json, "\"vae\"", "\"flops\":"), 2510000000000, 2520000000000);
    assert_in_range(number(json, "\"vae\"", "\"encoder_flops\":"), 1112000000000, 1122000000000);
    /* with a quarter of the multiplications where the sides of a 3x3 convolution are multiples of four, and 100/576 of
     * those after upsampling (60.4 GFLOP of the UNet's without the smallest, 695.8 of the decoder's) */
    assert_in_range(number(json, "\"unet\"", "\"flops_done\":"), 502000000000, 503400000000);
    assert_in_range(number(json, "\"vae\"", "\"decoder_flops_done\":"), 633000000000, 634200000000);
    assert_in_range(number(json, "\"vae\"", "\"encoder_flops_done\":"), 361000000000, 364000000000);
    free(json);
    json = plan("sdxl", 1024, 1024, 1);
    assert_in_range(number(json, "\"unet\"", "\"flops\":"), 6755000000000, 6770000000000);
    free(json);
}

/* CompVis names of the steps, the second spelling of every key. */
TEST(both_spellings)
{
    const struct { const char *family, *hf, *ldm; } names[] = {
        {"sd15", "down_blocks.0.attentions.1", "input_blocks.2.1"},
        {"sd15", "down_blocks.2.downsamplers.0.conv", "input_blocks.9.0.op"},
        {"sd15", "mid_block.resnets.1", "middle_block.2"},
        {"sd15", "up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"},
        {"sd15", "up_blocks.3.attentions.2", "output_blocks.11.1"},
        {"sd15", "up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"},
        {"sd15", "conv_out", "out.2"},
        {"sdxl", "down_blocks.1.attentions.0", "input_blocks.4.1"},
        {"sdxl", "up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"}};
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        sd_unet_net u;
        sd_error e = {0};
        bool found = false;
        assert_int_equal(sd_unet_walk(&u, &sd_family_find(names[i].family)->unet, &e), SD_OK);
        for (int k = 0; k < u.net.steps.n; k++) {
            if (strcmp(u.net.steps.step[k].hf, names[i].hf) != 0) continue;
            assert_string_equal(u.net.steps.step[k].ldm, names[i].ldm);
            found = true;
        }
        assert_true(found);
        sd_unet_free(&u);
    }
}

/* docs/plans is what people read; `make plans` writes it anew. */
TEST(the_committed_plans_are_current)
{
    static const char *const names[] = {"sd15", "sd21", "sdxl", "sdxl-refiner"};
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        char path[64], *committed, *now = plan(names[i], 0, 0, 0);
        size_t n;
        sd_error e = {0};
        snprintf(path, sizeof path, "docs/plans/%s.txt", names[i]);
        if (sd_read_file(path, 1 << 20, &committed, &n, &e)) fail_msg("%s", e.text);
        assert_string_equal(committed, now);
        free(committed);
        free(now);
    }
}

/* The plan names what the backend will do, and counts each convolution once. */
TEST(convolutions_are_those_that_will_run)
{
    char *text = plan("sd15", 512, 512, 0), *at = strstr(text, "convolutions");
    const sd_kern *k = sd_kern_select(NULL);
    int count, total = 0, side, lines = 0;
    long long i, o, h, w;
    char stride[4], how[32];
    assert_non_null(at);
    for (at = strchr(at, '\n') + 1;
         sscanf(at, "%d of %dx%*d%3c %lld -> %lld x %lld x %lld %31[^.0-9]", &count, &side, stride, &i, &o, &h, &w,
                how) == 8;
         at = strchr(at, '\n') + 1, lines++) {
        int step = stride[1] == '/' ? 2 : 1, zoom = stride[1] == '*' ? 2 : 1, pad = side / 2;
        const int64_t x[4] = {1, h * step / zoom, w * step / zoom, i}, weight[4] = {o, i, side, side};
        sd_cpu cpu = {.kern = k};
        sd_run r = {.be = &sd_backend_cpu, .device = &cpu};
        sd_conv_how chosen = r.be->describe(&r, x, weight, (sd_conv){step, pad, pad, pad, pad, zoom == 2, {0}});
        if (k->winograd) assert_memory_equal(how, chosen.name, 4);
        total += count;
    }
    assert_int_equal(lines, 32);
    assert_int_equal(total, 66);   /* conv_in, conv_out, 22 resnets of two, 14 shortcuts, 6 between levels */
    free(text);
}

TEST(any_multiple_of_eight_can_be_planned)
{
    for (int side = 8; side <= 136; side += 8) free(plan("sd15", side, 144 - side, 0));
    char *text, error[512];
    assert_int_equal(sd_plan("sd15", 100, 0, 0, &text, error), SD_ERR_ARG);
    assert_non_null(strstr(error, "multiple of 8"));
    assert_int_equal(sd_plan("sd99", 0, 0, 0, &text, error), SD_ERR_ARG);
    char names[SD_FAMILY_NAMES];
    assert_non_null(strstr(error, sd_family_names(names)));
    assert_string_equal(names, "sd15, sd15-inpaint, instruct-pix2pix, lcm, small-sd, bk-sdm-small, tiny-sd, sd21, "
                               "sd21-base, sd21-inpaint, sd2-depth, sd-turbo, x4-upscaler, sdxl, sdxl-inpaint, "
                               "sdxl-turbo, sdxl-lightning, ssd-1b, vega, sdxl-refiner");
    assert_null(text);
    assert_int_equal(sd_plan("sd21-unclip-h", 0, 0, 0, &text, error), SD_ERR_UNSUPPORTED);
    assert_string_equal(error, "sd21-unclip-h: Stable unCLIP makes pictures from a picture's embedding, which is not "
                               "supported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_models_come_out_to_the_last_tensor),
        cmocka_unit_test(a_family_says_what_it_is_drawn_with),
        cmocka_unit_test(the_work_is_what_was_counted_by_hand),
        cmocka_unit_test(both_spellings),
        cmocka_unit_test(the_committed_plans_are_current),
        cmocka_unit_test(convolutions_are_those_that_will_run),
        cmocka_unit_test(any_multiple_of_eight_can_be_planned),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
