/* test_image.c - pictures written are the pictures read back; their text is where other programs look for it. */
#include "test.h"
#include "../image.h"
#include "tempdir.h"

static uint8_t *noise(int width, int height)
{
    size_t n = (size_t)width * (size_t)height * 3;
    uint8_t *rgb = malloc(n);
    uint32_t s = 1;
    for (size_t i = 0; i < n; i++) rgb[i] = (uint8_t)((s = s * 1664525u + 1013904223u) >> 24);
    return rgb;
}

TEST(a_ppm_is_exact_to_the_byte)
{
    uint8_t rgb[12] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 13, 26};   /* bytes that text files change */
    static const char want[] = "P6\n2 2\n255\n\xff\x00\x00\x00\xff\x00\x00\x00\xff\x0a\x0d\x1a";
    const char *names[] = {"a.ppm", "B.PpM"};
    for (int i = 0; i < 2; i++) {
        sd_error e = {0};
        size_t n;
        assert_int_equal(sd_image_save(temp_path(names[i]), &(sd_image){2, 2, 3, rgb}, "ignored", &e), SD_OK);
        char *b = temp_read(names[i], &n);
        assert_int_equal(n, sizeof want - 1);
        assert_memory_equal(b, want, sizeof want - 1);
        free(b);
    }
}

TEST(what_cannot_be_written_is_said)
{
    uint8_t rgb[12] = {0};
    const struct { const char *name; int width, height; sd_status status; const char *says; } bad[] = {
        {"a.jpg", 2, 2, SD_ERR_ARG, "ends in .png or .ppm"},
        {"ppm", 2, 2, SD_ERR_ARG, "ends in .png or .ppm"},
        {".ppm", 2, 2, SD_ERR_ARG, "ends in .png or .ppm"},
        {"a.ppm.txt", 2, 2, SD_ERR_ARG, "ends in .png or .ppm"},
        {"a.ppm", 0, 2, SD_ERR_ARG, "0x2 pixels"},
        {"a.ppm", 2, -1, SD_ERR_ARG, "2x-1 pixels"},
        {"no/such/a.ppm", 2, 2, SD_ERR_MISSING, "a.ppm: No such file or directory"},
#ifdef SD_WITH_PNG
        {"no/such/a.png", 2, 2, SD_ERR_MISSING, "a.png: No such file or directory"},
        {"a.png", 2000000, 1, SD_ERR_IO,
         "a.png: Invalid IHDR data"},   /* libpng's limit, before it looks at the pixels */
#else
        {"a.png", 2, 2, SD_ERR_UNSUPPORTED, "no libpng (PNG=0); give the file the ending .ppm"},
#endif
    };
    temp_clear();
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        const sd_image image = {bad[i].width, bad[i].height, 3, rgb};
        sd_status got = sd_image_save(temp_path(bad[i].name), &image, NULL, &e);
        if (got != bad[i].status || !strstr(e.text, bad[i].says)) print_error("%s: %s\n", sd_status_name(got), e.text);
        assert_int_equal(got, bad[i].status);
        assert_non_null(strstr(e.text, bad[i].says));
    }
    sd_error e = {0};
    sd_fail(&e, SD_ERR_CANCELLED, "cancelled");
    assert_int_equal(sd_image_save(temp_path("a.ppm"), &(sd_image){2, 2, 3, rgb}, NULL, &e), SD_ERR_CANCELLED);
    assert_int_equal(temp_files(), 0);
}

