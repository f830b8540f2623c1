/* app_diagnose.c - floor 7: sd wrong and sd diagnose: known mistakes, and which of them a foreign trace shows. */
#include "app.h"

#include <stdio.h>

static const cli_option wrong_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "a JSON list with an object for each"},
    HELP_OPTION,
};
const cli_command wrong_command = {
    "wrong",
    "usage: sd wrong [--json]\n\n"
    "Lists what implementations of Stable Diffusion get wrong: what, what is right and where that stands, how it\n"
    "shows. sd diagnose makes each of these mistakes on purpose.\n",
    wrong_options, COUNT(wrong_options), NULL, 0, 0, NULL};

static const cli_option diagnose_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "all", AT(all), 0, 0, NULL, "lists every tensor with its error on their own inputs"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object, see docs/VALIDATING.md"},
    HELP_OPTION,
};
const cli_command diagnose_command = {
    "diagnose",
    "usage: sd diagnose THEIRS -m MODEL -p TEXT [-n TEXT] [-s N] [--steps N] [-W N] [-H N] ... [--json]\n\n"
    "Names the mistake in another implementation from a trace of it, THEIRS. The options are those of drawing, which\n"
    "say what was to be drawn: see sd --help. Our run goes on with their numbers after each tensor that they have.\n"
    "Where one diverges, known mistakes are made on purpose, and the one is named that explains the difference: see\n"
    "sd wrong.\n"
    "Settings of theirs that are others are said first, and our run takes them over.\n"
    "Exit code 0: nothing diverges, 1: something does or has other settings, 2: they could not be compared.\n",
    diagnose_options, COUNT(diagnose_options), "their trace", AT(file), 0, &draw_command};

static void print_json(int first, const sd_mistake_info *m)
{
    const struct { const char *key, *value; } text[] = {
        {"what", m->what}, {"source", m->source}, {"signature", m->signature}, {"where", m->where}};
    printf("%s{\"id\":", first ? "" : ",\n");
    cli_json_string(m->id);
    printf(",\"trap\":%d", m->trap);
    for (size_t i = 0; i < COUNT(text); i++) {
        printf(",\"%s\":", text[i].key);
        cli_json_string(text[i].value);
    }
    printf("}");
}

int run_wrong(settings *s, const char *argv0)
{
    sd_mistake_info m;
    (void)argv0;
    if (s->json) putchar('[');
    for (int i = 0; sd_get_mistake(i, &m); i++) {
        if (s->json) {
            print_json(i == 0, &m);
            continue;
        }
        printf("%s\n    %s", m.id, m.what);
        if (m.trap) printf(" (trap %d)", m.trap);
        printf("\n    right: %s\n    shows: %s\n", m.source, m.signature);
    }
    if (s->json) printf("]\n");
    return CLI_OK;
}

int run_diagnose(settings *s, const char *argv0)
{
    view v = {.s = s};
    inputs in = {0};
    sd_diagnose_options o;
    char *text = NULL;
    int found = 0;
    if (!s->file) return cli_error(CLI_USAGE, "give %s; see sd diagnose --help", diagnose_command.positional);
    s->device = "cpu";
    s->p.seed = s->seed.given ? s->seed.value : 0;
    int code = read_prompts(s, in.prompt);
    if (!code) code = open_model(s, argv0, SD_PART_ALL, &v);
    if (!code) code = prepare(s, &in, &v);
    if (!code) {
        sd_diagnose_options_init(&o);
        o.json = s->json;
        o.all = s->all;
        o.columns = terminal_columns() > 120 ? 120 : terminal_columns();
        sd_status status = sd_diagnose(context, &s->p, s->file, &o, &text, &found);
        if (status) code = report(s, status);
        else fputs(text, stdout);
    }
    sd_free(text);
    inputs_free(&in);
    if (code == CLI_FAILURE) return CLI_USAGE;   /* 1 is what says that something diverges */
    return code ? code : found;
}
