/* selftest_synth.c - floor 6: small models with weights from a formula, written from their descriptions. See
 * selftest_synth.h. */
#include "selftest_synth.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------- numbers */

static uint64_t fnv1a64(const char *s)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (; *s; s++) h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001B3);
    return h;
}

/* [Steele et al. 2014] */
static uint64_t splitmix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

/* The nearest bfloat16, halves to even; what float16 has no normal number for becomes 0. */
static float to_bf16(float x)
{
    uint32_t b = bits_of(x);
    b = (b + 0x7FFF + ((b >> 16) & 1)) & 0xFFFF0000u;
    memcpy(&x, &b, sizeof x);
    return fabsf(x) < 1.0f / 16384 ? 0 : x;
}

void sd_synth_fill(float *out, const char *stream, size_t n, double gain, double offset, bool bf16)
{
    uint64_t start = fnv1a64(stream);
    for (size_t i = 0; i < n; i++) {
        uint64_t top = splitmix64(start + (uint64_t)(i + 1) * UINT64_C(0x9E3779B97F4A7C15)) >> 40;
        double u = ((double)top - 8388608) / 8388608;   /* 24 bits: exact */
        float x = (float)(gain * u + offset);
        out[i] = bf16 ? to_bf16(x) : x;
    }
}

/* ------------------------------------------------------------------------- the description */

sd_status sd_describe(sd_description *d, const char *path, sd_error *e)
{
    size_t n;
    memset(d, 0, sizeof *d);
    if (sd_read_file(path, (size_t)1 << 22, &d->text, &n, e)) return e->status;
    d->next = d->text;
    d->bf16 = strstr(d->text, "\nround bf16\n") != NULL;
    return SD_OK;
}

char *sd_next_item(sd_description *d, char **rest)
{
    while (*d->next) {
        char *line = d->next, *end = strchr(line, '\n');
        d->next = end ? end + 1 : line + strlen(line);
        if (end) *end = '\0';
        if (*line == '#' || *line == '\0') continue;
        char *space = strchr(line, ' ');
        *rest = space ? space + 1 : line + strlen(line);
        if (space) *space = '\0';
        return line;
    }
    return NULL;
}

sd_status sd_parse_tensor_line(sd_tensor_line *t, const char *s, sd_error *e)
{
    int used = 0;
    float gain, offset;   /* nine digits stand for a float, not for a double */
    memset(t, 0, sizeof *t);
    if (sscanf(s, "%127s %f %f%n", t->name, &gain, &offset, &used) != 3)
        return sd_fail(e, SD_ERR_FORMAT, "no tensor: %.100s", s);
    t->gain = (double)gain;
    t->offset = (double)offset;
    char *end, *at = (char *)(uintptr_t)(s + used);
    t->n = 1;
    for (long long v; v = strtoll(at, &end, 10), end != at; at = end) {
        if (t->nd == 4 || v < 1 || v > (1 << 20)) return sd_fail(e, SD_ERR_FORMAT, "no shape: %.100s", s);
        t->dim[t->nd++] = v;
        t->n *= (size_t)v;
    }
    return t->nd ? SD_OK : sd_fail(e, SD_ERR_FORMAT, "no shape: %.100s", s);
}

bool sd_is_tensor_line(const char *word) { return strcmp(word, "tensor") == 0 || strcmp(word, "diagonals") == 0; }

float *sd_line_numbers(const sd_tensor_line *t, const char *word, const char *streams, const char *part, bool bf16)
{
    char stream[192];
    float *data = malloc(t->n * sizeof *data);
    snprintf(stream, sizeof stream, "%s%s.%s", streams, part, t->name);
    if (data && *word == 'd') {   /* diagonals: number (i,j) is number i + j of a row */
        size_t rows = (size_t)t->dim[0], columns = (size_t)t->dim[1];
        float *row = malloc((rows + columns) * sizeof *row);
        if (row) sd_synth_fill(row, stream, rows + columns - 1, t->gain, t->offset, bf16);
        for (size_t i = 0; row && i < rows; i++) memcpy(data + i * columns, row + i, columns * sizeof *row);
        free(row);
    } else if (data) {
        sd_synth_fill(data, stream, t->n, t->gain, t->offset, bf16);
    }
    return data;
}

