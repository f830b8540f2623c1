/* trace.c - floor 3: hands named intermediate results to a function or into a safetensors file.
 *
 * While a file is being made its numbers go to a file without a name beside it; only the end of the run knows the
 * header, which comes first in the format. So sd_trace_finish writes header and numbers into a second file and renames
 * that to <path>. A run that fails, or is killed, leaves neither. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "weights.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/types.h>
typedef off_t file_offset;
#define seek_to(f, at) fseeko(f, at, SEEK_SET)
#else
typedef long file_offset;
#define seek_to(f, at) fseek(f, at, SEEK_SET)
#endif

enum { NAME_BYTES = 320, PREFIX_BYTES = 128 };

/* A tensor whose numbers are in the data file. */
typedef struct kept { sd_traced t; char *name; uint64_t at, bytes; } kept;

struct sd_trace {
    char *filter, prefix[PREFIX_BYTES];
    sd_error err;                                  /* the first error; sticks, as the run's does */
    size_t offered, taken;                         /* names seen and names that passed the filter */
    char example[NAME_BYTES];                      /* a name that did not */
    float *room;                                   /* for transposing */
    size_t room_size;

    void (*fn)(void *user, const sd_traced *t);    /* NULL: into a file */
    void *user;

    char *path;
    FILE *data;
    uint64_t at;                                   /* bytes in it */
    kept *list;
    size_t n, cap, *by_name;                       /* by_name: indices of list, sorted: a file holds a name once */
};

/* ----------------------------------------------------------------------------- begin and end */

void sd_trace_abort(sd_trace *t)
{
    if (!t) return;
    if (t->data) fclose(t->data);
    for (size_t i = 0; i < t->n; i++) free(t->list[i].name);
    free(t->list);
    free(t->by_name);
    free(t->path);
    free(t->room);
    free(t->filter);
    free(t);
}

static sd_trace *new_trace(const char *filter, sd_error *e)
{
    sd_trace *t = calloc(1, sizeof *t);
    char *copy = sd_strdup(filter ? filter : "");
    if (t && copy) {
        t->filter = copy;
        return t;
    }
    free(t);
    free(copy);
    sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
    return NULL;
}

sd_status sd_trace_to_callback(sd_trace **out, const char *filter, void (*fn)(void *, const sd_traced *), void *user,
                               sd_error *e)
{
    *out = NULL;
    if (e->status) return e->status;
    sd_trace *t = new_trace(filter, e);
    if (!t) return e->status;
    t->fn = fn;
    t->user = user;
    *out = t;
    return SD_OK;
}

static sd_status open_data(sd_trace *t, const char *path, sd_error *e)
{
    t->path = sd_strdup(path);
    if (!t->path) return sd_fail(e, SD_ERR_MEMORY, "no memory for a trace");
    if (sd_is_dir(path)) return sd_fail(e, SD_ERR_ARG, "cannot write the trace %s: it is a directory", path);
    t->data = sd_file_without_name(path, e);
    return e->status;
}

sd_status sd_trace_to_file(sd_trace **out, const char *filter, const char *path, sd_error *e)
{
    *out = NULL;
    if (e->status) return e->status;
    sd_trace *t = new_trace(filter, e);
    if (!t) return e->status;
    if (open_data(t, path, e)) sd_trace_abort(t);
    else *out = t;
    return e->status;
}

const char *sd_trace_file_filter(const sd_trace *t) { return t && !t->fn && *t->filter ? t->filter : NULL; }

/* Copies the numbers of tensor i from the data file. */
static sd_status put(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    sd_trace *t = user;
    uint64_t left = t->list[i].bytes;
    unsigned char block[1 << 16];
    if (seek_to(t->data, (file_offset)t->list[i].at))
        return sd_fail(e, SD_ERR_IO, "cannot read back the trace %s: %s", path, strerror(errno));
    while (left) {
        if (sd_stopped(e)) return e->status;
        size_t n = left < sizeof block ? (size_t)left : sizeof block;
        if (fread(block, 1, n, t->data) != n) return sd_fail(e, SD_ERR_IO, "cannot read back the trace %s", path);
        if (fwrite(block, 1, n, to) != n)
            return sd_fail(e, SD_ERR_IO, "cannot write the trace %s: %s", path, strerror(errno));
        left -= n;
    }
    return SD_OK;
}

