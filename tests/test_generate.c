/* test_generate.c - whole runs from text to picture against diffusers in float64: tokens, every module of the text
 * encoder, latents, timesteps, guided predictions, denoised pictures, the image. */
#include <math.h>

#include "test.h"
#include "../pipeline.h"
#include "network.h"
#include "needs.h"
#include "tempdir.h"

static sd_params params_of(const synth_run_list *list, const synth_run *r)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = list->prompt;
    p.negative_prompt = list->negative;
    p.width = r->width;
    p.height = r->height;
    p.sampling.steps = r->steps;
    p.batch = r->batch;
    p.guidance.scale = r->guidance;
    p.seed = r->seed;
    if (r->eta > 0) p.sampling.eta = r->eta;
    p.sampling.sampler = *r->sampler ? r->sampler : NULL;
    return p;
}

static void run_all(const char *config, int precise)
{
    network n;
    synth_run_list list;
    sd_error e = {0};
    if (synth_runs(&list, config, &e)) fail_msg("%s", e.text);
    assert_true(list.n > 0);
    network_open(&n, config, SD_PART_ALL, precise, NULL);
    /* test_unet.c and test_vae.c look at every module of one pass; here is what goes from stage to stage. */
    const char *between =
        "text_encoder.*,prompt_embeds,noise,latents.*,timestep.*,step.*.noise_pred,step.*.denoised,image";
    assert_int_equal(sd_set_trace(n.ctx, between, network_compare, &n), SD_OK);
    for (int i = 0; i < list.n; i++) {
        sd_params p = params_of(&list, &list.run[i]);
        sd_image images[4];
        assert_in_range(p.batch, 1, 4);
        snprintf(n.prefix, sizeof n.prefix, "run.%s.", list.run[i].name);
        if (sd_generate(n.ctx, &p, images)) fail_msg("%s %s: %s", config, list.run[i].name, sd_error_text(n.ctx));
        for (int b = 0; b < p.batch; b++) sd_image_free(&images[b]);
    }
    network_finish(&n, "run.", "text", "prompt_embeds");
    assert_null(golden_unseen(&n.golden, "text_encoder."));
    network_close(&n);
    temp_clear();
}

TEST(every_run_agrees_with_float64)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) run_all(network_configs[i], 0);
}

TEST(and_precisely)
{
    run_all("asym-small", 1);
}

TEST(tokens_are_the_oracles)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) {
        network n;
        synth_run_list list;
        sd_error e = {0};
        sd_tokens t;
        int64_t want[2 * SD_TOKENS];
        network_open(&n, network_configs[i], SD_PART_TOKENIZER, 0, NULL);
        assert_int_equal(synth_runs(&list, network_configs[i], &e), SD_OK);
        assert_true(golden_read_i64(&n.golden, "tokens", want, 2 * SD_TOKENS));
        const char *text[] = {list.negative, list.prompt};
        for (int g = 0; g < 2; g++) {
            assert_int_equal(sd_tokenize(n.ctx, text[g], &t), SD_OK);
            for (int k = 0; k < SD_TOKENS; k++) assert_int_equal(t.id[k], want[g * SD_TOKENS + k]);
        }
        network_close(&n);
        temp_clear();
    }
}

/* `--clip-skip K` leaves out the last K-1 layers and keeps the final norm. */
TEST(clip_skip_counts_from_one)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) {
        network n;
        synth_run_list list;
        sd_error e = {0};
        char name[32];
        network_open(&n, network_configs[i], SD_PART_TOKENIZER | SD_PART_TEXT, 0, NULL);
        assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
        assert_int_equal(synth_runs(&list, network_configs[i], &e), SD_OK);
        sd_model_info info;
        assert_int_equal(sd_get_info(n.ctx, &info), SD_OK);
        size_t one = SD_TOKENS * (size_t)info.context_dim;
        float *both = malloc(2 * one * sizeof *both);
        int found = 0;
        for (int skip = 1; skip <= 4; skip++) {
            snprintf(name, sizeof name, "clip_skip.%d", skip);
            if (!golden_compare(&n.golden, name, 0, NULL, NULL).found) continue;
            assert_int_equal(sd_encode_text(n.ctx, list.negative, skip, both, one), SD_OK);
            assert_int_equal(sd_encode_text(n.ctx, list.prompt, skip, both + one, one), SD_OK);
            network_check(&n, name, 3, (const int64_t[]){2, SD_TOKENS, info.context_dim}, both);
            found++;
        }
        assert_true(found > 0);
        free(both);
        network_close(&n);
        temp_clear();
    }
}

/* transformers 5 writes the text encoder's tensors without "text_model."; every published file has it. */
TEST(keys_without_their_prefix_are_the_same_model)
{
    const synth_options kinds[] = {{.dtype = SD_F32}, {.dtype = SD_F32, .no_prefix = true}};
    float out[2][SD_TOKENS * 64];
    for (int i = 0; i < 2; i++) {
        network n;
        sd_model_info info;
        network_open(&n, "sd1-small", SD_PART_TOKENIZER | SD_PART_TEXT, 0, &kinds[i]);
        assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
        assert_int_equal(sd_get_info(n.ctx, &info), SD_OK);
        assert_in_range(info.context_dim, 1, 64);
        assert_int_equal(sd_encode_text(n.ctx, "a cat", 0, out[i], SD_TOKENS * (size_t)info.context_dim), SD_OK);
        network_close(&n);
        temp_clear();
        if (i) assert_memory_equal(out[0], out[1], SD_TOKENS * (size_t)info.context_dim * sizeof out[0][0]);
    }
}

