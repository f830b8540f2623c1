/* show_numbers.c - floor 6: the numbers of one tensor, or of a part of it that is chosen as in NumPy: "name[0,:,4:8]".
 * Large ones are shortened, as NumPy's are: the first three and the last three of each dimension. */
#include "show.h"
#include "text.h"
#include "weights_values.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DIMS = 8, MOST_NUMBERS = 1000, EDGE = 3 };

/* Of each dimension: which indices, from first on; and is it one index, which takes the dimension away? */
typedef struct part { int64_t first[MOST_DIMS], count[MOST_DIMS]; bool one[MOST_DIMS]; } part;

/* ---------------------------------------------------------------------------------- which part of it */

static sd_status wrong_index(const char *text, const sd_entry *x, int d, sd_error *e)
{
    if (d >= x->nd)
        return sd_fail(e, SD_ERR_ARG, "\"%.100s\" has more indices than the %d dimensions of %.200s", text, x->nd,
                       x->name);
    return sd_fail(e, SD_ERR_ARG, "\"%.100s\" is no part of the %d dimensions of %.200s: expected such as "
                   "[0,:,4:8,-1], each index within its dimension, found otherwise at dimension %d, which has %lld",
                   text, x->nd, x->name, d, (long long)x->dim[d]);
}

/* A whole number, if there is one, else `otherwise`; counted from the end, if it is negative. */
static int64_t index_at(const char **at, int64_t n, int64_t otherwise)
{
    char *end;
    long long i = strtoll(*at, &end, 10);
    if (end == *at) return otherwise;
    *at = end;
    return i < 0 ? i + n : i;
}

/* "4:8", ":", "-1" */
static bool read_dimension(const char **at, int64_t n, int64_t *first, int64_t *count, bool *one)
{
    const char *begin = *at;
    *first = index_at(at, n, 0);
    *one = **at != ':';
    if (*one) {
        *count = 1;
        return *at > begin && *first >= 0 && *first < n;
    }
    (*at)++;
    int64_t end = index_at(at, n, n);
    if (*first < 0 || end <= *first || end > n) return false;
    *count = end - *first;
    return true;
}

static sd_status read_part(part *p, const sd_entry *x, const char *text, sd_error *e)
{
    int d = 0;
    *p = (part){.one = {false}};
    for (int i = 0; i < x->nd; i++) p->count[i] = x->dim[i];
    if (!text) return SD_OK;
    for (const char *at = text + 1; *at; d++, at++) {
        if (d >= x->nd || !read_dimension(&at, x->dim[d], &p->first[d], &p->count[d], &p->one[d])
            || !strchr(",]", *at) || !*at)
            return wrong_index(text, x, d, e);
        if (*at == ']') return at[1] ? wrong_index(text, x, d, e) : SD_OK;
    }
    return wrong_index(text, x, d, e);
}

/* The tensor that `what` begins with; *index is what follows its name, or NULL. */
static const sd_entry *find(const sd_tensors *of, const char *what, const char **index)
{
    for (size_t i = 0; i < of->n; i++) {
        const char *name = of->at[i]->name;
        size_t n = strlen(name);
        if (strncmp(what, name, n) != 0 || (what[n] && (what[n] != '[' || what[strlen(what) - 1] != ']'))) continue;
        *index = what[n] ? what + n : NULL;
        return of->at[i];
    }
    return NULL;
}

/* The name that is nearest to what was asked for. */
static sd_status not_found(const sd_tensors *of, const char *what, sd_error *e)
{
    size_t best = 0, least = SIZE_MAX, length = strcspn(what, "[");
    for (size_t i = 0; i < of->n; i++) {
        const char *name = of->at[i]->name;
        size_t changes = sd_edit_distance(what, length, name, strlen(name), false, false);
        if (changes >= least) continue;
        least = changes;
        best = i;
    }
    return sd_fail(e, SD_ERR_MISSING, "%.200s has no tensor \"%.100s\"%s%.100s", of->path, what,
                   of->n ? "; nearest is " : "", of->n ? of->at[best]->name : "");
}

/* -------------------------------------------------------------------------------------------- numbers */

typedef struct printer {
    sd_text *t;
    const sd_entry *x;
    const part *p;
    int64_t at[MOST_DIMS];   /* where it is, within the part */
    bool all;
    int width;
} printer;

