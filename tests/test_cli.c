/* test_cli.c - the program sd from outside: options, what it writes where, exit codes, interruption. Bad input has its
 * own file. */
#define _XOPEN_SOURCE 700   /* realpath */
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../sd.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

#define DRAW "-p", "a red apple on a white background", "--sampling-method", "ddim", "--steps", "3"

static const char *out(const char *name) { return temp_path(name); }

static void expect_begins(const char *text, const char *begin)
{
    if (strncmp(text, begin, strlen(begin)) != 0) fail_msg("\"%.80s\" does not begin \"%s\"", text, begin);
}

/* ---------------------------------------------------------------------------------------- usage */

TEST(mistakes_of_usage_name_what_is_wrong)
{
    char picture[256];
    snprintf(picture, sizeof picture, "%s", in_work("a.ppm"));
    spill(picture, "P6\n1 1\n255\nabc", 14);
    const struct { const char *args[8], *word; } cases[] = {
        {{NULL}, "-p"},
        {{"-p"}, "-p needs a value"},
        {{"--prompt"}, "--prompt needs a value"},
        {{"-p", "x", "--step", "3"}, "did you mean --steps?"},
        {{"-p", "x", "--cgf-scale", "3"}, "did you mean --cfg-scale?"},
        {{"-p", "x", "--sampling-methd", "ddim"}, "did you mean --sampling-method?"},
        {{"-p", "x", "--zzzzzzzz"}, "unknown option --zzzzzzzz"},
        {{"-prompt", "x"}, "did you mean --prompt?"},
        {{"-p", "x", "-Z"}, "unknown option -Z"},
        {{"-p", "x", "--quiet=1"}, "--quiet takes no value"},
        {{"-p", "a", "red", "apple"}, "unexpected argument \"red\""},
        {{"-p", "x", "-W", "12x"}, "--width"},
        {{"-p", "x", "-W", ""}, "--width"},
        {{"-p", "x", "-W", "0"}, "--width"},
        {{"-p", "x", "-H", "-8"}, "--height"},
        {{"-p", "x", "-W", "1e30"}, "--width"},
        {{"-p", "x", "-W", "128.5"}, "--width"},
        {{"-p", "x", "--steps", "0x10"}, "--steps"},
        {{"-p", "x", "--steps", "nan"}, "--steps"},
        {{"-p", "x", "--cfg-scale", "inf"}, "--cfg-scale"},
        {{"-p", "x", "--cfg-scale", "7,5"}, "--cfg-scale"},
        {{"-p", "x", "--eta", "1.5"}, "--eta must be a number from 0 to 1"},
        {{"-p", "x", "-s", "18446744073709551616"}, "--seed"},
        {{"-p", "x", "-s", "-2"}, "--seed"},
        {{"-p", "x", "-b", "0"}, "--batch-count"},
        {{"-p", "x", "-t", "2000"}, "--threads"},
        {{"-p", "x", "--clip-sample", "perhaps"}, "true or false"},
        {{"-p", "x", "--timings=xml"}, "json"},
        {{"-p", "x", "--gemm", "mkl"}, "--gemm must be own or openblas"},
        {{"-p", "x", "--trace-filter", "*"}, "--trace"},
        {{"-p", "x", "-b", "2", "--trace", "t.safetensors"}, "--batch-size"},
        {{"-p", "x", "--trace", ""}, "--trace needs a value"},
        {{"-p", "x", "--sampling-method", "ddin"}, "ddim"},
        {{"-p", "x", "--scheduler", "karos"}, "trailing"},
        {{"-p", "x", "--prediction", "edm_v"}, "epsilon"},
        {{"-p", "x", "--clip-skip", "99"}, "clip skip"},
        {{"-p", "x", "-i", "a.png", "--strength", "1.5"}, "--strength must be a number from 0 to 1"},
        {{"-p", "x", "--strength", "0.5"}, "needs a picture to begin from"},
        {{"-p", "x", "--outpaint", "8,8,8,8"}, "needs a picture to begin from"},
        {{"-p", "x", "-i", picture, "--outpaint", "8,8,8"}, "four numbers of pixels"},
        {{"-p", "x", "-i", picture, "--outpaint", "8,8,8,8,8"}, "four numbers of pixels"},
        {{"-p", "x", "-i", picture, "--outpaint", "8,8,-8,8"}, "on the right, not -8"},
        {{"-p", "x", "-i", picture, "--resize", "fill"}, "stretch, crop or pad"},
        {{"-p", "x", "-i", picture, "--inpaint-crop", "4"}, "inpaint crop needs a mask"},
        {{"-p", "x", "--paste-back", "maybe"}, "true or false"},
        {{"tokenize"}, "give one text"},
        {{"tokenize", "a", "b"}, "unexpected argument \"b\""},
        {{"tokenize", "--file", "x"}, "--file needs --ids"},
        {{"tokenize", "a", "--json", "--ids"}, "choose one"},
        {{"plan", "--config", "sd99"}, "sd15"},
        {{"plan", "--config", "sd15", "-W", "100"}, "multiple of 8"},
        {{"plan", "--config", "sd15", "-m", "weights/tiny"}, "choose one"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[64];
        snprintf(what, sizeof what, "usage case %zu", i);
        run_list(cases[i].args);
        expect_error(what, 2, cases[i].word);
        if (ran.out[0]) fail_msg("%s: something on stdout: %s", what, ran.out);
    }
}

TEST(help_names_every_option_of_the_issue)
{
    static const char *const names[] = {"-m, --model", "-p, --prompt", "-n, --negative-prompt", "-o, --output",
                                        "-W, --width", "-H, --height", "-s, --seed",
        " --steps", " --cfg-scale", " --sampling-method", " --scheduler", " --prediction", " --steps-offset",
        " --set-alpha-to-one", " --clip-sample",
        " --eta", " --clip-skip", "-b, --batch-count", " --batch-size", "-t, --threads", "-q, --quiet", "-v, --verbose",
        " --precise", " --gemm", " --residency", " --noise",
        " --trace ", " --trace-filter", " --timings [json]", "-i, --init-img", " --strength", " --mask ",
        " --invert-mask", " --mask-blur", " --paste-back",
        " --inpaint-crop", " --outpaint L,T,R,B", " --resize", " --save-steps", " --preview", "sd encode", "sd decode",
        "sd roundtrip", " --version", " --help", "sd tokenize", "sd plan"};
    RUN("--help");
    expect_success("help");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strstr(ran.out, names[i])) fail_msg("--help lacks \"%s\"", names[i]);
    for (const char *line = ran.out, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        if (end - line > 100) fail_msg("a line of --help is too long: %.*s", (int)(end - line), line);
    RUN("tokenize", "--help");
    expect_success("tokenize --help");
    assert_non_null(strstr(ran.out, "--ids"));
    RUN("plan", "--help");
    expect_success("plan --help");
    assert_non_null(strstr(ran.out, "--config"));
}

TEST(version_tells_how_it_was_built)
{
    RUN("--version");
    expect_success("version");
    assert_non_null(strstr(ran.out, SD_VERSION));
    assert_non_null(strstr(ran.out, sd_build_info()));
}

/* -------------------------------------------------------------------------------------- pictures */

TEST(the_same_seed_gives_the_same_bytes_and_the_seed_is_told)
{
    RUN(DRAW, "-s", "42", "-o", out("a.ppm"));
    expect_success("first");
    assert_non_null(strstr(ran.out, "seed: 42\n"));
    assert_string_equal(ran.err, "");   /* silent where no terminal is */
    RUN(DRAW, "--seed=42", "-o", out("b.ppm"), "-t", "1");
    expect_success("second");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    RUN(DRAW, "-s43", "-o", out("c.ppm"), "-q");
    expect_success("third");
    assert_string_equal(ran.out, "seed: 43\n");
    assert_false(same_files(out("a.ppm"), out("c.ppm")));
    RUN(DRAW, "-s", "18446744073709551615", "-o", out("d.ppm"));
    expect_success("largest seed");
    assert_non_null(strstr(ran.out, "seed: 18446744073709551615\n"));
    expect_files_in_out(4, "pictures");
    temp_clear();
}

TEST(a_seed_not_given_is_random_printed_and_repeats_the_picture)
{
    char first[64];
    RUN(DRAW, "-o", out("a.ppm"), "-q");
    expect_success("random");
    snprintf(first, sizeof first, "%.60s", ran.out);
    expect_begins(first, "seed: ");
    assert_true(strtoull(first + 6, NULL, 10) < UINT64_C(1) << 32);
    RUN(DRAW, "-o", out("b.ppm"), "-q", "-s", "-1");
    expect_success("random again");
    assert_string_not_equal(first, ran.out);
    first[strcspn(first, "\n")] = 0;
    RUN(DRAW, "-o", out("b.ppm"), "-q", "-s", first + 6);
    expect_success("repeated");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    temp_clear();
}

TEST(a_batch_count_draws_the_seeds_that_follow)
{
    RUN(DRAW, "-s", "7", "-b", "3", "-o", out("a.ppm"));
    expect_success("three");
    assert_non_null(strstr(ran.out, "seed: 7\n"));
    assert_non_null(strstr(ran.out, "seed: 9\n"));
    expect_files_in_out(3, "-b 3");
    RUN(DRAW, "-s", "9", "-o", out("b.ppm"));
    expect_success("the third alone");
    assert_true(same_files(out("a_3.ppm"), out("b.ppm")));
    assert_false(same_files(out("a.ppm"), out("a_2.ppm")));
    temp_clear();
}

TEST(a_batch_size_draws_from_one_generator)
{
    RUN(DRAW, "-s", "7", "--batch-size", "2", "-o", out("a.ppm"));
    expect_success("two");
    RUN(DRAW, "-s", "7", "-o", out("b.ppm"));
    expect_success("one");
    RUN(DRAW, "-s", "8", "-o", out("c.ppm"));
    expect_success("next seed");
    expect_files_in_out(4, "--batch-size 2");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));      /* the generator's first numbers are the same */
    assert_false(same_files(out("a_2.ppm"), out("c.ppm")));   /* its next ones are not those of the next seed */
    temp_clear();
}

