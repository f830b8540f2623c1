/* image_read.c - floor 3: pictures out of files: PNG, JPEG, PNM, told apart by their first bytes.
 *
 * What a file claims is checked before anything is allocated for it. libpng and libjpeg report through longjmp: what
 * must survive one lies in a struct of the caller, never in a variable of the function that called setjmp. */
#include "image_transform.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE ((size_t)INT32_MAX)

typedef struct source {
    const uint8_t *data;
    size_t n, at;
    const char *name;
    sd_error *e;
    sd_image picture;   /* as stored, before orientation is applied */
    int orientation;      /* EXIF's, 1..8 */
    bool no_memory;       /* an allocation of libpng's failed */
    bool complete;        /* a PNG whose pixels have all been read */
    bool unended;         /* ... and whose end is missing */
} source;

/* To be called before anything is allocated for a picture. `need`: the fewest bytes a file with such a one can have. */
static sd_status check_claim(const source *s, uint64_t width, uint64_t height, uint64_t need)
{
    if (width < 1 || height < 1 || width > SD_IMAGE_SIDE || height > SD_IMAGE_SIDE)
        return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: it claims %llux%llu pixels, expected sides from 1 to %d",
                       s->name, (unsigned long long)width, (unsigned long long)height, SD_IMAGE_SIDE);
    if (need > s->n)
        return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: %zu bytes are too few for %dx%d pixels: it is cut off",
                       s->name, s->n, (int)width, (int)height);
    return SD_OK;
}

/* ----------------------------------------------------------------------------------- orientation */

static unsigned u16_of(const uint8_t *p, bool little)
{
    return little ? p[0] | (unsigned)p[1] << 8 : p[1] | (unsigned)p[0] << 8;
}

#if defined(SD_WITH_PNG) || defined(SD_WITH_JPEG)
static uint32_t u32_of(const uint8_t *p, bool little)
{
    uint32_t a = u16_of(p, little), b = u16_of(p + 2, little);
    return little ? b << 16 | a : a << 16 | b;
}

/* Tag 0x112 of the first directory of a TIFF header, which is what EXIF is; 1 (upright) if there is none that makes
 * sense. */
static int tiff_orientation(const uint8_t *t, size_t n)
{
    if (n < 8 || (memcmp(t, "II*\0", 4) != 0 && memcmp(t, "MM\0*", 4) != 0)) return 1;
    bool little = t[0] == 'I';
    size_t at = u32_of(t + 4, little);
    if (at > n - 2) return 1;
    unsigned entries = u16_of(t + at, little);
    for (at += 2; entries && at <= n && n - at >= 12; entries--, at += 12) {
        unsigned type = u16_of(t + at + 2, little);
        if (u16_of(t + at, little) != 0x112 || (type != 3 && type != 4)) continue;   /* SHORT, or a LONG by mistake */
        uint32_t v = type == 3 ? u16_of(t + at + 8, little) : u32_of(t + at + 8, little);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}
#endif

/* EXIF 2.3, table "Orientation": whether rows and columns change places, and which way the stored picture is then
 * read. */
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
    for (int y = 0; y < out->height && !sd_stopped(e); y++)
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
    if (n > s->n - s->at) {
        s->unended = s->complete;   /* nothing that is needed is lost */
        png_error(png, "the file is cut off");
    }
    memcpy(to, s->data + s->at, n);
    s->at += n;
}

static sd_status decode_png(png_structp png, png_infop info, source *s)
{
    if (setjmp(png_jmpbuf(png))) return s->e->status;   /* none where only the end is missing */
    png_set_read_fn(png, s, png_take);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);   /* check_claim says it more clearly */
#ifdef PNG_HANDLE_AS_UNKNOWN_SUPPORTED
    png_byte exif[] = "eXIf";   /* of what the pixels do not need only this is read: text and profiles may be bombs */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_AS_DEFAULT, exif, 1);
#endif
    png_read_info(png, info);
    png_uint_32 width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    /* deflate packs at most 1032 bytes into one */
    if (check_claim(s, width, height, (uint64_t)png_get_rowbytes(png, info) * height / 1032)) return s->e->status;

    /* Every kind as RGB or RGBA with 8 bits. Of 16 bits the high byte is kept: v/257 rounded would be nearer by up
     * to half a step, but Pillow, and so whoever feeds the file to diffusers, has the high byte. Gamma and profiles
     * are ignored. */
    png_set_expand(png);        /* palette to RGB, low bit depths to 8, transparent colours to alpha */
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (sd_image_new(&s->picture, (int)width, (int)height, png_get_channels(png, info), s->e)) return s->e->status;
    size_t stride = (size_t)width * (size_t)s->picture.channels;
    if (png_get_rowbytes(png, info) != stride) png_error(png, "unexpected row size");
    for (; passes > 0; passes--)
        for (png_uint_32 y = 0; y < height; y++) {
            if (sd_stopped(s->e)) return s->e->status;
            png_read_row(png, s->picture.data + y * stride, NULL);
        }
    s->complete = true;
    png_read_end(png, info);    /* eXIf may stand after the pixels */
    return SD_OK;
}

