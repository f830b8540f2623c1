/* test_picture.c - image_transform.c against Pillow, torch and diffusers (tests/golden/picture.txt, made by
 * tools/golden_picture.py), and against slow obvious versions of itself. */
#include "../image_transform.h"

#include <math.h>

#include "test.h"
/* --------------------------------------------------------------------------------------------- golden */

typedef struct golden {
    long n[16];          /* the line's numbers */
    int numbers;
    uint8_t *field[4];   /* its fields of bytes */
    size_t bytes[4];
    int fields;
} golden;

static uint8_t *hex_bytes(const char *s, size_t *n)
{
    *n = strlen(s) / 2;
    uint8_t *b = malloc(*n + 1);
    assert_non_null(b);
    for (size_t i = 0; i < *n; i++) {
        unsigned v;
        assert_int_equal(sscanf(s + 2 * i, "%2x", &v), 1);
        b[i] = (uint8_t)v;
    }
    return b;
}

/* The first `numbers` words are whole numbers, the others fields. */
static golden parse(char *line, int numbers)
{
    golden g = {.numbers = numbers};
    char *word = strtok(line, " \n");
    for (int i = 0; i < numbers; i++, word = strtok(NULL, " \n")) {
        assert_non_null(word);
        g.n[i] = strtol(word, NULL, 10);
    }
    for (; word; word = strtok(NULL, " \n"), g.fields++) {
        assert_true(g.fields < 4);
        g.field[g.fields] = hex_bytes(word, &g.bytes[g.fields]);
    }
    return g;
}

/* Calls fn for each line that begins with `word`. */
static void each_line(const char *word, int numbers, void (*fn)(const golden *g))
{
    FILE *f = fopen("tests/golden/picture.txt", "r");
    if (!f) fail_msg("tests/golden/picture.txt is missing");
    static char line[65536];
    size_t length = strlen(word);
    int found = 0;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, word, length) != 0 || line[length] != ' ') continue;
        golden g = parse(line + length, numbers);
        fn(&g);
        for (int i = 0; i < g.fields; i++) free(g.field[i]);
        found++;
    }
    fclose(f);
    assert_true(found > 0);
}

/* ------------------------------------------------------------------------------------------- helpers */

static sd_error err;

static sd_image make(long width, long height, long channels, const uint8_t *bytes)
{
    sd_image p;
    sd_error_clear(&err);
    assert_int_equal(sd_image_new(&p, (int)width, (int)height, (int)channels, &err), SD_OK);
    if (bytes) memcpy(p.data, bytes, (size_t)(width * height * channels));
    return p;
}

static sd_image rectangle(int width, int height, int x, int y, int w, int h)
{
    sd_image p = make(width, height, 1, NULL);
    for (int j = y; j < y + h; j++) memset(p.data + j * width + x, 255, (size_t)w);
    return p;
}

/* Numbers without a pattern, the same everywhere. */
static uint8_t noise(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (uint8_t)(state >> 24);
}

static sd_image noise_picture(int width, int height, int channels)
{
    sd_image p = make(width, height, channels, NULL);
    for (int i = 0; i < width * height * channels; i++) p.data[i] = noise();
    return p;
}

static sd_image resized(const sd_image *in, long width, long height, sd_filter filter)
{
    sd_image p;
    assert_int_equal(sd_image_resample(&p, in, (int)width, (int)height, filter, &err), SD_OK);
    return p;
}

static int worst(const uint8_t *a, const uint8_t *b, size_t n)
{
    int most = 0;
    for (size_t i = 0; i < n; i++) most = abs(a[i] - b[i]) > most ? abs(a[i] - b[i]) : most;
    return most;
}

static void assert_same(const sd_image *p, const uint8_t *bytes)
{
    assert_memory_equal(p->data, bytes, (size_t)p->width * (size_t)p->height * (size_t)p->channels);
}

static void assert_failed(sd_status status, sd_status expected, const sd_image *out, const char *word)
{
    static const sd_image nothing;
    assert_int_equal(status, expected);
    assert_int_equal(err.status, expected);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    if (out) assert_memory_equal(out, &nothing, sizeof nothing);
    sd_error_clear(&err);
}

/* -------------------------------------------------------------------------------------------- resizing */

