/* weights_torch.c - floor 3: tensors, their names, and settings in the object that torch.save was given.
 *
 * People save a dictionary of tensors; such a dictionary under a key of another one, with what a training program keeps
 * beside it (`wrappers`); or a whole network. A tensor's name is the way to it: keys joined by dots. Of a network only
 * its parameters, buffers and modules count, so that names are those of its state_dict().
 *
 * A pickle can be a graph in which the same value is reached in many ways, or from itself. So the walk keeps its own
 * stack, does not enter a value that it is in, and ends after a number of steps (`MOST_STEPS`), or when there are more
 * tensors than a pickle of this length can name one by one (`MOST_HELD`). */
#include "text.h"
#include "unicode.h"
#include "weights_torch.h"

#include <string.h>

enum { MOST_LEVELS = 96, MOST_TEXTS = 1024, MOST_TEXT_BYTES = 4096, MOST_NAME_BYTES = 1024, SETTING_LEVELS = 4 };
#define MOST_STEPS(p) (8 * ((p)->n + (p)->n_words) + 4096)
#define MOST_HELD(p) (SD_PICKLE_GROWTH * (p)->end + ((size_t)1 << 20))
#define MOST_REPEATED ((int64_t)1 << 31)   /* numbers of a tensor that repeats those of a smaller one */

/* Keys under which programs keep the tensors, if these are not in the outermost dictionary; the first that is there
 * counts. state_dict is what Lightning and most others write, params that of GFPGAN and Real-ESRGAN, module
 * DeepSpeed's. */
static const char *const wrappers[] = {"state_dict", "model_state_dict", "params_ema", "params-ema", "params", "model",
                                       "module", "net"};
/* What a network is made of, in its state. */
static const char *const network_parts[] = {"_parameters", "_buffers", "_modules"};

/* ----------------------------------------------------------------------------------------- tensors */

static sd_status bad(const sd_torch_file *t, const char *name, const char *why)
{
    return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "%s", t->f->path, name, why);
}

static bool is_tensor(const sd_pickle *p, sd_pickled v)
{
    const sd_global *g = sd_pickle_kind(p, v) == SD_PICKLED_OBJECT ? sd_pickle_global(p, v) : NULL;
    return g && (g->kind == SD_GLOBAL_TENSOR || g->kind == SD_GLOBAL_TENSOR_TYPED || g->kind == SD_GLOBAL_OTHER_TENSOR);
}

/* Reads a tuple or list of up to eight whole numbers >= 0. Returns how many there are; -1: it is something else. */
static int read_sizes(const sd_pickle *p, sd_pickled tuple, int64_t to[8])
{
    sd_pickled_kind kind = sd_pickle_kind(p, tuple);
    sd_pickle_items at = sd_pickle_begin(p, tuple);
    sd_pickled item;
    int n = 0;
    if (kind != SD_PICKLED_TUPLE && kind != SD_PICKLED_LIST) return -1;
    while (sd_pickle_next(&at, &item)) {
        if (n == 8 || !sd_pickle_int(p, item, &to[n]) || to[n] < 0) return -1;
        n++;
    }
    return n;
}

/* count: how many numbers a tensor has. span: how many the storage has from the tensor's first to its last one. Both
 * are 0 if it has none. False: too many to count. */
static bool extent(const sd_entry *t, const int64_t stride[8], int64_t *count, int64_t *span)
{
    const int64_t most = INT64_MAX / 16;   /* so that bytes can be counted too */
    *count = *span = 1;
    for (int i = 0; i < t->nd; i++)
        if (t->dim[i] == 0) return *count = *span = 0, true;
    for (int i = 0; i < t->nd; i++) {
        if (*count > most / t->dim[i]) return false;
        *count *= t->dim[i];
        if (t->dim[i] > 1 && stride[i] > (most - *span) / (t->dim[i] - 1)) return false;
        *span += (t->dim[i] - 1) * stride[i];
    }
    return true;
}

