/* synth.c - test helper: writes small models from their descriptions, compares results with goldens. See synth.h. */
#define _POSIX_C_SOURCE 200809L
#include "synth.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

void synth_fill(float *out, const char *stream, size_t n, double gain, double offset, bool bf16)
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

typedef struct description {
    char *text, *next;   /* the file; what has not been read of it */
    bool bf16;
} description;

static sd_status describe(description *d, const char *config, sd_error *e)
{
    char path[256];
    size_t n;
    memset(d, 0, sizeof *d);
    snprintf(path, sizeof path, "tests/golden/net_%s.txt", config);
    if (sd_read_file(path, (size_t)1 << 22, &d->text, &n, e)) return e->status;
    d->next = d->text;
    d->bf16 = strstr(d->text, "\nround bf16\n") != NULL;
    return SD_OK;
}

/* The next line's first word and what follows it, both NUL-terminated in place; NULL at the end. */
static char *next_item(description *d, char **rest)
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

/* "NAME GAIN OFFSET DIM..." */
typedef struct tensor_line {
    char name[128];
    double gain, offset;
    int nd;
    int64_t dim[4];
    size_t n;
} tensor_line;

static sd_status parse_tensor(tensor_line *t, const char *s, sd_error *e)
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

/* --------------------------------------------------------------------------------- writing */

static sd_status parent_directory(const char *path, sd_error *e)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash) return SD_OK;
    *slash = '\0';
    if (mkdir(dir, 0777) && errno != EEXIST) return sd_fail(e, SD_ERR_IO, "cannot make %s: %s", dir, strerror(errno));
    return SD_OK;
}

static sd_status write_bytes(const char *dir, const char *name, const char *data, size_t n, sd_error *e)
{
    char path[1024];
    sd_outfile o;
    if (sd_path_join(path, sizeof path, dir, name, e) || parent_directory(path, e)) return e->status;
    if (sd_outfile_open(&o, path, e)) return e->status;
    fwrite(data, 1, n, o.f);
    return sd_outfile_commit(&o, e);
}

/* "TO FROM" */
static sd_status copy_file(const char *dir, char *rest, sd_error *e)
{
    char *from = strchr(rest, ' '), *data;
    size_t n;
    if (!from) return sd_fail(e, SD_ERR_FORMAT, "copy: %.100s", rest);
    *from++ = '\0';
    if (sd_read_file(from, (size_t)1 << 24, &data, &n, e)) return e->status;
    write_bytes(dir, rest, data, n, e);
    free(data);
    return e->status;
}

void tensor_set_free(tensor_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free((void *)(uintptr_t)s->tensor[i].data);
        free(s->name[i]);
    }
    free(s->tensor);
    free(s->name);
    memset(s, 0, sizeof *s);
}

sd_status tensor_set_add(tensor_set *s, const char *name, sd_dtype dt, int nd, const int64_t *dim, void *data,
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
typedef struct section {
    char part[32], path[128];
    tensor_set set;
} section;

/* In place. Only for numbers that both types have: no rounding here. */
static void narrow(float *x, size_t n, sd_dtype dt)
{
    uint16_t *out = (uint16_t *)(void *)x;
    for (size_t i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, (const char *)x + 4 * i, sizeof b);
        uint32_t half = (b >> 16) & 0x8000;
        if (b & 0x7FFFFFFF) half |= ((((b >> 23) & 255) - 127 + 15) << 10) | ((b >> 13) & 0x3FF);
        uint16_t v = (uint16_t)(dt == SD_BF16 ? b >> 16 : half);
        memcpy((char *)out + 2 * i, &v, sizeof v);
    }
}

