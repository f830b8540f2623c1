/* methods.c - floor 5: the table of samplers, and finding one by any of its names. */
#include "solver.h"

#include <string.h>

static const sd_method_row methods[SD_METHOD_COUNT] = {
    [SD_DDIM] = {{"ddim", "DDIMScheduler", "DDIM", NULL,
                  "Song et al. 2020, Denoising Diffusion Implicit Models", 1, SD_DRAWS_WITH_ETA, 0.0},
                 sd_sample_ddim, SD_VP, SD_TABLE, SD_SPACE_LEADING, true, true},
    [SD_PNDM] = {{"pndm", "PNDMScheduler", "PLMS", NULL,
                  "Liu et al. 2022, Pseudo Numerical Methods for Diffusion Models on Manifolds", 2, SD_DRAWS_NEVER, 0.0},
                 sd_sample_pndm, SD_VP, SD_TABLE, SD_SPACE_LEADING, false, false},
    [SD_EULER] = {{"euler", "EulerDiscreteScheduler", "Euler", "sample_euler",
                   "Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative Models", 1, SD_DRAWS_NEVER, 0.0},
                  sd_sample_euler, SD_VE, SD_SIGMAS, SD_SPACE_LINSPACE, false, false},
    [SD_EULER_A] = {{"euler_a", "EulerAncestralDiscreteScheduler", "Euler a", "sample_euler_ancestral",
                     "Karras et al. 2022; ancestral steps of k-diffusion", 1, SD_DRAWS_ALWAYS, 1.0},
                    sd_sample_euler_ancestral, SD_VE, SD_SIGMAS, SD_SPACE_LINSPACE, false, false},
};

const sd_method_row *sd_method_row_of(sd_method m) { return &methods[m]; }
const sd_method_info *sd_method_about(sd_method m) { return &methods[m].about; }
const char *sd_method_name(sd_method m) { return (size_t)m < SD_METHOD_COUNT ? methods[m].about.name : "?"; }

static bool is(const char *name, const char *other) { return other && strcmp(name, other) == 0; }

sd_status sd_method_parse(sd_method *m, const char *name, sd_error *e)
{
    for (int i = 0; i < SD_METHOD_COUNT; i++) {
        const sd_method_info *a = &methods[i].about;
        if (is(name, a->name) || is(name, a->diffusers) || is(name, a->a1111) || is(name, a->kdiffusion)
            || (i == SD_PNDM && is(name, "plms"))) {
            *m = (sd_method)i;
            return SD_OK;
        }
    }
    return sd_fail(e, SD_ERR_ARG, "unknown sampler \"%.64s\", expected ddim, pndm (plms), euler or euler_a", name);
}
