/* test_trace_write.c - a sink that changes what it sees: what of a run it may change, and that the run goes on from
 * there. Tensors of one run are put into another, whose picture becomes the first one's. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "../pipeline.h"

/* ----------------------------------------------------------------------------- one tensor at a time */

static sd_cpu cpu = {.threads = 1};

typedef struct seen { float add; int n, writable, closed; double sum; sd_status end; } seen;

static sd_status add_to_all(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    seen *s = user;
    size_t n = 1;
    for (int i = 0; i < x->nd; i++) n *= (size_t)x->dim[i];
    s->n++;
    s->writable += writable != NULL;
    if (writable) assert_ptr_equal(writable, x->data);
    for (size_t i = 0; i < n && x->data && x->dtype == SD_F32; i++) s->sum += (double)((const float *)x->data)[i];
    for (size_t i = 0; i < n && writable; i++) writable[i] += s->add * (float)(i + 1);
    return e->status;
}

static sd_status note_end(void *user, sd_error *e)
{
    seen *s = user;
    s->closed++;
    s->end = e->status;
    return e->status;
}

static sd_sink sink_of(seen *s, bool writes)
{
    return (sd_sink){.user = s, .see = add_to_all, .close = note_end, .writes = writes};
}

static sd_tensor tensor(float *x, int nd, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (sd_tensor){.nd = nd, .dim = {a, b, c, d}, .dt = SD_F32, .data = x};
}

TEST(what_a_sink_changes_in_pytorchs_order_is_changed_in_ours)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    seen s = {.add = 1};
    const sd_sink sink = sink_of(&s, true);
    /* [N,H,W,C] = [2,1,2,3] and [N,T,C] = [2,2,3]; number i of [N,C,H,W] gets i + 1 */
    const float expected[12] = {1, 3, 5, 2, 4, 6, 7, 9, 11, 8, 10, 12};
    float map[12] = {0}, tokens[12] = {0}, view[12] = {0}, raw[12] = {0};
    assert_int_equal(sd_trace_new(&r.trace, NULL, &sink, &e), SD_OK);
    assert_true(sd_trace_writes(&r));
    sd_trace_tensor(&r, tensor(map, 4, 2, 1, 2, 3), "map");
    assert_memory_equal(map, expected, sizeof map);
    sd_trace_transposed(&r, tensor(view, 3, 2, 2, 3, 0), "view");
    assert_memory_equal(view, expected, sizeof view);
    sd_trace_tensor(&r, tensor(tokens, 3, 2, 2, 3, 0), "tokens");
    sd_trace_numbers(&r, 1, (const int64_t[]){12}, raw, "raw");
    for (int i = 0; i < 12; i++) assert_true(tokens[i] == (float)(i + 1) && raw[i] == (float)(i + 1));
    assert_int_equal(s.writable, 4);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_OK);
    assert_int_equal(s.closed, 1);
    assert_int_equal(s.end, SD_OK);
}

TEST(what_nobody_reads_again_or_nobody_computed_is_not_writable)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    seen s = {.add = 1};
    const sd_sink sink = sink_of(&s, true);
    const float last[3] = {1, 2, 3};
    const int64_t ids[3] = {49406, 320, 49407}, dim[] = {3};
    uint16_t halves[3] = {0};
    assert_int_equal(sd_trace_new(&r.trace, NULL, &sink, &e), SD_OK);
    sd_trace_readonly(&r, SD_F32, 1, dim, last, "step.0.denoised");
    sd_trace_readonly(&r, SD_I64, 1, dim, ids, "tokens");
    sd_trace_readonly(&r, SD_F16, 1, dim, halves, "half");
    r.be = &sd_backend_null;
    sd_trace_tensor(&r, tensor(NULL, 4, 2, 8, 9, 320), "the null backend's");
    sd_trace_tensor(&r, tensor(NULL, 3, 2, 8, 9, 0), "the null backend's");
    assert_int_equal(s.n, 5);
    assert_int_equal(s.writable, 0);
    sd_trace_abort(r.trace);
    assert_int_not_equal(s.end, SD_OK);
}