TEST(ppm_holds_the_size_that_was_asked_for)
{
    size_t n;
    RUN(DRAW, "-W", "72", "-H", "40", "-o", out("a.ppm"));
    expect_success("72x40");
    assert_non_null(strstr(ran.out, "a.ppm: 72x40\n"));
    char *ppm = slurp(out("a.ppm"), &n);
    expect_begins(ppm, "P6\n72 40\n255\n");
    assert_int_equal(n, 13 + 72 * 40 * 3);
    free(ppm);
    temp_clear();
}

/* The text of the chunk that A1111 and others read; NULL if there is none. */
static char *png_parameters(const char *path)
{
    size_t n;
    unsigned char *png = (unsigned char *)slurp(path, &n);
    char *text = NULL;
    for (size_t at = 8; at + 12 <= n && !text;) {
        size_t length = (size_t)png[at] << 24 | (size_t)png[at + 1] << 16 | (size_t)png[at + 2] << 8 | png[at + 3];
        const char *type = (const char *)png + at + 4, *data = type + 4;
        assert_true(length <= n - at - 12);
        /* keyword, flags, two empty texts */
        size_t skip = memcmp(type, "tEXt", 4) == 0 ? 11 : memcmp(type, "iTXt", 4) == 0 ? 15 : 0;
        if (skip && length >= skip && strcmp(data, "parameters") == 0) {
            text = calloc(1, length - skip + 1);
            assert_non_null(text);
            memcpy(text, data + skip, length - skip);
        }
        at += length + 12;
    }
    free(png);
    return text;
}

