/* selftest.h - floor 6: the rows of `sd selftest`: what was checked, on what, and how far it was from what is
 * expected. */
#ifndef SD_SELFTEST_H
#define SD_SELFTEST_H

#include "pipeline.h"
#include "selftest_synth.h"

/* One line of the report. */
typedef struct sd_check_row {
    char group[16], what[48];   /* "samplers", "euler"; "networks", "sd15 unet" */
    char on[64];                /* kernels, or a device; "": it depends on neither */
    int cases;                  /* comparisons */
    double worst;               /* the largest error as a share of its bound; INFINITY: no number says how wrong */
    bool bits;                  /* equality was asked for: worst is 0 or INFINITY */
    char why[240];              /* of the first failure; "": it passed */
    char skipped[80];           /* why nothing was checked; "": it was */
} sd_check_row;

/* What is used to compute networks on the CPU. */
typedef struct sd_check_table { const sd_kern *kern; const char *name; } sd_check_table;
/* Another device than the CPU. left_out: why it is not checked unless it is asked for; "": it is checked. */
typedef struct sd_check_device { char which[64], name[96], refused[160], left_out[160]; } sd_check_device;
enum { SD_CHECK_TABLES = 8, SD_CHECK_DEVICES = 8 };

typedef struct sd_selftest_run {
    const char *data;           /* the directory of expected numbers */
    const char *scratch;        /* models are written there; it is made and removed again */
    const char *merges;         /* CLIP's merges.txt */
    const char *only;           /* globs of "GROUP WHAT"; NULL: everything */
    int threads;                /* the most that are used */
    sd_check_table table[SD_CHECK_TABLES];   /* the first is the one that is chosen without being told */
    int tables;
    sd_check_device device[SD_CHECK_DEVICES];
    int devices;
    bool one_device;            /* that was asked for: no other */
    char no_device[160];        /* why there is none */
    int (*progress)(void *user, const char *what, double done, double total);
    void *user;
    sd_check_row *row;
    size_t n, cap;
    double done, total;         /* for progress: cases of networks, about */
    sd_error *e;
} sd_selftest_run;

/* The row of this name, new or not; NULL, with an error: no memory. It stays where it is until the next call. */
sd_check_row *sd_check_row_of(sd_selftest_run *s, const char *group, const char *what, const char *on);
/* A comparison: `share` of its bound. why is kept if it is the first above 1. */
void sd_check_note(sd_check_row *row, double share, const char *why, ...) SD_PRINTF(3, 4);
/* Is anything of this name asked for? */
bool sd_check_wanted(const sd_selftest_run *s, const char *group, const char *what);
/* DATA/NAME */
sd_status sd_check_path(const sd_selftest_run *s, const char *name, char path[4096]);
/* Opens DATA/NAME as lines. */
sd_status sd_check_lines(const sd_selftest_run *s, const char *name, sd_description *d);
/* Tells how far it is; SD_ERR_CANCELLED if it is to stop. */
sd_status sd_check_progress(sd_selftest_run *s, const char *what);

/* All groups. */
sd_status sd_selftest_check(sd_selftest_run *s);
/* The groups. A status is an error of the self-test itself; what fails is in the rows. */
sd_status sd_check_generators(sd_selftest_run *s);   /* selftest_generators.c */
sd_status sd_check_tokens(sd_selftest_run *s);       /* selftest_tokens.c */
sd_status sd_check_samplers(sd_selftest_run *s);     /* selftest_samplers.c */
sd_status sd_check_kernels(sd_selftest_run *s);      /* selftest_kernels.c */
sd_status sd_check_networks(sd_selftest_run *s);     /* selftest_networks.c */

/* ---- selftest_report.c: what was found, as a text that can be pasted where people ask, and as JSON */
typedef struct sd_selftest_style { bool all; double seconds; } sd_selftest_style;
void sd_selftest_text(const sd_selftest_run *s, const sd_selftest_style *style, sd_text *t);
void sd_selftest_json(const sd_selftest_run *s, const sd_selftest_style *style, sd_text *t);
bool sd_check_failed(const sd_check_row *row);

/* ---- selftest_kernels.c: the row functions under one signature: y from up to four rows of numbers (some take
 * fewer) */
typedef struct sd_row_inputs { const float *x, *m, *a, *b; const uint16_t *h; } sd_row_inputs;
typedef struct sd_row_kind {
    const char *name;
    void (*run)(const sd_kern *k, float *y, sd_row_inputs in, size_t n);
    double bound;   /* against the specification, in ULP of max(|result|, 1/8), inputs being of size 1 */
} sd_row_kind;
enum { SD_FAST_ROW_KINDS = 11, SD_ROW_KINDS };   /* those of every table, first; then what only precise tables have */
extern const sd_row_kind sd_row_kinds[SD_ROW_KINDS];
static inline size_t sd_row_kinds_of(const sd_kern *k) { return k->precise ? SD_ROW_KINDS : SD_FAST_ROW_KINDS; }

/* ---- selftest_samplers.c: a run of a sampler with a formula in the UNet's place */
enum { SD_SAMPLER_CASE_NUMBERS = 20, SD_SAMPLER_CASE_SHOWN = 2, SD_SAMPLER_CASE_ROWS = 8 };
typedef struct sd_sampler_case_row { int i; double t, sigma, x[SD_SAMPLER_CASE_SHOWN], e32; } sd_sampler_case_row;
typedef struct sd_sampler_case {
    char name[32], curve[32], spacing[16], prediction[16], more[96];
    int steps, first, count, n_rows;
    double next, sum_t, sum_it, sum_sigma;
    sd_sampler_case_row rows[SD_SAMPLER_CASE_ROWS], end;
} sd_sampler_case;
/* All cases of a file of tools/golden_solvers.py; free() them. */
sd_status sd_sampler_cases_read(const char *path, sd_sampler_case **cases, int *n, sd_error *e);
sd_status sd_sampler_case_config(const sd_sampler_case *g, sd_sched_config *c, sd_error *e);
typedef struct sd_sampler_case_result {
    double worst;            /* of the latents: error as a share of max(3 e32, 4 roundings) */
    double worst_schedule;   /* relative error of timesteps and sigmas */
    int evaluations;
    float x[SD_SAMPLER_CASE_NUMBERS];   /* the last latents */
} sd_sampler_case_result;
/* The run of a case with these settings. */
sd_status sd_sampler_case_run(const sd_sampler_case *g, const sd_sched_config *c, sd_sampler_case_result *r,
                              sd_error *e);

#endif
