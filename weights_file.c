/* weights_file.c - floor 3: one file of tensors: tells formats apart, and has what readers of all formats share. */
#include "unicode.h"
#include "weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Asked in this order. */
static const sd_file_format *const formats[] = {&sd_format_npy, &sd_format_npz, &sd_format_torch_zip,
                                                &sd_format_torch_legacy, &sd_format_gguf, &sd_format_safetensors};

sd_status sd_need_little_endian(const char *path, sd_error *e)
{
    const uint16_t one = 1;
    if (*(const unsigned char *)&one == 1) return SD_OK;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: files of tensors are little-endian and this machine is not", path);
}

/* ---------------------------------------------------------------------------- bytes of the file */

static bool is_inside(const sd_weight_file *f, const void *data)
{
    uintptr_t begin = (uintptr_t)f->file.data, at = (uintptr_t)data;
    return at >= begin && at - begin < f->file.size;
}

static void advise(const sd_weight_file *f, const void *data, size_t bytes, bool needed)
{
    if (data && !is_inside(f, data)) return;
    size_t from = data ? (size_t)((const unsigned char *)data - (const unsigned char *)f->file.data) : 0;
    size_t to = data && bytes < f->file.size - from ? from + bytes : f->file.size;
    sd_os_map_advise(&f->file, from, to, needed);
}

void sd_weight_file_expect(const sd_weight_file *f, const void *data, size_t bytes) { advise(f, data, bytes, true); }
void sd_weight_file_release(const sd_weight_file *f, const void *data, size_t bytes) { advise(f, data, bytes, false); }

sd_status sd_weight_file_still_there(const sd_weight_file *f, sd_error *e)
{
    uint64_t now;
    if (e->status || !f->file.mapped) return e->status;
    if (!sd_os_map_length(&f->file, &now))
        return sd_fail(e, SD_ERR_IO, "cannot look at %s: %s", f->path, strerror(errno));
    if (now >= f->file.size) return SD_OK;
    return sd_fail(e, SD_ERR_IO, "%s was made shorter while it was in use: it had %zu bytes and has %llu", f->path,
                   f->file.size, (unsigned long long)now);
}

static sd_status load(sd_weight_file *f, const char *path, bool may_map, sd_error *e)
{
    char *data;
    if (may_map && sd_os_map_open(&f->file, path)) return SD_OK;
    if (sd_read_file(path, sd_is_file(path) ? SIZE_MAX - 1 : SD_PIPE_MAX, &data, &f->file.size, e)) return e->status;
    f->file.data = data;
    return SD_OK;
}

/* ---------------------------------------------------------------------------- opening and closing */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_entry *)a)->name, ((const sd_entry *)b)->name);
}

/* What people often have in the place of a file of weights. */
/* A text would be taken for a safetensors file whose header has an absurd length. */
static sd_status check_text(const sd_weight_file *f, sd_error *e)
{
    const unsigned char *at = f->file.data;
    size_t n = 0;
    while (n < f->file.size && n < 16 && (at[n] == '\n' || at[n] == '\t' || (at[n] >= 32 && at[n] < 127))) n++;
    if (n < 9 || at[8] == '{') return SD_OK;
    for (n = 0; n < 16 && n < f->file.size && at[n] >= 32; n++) continue;
    return sd_fail(e, SD_ERR_FORMAT, "%s is a text, not a file of weights: it begins with \"%.*s\"", f->path, (int)n,
                   (const char *)at);
}