TEST(png_holds_the_parameters_as_a1111_writes_them)
{
    RUN("-p", "a cat, a dog", "-n", "blurred", "-s", "5", "--steps", "3", "--cfg-scale", "4.5", "--sampling-method",
        "euler_a", "-o", out("a.png"));
    expect_success("ASCII");
    char *text = png_parameters(out("a.png"));
    assert_non_null(text);
    expect_begins(text, "a cat, a dog\nNegative prompt: blurred\nSteps: 3, Sampler: Euler a, ");
    assert_non_null(strstr(text, "CFG scale: 4.5, Seed: 5, Size: 128x128"));
    free(text);
    temp_clear();
}

TEST(png_holds_letters_beyond_ascii)
{
    RUN("-p", "caf\xc3\xa9 \xe2\x98\x95", "-s", "5", "--steps", "1", "-o", out("b.png"));
    expect_success("Unicode");
    char *text = png_parameters(out("b.png"));
    assert_non_null(text);
    expect_begins(text, "caf\xc3\xa9 \xe2\x98\x95\nSteps: 1, ");
    free(text);
    temp_clear();
}

TEST(an_empty_and_a_very_long_prompt_are_drawn)
{
    RUN("-p", "", "--steps", "2", "-s", "1", "-o", out("a.ppm"));
    expect_success("empty prompt");
    assert_string_equal(ran.err, "");
    char *words = malloc(10000 * 6 + 1);
    assert_non_null(words);
    for (int i = 0; i < 10000; i++) memcpy(words + 6 * i, "apple ", 7);
    RUN("-p", words, "--steps", "2", "-s", "1", "-o", out("b.ppm"));
    free(words);
    expect_success("10,000 words");
    assert_non_null(strstr(ran.err, "9925"));   /* 10000 - 75 tokens dropped */
    expect_files_in_out(2, "prompts");
    temp_clear();
}

