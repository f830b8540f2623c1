/* selftest.c - floor 6: sd_selftest: what is checked, on what, and where its files are. */
#include "inspect.h"
#include "selftest.h"

#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------------------- what can compute */

/* Every instruction set that this processor has, best first; then the sums in double of the best. */
static void find_tables(sd_selftest_run *s)
{
    static const char *const names[] = {"avx512", "avx2", "sse2", "neon", "scalar"};
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        const sd_kern *k = sd_kern_select(names[i]);
        if (k) s->table[s->tables++] = (sd_check_table){k, k->name};
    }
    s->table[s->tables++] = (sd_check_table){sd_kern_select_precise(NULL), "precise"};
}

static void see_device(void *user, const sd_device_info *d)
{
    sd_selftest_run *s = user;
    if (strcmp(d->which, "cpu") == 0 || (s->one_device && !d->chosen) || s->devices == SD_CHECK_DEVICES) return;
    sd_check_device *to = &s->device[s->devices++];
    snprintf(to->which, sizeof to->which, "%s", d->which);
    snprintf(to->name, sizeof to->name, "%s", d->name);
    snprintf(to->refused, sizeof to->refused, "%.159s", d->refused);
    /* Of a CPU's driver the first run compiles for a minute or two, nothing stops its compiler, and the processor has
     * been checked already. */
    if (!s->one_device && strcmp(d->type, "CPU") == 0 && !*d->refused)
        snprintf(to->left_out, sizeof to->left_out, "its driver compiles for minutes; --device %s checks it", d->which);
}

/* which: see sd_selftest_options. */
static sd_status find_devices(sd_selftest_run *s, const char *which)
{
    sd_error e = {0};
    s->one_device = which && strcmp(which, "cpu") != 0;
    if (which && !s->one_device) snprintf(s->no_device, sizeof s->no_device, "none was asked for");
    else if (sd_device_list(s->one_device ? which : "opencl", false, see_device, s, &e) && s->one_device)
        return sd_fail(s->e, e.status, "%s", e.text);
    else if (e.status && !s->devices) snprintf(s->no_device, sizeof s->no_device, "%.159s", e.text);
    return SD_OK;
}

/* ------------------------------------------------------------------------------------ where files are */

/* A new directory in `given`, else where this system keeps what is temporary. */
static sd_status make_scratch(const char *given, char path[4096], sd_error *e)
{
    const char *temporary = getenv("TMPDIR");
    if (!given) given = temporary && *temporary ? temporary : sd_is_dir("/tmp") ? "/tmp" : ".";
    char name[48];
    snprintf(name, sizeof name, "sd-selftest-%016llx", (unsigned long long)sd_os_any_number());
    if (sd_path_join(path, 4096, given, name, e)) return e->status;
    if (!sd_os_make_directory(path)) return sd_fail(e, SD_ERR_IO, "cannot make the directory %s", path);
    return SD_OK;
}

static sd_status find_data(const char *given, char path[4096], sd_error *e)
{
    static const char first[] = "generators.txt";
    if (given) return snprintf(path, 4096, "%s", given) < 4096 ? SD_OK : sd_fail(e, SD_ERR_ARG, "too long a path");
    if (!sd_find_data("selftest/generators.txt", "share/selftest/generators.txt", path))
        return sd_fail(e, SD_ERR_MISSING, "the self-test's expected numbers are neither installed nor in "
                       "share/selftest beside the program");
    path[strlen(path) - sizeof first] = 0;
    return SD_OK;
}

/* -------------------------------------------------------------------------------------- the interface */

void sd_selftest_options_init_sized(sd_selftest_options *o, size_t size)
{
    const sd_selftest_options fresh = {.size = sizeof fresh, .threads = SD_DEFAULT};
    sd_copy_struct(o, size, &fresh, sizeof fresh);
    o->size = size;
}

sd_status sd_selftest_check(sd_selftest_run *s)
{
    static sd_status (*const groups[])(sd_selftest_run *s) = {sd_check_generators, sd_check_tokens, sd_check_samplers,
                                                             sd_check_kernels, sd_check_networks};
    enum { NETWORK_CASES = 21 };
    s->total = NETWORK_CASES * s->tables;
    for (int i = 0; i < s->devices; i++) s->total += *s->device[i].left_out ? 0 : NETWORK_CASES;
    for (size_t i = 0; i < SD_COUNT(groups) && !s->e->status; i++) groups[i](s);
    if (!s->e->status && s->n == 0) sd_fail(s->e, SD_ERR_ARG, "no check has the name \"%.100s\"", s->only);
    return s->e->status;
}

sd_status sd_selftest(const sd_selftest_options *options, char **text, int *failed, char error[512])
{
    sd_halt halt = {0};
    sd_error e = {.halt = &halt};
    sd_text t = {0};
    sd_selftest_options o;
    char data[4096], scratch[4096] = "", merges[4096];
    double start = sd_now();
    sd_selftest_options_init_sized(&o, sizeof o);
    if (options) sd_copy_struct(&o, sizeof o, options, options->size);
    if (error) *error = 0;
    if (!text || !failed) return SD_ERR_ARG;
    *text = NULL;
    *failed = 0;
    sd_selftest_run s = {.data = data, .scratch = scratch, .only = o.only, .progress = o.progress, .user = o.user,
                         .e = &e, .threads = o.threads == SD_DEFAULT ? sd_cores_usable() : o.threads};
    s.merges = merges;
    if (!sd_find_data("merges.txt", "weights/merges.txt", merges))
        sd_fail(&e, SD_ERR_MISSING, "merges.txt is neither installed nor in weights beside the program");
    if (!e.status && (s.threads < 1 || s.threads > 1024))
        sd_fail(&e, SD_ERR_ARG, "threads must be 1 to 1024, not %d", s.threads);
    if (!e.status && !find_data(o.data, data, &e) && !make_scratch(o.scratch, scratch, &e)) {
        find_tables(&s);
        if (!find_devices(&s, o.device)) sd_selftest_check(&s);
        remove(scratch);
    }
    const sd_selftest_style style = {.all = o.all != 0, .seconds = sd_now() - start};
    if (!e.status) (o.json ? sd_selftest_json : sd_selftest_text)(&s, &style, &t);
    for (size_t i = 0; i < s.n; i++) *failed += sd_check_failed(&s.row[i]);
    free(s.row);
    return sd_inspect_end(&t, text, error, &e);
}
