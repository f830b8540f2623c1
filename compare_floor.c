/* compare_floor.c - floor 6: what float32 itself does to each tensor, as a table: its file, and whose row is whose.
 *
 * A line is "2.3e-07 step.0.unet.conv_in": the relative L2 error that is float32's own there. A * in a name stands for
 * one number of a path: "step.*.unet.conv_in". A step that the table has not, of a longer run, is taken for the last
 * one before it that is there. Names are compared by the rules of compare_names.c. */
#include "compare.h"
#include "os.h"
#include "pipeline.h"
#include "text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { FLOORS_MAX = 64 << 20, NAME_ROOM = 1024 };

/* ------------------------------------------------------------------------------------------ the table */

void sd_floors_free(sd_floors *f)
{
    for (size_t i = 0; i < f->n; i++) free(f->list[i].name);
    free(f->list);
    free(f->by_name);
    *f = (sd_floors){0};
}

sd_status sd_floors_add(sd_floors *f, const char *name, double value, sd_error *e)
{
    sd_floor *list = sd_grow(f->list, f->n, &f->cap, 256, sizeof *list);
    if (list) f->list = list;
    char *copy = list ? sd_strdup(name) : NULL;
    if (!copy) return sd_fail(e, SD_ERR_MEMORY, "no memory for a floor of %.200s", name);
    f->list[f->n] = (sd_floor){copy, value, f->n};
    f->n++;
    return e->status;
}

static int by_name(const void *a, const void *b)
{
    const sd_floor *x = *(const sd_floor *const *)a, *y = *(const sd_floor *const *)b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->place > y->place) - (x->place < y->place);
}

sd_status sd_floors_settle(sd_floors *f, sd_error *e)
{
    free(f->by_name);
    f->by_name = malloc((f->n + 1) * sizeof(*f->by_name));
    f->n_names = 0;
    if (!f->by_name) return sd_fail(e, SD_ERR_MEMORY, "no memory for %zu floors", f->n);
    for (size_t i = 0; i < f->n; i++) f->by_name[i] = &f->list[i];
    if (f->n) qsort(f->by_name, f->n, sizeof(*f->by_name), by_name);
    for (size_t i = 0; i < f->n; i++) {
        sd_floor *x = f->by_name[i], *last = f->n_names ? f->by_name[f->n_names - 1] : NULL;
        if (!last || strcmp(last->name, x->name) != 0) {
            f->by_name[f->n_names++] = x;
        } else {
            if (x->value > last->value) last->value = x->value;
            x->value = -1;   /* it is in the first of its name */
        }
    }
    return e->status;
}