/* The numbers of a line: of the stream STREAMS.PART.NAME. */
static float *line_numbers(const tensor_line *t, const char *streams, const char *part, bool diagonals, bool bf16)
{
    char stream[192];
    float *data = malloc(t->n * sizeof *data);
    snprintf(stream, sizeof stream, "%s%s.%s", streams, part, t->name);
    if (data && diagonals) {   /* number (i,j) is number i + j of a row */
        size_t rows = (size_t)t->dim[0], columns = (size_t)t->dim[1];
        float *row = malloc((rows + columns) * sizeof *row);
        if (row) synth_fill(row, stream, rows + columns - 1, t->gain, t->offset, bf16);
        for (size_t i = 0; row && i < rows; i++) memcpy(data + i * columns, row + i, columns * sizeof *row);
        free(row);
    } else if (data) {
        synth_fill(data, stream, t->n, t->gain, t->offset, bf16);
    }
    return data;
}

static bool is_tensor(const char *word) { return strcmp(word, "tensor") == 0 || strcmp(word, "diagonals") == 0; }

static sd_status add_tensor(section *s, const char *word, const char *rest, bool bf16, const synth_options *o,
                            sd_error *e)
{
    tensor_line t;
    if (parse_tensor(&t, rest, e)) return e->status;
    if (o->without && sd_glob(o->without, t.name)) return SD_OK;
    float *data = line_numbers(&t, "", s->part, *word == 'd', bf16);
    if (data && o->dtype != SD_F32) narrow(data, t.n, o->dtype);
    size_t skip = o->no_prefix && strncmp(t.name, "text_model.", 11) == 0 ? 11 : 0;
    return tensor_set_add(&s->set, t.name + skip, o->dtype, t.nd, t.dim, data, e);
}

sd_status synth_tensors(tensor_set *set, const char *config, const char *part, const char *streams, sd_error *e)
{
    description d;
    char *rest, *word, now[32] = "";
    tensor_line t;
    if (describe(&d, config, e)) return e->status;
    while (!e->status && (word = next_item(&d, &rest))) {
        if (strcmp(word, "weights") == 0) sscanf(rest, "%31s", now);
        if (!is_tensor(word) || strcmp(now, part) != 0 || parse_tensor(&t, rest, e)) continue;
        tensor_set_add(set, t.name, SD_F32, t.nd, t.dim, line_numbers(&t, streams, part, *word == 'd', d.bf16), e);
    }
    free(d.text);
    return e->status;
}

/* The collected tensors as one file, or as shards with their index. */
static sd_status section_write(section *of, const char *dir, const synth_options *o, sd_error *e)
{
    char path[1024];
    tensor_set *s = &of->set;
    size_t shards = o->shards > 1 ? (size_t)o->shards : 1;
    if (!s->n || sd_path_join(path, sizeof path, dir, of->path, e) || parent_directory(path, e)) return e->status;
    if (shards == 1) {
        sd_safetensors_write(path, s->tensor, s->n, e);
        tensor_set_free(s);
        return e->status;
    }
    sd_text index = {0};
    sd_text_add(&index, "{\"metadata\":{\"total_size\":0},\"weight_map\":{");
    path[strlen(path) - strlen(".safetensors")] = '\0';
    for (size_t k = 0; k < shards && !e->status; k++) {
        char shard[1100];
        size_t from = k * s->n / shards, to = (k + 1) * s->n / shards;
        snprintf(shard, sizeof shard, "%s-%05zu-of-%05zu.safetensors", path, k + 1, shards);
        for (size_t i = from; i < to; i++)
            sd_text_add(&index, "%s\"%s\":\"%s\"", i ? "," : "", s->tensor[i].name, strrchr(shard, '/') + 1);
        sd_safetensors_write(shard, s->tensor + from, to - from, e);
    }
    sd_text_add(&index, "}}\n");
    snprintf(path, sizeof path, "%s.index.json", of->path);
    if (index.failed) sd_fail(e, SD_ERR_MEMORY, "no memory for an index");
    else if (!e->status) write_bytes(dir, path, index.s, index.n, e);
    free(index.s);
    tensor_set_free(s);
    return e->status;
}

