/* base.c - floor 0: errors that stick, the arena, lists and texts that grow. */
#include "base.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ errors */

const char *sd_status_name(sd_status status)
{
    static const char *const names[] = {"ok", "argument", "io", "format", "shape", "missing",
                                        "unsupported", "memory", "numeric", "cancelled"};
    return (size_t)status < SD_COUNT(names) ? names[status] : "unknown";
}

sd_status sd_fail_at(sd_error *e, const char *file, int line, sd_status status, const char *fmt, ...)
{
    if (e->status != SD_OK) return e->status;   /* the first message is the cause */
    const char *slash = strrchr(file, '/');
    snprintf(e->place, sizeof e->place, "%s:%d", slash ? slash + 1 : file, line);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    for (char *c = e->text; *c; c++)            /* names come from files: keep the sentence on one line */
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    return e->status = status;
}

void sd_error_clear(sd_error *e)
{
    e->status = SD_OK;
    e->text[0] = e->place[0] = 0;
}

bool sd_fail_if_stopped(sd_error *e)
{
    if (e->status == SD_OK && sd_stop_requested(e)) sd_fail(e, SD_ERR_CANCELLED, "cancelled");
    return e->status != SD_OK;
}

sd_status sd_errno_status(int why)
{
    static const struct { int why; sd_status status; } known[] = {
        {ENOENT, SD_ERR_MISSING}, {ENOTDIR, SD_ERR_MISSING}, {EISDIR, SD_ERR_ARG}, {ENOMEM, SD_ERR_MEMORY},
#ifdef ELOOP
        {ELOOP, SD_ERR_ARG},
#endif
        {ENAMETOOLONG, SD_ERR_ARG},
    };
    for (size_t i = 0; i < SD_COUNT(known); i++)
        if (known[i].why == why) return known[i].status;
    return SD_ERR_IO;
}

void sd_logf(const sd_log *log, int level, const char *fmt, ...)
{
    if (!log || !log->fn) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log->fn(log->user, level, line);
}

/* ----------------------------------------------------------------------------- memory and the arena */

sd_status sd_need_memory(sd_error *e, double bytes, const char *fmt, ...)
{
    enum { NOT_WORTH_ASKING = 64 << 20 };
    char what[256];
    uint64_t allowed = e->halt ? e->halt->memory : 0;
    if (e->status || (!allowed && bytes < NOT_WORTH_ASKING)) return e->status;
    uint64_t left = allowed ? allowed : sd_memory_left();
    if (bytes <= (double)left) return SD_OK;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return sd_fail(e, SD_ERR_MEMORY, "%s takes %.3g GB of memory, and %.3g GB are %s", what, bytes / 1e9,
                   (double)left / 1e9,
                   allowed ? "allowed" : "free");
}

static size_t aligned(size_t bytes) { return (bytes + SD_ALIGN - 1) / SD_ALIGN * SD_ALIGN; }
static bool too_wide(const sd_arena *a, size_t rounded) { return a->part && rounded > a->part; }

size_t sd_arena_place(const sd_arena *a, size_t mark, size_t bytes)
{
    size_t rounded = aligned(bytes), left = a->part ? a->part - mark % a->part : SIZE_MAX;
    return rounded <= left || too_wide(a, rounded) || mark > SIZE_MAX - left ? mark : mark + left;
}

void *sd_arena_alloc(sd_arena *a, size_t bytes, bool *full)
{
    *full = false;
    if (bytes > SIZE_MAX - SD_ALIGN - a->used) {
        *full = true;
        return NULL;
    }
    size_t rounded = aligned(bytes), at = sd_arena_place(a, a->used, bytes);
    if (rounded > SIZE_MAX - at || (a->base && (a->size < at || a->size - at < rounded || too_wide(a, rounded)))) {
        *full = true;
        return NULL;
    }
    a->used = at + rounded;
    if (a->used > a->peak) a->peak = a->used;
    if (rounded > a->widest) a->widest = rounded;
    return a->base ? a->base + at : NULL;
}

/* ------------------------------------------------------------------------------- lists and bytes */

void *sd_grow(void *list, size_t n, size_t *cap, size_t first, size_t size)
{
    if (n < *cap) return list;
    size_t more = *cap ? 2 * *cap : first;
    void *grown = more <= SIZE_MAX / size ? realloc(list, more * size) : NULL;
    if (grown) *cap = more;
    return grown;
}

uint64_t sd_from_little_endian(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t x = 0;
    while (n-- > 0) x = x << 8 | p[n];
    return x;
}

/* --------------------------------------------------------------------------- strings and names */

bool sd_begins_with(const char *s, const char *beginning) { return strncmp(s, beginning, strlen(beginning)) == 0; }

bool sd_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

bool sd_has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    if (n <= m || path[n - m - 1] == '/') return false;
    for (size_t i = 0; i < m; i++)
        if (tolower((unsigned char)path[n - m + i]) != ending[i]) return false;
    return true;
}

char *sd_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = malloc(n);
    if (copy) memcpy(copy, s, n);
    return copy;
}

