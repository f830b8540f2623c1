/* needs.h - what tests need of a build: without it they are skipped and counted, and the reason is said once per
 * program. Included after cmocka.h. */
#ifndef SD_TEST_NEEDS_H
#define SD_TEST_NEEDS_H

enum { NEED_PNG = 1, NEED_UNICODE = 2, NEED_CPU = 4 };

/* SD_DEVICE says that something else than the CPU computes. */
bool on_device(void);
/* With `precise`, and without: a device has no sums in double. */
int precisions(void);
/* With the address sanitizer, or on a device, which may be simulated: what takes long then does fewer of its like
 * cases, and says so. */
bool cases_are_slow(void);

/* In the place of cmocka_unit_test; `what`: the needs of the test, added up. */
#define unit_test_needing(what, test) unit_test_if(what, (struct CMUnitTest)cmocka_unit_test(test))
#define unit_test_needing_teardown(what, test, teardown) \
    unit_test_if(what, (struct CMUnitTest)cmocka_unit_test_teardown(test, teardown))
/* Of a test that cannot even be compiled without them. */
#define unit_test_lacking(what, test) unit_test_if(what, (struct CMUnitTest){#test, NULL, NULL, NULL, NULL})
struct CMUnitTest unit_test_if(unsigned what, struct CMUnitTest test);

/* A program of such tests: one skipped test. */
int skip_group(unsigned what, const char *name);

#endif
