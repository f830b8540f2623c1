/* app_man.c - floor 7: the manual page sd.1, written from the tables of options, so that it cannot say anything
 * else. */
#include "app.h"

#include <stdio.h>
#include <string.h>

/* roff reads '\', a leading '.' or apostrophe, and '-' otherwise than they are meant. Line ends become blanks, for the
 * help's lines are as wide as a terminal. */
static void text(const char *s, size_t n, int keep_lines)
{
    for (size_t i = 0; i < n; i++) {
        int begins = i == 0 || (keep_lines && s[i - 1] == '\n');
        if (begins && (s[i] == '.' || s[i] == '\'')) fputs("\\&", stdout);
        if (s[i] == '\\') fputs("\\e", stdout);
        else if (s[i] == '-') fputs("\\-", stdout);
        else putchar(s[i] == '\n' && !keep_lines ? ' ' : s[i]);
    }
}

static void say(const char *s) { text(s, strlen(s), 0); }

static void option(const cli_option *o)
{
    if (o->kind == CLI_HEADING) {
        if (strcmp(o->help, "Options") != 0) printf(".SS %s\n", o->help);
        return;
    }
    printf(".TP\n");
    if (o->letter) printf("\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB", stdout);
    say("--");
    say(o->name);
    fputs("\\fR", stdout);
    if (o->value) {
        fputs(o->kind == CLI_WORD ? " [\\fI" : o->kind == CLI_MAYBE ? "[=\\fI" : " \\fI", stdout);
        say(o->value);
        fputs(o->kind == CLI_WORD || o->kind == CLI_MAYBE ? "\\fR]" : "\\fR", stdout);
    }
    putchar('\n');
    say(o->help);
    putchar('\n');
}

static void options(const cli_command *c)
{
    for (size_t i = 0; i < c->n_options; i++) option(&c->option[i]);
}

/* "usage: ..." as it stands, then what it says as a paragraph. */
static void usage(const cli_command *c)
{
    const char *end = strstr(c->usage, "\n\n"), *lines = c->usage + strlen("usage: ");
    size_t n = end ? (size_t)(end - lines) : strlen(lines);
    printf(".nf\n");
    for (const char *at = lines; at < lines + n;) {   /* the further lines are indented by as much as "usage: " takes */
        size_t m = strcspn(at, "\n"), skip = at == lines ? 0 : strspn(at, " ") < 7 ? strspn(at, " ") : 7;
        text(at + skip, m - skip, 1);
        putchar('\n');
        at += m + (at[m] == '\n');
    }
    printf(".fi\n");
    if (!end) return;
    printf(".PP\n");
    say(end + 2);
    putchar('\n');
}

static void other_programs(void)
{
    printf(".SH OPTIONS OF OTHER PROGRAMS\nThese are taken as what they are called here:\n");
    for (const cli_other_option *o = cli_other_options; o->name; o++) {
        if (o->kind != CLI_SAME) continue;
        printf(".br\n");
        say("--");
        say(o->name);
        printf(": ");
        say("--");
        say(o->value);
        putchar('\n');
    }
    printf(".PP\nThese are taken and change nothing:\n");
    for (const cli_other_option *o = cli_other_options; o->name; o++) {
        if (o->kind != CLI_NOTHING) continue;
        printf(".br\n");
        say("--");
        say(o->name);
        if (o->value) printf(" ");
        if (o->value) say(o->value);
        printf(": ");
        say(o->why);
        putchar('\n');
    }
    printf(".PP\nEach other option of stable\\-diffusion.cpp ends in \"not supported\" and what to use instead.\n");
}

static const char head[] =
    ".SH NAME\nsd \\- Stable Diffusion in C: draws pictures from text\n"
    ".SH SYNOPSIS\n.B sd\n\\fB\\-p\\fR \\fITEXT\\fR [\\fIoptions\\fR]\n.br\n.B sd\n\\fIcommand\\fR [\\fIoptions\\fR]\n"
    ".SH DESCRIPTION\nDraws the picture that a text describes, with a model of Stable Diffusion 1.x or 2.x in "
        "diffusers' layout or the "
    "small one that comes with the program, and writes every intermediate tensor if asked. Computes on the CPU.\n";

static const char tail[] =
    ".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\nfailure: disk, memory\n.TP\n.B 2\nbad usage or input\n.TP\n.B "
        "130\ninterrupted\n"
    ".PP\nAn error is one line on the standard error that says what was expected, what was found and where.\n"
    ".SH ENVIRONMENT\n"
    ".TP\n.B SD_MODEL\nthe default model\n"
    ".TP\n.B SD_DEVICE\nwhat computes if \\-\\-device does not say: cpu, opencl, opencl:1, opencl:nvidia\n"
    ".TP\n.B XDG_CACHE_HOME\nsd/ in it keeps what the drivers of devices have compiled (default: ~/.cache)\n"
    ".TP\n.B SD_ISA\nforces the kernels: scalar, sse2, avx2, avx512, neon\n"
    ".TP\n.B OMP_NUM_THREADS\nthreads where \\-t says nothing\n"
    ".TP\n.B OMP_WAIT_POLICY\npassive keeps threads from waiting in loops, and is what sd takes on Linux where "
        "nothing is set\n"
    ".TP\n.B NO_COLOR\\fR, \\fBTERM\\fR, \\fBCOLUMNS\nhow progress and previews are shown\n"
    ".SH EXAMPLES\n.nf\n"
    "sd \\-p \"a red apple on a blue background\"\n"
    "sd \\-m stable\\-diffusion\\-v1\\-5 \\-p \"a lighthouse\" \\-\\-sampling\\-method \"DPM++ 2M Karras\" \\-s 42 "
        "\\-o lighthouse.png\n"
    "sd \\-p \"a blue car\" \\-i car.png \\-\\-strength 0.3\n"
    "sd \\-\\-prompts prompts.txt \\-o pictures/\n"
    "sd \\-p \"a red apple\" \\-\\-trace t.safetensors \\-\\-trace\\-filter \"latents.*\"\n.fi\n"
    ".SH NOTES\nDebian and others have another program of this name, sd, which finds and replaces text (package sd). "
        "Where both are "
    "installed the first in PATH counts; this one can be installed elsewhere with make install PREFIX=... and called "
        "by its path.\n";

int man_page(void)
{
    printf(".\\\" Written by sd help --man from the program's tables: change those, then run make man.\n");
    printf(".TH SD 1 \"\" \"sd %s\" \"User Commands\"\n.nh\n%s", sd_version(), head);
    printf(".SH OPTIONS\n");
    options(&draw_command);
    printf(".SH COMMANDS\n.TP\n\\fBsd help\\fR [\\fICOMMAND\\fR]\nthe options of a command\n");
    printf(".TP\n\\fBsd version\\fR\nthe version and how it was built\n");
    for (const command *c = other_commands; c->line; c++) {
        printf(".SS sd %s\n", c->line->name);
        usage(c->line);
        options(c->line);
    }
    other_programs();
    fputs(tail, stdout);
    return CLI_OK;
}
