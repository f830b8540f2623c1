/* tempdir.c - a directory for the files of a test. */
#define _POSIX_C_SOURCE 200809L
#include "tempdir.h"
#include "test.h"

#include <dirent.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256];

static void must(int ok, const char *what)
{
    if (ok) return;
    perror(what);
    exit(99);
}

int temp_make(UNUSED void **state)
{
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/sd_test_XXXXXX", base && strlen(base) < 200 ? base : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

const char *temp_path(const char *name)
{
    static char buf[8][512];
    static int turn;
    char *s = buf[turn = (turn + 1) % 8];
    snprintf(s, sizeof buf[0], "%s/%s", dir, name);
    return s;
}

void temp_write(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(temp_path(name), "wb");
    must(f && fwrite(data, 1, n, f) == n && fclose(f) == 0, name);
}

char *temp_read(const char *name, size_t *n)
{
    FILE *f = fopen(temp_path(name), "rb");
    must(f != NULL && fseek(f, 0, SEEK_END) == 0, name);
    *n = (size_t)ftell(f);
    rewind(f);
    char *s = malloc(*n + 1);
    must(s && fread(s, 1, *n, f) == *n, name);
    s[*n] = 0;
    fclose(f);
    return s;
}

/* Counts the entries of a directory, or removes them and what is in them. */
static int walk(const char *at, int clear)
{
    DIR *d = opendir(at);
    int n = 0;
    must(d != NULL, at);
    for (struct dirent *t; (t = readdir(d));) {
        char path[1024];
        struct stat st;
        if (strcmp(t->d_name, ".") == 0 || strcmp(t->d_name, "..") == 0) continue;
        n++;
        snprintf(path, sizeof path, "%s/%s", at, t->d_name);
        if (!clear) continue;
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) walk(path, 1);
        must(remove(path) == 0, path);
    }
    closedir(d);
    return n;
}

int temp_files(void) { return walk(dir, 0); }
void temp_clear(void) { walk(dir, 1); }

int temp_remove(UNUSED void **state)
{
    walk(dir, 1);
    return rmdir(dir);
}

void temp_disk_limit(size_t bytes)
{
    struct rlimit l;
    must(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && getrlimit(RLIMIT_FSIZE, &l) == 0, "limit");
    l.rlim_cur = bytes ? (rlim_t)bytes : l.rlim_max;
    must(setrlimit(RLIMIT_FSIZE, &l) == 0, "limit");
}

const char *temp_comma_locale(void)
{
    char command[600];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", temp_path("."));
    if (system(command) == 0) setenv("LOCPATH", temp_path("."), 1);
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "es_ES.UTF-8", "ru_RU.UTF-8",
                                        "pt_BR.UTF-8", "de_DE", "it_IT.UTF-8", "pl_PL.UTF-8", "nl_NL.UTF-8",
                                        "ps_AF.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_ALL, names[i]) && strcmp(localeconv()->decimal_point, ".") != 0) return names[i];
    setlocale(LC_ALL, "C");
    return NULL;
}
