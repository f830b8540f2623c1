/* compare_apart.c - floor 6: two traces of which one went on with the other's tensors (--inject). Each tensor is one
 * operation on the same numbers, so no error is inherited, and far smaller ones are faults.
 *
 * What one operation is off in float32 depends on its kind alone. LEVELS has three to four times the largest that
 * diffusers was off in 48 runs of weights/tiny at 128x128: eight prompts and seeds, one to three threads, channels
 * first and last, with and without oneDNN, attention in one operation and in three. It was 1.1e-7 in layer norms and in
 * group norms of attentions; 4.2e-7 in group norms of the UNet's resnets, whose means are large beside their
 * deviations; 8.0e-7 in those of the VAE's, and 1.5e-6 in those at the picture's full size, where PyTorch with channels
 * last adds up a group's thousands of pixels one by one (1.3e-7 with channels first); 8.9e-7 in convolutions and linear
 * layers; 3.0e-6 behind attentions; 5.4e-6 in the sinusoid of the timestep and 1.4e-5 in that of a guidance scale;
 * 6.9e-5 in GEGLU, whose gates have few digits where they are nearly 0. Of samplers only diffusers' default was
 * measured, 4.1e-7; others subtract more, so they have more room.
 *
 * A program that rounds more than that, to TF32 or float16, does so in all products, or in everything. So a level is at
 * least so many times the median error of its class: products, which TF32 touches, whose errors are further apart; and
 * all else. A median above COARSEST, bfloat16's unit of rounding, is none of rounding: then most of them are wrong. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

static const struct { const char *names; double level; bool product; } LEVELS[] = {
    {"*vae.*up_blocks.3.*.norm?,*vae.*down_blocks.0.*.norm?,*vae.decoder.conv_norm_out", 5e-6, false},
    {"*vae.*resnets.*.norm?,*vae.*conv_norm_out", 2.5e-6, false},
    {"*resnets.*.norm?,*conv_norm_out", 1.3e-6, false},
    {"*norm,*norm?", 3e-7, false},
    {"latents.*,*.denoised", 1e-5, false},
    {"*time_proj,*timestep_cond", 5e-5, false},
    {"*.ff.net.0", 3e-4, false},
    {"*to_out.0,*out_proj", 1e-5, true},
    {"*conv*,*proj*,*to_?,*linear_?,*fc?,*ff.net.2", 3e-6, true},
    {"*", 1e-6, false},
};
static const double ROUNDED[] = {5, 10}, COARSEST = 0x1p-8;   /* all else, products */

bool sd_compare_is_apart(const sd_comparison *c)
{
    const sd_tensors *of[] = {&c->ref, &c->mine};
    bool apart = false;
    for (int k = 0; k < 2; k++)
        apart |= sd_pair_find(of[k]->meta, of[k]->n_meta, SD_NOTE_INJECTED)
            && !sd_pair_find(of[k]->meta, of[k]->n_meta, SD_NOTE_INJECTED_ONLY);
    return apart;
}

static size_t kind_of(const char *name)
{
    size_t i = 0;
    while (!sd_glob_list(LEVELS[i].names, name)) i++;
    return i;
}

double sd_one_operation(const char *name) { return LEVELS[kind_of(name)].level; }

/* Of the tensors of one class; 0: there are none. room: for c->n numbers. */
static double median(const sd_comparison *c, bool product, double *room)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const char *name = sd_compared_name(&c->row[i]);
        if (sd_has_error(&c->row[i]) && LEVELS[kind_of(name)].product == product) room[n++] = c->row[i].error;
    }
    if (!n) return 0;
    qsort(room, n, sizeof *room, sd_by_size);
    return room[n / 2] < COARSEST ? room[n / 2] : COARSEST;
}

sd_status sd_compare_levels_apart(sd_comparison *c, sd_error *e)
{
    double *room = malloc((c->n + 1) * sizeof *room);
    if (!room) return sd_fail(e, SD_ERR_MEMORY, "no memory to compare %zu tensors", c->n);
    const double rounded[] = {ROUNDED[0] * median(c, false, room), ROUNDED[1] * median(c, true, room)};
    for (size_t i = 0; i < c->n; i++) {
        size_t kind = kind_of(sd_compared_name(&c->row[i]));
        double least = rounded[LEVELS[kind].product];
        c->row[i].level = LEVELS[kind].level > least ? LEVELS[kind].level : least;
    }
    free(room);
    c->apart = true;
    return e->status;
}
