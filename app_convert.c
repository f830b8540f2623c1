/* app_convert.c - floor 7: sd convert: a model in other files, under other names, in other types. */
#include "app.h"
#include "os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option convert_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    PART_OPTIONS,
    {CLI_TEXT, 0, "type", AT(type), 0, 0, "TYPE",
     "keep (default), F32, F16, BF16, F64, F8_E4M3, F8_E5M2, or\n"
     "Q8_0 for GGUF; under these three vectors and embeddings\nkeep theirs"},
    {CLI_TEXT, 0, "only", AT(only), 0, 0, "PART", "unet, vae, text_encoder or text_encoder_2 alone"},
    {CLI_TEXT, 0, "spelling", AT(spelling), 0, 0, "WHOSE",
     "names of tensors in a file: ldm (default), or diffusers,\nfor one part"},
    {CLI_TEXT, 0, "shards", AT(shards), 0, 0, "SIZE", "of a directory: files of at most SIZE: 500MB, 5GB, 2GiB"},
    {CLI_FLAG, 0, "ema", AT(ema), 0, 0, NULL, "the average over training (model_ema.*) as the UNet"},
    {CLI_FLAG, 0, "keep-all", AT(keep_all), 0, 0, NULL,
     "also tensors that no network needs, position_ids and the\nlike, where the output has a name for them"},
    {CLI_FLAG, 'q', "quiet", AT(quiet), 0, 0, NULL, "only errors"},
    {CLI_FLAG, 'v', "verbose", AT(verbose), 0, 0, NULL, "everything that was decided"},
    HELP_OPTION,
};
const cli_command convert_command = {
    "convert",
    "usage: sd convert IN OUT [--type TYPE] [--only PART] [--ema] ...\n\n"
    "Writes the model IN into OUT: a single file if that is named FILE.safetensors or FILE.gguf, else a new directory\n"
    "in diffusers' layout.\n",
    convert_options, COUNT(convert_options), "a model and an output", AT(files), 1, NULL};

/* "500MB" -> 5e8. Exit code. */
static int read_size(const char *text, uint64_t *bytes)
{
    static const struct { const char *name; double bytes; } units[] = {
        {"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
        {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0},
    };
    size_t n = strspn(text, "0123456789");
    double number = atof(n && n < 16 ? text : "0");
    for (size_t i = 0; i < COUNT(units) && number > 0; i++) {
        if (strcmp(text + n, units[i].name) != 0 || number * units[i].bytes > 1e18) continue;
        *bytes = (uint64_t)(number * units[i].bytes);
        return CLI_OK;
    }
    return cli_error(CLI_USAGE, "--shards must be a size such as 500MB, 5GB or 2GiB, not \"%s\"", text);
}

/* The part of sd.h that a word means; 0: none. */
static unsigned part_of(const char *word)
{
    static const struct { const char *name; unsigned part; } parts[] = {
        {"unet", SD_PART_UNET}, {"vae", SD_PART_VAE}, {"text_encoder", SD_PART_TEXT},
        {"text_encoder_2", SD_PART_TEXT}};
    for (size_t i = 0; i < COUNT(parts); i++)
        if (strcmp(word, parts[i].name) == 0) return parts[i].part;
    return 0;
}

int run_convert(settings *s, const char *argv0)
{
    view v = {.s = s, .bar = !s->quiet && bar_wanted()};
    sd_convert_options o;
    sd_convert_options_init(&o);
    if (s->files.n != 2) return cli_error(CLI_USAGE, "give %s; see --help", convert_command.positional);
    if (s->only && !part_of(s->only))
        return cli_error(CLI_USAGE, "--only must be unet, vae, text_encoder or text_encoder_2, not \"%s\"", s->only);
    int code = s->shards ? read_size(s->shards, &o.shard_bytes) : CLI_OK;
    s->model = s->files.v[0];
    settings plain = *s;   /* --ema is the conversion's own: it can keep both the weights and their averages */
    plain.ema = 0;
    plain.device = "cpu";   /* nothing is computed */
    if (!code) code = open_model(&plain, argv0, s->only ? part_of(s->only) : SD_PART_ALL, &v);
    if (code) return code;
    o.output = s->files.v[1];
    o.type = s->type;
    o.spelling = s->spelling;
    o.only = s->only;
    o.ema = s->ema;
    o.keep_all = s->keep_all;
    sd_set_progress(context, show_progress, &v);
    sd_status status = sd_convert(context, &o);
    clear_bar(&v);
    if (status) return report(s, status);
    if (!s->quiet) printf("%s\n", o.output);
    return stopped();
}