/* Do the numbers lie one after the other? A dimension of one number may have any stride. */
static bool is_contiguous(const sd_entry *t, const int64_t stride[8])
{
    int64_t next = 1;
    for (int i = t->nd; i-- > 0; next *= t->dim[i])
        if (t->dim[i] != 1 && stride[i] != next) return false;
    return true;
}

/* The type of a tensor's numbers: that of its storage, or its own, if it names one (`named`). NULL: what it names is no
 * type. */
static const sd_global *type_of(const sd_pickle *p, sd_pickled tensor, const sd_torch_storage *s, sd_pickled *named)
{
    if (sd_pickle_global(p, tensor)->kind != SD_GLOBAL_TENSOR_TYPED) return s->type;
    *named = sd_pickle_item(p, sd_pickle_args(p, tensor), 6);
    const sd_global *g = sd_pickle_kind(p, *named) == SD_PICKLED_GLOBAL ? sd_pickle_global(p, *named) : NULL;
    return g && g->kind == SD_GLOBAL_DTYPE ? g : NULL;
}

static void spell_type(const sd_pickle *p, sd_pickled type, sd_entry *t)
{
    char name[256];
    sd_pickle_name(p, type, name, sizeof name);
    const char *dot = strrchr(name, '.');
    dot = dot ? dot + 1 : name;
    int n = (int)strlen(dot);
    if (sd_ends_with(dot, "Storage")) n -= (int)strlen("Storage");   /* its numbers' type is meant */
    snprintf(t->spelling, sizeof t->spelling, "%.*s", n < 15 ? n : 15, dot);
}

/* Where the numbers are, once shape and strides are known. */
static sd_status place(sd_torch_file *t, sd_entry *entry, const sd_torch_storage *s, size_t size, int64_t offset,
                       const int64_t stride[8])
{
    int64_t count, span, room = (int64_t)(s->n * s->type->size / size);
    if (!extent(entry, stride, &count, &span)) return bad(t, entry->name, "the product of its shape overflows");
    if (!count) return SD_OK;
    if (offset > room || span > room - offset)
        return sd_fail(t->e, SD_ERR_FORMAT, SD_TENSOR "its shape needs numbers %lld to %lld of a storage that has %lld",
                       t->f->path, entry->name, (long long)offset, (long long)(offset < INT64_MAX - span ?
                       offset + span - 1 : INT64_MAX), (long long)room);
    if (count > span && count > MOST_REPEATED) return bad(t, entry->name, "it repeats its numbers too often");
    entry->data = s->data + (size_t)offset * size;
    entry->bytes = (size_t)span * size;
    if (is_contiguous(entry, stride)) return SD_OK;
    int64_t *kept = sd_weight_file_block(t->f, (size_t)entry->nd * sizeof *kept, t->e);
    if (kept) entry->stride = memcpy(kept, stride, (size_t)entry->nd * sizeof *kept);
    return t->e->status;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, ...) */
static sd_status add_tensor(sd_torch_file *t, sd_pickled v, const char *name)
{
    const sd_pickle *p = &t->pickle;
    sd_pickled args = sd_pickle_args(p, v), id = sd_pickle_item(p, args, 0), type = 0;
    sd_torch_storage s = {0};
    int64_t offset = 0, stride[8] = {0};
    char maker[256];
    sd_pickle_name(p, v, maker, sizeof maker);
    if (sd_pickle_global(p, v)->kind == SD_GLOBAL_OTHER_TENSOR)
        return sd_fail(t->e, SD_ERR_UNSUPPORTED, SD_TENSOR "it is made by %s, which is not read", t->f->path, name,
                       maker);
    t->held += sizeof(sd_entry) + strlen(name);
    if (t->held > MOST_HELD(p))
        return sd_fail(t->e, SD_ERR_FORMAT, "%s: its pickle names the same tensors too often", t->f->path);
    sd_entry *entry = sd_weight_file_add(t->f, name, t->e);
    if (!entry || sd_torch_find_storage(t, id, name, &s)) return t->e->status;
    const sd_global *g = type_of(p, v, &s, &type);
    if (!g) return bad(t, name, "it has no type of numbers");
    entry->nd = read_sizes(p, sd_pickle_item(p, args, 2), entry->dim);
    if (entry->nd < 0) return entry->nd = 0, bad(t, name, "its shape is not a list of up to 8 whole numbers >= 0");
    if (read_sizes(p, sd_pickle_item(p, args, 3), stride) != entry->nd)
        return bad(t, name, "its strides are no whole numbers >= 0, or not as many as its dimensions");
    if (!sd_pickle_int(p, sd_pickle_item(p, args, 1), &offset) || offset < 0)
        return bad(t, name, "its place in the storage is no whole number >= 0");
    entry->dt = g->dt;
    if (g->dt == SD_DTYPE_UNKNOWN) spell_type(p, type ? type : sd_pickle_item(p, id, 1), entry);
    return place(t, entry, &s, g->size, offset, stride);
}

