/* diagnose_run.c - floor 6: a run of ours with mistakes made in it, or without, that goes on with their numbers after
 * every tensor that they have; and how far each tensor then is from theirs. */
#include "diagnose.h"
#include "params.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------- what must be computed */

/* Parts of a run, in the order in which they come, and the one tensor by which others see each. */
static const struct { const char *names, *result; } parts[] = {
    {"text_encoder*", "prompt_embeds"}, {"step.*.unet.*", "*.unet.conv_out"},
    {"vae.encoder*,vae.quant_conv", "image_latents"},
    {"vae.decoder*", "vae.decoder.conv_out"}};

static int part_of(const char *name)
{
    for (int i = 0; i < (int)SD_COUNT(parts); i++)
        if (sd_glob_list(parts[i].names, name)) return i;
    return -1;
}

/* Tensors from i on that are of one part of one step; the first that is not. */
static size_t end_of_part(const sd_diagnosis *d, size_t i, int part)
{
    size_t step = strcspn(d->t[i].name, "0123456789");
    const char *number = d->t[i].name + step;
    size_t length = part == 1 ? step + strspn(number, "0123456789") + 1 : 0, k = i;
    while (k < d->n && part_of(d->t[k].name) == part && strncmp(d->t[k].name, d->t[i].name, length) == 0) k++;
    return k;
}

/* The last tensor of theirs before all that is looked at of which alone what is behind it is made; 0: there is none. */
static size_t beginning(const sd_diagnosis *d)
{
    size_t begin = 0;
    for (size_t i = 0; i < d->n && !d->t[i].judged; i++)
        if (sd_is_comparable(&d->t[i]) && !d->t[i].odd
            && sd_glob_list("vae.post_quant_conv,vae.decoder.conv_in,vae.decoder.conv_out", d->t[i].name))
            begin = i;
    return begin;
}

/* What is looked at, and what they lack; but of parts in which nothing is looked at, and whose result they have,
 * nothing. */
static void set_needed(sd_diagnosis *d)
{
    size_t pooled = sd_judged_index(d, "pooled_prompt_embeds"), begin = beginning(d);
    for (size_t i = 0, end; i < d->n; i = end) {
        int part = part_of(d->t[i].name);
        bool looked_at = false, known = false;
        end = part < 0 ? i + 1 : end_of_part(d, i, part);
        for (size_t k = i; k < end; k++) looked_at |= d->t[k].judged;
        for (size_t k = i; part >= 0 && k < d->n && k <= end + 1; k++) {   /* in the part, or behind it */
            if (!sd_glob_list(parts[part].result, d->t[k].name)) continue;
            known |= sd_is_comparable(&d->t[k]) && !d->t[k].odd;
            looked_at |= d->t[k].judged;
        }
        if (part == 0 && pooled < d->n) known = known && sd_is_comparable(&d->t[pooled]);
        for (size_t k = i; k < end; k++)
            d->t[k].needed = d->t[k].judged || (!sd_is_comparable(&d->t[k]) && (looked_at || !known) && k >= begin);
    }
}

/* --------------------------------------------------------------------------------------- the sink */

/* Sets what the backend does between tensor at - 1 and tensor `at`. */
static void set_next(sd_diagnosis *d)
{
    bool needed = false;
    for (size_t i = d->at; i < d->n && i < d->at + SD_WINDOW; i++) needed |= d->t[i].needed;
    d->wrong.skip = !needed;
    for (int k = 0; k < SD_MOST_WRONG; k++)   /* a run with fewer layers does not make all tensors */
        if (d->now[k] && d->now[k]->set && sd_begins_with(d->now[k]->set, "clip_skip")) d->wrong.skip = false;
    for (int k = 0; k < SD_MOST_WRONG; k++) d->wrong.here[k] = d->at < d->n && (d->t[d->at].place >> k & 1);
}

/* Our numbers of tensor i as floats in room[1], with what mistakes make of a tensor itself. */
static void our_numbers(sd_diagnosis *d, size_t i, const sd_traced *x, size_t n, sd_error *e)
{
    const int64_t *whole = x->data;
    const float *numbers = x->data;
    for (size_t k = 0; k < n; k++) d->room[1][k] = x->dtype == SD_I64 ? (float)whole[k] : numbers[k];
    for (int k = 0; k < SD_MOST_WRONG; k++)
        if (d->now[k] && d->now[k]->seen && (d->t[i].place >> k & 1)) sd_spoil(d, d->now[k], i, x, d->room[1], n, e);
}

