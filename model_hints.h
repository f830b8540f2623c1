/* model_hints.h - floor 6: what the name of a file says of a model that draws in few steps. */
#ifndef SD_MODEL_HINTS_H
#define SD_MODEL_HINTS_H

#include "net.h"

typedef struct sd_few_hint {
    const char *word;      /* "turbo"; NULL: the name says nothing */
    const char *title;     /* what the model may be: "SDXL-Turbo" */
    char options[96];      /* by which it is then drawn: "--config sdxl-turbo" */
} sd_few_hint;

/* f: the family of the file's UNet by its shapes; NULL: none. */
bool sd_few_hint_find(sd_few_hint *out, const char *path, const sd_family *f);

#endif
