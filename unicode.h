/* unicode.h - floor 0: UTF-8, and what CLIP's tokenizer has to know about characters. */
#ifndef SD_UNICODE_H
#define SD_UNICODE_H

#include "base.h"

/* Code points; free(codes.c) when done. Functions that run out of memory return false. */
typedef struct sd_codes { int32_t *c; size_t n, cap; } sd_codes;

/* Reads one character strictly [Unicode 15, table 3-7] from n >= 1 bytes. Returns its length, or 0 and the reason. */
size_t sd_utf8_one(const char *text, size_t n, int32_t *c, const char **why);
/* Where the first byte of n lies that begins no character, and the reason; n if the text is UTF-8 throughout. */
size_t sd_utf8_fault(const char *text, size_t n, const char **why);
/* SD_ERR_ARG unless a text that messages call `what` is UTF-8: the message names the byte that is not. */
sd_status sd_utf8_check(const char *text, const char *what, sd_error *e);
/* Replaces *out by the characters of a text that messages call `what`. SD_ERR_ARG: the message names the byte that is
 * not UTF-8. */
bool sd_utf8_decode(sd_codes *out, const char *text, const char *what, sd_error *e);
size_t sd_utf8_encode(unsigned char out[4], int32_t c);   /* returns the number of bytes */

char sd_char_class(int32_t c); /* 'L' letter \p{L}, 'N' number \p{N}, 'S' white space, 'O' any other */

/* Replaces *out by c[0..n) in NFC and lower case, with each run of white space made one space. */
bool sd_normalize(sd_codes *out, const int32_t *c, size_t n, sd_error *e);

#endif
