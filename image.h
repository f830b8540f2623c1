/* image.h - floor 3: pictures in files. */
#ifndef SD_IMAGE_H
#define SD_IMAGE_H

#include "base.h"

/* Writes .png or .ppm, by the path's ending, atomically. `text` (UTF-8, may be NULL) becomes the PNG's `parameters`; a
 * PPM has no place for it, nor for alpha. */
sd_status sd_image_save(const char *path, const sd_image *image, const char *text, sd_error *e);

/* ---- image_text.c: the text of settings that a PNG keeps (`parameters` in tEXt, zTXt or iTXt), or a JPEG or a WebP
 * (EXIF's UserComment, or as stable-diffusion.cpp writes it), as UTF-8; if the file is none of them but a text, all of
 * it. free(*text), which is NULL on failure. SD_ERR_MISSING: a picture without such a text. `path` names the file in
 * error texts. */
sd_status sd_image_text(char **text, const char *path, sd_error *e);
sd_status sd_image_text_memory(char **text, const void *data, size_t n, const char *path, sd_error *e);

#endif
