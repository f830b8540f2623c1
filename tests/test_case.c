/* test_case.c - minimal cases from outside: sd extract writes one module of a run into a file, sd replay computes it
 * from that file alone. The other program is this one with a mistake put into its trace. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "test.h"
#include "../case.h"
#include "../tensors.h"
#include "child.h"

#define DRAW "-p", "a red apple", "-s", "5", "--steps", "1", "--cfg-scale", "7.5"
#define NORM "step.0.unet.down_blocks.1.resnets.0.norm2"

static char theirs[512], spoilt[512], out[512];

/* Copies a case or a trace; the tensor `name` (NULL: none) times `factor`, the program (NULL: as it is) replaced. */
static void copy_file(const char *to, const char *from, const char *name, float factor, const char *program)
{
    sd_error e = {0};
    sd_tensors of;
    sd_traced t[1024];
    static float own[1 << 20];
    if (sd_tensors_open(&of, from, &e)) fail_msg("%s", e.text);
    assert_true(of.n <= SD_COUNT(t));
    for (size_t i = 0; i < of.n; i++) {
        const sd_entry *x = of.at[i];
        t[i] = (sd_traced){.name = x->name, .dtype = x->dt, .nd = x->nd, .data = x->data};
        memcpy(t[i].dim, x->dim, sizeof t[i].dim);
        if (!name || strcmp(name, x->name) != 0) continue;
        assert_true(x->bytes <= sizeof own);
        memcpy(own, x->data, x->bytes);
        for (size_t k = 0; k < x->bytes / sizeof *own; k++) own[k] *= factor;
        t[i].data = own;
    }
    if (program) {
        FILE *f = fopen(to, "wb");   /* by hand, for the writer takes no text here */
        sd_text head = {0};
        unsigned char size[8];
        uint64_t at = 0;
        sd_text_add(&head, "{\"__metadata__\":{\"program\":\"");
        for (const char *c = program; *c; c++) sd_text_add(&head, *c == '"' ? "\\\"" : "%c", *c);
        sd_text_add(&head, "\"}");
        for (size_t i = 0; i < of.n; i++) {
            sd_text_add(&head, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", t[i].name);
            for (int d = 0; d < t[i].nd; d++) sd_text_add(&head, "%s%lld", d ? "," : "", (long long)t[i].dim[d]);
            sd_text_add(&head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                        (unsigned long long)(at + of.at[i]->bytes));
            at += of.at[i]->bytes;
        }
        sd_text_add(&head, "}");
        for (int i = 0; i < 8; i++) size[i] = (unsigned char)(head.n >> (8 * i));
        assert_non_null(f);
        fwrite(size, 1, 8, f);
        fwrite(head.s, 1, head.n, f);
        for (size_t i = 0; i < of.n; i++) fwrite(t[i].data, 1, of.at[i]->bytes, f);
        fclose(f);
        free(head.s);
    } else if (sd_safetensors_write(to, t, of.n, &e)) {
        fail_msg("%s", e.text);
    }
    sd_tensors_close(&of);
}

static int write_traces(void **state)
{
    if (child_setup(state)) return 1;
    snprintf(theirs, sizeof theirs, "%s", in_work("theirs.safetensors"));
    snprintf(spoilt, sizeof spoilt, "%s", in_work("spoilt.safetensors"));
    snprintf(out, sizeof out, "%s", in_work("case.safetensors"));
    RUN(DRAW, "--trace", theirs, "-o", in_work("a.ppm"));
    expect_success("a trace");
    copy_file(spoilt, theirs, NORM, 1.001f, NULL);
    return 0;
}

static void extract(const char *trace, const char *module)
{
    RUN("extract", DRAW, "--trace", trace, "--module", module, "-o", out);
    if (ran.code) fail_msg("%s: %s", module, ran.err);
}

/* ----------------------------------------------------------------------------------------------- cases */

TEST(a_module_is_computed_from_its_file_alone)
{
    static const struct { const char *module, *operations; } of[] = {
        {NORM, "t2 = group_norm("},                       /* behind the sum of conv1 and the time embedding */
        {"step.0.unet.conv_in", "t1 = conv2d(given.0"},
        {"step.0.unet.time_embedding.linear_1", "t1 = linear(step.0.unet.time_proj"},
        {"step.0.unet.down_blocks.0.downsamplers.0.conv", "t1 = conv2d("},
        {"step.0.unet.down_blocks.1.resnets.0", "t11 = add("},   /* all of it, with its shortcut */
        {"step.0.unet.mid_block.attentions.0", " = add(t"},
        {"step.0.unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0", "t1 = attention("},
        {"step.0.unet.mid_block.attentions.0.transformer_blocks.0.ff", "t3 = linear("},
        {"step.0.unet.up_blocks.0.resnets.0.norm1", "t1 = concat("},
        {"step.0.unet.up_blocks.0.upsamplers.0.conv", "t1 = conv2d("},
        {"step.0.unet.conv_out", "t1 = conv2d(step.0.unet.conv_act"},
        {"text_encoder.text_model.encoder.layers.1.self_attn.out_proj", "t1 = attention("},
        {"text_encoder.text_model.final_layer_norm", "t1 = layer_norm("},
        {"vae.decoder.mid_block.attentions.0.group_norm", "t1 = group_norm("},   /* shown with channels first */
        {"vae.decoder.up_blocks.0.resnets.0", "group_norm("},
    };
    for (size_t i = 0; i < SD_COUNT(of); i++) {
        extract(theirs, of[i].module);
        RUN("replay", out);
        if (ran.code || strncmp(ran.out, of[i].module, strlen(of[i].module)) != 0 || !strstr(ran.out, "theirs agrees"))
            fail_msg("%s: %d, %s%s", of[i].module, ran.code, ran.out, ran.err);
        if (!strstr(ran.out, of[i].operations)) fail_msg("not \"%s\": %s", of[i].operations, ran.out);
    }
}

TEST(a_result_that_is_wrong_differs_and_the_fit_is_told)
{
    extract(spoilt, NORM);
    RUN("replay", out);
    assert_int_equal(ran.code, 1);
    if (!strstr(ran.out, "theirs differs: relative L2 error 0.001,") || !strstr(ran.out, "theirs = 1.001 here"))
        fail_msg("not said: %s", ran.out);
    extract(spoilt, "step.0.unet.down_blocks.1.resnets.0");   /* inside it nothing is theirs */
    RUN("replay", out);
    assert_int_equal(ran.code, 0);
}

/* A tensor that the trace lacks is computed, so the case reaches further back. */
TEST(a_module_begins_where_the_trace_has_tensors)
{
    copy_file(spoilt, theirs, NULL, 1, NULL);
    RUN("extract", DRAW, "--trace", theirs, "--module", "step.0.unet.up_blocks.0.resnets.0.conv1", "-o", out);
    RUN("replay", out);
    if (!strstr(ran.out, "t1 = act(step.0.unet.up_blocks.0.resnets.0.norm1")) fail_msg("not said: %s", ran.out);
    copy_file(spoilt, theirs, NORM, 1.001f, NULL);
}

/* ------------------------------------------------------------------------- the readers in the document */

/* The reader in C, as it stands in docs/VALIDATING.md, compiled; its lines. */
static int compile_reader(void)
{
    size_t n;
    char *text = slurp("docs/VALIDATING.md", &n), *begin = strstr(text, "```c\n#include <math.h>"), command[2048];
    int lines = 0;
    assert_non_null(begin);
    begin += strlen("```c\n");
    char *end = strstr(begin, "```\n");
    assert_non_null(end);
    for (const char *c = begin; c < end; c++) lines += *c == '\n';
    spill(in_work("reader.c"), begin, (size_t)(end - begin));
    free(text);
    snprintf(command, sizeof command, "cc -std=c99 -O1 -Wall -Wextra -Werror -o %s %s -lm", in_work("reader"),
             in_work("reader.c"));
    assert_int_equal(system(command), 0);
    return lines;
}

static double read_by_reader(void)
{
    char command[2048];
    double error = -1;
    snprintf(command, sizeof command, "%s %s step.0.unet.conv_in down_blocks.0.resnets.0.norm1.weight "
             "down_blocks.0.resnets.0.norm1.bias 16 1e-5", in_work("reader"), out);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "theirs: relative error %lf", &error), 1);
    assert_int_equal(pclose(f), 0);
    return error;
}

