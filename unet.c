/* unet.c - floor 4: the UNet's steps, its own weights and its forward function.
 *
 * One source for SD 1.x, 2.x, XL and the refiner: what differs is in sd_unet_config. */
#include "net.h"

#include <string.h>

/* ------------------------------------------------------------------------------------- steps
 * One walk over the configuration makes them. CompVis numbers its blocks in the order of this walk: input_blocks.i
 * counts pushes on the way down, output_blocks.i counts pops on the way up, and a block's layers count from 0. */

typedef struct walk { sd_net_steps *p; int block; } walk;

/* The i-th attention of a block. */
static void attention(walk *w, const sd_unet_config *c, const char *block, int number, int level, int i)
{
    bool down = *block == 'd';
    int ch = c->channels[level];
    sd_step *s = sd_step_add(w->p, SD_STEP_ATTN, ch, ch, "%s_blocks.%d.attentions.%d", block, number, i);
    sd_step_ldm(s, "%s_blocks.%d.1", down ? "input" : "output", w->block);
    s->depth = sd_unet_depth(c, !down, level, i);
    s->heads = c->heads[level];
    s->only_cross = c->only_cross[level];
}

/* Makes the last step's result a skip, which ends an input block. */
static void push(walk *w)
{
    if (w->p->n) w->p->step[w->p->n - 1].push = true;
    w->block++;
}

static void walk_down(walk *w, const sd_unet_config *c)
{
    int ch = c->channels[0];
    sd_step_ldm(sd_step_add(w->p, SD_STEP_CONV_IN, c->in_channels, ch, "conv_in"), "input_blocks.0.0");
    push(w);
    for (int level = 0; level < c->levels; level++) {
        for (int i = 0; i < c->layers[level]; i++) {
            sd_step *s = sd_step_add(w->p, SD_STEP_RES, ch, c->channels[level], "down_blocks.%d.resnets.%d", level, i);
            sd_step_ldm(s, "input_blocks.%d.0", w->block);
            ch = c->channels[level];
            if (c->depth[level]) attention(w, c, "down", level, level, i);
            push(w);
        }
        if (level == c->levels - 1) break;
        w->block += c->ldm_gap;
        sd_step *s = sd_step_add(w->p, SD_STEP_DOWN, ch, ch, "down_blocks.%d.downsamplers.0.conv", level);
        sd_step_ldm(s, "input_blocks.%d.0.op", w->block);
        push(w);
    }
}

static void walk_middle(walk *w, const sd_unet_config *c)
{
    int ch = c->channels[c->levels - 1];
    if (c->mid == SD_MID_NONE) return;
    sd_step_ldm(sd_step_add(w->p, SD_STEP_RES, ch, ch, "mid_block.resnets.0"), "middle_block.0");
    if (c->mid == SD_MID_RESNET) return;
    sd_step *s = sd_step_add(w->p, SD_STEP_ATTN, ch, ch, "mid_block.attentions.0");
    sd_step_ldm(s, "middle_block.1");
    s->depth = c->mid_depth;
    s->heads = c->heads[c->levels - 1];
    sd_step_ldm(sd_step_add(w->p, SD_STEP_RES, ch, ch, "mid_block.resnets.1"), "middle_block.2");
}

/* Channels of the skips in the order of their pushes. */
static int skips_of(const sd_net_steps *p, int *channels)
{
    int n = 0;
    for (int i = 0; i < p->n && n < SD_MAX_SKIPS; i++)
        if (p->step[i].push) channels[n++] = p->step[i].co;
    return n;
}

static void walk_up(walk *w, const sd_unet_config *c)
{
    int skip[SD_MAX_SKIPS], n = skips_of(w->p, skip), ch = c->channels[c->levels - 1];
    w->block = 0;
    for (int up = 0; up < c->levels; up++) {
        int level = c->levels - 1 - up;
        for (int i = 0; i <= c->layers[level] && n > 0; i++, w->block++) {
            int joined = skip[--n];
            sd_step *s = sd_step_add(w->p, SD_STEP_RES, ch + joined, c->channels[level], "up_blocks.%d.resnets.%d", up,
                                     i);
            sd_step_ldm(s, "output_blocks.%d.0", w->block);
            s->skip = joined;
            ch = c->channels[level];
            if (c->up_depth[level]) attention(w, c, "up", up, level, i);
            if (i < c->layers[level] || level == 0) continue;
            s = sd_step_add(w->p, SD_STEP_UP, ch, ch, "up_blocks.%d.upsamplers.0.conv", up);
            w->block += c->ldm_gap;
            /* behind the attention, if there is one; the script thinks that of all blocks but the first */
            sd_step_ldm(s, "output_blocks.%d.%d.conv", w->block, (c->ldm_gap ? up : c->up_depth[level]) ? 2 : 1);
        }
    }
    sd_step_ldm(sd_step_add(w->p, SD_STEP_NORM_OUT, ch, ch, "conv_norm_out"), "out.0");
    sd_step_ldm(sd_step_add(w->p, SD_STEP_CONV_OUT, ch, c->out_channels, "conv_out"), "out.2");
}

