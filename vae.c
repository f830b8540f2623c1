/* vae.c - floor 4: the autoencoder's encoder and decoder: steps and forward functions [Rombach et al. 2022, appendix G;
 * diffusers AutoencoderKL]. */
#include "net.h"

#include <string.h>

/* The VAE was trained with it (CompVis model.py); the UNet's resnets have 1e-5: trap 1 in docs/TRAPS.md. */
static const double VAE_NORM_EPS = 1e-6;

static void middle(sd_net_steps *p, const sd_vae_config *c, const char *part)
{
    int ch = c->channels[c->levels - 1];
    sd_step_ldm(sd_step_add(p, SD_STEP_RES, ch, ch, "%s.mid_block.resnets.0", part), "%s.mid.block_1", part);
    if (c->mid_attention)
        sd_step_ldm(sd_step_add(p, SD_STEP_VAE_ATTN, ch, ch, "%s.mid_block.attentions.0", part), "%s.mid.attn_1", part);
    sd_step_ldm(sd_step_add(p, SD_STEP_RES, ch, ch, "%s.mid_block.resnets.1", part), "%s.mid.block_2", part);
}

/* A step whose name is the same in both conventions. */
static void plain(sd_net_steps *p, sd_step_kind kind, int ci, int co, const char *name)
{
    sd_step_ldm(sd_step_add(p, kind, ci, co, "%s", name), "%s", name);
}

static void walk_encoder(sd_net_steps *p, const sd_vae_config *c)
{
    int ch = c->channels[0], moments = 2 * c->latent_channels;
    plain(p, SD_STEP_CONV_IN, c->in_channels, ch, "encoder.conv_in");
    for (int level = 0; level < c->levels; level++) {
        for (int i = 0; i < c->layers; i++) {
            sd_step *s = sd_step_add(p, SD_STEP_RES, ch, c->channels[level], "encoder.down_blocks.%d.resnets.%d", level,
                                     i);
            sd_step_ldm(s, "encoder.down.%d.block.%d", level, i);
            ch = c->channels[level];
        }
        if (level == c->levels - 1) break;
        sd_step *s = sd_step_add(p, SD_STEP_DOWN, ch, ch, "encoder.down_blocks.%d.downsamplers.0.conv", level);
        sd_step_ldm(s, "encoder.down.%d.downsample.conv", level);
    }
    middle(p, c, "encoder");
    sd_step_ldm(sd_step_add(p, SD_STEP_NORM_OUT, ch, ch, "encoder.conv_norm_out"), "encoder.norm_out");
    plain(p, SD_STEP_CONV_OUT, ch, moments, "encoder.conv_out");
    if (c->quant_conv) plain(p, SD_STEP_CONV1, moments, moments, "quant_conv");
}

static void walk_decoder(sd_net_steps *p, const sd_vae_config *c)
{
    int ch = c->channels[c->levels - 1];
    if (c->post_quant_conv) plain(p, SD_STEP_CONV1, c->latent_channels, c->latent_channels, "post_quant_conv");
    plain(p, SD_STEP_CONV_IN, c->latent_channels, ch, "decoder.conv_in");
    middle(p, c, "decoder");
    for (int up = 0; up < c->levels; up++) {
        int level = c->levels - 1 - up;   /* CompVis counts from the finest, diffusers from the coarsest */
        for (int i = 0; i <= c->layers; i++) {
            sd_step *s = sd_step_add(p, SD_STEP_RES, ch, c->channels[level], "decoder.up_blocks.%d.resnets.%d", up, i);
            sd_step_ldm(s, "decoder.up.%d.block.%d", level, i);
            ch = c->channels[level];
        }
        if (level == 0) break;
        sd_step *s = sd_step_add(p, SD_STEP_UP, ch, ch, "decoder.up_blocks.%d.upsamplers.0.conv", up);
        sd_step_ldm(s, "decoder.up.%d.upsample.conv", level);
    }
    sd_step_ldm(sd_step_add(p, SD_STEP_NORM_OUT, ch, ch, "decoder.conv_norm_out"), "decoder.norm_out");
    plain(p, SD_STEP_CONV_OUT, ch, c->out_channels, "decoder.conv_out");
}

int sd_vae_scale(const sd_vae_config *c) { return 1 << (c->levels - 1); }

sd_status sd_vae_walk(sd_vae *v, const sd_vae_config *c, sd_error *e)
{
    memset(v, 0, sizeof *v);
    v->cfg = *c;
    v->encoder.dims = v->decoder.dims = (sd_net_dims){.groups = c->groups, .eps = VAE_NORM_EPS, .pad_after = true,
                                                      .vae = true};
    if (c->tiny) {
        sd_taesd_walk(v);
    } else {
        walk_encoder(&v->encoder.steps, c);
        walk_decoder(&v->decoder.steps, c);
    }
    sd_steps_done(&v->encoder.steps, e);
    sd_steps_done(&v->decoder.steps, e);
    return e->status;
}

sd_status sd_vae_bind(sd_vae *v, sd_binder *b)
{
    if (v->encoder.steps.n) sd_net_bind(&v->encoder, b);
    if (v->decoder.steps.n) sd_net_bind(&v->decoder, b);
    return b->err->status;
}

void sd_vae_free(sd_vae *v)
{
    sd_net_free(&v->encoder);
    sd_net_free(&v->decoder);
    memset(v, 0, sizeof *v);
}

static sd_tensor run_network(sd_run *r, const sd_net *n, sd_tensor x)
{
    sd_flow f = {.x = x};
    sd_net_forward(r, n, &f, 0, n->steps.n);
    return f.x;
}

sd_tensor sd_vae_decoder(sd_run *r, const sd_vae *v, sd_tensor latents)
{
    return v->cfg.tiny ? sd_taesd_decoder(r, v, latents) : run_network(r, &v->decoder, latents);
}

sd_tensor sd_vae_encoder(sd_run *r, const sd_vae *v, sd_tensor picture)
{
    return v->cfg.tiny ? sd_taesd_encoder(r, v, picture) : run_network(r, &v->encoder, picture);
}
