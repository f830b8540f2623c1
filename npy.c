/* npy.c - floor 3: reads NumPy's files: .npy, one array [NEP 1, numpy/lib/format.py], and .npz, a zip archive of them.
 * Arrays lie in the file in C's order or in Fortran's; a header, a Python dictionary as text, says which. It is read as
 * that text alone, nothing is evaluated. Arrays of Python objects, of big-endian numbers and of types that we do not
 * have are refused where they are needed. */
#include "weights.h"
#include "zip.h"

#include <stdlib.h>
#include <string.h>

static const char magic[] = "\x93NUMPY", ending[] = ".npy";
enum { MAGIC = sizeof magic - 1, ENDING = sizeof ending - 1, HEADER_MOST = 1 << 20 };

/* ------------------------------------------------------------------------------------- the dictionary */

typedef struct header { const char *at, *end; char descr[16]; bool fortran, has[3]; } header;

static void skip_blanks(header *h)
{
    while (h->at < h->end && strchr(" \n\t", *h->at) && *h->at) h->at++;
}

static bool take(header *h, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(h);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n) != 0) return false;
    h->at += n;
    return true;
}

static bool take_text(header *h, char *to, size_t size)
{
    size_t n = 0;
    char quote = take(h, "'") ? '\'' : take(h, "\"") ? '"' : 0;
    if (!quote) return false;
    while (h->at < h->end && *h->at != quote && n + 1 < size) to[n++] = *h->at++;
    to[n] = 0;
    return h->at < h->end && *h->at++ == quote;
}

/* A tuple of whole numbers: "()", "(3,)", "(2, 77)". */
static bool take_shape(header *h, sd_entry *t)
{
    if (!take(h, "(")) return false;
    while (!take(h, ")")) {
        int64_t x = 0;
        int digits = 0;
        skip_blanks(h);
        for (; h->at < h->end && *h->at >= '0' && *h->at <= '9' && digits < 16; digits++) x = x * 10 + (*h->at++ - '0');
        if (!digits || t->nd == (int)SD_COUNT(t->dim)) return false;
        t->dim[t->nd++] = x;
        if (take(h, ",")) continue;
        return take(h, ")");
    }
    return true;
}

static bool take_value(header *h, int key, sd_entry *t)
{
    if (h->has[key]) return false;
    h->has[key] = true;
    if (key == 0) return take_text(h, h->descr, sizeof h->descr);
    if (key == 2) return take_shape(h, t);
    h->fortran = take(h, "True");
    return h->fortran || take(h, "False");
}

static bool read_dictionary(header *h, sd_entry *t)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    if (!take(h, "{")) return false;
    while (!take(h, "}")) {
        char name[16];
        int key = 0;
        if (!take_text(h, name, sizeof name) || !take(h, ":")) return false;
        while (key < 3 && strcmp(keys[key], name) != 0) key++;
        if (key == 3 || !take_value(h, key, t)) return false;
        if (!take(h, ",") && (skip_blanks(h), h->at == h->end || *h->at != '}')) return false;
    }
    return h->has[0] && h->has[1] && h->has[2];
}

/* ------------------------------------------------------------------------------------------- arrays */

static sd_dtype type_of(const char *descr, size_t *size)
{
    static const struct { const char *descr; sd_dtype dt; } known[] = {
        {"f4", SD_F32}, {"f2", SD_F16}, {"f8", SD_F64}, {"i8", SD_I64}, {"i4", SD_I32}, {"i2", SD_I16}, {"i1", SD_I8},
        {"u1", SD_U8}, {"b1", SD_BOOL},
    };
    const char *kind = descr + (*descr && strchr("<|=", *descr) != NULL);
    *size = 0;
    for (size_t i = 0; i < SD_COUNT(known); i++)
        if (strcmp(kind, known[i].descr) == 0) {
            *size = sd_dtype_size(known[i].dt);
            return known[i].dt;
        }
    return SD_DTYPE_UNKNOWN;
}

/* The bytes that the shape needs; false: more than there can be. */
static bool bytes_of(const sd_entry *t, size_t size, size_t *bytes)
{
    *bytes = size;
    for (int d = 0; d < t->nd; d++) {
        if (t->dim[d] && *bytes > (size_t)INT64_MAX / (size_t)t->dim[d]) return false;
        *bytes *= (size_t)t->dim[d];
    }
    return true;
}

