/* recognise_taesd.c - floor 4: the configuration of a TAESD from the names and shapes of its tensors. */
#include "recognise.h"

#include <string.h>

/* What the names of one way begin with, in files of diffusers, of the author (two files, of which the decoder's numbers
 * begin with a clamp) and of ComfyUI. */
static const struct place { bool decoder; const char *root, *layers, *naming; int first; } places[] = {
    {false, "", "encoder.layers.", "diffusers", 0}, {true, "", "decoder.layers.", "diffusers", 0},
    {false, "vae.", "encoder.layers.", "diffusers", 0}, {true, "vae.", "decoder.layers.", "diffusers", 0},
    {false, "taesd_encoder.", "", "raw", 0}, {true, "taesd_decoder.", "", "raw", 1},
    {false, "encoder.", "", "raw", 0}, {true, "decoder.", "", "raw", 1},
    {false, "", "", "raw", 0}, {true, "", "", "raw", 1},
};

static const sd_entry *layer(const sd_store *s, const struct place *p, int number, const char *leaf)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s%d.%s", p->root, p->layers, number, leaf);
    return sd_store_find(s, name);
}

static bool is_block(const sd_store *s, const struct place *p, int number)
{
    return layer(s, p, number, "conv.0.weight") || layer(s, p, number, "conv.2.weight")
        || layer(s, p, number, "conv.4.weight");
}

static bool is_conv(const sd_entry *t, int in)
{
    return t && t->nd == 4 && sd_entry_side(t, 2) == 3 && sd_entry_side(t, 3) == 3
        && (!in || sd_entry_side(t, 1) == in);
}

/* Blocks, and between levels a convolution of the same width without bias; on the way up the number before it is that
 * of the enlargement. The last convolution has a bias, or another width. 0: this is no such way; else the channels that
 * come out. */
static int walk(const sd_store *s, const struct place *p, sd_tiny_way *way)
{
    int level = 0, i = p->first + 1 + p->decoder;
    for (; is_block(s, p, i) || level < SD_MAX_LEVELS; i++) {
        if (is_block(s, p, i)) {
            if (++way->blocks[level] > 64) return 0;
            continue;
        }
        const sd_entry *t = layer(s, p, i, "weight");
        bool enlarged = !t && p->decoder;
        if (enlarged) t = layer(s, p, ++i, "weight");
        if (!is_conv(t, way->width)) return 0;
        if (layer(s, p, i, "bias") || sd_entry_side(t, 0) != way->width) {
            way->levels = level + 1;
            return enlarged ? 0 : sd_entry_side(t, 0);
        }
        if (enlarged != p->decoder) return 0;
        level++;
    }
    return 0;
}

bool sd_taesd_from_shapes(const sd_store *s, bool decoder, sd_vae_config *c, const char **root, const char **naming)
{
    static const float rgb[5][3] = SD_LATENT_RGB;
    for (size_t k = 0; k < SD_COUNT(places); k++) {
        const struct place *p = &places[k];
        const sd_entry *first = p->decoder == decoder ? layer(s, p, p->first, "weight") : NULL;
        if (!is_conv(first, decoder ? 0 : 3) || (p->first && layer(s, p, 0, "weight"))) continue;
        memset(c, 0, sizeof *c);
        *root = p->root;
        *naming = p->naming;
        sd_tiny_way *way = decoder ? &c->tiny_decoder : &c->tiny_encoder;
        way->width = sd_entry_side(first, 0);
        int out = walk(s, p, way), blocks = 0;
        for (int i = 0; i < way->levels; i++) blocks += way->blocks[i];
        if (!out || !blocks || (decoder && out != 3)) return true;
        c->tiny = true;
        c->in_channels = c->out_channels = 3;
        c->latent_channels = decoder ? sd_entry_side(first, 1) : out;
        c->scaling_factor = 1;
        c->levels = way->levels;
        for (int i = 0; i < c->levels; i++) c->channels[i] = way->width;
        memcpy(c->latent_rgb, rgb, sizeof rgb);
        return true;
    }
    return false;
}
