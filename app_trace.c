/* app_trace.c - floor 7: sd trace: a run for the sake of its tensors: their names, what they are like, their hashes, or
 * all their numbers. */
#include "app.h"

#include <stdio.h>

static const cli_option trace_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "list", AT(list), 0, 0, NULL,
     "prints name, type, shape and bytes of each, in the order\nin which they are made; nothing is computed"},
    {CLI_FLAG, 0, "stats", AT(stats), 0, 0, NULL,
     "a row for each: mean, deviation, extremes, norm, NaN; to the\n"
     "standard output, or -o FILE.csv, FILE.json, FILE.txt"},
    {CLI_FLAG, 0, "hash-only", AT(hash), 0, 0, NULL,
     "the SHA-256 of each, as sha256sum prints it; to the standard\noutput, or -o FILE"},
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "FILE", "without these: all numbers, to FILE.safetensors"},
    {CLI_TEXT, 0, "filter", AT(trace_filter), 0, 0, "GLOBS", "only these: \"latents.*,step.0.unet.mid_block*\""},
    HELP_OPTION,
};
const cli_command trace_command = {
    "trace",
    "usage: sd trace --list [--filter GLOBS] [-m MODEL] [-W N] [-H N] [--steps N] [--sampling-method NAME] ...\n"
    "       sd trace -p TEXT --stats | --hash-only | -o FILE.safetensors [--filter GLOBS] [-m MODEL] ...\n\n"
    "Draws without writing the picture, and tells of the tensors that are made on the way. All options of drawing are\n"
    "taken: see sd --help. sd -p TEXT --trace, --trace-stats and --trace-hash do the same beside the picture.\n"
    "A glob that matches no tensor is an error.\n",
    trace_options, COUNT(trace_options), NULL, 0, 0, &draw_command};

/* ------------------------------------------------------------------------------------------ the list */

typedef struct listed { double bytes; long n; } listed;

static void list_tensor(void *user, const sd_traced *t)
{
    static const struct { const char *name; int size; } types[] = {[SD_F32] = {"F32", 4}, [SD_I64] = {"I64", 8}};
    listed *l = user;
    char shape[96] = "";
    double bytes = types[t->dtype].size;
    size_t used = 0;
    for (int i = 0; i < t->nd; i++) {
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%lld", i ? "," : "", (long long)t->dim[i]);
        bytes *= (double)t->dim[i];
    }
    printf("%-78s %s [%s] %.0f\n", t->name, types[t->dtype].name, shape, bytes);
    l->bytes += bytes;
    l->n++;
}

static int list(settings *s, const char *argv0)
{
    view v = {.s = s};
    inputs in = {0};
    listed l = {0, 0};
    s->device = "cpu";   /* nothing is computed */
    int code = read_prompts(s, in.prompt);
    if (!code) code = open_model(s, argv0, SD_PART_ALL, &v);
    if (!code) code = prepare(s, &in, &v);
    if (!code) {
        sd_status status = sd_trace_list(context, &s->p, s->trace_filter, list_tensor, &l);
        if (status) code = report(s, status);
        else printf("%ld tensors, %.0f bytes (%.1f MB)\n", l.n, l.bytes, l.bytes / 1e6);
    }
    inputs_free(&in);
    return code;
}

/* --------------------------------------------------------------------------------------- their numbers */

int run_trace(settings *s, const char *argv0)
{
    if (s->list + s->stats + s->hash > 1)
        return cli_error(CLI_USAGE, "--list, --stats and --hash-only exclude each other");
    if (s->list && s->output) return cli_error(CLI_USAGE, "--list goes to the standard output: -o is not taken");
    if (s->list) return list(s, argv0);
    const char **where = s->stats ? &s->trace_stats : s->hash ? &s->trace_hash : &s->trace;
    if (!s->output && !s->stats && !s->hash && !traces(s))
        return cli_error(CLI_USAGE, "what is to be told of the tensors? --list, --stats, --hash-only, or all their "
                         "numbers with -o FILE.safetensors");
    if (!s->output && (s->stats || s->hash)) {   /* of a table: as -o - */
        s->output = "-";
        int code = output_to_stdout(s);
        if (code) return code;
    }
    if (s->output && where == &s->trace && is_stream(s->output))
        return cli_error(CLI_USAGE, "a trace goes to a file, not to the standard output: -o FILE.safetensors");
    if (s->output && *where) return cli_error(CLI_USAGE, "%s and %s: give one", s->output, *where);
    if (s->output) *where = s->output;
    s->output = NULL;
    s->draws = 1;   /* main.c's run follows */
    return CLI_OK;
}
