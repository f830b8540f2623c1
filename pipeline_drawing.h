/* pipeline_drawing.h - floor 6: what one call of sd_generate owns, shared by the files of its seven steps. */
#ifndef SD_PIPELINE_DRAWING_H
#define SD_PIPELINE_DRAWING_H

#include "cond.h"
#include "pipeline_edit.h"
#include "pipeline_task.h"
#include "rng_streams.h"

/* B pictures, G passes (2 with guidance, the negative prompt first), n = C h w numbers per latent. The UNet sees
 * `channels` of them: C, and the planes of its task. */
typedef struct sd_drawing {
    sd_params p;                    /* resolved */
    sd_edit edit;
    sd_sched_config levels;         /* of the sampler */
    sd_sampler *sampler;
    sd_stream *rng, *sampler_rng;   /* the same one, unless the caller wants two */
    sd_stream *posterior_rng;       /* for posteriors, where their generator begins again; NULL: it is `rng` */
    const sd_task *task;
    const sd_passes *passes;
    int B, G, C, h, w, channels;
    int first, n_images;            /* pictures of the batch that are decoded and handed out */
    size_t n;
    sd_prompts prompts;             /* for G B samples */
    float *latents;                 /* [B,C,h,w] */
    float *input;                   /* [G B,channels,h,w], what the UNet sees */
    float *prediction;              /* [G B,C,h,w], its answers; the first B become the guided ones */
    float *timestep;                /* [G B] */
    float *picture;                 /* [B,3,H,W] */
    float *noise;                   /* [B,C,h,w], what the run began with */
    int n_image_latents;            /* samples of the posterior of the picture to begin from: one, or one from each
                                     * picture's generator */
    float *image_latents;           /* [n_image_latents,C,h,w] */
    float *planes;                  /* [channels - C,h,w], what the UNet sees beside the latents */
    float *mask;                    /* [h,w], 1 where it is repainted */
    /* What two models draw together are two parts. */
    int before, evaluations;        /* evaluations of the part before this one; of the whole run, 0: not known */
    int skipped;                    /* evaluations that another program has made, and this run not again */
    bool followed;                  /* another part goes on with the latents */
} sd_drawing;

/* Is nothing left to do, after an error or because a black mask keeps the whole picture? */
static inline bool sd_drawing_done(const sd_ctx *c, const sd_drawing *d) { return c->err.status || d->edit.nothing; }

/* ---- the steps, see pipeline.c; after an error each does nothing */
void sd_drawing_resolve(sd_ctx *c, sd_drawing *d, const sd_params *params);   /* pipeline_resolve.c */
void sd_drawing_prepare(sd_ctx *c, sd_drawing *d);                            /* pipeline_prepare.c */
void sd_drawing_begin(sd_ctx *c, sd_drawing *d);                              /* pipeline_begin.c */
void sd_drawing_finish(sd_ctx *c, const sd_drawing *d, sd_image *images);     /* pipeline_finish.c */
void sd_drawing_free(sd_drawing *d);

/* ---- pipeline_settings.c: what this run's settings are, for the trace */
void sd_drawing_note_settings(sd_ctx *c, const sd_drawing *d);

/* ---- pipeline_parts.c: runs in parts
 * Fills in where a refiner takes over, and checks where the run begins and ends; latents: how many numbers they are. */
sd_status sd_resolve_part(sd_ctx *c, sd_params *p, bool masked, size_t latents);
/* Of how many steps the levels of a run with these resolved parameters are: more than it takes, if a strength says
 * so. */
int sd_steps_of_levels(const sd_params *p);
/* Which part of its steps a run with these resolved parameters takes. */
sd_sampler_part sd_part_of(const sd_params *p, const sd_sched_config *levels);
/* Makes the drawing end where the refiner takes over, if there is one. */
void sd_drawing_cut(const sd_ctx *c, sd_drawing *d);
/* ---- pipeline_given.c: what another program has computed, see sd_given
 * It fits this run. */
sd_status sd_drawing_check_given(sd_ctx *c, const sd_drawing *d);
/* Are all answers from the first on there, so that the sampler is made to take the same steps again? */
bool sd_given_replays(const sd_ctx *c);
/* The latents before evaluation i, and its answer; NULL: they are not given. */
const float *sd_given_latents(const sd_ctx *c, const sd_drawing *d, int i);
const float *sd_given_answer(const sd_ctx *c, const sd_drawing *d, int i);
const float *sd_given_timestep(const sd_ctx *c, const sd_drawing *d, int i);
/* Puts ids or embeddings that are given into *in, whose texts are text[in->n]. */
void sd_given_prompts(const sd_ctx *c, const sd_drawing *d, sd_prompts_in *in, const char **text);
/* ---- pipeline_refiner.c: a second model goes on
 * Resolves and prepares part[1], the refiner's, when part[0] has been prepared. */
void sd_drawing_prepare_refiner(sd_ctx *c, sd_drawing part[2], const sd_params *given);
/* From now on the refiner draws: with the generators of the part before. */
void sd_drawing_take_over(sd_ctx *c, sd_drawing *d, sd_drawing *base);

/* ---- parts of the steps
 * pipeline_guidance.c: the first B of the predictions become the guided ones. */
void sd_guide(sd_drawing *d);
/* pipeline_begin.c: one sample for the UNet: latents | planes; or latents | zeros. */
void sd_drawing_input(const sd_drawing *d, float *out, const float *latents, bool planes);
/* Before evaluation i, puts the kept part back, if the UNet is not made for inpainting. */
void sd_drawing_keep_unmasked(sd_drawing *d, int i, float *latents);
/* The same in what the UNet sees, and in the picture that it predicts, for other rules (sd_edit.mask_rule). */
void sd_drawing_keep_input(const sd_drawing *d, double signal, double noise, double *latents);
void sd_drawing_keep_x0(const sd_drawing *d, double *x0);
/* pipeline_noise.c: opens a random stream by its name, or by the name of a safetensors file whose numbers are given
 * out: its tensor "noise" or its only one. */
sd_status sd_open_stream(sd_ctx *c, sd_stream **out, const char *spec, const sd_stream_options *o);
void sd_report_draw(void *user, const sd_random_draw *d);   /* user: the sd_ctx */
sd_status sd_drawing_open_streams(sd_ctx *c, sd_drawing *d);
/* A sampler's noise, n numbers for a step from one sigma to another. */
sd_status sd_drawing_fresh_noise(sd_ctx *c, const sd_drawing *d, double sigma_from, double sigma_to, float *out);
sd_status sd_drawing_noise(sd_ctx *c, sd_drawing *d);   /* d->noise: the caller's numbers, or the generator's */

#endif
