/* ops_opencl_device.c - floor 2: finds OpenCL devices, asks what they can do, chooses one, opens and closes it. */
#include "ops_opencl.h"
#include "text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------- facts */

/* Without blanks at its ends or two in a row, cut off where there is no more room. */
static void tidy(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; *from && n + 1 < size; from++) {
        bool blank = isspace((unsigned char)*from);
        if (!blank) to[n++] = *from;
        else if (n && to[n - 1] != ' ') to[n++] = ' ';
    }
    while (n && to[n - 1] == ' ') n--;
    to[n] = 0;
}

/* What OpenCL has as a text. Drivers have long ones. */
enum { LONGEST = 1024 };
static bool device_text(const sd_cl *cl, cl_device_info what, char *to, size_t size)
{
    char text[LONGEST] = "";
    if (clGetDeviceInfo(cl->device, what, sizeof text - 1, text, NULL) != CL_SUCCESS) return false;
    tidy(to, size, text);
    return true;
}
static void platform_text(cl_platform_id platform, cl_platform_info what, char *to, size_t size)
{
    char text[LONGEST] = "";
    if (clGetPlatformInfo(platform, what, sizeof text - 1, text, NULL) != CL_SUCCESS) *text = 0;
    tidy(to, size, text);
}

/* "OpenCL C 1.2 PoCL" -> 102 */
static int version_of(const char *text)
{
    int major = 0, minor = 0;
    text += strcspn(text, "0123456789");
    return sscanf(text, "%d.%d", &major, &minor) == 2 ? 100 * major + minor : 0;
}

static void refuse(sd_cl *cl, const char *fmt, ...) SD_PRINTF(2, 3);
static void refuse(sd_cl *cl, const char *fmt, ...)
{
    va_list args;
    if (*cl->refused) return;
    va_start(args, fmt);
    vsnprintf(cl->refused, sizeof cl->refused, fmt, args);
    va_end(args);
}

/* What the kernels need. Subnormal numbers, doubles, halves, images, sub-groups: nothing of it. */
static void judge(sd_cl *cl)
{
    char version[64] = "", language[64] = "";
    cl_bool available = CL_FALSE, compiler = CL_FALSE, little = CL_FALSE;
    cl_device_fp_config fp = 0;
    const struct { cl_device_info what; size_t size; void *to; } facts[] = {
        {CL_DEVICE_AVAILABLE, sizeof available, &available},
        {CL_DEVICE_COMPILER_AVAILABLE, sizeof compiler, &compiler},
        {CL_DEVICE_ENDIAN_LITTLE, sizeof little, &little}, {CL_DEVICE_SINGLE_FP_CONFIG, sizeof fp, &fp}};
    for (size_t i = 0; i < SD_COUNT(facts); i++)
        if (clGetDeviceInfo(cl->device, facts[i].what, facts[i].size, facts[i].to, NULL) != CL_SUCCESS)
            refuse(cl, "its driver does not say what it can do");
    if (!available) refuse(cl, "its driver says that it is not available");
    if (!compiler) refuse(cl, "its driver has no compiler for kernels");
    if (!device_text(cl, CL_DEVICE_VERSION, version, sizeof version) || version_of(version) < 102)
        refuse(cl, "it has %s, OpenCL 1.2 is needed", *version ? version : "no version");
    if (!device_text(cl, CL_DEVICE_OPENCL_C_VERSION, language, sizeof language) || version_of(language) < 102)
        refuse(cl, "its compiler has %s, OpenCL C 1.2 is needed", *language ? language : "no version");
    if (!little) refuse(cl, "its numbers begin with the highest byte, those of models' files with the lowest");
    if (!(fp & CL_FP_ROUND_TO_NEAREST)) refuse(cl, "its floats are not rounded to the nearest");
    if (!(fp & CL_FP_INF_NAN)) refuse(cl, "its floats have no infinity and no NaN");
    if (cl->cpu) return;   /* a work-group is one work-item there */
    if (cl->most_group < 64)
        refuse(cl, "its work-groups have at most %zu work-items, 64 are needed", cl->most_group);
    if (cl->local_memory < 16384)
        refuse(cl, "its work-groups share %zu bytes, 16384 are needed", cl->local_memory);
}

