/* test_text.c - numbers and strings in texts, MD5, the texts of pictures' files, and what they are understood to
 * say. */
#define _XOPEN_SOURCE 700
#include <locale.h>
#include <math.h>

#include "test.h"
#include "../image.h"
#include "../text.h"
#include "tempdir.h"

#ifdef SD_WITH_PNG
#include <zlib.h>
#endif

/* ------------------------------------------------------------------------------------- numbers */

static const struct { double x; const char *text; } numbers[] = {
    {0, "0"}, {7, "7"}, {7.5, "7.5"}, {-0.8, "-0.8"}, {0.1, "0.1"}, {1.0 / 3, "0.3333333333333333"}, {1e-6, "1e-06"},
    {14.614641229333641, "14.61464122933364"}, {0.30000000000000004, "0.30000000000000004"}, {1e300, "1e+300"},
    {5e-324, "5e-324"}, {18446744073709551615.0, "18446744073709552000"}, {INFINITY, "inf"},
};

static void check_numbers(void)
{
    char out[SD_NUMBER_SIZE];
    double back;
    for (size_t i = 0; i < SD_COUNT(numbers); i++) {
        sd_number_text(out, numbers[i].x);
        assert_true(sd_number_read(&back, out));
        assert_true(back == numbers[i].x);
        if (numbers[i].x < 1e18 || isinf(numbers[i].x)) assert_string_equal(out, numbers[i].text);
    }
    uint64_t state = 1;
    for (int i = 0; i < 100000; i++) {   /* any bits at all */
        double x;
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(&x, &state, sizeof x);
        if (!isfinite(x)) continue;
        assert_true(sd_number_read(&back, sd_number_text(out, x)));
        assert_true(back == x && strlen(out) < SD_NUMBER_SIZE);
    }
    static const char *const wrong[] = {"", " 1", "1 ", "1,5", "1.2.3", "0x10", "nan", "1e", ".", "-", "+-1", "1e400",
        "infinity", "-inf",
        "00000000000000000000000000000000000000000000000000000000000000000000000000000001"};
    for (size_t i = 0; i < SD_COUNT(wrong); i++)
        if (sd_number_read(&back, wrong[i])) fail_msg("\"%s\" is read as %g", wrong[i], back);
}

TEST(numbers_are_read_back_as_the_same_bits)
{
    check_numbers();
}

TEST(numbers_have_a_point_in_every_locale)
{
    char local[16];
    const char *name = temp_comma_locale();
    if (!name) {
        print_message("no locale with a decimal comma on this system\n");
        skip();
    }
    snprintf(local, sizeof local, "%.1f", 0.5);
    assert_string_not_equal(local, "0.5");   /* printf alone would be wrong */
    check_numbers();
    setlocale(LC_ALL, "C");
}

/* --------------------------------------------------------------------------------------- strings */

TEST(strings_are_quoted_as_json_and_read_back)
{
    static const char *const strings[][2] = {
        {"", "\"\""}, {"a, b", "\"a, b\""}, {"say \"x\"", "\"say \\\"x\\\"\""}, {"back\\slash", "\"back\\\\slash\""},
        {"a\nb\tc\r", "\"a\\nb\\tc\\r\""}, {"\x01\x1f", "\"\\u0001\\u001f\""}, {"caf\xc3\xa9/\xf0\x9f\x90\xb1",
            "\"caf\xc3\xa9/\xf0\x9f\x90\xb1\""}};
    for (size_t i = 0; i < SD_COUNT(strings); i++) {
        sd_text t = {0};
        char *said;
        sd_text_quoted(&t, strings[i][0]);
        assert_string_equal(t.s, strings[i][1]);
        size_t n = t.n;
        sd_text_add(&t, ", more");
        assert_ptr_equal(sd_text_unquote(t.s, &said), t.s + n);
        assert_string_equal(said, strings[i][0]);
        free(t.s);
    }
    static const char *const others[][2] = {   /* as other programs may write them */
        {"\"caf\\u00e9\\/\"", "caf\xc3\xa9/"}, {"\"\\ud83d\\udc31\"", "\xf0\x9f\x90\xb1"}, {"\"\\u732B\"",
            "\xe7\x8c\xab"}};
    for (size_t i = 0; i < SD_COUNT(others); i++) {
        char text[64], *said;
        snprintf(text, sizeof text, "%s", others[i][0]);
        assert_non_null(sd_text_unquote(text, &said));
        assert_string_equal(said, others[i][1]);
    }
    static const char *const broken[] = {"\"", "\"a", "\"a\\", "\"a\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"",
        "\"\\ud83d\"", "\"\\ud83dx\"",
                                         "\"\\ud83d\\u0041\"", "\"\\udc31\"", "\"\\u0000\"", "\"a\nb\""};
    for (size_t i = 0; i < SD_COUNT(broken); i++) {
        char text[64], *said;
        snprintf(text, sizeof text, "%s", broken[i]);
        if (sd_text_unquote(text, &said)) fail_msg("%s is read as %s", broken[i], said);
        assert_string_equal(text, broken[i]);
    }
}

