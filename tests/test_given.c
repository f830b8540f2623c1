/* test_given.c - what a run takes from files in the place of its own: ids, embeddings, timesteps, the beginning of
 * another run; what it says of files that do not fit; and stages of models of other families, whose networks need
 * more. */
#include "test.h"
#include "child.h"
#include "synth.h"
#include "tempdir.h"

#define RUN_OF "--steps", "2", "-W", "64", "-H", "64", "-s", "3", "--cfg-scale", "5", "--sampling-method", "euler_a"
#define FROM_TEXT "-p", "a red apple", "-n", "blue", RUN_OF

static const char *out(const char *name) { return temp_path(name); }

static void refused(const char *word)
{
    if (ran.code != 2 || !strstr(ran.err, word)) fail_msg("not \"%s\" but %d: %s", word, ran.code, ran.err);
}

/* Every tensor that both traces have is the same; do the settings differ? */
static void expect_same(const char *a, const char *b, bool settings_too)
{
    RUN("compare", out(a), out(b));
    if (ran.code || !strstr(ran.out, "every number is the same")) fail_msg("%s and %s: %s", a, b, ran.out);
    if (settings_too && strstr(ran.out, "differ;")) fail_msg("%s", ran.out);
}

/* ------------------------------------------------------------------------------------------ inputs */

TEST(a_run_of_given_inputs_is_the_run_of_the_texts)
{
    RUN(FROM_TEXT, "-o", out("a.ppm"), "--trace", out("t.safetensors"));
    expect_success("of texts");
    RUN("--tokens-in", out("t.safetensors"), RUN_OF, "-o", out("b.ppm"), "--trace", out("u.safetensors"));
    expect_success("of ids");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    expect_same("t.safetensors", "u.safetensors", true);
    RUN("--embeds-in", out("t.safetensors"), "--timestep-in", out("t.safetensors"), RUN_OF, "-o", out("c.ppm"),
        "--trace", out("v.safetensors"));
    expect_success("of embeddings and timesteps");
    assert_true(same_files(out("a.ppm"), out("c.ppm")));
    expect_same("t.safetensors", "v.safetensors", true);
    RUN("compare", out("v.safetensors"), out("t.safetensors"));   /* the text encoder was not asked */
    assert_non_null(strstr(ran.out, "33 not compared: only one side has them"));
    RUN("text", "blue", "a red apple", "-q", "-o", out("e.npy"));
    RUN("--embeds-in", out("e.npy"), "--clip-skip", "2", RUN_OF, "-o", out("d.ppm"));
    assert_non_null(strstr(ran.err, "--clip-skip has no effect"));
    RUN("--embeds-in", out("e.npy"), "--batch-size", "2", RUN_OF, "-o", out("two.npy"));
    expect_success("two pictures of a row for each prompt");
    RUN(FROM_TEXT, "--batch-size", "2", "-o", out("texts.npy"));
    assert_true(same_files(out("two.npy"), out("texts.npy")));
    temp_clear();
}

/* What the UNet is told is not what the sampler goes by. */
TEST(given_timesteps_are_told_to_the_unet_alone)
{
    static const float off[] = {998, 0};
    const sd_traced t = {"timesteps", SD_F32, 1, {2}, off};
    sd_error e = {0};
    assert_int_equal(sd_npy_write(out("off.npy"), &t, &e), SD_OK);
    RUN(FROM_TEXT, "-o", out("a.ppm"), "--trace", out("t.safetensors"));
    RUN(FROM_TEXT, "--timestep-in", out("off.npy"), "-o", out("b.ppm"), "--trace", out("u.safetensors"));
    expect_success("other timesteps");
    assert_false(same_files(out("a.ppm"), out("b.ppm")));
    RUN("compare", out("t.safetensors"), out("u.safetensors"));
    assert_int_equal(ran.code, 1);
    assert_non_null(strstr(ran.out, "diverges first at timestep.0"));
    assert_non_null(strstr(ran.out, "REF 999, MINE 998"));
    assert_null(strstr(ran.out, "settings that differ"));   /* the sampler's timesteps are the same */
    temp_clear();
}

