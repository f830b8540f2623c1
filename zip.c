/* zip.c - floor 0: zip archives that lie in memory [PKWARE APPNOTE 6.3.10].
 *
 *   for each file   local header, name, extra, data
 *   directory       for each file: header with sizes and the local header's place, name, extra, comment
 *   end             for zip64 an end record and its locator; then the plain end record: where the directory is, a
 *                   comment
 *
 * Sizes are taken from the directory, because writers that cannot seek leave them out of local headers. The data's
 * place is taken from the local header, because names and extras may have other lengths there. */
#include "zip.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_ZLIB
#include <zlib.h>
#endif

/* Bytes of the fixed parts of records, and the most bytes of a comment. */
enum { LOCAL = 30, CENTRAL = 46, END = 22, LOCATOR = 20, END64 = 56, COMMENT_MAX = 65535 };
#define SIGN_LOCAL 0x04034b50u
#define SIGN_CENTRAL 0x02014b50u
#define SIGN_END 0x06054b50u
#define SIGN_LOCATOR 0x07064b50u
#define SIGN_END64 0x06064b50u

/* A byte of deflated data stands for at most so many of the file: 258 take a code of two bits [RFC 1951]. */
enum { MOST_INFLATION = 1032 };

/* The bytes of an archive, and where its directory is. */
typedef struct archive {
    const unsigned char *data;
    size_t n;
    uint64_t files, at, bytes;   /* of the directory */
    const char *what;
    sd_error *e;
} archive;

static unsigned u16(const unsigned char *p) { return (unsigned)sd_from_little_endian(p, 2); }
static uint32_t u32(const unsigned char *p) { return (uint32_t)sd_from_little_endian(p, 4); }
static uint64_t u64(const unsigned char *p) { return sd_from_little_endian(p, 8); }

