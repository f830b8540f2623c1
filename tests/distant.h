/* distant.h - a backend whose memory the host cannot read: addresses that fault when they are followed. It computes by
 * the CPU backend's functions, on blocks that nobody else knows. Whatever runs on it, with the CPU's bits, looks at no
 * activation but through upload and download, and names its weights well enough to keep copies of them. */
#ifndef DISTANT_H
#define DISTANT_H

#include "../ops_cpu.h"

extern const sd_backend distant_backend;

typedef struct distant_block { unsigned char *address, *memory; size_t bytes; } distant_block;
typedef struct distant_weight { uint32_t id, version; void *copy; } distant_weight;

/* What run->device points to. */
typedef struct distant {
    sd_cpu cpu;                  /* what computes */
    unsigned char *space;        /* addresses that nothing lies behind */
    size_t used;                 /* bytes of them that were given away; none comes twice */
    distant_block *block;
    distant_weight *weight;
    int blocks, weights, uploads, downloads;
} distant;

distant *distant_open(const sd_cpu *cpu);
void distant_close(distant *d);  /* fails the test if a block was not released */

#endif
