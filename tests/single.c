/* single.c - test helper: single files of small models. See single.h. */
#include "single.h"
#include "layouts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAP_LINES = 2048 };

typedef struct map_line { char *kind, *name, *old[3]; } map_line;   /* `new` is a word of C++ */
typedef struct name_map {
    char *text;
    map_line line[MAP_LINES];
    size_t n;
} name_map;

/* Up to `max` words of a line, NUL-terminated in place. */
static int words(char *line, char **word, int max)
{
    int n = 0;
    for (char *at = strtok(line, " "); at && n < max; at = strtok(NULL, " ")) word[n++] = at;
    return n;
}

static sd_status read_lines(char **text, const char *name, sd_error *e)
{
    char path[256];
    size_t n;
    snprintf(path, sizeof path, "tests/golden/layouts/%s.txt", name);
    return sd_read_file(path, (size_t)1 << 22, text, &n, e);
}

static name_map *map_read(const char *name, sd_error *e)
{
    char file[64], *line;
    name_map *m = calloc(1, sizeof *m);
    if (!m) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for a map of names");
        return NULL;
    }
    snprintf(file, sizeof file, "map_%s", name);
    if (strcmp(name, "-") == 0 || read_lines(&m->text, file, e)) return m;
    for (char *at = m->text; m->n < MAP_LINES && (line = golden_next_line(&at)); m->n++) {
        char *w[5] = {NULL};
        words(line, w, 5);
        m->line[m->n] = (map_line){w[0], w[1], {w[2], w[3], w[4]}};
    }
    return m;
}

static void map_free(name_map *m)
{
    if (m) free(m->text);
    free(m);
}

static size_t numbers_of(const sd_traced *t)
{
    size_t n = 1;
    for (int i = 0; i < t->nd; i++) n *= (size_t)t->dim[i];
    return n;
}

static const sd_traced *find(const sd_tensor_set *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->name[i], name) == 0) return &s->tensor[i];
    return NULL;
}

/* Where the tensors of one part go, and under which names. */
typedef struct place {
    sd_tensor_set *out;
    const char *prefix, *strip;
    bool no_dots;
} place;

static sd_status put(const place *p, const char *name, const sd_traced *t, int nd, const int64_t *dim, void *data,
                     sd_error *e)
{
    char whole[256];
    size_t skip = p->strip && strncmp(name, p->strip, strlen(p->strip)) == 0 ? strlen(p->strip) : 0;
    size_t n = (size_t)snprintf(whole, sizeof whole, "%s", p->prefix);
    for (const char *c = name + skip; *c && n + 1 < sizeof whole; c++)
        if (!p->no_dots || *c != '.') whole[n++] = *c;
    whole[n] = '\0';
    return sd_tensor_set_add(p->out, whole, t->dtype, nd, dim, data, e);
}

static float *copy_of(const sd_traced *t)
{
    size_t bytes = numbers_of(t) * sizeof(float);
    float *x = malloc(bytes);
    if (x) memcpy(x, t->data, bytes);
    return x;
}

static float *transpose_of(const sd_traced *t)
{
    size_t rows = (size_t)t->dim[0], columns = (size_t)t->dim[1];
    float *x = malloc(rows * columns * sizeof *x);
    for (size_t i = 0; x && i < rows; i++)
        for (size_t j = 0; j < columns; j++) x[j * rows + i] = ((const float *)t->data)[i * columns + j];
    return x;
}

