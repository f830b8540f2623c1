/* os_library.c - floor 0: libraries that are loaded when somebody wants them. */
#define _POSIX_C_SOURCE 200809L
#include "os.h"

#ifdef SD_OS_POSIX
#include <dlfcn.h>
#include <string.h>

void *sd_os_library(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }

sd_os_function *sd_os_library_function(void *library, const char *name)
{
    sd_os_function *f = NULL;
    void *at = dlsym(library, name);
    memcpy(&f, &at, sizeof f);   /* in POSIX both have the same addresses, but standard C has no cast between them */
    return f;
}
#else
void *sd_os_library(const char *name)
{
    (void)name;
    return NULL;
}

sd_os_function *sd_os_library_function(void *library, const char *name)
{
    (void)library, (void)name;
    return NULL;
}
#endif
