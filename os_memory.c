/* os_memory.c - floor 0: how much memory this process can still get.
 *
 * Systems promise more memory than they have and kill the program that relies on it. What is really left is the
 * smallest of what the system, the limits of the process and the limits of its control groups (a container) leave. */
#define _POSIX_C_SOURCE 200809L
#ifdef __APPLE__
#define _DARWIN_C_SOURCE   /* ru_maxrss */
#endif
#include "os.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_OS_POSIX
#include <sys/resource.h>
#include <unistd.h>

/* All memory of the machine, whoever uses it. */
static uint64_t machine_memory(void)
{
#ifdef _SC_PHYS_PAGES
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages > 0 && size > 0) return (uint64_t)pages * (uint64_t)size;
#endif
    return UINT64_MAX;
}

/* The limit on the address space; UINT64_MAX: there is none. */
static uint64_t address_limit(void)
{
    struct rlimit l;
    return getrlimit(RLIMIT_AS, &l) != 0 || l.rlim_cur == RLIM_INFINITY ? UINT64_MAX : l.rlim_cur;
}

static uint64_t page_size(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

uint64_t sd_memory_peak(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
#ifdef __APPLE__
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;   /* Linux and the BSDs count in KiB */
#endif
}

#else

static uint64_t machine_memory(void) { return UINT64_MAX; }
static uint64_t address_limit(void) { return UINT64_MAX; }
static uint64_t page_size(void) { return 4096; }
uint64_t sd_memory_peak(void) { return 0; }
#endif

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* ------------------------------------------------------------- the files in which Linux tells more */

enum { FILE_BYTES = 8192 };   /* the files below are shorter, or have what we want at their beginning */

static bool read_text(const char *path, char text[FILE_BYTES])
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, FILE_BYTES - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    return n > 0;
}

/* The number after a `key` that begins a line; `otherwise` if there is none ("max"). */
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

/* Available memory plus free swap; where the system does not report them, all memory of the machine. */
static uint64_t left_in_system(void)
{
    char text[FILE_BYTES];
    if (!read_text("/proc/meminfo", text)) return machine_memory();
    uint64_t free_kb = number_of(text, "MemAvailable:", UINT64_MAX), swap_kb = number_of(text, "SwapFree:", 0);
    return free_kb > UINT64_MAX / 4096 ? UINT64_MAX : (free_kb + swap_kb) * 1024;
}

/* What this process has not used of its limit on the address space. */
static uint64_t left_in_process(void)
{
    char text[FILE_BYTES];
    uint64_t most = address_limit();
    if (most == UINT64_MAX || !read_text("/proc/self/statm", text)) return most;
    uint64_t taken = number_of(text, "", 0) * page_size();
    return most > taken ? most - taken : 0;
}

/* A number in a file of a control group. `key` is "" if the number is all that the file holds. */
static uint64_t number_in_file(const char *dir, const char *name, const char *key, uint64_t otherwise)
{
    char path[4096], text[FILE_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path || !read_text(path, text)) return otherwise;
    return number_of(text, key, otherwise);
}

/* What one group leaves. Its cached file pages can be given back, so they count as free. A group without a limit says
 * "max", or in version 1 a number near 2^63; what it uses then need not be added up. */
static void see_group(void *user, const char *dir, int version)
{
    uint64_t *left = user;
    uint64_t most = number_in_file(dir, version == 2 ? "memory.max" : "memory.limit_in_bytes", "", UINT64_MAX);
    if (most >= (uint64_t)1 << 62) return;
    uint64_t used = number_in_file(dir, version == 2 ? "memory.current" : "memory.usage_in_bytes", "", 0);
    uint64_t files = number_in_file(dir, "memory.stat", version == 2 ? "file " : "total_cache ", 0);
    used -= smaller(files, used);
    *left = smaller(*left, most > used ? most - used : 0);
}

uint64_t sd_memory_of_groups(const char *root)
{
    uint64_t left = UINT64_MAX;
    sd_cgroups_see(root, "memory", see_group, &left);
    return left;
}

uint64_t sd_memory_left(void) { return smaller(smaller(left_in_system(), left_in_process()), sd_memory_of_groups("")); }
