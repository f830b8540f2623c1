/* weights_safetensors.c - floor 3: the safetensors file format: a reader that trusts nothing, and a writer.
 *
 *   8 bytes    N, little-endian
 *   N bytes    JSON: {"name": {"dtype": "F32", "shape": [2,3], "data_offsets": [begin,end]}, "__metadata__": {...}}
 *   the rest   the tensors' numbers, little-endian and row major; offsets count from here
 *
 * The tensors must tile the rest: no overlap, no hole, nothing left over. The format's own implementation insists on
 * that too (safetensors 0.8.0, TensorInvalidInfo and MetadataIncompleteBuffer). So a truncated or overwritten file is
 * detected before any number is read. We are stricter with names: it is an error if one is empty, comes twice or has
 * control characters. (The format's description forbids duplicates; its implementation takes the last.) */
#include "json.h"
#include "text.h"
#include "weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX 100000000u            /* bytes; the limit of the format's implementation */
#define WHOLE_MAX 9007199254740991.0     /* 2^53 - 1: up to here a JSON number, read as a double, is exact */

/* Finds where the header is and how long it is. */
static sd_status find_header(const sd_weight_file *f, const char **header, size_t *n, sd_error *e)
{
    const unsigned char *b = f->file.data;
    if (f->file.size < 8)
        return sd_fail(e, SD_ERR_FORMAT, "%s is not a safetensors file: it has only %zu bytes", f->path, f->file.size);
    uint64_t length = sd_from_little_endian(b, 8);
    if (length == 0) return sd_fail(e, SD_ERR_FORMAT, "%s is not a safetensors file: its header has 0 bytes", f->path);
    if (length > f->file.size - 8)
        return sd_fail(e, SD_ERR_FORMAT, "%s is cut short or not a safetensors file: its header should have %llu "
                       "bytes, but only %zu follow", f->path, (unsigned long long)length, f->file.size - 8);
    if (length > HEADER_MAX)
        return sd_fail(e, SD_ERR_FORMAT, "%s: a header of %llu bytes is over the limit of %u", f->path,
                       (unsigned long long)length, HEADER_MAX);
    *header = (const char *)b + 8;
    *n = (size_t)length;
    return SD_OK;
}

/* --------------------------------------------------------------------------- the header's JSON */

#define METADATA "__metadata__"   /* of the header: no tensor */

static bool is_whole(const sd_json *v)
{
    return sd_json_is(v, SD_JSON_NUMBER) && v->number >= 0 && v->number <= WHOLE_MAX &&
           floor(v->number) == v->number;
}

static sd_status parse_dtype(sd_entry *t, const sd_json *v, const char *path, sd_error *e)
{
    const char *s = sd_json_text(v);
    if (!s) return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "dtype is not a string", path, t->name);
    for (t->dt = SD_F32; t->dt < SD_DTYPE_UNKNOWN; t->dt++)
        if (sd_dtype_size(t->dt) && strcmp(sd_dtype_name(t->dt), s) == 0) return SD_OK;   /* GGUF has the others */
    t->dt = SD_DTYPE_UNKNOWN;
    snprintf(t->spelling, sizeof t->spelling, "%s", s);
    return SD_OK;
}

/* Fills in t->nd, dim and bytes. */
static sd_status parse_shape(sd_entry *t, const sd_json *list, const char *path, sd_error *e)
{
    if (!sd_json_is(list, SD_JSON_LIST))
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "shape is not a list", path, t->name);
    uint64_t n = t->dt == SD_DTYPE_UNKNOWN ? 1 : sd_dtype_size(t->dt);
    for (const sd_json *v = list->first; v; v = v->next) {
        if (!is_whole(v))
            return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "shape holds what is not a whole number below 2^53", path,
                           t->name);
        if ((size_t)t->nd == SD_COUNT(t->dim))
            return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "more than %zu dimensions", path, t->name, SD_COUNT(t->dim));
        int64_t d = t->dim[t->nd++] = (int64_t)v->number;
        if (d && n > (uint64_t)INT64_MAX / (uint64_t)d)
            return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "the product of its shape overflows", path, t->name);
        n *= (uint64_t)d;
    }
    if (n > SIZE_MAX) return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "too large for this machine", path, t->name);
    t->bytes = (size_t)n;
    return SD_OK;
}