static sd_status write_file(sd_trace *t, sd_error *e)
{
    errno = 0;
    if (fflush(t->data) || ferror(t->data))
        return sd_fail(e, SD_ERR_IO, "cannot write the trace %s: %s", t->path, strerror(errno));
    sd_traced *tensors = malloc((t->n + 1) * sizeof *tensors);
    if (!tensors) return sd_fail(e, SD_ERR_MEMORY, "no memory to write the trace %s", t->path);
    for (size_t i = 0; i < t->n; i++) tensors[i] = t->list[i].t;
    sd_safetensors_write_from(t->path, tensors, t->n, put, t, e);
    free(tensors);
    return e->status;
}

sd_status sd_trace_finish(sd_trace *t, sd_error *e)
{
    if (t && t->err.status) sd_fail(e, t->err.status, "%s", t->err.text);
    else if (t && t->offered && !t->taken)
        sd_fail(e, SD_ERR_ARG, "nothing was traced: the filter \"%.100s\" matches none of %zu names, such as %s",
                t->filter, t->offered, t->example);
    else if (t && !t->fn && e->status == SD_OK) write_file(t, e);
    sd_trace_abort(t);
    return e->status;
}

/* ------------------------------------------------------------------------------------- sinks */

/* An error of the trace is one of the run, and stays with the trace for sd_trace_finish. */
static void pass_on(sd_run *r) { sd_fail(r->err, r->trace->err.status, "%s", r->trace->err.text); }

/* Where `name` is, or belongs, in by_name. */
static size_t place_of(const sd_trace *t, const char *name, bool *there)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(t->list[t->by_name[mid]].name, name) < 0) low = mid + 1;
        else high = mid;
    }
    *there = low < t->n && strcmp(t->list[t->by_name[low]].name, name) == 0;
    return low;
}

static bool list_room(sd_trace *t)
{
    if (t->n < t->cap) return true;
    size_t cap = t->cap ? 2 * t->cap : 256, *order = realloc(t->by_name, cap * sizeof *order);
    if (order) t->by_name = order;
    kept *list = realloc(t->list, cap * sizeof *list);
    if (list) t->list = list;
    if (order && list) t->cap = cap;
    return order && list;
}

static sd_status keep(sd_trace *t, const sd_traced *x)
{
    bool there;
    size_t place = place_of(t, x->name, &there), bytes = sd_dtype_size(x->dtype);
    for (int i = 0; i < x->nd; i++) bytes *= (size_t)x->dim[i];
    if (!x->data) return SD_OK;   /* nothing was computed */
    if (there)
        return sd_fail(&t->err, SD_ERR_ARG, "cannot write the trace %s: it has \"%.100s\" already, and holds one run",
                       t->path, x->name);
    char *name = list_room(t) ? sd_strdup(x->name) : NULL;
    if (!name) return sd_fail(&t->err, SD_ERR_MEMORY, "no memory to trace \"%.100s\"", x->name);
    if (fwrite(x->data, 1, bytes, t->data) != bytes) {
        free(name);
        return sd_fail(&t->err, SD_ERR_IO, "cannot write the trace %s: %s", t->path, strerror(errno));
    }
    memmove(t->by_name + place + 1, t->by_name + place, (t->n - place) * sizeof *t->by_name);
    t->by_name[place] = t->n;
    t->list[t->n] = (kept){.t = *x, .name = name, .at = t->at, .bytes = bytes};
    t->list[t->n++].t.name = name;
    t->at += bytes;
    return SD_OK;
}

static void emit(sd_run *r, const char *name, sd_dtype dt, int nd, const int64_t *dim, const void *data)
{
    sd_trace *t = r->trace;
    sd_traced x = {.name = name, .dtype = dt, .nd = nd, .data = data};
    for (int i = 0; i < nd; i++) x.dim[i] = dim[i];
    if (t->fn) t->fn(t->user, &x);
    else if (keep(t, &x)) pass_on(r);
}

/* -------------------------------------------------------------------------------- what is seen */

void sd_trace_prefix(sd_run *r, const char *fmt, ...)
{
    if (!r->trace) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->trace->prefix, sizeof r->trace->prefix, fmt, ap);
    va_end(ap);
}

bool sd_traces(const sd_run *r) { return r->trace != NULL; }

