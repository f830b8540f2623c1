/* pipeline_plan.c - floor 6: the unrolled networks as text or JSON, from the same steps, tables and forward functions
 * that run them. Shapes come from the null backend, so they are always those that are computed. No weights are read. */
#include "bands.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

/* One network, walked. */
typedef struct row {
    sd_tensor out;
    double flops;
} row;

/* Convolutions of one shape in a network. */
typedef struct conv_row {
    int64_t kernel, ci, co, h, w;   /* h, w: of the result */
    int stride, count;
    bool enlarge;                   /* the picture is enlarged to twice its size first */
    double flops;                   /* of all of them together, by the plain sum */
    sd_conv_how how;
} conv_row;

typedef struct report {
    sd_error *e;
    sd_text *t;
    bool json;
    sd_run run;
    sd_cpu cpu;
    row *rows;         /* of the network being walked, one per step */
    double last_flops;
    conv_row *convs;   /* of that network, in the order in which shapes first appear */
    int n_convs;
    int sections;
} report;

static const char *const kind_names[] = {
    [SD_STEP_CONV_IN] = "conv_in", [SD_STEP_RES] = "res", [SD_STEP_ATTN] = "attn", [SD_STEP_VAE_ATTN] = "attn",
        [SD_STEP_DOWN] = "down",
    [SD_STEP_UP] = "up", [SD_STEP_NORM_OUT] = "norm_out", [SD_STEP_CONV_OUT] = "conv_out", [SD_STEP_CONV1] = "conv1x1",
    [SD_STEP_TINY] = "block", [SD_STEP_RELU] = "relu"};

static void watch(void *user, int step, sd_tensor y)
{
    report *r = user;
    r->rows[step] = (row){y, r->run.flops - r->last_flops};
    r->last_flops = r->run.flops;
}

/* The plan describes the CPU backend with vectors, whatever this machine has. The choice of an algorithm depends on
 * shapes and on whether the kernels have Winograd's transforms (those of --precise do not). */
static const sd_kern vector_kernels = {.winograd = &(const sd_winograd){0, 0, 0, NULL, NULL, NULL}};
static const sd_cpu vector_cpu = {.kern = &vector_kernels};

static void note_conv(sd_run *run, sd_tensor y, sd_tensor x, const sd_tensor *w, const sd_tensor *b, sd_conv c)
{
    report *r = run->watch_user;
    (void)b;
    conv_row now = {.kernel = w->dim[2], .ci = w->dim[1], .co = w->dim[0], .h = y.dim[1], .w = y.dim[2],
                    .stride = c.stride, .enlarge = c.enlarge, .how = sd_backend_cpu.describe(run, x.dim, w->dim, c)};
    int i = 0;
    while (i < r->n_convs && (r->convs[i].kernel != now.kernel || r->convs[i].ci != now.ci || r->convs[i].co != now.co
                              || r->convs[i].h != now.h ||
                              r->convs[i].w != now.w || r->convs[i].stride != now.stride
                                  || r->convs[i].enlarge != now.enlarge)) i++;
    if (i == r->n_convs) {
        conv_row *more = realloc(r->convs, (size_t)(r->n_convs + 1) * sizeof *more);
        if (!more) {
            sd_fail(r->e, SD_ERR_MEMORY, "no memory for a plan");
            return;
        }
        r->convs = more;
        r->convs[r->n_convs++] = now;
    }
    r->convs[i].count++;
    r->convs[i].flops += 2.0 * (double)sd_numel(&y) * (double)(w->dim[1] * w->dim[2] * w->dim[3]);
}

static const sd_backend noting_backend = {.name = "plan", .conv2d = note_conv};

static bool begin_walk(report *r, const sd_net *n)
{
    r->run = (sd_run){.err = r->e, .be = &noting_backend, .device = &r->cpu, .watch = watch, .watch_user = r};
    r->cpu = vector_cpu;
    r->last_flops = 0;
    r->n_convs = 0;
    r->rows = calloc((size_t)(n ? n->steps.n : 1), sizeof *r->rows);
    if (!r->rows) sd_fail(r->e, SD_ERR_MEMORY, "no memory for a plan");
    return r->e->status == SD_OK;
}

