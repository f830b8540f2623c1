/* app_selftest.c - floor 7: sd selftest: does this build compute on this machine what it should? */
#include "app.h"

#include <stdio.h>

static const cli_option selftest_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_TEXT, 0, "only", AT(only), 0, 0, "GLOBS",
     "only checks of such names: \"samplers *\", \"networks sdxl*\",\n\"generators torch-cpu\""},
    {CLI_TEXT, 0, "device", AT(device), 0, 0, "NAME",
     "checks this device beside the CPU; cpu: none\n(default: all that sd devices lists, but for those that are\n"
     "CPUs, whose drivers compile for minutes at first)"},
    THREADS_OPTION,
    {CLI_FLAG, 0, "all", AT(all), 0, 0, NULL, "a line for each sampler and each generator"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object, see docs/VALIDATING.md"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "no progress"},
    HELP_OPTION,
};
const cli_command selftest_command = {
    "selftest",
    "usage: sd selftest [--only GLOBS] [--device NAME] [--all] [--json]\n\n"
    "Compares what this build computes on this machine with numbers of diffusers, k-diffusion, transformers, torch\n"
    "and NumPy that come with it: random numbers, tokens, samplers, and small models of every family, with the\n"
    "kernels of every instruction set that the processor has and on devices. Nothing is downloaded; a few\n"
    "megabytes are written to $TMPDIR, else /tmp, and removed. Exit code 0: all checks passed, 1: some failed,\n"
    "2: it could not be done.\n",
    selftest_options, COUNT(selftest_options), NULL, 0, 0, NULL};

static int show_checks(void *user, const char *what, double done, double total)
{
    view *v = user;
    if (v->bar) {
        v->shown = 1;
        fprintf(stderr, "\r%s: %.0f %%\033[K", what, total > 0 ? 100 * done / total : 0);
    }
    return interrupts != 0;
}

int run_selftest(settings *s, const char *argv0)
{
    char error[512], *text;
    int failed;
    sd_selftest_options o;
    view v = {.s = s, .bar = !s->quiet && bar_wanted(), .picture = -1};
    (void)argv0;
    sd_selftest_options_init(&o);
    o.json = s->json;
    o.all = s->all;
    o.only = s->only;
    o.device = s->device;
    if (s->threads > 0) o.threads = s->threads;
    o.progress = show_checks;
    o.user = &v;
    cleans_up = 1;
    sd_status status = sd_selftest(&o, &text, &failed, error);
    clear_bar(&v);
    if (status) return could_not(status, error);
    fputs(text, stdout);
    sd_free(text);
    return failed ? CLI_FAILURE : CLI_OK;
}
