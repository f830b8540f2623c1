/* tensors_files.c - floor 3: one tensor out of a file of any format, and tensors into a file or a directory whose name
 * says which format. */
#include "tensors.h"
#include "weights_values.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------- reading */

/* "FILE:NAME" names one tensor of a file; a file that is really called so comes first. NULL: there is no such name. */
static const char *name_behind(const char *path, size_t *file)
{
    const char *colon = strrchr(path, ':');
    if (!colon || colon - path < 2 || !colon[1] || strchr(colon, '/') || !sd_is_absent(path)) return NULL;
    *file = (size_t)(colon - path);
    return colon + 1;
}

/* Whole numbers, of which a float holds those below 2^24. */
static sd_status from_integers(float *y, const sd_entry *t, size_t n, const char *path, sd_error *e)
{
    for (size_t i = 0; i < n; i++) {
        double x = sd_entry_number(t, i);
        y[i] = (float)x;
        if ((double)y[i] != x)
            return sd_fail(e, SD_ERR_FORMAT, "%s: \"%.80s\" has %.0f, which a float cannot hold", path, t->name, x);
    }
    return SD_OK;
}

static sd_status read_entry(const sd_entry *t, const char *path, float **data, int *nd, int64_t dim[4], sd_error *e)
{
    if (t->dt == SD_DTYPE_UNKNOWN)
        return sd_fail(e, SD_ERR_FORMAT, "%s: \"%.80s\" is of type %s, which cannot be read", path, t->name,
                       sd_entry_dtype(t));
    if (t->nd > 4)
        return sd_fail(e, SD_ERR_FORMAT, "%s: \"%.80s\" has %d dimensions, and at most 4 are possible", path, t->name,
                       t->nd);
    size_t n = (size_t)sd_entry_numbers(t);
    *data = malloc((n ? n : 1) * sizeof **data);
    if (!*data) return sd_fail(e, SD_ERR_MEMORY, "no memory for %s", path);
    *nd = t->nd;
    for (int i = 0; i < 4; i++) dim[i] = i < t->nd ? t->dim[i] : 1;
    if (sd_dtype_is_float(t->dt)) sd_entry_to_floats(t, *data);
    else if (from_integers(*data, t, n, path, e)) {
        free(*data);
        *data = NULL;
    }
    return e->status;
}

const sd_entry *sd_tensors_named(const sd_tensors *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->at[i]->name, name) == 0) return t->at[i];
    return NULL;
}

static const sd_entry *find(const sd_tensors *t, const char *name, bool exactly, sd_error *e)
{
    const sd_entry *named = name ? sd_tensors_named(t, name) : NULL;
    if (named) return named;
    if (t->n == 1 && !exactly) return t->at[0];
    if (name) sd_fail(e, SD_ERR_MISSING, "%s has no tensor \"%.80s\" among its %zu tensors", t->path, name, t->n);
    else sd_fail(e, SD_ERR_ARG, "%s has %zu tensors: say which one", t->path, t->n);
    return NULL;
}

sd_status sd_read_floats(const char *path, const char *name, float **data, int *nd, int64_t dim[4], sd_error *e)
{
    sd_tensors t;
    sd_borrowed b;
    size_t n = 0;
    const char *given = name_behind(path, &n);
    char *file = sd_strdup(path);
    *data = NULL;
    if (!file) return sd_fail(e, SD_ERR_MEMORY, "no memory to open %s", path);
    if (given) file[n] = 0;
    if (!sd_tensors_open(&t, file, e)) {
        const sd_entry *x = find(&t, given ? given : name, given != NULL, e);
        if (x && !sd_tensors_borrow(&t, x, &b, e)) {
            read_entry(&b.of, file, data, nd, dim, e);
            sd_tensors_return(&t, &b);
        }
        sd_tensors_close(&t);
    }
    free(file);
    return e->status;
}

/* ---------------------------------------------------------------------------------------- writing */

static sd_status write_directory(const char *path, const sd_traced *tensors, size_t n, sd_error *e)
{
    char file[4096];
    if (!sd_os_make_directory(path)) return sd_fail(e, SD_ERR_IO, "cannot make the directory %s", path);
    for (size_t i = 0; i < n && !e->status; i++) {
        sd_text name = {0};
        sd_text_add(&name, "%s.npy", tensors[i].name);
        if (name.failed) sd_fail(e, SD_ERR_MEMORY, "no memory to write %s", path);
        else if (strchr(name.s, '/'))
            sd_fail(e, SD_ERR_ARG, "cannot write %s into %s: the name of a file has no slash", name.s, path);
        else if (!sd_path_join(file, sizeof file, path, name.s, e)) sd_npy_write(file, &tensors[i], e);
        free(name.s);
    }
    return e->status;
}

sd_status sd_write_tensors(const char *path, const sd_traced *tensors, size_t n, sd_error *e)
{
    size_t length = strlen(path);
    if (length && path[length - 1] == '/') return write_directory(path, tensors, n, e);
    if (!sd_has_ending(path, ".npy")) return sd_safetensors_write(path, tensors, n, e);
    if (n != 1)
        return sd_fail(e, SD_ERR_ARG, "cannot write %s: a .npy file has one tensor, not %zu; a name that ends in / is "
                       "a directory of them, and a .safetensors file has any number", path, n);
    return sd_npy_write(path, tensors, e);
}