TEST(inputs_that_do_not_fit_a_run_are_said_before_it)
{
    static const float three[3] = {3, 2, 1}, below[2] = {5, -1};
    static const int64_t ids[77] = {49406, -3};
    const struct { const char *file; sd_traced t; } files[] = {
        {"three.npy", {"t", SD_F32, 1, {3}, three}}, {"below.npy", {"t", SD_F32, 1, {2}, below}},
        {"ids.npy", {"tokens", SD_I64, 2, {1, 77}, ids}},
    };
    sd_error e = {0};
    for (size_t i = 0; i < SD_COUNT(files); i++)
        assert_int_equal(sd_npy_write(out(files[i].file), &files[i].t, &e), SD_OK);
    RUN("text", "a", "b", "c", "-q", "-o", out("e.safetensors"));
    static const struct { const char *args[6], *word; } wrong[] = {
        {{"--timestep-in", "three.npy", "-p", "x"}, "3 timesteps are given, and the run has 2 evaluations"},
        {{"--timestep-in", "below.npy", "-p", "x"}, "timestep 2 of 2 is -1"},
        {{"--timestep-in", "e.safetensors", "-p", "x"}, "e.safetensors has no tensor \"timesteps\""},
        {{"--timestep-in", "e.safetensors:tokens", "-p", "x"}, "the timesteps must be [N], found [3,77]"},
        {{"--timestep-in", "three.npy"}, "there is nothing to draw"},
        {{"--tokens-in", "e.safetensors"}, "ids of 3 texts are given, and this run has 2: the negative prompt and the"},
        {{"--tokens-in", "ids.npy"}, "token 2 is -3, which is no id"},
        {{"--tokens-in", "three.npy"}, "tokens must be [N,77], found [3]"},
        {{"--embeds-in", "e.safetensors"}, "3 rows of embeddings are given, and this run needs 2"},
        {{"--embeds-in", "three.npy"}, "the embeddings must be [N,77,96], found [3]"},
        {{"--embeds-in", "none.npy"}, "none.npy: No such file"},
        {{"--noise-in", "three.npy", "-p", "x"}, "the noise must be [1,4,8,8]"},
        {{"--embeds-in", "e.safetensors", "--tokens-in", "e.safetensors"}, "are the same input"},
        {{"--embeds-in", "e.safetensors", "--batch-count", "3"}, "--embeds-in is for one run"},
        {{"--embeds-in", "e.safetensors", "--trace", "e.safetensors"}, "is read and would be written over"},
        {{"-p", "x", "--trace", "t.safetensors", "--trace-hash", "t.safetensors"}, "would be written twice"},
    };
    for (size_t i = 0; i < SD_COUNT(wrong); i++) {
        const char *args[24] = {RUN_OF, "-o", out("a.ppm")};
        size_t n = 0;
        while (args[n]) n++;
        for (int k = 0; k < 6 && wrong[i].args[k]; k++) {
            const char *a = wrong[i].args[k];
            args[n++] = k % 2 && strchr(a, '.') ? out(a) : a;
        }
        run_list(args);
        refused(wrong[i].word);
        if (strstr(ran.out, "seed")) fail_msg("%s: only once the run had begun", wrong[i].word);
    }
    temp_clear();
}

/* ------------------------------------------------------------------------- runs that go on with another's */

TEST(settings_that_a_trace_tells_otherwise_are_said)
{
    RUN(FROM_TEXT, "-o", out("a.npy"), "--trace", out("t.safetensors"));
    RUN(FROM_TEXT, "-o", out("b.npy"), "--latents-in", out("t.safetensors"), "--from-step", "1");
    expect_success("the same settings");
    assert_string_equal(ran.err, "");
    assert_true(same_files(out("a.npy"), out("b.npy")));
    RUN("-p", "a pear", "-n", "blue", "--steps", "3", "-s", "4", "-o", out("b.npy"), "--latents-in",
        out("t.safetensors"), "--from-step", "1", "--cfg-scale", "7", "--sampling-method", "euler_a");
    expect_success("others");
    static const char *const said[] = {"t.safetensors is of a run with other settings: ",
        "prompt \"a red apple\", here \"a pear\"", "seed \"3\", here \"4\"", "steps \"2\", here \"3\"",
        "guidance_scale \"5\", here \"7\"", "other timesteps", "other sigmas"};
    for (size_t i = 0; i < SD_COUNT(said); i++)
        if (!strstr(ran.err, said[i])) fail_msg("not \"%s\" but %s", said[i], ran.err);
    assert_null(strstr(ran.err, "negative_prompt"));
    RUN("step", "--latents", out("t.safetensors"), "--from-step", "1", "--steps", "2", "-s", "3", "--sampling-method",
        "euler_a", "-o", out("x.npy"));
    expect_success("a step of it");
    assert_string_equal(ran.err, "");   /* the prompt does not count */
    RUN("step", "--latents", out("t.safetensors"), "--from-step", "1", "--steps", "2", "-s", "3", "--sampling-method",
        "euler", "-o", out("x.npy"));
    assert_non_null(strstr(ran.err, "sampler \"euler_a\", here \"euler\""));
    temp_clear();
}

