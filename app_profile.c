/* app_profile.c - floor 7: sd --profile: what the operations of a run took, in the order in which they ran, and how
 * far that is from what this machine can do. */
#include "app.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An operation that each pass of its stage repeats. */
typedef struct row {
    char stage[16], block[128], module[192], operation[24], algorithm[32];
    sd_profiled op;              /* numbers of the last time; the strings are above */
    double *seconds;             /* of each time */
    int n, cap;
    double first, median, total, part[SD_PROFILE_PARTS];   /* total, part: of all times */
} row;

struct profile {
    row *row;
    int n, cap;
    char stage[16];              /* the pass that is running, */
    int pass, at;                /* and the row where its next operation is expected */
    int failed;                  /* no memory */
};

/* ------------------------------------------------------------------------------------ listening */

void profile_free(profile *p)
{
    if (!p) return;
    for (int i = 0; i < p->n; i++) free(p->row[i].seconds);
    free(p->row);
    free(p);
}

static int is_in(const row *r, const char *stage) { return strcmp(r->stage, stage) == 0; }

static int is_same(const row *r, const sd_profiled *op)
{
    return is_in(r, op->stage) && strcmp(r->module, op->module) == 0 && strcmp(r->operation, op->operation) == 0 &&
           memcmp(r->op.dim, op->dim, sizeof op->dim) == 0;
}

/* Rows of a stage stand together. One more of them, before row number `at`. */
static row *insert(profile *p, int at, const sd_profiled *op)
{
    if (p->n == p->cap) {
        int cap = p->cap ? 2 * p->cap : 256;
        row *more = realloc(p->row, (size_t)cap * sizeof *more);
        if (!more) return NULL;
        p->row = more;
        p->cap = cap;
    }
    memmove(p->row + at + 1, p->row + at, (size_t)(p->n++ - at) * sizeof *p->row);
    row *r = memset(p->row + at, 0, sizeof *p->row);
    snprintf(r->stage, sizeof r->stage, "%s", op->stage);
    snprintf(r->block, sizeof r->block, "%s", op->block);
    snprintf(r->module, sizeof r->module, "%s", op->module);
    snprintf(r->operation, sizeof r->operation, "%s", op->operation);
    snprintf(r->algorithm, sizeof r->algorithm, "%s", op->algorithm);
    return r;
}

/* The row of an operation. Passes go through the same ones in the same order, but a later one may leave some out: keys
 * of the prompt are computed once. */
static row *find(profile *p, const sd_profiled *op)
{
    if (op->pass != p->pass || strcmp(op->stage, p->stage) != 0) {
        snprintf(p->stage, sizeof p->stage, "%s", op->stage);
        p->pass = op->pass;
        for (p->at = 0; p->at < p->n && !is_in(&p->row[p->at], op->stage);) p->at++;
    }
    for (int i = p->at; i < p->n && is_in(&p->row[i], op->stage); i++) {
        if (!is_same(&p->row[i], op)) continue;
        p->at = i + 1;
        return &p->row[i];
    }
    return insert(p, p->at++, op);
}

static void see(void *user, const sd_profiled *op)
{
    profile *p = user;
    row *r = p->failed ? NULL : find(p, op);
    if (r && r->n == r->cap) {
        int cap = r->cap ? 2 * r->cap : 4;
        double *more = realloc(r->seconds, (size_t)cap * sizeof *more);
        if (more) r->seconds = more;
        if (more) r->cap = cap;
    }
    if (!r || r->n == r->cap) {
        p->failed = 1;
        return;
    }
    r->op = *op;
    r->seconds[r->n++] = op->seconds;
    r->total += op->seconds;
    for (int i = 0; i < SD_PROFILE_PARTS; i++) r->part[i] += op->part[i];
}

int profile_begin(const settings *s, profile **p)
{
    *p = calloc(1, sizeof **p);
    if (!*p) return no_memory();
    sd_status status = sd_set_profile(context, see, *p);
    return status ? report(s, status) : CLI_OK;
}

/* ------------------------------------------------------------------------------------- adding up */

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void find_medians(profile *p)
{
    for (int i = 0; i < p->n; i++) {
        row *r = &p->row[i];
        r->first = r->seconds[0];
        qsort(r->seconds, (size_t)r->n, sizeof *r->seconds, rising);
        r->median = (r->seconds[(r->n - 1) / 2] + r->seconds[r->n / 2]) / 2;
    }
}

/* Some rows together: a block, a kind of operation, a stage. */
typedef struct sum {
    const row *of;                     /* the first of them, whose names it goes by; NULL: nothing was added */
    int calls;
    double first, median, total;       /* seconds: of a first pass, of a typical one, of all */
    double flops, made, bytes, roof;   /* of all passes. roof: the least seconds for them */
    double apart, part[SD_PROFILE_PARTS];   /* of operations that are measured in parts: the multiplications made, the
                                             * threads' seconds */
} sum;

