/* compare_run.c - floor 6: the settings that a trace tells of its run, beside those of a run that is to go on with
 * it. */
#include "compare.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN = 60 };   /* letters of a value */

/* "seed "1", here "2"; other timesteps" */
static void say(sd_text *t, const sd_setting *s)
{
    bool long_ones = strlen(s->ref) > SHOWN || strlen(s->mine) > SHOWN || *s->how;
    if (long_ones) sd_text_add(t, "%sother %s", t->n ? "; " : "", s->key);
    else sd_text_add(t, "%s%s \"%s\", here \"%s\"", t->n ? "; " : "", s->key, s->mine, s->ref);
}

/* Of a run that begins in the middle the whole counts, of which it is a part. */
static sd_params whole(const sd_params *given)
{
    sd_params p;
    sd_params_init(&p);
    sd_params_copy(&p, given);
    p.sampling.from_step = SD_DEFAULT;
    p.latents = NULL;
    p.latents_count = 0;
    p.latents_name = NULL;
    return p;
}

static sd_status compare(sd_ctx *c, const sd_params *given, const char *path, const char *but, sd_text *t)
{
    sd_comparison x = {.n = 0};
    const sd_params p = whole(given);
    const sd_given before = c->given;
    c->given = (sd_given){.size = 0};
    if (!sd_tensors_open(&x.mine, path, &c->err) && x.mine.n_meta && !sd_rehearse_tensors(c, &p, &x.ref))
        sd_compare_settings(&x, &c->err);
    for (size_t i = 0; i < x.n_settings && !c->err.status; i++)
        if (!but || !sd_glob_list(but, x.setting[i].key)) say(t, &x.setting[i]);
    c->given = before;
    sd_comparison_free(&x);
    return c->err.status;
}

sd_status sd_settings_differ(sd_ctx *c, const sd_params *params, const char *trace, const char *but, char **text)
{
    sd_text t = {0};
    if (text) *text = NULL;
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "trace", trace)
        || sd_check_not_null(c, "text", text))
        return sd_end(c);
    if (!compare(c, params, trace, but, &t) && t.failed)
        sd_fail(&c->err, SD_ERR_MEMORY, "no memory to compare settings");
    if (c->err.status) free(t.s);
    else *text = t.s;
    return sd_end(c);
}
