/* os_cgroups.c - floor 0: Linux' control groups, by which containers limit what is in them. Other systems have none. */
#include "os.h"

#include <string.h>

enum { PATH = 1024 };

/* Is `word` in the first n bytes of a comma list? */
static bool has_word(const char *list, size_t n, const char *word)
{
    for (size_t m = strlen(word), i = 0; i + m <= n; i++)
        if (strncmp(list + i, word, m) == 0 && (i == 0 || list[i - 1] == ',') && (i + m == n || list[i + m] == ','))
            return true;
    return false;
}

/* A container may see its own group as the root: then the path's directories do not exist, and `mount` is the group. */
static void see_path(const char *mount, const char *group, int version,
                     void (*see)(void *user, const char *dir, int version), void *user)
{
    char dir[PATH];
    int length = snprintf(dir, sizeof dir, "%s%s", mount, group);
    if (length < 0 || length >= PATH) return;
    for (size_t n = (size_t)length; n >= strlen(mount); n--) {
        if (dir[n] && dir[n] != '/') continue;
        dir[n] = 0;
        see(user, dir, version);
        if (!n) break;
    }
}

void sd_cgroups_see(const char *root, const char *controller, void (*see)(void *user, const char *dir, int version),
                    void *user)
{
    char path[PATH], mount[PATH], line[PATH];
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= PATH) return;
    FILE *f = fopen(path, "rb");
    while (f && fgets(line, sizeof line, f)) {   /* "0::/group" of version 2, or "3:cpu,cpuacct:/group" of version 1 */
        line[strcspn(line, "\n")] = 0;
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        size_t n = (size_t)(group - names - 1);
        int version = n == 0 ? 2 : has_word(names + 1, n, controller) ? 1 : 0;
        if (!version || strstr(group + 1, "/..")) continue;
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s%s", root, version == 1 ? "/" : "",
                 version == 1 ? controller : "");
        see_path(mount, group + 1, version, see, user);
    }
    if (f) fclose(f);
}
