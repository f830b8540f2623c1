/* weights.c - floor 3: binds the tensors of a store to the fields of a network's weights, by tables. */
#include "weights.h"

#include <math.h>
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

/* The tensor whose name is the root and this name. */
static sd_entry *find_in_files(const sd_binder *b, const char *name)
{
    char whole[NAME_MAX_BYTES];
    if (!b->root) return sd_store_find(b->store, name);
    if (b->dotless) return sd_store_find_dotless(b->store, b->root, name);
    return join(whole, b->root, name) ? sd_store_find(b->store, whole) : NULL;
}

static sd_entry *find_renamed(const sd_binder *b, const char *name)
{
    char old[NAME_MAX_BYTES];
    for (size_t i = 0; i < SD_COUNT(renamed); i++) {
        const char *at = strstr(name, renamed[i].now);
        if (!at) continue;
        const char *rest = at + strlen(renamed[i].now);
        int n = snprintf(old, sizeof old, "%.*s%s%s", (int)(at - name), name, renamed[i].then, rest);
        return n >= 0 && (size_t)n < sizeof old ? find_in_files(b, old) : NULL;
    }
    return NULL;
}

/* A weight's names in both conventions; ldm "": it has none. */
typedef struct names { char hf[NAME_MAX_BYTES], ldm[NAME_MAX_BYTES]; } names;

/* Finds a tensor by any of its names. *as_ldm: it was found by `ldm`. */
static sd_entry *find(const sd_binder *b, const names *by, bool *as_ldm)
{
    const char *name = by->hf;
    char mixed[NAME_MAX_BYTES];   /* stable-diffusion.cpp's "text_model.text_projection" */
    sd_entry *t = find_in_files(b, name);
    size_t strip = b->strip ? strlen(b->strip) : 0;
    *as_ldm = false;
    if (!t && strip && strncmp(name, b->strip, strip) == 0) t = find_in_files(b, name + strip);
    if (!t && *by->ldm) {
        t = find_in_files(b, by->ldm);
        if (!t && strip && join(mixed, b->strip, by->ldm)) t = find_in_files(b, mixed);
        *as_ldm = t != NULL;
    }
    return t ? t : find_renamed(b, name);
}

/* ------------------------------------------------------------------------------------- shapes */

/* Turns "oi33" into a shape, with o and i from `values`. False: the row is absent. An unknown letter or a negative
 * value is a mistake in this program. */
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

static bool fits(const sd_entry *t, const sd_tensor *want) { return sd_same_shape(t->nd, t->dim, want->nd, want->dim); }

/* How the file stores a row's tensor. */
static bool is_transposed(unsigned flags) { return flags & SD_BIND_TRANSPOSE; }

