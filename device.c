/* device.c - floor 2: what computes: the CPU, or a device that a run's backend speaks to. */
#include "device.h"
#include "profile_roof.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_WITH_OPENCL
#include "ops_opencl.h"
#endif

/* "cpu", "opencl" and "opencl:...", or an error. given: whether the caller said so, and not the environment. */
static sd_status check_name(const char *which, bool given, sd_error *e)
{
    static const char *const names[][2] = {   /* what people type, what they mean */
        {"cpu", "cpu"}, {"opencl", "opencl"}, {"gpu", "opencl"}, {"cuda", "opencl"}, {"vulkan", "opencl"}};
    size_t n = strcspn(which, ":"), least = 3;
    const char *near = NULL;
    if (strcmp(which, "cpu") == 0 || strcmp(which, "opencl") == 0 || (sd_begins_with(which, "opencl:") && which[7]))
        return SD_OK;
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        size_t far = sd_edit_distance(which, n, names[i][0], strlen(names[i][0]), false, false);
        if (far >= least) continue;
        least = far;
        near = names[i][1];
    }
    return sd_fail(e, SD_ERR_ARG, "%sa device is cpu, opencl, opencl:NUMBER or opencl:NAME, not \"%.60s\"%s%s%s",
                   given ? "" : "$SD_DEVICE: ", which, near ? "; did you mean " : "", near ? near : "",
                   near ? "?" : "");
}

/* What is given, else what the environment says, else the usual; NULL and an error if it means nothing. */
static const char *asked(const char *which, const char *usual, sd_error *e)
{
    bool given = which && *which;
    if (!given) which = getenv("SD_DEVICE");
    if (!which || !*which) return usual;
    return check_name(which, given, e) ? NULL : which;
}

#ifdef SD_WITH_OPENCL
/* Where programs and choices are kept: what the caller says, else as XDG's base directories say. "": nowhere. */
static void cache_directory(char *out, size_t size, const char *given)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (given) n = snprintf(out, size, "%s", given);
    else if (xdg && *xdg == '/') n = snprintf(out, size, "%s/sd", xdg);
    else if (home && *home == '/') n = snprintf(out, size, "%s/.cache/sd", home);
    if (n <= 0 || (size_t)n >= size) *out = 0;
}

static sd_status open_opencl(sd_run *r, sd_cpu *cpu, const char *which, const char *cache, const sd_log *log)
{
    char dir[sizeof ((sd_cl *)NULL)->cache];
    cache_directory(dir, sizeof dir, cache);
    sd_cl *cl = sd_cl_open(which, dir, cpu->kern, log, r->err);
    sd_cl_checked done;
    if (!cl) return r->err->status;
    if (sd_cl_check(cl, &sd_backend_opencl, false, &done, r->err) && sd_cl_distrust_cache(cl)) {
        sd_logf(log, SD_LOG_DETAIL, "%s; with programs of the cache: they are built anew", r->err->text);
        sd_error_clear(r->err);
        sd_cl_check(cl, &sd_backend_opencl, false, &done, r->err);
    }
    if (r->err->status) {
        sd_cl_close(cl);
        return r->err->status;
    }
    sd_logf(log, SD_LOG_DETAIL, "its self-test: %d cases in %.2f s, the largest error is %.2f of its bound", done.cases,
            done.seconds, done.worst);
    sd_cl_read_choices(cl);
    r->be = &sd_backend_opencl;
    r->device = cl;
    return SD_OK;
}
#endif

sd_status sd_device_open(sd_run *r, sd_cpu *cpu, const char *which, const char *cache, const sd_log *log)
{
    which = asked(which, "cpu", r->err);
    r->be = &sd_backend_cpu;
    r->device = cpu;
    if (!which || strcmp(which, "cpu") == 0) return r->err->status;
#ifdef SD_WITH_OPENCL
    return open_opencl(r, cpu, which, cache, log);
#else
    (void)cache;
    (void)log;
    return sd_fail(r->err, SD_ERR_UNSUPPORTED, "there is no device %.60s: this build has no OpenCL", which);
#endif
}

void sd_device_close(sd_run *r)
{
    sd_run_free(r);
#ifdef SD_WITH_OPENCL
    if (r->be == &sd_backend_opencl) sd_cl_close(r->device);
#endif
}

const char *sd_device_name(const sd_run *r)
{
#ifdef SD_WITH_OPENCL
    if (r->be == &sd_backend_opencl) return sd_cl_of(r)->label;
#else
    (void)r;
#endif
    return "cpu";
}

