/* image_png.h - floor 3: memory for libpng, for reading and writing. */
#ifndef SD_IMAGE_PNG_H
#define SD_IMAGE_PNG_H

#include <stdbool.h>
#include <stdlib.h>

#include <png.h>

/* libpng reports a failed allocation like any other error. So png_create_*_struct_2 gets a pointer to a bool as its
 * mem_ptr, and the bool becomes true if an allocation fails. */
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