static int png_orientation(png_structp png, png_infop info)
{
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 n = 0;
    png_bytep tiff = NULL;
    if (png_get_eXIf_1(png, info, &n, &tiff)) return tiff_orientation(tiff, n);
#endif
    (void)png, (void)info;
    return 1;
}

static sd_status read_png(source *s)
{
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, s, png_failed, png_warned, &s->no_memory,
                                               sd_png_allocate,
                                               sd_png_give_back);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) sd_fail(s->e, SD_ERR_MEMORY, "no memory to read %s", s->name);
    else if (!decode_png(png, info, s)) s->orientation = png_orientation(png, info);
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

#define MAX_SCANS 500   /* progressive files have about ten; thousands of empty ones are an attack on the clock */

typedef struct jpeg_job {
    struct jpeg_error_mgr errors;   /* first: libjpeg hands back a pointer to it */
    struct jpeg_progress_mgr progress;
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

/* In place of what would print. libjpeg warns where data is lost and goes on with grey; a reference stops. Harmless are
 * the oddities of some cameras and editors. */
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
    if (sd_stopped(j->s->e)) longjmp(((jpeg_job *)c->err)->jump, 1);
    if (!c->is_decompressor || ((j_decompress_ptr)c)->input_scan_number <= MAX_SCANS) return;
    sd_fail(j->s->e, SD_ERR_FORMAT, "cannot read %s: broken JPEG: more than %d scans", j->s->name, MAX_SCANS);
    longjmp(((jpeg_job *)c->err)->jump, 1);
}

/* Ink to light. Files hold 255 - ink: Adobe's habit, which Pillow takes for granted with or without Adobe's marker. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (; n; n--, rgb += 3, cmyk += 4)
        for (int i = 0; i < 3; i++) rgb[i] = (uint8_t)(cmyk[3] - sd_div255((255u - cmyk[i]) * cmyk[3]));
}

static int jpeg_orientation(const struct jpeg_decompress_struct *c)
{
    for (jpeg_saved_marker_ptr m = c->marker_list; m; m = m->next)
        if (m->data_length > 6 && memcmp(m->data, "Exif\0", 6) == 0)
            return tiff_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

static sd_status decode_jpeg(struct jpeg_decompress_struct *c, jpeg_job *j)
{
    source *s = j->s;
    if (setjmp(j->jump)) return s->e->status;
    jpeg_create_decompress(c);
    c->progress = &j->progress;
    jpeg_mem_src(c, (unsigned char *)(uintptr_t)s->data, (unsigned long)s->n);   /* older headers lack the const */
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(c, TRUE);
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    if (c->jpeg_color_space == JCS_UNKNOWN)
        return sd_fail(s->e, SD_ERR_UNSUPPORTED, "cannot read %s: expected grey, YCbCr, RGB or CMYK, found %d channels",
                       s->name, c->num_components);
    c->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    if (check_claim(s, c->image_width, c->image_height, 0)) return s->e->status;
    /* what comes in several scans is kept as coefficients of 16 bits until the last one */
    double kept = jpeg_has_multiple_scans(c) ? 2.0 * c->num_components * c->image_width * c->image_height : 0;
    if (sd_need_memory(s->e, kept, "reading %s, a progressive JPEG of %dx%d pixels,", s->name,
                       (int)c->image_width, (int)c->image_height)) return s->e->status;
    if (sd_image_new(&s->picture, (int)c->image_width, (int)c->image_height, 3, s->e)) return s->e->status;
    jpeg_start_decompress(c);
    JSAMPARRAY line = cmyk ? c->mem->alloc_sarray((j_common_ptr)c, JPOOL_IMAGE, c->output_width * 4, 1) : NULL;
    while (c->output_scanline < c->output_height) {
        if (sd_stopped(s->e)) return s->e->status;
        JSAMPROW row = s->picture.data + (size_t)c->output_scanline * c->output_width * 3;
        jpeg_read_scanlines(c, cmyk ? line : &row, 1);
        if (cmyk) cmyk_to_rgb(row, line[0], c->output_width);
    }
    s->orientation = jpeg_orientation(c);   /* before the next call, which forgets the markers */
    jpeg_finish_decompress(c);              /* a missing end is an error */
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

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next number, after white space and comments, or -1 if there is none of at most `max`. */
static int64_t pnm_number(source *s, int64_t max)
{
    int64_t v = 0;
    for (; s->at < s->n && (is_space(s->data[s->at]) || s->data[s->at] == '#'); s->at++)
        if (s->data[s->at] == '#')
            while (s->at + 1 < s->n && s->data[s->at] != '\n' && s->data[s->at] != '\r') s->at++;
    if (s->at == s->n || !isdigit(s->data[s->at])) return -1;
    for (; s->at < s->n && isdigit(s->data[s->at]); s->at++) {
        v = v * 10 + (s->data[s->at] - '0');
        if (v > max) return -1;
    }
    return v;
}

