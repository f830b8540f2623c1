/* image_text.c - floor 3: the text of settings that a picture's file keeps: finds where it is and reads it.
 *
 * PNG: the chunk `parameters`. JPEG and WebP: EXIF's UserComment, as A1111 writes it, or stable-diffusion.cpp's comment
 * `parameters` and XMP. It walks through the chunks and decodes no pixel. No claim of the file is trusted beyond its
 * bytes, and nothing unpacks to more than MOST_TEXT. */
#include "image.h"
#include "image_exif.h"
#include "os.h"
#include "text.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_PNG
#include <zlib.h>
#endif

enum { MOST_FILE = INT32_MAX, MOST_TEXT = 1 << 24 };

static const char key[] = "parameters";

typedef struct chunk {
    char name[5];
    const unsigned char *data;
    size_t n;
} chunk;

static uint32_t u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Reads the chunk at *at and moves *at past it; false at the end of the file. */
static bool next_chunk(chunk *c, const unsigned char *file, size_t n, size_t *at)
{
    if (n - *at < 12) return false;
    size_t length = u32(file + *at);
    if (length > n - *at - 12) return false;
    memcpy(c->name, file + *at + 4, 4);
    c->name[4] = 0;
    c->data = file + *at + 8;
    c->n = length;
    *at += length + 12;
    return true;
}

static bool damaged(const chunk *c)
{
#ifdef SD_WITH_PNG
    return crc32(0, c->data - 4, (uInt)c->n + 4) != u32(c->data + c->n);
#else
    (void)c;
    return false;
#endif
}

static char *copy(const unsigned char *data, size_t n)
{
    char *s = malloc(n + 1);
    if (!s) return NULL;
    memcpy(s, data, n);
    s[n] = 0;
    return s;
}

/* Converts Latin-1 to UTF-8, unless it is UTF-8 already: tEXt should be Latin-1, but stable-diffusion.cpp and others
 * write UTF-8. */
static char *from_latin1(const unsigned char *data, size_t n)
{
    if (sd_is_utf8((const char *)data, n)) return copy(data, n);
    char *s = malloc(2 * n + 1), *to = s;
    for (size_t i = 0; s && i < n; i++) {
        if (data[i] >= 0x80) *to++ = (char)(0xC0 | data[i] >> 6);
        *to++ = (char)(data[i] < 0x80 ? data[i] : 0x80 | (data[i] & 0x3F));
    }
    if (s) *to = 0;
    return s;
}

static sd_status broken(const char *path, const char *what, sd_error *e)
{
    return sd_fail(e, SD_ERR_FORMAT, "cannot read the text of %s: %s", path, what);
}

/* Unpacks a zlib stream; free() the result. */
static sd_status inflated(const unsigned char *data, size_t n, unsigned char **out, size_t *out_n, const char *path,
                          sd_error *e)
{
#ifdef SD_WITH_PNG
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (uInt)n};
    size_t room = 4 * n + 1024;
    if (room > MOST_TEXT) room = MOST_TEXT;
    *out = malloc(room);
    if (!*out || inflateInit(&z) != Z_OK) {
        free(*out);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for the text of %s", path);
    }
    int status = Z_OK;
    while (status == Z_OK) {
        z.next_out = *out + z.total_out;
        z.avail_out = (uInt)(room - z.total_out);
        status = inflate(&z, Z_NO_FLUSH);
        if (status != Z_OK || z.avail_out) continue;
        size_t want = room < MOST_TEXT / 2 ? 2 * room : MOST_TEXT;
        unsigned char *more = want > room ? realloc(*out, want) : NULL;
        if (!more && want > room) status = Z_MEM_ERROR;
        if (!more) break;
        *out = more;
        room = want;
    }
    *out_n = z.total_out;
    inflateEnd(&z);
    if (status == Z_STREAM_END) return SD_OK;
    free(*out);
    if (status == Z_MEM_ERROR) return sd_fail(e, SD_ERR_MEMORY, "no memory for the text of %s", path);
    return broken(path, status == Z_OK ? "it unpacks to more than 16 MB" : "it does not unpack", e);
#else
    (void)data, (void)n, (void)out, (void)out_n;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "the text of %s is packed, and this build has no libpng (PNG=0)", path);
#endif
}