TEST(a_full_disk_leaves_the_old_picture)
{
    const char *names[] = {"a.ppm",
#ifdef SD_WITH_PNG
                           "a.png"
#endif
    };
    const size_t limits[] = {20, 5000, 100000};   /* in the header, in the first buffer's flush, in the pixels */
    uint8_t *large = noise(256, 256);
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        for (size_t k = 0; k < SD_COUNT(limits); k++) {
            sd_error e = {0};
            size_t before, after;
            temp_clear();
            assert_int_equal(sd_image_save(temp_path(names[i]), &(sd_image){2, 2, 3, large}, "text", &e), SD_OK);
            char *old = temp_read(names[i], &before);
            temp_disk_limit(limits[k]);
            const sd_image image = {k ? 256 : 1, k ? 256 : 4, 3, large};
            sd_status got = sd_image_save(temp_path(names[i]), &image, "text", &e);
            temp_disk_limit(0);
            assert_int_equal(got, SD_ERR_IO);
            assert_non_null(strstr(e.text, names[i]));
            assert_non_null(strstr(e.text, "File too large"));
            assert_int_equal(temp_files(), 1);
            char *now = temp_read(names[i], &after);
            assert_int_equal(before, after);
            assert_memory_equal(old, now, before);
            free(old);
            free(now);
        }
    }
    free(large);
}

#ifdef SD_WITH_PNG
#include <png.h>

typedef struct picture {
    int width, height, depth, color;
    uint8_t *rgb;
    char key[80], text[4096];
    int compression, texts;
} picture;

/* Decodes with libpng itself; errors end the test. */
static picture decode(const char *name)
{
    picture p = {0};
    FILE *f = fopen(temp_path(name), "rb");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png), end = png_create_info_struct(png);
    png_textp t;
    assert_true(f && png && info && end);
    if (setjmp(png_jmpbuf(png))) fail();
    png_init_io(png, f);
    png_read_info(png, info);
    p.width = (int)png_get_image_width(png, info);
    p.height = (int)png_get_image_height(png, info);
    p.depth = png_get_bit_depth(png, info);
    p.color = png_get_color_type(png, info);
    png_get_text(png, info, &t, &p.texts);
    if (p.texts == 1) {
        snprintf(p.key, sizeof p.key, "%s", t[0].key);
        snprintf(p.text, sizeof p.text, "%s", t[0].text);
        p.compression = t[0].compression;
    }
    size_t row = png_get_rowbytes(png, info);
    p.rgb = malloc(row * (size_t)p.height);
    for (int y = 0; y < p.height; y++) png_read_row(png, p.rgb + row * (size_t)y, NULL);
    png_read_end(png, end);
    png_destroy_read_struct(&png, &info, &end);
    fclose(f);
    return p;
}

TEST(a_png_gives_back_every_pixel)
{
    const int sizes[][2] = {{1, 1}, {1, 300}, {300, 1}, {7, 5}, {256, 128}};
    for (size_t i = 0; i < SD_COUNT(sizes); i++) {
        int w = sizes[i][0], h = sizes[i][1];
        uint8_t *rgb = noise(w, h);
        sd_error e = {0};
        assert_int_equal(sd_image_save(temp_path("a.PNG"), &(sd_image){w, h, 3, rgb}, NULL, &e), SD_OK);
        picture p = decode("a.PNG");
        assert_int_equal(p.width, w);
        assert_int_equal(p.height, h);
        assert_int_equal(p.depth, 8);
        assert_int_equal(p.color, PNG_COLOR_TYPE_RGB);
        assert_int_equal(p.texts, 0);
        assert_memory_equal(p.rgb, rgb, (size_t)w * (size_t)h * 3);
        free(p.rgb);
        free(rgb);
    }
}

/* Grey and RGBA stay what they are in a PNG; a PPM has colours alone. */
TEST(each_number_of_channels_can_be_written)
{
    static const struct { int channels, color; } kinds[] = {{1, PNG_COLOR_TYPE_GRAY}, {3, PNG_COLOR_TYPE_RGB},
                                                            {4, PNG_COLOR_TYPE_RGB_ALPHA}};
    uint8_t *data = noise(8, 8);   /* 192 bytes */
    for (size_t i = 0; i < SD_COUNT(kinds); i++) {
        sd_error e = {0};
        size_t n;
        int c = kinds[i].channels;
        sd_image image = {6, 8, c, data};
        assert_int_equal(sd_image_save(temp_path("a.png"), &image, NULL, &e), SD_OK);
        picture p = decode("a.png");
        assert_true(p.width == 6 && p.height == 8 && p.color == kinds[i].color);
        assert_memory_equal(p.rgb, data, (size_t)(48 * c));
        free(p.rgb);
        assert_int_equal(sd_image_save(temp_path("a.ppm"), &image, NULL, &e), SD_OK);
        char *ppm = temp_read("a.ppm", &n);
        assert_int_equal(n, 11 + 3 * 48);
        for (int k = 0; k < 3 * 48; k++)
            assert_int_equal((uint8_t)ppm[11 + k], data[k / 3 * c + (c == 1 ? 0 : k % 3)]);
        free(ppm);
    }
    free(data);
}

