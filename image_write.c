/* image_write.c - floor 3: pictures into files. */
#include "image.h"
#include "image_transform.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------- PNG */

#ifdef SD_WITH_PNG
#include "image_png.h"
#include <setjmp.h>
#include <zlib.h>

/* Converts UTF-8 to Latin-1, the encoding of tEXt, in place. False, and nothing changes, if it has other characters. */
static bool to_latin1(char *s)
{
    for (const unsigned char *c = (const unsigned char *)s; *c; c++) {
        if (*c < 0x80) continue;
        if ((*c != 0xC2 && *c != 0xC3) || (c[1] & 0xC0) != 0x80) return false;   /* U+0080 to U+00FF take two bytes */
        c++;
    }
    unsigned char *to = (unsigned char *)s;
    for (const unsigned char *c = to; *c; c++) {
        bool two = *c >= 0x80;
        *to++ = two ? (unsigned char)((*c & 3u) << 6 | (c[1] & 0x3Fu)) : *c;
        c += two;
    }
    *to = 0;
    return true;
}

typedef struct png_job {
    const char *path;
    sd_error *e;
    FILE *f;
    const sd_image *image;
    char *text;        /* NULL: none */
    bool is_latin1;
    bool no_memory;    /* an allocation by libpng failed */
} png_job;

static void on_error(png_structp png, png_const_charp message)
{
    const png_job *j = png_get_error_ptr(png);
    if (j->no_memory) sd_fail(j->e, SD_ERR_MEMORY, "no memory to write %s", j->path);
    else sd_fail(j->e, SD_ERR_IO, "cannot write %s: %s", j->path, ferror(j->f) && errno ? strerror(errno) : message);
    png_longjmp(png, 1);
}

/* libpng warns of text outside its recommended characters but writes it all the same. Its own function would print. */
static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

/* The text goes where PIL.PngImagePlugin.PngInfo.add_text, and so A1111, puts it: tEXt if it is Latin-1, else iTXt,
 * neither compressed. */
static void put_text(png_structp png, png_infop info, const png_job *j)
{
    char key[] = "parameters", none[] = "";
    png_text t = {.compression = PNG_TEXT_COMPRESSION_NONE, .key = key, .text = j->text};
    if (j->is_latin1) {
        t.text_length = strlen(j->text);
    } else {
        t.compression = PNG_ITXT_COMPRESSION_NONE;
        t.itxt_length = strlen(j->text);
        t.lang = t.lang_key = none;
    }
    png_set_text(png, info, &t, 1);
}

/* libpng's errors return through setjmp, so this function changes none of its variables after it. */
static sd_status encode_png(png_structp png, png_infop info, const png_job *j)
{
    static const int types[] = {[1] = PNG_COLOR_TYPE_GRAY, [3] = PNG_COLOR_TYPE_RGB, [4] = PNG_COLOR_TYPE_RGB_ALPHA};
    const sd_image *p = j->image;
    if (setjmp(png_jmpbuf(png))) return j->e->status;
    png_init_io(png, j->f);
    png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, 8, types[p->channels], PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    /* Of repetitions zlib looks for runs only. A drawn picture has hardly others once its rows are filtered: it is
     * written in a quarter of the time, and a little smaller. */
    png_set_compression_strategy(png, Z_RLE);
    if (j->text) put_text(png, info, j);
    png_write_info(png, info);
    for (int y = 0; y < p->height; y++) {
        if (sd_fail_if_stopped(j->e)) return j->e->status;
        png_write_row(png, p->data + (size_t)y * (size_t)p->width * (size_t)p->channels);
    }
    png_write_end(png, NULL);
    return SD_OK;
}

static sd_status write_png(FILE *f, const char *path, const sd_image *image, const char *text, sd_error *e)
{
    png_job j = {.path = path, .e = e, .f = f, .image = image};
    if (text) {
        j.text = sd_strdup(text);
        j.is_latin1 = j.text && to_latin1(j.text);
        /* Other programs put UTF-8 into tEXt. So Latin-1 that could be taken for UTF-8 goes into iTXt too. */
        size_t n = j.is_latin1 ? strlen(j.text) : 0;
        if (n < strlen(text) && j.is_latin1 && sd_is_utf8(j.text, n)) {
            memcpy(j.text, text, strlen(text) + 1);
            j.is_latin1 = false;
        }
    }
    png_structp png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning, &j.no_memory,
                                                sd_png_allocate, sd_png_give_back);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info || (text && !j.text)) sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path);
    else encode_png(png, info, &j);
    png_destroy_write_struct(&png, &info);
    free(j.text);
    return e->status;
}
#else
static sd_status write_png(FILE *f, const char *path, const sd_image *image, const char *text, sd_error *e)
{
    (void)f, (void)image, (void)text;
    return sd_fail(e, SD_ERR_UNSUPPORTED,
                   "cannot write %s: this build has no libpng (PNG=0); give the file the ending .ppm", path);
}
#endif

/* ---------------------------------------------------------------------------------------- PPM */

/* The format has no place for alpha or text, so both are left out. */
static sd_status write_ppm(FILE *f, const char *path, const sd_image *image, const char *text, sd_error *e)
{
    sd_image rgb = *image, own = {0};
    (void)text;
    if (image->channels != 3) {
        if (sd_image_to_rgb(&own, image, NULL, e)) return e->status;
        rgb = own;
    }
    size_t bytes = (size_t)rgb.width * (size_t)rgb.height * 3;
    if (fprintf(f, "P6\n%d %d\n255\n", rgb.width, rgb.height) < 0 || fwrite(rgb.data, 1, bytes, f) != bytes)
        sd_fail(e, SD_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    sd_image_free(&own);
    return e->status;
}

/* ------------------------------------------------------------------------------------- either */

typedef sd_status writer(FILE *f, const char *path, const sd_image *image, const char *text, sd_error *e);
static const struct { const char *ending; writer *write; } writers[] = {
#ifdef SD_WITH_PNG
    {".png", write_png}, {".ppm", write_ppm},
#else
    {".ppm", write_ppm}, {".png", write_png},
#endif
};

/* Chooses by the ending of the name. A pipe or a device needs no ending, and gets the first writer. */
static writer *writer_of(const char *path)
{
    for (size_t i = 0; i < SD_COUNT(writers); i++)
        if (sd_has_ending(path, writers[i].ending)) return writers[i].write;
    return sd_is_stream(path) ? writers[0].write : NULL;
}

sd_status sd_image_save(const char *path, const sd_image *image, const char *text, sd_error *e)
{
    sd_outfile o;
    writer *write = writer_of(path);
    if (e->status) return e->status;
    if (!write)
        return sd_fail(e, SD_ERR_ARG, "cannot tell the format of %s: expected a name that ends in .png or .ppm", path);
    if (image->width < 1 || image->height < 1 || (uint64_t)image->width * (uint64_t)image->height > SIZE_MAX / 4)
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: a picture of %dx%d pixels", path, image->width, image->height);
    if (sd_outfile_open(&o, path, e)) return e->status;
    if (write(o.f, path, image, text, e)) sd_outfile_abort(&o);
    else sd_outfile_commit(&o, e);
    return e->status;
}
