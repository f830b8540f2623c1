/* needs.c - tests of what a build was told to leave out; see needs.h. */
#include "test.h"
#include "../sd.h"
#include "needs.h"

typedef struct need {
    unsigned what;
    const char *lack, *reason;
    bool said;
} need;

static need needs[] = {
    {NEED_JSON, "no cJSON", "not run: this build reads no JSON (CJSON=0)", false},
    {NEED_PNG, "no libpng", "not run: this build has no PNG (PNG=0)", false},
    {NEED_UNICODE, "no utf8proc", "not run: this build knows no letters but ASCII's (UTF8PROC=0)", false},
};

/* The first need that the build does not meet. */
static need *lacking(unsigned what)
{
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (what & needs[i].what && strstr(sd_build_info(), needs[i].lack)) return &needs[i];
    return NULL;
}

static void say_why_and_skip(void **state)
{
    need *lacks = *state;
    if (!lacks->said) print_message("%s\n", lacks->reason);
    lacks->said = true;
    skip();
}

struct CMUnitTest unit_test_if(unsigned what, struct CMUnitTest test)
{
    need *lacks = lacking(what);
    return lacks ? (struct CMUnitTest){test.name, say_why_and_skip, NULL, NULL, lacks} : test;
}

int run_group_if(unsigned what, const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
                 CMFixtureFunction teardown)
{
    if (!lacking(what)) return _cmocka_run_group_tests(name, tests, n, setup, teardown);
    struct CMUnitTest *skipped = malloc(n * sizeof *skipped);
    if (!skipped) return 1;
    for (size_t i = 0; i < n; i++) skipped[i] = unit_test_if(what, tests[i]);
    int failed = _cmocka_run_group_tests(name, skipped, n, NULL, NULL);
    free(skipped);
    return failed;
}

int skip_group(unsigned what, const char *name)
{
    const struct CMUnitTest test = {name, NULL, NULL, NULL, NULL};
    return run_group_if(what, name, &test, 1, NULL, NULL);
}
