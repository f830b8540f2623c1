/* app_prepare.c - floor 7: what a run begins from, read and checked before any work, and who watches it. */
#include "app_stages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nearest_multiple(int side, int scale) { return side < scale ? scale : (side + scale / 2) / scale * scale; }

/* p->noise from the file; its shape must be [batch,C,height/scale,width/scale], not only its count. r: p, resolved. */
static int read_noise(const settings *s, sd_params *p, const sd_params *r, float **noise)
{
    sd_model_info info = {0};
    int nd;
    int64_t d[4];
    sd_status status = sd_tensor_read(context, s->noise, "noise", noise, &nd, d);
    if (!status) status = sd_get_info(context, &info);
    if (status) return report(s, status);
    const int64_t want[] = {r->batch, info.latent_channels, r->height / info.scale, r->width / info.scale};
    if (nd != 4 || memcmp(d, want, sizeof want) != 0)
        return cli_error(CLI_USAGE,
                         "%s: the noise must be [%lld,%lld,%lld,%lld], found %d dimensions: [%lld,%lld,%lld,%lld]",
                         s->noise, (long long)want[0], (long long)want[1], (long long)want[2], (long long)want[3], nd,
                         (long long)d[0], (long long)d[1], (long long)d[2], (long long)d[3]);
    p->noise = *noise;
    p->noise_count = (size_t)(d[0] * d[1] * d[2] * d[3]);
    return check_finite(s->noise, *noise, p->noise_count);
}

int read_given_noise(settings *s, inputs *in)
{
    sd_params all;
    sd_params_init(&all);
    sd_status status = sd_resolve_params(context, &s->p, &all);
    return status ? report(s, status) : read_noise(s, &s->p, &all, &in->noise);
}

/* p->latents from the file, [batch,C,h,w] or [C,h,w]. What was not given follows from it: the size and the batch. */
static int read_latents(const settings *s, sd_params *p, float **latents)
{
    sd_model_info info = {0};
    int nd;
    int64_t d[4];
    char name[32] = "latents";
    if (p->sampling.from_step != SD_DEFAULT) snprintf(name, sizeof name, "latents.%d", p->sampling.from_step);
    sd_status status = sd_tensor_read(context, s->latents, name, latents, &nd, d);
    if (status == SD_ERR_MISSING) status = sd_tensor_read(context, s->latents, "latents", latents, &nd, d);
    if (!status) status = sd_get_info(context, &info);
    if (status) return report(s, status);
    if (nd == 3) {
        memmove(d + 1, d, 3 * sizeof *d);
        d[0] = 1;
    }
    int sides = d[2] >= 1 && d[2] <= 8192 && d[3] >= 1 && d[3] <= 8192;
    if (nd < 3 || nd > 4 || d[1] != info.latent_channels || d[0] < 1 || d[0] > 512 || !sides)
        return cli_error(CLI_USAGE, "%s: latents must be [N,%d,h,w] or [%d,h,w], found %d dimensions: "
                         "[%lld,%lld,%lld,%lld]", s->latents, info.latent_channels, info.latent_channels, nd,
                         (long long)d[0], (long long)d[1], (long long)d[2], (long long)d[3]);
    if (p->width <= 0) p->width = (int)d[3] * info.scale;
    if (p->height <= 0) p->height = (int)d[2] * info.scale;
    if (p->batch <= 1) p->batch = (int)d[0];
    if (p->width != (int)d[3] * info.scale || p->height != (int)d[2] * info.scale || p->batch != (int)d[0])
        return cli_error(CLI_USAGE, "%s has latents of %lld pictures of %lldx%lld, and %d of %dx%d are to be drawn",
                         s->latents, (long long)d[0], (long long)d[3] * info.scale, (long long)d[2] * info.scale,
                         p->batch, p->width, p->height);
    p->latents = *latents;
    p->latents_count = (size_t)(d[0] * d[1] * d[2] * d[3]);
    p->latents_name = s->latents;
    return check_finite(s->latents, *latents, p->latents_count);
}

/* ------------------------------------------------------------------------ pictures to begin from */

/* Reads the picture to begin from. If no part of it is to come back byte for byte, it is resized while it is read. */
static sd_status read_init(settings *s, inputs *in)
{
    const sd_edit_params *e = &s->p.edit;
    int width = 0, height = 0;
    sd_model_info info;
    int whole = s->mask || e->alpha_mask > 0 || e->inpaint_crop >= 0;
    for (int i = 0; i < 4; i++) whole = whole || e->outpaint[i] > 0;
    whole = whole || (s->p.width <= 0 && s->p.height <= 0);
    sd_status status = whole ? SD_OK : sd_get_info(context, &info);
    if (!status && !whole) status = sd_image_size(context, s->init, &width, &height);
    if (status) return status;
    if (!width) return sd_image_read(context, s->init, &in->init);
    int multiple = info.enlarges > 1 ? 1 : info.scale;   /* of an enlarged picture's sides any will do */
    width = s->p.width > 0 ? s->p.width / info.enlarges : nearest_multiple(width, multiple);
    height = s->p.height > 0 ? s->p.height / info.enlarges : nearest_multiple(height, multiple);
    if (width < 1 || height < 1) return sd_image_read(context, s->init, &in->init);   /* what is wrong is said later */
    status = sd_image_read_fitted(context, s->init, width, height, e->resize, &in->init, in->init_hash);
    if (!status && *in->init_hash) s->p.edit.init_hash = in->init_hash;
    return status;
}

