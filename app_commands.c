/* app_commands.c - floor 7: sd tokenize, sd plan, sd samplers, sd schedule, and the table of all commands but
 * drawing. */
#include "app.h"
#include "app_samplers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option tokenize_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    EMA_OPTION,
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object"},
    {CLI_FLAG, 0, "ids", AT(ids), 0, 0, NULL, "the 77 padded ids in one line"},
    {CLI_TEXT, 0, "file", AT(file), 0, 0, "FILE",
     "with --ids: a line of ids for each line of FILE; -: of the\nstandard input"},
    HELP_OPTION,
};
static const cli_command tokenize_command = {
    "tokenize",
    "usage: sd tokenize TEXT|@FILE|- [--json | --ids]\n"
    "       sd tokenize --ids --file FILE\n\n"
    "Prints the ids that CLIP's tokenizer gives a text and the piece of text each stands for.\n",
    tokenize_options, COUNT(tokenize_options), "the text", AT(text), 0, NULL};

static const cli_option samplers_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object"},
    HELP_OPTION,
};
static const cli_command samplers_command = {
    "samplers",
    "usage: sd samplers [--json]\n\n"
    "Lists samplers, with their names in other programs, their papers and their order of accuracy; and schedules.\n",
    samplers_options, COUNT(samplers_options), NULL, 0, 0, NULL};

static cli_option schedule_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    PART_OPTIONS,
    EMA_OPTION,
    PARAM("steps"),
    PARAM("sampler"),
    PARAM("schedule"),
    PARAM("spacing"),
    PARAM("sigmas"),
    PARAM("timesteps"),
    PARAM("order"),
    PARAM("steps_offset"),
    PARAM("set_alpha_to_one"),
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "a JSON list with an object for each schedule"},
    {CLI_TEXT, 0, "plot", AT(plot), 0, 0, "FILE", "draws their noise levels: FILE.png or FILE.ppm"},
    HELP_OPTION,
};
static const cli_command schedule_command = {
    "schedule",
    "usage: sd schedule [-m DIR] [--sampling-method NAME] [--scheduler NAME[,NAME...]] [--steps N] [--json]\n"
    "                   [--plot FILE]\n\n"
    "Prints the evaluations of a run: timesteps, sigmas = sqrt((1-a)/a) and a = alphas_cumprod. Reads no weights.\n",
    schedule_options, COUNT(schedule_options), NULL, 0, 0, NULL};

static cli_option plan_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    MODEL_OPTION,
    {CLI_TEXT, 0, "config", AT(config), 0, 0, "NAME", "a family's name (sd15, sdxl, ...) or a UNet's config.json"},
    PARAM("width"),
    PARAM("height"),
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "one JSON object"},
    HELP_OPTION,
};
static const cli_command plan_command = {
    "plan",
    "usage: sd plan [-m DIR | --config NAME] [-W N] [-H N] [--json]\n\n"
    "Prints the UNet, the VAE and the text encoder step by step: shapes, parameters, operations and memory;\n"
    "and the algorithm that the cost model picks for each convolution. Reads no weights.\n",
    plan_options, COUNT(plan_options), NULL, 0, 0, NULL};

/* --------------------------------------------------------------------------------- sd tokenize */

/* 77 ids and a newline. By hand: there may be hundreds of thousands of lines. */
static void print_ids(const sd_tokens *t)
{
    char line[SD_TOKENS * 12], *p = line;
    for (int i = 0; i < SD_TOKENS; i++) {
        char digits[12];
        int n = 0;
        uint32_t id = (uint32_t)t->id[i];
        do digits[n++] = (char)('0' + id % 10);
        while (id /= 10);
        while (n) *p++ = digits[--n];
        *p++ = i + 1 < SD_TOKENS ? ' ' : '\n';
    }
    fwrite(line, 1, (size_t)(p - line), stdout);
}

enum { LINE_MAX_BYTES = 1 << 20 };

/* The next line without its end, which is \n, not \r or U+2028. 1; 0 at the end of the file; if it cannot be read or is
 * longer than a line may be, that is said, and the exit code comes with a minus. */
static int next_line(const settings *s, FILE *f, long number, char **line, size_t *n)
{
    static char room[LINE_MAX_BYTES + 1];
    int c = 0;
    for (*n = 0; *n <= LINE_MAX_BYTES && (c = getc(f)) != EOF && c != '\n';) room[(*n)++] = (char)c;
    *line = room;
    if (stopped()) return -CLI_INTERRUPTED;   /* a signal ends a read that waits */
    if (c == EOF && ferror(f)) return -cli_error(errno_code(errno), "cannot read %s: %s", s->file, strerror(errno));
    if (*n > LINE_MAX_BYTES)
        return -cli_error(CLI_USAGE, "%s:%ld is longer than the %d bytes a line may have", s->file, number,
                          LINE_MAX_BYTES);
    room[*n] = 0;
    return *n || c != EOF;
}

