/* selftest_networks.c - floor 6: small models of every family, from text to picture, with the kernels of every
 * instruction set and on every device, against diffusers in float64; and the same bits with any number of threads.
 *
 * Their weights are made by a formula and written as files, which are opened as any model is. A file of share/selftest
 * describes a model and its cases; tools/golden_selftest.py explains it. */
#include "selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const models[] = {
    "sd15", "sd15-inpaint", "instruct-pix2pix", "lcm", "tiny-sd", "sd21", "sd2-depth", "x4-upscaler", "sdxl",
    "sdxl-inpaint", "sdxl-refiner", "ssd-1b", "taesd"};
enum { CASES = 12, FILES = 24, MOST_BATCH = 4, HASHES = 1 << 15 };

typedef struct small_case {
    char name[32], kind[16], what[48];   /* what: "sd15 unet" */
    const char *settings;
} small_case;

/* The tensors of one run, in order, each with a hash: to tell two runs apart. */
typedef struct hashes {
    uint64_t *of;
    size_t n, seen;
    char differs[160];     /* the first tensor that is not the same */
} hashes;

typedef struct small {
    sd_selftest_run *s;
    const char *name;
    sd_description d;      /* what the texts below point into */
    const char *prompt, *negative;
    small_case cases[CASES];
    int n;
    char description[4096], dir[4096];
    char *file[FILES];     /* that were written, below dir */
    int files;
    sd_golden golden;
    const small_case *now;
    sd_check_row *row;     /* where it is noted; NULL: nothing is */
    hashes *hashes;        /* that are taken instead; NULL: none */
    uint64_t result;       /* a hash of what the run gave back */
    int side, steps;       /* of whole runs, in pixels; 0: as the case says */
} small;

/* ------------------------------------------------------------------------------------ its description */

static bool read_case(small *m, char *rest)
{
    small_case *c = &m->cases[m->n];
    int used = 0;
    if (m->n == CASES || sscanf(rest, "%31s %15s%n", c->name, c->kind, &used) != 2) return false;
    c->settings = rest + used;
    char what[sizeof c->what];
    snprintf(what, sizeof what, "%.20s %.26s", m->name, c->name);
    memcpy(c->what, what, sizeof what);
    m->n += sd_check_wanted(m->s, "networks", c->what);
    return true;
}

/* Everything before the first file. */
static sd_status read_head(small *m, sd_error *e)
{
    char *word, *rest;
    if (sd_describe(&m->d, m->description, e)) return e->status;
    while ((word = sd_next_item(&m->d, &rest)) && strcmp(word, "file") != 0) {
        if (strcmp(word, "prompt") == 0) m->prompt = rest;
        if (strcmp(word, "negative") == 0) m->negative = rest;
        if (strcmp(word, "case") == 0 && !read_case(m, rest))
            return sd_fail(e, SD_ERR_FORMAT, "%s: no case: %.60s", m->description, rest);
    }
    return SD_OK;
}

static void note_file(void *user, const char *name)
{
    small *m = user;
    if (m->files < FILES && (m->file[m->files] = sd_strdup(name)) != NULL) m->files++;
}

/* Files, then the directories that they were in. */
static void remove_files(small *m)
{
    char path[4096];
    for (int directories = 0; directories < 2; directories++)
        for (int i = 0; i < m->files; i++) {
            snprintf(path, sizeof path, "%.2000s/%.1000s", m->dir, m->file[i]);
            char *slash = strrchr(path, '/');
            if (directories) *slash = 0;
            if (strlen(path) > strlen(m->dir)) remove(path);
        }
    remove(m->dir);
    for (int i = 0; i < m->files; i++) free(m->file[i]);
}

/* ------------------------------------------------------------------------------ what the run shows */

static void compare(small *m, const char *name, int nd, const int64_t *dim, const float *x)
{
    char whole[200];
    snprintf(whole, sizeof whole, "%s.%s", m->now->name, name);
    sd_golden_result r = sd_golden_compare(&m->golden, whole, nd, dim, x);
    if (r.found && !r.same_shape) sd_check_note(m->row, INFINITY, "%s has another shape", name);
    else if (r.found) sd_check_note(m->row, r.ratio, "%s: error %.2e, bound %.2e", name, r.error, r.bound);
}

/* Of n words of 32 bits. */
static uint64_t hash_of(uint64_t x, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, (const char *)data + 4 * i, sizeof bits);
        x = (x ^ bits) * UINT64_C(0x100000001B3);
        x ^= x >> 29;
    }
    return x;
}

static void take_hash(hashes *h, const char *name, const void *data, size_t n)
{
    uint64_t x = hash_of(0, data, n);
    if (h->seen < h->n && h->of[h->seen] != x && !*h->differs) snprintf(h->differs, sizeof h->differs, "%s", name);
    if (h->seen == h->n && h->n < HASHES) h->of[h->n++] = x;
    h->seen++;
}

