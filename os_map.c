/* os_map.c - floor 0: files as memory, and memory in large blocks. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE   /* madvise: posix_madvise's DONTNEED does nothing in glibc */
#define _FILE_OFFSET_BITS 64
#include "os.h"

#include <stdlib.h>
#include <string.h>

#ifdef SD_OS_POSIX
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool sd_os_map_open(sd_os_map *m, const char *path)
{
    struct stat st;
    void *p = MAP_FAILED;
    if (sd_os_look(path, NULL) != SD_OS_FILE) return false;   /* opening a pipe would wait */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && (uintmax_t)st.st_size <= SIZE_MAX)
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        close(fd);
        return false;
    }
    *m = (sd_os_map){.data = p, .size = (size_t)st.st_size, .mapped = true, .file = fd};
    return true;
}

void sd_os_map_close(sd_os_map *m)
{
    munmap(m->data, m->size);
    close(m->file);
}

bool sd_os_map_length(const sd_os_map *m, uint64_t *bytes)
{
    struct stat st;
    if (fstat(m->file, &st) != 0) return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}

/* Advises on all pages that these bytes touch. Other bytes on a page lose nothing: the mapping is private and never
 * written, so they are simply read again. */
void sd_os_map_advise(const sd_os_map *m, size_t from, size_t to, bool needed)
{
    long page = sysconf(_SC_PAGESIZE);
    if (!m->mapped || page <= 0) return;
    from -= from % (size_t)page;
#ifdef __linux__
    (void)madvise((unsigned char *)m->data + from, to - from, needed ? MADV_WILLNEED : MADV_DONTNEED);
#else
    (void)posix_madvise((unsigned char *)m->data + from, to - from, needed ? POSIX_MADV_WILLNEED : POSIX_MADV_DONTNEED);
#endif
}

void sd_os_map_scattered(const sd_os_map *m, bool scattered)
{
    if (m->mapped) (void)posix_madvise(m->data, m->size, scattered ? POSIX_MADV_RANDOM : POSIX_MADV_NORMAL);
}

void *sd_block_alloc(size_t bytes)
{
    enum { PAGE = 2 << 20 };   /* a large page of x86-64, and of AArch64 where small pages have 4 KB */
    void *p = NULL;
    if (bytes > SIZE_MAX - PAGE || posix_memalign(&p, bytes < 2 * PAGE ? SD_ALIGN : PAGE, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= 2 * PAGE) madvise(p, bytes, MADV_HUGEPAGE);   /* optional: its result does not matter */
#endif
    return p;
}

void sd_block_free(void *p) { free(p); }

#else

bool sd_os_map_open(sd_os_map *m, const char *path) { return (void)m, (void)path, false; }
void sd_os_map_close(sd_os_map *m) { (void)m; }
bool sd_os_map_length(const sd_os_map *m, uint64_t *bytes) { return *bytes = m->size, true; }
void sd_os_map_advise(const sd_os_map *m, size_t from, size_t to, bool needed)
{
    (void)m, (void)from, (void)to, (void)needed;
}
void sd_os_map_scattered(const sd_os_map *m, bool scattered) { (void)m, (void)scattered; }

/* C99 cannot allocate aligned memory, so the pointer from malloc is stored just before the block. */
void *sd_block_alloc(size_t bytes)
{
    unsigned char *p = bytes > SIZE_MAX - 2 * SD_ALIGN ? NULL : malloc(bytes + 2 * SD_ALIGN);
    if (!p) return NULL;
    unsigned char *block = p + 2 * SD_ALIGN - (uintptr_t)p % SD_ALIGN;
    memcpy(block - sizeof p, &p, sizeof p);
    return block;
}

void sd_block_free(void *p)
{
    unsigned char *from = NULL;
    if (p) memcpy(&from, (unsigned char *)p - sizeof from, sizeof from);
    free(from);
}
#endif
