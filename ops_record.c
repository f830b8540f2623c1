/* ops_record.c - floor 2: a backend that notes what another one computes.
 *
 * Tensors are known by their address: whatever was written there last is what an operation reads. Views have the
 * address of what they view, copies are the same result at another place. A result lives as long as it lies somewhere
 * or another one was made of it, so only what is still of use is held. */
#include "ops_record.h"

#include <stdlib.h>
#include <string.h>

static sd_recorder *of(const sd_run *r) { return (sd_recorder *)r->be; }

static void let_go(sd_noted *x)
{
    if (!x || --x->users > 0) return;
    for (int i = 0; i < x->n_in; i++) let_go(x->in[i].of);
    free(x->numbers);
    free(x->name);
    free(x);
}

static struct sd_place *place_of(const sd_recorder *c, const void *at)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->place[i].at == at) return &c->place[i];
    return NULL;
}

/* x lies at this address now. */
static void put(sd_run *r, const void *at, sd_noted *x)
{
    sd_recorder *c = of(r);
    struct sd_place *p = place_of(c, at);
    if (!x) return;
    x->users++;
    if (!p) {
        struct sd_place *more = sd_grow(c->place, c->n, &c->cap, 64, sizeof *more);
        if (!more) {
            let_go(x);
            sd_fail(r->err, SD_ERR_MEMORY, "no memory to note what is computed");
            return;
        }
        c->place = more;
        p = &more[c->n++];
        *p = (struct sd_place){.at = at};
    }
    let_go(p->of);
    p->of = x;
}

static sd_noted *fresh(sd_run *r, const char *op, const sd_tensor *y)
{
    sd_noted *x = calloc(1, sizeof *x);
    if (!x) {
        sd_fail(r->err, SD_ERR_MEMORY, "no memory to note what is computed");
        return NULL;
    }
    x->op = op;
    x->nd = y->nd;
    memcpy(x->dim, y->dim, sizeof x->dim);
    return x;
}

/* What lies there; numbers of which nobody knows where they are from are the host's. */
static sd_noted *what_is(sd_run *r, const sd_tensor *t)
{
    sd_recorder *c = of(r);
    struct sd_place *p = place_of(c, t->data);
    if (!p || !p->of) {
        put(r, t->data, fresh(r, NULL, t));
        p = place_of(c, t->data);
        if (!p) return NULL;
    }
    sd_noted *x = p->of;
    if (x->op || x->numbers) return x;
    x->numbers = malloc((size_t)sd_numel(t) * sizeof *x->numbers);
    if (!x->numbers) sd_fail(r->err, SD_ERR_MEMORY, "no memory to note what is computed");
    else c->inner->download(r, *t, x->numbers, false);
    return x->numbers ? x : NULL;
}

/* Notes an operation before it is computed, for it may work in place; settle comes after it. */
static sd_noted *begin(sd_run *r, const char *op, const sd_tensor *y, int n_in, const sd_tensor *const *in)
{
    sd_noted *x = sd_ok(r) ? fresh(r, op, y) : NULL;
    for (int i = 0; x && i < n_in; i++) {
        sd_noted *from = what_is(r, in[i]);
        if (!from) break;
        from->users++;
        x->in[x->n_in].of = from;
        x->in[x->n_in].nd = in[i]->nd;
        memcpy(x->in[x->n_in++].dim, in[i]->dim, sizeof x->dim);
    }
    return x;
}

static void settle(sd_run *r, const sd_tensor *y, sd_noted *x, const sd_tensor *w, const sd_tensor *b, int n_args,
                   const double *arg)
{
    if (!x) return;
    x->w = w;
    x->b = b;
    x->n_args = n_args;
    for (int i = 0; i < n_args; i++) x->arg[i] = arg[i];
    x->users++;
    put(r, y->data, x);
    let_go(x);
}

#define IN(...) (int)SD_COUNT(((const sd_tensor *const[]){__VA_ARGS__})), (const sd_tensor *const[]){__VA_ARGS__}
#define ARGS(...) (int)SD_COUNT(((const double[]){__VA_ARGS__})), (const double[]){__VA_ARGS__}
#define NO_ARGS 0, NULL

/* ---------------------------------------------------------------------------------------- the entries */

static void upload(sd_run *r, sd_tensor y, const float *from, bool channels_first)
{
    sd_recorder *c = of(r);
    c->inner->upload(r, y, from, channels_first);
    bool same = c->same && y.data == c->shown;
    c->same = false;
    if (same) return;
    sd_noted *x = fresh(r, NULL, &y);
    if (x && *c->name && y.data == c->shown) x->name = sd_strdup(c->name);
    *c->name = 0;
    put(r, y.data, x);
}

static void download(sd_run *r, sd_tensor x, float *to, bool channels_first)
{
    sd_recorder *c = of(r);
    c->inner->download(r, x, to, channels_first);
    c->shown = x.data;
    c->channels_first = channels_first;
    c->unnamed = true;
    c->same = false;
    *c->name = 0;
}

static void copy(sd_run *r, sd_tensor y, sd_tensor x)
{
    sd_noted *same = what_is(r, &x);
    if (same) same->users++;
    of(r)->inner->copy(r, y, x);
    put(r, y.data, same);
    let_go(same);
}

