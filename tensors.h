/* tensors.h - floor 3: files of named tensors, traces above all, in the order in which they were computed. */
#ifndef SD_TENSORS_H
#define SD_TENSORS_H

#include "weights.h"

typedef struct sd_tensors {
    char *path;
    sd_store store;          /* of a file; of a directory nothing, its files are opened one by one */
    sd_entry *own;           /* of a directory: what its files have, without numbers */
    size_t n_own, cap_own;
    const sd_entry **at;     /* n; in the order of execution if `executed`, else in that of sd_trace_order */
    size_t n;
    bool executed;           /* the file keeps the order in which its tensors were written */
    const sd_pair *meta;     /* n_meta settings of the run, as the file tells them */
    size_t n_meta;
} sd_tensors;

/* A file of any format that sd_store_open_file reads, or a directory with .npy files, each named as its tensor. No
 * number is read. On failure nothing stays open. */
sd_status sd_tensors_open(sd_tensors *t, const char *path, sd_error *e);
void sd_tensors_close(sd_tensors *t);
/* A tensor of the list with its numbers. */
typedef struct sd_borrowed { sd_entry of; sd_weight_file file; } sd_borrowed;
/* sd_tensors_return in any case. */
sd_status sd_tensors_borrow(const sd_tensors *t, const sd_entry *x, sd_borrowed *b, sd_error *e);
void sd_tensors_return(const sd_tensors *t, sd_borrowed *b);   /* its numbers may leave memory */

/* ---- tensors_order.c: which of two names of a trace is computed first, by the names alone; like strcmp. Names of
 * diffusers' and transformers' modules are known; others come by number and alphabet. */
int sd_trace_order(const char *a, const char *b);

#endif
