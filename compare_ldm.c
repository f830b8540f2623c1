/* compare_ldm.c - floor 6: names of CompVis', Stability's and stable-diffusion.cpp's programs as diffusers' modules
 * have them: model.diffusion_model.input_blocks.1.0.in_layers.0 is unet.down_blocks.0.resnets.0.norm1.
 *
 * CompVis numbers blocks in the order of a walk, so the numbers depend on how many layers and attentions a network has.
 * That is read from the names of the other trace, which has diffusers'. Then the networks' own tables, from which
 * weights are bound, give both names of each module. */
#include "compare.h"
#include "recognise.h"

#include <stdlib.h>
#include <string.h>

/* A module under both names. `container`: its result is that of its last module, which has the second name. */
typedef struct module { char *ldm, *hf, *last; } module;

typedef struct table { module *list; size_t n, cap; } table;

typedef struct tables { table of[3]; } tables;   /* by part: UNet, VAE, text encoder */
enum { UNET, VAE, TEXT };

/* ------------------------------------------------------------- what a network is like, from diffusers' names */

typedef struct counts {
    int down[SD_MAX_LEVELS], up[SD_MAX_LEVELS];               /* resnets of each block */
    int attention[SD_MAX_LEVELS], up_attention[SD_MAX_LEVELS];   /* transformer blocks */
    int levels, mid_attention;
} counts;

static void raise_to(int *to, int n, int most)
{
    if (n > *to && n <= most) *to = n;
}

/* "down_blocks.1.resnets.0..." */
static void count_block(counts *c, const char *at)
{
    int block, i, k = 0;
    char kind[16];
    bool down = *at == 'd';
    at += strcspn(at, "b");
    int found = sscanf(at, "blocks.%d.%15[a-z].%d.transformer_blocks.%d", &block, kind, &i, &k);
    if (found < 3 || block < 0 || block >= SD_MAX_LEVELS || i < 0) return;
    raise_to(&c->levels, block + 1, SD_MAX_LEVELS);
    if (strcmp(kind, "resnets") == 0) raise_to(down ? &c->down[block] : &c->up[block], i + 1, SD_MAX_LAYERS);
    if (strcmp(kind, "attentions") == 0)
        raise_to(down ? &c->attention[block] : &c->up_attention[block], k + 1, 100);
}

static void count_name(counts c[2], int *layers, const char *name)
{
    int layer;
    for (const char *at = name; *at; at += strcspn(at, ".") + (at[strcspn(at, ".")] == '.')) {
        bool coder = sd_begins_with(at, "decoder.") || sd_begins_with(at, "encoder.");
        const char *rest = coder ? at + strlen("decoder.") : at;
        if (sd_begins_with(rest, "down_blocks.") || sd_begins_with(rest, "up_blocks.")) {
            count_block(&c[coder ? VAE : UNET], rest);
            return;
        }
        if (sd_begins_with(rest, "mid_block.attentions.0")) c[coder ? VAE : UNET].mid_attention = 1;
        if (coder && sscanf(rest, "layers.%d", &layer) == 1) raise_to(layers, layer + 1, 1000);
    }
}

/* Widths do not count, but must differ, so that shortcuts with weights are among the modules. */
static bool make_unet(sd_unet_config *u, const counts *c)
{
    *u = (sd_unet_config){.in_channels = 4, .out_channels = 4, .levels = c->levels, .groups = 1, .context_dim = 8,
                          .add_in_dim = 8, .add_time_dim = 1};
    u->mid = c->mid_attention ? SD_MID_ATTENTION : SD_MID_RESNET;
    u->mid_depth = 100;
    for (int i = 0; i < c->levels; i++) {
        int up = c->levels - 1 - i;
        u->channels[i] = i + 1;
        u->layers[i] = c->down[i] ? c->down[i] : c->up[up] > 1 ? c->up[up] - 1 : 2;
        u->depth[i] = c->attention[i];
        u->up_depth[i] = c->up_attention[up];
        u->heads[i] = 1;
    }
    return c->levels > 0;
}

