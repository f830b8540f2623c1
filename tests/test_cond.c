/* test_cond.c - what the UNet is told: a plan's choice of layers, norms and pooled vectors, from one text encoder or
 * two, side by side and repeated for the batch. */
#define _XOPEN_SOURCE 700
#include <math.h>
#include <unistd.h>

#include "test.h"
#include "../cond.h"
#include "tempdir.h"

enum { WIDEST = 128, MOST = SD_TOKENS * WIDEST };

static sd_ctx *open_texts(const char *model)
{
    sd_options o;
    sd_ctx *c;
    sd_options_init(&o);
    o.model = model;
    o.parts = SD_PART_TOKENIZER | SD_PART_TEXT;
    if (sd_open(&c, &o)) fail_msg("%s", sd_error_text(c));
    return c;
}

static sd_ctx *open_one(void) { return open_texts("weights/tiny"); }

/* The tiny model's text encoder, twice. */
static sd_ctx *open_two(void)
{
    static const char *const links[][2] = {{"text_encoder", "text_encoder"}, {"text_encoder", "text_encoder_2"},
                                           {"tokenizer", "tokenizer"}, {"tokenizer", "tokenizer_2"}};
    char target[4096 + 64], *tiny = realpath("weights/tiny", NULL), model[256];
    assert_non_null(tiny);
    temp_clear();
    for (size_t i = 0; i < SD_COUNT(links); i++) {
        snprintf(target, sizeof target, "%.4096s/%s", tiny, links[i][0]);
        assert_int_equal(symlink(target, temp_path(links[i][1])), 0);
    }
    free(tiny);
    snprintf(model, sizeof model, "%s", temp_path(""));
    return open_texts(model);
}

typedef struct traced { int n, tokens, embeds, pooled, ids; float layer[2 * MOST], norm[2 * MOST]; } traced;
static const char *layer_name;   /* of the second encoder, whose result is recorded */

static void look(void *user, const sd_traced *x)
{
    traced *t = user;
    t->n++;
    t->tokens += strcmp(x->name, "tokens") == 0 || strcmp(x->name, "tokens_2") == 0;
    t->embeds += strcmp(x->name, "prompt_embeds") == 0;
    t->pooled += strcmp(x->name, "pooled_prompt_embeds") == 0;
    t->ids += strcmp(x->name, "add_time_ids") == 0;
    size_t bytes = (size_t)(x->dim[0] * x->dim[1] * x->dim[2]) * sizeof(float);
    if (x->nd == 3 && bytes <= sizeof t->layer && strcmp(x->name, layer_name) == 0) memcpy(t->layer, x->data, bytes);
    if (x->nd == 3 && bytes <= sizeof t->norm && strcmp(x->name, "text_encoder_2.text_model.final_layer_norm") == 0)
        memcpy(t->norm, x->data, bytes);
}

static const char *const texts[] = {"", "a red apple"};

TEST(one_encoder_gives_what_sd_encode_text_gives_repeated_for_the_batch)
{
    sd_ctx *c = open_one();
    const sd_cond_plan *plan = sd_cond_plan_of(&c->model);
    size_t one = SD_TOKENS * (size_t)sd_cond_width(&c->model, plan);
    float *alone = malloc(2 * one * sizeof *alone);
    sd_prompts p = {0};
    for (int i = 0; i < 2; i++) assert_int_equal(sd_encode_text(c, texts[i], 2, alone + (size_t)i * one, one), SD_OK);
    const sd_prompts_in in = {.text = texts, .n = 2, .repeat = 3, .clip_skip = 2};
    assert_int_equal(sd_prompts_encode(c, &p, plan, &in), SD_OK);
    assert_int_equal(p.cond.n, 6);
    assert_int_equal(p.cond.tokens, SD_TOKENS);
    assert_null(p.cond.pooled);
    assert_null(p.cond.ids);
    assert_true(p.cond.version != 0);
    for (size_t i = 0; i < 6; i++)
        assert_memory_equal(p.cond.context + i * one, alone + i / 3 * one, one * sizeof *alone);
    sd_prompts_free(&p);
    free(alone);
    sd_close(c);
}