static void ask(sd_cl *cl)
{
    cl_device_type type = 0;
    cl_uint units = 0, vector = 0;
    cl_bool shared = CL_FALSE;
    cl_ulong memory = 0, most = 0, local = 0;
    size_t group = 0;
    const struct { cl_device_info what; size_t size; void *to; } facts[] = {
        {CL_DEVICE_TYPE, sizeof type, &type}, {CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units},
        {CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory}, {CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most},
        {CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local}, {CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group},
        {CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof vector, &vector},
        {CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof shared, &shared}};
    if (!device_text(cl, CL_DEVICE_NAME, cl->name, sizeof cl->name)
        || !device_text(cl, CL_DRIVER_VERSION, cl->driver, sizeof cl->driver))
        refuse(cl, "its driver does not say what it is");
    if (!*cl->name) snprintf(cl->name, sizeof cl->name, "a device without a name");
    for (size_t i = 0; i < SD_COUNT(facts); i++)
        if (clGetDeviceInfo(cl->device, facts[i].what, facts[i].size, facts[i].to, NULL) != CL_SUCCESS)
            refuse(cl, "its driver does not say what it is");
    cl->type = type;
    cl->cpu = type & CL_DEVICE_TYPE_CPU;
    cl->units = units ? units : 1;
    cl->vector = vector;
    cl->shares_memory = shared;
    cl->memory = memory;
    cl->most = most < (cl_ulong)1 << 33 ? most : (cl_ulong)1 << 33;
    cl->local_memory = local;
    cl->most_group = group;
    snprintf(cl->label, sizeof cl->label, "opencl:%d %s", cl->number, cl->name);
    judge(cl);
}

const char *sd_cl_type_name(const sd_cl *cl)
{
    return cl->type & CL_DEVICE_TYPE_GPU ? "GPU" : cl->type & CL_DEVICE_TYPE_ACCELERATOR ? "accelerator"
        : cl->cpu ? "CPU" : "other";
}

/* -------------------------------------------------------------------------------------- finding */

enum { MOST_PLATFORMS = 32, MOST_DEVICES = 64 };   /* of one platform */

static sd_status add(sd_cl_list *l, size_t *cap, cl_platform_id platform, cl_device_id device, sd_error *e)
{
    sd_cl *more = sd_grow(l->device, l->n, cap, 4, sizeof *more);
    if (!more) return sd_fail(e, SD_ERR_MEMORY, "no memory for a list of OpenCL devices");
    l->device = more;
    sd_cl *cl = &l->device[l->n];
    memset(cl, 0, sizeof *cl);
    cl->platform = platform;
    cl->device = device;
    cl->number = (int)l->n++;
    platform_text(platform, CL_PLATFORM_NAME, cl->platform_name, sizeof cl->platform_name);
    platform_text(platform, CL_PLATFORM_VERSION, cl->platform_version, sizeof cl->platform_version);
    ask(cl);
    return SD_OK;
}

sd_status sd_cl_find_devices(sd_cl_list *l, sd_error *e)
{
    cl_platform_id platform[MOST_PLATFORMS];
    cl_device_id device[MOST_DEVICES];
    cl_uint platforms = 0;
    size_t cap = 0;
    *l = (sd_cl_list){NULL, 0};
    cl_int code = clGetPlatformIDs(MOST_PLATFORMS, platform, &platforms), last = CL_DEVICE_NOT_FOUND;
    if (code != CL_SUCCESS || !platforms)
        return sd_fail(e, SD_ERR_DEVICE, "there is no OpenCL platform, which a device's driver brings: %s (%d)",
                       sd_cl_code_name(code), (int)code);
    if (platforms > MOST_PLATFORMS) platforms = MOST_PLATFORMS;
    for (cl_uint p = 0; p < platforms; p++) {
        cl_uint n = 0;
        code = clGetDeviceIDs(platform[p], CL_DEVICE_TYPE_ALL, MOST_DEVICES, device, &n);
        if (code != CL_SUCCESS) last = code;
        for (cl_uint i = 0; code == CL_SUCCESS && i < n && i < MOST_DEVICES; i++)
            if (add(l, &cap, platform[p], device[i], e)) return e->status;
    }
    if (l->n) return SD_OK;
    return sd_fail(e, SD_ERR_DEVICE, "there is no OpenCL device: the %u platform%s %s none (%s, %d)", platforms,
                   platforms > 1 ? "s" : "", platforms > 1 ? "have" : "has", sd_cl_code_name(last), (int)last);
}

