/* made.h - files of tensors in memory, most of them without numbers, and what is recognised in them. */
#ifndef MADE_H
#define MADE_H

#include "../recognise.h"

typedef struct made {
    sd_weight_file file;
    sd_store store;
    sd_recognised is;
} made;

void put(made *m, const char *name, sd_dtype dt, int nd, const int64_t *dim);
/* with(m, name, 320, 4, 3, 3): sides up to the first zero */
void with(made *m, const char *name, int a, int b, int c, int d);
/* A tensor with numbers, which the caller keeps. */
void numbers(made *m, const char *name, const float *x, int n);
void text(made *m, const char *name, const char *value);   /* of the header */
const sd_recognised *recognise(made *m);
void done(made *m);

void assert_same_text(const char *a, const char *b);   /* or both are NULL */

#endif