float *sd_synth_input(const char *path, const char *name, int64_t dim[4], sd_error *e)
{
    sd_description d;
    char *rest, *word, stream[192];
    float *out = NULL;
    if (sd_describe(&d, path, e)) return NULL;
    while (!out && !e->status && (word = sd_next_item(&d, &rest))) {
        sd_tensor_line t;
        if (strcmp(word, "input") != 0 || sd_parse_tensor_line(&t, rest, e) || strcmp(t.name, name) != 0) continue;
        snprintf(stream, sizeof stream, "input.%s", name);
        memcpy(dim, t.dim, sizeof t.dim);
        out = malloc(t.n * sizeof *out);
        if (out) sd_synth_fill(out, stream, t.n, t.gain, t.offset, false);
        else sd_fail(e, SD_ERR_MEMORY, "no memory for an input");
    }
    if (!out && !e->status) sd_fail(e, SD_ERR_MISSING, "%s has no input %s", path, name);
    free(d.text);
    return out;
}

/* -------------------------------------------------------------------------------- pictures */

static sd_status new_image(sd_image *out, int width, int height)
{
    bool sizes = width > 0 && height > 0 && width <= 16384 && height <= 16384;
    *out = (sd_image){width, height, 3, sizes ? malloc(3 * (size_t)width * (size_t)height) : NULL};
    return out->data ? SD_OK : SD_ERR_MEMORY;
}

sd_status sd_synth_picture(sd_image *out, int width, int height)
{
    if (new_image(out, width, height)) return SD_ERR_MEMORY;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < 3; k++)
                out->data[(y * width + x) * 3 + k] = (uint8_t)((5 * x + 3 * y + 70 * k + x * y / 8) % 256);
    return SD_OK;
}

/* A disc with a soft edge. */
sd_status sd_synth_mask(sd_image *out, int width, int height)
{
    if (new_image(out, width, height)) return SD_ERR_MEMORY;
    for (int p = 0; p < width * height; p++) {
        int x = p % width - 30, y = p / width - 18, d = x * x + y * y;
        memset(out->data + 3 * p, d < 100 ? 255 : d < 169 ? 128 : d < 225 ? 127 : 0, 3);
    }
    return SD_OK;
}

float *sd_synth_depth(int width, int height)
{
    float *d = width > 0 && height > 0 ? malloc((size_t)width * (size_t)height * sizeof *d) : NULL;
    for (int y = 0; d && y < height; y++)
        for (int x = 0; x < width; x++) d[y * width + x] = (float)((7 * x + 13 * y + x * y / 5) % 97) / 4 + 10;
    return d;
}

/* --------------------------------------------------------------------------------- writing */

sd_status sd_make_parent(const char *path, sd_error *e)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash) return SD_OK;
    *slash = '\0';
    if (!sd_os_make_directory(dir)) return sd_fail(e, SD_ERR_IO, "cannot make %s: %s", dir, strerror(errno));
    return SD_OK;
}

sd_status sd_write_into(const char *dir, const char *name, const char *data, size_t n, sd_error *e)
{
    char path[4096];
    sd_outfile o;
    if (sd_path_join(path, sizeof path, dir, name, e) || sd_make_parent(path, e)) return e->status;
    if (sd_outfile_open(&o, path, e)) return e->status;
    fwrite(data, 1, n, o.f);
    return sd_outfile_commit(&o, e);
}

void sd_tensor_set_free(sd_tensor_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free((void *)(uintptr_t)s->tensor[i].data);
        free(s->name[i]);
    }
    free(s->tensor);
    free(s->name);
    memset(s, 0, sizeof *s);
}

