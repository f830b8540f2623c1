/* test_image_read.c - image_read.c: every kind of PNG, JPEG and PNM, made here; and files cut off, corrupted and
 * made up. */
#define _POSIX_C_SOURCE 200809L
#include "../image.h"
#include "../image_transform.h"
#include "../text.h"
#include "tempdir.h"

#include <unistd.h>

#include "test.h"
/* ------------------------------------------------------------------------------------------- helpers */

typedef struct bytes {
    uint8_t *p;
    size_t n, cap;
} bytes;

static void put(bytes *b, const void *data, size_t n)
{
    if (b->cap - b->n < n) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }
    memcpy(b->p + b->n, data, n);
    b->n += n;
}

static sd_error err;
static sd_image pic;
static bool unended;

/* From a block of exactly this size, so that a sanitizer sees a byte read too much. */
static sd_status read_bytes(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, data, n);
    sd_error_clear(&err);
    sd_status status = sd_image_load_memory(&pic, copy, n, "some/file", NULL, &unended, &err);
    free(copy);
    return status;
}

static void assert_read(const bytes *b, int width, int height, int channels)
{
    if (read_bytes(b->p, b->n)) fail_msg("%s", err.text);
    assert_int_equal(pic.width, width);
    assert_int_equal(pic.height, height);
    assert_int_equal(pic.channels, channels);
}