static const char *number(char out[SD_NUMBER_SIZE], const printer *q)
{
    uint64_t place = 0;
    for (int d = 0; d < q->x->nd; d++) place = place * (uint64_t)q->x->dim[d] + (uint64_t)(q->p->first[d] + q->at[d]);
    double y = sd_entry_number(q->x, place);
    char nine[SD_NUMBER_SIZE];
    if (q->x->dt == SD_F64 || !sd_dtype_is_float(q->x->dt)) return sd_plain_number(out, y);
    snprintf(nine, sizeof nine, "%.9g", y);   /* enough for every float32 */
    double back = strtod(nine, NULL);
    return sd_plain_number(out, (float)back == (float)y ? back : y);
}

/* Calls itself for each index of dimension d that is shown. */
static void print_dimension(printer *q, int d, int depth)
{
    char out[SD_NUMBER_SIZE];
    const part *p = q->p;
    if (d == q->x->nd) {
        sd_text_add(q->t, "%*s", q->width, number(out, q));
        return;
    }
    if (p->one[d]) {
        print_dimension(q, d + 1, depth);
        return;
    }
    bool last = true, brief = !q->all && p->count[d] > 2 * EDGE + 1;
    for (int k = d + 1; k < q->x->nd; k++) last = last && p->one[k];
    sd_text_add(q->t, "[");
    for (q->at[d] = 0; q->at[d] < p->count[d]; q->at[d]++) {
        const char *between = last ? ", " : ",\n";
        if (q->at[d]) sd_text_add(q->t, "%s%*s", between, last ? 0 : depth + 1, "");
        if (brief && q->at[d] == EDGE) {
            sd_text_add(q->t, "...%s%*s", between, last ? 0 : depth + 1, "");
            q->at[d] = p->count[d] - EDGE;
        }
        print_dimension(q, d + 1, depth + 1);
    }
    q->at[d] = 0;
    sd_text_add(q->t, "]");
}

static void print_json(printer *q, uint64_t n)
{
    char out[SD_NUMBER_SIZE];
    sd_text_add(q->t, "{\"sd\":\"%s\",\"name\":", sd_version());
    sd_text_quoted(q->t, q->x->name);
    sd_text_add(q->t, ",\"dtype\":\"%s\",\"shape\":[", sd_entry_dtype(q->x));
    for (int d = 0, k = 0; d < q->x->nd; d++)
        if (!q->p->one[d]) sd_text_add(q->t, "%s%lld", k++ ? "," : "", (long long)q->p->count[d]);
    sd_text_add(q->t, "],\"numbers\":[");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t rest = i;
        for (int d = q->x->nd; d-- > 0; rest /= (uint64_t)q->p->count[d])
            q->at[d] = (int64_t)(rest % (uint64_t)q->p->count[d]);
        const char *text = number(out, q);
        bool finite = !strpbrk(text, "nN");   /* JSON has no others */
        sd_text_add(q->t, finite ? "%s%s" : "%s\"%s\"", i ? "," : "", text);
    }
    sd_text_add(q->t, "]}\n");
}

static sd_status print(sd_text *t, const sd_entry *x, const char *index, bool json, bool all, sd_error *e)
{
    part p;
    uint64_t n = 1;
    if (read_part(&p, x, index, e)) return e->status;
    if (x->dt == SD_DTYPE_UNKNOWN)
        return sd_fail(e, SD_ERR_UNSUPPORTED, "%.200s is of type %s, which cannot be read", x->name, sd_entry_dtype(x));
    for (int d = 0; d < x->nd; d++) n *= (uint64_t)p.count[d];
    printer q = {.t = t, .x = x, .p = &p, .all = all || n <= MOST_NUMBERS, .width = 13};
    if (json) {
        print_json(&q, n);
        return SD_OK;
    }
    sd_text_add(t, "%s%s %s, shape [", x->name, index ? index : "", sd_entry_dtype(x));
    for (int d = 0, k = 0; d < x->nd; d++)
        if (!p.one[d]) sd_text_add(t, "%s%lld", k++ ? "," : "", (long long)p.count[d]);
    sd_text_add(t, "]\n");
    if (n) print_dimension(&q, 0, 0);
    sd_text_add(t, "\n");
    return SD_OK;
}

sd_status sd_show_numbers(sd_text *t, const sd_tensors *of, const char *what, bool json, bool all, sd_error *e)
{
    const char *index;
    sd_borrowed b = {.file = {0}};
    const sd_entry *x = find(of, what, &index);
    if (!x) return not_found(of, what, e);
    if (!sd_tensors_borrow(of, x, &b, e)) print(t, &b.of, index, json, all, e);
    sd_tensors_return(of, &b);
    return e->status;
}