/* The sum of (theirs - ours)^2. Where one of the two is no number the error is as large as theirs are on average. */
static double distance(sd_judged *t, const float *theirs, const float *ours, size_t n)
{
    double squares = 0, norm = 0;
    size_t odd = 0;
    for (size_t i = 0; i < n; i++) {
        double a = theirs[i], e = a - ours[i];
        bool known = isfinite(theirs[i]);
        norm += known ? a * a : 0;
        if (known && isfinite(ours[i])) squares += e * e;
        else odd += known || isfinite(ours[i]);
    }
    if (norm > 0) t->norm = norm;
    return squares + (odd ? (double)odd * (norm > 0 ? norm / (double)n : 1) : 0);
}

/* The text encoder goes on with their tokens. */
static void take_tokens(sd_diagnosis *d, const float *theirs, size_t n)
{
    free(d->wrong.ids);
    d->wrong.ids = malloc((n + 1) * sizeof *d->wrong.ids);
    d->wrong.n_ids = d->wrong.ids ? n : 0;
    for (size_t i = 0; i < d->wrong.n_ids; i++) d->wrong.ids[i] = (int32_t)theirs[i];
}

/* Compares tensor i, and lets the run go on with theirs, if these are numbers. */
static sd_status judge(sd_diagnosis *d, size_t i, const sd_traced *x, float *writable, sd_error *e)
{
    sd_judged *t = &d->t[i];
    size_t n = sd_traced_numbers(x);
    const float *theirs;
    bool tokens = x->dtype == SD_I64;
    if (!x->data || !sd_is_comparable(t) || n != sd_entry_numbers(t->theirs)) return e->status;
    if (!t->judged && !writable && !tokens) return e->status;
    if (sd_diagnosis_room(d, 1, n, e)) return e->status;
    if (t->judged) our_numbers(d, i, x, n, e);   /* a mistake may need others of theirs */
    if (!(theirs = sd_their_numbers(d, t, e))) return e->status;
    if (t->judged) {
        *(d->now[0] ? &t->wrong : &t->ours) = distance(t, theirs, d->room[1], n);
        if (d->signs_of) sd_add_signs(theirs, d->room[1], t->nd, t->dim, &d->signs_of->signs);
    }
    if (writable && !t->odd) memcpy(writable, theirs, n * sizeof *writable);
    if (tokens) take_tokens(d, theirs, n);
    return e->status;
}

static sd_status see(void *user, const sd_traced *x, float *writable, sd_error *e)
{
    sd_diagnosis *d = user;
    size_t i = d->at;
    while (i < d->n && strcmp(d->t[i].name, x->name) != 0) i++;
    if (i == d->n && !d->noting) return e->status;   /* a run with other parameters makes more */
    if (!d->noting) {
        d->at = i;
        judge(d, i, x, writable, e);
        d->at = i + 1;
        set_next(d);
    }
    if ((i < d->last && !d->noting) || e->status) return e->status;
    d->stopped = true;
    return sd_fail(e, SD_ERR_CANCELLED, "all that is looked at has been seen");
}

static sd_status note(void *user, const char *key, const char *value, sd_error *e)
{
    sd_diagnosis *d = user;
    return sd_index_set(&d->notes, key, value, e);
}

/* ------------------------------------------------------------------------------------------- a run */

/* Gives d->p the value that the mistake says. */
static sd_status change_parameter(sd_diagnosis *d, const sd_mistake *m, sd_error *e)
{
    char key[64], error[512], more[SD_NUMBER_SIZE], *now = NULL;
    const char *value = strchr(m->set, '=') + 1;
    snprintf(key, sizeof key, "%.*s", (int)(value - 1 - m->set), m->set);
    const sd_param *row = sd_param_find(key);
    sd_status status = *value == '+' ? sd_params_get(&d->p, key, &now, error) : SD_OK;
    if (*value == '+' && !status && row) {
        double x = row->about.initial;
        if (now) sd_number_read(&x, now);
        value = sd_number_text(more, x + strtod(value, NULL));
    }
    if (!status) status = sd_params_set(&d->p, key, value, error);
    sd_free(now);
    return status ? sd_fail(e, status, "%s", error) : SD_OK;
}