static void add(sum *s, const row *r, const sd_roofs *roofs)
{
    const sd_profiled *op = &r->op;
    if (!s->of) s->of = r;
    s->calls += r->n;
    s->first += r->first;
    s->median += r->median;
    s->total += r->total;
    s->flops += r->n * op->flops;
    s->made += r->n * op->flops * op->share;
    if (r->part[SD_PROFILE_PRODUCTS] > 0) s->apart += r->n * op->flops * op->share;
    s->bytes += r->n * (op->bytes + op->weight_bytes);
    s->roof += r->n * sd_roof_seconds(roofs, op->flops * op->share, op->bytes, op->weight_bytes);
    for (int i = 0; i < SD_PROFILE_PARTS; i++) s->part[i] += r->part[i];
}

static int is_stage(const row *r) { return strcmp(r->operation, "stage") == 0; }
static double ratio(double a, double b) { return b > 0 ? a / b : 0; }
static double gflops(const sum *s) { return ratio(s->flops, s->total) / 1e9; }

/* GFLOP/s of a thread within the products alone; 0: it was not taken apart. */
static double product_speed(const sum *s) { return ratio(s->apart, s->part[SD_PROFILE_PRODUCTS]) / 1e9; }
static double own_speed(const sd_roofs *r) { return r->peak / r->threads; }

static int same_kind(const row *a, const row *b)
{
    return strcmp(a->operation, b->operation) == 0 && strcmp(a->algorithm, b->algorithm) == 0;
}

enum { MOST_KINDS = 64, KIND_SIZE = 64 };

/* "conv2d, winograd F(4x4,3x3)" */
static const char *kind_name(const row *r, char text[KIND_SIZE])
{
    snprintf(text, KIND_SIZE, "%s%s%s", r->operation, *r->algorithm ? ", " : "", r->algorithm);
    return text;
}

/* Sums by operation and algorithm, the longest first. */
static int longer(const void *a, const void *b) { return rising(&((const sum *)b)->total, &((const sum *)a)->total); }
static int add_kinds(const profile *p, const sd_roofs *roofs, sum kind[MOST_KINDS])
{
    int n = 0;
    for (int i = 0; i < p->n; i++) {
        int k = 0;
        if (is_stage(&p->row[i])) continue;
        while (k < n && !same_kind(kind[k].of, &p->row[i])) k++;
        if (k == MOST_KINDS) continue;
        if (k == n) kind[n++] = (sum){0};
        add(&kind[k], &p->row[i], roofs);
    }
    qsort(kind, (size_t)n, sizeof *kind, longer);
    return n;
}

/* The operations of one stage together, and its passes as a whole. */
static sum add_stage(const profile *p, const sd_roofs *roofs, const char *stage, const row **whole)
{
    sum s = {0};
    for (int i = 0; i < p->n; i++) {
        if (!is_in(&p->row[i], stage)) continue;
        if (is_stage(&p->row[i])) *whole = &p->row[i];
        else add(&s, &p->row[i], roofs);
    }
    return s;
}

/* ------------------------------------------------------------------------------------------ text */

static const char *const part_names[] = {"input", "weights", "products", "output"};

static void print_heading(const char *what)
{
    printf("\n%-42s %10s %10s %6s %8s %9s %6s\n", what, "first, ms", "median, ms", "share", "GFLOP/s", "MB", "roof");
}

static void print_figures(const sum *s, double of)
{
    printf(" %10.3f %10.3f %5.1f%%", s->first * 1e3, s->median * 1e3, 100 * ratio(s->total, of));
    if (s->flops > 0) printf(" %8.1f", gflops(s));
    else printf(" %8s", "");
    printf(" %9.1f %6.2f\n", s->bytes / s->calls / 1e6, ratio(s->roof, s->total));
}

static void print_machine(const sd_roofs *r, const char *device)
{
    if (strcmp(device, "cpu") != 0) {
        printf("Device %s. Products at most: %.1f GFLOP/s. Memory copies %.0f GB/s.\n", device, r->peak,
               r->level[COUNT(r->level) - 1].copy);
        return;
    }
    printf("%s kernels, %d threads. Products at most: %.1f GFLOP/s with one thread, %.1f with all.\nGB/s at most:",
           r->kernels, r->threads, r->peak_one, r->peak);
    for (size_t i = 0; i < COUNT(r->level); i++)
        if (r->level[i].read > 0)
            printf(" %s read %.0f copy %.0f%s", r->level[i].name, r->level[i].read, r->level[i].copy,
                   i + 1 < COUNT(r->level) ? "," : "");
    printf("\n");
}

