/* pipeline_settings.c - floor 6: tells the trace the settings of a run, so that whoever compares two traces sees first
 * whether they should be the same run at all. Keys are those of sd_params, and a few of what is no parameter. */
#include "params.h"
#include "pipeline_drawing.h"

#include <stdlib.h>
#include <string.h>

/* Told by themselves: prompts always, and of the sampler what was resolved. */
static const char *const apart[] = {"prompt", "negative_prompt", "sampler", "schedule", "sigmas", "timesteps"};

static bool is_apart(const sd_param *row)
{
    for (size_t i = 0; i < SD_COUNT(apart); i++)
        if (strcmp(apart[i], row->about.key) == 0) return true;
    return false;
}

static void note(sd_ctx *c, const char *key, sd_text *value)
{
    sd_text_addn(value, "", 0);
    if (value->failed) sd_fail(&c->err, SD_ERR_MEMORY, "no memory for the settings of a trace");
    else sd_trace_note(&c->run, key, value->s);
    free(value->s);
    *value = (sd_text){0};
}

/* Of a picture to begin from nothing is told where there is none. */
static void note_parameter(sd_ctx *c, const sd_drawing *d, const sd_param *row)
{
    sd_text value = {0};
    bool changed = sd_param_add_text(&value, &d->p, row), always = row->written == SD_WRITTEN_ALWAYS && value.n;
    bool told = !sd_param_is_edit(row) || d->edit.active;
    if (told && (changed || always) && !is_apart(row)) note(c, row->about.key, &value);
    free(value.s);
}

/* Levels at which the network is asked, and of sigmas also where the last step ends. */
static void note_levels(sd_ctx *c, const sd_drawing *d, bool sigmas)
{
    sd_text list = {0};
    char number[SD_NUMBER_SIZE];
    int n = sd_sampler_count(d->sampler);
    for (int i = 0; i < n + sigmas; i++) {
        double x = sigmas ? sd_sampler_sigma(d->sampler, i) : sd_sampler_timestep(d->sampler, i);
        sd_text_add(&list, "%s%s", i ? "," : "", sd_number_text(number, x));
    }
    if (n) note(c, sigmas ? "sigmas" : "timesteps", &list);
    free(list.s);
}

static void note_sampler(sd_ctx *c, const sd_drawing *d)
{
    sd_text value = {0};
    sd_text_add(&value, "%s", sd_method_full_name(d->levels.method, d->levels.program));
    note(c, "sampler", &value);
    sd_text_add(&value, "%s", sd_curve_name(d->levels.curve));
    note(c, "schedule", &value);
    note_levels(c, d, false);
    note_levels(c, d, true);
}

static void note_prompts(sd_ctx *c, const sd_drawing *d)
{
    sd_text value = {0};
    sd_text_add(&value, "%s", d->p.prompt);
    note(c, "prompt", &value);
    sd_text_add(&value, "%s", d->p.negative_prompt ? d->p.negative_prompt : "");
    note(c, "negative_prompt", &value);
}

void sd_drawing_note_settings(sd_ctx *c, const sd_drawing *d)
{
    const sd_param *row;
    sd_text value = {0};
    char given[64];
    if (!sd_trace_notes(&c->run) || sd_drawing_done(c, d)) return;
    if (!c->given.tokens[0] && !c->given.prompt_embeds) note_prompts(c, d);
    for (size_t i = 0; (row = sd_param_at(i)) != NULL; i++) note_parameter(c, d, row);
    note_sampler(c, d);
    if (*sd_given_names(c, given)) {
        sd_text_add(&value, "%s", given);
        note(c, "given", &value);
    }
    sd_text_add(&value, "%s", sd_model_fingerprint(&c->model));
    note(c, "weights", &value);
    sd_text_add(&value, "sd %s", SD_VERSION);
    note(c, "program", &value);
    bool cpu = c->run.be == &sd_backend_cpu;
    sd_text_add(&value, "%s", !cpu ? c->run.be->name : c->cpu.kern->precise ? "precise" : c->cpu.kern->name);
    note(c, "kernels", &value);
}