/* A line that makes one tensor of one or more; the map has lines of tensors that this model lacks. */
static sd_status put_made(const place *p, const sd_tensor_set *from, const map_line *l, sd_error *e)
{
    const sd_traced *t = find(from, l->old[0]);
    if (!t) return SD_OK;
    int64_t dim[4];
    memcpy(dim, t->dim, sizeof dim);
    if (strcmp(l->kind, "transpose") == 0) {
        dim[0] = t->dim[1];
        dim[1] = t->dim[0];
        return put(p, l->name, t, t->nd, dim, transpose_of(t), e);
    }
    int parts = strcmp(l->kind, "join") == 0 ? 3 : 1;
    size_t n = numbers_of(t);
    float *x = malloc((size_t)parts * n * sizeof *x);
    for (int i = 0; x && i < parts; i++) memcpy(x + (size_t)i * n, find(from, l->old[i])->data, n * sizeof *x);
    dim[0] *= parts;
    return put(p, l->name, t, t->nd, dim, x, e);
}

static const map_line *line_of_module(const name_map *m, const char *module, size_t n)
{
    for (size_t i = 0; i < m->n; i++)
        if ((*m->line[i].kind == 'm' || *m->line[i].kind == 'c') && strlen(m->line[i].old[0]) == n &&
            strncmp(m->line[i].old[0], module, n) == 0)
            return &m->line[i];
    return NULL;
}

static bool is_made(const name_map *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        for (int k = 0; k < 3 && m->line[i].old[k]; k++)
            if (*m->line[i].kind != 'm' && *m->line[i].kind != 'c' && strcmp(m->line[i].old[k], name) == 0) return true;
    return false;
}

static sd_status put_part(const place *p, const sd_tensor_set *from, const name_map *m, sd_error *e)
{
    for (size_t i = 0; i < m->n && !e->status; i++)
        if (*m->line[i].kind != 'm' && *m->line[i].kind != 'c') put_made(p, from, &m->line[i], e);
    for (size_t i = 0; i < from->n && !e->status; i++) {
        const sd_traced *t = &from->tensor[i];
        const char *leaf = strrchr(t->name, '.');
        if (is_made(m, t->name)) continue;
        const map_line *l = line_of_module(m, t->name, (size_t)(leaf - t->name));
        char name[256];
        int nd = t->nd;
        int64_t dim[4] = {1, 1, 1, 1};
        memcpy(dim, t->dim, (size_t)nd * sizeof *dim);
        if (l && *l->kind == 'c' && nd == 2) nd = 4;
        snprintf(name, sizeof name, "%s%s", l ? l->name : "", l ? leaf : t->name);
        put(p, name, t, nd, dim, copy_of(t), e);
    }
    return e->status;
}

/* "own NAME TYPE SHAPE GAIN" */
static sd_status put_own(sd_tensor_set *out, char **w, sd_error *e)
{
    int64_t dim[4] = {0};
    int nd = 0;
    size_t n = 1;
    char stream[256], *end;
    for (char *at = w[3]; nd < 4 && (dim[nd] = strtoll(at, &end, 10), end != at); at = end + (*end == ',')) nd++;
    for (int i = 0; i < nd; i++) n *= (size_t)dim[i];
    bool wide = strcmp(w[2], "I64") == 0, whole = wide || strcmp(w[2], "I32") == 0;
    void *x = malloc(n * (wide ? 8 : 4));
    snprintf(stream, sizeof stream, "own.%s", w[1]);
    for (size_t i = 0; x && i < n && whole; i++) {
        int64_t v = (int64_t)(n - 1 - i);
        if (wide) ((int64_t *)x)[i] = v;
        else ((int32_t *)x)[i] = (int32_t)v;
    }
    if (x && !whole) sd_synth_fill(x, stream, n, (double)(float)atof(w[4]), 0, true);
    return sd_tensor_set_add(out, w[1], wide ? SD_I64 : whole ? SD_I32 : SD_F32, nd, dim, x, e);
}

static sd_status obey(sd_tensor_set *out, const char *config, char *line, sd_error *e)
{
    char *w[5] = {NULL};
    int n = words(line, w, 5);
    if (n < 4 || strcmp(w[0], "what") == 0) return SD_OK;
    if (strcmp(w[0], "own") == 0) return put_own(out, w, e);
    bool ema = strcmp(w[0], "ema") == 0;
    place p = {out, strcmp(w[1], "-") == 0 ? "" : w[1], w[4], ema};
    sd_tensor_set from = {0};
    name_map *m = map_read(w[3], e);
    if (m && !synth_tensors(&from, config, w[2], ema ? "ema." : "", e)) put_part(&p, &from, m, e);
    sd_tensor_set_free(&from);
    map_free(m);
    return e->status;
}

