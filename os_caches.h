/* os_caches.h - floor 0: how large this machine's caches are, so that blocks can be made to fit them. */
#ifndef SD_OS_CACHES_H
#define SD_OS_CACHES_H

#include <stddef.h>

/* Bytes. l1 (data) and l2 are those of one core, l3 is shared by several; 0: there is none. line: of a cache line.
 * Blocks of work are cut to these sizes; they decide how fast a sum is computed, never in which order, so that the bits
 * are the same on every machine. */
typedef struct sd_cache_sizes {
    size_t l1, l2, l3, line;
    const char *from;   /* "sysfs", "cpuid" or "default" */
} sd_cache_sizes;

/* What the system or the processor says; where neither does, or says what cannot be, 32 KB, 256 KB, none, 64 bytes. */
sd_cache_sizes sd_caches_find(void);

/* The steps of sd_caches_find, for tests: `dir` has index0, index1, ... as Linux' /sys/devices/system/cpu/cpu0/cache.
 * 1: found, else 0 */
int sd_caches_from_sysfs(sd_cache_sizes *c, const char *dir);
int sd_caches_from_cpuid(sd_cache_sizes *c);

#endif