/* Makes the full name and says whether anybody wants it. */
static bool wanted(sd_run *r, char name[NAME_BYTES], const char *fmt, va_list ap)
{
    sd_trace *t = r->trace;
    if (!sd_ok(r)) return false;
    if (t->err.status == SD_OK) {
        int at = snprintf(name, NAME_BYTES, "%s", t->prefix),
            n = vsnprintf(name + at, (size_t)(NAME_BYTES - at), fmt, ap);
        if (n < 0 || n >= NAME_BYTES - at)
            sd_fail(&t->err, SD_ERR_ARG, "a traced name is longer than %d bytes: %.100s...", NAME_BYTES - 1, name);
    }
    if (t->err.status) {
        pass_on(r);
        return false;
    }
    t->offered++;
    bool yes = sd_glob_list(t->filter, name);
    if (yes) t->taken++;
    else memcpy(t->example, name, sizeof t->example);
    return yes;
}

/* y[n][c][p] = x[n][p][c]: in tiles, because one of the two is always read or written across cache lines. */
static void transpose(float *y, const float *x, int64_t N, int64_t P, int64_t C, int threads)
{
    enum { TILE_C = 16, TILE_P = 256 };
    int64_t strips = (C + TILE_C - 1) / TILE_C;
    (void)threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads > 0 ? threads : 1)
#endif
    for (int64_t s = 0; s < N * strips; s++) {
        int64_t n = s / strips, c0 = s % strips * TILE_C, c1 = c0 + TILE_C < C ? c0 + TILE_C : C;
        const float *from = x + n * P * C;
        float *to = y + n * P * C;
        for (int64_t p0 = 0; p0 < P; p0 += TILE_P) {
            int64_t p1 = p0 + TILE_P < P ? p0 + TILE_P : P;
            for (int64_t c = c0; c < c1; c++)
                for (int64_t p = p0; p < p1; p++) to[c * P + p] = from[p * C + c];
        }
    }
}

/* x [N,P,C] as [N,C,P] in the trace's own room; NULL under the null backend, or with an error. */
static const float *transposed(sd_run *r, sd_tensor x, int64_t N, int64_t P, int64_t C)
{
    sd_trace *t = r->trace;
    size_t n = (size_t)(N * P * C);
    if (!x.host) return NULL;
    if (x.dt != SD_F32) {
        sd_fail(r->err, SD_ERR_ARG, "a traced activation must be F32, not %s", sd_dtype_name(x.dt));
        return NULL;
    }
    if (n > t->room_size) {
        free(t->room);
        t->room_size = 0;
        t->room = malloc(n * sizeof *t->room);
        if (!t->room) {
            sd_fail(&t->err, SD_ERR_MEMORY, "no memory for %.1f MB to trace a tensor",
                    (double)n * sizeof *t->room / 1e6);
            pass_on(r);
            return NULL;
        }
        t->room_size = n;
    }
    transpose(t->room, sd_f32(x), N, P, C, r->threads);
    return t->room;
}

void sd_trace_tensor(sd_run *r, sd_tensor x, const char *fmt, ...)
{
    char name[NAME_BYTES];
    if (!r->trace) return;
    va_list ap;
    va_start(ap, fmt);
    bool yes = wanted(r, name, fmt, ap);
    va_end(ap);
    if (!yes) return;
    const void *data = x.host;
    if (x.nd == 4) {   /* [N,H,W,C] -> [N,C,H,W] */
        const int64_t N = x.dim[0], H = x.dim[1], W = x.dim[2], C = x.dim[3], dim[] = {N, C, H, W};
        data = transposed(r, x, N, H * W, C);
        memcpy(x.dim, dim, sizeof dim);
    }
    if (sd_ok(r)) emit(r, name, x.dt, x.nd, x.dim, data);
}

void sd_trace_transposed(sd_run *r, sd_tensor x, const char *fmt, ...)
{
    char name[NAME_BYTES];
    if (!r->trace) return;
    va_list ap;
    va_start(ap, fmt);
    bool yes = wanted(r, name, fmt, ap);
    va_end(ap);
    if (!yes) return;
    const float *data = transposed(r, x, x.dim[0], x.dim[1], x.dim[2]);
    if (sd_ok(r)) emit(r, name, x.dt, 3, (const int64_t[]){x.dim[0], x.dim[2], x.dim[1]}, data);
}

void sd_trace_raw(sd_run *r, sd_dtype dt, int nd, const int64_t *dim, const void *data, const char *fmt, ...)
{
    char name[NAME_BYTES];
    if (!r->trace) return;
    va_list ap;
    va_start(ap, fmt);
    bool yes = wanted(r, name, fmt, ap);
    va_end(ap);
    if (yes) emit(r, name, dt, nd, dim, data);
}
