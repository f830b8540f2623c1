/* os_cores.c - floor 0: how many cores this process may keep busy. That follows from OpenMP's environment and from the
 * CPU quota of its control group, which containers set: more threads would stand still for most of each period. */
#include "os.h"

#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

enum { PATH = 1024 };

/* Reads up to two numbers from the beginning of a small file, up to a word such as "max". Returns how many. */
static int read_numbers(const char *path, double out[2])
{
    char text[64] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    if (!fgets(text, sizeof text, f)) text[0] = 0;
    fclose(f);
    return sscanf(text, "%lf %lf", &out[0], &out[1]);
}

/* quota / period in cores, rounded up; 0 if there is no quota. */
static int whole_cores(double quota, double period)
{
    if (!(quota > 0 && period > 0 && quota / period < 1e6)) return 0;
    int cores = (int)(quota / period);
    return cores < quota / period ? cores + 1 : cores;
}

/* cpu.max of version 2, cpu.cfs_quota_us of version 1. */
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

static void take_quota(void *user, const char *dir, int version)
{
    int *least = user, quota = quota_of(dir, version);
    if (quota && (!*least || quota < *least)) *least = quota;
}

int sd_cores_quota(const char *root)
{
    int least = 0;
    sd_cgroups_see(root, "cpu", take_quota, &least);
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
