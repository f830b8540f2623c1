/* test_compare.c - sd compare from outside: the first divergence of two traces, and no alarm where there is none; what
 * only one side has; order by names. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "test.h"
#include "../json.h"
#include "../tensors.h"
#include "child.h"

/* --------------------------------------------------------------------------------------- made traces */

enum { TENSORS = 40, NUMBERS = 96, AT = 20 };

/* A trace of TENSORS tensors of a network, and what is done to them. */
typedef struct made {
    float x[TENSORS][NUMBERS];
    char name[TENSORS][96];
    sd_traced t[TENSORS];
} made;

/* Each number is wrong by a share `error` of itself, this way and that, so the relative L2 error is `error`. */
static void spoil(made *m, int i, double error)
{
    for (int k = 0; k < NUMBERS; k++) m->x[i][k] *= (float)(1 + (k % 2 ? error : -error));
}

static made *make(double error)
{
    made *m = calloc(1, sizeof *m);
    assert_non_null(m);
    uint32_t seed = 12345;
    for (int i = 0; i < TENSORS; i++) {
        for (int k = 0; k < NUMBERS; k++) {
            seed = seed * 1664525u + 1013904223u;
            m->x[i][k] = (float)((double)(seed >> 8) / (1 << 23) - 1) * (float)(i + 1);
        }
        snprintf(m->name[i], sizeof m->name[i], "step.0.unet.down_blocks.%d.resnets.%d.%s", i / 10, i / 5 % 2,
                 (const char *const[]){"norm1", "conv1", "time_emb_proj", "norm2", "conv2"}[i % 5]);
        m->t[i] = (sd_traced){m->name[i], SD_F32, 4, {1, 6, 4, 4}, m->x[i]};
        spoil(m, i, error);
    }
    return m;
}

/* A path beside what the program writes; as long as the next fifteen. */
static const char *file(const char *name)
{
    static char path[16][512];
    static int next;
    return snprintf(path[next++ % 16], sizeof *path, "%s", in_work("%s", name)) > 0 ? path[(next - 1) % 16] : "";
}

static const char *put(const char *name, const sd_traced *t, size_t n)
{
    sd_error e = {0};
    const char *path = file(name);
    if (sd_safetensors_write(path, t, n, &e)) fail_msg("%s", e.text);
    return path;
}

static const char *put_made(const char *name, made *m)
{
    const char *path = put(name, m->t, TENSORS);
    free(m);
    return path;
}

static const char *reference(void) { return put_made("ref.safetensors", make(0)); }

/* Compares, and expects this exit code and this in the first line. */
static void expect(const char *ref, const char *mine, int code, const char *first_line)
{
    RUN("compare", ref, mine);
    char *end = strchr(ran.out, '\n');
    if (ran.code != code) fail_msg("exit code %d: %s%.300s", ran.code, ran.err, ran.out);
    if (!end || !strstr(ran.out, first_line) || strstr(ran.out, first_line) > end)
        fail_msg("not \"%s\": %.800s", first_line, ran.out);
}

/* The same anywhere in the text, however its lines are broken. */
static void expect_words(const char *words)
{
    static char flat[sizeof ran.out];
    size_t n = 0;
    for (const char *c = ran.out; *c; c++)
        if ((*c != ' ' && *c != '\n') || (n && flat[n - 1] != ' ')) flat[n++] = *c == '\n' ? ' ' : *c;
    flat[n] = 0;
    if (!strstr(flat, words)) fail_msg("not \"%s\": %.2000s", words, ran.out);
}

static sd_json *answer(void)
{
    sd_error e = {0};
    sd_json *j = sd_json_parse(ran.out, strlen(ran.out), "the answer", &e);
    if (!j) fail_msg("%s: %.300s", e.text, ran.out);
    return j;
}

static double number_at(const sd_json *j, const char *name)
{
    const sd_json *x = sd_json_get(j, name);
    if (!sd_json_is(x, SD_JSON_NUMBER)) fail_msg("%s is no number but %s", name, sd_json_kind(x));
    return x->number;
}

/* -------------------------------------------------------------------------------------- the verdict */

TEST(the_same_trace_does_not_diverge)
{
    expect(reference(), reference(), 0, "no divergence: 40 tensors agree, every number is the same");
}

/* What correct float32 runs do: errors of 3e-7, and one tensor that is 7e-5 away and hands nothing on. */
TEST(errors_of_float32_raise_no_alarm)
{
    made *m = make(3e-7);
    spoil(m, AT, 7e-5);
    expect(reference(), put_made("clean.safetensors", m), 0, "no divergence: 40 tensors agree, the largest");
}

/* An error of 2e-5, smaller than that one, stays, and so is none of float32's. */
TEST(a_smaller_error_that_stays_is_a_divergence)
{
    made *m = make(3e-7);
    for (int i = AT; i < TENSORS; i++) spoil(m, i, 2e-5);
    expect(reference(), put_made("bad.safetensors", m), 1,
           "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1: relative L2 error 2.0");
    expect_words("the last before it that agrees: step.0.unet.down_blocks.1.resnets.1.conv2");
    expect_words("40 compared, 20 diverge");
}

/* A large error is one wherever it is, even in the last tensor. */
TEST(a_large_error_is_a_divergence_alone)
{
    made *m = make(3e-7);
    spoil(m, TENSORS - 1, 1e-3);
    expect(reference(), put_made("last.safetensors", m), 1, "down_blocks.3.resnets.1.conv2: relative L2 error 0.001");
    m = make(3e-7);
    spoil(m, AT, 1e-3);
    expect(reference(), put_made("alone.safetensors", m), 1, "down_blocks.2.resnets.0.norm1: relative L2 error 0.001");
}

/* Copied numbers are to be the same; 1e-5 is much there. */
TEST(inputs_have_a_bound_of_their_own)
{
    static float noise[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4.0001f}};
    static int64_t tokens[2][3] = {{49406, 320, 49407}, {49406, 320, 49407}};
    sd_traced t[2] = {{"tokens", SD_I64, 2, {1, 3}, tokens[0]}, {"noise", SD_F32, 1, {4}, noise[0]}};
    const char *ref = put("inputs.safetensors", t, 2);
    t[1].data = noise[1];
    expect(ref, put("noise.safetensors", t, 2), 1, "diverges first at noise: ");
    expect_words("in what the run begins from");
    tokens[1][1] = 321;
    t[0].data = tokens[1];
    expect(ref, put("tokens.safetensors", t, 2), 1, "diverges first at tokens: ");
    expect_words("1 of 3 numbers differ, at most by 1, at [0,1], REF 320, MINE 321");
}

TEST(numbers_that_are_not_finite_on_one_side_diverge)
{
    made *m = make(0);
    m->x[AT][7] = (float)NAN;
    expect(reference(), put_made("nan.safetensors", m), 1,
           "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1");
    expect_words("NaN or infinite are 0 of REF's 96 numbers, 1 of MINE's");
}

/* Also where the bytes of both are the same, which is quickly seen. */
TEST(nan_and_infinities_in_both_are_told_in_the_first_line)
{
    made *r = make(0), *m = make(0);
    r->x[AT][7] = m->x[AT][7] = (float)NAN;
    r->x[AT + 2][7] = m->x[AT + 2][7] = -(float)INFINITY;
    m->x[AT + 2][8] *= 1 + 1e-6f;
    const char *ref = put_made("nan.safetensors", r), *mine = put_made("nan-mine.safetensors", m);
    expect(ref, ref, 0, ", every number is the same, but 2 tensors have NaN or infinities in both, first "
                        "step.0.unet.down_blocks.2.resnets.0.norm1");
    expect(ref, mine, 0, ", but 2 tensors have NaN or infinities in both, first "
                         "step.0.unet.down_blocks.2.resnets.0.norm1");
    RUN("compare", "--json", ref, ref);
    sd_json *j = answer();
    assert_int_equal(number_at(sd_json_item(sd_json_get(j, "compared"), 0), "not_finite_in_both"), 2);
    sd_json_free(j);
}

