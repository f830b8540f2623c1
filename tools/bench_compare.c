/* bench_compare.c - two results of `bench --json` side by side. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../json.h"

static double number(const sd_json *j, const char *key)
{
    const sd_json *v = sd_json_get(j, key);
    return sd_json_is(v, SD_JSON_NUMBER) ? v->number : 0;
}

static const char *text(const sd_json *j, const char *key)
{
    const sd_json *v = sd_json_get(j, key);
    return sd_json_is(v, SD_JSON_TEXT) ? v->text : "";
}

static const sd_json *entry(const sd_json *root, const char *list, const char *name)
{
    const sd_json *e;
    SD_JSON_EACH(e, sd_json_get(root, list))
        if (strcmp(text(e, "name"), name) == 0) return e;
    return NULL;
}

typedef struct verdict { int compared, slower, alone; double logs; } verdict;

static double milliseconds(const sd_json *e)
{
    double ms = e ? number(e, "ms") : 0;
    return isfinite(ms) && ms > 0 ? ms : 0;
}

static void compare_list(const sd_json *before, const sd_json *after, const char *list, double percent, verdict *v)
{
    const sd_json *a;
    SD_JSON_EACH(a, sd_json_get(before, list)) {
        const sd_json *b = entry(after, list, text(a, "name"));
        double from = milliseconds(a), to = milliseconds(b), change = from > 0 ? 100 * (to / from - 1) : 0;
        v->alone += (from > 0) != (to > 0);
        if (from == 0 || to == 0) continue;
        v->compared++;
        v->logs += log(to / from);
        v->slower += change > percent;
        if (fabs(change) > percent)
            printf("%s: %s: %.3f to %.3f ms (%+.1f%%)\n", change > 0 ? "slower" : "faster", text(a, "name"), from, to,
                   change);
    }
    SD_JSON_EACH(a, sd_json_get(after, list)) v->alone += milliseconds(a) > 0 && !entry(before, list, text(a, "name"));
}

/* Other machines, kernels, threads or settings are told, and do not decide. */
static void compare_machines(const sd_json *a, const sd_json *b)
{
    static const char *const facts[] = {"machine", "device", "clock", "model"};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (strcmp(text(a, facts[i]), text(b, facts[i])) != 0)
            printf("note: %s: \"%s\", then \"%s\"\n", facts[i], text(a, facts[i]), text(b, facts[i]));
    if (number(a, "size") != number(b, "size"))
        printf("note: pictures of %.0f pixels, then of %.0f (0: the model's own size)\n", number(a, "size"),
               number(b, "size"));
    if (strcmp(text(a, "kernels"), text(b, "kernels")) != 0 || number(a, "threads") != number(b, "threads"))
        printf("note: %s kernels with %.0f threads, then %s with %.0f\n", text(a, "kernels"), number(a, "threads"),
               text(b, "kernels"), number(b, "threads"));
    double from = number(a, "peak_gflops"), to = number(b, "peak_gflops");
    if (fabs(to - from) > 0.05 * from)
        printf("note: the peak was %.1f GFLOP/s, then %.1f: another machine, or neighbours\n", from, to);
}

int bench_compare(const char *before, const char *after, double percent)
{
    enum { MOST_BYTES = 16 << 20 };
    sd_error err = {0};
    verdict v = {0};
    sd_json *a = sd_json_read(before, MOST_BYTES, &err), *b = a ? sd_json_read(after, MOST_BYTES, &err) : NULL;
    if (err.status) {
        fprintf(stderr, "bench: %s\n", err.text);
    } else {
        compare_list(a, b, "operations", percent, &v);
        compare_list(a, b, "stages", percent, &v);
        if (v.compared) compare_machines(a, b);
        if (v.compared && v.alone) printf("note: %d are in one of the two alone\n", v.alone);
        if (v.compared)
            printf("%d compared, %d slower by more than %g%%; all together %.3f of the time\n", v.compared, v.slower,
                   percent, exp(v.logs / v.compared));
        else
            fprintf(stderr, "bench: %s and %s have nothing in common\n", before, after);
    }
    sd_json_free(a);
    sd_json_free(b);
    return !v.compared ? 2 : v.slower ? 1 : 0;
}

