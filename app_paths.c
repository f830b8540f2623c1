/* app_paths.c - floor 7: names of files: what may be written, and under which name. */
#include "app.h"
#include "os.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    for (size_t i = 0; n > m && i < m; i++)
        if (tolower((unsigned char)s[n - m + i]) != end[i]) return 0;
    return n > m;
}

int is_stream(const char *path)
{
    return sd_os_descriptor(path) >= 0 || sd_os_look(path, NULL) == SD_OS_STREAM;
}

int is_picture_name(const char *path)
{
    if (is_stream(path)) return 1;
#ifdef SD_WITH_PNG
    if (ends_with(path, ".png")) return 1;
#endif
    return ends_with(path, ".ppm");
}

int is_latents_name(const char *path)
{
    return !is_stream(path) && (ends_with(path, ".safetensors") || ends_with(path, ".npy"));
}

int check_writable(const char *what, const char *path)
{
    char dir[PATH_SIZE];
    if (snprintf(dir, sizeof dir, "%s", path) >= PATH_SIZE)
        return cli_error(CLI_USAGE, "the %s path is longer than %d bytes", what, PATH_SIZE - 1);
    if (sd_os_look(path, NULL) == SD_OS_DIRECTORY)
        return cli_error(CLI_USAGE, "cannot write the %s %s: it is a directory", what, path);
    if (is_stream(path)) return CLI_OK;
    char *slash = strrchr(dir, '/');
    if (!slash) snprintf(dir, sizeof dir, ".");
    else slash[slash == dir] = 0;
    sd_os_kind kind = sd_os_look(dir, NULL);
    if (kind == SD_OS_FILE || kind == SD_OS_STREAM)
        return cli_error(CLI_USAGE, "cannot write the %s %s: %s is not a directory", what, path, dir);
    if (kind != SD_OS_DIRECTORY || !sd_os_may_write_in(dir))
        return cli_error(errno_code(errno), "cannot write the %s %s: %s", what, path, strerror(errno));
    return CLI_OK;
}

int check_directory(const char *what, const char *path)
{
    if (!sd_os_make_directory(path))
        return cli_error(errno_code(errno), "cannot make the directory %s for the %s: %s", path, what, strerror(errno));
    if (sd_os_look(path, NULL) == SD_OS_FILE || is_stream(path))
        return cli_error(CLI_USAGE, "cannot write the %s into %s: it is not a directory", what, path);
    if (!sd_os_may_write_in(path))
        return cli_error(errno_code(errno), "cannot write the %s into %s: %s", what, path, strerror(errno));
    return CLI_OK;
}

/* A name without any ending, as of a pipe, may stand for everything. */
static int has_other_ending(const char *path, const char *ending)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strchr(name, '.') && !ends_with(path, ending);
}

int check_trace(const char *path)
{
    size_t n = strlen(path);
    if (n && path[n - 1] == '/') return check_directory("trace", path);
    if (strcmp(path, "-") == 0)
        return cli_error(CLI_USAGE, "a trace goes to a file, not to the standard output: --trace FILE.safetensors");
    if (!n || has_other_ending(path, ".safetensors"))
        return cli_error(CLI_USAGE, "a trace's name must end in .safetensors, or in / as a directory of .npy files, "
                         "not \"%s\"", path);
    if (sd_os_look(path, NULL) == SD_OS_DIRECTORY)
        return cli_error(CLI_USAGE, "cannot write the trace %s: it is a directory; --trace %s/ writes a .npy file for "
                         "each tensor into it", path, path);
    return check_writable("trace", path);
}

/* "%d", "%3d" or "%03d": its length, and how it is to be filled; 0 if there is none. */
static size_t number_sign(const char *s, int *zeros, int *width)
{
    const char *c = s;
    if (*c != '%') return 0;
    *zeros = *++c == '0';
    for (*width = 0; *c >= '0' && *c <= '9' && *width < 100; c++) *width = 10 * *width + (*c - '0');
    return *c == 'd' && *width < 100 ? (size_t)(c + 1 - s) : 0;
}

static const char *find_number(const char *s, size_t *n, int *zeros, int *width)
{
    for (; *s; s++)
        if ((*n = number_sign(s, zeros, width)) > 0) return s;
    return NULL;
}

int picture_path(char path[PATH_SIZE], const char *output, int index)
{
    size_t sign = 0;
    int zeros = 0, width = 0, n;
    const char *dot = strrchr(output, '.');   /* a stream need not have one */
    const char *at = find_number(output, &sign, &zeros, &width);
    size_t stem = at ? (size_t)(at - output) : dot ? (size_t)(dot - output) : strlen(output);
    if (at && zeros) n = snprintf(path, PATH_SIZE, "%.*s%0*d%s", (int)stem, output, width, index, at + sign);
    else if (at) n = snprintf(path, PATH_SIZE, "%.*s%*d%s", (int)stem, output, width, index, at + sign);
    else if (index == 1) n = snprintf(path, PATH_SIZE, "%s", output);
    else n = snprintf(path, PATH_SIZE, "%.*s_%d%s", (int)stem, output, index, output + stem);
    return n < PATH_SIZE ? CLI_OK : cli_error(CLI_USAGE, "the output path is longer than %d bytes", PATH_SIZE - 1);
}

/* A directory may be named with a slash or without. */
static int same_path(const char *a, const char *b)
{
    size_t m = strlen(a), n = strlen(b);
    while (m > 1 && a[m - 1] == '/') m--;
    while (n > 1 && b[n - 1] == '/') n--;
    return m == n && memcmp(a, b, n) == 0;
}

/* What a run is compared with or begins from is not written over by its traces, and no result by another. */
int check_kept(const settings *s, const char *output)
{
    const char *const out[] = {s->trace, s->trace_stats, s->trace_hash, s->floor, output};
    const char *const in[] = {s->inject, s->latents, s->noise, s->tokens_in, s->embeds, s->timestep};
    for (size_t i = 0; i < COUNT(out); i++)
        for (size_t k = 0; k < i; k++)
            if (out[i] && out[k] && same_path(out[i], out[k]))
                return cli_error(CLI_USAGE, "%s would be written twice: give another name", out[k]);
    for (size_t i = 0; i + 1 < COUNT(out); i++)
        for (size_t k = 0; k < COUNT(in); k++)
            if (out[i] && in[k] && same_path(out[i], in[k]))
                return cli_error(CLI_USAGE, "%s is read and would be written over: give another name", in[k]);
    return CLI_OK;
}
