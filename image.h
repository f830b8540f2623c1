/* image.h - floor 3: pictures in files. */
#ifndef SD_IMAGE_H
#define SD_IMAGE_H

#include "base.h"

/* 8-bit RGB [height,width,3] as .png or .ppm, by the path's ending, atomically. `text` (UTF-8, may be NULL) becomes
 * the PNG's `parameters`; a PPM has no place for it. */
sd_status sd_image_save(const char *path, int width, int height, const uint8_t *rgb, const char *text, sd_error *e);

#endif
