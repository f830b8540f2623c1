/* single.h - small models in the layouts of single files, by tests/golden/layouts/layouts.txt and its maps of names
 * (tools/layouts.py explains them). The numbers are those of the same model's directory (synth.h). */
#ifndef SINGLE_H
#define SINGLE_H

#include "synth.h"

/* The tensors of a layout, floats as F32. config: whose numbers they are, at least 32 bytes; may be NULL. */
sd_status single_compose(sd_tensor_set *out, const char *layout, char *config, sd_error *e);

/* Floats as another type, in place. Q8_0: matrices whose rows are whole blocks, the rest stays F32. F8: matrices, each
 * with its scale beside it, NAME.<scale>; the rest stays F32. */
sd_status single_cast(sd_tensor_set *s, sd_dtype dt, const char *scale, sd_error *e);

/* One file; GGUF if the name ends so, else safetensors. */
sd_status single_write(const char *path, const sd_tensor_set *s, sd_error *e);

#endif
