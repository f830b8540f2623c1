/* selftest_rows.c - floor 6: the list of what a self-test found, and what its groups share. */
#include "selftest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

sd_check_row *sd_check_row_of(sd_selftest_run *s, const char *group, const char *what, const char *on)
{
    for (size_t i = s->n; i-- > 0;) {   /* most often the last */
        sd_check_row *r = &s->row[i];
        if (strcmp(r->group, group) == 0 && strcmp(r->what, what) == 0 && strcmp(r->on, on) == 0) return r;
    }
    sd_check_row *more = sd_grow(s->row, s->n, &s->cap, 128, sizeof *more);
    if (!more) {
        sd_fail(s->e, SD_ERR_MEMORY, "no memory for the rows of a self-test");
        return NULL;
    }
    s->row = more;
    sd_check_row *r = &s->row[s->n++];
    memset(r, 0, sizeof *r);
    snprintf(r->group, sizeof r->group, "%s", group);
    snprintf(r->what, sizeof r->what, "%s", what);
    snprintf(r->on, sizeof r->on, "%s", on);
    return r;
}

void sd_check_note(sd_check_row *row, double share, const char *why, ...)
{
    row->cases++;
    if (!(share <= row->worst)) row->worst = isnan(share) ? (double)INFINITY : share;
    if (share <= 1 || *row->why) return;
    va_list args;
    va_start(args, why);
    vsnprintf(row->why, sizeof row->why, why, args);
    va_end(args);
}

bool sd_check_failed(const sd_check_row *row) { return !(row->worst <= 1); }

bool sd_check_wanted(const sd_selftest_run *s, const char *group, const char *what)
{
    char whole[80];
    snprintf(whole, sizeof whole, "%.20s %.50s", group, what);
    return sd_glob_list(s->only, whole);
}

sd_status sd_check_path(const sd_selftest_run *s, const char *name, char path[4096])
{
    return sd_path_join(path, 4096, s->data, name, s->e);
}

sd_status sd_check_lines(const sd_selftest_run *s, const char *name, sd_description *d)
{
    char path[4096];
    memset(d, 0, sizeof *d);
    return sd_check_path(s, name, path) ? s->e->status : sd_describe(d, path, s->e);
}

sd_status sd_check_progress(sd_selftest_run *s, const char *what)
{
    if (s->e->status) return s->e->status;
    if (s->progress && s->progress(s->user, what, s->done, s->total))
        return sd_fail(s->e, SD_ERR_CANCELLED, "the self-test was cancelled");
    s->done = s->done + 1 < s->total ? s->done + 1 : s->total;
    return SD_OK;
}
