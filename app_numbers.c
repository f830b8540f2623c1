/* app_numbers.c - floor 7: tensors of files, read with their shapes checked, and written. */
#include "app_stages.h"
#include "os.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int check_finite(const char *file, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return cli_error(CLI_USAGE, "%s: number %zu of %zu is %g, and nothing can be computed from that", file,
                             i + 1, n, (double)x[i]);
    return CLI_OK;
}

void numbers_free(numbers *t)
{
    sd_free(t->data);
    *t = (numbers){0};
}

size_t numbers_count(const numbers *t)
{
    return (size_t)(t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]);
}

int read_numbers(const settings *s, const char *file, const char *const *names, numbers *t)
{
    sd_status status = SD_ERR_MISSING;
    for (; *names && status == SD_ERR_MISSING; names++)
        status = sd_tensor_read(context, file, *names, &t->data, &t->nd, t->dim);
    if (status) return report(s, status);
    return check_finite(file, t->data, numbers_count(t));
}

int find_numbers(const settings *s, const char *file, const char *name, numbers *t)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof path, "%s:%s", file, name);
    *t = (numbers){0};
    if (is_stream(file)) return CLI_OK;   /* it has been read, and can be only once */
    if (n >= PATH_SIZE) return cli_error(CLI_USAGE, "the path %s is longer than %d bytes", file, PATH_SIZE - 1);
    sd_status status = sd_tensor_read(context, path, NULL, &t->data, &t->nd, t->dim);
    int absent = status == SD_ERR_MISSING || (status && sd_os_look(file, NULL) == SD_OS_NOTHING);
    if (absent) *t = (numbers){0};
    if (status) return absent ? CLI_OK : report(s, status);
    return check_finite(file, t->data, numbers_count(t));
}

/* "[2,77,16]" */
static const char *shape_text(const numbers *t)
{
    static char text[96];
    size_t used = 0;
    for (int i = 0; i < t->nd; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld", i ? "," : "[", (long long)t->dim[i]);
    snprintf(text + used, sizeof text - used, "%s", t->nd ? "]" : "one number");
    return text;
}

int expect_shape(const char *file, const char *what, numbers *t, int nd, const int64_t *dim)
{
    char want[96] = "";
    size_t used = 0;
    int fits = t->nd == nd || t->nd == nd - 1;
    if (t->nd == nd - 1 && t->nd >= 0) {   /* of one picture or text */
        memmove(t->dim + 1, t->dim, 3 * sizeof *t->dim);
        t->dim[0] = 1;
    }
    for (int i = 0; i < nd; i++) fits = fits && t->dim[i] >= 1 && (!dim[i] || t->dim[i] == dim[i]);
    if (fits) return CLI_OK;
    if (t->nd == nd - 1) memmove(t->dim, t->dim + 1, 3 * sizeof *t->dim);
    for (int i = 0; i < nd; i++) {
        used += (size_t)snprintf(want + used, sizeof want - used, "%s", i ? "," : "");
        used += dim[i] ? (size_t)snprintf(want + used, sizeof want - used, "%lld", (long long)dim[i])
            : (size_t)snprintf(want + used, sizeof want - used, "%c", "Nchw"[i]);
    }
    return cli_error(CLI_USAGE, "%s: %s must be [%s], found %s", file, what, want, shape_text(t));
}

int check_tensors_output(const char *what, const char *path)
{
    size_t n = strlen(path);
    if (n && path[n - 1] == '/') return check_directory(what, path);
    if (!ends_with(path, ".safetensors") && !ends_with(path, ".npy"))
        return cli_error(CLI_USAGE, "the %s's name must end in .safetensors or .npy, or in / as a directory of .npy "
                         "files, not \"%s\"", what, path);
    return check_writable(what, path);
}

int write_numbers(const settings *s, const char *path, const sd_traced *t, size_t n)
{
    if (n > 1 && ends_with(path, ".npy")) {
        if (!s->quiet)
            fprintf(stderr, "sd: %s has %s alone, without %s%s: a .safetensors file or a directory has all\n", path,
                    t->name, t[1].name, n > 2 ? " and more" : "");
        n = 1;
    }
    sd_status status = sd_tensors_write(context, path, t, n);
    if (status) return report(s, status);
    for (size_t i = 0; i < n && !s->quiet; i++) {
        numbers shape = {.nd = t[i].nd};
        memcpy(shape.dim, t[i].dim, sizeof shape.dim);
        printf("%s: %s %s\n", path, t[i].name, shape_text(&shape));
    }
    return CLI_OK;
}
