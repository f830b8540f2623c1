/* diagnose_signs.c - floor 6: signs by which a difference is known without running anything: what their numbers of a
 * tensor are like beside ours, computed from the same inputs. */
#include "diagnose.h"

#include <stdlib.h>
#include <string.h>

/* Their numbers and ours of one tensor, in PyTorch's order. For a picture [N,C,H,W] and for rows [N,T,C]. */
typedef struct pair {
    const float *theirs, *ours;
    size_t n, dim[4];
    int nd;
    double error;   /* sum of squares of the difference */
} pair;

enum { MOST_CHANNELS = 256 };
enum { FEWEST = 16 };               /* so few numbers have a form by chance */
static const double ALIKE = 0.01;   /* what a sign leaves of the squared error, at most */

/* ------------------------------------------------------------------------------------ kinds of numbers */

static bool is_bits(float x, int bits)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (u & ((UINT32_C(1) << (23 - bits)) - 1)) == 0;
}

static bool are_of(const float *x, size_t n, int bits)
{
    size_t i = 0;
    while (i < n && is_bits(x[i], bits)) i++;
    return i == n;
}

static void add_rounding(const pair *p, sd_text *t)
{
    static const struct { int bits; const char *what; } kinds[] = {
        {7, "bfloat16"}, {10, "float16 or TF32: 10 bits behind the point"}};
    for (size_t k = 0; k < SD_COUNT(kinds) && p->n >= FEWEST; k++) {
        if (!are_of(p->theirs, p->n, kinds[k].bits) || are_of(p->ours, p->n, kinds[k].bits)) continue;
        sd_text_add(t, "their numbers are all %s\n", kinds[k].what);
        return;
    }
}

static bool is_255th(double x) { return x >= 0 && x <= 1 && fabs(255 * x - rint(255 * x)) < 1e-4; }

static void add_bytes(const pair *p, sd_text *t)
{
    double lower = 0;
    size_t between = 0, ours = 0;   /* theirs that are neither 0 nor 1; 255ths of ours */
    for (size_t i = 0; i < p->n; i++) {
        if (!is_255th(p->theirs[i])) return;
        between += p->theirs[i] > 0 && p->theirs[i] < 1;
        ours += is_255th(p->ours[i]);
        lower += 255 * ((double)p->ours[i] - p->theirs[i]) / (double)p->n;
    }
    if (between >= FEWEST && ours < p->n)
        sd_text_add(t, "their numbers are bytes, 255ths, that were %s: on average %.2f of a 255th below ours\n",
                    lower > 0.25 ? "cut" : "rounded", lower);
}

/* ---------------------------------------------------------------------------------------------- a line */

static const char *name_of_factor(double a)
{
    static const struct { double a; const char *what; } known[] = {
        {0.18215, "scaling_factor of SD 1 and 2"}, {1 / 0.18215, "1 / 0.18215, scaling_factor"},
        {0.13025, "scaling_factor of SDXL"}, {1 / 0.13025, "1 / 0.13025, scaling_factor"}, {255.0 / 256, "255/256"},
        {256.0 / 255, "256/255"}, {255, "255"}, {127.5, "127.5"}, {1000, "1000"}, {0.001, "1/1000"},
        {-1, "the other sign"}, {2, "2"}, {0.5, "1/2"}, {1.4142135623730951, "sqrt 2"},
        {0.7071067811865476, "1 / sqrt 2"}, {8, "the root of 64, a head's columns"},
        {0.125, "1 / the root of 64, a head's columns"}};
    for (size_t i = 0; i < SD_COUNT(known); i++)
        if (fabs(a / known[i].a - 1) < 2e-4) return known[i].what;
    return NULL;
}

