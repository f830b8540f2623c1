/* os_cores.h - floor 0: how many cores this process may keep busy. */
#ifndef SD_OS_CORES_H
#define SD_OS_CORES_H

/* What a Linux control group's CPU quota allows, rounded up: cpu.max of version 2, cpu.cfs_quota_us of version 1, the
 * smallest along the path to the root. 0: there is no quota. root is put before "/proc" and "/sys", "" for the
 * machine's own. */
int sd_cores_quota(const char *root);

/* The cores of OpenMP's count (OMP_NUM_THREADS and OMP_THREAD_LIMIT count), within the quota unless OMP_NUM_THREADS
 * says how many. 1 without OpenMP. */
int sd_cores_usable(void);

#endif
