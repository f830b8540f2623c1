/* app_os.c - floor 7: of the operating system what only a program may touch, and a library must not: signals, the
 * standard streams, the terminal. os.h says what each function does. */
#define _POSIX_C_SOURCE 200809L
#ifdef __APPLE__
#define _DARWIN_C_SOURCE   /* TIOCGWINSZ */
#endif
#include "os.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#ifdef SD_OS_POSIX
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool sd_os_on_terminal(void) { return isatty(STDERR_FILENO); }

int sd_os_terminal_columns(void)
{
#ifdef TIOCGWINSZ
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) return size.ws_col;
#endif
    return 0;
}

bool sd_os_reserve_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return false;
    }
    return true;
}

bool sd_os_move_output(char name[32])
{
    int fd = dup(STDOUT_FILENO);
    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return false;
    snprintf(name, 32, "/dev/fd/%d", fd);
    return true;
}

void sd_os_on_stop(void (*stop)(int signal_number))
{
    static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = stop}, old;
    for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++)
        if (sigaction(stopping[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(stopping[i], &action, NULL);
}

#ifdef SIGBUS
static void (*page_lost)(void);

/* Several threads may miss the file's pages at once: the first one tells, the others wait for the end. */
static void tell_once(void)
{
#ifdef __GNUC__
    static int told;
    if (!__atomic_exchange_n(&told, 1, __ATOMIC_SEQ_CST)) page_lost();
#else
    static volatile sig_atomic_t told;
    if (!told) {
        told = 1;
        page_lost();
    }
#endif
    for (;;) pause();
}

static void on_lost_page(int signal_number, siginfo_t *info, void *machine)
{
    (void)machine;
    if (info->si_code == BUS_ADRERR) tell_once();
    else signal(signal_number, SIG_DFL);   /* our own mistake: let it end as it would have */
}

void sd_os_on_lost_page(void (*lost)(void))
{
    struct sigaction action = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    page_lost = lost;
    sigaction(SIGBUS, &action, NULL);
}
#else
void sd_os_on_lost_page(void (*lost)(void)) { (void)lost; }
#endif

void sd_os_ignore_file_limit(void)
{
#ifdef SIGXFSZ
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGXFSZ, &ignore, NULL);
#endif
}

void sd_os_write_error(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;   /* there is nobody else to tell */
}

void sd_os_restart_with(const char *variable, const char *value, char **argv)
{
#ifdef __linux__
    if (getenv(variable) || setenv(variable, value, 0) != 0) return;
    execv("/proc/self/exe", argv);   /* returns if it cannot */
#else
    (void)variable, (void)value, (void)argv;
#endif
}

#else

bool sd_os_on_terminal(void) { return false; }
int sd_os_terminal_columns(void) { return 0; }
bool sd_os_reserve_standard_streams(void) { return true; }
bool sd_os_move_output(char name[32]) { return name[0] = 0, errno = 0, false; }
void sd_os_on_lost_page(void (*lost)(void)) { (void)lost; }
void sd_os_ignore_file_limit(void) {}
void sd_os_write_error(const char *text) { fputs(text, stderr); }
void sd_os_restart_with(const char *variable, const char *value, char **argv)
{
    (void)variable, (void)value, (void)argv;
}

static void (*stop_program)(int);

/* In standard C a handler is gone when it has been called. */
static void on_stop(int signal_number)
{
    signal(signal_number, on_stop);
    stop_program(signal_number);
}

void sd_os_on_stop(void (*stop)(int signal_number))
{
    static const int stopping[] = {SIGINT, SIGTERM};
    stop_program = stop;
    for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++)
        if (signal(stopping[i], on_stop) == SIG_IGN) signal(stopping[i], SIG_IGN);
}
#endif