/* One sentence, in `pic` nothing. */
static void assert_refused(const char *data, size_t n, sd_status expected, const char *word)
{
    static const sd_image nothing;
    sd_status status = read_bytes((const uint8_t *)data, n);
    assert_int_equal(status, err.status);
    assert_memory_equal(&pic, &nothing, sizeof nothing);
    if (status != expected) fail_msg("status %s for \"%s\" (%s)", sd_status_name(status), word, err.text);
    assert_non_null(strstr(err.text, "cannot read some/file: "));
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void done(bytes *b)
{
    sd_image_free(&pic);
    free(b->p);
    memset(b, 0, sizeof *b);
}

static void refuse_all_prefixes(const bytes *b, size_t until)
{
    for (size_t n = 0; n < until; n++) {
        sd_status status = read_bytes(b->p, n);
        if (status != SD_ERR_FORMAT) fail_msg("%zu of %zu bytes: %s (%s)", n, b->n, sd_status_name(status), err.text);
        assert_non_null(strstr(err.text, "some/file"));
        assert_null(pic.data);
    }
}

/* Each byte changed in several ways: whatever comes of it, it ends well and says what is wrong, or gives a picture. */
static void change_all_bytes(const bytes *b)
{
    static const uint8_t change[] = {0x01, 0x10, 0x80, 0xFF};
    for (size_t i = 0; i < b->n; i++)
        for (size_t k = 0; k < sizeof change; k++) {
            b->p[i] ^= change[k];
            sd_status status = read_bytes(b->p, b->n);
            b->p[i] ^= change[k];
            assert_int_equal(status, err.status);
            assert_true(status == SD_OK || status == SD_ERR_FORMAT || status == SD_ERR_UNSUPPORTED);
            assert_int_equal(status == SD_OK, pic.data != NULL);
            if (status) assert_non_null(strstr(err.text, "cannot read some/file: "));
            sd_image_free(&pic);
        }
}

#if defined(SD_WITH_PNG) || defined(SD_WITH_JPEG)
static const uint8_t *at(int x, int y) { return pic.data + (y * pic.width + x) * pic.channels; }

/* A TIFF header as EXIF has it, with the orientation in its second entry. */
static bytes tiff(bool little, unsigned type, unsigned orientation)
{
    const uint8_t o = (uint8_t)orientation, t = (uint8_t)type;
    const uint8_t ii[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 2, 0, 0x0F, 1, 2, 0, 1, 0, 0, 0, 'x', 0, 0, 0,
                          0x12, 1, t, 0, 1, 0, 0, 0, o, 0, 0, 0, 0, 0, 0, 0};
    const uint8_t mm[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 2, 1, 0x0F, 0, 2, 0, 0, 0, 1, 'x', 0, 0, 0,
                          1, 0x12, 0, t, 0, 0, 0, 1, 0, type == 3 ? o : 0, 0, type == 3 ? 0 : o, 0, 0, 0, 0};
    bytes b = {0};
    put(&b, little ? ii : mm, sizeof ii);
    return b;
}

/* What becomes of the blocks 1 2 3 over 4 5 6, one row after the other. */
static const struct { const char *blocks; int columns; } upright[] = {
    [0] = {"123456", 3}, [1] = {"123456", 3}, [2] = {"321654", 3}, [3] = {"654321", 3}, [4] = {"456123", 3},
    [5] = {"142536", 2}, [6] = {"415263", 2}, [7] = {"635241", 2}, [8] = {"362514", 2}, [9] = {"123456", 3},
};

/* The blocks have a size of `side` and the grey 40*number. */
static void assert_upright(unsigned orientation, int side, int tolerance)
{
    int columns = upright[orientation].columns;
    assert_int_equal(pic.width, columns * side);
    assert_int_equal(pic.height, 6 / columns * side);
    for (int y = 0; y < pic.height; y++)
        for (int x = 0; x < pic.width; x++) {
            int grey = 40 * (upright[orientation].blocks[y / side * columns + x / side] - '0');
            for (int c = 0; c < 3; c++) assert_true(abs(at(x, y)[c] - grey) <= tolerance);
        }
}
#endif

/* Read at other sizes, from memory and from a file: the bytes of reading all of it and resizing that. by_rows: of what
 * shrinks only rows are held, and the hash of all pixels is known. */
static UNUSED void assert_fitted(const bytes *b, bool by_rows)
{
    static const int sizes[][2] = {{3, 2}, {5, 7}, {1, 1}, {2, 1}, {40, 3}, {64, 64}};
    temp_write("fitted", b->p, b->n);
    if (read_bytes(b->p, b->n)) fail_msg("%s", err.text);
    sd_image whole = pic;
    sd_md5 md5;
    char hash[33];
    sd_md5_init(&md5);
    sd_md5_add(&md5, whole.data, (size_t)(whole.width * whole.height * whole.channels));
    sd_md5_hex(&md5, hash);
    for (size_t i = 0; i < SD_COUNT(sizes); i++)
        for (int fit = SD_FIT_STRETCH; fit <= SD_FIT_PAD; fit++)
            for (int file = 0; file < 2; file++) {
                int w = sizes[i][0], h = sizes[i][1];
                bool rows = by_rows && w <= whole.width && h <= whole.height
                    && (w < whole.width || h < whole.height);
                sd_fitted f = {w, h, (sd_fit)fit, "?"};
                sd_image want, rgb;
                sd_error_clear(&err);
                if (file) sd_image_load(&pic, temp_path("fitted"), &f, NULL, &err);
                else sd_image_load_memory(&pic, b->p, b->n, "some/file", &f, NULL, &err);
                if (err.status) fail_msg("%s", err.text);
                assert_string_equal(f.hash, rows ? hash : "");
                assert_int_equal(sd_image_to_rgb(&rgb, &whole, NULL, &err), SD_OK);
                if (rows) sd_image_fit(&want, &rgb, w, h, (sd_fit)fit, SD_FILTER_LANCZOS, NULL, &err);
                else sd_image_crop(&want, &whole, (sd_rect){0, 0, whole.width, whole.height}, &err);
                assert_true(pic.width == want.width && pic.height == want.height && pic.channels == want.channels);
                assert_memory_equal(pic.data, want.data, (size_t)(want.width * want.height * want.channels));
                sd_image_free(&want);
                sd_image_free(&rgb);
                sd_image_free(&pic);
            }
    int width, height;
    assert_int_equal(sd_image_sides(&width, &height, temp_path("fitted"), &err), SD_OK);
    assert_true(width == whole.width && height == whole.height);
    sd_image_free(&whole);
}

/* --------------------------------------------------------------------------------------------- PNG */

#ifdef SD_WITH_PNG
#include <png.h>

static void png_put(png_structp png, png_bytep data, size_t n) { put(png_get_io_ptr(png), data, n); }
static void png_done(png_structp png) { (void)png; }

typedef struct png_kind {
    int type, depth;
    bool interlaced, transparent;   /* transparent: with a tRNS chunk */
} png_kind;

enum { WIDE = 11, HIGH = 9 };

static int png_samples(int type)
{
    if (type == PNG_COLOR_TYPE_PALETTE) return 1;
    return (type & PNG_COLOR_MASK_COLOR ? 3 : 1) + (type & PNG_COLOR_MASK_ALPHA ? 1 : 0);
}

/* Sample c of pixel x, y: all the values a depth has, or many of them. */
static unsigned png_value(const png_kind *k, int x, int y, int c)
{
    int v = x * 37 + y * 101 + c * 59;
    if (k->depth == 16) v += x * y * 997 + (y << 10);
    return (unsigned)v & ((1u << k->depth) - 1);
}

static const png_color *palette(int depth)
{
    static png_color colour[256];
    for (int i = 0; i < 1 << depth; i++)
        colour[i] = (png_color){(png_byte)(255 - i), (png_byte)(i * 7), (png_byte)(i * 31 + 5)};
    return colour;
}

/* The transparent colour is that of pixel 2, 1; of a palette, the first entries get some alpha. */
static void put_transparency(png_structp png, png_infop info, const png_kind *k)
{
    png_byte alpha[] = {0, 100};
    png_color_16 c = {.red = (png_uint_16)png_value(k, 2, 1, 0), .green = (png_uint_16)png_value(k, 2, 1, 1),
                      .blue = (png_uint_16)png_value(k, 2, 1, 2), .gray = (png_uint_16)png_value(k, 2, 1, 0)};
    if (k->type == PNG_COLOR_TYPE_PALETTE) png_set_tRNS(png, info, alpha, 2, NULL);
    else png_set_tRNS(png, info, NULL, 0, &c);
}

static bytes make_png(const png_kind *k, int width, int height, const bytes *exif)
{
    bytes b = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &b, png_put, png_done);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, k->depth, k->type,
                 k->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (k->type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette(k->depth), 1 << k->depth);
    if (k->transparent) put_transparency(png, info, k);
    if (exif) png_set_eXIf_1(png, info, (png_uint_32)exif->n, exif->p);
    png_write_info(png, info);
    png_set_packing(png);
    int passes = png_set_interlace_handling(png), samples = png_samples(k->type), size = k->depth == 16 ? 2 : 1;
    uint8_t *row = malloc((size_t)(width * samples * size));
    assert_non_null(row);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < height; y++) {
            for (int i = 0; i < width * samples; i++) {
                unsigned v = png_value(k, i / samples, y, i % samples);
                if (size == 2) row[2 * i] = (uint8_t)(v >> 8);
                row[size * i + size - 1] = (uint8_t)v;
            }
            png_write_row(png, row);
        }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(row);
    return b;
}

/* Red, green, blue and alpha that pixel x, y must have. */
static void png_expected(const png_kind *k, int x, int y, int rgba[4])
{
    int samples = png_samples(k->type);
    unsigned v[4] = {0}, most = (1u << k->depth) - 1;
    bool match = k->transparent;
    for (int c = 0; c < samples; c++) {
        unsigned raw = png_value(k, x, y, c);
        match = match && raw == png_value(k, 2, 1, c);
        v[c] = k->depth == 16 ? raw >> 8 : raw * 255 / most;   /* Pillow's high byte; 255/most is whole */
    }
    if (k->type == PNG_COLOR_TYPE_PALETTE) {
        unsigned i = png_value(k, x, y, 0);
        const png_color *c = palette(k->depth) + i;
        rgba[0] = c->red;
        rgba[1] = c->green;
        rgba[2] = c->blue;
        rgba[3] = i == 0 ? 0 : i == 1 ? 100 : 255;
        return;
    }
    bool alpha = k->type & PNG_COLOR_MASK_ALPHA;
    for (int c = 0; c < 3; c++) rgba[c] = (int)v[samples > 2 ? c : 0];
    rgba[3] = alpha ? (int)v[samples - 1] : match ? 0 : 255;
}

