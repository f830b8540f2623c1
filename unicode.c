/* unicode.c - floor 0: UTF-8, and what CLIP's tokenizer has to know about characters.
 *
 * Its knowledge of characters comes from utf8proc. A build without it (no SD_WITH_UTF8PROC) accepts ASCII alone. */
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_UTF8PROC
#include <utf8proc.h>
#endif

#define MAX_TEXT ((size_t)128 << 20)   /* NFC and lower case lengthen it; even then its bytes must fit an int */

static bool reserve(sd_codes *b, size_t n, sd_error *e)
{
    if (n <= b->cap) return true;
    size_t cap = n + n / 2 + 64;
    int32_t *c = realloc(b->c, cap * sizeof *c);
    if (!c) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for a text of %zu characters", n);
        return false;
    }
    b->c = c;
    b->cap = cap;
    return true;
}

static bool append(sd_codes *out, const int32_t *c, size_t n, sd_error *e)
{
    if (!reserve(out, out->n + n, e)) return false;
    if (n) memcpy(out->c + out->n, c, n * sizeof *c);
    out->n += n;
    return true;
}

/* -------------------------------------------------------------------------------------- UTF-8 */

size_t sd_utf8_one(const char *text, size_t n, int32_t *c, const char **why)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text;
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf8 ? 4 : 0;
    *why = "cannot begin a character";
    if (!len) return 0;
    int32_t v = len == 1 ? s[0] : s[0] & (0xff >> (len + 1));
    *why = "begins a character that is cut short";
    for (size_t i = 1; i < len; i++) {
        if (i >= n || (s[i] & 0xc0) != 0x80) return 0;
        v = v << 6 | (s[i] & 0x3f);
    }
    *why = v < least[len] ? "begins a character in a longer form than it needs"
         : v >= 0xd800 && v < 0xe000 ? "begins a surrogate, which is not a character"
         : v > 0x10ffff ? "begins a number above U+10FFFF" : NULL;
    *c = v;
    return *why ? 0 : len;
}

size_t sd_utf8_fault(const char *text, size_t n, const char **why)
{
    int32_t c;
    for (size_t at = 0, len; at < n; at += len)
        if (!(len = sd_utf8_one(text + at, n - at, &c, why))) return at;
    return n;
}

static void not_utf8(const char *text, const char *what, size_t at, const char *why, sd_error *e)
{
    sd_fail(e, SD_ERR_ARG, "%s is not UTF-8: byte %zu, 0x%02x, %s", what, at, (unsigned char)text[at], why);
}

sd_status sd_utf8_check(const char *text, const char *what, sd_error *e)
{
    const char *why;
    size_t n = strlen(text), at = sd_utf8_fault(text, n, &why);
    if (at < n) not_utf8(text, what, at, why, e);
    return e->status;
}

bool sd_utf8_decode(sd_codes *out, const char *text, const char *what, sd_error *e)
{
    size_t n = strlen(text);
    out->n = 0;
    if (n > MAX_TEXT) {
        sd_fail(e, SD_ERR_ARG, "%s has %zu bytes, at most %zu are taken", what, n, MAX_TEXT);
        return false;
    }
    if (!reserve(out, n, e)) return false;
    for (size_t at = 0, len; at < n; at += len) {
        const char *why;
        len = sd_utf8_one(text + at, n - at, &out->c[out->n], &why);
        if (!len) {
            not_utf8(text, what, at, why, e);
            return false;
        }
#ifndef SD_WITH_UTF8PROC
        if (len > 1) {
            sd_fail(e, SD_ERR_UNSUPPORTED, "%s has U+%04X at byte %zu: this build has no utf8proc and takes ASCII only",
                    what, (unsigned)out->c[out->n], at);
            return false;
        }
#endif
        out->n++;
    }
    return true;
}

size_t sd_utf8_encode(unsigned char out[4], int32_t c)
{
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len; i-- > 1; c >>= 6) out[i] = (unsigned char)(0x80 | (c & 0x3f));
    out[0] = (unsigned char)(len == 1 ? c : (0xf00 >> len & 0xff) | c);
    return len;
}

/* ------------------------------------------------------------------------- classes, lower case */

#ifdef SD_WITH_UTF8PROC
/* The oracle (tokenizers 0.23.3) takes its facts from three places: classes from Oniguruma (Unicode 16), lower case
 * from Rust's library (Unicode 17), NFC from a crate that knows no mark and no composite added after Unicode 9.
 * utf8proc has one version, whichever the distribution ships. Listed here are the code points on which Unicode 14, 15
 * or 18 differs from the oracle, with the oracle's answers, so that ids do not depend on the distribution. The oracle's
 * NFC treats each of them as a plain character, which is no mark and part of no composite. (U+11A7 is listed because
 * utf8proc 2.8 drops it after a Hangul syllable.) */
