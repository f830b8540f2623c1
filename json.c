/* json.c - floor 0: reads JSON [RFC 8259] strictly: the grammar of the standard and nothing else.
 *
 * One function per rule of the grammar. Each consumes what it expects at `at`, and returns false if something else is
 * there: `why` then says what was expected, and `at` is the byte that the message names. */
#include "json.h"
#include "text.h"
#include "unicode.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The most levels of lists and objects, and the most values. Values are limited because each takes tens of bytes of
 * memory and as little as two bytes of text. A vocabulary has 50,000, a header of a thousand tensors 10,000. */
enum { MOST_NESTED = 256, MOST_VALUES = 1 << 20 };

/* ------------------------------------------------------------------------------- memory of a text */

typedef struct block {
    struct block *before;
    sd_json values[256];
} block;

/* Holds all values of one JSON text, and the text. The root is its first member, so a pointer to the root is a pointer
 * to the document. */
typedef struct document {
    sd_json root;
    block *blocks;   /* the newest first; it has room for `room` more values */
    size_t room;
    char *text;      /* keys and texts are decoded where they stand: they do not become longer */
} document;

void sd_json_free(sd_json *root)
{
    document *d = (document *)(void *)root;
    if (!d) return;
    for (block *b = d->blocks, *before; b; b = before) {
        before = b->before;
        free(b);
    }
    free(d->text);
    free(d);
}

static sd_json *new_value(document *d)
{
    if (!d->room) {
        block *b = malloc(sizeof *b);
        if (!b) return NULL;
        b->before = d->blocks;
        d->blocks = b;
        d->room = SD_COUNT(b->values);
    }
    sd_json *v = &d->blocks->values[SD_COUNT(d->blocks->values) - d->room--];
    memset(v, 0, sizeof *v);
    return v;
}

/* ---------------------------------------------------------------------------------------- grammar */

typedef struct reader {
    char *text;
    size_t at, n;
    document *to;
    char *number;       /* room for a number that is read by the locale's rules; NULL: none was needed so far */
    int depth, values;
    sd_error *e;        /* says whether to stop */
    bool python;        /* Infinity and -Infinity are numbers */
    bool full;          /* memory ran out */
    const char *why;    /* NULL: all is well so far */
} reader;

static bool no(reader *r, const char *why)
{
    if (!r->why) r->why = why;
    return false;
}

static bool no_memory(reader *r)
{
    r->full = true;
    return no(r, "memory");
}

/* The next byte, 0 at the end. */
static char next(const reader *r) { return r->at < r->n ? r->text[r->at] : 0; }

