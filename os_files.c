/* os_files.c - floor 0: whole files into memory, and files that appear only when they are complete. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "base.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef SD_OS_POSIX
#include <fcntl.h>
#include <unistd.h>
#endif

/* -------------------------------------------------------------------------------------- names */

sd_status sd_path_join(char *out, size_t size, const char *a, const char *b, sd_error *e)
{
    size_t n = strlen(a);
    const char *sep = n && a[n - 1] != '/' ? "/" : "";
    int got = snprintf(out, size, "%s%s%s", a, sep, b);
    if (got < 0 || (size_t)got >= size)
        return sd_fail(e, SD_ERR_ARG, "path is too long (over %zu bytes): %.200s...", size - 1, a);
    return SD_OK;
}

/* Also true if unknown: then opening the file says what is wrong. */
bool sd_is_file(const char *path)
{
    sd_os_kind kind = sd_os_look(path, NULL);
    return kind == SD_OS_FILE || kind == SD_OS_UNKNOWN;
}

bool sd_is_absent(const char *path) { return sd_os_look(path, NULL) == SD_OS_NOTHING; }
bool sd_is_dir(const char *path) { return sd_os_look(path, NULL) == SD_OS_DIRECTORY; }
bool sd_is_stream(const char *path) { return sd_os_descriptor(path) >= 0 || sd_os_look(path, NULL) == SD_OS_STREAM; }

bool sd_find_dir(const char *path, sd_error *e)
{
    sd_os_kind kind = sd_os_look(path, NULL);
    if (kind == SD_OS_UNKNOWN)
        sd_fail(e, sd_errno_status(errno), "cannot look for the directory %s: %s", path, strerror(errno));
    return kind == SD_OS_DIRECTORY;
}

/* ------------------------------------------------------------------------------------ reading */

static sd_status too_large(const char *path, size_t max, sd_error *e)
{
    return sd_fail(e, SD_ERR_FORMAT, "%s is larger than the %zu bytes such a file may have", path, max);
}

/* Makes room for the next piece: for the whole file if its size is known, else (pipes) twice as much as before. */
static bool grow(char **data, size_t *room, size_t used, size_t whole)
{
    if (*room - used >= 2) return true;
    size_t want = !*room ? whole ? whole + 2 : 65536 : *room > SIZE_MAX / 2 ? SIZE_MAX : *room * 2;
    char *more = realloc(*data, want);
    if (!more) return false;
    *data = more;
    *room = want;
    return true;
}

static sd_status read_all(FILE *f, const char *path, size_t max, size_t whole, sd_accept *accept, char **data,
                          size_t *used, sd_error *e)
{
    enum { PIECE = 1 << 20 };   /* bytes; after each it asks whether to stop */
    size_t room = 0, got = 0;
    bool known = !accept;
    do {
        if (sd_fail_if_stopped(e)) return e->status;
        if (!grow(data, &room, *used, whole)) return sd_fail(e, SD_ERR_MEMORY, "no memory to read %s", path);
        size_t left = room - *used - 1;
        got = fread(*data + *used, 1, left < PIECE ? left : PIECE, f);
        *used += got;
        if (!known && !accept(*data, *used)) break;
        known = true;
    } while (got && *used <= max);
    if (sd_fail_if_stopped(e)) return e->status;   /* a signal that stops us also ends a read that waits */
    if (ferror(f)) return sd_fail(e, sd_errno_status(errno), "cannot read %s: %s", path, strerror(errno));
    (*data)[*used] = 0;
    return *used > max ? too_large(path, max, e) : SD_OK;
}

