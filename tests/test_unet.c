/* test_unet.c - every module of the UNet against float64, for small models of each family with weights from a
 * formula. */
#include "test.h"
#include "network.h"
#include "needs.h"
#include "provider.h"
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

static void against_float64(int precise, const sd_blas *blas)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) {
        network n;
        int64_t dim[4];
        network_open(&n, network_configs[i], SD_PART_UNET, precise, NULL);
        n.ctx->cpu.blas = blas;
        free(evaluate(&n, dim));
        network_finish(&n, "unet.", "unet", "unet.conv_out");
        network_close(&n);
        temp_clear();
    }
}

TEST(every_module_is_within_its_bound_of_float64) { against_float64(0, NULL); }
TEST(every_module_is_within_its_bound_precisely) { against_float64(1, NULL); }
TEST(every_module_is_within_its_bound_with_openblas)
{
    if (!openblas()) skip();
    against_float64(0, openblas());
}

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

/* A residual of the goldens, times a factor. */
static sd_tensor residual(sd_run *r, const network *n, float times, const char *name)
{
    int64_t dim[4];
    float *x = network_input(n, name, dim);
    for (int64_t i = 0; i < dim[0] * dim[1] * dim[2] * dim[3]; i++) x[i] *= times;
    sd_tensor t = sd_new_from_nchw(r, dim[0], dim[1], dim[2], dim[3], x);
    free(x);
    return t;
}

typedef struct question {
    const float *latents, *timesteps;
    sd_cond cond;
    int residuals;       /* so many for the skips and one for the middle; 0: none */
    float times;         /* what they are multiplied by */
} question;

static sd_tensor forward(sd_run *r, const network *n, const question *q, const int64_t dim[4])
{
    sd_tensor skip[SD_MAX_SKIPS];
    char name[32];
    for (int i = 0; i < q->residuals; i++) {
        snprintf(name, sizeof name, "control.%d", i);
        skip[i] = residual(r, n, q->times, name);
    }
    sd_residuals control = {.n = q->residuals, .skip = skip};
    if (q->residuals) control.middle = residual(r, n, q->times, "control.middle");
    sd_unet_in in = {.latents = sd_new_from_nchw(r, dim[0], dim[1], dim[2], dim[3], q->latents),
                     .timestep = q->timesteps, .cond = &q->cond, .control = q->residuals ? &control : NULL};
    return sd_unet_forward(r, n->ctx->model.unet, &in);
}

/* The network's answer, [N,C,H,W], of latents of this size. */
static sd_status ask(network *n, const question *q, const int64_t dim[4], float *out)
{
    sd_run *r = &n->ctx->run, dry = {.err = &n->ctx->err, .be = &sd_backend_null};
    forward(&dry, n, q, dim);
    if (sd_reserve(r, dry.arena.peak, "a test")) return r->err->status;
    r->flops = 0;
    sd_download_channels_first(r, forward(r, n, q, dim), out);
    return r->err->status;
}

/* A question of the goldens' inputs; drop it. */
static question question_of(network *n, int64_t dim[4], float timesteps[2])
{
    int64_t words[4];
    float *latents = network_input(n, "latents", dim), *context = network_input(n, "context", words);
    assert_true(golden_read(&n->golden, "timesteps", timesteps, 2));
    return (question){.latents = latents, .timesteps = timesteps,
                      .cond = {(int)words[0], (int)words[1], (int)words[2], .context = context}};
}

static void drop(question *q)
{
    const void *owned[] = {q->latents, q->cond.context, q->cond.pooled, q->cond.time_cond};
    for (size_t i = 0; i < SD_COUNT(owned); i++) free((void *)(uintptr_t)owned[i]);
}