TEST(sinks_see_what_those_before_them_left_and_only_what_they_asked_for)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    seen before = {0}, writer = {.add = 1}, after = {0}, other = {0};
    const sd_sink sinks[] = {sink_of(&before, false), sink_of(&writer, true), sink_of(&after, false),
                             sink_of(&other, true)};
    float x[2] = {0};
    assert_int_equal(sd_trace_new(&r.trace, NULL, &sinks[0], &e), SD_OK);
    assert_false(sd_trace_writes(&r));
    assert_int_equal(sd_trace_add(r.trace, "a.*", &sinks[1], &e), SD_OK);
    assert_int_equal(sd_trace_add(r.trace, NULL, &sinks[2], &e), SD_OK);
    assert_int_equal(sd_trace_add(r.trace, "b.*", &sinks[3], &e), SD_OK);
    sd_trace_tensor(&r, tensor(x, 1, 2, 0, 0, 0), "a.x");
    assert_float_equal(before.sum, 0, 0);
    assert_float_equal(after.sum, 3, 0);
    assert_int_equal(before.writable + after.writable, 0);
    assert_int_equal(other.n, 0);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_ERR_ARG);   /* nothing was called b.* */
    assert_non_null(strstr(e.text, "\"b.*\" matches none"));
    assert_int_equal(before.closed + writer.closed + after.closed + other.closed, 4);
}

static sd_status refuse(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    (void)user, (void)writable;
    return sd_fail(e, SD_ERR_NUMERIC, "%s is not as it should be", x->name);
}

TEST(a_sinks_error_ends_the_run_and_reaches_no_later_sink)
{
    sd_error e = {0};
    sd_run r = {.err = &e, .be = &sd_backend_cpu, .device = &cpu};
    seen later = {0};
    const sd_sink first = {.see = refuse}, second = sink_of(&later, false);
    float x[1] = {0};
    assert_int_equal(sd_trace_new(&r.trace, NULL, &first, &e), SD_OK);
    assert_int_equal(sd_trace_add(r.trace, NULL, &second, &e), SD_OK);
    sd_trace_tensor(&r, tensor(x, 1, 1, 0, 0, 0), "conv_in");
    assert_int_equal(e.status, SD_ERR_NUMERIC);
    assert_string_equal(e.text, "conv_in is not as it should be");
    assert_int_equal(later.n, 0);
    sd_error_clear(&e);
    assert_int_equal(sd_trace_finish(r.trace, &e), SD_ERR_NUMERIC);
    assert_int_equal(later.end, SD_ERR_NUMERIC);
}

TEST(a_sink_that_found_no_trace_is_closed)
{
    sd_error e = {0};
    seen s = {0};
    const sd_sink sink = sink_of(&s, true);
    sd_trace *t;
    sd_fail(&e, SD_ERR_ARG, "earlier");
    assert_int_equal(sd_trace_new(&t, NULL, &sink, &e), SD_ERR_ARG);
    assert_null(t);
    assert_int_equal(s.closed, 1);
}

/* ---------------------------------------------------------------------------------- whole runs */

/* Tensors of one run by their names, and where they are to go. */
typedef struct store { struct { char name[160]; float *x; size_t n; } item[512]; int n, written, differ; } store;

static size_t numbers_of(const sd_traced *x)
{
    size_t n = 1;
    for (int i = 0; i < x->nd; i++) n *= (size_t)x->dim[i];
    return n;
}

static sd_status record(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    store *s = user;
    size_t n = numbers_of(x);
    (void)writable;
    assert_true(s->n < (int)SD_COUNT(s->item));
    snprintf(s->item[s->n].name, sizeof s->item[s->n].name, "%s", x->name);
    s->item[s->n].x = malloc(n * sizeof(float));
    s->item[s->n].n = n;
    memcpy(s->item[s->n++].x, x->data, n * sizeof(float));
    return e->status;
}

static sd_status inject(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    store *s = user;
    assert_non_null(writable);
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->item[i].name, x->name) != 0) continue;
        assert_int_equal(s->item[i].n, numbers_of(x));
        s->differ += memcmp(writable, s->item[i].x, s->item[i].n * sizeof(float)) != 0;
        s->written++;
        memcpy(writable, s->item[i].x, s->item[i].n * sizeof(float));
    }
    return e->status;
}

static void empty(store *s)
{
    for (int i = 0; i < s->n; i++) free(s->item[i].x);
    *s = (store){0};
}

static sd_image draw(sd_ctx *c, const char *prompt, uint64_t seed, const char *filter, const sd_sink *sink)
{
    sd_params p;
    sd_image image;
    sd_error e = {0};
    sd_params_init(&p);
    p.prompt = prompt;
    p.seed = seed;
    p.sampling.steps = 4;
    p.sampling.sampler = "ddim";
    sd_trace *trace = NULL;
    if (sink) assert_int_equal(sd_trace_new(&trace, filter, sink, &e), SD_OK);
    c->run.trace = trace;
    if (sd_generate(c, &p, &image)) fail_msg("%s", sd_error_text(c));
    c->run.trace = NULL;
    assert_int_equal(sd_trace_finish(trace, &e), SD_OK);
    return image;
}

