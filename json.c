/* json.c - floor 0: checks that a text is JSON, lets cJSON read it, and settles keys that come twice.
 *
 * cJSON alone takes control characters in strings, numbers like 01, text after the value and of two values for a key
 * the first. Python refuses the former and takes the last value of the latter. Since the text has been checked before,
 * a failure of cJSON can only mean that memory ran out. */
#include "json.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_CJSON

/* Levels of lists and objects; cJSON itself stops at 1000. And values: cJSON takes some hundred bytes for each, which
 * of a file of empty lists makes 25 times its size. A vocabulary has 50,000, a header of a thousand tensors 10,000. */
enum { MOST_NESTED = 256, MOST_VALUES = 1 << 20 };

/* ------------------------------------------------------------------------------------- checking */

typedef struct scan {
    const char *text;
    size_t at, n;
    int depth, values;
    sd_error *e;        /* to be asked whether to stop */
    bool python;        /* infinities are spelled out */
    const char *why;    /* NULL: all is well so far */
} scan;

static bool no(scan *s, const char *why)
{
    if (!s->why) s->why = why;
    return false;
}

/* The next byte, 0 at the end. */
static char next(const scan *s) { return s->at < s->n ? s->text[s->at] : 0; }

static bool take(scan *s, char c)
{
    if (s->at >= s->n || s->text[s->at] != c) return false;
    s->at++;
    return true;
}

static void skip_space(scan *s)
{
    while (s->at < s->n && memchr(" \t\r\n", s->text[s->at], 4)) s->at++;
}

static bool take_word(scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n - s->at < n || memcmp(s->text + s->at, word, n) != 0) return false;
    s->at += n;
    return true;
}

/* XXXX of \uXXXX; -1 if it is not there. */
static int hex4(scan *s)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdefABCDEF", *d = next(s) ? strchr(digits, next(s)) : NULL;
        if (!d) return -1;
        int digit = (int)(d - digits);
        v = v << 4 | (digit < 16 ? digit : digit - 6);
        s->at++;
    }
    return v;
}

static bool escape(scan *s)
{
    s->at++;
    if (next(s) && strchr("\"\\/bfnrt", next(s))) return s->at++, true;
    if (!take(s, 'u')) return no(s, "an escape that JSON does not have");
    int c = hex4(s);
    if (c < 0) return no(s, "four hexadecimal digits are expected");
    if (c == 0) return no(s, "a NUL character");
    if (c < 0xD800 || c > 0xDFFF) return true;
    int low = c < 0xDC00 && take_word(s, "\\u") ? hex4(s) : -1;
    return (low >= 0xDC00 && low <= 0xDFFF) || no(s, "half of a surrogate pair");
}

static bool string(scan *s)
{
    if (!take(s, '"')) return no(s, "a string is expected");
    while (s->at < s->n && s->text[s->at] != '"') {
        unsigned char c = (unsigned char)s->text[s->at];
        int32_t code;
        const char *why;
        size_t length = 0;
        if (c < 32) return no(s, c ? "a control character in a string" : "a NUL character");
        if (c == '\\') {
            if (!escape(s)) return false;
        } else if (c < 128) {
            s->at++;
        } else if ((length = sd_utf8_one(s->text + s->at, s->n - s->at, &code, &why)) != 0) {
            s->at += length;
        } else {
            return no(s, "a byte that is not UTF-8");
        }
    }
    return take(s, '"') || no(s, "a string has no end");
}

static bool digits(scan *s)
{
    size_t from = s->at;
    while (next(s) >= '0' && next(s) <= '9') s->at++;
    return s->at > from || no(s, "a digit is expected");
}

static bool number(scan *s)
{
    take(s, '-');
    if (s->python && take_word(s, "Infinity")) return true;
    if (!take(s, '0') && !digits(s)) return false;
    if (take(s, '.') && !digits(s)) return false;
    if (!take(s, 'e') && !take(s, 'E')) return true;
    if (!take(s, '-')) take(s, '+');
    return digits(s);
}

static bool value(scan *s);

/* What stands between brackets, with commas between its items. */
static bool items(scan *s, char end, bool keys)
{
    s->at++;
    skip_space(s);
    if (take(s, end)) return true;
    for (;;) {
        skip_space(s);
        if (keys) {
            if (!string(s)) return false;
            skip_space(s);
            if (!take(s, ':')) return no(s, "a colon is expected");
        }
        if (!value(s)) return false;
        skip_space(s);
        if (take(s, end)) return true;
        if (!take(s, ',')) return no(s, "a comma or the end of a list or object is expected");
    }
}