static const sd_floor *find(const sd_floors *f, const char *name)
{
    size_t low = 0, high = f->n_names;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(f->by_name[mid]->name, name);
        if (order == 0) return f->by_name[mid];
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------- its file */

/* Of those that come with the program: "sd15". False: there is none of that name, or it is a file's own. */
static bool find_installed(const char *name, char path[4096])
{
    char installed[64], beside[64];
    bool is_name = !strpbrk(name, "/\\.") && strlen(name) < 32;
    snprintf(installed, sizeof installed, "floors/%.32s.txt", name);
    snprintf(beside, sizeof beside, "share/floors/%.32s.txt", name);
    return is_name && sd_os_look(name, NULL) == SD_OS_NOTHING && sd_find_data(installed, beside, path);
}

sd_status sd_floors_read(sd_floors *f, const char *path, sd_error *e)
{
    char *text, *number, *name, found[4096];
    size_t n;
    double value;
    int line = 0;
    if (find_installed(path, found)) path = found;
    if (sd_read_file(path, FLOORS_MAX, &text, &n, e)) return e->status;
    for (char *at = text; !e->status && sd_next_words(&at, &number, &name, &line);) {
        bool fits = *name && sd_number_read(&value, number) && value >= 0 && value < 1;
        char *plain = fits ? sd_plain_name(name) : NULL;
        if (!fits)
            sd_fail(e, SD_ERR_FORMAT, "%s: line %d: expected a relative error from 0 to 1, a blank and a tensor's "
                    "name, found \"%.40s %.80s\"", path, line, number, name);
        else if (plain) sd_floors_add(f, plain, value, e);
        else sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
        free(plain);
    }
    free(text);
    if (!e->status && !f->n) sd_fail(e, SD_ERR_FORMAT, "%s has no floor: its lines are \"VALUE NAME\"", path);
    return sd_floors_settle(f, e);
}

sd_status sd_floors_write(const sd_floors *f, const char *path, const char *head, sd_error *e)
{
    sd_outfile o;
    if (sd_outfile_open(&o, path, e)) return e->status;
    bool good = fputs(head, o.f) >= 0;
    for (size_t i = 0; i < f->n && good; i++) {
        char text[SD_NUMBER_SIZE];
        if (f->list[i].value < 0) continue;
        snprintf(text, sizeof text, "%.2e", f->list[i].value);
        for (char *c = text; *c; c++) *c = *c == ',' ? '.' : *c;   /* in some locales */
        good = fprintf(o.f, "%s %s\n", text, f->list[i].name) >= 0;
    }
    if (good) return sd_outfile_commit(&o, e);
    sd_outfile_abort(&o);
    return sd_fail(e, SD_ERR_IO, "cannot write the floors %s", path);
}

/* ----------------------------------------------------------------------------------- whose is whose */

/* The number that is a part of a path from *at on; false: there is none. */
static bool next_number(const char **at, int *length)
{
    for (; **at; ++*at) {
        *length = (int)strspn(*at, "0123456789");
        if (*length && ((*at)[*length] == '.' || !(*at)[*length])) return true;
        *at += strcspn(*at, ".");
        if (!**at) break;
    }
    return false;
}

/* "step.*.unet.conv_in" for "step.3.unet.conv_in": any one of its numbers. */
static const sd_floor *find_starred(const sd_floors *f, const char *name)
{
    char starred[NAME_ROOM];
    int length;
    for (const char *at = name; next_number(&at, &length); at += length) {
        snprintf(starred, sizeof starred, "%.*s*%s", (int)(at - name), name, at + length);
        const sd_floor *found = find(f, starred);
        if (found) return found;
    }
    return NULL;
}

/* Of an earlier step: what follows "step.", "latents." or "timestep." is counted down. */
static const sd_floor *find_earlier(const sd_floors *f, const char *name)
{
    static const char *const counted[] = {"step.", "latents."};
    char earlier[NAME_ROOM];
    for (size_t k = 0; k < SD_COUNT(counted); k++) {
        const char *at = strstr(name, counted[k]);
        if (!at || (at > name && at[-1] != '.')) continue;
        at += strlen(counted[k]);
        size_t length = strspn(at, "0123456789");
        if (!length || length > 4) continue;
        for (int i = atoi(at); i-- > 0;) {
            snprintf(earlier, sizeof earlier, "%.*s%d%s", (int)(at - name), name, i, at + length);
            const sd_floor *found = find(f, earlier);
            if (found) return found;
        }
    }
    return NULL;
}

static double floor_of(const sd_floors *f, const char *prefix, const char *key)
{
    char name[NAME_ROOM];
    char *plain = sd_plain_name(key);
    int n = plain ? snprintf(name, sizeof name, "%s%s", prefix, plain) : -1;
    free(plain);
    if (n < 0 || n >= NAME_ROOM) return 0;
    const sd_floor *found = find(f, name);
    if (!found) found = find_starred(f, name);
    if (!found) found = find_earlier(f, name);
    if (!found) return 0;
    return found->value > SD_LEAST_FLOOR ? found->value : SD_LEAST_FLOOR;
}

/* Names of a module alone, "mid_block.resnets.0", are found in a table of a run. */
static sd_status find_prefix(char prefix[256], const sd_floors *f, const sd_comparison *c, sd_error *e)
{
    sd_names all = {malloc((f->n_names + 1) * sizeof *all.name), f->n_names};
    if (!all.name) return sd_fail(e, SD_ERR_MEMORY, "no memory for %zu floors", f->n_names);
    for (size_t i = 0; i < all.n; i++) all.name[i] = f->by_name[i]->name;
    sd_find_prefix(&c->key[0], &all, prefix, e);
    free(all.name);
    return e->status;
}

static void set_floors(sd_comparison *c, const sd_floors *f, const char *prefix)
{
    c->floored = 0;
    for (size_t i = 0; i < c->n; i++) {
        sd_compared *r = &c->row[i];
        if (!sd_has_error(r) || sd_is_input(sd_compared_name(r))) continue;
        r->floor = floor_of(f, prefix, r->key);
        c->floored += r->floor > 0;
    }
}

sd_status sd_compare_floors(sd_comparison *c, const char *path, sd_error *e)
{
    sd_floors f = {0};
    char prefix[256];
    if (!path) return e->status;
    c->floors = path;
    if (!sd_floors_read(&f, path, e)) set_floors(c, &f, "");
    if (!e->status && 2 * c->floored < c->compared && !find_prefix(prefix, &f, c, e) && *prefix)
        set_floors(c, &f, prefix);
    if (!e->status && !c->floored && c->compared)
        sd_fail(e, SD_ERR_FORMAT, "%s has a floor for none of the %zu tensors that both traces have, such as \"%.80s\"",
                path, c->compared, c->row[0].key);
    sd_floors_free(&f);
    return e->status;
}