static void resize_line(const golden *g)
{
    const long *n = g->n;
    sd_image in = make(n[2], n[3], n[1], g->field[0]), out = resized(&in, n[4], n[5], (sd_filter)n[0]);
    assert_int_equal(g->bytes[1], n[4] * n[5] * n[1]);
    assert_same(&out, g->field[1]);
    sd_image_free(&in);
    sd_image_free(&out);
}

TEST(resizing_gives_pillows_bytes)
{
    each_line("resize", 6, resize_line);
}

/* The mistakes: passes in the other order, colours not weighted by alpha, a filter that does not widen when it
 * shrinks. */
static int twins[3];

static void twin_line(const golden *g)
{
    const long *n = g->n;
    if (n[0] != SD_FILTER_LANCZOS) return;
    sd_image in = make(n[2], n[3], n[1], g->field[0]);
    if (n[1] == 3 && n[3] > n[5] && n[3] - n[5] > 2 * (n[2] - n[4])) {
        sd_image half = resized(&in, n[4], n[3], SD_FILTER_LANCZOS);
        sd_image out = resized(&half, n[4], n[5], SD_FILTER_LANCZOS);
        int d = worst(out.data, g->field[1], g->bytes[1]);
        twins[0] = d > twins[0] ? d : twins[0];
        sd_image_free(&half);
        sd_image_free(&out);
    }
    if (n[1] == 4) {
        sd_image rgb;
        assert_int_equal(sd_image_to_rgb(&rgb, &in, NULL, &err), SD_OK);
        sd_image out = resized(&rgb, n[4], n[5], SD_FILTER_LANCZOS);
        for (long i = 0; i < n[4] * n[5]; i++) {
            int d = worst(out.data + 3 * i, g->field[1] + 4 * i, 3);
            twins[1] = d > twins[1] ? d : twins[1];
        }
        sd_image_free(&rgb);
        sd_image_free(&out);
    }
    if (n[3] == 1 && n[4] < n[2]) {   /* one row: the sum over -3..3 source pixels around each centre */
        for (long x = 0; x < n[4]; x++) {
            double centre = ((double)x + 0.5) * (double)n[2] / (double)n[4], sum = 0, total = 0;
            for (long k = 0; k < n[2]; k++) {
                double t = ((double)k + 0.5 - centre) * 3.14159265358979323846;
                double w = fabs((double)k + 0.5 - centre) >= 3 ? 0 : t == 0 ? 1 : sin(t) / t * sin(t / 3) / (t / 3);
                sum += w * g->field[0][k];
                total += w;
            }
            int d = (int)fabs(sum / total - g->field[1][x]);
            twins[2] = d > twins[2] ? d : twins[2];
        }
    }
    sd_image_free(&in);
}

TEST(known_mistakes_of_resizing_show)
{
    memset(twins, 0, sizeof twins);
    each_line("resize", 6, twin_line);
    for (int i = 0; i < 3; i++)
        if (twins[i] < 8) fail_msg("mistake %d differs by %d/255 only", i, twins[i]);
}

TEST(a_flat_picture_stays_flat_at_any_size)
{
    static const int side[] = {1, 2, 3, 7, 8, 31, 64};
    for (int f = SD_FILTER_NEAREST; f <= SD_FILTER_LANCZOS; f++)
        for (size_t a = 0; a < SD_COUNT(side); a++)
            for (size_t b = 0; b < SD_COUNT(side); b++) {
                sd_image in = make(side[a], side[b], 3, NULL);
                memset(in.data, 1 + (int)(41 * a + b), (size_t)(side[a] * side[b] * 3));
                sd_image out = resized(&in, side[b], side[SD_COUNT(side) - 1 - a], (sd_filter)f);
                for (int i = 0; i < out.width * out.height * 3; i++) assert_int_equal(out.data[i], in.data[0]);
                sd_image_free(&in);
                sd_image_free(&out);
            }
}

TEST(resizing_to_the_same_size_changes_nothing)
{
    for (int c = 1; c <= 4; c += c == 1 ? 2 : 1)
        for (int f = SD_FILTER_NEAREST; f <= SD_FILTER_LANCZOS; f++) {
            sd_image in = noise_picture(13, 7, c), out = resized(&in, 13, 7, (sd_filter)f);
            assert_same(&out, in.data);
            sd_image_free(&in);
            sd_image_free(&out);
        }
}