typedef char *converter(const unsigned char *data, size_t n);

static sd_status take(char **text, const unsigned char *data, size_t n, bool packed, converter *convert,
                      const char *path, sd_error *e)
{
    unsigned char *plain = NULL;
    if (packed && inflated(data, n, &plain, &n, path, e)) return e->status;
    if (packed) data = plain;
    if (memchr(data, 0, n)) broken(path, "it has a NUL byte", e);
    else if (convert == copy && !sd_is_utf8((const char *)data, n)) broken(path, "it is not UTF-8", e);
    else if (!(*text = convert(data, n))) sd_fail(e, SD_ERR_MEMORY, "no memory for the text of %s", path);
    free(plain);
    return e->status;
}

/* tEXt: key, 0, Latin-1. zTXt: key, 0, method, packed Latin-1. iTXt: key, 0, packed?, method, language, 0, translated
 * key, 0, UTF-8 [PNG specification, sec. 11.3.3]. *text stays NULL if the chunk holds something else. */
static sd_status read_chunk(char **text, const chunk *c, const char *path, sd_error *e)
{
    size_t at = sizeof key;   /* with its NUL */
    if (c->n < at || memcmp(c->data, key, at) != 0 || !strstr("tEXt zTXt iTXt", c->name)) return SD_OK;
    if (damaged(c)) return broken(path, "its checksum is wrong", e);
    if (strcmp(c->name, "tEXt") == 0) return take(text, c->data + at, c->n - at, false, from_latin1, path, e);
    bool international = strcmp(c->name, "iTXt") == 0, packed = true;
    if (international) packed = at < c->n && c->data[at++] != 0;
    if (at >= c->n || (packed && c->data[at] != 0)) return broken(path, "it is packed in an unknown way", e);
    at++;
    for (int skipped = 0; international && skipped < 2; at++) {
        if (at >= c->n) return broken(path, "its chunk is cut off", e);
        skipped += c->data[at] == 0;
    }
    return take(text, c->data + at, c->n - at, packed, international ? copy : from_latin1, path, e);
}

static sd_status read_png(char **text, const unsigned char *file, size_t n, const char *path, sd_error *e)
{
    size_t at = 8;
    chunk c;
    while (!*text && !e->status && next_chunk(&c, file, n, &at) && strcmp(c.name, "IEND") != 0)
        read_chunk(text, &c, path, e);
    return e->status;
}

/* ---------------------------------------------------------------------------- the comment of EXIF */

/* Nobody says in which order the bytes of its UTF-16 are: A1111's piexif always has the high one first, other programs
 * the order of the directories around it. But every text of settings has letters of ASCII, whose high byte is 0. */
static bool low_byte_first(const unsigned char *data, size_t n)
{
    size_t high_first = 0, low_first = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        high_first += !data[i] && data[i + 1];
        low_first += data[i] && !data[i + 1];
    }
    return low_first > high_first;
}

/* As UTF-8, NUL terminated; NULL: no memory. *out_n is SIZE_MAX where a surrogate stands alone. */
static unsigned char *from_utf16(const unsigned char *data, size_t n, size_t *out_n)
{
    bool low = low_byte_first(data, n);
    unsigned char *s = malloc(n / 2 * 3 + 1), *to = s;
    for (size_t i = 0; s && i + 1 < n; i += 2) {
        int32_t c = data[i + !low] | data[i + low] << 8, next = 0;
        if (c == 0xFEFF && i == 0) continue;   /* the mark of the order */
        if (i + 3 < n) next = data[i + 2 + !low] | data[i + 2 + low] << 8;
        bool pair = (c & 0xFC00) == 0xD800 && (next & 0xFC00) == 0xDC00;
        if ((c & 0xF800) == 0xD800 && !pair) {
            *out_n = SIZE_MAX;
            return s;
        }
        if (pair) {
            c = 0x10000 + ((c & 0x3FF) << 10 | (next & 0x3FF));
            i += 2;
        }
        to += sd_utf8_encode(to, c);
    }
    if (s) *out_n = (size_t)(to - s);
    return s;
}

