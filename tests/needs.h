/* needs.h - what tests need of a build: without it they are skipped and counted, and the reason is said once per
 * program. Included after cmocka.h. */
#ifndef SD_TEST_NEEDS_H
#define SD_TEST_NEEDS_H

enum { NEED_JSON = 1, NEED_PNG = 2, NEED_UNICODE = 4 };

/* In the place of cmocka_unit_test; `what`: the needs of the test, added up. */
#define unit_test_needing(what, test) unit_test_if(what, (struct CMUnitTest)cmocka_unit_test(test))
/* Of a test that cannot even be compiled without them. */
#define unit_test_lacking(what, test) unit_test_if(what, (struct CMUnitTest){#test, NULL, NULL, NULL, NULL})
struct CMUnitTest unit_test_if(unsigned what, struct CMUnitTest test);

/* In the place of cmocka_run_group_tests_name, where all tests have the same needs. */
#define run_group_needing(what, name, tests, setup, teardown) \
    run_group_if(what, name, tests, sizeof(tests) / sizeof(tests)[0], setup, teardown)
int run_group_if(unsigned what, const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                 CMFixtureFunction teardown);

/* A program of such tests: one skipped test. */
int skip_group(unsigned what, const char *name);

#endif