TEST(weights_and_adapters_in_prompts_are_warned_of)
{
    static const struct { const char *prompt, *said; } cases[] = {
        {"(a cat:1.3) on a mat", "the prompt has \"(a cat:1.3)\""}, {"x ((big))", "\"((big)\""},
        {"a [small] cat", "\"[small]\""},
        {"[cat:dog:0.5]", "\"[cat:dog:0.5]\""}, {"a cat <lora:fur:0.8>", "\"<lora:fur:0.8>\""},
        {"a \\(cat\\)", "\"\\(\""},
        {"a cat (seen from above)", NULL}, {"a < b > c", NULL}, {"at 10:30 (about)", NULL}, {"(x", NULL}, {"[", NULL},
        {"smile :)", NULL},
        {"a (b: c)", NULL}, {"<html>", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RUN("-p", cases[i].prompt, "-W", "16", "-H", "16", "--steps", "1", "-o", out("a.ppm"));
        expect_success(cases[i].prompt);
        if (!cases[i].said) assert_string_equal(ran.err, "");
        else if (!strstr(ran.err, cases[i].said) || !strstr(ran.err, "sd: warning: "))
            fail_msg("%s: %s", cases[i].prompt, ran.err);
    }
    RUN("-p", "x", "-n", "(bad:2)", "-W", "16", "-H", "16", "--steps", "1", "-o", out("a.ppm"));
    assert_non_null(strstr(ran.err, "the negative prompt has \"(bad:2)\""));
    temp_clear();
}

TEST(noise_from_a_file_is_the_noise_of_a_seed)
{
    enum { N = 4 * 16 * 16 };
    static float noise[N];
    char header[128];
    unsigned char file[8 + 128 + sizeof noise];
    sd_randn(42, noise, N);
    int n = snprintf(header, sizeof header,
                     "{\"noise\":{\"dtype\":\"F32\",\"shape\":[1,4,16,16],\"data_offsets\":[0,%d]}}", N * 4);
    memset(file, 0, sizeof file);
    file[0] = (unsigned char)n;
    memcpy(file + 8, header, (size_t)n);
    memcpy(file + 8 + n, noise, sizeof noise);
    spill(in_work("noise.safetensors"), file, 8 + (size_t)n + sizeof noise);
    RUN(DRAW, "-s", "1", "--noise", in_work("noise.safetensors"), "-o", out("a.ppm"));
    expect_success("noise");
    RUN(DRAW, "-s", "42", "-o", out("b.ppm"));
    expect_success("seed");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    temp_clear();
    noise[5] = NAN;   /* the file's fault, and not the network's */
    memcpy(file + 8 + n, noise, sizeof noise);
    spill(in_work("nan.safetensors"), file, 8 + (size_t)n + sizeof noise);
    RUN(DRAW, "-s", "1", "--noise", in_work("nan.safetensors"), "-o", out("a.ppm"));
    expect_error("noise with NaN", 2, "nan.safetensors: number 6 of 1024 is nan");
    RUN(DRAW, "-s", "1", "--rng", in_work("nan.safetensors"), "-o", out("a.ppm"));
    expect_error("numbers with NaN", 2, "nan.safetensors must be finite, but number 6 of 1024 is nan");
    RUN("decode", in_work("nan.safetensors"), "-m", "weights/tiny", "-o", out("a.ppm"));
    expect_error("latents with NaN", 2, "nan.safetensors: number 6 of 1024 is nan");
}

TEST(a_trace_holds_the_tensors_that_the_filter_lets_through)
{
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"), "--trace", out("t.safetensors"), "--trace-filter",
        "latents.*,noise,tokens");
    expect_success("trace");
    char *file = slurp(out("t.safetensors"), NULL), *header = file + 8;
    for (int i = 0; i <= 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "\"latents.%d\"", i);
        assert_non_null(strstr(header, name));
    }
    assert_non_null(strstr(header, "\"noise\""));
    assert_non_null(strstr(header, "\"tokens\""));
    assert_null(strstr(header, "unet"));
    assert_null(strstr(header, "\"latents.4\""));
    free(file);
    expect_files_in_out(2, "trace");
    temp_clear();
}

