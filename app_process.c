/* app_process.c - floor 7: the program among others: signals, standard streams, exit codes, its random number. */
#include "app.h"
#include "os.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- signals */

sd_ctx *context;
volatile sig_atomic_t interrupts, cleans_up;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    if (!interrupts++ && (context || cleans_up)) {
        sd_cancel(context);   /* NULL is harmless */
        return;
    }
    sd_abandon(context);   /* the second signal ends the program at once, and leaves no unfinished file either */
    _Exit(CLI_INTERRUPTED);
}

/* Weights are mapped, and a page of a file that somebody made shorter cannot be read. There is no way back into the
 * kernel that wanted it. */
static void on_lost_page(void)
{
    sd_abandon(context);
    sd_os_write_error("sd: a file of the model was made shorter, or its disk failed, while it was in use; "
                      "--residency ram reads files at once\n");
    _Exit(CLI_FAILURE);
}

void catch_signals(void)
{
    sd_os_on_stop(on_interrupt);
    sd_os_on_lost_page(on_lost_page);
    sd_os_ignore_file_limit();
}

void hold_standard_streams(void)
{
    if (!sd_os_reserve_standard_streams()) _Exit(CLI_FAILURE);
}

int stopped(void) { return interrupts ? cli_error(CLI_INTERRUPTED, "interrupted") : CLI_OK; }

/* ---------------------------------------------------------------------------------- exit codes */

int memory_ran_out;

int no_memory(void)
{
    memory_ran_out = 1;
    return cli_error(CLI_FAILURE, "out of memory");
}

/* The README's table. 2 is for what another command line or another file would mend, 1 for what the machine did not
 * do. */
int exit_code(sd_status status)
{
    static const int codes[] = {
        [SD_OK] = CLI_OK, [SD_ERR_ARG] = CLI_USAGE, [SD_ERR_IO] = CLI_FAILURE, [SD_ERR_FORMAT] = CLI_USAGE,
        [SD_ERR_SHAPE] = CLI_USAGE, [SD_ERR_MISSING] = CLI_USAGE, [SD_ERR_UNSUPPORTED] = CLI_USAGE,
        [SD_ERR_MEMORY] = CLI_FAILURE, [SD_ERR_NUMERIC] = CLI_USAGE, [SD_ERR_CANCELLED] = CLI_INTERRUPTED,
    };
    memory_ran_out |= status == SD_ERR_MEMORY;
    return (size_t)status < COUNT(codes) ? codes[status] : CLI_FAILURE;
}

int could_not(sd_status status, const char *error)
{
    int code = exit_code(status);
    return cli_error(code == CLI_FAILURE ? CLI_USAGE : code, "%s", error);
}

/* The same for a system call of ours. */
int errno_code(int why)
{
    static const int names[] = {ENOENT, ENOTDIR, EISDIR, EEXIST, ENAMETOOLONG,
#ifdef ELOOP
                                ELOOP
#endif
    };
    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i] == why) return CLI_USAGE;
    return CLI_FAILURE;
}

/* ---------------------------------------------------------------------------- what is inherited */

/* GNU's OpenMP lets threads wait in a loop. Where other programs want the cores too, a small picture then takes a
 * minute instead of a second. OpenMP reads its environment before main begins, so the program starts itself once more
 * with the other policy. */
void let_threads_sleep(char **argv)
{
#ifdef _OPENMP
    sd_os_restart_with("OMP_WAIT_POLICY", "passive", argv);
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
    if (!sd_os_move_output(name))
        return cli_error(CLI_FAILURE, "cannot write to the standard output: %s", strerror(errno));
    *wanted = name;
    return CLI_OK;
}

/* Below 2^32: torch's generator takes no more of a seed, and short numbers are easier to keep. */
uint64_t random_seed(void) { return sd_os_any_number() >> 32; }
