/* test_preview.c - pictures of the steps: in a directory, and in a terminal by each of the protocols, taken apart
 * again. */
#include <sys/stat.h>

#include "test.h"
#include "../image_transform.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

#define DRAW "-p", "a red apple on a white background", "--sampling-method", "ddim", "-s", "5"

static const char *out(const char *name) { return temp_path(name); }

static sd_image read_picture(const char *path)
{
    sd_error e = {0};
    sd_image p;
    if (sd_image_load(&p, path, NULL, NULL, &e)) fail_msg("%s", e.text);
    return p;
}

/* -------------------------------------------------------------------------------- --save-steps */

TEST(every_step_is_saved_and_the_last_is_the_picture)
{
    char dir[256], path[320];
    snprintf(dir, sizeof dir, "%s", in_work("steps"));
    /* The last step ends at sigma 0: its prediction is the result. */
    RUN(DRAW, "--steps", "4", "--set-alpha-to-one", "true", "--steps-offset", "0", "--save-steps", dir, "-o",
        out("a.ppm"));
    expect_success("four steps");
    sd_image p[4], final = read_picture(out("a.ppm"));
    size_t n = 128 * 128 * 3;
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/step_%03d" PICTURE, dir, i);
        p[i] = read_picture(path);
        assert_int_equal(p[i].width, 128);
        if (i) assert_memory_not_equal(p[i].data, p[i - 1].data, n);
    }
    assert_memory_equal(p[3].data, final.data, n);
    for (int i = 0; i < 4; i++) sd_image_free(&p[i]);
    sd_image_free(&final);
    snprintf(path, sizeof path, "%s/step_004" PICTURE, dir);
    struct stat st;
    assert_int_not_equal(stat(path, &st), 0);
    RUN(DRAW, "--steps", "2", "--batch-size", "2", "--save-steps", dir, "-o", out("b.ppm"));
    expect_success("a batch");
    snprintf(path, sizeof path, "%s/step_001_2" PICTURE, dir);
    p[0] = read_picture(path);
    sd_image_free(&p[0]);
    temp_clear();
}

TEST(saving_steps_changes_nothing)
{
    RUN(DRAW, "--steps", "2", "-o", out("a.ppm"), "--trace", out("a.safetensors"), "--trace-filter", "latents.*,vae.*");
    expect_success("without");
    RUN(DRAW, "--steps", "2", "-o", out("b.ppm"), "--trace", out("b.safetensors"), "--trace-filter", "latents.*,vae.*",
        "--save-steps", in_work("more"));
    expect_success("with");
    assert_true(same_files(out("a.ppm"), out("b.ppm")));
    assert_true(same_files(out("a.safetensors"), out("b.safetensors")));   /* no name comes twice */
    temp_clear();
}

TEST(a_directory_that_cannot_be_is_refused_before_work)
{
    spill(in_work("file"), "x", 1);
    RUN(DRAW, "--save-steps", in_work("file"), "-o", out("a.ppm"));
    expect_error("a file", 2, "not a directory");
    RUN(DRAW, "--save-steps", "nowhere/deep", "-o", out("a.ppm"));
    expect_error("no parent", 2, "nowhere/deep");
    RUN(DRAW, "--save-steps", in_work("x"), "-b", "2", "-o", out("a.ppm"));
    expect_error("many runs", 2, "--save-steps is for one run");
}

/* A full disk: the run ends with that sentence, and nothing half written stays. */
TEST(a_step_that_cannot_be_written_ends_the_run)
{
    run_with.file_limit = 2000;
    RUN(DRAW, "--steps", "3", "--save-steps", in_work("full"), "-o", out("a.ppm"));
    expect_error("full disk", 1, "step_000" PICTURE);
}

/* ----------------------------------------------------------------------------------- --preview */

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}

/* Appends the bytes of base64 text to data; returns the new count. */
static size_t from_base64(uint8_t *data, size_t n, const char *text, size_t length)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t v = 0;
    int bits = 0;
    for (size_t i = 0; i < length && text[i] != '='; i++) {
        const char *d = strchr(digit, text[i]);
        assert_true(d && *d);
        v = v << 6 | (uint32_t)(d - digit);
        bits += 6;
        if (bits >= 8) data[n++] = (uint8_t)(v >> (bits -= 8));
    }
    return n;
}

static void preview(const char *terminal)
{
    run_with.terminal = true;
    run_with.env[0] = "TMUX";          /* putenv without '=': not in the environment */
    run_with.env[1] = "TERM=xterm";
    run_with.env[2] = terminal;
    run_with.env[3] = "COLORTERM=truecolor";
    RUN(DRAW, "--steps", "1", "--preview", "--save-steps", in_work("seen"), "-o", out("a.ppm"));
    expect_success(terminal);
}

