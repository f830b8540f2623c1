/* diagnose_settings.c - floor 6: where theirs was drawn with other settings than were asked for. These are no
 * mistakes, but everything would diverge, so they are found first, said, and our run is made with theirs. Their file
 * may tell them; prompts, sizes, the number of evaluations, the guidance scale and where the noise is from follow from
 * their numbers. */
#include "diagnose.h"
#include "params.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Mistakes of these settings are among those that are known, so they are not taken. */
static const char DERIVED[] = "timesteps,sigmas,prediction,spacing,steps_offset,set_alpha_to_one,clip_sample,weights";
/* Theirs is taken as it is wherever these count. */
static const char HARMLESS[] = "seed,rng,seed_per_image,noise_name";

static sd_status no_memory(sd_error *e) { return sd_fail(e, SD_ERR_MEMORY, "no memory for the settings of a run"); }

/* Notes it, says it at once, and takes it unless it is derived. */
static void add_other(sd_diagnosis *d, const char *key, const char *theirs, const char *here, bool of_header)
{
    char error[512];
    if (d->n_other == SD_MOST_OTHER) return;
    sd_other *o = &d->other[d->n_other];
    *o = (sd_other){.theirs = sd_strdup(theirs), .here = here ? sd_strdup(here) : NULL, .of_header = of_header,
                    .harmless = sd_glob_list(HARMLESS, key) || (sd_glob_list(DERIVED, key) && strcmp(key, "weights"))};
    snprintf(o->key, sizeof o->key, "%s", key);
    if (!o->theirs) return;
    d->n_other++;
    o->taken = !sd_glob_list(DERIVED, key) && sd_param_find(key) && !sd_params_set(&d->asked, key, theirs, error);
    sd_logf(&d->c->log, SD_LOG_NOTICE, "theirs was drawn with another %s: %.120s%s%.120s",
            strcmp(key, "noise_name") == 0 ? "noise" : key, theirs, here ? ", not " : "", here ? here : "");
}

static bool is_noted(const sd_diagnosis *d, const char *key)
{
    for (int i = 0; i < d->n_other; i++)
        if (strcmp(d->other[i].key, key) == 0) return true;
    return false;
}

/* ---------------------------------------------------------------------------------------- the header */

/* What our run says of itself before its first tensor. */
static bool take_notes(sd_diagnosis *d)
{
    sd_index_free(&d->notes);
    d->noting = true;
    bool well = sd_diagnosis_run(d);
    d->noting = false;
    return well;
}

/* Numbers that their file tells, and that are not the default, where ours does not tell them for they are. */
static void compare_defaults(sd_diagnosis *d)
{
    for (size_t i = 0; i < d->theirs.n_meta; i++) {
        const sd_param *row = sd_param_find(d->theirs.meta[i].key);
        const char *value = d->theirs.meta[i].value;
        char usual[SD_NUMBER_SIZE];
        double x;
        bool told = !row || !(row->about.type == SD_PARAM_NUMBER || row->about.type == SD_PARAM_INT);
        told = told || sd_pair_find(d->notes.meta, d->notes.n_meta, row->about.key);
        if (told || row->about.initial == SD_DEFAULT || !sd_number_read(&x, value) || x == row->about.initial) continue;
        add_other(d, row->about.key, value, sd_number_text(usual, row->about.initial), true);
    }
}

/* derived: only settings that are; else all others. */
static sd_status compare_header(sd_diagnosis *d, bool derived, sd_error *e)
{
    sd_comparison all = {.ref = {.meta = d->notes.meta, .n_meta = d->notes.n_meta},
                         .mine = {.meta = d->theirs.meta, .n_meta = d->theirs.n_meta}};
    sd_compare_settings(&all, e);
    for (size_t i = 0; i < all.n_settings && !e->status; i++) {
        const sd_setting *s = &all.setting[i];
        if (sd_glob_list(DERIVED, s->key) == derived) add_other(d, s->key, s->mine, s->ref, true);
    }
    free(all.setting);
    if (!derived && !e->status) compare_defaults(d);
    return e->status;
}

