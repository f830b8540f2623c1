/* compare_plain.c - floor 6: a tensor's name without what says nothing of the module, and sorted lists of names. */
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

/* GGML calls views of x "x (view)", "x (reshaped) (permuted)": the length of x [ggml.c, ggml_format_name]. */
static size_t length_without_views(const char *name)
{
    static const char *const views[] = {" (view)", " (reshaped)", " (permuted)", " (transposed)", " (cont)", " (copy)"};
    size_t n = strlen(name), i = 0;
    while (i < SD_COUNT(views)) {
        size_t m = strlen(views[i]);
        if (n > m && memcmp(name + n - m, views[i], m) == 0) {
            n -= m;
            i = 0;
        } else {
            i++;
        }
    }
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