static void sinusoid(sd_run *r, sd_tensor y, const float *value, bool flip, double shift)
{
    of(r)->inner->sinusoid(r, y, value, flip, shift);
    put(r, y.data, fresh(r, NULL, &y));
}

static void embed(sd_run *r, sd_tensor y, const int32_t *ids, const sd_tensor *token, const sd_tensor *position)
{
    of(r)->inner->embed(r, y, ids, token, position);
    put(r, y.data, fresh(r, NULL, &y));
}

static void linear(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b)
{
    sd_noted *n = begin(r, "linear", &y, IN(&x));
    of(r)->inner->linear(r, y, x, w, b);
    settle(r, &y, n, w, b, NO_ARGS);
}

static void conv2d(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    sd_noted *n = begin(r, "conv2d", &y, IN(&x));
    of(r)->inner->conv2d(r, y, x, w, b, c);
    settle(r, &y, n, w, b, ARGS(c.stride, c.pad_top, c.pad_left, c.pad_bottom, c.pad_right, c.enlarge));
}

static void attention(sd_run *r, sd_tensor y, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal)
{
    sd_noted *n = begin(r, "attention", &y, IN(&q, &k, &v));
    of(r)->inner->attention(r, y, q, k, v, heads, causal);
    settle(r, &y, n, NULL, NULL, ARGS(heads, causal));
}

static void group_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, int groups,
                       double eps, bool silu)
{
    sd_noted *n = begin(r, "group_norm", &y, IN(&x));
    of(r)->inner->group_norm(r, y, x, g, b, groups, eps, silu);
    settle(r, &y, n, g, b, ARGS(groups, eps, silu));
}

static void layer_norm(sd_run *r, sd_tensor y, sd_tensor x, const sd_tensor *g, const sd_tensor *b, double eps)
{
    sd_noted *n = begin(r, "layer_norm", &y, IN(&x));
    of(r)->inner->layer_norm(r, y, x, g, b, eps);
    settle(r, &y, n, g, b, ARGS(eps));
}

static void act(sd_run *r, sd_tensor y, sd_tensor x, sd_act a)
{
    sd_noted *n = begin(r, "act", &y, IN(&x));
    of(r)->inner->act(r, y, x, a);
    settle(r, &y, n, NULL, NULL, ARGS(a));
}

static void geglu(sd_run *r, sd_tensor y, sd_tensor x)
{
    sd_noted *n = begin(r, "geglu", &y, IN(&x));
    of(r)->inner->geglu(r, y, x);
    settle(r, &y, n, NULL, NULL, NO_ARGS);
}

static void add(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    sd_noted *n = begin(r, "add", &y, IN(&a, &b));
    of(r)->inner->add(r, y, a, b);
    settle(r, &y, n, NULL, NULL, NO_ARGS);
}

static void add_channels(sd_run *r, sd_tensor y, sd_tensor bias)
{
    sd_noted *n = begin(r, "add_channels", &y, IN(&y, &bias));
    of(r)->inner->add_channels(r, y, bias);
    settle(r, &y, n, NULL, NULL, NO_ARGS);
}

static void concat(sd_run *r, sd_tensor y, sd_tensor a, sd_tensor b)
{
    sd_noted *n = begin(r, "concat", &y, IN(&a, &b));
    of(r)->inner->concat(r, y, a, b);
    settle(r, &y, n, NULL, NULL, NO_ARGS);
}

static void upsample(sd_run *r, sd_tensor y, sd_tensor x)
{
    sd_noted *n = begin(r, "upsample", &y, IN(&x));
    of(r)->inner->upsample(r, y, x);
    settle(r, &y, n, NULL, NULL, NO_ARGS);
}

/* -------------------------------------------------------------------------------------- the recorder */

void sd_recorder_begin(sd_recorder *c, sd_run *r)
{
    *c = (sd_recorder){.be = *r->be, .inner = r->be};
    c->be.upload = upload;
    c->be.download = download;
    c->be.copy = copy;
    c->be.sinusoid = sinusoid;
    c->be.linear = linear;
    c->be.conv2d = conv2d;
    c->be.attention = attention;
    c->be.group_norm = group_norm;
    c->be.layer_norm = layer_norm;
    c->be.act = act;
    c->be.geglu = geglu;
    c->be.add = add;
    c->be.add_channels = add_channels;
    c->be.concat = concat;
    c->be.upsample = upsample;
    c->be.embed = embed;
    r->be = &c->be;
}

void sd_recorder_end(sd_recorder *c, sd_run *r)
{
    for (size_t i = 0; i < c->n; i++) let_go(c->place[i].of);
    free(c->place);
    if (r->be == &c->be) r->be = c->inner;
    *c = (sd_recorder){.n = 0};
}

void sd_recorder_name(sd_recorder *c, const char *name)
{
    if (c->unnamed && name) snprintf(c->name, sizeof c->name, "%s", name);
    c->same = c->unnamed && !name;
    c->unnamed = false;
}

sd_noted *sd_recorder_shown(const sd_recorder *c)
{
    const struct sd_place *p = c->unnamed ? place_of(c, c->shown) : NULL;
    return p ? p->of : NULL;
}
