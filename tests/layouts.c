/* layouts.c - test helper: reads lists of published tensors, writes files of their size. See layouts.h. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "layouts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char keys[] = "tests/golden/keys";

/* The next word, NUL-terminated in place; NULL at the end of the line. */
static char *next_word(char **at)
{
    char *word = *at;
    if (!word || !*word) return NULL;
    char *space = strchr(word, ' ');
    if (space) *space = '\0';
    *at = space ? space + 1 : NULL;
    return word;
}

char *golden_next_line(char **text)
{
    while (**text) {
        char *line = *text, *end = strchr(line, '\n');
        *text = end ? end + 1 : line + strlen(line);
        if (end) *end = '\0';
        if (*line && *line != '#') return line;
    }
    return NULL;
}

static sd_status read_text(char **text, const char *name, sd_error *e)
{
    char path[256];
    size_t n;
    snprintf(path, sizeof path, "%s/%s.txt", keys, name);
    return sd_read_file(path, (size_t)1 << 22, text, &n, e);
}

/* ------------------------------------------------------------------------------------- tensors */

static sd_dtype dtype(const key_list *l, const char *name)
{
    static const sd_dtype types[] = {SD_F32, SD_F16, SD_BF16, SD_I64, SD_I32};
    for (size_t i = 0; i < SD_COUNT(types); i++)
        if (strcmp(name, sd_dtype_name(types[i])) == 0) return types[i];
    return l->floats;   /* "F" */
}

static sd_status add(key_list *l, const char *name, sd_dtype dt, int nd, const int64_t *dim, sd_error *e)
{
    key *k = NULL;
    for (size_t i = 0; i < l->n && !k; i++)
        if (strcmp(l->key[i].name, name) == 0) k = &l->key[i];
    if (!k && l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        key *more = realloc(l->key, cap * sizeof *more);
        if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of tensors");
        l->key = more;
        l->cap = cap;
    }
    if (!k) {
        k = &l->key[l->n];
        k->name = sd_strdup(name);
        if (!k->name) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of tensors");
        l->n++;
    }
    k->dt = dt;
    k->nd = nd;
    k->bytes = sd_dtype_size(dt);
    for (int i = 0; i < nd; i++) {
        k->dim[i] = dim[i];
        k->bytes *= (uint64_t)dim[i];
    }
    return SD_OK;
}

/* "320,4,3,3", or "-" for a single number */
static int shape(const char *text, int64_t dim[4])
{
    int nd = 0;
    char *end;
    for (long long v; nd < 4 && (v = strtoll(text, &end, 10), end != text); text = end + (*end == ',')) dim[nd++] = v;
    return nd;
}

/* The factors of a change of the weight `name`, if it has such: down [r,i..], up [o,r(,1,1)], and kohya's alpha. */
static sd_status add_factors(key_list *l, const char *prefix, const char *name, int nd, const int64_t *dim,
                             int64_t rank, bool kohya, sd_error *e)
{
    char path[256];
    int64_t down[4], up[4] = {dim[0], rank, 1, 1};
    memcpy(down, dim, sizeof down);
    down[0] = rank;
    size_t at = (size_t)snprintf(path, sizeof path, "%s", prefix);
    for (const char *c = name; *c && at + 32 < sizeof path; c++) path[at++] = (char)(kohya && *c == '.' ? '_' : *c);
    snprintf(path + at, 32, "%s", kohya ? ".lora_down.weight" : ".lora_A.weight");
    add(l, path, l->floats, nd, down, e);
    snprintf(path + at, 32, "%s", kohya ? ".lora_up.weight" : ".lora_B.weight");
    add(l, path, l->floats, nd, up, e);
    snprintf(path + at, 32, ".alpha");
    return kohya ? add(l, path, l->floats, 0, NULL, e) : e->status;
}

/* What a line of families.txt makes of a part's tensors. */
typedef struct use {
    const char *prefix, *glob;   /* glob not NULL: factors for the modules that match */
    bool ema, kohya;
    int64_t rank;
} use;

static sd_status add_tensor(key_list *l, const use *u, const char *module, const char *leaf, sd_dtype dt, int nd,
                            const int64_t *dim, sd_error *e)
{
    char name[256];
    bool bare = strcmp(module, "-") == 0;
    if (u->glob) {
        if (nd < 2 || strcmp(leaf, "weight") != 0 || !sd_glob(u->glob, module)) return SD_OK;
        return add_factors(l, u->prefix, module, nd, dim, u->rank, u->kohya, e);
    }
    size_t n = strlen(u->prefix);
    snprintf(name, sizeof name, "%s%s%s%s", u->prefix, bare ? "" : module, bare ? "" : ".", leaf);
    if (u->ema) {   /* LitEma: no dots in what follows */
        size_t to = n;
        for (size_t i = n; name[i]; i++)
            if (name[i] != '.') name[to++] = name[i];
        name[to] = '\0';
    }
    return add(l, name, dt, nd, dim, e);
}

static sd_status add_part(key_list *l, const char *part, const use *u, sd_error *e)
{
    char *text, *line;
    if (read_text(&text, part, e)) return e->status;
    for (char *at = text; !e->status && (line = golden_next_line(&at));) {
        char *module = next_word(&line), *type = next_word(&line), *leaf, *dims;
        while (!e->status && (leaf = next_word(&line)) && (dims = next_word(&line))) {
            int64_t dim[4] = {0};
            int nd = shape(dims, dim);
            add_tensor(l, u, module, leaf, dtype(l, type), nd, dim, e);
        }
    }
    free(text);
    return e->status;
}

