/* compare_modules.c - floor 6: what each module adds to the errors that it inherits from its inputs.
 *
 * Where one run went on with the other's tensors, a module's own error is measured: compare_added.c. Else it is
 * estimated. Errors of different origin have nothing to do with each other, so their squares add up: a module whose
 * result is e away, and whose inputs are at most i away, adds sqrt(e^2 - i^2) at the least if it hands on what it got
 * as it is. A module may also enlarge or damp what it got, and that an estimate cannot tell.
 *
 * Which inputs a module has is known of the three networks: what was computed before it in its network; in a UNet also
 * the latents, the embeddings of time and text, and what the way down has left for the way up. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_INHERITED = 1e-6;
enum { SKIPS = 64 };

/* ------------------------------------------------------------------------------------ a module's name */

/* The n-th part of a path from `at` on is followed by a number: the length up to behind that; 0: it is not. */
static size_t behind_number(const char *name, const char *at, size_t n)
{
    size_t digits = at[n] == '.' ? strspn(at + n + 1, "0123456789") : 0;
    const char *end = at + n + 1 + digits;
    return digits && (*end == '.' || !*end) ? (size_t)(end - name) : 0;
}

static bool is_one_of(const char *at, size_t n, const char *const *words, size_t n_words, bool end)
{
    for (size_t i = 0; i < n_words; i++) {
        size_t m = strlen(words[i]);
        if ((end ? n >= m : n == m) && memcmp(at + n - m, words[i], m) == 0) return true;
    }
    return false;
}

size_t sd_module_length(const char *name)
{
    static const char *const counted[] = {"resnets", "attentions", "downsamplers", "upsamplers", "layers"};
    static const char *const whole[] = {"time_embedding", "add_embedding"};
    static const char *const others[] = {"blocks", "layers"};   /* of networks of another kind */
    for (int pass = 0; pass < 2; pass++)
        for (const char *at = name; *at;) {
            size_t n = strcspn(at, "."), length = behind_number(name, at, n);
            if (!pass && is_one_of(at, n, whole, SD_COUNT(whole), false)) return (size_t)(at - name) + n;
            if (length && !pass && is_one_of(at, n, counted, SD_COUNT(counted), false)) return length;
            if (length && pass && is_one_of(at, n, others, SD_COUNT(others), true)) return length;
            at += n + (at[n] == '.');
        }
    return strlen(name);
}

/* How many letters name the network that it is in, "step.0.unet", "vae"; 0: none. */
static size_t network_length(const char *name)
{
    for (const char *at = name; *at;) {
        size_t n = strcspn(at, ".");
        bool network = sd_begins_with(at, "unet.") || sd_begins_with(at, "vae.") || sd_begins_with(at, "text_encoder");
        if (at[n] && network) return (size_t)(at - name) + n;
        at += n + (at[n] == '.');
    }
    return 0;
}

/* ------------------------------------------------------------------------------------ the list */

static bool is_in(const sd_added *m, const char *name, size_t n)
{
    return m->length == n && memcmp(m->name, name, n) == 0;
}

/* Pairs that were compared, by modules; those of one module follow each other. */
static sd_status list(sd_comparison *c, sd_error *e)
{
    c->module = calloc(c->n + 1, sizeof *c->module);
    if (!c->module) return sd_fail(e, SD_ERR_MEMORY, "no memory for %zu modules", c->n);
    for (size_t i = 0; i < c->n; i++) {
        const sd_compared *r = &c->row[i];
        size_t n = sd_module_length(r->key);
        sd_added *m = c->n_modules ? &c->module[c->n_modules - 1] : NULL;
        if (!sd_has_error(r)) continue;
        if (!m || !is_in(m, r->key, n)) {
            m = &c->module[c->n_modules++];
            *m = (sd_added){.name = r->key, .length = n, .inherited = -1, .at = r};
        }
        m->error = r->error;   /* the last is its result */
    }
    return e->status;
}