TEST(an_infinity_is_outside_any_tolerance_of_another_number)
{
    made *r = make(0), *m = make(0);
    r->x[AT][7] = (float)INFINITY;
    m->x[AT][7] = -(float)INFINITY;
    r->x[AT][8] = (float)INFINITY;
    expect(put_made("inf.safetensors", r), put_made("inf-mine.safetensors", m), 1, "diverges first at ");
    RUN("compare", "--json", file("inf.safetensors"), file("inf-mine.safetensors"));
    sd_json *j = answer();
    const sd_json *c = sd_json_item(sd_json_get(j, "compared"), 0);
    assert_int_equal(number_at(sd_json_item(sd_json_get(c, "tensors"), AT), "outside"), 2);
    sd_json_free(j);
}

TEST(equal_errors_are_all_among_the_largest)
{
    made *m = make(0);
    for (int i = 0; i < TENSORS; i++)
        for (int k = 0; k < NUMBERS && (i == 3 || i == 9); k++) m->x[i][k] = 0;
    RUN("compare", reference(), put_made("equal.safetensors", m));
    const char *worst = strstr(ran.out, "the largest errors");
    assert_non_null(worst);
    assert_non_null(strstr(worst, "step.0.unet.down_blocks.0.resnets.0.norm2"));
    assert_non_null(strstr(worst, "step.0.unet.down_blocks.0.resnets.1.conv2"));
}

TEST(noise_with_nan_is_not_called_noise_of_another_seed)
{
    made *m = make(0), *r = make(0);
    snprintf(m->name[0], sizeof m->name[0], "noise");
    snprintf(r->name[0], sizeof r->name[0], "noise");
    for (int side = 0; side < 2; side++) {
        r->x[0][3] = r->x[0][4] = NAN;
        const char *broken = put("nan.safetensors", r->t, TENSORS), *good = put("good.safetensors", m->t, TENSORS);
        expect(side ? good : broken, side ? broken : good, 1, "diverges first at noise");
        expect_words(side ? "noise: NaN or infinite are 0 of REF's 96 numbers, 2 of MINE's"
                          : "noise: NaN or infinite are 2 of REF's 96 numbers, 0 of MINE's");
        assert_null(strstr(ran.out, "another seed"));
    }
    free(m);
    free(r);
}

TEST(a_scale_is_said)
{
    made *m = make(0);
    for (int k = 0; k < NUMBERS; k++) m->x[AT][k] = 0.18215f * m->x[AT][k];
    expect(reference(), put_made("scaled.safetensors", m), 1, "diverges first at ");
    expect_words("a = 0.18215");
    expect_words("MINE is scaled or shifted");
}

/* Where in the first bad tensor the error is: in its last row and column, as a missing padding makes it. */
TEST(an_error_at_the_border_is_told_from_one_inside)
{
    made *m = make(0);
    for (int k = 0; k < NUMBERS; k++)
        if (k % 4 == 3 || k % 16 / 4 == 3) m->x[AT][k] *= 1.1f;
    expect(reference(), put_made("border.safetensors", m), 1, "diverges first at ");
    expect_words("at the border it is larger: bottom, right, and inside there is none, as another padding makes it");
    m = make(0);
    spoil(m, AT, 1e-2);
    expect(reference(), put_made("inside.safetensors", m), 1, "diverges first at ");
    if (strstr(ran.out, "padding")) fail_msg("%s", ran.out);
}

TEST(an_error_in_one_channel_is_told_also_from_channels_last)
{
    for (int last = 0; last < 2; last++) {
        made *m = make(3e-7);
        for (int k = 2 * 16; k < 3 * 16; k++) m->x[AT][k] *= 0.99f;
        for (int i = 0; i < TENSORS && last; i++) {
            float x[NUMBERS];
            memcpy(x, m->x[i], sizeof x);
            for (int k = 0; k < NUMBERS; k++) m->x[i][k % 16 * 6 + k / 16] = x[k];
            memcpy(m->t[i].dim, (const int64_t[8]){1, 4, 4, 6}, sizeof m->t[i].dim);
        }
        expect(reference(), put_made("channel.safetensors", m), 1, "diverges first at ");
        expect_words("it stands out in 1 of 6: 2");
        expect_words("16 of 96 are outside 1e-05 + 0.001 |REF|");
    }
    RUN("compare", "--json", "--rtol", "0.02", reference(), file("channel.safetensors"));
    sd_json *j = answer();
    const sd_json *c = sd_json_item(sd_json_get(j, "compared"), 0), *t = sd_json_item(sd_json_get(c, "tensors"), AT);
    const sd_json *channels = sd_json_get(sd_json_get(c, "in_first"), "channels");
    assert_int_equal(number_at(t, "outside"), 0);
    assert_int_equal(sd_json_count(channels), 6);
    assert_true(fabs(sd_json_item(channels, 2)->number - 0.01) < 1e-5);
    assert_true(sd_json_item(channels, 3)->number < 1e-6);
    sd_json_free(j);
}

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) n++;
    return n;
}

/* One page for each MINE, in which every tensor has a point and a row, and nothing is from elsewhere. */
TEST(a_page_has_all_tensors_and_nothing_from_elsewhere)
{
    made *m = make(3e-7);
    for (int i = AT; i < TENSORS; i++) spoil(m, i, 1e-2);
    snprintf(m->name[3], sizeof m->name[3], "<b>&");
    const char *ref = reference(), *mine = put_made("page.safetensors", m), *page = file("page.html");
    spill(file("notes.html"), "mine", 4);
    const char *const kept[] = {mine, file("./page.safetensors"), file("notes.html")};
    for (size_t i = 0; i < SD_COUNT(kept); i++) {   /* nothing but a page is written over */
        RUN("compare", "--html", kept[i], ref, mine);
        if (ran.code != 2 || !strstr(ran.err, "is there and is no page")) fail_msg("%s: %.300s", kept[i], ran.err);
    }
    RUN("compare", "--html", page, ref, mine, ref);
    assert_int_equal(ran.code, 1);
    const char *second = file("page-2.html"), *pages[] = {page, second};
    for (int i = 0; i < 2; i++) {
        sd_error e = {0};
        char *text;
        size_t n;
        if (sd_read_file(pages[i], 1 << 24, &text, &n, &e)) fail_msg("%s", e.text);
        assert_int_equal(count_of(text, "<circle"), 2 * (i ? TENSORS : TENSORS - 1));   /* errors, and in levels */
        assert_int_equal(count_of(text, "<circle class=bad"), i ? 0 : 2 * AT);
        assert_int_equal(count_of(text, "<tr"), 9 + (i ? TENSORS + 1 : TENSORS + 2));   /* and of 8 modules */
        assert_int_equal(count_of(text, "<figure>"), i ? 0 : 3);   /* histogram, channels, map */
        assert_int_equal(count_of(text, "<line class=first"), 2 * !i);
        assert_int_equal(count_of(text, "http") + count_of(text, "<script") + count_of(text, "<b>"), 0);
        if (!i) assert_non_null(strstr(text, "<h1>diverges first at step.0.unet.down_blocks.2.resnets.0.norm1: "));
        if (!i) assert_non_null(strstr(text, "<td>&lt;b&gt;&amp;"));
        free(text);
    }
}

/* A UNet of three blocks. The fault is made on the way down, and reaches the way up through what is left for it: there
 * and at other modules it is inherited, though the tensor before has none. */
