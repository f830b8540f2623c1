/* case_extract.c - floor 6: sd_extract. The run goes on with the other program's tensors, as sd_trace_inject does it,
 * up to the module, but for those inside the module. Its result is then followed back to where such tensors came in:
 * the operations on the way are the module, those tensors its inputs. */
#include "case.h"
#include "compare.h"
#include "ops_record.h"
#include "weights_values.h"

#include <stdlib.h>
#include <string.h>

/* The module's result, as soon as it is there. */
typedef struct capture {
    sd_recorder recorder;
    const char *module;
    const sd_injected *pair;   /* the tensors that are replaced, n; the injection's */
    size_t n;
    sd_noted *result;
    sd_traced ours;            /* its numbers are owned */
} capture;

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    capture *k = user;
    size_t n = sd_traced_numbers(x);
    (void)writable;
    if (strcmp(x->name, k->module) != 0) {
        sd_recorder_name(&k->recorder, sd_injected_find(k->pair, k->n, x->name) ? x->name : NULL);
        return e->status;
    }
    sd_noted *result = sd_recorder_shown(&k->recorder);
    if (!result || !result->op)
        return sd_fail(e, SD_ERR_ARG, "\"%.200s\" is not made by an operation that a case can have: it is an "
                       "embedding, or what a run begins from or ends with", x->name);
    float *copy = malloc(n * sizeof *copy);
    if (!copy) return sd_fail(e, SD_ERR_MEMORY, "no memory for a case");
    memcpy(copy, x->data, n * sizeof *copy);
    k->result = result;
    k->ours = *x;
    k->ours.name = "ours";
    k->ours.data = copy;
    return sd_fail(e, SD_ERR_CANCELLED, "the module was computed");   /* and nothing after it needs to be */
}

/* Runs until the module's result is there. */
static sd_status run_to(sd_ctx *c, const sd_params *p, capture *k, sd_injection *j)
{
    sd_trace *own = c->run.trace, *t = NULL;
    const sd_sink sink = {.user = k, .see = see};
    c->run.trace = NULL;
    k->pair = j->pair;
    k->n = j->n;
    if (sd_trace_new(&t, NULL, &sink, &c->err)) sd_injection_free(j);
    else sd_trace_put_injection(&t, NULL, j, &c->err);
    c->run.trace = t;
    if (!c->err.status) sd_run_pipeline(c, p, NULL, NULL, 0);
    if (k->result && c->err.status == SD_ERR_CANCELLED) sd_error_clear(&c->err);
    else if (!c->err.status)
        sd_fail(&c->err, SD_ERR_ARG, "the run came to its end without a tensor called \"%.200s\"", k->module);
    sd_trace_abort(t);
    c->run.trace = own;
    return c->err.status;
}

/* --------------------------------------------------------------------------------------- what is written */

/* A case in the making: tensors that are to be written, and the operations in order. */
typedef struct writing {
    sd_ctx *c;
    sd_traced t[3 * SD_CASE_MOST + 2];
    const sd_tensor *weight[3 * SD_CASE_MOST + 2];   /* of the tensor at the same place; NULL: its data is there */
    char *name[3 * SD_CASE_MOST + 2];                /* owned */
    size_t n;
    int ops, given;
    sd_text program;
} writing;

static sd_status fail_memory(sd_error *e) { return sd_fail(e, SD_ERR_MEMORY, "no memory for a case"); }

/* Takes the name. */
static void add_tensor(writing *w, char *name, int nd, const int64_t *dim, const void *data, const sd_tensor *weight)
{
    if (!name) {
        fail_memory(&w->c->err);
        return;
    }
    sd_traced *t = &w->t[w->n];
    *t = (sd_traced){.name = name, .dtype = SD_F32, .nd = nd, .data = data};
    memcpy(t->dim, dim, (size_t)nd * sizeof *dim);
    w->weight[w->n] = weight;
    w->name[w->n++] = name;
}

static void add_weight(writing *w, const char *key, const sd_tensor *t)
{
    if (!t || !t->nd) return;
    sd_add_json_text(&w->program, key, t->path);
    for (size_t i = 0; i < w->n; i++)
        if (w->weight[i] == t) return;
    add_tensor(w, sd_strdup(t->path), t->nd, t->dim, NULL, t);
}

static void add_given(writing *w, sd_noted *x)
{
    char name[32];
    snprintf(name, sizeof name, "given.%d", w->given++);
    x->number = -(int)w->n - 1;
    add_tensor(w, sd_strdup(x->name ? x->name : name), x->nd, x->dim, x->numbers, NULL);
}

static void add_shape(sd_text *t, const char *key, int nd, const int64_t *dim)
{
    sd_text_add(t, "%s", key);
    sd_add_shape(t, nd, dim);
}

static void describe(writing *w, const sd_noted *x)
{
    sd_text *t = &w->program;
    sd_text_add(t, "%s{\"op\":\"%s\",\"result\":\"t%d\",\"shape\":", w->ops > 1 ? "," : "", x->op, x->number);
    sd_add_shape(t, x->nd, x->dim);
    for (int i = 0; i < x->n_in; i++) {
        int number = x->in[i].of->number;
        char name[16];
        snprintf(name, sizeof name, "t%d", number);
        sd_add_json_text(t, i ? "},{\"name\":" : ",\"in\":[{\"name\":", number > 0 ? name : w->name[-number - 1]);
        add_shape(t, ",\"shape\":", x->in[i].nd, x->in[i].dim);
    }
    sd_text_add(t, "}],\"args\":[");
    for (int i = 0; i < x->n_args; i++) sd_add_json_number(t, i ? "," : "", x->arg[i]);
    sd_text_add(t, "]");
    add_weight(w, ",\"weight\":", x->w);
    add_weight(w, ",\"bias\":", x->b);
    sd_text_add(t, "}");
}

