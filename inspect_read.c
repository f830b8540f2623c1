/* inspect_read.c - floor 6: the parts of `sd inspect` that read numbers: what they are like (--values) and the hashes
 * by which programs and people know files (--hash). */
#include "inspect.h"

#include <stdlib.h>
#include <string.h>

bool sd_tell(sd_telling *t, double more, sd_error *e)
{
    t->done += more;
    if (e->status == SD_OK && t->o->progress && t->o->progress(t->o->user, t->what, t->done, t->total))
        sd_fail(e, SD_ERR_CANCELLED, "stopped while %s", t->what);
    return e->status == SD_OK;
}

/* ------------------------------------------------------------------------------------------- files */

enum { STEP = 8 << 20 };   /* bytes between two answers to whoever watches */

/* The SHA-256 of the bytes from .. to - 1 of a file. */
typedef struct stretch { sd_sha256 state; size_t from, to; } stretch;

static void add_bytes(stretch *s, const unsigned char *data, size_t from, size_t to)
{
    if (from < s->from) from = s->from;
    if (to > s->to) to = s->to;
    if (from < to) sd_sha256_add(&s->state, data + from, to - from);
}

/* Where a safetensors file's numbers begin; the file's size for another format. */
static size_t end_of_header(const sd_weight_file *f)
{
    if (f->format != &sd_format_safetensors) return f->file.size;
    return (size_t)sd_from_little_endian(f->file.data, 8) + 8;
}

/* Three hashes of a file, which is read once, by one thread for each of them:
 * - of the whole file: A1111's "Model hash" and Civitai's AutoV2 are its first 10 digits;
 * - of what follows the header: Civitai's AutoV3 is its first 12 digits, kohya's sshs_model_hash all of it
 *   (library/train_util.py, addnet_hash_safetensors);
 * - of 64 KB from byte 0x100000 on: its first 8 digits are A1111's hash until 2022 (modules/sd_models.py, model_hash),
 *   Civitai's AutoV1 and kohya's sshs_legacy_hash (addnet_hash_legacy). */
static sd_status hash_file(sd_file_hashes *h, const sd_weight_file *f, sd_telling *t, sd_error *e)
{
    size_t size = f->file.size, header = end_of_header(f), old = 0x100000;
    stretch of[3] = {{.to = size}, {.from = header, .to = size}, {.from = old, .to = old + 0x10000}};
    char *hex[3] = {h->file, header < size ? h->data : NULL, old < size ? h->old : NULL};
    if (of[2].to > size) of[2].to = size;
    for (int i = 0; i < 3; i++) sd_sha256_init(&of[i].state);
    for (size_t at = 0; at < size && sd_tell(t, 0, e);) {
        size_t n = size - at < STEP ? size - at : STEP;
#pragma omp parallel for num_threads(3) if (sd_cores_usable() > 1)
        for (int i = 0; i < 3; i++) add_bytes(&of[i], f->file.data, at, at + n);
        sd_weight_file_release(f, (const char *)f->file.data + at, n);
        at += n;
        sd_tell(t, (double)n, e);
    }
    for (int i = 0; i < 3 && e->status == SD_OK; i++)
        if (hex[i]) sd_sha256_hex(&of[i].state, hex[i]);
    return e->status;
}

static sd_status hash_files(sd_seen *s, const sd_inspect_options *o, sd_error *e)
{
    size_t n = sd_seen_files(s);
    sd_telling t = {.o = o, .what = "hashing"};
    s->hashes = calloc(n ? n : 1, sizeof *s->hashes);
    if (!s->hashes) return sd_fail(e, SD_ERR_MEMORY, "no memory for hashes");
    for (size_t i = 0; i < n; i++) t.total += (double)sd_seen_file(s, i)->file.size;
    for (size_t i = 0; i < n && e->status == SD_OK; i++) hash_file(&s->hashes[i], sd_seen_file(s, i), &t, e);
    return e->status;
}

/* ----------------------------------------------------------------------------------------- tensors */

static void add_to_hash(void *user, const void *bytes, size_t n) { sd_sha256_add(user, bytes, n); }

static void hash_tensor(char hex[SD_SHA256_HEX], const sd_entry *t)
{
    sd_error own = {0};
    sd_sha256 state;
    sd_sha256_init(&state);
    if (!sd_entry_bytes(t, add_to_hash, &state, &own)) sd_sha256_hex(&state, hex);
}

/* Several tensors at once, one for each core. */
static sd_status hash_tensors(sd_seen_part *p, sd_telling *t, sd_error *e)
{
    size_t n = sd_store_count(&p->store), together = (size_t)sd_cores_usable();
    p->hash = calloc(n ? n : 1, sizeof *p->hash);
    if (!p->hash) return sd_fail(e, SD_ERR_MEMORY, "no memory for the hashes of %zu tensors", n);
    for (size_t i = 0; i < n && e->status == SD_OK; i += together) {
        double bytes = 0;
        size_t end = n - i < together ? n : i + together;
#pragma omp parallel for num_threads(sd_cores_usable()) reduction(+ : bytes)
        for (size_t k = i; k < end; k++) {
            const sd_entry *x = sd_store_at(&p->store, k);
            if (!sd_glob_list(t->o->tensors, x->name)) continue;
            hash_tensor(p->hash[k], x);
            bytes += (double)x->bytes;
        }
        for (size_t k = i; k < end; k++)
            sd_store_used(&p->store, sd_store_at(&p->store, k)->data, sd_store_at(&p->store, k)->bytes);
        sd_tell(t, bytes, e);
    }
    return e->status;
}

static sd_status look_at_values(sd_seen_part *p, sd_telling *t, sd_error *e)
{
    size_t n = sd_store_count(&p->store);
    p->values = calloc(n ? n : 1, sizeof *p->values);
    if (!p->values) return sd_fail(e, SD_ERR_MEMORY, "no memory for what %zu tensors are like", n);
    for (size_t i = 0; i < n && sd_tell(t, 0, e); i++) {
        const sd_entry *x = sd_store_at(&p->store, i);
        int owner = x->used ? sd_network_of(&p->is, x->name) : -1;
        if (x->dt != SD_DTYPE_UNKNOWN && sd_values_of(&p->values[i], x, e)) return e->status;
        if (owner >= 0) sd_values_join(&p->network[owner].values, &p->values[i]);
        sd_store_used(&p->store, x->data, x->bytes);
        sd_tell(t, (double)x->bytes, e);
    }
    return e->status;
}

static double bytes_of(const sd_seen *s, const char *globs)
{
    double n = 0;
    for (int i = 0; i < s->n_parts; i++)
        for (size_t k = 0; k < sd_store_count(&s->part[i].store); k++) {
            const sd_entry *t = sd_store_at(&s->part[i].store, k);
            if (!globs || sd_glob_list(globs, t->name)) n += (double)t->bytes;
        }
    return n;
}

sd_status sd_seen_read(sd_seen *s, const sd_inspect_options *o, sd_error *e)
{
    if (o->values) {
        sd_telling t = {.o = o, .what = "reading numbers", .total = bytes_of(s, NULL)};
        for (int i = 0; i < s->n_parts && e->status == SD_OK; i++) look_at_values(&s->part[i], &t, e);
    }
    if (o->hash && o->tensors && e->status == SD_OK) {
        sd_telling t = {.o = o, .what = "hashing tensors", .total = bytes_of(s, o->tensors)};
        for (int i = 0; i < s->n_parts && e->status == SD_OK; i++) hash_tensors(&s->part[i], &t, e);
    }
    if (o->hash && e->status == SD_OK) hash_files(s, o, e);
    return e->status;
}
