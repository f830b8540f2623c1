/* app_preview.c - floor 7: a small picture in a terminal, by the protocols of kitty and iTerm2, else as coloured half
 * blocks. */
#include "app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int has(const char *variable, const char *part)
{
    const char *value = getenv(variable);
    return value && strstr(value, part) != NULL;
}

static int no_color(void)   /* [no-color.org]: set, and not to nothing */
{
    const char *value = getenv("NO_COLOR");
    return value && *value;
}

static preview_kind detect(void)
{
    if (getenv("TMUX") || has("TERM", "screen")) return PREVIEW_BLOCKS;   /* they do not pass pictures on */
    if (getenv("KITTY_WINDOW_ID") || has("TERM", "kitty") || has("TERM", "ghostty") || has("TERM_PROGRAM", "ghostty"))
        return PREVIEW_KITTY;
    if (has("TERM_PROGRAM", "iTerm") || has("LC_TERMINAL", "iTerm2") || has("TERM_PROGRAM", "WezTerm") ||
        has("TERM_PROGRAM", "mintty"))
        return PREVIEW_ITERM2;
    return PREVIEW_BLOCKS;
}

int preview_detect(preview_kind *kind)
{
    const char *term = getenv("TERM");
    *kind = detect();
    if (term && strcmp(term, "dumb") == 0) return 0;
    return *kind != PREVIEW_BLOCKS || !no_color();
}

/* -------------------------------------------------------------------------------------- base64 */

/* [RFC 4648]. NULL: out of memory. */
static char *base64(const uint8_t *data, size_t n, size_t *length)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((n + 2) / 3 * 4 + 1), *p = out;
    for (size_t i = 0; out && i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < n ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < n
                ? (uint32_t)data[i + 2] : 0);
        for (int k = 3; k >= 0; k--) *p++ = digit[v >> (6 * k) & 63];
        if (i + 1 >= n) p[-2] = '=';
        if (i + 2 >= n) p[-1] = '=';
    }
    if (out) *p = 0;
    *length = (size_t)(p - out);
    return out;
}

/* --------------------------------------------------------------------------------- a PNG in memory
 * Stored, not compressed: the way to the terminal is short, and a build without libpng can show pictures too. */

typedef struct bytes {
    uint8_t *data;
    size_t n;
} bytes;

