/* fuzz_gguf.c - a GGUF file of any bytes: mapped, read into memory, every number of every tensor widened, every text
 * read. */
#include "fuzz_weights.h"

static size_t numbers_of(const sd_entry *t)
{
    size_t block = sd_dtype_block(t->dt), bytes = sd_dtype_bytes(t->dt, block);
    return bytes ? t->bytes / bytes * block : 0;
}

static unsigned sum_of(const sd_weight_file *f)
{
    enum { PIECE = 256 };   /* a multiple of every type's block */
    unsigned sum = 0;
    float x[PIECE];
    for (size_t i = 0; i < f->n; i++) {
        const sd_entry *t = &f->entry[i];
        const unsigned char *p = t->data;
        size_t n = numbers_of(t);
        uint64_t shape = 1;
        for (int k = 0; k < t->nd; k++) {
            fuzz_demand(t->dim[k] >= 0);
            shape *= (uint64_t)t->dim[k];
        }
        fuzz_demand(t->dt == SD_DTYPE_UNKNOWN || n == shape);
        for (size_t k = 0; k < t->bytes; k++) sum += p[k];
        for (size_t at = 0; at < n; at += PIECE) {
            size_t m = n - at < PIECE ? n - at : PIECE;
            sd_widen(x, p + sd_dtype_bytes(t->dt, at), t->dt, m, &sd_kern_spec);
            for (size_t k = 0; k < m; k++) sum += x[k] > 0;
        }
        fuzz_demand(i == 0 || strcmp(f->entry[i - 1].name, t->name) < 0);
        fuzz_demand(sd_weight_file_find(f, t->name) == t);
    }
    for (size_t i = 0; i < f->n_meta; i++) {
        fuzz_demand(sd_weight_file_meta(f, f->meta[i].key) == f->meta[i].value);
        sum += (unsigned)strlen(f->meta[i].value);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 4 || memcmp(data, "GGUF", 4) != 0) return 0;
    fuzz_weight_file("x.gguf", data, n, sum_of);
    return 0;
}
