/* convert_tensors.c - floor 6: what `sd convert` writes: which tensors, under which names, as which types.
 *
 * Numbers go from the mapped input to the output in blocks of some hundred kilobytes; what was read leaves memory. */
#include "convert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_MODULES = 8 };   /* more than a model has */

/* ------------------------------------------------------------------------------------ which modules */

static bool is_openclip(const sd_module *x)
{
    return x->kind->part == SD_PART_TEXT && ((const sd_clip *)x->net)->cfg.act == SD_ACT_GELU;
}

static sd_role role_of(const sd_conversion *v, const sd_module *x)
{
    bool two = sd_model_module(&v->c->model, x->kind->part, 1);
    if (x->place->index == 0) return two ? SD_ROLE_FIRST : SD_ROLE_ONLY;
    return two ? SD_ROLE_SECOND : SD_ROLE_REFINERS;
}

/* What the names of a module's tensors begin with: "" in a directory, and if the file has only this module. */
static const char *root_of(const sd_conversion *v, const sd_module *x)
{
    if (v->o.only || v->target == SD_TARGET_DIRECTORY) return "";
    return sd_root_written(x->kind->part, role_of(v, x), is_openclip(x));
}

const sd_module *sd_convert_module(const sd_conversion *v, int i)
{
    const sd_model *m = &v->c->model;
    for (int k = 0; k < m->n; k++) {
        const sd_module *x = m->module[k];
        const bool written = x->kind->bind && x->kind->part != SD_PART_TAESD;
        if (written && (!v->o.only || strcmp(x->place->name, v->o.only) == 0) && i-- == 0) return x;
    }
    return NULL;
}

/* -------------------------------------------------------------------------------------- which types */

/* Does a tensor keep its type where others get one of few digits? Vectors do, for all that follows depends on them;
 * embeddings; and tensors whose rows are no whole blocks. The rule is stable-diffusion.cpp's
 * (tensor_should_be_converted). */
static bool stays(const sd_output *t, sd_dtype to)
{
    size_t block = sd_dtype_block(to);
    if (block == 1 && sd_dtype_size(to) > 1) return false;
    return t->nd < 2 || strstr(t->name, "embedding") || (size_t)t->dim[t->nd - 1] % block != 0;
}

/* What a tensor is written as. Numbers with a scale of their own become floats, for a file has no place for that. */
static sd_dtype type_of(sd_conversion *v, const sd_output *t)
{
    sd_dtype own = t->piece[0].from.dt;
    bool scaled = false;
    if (!sd_dtype_is_float(own)) return own;
    for (int i = 0; i < t->pieces; i++) {
        const sd_piece *p = &t->piece[i];
        if (p->from.dt != own) own = SD_F32;
        scaled = scaled || p->from.scale != 0 || (p->transposed && sd_dtype_block(p->from.dt) > 1);
    }
    if (!v->keep && !stays(t, v->to)) return v->to;
    v->rescaled += scaled;
    return scaled ? SD_F32 : own;
}

static sd_status check_type(const sd_conversion *v, const sd_output *t)
{
    static const char *const format[] = {"a safetensors file", "a GGUF file", "a safetensors file"};
    bool eight = t->dt == SD_F8_E4M3 || t->dt == SD_F8_E5M2, block = sd_dtype_block(t->dt) > 1;
    if (v->target == SD_TARGET_GGUF ? !eight : !block) return SD_OK;
    return sd_fail(v->err, SD_ERR_ARG, "%s cannot hold %s (\"%.100s\"): give another type than %s", format[v->target],
                   sd_dtype_name(t->dt), t->name, v->keep ? "keep" : v->o.type);
}

/* -------------------------------------------------------------------------------------- the list */

static sd_status no_memory(const sd_conversion *v)
{
    return sd_fail(v->err, SD_ERR_MEMORY, "no memory to write %s", v->o.output);
}

/* A new tensor at the end of the list; NULL, and an error: out of memory. */
static sd_output *add_output(sd_conversion *v, int module, const char *root, const char *name)
{
    sd_text whole = {0};
    sd_output *list = sd_grow(v->out, v->n, &v->cap, 512, sizeof *list);
    if (list) v->out = list;
    sd_text_add(&whole, "%s%s", root, name);
    if (whole.failed || !list) {
        free(whole.s);
        no_memory(v);
        return NULL;
    }
    v->out[v->n] = (sd_output){.name = whole.s, .module = module};
    return &v->out[v->n++];
}

