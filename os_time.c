/* os_time.c - floor 0: a clock. */
#define _POSIX_C_SOURCE 200809L
#include "os.h"

#include <time.h>

double sd_now(void)
{
#if defined(SD_OS_POSIX) && defined(CLOCK_MONOTONIC)
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) == 0) return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#endif
    return (double)time(NULL);
}
