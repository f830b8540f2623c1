/* cond.h - floor 6: the UNet's inputs besides latents and timesteps. */
#ifndef SD_COND_H
#define SD_COND_H

#include "pipeline.h"

enum { SD_MOST_TEXT_ENCODERS = 2 };

/* The inputs that UNets of a family need: text[i] says what text encoder i gives; the context has them side by side. */
typedef struct sd_cond_plan {
    int encoders;
    sd_clip_output text[SD_MOST_TEXT_ENCODERS];   /* a pooled vector from at most one of them */
    int n_ids;                                    /* what it is told of sizes: 6, the refiner 5 numbers; 0: nothing */
} sd_cond_plan;

/* ---- cond_plan.c
 * The plan of the model that was opened. */
const sd_cond_plan *sd_cond_plan_of(const sd_model *m);
const sd_clip *sd_cond_encoder(const sd_model *m, int i);   /* NULL: it has none */
int sd_cond_width(const sd_model *m, const sd_cond_plan *plan);   /* of the context */
int sd_cond_pooled_width(const sd_model *m, const sd_cond_plan *plan);   /* 0: there is no pooled vector */
/* What a UNet of the SDXL family is told of sizes, for the negative prompt and the prompt: original height and width,
 * top and left of the crop, and target height and width, or in the refiner an aesthetic score. */
enum { SD_MOST_IDS = 6 };
void sd_cond_ids(const sd_cond_plan *plan, const sd_params *p, float ids[2][SD_MOST_IDS]);

/* ---- cond.c
 * Numbers for n texts, one after the other, `repeat` times each: [uncond uncond .. cond cond ..]. */
typedef struct sd_prompts {
    sd_cond cond;                /* points to the arrays */
    float *context, *pooled, *ids, *time_cond;
    int32_t *labels;
} sd_prompts;

typedef struct sd_prompts_in {
    const char *const *text;         /* n; of the first, NULL: zeros stand for what it would give */
    const char *const *what;         /* what warnings call them, "the prompt"; NULL: no warnings */
    int n, repeat;
    int clip_skip;                   /* as in sd_params */
    int label;                       /* the class that a UNet is told which has classes */
    double guidance;                 /* the scale that a UNet is told which has time_cond_dim */
    float (*ids)[SD_MOST_IDS];       /* plan->n_ids numbers for each text; NULL if there are none */
    const int32_t *tokens[SD_MOST_TEXT_ENCODERS];   /* ids [n,77] in the place of the texts', but of the first, if that
                                                     * is zeros; NULL: theirs */
    const float *context, *pooled;   /* in the place of what the encoders make; NULL: that */
    int rows;                        /* of these: n, or n repeat */
} sd_prompts_in;
/* Traces "tokens" and "prompt_embeds". */
sd_status sd_prompts_encode(sd_ctx *c, sd_prompts *out, const sd_cond_plan *plan, const sd_prompts_in *in);
void sd_prompts_free(sd_prompts *p);

#endif