TEST(an_inherited_error_is_told_from_one_that_a_module_adds)
{
    static const struct { const char *name; double error, inherited; } m[] = {
        {"latents.0", 0, -1}, {"step.0.unet.time_embedding.linear_2", 2e-7, -1}, {"step.0.unet.conv_in", 3e-7, 2e-7},
        {"step.0.unet.down_blocks.0.resnets.0.norm1", 3e-7, 0}, {"step.0.unet.down_blocks.0.resnets.0", 1e-3, 3e-7},
        {"step.0.unet.down_blocks.0.downsamplers.0.conv", 2e-5, 1e-3},
        {"step.0.unet.down_blocks.1.resnets.0", 1e-5, 2e-5}, {"step.0.unet.mid_block.resnets.0", 1e-5, 1e-5},
        {"step.0.unet.up_blocks.0.resnets.0", 1e-5, 1e-5}, {"step.0.unet.up_blocks.0.resnets.1", 2e-5, 2e-5},
        {"step.0.unet.up_blocks.1.resnets.0", 9e-4, 1e-3}, {"step.0.unet.up_blocks.1.resnets.1", 8e-4, 9e-4},
        {"step.0.unet.conv_out", 2e-3, 8e-4}, {"step.0.noise_pred", 1e-3, 2e-3}, {"latents.1", 5e-4, 1e-3},
        {"vae.decoder.conv_in", 5e-4, 5e-4},
    };
    sd_traced ref[SD_COUNT(m)], mine[SD_COUNT(m)];
    made *a = make(0), *b = make(0);
    for (size_t i = 0; i < SD_COUNT(m); i++) {
        ref[i] = a->t[i];
        mine[i] = b->t[i];
        ref[i].name = mine[i].name = m[i].name;
        spoil(b, (int)i, m[i].error);
    }
    const char *down = put("down.safetensors", ref, SD_COUNT(m));
    RUN("compare", "--json", down, put("down-mine.safetensors", mine, SD_COUNT(m)));
    sd_json *j = answer();
    const sd_json *c = sd_json_item(sd_json_get(j, "compared"), 0), *modules = sd_json_get(c, "modules");
    assert_int_equal(sd_json_count(modules), SD_COUNT(m) - 1);   /* norm1 is in its resnet */
    for (size_t i = 0; i < SD_COUNT(m); i++) {
        if (i == 3) continue;
        const sd_json *x = sd_json_item(modules, (int)i - (i > 3));
        double error = m[i].error, from = m[i].inherited > 0 ? m[i].inherited : 0;
        double added = error > from ? sqrt(error * error - from * from) : 0;
        if (m[i].inherited < 0) assert_null(sd_json_get(x, "inherited"));
        else if (fabs(number_at(x, "inherited") - from) > 1e-7 + 1e-4 * from)
            fail_msg("%s inherits %g, not %g", m[i].name, number_at(x, "inherited"), from);
        if (fabs(number_at(x, "added") - added) > 2e-7 + 3e-2 * error)
            fail_msg("%s adds %g, not %g", m[i].name, number_at(x, "added"), added);
    }
    sd_json_free(j);
    free(a);
    free(b);
    RUN("compare", file("down.safetensors"), file("down-mine.safetensors"));
    expect_words("(--injected FILE measures what it adds) inherited result added x ");
    expect_words(" 1.00e-03 1.00e-03 1e+03 step.0.unet.down_blocks.0.resnets.0 ");
}

TEST(another_shape_is_named)
{
    made *m = make(0);
    memcpy(m->t[AT].dim, (const int64_t[8]){1, 6, 4, 3}, sizeof m->t[AT].dim);
    expect(reference(), put_made("shape.safetensors", m), 1,
           "first of another shape: step.0.unet.down_blocks.2.resnets.0.norm1: REF [1,6,4,4], MINE [1,6,4,3]");
}

/* ---------------------------------------------------------------------------------------- settings */

typedef struct put_one { const void *data; size_t bytes; } put_one;

static sd_status put_bytes(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    const put_one *p = user;
    (void)i;
    (void)path;
    assert_int_equal(fwrite(p->data, 1, p->bytes, to), p->bytes);
    return e->status;
}

/* A trace of 128 numbers of noise with these settings. */
static const char *put_settings(const char *name, const float noise[128], const sd_pair *meta, size_t n)
{
    sd_error e = {0};
    const char *path = file(name);
    const sd_traced t = {"noise", SD_F32, 1, {128}, NULL};
    put_one user = {noise, 128 * sizeof *noise};
    const sd_file_plan p = {.tensor = &t, .n = 1, .meta = meta, .n_meta = n, .put = put_bytes, .user = &user};
    if (sd_safetensors_write_plan(path, &p, &e)) fail_msg("%s", e.text);
    return path;
}

static void random_numbers(float x[128], uint32_t seed)
{
    for (int i = 0; i < 128; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)((double)(seed >> 8) / (1 << 23) - 1);
    }
}

#define META(key, value) {(char *)(uintptr_t)(key), (char *)(uintptr_t)(value)}

/* Names of two programs, float32's lists, Python's truth: the same settings. */
TEST(settings_that_mean_the_same_agree)
{
    static const sd_pair ours[] = {META("seed", "1"), META("sampler", "pndm"), META("timesteps", "667,334,1"),
                                   META("clip_sample", "false"), META("guidance_scale", "7.5"), META("kernels", "a"),
                                   META("schedule", "karras")};
    static const sd_pair theirs[] = {META("num_inference_steps", "3"), META("cfg-scale", "7.5"), META("kernels", "b"),
                                     META("clip_sample", "False"), META("timesteps", "[667.0, 334.00001, 1]"),
                                     META("sampler", "PNDMScheduler"), META("seed", "1"), META("scheduler", "Karras")};
    float x[128];
    random_numbers(x, 1);
    expect(put_settings("ours.safetensors", x, ours, SD_COUNT(ours)),
           put_settings("theirs.safetensors", x, theirs, SD_COUNT(theirs)), 0, "no divergence: 1 tensor agrees");
    expect_words("6 settings that both files tell agree");
}

TEST(settings_that_differ_are_said_first_and_inputs_with_them)
{
    static const sd_pair ours[] = {META("seed", "1"), META("timesteps", "751,501,251,1"), META("sampler", "euler")};
    static const sd_pair theirs[] = {META("seed", "2"), META("timesteps", "750,500,250,0"), META("sampler", "euler_a")};
    float x[128], y[128];
    random_numbers(x, 1);
    random_numbers(y, 2);
    const char *ref = put_settings("ours.safetensors", x, ours, SD_COUNT(ours));
    expect(ref, put_settings("theirs.safetensors", y, theirs, SD_COUNT(theirs)), 1,
           "3 settings differ; diverges first at noise");
    expect_words("settings that differ: seed: REF \"1\", MINE \"2\"; timesteps: at 0 of 4: REF 751, MINE 750; all of "
                 "MINE's are 1 less; sampler: REF \"euler\", MINE \"euler_a\"");
    expect_words("other random numbers, of another seed or generator");
    for (int i = 0; i < 128; i++) y[i] = 14.6146f * x[i];
    expect(ref, put_settings("scaled.safetensors", y, ours, SD_COUNT(ours)), 1, "diverges first at noise");
    expect_words("inputs that differ (1 of 1): noise: MINE is 14.6146 times REF");
    expect_words("3 settings that both files tell agree");
}

/* ----------------------------------------------------------------------------- what only one side has */

/* Five tensors have another name in MINE. Nothing of that is silent, and those that stand between the last that agrees
 * and the first that diverges are told apart. */
TEST(what_only_one_side_has_is_counted_and_bracketed)
{
    made *m = make(0);
    for (int i = 12; i < TENSORS; i++) spoil(m, i, 1e-2);
    for (int i = 10; i < 15; i++) snprintf(m->name[i], sizeof m->name[i], "other.%d", i);
    expect(reference(), put_made("names.safetensors", m), 1,
           "diverges first at step.0.unet.down_blocks.1.resnets.1.norm1");
    expect_words("(10 not compared: only one side has them)");
    expect_words("35 compared");
    expect_words("that agrees: step.0.unet.down_blocks.0.resnets.1.conv2");
    expect_words("between them only REF has 5, dump these in");
    expect_words("between them only MINE has 5: other.10");
    expect_words("not compared, for only MINE has them (5): other.10");
}

TEST(nothing_in_common_is_an_error_that_shows_names_of_both)
{
    static const float x[2] = {1, 2};
    const sd_traced t = {"foreign.name", SD_F32, 1, {2}, x};
    RUN("compare", reference(), put("foreign.safetensors", &t, 1));
    expect_error("foreign names", 2, "foreign.name");
    RUN("compare", reference(), file("absent.safetensors"));
    expect_error("no such file", 2, "absent.safetensors");
    RUN("compare", reference());
    expect_error("one file", 2, "sd compare --help");
}

/* ------------------------------------------------------------------------------------ other names */

