/* test_limits.c - files without an end, claims without a reason, runs that no machine can hold, files that shrink while
 * they are used, and Ctrl-C in all that takes long before the networks begin: each ends at once and with a sentence. */
#define _XOPEN_SOURCE 700

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"
#ifdef SD_WITH_PNG
#include <png.h>
#endif

#include "child.h"
#include "needs.h"
#include "tempdir.h"

static const char *const tiny = "weights/tiny";

static void within(double seconds, const char *what)
{
    if (ran.seconds > seconds * SLOW) fail_msg("%s: only after %.2f s", what, ran.seconds);
}

/* ------------------------------------------------------------------------------ what has no end, or no sense */

TEST(endless_files_are_refused_at_once)
{
    RUN("-p", "x", "-i", "/dev/zero", "-o", temp_path("a.ppm"));
    expect_error("a picture", 2, "none of them");
    within(2, "a picture");
    spill(in_work("dot.ppm"), "P6\n1 1\n255\nabc", 14);
    RUN("-p", "x", "-i", in_work("dot.ppm"), "--mask", "/dev/zero", "-o", temp_path("a.ppm"));
    expect_error("a mask", 2, "none of them");
    RUN("tokenize", "--ids", "--file", "/dev/zero");
    expect_error("lines", 2, "/dev/zero:1 is longer than");
    within(2, "lines");
    run_with.input = "/dev/zero";
    RUN("tokenize", "--ids", "--file", "-");
    expect_error("the standard input", 2, "is longer than");
}

/* A line that cannot be read is no end of the file. */
TEST(an_error_is_not_the_end_of_a_file)
{
    RUN("tokenize", "--ids", "--file", ".");
    expect_error("a directory", 2, "cannot read");
    char line[400001];
    memset(line, 'a', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    spill(in_work("long.txt"), line, sizeof line);
    RUN("tokenize", "--ids", "--file", in_work("long.txt"));
    expect_success("a long line");
    assert_int_equal(strchr(ran.out, '\n') - ran.out + 1, (long)strlen(ran.out));   /* one line of ids */
}

/* The tiny model by links, but for the VAE's weights. */
static const char *model_with_vae(const void *weights, size_t n)
{
    static char model[512];
    char from[4096], path[1024];
    static const char *const parts[] = {"unet", "text_encoder", "tokenizer", "scheduler"};
    static int models;
    snprintf(model, sizeof model, "%s", in_work("model%d", models++));
    assert_int_equal(mkdir(model, 0755), 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "%s/%s", tiny, parts[i]);
        assert_non_null(realpath(path, from));
        snprintf(path, sizeof path, "%s/%s", model, parts[i]);
        assert_int_equal(symlink(from, path), 0);
    }
    snprintf(path, sizeof path, "%s/vae", model);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/vae/config.json", tiny);
    assert_non_null(realpath(path, from));
    snprintf(path, sizeof path, "%s/vae/config.json", model);
    assert_int_equal(symlink(from, path), 0);
    snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors", model);
    spill(path, weights, n);
    return model;
}

/* Three bytes of a header became 78 bytes of memory. */
TEST(a_header_of_empty_lists_takes_no_memory)
{
    enum { LISTS = 4000000 };
    size_t n = 8 + 6 + 3 * (size_t)LISTS + 1;
    char *file = malloc(n);
    memcpy(file + 8, "{\"a\":[", 6);
    for (size_t i = 0; i < LISTS; i++) memcpy(file + 14 + 3 * i, "[],", 3);
    file[n - 2] = ']';
    file[n - 1] = '}';
    for (int i = 0; i < 8; i++) file[i] = (char)((n - 8) >> 8 * i & 255);
    const char *model = model_with_vae(file, n);
    free(file);
    RUN("-m", model, "-p", "x", "-o", temp_path("a.ppm"));
    expect_error("a header of empty lists", 2, "values");
    within(2, "a header of empty lists");
}

