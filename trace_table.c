/* trace_table.c - floor 3: what the tensors of a trace are like, a row each, instead of all their numbers: as a text,
 * as CSV or as JSON; or the SHA-256 of each, in lines as sha256sum prints them. And the sink that writes such a
 * table. */
#include "trace_table.h"
#include "sha256.h"
#include "text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------ the rows */

/* The L2 norm of the numbers that mean and deviation are of. */
static double norm_of(const sd_values *v)
{
    return sqrt((double)v->finite * (v->std * v->std + v->mean * v->mean));
}

static void add_rounded(sd_text *t, double x)
{
    char local[SD_NUMBER_SIZE], out[SD_NUMBER_SIZE];
    snprintf(local, sizeof local, "%.5g", x);
    sd_text_add(t, " %12s", sd_plain_number(out, strtod(local, NULL)));
}

static void add_dims(sd_text *t, const sd_entry *x, const char *between)
{
    for (int i = 0; i < x->nd; i++) sd_text_add(t, "%s%lld", i ? between : "", (long long)x->dim[i]);
}

static void add_text_row(sd_text *t, const sd_entry *x, const sd_values *v)
{
    const double of[] = {v->mean, v->std, v->min, v->max, norm_of(v)};
    for (size_t i = 0; i < SD_COUNT(of); i++) {
        if (v->finite) add_rounded(t, of[i]);
        else sd_text_add(t, " %12s", "-");
    }
    sd_text_add(t, " %7llu  %s [", (unsigned long long)(v->nan + v->inf), x->name);
    add_dims(t, x, ",");
    sd_text_add(t, "]%s%s\n", x->dt == SD_F32 ? "" : " ", x->dt == SD_F32 ? "" : sd_entry_dtype(x));
}

/* A name in CSV: quoted, if it has what means something there [RFC 4180]. */
static void add_csv_name(sd_text *t, const char *name)
{
    if (!strpbrk(name, ",\"\r\n")) {
        sd_text_add(t, "%s", name);
        return;
    }
    sd_text_add(t, "\"");
    for (; *name; name++) sd_text_add(t, *name == '"' ? "\"\"" : "%c", *name);
    sd_text_add(t, "\"");
}

typedef struct column { const char *name; double x; } column;
enum { COLUMNS = 9, MEASURED = 5 };   /* the measured ones come first: without a finite number there are none */

static void columns_of(column out[COLUMNS], const sd_values *v)
{
    const column all[COLUMNS] = {
        {"mean", v->mean}, {"std", v->std}, {"min", v->min}, {"max", v->max}, {"norm", norm_of(v)},
        {"nan", (double)v->nan}, {"inf", (double)v->inf}, {"zero", (double)v->zero},
        {"subnormal", (double)v->subnormal}};
    memcpy(out, all, sizeof all);
}

static void add_csv_row(sd_text *t, const sd_entry *x, const sd_values *v)
{
    char number[SD_NUMBER_SIZE];
    column of[COLUMNS];
    columns_of(of, v);
    add_csv_name(t, x->name);
    sd_text_add(t, ",%s,", sd_entry_dtype(x));
    add_dims(t, x, "x");
    sd_text_add(t, ",%llu", (unsigned long long)v->n);
    for (size_t i = 0; i < COLUMNS; i++)
        sd_text_add(t, ",%s", v->finite || i >= MEASURED ? sd_plain_number(number, of[i].x) : "nan");
    sd_text_add(t, "\n");
}

static void add_json_row(sd_text *t, const sd_entry *x, const sd_values *v, bool first)
{
    char number[SD_NUMBER_SIZE];
    column of[COLUMNS];
    columns_of(of, v);
    sd_text_add(t, "%s\n{\"name\":", first ? "" : ",");
    sd_text_quoted(t, x->name);
    sd_text_add(t, ",\"dtype\":\"%s\",\"shape\":[", sd_entry_dtype(x));
    add_dims(t, x, ",");
    sd_text_add(t, "],\"numbers\":%llu", (unsigned long long)v->n);
    for (size_t i = 0; i < COLUMNS; i++)
        sd_text_add(t, ",\"%s\":%s", of[i].name,
                    v->finite || i >= MEASURED ? sd_plain_number(number, of[i].x) : "null");
    sd_text_add(t, "}");
}

static void hash_bytes(void *user, const void *bytes, size_t n) { sd_sha256_add(user, bytes, n); }

