/* weights_torch_file.c - floor 3: the two forms of file that torch.save writes, and where their numbers are.
 *
 *   zip      one folder of any name: data.pkl is the object, data/KEY the numbers of a storage, byteorder "little" or
 *            "big"
 *   legacy   five pickles: a magic number, a version, facts about the machine, the object, the list of keys; then for
 *            each key of the list a 64-bit count and the numbers
 *
 * In both, a storage is named in the object by its persistent id: ("storage", type, key, device, count, view). Numbers
 * are used where they lie in the file; only those of a compressed archive are unpacked. */
#include "weights_torch.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PICKLE_MOST ((size_t)64 << 20)      /* bytes of a compressed data.pkl; SDXL's has less than one million */
/* Weights hardly compress. An archive whose storages would take more memory than this is not one of weights. */
#define UNPACKED_MOST(file_bytes) (16.0 * (double)(file_bytes) + 67108864.0)

/* ------------------------------------------------------------------------------------------ storages */

/* What a persistent id says of a storage, but not where its numbers are. */
static sd_status read_id(const sd_torch_file *t, sd_pickled id, const char *name, sd_torch_storage *out)
{
    const sd_pickle *p = &t->pickle;
    int64_t n = 0;
    *out = (sd_torch_storage){0};
    if (sd_pickle_kind(p, id) != SD_PICKLED_STORAGE)
        return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "its numbers are in no storage", t->f->path, name);
    out->type = sd_pickle_global(p, sd_pickle_item(p, id, 1));
    out->key = sd_pickle_text(p, sd_pickle_item(p, id, 2), &out->key_bytes);
    if (!out->type || out->type->kind != SD_GLOBAL_STORAGE || !out->key || out->key_bytes > 127 ||
        !sd_pickle_int(p, sd_pickle_item(p, id, 4), &n) || n < 0 || (uint64_t)n > SIZE_MAX / 2 / out->type->size)
        return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "type, key or number of elements of its storage make no sense",
                       t->f->path, name);
    out->n = (size_t)n;
    return SD_OK;
}

/* ---------------------------------------------------------------------------------------------- zip */

/* The bytes of a file in the archive; inflated once. */
static const unsigned char *unpacked(sd_torch_file *t, const sd_zip_entry *z)
{
    unsigned char **at = &t->unpacked[z - t->zip.entry];
    if (!z->deflated) return z->data;
    if (*at) return *at;
    t->unpacked_bytes += (double)z->bytes;
    if (t->unpacked_bytes > UNPACKED_MOST(t->f->file.size)) {
        sd_fail(t->e, SD_ERR_FORMAT, "%s: \"%.100s\" and what else is compressed in it would take %.0f MB: no model "
                "compresses so well", t->f->path, z->name, t->unpacked_bytes / 1048576);
        return NULL;
    }
    if (sd_need_memory(t->e, (double)z->bytes, "unpacking %s", t->f->path)) return NULL;
    unsigned char *to = sd_weight_file_block(t->f, z->bytes, t->e);
    if (!to || sd_zip_inflate(z, to, t->f->path, t->e)) return NULL;
    return *at = to;
}

static sd_status find_in_zip(sd_torch_file *t, const char *name, sd_torch_storage *s)
{
    char path[512];
    size_t bytes = s->n * s->type->size;
    snprintf(path, sizeof path, "%sdata/%.*s", t->root, (int)s->key_bytes, s->key);
    const sd_zip_entry *z = sd_zip_find(&t->zip, path);
    if (!z) return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "its numbers should be in %.150s, which is not there",
                           t->f->path, name, path);
    if (z->bytes < bytes)
        return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "its storage %.150s should have %zu bytes and has %zu",
                       t->f->path, name, path, bytes, z->bytes);
    s->data = unpacked(t, z);
    return t->e->status;
}