static void see(void *user, const sd_traced *t)
{
    small *m = user;
    size_t n = sd_traced_numbers(t);
    if (t->dtype != SD_F32 || !t->data) return;
    if (m->hashes) take_hash(m->hashes, t->name, t->data, n);
    else compare(m, t->name, t->nd, t->dim, t->data);
}

/* ------------------------------------------------------------------------------------- one network */


static float *optional_input(small *m, const char *name)
{
    sd_error e = {0};
    int64_t dim[4];
    return sd_synth_input(m->description, name, dim, &e);
}

static sd_status run_unet(small *m, sd_ctx *c)
{
    sd_error e = {0};
    int64_t dim[4];
    float t[2], ids[12] = {0}, *out = NULL;
    float *latents = sd_synth_input(m->description, "latents", dim, &e), *context = optional_input(m, "context"),
        *pooled = optional_input(m, "pooled");
    bool read = sd_golden_read(&m->golden, "timesteps", t, 2);
    const sd_entry *stored = sd_golden_entry(&m->golden, "ids", "");
    if (stored) read = read && stored->bytes <= sizeof ids && sd_golden_read(&m->golden, "ids", ids, stored->bytes / 4);
    if (latents) out = malloc((size_t)(dim[0] * dim[1] * dim[2] * dim[3]) * sizeof *out);
    sd_status status = SD_ERR_MEMORY;
    if (out && context && read) {
        const sd_unet_input in = {.size = sizeof in, .batch = (int)dim[0], .h = (int)dim[2], .w = (int)dim[3],
                                  .sample = latents, .timestep = t, .encoder_hidden_states = context,
                                  .text_embeds = pooled, .time_ids = pooled ? ids : NULL};
        status = sd_unet_evaluate(c, &in, out);
        if (!status) m->result = hash_of(0, out, (size_t)(dim[0] * dim[1] * dim[2] * dim[3]));
    }
    free(latents);
    free(context);
    free(pooled);
    free(out);
    return status;
}

static sd_status run_vae(small *m, sd_ctx *c, bool encodes)
{
    sd_error e = {0};
    int64_t dim[4];
    float *x = sd_synth_input(m->description, encodes ? "picture" : "vae_latents", dim, &e);
    int n = (int)dim[0], h = (int)dim[2], w = (int)dim[3];
    if (!x) return SD_ERR_MISSING;
    if (encodes) h /= 8, w /= 8;
    size_t latents = (size_t)(n * 4 * h * w), pixels = (size_t)(n * 3 * 64 * h * w);
    float *out = malloc((encodes ? 2 * latents : pixels) * sizeof *out);
    sd_status status = SD_ERR_MEMORY;
    if (out) status = encodes ? sd_vae_encode(c, n, h, w, x, out, out + latents) : sd_vae_decode(c, n, h, w, x, out);
    if (!status) m->result = hash_of(0, out, encodes ? 2 * latents : pixels);
    if (!status && m->row) {   /* what is not traced */
        const int64_t z[] = {n, 4, h, w}, picture[] = {n, 3, 8 * h, 8 * w};
        if (encodes) compare(m, "vae.mean", 4, z, out);
        if (encodes) compare(m, "vae.logvar", 4, z, out + latents);
        else compare(m, "vae.picture", 4, picture, out);
    }
    free(x);
    free(out);
    return status;
}

/* --------------------------------------------------------------------------------------- a whole run */

typedef struct drawing { sd_params p; sd_image init, mask; float *depth; } drawing;

/* KEY=VALUE; init, mask and depth are sizes of pictures by formula. */
static sd_status set(drawing *d, const char *key, const char *value, char error[512])
{
    int w = 0, h = 0;
    sscanf(value, "%dx%d", &w, &h);
    if (strcmp(key, "negative") == 0) return d->p.negative_prompt = NULL, SD_OK;
    if (strcmp(key, "init") == 0) return d->p.edit.init = &d->init, sd_synth_picture(&d->init, w, h);
    if (strcmp(key, "mask") == 0) return d->p.edit.mask = &d->mask, sd_synth_mask(&d->mask, w, h);
    if (strcmp(key, "depth") != 0) return sd_params_set(&d->p, key, value, error);
    d->p.edit.depth = d->depth = sd_synth_depth(w, h);
    d->p.edit.depth_width = w;
    d->p.edit.depth_height = h;
    return d->depth ? SD_OK : SD_ERR_MEMORY;
}

