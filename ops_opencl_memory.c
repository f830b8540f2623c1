/* ops_opencl_memory.c - floor 2: the OpenCL backend's memory: buffers, and addresses that stand for places in them;
 * numbers from and to the host.
 *
 * An OpenCL buffer has no address that the host could add to. So each block gets a range of addresses that nothing lies
 * behind, and a tensor's place is found in the table of blocks. */
#include "ops_opencl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ buffers */

/* Nobody can ask a device how much memory others have taken of it. So a part of it stays free, and a part of the rest
 * is for what operations need beside the working memory: scratch, and weights that do not stay. */
static double usable(const sd_cl *cl) { return (double)cl->memory * 15 / 16; }
static double for_operations(const sd_cl *cl) { return fmin((double)cl->memory / 8, 1e9); }

/* What the host has left, if its memory is the device's. */
static double left_of_host(const sd_cl *cl)
{
    return cl->shares_memory ? (double)sd_memory_left() : (double)cl->memory;
}

bool sd_cl_has_left(const sd_cl *cl, size_t bytes)
{
    enum { NOT_WORTH_ASKING = 64 << 20 };
    return (double)cl->taken + (double)bytes <= usable(cl)
        && (bytes < NOT_WORTH_ASKING || (double)bytes <= left_of_host(cl));
}

sd_room sd_cl_room(const sd_run *r)
{
    const sd_cl *cl = sd_cl_of(r);
    double left = usable(cl) - for_operations(cl) - (double)cl->taken, host = left_of_host(cl);
    left = (left < host ? left : host) + (double)cl->weight_bytes;
    return (sd_room){left > 0 ? left : 0, (size_t)cl->most / SD_ALIGN * SD_ALIGN};
}

static bool is_short(cl_int code)
{
    return code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES || code == CL_OUT_OF_HOST_MEMORY;
}

/* Where there is too little, the weights go that were not used for the longest time, if somebody insists. What the
 * device says counts, too: buffers that were given back are there until nothing in the queue needs them. */
static cl_mem make_buffer(sd_run *r, size_t bytes, bool insist, cl_int *code)
{
    sd_cl *cl = sd_cl_of(r);
    cl_mem buffer = NULL;
    *code = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    if (bytes > cl->most) return NULL;
    while (!sd_cl_has_left(cl, bytes))
        if (!insist || !sd_cl_evict(cl)) return NULL;
    for (bool waited = false; !buffer; waited = true) {
        buffer = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, bytes, NULL, code);
        if (*code == CL_SUCCESS || !insist || !is_short(*code) || (waited && !sd_cl_evict(cl))) break;
        clFinish(cl->queue);   /* if that fails, nothing can be had either */
    }
    return *code == CL_SUCCESS ? buffer : NULL;
}

cl_mem sd_cl_new_buffer(sd_run *r, size_t bytes, const char *what)
{
    sd_cl *cl = sd_cl_of(r);
    cl_int code;
    cl_mem buffer = make_buffer(r, bytes, what != NULL, &code);
    if (buffer) cl->taken += bytes;
    else if (what && is_short(code))
        sd_fail(r->err, SD_ERR_MEMORY, "%s has no memory for %s: %.1f MB, beside %.1f MB that are taken, of %.1f MB in "
                "all and at most %.1f MB at once", cl->name, what, (double)bytes / 1e6, (double)cl->taken / 1e6,
                (double)cl->memory / 1e6, (double)cl->most / 1e6);
    else if (what) sd_cl_failed(r, code, "clCreateBuffer");
    return buffer;
}

void sd_cl_free_buffer(sd_cl *cl, cl_mem buffer)
{
    size_t bytes = 0;
    if (!buffer) return;
    if (clGetMemObjectInfo(buffer, CL_MEM_SIZE, sizeof bytes, &bytes, NULL) == CL_SUCCESS) cl->taken -= bytes;
    clReleaseMemObject(buffer);
}

