/* test_profile.c - what sd_set_profile tells of a run, and what the machine can do at most. */
#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "test.h"
#include "../json.h"
#include "../profile.h"
#include "child.h"
#include "network.h"
#include "tempdir.h"

enum { MOST = 4096, THREADS = 2 };
typedef struct seen {
    int n, traced;
    sd_profiled op[MOST];
    char module[MOST][SD_PROFILE_PATH], block[MOST][SD_PROFILE_PATH], names[MOST][128];
} seen;

static void see(void *user, const sd_profiled *op)
{
    seen *s = user;
    assert_true(s->n < MOST);
    s->op[s->n] = *op;
    snprintf(s->module[s->n], SD_PROFILE_PATH, "%s", op->module);
    snprintf(s->block[s->n++], SD_PROFILE_PATH, "%s", op->block);
}

static void hear(void *user, const sd_traced *t)
{
    seen *s = user;
    assert_true(s->traced < MOST);
    snprintf(s->names[s->traced++], sizeof s->names[0], "%s", t->name);
}

static sd_image draw(sd_ctx *c)
{
    sd_params p;
    sd_image image;
    sd_params_init(&p);
    p.prompt = "a red apple";
    p.width = p.height = 64;
    p.sampling.steps = 2;
    p.sampling.sampler = "ddim";
    if (sd_generate(c, &p, &image)) fail_msg("%s", sd_error_text(c));
    return image;
}

/* A run with everything that is told of it. Free both. */
static seen *profiled(sd_image *image)
{
    seen *s = calloc(1, sizeof *s);
    sd_ctx *c = open_tiny(SD_PART_ALL, THREADS);
    assert_non_null(s);
    assert_int_equal(sd_set_profile(c, see, s), SD_OK);
    *image = draw(c);
    sd_close(c);
    return s;
}

TEST(measuring_changes_no_bit)
{
    sd_image with;
    seen *s = profiled(&with);
    sd_ctx *c = open_tiny(SD_PART_ALL, THREADS);
    sd_image without = draw(c);
    assert_true(s->n > 100);
    assert_memory_equal(with.data, without.data, 3 * (size_t)with.width * (size_t)with.height);
    sd_close(c);
    sd_image_free(&with);
    sd_image_free(&without);
    free(s);
}

TEST(nobody_is_called_after_it_was_ended)
{
    seen *s = calloc(1, sizeof *s);
    sd_ctx *c = open_tiny(SD_PART_ALL, THREADS);
    assert_non_null(s);
    assert_int_equal(sd_set_profile(c, see, s), SD_OK);
    assert_int_equal(sd_set_profile(c, NULL, NULL), SD_OK);
    sd_image image = draw(c);
    assert_int_equal(s->n, 0);
    sd_image_free(&image);
    sd_close(c);
    free(s);
}

/* Each stage's passes are numbered, and their operations take no longer than the pass. */
TEST(operations_add_up_to_less_than_their_pass)
{
    static const struct { const char *stage; int passes; } expected[] = {
        {"text_encoder", 1}, {"unet", 2}, {"vae_decode", 1}};
    sd_image image;
    seen *s = profiled(&image);
    double sum = 0;
    int passes[SD_COUNT(expected)] = {0};
    for (int i = 0; i < s->n; i++) {
        const sd_profiled *op = &s->op[i];
        size_t k = 0;
        while (k < SD_COUNT(expected) && strcmp(op->stage, expected[k].stage) != 0) k++;
        assert_true(k < SD_COUNT(expected));
        assert_int_equal(op->pass, passes[k]);
        assert_true(op->seconds >= 0);
        if (strcmp(op->operation, "stage") == 0) {
            assert_true(sum > 0 && sum <= op->seconds);
            sum = 0;
            passes[k]++;
        } else {
            sum += op->seconds;
            assert_true(op->bytes > 0);
        }
    }
    for (size_t k = 0; k < SD_COUNT(expected); k++) assert_int_equal(passes[k], expected[k].passes);
    sd_image_free(&image);
    free(s);
}

/* What a block makes is written where it stays: of the networks that draw, only conv_out and the upsamplers move it.
 * (A skip of one sample is copied for the two that the UNet has by then.) */