/* The folder that data.pkl is in, with its slash. */
static const sd_zip_entry *find_root(sd_torch_file *t)
{
    static const char pickle[] = "data.pkl";
    const sd_zip_entry *found = NULL;
    for (size_t i = 0; i < t->zip.n; i++) {
        const char *name = t->zip.entry[i].name, *slash = strchr(name, '/');
        if (strcmp(slash ? slash + 1 : name, pickle) != 0) continue;
        if (found) {
            sd_fail(t->e, SD_ERR_FORMAT, "%s is a zip archive with more than one data.pkl", t->f->path);
            return NULL;
        }
        found = &t->zip.entry[i];
        snprintf(t->root, sizeof t->root, "%.*s", (int)(slash ? slash - name + 1 : 0), name);
        if (slash && (size_t)(slash - name) + 1 >= sizeof t->root) break;
    }
    if (!found || (strchr(found->name, '/') && !strchr(t->root, '/')))
        sd_fail(t->e, SD_ERR_FORMAT, "%s is a zip archive, but not of torch.save: it has no data.pkl in one folder",
                t->f->path);
    return found;
}

static sd_status check_byte_order(sd_torch_file *t)
{
    char path[300], order[16] = "";
    snprintf(path, sizeof path, "%sbyteorder", t->root);
    const sd_zip_entry *z = sd_zip_find(&t->zip, path);
    if (!z) return SD_OK;
    if (z->bytes < sizeof order && z->deflated && sd_zip_inflate(z, order, t->f->path, t->e)) return t->e->status;
    if (z->bytes < sizeof order && !z->deflated) memcpy(order, z->data, z->bytes);
    if (strcmp(order, "little") == 0) return SD_OK;
    return sd_fail(t->e, SD_ERR_UNSUPPORTED, "%s was saved on a big-endian machine, and is not read: load it with "
                   "torch and save it again on a little-endian one", t->f->path);
}

static sd_status read_object(sd_torch_file *t, const sd_zip_entry *z)
{
    unsigned char *own = NULL;
    if (z->deflated) {
        if (z->bytes > PICKLE_MOST)
            return sd_fail(t->e, SD_ERR_FORMAT, "%s: its data.pkl would unpack to %zu bytes: that is no model's",
                           t->f->path, z->bytes);
        own = malloc(z->bytes + 1);
        if (!own) return sd_fail(t->e, SD_ERR_MEMORY, "%s: no memory to unpack its data.pkl", t->f->path);
        sd_zip_inflate(z, own, t->f->path, t->e);
    }
    if (!t->e->status && !sd_pickle_read(&t->pickle, own ? own : z->data, z->bytes, 0, t->f->path, t->e))
        sd_torch_add_all(t);
    sd_pickle_free(&t->pickle);
    free(own);
    return t->e->status;
}

static sd_status read_zip(sd_weight_file *f, sd_error *e)
{
    sd_torch_file t = {.f = f, .e = e};
    sd_os_map_scattered(&f->file, true);   /* a header before each of a thousand storages */
    sd_zip_open(&t.zip, f->file.data, f->file.size, f->path, e);
    sd_os_map_scattered(&f->file, false);
    if (e->status) return e->status;
    t.unpacked = calloc(t.zip.n + 1, sizeof *t.unpacked);
    if (!t.unpacked) sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", f->path);
    const sd_zip_entry *z = e->status ? NULL : find_root(&t);
    if (!e->status && z && !check_byte_order(&t)) read_object(&t, z);
    free(t.unpacked);
    sd_zip_close(&t.zip);
    return e->status;
}

/* ------------------------------------------------------------------------------------------- legacy */

static int by_key(const void *a, const void *b)
{
    const sd_torch_storage *s = a, *t = b;
    if (s->key_bytes != t->key_bytes) return s->key_bytes < t->key_bytes ? -1 : 1;
    return memcmp(s->key, t->key, s->key_bytes);
}

static sd_torch_storage *storage_with(const sd_torch_file *t, const char *key, size_t n)
{
    const sd_torch_storage like = {.key = key, .key_bytes = n};
    return t->n_storages ? bsearch(&like, t->storage, t->n_storages, sizeof like, by_key) : NULL;
}