static void check_png(const png_kind *k)
{
    bool alpha = k->transparent || k->type & PNG_COLOR_MASK_ALPHA;
    bytes b = make_png(k, WIDE, HIGH, NULL);
    assert_read(&b, WIDE, HIGH, alpha ? 4 : 3);
    for (int y = 0; y < HIGH; y++)
        for (int x = 0; x < WIDE; x++) {
            int expected[4];
            png_expected(k, x, y, expected);
            for (int c = 0; c < pic.channels; c++)
                if (at(x, y)[c] != expected[c])
                    fail_msg("type %d depth %d interlaced %d tRNS %d: channel %d at %d,%d is %d, expected %d", k->type,
                             k->depth, k->interlaced, k->transparent, c, x, y, at(x, y)[c], expected[c]);
        }
    done(&b);
}

TEST(every_colour_type_and_depth_of_png_is_read)
{
    static const struct { int type, depths[6]; bool may_be_transparent; } types[] = {
        {PNG_COLOR_TYPE_GRAY, {1, 2, 4, 8, 16}, true},
        {PNG_COLOR_TYPE_PALETTE, {1, 2, 4, 8}, true},
        {PNG_COLOR_TYPE_RGB, {8, 16}, true},
        {PNG_COLOR_TYPE_GRAY_ALPHA, {8, 16}, false},
        {PNG_COLOR_TYPE_RGB_ALPHA, {8, 16}, false},
    };
    for (size_t t = 0; t < SD_COUNT(types); t++)
        for (const int *depth = types[t].depths; *depth; depth++)
            for (int interlaced = 0; interlaced <= 1; interlaced++)
                for (int transparent = 0; transparent <= types[t].may_be_transparent; transparent++)
                    check_png(&(png_kind){types[t].type, *depth, interlaced, transparent});
}

static const png_kind plain_rgb = {PNG_COLOR_TYPE_RGB, 8, false, false};

TEST(smallest_and_longest_png)
{
    static const int size[][2] = {{1, 1}, {SD_IMAGE_SIDE, 1}, {1, SD_IMAGE_SIDE}};
    for (size_t i = 0; i < SD_COUNT(size); i++) {
        bytes b = make_png(&plain_rgb, size[i][0], size[i][1], NULL);
        assert_read(&b, size[i][0], size[i][1], 3);
        int x = size[i][0] - 1, y = size[i][1] - 1;
        for (int c = 0; c < 3; c++) assert_int_equal(at(x, y)[c], png_value(&plain_rgb, x, y, c));
        done(&b);
    }
}

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
    }
    return ~c;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void put_chunk(bytes *b, const char *name, const void *data, size_t n)
{
    uint8_t word[4];
    put_u32(word, (uint32_t)n);
    put(b, word, 4);
    put(b, name, 4);
    put(b, data, n);
    put_u32(word, crc_of(b->p + b->n - n - 4, n + 4));
    put(b, word, 4);
}

TEST(impossible_sizes_of_png_are_refused_before_memory_is_taken)
{
    static const struct { uint32_t width, height; const char *word; } bad[] = {
        {0, 5, "IHDR"}, {5, 0, "IHDR"},
        {SD_IMAGE_SIDE + 1, 1, "16385x1 pixels"}, {1, SD_IMAGE_SIDE + 1, "1x16385 pixels"},
        {0x7FFFFFFF, 0x7FFFFFFF, "sides from 1 to 16384"},
        {0x80000000u, 1, "range"}, {0xFFFFFFFFu, 0xFFFFFFFFu, "range"},
        {SD_IMAGE_SIDE, SD_IMAGE_SIDE, "too few for 16384x16384 pixels"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        bytes b = make_png(&plain_rgb, 4, 4, NULL);
        put_u32(b.p + 16, bad[i].width);
        put_u32(b.p + 20, bad[i].height);
        put_u32(b.p + 29, crc_of(b.p + 12, 17));
        assert_refused((const char *)b.p, b.n, SD_ERR_FORMAT, bad[i].word);
        done(&b);
    }
}

TEST(orientation_of_png_before_and_after_its_pixels)
{
    static const uint8_t head[] = "\x89PNG\r\n\x1a\n", ihdr[] = {0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0};
    /* zlib, stored: two rows 40 80 120, 160 200 240 with filter 0 */
    static const uint8_t idat[] = {0x78, 0x01, 0x01, 8, 0, 0xF7, 0xFF, 0, 40, 80, 120, 0, 160, 200, 240,
                                   0x09, 0xB8, 0x03, 0x49};
    for (unsigned orientation = 0; orientation <= 9; orientation++)
        for (int after = 0; after <= 1; after++) {
            bytes b = {0}, exif = tiff(after, 3, orientation);
            put(&b, head, 8);
            put_chunk(&b, "IHDR", ihdr, sizeof ihdr);
            if (!after) put_chunk(&b, "eXIf", exif.p, exif.n);
            put_chunk(&b, "IDAT", idat, sizeof idat);
            if (after) put_chunk(&b, "eXIf", exif.p, exif.n);
            put_chunk(&b, "IEND", "", 0);
            if (read_bytes(b.p, b.n)) fail_msg("%s", err.text);
            assert_upright(orientation, 1, 0);
            free(exif.p);
            done(&b);
        }
}

/* libpng hands over a block of just its size, so that a sanitizer sees what is read beyond it. */
TEST(exif_of_png_is_not_read_beyond_its_end)
{
    for (size_t n = 8; n <= 38; n++)
        for (uint8_t directory = 0; directory <= 40; directory++) {
            bytes exif = tiff(true, 3, 6);
            exif.n = n;
            exif.p[4] = directory;
            bytes b = make_png(&plain_rgb, 3, 2, &exif);
            if (read_bytes(b.p, b.n)) fail_msg("%s", err.text);
            assert_int_equal(pic.width, n >= 34 && directory == 8 ? 2 : 3);
            free(exif.p);
            done(&b);
        }
}

/* What lacks a pixel is refused; what lacks only its end has every pixel, and says so. */
TEST(png_is_resized_while_it_is_read)
{
    static const png_kind kinds[] = {
        {PNG_COLOR_TYPE_RGB, 8, false, false}, {PNG_COLOR_TYPE_RGB, 16, false, false},
        {PNG_COLOR_TYPE_GRAY, 2, false, false}, {PNG_COLOR_TYPE_PALETTE, 4, false, false}};
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        bytes b = make_png(&kinds[i], 17, 13, NULL);
        assert_fitted(&b, true);
        done(&b);
    }
    bytes interlaced = make_png(&(png_kind){PNG_COLOR_TYPE_RGB, 8, true, false}, 17, 13, NULL);
    assert_fitted(&interlaced, false);
    done(&interlaced);
    bytes shining = make_png(&(png_kind){PNG_COLOR_TYPE_RGB_ALPHA, 8, false, false}, 17, 13, NULL);
    assert_fitted(&shining, false);
    done(&shining);
    sd_image opaque = {17, 13, 4, malloc(17 * 13 * 4)};
    for (int i = 0; i < 17 * 13 * 4; i++) opaque.data[i] = i % 4 == 3 ? 255 : (uint8_t)(i * 7 + i / 50);
    sd_error_clear(&err);
    assert_int_equal(sd_image_save(temp_path("opaque.png"), &opaque, NULL, &err), SD_OK);
    bytes b = {0};
    char *file = temp_read("opaque.png", &b.n);
    b.p = (uint8_t *)file;
    assert_fitted(&b, true);
    free(file);
    sd_image_free(&opaque);
    bytes exif = tiff(true, 3, 6), turned = make_png(&plain_rgb, 17, 13, &exif);
    assert_fitted(&turned, false);
    done(&turned);
    done(&exif);
    temp_clear();
}

