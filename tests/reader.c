/* reader.c - see reader.h */
#include "reader.h"
#include "child.h"

sd_ctx *reader;

int reader_setup(void **state)
{
    sd_options o;
    sd_options_init(&o);
    o.model = "weights/tiny";
    o.parts = SD_PART_TOKENIZER;
    return child_setup(state) || sd_open(&reader, &o) != SD_OK;
}

int reader_teardown(void **state)
{
    sd_close(reader);
    return child_teardown(state);
}
