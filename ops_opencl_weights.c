/* ops_opencl_weights.c - floor 2: a weight's copy on the device.
 *
 * A weight goes up as the file has it, in pieces, by a queue of its own: so the device calculates with one weight while
 * the next ones are on their way. How far ahead they are is how far the host runs ahead of the device
 * (ops_opencl_launch.c). A piece lands in one of a few slots; the main queue waits for it, and brings its numbers into
 * the order that kernels read. The slot's next piece waits for that.
 *
 * A weight stays while there is memory. If there is none, weights of earlier networks go. If that does not suffice, the
 * weight passes through: it is uploaded whenever it is used, into a buffer that the next one gets after it. So in each
 * pass of a network the same weights stay, as many as fit: to throw out the oldest instead would, in passes that use
 * all weights in turn, throw out each one just before it is needed. */
#include "ops_opencl.h"

#include <stdlib.h>

enum {
    PIECE = 1 << 23,           /* numbers that go up at a time, but at least a strip of rows */
    WIDEN = 1 << 18,           /* numbers that the host widens at a time, a multiple of every type's block */
    SMALL = 1 << 16,           /* bytes of a weight that stays always */
    AT_ONCE = 4                /* an operation uses no more weights */
};

/* What there can be of a weight on the device: packed, as in the file, or what an operation has made of it. */
typedef enum form { PACKED, FLAT, MADE, FORMS } form;

/* Entry FORMS id + form of the list */
typedef struct sd_cl_weight {
    cl_mem buffer;             /* NULL: it is not there */
    sd_cl_type type;
    uint32_t version;
    const void *data;          /* of the host */
    size_t bytes;
    uint64_t used;             /* when, counted in uses of weights */
} sd_cl_weight;

/* --------------------------------------------------------------------------- the shape of a weight */

/* What is to be made of a weight w [O,I,taps]. */
typedef struct copy {
    const sd_tensor *w;
    bool packed, widened;      /* the host widens it, because no kernel reads its type */
    sd_cl_type type;           /* on the device */
    size_t size;               /* bytes of a number of that type */
    size_t O, I, taps, numbers;
    size_t rows;               /* that go up at a time */
} copy;

static copy copy_of(const sd_tensor *w, bool packed)
{
    copy c = {.w = w, .packed = packed, .type = SD_CL_FLOAT, .size = sizeof(float), .numbers = (size_t)sd_numel(w)};
    bool plain = w->scale == 0 && (packed || w->dt == SD_F32);
    if (plain && w->dt == SD_F16) c.type = SD_CL_HALF;
    else if (plain && w->dt == SD_BF16) c.type = SD_CL_BFLOAT;
    else c.widened = !plain || w->dt != SD_F32;
    if (c.type != SD_CL_FLOAT) c.size = sizeof(uint16_t);
    c.O = packed ? (size_t)w->dim[0] : 1;
    c.I = packed ? (size_t)w->dim[1] : 1;
    c.taps = c.numbers / c.O / c.I;
    size_t K = c.I * c.taps, strip = packed ? SD_CL_STRIP : 1;
    c.rows = packed ? (PIECE / K + strip - 1) / strip * strip : c.O;
    return c;
}

static size_t bytes_of(const copy *c)
{
    size_t strips = (c->O + SD_CL_STRIP - 1) / SD_CL_STRIP;
    return c->size * (c->packed ? strips * SD_CL_STRIP * c->I * c->taps : c->numbers);
}

/* ----------------------------------------------------------------------------------------- uploads */

static void forget_event(cl_event *e)
{
    if (*e) clReleaseEvent(*e);
    *e = NULL;
}

