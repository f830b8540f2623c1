/* compare_mapping.c - floor 6: the file of --names: names of MINE, and what they are in REF; and which of its lines did
 * nothing. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

enum { MAPPING_MAX = 16 << 20 };

/* If `name` fits `from`, in which one * stands for any text, `to` with that text in the place of its *; free() it. */
static char *renamed(const char *from, const char *to, const char *name)
{
    const char *star = strchr(from, '*'), *there = strchr(to, '*');
    if (!star) return strcmp(from, name) == 0 ? sd_strdup(to) : NULL;
    size_t head = (size_t)(star - from), tail = strlen(star + 1), n = strlen(name);
    if (n < head + tail || strncmp(from, name, head) != 0 || strcmp(star + 1, name + n - tail) != 0) return NULL;
    sd_text t = {0};
    if (!there) return sd_strdup(to);
    sd_text_add(&t, "%.*s%.*s%s", (int)(there - to), to, (int)(n - head - tail), name + head, there + 1);
    if (!t.failed) return t.s;
    free(t.s);
    return NULL;
}

/* A file that is no text would fit nothing, and all would be guessed. */
static sd_status check_text(const char *text, size_t n, const char *path, sd_error *e)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 32 && c != '\t' && c != '\n' && c != '\r')
            return sd_fail(e, SD_ERR_FORMAT, "%s: expected lines of two names, found the byte %d at %zu: it is no text",
                           path, c, i);
    }
    return SD_OK;
}

/* Renames those that fit the line and that no line before it has renamed. */
static void apply_line(sd_names *of, const sd_tensors *t, sd_mapping *m, const char *from, const char *to, int line)
{
    for (size_t i = 0; i < of->n; i++) {
        char *name = m->renamed[i].of ? NULL : renamed(from, to, of->name[i]);
        if (!name) continue;
        free(of->name[i]);
        of->name[i] = name;
        m->renamed[i] = (sd_mapped){t->at[i], line};
    }
}

static sd_status apply_lines(sd_names *of, const sd_tensors *t, sd_mapping *m, char *at, sd_error *e)
{
    char *from, *to;
    int line = 0, lines = 0;
    while (sd_next_words(&at, &from, &to, &line)) {
        if (!*to)
            return sd_fail(e, SD_ERR_FORMAT, "%s: line %d: expected MINE's name, a blank and REF's name, found "
                           "\"%.80s\" alone", m->path, line, from);
        apply_line(of, t, m, from, to, line);
        m->line[lines++] = line;
    }
    m->lines = lines;
    if (!lines) return sd_fail(e, SD_ERR_FORMAT, "%s: expected lines of two names, found none", m->path);
    return SD_OK;
}

sd_status sd_compare_map(sd_comparison *c, const char *path, sd_error *e)
{
    char *text;
    size_t n, breaks = 0;
    sd_mapping *m = &c->mapping;
    if (!path || sd_read_file(path, MAPPING_MAX, &text, &n, e)) return e->status;
    for (size_t i = 0; i < n; i++) breaks += text[i] == '\n';
    m->path = path;
    m->line = malloc((breaks + 1) * sizeof *m->line);
    m->n = c->mine.n;
    m->renamed = calloc(m->n + 1, sizeof *m->renamed);
    if (!m->line || !m->renamed) sd_fail(e, SD_ERR_MEMORY, "no memory to map names");
    else if (!check_text(text, n, path, e)) apply_lines(&c->key[1], &c->mine, m, text, e);
    free(text);
    return e->status;
}

/* ------------------------------------------------------------------------------------- what did nothing */

static int by_tensor(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const sd_mapped *)a)->of, y = (uintptr_t)((const sd_mapped *)b)->of;
    return (x > y) - (x < y);
}

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* The line that has led this tensor to its pair has done its work. */
static void mark(sd_mapping *m, const sd_entry *mine)
{
    const sd_mapped key = {.of = mine}, *at = bsearch(&key, m->renamed, m->n, sizeof key, by_tensor);
    int *line = at && at->of ? bsearch(&at->line, m->line, (size_t)m->lines, sizeof *m->line, by_number) : NULL;
    if (line) m->used[line - m->line] = true;
}

sd_status sd_compare_check_mapping(sd_comparison *c, sd_error *e)
{
    sd_mapping *m = &c->mapping;
    if (!m->path || e->status) return e->status;
    m->used = calloc((size_t)m->lines + 1, sizeof *m->used);
    if (!m->used) return sd_fail(e, SD_ERR_MEMORY, "no memory to map names");
    qsort(m->renamed, m->n, sizeof *m->renamed, by_tensor);
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        if (!r->ref || !r->mine || sd_is_guess(c, r)) continue;
        const sd_joined *j = sd_tensors_parts(&c->mine, r->mine);
        for (size_t k = 0; j && k < j->n; k++) mark(m, j->part[k]);
        mark(m, r->mine);
    }
    for (int i = m->lines; i-- > 0;) {
        if (m->used[i]) continue;
        m->unused++;
        m->first_unused = m->line[i];
    }
    return SD_OK;
}

void sd_mapping_free(sd_mapping *m)
{
    free(m->line);
    free(m->used);
    free(m->renamed);
}
