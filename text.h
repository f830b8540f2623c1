/* text.h - floor 0: numbers and strings as pictures' texts hold them, the same in every locale. */
#ifndef SD_TEXT_H
#define SD_TEXT_H

#include "base.h"

#define SD_NUMBER_SIZE 32
/* The fewest digits that are read back as the same double; "inf", "-inf", "nan". Returns out. */
const char *sd_number_text(char out[SD_NUMBER_SIZE], double x);
/* The whole text must be a decimal number, with a point whatever the locale says, or "inf". */
bool sd_number_read(double *out, const char *text);
/* What strtod makes of n bytes of digits, signs, "e" and at most one point, which this locale may write otherwise.
 * False if they are not a number as a whole. room[n + SD_NUMBER_SIZE]: to write in. */
bool sd_number_in_locale(double *out, const char *text, size_t n, char *room);

/* A JSON string, quotes included; what is not ASCII stays as it is, as json.dumps(ensure_ascii=False) leaves it. */
void sd_text_quoted(sd_text *t, const char *s);
/* The other way round and in place: s begins with a quote. The end of the JSON string within s, behind its closing
 * quote; NULL if there is none or it breaks JSON's rules, and s is as it was. *out: what it says, NUL terminated. */
char *sd_text_unquote(char *s, char **out);

/* The character that an escape of a JSON string means; it begins at s, with its backslash, and ends before s[n] or at
 * the first letter that it cannot have. Returns how long it is, *why is NULL; or where it breaks the rules, and *why
 * says how. */
size_t sd_json_escape(const char *s, size_t n, int32_t *c, const char **why);

bool sd_is_utf8(const char *text, size_t n);

/* How many letters must be put in, taken out or changed to make b[0..n) of a[0..m) [Levenshtein 1966]; of b the first
 * SD_MOST_LETTERS count. open, ends_open: what b has before, behind the rest costs nothing. */
enum { SD_MOST_LETTERS = 160 };
size_t sd_changes(const char *a, size_t m, const char *b, size_t n, bool open, bool ends_open);

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
