/* made.c - files of tensors in memory, for tests of what is recognised in them. */
#include "test.h"
#include "made.h"

void put(made *m, const char *name, sd_dtype dt, int nd, const int64_t *dim)
{
    sd_error e = {0};
    sd_entry *t = sd_weight_file_add(&m->file, name, &e);
    assert_non_null(t);
    t->dt = dt;
    t->nd = nd;
    size_t n = 1;
    for (int i = 0; i < nd; i++) n *= (size_t)(t->dim[i] = dim[i]);
    t->bytes = sd_dtype_bytes(dt, n);
}

void with(made *m, const char *name, int a, int b, int c, int d)
{
    int64_t dim[4] = {a, b, c, d};
    int nd = 0;
    while (nd < 4 && dim[nd]) nd++;
    put(m, name, SD_F16, nd, dim);
}

void numbers(made *m, const char *name, const float *x, int n)
{
    put(m, name, SD_F32, n > 1, (const int64_t[]){n});
    m->file.entry[m->file.n - 1].data = x;
}

void text(made *m, const char *name, const char *value)
{
    sd_error e = {0};
    assert_int_equal(sd_weight_file_add_meta(&m->file, name, value, &e), SD_OK);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_entry *)a)->name, ((const sd_entry *)b)->name);
}

const sd_recognised *recognise(made *m)
{
    sd_error e = {0};
    qsort(m->file.entry, m->file.n, sizeof *m->file.entry, by_name);
    m->store = (sd_store){.file = &m->file, .n_files = 1};
    sd_recognised_free(&m->is);
    assert_int_equal(sd_recognise(&m->store, &m->is, &e), SD_OK);
    return &m->is;
}

void done(made *m)
{
    sd_recognised_free(&m->is);
    sd_weight_file_close(&m->file);
    memset(m, 0, sizeof *m);
}

void assert_same_text(const char *a, const char *b)
{
    if (a && b) assert_string_equal(a, b);
    else assert_ptr_equal(a, b);
}