TEST(options_change_what_is_drawn)
{
    static const char *const changes[][2] = {{"--cfg-scale", "4"}, {"--scheduler", "trailing"},
                                             {"--prediction", "epsilon"}, {"--steps-offset", "0"},
        {"--eta", "1"}, {"--clip-skip", "2"}, {"-n", "blue"}, {"--set-alpha-to-one", "true"}, {"--clip-sample", "true"},
        {"--steps", "4"}};
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"));
    expect_success("as it is");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        RUN(DRAW, "-s", "1", changes[i][0], changes[i][1], "-o", out("b.ppm"));
        expect_success(changes[i][0]);
        if (same_files(out("a.ppm"), out("b.ppm"))) fail_msg("%s %s changes nothing", changes[i][0], changes[i][1]);
    }
    temp_clear();
}

/* ------------------------------------------------------------------------- beginning from a picture */

TEST(a_picture_is_changed_repainted_and_extended)
{
    enum { N = 128 };
    static char mask[15 + N * N];
    memcpy(mask, "P5\n128 128\n255\n", 15);
    for (int i = 0; i < N * N; i++) mask[15 + i] = (char)(i % N < 64 ? 0 : 255);
    spill(in_work("mask.pgm"), mask, sizeof mask);
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"));
    expect_success("a picture");
    RUN(DRAW, "-s", "2", "-i", out("a.ppm"), "--strength", "0.7", "-o", out("b.ppm"));
    expect_success("changed");
    assert_false(same_files(out("a.ppm"), out("b.ppm")));
    RUN(DRAW, "-s", "2", "-i", out("a.ppm"), "--mask", in_work("mask.pgm"), "-o", out("c.ppm"));
    expect_success("repainted");
    size_t n;
    char *a = slurp(out("a.ppm"), &n), *c = slurp(out("c.ppm"), &n);
    int changed = 0;
    for (int i = 0; i < N * N; i++) {
        bool same = memcmp(a + 15 + 3 * i, c + 15 + 3 * i, 3) == 0;
        if (i % N < 64) assert_true(same);
        changed += !same;
    }
    assert_true(changed > N * N / 4);
    RUN(DRAW, "-s", "2", "-i", out("a.ppm"), "--outpaint", "16,0,3,0", "-o", out("d.ppm"));
    expect_success("extended");
    assert_non_null(strstr(ran.out, "d.ppm: 147x128\n"));
    char *d = slurp(out("d.ppm"), &n);
    for (int y = 0; y < N; y++) assert_memory_equal(d + 15 + 3 * (147 * y + 16), a + 15 + 3 * N * y, 3 * N);
    free(a);
    free(c);
    free(d);
    temp_clear();
}

TEST(png_holds_the_strength)
{
    RUN(DRAW, "-s", "2", "-i", "docs/apple.png", "-o", out("e.png"));
    expect_success("parameters");
    char *text = png_parameters(out("e.png"));
    assert_non_null(text);
    assert_non_null(strstr(text, "Denoising strength: 0.8"));
    free(text);
    temp_clear();
}

