/* image_exif.h - floor 3: what EXIF says of a picture. */
#ifndef SD_IMAGE_EXIF_H
#define SD_IMAGE_EXIF_H

#include "base.h"

/* 1..8 [EXIF 2.3, table "Orientation"]; 1 (upright) if there is none that makes sense. */
int sd_exif_orientation(const uint8_t *tiff, size_t n);

/* UserComment as it stands there: eight bytes that name its code, then the text. *n_bytes is 0 if there is none. False:
 * it would lie outside. */
bool sd_exif_comment(const uint8_t **bytes, size_t *n_bytes, const uint8_t *tiff, size_t n);

#endif
