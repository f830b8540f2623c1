/* ops_opencl_gemm.c - floor 2: products and convolutions as products.
 *
 * Both are c [M][N] = a [M][K] w^T + bias; in a convolution N counts output channels, M output pixels, and K what an
 * output pixel is made of, tap by tap. opencl/gemm.cl is built for the tile shapes of the table below. They all give
 * the same bits, so a shape may be chosen by what is fastest. */
#include "ops_opencl.h"

#include <math.h>

enum { CHUNK = 64 };   /* terms that are added in a row, as on the CPU; a multiple of every bk */

/* A group computes bm x bn numbers with bk terms in local memory at a time, a work-item tm x tn. On a CPU a group is
 * one work-item, which computes tm x tn at a time, in vectors of 16. */
typedef struct shape {
    bool cpu;
    int bm, bn, bk, tm, tn;
    bool total;       /* totals are in registers, not in the result */
    double cost;      /* of a number of the result, in a large product; the fastest shape has 1 */
    cl_uint vector;   /* a CPU whose vectors hold fewer floats has too few registers: it costs twice as much */
} shape;

static const shape shapes[] = {
    {false, 128, 64, 16, 8, 4, true, 1.0, 0},   {false, 128, 128, 8, 8, 8, false, 1.02, 0},
    {false, 128, 128, 16, 8, 8, false, 1.03, 0}, {false, 128, 128, 8, 8, 8, true, 1.05, 0},
    {false, 128, 64, 16, 8, 4, false, 1.1, 0},  {false, 64, 64, 8, 8, 8, false, 1.15, 0},
    {false, 64, 64, 16, 4, 4, true, 1.3, 0},    {false, 32, 64, 16, 4, 4, true, 1.5, 0},
    {false, 32, 32, 16, 4, 4, true, 1.9, 0},    {true, 96, 64, 0, 12, 32, false, 1.0, 16},
    {true, 48, 64, 0, 12, 32, false, 1.02, 16}, {true, 12, 32, 0, 12, 32, false, 1.15, 16},
    {true, 48, 64, 0, 6, 16, false, 1.3, 4},    {true, 4, 32, 0, 4, 32, false, 1.4, 8}};

int sd_cl_shapes(void) { return (int)SD_COUNT(shapes); }

void sd_cl_shape_text(int row, char text[32])
{
    const shape *s = &shapes[row];
    snprintf(text, 32, "%dx%dx%d, %dx%d%s", s->bm, s->bn, s->bk, s->tm, s->tn, s->total ? ", totals" : "");
}

static int items(const shape *s) { return s->cpu ? 1 : s->bm / s->tm * (s->bn / s->tn); }

bool sd_cl_shape_runs(const sd_cl *cl, int row)
{
    const shape *s = &shapes[row];
    if (cl->given_up >> row & 1) return false;
    size_t local = (size_t)(2 * s->bk * (s->bm + 4 + s->bn)) * sizeof(float);
    return s->cpu == cl->cpu && (s->cpu || ((size_t)items(s) <= cl->most_group && local <= cl->local_memory));
}

/* What was measured for the same matrix, and about as many rows; -1: nothing. */
static int measured_shape(const sd_cl *cl, int64_t M, int64_t N, int64_t K, bool conv)
{
    int best = -1;
    double least = log(2);
    for (size_t i = 0; i < cl->choices; i++) {
        const sd_cl_choice *c = &cl->choice[i];
        double far = fabs(log((double)c->M / (double)M));
        if (c->N != N || c->K != K || c->conv != conv || far > least || !sd_cl_shape_runs(cl, c->shape)) continue;
        best = c->shape;
        least = far;
    }
    return best;
}

static double round_up(int64_t n, int to) { return (double)(sd_cl_div_up(n, to) * to); }

/* A device is busy from two groups for each of its units on. A GPU computes whole tiles, a CPU no more rows and columns
 * than it has to. */
static double cost_of(const sd_cl *cl, const shape *s, int64_t M, int64_t N, int64_t batch)
{
    double groups = (double)(sd_cl_div_up(M, s->bm) * sd_cl_div_up(N, s->bn) * batch);
    double idle = 2 * (double)cl->units / groups;
    double area = round_up(M, s->cpu ? s->tm : s->bm) * round_up(N, s->cpu ? s->tn : s->bn) * (double)batch;
    return area * fmax(idle, 1) * s->cost * (s->cpu && cl->vector < s->vector ? 2 : 1);
}

