/* test.h - what every test includes first: cmocka with the headers that it needs, and the two words below. */
#ifndef SD_TEST_H
#define SD_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__GNUC__)
#define UNUSED __attribute__((unused))
#else
#define UNUSED
#endif

/* A test, or a cmocka fixture that returns nothing. One that looks at what its fixture made is written out. */
#define TEST(sentence) static void sentence(UNUSED void **fixture)

#endif