static int read_pictures(settings *s, inputs *in)
{
    sd_status status = s->init ? read_init(s, in) : SD_OK;
    if (!status && s->mask && !interrupts) status = sd_image_read(context, s->mask, &in->mask);
    sd_edit_params *e = &s->p.edit;
    if (!status && s->depth && !interrupts)
        status = sd_depth_read(context, s->depth, &in->depth, &e->depth_width, &e->depth_height);
    if (status || interrupts) return status ? report(s, status) : stopped();
    e->depth = in->depth;
    e->depth_name = s->depth;
    if (s->init) s->p.edit.init = &in->init;
    if (s->mask) s->p.edit.mask = &in->mask;
    s->p.edit.init_name = s->init;
    s->p.edit.mask_name = s->mask;
    s->p.noise_name = s->noise;
    return CLI_OK;
}

/* -------------------------------------------------------------------------------- who watches it */

static void save_step(const settings *s, const sd_denoised *step)
{
    char path[PATH_SIZE];
    sd_image image;
    for (int b = 0; b < step->batch; b++) {
        char number[16] = "";
        if (b) snprintf(number, sizeof number, "_%d", b + 1);
        int n = snprintf(path, sizeof path, "%s/step_%03d%s%s", s->save_steps, step->index, number, PICTURE_ENDING);
        if (n >= PATH_SIZE) return;
        if (sd_step_picture(context, step, b, 0, &image)) return;   /* the run ends with this error */
        sd_image_write(context, path, &image, NULL);
        sd_image_free(&image);
    }
}

/* The first picture of the batch, decoded if that is soon done. */
static void show_step(void *user, const sd_denoised *step)
{
    enum { SMALL = 32 * 32 };
    view *v = user;
    sd_image image;
    if (v->s->save_steps) save_step(v->s, step);
    int large = step->height * step->width > SMALL, asked = v->s->preview;
    int how = asked == PREVIEW_PROJ ? SD_STEP_ROUGH : asked == PREVIEW_VAE ? SD_STEP_DECODED
        : v->s->taesd ? SD_STEP_TAESD : large ? SD_STEP_ROUGH : SD_STEP_DECODED;
    if (!v->preview || sd_step_picture(context, step, 0, how, &image)) return;
    clear_bar(v);
    preview_show(v->kind, &image, &v->rows);
    sd_image_free(&image);
}

static void show_draw(void *user, const sd_random_draw *d)
{
    clear_bar(user);
    printf("draw: %s: %zu numbers of %s, seed %llu", d->who, d->count, d->stream, (unsigned long long)d->seed);
    if (d->image >= 0) printf(", picture %d", d->image + 1);
    if (d->between_levels) printf(", from sigma %.6g to %.6g\n", d->from, d->to);
    else printf(", after %llu\n", (unsigned long long)d->position);
}

int prepare(settings *s, inputs *in, view *v)
{
    sd_params resolved;
    int by_taesd = s->preview == PREVIEW_TAESD || s->preview == PREVIEW_TAE;
    if (!s->taesd && (by_taesd || s->taesd_preview_only))
        return cli_error(CLI_USAGE, "%s needs a TAESD: --taesd PATH",
                         by_taesd ? "--preview taesd" : "--taesd-preview-only");
    int code = read_pictures(s, in);
    if (!code && s->latents) code = read_latents(s, &s->p, &in->latents);
    if (!code) code = read_given(s, &in->given);
    if (!code && in->given) code = set_given(s, in->given, NULL, NULL);
    if (!code && s->latents && s->p.sampling.from_step > 0)
        code = go_on(s, s->p.sampling.from_step, in->given, &in->record);
    if (code) return code;
    sd_status status = sd_resolve_params(context, &s->p, &resolved);
    if (status || interrupts) return status ? report(s, status) : stopped();
    sd_set_progress(context, show_progress, v);
    if (s->explain_seed) sd_set_random_draw(context, show_draw, v);
    if (s->save_steps || v->preview) sd_set_step(context, show_step, v);
    if (s->noise) code = read_noise(s, &s->p, &resolved, &in->noise);
    if (code || !(traces(s) || in->given)) return code;
    status = sd_trace_list(context, &s->p, s->trace_filter, NULL, NULL);
    return status ? report(s, status) : CLI_OK;
}

void inputs_free(inputs *in)
{
    free(in->prompt[0]);
    free(in->prompt[1]);
    sd_free(in->noise);
    sd_free(in->depth);
    sd_free(in->latents);
    record_free(in->record);
    given_free(in->given);
    sd_image_free(&in->init);
    sd_image_free(&in->mask);
}
