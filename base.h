/* base.h - floor 0: status codes and their texts, errors that stick, requests to stop, the arena, whole files.
 *
 * Includes sd.h only for the public types (sd_status, sd_dtype): a status means the same on every floor. */
#ifndef SD_BASE_H
#define SD_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "os.h"
#include "sd.h"

#if defined(__MINGW_PRINTF_FORMAT)   /* mingw's own printf, which knows %zu; Windows' does not */
#define SD_PRINTF(fmt, args) __attribute__((format(__MINGW_PRINTF_FORMAT, fmt, args)))
#elif defined(__GNUC__)
#define SD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define SD_PRINTF(fmt, args)
#endif

#define SD_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- a number that a thread or a signal handler sets and another thread reads */
#if !defined(__GNUC__) && __STDC_VERSION__ >= 201112L && !defined(__STDC_NO_ATOMICS__)
#include <stdatomic.h>
typedef struct sd_flag { atomic_int v; } sd_flag;
static inline int sd_flag_get(const sd_flag *f) { return atomic_load(&f->v); }
static inline void sd_flag_set(sd_flag *f, int v) { atomic_store(&f->v, v); }
#elif defined(__GNUC__)   /* gcc and clang have atomics in C99 too */
typedef struct sd_flag { int v; } sd_flag;
static inline int sd_flag_get(const sd_flag *f) { return __atomic_load_n(&f->v, __ATOMIC_ACQUIRE); }
static inline void sd_flag_set(sd_flag *f, int v) { __atomic_store_n(&f->v, v, __ATOMIC_SEQ_CST); }
#else                     /* safe with signal handlers; with threads only where such an access is one instruction */
#include <signal.h>
typedef struct sd_flag { volatile sig_atomic_t v; } sd_flag;
static inline int sd_flag_get(const sd_flag *f) { return f->v; }
static inline void sd_flag_set(sd_flag *f, int v) { f->v = v; }
#endif

/* What a running call and its caller tell each other. To the call: how much memory it may take, and, from another
 * thread or a signal handler, a request to stop. From the call: the temporary file that it would leave behind if the
 * program ended now. */
typedef struct sd_halt {
    uint64_t memory;      /* bytes that a call may take; 0: whatever the system has left */
    sd_flag stop;
    sd_flag writing;      /* set while `temp` names such a file */
    char temp[4096];
} sd_halt;

/* ---- errors: the first message wins, so that a cascade reports its cause */
typedef struct sd_error {
    sd_status status;
    char text[512];
    char place[48];   /* "file.c:123" */
    sd_halt *halt;    /* NULL: nobody can stop this call */
} sd_error;

sd_status sd_fail_at(sd_error *e, const char *file, int line, sd_status status, const char *fmt, ...) SD_PRINTF(5, 6);
#define sd_fail(e, ...) sd_fail_at((e), __FILE__, __LINE__, __VA_ARGS__)
void sd_error_clear(sd_error *e);   /* clears status and texts, not `halt`; a new error begins as {0} */
static inline bool sd_stop_requested(const sd_error *e) { return e->halt && sd_flag_get(&e->halt->stop); }
/* True after an error, and when the call was asked to stop, which is an error from then on. Whatever takes longer than
 * a tenth of a second must ask at least that often. */
bool sd_fail_if_stopped(sd_error *e);
/* The status for a system call that set errno to `why`: a wrong name is the caller's mistake, a full disk is not. */
sd_status sd_errno_status(int why);

/* ---- log sink: lines go to the caller's function or nowhere */
typedef struct sd_log {
    void (*fn)(void *user, int level, const char *line);
    void *user;
} sd_log;
enum { SD_LOG_WARNING = 0, SD_LOG_NOTICE = 1, SD_LOG_DETAIL = 2 };
void sd_logf(const sd_log *log, int level, const char *fmt, ...) SD_PRINTF(3, 4);

/* ---- arena: one block, allocated in stack order; mark and reset around each piece of work. The arena never reads or
 * writes the block, which may be the memory of a device. With base == NULL it only counts: the null backend learns the
 * exact peak that way. */
typedef struct sd_arena {
    unsigned char *base;
    size_t size, used, peak;
    size_t part;      /* a multiple of SD_ALIGN: nothing lies across a multiple of it; 0: anything lies anywhere */
    size_t widest;    /* bytes of the largest thing so far */
} sd_arena;
/* NULL and *full = true when it does not fit (base != NULL); NULL and *full = false when only counting. */
void *sd_arena_alloc(sd_arena *a, size_t bytes, bool *full);
/* Is there room for the largest thing in a part? */
static inline bool sd_arena_fits(const sd_arena *a) { return !a->part || a->widest <= a->part; }
/* Where something of so many bytes would begin if it came after `mark`. */
size_t sd_arena_place(const sd_arena *a, size_t mark, size_t bytes);

