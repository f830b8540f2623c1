/* likes.h - floor 6: what other programs do otherwise, and how a run follows them (sd_params.like). */
#ifndef SD_LIKES_H
#define SD_LIKES_H

#include "model.h"
#include "params.h"

/* Fills in what p->like does, where p is at its defaults. */
void sd_like_apply(const sd_model *m, sd_params *p);

#endif