/* ------------------------------------------------------------------------------------ listing */

static void list_cpu(void (*fn)(void *, const sd_device_info *), void *user)
{
    char name[64];
    const sd_device_info cpu = {.which = "cpu", .name = name, .type = "CPU", .platform = "", .platform_version = "",
                                .driver = "", .memory = sd_memory_left(), .largest = sd_memory_left(),
                                .units = (size_t)sd_cores_usable(), .refused = "", .why = ""};
    snprintf(name, sizeof name, "%s kernels", sd_kern_select(NULL)->name);
    fn(user, &cpu);
}

#ifdef SD_WITH_OPENCL
/* Opens a listed device for its self-test alone. `e` gets what is wrong with it. */
static sd_cl_checked check_one(const sd_cl *found, sd_error *e)
{
    static const sd_log silent = {NULL, NULL};
    char dir[sizeof found->cache];
    sd_cl_checked done = {0};
    cache_directory(dir, sizeof dir, NULL);
    sd_cl *cl = sd_cl_open_found(found, dir, sd_kern_select(NULL), &silent, e);
    if (cl) sd_cl_check(cl, &sd_backend_opencl, true, &done, e);
    sd_cl_close(cl);
    return done;
}

static void list_one(const sd_cl *cl, const char *why, bool check, void (*fn)(void *, const sd_device_info *),
                     void *user)
{
    char which[24];
    sd_error e = {.status = SD_OK};
    sd_device_info d = {.which = which, .name = cl->name, .type = sd_cl_type_name(cl), .platform = cl->platform_name,
                        .platform_version = cl->platform_version, .driver = cl->driver, .memory = cl->memory,
                        .largest = cl->most, .shared = cl->local_memory, .units = cl->units, .group = cl->most_group,
                        .refused = cl->refused, .chosen = why != NULL, .why = why ? why : ""};
    snprintf(which, sizeof which, "opencl:%d", cl->number);
    if (check && !*d.refused) {
        sd_cl_checked done = check_one(cl, &e);
        d.refused = e.text;
        d.checked = e.status ? 0 : done.cases;
        d.check_seconds = done.seconds;
        d.check_worst = done.worst;
    }
    fn(user, &d);
}
#endif

sd_status sd_device_list(const char *which, bool check, void (*fn)(void *user, const sd_device_info *device),
                         void *user, sd_error *e)
{
    which = asked(which, "opencl", e);
    if (!which) return e->status;
    list_cpu(fn, user);
#ifdef SD_WITH_OPENCL
    sd_cl_list l;
    char why[SD_CL_WHY];
    size_t chosen = 0;
    if (strcmp(which, "cpu") == 0) which = "opencl";
    if (!sd_cl_find_devices(&l, e)) chosen = sd_cl_choose(&l, which, why, e);
    for (size_t i = 0; i < l.n; i++) list_one(&l.device[i], i == chosen ? why : NULL, check, fn, user);
    free(l.device);
    return e->status;
#else
    (void)check;
    return sd_fail(e, SD_ERR_UNSUPPORTED, "this build has no OpenCL");
#endif
}

/* ------------------------------------------------------------------------------- what it can do */

sd_status sd_device_roofs(sd_run *r, const sd_cpu *cpu, double seconds, sd_roofs *roofs)
{
#ifdef SD_WITH_OPENCL
    if (r->be == &sd_backend_opencl) return sd_cl_measure_roofs(r, roofs, seconds);
#endif
    return sd_roofs_measure(roofs, cpu->kern, &cpu->caches, cpu->threads, seconds, r->err);
}

sd_status sd_device_tune(const char *which, const char *cache, int (*fn)(void *user, const sd_tuned *tuned),
                         void *user, sd_error *e)
{
    static const sd_log silent;
    sd_cpu cpu = {.kern = sd_kern_select(NULL), .threads = 1};
    sd_run r = {.err = e};
    which = asked(which, "opencl", e);
    if (!which || sd_device_open(&r, &cpu, which, cache, &silent)) return e->status;
#ifdef SD_WITH_OPENCL
    if (r.be == &sd_backend_opencl) sd_cl_tune(&r, fn, user);
#else
    (void)fn;
    (void)user;
#endif
    if (r.be == &sd_backend_cpu)
        sd_fail(e, SD_ERR_ARG, "there is nothing to choose on the CPU: tuning is for devices of OpenCL");
    sd_device_close(&r);
    return e->status;
}
