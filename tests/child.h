/* child.h - runs the program sd in a directory of its own and keeps what it said. One at a time, in `ran`. */
#ifndef SD_TEST_CHILD_H
#define SD_TEST_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define SLOW 6.0   /* how much longer things may take under the address sanitizer */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLOW 6.0
#endif
#endif
#ifndef SLOW
#define SLOW 1.0
#endif

/* The ending of pictures that the program names itself. Where the format is not the point, tests ask for .ppm, which
 * every build writes. */
#ifdef SD_WITH_PNG
#define PICTURE ".png"
#else
#define PICTURE ".ppm"
#endif

/* cmocka setup and teardown: a working directory, and that of tempdir.h for what the program writes. */
int child_setup(void **state);
int child_teardown(void **state);

/* A path in the working directory. Valid until eight more were asked for. */
const char *in_work(const char *fmt, ...);
/* The file as it stands, NUL terminated, in memory; fails the test if it is not there. free() it. */
char *slurp(const char *path, size_t *n);
void spill(const char *path, const void *data, size_t n);
bool same_files(const char *a, const char *b);
/* `what` is put in front of the failure if the program left another number of files. */
void expect_files_in_out(int n, const char *what);

extern struct ran {
    int code;             /* exit code; 1000 + signal if one ended it */
    char out[1 << 20], err[1 << 19];
    double seconds;       /* from start, or from the signal if one was sent, to end */
} ran;

/* How the next run differs; back to nothing after it. */
extern struct run_with {
    const char *cwd, *program, *env[6];   /* env: "NAME=value" */
    long file_limit;                      /* bytes that a file may grow to; 0: any */
    bool terminal;                        /* stderr is a terminal */
    int columns;                          /* its width; 0: it does not say */
    int signal;                           /* sent `delay` seconds after the seed was printed */
    bool at_once;                         /* ... or after the start */
    int twice;                            /* the signal is sent so many milliseconds later again */
    double delay;
    const char *input;                    /* a file to be the standard input */
    int closed;                           /* bits 1, 2, 4: standard streams that are closed */
    long memory_limit;                    /* bytes of address space */
} run_with;

void run_list(const char *const *args);
#define RUN(...) run_list((const char *const[]){__VA_ARGS__, NULL})

/* Asserts exit code 0. */
void expect_success(const char *what);
/* Asserts the exit code, one line "sd: ..." on stderr that has `word` in it, and no file left. */
void expect_error(const char *what, int code, const char *word);

#endif