/* What a result is made of comes before it. */
static void walk(writing *w, sd_noted *x)
{
    if (x->number || w->c->err.status) return;
    if (!x->op) {
        add_given(w, x);
        return;
    }
    for (int i = 0; i < x->n_in; i++) walk(w, x->in[i].of);
    if (w->ops == SD_CASE_MOST)
        sd_fail(&w->c->err, SD_ERR_UNSUPPORTED, "the module has more than %d operations", SD_CASE_MOST);
    if (w->c->err.status) return;
    x->number = ++w->ops;
    describe(w, x);
}

static sd_status put(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    const writing *w = user;
    size_t n = sd_traced_numbers(&w->t[i]);
    float *wide = w->weight[i] ? malloc((n + 1) * sizeof *wide) : NULL;
    if (w->weight[i] && !wide) return fail_memory(e);
    if (wide) sd_widen_weight(wide, w->weight[i], 0, n, w->c->cpu.kern);
    bool good = fwrite(wide ? wide : w->t[i].data, sizeof *wide, n, to) == n;
    free(wide);
    return good ? e->status : sd_fail(e, SD_ERR_IO, "cannot write %s", path);
}

static sd_status write_case(writing *w, const capture *k, const float *theirs, const char *trace, const char *path)
{
    sd_error *e = &w->c->err;
    sd_text_add(&w->program, "{\"channels_first\":%s,\"ops\":[", k->recorder.channels_first ? "true" : "false");
    walk(w, k->result);
    sd_text_add(&w->program, "]}");
    add_tensor(w, sd_strdup("ours"), k->ours.nd, k->ours.dim, k->ours.data, NULL);
    add_tensor(w, sd_strdup("theirs"), k->ours.nd, k->ours.dim, theirs, NULL);
    if (w->program.failed && !e->status) fail_memory(e);
    const sd_pair meta[] = {{"module", (char *)k->module}, {SD_CASE_PROGRAM, w->program.s}, {"trace", (char *)trace}};
    const sd_file_plan plan = {.tensor = w->t, .n = w->n, .meta = meta, .n_meta = SD_COUNT(meta), .put = put,
                               .user = w};
    return e->status ? e->status : sd_safetensors_write_plan(path, &plan, e);
}

/* ----------------------------------------------------------------------------------------- the interface */

/* Tensors inside the module are computed: those pairs go. theirs: its result there; free() it. */
static sd_status leave_inside(sd_injection *j, const char *module, float **theirs, sd_error *e)
{
    size_t n = strlen(module), kept = 0;
    for (size_t i = 0; i < j->n; i++) {
        sd_injected p = j->pair[i];
        if (strcmp(p.name, module) == 0) {
            *theirs = malloc((size_t)sd_entry_numbers(p.from) * sizeof(float) + 1);
            if (!*theirs) fail_memory(e);
            else sd_injected_read(j, &p, *theirs, e);
        }
        if (strncmp(p.name, module, n) == 0 && p.name[n] == '.') free(p.name);
        else j->pair[kept++] = p;
    }
    j->n = kept;
    if (!*theirs && !e->status)
        sd_fail(e, SD_ERR_ARG, "no tensor of %.200s is \"%.200s\" of this run: sd trace --list has its names",
                j->of.path, module);
    return e->status;
}

sd_status sd_extract(sd_ctx *c, const sd_params *params, const char *trace, const char *module, const char *path,
                     const sd_inject_options *options)
{
    sd_inject_options o;
    sd_injection j = {.n = 0};
    float *theirs = NULL;
    sd_inject_options_init_sized(&o, sizeof o);
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "the trace's path", trace)
        || sd_check_not_null(c, "the module's name", module) || sd_check_not_null(c, "the case's path", path))
        return sd_end(c);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    o.filter = NULL;
    capture *k = calloc(1, sizeof *k);
    writing *w = calloc(1, sizeof *w);
    if (!k || !w) fail_memory(&c->err);
    if (c->err.status || sd_inject_match(c, params, trace, &o, &j) || leave_inside(&j, module, &theirs, &c->err)) {
        sd_injection_free(&j);
    } else {
        w->c = c;
        k->module = module;
        sd_recorder_begin(&k->recorder, &c->run);
        if (!run_to(c, params, k, &j)) {
            bool others = false;
            sd_injected_exchange(theirs, k->ours.data, sd_traced_numbers(&k->ours), k->ours.dim[0], &others);
            write_case(w, k, theirs, trace, path);
        }
        sd_recorder_end(&k->recorder, &c->run);
    }
    for (size_t i = 0; w && i < w->n; i++) free(w->name[i]);
    if (w) free(w->program.s);
    if (k) free((void *)k->ours.data);
    free(w);
    free(k);
    free(theirs);
    return sd_end(c);
}
