/* os_caches.c - floor 0: how large this machine's caches are: from Linux' sysfs, else from the processor (x86's CPUID),
 * else a guess that is small enough for anything with vector units. */
#include "os.h"

#include <string.h>

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#include <cpuid.h>
#define SD_CPUID 1
#endif

static void enter(sd_cache_sizes *c, int level, size_t size, size_t line)
{
    size_t *const at[] = {NULL, &c->l1, &c->l2, &c->l3};
    if (level < 1 || level > 3) return;
    *at[level] = size;
    if (line) c->line = line;
}

/* Some virtual machines and containers report nonsense. */
static bool plausible(const sd_cache_sizes *c)
{
    return c->l1 >= 4 << 10 && c->l1 <= 4 << 20 && c->l2 > c->l1 && c->l2 <= 256 << 20
        && (c->l3 == 0 || c->l3 >= c->l2 / 2) && c->line >= 16 && c->line <= 1024;
}

/* The first line of a small file; empty where there is none. */
static void first_line(char text[32], const char *dir, int index, const char *name)
{
    char path[512];
    text[0] = 0;
    int n = snprintf(path, sizeof path, "%s/index%d/%s", dir, index, name);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "rb") : NULL;
    if (!f) return;
    if (!fgets(text, 32, f)) text[0] = 0;
    fclose(f);
    text[strcspn(text, "\r\n")] = 0;
}

/* "32K", "1M", "64" */
static size_t bytes(const char *text)
{
    unsigned long n = 0;
    char unit = 0;
    if (sscanf(text, "%9lu%c", &n, &unit) < 1) return 0;
    return (size_t)n << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
}

int sd_caches_from_sysfs(sd_cache_sizes *c, const char *dir)
{
    *c = (sd_cache_sizes){.line = 64, .from = "sysfs"};
    for (int i = 0; i < 8; i++) {
        char type[32], level[32], size[32], line[32];
        first_line(type, dir, i, "type");
        first_line(level, dir, i, "level");
        first_line(size, dir, i, "size");
        first_line(line, dir, i, "coherency_line_size");
        if (!strcmp(type, "Data") || !strcmp(type, "Unified")) enter(c, (int)bytes(level), bytes(size), bytes(line));
    }
    return plausible(c);
}

/* Intel's leaf 4, AMD's leaf 0x8000001d: EAX bits 0-4 kind (0 none, 1 data, 3 unified), 5-7 level;
 * EBX bits 0-11 line - 1, 12-21 partitions - 1, 22-31 ways - 1; ECX sets - 1. */
int sd_caches_from_cpuid(sd_cache_sizes *c)
{
    *c = (sd_cache_sizes){.line = 64, .from = "cpuid"};
#ifdef SD_CPUID
    static const unsigned leaves[] = {4, 0x8000001d};
    for (int l = 0; l < 2 && !c->l1; l++) {
        for (unsigned i = 0; i < 8; i++) {
            unsigned eax, ebx, ecx, edx;
            if (!__get_cpuid_count(leaves[l], i, &eax, &ebx, &ecx, &edx) || !(eax & 31)) break;
            size_t line = (ebx & 0xfff) + 1;
            if ((eax & 31) != 2)
                enter(c, eax >> 5 & 7, line * ((ebx >> 12 & 0x3ff) + 1) * ((ebx >> 22) + 1) * ((size_t)ecx + 1), line);
        }
    }
#endif
    return plausible(c);
}

sd_cache_sizes sd_caches_find(void)
{
    sd_cache_sizes c;
    if (sd_caches_from_sysfs(&c, "/sys/devices/system/cpu/cpu0/cache") || sd_caches_from_cpuid(&c)) return c;
    return (sd_cache_sizes){.l1 = 32 << 10, .l2 = 256 << 10, .line = 64, .from = "default"};
}