/* RFC 1321, appendix A.5, and lengths around a block's end. */
TEST(md5_is_that_of_its_rfc)
{
    static const char *const known[][2] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"}, {"a", "0cc175b9c0f1b6a831c399e269772661"}, {"abc",
            "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            "57edf4a22be3c955ac49da2e2107b67a"}};
    for (size_t i = 0; i < SD_COUNT(known); i++) {
        char hex[33];
        sd_md5 m;
        for (size_t step = 1; step <= 80; step += 13) {   /* in pieces of any size */
            size_t n = strlen(known[i][0]);
            sd_md5_init(&m);
            for (size_t at = 0; at < n; at += step) sd_md5_add(&m, known[i][0] + at, n - at < step ? n - at : step);
            sd_md5_hex(&m, hex);
            assert_string_equal(hex, known[i][1]);
        }
    }
}

/* --------------------------------------------------------------------------------- texts of files */

typedef struct file { unsigned char p[4096]; size_t n; } file;

static void put(file *f, const void *data, size_t n)
{
    memcpy(f->p + f->n, data, n);
    f->n += n;
}

static char *text_of(const file *f, sd_status expected, const char *word)
{
    sd_error e = {.status = SD_OK};
    char *text;
    unsigned char *copy = malloc(f->n ? f->n : 1);   /* of just this size, for a sanitizer */
    memcpy(copy, f->p, f->n);
    sd_status status = sd_image_text_memory(&text, copy, f->n, "some/file", &e);
    free(copy);
    if (status != expected) fail_msg("%s (%s)", sd_status_name(status), e.text);
    assert_int_equal(status == SD_OK, text != NULL);
    if (status) assert_non_null(strstr(e.text, word));
    return text;
}

/* Every bit changed, every length: it ends well. */
static void damage_everywhere(file *f)
{
    for (size_t i = 0; i < f->n; i++)
        for (int bit = 0; bit < 8; bit++) {
            sd_error e = {.status = SD_OK};
            char *text;
            f->p[i] ^= (unsigned char)(1 << bit);
            sd_image_text_memory(&text, f->p, f->n, "some/file", &e);
            f->p[i] ^= (unsigned char)(1 << bit);
            assert_int_equal(e.status == SD_OK, text != NULL);
            free(text);
        }
    for (size_t n = 0; n < f->n; n++) {
        sd_error e = {.status = SD_OK};
        char *text;
        unsigned char *copy = malloc(n ? n : 1);
        memcpy(copy, f->p, n);
        sd_image_text_memory(&text, copy, n, "some/file", &e);
        free(text);
        free(copy);
    }
}

#define HEAD(s) s, sizeof(s) - 1

/* EXIF as A1111's piexif writes it, or with its numbers the other way round. `last` is where the comment is said to
 * be, `count` how long; 0: what is true. */
static void put_exif(file *f, bool little, const char *comment, size_t n, uint32_t last, uint32_t count)
{
    const uint32_t words[] = {8, 0x87690004, 1, 26, 0x92860007, count ? count : (uint32_t)n, last ? last : 44};
    unsigned char t[44] = {0};
    memcpy(t, little ? "II*" : "MM\0*", 4);
    static const struct { int at, bytes, word, shift; } parts[] = {
        {4, 4, 0, 0}, {10, 2, 1, 16}, {12, 2, 1, 0}, {14, 4, 2, 0}, {18, 4, 3, 0},
        {28, 2, 4, 16}, {30, 2, 4, 0}, {32, 4, 5, 0}, {36, 4, 6, 0}};
    t[little ? 8 : 9] = t[little ? 26 : 27] = 1;   /* one entry in each directory */
    for (size_t i = 0; i < SD_COUNT(parts); i++)
        for (int k = 0; k < parts[i].bytes; k++) {
            int shift = 8 * (little ? k : parts[i].bytes - 1 - k);
            t[parts[i].at + k] = (unsigned char)(words[parts[i].word] >> parts[i].shift >> shift);
        }
    put(f, t, sizeof t);
    put(f, comment, n);
}