/* All storages that the object names, each once. */
static sd_status list_storages(sd_torch_file *t)
{
    size_t n = 0, kept = 0;
    for (size_t v = 1; v < t->pickle.n; v++) n += t->pickle.value[v].kind == SD_PICKLED_STORAGE;
    t->storage = calloc(n + 1, sizeof *t->storage);
    if (!t->storage) return sd_fail(t->e, SD_ERR_MEMORY, "no memory to open %s", t->f->path);
    for (size_t v = 1; v < t->pickle.n; v++)
        if (t->pickle.value[v].kind == SD_PICKLED_STORAGE &&
            read_id(t, (sd_pickled)v, "of any name", &t->storage[t->n_storages++]))
            return t->e->status;
    if (n) qsort(t->storage, n, sizeof *t->storage, by_key);
    for (size_t i = 0; i < n; i++) {
        if (!kept || by_key(&t->storage[kept - 1], &t->storage[i]) != 0) t->storage[kept++] = t->storage[i];
        else if (t->storage[kept - 1].n != t->storage[i].n ||
                 t->storage[kept - 1].type->size != t->storage[i].type->size)
            return sd_fail(t->e, SD_ERR_FORMAT, "%s: its storage %.*s has two sizes", t->f->path,
                           (int)t->storage[i].key_bytes, t->storage[i].key);
    }
    t->n_storages = kept;
    return SD_OK;
}

/* The numbers of all keys in the list, from data[at] on. */
static sd_status place_storages(sd_torch_file *t, const sd_pickle *keys, size_t at)
{
    const unsigned char *data = t->f->file.data;
    sd_pickle_items i = sd_pickle_begin(keys, keys->root);
    sd_pickled key;
    if (sd_pickle_kind(keys, keys->root) != SD_PICKLED_LIST)
        return sd_fail(t->e, SD_ERR_FORMAT, "%s: there is no list of storages after its pickle", t->f->path);
    while (sd_pickle_next(&i, &key)) {
        size_t n = 0, left = t->f->file.size - at;
        const char *name = sd_pickle_text(keys, key, &n);
        sd_torch_storage *s = name ? storage_with(t, name, n) : NULL;
        if (!s || s->data)
            return sd_fail(t->e, SD_ERR_FORMAT, "%s: its list of storages names one that is in no tensor, or one twice",
                           t->f->path);
        if (left < 8 || sd_from_little_endian(data + at, 8) != s->n || s->n * s->type->size > left - 8)
            return sd_fail(t->e, SD_ERR_FORMAT, "%s is cut short or damaged: storage %.*s should have %zu numbers of "
                           "%u bytes at byte %zu of %zu", t->f->path, (int)n, name, s->n, (unsigned)s->type->size, at,
                           t->f->file.size);
        s->data = data + at + 8;
        at += 8 + s->n * s->type->size;
    }
    return SD_OK;
}

/* A view is a part of a storage: (key of its own, first number, how many). */
static sd_status take_view(const sd_torch_file *t, sd_pickled id, const char *name, sd_torch_storage *s)
{
    const sd_pickle *p = &t->pickle;
    sd_pickled view = sd_pickle_item(p, id, 5);
    int64_t from, n;
    if (sd_pickle_kind(p, view) != SD_PICKLED_TUPLE) return SD_OK;
    if (!sd_pickle_int(p, sd_pickle_item(p, view, 1), &from) || !sd_pickle_int(p, sd_pickle_item(p, view, 2), &n) ||
        from < 0 || n < 0 || (uint64_t)from > s->n || (uint64_t)n > s->n - (uint64_t)from)
        return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "its view reaches beyond its storage", t->f->path, name);
    s->data += (size_t)from * s->type->size;
    s->n = (size_t)n;
    return SD_OK;
}