sd_status single_compose(sd_tensor_set *out, const char *layout, char *config, sd_error *e)
{
    char *text, *line, of[32] = "", name[64];
    bool mine = false;
    memset(out, 0, sizeof *out);
    if (read_lines(&text, "layouts", e)) return e->status;
    for (char *at = text; !e->status && (line = golden_next_line(&at));) {
        if (strncmp(line, "layout ", 7) != 0) {
            if (mine) obey(out, of, line, e);
            continue;
        }
        if (mine) break;
        char model[32];
        if (sscanf(line, "layout %63s %31s", name, model) != 2) continue;
        mine = strcmp(name, layout) == 0;
        if (mine) memcpy(of, model, sizeof of);
    }
    free(text);
    if (!e->status && !mine) sd_fail(e, SD_ERR_ARG, "there is no layout \"%s\"", layout);
    if (config) memcpy(config, of, sizeof of);
    return e->status;
}

/* The power of two by which a matrix fits 8 bits well: the same in tools/layouts.py. */
static double scale_of(const float *x, size_t n)
{
    double largest = 1e-30;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
    return exp2(floor(log2(largest / 256)));
}

sd_status single_cast(sd_tensor_set *s, sd_dtype dt, const char *scale, sd_error *e)
{
    size_t n_before = s->n;
    bool small = dt == SD_F8_E4M3 || dt == SD_F8_E5M2;
    int64_t block = (int64_t)sd_dtype_block(dt);
    for (size_t i = 0; i < n_before && !e->status; i++) {
        sd_traced *t = &s->tensor[i];
        size_t n = numbers_of(t);
        bool matrix = t->nd == 2 && strstr(t->name, ".weight");
        if (t->dtype != SD_F32 || ((small || block > 1) && !matrix) || (block > 1 && t->dim[1] % block)) continue;
        float *x = (float *)(uintptr_t)t->data, *factor = NULL;
        if (small) {
            factor = malloc(sizeof *factor);
            if (!factor) return sd_fail(e, SD_ERR_MEMORY, "no memory for a scale");
            *factor = (float)scale_of(x, n);
            for (size_t k = 0; k < n; k++) x[k] /= *factor;
        }
        void *y = malloc(sd_dtype_bytes(dt, n));
        if (!y) return sd_fail(e, SD_ERR_MEMORY, "no memory for %s", t->name);
        sd_narrow(y, dt, x, n);
        free(x);
        t->data = y;
        t->dtype = dt;
        if (!small) continue;
        char name[256];
        size_t stem = strlen(t->name) - strlen("weight");
        snprintf(name, sizeof name, "%.*s%s", (int)stem, t->name, scale);
        sd_tensor_set_add(s, name, SD_F32, 0, NULL, factor, e);
    }
    return e->status;
}

static sd_status put_numbers(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    const sd_tensor_set *s = user;
    size_t bytes = sd_dtype_bytes(s->tensor[i].dtype, numbers_of(&s->tensor[i]));
    if (fwrite(s->tensor[i].data, 1, bytes, to) != bytes) return sd_fail(e, SD_ERR_IO, "cannot write %s", path);
    return SD_OK;
}

sd_status single_write(const char *path, const sd_tensor_set *s, sd_error *e)
{
    size_t n = strlen(path);
    sd_file_plan plan = {.tensor = s->tensor, .n = s->n, .put = put_numbers, .user = (void *)(uintptr_t)s};
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) return sd_gguf_write_plan(path, &plan, e);
    return sd_safetensors_write_plan(path, &plan, e);
}