sd_status sd_read_file_if(const char *path, size_t max, sd_accept *accept, char **data, size_t *n, sd_error *e)
{
    uint64_t bytes;
    size_t whole = 0;
    *data = NULL;
    *n = 0;
    if (sd_fail_if_stopped(e)) return e->status;
    if (sd_is_dir(path)) return sd_fail(e, SD_ERR_ARG, "expected a file, found a directory: %s", path);
    FILE *f = fopen(path, "rb");
    if (!f && sd_fail_if_stopped(e)) return e->status;   /* while it waited for the other end of a pipe */
    if (!f) return sd_fail(e, sd_errno_status(errno), "cannot open %s: %s", *path ? path : "\"\"", strerror(errno));
    bool sized = sd_os_look(path, &bytes) == SD_OS_FILE;
    if (sized && bytes > max) too_large(path, max, e);
    else if (sized) whole = (size_t)bytes;
    else if (max > SD_PIPE_MAX) max = SD_PIPE_MAX;
    if (!e->status) read_all(f, path, max, whole, accept, data, n, e);
    fclose(f);
    if (e->status) {
        free(*data);
        *data = NULL;
        *n = 0;
    }
    return e->status;
}

sd_status sd_read_file(const char *path, size_t max, char **data, size_t *n, sd_error *e)
{
    return sd_read_file_if(path, max, NULL, data, n, e);
}

/* ------------------------------------------------------------------------------------ writing */

static sd_status cannot_write(const char *path, int why, sd_error *e)
{
    if (why == EINTR && sd_fail_if_stopped(e)) return e->status;
    return sd_fail(e, sd_errno_status(why), "cannot write %s: %s", path, why ? strerror(why) : "write error");
}

#ifdef SD_OS_POSIX
/* An unpredictable number. Where the system has no source of them, one that two programs will hardly share; a name that
 * is taken is never used in any case. */
uint64_t sd_os_any_number(void)
{
    uint64_t v = 0;
    struct timespec t = {0};
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, &v, sizeof v);
    if (fd >= 0) close(fd);
    if (got == (ssize_t)sizeof v) return v;
    clock_gettime(CLOCK_REALTIME, &t);
    v = (uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^ (uint64_t)getpid() << 40 ^ (uintptr_t)&t;
    return v * UINT64_C(0x9E3779B97F4A7C15);
}

/* Moves a file off the numbers of the standard streams: these may be closed, and what is written to them must not end
 * up in our file. */
static int above_standard(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO) return fd;
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), why = errno;
    close(fd);
    errno = why;
    return higher;
}

/* Creates a file that did not exist before, with the permissions that the umask leaves. */
static FILE *create(const char *path)
{
    int fd = above_standard(open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w+b");
    if (f || fd < 0) return f;
    int why = errno;
    close(fd);
    remove(path);
    errno = why;
    return NULL;
}

static FILE *open_through(const char *path)
{
    int known = sd_os_descriptor(path);
    int fd = known >= 0 ? fcntl(known, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)
                        : above_standard(open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY));
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!f && fd >= 0) close(fd);
    return f;
}

/* Some file systems cannot promise that the file is on the disk and report that; it is no failure. */
static bool onto_disk(FILE *f) { return fsync(fileno(f)) == 0 || errno == EINVAL || errno == ENOTSUP; }

bool sd_os_seek(FILE *f, uint64_t at) { return fseeko(f, (off_t)at, SEEK_SET) == 0; }

#else
uint64_t sd_os_any_number(void)
{
    return ((uint64_t)time(NULL) ^ (uint64_t)clock() << 32) * UINT64_C(0x9E3779B97F4A7C15);
}

/* C99 cannot demand that the file be new; but nobody can guess its name. */
static FILE *create(const char *path) { return fopen(path, "w+b"); }
static FILE *open_through(const char *path) { return fopen(path, "wb"); }
static bool onto_disk(FILE *f) { return (void)f, true; }
bool sd_os_seek(FILE *f, uint64_t at) { return at <= LONG_MAX && fseek(f, (long)at, SEEK_SET) == 0; }
#endif

/* A name for an unfinished file in `dir`, whose n bytes include the slash; free() it. */
static char *temporary_name(const char *dir, size_t n)
{
    sd_text t = {0};
    sd_text_addn(&t, dir, n);
    sd_text_add(&t, ".sd-%016llx.part", (unsigned long long)sd_os_any_number());
    if (!t.failed) return t.s;
    free(t.s);
    return NULL;
}