/* Gives a question the further inputs that a UNet has. */
static void add_inputs(network *n, question *q, float ids[12], int32_t labels[2])
{
    const sd_unet_config *c = &n->ctx->model.unet->cfg;
    int64_t dim[4];
    float label[2];
    if (c->add_in_dim) {
        q->cond.pooled = network_input(n, "pooled", dim);
        q->cond.pooled_width = (int)dim[1];
        q->cond.n_ids = (c->add_in_dim - (int)dim[1]) / c->add_time_dim;
        q->cond.ids = ids;
        assert_true(golden_read(&n->golden, "ids", ids, 2 * (size_t)q->cond.n_ids));
    }
    if (c->class_embeds) {
        assert_true(golden_read(&n->golden, "labels", label, 2));
        for (int i = 0; i < 2; i++) labels[i] = (int32_t)label[i];
        q->cond.labels = labels;
    }
    if (c->time_cond_dim) q->cond.time_cond = network_input(n, "time_cond", dim);
}

/* sd.h's call gives the same bits, with each sample on a thread of its own, for nobody looks. It wants what the UNet
 * takes, and nothing else. (Of a refiner's UNet alone, which is of no published family, nobody knows that it is
 * one.) */
static void publicly(network *n, const question *q, const int64_t dim[4], const float *expected)
{
    size_t count = (size_t)(dim[0] * 4 * dim[2] * dim[3]);
    float *out = malloc(count * sizeof *out);
    sd_unet_input in = {.size = sizeof in, .batch = (int)dim[0], .h = (int)dim[2], .w = (int)dim[3],
                        .sample = q->latents, .timestep = q->timesteps, .encoder_hidden_states = q->cond.context,
                        .text_embeds = q->cond.pooled, .time_ids = q->cond.ids, .class_labels = q->cond.labels,
                        .timestep_cond = q->cond.time_cond};
    sd_model_info info;
    assert_int_equal(sd_set_trace(n->ctx, NULL, NULL, NULL), SD_OK);
    assert_int_equal(sd_get_info(n->ctx, &info), SD_OK);
    assert_int_equal(info.pooled_dim, q->cond.pooled_width);
    assert_int_equal(info.time_ids, q->cond.n_ids);
    assert_int_equal(info.in_channels, dim[1]);
    assert_int_equal(info.class_labels != 0, in.class_labels != NULL);
    assert_int_equal(info.time_cond_dim != 0, in.timestep_cond != NULL);
    n->ctx->cpu.threads = 2;
    if (sd_unet_evaluate(n->ctx, &in, out)) fail_msg("%s", sd_error_text(n->ctx));
    if (n->ctx->run.be == &sd_backend_cpu) assert_int_equal(n->ctx->apart.n, 2);
    assert_memory_equal(out, expected, count * sizeof *out);
    const void **more[] = {(const void **)&in.text_embeds, (const void **)&in.time_ids, (const void **)&in.class_labels,
                           (const void **)&in.timestep_cond};
    for (size_t i = 0; i < SD_COUNT(more); i++) {
        const void *right = *more[i];
        *more[i] = right ? NULL : q->latents;
        assert_int_equal(sd_unet_evaluate(n->ctx, &in, out), SD_ERR_ARG);
        *more[i] = right;
    }
    in.size = 8;
    assert_int_equal(sd_unet_evaluate(n->ctx, &in, out), SD_ERR_ARG);
    free(out);
}

/* SDXL, its refiner, SSD-1B, tiny-sd, the x4 upscaler, LCM: what SD 1 and 2 do not have. */
static void other_families(int precise)
{
    static const char *const configs[] = {"sdxl-unet", "refiner-unet", "ssd-unet", "tiny-sd-unet", "x4-unet",
                                          "lcm-unet"};
    for (size_t i = 0; i < SD_COUNT(configs); i++) {
        network n;
        int64_t dim[4];
        int32_t labels[2];
        float t[2], ids[12];
        network_open(&n, configs[i], SD_PART_UNET, precise, NULL);
        question q = question_of(&n, dim, t);
        add_inputs(&n, &q, ids, labels);
        float *out = malloc((size_t)(dim[0] * 4 * dim[2] * dim[3]) * sizeof *out);
        sd_trace_prefix(&n.ctx->run, "unet.");
        if (ask(&n, &q, dim, out)) fail_msg("%s: %s", configs[i], n.ctx->err.text);
        network_finish(&n, "unet.", "unet", "unet.conv_out");
        if (q.cond.n_ids != 5) publicly(&n, &q, dim, out);
        drop(&q);
        free(out);
        network_close(&n);
        temp_clear();
    }
}

