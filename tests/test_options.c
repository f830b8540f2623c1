/* test_options.c - what people type who come from other programs, and what the program tells of itself: names and flags
 * of theirs, commands with typos, the terminal's width, man page and completions. */
#define _XOPEN_SOURCE 700
#include "test.h"
#include "../sd.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

#define DRAW "-p", "a red apple", "-s", "3", "--steps", "3", "-W", "64", "-H", "64"

static const char *out(const char *name) { return temp_path(name); }

/* --------------------------------------------------------------------------- other programs' words */

TEST(other_programs_words_draw_the_same_picture)
{
    static const struct { const char *theirs[4], *ours[4]; } same[] = {
        {{"--sampling-method", "DPM++ 2M Karras"}, {"--sampling-method", "dpm++2m", "--scheduler", "karras"}},
        {{"--sampler", "dpmpp_2m", "--schedule", "Karras"}, {"--sampling-method", "dpm++2m", "--scheduler", "karras"}},
        {{"--sampling-method", "euler_ancestral"}, {"--sampling-method", "euler_a"}},
        {{"--rng", "cuda"}, {"--rng", "torch-cuda"}},
        {{"--prediction", "eps"}, {"--prediction", "epsilon"}},
        {{"--num_inference_steps", "2"}, {"--steps", "2"}},
        {{"--guidance-scale", "5", "--clip-skip", "-1"}, {"--cfg-scale", "5"}},
        {{"--clip-skip", "0", "--order", "0"}, {"--clip-skip", "1"}},
        {{"--fa", "--type", "f32"}, {NULL}},
        {{"-t", "-1", "-M", "img_gen"}, {NULL}},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const char *const *t = same[i].theirs, *const *o = same[i].ours;
        RUN(DRAW, "-q", "-o", out("a.ppm"), t[0], t[1], t[2], t[3]);
        expect_success(t[0]);
        assert_string_equal(ran.err, "");
        RUN(DRAW, "-q", "-o", out("b.ppm"), o[0], o[1], o[2], o[3]);
        expect_success(t[0]);
        if (!same_files(out("a.ppm"), out("b.ppm"))) fail_msg("%s %s: another picture", t[0], t[1]);
    }
    temp_clear();
}

TEST(options_that_change_nothing_are_told_once_and_not_when_quiet)
{
    RUN(DRAW, "-o", out("a.ppm"), "--diffusion-fa");
    expect_success("--diffusion-fa");
    assert_string_equal(ran.err, "sd: --diffusion-fa changes nothing: attention works in pieces in any case\n");
    temp_clear();
}

TEST(options_that_mean_nothing_here_say_what_to_use)
{
    static const struct { const char *args[2], *word; } cases[] = {
        {{"--type", "q8_0"}, "--type q8_0 is not supported: weights"}, {{"-M", "vid_gen"}, "commands"},
        {{"--mode=convert"}, "--mode convert is not supported"}, {{"--type"}, "--type needs a value"},
        {{"--vae-format", "flux"}, "--config"}, {{"--vae-tiling"}, "--vae-memory"},
        {{"--lora-model-dir", "x"}, "merge it"}, {{"--control-net", "x"}, "-i FILE"}, {{"--hires"}, "-i with -W"},
        {{"--high-noise-eta", "1"}, "another kind"}, {{"--plms"}, "--sampling-method pndm"},
            {{"-r", "x"}, "-r is not supported"},
        {{"--backend", "cuda0"}, "one device computes everything: --device"},
        {{"--rng", "std_default"}, "use cpu or cuda"},
        {{"--sampling-method", "euler_cfg_pp"}, "not supported: "}, {{"--scheduler", "gits"}, "not supported: "},
        {{"--prompt-file", "x"}, "-p @FILE"}, {{"--fa=1"}, "--fa is not supported"},
        {{"--image", "x.png"}, "--image is not supported: the parameters are in the picture itself: sd show FILE"},
        {{"--metadata-format", "json"}, "--metadata-format is not supported: the parameters are in the picture"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RUN("-p", "x", "-o", out("a.ppm"), cases[i].args[0], cases[i].args[1]);
        expect_error(cases[i].args[0], 2, cases[i].word);
        if (strstr(ran.err, "did you mean")) fail_msg("%s: %s", cases[i].args[0], ran.err);
    }
}

TEST(a_guess_is_made_only_where_it_is_near)
{
    static const char *const far[] = {"--gpu", "--lowvram", "--xformers", "--nsfw", "-Z", "--zero"};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        RUN("-p", "x", far[i]);
        expect_error(far[i], 2, "unknown option");
        if (strstr(ran.err, "did you mean")) fail_msg("%s: %s", far[i], ran.err);
    }
    RUN("-p", "x", "--promtp", "y");
    expect_error("--promtp", 2, "did you mean --prompt?");
}

/* ------------------------------------------------------------------------------------- commands */