/* What is no picture, or half of one, or a bomb: one line that names the file, before anything is drawn. */
TEST(hostile_pictures_are_refused)
{
    static const char bomb[] = "P6\n100000 100000\n255\nabc", huge[] = "P6\n99999999999999999999 1\n255\nabc",
        gif[] = "GIF89a\1\0\1\0";
    static const unsigned char png_bomb[] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0x7F,
                                             0xFF, 0xFF, 0xFF, 0x7F, 0xFF,
                                             0xFF, 0xFF, 8, 2, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char jpeg[] = {0xFF, 0xD8, 0xFF, 0xE0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0,
                                         0, 0xFF, 0xC0, 0, 17, 8};
    size_t n;
    char *apple = slurp("docs/apple.png", &n);
    spill(in_work("0.png"), "", 0);
    spill(in_work("1.png"), bomb, sizeof bomb - 1);
    spill(in_work("2.png"), huge, sizeof huge - 1);
    spill(in_work("3.png"), gif, sizeof gif - 1);
    spill(in_work("4.png"), png_bomb, sizeof png_bomb);
    spill(in_work("5.png"), jpeg, sizeof jpeg);
    spill(in_work("6.png"), apple, n / 2);
    spill(in_work("7.png"), apple, 20);
    apple[n / 2] ^= 0x55;
    spill(in_work("8.png"), apple, n);
    free(apple);
    for (int i = 0; i < 9; i++) {
        char name[16], path[256];
        snprintf(name, sizeof name, "%d.png", i);
        snprintf(path, sizeof path, "%s", in_work(name));
        RUN(DRAW, "-i", path, "-o", out("a.ppm"));
        expect_error(name, 2, name);
        RUN(DRAW, "-i", "docs/apple.png", "--mask", path, "-o", out("a.ppm"));
        expect_error(name, 2, name);
        RUN("encode", path, "-o", out("a.safetensors"));
        expect_error(name, 2, name);
        if (strstr(ran.out, ".safetensors")) fail_msg("%s was encoded", name);
    }
    RUN(DRAW, "-i", "nowhere.png", "-o", out("a.ppm"));
    expect_error("missing", 2, "nowhere.png");
    RUN(DRAW, "-i", "docs", "-o", out("a.ppm"));
    expect_error("directory", 2, "docs");
}

/* --------------------------------------------------------------------------- timings and progress */

TEST(timings_are_json_in_the_last_line)
{
    double load, text, step, vae, peak;
    int at = 0, steps = 0, used = 0;
    RUN(DRAW, "-s", "1", "-b", "2", "-o", out("a.ppm"), "--gemm", "own", "--timings", "json");
    expect_success("timings");
    char *line = strstr(ran.out, "{\"load\":");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "{\"load\":%lf,\"text\":%lf,\"steps\":[%n", &load, &text, &at), 2);
    assert_true(at > 0);
    for (char *p = line + at; sscanf(p, "%lf%n", &step, &used) == 1; p += used + (p[used] == ',')) {
        assert_true(step > 0);
        steps++;
        at = (int)(p + used - line);
    }
    assert_int_equal(steps, 6);   /* two pictures of three */
    assert_int_equal(sscanf(line + at, "],\"vae_decode\":%lf,\"peak_rss_mb\":%lf,\"kernels\":%n", &vae, &peak, &used),
                     2);
    char *end = strstr(line + at + used, ",\"gemm\":\"own\",\"threads\":");
    assert_non_null(end);
    int threads = 0;
    double work = 0;
    assert_int_equal(sscanf(end, ",\"gemm\":\"own\",\"threads\":%d,\"vae_work\":%lf,\"device\":\"%*[^\"]\"}%n",
                            &threads, &work, &used), 2);
    assert_true(work == 1);   /* in no bands */
    assert_string_equal(end + used, "\n");
    assert_true(threads > 0);
    assert_true(load > 0 && text > 0 && vae > 0 && peak > 10 && peak < 100000);
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"), "--timings");
    expect_success("timings as text");
    assert_non_null(strstr(ran.out, "peak memory"));
    assert_non_null(strstr(ran.out, "products own"));
    temp_clear();
}

TEST(a_terminal_sees_progress)
{
    run_with.terminal = true;
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"));
    expect_success("terminal");
    assert_non_null(strstr(ran.err, "] 1/3 "));
    assert_non_null(strstr(ran.err, "s/step"));
    assert_non_null(strstr(ran.err, " left"));
    run_with.terminal = true;
    RUN(DRAW, "-s", "1", "-q", "-o", out("a.ppm"));
    expect_success("quiet");
    assert_string_equal(ran.err, "");
    temp_clear();
}

TEST(verbose_tells_what_was_decided)
{
    RUN(DRAW, "-s", "1", "-v", "-o", out("a.ppm"));
    expect_success("verbose");
    assert_non_null(strstr(ran.err, "unet: 326 tensors"));
    assert_non_null(strstr(ran.err, "Sampler: DDIM"));
    temp_clear();
}

/* ---------------------------------------------------------------------------------- interruption */

