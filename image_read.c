/* image_read.c - floor 3: reads pictures from files: PNG, JPEG, PNM, recognised by their first bytes.
 *
 * What a file claims is checked before anything is allocated for it. Rows go into the picture, or one by one into a
 * resampler: then neither file nor picture is ever in memory as a whole.
 *
 * libpng and libjpeg report errors through longjmp. What must survive one is in a struct of the caller, never in a
 * variable of the function that called setjmp. */
#include "image.h"
#include "image_exif.h"
#include "image_transform.h"
#include "os.h"
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE ((size_t)INT32_MAX)

enum { WINDOW = 1 << 16 };

typedef struct source {
    const uint8_t *data;  /* bytes of the file: all of them or, if it is read from f, some */
    size_t n, at;         /* how many there are, and the index of the next */
    FILE *f;
    uint8_t *window;      /* [WINDOW], with f */
    size_t passed, size;  /* bytes before `data`; bytes of the file */
    const char *name;
    sd_error *e;
    sd_image picture;     /* as stored, before orientation is applied */
    int orientation;      /* EXIF's, 1..8 */
    bool no_memory;       /* an allocation by libpng failed */
    bool complete;        /* all pixels of a PNG have been read */
    bool unended;         /* ... but the PNG's end is missing */

    bool look;            /* read only the sides */
    int width, height;    /* as stored */
    sd_fitted *fitted;    /* NULL: all of the picture is wanted */
    sd_resampler *rows;   /* gets the rows; NULL: they go into the picture */
    uint8_t *line;        /* the row that is being read */
    int channels;
    bool opaque;
    sd_md5 md5;
} source;

/* ------------------------------------------------------------------------------------------ bytes */

/* Reads more of a file that is not in memory. False at its end, or with an error if it cannot be read. */
static bool refill(source *s)
{
    if (!s->f) return false;
    s->passed += s->n;
    s->at = 0;
    s->data = s->window;
    s->n = fread(s->window, 1, WINDOW, s->f);
    if (!s->n && ferror(s->f))
        sd_fail(s->e, sd_errno_status(errno), "cannot read %s: %s", s->name, strerror(errno));
    return s->n > 0;
}

static bool more(source *s) { return s->at < s->n || refill(s); }

/* The next byte, without moving on; -1 at the end. */
static int peek(source *s) { return more(s) ? s->data[s->at] : -1; }

/* Takes up to n bytes; returns how many. */
static size_t take(source *s, uint8_t *to, size_t n)
{
    size_t got = 0;
    while (got < n && more(s)) {
        size_t now = n - got < s->n - s->at ? n - got : s->n - s->at;
        memcpy(to + got, s->data + s->at, now);
        s->at += now;
        got += now;
    }
    return got;
}

/* Must be called before anything is allocated for a picture. `need`: the fewest bytes that its file can have. */
static sd_status check_claim(const source *s, uint64_t width, uint64_t height, uint64_t need)
{
    if (width < 1 || height < 1 || width > SD_IMAGE_SIDE || height > SD_IMAGE_SIDE)
        return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: it claims %llux%llu pixels, expected sides from 1 to %d",
                       s->name, (unsigned long long)width, (unsigned long long)height, SD_IMAGE_SIDE);
    if (need > s->size)
        return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: %zu bytes are too few for %dx%d pixels: it is cut off",
                       s->name, s->size, (int)width, (int)height);
    return SD_OK;
}

/* ------------------------------------------------------------------------------------------- rows */

/* May rows go to a resampler? Yes, if the picture shrinks and stands upright. */
static bool goes_by_rows(const source *s)
{
    const sd_fitted *f = s->fitted;
    return f && s->orientation == 1 && f->width <= s->width && f->height <= s->height
        && (f->width < s->width || f->height < s->height);
}

/* Once the header is known, prepares the place for the pixels. at_once: reading row by row is not possible. False: no
 * pixel is wanted, or there is an error. */