/* ---- writing */

static void head(report *r, const char *name, const sd_binder *b)
{
    if (r->json)
        sd_text_add(r->t, "%s\"%s\":{\"tensors\":%zu,\"parameters\":%zu,\"flops\":%.0f,\"arena_bytes\":%zu",
                    r->sections++ ? "," : "", name,
                    b->tensors, b->params, r->run.flops, r->run.arena.peak);
    else
        sd_text_add(r->t, "%s%s: %zu tensors, %zu parameters, %.1f GFLOP for one sample, %.1f MB of activations\n",
                    r->sections++ ? "\n" : "", name,
                    b->tensors, b->params, r->run.flops / 1e9, (double)r->run.arena.peak / 1e6);
}

static void write_row(report *r, const sd_step *s, size_t params, const row *w, int i)
{
    const int64_t *d = w->out.dim;
    if (r->json) {
        sd_text_add(r->t, "%s{\"kind\":\"%s\",\"name\":\"%s\",\"ldm\":\"%s\",\"in\":%d,"
                    "\"out\":[%lld,%lld,%lld,%lld],\"parameters\":%zu,\"flops\":%.0f",
                    i ? "," : "", kind_names[s->kind], s->hf, s->ldm, s->ci, (long long)d[0], (long long)d[3],
                        (long long)d[1], (long long)d[2],
                    params, w->flops);
        if (s->depth) sd_text_add(r->t, ",\"depth\":%d,\"heads\":%d", s->depth, s->heads);
        if (s->skip) sd_text_add(r->t, ",\"pop\":%d", s->skip);
        sd_text_add(r->t, "%s}", s->push ? ",\"push\":true" : "");
        return;
    }
    char note[48] = "";
    if (s->depth) snprintf(note, sizeof note, "%d block%s, %d heads", s->depth, s->depth > 1 ? "s" : "", s->heads);
    if (s->skip) snprintf(note, sizeof note, "joins %d", s->skip);
    sd_text_add(r->t, "  %3d %-8s %-42s %5d -> %5lld x %4lld x %-4lld %12zu %9.2f %s %s\n", i, kind_names[s->kind],
                s->hf, s->ci, (long long)d[3],
                (long long)d[1], (long long)d[2], params, w->flops / 1e9, s->push ? "push" : "    ", note);
}

static void write_convs(report *r, const char *part)
{
    double saved = 0;
    for (int i = 0; i < r->n_convs; i++) saved += r->convs[i].flops * (1 - r->convs[i].how.share);
    if (r->json)
        sd_text_add(r->t, ",\"%s%sflops_done\":%.0f,\"%s%sconvolutions\":[", part, *part ? "_" : "",
                    r->run.flops - saved, part, *part ? "_" : "");
    else sd_text_add(r->t, "  %-13s %5s -> %5s x %4s x %-4s %-20s %9s %s\n", "convolutions", "in", "out", "h", "w",
                     "algorithm", "GFLOP", "multiplications done");
    for (int i = 0; i < r->n_convs; i++) {
        const conv_row *c = &r->convs[i];
        if (r->json)
            sd_text_add(r->t, "%s{\"count\":%d,\"kernel\":%lld,\"stride\":%d,\"enlarge\":%s,"
                        "\"in\":%lld,\"out\":[1,%lld,%lld,%lld],\"algorithm\":\"%s\",\"flops\":%.0f,\"share\":%.4f}",
                        i ? "," : "", c->count, (long long)c->kernel, c->stride, c->enlarge ? "true" : "false",
                            (long long)c->ci, (long long)c->co, (long long)c->h, (long long)c->w,
                        c->how.name, c->flops, c->how.share);
        else
            sd_text_add(r->t, "  %3d of %lldx%lld%s %5lld -> %5lld x %4lld x %-4lld %-20s %9.2f %.3f\n", c->count,
                        (long long)c->kernel, (long long)c->kernel,
                        c->stride > 1 ? " /2" : c->enlarge ? " *2" : "   ", (long long)c->ci, (long long)c->co,
                            (long long)c->h, (long long)c->w, c->how.name, c->flops / 1e9, c->how.share);
    }
    if (r->json) sd_text_add(r->t, "]");
    else sd_text_add(r->t, "  all layers: %.1f GFLOP by the plain sums, %.1f by these algorithms\n", r->run.flops / 1e9,
                     (r->run.flops - saved) / 1e9);
}