sd_status sd_unet_walk(sd_unet_net *u, const sd_unet_config *c, sd_error *e)
{
    memset(u, 0, sizeof *u);
    u->cfg = *c;
    u->net.dims = (sd_net_dims){.groups = c->groups, .eps = c->norm_eps, .temb = 4 * c->channels[0],
                                .context = c->context_dim,
                                .linear_projection = c->linear_projection};
    walk w = {.p = &u->net.steps};
    walk_down(&w, c);
    walk_middle(&w, c);
    u->up = w.p->n;
    walk_up(&w, c);
    return sd_steps_done(&u->net.steps, e);
}

/* n: rows of the class embedding; t: width of the time embedding; c: channels[0]; d: width of the further input */
static const sd_bind_row table_rows[] = {
    {offsetof(sd_unet_net, class_embedding), "class_embedding.weight", "label_emb.weight", "nt", 0},
    {offsetof(sd_unet_net, cond_proj), "time_embedding.cond_proj.weight", NULL, "cd", 0},
};

sd_status sd_unet_bind(sd_unet_net *u, sd_binder *b)
{
    const sd_unet_config *c = &u->cfg;
    int64_t temb = u->net.dims.temb;
    sd_bind_linear(b, &u->time1, "time_embedding.linear_1.", "time_embed.0.", temb, c->channels[0]);
    sd_bind_linear(b, &u->time2, "time_embedding.linear_2.", "time_embed.2.", temb, temb);
    int64_t added = c->add_in_dim ? temb : 0;   /* 0: SD 1 and 2 have no such layers */
    sd_bind_linear(b, &u->add1, "add_embedding.linear_1.", "label_emb.0.0.", added, c->add_in_dim);
    sd_bind_linear(b, &u->add2, "add_embedding.linear_2.", "label_emb.0.2.", added, temb);
    sd_bind(b, u, table_rows, SD_COUNT(table_rows), "", "", "ntcd",
            (const int64_t[]){c->class_embeds, temb, c->channels[0], c->time_cond_dim});
    return sd_net_bind(&u->net, b);
}

void sd_unet_free(sd_unet_net *u)
{
    sd_net_free(&u->net);
    memset(u, 0, sizeof *u);
}

/* ----------------------------------------------------------------------------------- forward */

/* y = W2 silu(W1 x) [diffusers TimestepEmbedding] */
static sd_tensor embedding(sd_run *r, const sd_wb *w1, const sd_wb *w2, sd_tensor x, const char *path)
{
    sd_tensor h = sd_linear(r, x, &w1->w, &w1->b);
    sd_trace_tensor(r, h, "%s.linear_1", path);
    sd_act_(r, h, SD_ACT_SILU);
    sd_trace_tensor(r, h, "%s.act", path);
    h = sd_linear(r, h, &w2->w, &w2->b);
    sd_trace_tensor(r, h, "%s.linear_2", path);
    sd_trace_tensor(r, h, "%s", path);
    return h;
}

/* SDXL's further input: the pooled vector | a sinusoid of each time id, [N, add_in_dim]. */
static sd_tensor added_input(sd_run *r, const sd_unet_config *c, const sd_cond *cond)
{
    int64_t N = cond->n, ids = cond->n_ids;
    sd_tensor pooled = sd_new_from(r, 2, (const int64_t[]){N, cond->pooled_width}, cond->pooled);
    sd_tensor t = sd_sinusoid(r, N * ids, c->add_time_dim, cond->ids, c->flip_sin_to_cos, c->freq_shift);
    sd_trace_tensor(r, t, "add_time_proj");
    return sd_concat(r, pooled, sd_view2(r, t, N, ids * c->add_time_dim));
}

/* SiLU of the embedding of the timesteps, [N, 4 channels[0]]. All resnets need the same one, so it is computed once
 * [diffusers ResnetBlock2D]. */
static sd_tensor time_embedding(sd_run *r, const sd_unet_net *u, const sd_unet_in *in)
{
    const sd_unet_config *c = &u->cfg;
    sd_tensor t = sd_sinusoid(r, in->cond->n, c->channels[0], in->timestep, c->flip_sin_to_cos, c->freq_shift);
    sd_trace_tensor(r, t, "time_proj");
    if (c->time_cond_dim) {
        sd_tensor more = sd_new_from(r, 2, (const int64_t[]){in->cond->n, c->time_cond_dim}, in->cond->time_cond);
        more = sd_linear(r, more, &u->cond_proj, NULL);
        sd_trace_tensor(r, more, "time_embedding.cond_proj");
        sd_add_(r, t, more);
    }
    sd_tensor temb = embedding(r, &u->time1, &u->time2, t, "time_embedding");
    if (c->class_embeds) {
        sd_tensor y = sd_embed(r, in->cond->labels, in->cond->n, 1, &u->class_embedding, NULL);   /* [N,1,temb] */
        y = sd_view2(r, y, in->cond->n, u->net.dims.temb);
        sd_trace_tensor(r, y, "class_embedding");
        sd_add_(r, temb, y);
    }
    if (c->add_in_dim)
        sd_add_(r, temb, embedding(r, &u->add1, &u->add2, added_input(r, c, in->cond), "add_embedding"));
    return sd_silu(r, temb);
}