TEST(png_cut_off_before_its_last_pixel_is_refused)
{
    enum { IEND = 12, CHECKSUMS = 8 };   /* of IDAT: its own and zlib's */
    static const png_kind kinds[] = {{PNG_COLOR_TYPE_RGB, 8, false, false}, {PNG_COLOR_TYPE_PALETTE, 4, true, true}};
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        bytes b = make_png(&kinds[i], 7, 5, NULL);
        assert_read(&b, 7, 5, i ? 4 : 3);
        sd_image whole = pic;
        assert_false(unended);
        refuse_all_prefixes(&b, b.n - IEND - CHECKSUMS - 2);
        for (size_t n = b.n - IEND - CHECKSUMS - 2; n < b.n; n++) {
            if (read_bytes(b.p, n)) {
                assert_int_equal(err.status, SD_ERR_FORMAT);
                if (n >= b.n - IEND) fail_msg("%zu of %zu bytes: %s", n, b.n, err.text);
                continue;
            }
            assert_true(unended && pic.width == whole.width && pic.height == whole.height);
            assert_memory_equal(pic.data, whole.data, (size_t)(5 * 7 * whole.channels));
            sd_image_free(&pic);
        }
        sd_image_free(&whole);
        done(&b);
    }
}

TEST(png_with_changed_bytes_ends_well)
{
    bytes exif = tiff(true, 3, 6);
    static const png_kind kinds[] = {{PNG_COLOR_TYPE_RGB, 16, false, true}, {PNG_COLOR_TYPE_PALETTE, 4, true, true}};
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        bytes b = make_png(&kinds[i], 7, 5, &exif);
        change_all_bytes(&b);
        done(&b);
    }
    free(exif.p);
}

/* Converting grey with 16 bits, Pillow cuts at 255 and nearly everything is white: a trap for who compares. */
TEST(grey_with_16_bits_is_scaled_not_cut)
{
    png_kind k = {PNG_COLOR_TYPE_GRAY, 16, false, false};
    bytes b = make_png(&k, 16, 16, NULL);
    assert_read(&b, 16, 16, 3);
    int cut_differs = 0;
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 16; x++) {
            unsigned v = png_value(&k, x, y, 0);
            assert_int_equal(at(x, y)[0], v >> 8);
            cut_differs += (v > 255 ? 255 : v) != v >> 8;
        }
    assert_true(cut_differs > 200);
    done(&b);
}

TEST(content_decides_not_the_ending)
{
    bytes b = make_png(&plain_rgb, 3, 2, NULL);
    temp_write("picture.jpg", b.p, b.n);
    sd_error_clear(&err);
    assert_int_equal(sd_image_load(&pic, temp_path("picture.jpg"), NULL, NULL, &err), SD_OK);
    assert_int_equal(pic.width, 3);
    done(&b);
    temp_clear();
}

#else
TEST(png_is_refused_naming_the_switch)
{
    assert_refused("\x89PNG\r\n\x1a\n", 8, SD_ERR_UNSUPPORTED, "PNG=0");
}
#endif

/* -------------------------------------------------------------------------------------------- JPEG */

#ifdef SD_WITH_JPEG
#include <jpeglib.h>

typedef struct jpeg_kind {
    const char *name;
    J_COLOR_SPACE from, in_file;
    int samples;              /* luma's sampling factor */
    bool progressive, restarts;
    const jpeg_scan_info *script;
    int scans;
} jpeg_kind;

static const jpeg_kind jpeg_kinds[] = {
    {"grey", JCS_GRAYSCALE, JCS_GRAYSCALE, 1, false, false, NULL, 0},
    {"grey, progressive", JCS_GRAYSCALE, JCS_GRAYSCALE, 1, true, false, NULL, 0},
    {"4:4:4", JCS_RGB, JCS_YCbCr, 1, false, false, NULL, 0},
    {"4:4:4 with restarts", JCS_RGB, JCS_YCbCr, 1, false, true, NULL, 0},
    {"4:4:4, progressive", JCS_RGB, JCS_YCbCr, 1, true, false, NULL, 0},
    {"4:2:0", JCS_RGB, JCS_YCbCr, 2, false, false, NULL, 0},
    {"4:2:0, progressive", JCS_RGB, JCS_YCbCr, 2, true, true, NULL, 0},
    {"RGB", JCS_RGB, JCS_RGB, 1, false, false, NULL, 0},
    {"CMYK", JCS_CMYK, JCS_CMYK, 1, false, false, NULL, 0},
    {"YCCK", JCS_CMYK, JCS_YCCK, 1, false, false, NULL, 0},
    {"YCCK, progressive", JCS_CMYK, JCS_YCCK, 1, true, false, NULL, 0},
};