cl_mem sd_cl_scratch(sd_run *r, size_t bytes)
{
    sd_cl *cl = sd_cl_of(r);
    if (bytes > cl->scratch_size || !cl->scratch) {
        sd_cl_free_buffer(cl, cl->scratch);
        cl->scratch = sd_cl_new_buffer(r, bytes, "the scratch of an operation");
        cl->scratch_size = cl->scratch ? bytes : 0;
    }
    return cl->scratch;
}

void sd_cl_trim(sd_run *r)
{
    sd_cl *cl = sd_cl_of(r);
    sd_cl_free_buffer(cl, cl->scratch);
    cl->scratch = NULL;
    cl->scratch_size = 0;
}

/* ------------------------------------------------------------------------------------- blocks */

enum { FIRST_ADDRESS = 1 << 20, GAP = 4096 };

static void free_block(sd_cl *cl, sd_cl_block *b)
{
    for (int k = 0; k < b->buffers; k++) sd_cl_free_buffer(cl, b->buffer[k]);
    free(b->buffer);
}

/* A block over the device's largest buffer is several buffers. The arena lets no tensor lie in two of them. */
static bool make_block(sd_run *r, sd_cl_block *b, size_t bytes, const char *what)
{
    size_t part = sd_cl_room(r).part, n = bytes / part + (bytes % part > 0 || !bytes);
    *b = (sd_cl_block){.bytes = bytes, .part = part, .buffer = calloc(n, sizeof *b->buffer)};
    if (!b->buffer && what) sd_fail(r->err, SD_ERR_MEMORY, "no memory for a list of buffers");
    if (!b->buffer) return false;
    for (size_t i = 0; i < n; i++) {
        size_t left = bytes - i * part;
        b->buffer[i] = sd_cl_new_buffer(r, left < part ? left : part, what);
        if (!b->buffer[i]) return false;
        b->buffers++;
    }
    return true;
}

void *sd_cl_alloc(sd_run *r, size_t bytes, const char *what)
{
    sd_cl *cl = sd_cl_of(r);
    sd_cl_block *more = sd_grow(cl->block, cl->blocks, &cl->block_cap, 16, sizeof *more), b;
    if (!more) {
        if (what) sd_fail(r->err, SD_ERR_MEMORY, "no memory for a list of blocks");
        return NULL;
    }
    cl->block = more;
    if (!make_block(r, &b, bytes, what)) {
        free_block(cl, &b);
        return NULL;
    }
    if (!cl->next_address) cl->next_address = FIRST_ADDRESS;
    b.address = cl->next_address;
    cl->next_address += (bytes + SD_ALIGN - 1) / SD_ALIGN * SD_ALIGN + GAP;
    cl->block[cl->blocks++] = b;
    return (void *)b.address;
}

void sd_cl_release(sd_run *r, void *data)
{
    sd_cl *cl = sd_cl_of(r);
    for (size_t i = 0; data && i < cl->blocks; i++) {
        if (cl->block[i].address != (uintptr_t)data) continue;
        free_block(cl, &cl->block[i]);
        cl->block[i] = cl->block[--cl->blocks];
        return;
    }
}

sd_cl_place sd_cl_find(const sd_run *r, sd_tensor t)
{
    const sd_cl *cl = sd_cl_of(r);
    uintptr_t at = (uintptr_t)t.data;
    for (size_t i = 0; i < cl->blocks; i++) {
        const sd_cl_block *b = &cl->block[i];
        if (at < b->address || at - b->address >= b->bytes) continue;
        size_t offset = at - b->address;
        return (sd_cl_place){b->buffer[offset / b->part], offset % b->part / sizeof(float)};
    }
    sd_fail(r->err, SD_ERR_ARG, "%s: a tensor that is not in the memory of %s", r->step ? r->step : "input", cl->name);
    return (sd_cl_place){0};
}

/* ------------------------------------------------------------------------------------ numbers */

static void write_all(sd_run *r, sd_tensor y, const float *from)
{
    sd_cl_place p = sd_cl_find(r, y);
    if (sd_ok(r))
        sd_cl_failed(r, clEnqueueWriteBuffer(sd_cl_of(r)->queue, p.buffer, CL_TRUE, p.at * sizeof *from,
                                             (size_t)sd_numel(&y) * sizeof *from, from, 0, NULL, NULL),
                     "clEnqueueWriteBuffer");
}