static void put_segment(file *f, unsigned marker, const char *head, size_t head_n, const void *body, size_t n)
{
    size_t length = 2 + head_n + n;
    const unsigned char begin[] = {0xFF, (unsigned char)marker, (unsigned char)(length >> 8), (unsigned char)length};
    put(f, begin, 4);
    put(f, head, head_n);
    put(f, body, n);
}

/* The segments of a JPEG with this one in them, and a scan, which is not looked at: a text in it is none. */
static void jpeg_with(file *f, unsigned marker, const char *head, size_t head_n, const void *body, size_t n)
{
    f->n = 0;
    put(f, HEAD("\xFF\xD8"));
    put_segment(f, 0xE0, HEAD("JFIF\0"), "\1\1\0\0\1\0\1\0\0", 9);
    put_segment(f, 0xE1, HEAD("http://ns.adobe.com/xap/1.0/\0"), "<x/>", 4);
    put_segment(f, 0xFE, HEAD("made by hand"), "", 0);
    put(f, "\xFF\xFF", 2);
    put_segment(f, marker, head, head_n, body, n);
    put_segment(f, 0xDA, HEAD("\1"), "", 0);
    put_segment(f, 0xFE, HEAD("parameters\0"), "not this", 8);
}

static void webp_with(file *f, const char *name, const char *head, size_t head_n, const void *body, size_t n)
{
    size_t size = head_n + n;
    const unsigned char word[] = {(unsigned char)size, (unsigned char)(size >> 8), 0, 0};
    f->n = 0;
    put(f, HEAD("RIFF\0\0\0\0WEBPVP8 \3\0\0\0abc\0"));   /* an odd chunk and the byte that makes it even */
    put(f, name, 4);
    put(f, word, 4);
    put(f, head, head_n);
    put(f, body, n);
    if (size % 2) put(f, "", 1);
}

static void expect_text(const file *f, const char *expected)
{
    char *text = text_of(f, SD_OK, NULL);
    assert_string_equal(text, expected);
    free(text);
}

static const struct { const char *comment; size_t n; const char *text; } comments[] = {
    {HEAD("UNICODE\0\0a\0 \0c\0a\0t"), "a cat"},                    /* A1111's */
    {HEAD("UNICODE\0a\0 \0c\0a\0t\0"), "a cat"},                    /* the other order of bytes */
    {HEAD("UNICODE\0\xFE\xFF\0a"), "a"}, {HEAD("UNICODE\0\xFF\xFE\x61\0"), "a"},
    {HEAD("UNICODE\0\0c\0a\0f\0\xe9\0 \x73\x2B\xD8\x3D\xDC\x31"), "caf\xc3\xa9 \xe7\x8c\xab\xf0\x9f\x90\xb1"},
    {HEAD("UNICODE\0\x2B\x73\x3D\xD8\x31\xDC x\0\0y\0\0\0"), NULL},   /* letters of both orders, and NUL */
    {HEAD("UNICODE\0\0a\0\0"), "a"},                               /* ended by NUL */
    {HEAD("ASCII\0\0\0a cat"), "a cat"}, {HEAD("ASCII\0\0\0caf\xe9\0\0"), "caf\xc3\xa9"},
    {HEAD("\0\0\0\0\0\0\0\0a cat, \xe7\x8c\xab"), "a cat, \xe7\x8c\xab"},
    {HEAD("a cat without a code"), "a cat without a code"},
};

TEST(comments_of_jpeg_and_webp_are_read_in_each_code)
{
    for (size_t i = 0; i < SD_COUNT(comments); i++)
        for (int little = 0; little < 2; little++) {
            file exif = {.n = 0}, f;
            put_exif(&exif, little, comments[i].comment, comments[i].n, 0, 0);
            if (!comments[i].text) {
                jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
                text_of(&f, SD_ERR_FORMAT, "NUL byte");
                continue;
            }
            jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
            expect_text(&f, comments[i].text);
            webp_with(&f, "EXIF", "", 0, exif.p, exif.n);
            expect_text(&f, comments[i].text);
            webp_with(&f, "EXIF", HEAD("Exif\0\0"), exif.p, exif.n);
            expect_text(&f, comments[i].text);
        }
}