static sd_status add_hash(sd_table *t, const sd_entry *x, sd_error *e)
{
    char hex[SD_SHA256_HEX];
    sd_sha256 h;
    sd_sha256_init(&h);
    if (sd_entry_bytes(x, hash_bytes, &h, e)) return e->status;
    sd_sha256_hex(&h, hex);
    sd_text_add(&t->text, "%s  %s\n", hex, x->name);
    return SD_OK;
}

/* ----------------------------------------------------------------------------------------- the table */

void sd_table_begin(sd_table *t, sd_table_form form)
{
    *t = (sd_table){.form = form, .kern = sd_kern_select(NULL), .threads = sd_cores_usable()};
    if (form == SD_TABLE_TEXT)
        sd_text_add(&t->text, "%13s %12s %12s %12s %12s %7s  %s\n", "mean", "std", "min", "max", "norm", "NaN,inf",
                    "name and shape");
    if (form == SD_TABLE_CSV)
        sd_text_add(&t->text, "name,dtype,shape,numbers,mean,std,min,max,norm,nan,inf,zero,subnormal\n");
    if (form == SD_TABLE_JSON) sd_text_add(&t->text, "{\"sd\":\"%s\",\"tensors\":[", SD_VERSION);
}

sd_status sd_table_add(sd_table *t, const sd_entry *x, sd_error *e)
{
    sd_values v;
    if (t->form == SD_TABLE_HASHES) {
        if (add_hash(t, x, e)) return e->status;
    } else {
        if (sd_values_with(&v, x, t->kern, t->threads, e)) return e->status;
        if (t->form == SD_TABLE_TEXT) add_text_row(&t->text, x, &v);
        if (t->form == SD_TABLE_CSV) add_csv_row(&t->text, x, &v);
        if (t->form == SD_TABLE_JSON) add_json_row(&t->text, x, &v, t->rows == 0);
    }
    t->rows++;
    return t->text.failed ? sd_fail(e, SD_ERR_MEMORY, "no memory for a table of tensors") : SD_OK;
}

void sd_table_end(sd_table *t)
{
    if (t->form == SD_TABLE_JSON) sd_text_add(&t->text, "\n]}\n");
}

/* ------------------------------------------------------------------------------------------ the sink */

typedef struct writer { sd_table table; char *path; } writer;

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    writer *w = user;
    sd_entry t = {.name = (char *)x->name, .dt = x->dtype, .nd = x->nd, .data = x->data};
    (void)writable;
    if (!x->data) return SD_OK;   /* nothing was computed */
    memcpy(t.dim, x->dim, sizeof x->dim);
    t.bytes = sd_dtype_size(x->dtype) * (size_t)sd_entry_numbers(&t);
    return sd_table_add(&w->table, &t, e);
}

static sd_status write_table(writer *w, sd_error *e)
{
    sd_outfile o;
    sd_table_end(&w->table);
    if (w->table.text.failed) return sd_fail(e, SD_ERR_MEMORY, "no memory for a table of tensors");
    if (sd_outfile_open(&o, w->path, e)) return e->status;
    errno = 0;
    if (w->table.text.n && fwrite(w->table.text.s, 1, w->table.text.n, o.f) != w->table.text.n) {
        sd_fail(e, SD_ERR_IO, "cannot write %s: %s", w->path, strerror(errno));
        sd_outfile_abort(&o);
        return e->status;
    }
    return sd_outfile_commit(&o, e);
}

static sd_status finish(void *user, sd_error *e)
{
    writer *w = user;
    if (!e->status) write_table(w, e);
    free(w->table.text.s);
    free(w->path);
    free(w);
    return e->status;
}

sd_status sd_trace_to_table(sd_trace **out, const char *filter, const char *path, bool hashes, sd_error *e)
{
    writer *w = e->status ? NULL : calloc(1, sizeof *w);
    if (w) w->path = sd_strdup(path);
    if (!w || !w->path) {
        free(w);
        return e->status ? e->status : sd_fail(e, SD_ERR_MEMORY, "no memory for a table of tensors");
    }
    sd_table_begin(&w->table, hashes ? SD_TABLE_HASHES : sd_has_ending(path, ".json") ? SD_TABLE_JSON
                              : sd_has_ending(path, ".csv") ? SD_TABLE_CSV : SD_TABLE_TEXT);
    const sd_sink sink = {.user = w, .see = see, .close = finish, .strict = true, .unordered = !hashes};
    return sd_trace_put(out, filter, &sink, e);
}