/* The scheduler's settings with others, as JSON: `"key":value,"key":value`. NULL: there is no memory. */
static char *changed_settings(const char *text, const char *change)
{
    sd_text all = {0};
    sd_text_add(&all, "%s", text);
    for (const char *at = change; at && !all.failed;) {
        sd_text t = {0};
        char key[64];
        const char *value = strchr(at, ':') + 1, *next = strstr(value, ",\"");
        snprintf(key, sizeof key, "%.*s", (int)(value - 1 - at), at);
        const char *found = strstr(all.s, key), *behind = found ? found + strlen(key) : NULL;
        const char *end = found ? behind + strcspn(behind, ",}") : strrchr(all.s, '}');
        sd_text_addn(&t, all.s, end ? (size_t)((found ? found : end) - all.s) : 0);
        size_t length = next ? (size_t)(next - value) : strlen(value);
        sd_text_add(&t, "%s%s:%.*s%s", found ? "" : ",", key, (int)length, value, end ? end : "}");
        free(all.s);
        all = t;
        at = next ? next + 1 : NULL;
    }
    if (!all.failed) return all.s;
    free(all.s);
    return NULL;
}

/* The model has other settings for a run; back with `text`, which is what it had. */
static char *change_scheduler(sd_diagnosis *d, const sd_mistake *m, sd_error *e)
{
    sd_model *model = &d->c->model;
    char *own = model->sched_text, *text = changed_settings(own, m->sched);
    sd_sched_config s;
    if (!text) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for a scheduler's settings");
        return NULL;
    }
    model->sched_text = text;
    if (!sd_model_read_sched(model, NULL, &s, e)) {
        s.prediction = model->sched.prediction;   /* which may be decided by something else */
        model->sched = s;
    }
    return own;
}

static void take_mistakes(sd_diagnosis *d)
{
    double factor = d->c->model.vae->cfg.scaling_factor;
    for (int k = 0; k < SD_MOST_WRONG; k++) {
        const sd_mistake *m = d->now[k];
        d->wrong.op[k] = m ? m->op : (sd_wrong_op){SD_RIGHT, 0};
        if (m && m->op.kind && m->power) d->wrong.op[k].value = pow(factor, m->power);
        for (size_t i = 0; i < d->n; i++) {
            unsigned here = m && sd_glob_list(m->where, d->t[i].name);
            d->t[i].place = (unsigned char)((d->t[i].place & ~(1u << k)) | here << k);
        }
        if (m && m->set) change_parameter(d, m, &d->c->err);
    }
}

bool sd_diagnosis_run(sd_diagnosis *d)
{
    sd_ctx *c = d->c;
    const sd_sched_config sched = c->model.sched;
    char *text = NULL;
    sd_trace *t, *own_trace = c->run.trace;
    sd_log log = c->log;
    void (*progress)(void *, const sd_progress *) = c->progress;
    sd_params_init(&d->p);
    sd_params_copy(&d->p, &d->asked);
    d->p.copies = NULL;
    take_mistakes(d);
    for (int k = 0; k < SD_MOST_WRONG && !text; k++)
        if (d->now[k] && d->now[k]->sched) text = change_scheduler(d, d->now[k], &c->err);
    const sd_sink sink = {.user = d, .see = see, .note = d->noting ? note : NULL, .writes = true};
    sd_trace_new(&t, NULL, &sink, &c->err);
    d->wrong.cpu = c->cpu;
    set_needed(d);
    d->at = 0;
    d->stopped = false;
    set_next(d);
    c->run.be = &sd_backend_wrong;
    c->run.device = &d->wrong;
    c->run.trace = t;
    c->progress = NULL;
    if (d->now[0]) c->log.fn = NULL;
    if (t) sd_run_pipeline(c, &d->p, NULL, NULL, 0);
    sd_trace_abort(t);
    if (text) {
        free(c->model.sched_text);
        c->model.sched_text = text;
        c->model.sched = sched;
    }
    c->cpu = d->wrong.cpu;   /* whose scratch may have grown */
    c->run.be = &sd_backend_cpu;
    c->run.device = &c->cpu;
    c->run.trace = own_trace;
    c->progress = progress;
    c->log = log;
    sd_params_free(&d->p);
    d->runs++;
    bool wanted = !sd_flag_get(&c->halt.stop);
    if (wanted && (d->stopped || (d->now[0] && c->err.status && c->err.status != SD_ERR_MEMORY))) {
        bool well = d->stopped;
        sd_error_clear(&c->err);
        return well;
    }
    return wanted && !c->err.status;
}