int sd_cl_shape_for(const sd_cl *cl, int64_t M, int64_t N, int64_t K, int64_t batch, bool conv)
{
    if (cl->only && sd_cl_shape_runs(cl, cl->only - 1)) return cl->only - 1;
    int best = measured_shape(cl, M, N, K, conv);
    if (best >= 0) return best;
    double least = INFINITY;
    for (int i = 0; i < sd_cl_shapes(); i++) {
        double cost = cost_of(cl, &shapes[i], M, N, batch);
        if (!sd_cl_shape_runs(cl, i) || cost >= least) continue;
        least = cost;
        best = i;
    }
    return best;
}

/* ------------------------------------------------------------------------------------ launches */

/* batch: in a convolution, the parts into which its terms are cut */
typedef struct product { int64_t M, N, K, batch; sd_cl_type type; bool conv, quads; } product;

static sd_cl_call begin(sd_run *r, const char *kernel, const product *p, const shape *s)
{
    char options[160];
    snprintf(options, sizeof options, "-DBM=%d -DBN=%d -DBK=%d -DTM=%d -DTN=%d -DTOTAL=%d -DCHUNK=%d -DCONV=%d "
             "-DVEC=%d -DWEIGHT=%d", s->bm, s->bn, s->bk, s->tm, s->tn, s->total, CHUNK, p->conv,
             p->quads && !s->cpu ? 4 : 1, (int)p->type);
    return sd_cl_begin(r, "gemm", kernel, options);
}

static void finish(sd_cl_call *k, const product *p, const shape *s)
{
    size_t groups[] = {(size_t)sd_cl_div_up(p->N, s->bn), (size_t)sd_cl_div_up(p->M, s->bm), (size_t)p->batch};
    sd_cl_run(k, (const size_t[]){(size_t)items(s), 1, 1}, groups,
              (double)(p->M * p->N * p->K * (p->conv ? 1 : p->batch)));
}

/* Begins the call of a product, in tiles of *s. A kernel may take so many registers that its groups must be smaller
 * than the device allows: then another does it. */
static sd_cl_call begin_product(sd_run *r, const product *p, const shape **s)
{
    sd_cl *cl = sd_cl_of(r);
    sd_cl_call k = {.r = r};
    for (int row; sd_ok(r); cl->given_up |= 1u << row) {
        row = sd_cl_shape_for(cl, p->M, p->N, p->K, p->batch, p->conv);
        if (row < 0) {
            sd_fail(r->err, SD_ERR_DEVICE, "%s has too small work-groups for products", cl->name);
            break;
        }
        *s = &shapes[row];
        k = begin(r, "product", p, *s);
        if (k.most_group >= (size_t)items(*s)) break;
    }
    return k;
}

void sd_cl_multiply(sd_run *r, const sd_cl_product *p)
{
    bool quads = p->K % 4 == 0 && p->a_at % 4 == 0 && p->a_stride % 4 == 0;
    product size = {p->M, p->N, p->K, p->batch, p->type, false, quads};
    const shape *s = NULL;
    sd_cl_call k = begin_product(r, &size, &s);
    if (!sd_ok(r)) return;
    sd_cl_buffer(&k, p->a, p->a_at), sd_cl_buffer(&k, p->w, p->w_at), sd_cl_buffer(&k, p->c, p->c_at);
    sd_cl_buffer(&k, p->bias, 0);
    sd_cl_int(&k, p->M), sd_cl_int(&k, p->N), sd_cl_int(&k, p->K), sd_cl_int(&k, p->bias != sd_cl_of(r)->nothing);
    sd_cl_int(&k, (int64_t)p->a_stride), sd_cl_int(&k, (int64_t)p->w_stride), sd_cl_int(&k, (int64_t)p->c_stride);
    finish(&k, &size, s);
}

void sd_cl_linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    sd_cl_place from = sd_cl_find(r, x), to = sd_cl_find(r, y);
    sd_cl_matrix m = sd_cl_packed(r, w);
    sd_cl_product p = {.a = from.buffer, .a_at = from.at, .w = m.buffer, .type = m.type, .c = to.buffer, .c_at = to.at,
                       .bias = sd_cl_floats(r, b), .M = sd_numel(&x) / w->dim[1], .N = w->dim[0], .K = w->dim[1],
                       .batch = 1};
    if (sd_ok(r)) sd_cl_multiply(r, &p);
}

/* --------------------------------------------------------------------------------- convolutions */