static void put(bytes *b, const void *data, size_t n)
{
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void put32(bytes *b, uint32_t v)
{
    const uint8_t big[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    put(b, big, 4);
}

/* Length and type come first, the CRC-32 of type and data last [PNG specification, section 5]. */
static size_t begin_chunk(bytes *b, const char *type, size_t n)
{
    put32(b, (uint32_t)n);
    put(b, type, 4);
    return b->n - 4;
}

static void end_chunk(bytes *b, size_t from)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = from; i < b->n; i++) {
        crc ^= b->data[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? 0xEDB88320u ^ crc >> 1 : crc >> 1;
    }
    put32(b, ~crc);
}

static uint8_t *make_png(const sd_image *image, size_t *size)
{
    size_t row = 3 * (size_t)image->width + 1, h = (size_t)image->height, n = row * h;
    bytes b = {malloc(n + h * 5 + 128), 0};
    if (!b.data) return NULL;
    put(&b, "\x89PNG\r\n\x1a\n", 8);
    size_t at = begin_chunk(&b, "IHDR", 13);
    put32(&b, (uint32_t)image->width);
    put32(&b, (uint32_t)image->height);
    put(&b, "\x08\x02\0\0\0", 5);   /* 8 bits, RGB */
    end_chunk(&b, at);
    at = begin_chunk(&b, "IDAT", 2 + h * 5 + n + 4);
    put(&b, "\x78\x01", 2);
    uint32_t a = 1, c = 0;          /* Adler-32 [RFC 1950] */
    for (size_t y = 0; y < h; y++) {   /* a stored block for each row, of at most 65535 bytes [RFC 1951, 3.2.4] */
        /* last, length, its complement; then the row's filter: none */
        const uint8_t head[] = {y + 1 == h, (uint8_t)row, (uint8_t)(row >> 8), (uint8_t)~row, (uint8_t)(~row >> 8), 0};
        put(&b, head, sizeof head);
        put(&b, image->data + y * (row - 1), row - 1);
        for (size_t i = b.n - row; i < b.n; i++) {
            a = (a + b.data[i]) % 65521;
            c = (c + a) % 65521;
        }
    }
    put32(&b, c << 16 | a);
    end_chunk(&b, at);
    end_chunk(&b, begin_chunk(&b, "IEND", 0));
    *size = b.n;
    return b.data;
}

/* ------------------------------------------------------------------------------------ protocols */

/* [kitty graphics protocol]: RGB in pieces of 4096 characters; one identity, so that a picture takes its predecessor's
 * place. */
static void show_kitty(const sd_image *image, int columns, int rows)
{
    enum { PIECE = 4096 };
    size_t n;
    char *text = base64(image->data, 3 * (size_t)image->width * (size_t)image->height, &n);
    for (size_t at = 0; text && at < n; at += PIECE) {
        int last = at + PIECE >= n;
        if (at == 0)
            fprintf(stderr, "\033_Ga=T,f=24,i=7353,p=1,q=2,C=1,s=%d,v=%d,c=%d,r=%d,m=%d;", image->width, image->height,
                    columns, rows, !last);
        else fprintf(stderr, "\033_Gm=%d;", !last);
        fwrite(text + at, 1, last ? n - at : PIECE, stderr);
        fputs("\033\\", stderr);
    }
    free(text);
}

/* [iTerm2 inline images protocol] */
static void show_iterm2(const sd_image *image, int columns, int rows)
{
    size_t size, n;
    uint8_t *png = make_png(image, &size);
    char *text = png ? base64(png, size, &n) : NULL;
    if (text)
        fprintf(stderr, "\033]1337;File=inline=1;size=%zu;width=%d;height=%d;preserveAspectRatio=0:%s\a", size, columns,
                rows, text);
    free(png);
    free(text);
}

/* 24 bits where the terminal says that it has them, else the 6x6x6 cube of 256 colours. */
static void set_color(int ground, const uint8_t *c, int full)
{
    if (full) fprintf(stderr, "\033[%d;2;%d;%d;%dm", ground, c[0], c[1], c[2]);
    else fprintf(stderr, "\033[%d;5;%dm", ground,
                 16 + 36 * ((c[0] * 5 + 127) / 255) + 6 * ((c[1] * 5 + 127) / 255) + (c[2] * 5 + 127) / 255);
}

/* Two pixels in a character: the upper half block in one colour on the other. */
static void show_blocks(const sd_image *image)
{
    int full = has("COLORTERM", "truecolor") || has("COLORTERM", "24bit");
    for (int y = 0; y + 1 < image->height; y += 2) {
        for (int x = 0; x < image->width; x++) {
            const uint8_t *upper = image->data + 3 * (y * image->width + x);
            set_color(38, upper, full);
            set_color(48, upper + 3 * image->width, full);
            fputs("\xE2\x96\x80", stderr);
        }
        fputs("\033[0m\r\n", stderr);
    }
}

sd_status preview_show(preview_kind kind, const sd_image *image, int *rows)
{
    enum { COLUMNS = 40, MOST_ROWS = 20, MOST_PIXELS = 256 };
    /* a character is twice as high as wide */
    int most = terminal_columns() - 1, columns = most < COLUMNS ? most : COLUMNS;
    if (columns < 1) columns = 1;
    int lines = (columns * image->height / image->width + 1) / 2;
    sd_image small;
    if (lines > MOST_ROWS) {
        lines = MOST_ROWS;
        if (2 * MOST_ROWS * image->width / image->height < columns)
            columns = 2 * MOST_ROWS * image->width / image->height;
    }
    if (columns < 1) columns = 1;
    if (lines < 1) lines = 1;
    int w = image->width, h = image->height, longest = w > h ? w : h;
    if (kind == PREVIEW_BLOCKS) {
        w = columns;
        h = 2 * lines;
    } else if (longest > MOST_PIXELS) {
        w = w * MOST_PIXELS / longest > 0 ? w * MOST_PIXELS / longest : 1;
        h = h * MOST_PIXELS / longest > 0 ? h * MOST_PIXELS / longest : 1;
    }
    sd_status status = sd_image_resize(context, image, w, h, NULL, &small);
    if (status) return status;
    /* The first picture makes room for its lines; from then on each is drawn from the same corner. */
    for (int i = 0; *rows == 0 && i < lines; i++) fputc('\n', stderr);
    *rows = lines;
    fprintf(stderr, "\r\033[%dA\0337", lines);
    if (kind == PREVIEW_KITTY) show_kitty(&small, columns, lines);
    else if (kind == PREVIEW_ITERM2) show_iterm2(&small, columns, lines);
    else show_blocks(&small);
    fprintf(stderr, "\0338\033[%dB", lines);
    fflush(stderr);
    sd_image_free(&small);
    return SD_OK;
}
