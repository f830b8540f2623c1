/* test_outputs.c - where the program writes: complete files under names that are not its own yet, pipes, devices, the
 * standard streams, signals while a file is written, and the exit codes. */
#define _XOPEN_SOURCE 700

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"
#include "child.h"
#include "tempdir.h"

#define DRAW "-p", "a red apple", "-s", "1", "--steps", "1", "-W", "64", "-H", "64"

static const char *program(void)
{
    const char *path = getenv("SD_PROGRAM");
    return path && *path ? path : "./sd";
}

/* A complete picture of DRAW's size, in the format of PICTURE. */
static void expect_whole(const char *data, size_t n, const char *what)
{
#ifdef SD_WITH_PNG
    bool whole = n > 100 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0 && memcmp(data + n - 8, "IEND", 4) == 0;
#else
    bool whole = n == 13 + 64 * 64 * 3 && memcmp(data, "P6\n64 64\n255\n", 13) == 0;
#endif
    if (!whole) fail_msg("%s: %zu bytes are no complete picture", what, n);
}

static void expect_whole_file(const char *name)
{
    size_t n;
    char *data = temp_read(name, &n);
    expect_whole(data, n, name);
    free(data);
}

/* --------------------------------------------------------------------------------- temporary files */

/* Starts the program in the background. */
static pid_t start(const char *const *args)
{
    char *argv[32] = {(char *)(uintptr_t)program()};
    for (int i = 0; i < 30 && args[i]; i++) argv[i + 1] = (char *)(uintptr_t)args[i];
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid) return pid;
    signal(SIGINT, SIG_DFL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 1);
    dup2(null, 2);
    execv(argv[0], argv);
    _exit(99);
}

static int end_of(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(what_others_call_part_is_left_alone)
{
    size_t n;
    temp_write("a" PICTURE ".part", "mine", 4);
    temp_write("t.safetensors.data", "mine", 4);
    temp_write("elsewhere", "mine", 4);
    assert_int_equal(symlink(temp_path("elsewhere"), temp_path("t.safetensors.part")), 0);
    RUN(DRAW, "-o", temp_path("a" PICTURE), "--trace", temp_path("t.safetensors"), "--trace-filter", "latents.*");
    expect_success("beside files of those names");
    static const char *const names[] = {"a" PICTURE ".part", "t.safetensors.data", "elsewhere"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *data = temp_read(names[i], &n);
        assert_int_equal(n, 4);
        assert_string_equal(data, "mine");
        free(data);
    }
    expect_files_in_out(6, "the three, the link, a picture and a trace");
    temp_clear();
}

/* Each of many runs at once ends well, and what is there is one whole picture, whichever came last. */
TEST(runs_with_one_output_do_not_disturb_each_other)
{
    enum { RUNS = 8 };
    pid_t pid[RUNS];
    char path[512], trace[512];
    snprintf(path, sizeof path, "%s", temp_path("a" PICTURE));
    snprintf(trace, sizeof trace, "%s", temp_path("t.safetensors"));
    for (int i = 0; i < RUNS; i++)
        pid[i] = start((const char *const[]){DRAW, "-o", path, "--trace", trace, NULL});
    for (int i = 0; i < RUNS; i++) assert_int_equal(end_of(pid[i]), 0);
    RUN(DRAW, "-o", temp_path("b" PICTURE), "--trace", temp_path("b.safetensors"));
    assert_true(same_files(temp_path("a" PICTURE), temp_path("b" PICTURE)));
    assert_true(same_files(temp_path("t.safetensors"), temp_path("b.safetensors")));
    expect_files_in_out(4, "two pictures and two traces");
    temp_clear();
}

TEST(files_get_the_rights_that_the_umask_leaves)
{
    static const mode_t masks[] = {022, 027, 077, 0};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        struct stat st;
        mode_t before = umask(masks[i]);
        RUN(DRAW, "-o", temp_path("a" PICTURE), "--trace", temp_path("t.safetensors"), "--trace-filter", "latents.*");
        umask(before);
        expect_success("umask");
        static const char *const names[] = {"a" PICTURE, "t.safetensors"};
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            assert_int_equal(stat(temp_path(names[k]), &st), 0);
            assert_int_equal(st.st_mode & 0777, 0666 & ~masks[i]);
        }
    }
    temp_clear();
}

/* -------------------------------------------------------------------------------- pipes and devices */

/* What the program writes into a pipe of that name. */
static char *through_fifo(const char *const *args, const char *path, size_t *n)
{
    enum { ROOM = 1 << 25 };
    char *data = calloc(1, ROOM);
    assert_int_equal(mkfifo(path, 0600), 0);
    pid_t pid = start(args);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    *n = 0;
    for (ssize_t got; (got = read(fd, data + *n, ROOM - *n)) > 0;) *n += (size_t)got;
    close(fd);
    assert_int_equal(end_of(pid), 0);
    return data;
}

