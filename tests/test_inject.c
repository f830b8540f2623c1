/* test_inject.c - a run that goes on with the tensors of another program's trace: --inject and sd_trace_inject. The
 * other program is this one with a mistake put into its trace. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "test.h"
#include "../sd_tools.h"
#include "../tensors.h"
#include "child.h"

#define MODULE "step.0.unet.down_blocks.1.resnets.0.conv1"

static char file[8][512];   /* paths of the traces and pictures below */
enum { CLEAN, FAULTY, BROKEN, INJECTED, PICTURE_A, PICTURE_B, OTHER };

/* The tensors of a trace, to be changed and written again. */
typedef struct trace { sd_tensors of; sd_traced *t; float **own; size_t n; } trace;

static trace read_trace(const char *path)
{
    sd_error e = {0};
    trace t = {.n = 0};
    if (sd_tensors_open(&t.of, path, &e)) fail_msg("%s", e.text);
    t.n = t.of.n;
    t.t = calloc(t.n, sizeof *t.t);
    t.own = calloc(t.n, sizeof *t.own);
    for (size_t i = 0; i < t.n; i++) {
        const sd_entry *x = t.of.at[i];
        t.t[i] = (sd_traced){.name = x->name, .dtype = x->dt, .nd = x->nd, .data = x->data};
        memcpy(t.t[i].dim, x->dim, sizeof t.t[i].dim);
    }
    return t;
}

static size_t place_in(const trace *t, const char *name)
{
    size_t i = 0;
    while (i < t->n && strcmp(t->t[i].name, name) != 0) i++;
    if (i == t->n) fail_msg("there is no %s", name);
    return i;
}

/* The numbers of a tensor, to be changed. */
static float *own_at(trace *t, size_t i)
{
    t->own[i] = malloc(t->of.at[i]->bytes);
    assert_non_null(t->own[i]);
    memcpy(t->own[i], t->t[i].data, t->of.at[i]->bytes);
    t->t[i].data = t->own[i];
    return t->own[i];
}

static float *own_numbers(trace *t, const char *name, size_t *n)
{
    size_t i = place_in(t, name);
    *n = t->of.at[i]->bytes / sizeof(float);
    return own_at(t, i);
}

static void write_list(const char *path, const sd_traced *list, size_t n)
{
    sd_error e = {0};
    if (sd_safetensors_write(path, list, n, &e)) fail_msg("%s", e.text);
}

static void write_trace(trace *t, const char *path)
{
    if (path) write_list(path, t->t, t->n);
    for (size_t i = 0; i < t->n; i++) free(t->own[i]);
    free(t->own);
    free(t->t);
    sd_tensors_close(&t->of);
}

#define DRAW "-p", "a red apple", "-s", "5", "--steps", "2", "--cfg-scale", "7.5", "--batch-size", "2"

/* The trace of a program whose MODULE has one percent too much: whatever comes behind it is computed from that. */
static int write_traces(void **state)
{
    static const char *const names[] = {"clean.safetensors", "faulty.safetensors", "broken.safetensors",
                                        "injected.safetensors", "a.ppm", "b.ppm", "small.safetensors"};
    size_t n;
    if (child_setup(state)) return 1;
    for (size_t i = 0; i < SD_COUNT(names); i++) snprintf(file[i], sizeof file[i], "%s", in_work("%s", names[i]));
    RUN(DRAW, "--trace", file[CLEAN], "-o", file[PICTURE_A]);
    expect_success("a trace");
    trace t = read_trace(file[CLEAN]);
    float *x = own_numbers(&t, MODULE, &n);
    for (size_t i = 0; i < n; i++) x[i] *= 1.01f;
    write_trace(&t, file[BROKEN]);
    RUN(DRAW, "--inject", file[BROKEN], "--inject-filter", MODULE, "--trace", file[FAULTY], "-o", file[PICTURE_B]);
    expect_success("a mistake");
    t = read_trace(file[FAULTY]);   /* a trace has what was computed: the mistake is put in again */
    x = own_numbers(&t, MODULE, &n);
    for (size_t i = 0; i < n; i++) x[i] *= 1.01f;
    write_trace(&t, file[FAULTY]);
    return 0;
}