TEST(extreme_shapes_are_resized)
{
    sd_image line = noise_picture(SD_IMAGE_SIDE, 1, 3), dot = resized(&line, 1, 1, SD_FILTER_BOX);
    double mean[3] = {0};
    for (int i = 0; i < 3 * SD_IMAGE_SIDE; i++) mean[i % 3] += line.data[i] / (double)SD_IMAGE_SIDE;
    for (int c = 0; c < 3; c++) assert_true(fabs(dot.data[c] - mean[c]) <= 0.51);
    sd_image column = resized(&dot, 1, SD_IMAGE_SIDE, SD_FILTER_LANCZOS);
    assert_memory_equal(column.data + 3 * (SD_IMAGE_SIDE - 1), dot.data, 3);
    sd_image_free(&line);
    sd_image_free(&dot);
    sd_image_free(&column);
}

TEST(impossible_sizes_are_refused)
{
    static const int bad[][2] = {{0, 5}, {5, 0}, {-1, 5}, {5, INT32_MIN}, {SD_IMAGE_SIDE + 1, 1}, {1, INT32_MAX}};
    sd_image in = noise_picture(4, 4, 3), out;
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        int w = bad[i][0], h = bad[i][1];
        assert_failed(sd_image_new(&out, w, h, 3, &err), SD_ERR_ARG, &out, "expected sides");
        assert_failed(sd_image_resample(&out, &in, w, h, SD_FILTER_LANCZOS, &err), SD_ERR_ARG, &out, "expected sides");
        for (int fit = SD_FIT_STRETCH; fit <= SD_FIT_PAD; fit++)
            assert_failed(sd_image_fit(&out, &in, w, h, (sd_fit)fit, SD_FILTER_BOX, NULL, &err), SD_ERR_ARG, &out,
                          "expected sides");
    }
    sd_image_free(&in);
}

TEST(an_error_before_stays_and_nothing_is_done)
{
    sd_image in = noise_picture(4, 4, 4), out;
    sd_fail(&err, SD_ERR_IO, "the cause");
    assert_int_equal(sd_image_resample(&out, &in, 8, 8, SD_FILTER_LANCZOS, &err), SD_ERR_IO);
    assert_int_equal(sd_image_fit(&out, &in, 8, 9, SD_FIT_PAD, SD_FILTER_LANCZOS, NULL, &err), SD_ERR_IO);
    assert_int_equal(sd_image_crop(&out, &in, (sd_rect){0, 0, 1, 1}, &err), SD_ERR_IO);
    assert_int_equal(sd_image_extend(&out, &in, 1, 1, 1, 1, NULL, &err), SD_ERR_IO);
    assert_int_equal(sd_mask_from_luma(&out, &in, &err), SD_ERR_IO);
    assert_null(out.data);
    assert_string_equal(err.text, "the cause");
    sd_image_free(&in);
}

/* --------------------------------------------------------------------------------------------- fitting */

static void crop_line(const golden *g)
{
    const long *n = g->n;
    sd_image in = make(n[1], n[2], n[0], g->field[0]), out;
    int width = (int)n[3], height = (int)n[4];
    assert_int_equal(sd_image_fit(&out, &in, width, height, SD_FIT_CROP, SD_FILTER_LANCZOS, NULL, &err), SD_OK);
    assert_int_equal(g->bytes[1], n[3] * n[4] * n[0]);
    assert_same(&out, g->field[1]);
    sd_image_free(&in);
    sd_image_free(&out);
}

TEST(cropping_to_fit_gives_diffusers_bytes)
{
    each_line("crop", 5, crop_line);
}

/* Padding: the picture in the middle as resizing gives it, around it the colour or the nearest pixel of the edge. */
static void check_padded(const sd_image *in, int width, int height, int w, int h, const uint8_t *fill)
{
    sd_image out, inner = resized(in, w, h, SD_FILTER_LANCZOS);
    assert_int_equal(sd_image_fit(&out, in, width, height, SD_FIT_PAD, SD_FILTER_LANCZOS, fill, &err), SD_OK);
    int left = width / 2 - w / 2, top = height / 2 - h / 2;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int ix = x - left, iy = y - top;
            bool inside = ix >= 0 && iy >= 0 && ix < w && iy < h;
            ix = ix < 0 ? 0 : ix >= w ? w - 1 : ix;
            iy = iy < 0 ? 0 : iy >= h ? h - 1 : iy;
            const uint8_t *expected = fill && !inside ? fill : inner.data + 3 * (iy * w + ix);
            assert_memory_equal(out.data + 3 * (y * width + x), expected, 3);
        }
    sd_image_free(&out);
    sd_image_free(&inner);
}