enum { JWIDE = 40, JHIGH = 24 };   /* in blocks of 16x16, units of halved colour; the last ones are cut */

/* Sample c of the block that pixel x, y lies in; for 4 channels as it stands in the file, 255 - ink. */
static uint8_t jpeg_value(int x, int y, int c)
{
    static const uint8_t value[6][4] = {{250, 10, 20, 255}, {20, 200, 60, 255}, {128, 128, 128, 200},
                                        {0, 0, 0, 0},       {255, 255, 255, 255}, {60, 90, 240, 90}};
    return value[(x / 16 + 3 * (y / 16)) % 6][c];
}

static bytes make_jpeg(const jpeg_kind *k, int width, int height, uint8_t (*value)(int x, int y, int c))
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr e;
    unsigned char *out = NULL;
    unsigned long n = 0;
    c.err = jpeg_std_error(&e);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &n);
    c.image_width = (JDIMENSION)width;
    c.image_height = (JDIMENSION)height;
    c.input_components = k->from == JCS_GRAYSCALE ? 1 : k->from == JCS_RGB ? 3 : 4;
    c.in_color_space = k->from;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, k->in_file);
    jpeg_set_quality(&c, 98, TRUE);
    if (k->samples == 2) c.comp_info[0].h_samp_factor = c.comp_info[0].v_samp_factor = 2;
    else for (int i = 0; i < c.num_components; i++) c.comp_info[i].h_samp_factor = c.comp_info[i].v_samp_factor = 1;
    if (k->progressive) jpeg_simple_progression(&c);
    if (k->script) {
        c.scan_info = k->script;
        c.num_scans = k->scans;
    }
    if (k->restarts) c.restart_interval = 2;
    jpeg_start_compress(&c, TRUE);
    uint8_t *row = malloc((size_t)(width * c.input_components));
    assert_non_null(row);
    for (int y = 0; y < height; y++) {
        for (int i = 0; i < width * c.input_components; i++)
            row[i] = value(i / c.input_components, y, i % c.input_components);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
    bytes b = {0};
    put(&b, out, n);
    free(out);
    return b;
}

static int jpeg_expected(const jpeg_kind *k, int x, int y, int c)
{
    if (k->from == JCS_GRAYSCALE) return jpeg_value(x, y, 0);
    if (k->from == JCS_RGB) return jpeg_value(x, y, c);
    return jpeg_value(x, y, 3) - ((255 - jpeg_value(x, y, c)) * jpeg_value(x, y, 3) + 127) / 255;
}

TEST(every_kind_of_jpeg_is_read)
{
    for (size_t i = 0; i < SD_COUNT(jpeg_kinds); i++) {
        const jpeg_kind *k = &jpeg_kinds[i];
        bytes b = make_jpeg(k, JWIDE, JHIGH, jpeg_value);
        assert_read(&b, JWIDE, JHIGH, 3);
        for (int y = 0; y < JHIGH; y++)
            for (int x = 0; x < JWIDE; x++) {
                /* halved colour is interpolated across the edges of blocks */
                if (k->samples == 2 && ((x + 2) % 16 < 4 || (y + 2) % 16 < 4)) continue;
                for (int c = 0; c < 3; c++)
                    if (abs(at(x, y)[c] - jpeg_expected(k, x, y, c)) > 3)
                        fail_msg("%s: channel %d at %d,%d is %d, expected %d", k->name, c, x, y, at(x, y)[c],
                                 jpeg_expected(k, x, y, c));
            }
        done(&b);
    }
}

/* Taking CMYK in files for ink turns a picture into its negative. */
TEST(every_kind_of_jpeg_is_resized_while_it_is_read)
{
    for (size_t i = 0; i < SD_COUNT(jpeg_kinds); i++) {
        bytes b = make_jpeg(&jpeg_kinds[i], 45, 37, jpeg_value);
        assert_fitted(&b, true);
        done(&b);
    }
    temp_clear();
}

TEST(cmyk_is_stored_inverted)
{
    bytes b = make_jpeg(&jpeg_kinds[8], JWIDE, JHIGH, jpeg_value);
    assert_read(&b, JWIDE, JHIGH, 3);
    assert_true(at(0, 0)[0] > 240 && at(0, 0)[1] < 20);       /* 250 10 20 255 is red */
    int as_ink = (255 - jpeg_value(0, 0, 0)) * (255 - jpeg_value(0, 0, 3)) / 255;
    assert_true(abs(as_ink - at(0, 0)[0]) > 200);
    done(&b);
}

static uint8_t six_greys(int x, int y, int c)
{
    (void)c;
    return (uint8_t)(40 * (1 + (x / 8 + 3 * (y / 8)) % 6));
}

/* An APP1 after the first two bytes. */
static void insert_app1(bytes *b, const char *name, size_t name_n, const bytes *content)
{
    bytes with = {0};
    size_t n = 2 + name_n + content->n;
    const uint8_t head[] = {0xFF, 0xD8, 0xFF, 0xE1, (uint8_t)(n >> 8), (uint8_t)n};
    put(&with, head, 6);
    put(&with, name, name_n);
    put(&with, content->p, content->n);
    put(&with, b->p + 2, b->n - 2);
    free(b->p);
    *b = with;
}