static sd_status parse_offsets(sd_entry *t, const sd_json *list, const char *path, const unsigned char *data,
                               size_t size, sd_error *e)
{
    const sd_json *first = sd_json_is(list, SD_JSON_LIST) ? list->first : NULL, *second = first ? first->next : NULL;
    if (!is_whole(first) || !is_whole(second) || second->next)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "data_offsets is not a list of two whole numbers below 2^53", path,
                       t->name);
    double begin = first->number, end = second->number;
    if (begin > end)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "data_offsets [%.0f,%.0f] end before they begin", path, t->name,
                       begin, end);
    if (end > (double)size)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "data_offsets [%.0f,%.0f] reach beyond the file's %zu bytes of data",
                       path, t->name, begin, end, size);
    /* the size of an unknown dtype's numbers is unknown too, so any number of bytes will do */
    if (t->dt == SD_DTYPE_UNKNOWN && end - begin <= (double)SIZE_MAX) t->bytes = (size_t)(end - begin);
    if (end - begin != (double)t->bytes)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "data_offsets span %.0f bytes, but shape and dtype need %zu", path,
                       t->name, end - begin, t->bytes);
    t->data = data + (size_t)begin;
    return SD_OK;
}

static sd_status parse_entry(sd_entry *t, const sd_json *item, const char *path, const unsigned char *data, size_t size,
                             sd_error *e)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    const sd_json *value[SD_COUNT(keys)] = {0};
    if (!sd_json_is(item, SD_JSON_OBJECT))
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "its entry is not a JSON object", path, t->name);
    for (const sd_json *v = item->first; v; v = v->next) {
        for (size_t k = 0; k < SD_COUNT(keys); k++) {
            if (strcmp(v->key, keys[k])) continue;
            if (value[k]) return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "two values for %s", path, t->name, keys[k]);
            value[k] = v;
        }
    }
    for (size_t k = 0; k < SD_COUNT(keys); k++)
        if (!value[k]) return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "it has no %s", path, t->name, keys[k]);
    if (parse_dtype(t, value[0], path, e) || parse_shape(t, value[1], path, e)) return e->status;
    return parse_offsets(t, value[2], path, data, size, e);
}

static sd_status parse_metadata(sd_weight_file *f, const sd_json *meta, sd_error *e)
{
    const sd_json *v = sd_json_is(meta, SD_JSON_OBJECT) ? meta->first : NULL;
    for (; v && !e->status; v = v->next)
        if (sd_json_text(v)) sd_weight_file_add_meta(f, v->key, sd_json_text(v), e);
    return e->status;
}

static sd_status parse_entries(sd_weight_file *f, const sd_json *root, const unsigned char *data, size_t size,
                               sd_error *e)
{
    for (const sd_json *v = root->first; v && !e->status; v = v->next) {
        if (strcmp(v->key, METADATA) == 0) {
            parse_metadata(f, v, e);
            continue;
        }
        sd_entry *t = sd_weight_file_add(f, v->key, e);
        if (t) parse_entry(t, v, f->path, data, size, e);
    }
    return e->status;
}

static sd_status parse_header(sd_weight_file *f, const char *header, size_t n, sd_error *e)
{
    sd_text what = {0};
    sd_text_add(&what, "%s: the header", f->path);
    sd_json *root = sd_json_parse(header, n, what.failed ? "the header" : what.s, e);
    free(what.s);
    if (root) parse_entries(f, root, (const unsigned char *)header + n, f->file.size - 8 - n, e);
    sd_json_free(root);
    return e->status;
}

/* --------------------------------------------------------------------------------- the whole */

/* Checks that the entries, in the order of their data, tile the data. */
static sd_status check_tiling(const sd_weight_file *f, sd_error *e)
{
    const char *header = NULL;
    size_t at = 0, n = 0;
    if (find_header(f, &header, &n, e)) return e->status;
    const unsigned char *data = (const unsigned char *)header + n;
    size_t size = f->file.size - 8 - n;
    const sd_entry **order = sd_weight_file_by_place(f, e);
    for (size_t i = 0; i < f->n && e->status == SD_OK; i++) {
        const sd_entry *t = order[i];
        size_t begin = (size_t)((const unsigned char *)t->data - data);
        if (begin < at)
            sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "its data overlap those of \"%.100s\"", f->path, t->name,
                    order[i - 1]->name);
        if (begin > at)
            sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "%zu bytes before its data belong to no tensor", f->path, t->name,
                    begin - at);
        at = begin + t->bytes;
    }
    if (at < size) sd_fail(e, SD_ERR_FORMAT, "%s: the last %zu bytes belong to no tensor", f->path, size - at);
    free(order);
    return e->status;
}

static sd_status read_safetensors(sd_weight_file *f, sd_error *e)
{
    const char *header = NULL;
    size_t n = 0;
    return find_header(f, &header, &n, e) ? e->status : parse_header(f, header, n, e);
}

/* The format has no magic number: whatever is no other format is taken for it, and refused with its first fault. */
static bool may_be_safetensors(const unsigned char *head, size_t n)
{
    (void)head;
    (void)n;
    return true;
}

const sd_file_format sd_format_safetensors = {"safetensors", may_be_safetensors, read_safetensors, check_tiling};

/* ------------------------------------------------------------------------------------ writing */