TEST(padding_to_fit_centres_and_fills)
{
    static const uint8_t orange[] = {255, 128, 1};
    sd_image in = noise_picture(10, 4, 3);
    check_padded(&in, 16, 16, 16, 6, NULL);
    check_padded(&in, 16, 15, 16, 6, orange);
    check_padded(&in, 31, 4, 10, 4, NULL);
    check_padded(&in, 7, 3, 7, 2, orange);
    check_padded(&in, 5, 1, 2, 1, NULL);
    sd_image_free(&in);
}

TEST(fitting_extreme_shapes_takes_no_extreme_memory)
{
    sd_image line = noise_picture(SD_IMAGE_SIDE, 1, 3), out;
    /* cover: 512 of 8,388,608 columns; every row is the same */
    assert_int_equal(sd_image_fit(&out, &line, 512, 512, SD_FIT_CROP, SD_FILTER_LANCZOS, NULL, &err), SD_OK);
    assert_memory_equal(out.data, out.data + 511 * 512 * 3, 512 * 3);
    sd_image_free(&out);
    /* contain: a row that would be 1/32 pixel high is one pixel high, and extended */
    assert_int_equal(sd_image_fit(&out, &line, 512, 512, SD_FIT_PAD, SD_FILTER_LANCZOS, NULL, &err), SD_OK);
    assert_memory_equal(out.data, out.data + 511 * 512 * 3, 512 * 3);
    sd_image_free(&out);
    sd_image_free(&line);
}

TEST(cutting_keeps_bytes_and_checks_its_rectangle)
{
    sd_image in = noise_picture(9, 6, 4), out;
    assert_int_equal(sd_image_crop(&out, &in, (sd_rect){2, 1, 5, 4}, &err), SD_OK);
    assert_int_equal(out.width, 5);
    assert_int_equal(out.height, 4);
    for (int y = 0; y < 4; y++) assert_memory_equal(out.data + 20 * y, in.data + 36 * (y + 1) + 8, 20);
    sd_image_free(&out);
    static const sd_rect bad[] = {{-1, 0, 3, 3}, {0, -1, 3, 3}, {0, 0, 0, 3}, {0, 0, 3, 0}, {7, 0, 3, 3}, {0, 4, 3, 3},
                                  {INT32_MAX, 0, 3, 3}, {1, 1, INT32_MAX, INT32_MAX}};
    for (size_t i = 0; i < SD_COUNT(bad); i++)
        assert_failed(sd_image_crop(&out, &in, bad[i], &err), SD_ERR_ARG, &out, "cannot cut");
    sd_image_free(&in);
}

TEST(extending_keeps_the_picture_and_repeats_its_edges)
{
    static const uint8_t white[] = {255};
    sd_image in = noise_picture(3, 2, 3), out, zero = make(3, 2, 1, NULL), mask;
    assert_int_equal(sd_image_extend(&out, &in, 2, 1, 3, 4, NULL, &err), SD_OK);
    assert_int_equal(sd_image_extend(&mask, &zero, 2, 1, 3, 4, white, &err), SD_OK);
    assert_int_equal(out.width, 8);
    assert_int_equal(out.height, 7);
    for (int y = 0; y < 7; y++)
        for (int x = 0; x < 8; x++) {
            int sx = x < 2 ? 0 : x > 4 ? 2 : x - 2, sy = y < 1 ? 0 : y > 2 ? 1 : y - 1;
            bool inside = x >= 2 && x <= 4 && y >= 1 && y <= 2;
            assert_memory_equal(out.data + 3 * (y * 8 + x), in.data + 3 * (sy * 3 + sx), 3);
            assert_int_equal(mask.data[y * 8 + x], inside ? 0 : 255);
        }
    sd_image_free(&out);
    sd_image_free(&mask);
    sd_image_free(&zero);
    assert_failed(sd_image_extend(&out, &in, -1, 0, 0, 0, NULL, &err), SD_ERR_ARG, &out, "margin of -1");
    assert_failed(sd_image_extend(&out, &in, 0, 0, INT32_MAX, 0, NULL, &err), SD_ERR_ARG, &out, "margin");
    assert_failed(sd_image_extend(&out, &in, 0, 0, SD_IMAGE_SIDE, 0, NULL, &err), SD_ERR_ARG, &out, "sides");
    sd_image_free(&in);
}

