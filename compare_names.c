/* compare_names.c - floor 6: the names under which tensors of two traces find each other.
 *
 * A mapping comes first (compare_mapping.c). Then rules make the names of one program's versions and wrappers the same:
 * text_model., which transformers 5 drops, module. of DistributedDataParallel, _orig_mod. of torch.compile, the paths
 * of ONNX, what GGML adds to the name of a view. Names that are in one side alone even so are looked for as ends of the
 * other's: "mid_block.resnets.0" as "step.0.unet.mid_block.resnets.0". */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------------------- rules */

/* What two tensors would be called by the rules stays as it was. */
static sd_status apply_rules(sd_names *of, sd_error *e)
{
    sd_names plain = {calloc(of->n + 1, sizeof *plain.name), of->n};
    for (size_t i = 0; plain.name && i < of->n; i++)
        if (!(plain.name[i] = sd_plain_name(of->name[i]))) sd_fail(e, SD_ERR_MEMORY, "no memory to match names");
    if (!plain.name) sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu names", of->n);
    char **sorted = e->status ? NULL : sd_sorted_names(&plain, e);
    for (size_t i = 0; sorted && i < of->n; i++) {
        char **at = bsearch(&plain.name[i], sorted, of->n, sizeof *sorted, sd_by_text);
        bool twice = (at > sorted && strcmp(at[-1], *at) == 0) || (at + 1 < sorted + of->n && strcmp(at[1], *at) == 0);
        if (twice) continue;
        char *swap = of->name[i];
        of->name[i] = plain.name[i];
        plain.name[i] = swap;
    }
    free(sorted);
    sd_names_free(&plain);
    return e->status;
}

/* ---------------------------------------------------------------------------- what names begin with */

/* How much longer `whole` is than the end of it that `end` is; 0: it does not end so. */
static size_t more_than(const char *whole, const char *end)
{
    size_t m = strlen(whole), n = strlen(end);
    return m > n && whole[m - n - 1] == '.' && strcmp(whole + m - n, end) == 0 ? m - n : 0;
}

/* Names of `of` that `other` has not; they stay where they are. t: their tensors. Names that were cut do not count. */
static sd_status list_unmatched(sd_names *out, const sd_names *of, const sd_tensors *t, const sd_names *other,
                                sd_error *e)
{
    bool some_cut = sd_may_be_cut(t);
    char **sorted = sd_sorted_names(other, e);
    out->n = 0;
    out->name = malloc((of->n + 1) * sizeof *out->name);
    if (!out->name) sd_fail(e, SD_ERR_MEMORY, "no memory to match %zu names", of->n);
    for (size_t i = 0; sorted && out->name && i < of->n; i++) {
        if (some_cut && sd_is_cut(t, t->at[i])) continue;
        if (!sd_has_name(sorted, other->n, of->name[i])) out->name[out->n++] = of->name[i];
    }
    free(sorted);
    return e->status;
}

static size_t found_with(const sd_names *few, char *const *sorted, size_t n, const char *prefix, size_t length,
                         char room[1024])
{
    size_t found = 0;
    for (size_t i = 0; i < few->n; i++) {
        if (length + strlen(few->name[i]) >= 1024) continue;
        snprintf(room, 1024, "%.*s%s", (int)length, prefix, few->name[i]);
        found += sd_has_name(sorted, n, room);
    }
    return found;
}

sd_status sd_find_prefix(const sd_names *few, const sd_names *all, char prefix[256], sd_error *e)
{
    char room[1024];
    char **sorted = sd_sorted_names(all, e);
    size_t best = few->n / 2;
    *prefix = 0;
    for (size_t k = 0; sorted && k < few->n && k < 8; k++)   /* of a few all beginnings, in the order of execution */
        for (size_t i = 0; i < all->n; i++) {
            size_t n = more_than(all->name[i], few->name[k * few->n / 8 % few->n]);
            if (!n || n >= 256 || (*prefix && strncmp(prefix, all->name[i], n) == 0 && !prefix[n])) continue;
            size_t found = found_with(few, sorted, all->n, all->name[i], n, room);
            if (found <= best) continue;
            best = found;
            snprintf(prefix, 256, "%.*s", (int)n, all->name[i]);
        }
    free(sorted);
    return e->status;
}

/* Puts it before each name that the other side has then, and has not yet. */
static sd_status put_before(sd_names *of, const sd_names *free_names, const char *prefix, sd_error *e)
{
    char **sorted = sd_sorted_names(free_names, e);
    for (size_t i = 0; i < of->n && sorted && !e->status; i++) {
        sd_text t = {0};
        sd_text_add(&t, "%s%s", prefix, of->name[i]);
        if (t.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to match names");
        if (t.failed || !sd_has_name(sorted, free_names->n, t.s)) {
            free(t.s);
            continue;
        }
        free(of->name[i]);
        of->name[i] = t.s;
    }
    free(sorted);
    return e->status;
}

/* Names that are not in the other: do more than half of them lack a beginning? */
static sd_status find_prefix(sd_names *of, const sd_tensors *t, const sd_names *other, const sd_tensors *other_tensors,
                             char prefix[256], sd_error *e)
{
    sd_names few = {0}, rest = {0};
    *prefix = 0;
    if (!list_unmatched(&few, of, t, other, e) && !list_unmatched(&rest, other, other_tensors, of, e) && few.n &&
        rest.n)
        sd_find_prefix(&few, &rest, prefix, e);
    if (*prefix && !e->status) put_before(of, &rest, prefix, e);
    free(few.name);
    free(rest.name);
    return e->status;
}

/* -------------------------------------------------------------------------------------- the interface */

static sd_status list(sd_names *of, const sd_tensors *t, sd_error *e)
{
    of->name = calloc(t->n + 1, sizeof *of->name);
    for (; of->name && of->n < t->n; of->n++)
        if (!(of->name[of->n] = sd_strdup(t->at[of->n]->name))) break;
    return of->n == t->n && of->name ? e->status : sd_fail(e, SD_ERR_MEMORY, "no memory for %zu names", t->n);
}

sd_status sd_compare_names(sd_comparison *c, const char *mapping, sd_error *e)
{
    sd_names *ref = &c->key[0], *mine = &c->key[1];
    if (list(ref, &c->ref, e) || list(mine, &c->mine, e) || sd_compare_map(c, mapping, e)) return e->status;
    if (apply_rules(ref, e) || apply_rules(mine, e) || sd_ldm_names(mine, ref, e) || sd_ldm_names(ref, mine, e) ||
        sd_join_parts(ref, &c->ref, e) || sd_join_parts(mine, &c->mine, e) ||
        find_prefix(mine, &c->mine, ref, &c->ref, c->prefix[1], e))
        return e->status;
    if (!*c->prefix[1] && find_prefix(ref, &c->ref, mine, &c->mine, c->prefix[0], e)) return e->status;
    sd_part_misfits(ref, &c->ref, mine, &c->mine, c->prefix[0], e);
    sd_part_misfits(mine, &c->mine, ref, &c->ref, c->prefix[1], e);
    sd_compare_cut(c, 0, e);
    return sd_compare_cut(c, 1, e);
}

void sd_names_free(sd_names *of)
{
    for (size_t i = 0; i < of->n && of->name; i++) free(of->name[i]);
    free(of->name);
    *of = (sd_names){0};
}
