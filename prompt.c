/* prompt.c - floor 6: finds other programs' syntax for weights and adapters in a prompt. Here it means nothing and is
 * tokenized like any text, which gives another picture than was meant: a warning says so. */
#include "pipeline.h"

#include <string.h>

enum { FAR = 200 };   /* a closing bracket is looked for within so many bytes */

/* The length up to and including the closing bracket; 0: there is none near. */
static size_t bracket(const char *s, char close)
{
    for (size_t n = 0; n < FAR && s[n]; n++)
        if (s[n] == close) return n + 1;
    return 0;
}

/* The length of an adapter, "lora:...>", behind a '<'; 0: there is none. */
static size_t adapter(const char *s)
{
    static const char *const names[] = {"lora:", "lyco:", "locon:", "hypernet:", "embedding:"};
    for (size_t i = 0; i < SD_COUNT(names); i++)
        if (strncmp(s, names[i], strlen(names[i])) == 0) return bracket(s, '>');
    return 0;
}

/* s[0..n) ends in a weight, ":1.3)". */
static bool weighted(const char *s, size_t n)
{
    size_t i = n - 1;
    while (i > 0 && strchr("0123456789. -", s[i - 1])) i--;
    return i < n - 1 && i > 0 && s[i - 1] == ':';
}

/* The length of the weight or adapter that begins at s; 0: none does. Brackets in prose do not count: "(seen from
 * above)". */
static size_t construction(const char *s)
{
    size_t n = 0;
    switch (*s) {
    case '<': n = adapter(s + 1); break;
    case '[': n = bracket(s + 1, ']'); break;
    case '(':
        n = bracket(s + 1, ')');
        if (n && s[1] != '(' && !weighted(s + 1, n)) n = 0;
        break;
    case '\\': return strchr("()[]", s[1]) && s[1] ? 2 : 0;
    default: break;
    }
    return n ? n + 1 : 0;
}

void sd_warn_of_syntax(const sd_log *log, const char *what, const char *text)
{
    for (; *text; text++) {
        size_t n = construction(text);
        if (!n) continue;
        sd_logf(log, SD_LOG_WARNING,
                "%s has \"%.*s\": weights and adapters in prompts mean nothing here, it is read as plain text", what,
                (int)n, text);
        return;
    }
}
