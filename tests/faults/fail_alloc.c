/* fail_alloc.c - loaded before a program (LD_PRELOAD): lets one of its allocations fail, and counts what it did not
 * free.
 *
 *   FAIL_AT=n        the n-th allocation returns NULL, from 1 on; 0 or not given: none does
 *   FAIL_REST=1      ... and so do all that follow
 *   FAIL_REPORT=f    where "allocations N failed N live N bytes N" is written when the program ends, and then for each
 *                    allocation a number for the place in the code that it came from
 *
 * Counted are the allocations of the program and of what works for it (libc, libpng, zlib, libjpeg), from its
 * own first one on; not those of the loader, OpenMP's runtime and OpenBLAS, which end the program themselves when they
 * get none. Live at the end are blocks that neither libc nor those keep for good. For glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

enum { SLOTS = 1 << 18, SITES = 1 << 19 };   /* far more than the blocks that live at once, and that there are */
static struct slot { void *p; size_t n; } slot[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned site[SITES];
static long count, failed, fail_at = -1;
static int armed, rest, busy;

static size_t place(const void *p) { return ((size_t)p >> 4) * 0x9E3779B97F4A7C15u >> 46; }

static void remember(void *p, size_t n)
{
    size_t i = place(p);
    while (slot[i].p && slot[i].p != (void *)1) i = (i + 1) % SLOTS;
    slot[i] = (struct slot){p, n};
}

static void forget(void *p)
{
    for (size_t i = place(p); slot[i].p; i = (i + 1) % SLOTS)
        if (slot[i].p == p) {
            slot[i].p = (void *)1;   /* was used: a search goes on here */
            return;
        }
}

/* Whose allocation it is: 0 nobody's that counts, 1 libc's, 2 the program's or that of a library it uses. */
static int owner(void *caller)
{
    static const char *const others[] = {"libgomp", "libomp", "libopenblas", "ld-linux", "libgfortran", "libasan",
                                         "libtsan"};
    Dl_info at;
    if (!dladdr(caller, &at) || !at.dli_fname) return 0;
    if (!strstr(at.dli_fname, ".so")) armed = 1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(at.dli_fname, others[i])) return 0;
    return strstr(at.dli_fname, "libc.so") || strstr(at.dli_fname, "libc-") ? 1 : 2;
}

/* The same for the same place in each run, wherever libraries are loaded. */
static unsigned site_of(void *caller)
{
    Dl_info at;
    if (!dladdr(caller, &at) || !at.dli_fname) return 0;
    unsigned h = 2166136261u;
    for (const char *c = at.dli_fname; *c; c++) h = (h ^ (unsigned char)*c) * 16777619u;
    return h ^ (unsigned)((size_t)caller - (size_t)at.dli_fbase) * 2654435761u;
}

/* Counts, and says whether this one fails. */
static int fails(int whose, void *caller)
{
    if (!whose || !armed) return 0;
    if (fail_at < 0) {
        const char *at = getenv("FAIL_AT"), *more = getenv("FAIL_REST");
        fail_at = at ? atol(at) : 0;
        rest = more && *more == '1';
    }
    if (count < SITES) site[count] = site_of(caller);
    count++;
    if (!fail_at || !(count == fail_at || (rest && count > fail_at))) return 0;
    failed++;
    errno = ENOMEM;
    return 1;
}

/* One allocation: `old` is given up for it (realloc). */
static void *allocate(void *caller, void *old, size_t n, size_t size, size_t align)
{
    pthread_mutex_lock(&lock);
    int whose = busy ? 0 : (busy = 1, owner(caller));
    busy = 0;
    void *p = NULL;
    if (!fails(whose, caller)) {
        p = align ? __libc_memalign(align, size) : old ? __libc_realloc(old, size)
          : n ? __libc_calloc(n, size) : __libc_malloc(size);
        if (old && (p || !size)) forget(old);
        if (p && whose == 2 && armed) remember(p, n ? n * size : size);
    }
    pthread_mutex_unlock(&lock);
    return p;
}

void *malloc(size_t n) { return allocate(__builtin_return_address(0), NULL, 0, n, 0); }
void *calloc(size_t n, size_t size) { return allocate(__builtin_return_address(0), NULL, n ? n : 1, n ? size : 0, 0); }
void *realloc(void *p, size_t n) { return allocate(__builtin_return_address(0), p, 0, n, 0); }
void *memalign(size_t align, size_t n) { return allocate(__builtin_return_address(0), NULL, 0, n, align); }
void *aligned_alloc(size_t align, size_t n) { return allocate(__builtin_return_address(0), NULL, 0, n, align); }

int posix_memalign(void **p, size_t align, size_t n)
{
    void *got = allocate(__builtin_return_address(0), NULL, 0, n, align);
    if (!got) return ENOMEM;
    *p = got;
    return 0;
}

void free(void *p)
{
    if (!p) return;
    pthread_mutex_lock(&lock);
    forget(p);
    pthread_mutex_unlock(&lock);
    __libc_free(p);
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("FAIL_REPORT");
    long live = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < SLOTS; i++)
        if (slot[i].p && slot[i].p != (void *)1) live++, bytes += slot[i].n;
    armed = 0;
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "allocations %ld failed %ld live %ld bytes %zu\n", count, failed, live, bytes);
    for (long i = 0; i < count && i < SITES; i++) fprintf(f, "%u\n", site[i]);
    fclose(f);
}

/* A program whose memory ran out ends without its destructors: what it did not free counts all the same. */
void _Exit(int code)
{
    report();
    syscall(SYS_exit_group, code);
    for (;;) {}
}