typedef struct exception { int32_t first, last; char class; int32_t to_lower; } exception;
static const exception exceptions[] = {   /* made by tools/tokenizer_corpus.py --tables */
    {0x00558, 0x00558, 'O', 0}, {0x0058b, 0x0058c, 'O', 0}, {0x005c8, 0x005c9, 'O', 0}, {0x007fd, 0x007fd, 'O', 0},
    {0x0088f, 0x0088f, 'O', 0}, {0x00897, 0x0089f, 'O', 0}, {0x008ca, 0x008d3, 'O', 0}, {0x009fe, 0x009fe, 'O', 0},
    {0x00c3c, 0x00c3c, 'O', 0}, {0x00c5c, 0x00c5c, 'O', 0}, {0x00cdc, 0x00cdc, 'O', 0}, {0x00d3b, 0x00d3c, 'O', 0},
    {0x00eba, 0x00eba, 'O', 0}, {0x011a7, 0x011a7, 'L', 0}, {0x01715, 0x01715, 'O', 0}, {0x01abf, 0x01af0, 'O', 0},
    {0x01c89, 0x01c89, 'L', 1}, {0x01c8a, 0x01c8a, 'L', 0}, {0x01df6, 0x01dfa, 'O', 0}, {0x0208f, 0x0208f, 'O', 0},
    {0x0209d, 0x0209f, 'O', 0}, {0x0a7cb, 0x0a7cb, 'L', -42343}, {0x0a7cc, 0x0a7cc, 'L', 1}, {0x0a7cd, 0x0a7cd, 'L', 0},
    {0x0a7ce, 0x0a7ce, 'O', 1}, {0x0a7cf, 0x0a7cf, 'O', 0}, {0x0a7d2, 0x0a7d2, 'O', 1}, {0x0a7d4, 0x0a7d4, 'O', 1},
    {0x0a7da, 0x0a7da, 'L', 1}, {0x0a7db, 0x0a7db, 'L', 0}, {0x0a7dc, 0x0a7dc, 'L', -42561}, {0x0a7dd, 0x0a7dd, 'O', 0},
    {0x0a7e2, 0x0a7e2, 'O', 0}, {0x0a7f1, 0x0a7f1, 'O', 0}, {0x0a82c, 0x0a82c, 'O', 0}, {0x0ab6c, 0x0ab6d, 'O', 0},
    {0x105c0, 0x105f3, 'L', 0}, {0x107bb, 0x107bf, 'O', 0}, {0x10940, 0x10959, 'O', 0}, {0x10d24, 0x10d27, 'O', 0},
    {0x10d40, 0x10d49, 'N', 0}, {0x10d4a, 0x10d4f, 'L', 0}, {0x10d50, 0x10d65, 'L', 32}, {0x10d69, 0x10d6d, 'O', 0},
    {0x10d6f, 0x10d85, 'L', 0}, {0x10eab, 0x10eac, 'O', 0}, {0x10ec2, 0x10ec4, 'L', 0}, {0x10ec5, 0x10ec7, 'O', 0},
    {0x10ecb, 0x10ecf, 'O', 0}, {0x10ed9, 0x10eee, 'O', 0}, {0x10ef0, 0x10efb, 'O', 0}, {0x10efd, 0x10eff, 'O', 0},
    {0x10f46, 0x10f50, 'O', 0}, {0x10f82, 0x10f85, 'O', 0}, {0x11070, 0x11070, 'O', 0}, {0x1123f, 0x11240, 'L', 0},
    {0x1133b, 0x1133b, 'O', 0}, {0x11380, 0x11389, 'L', 0}, {0x1138b, 0x1138b, 'L', 0}, {0x1138e, 0x1138e, 'L', 0},
    {0x11390, 0x113b5, 'L', 0}, {0x113b7, 0x113b7, 'L', 0}, {0x113b8, 0x113b8, 'O', 0}, {0x113bb, 0x113bb, 'O', 0},
    {0x113c2, 0x113c2, 'O', 0}, {0x113c5, 0x113c5, 'O', 0}, {0x113c7, 0x113c9, 'O', 0}, {0x113ce, 0x113d0, 'O', 0},
    {0x113d1, 0x113d1, 'L', 0}, {0x113d3, 0x113d3, 'L', 0}, {0x1145e, 0x1145e, 'O', 0}, {0x116d0, 0x116e3, 'N', 0},
    {0x11839, 0x1183a, 'O', 0}, {0x11930, 0x11930, 'O', 0}, {0x11935, 0x11935, 'O', 0}, {0x11938, 0x11938, 'O', 0},
    {0x1193d, 0x1193e, 'O', 0}, {0x11943, 0x11943, 'O', 0}, {0x119e0, 0x119e0, 'O', 0}, {0x11a34, 0x11a34, 'O', 0},
    {0x11a47, 0x11a47, 'O', 0}, {0x11a99, 0x11a99, 'O', 0}, {0x11b0a, 0x11b0a, 'O', 0}, {0x11bc0, 0x11be0, 'L', 0},
    {0x11bf0, 0x11bf9, 'N', 0}, {0x11d42, 0x11d42, 'O', 0}, {0x11d44, 0x11d45, 'O', 0}, {0x11d97, 0x11d97, 'O', 0},
    {0x11db0, 0x11ddb, 'O', 0}, {0x11de0, 0x11de9, 'O', 0}, {0x11df1, 0x11df1, 'O', 0}, {0x11f02, 0x11f02, 'L', 0},
    {0x11f04, 0x11f10, 'L', 0}, {0x11f12, 0x11f33, 'L', 0}, {0x11f41, 0x11f42, 'O', 0}, {0x11f50, 0x11f59, 'N', 0},
    {0x1246f, 0x1246f, 'O', 0}, {0x12475, 0x1247f, 'O', 0}, {0x12550, 0x12686, 'O', 0}, {0x1342f, 0x1342f, 'L', 0},
    {0x13441, 0x13446, 'L', 0}, {0x13460, 0x143fa, 'L', 0}, {0x16100, 0x1611d, 'L', 0}, {0x1611e, 0x16129, 'O', 0},
    {0x1612f, 0x1612f, 'O', 0}, {0x16130, 0x16139, 'N', 0}, {0x16d40, 0x16d6c, 'L', 0}, {0x16d70, 0x16d79, 'N', 0},
    {0x16ea0, 0x16eb8, 'O', 27}, {0x16ebb, 0x16ed3, 'O', 0}, {0x16ff0, 0x16ff6, 'O', 0}, {0x187f8, 0x187ff, 'O', 0},
    {0x18cd6, 0x18cda, 'O', 0}, {0x18cff, 0x18cff, 'L', 0}, {0x18d09, 0x18d20, 'O', 0}, {0x18d80, 0x18df2, 'O', 0},
    {0x18e00, 0x19191, 'O', 0}, {0x191a0, 0x191d2, 'O', 0}, {0x1b123, 0x1b128, 'O', 0}, {0x1b132, 0x1b132, 'L', 0},
    {0x1b155, 0x1b155, 'L', 0}, {0x1b168, 0x1b168, 'O', 0}, {0x1ccf0, 0x1ccf9, 'N', 0}, {0x1d127, 0x1d128, 'O', 0},
    {0x1d250, 0x1d252, 'O', 0}, {0x1d25b, 0x1d25c, 'O', 0}, {0x1d25f, 0x1d25f, 'O', 0}, {0x1d280, 0x1d281, 'O', 0},
    {0x1d2c0, 0x1d2d3, 'N', 0}, {0x1d6a6, 0x1d6a6, 'O', 0}, {0x1df1f, 0x1df24, 'O', 0}, {0x1df25, 0x1df2a, 'L', 0},
    {0x1df2b, 0x1df81, 'O', 0}, {0x1df90, 0x1df96, 'O', 0}, {0x1dfcd, 0x1dfff, 'O', 0}, {0x1e030, 0x1e06d, 'L', 0},
    {0x1e08f, 0x1e08f, 'O', 0}, {0x1e130, 0x1e136, 'O', 0}, {0x1e2ae, 0x1e2ae, 'O', 0}, {0x1e2ec, 0x1e2ef, 'O', 0},
    {0x1e4d0, 0x1e4eb, 'L', 0}, {0x1e4ec, 0x1e4ef, 'O', 0}, {0x1e4f0, 0x1e4f9, 'N', 0}, {0x1e5d0, 0x1e5ed, 'L', 0},
    {0x1e5ee, 0x1e5ef, 'O', 0}, {0x1e5f0, 0x1e5f0, 'L', 0}, {0x1e5f1, 0x1e5fa, 'N', 0}, {0x1e6c0, 0x1e6de, 'O', 0},
    {0x1e6e0, 0x1e6f5, 'O', 0}, {0x1e6fe, 0x1e6ff, 'O', 0}, {0x2b739, 0x2b739, 'L', 0}, {0x2b73a, 0x2b73f, 'O', 0},
    {0x2b81e, 0x2b81e, 'O', 0}, {0x2cea2, 0x2cead, 'O', 0}, {0x2ebf0, 0x2ee5d, 'L', 0}, {0x31350, 0x323af, 'L', 0},
    {0x323b0, 0x33479, 'O', 0}, {0x3d000, 0x3fc3f, 'O', 0},
};