TEST(all_orientations_of_exif_are_turned_upright)
{
    for (unsigned orientation = 0; orientation <= 9; orientation++)
        for (int little = 0; little <= 1; little++)
            for (unsigned type = 3; type <= 4; type++) {   /* SHORT, and LONG as some write it */
                bytes b = make_jpeg(&jpeg_kinds[0], 24, 16, six_greys), exif = tiff(little, type, orientation);
                insert_app1(&b, "Exif\0", 6, &exif);
                insert_app1(&b, "http://ns.adobe.com/xap/1.0/", 29, &exif);   /* another APP1 stands before it */
                if (read_bytes(b.p, b.n)) fail_msg("%s", err.text);
                assert_upright(orientation, 8, 1);
                free(exif.p);
                done(&b);
            }
}

/* EXIF of which only the first `keep` bytes are there and byte `change` is wrong. */
static void read_with_bad_exif(size_t keep, size_t change)
{
    bytes b = make_jpeg(&jpeg_kinds[0], 24, 16, six_greys), exif = tiff(true, 3, 6);
    exif.n = keep;
    if (change < keep) exif.p[change] ^= 0xFF;
    insert_app1(&b, "Exif\0", 6, &exif);
    if (read_bytes(b.p, b.n)) fail_msg("%s", err.text);
    free(exif.p);
    done(&b);
}

TEST(exif_that_makes_no_sense_is_no_reason_to_fail)
{
    enum { ALL = 38 };
    for (size_t i = 0; i <= ALL; i++) {
        read_with_bad_exif(i, ALL);
        read_with_bad_exif(ALL, i);
    }
}

static size_t find_marker(const bytes *b, uint8_t marker)
{
    for (size_t i = 0; i + 1 < b->n; i++)
        if (b->p[i] == 0xFF && b->p[i + 1] == marker) return i;
    fail_msg("no marker %02x", marker);
    return 0;
}

TEST(jpeg_of_impossible_size_is_refused)
{
    static const struct { uint8_t size[4]; const char *word; } bad[] = {
        {{0, 5, 0, 0}, "broken JPEG"}, {{0xFF, 0xFF, 0xFF, 0xFF}, "65500"},
        {{0x40, 1, 0, 8}, "8x16385"}, {{0, 8, 0x40, 1}, "16385x8"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        bytes b = make_jpeg(&jpeg_kinds[2], 8, 8, jpeg_value);
        memcpy(b.p + find_marker(&b, 0xC0) + 5, bad[i].size, 4);
        assert_refused((const char *)b.p, b.n, SD_ERR_FORMAT, bad[i].word);
        done(&b);
    }
    bytes b = make_jpeg(&jpeg_kinds[2], 8, 8, jpeg_value);
    b.p[find_marker(&b, 0xC0) + 4] = 12;
    assert_refused((const char *)b.p, b.n, SD_ERR_UNSUPPORTED, "precision 12");
    done(&b);
}

TEST(smallest_and_longest_jpeg)
{
    static const int size[][2] = {{1, 1}, {SD_IMAGE_SIDE, 1}, {1, SD_IMAGE_SIDE}};
    for (size_t i = 0; i < SD_COUNT(size); i++) {
        bytes b = make_jpeg(&jpeg_kinds[0], size[i][0], size[i][1], six_greys);
        int x = size[i][0] - 1, y = size[i][1] - 1;
        assert_read(&b, size[i][0], size[i][1], 3);
        for (int c = 0; c < 3; c++) assert_true(abs(at(x, y)[c] - six_greys(x, y, 0)) <= 1);
        done(&b);
    }
}

TEST(jpeg_cut_off_anywhere_is_refused)
{
    for (size_t i = 0; i < SD_COUNT(jpeg_kinds); i++) {
        bytes b = make_jpeg(&jpeg_kinds[i], 20, 9, jpeg_value);
        refuse_all_prefixes(&b, b.n);
        done(&b);
    }
}

TEST(jpeg_with_changed_bytes_ends_well)
{
    static const size_t kinds[] = {2, 6, 9};
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        bytes b = make_jpeg(&jpeg_kinds[kinds[i]], 20, 9, jpeg_value);
        change_all_bytes(&b);
        done(&b);
    }
}

/* Each coefficient alone, bit by bit: lawful, and 704 scans. A few bytes each, they cost the reader a pass over the
 * picture. */
TEST(jpeg_with_hundreds_of_scans_is_refused)
{
    static jpeg_scan_info script[704];
    int n = 0;
    for (int k = 0; k < 64; k++)
        for (int bit = 10; bit >= 0; bit--)
            script[n++] = (jpeg_scan_info){
                .comps_in_scan = 1, .Ss = k, .Se = k, .Ah = bit == 10 ? 0 : bit + 1, .Al = bit};
    jpeg_kind k = jpeg_kinds[0];
    k.script = script;
    k.scans = 704;
    bytes b = make_jpeg(&k, 8, 8, six_greys);
    assert_refused((const char *)b.p, b.n, SD_ERR_FORMAT, "more than 500 scans");
    done(&b);
    k.scans = 11 * 40;
    b = make_jpeg(&k, 8, 8, six_greys);
    assert_read(&b, 8, 8, 3);
    done(&b);
}

#else
TEST(jpeg_is_refused_naming_the_switch)
{
    assert_refused("\xFF\xD8\xFF\xE0", 4, SD_ERR_UNSUPPORTED, "JPEG=0");
}
#endif

/* --------------------------------------------------------------------------------------------- PNM */

#define REFUSED(text, word) assert_refused(text, sizeof text - 1, SD_ERR_FORMAT, word)

static void read_pnm(const char *text, size_t n, int width, int height, const uint8_t *expected, size_t samples)
{
    bytes b = {0};
    put(&b, text, n);
    assert_read(&b, width, height, 3);
    for (size_t i = 0; i < samples; i++)
        if (pic.data[i] != expected[i]) fail_msg("%s: byte %zu is %d, expected %d", text, i, pic.data[i], expected[i]);
    done(&b);
}

