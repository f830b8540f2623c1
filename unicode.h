/* unicode.h - floor 0: UTF-8, and what CLIP's tokenizer has to know about characters. */
#ifndef SD_UNICODE_H
#define SD_UNICODE_H

#include "base.h"

/* Code points. free(codes.c) when done. Functions that can run out of memory return false then. */
typedef struct sd_codes { int32_t *c; size_t n, cap; } sd_codes;

/* Reads one character, strictly [Unicode 15, table 3-7]: returns its length, or 0 and why. n >= 1 bytes are there. */
size_t sd_utf8_one(const char *text, size_t n, int32_t *c, const char **why);
/* Replaces *out by the characters of a text that messages call `what`. SD_ERR_ARG names a byte that is not UTF-8. */
bool sd_utf8_decode(sd_codes *out, const char *text, const char *what, sd_error *e);
size_t sd_utf8_encode(unsigned char out[4], int32_t c);   /* returns the number of bytes */

char sd_char_class(int32_t c); /* 'L' letter \p{L}, 'N' number \p{N}, 'S' white space, 'O' any other */

/* Replaces *out by the NFC of c[0..n), runs of white space made one space, in lower case. */
bool sd_normalize(sd_codes *out, const int32_t *c, size_t n, sd_error *e);

#endif