/* A text encoder's layer under names of two versions of transformers: nothing is left out. */
TEST(names_of_both_versions_of_transformers_match)
{
    made *a = make(0), *b = make(0);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(a->name[i], sizeof a->name[i], "text_encoder.text_model.encoder.layers.%d", i);
        snprintf(b->name[i], sizeof b->name[i], "text_encoder.encoder.layers.%d", i);
    }
    spoil(b, AT, 1e-2);
    expect(put_made("four.safetensors", a), put_made("five.safetensors", b), 1,
           "diverges first at text_encoder.text_model.encoder.layers.20: ");
    expect_words("40 compared");
    expect_words("40 pairs under two names: text_encoder.encoder.layers.0 is text_encoder.text_model.encoder.layers.0");
}

TEST(paths_of_onnx_and_what_wrappers_add_match)
{
    made *m = make(0);
    spoil(m, AT, 1e-2);
    for (int i = 0; i < TENSORS; i++) {
        char old[64];
        snprintf(old, sizeof old, "%s", m->name[i] + strlen("step.0.unet."));
        for (char *c = old; *c && i % 2; c++) *c = *c == '.' ? '/' : *c;
        snprintf(m->name[i], sizeof m->name[i], i % 2 ? "/%.40s/Conv_output_0" : "module._orig_mod.%.40s.output", old);
    }
    expect(reference(), put_made("onnx.safetensors", m), 1,
           "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1");
    expect_words("40 compared");
    expect_words("MINE's names are taken to begin with \"step.0.unet.\"");
}

/* Stable Diffusion 1's modules under diffusers' names and, built as CompVis' openaimodel.py, model.py and OpenCLIP's
 * build theirs, under those of the original program. */
typedef struct twin { char hf[128], ldm[128]; } twin;

static twin *add_twin(twin *t, const char *root, const char *hf, const char *ldm_root, const char *ldm)
{
    snprintf(t->hf, sizeof t->hf, "%s%.90s", root, hf);
    snprintf(t->ldm, sizeof t->ldm, "%s%.90s", ldm_root, ldm);
    return t + 1;
}

/* Modules of a block of the UNet; ends with NULL. */
static twin *add_twins(twin *t, const char *hf, const char *ldm, const char *const (*of)[2])
{
    for (; (*of)[0]; of++) {
        char a[160], b[160];
        snprintf(a, sizeof a, "%.60s%s", hf, (*of)[0]);
        snprintf(b, sizeof b, "%.60s%s", ldm, (*of)[1]);
        t = add_twin(t, "step.0.unet.", a, "model.diffusion_model.", b);
    }
    return t;
}

static const char *const of_resnet[][2] = {
    {".norm1", ".in_layers.0"}, {".conv1", ".in_layers.2"}, {".time_emb_proj", ".emb_layers.1"},
    {".norm2", ".out_layers.0"}, {".conv2", ".out_layers.3"}, {"", ""}, {NULL, NULL}};
static const char *const of_attention[][2] = {
    {".norm", ".norm"}, {".proj_in", ".proj_in"},
    {".transformer_blocks.0.attn1.to_q", ".transformer_blocks.0.attn1.to_q"},
    {".transformer_blocks.0.attn2", ".transformer_blocks.0.attn2"},
    {".transformer_blocks.0.ff.net.0.proj", ".transformer_blocks.0.ff.net.0.proj"}, {".proj_out", ".proj_out"},
    {"", ""}, {NULL, NULL}};
static const char *const itself[][2] = {{"", ""}, {NULL, NULL}};

static twin *add_unet(twin *t)
{
    static const char *const first[][2] = {{"time_embedding.linear_1", "time_embed.0"},
        {"time_embedding.act", "time_embed.1"}, {"time_embedding.linear_2", "time_embed.2"},
        {"conv_in", "input_blocks.0.0"}, {NULL, NULL}};
    static const char *const last[][2] = {{"conv_norm_out", "out.0"}, {"conv_act", "out.1"}, {"conv_out", "out.2"},
                                          {NULL, NULL}};
    char hf[64], ldm[64];
    int block = 1;
    t = add_twins(t, "", "", first);
    for (int level = 0; level < 4; level++) {
        for (int i = 0; i < 2; i++, block++) {
            snprintf(hf, sizeof hf, "down_blocks.%d.resnets.%d", level, i);
            snprintf(ldm, sizeof ldm, "input_blocks.%d.0", block);
            t = add_twins(t, hf, ldm, of_resnet);
            snprintf(hf, sizeof hf, "down_blocks.%d.attentions.%d", level, i);
            snprintf(ldm, sizeof ldm, "input_blocks.%d.1", block);
            if (level < 3) t = add_twins(t, hf, ldm, of_attention);
        }
        snprintf(hf, sizeof hf, "down_blocks.%d.downsamplers.0.conv", level);
        snprintf(ldm, sizeof ldm, "input_blocks.%d.0", block++);   /* the module Downsample, whose result is its op's */
        if (level < 3) t = add_twins(t, hf, ldm, itself);
    }
    t = add_twins(t, "mid_block.resnets.0", "middle_block.0", of_resnet);
    t = add_twins(t, "mid_block.attentions.0", "middle_block.1", of_attention);
    t = add_twins(t, "mid_block.resnets.1", "middle_block.2", of_resnet);
    for (int up = 0; up < 4; up++)
        for (int i = 0; i < 3; i++) {
            snprintf(hf, sizeof hf, "up_blocks.%d.resnets.%d", up, i);
            snprintf(ldm, sizeof ldm, "output_blocks.%d.0", 3 * up + i);
            t = add_twins(t, hf, ldm, of_resnet);
            snprintf(hf, sizeof hf, "up_blocks.%d.attentions.%d", up, i);
            snprintf(ldm, sizeof ldm, "output_blocks.%d.1", 3 * up + i);
            if (up) t = add_twins(t, hf, ldm, of_attention);
            snprintf(hf, sizeof hf, "up_blocks.%d.upsamplers.0.conv", up);
            snprintf(ldm, sizeof ldm, "output_blocks.%d.%d.conv", 3 * up + i, up ? 2 : 1);
            if (i == 2 && up < 3) t = add_twins(t, hf, ldm, itself);
        }
    return add_twins(t, "", "", last);
}

static twin *add_text(twin *t, bool openclip)
{
    static const char *const of_layer[][2] = {{"layer_norm1", "ln_1"}, {"self_attn.out_proj", "attn.out_proj"},
        {"layer_norm2", "ln_2"}, {"mlp.fc1", "mlp.c_fc"}, {"mlp.activation_fn", "mlp.gelu"}, {"mlp.fc2", "mlp.c_proj"}};
    char hf[160], ldm[160];
    const char *root = openclip ? "cond_stage_model.model." : "cond_stage_model.transformer.";
    for (int i = 0; i < 12; i++)
        for (size_t k = 0; k < SD_COUNT(of_layer); k++) {
            snprintf(hf, sizeof hf, "text_model.encoder.layers.%d.%s", i, of_layer[k][0]);
            snprintf(ldm, sizeof ldm, "transformer.resblocks.%d.%s", i, of_layer[k][1]);
            t = add_twin(t, "text_encoder.", hf, root, openclip ? ldm : hf);
        }
    return add_twin(t, "text_encoder.", "text_model.final_layer_norm", root,
                    openclip ? "ln_final" : "text_model.final_layer_norm");
}

static twin *add_decoder(twin *t)
{
    static const char *const some[][2] = {
        {"post_quant_conv", "post_quant_conv"}, {"decoder.conv_in", "decoder.conv_in"},
        {"decoder.mid_block.resnets.1.conv2", "decoder.mid.block_2.conv2"},
        {"decoder.mid_block.attentions.0.to_q", "decoder.mid.attn_1.q"},
        {"decoder.mid_block.attentions.0.to_out.0", "decoder.mid.attn_1.proj_out"},
        {"decoder.up_blocks.0.resnets.2", "decoder.up.3.block.2"},
        {"decoder.up_blocks.0.upsamplers.0.conv", "decoder.up.3.upsample"},
        {"decoder.up_blocks.3.resnets.0.conv_shortcut", "decoder.up.0.block.0.nin_shortcut"},
        {"decoder.conv_norm_out", "decoder.norm_out"}, {"decoder.conv_out", "decoder.conv_out"}};
    for (size_t i = 0; i < SD_COUNT(some); i++) t = add_twin(t, "vae.", some[i][0], "first_stage_model.", some[i][1]);
    return t;
}