/* A timestep is a number alone, of which one may be one more or one less. */
static void add_shift(const pair *p, sd_text *t)
{
    double by = (double)p->theirs[0] - p->ours[0];
    size_t i = 0;
    while (i < p->n && fabs((double)p->theirs[i] - p->ours[i] - by) < 1e-6) i++;
    if (i == p->n && p->n < FEWEST && rint(by) == by) sd_text_add(t, "theirs is ours %+.0f\n", by);
}

/* theirs = a ours + b, the best in the sense of least squares. */
static void add_line(const pair *p, sd_text *t)
{
    double n = (double)p->n, so = 0, st = 0, oo = 0, ot = 0, left = 0;
    for (size_t i = 0; i < p->n; i++) {
        so += p->ours[i];
        st += p->theirs[i];
        oo += (double)p->ours[i] * p->ours[i];
        ot += (double)p->ours[i] * p->theirs[i];
    }
    double spread = oo - so * so / n;
    if (!(spread > 1e-12 * oo) || p->n < FEWEST) return;
    double a = (ot - so * st / n) / spread, b = (st - a * so) / n;
    for (size_t i = 0; i < p->n; i++) {
        double e = a * p->ours[i] + b - p->theirs[i];
        left += e * e;
    }
    if (left > ALIKE * p->error) return;
    const char *name = name_of_factor(a);
    sd_text_add(t, "their numbers are ours times %.5g", a);
    if (name) sd_text_add(t, " (%s)", name);
    if (b * b * n > ALIKE * p->error) sd_text_add(t, " plus %.3g", b);
    sd_text_add(t, "\n");
}

/* --------------------------------------------------------------------------------------------- places */

/* The place of our number that theirs at i is said to be; p->n: there is none. */
typedef size_t moved(const pair *p, const size_t i[4], int how);

/* The squared error that is left if that is so, where there is such a place; `of`: what it is there now. */
static double left_if(const pair *p, moved *at, int how, double *of)
{
    double left = 0;
    size_t i[4], k = 0;
    *of = 0;
    for (i[0] = 0; i[0] < p->dim[0]; i[0]++)
        for (i[1] = 0; i[1] < p->dim[1]; i[1]++)
            for (i[2] = 0; i[2] < p->dim[2]; i[2]++)
                for (i[3] = 0; i[3] < p->dim[3]; i[3]++, k++) {
                    size_t from = at(p, i, how);
                    if (from >= p->n) continue;
                    double e = (double)p->theirs[k] - p->ours[from], before = (double)p->theirs[k] - p->ours[k];
                    left += e * e;
                    *of += before * before;
                }
    return left;
}

static size_t place(const pair *p, size_t a, size_t b, size_t c, size_t d)
{
    return ((a * p->dim[1] + b) * p->dim[2] + c) * p->dim[3] + d;
}

static size_t other_half(const pair *p, const size_t i[4], int how)
{
    size_t half = p->dim[0] / 2;
    (void)how;
    return p->dim[0] % 2 || !half ? p->n : place(p, (i[0] + half) % p->dim[0], i[1], i[2], i[3]);
}

static size_t exchanged(const pair *p, const size_t i[4], int how)
{
    (void)how;
    return p->dim[2] != p->dim[3] || p->dim[2] < 2 ? p->n : place(p, i[0], i[1], i[3], i[2]);
}

static size_t reversed(const pair *p, const size_t i[4], int how)
{
    (void)how;
    return p->dim[1] < 2 ? p->n : place(p, i[0], p->dim[1] - 1 - i[1], i[2], i[3]);
}

/* By one pixel, in one of four directions. */
static size_t by_one(const pair *p, const size_t i[4], int how)
{
    static const struct { int y, x; } from[] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    size_t y = i[2] + (size_t)from[how].y, x = i[3] + (size_t)from[how].x;   /* -1 wraps around */
    return p->nd < 4 || y >= p->dim[2] || x >= p->dim[3] ? p->n : place(p, i[0], i[1], y, x);
}

