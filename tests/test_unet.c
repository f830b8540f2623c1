/* test_unet.c - every module of the UNet against float64, for small models of each family with weights from a
 * formula. */
#include "test.h"
#include "network.h"
#include "tempdir.h"

/* One evaluation over the goldens' inputs: two samples that differ in everything, an odd size, one timestep with a
 * fraction. */
static float *evaluate(network *n, int64_t dim[4])
{
    int64_t context_dim[4];
    float *latents = network_input(n, "latents", dim), *context = network_input(n, "context", context_dim), t[2];
    float *out = malloc((size_t)(dim[0] * dim[1] * dim[2] * dim[3]) * sizeof *out);
    assert_true(golden_read(&n->golden, "timesteps", t, 2));
    if (sd_unet(n->ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, t, context, out))
        fail_msg("%s", sd_error_text(n->ctx));
    free(latents);
    free(context);
    return out;
}

static void against_float64(int precise, bool blas)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) {
        network n;
        int64_t dim[4];
        network_open(&n, network_configs[i], SD_PART_UNET, precise, NULL);
        if (blas) n.ctx->run.blas = true;
        free(evaluate(&n, dim));
        network_finish(&n, "unet.", "unet", "unet.conv_out");
        network_close(&n);
        temp_clear();
    }
}

TEST(every_module_is_within_its_bound_of_float64) { against_float64(0, false); }
TEST(every_module_is_within_its_bound_precisely) { against_float64(1, false); }
#ifdef SD_WITH_OPENBLAS
TEST(every_module_is_within_its_bound_with_openblas) { against_float64(0, true); }
#endif

/* sd1-small's numbers are bfloat16 and float16 numbers too: whatever file they come in, the result has the same
 * bits. */
TEST(files_of_any_kind_give_the_same_bits)
{
    const synth_options kinds[] = {{.dtype = SD_F32}, {.dtype = SD_F16}, {.dtype = SD_BF16},
                                   {.dtype = SD_F32, .shards = 3}, {.dtype = SD_F16, .shards = 2}};
    float *first = NULL;
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        network n;
        int64_t dim[4];
        network_open(&n, "sd1-small", SD_PART_UNET, 0, &kinds[i]);
        float *out = evaluate(&n, dim);
        if (first) assert_memory_equal(first, out, (size_t)(dim[0] * dim[1] * dim[2] * dim[3]) * sizeof *out);
        else first = out;
        if (first != out) free(out);
        network_close(&n);
        temp_clear();
    }
    free(first);
}

/* A sample's result does not depend on what else is in the batch. */
TEST(a_batch_is_its_samples)
{
    network n;
    int64_t dim[4], context_dim[4];
    network_open(&n, "sd2-small", SD_PART_UNET, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    float *both = evaluate(&n, dim), t[2];
    float *latents = network_input(&n, "latents", dim), *context = network_input(&n, "context", context_dim);
    size_t one = (size_t)(dim[1] * dim[2] * dim[3]), words = (size_t)(context_dim[1] * context_dim[2]);
    float *alone = malloc(one * sizeof *alone);
    assert_true(golden_read(&n.golden, "timesteps", t, 2));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(sd_unet(n.ctx, 1, (int)dim[2], (int)dim[3], latents + i * one, t + i, context + i * words,
                                 alone), SD_OK);
        assert_memory_equal(alone, both + i * one, one * sizeof *alone);
    }
    free(both);
    free(latents);
    free(context);
    free(alone);
    network_close(&n);
}

