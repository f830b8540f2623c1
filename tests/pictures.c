/* pictures.c - see pictures.h */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "../selftest_synth.h"

sd_image golden_picture(int width, int height)
{
    sd_image i;
    assert_int_equal(sd_synth_picture(&i, width, height), SD_OK);
    return i;
}

sd_image golden_mask(int width, int height)
{
    sd_image i;
    assert_int_equal(sd_synth_mask(&i, width, height), SD_OK);
    return i;
}