/* -------------------------------------------------------------------------------------- settings */

/* A number, a truth value or a text beside the tensors. What is too long, or no text, is left out. */
static sd_status add_setting(sd_torch_file *t, sd_pickled v, const char *name)
{
    char text[MOST_TEXT_BYTES + 1], digits[SD_NUMBER_SIZE];
    const char *why;
    size_t n = 0;
    int64_t i = 0;
    const char *s = sd_pickle_text(&t->pickle, v, &n);
    switch (sd_pickle_kind(&t->pickle, v)) {
    case SD_PICKLED_BOOL: snprintf(text, sizeof text, "%s", t->pickle.value[v].u.i ? "true" : "false"); break;
    case SD_PICKLED_FLOAT: snprintf(text, sizeof text, "%s", sd_number_text(digits, t->pickle.value[v].u.f)); break;
    case SD_PICKLED_INT:
        sd_pickle_int(&t->pickle, v, &i);
        snprintf(text, sizeof text, "%lld", (long long)i);
        break;
    case SD_PICKLED_TEXT:
        if (n > MOST_TEXT_BYTES || memchr(s, '\0', n)) return SD_OK;
        memcpy(text, s, n);
        text[n] = '\0';
        break;
    default: return SD_OK;
    }
    if (t->f->n_meta == MOST_TEXTS || sd_utf8_fault(text, strlen(text), &why) < strlen(text) ||
        sd_utf8_fault(name, strlen(name), &why) < strlen(name) || !sd_tensor_name_ok(name))
        return SD_OK;
    return sd_weight_file_add_meta(t->f, name, text, t->e);
}

/* ---------------------------------------------------------------------------------------- the walk */

/* A list or dictionary that the walk is in. */
typedef struct level {
    sd_pickled of;
    sd_pickle_items at;
    sd_pickled skip;       /* a set of keys that are left out */
    size_t name_bytes;     /* of its own name */
    size_t index;          /* of the next item, in a list */
    bool pairs;
    bool settings;         /* numbers and texts count, too: no network and no list is around it */
} level;

typedef struct walk {
    sd_torch_file *t;
    level level[MOST_LEVELS];
    size_t depth;
    bool tensors;          /* false: settings only */
    char name[MOST_NAME_BYTES];
} walk;

/* The dictionary that an object's tensors are in: what it has as a dictionary, else its state. 0: there is none. */
static sd_pickled members_of(const sd_pickle *p, sd_pickled v)
{
    sd_pickled state = sd_pickle_state(p, v);
    if (sd_pickle_kind(p, v) == SD_PICKLED_DICT) return v;
    if (sd_pickle_pairs(p, v)) return sd_pickle_pairs(p, v);
    if (sd_pickle_kind(p, state) == SD_PICKLED_TUPLE) state = sd_pickle_item(p, state, 0);   /* (__dict__, __slots__) */
    return sd_pickle_kind(p, state) == SD_PICKLED_DICT ? state : 0;
}

static bool is_network(const sd_pickle *p, sd_pickled members)
{
    return sd_pickle_get(p, members, "_parameters") || sd_pickle_get(p, members, "_modules");
}

static bool is_inside(const walk *w, sd_pickled v)
{
    for (size_t i = 0; i < w->depth; i++)
        if (w->level[i].of == v) return true;
    return false;
}

