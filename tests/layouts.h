/* layouts.h - published files by their lists of tensors (tests/golden/keys, which tools/golden_keys.py makes and
 * explains): names, types and shapes to the last tensor, and files of full size whose numbers are a hole. */
#ifndef LAYOUTS_H
#define LAYOUTS_H

#include "../weights.h"

typedef struct key {
    char *name;
    sd_dtype dt;
    int nd;
    int64_t dim[4];
    uint64_t bytes;
} key;

typedef struct key_list {
    char file[96], what[128];   /* the published file's name; what it is */
    sd_dtype floats;
    uint64_t published;         /* bytes of the published file; 0: not known */
    key *key;                   /* sorted by name */
    size_t n, cap;
    char meta[512];             /* the header's texts as JSON, {"format":"pt"}; "": none */
} key_list;

/* The next line of a list that is no comment, NUL terminated in place; NULL at the end. */
char *golden_next_line(char **text);

/* The i-th file of tests/golden/keys/families.txt. SD_OK and an empty `file`: there is none. */
sd_status key_list_read(key_list *l, int i, sd_error *e);
/* The same by its name. */
sd_status key_list_find(key_list *l, const char *file, sd_error *e);
void key_list_free(key_list *l);

/* Writes a safetensors file with all of its header, as the writers of the time did (sorted by name, not padded), and
 * then nothing: the file system keeps a hole, which reads as zeros and takes no room. */
sd_status key_list_write(const key_list *l, const char *path, sd_error *e);

#endif