static sd_status take_utf16(char **text, const unsigned char *data, size_t n, const char *path, sd_error *e)
{
    size_t plain_n = 0;
    unsigned char *plain = from_utf16(data, n, &plain_n);
    if (!plain) return sd_fail(e, SD_ERR_MEMORY, "no memory for the text of %s", path);
    if (plain_n == SIZE_MAX) broken(path, "it is not UTF-16", e);
    else take(text, plain, plain_n, false, copy, path, e);
    free(plain);
    return e->status;
}

/* The comment begins with eight bytes for its code [EXIF 2.3, table 9]; what begins with others has none and is UTF-8,
 * as A1111 reads it. *text stays NULL if it is empty: cameras write such. */
static sd_status read_exif(char **text, const unsigned char *tiff, size_t n, const char *path, sd_error *e)
{
    enum { CODE = 8 };
    const uint8_t *data;
    if (!sd_exif_comment(&data, &n, tiff, n)) return broken(path, "its EXIF points beyond its end", e);
    bool coded = n >= CODE, utf16 = coded && memcmp(data, "UNICODE", CODE) == 0;
    bool bytes = coded && (memcmp(data, "ASCII\0\0", CODE) == 0 || memcmp(data, "\0\0\0\0\0\0\0", CODE) == 0);
    if (coded && memcmp(data, "JIS\0\0\0\0", CODE) == 0) return broken(path, "it is in JIS, not in Unicode", e);
    if (utf16 || bytes) data += CODE, n -= CODE;
    if (utf16 && n % 2) return broken(path, "it is not UTF-16", e);
    size_t unit = utf16 ? 2 : 1;   /* some end it with NULs */
    while (n && !data[n - 1] && !data[n - unit]) n -= unit;
    if (!n) return SD_OK;
    return utf16 ? take_utf16(text, data, n, path, e) : take(text, data, n, false, bytes ? from_latin1 : copy, path, e);
}

/* The header that a JPEG has before EXIF, and some WebPs. */
static bool begins_exif(const unsigned char *data, size_t n) { return n >= 6 && memcmp(data, "Exif\0", 6) == 0; }

/* ------------------------------------------------------------------------------------ JPEG, WebP */

enum { START_OF_SCAN = 0xDA, END = 0xD9, APP1 = 0xE1, COMMENT = 0xFE };   /* markers [ITU T.81, table B.1] */

/* Segments are FF, marker, length with its own two bytes, data [ITU T.81, sec. B.1.1.4]; more FF may stand before.
 * stable-diffusion.cpp's comment is the key, 0, the text, and 0 if there was room for all of it. */
static sd_status read_jpeg(char **text, const unsigned char *file, size_t n, const char *path, sd_error *e)
{
    for (size_t at = 2; !*text && !e->status && n - at >= 4; ) {
        unsigned marker = file[at + 1];
        if (file[at] != 0xFF || marker == START_OF_SCAN || marker == END) break;
        if (marker == 0xFF) {
            at++;
            continue;
        }
        size_t length = (size_t)file[at + 2] << 8 | file[at + 3];
        if (length < 2 || length > n - at - 2) return broken(path, "the file is cut off or damaged", e);
        const unsigned char *data = file + at + 4;
        size_t size = length - 2;
        if (marker == APP1 && begins_exif(data, size)) read_exif(text, data + 6, size - 6, path, e);
        if (marker == COMMENT && size >= sizeof key && memcmp(data, key, sizeof key) == 0) {
            size -= sizeof key + (size > sizeof key && !data[size - 1]);
            take(text, data + sizeof key, size, false, from_latin1, path, e);
        }
        at += 2 + length;
    }
    return e->status;
}

static const char *find(const char *s, size_t n, const char *what)
{
    size_t length = strlen(what);
    for (; n >= length; s++, n--)
        if (memcmp(s, what, length) == 0) return s;
    return NULL;
}