/* --------------------------------------------------------------------------------- what is not possible */

TEST(names_that_are_empty_and_timesteps_that_no_unet_knows_are_errors)
{
    RUN("text", "a", "-q", "-o", out("e.npy"));
    RUN("-p", "x", "--steps", "1", "-W", "64", "-H", "64", "-s", "1", "-o", out("x.npy"));
    static const struct { const char *timestep, *word; } wrong[] = {
        {"-1", "timestep 1 of 1 is -1: this UNet was trained with 0 to 999"}, {"1e9", "is 1e+09"},
        {"nan", "must be finite"}, {"inf", "must be finite"}, {"", "--timestep needs a value"}};
    for (size_t i = 0; i < SD_COUNT(wrong); i++) {
        RUN("unet", "--latents", out("x.npy"), "--embeds", out("e.npy"), "--timestep", wrong[i].timestep, "-o",
            out("p.npy"));
        refused(wrong[i].word);
    }
    RUN("text", "a", "b", "-q", "-o", out("f.npy"));
    RUN("unet", "--latents", out("x.npy"), "--embeds", out("e.npy"), "--timestep", out("x.npy"), "-o", out("p.npy"));
    refused("there are 256 timesteps, and one is needed");
    RUN("unet", "--latents", out("x.npy"), "--embeds", out("f.npy"), "--timestep", out("x.npy"), "-o", out("p.npy"));
    refused("there are 256 timesteps: one or 2 are possible");
    RUN("-p", "x", "--stop-after", "");
    refused("--stop-after needs a value, NAME, and \"\" is none");
    RUN("-p", "x", "--stop-after", ",", "-o", out("a.ppm"));
    refused("the run is to end after a tensor, and none is named");
    RUN("selftest", "--only=");
    refused("--only needs a value");
    RUN("compare", "", out("x.npy"));
    refused("an argument is empty");
    temp_clear();
}

/* ------------------------------------------------------------------------------------- other families */

static const char *model_of(const char *config)
{
    static char dir[512];
    sd_error e = {0};
    snprintf(dir, sizeof dir, "%s", out(config));
    if (!sd_os_make_directory(dir) || synth_write_model(dir, config, NULL, &e)) fail_msg("%s: %s", config, e.text);
    return dir;
}

