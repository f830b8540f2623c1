/* prompt.c - floor 6: finds other programs' syntax for weights and adapters in a prompt. Here it has no meaning and is
 * tokenized like any text. The picture is then not the one that was meant, so there is a warning. */
#include "pipeline.h"

#include <string.h>

enum { FAR = 200 };   /* bytes in which a closing bracket is searched */

/* The length up to and including the closing bracket; 0: there is none within FAR. */
static size_t bracket_length(const char *s, char close)
{
    for (size_t n = 0; n < FAR && s[n]; n++)
        if (s[n] == close) return n + 1;
    return 0;
}

/* The length of an adapter, "lora:...>", after a '<'; 0: there is none. */
static size_t adapter_length(const char *s)
{
    static const char *const names[] = {"lora:", "lyco:", "locon:", "hypernet:", "embedding:"};
    for (size_t i = 0; i < SD_COUNT(names); i++)
        if (strncmp(s, names[i], strlen(names[i])) == 0) return bracket_length(s, '>');
    return 0;
}

/* Does s[0..n) end in a weight, ":1.3)"? */
static bool ends_in_weight(const char *s, size_t n)
{
    size_t i = n - 1;
    while (i > 0 && strchr("0123456789. -", s[i - 1])) i--;
    return i < n - 1 && i > 0 && s[i - 1] == ':';
}

/* The length of the weight or adapter that begins at s; 0: none. Brackets in prose, "(seen from above)", are none. */
static size_t syntax_length(const char *s)
{
    size_t n = 0;
    switch (*s) {
    case '<': n = adapter_length(s + 1); break;
    case '[': n = bracket_length(s + 1, ']'); break;
    case '(':
        n = bracket_length(s + 1, ')');
        if (n && s[1] != '(' && !ends_in_weight(s + 1, n)) n = 0;
        break;
    case '\\': return strchr("()[]", s[1]) && s[1] ? 2 : 0;
    default: break;
    }
    return n ? n + 1 : 0;
}

void sd_warn_of_syntax(const sd_log *log, const char *what, const char *text)
{
    for (; *text; text++) {
        size_t n = syntax_length(text);
        if (!n) continue;
        sd_logf(log, SD_LOG_WARNING,
                "%s has \"%.*s\": weights and adapters in prompts mean nothing here, it is read as plain text", what,
                (int)n, text);
        return;
    }
}
