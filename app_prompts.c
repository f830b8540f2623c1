/* app_prompts.c - floor 7: prompts that come from files: -p @FILE, -p -, and --prompts FILE with a picture, or several,
 * for each line, and options behind its text. */
#include "app.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 16 << 20, MOST_WORDS = 256 };

static const char out_of_memory[] = "out of memory";

/* Reads on to the end: NULL, or what is wrong, with *code for it. */
static const char *read_on(FILE *f, char **text, int *code)
{
    size_t n = 0, got;
    do {
        char *more = realloc(*text, n + 65536 + 1);
        *code = CLI_FAILURE;
        if (!more) return out_of_memory;
        *text = more;
        got = fread(more + n, 1, 65536, f);
        n += got;
        if (interrupts) return "interrupted";
    } while (got && n < MOST_BYTES);
    (*text)[n] = 0;
    if (ferror(f)) {
        *code = errno_code(errno);
        return strerror(errno);
    }
    *code = CLI_USAGE;
    return !feof(f) ? "it is longer than 16 MB" : memchr(*text, 0, n) ? "it has a NUL byte" : NULL;
}

/* The whole of a file ("-": standard input) as text that ends with NUL, for free(); NULL if it cannot be read, said. */
static int read_all(char **text, const char *path, const char *hint)
{
    int input = strcmp(path, "-") == 0, code = CLI_OK;
    FILE *f = input ? stdin : fopen(path, "rb");
    *text = NULL;
    if (!f) return cli_error(errno_code(errno), "cannot read %s: %s%s", path, strerror(errno), hint);
    const char *why = read_on(f, text, &code);
    if (!input) fclose(f);
    if (!why) return CLI_OK;
    free(*text);
    *text = NULL;
    memory_ran_out |= why == out_of_memory;
    return interrupts ? stopped() : cli_error(code, "cannot read %s: %s", input ? "the standard input" : path, why);
}

int read_text(const char **text, char **owned)
{
    if (!*text || (**text != '@' && strcmp(*text, "-") != 0)) return CLI_OK;
    if (strncmp(*text, "@@", 2) == 0) {
        ++*text;
        return CLI_OK;
    }
    int code = read_all(owned, **text == '@' ? *text + 1 : *text, "; write @@ for a prompt that begins with @");
    if (code) return code;
    size_t n = strlen(*owned);
    if (n && (*owned)[n - 1] == '\n') (*owned)[--n] = 0;
    if (n && (*owned)[n - 1] == '\r') (*owned)[--n] = 0;
    *text = *owned;
    return CLI_OK;
}

int read_prompts(settings *s, char *owned[2])
{
    int from_input = 0;
    const char *const inputs_of[] = {s->p.prompt, s->p.negative_prompt, s->prompts};
    for (size_t i = 0; i < COUNT(inputs_of); i++) from_input += inputs_of[i] && strcmp(inputs_of[i], "-") == 0;
    if (from_input > 1)
        return cli_error(CLI_USAGE, "the standard input is one text: only one of -p, -n and --prompts can be -");
    int code = read_text(&s->p.prompt, &owned[0]);
    return code ? code : read_text(&s->p.negative_prompt, &owned[1]);
}

/* ------------------------------------------------------------------------------- a line for each */

int prompt_lines_read(prompt_lines *l, const char *path)
{
    *l = (prompt_lines){.path = strcmp(path, "-") == 0 ? "standard input" : path};
    int code = read_all(&l->text, path, "");
    if (code) return code;
    size_t most = 1;
    for (const char *c = l->text; *c; c++) most += *c == '\n';
    l->line = calloc(most, sizeof *l->line);
    if (!l->line) return no_memory();
    int number = 0;
    for (char *c = l->text, *end; *c; c = end) {
        end = c + strcspn(c, "\n");
        if (*end) *end++ = 0;
        number++;
        c += strspn(c, " \t\r");
        for (size_t n = strlen(c); n && strchr(" \t\r", c[n - 1]); n--) c[n - 1] = 0;
        if (*c && *c != '#') l->line[l->n++] = (prompt_line){c, number};
    }
    return l->n ? CLI_OK : cli_error(CLI_USAGE, "%s has no prompts: a line each", l->path);
}

void prompt_lines_free(prompt_lines *l)
{
    free(l->text);
    free(l->line);
}

/* Where the options of a line begin: at a word that begins with "--" and a letter. */
static char *options_of(char *line)
{
    for (char *c = line; (c = strstr(c, "--")) != NULL; c += 2) {
        int letter = (c[2] >= 'a' && c[2] <= 'z') || (c[2] >= 'A' && c[2] <= 'Z');
        if (letter && (c == line || c[-1] == ' ' || c[-1] == '\t')) return c;
    }
    return NULL;
}

