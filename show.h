/* show.h - floor 6: sd_show: what is in a file of tensors: a table of them, or the numbers of one. */
#ifndef SD_SHOW_H
#define SD_SHOW_H

#include "tensors.h"

/* ---- show_numbers.c: `what` is a name, and perhaps a part of its tensor as NumPy writes it: "latents.0[0,:,4:8,-1]".
 * all: every number; else those in the middle of a large tensor are left out. */
sd_status sd_show_numbers(sd_text *t, const sd_tensors *of, const char *what, bool json, bool all, sd_error *e);

#endif
