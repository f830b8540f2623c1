/* test_zip.c - zip archives: what is in them, and a sentence for each way in which one can lie. */
#include "test.h"
#include "../zip.h"

/* An archive of "a/data.pkl" (3 bytes), "a/deflated" (12 bytes) and "a/empty", with the places of its records. */
typedef struct archive {
    unsigned char b[1024];
    size_t n, local[3], central[3], end;
} archive;

static void add(archive *a, uint64_t v, int bytes)
{
    for (; bytes > 0; bytes--, v >>= 8) a->b[a->n++] = (unsigned char)v;
}

static void add_text(archive *a, const char *s, size_t n)
{
    memcpy(a->b + a->n, s, n);
    a->n += n;
}

static uint32_t crc_of(const char *s, size_t n)
{
    uint32_t c = 0xFFFFFFFFu;
    for (; n; n--, s++) {
        c ^= (unsigned char)*s;
        for (int i = 0; i < 8; i++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
    }
    return ~c;
}

/* A deflated file whose one block is not compressed [RFC 1951, 3.2.4]. */
#define FILE_TEXT "hello, hello"
#define DEFLATED "\x01\x0c\x00\xf3\xff" FILE_TEXT
static const struct { const char *name, *data, *file; size_t n, bytes; unsigned method; } files[] = {
    {"a/data.pkl", "abc", "abc", 3, 3, 0},
    {"a/deflated", DEFLATED, FILE_TEXT, sizeof DEFLATED - 1, sizeof FILE_TEXT - 1, 8},
    {"a/empty", "", "", 0, 0, 0},
};

/* Local headers have no sizes (bit 3 of the flags says so), as with torch. `extra`: bytes of an extra field in them. */
static archive make(unsigned extra)
{
    archive a = {.n = 0};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        a.local[i] = a.n;
        add(&a, 0x04034b50, 4), add(&a, 20, 2), add(&a, 8, 2), add(&a, files[i].method, 2), add(&a, 0, 4 + 4 + 4 + 4);
        add(&a, strlen(files[i].name), 2), add(&a, extra, 2);
        add_text(&a, files[i].name, strlen(files[i].name));
        for (unsigned k = 0; k < extra; k++) add(&a, 'Z', 1);
        add_text(&a, files[i].data, files[i].n);
    }
    size_t directory = a.n;
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        a.central[i] = a.n;
        add(&a, 0x02014b50, 4), add(&a, 20, 2), add(&a, 20, 2), add(&a, 8, 2);
        add(&a, files[i].method, 2), add(&a, 0, 4);
        add(&a, crc_of(files[i].file, files[i].bytes), 4), add(&a, files[i].n, 4), add(&a, files[i].bytes, 4);
        add(&a, strlen(files[i].name), 2), add(&a, 0, 2 + 2 + 2 + 2 + 4), add(&a, a.local[i], 4);
        add_text(&a, files[i].name, strlen(files[i].name));
    }
    a.end = a.n;
    add(&a, 0x06054b50, 4), add(&a, 0, 4), add(&a, 3, 2), add(&a, 3, 2), add(&a, a.end - directory, 4);
    add(&a, directory, 4), add(&a, 0, 2);
    return a;
}

/* The archive in memory of its own size, so that reading beyond it is seen. */
static sd_status open_copy(sd_zip *z, const archive *a, void **copy, sd_error *e)
{
    *copy = malloc(a->n + 1);
    memcpy(*copy, a->b, a->n);
    return sd_zip_open(z, *copy, a->n, "x.ckpt", e);
}

TEST(files_of_an_archive_are_found_where_their_own_headers_say)
{
    for (unsigned extra = 0; extra < 60; extra += 7) {
        archive a = make(extra);
        sd_zip z;
        sd_error e = {0};
        void *copy;
        assert_int_equal(open_copy(&z, &a, &copy, &e), SD_OK);
        assert_int_equal(z.n, 3);
        assert_null(sd_zip_find(&z, "a/data"));
        for (size_t i = 0; i < SD_COUNT(files); i++) {
            const sd_zip_entry *t = sd_zip_find(&z, files[i].name);
            assert_non_null(t);
            assert_int_equal(t->bytes, files[i].bytes);
            assert_int_equal(t->packed, files[i].n);
            assert_memory_equal(t->data, files[i].data, files[i].n);
            assert_int_equal(t->deflated, files[i].method != 0);
        }
        sd_zip_close(&z);
        free(copy);
    }
}

