/* pictures.c - see pictures.h */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>

#include "test.h"

static sd_image new_image(int width, int height)
{
    sd_image i = {width, height, 3, malloc(3 * (size_t)width * (size_t)height)};
    assert_non_null(i.data);
    return i;
}

sd_image golden_picture(int width, int height)
{
    sd_image i = new_image(width, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < 3; k++)
                i.data[(y * width + x) * 3 + k] = (uint8_t)((5 * x + 3 * y + 70 * k + x * y / 8) % 256);
    return i;
}

sd_image golden_mask(int width, int height)
{
    sd_image i = new_image(width, height);
    for (int p = 0; p < width * height; p++) {
        int x = p % width - 30, y = p / width - 18, d = x * x + y * y;
        memset(i.data + 3 * p, d < 100 ? 255 : d < 169 ? 128 : d < 225 ? 127 : 0, 3);
    }
    return i;
}