/* A name in messages: without control characters, which could be anything. */
static sd_status refuse(const archive *a, const char *name, size_t n, const char *why)
{
    char shown[101];
    size_t i = 0;
    for (; i < n && i < sizeof shown - 1; i++) shown[i] = name[i];
    shown[i] = '\0';
    for (char *c = shown; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    return sd_fail(a->e, SD_ERR_FORMAT, "%s: \"%s\" in this zip archive %s", a->what, shown, why);
}

/* ---------------------------------------------------------------------------------- the directory */

bool sd_is_zip(const void *data, size_t n)
{
    return n >= 4 && (u32(data) == SIGN_LOCAL || (n == END && u32(data) == SIGN_END));
}

/* The end record: the last bytes but for a comment, whose length it knows. NULL: there is none. */
static const unsigned char *find_end(const archive *a)
{
    for (size_t comment = 0; comment <= COMMENT_MAX && comment + END <= a->n; comment++) {
        const unsigned char *p = a->data + a->n - END - comment;
        if (u32(p) == SIGN_END && u16(p + 20) == comment) return p;
    }
    return NULL;
}

/* Zip64's end record, if its locator stands before the plain end record. */
static sd_status read_end64(archive *a, const unsigned char *end)
{
    size_t left = (size_t)(end - a->data);
    if (left < LOCATOR || u32(end - LOCATOR) != SIGN_LOCATOR) return SD_OK;
    uint64_t at = u64(end - LOCATOR + 8);
    left -= LOCATOR;
    if (left < END64 || at > left - END64 || u32(a->data + at) != SIGN_END64)
        return sd_fail(a->e, SD_ERR_FORMAT, "%s: the zip archive's zip64 end record is not where its locator says",
                       a->what);
    const unsigned char *p = a->data + at;
    if (u32(end - LOCATOR + 4) != 0 || u32(end - LOCATOR + 16) > 1 || u32(p + 16) != 0 || u32(p + 20) != 0)
        return sd_fail(a->e, SD_ERR_UNSUPPORTED, "%s is one part of a zip archive in several", a->what);
    a->files = u64(p + 32);
    a->bytes = u64(p + 40);
    a->at = u64(p + 48);
    return SD_OK;
}

static sd_status find_directory(archive *a)
{
    const unsigned char *end = find_end(a);
    if (!end)
        return sd_fail(a->e, SD_ERR_FORMAT, "%s is cut short: it begins as a zip archive, and the directory that such "
                       "an archive ends with is not there", a->what);
    a->files = u16(end + 10);
    a->bytes = u32(end + 12);
    a->at = u32(end + 16);
    bool parts = u16(end + 4) != 0 || u16(end + 6) != 0 || u16(end + 8) != a->files;
    if (read_end64(a, end)) return a->e->status;
    size_t before_end = (size_t)(end - a->data);
    if (parts && a->files != 0xFFFF && u16(end + 8) != 0xFFFF)
        return sd_fail(a->e, SD_ERR_UNSUPPORTED, "%s is one part of a zip archive in several", a->what);
    if (a->at > before_end || a->bytes > before_end - a->at)
        return sd_fail(a->e, SD_ERR_FORMAT, "%s: the zip archive's directory should be at byte %llu, with %llu bytes, "
                       "and %zu bytes are before the archive's end record", a->what, (unsigned long long)a->at,
                       (unsigned long long)a->bytes, before_end);
    if (a->files > a->bytes / CENTRAL)
        return sd_fail(a->e, SD_ERR_FORMAT, "%s: the zip archive's directory should list %llu files and has %llu bytes",
                       a->what, (unsigned long long)a->files, (unsigned long long)a->bytes);
    return SD_OK;
}

/* -------------------------------------------------------------------------------------- its files */

/* The sizes of one file and its local header's place. The directory's header has 32 bits for each; a value of all ones
 * means that zip64's extra field has it, in 64 bits. False: it is not there either. */
static bool read_sizes(const unsigned char *p, uint64_t *bytes, uint64_t *packed, uint64_t *at)
{
    uint64_t *const value[] = {bytes, packed, at};
    const unsigned char *x = p + CENTRAL + u16(p + 28), *end = x + u16(p + 30);
    *bytes = u32(p + 24);
    *packed = u32(p + 20);
    *at = u32(p + 42);
    while (end - x >= 4 && u16(x) != 1 && u16(x + 2) <= end - x - 4) x += 4 + u16(x + 2);
    const unsigned char *has = x + 4, *until = has;
    if (end - x >= 4 && u16(x) == 1 && u16(x + 2) <= end - x - 4) until = has + u16(x + 2);
    for (size_t i = 0; i < SD_COUNT(value); i++) {
        if (*value[i] != 0xFFFFFFFFu) continue;
        if (until - has < 8) return false;
        *value[i] = u64(has);
        has += 8;
    }
    return true;
}

/* Finds where the data of an entry begins, by its local header, and compares that with the directory's. */
static sd_status find_data(const archive *a, sd_zip_entry *t, const unsigned char *p, uint64_t at, uint64_t packed)
{
    const char *name = (const char *)p + CENTRAL;
    size_t n = u16(p + 28);
    if (at > a->at || a->at - at < LOCAL || u32(a->data + at) != SIGN_LOCAL)
        return refuse(a, name, n, "is not where the directory says");
    const unsigned char *local = a->data + at;
    size_t skip = LOCAL + (size_t)u16(local + 26) + u16(local + 28), left = (size_t)(a->at - at);
    if (skip > left || packed > left - skip) return refuse(a, name, n, "reaches beyond the archive's data");
    if (u16(local + 26) != n || memcmp(local + LOCAL, name, n) != 0 || u16(local + 8) != u16(p + 10))
        return refuse(a, name, n, "has another name or method in its own header than in the directory");
    t->data = local + skip;
    t->packed = (size_t)packed;
    return SD_OK;
}

static sd_status read_entry(const archive *a, sd_zip_entry *t, const unsigned char *p, char *to)
{
    const char *name = (const char *)p + CENTRAL;
    size_t n = u16(p + 28);
    uint64_t bytes, packed, at;
    unsigned flags = u16(p + 8), method = u16(p + 10);
    if (!n || memchr(name, '\0', n)) return refuse(a, name, n, "has an empty name, or one with a NUL");
    if (flags & 0x2041u) return refuse(a, name, n, "is encrypted");
    if (method != 0 && method != 8) return refuse(a, name, n, "is compressed by another method than deflate");
    if (!read_sizes(p, &bytes, &packed, &at)) return refuse(a, name, n, "should have zip64 sizes, and has none");
    if (u16(p + 34) != 0 && u16(p + 34) != 0xFFFF) return refuse(a, name, n, "is in another part of the archive");
    if (method == 0 && packed != bytes) return refuse(a, name, n, "is stored, but with two sizes");
    if (find_data(a, t, p, at, packed)) return a->e->status;
    if (bytes > SIZE_MAX / 2 || (method && bytes / MOST_INFLATION > packed))
        return refuse(a, name, n, "claims to become larger than deflated data can");
    t->name = memcpy(to, name, n);
    to[n] = '\0';
    t->bytes = (size_t)bytes;
    t->crc = u32(p + 16);
    t->deflated = method != 0;
    return SD_OK;
}

static sd_status read_directory(const archive *a, sd_zip *z)
{
    const unsigned char *p = a->data + a->at;
    size_t left = (size_t)a->bytes;
    char *to = z->names;
    for (; z->n < a->files; z->n++) {
        size_t skip = left < CENTRAL ? SIZE_MAX : CENTRAL + (size_t)u16(p + 28) + u16(p + 30) + u16(p + 32);
        if (skip > left || u32(p) != SIGN_CENTRAL)
            return sd_fail(a->e, SD_ERR_FORMAT, "%s: the zip archive's directory is damaged: file %zu of %llu is not "
                           "listed where it should be", a->what, z->n + 1, (unsigned long long)a->files);
        if (read_entry(a, &z->entry[z->n], p, to)) return a->e->status;
        to += u16(p + 28) + 1;
        p += skip;
        left -= skip;
    }
    return SD_OK;
}

/* --------------------------------------------------------------------------------------- the whole */

static int by_place(const void *a, const void *b)
{
    const sd_zip_entry *s = a, *t = b;
    if (s->data != t->data) return (uintptr_t)s->data < (uintptr_t)t->data ? -1 : 1;
    return s->packed < t->packed ? -1 : s->packed > t->packed;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_zip_entry *)a)->name, ((const sd_zip_entry *)b)->name);
}