static void write_steps(report *r, const char *key, const sd_net *n)
{
    if (r->json) sd_text_add(r->t, ",\"%s\":[", key);
    else sd_text_add(r->t, "  %3s %-8s %-42s %5s -> %5s x %4s x %-4s %12s %9s\n", "", "kind", key, "in", "out", "h",
                     "w", "parameters", "GFLOP");
    for (int i = 0; i < n->steps.n; i++) write_row(r, &n->steps.step[i], n->w[i].params, &r->rows[i], i);
    if (r->json) sd_text_add(r->t, "]");
    free(r->rows);
    r->rows = NULL;
    write_convs(r, strcmp(key, "steps") == 0 ? "" : key);
}

/* ---- networks */

static void plan_unet(report *r, const sd_unet_config *c, int h, int w)
{
    sd_binder b = {.err = r->e};
    sd_unet_net u;
    if (!sd_unet_walk(&u, c, r->e) && !sd_unet_bind(&u, &b) && begin_walk(r, &u.net)) {
        sd_cond cond = sd_unet_blank(c, 1, SD_TOKENS);
        sd_unet_in in = {.latents = sd_new4(&r->run, 1, h, w, c->in_channels), .cond = &cond};
        sd_unet_forward(&r->run, &u, &in);
        head(r, "unet", &b);
        write_steps(r, "steps", &u.net);
        if (r->json) sd_text_add(r->t, "}");
    }
    sd_unet_free(&u);
    sd_binder_free(&b);
}

/* What a network takes in bands: for a half of its memory, a quarter, and so on down to the least. */
static void write_bands(report *r, const char *part, const sd_net *n, const int64_t x[4])
{
    const sd_run vectors = {.err = r->e, .be = &sd_backend_cpu, .device = &r->cpu};
    size_t whole = r->run.arena.peak, last = 0;
    int written = 0;
    if (r->json) sd_text_add(r->t, ",\"%s_bands\":[", part);
    for (size_t budget = whole / 2; budget > 0 && !r->e->status; budget /= 2) {
        sd_bands b;
        if (sd_bands_plan(&b, &vectors, n, x, budget, r->e)) break;
        bool better = b.piece && b.bytes < whole && b.bytes != last;
        double times = b.piece ? b.work / b.whole : 1;
        if (better && r->json)
            sd_text_add(r->t, "%s{\"bytes\":%zu,\"work\":%.3f}", written++ ? "," : "", b.bytes, times);
        else if (better)
            sd_text_add(r->t, "  %s in bands: %.1f MB of activations, %.2f times the multiplications\n", part,
                        (double)b.bytes / 1e6, times);
        last = b.bytes;
        bool least = b.bytes > budget;
        sd_bands_free(&b);
        if (least) break;
    }
    if (r->json) sd_text_add(r->t, "]");
}