static void interrupt(int signal_number, double delay, const char *side, const char *what)
{
    run_with.signal = signal_number;
    run_with.delay = delay;
    RUN("-p", "x", "-s", "1", "--steps", "500", "-W", side, "-H", side, "-o", out("a.ppm"), "--trace",
        out("t.safetensors"), "--trace-filter", "latents.*");
    print_message("%s: stopped after %.3f s\n", what, ran.seconds);
    expect_error(what, 130, "interrupted");
    if (ran.seconds > 1.0 * SLOW) fail_msg("%s: stopped after %.2f s", what, ran.seconds);
}

TEST(an_interrupt_stops_within_a_second_and_leaves_nothing)
{
    interrupt(SIGINT, 0.4, "128", "between short steps");
    interrupt(SIGTERM, 0.4, "128", "SIGTERM");
    interrupt(SIGINT, 1.5, "768", "inside a long UNet pass");
}

/* ----------------------------------------------------------------------------- where the model is */

TEST(the_default_model_lies_beside_the_program)
{
    size_t n;
    char model[4096], program[4096];
    assert_non_null(realpath("weights/tiny", model));
    const char *from = getenv("SD_PROGRAM");
    char *binary = slurp(from && *from ? from : "./sd", &n);
    snprintf(program, sizeof program, "%s", in_work("bin/sd"));
    mkdir(in_work("bin"), 0755);
    mkdir(in_work("bin/weights"), 0755);
    spill(program, binary, n);
    free(binary);
    chmod(program, 0755);
    assert_int_equal(symlink(model, in_work("bin/weights/tiny")), 0);

    run_with.cwd = temp_path("");
    run_with.program = program;
    RUN(DRAW, "-s", "1");   /* and the default output is in the current directory */
    expect_success("beside the program");
    assert_int_equal(access(out("output" PICTURE), R_OK), 0);
    temp_clear();

    run_with.env[0] = "SD_MODEL=/nowhere/model";
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"));
    expect_error("$SD_MODEL", 2, "/nowhere/model");
    run_with.env[0] = "SD_MODEL=/nowhere/model";
    RUN(DRAW, "-s", "1", "-o", out("a.ppm"), "-m", model);
    expect_success("-m overrides $SD_MODEL");
    temp_clear();
}

/* ------------------------------------------------------------------------------ sd tokenize, plan */

TEST(tokenize_prints_ids_and_pieces)
{
    RUN("tokenize", "a Red apple");
    expect_success("text");
    assert_string_equal(ran.out,
                        "49406 <|startoftext|>\n  320 a</w>\n  736 red</w>\n 3055 apple</w>\n49407 <|endoftext|>\n");
    RUN("tokenize", "a Red apple", "--json");
    expect_success("json");
    expect_begins(ran.out, "{\"n\":5,\"dropped\":0,\"ids\":[49406,320,736,3055,49407,49407,");
    assert_non_null(strstr(ran.out,
                           "\"pieces\":[\"<|startoftext|>\",\"a</w>\",\"red</w>\",\"apple</w>\",\"<|endoftext|>\","));
    RUN("tokenize", "--json", "--", "--\"\\");
    expect_success("escapes");
    assert_non_null(strstr(ran.out, "\"--\",\"\\\"\",\"\\\\</w>\","));
    char from[512];
    spill(in_work("text"), "a Red apple\n", 12);
    snprintf(from, sizeof from, "@%s", in_work("text"));
    RUN("tokenize", from);
    expect_success("a file");
    expect_begins(ran.out, "49406 <|startoftext|>\n  320 a</w>\n  736 red");
    RUN("tokenize", "\xff");
    expect_error("not UTF-8", 2, "0xff");
}

