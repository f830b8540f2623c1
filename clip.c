/* clip.c - floor 4: CLIP's text encoder [Radford et al. 2021, section 2.4; transformers CLIPTextModel]. */
#include "net.h"

#include <stdlib.h>
#include <string.h>

/* v: vocabulary; t: positions; c: width; f: usually 4c; p: columns of the projection, 0: none.
 * OpenCLIP's names are beside those of transformers. It multiplies by text_projection from the right, and keeps query,
 * key and value as one matrix. */
#define LETTERS "vtcfp"
static const sd_bind_row text_rows[] = {
    {offsetof(sd_clip, token), "text_model.embeddings.token_embedding.weight", "token_embedding.weight", "vc", 0},
    {offsetof(sd_clip, position), "text_model.embeddings.position_embedding.weight", "positional_embedding", "tc", 0},
    {offsetof(sd_clip, ln_final.w), "text_model.final_layer_norm.weight", "ln_final.weight", "c", 0},
    {offsetof(sd_clip, ln_final.b), "text_model.final_layer_norm.bias", "ln_final.bias", "c", 0},
    {offsetof(sd_clip, projection), "text_projection.weight", "text_projection", "pc", SD_BIND_TRANSPOSE},
};
#define WB(member, name, ldm, shape, bias_shape) \
    {offsetof(sd_clip_layer_w, member.w), name ".weight", ldm ".weight", shape, 0}, \
    {offsetof(sd_clip_layer_w, member.b), name ".bias", ldm ".bias", bias_shape, 0}
#define IN_PROJ(member, name, part) \
    {offsetof(sd_clip_layer_w, member.w), name ".weight", "attn.in_proj_weight", "cc", SD_BIND_SLICE(part, 3)}, \
    {offsetof(sd_clip_layer_w, member.b), name ".bias", "attn.in_proj_bias", "c", SD_BIND_SLICE(part, 3)}
static const sd_bind_row layer_rows[] = {
    WB(ln1, "layer_norm1", "ln_1", "c", "c"),
    IN_PROJ(attn.to_q, "self_attn.q_proj", 0),
    IN_PROJ(attn.to_k, "self_attn.k_proj", 1),
    IN_PROJ(attn.to_v, "self_attn.v_proj", 2),
    WB(attn.to_out, "self_attn.out_proj", "attn.out_proj", "cc", "c"),
    WB(ln2, "layer_norm2", "ln_2", "c", "c"),
    WB(fc1, "mlp.fc1", "mlp.c_fc", "fc", "f"),
    WB(fc2, "mlp.fc2", "mlp.c_proj", "cf", "c"),
};

sd_status sd_clip_bind(sd_clip *c, const sd_clip_config *cfg, sd_binder *b)
{
    memset(c, 0, sizeof *c);
    c->cfg = *cfg;
    const int64_t dims[] = {cfg->vocab, cfg->positions, cfg->width, cfg->ff, cfg->projection};
    sd_bind(b, c, text_rows, SD_COUNT(text_rows), "", "", LETTERS, dims);
    c->layer = calloc((size_t)cfg->layers, sizeof *c->layer);
    if (!c->layer) return sd_fail(b->err, SD_ERR_MEMORY, "no memory for the weights' table");
    for (int i = 0; i < cfg->layers; i++) {
        char hf[64], ldm[64];
        snprintf(hf, sizeof hf, "text_model.encoder.layers.%d.", i);
        snprintf(ldm, sizeof ldm, "transformer.resblocks.%d.", i);
        sd_bind(b, &c->layer[i], layer_rows, SD_COUNT(layer_rows), hf, ldm, LETTERS, dims);
    }
    return b->err->status;
}

void sd_clip_free(sd_clip *c)
{
    free(c->layer);
    memset(c, 0, sizeof *c);
}

static const sd_attn_names clip_attn_names = {"q_proj", "k_proj", "v_proj", "out_proj"};

/* Pre-norm transformer layer, x [n,t,c] in place:  x += attend(ln1(x));  x += fc2(act(fc1(ln2(x)))).
 * Attention is causal; padding is attended to like any token. */
