/* params.h - floor 6: the table of parameters, and what reads it. */
#ifndef SD_PARAMS_H
#define SD_PARAMS_H

#include "base.h"
#include "text.h"

/* When the text of a picture has a parameter under its text_key. What concerns the picture to begin from is left out
 * where there is none. */
typedef enum sd_written {
    SD_WRITTEN_NEVER,      /* by itself: another row's function writes it, or it has no key */
    SD_WRITTEN_CHANGED,    /* if it is not the default */
    SD_WRITTEN_ALWAYS
} sd_written;

typedef struct sd_param {
    sd_param_info about;     /* all but its group, which follows from the offset */
    const char *name;        /* in messages: "guidance scale" */
    sd_written written;
    const char *unit;        /* in messages, behind its bounds: " pixels"; NULL: none */
} sd_param;

/* Rows in the order of the help. The i-th, NULL beyond the last. */
const sd_param *sd_param_at(size_t i);
/* By its key, or by its option of the command line, '_' and '-' alike; NULL if there is none. */
const sd_param *sd_param_find(const char *key);
/* By its key in the text of a picture. */
const sd_param *sd_param_find_text(const char *text_key);

/* Is it what nobody has given? */
bool sd_param_is_default(const sd_params *p, const sd_param *row);
/* Sets it from a text that lives as long as the program; which kinds: numbers and TEXT. */
void sd_param_set_constant(sd_params *p, const sd_param *row, const char *value);
/* Which of its words `value` is, from 0 on; NULL: 0; -1: none of them. */
int sd_param_word(const char *key, const char *value);
/* All parameters of words are one of theirs. */
sd_status sd_params_check_words(const sd_params *p, sd_error *e);
enum { SD_STEPS_SHARE, SD_STEPS_ABOVE, SD_STEPS_ONE_MORE, SD_STEPS_ALL };        /* "strength_steps" */
enum { SD_POSTERIOR_SAMPLE, SD_POSTERIOR_MEAN, SD_POSTERIOR_AGAIN };             /* "posterior" */
enum { SD_MASK_LATENTS, SD_MASK_X0, SD_MASK_BOTH };                              /* "mask_rule" */

/* It is of a picture to begin from. */
bool sd_param_is_edit(const sd_param *row);
/* Reads a value; copies belong to p. False if it cannot be one of this type, whatever its bounds. */
bool sd_param_read(sd_params *p, const sd_param *row, const char *value, sd_error *e);
/* Adds the value as text, if it is not NULL. False if it is the default. */
bool sd_param_add_text(sd_text *t, const sd_params *p, const sd_param *row);

/* Copies the caller's parameters, which may be of another version of sd.h, into a struct of this one. SD_DEFAULT
 * becomes the default, and remains where the model decides. SD_ERR_ARG if a number is out of its bounds. */
sd_status sd_params_take(sd_params *out, const sd_params *given, sd_error *e);

#endif