/* Takes a word as a shell does: quotes and backslashes. It is put where it was read; NULL at the end, or with *open. */
static char *next_word(char **at, int *open)
{
    char *c = *at + strspn(*at, " \t"), *to = c, *word = c, quote = 0;
    if (!*c) return NULL;
    for (; *c && (quote || (*c != ' ' && *c != '\t')); c++) {
        if (!quote && (*c == '"' || *c == '\'')) quote = *c;
        else if (quote && *c == quote) quote = 0;
        else if (*c == '\\' && quote != '\'' && c[1]) *to++ = *++c;
        else *to++ = *c;
    }
    *at = *c ? c + 1 : c;
    *to = 0;
    *open = quote != 0;
    return quote ? NULL : word;
}

/* "--prompt a red apple --steps 3": the words of a prompt need no quotes, as in A1111. */
static int split_options(char *text, char *words[MOST_WORDS], int *n)
{
    static const char *const prompts[] = {"--prompt", "--negative_prompt", "--negative-prompt"};
    int open = 0, joins = 0;
    char *word;
    for (*n = 0; (word = next_word(&text, &open)) != NULL;) {
        int option = strncmp(word, "--", 2) == 0;
        if (!option && joins == 2) {
            char *end = words[*n - 1] + strlen(words[*n - 1]);   /* they lie one behind the other */
            *end++ = ' ';
            memmove(end, word, strlen(word) + 1);
            continue;
        }
        if (*n == MOST_WORDS) return cli_error(CLI_USAGE, "a line has more than %d words of options", MOST_WORDS);
        words[(*n)++] = word;
        joins = joins == 1 ? 2 : 0;
        for (size_t i = 0; option && i < COUNT(prompts); i++)
            if (strcmp(word, prompts[i]) == 0) joins = 1;
    }
    return open ? cli_error(CLI_USAGE, "a quote is not closed") : CLI_OK;
}

/* What the model, the machine or all lines have in common. */
static int changes_common(const settings *a, const settings *b)
{
    return a->model != b->model || a->unet != b->unet || a->vae != b->vae || a->taesd != b->taesd
        || a->taesd_preview_only != b->taesd_preview_only || a->text_encoder != b->text_encoder
        || a->text_encoder_2 != b->text_encoder_2 || a->tokenizer != b->tokenizer || a->config != b->config
        || a->refiner != b->refiner || a->latents != b->latents
        || a->ema != b->ema || a->threads != b->threads || a->precise != b->precise
        || a->residency != b->residency || a->gemm != b->gemm || a->device != b->device
        || a->max_memory != b->max_memory || a->vae_memory != b->vae_memory
        || a->trace != b->trace || a->trace_stats != b->trace_stats || a->trace_hash != b->trace_hash
        || a->inject != b->inject || a->stop_after != b->stop_after
        || a->tokens_in != b->tokens_in || a->embeds != b->embeds || a->timestep != b->timestep
        || a->inject_filter != b->inject_filter || a->names != b->names
        || a->trace_filter != b->trace_filter || a->prompts != b->prompts || a->quiet != b->quiet
        || a->verbose != b->verbose || a->timings != b->timings || a->profile != b->profile
        || a->version != b->version || a->help != b->help
        || a->preview != b->preview || a->noise != b->noise || a->save_steps != b->save_steps || a->from != b->from;
}

int prompt_line_settings(const prompt_lines *l, int i, const settings *common, settings *s, char **text)
{
    char *words[MOST_WORDS];
    int n = 0;
    *s = *common;
    s->p.copies = NULL;   /* theirs are common's */
    cli_where(l->path, l->line[i].number);
    size_t size = strlen(l->line[i].text) + 1;
    if ((*text = malloc(size)) == NULL) return no_memory();
    memcpy(*text, l->line[i].text, size);
    char *options = options_of(*text);
    int code = options ? split_options(options, words, &n) : CLI_OK;
    if (options == *text) options = NULL;   /* it has no prompt before them */
    else s->p.prompt = *text;
    while (options && options > *text && strchr(" \t", options[-1])) *--options = 0;
    if (!code) code = cli_parse(&draw_command, n, words, s, NULL);
    if (!code && changes_common(s, common))
        code = cli_error(CLI_USAGE,
                         "what concerns the model, the machine or the whole run stands before all lines, not in one");
    return code;
}