TEST(every_latent_size_works)
{
    network n;
    int64_t dim[4];
    network_open(&n, "sd1-small", SD_PART_UNET, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    float *context = network_input(&n, "context", dim), *x = calloc(4 * 17 * 17, sizeof *x),
        *out = malloc(4 * 17 * 17 * sizeof *out), t = 500;
    for (int h = 1; h <= 17; h++)
        if (sd_unet(n.ctx, 1, h, 18 - h, x, &t, context, out)) fail_msg("%d: %s", h, sd_error_text(n.ctx));
    free(context);
    free(x);
    free(out);
    network_close(&n);
}

/* What depends on the prompt alone is computed in the first step. */
TEST(keys_and_values_of_a_prompt_are_computed_once)
{
    network n;
    sd_kept kept = {0};
    int64_t dim[4], context_dim[4];
    network_open(&n, "sd1-small", SD_PART_UNET, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    sd_run *r = &n.ctx->run;
    float *latents = network_input(&n, "latents", dim), *context = network_input(&n, "context", context_dim),
        t[2] = {501, 501};
    size_t count = (size_t)(dim[0] * dim[1] * dim[2] * dim[3]),
        contexts = (size_t)(context_dim[0] * context_dim[1] * context_dim[2]);
    float *plain = malloc(count * sizeof *plain), *out = malloc(count * sizeof *out);
    double flops[3];
    for (int step = 0; step < 3; step++) {   /* a step as it was, the first and the second of those that keep
                                              * something */
        r->kept = NULL;
        for (size_t i = 0; i < count; i++) latents[i] *= -0.7f;
        assert_int_equal(sd_unet(n.ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, t, context, plain), SD_OK);
        if (step) r->kept = &kept;
        r->flops = 0;
        assert_int_equal(sd_unet(n.ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, t, context, out), SD_OK);
        flops[step] = r->flops;
        assert_memory_equal(plain, out, count * sizeof *out);
    }
    assert_int_equal(kept.n, 2 * 16);
    assert_true(flops[1] == flops[0]);
    double columns = 5 * 8 + 5 * 16 + 6 * 24;   /* of the sixteen cross-attentions */
    assert_true(flops[0] - flops[2] == 2 * 2.0 * (double)contexts * columns);
    for (size_t i = 0; i < contexts; i++) context[i] += 1;   /* kept beyond its prompt, it would be wrong */
    assert_int_equal(sd_unet(n.ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, t, context, out), SD_OK);
    assert_memory_equal(plain, out, count * sizeof *out);
    r->kept = NULL;
    sd_kept_free(&kept);
    assert_int_equal(sd_unet(n.ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, t, context, out), SD_OK);
    assert_memory_not_equal(plain, out, count * sizeof *out);
    free(latents);
    free(context);
    free(plain);
    free(out);
    network_close(&n);
}

TEST(tensors_that_lack_are_named_together)
{
    sd_error e = {0};
    sd_options o;
    sd_ctx *c;
    synth_options without = {.without = "mid_block.resnets.0.conv?.weight"};
    assert_int_equal(synth_write_model(temp_path(""), "asym-small", &without, &e), SD_OK);
    sd_options_init(&o);
    o.model = temp_path("");
    o.parts = SD_PART_UNET;
    assert_int_equal(sd_open(&c, &o), SD_ERR_MISSING);
    assert_non_null(strstr(sd_error_text(c), "mid_block.resnets.0.conv1.weight"));
    assert_non_null(strstr(sd_error_text(c), "mid_block.resnets.0.conv2.weight"));
    sd_close(c);
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_module_is_within_its_bound_of_float64, clear),
        cmocka_unit_test_teardown(every_module_is_within_its_bound_precisely, clear),
#ifdef SD_WITH_OPENBLAS
        cmocka_unit_test_teardown(every_module_is_within_its_bound_with_openblas, clear),
#endif
        cmocka_unit_test_teardown(files_of_any_kind_give_the_same_bits, clear),
        cmocka_unit_test_teardown(a_batch_is_its_samples, clear),
        cmocka_unit_test_teardown(every_latent_size_works, clear),
        cmocka_unit_test_teardown(keys_and_values_of_a_prompt_are_computed_once, clear),
        cmocka_unit_test_teardown(tensors_that_lack_are_named_together, clear),
    };
    return cmocka_run_group_tests_name("unet", tests, temp_make, temp_remove);
}
