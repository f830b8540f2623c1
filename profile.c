/* profile.c - floor 2: what each operation of a run took, under the module path it belongs to. */
#include "profile.h"

#include <stdlib.h>
#include <string.h>

sd_profile *sd_profile_new(int threads, void (*fn)(void *user, const sd_profiled *op), void *user)
{
    sd_profile *p = calloc(1, sizeof *p + (size_t)threads * sizeof p->sums[0]);
    if (!p) return NULL;
    p->fn = fn;
    p->user = user;
    p->threads = threads;
    return p;
}

/* -------------------------------------------------------------------------------------- names */

static void copy_path(char to[SD_PROFILE_PATH], const char *from)
{
    size_t n = strlen(from);
    if (n >= SD_PROFILE_PATH) n = SD_PROFILE_PATH - 1;
    memcpy(to, from, n);
    to[n] = 0;
}

/* "a.b.c" -> "a.b"; "" if there is no dot. */
static void drop_last(char *path)
{
    char *dot = strrchr(path, '.');
    *(dot ? dot : path) = 0;
}

/* Goes to the enclosing module: drops the last name and, if that is an index into a list, the list's name too:
 * attn1.to_out.0 becomes attn1. */
static void go_up(char *path)
{
    const char *dot = strrchr(path, '.'), *last = dot ? dot + 1 : path;
    bool number = *last >= '0' && *last <= '9';
    drop_last(path);
    if (number) drop_last(path);
}

static bool lies_in(const char *path, const char *block)
{
    size_t n = strlen(block);
    return strncmp(path, block, n) == 0 && (path[n] == 0 || path[n] == '.');
}

/* With weights: the module that has them. Without: the module that encloses the one with the last weights, so that a
 * softmax belongs to its attention and a residual's sum to its block; at the beginning of a step, that step. */
static void name_module(const sd_run *r, const sd_operation *o, char path[SD_PROFILE_PATH])
{
    sd_profile *p = r->profile;
    const char *key = o->weight ? o->weight->path : o->key;
    if (key) {
        copy_path(p->module, key);
        drop_last(p->module);   /* .weight */
        copy_path(path, p->module);
    } else if (!r->step || lies_in(p->module, r->step)) {
        copy_path(path, p->module);
        if (!r->step || strcmp(path, r->step) != 0) go_up(path);
    } else {
        copy_path(path, r->step);
    }
}

/* ---------------------------------------------------------------------------------- measuring */

void sd_profile_stage_begin(sd_run *r, sd_stage stage)
{
    static const char *const names[] = {"text_encoder", "unet", "vae_decode", "vae_encode"};
    sd_profile *p = r->profile;
    if (!p) return;
    p->op = (sd_profiled){.stage = names[stage], .pass = p->passes[stage]++};
    p->module[0] = 0;
    p->stage_begin = sd_now();
}

void sd_profile_stage_end(sd_run *r)
{
    sd_profile *p = r->profile;
    if (!p || !sd_ok(r)) return;
    sd_profiled all = {.stage = p->op.stage, .pass = p->op.pass, .block = "", .module = "", .operation = "stage",
                       .algorithm = "", .seconds = sd_now() - p->stage_begin};
    p->fn(p->user, &all);
}

void sd_profile_begin(sd_run *r)
{
    sd_profile *p = r->profile;
    if (!p) return;
    p->op = (sd_profiled){.stage = p->op.stage, .pass = p->op.pass};
    for (int i = 0; i < p->threads; i++) memset(p->sums[i].part, 0, sizeof p->sums[i].part);
    p->begin = sd_now();
}

static double bytes_of(const sd_tensor *t) { return (double)sd_dtype_bytes(t->dt, (size_t)sd_numel(t)); }

void sd_profile_end(sd_run *r, const sd_operation *o)
{
    sd_profile *p = r->profile;
    char module[SD_PROFILE_PATH], block[SD_PROFILE_PATH];
    if (!p || !p->op.stage || !sd_ok(r)) return;   /* nothing is measured outside of stages */
    p->op.seconds = sd_now() - p->begin;
    name_module(r, o, module);
    p->op.module = module;
    copy_path(block, module);
    if (!r->step && o->weight) go_up(block);
    p->op.block = r->step ? r->step : block;
    p->op.operation = o->name;
    p->op.nd = o->y.nd;
    memcpy(p->op.dim, o->y.dim, sizeof p->op.dim);
    p->op.flops = o->flops;
    p->op.algorithm = o->how.name ? o->how.name : "";
    p->op.share = o->how.name ? o->how.share : 1;
    p->op.bytes = bytes_of(&o->y);
    for (size_t i = 0; i < SD_COUNT(o->in); i++) p->op.bytes += bytes_of(&o->in[i]);
    p->op.weight_bytes = o->weight ? bytes_of(o->weight) : 0;
    for (int i = 0; i < p->threads; i++)
        for (int k = 0; k < SD_PROFILE_PARTS; k++) p->op.part[k] += p->sums[i].part[k];
    p->fn(p->user, &p->op);
}