TEST(unets_of_other_families_are_within_their_bounds) { other_families(0); }
TEST(unets_of_other_families_are_within_their_bounds_precisely) { other_families(1); }

static int skips_of(const network *n)
{
    int skips = 0;
    for (int i = 0; i < n->ctx->model.unet->net.steps.n; i++) skips += n->ctx->model.unet->net.steps.step[i].push;
    return skips;
}

/* What a ControlNet adds, as diffusers adds it; zeros change no bit. */
TEST(residuals_are_added_between_the_middle_and_the_way_up)
{
    for (size_t i = 0; i < SD_COUNT(network_configs); i++) {
        network n;
        int64_t dim[4];
        float t[2];
        const char *mistake;
        network_open(&n, network_configs[i], SD_PART_UNET, 0, NULL);
        assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
        question q = question_of(&n, dim, t);
        size_t count = (size_t)(dim[0] * dim[1] * dim[2] * dim[3]);
        float *plain = malloc(count * sizeof *plain), *out = malloc(count * sizeof *out);
        assert_int_equal(ask(&n, &q, dim, plain), SD_OK);
        q.residuals = skips_of(&n);
        assert_int_equal(ask(&n, &q, dim, out), SD_OK);
        assert_memory_equal(plain, out, count * sizeof *out);
        q.times = 1;
        assert_int_equal(ask(&n, &q, dim, out), SD_OK);
        network_check(&n, "control.conv_out", 4, dim, out);
        golden_result r = golden_compare(&n.golden, "control.conv_out", 4, dim, out);
        assert_true(golden_least_mistake(&n.golden, "control", &mistake) > 10 * r.bound);
        q.residuals--;
        assert_int_equal(ask(&n, &q, dim, out), SD_ERR_SHAPE);
        assert_non_null(strstr(n.ctx->err.text, "residuals"));
        drop(&q);
        free(plain);
        free(out);
        network_close(&n);
        temp_clear();
    }
}

