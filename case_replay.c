/* case_replay.c - floor 6: sd_replay: computes the module of a case again, from its file alone, fast and with every sum
 * in double, and says how far the two results in the file are from that. It believes nothing that the file says: shapes
 * are checked by the operations, and what they take is measured by the null backend first. */
#include "case.h"
#include "compare.h"
#include "json.h"
#include "ops_cpu.h"
#include "weights_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A case that is computed. */
typedef struct replay {
    sd_tensors file;
    sd_json *program;
    const sd_json *ops;
    sd_traced *given;          /* of each tensor of the file: its numbers, aligned; owned */
    sd_run r;
    sd_tensor t[SD_CASE_MOST + 1];   /* the result "t<i>" */
    int n;
} replay;

static const sd_entry *entry(const replay *p, const char *name, size_t *place)
{
    for (size_t i = 0; name && i < p->file.n; i++)
        if (strcmp(p->file.at[i]->name, name) == 0) {
            if (place) *place = i;
            return p->file.at[i];
        }
    return NULL;
}

static sd_status bad(const replay *p, const char *what, const char *name)
{
    return sd_fail(p->r.err, SD_ERR_FORMAT, "%s: operation %d: %s \"%.100s\"", p->file.path, p->n + 1, what,
                   name ? name : "");
}

/* ------------------------------------------------------------------------------------------ operands */

static bool read_shape(const sd_json *list, sd_tensor *t)
{
    t->nd = sd_json_count(list);
    double n = 1;
    for (int i = 0; i < t->nd && i < 4; i++) {
        t->dim[i] = sd_json_int(sd_json_item(list, i));
        n *= (double)t->dim[i];
        if (t->dim[i] < 1) return false;
    }
    return t->nd >= 1 && t->nd <= 4 && n < 1e10;
}

static const float *numbers(const replay *p, const char *name, size_t n)
{
    size_t place;
    const sd_entry *x = entry(p, name, &place);
    return x && sd_entry_numbers(x) == n ? p->given[place].data : NULL;
}

/* The i-th input in the shape that the operation sees: an earlier result, or numbers of the file. */
static sd_tensor input(replay *p, const sd_json *op, int i)
{
    const sd_json *in = sd_json_item(sd_json_get(op, "in"), i);
    const char *name = sd_json_text(sd_json_get(in, "name"));
    sd_tensor want = {.dt = SD_F32}, x;
    if (!sd_ok(&p->r)) return want;
    if (!name || !read_shape(sd_json_get(in, "shape"), &want)) {
        bad(p, "no name or no shape of an input", name);
        return want;
    }
    char *end = NULL;
    long number = name[0] == 't' ? strtol(name + 1, &end, 10) : 0;
    const float *given = numbers(p, name, (size_t)sd_numel(&want));
    if (given) return sd_new_from(&p->r, want.nd, want.dim, given);
    if (number < 1 || number > p->n || *end || sd_numel(&p->t[number]) != sd_numel(&want)) {
        bad(p, "there is nothing of this shape that is called", name);
        return want;
    }
    x = p->t[number];
    x.nd = want.nd;
    memcpy(x.dim, want.dim, sizeof x.dim);
    return x;
}

/* A weight; absent if the operation has none. */
static sd_tensor weight(const replay *p, const sd_json *op, const char *key)
{
    const char *name = sd_json_text(sd_json_get(op, key));
    size_t place;
    const sd_entry *x = entry(p, name, &place);
    sd_tensor t = {.dt = SD_F32, .name = name, .path = name};
    if (!name) return t;
    if (!x || x->nd > 4) {
        bad(p, "the file lacks the weight", name);
        return t;
    }
    t.nd = x->nd;
    memcpy(t.dim, x->dim, sizeof t.dim);
    t.data = (void *)p->given[place].data;
    return t;
}

static double arg(const sd_json *op, int i)
{
    const sd_json *x = sd_json_item(sd_json_get(op, "args"), i);
    return sd_json_is(x, SD_JSON_NUMBER) ? x->number : 0;
}

static int whole(const sd_json *op, int i)
{
    double x = arg(op, i);
    return x >= 0 && x <= 1e6 ? (int)x : -1;
}

/* ------------------------------------------------------------------------------------------ operations */