/* ---- before much memory is taken (sd_memory_left) */
/* SD_ERR_MEMORY, "WHAT takes ... of memory, and ... are free", if less than `bytes` is left. Requests below
 * 64 MB always pass. */
sd_status sd_need_memory(sd_error *e, double bytes, const char *what, ...) SD_PRINTF(3, 4);

/* ---- lists and bytes */
/* Room for one more than the n items of `size` bytes that a list has: the list, perhaps at another place, with `*cap`
 * updated. It doubles, and begins with `first` items. NULL: out of memory, and the list is as it was. */
void *sd_grow(void *list, size_t n, size_t *cap, size_t first, size_t size);
/* The whole number that n bytes are, the lowest first; n is at most 8. */
uint64_t sd_from_little_endian(const void *bytes, size_t n);

/* ---- strings and files */
char *sd_strdup(const char *s);
/* Text that grows. Once something was added, `s` is NUL terminated. Running out of memory sets `failed`. */
typedef struct sd_text {
    char *s;
    size_t n, cap;
    bool failed;
} sd_text;
void sd_text_add(sd_text *t, const char *fmt, ...) SD_PRINTF(2, 3);
void sd_text_addn(sd_text *t, const char *s, size_t n);

/* What follows `name` in `text`; NULL if the text does not begin with it. Case, blanks, '_', '-' and brackets are
 * ignored, and '+' counts as 'p'. */
const char *sd_after_name(const char *text, const char *name);
bool sd_same_name(const char *a, const char *b);
bool sd_begins_with(const char *s, const char *beginning);
bool sd_ends_with(const char *s, const char *end);
/* Is it a file's name with this ending, ".png", in any case? The ending alone is no name. */
bool sd_has_ending(const char *path, const char *ending);

bool sd_glob(const char *pattern, const char *name);            /* * and ? only; * also matches dots */
bool sd_glob_list(const char *comma_list, const char *name);    /* NULL or "" matches everything */

/* a/b into out; fails if it does not fit. */
sd_status sd_path_join(char *out, size_t size, const char *a, const char *b, sd_error *e);
bool sd_is_file(const char *path);     /* also true if unknown: then opening it says why */
bool sd_is_absent(const char *path);   /* nothing has this name; false if unknown */
bool sd_is_dir(const char *path);
bool sd_find_dir(const char *path, sd_error *e);   /* the same; an error if unknown */
bool sd_is_stream(const char *path);   /* a pipe, a device or an open descriptor's name: no file can replace it */
/* Reads a whole file of at most `max` bytes; a NUL is appended and not counted. free() it. */
sd_status sd_read_file(const char *path, size_t max, char **data, size_t *n, sd_error *e);
/* The same, but `accept` sees the beginning first; if it refuses, no more is read. From something without a size, such
 * as a pipe, at most SD_PIPE_MAX bytes are read. */
typedef bool sd_accept(const char *beginning, size_t n);
sd_status sd_read_file_if(const char *path, size_t max, sd_accept *accept, char **data, size_t *n, sd_error *e);
#define SD_PIPE_MAX ((size_t)256 << 20)

/* A file that appears under its name only when it is complete. It is written in the same directory under an
 * unpredictable, unused name and then renamed. If the path leads to a pipe, a device or an open descriptor, that is
 * written to directly. */
typedef struct sd_outfile {
    FILE *f;
    char *path, *temp;   /* temp NULL: written directly */
    sd_halt *halt;
} sd_outfile;
sd_status sd_outfile_open(sd_outfile *o, const char *path, sd_error *e);
sd_status sd_outfile_commit(sd_outfile *o, sd_error *e);   /* flushes, renames; on failure aborts and says why */
void sd_outfile_abort(sd_outfile *o);                      /* closes and removes; harmless if not open */
/* A file without a name, to be written and read back, on the disk where `path` will be. NULL on failure. */
FILE *sd_file_without_name(const char *path, sd_error *e);

/* ---- dtypes */
/* Some types store their numbers in blocks with a common scale: GGUF's Q8_0 has 32 numbers in 34 bytes. */
size_t sd_dtype_block(sd_dtype d);                /* numbers in a block; 1 for the plain types */
size_t sd_dtype_size(sd_dtype d);                 /* bytes of one number; 0 for types of blocks */
size_t sd_dtype_bytes(sd_dtype d, size_t n);      /* bytes of n numbers, which are whole blocks */
bool sd_dtype_is_float(sd_dtype d);               /* its numbers can be widened to float */
const char *sd_dtype_name(sd_dtype d);   /* as safetensors spells it: "F32" */

/* Copies `full` into a caller's struct of `size` bytes, which may come from another version of sd.h: what does not fit
 * is left out, and members that `full` lacks become 0. */
void sd_copy_struct(void *to, size_t size, const void *full, size_t full_size);

#endif
