/* yaml.c - floor 0: reads the part of YAML that configurations of latent diffusion models are written in.
 *
 * The text is written again as JSON, which json.c reads: a configuration is the same kind of tree in both. Each
 * function translates one construct. It begins at the current line and stops at the first line that is not its own. */
#include "yaml.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

/* Published configurations have about 100 lines and 10 levels. */
enum { MOST_BYTES = 1 << 18, MOST_LINES = 4096, MOST_NESTED = 64 };

typedef struct line {
    const char *at, *end;   /* without indentation, comment and white space at the end; never empty */
    int indent, number;
} line;

typedef struct reader {
    line *line;
    int n, i;               /* lines; the current one */
    int depth;
    sd_text json;
    const char *what;
    sd_error *e;
} reader;

static bool no(reader *r, int number, sd_status status, const char *why)
{
    sd_fail(r->e, status, "%s, line %d: %s", r->what, number, why);
    return false;
}

static bool wrong(reader *r, const line *l, const char *why) { return no(r, l->number, SD_ERR_FORMAT, why); }
static bool unknown(reader *r, const line *l, const char *why) { return no(r, l->number, SD_ERR_UNSUPPORTED, why); }

/* -------------------------------------------------------------------------------------- lines */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* The end of a quoted scalar that begins at `at`, after its closing quote; NULL: it has none on this line. */
static const char *after_quoted(const char *at, const char *end)
{
    char quote = *at++;
    for (; at < end; at++) {
        if (*at == '\\' && quote == '"') {
            at++;
        } else if (*at == quote) {
            if (quote == '"' || at + 1 == end || at[1] != '\'') return at + 1;
            at++;   /* two single quotes stand for one */
        }
    }
    return NULL;
}

/* A quote opens a scalar only where a scalar begins: after white space, a bracket or a comma. */
static bool opens_quote(const char *at, const char *begin)
{
    return (*at == '"' || *at == '\'') && (at == begin || is_blank(at[-1]) || strchr("[,", at[-1]));
}

static const char *without_comment(const char *at, const char *end)
{
    const char *begin = at;
    while (at < end && !(*at == '#' && (at == begin || is_blank(at[-1])))) {
        const char *after = opens_quote(at, begin) ? after_quoted(at, end) : NULL;
        at = after ? after : at + 1;
    }
    return at;
}

static bool add_line(reader *r, const char *at, const char *end, int number)
{
    const char *begin = at;
    while (at < end && *at == ' ') at++;
    const char *last = without_comment(at, end);
    while (last > at && (is_blank(last[-1]) || last[-1] == '\r')) last--;
    if (last == at) return true;
    line *l = &r->line[r->n];
    *l = (line){at, last, (int)(at - begin), number};
    if (*at == '\t') return wrong(r, l, "a tab cannot indent");
    for (const char *c = at; c < last; c++)
        if ((unsigned char)*c < 32 && *c != '\t') return wrong(r, l, "a control character");
    if (r->n == MOST_LINES) return wrong(r, l, "there are more than 4096 lines");
    if (last - at == 3 && memcmp(at, "---", 3) == 0 && r->n == 0) return true;
    if (last - at >= 3 && (memcmp(at, "---", 3) == 0 || memcmp(at, "...", 3) == 0) && l->indent == 0)
        return unknown(r, l, "several documents in one file are not supported");
    r->n++;
    return true;
}

static bool split(reader *r, const char *text, size_t n)
{
    const char *at = text, *stop = text + n;
    for (int number = 1; at < stop; number++) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        if (!end) end = stop;
        if (!add_line(r, at, end, number)) return false;
        at = end + 1;
    }
    return true;
}

/* ------------------------------------------------------------------------------------ scalars */

static bool is_word(const char *at, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(at, word, n) == 0;
}

