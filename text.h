/* text.h - floor 0: numbers and strings as pictures' texts hold them, the same in every locale. */
#ifndef SD_TEXT_H
#define SD_TEXT_H

#include "base.h"

#define SD_NUMBER_SIZE 32
/* The shortest decimal that reads back as the same double; or "inf", "-inf", "nan". Returns out. */
const char *sd_number_text(char out[SD_NUMBER_SIZE], double x);
/* The same, but whole numbers below 1e9 have no exponent: "20", not "2e+01". */
const char *sd_plain_number(char out[SD_NUMBER_SIZE], double x);
/* The whole text must be a decimal number, with a point in every locale, or "inf". */
bool sd_number_read(double *out, const char *text);
/* What strtod makes of n bytes of digits, signs, "e" and at most one point, for which this locale may have another
 * character. False if they are not one whole number. room[n + SD_NUMBER_SIZE] is scratch. */
bool sd_number_in_locale(double *out, const char *text, size_t n, char *room);

/* Adds s as a JSON string, quotes included; non-ASCII characters stay as they are, as with
 * json.dumps(ensure_ascii=False). */
void sd_text_quoted(sd_text *t, const char *s);
/* The other way round, in place; s begins with a quote. *out receives the decoded string, NUL terminated. Returns the
 * end of the JSON string in s, after its closing quote; or NULL, with s unchanged, if it breaks JSON's rules. */
char *sd_text_unquote(char *s, char **out);

/* Reads an escape of a JSON string into *c. It begins at s, with its backslash, and ends before s[n] or at the first
 * character that it cannot have. Returns its length, and *why is NULL; or the place where it breaks the rules, and *why
 * says how. */
size_t sd_json_escape(const char *s, size_t n, int32_t *c, const char **why);

bool sd_is_utf8(const char *text, size_t n);

/* How many letters must be inserted, removed or changed to turn a[0..m) into b[0..n) [Levenshtein 1966]. Only the first
 * SD_MOST_LETTERS of b count. open: further letters at b's beginning cost nothing; ends_open: nor do those at its
 * end. */
enum { SD_MOST_LETTERS = 160 };
size_t sd_edit_distance(const char *a, size_t m, const char *b, size_t n, bool open, bool ends_open);

/* ---- md5.c: MD5 [RFC 1321], which names data and protects nothing */
typedef struct sd_md5 {
    uint32_t state[4];
    uint64_t bytes;
    unsigned char block[64];
} sd_md5;
void sd_md5_init(sd_md5 *m);
void sd_md5_add(sd_md5 *m, const void *data, size_t n);
void sd_md5_hex(sd_md5 *m, char hex[33]);   /* ends it */

#endif