/* Wider numbers first, otherwise as given: so every tensor is aligned without holes, which mapping readers expect. */
static void file_order(size_t *order, const sd_traced *tensors, size_t n)
{
    size_t at = 0;
    for (size_t size = 8; size; size /= 2)
        for (size_t i = 0; i < n; i++)
            if (sd_dtype_size(tensors[i].dtype) == size) order[at++] = i;
}

static sd_status add_texts(sd_text *t, const sd_file_plan *p, const char *path, sd_error *e)
{
    if (!p->n_meta) return SD_OK;
    sd_text_add(t, "\"" METADATA "\":{");
    for (size_t i = 0; i < p->n_meta; i++) {
        if (i) sd_text_add(t, ",");
        sd_text_quoted(t, p->meta[i].key);
        sd_text_add(t, ":");
        sd_text_quoted(t, p->meta[i].value);
    }
    sd_text_add(t, "}%s", p->n ? "," : "");
    return t->failed ? sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path) : SD_OK;
}

static sd_status make_header(sd_text *t, const sd_file_plan *p, const size_t *order, const char *path, sd_error *e)
{
    uint64_t at = 0, bytes;
    size_t n = p->n;
    sd_text_add(t, "{");
    if (add_texts(t, p, path, e)) return e->status;
    for (size_t k = 0; k < n; k++) {
        const sd_traced *x = &p->tensor[order[k]];
        if (sd_plan_bytes(x, &bytes, path, e)) return e->status;
        if (bytes > (uint64_t)WHOLE_MAX - at)
            return sd_fail(e, SD_ERR_ARG, "cannot write %s: its tensors have more bytes than the format can count",
                           path);
        if (k) sd_text_add(t, ",");
        sd_text_quoted(t, x->name);
        sd_text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", sd_dtype_name(x->dtype));
        for (int i = 0; i < x->nd; i++) sd_text_add(t, "%s%lld", i ? "," : "", (long long)x->dim[i]);
        sd_text_add(t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + bytes));
        at += bytes;
    }
    sd_text_add(t, "}");
    while (!t->failed && t->n % 8) sd_text_add(t, " ");
    if (t->failed) return sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path);
    if (t->n > HEADER_MAX)
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: %zu tensors make its header too long", path, n);
    return SD_OK;
}

static sd_status write_all(sd_outfile *o, const sd_text *header, const sd_file_plan *p, const size_t *order,
                           sd_error *e)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header->n >> 8 * i);
    if (fwrite(length, 1, 8, o->f) != 8 || fwrite(header->s, 1, header->n, o->f) != header->n)
        return sd_fail(e, SD_ERR_IO, "cannot write %s: %s", o->path, strerror(errno));
    for (size_t k = 0; k < p->n; k++)
        if (p->put(p->user, order[k], o->f, o->path, e)) return e->status;
    return sd_outfile_commit(o, e);
}

sd_status sd_safetensors_write_plan(const char *path, const sd_file_plan *p, sd_error *e)
{
    sd_outfile o = {0};
    sd_text header = {0};
    for (size_t i = 0; i < p->n; i++) {
        const sd_traced *t = &p->tensor[i];
        if (t->name && strcmp(t->name, METADATA) == 0)
            return sd_fail(e, SD_ERR_ARG, "cannot write %s: " METADATA " cannot be a tensor's name", path);
        if (sd_dtype_block(t->dtype) > 1)
            return sd_fail(e, SD_ERR_ARG, "cannot write %s: safetensors files cannot hold %s, GGUF files can", path,
                           sd_dtype_name(t->dtype));
    }
    if (sd_need_little_endian(path, e) || sd_plan_check(p, path, e)) return e->status;
    size_t *order = malloc((p->n + 1) * sizeof *order);
    if (!order) return sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path);
    file_order(order, p->tensor, p->n);
    if (!make_header(&header, p, order, path, e) && !sd_outfile_open(&o, path, e)) {
        if (write_all(&o, &header, p, order, e)) sd_outfile_abort(&o);
    }
    free(header.s);
    free(order);
    return e->status;
}

static sd_status put_from_memory(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    const sd_traced *t = *(const sd_traced *const *)user + i;
    uint64_t bytes = 0;
    if (sd_plan_bytes(t, &bytes, path, e)) return e->status;
    if (bytes && !t->data) return sd_fail(e, SD_ERR_ARG, "cannot write %s: \"%.100s\" has no data", path, t->name);
    if (bytes && fwrite(t->data, 1, (size_t)bytes, to) != bytes)
        return sd_fail(e, SD_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return SD_OK;
}

sd_status sd_safetensors_write(const char *path, const sd_traced *tensors, size_t n, sd_error *e)
{
    const sd_file_plan p = {.tensor = tensors, .n = n, .put = put_from_memory, .user = &tensors};
    return sd_safetensors_write_plan(path, &p, e);
}