TEST(every_kind_of_pnm_is_read)
{
    static const struct { const char *text; size_t n; int width, height; uint8_t expected[12]; } files[] = {
#define PNM(text) text, sizeof text - 1
        {PNM("P6 2 1 255\n\1\2\3\4\5\6"), 2, 1, {1, 2, 3, 4, 5, 6}},
        {PNM("P6\n# a comment\n2 # and # another\r1\n255\n\1\2\3\4\5\6 and more"), 2, 1, {1, 2, 3, 4, 5, 6}},
        {PNM("P5\t1\v2\f255\r\1\2"), 1, 2, {1, 1, 1, 2, 2, 2}},
        {PNM("P5 1 1 255\n#"), 1, 1, {'#', '#', '#'}},   /* after the one white space there are no comments */
        {PNM("P5 4 1 65535\n\0\0\377\377\1\1\1\201"), 4, 1, {0, 0, 0, 255, 255, 255, 1, 1, 1, 1, 1, 1}},
        {PNM("P6 1 1 65535\n\0\200\0\201\376\377"), 1, 1, {0, 1, 254}},
        {PNM("P5 4 1 1\n\0\1\1\0"), 4, 1, {0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0}},
        {PNM("P5 3 1 6\n\1\3\5"), 3, 1, {42, 42, 42, 128, 128, 128, 212, 212, 212}},   /* halves to the even number */
        {PNM("P5 1 1 256\n\1\0"), 1, 1, {255, 255, 255}},
        {PNM("P3 1 2 255 1 2 3 4 5 006"), 1, 2, {1, 2, 3, 4, 5, 6}},
        {PNM("P3 1 2 255\n1 2#c\n3\n4 # d 7\n5 6 7 8 x"), 1, 2, {1, 2, 3, 4, 5, 6}},
        {PNM("P2 2 1 65535 65535 257"), 2, 1, {255, 255, 255, 1, 1, 1}},
        {PNM("P2 2 1 1000 1000 500"), 2, 1, {255, 255, 255, 128, 128, 128}},
#undef PNM
    };
    for (size_t i = 0; i < SD_COUNT(files); i++)
        read_pnm(files[i].text, files[i].n, files[i].width, files[i].height, files[i].expected,
                 (size_t)(files[i].width * files[i].height * 3));
}

/* Larger than the window through which a file is read, too. */
TEST(pnm_is_resized_while_it_is_read)
{
    static const struct { const char *header; int width, height, samples; } kinds[] = {
        {"P6 170 203 255\n", 170, 203, 3}, {"P5 # grey\n170 203 255\n", 170, 203, 1},
        {"P6 170 203 9999\n", 170, 203, 6},
        {"P5 7 9 255\n", 7, 9, 1}};
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        bytes b = {0};
        put(&b, kinds[i].header, strlen(kinds[i].header));
        for (int k = 0; k < kinds[i].width * kinds[i].height * kinds[i].samples; k++) {
            uint8_t v = (uint8_t)(kinds[i].samples == 6 && k % 2 == 0 ? k % 39 : k * 11 + k / 500);
            put(&b, &v, 1);
        }
        assert_fitted(&b, true);
        done(&b);
    }
    bytes plain = {0};
    put(&plain, "P3 40 41 255", 12);
    for (int k = 0; k < 40 * 41 * 3; k++) {
        char word[8];
        put(&plain, word, (size_t)snprintf(word, sizeof word, "\n%d", (k * 7 + k / 90) % 256));
    }
    assert_fitted(&plain, true);
    done(&plain);
    temp_clear();
}

TEST(broken_pnm_is_refused)
{
    REFUSED("P6", "width, height");
    REFUSED("P6 2", "width, height");
    REFUSED("P6 2 2", "width, height");
    REFUSED("P6 # 2 2 255", "width, height");
    REFUSED("P6 -2 2 255\n", "width, height");
    REFUSED("P6 2x2 255\n", "width, height");
    REFUSED("P6 99999999999999999999 1 255\n", "width, height");
    REFUSED("P6 0 2 255\n", "0x2 pixels");
    REFUSED("P6 2 0 255\n", "2x0 pixels");
    REFUSED("P6 16385 1 255\n", "16385x1 pixels");
    REFUSED("P6 2147483647 2147483647 255\n", "2147483647x2147483647 pixels");
    REFUSED("P6 16384 16384 255\nabc", "too few");
    REFUSED("P3 16384 16384 255 1 2 3", "too few");
    REFUSED("P5 2 1 0\nab", "1 to 65535");
    REFUSED("P5 2 1 65536\nabcd", "1 to 65535");
    REFUSED("P5 2 1 99999999999\nab", "largest value");
    REFUSED("P5 2 1 255", "white space");
    REFUSED("P5 2 1 255#\nab", "white space");
    REFUSED("P5 2 1 255\na", "too few");
    REFUSED("P5 2 1 256\nabc", "too few");
    REFUSED("P5 2 1 64\naz", "exceeds");
    REFUSED("P5 1 1 256\n\1\1", "exceeds");
    REFUSED("P2 2 1 255 1 256", "exceeds");
    REFUSED("P2 2 1 255 1 -1 ", "no number");
    REFUSED("P2 2 1 255 1 x2", "no number");
    REFUSED("P2 2 1 255 1 99999999999999999999", "exceeds");
    REFUSED("P2 2 1 255 1        ", "cut off");
    REFUSED("P2 2 1 255 1 #######", "cut off");
    REFUSED("P62 1 1 \n255", "width, height");
}

TEST(pnm_cut_off_or_changed_ends_well)
{
    static const char *const files[] = {"P6 2 1 255\nabcdef", "P5 2 2 300\n\1a\1b\1c\1d", "P3 1 1 255\n1 2 3",
                                        "P2 2 1 9 # x\n4 5\n"};
    /* The last digit and what follows may be missing from plain ones: nobody could tell. */
    static const size_t spare[] = {0, 0, 0, 1};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        bytes b = {0};
        put(&b, files[i], strlen(files[i]));
        refuse_all_prefixes(&b, b.n - spare[i]);
        change_all_bytes(&b);
        done(&b);
    }
}

/* --------------------------------------------------------------------------------------------- any */