static const exception *find_exception(int32_t c)
{
    size_t lo = 0, hi = SD_COUNT(exceptions);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > exceptions[mid].last) lo = mid + 1;
        else hi = mid;
    }
    return lo < SD_COUNT(exceptions) && c >= exceptions[lo].first ? &exceptions[lo] : NULL;
}
#endif

/* \s: Unicode's White_Space. */
static bool is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

char sd_char_class(int32_t c)
{
    if (is_space(c)) return 'S';
    if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ? 'L' : c >= '0' && c <= '9' ? 'N' : 'O';
#ifdef SD_WITH_UTF8PROC
    const exception *x = find_exception(c);
    if (x) return x->class;
    const char *category = utf8proc_category_string(c);   /* "Lu" */
    if (category[0] == 'L' || category[0] == 'N') return category[0];
#endif
    return 'O';
}

static int32_t lower_of(int32_t c)
{
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
#ifdef SD_WITH_UTF8PROC
    const exception *x = find_exception(c);
    return x ? c + x->to_lower : utf8proc_tolower(c);
#else
    return c;
#endif
}

/* ------------------------------------------------------------------------------- normalization */

#ifdef SD_WITH_UTF8PROC
static int mark_class(int32_t c) { return (int)utf8proc_get_property(c)->combining_class & 255; }