static void layer_(sd_run *r, const sd_clip *c, const sd_clip_layer_w *w, sd_tensor x, const char *path)
{
    const sd_clip_config *cfg = &c->cfg;
    char sub[80];
    size_t mark = sd_mark(r);

    sd_tensor h = sd_layer_norm(r, x, &w->ln1.w, &w->ln1.b, cfg->eps);
    sd_trace_tensor(r, h, "%s.layer_norm1", path);
    snprintf(sub, sizeof sub, "%s.self_attn", path);
    h = sd_self_attend(r, &w->attn, h, cfg->heads, true, sub, &clip_attn_names);
    sd_add_(r, x, h);
    sd_reset(r, mark);

    h = sd_layer_norm(r, x, &w->ln2.w, &w->ln2.b, cfg->eps);
    sd_trace_tensor(r, h, "%s.layer_norm2", path);
    h = sd_linear(r, h, &w->fc1.w, &w->fc1.b);
    sd_trace_tensor(r, h, "%s.mlp.fc1", path);
    sd_act_(r, h, cfg->act);
    sd_trace_tensor(r, h, "%s.mlp.activation_fn", path);
    h = sd_linear(r, h, &w->fc2.w, &w->fc2.b);
    sd_trace_tensor(r, h, "%s.mlp.fc2", path);
    sd_add_(r, x, h);
    sd_reset(r, mark);
    sd_trace_tensor(r, x, "%s", path);
}

static void layers_(sd_run *r, const sd_clip *c, sd_tensor x, int from, int to)
{
    for (int i = from; i < to && sd_ok(r); i++) {
        char path[48];
        snprintf(path, sizeof path, "text_model.encoder.layers.%d", i);
        r->step = path;
        layer_(r, c, &c->layer[i], x, path);
    }
    r->step = NULL;
}

static sd_tensor final_norm(sd_run *r, const sd_clip *c, sd_tensor x)
{
    sd_tensor y = sd_layer_norm(r, x, &c->ln_final.w, &c->ln_final.b, c->cfg.eps);
    sd_trace_tensor(r, y, "text_model.final_layer_norm");
    return y;
}

/* Takes the row of each text's end token from x [n,t,c]. The end token has the highest of all ids; if padding has the
 * same id, the first one counts [transformers CLIPTextTransformer]. */
static sd_tensor end_rows(sd_run *r, sd_tensor x, const int32_t *ids)
{
    size_t n = (size_t)x.dim[0], t = (size_t)x.dim[1], c = (size_t)x.dim[2];
    float *rows = sd_has_numbers(r) ? malloc(n * t * c * sizeof *rows) : NULL;
    if (sd_has_numbers(r) && !rows) sd_fail(r->err, SD_ERR_MEMORY, "no memory for the text encoder's result");
    sd_download(r, x, rows);
    for (size_t i = 0; i < n && rows; i++) {
        size_t end = 0;
        for (size_t k = 1; k < t; k++)
            if (ids[i * t + k] > ids[i * t + end]) end = k;
        memmove(rows + i * c, rows + (i * t + end) * c, c * sizeof *rows);
    }
    sd_tensor y = sd_new_from(r, 2, (const int64_t[]){x.dim[0], x.dim[2]}, rows);   /* [n,c] */
    free(rows);
    return y;
}

void sd_clip_forward(sd_run *r, const sd_clip *c, const int32_t *ids, int64_t n, int64_t t, const sd_clip_output *take,
                     float *hidden, float *pooled)
{
    int last = c->cfg.layers, taken = last - take->from_end;
    sd_tensor x = sd_embed(r, ids, n, t, &c->token, &c->position);      /* [n,t,c] */
    sd_trace_tensor(r, x, "text_model.embeddings");
    layers_(r, c, x, 0, taken);
    sd_tensor y = take->final_norm ? final_norm(r, c, x) : x;
    sd_download(r, y, hidden);
    if (!take->pooled) return;
    layers_(r, c, x, taken, last);
    if (!take->final_norm || taken < last) y = final_norm(r, c, x);
    sd_tensor p = sd_linear(r, end_rows(r, y, ids), &c->projection, NULL);   /* [n,p] */
    sd_trace_tensor(r, p, "text_projection");
    sd_download(r, p, pooled);
}
