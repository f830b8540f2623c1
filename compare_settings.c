/* compare_settings.c - floor 6: the settings of two runs, as their files tell them, and how what they begin from
 * differs. Runs with another seed, prompt or schedule diverge for that reason, so it is said before any tensor.
 *
 * Keys are those of sd_params or of the command line. Values that mean the same are the same: names of a sampler in
 * several programs, lists of numbers that float32 has rounded. */
#include "compare.h"
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers that were once rounded to float32. */
static const double SAME = 1e-5;
enum { MOST_NUMBERS = 1100 };

/* Who made the file and where its model was says nothing of the run. */
static const char *const of_the_file[] = {"format", "program", "kernels", "model", "created"};

static const char *key_of(const char *key)
{
    if (strcmp(key, "num_inference_steps") == 0) return "steps";
    const sd_param *row = sd_param_find(key);
    return row ? row->about.key : key;
}

static const char *value_of(const sd_tensors *t, const char *key)
{
    for (size_t i = 0; i < t->n_meta; i++)
        if (strcmp(key_of(t->meta[i].key), key) == 0) return t->meta[i].value;
    return NULL;
}

/* ------------------------------------------------------------------------------------------- values */

/* "[667.0, 334.0]" or "667,334": how many numbers; 0: it is no list of numbers. */
static int numbers_of(double *x, const char *text)
{
    static const char between[] = " ,\t\n[]()";
    int n = 0;
    for (const char *at = text + strspn(text, between); *at; at += strspn(at, between)) {
        char word[64];
        size_t length = strcspn(at, between);
        if (n == MOST_NUMBERS || length >= sizeof word) return 0;
        memcpy(word, at, length);
        word[length] = 0;
        if (!sd_number_read(&x[n++], word)) return 0;
        at += length;
    }
    return n;
}

static bool near(double a, double b) { return a == b || fabs(a - b) <= SAME * (fabs(a) + fabs(b)) / 2; }

/* The first number that differs; -1: none of the n. */
static int first_other(const double *a, const double *b, int n)
{
    for (int i = 0; i < n; i++)
        if (!near(a[i], b[i])) return i;
    return -1;
}

/* Is MINE the same list, moved by a constant, or times one? */
static void say_relation(char *how, size_t size, const double *a, const double *b, int n)
{
    double moved = b[0] - a[0], times = a[0] != 0 ? b[0] / a[0] : 0;
    bool all_moved = n > 1, all_times = n > 1 && times != 0;
    for (int i = 1; i < n; i++) {
        all_moved = all_moved && near(b[i], a[i] + moved);
        all_times = all_times && near(b[i], a[i] * times);
    }
    if (all_moved) snprintf(how, size, "; all of MINE's are %g %s", fabs(moved), moved < 0 ? "less" : "more");
    else if (all_times) snprintf(how, size, "; all of MINE's are %.6g times REF's", times);
}

static bool same_numbers(const char *ref, const char *mine, char *how, size_t size, bool *numbers)
{
    double *a = malloc(2 * MOST_NUMBERS * sizeof *a), *b = a + MOST_NUMBERS;
    int m = a ? numbers_of(a, ref) : 0, n = a ? numbers_of(b, mine) : 0, both = m < n ? m : n;
    int at = first_other(a, b, both);
    *numbers = m > 0 && n > 0;
    if (*numbers && m + n > 2 && (at >= 0 || m != n)) {
        int used = m == n ? 0 : snprintf(how, size, "REF has %d numbers, MINE %d", m, n);
        if (at >= 0) used += snprintf(how + used, size - (size_t)used, "%sat %d of %d: REF %.9g, MINE %.9g",
                                      used ? "; " : "", at, both, a[at], b[at]);
        if (at >= 0) say_relation(how + used, size - (size_t)used, a, b, both);
    }
    free(a);
    return *numbers && at < 0 && m == n;
}