TEST(a_run_that_needs_more_memory_than_there_is_does_not_begin)
{
    RUN("-p", "x", "--batch-size", "512", "-W", "8192", "-H", "8192", "-o", temp_path("a.ppm"));
    expect_error("512 large pictures", 1, "drawing 512 pictures of 8192x8192 at once takes");
    within(2, "512 large pictures");
    RUN("-p", "x", "-W", "65536", "-H", "65536", "-o", temp_path("a.ppm"));
    expect_error("a huge picture", 1, "free");
    within(2, "a huge picture");
    RUN("-p", "x", "-W", "1024", "-H", "1024", "--max-memory", "0.02", "-o", temp_path("a.ppm"));
    expect_error("less than it takes, even in bands", 1, "0.02 GB are allowed");
    RUN("-p", "x", "-W", "64", "-H", "64", "--steps", "1", "--max-memory", "0.0001", "-o", temp_path("a.ppm"));
    expect_error("a small run, and less than it takes", 1, "0.0001 GB are allowed");
    RUN("-p", "x", "-W", "64", "-H", "64", "--steps", "1", "--max-memory", "0.1", "-o", temp_path("a.ppm"));
    expect_success("enough");
    temp_clear();
}

/* ------------------------------------------------------------------------------------- Ctrl-C */

#ifdef SD_WITH_PNG
/* All of one colour: 16384x16384 pixels in some 33 KB. */
static void write_large_png(const char *path, int colour)
{
    enum { SIDE = 16384 };
    static png_byte row[SIDE * 4];
    FILE *f = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(f);
    png_init_io(png, f);
    png_set_IHDR(png, info, SIDE, SIDE, colour == PNG_COLOR_TYPE_GRAY ? 1 : 8, colour, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(png, 1);
    png_set_filter(png, 0, PNG_FILTER_NONE);
    png_write_info(png, info);
    for (int y = 0; y < SIDE; y++) png_write_row(png, row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    fclose(f);
}

/* What is read takes 0.8 GB, and 2.3 GB when it is laid out for the run as well. */
TEST(a_large_picture_is_not_prepared_for_a_run_that_does_not_begin)
{
    struct rusage used;
    write_large_png(in_work("large.png"), PNG_COLOR_TYPE_GRAY);
    RUN("-p", "x", "-i", in_work("large.png"), "--max-memory", "1", "-o", temp_path("a.png"));
    expect_error("a large picture", 1, "drawing 1 picture of 16384x16384 at once takes");
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &used), 0);
#ifdef __linux__   /* elsewhere it is in other units */
    print_message("at most %ld MB\n", used.ru_maxrss / 1024);
    assert_true(used.ru_maxrss / 1024 < 1700);
#endif
    temp_clear();
}

/* Rows are resized while they are read: neither the file's 108 MB nor the picture's are ever in memory. */
TEST(a_large_picture_takes_little_memory_where_a_small_one_is_wanted)
{
    static const char header[] = "P6 6000 6000 255\n";
    char picture[4096];
    snprintf(picture, sizeof picture, "%s", in_work("large.ppm"));
    spill(picture, header, sizeof header - 1);
    assert_int_equal(truncate(picture, (off_t)(sizeof header - 1 + (size_t)6000 * 6000 * 3)), 0);
    RUN("-p", "x", "-q", "-i", picture, "-W", "64", "-H", "64", "--steps", "2", "-s", "1", "--max-memory", "0.09", "-o",
        temp_path("a.ppm"));
    expect_success("a large picture");
    RUN("encode", picture, "-q", "-W", "64", "-H", "64", "--max-memory", "0.09", "-o", temp_path("a.safetensors"));
    expect_success("encode");
    temp_clear();
    RUN("roundtrip", picture, "--max-memory", "1");   /* and where a large one is wanted, nothing is read in vain */
    expect_error("roundtrip", 1, "takes");
    within(1, "roundtrip");
    assert_int_equal(remove(picture), 0);
}

/* OpenBLAS waits at its end for threads that it had no memory to start. */
TEST(a_program_without_memory_ends)
{
    static const char *const commands[] = {"-p a", "--prompts /dev/zero"};   /* the library's memory, and its own */
    char command[8192], here[4096];
    assert_non_null(realpath(getenv("SD_PROGRAM") ? getenv("SD_PROGRAM") : "./sd", here));
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(command, sizeof command, "ulimit -v 66000; OMP_WAIT_POLICY=passive timeout -s KILL 20 %s %s "
                 "> %s 2>&1", here, commands[i], temp_path("said"));
        int status = system(command);
        temp_clear();
        if (!WIFEXITED(status) || WEXITSTATUS(status) == 137) fail_msg("%s: it does not end", commands[i]);
    }
}

