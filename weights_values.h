/* weights_values.h - floor 3: what a tensor's numbers are like, and how far those of two tensors are apart. */
#ifndef SD_WEIGHTS_VALUES_H
#define SD_WEIGHTS_VALUES_H

#include "weights.h"

typedef struct sd_values {
    uint64_t n, nan, inf;
    uint64_t subnormal;        /* closer to 0 than the type's smallest normal number; 0 for blocks and integers */
    uint64_t zero;
    uint64_t finite;           /* those that the following describe; if there are none, all of these are 0 */
    double min, max, mean, std;
} sd_values;

/* On all cores; the number of threads changes no bit. Types that we do not have: SD_ERR_UNSUPPORTED. */
sd_status sd_values_of(sd_values *v, const sd_entry *t, sd_error *e);
/* v becomes the values of its numbers and of w's together. */
void sd_values_join(sd_values *v, const sd_values *w);

typedef struct sd_distance {
    uint64_t n, other;         /* other: numbers that differ; two NaN do not */
    double max;                /* |a - b|, infinite where one is NaN and the other is not */
    int64_t at;                /* where that is, counted row by row; -1: nowhere */
    double squares, norm;      /* sums of (a - b)^2 and of a^2 */
} sd_distance;

/* Numbers of a tensor times a scale; 0 means 1. */
typedef struct sd_scaled { sd_entry of; float scale; } sd_scaled;
/* Of two tensors with the same number of numbers, in any types that we have. */
sd_status sd_distance_of(sd_distance *d, const sd_scaled *a, const sd_scaled *b, sd_error *e);
double sd_distance_relative(const sd_distance *d);   /* sqrt(squares / norm), the relative L2 error */

/* Bytes of one tensor, contiguous and in the order of its shape, handed on piece by piece. */
typedef void sd_take_bytes(void *user, const void *bytes, size_t n);
sd_status sd_entry_bytes(const sd_entry *t, sd_take_bytes *take, void *user, sd_error *e);

#endif
