/* inspect_write.c - floor 6: pieces of the texts and the JSON of `sd inspect`: sizes, counts, shapes, paragraphs,
 * values. */
#include "inspect.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *sd_size_text(char out[SD_SIZE_TEXT], double bytes)
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
    int u = 0;
    double x = bytes;
    for (; x >= 999.5 && u < 4; u++) x /= 1000;
    if (u == 0) snprintf(out, SD_SIZE_TEXT, "%.0f bytes", bytes);
    else snprintf(out, SD_SIZE_TEXT, "%.*f %s", x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x, units[u]);
    return out;
}

const char *sd_count_text(char out[SD_SIZE_TEXT], uint64_t n)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), to = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = 0;
    return out;
}

void sd_add_shape(sd_text *t, int nd, const int64_t *dim)
{
    sd_text_add(t, "[");
    for (int i = 0; i < nd; i++) sd_text_add(t, "%s%lld", i ? "," : "", (long long)dim[i]);
    sd_text_add(t, "]");
}

const char *sd_next_line(const char **at, int *n)
{
    const char *line = *at, *end = line ? strchr(line, '\n') : NULL;
    if (!end) return NULL;
    *n = (int)(end - line);
    *at = end + 1;
    return line;
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Words of a line, broken before `columns`; lines after the first begin with `indent` blanks. `used`: what stands on
 * the first already. Blanks of all kinds become single ones, control characters '?'. */
static void wrap(sd_text *t, int columns, int indent, int used, const char *s, size_t n)
{
    int at = used;
    for (size_t i = 0; i < n;) {
        size_t blank = i;
        while (i < n && is_blank(s[i])) i++;
        size_t word = i;
        while (i < n && !is_blank(s[i])) i++;
        int width = (int)(i - word), gap = word > blank;
        if (width == 0) break;
        if (at + gap + width > columns && at > indent) {
            sd_text_add(t, "\n%*s", indent, "");
            at = indent;
            gap = 0;
        }
        sd_text_add(t, "%*s", gap, "");
        for (size_t k = word; k < i; k++) sd_text_add(t, "%c", (unsigned char)s[k] < 32 || s[k] == 127 ? '?' : s[k]);
        at += gap + width;
    }
    sd_text_add(t, "\n");
}

void sd_add_paragraph(sd_text *t, const sd_inspect_options *o, int indent, const char *s, size_t n)
{
    sd_text_add(t, "%*s", indent, "");
    wrap(t, o->columns, indent + 2, indent, s, n);
}

void sd_add_words(sd_text *t, const sd_inspect_options *o, int indent, sd_text *words)
{
    if (words->s) sd_add_paragraph(t, o, indent, words->s, words->n);
    t->failed = t->failed || words->failed;
    free(words->s);
    *words = (sd_text){0};
}

/* -------------------------------------------------------------------------------------------- JSON */

void sd_add_json_text(sd_text *t, const char *key, const char *value)
{
    sd_text_add(t, "%s", key);
    if (value) sd_text_quoted(t, value);
    else sd_text_add(t, "null");
}

/* JSON has no NaN and no infinities: they are texts. */
void sd_add_json_number(sd_text *t, const char *key, double x)
{
    char digits[SD_NUMBER_SIZE];
    const char *quote = isfinite(x) ? "" : "\"";
    sd_text_add(t, "%s%s%s%s", key, quote, sd_number_text(digits, x), quote);
}

/* "a" and so on for each line of a text, without the brackets. */
void sd_add_json_lines(sd_text *t, const char *lines)
{
    const char *at = lines, *line;
    int n;
    for (bool first = true; (line = sd_next_line(&at, &n)) != NULL; first = false) {
        sd_text one = {0};
        sd_text_add(&one, "%.*s", n, line);
        sd_add_json_text(t, first ? "" : ",", one.s ? one.s : "");
        free(one.s);
    }
}

