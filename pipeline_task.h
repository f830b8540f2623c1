/* pipeline_task.h - floor 6: what a UNet is made for: which planes it sees beside the latents, and which passes a step
 * makes. */
#ifndef SD_PIPELINE_TASK_H
#define SD_PIPELINE_TASK_H

#include "net.h"

/* What a UNet sees of a picture, behind the latents [C,h,w]. All pictures of a batch see the same. */
typedef enum sd_plane_kind {
    SD_PLANE_NONE,
    SD_PLANE_MASK,       /* [1,h,w] 1 where it is repainted */
    SD_PLANE_KEPT,       /* [C,h,w] latents of the picture's kept part */
    SD_PLANE_PICTURE,    /* [C,h,w] the mode of the picture's posterior, not scaled */
    SD_PLANE_DEPTH,      /* [1,h,w] how near each point is, from -1 to 1 */
    SD_PLANE_SMALL,      /* [3,h,w] a picture of this size, with noise */
    SD_PLANE_KINDS
} sd_plane_kind;

/* One pass through the UNet: with the prompt, or with the negative prompt; with the planes, or with zeros. `name` is
 * what diffusers calls the answer, and a trace; NULL: it is the prediction. */
typedef struct sd_pass { bool prompt, planes; const char *name; } sd_pass;

enum { SD_MOST_PASSES = 3, SD_MOST_PLANES = 2 };

/* The passes of a step, and how their answers e[0..n-1] become one prediction. */
typedef struct sd_passes {
    int n;
    sd_pass pass[SD_MOST_PASSES];
    double (*guide)(const sd_guidance_params *g, const double *e);
    int prompt;          /* the pass whose deviation a rescaled prediction gets */
} sd_passes;

typedef struct sd_task {
    const char *name;                    /* "inpainting" */
    sd_plane_kind plane[SD_MOST_PLANES];
    bool needs_picture, needs_mask, needs_depth;
    bool from_noise;                     /* the picture is seen only through the planes: a run begins with noise alone,
                                          * takes all of its steps, and changes the whole picture */
    bool enlarges;                       /* the result has a pixel for each of the VAE, where the picture has one for
                                          * each latent; how much noise that got is a class */
    const sd_passes *guided;             /* its passes with guidance */
    const char *pipeline, *xl_pipeline;  /* names of diffusers' classes; NULL: there is none */
    const char *example;                 /* options that draw with it */
} sd_task;

/* What this UNet is made for; NULL: nothing that is known. */
const sd_task *sd_task_of(const sd_unet_config *u);
/* Has it a guidance scale for the picture too? */
bool sd_task_guides_by_picture(const sd_task *t);
bool sd_task_has(const sd_task *t, sd_plane_kind kind);
/* Channels of a plane, where latents have C. */
int sd_plane_channels(sd_plane_kind kind, int C);
/* The passes with these settings. */
const sd_passes *sd_task_passes(const sd_task *t, const sd_unet_config *u, const sd_guidance_params *g);
/* SD_ERR_UNSUPPORTED: no task is known for it, so that it can be planned and run, but cannot draw. */
sd_status sd_unet_can_draw(const sd_unet_config *u, sd_error *e);

#endif