/* What depends on the prompt alone is computed once for each version of it: no more, and no less. */
TEST(keys_and_values_of_a_prompt_are_computed_once)
{
    network n;
    int64_t dim[4];
    float t[2];
    network_open(&n, "sd1-small", SD_PART_UNET, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    sd_run *r = &n.ctx->run;
    question q = question_of(&n, dim, t);
    float *latents = (float *)(uintptr_t)q.latents, *context = (float *)(uintptr_t)q.cond.context;
    size_t count = (size_t)(dim[0] * dim[1] * dim[2] * dim[3]),
        contexts = (size_t)(q.cond.n * q.cond.tokens * q.cond.width);
    float *plain = malloc(count * sizeof *plain), *out = malloc(count * sizeof *out);
    const double columns = 5 * 8 + 5 * 16 + 6 * 24, once = 2 * 2.0 * (double)contexts * columns;   /* of the sixteen
                                                                                  * cross-attentions */
    const struct { uint64_t version; bool other_context, known; } steps[] = {
        {1, false, false}, {1, false, true}, {2, true, false}, {2, false, true}, {1, true, false}, {1, false, true}};
    double whole = 0;
    for (size_t i = 0; i < SD_COUNT(steps); i++) {
        for (size_t k = 0; k < count; k++) latents[k] *= -0.7f;
        for (size_t k = 0; steps[i].other_context && k < contexts; k++) context[k] += 1;
        q.cond.version = 0;
        assert_int_equal(ask(&n, &q, dim, plain), SD_OK);
        whole = r->flops;
        q.cond.version = steps[i].version;
        assert_int_equal(ask(&n, &q, dim, out), SD_OK);
        assert_memory_equal(plain, out, count * sizeof *out);
        assert_true(whole - r->flops == (steps[i].known ? once : 0));
        assert_int_equal(r->kept.n, 2 * 16);
    }
    context[0] += 1;   /* under the version of other numbers: they are not looked at */
    assert_int_equal(ask(&n, &q, dim, out), SD_OK);
    assert_memory_equal(plain, out, count * sizeof *out);
    sd_tensor *weight = &n.ctx->model.unet->net.w[2].attn.block[0].attn2.to_k.w;
    assert_int_equal(weight->nd, 2);
    weight->version++;   /* another matrix, as far as this one is concerned */
    assert_int_equal(ask(&n, &q, dim, out), SD_OK);
    assert_memory_not_equal(plain, out, count * sizeof *out);
    sd_forget_cached(r);
    assert_int_equal(r->kept.n, 0);
    drop(&q);
    free(plain);
    free(out);
    network_close(&n);
}

/* Samples that differ by their context alone are computed once until the text is read, here m = 1 or 2 of four:
 * the same bits for fewer operations, in no more memory. */
static void fewer_samples(network *n, const question *two, const int64_t dim[4], int m)
{
    const sd_unet_config *c = &n->ctx->model.unet->cfg;
    size_t numbers = (size_t)(dim[1] * dim[2] * dim[3]), out = (size_t)(4 * dim[2] * dim[3]);
    size_t words = (size_t)two->cond.tokens * (size_t)two->cond.width;
    float *latents = malloc(4 * numbers * sizeof *latents), *context = malloc(4 * words * sizeof *context), times[4];
    int more = two->cond.pooled_width + two->cond.n_ids + c->time_cond_dim + 1;
    float *pooled = calloc(4, (size_t)more * sizeof *pooled);
    int32_t labels[4];
    question q = {latents, times, two->cond, 0, 0};
    q.cond.n = 4;
    q.cond.context = context;
    if (two->cond.pooled) q.cond.pooled = pooled;
    if (two->cond.ids) q.cond.ids = pooled + 4 * two->cond.pooled_width;
    if (two->cond.time_cond) q.cond.time_cond = pooled + 4 * (two->cond.pooled_width + two->cond.n_ids);
    if (two->cond.labels) q.cond.labels = labels;
    for (int i = 0; i < 4; i++) {
        size_t as = (size_t)(i % m);
        memcpy(latents + (size_t)i * numbers, two->latents + as * numbers, numbers * sizeof *latents);
        for (size_t k = 0; k < words; k++)
            context[(size_t)i * words + k] = two->cond.context[(size_t)(i / 2) * words + k] + (float)(i % 2);
        times[i] = two->timesteps[as];
        labels[i] = two->cond.labels ? two->cond.labels[as] : 0;
    }
    float *all = malloc(4 * out * sizeof *all), *some = malloc(4 * out * sizeof *some);
    int64_t shape[4] = {4, dim[1], dim[2], dim[3]};
    sd_run *r = &n->ctx->run;
    assert_int_equal(sd_unet_distinct(latents, numbers, times, &q.cond, c), m);
    assert_int_equal(ask(n, &q, shape, all), SD_OK);
    double flops = r->flops;
    size_t peak = r->arena.peak;
    shape[0] = m;
    r->arena.peak = 0;
    assert_int_equal(ask(n, &q, shape, some), SD_OK);
    assert_memory_equal(all, some, 4 * out * sizeof *all);
    assert_true(r->flops < flops);
    assert_true(r->arena.peak <= peak);
    times[3] += 1;
    assert_int_equal(sd_unet_distinct(latents, numbers, times, &q.cond, c), 4);
    free(latents);
    free(context);
    free(pooled);
    free(all);
    free(some);
}

TEST(equal_samples_are_computed_once_until_the_text_is_read)
{
    static const char *const configs[] = {"sd1-small", "sd2-small", "asym-small", "sdxl-unet", "refiner-unet",
                                          "ssd-unet", "tiny-sd-unet", "x4-unet", "lcm-unet"};
    for (size_t i = 0; i < SD_COUNT(configs); i++) {
        network n;
        int64_t dim[4];
        int32_t labels[2];
        float t[2], ids[12];
        network_open(&n, configs[i], SD_PART_UNET, 0, NULL);
        assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
        question q = question_of(&n, dim, t);
        add_inputs(&n, &q, ids, labels);
        for (int m = 1; m <= 2; m++) fewer_samples(&n, &q, dim, m);
        drop(&q);
        network_close(&n);
        temp_clear();
    }
}

/* Two threads with two samples each, which are equal on the first thread alone: the other needs more memory. */
TEST(parts_have_equal_samples_of_their_own)
{
    network n;
    int64_t dim[4], words[4];
    const int as[4] = {0, 0, 0, 1};
    float times[4] = {501, 501, 501, 501};
    network_open(&n, "sd1-small", SD_PART_UNET, 0, NULL);
    assert_int_equal(sd_set_trace(n.ctx, NULL, NULL, NULL), SD_OK);
    n.ctx->cpu.threads = 2;
    float *two = network_input(&n, "latents", dim), *context = network_input(&n, "context", words);
    size_t one = (size_t)(dim[1] * dim[2] * dim[3]), text = (size_t)(words[1] * words[2]);
    float *latents = malloc(4 * one * sizeof *latents), *contexts = malloc(4 * text * sizeof *contexts);
    float *all = malloc(4 * one * sizeof *all), *alone = malloc(one * sizeof *alone);
    for (size_t i = 0; i < 4; i++) {
        memcpy(latents + i * one, two + (size_t)as[i] * one, one * sizeof *latents);
        memcpy(contexts + i * text, context + i % 2 * text, text * sizeof *contexts);
    }
    int h = (int)dim[2], w = (int)dim[3];
    if (sd_unet(n.ctx, 4, h, w, latents, times, contexts, all)) fail_msg("%s", sd_error_text(n.ctx));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(sd_unet(n.ctx, 1, h, w, latents + i * one, times, contexts + i * text, alone), SD_OK);
        assert_memory_equal(alone, all + i * one, one * sizeof *alone);
    }
    free(two);
    free(context);
    free(latents);
    free(contexts);
    free(all);
    free(alone);
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
        unit_test_needing_teardown(NEED_CPU, every_module_is_within_its_bound_precisely, clear),
        unit_test_needing_teardown(NEED_CPU, every_module_is_within_its_bound_with_openblas, clear),
        cmocka_unit_test_teardown(unets_of_other_families_are_within_their_bounds, clear),
        unit_test_needing_teardown(NEED_CPU, unets_of_other_families_are_within_their_bounds_precisely, clear),
        cmocka_unit_test_teardown(files_of_any_kind_give_the_same_bits, clear),
        cmocka_unit_test_teardown(a_batch_is_its_samples, clear),
        cmocka_unit_test_teardown(every_latent_size_works, clear),
        cmocka_unit_test_teardown(residuals_are_added_between_the_middle_and_the_way_up, clear),
        cmocka_unit_test_teardown(keys_and_values_of_a_prompt_are_computed_once, clear),
        cmocka_unit_test_teardown(equal_samples_are_computed_once_until_the_text_is_read, clear),
        cmocka_unit_test_teardown(parts_have_equal_samples_of_their_own, clear),
        cmocka_unit_test_teardown(tensors_that_lack_are_named_together, clear),
    };
    return cmocka_run_group_tests_name("unet", tests, temp_make, temp_remove);
}
