/* weights_gguf.c - floor 3: reads GGUF files, versions 2 and 3, as stable-diffusion.cpp and ComfyUI's tools write them.
 *
 *   "GGUF", u32 version, u64 tensors, u64 pairs
 *   pairs      text key, u32 kind, value
 *   tensors    text name, u32 n, u64 dim[n] (the fastest first), u32 type, u64 offset
 *   the rest   from the next multiple of the alignment on: numbers; offsets count from here and are multiples of it
 *
 * A text is a u64 length and so many bytes. All is little-endian. Tensors may leave gaps, but not overlap. (Facts:
 * ggml's docs/gguf.md.) */
#include "text.h"
#include "unicode.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

enum { PAIR_LEAST = 8 + 4 + 1, TENSOR_LEAST = 8 + 4 + 4 + 8 };   /* bytes */
enum { ARRAY_SHOWN = 16, ARRAY_TEXT = 400 };                     /* of an array: values kept, bytes at which it ends */

/* Where reading has come to. Errors stick. */
typedef struct reader {
    sd_weight_file *f;
    const unsigned char *at;
    size_t left;
    const sd_pair **pair;      /* by key */
    uint64_t *offset;          /* of each entry: where its numbers begin, counted from the file's data */
    size_t cap;
    uint64_t alignment;
    sd_error *e;
} reader;

/* ------------------------------------------------------------------------------------ bytes and texts */

static const unsigned char *take(reader *r, uint64_t n, const char *what)
{
    const unsigned char *here = r->at;
    if (r->e->status) return NULL;
    if (n > r->left) {
        sd_fail(r->e, SD_ERR_FORMAT, "%s is cut short: %s should have %llu bytes, but only %zu follow", r->f->path,
                what, (unsigned long long)n, r->left);
        return NULL;
    }
    r->at += (size_t)n;
    r->left -= (size_t)n;
    return here;
}

/* A little-endian whole number of 1 to 8 bytes; 0 after an error. */
static uint64_t take_whole(reader *r, size_t bytes, const char *what)
{
    const unsigned char *p = take(r, bytes, what);
    return p ? sd_from_little_endian(p, bytes) : 0;
}

static const char *take_text(reader *r, size_t *n, const char *what)
{
    uint64_t length = take_whole(r, 8, what);
    const unsigned char *p = take(r, length, what);
    *n = p ? (size_t)length : 0;
    return (const char *)p;
}

static bool is_text(const char *s, size_t n)
{
    const char *why;
    return !memchr(s, 0, n) && sd_utf8_fault(s, n, &why) == n;
}