/* The next slot, with room for so many bytes. */
static sd_cl_slot *next_slot(sd_run *r, size_t bytes)
{
    sd_cl *cl = sd_cl_of(r);
    sd_cl_slot *s = &cl->slot[cl->next_slot++ % SD_COUNT(cl->slot)];
    cl_int code = CL_SUCCESS;
    if (!cl->uploads) cl->uploads = clCreateCommandQueue(cl->context, cl->device, 0, &code);
    if (sd_cl_failed(r, code, "clCreateCommandQueue")) return NULL;
    if (s->bytes >= bytes) return s;
    sd_cl_free_buffer(cl, s->buffer);
    forget_event(&s->done);
    s->buffer = sd_cl_new_buffer(r, bytes, "weights on their way");
    s->bytes = s->buffer ? bytes : 0;
    return s->buffer ? s : NULL;
}

/* The upload queue waits until the slot's last piece has been read. */
static bool write_slot(sd_run *r, sd_cl_slot *s, bool wait, size_t at, size_t bytes, const void *from)
{
    forget_event(&s->written);
    cl_int code = clEnqueueWriteBuffer(sd_cl_of(r)->uploads, s->buffer, wait, at, bytes, from, s->done != NULL,
                                       s->done ? &s->done : NULL, &s->written);
    return !sd_cl_failed(r, code, "clEnqueueWriteBuffer");
}

/* Numbers at .. at + n - 1 of the weight into the slot, as floats. */
static void write_widened(sd_run *r, sd_cl_slot *s, const copy *c, size_t at, size_t n)
{
    float *room = malloc((n < WIDEN ? n : WIDEN) * sizeof *room);
    if (!room) sd_fail(r->err, SD_ERR_MEMORY, "no memory for numbers of a weight");
    for (size_t i = 0, m; i < n && sd_ok(r); i += m) {
        m = n - i < WIDEN ? n - i : WIDEN;
        sd_widen_weight(room, c->w, at + i, m, sd_cl_of(r)->kern);
        write_slot(r, s, true, i * sizeof *room, m * sizeof *room, room);
    }
    free(room);
}

/* The main queue waits for the slot's piece. */
static bool await_slot(sd_run *r, sd_cl_slot *s)
{
    sd_cl *cl = sd_cl_of(r);
    return sd_ok(r) && !sd_cl_failed(r, clFlush(cl->uploads), "clFlush")
        && !sd_cl_failed(r, clEnqueueBarrierWithWaitList(cl->queue, 1, &s->written, NULL),
                         "clEnqueueBarrierWithWaitList");
}

/* What comes after this on the main queue no longer needs the slot's piece. */
static void leave_slot(sd_run *r, sd_cl_slot *s)
{
    sd_cl *cl = sd_cl_of(r);
    forget_event(&s->done);
    if (sd_ok(r) && !sd_cl_failed(r, clEnqueueMarkerWithWaitList(cl->queue, 0, NULL, &s->done),
                                  "clEnqueueMarkerWithWaitList"))
        sd_cl_failed(r, clFlush(cl->queue), "clFlush");
}

/* Numbers at .. at + n - 1 of the weight, n whole rows from row number `first` on, go from the slot to their place. */
static void place_piece(sd_run *r, const copy *c, cl_mem to, const sd_cl_slot *s, size_t first, size_t at, size_t n)
{
    if (!c->packed) {
        sd_cl_failed(r, clEnqueueCopyBuffer(sd_cl_of(r)->queue, s->buffer, to, 0, at * c->size, n * c->size, 0, NULL,
                                            NULL), "clEnqueueCopyBuffer");
        return;
    }
    size_t rows = n / (c->I * c->taps);
    sd_cl_call k = sd_cl_begin(r, "pack", "pack", c->type == SD_CL_FLOAT ? "-DWEIGHT=0" : "-DWEIGHT=1");
    sd_cl_buffer(&k, to, 0), sd_cl_buffer(&k, s->buffer, 0);
    sd_cl_int(&k, (int64_t)first), sd_cl_int(&k, (int64_t)rows);
    sd_cl_int(&k, (int64_t)c->I), sd_cl_int(&k, (int64_t)c->taps);
    sd_cl_run(&k, (size_t[]){SD_CL_STRIP, 2, 1},
              (size_t[]){(rows + SD_CL_STRIP - 1) / SD_CL_STRIP, (c->I + 1) / 2, 1}, (double)n);
}