static const char *put_twins(const char *name, const twin *t, size_t n, bool ldm, const char *before)
{
    static float x[1000];
    static char room[1000][160];
    sd_traced list[1000];
    assert_true(n <= SD_COUNT(list));
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(i + 1);
        snprintf(room[i], sizeof room[i], "%.24s%s", before, ldm ? t[i].ldm : t[i].hf);
        list[i] = (sd_traced){room[i], SD_F32, 1, {1}, &x[i]};
    }
    return put(name, list, n);
}

TEST(names_of_compvis_and_openclip_match)
{
    for (int openclip = 0; openclip < 2; openclip++) {
        twin *t = calloc(1000, sizeof *t), *end = add_decoder(add_unet(add_text(t, openclip)));
        size_t n = (size_t)(end - t);
        char all[64];
        snprintf(all, sizeof all, "no divergence: %zu tensors agree, every number is the same", n);
        const char *hf = put_twins("hf.safetensors", t, n, false, "");
        const char *ldm = put_twins("ldm.safetensors", t, n, true, "");
        expect(hf, ldm, 0, all);
        expect_words("begin with \"step.0.\"");
        expect(ldm, hf, 0, all);
        free(t);
    }
}

/* The UNet's names without their root, of step 0 by a number before them; and containers for their last module. */
TEST(compvis_names_without_roots_and_of_containers_match)
{
    static const char *const more[][2] = {
        {"step.0.unet.down_blocks.0.attentions.1", "0.diffusion_model.input_blocks.2"},
        {"step.0.unet.mid_block.resnets.1", "0.diffusion_model.middle_block"},
        {"step.0.unet.down_blocks.3.resnets.1", "0.diffusion_model.input_blocks.11"},
        {"step.0.unet.up_blocks.0.upsamplers.0.conv", "0.diffusion_model.output_blocks.2"}};
    twin *t = calloc(1000, sizeof *t), *end = add_unet(t);
    size_t n = (size_t)(end - t), skip = strlen("model.diffusion_model.");
    static float x[SD_COUNT(more)];
    sd_traced list[SD_COUNT(more)];
    const char *hf = put_twins("hf.safetensors", t, n, false, "");
    for (size_t i = 0; i < n; i++) memmove(t[i].ldm, t[i].ldm + skip, strlen(t[i].ldm) + 1 - skip);
    char all[64];
    snprintf(all, sizeof all, "no divergence: %zu tensors agree", n);
    expect(hf, put_twins("ldm.safetensors", t, n, true, ""), 0, all);
    expect(hf, put_twins("ldm.safetensors", t, n, true, "0.diffusion_model."), 0, all);
    for (size_t i = 0; i < SD_COUNT(more); i++) {
        for (size_t k = 0; k < n; k++)
            if (strcmp(t[k].hf, more[i][0]) == 0) x[i] = (float)(k + 1);
        list[i] = (sd_traced){more[i][1], SD_F32, 1, {1}, &x[i]};
    }
    expect(hf, put("containers.safetensors", list, SD_COUNT(more)), 0, "no divergence: 4 tensors agree, every");
    free(t);
}

TEST(what_ggml_adds_to_the_name_of_a_view_is_passed_over)
{
    made *m = make(0);
    spoil(m, AT, 1e-2);
    for (int i = 0; i < TENSORS; i++) {
        size_t n = strlen(m->name[i]);
        snprintf(m->name[i] + n, sizeof m->name[i] - n, i % 2 ? " (view)" : " (permuted) (cont)");
    }
    expect(reference(), put_made("ggml.safetensors", m), 1,
           "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1");
    expect_words("40 compared");
}

/* 63 letters of a name are kept, of the words for views too. The third is known by its size; the last fits two. */
TEST(names_that_ggml_cut_are_those_that_begin_so)
{
    static const char block[] = "unet.down_blocks.1.attentions.0.transformer_blocks.0.";
    static const char *const module[] = {"norm1", "attn1.to_q", "attn1.to_out.0", "attn1.to_out.1", "ff.net.0.proj",
                                         "ff.net.2.x1", "ff.net.2.x2", "attn1.to_q.lora"};
    char whole[SD_COUNT(module)][96], cut[SD_COUNT(module)][128];
    static float x[64];
    sd_traced ref[SD_COUNT(module) + 1], mine[6];
    for (int i = 0; i < 64; i++) x[i] = (float)i;
    for (size_t i = 0, n = 0; i < SD_COUNT(module); i++) {
        snprintf(whole[i], sizeof whole[i], "step.0.%s%s", block, module[i]);
        ref[i] = (sd_traced){whole[i], SD_F32, 1, {i == 3 ? 4 : 8}, x + 8 * i};
        if (i == 3 || i > 5) continue;
        snprintf(cut[i], sizeof cut[i], "%s%s (view)", block, module[i]);
        cut[i][63] = 0;
        mine[n] = ref[i];
        mine[n++].name = cut[i];
    }
    ref[SD_COUNT(module)] = mine[5] = (sd_traced){"step.0.unet.conv_in", SD_F32, 1, {2}, x};
    mine[5].name = "unet.conv_in";
    const char *a = put("whole.safetensors", ref, SD_COUNT(ref)), *b = put("cut.safetensors", mine, SD_COUNT(mine));
    expect(a, b, 0, "no divergence: 5 tensors agree");
    expect_words("attentions.0.transformer_blocks.0.attn1.to_o is step.0.");
    expect_words("1 name of 63 letters, as GGML cuts them, fits several and is not compared");
    expect(b, a, 0, "no divergence: 5 tensors agree");
}

TEST(a_file_of_names_is_followed)
{
    static const char names[] = "# names\n\nstem.* step.0.unet.*\nodd step.0.unet.down_blocks.0.resnets.0.norm1\n";
    made *m = make(0);
    spoil(m, AT, 1e-2);
    for (int i = 0; i < TENSORS; i++) {
        char old[64];
        snprintf(old, sizeof old, "%s", m->name[i] + strlen("step.0.unet."));
        snprintf(m->name[i], sizeof m->name[i], "stem.%.50s", i ? old : "");
    }
    snprintf(m->name[0], sizeof m->name[0], "odd");
    const char *mine = put_made("named.safetensors", m), *list = file("names.txt");
    spill(list, names, sizeof names - 1);
    RUN("compare", "--names", list, reference(), mine);
    assert_int_equal(ran.code, 1);
    expect_words("diverges first at step.0.unet.down_blocks.2.resnets.0.norm1");
    expect_words("40 compared");
    spill(list, "alone\n", 6);
    RUN("compare", "--names", list, reference(), mine);
    expect_error("a name alone", 2, "line 1: expected MINE's name, a blank and REF's name");
}

/* Names that say nothing, three tensors that MINE did not dump, and channels last: each pair is guessed, and said. */
TEST(pairs_are_guessed_by_order_shape_and_numbers)
{
    made *m = make(3e-7);
    for (int i = AT; i < TENSORS; i++) spoil(m, i, 1e-2);
    sd_traced t[TENSORS];
    size_t n = 0;
    for (int i = 0; i < TENSORS; i++) {
        float x[NUMBERS];
        memcpy(x, m->x[i], sizeof x);
        for (int k = 0; k < NUMBERS; k++) m->x[i][k % 16 * 6 + k / 16] = x[k];
        memcpy(m->t[i].dim, (const int64_t[8]){1, 4, 4, 6}, sizeof m->t[i].dim);
        snprintf(m->name[i], sizeof m->name[i], "node_%03d", (i * 7 + 3) % TENSORS);
        if (i != 5 && i != 6 && i != 30) t[n++] = m->t[i];
    }
    expect(reference(), put("guess.safetensors", t, n), 1,
           "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1: relative L2 error 0.01");
    free(m);
    expect_words("(37 pairs are guesses)");
    expect_words("node_003 is step.0.unet.down_blocks.0.resnets.0.norm1");
    expect_words("for only REF has them (3): step.0.unet.down_blocks.0.resnets.1.norm1, "
                 "step.0.unet.down_blocks.0.resnets.1.conv1, step.0.unet.down_blocks.3.resnets.0.norm1");
    RUN("compare", "--json", reference(), file("guess.safetensors"));
    assert_non_null(strstr(ran.out, "\"guess\":true"));
}