static bool text_room(sd_text *t, size_t n)
{
    if (t->failed) return false;
    if (n < t->cap - t->n && t->cap) return true;
    size_t cap = t->cap ? t->cap : 256;
    while (cap - t->n <= n) {
        if (cap > SIZE_MAX / 2) {
            t->failed = true;
            return false;
        }
        cap *= 2;
    }
    char *s = realloc(t->s, cap);
    if (!s) {
        t->failed = true;
        return false;
    }
    t->s = s;
    t->cap = cap;
    return true;
}

void sd_text_addn(sd_text *t, const char *s, size_t n)
{
    if (!text_room(t, n)) return;
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void sd_text_add(sd_text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) t->failed = true;
    if (n >= 0 && text_room(t, (size_t)n)) {
        vsnprintf(t->s + t->n, (size_t)n + 1, fmt, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

/* Matches a pattern. After a mismatch it goes back to one place only: the last star. */
static bool glob_n(const char *p, const char *p_end, const char *s)
{
    const char *star = NULL, *retry = NULL;
    while (*s) {
        if (p < p_end && *p == '*') {
            star = p++;
            retry = s;
        } else if (p < p_end && (*p == '?' || *p == *s)) {
            p++;
            s++;
        } else if (star) {
            p = star + 1;
            s = ++retry;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*') p++;
    return p == p_end;
}

/* The next character that counts (sd_after_name), in lower case; 0 at the end. Moves *s past it. */
static char next_letter(const char **s)
{
    while (**s && strchr(" \t_-()[]", **s)) (*s)++;
    char c = **s;
    if (c) (*s)++;
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c == '+' ? 'p' : c;
}

const char *sd_after_name(const char *text, const char *name)
{
    char want;
    while ((want = next_letter(&name)) != 0)
        if (next_letter(&text) != want) return NULL;
    while (*text && strchr(" \t_-()[]", *text)) text++;
    return text;
}

bool sd_same_name(const char *a, const char *b)
{
    const char *rest = sd_after_name(a, b);
    return rest && !*rest;
}

bool sd_glob(const char *pattern, const char *name)
{
    return glob_n(pattern, pattern + strlen(pattern), name);
}

bool sd_glob_list(const char *list, const char *name)
{
    if (!list || !*list) return true;
    for (;;) {
        const char *end = strchr(list, ',');
        if (!end) return sd_glob(list, name);
        if (glob_n(list, end, name)) return true;
        list = end + 1;
    }
}

/* ------------------------------------------------------------------------------------------ dtypes */

/* `bytes` hold `block` numbers. A type without a block size has one number in a block. */
static const struct { const char *name; size_t bytes, block; bool is_float; } dtypes[] = {
    [SD_F32] = {"F32", 4, 1, true},
    [SD_F16] = {"F16", 2, 1, true},
    [SD_BF16] = {"BF16", 2, 1, true},
    [SD_F64] = {"F64", 8, 1, true},
    [SD_I64] = {"I64", 8, 1, false},
    [SD_I32] = {"I32", 4, 1, false},
    [SD_I16] = {"I16", 2, 1, false},
    [SD_I8] = {"I8", 1, 1, false},
    [SD_U8] = {"U8", 1, 1, false},
    [SD_BOOL] = {"BOOL", 1, 1, false},
    [SD_F8_E4M3] = {"F8_E4M3", 1, 1, true},
    [SD_F8_E5M2] = {"F8_E5M2", 1, 1, true},
    [SD_Q8_0] = {"Q8_0", 34, 32, true},
    [SD_Q4_0] = {"Q4_0", 18, 32, true},
    [SD_Q4_1] = {"Q4_1", 20, 32, true},
    [SD_Q5_0] = {"Q5_0", 22, 32, true},
    [SD_Q5_1] = {"Q5_1", 24, 32, true},
    [SD_Q2_K] = {"Q2_K", 84, 256, true},
    [SD_Q3_K] = {"Q3_K", 110, 256, true},
    [SD_Q4_K] = {"Q4_K", 144, 256, true},
    [SD_Q5_K] = {"Q5_K", 176, 256, true},
    [SD_Q6_K] = {"Q6_K", 210, 256, true},
};

static bool is_dtype(sd_dtype d) { return (size_t)d < SD_COUNT(dtypes); }
size_t sd_dtype_block(sd_dtype d) { return is_dtype(d) ? dtypes[d].block : 1; }
size_t sd_dtype_size(sd_dtype d) { return is_dtype(d) && dtypes[d].block == 1 ? dtypes[d].bytes : 0; }
size_t sd_dtype_bytes(sd_dtype d, size_t n) { return is_dtype(d) ? n / dtypes[d].block * dtypes[d].bytes : 0; }
bool sd_dtype_is_float(sd_dtype d) { return is_dtype(d) && dtypes[d].is_float; }
const char *sd_dtype_name(sd_dtype d) { return is_dtype(d) ? dtypes[d].name : "?"; }

void sd_copy_struct(void *to, size_t size, const void *full, size_t full_size)
{
    size_t n = size < full_size ? size : full_size;
    memcpy(to, full, n);
    memset((char *)to + n, 0, size - n);
}
