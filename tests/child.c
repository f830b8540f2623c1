/* child.c - runs the program sd, for the tests of the command line. */
#define _XOPEN_SOURCE 700
#include "child.h"
#include "tempdir.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"
struct ran ran;
struct run_with run_with;
static char work[64], program[4096];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void nap(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&t, NULL);
}

/* --------------------------------------------------------------------------------------- files */

int child_setup(void **state)
{
    const char *path = getenv("SD_PROGRAM");
    if (!realpath(path && *path ? path : "./sd", program)) {
        print_error("there is no program %s to test\n", path ? path : "./sd");
        return -1;
    }
    unsetenv("SD_MODEL");
    unsetenv("SD_ISA");
    unsetenv("NO_COLOR");
    unsetenv("COLUMNS");
    snprintf(work, sizeof work, "/tmp/sd_test_XXXXXX");
    if (!mkdtemp(work)) return -1;
    return temp_make(state);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int child_teardown(void **state)
{
    temp_remove(state);
    return nftw(work, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *in_work(const char *fmt, ...)
{
    static char paths[8][4096];
    static unsigned next;
    char *path = paths[next++ % 8], name[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    snprintf(path, sizeof paths[0], "%s/%s", work, name);
    return path;
}

char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("no file %s", path);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, size, f), size);
    data[size] = 0;
    fclose(f);
    if (n) *n = size;
    return data;
}

void spill(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

bool same_files(const char *a, const char *b)
{
    size_t n, m;
    char *x = slurp(a, &n), *y = slurp(b, &m);
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

void expect_files_in_out(int n, const char *what)
{
    if (temp_files() != n) fail_msg("%s: %d files in the output directory instead of %d", what, temp_files(), n);
}

/* ----------------------------------------------------------------------------------- processes */

static void read_log(const char *name, char *to, size_t size)
{
    FILE *f = fopen(in_work("%s", name), "rb");
    size_t n = f ? fread(to, 1, size - 1, f) : 0;
    to[n] = 0;
    if (f) fclose(f);
}

static int redirect(int to, const char *name)
{
    int fd = open(in_work("%s", name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    return fd < 0 ? -1 : dup2(fd, to);
}

static void become(const char *const *args, int terminal)
{
    char *argv[64] = {program};
    for (int i = 0; i < 62 && args[i]; i++) argv[i + 1] = (char *)(uintptr_t)args[i];
    if (redirect(1, "stdout") < 0 || redirect(2, "stderr") < 0) _exit(99);
    if (terminal >= 0 && dup2(terminal, 2) < 0) _exit(99);
    if (terminal >= 0) close(terminal);
    if (terminal >= 0) putenv("TERM=xterm");
    for (int i = 0; i < 6 && run_with.env[i]; i++) putenv((char *)(uintptr_t)run_with.env[i]);
    signal(SIGINT, SIG_DFL);   /* a shell's background jobs ignore it, and so would the program */
    int input = run_with.input ? open(run_with.input, O_RDONLY) : -1;
    if (input >= 0) dup2(input, 0);
    if (run_with.cwd && chdir(run_with.cwd) != 0) _exit(99);
    if (run_with.file_limit) {
        struct rlimit limit = {(rlim_t)run_with.file_limit, (rlim_t)run_with.file_limit};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (run_with.memory_limit) {
        struct rlimit limit = {(rlim_t)run_with.memory_limit, (rlim_t)run_with.memory_limit};
        setrlimit(RLIMIT_AS, &limit);
    }
    for (int fd = 0; fd < 3; fd++)
        if (run_with.closed & 1 << fd) close(fd);
    execv(run_with.program ? run_with.program : program, argv);
    _exit(99);
}

/* Everything a terminal shows until its other side is closed. */
static void read_terminal(int fd)
{
    size_t used = 0;
    for (;;) {
        ssize_t n = read(fd, ran.err + used, sizeof ran.err - 1 - used);
        if (n <= 0) break;   /* EIO: the child is gone */
        used += (size_t)n;
    }
    ran.err[used] = 0;
}

static double interrupt_when_drawing(pid_t pid)
{
    double limit = now() + 60;
    while (!run_with.at_once && now() < limit) {
        nap(0.005);
        read_log("stdout", ran.out, sizeof ran.out);
        if (strstr(ran.out, "seed:")) break;
    }
    nap(run_with.delay);
    kill(pid, run_with.signal);
    if (run_with.twice) {
        nap(1e-3 * run_with.twice);
        kill(pid, run_with.signal);
    }
    return now();
}

void run_list(const char *const *args)
{
    int master = -1, slave = -1;
    if (run_with.terminal) {
        master = posix_openpt(O_RDWR | O_NOCTTY);
        assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
        slave = open(ptsname(master), O_RDWR | O_NOCTTY);
        assert_true(slave >= 0);
        struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)run_with.columns};
        assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
    }
    remove(in_work("stdout"));
    ran.err[0] = 0;
    double start = now();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) become(args, slave);
    if (run_with.signal) start = interrupt_when_drawing(pid);
    if (master >= 0) {
        close(slave);   /* now the child's is the only one, and reading ends when it ends */
        read_terminal(master);
        close(master);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    ran.seconds = now() - start;
    ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    read_log("stdout", ran.out, sizeof ran.out);
    if (master < 0) read_log("stderr", ran.err, sizeof ran.err);
    memset(&run_with, 0, sizeof run_with);
}

/* ------------------------------------------------------------------------------------ judgement */

void expect_success(const char *what)
{
    if (ran.code != 0) fail_msg("%s: exit code %d, %s", what, ran.code, ran.err);
}

void expect_error(const char *what, int code, const char *word)
{
    const char *end = strchr(ran.err, '\n');
    if (ran.code != code) fail_msg("%s: exit code %d instead of %d, stderr: %s", what, ran.code, code, ran.err);
    if (strncmp(ran.err, "sd: ", 4) != 0 || !end || end[1]) fail_msg("%s: not one line on stderr: %s", what, ran.err);
    if (!strstr(ran.err, word)) fail_msg("%s: \"%s\" is not in: %s", what, word, ran.err);
    expect_files_in_out(0, what);
}