/* ------------------------------------------------------------------------------------ channels, numbers */

static void luma_line(const golden *g)
{
    sd_image in = make(g->n[0], g->n[1], 3, g->field[0]), out;
    assert_int_equal(sd_mask_from_luma(&out, &in, &err), SD_OK);
    assert_same(&out, g->field[1]);
    sd_image_free(&in);
    sd_image_free(&out);
}

TEST(luma_gives_pillows_bytes)
{
    each_line("luma", 2, luma_line);
}

static void float_line(const golden *g)
{
    sd_image p = make(16, 16, 3, NULL);
    float *x = malloc(3 * 256 * sizeof *x);
    assert_non_null(x);
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++) p.data[3 * i + c] = (uint8_t)(i + 7 * c);
    sd_image_to_float(x, &p);
    for (int i = 0; i < 3 * 256; i++) {
        const uint8_t *b = g->field[0] + 4 * (uint8_t)(i % 256 + 7 * (i / 256));
        uint32_t expected = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3], bits;
        memcpy(&bits, &x[i], sizeof bits);
        assert_int_equal(bits, expected);
    }
    int differ = 0;   /* a multiplication instead of the division shows */
    for (int i = 0; i < 256; i++) differ += (float)i * (1.0f / 127.5f) - 1.0f != x[i];
    assert_true(differ > 0);
    free(x);
    sd_image_free(&p);
}

TEST(numbers_are_diffusers_to_the_bit_and_in_planes)
{
    each_line("float", 0, float_line);
}

TEST(transparency_is_dropped_or_laid_over_a_colour)
{
    static const uint8_t bytes[] = {200, 100, 50, 0, 200, 100, 50, 255, 200, 100, 50, 51}, sky[] = {0, 50, 250};
    sd_image in = make(3, 1, 4, bytes), out, mask;
    assert_int_equal(sd_image_to_rgb(&out, &in, NULL, &err), SD_OK);
    assert_memory_equal(out.data, ((const uint8_t[]){200, 100, 50, 200, 100, 50, 200, 100, 50}), 9);
    sd_image_free(&out);
    assert_int_equal(sd_image_to_rgb(&out, &in, sky, &err), SD_OK);
    assert_memory_equal(out.data, ((const uint8_t[]){0, 50, 250, 200, 100, 50, 40, 60, 210}), 9);
    assert_int_equal(sd_mask_from_alpha(&mask, &in, &err), SD_OK);
    assert_memory_equal(mask.data, ((const uint8_t[]){255, 0, 204}), 3);
    sd_image_free(&mask);
    assert_failed(sd_mask_from_alpha(&mask, &out, &err), SD_ERR_ARG, &mask, "no transparency");
    sd_image_free(&out);
    sd_image_free(&in);
    in = make(2, 1, 1, (const uint8_t[]){3, 200});
    assert_int_equal(sd_image_to_rgb(&out, &in, sky, &err), SD_OK);
    assert_memory_equal(out.data, ((const uint8_t[]){3, 3, 3, 200, 200, 200}), 6);
    sd_image_free(&out);
    sd_image_free(&in);
}

/* ---------------------------------------------------------------------------------------------- masks */

TEST(masks_split_at_one_half)
{
    sd_image m = make(4, 1, 1, (const uint8_t[]){0, 127, 128, 255});
    sd_mask_invert(&m);
    assert_same(&m, (const uint8_t[]){255, 128, 127, 0});
    sd_mask_invert(&m);
    sd_mask_threshold(&m);
    assert_same(&m, (const uint8_t[]){0, 0, 255, 255});
    sd_image_free(&m);
}

static void blur_line(const golden *g)
{
    sd_image m = make(g->n[0], g->n[1], 1, g->field[0]);
    assert_int_equal(sd_mask_blur(&m, (double)g->n[2] / 100, &err), SD_OK);
    assert_same(&m, g->field[1]);
    sd_image_free(&m);
}