/* A run by hand has the bits of one run, whatever the text encoders put out and the UNet is told. */
TEST(stages_of_models_with_pooled_vectors_are_those_of_a_run)
{
    static const char *const models[] = {"sdxl-small", "refiner-small"};
    for (size_t i = 0; i < SD_COUNT(models); i++) {
        const char *m = model_of(models[i]);
        RUN("-m", m, "-p", "a red apple", "-n", "blue", "--steps", "1", "-W", "64", "-H", "64", "-s", "3",
            "--cfg-scale", "5", "--sampling-method", "euler", "-o", out("a.ppm"), "--trace", out("t.safetensors"));
        expect_success(models[i]);
        RUN("text", "-m", m, "blue", "a red apple", "-o", out("e.safetensors"));
        assert_non_null(strstr(ran.out, "pooled_prompt_embeds [2,12]"));
        expect_same("t.safetensors", "e.safetensors", false);
        RUN("step", "-m", m, "--steps", "1", "-s", "3", "-W", "64", "-H", "64", "--sampling-method", "euler", "-o",
            out("x.safetensors"));
        expect_success("the beginning");
        const char *negative_score = i ? "64,64,0,0,6" : "64,64,0,0,64,64";
        RUN("unet", "-m", m, "--latents", out("x.safetensors"), "--embeds", out("e.safetensors"), "--cfg-scale", "5",
            "--time-ids", negative_score, "-o", out("p.safetensors"), "--trace", out("u.safetensors"));
        expect_success("the UNet");
        if (i == 0) expect_same("t.safetensors", "u.safetensors", false);   /* a refiner is told two scores */
        RUN("-m", m, "--embeds-in", out("e.safetensors"), "--steps", "1", "-W", "64", "-H", "64", "-s", "3",
            "--cfg-scale", "5", "--sampling-method", "euler", "-o", out("b.ppm"));
        expect_success("of given embeddings");
        assert_true(same_files(out("a.ppm"), out("b.ppm")));
        RUN("-m", m, "--embeds-in", out("e.safetensors:prompt_embeds"), "-o", out("b.ppm"));
        refused("has no tensor \"pooled_prompt_embeds\"");
        temp_clear();
    }
}

TEST(what_takes_the_place_of_no_negative_prompt_is_that_of_a_run)
{
    const char *m = model_of("sdxl-small");   /* its model_index.json asks for zeros */
    RUN("-m", m, "-p", "a red apple", RUN_OF, "-o", out("a.ppm"), "--trace", out("t.safetensors"));
    expect_success("no negative prompt");
    RUN("text", "-m", m, "--uncond", "a red apple", "-o", out("e.safetensors"));
    expect_same("t.safetensors", "e.safetensors", false);   /* zeros, and the ids of one text */
    RUN("-m", m, "--tokens-in", out("e.safetensors"), RUN_OF, "-o", out("b.ppm"));
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    RUN("text", "-m", m, "--tokens-in", out("e.safetensors:tokens"), "-o", out("f.safetensors"));
    refused("has no tensor \"tokens_2\"");
    temp_clear();
}

TEST(what_other_families_need_is_said)
{
    const char *m = model_of("inpaint-small");
    RUN("step", "-m", m, "--steps", "1", "-o", out("x.safetensors"));
    refused("sees 9 channels, the 4 of the latents and a picture's");
    RUN("-m", "weights/tiny", "-p", "x", "--steps", "1", "-W", "64", "-H", "64", "-o", out("x.npy"));
    RUN("text", "-m", m, "a", "-q", "-o", out("e.npy"));
    RUN("unet", "-m", m, "--latents", out("x.npy"), "--timestep", "1", "--embeds", out("e.npy"));
    refused("what the UNet sees must be [N,9,h,w], found [1,4,8,8]");
    m = model_of("lcm-small");
    RUN("text", "-m", m, "--uncond", "a", "-q", "-o", out("e.npy"));
    RUN("unet", "-m", m, "--latents", out("x.npy"), "--timestep", "1", "--embeds", out("e.npy"));
    refused("give --timestep-cond FILE, [2,12]");
    RUN("unet", "-m", m, "--latents", out("x.npy"), "--timestep", "1", "--embeds", out("e.npy"), "--cfg-scale", "5");
    refused("this UNet is asked once for a picture");
    RUN("unet", "--latents", out("x.npy"), "--timestep", "1", "--embeds", out("e.npy"), "--timestep-cond",
        out("e.npy"));
    refused("the embeddings must be [N,77,96]");
    temp_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_of_given_inputs_is_the_run_of_the_texts),
        cmocka_unit_test(given_timesteps_are_told_to_the_unet_alone),
        cmocka_unit_test(inputs_that_do_not_fit_a_run_are_said_before_it),
        cmocka_unit_test(settings_that_a_trace_tells_otherwise_are_said),
        cmocka_unit_test(names_that_are_empty_and_timesteps_that_no_unet_knows_are_errors),
        cmocka_unit_test(stages_of_models_with_pooled_vectors_are_those_of_a_run),
        cmocka_unit_test(what_takes_the_place_of_no_negative_prompt_is_that_of_a_run),
        cmocka_unit_test(what_other_families_need_is_said),
    };
    return cmocka_run_group_tests_name("given", tests, child_setup, child_teardown);
}