/* 4097 tensors on each side, of which nothing is known: that nothing is guessed is said. */
TEST(too_many_tensors_to_guess_among_are_said)
{
    enum { MANY = 4097 };
    static char room[2][MANY][16];
    static sd_traced t[2][MANY];
    static const float x[2] = {1, 2};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < MANY; i++) {
            snprintf(room[k][i], sizeof room[k][i], k ? "node_%04d" : "tensor%04d", i);
            t[k][i] = (sd_traced){room[k][i], SD_F32, 1, {2}, x};
        }
    const char *ref = put("many.safetensors", t[0], MANY), *mine = put("many-mine.safetensors", t[1], MANY);
    RUN("compare", ref, mine);
    expect_error("too many to guess", 2, "too many to guess which is which");
    t[1][7].name = "tensor0007";
    mine = put("many-mine.safetensors", t[1], MANY);
    expect(ref, mine, 0, "(names do not tell, and there are too many pairs to guess)");
    expect_words("say with --names FILE which is which");
}

/* ------------------------------------------------------------------------------------ other layouts */

/* y = x [n,c,h,w] as [n,h,w,c]. */
static void channels_last(float *y, const float *x, int c, int hw)
{
    for (int i = 0; i < c; i++)
        for (int k = 0; k < hw; k++) y[k * c + i] = x[i * hw + k];
}

TEST(channels_last_are_seen_and_a_fault_in_them_too)
{
    made *m = make(3e-7);
    spoil(m, AT, 1e-2);
    for (int i = 0; i < TENSORS; i++) {
        float x[NUMBERS];
        memcpy(x, m->x[i], sizeof x);
        channels_last(m->x[i], x, 6, 16);
        memcpy(m->t[i].dim, (const int64_t[8]){1, 4, 4, 6}, sizeof m->t[i].dim);
    }
    expect(reference(), put_made("nhwc.safetensors", m), 1,
           "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1: relative L2 error 0.01");
    expect_words("(40 in another layout)");
    expect_words("channels last in step.0.unet.down_blocks.0.resnets.0.norm1");
    assert_non_null(strstr(ran.out, "1 diverge,"));
}

TEST(transposed_and_exchanged_halves_are_seen)
{
    made *a = make(0), *b = make(0);
    for (int k = 0; k < NUMBERS; k++) {
        b->x[3][k] = a->x[3][(k + NUMBERS / 2) % NUMBERS];
        b->x[5][k % 12 * 8 + k / 12] = a->x[5][k];
    }
    a->t[3].nd = b->t[3].nd = a->t[5].nd = b->t[5].nd = 2;
    memcpy(a->t[3].dim, (const int64_t[8]){2, 48}, sizeof a->t[3].dim);
    memcpy(b->t[3].dim, (const int64_t[8]){2, 48}, sizeof b->t[3].dim);
    memcpy(a->t[5].dim, (const int64_t[8]){8, 12}, sizeof a->t[5].dim);
    memcpy(b->t[5].dim, (const int64_t[8]){12, 8}, sizeof b->t[5].dim);
    expect(put_made("layout.safetensors", a), put_made("layout-mine.safetensors", b), 0, "(2 in another layout)");
    expect_words("halves of the batch exchanged in step.0.unet.down_blocks.0.resnets.0.norm2");
    expect_words("transposed in step.0.unet.down_blocks.0.resnets.1.norm1");
}

TEST(one_tensor_alone_in_another_layout_is_named)
{
    made *a = make(0), *b = make(0);
    for (int k = 0; k < 64; k++) b->x[5][k % 8 * 8 + k / 8] = a->x[5][k];
    a->t[5].nd = b->t[5].nd = 2;
    memcpy(a->t[5].dim, (const int64_t[8]){8, 8}, sizeof a->t[5].dim);
    memcpy(b->t[5].dim, (const int64_t[8]){8, 8}, sizeof b->t[5].dim);
    expect(put_made("layout.safetensors", a), put_made("layout-mine.safetensors", b), 0,
           ", but step.0.unet.down_blocks.0.resnets.1.norm1 alone is in another layout: transposed");
}

/* ---------------------------------------------------------------------------- calls of fewer samples */

/* Half `half` of the batch of each tensor, or the whole, [2,3,4,4]. */
static made *make_half(int half, double error)
{
    made *m = make(error);
    for (int i = 0; i < TENSORS; i++) {
        memcpy(m->t[i].dim, (const int64_t[8]){half < 0 ? 2 : 1, 3, 4, 4}, sizeof m->t[i].dim);
        if (half > 0) memmove(m->x[i], m->x[i] + NUMBERS / 2, sizeof m->x[i] / 2);
    }
    return m;
}

/* One trace with two calls of each module, under these names, which get the module's. */
static const char *put_calls(const char *name, const char *const format[2], double error)
{
    sd_traced t[2 * TENSORS];
    char room[2 * TENSORS][96];
    made *m[2] = {make_half(0, 0), make_half(1, 0)};
    for (int i = AT; i < TENSORS; i++) spoil(m[1], i, error);
    for (int i = 0; i < 2 * TENSORS; i++) {
        t[i] = m[i / TENSORS]->t[i % TENSORS];
        const char *star = strchr(format[i / TENSORS], '*');
        snprintf(room[i], sizeof room[i], "%.*s%.50s%s", (int)(star - format[i / TENSORS]), format[i / TENSORS],
                 m[0]->name[i % TENSORS] + strlen("step.0.unet."), star + 1);
        t[i].name = room[i];
    }
    const char *path = put(name, t, 2 * TENSORS);
    free(m[0]);
    free(m[1]);
    return path;
}

TEST(a_batch_in_single_calls_is_put_together)
{
    static const char *const named[][2] = {{"uncond.*", "cond.*"}, {"unet/*_neg", "unet/*_pos"}, {"*#0", "*#1"},
                                           {"call.0.*", "call.1.*"}, {"*.pass_1", "*.pass_2"}};
    const char *ref = put_made("batch.safetensors", make_half(-1, 0));
    for (size_t i = 0; i < SD_COUNT(named); i++) {
        expect(ref, put_calls("calls.safetensors", named[i], 1e-2), 1,
               "diverges first at step.0.unet.down_blocks.2.resnets.0.norm1: relative L2 error 0.0");
        expect_words("40 tensors were put together from calls of fewer samples");
        assert_non_null(strstr(ran.out, "20 diverge"));
    }
    expect(ref, put_calls("calls.safetensors", (const char *const[]){"cond.*", "uncond.*"}, 0), 0,
           "40 in another layout");   /* the prompt comes first */
    expect_words("halves of the batch exchanged in step.0.unet.down_blocks.0.resnets.0.norm1");
    expect(put_calls("calls.safetensors", named[0], 0), ref, 0, "no divergence: 40 tensors agree");
}

TEST(calls_in_files_of_their_own_are_put_together)
{
    made *m = make_half(1, 0);
    for (int i = AT; i < TENSORS; i++) spoil(m, i, 1e-2);
    const char *ref = put_made("batch.safetensors", make_half(-1, 0));
    const char *a = put_made("negative.safetensors", make_half(0, 0)), *b = put_made("positive.safetensors", m);
    RUN("compare", "--calls", ref, a, b);
    assert_int_equal(ran.code, 1);
    expect_words("diverges first at step.0.unet.down_blocks.2.resnets.0.norm1: relative L2 error 0.0");
    expect_words("40 tensors were put together from calls of fewer samples");
    RUN("compare", ref, a, b);
    assert_int_equal(ran.code, 1);
    expect_words("first of another shape: step.0.unet.down_blocks.0.resnets.0.norm1");
}