static void plan_vae(report *r, const sd_vae_config *c, int h, int w)
{
    sd_binder b = {.err = r->e};
    sd_vae v;
    if (!sd_vae_walk(&v, c, r->e) && !sd_vae_bind(&v, &b)) {
        int scale = sd_vae_scale(c);
        if (begin_walk(r, &v.decoder)) {
            sd_vae_decoder(&r->run, &v, sd_new4(&r->run, 1, h, w, c->latent_channels));
            head(r, "vae", &b);
            write_steps(r, "decoder", &v.decoder);
            write_bands(r, "decoder", &v.decoder, (const int64_t[]){1, h, w, c->latent_channels});
        }
        if (r->e->status == SD_OK && begin_walk(r, &v.encoder)) {
            sd_vae_encoder(&r->run, &v, sd_new4(&r->run, 1, (int64_t)h * scale, (int64_t)w * scale, c->in_channels));
            if (r->json)
                sd_text_add(r->t, ",\"encoder_flops\":%.0f,\"encoder_arena_bytes\":%zu", r->run.flops,
                            r->run.arena.peak);
            write_steps(r, "encoder", &v.encoder);
            write_bands(r, "encoder", &v.encoder,
                        (const int64_t[]){1, (int64_t)h * scale, (int64_t)w * scale, c->in_channels});
        }
        if (r->json) sd_text_add(r->t, "}");
    }
    sd_vae_free(&v);
    sd_binder_free(&b);
}

static void plan_clip(report *r, const sd_clip_config *c, int index)
{
    sd_binder b = {.err = r->e};
    sd_clip net;
    int32_t ids[SD_TOKENS] = {0};
    if (!sd_clip_bind(&net, c, &b) && begin_walk(r, NULL)) {
        const sd_clip_output all = {.final_norm = true};
        sd_clip_forward(&r->run, &net, ids, 1, SD_TOKENS, &all, NULL, NULL);
        head(r, index ? "text_encoder_2" : "text_encoder", &b);
        if (r->json) {
            sd_text_add(r->t, ",\"layers\":%d,\"width\":%d,\"heads\":%d}", c->layers, c->width, c->heads);
        } else {
            sd_text_add(r->t, "  %d layers of width %d, %d heads, %d in the middle, %s, %d tokens -> [1,%d,%d]\n",
                        c->layers, c->width, c->heads, c->ff,
                        c->act == SD_ACT_GELU ? "gelu" : "quick_gelu", c->vocab, SD_TOKENS, c->width);
        }
        free(r->rows);
        r->rows = NULL;
    }
    sd_clip_free(&net);
    sd_binder_free(&b);
}

/* ---- what to plan */

/* What a published family is drawn with. */
static void head_of_family(report *r, const sd_family *f, int width, int height)
{
    sd_text_add(r->t, "\"family\":\"%s\",\"title\":\"%s\",\"size\":[%d,%d],\"steps\":%d,\"guidance\":%g",
                f->name, f->title, width, height, f->steps, f->guidance);
    r->sections++;
}

static sd_status read_directory(sd_family *f, const char *dir, sd_error *e)
{
    char path[4096];
    if (sd_path_join(path, sizeof path, dir, "unet/config.json", e) || sd_unet_config_read(&f->unet, path, e))
        return e->status;
    if (sd_path_join(path, sizeof path, dir, "vae/config.json", e) || sd_vae_config_read(&f->vae, path, e))
        return e->status;
    static const char *const text[] = {"text_encoder/config.json", "text_encoder_2/config.json"};
    for (int i = 0; i < 2; i++) {
        if (sd_path_join(path, sizeof path, dir, text[i], e)) return e->status;
        if (sd_is_file(path) && sd_clip_config_read(&f->clip[f->n_clip++], path, e)) return e->status;
    }
    return SD_OK;
}

/* The networks of a file of weights, by their names and shapes. */
static sd_status take_networks(sd_family *f, const sd_recognised *r, const char *path, sd_error *e)
{
    const sd_network *unet = sd_recognised_network(r, SD_PART_UNET, 0), *vae = sd_recognised_network(r, SD_PART_VAE, 0);
    const sd_network *text;
    if (!unet) return sd_fail(e, SD_ERR_MISSING, "%s has no UNet: it is %s %s", path,
                              sd_article(r->kind_name), r->kind_name);
    if (!unet->has_config)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: the shapes of its UNet are those of no family that is known", path);
    f->unet = unet->unet;
    if (vae && vae->has_config) f->vae = vae->vae;
    while (f->n_clip < 2 && (text = sd_recognised_network(r, SD_PART_TEXT, f->n_clip)) != NULL && text->has_config)
        f->clip[f->n_clip++] = text->clip;
    return SD_OK;
}

