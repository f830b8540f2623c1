/* os.h - floor 0: what the operating system does and standard C has no functions for.
 *
 * It is implemented by os_*.c and, in the program, by app_os.c. Each file has two parts: one for POSIX, and one in
 * standard C alone, which is used elsewhere or with -DSD_OS_PLAIN. In standard C, files are read instead of mapped, a
 * finished file may not have reached the disk, there is no progress bar, and times are in whole seconds. No other file
 * includes a POSIX header. A port to another system adds a third part. When a function fails, errno says why. */
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
    SD_OS_UNKNOWN,     /* cannot be determined: errno says why */
    SD_OS_FILE,
    SD_OS_DIRECTORY,
    SD_OS_STREAM       /* a pipe, a device or an open descriptor's name: no file can replace it */
} sd_os_kind;
sd_os_kind sd_os_look(const char *path, uint64_t *bytes);   /* *bytes: a file's size; `bytes` may be NULL */
int sd_os_descriptor(const char *path);      /* that a name such as "/dev/stdout" or "/dev/fd/3" means; else -1 */
bool sd_os_may_read(const char *path);
bool sd_os_may_write_in(const char *dir);    /* files can be created there; also true if unknown */
bool sd_os_make_directory(const char *path); /* also true if the name exists already */
char *sd_os_full_path(const char *path);     /* from the root, without links, "." and ".."; free() it. NULL: unknown */
/* Calls `see` with the name of everything in a directory but "." and "..", in no order. False: it cannot be read, or
 * the system has no way to list it. */
bool sd_os_list(const char *dir, void (*see)(void *user, const char *name), void *user);
void sd_os_remove_now(const char *path);     /* like remove(), but a signal handler may call it */
bool sd_os_program_path(char *path, size_t size);   /* of the running program */

/* ---- os_files.c: beside the functions on files in base.h */
bool sd_os_seek(FILE *f, uint64_t at);
uint64_t sd_os_any_number(void);             /* unpredictable; taken from the clock where no such source exists */

/* ---- os_map.c: files as memory, and memory in large blocks */
typedef struct sd_os_map {
    void *data;
    size_t size;
    bool mapped;       /* false: the caller has read the file */
    int file;          /* descriptor of the mapped file, to ask for its present length */
} sd_os_map;
/* False if the path cannot be mapped, for example because it is no file: then read it instead. A mapped file must not
 * be made shorter: reading what is gone raises SIGBUS. */
bool sd_os_map_open(sd_os_map *m, const char *path);
void sd_os_map_close(sd_os_map *m);
bool sd_os_map_length(const sd_os_map *m, uint64_t *bytes);   /* the file's length now */
/* Tells the system that data[from..to) is needed soon, or that it may leave memory until it is read again. Does nothing
 * if nothing is mapped. */
void sd_os_map_advise(const sd_os_map *m, size_t from, size_t to, bool needed);
/* True: what is read next lies here and there in the file, so that nothing but its pages is to be fetched. False: what
 * follows a page is fetched with it, as it is at first. */
void sd_os_map_scattered(const sd_os_map *m, bool scattered);

/* Memory for many numbers, aligned to SD_ALIGN, contents undefined. NULL: there is none. Large blocks get large pages
 * where the system lets a program ask for them: in 4 KB pages they would have more pages than the processor's address
 * cache (TLB) holds. */
#define SD_ALIGN 64u
void *sd_block_alloc(size_t bytes);
void sd_block_free(void *p);   /* p may be NULL */

/* ---- os_memory.c: bytes that this process can still get, and the most it has held */
uint64_t sd_memory_left(void);
uint64_t sd_memory_peak(void);   /* 0: unknown */
/* What the limits of the control groups leave (os_cgroups.c); their files are below `root`. UINT64_MAX: no limits. */
uint64_t sd_memory_of_groups(const char *root);

