/* selftest_generators.c - floor 6: draws of every generator against torch, NumPy and torchsde
 * (share/selftest/generators.txt). */
#include "rng_streams.h"
#include "selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- one draw of normals */

/* Do the numbers at the places that a line tells lie within the bound? */
static void compare_draw(sd_check_row *row, const char *seed, size_t n, double bound, const float *x, const char *at)
{
    char *end;
    for (unsigned long long place; place = strtoull(at, &end, 10), end != at; at = end) {
        double want = strtod(end, &end), found = place < n ? (double)x[place] : (double)NAN;
        double share = bound > 0 ? fabs(found - want) / bound : (double)(float)want == found ? 0 : (double)INFINITY;
        sd_check_note(row, share, "seed %s, number %llu of %zu is %.9g, not %.9g", seed, place, n, found, want);
    }
}

/* GENERATOR SEED N BOUND [PLACE VALUE].. */
static sd_status check_draw(sd_selftest_run *s, const char *rest)
{
    char spec[64], seed[32];
    size_t n;
    double bound;
    int used = 0;
    sd_stream *stream;
    if (sscanf(rest, "%63s %31s %zu %lf%n", spec, seed, &n, &bound, &used) != 4 || n < 1 || n > 1 << 20)
        return sd_fail(s->e, SD_ERR_FORMAT, "generators.txt: no draw: %.60s", rest);
    size_t name = strcspn(spec, ":");
    char what[64];
    snprintf(what, sizeof what, "%.*s", (int)name, spec);
    if (!sd_check_wanted(s, "generators", what)) return SD_OK;
    sd_check_row *row = sd_check_row_of(s, "generators", what, "");
    float *x = malloc(n * sizeof *x);
    if (!row || !x) {
        free(x);
        return sd_fail(s->e, SD_ERR_MEMORY, "no memory for %zu random numbers", n);
    }
    row->bits = !(bound > 0);
    const sd_stream_options o = {.seed = strtoull(seed, NULL, 10)};
    sd_error e = {0};
    if (sd_stream_open(&stream, spec, &o, &e) || sd_stream_normal(stream, "selftest", x, 1, n, &e))
        sd_check_note(row, INFINITY, "%s", e.text);
    else compare_draw(row, seed, n, bound, x, rest + used);
    sd_stream_close(stream);
    free(x);
    return SD_OK;
}

/* --------------------------------------------------------------------------------------- Brownian paths */

typedef struct path {
    sd_brownian *tree;
    size_t n;
    char name[48];
} path;

static void torch_normals(void *user, uint32_t seed, float *out, size_t n)
{
    (void)user;
    sd_rng r;
    sd_rng_seed(&r, seed);
    sd_rng_normal(&r, out, n);
}

/* ENTROPY T0 T1 N */
static sd_status begin_path(sd_selftest_run *s, path *p, const char *rest)
{
    unsigned long long entropy;
    double t0, t1;
    sd_brownian_free(p->tree);
    p->tree = NULL;
    if (sscanf(rest, "%llu %lf %lf %zu", &entropy, &t0, &t1, &p->n) != 4 || p->n > 64)
        return sd_fail(s->e, SD_ERR_FORMAT, "generators.txt: no path: %.60s", rest);
    snprintf(p->name, sizeof p->name, "entropy %llu", entropy);
    return sd_brownian_new(&p->tree, entropy, t0, t1, p->n, torch_normals, NULL, s->e);
}

/* A B FNV1A ..: FNV-1a of the bits of all numbers */
static sd_status check_increment(sd_selftest_run *s, const path *p, const char *rest)
{
    double from, to;
    unsigned long long hash;
    float x[64];
    if (!p->tree || sscanf(rest, "%lf %lf %llx", &from, &to, &hash) != 3)
        return sd_fail(s->e, SD_ERR_FORMAT, "generators.txt: no increment: %.60s", rest);
    sd_check_row *row = sd_check_row_of(s, "generators", "brownian", "");
    if (!row || sd_brownian_increment(p->tree, from, to, x, s->e)) return s->e->status;
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < p->n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        for (int byte = 0; byte < 4; byte++) h = (h ^ (bits >> 8 * byte & 0xFF)) * UINT64_C(0x100000001B3);
    }
    row->bits = true;
    sd_check_note(row, h == hash ? 0 : INFINITY, "%s: the increment from %g to %g has other bits", p->name, from, to);
    return SD_OK;
}

sd_status sd_check_generators(sd_selftest_run *s)
{
    sd_description d;
    char *word, *rest;
    path p = {0};
    bool paths = sd_check_wanted(s, "generators", "brownian");
    if (sd_check_lines(s, "generators.txt", &d)) return s->e->status;
    while (!s->e->status && (word = sd_next_item(&d, &rest))) {
        if (strcmp(word, "draw") == 0) check_draw(s, rest);
        else if (paths && strcmp(word, "path") == 0) begin_path(s, &p, rest);
        else if (paths && strcmp(word, "increment") == 0) check_increment(s, &p, rest);
    }
    sd_brownian_free(p.tree);
    free(d.text);
    return s->e->status;
}