/* ------------------------------------------------------------------------------------- choosing */

static int rank(const sd_cl *cl)
{
    return cl->type & CL_DEVICE_TYPE_GPU ? 3 : cl->type & CL_DEVICE_TYPE_ACCELERATOR ? 2 : cl->cpu ? 1 : 0;
}
static bool goes_before(const sd_cl *a, const sd_cl *b)
{
    if (!*a->refused != !*b->refused) return !*a->refused;
    return rank(a) != rank(b) ? rank(a) > rank(b) : a->memory > b->memory;
}

static void lower(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; *from && n + 1 < size; from++) to[n++] = (char)tolower((unsigned char)*from);
    to[n] = 0;
}

/* Is `part` in the device's name, or in its platform's? In any case. */
static bool has_name(const sd_cl *cl, const char *part)
{
    char wanted[LONGEST], name[sizeof cl->name], platform[sizeof cl->platform_name];
    lower(wanted, sizeof wanted, part);
    lower(name, sizeof name, cl->name);
    lower(platform, sizeof platform, cl->platform_name);
    return strstr(name, wanted) || strstr(platform, wanted);
}

/* The number of the device a piece of whose name is nearest to what was typed; -1 if none is near. */
static int nearest(const sd_cl_list *l, const char *typed)
{
    char wanted[SD_MOST_LETTERS], name[SD_MOST_LETTERS];
    int best = -1;
    lower(wanted, sizeof wanted, typed);
    size_t n = strlen(wanted), least = n / 3 + 1;
    for (size_t i = 0; i < l->n; i++) {
        lower(name, sizeof name, l->device[i].name);
        size_t far = sd_edit_distance(wanted, n, name, strlen(name), true, true);
        if (far >= least) continue;
        least = far;
        best = (int)i;
    }
    return best;
}

/* "there is ...; there are opencl:0 (NAME), opencl:1 (NAME)" */
static size_t none_such(const sd_cl_list *l, const char *which, const char *part, sd_error *e)
{
    sd_text t = {0};
    int near = part ? nearest(l, part) : -1;
    for (size_t i = 0; i < l->n; i++)
        sd_text_add(&t, "%sopencl:%zu (%s)", i ? ", " : "", i, l->device[i].name);
    if (near >= 0)
        sd_fail(e, SD_ERR_ARG, "there is no device %.60s; did you mean %s? There %s %.300s", which,
                l->device[near].label, l->n > 1 ? "are" : "is", t.s ? t.s : "");
    else
        sd_fail(e, SD_ERR_ARG, "there is no device %.60s; there %s %.300s", which, l->n > 1 ? "are" : "is",
                t.s ? t.s : "");
    free(t.s);
    return l->n;
}

static bool is_number(const char *s) { return *s && s[strspn(s, "0123456789")] == 0; }

static void say_why(const sd_cl_list *l, size_t best, const char *part, char why[SD_CL_WHY])
{
    size_t fit = 0, equals = 0;
    for (size_t i = 0; i < l->n; i++) {
        const sd_cl *cl = &l->device[i];
        if (*cl->refused || (part && !has_name(cl, part))) continue;
        fit++;
        equals += rank(cl) == rank(&l->device[best]);
    }
    const char *type = sd_cl_type_name(&l->device[best]);
    if (fit == 1) snprintf(why, SD_CL_WHY, "the only one%s", part ? " with that name" : " that can be used");
    else if (equals == 1) snprintf(why, SD_CL_WHY, "of %zu the only %s", fit, type);
    else snprintf(why, SD_CL_WHY, "of %zu a %s with the most memory", fit, type);
}

