/* fuzz_yaml.c - the YAML reader. What was read and printed as JSON, reads as the same values: nothing that is no JSON
 * comes out of it. */
#include "fuzz.h"

#include "../yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sd_error e = {0};
    sd_json *root = sd_yaml_parse((const char *)data, n, "the text", &e);
    fuzz_demand_sentence(e.status, e.text);
    fuzz_demand((root == NULL) == (e.status != SD_OK));
    if (!root) return 0;
    char *text = sd_json_print(root), *twin = NULL;
    sd_json *again = text ? sd_json_parse(text, strlen(text), "what was printed", &e) : NULL;
    fuzz_demand(again != NULL);
    twin = sd_json_print(again);
    fuzz_demand(twin && strcmp(text, twin) == 0);
    free(twin);
    free(text);
    sd_json_free(again);
    sd_json_free(root);
    return 0;
}