sd_status synth_write_model(const char *dir, const char *config, const synth_options *options, sd_error *e)
{
    synth_options o = {0};
    section s = {0};
    description d;
    char *rest, *word;
    if (options) o = *options;
    if (describe(&d, config, e)) return e->status;
    if (o.dtype != SD_F32 && (!d.bf16 || (o.dtype != SD_F16 && o.dtype != SD_BF16)))
        sd_fail(e, SD_ERR_ARG, "%s has numbers that %s has not", config, sd_dtype_name(o.dtype));
    while (!e->status && (word = next_item(&d, &rest))) {
        if (is_tensor(word)) {
            add_tensor(&s, word, rest, d.bf16, &o, e);
            continue;
        }
        section_write(&s, dir, &o, e);
        if (strcmp(word, "file") == 0) {
            char *json = strchr(rest, ' ');
            if (!json) sd_fail(e, SD_ERR_FORMAT, "no file: %.100s", rest);
            if (json) *json++ = '\0';
            if (json && !e->status) write_bytes(dir, rest, json, strlen(json), e);
        } else if (strcmp(word, "copy") == 0) {
            copy_file(dir, rest, e);
        } else if (strcmp(word, "weights") == 0 && sscanf(rest, "%31s %127s", s.part, s.path) != 2) {
            sd_fail(e, SD_ERR_FORMAT, "no weights: %.100s", rest);
        }
    }
    if (!e->status) section_write(&s, dir, &o, e);
    tensor_set_free(&s.set);
    free(d.text);
    return e->status;
}

/* ------------------------------------------------------------------------- inputs and runs */

float *synth_input(const char *config, const char *name, int64_t dim[4], sd_error *e)
{
    description d;
    char *rest, *word, stream[192];
    float *out = NULL;
    if (describe(&d, config, e)) return NULL;
    while (!out && !e->status && (word = next_item(&d, &rest))) {
        tensor_line t;
        if (strcmp(word, "input") != 0 || parse_tensor(&t, rest, e) || strcmp(t.name, name) != 0) continue;
        snprintf(stream, sizeof stream, "input.%s", name);
        memcpy(dim, t.dim, sizeof t.dim);
        out = malloc(t.n * sizeof *out);
        if (out) synth_fill(out, stream, t.n, t.gain, t.offset, false);
        else sd_fail(e, SD_ERR_MEMORY, "no memory for an input");
    }
    if (!out && !e->status) sd_fail(e, SD_ERR_MISSING, "%s has no input %s", config, name);
    free(d.text);
    return out;
}

sd_status synth_runs(synth_run_list *runs, const char *config, sd_error *e)
{
    description d;
    char *rest, *word;
    memset(runs, 0, sizeof *runs);
    if (describe(&d, config, e)) return e->status;
    while ((word = next_item(&d, &rest))) {
        if (strcmp(word, "prompt") == 0) snprintf(runs->prompt, sizeof runs->prompt, "%s", rest);
        if (strcmp(word, "negative") == 0) snprintf(runs->negative, sizeof runs->negative, "%s", rest);
        if (strcmp(word, "run") != 0) continue;
        synth_run *r = &runs->run[runs->n];
        if (runs->n == SYNTH_MAX_RUNS ||
            sscanf(rest, "%31s %15s %d %d %d %lf %llu %d %lf", r->name, r->sampler, &r->width, &r->height, &r->steps,
                   &r->guidance, &r->seed, &r->batch, &r->eta) != 9) {
            sd_fail(e, SD_ERR_FORMAT, "no run: %.100s", rest);
            break;
        }
        if (strcmp(r->sampler, "-") == 0) r->sampler[0] = '\0';
        runs->n++;
    }
    free(d.text);
    return e->status;
}

/* ----------------------------------------------------------------------------- the goldens */

sd_status golden_open(golden *g, const char *config, sd_error *e)
{
    char path[256];
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "tests/golden/net_%s.safetensors", config);
    return sd_weight_file_open(&g->file, path, e);
}

