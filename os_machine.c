/* os_machine.c - floor 0: what this machine is called: its processor, its architecture, its system. */
#define _POSIX_C_SOURCE 200809L
#include "os.h"

#include <string.h>

#ifdef SD_OS_POSIX
#include <sys/utsname.h>
#endif

/* The first "model name" in Linux' /proc/cpuinfo; "": unknown. */
static void find_processor(char *name, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "rb");
    *name = 0;
    while (f && !*name && fgets(line, sizeof line, f)) {
        const char *at = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !at) continue;
        snprintf(name, size, "%s", at + 1 + strspn(at + 1, " \t"));
        name[strcspn(name, "\n")] = 0;
    }
    if (f) fclose(f);
}

const char *sd_os_machine(char *text, size_t size)
{
    char processor[128];
    find_processor(processor, sizeof processor);
    const char *comma = *processor ? ", " : "";
#ifdef SD_OS_POSIX
    struct utsname u;
    if (uname(&u) >= 0) {
        snprintf(text, size, "%s%s%s, %s %s", processor, comma, u.machine, u.sysname, u.release);
        return text;
    }
#endif
    snprintf(text, size, "%s%sunknown system, pointers of %zu bits", processor, comma, 8 * sizeof(void *));
    return text;
}