TEST(blurring_gives_pillows_bytes)
{
    each_line("blur", 3, blur_line);
}

/* Three boxes are not a Gaussian: how far off, for the edge of a half-plane, whose blur is the normal distribution. */
TEST(blurring_is_close_to_a_gaussian)
{
    static const double radius[] = {0.8, 2, 4, 11.5, 30};
    for (size_t r = 0; r < SD_COUNT(radius); r++) {
        sd_image m = rectangle(400, 1, 200, 0, 200, 1);
        double most = 0;
        assert_int_equal(sd_mask_blur(&m, radius[r], &err), SD_OK);
        for (int x = 0; x < 400; x++) {
            double z = (x - 199.5) / radius[r], phi = 0.5 * erfc(-z / sqrt(2.0));
            most = fmax(most, fabs(m.data[x] / 255.0 - phi));
        }
        print_message("edge blurred by %.1f: off a Gaussian's by %.4f\n", radius[r], most);
        assert_true(most < (radius[r] < 1 ? 0.05 : 0.015));
        sd_image_free(&m);
    }
}

TEST(blurring_nothing_or_nonsense)
{
    sd_image m = noise_picture(5, 4, 1);
    uint8_t before[20];
    memcpy(before, m.data, 20);
    assert_int_equal(sd_mask_blur(&m, 0, &err), SD_OK);
    assert_same(&m, before);
    assert_failed(sd_mask_blur(&m, -1, &err), SD_ERR_ARG, NULL, "blur of -1");
    assert_failed(sd_mask_blur(&m, NAN, &err), SD_ERR_ARG, NULL, "blur of");
    assert_failed(sd_mask_blur(&m, HUGE_VAL, &err), SD_ERR_ARG, NULL, "blur of inf");
    assert_failed(sd_mask_feather(&m, -0.5, &err), SD_ERR_ARG, NULL, "feathering");
    assert_failed(sd_mask_feather(&m, NAN, &err), SD_ERR_ARG, NULL, "feathering");
    assert_same(&m, before);
    assert_int_equal(sd_mask_blur(&m, SD_IMAGE_SIDE, &err), SD_OK);   /* the widest: flat */
    assert_true(worst(m.data, m.data + 1, 19) <= 1);
    sd_image_free(&m);
}

/* Squared distance from (x, y) to the nearest pixel with from <= value <= to, or a large number. */
static long far_from(const sd_image *m, int x, int y, int from, int to)
{
    long best = 1000000;
    for (int j = 0; j < m->height; j++)
        for (int i = 0; i < m->width; i++) {
            long d = (long)(i - x) * (i - x) + (long)(j - y) * (j - y);
            int v = m->data[j * m->width + i];
            if (v >= from && v <= to && d < best) best = d;
        }
    return best;
}

static sd_image sparse_mask(int width, int height, int one_in)
{
    sd_image m = noise_picture(width, height, 1);
    for (int i = 0; i < width * height; i++)
        if (noise() % one_in) m.data[i] = (uint8_t)(noise() % 3 ? 0 : m.data[i] / 2);
    return m;
}

TEST(feathering_fades_inside_and_keeps_zeros)
{
    static const double width[] = {0, 1, 3, 7.5};
    for (size_t r = 0; r < SD_COUNT(width); r++)
        for (int round = 0; round < 6; round++) {
            sd_image m = rectangle(20, 18, 2 + round, 3, 9, 12), before;
            m.data[5] = 100;
            assert_int_equal(sd_image_crop(&before, &m, (sd_rect){0, 0, 20, 18}, &err), SD_OK);
            assert_int_equal(sd_mask_feather(&m, width[r], &err), SD_OK);
            for (int i = 0; i < 20 * 18; i++) {
                double most = 255 * sqrt((double)far_from(&before, i % 20, i / 20, 0, 0)) / (width[r] + 1);
                int v = before.data[i] > most ? (int)lround(most) : before.data[i];
                assert_int_equal(m.data[i], v);
                assert_int_equal(m.data[i] == 0, before.data[i] == 0);
            }
            sd_image_free(&m);
            sd_image_free(&before);
        }
    sd_image m = rectangle(5, 5, 0, 0, 5, 5);   /* nothing to fade to */
    assert_int_equal(sd_mask_feather(&m, 4, &err), SD_OK);
    for (int i = 0; i < 25; i++) assert_int_equal(m.data[i], 255);
    sd_image_free(&m);
}

