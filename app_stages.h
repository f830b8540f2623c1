/* app_stages.h - floor 7: what the commands for single stages share: files of tensors in and out, and their options. */
#ifndef SD_APP_STAGES_H
#define SD_APP_STAGES_H

#include "app.h"

#define OUTPUT_OPTION(usual) {CLI_TEXT, 'o', "output", AT(output), 0, 0, "FILE", \
                              "FILE.safetensors; FILE.npy, the first tensor alone; or DIR/\n" \
                              "with a .npy file for each (default: " usual ")"}
#define STAGE_TRACE_OPTIONS \
    {CLI_TEXT, 0, "trace", AT(trace), 0, 0, "FILE", "writes every intermediate tensor to FILE.safetensors, or to\n" \
     "DIR/, a .npy file for each"}, \
    {CLI_TEXT, 0, "trace-filter", AT(trace_filter), 0, 0, "GLOBS", "writes only these"}
#define COMPUTE_OPTIONS \
    DEVICE_OPTION, \
    THREADS_OPTION, \
    {CLI_FLAG, 0, "precise", AT(precise), 0, 0, NULL, "every sum in double: three to four times as slow"}, \
    GEMM_OPTION, \
    RESIDENCY_OPTION, \
    MEMORY_OPTION, \
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "only errors"}, \
    {CLI_FLAG, 'v', "verbose", AT(verbose), 0, 0, NULL, "everything that was decided"}, \
    HELP_OPTION

/* ---- app_numbers.c
 * A tensor of a file; dimensions beyond nd are 1. */
typedef struct numbers { float *data; int nd; int64_t dim[4]; } numbers;
void numbers_free(numbers *t);
size_t numbers_count(const numbers *t);
/* The first of these tensors that the file has (the list ends with NULL), else its only one. Exit code. */
int read_numbers(const settings *s, const char *file, const char *const *names, numbers *t);
/* The tensor of that name; t->data NULL: the file has none. Exit code. */
int find_numbers(const settings *s, const char *file, const char *name, numbers *t);
/* Is it [dim[0],...], where 0 is any number? Without its first dimension it is one picture or text, and gets it. */
int expect_shape(const char *file, const char *what, numbers *t, int nd, const int64_t *dim);
/* Will it be possible to write there, with such a name? */
int check_tensors_output(const char *what, const char *path);
/* Writes the tensors; into a .npy the first alone. */
int write_numbers(const settings *s, const char *path, const sd_traced *t, size_t n);

/* ---- app_given.c: --tokens-in, --embeds-in and --timestep-in of a run */
enum { MOST_TEXTS = 1024 };
/* Ids of --tokens-in for each of the model's text encoders, [*rows,77]. Exit code; free() them in any case. */
int read_tokens(const settings *s, int encoders, int32_t *ids[2], int *rows);
typedef struct given_inputs given_inputs;
/* *x stays NULL if nothing is given. Exit code; given_free in any case. */
int read_given(const settings *s, given_inputs **x);
void given_free(given_inputs *x);
/* Lets the library have these inputs and the beginning of a run, with one answer more; each may be NULL. */
struct record;
int set_given(const settings *s, const given_inputs *x, struct record *r, float *answer);

/* The beginning of a run in a file: answers first .. n - 1 and the latents before them and behind, what there is. */
typedef struct record {
    int first, n;
    float **noise_pred, **latents;   /* [n + 2]; NULL: the file does not have it */
    numbers last;                    /* the latents before evaluation n */
} record;
/* Exit code; record_free in any case. */
int read_record(const settings *s, const char *file, int n, record **r);
void record_free(record *r);
/* Says that the sampler begins anew there, if it is one that cannot be the same then. */
void say_begins_anew(const settings *s, const char *file, int n);
/* Says which settings a trace tells otherwise than this run has them; but: globs, those that do not count. Exit
 * code. */
int say_other_settings(const settings *s, const char *file, const char *but);
/* Of a run from evaluation n on with --latents-in: if that file has all answers before it, the sampler gets them. */
int go_on(const settings *s, int n, const given_inputs *given, record **r);

/* The checks that all stages begin with; *output: where the result goes. */
int check_stage(const settings *s, const char **output, const char *usual);
/* --trace of a stage. */
int open_trace(const settings *s);
int close_trace(const settings *s);

#endif
