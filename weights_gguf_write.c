/* weights_gguf_write.c - floor 3: writes GGUF files of version 3; weights_gguf.c says what one looks like. */
#include "text.h"
#include "weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 32, KIND_U32 = 4, KIND_TEXT = 8 };

/* Keys whose values readers expect to be whole numbers. */
static const char *const whole[] = {"general.quantization_version", "general.file_type"};

static uint64_t pad(uint64_t n) { return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT; }

static void add_whole(sd_text *t, uint64_t x, size_t bytes)
{
    char b[8];
    for (size_t i = 0; i < bytes; i++) b[i] = (char)(unsigned char)(x >> 8 * i);
    sd_text_addn(t, b, bytes);
}

static void add_text(sd_text *t, const char *s)
{
    size_t n = strlen(s);
    add_whole(t, n, 8);
    if (n) sd_text_addn(t, s, n);
}

static bool is_whole(const sd_pair *pair, double *x)
{
    for (size_t i = 0; i < SD_COUNT(whole); i++)
        if (strcmp(pair->key, whole[i]) == 0)
            return sd_number_read(x, pair->value) && *x >= 0 && *x <= UINT32_MAX && (double)(uint32_t)*x == *x;
    return false;
}

/* The alignment is this file's own, whatever another file had. */
static bool is_written(const sd_pair *pair) { return strcmp(pair->key, "general.alignment") != 0; }

static void add_pair(sd_text *t, const sd_pair *pair)
{
    double x;
    add_text(t, pair->key);
    if (is_whole(pair, &x)) {
        add_whole(t, KIND_U32, 4);
        add_whole(t, (uint64_t)x, 4);
    } else {
        add_whole(t, KIND_TEXT, 4);
        add_text(t, pair->value);
    }
}

static void add_tensor(sd_text *t, const sd_traced *x, uint64_t offset)
{
    add_text(t, x->name);
    add_whole(t, (uint64_t)x->nd, 4);
    for (int i = x->nd; i-- > 0;) add_whole(t, (uint64_t)x->dim[i], 8);
    add_whole(t, (uint64_t)sd_gguf_number(x->dtype), 4);
    add_whole(t, offset, 8);
}

static sd_status make_header(sd_text *t, const sd_file_plan *p, const char *path, sd_error *e)
{
    uint64_t at = 0, bytes, pairs = 0;
    for (size_t i = 0; i < p->n_meta; i++) pairs += is_written(&p->meta[i]);
    sd_text_addn(t, "GGUF", 4);
    add_whole(t, 3, 4);
    add_whole(t, p->n, 8);
    add_whole(t, pairs, 8);
    for (size_t i = 0; i < p->n_meta; i++)
        if (is_written(&p->meta[i])) add_pair(t, &p->meta[i]);
    for (size_t i = 0; i < p->n; i++) {
        if (sd_plan_bytes(&p->tensor[i], &bytes, path, e)) return e->status;
        add_tensor(t, &p->tensor[i], at);
        at += bytes + pad(bytes);
        if (at > INT64_MAX / 2)
            return sd_fail(e, SD_ERR_ARG, "cannot write %s: its tensors have more bytes than a file can have", path);
    }
    return t->failed ? sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path) : SD_OK;
}

static sd_status write_bytes(sd_outfile *o, const char *data, size_t n, sd_error *e)
{
    static const char zeros[ALIGNMENT];
    size_t padding = (size_t)pad(n);
    if ((!data || fwrite(data, 1, n, o->f) == n) && fwrite(zeros, 1, padding, o->f) == padding) return SD_OK;
    return sd_fail(e, SD_ERR_IO, "cannot write %s: %s", o->path, strerror(errno));
}

static sd_status write_all(sd_outfile *o, const sd_text *header, const sd_file_plan *p, sd_error *e)
{
    uint64_t bytes;
    if (write_bytes(o, header->s, header->n, e)) return e->status;
    for (size_t i = 0; i < p->n; i++)
        if (sd_plan_bytes(&p->tensor[i], &bytes, o->path, e) || p->put(p->user, i, o->f, o->path, e) ||
            write_bytes(o, NULL, (size_t)(bytes % ALIGNMENT), e))
            return e->status;
    return sd_outfile_commit(o, e);
}

sd_status sd_gguf_write_plan(const char *path, const sd_file_plan *p, sd_error *e)
{
    sd_outfile o = {0};
    sd_text header = {0};
    if (sd_need_little_endian(path, e) || sd_plan_check(p, path, e)) return e->status;
    for (size_t i = 0; i < p->n; i++)
        if (sd_gguf_number(p->tensor[i].dtype) < 0)
            return sd_fail(e, SD_ERR_ARG, "cannot write %s: GGUF files cannot hold %s", path,
                           sd_dtype_name(p->tensor[i].dtype));
    if (!make_header(&header, p, path, e) && !sd_outfile_open(&o, path, e))
        if (write_all(&o, &header, p, e)) sd_outfile_abort(&o);
    free(header.s);
    return e->status;
}
