/* test_generate.c - whole runs from text to picture against diffusers in float64: tokens, every module of the text encoder, latents,
 * timesteps, guided predictions, denoised pictures, the image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "network.h"
#include "tempdir.h"

static sd_params params_of(const synth_run_list *list, const synth_run *r)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = list->prompt;
    p.negative_prompt = list->negative;
    p.width = r->width;
    p.height = r->height;
    p.steps = r->steps;
    p.batch = r->batch;
    p.cfg_scale = r->guidance;
    p.seed = r->seed;
    if (r->eta > 0) p.eta = r->eta;
    p.sampler = *r->sampler ? r->sampler : NULL;
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
    const char *between = "text_encoder.*,prompt_embeds,noise,latents.*,timestep.*,step.*.noise_pred,step.*.denoised,image";
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

static void every_run_agrees_with_float64(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) run_all(network_configs[i], 0);
}

static void and_precisely(void **unused)
{
    (void)unused;
    run_all("asym-small", 1);
}

static void tokens_are_the_oracles(void **unused)
{
    (void)unused;
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
static void clip_skip_counts_from_one(void **unused)
{
    (void)unused;
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
static void keys_without_their_prefix_are_the_same_model(void **unused)
{
    (void)unused;
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

static int clear(void **unused) { (void)unused; temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tokens_are_the_oracles, clear),
        cmocka_unit_test_teardown(clip_skip_counts_from_one, clear),
        cmocka_unit_test_teardown(keys_without_their_prefix_are_the_same_model, clear),
        cmocka_unit_test_teardown(every_run_agrees_with_float64, clear),
        cmocka_unit_test_teardown(and_precisely, clear),
    };
    return cmocka_run_group_tests_name("generate", tests, temp_make, temp_remove);
}