/* A key or a name as a string of its own, to be freed. */
static char *take_name(reader *r, const char *what)
{
    size_t n;
    const char *s = take_text(r, &n, what);
    char *copy = s ? malloc(n + 1) : NULL;
    if (r->e->status) return NULL;
    if (!copy) {
        sd_fail(r->e, SD_ERR_MEMORY, "%s: no memory for %s", r->f->path, what);
        return NULL;
    }
    memcpy(copy, s, n);
    copy[n] = '\0';
    if (is_text(s, n)) return copy;
    sd_fail(r->e, SD_ERR_FORMAT, "%s: %s is not UTF-8 or holds a NUL: \"%.100s\"", r->f->path, what, copy);
    free(copy);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- pairs */

enum { KIND_BOOL = 7, KIND_TEXT = 8, KIND_ARRAY = 9 };
typedef enum number_form { UNSIGNED, SIGNED, FLOAT } number_form;

/* By kind; 0 bytes: of no fixed size. */
static const struct { size_t bytes; number_form as; } kinds[] = {
    {1, UNSIGNED}, {1, SIGNED}, {2, UNSIGNED}, {2, SIGNED}, {4, UNSIGNED}, {4, SIGNED}, {4, FLOAT}, {1, UNSIGNED},
    {0, UNSIGNED}, {0, UNSIGNED}, {8, UNSIGNED}, {8, SIGNED}, {8, FLOAT},
};

static void add_float(sd_text *to, uint64_t bits, size_t bytes)
{
    char out[SD_NUMBER_SIZE];
    uint32_t low = (uint32_t)bits;
    double d;
    float f;
    memcpy(&f, &low, sizeof f);
    memcpy(&d, &bits, sizeof d);
    sd_text_add(to, "%s", sd_number_text(out, bytes == 4 ? (double)f : d));
}

static void add_number(reader *r, sd_text *to, uint32_t kind)
{
    size_t bytes = kinds[kind].bytes;
    uint64_t x = take_whole(r, bytes, "a value"), sign = (uint64_t)1 << (8 * bytes - 1);
    if (kind == KIND_BOOL) sd_text_add(to, x ? "true" : "false");
    else if (kinds[kind].as == FLOAT) add_float(to, x, bytes);
    else if (kinds[kind].as == SIGNED && x & sign) sd_text_add(to, "-%llu", (unsigned long long)((sign << 1) - x));
    else sd_text_add(to, "%llu", (unsigned long long)x);
}

/* Adds a text as it is, or in quotes for an array. Of what is not UTF-8, or too long for an array, only the number of
 * its bytes is told. */
static void add_text(reader *r, sd_text *to, bool quoted)
{
    size_t n;
    const char *s = take_text(r, &n, "a text");
    if (!s) return;
    if (!is_text(s, n) || (quoted && n > ARRAY_TEXT)) {
        sd_text_add(to, "(%zu bytes)", n);
    } else if (!quoted) {
        sd_text_addn(to, s, n);
    } else {
        sd_text copy = {0};
        sd_text_addn(&copy, s, n);
        if (n && copy.failed) to->failed = true;
        else sd_text_quoted(to, n ? copy.s : "");
        free(copy.s);
    }
}

/* Adds an array, "[1,2,3]"; of a long one only the beginning, and how many values it has. */
static void add_array(reader *r, sd_text *to)
{
    uint64_t kind = take_whole(r, 4, "an array"), n = take_whole(r, 8, "an array"), shown = 0;
    if (r->e->status) return;
    if (kind >= SD_COUNT(kinds) || kind == KIND_ARRAY) {
        sd_fail(r->e, SD_ERR_FORMAT, "%s: an array of values of kind %llu", r->f->path, (unsigned long long)kind);
        return;
    }
    size_t least = kinds[kind].bytes ? kinds[kind].bytes : 8;
    if (n > r->left / least) {
        sd_fail(r->e, SD_ERR_FORMAT, "%s is cut short: an array should have %llu values, but only %zu bytes follow",
                r->f->path, (unsigned long long)n, r->left);
        return;
    }
    sd_text_add(to, "[");
    for (; shown < n && shown < ARRAY_SHOWN && to->n < ARRAY_TEXT && !r->e->status; shown++) {
        if (shown) sd_text_add(to, ",");
        if (kind == KIND_TEXT) add_text(r, to, true);
        else add_number(r, to, (uint32_t)kind);
    }
    if (shown < n) sd_text_add(to, ",... %llu values", (unsigned long long)n);
    sd_text_add(to, "]");
    size_t rest;
    if (kind != KIND_TEXT) take(r, (n - shown) * least, "an array");
    for (uint64_t i = shown; kind == KIND_TEXT && i < n && !r->e->status; i++) take_text(r, &rest, "a text");
}

static void read_pair(reader *r)
{
    char *key = take_name(r, "a key");
    uint64_t kind = take_whole(r, 4, "a value's kind");
    sd_text value = {0};
    if (!r->e->status && kind >= SD_COUNT(kinds))
        sd_fail(r->e, SD_ERR_FORMAT, "%s: \"%.100s\": a value of kind %llu, and there are only %zu", r->f->path, key,
                (unsigned long long)kind, SD_COUNT(kinds));
    if (!r->e->status) {
        sd_text_add(&value, "%s", "");
        if (kind == KIND_ARRAY) add_array(r, &value);
        else if (kind == KIND_TEXT) add_text(r, &value, false);
        else add_number(r, &value, (uint32_t)kind);
    }
    if (value.failed) sd_fail(r->e, SD_ERR_MEMORY, "%s: no memory for the value of \"%.100s\"", r->f->path, key);
    if (!r->e->status) sd_weight_file_add_meta(r->f, key, value.s, r->e);
    free(value.s);
    free(key);
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const sd_pair *const *)a)->key, (*(const sd_pair *const *)b)->key);
}

static const char *value_of(const reader *r, const char *key)
{
    size_t low = 0, high = r->f->n_meta;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int side = strcmp(key, r->pair[mid]->key);
        if (side == 0) return r->pair[mid]->value;
        if (side < 0) high = mid;
        else low = mid + 1;
    }
    return NULL;
}

