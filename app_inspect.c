/* app_inspect.c - floor 7: sd inspect: what files of weights and model directories are. */
#include "app.h"

#include <stdio.h>
#include <string.h>

static const cli_option inspect_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "values", AT(values), 0, 0, NULL,
     "reads all numbers: NaN, infinite, subnormal, zero; least,\nmost, mean and standard deviation"},
    {CLI_MAYBE, 0, "tensors", AT(tensors), 0, 0, "GLOBS",
     "lists tensors: name, type, shape, bytes and where they are;\n"
     "--tensors=\"*attn2*,*.bias\": those with such names"},
    {CLI_FLAG, 0, "hash", AT(hash), 0, 0, NULL,
     "SHA-256 of each file, and the short forms by which other\nprograms know it; with --tensors, of each tensor"},
    {CLI_FLAG, 0, "metadata", AT(metadata), 0, 0, NULL, "all texts of the header, whole"},
    {CLI_FLAG, 0, "diff", AT(diff), 0, 0, NULL,
     "in which tensors two of them differ; exit code 0: in none,\n1: in some, 2: they could not be compared"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object, see docs/FILES.md"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "no progress"},
    HELP_OPTION,
};
const cli_command inspect_command = {
    "inspect",
    "usage: sd inspect FILE|DIR... [--values] [--tensors[=GLOBS]] [--hash] [--metadata] [--json]\n"
    "       sd inspect --diff A B [--json]\n\n"
    "Says what a file of weights or a model directory is and why; which networks are in it, in which types, and what\n"
    "they lack; what is odd; and the command that draws with it. Reads headers alone, unless more is asked for.\n",
    inspect_options, COUNT(inspect_options), "a file or directory", AT(files), 1, NULL};

int show_reading(void *user, const char *what, double done, double total)
{
    view *v = user;
    int percent = total > 0 ? (int)(100 * done / total) : 100;
    if (v->bar && percent != v->picture) {
        v->picture = percent;
        v->shown = 1;
        fprintf(stderr, "\r%s: %d %% of %.2f GB\033[K", what, percent, total / 1e9);
    }
    return interrupts != 0;
}

static void set_options(sd_inspect_options *o, const settings *s, view *v)
{
    sd_inspect_options_init(o);
    o->json = s->json;
    o->columns = terminal_columns();
    if (o->columns > 120) o->columns = 120;
    o->metadata = s->metadata;
    o->tensors = s->tensors;
    o->values = s->values;
    o->hash = s->hash;
    o->progress = show_reading;
    o->user = v;
}

static int run_diff(const settings *s, const sd_inspect_options *o, view *v)
{
    char error[512], *text;
    int different;
    if (s->files.n != 2) return cli_error(CLI_USAGE, "--diff compares two files or directories, not %zu", s->files.n);
    sd_status status = sd_inspect_diff(s->files.v[0], s->files.v[1], o, &text, &different, error);
    clear_bar(v);
    if (status) return could_not(status, error);
    printf("%s%s", text, s->json ? "\n" : "");
    sd_free(text);
    return different;
}

/* One after another. What cannot be read does not keep the others from being told; the exit code is the first's that
 * failed. */
static int inspect_all(const settings *s, const sd_inspect_options *o, view *v)
{
    int code = CLI_OK;
    if (s->json) printf("{\"sd\":\"%s\",\"inspected\":[", sd_version());
    for (size_t i = 0; i < s->files.n && code != CLI_INTERRUPTED; i++) {
        char error[512], *text;
        sd_status status = sd_inspect(s->files.v[i], o, &text, error);
        clear_bar(v);
        if (i) fputs(s->json ? "," : "\n", stdout);
        if (!status) fputs(text, stdout);
        else {
            int this = cli_error(exit_code(status), "%s", error);
            if (!code || this == CLI_INTERRUPTED) code = this;
        }
        if (status && s->json) {
            printf("{\"path\":");
            cli_json_string(s->files.v[i]);
            printf(",\"error\":");
            cli_json_string(error);
            putchar('}');
        }
        sd_free(text);
    }
    if (s->json) printf("]}\n");
    return code;
}

int run_inspect(settings *s, const char *argv0)
{
    sd_inspect_options o;
    view v = {.s = s, .bar = !s->quiet && bar_wanted(), .picture = -1};
    (void)argv0;
    set_options(&o, s, &v);
    if (s->files.n == 0) return cli_error(CLI_USAGE, "give %s; see sd inspect --help", inspect_command.positional);
    return s->diff ? run_diff(s, &o, &v) : inspect_all(s, &o, &v);
}