TEST(blocks_move_nothing)
{
    sd_image image;
    seen *s = profiled(&image);
    int blocks = 0;
    for (int i = 0; i < s->n; i++) {
        bool block = strstr(s->module[i], "resnets") || strstr(s->module[i], "conv_norm_out"),
            all = s->op[i].dim[0] == 2 || !strcmp(s->op[i].stage, "vae_decode");
        assert_false(block && all && !strcmp(s->op[i].operation, "move"));
        blocks += block;
    }
    assert_true(blocks > 0);
    sd_image_free(&image);
    free(s);
}

TEST(every_multiplication_belongs_to_an_operation)
{
    seen *s = calloc(1, sizeof *s);
    sd_ctx *c = open_tiny(SD_PART_ALL, THREADS);
    double flops = 0;
    assert_non_null(s);
    assert_int_equal(sd_set_profile(c, see, s), SD_OK);
    sd_image image = draw(c);
    for (int i = 0; i < s->n; i++) flops += s->op[i].flops;
    assert_true(flops > 1e8 && fabs(flops - c->run.flops) < 1e-9 * flops);
    sd_image_free(&image);
    sd_close(c);
    free(s);
}

/* An operation with weights is found in a trace under its stage and its module; one without has a module that is the
 * beginning of a name there; and every module lies in its block. */
TEST(modules_are_named_as_in_a_trace)
{
    seen *s = calloc(1, sizeof *s);
    sd_ctx *c = open_tiny(SD_PART_ALL, THREADS);
    assert_non_null(s);
    assert_int_equal(sd_set_profile(c, see, s), SD_OK);
    assert_int_equal(sd_set_trace(c, NULL, hear, s), SD_OK);
    sd_image image = draw(c);
    for (int i = 0; i < s->n; i++) {
        const sd_profiled *op = &s->op[i];
        char name[2 * SD_PROFILE_PATH], step[32];
        bool found = false;
        if (strcmp(op->operation, "stage") == 0) continue;
        snprintf(step, sizeof step, "step.%d.unet.", op->pass);
        const char *stage = *op->stage == 't' ? "text_encoder." : *op->stage == 'v' ? "vae." : step;
        snprintf(name, sizeof name, "%s%s", stage, s->module[i]);
        size_t n = strlen(name) + (op->weight_bytes > 0);   /* with the end of the string, or without */
        for (int k = 0; k < s->traced && !found; k++) found = strncmp(s->names[k], name, n) == 0;
        if (!found && strcmp(op->operation, "embed") != 0) fail_msg("%s (%s) is in no trace", name, op->operation);
        assert_int_equal(strncmp(s->module[i], s->block[i], strlen(s->block[i])), 0);
    }
    sd_image_free(&image);
    sd_close(c);
    free(s);
}

static const sd_profiled *find(const seen *s, const char *module, const char *operation)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->module[i], module) == 0 && strcmp(s->op[i].operation, operation) == 0) return &s->op[i];
    fail_msg("%s of %s was not told", operation, module);
    return NULL;
}

/* Shapes of weights/tiny: 48 channels in a 8x8 picture of latents, twice for guidance. */
TEST(an_operation_tells_its_shape_and_its_work)
{
    sd_image image;
    seen *s = profiled(&image);
    const sd_profiled *conv = find(s, "down_blocks.0.resnets.0.conv1", "conv2d");
    const sd_profiled *attention = find(s, "mid_block.attentions.0.transformer_blocks.0.attn1", "attention");
    const int64_t shape[] = {1, 8, 8, 48};   /* both samples are equal there: one is computed */
    assert_int_equal(conv->nd, 4);
    assert_memory_equal(conv->dim, shape, sizeof shape);
    assert_true(conv->flops == 2.0 * 64 * 48 * 48 * 9);
    assert_true(conv->bytes == 2 * 4.0 * 64 * 48);
    assert_true(conv->weight_bytes == 48 * 48 * 9 * 2 || conv->weight_bytes == 48 * 48 * 9 * 4);
    assert_int_equal(attention->nd, 3);
    assert_true(attention->bytes == 4 * 4.0 * (double)(attention->dim[0] * attention->dim[1] * attention->dim[2]));
    assert_true(attention->weight_bytes == 0);
    sd_image_free(&image);
    free(s);
}

