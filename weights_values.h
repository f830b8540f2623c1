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
/* The same with these kernels and so many threads: asking what the processor and the system have takes longer than
 * looking at a small tensor. */
sd_status sd_values_with(sd_values *v, const sd_entry *t, const sd_kern *k, int threads, sd_error *e);
/* v becomes the values of its numbers and of w's together. */
void sd_values_join(sd_values *v, const sd_values *w);

typedef struct sd_distance {
    uint64_t n, other;         /* other: numbers that differ; two NaN do not */
    uint64_t outside;          /* of these, numbers that differ by more than the tolerance */
    double max;                /* |a - b|, infinite where one is NaN and the other is not */
    int64_t at;                /* where that is, counted row by row; -1: nowhere */
    double squares, norm;      /* sums of (a - b)^2 and of a^2 */
    uint64_t odd[2];           /* numbers of a and of b that are NaN or infinite */
    uint64_t both;             /* places where both are finite, which the sums below are over */
    double sum[2], square[2];  /* of a and of b, and of their squares */
    double product;            /* of a b */
} sd_distance;

/* Numbers of a tensor times a scale; 0 means 1. */
typedef struct sd_scaled { sd_entry of; float scale; } sd_scaled;
/* Outside is |a - b| > absolute + relative |a|, as numpy.isclose has it: an infinity is close to none but itself. */
typedef struct sd_tolerance { double relative, absolute; } sd_tolerance;
/* Of two tensors with the same number of numbers, in any types that we have. Where all bytes are the same, only n is
 * told. within: NULL, nothing is outside. */
sd_status sd_distance_within(sd_distance *d, const sd_scaled *a, const sd_scaled *b, const sd_tolerance *within,
                             sd_error *e);
static inline sd_status sd_distance_of(sd_distance *d, const sd_scaled *a, const sd_scaled *b, sd_error *e)
{
    return sd_distance_within(d, a, b, NULL, e);
}
double sd_distance_relative(const sd_distance *d);   /* sqrt(squares / norm), the relative L2 error */
/* The distances of two parts of a pair together; the second begins at number `from`. */
void sd_distance_join(sd_distance *d, const sd_distance *part, uint64_t from);
/* The number at place `at`, counted row by row; of a type that we have. */
double sd_entry_number(const sd_entry *t, uint64_t at);
/* Numbers at .. at + n - 1, n at most SD_PIECE; `at` is a multiple of that. For all numbers of a large tensor. */
enum { SD_PIECE = 1 << 12 };
void sd_entry_piece(double *to, const sd_entry *t, uint64_t at, size_t n);
void sd_entry_to_floats(const sd_entry *t, float *to);   /* all of them; of a type that we have */

/* A tensor's numbers as one of another shape, whose dimensions lie in memory in this order, the outermost first; NULL:
 * in their own. `stride` is where the view says how; it must live as long. */
sd_entry sd_entry_in_order(const sd_entry *t, int nd, const int64_t *dim, const int *order, int64_t stride[8]);

/* Bytes of one tensor, contiguous and in the order of its shape, handed on piece by piece. */
typedef void sd_take_bytes(void *user, const void *bytes, size_t n);
sd_status sd_entry_bytes(const sd_entry *t, sd_take_bytes *take, void *user, sd_error *e);

#endif
