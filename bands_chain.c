/* bands_chain.c - floor 4: some steps of a network as a chain of nodes, computed rows by rows: only its input and its
 * result are ever whole. bands.c explains.
 *
 * Each node is a tensor of which a window of rows exists at a time. The input's rows are taken from the top, some at a
 * time; then each node in turn computes what its own inputs have rows for, and its window forgets the rows that no
 * later node will read again. The rows that stay (a 3x3 convolution reads one row above and one below) are moved to the
 * window's beginning, so nothing is computed twice within a pass.
 *
 * A group norm needs the sums over its whole input first. So there is one pass for each norm, which ends at the tensor
 * that is normed and keeps nothing of it but sums; the last pass writes the result. With n norms the nodes before the
 * first are computed n + 1 times, those after the last once.
 *
 * If the result replaces the input, it begins `gap` bytes below it: whatever is written there was read before. */
#include "bands.h"

#include <math.h>

enum { LEAST_ROWS = 8 };

static size_t room_for(int64_t floats)
{
    return ((size_t)floats * sizeof(float) + SD_ALIGN - 1) / SD_ALIGN * SD_ALIGN;
}

static int64_t row_floats(const sd_link *l) { return l->W * l->C; }

/* ------------------------------------------------------------------------------------- its nodes */

/* A new node with the shape of node `in`; a spare one if there are too many. */
static sd_link *add_node(sd_chain *c, int in)
{
    sd_link *l = &c->link[c->n < SD_CHAIN_MOST - 1 ? c->n++ : c->n];
    const sd_link *from = &c->link[in];
    *l = (sd_link){.in = in, .add = -1, .norm = -1, .H = from->H, .W = from->W, .C = from->C};
    return l;
}

/* Numbers a group norm of node `normed`. */
static int add_norm(sd_chain *c, const sd_wb *w, int normed)
{
    c->norm[c->norms] = w;
    c->normed[c->norms] = normed;
    return c->norms++;
}

static int norm_node(sd_chain *c, int in, const sd_wb *w)
{
    add_node(c, in)->norm = add_norm(c, w, in);
    return c->n - 1;
}

static int conv_node(sd_chain *c, const sd_run *r, int in, const sd_wb *w, sd_conv how)
{
    sd_link *l = add_node(c, in);
    const int64_t x[] = {1, l->H, l->W, l->C};
    int64_t y[4];
    sd_conv_result(x, w->w.dim, how, y);
    l->conv = w;
    l->how = how;
    l->work = (double)(y[1] * y[2] * y[3]) * (double)(w->w.dim[1] * w->w.dim[2] * w->w.dim[3]);
    if (r->be->describe) l->work *= r->be->describe(r, x, w->w.dim, how).share;
    l->H = y[1];
    l->W = y[2];
    l->C = y[3];
    return c->n - 1;
}

/* y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))), as layers.c has it. The second norm is made in place. */
static int resnet_nodes(sd_chain *c, const sd_run *r, int x, const sd_res_w *w, sd_conv conv3)
{
    int h = conv_node(c, r, norm_node(c, x, &w->norm1), &w->conv1, conv3);
    c->link[h].norm = add_norm(c, &w->norm2, h);
    h = conv_node(c, r, h, &w->conv2, conv3);
    c->link[h].add = x;
    if (w->conv_shortcut.w.nd) {
        c->link[h].shortcut = &w->conv_shortcut;
        c->link[h].work += (double)(c->link[h].H * row_floats(&c->link[h])) * (double)c->link[x].C;
    }
    return h;
}

/* The number of the node that the step makes of node x; -1: its rows depend on the whole input or on more than it. */
static int step_nodes(sd_chain *c, const sd_run *r, int x, const sd_step *s, const sd_step_w *w)
{
    switch (s->kind) {
    case SD_STEP_ATTN: case SD_STEP_VAE_ATTN: return -1;
    case SD_STEP_RES: {
        const sd_step conv = {.kind = SD_STEP_CONV_IN};
        return s->skip || w->res.time_emb_proj.w.nd ? -1 : resnet_nodes(c, r, x, &w->res, sd_step_conv(&conv, c->dims));
    }
    case SD_STEP_NORM_OUT: return norm_node(c, x, &w->one);
    default: return conv_node(c, r, x, &w->one, sd_step_conv(s, c->dims));
    }
}

