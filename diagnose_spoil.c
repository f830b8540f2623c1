/* diagnose_spoil.c - floor 6: what mistakes do to traced tensors themselves, not to operations between them. */
#include "diagnose.h"
#include "pipeline_task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A tensor of ours in PyTorch's order, and what is wrong with it. */
typedef struct spoiled {
    sd_diagnosis *d;
    const sd_mistake *m;
    size_t at, n, dim[4], inner;   /* inner: numbers for each of dim[0] dim[1] */
    float *x;
    double factor;                 /* the VAE's scaling_factor */
    sd_error *e;
} spoiled;

/* Their numbers of tensor i, if they are `count`; else NULL. */
static const float *theirs_of(const spoiled *s, size_t i, size_t count)
{
    sd_judged *t = i < s->d->n ? &s->d->t[i] : NULL;
    if (!t || !sd_is_comparable(t) || sd_entry_numbers(t->theirs) != count) return NULL;
    return sd_their_numbers(s->d, t, s->e);
}

/* The tensor before this one whose name ends so. */
static size_t before(const spoiled *s, const char *end)
{
    size_t i = s->at;
    while (i > 0 && !sd_ends_with(s->d->t[i - 1].name, end)) i--;
    return i ? i - 1 : s->d->n;
}

static void exchange(float *x, size_t a, size_t b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float swap = x[a + i];
        x[a + i] = x[b + i];
        x[b + i] = swap;
    }
}

/* ------------------------------------------------------------------------------------- every tensor */

static void times(const spoiled *s)
{
    double k = s->m->power ? pow(s->factor, s->m->power) : s->m->value;
    for (size_t i = 0; i < s->n; i++) s->x[i] = (float)(s->x[i] * k);
}

static void inverted(const spoiled *s)
{
    for (size_t i = 0; i < s->n; i++) s->x[i] = (float)(s->m->value - s->x[i]);
}

static void bytes(const spoiled *s)
{
    for (size_t i = 0; i < s->n; i++)
        s->x[i] = (float)((s->m->value > 0 ? rint(255.0 * s->x[i]) : floor(255.0 * s->x[i])) / 255);
}

static void whole(const spoiled *s)
{
    for (size_t i = 0; i < s->n; i++) s->x[i] = s->m->value > 0 ? rintf(s->x[i]) : floorf(s->x[i]);
}

static void halves(const spoiled *s)
{
    if (s->dim[0] % 2 == 0) exchange(s->x, 0, s->n / 2, s->n / 2);
}

static void zeroed(const spoiled *s)
{
    if (s->dim[0] % 2 == 0) memset(s->x, 0, s->n / 2 * sizeof *s->x);
}

static void reversed(const spoiled *s)
{
    size_t c = s->dim[1];
    for (size_t i = 0; i < s->dim[0]; i++)
        for (size_t k = 0; k < c / 2; k++)
            exchange(s->x, (i * c + k) * s->inner, (i * c + c - 1 - k) * s->inner, s->inner);
}

/* Columns of [n,6]: height and width, top and left, target height and target width. */
static void exchanged(const spoiled *s)
{
    size_t c = s->dim[1];
    for (size_t i = 0; i < s->n; i += c) {
        if (s->m->value < 1) exchange(s->x + i, 0, 1, 1);
        if (s->m->value < 1 && c == 6) exchange(s->x + i, 4, 5, 1);
        if (s->m->value == 1) exchange(s->x + i, 2, 3, 1);
        if (s->m->value > 1 && c == 6) exchange(s->x + i, 0, 4, 2);
    }
}

/* ------------------------------------------------------------------------------------------- tokens */

static int32_t end_of(const float *row, size_t n)   /* the end token has the largest id; the first one counts */
{
    size_t end = 0;
    for (size_t k = 1; k < n; k++)
        if (row[k] > row[end]) end = k;
    return (int32_t)end;
}

static void tokens(const spoiled *s)
{
    size_t length = s->dim[1];
    for (size_t i = 0; i < s->dim[0]; i++) {
        float *row = s->x + i * length;
        size_t end = (size_t)end_of(row, length);
        for (size_t k = end + 1; k < length && s->m->seen == SD_SEEN_PADDED; k++) row[k] = (float)s->m->value;
        for (size_t k = 1; k < end && s->m->seen == SD_SEEN_EXCLAIMED; k++)
            if (row[k] == 0) row[k] = (float)s->m->value;
        if (s->m->seen == SD_SEEN_NOT_BEGUN) memmove(row, row + 1, (length - 1) * sizeof *row);
    }
}

