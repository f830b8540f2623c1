/* floor_run.c - floor 6: sd_make_floor: what float32 itself does to each tensor of a run, measured by this program
 * alone.
 *
 * The run is made with every sum in double, then as usual, then from `starts` starts one rounding apart: there each
 * traced tensor is rounded otherwise before the run goes on with it, and the operations that lose digits in any float32
 * lose them (ops_rounded.h). The largest error of these runs against the first is a tensor's floor.
 *
 * Errors are those of a sample of each tensor, which is all of it up to SAMPLE numbers: memory need not hold a run. */
#include "compare.h"
#include "ops_rounded.h"
#include "pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 1 << 15, MOST_STARTS = 64 };
static const double MOST = 0.99;   /* of a file's values */

typedef struct floor_of { float *right; double error; size_t run; } floor_of;   /* run: the last one that had it */

typedef struct floor_run {
    sd_ctx *c;
    sd_tensors of;           /* the run's tensors, without numbers */
    sd_names names;          /* theirs */
    sd_name_index index;
    floor_of *t;             /* one for each */
    size_t run;              /* 0: the precise one, 1: the usual one, then the starts */
    bool apart;              /* in this run tensors are rounded otherwise */
    sd_rounded rounded;
} floor_run;

/* ------------------------------------------------------------------------------------------ the sink */

/* Number i of k out of n: one out of each of k parts of the same length, so that no column is preferred. */
static size_t place_of(size_t i, size_t k, size_t n)
{
    if (n <= k) return i;
    size_t wide = n / k;
    return i * n / k + (size_t)((i * UINT64_C(0x9E3779B97F4A7C15) >> 33) % wide);
}

static sd_status keep(floor_of *t, const float *x, size_t k, size_t n, sd_error *e)
{
    t->right = malloc((k + 1) * sizeof *t->right);
    if (!t->right) return sd_fail(e, SD_ERR_MEMORY, "no memory for the numbers of a tensor");
    for (size_t i = 0; i < k; i++) t->right[i] = x[place_of(i, k, n)];
    return e->status;
}

static void judge(floor_of *t, const float *x, size_t k, size_t n)
{
    double squares = 0, norm = 0;
    for (size_t i = 0; i < k; i++) {
        double d = (double)x[place_of(i, k, n)] - t->right[i];
        squares += d * d;
        norm += (double)t->right[i] * t->right[i];
    }
    double error = norm > 0 ? sqrt(squares / norm) : 0;
    if (error > t->error) t->error = error;   /* NaN is not */
}

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    floor_run *f = user;
    const sd_named *found = sd_find_name(&f->index, x->name);
    size_t n = sd_traced_numbers(x), k = n < SAMPLE ? n : SAMPLE;
    if (x->dtype != SD_F32 || !x->data || !n || sd_is_input(x->name)) return e->status;
    if (f->apart && writable) sd_round_apart(&f->rounded, writable, n);
    if (!found) return e->status;
    floor_of *t = &f->t[found->place];
    if (f->run && t->run == f->run) return e->status;   /* a name's first tensor counts */
    t->run = f->run;
    if (f->run == 0 && !t->right) keep(t, x->data, k, n, e);
    else if (f->run && t->right) judge(t, x->data, k, n);
    return e->status;
}

/* -------------------------------------------------------------------------------------------- a run */

/* What a context computes with. */
typedef struct computing { const sd_backend *be; void *device; sd_cpu cpu; sd_trace *trace; sd_log log; } computing;

/* Makes the run once; w is what it computes with. */
static sd_status run_once(floor_run *f, const sd_params *given, const sd_backend *be, bool precise)
{
    sd_ctx *c = f->c;
    const computing own = {c->run.be, c->run.device, c->cpu, c->run.trace, c->log};
    sd_params p;
    sd_trace *t;
    const sd_sink sink = {.user = f, .see = see, .writes = f->apart};
    if (sd_trace_new(&t, NULL, &sink, &c->err)) return c->err.status;
    const char *isa = getenv("SD_ISA");
    isa = isa && *isa ? isa : NULL;
    f->rounded.cpu = c->cpu;
    f->rounded.calls = 0;
    if (precise != f->rounded.cpu.kern->precise)
        f->rounded.cpu.kern = precise ? sd_kern_select_precise(isa) : sd_kern_select(isa);
    f->rounded.cpu.blas = precise ? NULL : own.cpu.blas;
    sd_params_init(&p);
    sd_params_copy(&p, given);
    p.copies = NULL;
    c->run.be = be;
    c->run.device = &f->rounded;
    c->run.trace = t;
    c->cpu.kern = f->rounded.cpu.kern;
    if (f->run) c->log.fn = NULL;
    sd_run_pipeline(c, &p, NULL, NULL, 0);
    sd_trace_abort(t);
    c->cpu = f->rounded.cpu;   /* whose scratch may have grown */
    c->cpu.kern = own.cpu.kern;
    c->cpu.blas = own.cpu.blas;
    c->run.be = own.be;
    c->run.device = own.device;
    c->run.trace = own.trace;
    c->log = own.log;
    sd_params_free(&p);
    return c->err.status;
}