static void region_line(const golden *g)
{
    const long *n = g->n;
    sd_image m = rectangle((int)n[0], (int)n[1], (int)n[2], (int)n[3], (int)n[4], (int)n[5]);
    sd_rect r;
    assert_true(sd_mask_region(&m, (int)n[6], (int)n[7], (int)n[8], &r));
    assert_int_equal(r.x, n[9]);
    assert_int_equal(r.y, n[10]);
    assert_int_equal(r.x + r.width, n[11]);
    assert_int_equal(r.y + r.height, n[12]);
    sd_image_free(&m);
}

TEST(the_region_of_a_mask_is_diffusers)
{
    each_line("region", 13, region_line);
    sd_image m = rectangle(50, 40, 10, 20, 5, 6);
    m.data[0] = 1;   /* barely masked is masked */
    sd_rect r;
    assert_true(sd_mask_region(&m, 0, 0, 0, &r));
    assert_int_equal(r.x, 0);
    assert_int_equal(r.width, 15);
    assert_int_equal(r.height, 26);
    m.data[0] = 0;
    assert_true(sd_mask_region(&m, 3, 0, 0, &r));
    assert_int_equal(r.x, 7);
    assert_int_equal(r.y, 17);
    assert_int_equal(r.width, 11);
    assert_int_equal(r.height, 12);
    assert_true(sd_mask_region(&m, INT32_MAX, 0, 0, &r));
    assert_int_equal(r.width, 50);
    assert_int_equal(r.height, 40);
    memset(m.data, 0, 50 * 40);
    assert_false(sd_mask_region(&m, 3, 64, 64, &r));
    assert_int_equal(r.width, 0);
    sd_image_free(&m);
}

static int latent_twins[2];   /* how many pixels a centred sampler and one with exact arithmetic get wrong */

static void latent_line(const golden *g)
{
    const long *n = g->n;
    int width = (int)n[2], height = (int)n[3];
    sd_image m = make(n[0], n[1], 1, g->field[0]), centred = resized(&m, width, height, SD_FILTER_NEAREST);
    float *x = malloc((size_t)(width * height) * sizeof *x);
    assert_non_null(x);
    assert_int_equal(g->bytes[1], width * height);
    sd_mask_to_latent(x, height, width, &m);
    for (int i = 0; i < width * height; i++) {
        int exact = m.data[(long)(i / width) * m.height / height * m.width + (long)(i % width) * m.width / width];
        assert_true(x[i] == (float)g->field[1][i]);
        latent_twins[0] += (centred.data[i] >= 128) != g->field[1][i];
        latent_twins[1] += (exact >= 128) != g->field[1][i];
    }
    free(x);
    sd_image_free(&m);
    sd_image_free(&centred);
}

TEST(masks_shrink_to_latents_as_torch_samples)
{
    memset(latent_twins, 0, sizeof latent_twins);
    each_line("latent", 4, latent_line);
    assert_true(latent_twins[0] > 0);
    assert_true(latent_twins[1] > 0);
}

/* -------------------------------------------------------------------------------------------- pasting */

static void paste_line(const golden *g)
{
    const long *n = g->n;
    sd_image base = make(n[0], n[1], 3, g->field[0]), over = make(n[0], n[1], 3, g->field[1]);
    sd_image mask = make(n[0], n[1], 1, g->field[2]);
    assert_int_equal(sd_image_paste(&base, 0, 0, &over, &mask, &err), SD_OK);
    assert_same(&base, g->field[3]);
    sd_image_free(&base);
    sd_image_free(&over);
    sd_image_free(&mask);
}

TEST(pasting_gives_pillows_bytes)
{
    each_line("paste", 2, paste_line);
}