/* Of XMP only stable-diffusion.cpp's own element, in which five characters are written as entities of XML. */
static sd_status read_xmp(char **text, const unsigned char *data, size_t n, const char *path, sd_error *e)
{
    static const char begin[] = "<sdcpp:parameters>", end[] = "</sdcpp:parameters>";
    static const struct { const char *name; char c; } entities[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    const char *s = find((const char *)data, n, begin), *last;
    if (!s) return SD_OK;
    s += sizeof begin - 1;
    last = find(s, n - (size_t)(s - (const char *)data), end);
    if (!last) return broken(path, "its XMP is cut off", e);
    if (take(text, (const unsigned char *)s, (size_t)(last - s), false, copy, path, e)) return e->status;
    char *to = *text;
    for (const char *from = *text; *from; ) {
        size_t k = 0;
        while (k < SD_COUNT(entities) && strncmp(from, entities[k].name, strlen(entities[k].name)) != 0) k++;
        *to++ = k < SD_COUNT(entities) ? entities[k].c : *from;
        from += k < SD_COUNT(entities) ? strlen(entities[k].name) : 1;
    }
    *to = 0;
    return SD_OK;
}

/* Chunks are a name, the data's size in little-endian order, the data, and a byte more if the size is odd [RFC 9649,
 * sec. 2.3]. */
static sd_status read_webp(char **text, const unsigned char *file, size_t n, const char *path, sd_error *e)
{
    for (size_t at = 12; !*text && !e->status && at < n && n - at >= 8; ) {
        const unsigned char *p = file + at, *data = p + 8;
        size_t size = p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16 | (size_t)p[7] << 24;
        if (size > n - at - 8) return broken(path, "the file is cut off or damaged", e);
        size_t head = begins_exif(data, size) ? 6 : 0;
        if (memcmp(p, "EXIF", 4) == 0) read_exif(text, data + head, size - head, path, e);
        if (memcmp(p, "XMP ", 4) == 0) read_xmp(text, data, size, path, e);
        at += 8 + size + size % 2;
    }
    return e->status;
}

/* ------------------------------------------------------------------------------- what file it is */

static const struct kind {
    const char *begins, *at_8;   /* the file, and its ninth byte on */
    sd_status (*read)(char **text, const unsigned char *file, size_t n, const char *path, sd_error *e);
    const char *where;
} kinds[] = {
    {"\x89PNG\r\n\x1a\n", "", read_png, "a PNG's chunk `parameters`"},
    {"\xFF\xD8\xFF", "", read_jpeg, "a JPEG's EXIF UserComment, or its comment `parameters`"},
    {"RIFF", "WEBP", read_webp, "a WebP's EXIF UserComment, or XMP's `sdcpp:parameters`"},
};
enum { HEAD = 12 };

static const struct kind *kind_of(const void *head, size_t n)
{
    const char *p = head;
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        size_t first = strlen(kinds[i].begins), second = strlen(kinds[i].at_8);
        if (n >= (second ? 8 + second : first) && memcmp(p, kinds[i].begins, first) == 0
            && (!second || memcmp(p + 8, kinds[i].at_8, second) == 0)) return &kinds[i];
    }
    return NULL;
}

sd_status sd_image_text_memory(char **text, const void *data, size_t n, const char *path, sd_error *e)
{
    *text = NULL;
    if (e->status) return e->status;
    const struct kind *kind = kind_of(data, n);
    if (kind && (kind->read(text, data, n, path, e) || *text)) return e->status;
    if (kind) return sd_fail(e, SD_ERR_MISSING, "%s has no text of settings (%s)", path, kind->where);
    if (n > MOST_TEXT || memchr(data, 0, n) || !sd_is_utf8(data, n))
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is neither a PNG, a JPEG, a WebP nor a text: no other file keeps "
                       "settings", path);
    *text = copy(data, n);
    return *text ? SD_OK : sd_fail(e, SD_ERR_MEMORY, "no memory for the text of %s", path);
}

static bool picture_or_text(const char *head, size_t n) { return kind_of(head, n) || !memchr(head, 0, n); }

/* A text may not be as large as a picture. A pipe is not looked into: what is read of it is gone. */
static size_t most_of(const char *path)
{
    char head[HEAD];
    FILE *f = sd_os_look(path, NULL) == SD_OS_FILE ? fopen(path, "rb") : NULL;
    size_t most = !f || kind_of(head, fread(head, 1, HEAD, f)) ? MOST_FILE : MOST_TEXT;
    if (f) fclose(f);
    return most;
}

sd_status sd_image_text(char **text, const char *path, sd_error *e)
{
    char *file;
    size_t n;
    *text = NULL;
    if (e->status || sd_read_file_if(path, most_of(path), picture_or_text, &file, &n, e)) return e->status;
    sd_image_text_memory(text, file, n, path, e);
    free(file);
    return e->status;
}