/* What stands for itself in JSON, too: null, true, false or a number. NULL: the scalar is a text. */
static const char *plain_value(const char *at, size_t n, char room[SD_NUMBER_SIZE])
{
    static const struct { const char *word, *json; } words[] = {
        {"null", "null"}, {"Null", "null"}, {"NULL", "null"}, {"~", "null"}, {"true", "true"}, {"True", "true"},
        {"TRUE", "true"}, {"yes", "true"}, {"Yes", "true"}, {"on", "true"}, {"On", "true"}, {"false", "false"},
        {"False", "false"}, {"FALSE", "false"}, {"no", "false"}, {"No", "false"}, {"off", "false"}, {"Off", "false"}};
    char copy[64];
    double x;
    for (size_t i = 0; i < SD_COUNT(words); i++)
        if (is_word(at, n, words[i].word)) return words[i].json;
    if (n >= sizeof copy || !strchr("+-.0123456789", *at) || !memchr("0123456789", at[n - 1], 10)) {
        if (n < 2 || at[n - 1] != '.' || n >= sizeof copy) return NULL;   /* "1." is a number */
    }
    memcpy(copy, at, n);
    copy[n] = 0;
    return sd_number_read(&x, copy + (*copy == '+')) && x - x == 0 ? sd_number_text(room, x) : NULL;
}