/* ------------------------------------------------------------------------------------ the windows */

/* How far node i can go with the rows that are there. */
static int64_t reach(const sd_chain *c, int i)
{
    const sd_link *l = &c->link[i], *in = &c->link[l->in];
    int64_t rows = in->high, band = sd_conv_band(l->how), at_most = c->rows * l->H / c->link[0].H;
    if (l->conv) {   /* the last row that they suffice for reads row number in->high - 1, see sd_conv_reads */
        int64_t last = (l->how.enlarge ? 2 : 1) * in->high + l->how.pad_top - l->conv->w.dim[2];
        rows = last < 0 ? 0 : last / l->how.stride + 1;
    }
    if (in->high == in->H) rows = l->H;
    if (l->add >= 0 && c->link[l->add].high < rows) rows = c->link[l->add].high;
    at_most = l->high + (at_most + LEAST_ROWS - 1) / LEAST_ROWS * LEAST_ROWS;
    if (rows > at_most) rows = at_most < l->H ? at_most : l->H;
    return rows < l->H && l->conv ? rows / band * band : rows;
}

/* The first row of node i that the nodes up to `last` will still read. */
static int64_t still_read(const sd_chain *c, int i, int last)
{
    int64_t low = c->link[i].high;
    for (int k = i + 1; k <= last; k++) {
        const sd_link *l = &c->link[k];
        int64_t first = l->high, end;
        if (l->high == l->H || (l->in != i && l->add != i)) continue;
        if (l->in == i && l->conv)
            sd_conv_reads(l->how, l->conv->w.dim[2], c->link[i].H, l->high, l->high + 1, &first, &end);
        if (first < low) low = first;
    }
    return low;
}

/* Rows from .. to - 1 of a node, which must be there. */
static sd_tensor rows_of(const sd_link *l, int64_t from, int64_t to)
{
    sd_tensor t = {.nd = 4, .dim = {1, to - from, l->W, l->C}, .dt = SD_F32, .data = l->window.data};
    if (t.data) t.data = (float *)t.data + (from - (l->whole ? 0 : l->low)) * row_floats(l);
    return t;
}

/* ----------------------------------------------------------------------------------------- a pass */

/* What a pass needs. Without a run, windows only change their numbers: so their sizes are found. */
typedef struct pass {
    sd_run *r;
    sd_chain *c;
    int known;               /* the norms whose sums are known; those of the next one are taken, if there is one */
    int last;                /* the node at which it ends */
    sd_tensor sums, *scale;  /* scale: of each norm */
    sd_bands *bands;
} pass;

static void compute_rows(const pass *p, const sd_link *l, int64_t from, int64_t to)
{
    sd_run *r = p->r;
    const sd_link *in = &p->c->link[l->in];
    sd_tensor y = rows_of(l, from, to);
    if (!l->conv) {
        sd_norm_apply(r, y, rows_of(in, from, to), p->scale[l->norm], true);
        return;
    }
    sd_conv how = l->how;
    int64_t first, end;
    sd_conv_reads(how, l->conv->w.dim[2], in->H, from, to, &first, &end);
    how.rows = (sd_rows){.height = in->H, .first = first, .from = from};
    sd_conv2d_into(r, y, rows_of(in, first, end), &l->conv->w, &l->conv->b, how);
    if (l->add >= 0) {
        size_t mark = sd_mark(r);
        sd_tensor x = rows_of(&p->c->link[l->add], from, to);
        if (l->shortcut) x = sd_conv2d(r, x, &l->shortcut->w, &l->shortcut->b, (sd_conv){.stride = 1});
        sd_add_(r, y, x);
        sd_reset(r, mark);
    }
    if (l->norm >= 0 && l->norm < p->known) sd_norm_apply(r, y, y, p->scale[l->norm], true);
}

/* Forgets the rows of node i that are read no more. */
static void forget_rows(const pass *p, int i)
{
    sd_link *l = &p->c->link[i];
    int64_t low = still_read(p->c, i, p->last);
    if (p->r && low > l->low && low < l->high) {
        sd_tensor stay = rows_of(l, low, l->high), to = stay;
        to.data = l->window.data;
        sd_copy(p->r, to, stay);
    }
    l->low = low;
}

void sd_bands_did(const sd_run *r, sd_bands *b, double work)
{
    b->done += work;
    if (b->progress && sd_has_numbers(r) && sd_ok(r)) b->progress(b->user, b->done / b->work);
}

