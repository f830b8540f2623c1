/* os_memory.c - floor 0: how much memory a call may take, so that what cannot end well does not begin.
 *
 * Systems promise more memory than they have, and end the program that believes them. What is really left is the least
 * of what the system, the limits of the process and those of its control group (a container) leave. */
#define _POSIX_C_SOURCE 200809L
#include "base.h"

#include <stdlib.h>
#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#include <unistd.h>

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

#ifdef __linux__
enum { FILE_BYTES = 8192 };   /* the files below are shorter, or begin with what is looked for */

static bool read_text(const char *path, char text[FILE_BYTES])
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, FILE_BYTES - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    return n > 0;
}

/* The number behind `key` at the beginning of a line; `otherwise` if there is none ("max"). */
static uint64_t number_of(const char *text, const char *key, uint64_t otherwise)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) != 0) continue;
        char *end;
        unsigned long long v = strtoull(line + n, &end, 10);
        return end > line + n ? v : otherwise;
    }
    return otherwise;
}

static uint64_t of_system(void)
{
    char text[FILE_BYTES];
    if (!read_text("/proc/meminfo", text)) return UINT64_MAX;
    uint64_t free_kb = number_of(text, "MemAvailable:", UINT64_MAX), swap_kb = number_of(text, "SwapFree:", 0);
    return free_kb > UINT64_MAX / 4096 ? UINT64_MAX : (free_kb + swap_kb) * 1024;
}

/* Of a limit on addresses, what this process has not taken. */
static uint64_t of_process(void)
{
    char text[FILE_BYTES];
    struct rlimit l;
    if (getrlimit(RLIMIT_AS, &l) != 0 || l.rlim_cur == RLIM_INFINITY || !read_text("/proc/self/statm", text))
        return UINT64_MAX;
    uint64_t taken = number_of(text, "", 0) * (uint64_t)sysconf(_SC_PAGESIZE);
    return l.rlim_cur > taken ? l.rlim_cur - taken : 0;
}

/* A number in a file of a control group. `key`: "" if it is all there is in it. */
static uint64_t of_file(const char *dir, const char *name, const char *key, uint64_t otherwise)
{
    char path[4096], text[FILE_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path || !read_text(path, text)) return otherwise;
    return number_of(text, key, otherwise);
}

/* What this group and those it lies in leave; the pages of files that they hold can be given back. */
static uint64_t of_groups(const char *root, const char *group, bool unified)
{
    char dir[4096];
    uint64_t left = UINT64_MAX;
    int n = snprintf(dir, sizeof dir, "%s%s", root, group);
    if (n < 0 || (size_t)n >= sizeof dir) return left;
    while (strlen(dir) >= strlen(root)) {
        uint64_t most = of_file(dir, unified ? "memory.max" : "memory.limit_in_bytes", "", UINT64_MAX);
        uint64_t used = of_file(dir, unified ? "memory.current" : "memory.usage_in_bytes", "", 0);
        uint64_t files = of_file(dir, "memory.stat", unified ? "file " : "total_cache ", 0);
        used -= least(files, used);
        if (most != UINT64_MAX) left = least(left, most > used ? most - used : 0);
        char *slash = strrchr(dir, '/');
        if (!slash || slash == dir) break;
        *slash = 0;
    }
    return left;
}

static uint64_t of_group(void)
{
    char text[FILE_BYTES];
    uint64_t left = UINT64_MAX;
    if (!read_text("/proc/self/cgroup", text)) return left;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        const char *group = strrchr(line, ':');
        bool unified = strncmp(line, "0::", 3) == 0;
        if (!group || (!unified && !strstr(line, ":memory:"))) continue;
        const char *root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
        left = least(left, of_groups(root, strcmp(group + 1, "/") == 0 ? "" : group + 1, unified));
    }
    return left;
}
#else
static uint64_t of_system(void)
{
#ifdef _SC_PHYS_PAGES
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0) return (uint64_t)pages * (uint64_t)size;
#endif
    return UINT64_MAX;
}

static uint64_t of_process(void)
{
    struct rlimit l;
    return getrlimit(RLIMIT_AS, &l) != 0 || l.rlim_cur == RLIM_INFINITY ? UINT64_MAX : l.rlim_cur;
}

static uint64_t of_group(void) { return UINT64_MAX; }
#endif

uint64_t sd_memory_left(void) { return least(least(of_system(), of_process()), of_group()); }
#else
uint64_t sd_memory_left(void) { return UINT64_MAX; }
#endif

sd_status sd_need_memory(sd_error *e, double bytes, const char *fmt, ...)
{
    enum { NOT_WORTH_ASKING = 64 << 20 };
    char what[256];
    uint64_t allowed = e->halt ? e->halt->memory : 0;
    if (e->status || (!allowed && bytes < NOT_WORTH_ASKING)) return e->status;
    uint64_t left = allowed ? allowed : sd_memory_left();
    if (bytes <= (double)left) return SD_OK;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return sd_fail(e, SD_ERR_MEMORY, "%s takes %.3g GB of memory, and %.3g GB are %s", what, bytes / 1e9,
                   (double)left / 1e9,
                   allowed ? "allowed" : "free");
}