TEST(sdcpps_comment_and_xmp_are_read)
{
    file f;
    jpeg_with(&f, 0xFE, HEAD("parameters\0"), HEAD("a cat\nSteps: 3\0"));
    expect_text(&f, "a cat\nSteps: 3");
    jpeg_with(&f, 0xFE, HEAD("parameters\0"), HEAD("cut off by the segment's en"));   /* then without a NUL */
    expect_text(&f, "cut off by the segment's en");
    jpeg_with(&f, 0xFE, HEAD("parameters\0"), "", 0);
    expect_text(&f, "");
    webp_with(&f, "XMP ", HEAD("<x:xmpmeta><sdcpp:parameters>"),
              HEAD("a &lt;b&gt; &amp;amp; &quot;c&quot; &apos; &copy; &</sdcpp:parameters>\n</x:xmpmeta>"));
    expect_text(&f, "a <b> &amp; \"c\" ' &copy; &");
}

TEST(broken_comments_are_refused)
{
    static const struct {
        const char *comment;
        size_t n;
        uint32_t at, count;
        sd_status status;
        const char *word;
    } bad[] = {
        {HEAD("UNICODE\0\0a"), 44, 11, SD_ERR_FORMAT, "beyond its end"},
        {HEAD("UNICODE\0\0a"), 46, 0, SD_ERR_FORMAT, "beyond its end"},
        {HEAD("UNICODE\0\0a"), 44, 0xFFFFFFFF, SD_ERR_FORMAT, "beyond its end"},
        {HEAD("UNICODE\0\0a"), 0xFFFFFFFF, 0, SD_ERR_FORMAT, "beyond its end"},
        {HEAD("UNICODE\0\0a"), 0xFFFFFFFF, 0xFFFFFFFF, SD_ERR_FORMAT, "beyond its end"},
        {HEAD("UNICODE\0\0a\0"), 0, 0, SD_ERR_FORMAT, "not UTF-16"},
        {HEAD("UNICODE\0\0a\xD8\x3D\0b"), 0, 0, SD_ERR_FORMAT, "not UTF-16"},
        {HEAD("UNICODE\0\0a\xDC\x31"), 0, 0, SD_ERR_FORMAT, "not UTF-16"},
        {HEAD("UNICODE\0\0a\xD8\x3D"), 0, 0, SD_ERR_FORMAT, "not UTF-16"},
        {HEAD("JIS\0\0\0\0\0a cat"), 0, 0, SD_ERR_FORMAT, "JIS"},
        {HEAD("no code \xff"), 0, 0, SD_ERR_FORMAT, "not UTF-8"},
        {HEAD("ASCII\0\0\0a\0b"), 0, 0, SD_ERR_FORMAT, "NUL byte"},
        {HEAD("UNICODE\0"), 0, 0, SD_ERR_MISSING, "no text of settings"},          /* A1111's of a picture without */
        {HEAD("ASCII\0\0\0\0\0\0\0"), 0, 0, SD_ERR_MISSING, "no text of settings"},   /* a camera's */
        {HEAD("UNICODE\0\0a"), 0, 4, SD_ERR_MISSING, "no text of settings"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++)
        for (int little = 0; little < 2; little++) {
            file exif = {.n = 0}, f;
            put_exif(&exif, little, bad[i].comment, bad[i].n, bad[i].at, bad[i].count);
            jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
            text_of(&f, bad[i].status, bad[i].word);
            webp_with(&f, "EXIF", "", 0, exif.p, exif.n);
            text_of(&f, bad[i].status, bad[i].word);
        }
}

/* Directories that point to themselves, to each other, to nowhere; more entries than there are bytes. */
TEST(directories_without_sense_have_no_comment)
{
    static const struct { int at; unsigned char value; } changes[] = {
        {7, 44}, {7, 0xFF}, {4, 0xFF}, {21, 8}, {21, 18}, {21, 0xFF}, {18, 0xFF}, {31, 3}, {2, 1}, {0, 'X'}};
    file exif = {.n = 0}, f;
    put_exif(&exif, false, HEAD("UNICODE\0\0a"), 0, 0);
    for (size_t i = 0; i < SD_COUNT(changes); i++) {
        unsigned char was = exif.p[changes[i].at];
        exif.p[changes[i].at] = changes[i].value;
        jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
        text_of(&f, SD_ERR_MISSING, "a JPEG's EXIF UserComment");
        exif.p[changes[i].at] = was;
    }
    exif.p[8] = exif.p[26] = 0xFF;   /* the right one is still the first of them */
    jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
    expect_text(&f, "a");
}

TEST(damaged_jpegs_and_webps_end_well)
{
    file exif = {.n = 0}, f;
    put_exif(&exif, true, HEAD("UNICODE\0a\0 \0c\0a\0t\0\x3D\xD8\x31\xDC"), 0, 0);
    jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
    damage_everywhere(&f);
    webp_with(&f, "EXIF", "", 0, exif.p, exif.n);
    damage_everywhere(&f);
    jpeg_with(&f, 0xFE, HEAD("parameters\0"), HEAD("a cat\0"));
    damage_everywhere(&f);
    webp_with(&f, "XMP ", HEAD("<sdcpp:parameters>"), HEAD("a &lt; b</sdcpp:parameters>"));
    damage_everywhere(&f);
    webp_with(&f, "XMP ", HEAD("<sdcpp:parameters>"), HEAD("a &lt; b</sdcpp:para"));
    text_of(&f, SD_ERR_FORMAT, "XMP is cut off");
    jpeg_with(&f, 0xE1, HEAD("Exif\0\0"), exif.p, exif.n);
    f.n = 150;
    text_of(&f, SD_ERR_FORMAT, "cut off or damaged");
    webp_with(&f, "EXIF", "", 0, exif.p, exif.n);
    f.n -= 3;
    text_of(&f, SD_ERR_FORMAT, "cut off or damaged");
    f.n = 0;
    put(&f, "GIF89a\0", 7);
    text_of(&f, SD_ERR_UNSUPPORTED, "neither a PNG, a JPEG, a WebP nor a text");
    f.n = 0;
    put(&f, HEAD("RIFF\0\0\0\0WAVEfmt "));
    text_of(&f, SD_ERR_UNSUPPORTED, "neither a PNG");
}

/* ---------------------------------------------------------------------------------- texts of PNGs */

#ifdef SD_WITH_PNG
static void put_chunk(file *f, const char *name, const void *data, size_t n)
{
    unsigned char word[4] = {0, 0, (unsigned char)(n >> 8), (unsigned char)n};
    put(f, word, 4);
    size_t at = f->n;
    put(f, name, 4);
    put(f, data, n);
    uint32_t crc = (uint32_t)crc32(0, f->p + at, (uInt)(n + 4));
    for (int i = 0; i < 4; i++) word[i] = (unsigned char)(crc >> (24 - 8 * i));
    put(f, word, 4);
}

static const char begin[] = "\x89PNG\r\n\x1a\n", ihdr[13] = {0, 0, 0, 1, 0, 0, 0, 1, 8, 2};

static void with_chunk(file *f, const char *name, const char *head, size_t head_n, const char *body, size_t n,
    bool pack)
{
    unsigned char data[2048];
    uLongf packed = sizeof data - head_n;
    memcpy(data, head, head_n);
    if (pack) assert_int_equal(compress(data + head_n, &packed, (const unsigned char *)body, n), Z_OK);
    else memcpy(data + head_n, body, n);
    f->n = 0;
    put(f, begin, 8);
    put_chunk(f, "IHDR", ihdr, 13);
    put_chunk(f, "tEXt", "Software\0other", 14);
    put_chunk(f, "IDAT", "", 0);
    put_chunk(f, name, data, head_n + (pack ? packed : n));   /* it may stand behind the pixels */
    put_chunk(f, "IEND", "", 0);
}

TEST(texts_are_found_in_each_kind_of_chunk)
{
    static const struct { const char *name,
        *head; size_t n; const char *body; bool pack; const char *text; } kinds[] = {
        {"tEXt", HEAD("parameters\0"), "plain", false, "plain"},
        {"tEXt", HEAD("parameters\0"), "caf\xe9", false, "caf\xc3\xa9"},                  /* Latin-1 */
        /* UTF-8, as stable-diffusion.cpp has it */
        {"tEXt", HEAD("parameters\0"), "caf\xc3\xa9", false, "caf\xc3\xa9"},
        {"zTXt", HEAD("parameters\0\0"), "caf\xe9 packed", true, "caf\xc3\xa9 packed"},
        {"iTXt", HEAD("parameters\0\0\0\0\0"), "\xe7\x8c\xab", false, "\xe7\x8c\xab"},
        {"iTXt", HEAD("parameters\0\1\0de\0Angaben\0"), "\xe7\x8c\xab packed", true, "\xe7\x8c\xab packed"},
        {"tEXt", HEAD("parameters\0"), "", false, ""},
    };
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        file f;
        with_chunk(&f, kinds[i].name, kinds[i].head, kinds[i].n, kinds[i].body, strlen(kinds[i].body), kinds[i].pack);
        char *text = text_of(&f, SD_OK, NULL);
        assert_string_equal(text, kinds[i].text);
        free(text);
        f.n -= 12;   /* no end */
        free(text_of(&f, SD_OK, NULL));
    }
}