static sd_tensor copied(sd_run *r, sd_tensor x)
{
    sd_tensor y = sd_ok(r) ? sd_new4(r, 1, 1, 1, sd_numel(&x)) : x;
    y.nd = x.nd;
    memcpy(y.dim, x.dim, sizeof y.dim);
    sd_copy(r, y, x);
    return y;
}

static sd_tensor do_linear(replay *p, const sd_json *op)
{
    sd_tensor x = input(p, op, 0), w = weight(p, op, "weight"), b = weight(p, op, "bias");
    return sd_linear(&p->r, x, &w, &b);
}

static sd_tensor do_conv2d(replay *p, const sd_json *op)
{
    sd_tensor x = input(p, op, 0), w = weight(p, op, "weight"), b = weight(p, op, "bias");
    const sd_conv c = {.stride = whole(op, 0), .pad_top = whole(op, 1), .pad_left = whole(op, 2),
                       .pad_bottom = whole(op, 3), .pad_right = whole(op, 4), .enlarge = whole(op, 5) == 1};
    int most = c.pad_top | c.pad_left | c.pad_bottom | c.pad_right;
    if (c.stride < 1 || most < 0 || most > 255 || x.nd != 4 || w.nd != 4) bad(p, "a stride, a padding or a shape of",
                                                                              "conv2d");
    return sd_conv2d(&p->r, x, &w, &b, c);
}

static sd_tensor do_attention(replay *p, const sd_json *op)
{
    sd_tensor q = input(p, op, 0), k = input(p, op, 1), v = input(p, op, 2);
    return sd_attention(&p->r, q, k, v, whole(op, 0), whole(op, 1) == 1);
}

static sd_tensor do_group_norm(replay *p, const sd_json *op)
{
    sd_tensor x = input(p, op, 0), w = weight(p, op, "weight"), b = weight(p, op, "bias");
    return sd_group_norm(&p->r, x, &w, &b, whole(op, 0), arg(op, 1), whole(op, 2) == 1);
}

static sd_tensor do_layer_norm(replay *p, const sd_json *op)
{
    sd_tensor x = input(p, op, 0), w = weight(p, op, "weight"), b = weight(p, op, "bias");
    return sd_layer_norm(&p->r, x, &w, &b, arg(op, 0));
}

static sd_tensor do_act(replay *p, const sd_json *op)
{
    sd_tensor x = copied(&p->r, input(p, op, 0));
    int act = whole(op, 0);
    if (act < SD_ACT_SILU || act > SD_ACT_FROM_UNIT) bad(p, "unknown activation of", "act");
    sd_act_(&p->r, x, (sd_act)act);
    return x;
}

static sd_tensor do_geglu(replay *p, const sd_json *op) { return sd_geglu(&p->r, input(p, op, 0)); }

static sd_tensor do_add(replay *p, const sd_json *op)
{
    sd_tensor y = copied(&p->r, input(p, op, 0));
    sd_add_(&p->r, y, input(p, op, 1));
    return y;
}

static sd_tensor do_add_channels(replay *p, const sd_json *op)
{
    sd_tensor y = copied(&p->r, input(p, op, 0));
    sd_add_channels_(&p->r, y, input(p, op, 1));
    return y;
}

static sd_tensor do_concat(replay *p, const sd_json *op)
{
    sd_tensor a = input(p, op, 0), b = input(p, op, 1);
    return sd_concat(&p->r, a, b);
}

static sd_tensor do_upsample(replay *p, const sd_json *op)
{
    sd_tensor y, x = input(p, op, 0);
    if (!read_shape(sd_json_get(op, "shape"), &y) || y.nd != 4 || x.nd != 4) {
        bad(p, "a shape of", "upsample");
        return x;
    }
    return sd_upsample(&p->r, x, y.dim[1], y.dim[2]);
}

static const struct { const char *name; sd_tensor (*run)(replay *p, const sd_json *op); } operations[] = {
    {"linear", do_linear}, {"conv2d", do_conv2d}, {"attention", do_attention}, {"group_norm", do_group_norm},
    {"layer_norm", do_layer_norm}, {"act", do_act}, {"geglu", do_geglu}, {"add", do_add},
    {"add_channels", do_add_channels}, {"concat", do_concat}, {"upsample", do_upsample},
};

