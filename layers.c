/* layers.c - floor 4: what the UNet and the VAE are made of: the list of steps, the binding of a step's weights, and
 * the forward function of each kind of step. Activations are channels-last, see ops.h. Module paths are diffusers'. */
#include "net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* For the group norm of a transformer's input; resnets and the VAE's attention take theirs from the network. Layer norm
 * has 1e-5 everywhere. [diffusers: transformer_2d.py, vae.py, attention.py] */
static const double TRANSFORMER_NORM_EPS = 1e-6, LAYER_NORM_EPS = 1e-5;

/* -------------------------------------------------------------------------------------- steps */

sd_step *sd_step_add(sd_net_steps *p, sd_step_kind kind, int ci, int co, const char *hf, ...)
{
    sd_step *more = realloc(p->step, (size_t)(p->n + 1) * sizeof *more), *s = &p->spare;
    if (more) {
        p->step = more;
        s = &more[p->n++];
    } else {
        p->failed = true;
    }
    *s = (sd_step){.kind = kind, .ci = ci, .co = co};
    va_list ap;
    va_start(ap, hf);
    vsnprintf(s->hf, sizeof s->hf, hf, ap);
    va_end(ap);
    return s;
}

void sd_step_ldm(sd_step *s, const char *ldm, ...)
{
    va_list ap;
    va_start(ap, ldm);
    vsnprintf(s->ldm, sizeof s->ldm, ldm, ap);
    va_end(ap);
}

sd_status sd_steps_done(const sd_net_steps *p, sd_error *e)
{
    return p->failed ? sd_fail(e, SD_ERR_MEMORY, "no memory for the steps of a network") : SD_OK;
}

static void free_steps(sd_net_steps *p)
{
    free(p->step);
    memset(p, 0, sizeof *p);
}

/* ----------------------------------------------------------------------------------- binding */

#define WB(type, member, hf, ldm, shape, bias_shape) \
    {offsetof(type, member.w), hf ".weight", ldm ".weight", shape, 0}, \
    {offsetof(type, member.b), hf ".bias", ldm ".bias", bias_shape, 0}

/* Shapes are written in letters (weights.h); bind_step gives their values in the order of these strings. If a value is
 * 0, rows with this letter are absent.
 * o, i: channels out and in; t: width of the time embedding; p: o if there is a time embedding, else 0; s: o if the
 * shortcut has weights, else 0. */
#define RES_LETTERS "oitps"
#define RES_ROWS(n1, c1, te, n2, c2, sc) \
    WB(sd_res_w, norm1, "norm1", n1, "i", "i"), WB(sd_res_w, conv1, "conv1", c1, "oi33", "o"), \
    WB(sd_res_w, time_emb_proj, "time_emb_proj", te, "pt", "p"), WB(sd_res_w, norm2, "norm2", n2, "o", "o"), \
    WB(sd_res_w, conv2, "conv2", c2, "oo33", "o"), WB(sd_res_w, conv_shortcut, "conv_shortcut", sc, "si11", "s")
static const sd_bind_row res_rows[] = {
    RES_ROWS("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection")};
static const sd_bind_row vae_res_rows[] = {RES_ROWS("norm1", "conv1", "temb_proj", "norm2", "conv2", "nin_shortcut")};

/* c: channels. A linear layer [c,c] has the same bytes as the 1x1 convolution. */
#define TRANSFORMER_ROWS(projection) \
    WB(sd_transformer_w, norm, "norm", "norm", "c", "c"), \
    WB(sd_transformer_w, proj_in, "proj_in", "proj_in", projection, "c"), \
    WB(sd_transformer_w, proj_out, "proj_out", "proj_out", projection, "c")
static const sd_bind_row transformer_rows[] = {TRANSFORMER_ROWS("cc11")};
static const sd_bind_row linear_transformer_rows[] = {TRANSFORMER_ROWS("cc")};

/* c: channels; d: width of the context; g: 8c, GEGLU's value and gate; f: 4c; k: width of what attn1 looks at, c or
 * d */
