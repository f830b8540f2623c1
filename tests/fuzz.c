/* fuzz.c - files, bytes and promises of the fuzz targets; and a program around a target where there is no libFuzzer. */
#define _XOPEN_SOURCE 700
#include "fuzz.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TEXTS = 64 };
static char *texts[MOST_TEXTS];
static size_t n_texts;
static char dir[64], path[256];

void fuzz_demand(bool ok)
{
    if (!ok) abort();
}

void fuzz_demand_sentence(sd_status status, const char *text)
{
    fuzz_demand((status == SD_OK) == (*text == '\0'));
    fuzz_demand(!strchr(text, '\n'));
}

static void remove_dir(void) { rmdir(dir); }

const char *fuzz_dir(void)
{
    if (*dir) return dir;
    strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/sd-fuzz-XXXXXX" : "/dev/shm/sd-fuzz-XXXXXX");
    fuzz_demand(mkdtemp(dir) != NULL);
    atexit(remove_dir);
    return dir;
}

const char *fuzz_file(const char *name, const uint8_t *data, size_t n)
{
    snprintf(path, sizeof path, "%s/%s", fuzz_dir(), name);
    FILE *f = fopen(path, "wb");
    fuzz_demand(f && fwrite(data, 1, n, f) == n);
    fuzz_demand(fclose(f) == 0);
    return path;
}

void fuzz_remove(const char *name)
{
    char at[256];
    snprintf(at, sizeof at, "%s/%s", fuzz_dir(), name);
    unlink(at);
}

uint8_t fuzz_byte(fuzz_bytes *b)
{
    if (!b->left) return 0;
    b->left--;
    return *b->at++;
}

static uint64_t word(fuzz_bytes *b)
{
    uint64_t w = 0;
    for (int i = 0; i < 8; i++) w = w << 8 | fuzz_byte(b);
    return w;
}

int64_t fuzz_int(fuzz_bytes *b)
{
    static const int64_t ends[] = {0, -1, 1, INT_MAX, INT_MIN, INT64_MAX, INT64_MIN, (int64_t)INT_MAX + 1, 1 << 16};
    uint8_t kind = fuzz_byte(b);
    if (kind < 160) return fuzz_byte(b);
    if (kind < 200) return ends[fuzz_byte(b) % SD_COUNT(ends)];
    return (int64_t)word(b);
}

double fuzz_number(fuzz_bytes *b)
{
    static const double ends[] = {0, -0.0, 1, -1, NAN, INFINITY, -INFINITY, 1e300, 5e-324, 2147483648.0, 0.5, 1000,
                                  14.6};
    uint8_t kind = fuzz_byte(b);
    if (kind < 120) return fuzz_byte(b) / 16.0;
    if (kind < 220) return ends[fuzz_byte(b) % SD_COUNT(ends)];
    uint64_t bits = word(b);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

const char *fuzz_text(fuzz_bytes *b, size_t most)
{
    size_t n = 0;
    if (b->left && *b->at == 0xFF) return fuzz_byte(b), NULL;
    while (n < b->left && n < most && b->at[n] && b->at[n] != 0xFF) n++;
    fuzz_demand(n_texts < MOST_TEXTS);
    char *s = malloc(n + 1);   /* of its own, so that reading beyond it is seen */
    fuzz_demand(s != NULL);
    memcpy(s, b->at, n);
    s[n] = '\0';
    b->at += n;
    b->left -= n;
    fuzz_byte(b);
    return texts[n_texts++] = s;
}

void fuzz_free(void)
{
    while (n_texts) free(texts[--n_texts]);
}

#ifndef SD_LIBFUZZER
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        sd_error e = {0};
        char *data;
        size_t n;
        sd_error_clear(&e);
        if (sd_read_file(argv[i], (size_t)INT32_MAX, &data, &n, &e)) {
            fprintf(stderr, "%s\n", e.text);
            return 1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)data, n);
        free(data);
    }
    return 0;
}
#endif
