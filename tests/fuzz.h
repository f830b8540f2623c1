/* fuzz.h - what the fuzz targets share. A target is one function that takes any bytes, hands them to a reader and stops
 * where an answer is none that the reader promises.
 *
 *     make fuzz                        every target for FUZZ_SECONDS (60), under ASan and UBSan;
 *                                      needs clang with libFuzzer
 *     make fuzz FUZZ=fuzz_config       one of them
 *
 * Without SD_LIBFUZZER a target is a program that reads the files it is given: any compiler can try again what a fuzzer
 * found. */
#ifndef SD_FUZZ_H
#define SD_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What holds of every answer; a wrong one must stop the fuzzer. */
void fuzz_demand(bool ok);
/* A status and its sentence belong together: none with SD_OK, one line with anything else. */
void fuzz_demand_sentence(sd_status status, const char *text);

/* A directory of this process, in memory where the system has such a place; made at the first call. */
const char *fuzz_dir(void);
/* Writes the bytes to `name` in it. The path lives until the next call. */
const char *fuzz_file(const char *name, const uint8_t *data, size_t n);
void fuzz_remove(const char *name);

/* Bytes taken one after the other from an input; zeros when it has ended. */
typedef struct fuzz_bytes { const uint8_t *at; size_t left; } fuzz_bytes;
uint8_t fuzz_byte(fuzz_bytes *b);
int64_t fuzz_int(fuzz_bytes *b);      /* mostly small, sometimes the ends of its type */
double fuzz_number(fuzz_bytes *b);    /* the same; NaN and infinity too */
/* Up to `most` bytes as text that ends at a 0 or 0xFF byte, NULL sometimes. Lives until the next fuzz_free. */
const char *fuzz_text(fuzz_bytes *b, size_t most);
void fuzz_free(void);

#endif