static sd_status run_all(floor_run *f, const sd_params *p, int starts)
{
    const sd_backend rounded = sd_backend_rounded();
    for (int i = 0; i < starts + 2 && !f->c->err.status; i++) {
        f->run = (size_t)i;
        f->apart = i > 1;
        f->rounded.start = (uint64_t)i;
        f->rounded.in_turn = i % 2;
        sd_logf(&f->c->log, SD_LOG_DETAIL, "floors: run %d of %d", i + 1, starts + 2);
        run_once(f, p, f->apart ? &rounded : &sd_backend_cpu, i == 0);
    }
    return f->c->err.status;
}

/* ------------------------------------------------------------------------------------- the interface */

static sd_status list(floor_run *f, const sd_params *p)
{
    sd_ctx *c = f->c;
    if (c->run.be != &sd_backend_cpu)
        return sd_fail(&c->err, SD_ERR_UNSUPPORTED, "floors are measured on the CPU: open the model with device "
                       "\"cpu\"");
    if (sd_run_is_open_ended(c, p))
        return sd_fail(&c->err, SD_ERR_UNSUPPORTED, "this sampler decides while it runs how many evaluations there "
                       "are: floors are measured with others");
    if (c->err.status || sd_rehearse_tensors(c, p, &f->of)) return c->err.status;
    f->names.name = calloc(f->of.n + 1, sizeof *f->names.name);
    f->t = calloc(f->of.n + 1, sizeof *f->t);
    if (!f->names.name || !f->t) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %zu floors", f->of.n);
    for (; f->names.n < f->of.n; f->names.n++) f->names.name[f->names.n] = (char *)f->of.at[f->names.n]->name;
    return sd_index_names(&f->index, &f->names, &c->err);
}

static sd_status write(const floor_run *f, int starts, const char *path, sd_error *e)
{
    sd_floors all = {0};
    char head[256];
    snprintf(head, sizeof head,
             "# What float32 itself does to each tensor: relative L2 errors against every sum in double, the\n"
             "# largest of a usual run and of %d that are rounded otherwise; measured by sd %s\n",
             starts, sd_version());
    for (size_t i = 0; i < f->of.n && !e->status; i++)
        if (f->t[i].error > 0)
            sd_floors_add(&all, f->of.at[i]->name, f->t[i].error < MOST ? f->t[i].error : MOST, e);
    if (!e->status && !all.n) sd_fail(e, SD_ERR_NUMERIC, "no tensor of this run has a floor: none can be computed");
    if (!e->status && !sd_floors_settle(&all, e)) sd_floors_write(&all, path, head, e);
    sd_floors_free(&all);
    return e->status;
}

static void floor_run_free(floor_run *f)
{
    for (size_t i = 0; i < f->of.n && f->t; i++) free(f->t[i].right);
    free(f->t);
    free(f->names.name);
    free(f->index.list);
    sd_tensors_close(&f->of);
}

sd_status sd_make_floor(sd_ctx *c, const sd_params *params, int starts, const char *path)
{
    if (sd_begin(c) || sd_check_not_null(c, "params", params) || sd_check_not_null(c, "the floors' path", path))
        return sd_end(c);
    floor_run f = {.c = c};
    if (starts == SD_DEFAULT) starts = 8;
    if (starts < 0 || starts > MOST_STARTS)
        sd_fail(&c->err, SD_ERR_ARG, "starts must be 0 to %d, not %d", MOST_STARTS, starts);
    else if (!sd_floors_check_output(path, &c->err) && !list(&f, params) && !run_all(&f, params, starts))
        write(&f, starts, path, &c->err);
    floor_run_free(&f);
    return sd_end(c);
}
