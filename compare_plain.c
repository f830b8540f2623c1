/* compare_plain.c - floor 6: a tensor's name without what says nothing of the module; sorted lists of names; files of
 * two words a line. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

/* Parts of paths that say nothing of the module. */
static const char *const passed_over[] = {"text_model", "module", "_orig_mod", "_forward_module",
                                          "_checkpoint_wrapped_module"};

static bool is_passed_over(const char *part, size_t n, bool last)
{
    static const char onnx[] = "_output_0", output[] = "output";
    for (size_t i = 0; i < SD_COUNT(passed_over); i++)
        if (strlen(passed_over[i]) == n && memcmp(passed_over[i], part, n) == 0) return true;
    if (!last) return false;
    return (n == sizeof output - 1 && memcmp(part, output, n) == 0) ||
           (n >= sizeof onnx - 1 && memcmp(part + n - (sizeof onnx - 1), onnx, sizeof onnx - 1) == 0);
}

static const char *const views[] = {" (view)", " (reshaped)", " (permuted)", " (transposed)", " (cont)", " (copy)"};

/* How many of the n letters end with one of these; if the name was cut, also with the beginning of one, " (" at least
 * [ggml.c, ggml_format_name]. */
static size_t view_at_end(const char *name, size_t n, bool cut)
{
    for (size_t i = 0; i < SD_COUNT(views); i++)
        for (size_t whole = strlen(views[i]), m = whole; m >= (cut ? 2 : whole); m--)
            if (n > m && memcmp(name + n - m, views[i], m) == 0) return m;
    return 0;
}

static size_t length_without_views(const char *name)
{
    size_t n = strlen(name), m;
    for (bool cut = n == GGML_LETTERS; (m = view_at_end(name, n, cut)) > 0; cut = false) n -= m;
    return n;
}

char *sd_plain_name(const char *name)
{
    sd_text t = {0};
    const char *end = name + length_without_views(name);
    sd_text_addn(&t, "", 0);
    for (const char *at = name; at < end;) {
        size_t n = strcspn(at, "./");
        if (n > (size_t)(end - at)) n = (size_t)(end - at);
        bool last = at + n == end;
        if (n && !(is_passed_over(at, n, last) && (t.n || !last))) {
            sd_text_add(&t, "%s", t.n ? "." : "");
            sd_text_addn(&t, at, n);
        }
        at += n + !last;
    }
    if (t.failed) {
        free(t.s);
        return NULL;
    }
    return t.s ? t.s : sd_strdup(name);
}

int sd_by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

bool sd_has_name(char *const *sorted, size_t n, const char *name)
{
    return n && bsearch(&name, sorted, n, sizeof *sorted, sd_by_text);
}

char **sd_sorted_names(const sd_names *of, sd_error *e)
{
    char **copy = malloc((of->n + 1) * sizeof *copy);
    if (!copy) {
        sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu names", of->n);
        return NULL;
    }
    memcpy(copy, of->name, of->n * sizeof *copy);
    if (of->n) qsort(copy, of->n, sizeof *copy, sd_by_text);
    return copy;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_named *)a)->name, ((const sd_named *)b)->name);
}

sd_status sd_index_names(sd_name_index *x, const sd_names *of, sd_error *e)
{
    x->n = 0;
    x->list = malloc((of->n + 1) * sizeof *x->list);
    if (!x->list) return sd_fail(e, SD_ERR_MEMORY, "no memory to compare %zu tensors", of->n);
    for (; x->n < of->n; x->n++) x->list[x->n] = (sd_named){of->name[x->n], x->n};
    if (x->n) qsort(x->list, x->n, sizeof *x->list, by_name);
    return SD_OK;
}

const sd_named *sd_find_name(const sd_name_index *x, const char *name)
{
    const sd_named key = {.name = name};
    return x->n ? bsearch(&key, x->list, x->n, sizeof key, by_name) : NULL;
}

bool sd_next_words(char **at, char **first, char **second, int *line)
{
    static const char blanks[] = " \t\r";
    while (*at && **at) {
        char *s = *at + strspn(*at, blanks), *end = strchr(s, '\n');
        *at = end ? end + 1 : s + strlen(s);
        if (end) *end = 0;
        ++*line;
        if (!*s || *s == '#') continue;
        *first = s;
        s += strcspn(s, blanks);
        if (*s) *s++ = 0;
        *second = s + strspn(s, blanks);
        (*second)[strcspn(*second, blanks)] = 0;
        return true;
    }
    return false;
}
