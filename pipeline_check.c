/* pipeline_check.c - floor 6: begin and end of a call, and checks of what callers pass: pointers, pictures, numbers. */
#include "pipeline_edit.h"
#include "pipeline_task.h"

#include <math.h>
#include <string.h>

sd_status sd_begin(sd_ctx *c)
{
    if (!c) return SD_ERR_MEMORY;
    if (c->depth++ == 0) {   /* a call within a call keeps the outer one's error and request to stop */
        sd_flag_set(&c->halt.stop, 0);
        sd_error_clear(&c->err);
    }
    if (c->broken.status) c->err = c->broken;
    return c->err.status;
}

sd_status sd_end(sd_ctx *c)
{
    if (!c) return SD_ERR_MEMORY;
    c->depth--;
    return c->err.status;
}

void sd_report(sd_ctx *c, const char *stage, int done, int total, double seconds)
{
    sd_progress p = {stage, done, total, seconds, strcmp(stage, "step") == 0 ? c->steps : 0};
    if (c->progress) c->progress(c->progress_user, &p);
}

sd_status sd_check_not_null(sd_ctx *c, const char *what, const void *p)
{
    return p ? SD_OK : sd_fail(&c->err, SD_ERR_ARG, "%s must not be NULL", what);
}

sd_status sd_check_sides(sd_ctx *c, const char *what, const sd_image *image)
{
    if (sd_check_not_null(c, what, image)) return c->err.status;
    if (image->width < 1 || image->height < 1 || image->width > SD_IMAGE_SIDE || image->height > SD_IMAGE_SIDE)
        return sd_fail(&c->err, SD_ERR_ARG, "%s must have sides of 1 to %d pixels, not %dx%d", what, SD_IMAGE_SIDE,
                       image->width, image->height);
    if (image->channels != 1 && image->channels != 3 && image->channels != 4)
        return sd_fail(&c->err, SD_ERR_ARG, "%s must have 1 channel (grey), 3 (RGB) or 4 (RGBA), not %d", what,
                       image->channels);
    return SD_OK;
}

sd_status sd_check_image(sd_ctx *c, const char *what, const sd_image *image)
{
    if (sd_check_sides(c, what, image)) return c->err.status;
    if (!image->data)
        return sd_fail(&c->err, SD_ERR_ARG, "%s of %dx%d has no pixels", what, image->width, image->height);
    return SD_OK;
}

sd_status sd_check_numbers(sd_ctx *c, const char *what, const float *x, size_t n)
{
    if (sd_check_not_null(c, what, x)) return c->err.status;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return sd_fail(&c->err, SD_ERR_ARG, "%s must be finite, but number %zu of %zu is %g", what, i + 1, n,
                           (double)x[i]);
    return SD_OK;
}

sd_status sd_check_timesteps(sd_ctx *c, const float *x, size_t n)
{
    const sd_sched_config *s = &c->model.sched;
    if (sd_check_numbers(c, "the timesteps", x, n) || s->train_steps < 1 || sd_method_is_edm(s->method))
        return c->err.status;
    for (size_t i = 0; i < n; i++)
        if (!(x[i] >= 0 && x[i] <= (float)s->train_steps))
            return sd_fail(&c->err, SD_ERR_ARG, "timestep %zu of %zu is %g: this UNet was trained with 0 to %d", i + 1,
                           n, (double)x[i], s->train_steps - 1);
    return SD_OK;
}

/* Beyond this a float32 network may well overflow; in a run its inputs have a magnitude of some tens. */
static const double WILD = 1e4;

sd_status sd_check_result(sd_ctx *c, const char *what, const float *x, size_t n, const sd_module *module,
                          const float *input, size_t inputs)
{
    size_t i = 0;
    double most = 0;
    if (c->err.status) return c->err.status;
    while (i < n && isfinite(x[i])) i++;
    if (i == n || sd_store_check_finite(module->files, &c->err)) return c->err.status;
    for (size_t k = 0; k < inputs; k++)   /* fmax here crashes gcc 12.2 for aarch64 */
        if (fabs((double)input[k]) > most) most = fabs((double)input[k]);
    if (most > WILD)
        return sd_fail(&c->err, SD_ERR_NUMERIC, "%s is not finite (number %zu is %g) for an input that reaches %g",
                       what, i, (double)x[i], most);
    return sd_fail(&c->err, SD_ERR_NUMERIC, "%s is not finite (number %zu is %g) though every weight is", what, i,
                   (double)x[i]);
}

/* ----------------------------------------------------------------------------- what a task needs */

static sd_status check_edit(const sd_task *t, const sd_params *p, const sd_edit *edit, sd_error *e)
{
    const sd_edit_params *q = &p->edit;
    bool other_part = q->mask || q->alpha_mask || q->inpaint_crop >= 0;
    if ((t->needs_picture && !edit->active) || (t->needs_mask && !edit->masked))
        return sd_fail(e, SD_ERR_ARG, "this model is made for %s: it needs a picture%s", t->name,
                       t->needs_mask ? " and a mask" : "");
    if (t->from_noise && (other_part || sd_outpaints(p)))
        return sd_fail(e, SD_ERR_ARG, "this model is made for %s, and changes the whole picture: a mask, outpainting "
                       "or inpaint crop is not possible", t->name);
    if (t->from_noise && q->strength != SD_DEFAULT && q->strength != 1)
        return sd_fail(e, SD_ERR_ARG, "this model is made for %s, and begins from noise: only a strength of 1 is "
                       "possible, not %g", t->name, q->strength);
    if (t->needs_depth && sd_outpaints(p))
        return sd_fail(e, SD_ERR_ARG, "outpainting is not possible with a depth map: it does not say how near the new "
                       "area is");
    return SD_OK;
}

static sd_status check_depth(const sd_task *t, const sd_edit_params *q, sd_error *e)
{
    if (!t->needs_depth && q->depth)
        return sd_fail(e, SD_ERR_ARG, "a depth map needs a model that draws by one, this one is made for %s", t->name);
    if (!t->needs_depth) return SD_OK;
    if (!q->depth) return sd_fail(e, SD_ERR_ARG, "this model is made for %s: it needs one", t->name);
    if (q->depth_width < 1 || q->depth_height < 1 || q->depth_width > SD_IMAGE_SIDE || q->depth_height > SD_IMAGE_SIDE)
        return sd_fail(e, SD_ERR_ARG, "the depth map must have sides of 1 to %d numbers, not %dx%d", SD_IMAGE_SIDE,
                       q->depth_width, q->depth_height);
    size_t n = (size_t)q->depth_width * (size_t)q->depth_height;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(q->depth[i]) < 1e30f))
            return sd_fail(e, SD_ERR_ARG, "the depth map has %g as number %zu of %zu, which is no depth",
                           (double)q->depth[i], i + 1, n);
    return SD_OK;
}

sd_status sd_task_check(const sd_task *t, const sd_params *p, const sd_edit *edit, sd_error *e)
{
    if (!t->enlarges && p->edit.noise_level != SD_DEFAULT)
        return sd_fail(e, SD_ERR_ARG, "a noise level needs a model that enlarges pictures, this one is made for %s",
                       t->name);
    if (!sd_task_guides_by_picture(t) && p->guidance.image_scale != SD_DEFAULT)
        return sd_fail(e, SD_ERR_ARG, "an image guidance scale needs a model that follows instructions, this one is "
                       "made for %s", t->name);
    return check_edit(t, p, edit, e) ? e->status : check_depth(t, &p->edit, e);
}
