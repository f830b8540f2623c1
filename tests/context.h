/* context.h - what tests of sd.h begin with: a context of the model in the box, and parameters of a short run. */
#ifndef SD_TEST_CONTEXT_H
#define SD_TEST_CONTEXT_H

#include "../sd.h"

/* weights/tiny, the model in the box; parts and threads as in sd_options, 0: the default. Fails the test if it cannot
 * be opened. */
sd_ctx *open_tiny(unsigned parts, int threads);
/* The same by other options; o->model NULL: weights/tiny. Fails the test if the status is another one. */
sd_ctx *open_context(const sd_options *o, sd_status want);

/* A square picture in two steps of ddim, with seed 7. */
sd_params short_run(const char *prompt, int side);

/* A guided picture in four steps, to be freed, and of another picture the encoder's posterior: its mean, then its
 * logarithm of variance. Fails the test if one cannot be had. */
enum { ENCODED_SIDE = 8, ENCODED = 4 * ENCODED_SIDE * ENCODED_SIDE };
sd_image draw_and_encode(sd_ctx *c, float posterior[2 * ENCODED]);

#endif