#define BLOCK_LETTERS "cdgfk"
#define ATTN_ROWS(member, context) \
    {offsetof(sd_block_w, member.to_q.w), #member ".to_q.weight", NULL, "cc", 0}, \
    {offsetof(sd_block_w, member.to_k.w), #member ".to_k.weight", NULL, "c" context, 0}, \
    {offsetof(sd_block_w, member.to_v.w), #member ".to_v.weight", NULL, "c" context, 0}, \
    {offsetof(sd_block_w, member.to_out.w), #member ".to_out.0.weight", NULL, "cc", 0}, \
    {offsetof(sd_block_w, member.to_out.b), #member ".to_out.0.bias", NULL, "c", 0}
static const sd_bind_row block_rows[] = {
    WB(sd_block_w, norm1, "norm1", "norm1", "c", "c"),
    ATTN_ROWS(attn1, "k"),
    WB(sd_block_w, norm2, "norm2", "norm2", "c", "c"),
    ATTN_ROWS(attn2, "d"),
    WB(sd_block_w, norm3, "norm3", "norm3", "c", "c"),
    WB(sd_block_w, ff_in, "ff.net.0.proj", "ff.net.0.proj", "gc", "g"),
    WB(sd_block_w, ff_out, "ff.net.2", "ff.net.2", "cf", "c"),
};

#define VAE_ATTN_ROWS(member, hf, ldm) \
    {offsetof(sd_vae_attn_w, attn.member.w), hf ".weight", ldm ".weight", "cc", SD_BIND_CONV1}, \
    {offsetof(sd_vae_attn_w, attn.member.b), hf ".bias", ldm ".bias", "c", 0}
static const sd_bind_row vae_attn_rows[] = {
    WB(sd_vae_attn_w, norm, "group_norm", "norm", "c", "c"),
    VAE_ATTN_ROWS(to_q, "to_q", "q"),
    VAE_ATTN_ROWS(to_k, "to_k", "k"),
    VAE_ATTN_ROWS(to_v, "to_v", "v"),
    VAE_ATTN_ROWS(to_out, "to_out.0", "proj_out"),
};

#define TINY_ROWS(i, name) WB(sd_tiny_w, conv[i], name, name, "oi33", "o")
static const sd_bind_row tiny_rows[] = {TINY_ROWS(0, "conv.0"), TINY_ROWS(1, "conv.2"), TINY_ROWS(2, "conv.4")};

static const sd_bind_row conv3_rows[] = {{offsetof(sd_wb, w), "weight", NULL, "oi33", 0},
                                         {offsetof(sd_wb, b), "bias", NULL, "o", 0}};
static const sd_bind_row conv1_rows[] = {{offsetof(sd_wb, w), "weight", NULL, "oi11", 0},
                                         {offsetof(sd_wb, b), "bias", NULL, "o", 0}};
static const sd_bind_row norm_rows[] = {{offsetof(sd_wb, w), "weight", NULL, "o", 0},
                                        {offsetof(sd_wb, b), "bias", NULL, "o", 0}};
static const sd_bind_row linear_rows[] = {{offsetof(sd_wb, w), "weight", NULL, "oi", 0},
                                          {offsetof(sd_wb, b), "bias", NULL, "o", 0}};

void sd_bind_linear(sd_binder *b, sd_wb *wb, const char *hf, const char *ldm, int64_t o, int64_t i)
{
    sd_bind(b, wb, linear_rows, SD_COUNT(linear_rows), hf, ldm, "oi", (const int64_t[]){o, i});
}

static void bind_transformer(sd_binder *b, sd_transformer_w *w, const sd_step *s, const sd_net_dims *d, const char *hf,
                             const char *ldm)
{
    int64_t c = s->co;
    sd_bind(b, w, d->linear_projection ? linear_transformer_rows : transformer_rows, SD_COUNT(transformer_rows), hf,
            ldm, "c", &c);
    w->block = calloc((size_t)s->depth, sizeof *w->block);
    if (!w->block) {
        sd_fail(b->err, SD_ERR_MEMORY, "no memory for the weights' table");
        return;
    }
    for (int k = 0; k < s->depth; k++) {
        char hf_block[SD_PATH], ldm_block[SD_PATH];
        snprintf(hf_block, sizeof hf_block, "%stransformer_blocks.%d.", hf, k);
        snprintf(ldm_block, sizeof ldm_block, "%stransformer_blocks.%d.", ldm, k);
        sd_bind(b, &w->block[k], block_rows, SD_COUNT(block_rows), hf_block, ldm_block, BLOCK_LETTERS,
                (const int64_t[]){c, d->context, 8 * c, 4 * c, s->only_cross ? d->context : c});
    }
}

static void bind_step(sd_binder *b, sd_step_w *w, const sd_step *s, const sd_net_dims *d)
{
    char hf[SD_PATH / 2], ldm[SD_PATH / 2];
    snprintf(hf, sizeof hf, "%s.", s->hf);
    snprintf(ldm, sizeof ldm, "%s.", s->ldm);
    int64_t o = s->co, i = s->ci;
    switch (s->kind) {
    case SD_STEP_RES: {
        const int64_t dims[] = {o, i, d->temb, d->temb ? o : 0, i == o ? 0 : o};
        sd_bind(b, &w->res, d->vae ? vae_res_rows : res_rows, SD_COUNT(res_rows), hf, ldm, RES_LETTERS, dims);
        break;
    }
    case SD_STEP_ATTN: bind_transformer(b, &w->attn, s, d, hf, ldm); break;
    case SD_STEP_VAE_ATTN: sd_bind(b, &w->vae_attn, vae_attn_rows, SD_COUNT(vae_attn_rows), hf, ldm, "c", &o); break;
    case SD_STEP_NORM_OUT: sd_bind(b, &w->one, norm_rows, SD_COUNT(norm_rows), hf, ldm, "o", &o); break;
    case SD_STEP_CONV1: sd_bind(b, &w->one, conv1_rows, SD_COUNT(conv1_rows), hf, ldm, "oi", (const int64_t[]){o, i});
        break;
    case SD_STEP_TINY: sd_bind(b, &w->tiny, tiny_rows, SD_COUNT(tiny_rows), hf, ldm, "oi", (const int64_t[]){o, i});
        break;
    case SD_STEP_RELU: break;
    default: {
        bool no_bias = d->tiny && (s->kind == SD_STEP_DOWN || s->kind == SD_STEP_UP);
        sd_bind(b, &w->one, conv3_rows, SD_COUNT(conv3_rows) - no_bias, hf, ldm, "oi", (const int64_t[]){o, i});
        break;
    }
    }
}

sd_status sd_net_bind(sd_net *n, sd_binder *b)
{
    n->w = calloc((size_t)n->steps.n, sizeof *n->w);
    if (!n->w) return sd_fail(b->err, SD_ERR_MEMORY, "no memory for the weights' table");
    for (int i = 0; i < n->steps.n; i++) {
        size_t before = b->params;
        bind_step(b, &n->w[i], &n->steps.step[i], &n->dims);
        n->w[i].params = b->params - before;
    }
    return b->err->status;
}

void sd_net_free(sd_net *n)
{
    for (int i = 0; n->w && i < n->steps.n; i++) free(n->w[i].attn.block);
    free(n->w);
    free_steps(&n->steps);
    memset(n, 0, sizeof *n);
}

/* ------------------------------------------------------------------------------------ forward */

/* SiLU of the group norm of x, in place or in a new tensor. The norm alone is made only if somebody looks at it. */
static sd_tensor norm_silu(sd_run *r, sd_tensor x, bool in_place, const sd_wb *w, const sd_net_dims *d,
                           const char *path, const char *name)
{
    bool seen = sd_traces(r);
    sd_tensor h = x;
    if (in_place) sd_group_norm_(r, x, &w->w, &w->b, d->groups, d->eps, !seen);
    else h = sd_group_norm(r, x, &w->w, &w->b, d->groups, d->eps, !seen);
    if (seen) {
        sd_trace_tensor(r, h, "%s%s%s", path, *path ? "." : "", name);
        sd_act_(r, h, SD_ACT_SILU);
    }
    return h;
}

static const sd_conv conv3 = {.stride = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};

/* A block's last line, y = h + shortcut. h lies from `above` on and is not needed any more, nor is what lies between
 * `place` and `above`: y goes to `place` if it ends below `above`, else where h is. The shortcut lies where y does, or
 * apart from it. */
static sd_tensor add_shortcut(sd_run *r, sd_tensor h, sd_tensor shortcut, size_t place, size_t above)
{
    sd_reset(r, place);
    sd_tensor y = sd_new4(r, h.dim[0], h.dim[1], h.dim[2], h.dim[3]);
    if (sd_mark(r) > above) y = h;
    sd_add_into(r, y, h, shortcut);
    return y;
}

/* Residual block [He et al. 2016; Ho et al. 2020, appendix B; diffusers ResnetBlock2D]:
 *   h = conv1(silu(norm1(x))) + time_emb_proj(silu(temb));  y = shortcut(x) + conv2(silu(norm2(h)))
 * At the VAE's last level a tensor has 134 or 268 MB for 512x512. So no more than two lie above x, at a and at b, and
 * each is made where one lay that has been read; y goes to `place` if it can. */
static sd_tensor resnet(sd_run *r, const sd_res_w *w, const sd_net_dims *d, sd_tensor x, sd_tensor temb, size_t place,
                        const char *path)
{
    int64_t ci = x.dim[3], co = w->conv1.w.dim[0];
    size_t a = sd_mark(r);
    sd_new4(r, x.dim[0], x.dim[1], x.dim[2], ci > co ? ci : co);
    size_t b = sd_mark(r);

    sd_reset(r, a);
    sd_tensor h = norm_silu(r, x, false, &w->norm1, d, path, "norm1");
    sd_reset(r, b);
    h = sd_conv2d(r, h, &w->conv1.w, &w->conv1.b, conv3);                             /* [N,H,W,co] */
    sd_trace_tensor(r, h, "%s.conv1", path);
    if (w->time_emb_proj.w.nd) {
        sd_reset(r, a);
        temb = sd_samples(r, temb, x.dim[0]);
        sd_tensor t = sd_linear(r, temb, &w->time_emb_proj.w, &w->time_emb_proj.b);   /* [N,co] */
        sd_trace_tensor(r, t, "%s.time_emb_proj", path);
        sd_add_channels_(r, h, t);
    }
    h = norm_silu(r, h, true, &w->norm2, d, path, "norm2");
    sd_reset(r, a);
    h = sd_conv2d(r, h, &w->conv2.w, &w->conv2.b, conv3);
    sd_trace_tensor(r, h, "%s.conv2", path);
    sd_tensor shortcut = x;
    if (w->conv_shortcut.w.nd) {
        sd_reset(r, b);
        shortcut = sd_conv2d(r, x, &w->conv_shortcut.w, &w->conv_shortcut.b, (sd_conv){.stride = 1});
        sd_trace_tensor(r, shortcut, "%s.conv_shortcut", path);
    }
    sd_tensor y = add_shortcut(r, h, shortcut, place, a);
    sd_trace_tensor(r, y, "%s", path);
    return y;
}

/* A TAESD's block [diffusers AutoencoderTinyBlock]: y = relu(conv4(relu(conv2(relu(conv0(x))))) + x). Convolutions
 * write to a, b and a. */
static sd_tensor tiny_block(sd_run *r, const sd_tiny_w *w, sd_tensor x, size_t place, const char *path)
{
    size_t a = sd_mark(r), b = a;
    sd_tensor h = x;
    for (int i = 0; i < 3; i++) {
        sd_reset(r, i == 1 ? b : a);
        h = sd_conv2d(r, h, &w->conv[i].w, &w->conv[i].b, conv3);
        if (i == 0) b = sd_mark(r);
        sd_trace_tensor(r, h, "%s.conv.%d", path, 2 * i);
        if (i < 2) sd_act_(r, h, SD_ACT_RELU);
    }
    sd_tensor y = add_shortcut(r, h, x, place, a);
    sd_act_(r, y, SD_ACT_RELU);
    sd_trace_tensor(r, y, "%s", path);
    return y;
}

static sd_tensor attend(sd_run *r, const sd_attn_w *w, sd_tensor q, sd_tensor k, sd_tensor v, int heads, bool causal,
                        const char *path, const sd_attn_names *names)
{
    sd_trace_tensor(r, q, "%s.%s", path, names->q);
    sd_trace_tensor(r, k, "%s.%s", path, names->k);
    sd_trace_tensor(r, v, "%s.%s", path, names->v);
    sd_tensor h = sd_attention(r, q, k, v, heads, causal);
    h = sd_linear(r, h, &w->to_out.w, &w->to_out.b);
    sd_trace_tensor(r, h, "%s.%s", path, names->out);
    return h;
}

sd_tensor sd_self_attend(sd_run *r, const sd_attn_w *w, sd_tensor x, int heads, bool causal, const char *path,
                         const sd_attn_names *names)
{
    sd_tensor q = sd_linear(r, x, &w->to_q.w, &w->to_q.b);            /* [N,T,C] */
    sd_tensor k = sd_linear(r, x, &w->to_k.w, &w->to_k.b);
    sd_tensor v = sd_linear(r, x, &w->to_v.w, &w->to_v.b);
    return attend(r, w, q, k, v, heads, causal, path, names);
}

/* A prompt's keys and values are the same in every step, so they are computed once. Not so if a sink may change traced
 * tensors: a change must affect its own step only. */
static sd_tensor cross_attend(sd_run *r, const sd_attn_w *w, sd_tensor x, const sd_context *c, int heads,
                              const char *path, const sd_attn_names *names)
{
    uint64_t version = sd_trace_writes(r) ? 0 : c->version;
    sd_tensor q = sd_linear(r, x, &w->to_q.w, &w->to_q.b);                           /* [N,T,C] */
    sd_tensor k = sd_linear_cached(r, c->tokens, &w->to_k.w, &w->to_k.b, version);     /* [N,S,C] */
    sd_tensor v = sd_linear_cached(r, c->tokens, &w->to_v.w, &w->to_v.b, version);
    return attend(r, w, q, k, v, heads, false, path, names);
}

static const sd_attn_names unet_attn_names = {"to_q", "to_k", "to_v", "to_out.0"};

/* diffusers BasicTransformerBlock, h [N,T,C] in place:
 *   h += attn1(norm1(h));  h += attn2(norm2(h), context);  h += ff(norm3(h)),  ff(x) = W2 (v gelu(g)), [v|g] = W1 x
 * If h has fewer samples than the context, which makes them differ, the result is a new tensor with that many. */
static sd_tensor transformer_block_(sd_run *r, const sd_block_w *w, sd_tensor h, const sd_context *context,
                                    const sd_step *s, const char *path)
{
    char attn[SD_PATH + 8];
    int64_t N = context->tokens.dim[0];
    if (s->only_cross) h = sd_repeat(r, h, N);
    size_t mark = sd_mark(r);

    sd_tensor n = sd_layer_norm(r, h, &w->norm1.w, &w->norm1.b, LAYER_NORM_EPS);
    sd_trace_tensor(r, n, "%s.norm1", path);
    snprintf(attn, sizeof attn, "%s.attn1", path);
    sd_tensor a = s->only_cross ? cross_attend(r, &w->attn1, n, context, s->heads, attn, &unet_attn_names)
                                : sd_self_attend(r, &w->attn1, n, s->heads, false, attn, &unet_attn_names);
    sd_trace_tensor(r, a, "%s", attn);
    sd_add_(r, h, a);
    sd_reset(r, mark);

    h = sd_repeat(r, h, N);
    mark = sd_mark(r);
    n = sd_layer_norm(r, h, &w->norm2.w, &w->norm2.b, LAYER_NORM_EPS);
    sd_trace_tensor(r, n, "%s.norm2", path);
    snprintf(attn, sizeof attn, "%s.attn2", path);
    a = cross_attend(r, &w->attn2, n, context, s->heads, attn, &unet_attn_names);
    sd_trace_tensor(r, a, "%s", attn);
    sd_add_(r, h, a);
    sd_reset(r, mark);

    n = sd_layer_norm(r, h, &w->norm3.w, &w->norm3.b, LAYER_NORM_EPS);
    sd_trace_tensor(r, n, "%s.norm3", path);
    sd_tensor f = sd_linear(r, n, &w->ff_in.w, &w->ff_in.b);          /* [N,T,8C] */
    sd_trace_tensor(r, f, "%s.ff.net.0.proj", path);
    f = sd_geglu(r, f);                                               /* [N,T,4C] */
    sd_trace_tensor(r, f, "%s.ff.net.0", path);
    f = sd_linear(r, f, &w->ff_out.w, &w->ff_out.b);                  /* [N,T,C] */
    sd_trace_tensor(r, f, "%s.ff.net.2", path);
    sd_trace_tensor(r, f, "%s.ff", path);
    sd_add_(r, h, f);
    sd_reset(r, mark);
    sd_trace_tensor(r, h, "%s", path);
    return h;
}

/* diffusers Transformer2DModel, x [N,H,W,C] in place: x += proj_out(blocks(proj_in(norm(x)))). A new tensor if the
 * samples become more. */
static sd_tensor transformer_(sd_run *r, const sd_transformer_w *w, const sd_net_dims *d, const sd_step *s, sd_tensor x,
                              const sd_context *context)
{
    size_t mark = sd_mark(r);
    int64_t N = x.dim[0], H = x.dim[1], W = x.dim[2], C = x.dim[3];
    sd_tensor h = sd_group_norm(r, x, &w->norm.w, &w->norm.b, d->groups, TRANSFORMER_NORM_EPS, false);
    sd_trace_tensor(r, h, "%s.norm", s->hf);
    h = sd_linear(r, h, &w->proj_in.w, &w->proj_in.b);
    sd_tensor tokens = sd_view3(r, h, N, H * W, C);   /* the same bytes: [N,HW,C] */
    sd_trace_tensor(r, d->linear_projection ? tokens : h, "%s.proj_in", s->hf);
    for (int k = 0; k < s->depth; k++) {
        char path[SD_PATH];
        snprintf(path, sizeof path, "%s.transformer_blocks.%d", s->hf, k);
        tokens = transformer_block_(r, &w->block[k], tokens, context, s, path);
    }
    sd_tensor y = sd_linear(r, tokens, &w->proj_out.w, &w->proj_out.b);
    sd_tensor picture = sd_view4(r, y, y.dim[0], H, W, C);
    sd_trace_tensor(r, d->linear_projection ? y : picture, "%s.proj_out", s->hf);
    x = sd_repeat(r, x, y.dim[0]);
    sd_add_(r, x, picture);
    if (x.dim[0] == N) sd_reset(r, mark);
    sd_trace_tensor(r, x, "%s", s->hf);
    return x;
}

/* The VAE's attention, one head over all channels [diffusers Attention with residual_connection]:
 *   x += to_out(attend(norm(x))) */
static void vae_attention_(sd_run *r, const sd_vae_attn_w *w, const sd_net_dims *d, sd_tensor x, const char *path)
{
    size_t mark = sd_mark(r);
    sd_tensor tokens = sd_view3(r, x, x.dim[0], x.dim[1] * x.dim[2], x.dim[3]);
    sd_tensor h = sd_group_norm(r, tokens, &w->norm.w, &w->norm.b, d->groups, d->eps, false);
    sd_trace_transposed(r, h, "%s.group_norm", path);
    h = sd_self_attend(r, &w->attn, h, 1, false, path, &unet_attn_names);
    sd_add_(r, tokens, h);
    sd_reset(r, mark);
    sd_trace_tensor(r, x, "%s", path);
}

/* Moves x from `place` to above where something at least as large is going to be, [N,height,width,channels]: that then
 * need not be moved down over x. */
static sd_tensor move_above(sd_run *r, size_t place, sd_tensor x, int64_t height, int64_t width, int64_t channels)
{
    sd_reset(r, place);
    sd_new4(r, x.dim[0], height, width, channels);
    sd_tensor above = sd_new4(r, x.dim[0], x.dim[1], x.dim[2], x.dim[3]);
    sd_copy(r, above, x);
    sd_reset(r, place);
    return above;
}

/* Nearest upsampling to the size of the next skip (to twice the size if there is none), then a 3x3 convolution. */
static void up(sd_run *r, const sd_step_w *w, const sd_step *s, sd_flow *f)
{
    int64_t height = 2 * f->x.dim[1], width = 2 * f->x.dim[2];
    if (f->n_skips) {
        height = f->skip[f->n_skips - 1].t.dim[1];
        width = f->skip[f->n_skips - 1].t.dim[2];
    }
    if (f->own) f->x = move_above(r, f->mark, f->x, height, width, s->co);
    f->x = sd_upsample_conv2d(r, f->x, height, width, &w->one.w, &w->one.b);
    sd_trace_tensor(r, f->x, "%s", s->hf);
}

sd_conv sd_step_conv(const sd_step *s, const sd_net_dims *d)
{
    sd_conv c = conv3;
    if (s->kind == SD_STEP_CONV1) c = (sd_conv){.stride = 1};
    if (s->kind == SD_STEP_DOWN)
        c = (sd_conv){.stride = 2, .pad_bottom = 1, .pad_right = 1, .pad_top = !d->pad_after,
                      .pad_left = !d->pad_after};
    if (s->kind == SD_STEP_UP) c.enlarge = true;
    return c;
}

/* The result goes to `place` in the arena, if it can. */
static void forward_step(sd_run *r, const sd_step *s, const sd_step_w *w, const sd_net_dims *d, sd_flow *f,
                         size_t place)
{
    const char *module = s->hf;
    switch (s->kind) {
    case SD_STEP_CONV_IN:
    case SD_STEP_CONV_OUT:
    case SD_STEP_CONV1:
    case SD_STEP_DOWN:
        f->x = sd_conv2d(r, f->x, &w->one.w, &w->one.b, sd_step_conv(s, d));
        sd_trace_tensor(r, f->x, "%s", module);
        break;
    case SD_STEP_RES: f->x = resnet(r, &w->res, d, f->x, f->temb, place, module); break;
    case SD_STEP_ATTN: f->x = transformer_(r, &w->attn, d, s, f->x, &f->context); break;
    case SD_STEP_VAE_ATTN: vae_attention_(r, &w->vae_attn, d, f->x, module); break;
    case SD_STEP_TINY: f->x = tiny_block(r, &w->tiny, f->x, place, module); break;
    case SD_STEP_RELU:
        sd_act_(r, f->x, SD_ACT_RELU);
        sd_trace_tensor(r, f->x, "%s", module);
        break;
    case SD_STEP_UP: up(r, w, s, f); break;
    case SD_STEP_NORM_OUT:
        f->x = norm_silu(r, f->x, f->own, &w->one, d, "", module);
        sd_trace_tensor(r, f->x, "%.*sconv_act", (int)(strlen(module) - strlen("conv_norm_out")), module);
        break;
    }
}

/* Skips form a stack in the arena. A step's result goes to where its input was or, on the way up, to where the skip was
 * that it was concatenated with: it is written there or moves down. Only the caller's input and the skips stay. So
 * nothing unneeded is held. */
static size_t place_of_result(const sd_run *r, const sd_flow *f) { return f->own ? f->mark : sd_mark(r); }

static size_t join_skip(sd_run *r, sd_flow *f)
{
    f->n_skips--;
    sd_tensor skip = sd_repeat(r, f->skip[f->n_skips].t, f->x.dim[0]);
    f->x = sd_concat(r, f->x, skip);   /* [N,H,W,C] | [N,H,W,C'] */
    return f->skip[f->n_skips].mark;
}

static void push_skip(sd_run *r, sd_flow *f)
{
    if (f->n_skips == SD_MAX_SKIPS) {
        sd_fail(r->err, SD_ERR_UNSUPPORTED, "%s: more than %d skips", r->step, SD_MAX_SKIPS);
        return;
    }
    f->skip[f->n_skips].t = f->x;
    f->skip[f->n_skips++].mark = f->mark;
    f->own = false;
}

static void move_down(sd_run *r, sd_flow *f, size_t mark)
{
    f->x = sd_move_down(r, mark, f->x);
    f->mark = mark;
    f->own = true;
}

void sd_net_forward(sd_run *r, const sd_net *n, sd_flow *f, int from, int to)
{
    for (int i = from; i < to && sd_ok(r); i++) {
        const sd_step *s = &n->steps.step[i];
        r->step = s->hf;
        size_t place = s->skip ? join_skip(r, f) : place_of_result(r, f);
        int64_t samples = f->x.dim[0];
        forward_step(r, s, &n->w[i], &n->dims, f, place);
        if (!sd_ok(r)) break;
        if (r->watch) r->watch(r->watch_user, i, f->x);
        bool in_place = (s->kind == SD_STEP_ATTN && f->x.dim[0] == samples) || s->kind == SD_STEP_VAE_ATTN
            || s->kind == SD_STEP_RELU;
        if (!in_place) move_down(r, f, place);
        if (s->push) push_skip(r, f);
    }
    r->step = NULL;
}