/* Rows of one block of one stage that follow each other become one line. */
static void print_blocks(const profile *p, const sd_roofs *roofs)
{
    for (int i = 0, end; i < p->n; i = end) {
        const row *whole = NULL;
        sum s = {0};
        if (!i || !is_in(&p->row[i - 1], p->row[i].stage)) print_heading(p->row[i].stage);
        for (end = i; end < p->n && is_in(&p->row[end], p->row[i].stage) &&
                      strcmp(p->row[end].block, p->row[i].block) == 0; end++)
            if (!is_stage(&p->row[end])) add(&s, &p->row[end], roofs);
        add_stage(p, roofs, p->row[i].stage, &whole);
        if (!s.of || !whole) continue;
        s.calls = s.of->n;   /* a call of a block is a pass */
        printf("%-42s", s.of->block);
        print_figures(&s, whole->total);
    }
}

static int longer_row(const void *a, const void *b)
{
    return rising(&(*(const row *const *)b)->total, &(*(const row *const *)a)->total);
}

static void print_longest(const profile *p, const sd_roofs *roofs, double all)
{
    enum { MOST = 15 };
    const row **order = malloc((size_t)(p->n + 1) * sizeof *order);
    int n = 0;
    for (int i = 0; order && i < p->n; i++)
        if (!is_stage(&p->row[i])) order[n++] = &p->row[i];
    if (order) qsort(order, (size_t)n, sizeof *order, longer_row);
    print_heading("The longest operations");
    for (int i = 0; i < n && i < MOST; i++) {
        sum s = {0};
        char kind[KIND_SIZE];
        add(&s, order[i], roofs);
        printf("%s: %s\n  %-40s", order[i]->stage, order[i]->module, kind_name(order[i], kind));
        print_figures(&s, all);
    }
    free(order);
}

/* How the threads' time in one kind of operation divides. */
static void print_parts(const sum *s, const sd_roofs *roofs)
{
    double left = roofs->threads * s->total;
    printf("  parts, share of the threads' time:");
    for (int i = 0; i < SD_PROFILE_PARTS; i++) {
        printf(" %s %.1f%%,", part_names[i], 100 * ratio(s->part[i], roofs->threads * s->total));
        left -= s->part[i];
    }
    printf(" other and waiting %.1f%%\n", 100 * ratio(left, roofs->threads * s->total));
    printf("  products at %.1f GFLOP/s a thread, %.2f of the micro-kernel's own speed\n", product_speed(s),
           ratio(product_speed(s), own_speed(roofs)));
}

static void print_kinds(const profile *p, const sd_roofs *roofs, double all)
{
    sum kind[MOST_KINDS];
    int n = add_kinds(p, roofs, kind);
    printf("\n%-42s %10s %10s %6s %8s %9s %6s\n", "By kind", "calls", "total, s", "share", "GFLOP/s", "MB", "roof");
    for (int k = 0; k < n; k++) {
        char name[KIND_SIZE];
        printf("%-42s %10d %10.4f %5.1f%%", kind_name(kind[k].of, name), kind[k].calls, kind[k].total,
               100 * ratio(kind[k].total, all));
        if (kind[k].flops > 0) printf(" %8.1f", gflops(&kind[k]));
        else printf(" %8s", "");
        printf(" %9.1f %6.2f\n", kind[k].bytes / 1e6, ratio(kind[k].roof, kind[k].total));
        if (kind[k].part[SD_PROFILE_PRODUCTS] > 0) print_parts(&kind[k], roofs);
    }
}

static void print_stages(const profile *p, const sd_roofs *roofs)
{
    printf("\n%-15s %6s %10s %10s %10s %16s %8s %6s\n", "By stage", "passes", "first, s", "median, s", "total, s",
           "of it operations", "GFLOP/s", "roof");
    for (int i = 0; i < p->n; i++) {
        const row *whole = NULL;
        if (i && is_in(&p->row[i - 1], p->row[i].stage)) continue;
        sum s = add_stage(p, roofs, p->row[i].stage, &whole);
        if (!whole) continue;
        printf("%-15s %6d %10.4f %10.4f %10.4f %15.1f%% %8.1f %6.2f\n", whole->stage, whole->n, whole->first,
               whole->median, whole->total, 100 * ratio(s.total, whole->total), ratio(s.flops, whole->total) / 1e9,
               ratio(s.roof, whole->total));
    }
}

/* ------------------------------------------------------------------------------------------ JSON */

