/* pipeline_edit.h - floor 6: what image to image, inpainting and outpainting do before and after the networks. */
#ifndef SD_PIPELINE_EDIT_H
#define SD_PIPELINE_EDIT_H

#include "image_transform.h"
#include "pipeline.h"

/* What is done to a picture. The networks see `init` and `mask`; their result goes to `place` in `whole`. All zero for
 * text to image. */
typedef struct sd_edit {
    bool active;
    /* the working picture is: the whole one, fitted into the working size; the picture with margins; the surroundings
     * of the mask */
    enum { SD_EDIT_WHOLE, SD_EDIT_CANVAS, SD_EDIT_CROP } way;
    sd_fit fit;
    bool masked;           /* there is a mask: only a part is repainted */
    bool nothing;          /* the mask is black, so the picture is the result */
    bool looked_at;        /* the picture is only looked at, and so no alpha is a mask: the result is another one */
    bool paste;            /* kept pixels come back from `whole` */
    sd_image init;       /* [H,W,3] at the working size */
    sd_image mask;       /* [H,W] 0 or 255, at the working size */
    sd_image whole;      /* the picture that the result is pasted on */
    sd_image soft;       /* its mask, [place.height, place.width]: how much of the result shows */
    sd_rect place;         /* where the result lies in `whole` */
    int out_width, out_height;   /* the part of `whole` that is handed out */
    sd_region seen;       /* the part of the caller's picture that the working picture shows; it may reach beyond its
                            * edges, which are repeated there */
    double strength;
    int posterior, mask_rule;   /* SD_POSTERIOR_*, SD_MASK_* of params.h */
} sd_edit;

/* Is new area to be added? */
static inline bool sd_outpaints(const sd_params *p)
{
    return p->edit.outpaint[0] || p->edit.outpaint[1] || p->edit.outpaint[2] || p->edit.outpaint[3];
}
/* pipeline_check.c: SD_ERR_ARG unless the parameters have what the UNet's task needs, and nothing that has no meaning
 * for it. */
struct sd_task;
sd_status sd_task_check(const struct sd_task *t, const sd_params *p, const sd_edit *edit, sd_error *e);
/* Everything but the pictures: checks the parameters, logs how the size changes, and sets *width and *height to the
 * working size; on entry they are the caller's size, 0: any. There is nothing to free. */
sd_status sd_edit_resolve(sd_ctx *c, const sd_params *p, int *width, int *height, sd_edit *e);
/* Makes the pictures of a resolved edit, at its working size. */
sd_status sd_edit_fill(sd_ctx *c, const sd_params *p, int width, int height, sd_edit *e);
void sd_edit_free(sd_edit *e);
/* Makes the picture that is handed out from the result, which has the working size. */
sd_status sd_edit_finish(const sd_edit *e, const sd_image *result, sd_image *image, sd_error *err);

#endif