static void run_all(replay *p)
{
    for (p->n = 0; p->n < sd_json_count(p->ops) && sd_ok(&p->r); p->n++) {
        const sd_json *op = sd_json_item(p->ops, p->n);
        const char *name = sd_json_text(sd_json_get(op, "op"));
        size_t i = 0;
        while (name && i < SD_COUNT(operations) && strcmp(operations[i].name, name) != 0) i++;
        if (!name || i == SD_COUNT(operations)) bad(p, "it is not known:", name);
        else p->t[p->n + 1] = operations[i].run(p, op);
    }
}

/* The result, in the order of a trace; free() it. NULL, and an error. */
static float *compute(replay *p, sd_cpu *cpu, sd_error *e)
{
    const sd_entry *ours = entry(p, "ours", NULL);
    p->r = (sd_run){.err = e, .be = &sd_backend_null};
    run_all(p);
    size_t bytes = p->r.arena.peak;
    if (e->status) return NULL;
    p->r = (sd_run){.err = e, .be = &sd_backend_cpu, .device = cpu};
    if (!sd_reserve(&p->r, bytes, "a case")) run_all(p);
    const sd_tensor y = p->t[p->n];
    size_t n = e->status ? 0 : (size_t)sd_numel(&y);
    if (!e->status && n != sd_entry_numbers(ours))
        sd_fail(e, SD_ERR_FORMAT, "%s: its operations end with %zu numbers, \"ours\" has %llu", p->file.path, n,
                (unsigned long long)sd_entry_numbers(ours));
    float *to = e->status ? NULL : malloc((n + 1) * sizeof *to);
    bool first = sd_json_is(sd_json_get(p->program, "channels_first"), SD_JSON_TRUE);
    if (to) (first ? sd_download_channels_first : sd_download)(&p->r, y, to);
    else if (!e->status) sd_fail(e, SD_ERR_MEMORY, "no memory to replay %s", p->file.path);
    sd_run_free(&p->r);
    return to;
}

/* --------------------------------------------------------------------------------------------- opening */

static sd_status open_case(replay *p, const char *path, sd_error *e)
{
    p->r.err = e;
    if (sd_tensors_open(&p->file, path, e)) return e->status;
    const char *program = p->file.store.n_files ? sd_store_meta(&p->file.store, SD_CASE_PROGRAM) : NULL;
    const sd_entry *ours = entry(p, "ours", NULL), *theirs = entry(p, "theirs", NULL);
    if (!program || !ours || !theirs || sd_entry_numbers(ours) != sd_entry_numbers(theirs))
        return sd_fail(e, SD_ERR_FORMAT, "%s is no case of sd extract: it lacks \"ours\", \"theirs\" or its program",
                       path);
    char what[512];
    snprintf(what, sizeof what, "%.400s: the program of the case", path);
    p->program = sd_json_parse(program, strlen(program), what, e);
    p->ops = sd_json_get(p->program, "ops");
    int n = sd_json_count(p->ops);
    if (p->program && (n < 1 || n > SD_CASE_MOST))
        sd_fail(e, SD_ERR_FORMAT, "%s: a case has 1 to %d operations, not %d", path, SD_CASE_MOST, n);
    p->given = calloc(p->file.n + 1, sizeof *p->given);
    if (!p->given) return sd_fail(e, SD_ERR_MEMORY, "no memory to replay %s", path);
    for (size_t i = 0; i < p->file.n && !e->status; i++) {
        const sd_entry *x = p->file.at[i];
        if (x->dt == SD_DTYPE_UNKNOWN)
            return sd_fail(e, SD_ERR_FORMAT, "%s: the tensor \"%.100s\" is of type %s, which cannot be read", path,
                           x->name, sd_entry_dtype(x));
        float *to = malloc((size_t)sd_entry_numbers(x) * sizeof *to + 1);
        if (!to) return sd_fail(e, SD_ERR_MEMORY, "no memory to replay %s", path);
        sd_entry_to_floats(x, to);
        p->given[i].data = to;
    }
    return e->status;
}

static void close_case(replay *p)
{
    for (size_t i = 0; p->given && i < p->file.n; i++) free((void *)p->given[i].data);
    free(p->given);
    sd_json_free(p->program);
    sd_tensors_close(&p->file);
}

/* --------------------------------------------------------------------------------------------- the answer */

static sd_entry as_floats(const sd_entry *like, const float *x)
{
    sd_entry f = *like;
    f.dt = SD_F32;
    f.stride = NULL;
    f.data = x;
    f.bytes = (size_t)sd_entry_numbers(like) * sizeof *x;
    return f;
}

