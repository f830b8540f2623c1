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

int skip_group(unsigned what, const char *name)
{
    const struct CMUnitTest test = {name, NULL, NULL, NULL, NULL}, skipped = unit_test_if(what, test);
    return _cmocka_run_group_tests(name, &skipped, 1, NULL, NULL);
}
