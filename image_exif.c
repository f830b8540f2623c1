/* image_exif.c - floor 3: what EXIF says of a picture. EXIF is a TIFF header with directories of entries, each a tag, a
 * type, a count and a value or where it is [TIFF 6.0, sec. 2; EXIF 2.3, sec. 4.6].
 *
 * Nothing is read beyond the bytes that are there. At most two directories are read, so a loop of them does no harm. */
#include "image_exif.h"

#include <string.h>

enum { BYTE = 1, ASCII = 2, SHORT = 3, LONG = 4, UNDEFINED = 7 };   /* types */
enum { ORIENTATION = 0x112, EXIF_DIRECTORY = 0x8769, USER_COMMENT = 0x9286 };   /* tags */

typedef struct tiff {
    const uint8_t *p;
    size_t n;
    bool little;   /* endian */
} tiff;

typedef struct entry {
    unsigned type;
    uint32_t count, value;   /* `value` may be an offset */
} entry;

static unsigned u16(const tiff *t, size_t at)
{
    const uint8_t *p = t->p + at;
    return t->little ? p[0] | (unsigned)p[1] << 8 : p[1] | (unsigned)p[0] << 8;
}

static uint32_t u32(const tiff *t, size_t at)
{
    uint32_t a = u16(t, at), b = u16(t, at + 2);
    return t->little ? b << 16 | a : a << 16 | b;
}

/* The first entry of the directory at `at` that has this tag and one of the types, which are bits here. */
static bool find(entry *out, const tiff *t, size_t at, unsigned tag, unsigned types)
{
    if (t->n < 2 || at > t->n - 2) return false;
    unsigned entries = u16(t, at);
    for (at += 2; entries && t->n - at >= 12; entries--, at += 12) {
        unsigned type = u16(t, at + 2);
        if (u16(t, at) != tag || type > 31 || !(types >> type & 1)) continue;
        *out = (entry){type, u32(t, at + 4), type == SHORT ? u16(t, at + 8) : u32(t, at + 8)};
        return true;
    }
    return false;
}

static bool find_first(entry *out, tiff *t, const uint8_t *p, size_t n, unsigned tag, unsigned types)
{
    if (n < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0)) return false;
    *t = (tiff){p, n, p[0] == 'I'};
    return find(out, t, u32(t, 4), tag, types);
}

int sd_exif_orientation(const uint8_t *p, size_t n)
{
    tiff t;
    entry e;
    if (!find_first(&e, &t, p, n, ORIENTATION, 1u << SHORT | 1u << LONG)) return 1;   /* LONG is a common mistake */
    return e.value >= 1 && e.value <= 8 ? (int)e.value : 1;
}

bool sd_exif_comment(const uint8_t **bytes, size_t *n_bytes, const uint8_t *p, size_t n)
{
    tiff t;
    entry e;
    *bytes = p;
    *n_bytes = 0;
    if (!find_first(&e, &t, p, n, EXIF_DIRECTORY, 1u << LONG)
        || !find(&e, &t, e.value, USER_COMMENT, 1u << UNDEFINED | 1u << BYTE | 1u << ASCII) || e.count <= 4)
        return true;   /* up to four bytes would stand in place of the offset, and the code alone has eight */
    if (e.value > n || e.count > n - e.value) return false;
    *bytes = p + e.value;
    *n_bytes = e.count;
    return true;
}