/* Orders a run of marks by class: a stable counting sort. utf8proc itself swaps neighbours, which takes hours on a
 * megabyte of marks. */
static bool order_marks(int32_t *c, size_t n, sd_error *e)
{
    size_t start[256] = {0}, total = 0, count, i;
    for (i = 1; i < n && mark_class(c[i - 1]) <= mark_class(c[i]); i++) { }
    if (i >= n) return true;
    int32_t *copy = malloc(n * sizeof *copy);
    if (!copy) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for %zu combining marks", n);
        return false;
    }
    memcpy(copy, c, n * sizeof *copy);
    for (i = 0; i < n; i++) start[mark_class(c[i])]++;
    for (i = 0; i < 256; i++, total += count) {
        count = start[i];
        start[i] = total;
    }
    for (i = 0; i < n; i++) c[start[mark_class(copy[i])]++] = copy[i];
    free(copy);
    return true;
}

/* Appends the NFC of n characters: decompose, order the marks, compose [UAX 15]. */
static bool nfc_run(sd_codes *out, const int32_t *c, size_t n, sd_error *e)
{
    size_t begin = out->n;
    for (size_t i = 0; i < n; i++) {
        int32_t part[32];   /* the longest canonical decomposition has 4 */
        int boundary = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char(c[i], part, (utf8proc_ssize_t)SD_COUNT(part),
                                                     UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
        if (k < 0 || (size_t)k > SD_COUNT(part)) {
            sd_fail(e, SD_ERR_UNSUPPORTED, "utf8proc cannot decompose U+%04X", (unsigned)c[i]);
            return false;
        }
        if (!append(out, part, (size_t)k, e)) return false;
    }
    for (size_t i = begin, end; i < out->n; i = end + 1) {
        for (end = i; end < out->n && mark_class(out->c[end]); end++) { }
        if (end - i > 1 && !order_marks(out->c + i, end - i, e)) return false;
    }
    utf8proc_ssize_t k = utf8proc_normalize_utf32(out->c + begin, (utf8proc_ssize_t)(out->n - begin),
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (k < 0) {
        sd_fail(e, SD_ERR_UNSUPPORTED, "utf8proc cannot compose a text: %s", utf8proc_errmsg(k));
        return false;
    }
    out->n = begin + (size_t)k;
    return true;
}

static bool nfc(sd_codes *out, const int32_t *c, size_t n, sd_error *e)
{
    bool ok = true;
    for (size_t i = 0, end; ok && i < n; i = end) {
        /* Exceptions separate runs. A run of characters below U+0300 is already NFC. */
        bool plain = true;
        for (end = i; end < n && !(c[end] >= 0x300 && find_exception(c[end])); end++) plain = plain && c[end] < 0x300;
        if (end == i) end++;
        ok = plain ? append(out, c + i, end - i, e) : nfc_run(out, c + i, end - i, e);
    }
    return ok;
}
#else
static bool nfc(sd_codes *out, const int32_t *c, size_t n, sd_error *e) { return append(out, c, n, e); }   /* ASCII */
#endif

bool sd_normalize(sd_codes *out, const int32_t *c, size_t n, sd_error *e)
{
    sd_codes composed = {0};
    bool ok = nfc(&composed, c, n, e) && reserve(out, 2 * composed.n, e);
    out->n = 0;
    for (size_t i = 0; ok && i < composed.n; i++) {
        int32_t x = composed.c[i];
        if (is_space(x)) {
            if (!out->n || out->c[out->n - 1] != ' ') out->c[out->n++] = ' ';
        } else if (x == 0x130) {   /* the one character whose lower case is two */
            out->c[out->n++] = 'i';
            out->c[out->n++] = 0x307;
        } else {
            out->c[out->n++] = lower_of(x);
        }
    }
    free(composed.c);
    return ok;
}