sd_status sd_settings_of_header(sd_diagnosis *d, sd_error *e)
{
    sd_params resolved;
    sd_sched_config s;
    if (!take_notes(d)) return e->status ? e->status : sd_fail(e, SD_ERR_CANCELLED, "cancelled");
    if (compare_header(d, false, e)) return e->status;
    if (d->n_other && !take_notes(d)) {   /* settings that this model cannot draw with */
        if (sd_flag_get(&d->c->halt.stop)) return e->status;
        char why[512];
        snprintf(why, sizeof why, "%s", e->text);
        sd_error_clear(e);
        return sd_fail(e, SD_ERR_ARG, "theirs was drawn with another %s, %.80s, with which this run cannot be made: "
                       "%.300s", d->other[0].key, d->other[0].theirs, why);
    }
    if (compare_header(d, true, e) || sd_resolve(d->c, &d->asked, &resolved, &s, NULL)) return e->status;
    d->asked.guidance = resolved.guidance;
    return e->status;
}

/* ------------------------------------------------------------------------------------------ prompts */

/* The text of 77 ids, up to the first end token; NULL: there is no memory. */
static char *text_of(const sd_tokenizer *vocabulary, const int32_t *ids, const sd_tokens *any)
{
    sd_text t = {0};
    int32_t begin = any->id[0], end = any->id[any->n - 1];
    sd_text_addn(&t, "", 0);
    for (int i = 0; i < SD_TOKENS && ids[i] != end; i++) {
        const char *piece = ids[i] == begin ? NULL : sd_tokenizer_piece(vocabulary, ids[i]);
        bool whole = piece && sd_ends_with(piece, "</w>");
        if (piece) sd_text_addn(&t, piece, strlen(piece) - (whole ? 4 : 0));
        if (whole) sd_text_addn(&t, " ", 1);
    }
    if (t.failed) {
        free(t.s);
        return NULL;
    }
    if (t.n && t.s[t.n - 1] == ' ') t.s[t.n - 1] = 0;
    return t.s;
}

/* Are the ids the same up to the end token? */
static bool same_words(const int32_t *a, const sd_tokens *b)
{
    return memcmp(a, b->id, (size_t)b->n * sizeof *a) == 0;
}

/* Theirs is the text of one row of `tokens`, that of `key` here. */
static sd_status compare_prompt(sd_diagnosis *d, const char *key, const char *here, const char *other,
                                const int32_t *ids, sd_error *e)
{
    const sd_tokenizer *v = d->c->model.tokenizer;
    sd_tokens ours, swapped, again;
    if (is_noted(d, key) || sd_tokenizer_encode(v, here, &ours, e) || same_words(ids, &ours)
        || sd_tokenizer_encode(v, other, &swapped, e) || same_words(ids, &swapped))
        return e->status;
    char *text = text_of(v, ids, &ours);
    if (!text) return no_memory(e);
    if (!sd_tokenizer_encode(v, text, &again, e) && same_words(ids, &again) && ids[0] == ours.id[0])
        add_other(d, key, text, here, false);
    free(text);
    return e->status;
}

static sd_status compare_prompts(sd_diagnosis *d, sd_error *e)
{
    size_t i = sd_judged_index(d, "tokens");
    int32_t ids[2 * SD_TOKENS];
    const sd_judged *t = i < d->n ? &d->t[i] : NULL;
    if (!t || !sd_is_comparable(t) || t->nd != 2 || t->dim[0] > 2 || t->dim[1] != SD_TOKENS || !d->c->model.tokenizer)
        return e->status;
    const float *theirs = sd_their_numbers(d, &d->t[i], e);
    for (int64_t k = 0; theirs && k < t->dim[0] * SD_TOKENS; k++) ids[k] = (int32_t)theirs[k];
    if (!theirs) return e->status;
    const char *prompt = d->asked.prompt ? d->asked.prompt : "",
               *negative = d->asked.negative_prompt ? d->asked.negative_prompt : "";
    if (t->dim[0] == 2 && compare_prompt(d, "negative_prompt", negative, prompt, ids, e)) return e->status;
    return compare_prompt(d, "prompt", prompt, negative, ids + (t->dim[0] - 1) * SD_TOKENS, e);
}

