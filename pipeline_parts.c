/* pipeline_parts.c - floor 6: runs that begin or end in the middle [diffusers' denoising_start and denoising_end]. What
 * two models draw together is two such parts, see pipeline_refiner.c. */
#include "params.h"
#include "pipeline_drawing.h"

#include <math.h>

static bool is_given(double share) { return share != SD_DEFAULT; }

bool sd_run_has_refiner(const sd_ctx *c, const sd_params *p)
{
    return c->has_refiner && !c->refines && p->sampling.refiner_at < 1;
}

static sd_status check_refiner(sd_ctx *c, sd_params *p)
{
    bool second = c->has_refiner && !c->refines;
    if (is_given(p->sampling.refiner_at) && p->sampling.refiner_at < 1 && !c->has_refiner)
        return sd_fail(&c->err, SD_ERR_ARG, "a refiner is to take over at %g, but none was opened",
                       p->sampling.refiner_at);
    if (second && !is_given(p->sampling.refiner_at)) p->sampling.refiner_at = 0.8;
    if (second && !(p->sampling.refiner_at > 0))
        return sd_fail(&c->err, SD_ERR_ARG, "the refiner must take over after 0, and from 1 on it does nothing, not at "
                       "%g", p->sampling.refiner_at);
    return SD_OK;
}

sd_status sd_resolve_part(sd_ctx *c, sd_params *p, bool masked, size_t latents)
{
    bool from = p->sampling.from_step != SD_DEFAULT;
    bool starts = (is_given(p->sampling.denoising_start) && p->sampling.denoising_start > 0) || from;
    if (check_refiner(c, p)) return c->err.status;
    if (from && is_given(p->sampling.denoising_start))
        return sd_fail(&c->err, SD_ERR_ARG, "a run starts after a share of its noise levels or with a step: one of "
                       "both");
    if (starts != (p->latents != NULL))
        return sd_fail(&c->err, SD_ERR_ARG, "%s", starts
                       ? "a run that starts in the middle needs the latents of the run before it"
                       : "latents of another run were given, but not after which share of the run: the denoising "
                         "start");
    if (p->latents && p->edit.init)
        return sd_fail(&c->err, SD_ERR_ARG, "latents of another run and a picture were given: a run begins from one of "
                       "them");
    if (p->latents && p->latents_count != latents)
        return sd_fail(&c->err, SD_ERR_ARG, "the latents of the run before this one must be %zu numbers, not %zu",
                       latents, p->latents_count);
    if (p->latents && sd_check_numbers(c, "the latents of the run before this one", p->latents, latents))
        return c->err.status;
    bool ends = is_given(p->sampling.denoising_end) && p->sampling.denoising_end < 1;
    if (masked && (ends || sd_run_has_refiner(c, p)))
        return sd_fail(&c->err, SD_ERR_UNSUPPORTED, "with a mask a run cannot end in the middle, nor a refiner go on: "
                       "only the whole run puts the kept part back");
    return SD_OK;
}

/* The rules of strength are cited in likes.c. */
int sd_steps_of_levels(const sd_params *p)
{
    bool more = p->edit.init && sd_param_word("strength_steps", p->edit.strength_steps) == SD_STEPS_ALL
        && p->edit.strength > 0 && p->edit.strength <= 0.9999;
    double steps = more ? p->sampling.steps / p->edit.strength : p->sampling.steps;
    return steps < SD_MAX_TRAIN_STEPS ? (int)steps : SD_MAX_TRAIN_STEPS;
}

static int first_step(const sd_params *p)
{
    int n = sd_steps_of_levels(p);
    switch (sd_param_word("strength_steps", p->edit.strength_steps)) {
    case SD_STEPS_ONE_MORE: return n - 1 - (int)(n * fmin(p->edit.strength, 0.999));
    case SD_STEPS_ALL: return n - p->sampling.steps;
    default: return n - (int)(n * p->edit.strength);
    }
}

sd_sampler_part sd_part_of(const sd_params *p, const sd_sched_config *levels)
{
    const sd_sampling_params *s = &p->sampling;
    int first = p->edit.init && levels->strength == 1 ? first_step(p) : 0;
    return (sd_sampler_part){first, is_given(s->denoising_start) ? s->denoising_start : 0,
                             is_given(s->denoising_end) ? s->denoising_end : 1,
                             s->from_step == SD_DEFAULT ? 0 : s->from_step};
}

void sd_drawing_cut(const sd_ctx *c, sd_drawing *d)
{
    if (c->err.status || !sd_run_has_refiner(c, &d->p)) return;
    d->followed = true;
    d->p.sampling.denoising_end = d->p.sampling.refiner_at;
}
