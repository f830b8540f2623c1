/* fuzz_inspect.c - sd inspect: whatever tensors and texts a file has, there is a text, and JSON that is JSON. The lines
 * are those of fuzz_recognise ("conv_in.weight 8,4,3,3"; "=", a key and a value); they become a safetensors file whose
 * numbers are a hole. */
#define _XOPEN_SOURCE 700
#define _FILE_OFFSET_BITS 64
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../json.h"
#include "../text.h"

#define MOST_BYTES ((uint64_t)1 << 36)   /* of a hole */

/* "8,4,3,3" as JSON; the bytes of so many F16 numbers. Negative and endless sides stay as they are, for the reader. */
static uint64_t add_sides(sd_text *header, const char *at)
{
    uint64_t bytes = 2;
    int n = 0;
    sd_text_add(header, "[");
    for (char *end; n < 9; at = end + 1, n++) {
        long long side = strtoll(at, &end, 10);
        if (end == at) break;
        sd_text_add(header, "%s%lld", n ? "," : "", side);
        if (side < 0 || (side && bytes > MOST_BYTES / (uint64_t)side)) side = 1;
        bytes *= (uint64_t)side;
        if (*end != ',') break;
    }
    sd_text_add(header, "]");
    return bytes;
}

static void add_line(sd_text *tensors, sd_text *texts, char *line, uint64_t *at)
{
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0;
    if (*line == '=') {
        sd_text_add(texts, "%s", texts->n ? "," : "");
        sd_text_quoted(texts, line + 1);
        sd_text_add(texts, ":");
        sd_text_quoted(texts, rest ? rest : "");
        return;
    }
    sd_text_add(tensors, ",");
    sd_text_quoted(tensors, line);
    sd_text_add(tensors, ":{\"dtype\":\"F16\",\"shape\":");
    uint64_t bytes = add_sides(tensors, rest ? rest : "");
    sd_text_add(tensors, ",\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)(*at + bytes));
    *at += bytes;
}

static const char *make_file(const uint8_t *data, size_t n)
{
    sd_text tensors = {0}, texts = {0}, whole = {0};
    uint64_t bytes = 0;
    char *lines = malloc(n + 1);
    fuzz_demand(lines != NULL);
    memcpy(lines, data, n);
    lines[n] = 0;
    for (char *line = strtok(lines, "\n"); line && bytes < MOST_BYTES; line = strtok(NULL, "\n"))
        add_line(&tensors, &texts, line, &bytes);
    sd_text_add(&whole, "12345678{\"__metadata__\":{%s}%s}", texts.s ? texts.s : "", tensors.s ? tensors.s : "");
    fuzz_demand(!whole.failed);
    for (int i = 0; i < 8; i++) whole.s[i] = (char)((uint64_t)(whole.n - 8) >> 8 * i);
    const char *path = fuzz_file("inspect.safetensors", (const uint8_t *)whole.s, whole.n);
    fuzz_demand(truncate(path, (off_t)(whole.n + bytes)) == 0);
    free(lines);
    free(tensors.s);
    free(texts.s);
    free(whole.s);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char error[512], *text, path[256];
    sd_inspect_options o;
    snprintf(path, sizeof path, "%s", make_file(data, n));
    for (int json = 0; json < 2; json++) {
        sd_inspect_options_init(&o);
        o.json = json;
        o.tensors = "*";
        sd_status status = sd_inspect(path, &o, &text, error);
        fuzz_demand_sentence(status, error);
        fuzz_demand((status == SD_OK) == (text != NULL));
        if (text && json) {
            sd_error e = {0};
            sd_json *j = sd_json_parse(text, strlen(text), "the answer", &e);
            fuzz_demand(j && sd_json_text(sd_json_get(j, "path")) != NULL);
            fuzz_demand(!sd_json_text(sd_json_get(j, "command")) == (sd_json_text(sd_json_get(j, "refusal")) != NULL));
            sd_json_free(j);
        }
        sd_free(text);
    }
    fuzz_remove("inspect.safetensors");
    return 0;
}
