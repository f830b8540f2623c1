/* text.c - floor 0: numbers and JSON strings in texts, and how far one word is from another. */
#include "text.h"
#include "unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- numbers
 * printf and strtod write and want the locale's decimal separator, which may be any character of several bytes. */

static bool in_number(char c) { return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == 'e' || c == 'E'; }

const char *sd_number_text(char out[SD_NUMBER_SIZE], double x)
{
    char local[64], *to = out;
    if (!isfinite(x)) {
        snprintf(out, SD_NUMBER_SIZE, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
        return out;
    }
    for (int digits = 1; digits <= 17; digits++) {
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

bool sd_number_read(double *out, const char *text)
{
    char one[16], local[96], *to = local, *end;
    if (strcmp(text, "inf") == 0) {
        *out = INFINITY;
        return true;
    }
    snprintf(one, sizeof one, "%.1f", 0.5);   /* 0, separator, 5 */
    size_t separator = strlen(one) - 2;
    if (!*text || strlen(text) > 64) return false;
    for (const char *c = text; *c; c++) {
        if (*c == '.' && strchr(c + 1, '.')) return false;
        if (*c != '.' && !in_number(*c)) return false;
        if (*c != '.') *to++ = *c;
        else {
            memcpy(to, one + 1, separator);
            to += separator;
        }
    }
    *to = 0;
    *out = strtod(local, &end);
    return end == to && isfinite(*out);
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

/* Four hexadecimal digits; -1 if they are not. */
static int32_t hex4(const char *s)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdefABCDEF", *at = s[i] ? strchr(digits, s[i]) : NULL;
        if (!at) return -1;
        v = v * 16 + (int32_t)(at - digits < 16 ? at - digits : at - digits - 6);
    }
    return v;
}

/* The character of an escape \uXXXX at s (behind the backslash), a pair of surrogates included. Its length; 0: it is
 * none. */
static size_t read_u(const char *s, int32_t *c)
{
    int32_t high = hex4(s + 1), low = high >= 0xD800 && high < 0xDC00 && s[5] == '\\' && s[6] == 'u' ? hex4(s + 7) : -1;
    if (high <= 0) return 0;   /* U+0000 would end the text */
    *c = high;
    if (high < 0xD800 || high > 0xDFFF) return 5;
    if (low < 0xDC00 || low > 0xDFFF) return 0;
    *c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    return 11;
}

/* Where the string that begins at s ends, behind its quote; NULL if it breaks the rules. */
static const char *quoted_end(const char *s)
{
    int32_t c;
    for (s++; *s && *s != '"'; s++) {
        if ((unsigned char)*s < 32) return NULL;
        if (*s != '\\') continue;
        s++;
        size_t n = *s == 'u' ? read_u(s, &c) : 1;
        const char *e = escapes;
        while (*e && *e != *s) e += 2;
        if (!n || (!*e && *s != 'u')) return NULL;
        s += n - 1;
    }
    return *s ? s + 1 : NULL;
}

char *sd_text_unquote(char *s, char **out)
{
    const char *end = quoted_end(s);
    char *to = s;
    if (!end) return NULL;
    *out = s;
    for (const char *from = s + 1; from < end - 1; from++) {
        int32_t c;
        if (*from != '\\') {
            *to++ = *from;
        } else if (*++from == 'u') {
            from += read_u(from, &c) - 1;
            unsigned char utf8[4];
            size_t n = sd_utf8_encode(utf8, c);
            memcpy(to, utf8, n);
            to += n;
        } else {
            const char *e = escapes;
            while (*e != *from) e += 2;
            *to++ = e[1];
        }
    }
    *to = 0;
    return s + (end - s);
}

bool sd_is_utf8(const char *text, size_t n)
{
    const char *why;
    int32_t c;
    for (size_t at = 0, length; at < n; at += length)
        if (!(length = sd_utf8_one(text + at, n - at, &c, &why))) return false;
    return true;
}

/* -------------------------------------------------------------------------------------- spelling */

size_t sd_changes(const char *a, size_t m, const char *b, size_t n, bool open, bool ends_open)
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