static bool begin_rows(source *s, uint32_t width, uint32_t height, int channels, bool at_once)
{
    s->width = (int)width;
    s->height = (int)height;
    s->channels = channels;
    if (s->look) return false;
    if (at_once || !goes_by_rows(s)) return !sd_image_new(&s->picture, s->width, s->height, channels, s->e);
    const sd_resizing r = {s->width, s->height, 3, s->fitted->width, s->fitted->height, s->fitted->fit,
                           SD_FILTER_LANCZOS};
    s->line = malloc((size_t)width * (size_t)channels);
    s->opaque = true;
    sd_md5_init(&s->md5);
    if (!s->line) sd_fail(s->e, SD_ERR_MEMORY, "no memory to read %s", s->name);
    else sd_resampler_new(&s->rows, &r, s->e);
    return !s->e->status;
}

static uint8_t *place_of(const source *s, size_t y)
{
    return s->rows ? s->line : s->picture.data + y * (size_t)s->width * (size_t)s->channels;
}

/* Passes on the row that has been read. False: no more rows are wanted, because the picture must be read as a whole. */
static bool row_read(source *s)
{
    size_t n = (size_t)s->width;
    if (!s->rows) return true;
    sd_md5_add(&s->md5, s->line, n * (size_t)s->channels);
    for (size_t i = 0; s->channels == 4 && i < n; i++) {
        s->opaque &= s->line[4 * i + 3] == 255;
        memmove(s->line + 3 * i, s->line + 4 * i, 3);
    }
    if (s->opaque) sd_resampler_row(s->rows, s->line);
    return s->opaque;
}

/* ----------------------------------------------------------------------------------- orientation */

/* EXIF 2.3, table "Orientation": are rows and columns exchanged, and from which sides is the stored picture read? */
static const struct { bool swap, from_right, from_bottom; } turns[9] = {
    [1] = {false, false, false}, [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
    [5] = {true, false, false},  [6] = {true, false, true},  [7] = {true, true, true},  [8] = {true, true, false},
};

static sd_status turn_upright(sd_image *out, const sd_image *in, int orientation, sd_error *e)
{
    bool swap = turns[orientation].swap;
    int width = swap ? in->height : in->width, height = swap ? in->width : in->height;
    size_t c = (size_t)in->channels;
    if (sd_image_new(out, width, height, in->channels, e)) return e->status;
    uint8_t *to = out->data;
    for (int y = 0; y < out->height && !sd_fail_if_stopped(e); y++)
        for (int x = 0; x < out->width; x++, to += c) {
            int sx = swap ? y : x, sy = swap ? x : y;
            if (turns[orientation].from_right) sx = in->width - 1 - sx;
            if (turns[orientation].from_bottom) sy = in->height - 1 - sy;
            memcpy(to, in->data + ((size_t)sy * (size_t)in->width + (size_t)sx) * c, c);
        }
    if (e->status) sd_image_free(out);
    return e->status;
}

/* ------------------------------------------------------------------------------------------- PNG */

#ifdef SD_WITH_PNG
#include "image_png.h"

static void png_failed(png_structp png, png_const_charp message)
{
    const source *s = png_get_error_ptr(png);
    if (s->no_memory) sd_fail(s->e, SD_ERR_MEMORY, "no memory to read %s", s->name);
    else if (!s->unended) sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: broken PNG: %s", s->name, message);
    png_longjmp(png, 1);
}

static void png_warned(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void png_take(png_structp png, png_bytep to, size_t n)
{
    source *s = png_get_io_ptr(png);
    if (take(s, to, n) < n) {
        s->unended = s->complete;   /* if all pixels are there, nothing needed is lost */
        png_error(png, "the file is cut off");
    }
}

static int png_orientation(png_structp png, png_infop info)
{
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 n = 0;
    png_bytep tiff = NULL;
    if (png_get_eXIf_1(png, info, &n, &tiff)) return sd_exif_orientation(tiff, n);
#endif
    (void)png, (void)info;
    return 1;
}

static sd_status decode_png(png_structp png, png_infop info, source *s)
{
    if (setjmp(png_jmpbuf(png))) return s->e->status;   /* SD_OK if only the end is missing */
    png_set_read_fn(png, s, png_take);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);   /* check_claim has a clearer error */
#ifdef PNG_HANDLE_AS_UNKNOWN_SUPPORTED
    png_byte exif[] = "eXIf";   /* of the chunks that pixels do not need, only this one: others may be zip bombs */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_AS_DEFAULT, exif, 1);
#endif
    png_read_info(png, info);
    png_uint_32 width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    /* deflate packs at most 1032 bytes into one */
    if (check_claim(s, width, height, (uint64_t)png_get_rowbytes(png, info) * height / 1032)) return s->e->status;

    /* Every kind becomes RGB or RGBA with 8 bits. Of 16 bits the high byte is kept: v/257 rounded would be nearer by up
     * to half a step, but Pillow, with which diffusers reads files, takes the high byte. Gamma and profiles are
     * ignored. */
    png_set_expand(png);        /* palette to RGB, low bit depths to 8, transparent colours to alpha */
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    s->orientation = png_orientation(png, info);
    if (!begin_rows(s, width, height, png_get_channels(png, info), passes > 1)) return s->e->status;
    if (png_get_rowbytes(png, info) != (size_t)width * (size_t)s->channels) png_error(png, "unexpected row size");
    for (; passes > 0; passes--)
        for (png_uint_32 y = 0; y < height; y++) {
            if (sd_fail_if_stopped(s->e)) return s->e->status;
            png_read_row(png, place_of(s, y), NULL);
            if (!row_read(s)) return SD_OK;
        }
    s->complete = true;
    png_read_end(png, info);    /* eXIf may stand after the pixels */
    return SD_OK;
}

