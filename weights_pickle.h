/* weights_pickle.h - floor 3: what a Python pickle says, as a tree of inert values. Nothing is ever run or imported.
 *
 * A pickle is a program for a small stack machine, and Python runs whatever it names. Here a name is a name: a call
 * (REDUCE) becomes an SD_PICKLED_OBJECT that remembers class and arguments, and only names of a table are accepted at
 * all. Lists and dictionaries may contain themselves: whoever walks through them must bound the way. */
#ifndef SD_WEIGHTS_PICKLE_H
#define SD_WEIGHTS_PICKLE_H

#include "base.h"

typedef enum sd_pickled_kind {
    SD_PICKLED_NOTHING,     /* what has no value: an argument that is not there */
    SD_PICKLED_NONE, SD_PICKLED_BOOL, SD_PICKLED_INT, SD_PICKLED_FLOAT,
    SD_PICKLED_LONG,        /* an integer of more than 64 bits: its bytes, little-endian */
    SD_PICKLED_TEXT, SD_PICKLED_BYTES,
    SD_PICKLED_TUPLE, SD_PICKLED_LIST, SD_PICKLED_SET,
    SD_PICKLED_DICT,        /* its items are keys and values in turn */
    SD_PICKLED_GLOBAL,      /* a name: module and name */
    SD_PICKLED_OBJECT,      /* a class, its arguments, its state and its pairs */
    SD_PICKLED_STORAGE      /* torch's persistent id: the tuple ("storage", type, key, device, numbers, ...) */
} sd_pickled_kind;

typedef uint32_t sd_pickled;   /* a value by its number; 0: nothing */

/* What a global means. */
typedef enum sd_global_kind {
    SD_GLOBAL_REFUSED, SD_GLOBAL_INERT,
    SD_GLOBAL_DICT,         /* called, it is a dictionary, of the pairs in its argument */
    SD_GLOBAL_SET,          /* ... a set of the items in its argument */
    SD_GLOBAL_FIRST,        /* ... its first argument: torch.Size, _rebuild_parameter */
    SD_GLOBAL_REMADE,       /* ... an object of the class that is its first argument: copyreg._reconstructor */
    SD_GLOBAL_OF_TYPE,      /* ... a call of its first argument with those in its third: _rebuild_from_type_v2 */
    SD_GLOBAL_TENSOR,       /* ... a tensor: storage, offset, size, stride, ... */
    SD_GLOBAL_TENSOR_TYPED, /* ... the same with the dtype as the seventh argument */
    SD_GLOBAL_OTHER_TENSOR, /* ... a tensor of a kind that is not read */
    SD_GLOBAL_STORAGE,      /* torch.FloatStorage */
    SD_GLOBAL_DTYPE         /* torch.float32 */
} sd_global_kind;

typedef struct sd_global {
    const char *module, *names;   /* a glob; a list of globs */
    sd_global_kind kind;
    sd_dtype dt;                  /* of a storage or a dtype; SD_DTYPE_UNKNOWN: one that we do not have */
    uint8_t size;                 /* bytes of its numbers */
} sd_global;

/* weights_globals.c: the row of a name; 0 if it is not known, and therefore refused. */
uint32_t sd_global_find(const char *module, const char *name);
const sd_global *sd_global_at(uint32_t row);

/* A value, as the machine keeps it; use the functions below. */
typedef struct sd_pickled_value {
    uint8_t kind;
    uint32_t n;            /* bytes, items; a global's row */
    union {
        int64_t i;
        double f;
        uint64_t at;                             /* of bytes and texts */
        struct { uint32_t first, last; } list;   /* chunks of items; of others: values that belong to it */
    } u;
} sd_pickled_value;

/* The members of an object, in words from u.list.first on. */
enum { SD_PICKLED_CLASS, SD_PICKLED_ARGS, SD_PICKLED_STATE, SD_PICKLED_PAIRS, SD_PICKLED_OBJECT_WORDS };

typedef struct sd_pickle {
    const unsigned char *data;     /* texts and bytes stay there */
    size_t end;                    /* where the pickle ends */
    sd_pickled root;
    sd_pickled_value *value;       /* value[1] .. value[n - 1] */
    size_t n, cap;
    uint32_t *word;                /* items of lists */
    size_t n_words, cap_words;
} sd_pickle;

/* Reads the pickle (protocols 0 to 5) that begins at data[from] and ends before data[n]; data must stay. What is
 * refused is named with its byte, counted from data[0]. Memory is limited to SD_PICKLE_GROWTH bytes for each byte of
 * the pickle. On failure nothing stays open. */
enum { SD_PICKLE_GROWTH = 16 };
sd_status sd_pickle_read(sd_pickle *p, const void *data, size_t n, size_t from, const char *what, sd_error *e);
void sd_pickle_free(sd_pickle *p);

/* ---- weights_pickle_values.c: values that are not there (0) have no kind, no items and no members */
sd_pickled_kind sd_pickle_kind(const sd_pickle *p, sd_pickled v);
bool sd_pickle_int(const sd_pickle *p, sd_pickled v, int64_t *i);   /* false: it is no integer */
/* The bytes of a text, of bytes or of a long integer; not NUL terminated. NULL: it is none of them. */
const char *sd_pickle_text(const sd_pickle *p, sd_pickled v, size_t *n);
bool sd_pickle_text_is(const sd_pickle *p, sd_pickled v, const char *text);
/* The items of a tuple, list, set, dictionary or storage. */
typedef struct sd_pickle_items { const sd_pickle *p; uint32_t chunk, i; } sd_pickle_items;
sd_pickle_items sd_pickle_begin(const sd_pickle *p, sd_pickled v);
bool sd_pickle_next(sd_pickle_items *at, sd_pickled *item);
size_t sd_pickle_count(const sd_pickle *p, sd_pickled v);
sd_pickled sd_pickle_item(const sd_pickle *p, sd_pickled v, size_t i);
sd_pickled sd_pickle_get(const sd_pickle *p, sd_pickled dict, const char *key);   /* the last one with this key */
/* Of an object. Its state is what BUILD gave it; its pairs are a dictionary, if it was used as one. */
sd_pickled sd_pickle_args(const sd_pickle *p, sd_pickled v);
sd_pickled sd_pickle_state(const sd_pickle *p, sd_pickled v);
sd_pickled sd_pickle_pairs(const sd_pickle *p, sd_pickled v);
/* What a global means; of an object, what its class means. NULL: it is neither. */
const sd_global *sd_pickle_global(const sd_pickle *p, sd_pickled v);
/* "module.name" of a global or of an object's class, for messages. */
void sd_pickle_name(const sd_pickle *p, sd_pickled v, char *out, size_t size);

#endif