/* Before the file exists, notes its name: it would be left behind if the program ended now. */
static void note_temporary(sd_outfile *o)
{
    if (!o->halt || strlen(o->temp) >= sizeof o->halt->temp) return;
    memcpy(o->halt->temp, o->temp, strlen(o->temp) + 1);
    sd_flag_set(&o->halt->writing, 1);
}

/* The file is finished or gone. */
static void reset_outfile(sd_outfile *o)
{
    if (o->halt) sd_flag_set(&o->halt->writing, 0);
    free(o->temp);
    free(o->path);
    memset(o, 0, sizeof *o);
}

sd_status sd_outfile_open(sd_outfile *o, const char *path, sd_error *e)
{
    enum { TRIES = 100 };
    const char *slash = strrchr(path, '/');
    memset(o, 0, sizeof *o);
    if (sd_fail_if_stopped(e)) return e->status;
    if (sd_is_dir(path)) return sd_fail(e, SD_ERR_ARG, "cannot write %s: it is a directory", path);
    bool through = sd_is_stream(path);
    o->path = sd_strdup(path);
    o->halt = through ? NULL : e->halt;
    errno = ENOMEM;
    if (o->path && through) o->f = open_through(path);
    for (int i = 0; o->path && !through && !o->f && i < TRIES; i++) {
        if (i && errno != EEXIST) break;
        free(o->temp);
        errno = ENOMEM;
        o->temp = temporary_name(path, slash ? (size_t)(slash - path) + 1 : 0);
        if (!o->temp) break;
        note_temporary(o);
        o->f = create(o->temp);
    }
    if (o->f) return SD_OK;
    int why = errno;
    reset_outfile(o);   /* there is nothing to remove */
    return cannot_write(path, why, e);
}

sd_status sd_outfile_commit(sd_outfile *o, sd_error *e)
{
    errno = 0;
    bool bad = fflush(o->f) != 0 || ferror(o->f) || (o->temp && !onto_disk(o->f));
    int why = errno;
    if (fclose(o->f) != 0 && !bad) {
        bad = true;
        why = errno;
    }
    o->f = NULL;
    if (!bad && o->temp && rename(o->temp, o->path) != 0) {
        bad = true;
        why = errno;
    }
    if (bad) {
        cannot_write(o->path, why, e);
        sd_outfile_abort(o);
        return e->status;
    }
    reset_outfile(o);
    return SD_OK;
}

void sd_outfile_abort(sd_outfile *o)
{
    if (o->f) fclose(o->f);
    if (o->temp) remove(o->temp);
    reset_outfile(o);
}

#ifdef SD_OS_POSIX
FILE *sd_file_without_name(const char *path, sd_error *e)
{
    const char *slash = strrchr(path, '/'), *elsewhere = getenv("TMPDIR");
    sd_text dir = {0};
    if (sd_fail_if_stopped(e)) return NULL;
    if (sd_is_stream(path)) sd_text_add(&dir, "%s/", elsewhere && *elsewhere ? elsewhere : "/tmp");
    else sd_text_addn(&dir, path, slash ? (size_t)(slash - path) + 1 : 0);
    char *name = dir.failed ? NULL : temporary_name(dir.s, dir.n);
    errno = ENOMEM;
    FILE *f = name ? create(name) : NULL;
    int why = errno;
    if (f && remove(name) != 0) {   /* a removed file lives as long as it is open */
        why = errno;
        fclose(f);
        f = NULL;
        remove(name);
    }
    free(name);
    free(dir.s);
    if (!f) cannot_write(path, why, e);
    return f;
}
#else
FILE *sd_file_without_name(const char *path, sd_error *e)
{
    FILE *f = sd_fail_if_stopped(e) ? NULL : tmpfile();
    if (!f && !e->status) cannot_write(path, errno, e);
    return f;
}
#endif
