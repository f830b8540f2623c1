/* app_complete.c - floor 7: completions for bash, zsh and fish, written from the tables of options. */
#include "app.h"

#include <stdio.h>
#include <string.h>

/* The possible values of options that are the program's own. Those of parameters are in the library's table. */
static const struct { const char *option, *words; } choices[] = {
    {"residency", "map stream ram"}, {"gemm", "own openblas"}, {"device", "cpu opencl"},
    {"config", "sd15 sd15-inpaint instruct-pix2pix lcm small-sd bk-sdm-small tiny-sd sd21 sd21-base sd21-inpaint "
               "sd2-depth sd-turbo x4-upscaler sdxl sdxl-inpaint sdxl-turbo sdxl-lightning ssd-1b vega sdxl-refiner"},
};

static void add(char *out, size_t size, const char *word)
{
    size_t n = strlen(out);
    if (n + strlen(word) + 2 <= size) snprintf(out + n, size - n, "%s%s", n ? " " : "", word);
}

/* Blanks between them; "" if any value will do. */
static void words_of(const cli_option *o, char *out, size_t size)
{
    sd_sampler_info s;
    sd_param_info r;
    out[0] = 0;
    if (o->kind == CLI_BOOL) add(out, size, "true false");
    if (o->kind == CLI_WORD) add(out, size, o->value);
    for (char *c = out; *c; c++)
        if (*c == '|') *c = ' ';
    if (!o->name) return;
    for (size_t i = 0; i < COUNT(choices); i++)
        if (strcmp(o->name, choices[i].option) == 0) add(out, size, choices[i].words);
    for (int i = 0; sd_get_param(i, &r); i++)
        if (strcmp(o->name, r.option) == 0 && r.words) add(out, size, r.words);
    if (strcmp(o->name, "sampling-method") == 0)
        for (int i = 0; sd_get_sampler(i, &s); i++) add(out, size, s.name);
    if (strcmp(o->name, "scheduler") == 0) {
        for (int i = 0; sd_schedule_name(i); i++) add(out, size, sd_schedule_name(i));
        add(out, size, "leading trailing linspace");
    }
}

enum { WORDS = 2048 };

static int takes_value(const cli_option *o)
{
    return o->kind != CLI_FLAG && o->kind != CLI_WORD && o->kind != CLI_MAYBE && o->kind != CLI_HEADING;
}

static int is_directory_option(const cli_option *o) { return o->value && strcmp(o->value, "DIR") == 0; }

static int is_file_option(const cli_option *o)
{
    return o->value && (strncmp(o->value, "FILE", 4) == 0 || strcmp(o->value, "PATH") == 0);
}

/* All commands: drawing is the 0th, with the name "". NULL beyond the last. */
static const cli_command *command_at(int i) { return i == 0 ? &draw_command : other_commands[i - 1].line; }

static void command_names(const char *between)
{
    printf("help%sversion", between);
    for (int i = 1; command_at(i); i++) printf("%s%s", between, command_at(i)->name);
}

/* The i-th option of a command, those that it takes from another command included; NULL beyond the last. */
static const cli_option *option_of(const cli_command *c, size_t i)
{
    if (i < c->n_options) return &c->option[i];
    return c->also && i - c->n_options < c->also->n_options ? &c->also->option[i - c->n_options] : NULL;
}

/* The first line of the help, up to `n` characters. Those that would end a quoted text, or that mean something to zsh,
 * are replaced. */
static void brief(const char *help, size_t n)
{
    static const char from[] = "'\"[]:\\`$";
    static const char *const to[] = {"\xE2\x80\x99", "", "(", ")", ",", "", "", ""};
    for (; *help && *help != '\n' && n; help++, n--) {
        const char *special = strchr(from, *help);
        if (special) fputs(to[special - from], stdout);
        else putchar(*help);
    }
}

/* ---------------------------------------------------------------------------------------- bash */

