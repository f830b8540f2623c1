/* app_cli.c - floor 7: parses a command line by a table, and prints the table as help. */
#include "app_cli.h"
#include "sd.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char place[300];   /* "prompts.txt:3: " before every message */

void cli_where(const char *file, int line)
{
    place[0] = 0;
    if (file) snprintf(place, sizeof place, "%.280s:%d: ", file, line);
}

int cli_error(int code, const char *fmt, ...)
{
    char text[1324];
    va_list ap;
    int n = snprintf(text, sizeof text, "%s", place);
    va_start(ap, fmt);
    vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)   /* arguments and file names may hold anything: one line stays one line */
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    fprintf(stderr, "sd: %s\n", text);
    return code;
}

void cli_json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 32) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

/* --------------------------------------------------------------------------------------- values */

/* The whole text must be a decimal number: "10x", "", " 1", "0x10" and "inf" are none. */
static int whole_number(const char *s, double *out)
{
    char *end;
    if (!*s || s[strspn(s, "0123456789+-.eE")]) return 0;
    *out = strtod(s, &end);
    return *end == 0 && isfinite(*out);
}

static int parse_seed(const char *s, cli_seed *out)
{
    if (strcmp(s, "-1") == 0) {   /* as in other programs: a random one */
        out->given = 0;
        return 1;
    }
    if (!*s || s[strspn(s, "0123456789")]) return 0;
    errno = 0;
    out->value = strtoull(s, NULL, 10);
    out->given = 1;
    return errno == 0;
}

static int parse_bool(const char *s, int *out)
{
    static const char *const words[][2] = {{"false", "true"}, {"0", "1"}, {"no", "yes"}, {"off", "on"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int v = 0; v < 2; v++)
            if (strcmp(s, words[i][v]) == 0) {
                *out = v;
                return 1;
            }
    return 0;
}

static int set_value(const cli_option *o, const char *value, void *settings)
{
    void *field = (char *)settings + o->target;
    double x = 0;
    char error[512];
    switch (o->kind) {
    case CLI_INT: case CLI_COUNT:
        if (!whole_number(value, &x) || x != floor(x) || x < o->least || x > o->most)
            return cli_error(CLI_USAGE, "--%s must be a whole number from %.0f to %.0f, not \"%s\"", o->name, o->least,
                             o->most, value);
        *(int *)field = o->kind == CLI_COUNT && x < 1 ? SD_DEFAULT : (int)x;
        break;
    case CLI_NUMBER:
        if (!whole_number(value, &x) || x < o->least || x > o->most) {
            if (isinf(o->most))
                return cli_error(CLI_USAGE, "--%s must be a number and at least %g, not \"%s\"", o->name, o->least,
                                 value);
            return cli_error(CLI_USAGE, "--%s must be a number from %g to %g, not \"%s\"", o->name, o->least, o->most,
                             value);
        }
        *(double *)field = x;
        break;
    case CLI_SEED:
        if (!parse_seed(value, field))
            return cli_error(CLI_USAGE,
                             "--%s must be a whole number from 0 to %llu, or -1 for a random one, not \"%s\"", o->name,
                             ULLONG_MAX, value);
        break;
    case CLI_BOOL:
        if (!parse_bool(value, field))
            return cli_error(CLI_USAGE, "--%s must be true or false, not \"%s\"", o->name, value);
        break;
    case CLI_SET:
        if (sd_params_set(field, o->name, value, error)) return cli_error(CLI_USAGE, "--%s", error);
        break;
    default:
        *(const char **)field = value;
    }
    return CLI_OK;
}

/* ---------------------------------------------------------------------------------------- names */

/* The i-th option of a command or of the one whose options it takes as well; NULL beyond the last. */
static const cli_option *option_at(const cli_command *c, size_t i)
{
    if (i < c->n_options) return &c->option[i];
    return c->also && i - c->n_options < c->also->n_options ? &c->also->option[i - c->n_options] : NULL;
}

/* name[0..n) is `own`; '_' is as good as '-'. */
static int is_name(const char *own, const char *name, size_t n)
{
    size_t i = 0;
    while (i < n && own[i] && (own[i] == name[i] || (own[i] == '-' && name[i] == '_'))) i++;
    return i == n && !own[n];
}

static const cli_option *find_name(const cli_command *c, const char *name, size_t n)
{
    const cli_option *o;
    for (size_t i = 0; (o = option_at(c, i)) != NULL; i++)
        if (o->name && is_name(o->name, name, n)) return o;
    return NULL;
}

static const cli_option *find_letter(const cli_command *c, char letter)
{
    const cli_option *o;
    for (size_t i = 0; (o = option_at(c, i)) != NULL; i++)
        if (o->letter == letter && letter) return o;
    return NULL;
}

enum { NAME_MAX_LENGTH = 31 };

/* Insertions, deletions, substitutions and swaps of neighbours that turn a[0..n) into b [Damerau 1964; Levenshtein
 * 1966]. d[i % 3][j]: of a's first i letters and b's first j. */
static size_t edit_distance(const char *a, size_t n, const char *b)
{
    size_t d[3][NAME_MAX_LENGTH + 1], m = strlen(b);
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            size_t best = i + j;
            if (i && j) best = d[(i - 1) % 3][j - 1] + (a[i - 1] != b[j - 1]);
            if (i && d[(i - 1) % 3][j] + 1 < best) best = d[(i - 1) % 3][j] + 1;
            if (j && d[i % 3][j - 1] + 1 < best) best = d[i % 3][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[(i - 2) % 3][j - 2] + 1 < best)
                best = d[(i - 2) % 3][j - 2] + 1;
            d[i % 3][j] = best;
        }
    return d[n % 3][m];
}