static void read_all(sd_run *r, sd_tensor x, float *to)
{
    sd_cl_place p = sd_cl_find(r, x);
    if (!sd_ok(r)) return;
    sd_cl_wait(r);
    if (sd_ok(r))
        sd_cl_failed(r, clEnqueueReadBuffer(sd_cl_of(r)->queue, p.buffer, CL_TRUE, p.at * sizeof *to,
                                            (size_t)sd_numel(&x) * sizeof *to, to, 0, NULL, NULL),
                     "clEnqueueReadBuffer");
}

/* y[n][b][a] = x[n][a][b] */
static void transpose(float *y, const float *x, size_t n, size_t a, size_t b)
{
    for (size_t i = 0; i < n; i++, x += a * b, y += a * b)
        for (size_t j = 0; j < a; j++)
            for (size_t k = 0; k < b; k++) y[k * a + j] = x[j * b + k];
}

float *sd_cl_host_room(sd_run *r, int64_t n)
{
    float *room = malloc((size_t)n * sizeof *room);
    if (!room) sd_fail(r->err, SD_ERR_MEMORY, "no memory for %lld numbers on their way", (long long)n);
    return room;
}

void sd_cl_upload(sd_run *r, sd_tensor y, const float *from, bool channels_first)
{
    size_t N = (size_t)y.dim[0], C = (size_t)y.dim[y.nd - 1], P = (size_t)sd_numel(&y) / N / C;
    if (!channels_first) {
        write_all(r, y, from);
        return;
    }
    float *room = sd_cl_host_room(r, sd_numel(&y));
    if (!room) return;
    transpose(room, from, N, C, P);   /* [N,C,P] -> [N,P,C] */
    write_all(r, y, room);
    free(room);
}

void sd_cl_download(sd_run *r, sd_tensor x, float *to, bool channels_first)
{
    size_t N = (size_t)x.dim[0], C = (size_t)x.dim[x.nd - 1], P = (size_t)sd_numel(&x) / N / C;
    if (!channels_first) {
        read_all(r, x, to);
        return;
    }
    float *room = sd_cl_host_room(r, sd_numel(&x));
    if (!room) return;
    read_all(r, x, room);
    if (sd_ok(r)) transpose(to, room, N, P, C);   /* [N,P,C] -> [N,C,P] */
    free(room);
}

/* A buffer cannot be copied onto itself where the two overlap. But y lies lower, by `gap`: so pieces of that size are
 * copied, the lowest first, and each has been read before the next is written over it. Small gaps go through the
 * scratch. */
void sd_cl_copy(sd_run *r, sd_tensor y, sd_tensor x)
{
    sd_cl *cl = sd_cl_of(r);
    size_t bytes = (size_t)sd_numel(&x) * sizeof(float);
    sd_cl_place to = sd_cl_find(r, y), from = sd_cl_find(r, x);
    if (!sd_ok(r)) return;
    size_t gap = to.buffer == from.buffer && from.at > to.at ? (from.at - to.at) * sizeof(float) : bytes;
    size_t step = gap < bytes ? gap : bytes, f = from.at * sizeof(float), t = to.at * sizeof(float);
    if (step < bytes / 16) {
        cl_mem room = sd_cl_scratch(r, bytes);
        if (!room || sd_cl_failed(r, clEnqueueCopyBuffer(cl->queue, from.buffer, room, f, 0, bytes, 0, NULL, NULL),
                                  "clEnqueueCopyBuffer"))
            return;
        sd_cl_failed(r, clEnqueueCopyBuffer(cl->queue, room, to.buffer, 0, t, bytes, 0, NULL, NULL),
                     "clEnqueueCopyBuffer");
        return;
    }
    for (size_t at = 0; at < bytes && sd_ok(r); at += step) {
        size_t n = bytes - at < step ? bytes - at : step;
        sd_cl_failed(r, clEnqueueCopyBuffer(cl->queue, from.buffer, to.buffer, f + at, t + at, n, 0, NULL, NULL),
                     "clEnqueueCopyBuffer");
    }
    if (r->profile) sd_cl_wait(r);
}