TEST(the_reader_in_the_document_reads_a_case)
{
    static const char module[] = "step.0.unet.down_blocks.0.resnets.0.norm1";
    if (system("cc --version >/dev/null 2>&1") != 0) skip();
    assert_in_range(compile_reader(), 1, 40);
    extract(theirs, module);
    assert_true(read_by_reader() < 1e-6);
    copy_file(spoilt, theirs, module, 1.001f, NULL);
    extract(spoilt, module);
    double error = read_by_reader();
    assert_true(fabs(error - 0.001) < 1e-6);
    copy_file(spoilt, theirs, NORM, 1.001f, NULL);
}

/* -------------------------------------------------------------------------------------------- bad input */

TEST(what_no_case_can_have_is_refused)
{
    static const struct { const char *what, *option[6], *says; } bad[] = {
        {"no module", {"--trace", theirs}, "give --module NAME and --trace T"},
        {"no trace", {"--module", NORM}, "give --module NAME and --trace T"},
        {"an unknown module", {"--trace", theirs, "--module", "step.0.unet.nothing"}, "is \"step.0.unet.nothing\" of"},
        {"noise", {"--trace", theirs, "--module", "noise"}, "not made by an operation"},
        {"an embedding", {"--trace", theirs, "--module", "step.0.unet.time_proj"}, "not made by an operation"},
        {"a picture", {"--trace", theirs, "--module", NORM, "-o", "a.png"}, "must end in .safetensors"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        const char *const *o = bad[i].option;
        RUN("extract", DRAW, o[0], o[1], o[2], o[3], o[4], o[5]);
        if (ran.code != 2 || !strstr(ran.err, bad[i].says)) fail_msg("%s: %d, %s", bad[i].what, ran.code, ran.err);
    }
}

#define IN(name, shape) "\"in\":[{\"name\":\"" name "\",\"shape\":" shape "}]"
#define OPS(...) "{\"channels_first\":true,\"ops\":[" __VA_ARGS__ "]}"

TEST(a_case_that_contradicts_itself_is_refused)
{
    static const struct { const char *program, *says; } bad[] = {
        {OPS(), "1 to 4096 operations"},
        {"[]", "object"},
        {OPS("{\"op\":\"divide\"}"), "it is not known: \"divide\""},
        {OPS("{\"op\":\"act\",\"args\":[1]}"), "no name or no shape of an input"},
        {OPS("{\"op\":\"act\",\"args\":[1]," IN("t1", "[2]") "}"), "nothing of this shape that is called \"t1\""},
        {OPS("{\"op\":\"act\",\"args\":[1]," IN("t", "[2]") "}"), "nothing of this shape that is called \"t\""},
        {OPS("{\"op\":\"act\",\"args\":[1]," IN("ours", "[2]") "}"), "of this shape that is called \"ours\""},
        {OPS("{\"op\":\"act\",\"args\":[1]," IN("ours", "[2,-3]") "}"), "no name or no shape"},
        {OPS("{\"op\":\"act\",\"args\":[99]," IN("ours", "[12288]") "}"), "unknown activation"},
        {OPS("{\"op\":\"linear\",\"weight\":\"none\"," IN("ours", "[128,96]") "}"), "lacks the weight \"none\""},
        {OPS("{\"op\":\"linear\"," IN("ours", "[128,96]") "}"), "linear"},
        {OPS("{\"op\":\"linear\",\"weight\":\"ours\"," IN("ours", "[128,96]") "}"), "linear"},
        {OPS("{\"op\":\"conv2d\",\"weight\":\"ours\",\"args\":[0,1,1,1,1,0]," IN("ours", "[2,8,8,96]") "}"), "conv2d"},
        {OPS("{\"op\":\"conv2d\",\"weight\":\"ours\",\"args\":[1,1,1,1,1,0]," IN("ours", "[2,8,8,96]") "}"),
         "end with 36 numbers"},
        {OPS("{\"op\":\"group_norm\",\"args\":[7,1e-5,0]," IN("ours", "[2,8,8,96]") "}"), "group_norm"},
        {OPS("{\"op\":\"attention\",\"args\":[5,0]," IN("ours", "[2,64,96]") "}"), "operation 1"},
        {OPS("{\"op\":\"geglu\"," IN("ours", "[2,64,96]") "}"), "end with 6144 numbers"},
        {OPS("{\"op\":\"upsample\",\"shape\":[1]," IN("ours", "[2,8,8,96]") "}"), "a shape of"},
    };
    extract(theirs, "step.0.unet.down_blocks.1.resnets.0.conv2");
    copy_file(in_work("whole.safetensors"), out, NULL, 1, NULL);   /* without its program */
    RUN("replay", in_work("whole.safetensors"));
    expect_error("no program", 2, "is no case of sd extract");
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        copy_file(in_work("bad.safetensors"), out, NULL, 1, bad[i].program);
        RUN("replay", in_work("bad.safetensors"));
        if (ran.code != 2 || !strstr(ran.err, bad[i].says)) fail_msg("%s: %d, %s", bad[i].program, ran.code, ran.err);
    }
    RUN("replay", theirs);
    expect_error("a trace", 2, "is no case of sd extract");
    RUN("replay");
    expect_error("nothing", 2, "give a case");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_module_is_computed_from_its_file_alone),
        cmocka_unit_test(a_result_that_is_wrong_differs_and_the_fit_is_told),
        cmocka_unit_test(a_module_begins_where_the_trace_has_tensors),
        cmocka_unit_test(the_reader_in_the_document_reads_a_case),
        cmocka_unit_test(what_no_case_can_have_is_refused),
        cmocka_unit_test(a_case_that_contradicts_itself_is_refused),
    };
    return cmocka_run_group_tests_name("case", tests, write_traces, child_teardown);
}
