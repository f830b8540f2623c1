/* compare_call.c - floor 6: sd_compare: two traces are opened and measured, judged, and what was found is told. */
#include "compare.h"

#include <stdlib.h>

void sd_compare_options_init_sized(sd_compare_options *o, size_t size)
{
    const sd_compare_options fresh = {.size = sizeof fresh, .columns = 80, .rtol = 1e-3, .atol = 1e-5};
    sd_copy_struct(o, size, &fresh, sizeof fresh);
    o->size = size;
}

/* Floors are of errors that runs hand on; where none is inherited, those of one operation are narrower. */
static sd_status set_bounds(sd_comparison *c, const char *floors, sd_error *e)
{
    return sd_compare_is_apart(c) ? sd_compare_levels_apart(c, e) : sd_compare_floors(c, floors, e);
}

static void tell(const sd_comparison *c, const sd_compare_options *o, const sd_inspect_options *style, sd_text *t)
{
    if (o->json) sd_compare_json(c, t);
    else sd_compare_text(c, &(sd_compare_style){style, o->all != 0}, t);
}

sd_status sd_compare(const char *ref, const char *mine, const sd_compare_options *options, char **text, int *different,
                     char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_text t = {0};
    sd_compare_options o;
    sd_compare_options_init_sized(&o, sizeof o);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    const sd_inspect_options style = {.size = sizeof style, .columns = o.columns < 40 ? 40 : o.columns,
                                      .progress = o.progress, .user = o.user};
    if (error) *error = 0;
    if (!text || !different) return SD_ERR_ARG;
    *text = NULL;
    *different = 0;
    sd_comparison *c = calloc(1, sizeof *c);
    if (!ref || !mine) sd_fail(&e, SD_ERR_ARG, "the paths to compare must not be NULL");
    else if (!c) sd_fail(&e, SD_ERR_MEMORY, "no memory to compare %.200s", ref);
    else if (!(o.html && sd_compare_check_html(o.html, &e)) && !sd_comparison_make(c, ref, mine, &o, &e)
             && !set_bounds(c, o.floor, &e)) {
        sd_compare_judge(c);
        *different = c->first < c->n;
        if (!sd_compare_added(c, &o, &e) && c->own) *different |= c->own->first < c->own->n;
        if (!e.status && !sd_compare_detail(c, &e)) tell(c, &o, &style, &t);
        if (o.html && !e.status) sd_compare_write_html(c, o.html, &e);
    }
    if (c) sd_comparison_free(c);
    free(c);
    return sd_inspect_end(&t, text, error, &e);
}