/* As SDXL: the first encoder's columns, then the second one's; its vector of the whole text; numbers for all. */
TEST(two_encoders_stand_side_by_side_and_each_gives_what_the_plan_says)
{
    enum { P = 5, B = 2, IDS = 6 };
    static float ids[2][IDS] = {{1024, 768, 0, 16, 1024, 1024}, {512, 640, 8, 0, 768, 1024}};
    static const sd_cond_plan plan = {.encoders = 2, .text = {{.final_norm = true}, {.from_end = 1, .pooled = true}},
                                      .n_ids = IDS};
    sd_ctx *c = open_two(), *alone = open_one();
    traced *t = calloc(1, sizeof *t);
    sd_clip *second = sd_model_module(&c->model, SD_PART_TEXT, 1)->net;
    size_t w = (size_t)second->cfg.width, one = SD_TOKENS * w;
    float projection[P * WIDEST], *first = malloc(2 * one * sizeof *first);
    char name[64];
    assert_true(w <= WIDEST);
    assert_int_equal(sd_cond_width(&c->model, &plan), 2 * w);
    for (size_t i = 0; i < P * w; i++) projection[i] = (float)sin((double)i);
    second->cfg.projection = P;
    second->projection = (sd_tensor){.nd = 2, .dim = {P, (int64_t)w}, .dt = SD_F32, .data = projection, .name = "p"};
    for (int i = 0; i < 2; i++)
        assert_int_equal(sd_encode_text(alone, texts[i], 0, first + (size_t)i * one, one), SD_OK);
    snprintf(name, sizeof name, "text_encoder_2.text_model.encoder.layers.%d", second->cfg.layers - 2);
    layer_name = name;
    sd_prompts p = {0};
    assert_int_equal(sd_set_trace(c, NULL, look, t), SD_OK);
    const sd_prompts_in in = {.text = texts, .n = 2, .repeat = B, .ids = ids};
    if (sd_prompts_encode(c, &p, &plan, &in)) fail_msg("%s", sd_error_text(c));
    for (size_t i = 0; i < 2 * B; i++)
        for (size_t k = 0; k < SD_TOKENS; k++) {
            const float *row = p.cond.context + (i * SD_TOKENS + k) * 2 * w;
            assert_memory_equal(row, first + i / B * one + k * w, w * sizeof *row);
            assert_memory_equal(row + w, t->layer + i / B * one + k * w, w * sizeof *row);   /* not normalised */
        }
    /* "": BOS EOS EOS ..; the other one: BOS, three words, EOS */
    const size_t end[] = {1, 4};
    assert_int_equal(p.cond.pooled_width, P);
    for (size_t i = 0; i < 2 * B; i++)
        for (size_t o = 0; o < P; o++) {
            double sum = 0;
            for (size_t k = 0; k < w; k++)
                sum += (double)projection[o * w + k] * (double)t->norm[i / B * one + end[i / B] * w + k];
            assert_true(fabs(sum - (double)p.cond.pooled[i * P + o]) < 1e-4);
        }
    for (size_t i = 0; i < 2 * B; i++) assert_memory_equal(p.cond.ids + i * IDS, ids[i / B], sizeof ids[0]);
    assert_int_equal(t->tokens, 2);
    assert_int_equal(t->embeds + t->pooled + t->ids, 3);
    sd_prompts_free(&p);
    free(first);
    free(t);
    sd_close(alone);
    sd_close(c);
}

TEST(a_layer_that_the_encoder_has_not_and_an_encoder_that_the_model_has_not_are_errors)
{
    static const sd_cond_plan plan = {.encoders = 2, .text = {{.final_norm = true}, {.from_end = 1}}};
    sd_ctx *c = open_two();
    sd_prompts p = {0};
    int layers = c->model.text->cfg.layers;
    const sd_prompts_in deep = {.text = texts, .n = 2, .repeat = 1, .clip_skip = layers};
    const sd_prompts_in plain = {.text = texts, .n = 2, .repeat = 1};
    assert_int_equal(sd_prompts_encode(c, &p, &plan, &deep), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "clip skip must be 0 to"));
    sd_prompts_free(&p);
    sd_close(c);
    c = open_one();
    assert_int_equal(sd_prompts_encode(c, &p, &plan, &plain), SD_ERR_MISSING);
    sd_prompts_free(&p);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_encoder_gives_what_sd_encode_text_gives_repeated_for_the_batch),
        cmocka_unit_test(two_encoders_stand_side_by_side_and_each_gives_what_the_plan_says),
        cmocka_unit_test(a_layer_that_the_encoder_has_not_and_an_encoder_that_the_model_has_not_are_errors),
    };
    return cmocka_run_group_tests_name("cond", tests, temp_make, temp_remove);
}