static sd_status prepare(const small *m, drawing *d, char error[512])
{
    char words[512];
    sd_status status = SD_OK;
    memset(d, 0, sizeof *d);
    sd_params_init(&d->p);
    d->p.prompt = m->prompt;
    d->p.negative_prompt = m->negative;
    snprintf(words, sizeof words, "%s", m->now->settings);
    for (char *w = words, *next; *(w += strspn(w, " ")) && !status; w = next) {
        next = w + strcspn(w, " ");
        if (*next) *next++ = 0;
        char *value = strchr(w, '=');
        if (value) *value++ = 0;
        status = value ? set(d, w, value, error) : SD_ERR_FORMAT;
    }
    return status;
}

static sd_status run_draw(small *m, sd_ctx *c, char error[512])
{
    drawing d;
    sd_image images[MOST_BATCH] = {{0}};
    sd_status status = prepare(m, &d, error);
    if (m->side) d.p.width = d.p.height = m->side;
    if (m->steps) d.p.sampling.steps = m->steps;
    if (!status) status = d.p.batch <= MOST_BATCH ? sd_generate(c, &d.p, images) : SD_ERR_ARG;
    m->result = 0;
    for (int i = 0; i < MOST_BATCH; i++) {
        size_t bytes = (size_t)images[i].width * (size_t)images[i].height * (size_t)images[i].channels;
        if (images[i].data) m->result = hash_of(m->result, images[i].data, bytes / 4);
        sd_image_free(&images[i]);
    }
    sd_image_free(&d.init);
    sd_image_free(&d.mask);
    free(d.depth);
    sd_params_free(&d.p);
    return status;
}

/* ------------------------------------------------------------------------------------ cases of a model */

static sd_status run_case(small *m, sd_ctx *c, const small_case *k)
{
    char error[512] = "";
    sd_status status;
    m->now = k;
    if (strcmp(k->kind, "draw") == 0) status = run_draw(m, c, error);
    else if (strcmp(k->kind, "unet") == 0) status = run_unet(m, c);
    else status = run_vae(m, c, strcmp(k->kind, "encode") == 0);
    if (status && m->row)
        sd_check_note(m->row, INFINITY, "%s: %s", sd_status_name(status), *error ? error : sd_error_text(c));
    return status;
}

/* With every tensor looked at, and with none: then operations that follow each other are done at once. */
static void judge_case(small *m, sd_ctx *c, const small_case *k, const char *on)
{
    char prefix[40];
    snprintf(prefix, sizeof prefix, "%s.", k->name);
    sd_golden_forget(&m->golden, prefix);
    m->row = sd_check_row_of(m->s, "networks", k->what, on);
    sd_set_trace(c, NULL, see, m);
    if (!m->row || run_case(m, c, k)) return;
    const char *unseen = sd_golden_unseen(&m->golden, prefix);
    if (unseen) sd_check_note(m->row, INFINITY, "%s was not computed", unseen);
    uint64_t watched = m->result;
    sd_set_trace(c, NULL, NULL, NULL);
    if (!run_case(m, c, k))
        sd_check_note(m->row, m->result == watched ? 0 : INFINITY, "the result has other bits if nothing is traced");
}

static void judge(small *m, sd_ctx *c, const char *on)
{
    for (int i = 0; i < m->n && !m->s->e->status && !sd_check_progress(m->s, m->cases[i].what); i++)
        judge_case(m, c, &m->cases[i], on);
}

/* A run that begins from noise: it can have any size. */
static const small_case *resizable(const small *m)
{
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->cases[i].kind, "draw") == 0 && !strstr(m->cases[i].settings, "init=")) return &m->cases[i];
    return NULL;
}

/* One run: all traced numbers and the pictures, then the pictures alone. */
static sd_status run_hashed(small *m, sd_ctx *c, const small_case *k, uint64_t pictures[2])
{
    m->hashes->seen = 0;
    sd_set_trace(c, NULL, see, m);
    if (run_case(m, c, k)) return SD_ERR_NUMERIC;
    pictures[0] = m->result;
    sd_set_trace(c, NULL, NULL, NULL);
    if (run_case(m, c, k)) return SD_ERR_NUMERIC;
    pictures[1] = m->result;
    return SD_OK;
}

/* A picture so large that its work is shared out, with several numbers of threads. */
static void compare_threads(small *m, sd_ctx *c, const small_case *k, sd_check_row *row)
{
    const int threads[] = {1, 2, 3, m->s->threads};
    uint64_t one[2] = {0}, now[2] = {0};
    const hashes *h = m->hashes;
    row->bits = true;
    for (size_t i = 0; i < SD_COUNT(threads); i++) {
        if (i == 3 && threads[i] <= 3) continue;
        c->cpu.threads = threads[i];
        if (run_hashed(m, c, k, i ? now : one)) {
            sd_check_note(row, INFINITY, "%d threads: %s", threads[i], sd_error_text(c));
            continue;
        }
        bool same = i == 0 || (h->seen == h->n && !*h->differs && memcmp(one, now, sizeof one) == 0);
        sd_check_note(row, same ? 0 : INFINITY, "%s: other bits with %d threads than with 1, first in %s", k->name,
                      threads[i], *h->differs ? h->differs : "the picture of a run that is not traced");
    }
}