/* SDXL has six ids and its refiner five, but the layers depend only on the total width. */
sd_cond sd_unet_blank(const sd_unet_config *c, int n, int tokens)
{
    return (sd_cond){.n = n, .tokens = tokens, .width = c->context_dim, .n_ids = c->add_in_dim > 0,
                     .pooled_width = c->add_in_dim - c->add_time_dim};
}

sd_cond sd_cond_part(const sd_cond *c, int from, int n, const sd_unet_config *u)
{
    sd_cond part = *c;
    size_t at = (size_t)from;
    part.n = n;
    if (c->context) part.context += at * (size_t)c->tokens * (size_t)c->width;
    if (c->pooled) part.pooled += at * (size_t)c->pooled_width;
    if (c->ids) part.ids += at * (size_t)c->n_ids;
    if (c->labels) part.labels += at;
    if (c->time_cond) part.time_cond += at * (size_t)u->time_cond_dim;
    return part;
}

typedef struct rows { const void *at; size_t bytes; } rows;   /* one for each sample; absent: NULL */

/* Does each of n rows equal the one `period` before it? */
static bool repeats(rows x, int n, int period)
{
    size_t ahead = (size_t)period * x.bytes;
    return !x.at || !memcmp(x.at, (const char *)x.at + ahead, (size_t)n * x.bytes - ahead);
}

int sd_unet_distinct(const float *latents, size_t numbers, const float *timestep, const sd_cond *cond,
                     const sd_unet_config *c)
{
    const rows all[] = {{latents, numbers * sizeof *latents}, {timestep, sizeof *timestep},
                        {cond->pooled, (size_t)cond->pooled_width * sizeof *cond->pooled},
                        {cond->ids, (size_t)cond->n_ids * sizeof *cond->ids}, {cond->labels, sizeof *cond->labels},
                        {cond->time_cond, (size_t)c->time_cond_dim * sizeof *cond->time_cond}};
    for (int m = 1; m < cond->n; m++) {
        bool same = cond->n % m == 0;
        for (size_t i = 0; i < SD_COUNT(all); i++) same = same && repeats(all[i], cond->n, m);
        if (same) return m;
    }
    return cond->n;
}

/* Under the null backend inputs have no numbers. */
static bool has_inputs(sd_run *r, const sd_unet_config *c, const sd_cond *cond)
{
    const char *lacks = c->add_in_dim && !(cond->pooled && cond->ids) ? "a pooled text vector and time ids"
        : c->class_embeds && !cond->labels ? "class labels"
        : c->time_cond_dim && !cond->time_cond ? "a guidance embedding" : NULL;
    if (lacks && sd_has_numbers(r)) sd_fail(r->err, SD_ERR_ARG, "this UNet needs %s too", lacks);
    return sd_ok(r);
}

/* Skips += their residuals, x += the residual of the middle block. */
static void add_residuals(sd_run *r, sd_flow *f, const sd_residuals *control)
{
    if (control->n != f->n_skips && sd_ok(r))
        sd_fail(r->err, SD_ERR_SHAPE, "the UNet has %d skips, but %d residuals are to be added", f->n_skips,
                control->n);
    for (int i = 0; i < control->n && sd_ok(r); i++) sd_add_(r, f->skip[i].t, control->skip[i]);
    sd_add_(r, f->x, control->middle);
}

/* epsilon_theta(x_t, t, c) [Ho et al. 2020; Rombach et al. 2022, section 3.3; diffusers UNet2DConditionModel] */
sd_tensor sd_unet_forward(sd_run *r, const sd_unet_net *u, const sd_unet_in *in)
{
    if (!sd_ok(r) || !has_inputs(r, &u->cfg, in->cond)) return (sd_tensor){0};
    const sd_cond *c = in->cond;
    sd_flow f = {.x = in->latents, .temb = time_embedding(r, u, in)};
    f.context.tokens = sd_new_from(r, 3, (const int64_t[]){c->n, c->tokens, c->width}, c->context);
    f.context.version = c->version;
    sd_net_forward(r, &u->net, &f, 0, u->up);
    if (in->control) add_residuals(r, &f, in->control);
    sd_net_forward(r, &u->net, &f, u->up, u->net.steps.n);
    return sd_repeat(r, f.x, c->n);
}