static void take_away(key_list *l, const char *glob)
{
    size_t to = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (sd_glob(glob, l->key[i].name)) free(l->key[i].name);
        else l->key[to++] = l->key[i];
    }
    l->n = to;
}

/* ------------------------------------------------------------------------------------- files */

static void add_meta(key_list *l, const char *name, const char *value)
{
    size_t n = strlen(l->meta);
    if (n) l->meta[--n] = '\0';   /* the closing brace */
    snprintf(l->meta + n, sizeof l->meta - n, "%s\"%s\":\"%s\"}", n ? "," : "{", name, value);
}

static sd_status obey(key_list *l, char *line, sd_error *e)
{
    char *word = next_word(&line);
    use u = {.prefix = "model_ema.diffusion_model"};
    if (strcmp(word, "what") == 0) {
        snprintf(l->what, sizeof l->what, "%s", line);
    } else if (strcmp(word, "meta") == 0) {
        const char *name = next_word(&line);
        add_meta(l, name, line);
    } else if (strcmp(word, "without") == 0) {
        take_away(l, line);
    } else if (strcmp(word, "ema") == 0) {
        u.ema = true;
        add_part(l, line, &u, e);
    } else if (strcmp(word, "part") == 0 || strcmp(word, "lora") == 0) {
        u.prefix = next_word(&line);
        const char *part = next_word(&line), *rank = next_word(&line), *style = next_word(&line);
        if (strcmp(u.prefix, "-") == 0) u.prefix = "";
        u.glob = line;
        u.rank = rank ? atoi(rank) : 0;
        u.kohya = style && strcmp(style, "kohya") == 0;
        add_part(l, part, &u, e);
    } else if (strcmp(word, "tensor") == 0) {
        int64_t dim[4] = {0};
        const char *name = next_word(&line), *type = next_word(&line);
        int nd = shape(line, dim);
        add(l, name, dtype(l, type), nd, dim, e);
    } else {
        sd_fail(e, SD_ERR_FORMAT, "%s/families.txt: \"%s\"", keys, word);
    }
    return e->status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const key *)a)->name, ((const key *)b)->name);
}

/* The file that is number i or has this name. */
static sd_status read_list(key_list *l, int i, const char *file, sd_error *e)
{
    char *text, *line;
    bool mine = false;
    memset(l, 0, sizeof *l);
    if (read_text(&text, "families", e)) return e->status;
    for (char *at = text; !e->status && (line = golden_next_line(&at));) {
        if (strncmp(line, "file ", 5) != 0) {
            if (mine) obey(l, line, e);
            continue;
        }
        if (mine) break;
        char type[8];
        unsigned long long bytes;
        if (sscanf(line, "file %95s %7s %llu", l->file, type, &bytes) != 3)
            sd_fail(e, SD_ERR_FORMAT, "%s/families.txt: \"%s\"", keys, line);
        mine = file ? strcmp(l->file, file) == 0 : i-- == 0;
        l->floats = strcmp(type, "F16") == 0 ? SD_F16 : SD_F32;
        l->published = bytes;
    }
    free(text);
    if (!mine) l->file[0] = '\0';
    if (l->n) qsort(l->key, l->n, sizeof *l->key, by_name);
    return e->status;
}

sd_status key_list_read(key_list *l, int i, sd_error *e) { return read_list(l, i, NULL, e); }

sd_status key_list_find(key_list *l, const char *file, sd_error *e)
{
    if (read_list(l, 0, file, e)) return e->status;
    return l->file[0] ? SD_OK : sd_fail(e, SD_ERR_ARG, "%s/families.txt has no file %s", keys, file);
}

void key_list_free(key_list *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->key[i].name);
    free(l->key);
    memset(l, 0, sizeof *l);
}

sd_status key_list_write(const key_list *l, const char *path, sd_error *e)
{
    sd_text t = {0};
    uint64_t at = 0;
    sd_text_add(&t, "{");
    if (l->meta[0]) sd_text_add(&t, "\"__metadata__\":%s,", l->meta);
    for (size_t i = 0; i < l->n; i++) {
        const key *k = &l->key[i];
        sd_text_add(&t, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", k->name, sd_dtype_name(k->dt));
        for (int j = 0; j < k->nd; j++) sd_text_add(&t, "%s%lld", j ? "," : "", (long long)k->dim[j]);
        sd_text_add(&t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                    (unsigned long long)(at + k->bytes));
        at += k->bytes;
    }
    sd_text_add(&t, "}");
    if (t.failed) return sd_fail(e, SD_ERR_MEMORY, "no memory for a header");
    uint64_t n = t.n;
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(&n, sizeof n, 1, f) == 1 && fwrite(t.s, 1, t.n, f) == t.n && fflush(f) == 0 &&
              ftruncate(fileno(f), (off_t)(8 + n + at)) == 0;
    if (f && fclose(f)) ok = false;
    free(t.s);
    return ok ? SD_OK : sd_fail(e, SD_ERR_IO, "cannot write %s", path);
}