TEST(a_large_picture_can_be_interrupted)
{
    write_large_png(in_work("large.png"), PNG_COLOR_TYPE_GRAY);
    for (double delay = 0.3; delay < 5; delay *= 2) {
        run_with.signal = SIGINT;
        run_with.at_once = true;
        run_with.delay = delay;
        RUN("-p", "x", "-i", in_work("large.png"), "--mask", in_work("large.png"), "-W", "64", "-H", "64", "-o",
            temp_path("a.png"));
        if (ran.code == 0) break;   /* it was faster */
        expect_error("a large picture", 130, "interrupted");
        print_message("%.1f s after the start: stopped after %.2f s\n", delay, ran.seconds);
        within(1, "a large picture");
    }
    temp_clear();
}
#endif

TEST(a_pipe_that_says_nothing_can_be_interrupted)
{
    const char *pipe_path = temp_path("pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    static const char *const ways[] = {"--init-img", "--noise", "--rng"};
    char named[512];
    snprintf(named, sizeof named, "%s", temp_path("n.safetensors"));
    assert_int_equal(mkfifo(named, 0600), 0);
    for (size_t i = 0; i < 3; i++) {
        run_with.signal = SIGINT;
        run_with.at_once = true;
        run_with.delay = 0.5;
        RUN("-p", "x", ways[i], i ? named : pipe_path, "-o", temp_path("a.ppm"));
        if (ran.code != 130 || !strstr(ran.err, "interrupted")) fail_msg("%s: %d, %s", ways[i], ran.code, ran.err);
        within(1, ways[i]);
    }
    temp_clear();
}

/* ------------------------------------------------------------------------------- files that shrink */

/* Until this is in the file; then a little more. */
static void wait_for(const char *path, const char *word)
{
    const struct timespec t = {0, 100000000};
    char text[256];
    for (int i = 0; i < 600; i++) {
        FILE *f = fopen(path, "r");
        size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
        text[n] = 0;
        if (f) fclose(f);
        nanosleep(&t, NULL);
        if (strstr(text, word)) return;
    }
}

TEST(a_model_that_is_cut_while_it_is_used_ends_in_a_sentence)
{
    static const char *const ways[] = {"map", "stream"};
    size_t n;
    char *weights = slurp("weights/tiny/vae/diffusion_pytorch_model.safetensors", &n), file[1024];
    for (size_t i = 0; i < 2; i++) {
        const char *model = model_with_vae(weights, n);
        snprintf(file, sizeof file, "%s/vae/diffusion_pytorch_model.safetensors", model);
        struct stat st;
        assert_int_equal(stat(file, &st), 0);
        char printed[512];
        snprintf(printed, sizeof printed, "%s", in_work("stdout"));
        remove(printed);
        pid_t cutter = fork();
        if (cutter == 0) {
            wait_for(printed, "seed:");
            _exit(truncate(file, 4096) != 0);
        }
        RUN("-m", model, "-p", "x", "-s", "1", "--steps", "900", "--sampling-method", "euler", "--residency", ways[i],
            "--save-steps",
            in_work("steps"), "-o", temp_path("a.ppm"));   /* the VAE works in each step */
        waitpid(cutter, NULL, 0);
        expect_error(ways[i], 1, "shorter");
    }
    free(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_files_are_refused_at_once),
        cmocka_unit_test(an_error_is_not_the_end_of_a_file),
        cmocka_unit_test(a_header_of_empty_lists_takes_no_memory),
        cmocka_unit_test(a_run_that_needs_more_memory_than_there_is_does_not_begin),
#ifdef SD_WITH_PNG
        cmocka_unit_test(a_large_picture_is_not_prepared_for_a_run_that_does_not_begin),
        cmocka_unit_test(a_large_picture_takes_little_memory_where_a_small_one_is_wanted),
        cmocka_unit_test(a_program_without_memory_ends),
        cmocka_unit_test(a_large_picture_can_be_interrupted),
#else
        unit_test_lacking(NEED_PNG, a_large_picture_is_not_prepared_for_a_run_that_does_not_begin),
        unit_test_lacking(NEED_PNG, a_large_picture_can_be_interrupted),
#endif
        cmocka_unit_test(a_pipe_that_says_nothing_can_be_interrupted),
        cmocka_unit_test(a_model_that_is_cut_while_it_is_used_ends_in_a_sentence),
    };
    return cmocka_run_group_tests_name("limits", tests, child_setup, child_teardown);
}
