/* yaml.h - floor 0: the part of YAML that configurations of latent diffusion models are written in. */
#ifndef SD_YAML_H
#define SD_YAML_H

#include "json.h"

/* The values of a YAML text, to be freed by sd_json_free; or NULL, with an error that begins with `what` and names the
 * line. Known are mappings and lists by indentation, lists in brackets, plain and quoted scalars on one line, comments,
 * and one "---". Numbers, true, false and null are what PyYAML and OmegaConf make of them. Everything else of YAML is
 * refused by name: anchors, tags, block scalars, mappings in braces, several documents, and a key that comes twice. */
sd_json *sd_yaml_parse(const char *text, size_t n, const char *what, sd_error *e);
sd_json *sd_yaml_read(const char *path, sd_error *e);

/* The value at a path of keys, "model.params.linear_start"; NULL: there is none. */
const sd_json *sd_yaml_at(const sd_json *root, const char *keys);

#endif
