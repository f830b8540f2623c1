/* app_compare.c - floor 7: sd compare: where a trace diverges from another one. */
#include "app.h"

#include <stdio.h>
#include <string.h>

static const cli_option compare_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "all", AT(all), 0, 0, NULL, "lists every tensor, not only those about the first divergence"},
    {CLI_TEXT, 0, "names", AT(names), 0, 0, "FILE",
     "names of MINE and what they are in REF, a pair in each line;\none * in each stands for any text"},
    {CLI_FLAG, 0, "calls", AT(calls), 0, 0, NULL,
     "MINE... are the calls of one run, whose batches REF computed at\n"
     "once: a file for the negative prompt, one for the prompt"},
    {CLI_TEXT, 0, "html", AT(html), 0, 0, "FILE",
     "also a page with curves and a table; of a second MINE FILE-2, ..."},
    {CLI_NUMBER, 0, "rtol", AT(rtol), 0, 1, "X",
     "counts numbers that differ by more than --atol + X |REF|\n(default 1e-3)"},
    {CLI_NUMBER, 0, "atol", AT(atol), 0, 1e9, "X", "... (default 1e-5)"},
    {CLI_TEXT, 0, "floor", AT(floor), 0, 0, "FILE",
     "what float32 itself does to each tensor: MINE diverges where its\n"
     "error is many times that; a file of sd -p ... --floor;\ntiny, sd15: tables that come with the program"},
    {CLI_TEXT, 0, "injected", AT(injected), 0, 0, "FILE",
     "a trace of one program that went on with the other's tensors\n(--inject): measures what each module adds"},
    {CLI_TEXT, 0, "measure-floor", AT(measure_floor), 0, 0, "FILE",
     "compares all pairs of two and more traces that are right, and\nwrites FILE for --floor"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object, see docs/VALIDATING.md"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "no progress"},
    HELP_OPTION,
};
const cli_command compare_command = {
    "compare",
    "usage: sd compare REF MINE... [--names FILE] [--floor FILE] [--injected FILE] [--calls] [--all]\n"
    "                  [--json] [--html FILE]\n"
    "       sd compare --measure-floor FILE A B...\n\n"
    "Compares traces of what should be the same run, tensor by tensor in the order of execution, and names the first\n"
    "at which MINE diverges from REF further than float32's own errors reach. Exit code 0: nowhere, 1: somewhere,\n"
    "2: they could not be compared.\n",
    compare_options, COUNT(compare_options), "the reference's trace and yours", AT(files), 1, NULL};

static int compare_one(const settings *s, const char *mine, sd_compare_options *o, view *v)
{
    char error[512], *text;
    int different;
    sd_status status = sd_compare(s->files.v[0], mine, o, &text, &different, error);
    clear_bar(v);
    if (status) return could_not(status, error);
    fputs(text, stdout);
    sd_free(text);
    return different;
}

/* The page of the i-th MINE: a number stands before the ending of all but the first. */
static const char *page_of(const settings *s, size_t i, char room[4096])
{
    const char *slash = s->html ? strrchr(s->html, '/') : NULL, *ending = strrchr(slash ? slash : s->html, '.');
    size_t n = ending ? (size_t)(ending - s->html) : strlen(s->html);
    if (i > 1) snprintf(room, 4096, "%.*s-%zu%.64s", (int)(n < 4000 ? n : 4000), s->html, i, ending ? ending : "");
    return i > 1 ? room : s->html;
}

static int measure(const settings *s, const sd_compare_options *o, view *v)
{
    char error[512];
    int code = check_writable("floors", s->measure_floor);
    if (code) return code;
    sd_status status = sd_measure_floor((const char *const *)s->files.v, s->files.n, s->measure_floor, o,
                                        error);
    clear_bar(v);
    return status ? could_not(status, error) : CLI_OK;
}

int run_compare(settings *s, const char *argv0)
{
    sd_compare_options o;
    view v = {.s = s, .bar = !s->quiet && bar_wanted(), .picture = -1};
    int code = CLI_OK;
    char page[4096];
    (void)argv0;
    if (s->files.n < 2) return cli_error(CLI_USAGE, "give %s; see sd compare --help", compare_command.positional);
    sd_compare_options_init(&o);
    o.json = s->json;
    o.all = s->all;
    o.names = s->names;
    if (s->rtol >= 0) o.rtol = s->rtol;
    if (s->atol >= 0) o.atol = s->atol;
    o.floor = s->floor;
    o.injected = s->injected;
    o.columns = terminal_columns() > 120 ? 120 : terminal_columns();
    o.progress = show_reading;
    o.user = &v;
    if (s->measure_floor && (s->json || s->html || s->calls || s->all || s->injected))
        return cli_error(CLI_USAGE,
                         "--measure-floor goes without --json, --html, --calls, --injected and --all: it writes floors "
                         "alone");
    if (s->measure_floor) return measure(s, &o, &v);
    if (s->json) printf("{\"sd\":\"%s\",\"compared\":[", sd_version());
    if (s->calls) {
        o.calls = (const char *const *)s->files.v + 2;
        o.n_calls = (int)s->files.n - 2;
    }
    for (size_t i = 1; i < (s->calls ? 2 : s->files.n) && code < CLI_USAGE; i++) {
        if (i > 1) fputs(s->json ? "," : "\n", stdout);
        o.html = s->html ? page_of(s, i, page) : NULL;
        int this = compare_one(s, s->files.v[i], &o, &v);
        if (this > code) code = this;
    }
    if (s->json) printf("]}\n");
    return code;
}