/* Makes a list of the pairs that is sorted by key, so that a key is found quickly. No key may come twice. */
static void sort_pairs(reader *r)
{
    size_t n = r->f->n_meta;
    r->pair = malloc((n + 1) * sizeof *r->pair);
    if (!r->pair) {
        sd_fail(r->e, SD_ERR_MEMORY, "%s: no memory for a list of %zu keys", r->f->path, n);
        return;
    }
    for (size_t i = 0; i < n; i++) r->pair[i] = &r->f->meta[i];
    qsort(r->pair, n, sizeof *r->pair, by_key);
    for (size_t i = 1; i < n && !r->e->status; i++)
        if (strcmp(r->pair[i - 1]->key, r->pair[i]->key) == 0)
            sd_fail(r->e, SD_ERR_FORMAT, "%s: the key \"%.100s\" comes twice", r->f->path, r->pair[i]->key);
}

static void read_alignment(reader *r)
{
    const char *text = r->e->status ? NULL : value_of(r, "general.alignment");
    double x = 32;
    if (text && (!sd_number_read(&x, text) || x < 1 || x > 1 << 30 || (double)(uint64_t)x != x))
        x = 0;
    r->alignment = (uint64_t)x;
    if (!r->alignment || r->alignment & (r->alignment - 1))
        sd_fail(r->e, SD_ERR_FORMAT, "%s: general.alignment must be a power of two up to 2^30, found %.40s", r->f->path,
                text);
}

/* -------------------------------------------------------------------------------------------- tensors */

/* ggml's types, by their numbers there. `bytes` hold `block` numbers. */
static const struct ggml_type { const char *name; sd_dtype dt; uint16_t block, bytes; } ggml_types[] = {
    [0] = {"F32", SD_F32, 1, 4},
    [1] = {"F16", SD_F16, 1, 2},
    [2] = {"Q4_0", SD_Q4_0, 32, 18},
    [3] = {"Q4_1", SD_Q4_1, 32, 20},
    [6] = {"Q5_0", SD_Q5_0, 32, 22},
    [7] = {"Q5_1", SD_Q5_1, 32, 24},
    [8] = {"Q8_0", SD_Q8_0, 32, 34},
    [9] = {"Q8_1", SD_DTYPE_UNKNOWN, 32, 40},
    [10] = {"Q2_K", SD_Q2_K, 256, 84},
    [11] = {"Q3_K", SD_Q3_K, 256, 110},
    [12] = {"Q4_K", SD_Q4_K, 256, 144},
    [13] = {"Q5_K", SD_Q5_K, 256, 176},
    [14] = {"Q6_K", SD_Q6_K, 256, 210},
    [15] = {"Q8_K", SD_DTYPE_UNKNOWN, 256, 292},
    [16] = {"IQ2_XXS", SD_DTYPE_UNKNOWN, 256, 66},
    [17] = {"IQ2_XS", SD_DTYPE_UNKNOWN, 256, 74},
    [18] = {"IQ3_XXS", SD_DTYPE_UNKNOWN, 256, 98},
    [19] = {"IQ1_S", SD_DTYPE_UNKNOWN, 256, 50},
    [20] = {"IQ4_NL", SD_DTYPE_UNKNOWN, 32, 18},
    [21] = {"IQ3_S", SD_DTYPE_UNKNOWN, 256, 110},
    [22] = {"IQ2_S", SD_DTYPE_UNKNOWN, 256, 82},
    [23] = {"IQ4_XS", SD_DTYPE_UNKNOWN, 256, 136},
    [24] = {"I8", SD_I8, 1, 1},
    [25] = {"I16", SD_I16, 1, 2},
    [26] = {"I32", SD_I32, 1, 4},
    [27] = {"I64", SD_I64, 1, 8},
    [28] = {"F64", SD_F64, 1, 8},
    [29] = {"IQ1_M", SD_DTYPE_UNKNOWN, 256, 56},
    [30] = {"BF16", SD_BF16, 1, 2},
    [34] = {"TQ1_0", SD_DTYPE_UNKNOWN, 256, 54},
    [35] = {"TQ2_0", SD_DTYPE_UNKNOWN, 256, 66},
    [39] = {"MXFP4", SD_DTYPE_UNKNOWN, 32, 17},
    [40] = {"NVFP4", SD_DTYPE_UNKNOWN, 64, 36},
    [41] = {"Q1_0", SD_DTYPE_UNKNOWN, 128, 18},
};