static sd_status read_png(source *s)
{
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, s, png_failed, png_warned, &s->no_memory,
                                               sd_png_allocate,
                                               sd_png_give_back);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) sd_fail(s->e, SD_ERR_MEMORY, "no memory to read %s", s->name);
    else if (!decode_png(png, info, s) && s->complete) s->orientation = png_orientation(png, info);
    png_destroy_read_struct(&png, &info, NULL);
    return s->e->status;
}
#else
static sd_status read_png(source *s)
{
    return sd_fail(s->e, SD_ERR_UNSUPPORTED, "cannot read %s: a PNG, and this build has no libpng (PNG=0)", s->name);
}
#endif

/* ------------------------------------------------------------------------------------------ JPEG */

#ifdef SD_WITH_JPEG
#include <jpeglib.h>
#include <jerror.h>

#define MAX_SCANS 500   /* progressive files have about ten; thousands of empty ones are meant to waste time */

typedef struct jpeg_job {
    struct jpeg_error_mgr errors;   /* first: libjpeg hands back a pointer to it */
    struct jpeg_progress_mgr progress;
    struct jpeg_source_mgr bytes;
    jmp_buf jump;
    source *s;
} jpeg_job;

static void jpeg_failed(j_common_ptr c)
{
    static const int beyond_us[] = {JERR_BAD_PRECISION, JERR_SOF_UNSUPPORTED, JERR_ARITH_NOTIMPL,
                                    JERR_CONVERSION_NOTIMPL};
    jpeg_job *j = (jpeg_job *)c->err;
    char message[JMSG_LENGTH_MAX];
    j->errors.format_message(c, message);
    sd_status status = j->errors.msg_code == JERR_OUT_OF_MEMORY ? SD_ERR_MEMORY : SD_ERR_FORMAT;
    for (size_t i = 0; i < SD_COUNT(beyond_us); i++)
        if (j->errors.msg_code == beyond_us[i]) status = SD_ERR_UNSUPPORTED;
    const char *broken = status == SD_ERR_FORMAT ? "broken " : "";
    sd_fail(j->s->e, status, "cannot read %s: %sJPEG: %s", j->s->name, broken, message);
    longjmp(j->jump, 1);
}

/* Replaces libjpeg's function, which would print. Where data is lost, libjpeg warns and goes on with grey; this reader
 * stops. Some oddities of cameras and editors are harmless. */
static void jpeg_warned(j_common_ptr c, int level)
{
    static const int harmless[] = {JWRN_EXTRANEOUS_DATA, JWRN_ADOBE_XFORM, JWRN_JFIF_MAJOR, JWRN_NOT_SEQUENTIAL,
                                   JWRN_TOO_MUCH_DATA};
    if (level >= 0) return;   /* trace messages */
    for (size_t i = 0; i < SD_COUNT(harmless); i++)
        if (c->err->msg_code == harmless[i]) return;
    jpeg_failed(c);
}