const char *cli_nearest(const char *typed, size_t n, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t least = n / 3 + 1;
    for (size_t i = 0; i < count && n <= NAME_MAX_LENGTH; i++) {
        size_t d = n > 1 && strncmp(names[i], typed, n) == 0 ? 0 : edit_distance(typed, n, names[i]);
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

/* "sd plan --help", for the end of a message */
static const char *see(const cli_command *c)
{
    static char text[64];
    snprintf(text, sizeof text, "see sd %s%s--help", c->name ? c->name : "", c->name ? " " : "");
    return text;
}

static int unknown(const cli_command *c, const char *typed, const char *name, size_t n)
{
    const char *names[MOST_OPTIONS], *near;
    size_t count = 0;
    const cli_option *o;
    for (size_t i = 0; (o = option_at(c, i)) != NULL && count < MOST_OPTIONS; i++)
        if (o->name) names[count++] = o->name;
    near = cli_nearest(name, n, names, count);
    int length = (int)strcspn(typed, "=");
    if (near) return cli_error(CLI_USAGE, "unknown option %.*s; did you mean --%s?", length, typed, near);
    return cli_error(CLI_USAGE, "unknown option %.*s; %s", length, typed, see(c));
}

/* -------------------------------------------------------------------------------------- parsing */

typedef struct arguments {
    int n, at;
    char **v;
    cli_given *given;   /* or NULL */
} arguments;

/* The place of a word in "a|b|c", from 1; 0: it is not there. */
static int place_in(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (int i = 1; *list; i++) {
        size_t m = strcspn(list, "|");
        if (n == m && strncmp(list, word, n) == 0) return i;
        list += list[m] ? m + 1 : m;
    }
    return 0;
}

static void note_given(const cli_command *c, const cli_option *o, cli_given *given)
{
    for (size_t i = 0; option_at(c, i) && given && i < MOST_OPTIONS; i++)
        if (option_at(c, i) == o) given->option[i] = 1;
}

int cli_is_given(const cli_command *c, const cli_given *given, const char *name)
{
    for (size_t i = 0; option_at(c, i) && i < MOST_OPTIONS; i++)
        if (given->option[i] && is_name(option_at(c, i)->name, name, strlen(name))) return 1;
    return 0;
}

/* `attached` is the value in the same argument (--name=value, -nvalue), or NULL. */
static int take(const cli_command *c, const cli_option *o, const char *attached, arguments *a, void *settings)
{
    const char *typed = a->v[a->at];
    int *field = (int *)(void *)((char *)settings + o->target);
    note_given(c, o, a->given);
    if (o->kind == CLI_FLAG) {
        if (attached) return cli_error(CLI_USAGE, "--%s takes no value", o->name);
        *field = 1;
        return CLI_OK;
    }
    if (o->kind == CLI_MAYBE) {
        *(const char **)(void *)((char *)settings + o->target) = attached ? attached : "*";
        return CLI_OK;
    }
    if (o->kind == CLI_WORD) {
        const char *next = attached ? attached : a->at + 1 < a->n ? a->v[a->at + 1] : "";
        int given = place_in(o->value, next);
        if (attached && !given)
            return cli_error(CLI_USAGE, "--%s can be followed by %s, not by \"%s\"", o->name, o->value, attached);
        if (given && !attached) a->at++;
        *field = 1 + given;
        return CLI_OK;
    }
    if (!attached && a->at + 1 >= a->n) return cli_error(CLI_USAGE, "%s needs a value: %s", typed, o->value);
    const char *value = attached ? attached : a->v[++a->at];
    if (!*value && o->kind == CLI_TEXT && strcmp(o->value, "TEXT") != 0)
        return cli_error(CLI_USAGE, "--%s needs a value, %s, and \"\" is none", o->name, o->value);
    return set_value(o, value, settings);
}

/* ---- options of other programs */

enum { MOST_NOTICES = 16 };
static const cli_other_option *noticed[MOST_NOTICES];
static int n_noticed;

void cli_notices(void)
{
    for (int i = 0; i < n_noticed; i++)
        fprintf(stderr, "sd: --%s changes nothing: %s\n", noticed[i]->name, noticed[i]->why);
    n_noticed = 0;
}

static const cli_other_option *find_other(const char *name, size_t n, char letter)
{
    for (const cli_other_option *f = cli_other_options; f->name; f++) {
        size_t m = strlen(f->name);
        int open = f->name[m - 1] == '*';
        if (letter ? letter == f->letter : open ? n >= m - 1 && strncmp(f->name, name, m - 1) == 0
                                                : is_name(f->name, name, n))
            return f;
    }
    return NULL;
}

/* An option that the command has not: another program's, or a mistake. */
static int take_other(const cli_command *c, const char *name, size_t n, char letter, const char *attached, arguments *a,
                      void *settings)
{
    const char *typed = a->v[a->at];
    const cli_other_option *f = find_other(name, n, letter);
    const cli_option *same = f && f->kind == CLI_SAME ? find_name(c, f->value, strlen(f->value)) : NULL;
    if (same) return take(c, same, attached, a, settings);
    if (!f || f->kind == CLI_SAME) return unknown(c, typed, name, n);
    int words = f->kind == CLI_NOTHING && f->value;
    const char *value = attached;
    if (words && !attached && a->at + 1 >= a->n) return cli_error(CLI_USAGE, "%s needs a value", typed);
    if (words && !attached) value = a->v[++a->at];
    if (f->kind == CLI_NOTHING && (words ? place_in(f->value, value) : !attached)) {
        int known = 0;   /* a command line may be read twice */
        for (int i = 0; i < n_noticed; i++) known |= noticed[i] == f;
        if (!known && n_noticed < MOST_NOTICES) noticed[n_noticed++] = f;
        return CLI_OK;
    }
    int length = attached && !letter ? (int)(attached - typed - 1) : (int)strlen(typed);
    return cli_error(CLI_USAGE, "%.*s%s%s is not supported: %s", length, typed, words ? " " : "", words ? value : "",
                     f->why);
}

static int take_long(const cli_command *c, arguments *a, void *settings)
{
    const char *typed = a->v[a->at], *name = typed + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const cli_option *o = n ? find_name(c, name, n) : NULL;
    const char *attached = equals ? equals + 1 : NULL;
    return o ? take(c, o, attached, a, settings) : take_other(c, name, n, 0, attached, a, settings);
}

/* -q, -qv, -s 42, -s42. A long name behind one dash would read as a letter with a value: refused. */
static int take_short(const cli_command *c, arguments *a, void *settings)
{
    const char *typed = a->v[a->at];
    size_t length = strlen(typed + 1);
    if (length > 1 && find_name(c, typed + 1, length)) return unknown(c, typed, typed + 1, length);
    for (const char *p = typed + 1; *p; p++) {
        const cli_option *o = find_letter(c, *p);
        if (!o) return take_other(c, typed + 1, length, *p, p[1] ? p + 1 : NULL, a, settings);
        int flag = o->kind == CLI_FLAG;
        int code = take(c, o, !flag && p[1] ? p + 1 : NULL, a, settings);
        if (code || !flag) return code;
    }
    return CLI_OK;
}

static int take_positional(const cli_command *c, char *value, arguments *a, void *settings)
{
    if (!c->positional && !c->name)
        return cli_error(CLI_USAGE, "unexpected argument \"%s\": a prompt goes after -p and in quotes; %s", value,
                         see(c));
    if (!c->positional)
        return cli_error(CLI_USAGE, "unexpected argument \"%s\": sd %s takes options alone; %s", value, c->name,
                         see(c));
    if (!*value && !strstr(c->positional, "text"))
        return cli_error(CLI_USAGE, "an argument is empty: give %s", c->positional);
    if (c->several) {   /* they are moved to the front of argv, which has been read so far */
        cli_list *list = (cli_list *)(void *)((char *)settings + c->positional_target);
        list->v = a->v;
        list->v[list->n++] = value;
        return CLI_OK;
    }
    const char **field = (const char **)(void *)((char *)settings + c->positional_target);
    if (*field)
        return cli_error(CLI_USAGE, "unexpected argument \"%s\": %s is already \"%s\"; put it in quotes", value,
                         c->positional, *field);
    *field = value;
    return CLI_OK;
}

int cli_parse(const cli_command *c, int argc, char **argv, void *settings, cli_given *given)
{
    arguments a = {argc, 0, argv, given};
    int code = CLI_OK, options = 1;
    for (; a.at < a.n && !code; a.at++) {
        char *s = a.v[a.at];
        if (options && strcmp(s, "--") == 0) options = 0;
        else if (options && s[0] == '-' && s[1] == '-') code = take_long(c, &a, settings);
        else if (options && s[0] == '-' && s[1]) code = take_short(c, &a, settings);
        else code = take_positional(c, s, &a, settings);
    }
    return code;
}

/* ----------------------------------------------------------------------------------------- help */

void cli_help(const cli_command *c)
{
    enum { COLUMN = 34 };
    fputs(c->usage, stdout);
    for (size_t i = 0; i < c->n_options; i++) {
        const cli_option *o = &c->option[i];
        if (o->kind == CLI_HEADING) {
            printf("\n%s\n", o->help);
            continue;
        }
        char left[64], letter[8] = "    ";
        if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
        const char *value = o->value ? o->value : "";
        const char *open = o->kind == CLI_WORD ? " [" : o->kind == CLI_MAYBE ? "[=" : o->value ? " " : "";
        snprintf(left, sizeof left, "  %s--%s%s%s%s", letter, o->name, open, value, strchr(open, '[') ? "]" : "");
        printf("%-*s", COLUMN, left);
        for (const char *h = o->help; *h; h++) {
            putchar(*h);
            if (*h == '\n') printf("%*s", COLUMN, "");
        }
        putchar('\n');
    }
}
