/* app_case.c - floor 7: sd extract and sd replay: one module of a run in a file of its own. */
#include "app.h"

#include <stdio.h>

static const cli_option extract_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_TEXT, 0, "module", AT(module), 0, 0, "NAME",
     "the name of its result in a trace:\nstep.0.unet.down_blocks.0.resnets.0.norm1"},
    {CLI_TEXT, 0, "trace", AT(inject), 0, 0, "T", "the other program's trace, which has its inputs and its result"},
    {CLI_TEXT, 0, "inject-names", AT(names), 0, 0, "FILE", "names of T and what they are here, a pair in each line"},
    {CLI_TEXT, 'o', "output", AT(output), 0, 0, "FILE", "the case (default case.safetensors)"},
    HELP_OPTION,
};
const cli_command extract_command = {
    "extract",
    "usage: sd extract --module NAME --trace T [-o case.safetensors] [-m MODEL] -p TEXT ...\n\n"
    "Writes a minimal case: the module's weights, its inputs as T has them, what it makes of them here and what T\n"
    "has. The options of drawing are taken, see sd --help: those of the run that T is of. sd replay computes it.\n",
    extract_options, COUNT(extract_options), NULL, 0, 0, &draw_command};

static const cli_option replay_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    HELP_OPTION,
};
const cli_command replay_command = {
    "replay",
    "usage: sd replay CASE...\n\n"
    "Computes cases of sd extract again, each from its file alone, and says how far the other program's result is\n"
    "away. Exit code 0: no further than float32's own errors reach, 1: further, 2: it could not be computed.\n",
    replay_options, COUNT(replay_options), "a case", AT(files), 1, NULL};

int run_extract(settings *s, const char *argv0)
{
    view v = {.s = s, .bar = !s->quiet && bar_wanted()};
    inputs in = {0};
    sd_inject_options o;
    sd_inject_options_init(&o);
    o.names = s->names;
    if (!s->module || !s->inject)
        return cli_error(CLI_USAGE, "give --module NAME and --trace T; see sd extract --help");
    if (!s->output) s->output = "case.safetensors";
    if (!is_latents_name(s->output))
        return cli_error(CLI_USAGE, "a case is a safetensors file: its name must end in .safetensors, not \"%s\"",
                         s->output);
    int code = check_writable("case", s->output);
    if (!code) code = read_prompts(s, in.prompt);
    if (!code) code = open_model(s, argv0, SD_PART_ALL, &v);
    if (!code) code = prepare(s, &in, &v);
    s->p.seed = s->seed.value;
    sd_status status = code ? SD_OK : sd_extract(context, &s->p, s->inject, s->module, s->output, &o);
    clear_bar(&v);
    if (status) code = report(s, status);
    else if (!code && !s->quiet) printf("%s\n", s->output);
    inputs_free(&in);
    return code;
}

int run_replay(settings *s, const char *argv0)
{
    int code = CLI_OK;
    (void)argv0;
    if (!s->files.n) return cli_error(CLI_USAGE, "give %s; see sd replay --help", replay_command.positional);
    for (size_t i = 0; i < s->files.n && code < CLI_USAGE; i++) {
        char error[512], *text;
        int different;
        sd_status status = sd_replay(s->files.v[i], &text, &different, error);
        if (status) return could_not(status, error);
        fputs(text, stdout);
        sd_free(text);
        if (different) code = 1;
    }
    return code;
}
