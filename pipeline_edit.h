/* pipeline_edit.h - floor 6: what image to image, inpainting and outpainting do to pictures before and after the
 * networks. */
#ifndef SD_PIPELINE_EDIT_H
#define SD_PIPELINE_EDIT_H

#include "image_transform.h"
#include "pipeline.h"

/* What is done to a picture. The networks see `init` and `mask`; their result goes to `place` in `whole`. All zero:
 * text to image. */
typedef struct sd_edit {
    bool active;
    /* the picture fitted into the working size; with margins; the surroundings of the mask */
    enum { SD_EDIT_WHOLE, SD_EDIT_CANVAS, SD_EDIT_CROP } way;
    sd_fit fit;
    bool masked;           /* something is repainted, something may be kept */
    bool nothing;          /* masked, and the mask is black: the picture is the result */
    bool paste;            /* kept pixels come back from `whole` */
    sd_image init;       /* [H,W,3] at the working size */
    sd_image mask;       /* [H,W] 0 or 255, at the working size */
    sd_image whole;      /* the picture that the result is pasted on */
    sd_image soft;       /* its mask, [place.height, place.width]: how much of the result shows */
    sd_rect place;         /* where the result lies in `whole` */
    int out_width, out_height;   /* what of `whole` is handed out */
    double strength;
} sd_edit;

/* All but the pictures: checks what was asked for, says by notices what becomes of the size, and sets *width and
 * *height, 0 on entry if the caller does not care, to the working size. Nothing is to be freed. */
sd_status sd_edit_resolve(sd_ctx *c, const sd_params *p, int *width, int *height, sd_edit *e);
/* The pictures of a resolved edit, at its working size. */
sd_status sd_edit_fill(sd_ctx *c, const sd_params *p, int width, int height, sd_edit *e);
void sd_edit_free(sd_edit *e);
/* The result, of the working size, becomes the picture that is handed out. */
sd_status sd_edit_finish(const sd_edit *e, const sd_image *result, sd_image *image, sd_error *err);

#endif
