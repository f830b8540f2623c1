/* pipeline_apart.h - floor 6: samples of a small network's batch, each computed by one thread. */
#ifndef SD_PIPELINE_APART_H
#define SD_PIPELINE_APART_H

#include "pipeline.h"

/* Multiplications and additions of a part up to which waking threads for each operation costs more than reading the
 * weights for each part. */
#define SD_SMALL_PASS 4e9

/* In how many parts a batch could be computed; 1: together. */
int sd_apart_parts(const sd_ctx *c, int samples);
/* Computes part i with a run of its own. */
typedef void sd_apart_body(sd_run *r, void *user, int i);
/* All parts at once, each with so many bytes of working memory; `what`: see sd_backend.alloc. What they keep stays for
 * the next call, until sd_apart_free. */
sd_status sd_apart_run(sd_ctx *c, int parts, size_t bytes, const char *what, sd_apart_body *fn, void *user);

#endif