/* The next rows of the input, and of every node up to the last. */
static void advance(const pass *p)
{
    sd_chain *c = p->c;
    for (int i = 0; i <= p->last && (!p->r || sd_ok(p->r)); i++) {
        sd_link *l = &c->link[i];
        int64_t from = l->high, to = i ? reach(c, i) : from + c->rows < l->H ? from + c->rows : l->H;
        if (to <= from) continue;
        if (!l->whole) forget_rows(p, i);
        if (i == c->n - 1) {   /* what the result replaces must have been read */
            int64_t gap = to * row_floats(l) - still_read(c, 0, p->last) * row_floats(&c->link[0]);
            if (gap > 0 && room_for(gap) > (size_t)c->gap) c->gap = (int64_t)room_for(gap);
        }
        l->high = to;
        if (to - l->low > l->room) l->room = to - l->low;
        if (to - from > l->most) l->most = to - from;
        if (!p->r) continue;
        if (i) compute_rows(p, l, from, to);
        if (i == p->last && p->known < c->norms) sd_norm_sums(p->r, p->sums, rows_of(l, from, to), from * l->W);
        sd_bands_did(p->r, p->bands, l->work * (double)(to - from) / (double)l->H);
    }
}

static void run_pass(const pass *p)
{
    sd_chain *c = p->c;
    for (int i = 0; i < c->n; i++) c->link[i].low = c->link[i].high = 0;
    while (c->link[p->last].high < c->link[p->last].H && (!p->r || sd_ok(p->r))) advance(p);
}

/* ------------------------------------------------------------------------------- sizes, and the run */

/* Transforming a convolution's weights costs as much as about four of its tiles of 4x4 pixels. */
static double cost_of_bands(const sd_link *l, int64_t rows) { return 1 + 64 / (double)(rows * l->W); }

/* Bytes of the shortcuts that are computed in a pass that ends at a node. */
static size_t shortcut_rows(const sd_chain *c, const sd_link *last)
{
    size_t most = 0;
    for (const sd_link *l = c->link; l <= last; l++)
        if (l->shortcut && room_for(l->most * row_floats(l)) > most) most = room_for(l->most * row_floats(l));
    return most;
}

static void widen_to(size_t *widest, size_t bytes)
{
    if (bytes > *widest) *widest = bytes;
}

static void find_sizes(sd_chain *c)
{
    const pass all = {.c = c, .known = c->norms, .last = c->n - 1};
    size_t above = 0;   /* the windows: sums, with a shortcut's rows above them, if it is computed in that pass */
    run_pass(&all);
    for (int k = 0; k <= c->norms; k++) {
        const sd_link *l = &c->link[k < c->norms ? c->normed[k] : c->n - 1];
        int64_t runs = k < c->norms ? (l->H * l->W + SD_NORM_RUN - 1) / SD_NORM_RUN : 0;
        size_t sums = room_for(4 * runs * l->C), shortcut = shortcut_rows(c, l);   /* 4: two doubles */
        widen_to(&above, sums + shortcut);
        widen_to(&c->widest, sums > shortcut ? sums : shortcut);
        c->windows += k < c->norms ? room_for(3 * l->C) : 0;
    }
    for (int i = 1; i < c->n; i++) {
        const sd_link *l = &c->link[i];
        int after = 0;
        for (int k = 0; k < c->norms; k++) after += c->normed[k] >= i;
        if (!l->whole) {
            c->windows += room_for(l->room * row_floats(l));
            widen_to(&c->widest, room_for(l->room * row_floats(l)));
        }
        c->once += l->work;
        c->work += (1 + after) * l->work * cost_of_bands(l, l->most);
    }
    c->windows += above;
}

bool sd_chain_make(sd_chain *c, const sd_run *r, const sd_net *n, int from, int to, const int64_t dim[4], int64_t rows)
{
    int x = 0;
    *c = (sd_chain){.dims = &n->dims, .n = 1, .rows = rows};
    c->link[0] = (sd_link){.in = -1, .add = -1, .norm = -1, .H = dim[1], .W = dim[2], .C = dim[3], .whole = true};
    for (int i = from; i < to && x >= 0; i++) x = step_nodes(c, r, x, &n->steps.step[i], &n->w[i]);
    if (x < 1 || c->n == SD_CHAIN_MOST - 1) return false;
    c->link[x].whole = true;
    find_sizes(c);
    return true;
}