/* What REF has as two tensors stays two, and so does what REF has once and smaller. */
TEST(predictions_that_have_names_of_their_own_stay_apart)
{
    static const float x[2] = {1, 2}, y[2] = {3, 4};
    const sd_traced two[] = {{"noise_pred_uncond", SD_F32, 2, {1, 2}, x}, {"noise_pred_cond", SD_F32, 2, {1, 2}, y},
                             {"noise_pred", SD_F32, 2, {1, 2}, y}};
    const char *mine = put("two.safetensors", two, 2);
    expect(put("three.safetensors", two, 3), mine, 0, "no divergence: 2 tensors agree");
    expect_words("not compared, for only REF has it (1): noise_pred");
    expect(mine, mine, 0, "no divergence: 1 tensor agrees");
    expect_words("1 tensor was put together from calls of fewer");
}

/* ------------------------------------------------------------------------------------ NumPy's files */

/* A .npy file of version 1 or 2, padded as NumPy pads; returns its bytes. */
static size_t npy(unsigned char *to, int version, const char *dictionary, const void *data, size_t bytes)
{
    size_t fixed = version == 1 ? 10 : 12, length = (fixed + strlen(dictionary) + 64) / 64 * 64 - fixed;
    memset(to, 0, fixed);
    memcpy(to, "\x93NUMPY", 6);
    to[6] = (unsigned char)version;
    to[8] = (unsigned char)length;
    memset(to + fixed, ' ', length);
    memcpy(to + fixed, dictionary, strlen(dictionary));
    to[fixed + length - 1] = '\n';
    memcpy(to + fixed + length, data, bytes);
    return fixed + length + bytes;
}

/* The directory `where` with the traces' tensors in C's and Fortran's order by turns. */
static const char *put_directory(const char *where, made *m)
{
    static char path[512];
    static unsigned char bytes[NUMBERS * sizeof(float) + 256];
    snprintf(path, sizeof path, "%s", file(where));
    assert_true(sd_os_make_directory(path));
    for (int i = 0; i < TENSORS; i++) {
        float y[NUMBERS];   /* [1,6,4,4], the first dimension the fastest */
        for (int k = 0; k < NUMBERS; k++) y[k / 16 + k / 4 % 4 * 6 + k % 4 * 24] = m->x[i][k];
        static const char *const order[] = {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 6, 4, 4), }",
                                            "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 6, 4, 4), }"};
        size_t n = npy(bytes, 1 + i % 3 / 2, order[i % 2],
                       i % 2 ? y : m->x[i], NUMBERS * sizeof(float));
        char name[600];
        snprintf(name, sizeof name, "%s/%s.npy", path, m->name[i]);
        spill(name, bytes, n);
    }
    free(m);
    return path;
}

TEST(a_directory_of_arrays_is_a_trace)
{
    made *m = make(0);
    for (int i = 11; i < TENSORS; i++) spoil(m, i, 1e-2);
    expect(reference(), put_directory("clean", make(0)), 0,
           "no divergence: 40 tensors agree, every number is the same");
    const char *mine = put_directory("bad", m);
    expect(reference(), mine, 1, "diverges first at step.0.unet.down_blocks.1.resnets.0.conv1");
    expect(mine, reference(), 1, "diverges first at step.0.unet.down_blocks.1.resnets.0.conv1");
    assert_true(sd_os_make_directory(file("empty")));
    RUN("compare", reference(), file("empty"));
    expect_error("an empty directory", 2, "a directory without .npy files");
}

/* Files of plain numbers and a list of their shapes, whose lines are in the order of execution. */
TEST(a_directory_of_plain_numbers_is_a_trace)
{
    made *m = make(0);
    char path[512], name[700], lines[TENSORS * 96];
    size_t used = 0;
    snprintf(path, sizeof path, "%s", file("raw"));
    assert_true(sd_os_make_directory(path));
    for (int i = 11; i < TENSORS; i++) spoil(m, i, 1e-2);
    for (int i = 0; i < TENSORS; i++) {
        static const char *const shape[] = {"1,6,4,4", "1x6x4x4 float32", "[1,6,4,4] F32"};
        used += (size_t)snprintf(lines + used, sizeof lines - used, "%.60s\t%s\n", m->name[i], shape[i % 3]);
        snprintf(name, sizeof name, "%s/%s%s", path, m->name[i], i % 2 ? ".bin" : "");
        spill(name, m->x[i], sizeof m->x[i]);
    }
    snprintf(name, sizeof name, "%s/shapes.txt", path);
    spill(name, lines, used);
    expect(reference(), path, 1, "diverges first at step.0.unet.down_blocks.1.resnets.0.conv1");
    expect(path, reference(), 1, "diverges first at step.0.unet.down_blocks.1.resnets.0.conv1");
    expect(path, path, 0, "no divergence: 40 tensors agree, every number is the same");
    free(m);
    static const char *const bad[][2] = {
        {"x 3 complex\n", "line 1: expected a name, a shape"}, {"x 3,,4\n", "line 1"}, {"\nx [3\n", "line 2"},
        {"x 3\n", "x.bin"}, {"x 9999999999,9999999999\n", "line 1"}, {"# nothing\n", "names no tensor"}};
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        spill(name, bad[i][0], strlen(bad[i][0]));
        snprintf(lines, sizeof lines, "%.400s/x.bin", path);
        spill(lines, "12345678", 8);   /* two numbers, not three */
        RUN("compare", path, path);
        expect_error(bad[i][0], 2, bad[i][1]);
    }
}

TEST(one_array_is_called_as_its_file)
{
    static const double x[] = {1, 2, 3};
    static const float y[] = {1, 2, 3};
    unsigned char bytes[256];
    const sd_traced t = {"noise", SD_F32, 1, {3}, y};
    spill(file("noise.npy"), bytes, npy(bytes, 1, "{'shape': (3,), 'fortran_order': False, 'descr': '<f8'}", x, 24));
    expect(put("noise.safetensors", &t, 1), file("noise.npy"), 0, "no divergence: 1 tensor agrees");
}

TEST(arrays_that_contradict_themselves_are_refused)
{
    static const struct { const char *dictionary; const char *says; } bad[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", "do not need the 12 bytes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387, 4611686018427387), }", "do not need"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,3), }", "at most 8 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False}", "its header is not a dictionary"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "its header is not a dictionary"},
        {"{'descr': __import__('os'), 'fortran_order': False, 'shape': (3,)}", "its header is not a dictionary"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", "its header is not a dictionary"},
    };
    static const float x[] = {1, 2, 3};
    unsigned char bytes[512];
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        spill(file("noise.npy"), bytes, npy(bytes, 1, bad[i].dictionary, x, sizeof x));
        RUN("compare", file("noise.npy"), file("noise.npy"));
        expect_error(bad[i].dictionary, 2, bad[i].says);
    }
    size_t n = npy(bytes, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", x, sizeof x);
    for (size_t cut = 6; cut < n; cut += 7) {
        spill(file("noise.npy"), bytes, cut);
        RUN("compare", file("noise.npy"), file("noise.npy"));
        expect_error("a file that is cut off", 2, "noise");
    }
    spill(file("noise.npy"), bytes, npy(bytes, 1, "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", x, 12));
    expect(file("noise.npy"), file("noise.npy"), 1, "first that cannot be read: noise: REF has |O, MINE |O");
}

/* numpy.savez(path, noise=[1,2], tokens=[5]) without its times, and savez_compressed. */
TEST(archives_of_arrays_are_read)
{
    static const float x[] = {1, 2};
    const sd_traced t = {"noise", SD_F32, 1, {2}, x};
    expect(put("noise.safetensors", &t, 1), "tests/golden/stored.npz", 0, "no divergence: 1 tensor agrees");
    expect_words("not compared, for only MINE has it (1): tokens");
#ifdef SD_WITH_ZLIB
    expect("tests/golden/stored.npz", "tests/golden/deflated.npz", 0, "no divergence: 2 tensors agree");
#endif
}

/* ---------------------------------------------------------------------------------------------- JSON */

