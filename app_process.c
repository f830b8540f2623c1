/* app_process.c - floor 7: the program among others: signals, standard streams, exit codes, its random number. */
#define _POSIX_C_SOURCE 200809L
#include "app.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------- signals */

sd_ctx *context;
volatile sig_atomic_t interrupts;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    if (!interrupts++ && context) {
        sd_cancel(context);
        return;
    }
    sd_abandon(context);   /* the second one does not wait, but leaves no file either */
    _exit(CLI_INTERRUPTED);
}

#ifdef SIGBUS
/* Weights are mapped, and a page of a file that somebody made shorter cannot be read. There is no way back into the
 * kernel that wanted it. */
static void on_lost_page(int signal_number, siginfo_t *info, void *machine)
{
    static const char why[] = "sd: a file of the model was made shorter, or its disk failed, while it was in use; "
                              "--residency ram reads files at once\n";
    (void)machine;
    if (info->si_code != BUS_ADRERR) {   /* our own mistake: let it end as it would have */
        signal(signal_number, SIG_DFL);
        return;
    }
    sd_abandon(context);
    if (write(STDERR_FILENO, why, sizeof why - 1) < 0) _exit(CLI_FAILURE);
    _exit(CLI_FAILURE);
}
#endif

/* A signal that is ignored when the program starts (nohup, a shell's background job) stays so. */
void catch_signals(void)
{
    static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction stop = {.sa_handler = on_interrupt}, old;
    for (size_t i = 0; i < COUNT(stopping); i++)
        if (sigaction(stopping[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(stopping[i], &stop, NULL);
#ifdef SIGBUS
    struct sigaction lost = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &lost, NULL);
#endif
#ifdef SIGXFSZ
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGXFSZ, &ignore, NULL);   /* a file size limit is an error of write() like a full disk */
#endif
}

/* Where a standard stream is closed, the next file that is opened gets its number, and what is meant for the stream is
 * written into that file. So each gets something that fails as a closed stream does: what can only be written for
 * reading, and the other way round. */
void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(CLI_FAILURE);
    }
}

int stopped(void) { return interrupts ? cli_error(CLI_INTERRUPTED, "interrupted") : CLI_OK; }

/* ---------------------------------------------------------------------------------- exit codes */

/* The README's table. 2 is for what another command line or another file would mend, 1 for what the machine did not
 * do. */
int exit_code(sd_status status)
{
    static const int codes[] = {
        [SD_OK] = CLI_OK, [SD_ERR_ARG] = CLI_USAGE, [SD_ERR_IO] = CLI_FAILURE, [SD_ERR_FORMAT] = CLI_USAGE,
        [SD_ERR_SHAPE] = CLI_USAGE, [SD_ERR_MISSING] = CLI_USAGE, [SD_ERR_UNSUPPORTED] = CLI_USAGE,
        [SD_ERR_MEMORY] = CLI_FAILURE, [SD_ERR_NUMERIC] = CLI_USAGE, [SD_ERR_CANCELLED] = CLI_INTERRUPTED,
    };
    return (size_t)status < COUNT(codes) ? codes[status] : CLI_FAILURE;
}

/* The same for a system call of ours. */
int errno_code(int why)
{
    static const int names[] = {ENOENT, ENOTDIR, EISDIR, EEXIST, ELOOP, ENAMETOOLONG};
    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i] == why) return CLI_USAGE;
    return CLI_FAILURE;
}

/* ---------------------------------------------------------------------------- what is inherited */

/* GNU's OpenMP lets threads wait in a loop. Where other programs want the cores too, that makes a small picture take a
 * minute instead of a second. It reads its environment before main begins, so the program starts itself once more with
 * the other policy. OpenBLAS starts its threads before main too, and they take turns on a core for some time although
 * nobody asked for a product; with 1 it starts none until one is asked for. */
void let_threads_sleep(char **argv)
{
#if defined(_OPENMP) && defined(__linux__)
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1) != 0) return;
    if (setenv("OPENBLAS_NUM_THREADS", "1", 0) == 0) execv("/proc/self/exe", argv);   /* returns if it cannot */
#else
    (void)argv;
#endif
}

static int is_stdout(const char *path)
{
    static const char *const names[] = {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (path && strcmp(path, names[i]) == 0) return 1;
    return 0;
}

/* "-o -" or "-o /dev/stdout", also of --plot and --trace: the result goes to the standard output, and everything else
 * that is printed there to the other stream. */
int output_to_stdout(settings *s)
{
    static char name[32];
    const char **results[] = {&s->output, &s->plot, &s->trace}, **wanted = NULL;
    for (size_t i = 0; i < COUNT(results); i++) {
        int dash = *results[i] && strcmp(*results[i], "-") == 0 && results[i] != &s->trace;
        if (!dash && !is_stdout(*results[i])) continue;
        if (wanted) return cli_error(CLI_USAGE, "only one result can go to the standard output");
        wanted = results[i];
    }
    if (!wanted) return CLI_OK;
    int fd = dup(STDOUT_FILENO);
    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return cli_error(CLI_FAILURE, "cannot write to the standard output: %s", strerror(errno));
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    *wanted = name;
    return CLI_OK;
}

/* Below 2^32: torch's generator takes no more of a seed, and short numbers are easier to keep. */
uint64_t random_seed(void)
{
    uint32_t seed = 0;
    FILE *f = fopen("/dev/urandom", "rb");
    size_t got = f ? fread(&seed, sizeof seed, 1, f) : 0;
    if (f) fclose(f);
    if (!got) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        seed = (uint32_t)t.tv_nsec * 2654435761u ^ (uint32_t)t.tv_sec ^ (uint32_t)getpid() << 16;
    }
    return seed;
}