/* Anything that begins so is YAML, but not of the kind that is known here. */
static bool refuse(reader *r, const line *l, char first)
{
    static const struct { char first; const char *why; } cases[] = {
        {'&', "anchors are not supported"}, {'*', "aliases are not supported"}, {'!', "tags are not supported"},
        {'|', "block scalars are not supported"}, {'>', "block scalars are not supported"},
        {'{', "mappings in braces are not supported"}, {'?', "keys of their own line are not supported"},
        {'%', "directives are not supported"}, {'@', "a scalar cannot begin with @"},
        {'`', "a scalar cannot begin with `"}, {']', "a bracket that nothing opened"},
        {'}', "a brace that nothing opened"}, {',', "a comma outside of a list"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++)
        if (cases[i].first == first) return unknown(r, l, cases[i].why);
    return true;
}

/* Writes a quoted scalar, which begins at `at` and ends before `end`. */
static bool quoted(reader *r, const line *l, const char *at, const char *end)
{
    sd_text t = {0};
    if (*at == '"') {
        char *copy = malloc((size_t)(end - at) + 1), *out = NULL;
        if (!copy) return no(r, l->number, SD_ERR_MEMORY, "no memory to read it");
        memcpy(copy, at, (size_t)(end - at));
        copy[end - at] = 0;
        bool good = sd_text_unquote(copy, &out) != NULL;
        if (good) sd_text_quoted(&r->json, out);
        free(copy);
        return good || unknown(r, l, "an escape that JSON does not have");
    }
    for (at++; at < end - 1; at++) {
        sd_text_addn(&t, at, 1);
        if (*at == '\'') at++;
    }
    if (!t.failed) sd_text_quoted(&r->json, t.s ? t.s : "");
    else r->json.failed = true;
    free(t.s);
    return true;
}

/* A scalar that fills at .. end. */
static bool scalar(reader *r, const line *l, const char *at, const char *end)
{
    char room[SD_NUMBER_SIZE], *copy;
    if (*at == '"' || *at == '\'') {
        const char *after = after_quoted(at, end);
        if (!after) return unknown(r, l, "a quoted scalar must end on its line");
        if (after != end) return wrong(r, l, "something follows a quoted scalar");
        return quoted(r, l, at, end);
    }
    if (!refuse(r, l, *at)) return false;
    for (const char *c = at; c < end; c++)
        if (*c == ':' && (c + 1 == end || is_blank(c[1]))) return wrong(r, l, "a mapping cannot begin here");
    size_t n = (size_t)(end - at);
    const char *value = plain_value(at, n, room);
    if (value) return sd_text_add(&r->json, "%s", value), true;
    copy = malloc(n + 1);
    if (!copy) return no(r, l->number, SD_ERR_MEMORY, "no memory to read it");
    memcpy(copy, at, n);
    copy[n] = 0;
    sd_text_quoted(&r->json, copy);
    free(copy);
    return true;
}

/* ------------------------------------------------------------------------- lists in brackets */

/* Skips white space and the ends of lines; false at the end of the text. */
static bool flow_next(reader *r, const char **at)
{
    for (;;) {
        while (*at < r->line[r->i].end && is_blank(**at)) (*at)++;
        if (*at < r->line[r->i].end) return true;
        if (r->i + 1 == r->n) return false;
        *at = r->line[++r->i].at;
    }
}

/* A list in brackets; *at is at its bracket, and then behind its end. */
static bool flow_list(reader *r, const char **at)
{
    const line *first = &r->line[r->i];
    if (++r->depth > MOST_NESTED) return wrong(r, first, "lists and mappings are nested too deep");
    sd_text_add(&r->json, "[");
    (*at)++;
    for (bool more = false;; more = true) {
        if (!flow_next(r, at)) return wrong(r, first, "a list has no end");
        if (**at == ']') break;
        if (more) sd_text_add(&r->json, ",");
        const line *l = &r->line[r->i];
        const char *end = *at;
        if (**at == '[') {
            if (!flow_list(r, at)) return false;
        } else {
            if (*end == '"' || *end == '\'') end = after_quoted(*at, l->end);
            if (!end) return unknown(r, l, "a quoted scalar must end on its line");
            while (end < l->end && !strchr(",]", *end)) end++;
            const char *last = end;
            while (last > *at && is_blank(last[-1])) last--;
            if (last == *at) return wrong(r, l, "a list has an empty place");
            if (!scalar(r, l, *at, last)) return false;
            *at = end;
        }
        if (!flow_next(r, at)) return wrong(r, first, "a list has no end");
        if (**at == ',') (*at)++;
        else if (**at != ']') return wrong(r, &r->line[r->i], "a comma or the end of a list is expected");
    }
    (*at)++;
    r->depth--;
    sd_text_add(&r->json, "]");
    return true;
}

/* ----------------------------------------------------------------------------------- blocks */

static bool block(reader *r);

static bool is_item(const line *l) { return *l->at == '-' && (l->at + 1 == l->end || is_blank(l->at[1])); }

/* The end of the key that the line begins with; NULL: it begins with none. */
static const char *end_of_key(const line *l)
{
    const char *c = l->at;
    if (*c == '"' || *c == '\'') {
        c = after_quoted(c, l->end);
        return c && c < l->end && *c == ':' && (c + 1 == l->end || is_blank(c[1])) ? c : NULL;
    }
    if (strchr("[{&*!|>%@`", *c)) return NULL;
    for (; c < l->end; c++)
        if (*c == ':' && (c + 1 == l->end || is_blank(c[1]))) return c;
    return NULL;
}

/* What stands behind a key or a dash, to the end of the line, or as the lines below it. indent: that of the key. */
static bool value(reader *r, const char *at, int indent, bool of_key)
{
    const line *l = &r->line[r->i];
    while (at < l->end && is_blank(*at)) at++;
    if (at == l->end) {
        r->i++;
        const line *below = r->i < r->n ? &r->line[r->i] : NULL;
        if (below && (below->indent > indent || (of_key && below->indent == indent && is_item(below)))) return block(r);
        sd_text_add(&r->json, "null");
        return true;
    }
    if (*at == '[') {
        if (!flow_list(r, &at)) return false;
        if (at != r->line[r->i].end) return wrong(r, &r->line[r->i], "something follows a list");
    } else if (l->end - at == 2 && memcmp(at, "{}", 2) == 0) {
        sd_text_add(&r->json, "{}");
    } else if (!scalar(r, l, at, l->end)) {
        return false;
    }
    r->i++;
    return true;
}

static bool mapping(reader *r, int indent)
{
    sd_text_add(&r->json, "{");
    for (bool more = false; r->i < r->n && r->line[r->i].indent == indent; more = true) {
        line *l = &r->line[r->i];
        const char *end = end_of_key(l);
        if (is_item(l) || !end) return wrong(r, l, "a key and a colon are expected");
        if (end == l->at) return wrong(r, l, "a key is empty");
        if (more) sd_text_add(&r->json, ",");
        if (*l->at == '"' || *l->at == '\'') {
            if (!quoted(r, l, l->at, end)) return false;
        } else {
            char key[256];
            if (end - l->at >= (ptrdiff_t)sizeof key) return wrong(r, l, "a key is longer than 255 bytes");
            const char *last = end;
            while (last > l->at && is_blank(last[-1])) last--;
            snprintf(key, sizeof key, "%.*s", (int)(last - l->at), l->at);
            sd_text_quoted(&r->json, key);
        }
        sd_text_add(&r->json, ":");
        if (!value(r, end + 1, indent, true)) return false;
    }
    sd_text_add(&r->json, "}");
    return true;
}

static bool list(reader *r, int indent)
{
    sd_text_add(&r->json, "[");
    for (bool more = false; r->i < r->n && r->line[r->i].indent == indent && is_item(&r->line[r->i]); more = true) {
        line *l = &r->line[r->i];
        const char *at = l->at + 1;
        if (more) sd_text_add(&r->json, ",");
        while (at < l->end && is_blank(*at)) at++;
        line inner = {at, l->end, indent + (int)(at - l->at), l->number};
        if (at < l->end && (is_item(&inner) || end_of_key(&inner))) {
            *l = inner;   /* what follows the dash is a block of its own, indented by it */
            if (!block(r)) return false;
        } else if (!value(r, at, indent, false)) {
            return false;
        }
    }
    sd_text_add(&r->json, "]");
    return true;
}

static bool block(reader *r)
{
    const line *l = &r->line[r->i];
    int indent = l->indent;
    if (++r->depth > MOST_NESTED) return wrong(r, l, "lists and mappings are nested too deep");
    if (sd_fail_if_stopped(r->e)) return false;
    if (!(is_item(l) ? list : mapping)(r, indent)) return false;
    if (r->i < r->n && r->line[r->i].indent > indent)
        return wrong(r, &r->line[r->i], "this line is indented as nothing above it is");
    r->depth--;
    return true;
}

/* ------------------------------------------------------------------------------------ reading */

/* A key that comes twice means one thing to one reader and another to the next. */
static bool keys_differ(const sd_json *j, const char *what, sd_error *e)
{
    const sd_json *x, *y;
    SD_JSON_EACH(x, j) {
        for (y = x->next; y && x->key; y = y->next)
            if (strcmp(x->key, y->key) == 0)
                return sd_fail(e, SD_ERR_FORMAT, "%s: the key \"%.80s\" comes twice", what, x->key), false;
        if (!keys_differ(x, what, e)) return false;
    }
    return true;
}

sd_json *sd_yaml_parse(const char *text, size_t n, const char *what, sd_error *e)
{
    sd_json *root = NULL;
    if (n > MOST_BYTES) return sd_fail(e, SD_ERR_UNSUPPORTED, "%s has more than 262144 bytes", what), NULL;
    if (memchr(text, 0, n) || !sd_is_utf8(text, n))
        return sd_fail(e, SD_ERR_FORMAT, "%s is no UTF-8 text", what), NULL;
    reader r = {.line = malloc((MOST_LINES + 1) * sizeof *r.line), .what = what, .e = e};
    if (!r.line) return sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", what), NULL;
    if (split(&r, text, n)) {
        if (r.n == 0 || is_item(&r.line[0]) || !end_of_key(&r.line[0]))
            sd_fail(e, SD_ERR_FORMAT, "%s: expected keys and values", what);
        else if (block(&r) && r.i < r.n)
            wrong(&r, &r.line[r.i], "this line is indented less than the first one");
    }
    if (!e->status && r.json.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", what);
    if (!e->status) root = sd_json_parse(r.json.s, r.json.n, what, e);
    free(r.json.s);
    free(r.line);
    if (!root || keys_differ(root, what, e)) return root;
    sd_json_free(root);
    return NULL;
}

sd_json *sd_yaml_read(const char *path, sd_error *e)
{
    char *text;
    size_t n;
    if (sd_read_file(path, MOST_BYTES, &text, &n, e)) return NULL;
    sd_json *root = sd_yaml_parse(text, n, path, e);
    free(text);
    return root;
}

const sd_json *sd_yaml_at(const sd_json *root, const char *keys)
{
    char key[64];
    while (root && *keys) {
        size_t n = strcspn(keys, ".");
        if (n >= sizeof key) return NULL;
        memcpy(key, keys, n);
        key[n] = 0;
        root = sd_json_get(root, key);
        keys += n + (keys[n] == '.');
    }
    return root;
}
