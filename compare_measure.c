/* compare_measure.c - floor 6: sd_measure_floor: what float32 itself does to each tensor, from traces of one run that
 * are right but rounded differently.
 *
 * What two such traces differ by is what both have of float32's error. Of more than two the farthest pair counts. */
#include "compare.h"
#include "os.h"

#include <stdlib.h>
#include <string.h>

/* Of two traces that nowhere differ nothing can be learned; nor of two different runs. */
static sd_status check(const sd_comparison *c, sd_error *e)
{
    size_t differ = 0;
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        differ += sd_has_error(r) && r->error > 0;
        if (sd_is_fault(r) || (sd_has_error(r) && sd_is_input(sd_compared_name(r)) && r->error > SD_INPUT_ERROR))
            return sd_fail(e, SD_ERR_FORMAT, "%.120s and %.120s are not of the same run: they differ in %.80s",
                           c->ref.path, c->mine.path, sd_compared_name(r));
    }
    if (2 * differ >= c->compared) return e->status;
    return sd_fail(e, SD_ERR_FORMAT, "%zu of %zu tensors are the same in %.120s and %.120s, which tells nothing of "
                   "float32: give traces that are rounded differently, one of --precise or of another program",
                   c->compared - differ, c->compared, c->ref.path, c->mine.path);
}

static sd_status add_pair(sd_floors *f, const char *a, const char *b, const sd_compare_options *o, sd_error *e)
{
    sd_comparison *c = calloc(1, sizeof *c);
    if (!c) return sd_fail(e, SD_ERR_MEMORY, "no memory to compare %.200s", a);
    if (!sd_comparison_make(c, a, b, o, e)) check(c, e);
    for (size_t i = 0; i < c->n && !e->status; i++) {
        const sd_compared *r = &c->row[i];
        if (!sd_has_error(r) || sd_is_input(sd_compared_name(r))) continue;
        if (r->error == 0) continue;   /* both computed it in the same way, which tells nothing of another program */
        if (r->error < 1) sd_floors_add(f, r->key, r->error, e);
        else sd_fail(e, SD_ERR_FORMAT, "%.120s and %.120s are %.3g apart in %.80s: one of them is wrong there", a, b,
                     r->error, sd_compared_name(r));
    }
    sd_comparison_free(c);
    free(c);
    return e->status;
}

/* Where the file's name was left out a trace stands in its place: only floors, or nothing, are written over. */
sd_status sd_floors_check_output(const char *path, sd_error *e)
{
    sd_error why = {.halt = e->halt};
    sd_floors old = {0};
    uint64_t bytes = 0;
    if (sd_os_look(path, &bytes) != SD_OS_FILE || !bytes || sd_is_stream(path)) return e->status;
    if (sd_floors_read(&old, path, &why))
        sd_fail(e, SD_ERR_ARG, "%.300s is there and is no file of floors: floors need a name of their own", path);
    sd_floors_free(&old);
    return e->status;
}

static sd_status measure(sd_floors *f, const char *const *traces, size_t n, const sd_compare_options *o, sd_error *e)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n && !e->status; k++) add_pair(f, traces[i], traces[k], o, e);
    if (o->floor && !e->status) sd_floors_read(f, o->floor, e);
    return sd_floors_settle(f, e);
}

static sd_status write(const sd_floors *f, const char *const *traces, size_t n, const char *path,
                       const sd_compare_options *o, sd_error *e)
{
    sd_text head = {0};
    sd_text_add(&head, "# What float32 itself does to each tensor: relative L2 errors, the largest between two of\n");
    for (size_t i = 0; i < n; i++) sd_text_add(&head, "#   %s\n", traces[i]);
    if (o->floor) sd_text_add(&head, "# and not less than in %s\n", o->floor);
    sd_text_add(&head, "# measured by sd %s\n", sd_version());
    if (head.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to write %.200s", path);
    else sd_floors_write(f, path, head.s, e);
    free(head.s);
    return e->status;
}

sd_status sd_measure_floor(const char *const *traces, size_t n, const char *path, const sd_compare_options *options,
                           char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_floors f = {0};
    sd_compare_options o;
    sd_compare_options_init_sized(&o, sizeof o);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    if (!traces || n < 2 || !path) sd_fail(&e, SD_ERR_ARG, "a floor is measured between two or more traces");
    else if (!sd_floors_check_output(path, &e) && !measure(&f, traces, n, &o, &e)) write(&f, traces, n, path, &o, &e);
    sd_floors_free(&f);
    if (error) snprintf(error, 512, "%s", e.text);
    return e.status;
}
