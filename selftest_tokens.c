/* selftest_tokens.c - floor 6: the tokenizer against transformers' (share/selftest/tokens.txt). */
#include "selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_UTF8PROC
enum { READS_UNICODE = 1 };
#else
enum { READS_UNICODE = 0 };
#endif

/* In place: \xHH becomes a byte. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned byte = (unsigned char)*from++;
        if (byte == '\\' && *from == 'x' && sscanf(from + 1, "%2x", &byte) == 1) from += 3;
        *to = (char)byte;
    }
    *to = 0;
}

static bool is_ascii(const char *s)
{
    while (*s && (unsigned char)*s < 0x80) s++;
    return !*s;
}

/* STYLE, pieces dropped, ids from BOS to EOS and the text, with tabs between them. */
typedef struct line { const char *style; int dropped, n; int32_t id[SD_TOKENS]; char *text; } line;

static bool read_line(line *g, char *at)
{
    char *field[4];
    for (int i = 0; i < 4; i++) {
        field[i] = at;
        at = i < 3 ? strchr(at, '\t') : NULL;
        if (i < 3 && !at) return false;
        if (at) *at++ = 0;
    }
    *g = (line){.style = field[0], .dropped = (int)strtol(field[1], NULL, 10), .text = field[3]};
    for (char *p = field[2], *end; g->n < SD_TOKENS; p = end) {
        long id = strtol(p, &end, 10);
        if (end == p) break;
        g->id[g->n++] = (int32_t)id;
    }
    unescape(g->text);
    return true;
}

/* A directory with a tokenizer's files, as published models have it. */
typedef struct style {
    const char *name, *what, *special;   /* its special_tokens_map.json */
    int32_t pad;
    sd_tokenizer *tokenizer;
} style;
#define TOKEN(key, text) \
    "\"" key "\":{\"content\":\"" text "\",\"lstrip\":false,\"normalized\":true,\"rstrip\":false," \
    "\"single_word\":false},"
#define SPECIAL(pad) \
    "{" TOKEN("bos_token", "<|startoftext|>") TOKEN("eos_token", "<|endoftext|>") \
    TOKEN("unk_token", "<|endoftext|>") "\"pad_token\":\"" pad "\"}"

static void check_text(sd_selftest_run *s, const style *y, const line *g)
{
    sd_tokens k;
    sd_error e = {0};
    sd_check_row *row = sd_check_row_of(s, "tokenizer", y->what, "");
    if (!row) return;
    row->bits = true;
    bool same = !sd_tokenizer_encode(y->tokenizer, g->text, &k, &e) && k.n == g->n && k.dropped == g->dropped
        && memcmp(k.id, g->id, (size_t)g->n * sizeof *k.id) == 0;
    for (int i = same ? k.n : SD_TOKENS; i < SD_TOKENS; i++) same = same && k.id[i] == y->pad;
    sd_check_note(row, same ? 0 : INFINITY, "other ids for \"%.80s\"%s%s", g->text, *e.text ? ": " : "", e.text);
}

static void check_lines(sd_selftest_run *s, const style *styles, size_t n, char *text)
{
    line g;
    for (char *at = text, *end; *at && !s->e->status; at = end) {
        end = at + strcspn(at, "\n");
        if (*end) *end++ = 0;
        if (*at == '#' || !*at) continue;
        if (!read_line(&g, at)) sd_fail(s->e, SD_ERR_FORMAT, "tokens.txt: no text with its ids: %.60s", at);
        if (s->e->status || (!READS_UNICODE && !is_ascii(g.text))) continue;
        for (size_t i = 0; i < n && !s->e->status; i++)
            if (styles[i].tokenizer && (strcmp(g.style, "both") == 0 || strcmp(g.style, styles[i].name) == 0))
                check_text(s, &styles[i], &g);
    }
}

static void open_style(sd_selftest_run *s, style *y, const char *merges, size_t n)
{
    static const char *const files[] = {"/merges.txt", "/special_tokens_map.json"};
    char dir[4096], name[64], path[4096];
    if (sd_path_join(dir, sizeof dir, s->scratch, y->name, s->e)) return;
    for (int i = 0; i < 2 && !s->e->status; i++) {
        snprintf(name, sizeof name, "%s%s", y->name, files[i]);
        sd_write_into(s->scratch, name, i ? y->special : merges, i ? strlen(y->special) : n, s->e);
    }
    if (!s->e->status) sd_tokenizer_open(&y->tokenizer, dir, s->e);
    for (int i = 0; i < 2; i++)
        if (snprintf(path, sizeof path, "%s%s", dir, files[i]) < (int)sizeof path) remove(path);
    remove(dir);
}

sd_status sd_check_tokens(sd_selftest_run *s)
{
    style styles[] = {{"sd1", "as SD 1 pads", SPECIAL("<|endoftext|>"), 49407, NULL},
                      {"sd2", "as SD 2 pads", SPECIAL("!"), 0, NULL}};
    char path[4096], *text = NULL, *merges = NULL;
    size_t n, merges_size;
    bool any = false;
    for (size_t i = 0; i < SD_COUNT(styles); i++) any = any || sd_check_wanted(s, "tokenizer", styles[i].what);
    if (!any || sd_check_path(s, "tokens.txt", path) || sd_read_file(path, (size_t)1 << 22, &text, &n, s->e))
        return s->e->status;
    if (!sd_read_file(s->merges, (size_t)1 << 24, &merges, &merges_size, s->e)) {
        for (size_t i = 0; i < SD_COUNT(styles) && !s->e->status; i++)
            if (sd_check_wanted(s, "tokenizer", styles[i].what)) open_style(s, &styles[i], merges, merges_size);
        if (!s->e->status) check_lines(s, styles, SD_COUNT(styles), text);
    }
    for (size_t i = 0; i < SD_COUNT(styles); i++) sd_tokenizer_close(styles[i].tokenizer);
    free(merges);
    free(text);
    return s->e->status;
}