/* The shape in the file for a row with these flags whose own shape is `want`. */
static sd_tensor shape_in_file(const sd_tensor *want, unsigned flags)
{
    sd_tensor t = *want;
    if (is_transposed(flags)) {
        t.dim[0] = want->dim[1];
        t.dim[1] = want->dim[0];
    }
    t.dim[0] *= sd_bind_parts(flags);
    return t;
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

/* Adds a weight to the list, with names that live as long as the binder. False: out of memory. */
static bool add_weight(sd_binder *b, sd_tensor *field, const names *by, const sd_bind_row *row)
{
    size_t n = strlen(by->hf) + 1, m = strlen(by->ldm) + 1;
    sd_weight *list = sd_grow(b->weight, b->n_weights, &b->cap_weights, 256, sizeof *list);
    if (list) b->weight = list;
    char *copy = list ? malloc(n + m) : NULL;
    if (!copy) {
        sd_fail(b->err, SD_ERR_MEMORY, "no memory for the name of a weight");
        return false;
    }
    memcpy(copy, by->hf, n);
    memcpy(copy + n, by->ldm, m);
    field->path = copy;
    field->id = ++b->last_id;
    b->weight[b->n_weights++] = (sd_weight){.field = field, .path = copy, .ldm = copy + n, .flags = row->flags,
                                            .nd = (int)strlen(row->shape)};
    return true;
}

/* Where in the file a weight's number at these places [i,j,k,l] is, counted in numbers from the tensor's first. */
typedef struct strides { int64_t to_next[4]; } strides;

static strides strides_of(const sd_entry *t, const sd_tensor *field, bool transposed)
{
    strides s = {{0}};
    int64_t n = 1;
    for (int i = field->nd; i-- > 0;) {
        s.to_next[i] = t->stride && i < t->nd ? t->stride[i] : n;
        n *= field->dim[i];
    }
    if (transposed) {
        s.to_next[0] = t->stride ? t->stride[1] : 1;
        s.to_next[1] = t->stride ? t->stride[0] : field->dim[0];
    }
    return s;
}

/* Copies numbers of `size` bytes in row-major order. */
static void gather(unsigned char *y, const unsigned char *x, const int64_t dim[4], const strides *s, size_t size)
{
    for (int64_t i = 0; i < dim[0]; i++)
        for (int64_t j = 0; j < dim[1]; j++)
            for (int64_t k = 0; k < dim[2]; k++)
                for (int64_t l = 0; l < dim[3]; l++, y += size) {
                    int64_t at = i * s->to_next[0] + j * s->to_next[1] + k * s->to_next[2] + l * s->to_next[3];
                    memcpy(y, x + (size_t)at * size, size);
                }
}

/* Numbers that lie in another order in the file are copied once in the right order; the file's pages then leave
 * memory. `from`: the first number. */
static void reorder(sd_binder *b, sd_weight *w, const sd_entry *t, const unsigned char *from, bool transposed)
{
    sd_tensor *f = w->field;
    int64_t dim[4];
    for (int i = 0; i < 4; i++) dim[i] = i < f->nd ? f->dim[i] : 1;
    strides s = strides_of(t, f, transposed);
    w->own = sd_block_alloc(sd_dtype_bytes(f->dt, (size_t)sd_numel(f)));
    if (!w->own) {
        sd_fail(b->err, SD_ERR_MEMORY, "no memory for a copy of the weight %s", w->path);
        return;
    }
    gather(w->own, from, dim, &s, sd_dtype_size(f->dt));
    f->data = w->own;
    sd_store_used(b->store, t->data, t->bytes);
}

/* Types of blocks are read where they lie if rows are whole blocks, as GGUF writes matrices. Others, and those that
 * have to be reordered, become floats first. */
static bool can_stay(const sd_tensor *f, const sd_entry *t, bool transposed)
{
    size_t block = sd_dtype_block(f->dt);
    if (t->stride || transposed) return false;
    return block == 1 || (f->nd == 2 && (size_t)f->dim[1] % block == 0);
}

/* Gives a bound weight numbers in row-major order. */
static void settle(sd_binder *b, sd_weight *w, const sd_entry *t, bool transposed)
{
    sd_tensor *f = w->field;
    const unsigned char *from = f->data;
    if (can_stay(f, t, transposed)) return;
    if (sd_dtype_block(f->dt) == 1) {
        reorder(b, w, t, from, transposed);
        return;
    }
    if (!sd_weight_own(b, w, SD_F32)) return;
    if (transposed) {
        sd_weight plain = *w;
        w->own = NULL;
        reorder(b, w, t, plain.own, true);
        sd_block_free(plain.own);
    }
    f->version = 0;   /* still the numbers it was bound to */
}

/* The scale of a weight is a number beside it: ComfyUI's tools write x.scale_weight for the 8-bit floats of x.weight,
 * others x.weight_scale. */
static sd_entry *find_scale(const sd_binder *b, const sd_entry *t)
{
    static const char *const endings[] = {".scale_weight", ".weight_scale"};
    char name[NAME_MAX_BYTES];
    sd_entry *found = NULL;
    if (!sd_ends_with(t->name, ".weight")) return NULL;
    size_t stem = strlen(t->name) - strlen(".weight");
    for (size_t i = 0; i < SD_COUNT(endings) && !found; i++) {
        int n = snprintf(name, sizeof name, "%.*s%s", (int)stem, t->name, endings[i]);
        if (n >= 0 && (size_t)n < sizeof name) found = sd_store_find(b->store, name);
    }
    return found;
}

/* What a weight's numbers are to be multiplied by; 0: nothing, also after a scale that is wrong. */
static float take_scale(sd_binder *b, const sd_entry *t)
{
    static const sd_tensor one = {.nd = 1, .dim = {1}};
    char found[128];
    float x;
    sd_entry *s = find_scale(b, t);
    if (!s) return 0;
    s->used = true;
    if (!sd_dtype_is_float(s->dt) || !fits(s, &one)) {
        b->wrong++;
        sd_text_add(&b->wrong_list, "%s: expected one number, found %s %s\n", s->name, sd_entry_dtype(s),
                    shape_text(found, s->nd, s->dim));
        return 0;
    }
    sd_widen(&x, s->data, s->dt, 1, &sd_kern_spec);
    if (!isfinite(x) || x == 0) {
        b->wrong++;
        sd_text_add(&b->wrong_list, "%s: expected a scale, found %g\n", s->name, (double)x);
    }
    return isfinite(x) && x != 1 ? x : 0;
}

/* Is this tensor of the file what the row wants? Otherwise it goes to the list of those that are not. */
static bool check_found(sd_binder *b, const sd_entry *t, const sd_tensor *in_file, const char *name)
{
    char expected[128], found[128];
    if (!sd_dtype_is_float(t->dt))
        sd_text_add(&b->wrong_list, "%s: expected floats, found %s\n", name, sd_entry_dtype(t));
    else if (!fits(t, in_file))
        sd_text_add(&b->wrong_list, "%s: expected %s, found %s\n", name,
                    shape_text(expected, in_file->nd, in_file->dim), shape_text(found, t->nd, t->dim));
    else
        return true;
    b->wrong++;
    return false;
}

static void bind_found(sd_binder *b, sd_tensor *field, sd_entry *t, bool as_ldm, const sd_bind_row *row,
                       const sd_tensor *want, const names *by)
{
    unsigned flags = as_ldm ? row->flags : 0;
    sd_tensor in_file = shape_in_file(want, flags);
    t->used = true;
    if (!check_found(b, t, &in_file, by->hf)) return;
    size_t numbers = (size_t)sd_numel(want), bytes = sd_dtype_bytes(t->dt, numbers);
    size_t skip = (size_t)sd_bind_part(flags) * (t->stride ? (size_t)(want->dim[0] * t->stride[0]) : numbers);
    /* A part of whole blocks is whole blocks, for parts are thirds and blocks have powers of two. */
    const unsigned char *from = (const unsigned char *)t->data + sd_dtype_bytes(t->dt, skip);
    union { const void *in; void *out; } data = {from};   /* nobody writes through it: weights stay const */
    *field = (sd_tensor){.nd = t->nd, .dt = t->dt, .data = data.out, .name = t->name};
    if (field->nd > 4) field->nd = 4;   /* the dimensions left out are ones */
    if (field->nd == 0) field->nd = 1;  /* a scalar fits [1]; nd 0 would mean absent */
    for (int i = 0; i < field->nd; i++) field->dim[i] = i < t->nd ? t->dim[i] : 1;
    field->dim[0] /= sd_bind_parts(flags);
    if (is_transposed(flags)) memcpy(field->dim, want->dim, sizeof field->dim);
    field->scale = take_scale(b, t);
    b->bytes += bytes;
    if (add_weight(b, field, by, row) && !b->look) settle(b, &b->weight[b->n_weights - 1], t, is_transposed(flags));
}

static void bind_row(sd_binder *b, sd_tensor *field, const sd_bind_row *row, const char *hf, const char *ldm,
                     const sd_tensor *want)
{
    names by = {"", ""};
    bool as_ldm = false, optional = row->flags & SD_BIND_OPTIONAL;
    if (!join(by.hf, hf, row->hf) || (ldm && !join(by.ldm, ldm, row->ldm ? row->ldm : row->hf))) {
        sd_fail(b->err, SD_ERR_ARG, "a weight's name is longer than %d bytes: %.100s...", NAME_MAX_BYTES - 1, by.hf);
        return;
    }
    sd_entry *t = b->store ? find(b, &by, &as_ldm) : NULL;
    if (optional && !t) return;
    b->tensors++;
    b->params += (size_t)sd_numel(want);
    if (b->visit) b->visit(b->user, by.hf, want);
    if (t) {
        bind_found(b, field, t, as_ldm, row, want, &by);
    } else if (b->store) {
        b->missing++;
        sd_text_add(&b->missing_list, "%s\n", by.hf);
    } else {
        *field = *want;
        add_weight(b, field, &by, row);
        field->name = field->path;
        b->bytes += (size_t)sd_numel(want) * sd_dtype_size(want->dt);
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

/* -------------------------------------------------------------------------- numbers of their own */

sd_weight *sd_weight_find(const sd_binder *b, const char *path)
{
    for (size_t i = 0; i < b->n_weights; i++)
        if (strcmp(b->weight[i].path, path) == 0) return &b->weight[i];
    return NULL;
}

void *sd_weight_own(sd_binder *b, sd_weight *w, sd_dtype dt)
{
    sd_tensor *f = w->field;
    size_t n = (size_t)sd_numel(f);
    if (!w->own) {
        if (sd_dtype_block(dt) > 1 || f->scale != 0) dt = SD_F32;   /* no block can be changed number by number */
        w->own = sd_block_alloc(n * sd_dtype_size(dt));
        if (!w->own) {
            sd_fail(b->err, SD_ERR_MEMORY, "no memory for a copy of the weight %s", w->path);
            return NULL;
        }
        if (dt == f->dt) memcpy(w->own, f->data, n * sd_dtype_size(dt));
        else sd_widen_weight(w->own, f, 0, n, &sd_kern_spec);
        f->data = w->own;
        f->dt = dt;
        f->scale = 0;
    }
    f->version++;
    return w->own;
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
    /* as many names as fit an error's text */
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
    for (size_t i = 0; i < b->n_weights; i++) {
        free(b->weight[i].path);
        sd_block_free(b->weight[i].own);
    }
    free(b->weight);
    free(b->missing_list.s);
    free(b->wrong_list.s);
    memset(b, 0, sizeof *b);
}