sd_status sd_tensor_set_add(sd_tensor_set *s, const char *name, sd_dtype dt, int nd, const int64_t *dim, void *data,
                         sd_error *e)
{
    sd_traced *tensor = realloc(s->tensor, (s->n + 1) * sizeof *tensor);
    if (tensor) s->tensor = tensor;
    char **names = realloc(s->name, (s->n + 1) * sizeof *names), *own = sd_strdup(name);
    if (names) s->name = names;
    if (!data || !tensor || !names || !own) {
        free(data);
        free(own);
        return sd_fail(e, SD_ERR_MEMORY, "no memory for %s", name);
    }
    tensor[s->n] = (sd_traced){.name = own, .dtype = dt, .nd = nd, .data = data};
    if (nd) memcpy(tensor[s->n].dim, dim, (size_t)nd * sizeof *dim);
    names[s->n++] = own;
    return SD_OK;
}

/* The weights of one part, collected until its section ends. */
typedef struct part {
    char name[32], path[128];
    sd_tensor_set set;
} part;

typedef struct writing {
    const char *dir, *merges;
    void (*wrote)(void *user, const char *name);
    void *user;
    part part;
} writing;

static sd_status write_part(writing *w, sd_error *e)
{
    char path[4096];
    part *p = &w->part;
    if (p->set.n && !sd_path_join(path, sizeof path, w->dir, p->path, e) && !sd_make_parent(path, e)) {
        w->wrote(w->user, p->path);
        sd_safetensors_write(path, p->set.tensor, p->set.n, e);
    }
    sd_tensor_set_free(&p->set);
    return e->status;
}

static sd_status write_file(writing *w, const char *name, const char *text, size_t n, sd_error *e)
{
    w->wrote(w->user, name);
    return sd_write_into(w->dir, name, text, n, e);
}

static sd_status write_merges(writing *w, const char *name, sd_error *e)
{
    char *data;
    size_t n;
    if (sd_read_file(w->merges, (size_t)1 << 24, &data, &n, e)) return e->status;
    write_file(w, name, data, n, e);
    free(data);
    return e->status;
}

static sd_status write_item(writing *w, const char *word, char *rest, bool bf16, sd_error *e)
{
    sd_tensor_line t;
    char *more = strchr(rest, ' ');
    if (sd_is_tensor_line(word)) {
        if (sd_parse_tensor_line(&t, rest, e)) return e->status;
        return sd_tensor_set_add(&w->part.set, t.name, SD_F32, t.nd, t.dim,
                                 sd_line_numbers(&t, word, "", w->part.name, bf16), e);
    }
    if (write_part(w, e)) return e->status;
    bool is_file = strcmp(word, "file") == 0, is_copy = strcmp(word, "copy") == 0;
    if ((is_file || is_copy) && !more) return sd_fail(e, SD_ERR_FORMAT, "no file: %.100s", rest);
    if (is_file || is_copy) *more++ = '\0';
    if (is_file) write_file(w, rest, more, strlen(more), e);
    else if (is_copy) write_merges(w, rest, e);
    else if (strcmp(word, "weights") == 0 && sscanf(rest, "%31s %127s", w->part.name, w->part.path) != 2)
        sd_fail(e, SD_ERR_FORMAT, "no weights: %.100s", rest);
    return e->status;
}

sd_status sd_synth_write(const char *dir, const char *description, const char *merges,
                         void (*wrote)(void *user, const char *name), void *user, sd_error *e)
{
    writing w = {.dir = dir, .merges = merges, .wrote = wrote, .user = user};
    sd_description d;
    char *rest, *word;
    if (sd_describe(&d, description, e)) return e->status;
    while (!e->status && (word = sd_next_item(&d, &rest))) write_item(&w, word, rest, d.bf16, e);
    if (!e->status) write_part(&w, e);
    sd_tensor_set_free(&w.part.set);
    free(d.text);
    return e->status;
}