/* ----------------------------------------------------------------------------------------- guidance */

/* Their noise_pred is u + k (c - u) of their answers: is k another scale than ours? Scales that mistakes make are left
 * to them. */
static void compare_guidance(sd_diagnosis *d, sd_error *e)
{
    size_t at = sd_judged_index(d, "step.0.noise_pred"), from = sd_judged_index(d, "step.0.unet.conv_out");
    double w = d->asked.guidance.scale, product = 0, square = 0, left = 0, all = 0;
    if (at == d->n || from == d->n || !sd_is_comparable(&d->t[at]) || !sd_is_comparable(&d->t[from])) return;
    size_t n = (size_t)sd_entry_numbers(d->t[at].theirs);
    if (sd_entry_numbers(d->t[from].theirs) != 2 * n || is_noted(d, "guidance_scale")) return;
    const float *theirs = sd_their_numbers(d, &d->t[at], e);
    float *noise_pred = theirs ? malloc((n + 1) * sizeof *noise_pred) : NULL;
    if (!noise_pred) return;
    memcpy(noise_pred, theirs, n * sizeof *noise_pred);
    const float *u = sd_their_numbers(d, &d->t[from], e), *c = u + n;
    for (size_t i = 0; i < n && u; i++) {
        product += ((double)noise_pred[i] - u[i]) * ((double)c[i] - u[i]);
        square += ((double)c[i] - u[i]) * ((double)c[i] - u[i]);
    }
    double k = square > 0 ? product / square : w;
    for (size_t i = 0; i < n && u; i++) {
        double r = (double)noise_pred[i] - u[i] - k * ((double)c[i] - u[i]);
        left += r * r;
        all += (double)noise_pred[i] * noise_pred[i];
    }
    free(noise_pred);
    const double known[] = {w, w + 1, 1 - w, 1};
    bool other = left < 1e-8 * all;
    for (size_t i = 0; i < SD_COUNT(known); i++) other = other && !(fabs(k - known[i]) < 1e-3 * (1 + fabs(w)));
    char now[SD_NUMBER_SIZE], rounded[32];
    snprintf(rounded, sizeof rounded, "%.4g", k);
    if (other) add_other(d, "guidance_scale", rounded, sd_number_text(now, w), false);
}

/* -------------------------------------------------------------------------------- sizes, evaluations */

static void add_number(sd_diagnosis *d, const char *key, double theirs, double here)
{
    char a[SD_NUMBER_SIZE], b[SD_NUMBER_SIZE];
    if (theirs == here || is_noted(d, key)) return;
    add_other(d, key, sd_plain_number(a, theirs), sd_plain_number(b, here), false);
}

static void compare_sizes(sd_diagnosis *d, const sd_params *resolved)
{
    static const char *const of[] = {"noise", "latents.0"};
    for (size_t k = 0; k < SD_COUNT(of); k++) {
        size_t i = sd_judged_index(d, of[k]);
        const sd_judged *t = i < d->n && d->t[i].other_shape ? &d->t[i] : NULL;
        if (!t || t->theirs->nd != 4 || t->nd != 4 || t->theirs->dim[1] != t->dim[1]) continue;
        double scale = (double)resolved->width / (double)t->dim[3];
        add_number(d, "batch", (double)t->theirs->dim[0], (double)t->dim[0]);
        add_number(d, "height", scale * (double)t->theirs->dim[2], resolved->height);
        add_number(d, "width", scale * (double)t->theirs->dim[3], resolved->width);
    }
}