/* ------------------------------------------------------------------------------------ its inputs */

/* Modules so far, NULL: none yet. */
typedef struct walk {
    const sd_added *before, *outside;          /* the last in the order; the last in no network */
    const sd_added *latents, *text, *time;     /* the last of each; time: of this network */
    const sd_added *left;                      /* of networks that have ended since, the one that is furthest away */
    const char *network;
    size_t network_length;
    const sd_added *skip[SKIPS];
    int n_skips;
} walk;

static void inherit(sd_added *m, const sd_added *from)
{
    if (from && !(from->error <= m->inherited)) m->inherited = from->error;
}

static bool has_word(const sd_added *m, const char *word)
{
    const char *at = strstr(m->name, word);
    return at && at < m->name + m->length;
}

/* What the way down leaves: the first convolution, each resnet with its attention, each downsampler; and what takes
 * it. */
static void follow_skips(walk *w, sd_added *m)
{
    bool down = has_word(m, "down_blocks."), resnet = has_word(m, ".resnets.");
    if (has_word(m, "up_blocks.") && resnet && w->n_skips) inherit(m, w->skip[--w->n_skips]);
    if (!down && !has_word(m, "unet.conv_in")) return;
    if (down && has_word(m, ".attentions.") && w->n_skips) w->n_skips--;
    if (w->n_skips < SKIPS) w->skip[w->n_skips++] = m;
}

static void enter(walk *w, const sd_added *m, size_t network)
{
    if (network == w->network_length && memcmp(w->network, m->name, network) == 0) return;
    if (w->network_length && !(w->left && w->left->error >= w->before->error)) w->left = w->before;
    w->network = m->name;
    w->network_length = network;
    w->time = NULL;
    w->n_skips = 0;
    if (network) w->before = w->outside;
}

static void follow(walk *w, sd_added *m)
{
    size_t network = network_length(m->name);
    enter(w, m, network);
    bool of_time = has_word(m, ".time_proj") || has_word(m, ".time_embedding");
    if (of_time && w->before == w->outside) {   /* the first of its network */
        if (w->before && sd_begins_with(w->before->name, "timestep")) inherit(m, w->before);
    } else if (!sd_is_input(m->name)) {
        inherit(m, w->before);
        bool begins = network && w->before == w->outside, sampler = has_word(m, "latents.") || has_word(m, ".denoised");
        if (begins || sampler || has_word(m, "conv_in")) inherit(m, w->latents);
        if (!network) inherit(m, w->left);
        if (has_word(m, ".resnets.")) inherit(m, w->time);
        if (has_word(m, "unet.") && has_word(m, ".attentions.")) inherit(m, w->text);
        if (has_word(m, "unet.")) follow_skips(w, m);
    }
    w->before = m;
    if (!network) {
        w->outside = m;
        w->left = NULL;
    }
    if (sd_begins_with(m->name, "latents.")) w->latents = m;
    if (sd_begins_with(m->name, "prompt_embeds")) w->text = m;
    bool time = has_word(m, ".time_embedding") || has_word(m, ".add_embedding");
    if (time && !(w->time && w->time->error >= m->error)) w->time = m;
}

static void estimate(sd_added *m)
{
    double from = m->inherited > 0 ? m->inherited : 0, least = from > LEAST_INHERITED ? from : LEAST_INHERITED;
    m->added = m->error > from ? sqrt((m->error - from) * (m->error + from)) : 0;
    if (!(m->error < HUGE_VAL)) m->added = from < HUGE_VAL ? HUGE_VAL : 0;
    m->times = m->error < HUGE_VAL ? m->error / least : m->added;
}

sd_status sd_compare_modules(sd_comparison *c, sd_error *e)
{
    walk w = {.network = ""};
    if (e->status || list(c, e)) return e->status;
    for (size_t i = 0; i < c->n_modules; i++) {
        follow(&w, &c->module[i]);
        estimate(&c->module[i]);
    }
    return e->status;
}
