/* ops_opencl_rows.c - floor 2: element-wise operations, and those that move numbers. */
#include "ops_opencl.h"

#include <stdlib.h>

/* opencl/rows.cl: how many numbers a group takes, or how many rows */
static size_t span(const sd_cl *cl) { return cl->cpu ? 4096 : 1024; }
static size_t rows_of_group(const sd_cl *cl) { return cl->cpu ? 32 : 1; }

/* However many work-items a group has, they share what it takes. */
static void run_over(sd_cl_call *k, size_t items, size_t groups, double work)
{
    if (items > k->most_group) items = k->most_group;
    sd_cl_run(k, (size_t[]){sd_cl_of(k->r)->cpu ? 1 : items, 1, 1}, (size_t[]){groups, 1, 1}, work);
}

static void run_over_numbers(sd_cl_call *k, sd_tensor t)
{
    size_t n = (size_t)sd_numel(&t), each = span(sd_cl_of(k->r));
    run_over(k, 256, (n + each - 1) / each, 2 * (double)n);
}

static void run_over_rows(sd_cl_call *k, sd_tensor t)
{
    size_t n = (size_t)sd_cl_rows(t), each = rows_of_group(sd_cl_of(k->r));
    run_over(k, 64, (n + each - 1) / each, 2 * (double)sd_numel(&t));
}

/* ------------------------------------------------------------------------------- element-wise */

void sd_cl_act(sd_run *r, sd_tensor y, sd_tensor x, sd_act act)
{
    sd_cl_call k = sd_cl_begin(r, "rows", "act", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, x), sd_cl_int(&k, sd_numel(&x)), sd_cl_int(&k, act);
    run_over_numbers(&k, x);
}

void sd_cl_add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    sd_cl_call k = sd_cl_begin(r, "rows", "add", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, a), sd_cl_tensor(&k, b), sd_cl_int(&k, sd_numel(&y));
    run_over_numbers(&k, y);
}

void sd_cl_geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    sd_cl_call k = sd_cl_begin(r, "rows", "geglu", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, x), sd_cl_int(&k, sd_cl_rows(y)), sd_cl_int(&k, sd_cl_columns(y));
    run_over_rows(&k, y);
}

void sd_cl_add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    sd_cl_call k = sd_cl_begin(r, "rows", "add_channels", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, bias);
    sd_cl_int(&k, sd_cl_rows(y)), sd_cl_int(&k, sd_cl_columns(y)), sd_cl_int(&k, sd_cl_rows(y) / y.dim[0]);
    run_over_rows(&k, y);
}

/* ------------------------------------------------------------------------------------- moving */

void sd_cl_concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    sd_cl_call k = sd_cl_begin(r, "rows", "concat", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, a), sd_cl_tensor(&k, b);
    sd_cl_int(&k, sd_cl_rows(y)), sd_cl_int(&k, sd_cl_columns(a)), sd_cl_int(&k, sd_cl_columns(b));
    run_over_rows(&k, y);
}

/* The ratios are floats as in torch's upsample_nearest2d. */
void sd_cl_upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    sd_cl_call k = sd_cl_begin(r, "rows", "repeat_nearest", "");
    sd_cl_tensor(&k, y), sd_cl_tensor(&k, x), sd_cl_int(&k, sd_cl_rows(y)), sd_cl_int(&k, sd_cl_columns(y));
    sd_cl_int(&k, y.dim[1]), sd_cl_int(&k, y.dim[2]), sd_cl_int(&k, x.dim[1]), sd_cl_int(&k, x.dim[2]);
    sd_cl_float(&k, (double)((float)x.dim[1] / (float)y.dim[1]));
    sd_cl_float(&k, (double)((float)x.dim[2] / (float)y.dim[2]));
    run_over_rows(&k, y);
}

/* ---------------------------------------------------------------- small tensors, from the host */

void sd_cl_sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    float *room = sd_cl_host_room(r, sd_numel(&y));
    if (!room) return;
    sdk_sinusoid(room, value, (size_t)y.dim[0], (size_t)y.dim[1], flip, shift);
    sd_cl_upload(r, y, room, false);
    free(room);
}

void sd_cl_embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    const sd_kern *kern = sd_cl_of(r)->kern;
    size_t T = (size_t)y.dim[1], C = (size_t)y.dim[2], n = (size_t)y.dim[0] * T;
    float *room = sd_cl_host_room(r, sd_numel(&y) + y.dim[2]);   /* one more row: the position's */
    if (!room) return;
    for (size_t i = 0; i < n; i++) {
        float *to = room + i * C;
        sd_widen_weight(to, token, (size_t)ids[i] * C, C, kern);
        if (!position) continue;
        sd_widen_weight(room + n * C, position, i % T * C, C, kern);
        kern->add(to, to, room + n * C, C);
    }
    sd_cl_upload(r, y, room, false);
    free(room);
}
