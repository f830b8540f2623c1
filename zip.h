/* zip.h - floor 0: zip archives that lie in memory, read with suspicion. */
#ifndef SD_ZIP_H
#define SD_ZIP_H

#include "base.h"

/* A file in an archive. */
typedef struct sd_zip_entry {
    const char *name;
    const unsigned char *data;   /* inside the archive, `packed` bytes */
    size_t packed;
    size_t bytes;                /* of the file; equal to packed unless it is deflated */
    uint32_t crc;                /* CRC-32 of the file */
    bool deflated;
} sd_zip_entry;

typedef struct sd_zip {
    sd_zip_entry *entry;   /* sorted by name; names are unique */
    size_t n;
    char *names;           /* all of them, one after the other */
} sd_zip;

bool sd_is_zip(const void *data, size_t n);
/* Reads the directory of an archive of n bytes, which must stay where it is. Messages call the archive `what`. Refused
 * are archives in several parts, encrypted files, methods other than stored and deflated, and whatever contradicts
 * itself: files that overlap, that reach beyond the archive, or that share a name. On failure nothing stays open. */
sd_status sd_zip_open(sd_zip *z, const void *data, size_t n, const char *what, sd_error *e);
void sd_zip_close(sd_zip *z);
const sd_zip_entry *sd_zip_find(const sd_zip *z, const char *name);   /* NULL: none */

/* Inflates a deflated entry into to[t->bytes] and checks its CRC. Without zlib it is refused by name. */
sd_status sd_zip_inflate(const sd_zip_entry *t, void *to, const char *what, sd_error *e);

#endif
