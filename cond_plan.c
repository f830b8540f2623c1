/* cond_plan.c - floor 6: what the UNet of a model is told besides latents and timesteps: of which text encoders, which
 * of their layers, and which numbers about sizes. */
#include "cond.h"

#include <string.h>

/* SD 1 and 2: the last layer's result through the final layer norm. (SD 2's file has 23 of its encoder's 24 layers.) */
static const sd_cond_plan one_encoder = {.encoders = 1, .text = {{.final_norm = true}}};

/* SDXL [Podell et al. 2023; StableDiffusionXLPipeline.encode_prompt]: of both encoders the layer before the last,
 * without the final norm. The refiner has only the second encoder. */
static const sd_cond_plan sdxl = {.encoders = 2, .n_ids = 6,
                                  .text = {{.from_end = 1}, {.from_end = 1, .pooled = true}}};
static const sd_cond_plan refiner = {.encoders = 1, .n_ids = 5, .text = {{.from_end = 1, .pooled = true}}};

/* A model's only text encoder, opened without its UNet: is it the refiner's? It projects, and so do files of SD 2, of
 * which the family tells. */
static bool is_refiners(const sd_model *m)
{
    const sd_module *x = sd_model_module(m, SD_PART_TEXT, 0);
    if (!x || !((const sd_clip *)x->net)->cfg.projection) return false;
    return m->family ? m->family->unet.add_in_dim > 0 : !x->from_shapes;
}

const sd_cond_plan *sd_cond_plan_of(const sd_model *m)
{
    const bool told = m->unet->cfg.add_in_dim, texts = m->parts & SD_PART_TEXT;
    if (!told && m->parts & SD_PART_UNET) return &one_encoder;
    if (!told && !sd_model_module(m, SD_PART_TEXT, 1)) return is_refiners(m) ? &refiner : &one_encoder;
    /* Of a UNet alone its family or model_index.json tells whether it has two encoders, of text encoders alone their
     * number. */
    if (texts ? sd_model_module(m, SD_PART_TEXT, 1) != NULL
              : told && !m->scored && (!m->family || m->family->n_clip == 2))
        return &sdxl;
    return told ? &refiner : &one_encoder;
}

const sd_clip *sd_cond_encoder(const sd_model *m, int i)
{
    const sd_module *module = sd_model_module(m, SD_PART_TEXT, i);
    return module ? module->net : NULL;
}

int sd_cond_width(const sd_model *m, const sd_cond_plan *plan)
{
    int width = 0;
    for (int i = 0; i < plan->encoders && sd_cond_encoder(m, i); i++) width += sd_cond_encoder(m, i)->cfg.width;
    return width;
}

int sd_cond_pooled_width(const sd_model *m, const sd_cond_plan *plan)
{
    const sd_unet_config *u = &m->unet->cfg;
    int width = 0;
    if (!(m->parts & SD_PART_TEXT) && u->add_in_dim) return u->add_in_dim - plan->n_ids * u->add_time_dim;
    for (int i = 0; i < plan->encoders && sd_cond_encoder(m, i); i++)
        if (plan->text[i].pooled) width += sd_cond_encoder(m, i)->cfg.projection;
    return width;
}

/* -------------------------------------------------------------------------------------------- sizes */

static bool is_given(const int pair[2]) { return pair[0] != SD_DEFAULT; }

void sd_cond_ids(const sd_cond_plan *plan, const sd_params *p, float ids[2][SD_MOST_IDS])
{
    const sd_sdxl_params *x = &p->sdxl;
    const int whole[2] = {p->width, p->height}, corner[2] = {0, 0};
    const int *original = is_given(x->original_size) ? x->original_size : whole;
    const int *target = is_given(x->target_size) ? x->target_size : whole, *crop = x->crop;
    const bool other = is_given(x->negative_original_size) || is_given(x->negative_target_size)
        || is_given(x->negative_crop);
    for (int i = 1; i >= 0; i--) {   /* the prompt's, then the negative prompt's */
        if (i == 0) {
            if (is_given(x->negative_original_size)) original = x->negative_original_size;
            if (is_given(x->negative_target_size)) target = x->negative_target_size;
            if (is_given(x->negative_crop)) crop = x->negative_crop;
            else if (other || plan->n_ids == 5) crop = corner;   /* [StableDiffusionXLImg2ImgPipeline: the refiner's] */
        }
        const float all[SD_MOST_IDS] = {(float)original[1], (float)original[0], (float)crop[0], (float)crop[1],
                                        (float)target[1], (float)target[0]};
        memcpy(ids[i], all, sizeof all);
        if (plan->n_ids == 5) ids[i][4] = (float)(i ? x->aesthetic_score : x->negative_aesthetic_score);
    }
}
