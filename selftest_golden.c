/* selftest_golden.c - floor 6: what diffusers in float64 made of a small model, and how far a tensor is from it. See
 * selftest_synth.h; tools/make_golden.py explains the files. */
#include "selftest_synth.h"

#include <math.h>
#include <string.h>

sd_status sd_golden_open(sd_golden *g, const char *path, sd_error *e)
{
    memset(g, 0, sizeof *g);
    return sd_weight_file_open(&g->file, path, e);
}

void sd_golden_close(sd_golden *g) { sd_weight_file_close(&g->file); }

sd_entry *sd_golden_entry(const sd_golden *g, const char *name, const char *ending)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", name, ending);
    for (size_t low = 0, high = g->file.n; low < high;) {   /* sorted by name */
        size_t middle = (low + high) / 2;
        int order = strcmp(whole, g->file.entry[middle].name);
        if (order == 0) return &g->file.entry[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static float number(const sd_entry *t, size_t i)   /* the mapping need not be aligned */
{
    float x;
    memcpy(&x, (const char *)t->data + 4 * i, sizeof x);
    return x;
}

sd_golden_result sd_golden_compare(sd_golden *g, const char *name, int nd, const int64_t *dim, const float *x)
{
    sd_golden_result r = {0};
    sd_entry *t = sd_golden_entry(g, name, ""), *about = sd_golden_entry(g, name, ".e32");
    if (!t || !about || t->dt != SD_F32 || about->dt != SD_F32 || about->bytes < 8) return r;
    r.found = t->used = about->used = true;
    r.same_shape = about->bytes == 4 * (2 + (size_t)nd);
    size_t n = 1, k = t->bytes / 4;
    for (int i = 0; i < nd && r.same_shape; i++) {
        r.same_shape = number(about, 2 + (size_t)i) == (float)dim[i];
        n *= (size_t)dim[i];
    }
    r.e32 = (double)number(about, 0);
    r.bound = fmax(3 * r.e32, 2e-6);
    if (!r.same_shape) return r;
    double difference = 0, truth = 0, all = 0, norm = (double)number(about, 1);
    for (size_t j = 0; j < k; j++) {
        double want = (double)number(t, j), d = (double)x[j * n / k] - want;
        difference += d * d;
        truth += want * want;
    }
    for (size_t i = 0; i < n; i++) all += (double)x[i] * (double)x[i];
    double of_norm = norm > 0 ? fabs(sqrt(all) - norm) / norm : sqrt(all);
    r.error = truth > 0 ? sqrt(difference / truth) : sqrt(difference);
    if (!(r.error >= of_norm)) r.error = of_norm;
    r.ratio = isfinite(r.error) ? r.error / r.bound : (double)INFINITY;
    return r;
}

bool sd_golden_read(sd_golden *g, const char *name, float *out, size_t n)
{
    sd_entry *t = sd_golden_entry(g, name, ""), *about = sd_golden_entry(g, name, ".e32");
    if (!t || t->dt != SD_F32 || t->bytes != 4 * n) return false;
    t->used = true;
    if (about) about->used = true;
    memcpy(out, t->data, t->bytes);
    return true;
}

const char *sd_golden_unseen(const sd_golden *g, const char *prefix)
{
    for (size_t i = 0; i < g->file.n; i++) {
        const sd_entry *t = &g->file.entry[i];
        if (!t->used && strncmp(t->name, prefix, strlen(prefix)) == 0) return t->name;
    }
    return NULL;
}

void sd_golden_forget(sd_golden *g, const char *prefix)
{
    for (size_t i = 0; i < g->file.n; i++)
        if (sd_begins_with(g->file.entry[i].name, prefix)) g->file.entry[i].used = false;
}