size_t sd_cl_choose(const sd_cl_list *l, const char *which, char why[SD_CL_WHY], sd_error *e)
{
    const char *colon = strchr(which, ':'), *part = colon ? colon + 1 : NULL;
    size_t best = l->n, number = part && is_number(part) && strlen(part) < 6 ? (size_t)atoi(part) : l->n;
    if (number < l->n) {   /* larger numbers are names of cards, such as 4090 */
        best = number;
        snprintf(why, SD_CL_WHY, "its number");
    } else {
        for (size_t i = 0; i < l->n; i++)
            if ((!part || has_name(&l->device[i], part))
                && (best == l->n || goes_before(&l->device[i], &l->device[best])))
                best = i;
        if (best == l->n) return none_such(l, which, part, e);
        say_why(l, best, part, why);
    }
    if (!*l->device[best].refused) return best;
    sd_fail(e, SD_ERR_DEVICE, "%s cannot be used: %s", l->device[best].label, l->device[best].refused);
    return l->n;
}

/* -------------------------------------------------------------------------------------- opening */

static sd_status begin(sd_cl *cl, sd_error *e)
{
    cl_int code;
    cl->context = clCreateContext(NULL, 1, &cl->device, NULL, NULL, &code);
    if (code == CL_SUCCESS) cl->queue = clCreateCommandQueue(cl->context, cl->device, 0, &code);
    if (code == CL_SUCCESS) cl->nothing = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, 64, NULL, &code);
    if (code != CL_SUCCESS)
        return sd_fail(e, SD_ERR_DEVICE, "%s cannot be opened: %s (%d)", cl->label, sd_cl_code_name(code), (int)code);
    cl->taken = 64;
    cl->quantum = cl->least_quantum = 2e7;
    return SD_OK;
}

sd_cl *sd_cl_open_found(const sd_cl *found, const char *cache, const sd_kern *kern, const sd_log *log, sd_error *e)
{
    sd_cl *cl = malloc(sizeof *cl);
    if (!cl) {
        sd_fail(e, SD_ERR_MEMORY, "no memory for an OpenCL device");
        return NULL;
    }
    *cl = *found;
    cl->kern = kern;
    cl->log = log;
    snprintf(cl->cache, sizeof cl->cache, "%s", cache);
    if (!begin(cl, e)) return cl;
    sd_cl_close(cl);
    return NULL;
}

sd_cl *sd_cl_open(const char *which, const char *cache, const sd_kern *kern, const sd_log *log, sd_error *e)
{
    sd_cl_list l;
    char why[SD_CL_WHY];
    sd_cl *cl = NULL;
    if (!sd_cl_find_devices(&l, e)) {
        size_t i = sd_cl_choose(&l, which, why, e);
        if (i < l.n) {
            sd_logf(log, SD_LOG_DETAIL, "device %s, %s, %.1f GB: %s", l.device[i].label, sd_cl_type_name(&l.device[i]),
                    (double)l.device[i].memory / 1e9, why);
            cl = sd_cl_open_found(&l.device[i], cache, kern, log, e);
        }
    }
    free(l.device);
    return cl;
}

void sd_cl_close(sd_cl *cl)
{
    if (!cl) return;
    if (cl->mark) clReleaseEvent(cl->mark);
    sd_cl_free_weights(cl);
    sd_cl_free_programs(cl);
    sd_cl_free_buffer(cl, cl->nothing);
    if (cl->queue) clReleaseCommandQueue(cl->queue);
    if (cl->context) clReleaseContext(cl->context);
    sd_cl_forget_choices(cl);
    free(cl->block);
    free(cl);
}