static sd_status find_in_legacy(sd_torch_file *t, sd_pickled id, const char *name, sd_torch_storage *s)
{
    const sd_torch_storage *found = storage_with(t, s->key, s->key_bytes);
    if (!found || !found->data)
        return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "its storage %.*s is not in the file's list", t->f->path, name,
                       (int)s->key_bytes, s->key);
    s->data = found->data;
    return take_view(t, id, name, s);
}

sd_status sd_torch_find_storage(sd_torch_file *t, sd_pickled id, const char *name, sd_torch_storage *out)
{
    if (read_id(t, id, name, out)) return t->e->status;
    return t->zip.n ? find_in_zip(t, name, out) : find_in_legacy(t, id, name, out);
}

/* The three pickles before the object. */
static sd_status check_preface(const sd_torch_file *t, int which, const sd_pickle *p)
{
    static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    size_t n = 0;
    int64_t version = 0;
    const char *s = sd_pickle_text(p, p->root, &n);
    if (which == 0 && (!s || n != sizeof magic || memcmp(s, magic, n) != 0))
        return sd_fail(t->e, SD_ERR_UNSUPPORTED, "%s is a pickle, but not one of torch.save", t->f->path);
    if (which == 1 && (!sd_pickle_int(p, p->root, &version) || version != 1001))
        return sd_fail(t->e, SD_ERR_UNSUPPORTED, "%s: version %lld of torch's files is not read, only 1001", t->f->path,
                       (long long)version);
    sd_pickled little = which == 2 ? sd_pickle_get(p, p->root, "little_endian") : 0;
    if (sd_pickle_kind(p, little) == SD_PICKLED_BOOL && !p->value[little].u.i)
        return sd_fail(t->e, SD_ERR_UNSUPPORTED, "%s was saved on a big-endian machine: save it again on another",
                       t->f->path);
    return SD_OK;
}

static sd_status read_pickles(sd_torch_file *t)
{
    const unsigned char *data = t->f->file.data;
    size_t at = 0, n = t->f->file.size;
    sd_pickle p;
    for (int i = 0; i < 3; i++) {
        if (sd_pickle_read(&p, data, n, at, t->f->path, t->e)) return t->e->status;
        check_preface(t, i, &p);
        at = p.end;
        sd_pickle_free(&p);
        if (t->e->status) return t->e->status;
    }
    if (sd_pickle_read(&t->pickle, data, n, at, t->f->path, t->e)) return t->e->status;
    if (list_storages(t) || sd_pickle_read(&p, data, n, t->pickle.end, t->f->path, t->e)) return t->e->status;
    sd_os_map_scattered(&t->f->file, true);   /* a count before each storage */
    place_storages(t, &p, p.end);
    sd_os_map_scattered(&t->f->file, false);
    if (!t->e->status) sd_torch_add_all(t);
    sd_pickle_free(&p);
    return t->e->status;
}

static bool is_tar(const unsigned char *b, size_t n) { return n > 262 && memcmp(b + 257, "ustar", 5) == 0; }

static sd_status read_legacy(sd_weight_file *f, sd_error *e)
{
    sd_torch_file t = {.f = f, .e = e};
    if (is_tar(f->file.data, f->file.size))
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is a tar archive, as torch before 0.1.10 saved: load it with torch "
                       "and save it again", f->path);
    read_pickles(&t);
    sd_pickle_free(&t.pickle);
    free(t.storage);
    return e->status;
}

/* ------------------------------------------------------------------------------------------ formats */

/* A pickle of protocol 2 or later. A safetensors file may begin with these bytes too, and has a brace at byte 8. */
static bool is_legacy(const unsigned char *b, size_t n)
{
    return (n > 8 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && b[8] != '{') || is_tar(b, n);
}

static bool is_zip(const unsigned char *b, size_t n) { return sd_is_zip(b, n); }

const sd_file_format sd_format_torch_zip = {"pickle in a zip", is_zip, read_zip, NULL};
const sd_file_format sd_format_torch_legacy = {"pickle", is_legacy, read_legacy, NULL};
