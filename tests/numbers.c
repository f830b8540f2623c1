/* numbers.c - golden files of numbers; see numbers.h. */
#include "numbers.h"

#include <math.h>

#include "test.h"
uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t hash_word(uint64_t h, uint64_t word, int bytes)
{
    for (int i = 0; i < bytes; i++) h = (h ^ (word >> 8 * i & 0xffu)) * UINT64_C(0x100000001b3);
    return h;
}

uint64_t fnv1a_f32(const float *x, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = hash_word(h, bits_of(x[i]), 4);
    return h;
}

uint64_t fnv1a_f64(const double *x, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325), word;
    for (size_t i = 0; i < n; i++) {
        memcpy(&word, x + i, sizeof word);
        h = hash_word(h, word, 8);
    }
    return h;
}

double worst(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= most)) most = d;   /* a NaN stays */
    }
    return most;
}

void each_line(const char *file, const char *word, void (*fn)(const char *word, char *rest))
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s", file);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s is missing", path);
    static char line[65536];
    int found = 0;
    while (fgets(line, sizeof line, f)) {
        size_t length = strcspn(line, " \n");
        if (line[0] == '#' || line[length] != ' ') continue;
        line[length] = 0;
        if (word && strcmp(line, word) != 0) continue;
        fn(line, line + length + 1);
        found++;
    }
    fclose(f);
    if (!found) fail_msg("%s has no line \"%s\"", path, word ? word : "");
}

static void moved(const char *before, const char *after)
{
    if (before == after) fail_msg("a number is missing at \"%.20s\"", before);
}

uint64_t next_u64(char **rest)
{
    char *before = *rest;
    uint64_t x = strtoull(before, rest, 10);
    moved(before, *rest);
    return x;
}

uint64_t next_hex(char **rest)
{
    char *before = *rest;
    uint64_t x = strtoull(before, rest, 16);
    moved(before, *rest);
    return x;
}

double next_double(char **rest)
{
    char *before = *rest;
    double x = strtod(before, rest);
    moved(before, *rest);
    return x;
}

void assert_standard_normal(const float *x, size_t n)
{
    double mean = 0, square = 0, fourth = 0;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i] * x[i];
        mean += x[i];
        square += v;
        fourth += v * v;
    }
    assert_true(fabs(mean / (double)n) < 4e-3);
    assert_true(fabs(square / (double)n - 1) < 6e-3);
    assert_true(fabs(fourth / (double)n - 3) < 0.05);
}