/* Lines end at \n alone: \r, U+0085 and U+2028 are white space inside a line. */
TEST(tokenize_reads_a_file_by_lines)
{
    static const char text[] = "a red apple\n\na\rred\xc2\x85" "apple\na\xe2\x80\xa8red apple";
    const char *same = "49406 320 736 3055 49407 49407 ";
    spill(in_work("lines"), text, sizeof text - 1);
    RUN("tokenize", "--ids", "--file", in_work("lines"));
    expect_success("file");
    const char *line = ran.out;
    for (int i = 0; i < 4; i++) {
        const char *begins = i == 1 ? "49406 49407 49407 " : same, *end = strchr(line, '\n');
        if (!end || strncmp(line, begins, strlen(begins)) != 0) fail_msg("line %d: %.60s", i, line);
        int spaces = 0;
        for (const char *p = line; p < end; p++) spaces += *p == ' ';
        assert_int_equal(spaces, SD_TOKENS - 1);
        line = end + 1;
    }
    assert_string_equal(line, "");
    spill(in_work("lines"), "ok\nbad \xc3(\n", 9);
    RUN("tokenize", "--ids", "--file", in_work("lines"));
    expect_error("a bad line", 2, "lines:2: ");
    spill(in_work("lines"), "ok\nno\0t\n", 8);
    RUN("tokenize", "--ids", "--file", in_work("lines"));
    expect_error("a NUL", 2, "lines:2 has a NUL byte");
    RUN("tokenize", "--ids", "--file", in_work("nowhere"));
    expect_error("no file", 2, "nowhere");
}

TEST(plan_counts_what_the_published_models_have)
{
    static const struct { const char *config, *unet; } counts[] = {
        {"sd15", "\"unet\":{\"tensors\":686,\"parameters\":859520964,"},
        {"sd21", "\"unet\":{\"tensors\":686,\"parameters\":865910724,"},
        {"sdxl", "\"unet\":{\"tensors\":1680,\"parameters\":2567463684,"},
        {"sdxl-refiner", "\"unet\":{\"tensors\":1220,\"parameters\":2259526660,"},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        RUN("plan", "--config", counts[i].config, "--json");
        expect_success(counts[i].config);
        if (!strstr(ran.out, counts[i].unet)) fail_msg("%s: %.80s", counts[i].config, ran.out);
        assert_non_null(strstr(ran.out, "\"vae\":{\"tensors\":248,\"parameters\":83653863,"));
    }
    RUN("plan", "-m", "weights/tiny");
    expect_success("tiny");
    assert_non_null(strstr(ran.out, "unet: 326 tensors, 7078196 parameters"));
    RUN("plan", "--config", "weights/tiny/unet/config.json", "-W", "256", "-H", "64");
    expect_success("a UNet's config.json");
    assert_non_null(strstr(ran.out, "unet: 326 tensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_of_usage_name_what_is_wrong),
        cmocka_unit_test(help_names_every_option_of_the_issue),
        cmocka_unit_test(version_tells_how_it_was_built),
        cmocka_unit_test(the_same_seed_gives_the_same_bytes_and_the_seed_is_told),
        cmocka_unit_test(a_seed_not_given_is_random_printed_and_repeats_the_picture),
        cmocka_unit_test(a_batch_count_draws_the_seeds_that_follow),
        cmocka_unit_test(a_batch_size_draws_from_one_generator),
        cmocka_unit_test(ppm_holds_the_size_that_was_asked_for),
        unit_test_needing(NEED_PNG, png_holds_the_parameters_as_a1111_writes_them),
        unit_test_needing(NEED_PNG | NEED_UNICODE, png_holds_letters_beyond_ascii),
        cmocka_unit_test(an_empty_and_a_very_long_prompt_are_drawn),
        cmocka_unit_test(weights_and_adapters_in_prompts_are_warned_of),
        cmocka_unit_test(noise_from_a_file_is_the_noise_of_a_seed),
        cmocka_unit_test(a_trace_holds_the_tensors_that_the_filter_lets_through),
        cmocka_unit_test(options_change_what_is_drawn),
        cmocka_unit_test(a_picture_is_changed_repainted_and_extended),
        unit_test_needing(NEED_PNG, png_holds_the_strength),
        unit_test_needing(NEED_PNG, hostile_pictures_are_refused),
        cmocka_unit_test(timings_are_json_in_the_last_line),
        cmocka_unit_test(a_terminal_sees_progress),
        cmocka_unit_test(verbose_tells_what_was_decided),
        cmocka_unit_test(an_interrupt_stops_within_a_second_and_leaves_nothing),
        cmocka_unit_test(the_default_model_lies_beside_the_program),
        cmocka_unit_test(tokenize_prints_ids_and_pieces),
        unit_test_needing(NEED_UNICODE, tokenize_reads_a_file_by_lines),
        cmocka_unit_test(plan_counts_what_the_published_models_have),
    };
    return cmocka_run_group_tests_name("cli", tests, child_setup, child_teardown);
}
