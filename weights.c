/* weights.c - floor 3: binds the tensors of a store to the fields of a network's weights, by tables. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 256 };

/* -------------------------------------------------------------------------------------- names */

/* diffusers renamed the VAE's attention in 2023; published SD 1.x folders have both
 * (ModelMixin._convert_deprecated_attention_blocks). */
static const struct { const char *now, *then; } renamed[] = {
    {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."},
};

static bool join(char name[NAME_MAX_BYTES], const char *prefix, const char *leaf)
{
    int n = snprintf(name, NAME_MAX_BYTES, "%s%s", prefix, leaf);
    return n >= 0 && n < NAME_MAX_BYTES;
}

static sd_entry *find_renamed(const sd_store *s, const char *name)
{
    char old[NAME_MAX_BYTES];
    for (size_t i = 0; i < SD_COUNT(renamed); i++) {
        const char *at = strstr(name, renamed[i].now);
        if (!at) continue;
        const char *rest = at + strlen(renamed[i].now);
        int n = snprintf(old, sizeof old, "%.*s%s%s", (int)(at - name), name, renamed[i].then, rest);
        return n >= 0 && (size_t)n < sizeof old ? sd_store_find(s, old) : NULL;
    }
    return NULL;
}

/* `name` is the diffusers name. */
static sd_entry *find(const sd_binder *b, const sd_bind_row *row, const char *name, const char *ldm)
{
    char other[NAME_MAX_BYTES];
    sd_entry *t = sd_store_find(b->store, name);
    size_t strip = b->strip ? strlen(b->strip) : 0;
    if (!t && strip && strncmp(name, b->strip, strip) == 0) t = sd_store_find(b->store, name + strip);
    if (!t && ldm && join(other, ldm, row->ldm ? row->ldm : row->hf)) t = sd_store_find(b->store, other);
    return t ? t : find_renamed(b->store, name);
}

/* ------------------------------------------------------------------------------------- shapes */

/* "oi33" with o and i from values. False: the row is absent. An unknown letter or a negative value is our mistake. */
static bool expected_shape(sd_binder *b, const sd_bind_row *row, const char *letters, const int64_t *values,
                           sd_tensor *out)
{
    *out = (sd_tensor){.dt = SD_F32};
    int64_t n = 1;
    bool absent = false;
    for (const char *c = row->shape; *c; c++) {
        const char *at = strchr(letters, *c);
        bool digit = *c >= '0' && *c <= '9';
        int64_t d = digit ? *c - '0' : at ? values[at - letters] : -1;
        if (d < 0 || (size_t)out->nd == SD_COUNT(out->dim) || (d && n > INT64_MAX / 8 / d)) {
            sd_fail(b->err, SD_ERR_ARG, "the binding table's shape \"%s\" of %s does not work out (at '%c')",
                    row->shape, row->hf, *c);
            return false;
        }
        absent = absent || d == 0;
        n *= d ? d : 1;
        out->dim[out->nd++] = d;
    }
    return !absent;
}

/* Number of dimensions without trailing ones. */
static int rank(int nd, const int64_t *dim)
{
    while (nd > 0 && dim[nd - 1] == 1) nd--;
    return nd;
}

static bool fits(const sd_entry *t, const sd_tensor *want)
{
    int n = rank(want->nd, want->dim);
    return rank(t->nd, t->dim) == n && memcmp(t->dim, want->dim, (size_t)n * sizeof t->dim[0]) == 0;
}

static const char *shape_text(char buf[128], int nd, const int64_t *dim)
{
    size_t at = (size_t)snprintf(buf, 128, "[");
    for (int i = 0; i < nd && at < 100; i++)
        at += (size_t)snprintf(buf + at, 128 - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    snprintf(buf + at, 128 - at, "]");
    return buf;
}

/* ------------------------------------------------------------------------------------ binding */

/* A copy that lives as long as the binder. */
static const char *keep_name(sd_binder *b, const char *name)
{
    if (b->n_names == b->cap_names) {
        size_t cap = b->cap_names ? 2 * b->cap_names : 256;
        char **more = realloc(b->names, cap * sizeof *more);
        if (more) {
            b->names = more;
            b->cap_names = cap;
        }
    }
    char *copy = b->n_names < b->cap_names ? sd_strdup(name) : NULL;
    if (copy) b->names[b->n_names++] = copy;
    else sd_fail(b->err, SD_ERR_MEMORY, "no memory for the name of a weight");
    return copy;
}

static void bind_found(sd_binder *b, sd_tensor *field, sd_entry *t, const sd_tensor *want, const char *name)
{
    char expected[128], found[128];
    t->used = true;
    if (t->dt > SD_F64) {
        b->wrong++;
        sd_text_add(&b->wrong_list, "%s: expected floats, found %s\n", name, sd_entry_dtype(t));
    } else if (!fits(t, want)) {
        b->wrong++;
        sd_text_add(&b->wrong_list, "%s: expected %s, found %s\n", name, shape_text(expected, want->nd, want->dim),
                    shape_text(found, t->nd, t->dim));
    } else {
        union { const void *in; void *out; } data = {t->data};   /* nobody writes through it: weights stay const */
        *field = (sd_tensor){.nd = t->nd, .dt = t->dt, .host = data.out, .name = t->name, .path = keep_name(b, name)};
        if (field->nd > 4) field->nd = 4;   /* what is left out are ones */
        if (field->nd == 0) field->nd = 1;  /* a scalar fits [1]; nd 0 would mean that it is not there */
        for (int i = 0; i < field->nd; i++) field->dim[i] = i < t->nd ? t->dim[i] : 1;
        b->bytes += t->bytes;
    }
}

static void bind_row(sd_binder *b, sd_tensor *field, const sd_bind_row *row, const char *hf, const char *ldm,
                     const sd_tensor *want)
{
    char name[NAME_MAX_BYTES];
    if (!join(name, hf, row->hf)) {
        sd_fail(b->err, SD_ERR_ARG, "a weight's name is longer than %d bytes: %.100s...", NAME_MAX_BYTES - 1, name);
        return;
    }
    b->tensors++;
    b->params += (size_t)sd_numel(want);
    if (b->visit) b->visit(b->user, name, want);
    if (!b->store) {
        *field = *want;
        field->name = field->path = keep_name(b, name);
        b->bytes += (size_t)sd_numel(want) * sd_dtype_size(want->dt);
        return;
    }
    sd_entry *t = find(b, row, name, ldm);
    if (t) {
        bind_found(b, field, t, want, name);
    } else {
        b->missing++;
        sd_text_add(&b->missing_list, "%s\n", name);
    }
}

void sd_bind(sd_binder *b, void *object, const sd_bind_row *rows, size_t n, const char *hf, const char *ldm,
             const char *letters, const int64_t *values)
{
    for (size_t i = 0; i < n; i++) {
        sd_tensor *field = (sd_tensor *)(void *)((char *)object + rows[i].field), want;
        *field = (sd_tensor){0};
        if (expected_shape(b, &rows[i], letters, values, &want)) bind_row(b, field, &rows[i], hf, ldm, &want);
    }
}

/* ------------------------------------------------------------------------------------- report */

/* " (first, second and 5 more)" */
static void add_some(sd_text *to, const sd_text *lines, size_t total, size_t show)
{
    const char *at = lines->s;
    sd_text_add(to, " (");
    for (size_t i = 0; at && i < total && i < show; i++) {
        const char *end = strchr(at, '\n');
        sd_text_add(to, "%s%.*s", i ? ", " : "", (int)(end - at), at);
        at = end + 1;
    }
    if (total > show) sd_text_add(to, " and %zu more", total - show);
    sd_text_add(to, ")");
}

static void log_lines(const sd_text *lines, const char *what, const char *how, const sd_log *log)
{
    for (const char *at = lines->s, *end; at && (end = strchr(at, '\n')); at = end + 1)
        sd_logf(log, SD_LOG_WARNING, "%s: %s%.*s", what, how, (int)(end - at), at);
}

sd_status sd_bind_finish(sd_binder *b, const char *what, const sd_log *log)
{
    sd_text t = {0};
    if (b->err->status || !(b->missing || b->wrong)) return b->err->status;
    if (b->missing_list.failed || b->wrong_list.failed)
        return sd_fail(b->err, SD_ERR_MEMORY, "no memory to list what is wrong with %s", what);
    /* as many as an error's text has room for */
    size_t show_missing = b->wrong ? 2 : 4, show_wrong = b->missing ? 1 : 2;
    sd_text_add(&t, "%s: ", what);
    if (b->missing) {
        sd_text_add(&t, "%zu tensor%s missing", b->missing, b->missing == 1 ? "" : "s");
        add_some(&t, &b->missing_list, b->missing, show_missing);
    }
    if (b->wrong) {
        const char *noun = b->missing ? "" : b->wrong == 1 ? "tensor " : "tensors ";
        sd_text_add(&t, "%s%zu %sof another shape or type", b->missing ? " and " : "", b->wrong, noun);
        add_some(&t, &b->wrong_list, b->wrong, show_wrong);
    }
    if (b->missing > show_missing || b->wrong > show_wrong) {   /* otherwise the sentence says it all */
        log_lines(&b->missing_list, what, "missing: ", log);
        log_lines(&b->wrong_list, what, "", log);
    }
    sd_fail(b->err, b->missing ? SD_ERR_MISSING : SD_ERR_SHAPE, "%s", t.failed ? what : t.s);
    free(t.s);
    return b->err->status;
}

void sd_binder_free(sd_binder *b)
{
    for (size_t i = 0; i < b->n_names; i++) free(b->names[i]);
    free(b->names);
    free(b->missing_list.s);
    free(b->wrong_list.s);
    memset(b, 0, sizeof *b);
}