static double measure(sd_distance *d, const sd_entry *a, const sd_entry *b, sd_error *e)
{
    const sd_scaled x = {.of = *a}, y = {.of = *b};
    return sd_distance_of(d, &x, &y, e) ? 0 : sd_distance_relative(d);
}

/* How far float32 may be off: of one operation it is known, and several have more room, so far as they multiply. */
static double level_of(const replay *p, const char *module)
{
    static const double products = 3e-6, attention = 1e-5;
    double most = sd_one_operation(module);
    for (int i = 0; i < p->n && p->n > 1; i++) {
        const char *op = sd_json_text(sd_json_get(sd_json_item(p->ops, i), "op"));
        most = fmax(most, op && strcmp(op, "attention") == 0 ? attention : products);
    }
    return most;
}

static void tell(const replay *p, const float *fast, const float *precise, sd_text *t, int *different, sd_error *e)
{
    enum { TIMES = 10 };   /* what float32 makes here */
    sd_distance d;
    const sd_entry *ours = entry(p, "ours", NULL), *theirs = entry(p, "theirs", NULL);
    const sd_entry exact = as_floats(ours, precise), quick = as_floats(ours, fast);
    const char *module = sd_store_meta(&p->file.store, "module");
    double here = measure(&d, &exact, &quick, e), own = measure(&d, &exact, ours, e), scale, shift, left;
    double error = measure(&d, &exact, theirs, e), level = fmax(level_of(p, module ? module : ""), TIMES * here);
    *different = !(error <= level);
    sd_text_add(t, "%s: theirs %s: relative L2 error %.3g, %.3g times the level of %.2g\n",
                module ? module : p->file.path, *different ? "differs" : "agrees", error, error / level, level);
    if (d.at >= 0) {
        sd_text_add(t, "  %llu of %llu numbers differ, at most by %.4g, at number %lld: %.9g here, theirs %.9g; cosine "
                    "%.9g", (unsigned long long)d.other, (unsigned long long)d.n, d.max, (long long)d.at,
                    (double)precise[d.at], sd_entry_number(theirs, (uint64_t)d.at), sd_cosine(&d));
        if (sd_fit(&d, &scale, &shift, &left))
            sd_text_add(t, "\n  best fit: theirs = %.6g here + %.3g leaves %.3g of the squared error", scale, shift,
                        left);
        sd_text_add(t, "\n");
    }
    sd_text_add(t, "  here: every sum in double. In float32 %.3g away from that, \"ours\" of the file %.3g\n", here,
                own);
    for (int i = 0; i < p->n; i++) {
        const sd_json *op = sd_json_item(p->ops, i), *w = sd_json_get(op, "weight");
        sd_text_add(t, "  t%d = %s(", i + 1, sd_json_text(sd_json_get(op, "op")));
        for (int k = 0; k < sd_json_count(sd_json_get(op, "in")); k++)
            sd_text_add(t, "%s%s", k ? ", " : "",
                        sd_json_text(sd_json_get(sd_json_item(sd_json_get(op, "in"), k), "name")));
        if (w) sd_text_add(t, ", %s", sd_json_text(w));
        for (int k = 0; k < sd_json_count(sd_json_get(op, "args")); k++) sd_text_add(t, ", %.9g", arg(op, k));
        sd_text_add(t, ") ");
        sd_add_shape(t, p->t[i + 1].nd, p->t[i + 1].dim);
        sd_text_add(t, "\n");
    }
}

sd_status sd_replay(const char *path, char **text, int *different, char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_text t = {0};
    sd_cpu fast = {.kern = sd_kern_select(NULL), .threads = sd_cores_usable()};
    sd_cpu precise = {.kern = sd_kern_select_precise(NULL), .threads = fast.threads};
    if (error) *error = 0;
    if (!path || !text || !different) return SD_ERR_ARG;
    *text = NULL;
    *different = 0;
    replay *p = calloc(1, sizeof *p);
    float *a = NULL, *b = NULL;
    if (!p) sd_fail(&e, SD_ERR_MEMORY, "no memory to replay %.200s", path);
    else if (!open_case(p, path, &e) && (a = compute(p, &fast, &e)) != NULL && (b = compute(p, &precise, &e)) != NULL)
        tell(p, a, b, &t, different, &e);
    if (p) close_case(p);
    free(a);
    free(b);
    free(p);
    return sd_inspect_end(&t, text, error, &e);
}