TEST(help_and_version_are_commands_too)
{
    static const char *const same[][2][2] = {
        {{"help"}, {"--help"}}, {{"version"}, {"--version"}}, {{"version", "-v"}, {"--version", "-v"}},
        {{"help", "plan"}, {"plan", "--help"}},
        {{"help", "encode"}, {"encode", "-h"}}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        RUN(same[i][0][0], same[i][0][1]);
        expect_success(same[i][0][0]);
        spill(out("a.txt"), ran.out, strlen(ran.out));
        RUN(same[i][1][0], same[i][1][1]);
        expect_success(same[i][1][0]);
        spill(out("b.txt"), ran.out, strlen(ran.out));
        assert_true(strlen(ran.out) > 20 && same_files(out("a.txt"), out("b.txt")));
    }
    temp_clear();
    RUN("--version");
    static const char *const libraries[] = {"OpenBLAS", "OpenMP", "utf8proc", "libpng", "libjpeg"};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        char absent[32];   /* a build without one says so, "no BLAS" */
        snprintf(absent, sizeof absent, "no %s", strcmp(libraries[i], "OpenBLAS") == 0 ? "BLAS" : libraries[i]);
        if (!strstr(ran.out, libraries[i]) && !strstr(ran.out, absent)) fail_msg("--version lacks %s", libraries[i]);
    }
    RUN("--version", "-v");
    assert_non_null(strstr(ran.out, "\nthis machine: "));
    assert_non_null(strstr(ran.out, " cores, caches of "));
    RUN("--help");
    assert_non_null(strstr(ran.out, "with seed, seed + 1"));
}

TEST(words_that_are_no_commands_are_guessed)
{
    static const struct { const char *args[3], *word; } cases[] = {
        {{"plna"}, "did you mean sd plan?"}, {{"tokenise", "x"}, "did you mean sd tokenize?"},
        {{"sampler"}, "did you mean sd samplers?"}, {{"hepl"}, "did you mean sd help?"}, {{"help", "plna"}, "sd plan?"},
        {{"a red apple"}, "a prompt goes after -p"},
            {{"plan", "foo"}, "sd plan takes options alone; see sd plan --help"},
        {{"samplers", "x"}, "see sd samplers --help"}, {{"plan", "--zzzzzz"}, "see sd plan --help"},
        {{"help", "plan", "x"}, "unexpected argument"}, {{"plan", "--config", "sd15"}, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_list((const char *const[]){cases[i].args[0], cases[i].args[1], cases[i].args[2], NULL});
        if (cases[i].word) expect_error(cases[i].args[0], 2, cases[i].word);
        else expect_success(cases[i].args[0]);
    }
}

/* ------------------------------------------------------------------------------------ terminals */

/* The longest stretch between two places where the cursor goes back to the line's begin, escape sequences not
 * counted. */
static size_t longest_line(const char *text)
{
    size_t most = 0, n = 0;
    for (; *text; text++) {
        if (*text == '\033') text += strcspn(text, "KJm");
        else if (*text == '\r' || *text == '\n') n = 0;
        else if (++n > most) most = n;
    }
    return most;
}

TEST(the_bar_is_as_wide_as_the_terminal_lets_it)
{
    static const int columns[] = {200, 80, 60, 40, 24, 12};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        run_with.terminal = true;
        run_with.columns = columns[i];
        RUN(DRAW, "--sampling-method", "pndm", "-b", "2", "-o", out("a.ppm"));
        expect_success("terminal");
        if ((int)longest_line(ran.err) >= columns[i]) fail_msg("%d columns: %zu", columns[i], longest_line(ran.err));
        assert_non_null(strstr(ran.err, "4/4"));
        /* four evaluations for three steps: said where there is room for it */
        assert_true((strstr(ran.err, "4/4 evaluations for 3 steps") != NULL) == (columns[i] >= 80));
    }
    temp_clear();
}

TEST(a_terminal_without_colours_gets_none)
{
    static const struct { const char *env; bool bar; } terminals[] = {{"NO_COLOR=1", true}, {"TERM=dumb", false}};
    for (size_t i = 0; i < 2; i++) {
        run_with.terminal = true;
        run_with.env[0] = "TMUX=1";
        run_with.env[1] = terminals[i].env;
        RUN(DRAW, "--preview", "-o", out("a.ppm"));
        expect_success(terminals[i].env);
        assert_null(strstr(ran.err, "\033[38;"));
        assert_int_equal(strstr(ran.err, "3/") != NULL, terminals[i].bar);
        if (!terminals[i].bar) assert_string_equal(ran.err, "");
    }
    run_with.terminal = true;   /* set, but to nothing: as if it were not [no-color.org] */
    run_with.env[0] = "TMUX=1";
    run_with.env[1] = "NO_COLOR=";
    RUN(DRAW, "--preview", "-o", out("a.ppm"));
    assert_non_null(strstr(ran.err, "\033[38;"));
    temp_clear();
}

