/* tensors_raw.c - floor 3: directories of plain numbers, and shapes.txt, which says what they are: a line for each
 * tensor with its name, its shape and, unless it is float32, its type. The lines are in the order of execution. */
#include "tensors.h"

#include <stdlib.h>
#include <string.h>

#define SHAPES "shapes.txt"
static const char blanks[] = " \t\r";
static const char *const endings[] = {".bin", ".raw", ".f32", ".dat", ""};
enum { MOST_BYTES = 64 << 20 };

static const struct { const char *name; sd_dtype dt; } types[] = {
    {"float32", SD_F32}, {"f32", SD_F32}, {"float", SD_F32}, {"float16", SD_F16}, {"f16", SD_F16}, {"half", SD_F16},
    {"bfloat16", SD_BF16}, {"bf16", SD_BF16}, {"float64", SD_F64}, {"f64", SD_F64}, {"double", SD_F64},
    {"int64", SD_I64}, {"i64", SD_I64}, {"int32", SD_I32}, {"i32", SD_I32}, {"uint8", SD_U8}, {"u8", SD_U8},
};

bool sd_tensors_is_raw(const char *directory)
{
    char path[4096];
    sd_error e = {.status = SD_OK};
    return !sd_path_join(path, sizeof path, directory, SHAPES, &e) && !sd_is_absent(path);
}

/* "2,320,64,64", "2x320x64x64" or "[2,320,64,64]"; "-": a number alone. */
static bool read_shape(sd_entry *x, const char *s)
{
    bool bracket = *s == '[';
    if (strcmp(s, "-") == 0) return true;
    for (s += bracket; *s && *s != ']'; s += *s == ',' || *s == 'x') {
        size_t n = strspn(s, "0123456789");
        if (!n || n > 12 || x->nd == (int)SD_COUNT(x->dim)) return false;
        x->dim[x->nd++] = strtoll(s, NULL, 10);
        s += n;
        if (*s && !strchr(",x]", *s)) return false;
    }
    return x->nd > 0 && (bracket ? strcmp(s, "]") == 0 : !*s);
}

static bool read_type(sd_entry *x, const char *s)
{
    x->dt = *s ? SD_DTYPE_UNKNOWN : SD_F32;
    for (size_t i = 0; i < SD_COUNT(types); i++)
        if (sd_same_name(s, types[i].name)) x->dt = types[i].dt;
    return x->dt != SD_DTYPE_UNKNOWN;
}

static bool count_bytes(sd_entry *x)
{
    x->bytes = sd_dtype_size(x->dt);
    for (int d = 0; d < x->nd; d++) {
        if (x->dim[d] && x->bytes > (size_t)INT64_MAX / (size_t)x->dim[d]) return false;
        x->bytes *= (size_t)x->dim[d];
    }
    return true;
}

/* The next word, in place; "" at the end of the line. */
static char *word(char **at)
{
    char *s = *at + strspn(*at, blanks), *end = s + strcspn(s, blanks);
    *at = end + (*end != 0);
    *end = 0;
    return s;
}

static sd_status add_line(sd_tensors *t, char *line, int number, sd_error *e)
{
    sd_entry x = {.nd = 0};
    char *name = word(&line), *shape = word(&line), *type = word(&line);
    if (!*name || *name == '#') return SD_OK;
    if (!read_shape(&x, shape) || !read_type(&x, type) || *word(&line) || !count_bytes(&x))
        return sd_fail(e, SD_ERR_FORMAT, "%s/" SHAPES ": line %d: expected a name, a shape such as 2,320,64,64 and "
                       "perhaps a type such as float16, found \"%.80s %.80s %.20s\"", t->path, number, name, shape,
                       type);
    sd_entry *list = sd_grow(t->own, t->n_own, &t->cap_own, 256, sizeof *list);
    if (list) t->own = list;
    x.name = list ? sd_strdup(name) : NULL;
    if (!x.name) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of the files in %s", t->path);
    t->own[t->n_own++] = x;
    return SD_OK;
}

sd_status sd_tensors_list_raw(sd_tensors *t, sd_error *e)
{
    char path[4096], *text = NULL;
    size_t n;
    int number = 0;
    if (sd_need_little_endian(t->path, e) || sd_path_join(path, sizeof path, t->path, SHAPES, e) ||
        sd_read_file(path, MOST_BYTES, &text, &n, e))
        return e->status;
    for (char *at = text, *end; *at && !e->status; at = end) {
        end = at + strcspn(at, "\n");
        if (*end) *end++ = 0;
        add_line(t, at, ++number, e);
    }
    if (!e->status && !t->n_own) sd_fail(e, SD_ERR_FORMAT, "%s names no tensor", path);
    free(text);
    return e->status;
}

sd_status sd_tensors_read_raw(const sd_tensors *t, const sd_entry *x, sd_borrowed *b, sd_error *e)
{
    char path[4096], *data = NULL;
    size_t n = 0;
    for (size_t i = 0; i < SD_COUNT(endings); i++) {
        sd_text file = {0};
        sd_text_add(&file, "%s%s", x->name, endings[i]);
        if (file.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to open %.200s", x->name);
        else sd_path_join(path, sizeof path, t->path, file.s, e);
        free(file.s);
        if (e->status || !sd_is_absent(path)) break;
    }
    if (e->status || sd_read_file(path, x->bytes + 1, &data, &n, e)) return e->status;
    b->own = data;
    b->of.data = data;
    if (n != x->bytes)
        sd_fail(e, SD_ERR_FORMAT, "%s has %zu bytes, and by " SHAPES " it needs %zu", path, n, x->bytes);
    return e->status;
}
