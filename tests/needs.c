/* needs.c - tests of what a build was told to leave out; see needs.h. */
#include "test.h"
#include "../sd.h"
#include "child.h"
#include "needs.h"

typedef struct need {
    unsigned what;
    const char *lack, *reason;   /* lack: part of sd_build_info(); NULL: a CPU that computes */
    bool said;
} need;

static need needs[] = {
    {NEED_PNG, "no libpng", "not run: this build has no PNG (PNG=0)", false},
    {NEED_CPU, NULL, "not run on a device: these numbers are the CPU's", false},
    {NEED_UNICODE, "no utf8proc", "not run: this build knows no letters but ASCII's (UTF8PROC=0)", false},
};

bool on_device(void)
{
    const char *device = getenv("SD_DEVICE");
    return device && *device && strcmp(device, "cpu") != 0;
}

int precisions(void) { return on_device() ? 1 : 2; }

bool cases_are_slow(void) { return SLOW > 1 || on_device(); }

static bool lacks(const need *n) { return n->lack ? strstr(sd_build_info(), n->lack) != NULL : on_device(); }

/* The first need that the build does not meet. */
static need *lacking(unsigned what)
{
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (what & needs[i].what && lacks(&needs[i])) return &needs[i];
    return NULL;
}

static void say_why_and_skip(void **state)
{
    need *n = *state;
    if (!n->said) print_message("%s\n", n->reason);
    n->said = true;
    skip();
}

struct CMUnitTest unit_test_if(unsigned what, struct CMUnitTest test)
{
    need *n = lacking(what);
    return n ? (struct CMUnitTest){test.name, say_why_and_skip, NULL, NULL, n} : test;
}

int skip_group(unsigned what, const char *name)
{
    const struct CMUnitTest test = {name, NULL, NULL, NULL, NULL}, skipped = unit_test_if(what, test);
    return _cmocka_run_group_tests(name, &skipped, 1, NULL, NULL);
}