/* Two entries with the same bytes: how a small archive claims much [Fifield 2019]. */
static sd_status check_apart(const archive *a, sd_zip *z)
{
    if (z->n) qsort(z->entry, z->n, sizeof *z->entry, by_place);
    for (size_t i = 1; i < z->n; i++)   /* a local header is between them, too */
        if ((size_t)(z->entry[i].data - z->entry[i - 1].data) < z->entry[i - 1].packed + LOCAL)
            return refuse(a, z->entry[i].name, strlen(z->entry[i].name), "overlaps another file of it");
    if (z->n) qsort(z->entry, z->n, sizeof *z->entry, by_name);
    for (size_t i = 1; i < z->n; i++)
        if (strcmp(z->entry[i].name, z->entry[i - 1].name) == 0)
            return refuse(a, z->entry[i].name, strlen(z->entry[i].name), "is there twice");
    return SD_OK;
}

sd_status sd_zip_open(sd_zip *z, const void *data, size_t n, const char *what, sd_error *e)
{
    archive a = {.data = data, .n = n, .what = what, .e = e};
    *z = (sd_zip){0};
    if (e->status || find_directory(&a)) return e->status;
    z->entry = calloc((size_t)a.files + 1, sizeof *z->entry);
    z->names = malloc((size_t)a.bytes + 1);   /* a header is longer than the NULs that are added */
    if (!z->entry || !z->names) sd_fail(e, SD_ERR_MEMORY, "%s: no memory for the zip archive's directory", what);
    else if (!read_directory(&a, z)) check_apart(&a, z);
    if (e->status) sd_zip_close(z);
    return e->status;
}

void sd_zip_close(sd_zip *z)
{
    free(z->entry);
    free(z->names);
    *z = (sd_zip){0};
}

const sd_zip_entry *sd_zip_find(const sd_zip *z, const char *name)
{
    const sd_zip_entry key = {.name = name};
    return z->n ? bsearch(&key, z->entry, z->n, sizeof *z->entry, by_name) : NULL;
}

/* --------------------------------------------------------------------------------------- inflating */

#ifdef SD_WITH_ZLIB
/* Steps of at most so many bytes: zlib counts in unsigned, and a request to stop is heard between two of them. */
static unsigned at_most(size_t n) { return n < 1u << 24 ? (unsigned)n : 1u << 24; }

/* Z_STREAM_END: all of it, and no more. */
static int inflate_all(z_stream *s, const sd_zip_entry *t, unsigned char *to, sd_error *e)
{
    size_t from = t->packed, room = t->bytes;
    int result = Z_OK;
    s->next_in = (unsigned char *)(uintptr_t)t->data;   /* zlib only reads it */
    s->next_out = to;
    while (result == Z_OK && !sd_fail_if_stopped(e)) {
        unsigned in = s->avail_in = at_most(from), out = s->avail_out = at_most(room);
        result = inflate(s, Z_NO_FLUSH);
        from -= in - s->avail_in;
        room -= out - s->avail_out;
    }
    return result == Z_STREAM_END && (from || room) ? Z_DATA_ERROR : result;
}

static uint32_t crc_of(const unsigned char *p, size_t n)
{
    uLong crc = crc32(0, NULL, 0);
    for (size_t at = 0; at < n; at += at_most(n - at)) crc = crc32(crc, p + at, at_most(n - at));
    return (uint32_t)crc;
}

sd_status sd_zip_inflate(const sd_zip_entry *t, void *to, const char *what, sd_error *e)
{
    const archive a = {.what = what, .e = e};
    z_stream s = {0};
    if (e->status) return e->status;
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return sd_fail(e, SD_ERR_MEMORY, "%s: no memory to unpack \"%.100s\"", what, t->name);
    int result = inflate_all(&s, t, to, e);
    inflateEnd(&s);
    if (e->status) return e->status;
    if (result == Z_MEM_ERROR) return sd_fail(e, SD_ERR_MEMORY, "%s: no memory to unpack \"%.100s\"", what, t->name);
    if (result != Z_STREAM_END || crc_of(to, t->bytes) != t->crc)
        return refuse(&a, t->name, strlen(t->name), "is damaged: it does not unpack to what the directory says");
    return SD_OK;
}
#else
sd_status sd_zip_inflate(const sd_zip_entry *t, void *to, const char *what, sd_error *e)
{
    (void)to;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: \"%.100s\" is compressed, and this program was built without zlib "
                   "(make ZLIB=0): save the file again with torch.save, which does not compress", what, t->name);
}
#endif
