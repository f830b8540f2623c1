/* image_text.c - floor 3: the text that a PNG keeps under `parameters`: finds its chunk and reads it.
 *
 * It walks through the chunks and decodes no pixel. No claim of the file is trusted beyond its bytes, and nothing
 * unpacks to more than MOST_TEXT. */
#include "image.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_PNG
#include <zlib.h>
#endif

enum { MOST_FILE = INT32_MAX, MOST_TEXT = 1 << 24 };

static const char key[] = "parameters", signature[] = "\x89PNG\r\n\x1a\n";

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

static sd_status read_png_text(char **text, const unsigned char *file, size_t n, const char *path, sd_error *e)
{
    size_t at = 8;
    chunk c;
    while (!*text && !e->status && next_chunk(&c, file, n, &at) && strcmp(c.name, "IEND") != 0)
        read_chunk(text, &c, path, e);
    if (e->status || *text) return e->status;
    return sd_fail(e, SD_ERR_MISSING, "%s has no text of settings (a PNG's chunk `parameters`)", path);
}

sd_status sd_image_text_memory(char **text, const void *data, size_t n, const char *path, sd_error *e)
{
    *text = NULL;
    if (e->status) return e->status;
    if (n >= 8 && memcmp(data, signature, 8) == 0) return read_png_text(text, data, n, path, e);
    if (n > MOST_TEXT || memchr(data, 0, n) || !sd_is_utf8(data, n))
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s is neither a PNG nor a text: no other file keeps settings", path);
    *text = copy(data, n);
    return *text ? SD_OK : sd_fail(e, SD_ERR_MEMORY, "no memory for the text of %s", path);
}

static bool begins_as_png(const char *path)
{
    char head[8];
    FILE *f = fopen(path, "rb");
    bool png = f && fread(head, 1, 8, f) == 8 && memcmp(head, signature, 8) == 0;
    if (f) fclose(f);
    return png;
}

sd_status sd_image_text(char **text, const char *path, sd_error *e)
{
    char *file;
    size_t n;
    *text = NULL;
    if (e->status || sd_read_file(path, begins_as_png(path) ? MOST_FILE : MOST_TEXT, &file, &n, e)) return e->status;
    sd_image_text_memory(text, file, n, path, e);
    free(file);
    return e->status;
}
