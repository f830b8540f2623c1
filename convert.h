/* convert.h - floor 6: what the files of sd_convert offer each other. */
#ifndef SD_CONVERT_H
#define SD_CONVERT_H

#include "pipeline.h"

/* Where a tensor that is written has its numbers: in the tensors of one or more weights, one after another. */
typedef struct sd_piece {
    sd_tensor from;
    const sd_store *store;     /* its file's */
    bool transposed;           /* written with rows and columns exchanged */
} sd_piece;

enum { SD_PIECES = 3 };        /* query, key and value */
/* A tensor that is written. */
typedef struct sd_output {
    char *name;
    int module;                /* whose file it belongs to, sd_convert_module's number */
    sd_dtype dt;
    int nd;
    int64_t dim[4];
    sd_piece piece[SD_PIECES];
    int pieces;
} sd_output;

/* Texts by keys, for the header of a file. */
typedef struct sd_texts {
    sd_pair *pair;
    size_t n;
    bool failed;               /* out of memory */
} sd_texts;

typedef enum sd_target { SD_TARGET_SAFETENSORS, SD_TARGET_GGUF, SD_TARGET_DIRECTORY } sd_target;

/* One call of sd_convert. */
typedef struct sd_conversion {
    sd_ctx *c;
    sd_error *err;
    sd_convert_options o;
    sd_target target;
    bool keep;                 /* types stay as they are; else they become ... */
    sd_dtype to;
    bool ldm;                  /* names of tensors are CompVis' and OpenCLIP's */
    sd_output *out;            /* all tensors, module by module */
    size_t n, cap;
    size_t dropped;            /* tensors that are not written */
    const char *first_dropped;
    size_t rescaled;           /* tensors that had a scale and become floats */
    size_t done, total;        /* tensors, of all files */
} sd_conversion;

/* convert_tensors.c. Lists all tensors that are to be written. */
sd_status sd_convert_list(sd_conversion *v);
/* The i-th module that has weights and is to be written; NULL: there are no more. */
const sd_module *sd_convert_module(const sd_conversion *v, int i);
/* Writes the tensors first .. first + n - 1 of the list, which are then in the order of their file. */
sd_status sd_convert_write(sd_conversion *v, const char *path, size_t first, size_t n, const sd_texts *texts);

/* convert_directory.c */
sd_status sd_convert_directory(sd_conversion *v);

/* convert_texts.c: texts beside the weights: configurations, and what files say of themselves */
void sd_texts_free(sd_texts *t);
/* The text of a file of a model in diffusers' layout, "unet/config.json": as it was read; for a directory, else made
 * from what was opened. free() it. NULL without an error: the model has none. */
char *sd_convert_text(const sd_conversion *v, const char *name);
/* convert_made.c. The same if the input has no such text; x: the module that it is of, or NULL. */
char *sd_convert_make(const sd_conversion *v, const sd_module *x, const char *name);
/* Names of all such files that belong to what is written, i = 0, 1, ...; NULL: there are no more. */
const char *sd_convert_text_name(const sd_conversion *v, int i);
/* What a single file says of itself; and the file or files of a module in a directory. */
sd_status sd_convert_texts(const sd_conversion *v, sd_texts *t);
sd_status sd_convert_module_texts(const sd_conversion *v, const sd_module *x, sd_texts *t);

#endif