TEST(a_comment_may_follow_and_rubbish_may_not)
{
    archive a = make(0);
    sd_zip z;
    sd_error e = {0};
    void *copy;
    a.b[a.end + 20] = 5;
    add_text(&a, "hello", 5);
    assert_int_equal(open_copy(&z, &a, &copy, &e), SD_OK);
    sd_zip_close(&z);
    free(copy);
    add_text(&a, "!", 1);
    assert_int_equal(open_copy(&z, &a, &copy, &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "cut short"));
    free(copy);
}

TEST(what_is_deflated_is_unpacked_and_checked)
{
    archive a = make(0);
    char to[sizeof FILE_TEXT] = "";
    sd_zip z;
    sd_error e = {0};
    assert_int_equal(sd_zip_open(&z, a.b, a.n, "x.ckpt", &e), SD_OK);
    sd_status status = sd_zip_inflate(sd_zip_find(&z, "a/deflated"), to, "x.ckpt", &e);
#ifdef SD_WITH_ZLIB
    assert_int_equal(status, SD_OK);
    assert_string_equal(to, FILE_TEXT);
    for (size_t i = 0; i < sizeof DEFLATED - 1; i++) {   /* one byte is another: damage is seen wherever it is */
        unsigned char *at = a.b + a.local[1] + 30 + strlen("a/deflated") + i;
        *at ^= 0x20;
        sd_error_clear(&e);
        bool damaged = sd_zip_inflate(sd_zip_find(&z, "a/deflated"), to, "x.ckpt", &e) == SD_ERR_FORMAT;
        *at ^= 0x20;
        if (i == 0) continue;   /* the bits after a block's header are padding */
        assert_true(damaged);
        assert_non_null(strstr(e.text, "damaged"));
    }
#else
    assert_int_equal(status, SD_ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "\"a/deflated\" is compressed"));
#endif
    sd_zip_close(&z);
}

enum where { LOCAL, CENTRAL, END };
static const struct hostile {
    enum where where;
    int file;
    size_t at;
    int bytes;
    uint64_t value;
    sd_status status;
    const char *says;
} hostile[] = {
    /* the end record */
    {END, 0, 0, 1, 'Q', SD_ERR_FORMAT, "cut short"},
    {END, 0, 4, 2, 1, SD_ERR_UNSUPPORTED, "one part of a zip archive"},
    {END, 0, 6, 2, 1, SD_ERR_UNSUPPORTED, "one part of a zip archive"},
    {END, 0, 8, 2, 2, SD_ERR_UNSUPPORTED, "one part of a zip archive"},
    {END, 0, 8, 4, 0x40004, SD_ERR_FORMAT, "should list 4 files"},
    {END, 0, 8, 4, 0xFFFFFFFE, SD_ERR_FORMAT, "should list 65535 files"},
    {END, 0, 8, 4, 0xFFFFFFFF, SD_ERR_FORMAT, "should list 65535 files"},
    {END, 0, 12, 4, 0x7FFFFFFF, SD_ERR_FORMAT, "with 2147483647 bytes"},
    {END, 0, 12, 4, 0, SD_ERR_FORMAT, "should list 3 files and has 0 bytes"},
    {END, 0, 16, 4, 0xFFFFFFF0, SD_ERR_FORMAT, "at byte 4294967280"},
    {END, 0, 16, 4, 0, SD_ERR_FORMAT, "file 1 of 3 is not listed"},
    /* the directory */
    {CENTRAL, 1, 0, 1, 'Q', SD_ERR_FORMAT, "file 2 of 3 is not listed"},
    {CENTRAL, 1, 8, 2, 1, SD_ERR_FORMAT, "\"a/deflated\" in this zip archive is encrypted"},
    {CENTRAL, 1, 8, 2, 0x40, SD_ERR_FORMAT, "is encrypted"},
    {CENTRAL, 1, 10, 2, 12, SD_ERR_FORMAT, "another method than deflate"},
    {CENTRAL, 1, 10, 2, 0, SD_ERR_FORMAT, "stored, but with two sizes"},
    {CENTRAL, 0, 10, 2, 8, SD_ERR_FORMAT, "another name or method"},
    {CENTRAL, 0, 20, 4, 4, SD_ERR_FORMAT, "with two sizes"},
    {CENTRAL, 1, 20, 4, 0x7FFFFFFF, SD_ERR_FORMAT, "reaches beyond"},
    {CENTRAL, 1, 20, 4, 0xFFFFFFFF, SD_ERR_FORMAT, "zip64 sizes"},
    {CENTRAL, 1, 24, 4, 0xFFFFFFFF, SD_ERR_FORMAT, "zip64 sizes"},
    {CENTRAL, 1, 42, 4, 0xFFFFFFFF, SD_ERR_FORMAT, "zip64 sizes"},
    {CENTRAL, 1, 24, 4, 1 << 20, SD_ERR_FORMAT, "larger than deflated data can"},
    {CENTRAL, 0, 28, 2, 0, SD_ERR_FORMAT, "empty name"},
    {CENTRAL, 0, 28, 2, 9, SD_ERR_FORMAT, "another name"},
    {CENTRAL, 0, 28, 2, 0xFFFF, SD_ERR_FORMAT, "file 1 of 3 is not listed"},
    {CENTRAL, 0, 30, 2, 0xFFFF, SD_ERR_FORMAT, "file 1 of 3 is not listed"},
    {CENTRAL, 0, 34, 2, 1, SD_ERR_FORMAT, "another part"},
    {CENTRAL, 1, 42, 4, 0x7FFFFFFF, SD_ERR_FORMAT, "not where the directory says"},
    {CENTRAL, 1, 42, 4, 1, SD_ERR_FORMAT, "not where the directory says"},
    {CENTRAL, 1, 42, 4, 0, SD_ERR_FORMAT, "another name"},
    {CENTRAL, 0, 46, 1, 0, SD_ERR_FORMAT, "with a NUL"},
    {CENTRAL, 0, 46, 1, '\n', SD_ERR_FORMAT, "\"?/data.pkl\""},
    /* its files */
    {LOCAL, 1, 0, 1, 'Q', SD_ERR_FORMAT, "not where the directory says"},
    {LOCAL, 1, 8, 2, 0, SD_ERR_FORMAT, "another name or method"},
    {LOCAL, 1, 26, 2, 0xFFFF, SD_ERR_FORMAT, "reaches beyond"},
    {LOCAL, 1, 28, 2, 0xFFFF, SD_ERR_FORMAT, "reaches beyond"},
    {LOCAL, 0, 28, 2, 40, SD_ERR_FORMAT, "overlaps another file"},
    {LOCAL, 2, 30, 1, 'x', SD_ERR_FORMAT, "another name"},
};

