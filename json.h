/* json.h - floor 0: JSON files, read as Python's json reads them. */
#ifndef SD_JSON_H
#define SD_JSON_H

#include "base.h"

#ifdef SD_WITH_CJSON
#include <cjson/cJSON.h>

/* Both return an object, cJSON_Delete it; or NULL, with an error that begins with `what` or the path and names the
 * byte. JSON is exactly what the standard [RFC 8259] says: nothing after the value but white space, no half surrogates,
 * and nothing that ends a C string in a string. */

/* n bytes of text in memory. Keys that come twice are all there, in order. */
cJSON *sd_json_parse(const char *text, size_t n, const char *what, sd_error *e);
/* A file of at most `max` bytes, as Python's json.load reads it: of a key that comes twice the last value counts, and
 * Infinity and -Infinity are numbers. (NaN is one too, there; no number that we read may be NaN.) */
cJSON *sd_json_read(const char *path, size_t max, sd_error *e);

/* What a value is, for messages: "a number", "text". */
const char *sd_json_kind(const cJSON *j);
#endif

#endif
