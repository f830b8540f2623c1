/* image_png.h - floor 3: memory for libpng, for those who read with it and who write. */
#ifndef SD_IMAGE_PNG_H
#define SD_IMAGE_PNG_H

#include <stdbool.h>
#include <stdlib.h>

#include <png.h>

/* libpng calls what it cannot allocate an error like any other. png_create_*_struct_2 is given a bool as its memory's
 * pointer: it becomes true then. */
static inline png_voidp sd_png_allocate(png_structp png, png_alloc_size_t n)
{
    bool *no_memory = png_get_mem_ptr(png);
    void *p = malloc(n);
    if (!p) *no_memory = true;
    return p;
}

static inline void sd_png_give_back(png_structp png, png_voidp p)
{
    (void)png;
    free(p);
}

#endif