TEST(every_hostile_archive_gets_its_own_sentence)
{
    for (size_t i = 0; i < SD_COUNT(hostile); i++) {
        const struct hostile *h = &hostile[i];
        archive a = make(0);
        const size_t *place = h->where == LOCAL ? a.local : h->where == CENTRAL ? a.central : &a.end;
        for (int k = 0; k < h->bytes; k++) a.b[place[h->file] + h->at + (size_t)k] = (unsigned char)(h->value >> 8 * k);
        sd_zip z;
        sd_error e = {0};
        void *copy;
        sd_status got = open_copy(&z, &a, &copy, &e);
        if (got != h->status || !strstr(e.text, h->says) || !strstr(e.text, "x.ckpt"))
            print_error("%zu -> %s: %s\n", i, sd_status_name(got), e.text);
        assert_int_equal(got, h->status);
        assert_non_null(strstr(e.text, h->says));
        assert_null(z.entry);
        free(copy);
    }
}

TEST(an_archive_that_is_cut_anywhere_is_refused)
{
    archive a = make(0);
    for (size_t n = a.n; n-- > 0;) {
        sd_zip z;
        sd_error e = {0};
        void *copy;
        a.n = n;
        assert_int_equal(open_copy(&z, &a, &copy, &e), SD_ERR_FORMAT);
        free(copy);
    }
}

TEST(a_file_that_is_listed_twice_is_refused)
{
    archive a = make(0);
    sd_zip z;
    sd_error e = {0};
    a.b[a.central[2] + 42] = (unsigned char)a.local[0];   /* "a/empty" is "a/data.pkl", too */
    memcpy(a.b + a.central[2] + 20, a.b + a.central[0] + 20, 8);
    a.b[a.central[2] + 28] = 10;
    memmove(a.b + a.central[2] + 56, a.b + a.end, 22);
    memcpy(a.b + a.central[2] + 46, "a/data.pkl", 10);
    a.n = a.central[2] + 56 + 22;
    a.b[a.n - 10] = (unsigned char)(a.b[a.n - 10] + 3);
    assert_int_equal(sd_zip_open(&z, a.b, a.n, "x.ckpt", &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "overlaps"));
    archive b = make(0);
    sd_error_clear(&e);
    b.b[b.central[1] + 46 + 2] = 'd';   /* names of the same length, at two places */
    memcpy(b.b + b.central[1] + 46, "a/data.pkl", 10);
    memcpy(b.b + b.local[1] + 30, "a/data.pkl", 10);
    assert_int_equal(sd_zip_open(&z, b.b, b.n, "x.ckpt", &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "is there twice"));
}

