/* bench_compare.c - two results of `bench --json` side by side. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../json.h"

#ifdef SD_WITH_CJSON

static double number(const cJSON *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static const char *text(const cJSON *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static const cJSON *entry(const cJSON *root, const char *list, const char *name)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(root, list))
        if (strcmp(text(e, "name"), name) == 0) return e;
    return NULL;
}

typedef struct verdict { int compared, slower; double logs; } verdict;

static void compare_list(const cJSON *before, const cJSON *after, const char *list, double percent, verdict *v)
{
    const cJSON *a;
    cJSON_ArrayForEach(a, cJSON_GetObjectItemCaseSensitive(before, list)) {
        const cJSON *b = entry(after, list, text(a, "name"));
        double from = number(a, "ms"), to = b ? number(b, "ms") : 0, change = 100 * (to / from - 1);
        if (!(from > 0) || !(to > 0)) continue;
        v->compared++;
        v->logs += log(to / from);
        v->slower += change > percent;
        if (fabs(change) > percent)
            printf("%s: %s: %.3f to %.3f ms (%+.1f%%)\n", change > 0 ? "slower" : "faster", text(a, "name"), from, to,
                   change);
    }
}

/* Other machines, kernels or threads are told, and do not decide. */
static void compare_machines(const cJSON *a, const cJSON *b)
{
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
    cJSON *a = sd_json_read(before, MOST_BYTES, &err), *b = a ? sd_json_read(after, MOST_BYTES, &err) : NULL;
    if (err.status) {
        fprintf(stderr, "bench: %s\n", err.text);
    } else {
        compare_machines(a, b);
        compare_list(a, b, "operations", percent, &v);
        compare_list(a, b, "stages", percent, &v);
        if (v.compared)
            printf("%d compared, %d slower by more than %g%%; all together %.3f of the time\n", v.compared, v.slower,
                   percent, exp(v.logs / v.compared));
        else
            fprintf(stderr, "bench: %s and %s have nothing in common\n", before, after);
    }
    cJSON_Delete(a);
    cJSON_Delete(b);
    return !v.compared ? 2 : v.slower ? 1 : 0;
}

#else

int bench_compare(const char *before, const char *after, double percent)
{
    (void)percent;
    fprintf(stderr, "bench: this build has no cJSON, so it cannot read %s and %s\n", before, after);
    return 2;
}

#endif
