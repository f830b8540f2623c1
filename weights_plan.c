/* weights_plan.c - floor 3: what is to be written into a file of tensors: checked, whatever the format. */
#include "unicode.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#define WHOLE_MAX 9007199254740991u   /* 2^53 - 1: up to here a number of JSON, read as a double, is exact */

/* Readers will accept the name. */
static sd_status check_name(const char *name, const char *path, sd_error *e)
{
    size_t n = strlen(name);
    if (!sd_tensor_name_ok(name))
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: \"%.100s\" cannot be a tensor's name: empty and control "
                       "characters are not possible", path, name);
    const char *why;
    size_t at = sd_utf8_fault(name, n, &why);
    if (at < n)
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: the name of a tensor is not UTF-8: byte %zu, 0x%02x, %s", path,
                       at, (unsigned char)name[at], why);
    return SD_OK;
}

sd_status sd_plan_bytes(const sd_traced *t, uint64_t *bytes, const char *path, sd_error *e)
{
    size_t block = sd_dtype_block(t->dtype), size = sd_dtype_bytes(t->dtype, block);
    uint64_t n = 1;
    if (!t->name || !*t->name || !size || t->nd < 0 || (size_t)t->nd > SD_COUNT(t->dim))
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: a tensor needs a name, a known dtype and at most 4 dimensions",
                       path);
    for (int i = 0; i < t->nd; i++) {
        if (t->dim[i] < 0 || (t->dim[i] && n > WHOLE_MAX / size / (uint64_t)t->dim[i]))
            return sd_fail(e, SD_ERR_ARG, "cannot write %s: the shape of \"%.100s\" is out of range", path, t->name);
        n *= (uint64_t)t->dim[i];
    }
    int64_t row = t->nd ? t->dim[t->nd - 1] : 1;
    if ((uint64_t)row % block)
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: the rows of \"%.100s\" have %lld numbers, which are no whole "
                       "blocks of %zu as %s has them", path, t->name, (long long)row, block, sd_dtype_name(t->dtype));
    *bytes = n / block * size;
    return check_name(t->name, path, e);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Two of n texts that are the same; NULL: there are none. */
static const char *find_twice(const char **text, size_t n)
{
    qsort(text, n, sizeof *text, by_text);
    for (size_t i = 1; i < n; i++)
        if (strcmp(text[i - 1], text[i]) == 0) return text[i];
    return NULL;
}

sd_status sd_plan_check(const sd_file_plan *p, const char *path, sd_error *e)
{
    uint64_t bytes;
    for (size_t i = 0; i < p->n; i++)
        if (sd_plan_bytes(&p->tensor[i], &bytes, path, e)) return e->status;
    for (size_t i = 0; i < p->n_meta; i++)
        if (sd_utf8_check(p->meta[i].key, "a key of its metadata", e) ||
            sd_utf8_check(p->meta[i].value, p->meta[i].key, e))
            return e->status;
    size_t most = p->n > p->n_meta ? p->n : p->n_meta;
    const char **text = malloc((most + 1) * sizeof *text), *twice;
    if (!text) return sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path);
    for (size_t i = 0; i < p->n; i++) text[i] = p->tensor[i].name;
    if ((twice = find_twice(text, p->n)))
        sd_fail(e, SD_ERR_ARG, "cannot write %s: two tensors are called \"%.100s\"", path, twice);
    for (size_t i = 0; i < p->n_meta; i++) text[i] = p->meta[i].key;
    if (!e->status && (twice = find_twice(text, p->n_meta)))
        sd_fail(e, SD_ERR_ARG, "cannot write %s: two texts have the key \"%.100s\"", path, twice);
    free(text);
    return e->status;
}