static bool same(const sd_image *a, const sd_image *b)
{
    return memcmp(a->data, b->data, (size_t)a->width * (size_t)a->height * 3) == 0;
}

/* Each of these alone decides the picture, given what the two runs have in common. */
TEST(a_tensor_of_another_run_brings_its_picture)
{
    static const char *const what[][2] = {
        {"prompt", "prompt_embeds"}, {"prompt", "text_encoder.text_model.final_layer_norm"},
        {"prompt", "step.*.unet.*.attn2.to_?"},   /* of every step, though prompts are computed with once a run */
        {"prompt", "step.*.unet.conv_out"}, {"prompt", "step.*.unet.conv_norm_out"},
        {"prompt", "step.*.noise_pred"}, {"prompt", "step.*.noise_pred_text"}, {"prompt", "latents.4"},
        {"seed", "noise"}, {"seed", "latents.0"}, {"seed", "latents.2"}, {"seed", "vae.post_quant_conv"},
        {"seed", "vae.decoder.mid_block.attentions.0"}, {"seed", "image"}};
    sd_options o;
    sd_ctx *c;
    sd_options_init(&o);
    o.model = "weights/tiny";
    o.threads = 2;
    assert_int_equal(sd_open(&c, &o), SD_OK);
    for (size_t i = 0; i < SD_COUNT(what); i++) {
        bool seed = *what[i][0] == 's';
        store s = {0};
        const sd_sink reader = {.user = &s, .see = record}, writer = {.user = &s, .see = inject, .writes = true};
        sd_image first = draw(c, "a red apple", 7, what[i][1], &reader);
        sd_image plain = draw(c, seed ? "a red apple" : "a blue cup", seed ? 8 : 7, NULL, NULL);
        sd_image changed = draw(c, seed ? "a red apple" : "a blue cup", seed ? 8 : 7, what[i][1], &writer);
        sd_image again = draw(c, seed ? "a red apple" : "a blue cup", seed ? 8 : 7, NULL, NULL);
        if (same(&first, &plain)) fail_msg("%s: the two runs do not differ", what[i][1]);
        if (!same(&first, &changed)) fail_msg("%s: the picture does not follow", what[i][1]);
        if (!same(&plain, &again)) fail_msg("%s: something of it stays", what[i][1]);
        assert_int_equal(s.written, s.n);
        assert_true(s.differ > 0);
        sd_image_free(&first);
        sd_image_free(&plain);
        sd_image_free(&changed);
        sd_image_free(&again);
        empty(&s);
    }
    sd_close(c);
}

/* The prompt's keys in the steps of a run, and what they are made to be in one of them. */
typedef struct keys { float first[64], last[64]; } keys;

static sd_status spoil_one(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    keys *k = user;
    assert_true(numbers_of(x) >= SD_COUNT(k->first));
    if (x->name[5] == '0') memcpy(k->first, x->data, sizeof k->first);
    if (x->name[5] == '3') memcpy(k->last, x->data, sizeof k->last);
    if (x->name[5] == '1') memset(writable, 0, numbers_of(x) * sizeof(float));
    return e->status;
}

TEST(what_is_changed_in_one_step_is_as_it_was_in_the_next)
{
    sd_options o;
    sd_ctx *c;
    keys k;
    const sd_sink sink = {.user = &k, .see = spoil_one, .writes = true};
    sd_options_init(&o);
    o.model = "weights/tiny";
    assert_int_equal(sd_open(&c, &o), SD_OK);
    sd_image changed = draw(c, "a red apple", 7, "step.*.mid_block.*.attn2.to_k", &sink);
    sd_image plain = draw(c, "a red apple", 7, NULL, NULL);
    assert_memory_equal(k.first, k.last, sizeof k.first);
    assert_false(same(&changed, &plain));
    sd_image_free(&changed);
    sd_image_free(&plain);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_sink_changes_in_pytorchs_order_is_changed_in_ours),
        cmocka_unit_test(what_nobody_reads_again_or_nobody_computed_is_not_writable),
        cmocka_unit_test(sinks_see_what_those_before_them_left_and_only_what_they_asked_for),
        cmocka_unit_test(a_sinks_error_ends_the_run_and_reaches_no_later_sink),
        cmocka_unit_test(a_sink_that_found_no_trace_is_closed),
        cmocka_unit_test(a_tensor_of_another_run_brings_its_picture),
        cmocka_unit_test(what_is_changed_in_one_step_is_as_it_was_in_the_next),
    };
    return cmocka_run_group_tests_name("trace write", tests, NULL, NULL);
}