static void bash_values(const cli_command *c)
{
    const cli_option *o;
    char words[WORDS];
    for (size_t i = 0; (o = option_of(c, i)) != NULL; i++) {
        words_of(o, words, sizeof words);
        if (o->kind == CLI_HEADING || (!takes_value(o) && !*words)) continue;
        printf("        ");
        if (o->letter) printf("-%c|", o->letter);
        printf("--%s) ", o->name);
        if (*words)
            printf("COMPREPLY=($(compgen -W \"%s\" -- \"$cur\"))%s ;;\n", words, takes_value(o) ? "; return" : "");
        else if (is_directory_option(o)) printf("COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n");
        else if (is_file_option(o)) printf("COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
        else printf("return ;;\n");
    }
}

static void bash(void)
{
    const cli_option *o;
    printf("# bash completion for sd, written by sd help --completion bash\n_sd()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= options\n    "
               "COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -gt 1 ]; then\n        case ${COMP_WORDS[1]} in\n        ");
    command_names("|");
    printf(") command=${COMP_WORDS[1]} ;;\n        esac\n    fi\n    case $command in\n");
    for (int i = 1; command_at(i); i++) {
        printf("    %s)\n        case $prev in\n", command_at(i)->name);
        bash_values(command_at(i));
        printf("        esac\n        options=\"");
        for (size_t k = 0; (o = option_of(command_at(i), k)) != NULL; k++)
            if (o->name) printf("--%s ", o->name);
        printf("\" ;;\n");
    }
    printf("    help) options=\"");
    for (int i = 1; command_at(i); i++) printf("%s ", command_at(i)->name);
    printf("\" ;;\n    version) return ;;\n    *)\n        case $prev in\n");
    bash_values(&draw_command);
    printf("        esac\n        options=\"");
    for (size_t k = 0; (o = option_of(&draw_command, k)) != NULL; k++)
        if (o->name) printf("--%s ", o->name);
    printf("\"\n        [ \"$COMP_CWORD\" -gt 1 ] || options=\"");
    command_names(" ");
    printf(" $options\" ;;\n    esac\n"
           "    [ -n \"$command\" ] && [ \"$command\" != help ] && [ \"${cur#-}\" = \"$cur\" ] && "
               "COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
           "    COMPREPLY+=($(compgen -W \"$options\" -- \"$cur\"))\n}\ncomplete -o filenames -F _sd sd\n");
}

/* ----------------------------------------------------------------------------------------- zsh */

static void zsh_option(const cli_option *o, int letter)
{
    char words[WORDS];
    words_of(o, words, sizeof words);
    printf(" \\\n        '");
    if (letter) printf("-%c", o->letter);
    else printf("--%s%s", o->name, takes_value(o) ? "=" : "");
    printf("[");
    brief(o->help, 60);
    printf("]");
    if (takes_value(o)) {
        printf(":");
        brief(o->value, 40);
        printf(":");
        if (*words) printf("(%s)", words);
        else if (is_directory_option(o)) printf("_files -/");
        else if (is_file_option(o)) printf("_files");
        else putchar(' ');
    } else if (*words) {
        printf("::word:(%s)", words);
    }
    printf("'");
}

static void zsh_options(const cli_command *c)
{
    const cli_option *o;
    printf("_arguments -s");
    for (size_t i = 0; (o = option_of(c, i)) != NULL; i++) {
        if (o->kind == CLI_HEADING) continue;
        if (o->letter) zsh_option(o, 1);
        zsh_option(o, 0);
    }
    if (c->positional) printf(" \\\n        '*:file:_files'");
}

static void zsh(void)
{
    printf("#compdef sd\n# zsh completion for sd, written by sd help --completion zsh\n_sd()\n{\n    local command=\n"
           "    (( CURRENT > 2 )) && command=$words[2]\n    case $command in\n");
    for (int i = 1; command_at(i); i++) {
        printf("    %s)\n        shift words; (( CURRENT-- ))\n        ", command_at(i)->name);
        zsh_options(command_at(i));
        printf(" ;;\n");
    }
    printf("    help) _values command");
    for (int i = 1; command_at(i); i++) printf(" %s", command_at(i)->name);
    printf(" ;;\n    version) ;;\n    *)\n        (( CURRENT == 2 )) && [[ $PREFIX != -* ]] && _values command ");
    command_names(" ");
    printf("\n        ");
    zsh_options(&draw_command);
    printf(" ;;\n    esac\n}\n_sd \"$@\"\n");
}

/* ---------------------------------------------------------------------------------------- fish */

static void fish_options(const cli_command *c)
{
    const cli_option *o;
    char words[WORDS];
    for (size_t i = 0; (o = option_of(c, i)) != NULL; i++) {
        if (o->kind == CLI_HEADING) continue;
        words_of(o, words, sizeof words);
        if (c->name) printf("complete -c sd -n '__fish_seen_subcommand_from %s'", c->name);
        else printf("complete -c sd -n \"not __fish_seen_subcommand_from $sd_commands\"");
        if (o->letter) printf(" -s %c", o->letter);
        printf(" -l %s", o->name);
        if (takes_value(o) && *words) printf(" -x -a '%s'", words);
        else if (takes_value(o) && is_directory_option(o)) printf(" -x -a '(__fish_complete_directories)'");
        else if (takes_value(o) && is_file_option(o)) printf(" -r");
        else if (takes_value(o)) printf(" -x");
        printf(" -d '");
        brief(o->help, 60);
        printf("'\n");
    }
}

static void fish(void)
{
    printf("# fish completion for sd, written by sd help --completion fish\nset -l sd_commands ");
    command_names(" ");
    printf("\ncomplete -c sd -n \"not __fish_seen_subcommand_from $sd_commands\" -f -a \"$sd_commands\"\n");
    printf("complete -c sd -n '__fish_seen_subcommand_from help' -f -a \"$sd_commands\"\n");
    for (int i = 0; command_at(i); i++) fish_options(command_at(i));
}

int completion(const char *shell)
{
    static const struct { const char *name; void (*write)(void);
                         } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    for (size_t i = 0; i < COUNT(shells); i++) {
        if (strcmp(shell, shells[i].name) != 0) continue;
        shells[i].write();
        return CLI_OK;
    }
    return cli_error(CLI_USAGE, "completions are there for bash, zsh and fish, not for \"%s\"", shell);
}