static bool make_vae(sd_vae_config *v, const counts *c)
{
    *v = (sd_vae_config){.in_channels = 3, .out_channels = 3, .latent_channels = 4, .levels = c->levels, .groups = 1,
                         .mid_attention = true, .quant_conv = true, .post_quant_conv = true};
    for (int i = 0; i < c->levels; i++) {
        v->channels[i] = i + 1;
        raise_to(&v->layers, c->down[i], SD_MAX_LAYERS);
        raise_to(&v->layers, c->up[i] - 1, SD_MAX_LAYERS);
    }
    return c->levels > 0 && v->layers > 0;
}

/* -------------------------------------------------------------------------------------- names of modules */

static void add(table *t, const char *ldm, size_t m, const char *hf, size_t n, const char *last, sd_error *e)
{
    sd_text a = {0}, b = {0};
    module *list = sd_grow(t->list, t->n, &t->cap, 256, sizeof *list);
    sd_text_addn(&a, ldm, m);
    sd_text_addn(&b, hf, n);
    if (list) t->list = list;
    char *plain = list && !a.failed && !b.failed ? sd_plain_name(b.s) : NULL, *copy = last ? sd_strdup(last) : NULL;
    free(b.s);
    if (plain && (copy || !last)) {
        t->list[t->n++] = (module){a.s, plain, copy};
        return;
    }
    free(a.s);
    free(plain);
    free(copy);
    sd_fail(e, SD_ERR_MEMORY, "no memory for the names of modules");
}

static void add_pair(table *t, const char *ldm, const char *hf, sd_error *e)
{
    add(t, ldm, strlen(ldm), hf, strlen(hf), NULL, e);
}

/* A layer of OpenCLIP's text encoder, and its activation, from their first product: x.mlp.c_fc. */
static void add_layer(table *t, const char *ldm, size_t m, const char *hf, size_t n, sd_error *e)
{
    static const char first[] = ".mlp.c_fc", ours[] = ".mlp.fc1";
    sd_text a = {0}, b = {0};
    if (m < strlen(first) || memcmp(ldm + m - strlen(first), first, strlen(first)) != 0) return;
    m -= strlen(first);
    n -= strlen(ours);
    add(t, ldm, m, hf, n, NULL, e);
    sd_text_add(&a, "%.*s.mlp.gelu", (int)m, ldm);
    sd_text_add(&b, "%.*s.mlp.activation_fn", (int)n, hf);
    if (a.failed || b.failed) sd_fail(e, SD_ERR_MEMORY, "no memory for the names of modules");
    else add_pair(t, a.s, b.s, e);
    free(a.s);
    free(b.s);
}

/* Modules that have weights. */
static void add_weights(table *t, const sd_binder *b, sd_error *e)
{
    static const char weight[] = ".weight";
    for (size_t i = 0; i < b->n_weights && !e->status; i++) {
        const char *ldm = b->weight[i].ldm, *hf = b->weight[i].path;
        if (!sd_ends_with(ldm, weight) || !sd_ends_with(hf, weight)) continue;
        size_t m = strlen(ldm) - strlen(weight), n = strlen(hf) - strlen(weight);
        add(t, ldm, m, hf, n, NULL, e);
        add_layer(t, ldm, m, hf, n, e);
    }
}

/* Steps, and the containers whose result is that of their last step. */
static void add_steps(table *t, const sd_net_steps *p, sd_error *e)
{
    for (int i = p->n; i-- > 0 && !e->status;) {
        const sd_step *s = &p->step[i];
        add_pair(t, s->ldm, s->hf, e);
        for (size_t n = strlen(s->ldm); n-- > 0;) {
            bool known = s->ldm[n] != '.';
            for (size_t k = 0; k < t->n && !known; k++)
                known = strlen(t->list[k].ldm) == n && memcmp(t->list[k].ldm, s->ldm, n) == 0;
            if (!known) add(t, s->ldm, n, s->hf, strlen(s->hf), s->ldm, e);
        }
    }
}

