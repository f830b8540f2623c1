/* inspect.h - floor 6: what `sd inspect` finds out about a file or a directory, and the ways to tell it. */
#ifndef SD_INSPECT_H
#define SD_INSPECT_H

#include "model.h"
#include "sha256.h"
#include "weights_values.h"

/* A network that was found, and what of it is there. */
typedef struct sd_seen_network {
    const sd_network *is;
    const char *key, *title;       /* "text_encoder_2", "text encoder 2" */
    const char *config;            /* path of its config.json; NULL: the configuration follows from shapes */
    char unchecked[256];           /* why it was not compared with what such a network needs; "": it was */
    sd_error err;
    sd_binder binder;              /* knows what is missing and what has another shape */
    union { sd_unet_net unet; sd_vae vae; sd_clip clip; } net;
    sd_values values;
} sd_seen_network;

/* A file; of a directory, the file or the files of a component. */
typedef struct sd_seen_part {
    const char *name;              /* "unet"; "": a file */
    char config[4096];             /* path of its config.json; "": none */
    sd_store store;
    sd_recognised is;
    sd_seen_network *network;      /* is.n_networks */
    sd_values *values;             /* of each tensor, in the store's order; NULL: not asked for */
    char (*hash)[SD_SHA256_HEX];   /* likewise */
    bool *extra;                   /* likewise: nobody needs it, and no rule says why */
} sd_seen_part;

typedef struct sd_file_hashes {
    char file[SD_SHA256_HEX];
    char data[SD_SHA256_HEX];      /* of what follows a safetensors file's header; "": of another format */
    char old[SD_SHA256_HEX];       /* of 64 KB from byte 0x100000 on; "": the file ends before */
} sd_file_hashes;

enum { SD_SEEN_PARTS = 8 };
typedef struct sd_seen {
    const char *path;              /* as it was given */
    char at[4096];                 /* where that leads to */
    bool directory;
    sd_seen_part part[SD_SEEN_PARTS];
    int n_parts;
    sd_file_hashes *hashes;        /* of each file, part by part; NULL: not asked for */
    const sd_recognised *main;     /* of the part that says most: the UNet's, else the first */
    bool tokenizer;                /* a directory's */
    char scheduler[64];            /* class of a directory's scheduler_config.json; "": there is none */
    char prediction[32];           /* "epsilon"; "": not decided */
    sd_text why;                   /* as that of `main`, and what else was decided by */
    size_t missing, wrong, extra;  /* tensors, of all networks */
    double free_memory;
} sd_seen;

/* Opens and recognises; reads no numbers. sd_seen_close in any case. copies: whatever is stored in another order is
 * brought into a network's own, which reads its numbers. */
sd_status sd_seen_open(sd_seen *s, const char *path, bool copies, sd_error *e);
void sd_seen_close(sd_seen *s);
size_t sd_seen_files(const sd_seen *s);
const sd_weight_file *sd_seen_file(const sd_seen *s, size_t i);   /* part by part */

/* The caller's, with defaults; o may be NULL. */
sd_inspect_options sd_inspect_options_of(const sd_inspect_options *o);
/* Hands out the text, or the error. */
sd_status sd_inspect_end(sd_text *t, char **text, char error[512], sd_error *e);

/* ---- inspect_read.c: reads the numbers that were asked for */
sd_status sd_seen_read(sd_seen *s, const sd_inspect_options *o, sd_error *e);
/* Tells whoever asked; an error if they do not want to go on. */
typedef struct sd_telling { const sd_inspect_options *o; const char *what; double done, total; } sd_telling;
bool sd_tell(sd_telling *t, double more, sd_error *e);

/* ---- what was found, told */
void sd_seen_text(const sd_seen *s, const sd_inspect_options *o, sd_text *t);   /* inspect_text.c */
void sd_seen_json(const sd_seen *s, const sd_inspect_options *o, sd_text *t);   /* inspect_json.c */

/* ---- inspect_write.c: pieces of texts and of JSON */
#define SD_SIZE_TEXT 32
const char *sd_size_text(char out[SD_SIZE_TEXT], double bytes);      /* "3.44 GB" */
const char *sd_count_text(char out[SD_SIZE_TEXT], uint64_t n);       /* "859,520,964" */
void sd_add_shape(sd_text *t, int nd, const int64_t *dim);          /* "[320,4,3,3]" */
/* The next line of a text, of n bytes; NULL: there is none. */
const char *sd_next_line(const char **at, int *n);
/* Words, broken before column o->columns; lines after the first are indented by two more. */
void sd_add_paragraph(sd_text *t, const sd_inspect_options *o, int indent, const char *s, size_t n);
/* The same of a text, which is then empty again. */
void sd_add_words(sd_text *t, const sd_inspect_options *o, int indent, sd_text *words);
/* `key` and what stands before it, ",\"path\":", then a value: a text or null; a number, or a text if it is not finite;
 * a list of the lines of a text, without brackets. */
void sd_add_json_text(sd_text *t, const char *key, const char *value);
void sd_add_json_number(sd_text *t, const char *key, double x);
void sd_add_json_lines(sd_text *t, const char *lines);

/* ---- inspect_say.c: what the text and the JSON both say */
/* What a picture of the model's own size takes; working 0: not known. */
typedef struct sd_memory_need { double weights, working; int width, height; } sd_memory_need;
void sd_seen_memory(const sd_seen *s, sd_memory_need *m);
/* How one draws with it, a command line; or why not, a sentence, and then *runs is false. */
void sd_seen_command(const sd_seen *s, sd_text *t, bool *runs);
/* A line about each thing that is odd. */
void sd_seen_odd(const sd_seen *s, sd_text *lines);
/* One sentence: what it is. */
void sd_seen_what(const sd_seen *s, sd_text *t);
/* Heads, groups and the like follow neither from a family nor from a configuration. */
bool sd_is_guessed(const sd_seen_network *w);
int sd_gguf_version(const sd_weight_file *f);  /* 0: another format */
/* Where in its file a tensor begins; -1: in memory, for it was unpacked. */
int64_t sd_entry_offset(const sd_seen_part *p, const sd_entry *t);

#endif
