/* pipeline_apart.c - floor 6: samples of a small network's batch, each computed by one thread from the first step to
 * the last.
 *
 * Where an operation is small, waking the other threads for it takes as long as the operation. So the threads share the
 * samples instead, and meet once in a forward pass. The bits stay: a sample's depend neither on its batch nor on the
 * number of threads. But each thread reads all weights, which only pays where there is little else to do. */
#include "pipeline_apart.h"

#include <stdlib.h>
#include <string.h>

int sd_apart_parts(const sd_ctx *c, int samples)
{
    const sd_run *r = &c->run;
    int threads = c->cpu.threads;
    bool watched = r->trace || r->profile || r->watch || c->model.residency == SD_RESIDENCY_STREAM;
    return r->be == &sd_backend_cpu && !c->cpu.blas && !watched && samples % threads == 0 ? threads : 1;
}

static sd_status make_parts(sd_ctx *c, int n)
{
    if (c->apart.n == n) return c->err.status;
    sd_apart_free(&c->apart);
    c->apart.part = calloc((size_t)n, sizeof *c->apart.part);
    if (!c->apart.part) return sd_fail(&c->err, SD_ERR_MEMORY, "no memory for %d samples apart", n);
    c->apart.n = n;
    for (int i = 0; i < n; i++) {
        sd_apart_part *p = &c->apart.part[i];
        p->cpu = (sd_cpu){.kern = c->cpu.kern, .threads = 1, .caches = c->cpu.caches};
        p->run = (sd_run){.err = &p->err, .be = &sd_backend_cpu, .device = &p->cpu};
    }
    return c->err.status;
}

typedef struct pass {
    sd_ctx *c;
    sd_apart_body *fn;
    void *user;
} pass;

static void compute_part(void *user, int i)
{
    const pass *p = user;
    sd_run *r = &p->c->apart.part[i].run;
    p->fn(r, p->user, i);
    sd_reset(r, 0);
    sd_fail_if_stopped(r->err);
}

sd_status sd_apart_run(sd_ctx *c, int parts, size_t bytes, const char *what, sd_apart_body *fn, void *user)
{
    pass p = {c, fn, user};
    make_parts(c, parts);
    for (int i = 0; i < parts && !c->err.status; i++) {
        sd_apart_part *part = &c->apart.part[i];
        part->err = (sd_error){.halt = c->err.halt};
        if (sd_reserve(&part->run, bytes, what)) c->err = part->err;
    }
    if (!c->err.status) sd_cpu_each(parts, compute_part, &p);
    for (int i = 0; i < parts && !c->err.status; i++)
        if (c->apart.part[i].err.status) c->err = c->apart.part[i].err;
    return c->err.status;
}

void sd_apart_free(sd_apart *a)
{
    for (int i = 0; i < a->n; i++) sd_run_free(&a->part[i].run);
    free(a->part);
    *a = (sd_apart){0};
}
