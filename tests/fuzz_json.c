/* fuzz_json.c - the JSON reader on its own. The first byte says which of its two ways in. What was read, printed and
 * read again, prints the same: nothing is lost or made up. */
#include "fuzz.h"

#include "../json.h"

#include <stdlib.h>
#include <string.h>

static sd_json *read_input(const uint8_t *data, size_t n, bool file, sd_error *e)
{
    return file ? sd_json_read(fuzz_file("a.json", data, n), (size_t)1 << 20, e)
                : sd_json_parse((const char *)data, n, "the text", e);
}

/* Infinity is no JSON: sd_json_print writes a word for it that nobody reads. */
static bool finite(const sd_json *j)
{
    const sd_json *x;
    if (j->number - j->number != 0) return false;
    SD_JSON_EACH(x, j)
        if (!finite(x)) return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    sd_error e = {0};
    if (n == 0) return 0;
    sd_json *root = read_input(data + 1, n - 1, data[0] & 1, &e);
    fuzz_demand_sentence(e.status, e.text);
    fuzz_demand((root == NULL) == (e.status != SD_OK));
    char *text = root ? sd_json_print(root) : NULL;
    if (text && finite(root)) {
        sd_json *again = sd_json_parse(text, strlen(text), "what was printed", &e);
        fuzz_demand(again != NULL);
        char *twin = sd_json_print(again);
        fuzz_demand(twin && strcmp(text, twin) == 0);
        free(twin);
        sd_json_free(again);
    }
    free(text);
    sd_json_free(root);
    fuzz_remove("a.json");
    return 0;
}