static void jpeg_watch(j_common_ptr c)
{
    const jpeg_job *j = (const jpeg_job *)c->err;
    if (sd_fail_if_stopped(j->s->e)) longjmp(((jpeg_job *)c->err)->jump, 1);
    if (!c->is_decompressor || ((j_decompress_ptr)c)->input_scan_number <= MAX_SCANS) return;
    sd_fail(j->s->e, SD_ERR_FORMAT, "cannot read %s: broken JPEG: more than %d scans", j->s->name, MAX_SCANS);
    longjmp(((jpeg_job *)c->err)->jump, 1);
}

/* ---- how libjpeg gets more bytes [libjpeg.txt, "Compressed data handling (source and destination managers)"] */

static void bytes_nothing(j_decompress_ptr c) { (void)c; }

static boolean bytes_fill(j_decompress_ptr c)
{
    static const JOCTET end[] = {0xFF, JPEG_EOI};
    source *s = ((jpeg_job *)c->err)->s;
    s->at = s->n;   /* libjpeg has had all of them */
    bool there = refill(s);
    if (s->e->status) longjmp(((jpeg_job *)c->err)->jump, 1);
    if (!there) WARNMS(c, JWRN_JPEG_EOF);
    c->src->next_input_byte = there ? s->data : end;
    c->src->bytes_in_buffer = there ? s->n : sizeof end;
    return TRUE;
}

static void bytes_skip(j_decompress_ptr c, long n)
{
    for (; n > 0 && (unsigned long)n > c->src->bytes_in_buffer; bytes_fill(c)) n -= (long)c->src->bytes_in_buffer;
    if (n <= 0) return;
    c->src->next_input_byte += n;
    c->src->bytes_in_buffer -= (size_t)n;
}

static void bytes_from(struct jpeg_decompress_struct *c, jpeg_job *j)
{
    j->bytes = (struct jpeg_source_mgr){j->s->data + j->s->at, j->s->n - j->s->at, bytes_nothing, bytes_fill,
                                        bytes_skip, jpeg_resync_to_restart, bytes_nothing};
    c->src = &j->bytes;
}

/* Ink to light. Files hold 255 - ink: Adobe's convention, which Pillow assumes with or without Adobe's marker. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (; n; n--, rgb += 3, cmyk += 4)
        for (int i = 0; i < 3; i++) rgb[i] = (uint8_t)(cmyk[3] - sd_div255((255u - cmyk[i]) * cmyk[3]));
}

static int jpeg_orientation(const struct jpeg_decompress_struct *c)
{
    for (jpeg_saved_marker_ptr m = c->marker_list; m; m = m->next)
        if (m->data_length > 6 && memcmp(m->data, "Exif\0", 6) == 0)
            return sd_exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

static sd_status decode_jpeg(struct jpeg_decompress_struct *c, jpeg_job *j)
{
    source *s = j->s;
    if (setjmp(j->jump)) return s->e->status;
    jpeg_create_decompress(c);
    c->progress = &j->progress;
    bytes_from(c, j);
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(c, TRUE);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    if (c->jpeg_color_space == JCS_UNKNOWN)
        return sd_fail(s->e, SD_ERR_UNSUPPORTED, "cannot read %s: expected grey, YCbCr, RGB or CMYK, found %d channels",
                       s->name, c->num_components);
    c->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    if (check_claim(s, c->image_width, c->image_height, 0)) return s->e->status;
    /* if there are several scans, coefficients of 16 bits are kept until the last one */
    double kept = jpeg_has_multiple_scans(c) ? 2.0 * c->num_components * c->image_width * c->image_height : 0;
    if (sd_need_memory(s->e, kept, "reading %s, a progressive JPEG of %dx%d pixels,", s->name,
                       (int)c->image_width, (int)c->image_height)) return s->e->status;
    s->orientation = jpeg_orientation(c);   /* now, because finishing drops the markers */
    if (!begin_rows(s, c->image_width, c->image_height, 3, false)) return s->e->status;
    jpeg_start_decompress(c);
    JSAMPARRAY line = cmyk ? c->mem->alloc_sarray((j_common_ptr)c, JPOOL_IMAGE, c->output_width * 4, 1) : NULL;
    while (c->output_scanline < c->output_height) {
        if (sd_fail_if_stopped(s->e)) return s->e->status;
        JSAMPROW row = place_of(s, c->output_scanline);
        jpeg_read_scanlines(c, cmyk ? line : &row, 1);
        if (cmyk) cmyk_to_rgb(row, line[0], c->output_width);
        row_read(s);
    }
    jpeg_finish_decompress(c);   /* a missing end is an error */
    return SD_OK;
}