TEST(broken_texts_are_refused)
{
    static const struct { const char *name,
        *head; size_t n; const char *body; size_t body_n; sd_status status; const char *word; } bad[] = {
        {"tEXt", HEAD("parameter\0"), HEAD("x"), SD_ERR_MISSING, "no text of settings"},
        {"tEXt", HEAD("parameters"), HEAD("x"), SD_ERR_MISSING, "no text of settings"},
        {"tEXt", HEAD("parameters\0"), HEAD("a\0b"), SD_ERR_FORMAT, "NUL byte"},
        {"zTXt", HEAD("parameters\0\1"), HEAD("x"), SD_ERR_FORMAT, "unknown way"},
        {"zTXt", HEAD("parameters\0\0"), HEAD("not packed"), SD_ERR_FORMAT, "does not unpack"},
        {"zTXt", HEAD("parameters\0"), HEAD(""), SD_ERR_FORMAT, "unknown way"},
        {"iTXt", HEAD("parameters\0\0\0en"), HEAD(""), SD_ERR_FORMAT, "cut off"},
        {"iTXt", HEAD("parameters\0\0\0\0\0"), HEAD("\xff"), SD_ERR_FORMAT, "not UTF-8"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        file f;
        with_chunk(&f, bad[i].name, bad[i].head, bad[i].n, bad[i].body, bad[i].body_n, false);
        text_of(&f, bad[i].status, bad[i].word);
    }
    file f;
    with_chunk(&f, "tEXt", HEAD("parameters\0"), HEAD("Steps: 20"), false);
    f.p[f.n - 12 - 6] ^= 1;
    text_of(&f, SD_ERR_FORMAT, "checksum is wrong");
    char *zeros = calloc(1, 20u << 20);   /* a bomb: 20 MB in 20 KB */
    unsigned char *packed = malloc(100000);
    uLongf n = 100000 - 12;
    memcpy(packed, "parameters\0", 12);
    memset(zeros, ' ', 20u << 20);
    assert_int_equal(compress(packed + 12, &n, (unsigned char *)zeros, 20u << 20), Z_OK);
    static unsigned char whole[200000];
    size_t at = 0;
    memcpy(whole, begin, 8);
    const unsigned char head[8] = {0, (unsigned char)((n + 12) >> 16), (unsigned char)((n + 12) >> 8),
        (unsigned char)(n + 12), 'z', 'T', 'X', 't'};
    memcpy(whole + 8, head, 8);
    memcpy(whole + 16, packed, n + 12);
    at = 16 + n + 12;
    uint32_t crc = (uint32_t)crc32(0, whole + 12, (uInt)(n + 16));
    for (int i = 0; i < 4; i++) whole[at + (size_t)i] = (unsigned char)(crc >> (24 - 8 * i));
    sd_error e = {.status = SD_OK};
    char *text;
    assert_int_equal(sd_image_text_memory(&text, whole, at + 4, "bomb.png", &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "more than 16 MB"));
    free(zeros);
    free(packed);
}

TEST(damaged_pngs_end_well)
{
    file f;
    with_chunk(&f, "iTXt", HEAD("parameters\0\1\0de\0Angaben\0"), HEAD("\xe7\x8c\xab\nSteps: 3, Seed: 4, Size: 8x8"),
        true);
    damage_everywhere(&f);
}

/* What is written is found again, also what looks like another encoding. */
TEST(written_texts_are_read_back)
{
    static const char *const texts[] = {"plain", "caf\xc3\xa9", "\xc3\x83\xc2\xa9", "\xe7\x8c\xab", "a\nb\r\nc", " ",
        "\xc2\x80"};
    uint8_t rgb[3] = {1, 2, 3};
    for (size_t i = 0; i < SD_COUNT(texts); i++) {
        char *text, error[512];
        sd_error e = {.status = SD_OK};
        assert_int_equal(sd_image_save(temp_path("t.png"), &(sd_image){1, 1, 3, rgb}, texts[i], &e), SD_OK);
        if (sd_image_text_read(temp_path("t.png"), &text, error)) fail_msg("%s", error);
        assert_string_equal(text, texts[i]);
        sd_free(text);
    }
}
#endif

/* ---------------------------------------------------------------------------------------- recipes */

static sd_recipe *recipe_of(const char *text)
{
    char error[512];
    sd_recipe *r;
    if (sd_recipe_read(text, &r, error)) fail_msg("%s", error);
    return r;
}

TEST(a1111s_texts_are_understood)
{
    sd_recipe *r = recipe_of("masterpiece, (a cat:1.2)\nby a window\nNegative prompt: blurry,\nbad: hands\nSteps: 28, "
                             "Sampler: DPM++ 2M SDE, "
                             "Schedule type: Exponential, CFG scale: 6.5, Seed: 3511284091, Size: 512x768, Model "
                                 "hash: 6ce0161689, "
                             "Model: v1-5-pruned-emaonly, Denoising strength: 0.4, Clip skip: 2, Hires upscale: 2, "
                             "Hires upscaler: Latent, Lora hashes: \"a: 1, b: 2\", ADetailer model: face_yolov8n.pt, "
                                 "Version: v1.10.1");
    assert_string_equal(r->params->prompt, "masterpiece, (a cat:1.2)\nby a window");
    assert_string_equal(r->params->negative_prompt, "blurry,\nbad: hands");
    assert_int_equal(r->params->sampling.steps, 28);
    assert_string_equal(r->params->sampling.sampler, "dpm++2m_sde@kdiffusion");
    assert_string_equal(r->params->sampling.schedule, "exponential@kdiffusion");
    assert_true(r->params->guidance.scale == 6.5 && r->params->seed == 3511284091u && r->params->width == 512 &&
        r->params->height == 768);
    assert_true(r->params->edit.strength == SD_DEFAULT && !r->from_picture);   /* the second pass' strength */
    assert_int_equal(r->params->clip_skip, 2);
    assert_string_equal(r->params->rng, "torch-cuda");            /* what A1111 takes and does not write */
    assert_string_equal(r->model, "v1-5-pruned-emaonly");
    assert_string_equal(r->writer, "v1.10.1");
    assert_non_null(strstr(r->notices, "not followed: Hires upscale, Hires upscaler, Lora hashes, ADetailer model\n"));
    sd_recipe_free(r);

    r = recipe_of("Negative prompt: x\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 64x64, "
                  "Denoising strength: 0.55, "
                  "Mask blur: 4, Inpaint area: Only masked, Masked area padding: 16, Mask mode: Inpaint not masked, "
                  "Init image hash: 0123456789abcdef0123456789abcdef, RNG: CPU");
    assert_string_equal(r->params->prompt, "");
    assert_string_equal(r->params->negative_prompt, "x");
    assert_string_equal(r->params->sampling.schedule, "karras@kdiffusion");
    assert_true(r->from_picture && r->params->edit.strength == 0.55 && r->params->edit.mask_blur == 4 &&
        r->params->edit.inpaint_crop == 16);
    assert_int_equal(r->params->edit.invert_mask, 1);
    assert_null(r->params->rng);
    sd_recipe_free(r);

    static const struct { const char *sampler, *type, *name, *schedule; } samplers[] = {
        {"Euler a", NULL, "euler_a@kdiffusion", "linspace@kdiffusion"},
        {"Euler a", "Automatic", "euler_a@kdiffusion", "linspace@kdiffusion"},
        {"DPM++ 2M", "Automatic", "dpm++2m@kdiffusion", "karras@kdiffusion"},
        {"DPM++ 3M SDE", "Automatic", "dpm++3m_sde@kdiffusion", "exponential@kdiffusion"},
        {"DPM++ 2M", "SGM Uniform", "dpm++2m@kdiffusion", "sgm_uniform"},
        {"DPM++ 2M", "Align Your Steps", "dpm++2m@kdiffusion", "align_your_steps"},
        {"DPM adaptive", "Karras", "dpm_adaptive", NULL}, {"DDIM", "Automatic", "ddim", NULL}, {"PLMS", NULL, "pndm",
            NULL},
    };
    for (size_t i = 0; i < SD_COUNT(samplers); i++) {
        char text[256];
        snprintf(text, sizeof text, "x\nSteps: 20, Sampler: %s%s%s, Seed: 1", samplers[i].sampler, samplers[i].type ?
            ", Schedule type: " : "",
                 samplers[i].type ? samplers[i].type : "");
        r = recipe_of(text);
        assert_string_equal(r->params->sampling.sampler, samplers[i].name);
        if (!samplers[i].schedule) assert_null(r->params->sampling.schedule);
        else assert_string_equal(r->params->sampling.schedule, samplers[i].schedule);
        sd_recipe_free(r);
    }
}

TEST(sdcpps_texts_are_understood)
{
    sd_recipe *r = recipe_of("a \xe7\x8c\xab\nSteps: 30, CFG scale: 5.000000, Skip layers: [7, 8, 9, ], Guidance: "
                             "3.500000, Eta: 0.000000, "
                             "Seed: 197583933, Size: 512x512, Model: v1-5-pruned-emaonly.safetensors, RNG: cuda, "
                                 "Sampler: dpm++2m karras, "
                             "VAE: vae.safetensors, Version: stable-diffusion.cpp");
    assert_string_equal(r->params->sampling.sampler, "dpm++2m@kdiffusion");
    assert_string_equal(r->params->sampling.schedule, "karras@kdiffusion");
    assert_string_equal(r->params->rng, "torch-cuda");
    assert_true(r->params->seed == 197583933 && r->params->guidance.scale == 5);
    assert_true(r->params->sampling.eta == SD_DEFAULT && r->params->sampling.steps == 30);
    assert_non_null(strstr(r->notices, "not followed: Skip layers, VAE\n"));
    sd_recipe_free(r);
    r = recipe_of("x\nSteps: 30, Seed: 1, Sampler: dpm++2mv2, RNG: std_default, Version: stable-diffusion.cpp");
    assert_null(r->params->sampling.sampler);
    assert_non_null(strstr(r->notices, "the sampler \"dpm++2mv2\" is not supported: the nearest is dpm++2m\n"));
    assert_non_null(strstr(r->notices, "std_default is not supported"));
    sd_recipe_free(r);
}

TEST(hostile_texts_are_prompts_or_notices)
{
    static const struct { const char *text, *prompt, *notice; } cases[] = {
        {"", "", "no line of settings"},
        {"just words", "just words", "no line of settings"},
        {"two, words: here\nand: more, of: them", "two, words: here\nand: more, of: them", "no line of settings"},
        {"x\nSteps: -5, Sampler: , Seed: -1", "x", "Seed is not understood: -1"},
        {"x\nSteps: 1e999, Size: 8, Seed: 99999999999999999999", "x", "Steps is not understood"},
        {"x\nSteps: 2147483648, Size: axb, Seed: 1", "x", "Size is not understood"},
        {"x\nSigmas: \"1,,2\", Outpaint: \"1,2,3\", Seed: 1, Version: sd 9", "x", "Outpaint is not understood"},
        {"x\nOutpaint: \"1,2,3,99999999\", Steps: 1, Seed: 1", "x", "Outpaint is not understood"},
        {"x\nInit image: ../../etc/passwd, Steps: 1, Seed: 1, Version: sd 9", "x", ""},
        {"x\nPrompt: \"\\ud800\", Steps: 1, Seed: 1", "\"\\ud800\"", ""},
        {"x\nSampler: \"\", Schedule type: \"\", Steps: 1", "x", "unknown sampler"},
        {"x\nAB: \", Steps: 1, Seed: 2", "x", "not followed: AB"},
        {"x\nSteps:1,Seed:2,Size:8x8", "x", ""},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_recipe *r = recipe_of(cases[i].text);
        assert_string_equal(r->params->prompt, cases[i].prompt);
        if (!strstr(r->notices, cases[i].notice)) fail_msg("case %zu: \"%s\" is not in \"%s\"", i, cases[i].notice,
            r->notices);
        if (r->params->edit.init_name) assert_string_equal(r->params->edit.init_name, "passwd");
        sd_recipe_free(r);
    }
    char many[20000] = "x\nSigmas: \"1";
    for (size_t n = strlen(many); n < 19000; n += 2) memcpy(many + n, ",1", 3);
    strcat(many, "\", Steps: 1, Seed: 2, Version: sd 1");
    sd_recipe *r = recipe_of(many);
    assert_true(r->params->sampling.sigma_count > 9000 && r->params->sampling.sigmas[9000] == 1);
    sd_recipe_free(r);
    sd_recipe_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_back_as_the_same_bits),
        cmocka_unit_test(numbers_have_a_point_in_every_locale),
        cmocka_unit_test(strings_are_quoted_as_json_and_read_back),
        cmocka_unit_test(md5_is_that_of_its_rfc),
        cmocka_unit_test(comments_of_jpeg_and_webp_are_read_in_each_code),
        cmocka_unit_test(sdcpps_comment_and_xmp_are_read),
        cmocka_unit_test(broken_comments_are_refused),
        cmocka_unit_test(directories_without_sense_have_no_comment),
        cmocka_unit_test(damaged_jpegs_and_webps_end_well),
#ifdef SD_WITH_PNG
        cmocka_unit_test(texts_are_found_in_each_kind_of_chunk),
        cmocka_unit_test(broken_texts_are_refused),
        cmocka_unit_test(damaged_pngs_end_well),
        cmocka_unit_test(written_texts_are_read_back),
#endif
        cmocka_unit_test(a1111s_texts_are_understood),
        cmocka_unit_test(sdcpps_texts_are_understood),
        cmocka_unit_test(hostile_texts_are_prompts_or_notices),
    };
    return cmocka_run_group_tests(tests, temp_make, temp_remove);
}
