/* compare_added.c - floor 6: what each module adds, measured: a third trace, of one program that went on with the
 * other's tensors (--inject), has what it makes of these inputs. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

/* How many letters at the end of two paths are the same, if these are a whole name of a file at least; else 0. */
static size_t common_end(const char *a, const char *b)
{
    size_t m = strlen(a), n = strlen(b), same = 0;
    while (m && a[m - 1] == '/') m--;
    while (n && b[n - 1] == '/') n--;
    const char *end = a + m;
    while (same < m && same < n && a[m - 1 - same] == b[n - 1 - same]) same++;
    const char *slash = end;
    while (slash > a && slash[-1] != '/') slash--;
    size_t name = (size_t)(end - slash);
    return same >= name && (same == n || b[n - 1 - name] == '/') ? same : 0;
}

/* With whose tensors did that run go on? 0: REF's, 1: MINE's. */
static sd_status side_of(const sd_comparison *c, const char *path, int *side, sd_error *e)
{
    sd_tensors t;
    if (sd_tensors_open(&t, path, e)) return e->status;
    const char *with = sd_pair_find(t.meta, t.n_meta, SD_NOTE_INJECTED);
    size_t ref = with ? common_end(with, c->ref.path) : 0, mine = with ? common_end(with, c->mine.path) : 0;
    if (!with)
        sd_fail(e, SD_ERR_ARG, "%.200s does not say of itself that its run went on with another one's tensors: make it "
                "with --inject", path);
    else if (sd_pair_find(t.meta, t.n_meta, SD_NOTE_INJECTED_ONLY))
        sd_fail(e, SD_ERR_ARG, "%.200s went on with a part of another run's tensors alone, so that it has inherited "
                "errors, too: make it without --inject-filter", path);
    else if (ref == mine)
        sd_fail(e, SD_ERR_ARG, "%.120s went on with the tensors of %.120s: expected REF or MINE, that is, %.100s or "
                "%.100s", path, with, c->ref.path, c->mine.path);
    *side = mine > ref;
    sd_tensors_close(&t);
    return e->status;
}

/* The largest own error of a module's tensors, in times what one operation may be off. */
static void measure(sd_added *m, const sd_comparison *own)
{
    m->added = m->times = -1;
    m->at = NULL;
    for (size_t i = 0; i < own->n; i++) {
        const sd_compared *r = &own->row[i];
        if (!sd_has_error(r) || strncmp(r->key, m->name, m->length) != 0) continue;
        if (sd_module_length(r->key) != m->length || (m->at && !(sd_times(r) > m->times))) continue;
        m->added = r->error;
        m->times = sd_times(r);
        m->at = r;
    }
}

static sd_status open_own(sd_comparison *c, const sd_compare_options *o, sd_error *e)
{
    sd_compare_options given = *o;
    int side = 0;
    if (side_of(c, o->injected, &side, e)) return e->status;
    c->own = calloc(1, sizeof *c->own);
    if (!c->own) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %.200s", o->injected);
    if (!side) given.n_calls = 0;
    if (!sd_comparison_make(c->own, side ? o->injected : c->ref.path, side ? c->mine.path : o->injected, &given, e) &&
        !sd_compare_levels_apart(c->own, e))
        sd_compare_judge(c->own);
    c->own_side = side;
    return e->status;
}

sd_status sd_compare_added(sd_comparison *c, const sd_compare_options *o, sd_error *e)
{
    if (e->status || sd_compare_modules(c, e) || (o->injected && open_own(c, o, e))) return e->status;
    const sd_comparison *own = o->injected ? c->own : c->apart ? c : NULL;
    for (size_t i = 0; i < c->n_modules && own; i++) {
        measure(&c->module[i], own);
        if (own == c) c->module[i].inherited = c->module[i].error = -1;   /* there is no run that inherits */
        c->added += c->module[i].times > 1;
    }
    c->measured = own != NULL;
    return e->status;
}