static void add_places(const pair *p, sd_text *t)
{
    static const struct { moved *at; int how; const char *what; } ways[] = {
        {other_half, 0, "ours with the halves of the batch exchanged: the prompt and the negative one"},
        {exchanged, 0, "ours with rows and columns exchanged"}, {reversed, 0, "ours with the channels in reverse"},
        {by_one, 0, "ours moved up by a pixel"}, {by_one, 1, "ours moved down by a pixel"},
        {by_one, 2, "ours moved left by a pixel"}, {by_one, 3, "ours moved right by a pixel"}};
    for (size_t k = 0; k < SD_COUNT(ways); k++) {
        double of, left = left_if(p, ways[k].at, ways[k].how, &of);
        if (of > 0 && left <= ALIKE * of) sd_text_add(t, "their numbers are %s\n", ways[k].what);
    }
}

/* The share of the squared error that the outermost pixels have, and their share of all pixels. Wrong padding of one
 * convolution leaves next to nothing inside. */
static void add_border(const pair *p, sd_text *t)
{
    size_t h = p->dim[2], w = p->dim[3], k = 0;
    double border = 0;
    if (p->nd < 4 || h < 4 || w < 4) return;
    for (size_t c = 0; c < p->dim[0] * p->dim[1]; c++)
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++, k++) {
                double e = (double)p->theirs[k] - p->ours[k];
                if (y == 0 || x == 0 || y == h - 1 || x == w - 1) border += e * e;
            }
    double pixels = 1 - (double)((h - 2) * (w - 2)) / (double)(h * w);
    if ((p->error - border) / (1 - pixels) < ALIKE * border / pixels)
        sd_text_add(t, "%.0f%% of the squared error is in the outermost pixels, which are %.0f%% of all: padding\n",
                    100 * border / p->error, 100 * pixels);
}

/* ------------------------------------------------------------------------------------------- channels */

/* Squared distance of their channel a and ours b. */
static double between(const pair *p, size_t a, size_t b)
{
    size_t pixels = p->dim[2] * p->dim[3];
    double sum = 0;
    for (size_t n = 0; n < p->dim[0]; n++)
        for (size_t i = 0; i < pixels; i++) {
            double e = (double)p->theirs[(n * p->dim[1] + a) * pixels + i]
                - p->ours[(n * p->dim[1] + b) * pixels + i];
            sum += e * e;
        }
    return sum;
}

static void add_permutation(const pair *p, sd_text *t)
{
    double left = 0;
    size_t moved_away = 0, channels = p->dim[1];
    if (p->nd < 4 || channels < 2 || channels > MOST_CHANNELS) return;
    for (size_t a = 0; a < channels; a++) {
        size_t best = a;
        double least = between(p, a, a);
        for (size_t b = 0; b < channels; b++) {
            double e = between(p, a, b);
            if (e >= least) continue;
            least = e;
            best = b;
        }
        left += least;
        moved_away += best != a;
    }
    if (moved_away && left <= ALIKE * p->error)
        sd_text_add(t, "each of their channels is one of ours: %zu of %zu are at other places\n", moved_away,
                    channels);
}

void sd_add_signs(const float *theirs, const float *ours, int nd, const int64_t *dim, sd_text *t)
{
    pair p = {.theirs = theirs, .ours = ours, .n = 1, .dim = {1, 1, 1, 1}, .nd = nd};
    for (int i = 0; i < nd; i++) p.dim[nd == 3 && i > 0 ? i + 1 : i] = (size_t)dim[i];
    for (int i = 0; i < 4; i++) p.n *= p.dim[i];
    for (size_t i = 0; i < p.n; i++) {
        double e = (double)theirs[i] - ours[i];
        p.error += e * e;
    }
    if (!(p.error > 0) || !(p.error < HUGE_VAL)) return;
    add_rounding(&p, t);
    add_bytes(&p, t);
    add_shift(&p, t);
    add_line(&p, t);
    add_places(&p, t);
    add_border(&p, t);
    add_permutation(&p, t);
}
