/* ops_opencl_winograd.c - floor 2: 3x3 convolution by F(4x4,3x3), 36 products for 16 pixels (opencl/winograd.cl,
 * kernels_winograd.c), of a picture or of a picture enlarged.
 *
 * Tiles of 4x4 output pixels are numbered through the batch. For each of 36 planes there are three matrices:
 *   V[plane][tile][I]        from the input,
 *   U[plane][strip][I][32]   from the weights, packed strips as any weight of the device,
 *   M[plane][tile][columns]  = V U, one batch of 36 products,
 * and y from M. They would be large (U of SD 1.5 is 9.6 GB), so a band of tiles and a group of strips are taken at a
 * time. How many depends on the device, but no bit does: an element of M is a sum over I in the order of
 * sd_cl_multiply, whatever is beside it.
 *
 * A GPU with so much memory keeps U: it is then read once per use, and not written and read. */
#include "ops_opencl.h"

enum {
    PLANES = 36, TILE = 4, GROUP = 64,
    RUN = 1024,                            /* numbers of a plane of U that a work-item of a CPU makes */
    CPU_ROOM = 32 << 20, GPU_ROOM = 128 << 20,   /* bytes of V, U, and M together, about */
    LEAST_TILES = 32, LEAST_STRIPS = 2,    /* two, so that the last group has the channels of a vector */
    SKEW = 5 * 16                          /* a gap between planes, so that they lie in different lines of a cache */
};

/* One convolution, and how it is split. */
typedef struct split {
    sd_run *r;
    sd_tensor x, y;
    sd_conv c;
    int64_t I, O, across, down, tiles;     /* channels; tiles of one picture or band, across x down; of the batch */
    int64_t height, zoom;                  /* of x's picture */
    int64_t strips, groups, wide, band;    /* of the weights; of strips; strips and tiles taken at a time, at most */
    int64_t v_plane, u_plane, m_plane;     /* numbers from one plane to the next */
    size_t u_at, m_at;                     /* V is at 0 */
    cl_mem room, u;                        /* u: room, or U of all strips, which is kept */
    const sd_tensor *w;
} split;

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static bool padded_by_one(sd_conv c)
{
    return c.pad_top == 1 && c.pad_left == 1 && c.pad_bottom == 1 && c.pad_right == 1;
}

bool sd_cl_winograd_pays(const sd_cl *cl, const int64_t x[4], const int64_t w[4], sd_conv c)
{
    int64_t zoom = c.enlarge ? 2 : 1, height = zoom * sd_conv_height(x, c), width = zoom * x[2];
    int64_t channels = cl->cpu ? 32 : 128, side = 16;
    return w[2] == 3 && w[3] == 3 && c.stride == 1 && padded_by_one(c) && w[0] >= channels && w[1] >= channels
        && height >= side && width >= side;
}

/* ---------------------------------------------------------------------------------- transforms */

static void launch(sd_cl_call *k, int64_t items, double work)
{
    size_t group = sd_cl_of(k->r)->cpu ? 1 : GROUP;
    sd_cl_run(k, (size_t[]){group, 1, 1}, (size_t[]){(size_t)sd_cl_div_up(items, (int64_t)group), 1, 1}, work);
}

/* V of so many tiles from number `first` on */
static void transform_input(const split *p, int64_t first, int64_t tiles)
{
    sd_cl_call k = sd_cl_begin(p->r, "winograd", "input", "");
    sd_cl_buffer(&k, p->room, 0);
    sd_cl_tensor(&k, p->x);
    const int64_t numbers[] = {first, tiles, p->v_plane, p->I, p->across, p->down, p->zoom, p->height, p->x.dim[2],
                               p->x.dim[1], p->c.rows.first, p->c.rows.from / TILE};
    for (size_t i = 0; i < SD_COUNT(numbers); i++) sd_cl_int(&k, numbers[i]);
    launch(&k, sd_cl_of(p->r)->cpu ? tiles : tiles * p->I, (double)(2 * PLANES * tiles * p->I));
}

/* U of so many strips from number `first` on */
static void transform_weights(const split *p, sd_cl_matrix w, int64_t first, int64_t strips)
{
    static const char *const options[] = {"", "-DWEIGHT=1", "-DWEIGHT=2"};
    int64_t numbers = p->I * SD_CL_STRIP, run = sd_cl_of(p->r)->cpu ? RUN : 1, runs = sd_cl_div_up(numbers, run);
    sd_cl_call k = sd_cl_begin(p->r, "winograd", "weights", options[w.type]);
    sd_cl_buffer(&k, p->u, p->u_at);
    sd_cl_buffer(&k, w.buffer, (size_t)(first * 9 * numbers));
    sd_cl_int(&k, strips * runs), sd_cl_int(&k, p->u_plane), sd_cl_int(&k, numbers);
    sd_cl_int(&k, run), sd_cl_int(&k, runs);
    launch(&k, strips * runs, (double)((9 + PLANES) * strips * numbers));
}

