/* os_cores.c - floor 0: how many cores this process may keep busy: OpenMP's environment, and the CPU quota of its
 * control group, which containers set: more threads than that stand still for most of each period. */
#include "os_cores.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

enum { PATH = 1024 };

/* The numbers at the begin of a small file, which "max" and "-1" (no limit) are not. Returns how many. */
static int read_numbers(const char *path, double out[2])
{
    char text[64] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    if (!fgets(text, sizeof text, f)) text[0] = 0;
    fclose(f);
    return sscanf(text, "%lf %lf", &out[0], &out[1]);
}

/* Cores of quota / period, rounded up; 0 if there is none. */
static int whole_cores(double quota, double period)
{
    if (!(quota > 0 && period > 0 && quota / period < 1e6)) return 0;
    int cores = (int)(quota / period);
    return cores < quota / period ? cores + 1 : cores;
}

static int quota_of(const char *dir, int version)
{
    char path[PATH + 32];
    double now[2] = {0, 0}, period[2] = {0, 0};
    if (version == 2) {
        snprintf(path, sizeof path, "%s/cpu.max", dir);
        return read_numbers(path, now) == 2 ? whole_cores(now[0], now[1]) : 0;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    if (read_numbers(path, now) < 1) return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    return read_numbers(path, period) < 1 ? 0 : whole_cores(now[0], period[0]);
}

static int smaller(int a, int b) { return a == 0 ? b : b == 0 || a < b ? a : b; }

/* The quotas of a group and of all above it: mount, mount/a, mount/a/b. A container may see its own group as the
 * root. */
static int least_quota(const char *mount, const char *group, int version)
{
    char dir[PATH];
    int least = 0;
    if (snprintf(dir, sizeof dir, "%s%s", mount, group) >= PATH) return 0;
    for (size_t n = strlen(dir); n >= strlen(mount); n--) {
        if (dir[n] && dir[n] != '/') continue;
        dir[n] = 0;
        least = smaller(least, quota_of(dir, version));
        if (!n) break;
    }
    return least;
}

/* A word of a comma list. */
static int has_word(const char *list, size_t n, const char *word)
{
    for (size_t m = strlen(word), i = 0; i + m <= n; i++)
        if (strncmp(list + i, word, m) == 0 && (i == 0 || list[i - 1] == ',') && (i + m == n || list[i + m] == ','))
            return 1;
    return 0;
}

int sd_cores_quota(const char *root)
{
    char path[PATH], mount[PATH], line[PATH];
    int least = 0;
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= PATH) return 0;
    FILE *f = fopen(path, "rb");
    while (f && fgets(line, sizeof line, f)) {   /* "0::/group" or "3:cpu,cpuacct:/group" */
        line[strcspn(line, "\n")] = 0;
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        size_t n = (size_t)(group - names - 1);
        int version = n == 0 ? 2 : has_word(names + 1, n, "cpu") ? 1 : 0;
        if (!version || strstr(group + 1, "/..")) continue;
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s", root, version == 1 ? "/cpu" : "");
        least = smaller(least, least_quota(mount, group + 1, version));
    }
    if (f) fclose(f);
    return least;
}

int sd_cores_usable(void)
{
    int cores = 1;
#ifdef _OPENMP
    const char *asked = getenv("OMP_NUM_THREADS");
    int quota = asked && *asked ? 0 : sd_cores_quota(""), limit = omp_get_thread_limit();
    cores = omp_get_max_threads();
    if (limit > 0 && limit < cores) cores = limit;
    if (quota && quota < cores) cores = quota;
#endif
    return cores;
}
