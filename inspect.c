/* inspect.c - floor 6: sd_inspect: what a file or a directory is, as a text or as JSON. */
#include "inspect.h"

#include <stdlib.h>
#include <string.h>

void sd_inspect_options_init_sized(sd_inspect_options *o, size_t size)
{
    const sd_inspect_options fresh = {.size = sizeof fresh, .columns = 80};
    sd_copy_struct(o, size, &fresh, sizeof fresh);
    o->size = size;
}

/* The caller's options, which may be those of another version of sd.h. */
sd_inspect_options sd_inspect_options_of(const sd_inspect_options *o)
{
    sd_inspect_options mine;
    sd_inspect_options_init_sized(&mine, sizeof mine);
    if (o) sd_copy_struct(&mine, sizeof mine, o, o->size);
    if (mine.columns < 40) mine.columns = 40;
    return mine;
}

sd_status sd_inspect_end(sd_text *t, char **text, char error[512], sd_error *e)
{
    if (t->failed) sd_fail(e, SD_ERR_MEMORY, "no memory to tell what was found");
    if (e->status) free(t->s);
    else *text = t->s;
    if (error) snprintf(error, 512, "%s", e->text);
    return e->status;
}

sd_status sd_inspect(const char *path, const sd_inspect_options *options, char **text, char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_text t = {0};
    const sd_inspect_options o = sd_inspect_options_of(options);
    if (error) *error = 0;
    if (!text) return SD_ERR_ARG;
    *text = NULL;
    sd_seen *s = calloc(1, sizeof *s);
    if (!path) sd_fail(&e, SD_ERR_ARG, "the path to inspect must not be NULL");
    else if (!s) sd_fail(&e, SD_ERR_MEMORY, "no memory to inspect %.200s", path);
    else if (!sd_seen_open(s, path, false, &e) && !sd_seen_read(s, &o, &e))
        (o.json ? sd_seen_json : sd_seen_text)(s, &o, &t);
    if (s) sd_seen_close(s);
    free(s);
    return sd_inspect_end(&t, text, error, &e);
}
