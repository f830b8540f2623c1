/* reader.h - reads tensors out of files for tests of the program. */
#ifndef SD_TEST_READER_H
#define SD_TEST_READER_H

#include "../sd.h"

extern sd_ctx *reader;   /* the tokenizer alone: enough to read files */

/* cmocka setup and teardown: those of child.h, and the reader. */
int reader_setup(void **state);
int reader_teardown(void **state);

#endif