/* The numbers of a weight, or of its average. */
static sd_status take(const sd_conversion *v, const sd_module *x, const sd_weight *w, sd_tensor *from)
{
    *from = *w->field;
    if (!v->o.ema || x->kind->part != SD_PART_UNET) return SD_OK;
    const sd_entry *t = sd_store_find_dotless(x->files, SD_AVERAGES_ROOT, w->ldm);
    if (!t) return sd_fail(v->err, SD_ERR_MISSING, "there is no average (EMA) of %s in the input", w->path);
    size_t numbers = (size_t)sd_numel(from);
    if (!sd_dtype_is_float(t->dt) || t->stride || sd_dtype_bytes(t->dt, numbers) != t->bytes)
        return sd_fail(v->err, SD_ERR_SHAPE, "the average (EMA) %s is not like %s", t->name, w->path);
    union { const void *in; void *out; } data = {t->data};   /* nobody writes through it */
    from->dt = t->dt;
    from->data = data.out;
    from->scale = 0;
    return SD_OK;
}

/* The output of which this weight is a part. Its first part came just before, so it is among the last of the list.
 * NULL: it is not there. */
static sd_output *find_whole(const sd_conversion *v, const char *root, const char *name)
{
    size_t skip = strlen(root);
    for (size_t i = v->n; i > 0 && v->n - i < 8; i--)
        if (strcmp(v->out[i - 1].name + skip, name) == 0) return &v->out[i - 1];
    return NULL;
}

static sd_status list_weight(sd_conversion *v, const sd_module *x, int module, const sd_weight *w, const char *root,
                             bool ldm)
{
    unsigned flags = ldm ? w->flags : 0;
    const char *name = ldm ? w->ldm : w->path;
    sd_output *t = sd_bind_part(flags) ? find_whole(v, root, name) : add_output(v, module, root, name);
    if (!t) return v->err->status ? v->err->status : no_memory(v);
    sd_piece *p = &t->piece[t->pieces++];
    p->store = x->files;
    p->transposed = flags & SD_BIND_TRANSPOSE;
    if (take(v, x, w, &p->from)) return v->err->status;
    t->nd = flags & SD_BIND_CONV1 ? 4 : w->nd;
    for (int i = 0; i < 4; i++) t->dim[i] = i < p->from.nd ? p->from.dim[i] : 1;
    t->dim[0] *= sd_bind_parts(flags);
    if (p->transposed) {
        t->dim[0] = p->from.dim[1];
        t->dim[1] = p->from.dim[0];
    }
    return SD_OK;
}

/* ----------------------------------------------------------------------- tensors that no network needs */

/* How a name of the input becomes one of the output: `cut` bytes go, `add` comes before the rest. */
typedef struct renaming { bool there; size_t cut; char add[64]; const char *beginning; } renaming;

/* There is one if the names of the module's weights, of which this is the first, change only their beginning. */
static renaming find_renaming(const sd_module *x, const sd_output *first)
{
    const char *in = x->binder.weight[0].field->name, *out = first->name;
    renaming r = {.beginning = in};
    if (sd_ends_with(in, out)) {
        r.cut = strlen(in) - strlen(out);
        r.there = true;
    } else if (sd_ends_with(out, in)) {
        snprintf(r.add, sizeof r.add, "%.*s", (int)(strlen(out) - strlen(in)), out);
        r.there = true;
    }
    return r;
}

static sd_status list_leftover(sd_conversion *v, const sd_module *x, int module, const sd_entry *t, const renaming *r)
{
    sd_output *o = add_output(v, module, r->add, t->name + r->cut);
    if (!o) return v->err->status;
    union { const void *in; void *out; } data = {t->data};
    o->nd = t->nd;
    o->pieces = 1;
    o->piece[0] = (sd_piece){.store = x->files, .from = {.nd = t->nd ? t->nd : 1, .dt = t->dt, .data = data.out}};
    for (int i = 0; i < 4; i++) o->dim[i] = o->piece[0].from.dim[i] = i < t->nd ? t->dim[i] : 1;
    return SD_OK;
}

/* The module whose weights lie in this store and whose names begin like this one; -1: none. */
static int owner_of(const sd_conversion *v, const sd_store *s, const sd_entry *t, const renaming *r)
{
    const sd_module *x;
    if (t->dt == SD_DTYPE_UNKNOWN || t->stride || t->nd > 4 || !v->o.keep_all) return -1;
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++)
        if (r[i].there && x->files == s && strncmp(t->name, r[i].beginning, r[i].cut) == 0) return i;
    return -1;
}

