/* os_names.c - floor 0: what names of files lead to. */
#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700   /* realpath */
#define _FILE_OFFSET_BITS 64
#include "os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef SD_OS_POSIX
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* Such a name means the open file itself, with its current position. Opening the name again would not give that on
 * every system. */
int sd_os_descriptor(const char *path)
{
    static const struct { const char *name; int fd; } known[] = {
        {"/dev/stdout", STDOUT_FILENO}, {"/dev/stderr", STDERR_FILENO}, {"/dev/fd/", -1}, {"/proc/self/fd/", -1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].name);
        if (strncmp(path, known[i].name, n) != 0) continue;
        if (known[i].fd >= 0 && !path[n]) return known[i].fd;
        size_t digits = strspn(path + n, "0123456789");
        if (known[i].fd < 0 && digits && digits < 7 && !path[n + digits]) return atoi(path + n);
    }
    return -1;
}

sd_os_kind sd_os_look(const char *path, uint64_t *bytes)
{
    struct stat st;
    if (bytes) *bytes = 0;
    if (stat(path, &st) != 0) return errno == ENOENT || errno == ENOTDIR ? SD_OS_NOTHING : SD_OS_UNKNOWN;
    if (S_ISDIR(st.st_mode)) return SD_OS_DIRECTORY;
    if (!S_ISREG(st.st_mode)) return SD_OS_STREAM;
    if (bytes) *bytes = (uint64_t)st.st_size;
    return SD_OS_FILE;
}

bool sd_os_may_read(const char *path) { return access(path, R_OK) == 0; }
bool sd_os_may_write_in(const char *dir) { return access(dir, W_OK | X_OK) == 0; }
bool sd_os_make_directory(const char *path) { return mkdir(path, 0777) == 0 || errno == EEXIST; }
char *sd_os_full_path(const char *path) { return realpath(path, NULL); }
void sd_os_remove_now(const char *path) { (void)unlink(path); }

bool sd_os_list(const char *dir, void (*see)(void *user, const char *name), void *user)
{
    DIR *d = opendir(dir);
    if (!d) return false;
    for (const struct dirent *x; (x = readdir(d)) != NULL;)
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0) see(user, x->d_name);
    closedir(d);
    return true;
}

bool sd_os_program_path(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    if (n > 0) path[n] = 0;
    return n > 0;
}

#else

int sd_os_descriptor(const char *path) { return (void)path, -1; }

/* Some systems can open a directory but not read it. */
sd_os_kind sd_os_look(const char *path, uint64_t *bytes)
{
    errno = 0;
    FILE *f = fopen(path, "rb");
    if (bytes) *bytes = 0;
    if (!f) return
#ifdef ENOENT
        errno != ENOENT ? SD_OS_UNKNOWN :
#endif
        SD_OS_NOTHING;
    bool directory = getc(f) == EOF && ferror(f);
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : 0;
    fclose(f);
    if (bytes && size > 0) *bytes = (uint64_t)size;
    return directory ? SD_OS_DIRECTORY : SD_OS_FILE;
}

bool sd_os_may_read(const char *path) { return sd_os_look(path, NULL) == SD_OS_FILE; }
bool sd_os_may_write_in(const char *dir) { return (void)dir, true; }
bool sd_os_make_directory(const char *path) { return sd_os_look(path, NULL) != SD_OS_NOTHING; }
char *sd_os_full_path(const char *path) { return (void)path, NULL; }
void sd_os_remove_now(const char *path) { (void)remove(path); }
bool sd_os_list(const char *dir, void (*see)(void *user, const char *name), void *user)
{
    (void)dir, (void)see, (void)user;
    return false;
}
bool sd_os_program_path(char *path, size_t size) { return (void)path, (void)size, false; }
#endif