/* With zip64's end record and locator, and all ones in the end record of old. */
TEST(zip64_is_read_and_its_lies_are_seen)
{
    static const struct { size_t at; int bytes; uint64_t value; sd_status status; const char *says; } cases[] = {
        {0, 0, 0, SD_OK, ""},
        {0, 1, 'Q', SD_ERR_FORMAT, "zip64 end record is not where"},
        {16, 4, 1, SD_ERR_UNSUPPORTED, "one part"},
        {32, 8, UINT64_MAX, SD_ERR_FORMAT, "should list 18446744073709551615 files"},
        {40, 8, UINT64_MAX, SD_ERR_FORMAT, "with 18446744073709551615 bytes"},
        {48, 8, (uint64_t)1 << 63, SD_ERR_FORMAT, "at byte 9223372036854775808"},
        {56 + 8, 8, UINT64_MAX, SD_ERR_FORMAT, "zip64 end record is not where"},
        {56 + 8, 8, 1, SD_ERR_FORMAT, "zip64 end record is not where"},
        {56 + 16, 4, 2, SD_ERR_UNSUPPORTED, "one part"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        archive a = make(0);
        size_t directory = a.central[0], bytes = a.end - directory;
        a.n = a.end;
        add(&a, 0x06064b50, 4), add(&a, 44, 8), add(&a, 45, 2), add(&a, 45, 2), add(&a, 0, 4 + 4);
        add(&a, 3, 8), add(&a, 3, 8), add(&a, bytes, 8), add(&a, directory, 8);
        add(&a, 0x07064b50, 4), add(&a, 0, 4), add(&a, a.end, 8), add(&a, 1, 4);
        add(&a, 0x06054b50, 4), add(&a, 0, 4), add(&a, 0xFFFFFFFF, 4), add(&a, 0xFFFFFFFF, 4), add(&a, 0xFFFFFFFF, 4);
        add(&a, 0, 2);
        for (int k = 0; k < cases[i].bytes; k++)
            a.b[a.end + cases[i].at + (size_t)k] = (unsigned char)(cases[i].value >> 8 * k);
        sd_zip z;
        sd_error e = {0};
        void *copy;
        assert_int_equal(open_copy(&z, &a, &copy, &e), cases[i].status);
        assert_non_null(strstr(e.text, cases[i].says));
        sd_zip_close(&z);
        free(copy);
    }
}

#ifdef SD_WITH_ZLIB
/* [ISO 3309], bit by bit */
static uint32_t crc_by_hand(const unsigned char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
    }
    return ~crc;
}
#endif

/* zlib is given 16 MiB at a time; an embedding of tokens is larger. */
TEST(what_is_larger_than_one_step_is_unpacked_and_checked)
{
#ifdef SD_WITH_ZLIB
    enum { BLOCK = 65535, BYTES = (16 << 20) + 3 * BLOCK / 2, BLOCKS = BYTES / BLOCK + 1 };
    unsigned char *file = malloc(BYTES), *to = malloc(BYTES), *packed = malloc(BYTES + 5 * BLOCKS), *at = packed;
    assert_true(file && to && packed);
    for (size_t i = 0; i < BYTES; i++) file[i] = (unsigned char)(i * i >> 7);
    for (size_t i = 0; i < BYTES; i += BLOCK) {   /* blocks that are not compressed [RFC 1951, 3.2.4] */
        size_t n = BYTES - i < BLOCK ? BYTES - i : BLOCK;
        *at++ = i + n == BYTES;
        *at++ = (unsigned char)n;
        *at++ = (unsigned char)(n >> 8);
        *at++ = (unsigned char)~n;
        *at++ = (unsigned char)(~n >> 8);
        memcpy(at, file + i, n);
        at += n;
    }
    sd_error e = {0};
    sd_zip_entry t = {"data/1", packed, (size_t)(at - packed), BYTES, crc_by_hand(file, BYTES), true};
    if (sd_zip_inflate(&t, to, "x.ckpt", &e)) fail_msg("%s", e.text);
    assert_memory_equal(to, file, BYTES);
    t.crc ^= 1;
    assert_int_equal(sd_zip_inflate(&t, to, "x.ckpt", &e), SD_ERR_FORMAT);
    free(file);
    free(to);
    free(packed);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_an_archive_are_found_where_their_own_headers_say),
        cmocka_unit_test(a_comment_may_follow_and_rubbish_may_not),
        cmocka_unit_test(what_is_deflated_is_unpacked_and_checked),
        cmocka_unit_test(what_is_larger_than_one_step_is_unpacked_and_checked),
        cmocka_unit_test(every_hostile_archive_gets_its_own_sentence),
        cmocka_unit_test(an_archive_that_is_cut_anywhere_is_refused),
        cmocka_unit_test(a_file_that_is_listed_twice_is_refused),
        cmocka_unit_test(zip64_is_read_and_its_lies_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