static bool takes(const sd_conversion *v, const sd_store *s, const sd_network *n)
{
    const sd_module *x;
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++)
        if (x->files == s && x->kind->part == n->part && (x->binder.dotless || !strcmp(x->binder.root, n->root)))
            return true;
    return false;
}

/* Of a network that the output does not take from this store: the caller wants another part alone, or another file's
 * network in its place. */
static bool is_elsewhere(const sd_conversion *v, const sd_store *s, const sd_entry *t)
{
    const sd_model *m = &v->c->model;
    for (int i = 0; i < m->n_sources; i++) {
        const sd_recognised *r = &m->source[i]->what;
        for (int k = 0; &m->source[i]->store == s && k < r->n_networks; k++)
            if (sd_begins_with(t->name, r->network[k].root) && !takes(v, s, &r->network[k])) return true;
    }
    return false;
}

/* The tensors of a store that were not bound: they are listed or counted as dropped. */
static sd_status list_leftovers(sd_conversion *v, const sd_store *s, const renaming *r)
{
    for (size_t i = 0; i < sd_store_count(s); i++) {
        const sd_entry *t = sd_store_at(s, i);
        if (t->used || (v->o.ema && sd_begins_with(t->name, "model_ema.")) || is_elsewhere(v, s, t)) continue;
        int module = owner_of(v, s, t, r);
        if (module >= 0 && list_leftover(v, sd_convert_module(v, module), module, t, &r[module]))
            return v->err->status;
        if (module >= 0) continue;
        v->dropped++;
        if (!v->first_dropped) v->first_dropped = t->name;
    }
    return SD_OK;
}

/* ---------------------------------------------------------------------------------------- the whole list */

static sd_status list_module(sd_conversion *v, const sd_module *x, int module)
{
    bool ldm = v->ldm && (x->kind->part != SD_PART_TEXT || is_openclip(x));
    for (size_t i = 0; i < x->binder.n_weights; i++)
        if (list_weight(v, x, module, &x->binder.weight[i], root_of(v, x), ldm)) return v->err->status;
    return SD_OK;
}

static bool is_first_of_store(const sd_conversion *v, int module)
{
    const sd_store *s = sd_convert_module(v, module)->files;
    for (int i = 0; i < module; i++)
        if (sd_convert_module(v, i)->files == s) return false;
    return true;
}

/* Where a type stands in the order in which the safetensors library sorts a file: the higher first. */
static int rank(sd_dtype dt)
{
    static const sd_dtype order[] = {SD_BOOL, SD_U8, SD_I8, SD_F8_E5M2, SD_F8_E4M3, SD_I16, SD_F16, SD_BF16, SD_I32,
                                     SD_F32, SD_F64, SD_I64};
    for (size_t i = 0; i < SD_COUNT(order); i++)
        if (order[i] == dt) return (int)i;
    return -1;
}

static int by_module_type_and_name(const void *a, const void *b)
{
    const sd_output *s = a, *t = b;
    int p = rank(s->dt), q = rank(t->dt);
    if (s->module != t->module) return s->module < t->module ? -1 : 1;
    return p != q ? (p < q) - (p > q) : strcmp(s->name, t->name);
}

sd_status sd_convert_list(sd_conversion *v)
{
    renaming r[MOST_MODULES] = {{0}};
    const sd_module *x;
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++) {
        size_t first = v->n;
        if (list_module(v, x, i)) return v->err->status;
        if (v->n > first) r[i] = find_renaming(x, &v->out[first]);
    }
    for (int i = 0; (x = sd_convert_module(v, i)) != NULL; i++)
        if (is_first_of_store(v, i) && list_leftovers(v, x->files, r)) return v->err->status;
    for (size_t i = 0; i < v->n; i++) {
        v->out[i].dt = type_of(v, &v->out[i]);
        if (check_type(v, &v->out[i])) return v->err->status;
        if (v->target != SD_TARGET_DIRECTORY) v->out[i].module = 0;   /* one file has them all */
    }
    v->total = v->n;
    return SD_OK;
}

/* ---------------------------------------------------------------------------------------- numbers */

enum { BLOCK = 1 << 18 };   /* numbers that are converted at once: a multiple of all types' blocks */

