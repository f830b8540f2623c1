/* json.h - floor 0: JSON texts [RFC 8259], read strictly, without a library. */
#ifndef SD_JSON_H
#define SD_JSON_H

#include "base.h"

typedef enum sd_json_type {
    SD_JSON_NULL, SD_JSON_FALSE, SD_JSON_TRUE, SD_JSON_NUMBER, SD_JSON_TEXT, SD_JSON_LIST, SD_JSON_OBJECT
} sd_json_type;

/* A value. The functions below accept NULL, a value that does not exist, and find nothing in it. */
typedef struct sd_json {
    sd_json_type type;
    double number;                 /* if it is an SD_JSON_NUMBER */
    const char *text;              /* if it is an SD_JSON_TEXT, UTF-8; else NULL */
    const char *key;               /* if it is in an object; else NULL */
    struct sd_json *first, *next;  /* the first value in this list or object; the one after this in its own list */
} sd_json;

/* Both return an object, to be freed by sd_json_free; or NULL, with an error that begins with `what` or the path and
 * names the byte. They accept exactly the standard's JSON: nothing after the value but white space, no half surrogates.
 * One rule is stricter: strings must not contain U+0000, which would end a C string. */

/* n bytes of text in memory. Keys that come twice are all there, in order. */
sd_json *sd_json_parse(const char *text, size_t n, const char *what, sd_error *e);
/* A file of at most `max` bytes, as Python's json.load reads it: if a key comes twice, the last value counts, and
 * Infinity and -Infinity are numbers. (Python reads NaN too; none of our numbers may be NaN, so it is refused.) */
sd_json *sd_json_read(const char *path, size_t max, sd_error *e);
/* n bytes of text in memory, read like such a file. */
sd_json *sd_json_load(const char *text, size_t n, const char *what, sd_error *e);
void sd_json_free(sd_json *root);   /* what one of the two returned, or NULL */

static inline bool sd_json_is(const sd_json *j, sd_json_type type) { return j && j->type == type; }
static inline bool sd_json_is_bool(const sd_json *j)
{
    return sd_json_is(j, SD_JSON_TRUE) || sd_json_is(j, SD_JSON_FALSE);
}
int sd_json_int(const sd_json *j);   /* its number, truncated and kept in an int's range; else 0 */
static inline const char *sd_json_text(const sd_json *j) { return j ? j->text : NULL; }

/* The first value of an object that has this key; NULL if none has. */
const sd_json *sd_json_get(const sd_json *object, const char *key);
/* The i-th value of a list or object, from 0; NULL if it has fewer. */
const sd_json *sd_json_item(const sd_json *list, int i);
/* How many values a list or an object has. */
int sd_json_count(const sd_json *list);
/* A loop over the values of a list or object; the statement to repeat follows. */
#define SD_JSON_EACH(x, list) for ((x) = (list) ? (list)->first : NULL; (x); (x) = (x)->next)

/* What a value is, for messages: "a number", "text". */
const char *sd_json_kind(const sd_json *j);
/* The value as JSON without white space, for messages; free() it. NULL if memory ran out. */
char *sd_json_print(const sd_json *j);
char *sd_json_print_lines(const sd_json *j);   /* as a file: a line for each value, as json.dumps(j, indent=2) */
/* The JSON in t, written so; t is freed. free() it. NULL, and an error: out of memory, or t is no JSON. */
char *sd_json_lines_of(sd_text *t, const char *what, sd_error *e);

#endif
