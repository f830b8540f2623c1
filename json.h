/* json.h - floor 0: JSON texts [RFC 8259], read as Python's json reads them. */
#ifndef SD_JSON_H
#define SD_JSON_H

#include "base.h"

typedef enum sd_json_type {
    SD_JSON_NULL, SD_JSON_FALSE, SD_JSON_TRUE, SD_JSON_NUMBER, SD_JSON_TEXT, SD_JSON_LIST, SD_JSON_OBJECT
} sd_json_type;

/* A value. Functions below take NULL, a value that is not there, and find nothing in it. */
typedef struct sd_json {
    sd_json_type type;
    double number;                 /* of SD_JSON_NUMBER */
    const char *text;              /* of SD_JSON_TEXT, UTF-8; else NULL */
    const char *key;               /* of what stands in an object; else NULL */
    struct sd_json *first, *next;  /* of a list or an object its first value; what follows this value in its own */
} sd_json;

/* Both return an object, sd_json_free it; or NULL, with an error that begins with `what` or the path and names the
 * byte. JSON is exactly what the standard says: nothing after the value but white space, no half surrogates. Beyond it,
 * strings may not contain U+0000, which would end a C string. */

/* n bytes of text in memory. Keys that come twice are all there, in order. */
sd_json *sd_json_parse(const char *text, size_t n, const char *what, sd_error *e);
/* A file of at most `max` bytes, as Python's json.load reads it: of a key that comes twice the last value counts, and
 * Infinity and -Infinity are numbers. (NaN is one too, there; no number that we read may be NaN.) */
sd_json *sd_json_read(const char *path, size_t max, sd_error *e);
void sd_json_free(sd_json *root);   /* what one of the two returned; NULL: nothing */

static inline bool sd_json_is(const sd_json *j, sd_json_type type) { return j && j->type == type; }
static inline bool sd_json_is_bool(const sd_json *j)
{
    return sd_json_is(j, SD_JSON_TRUE) || sd_json_is(j, SD_JSON_FALSE);
}
int sd_json_int(const sd_json *j);   /* its number without the fraction, within what an int holds; 0 of anything else */
static inline const char *sd_json_text(const sd_json *j) { return j ? j->text : NULL; }

/* The first value of an object that has this key; NULL if none has. */
const sd_json *sd_json_get(const sd_json *object, const char *key);
/* The i-th value of a list or object, from 0; NULL if it has not so many. */
const sd_json *sd_json_item(const sd_json *list, int i);
/* How many values a list or an object has. */
int sd_json_count(const sd_json *list);
/* Before a statement that is done for every value of a list or object. */
#define SD_JSON_EACH(x, list) for ((x) = (list) ? (list)->first : NULL; (x); (x) = (x)->next)

/* What a value is, for messages: "a number", "text". */
const char *sd_json_kind(const sd_json *j);
/* The value as JSON without white space, for messages; free() it. NULL if memory ran out. */
char *sd_json_print(const sd_json *j);

#endif
