/* pictures.h - test helper: the picture and the mask of tools/golden_edit.py. Free them with sd_image_free. */
#ifndef PICTURES_H
#define PICTURES_H

#include "../sd.h"

sd_image golden_picture(int width, int height);
/* A disc, white within, with a rim of 128, which is repainted, and one of 127, which is kept. */
sd_image golden_mask(int width, int height);

#endif