/* Their timesteps, of evaluations from 0 on; how many. */
static int their_timesteps(sd_diagnosis *d, double *t, int most, sd_error *e)
{
    int n = 0;
    for (bool found = true; found && n < most && !e->status; n += found) {
        char name[32];
        snprintf(name, sizeof name, "timestep.%d", n);
        sd_judged own = {.theirs = sd_tensors_named(&d->theirs, name), .counted = true};
        bool one = own.theirs && sd_entry_numbers(own.theirs) == 1;
        const float *x = one ? sd_their_numbers(d, &own, e) : NULL;
        if ((found = x != NULL)) t[n] = *x;
        free(own.kept);
    }
    return n;
}

/* Is their trace of a whole run of n evaluations? */
static bool is_whole(const sd_diagnosis *d, int n)
{
    char name[32];
    snprintf(name, sizeof name, "latents.%d", n);
    return n > 0 && sd_tensors_named(&d->theirs, name);
}

/* Of how many evaluations their latents are, if a picture was made of the last; 0: nothing tells. */
static int their_latents(const sd_diagnosis *d)
{
    bool decoded = false;
    int n = 0;
    for (size_t i = 0; i < d->theirs.n; i++) decoded |= sd_glob_list("vae.decoder.*,image", d->theirs.at[i]->name);
    while (decoded && is_whole(d, n + 1)) n++;
    return n;
}

/* How many evaluations our run has; *same: they have these timesteps. -1: it cannot be made. */
static int evaluations(sd_diagnosis *d, const double *t, int n, bool *same)
{
    int k = 0;
    if (!take_notes(d)) {
        if (!sd_flag_get(&d->c->halt.stop)) sd_error_clear(&d->c->err);
        return -1;
    }
    *same = true;
    const char *at = sd_pair_find(d->notes.meta, d->notes.n_meta, "timesteps");
    for (char *end; at && *at; at = end + (*end == ','), k++) {
        double x = strtod(at, &end);
        if (end == at) break;
        *same = *same && k < n && fabs(x - t[k]) <= 1e-3;
    }
    *same = *same && k == n;
    return k;
}

/* The number of evaluations is another one: of another sampler, if one has their timesteps, or of more steps. */
static void compare_evaluations(sd_diagnosis *d, const sd_params *resolved, sd_error *e)
{
    enum { MOST = 1100 };
    double *t = malloc(MOST * sizeof *t);
    int theirs = t ? their_timesteps(d, t, MOST, e) : 0;
    bool same = true, found = false, told = is_noted(d, "sampler") || !theirs;
    bool whole = theirs ? is_whole(d, theirs) : t != NULL;
    int timesteps = theirs;
    if (!theirs) theirs = their_latents(d);
    int ours = theirs && whole ? evaluations(d, t, timesteps, &same) : theirs;
    const char *asked = d->asked.sampling.sampler;
    sd_sampler_info about;
    for (int i = 0; ours > 0 && ours != theirs && !found && !told && sd_get_sampler(i, &about); i++) {
        d->asked.sampling.sampler = about.name;
        found = evaluations(d, t, theirs, &same) == theirs && same;
    }
    d->asked.sampling.sampler = asked;
    if (found) add_other(d, "sampler", about.name, resolved->sampling.sampler, false);
    int each = ours > resolved->sampling.steps + 1 ? 2 : 1, more = theirs - ours;
    if (!found && ours > 0 && more)
        add_number(d, "steps", resolved->sampling.steps + (more + (more > 0 ? each - 1 : 0)) / each,
                   resolved->sampling.steps);
    free(t);
}

/* Does our run with this sampler make their latents of their answers, in each step? */
static bool makes_their_latents(sd_diagnosis *d, const sd_mistake *m)
{
    bool all = true;
    for (size_t i = 0; i < d->n; i++) {
        sd_judged *t = &d->t[i];
        t->judged = sd_is_comparable(t) && sd_glob_list("latents.*,timestep.*", t->name);
        t->wrong = -1;
        if (t->judged) d->last = i;
    }
    d->now[0] = m;
    bool well = sd_diagnosis_run(d);
    d->now[0] = NULL;
    for (size_t i = 0; i < d->n && all; i++) {
        const sd_judged *t = &d->t[i];
        double bound = 2 * sd_one_operation(t->name);
        if (t->judged) all = t->wrong >= 0 && t->wrong <= bound * bound * t->norm;
    }
    return well && all;
}

