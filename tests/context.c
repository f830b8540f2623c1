/* context.c - contexts and parameters for tests of sd.h. */
#include "test.h"
#include "context.h"

sd_ctx *open_context(const sd_options *options, sd_status want)
{
    sd_options o = *options;
    sd_ctx *c;
    if (!o.model) o.model = "weights/tiny";
    sd_status status = sd_open(&c, &o);
    if (status != want) fail_msg("%s: %s instead of %s", o.model, sd_error_text(c), sd_status_name(want));
    return c;
}

sd_ctx *open_tiny(unsigned parts, int threads)
{
    sd_options o;
    sd_options_init(&o);
    o.parts = parts;
    if (threads) o.threads = threads;
    return open_context(&o, SD_OK);
}

sd_params short_run(const char *prompt, int side)
{
    sd_params p;
    sd_params_init(&p);
    p.prompt = prompt;
    p.width = p.height = side;
    p.seed = 7;
    p.sampling.steps = 2;
    p.sampling.sampler = "ddim";
    return p;
}

sd_image draw_and_encode(sd_ctx *c, float posterior[2 * ENCODED])
{
    enum { NUMBERS = 3 * 8 * ENCODED_SIDE * 8 * ENCODED_SIDE };
    static float ramp[NUMBERS];
    sd_params p;
    sd_image image;
    for (int i = 0; i < NUMBERS; i++) ramp[i] = (float)(i % 509) / 254 - 1;
    sd_params_init(&p);
    p.prompt = "a red apple";
    p.sampling.steps = 4;
    if (sd_generate(c, &p, &image) != SD_OK) fail_msg("%s", sd_error_text(c));
    assert_int_equal(sd_vae_encode(c, 1, ENCODED_SIDE, ENCODED_SIDE, ramp, posterior, posterior + ENCODED), SD_OK);
    return image;
}