/* All parts of a minimal algorithm's convolution are told, and are no more than its threads had time for. */
TEST(a_convolution_by_winograd_tells_its_parts)
{
    sd_image image;
    seen *s = profiled(&image);
    int found = 0;
    for (int i = 0; i < s->n; i++) {
        const sd_profiled *op = &s->op[i];
        double sum = 0;
        for (int k = 0; k < SD_PROFILE_PARTS; k++) sum += op->part[k];
        assert_true(sum <= THREADS * op->seconds);
        if (!strstr(op->algorithm, "winograd")) continue;
        found++;
        assert_true(op->share > 0 && op->share < 1);
        for (int k = 0; k < SD_PROFILE_PARTS; k++) assert_true(op->part[k] > 0);
    }
    assert_true(found > 0);
    sd_image_free(&image);
    free(s);
}

/* ---- roofs */

TEST(the_lower_roof_holds)
{
    const sd_roofs r = {
        .threads = 2, .peak_one = 100, .peak = 200,
        .level = {{"L1", 1000, 400, 300}, {"L2", 10000, 200, 210}, {"L3", 0, 0, 0}, {"memory", 0, 10, 8}}};
    assert_true(fabs(sd_roof_seconds(&r, 200e9, 0, 0) - 1) < 1e-12);
    assert_true(fabs(sd_roof_seconds(&r, 0, 1000, 0) - 1000 / 400e9) < 1e-18);
    assert_true(fabs(sd_roof_seconds(&r, 0, 1001, 0) - 1001 / 210e9) < 1e-18);    /* L2, where copying is faster */
    assert_true(fabs(sd_roof_seconds(&r, 0, 20000, 0) - 20000 / 10e9) < 1e-18);   /* there is no L3 */
    assert_true(fabs(sd_roof_seconds(&r, 0, 1000, 500) - (1000 / 400e9 + 500 / 10e9)) < 1e-18);
    assert_true(fabs(sd_roof_seconds(&r, 1e6, 1000, 500) - 1e6 / 200e9) < 1e-18); /* products take longer than moving */
}

TEST(a_machine_has_a_peak_and_bandwidths)
{
    sd_ctx *c = open_tiny(SD_PART_TOKENIZER, THREADS);
    sd_roofs r;
    sd_machine m;
    sd_get_machine(&m);
    assert_int_equal(sd_measure_roofs(c, 0.002, &r), SD_OK);
    assert_int_equal(r.threads, c->cpu.threads);   /* one in a build without OpenMP */
    assert_true(r.peak > 0 && r.peak_one > 0);
    for (int i = 0; i < 4; i++) {
        assert_non_null(r.level[i].name);
        assert_true(isfinite(r.level[i].read) && isfinite(r.level[i].copy));
    }
    assert_true(r.level[0].bytes == (size_t)r.threads * m.l1 && r.level[0].read > 0);
    assert_true(r.level[3].read > 0 && r.level[3].copy > 0);
    assert_true(m.cores >= 1 && *m.kernels && *m.caches_from);
    sd_close(c);
}

/* Threads that share cores are not faster than the cores. A factor of two is for neighbours of this machine, which may
 * slow the measurement of one thread alone. */
TEST(more_threads_than_cores_have_no_higher_peak)
{
    sd_roofs r;
    int cores = 1;
#ifdef _OPENMP
    cores = omp_get_num_procs();
#endif
    sd_ctx *c = open_tiny(SD_PART_TOKENIZER, cores < 128 ? 8 * cores : 1024);
    assert_int_equal(sd_measure_roofs(c, 0.01, &r), SD_OK);
    if (r.peak > 2 * cores * r.peak_one)
        fail_msg("%d threads on %d cores: %g GFLOP/s, one alone %g", r.threads, cores, r.peak, r.peak_one);
    sd_close(c);
}

/* ---- sd --profile */

#define DRAW "-p", "a red apple", "-s", "1", "-W", "64", "-H", "64", "--steps", "3", "--sampling-method", "ddim", "-q"