int sd_gguf_number(sd_dtype dt)
{
    for (int i = 0; i < (int)SD_COUNT(ggml_types); i++)
        if (ggml_types[i].name && ggml_types[i].dt == dt && dt != SD_DTYPE_UNKNOWN) return i;
    return -1;
}

/* ggml's type with this number. If the number is not in the table, how many bytes such a type takes is unknown, and
 * taken to be none. */
static struct ggml_type type_of(uint64_t number, sd_entry *t)
{
    struct ggml_type unknown = {NULL, SD_DTYPE_UNKNOWN, 1, 0};
    bool known = number < SD_COUNT(ggml_types) && ggml_types[number].name;
    if (known) snprintf(t->spelling, sizeof t->spelling, "%s", ggml_types[number].name);
    else snprintf(t->spelling, sizeof t->spelling, "ggml type %u", (unsigned)(number % 10000));
    return known ? ggml_types[number] : unknown;
}

static sd_status read_shape(reader *r, sd_entry *t)
{
    uint64_t nd = take_whole(r, 4, "a tensor's shape");
    if (nd > SD_COUNT(t->dim))
        return sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "%llu dimensions, more than %zu", r->f->path, t->name,
                       (unsigned long long)nd, SD_COUNT(t->dim));
    t->nd = (int)nd;
    for (int i = t->nd; i-- > 0;) {   /* the fastest comes first; here it is the last, as in PyTorch (trap 73) */
        uint64_t d = take_whole(r, 8, "a tensor's shape");
        if (d > INT64_MAX)
            return sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "a negative dimension", r->f->path, t->name);
        t->dim[i] = (int64_t)d;
    }
    return r->e->status;
}

/* How many numbers a tensor of this shape has. False: more than INT64_MAX. */
static bool count_numbers(int nd, const int64_t *dim, uint64_t *n)
{
    bool none = false;
    *n = 1;
    for (int i = 0; i < nd; i++) none = none || dim[i] == 0;
    for (int i = 0; i < nd && !none; i++) {
        if (*n > (uint64_t)INT64_MAX / (uint64_t)dim[i]) return false;
        *n *= (uint64_t)dim[i];
    }
    if (none) *n = 0;
    return true;
}

/* Reads a shape, "[2,32,2,2]". False: it is no list of at most 8 whole numbers >= 0. */
static bool parse_shape(const char *text, int *nd, int64_t dim[8])
{
    const char *at = text;
    *nd = 0;
    for (char before = '['; *at == before; before = ',') {
        uint64_t d = 0;
        const char *digit = ++at;
        for (; *at >= '0' && *at <= '9' && d < INT64_MAX / 10; at++) d = 10 * d + (uint64_t)(*at - '0');
        if (at == digit || *nd == 8) return false;
        dim[(*nd)++] = (int64_t)d;
    }
    return strcmp(at, "]") == 0;
}

/* A quantized tensor whose rows are no whole blocks is stored flat, and a pair has its shape, in PyTorch's order
 * (trap 74). */
static sd_status take_original_shape(reader *r, sd_entry *t, uint64_t numbers)
{
    char key[512];
    uint64_t n;
    int length = snprintf(key, sizeof key, "comfy.gguf.orig_shape.%s", t->name);
    const char *text = length > 0 && (size_t)length < sizeof key ? value_of(r, key) : NULL;
    if (!text) return SD_OK;
    if (!parse_shape(text, &t->nd, t->dim))
        return sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "its original shape should be a list of at most 8 dimensions, "
                       "found %.60s", r->f->path, t->name, text);
    if (!count_numbers(t->nd, t->dim, &n) || n != numbers)
        return sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "it has %llu numbers, which is not its original shape %.60s",
                       r->f->path, t->name, (unsigned long long)numbers, text);
    return SD_OK;
}

/* Room grows with what was read, not with what the head promises. */
static void add_offset(reader *r, uint64_t offset)
{
    uint64_t *list = sd_grow(r->offset, r->f->n - 1, &r->cap, 64, sizeof *list);
    if (!list) {
        sd_fail(r->e, SD_ERR_MEMORY, "%s: no memory for a list of its tensors", r->f->path);
        return;
    }
    r->offset = list;
    r->offset[r->f->n - 1] = offset;
}