/* Modules without weights. */
static const char *const weightless[][2] = {
    {"time_embed.1", "time_embedding.act"}, {"time_embed", "time_embedding"}, {"label_emb.0.1", "add_embedding.act"},
    {"label_emb.0", "add_embedding"}, {"out.1", "conv_act"},
};

static int by_ldm(const void *a, const void *b)
{
    const module *x = a, *y = b;
    int order = strcmp(x->ldm, y->ldm);
    return order ? order : (x->last != NULL) - (y->last != NULL);
}

/* Of a module under several names the first counts, a container last. */
static void sort(table *t)
{
    size_t n = 0;
    if (t->n) qsort(t->list, t->n, sizeof *t->list, by_ldm);
    for (size_t i = 0; i < t->n; i++) {
        if (n && strcmp(t->list[n - 1].ldm, t->list[i].ldm) == 0) {
            free(t->list[i].ldm);
            free(t->list[i].hf);
            free(t->list[i].last);
        } else {
            t->list[n++] = t->list[i];
        }
    }
    t->n = n;
}

static void make_unet_table(table *t, const counts *c, sd_error *e)
{
    sd_unet_config config;
    sd_unet_net net;
    sd_binder b = {.err = e};
    if (!make_unet(&config, c) || sd_unet_walk(&net, &config, e)) return;
    if (!sd_unet_bind(&net, &b)) {
        add_weights(t, &b, e);
        add_steps(t, &net.net.steps, e);
        for (size_t i = 0; i < SD_COUNT(weightless); i++) add_pair(t, weightless[i][0], weightless[i][1], e);
    }
    sd_binder_free(&b);
    sd_unet_free(&net);
}

static void make_vae_table(table *t, const counts *c, sd_error *e)
{
    sd_vae_config config;
    sd_vae vae;
    sd_binder b = {.err = e};
    if (!make_vae(&config, c) || sd_vae_walk(&vae, &config, e)) return;
    if (!sd_vae_bind(&vae, &b)) {
        add_weights(t, &b, e);
        add_steps(t, &vae.encoder.steps, e);
        add_steps(t, &vae.decoder.steps, e);
    }
    sd_binder_free(&b);
    sd_vae_free(&vae);
}

static void make_text_table(table *t, int layers, sd_error *e)
{
    const sd_clip_config config = {.vocab = 1, .positions = 1, .width = 1, .heads = 1, .layers = layers, .ff = 1,
                                   .projection = 1};
    sd_clip clip;
    sd_binder b = {.err = e};
    if (!layers) return;
    if (!sd_clip_bind(&clip, &config, &b)) add_weights(t, &b, e);
    sd_binder_free(&b);
    sd_clip_free(&clip);
}

static sd_status make_tables(tables *t, const sd_names *diffusers, sd_error *e)
{
    counts c[2] = {{.levels = 0}, {.levels = 0}};
    int layers = 0;
    for (size_t i = 0; i < diffusers->n; i++) count_name(c, &layers, diffusers->name[i]);
    make_unet_table(&t->of[UNET], &c[UNET], e);
    if (!e->status) make_vae_table(&t->of[VAE], &c[VAE], e);
    if (!e->status) make_text_table(&t->of[TEXT], layers, e);
    for (int i = 0; i < 3; i++) sort(&t->of[i]);
    return e->status;
}

static void free_tables(tables *t)
{
    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < t->of[k].n; i++) {
            free(t->of[k].list[i].ldm);
            free(t->of[k].list[i].hf);
            free(t->of[k].list[i].last);
        }
        free(t->of[k].list);
    }
}

/* -------------------------------------------------------------------------------------------- a name */

static const module *find(const table *t, const char *name, size_t n)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strncmp(t->list[mid].ldm, name, n);
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    return low < t->n && strlen(t->list[low].ldm) == n && memcmp(t->list[low].ldm, name, n) == 0 ? &t->list[low] : NULL;
}

