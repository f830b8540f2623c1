/* image.h - floor 3: pictures in files. */
#ifndef SD_IMAGE_H
#define SD_IMAGE_H

#include "base.h"

/* 8-bit RGB as .png (with a `parameters` text if not NULL) or .ppm, by the path's ending; atomically. */
sd_status sd_image_save(const char *path, int width, int height, const uint8_t *rgb, const char *text, sd_error *e);

#endif