static void read_tensor(reader *r)
{
    uint64_t n = 0;
    char *name = take_name(r, "a tensor's name");
    sd_entry *t = name ? sd_weight_file_add(r->f, name, r->e) : NULL;
    free(name);
    if (!t || read_shape(r, t)) return;
    struct ggml_type type = type_of(take_whole(r, 4, "a tensor's type"), t);
    uint64_t offset = take_whole(r, 8, "a tensor's place");
    if (r->e->status) return;
    add_offset(r, offset);
    t->dt = type.dt;
    int64_t row = t->nd ? t->dim[t->nd - 1] : 1;
    if (!count_numbers(t->nd, t->dim, &n) || n / type.block > SIZE_MAX / 2 / (type.bytes + 1u))
        sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "the product of its shape overflows", r->f->path, t->name);
    else if (row % type.block)
        sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "its rows of %lld numbers are no whole blocks of %s, which have %d",
                r->f->path, t->name, (long long)row, t->spelling, type.block);
    else if (offset % r->alignment)
        sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "its data begin at %llu, which is no multiple of the alignment, %llu",
                r->f->path, t->name, (unsigned long long)offset, (unsigned long long)r->alignment);
    t->bytes = (size_t)(n / type.block * type.bytes);
    take_original_shape(r, t, n);
}

/* ---------------------------------------------------------------------------------------------- the whole */

static void read_head(reader *r, uint64_t *tensors, uint64_t *pairs)
{
    take(r, 4, "the head");
    uint64_t version = take_whole(r, 4, "the head");
    *tensors = take_whole(r, 8, "the head");
    *pairs = take_whole(r, 8, "the head");
    if (r->e->status) return;
    if (version != 2 && version != 3)
        sd_fail(r->e, SD_ERR_UNSUPPORTED, version % 65536 ? "%s: GGUF version %llu: only 2 and 3 can be read"
                : "%s is a big-endian GGUF file (version 0x%llx): only little-endian ones can be read", r->f->path,
                (unsigned long long)version);
    else if (*pairs > r->left / PAIR_LEAST || *tensors > r->left / TENSOR_LEAST)
        sd_fail(r->e, SD_ERR_FORMAT, "%s is cut short: %llu tensors and %llu keys do not fit the %zu bytes that follow",
                r->f->path, (unsigned long long)*tensors, (unsigned long long)*pairs, r->left);
}

/* Puts the entries' data at their offsets. */
static void place(reader *r)
{
    uint64_t head = (uint64_t)(r->at - (const unsigned char *)r->f->file.data);
    uint64_t gap = (r->alignment - head % r->alignment) % r->alignment;
    const unsigned char *data = gap < r->left ? r->at + gap : r->at + r->left;
    size_t size = gap < r->left ? r->left - (size_t)gap : 0;
    for (size_t i = 0; i < r->f->n && !r->e->status; i++) {
        sd_entry *t = &r->f->entry[i];
        if (r->offset[i] > size || t->bytes > size - r->offset[i])
            sd_fail(r->e, SD_ERR_FORMAT, SD_TENSOR "its %zu bytes at %llu reach beyond the file's %zu bytes of data",
                    r->f->path, t->name, t->bytes, (unsigned long long)r->offset[i], size);
        else t->data = data + (size_t)r->offset[i];
    }
}

static void read_body(reader *r)
{
    uint64_t tensors, pairs;
    read_head(r, &tensors, &pairs);
    for (uint64_t i = 0; i < pairs && !r->e->status; i++) read_pair(r);
    if (!r->e->status) sort_pairs(r);
    read_alignment(r);
    for (uint64_t i = 0; i < tensors && !r->e->status; i++) read_tensor(r);
    if (!r->e->status) place(r);
    free(r->offset);
    free(r->pair);
}

static sd_status read_gguf(sd_weight_file *f, sd_error *e)
{
    reader r = {.f = f, .at = f->file.data, .left = f->file.size, .e = e};
    read_body(&r);
    return e->status;
}

/* There may be gaps between tensors, but they must not overlap. */
static sd_status check_overlap(const sd_weight_file *f, sd_error *e)
{
    const sd_entry **order = sd_weight_file_by_place(f, e);
    for (size_t i = 1; i < f->n && !e->status; i++) {
        const sd_entry *before = order[i - 1], *t = order[i];
        if ((const unsigned char *)t->data < (const unsigned char *)before->data + before->bytes)
            sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "its data overlap those of \"%.100s\"", f->path, t->name, before->name);
    }
    free(order);
    return e->status;
}

static bool is_gguf(const unsigned char *head, size_t n) { return n >= 4 && memcmp(head, "GGUF", 4) == 0; }

const sd_file_format sd_format_gguf = {"GGUF", is_gguf, read_gguf, check_overlap};