static void upload_piece(sd_run *r, const copy *c, cl_mem to, size_t first, size_t at, size_t n)
{
    sd_cl_slot *s = next_slot(r, n * c->size);
    if (!s) return;
    if (c->widened) write_widened(r, s, c, at, n);
    else write_slot(r, s, false, 0, n * c->size, (const unsigned char *)c->w->data + at * c->size);
    if (await_slot(r, s)) place_piece(r, c, to, s, first, at, n);
    leave_slot(r, s);
}

static bool upload(sd_run *r, const copy *c, cl_mem to)
{
    size_t row = c->packed ? c->I * c->taps : 1, rows = c->packed ? c->O : c->numbers;
    size_t step = c->packed ? c->rows : PIECE;
    for (size_t first = 0, n; first < rows && sd_ok(r); first += n) {
        n = rows - first < step ? rows - first : step;
        upload_piece(r, c, to, first, first * row, n * row);
    }
    return sd_ok(r);
}

/* ---------------------------------------------------------------------------------------- the list */

static sd_cl_weight *entry_of(sd_run *r, const sd_tensor *w, form f)
{
    sd_cl *cl = sd_cl_of(r);
    size_t at = FORMS * (size_t)w->id + f;
    while (cl->weights <= at) {
        sd_cl_weight *more = sd_grow(cl->weight, cl->weights, &cl->weight_cap, 4096, sizeof *more);
        if (!more) {
            sd_fail(r->err, SD_ERR_MEMORY, "no memory for a list of weights");
            return NULL;
        }
        cl->weight = more;
        cl->weight[cl->weights++] = (sd_cl_weight){0};
    }
    return &cl->weight[at];
}

/* A buffer for a weight that does not stay. The main queue has one operation after the other, so each of these can be
 * written again when an operation needs it. */
static cl_mem passing_buffer(sd_run *r, const copy *c)
{
    sd_cl *cl = sd_cl_of(r);
    size_t bytes = bytes_of(c);
    sd_cl_slot *s = &cl->passing[c->packed ? 0 : 1 + cl->next_passing++ % (SD_COUNT(cl->passing) - 1)];
    if (s->bytes >= bytes) return s->buffer;
    sd_cl_free_buffer(cl, s->buffer);
    s->buffer = sd_cl_new_buffer(r, bytes, "a weight");
    s->bytes = s->buffer ? bytes : 0;
    return s->buffer;
}

static void forget_weight(sd_cl *cl, sd_cl_weight *e)
{
    if (e->buffer) cl->weight_bytes -= e->bytes;
    sd_cl_free_buffer(cl, e->buffer);
    *e = (sd_cl_weight){0};
}

/* Frees the weight that was not used for the longest time, if that was before `before`. */
static bool evict(sd_cl *cl, uint64_t before)
{
    sd_cl_weight *oldest = NULL;
    for (size_t i = 0; i < cl->weights; i++) {
        sd_cl_weight *e = &cl->weight[i];
        if (e->buffer && e->used < before && (!oldest || e->used < oldest->used)) oldest = e;
    }
    if (oldest) forget_weight(cl, oldest);
    return oldest != NULL;
}

bool sd_cl_evict(sd_cl *cl) { return cl->uses >= AT_ONCE && evict(cl, cl->uses - AT_ONCE + 1); }

void sd_cl_enter(sd_run *r, bool stream)
{
    sd_cl *cl = sd_cl_of(r);
    cl->entered = cl->uses + 1;
    cl->streams = stream;
}

/* A buffer for a weight to stay in; NULL: it cannot stay. */
static cl_mem staying_buffer(sd_run *r, const copy *c)
{
    sd_cl *cl = sd_cl_of(r);
    size_t bytes = bytes_of(c);
    if (!c->w->id || (cl->streams && bytes > SMALL)) return NULL;
    while (!sd_cl_has_left(cl, bytes) && evict(cl, cl->entered)) continue;
    return sd_cl_new_buffer(r, bytes, NULL);
}