/* Their latents do not follow from their answers by our sampler, nor with a known mistake in it. */
bool sd_settings_of_sampler(sd_diagnosis *d)
{
    size_t bad = 0;
    sd_sampler_info about;
    for (size_t i = 0; i < d->n; i++) bad += d->t[i].diverges && sd_begins_with(d->t[i].name, "latents.");
    if (!bad || is_noted(d, "sampler")) return false;
    for (size_t i = 0; i < sd_mistake_count && !d->c->err.status; i++)
        if ((sd_mistakes[i].set || sd_mistakes[i].sched) && makes_their_latents(d, &sd_mistakes[i])) return false;
    for (int i = 0; !d->c->err.status && sd_get_sampler(i, &about); i++) {
        char set[80];
        snprintf(set, sizeof set, "sampler=%.60s", about.name);
        if (!makes_their_latents(d, &(sd_mistake){.id = "sampler", .where = "", .set = set})) continue;
        add_other(d, "sampler", about.name, d->asked.sampling.sampler, false);
        return true;
    }
    return false;
}

sd_status sd_settings_of_numbers(sd_diagnosis *d, bool *sizes, sd_error *e)
{
    sd_params resolved;
    sd_sched_config s;
    int had = d->n_other;
    *sizes = false;
    if (sd_resolve(d->c, &d->asked, &resolved, &s, NULL)) return e->status;
    compare_sizes(d, &resolved);
    compare_evaluations(d, &resolved, e);
    *sizes = d->n_other > had;
    if (*sizes || compare_prompts(d, e)) return e->status;
    compare_guidance(d, e);
    return e->status;
}

/* -------------------------------------------------------------------------------------------- noise */

/* Does the noise become theirs with this parameter? */
static bool gives_their_noise(sd_diagnosis *d, size_t at, const char *set)
{
    const sd_mistake m = {.id = "noise", .where = "", .set = set};
    for (size_t i = 0; i < d->n; i++) {
        d->t[i].judged = i == at;
        d->t[i].wrong = -1;
    }
    d->last = at;
    d->now[0] = &m;
    bool well = sd_diagnosis_run(d);
    d->now[0] = NULL;
    return well && d->t[at].wrong >= 0 && d->t[at].wrong < 1e-8 * d->t[at].norm;
}

void sd_settings_of_noise(sd_diagnosis *d)
{
    static const char *const ways[] = {"rng=torch-cuda", "rng=torch-cpu", "rng=numpy", "rng=numpy-pcg64",
        "rng=numpy-pcg64-f32", "seed_per_image=1", "seed=0", "seed=42", "seed=1", "seed=1234", "seed=+1"};
    size_t at = sd_judged_index(d, "noise");
    char key[64];
    bool told = is_noted(d, "seed") || is_noted(d, "rng") || is_noted(d, "noise_name");
    if (at == d->n || !sd_is_comparable(&d->t[at]) || d->t[at].ours < 0 || d->t[at].odd || told) return;
    if (d->t[at].ours < 1e-8 * d->t[at].norm) return;
    for (size_t i = 0; i < SD_COUNT(ways) && !d->c->err.status; i++) {
        if (!gives_their_noise(d, at, ways[i])) continue;
        const char *value = strchr(ways[i], '=') + 1;
        snprintf(key, sizeof key, "%.*s", (int)(value - 1 - ways[i]), ways[i]);
        add_other(d, key, value, NULL, false);
        return;
    }
    add_other(d, "noise_name", "of another seed or generator", NULL, false);
    if (d->n_other) d->other[d->n_other - 1].taken = false;
}