static bool is_linear(const int64_t w[4], sd_conv c)
{
    bool padded = c.pad_top || c.pad_left || c.pad_bottom || c.pad_right;
    return w[2] == 1 && w[3] == 1 && c.stride == 1 && !c.enlarge && !padded;
}

/* A picture of few pixels and many terms has too few tiles for a large device: groups add a part of the terms each. How
 * many parts there are may depend on one picture's shape, but not on how many pictures there are. */
static int64_t parts_of(const int64_t x[4], const int64_t w[4], sd_conv c)
{
    enum { FEW_PIXELS = 256, MANY_TERMS = 2048, TERMS = 1280 };
    const int64_t picture[] = {1, sd_conv_height(x, c), x[2], x[3]}, K = w[1] * w[2] * w[3];
    int64_t y[4];
    sd_conv_result(picture, w, c, y);
    return y[1] * y[2] <= FEW_PIXELS && K >= MANY_TERMS ? sd_cl_div_up(K, TERMS) : 1;
}

/* y = the sum of the parts + bias. The kernel is in the same program as the product. */
static void add_parts(sd_run *r, sd_tensor y, const product *p, const shape *s, cl_mem parts, cl_mem bias)
{
    enum { GROUP = 64 };
    sd_cl_call k = begin(r, "add_parts", p, s);
    sd_cl_tensor(&k, y), sd_cl_buffer(&k, parts, 0), sd_cl_buffer(&k, bias, 0);
    sd_cl_int(&k, p->M * p->N), sd_cl_int(&k, p->N), sd_cl_int(&k, p->batch);
    sd_cl_int(&k, bias != sd_cl_of(r)->nothing);
    sd_cl_run(&k, (size_t[]){GROUP, 1, 1}, (size_t[]){(size_t)sd_cl_div_up(p->M * p->N, GROUP), 1, 1},
              (double)(p->M * p->N * p->batch));
}

static void implicit_product(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    int64_t I = w->dim[1], height = sd_conv_height(x.dim, c);
    sd_cl_place from = sd_cl_find(r, x);
    sd_cl_matrix m = sd_cl_packed(r, w);
    cl_mem bias = sd_cl_floats(r, b), parts = NULL;
    product size = {sd_numel(&y) / w->dim[0], w->dim[0], I * w->dim[2] * w->dim[3], parts_of(x.dim, w->dim, c),
                    m.type, true, I % 4 == 0 && from.at % 4 == 0};
    const shape *s = NULL;
    sd_cl_call k = begin_product(r, &size, &s);
    if (sd_ok(r) && size.batch > 1)
        parts = sd_cl_scratch(r, (size_t)(size.batch * size.M * size.N) * sizeof(float));
    if (!sd_ok(r)) return;
    sd_cl_buffer(&k, from.buffer, from.at), sd_cl_buffer(&k, m.buffer, 0);
    if (parts) sd_cl_buffer(&k, parts, 0);
    else sd_cl_tensor(&k, y);
    sd_cl_buffer(&k, bias, 0);
    const int64_t numbers[] = {size.M, size.N, size.K, b && !parts, height, x.dim[2], c.enlarge, c.rows.first, x.dim[1],
                               I, y.dim[1], y.dim[2], c.rows.from, w->dim[3], c.stride, c.pad_top, c.pad_left,
                               sd_cl_div_up(sd_cl_div_up(size.K, size.batch), CHUNK) * CHUNK};
    for (size_t i = 0; i < SD_COUNT(numbers); i++) sd_cl_int(&k, numbers[i]);
    finish(&k, &size, s);
    if (parts) add_parts(r, y, &size, s, parts, bias);
}

void sd_cl_conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    if (is_linear(w->dim, c) && x.dim[1] == y.dim[1]) sd_cl_linear(r, y, x, w, b);
    else if (sd_cl_winograd_pays(sd_cl_of(r), x.dim, w->dim, c)) sd_cl_winograd(r, y, x, w, b, c);
    else implicit_product(r, y, x, w, b, c);
}

sd_conv_how sd_cl_describe(const sd_run *r, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    int64_t y[4];
    sd_conv_result(x, w, c, y);
    if (is_linear(w, c)) return (sd_conv_how){"linear", 1};
    if (!sd_cl_winograd_pays(sd_cl_of(r), x, w, c)) return (sd_conv_how){"implicit product", 1};
    double height = (double)y[1], width = (double)y[2];
    return (sd_conv_how){"winograd F(4x4,3x3)", 36 * ceil(height / 4) * ceil(width / 4) / (9 * height * width)};
}