/* Pictures by the model's own map, pixel by pixel. */
typedef struct quick { sd_ctx *ctx; int pixels, wrong, wrong_with_sd_map; } quick;

static void look_quickly(void *user, const sd_denoised *step)
{
    static const double sd[5][3] = {{0.298, 0.207, 0.208}, {0.187, 0.286, 0.173}, {-0.158, 0.189, 0.264},
                                    {-0.184, -0.271, -0.473}};
    quick *q = user;
    sd_image image;
    size_t area = (size_t)step->height * (size_t)step->width;
    if (sd_step_picture(q->ctx, step, 1, 1, &image)) fail_msg("%s", sd_error_text(q->ctx));
    assert_int_equal(image.width, step->width);
    assert_int_equal(image.height, step->height);
    for (size_t p = 0; p < 3 * area; p++) {
        double own = q->ctx->model.latent_rgb[4][p % 3], other = 0;
        for (size_t ch = 0; ch < 4; ch++) {
            double z = step->x0[(4 + ch) * area + p / 3];   /* of the second picture */
            own += q->ctx->model.latent_rgb[ch][p % 3] * z;
            other += sd[ch][p % 3] * z;
        }
        q->wrong += fabs(255 * fmin(fmax(own / 2 + 0.5, 0), 1) - image.data[p]) > 0.51;
        q->wrong_with_sd_map += fabs(255 * fmin(fmax(other / 2 + 0.5, 0), 1) - image.data[p]) > 0.51;
        q->pixels++;
    }
    sd_image_free(&image);
}

TEST(a_quick_picture_of_a_step_is_the_models_linear_map)
{
    network n;
    network_open(&n, "sd1-small", SD_PART_ALL, 0, NULL);
    sd_set_trace(n.ctx, NULL, NULL, NULL);
    for (int i = 0; i < 15; i++) n.ctx->model.latent_rgb[i / 3][i % 3] = (float)((i * 7 % 15) - 7) / 40;
    quick q = {.ctx = n.ctx};
    sd_image images[2];
    sd_params p;
    sd_params_init(&p);
    p.width = 40;
    p.height = 24;
    p.sampling.steps = p.batch = 2;
    p.seed = 3;
    sd_set_step(n.ctx, look_quickly, &q);
    if (sd_generate(n.ctx, &p, images)) fail_msg("%s", sd_error_text(n.ctx));
    for (int b = 0; b < 2; b++) sd_image_free(&images[b]);
    assert_true(q.pixels >= 2 * 3 * 15 && q.wrong == 0 && q.wrong_with_sd_map > q.pixels / 2);
    network_close(&n);
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

/* The largest operation of one stage is not held in memory while another stage, whose arena may be the larger, runs. */
TEST(a_stage_leaves_no_scratch_to_the_next)
{
    enum { MUCH = 32 << 20 };
    network n;
    network_open(&n, network_configs[0], SD_PART_TOKENIZER | SD_PART_TEXT | SD_PART_VAE, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    sd_model_info info;
    assert_int_equal(sd_get_info(n.ctx, &info), SD_OK);
    size_t numbers = SD_TOKENS * (size_t)info.context_dim;
    float *out = malloc(numbers * sizeof *out), *picture = malloc(3 * 64 * 64 * sizeof *picture);
    const float latents[4 * 4 * 4] = {0};
    assert_true(out && picture);
    assert_int_equal(sd_encode_text(n.ctx, "a cat", 0, out, numbers), SD_OK);
    assert_non_null(sd_scratch(&n.ctx->run, MUCH));
    assert_int_equal(sd_encode_text(n.ctx, "a cat", 0, out, numbers), SD_OK);
    assert_true(n.ctx->cpu.scratch_size >= MUCH);   /* the same stage again keeps it */
    assert_int_equal(sd_vae_decode(n.ctx, 1, 4, 4, latents, picture), SD_OK);
    assert_true(n.ctx->cpu.scratch_size < MUCH);
    free(out);
    free(picture);
    network_close(&n);
    temp_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tokens_are_the_oracles, clear),
        cmocka_unit_test_teardown(clip_skip_counts_from_one, clear),
        cmocka_unit_test_teardown(keys_without_their_prefix_are_the_same_model, clear),
        cmocka_unit_test_teardown(every_run_agrees_with_float64, clear),
        unit_test_needing_teardown(NEED_CPU, and_precisely, clear),
        unit_test_needing_teardown(NEED_CPU, a_stage_leaves_no_scratch_to_the_next, clear),
        cmocka_unit_test_teardown(a_quick_picture_of_a_step_is_the_models_linear_map, clear),
    };
    return cmocka_run_group_tests_name("generate", tests, temp_make, temp_remove);
}
