/* cond.h - floor 6: the UNet's inputs besides latents and timesteps. */
#ifndef SD_COND_H
#define SD_COND_H

#include "pipeline.h"

enum { SD_MOST_TEXT_ENCODERS = 2 };

/* The inputs that UNets of a family need: text[i] says what text encoder i gives; the context has them side by side. */
typedef struct sd_cond_plan {
    int encoders;
    sd_clip_output text[SD_MOST_TEXT_ENCODERS];   /* a pooled vector from at most one of them */
    int n_ids;                                    /* sizes and crops in pixels (SDXL: 6); 0: none */
} sd_cond_plan;

/* The plan of the model that was opened. */
const sd_cond_plan *sd_cond_plan_of(const sd_model *m);
int sd_cond_width(const sd_model *m, const sd_cond_plan *plan);   /* of the context */

/* Numbers for n texts, one after the other, `repeat` times each: [uncond uncond .. cond cond ..]. */
typedef struct sd_prompts {
    sd_cond cond;                /* points to the arrays */
    float *context, *pooled, *ids;
} sd_prompts;

/* ids: plan->n_ids numbers, the same for every text; NULL if there are none. what: what warnings call the texts, "the
 * prompt"; NULL: no warnings. Traces "tokens" and "prompt_embeds". clip_skip as in sd_params. */
sd_status sd_prompts_encode(sd_ctx *c, sd_prompts *out, const sd_cond_plan *plan, const char *const *text,
                            const char *const *what, int n, int repeat, int clip_skip, const float *ids);
void sd_prompts_free(sd_prompts *p);

#endif