static sd_status read_weights(sd_family *f, const char *path, sd_error *e)
{
    sd_store s;
    sd_recognised *r = NULL;
    if (sd_store_open_file(&s, path, e)) return e->status;
    r = calloc(1, sizeof *r);
    if (!r) sd_fail(e, SD_ERR_MEMORY, "no memory to look at %s", path);
    else if (!sd_recognise(&s, r, e)) take_networks(f, r, path, e);
    if (r) sd_recognised_free(r);
    free(r);
    sd_store_close(&s);
    return e->status;
}

static bool is_json(const char *path)
{
    return sd_ends_with(path, ".json") && !sd_ends_with(path, ".index.json");   /* that is a list of shards */
}

static sd_status find_family(sd_family *f, const char *what, sd_error *e)
{
    const sd_family *known = sd_family_find(what);
    char names[SD_FAMILY_NAMES];
    memset(f, 0, sizeof *f);
    if (known && known->refusal) return sd_fail(e, SD_ERR_UNSUPPORTED, "%s: %s", what, known->refusal);
    if (known) *f = *known;
    else if (sd_find_dir(what, e)) read_directory(f, what, e);
    else if (e->status) return e->status;
    else if (sd_is_file(what) && !is_json(what)) read_weights(f, what, e);
    else if (sd_is_file(what)) sd_unet_config_read(&f->unet, what, e);
    else sd_fail(e, SD_ERR_ARG,
                 "\"%.200s\" is neither a configuration (%s), a model nor a UNet's config.json", what,
                     sd_family_names(names));
    return e->status;
}

static sd_status latent_size(int *size, int pixels, int native, int scale, sd_error *e)
{
    if (pixels < 0 || pixels > 8192 * scale || pixels % scale)
        return sd_fail(e, SD_ERR_ARG, "a side must be a multiple of %d up to %d pixels, not %d", scale, 8192 * scale,
                       pixels);
    *size = pixels ? pixels / scale : native;
    return SD_OK;
}

sd_status sd_plan(const char *model_or_config, int width, int height, int json, char **text, char error[512])
{
    sd_error e = {0};
    sd_text t = {0};
    sd_family f;
    int h = 0, w = 0;
    if (error) *error = 0;
    if (!text) return SD_ERR_ARG;
    if (width == SD_DEFAULT) width = 0;
    if (height == SD_DEFAULT) height = 0;
    *text = NULL;
    if (!model_or_config) sd_fail(&e, SD_ERR_ARG, "the model or configuration to plan must not be NULL");
    if (!e.status && !find_family(&f, model_or_config, &e)) {
        int scale = f.vae.levels ? sd_vae_scale(&f.vae) : 8;
        if (!latent_size(&w, width, f.unet.width, scale, &e) && !latent_size(&h, height, f.unet.height, scale, &e)) {
            report r = {.e = &e, .t = &t, .json = json != 0};
            if (json) sd_text_add(&t, "{");
            if (json && f.name) head_of_family(&r, &f, w * scale, h * scale);
            plan_unet(&r, &f.unet, h, w);
            if (f.vae.levels) plan_vae(&r, &f.vae, h, w);
            for (int i = 0; i < f.n_clip; i++) plan_clip(&r, &f.clip[i], i);
            if (json) sd_text_add(&t, "}\n");
            free(r.rows);
            free(r.convs);
        }
    }
    if (t.failed) sd_fail(&e, SD_ERR_MEMORY, "no memory for a plan");
    if (e.status) free(t.s);
    else *text = t.s;
    if (error) snprintf(error, 512, "%s", e.text);
    return e.status;
}