/* Goes into a list or dictionary. */
static sd_status enter(walk *w, sd_pickled v, size_t name_bytes, bool settings, sd_pickled skip)
{
    const sd_pickle *p = &w->t->pickle;
    w->t->steps += sd_pickle_count(p, v) + 1;
    if (is_inside(w, v)) return SD_OK;
    if (w->depth == MOST_LEVELS) return sd_fail(w->t->e, SD_ERR_FORMAT, "%s: its pickle is too deep", w->t->f->path);
    w->level[w->depth++] = (level){.of = v, .at = sd_pickle_begin(p, v), .skip = skip, .name_bytes = name_bytes,
                                   .pairs = sd_pickle_kind(p, v) == SD_PICKLED_DICT, .settings = settings};
    return SD_OK;
}

static sd_status enter_network(walk *w, sd_pickled members, size_t name_bytes)
{
    const sd_pickle *p = &w->t->pickle;
    for (size_t i = 0; i < SD_COUNT(network_parts) && !w->t->e->status; i++) {
        sd_pickled part = sd_pickle_get(p, members, network_parts[i]), inner = members_of(p, part), skip = 0;
        if (strcmp(network_parts[i], "_buffers") == 0) skip = sd_pickle_get(p, members, "_non_persistent_buffers_set");
        if (inner) enter(w, inner, name_bytes, false, skip);
    }
    return w->t->e->status;
}

/* What is found under w->name, of name_bytes bytes. */
static sd_status see(walk *w, sd_pickled v, size_t name_bytes, bool settings)
{
    const sd_pickle *p = &w->t->pickle;
    sd_pickled_kind kind = sd_pickle_kind(p, v);
    sd_pickled members = members_of(p, v);
    if (is_tensor(p, v)) return w->tensors ? add_tensor(w->t, v, w->name) : SD_OK;
    if (kind == SD_PICKLED_LIST || kind == SD_PICKLED_TUPLE)
        return w->tensors ? enter(w, v, name_bytes, false, 0) : SD_OK;
    if (!members) return settings ? add_setting(w->t, v, w->name) : SD_OK;
    if (!w->tensors && w->depth >= SETTING_LEVELS) return SD_OK;
    w->t->steps += sd_pickle_count(p, members);
    if (kind == SD_PICKLED_OBJECT && is_network(p, members))
        return w->tensors ? enter_network(w, members, name_bytes) : SD_OK;
    settings = settings && w->depth < SETTING_LEVELS && (kind == SD_PICKLED_DICT || !w->tensors);
    return enter(w, members, name_bytes, settings, 0);
}

static bool has_item(const sd_pickle *p, sd_pickled set, const char *text, size_t n)
{
    sd_pickle_items at = sd_pickle_begin(p, set);
    sd_pickled item;
    size_t m = 0;
    while (sd_pickle_next(&at, &item)) {
        const char *s = sd_pickle_text(p, item, &m);
        if (s && m == n && memcmp(s, text, n) == 0) return true;
    }
    return false;
}

/* Adds ".key" to the name of a level. False: the key is no text and no number, or is one to be left out. */
static bool add_key(walk *w, const level *l, sd_pickled key, size_t *bytes)
{
    char digits[24];
    int64_t i = (int64_t)l->index;
    size_t n = 0;
    const char *s = l->pairs ? sd_pickle_text(&w->t->pickle, key, &n) : NULL;
    if (!s && l->pairs && !sd_pickle_int(&w->t->pickle, key, &i)) return false;
    if (s && n && *s == '_' && !w->tensors) return false;   /* what programs keep for themselves */
    if (!s) n = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)i), s = digits;
    w->t->steps += sd_pickle_count(&w->t->pickle, l->skip);
    if (has_item(&w->t->pickle, l->skip, s, n)) return false;
    if (memchr(s, '\0', n) || n >= sizeof w->name - l->name_bytes - 1) {
        sd_fail(w->t->e, SD_ERR_FORMAT, "%s: a name in its pickle has a NUL, or more than %d bytes", w->t->f->path,
                MOST_NAME_BYTES);
        return false;
    }
    *bytes = l->name_bytes;
    if (*bytes) w->name[(*bytes)++] = '.';
    memcpy(w->name + *bytes, s, n);
    *bytes += n;
    w->name[*bytes] = '\0';
    return true;
}