static sd_status check_bytes(const sd_weight_file *f, sd_error *e)
{
    static const char page[] =
        "a web page, not the file that was to be downloaded: perhaps a page that asks to sign in";
    static const struct { const char *begin, *is; } others[] = {
        {"version https://git-lfs", "a Git LFS pointer, not the file it points to: fetch it with git lfs pull"},
        {"\x1f\x8b", "packed by gzip: unpack it first"}, {"7z\xbc\xaf", "a 7z archive: unpack it first"},
        {"Rar!", "a RAR archive: unpack it first"}, {"<!DOCTYPE", page}, {"<!doctype", page}, {"<html", page}};
    for (size_t i = 0; i < SD_COUNT(others); i++) {
        size_t n = strlen(others[i].begin);
        if (f->file.size > n && memcmp(f->file.data, others[i].begin, n) == 0)
            return sd_fail(e, SD_ERR_FORMAT, "%s is %s", f->path, others[i].is);
    }
    return check_text(f, e);
}

static sd_status read_all(sd_weight_file *f, const char *path, bool may_map, sd_error *e)
{
    f->path = sd_strdup(path);
    if (!f->path) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
    if (sd_need_little_endian(path, e) || load(f, path, may_map, e) || check_bytes(f, e)) return e->status;
    for (size_t i = 0; i < SD_COUNT(formats) && !f->format; i++)
        if (formats[i]->is(f->file.data, f->file.size)) f->format = formats[i];
    if (f->format->read(f, e)) return e->status;
    if (f->n) qsort(f->entry, f->n, sizeof *f->entry, by_name);
    for (size_t i = 1; i < f->n; i++)
        if (strcmp(f->entry[i - 1].name, f->entry[i].name) == 0)
            return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "two tensors have this name", path, f->entry[i].name);
    return f->format->check ? f->format->check(f, e) : SD_OK;
}

static sd_status open_as(sd_weight_file *f, const char *path, bool may_map, sd_error *e)
{
    memset(f, 0, sizeof *f);
    if (e->status == SD_OK) read_all(f, path, may_map, e);
    if (e->status) sd_weight_file_close(f);
    return e->status;
}

sd_status sd_weight_file_open(sd_weight_file *f, const char *path, sd_error *e) { return open_as(f, path, true, e); }
sd_status sd_weight_file_load(sd_weight_file *f, const char *path, sd_error *e) { return open_as(f, path, false, e); }

void sd_weight_file_close(sd_weight_file *f)
{
    for (size_t i = 0; i < f->n; i++) free(f->entry[i].name);
    for (size_t i = 0; i < f->n_meta; i++) {
        free(f->meta[i].key);
        free(f->meta[i].value);
    }
    for (size_t i = 0; i < f->n_blocks; i++) free(f->block[i]);
    free(f->entry);
    free(f->meta);
    free(f->block);
    if (f->file.mapped) sd_os_map_close(&f->file);
    else free(f->file.data);
    free(f->path);
    memset(f, 0, sizeof *f);
}

/* ---------------------------------------------------------------------------------- for readers */

bool sd_tensor_name_ok(const char *name)
{
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) return false;
    return *name != 0;
}

static sd_status check_name(const sd_weight_file *f, const char *name, sd_error *e)
{
    const char *why;
    size_t n = strlen(name), at = sd_utf8_fault(name, n, &why);
    if (!sd_tensor_name_ok(name))
        return sd_fail(e, SD_ERR_FORMAT, SD_TENSOR "a name must not be empty nor hold control characters", f->path,
                       name);
    if (at < n)
        return sd_fail(e, SD_ERR_FORMAT, "%s: a tensor's name is not UTF-8: byte %zu, 0x%02x, %s", f->path, at,
                       (unsigned char)name[at], why);
    return SD_OK;
}

static sd_status no_memory(const sd_weight_file *f, sd_error *e)
{
    return sd_fail(e, SD_ERR_MEMORY, "%s: no memory for a list of its %zu tensors", f->path, f->n);
}

sd_entry *sd_weight_file_add(sd_weight_file *f, const char *name, sd_error *e)
{
    if (check_name(f, name, e)) return NULL;
    sd_entry *list = sd_grow(f->entry, f->n, &f->cap, 64, sizeof *list);
    if (list) f->entry = list;
    char *copy = list ? sd_strdup(name) : NULL;
    if (!copy) {
        no_memory(f, e);
        return NULL;
    }
    f->entry[f->n] = (sd_entry){.name = copy};
    return &f->entry[f->n++];
}