TEST(pipes_and_devices_are_written_through)
{
    size_t n, m;
    struct stat st;
    const char *path = temp_path("pipe");
    char *data = through_fifo((const char *const[]){DRAW, "-o", path, NULL}, path, &n);
    expect_whole(data, n, "through a pipe");
    free(data);
    RUN(DRAW, "-o", temp_path("a" PICTURE), "--trace", temp_path("b.safetensors"));
    expect_success("a file");
    path = temp_path("pipe.safetensors");
    data = through_fifo((const char *const[]){DRAW, "-o", temp_path("a" PICTURE), "--trace", path, NULL}, path, &m);
    char *same = temp_read("b.safetensors", &n);
    assert_int_equal(n, m);
    assert_memory_equal(data, same, n);
    free(data);
    free(same);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    RUN(DRAW, "-o", "/dev/null");
    expect_success("the null device");
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    RUN(DRAW, "-o", "/dev/full");
    assert_int_equal(ran.code, 1);
    if (!strstr(ran.err, "No space left")) fail_msg("a full device: %s", ran.err);
    expect_files_in_out(4, "two pipes, a picture and a trace");
    temp_clear();
}

TEST(the_standard_output_takes_a_picture_and_nothing_else)
{
    size_t n;
    RUN(DRAW, "-o", temp_path("a" PICTURE));
    char *alone = temp_read("a" PICTURE, &n);
    static const char *const names[] = {"-", "/dev/stdout"};
    for (size_t i = 0; i < 2; i++) {
        RUN(DRAW, "-o", names[i]);
        expect_success(names[i]);
        expect_whole(ran.out, n, names[i]);
        assert_memory_equal(ran.out, alone, n);
        if (!strstr(ran.err, "seed: 1\n")) fail_msg("where is the seed? %s", ran.err);
    }
    free(alone);
    temp_clear();
    RUN(DRAW, "-o", "-", "--batch-size", "2");
    expect_error("two pictures", 2, "the standard output");
    RUN(DRAW, "--trace", "-", "-o", temp_path("a.ppm"));
    expect_error("a trace", 2, "FILE.safetensors");
    RUN(DRAW, "--trace", "/dev/stdout", "-o", "-");
    expect_error("both", 2, "only one result");
}

TEST(a_trace_or_a_plot_has_the_standard_output_to_itself)
{
    size_t n;
    RUN(DRAW, "--trace", temp_path("a.safetensors"), "--trace-filter", "latents.*", "-o", temp_path("a" PICTURE));
    char *alone = temp_read("a.safetensors", &n);
    RUN(DRAW, "--trace", "/dev/stdout", "--trace-filter", "latents.*", "-o", temp_path("a" PICTURE));
    expect_success("a trace");
    assert_true(n < sizeof ran.out);
    assert_memory_equal(ran.out, alone, n);   /* and no line before it */
    free(alone);
    RUN("schedule", "--plot", temp_path("a" PICTURE));
    alone = temp_read("a" PICTURE, &n);
    RUN("schedule", "--plot", "/dev/stdout");
    expect_success("a plot");
    assert_memory_equal(ran.out, alone, n < sizeof ran.out ? n : sizeof ran.out);
    free(alone);
    temp_clear();
}

/* Nothing that is meant for a closed stream ends up in a file that the program opens. */
TEST(closed_streams_lend_their_number_to_no_file)
{
    size_t n;
    RUN(DRAW, "-o", temp_path("a" PICTURE), "--trace", temp_path("a.safetensors"));
    expect_success("open streams");
    for (int closed = 1; closed < 8; closed++) {
        run_with.closed = closed;
        RUN(DRAW, "-v", "-o", temp_path("b" PICTURE), "--trace", temp_path("b.safetensors"));
        assert_int_equal(ran.code, closed & 2 ? 1 : 0);   /* what was to be printed was lost */
        if (!same_files(temp_path("a.safetensors"), temp_path("b.safetensors"))) fail_msg("trace, closed %d", closed);
        if (!same_files(temp_path("a" PICTURE), temp_path("b" PICTURE))) fail_msg("picture, closed %d", closed);
    }
    char *data = temp_read("b" PICTURE, &n);
    expect_whole(data, n, "b" PICTURE);
    free(data);
    temp_clear();
}

/* ----------------------------------------------------------------------------------------- signals */

/* The signal comes at any time from the start to after the end, also while a file is written. Then there is the whole
 * picture, or none; and nothing else. */
static void signal_at(int number, double delay, int twice, const char *what)
{
    run_with.signal = number;
    run_with.at_once = true;
    run_with.delay = delay;
    run_with.twice = twice;
    RUN("-p", "x", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "-o", temp_path("a" PICTURE), "--trace",
        temp_path("t.safetensors"));
    bool before_main = ran.code == 1000 + number;   /* the loader and the start of OpenMP */
    if (ran.code != 130 && ran.code != 0 && !before_main)
        fail_msg("%s after %.3f s: %d, %s", what, delay, ran.code, ran.err);
    int files = temp_files();
    struct stat st;
    if (stat(temp_path("a" PICTURE), &st) == 0) expect_whole_file("a" PICTURE), files--;
    if (stat(temp_path("t.safetensors"), &st) == 0) files--;
    if (files) fail_msg("%s after %.3f s leaves %d files", what, delay, files);
    temp_clear();
}