TEST(json_has_every_tensor_and_the_measures)
{
    made *m = make(0);
    spoil(m, AT, 1e-2);
    const char *bad = put_made("json.safetensors", m), *ref = reference();
    RUN("compare", "--json", ref, bad, ref);
    assert_int_equal(ran.code, 1);
    sd_json *j = answer();
    const sd_json *of = sd_json_get(j, "compared"), *c = sd_json_item(of, 0), *same = sd_json_item(of, 1);
    assert_int_equal(sd_json_count(of), 2);
    assert_string_equal(sd_json_text(sd_json_get(c, "first")), "step.0.unet.down_blocks.2.resnets.0.norm1");
    assert_null(sd_json_text(sd_json_get(same, "first")));
    assert_int_equal(sd_json_count(sd_json_get(c, "tensors")), TENSORS);
    const sd_json *t = sd_json_item(sd_json_get(c, "tensors"), AT);
    assert_string_equal(sd_json_text(sd_json_get(t, "verdict")), "diverges");
    assert_true(fabs(number_at(t, "relative_l2") - 1e-2) < 1e-6);
    assert_true(fabs(number_at(t, "nmse_db") + 40) < 1e-3);
    assert_true(fabs(number_at(t, "cosine") - 1 / sqrt(1 + 1e-4)) < 1e-5);
    assert_true(fabs(number_at(t, "max") - fabs(number_at(t, "ref") - number_at(t, "mine"))) < 1e-12);
    sd_json_free(j);
}

/* --------------------------------------------------------------------------------------- order, runs */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_traced *)a)->name, ((const sd_traced *)b)->name);
}

/* Writers that sort by name say nothing of order. Here the first tensor by name is the last to be computed. */
TEST(files_sorted_by_name_are_brought_into_the_order_of_execution)
{
    made *a = make(0), *b = make(3e-7);
    for (int i = 11; i < TENSORS; i++) spoil(b, i, 1e-2);   /* conv1 of a resnet; conv2, by name before norm1, later */
    qsort(a->t, TENSORS, sizeof *a->t, by_name);
    qsort(b->t, TENSORS, sizeof *b->t, by_name);
    const char *ref = put("sorted.safetensors", a->t, TENSORS), *mine = put("sorted-bad.safetensors", b->t, TENSORS);
    expect(ref, mine, 1, "diverges first at step.0.unet.down_blocks.1.resnets.0.conv1");
    expect_words("the names");
    sd_traced swap = a->t[0];   /* save_file puts one type behind the other, also if their numbers have the same size */
    memmove(a->t, a->t + 1, (TENSORS - 1) * sizeof *a->t);
    a->t[TENSORS - 1] = swap;
    a->t[TENSORS - 1].dtype = SD_I32;
    expect(put("sorted.safetensors", a->t, TENSORS), mine, 1, "diverges first at");
    expect_words("the names");
    free(a);
    free(b);
}

typedef struct line { char name[160]; } line;

static int by_order(const void *a, const void *b)
{
    return sd_trace_order(((const line *)a)->name, ((const line *)b)->name);
}

/* Names alone give the order in which a run computes: the program's own list, shuffled and sorted again. */
static void expect_order(const char *const *command)
{
    static line list[4000], sorted[4000];
    size_t n = 0;
    run_list(command);
    expect_success("trace --list");
    for (char *at = ran.out, *end; n < SD_COUNT(list) && (end = strchr(at, '\n')) != NULL; at = end + 1)
        if (strchr(at, '[') && strchr(at, '[') < end && sscanf(at, "%159s", list[n].name) == 1) n++;
    assert_true(n > 200);
    memcpy(sorted, list, sizeof list);
    for (size_t i = n, seed = 1; i-- > 1;) {
        seed = (seed * 1103515245 + 12345) % 2147483648u;
        line swap = sorted[i];
        sorted[i] = sorted[seed % (i + 1)];
        sorted[seed % (i + 1)] = swap;
    }
    qsort(sorted, n, sizeof *sorted, by_order);
    for (size_t i = 0; i < n; i++)
        if (strcmp(sorted[i].name, list[i].name) != 0) fail_msg("%zu: %s, not %s", i, sorted[i].name, list[i].name);
}

TEST(names_alone_give_the_order_of_a_run)
{
    expect_order((const char *const[]){"trace", "--list", "--steps", "12", NULL});
}

TEST(two_ways_to_compute_do_not_diverge_and_another_prompt_does)
{
    static const char *const more[][3] = {{"-p", "a red apple"}, {"-p", "a red apple", "--precise"}, {"-p", "a cat"}};
    const char *path[3];
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "run%d.safetensors", i);
        path[i] = file(name);
        RUN(more[i][0], more[i][1], "-s", "1", "--steps", "2", "--trace", path[i], "-q", "-o", file("x.ppm"),
            more[i][2]);
        expect_success("drawing");
    }
    expect(path[0], path[1], 0, "no divergence: ");
    expect_words("18 settings that both files tell agree");
    expect(path[0], path[2], 1, "1 setting differs; diverges first at tokens: ");
    expect_words("settings that differ: prompt: REF \"a red apple\", MINE \"a cat\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_trace_does_not_diverge),
        cmocka_unit_test(errors_of_float32_raise_no_alarm),
        cmocka_unit_test(a_smaller_error_that_stays_is_a_divergence),
        cmocka_unit_test(a_large_error_is_a_divergence_alone),
        cmocka_unit_test(inputs_have_a_bound_of_their_own),
        cmocka_unit_test(numbers_that_are_not_finite_on_one_side_diverge),
        cmocka_unit_test(nan_and_infinities_in_both_are_told_in_the_first_line),
        cmocka_unit_test(an_infinity_is_outside_any_tolerance_of_another_number),
        cmocka_unit_test(equal_errors_are_all_among_the_largest),
        cmocka_unit_test(noise_with_nan_is_not_called_noise_of_another_seed),
        cmocka_unit_test(a_scale_is_said),
        cmocka_unit_test(an_error_at_the_border_is_told_from_one_inside),
        cmocka_unit_test(an_error_in_one_channel_is_told_also_from_channels_last),
        cmocka_unit_test(a_page_has_all_tensors_and_nothing_from_elsewhere),
        cmocka_unit_test(an_inherited_error_is_told_from_one_that_a_module_adds),
        cmocka_unit_test(another_shape_is_named),
        cmocka_unit_test(settings_that_mean_the_same_agree),
        cmocka_unit_test(settings_that_differ_are_said_first_and_inputs_with_them),
        cmocka_unit_test(what_only_one_side_has_is_counted_and_bracketed),
        cmocka_unit_test(nothing_in_common_is_an_error_that_shows_names_of_both),
        cmocka_unit_test(names_of_both_versions_of_transformers_match),
        cmocka_unit_test(paths_of_onnx_and_what_wrappers_add_match),
        cmocka_unit_test(names_of_compvis_and_openclip_match),
        cmocka_unit_test(compvis_names_without_roots_and_of_containers_match),
        cmocka_unit_test(what_ggml_adds_to_the_name_of_a_view_is_passed_over),
        cmocka_unit_test(names_that_ggml_cut_are_those_that_begin_so),
        cmocka_unit_test(a_file_of_names_is_followed),
        cmocka_unit_test(pairs_are_guessed_by_order_shape_and_numbers),
        cmocka_unit_test(too_many_tensors_to_guess_among_are_said),
        cmocka_unit_test(channels_last_are_seen_and_a_fault_in_them_too),
        cmocka_unit_test(transposed_and_exchanged_halves_are_seen),
        cmocka_unit_test(one_tensor_alone_in_another_layout_is_named),
        cmocka_unit_test(a_batch_in_single_calls_is_put_together),
        cmocka_unit_test(calls_in_files_of_their_own_are_put_together),
        cmocka_unit_test(predictions_that_have_names_of_their_own_stay_apart),
        cmocka_unit_test(a_directory_of_arrays_is_a_trace),
        cmocka_unit_test(a_directory_of_plain_numbers_is_a_trace),
        cmocka_unit_test(one_array_is_called_as_its_file),
        cmocka_unit_test(arrays_that_contradict_themselves_are_refused),
        cmocka_unit_test(archives_of_arrays_are_read),
        cmocka_unit_test(json_has_every_tensor_and_the_measures),
        cmocka_unit_test(files_sorted_by_name_are_brought_into_the_order_of_execution),
        cmocka_unit_test(names_alone_give_the_order_of_a_run),
        cmocka_unit_test(two_ways_to_compute_do_not_diverge_and_another_prompt_does),
    };
    return cmocka_run_group_tests_name("compare", tests, child_setup, child_teardown);
}
