/* app_cli.h - floor 7: command lines as tables. A table of options is parsed, checked and printed as help from the same
 * rows. */
#ifndef SD_APP_CLI_H
#define SD_APP_CLI_H

#include <stddef.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILURE = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };   /* exit codes */

typedef enum cli_kind {
    CLI_HEADING,   /* no option: a line of the help */
    CLI_FLAG,      /* int, set to 1 */
    CLI_WORD,      /* int, set to 1, or to 2, 3, ... if the next argument is one of `value`, "a|b": --timings [json] */
    CLI_MAYBE,     /* const char *: what stands behind '=' in the same argument; "*" without: --tensors[=GLOBS] */
    CLI_BOOL,      /* int, set to 1 for true and 0 for false */
    CLI_INT,       /* int within least..most */
    CLI_COUNT,     /* the same; SD_DEFAULT for what is below 1 */
    CLI_NUMBER,    /* double within least..most */
    CLI_SEED,      /* cli_seed */
    CLI_TEXT,      /* const char * */
    CLI_SET,       /* sd_params, whose parameter of that name is set */
    CLI_PARAM, CLI_PARAMS   /* replaced by other rows, see expand_options */
} cli_kind;

typedef struct cli_seed {
    int given;
    uint64_t value;
} cli_seed;

typedef struct cli_list {
    size_t n;
    char **v;
} cli_list;

enum { MOST_OPTIONS = 128 };   /* of a command */

typedef struct cli_option {
    cli_kind kind;
    char letter;             /* 0: only the long name */
    const char *name;
    size_t target;           /* offset of the field in the settings */
    double least, most;
    const char *value;       /* how the help calls the value */
    const char *help;        /* lines after the first are put under it */
} cli_option;

/* An option of another program. app_other_options.c has the table, which ends with a NULL name. */
typedef struct cli_other_option {
    char letter;
    const char *name;        /* with a '*' at the end: every name that begins so */
    enum { CLI_SAME, CLI_NOTHING, CLI_REFUSED } kind;
    const char *value;       /* CLI_SAME: our option. CLI_NOTHING: the values that change nothing, "a|b"; NULL: a
                              * flag */
    const char *why;
} cli_other_option;
extern const cli_other_option cli_other_options[];

typedef struct cli_command {
    const char *name;        /* "plan"; NULL: what the program does without a command */
    const char *usage;       /* printed above the options */
    const cli_option *option;
    size_t n_options;
    const char *positional;  /* the one argument that is no option, for messages; NULL: there is none */
    size_t positional_target;
    int several;             /* 1: any number of them; the target is a cli_list */
    const struct cli_command *also;   /* its options are taken too, and not shown by the help; NULL: none */
} cli_command;

/* Which of a command's options a command line has. */
typedef struct cli_given { unsigned char option[MOST_OPTIONS]; } cli_given;

/* Writes the fields of `settings`. given: may be NULL. CLI_OK, or CLI_USAGE after saying what is wrong. */
int cli_parse(const cli_command *c, int argc, char **argv, void *settings, cli_given *given);
/* name: of an option of the command. */
int cli_is_given(const cli_command *c, const cli_given *given, const char *name);
/* The name that typed[0..n) begins, or that takes the fewest changes (at most a third of what was typed); NULL if none
 * is near. */
const char *cli_nearest(const char *typed, size_t n, const char *const *names, size_t count);
/* Tells of the options that were taken though they change nothing here. */
void cli_notices(void);
void cli_help(const cli_command *c);

/* One line "sd: ..." on stderr. Returns `code`. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int cli_error(int code, const char *fmt, ...);

/* From now on messages begin with this place, "file:line: "; NULL: no longer. */
void cli_where(const char *file, int line);

/* Text as a JSON string, quotes included. */
void cli_json_string(const char *s);

#endif