/* Where a chunk of this type begins in the file, NULL: nowhere. */
static const char *chunk(const char *file, size_t n, const char *type)
{
    for (size_t at = 8; at + 12 <= n;) {
        const unsigned char *c = (const unsigned char *)file + at;
        if (memcmp(c + 4, type, 4) == 0) return (const char *)c;
        at += 12 + ((size_t)c[0] << 24 | (size_t)c[1] << 16 | (size_t)c[2] << 8 | c[3]);
    }
    return NULL;
}

TEST(latin_text_goes_into_tEXt_and_all_other_into_iTXt)
{
    const struct { const char *utf8, *stored; int compression; const char *type, *not_type; } cases[] = {
        {"a red apple\nNegative prompt: blur\nSteps: 25, Sampler: DDIM",
         "a red apple\nNegative prompt: blur\nSteps: 25, Sampler: DDIM", PNG_TEXT_COMPRESSION_NONE, "tEXt", "iTXt"},
        {"caf\xc3\xa9 \xc2\xa0\xc3\xbf", "caf\xe9 \xa0\xff", PNG_TEXT_COMPRESSION_NONE, "tEXt", "iTXt"},
        {"\xe7\x8c\xab and caf\xc3\xa9 \xf0\x9f\x8d\x8e", "\xe7\x8c\xab and caf\xc3\xa9 \xf0\x9f\x8d\x8e",
         PNG_ITXT_COMPRESSION_NONE, "iTXt", "tEXt"},
        {"\xc4\x80", "\xc4\x80", PNG_ITXT_COMPRESSION_NONE, "iTXt", "tEXt"}, /* U+0100: the first that is not Latin-1 */
        {"", "", PNG_TEXT_COMPRESSION_NONE, "tEXt", "iTXt"},
    };
    uint8_t rgb[12] = {0};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_error e = {0};
        size_t n;
        assert_int_equal(sd_image_save(temp_path("t.png"), &(sd_image){2, 2, 3, rgb}, cases[i].utf8, &e), SD_OK);
        picture p = decode("t.png");
        assert_int_equal(p.texts, 1);
        assert_string_equal(p.key, "parameters");
        assert_string_equal(p.text, cases[i].stored);
        assert_int_equal(p.compression, cases[i].compression);
        free(p.rgb);
        char *file = temp_read("t.png", &n);
        const char *at = chunk(file, n, cases[i].type);
        assert_non_null(at);
        assert_null(chunk(file, n, cases[i].not_type));
        assert_true(at < chunk(file, n, "IDAT"));   /* before the pixels: readers that stop there find it */
        assert_memory_equal(at + 8, "parameters", 11);
        if (cases[i].type[0] == 'i')
            assert_memory_equal(at + 8 + 11, "\0\0\0\0", 4);   /* not compressed, no language, no translated keyword */
        free(file);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ppm_is_exact_to_the_byte),
        cmocka_unit_test(what_cannot_be_written_is_said),
        cmocka_unit_test(a_full_disk_leaves_the_old_picture),
#ifdef SD_WITH_PNG
        cmocka_unit_test(a_png_gives_back_every_pixel),
        cmocka_unit_test(each_number_of_channels_can_be_written),
        cmocka_unit_test(latin_text_goes_into_tEXt_and_all_other_into_iTXt),
#endif
    };
    return cmocka_run_group_tests_name("image", tests, temp_make, temp_remove);
}