TEST(other_formats_are_named)
{
    static const struct { const char *start; const char *name; } files[] = {
        {"GIF89a..........", "found GIF"}, {"RIFF....WEBPVP8 ", "found WebP"}, {"BM..............", "found BMP"},
        {"....ftypavif....", "AVIF"}, {"P4 8 1 .........", "found PBM"}, {"P7.............", "found PAM"},
    };
    for (size_t i = 0; i < SD_COUNT(files); i++)
        assert_refused(files[i].start, strlen(files[i].start), SD_ERR_UNSUPPORTED, files[i].name);
    assert_refused("II*\0....", 8, SD_ERR_UNSUPPORTED, "found TIFF");
    assert_refused("", 0, SD_ERR_FORMAT, "empty");
    assert_refused("\x89", 1, SD_ERR_FORMAT, "expected PNG, JPEG, PGM or PPM");
    assert_refused("<html>", 6, SD_ERR_FORMAT, "expected PNG, JPEG, PGM or PPM");
    assert_refused("P8 1 1 1 ", 9, SD_ERR_FORMAT, "expected PNG, JPEG, PGM or PPM");
}

TEST(files_that_cannot_be_opened_are_named)
{
    sd_error_clear(&err);
    assert_int_equal(sd_image_load(&pic, temp_path("none.png"), NULL, NULL, &err), SD_ERR_MISSING);
    assert_non_null(strstr(err.text, "none.png"));
    assert_null(pic.data);
    sd_error_clear(&err);
    assert_int_equal(sd_image_load(&pic, temp_path(""), NULL, NULL, &err), SD_ERR_ARG);
    assert_non_null(strstr(err.text, "directory"));
    sd_error_clear(&err);
    temp_write("empty.png", "", 0);
    assert_int_equal(sd_image_load(&pic, temp_path("empty.png"), NULL, NULL, &err), SD_ERR_FORMAT);
    assert_non_null(strstr(err.text, "empty.png: it is empty"));
    temp_write("a.ppm", "P6 1 1 255\nabc", 14);
    assert_int_equal(sd_image_load(&pic, temp_path("a.ppm"), NULL, NULL, &err), SD_ERR_FORMAT);   /* the first stays */
    sd_error_clear(&err);
    assert_int_equal(sd_image_load(&pic, temp_path("a.ppm"), NULL, NULL, &err), SD_OK);
    assert_memory_equal(pic.data, "abc", 3);
    sd_image_free(&pic);
    temp_clear();
}

#if defined(SD_WITH_PNG) && defined(SD_WITH_JPEG)
TEST(nothing_is_printed_about_broken_files)
{
    fflush(NULL);
    int out = dup(1), error = dup(2);
    assert_non_null(freopen(temp_path("out"), "w", stdout));
    assert_non_null(freopen(temp_path("err"), "w", stderr));
    bytes png = make_png(&plain_rgb, 7, 5, NULL), jpeg = make_jpeg(&jpeg_kinds[6], 20, 9, jpeg_value);
    for (size_t i = 8; i < png.n; i++) {
        png.p[i] ^= 0x40;
        if (!read_bytes(png.p, png.n)) sd_image_free(&pic);
    }
    for (size_t i = 3; i < jpeg.n; i += 2) {
        jpeg.p[i] ^= 0x04;
        if (!read_bytes(jpeg.p, jpeg.n)) sd_image_free(&pic);
    }
    fflush(NULL);
    dup2(out, 1);
    dup2(error, 2);
    close(out);
    close(error);
    size_t n_out, n_err;
    free(temp_read("out", &n_out));
    free(temp_read("err", &n_err));
    done(&png);
    done(&jpeg);
    temp_clear();
    assert_int_equal(n_out, 0);
    assert_int_equal(n_err, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef SD_WITH_PNG
        cmocka_unit_test(every_colour_type_and_depth_of_png_is_read),
        cmocka_unit_test(smallest_and_longest_png),
        cmocka_unit_test(impossible_sizes_of_png_are_refused_before_memory_is_taken),
        cmocka_unit_test(orientation_of_png_before_and_after_its_pixels),
        cmocka_unit_test(exif_of_png_is_not_read_beyond_its_end),
        cmocka_unit_test(png_is_resized_while_it_is_read),
        cmocka_unit_test(png_cut_off_before_its_last_pixel_is_refused),
        cmocka_unit_test(png_with_changed_bytes_ends_well),
        cmocka_unit_test(grey_with_16_bits_is_scaled_not_cut),
        cmocka_unit_test(content_decides_not_the_ending),
#else
        cmocka_unit_test(png_is_refused_naming_the_switch),
#endif
#ifdef SD_WITH_JPEG
        cmocka_unit_test(every_kind_of_jpeg_is_read),
        cmocka_unit_test(every_kind_of_jpeg_is_resized_while_it_is_read),
        cmocka_unit_test(cmyk_is_stored_inverted),
        cmocka_unit_test(all_orientations_of_exif_are_turned_upright),
        cmocka_unit_test(exif_that_makes_no_sense_is_no_reason_to_fail),
        cmocka_unit_test(jpeg_of_impossible_size_is_refused),
        cmocka_unit_test(smallest_and_longest_jpeg),
        cmocka_unit_test(jpeg_cut_off_anywhere_is_refused),
        cmocka_unit_test(jpeg_with_changed_bytes_ends_well),
        cmocka_unit_test(jpeg_with_hundreds_of_scans_is_refused),
#else
        cmocka_unit_test(jpeg_is_refused_naming_the_switch),
#endif
        cmocka_unit_test(every_kind_of_pnm_is_read),
        cmocka_unit_test(pnm_is_resized_while_it_is_read),
        cmocka_unit_test(broken_pnm_is_refused),
        cmocka_unit_test(pnm_cut_off_or_changed_ends_well),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(files_that_cannot_be_opened_are_named),
#if defined(SD_WITH_PNG) && defined(SD_WITH_JPEG)
        cmocka_unit_test(nothing_is_printed_about_broken_files),
#endif
    };
    return cmocka_run_group_tests_name("image_read", tests, temp_make, temp_remove);
}
