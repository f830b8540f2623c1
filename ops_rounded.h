/* ops_rounded.h - floor 2: the CPU's operations as another program in float32 may round them, and numbers one rounding
 * away. */
#ifndef SD_OPS_ROUNDED_H
#define SD_OPS_ROUNDED_H

#include "ops_cpu.h"

/* What run->device points to. */
typedef struct sd_rounded {
    sd_cpu cpu;          /* first, where the CPU's entries look for it */
    uint64_t start;      /* 1, 2, ...: other roundings */
    bool in_turn;        /* the terms of a product are added one after another */
    uint64_t calls;      /* of operations and of sd_round_apart so far; 0 at the beginning of a run */
} sd_rounded;

/* Each number goes to the next float32, or to the one before it, or stays: a quarter, a quarter, half of them. */
void sd_round_apart(sd_rounded *w, float *x, size_t n);

sd_backend sd_backend_rounded(void);

#endif