/* ----------------------------------------------------------------------------------------- guidance */

/* noise_pred as u + k (c - u) of the answers that they have. */
static void guided(const spoiled *s)
{
    const float *u = theirs_of(s, before(s, ".unet.conv_out"), 2 * s->n);
    double k = s->m->value + s->m->power * s->d->p.guidance.scale;
    for (size_t i = 0; i < s->n && u; i++) s->x[i] = (float)(u[i] + k * ((double)u[s->n + i] - u[i]));
}

/* Of prompt t, picture i and neither u: u + w_t (t - i) + w_i (i - u), with the two scales exchanged. */
static void guided_twice(const spoiled *s)
{
    const float *t = theirs_of(s, before(s, ".unet.conv_out"), 3 * s->n), *i = t + s->n, *u = t + 2 * s->n;
    sd_params p;
    if (!t || sd_resolve(s->d->c, &s->d->p, &p, &(sd_sched_config){.method = SD_DDIM}, NULL)) return;
    double text = p.guidance.image_scale, picture = p.guidance.scale;
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = (float)(u[k] + text * ((double)t[k] - i[k]) + picture * ((double)i[k] - u[k]));
}

/* An LCM's embedding of the guidance scale w, right: sines first, of 1000 (w - 1). */
static void guidance_embedding(const spoiled *s)
{
    size_t c = s->dim[1], half = c / 2;
    double w = s->d->p.guidance.scale, u = s->m->value < 1 ? 1000 * w : s->m->value > 1 ? w - 1 : 1000 * (w - 1);
    for (size_t i = 0; i < s->n; i++) {
        size_t k = i % c;
        double angle = u * exp(-log(10000.0) / ((double)half - 1) * (double)(k % half));
        s->x[i] = (float)((k < half) != (s->m->value == 1) ? sin(angle) : cos(angle));
    }
}

/* ------------------------------------------------------------------------------------------ latents */

/* Ours are a times the noise, where a is 1, sigma or sqrt(sigma^2 + 1). */
static void first_latents(const spoiled *s)
{
    const float *noise = theirs_of(s, sd_judged_index(s->d, "noise"), s->n);
    double product = 0, square = 0;
    for (size_t i = 0; i < s->n && noise; i++) {
        product += (double)noise[i] * s->x[i];
        square += (double)noise[i] * noise[i];
    }
    double a = square > 0 ? product / square : 0;
    if (!(a > 1.001)) return;
    double k = s->m->value < 1 ? 1 : s->m->value > 1 ? sqrt(a * a + 1) : sqrt(a * a - 1);
    for (size_t i = 0; i < s->n; i++) s->x[i] = (float)(noise[i] * k);
}

/* The mean is the first half of the encoder's channels. */
static void mean(const spoiled *s)
{
    const float *moments = theirs_of(s, before(s, "vae.quant_conv"), 2 * s->n);
    for (size_t i = 0; i < s->n && moments && s->dim[0] == 1; i++) s->x[i] = (float)(moments[i] * s->factor);
}

void sd_spoil(sd_diagnosis *d, const sd_mistake *m, size_t at, const sd_traced *t, float *x, size_t n, sd_error *e)
{
    static void (*const how[])(const spoiled *) = {
        [SD_SEEN_TIMES] = times, [SD_SEEN_HALVES] = halves, [SD_SEEN_BYTES] = bytes, [SD_SEEN_REVERSED] = reversed,
        [SD_SEEN_GUIDED] = guided, [SD_SEEN_GUIDED_TWICE] = guided_twice, [SD_SEEN_PADDED] = tokens,
        [SD_SEEN_NOT_BEGUN] = tokens, [SD_SEEN_EXCLAIMED] = tokens, [SD_SEEN_FIRST] = first_latents,
        [SD_SEEN_WHOLE] = whole, [SD_SEEN_MEAN] = mean, [SD_SEEN_INVERTED] = inverted, [SD_SEEN_ZEROED] = zeroed,
        [SD_SEEN_EXCHANGED] = exchanged, [SD_SEEN_GUIDANCE] = guidance_embedding};
    spoiled s = {d, m, at, n, {1, 1, 1, 1}, 1, x, d->c->model.vae->cfg.scaling_factor, e};
    for (int i = 0; i < t->nd; i++) s.dim[i] = (size_t)t->dim[i];
    s.inner = s.dim[2] * s.dim[3];
    how[m->seen](&s);
}