TEST(a_preview_fits_a_narrow_terminal)
{
    run_with.terminal = true;
    run_with.columns = 20;
    run_with.env[0] = "TMUX=1";
    RUN(DRAW, "--preview", "vae", "-o", out("a.ppm"));
    expect_success("narrow");
    int blocks = 0, most = 0;
    for (const char *p = ran.err; *p; p++) {
        if (*p == '\n') blocks = 0;
        else if (strncmp(p, "\xE2\x96\x80", 3) == 0 && ++blocks > most) most = blocks;
    }
    assert_int_equal(most, 19);
    temp_clear();
}

/* ------------------------------------------------------------------- manual page and completions */

/* The usual name of a picture stands in them. */
TEST(manual_page_and_completions_are_those_of_the_tables)
{
    static const struct { const char *file, *args[3]; } files[] = {
        {"share/sd.1", {"help", "--man"}}, {"share/sd.bash", {"help", "--completion", "bash"}},
        {"share/_sd", {"help", "--completion", "zsh"}}, {"share/sd.fish", {"help", "--completion", "fish"}}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *kept = slurp(files[i].file, NULL);
        RUN(files[i].args[0], files[i].args[1], files[i].args[2]);
        expect_success(files[i].file);
        if (strcmp(kept, ran.out) != 0) fail_msg("%s is not what the options are: run make man", files[i].file);
        free(kept);
    }
    RUN("help", "--completion", "tcsh");
    expect_error("tcsh", 2, "bash, zsh and fish");
}

/* Every long option of every command's help, in all four; a table that is not asked would leave some out. */
TEST(no_option_is_missing_in_them)
{
    static const char *const commands[] = {NULL, "encode", "decode", "roundtrip", "tokenize", "plan", "samplers",
                                           "schedule",
                                           "trace"};
    static const struct { const char *file, *before, *after; } files[] = {
        {"share/sd.bash", "--", " "}, {"share/_sd", "'--", ""}, {"share/sd.fish", " -l ", " "}};
    int options = 0;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        RUN("help", commands[i]);
        expect_success("help");
        for (const char *at = ran.out; (at = strstr(at, "--")) != NULL; at += 2) {
            const char *line = at;
            while (line > ran.out && line[-1] != '\n') line--;
            size_t n = strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-0123456789");
            if (at - line > 6 || strncmp(line, "  ", 2) != 0 || !n) continue;   /* within a sentence */
            for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
                char word[80], *text = slurp(files[k].file, NULL);
                snprintf(word, sizeof word, "%s%.*s%s", files[k].before, (int)n, at + 2, files[k].after);
                if (!strstr(text, word)) fail_msg("%s lacks \"%s\"", files[k].file, word);
                free(text);
            }
            options++;
        }
    }
    assert_true(options > 70);
}

TEST(bash_completes_commands_options_and_values)
{
    static const char script[] = "source share/sd.bash\n"
        "try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(( $# - 1 )); _sd; echo \"$*: ${COMPREPLY[*]}\"; }\n"
        "try sd pl; try sd --samp; try sd -p x --sampling-method dpm++2m; try sd plan --conf; try sd plan --config "
            "sd2\n"
        "try sd help sche; try sd --residency m; try sd --timings j; try sd encode docs/app; try sd -p x --seed 5\n";
    static const char expected[] = "sd pl: plan\nsd --samp: --sampler-rng --sampling-method\n"
        "sd -p x --sampling-method dpm++2m: dpm++2m dpm++2m_sde\nsd plan --conf: --config\n"
        "sd plan --config sd2: sd21 sd21-base sd21-inpaint sd2-depth\n"
        "sd help sche: schedule\nsd --residency m: map\nsd --timings j: json\nsd encode docs/app: docs/apple.png\n"
        "sd -p x --seed 5: \n";
    char command[4300], said[4096] = "";
    spill(in_work("try.bash"), script, strlen(script));
    if (system("bash -c true >/dev/null 2>&1") != 0) skip();
    snprintf(command, sizeof command, "bash %s", in_work("try.bash"));
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(said, 1, sizeof said - 1, f);
    said[n] = 0;
    assert_int_equal(pclose(f), 0);
    assert_string_equal(said, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_programs_words_draw_the_same_picture),
        cmocka_unit_test(options_that_change_nothing_are_told_once_and_not_when_quiet),
        cmocka_unit_test(options_that_mean_nothing_here_say_what_to_use),
        cmocka_unit_test(a_guess_is_made_only_where_it_is_near),
        cmocka_unit_test(help_and_version_are_commands_too),
        cmocka_unit_test(words_that_are_no_commands_are_guessed),
        cmocka_unit_test(the_bar_is_as_wide_as_the_terminal_lets_it),
        cmocka_unit_test(a_terminal_without_colours_gets_none),
        cmocka_unit_test(a_preview_fits_a_narrow_terminal),
        unit_test_needing(NEED_PNG, manual_page_and_completions_are_those_of_the_tables),
        cmocka_unit_test(no_option_is_missing_in_them),
        cmocka_unit_test(bash_completes_commands_options_and_values),
    };
    return cmocka_run_group_tests_name("options", tests, child_setup, child_teardown);
}
