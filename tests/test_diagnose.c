/* test_diagnose.c - sd diagnose names the mistake that was made in diffusers, says so if it knows none, and is silent
 * where there is none. The traces are those of tools/golden_diagnose.py, of few tensors each. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "../base.h"
#include "child.h"

#define RUN_OF_GOLDENS "-m", "weights/tiny", "-p", "a red apple", "-s", "1", "--steps", "2", "--cfg-scale", "7.5", \
    "-W", "32", "-H", "32"

/* Diagnoses the golden, and expects this exit code and this first line. */
static void expect(const char *golden, int code, const char *first_line)
{
    char path[256], line[256];
    snprintf(path, sizeof path, "tests/golden/diagnose/%s.safetensors", golden);
    RUN("diagnose", path, RUN_OF_GOLDENS);
    snprintf(line, sizeof line, "%.*s", (int)strcspn(ran.out, "\n"), ran.out);
    if (ran.code != code) fail_msg("%s: exit code %d: %s%.300s", golden, ran.code, ran.err, ran.out);
    if (strcmp(line, first_line) != 0) fail_msg("%s: not \"%s\" but \"%s\"", golden, first_line, line);
}

/* Each of these was made in diffusers, in float32. */
TEST(mistakes_in_diffusers_are_named)
{
    static const char *const ids[] = {
        "resnet-norm-eps-1e-6", "transformer-norm-eps-1e-5", "layer-norm-eps-1e-6", "geglu-tanh",
        "geglu-gate-first", "heads-as-columns", "one-head", "attention-scale-of-all-columns", "sinusoid-sin-first",
        "sinusoid-half-minus-1", "time-without-silu", "downsample-pads-after", "skip-first", "residual-is-normed",
        "vae-norm-eps-1e-5", "vae-attention-two-heads", "residual-left-out", "text-gelu",
        "text-norm-eps-1e-6", "not-causal"};
    for (size_t i = 0; i < SD_COUNT(ids); i++) expect(ids[i], 1, ids[i]);
}

TEST(an_unknown_fault_is_none_of_mine)
{
    expect("none-query", 1, "none of mine at step.0.unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q");
    expect("none-moved", 1, "none of mine at step.0.unet.up_blocks.1.resnets.0.conv2");
}

TEST(a_trace_without_mistake_raises_no_alarm)
{
    RUN("diagnose", "tests/golden/diagnose/clean.safetensors", RUN_OF_GOLDENS);
    if (ran.code || !sd_begins_with(ran.out, "nothing diverges: "))
        fail_msg("exit code %d: %s%.300s", ran.code, ran.err, ran.out);
}

TEST(what_cannot_be_compared_is_no_divergence)
{
    RUN("diagnose", "nowhere.safetensors", RUN_OF_GOLDENS);
    assert_int_equal(ran.code, 2);
    RUN("diagnose", "tests/golden/net_taesd-small.safetensors", RUN_OF_GOLDENS);
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "no tensor of"));
}

TEST(every_mistake_is_listed_with_its_source_and_signature)
{
    sd_mistake_info m, other;
    RUN("wrong");
    assert_int_equal(ran.code, 0);
    for (int i = 0; sd_get_mistake(i, &m); i++) {
        if (!*m.id || !*m.what || !*m.source || !*m.signature || !*m.where) fail_msg("mistake %d lacks a text", i);
        if (!strstr(ran.out, m.id) || !strstr(ran.out, m.what)) fail_msg("%s is not listed", m.id);
        for (int k = 0; k < i && sd_get_mistake(k, &other); k++)
            if (strcmp(m.id, other.id) == 0) fail_msg("%s is there twice", m.id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_in_diffusers_are_named),
        cmocka_unit_test(an_unknown_fault_is_none_of_mine),
        cmocka_unit_test(a_trace_without_mistake_raises_no_alarm),
        cmocka_unit_test(what_cannot_be_compared_is_no_divergence),
        cmocka_unit_test(every_mistake_is_listed_with_its_source_and_signature),
    };
    return cmocka_run_group_tests_name("diagnose", tests, child_setup, child_teardown);
}