static sd_status set_fortran(sd_weight_file *f, sd_entry *t, sd_error *e)
{
    int64_t *stride = sd_weight_file_block(f, 8 * sizeof *stride, e), step = 1;
    for (int d = 0; stride && d < t->nd; d++) {
        stride[d] = step;
        step *= t->dim[d];
    }
    t->stride = stride;
    return e->status;
}

static sd_status add_array(sd_weight_file *f, const char *name, const unsigned char *data, size_t n, sd_error *e)
{
    size_t fixed = n > MAGIC && data[MAGIC] >= 2 ? 12 : 10, size, bytes = 0;
    sd_entry *t = sd_weight_file_add(f, name, e);
    if (!t) return e->status;
    if (n < fixed || memcmp(data, magic, MAGIC) != 0)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "not a .npy file: it does not begin with \\x93NUMPY", f->path, name);
    size_t length = (size_t)sd_from_little_endian(data + 8, fixed - 8);
    if (data[MAGIC] < 1 || data[MAGIC] > 3 || length > HEADER_MOST || length > n - fixed)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "version %d of .npy, a header of %zu bytes, and %zu bytes in all",
                       f->path, name, data[MAGIC], length, n);
    header h = {.at = (const char *)data + fixed, .end = (const char *)data + fixed + length};
    if (!read_dictionary(&h, t))
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "its header is not a dictionary of descr, fortran_order and shape "
                       "with at most 8 dimensions", f->path, name);
    t->dt = type_of(h.descr, &size);
    t->data = data + fixed + length;
    t->bytes = n - fixed - length;
    snprintf(t->spelling, sizeof t->spelling, "%s", h.descr);
    if (t->dt == SD_DTYPE_UNKNOWN) return e->status;
    if (!bytes_of(t, size, &bytes) || bytes != t->bytes)
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "its shape and type do not need the %zu bytes that it has",
                       f->path, name, t->bytes);
    return h.fortran && t->nd > 1 && bytes ? set_fortran(f, t, e) : e->status;
}

/* ------------------------------------------------------------------------------------------- files */

static bool is_npy(const unsigned char *head, size_t n) { return n >= MAGIC && memcmp(head, magic, MAGIC) == 0; }

/* The array is called as its file, without folder and ending. */
static sd_status read_npy(sd_weight_file *f, sd_error *e)
{
    const char *slash = strrchr(f->path, '/'), *base = slash ? slash + 1 : f->path;
    size_t n = strlen(base);
    char name[512];
    snprintf(name, sizeof name, "%.*s", (int)(n > ENDING && sd_has_ending(base, ending) ? n - ENDING : n), base);
    return add_array(f, name, f->file.data, f->file.size, e);
}

/* A zip archive whose first file, by the header before it, is a .npy. */
static bool is_npz(const unsigned char *head, size_t n)
{
    if (n < 30 || memcmp(head, "PK\3\4", 4) != 0) return false;
    size_t length = (size_t)sd_from_little_endian(head + 26, 2);
    return length > ENDING && length <= n - 30 && memcmp(head + 30 + length - ENDING, ending, ENDING) == 0;
}

static sd_status add_file(sd_weight_file *f, const sd_zip_entry *z, sd_error *e)
{
    size_t n = strlen(z->name);
    char name[512];
    if (n <= ENDING || n >= sizeof name || strcmp(z->name + n - ENDING, ending) != 0)
        return sd_fail(e, SD_ERR_FORMAT, "%s: \"%.100s\" in it is not a .npy file", f->path, z->name);
    snprintf(name, sizeof name, "%.*s", (int)(n - ENDING), z->name);
    if (!z->deflated) return add_array(f, name, z->data, z->bytes, e);
    unsigned char *own = sd_weight_file_block(f, z->bytes, e);
    if (!own || sd_zip_inflate(z, own, f->path, e)) return e->status;
    return add_array(f, name, own, z->bytes, e);
}

static sd_status read_npz(sd_weight_file *f, sd_error *e)
{
    sd_zip zip;
    double packed = 0;
    if (sd_zip_open(&zip, f->file.data, f->file.size, f->path, e)) return e->status;
    for (size_t i = 0; i < zip.n; i++) packed += zip.entry[i].deflated ? (double)zip.entry[i].bytes : 0;
    sd_need_memory(e, packed, "%s, unpacked,", f->path);
    for (size_t i = 0; i < zip.n && !e->status; i++) add_file(f, &zip.entry[i], e);
    sd_zip_close(&zip);
    return e->status;
}

const sd_file_format sd_format_npy = {"npy", is_npy, read_npy, NULL};
const sd_file_format sd_format_npz = {"npz", is_npz, read_npz, NULL};