static int tokenize_file(const settings *s)
{
    FILE *f = strcmp(s->file, "-") == 0 ? stdin : fopen(s->file, "rb");
    char *line;
    size_t n;
    int code = CLI_OK, got = 1;
    if (!f) return cli_error(errno_code(errno), "cannot open %s: %s", s->file, strerror(errno));
    for (long number = 1; !code && (got = next_line(s, f, number, &line, &n)) > 0; number++) {
        sd_tokens t;
        sd_status status = SD_OK;
        if (strlen(line) != n) code = cli_error(CLI_USAGE, "%s:%ld has a NUL byte", s->file, number);
        else if ((status = sd_tokenize(context, line, &t)) != SD_OK)
            code = cli_error(exit_code(status), "%s:%ld: %s", s->file, number, sd_error_text(context));
        else print_ids(&t);
    }
    if (got < 0) code = -got;
    if (f != stdin) fclose(f);
    return code;
}

static void print_pieces(const settings *s, const sd_tokens *t)
{
    if (s->json) printf("{\"n\":%d,\"dropped\":%d,\"ids\":[", t->n, t->dropped);
    for (int i = 0; s->json && i < SD_TOKENS; i++) printf("%s%d", i ? "," : "", t->id[i]);
    if (s->json) printf("],\"pieces\":[");
    for (int i = 0; i < (s->json ? SD_TOKENS : t->n); i++) {
        const char *piece = sd_token_piece(context, t->id[i]);
        if (!piece) piece = "";
        if (!s->json) printf("%5d %s\n", t->id[i], piece);
        if (s->json && i) putchar(',');
        if (s->json) cli_json_string(piece);
    }
    if (s->json) printf("]}\n");
}

static int run_tokenize(settings *s, const char *argv0)
{
    view v = {.s = s};
    sd_tokens t;
    if (s->file && !s->ids) return cli_error(CLI_USAGE, "--file needs --ids");
    if (s->json && s->ids) return cli_error(CLI_USAGE, "--json and --ids are two forms of output: choose one");
    if (!s->file == !s->text)
        return cli_error(CLI_USAGE, "give one text, in quotes, or --ids --file FILE; see sd tokenize --help");
    const char *text = s->text;
    char *owned = NULL;
    int code = read_text(&text, &owned);
    if (!code) code = open_model(s, argv0, SD_PART_TOKENIZER, &v);
    if (!code && s->file) return tokenize_file(s);
    sd_status status = code ? SD_OK : sd_tokenize(context, text, &t);
    free(owned);
    if (code || status) return code ? code : report(s, status);
    if (s->ids) print_ids(&t);
    else print_pieces(s, &t);
    if (t.dropped) fprintf(stderr, "sd: warning: the text is too long: its last %d tokens are dropped\n", t.dropped);
    return CLI_OK;
}

/* ------------------------------------------------------------------------------------- sd plan */

static int run_plan(settings *s, const char *argv0)
{
    char model[PATH_SIZE], error[512], *text;
    if (s->model && s->config) return cli_error(CLI_USAGE, "-m and --config name two things to plan: choose one");
    const char *what = s->config ? s->config : s->model ? s->model : default_model(argv0, model);
    if (!what) return cli_error(CLI_USAGE, "the default model is not there: give -m DIR or --config NAME");
    sd_status status = sd_plan(what, s->p.width, s->p.height, s->json, &text, error);
    if (status) return cli_error(exit_code(status), "%s", error);
    fputs(text, stdout);
    sd_free(text);
    return CLI_OK;
}

/* ------------------------------------------------------------------- sd samplers, sd schedule */

static int run_samplers(settings *s, const char *argv0)
{
    (void)argv0;
    return show_samplers(s->json);
}

static int run_schedule(settings *s, const char *argv0)
{
    view v = {.s = s};
    const char *schedules = s->p.sampling.schedule;
    if (s->plot && !is_picture_name(s->plot))
        return cli_error(CLI_USAGE, "--plot must end in " ENDINGS ", not \"%s\"", s->plot);
    int code = open_model(s, argv0, SD_PART_SCHEDULE, &v);
    if (!code) code = show_schedules(context, &s->p, schedules, s->json, s->plot);
    return code;
}

/* --------------------------------------------------------------------------------- all of them */

const command other_commands[] = {
    {&encode_command, run_encode},
    {&decode_command, run_decode},
    {&roundtrip_command, run_roundtrip},
    {&text_command, run_text},
    {&unet_command, run_unet},
    {&step_command, run_step},
    {&convert_command, run_convert},
    {&show_command, run_show},
    {&inspect_command, run_inspect},
    {&compare_command, run_compare},
    {&selftest_command, run_selftest},
    {&diagnose_command, run_diagnose},
    {&wrong_command, run_wrong},
    {&extract_command, run_extract},
    {&replay_command, run_replay},
    {&devices_command, run_devices},
    {&tune_command, run_tune},
    {&tokenize_command, run_tokenize},
    {&plan_command, run_plan},
    {&samplers_command, run_samplers},
    {&schedule_command, run_schedule},
    {&profiles_command, run_profiles},
    {&trace_command, run_trace},
    {NULL, NULL},
};

void fill_command_options(void)
{
    expand_options(schedule_options, schedule_options, COUNT(schedule_options));
    expand_options(plan_options, plan_options, COUNT(plan_options));
    fill_unet_options();
    fill_step_options();
}