static void step(walk *w)
{
    level *l = &w->level[w->depth - 1];
    sd_pickled key = 0, v = 0;
    size_t bytes = 0;
    if (w->t->steps > MOST_STEPS(&w->t->pickle)) {
        sd_fail(w->t->e, SD_ERR_FORMAT, "%s: the same values of its pickle are reached in too many ways",
                w->t->f->path);
        return;
    }
    if (!sd_pickle_next(&l->at, l->pairs ? &key : &v) || (l->pairs && !sd_pickle_next(&l->at, &v))) {
        w->depth--;
        return;
    }
    if (add_key(w, l, key, &bytes)) see(w, v, bytes, l->settings);
    l->index++;
}

static sd_status walk_all(sd_torch_file *t, sd_pickled v, const char *name, bool tensors)
{
    walk w;
    w.t = t;
    w.depth = 0;
    w.tensors = tensors;
    snprintf(w.name, sizeof w.name, "%s", name);
    t->steps++;
    see(&w, v, strlen(name), true);
    while (w.depth && !sd_fail_if_stopped(t->e)) step(&w);
    return t->e->status;
}

/* -------------------------------------------------------------------------------------- wrappers */

/* Is this what a state_dict or a network looks like, and not a model's name or settings? */
static bool has_tensors(const sd_pickle *p, sd_pickled v)
{
    sd_pickled members = members_of(p, v), key, item;
    if (!members || is_tensor(p, v)) return false;
    if (is_network(p, members)) return true;
    for (size_t i = 0; i < SD_COUNT(wrappers); i++)
        if (sd_pickle_get(p, members, wrappers[i])) return true;
    sd_pickle_items at = sd_pickle_begin(p, members);
    while (sd_pickle_next(&at, &key) && sd_pickle_next(&at, &item))
        if (is_tensor(p, item)) return true;
    return false;
}

/* The dictionary or network in v that has the tensors; 0 if v has none of the wrappers' keys. */
static sd_pickled wrapped(const sd_pickle *p, sd_pickled v, const char **key)
{
    sd_pickled members = members_of(p, v);
    if (!members || is_tensor(p, v) || is_network(p, members)) return 0;
    for (size_t i = 0; i < SD_COUNT(wrappers); i++) {
        sd_pickled inner = sd_pickle_get(p, members, *key = wrappers[i]);
        if (inner && has_tensors(p, inner)) return inner;
    }
    return 0;
}

/* Adds the settings in a wrapper: all that is in it but the value under the key `but`, which has the tensors. */
static sd_status add_settings(sd_torch_file *t, sd_pickled wrapper, const char *but)
{
    const sd_pickle *p = &t->pickle;
    sd_pickled key, v;
    sd_pickle_items at = sd_pickle_begin(p, members_of(p, wrapper));
    while (!t->e->status && sd_pickle_next(&at, &key) && sd_pickle_next(&at, &v)) {
        char name[128];
        size_t n = 0;
        const char *s = sd_pickle_text(p, key, &n);
        if (!s || sd_pickle_text_is(p, key, but) || n >= sizeof name || memchr(s, '\0', n)) continue;
        memcpy(name, s, n);
        name[n] = '\0';
        walk_all(t, v, name, false);
    }
    return t->e->status;
}

sd_status sd_torch_add_all(sd_torch_file *t)
{
    enum { MOST_WRAPPERS = 8 };
    sd_pickled v = t->pickle.root, inner;
    const char *key = "";
    for (int i = 0; i < MOST_WRAPPERS && (inner = wrapped(&t->pickle, v, &key)) != 0; i++, v = inner)
        if (add_settings(t, v, key)) return t->e->status;
    return walk_all(t, v, is_tensor(&t->pickle, v) ? "tensor" : "", true);
}