static sd_status pnm_broken(source *s, const char *what)
{
    return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: broken PNM: %s", s->name, what);
}

/* A sample as 8 bits, in Pillow's order of operations: a half goes to the even number. */
static uint8_t pnm_scale(int64_t v, int64_t maxval) { return (uint8_t)rint((double)v / (double)maxval * 255.0); }

static sd_status read_pnm(source *s)
{
    enum { LOOK = 1 << 20 };   /* samples between two looks at whether to stop */
    bool plain = s->data[1] < '4', rgb = s->data[1] == '3' || s->data[1] == '6';
    s->at = 2;
    int64_t width = pnm_number(s, INT32_MAX), height = pnm_number(s, INT32_MAX), maxval = pnm_number(s, INT32_MAX);
    bool apart = s->n > 2 && (is_space(s->data[2]) || s->data[2] == '#');   /* "P65" is not P6 and 5 */
    if (!apart || width < 0 || height < 0 || maxval < 0)
        return pnm_broken(s, "expected width, height and the largest value");
    if (maxval < 1 || maxval > 65535) return pnm_broken(s, "expected a largest value from 1 to 65535");
    if (!plain && (s->at == s->n || !is_space(s->data[s->at++])))
        return pnm_broken(s, "expected white space before the pixels");

    size_t bytes = plain || maxval > 255 ? 2 : 1;   /* of a sample; plain: white space and a digit at least */
    uint64_t samples = (uint64_t)width * (uint64_t)height * (rgb ? 3 : 1);
    if (check_claim(s, (uint64_t)width, (uint64_t)height, s->at + samples * bytes)) return s->e->status;
    if (sd_image_new(&s->picture, (int)width, (int)height, 3, s->e)) return s->e->status;

    uint8_t *to = s->picture.data;
    for (uint64_t i = 0; i < samples; i++) {
        if (i % LOOK == 0 && sd_stopped(s->e)) return s->e->status;
        const uint8_t *from = s->data + s->at;
        int64_t v;
        if (plain) {
            v = pnm_number(s, maxval);
        } else {
            v = bytes == 2 ? u16_of(from, false) : from[0];
            s->at += bytes;
        }
        if (v < 0 && s->at == s->n) return pnm_broken(s, "the file is cut off");
        if (v < 0 || v > maxval) return pnm_broken(s, "a sample is no number or exceeds the largest value");
        uint8_t sample = maxval == 255 ? (uint8_t)v : pnm_scale(v, maxval);
        for (int copies = rgb ? 1 : 3; copies; copies--) *to++ = sample;
    }
    return SD_OK;
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

/* Its place in the table, or the table's length. */
static size_t format_of(const uint8_t *data, size_t n)
{
    for (size_t i = 0; i < SD_COUNT(formats); i++)
        if (n >= formats[i].at + formats[i].n && memcmp(data + formats[i].at, formats[i].mark, formats[i].n) == 0)
            return i;
    return SD_COUNT(formats);
}

static sd_status read_any(source *s)
{
    if (s->n == 0) return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: it is empty", s->name);
    size_t i = format_of(s->data, s->n);
    if (i < SD_COUNT(formats)) {
        if (formats[i].read) return formats[i].read(s);
        return sd_fail(s->e, SD_ERR_UNSUPPORTED, "cannot read %s: expected PNG, JPEG, PGM or PPM, found %s", s->name,
                       formats[i].name);
    }
    return sd_fail(s->e, SD_ERR_FORMAT, "cannot read %s: expected PNG, JPEG, PGM or PPM, found none of them", s->name);
}

sd_status sd_image_load_memory(sd_image *out, const void *data, size_t n, const char *name, bool *unended,
                               sd_error *e)
{
    memset(out, 0, sizeof *out);
    if (unended) *unended = false;
    if (e->status) return e->status;
    source s = {.data = data, .n = n, .name = name, .e = e, .orientation = 1};
    if (read_any(&s)) {
        sd_image_free(&s.picture);
        return e->status;
    }
    if (unended) *unended = s.unended;
    if (s.orientation == 1) {
        *out = s.picture;
        return SD_OK;
    }
    turn_upright(out, &s.picture, s.orientation, e);
    sd_image_free(&s.picture);
    return e->status;
}

/* Whether it is worth reading on: not the rest of a file whose beginning says enough. */
static bool is_picture(const char *data, size_t n)
{
    size_t i = format_of((const uint8_t *)data, n);
    return i < SD_COUNT(formats) && formats[i].read;
}

sd_status sd_image_load(sd_image *out, const char *path, bool *unended, sd_error *e)
{
    char *data;
    size_t n;
    memset(out, 0, sizeof *out);
    if (e->status || sd_read_file_if(path, MAX_FILE, is_picture, &data, &n, e)) return e->status;
    sd_image_load_memory(out, data, n, path, unended, e);
    free(data);
    return e->status;
}