/* The pixels of y of these tiles, in n channels from o on */
static void transform_output(const split *p, cl_mem bias, bool has_bias, int64_t first, int64_t tiles, int64_t o,
                             int64_t n)
{
    sd_cl_call k = sd_cl_begin(p->r, "winograd", "output", "");
    sd_cl_tensor(&k, p->y);
    sd_cl_buffer(&k, p->room, p->m_at);
    sd_cl_buffer(&k, bias, 0);
    const int64_t numbers[] = {has_bias, first, tiles, p->m_plane, n, o, p->O, p->across, p->down, p->y.dim[1],
                               p->y.dim[2]};
    for (size_t i = 0; i < SD_COUNT(numbers); i++) sd_cl_int(&k, numbers[i]);
    launch(&k, sd_cl_of(p->r)->cpu ? tiles : tiles * n, (double)(2 * PLANES * tiles * n));
}

static void multiply(const split *p, int64_t tiles, int64_t n)
{
    const sd_cl_product product = {.a = p->room, .w = p->u, .c = p->room, .bias = sd_cl_of(p->r)->nothing,
                                   .w_at = p->u_at, .c_at = p->m_at, .a_stride = (size_t)p->v_plane,
                                   .w_stride = (size_t)p->u_plane, .c_stride = (size_t)p->m_plane,
                                   .type = SD_CL_FLOAT, .M = tiles, .N = n, .K = p->I, .batch = PLANES};
    sd_cl_multiply(p->r, &product);
}

/* --------------------------------------------------------------------------------------- sizes */

static int64_t skewed(int64_t n) { return sd_cl_div_up(n, 1024) * 1024 + SKEW; }

static int64_t group_start(const split *p, int64_t group) { return p->strips * group / p->groups; }

static void keep_weights(sd_run *r, cl_mem to, const void *with)
{
    split p = *(const split *)with;
    sd_cl_matrix packed = sd_cl_packed(r, p.w);
    p.u = to;
    if (sd_ok(r)) transform_weights(&p, packed, 0, p.strips);
}

/* As many strips as half of the room has, or all of them if U is kept; tiles for the rest; each part about as large as
 * the others. */
static void choose_parts(split *p)
{
    const sd_cl *cl = sd_cl_of(p->r);
    int64_t room = cl->cpu ? CPU_ROOM : GPU_ROOM, plane_bytes = PLANES * (int64_t)sizeof(float);
    room = least(room, (int64_t)(cl->most / 2 < cl->memory / 16 ? cl->most / 2 : cl->memory / 16));
    int64_t strip = plane_bytes * p->I * SD_CL_STRIP;
    p->u_plane = skewed(p->strips * p->I * SD_CL_STRIP);
    if (!cl->cpu) p->u = sd_cl_made(p->r, p->w, (size_t)(plane_bytes * p->u_plane), keep_weights, p);
    p->groups = p->u ? 1 : sd_cl_div_up(p->strips, most(LEAST_STRIPS, room / 2 / strip));
    p->wide = sd_cl_div_up(p->strips, p->groups);
    int64_t rest = most(0, room - (p->u ? 0 : p->wide * strip)), tile = plane_bytes * (p->I + p->wide * SD_CL_STRIP);
    p->band = sd_cl_div_up(p->tiles, sd_cl_div_up(p->tiles, most(LEAST_TILES, rest / tile)));
    p->v_plane = skewed(p->band * p->I);
    p->m_plane = skewed(p->band * least(p->O, p->wide * SD_CL_STRIP));
    p->m_at = (size_t)(PLANES * p->v_plane);
    size_t end = p->m_at + (size_t)(PLANES * p->m_plane);
    if (!p->u) {
        p->u_plane = skewed(p->wide * p->I * SD_CL_STRIP);
        p->u_at = end;
        end += (size_t)(PLANES * p->u_plane);
    }
    p->room = sd_cl_scratch(p->r, end * sizeof(float));
}

void sd_cl_winograd(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    split p = {.r = r, .x = x, .y = y, .c = c, .w = w, .I = w->dim[1], .O = w->dim[0], .zoom = c.enlarge ? 2 : 1,
               .height = sd_conv_height(x.dim, c), .across = sd_cl_div_up(y.dim[2], TILE),
               .down = sd_cl_div_up(y.dim[1], TILE), .strips = sd_cl_div_up(w->dim[0], SD_CL_STRIP)};
    cl_mem bias = sd_cl_floats(r, b);
    p.tiles = p.across * p.down * x.dim[0];
    if (!sd_ok(r)) return;
    choose_parts(&p);
    bool kept = p.u != NULL;
    sd_cl_matrix packed = kept ? (sd_cl_matrix){0} : sd_cl_packed(r, w);
    if (!kept) p.u = p.room;
    for (int64_t first = 0; first < p.tiles && sd_ok(r); first += p.band) {
        int64_t tiles = least(p.band, p.tiles - first);
        transform_input(&p, first, tiles);
        for (int64_t g = 0; g < p.groups && sd_ok(r); g++) {
            int64_t s = group_start(&p, g), end = group_start(&p, g + 1), o = s * SD_CL_STRIP;
            int64_t n = least(end * SD_CL_STRIP, p.O) - o;
            if (!kept && (p.groups > 1 || first == 0)) transform_weights(&p, packed, s, end - s);
            multiply(&p, tiles, n);
            transform_output(&p, bias, b && b->nd, first, tiles, o, n);
        }
    }
}