static void judge_threads(small *m, sd_ctx *c)
{
    enum { SIDE = 256, STEPS = 2 };
    char what[48];
    const small_case *k = resizable(m);
    snprintf(what, sizeof what, "%.20s", m->name);
    if (!k || !sd_check_wanted(m->s, "threads", what) || sd_check_progress(m->s, what)) return;
    sd_check_row *row = sd_check_row_of(m->s, "threads", what, "");
    hashes h = {.of = malloc(HASHES * sizeof *h.of)};
    m->row = NULL;
    m->hashes = &h;
    m->side = SIDE;
    m->steps = STEPS;
    if (row && h.of) compare_threads(m, c, k, row);
    else sd_fail(m->s->e, SD_ERR_MEMORY, "no memory to compare numbers of threads");
    m->side = m->steps = 0;
    m->hashes = NULL;
    free(h.of);
}

/* ------------------------------------------------------------------------------------------- a model */

static sd_status open_small(small *m, const char *device, sd_ctx **c)
{
    sd_options o;
    char taesd[4200];
    bool draws = false, unet = false;
    for (int i = 0; i < m->n; i++) {
        draws = draws || strcmp(m->cases[i].kind, "draw") == 0;
        unet = unet || strcmp(m->cases[i].kind, "unet") == 0;
    }
    sd_options_init(&o);
    o.model = m->dir;
    o.parts = draws ? SD_PART_ALL : unet ? SD_PART_UNET : SD_PART_VAE;
    o.threads = m->s->threads;
    o.device = device;
    o.memory = UINT64_MAX;
    if (strcmp(m->name, "taesd") == 0) {
        snprintf(taesd, sizeof taesd, "%s/vae", m->dir);
        o.taesd = taesd;
    }
    return sd_open(c, &o);
}

/* Whatever the context has made for other kernels goes. */
static void use_kernels(sd_ctx *c, const sd_kern *kern)
{
    c->cpu.kern = kern;
    sd_apart_free(&c->apart);
}

static void on_cpu(small *m)
{
    sd_ctx *c;
    if (open_small(m, "cpu", &c)) {
        sd_check_row *row = sd_check_row_of(m->s, "networks", m->cases[0].what, m->s->table[0].name);
        if (row) sd_check_note(row, INFINITY, "%s", sd_error_text(c));
    } else {
        for (int i = 0; i < m->s->tables && !m->s->e->status; i++) {
            use_kernels(c, m->s->table[i].kern);
            judge(m, c, m->s->table[i].name);
        }
        use_kernels(c, m->s->table[0].kern);
        if (!m->s->e->status) judge_threads(m, c);
    }
    sd_close(c);
}

static void on_device(small *m, const sd_check_device *d)
{
    sd_ctx *c;
    if (*d->refused || *d->left_out) return;
    if (!open_small(m, d->which, &c)) {
        judge(m, c, d->which);
    } else {
        sd_check_row *row = sd_check_row_of(m->s, "networks", m->cases[0].what, d->which);
        if (row) sd_check_note(row, INFINITY, "%s", sd_error_text(c));
    }
    sd_close(c);
}

static void check_model(small *m, sd_error *e)
{
    char path[4096], name[64];
    snprintf(name, sizeof name, "%.40s.txt", m->name);
    if (sd_check_path(m->s, name, m->description) || read_head(m, e)) return;
    snprintf(name, sizeof name, "%.40s.safetensors", m->name);
    if (!m->n || sd_check_path(m->s, name, path) || sd_golden_open(&m->golden, path, e)) return;
    if (sd_path_join(m->dir, sizeof m->dir, m->s->scratch, m->name, e)) return;
    if (!sd_os_make_directory(m->dir)) sd_fail(e, SD_ERR_IO, "cannot make the directory %s", m->dir);
    else if (!sd_synth_write(m->dir, m->description, m->s->merges, note_file, m, e)) {
        on_cpu(m);
        for (int i = 0; i < m->s->devices && !e->status; i++) on_device(m, &m->s->device[i]);
    }
    remove_files(m);
    sd_golden_close(&m->golden);
}

sd_status sd_check_networks(sd_selftest_run *s)
{
    for (size_t i = 0; i < SD_COUNT(models) && !s->e->status; i++) {
        small *m = calloc(1, sizeof *m);
        if (!m) return sd_fail(s->e, SD_ERR_MEMORY, "no memory for a model");
        m->s = s;
        m->name = models[i];
        check_model(m, s->e);
        free(m->d.text);
        free(m);
    }
    return s->e->status;
}
