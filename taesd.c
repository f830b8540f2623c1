/* taesd.c - floor 4: a TAESD, a small autoencoder that stands for a VAE: steps and forward functions [Ollin Boer Bohan,
 * madebyollin/taesd; diffusers AutoencoderTiny].
 *
 * Its latents are the UNet's own, without a scaling factor, and it has no posterior: a picture has one encoding.
 * Within, pictures are in [0,1]; what goes in and comes out here is in [-1,1], as of a VAE. */
#include "net.h"

/* Paths are diffusers'; the author's files number the decoder's layers from 1, for there 0 is the clamp. */
static sd_step *layer(sd_net_steps *p, sd_step_kind kind, int ci, int co, bool decoder, int number)
{
    sd_step *s = sd_step_add(p, kind, ci, co, "%s.layers.%d", decoder ? "decoder" : "encoder", number);
    sd_step_ldm(s, "%d", number + decoder);
    return s;
}

/* Each level but the first begins with a convolution that halves the picture. */
static void walk_encoder(sd_net_steps *p, const sd_vae_config *c)
{
    const sd_tiny_way *way = &c->tiny_encoder;
    int n = 0, w = way->width;
    layer(p, SD_STEP_CONV_IN, c->in_channels, w, false, n++);
    for (int level = 0; level < way->levels; level++) {
        if (level) layer(p, SD_STEP_DOWN, w, w, false, n++);
        for (int i = 0; i < way->blocks[level]; i++) layer(p, SD_STEP_TINY, w, w, false, n++);
    }
    layer(p, SD_STEP_CONV_OUT, w, c->latent_channels, false, n);
}

/* Each level but the last ends with an enlargement, which has a number of its own, and a convolution. */
static void walk_decoder(sd_net_steps *p, const sd_vae_config *c)
{
    const sd_tiny_way *way = &c->tiny_decoder;
    int n = 0, w = way->width;
    layer(p, SD_STEP_CONV_IN, c->latent_channels, w, true, n++);
    layer(p, SD_STEP_RELU, w, w, true, n++);
    for (int level = 0; level < way->levels; level++) {
        for (int i = 0; i < way->blocks[level]; i++) layer(p, SD_STEP_TINY, w, w, true, n++);
        if (level == way->levels - 1) break;
        layer(p, SD_STEP_UP, w, w, true, n + 1);
        n += 2;
    }
    layer(p, SD_STEP_CONV_OUT, w, c->out_channels, true, n);
}

void sd_taesd_walk(sd_vae *v)
{
    v->encoder.dims = v->decoder.dims = (sd_net_dims){.tiny = true};
    if (v->cfg.tiny_encoder.levels) walk_encoder(&v->encoder.steps, &v->cfg);
    if (v->cfg.tiny_decoder.levels) walk_decoder(&v->decoder.steps, &v->cfg);
}

/* y = 2 layers(3 tanh(x/3)) - 1 [diffusers DecoderTiny]; the 3 is in its code, whatever latent_magnitude says. */
sd_tensor sd_taesd_decoder(sd_run *r, const sd_vae *v, sd_tensor latents)
{
    sd_act_(r, latents, SD_ACT_SOFT_CLAMP);
    sd_flow f = {.x = latents};
    sd_net_forward(r, &v->decoder, &f, 0, v->decoder.steps.n);
    sd_act_(r, f.x, SD_ACT_FROM_UNIT);
    return f.x;
}

/* z = layers((x + 1)/2) [diffusers EncoderTiny] */
sd_tensor sd_taesd_encoder(sd_run *r, const sd_vae *v, sd_tensor picture)
{
    sd_act_(r, picture, SD_ACT_TO_UNIT);
    sd_flow f = {.x = picture};
    sd_net_forward(r, &v->encoder, &f, 0, v->encoder.steps.n);
    return f.x;
}
