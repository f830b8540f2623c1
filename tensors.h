/* tensors.h - floor 3: files of named tensors, traces above all, in the order in which they were computed. */
#ifndef SD_TENSORS_H
#define SD_TENSORS_H

#include "weights.h"

/* Tensors of one type that are parts of a batch, one after another. */
typedef struct sd_joined {
    sd_entry whole;          /* its name is those of its parts: "a + b"; it has no numbers */
    const sd_entry **part;   /* n */
    size_t n;
} sd_joined;

/* What a directory's tensors.json says, see tensors_index.c. */
typedef struct sd_index {
    char **name;             /* n, in the order of execution */
    size_t n;
    sd_pair *meta;           /* n_meta settings of the run */
    size_t n_meta, cap_meta;
} sd_index;

typedef struct sd_tensors {
    char *path;
    sd_store store;          /* of a file; of a directory nothing, its files are opened one by one */
    sd_entry *own;           /* of a directory: what its files have, without numbers */
    size_t n_own, cap_own;
    const sd_entry **at;     /* n; in the order of execution if `executed`, else in that of sd_trace_order */
    size_t n;
    sd_index index;          /* of a directory of .npy files; or of a rehearsed run, its settings */
    bool raw;                /* a directory of plain numbers: sd_tensors_is_raw */
    bool executed;           /* the file, or the directory's tensors.json, keeps the order of execution */
    const sd_pair *meta;     /* n_meta settings of the run, as the file tells them */
    size_t n_meta;
    struct sd_tensors *more; /* further files whose tensors are in the list too, each from place more[i].begin on */
    size_t n_more, begin;
    sd_joined **joined;
    size_t n_joined, cap_joined;
} sd_tensors;

/* Settings by which a trace says that its run went on with another one's tensors: with which, and with what part. */
#define SD_NOTE_INJECTED "injected"
#define SD_NOTE_INJECTED_ONLY "injected_only"

/* A file of any format that sd_store_open_file reads, or a directory with .npy files, each named as its tensor. No
 * number is read. On failure nothing stays open. */
sd_status sd_tensors_open(sd_tensors *t, const char *path, sd_error *e);
const sd_entry *sd_tensors_named(const sd_tensors *t, const char *name);   /* tensors_files.c; NULL: there is none */
void sd_tensors_close(sd_tensors *t);
/* A tensor of the list with its numbers. */
typedef struct sd_borrowed { sd_entry of; sd_weight_file file; void *own; } sd_borrowed;
/* sd_tensors_return in any case. */
sd_status sd_tensors_borrow(const sd_tensors *t, const sd_entry *x, sd_borrowed *b, sd_error *e);
void sd_tensors_return(const sd_tensors *t, sd_borrowed *b);   /* its numbers may leave memory */

/* ---- tensors_files.c
 * One tensor (the one called `name`, else the only one) as floats, of at most 4 dimensions, out of a file of any
 * format or a directory of .npy files; "FILE:NAME" names the tensor itself. free() *data. */
sd_status sd_read_floats(const char *path, const char *name, float **data, int *nd, int64_t dim[4], sd_error *e);
/* A .npy file, which has one tensor; DIR/, a .npy file for each; else a safetensors file. */
sd_status sd_write_tensors(const char *path, const sd_traced *tensors, size_t n, sd_error *e);
const sd_joined *sd_tensors_parts(const sd_tensors *t, const sd_entry *x);   /* NULL: it is not of several */

/* ---- tensors_join.c
 * Appends a further file's tensors to the list. */
sd_status sd_tensors_add(sd_tensors *t, const char *path, sd_error *e);
/* n tensors of the list, of one type and the same shape but for the first dimension, as one, which t keeps. The caller
 * puts it into the list. NULL, and an error: out of memory. */
const sd_entry *sd_tensors_join(sd_tensors *t, const sd_entry *const *part, size_t n, sd_error *e);
/* What it needs of tensors.c. */
size_t sd_tensors_place(const sd_tensors *t, const sd_entry *x);
void sd_joined_free(sd_joined *j);   /* NULL is harmless */

/* ---- tensors_raw.c: does a directory have a shapes.txt? Then its files are plain numbers, in the order of that file's
 * lines. */
bool sd_tensors_is_raw(const char *directory);
/* Fills t->own; reads the numbers of one. */
sd_status sd_tensors_list_raw(sd_tensors *t, sd_error *e);
sd_status sd_tensors_read_raw(const sd_tensors *t, const sd_entry *x, sd_borrowed *b, sd_error *e);

/* ---- tensors_index.c
 * What the directory's tensors.json says; nothing, if it has none. sd_index_free in any case. */
sd_status sd_index_read(sd_index *x, const char *directory, sd_error *e);
void sd_index_free(sd_index *x);
/* A later value of a key counts: several runs may draw one trace's tensors. */
sd_status sd_index_set(sd_index *x, const char *key, const char *value, sd_error *e);
/* Puts n tensors into its order. False, and they are as they were: it does not have all of them. */
bool sd_index_order(const sd_index *x, const sd_entry **at, size_t n, sd_error *e);
/* An error: the directory has .npy files that the index does not name. */
sd_status sd_index_covers(const sd_index *x, const char *directory, sd_error *e);
sd_status sd_index_write(const char *directory, const char *const *name, size_t n, const sd_pair *meta, size_t n_meta,
                         sd_error *e);
void sd_index_remove(const char *directory, const char *const *name, size_t n);   /* ... and these .npy files */

/* ---- tensors_order.c: which of two names of a trace is computed first, by the names alone; like strcmp. Names of
 * diffusers' and transformers' modules are known; others come by number and alphabet. */
int sd_trace_order(const char *a, const char *b);

#endif