sd_status golden_open_file(golden *g, const char *path, sd_error *e) { return sd_weight_file_open(&g->file, path, e); }

void golden_close(golden *g) { sd_weight_file_close(&g->file); }

static sd_entry *entry(const golden *g, const char *name, const char *ending)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", name, ending);
    for (size_t low = 0, high = g->file.n; low < high;) {   /* sorted by name */
        size_t middle = (low + high) / 2;
        int order = strcmp(whole, g->file.entry[middle].name);
        if (order == 0) return &g->file.entry[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static float number(const sd_entry *t, size_t i)   /* the mapping need not be aligned */
{
    float x;
    memcpy(&x, (const char *)t->data + 4 * i, sizeof x);
    return x;
}

golden_result golden_compare(golden *g, const char *name, int nd, const int64_t *dim, const float *x)
{
    golden_result r = {0};
    sd_entry *t = entry(g, name, ""), *about = entry(g, name, ".e32");
    if (!t || !about || t->dt != SD_F32 || about->dt != SD_F32 || about->bytes < 8) return r;
    r.found = t->used = about->used = true;
    r.same_shape = about->bytes == 4 * (2 + (size_t)nd);
    size_t n = 1, k = t->bytes / 4;
    for (int i = 0; i < nd && r.same_shape; i++) {
        r.same_shape = number(about, 2 + (size_t)i) == (float)dim[i];
        n *= (size_t)dim[i];
    }
    r.e32 = (double)number(about, 0);
    r.bound = fmax(3 * r.e32, 2e-6);
    if (!r.same_shape) return r;
    double difference = 0, truth = 0, all = 0, norm = (double)number(about, 1);
    for (size_t j = 0; j < k; j++) {
        double want = (double)number(t, j), d = (double)x[j * n / k] - want;
        difference += d * d;
        truth += want * want;
    }
    for (size_t i = 0; i < n; i++) all += (double)x[i] * (double)x[i];
    double of_norm = norm > 0 ? fabs(sqrt(all) - norm) / norm : sqrt(all);
    r.error = truth > 0 ? sqrt(difference / truth) : sqrt(difference);
    if (!(r.error >= of_norm)) r.error = of_norm;
    r.ratio = isfinite(r.error) ? r.error / r.bound : (double)INFINITY;
    return r;
}

bool golden_read(golden *g, const char *name, float *out, size_t n)
{
    sd_entry *t = entry(g, name, ""), *about = entry(g, name, ".e32");
    if (!t || t->dt != SD_F32 || t->bytes != 4 * n) return false;
    t->used = true;
    if (about) about->used = true;
    memcpy(out, t->data, t->bytes);
    return true;
}

bool golden_read_i64(golden *g, const char *name, int64_t *out, size_t n)
{
    sd_entry *t = entry(g, name, "");
    if (!t || t->dt != SD_I64 || t->bytes != 8 * n) return false;
    t->used = true;
    memcpy(out, t->data, t->bytes);
    return true;
}

const char *golden_unseen(const golden *g, const char *prefix)
{
    for (size_t i = 0; i < g->file.n; i++) {
        const sd_entry *t = &g->file.entry[i];
        if (!t->used && strncmp(t->name, prefix, strlen(prefix)) == 0) return t->name;
    }
    return NULL;
}

double golden_least_mistake(const golden *g, const char *part, const char **name)
{
    char prefix[64];
    double least = 0;
    *name = "";
    snprintf(prefix, sizeof prefix, "wrong.%s.", part);
    for (size_t i = 0; i < g->file.n; i++) {
        const sd_entry *t = &g->file.entry[i];
        if (strncmp(t->name, prefix, strlen(prefix)) != 0 || t->dt != SD_F32 || t->bytes != 4) continue;
        if (!**name || (double)number(t, 0) < least) {
            least = (double)number(t, 0);
            *name = t->name;
        }
    }
    return least;
}
