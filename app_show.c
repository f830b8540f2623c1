/* app_show.c - floor 7: sd show: what a file keeps: a picture its text, a file of tensors their statistics and
 * numbers. */
#include "app.h"
#include "os.h"

#include <stdio.h>

static const cli_option show_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options of tensors"},
    {CLI_TEXT, 0, "tensor", AT(text), 0, 0, "NAME",
     "the numbers of this one, or of a part of it:\n\"latents.0[0,:,4:8,-1]\""},
    {CLI_TEXT, 0, "filter", AT(trace_filter), 0, 0, "GLOBS", "only these: \"latents.*,step.0.unet.mid_block*\""},
    {CLI_FLAG, 0, "all", AT(all), 0, 0, NULL, "all numbers, not only the first and the last"},
    {CLI_FLAG, 0, "csv", AT(csv), 0, 0, NULL, "the table as CSV"},
    {CLI_FLAG, 0, "hash", AT(hash), 0, 0, NULL, "SHA-256 of each tensor's numbers, as sha256sum prints it"},
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "no progress"},
    HELP_OPTION,
};
const cli_command show_command = {
    "show",
    "usage: sd show PICTURE [--json]\n"
    "       sd show TENSORS [--filter GLOBS | --tensor NAME[PART]] [--hash | --csv | --json]\n\n"
    "Of a picture: prints the text that a PNG, JPEG or WebP of ours, of A1111's web UI or of stable-diffusion.cpp\n"
    "keeps, and the command that draws the picture again; what cannot be followed is named.\n"
    "Of a trace, any .safetensors, .npz, .npy, or a directory of these: mean, standard deviation, extremes and norm\n"
    "of each tensor, in the order of execution; or the numbers of one.\n",
    show_options, COUNT(show_options), "the file", AT(file), 0, NULL};

/* Pictures, and texts of theirs, are everything else. */
static int has_tensors(const settings *s)
{
    static const char *const endings[] = {".safetensors", ".npz", ".npy", ".gguf", ".pt", ".bin", ".ckpt"};
    for (size_t i = 0; i < COUNT(endings); i++)
        if (ends_with(s->file, endings[i])) return 1;
    return s->text || s->trace_filter || s->all || s->csv || s->hash || sd_os_look(s->file, NULL) == SD_OS_DIRECTORY;
}

static int show_tensors(const settings *s)
{
    char error[512], *text;
    view v = {.s = s, .bar = !s->quiet && bar_wanted(), .picture = -1};
    sd_show_options o;
    sd_show_options_init(&o);
    o.json = s->json;
    o.csv = s->csv;
    o.hash = s->hash;
    o.filter = s->trace_filter;
    o.tensor = s->text;
    o.all = s->all;
    o.progress = show_reading;
    o.user = &v;
    sd_status status = sd_show(s->file, &o, &text, error);
    clear_bar(&v);
    if (status) return cli_error(exit_code(status), "%s", error);
    fputs(text, stdout);
    sd_free(text);
    return CLI_OK;
}

int run_show(settings *s, const char *argv0)
{
    if (!s->file) return cli_error(CLI_USAGE, "which file? sd show FILE");
    if (s->json + s->csv + s->hash > 1) return cli_error(CLI_USAGE, "--json, --csv and --hash exclude each other");
    if (s->text && (s->trace_filter || s->csv || s->hash))
        return cli_error(CLI_USAGE, "--tensor prints numbers: --filter, --csv and --hash are of the table");
    return has_tensors(s) ? show_tensors(s) : show_text(s, argv0);
}