TEST(other_terminals_get_half_blocks)
{
    preview("TERM_PROGRAM=other");
    assert_int_equal(count(ran.err, "\xE2\x96\x80"), 40 * 20);
    assert_int_equal(count(ran.err, "\033[38;2;"), 40 * 20);
    assert_int_equal(count(ran.err, "\033[48;2;"), 40 * 20);
    assert_int_equal(count(ran.err, "\033_G") + count(ran.err, "\033]1337"), 0);
    temp_clear();
}

TEST(kitty_gets_the_decoded_picture)
{
    preview("KITTY_WINDOW_ID=1");
    static uint8_t data[128 * 128 * 3 + 3];
    size_t n = 0;
    const char *p = strstr(ran.err, "\033_Ga=T,f=24,"), *end;
    assert_non_null(p);
    assert_non_null(strstr(p, "s=128,v=128,"));
    for (; p; p = strstr(end, "\033_G")) {
        p = strchr(p, ';') + 1;
        end = strstr(p, "\033\\");
        assert_non_null(end);
        assert_true(end - p <= 4096);
        n = from_base64(data, n, p, (size_t)(end - p));
    }
    assert_int_equal(n, 128 * 128 * 3);
    sd_image seen = read_picture(in_work("seen/step_000" PICTURE));
    assert_memory_equal(data, seen.data, n);
    sd_image_free(&seen);
    temp_clear();
}

TEST(iterm2_gets_a_png)
{
    preview("TERM_PROGRAM=iTerm.app");
    static uint8_t data[1 << 17];
    sd_error e = {0};
    sd_image p, seen = read_picture(in_work("seen/step_000" PICTURE));
    const char *at = strstr(ran.err, "\033]1337;File=inline=1;");
    assert_non_null(at);
    at = strchr(at, ':') + 1;
    size_t n = from_base64(data, 0, at, strcspn(at, "\a"));
    if (sd_image_load_memory(&p, data, n, "the preview", NULL, NULL, &e))   /* libpng checks its sums */
        fail_msg("%s", e.text);
    assert_int_equal(p.width, 128);
    assert_memory_equal(p.data, seen.data, 128 * 128 * 3);
    sd_image_free(&p);
    sd_image_free(&seen);
    temp_clear();
}

TEST(inside_tmux_there_are_blocks)
{
    run_with.terminal = true;
    run_with.env[0] = "TMUX=/tmp/x";
    run_with.env[1] = "KITTY_WINDOW_ID=1";
    run_with.env[2] = "COLORTERM=";
    RUN(DRAW, "--steps", "1", "--preview", "-o", out("a.ppm"));
    expect_success("tmux");
    assert_int_equal(count(ran.err, "\033_G"), 0);
    assert_int_equal(count(ran.err, "\033[38;5;"), 40 * 20);   /* and 256 colours where no more are promised */
    temp_clear();
}

TEST(a_pipe_gets_nothing)
{
    run_with.env[0] = "KITTY_WINDOW_ID=1";
    RUN(DRAW, "--steps", "1", "--preview", "-o", out("a.ppm"));
    expect_success("pipe");
    assert_string_equal(ran.err, "");
    temp_clear();
}

/* Large pictures are not decoded at each step: a pixel per latent, shown at the shape of the picture. */
TEST(a_large_picture_is_previewed_roughly)
{
    run_with.terminal = true;
    run_with.env[0] = "TMUX";
    run_with.env[1] = "KITTY_WINDOW_ID=1";
    RUN(DRAW, "--steps", "1", "-W", "512", "-H", "264", "--preview", "-o", out("a.ppm"));
    expect_success("large");
    assert_non_null(strstr(ran.err, "s=64,v=33,c=40,r=10,"));
    temp_clear();
}

TEST(a_preview_by_a_taesd_needs_one)
{
    RUN(DRAW, "--preview", "taesd", "-o", out("a.ppm"));
    expect_error("previews", 2, "--preview taesd needs a TAESD: --taesd PATH");
    RUN(DRAW, "--taesd-preview-only", "-o", out("a.ppm"));
    expect_error("only previews", 2, "--taesd-preview-only needs a TAESD: --taesd PATH");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_is_saved_and_the_last_is_the_picture),
        cmocka_unit_test(saving_steps_changes_nothing),
        cmocka_unit_test(a_directory_that_cannot_be_is_refused_before_work),
        cmocka_unit_test(a_step_that_cannot_be_written_ends_the_run),
        cmocka_unit_test(other_terminals_get_half_blocks),
        cmocka_unit_test(kitty_gets_the_decoded_picture),
        unit_test_needing(NEED_PNG, iterm2_gets_a_png),
        cmocka_unit_test(inside_tmux_there_are_blocks),
        cmocka_unit_test(a_pipe_gets_nothing),
        cmocka_unit_test(a_large_picture_is_previewed_roughly),
        cmocka_unit_test(a_preview_by_a_taesd_needs_one),
    };
    return cmocka_run_group_tests_name("preview", tests, child_setup, child_teardown);
}