/* Moves x up in the arena, from its end on, so that no number is overwritten before it was moved. */
static void move_up(sd_run *r, sd_tensor x, size_t gap)
{
    int64_t n = sd_numel(&x), step = (int64_t)(gap / sizeof(float));
    for (int64_t end = n; end > 0 && step > 0; end -= step) {
        int64_t from = end > step ? end - step : 0;
        sd_tensor part = {.nd = 2, .dim = {1, end - from}, .dt = SD_F32, .data = x.data}, to = part;
        if (x.data) {
            part.data = (float *)x.data + from;
            to.data = (float *)part.data + step;
        }
        sd_copy(r, to, part);
    }
}

static int64_t numbers_of_result(const sd_chain *c) { return c->link[c->n - 1].H * row_floats(&c->link[c->n - 1]); }

/* Of the room for a result that replaces the input x: x lies `gap` above its beginning. */
static int64_t numbers_of_both(const sd_chain *c, const sd_tensor *x)
{
    int64_t result = numbers_of_result(c), above = (int64_t)((size_t)c->gap / sizeof(float)) + sd_numel(x);
    return above > result ? above : result;
}

/* Can the result replace x? In an arena in parts (base.h) there may be no room for both where x begins. */
static bool can_replace(const sd_run *r, const sd_chain *c, const sd_tensor *x, size_t mark)
{
    const sd_arena *a = &r->arena;
    size_t both = room_for(numbers_of_both(c, x)), result = room_for(numbers_of_result(c));
    size_t at = sd_arena_place(a, mark, room_for(sd_numel(x)));
    return !a->part || (both <= a->part && sd_arena_place(a, mark, both) == at
                        && sd_arena_place(a, mark, result) == at);
}

/* Gives the input, the result and the windows their places. */
static void find_places(sd_run *r, sd_chain *c, sd_tensor x, size_t mark, bool own)
{
    sd_link *in = &c->link[0], *out = &c->link[c->n - 1];
    in->window = x;
    if (own) {
        sd_reset(r, mark);
        out->window = sd_new2(r, 1, numbers_of_both(c, &x));
        move_up(r, x, (size_t)c->gap);
        if (x.data) in->window.data = (unsigned char *)x.data + c->gap;
    } else {
        out->window = sd_new2(r, 1, numbers_of_result(c));
    }
    for (int i = 1; i < c->n - 1; i++) c->link[i].window = sd_new4(r, 1, c->link[i].room, c->link[i].W, c->link[i].C);
}

/* One pass: for the sums of the first norm that is not known, or for the result. */
static void norm_or_finish(sd_run *r, sd_chain *c, int known, sd_tensor *scale, sd_bands *b)
{
    pass p = {.r = r, .c = c, .known = known, .last = c->n - 1, .scale = scale, .bands = b};
    if (known == c->norms) {
        run_pass(&p);
        return;
    }
    size_t mark = sd_mark(r);
    p.last = c->normed[known];
    const sd_link *l = &c->link[p.last];
    const sd_wb *w = c->norm[known];
    p.sums = sd_norm_sums_new(r, l->H * l->W, l->C);
    run_pass(&p);
    sd_norm_scale(r, scale[known], p.sums, &w->w, &w->b, c->dims->groups, c->dims->eps, l->H * l->W);
    sd_reset(r, mark);
}

sd_tensor sd_chain_forward(sd_run *r, sd_chain *c, sd_tensor x, size_t mark, bool own, sd_bands *b)
{
    sd_tensor scale[SD_CHAIN_MOST];
    const sd_link *out = &c->link[c->n - 1];
    if (own && !can_replace(r, c, &x, mark))
        return sd_move_down(r, mark, sd_chain_forward(r, c, x, sd_mark(r), false, b));
    find_places(r, c, x, mark, own);
    for (int k = 0; k < c->norms; k++) scale[k] = sd_norm_scale_new(r, c->link[c->normed[k]].C);
    for (int k = 0; k <= c->norms && sd_ok(r); k++) norm_or_finish(r, c, k, scale, b);
    sd_reset(r, mark);
    return sd_new4(r, 1, out->H, out->W, out->C);   /* where it was written */
}