TEST(as_text_it_names_blocks_kinds_and_stages)
{
    RUN(DRAW, "-o", temp_path("a.ppm"));
    expect_success("without");
    RUN(DRAW, "-o", temp_path("b.ppm"), "--profile");
    expect_success("as text");
    static const char *const said[] = {
        "Products at most: ", "down_blocks.0.resnets.0 ", "decoder.mid_block.attentions.0 ", "The longest operations",
        "By kind", "attention ", "By stage", "unet                 3 "};
    for (size_t i = 0; i < SD_COUNT(said); i++)
        if (!strstr(ran.out, said[i])) fail_msg("\"%s\" is not in\n%s", said[i], ran.out);
    assert_true(same_files(temp_path("a.ppm"), temp_path("b.ppm")));
    temp_clear();
}

static double number(const sd_json *j, const char *key)
{
    const sd_json *v = sd_json_get(j, key);
    if (!sd_json_is(v, SD_JSON_NUMBER)) fail_msg("%s is no number", key);
    return v->number;
}

static const char *text(const sd_json *j, const char *key)
{
    return sd_json_get(j, key)->text;
}

static void expect_stage(const sd_json *stage, const sd_json *operations, const char *name, int passes)
{
    const sd_json *op;
    double sum = 0, whole = number(sd_json_get(stage, "operations"), "total");
    assert_string_equal(text(stage, "stage"), name);
    assert_true(number(stage, "passes") == passes);
    SD_JSON_EACH(op, operations) {
        if (strcmp(text(op, "stage"), name) != 0) continue;
        sum += number(op, "total");
        /* what a later pass finds done was done in the first one */
        assert_true(number(op, "passes") == passes || number(op, "passes") == 1);
        assert_true(number(op, "first") > 0 && number(op, "median") > 0 && number(op, "roof") > 0);
        assert_true(number(op, "flops_made") <= number(op, "flops"));
    }
    assert_true(fabs(sum - whole) < 1e-5 * whole && whole <= number(stage, "seconds") * 1.00001);
}

TEST(as_json_it_has_every_operation_in_order)
{
    sd_error e = {0};
    RUN(DRAW, "-o", temp_path("a.ppm"), "--profile", "json", "--timings", "json");
    expect_success("as JSON");
    char *line = strstr(ran.out, "{\"profile\":"), *end = line ? strchr(line, '\n') : NULL;
    assert_non_null(end);
    assert_int_equal(strncmp(end + 1, "{\"load\":", 8), 0);   /* the timings' line stays the last one */
    sd_json *root = sd_json_parse(line, (size_t)(end - line), "the profile", &e);
    if (!root) fail_msg("%s", e.text);
    const sd_json *p = sd_json_get(root, "profile");
    const sd_json *operations = sd_json_get(p, "operations");
    const sd_json *stages = sd_json_get(p, "stages");
    static const struct { const char *name; int passes; } expected[] = {
        {"text_encoder", 1}, {"unet", 3}, {"vae_decode", 1}};
    assert_true(number(p, "peak_gflops") > 0);
    assert_int_equal(sd_json_count(stages), SD_COUNT(expected));
    for (int i = 0; i < (int)SD_COUNT(expected); i++)
        expect_stage(sd_json_item(stages, i), operations, expected[i].name, expected[i].passes);
    assert_string_equal(text(sd_json_item(operations, 0), "operation"), "embed");
    assert_string_equal(text(sd_json_item(operations, 1), "module"), "text_model.encoder.layers.0.layer_norm1");
    sd_json_free(root);
    temp_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measuring_changes_no_bit),
        cmocka_unit_test(nobody_is_called_after_it_was_ended),
        cmocka_unit_test(operations_add_up_to_less_than_their_pass),
        cmocka_unit_test(blocks_move_nothing),
        cmocka_unit_test(every_multiplication_belongs_to_an_operation),
        cmocka_unit_test(modules_are_named_as_in_a_trace),
        cmocka_unit_test(an_operation_tells_its_shape_and_its_work),
        cmocka_unit_test(a_convolution_by_winograd_tells_its_parts),
        cmocka_unit_test(the_lower_roof_holds),
        cmocka_unit_test(a_machine_has_a_peak_and_bandwidths),
        cmocka_unit_test(more_threads_than_cores_have_no_higher_peak),
        cmocka_unit_test(as_text_it_names_blocks_kinds_and_stages),
        cmocka_unit_test(as_json_it_has_every_operation_in_order),
    };
    return cmocka_run_group_tests(tests, child_setup, child_teardown);
}
