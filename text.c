/* text.c - floor 0: numbers and JSON strings in texts, and how far one word is from another. */
#include "text.h"
#include "unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- numbers
 * printf writes and strtod expects the locale's decimal separator, which may be any character, of several bytes too. */

static bool in_number(char c) { return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == 'e' || c == 'E'; }

/* Where the search for the fewest digits begins. If the nearest number of 15 digits is not x, none of fewer digits is:
 * they are further away. Below a power of two numbers are nearer to each other than above, so there it may be. */
static int least_digits(double x)
{
    char local[64];
    int exponent;
    snprintf(local, sizeof local, "%.15g", x);
    return strtod(local, NULL) == x || fabs(frexp(x, &exponent)) == 0.5 ? 1 : 16;
}

const char *sd_number_text(char out[SD_NUMBER_SIZE], double x)
{
    char local[64], *to = out;
    if (!isfinite(x)) {
        snprintf(out, SD_NUMBER_SIZE, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
        return out;
    }
    for (int digits = least_digits(x); digits <= 17; digits++) {
        snprintf(local, sizeof local, "%.*g", digits, x);
        if (strtod(local, NULL) == x) break;
    }
    bool between = false;   /* within the separator */
    for (const char *c = local; *c; c++) {
        bool number = in_number(*c);
        if (number) *to++ = *c;
        else if (!between) *to++ = '.';
        between = !number;
    }
    *to = 0;
    return out;
}

const char *sd_plain_number(char out[SD_NUMBER_SIZE], double x)
{
    if (!(fabs(x) < 1e9) || x != floor(x)) return sd_number_text(out, x);
    snprintf(out, SD_NUMBER_SIZE, "%.0f", x);
    return out;
}

bool sd_number_in_locale(double *out, const char *text, size_t n, char *room)
{
    char one[16], *to = room, *end;
    snprintf(one, sizeof one, "%.1f", 0.5);   /* 0, separator, 5 */
    size_t separator = strlen(one) - 2;
    for (size_t i = 0; i < n; i++) {
        if (text[i] != '.') {
            *to++ = text[i];
        } else {
            memcpy(to, one + 1, separator);
            to += separator;
        }
    }
    *to = 0;
    *out = strtod(room, &end);
    return end == to;
}

bool sd_number_read(double *out, const char *text)
{
    char room[64 + SD_NUMBER_SIZE];
    size_t n = strlen(text);
    const char *point = strchr(text, '.');
    if (strcmp(text, "inf") == 0) {
        *out = INFINITY;
        return true;
    }
    if (n == 0 || n > 64 || (point && strchr(point + 1, '.'))) return false;
    for (const char *c = text; *c; c++)
        if (*c != '.' && !in_number(*c)) return false;
    return sd_number_in_locale(out, text, n, room) && isfinite(*out);
}

/* --------------------------------------------------------------------------------- JSON strings */

static const char escapes[] = "\"\"\\\\b\bf\fn\nr\rt\t//";   /* letter, what it stands for */

void sd_text_quoted(sd_text *t, const char *s)
{
    sd_text_addn(t, "\"", 1);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        const char *e = escapes;
        while (*e && (e[1] != *s || *e == '/')) e += 2;
        if (*e) sd_text_add(t, "\\%c", *e);
        else if (c < 32) sd_text_add(t, "\\u%04x", c);
        else sd_text_addn(t, s, 1);
    }
    sd_text_addn(t, "\"", 1);
}

/* Appends four hexadecimal digits to *v and moves *at past them; false at the first character that is no digit. */
static bool hex4(const char *s, size_t n, size_t *at, int32_t *v)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    *v = 0;
    for (size_t end = *at + 4; *at < end; ++*at) {
        const char *found = *at < n && s[*at] ? strchr(digits, s[*at]) : NULL;
        if (!found) return false;
        *v = *v * 16 + (int32_t)(found - digits < 16 ? found - digits : found - digits - 6);
    }
    return true;
}

size_t sd_json_escape(const char *s, size_t n, int32_t *c, const char **why)
{
    size_t at = 2;
    int32_t low = 0;
    const char *e = escapes;
    *why = NULL;
    if (n < 2 || s[1] != 'u') {
        while (n > 1 && *e && *e != s[1]) e += 2;
        if (n > 1 && *e) return *c = e[1], at;
        return *why = "an escape that JSON does not have", at - 1;
    }
    if (!hex4(s, n, &at, c)) return *why = "four hexadecimal digits are expected", at;
    if (*c == 0) return *why = "a NUL character", at;
    if (*c < 0xD800 || *c > 0xDFFF) return at;
    if (*c < 0xDC00 && at + 1 < n && s[at] == '\\' && s[at + 1] == 'u') {
        at += 2;
        if (!hex4(s, n, &at, &low)) low = 0;
    }
    if (low < 0xDC00 || low > 0xDFFF) return *why = "half of a surrogate pair", at;
    *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
    return at;
}

enum { LONGEST_ESCAPE = 12 };   /* \uXXXX\uXXXX; a NUL is no valid character of an escape, so reading stops there */

/* The end of the string that begins at s, after its closing quote; NULL if it breaks the rules. */
static const char *quoted_end(const char *s)
{
    int32_t c;
    const char *why;
    for (s++; *s && *s != '"';) {
        if ((unsigned char)*s < 32) return NULL;
        why = NULL;
        s += *s == '\\' ? sd_json_escape(s, LONGEST_ESCAPE, &c, &why) : 1;
        if (why) return NULL;
    }
    return *s ? s + 1 : NULL;
}

char *sd_text_unquote(char *s, char **out)
{
    const char *end = quoted_end(s), *from = s + 1, *why;
    char *to = s;
    if (!end) return NULL;
    *out = s;
    while (from < end - 1) {
        int32_t c;
        if (*from != '\\') {
            *to++ = *from++;
        } else {
            from += sd_json_escape(from, LONGEST_ESCAPE, &c, &why);
            unsigned char utf8[4];
            size_t n = sd_utf8_encode(utf8, c);
            memcpy(to, utf8, n);
            to += n;
        }
    }
    *to = 0;
    return s + (end - s);
}

bool sd_is_utf8(const char *text, size_t n)
{
    const char *why;
    return sd_utf8_fault(text, n, &why) == n;
}

/* -------------------------------------------------------------------------------------- spelling */

size_t sd_edit_distance(const char *a, size_t m, const char *b, size_t n, bool open, bool ends_open)
{
    size_t row[SD_MOST_LETTERS + 1];
    if (n > SD_MOST_LETTERS) n = SD_MOST_LETTERS;
    for (size_t j = 0; j <= n; j++) row[j] = open ? 0 : j;
    for (size_t i = 0; i < m; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    size_t least = row[n];
    for (size_t j = 0; j <= n && ends_open; j++)
        if (row[j] < least) least = row[j];
    return least;
}