static void json_roofs(const sd_roofs *r, const char *device)
{
    printf("{\"profile\":{\"device\":");
    cli_json_string(device);
    printf(",\"kernels\":");
    cli_json_string(r->kernels);
    printf(",\"threads\":%d,\"peak_gflops_one\":%.4g,\"peak_gflops\":%.4g,\"levels\":[", r->threads, r->peak_one,
           r->peak);
    const char *comma = "";
    for (size_t i = 0; i < COUNT(r->level); i++) {
        if (!r->level[i].name) continue;   /* a device's caches */
        printf("%s{\"name\":\"%s\",\"bytes\":%zu,\"read_gb_per_s\":%.4g,\"copy_gb_per_s\":%.4g}", comma,
               r->level[i].name, r->level[i].bytes, r->level[i].read, r->level[i].copy);
        comma = ",";
    }
    printf("]");
}

static void json_figures(const sum *s, const sd_roofs *roofs)
{
    printf("\"total\":%.9g,\"gflops\":%.6g,\"flops\":%.9g,\"flops_made\":%.9g,\"bytes\":%.9g,\"roof\":%.4g", s->total,
           gflops(s), s->flops, s->made, s->bytes, ratio(s->roof, s->total));
    if (s->part[SD_PROFILE_PRODUCTS] > 0) {
        printf(",\"part\":{");
        for (int i = 0; i < SD_PROFILE_PARTS; i++) printf("%s\"%s\":%.9g", i ? "," : "", part_names[i], s->part[i]);
        printf("},\"of_the_kernel\":%.4g", ratio(product_speed(s), own_speed(roofs)));
    }
    printf("}");
}

static void json_all(const profile *p, const sd_roofs *roofs, const char *device)
{
    sum kind[MOST_KINDS];
    int kinds = add_kinds(p, roofs, kind), some = 0;
    json_roofs(roofs, device);
    printf(",\"operations\":[");
    for (int i = 0; i < p->n; i++) {
        const row *r = &p->row[i];
        sum s = {0};
        if (is_stage(r)) continue;
        add(&s, r, roofs);
        printf("%s{\"stage\":\"%s\",\"block\":\"%s\",\"module\":\"%s\",", some++ ? "," : "", r->stage, r->block,
               r->module);
        printf("\"operation\":\"%s\",\"algorithm\":\"%s\",\"shape\":[", r->operation, r->algorithm);
        for (int k = 0; k < r->op.nd; k++) printf("%s%lld", k ? "," : "", (long long)r->op.dim[k]);
        printf("],\"passes\":%d,\"first\":%.9g,\"median\":%.9g,", r->n, r->first, r->median);
        json_figures(&s, roofs);
    }
    printf("],\"kinds\":[");
    for (int k = 0; k < kinds; k++) {
        printf("%s{\"operation\":\"%s\",\"algorithm\":\"%s\",\"calls\":%d,", k ? "," : "", kind[k].of->operation,
               kind[k].of->algorithm, kind[k].calls);
        json_figures(&kind[k], roofs);
    }
    printf("],\"stages\":[");
    some = 0;
    for (int i = 0; i < p->n; i++) {
        const row *whole = NULL;
        if (i && is_in(&p->row[i - 1], p->row[i].stage)) continue;
        sum s = add_stage(p, roofs, p->row[i].stage, &whole);
        if (!whole) continue;
        printf("%s{\"stage\":\"%s\",\"passes\":%d,\"first\":%.9g,\"median\":%.9g,", some++ ? "," : "", whole->stage,
               whole->n,
               whole->first, whole->median);
        printf("\"seconds\":%.9g,\"operations\":{", whole->total);
        json_figures(&s, roofs);
        printf("}");
    }
    printf("]}}\n");
}

/* Seconds for each figure of the machine: neighbours may slow it for longer than a tenth, and a long run is worth
 * waiting for its yardstick. */
static double effort(double seconds) { return fmin(fmax(seconds / 40, 0.1), 0.5); }

int profile_print(profile *p, int json)
{
    sd_roofs roofs;
    sd_model_info how = {0};
    double all = 0;
    if (p->failed) return no_memory();
    for (int i = 0; i < p->n; i++)
        if (is_stage(&p->row[i])) all += p->row[i].total;
    sd_status status = sd_get_info(context, &how);
    if (!status) status = sd_measure_roofs(context, effort(all), &roofs);
    if (status) return cli_error(exit_code(status), "%s", sd_error_text(context));
    find_medians(p);
    if (json) {
        json_all(p, &roofs, how.device);
        return CLI_OK;
    }
    print_machine(&roofs, how.device);
    print_blocks(p, &roofs);
    print_longest(p, &roofs, all);
    print_kinds(p, &roofs, all);
    print_stages(p, &roofs);
    return CLI_OK;
}