static sd_status read_jpeg(source *s)
{
    jpeg_job j = {.s = s};
    struct jpeg_decompress_struct c;
    memset(&c, 0, sizeof c);
    c.err = jpeg_std_error(&j.errors);
    j.errors.error_exit = jpeg_failed;
    j.errors.emit_message = jpeg_warned;
    j.progress.progress_monitor = jpeg_watch;
    decode_jpeg(&c, &j);
    jpeg_destroy_decompress(&c);
    return s->e->status;
}
#else
static sd_status read_jpeg(source *s)
{
    return sd_fail(s->e, SD_ERR_UNSUPPORTED, "cannot read %s: a JPEG, and this build has no libjpeg (JPEG=0)", s->name);
}
#endif

/* ------------------------------------------------------------------------------------------- PNM */

static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next number, after white space and comments, or -1 if there is none of at most `max`. */
static int64_t pnm_number(source *s, int64_t max)
{
    int64_t v = 0;
    for (int c = peek(s); is_space(c) || c == '#'; c = peek(s)) {
        while (c == '#' && peek(s) >= 0 && peek(s) != '\n' && peek(s) != '\r') s->at++;
        if (c != '#') s->at++;
    }
    if (!isdigit(peek(s))) return -1;
    for (int c; isdigit(c = peek(s)); s->at++) {
        v = v * 10 + (c - '0');
        if (v > max) return -1;
    }
    return v;
}

static sd_status pnm_broken(source *s, const char *what)
{
    return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: broken PNM: %s", s->name, what);
}

/* A sample as 8 bits, in Pillow's order of operations: halves are rounded to even. */
static uint8_t pnm_scale(int64_t v, int64_t maxval) { return (uint8_t)rint((double)v / (double)maxval * 255.0); }

typedef struct pnm {
    bool plain, rgb;
    int64_t maxval;
    size_t bytes;        /* of a sample; in a plain (text) file at least 2: white space and a digit */
    uint8_t *raw;        /* a row of samples, unless plain */
} pnm;

static sd_status pnm_header(source *s, pnm *p, int64_t *width, int64_t *height)
{
    uint8_t magic[2] = {0};
    take(s, magic, 2);
    p->plain = magic[1] < '4';
    p->rgb = magic[1] == '3' || magic[1] == '6';
    bool apart = is_space(peek(s)) || peek(s) == '#';   /* "P65" is not P6 and 5 */
    *width = pnm_number(s, INT32_MAX);
    *height = pnm_number(s, INT32_MAX);
    p->maxval = pnm_number(s, INT32_MAX);
    if (!apart || *width < 0 || *height < 0 || p->maxval < 0)
        return pnm_broken(s, "expected width, height and the largest value");
    if (p->maxval < 1 || p->maxval > 65535) return pnm_broken(s, "expected a largest value from 1 to 65535");
    if (!p->plain && !is_space(peek(s))) return pnm_broken(s, "expected white space before the pixels");
    if (!p->plain) s->at++;
    p->bytes = p->plain || p->maxval > 255 ? 2 : 1;
    return SD_OK;
}

