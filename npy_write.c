/* npy_write.c - floor 3: writes NumPy's .npy files, one array in each [NEP 1, numpy/lib/format.py]. Their bytes are
 * those of numpy.save. */
#include "weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* NumPy has no name for the other types. */
static const char *descr_of(sd_dtype dt)
{
    static const struct { sd_dtype dt; const char *descr; } known[] = {
        {SD_F32, "<f4"}, {SD_F16, "<f2"}, {SD_F64, "<f8"}, {SD_I64, "<i8"}, {SD_I32, "<i4"}, {SD_I16, "<i2"},
        {SD_I8, "|i1"}, {SD_U8, "|u1"}, {SD_BOOL, "|b1"},
    };
    for (size_t i = 0; i < SD_COUNT(known); i++)
        if (known[i].dt == dt) return known[i].descr;
    return NULL;
}

/* The dictionary, with blanks up to a multiple of 64 bytes of the file. NumPy leaves room for the first dimension to
 * grow to 21 digits. */
static sd_status make_header(sd_text *h, const sd_traced *t, const char *path, sd_error *e)
{
    enum { BEFORE = 10, MULTIPLE = 64, GROWTH = 21 };
    char digits[24];
    int known = t->nd ? snprintf(digits, sizeof digits, "%lld", (long long)t->dim[0]) : GROWTH;
    sd_text_add(h, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr_of(t->dtype));
    for (int i = 0; i < t->nd; i++) sd_text_add(h, i ? ", %lld" : "%lld", (long long)t->dim[i]);
    sd_text_add(h, "%s), }", t->nd == 1 ? "," : "");
    for (; known < GROWTH; known++) sd_text_add(h, " ");
    while (!h->failed && (BEFORE + h->n + 1) % MULTIPLE) sd_text_add(h, " ");
    sd_text_add(h, "\n");
    return h->failed ? sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path) : SD_OK;
}

static sd_status write_all(sd_outfile *o, const sd_text *h, const sd_traced *t, uint64_t bytes, sd_error *e)
{
    const unsigned char before[] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(h->n & 255),
                                    (unsigned char)(h->n >> 8)};
    if (fwrite(before, 1, sizeof before, o->f) != sizeof before || fwrite(h->s, 1, h->n, o->f) != h->n
        || (bytes && fwrite(t->data, 1, (size_t)bytes, o->f) != bytes))
        return sd_fail(e, SD_ERR_IO, "cannot write %s: %s", o->path, strerror(errno));
    return sd_outfile_commit(o, e);
}

sd_status sd_npy_write(const char *path, const sd_traced *t, sd_error *e)
{
    sd_outfile o = {0};
    sd_text header = {0};
    uint64_t bytes = 0;
    if (sd_need_little_endian(path, e) || sd_plan_bytes(t, &bytes, path, e)) return e->status;
    if (!descr_of(t->dtype))
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: .npy files cannot hold %s, safetensors files can", path,
                       sd_dtype_name(t->dtype));
    if (bytes && !t->data) return sd_fail(e, SD_ERR_ARG, "cannot write %s: \"%.100s\" has no data", path, t->name);
    if (!make_header(&header, t, path, e) && !sd_outfile_open(&o, path, e)) {
        if (write_all(&o, &header, t, bytes, e)) sd_outfile_abort(&o);
    }
    free(header.s);
    return e->status;
}