/* This form's entry, used now; without a buffer if the one that it had is of other numbers. NULL and an error. */
static sd_cl_weight *use(sd_run *r, const sd_tensor *w, form f)
{
    sd_cl *cl = sd_cl_of(r);
    sd_cl_weight *e = sd_ok(r) ? entry_of(r, w, f) : NULL;
    if (!e) return NULL;
    cl->uses++;
    if (e->buffer && (e->version != w->version || e->data != w->data)) forget_weight(cl, e);
    e->used = cl->uses;
    return e;
}

static void keep(sd_cl *cl, sd_cl_weight *e, const sd_tensor *w, cl_mem buffer, sd_cl_type type, size_t bytes)
{
    *e = (sd_cl_weight){buffer, type, w->version, w->data, bytes, cl->uses};
    cl->weight_bytes += bytes;
}

static sd_cl_matrix find(sd_run *r, const sd_tensor *w, form f)
{
    sd_cl *cl = sd_cl_of(r);
    copy c = copy_of(w, f == PACKED);
    sd_cl_weight *e = use(r, w, f);
    if (!e) return (sd_cl_matrix){0};
    if (e->buffer) return (sd_cl_matrix){e->buffer, e->type};
    cl_mem stays = staying_buffer(r, &c), buffer = stays ? stays : passing_buffer(r, &c);
    if (!buffer || !upload(r, &c, buffer)) {
        sd_cl_free_buffer(cl, stays);
        return (sd_cl_matrix){0};
    }
    if (stays) keep(cl, e, w, stays, c.type, bytes_of(&c));
    return (sd_cl_matrix){buffer, c.type};
}

sd_cl_matrix sd_cl_packed(sd_run *r, const sd_tensor *w) { return find(r, w, PACKED); }

cl_mem sd_cl_floats(sd_run *r, const sd_tensor *w) { return w ? find(r, w, FLAT).buffer : sd_cl_of(r)->nothing; }

/* At most half of the memory, so that the weights that are still to come can stay, too. */
static cl_mem room_for_made(sd_run *r, const sd_tensor *w, size_t bytes)
{
    sd_cl *cl = sd_cl_of(r);
    bool much = (double)cl->taken + (double)bytes <= (double)cl->memory / 2;
    return w->id && !cl->streams && much ? sd_cl_new_buffer(r, bytes, NULL) : NULL;
}

cl_mem sd_cl_made(sd_run *r, const sd_tensor *w, size_t bytes, sd_cl_making *make, const void *with)
{
    sd_cl_weight *e = use(r, w, MADE);
    if (!e || e->buffer) return e ? e->buffer : NULL;
    cl_mem made = room_for_made(r, w, bytes);
    if (!made) return NULL;
    make(r, made, with);
    if (!sd_ok(r)) {
        sd_cl_free_buffer(sd_cl_of(r), made);
        return NULL;
    }
    keep(sd_cl_of(r), entry_of(r, w, MADE), w, made, SD_CL_FLOAT, bytes);
    forget_weight(sd_cl_of(r), entry_of(r, w, PACKED));
    return made;
}

static void free_slots(sd_cl *cl, sd_cl_slot *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sd_cl_free_buffer(cl, s[i].buffer);
        forget_event(&s[i].written);
        forget_event(&s[i].done);
        s[i] = (sd_cl_slot){0};
    }
}

void sd_cl_free_weights(sd_cl *cl)
{
    if (cl->uploads) {
        clFinish(cl->uploads);   /* which may still read the host's weights */
        clReleaseCommandQueue(cl->uploads);
        cl->uploads = NULL;
    }
    free_slots(cl, cl->slot, SD_COUNT(cl->slot));
    free_slots(cl, cl->passing, SD_COUNT(cl->passing));
    for (size_t i = 0; i < cl->weights; i++) sd_cl_free_buffer(cl, cl->weight[i].buffer);
    free(cl->weight);
    cl->weight = NULL;
    cl->weights = cl->weight_cap = 0;
    cl->weight_bytes = 0;
}