/* The answer of sd compare has these words, however its lines are broken. */
static void expect_words(const char *words)
{
    static char flat[sizeof ran.out];
    size_t n = 0;
    for (const char *c = ran.out; *c; c++)
        if ((*c != ' ' && *c != '\n') || (n && flat[n - 1] != ' ')) flat[n++] = *c == '\n' ? ' ' : *c;
    flat[n] = 0;
    if (!strstr(flat, words)) fail_msg("not \"%s\": %.2000s", words, ran.out);
}

/* ------------------------------------------------------------------------------------------- what it does */

TEST(with_its_own_tensors_a_run_is_the_same_bit_for_bit)
{
    RUN(DRAW, "--inject", file[CLEAN], "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    expect_success("its own trace");
    if (!strstr(ran.err, "tensors were replaced by those of")) fail_msg("nothing is said: %s", ran.err);
    assert_null(strstr(ran.err, "lacks"));
    assert_true(same_files(file[PICTURE_A], file[PICTURE_B]));
    RUN("compare", file[CLEAN], file[INJECTED]);
    expect_words("every number is the same");
}

TEST(what_is_injected_is_not_written_over)
{
    RUN(DRAW, "--inject", file[CLEAN], "--trace", file[CLEAN], "-o", file[PICTURE_B]);
    assert_int_equal(ran.code, 2);
    if (!strstr(ran.err, "is read and would be written over")) fail_msg("another error: %s", ran.err);
    RUN("compare", file[CLEAN], file[CLEAN]);
    assert_int_equal(ran.code, 0);
}

/* Without injection the error of one module is in everything behind it. With it, in that module alone. */
TEST(only_the_module_that_is_wrong_differs)
{
    RUN("compare", file[FAULTY], file[CLEAN]);
    assert_int_equal(ran.code, 1);
    assert_null(strstr(ran.out, " 1 diverge,"));
    RUN(DRAW, "--inject", file[FAULTY], "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    expect_success("a faulty trace");
    RUN("compare", file[FAULTY], file[INJECTED]);
    assert_int_equal(ran.code, 1);
    expect_words("diverges first at " MODULE ": relative L2 error 0.0099");
    expect_words("compared, 1 diverge,");
}

/* The run on the other's tensors says what each module adds, whichever side is theirs. */
TEST(what_each_module_adds_is_measured_by_a_third_trace)
{
    RUN(DRAW, "--inject", file[FAULTY], "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    expect_success("a faulty trace");
    RUN("compare", file[CLEAN], file[FAULTY], "--injected", file[INJECTED]);
    assert_int_equal(ran.code, 1);
    expect_words("; on MINE's own inputs 1 module adds more than one operation may be off, first at " MODULE);
    expect_words("inherited result added x * ");
    RUN("compare", file[FAULTY], file[CLEAN], "--injected", file[INJECTED]);
    expect_words("; on REF's own inputs 1 module adds more than one operation may be off, first at " MODULE);
    RUN("compare", "--json", file[CLEAN], file[FAULTY], "--injected", file[INJECTED]);
    expect_words("\"measured\":true");
    RUN("compare", file[FAULTY], file[INJECTED]);   /* all of these errors are added */
    expect_words("by module: added is its largest error on the other's inputs");
    RUN("compare", file[CLEAN], file[FAULTY], "--injected", file[CLEAN]);
    expect_error("no injection", 2, "does not say of itself that its run went on with another one's tensors");
    RUN("compare", file[CLEAN], file[BROKEN], "--injected", file[INJECTED]);
    expect_error("another trace's", 2, "expected REF or MINE");
    RUN(DRAW, "--inject", file[FAULTY], "--inject-filter", "noise", "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    RUN("compare", file[CLEAN], file[FAULTY], "--injected", file[INJECTED]);
    expect_error("a part", 2, "without --inject-filter");
}

/* Writes the injected trace as the other program's, each number wrong by a share: of all tensors, of products (0: as
 * the others), and of one tensor. */
static void write_rounded(double all, double products, const char *name, double one)
{
    uint32_t seed = 1;
    trace t = read_trace(file[INJECTED]);
    for (size_t i = 0; i < t.n; i++) {
        size_t n;
        if (t.t[i].dtype != SD_F32 || sd_glob_list("noise,timestep.*", t.t[i].name)) continue;
        float *x = own_numbers(&t, t.t[i].name, &n);
        bool product = products > 0 && sd_glob_list("*conv?,*to_?,*to_out.0,*proj_*,*ff.net.2", t.t[i].name);
        double share = strcmp(t.t[i].name, name) == 0 ? one : product ? products : all;
        for (size_t k = 0; k < n; k++) {
            seed = seed * 1664525u + 1013904223u;
            x[k] *= (float)(1 + sqrt(3.) * share * ((double)(seed >> 8) / (1 << 23) - 1));
        }
    }
    write_trace(&t, file[OTHER]);
}

/* GroupNorm with an eps of 1e-6 makes 9e-6 of the first norm, less than float32 makes of some tensors. */
TEST(an_error_of_one_operation_counts_where_nothing_is_inherited)
{
    static const char norm[] = "step.0.unet.down_blocks.0.resnets.0.norm1";
    RUN(DRAW, "--inject", file[CLEAN], "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    expect_success("a trace that says of itself that it is injected");
    write_rounded(1e-7, 0, "", 0);
    RUN("compare", file[OTHER], file[INJECTED]);
    expect_words("no divergence");
    write_rounded(1e-7, 0, norm, 9e-6);
    RUN("compare", file[CLEAN], file[OTHER]);   /* another run: it says nothing of injection */
    expect_words("no divergence");
    RUN("compare", file[OTHER], file[INJECTED]);
    assert_int_equal(ran.code, 1);
    expect_words("diverges first at step.0.unet.down_blocks.0.resnets.0.norm1: relative L2 error 8.9");
    expect_words("for one operation");
    expect_words("compared, 1 diverge,");
    RUN(DRAW, "--inject", file[CLEAN], "--inject-filter", "noise", "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    RUN("compare", file[OTHER], file[INJECTED]);   /* but for the noise it has inherited everything */
    expect_words("no divergence");
}

/* TF32 rounds products to 11 bits, and nothing else; float16 everything. */
TEST(a_program_that_rounds_more_raises_no_alarm)
{
    static const char conv[] = "step.1.unet.mid_block.resnets.0.conv2";
    RUN(DRAW, "--inject", file[CLEAN], "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    write_rounded(1e-7, 3e-4, "", 0);
    RUN("compare", file[OTHER], file[INJECTED]);
    expect_words("no divergence");
    write_rounded(2e-4, 0, "", 0);
    RUN("compare", file[OTHER], file[INJECTED]);
    expect_words("no divergence");
    write_rounded(0.1, 0.1, "", 0);   /* that is no rounding: all are wrong */
    RUN("compare", file[OTHER], file[INJECTED]);
    assert_int_equal(ran.code, 1);
    write_rounded(1e-7, 3e-4, conv, 1e-2);
    RUN("compare", file[OTHER], file[INJECTED]);
    expect_words("diverges first at step.1.unet.mid_block.resnets.0.conv2");
    expect_words("compared, 1 diverge,");
}

/* A run with the right inputs of the first step alone goes wrong behind them. */
TEST(a_filter_says_what_is_taken)
{
    RUN(DRAW, "--inject", file[FAULTY], "--inject-filter", "latents.0,step.0.unet.conv_in", "--trace", file[INJECTED],
        "-o", file[PICTURE_B]);
    expect_success("a filter");
    if (!strstr(ran.err, "2 tensors were replaced")) fail_msg("not two: %s", ran.err);
    assert_true(same_files(file[PICTURE_A], file[PICTURE_B]));
    RUN(DRAW, "--inject", file[FAULTY], "--inject-filter", "step.9.*", "-o", file[PICTURE_B]);
    assert_int_equal(ran.code, 2);
    if (!strstr(ran.err, "none of this run's")) fail_msg("not said: %s", ran.err);
}

/* transformers 5 has no text_model.; a program may trace one network without what stands before its names. */
TEST(names_are_matched_as_compare_matches_them)
{
    static char shorter[2][64] = {"mid_block.resnets.0", "mid_block.resnets.1"};
    trace t = read_trace(file[CLEAN]);
    const size_t a = place_in(&t, "step.0.unet.mid_block.resnets.0"),
                 b = place_in(&t, "step.0.unet.mid_block.resnets.1"),
                 text = place_in(&t, "text_encoder.text_model.final_layer_norm");
    t.t[0] = t.t[text];
    t.t[0].name = "text_encoder.final_layer_norm";
    t.n = 1;
    write_trace(&t, file[OTHER]);
    RUN(DRAW, "--inject", file[OTHER], "-o", file[PICTURE_B]);
    expect_success("transformers 5");
    if (!strstr(ran.err, "1 tensors were replaced")) fail_msg("not one: %s", ran.err);
    t = read_trace(file[CLEAN]);
    t.t[0] = t.t[a];
    t.t[1] = t.t[b];
    t.t[0].name = shorter[0];
    t.t[1].name = shorter[1];
    t.n = 2;
    write_trace(&t, file[OTHER]);
    RUN(DRAW, "--inject", file[OTHER], "-o", file[PICTURE_B]);
    expect_success("a single network");
    if (!strstr(ran.err, "2 tensors were replaced")) fail_msg("not two: %s", ran.err);
}

static void expect_same_picture(const char *what, const char *said)
{
    RUN(DRAW, "--inject", file[OTHER], "--trace", file[INJECTED], "-o", file[PICTURE_B]);
    expect_success(what);
    if (!strstr(ran.err, said)) fail_msg("%s: not \"%s\": %s", what, said, ran.err);
    assert_true(same_files(file[PICTURE_A], file[PICTURE_B]));
    RUN("compare", file[OTHER], file[INJECTED]);
    expect_words("no divergence");
}

/* Square ones too, for which the shapes say nothing. One that is flattened, as transformers have it. */
TEST(channels_last_are_taken_as_such_and_said)
{
    trace t = read_trace(file[CLEAN]);
    for (size_t i = 0; i < t.n; i++) {
        sd_traced *x = &t.t[i];
        if (x->nd != 4) continue;
        const float *from = x->data;
        float *to = own_at(&t, i);
        const size_t n = (size_t)x->dim[0], c = (size_t)x->dim[1], hw = (size_t)(x->dim[2] * x->dim[3]);
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < c; b++)
                for (size_t k = 0; k < hw; k++) to[(a * hw + k) * c + b] = from[(a * c + b) * hw + k];
        const int64_t last[4] = {x->dim[0], x->dim[2], x->dim[3], x->dim[1]};
        memcpy(x->dim, last, sizeof last);
        if (strcmp(x->name, MODULE) != 0) continue;
        x->nd = 3;
        memcpy(x->dim, (const int64_t[4]){last[0], last[1] * last[2], last[3], 0}, sizeof x->dim);
    }
    write_trace(&t, file[OTHER]);
    expect_same_picture("channels last", "in another layout than this run's, and taken so: channels last in noise");
}

/* Has it the negative prompt's samples first? */
static bool has_prompts(const sd_traced *x)
{
    return x->dtype == SD_F32 && x->dim[0] == 4 && sd_glob_list("*unet.*", x->name);
}

TEST(the_prompt_before_the_negative_one_is_taken_as_such_and_said)
{
    trace t = read_trace(file[CLEAN]);
    for (size_t i = 0; i < t.n; i++) {
        const size_t half = sd_traced_numbers(&t.t[i]) / 2;
        const float *from = t.t[i].data;
        if (!has_prompts(&t.t[i])) continue;
        float *to = own_at(&t, i);
        memcpy(to, from + half, half * sizeof *to);
        memcpy(to + half, from, half * sizeof *to);
    }
    write_trace(&t, file[OTHER]);
    expect_same_picture("the prompt first", "were taken with the halves of the batch exchanged, as they fit, the first "
                        "is step.0.unet.");
}

TEST(a_batch_in_two_calls_is_taken_as_such_and_said)
{
    static sd_traced list[4096];
    static char name[4096][160];
    trace t = read_trace(file[CLEAN]);
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) {
        bool parts = has_prompts(&t.t[i]);
        for (int k = 0; k < 1 + parts; k++, n++) {
            assert_true(n < SD_COUNT(list));
            list[n] = t.t[i];
            if (!parts) continue;
            snprintf(name[n], sizeof *name, "%s#%d", t.t[i].name, k);
            list[n].name = name[n];
            list[n].dim[0] = 2;
            list[n].data = (const float *)t.t[i].data + (k ? sd_traced_numbers(&list[n]) : 0);
        }
    }
    write_list(file[OTHER], list, n);
    write_trace(&t, NULL);
    expect_same_picture("two calls", "put together from calls of fewer samples");
}

TEST(a_file_of_names_says_what_is_what)
{
    static const char names[] = "# theirs ours\nmiddle/*:0 step.0.unet.mid_block.*\n";
    trace t = read_trace(file[CLEAN]);
    t.t[0] = t.t[place_in(&t, "step.0.unet.mid_block.resnets.0")];
    t.t[0].name = "middle/resnets.0:0";
    t.n = 1;
    write_trace(&t, file[OTHER]);
    spill(in_work("names.txt"), names, sizeof names - 1);
    RUN(DRAW, "--inject", file[OTHER], "--inject-names", in_work("names.txt"), "-o", file[PICTURE_B]);
    expect_success("a file of names");
    if (!strstr(ran.err, "1 tensors were replaced")) fail_msg("not one: %s", ran.err);
    assert_true(same_files(file[PICTURE_A], file[PICTURE_B]));
}

/* -------------------------------------------------------------------------------------------- what it says */

TEST(what_either_side_lacks_is_said)
{
    trace t = read_trace(file[CLEAN]);
    t.t[place_in(&t, MODULE)].name = "step.0.unet.other";
    write_trace(&t, file[OTHER]);
    RUN(DRAW, "--inject", file[OTHER], "-o", file[PICTURE_B]);
    expect_success("a trace that lacks one");
    if (!strstr(ran.err, "lacks 1 tensors of this run, which are computed: " MODULE))
        fail_msg("the missing one is not named: %s", ran.err);
    if (!strstr(ran.err, "has 1 tensors that this run has not: step.0.unet.other"))
        fail_msg("the other one is not named: %s", ran.err);
    RUN(DRAW, "-q", "--inject", file[OTHER], "-o", file[PICTURE_B]);
    assert_string_equal(ran.err, "");
}

TEST(a_tensor_of_another_shape_is_an_error_before_anything_is_computed)
{
    trace t = read_trace(file[CLEAN]);
    sd_traced *x = &t.t[place_in(&t, MODULE)];
    x->dim[1] /= 2;
    x->dim[2] *= 2;
    write_trace(&t, file[OTHER]);
    RUN(DRAW, "--inject", file[OTHER], "-o", file[PICTURE_B]);
    assert_int_equal(ran.code, 2);
    if (!strstr(ran.err, "tensor \"" MODULE "\": expected [4,") || strstr(ran.out, "seed"))
        fail_msg("not said, or too late: %s", ran.err);
    RUN(DRAW, "--inject", file[OTHER], "--inject-filter", "latents.0", "-o", file[PICTURE_B]);
    expect_success("a filter that leaves it out");
}

TEST(numbers_that_are_not_finite_are_not_taken)
{
    size_t n;
    trace t = read_trace(file[CLEAN]);
    own_numbers(&t, MODULE, &n)[3] = NAN;
    write_trace(&t, file[OTHER]);
    RUN(DRAW, "--inject", file[OTHER], "-o", file[PICTURE_B]);
    assert_int_not_equal(ran.code, 0);
    if (!strstr(ran.err, "tensor \"" MODULE "\": number 3 is not finite")) fail_msg("not said: %s", ran.err);
}

TEST(what_cannot_be_done_is_refused)
{
    static const struct { const char *what, *option[4], *says; } bad[] = {
        {"a filter alone", {"--inject-filter", "latents.0"}, "--inject-filter needs --inject"},
        {"names alone", {"--inject-names", "x.txt"}, "--inject-names needs --inject"},
        {"two runs", {"--inject", file[CLEAN], "--batch-count", "2"}, "--inject is for one run"},
        {"no such file", {"--inject", "nowhere.safetensors"}, "nowhere.safetensors"},
        {"another file", {"--inject", "weights/tiny/unet/diffusion_pytorch_model.safetensors"}, "has none of the"},
        {"unknown names", {"--inject", file[CLEAN], "--sampling-method", "dpm_adaptive"}, "decides while it runs"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        const char *const *o = bad[i].option;
        RUN("-p", "a", "--steps", "2", "-o", file[PICTURE_B], o[0], o[1], o[2], o[3]);
        if (ran.code != 2 || !strstr(ran.err, bad[i].says)) fail_msg("%s: %d, %s", bad[i].what, ran.code, ran.err);
    }
}

/* --------------------------------------------------------------------------------------------- the library */

typedef struct seen { float before, after; } seen;

static void note(void *user, const sd_traced *x)
{
    seen *s = user;
    if (strcmp(x->name, MODULE) == 0) s->before = ((const float *)x->data)[0];
}

TEST(whoever_looks_sees_what_was_computed)
{
    sd_options o;
    sd_params p;
    sd_ctx *c;
    sd_image image = {0};
    seen s = {0};
    sd_options_init(&o);
    sd_params_init(&p);
    o.model = "weights/tiny";
    p.prompt = "a red apple";
    p.seed = 5;
    p.batch = 2;
    p.sampling.steps = 2;
    p.guidance.scale = 7.5;
    assert_int_equal(sd_open(&c, &o), SD_OK);
    assert_int_equal(sd_set_trace(c, NULL, note, &s), SD_OK);
    assert_int_equal(sd_trace_inject(c, NULL, file[FAULTY], NULL), SD_ERR_ARG);
    assert_int_equal(sd_trace_inject(c, &p, NULL, NULL), SD_ERR_ARG);
    if (sd_trace_inject(c, &p, file[FAULTY], NULL)) fail_msg("%s", sd_error_text(c));
    sd_image images[2] = {{0}};
    if (sd_generate(c, &p, images)) fail_msg("%s", sd_error_text(c));
    assert_int_equal(sd_trace_close(c), SD_OK);
    trace t = read_trace(file[CLEAN]);
    s.after = ((const float *)t.t[place_in(&t, MODULE)].data)[0];
    assert_float_equal(s.before, s.after, 0);
    write_trace(&t, file[OTHER]);
    if (sd_trace_inject(c, &p, file[CLEAN], NULL)) fail_msg("%s", sd_error_text(c));   /* alone */
    sd_image_free(&image);
    sd_image_free(&images[0]);
    sd_image_free(&images[1]);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_its_own_tensors_a_run_is_the_same_bit_for_bit),
        cmocka_unit_test(what_is_injected_is_not_written_over),
        cmocka_unit_test(only_the_module_that_is_wrong_differs),
        cmocka_unit_test(what_each_module_adds_is_measured_by_a_third_trace),
        cmocka_unit_test(an_error_of_one_operation_counts_where_nothing_is_inherited),
        cmocka_unit_test(a_program_that_rounds_more_raises_no_alarm),
        cmocka_unit_test(a_filter_says_what_is_taken),
        cmocka_unit_test(names_are_matched_as_compare_matches_them),
        cmocka_unit_test(channels_last_are_taken_as_such_and_said),
        cmocka_unit_test(the_prompt_before_the_negative_one_is_taken_as_such_and_said),
        cmocka_unit_test(a_batch_in_two_calls_is_taken_as_such_and_said),
        cmocka_unit_test(a_file_of_names_says_what_is_what),
        cmocka_unit_test(what_either_side_lacks_is_said),
        cmocka_unit_test(a_tensor_of_another_shape_is_an_error_before_anything_is_computed),
        cmocka_unit_test(numbers_that_are_not_finite_are_not_taken),
        cmocka_unit_test(what_cannot_be_done_is_refused),
        cmocka_unit_test(whoever_looks_sees_what_was_computed),
    };
    return cmocka_run_group_tests_name("inject", tests, write_traces, child_teardown);
}
