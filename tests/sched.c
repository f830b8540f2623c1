/* sched.c - see sched.h */
#include "sched.h"

#include <stdlib.h>
#include <string.h>

sd_status sched_read(sd_sched_config *c, const char *path, const char *sampler, sd_error *e)
{
    char *text;
    size_t n;
    if (sd_read_file(path, (size_t)1 << 20, &text, &n, e)) return e->status;
    if (strlen(text) < n) sd_fail(e, SD_ERR_FORMAT, "%s has a NUL character", path);
    else sd_sched_parse_as(c, text, path, sampler, e);
    free(text);
    return e->status;
}