static bool value(scan *s)
{
    if (++s->values > MOST_VALUES) return no(s, "more than 1048576 values");
    if (s->values % 4096 == 0 && sd_stopped(s->e)) return no(s, "cancelled");
    skip_space(s);
    char c = next(s);
    if (c == '"') return string(s);
    if (c == '-' || (c >= '0' && c <= '9') || (s->python && c == 'I')) return number(s);
    if (c == '[' || c == '{') {
        if (++s->depth > MOST_NESTED) return no(s, "lists and objects are nested too deep");
        bool good = items(s, c == '[' ? ']' : '}', c == '{');
        s->depth--;
        return good;
    }
    return take_word(s, "null") || take_word(s, "true") || take_word(s, "false") || no(s, "a value is expected");
}

static sd_status check(const char *text, size_t n, bool python, const char *what, sd_error *e)
{
    scan s = {.text = text, .n = n, .python = python, .e = e};
    if (value(&s)) {
        skip_space(&s);
        if (s.at == n) return SD_OK;
        no(&s, "there is more after its end");
    }
    return sd_fail(e, SD_ERR_FORMAT, "%s is not JSON from byte %zu on: %s", what, s.at, s.why);
}

/* -------------------------------------------------------------------------------------- reading */

const char *sd_json_kind(const cJSON *j)
{
    return cJSON_IsNull(j) ? "null" : cJSON_IsBool(j) ? "true or false" : cJSON_IsNumber(j) ? "a number"
         : cJSON_IsString(j) ? "text" : cJSON_IsArray(j) ? "a list" : cJSON_IsObject(j) ? "an object" : "nothing";
}

static cJSON *parse(const char *text, size_t n, const char *what, sd_error *e)
{
    cJSON *root = cJSON_ParseWithLength(text, n);
    if (!root) sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", what);
    else if (!cJSON_IsObject(root))
        sd_fail(e, SD_ERR_FORMAT, "%s: expected a JSON object, found %s", what, sd_json_kind(root));
    else return root;
    cJSON_Delete(root);
    return NULL;
}

cJSON *sd_json_parse(const char *text, size_t n, const char *what, sd_error *e)
{
    return check(text, n, false, what, e) ? NULL : parse(text, n, what, e);
}

/* JSON has no word for infinity; a number too large for a double is one. */
static void spell_infinity(char *text, size_t n)
{
    static const char word[] = "Infinity", large[] = "1e999   ";
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && text[i] == '\\') i++;
        else if (text[i] == '"') quoted = !quoted;
        else if (!quoted && n - i >= sizeof word - 1 && memcmp(text + i, word, sizeof word - 1) == 0)
            memcpy(text + i, large, sizeof large - 1);
    }
}

typedef struct member { cJSON *item; size_t place; } member;

/* By key, then by place. */
static int by_key(const void *a, const void *b)
{
    const member *x = a, *y = b;
    int side = strcmp(x->item->string, y->item->string);
    return side ? side : x->place < y->place ? -1 : 1;
}

/* Of equal keys the last one stays. */
static bool settle_keys(cJSON *object)
{
    size_t n = 0, i = 0;
    for (const cJSON *x = object->child; x; x = x->next) n++;
    member *list = malloc((n + 1) * sizeof *list);
    if (!list) return false;
    for (cJSON *x = object->child; x; x = x->next, i++) list[i] = (member){x, i};
    qsort(list, n, sizeof *list, by_key);
    for (i = 1; i < n; i++)
        if (strcmp(list[i - 1].item->string, list[i].item->string) == 0)
            cJSON_Delete(cJSON_DetachItemViaPointer(object, list[i - 1].item));
    free(list);
    return true;
}

static bool settle(cJSON *j)
{
    if (cJSON_IsObject(j) && !settle_keys(j)) return false;
    for (cJSON *x = j->child; x; x = x->next)
        if (!settle(x)) return false;
    return true;
}

cJSON *sd_json_read(const char *path, size_t max, sd_error *e)
{
    char *text;
    size_t n;
    if (sd_read_file(path, max, &text, &n, e)) return NULL;
    cJSON *root = NULL;
    if (!check(text, n, true, path, e)) {
        spell_infinity(text, n);
        root = parse(text, n, path, e);
    }
    free(text);
    if (!root || settle(root)) return root;
    sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
    cJSON_Delete(root);
    return NULL;
}

#else

typedef int sd_json_is_empty;   /* C99 asks for a declaration */

#endif
