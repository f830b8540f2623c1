/* weights_torch.h - floor 3: what the two halves of the reader of torch.save's files share: weights_torch.c knows what
 * the values in the pickle mean, weights_torch_file.c where the numbers are. */
#ifndef SD_WEIGHTS_TORCH_H
#define SD_WEIGHTS_TORCH_H

#include "weights.h"
#include "weights_pickle.h"
#include "zip.h"

/* The numbers of one storage, which several tensors may share. */
typedef struct sd_torch_storage {
    const char *key;             /* not NUL terminated */
    size_t key_bytes;
    const sd_global *type;
    size_t n;                    /* numbers */
    const unsigned char *data;   /* NULL: not found yet */
} sd_torch_storage;

typedef struct sd_torch_file {
    sd_weight_file *f;
    sd_pickle pickle;            /* the object that was saved */
    sd_zip zip;                  /* of a zip archive: its files, ... */
    char root[256];              /* ... the folder that all of them are in, ... */
    unsigned char **unpacked;    /* ... and for each what it was inflated to, or NULL */
    double unpacked_bytes;
    sd_torch_storage *storage;   /* of a file in the legacy form: all of them, sorted by key */
    size_t n_storages;
    size_t steps;                /* that the walk through the object has taken, of those that it may take */
    size_t held;                 /* bytes of entries and names */
    sd_error *e;
} sd_torch_file;

/* The numbers of an SD_PICKLED_STORAGE, for a tensor that messages call `name`. */
sd_status sd_torch_find_storage(sd_torch_file *t, sd_pickled id, const char *name, sd_torch_storage *out);
/* Adds entries and texts for the tensors and settings in t->pickle. */
sd_status sd_torch_add_all(sd_torch_file *t);

#endif
