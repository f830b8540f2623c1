/* os.h - floor 0: what the operating system does and standard C has no words for.
 *
 * Its files are the family os_*.c and, of the program, app_os.c. Each has two parts: one for POSIX, and one in standard
 * C alone, which is taken elsewhere or with -DSD_OS_PLAIN: files are read instead of mapped, a finished file may not
 * have reached the disk, there is no progress bar, and times are in whole seconds. No other file includes a header of
 * POSIX. A port to another system adds a third part. Where a function fails, errno says why. */
#ifndef SD_OS_H
#define SD_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if !defined(SD_OS_PLAIN) && (defined(__unix__) || defined(__APPLE__))
#define SD_OS_POSIX 1
#endif

/* ---- os_names.c: names of files */
typedef enum sd_os_kind {
    SD_OS_NOTHING,     /* nothing has this name */
    SD_OS_UNKNOWN,     /* that cannot be told: errno says why */
    SD_OS_FILE,
    SD_OS_DIRECTORY,
    SD_OS_STREAM       /* a pipe, a device or the name of an open descriptor: what no file can replace */
} sd_os_kind;
sd_os_kind sd_os_look(const char *path, uint64_t *bytes);   /* bytes, of a file: its size; may be NULL */
int sd_os_descriptor(const char *path);      /* that this is the name of: "/dev/stdout", "/dev/fd/3"; else -1 */
bool sd_os_may_read(const char *path);
bool sd_os_may_write_in(const char *dir);    /* files can be made there; true, too, if that cannot be told */
bool sd_os_make_directory(const char *path); /* or there is something with this name already */
char *sd_os_full_path(const char *path);     /* from the root, without links, "." and ".."; free() it. NULL: unknown */
void sd_os_remove_now(const char *path);     /* which a signal handler may call, as remove() it may not */
bool sd_os_program_path(char *path, size_t size);   /* of the running program */

/* ---- os_files.c: for what base.h says of files */
bool sd_os_seek(FILE *f, uint64_t at);
uint64_t sd_os_any_number(void);             /* one that nobody can foresee; without such a source, of the clock */

/* ---- os_map.c: files as memory, and memory in large blocks */
typedef struct sd_os_map {
    void *data;
    size_t size;
    bool mapped;       /* else the caller has read it */
    int file;          /* of what is mapped, to see whether it is still as long */
} sd_os_map;
/* False if it cannot be done, as with what is no file: then the file is to be read. A file that is mapped must not be
 * made shorter: reading what is gone raises SIGBUS. */
bool sd_os_map_open(sd_os_map *m, const char *path);
void sd_os_map_close(sd_os_map *m);
bool sd_os_map_length(const sd_os_map *m, uint64_t *bytes);   /* that the file has now */
/* On data[from..to): it is needed soon, or may leave memory until it is read again. Nothing where nothing is mapped. */
void sd_os_map_advise(const sd_os_map *m, size_t from, size_t to, bool needed);

/* Memory for many numbers, aligned to SD_ALIGN, contents undefined. NULL: there is none. Where the system lets a
 * program ask for large pages, large blocks have them: in pages of 4 KB they have more pages than a processor finds
 * quickly. */
#define SD_ALIGN 64u
void *sd_block_alloc(size_t bytes);
void sd_block_free(void *p);   /* NULL: nothing */

/* ---- os_memory.c: bytes that this process can still get, and the most that it had */
uint64_t sd_memory_left(void);
uint64_t sd_memory_peak(void);   /* 0: unknown */
/* What the limits of the control groups leave (os_cgroups.c), whose files are below `root`; UINT64_MAX: there are
 * none. */
uint64_t sd_memory_of_groups(const char *root);

/* ---- os_cores.c: how many cores this process may keep busy */
/* What a Linux control group's CPU quota allows, rounded up; 0: there is none. */
int sd_cores_quota(const char *root);
/* The cores of OpenMP's count (OMP_NUM_THREADS and OMP_THREAD_LIMIT count), within the quota unless OMP_NUM_THREADS
 * says how many. 1 without OpenMP. */
int sd_cores_usable(void);

/* ---- os_cgroups.c: Linux' control groups, by which containers limit what is in them */
/* Calls `see` for the groups that this process is in, each and all that it lies in up to the root, as far as they have
 * to do with a controller ("cpu", "memory"): with the directory of its limits, and which version of control groups it
 * is. root is put before "/proc" and "/sys": "" for the machine's own. */
void sd_cgroups_see(const char *root, const char *controller, void (*see)(void *user, const char *dir, int version),
                    void *user);

/* ---- os_caches.c: how large this machine's caches are, so that blocks can be made to fit them
 * Bytes. l1 (data) and l2 are those of one core, l3 is shared by several; 0: there is none. line: of a cache line.
 * Blocks of work are cut to these sizes; they decide how fast a sum is computed, never in which order, so that the bits
 * are the same on every machine. */
typedef struct sd_cache_sizes {
    size_t l1, l2, l3, line;
    const char *from;   /* "sysfs", "cpuid" or "default" */
} sd_cache_sizes;
/* What the system or the processor says; where neither does, or says what cannot be, 32 KB, 256 KB, none, 64 bytes. */
sd_cache_sizes sd_caches_find(void);
/* The steps of sd_caches_find, for tests: `dir` has index0, index1, ... as Linux' /sys/devices/system/cpu/cpu0/cache.
 * 1: found, else 0 */
int sd_caches_from_sysfs(sd_cache_sizes *c, const char *dir);
int sd_caches_from_cpuid(sd_cache_sizes *c);

/* ---- os_time.c */
double sd_now(void);   /* seconds, monotonic where the system has such a clock */

/* ---- app_os.c, floor 7: what only a program may touch */
bool sd_os_on_terminal(void);        /* the standard error stream is one */
int sd_os_terminal_columns(void);    /* 0: unknown */
/* Where a standard stream is closed, the next file that is opened gets its number, and what is meant for the stream is
 * written into that file. So each gets something that fails as a closed stream does: what can only be written for
 * reading, and the other way round. */
bool sd_os_hold_standard_streams(void);
/* What is printed on the standard output goes to the other stream from now on; name[32] is a name of what was the
 * standard output before. */
bool sd_os_move_output(char name[32]);
/* `stop` is called when somebody asks the program to end: Ctrl-C, a request to terminate, a terminal that closes. A
 * signal that is ignored when the program starts (nohup, a shell's background job) stays so. */
void sd_os_on_stop(void (*stop)(int signal_number));
/* `lost` is called when a page of a mapped file cannot be read any more; it must not return. */
void sd_os_on_lost_page(void (*lost)(void));
void sd_os_ignore_file_limit(void);   /* of what writes beyond it, as of a full disk, write() then tells */
void sd_os_say_now(const char *text);   /* on the standard error stream, from a signal handler, too */
/* Starts the program anew with n variables of the environment set, name and value, which libraries read before main
 * begins. It returns if the first one is set already, and where that cannot be done. */
void sd_os_start_with(const char *const (*variables)[2], size_t n, char **argv);

#endif
