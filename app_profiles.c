/* app_profiles.c - floor 7: sd profiles: what other programs do otherwise, as --like follows them. */
#include "app.h"
#include "sd_tools.h"

#include <stdio.h>
#include <string.h>

static const cli_option profiles_options[] = {
    {CLI_HEADING, 0, NULL, 0, 0, 0, NULL, "Options"},
    {CLI_FLAG, 0, "json", AT(json), 0, 0, NULL, "the same as JSON"},
    HELP_OPTION};

const cli_command profiles_command = {
    "profiles",
    "usage: sd profiles [PROGRAM] [--json]\n\n"
    "What --like sets: for each thing that programs do differently, what each of them does, how that was\n"
    "compared, and where it stands in its source. PROGRAM: only this one, for example a1111.\n",
    profiles_options, COUNT(profiles_options), "the program", AT(text), 0, NULL};

static const struct { char mark; const char *word, *means; } checks[] = {
    [SD_LIKE_RUN] = {'=', "run", "tests compare it with what that program's own code made"},
    [SD_LIKE_WRITTEN] = {'~', "written", "tests compare it with lines written after that program's source"},
    [SD_LIKE_READ] = {'?', "read", "read in its source, and not compared with the program"},
    [SD_LIKE_NOT_HERE] = {'-', "not here", "this program does not do it so"},
};

/* Which one is asked for; -1: all; -2: there is none of that name. */
static int find_program(const char *name)
{
    sd_like_info info;
    if (!name) return -1;
    for (int i = 0; sd_get_like(i, &info); i++)
        if (strcmp(name, info.key) == 0) return i;
    return -2;
}

static void print_text(int only)
{
    sd_like_info info;
    sd_like_row r;
    for (int i = 0; sd_get_like(i, &info); i++)
        if (only < 0 || i == only) printf("%-10s %s, %s\n", info.key, info.title, info.version);
    printf("\n");
    for (size_t i = 0; i < COUNT(checks); i++) printf("%c  %s\n", checks[i].mark, checks[i].means);
    for (int row = 0; sd_get_like_row(row, 0, &r); row++) {
        if (r.parameter) printf("\n%s (%s)\n", r.what, r.parameter);
        else printf("\n%s\n", r.what);
        for (int i = 0; sd_get_like(i, &info) && sd_get_like_row(row, i, &r); i++)
            if (only < 0 || i == only)
                printf("  %c %-10s %-52s %s\n", checks[r.check].mark, info.key, r.does, r.source);
    }
}

static void member(const char *key, const char *value, const char *after)
{
    printf("\"%s\":", key);
    if (value) cli_json_string(value);
    else printf("null");
    fputs(after, stdout);
}

static void print_json(int only)
{
    sd_like_info info;
    sd_like_row r;
    const char *comma = "";
    printf("{\"programs\":[");
    for (int i = 0; sd_get_like(i, &info); i++) {
        if (only >= 0 && i != only) continue;
        printf("%s{", comma);
        member("key", info.key, ",");
        member("title", info.title, ",");
        member("version", info.version, "}");
        comma = ",";
    }
    printf("],\"rows\":[");
    for (int row = 0; sd_get_like_row(row, 0, &r); row++) {
        printf("%s{", row ? "," : "");
        member("what", r.what, ",");
        member("parameter", r.parameter, ",\"by\":{");
        comma = "";
        for (int i = 0; sd_get_like(i, &info) && sd_get_like_row(row, i, &r); i++) {
            if (only >= 0 && i != only) continue;
            printf("%s\"%s\":{", comma, info.key);
            member("does", r.does, ",");
            member("sets", r.sets, ",");
            member("check", checks[r.check].word, ",");
            member("source", *r.source ? r.source : NULL, "}");
            comma = ",";
        }
        printf("}}");
    }
    printf("]}\n");
}

int run_profiles(settings *s, const char *argv0)
{
    int only = find_program(s->text);
    (void)argv0;
    if (only == -2)
        return cli_error(CLI_USAGE, "there is no profile \"%s\": sd profiles lists them", s->text);
    (s->json ? print_json : print_text)(only);
    return CLI_OK;
}
