/* app_tune.c - floor 7: sd tune: measures which kernels are the fastest on a device. */
#include "app.h"

#include <stdio.h>

static const cli_option tune_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_TEXT, 0, "device", AT(device), 0, 0, "NAME", "which one: opencl (default), opencl:1, opencl:nvidia"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object"},
    HELP_OPTION,
};
const cli_command tune_command = {
    "tune",
    "usage: sd tune [--device NAME] [--json]\n\n"
    "Measures which shapes of tiles are the fastest on a device of OpenCL for the products of SD 1.5 and SDXL, and\n"
    "keeps that in $XDG_CACHE_HOME/sd, where each later run finds it. Pictures are the same in every bit. It takes\n"
    "seconds on a GPU, minutes on a CPU.\n",
    tune_options, COUNT(tune_options), NULL, 0, 0, NULL};

typedef struct listing { const settings *s; int n; double before, after; } listing;   /* seconds per GFLOP */

static int see(void *user, const sd_tuned *t)
{
    listing *l = user;
    l->before += 1 / t->before;
    l->after += 1 / t->gflops;
    if (l->s->json)
        printf("%s{\"operation\":\"%s\",\"rows\":%lld,\"columns\":%lld,\"terms\":%lld,\"shape\":\"%s\",\"gflops\":%.1f,"
               "\"before\":%.1f}", l->n ? ",\n" : "", t->operation, (long long)t->rows, (long long)t->columns,
               (long long)t->terms, t->shape, t->gflops, t->before);
    else
        printf("%3d of %d  %-11s %6lld x %-5lld sums of %-5lld  %-22s %9.1f GFLOP/s, before %9.1f\n", t->done, t->of,
               t->operation, (long long)t->rows, (long long)t->columns, (long long)t->terms, t->shape, t->gflops,
               t->before);
    fflush(stdout);
    l->n++;
    return interrupts != 0;
}

int run_tune(settings *s, const char *argv0)
{
    listing l = {.s = s};
    char error[512];
    (void)argv0;
    if (s->json) printf("{\"products\":[");
    sd_status status = sd_tune(s->device, NULL, see, &l, error);
    if (s->json) printf("]}\n");
    if (status) return cli_error(exit_code(status), "%s", error);
    if (!s->json && l.n) printf("all of them, as often as one another: %.2f times as fast\n", l.before / l.after);
    return CLI_OK;
}
