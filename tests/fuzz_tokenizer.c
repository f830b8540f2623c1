/* fuzz_tokenizer.c - a tokenizer directory with one file of any bytes beside those it needs, and then any text through
 * a good one. The first byte says which file; a 0xFF byte ends it, and what follows is the text. */
#include "fuzz.h"

#include <string.h>

#include "../net.h"

static const char *const files[] = {"merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json"};

static void encode(const sd_tokenizer *t, const char *text)
{
    sd_tokens out;
    sd_error e = {0};
    sd_error_clear(&e);
    sd_status status = sd_tokenizer_encode(t, text, &out, &e);
    fuzz_demand_sentence(status, e.text);
    if (status) return;
    fuzz_demand(out.n >= 2 && out.n <= SD_TOKENS && out.dropped >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char merges[] = "#version: 0.2\na b\nab c</w>\n";
    sd_tokenizer *t = NULL;
    sd_error e = {0};
    if (n == 0) return 0;
    sd_error_clear(&e);
    const char *name = files[data[0] % SD_COUNT(files)];
    fuzz_bytes b = {data + 1, n - 1};
    const uint8_t *end = memchr(b.at, 0xFF, b.left);
    size_t size = end ? (size_t)(end - b.at) : b.left;
    if (data[0] % SD_COUNT(files)) fuzz_file(files[0], (const uint8_t *)merges, sizeof merges - 1);
    fuzz_file(name, b.at, size);
    sd_status status = sd_tokenizer_open(&t, fuzz_dir(), &e);
    fuzz_demand_sentence(status, e.text);
    b.at += size;
    b.left -= size;
    fuzz_byte(&b);
    const char *text = fuzz_text(&b, 4096);
    if (!status && text) encode(t, text);
    sd_tokenizer_close(t);
    fuzz_free();
    fuzz_remove(name);
    fuzz_remove(files[0]);
    return 0;
}