static bool take(reader *r, char c)
{
    if (r->at >= r->n || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

static void skip_space(reader *r)
{
    for (char c; (c = next(r)) == ' ' || c == '\t' || c == '\r' || c == '\n';) r->at++;
}

static bool take_word(reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->n - r->at < n || memcmp(r->text + r->at, word, n) != 0) return false;
    r->at += n;
    return true;
}

/* The next two write what they read to *to, and move that on. */
static bool escape(reader *r, char **to)
{
    int32_t c;
    const char *why;
    r->at += sd_json_escape(r->text + r->at, r->n - r->at, &c, &why);
    if (why) return no(r, why);
    unsigned char utf8[4];
    size_t n = sd_utf8_encode(utf8, c);
    memcpy(*to, utf8, n);
    *to += n;
    return true;
}

/* Does this byte stand for itself in a string, and is it a whole character? */
static bool is_letter(char c) { return c >= ' ' && (unsigned char)c < 128 && c != '"' && c != '\\'; }

/* Characters that stand for themselves: as many as come of ASCII, or one. */
static bool plain(reader *r, char **to)
{
    const char *from = r->text + r->at, *why;
    size_t left = r->n - r->at, n = 0;
    unsigned char c = (unsigned char)*from;
    int32_t code;
    while (n < left && is_letter(from[n])) n++;
    if (!n && !c) return no(r, "a NUL character");
    if (!n && c < 32) return no(r, "a control character in a string");
    if (!n) n = sd_utf8_one(from, left, &code, &why);
    if (!n) return no(r, "a byte that is not UTF-8");
    if (*to != from) memmove(*to, from, n);
    *to += n;
    r->at += n;
    return true;
}

static bool string(reader *r, const char **out)
{
    if (!take(r, '"')) return no(r, "a string is expected");
    char *to = r->text + r->at;
    *out = to;
    while (r->at < r->n && r->text[r->at] != '"')
        if (!(next(r) == '\\' ? escape(r, &to) : plain(r, &to))) return false;
    if (!take(r, '"')) return no(r, "a string has no end");
    *to = 0;   /* perhaps over the closing quote */
    return true;
}

static bool digits(reader *r)
{
    size_t from = r->at;
    while (next(r) >= '0' && next(r) <= '9') r->at++;
    return r->at > from || no(r, "a digit is expected");
}

/* So many digits are exact in a double, and most numbers are no longer; the way through the locale takes its time. */
enum { EXACT_DIGITS = 15 };
static double small_whole(const char *digit, size_t n)
{
    double x = 0;
    for (size_t i = *digit == '-'; i < n; i++) x = 10 * x + (digit[i] - '0');
    return *digit == '-' ? -x : x;
}

static bool number(reader *r, double *out)
{
    size_t from = r->at;
    bool negative = take(r, '-'), whole = true;
    if (r->python && take_word(r, "Infinity")) return *out = negative ? -INFINITY : INFINITY, true;
    if (!take(r, '0') && !digits(r)) return false;
    if (take(r, '.')) {
        whole = false;
        if (!digits(r)) return false;
    }
    if (take(r, 'e') || take(r, 'E')) {
        whole = false;
        if (!take(r, '-')) take(r, '+');
        if (!digits(r)) return false;
    }
    if (whole && r->at - from <= EXACT_DIGITS) return *out = small_whole(r->text + from, r->at - from), true;
    if (!r->number && !(r->number = malloc(r->n + SD_NUMBER_SIZE))) return no_memory(r);
    sd_number_in_locale(out, r->text + from, r->at - from, r->number);
    return true;
}

static bool value(reader *r, sd_json *to);

/* What stands between brackets, with commas between its items. */
static bool items(reader *r, char end, bool keys, sd_json **link)
{
    r->at++;
    skip_space(r);
    if (take(r, end)) return true;
    for (;; link = &(*link)->next) {
        sd_json *v = new_value(r->to);
        if (!v) return no_memory(r);
        *link = v;
        skip_space(r);
        if (keys) {
            if (!string(r, &v->key)) return false;
            skip_space(r);
            if (!take(r, ':')) return no(r, "a colon is expected");
        }
        if (!value(r, v)) return false;
        skip_space(r);
        if (take(r, end)) return true;
        if (!take(r, ',')) return no(r, "a comma or the end of a list or object is expected");
    }
}

static bool nested(reader *r, sd_json *to)
{
    bool object = to->type == SD_JSON_OBJECT;
    if (++r->depth > MOST_NESTED) return no(r, "lists and objects are nested too deep");
    bool good = items(r, object ? '}' : ']', object, &to->first);
    r->depth--;
    return good;
}

static bool word(reader *r, sd_json_type *type)
{
    static const struct { const char *word; sd_json_type type; } words[] = {
        {"null", SD_JSON_NULL}, {"true", SD_JSON_TRUE}, {"false", SD_JSON_FALSE}};
    for (size_t i = 0; i < SD_COUNT(words); i++)
        if (take_word(r, words[i].word)) return *type = words[i].type, true;
    return no(r, "a value is expected");
}

static bool value(reader *r, sd_json *to)
{
    if (++r->values > MOST_VALUES) return no(r, "more than 1048576 values");
    if (r->values % 4096 == 0 && sd_fail_if_stopped(r->e)) return no(r, "cancelled");
    skip_space(r);
    char c = next(r);
    bool is_number = c == '-' || (c >= '0' && c <= '9') || (r->python && c == 'I');
    to->type = c == '"' ? SD_JSON_TEXT : c == '[' ? SD_JSON_LIST : c == '{' ? SD_JSON_OBJECT : SD_JSON_NUMBER;
    return c == '"' ? string(r, &to->text) : c == '[' || c == '{' ? nested(r, to)
         : is_number ? number(r, &to->number) : word(r, &to->type);
}

/* ---------------------------------------------------------------------------------------- reading */

const char *sd_json_kind(const sd_json *j)
{
    static const char *const kinds[] = {"null", "true or false", "true or false", "a number", "text", "a list",
                                        "an object"};
    return j ? kinds[j->type] : "nothing";
}

/* Takes `text` over, which may be NULL if there was no memory for it. */
static sd_json *parse(char *text, size_t n, bool python, const char *what, sd_error *e)
{
    document *d = text ? calloc(1, sizeof *d) : NULL;
    if (!d) {
        free(text);
        return sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", what), NULL;
    }
    d->text = text;
    reader r = {.text = text, .n = n, .python = python, .e = e, .to = d};
    if (value(&r, &d->root)) {
        skip_space(&r);
        if (r.at < n) no(&r, "there is more after its end");
    }
    free(r.number);
    if (r.full) sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", what);
    else if (r.why) sd_fail(e, SD_ERR_FORMAT, "%s is not JSON from byte %zu on: %s", what, r.at, r.why);
    else if (d->root.type != SD_JSON_OBJECT)
        sd_fail(e, SD_ERR_FORMAT, "%s: expected a JSON object, found %s", what, sd_json_kind(&d->root));
    else return &d->root;
    sd_json_free(&d->root);
    return NULL;
}

static char *copy(const char *text, size_t n)
{
    char *to = malloc(n + 1);
    return to ? memcpy(to, text, n) : NULL;
}

sd_json *sd_json_parse(const char *text, size_t n, const char *what, sd_error *e)
{
    return parse(copy(text, n), n, false, what, e);
}

typedef struct member { sd_json *value; size_t place; } member;

/* By key, then by place. */
static int by_key(const void *a, const void *b)
{
    const member *x = a, *y = b;
    int side = strcmp(x->value->key, y->value->key);
    return side ? side : x->place < y->place ? -1 : 1;
}

static uint64_t mixed(const char *key)   /* FNV-1a */
{
    uint64_t h = 14695981039346656037u;
    for (; *key; key++) h = (h ^ (unsigned char)*key) * 1099511628211u;
    return h ? h : 1;
}

/* Is it certain, and soon, that no key comes twice? It looks for each key's number in a hash table. A file whose keys
 * collide on purpose is left to the slower way. */
static bool all_differ(const sd_json *object, size_t n)
{
    size_t size = 16, left = 16 * n;
    while (size < n + n / 4) size *= 2;   /* rather full: to touch new pages takes longer than to look further */
    uint64_t *seen = calloc(size, sizeof *seen);   /* 0: nothing */
    const sd_json *x = seen ? object->first : NULL;
    for (; x; x = x->next) {
        uint64_t h = mixed(x->key);
        size_t k = h & (size - 1);
        while (seen[k] && seen[k] != h && left) k = (k + 1) & (size - 1), left--;
        if (seen[k]) break;
        seen[k] = h;
    }
    bool good = seen && !x;
    free(seen);
    return good;
}

/* Of equal keys, only the last one stays. */
static bool settle_keys(sd_json *object)
{
    size_t n = (size_t)sd_json_count(object), i = 0;
    if (all_differ(object, n)) return true;
    member *list = malloc((n + 1) * sizeof *list);
    if (!list) return false;
    for (sd_json *x = object->first; x; x = x->next, i++) list[i] = (member){x, i};
    qsort(list, n, sizeof *list, by_key);
    for (i = 1; i < n; i++)   /* a NULL key marks a value to be left out */
        if (strcmp(list[i - 1].value->key, list[i].value->key) == 0) list[i - 1].value->key = NULL;
    free(list);
    for (sd_json **link = &object->first; *link;)
        if ((*link)->key) link = &(*link)->next;
        else *link = (*link)->next;
    return true;
}

static bool settle(sd_json *j)
{
    if (j->type == SD_JSON_OBJECT && !settle_keys(j)) return false;
    for (sd_json *x = j->first; x; x = x->next)
        if (!settle(x)) return false;
    return true;
}

/* Takes `text` over. */
static sd_json *load(char *text, size_t n, const char *what, sd_error *e)
{
    sd_json *root = parse(text, n, true, what, e);
    if (!root || settle(root)) return root;
    sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", what);
    sd_json_free(root);
    return NULL;
}

sd_json *sd_json_load(const char *text, size_t n, const char *what, sd_error *e)
{
    return load(copy(text, n), n, what, e);
}

sd_json *sd_json_read(const char *path, size_t max, sd_error *e)
{
    char *text;
    size_t n;
    return sd_read_file(path, max, &text, &n, e) ? NULL : load(text, n, path, e);
}

/* ---------------------------------------------------------------------------------------- looking */

const sd_json *sd_json_get(const sd_json *object, const char *key)
{
    const sd_json *x;
    SD_JSON_EACH(x, object)
        if (x->key && strcmp(x->key, key) == 0) return x;
    return NULL;
}

const sd_json *sd_json_item(const sd_json *list, int i)
{
    const sd_json *x = list ? list->first : NULL;
    while (x && i-- > 0) x = x->next;
    return x;
}

int sd_json_int(const sd_json *j)
{
    double v = j ? j->number : 0;
    return v >= INT_MAX ? INT_MAX : v <= INT_MIN ? INT_MIN : (int)v;
}

int sd_json_count(const sd_json *list)
{
    const sd_json *x;
    int n = 0;
    SD_JSON_EACH(x, list) n++;
    return n;
}

/* A new line and the blanks before its text; indent < 0: all is one line. */
static void new_line(sd_text *t, int indent)
{
    if (indent >= 0) sd_text_add(t, "\n%*s", indent, "");
}

static void print(sd_text *t, const sd_json *j, int indent)
{
    static const char *const words[] = {"null", "false", "true"};
    char digits[SD_NUMBER_SIZE];
    const sd_json *x;
    int inner = indent < 0 ? indent : indent + 2;
    if (j->type == SD_JSON_TEXT) {
        sd_text_quoted(t, j->text);
    } else if (j->type == SD_JSON_NUMBER) {
        bool whole = floor(j->number) == j->number && fabs(j->number) < 1e15;   /* Python tells 320 from 3.2e2 */
        if (whole) sd_text_add(t, "%.0f", j->number);
        else sd_text_add(t, "%s", sd_number_text(digits, j->number));
    } else if (j->type < SD_JSON_NUMBER) {
        sd_text_add(t, "%s", words[j->type]);
    } else {
        sd_text_add(t, j->type == SD_JSON_LIST ? "[" : "{");
        SD_JSON_EACH(x, j) {
            if (x != j->first) sd_text_add(t, ",");
            new_line(t, inner);
            if (x->key) sd_text_quoted(t, x->key);
            if (x->key) sd_text_add(t, indent < 0 ? ":" : ": ");
            print(t, x, inner);
        }
        if (j->first) new_line(t, indent);
        sd_text_add(t, j->type == SD_JSON_LIST ? "]" : "}");
    }
}

static char *print_whole(const sd_json *j, int indent)
{
    sd_text t = {0};
    print(&t, j, indent);
    if (indent >= 0) sd_text_add(&t, "\n");
    if (!t.failed) return t.s;
    free(t.s);
    return NULL;
}

char *sd_json_print(const sd_json *j) { return print_whole(j, -1); }
char *sd_json_print_lines(const sd_json *j) { return print_whole(j, 0); }

char *sd_json_lines_of(sd_text *t, const char *what, sd_error *e)
{
    sd_json *root = t->failed ? NULL : sd_json_parse(t->s, t->n, what, e);
    char *lines = root ? sd_json_print_lines(root) : NULL;
    if (!lines && !e->status) sd_fail(e, SD_ERR_MEMORY, "no memory for %s", what);
    sd_json_free(root);
    free(t->s);
    *t = (sd_text){0};
    return lines;
}
