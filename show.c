/* show.c - floor 6: sd_show: what is in a trace, or in any file of tensors: a row of statistics for each in the order
 * in which they were computed, their hashes, or the numbers of one (show_numbers.c). */
#include "show.h"
#include "inspect.h"
#include "trace_table.h"

#include <stdlib.h>
#include <string.h>

void sd_show_options_init_sized(sd_show_options *o, size_t size)
{
    const sd_show_options fresh = {.size = sizeof fresh};
    sd_copy_struct(o, size, &fresh, sizeof fresh);
    o->size = size;
}

/* A row of each tensor that the filter lets pass. */
static sd_status list(sd_text *t, const sd_tensors *of, const sd_show_options *o, const sd_inspect_options *style,
                      sd_error *e)
{
    sd_telling telling = {.o = style, .what = "reading"};
    sd_table table;
    sd_table_begin(&table, o->hash ? SD_TABLE_HASHES : o->json ? SD_TABLE_JSON : o->csv ? SD_TABLE_CSV : SD_TABLE_TEXT);
    for (size_t i = 0; i < of->n; i++)
        if (sd_glob_list(o->filter, of->at[i]->name)) telling.total += (double)of->at[i]->bytes;
    for (size_t i = 0; i < of->n && sd_tell(&telling, 0, e); i++) {
        sd_borrowed b = {.file = {0}};
        if (!sd_glob_list(o->filter, of->at[i]->name)) continue;
        if (!sd_tensors_borrow(of, of->at[i], &b, e) && !sd_table_add(&table, &b.of, e))
            sd_tell(&telling, (double)b.of.bytes, e);
        sd_tensors_return(of, &b);
    }
    sd_table_end(&table);
    *t = table.text;
    if (!e->status && !table.rows)
        sd_fail(e, SD_ERR_ARG, "\"%.200s\" is the name of none of the %zu tensors of %.200s%s%.100s",
                o->filter ? o->filter : "", of->n, of->path, of->n ? ", such as " : "", of->n ? of->at[0]->name : "");
    return e->status;
}

sd_status sd_show(const char *path, const sd_show_options *options, char **text, char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_text t = {0};
    sd_tensors of;
    sd_show_options o;
    sd_show_options_init_sized(&o, sizeof o);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    const sd_inspect_options style = {.size = sizeof style, .columns = 80, .progress = o.progress, .user = o.user};
    if (error) *error = 0;
    if (!text) return SD_ERR_ARG;
    *text = NULL;
    if (!path) sd_fail(&e, SD_ERR_ARG, "the path to show must not be NULL");
    else if (!sd_tensors_open(&of, path, &e)) {
        if (o.tensor) sd_show_numbers(&t, &of, o.tensor, o.json != 0, o.all != 0, &e);
        else list(&t, &of, &o, &style, &e);
        if (!e.status) sd_store_still_there(&of.store, &e);
        sd_tensors_close(&of);
    }
    return sd_inspect_end(&t, text, error, &e);
}