static sd_status put_bytes(const sd_conversion *v, const void *data, size_t n, FILE *to, const char *path)
{
    if (fwrite(data, 1, n, to) == n) return SD_OK;
    return sd_fail(v->err, SD_ERR_IO, "cannot write %s: %s", path, strerror(errno));
}

/* Writes the numbers of a tensor in blocks, as they are or as another type. */
static sd_status put_numbers(const sd_conversion *v, const sd_tensor *w, const sd_store *store, sd_dtype dt, FILE *to,
                             const char *path)
{
    size_t n = (size_t)sd_numel(w);
    bool same = w->dt == dt && w->scale == 0;
    float *x = same ? NULL : malloc(BLOCK * sizeof *x);
    void *y = same ? NULL : malloc(sd_dtype_bytes(dt, BLOCK));
    if (!same && (!x || !y)) no_memory(v);
    for (size_t at = 0; at < n && !sd_fail_if_stopped(v->err); at += BLOCK) {
        size_t part = n - at < BLOCK ? n - at : BLOCK;
        const unsigned char *from = (const unsigned char *)w->data + sd_dtype_bytes(w->dt, at);
        if (!same) {
            sd_widen_weight(x, w, at, part, v->c->cpu.kern);
            sd_narrow(y, dt, x, part);
        }
        put_bytes(v, same ? from : y, sd_dtype_bytes(dt, part), to, path);
        sd_store_used(store, from, sd_dtype_bytes(w->dt, part));
    }
    free(x);
    free(y);
    return v->err->status;
}

/* The same for the transpose, of which there is a copy for a while. */
static sd_status put_transpose(const sd_conversion *v, const sd_piece *p, sd_dtype dt, FILE *to, const char *path)
{
    sd_tensor t = p->from;
    size_t rows = (size_t)t.dim[0], columns = (size_t)t.dim[1], size = sd_dtype_size(t.dt);
    const unsigned char *x = t.data;
    float *wide = NULL;
    if (!size) {   /* blocks */
        size = sizeof *wide;
        wide = malloc(rows * columns * size);
        if (wide) sd_widen_weight(wide, &t, 0, rows * columns, v->c->cpu.kern);
        t.dt = SD_F32;
        x = (const unsigned char *)wide;
    }
    unsigned char *y = x ? malloc(rows * columns * size + 1) : NULL;
    for (size_t i = 0; y && i < rows; i++)
        for (size_t k = 0; k < columns; k++) memcpy(y + (k * rows + i) * size, x + (i * columns + k) * size, size);
    t.data = y;
    if (y) put_numbers(v, &t, p->store, dt, to, path);
    else no_memory(v);
    free(wide);
    free(y);
    return v->err->status;
}

/* What is being written. */
typedef struct writing { sd_conversion *v; size_t first; double began; } writing;

static sd_status put(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    writing *w = user;
    sd_conversion *v = w->v;
    const sd_output *t = &v->out[w->first + i];
    for (int k = 0; k < t->pieces && !e->status; k++) {
        const sd_piece *p = &t->piece[k];
        if (p->transposed) put_transpose(v, p, t->dt, to, path);
        else put_numbers(v, &p->from, p->store, t->dt, to, path);
        sd_store_used(p->store, NULL, 0);   /* neighbours that came into memory with it */
    }
    double now = sd_now();
    if (!e->status) sd_report(v->c, "convert", (int)++v->done, (int)v->total, now - w->began);
    w->began = now;
    return e->status;
}

sd_status sd_convert_write(sd_conversion *v, const char *path, size_t first, size_t n, const sd_texts *texts)
{
    writing w = {.v = v, .first = first, .began = sd_now()};
    if (n) qsort(v->out + first, n, sizeof *v->out, by_module_type_and_name);
    sd_traced *t = calloc(n + 1, sizeof *t);
    if (!t) return no_memory(v);
    for (size_t i = 0; i < n; i++) {
        const sd_output *o = &v->out[first + i];
        t[i] = (sd_traced){.name = o->name, .dtype = o->dt, .nd = o->nd};
        memcpy(t[i].dim, o->dim, sizeof t[i].dim);
    }
    const sd_file_plan plan = {.tensor = t, .n = n, .meta = texts->pair, .n_meta = texts->n, .put = put, .user = &w};
    if (v->target == SD_TARGET_GGUF) sd_gguf_write_plan(path, &plan, v->err);
    else sd_safetensors_write_plan(path, &plan, v->err);
    free(t);
    return v->err->status;
}