static sd_status pnm_row(source *s, const pnm *p, uint8_t *to)
{
    size_t n = (size_t)s->width * (p->rgb ? 3 : 1);
    if (!p->plain && take(s, p->raw, n * p->bytes) < n * p->bytes) return pnm_broken(s, "the file is cut off");
    const uint8_t *from = p->raw;
    for (size_t i = 0; i < n; i++) {
        int64_t v = p->plain ? pnm_number(s, p->maxval) : p->bytes == 2 ? (from[0] << 8 | from[1]) : *from;
        if (!p->plain) from += p->bytes;
        if (v < 0 && peek(s) < 0) return pnm_broken(s, "the file is cut off");
        if (v < 0 || v > p->maxval) return pnm_broken(s, "a sample is no number or exceeds the largest value");
        uint8_t sample = p->maxval == 255 ? (uint8_t)v : pnm_scale(v, p->maxval);
        for (int copies = p->rgb ? 1 : 3; copies; copies--) *to++ = sample;
    }
    return SD_OK;
}

static sd_status read_pnm(source *s)
{
    pnm p = {.raw = NULL};
    int64_t width, height;
    if (pnm_header(s, &p, &width, &height)) return s->e->status;
    uint64_t row = (uint64_t)width * (p.rgb ? 3 : 1) * p.bytes, begin = s->passed + s->at;
    if (check_claim(s, (uint64_t)width, (uint64_t)height, begin + row * (uint64_t)height)) return s->e->status;
    if (!begin_rows(s, (uint32_t)width, (uint32_t)height, 3, false)) return s->e->status;
    if (!p.plain && !(p.raw = malloc(row))) return sd_fail(s->e, SD_ERR_MEMORY, "no memory to read %s", s->name);
    for (size_t y = 0; y < (size_t)height && !sd_fail_if_stopped(s->e) && !pnm_row(s, &p, place_of(s, y)); y++)
        row_read(s);
    free(p.raw);
    return s->e->status;
}

/* ------------------------------------------------------------------------------------------- any */

typedef sd_status reader(source *s);

static const struct {
    const char *mark;
    size_t at, n;
    reader *read;        /* NULL: known by name only */
    const char *name;
} formats[] = {
    {"\x89PNG", 0, 4, read_png, "PNG"},
    {"\xFF\xD8\xFF", 0, 3, read_jpeg, "JPEG"},
    {"P2", 0, 2, read_pnm, "PGM"},
    {"P3", 0, 2, read_pnm, "PPM"},
    {"P5", 0, 2, read_pnm, "PGM"},
    {"P6", 0, 2, read_pnm, "PPM"},
    {"P1", 0, 2, NULL, "PBM"},
    {"P4", 0, 2, NULL, "PBM"},
    {"P7", 0, 2, NULL, "PAM"},
    {"GIF8", 0, 4, NULL, "GIF"},
    {"WEBP", 8, 4, NULL, "WebP"},
    {"ftyp", 4, 4, NULL, "HEIC, AVIF or a film"},
    {"BM", 0, 2, NULL, "BMP"},
    {"II*\0", 0, 4, NULL, "TIFF"},
    {"MM\0*", 0, 4, NULL, "TIFF"},
    {"jP  ", 4, 4, NULL, "JPEG 2000"},
    {"\xFF\x0A", 0, 2, NULL, "JPEG XL"},
};

/* The format's index in the table, or the table's length. */
static size_t format_of(const uint8_t *data, size_t n)
{
    for (size_t i = 0; i < SD_COUNT(formats); i++)
        if (n >= formats[i].at + formats[i].n && memcmp(data + formats[i].at, formats[i].mark, formats[i].n) == 0)
            return i;
    return SD_COUNT(formats);
}

static sd_status read_any(source *s)
{
    if (!more(s) && !s->e->status) return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: it is empty", s->name);
    if (s->e->status) return s->e->status;
    size_t i = format_of(s->data, s->n);
    if (i < SD_COUNT(formats)) {
        if (formats[i].read) return formats[i].read(s);
        return sd_fail(s->e, SD_ERR_UNSUPPORTED, "cannot read %s: expected PNG, JPEG, PGM or PPM, found %s", s->name,
                       formats[i].name);
    }
    return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: expected PNG, JPEG, PGM or PPM, found none of them", s->name);
}

/* Hands out the picture that was read row by row. False if it must be read again, as a whole. */
static bool hand_out_fitted(source *s, sd_image *out)
{
    bool turned = s->orientation != 1;   /* a PNG may only say so at its end */
    if (!s->rows || s->e->status || !s->opaque || turned) return false;
    sd_md5_hex(&s->md5, s->fitted->hash);
    sd_resampler_finish(s->rows, out, NULL, s->e);
    s->rows = NULL;
    return true;
}