/* The module that a path is, or the innermost one that it is in; *n: how many letters of the path name that. */
static const module *module_of(const table *t, const char *path, size_t *n)
{
    for (*n = strlen(path); *n; --*n) {
        if (path[*n] && path[*n] != '.') continue;
        const module *m = find(t, path, *n);
        if (m && (!m->last || !path[*n])) return m;
    }
    return NULL;
}

/* Does the list have the module whose result a container hands on? */
static bool has_last(const sd_names *sorted, const char *name, size_t head, const module *m)
{
    sd_text t = {0};
    sd_text_add(&t, "%.*s%s", (int)head, name, m->last);
    bool found = !t.failed && sd_has_name(sorted->name, sorted->n, t.s);
    free(t.s);
    return found;
}

static char *put_together(const char *name, size_t head, const char *root, const char *is, const char *rest)
{
    sd_text t = {0};
    bool number = head && strspn(name, "0123456789") == head - 1;   /* "3.model.diffusion_model." is of step 3 */
    sd_text_add(&t, "%s%.*s%s%s%s", number ? "step." : "", (int)head, name, root, is, rest);
    if (!t.failed) return t.s;
    free(t.s);
    return NULL;
}

/* diffusers' name; NULL: it stays as it is. */
static char *diffusers_name(const tables *t, const sd_names *sorted, const char *name)
{
    static const char *const ours[2][3] = {{"unet.", "vae.", "text_encoder."}, {"unet.", "vae.", "text_encoder_2."}};
    unsigned part;
    int index;
    size_t length, n;
    const char *root = sd_root_find(name, &part, &index, &length);
    int k = !root ? UNET : part == SD_PART_UNET ? UNET : part == SD_PART_VAE ? VAE : TEXT;
    if (root) {
        const char *path = root + length;
        const module *m = module_of(&t->of[k], path, &n);
        size_t head = (size_t)(path - name);
        if (m && m->last && has_last(sorted, name, head, m)) m = NULL;
        return put_together(name, (size_t)(root - name), ours[index][k], m ? m->hf : "", m ? path + n : path);
    }
    for (const char *at = name; *at; at += strcspn(at, ".") + (at[strcspn(at, ".")] == '.'))
        for (k = UNET; k <= TEXT; k++) {
            const module *m = module_of(&t->of[k], at, &n);
            if (!m || (strcmp(m->ldm, m->hf) == 0 && !at[n])) continue;
            if (m->last && has_last(sorted, name, (size_t)(at - name), m)) continue;
            return put_together(name, (size_t)(at - name), "", m->hf, at + n);
        }
    return NULL;
}

/* Is this one of CompVis' or OpenCLIP's names? */
static bool is_foreign(const char *name)
{
    static const char *const marks[] = {"input_blocks", "output_blocks", "middle_block", "time_embed", "resblocks",
                                        "first_stage_model", "cond_stage_model", "diffusion_model", "conditioner",
                                        "block_1", "attn_1"};
    for (size_t i = 0; i < SD_COUNT(marks); i++) {
        const char *at = strstr(name, marks[i]);
        if (at && (at == name || at[-1] == '.') && (!at[strlen(marks[i])] || at[strlen(marks[i])] == '.')) return true;
    }
    return false;
}

sd_status sd_ldm_names(sd_names *names, const sd_names *diffusers, sd_error *e)
{
    bool any = false;
    for (size_t i = 0; i < names->n; i++) any |= is_foreign(names->name[i]);
    if (!any || e->status) return e->status;
    tables t = {.of = {{.n = 0}}};
    sd_names sorted = {sd_sorted_names(names, e), names->n};
    char **now = calloc(names->n + 1, sizeof *now);
    if (!now) sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu names", names->n);
    if (!e->status && !make_tables(&t, diffusers, e))
        for (size_t i = 0; i < names->n; i++) now[i] = diffusers_name(&t, &sorted, names->name[i]);
    for (size_t i = 0; now && i < names->n; i++) {
        if (!now[i]) continue;
        free(names->name[i]);
        names->name[i] = now[i];
    }
    free(now);
    free(sorted.name);
    free_tables(&t);
    return e->status;
}