TEST(unmasked_pixels_come_back_byte_for_byte)
{
    static const int at[][2] = {{0, 0}, {3, 2}, {-4, -3}, {15, 9}, {-100, 0}, {0, 100}};
    for (int channels = 3; channels <= 4; channels++)
        for (size_t i = 0; i < SD_COUNT(at); i++) {
            sd_image base = noise_picture(20, 12, channels), over = noise_picture(9, 7, 3), before;
            sd_image mask = sparse_mask(9, 7, 4);
            assert_int_equal(sd_image_crop(&before, &base, (sd_rect){0, 0, 20, 12}, &err), SD_OK);
            assert_int_equal(sd_image_paste(&base, at[i][0], at[i][1], &over, &mask, &err), SD_OK);
            for (int y = 0; y < 12; y++)
                for (int x = 0; x < 20; x++) {
                    int ox = x - at[i][0], oy = y - at[i][1];
                    bool inside = ox >= 0 && oy >= 0 && ox < 9 && oy < 7;
                    int m = inside ? mask.data[oy * 9 + ox] : 0;
                    const uint8_t *was = before.data + (y * 20 + x) * channels;
                    const uint8_t *is = base.data + (y * 20 + x) * channels;
                    for (int c = 0; c < channels; c++) {
                        int o = c == 3 ? 255 : inside ? over.data[(oy * 9 + ox) * 3 + c] : 0;
                        if (m == 0) assert_int_equal(is[c], was[c]);
                        assert_true(fabs(is[c] - (was[c] + (o - was[c]) * m / 255.0)) <= 0.51);
                    }
                }
            sd_image_free(&base);
            sd_image_free(&over);
            sd_image_free(&mask);
            sd_image_free(&before);
        }
}

TEST(pasting_without_a_mask_and_with_a_wrong_one)
{
    sd_image base = noise_picture(6, 6, 3), over = noise_picture(2, 2, 3), mask = make(3, 2, 1, NULL);
    assert_int_equal(sd_image_paste(&base, 2, 3, &over, NULL, &err), SD_OK);
    assert_memory_equal(base.data + 3 * (3 * 6 + 2), over.data, 6);
    assert_memory_equal(base.data + 3 * (4 * 6 + 2), over.data + 6, 6);
    assert_failed(sd_image_paste(&base, 0, 0, &over, &mask, &err), SD_ERR_ARG, NULL, "mask of 3x2");
    sd_image_free(&mask);
    mask = make(2, 2, 3, NULL);
    assert_failed(sd_image_paste(&base, 0, 0, &over, &mask, &err), SD_ERR_ARG, NULL, "3 channels");
    sd_image_free(&base);
    sd_image_free(&over);
    sd_image_free(&mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizing_gives_pillows_bytes),
        cmocka_unit_test(known_mistakes_of_resizing_show),
        cmocka_unit_test(a_flat_picture_stays_flat_at_any_size),
        cmocka_unit_test(resizing_to_the_same_size_changes_nothing),
        cmocka_unit_test(extreme_shapes_are_resized),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(an_error_before_stays_and_nothing_is_done),
        cmocka_unit_test(cropping_to_fit_gives_diffusers_bytes),
        cmocka_unit_test(padding_to_fit_centres_and_fills),
        cmocka_unit_test(fitting_extreme_shapes_takes_no_extreme_memory),
        cmocka_unit_test(cutting_keeps_bytes_and_checks_its_rectangle),
        cmocka_unit_test(extending_keeps_the_picture_and_repeats_its_edges),
        cmocka_unit_test(luma_gives_pillows_bytes),
        cmocka_unit_test(numbers_are_diffusers_to_the_bit_and_in_planes),
        cmocka_unit_test(transparency_is_dropped_or_laid_over_a_colour),
        cmocka_unit_test(masks_split_at_one_half),
        cmocka_unit_test(blurring_gives_pillows_bytes),
        cmocka_unit_test(blurring_is_close_to_a_gaussian),
        cmocka_unit_test(blurring_nothing_or_nonsense),
        cmocka_unit_test(feathering_fades_inside_and_keeps_zeros),
        cmocka_unit_test(the_region_of_a_mask_is_diffusers),
        cmocka_unit_test(masks_shrink_to_latents_as_torch_samples),
        cmocka_unit_test(pasting_gives_pillows_bytes),
        cmocka_unit_test(unmasked_pixels_come_back_byte_for_byte),
        cmocka_unit_test(pasting_without_a_mask_and_with_a_wrong_one),
    };
    return cmocka_run_group_tests_name("picture", tests, NULL, NULL);
}
