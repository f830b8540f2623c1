/* rng_brownian.c - floor 0: torchsde's Brownian tree, the noise of the SDE samplers.
 *
 * [Li et al. 2020, "Scalable gradients for stochastic differential equations", section 4; Kidger et al. 2021,
 * "Efficient and accurate gradients for neural SDEs"]; torchsde._brownian.brownian_interval with halfway_tree=True.
 *
 * torchsde keeps the tree and a cache of its nodes. Both only save time, since a node's value follows from its place in
 * the tree. Here a query walks down from the root and keeps only one buffer per level. */
#include "rng_streams.h"

#include <math.h>
#include <stdlib.h>

/* [0, 2e9] halved down to 1e-6 takes 51 levels. */
enum { MAX_DEPTH = 60 };

struct sd_brownian {
    uint64_t entropy;
    double t0, t1;            /* rounded to 1e-6 */
    double length;            /* of the interval before rounding: the root's variance */
    size_t n;
    sd_seeded_normals draw;
    void *user;
    float *level[MAX_DEPTH + 1];   /* increment of the node on the way; NULL until needed */
};

/* An interval of the tree. At depth d its key's d bits say left or right, topmost first. */
typedef struct node {
    double start, end;
    uint64_t key;
    int depth;
} node;

/* Python's round(x, 6): the double nearest to the decimal that is nearest to x, ties to even. x * 1e6 is not exact; if
 * it falls on a tie, its rounding error decides. */
static double round_6(double x)
{
    double p = x * 1e6, n = rint(p), lost = fma(x, 1e6, -p);
    if (fabs(p - n) == 0.5 && lost != 0.0) n = lost > 0.0 ? ceil(p) : floor(p);
    return n / 1e6;
}

/* Words 0 and 1 of a node's SeedSequence: one seeds the normals that split it; the other would seed a Levy area. */
static uint32_t seed_of(const sd_brownian *b, const uint64_t *spawn_key, size_t keys)
{
    sd_seedseq s;
    uint32_t word;
    sd_seedseq_init(&s, SD_SEED_POOL, b->entropy, spawn_key, keys);
    sd_seedseq_words(&s, &word, 1);
    return word;
}

static float *buffer(sd_brownian *b, int depth, sd_error *e)
{
    if (!b->level[depth]) b->level[depth] = malloc((b->n ? b->n : 1) * sizeof(float));
    if (!b->level[depth]) sd_fail(e, SD_ERR_MEMORY, "no memory for %zu numbers of a Brownian path", b->n);
    return b->level[depth];
}

sd_status sd_brownian_new(sd_brownian **out, uint64_t entropy, double t0, double t1, size_t n, sd_seeded_normals draw,
                          void *user, sd_error *e)
{
    *out = NULL;
    if (!(t0 >= -1e9 && t0 <= t1 && t1 <= 1e9))
        return sd_fail(e, SD_ERR_ARG, "a Brownian path needs two times in order within 1e9, not %g and %g", t0, t1);
    if (n > SIZE_MAX / sizeof(float))
        return sd_fail(e, SD_ERR_ARG, "a Brownian path of %zu numbers is larger than memory", n);
    sd_brownian *b = calloc(1, sizeof *b);
    if (!b) return sd_fail(e, SD_ERR_MEMORY, "no memory for a Brownian path");
    b->entropy = entropy;
    b->t0 = round_6(t0);
    b->t1 = round_6(t1);
    b->length = t1 - t0;
    b->n = n;
    b->draw = draw;
    b->user = user;
    *out = b;
    return SD_OK;
}

void sd_brownian_free(sd_brownian *b)
{
    if (!b) return;
    for (size_t i = 0; i < SD_COUNT(b->level); i++) free(b->level[i]);
    free(b);
}

/* From the increment w over a node to that over its left half: given the whole, the half is normal with mean
 * left / h * w and variance left * right / h. All in float32, as when torch multiplies a tensor by a number. */
static void left_half(sd_brownian *b, const node *v, double mid, const float *w, float *half)
{
    double left = mid - v->start, right = v->end - mid, inverse = 1.0 / (v->end - v->start);
    float mean1 = (float)left, mean2 = (float)inverse, deviation = (float)sqrt(left * right * inverse);
    const uint64_t place[2] = {v->key, (uint64_t)v->depth};
    b->draw(b->user, seed_of(b, place, 2), half, b->n);
    for (size_t i = 0; i < b->n; i++) half[i] = w[i] * mean1 * mean2 + deviation * half[i];
}

/* Adds to `sum` the increments over the largest nodes within v that make up [from, to]. It goes from left to right,
 * because the order of a float32 sum changes its last bits. */
static sd_status collect(sd_brownian *b, const node *v, const float *w, double from, double to, float *sum, bool *any,
                         sd_error *e)
{
    if (from == v->start && to == v->end) {
        for (size_t i = 0; i < b->n; i++) sum[i] = *any ? sum[i] + w[i] : w[i];
        *any = true;
        return SD_OK;
    }
    double mid = round_6(0.5 * (v->end + v->start));
    if (v->depth == MAX_DEPTH || !(v->start < mid && mid < v->end))
        return sd_fail(e, SD_ERR_ARG, "a Brownian path is known to 1e-6: %.9g and %.9g are too close", from, to);
    float *half = buffer(b, v->depth + 1, e);
    if (!half) return SD_ERR_MEMORY;
    left_half(b, v, mid, w, half);
    if (from < mid) {
        node left = {v->start, mid, 2 * v->key, v->depth + 1};
        sd_status st = collect(b, &left, half, from, fmin(to, mid), sum, any, e);
        if (st) return st;
    }
    if (to > mid) {
        node right = {mid, v->end, 2 * v->key + 1, v->depth + 1};
        for (size_t i = 0; i < b->n; i++) half[i] = w[i] - half[i];
        return collect(b, &right, half, fmax(from, mid), to, sum, any, e);
    }
    return SD_OK;
}

static double within(const sd_brownian *b, double t) { return fmin(fmax(t, b->t0), b->t1); }

/* Outside its ends the path stands still. The part of [from, to] that is inside may round to an empty interval, because
 * the ends themselves were rounded: 0.9323583 lies inside a path that begins at 0.932358. There torchsde divides
 * intervals for ever. */
sd_status sd_brownian_increment(sd_brownian *b, double from, double to, float *out, sd_error *e)
{
    if (!(from <= to))
        return sd_fail(e, SD_ERR_ARG, "an increment of a Brownian path goes forward, not from %g to %g", from, to);
    /* Noise levels that went through exp(log()) miss the ends by a few ulp; a last step to level 0 leaves the path. */
    double first = within(b, from), last = within(b, to);
    bool close = first < last && round_6(from) == round_6(to);
    if (close) return sd_fail(e, SD_ERR_ARG, "a Brownian path is known to 1e-6: %.9g and %.9g are too close", from, to);
    first = round_6(first);
    last = round_6(last);
    if (first == last) {
        for (size_t i = 0; i < b->n; i++) out[i] = 0.0f;
        return SD_OK;
    }
    float *w = buffer(b, 0, e);
    if (!w) return SD_ERR_MEMORY;
    float deviation = (float)sqrt(b->length);
    b->draw(b->user, seed_of(b, NULL, 0), w, b->n);
    for (size_t i = 0; i < b->n; i++) w[i] *= deviation;
    node root = {b->t0, b->t1, 0, 0};
    bool any = false;
    return collect(b, &root, w, first, last, out, &any, e);
}