static void hand_out_whole(source *s, sd_image *out)
{
    if (s->orientation == 1) {
        *out = s->picture;
        s->picture = (sd_image){0};
    } else {
        turn_upright(out, &s->picture, s->orientation, s->e);
    }
}

static void source_free(source *s)
{
    sd_image_free(&s->picture);
    sd_resampler_free(s->rows);
    free(s->line);
    free(s->window);
    if (s->f) fclose(s->f);
}

/* *again: the file must be read again from the beginning, as a whole. */
static sd_status read_once(source *s, sd_image *out, bool *again)
{
    *again = false;
    if (read_any(s) || s->look) return s->e->status;
    if (!s->rows) hand_out_whole(s, out);
    else *again = !hand_out_fitted(s, out);
    return s->e->status;
}

sd_status sd_image_load_memory(sd_image *out, const void *data, size_t n, const char *name, sd_fitted *fitted,
                               bool *unended, sd_error *e)
{
    bool again = false;
    memset(out, 0, sizeof *out);
    if (unended) *unended = false;
    if (fitted) *fitted->hash = 0;
    do {
        source s = {.data = data, .n = n, .size = n, .name = name, .e = e, .orientation = 1,
                    .fitted = again ? NULL : fitted};
        if (e->status) return e->status;
        read_once(&s, out, &again);
        if (unended && !e->status) *unended = s.unended;
        source_free(&s);
    } while (again && !e->status);
    return e->status;
}

/* Does the beginning look like a picture? If not, the rest is not read. */
static bool is_picture(const char *data, size_t n)
{
    size_t i = format_of((const uint8_t *)data, n);
    return i < SD_COUNT(formats) && formats[i].read;
}

/* A file whose length is known is read through a window. */
static sd_status open_file(source *s, const char *path, uint64_t bytes, sd_error *e)
{
    *s = (source){.size = (size_t)bytes, .name = path, .e = e, .orientation = 1};
    if (bytes > MAX_FILE)
        return sd_fail(e, SD_ERR_FORMAT, "%s is larger than the %zu bytes such a file may have", path, MAX_FILE);
    s->window = malloc(WINDOW);
    if (!s->window) return sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
    s->f = fopen(path, "rb");
    return s->f ? SD_OK : sd_fail(e, sd_errno_status(errno), "cannot open %s: %s", path, strerror(errno));
}

static bool has_length(const char *path, uint64_t *bytes)
{
    return sd_os_look(path, bytes) == SD_OS_FILE && *bytes > 0;
}

sd_status sd_image_load(sd_image *out, const char *path, sd_fitted *fitted, bool *unended, sd_error *e)
{
    char *data;
    size_t n;
    uint64_t bytes = 0;
    bool again = false;
    memset(out, 0, sizeof *out);
    if (unended) *unended = false;
    if (fitted) *fitted->hash = 0;
    if (e->status) return e->status;
    if (!has_length(path, &bytes)) {
        if (sd_read_file_if(path, MAX_FILE, is_picture, &data, &n, e)) return e->status;
        sd_image_load_memory(out, data, n, path, fitted, unended, e);
        free(data);
        return e->status;
    }
    do {
        source s;
        if (!open_file(&s, path, bytes, e)) {
            s.fitted = again ? NULL : fitted;
            read_once(&s, out, &again);
            if (unended && !e->status) *unended = s.unended;
        }
        source_free(&s);
    } while (again && !e->status);
    return e->status;
}

sd_status sd_image_sides(int *width, int *height, const char *path, sd_error *e)
{
    uint64_t bytes = 0;
    *width = *height = 0;
    if (e->status || !has_length(path, &bytes)) return e->status;
    source s;
    if (!open_file(&s, path, bytes, e)) {
        s.look = true;
        if (!read_any(&s)) {
            bool swap = turns[s.orientation].swap;
            *width = swap ? s.height : s.width;
            *height = swap ? s.width : s.height;
        }
    }
    source_free(&s);
    return e->status;
}