static bool same_names(const char *key, const char *ref, const char *mine)
{
    sd_error none = {.status = SD_OK};
    if (strcmp(key, "sampler") == 0) {
        sd_method a, b;
        sd_program p, q;
        return !sd_method_parse(&a, &p, ref, &none) && !sd_method_parse(&b, &q, mine, &none) && a == b && p == q;
    }
    sd_curve c, d;
    return strcmp(key, "schedule") == 0 && !sd_curve_parse(&c, ref, &none) && !sd_curve_parse(&d, mine, &none) &&
           c == d;
}

static bool same_truth(const char *ref, const char *mine)
{
    static const char *const spelled[2] = {"false", "true"};
    for (int i = 0; i < 2; i++)
        if (sd_same_name(ref, spelled[i]) && sd_same_name(mine, spelled[i])) return true;
    return false;
}

static bool same_value(sd_setting *s)
{
    bool numbers;
    if (strcmp(s->ref, s->mine) == 0) return true;
    if (same_numbers(s->ref, s->mine, s->how, sizeof s->how, &numbers)) return true;
    return !numbers && (same_truth(s->ref, s->mine) || same_names(s->key, s->ref, s->mine));
}

static bool is_of_the_file(const char *key)
{
    for (size_t i = 0; i < SD_COUNT(of_the_file); i++)
        if (strcmp(of_the_file[i], key) == 0) return true;
    return false;
}

sd_status sd_compare_settings(sd_comparison *c, sd_error *e)
{
    c->setting = calloc(c->ref.n_meta + 1, sizeof *c->setting);
    if (!c->setting) return sd_fail(e, SD_ERR_MEMORY, "no memory to compare settings");
    for (size_t i = 0; i < c->ref.n_meta; i++) {
        sd_setting *s = &c->setting[c->n_settings];
        *s = (sd_setting){.key = key_of(c->ref.meta[i].key), .ref = c->ref.meta[i].value};
        s->mine = is_of_the_file(s->key) ? NULL : value_of(&c->mine, s->key);
        if (!s->mine) continue;
        c->settings++;
        c->n_settings += !same_value(s);
    }
    return e->status;
}

void sd_add_maker(sd_text *t, const sd_tensors *of)
{
    const char *program = value_of(of, "program"), *kernels = value_of(of, "kernels");
    if (program) sd_text_add(t, "%.80s%s%.40s", program, kernels ? ", " : "", kernels ? kernels : "");
}

void sd_add_odd(sd_text *t, const sd_compared *r)
{
    sd_text_add(t, "NaN or infinite are %llu of REF's %llu numbers, %llu of MINE's", (unsigned long long)r->d.odd[0],
                (unsigned long long)r->d.n, (unsigned long long)r->d.odd[1]);
}

/* ------------------------------------------------------------------------------------------- inputs */

void sd_add_input(sd_text *t, const sd_compared *r)
{
    double scale, shift, left, cosine = sd_cosine(&r->d);
    bool fits = sd_fit(&r->d, &scale, &shift, &left), many = r->d.n >= 64;
    if (r->verdict != SD_DIVERGES || r->d.at < 0) return;
    if (r->d.odd[0] || r->d.odd[1]) sd_add_odd(t, r);
    else if (many && fits && left < 1e-3)
        sd_text_add(t, "MINE is %.6g times REF%s", scale, fabs(shift) > 1e-6 ? ", and shifted" : "");
    else if (many && strstr(sd_compared_name(r), "noise") && fabs(cosine) < 0.2)
        sd_text_add(t, "cosine %.2f: other random numbers, of another seed or generator", cosine);
    else if (r->d.n == 1) sd_text_add(t, "REF %.9g, MINE %.9g", r->value[0], r->value[1]);
    else
        sd_text_add(t, "%llu of %llu numbers differ, the largest difference is REF %.6g, MINE %.6g",
                    (unsigned long long)r->d.other, (unsigned long long)r->d.n, r->value[0], r->value[1]);
}