sd_status sd_weight_file_add_meta(sd_weight_file *f, const char *key, const char *value, sd_error *e)
{
    sd_pair *more = realloc(f->meta, (f->n_meta + 1) * sizeof *more), pair = {sd_strdup(key), sd_strdup(value)};
    if (more) f->meta = more;
    if (!more || !pair.key || !pair.value) {
        free(pair.key);
        free(pair.value);
        return no_memory(f, e);
    }
    f->meta[f->n_meta++] = pair;
    return SD_OK;
}

static int by_place(const void *a, const void *b)
{
    const sd_entry *s = *(const sd_entry *const *)a, *t = *(const sd_entry *const *)b;
    uintptr_t p = (uintptr_t)s->data, q = (uintptr_t)t->data;
    if (p != q) return p < q ? -1 : 1;
    return s->bytes < t->bytes ? -1 : s->bytes > t->bytes;
}

const sd_entry **sd_weight_file_by_place(const sd_weight_file *f, sd_error *e)
{
    const sd_entry **order = malloc((f->n + 1) * sizeof *order);
    if (!order) {
        no_memory(f, e);
        return NULL;
    }
    for (size_t i = 0; i < f->n; i++) order[i] = &f->entry[i];
    qsort(order, f->n, sizeof *order, by_place);
    return order;
}

void *sd_weight_file_block(sd_weight_file *f, size_t bytes, sd_error *e)
{
    void **more = realloc(f->block, (f->n_blocks + 1) * sizeof *more), *block = calloc(1, bytes ? bytes : 1);
    if (more) f->block = more;
    if (!more || !block) {
        free(block);
        no_memory(f, e);
        return NULL;
    }
    return f->block[f->n_blocks++] = block;
}

/* -------------------------------------------------------------------------------------- looking up */

const char *sd_entry_dtype(const sd_entry *t) { return t->dt == SD_DTYPE_UNKNOWN ? t->spelling : sd_dtype_name(t->dt); }

uint64_t sd_entry_numbers(const sd_entry *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (uint64_t)t->dim[i];
    return n;
}

static int without_trailing_ones(int nd, const int64_t *dim)
{
    while (nd > 0 && dim[nd - 1] == 1) nd--;
    return nd;
}

bool sd_same_shape(int nd_a, const int64_t *a, int nd_b, const int64_t *b)
{
    int n = without_trailing_ones(nd_a, a);
    return without_trailing_ones(nd_b, b) == n && memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

int sd_entry_side(const sd_entry *t, int i)
{
    return t && i < t->nd && t->dim[i] > 0 && t->dim[i] <= 1 << 20 ? (int)t->dim[i] : 0;
}

size_t sd_entry_floats(const sd_entry *t, float *x, size_t most)
{
    if (!t || !t->data || t->stride || !sd_dtype_is_float(t->dt) || sd_dtype_block(t->dt) != 1) return 0;
    uint64_t n = sd_entry_numbers(t);
    if (n > most) return 0;
    sd_widen(x, t->data, t->dt, (size_t)n, &sd_kern_spec);
    return (size_t)n;
}

sd_entry *sd_weight_file_find(const sd_weight_file *f, const char *name)
{
    size_t low = 0, high = f->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int side = strcmp(name, f->entry[mid].name);
        if (side == 0) return &f->entry[mid];
        if (side < 0) high = mid;
        else low = mid + 1;
    }
    return NULL;
}

const char *sd_pair_find(const sd_pair *pair, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(pair[i].key, key) == 0) return pair[i].value;
    return NULL;
}

const char *sd_weight_file_meta(const sd_weight_file *f, const char *key)
{
    return sd_pair_find(f->meta, f->n_meta, key);
}
