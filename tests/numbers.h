/* numbers.h - what the tests of random numbers share: lines of golden files, bits, hashes, differences. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stddef.h>
#include <stdint.h>

uint32_t bits_of(float x);
float float_of(uint32_t bits);
double double_of(uint64_t bits);

/* 64-bit FNV-1a over the little-endian bytes of the numbers */
uint64_t fnv1a_f32(const float *x, size_t n);
uint64_t fnv1a_f64(const double *x, size_t n);

double worst(const float *a, const float *b, size_t n);   /* largest difference */

/* A million numbers: mean, variance and fourth moment are those of the standard normal distribution. */
void assert_standard_normal(const float *x, size_t n);

/* Calls fn for every line of tests/golden/<file> that begins with `word`, or for every line of data if word is NULL;
 * fails the test if there is none. `rest` is what follows the word. */
void each_line(const char *file, const char *word, void (*fn)(const char *word, char *rest));

/* The next number of a line; they fail the test if there is none. hex: without 0x. */
uint64_t next_u64(char **rest);
uint64_t next_hex(char **rest);
double next_double(char **rest);

#endif