TEST(a_signal_at_any_time_leaves_whole_files_or_none)
{
    static const struct { int number; const char *name;
                         } signals[] = {{SIGINT, "INT"}, {SIGTERM, "TERM"}, {SIGHUP, "HUP"}};
    RUN("-p", "x", "-s", "1", "--steps", "2", "-W", "64", "-H", "64", "-o", temp_path("a" PICTURE), "--trace",
        temp_path("t.safetensors"));
    double whole = ran.seconds * 1.1;
    temp_clear();
    enum { TIMES = 12 };
    for (size_t i = 0; i < 3; i++)
        for (int k = 0; k < TIMES; k++) {
            signal_at(signals[i].number, whole * k / TIMES, 0, signals[i].name);
            signal_at(signals[i].number, whole * k / TIMES, 3, "twice");
        }
}

TEST(a_signal_that_is_ignored_at_the_start_stays_so)
{
    signal(SIGHUP, SIG_IGN);
    run_with.signal = SIGHUP;
    run_with.delay = 0.01;
    RUN(DRAW, "-o", temp_path("a" PICTURE));
    signal(SIGHUP, SIG_DFL);
    expect_success("nohup");
    expect_whole_file("a" PICTURE);
    temp_clear();
}

/* --------------------------------------------------------------------------------------- exit codes */

TEST(exit_codes_are_those_of_the_table)
{
    char half[512], whole[512], picture[512];
    snprintf(half, sizeof half, "%s", in_work("half.ppm"));
    snprintf(whole, sizeof whole, "%s", in_work("whole.ppm"));
    snprintf(picture, sizeof picture, "%s", temp_path("a" PICTURE));
    spill(half, "P6\n8 8\n255\nabc", 14);
    spill(whole, "P6\n1 1\n255\nabc", 14);
    const struct { int code; const char *word, *args[8]; } cases[] = {
        {0, NULL, {"--version"}},
        {2, "-p", {"-q"}},                                                    /* SD_ERR_ARG and bad usage */
        {2, "No such file", {"-p", "x", "-i", "nowhere.png"}},                /* SD_ERR_MISSING */
        {2, "No such file", {"encode", "nowhere.png"}},
        {2, "No such file", {"tokenize", "--ids", "--file", "nowhere.txt"}},
        {2, "No such file", {"-p", "x", "--noise", "nowhere.safetensors"}},
        {2, "nowhere", {"-m", "nowhere", "-p", "x"}},
        {2, "nowhere", {"-p", "x", "-o", "nowhere/a" PICTURE}},
        {2, "nowhere", {"-p", "x", "--save-steps", "nowhere/deeper", "-o", picture}},
        {2, "nowhere", {"schedule", "--plot", "nowhere/a" PICTURE}},
        {2, "directory", {"-p", "x", "-i", "docs"}},
        {2, "cut off", {"-p", "x", "-i", half}},               /* SD_ERR_FORMAT */
        {2, "is a text, not a file of weights", {"-m", "Makefile", "-p", "x"}},
        {2, "is a textual inversion", {"-m", "tests/golden/pickle/embedding_dict.pt", "-p", "x"}},   /* UNSUPPORTED */
        {1, "No space", {"-p", "x", "--steps", "1", "-o", "/dev/full"}},      /* SD_ERR_IO */
        {1, "No space", {"encode", whole, "-o", "/dev/full"}},
        {1, "No space", {"schedule", "--plot", "/dev/full"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!cases[i].args[0]) continue;
        run_list(cases[i].args);
        const char *what = cases[i].word ? cases[i].word : cases[i].args[0];
        if (ran.code != cases[i].code)
            fail_msg("%s %s: exit code %d instead of %d: %s", cases[i].args[0], what, ran.code,
                                                cases[i].code, ran.err);
        if (cases[i].word && !strstr(ran.err, cases[i].word)) fail_msg("%s is not in: %s", cases[i].word, ran.err);
    }
    expect_files_in_out(0, "exit codes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_call_part_is_left_alone),
        cmocka_unit_test(runs_with_one_output_do_not_disturb_each_other),
        cmocka_unit_test(files_get_the_rights_that_the_umask_leaves),
        cmocka_unit_test(pipes_and_devices_are_written_through),
        cmocka_unit_test(the_standard_output_takes_a_picture_and_nothing_else),
        cmocka_unit_test(a_trace_or_a_plot_has_the_standard_output_to_itself),
        cmocka_unit_test(closed_streams_lend_their_number_to_no_file),
        cmocka_unit_test(a_signal_at_any_time_leaves_whole_files_or_none),
        cmocka_unit_test(a_signal_that_is_ignored_at_the_start_stays_so),
        cmocka_unit_test(exit_codes_are_those_of_the_table),
    };
    return cmocka_run_group_tests_name("outputs", tests, child_setup, child_teardown);
}