/* ---- os_cores.c: how many cores this process may keep busy */
/* The cores that a Linux control group's CPU quota allows, rounded up; 0: there is no quota. */
int sd_cores_quota(const char *root);
/* OpenMP's number of threads (it obeys OMP_NUM_THREADS and OMP_THREAD_LIMIT), limited to the quota unless
 * OMP_NUM_THREADS is set. 1 without OpenMP. */
int sd_cores_usable(void);

/* ---- os_cgroups.c: Linux' control groups, by which containers limit what is in them */
/* Calls `see` for every group of a controller ("cpu", "memory") that this process is in, from its own up to the root,
 * with the directory of the group's limits and its version of control groups. root is put before "/proc" and "/sys":
 * "" for the machine's own. */
void sd_cgroups_see(const char *root, const char *controller, void (*see)(void *user, const char *dir, int version),
                    void *user);

/* ---- os_caches.c: how large this machine's caches are, so that blocks can be made to fit them
 * In bytes. l1 (data) and l2 belong to one core, l3 is shared by several; 0: there is none. line: a cache line.
 * Blocks of work are cut to these sizes. They decide how fast a sum is computed, never in which order, so that the bits
 * are the same on every machine. */
typedef struct sd_cache_sizes {
    size_t l1, l2, l3, line;
    const char *from;   /* "sysfs", "cpuid" or "default" */
} sd_cache_sizes;
/* As the system or the processor reports them; if neither does, or the report is implausible: 32 KB, 256 KB, none, and
 * lines of 64 bytes. */
sd_cache_sizes sd_caches_find(void);
/* The steps of sd_caches_find, for tests: `dir` has index0, index1, ... like Linux' /sys/devices/system/cpu/cpu0/cache.
 * They return 1 if found, else 0. */
int sd_caches_from_sysfs(sd_cache_sizes *c, const char *dir);
int sd_caches_from_cpuid(sd_cache_sizes *c);

/* ---- os_machine.c: the processor, the architecture and the system, as far as they are known. Returns text. */
const char *sd_os_machine(char *text, size_t size);

/* ---- os_library.c: libraries that are loaded when somebody wants them. They stay until the program ends. */
typedef void sd_os_function(void);
void *sd_os_library(const char *name);   /* NULL: it is not there, cannot be loaded, or the system has no such thing */
sd_os_function *sd_os_library_function(void *library, const char *name);   /* NULL: it has none of this name */

/* ---- os_time.c */
double sd_now(void);   /* seconds, monotonic where the system has such a clock */

/* ---- app_os.c, floor 7: what only a program may touch */
bool sd_os_on_terminal(void);        /* is the standard error stream a terminal? */
int sd_os_terminal_columns(void);    /* 0: unknown */
/* If a standard stream is closed, the next file to be opened gets its number, and what is meant for the stream is
 * written into that file. So each closed stream is opened on something that still fails as a closed one does: for
 * input, what can only be written; for output, what can only be read. */
bool sd_os_reserve_standard_streams(void);
/* From now on, what is printed on standard output goes to standard error. name[32] receives a name for what was the
 * standard output before. */
bool sd_os_move_output(char name[32]);
/* `stop` is called when somebody asks the program to end: Ctrl-C, a request to terminate, a terminal that closes. A
 * signal that is ignored when the program starts (nohup, a shell's background job) stays so. */
void sd_os_on_stop(void (*stop)(int signal_number));
/* `lost` is called when a page of a mapped file cannot be read any more; it must not return. */
void sd_os_on_lost_page(void (*lost)(void));
void sd_os_ignore_file_limit(void);   /* write() then fails beyond the limit, as on a full disk, and no signal comes */
void sd_os_write_error(const char *text);   /* on the standard error stream; a signal handler may call it */
/* Restarts the program with an environment variable set that a library reads before main begins. Returns if it is set
 * already, or if a restart is impossible. */
void sd_os_restart_with(const char *variable, const char *value, char **argv);

#endif
