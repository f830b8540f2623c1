/* profile_roof.h - floor 2: what this machine can do at most: the speed of its micro-kernel on operands in the L1
 * cache, and of bytes from each level of memory. No operation is faster than the slower of the two (sd_roofs, sd.h). */
#ifndef SD_PROFILE_ROOF_H
#define SD_PROFILE_ROOF_H

#include "base.h"
#include "kernels.h"

/* Takes about `seconds` for each of its ten figures. */
sd_status sd_roofs_measure(sd_roofs *roofs, const sd_kern *kern, const sd_cache_sizes *caches, int threads,
                           double seconds, sd_error *e);

#endif
