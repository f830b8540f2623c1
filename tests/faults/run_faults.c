/* run_faults.c - runs the program again and again, and each time another allocation or another system call of it fails.
 *
 *   run_faults alloc PROGRAM FAIL_ALLOC.so     allocations, of each place in the code several
 *   run_faults io PROGRAM                      system calls that touch files, each one
 *
 * However a run ends, this must be true of it: the exit code is 0, 1 or 2, no signal ended it, and no sanitizer; on
 * failure it said one line, "sd: ..."; nothing that it allocated is left; every file in its directory is, byte for
 * byte, that of a run in which nothing failed; and if it says that it succeeded all of them are there.
 *
 * System calls are made to fail from outside (ptrace), so that what the C library does for the program counts too. For
 * Linux on x86-64 and AArch64. Runs from the directory of the sources. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef SD_WITH_JPEG
#include <jpeglib.h>
#endif

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#define WITH_PTRACE
#endif

/* %o: the directory for what is written, %i: the one with what is read. Most take a model with the weights in the box
 * and a vocabulary of 60 merges, because reading the whole one is 240,000 allocations at one place. */
#define DRAW "-m", "%i/model", "-s", "1", "-W", "64", "-H", "64", "-t", "1", "-q"
static const struct mode { const char *name, *args[28]; } modes[] = {
    {"text to image", {DRAW, "-p", "a red apple, \xc3\xa9", "-n", "blue", "--steps", "1", "-o", "%o/a.png"}},
    {"image to image", {DRAW, "-p", "a red apple", "--steps", "2", "-i", "%i/picture.jpg", "--mask", "%i/mask.ppm",
                        "--mask-blur", "2", "-o", "%o/a.png"}},
    {"trace", {DRAW, "-p", "x", "--steps", "1", "-o", "%o/a.ppm", "--trace", "%o/t.safetensors", "--trace-filter",
               "tokens,latents.*,step.0.unet.mid_block*", "--save-steps", "%o", "--residency", "ram"}},
    {"encode", {"encode", "-m", "%i/model", "docs/apple.png", "-W", "64", "-H", "64", "-s", "1", "-t", "1", "-q", "-o",
                "%o/a.safetensors"}},
    {"decode", {"decode", "-m", "%i/model", "%i/latents.safetensors", "-t", "1", "-q", "-o", "%o/a.png"}},
    {"decode from a pickle", {"decode", "-m", "%i/model", "tests/golden/pickle/latents.pt", "-t", "1", "-q", "-o",
                              "%o/a.png"}},
    {"convert", {"convert", "%i/model", "%o/a.gguf", "--type", "q8_0", "--only", "vae", "-q"}},
    {"prompts from files",
     {DRAW, "--prompts", "%i/prompts.txt", "-n", "@%i/lines.txt", "--steps", "1", "-o", "%o/a.png"}},
    {"round trip", {"roundtrip", "-m", "%i/model", "docs/apple.png", "-W", "64", "-H", "64", "-t", "1", "-o",
                    "%o/a.png"}},
    {"tokenize", {"tokenize", "-m", "weights/tiny", "--ids", "--file", "%i/lines.txt"}},
    {"schedule", {"schedule", "-m", "%i/model", "--steps", "5", "--plot", "%o/a.png"}},
    {"plan", {"plan", "-m", "%i/model", "--json"}},
};
enum { MODES = sizeof modes / sizeof *modes, MOST_FILES = 8, OUTPUT = 1 << 16, WORKERS = 2 };

typedef struct file { char name[64]; char *data; size_t n; } file;
typedef struct result {
    int code;              /* 1000 + signal if one ended it */
    char err[OUTPUT];
    file out[MOST_FILES + 1];   /* the files, and what was printed, under the name "" */
    int files;
    long calls;            /* allocations or system calls that could fail */
    char failed[64];       /* which system call did */
    bool several;          /* and all allocations after it */
    bool mute;             /* it was one that writes to the standard error output */
    long live;             /* blocks not freed */
    unsigned *site;        /* where each allocation came from */
    char *tried;           /* from 1 on: 1, that allocation or call is to fail; 2: and another time all that follow
                            * too */
} result;

static const char *program, *library;
static char work[64];

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *data = NULL;
    *n = 0;
    if (!f) return NULL;
    for (size_t got = 1; got; *n += got) {
        data = realloc(data, *n + 65536);
        got = fread(data + *n, 1, 65535, f);
    }
    data[*n] = 0;
    fclose(f);
    return data;
}

/* ------------------------------------------------------------------------------------ one run */

static void expand(char *to, size_t size, const char *arg, const char *out)
{
    const char *at = strchr(arg, '%');
    int before = at ? (int)(at - arg) : 0;
    if (at && at[1] == 'o') snprintf(to, size, "%.*s%s/out%s", before, arg, out, at + 2);
    else if (at && at[1] == 'i') snprintf(to, size, "%.*s%s%s", before, arg, work, at + 2);
    else snprintf(to, size, "%s", arg);
}

static void become(const struct mode *m, const char *dir, bool traced, long at, bool rest)
{
    static char text[28][256];
    char *argv[30] = {(char *)(uintptr_t)program}, path[256], number[32];
    for (int i = 0; i < 28 && m->args[i]; i++) {
        expand(text[i], sizeof text[i], m->args[i], dir);
        argv[i + 1] = text[i];
    }
    static const char *const names[] = {NULL, "stdout", "stderr"};
    for (int fd = 1; fd < 3; fd++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[fd]);
        int to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (to < 0 || dup2(to, fd) < 0) _exit(99);
        close(to);
    }
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    snprintf(number, sizeof number, "%ld", at);
    snprintf(path, sizeof path, "%s/report", dir);
    if (library) {
        setenv("FAIL_AT", number, 1);
        setenv("FAIL_REST", rest ? "1" : "0", 1);
        setenv("FAIL_REPORT", path, 1);
        setenv("LD_PRELOAD", library, 1);
    }
#ifdef WITH_PTRACE
    if (traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(98);
#else
    (void)traced;
#endif
    execv(program, argv);
    _exit(99);
}

#ifdef WITH_PTRACE
/* What may fail, and the argument that is a descriptor; -1: none. */
static const struct call { long number; const char *name; int fd; } calls[] = {
#ifdef SYS_open
    {SYS_open, "open", -1}, {SYS_rename, "rename", -1}, {SYS_unlink, "unlink", -1}, {SYS_mkdir, "mkdir", -1},
    {SYS_access, "access", -1}, {SYS_readlink, "readlink", -1}, {SYS_stat, "stat", -1},
#endif
    {SYS_openat, "openat", -1}, {SYS_read, "read", 0}, {SYS_pread64, "pread", 0}, {SYS_write, "write", 0},
        {SYS_writev, "writev", 0},
    {SYS_close, "close", 0}, {SYS_fstat, "fstat", 0}, {SYS_newfstatat, "newfstatat", -1}, {SYS_lseek, "lseek", 0},
        {SYS_mmap, "mmap", 4},
    {SYS_renameat, "renameat", -1}, {SYS_unlinkat, "unlinkat", -1}, {SYS_mkdirat, "mkdirat", -1},
        {SYS_faccessat, "faccessat", -1},
    {SYS_readlinkat, "readlinkat", -1}, {SYS_fsync, "fsync", 0}, {SYS_ftruncate, "ftruncate", 0},
        {SYS_madvise, "madvise", -1},
    {SYS_getrandom, "getrandom", -1}, {SYS_dup, "dup", 0},
#ifdef SYS_renameat2
    {SYS_renameat2, "renameat2", -1},
#endif
};

typedef struct registers { long number, arg[6]; } registers;

#ifdef __x86_64__
static registers look(pid_t pid)
{
    struct user_regs_struct r;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &r) != 0) return (registers){-1, {0}};
    return (registers){(long)r.orig_rax, {(long)r.rdi, (long)r.rsi, (long)r.rdx, (long)r.r10, (long)r.r8, (long)r.r9}};
}
static void skip(pid_t pid)   /* on the way in: no call of that number */
{
    struct user_regs_struct r;
    ptrace(PTRACE_GETREGS, pid, NULL, &r);
    r.orig_rax = (unsigned long long)-1;
    ptrace(PTRACE_SETREGS, pid, NULL, &r);
}
static void answer(pid_t pid, long value)   /* on the way out */
{
    struct user_regs_struct r;
    ptrace(PTRACE_GETREGS, pid, NULL, &r);
    r.rax = (unsigned long long)value;
    ptrace(PTRACE_SETREGS, pid, NULL, &r);
}
#else
static registers look(pid_t pid)
{
    struct user_regs_struct r;
    struct iovec v = {&r, sizeof r};
    if (ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &v) != 0) return (registers){-1, {0}};
    registers out = {(long)r.regs[8], {0}};
    for (int i = 0; i < 6; i++) out.arg[i] = (long)r.regs[i];
    return out;
}
static void skip(pid_t pid)
{
    int none = -1;
    struct iovec v = {&none, sizeof none};
    ptrace(PTRACE_SETREGSET, pid, (void *)NT_ARM_SYSTEM_CALL, &v);
}
static void answer(pid_t pid, long value)
{
    struct user_regs_struct r;
    struct iovec v = {&r, sizeof r};
    ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &v);
    r.regs[0] = (unsigned long long)value;
    ptrace(PTRACE_SETREGSET, pid, (void *)NT_PRSTATUS, &v);
}
#endif

static const struct call *known(const registers *r)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (calls[i].number != r->number) continue;
        if (r->number == SYS_mmap && (int)r->arg[4] < 0) return NULL;   /* memory, which is the other run's matter */
        return &calls[i];
    }
    return NULL;
}

/* Follows the child to its end. Call `at` fails with EIO, or ENOSPC if it is one that writes. Counting begins with what
 * main does first: it looks whether descriptor 0 is open. */
static int follow(pid_t pid, long at, result *r)
{
    int status = 0;
    bool armed = false, inside = false;
    long error = 0;
    if (waitpid(pid, &status, 0) < 0) die("waitpid");
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (int deliver = 0;;) {
        if (ptrace(PTRACE_SYSCALL, pid, NULL, deliver) != 0 || waitpid(pid, &status, 0) < 0) die("ptrace");
        if (WIFEXITED(status) || WIFSIGNALED(status)) return status;
        deliver = WSTOPSIG(status) == (SIGTRAP | 0x80) || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
        inside = !inside;
        registers now = look(pid);
        if (inside) {
            if (now.number == SYS_fcntl && now.arg[0] == 0 && now.arg[1] == F_GETFD) armed = true;
            const struct call *c = armed ? known(&now) : NULL;
            if (!c || ++r->calls != at) continue;
            int fd = c->fd < 0 ? -1 : (int)now.arg[c->fd];
            r->mute = fd == 2;
            snprintf(r->failed, sizeof r->failed, "%s", c->name);
            error = now.number == SYS_write || now.number == SYS_writev || now.number == SYS_fsync ? -ENOSPC : -EIO;
            skip(pid);
        } else if (error) {
            answer(pid, error);
            error = 0;
        }
    }
}
#else
static int follow(pid_t pid, long at, result *r)
{
    (void)pid, (void)at, (void)r;
    fprintf(stderr, "system calls can be made to fail on Linux with x86-64 or AArch64 alone\n");
    exit(3);
}
#endif

static void collect(result *r, const char *dir)
{
    char path[400];
    size_t n;
    snprintf(path, sizeof path, "%s/stderr", dir);
    char *err = slurp(path, &n);
    snprintf(r->err, sizeof r->err, "%s", err ? err : "");
    free(err);
    snprintf(path, sizeof path, "%s/stdout", dir);
    r->out[0].data = slurp(path, &r->out[0].n);
    r->files = 1;
    snprintf(path, sizeof path, "%s/out", dir);
    DIR *d = opendir(path);
    for (struct dirent *t; d && (t = readdir(d));) {
        if (strcmp(t->d_name, ".") == 0 || strcmp(t->d_name, "..") == 0 || r->files > MOST_FILES) continue;
        file *f = &r->out[r->files++];
        snprintf(f->name, sizeof f->name, "%.60s", t->d_name);
        snprintf(path, sizeof path, "%s/out/%.60s", dir, t->d_name);
        f->data = slurp(path, &f->n);
        remove(path);
    }
    if (d) closedir(d);
}

static void run(const struct mode *m, const char *dir, long at, bool rest, result *r)
{
    char path[400];
    int status = 0;
    memset(r, 0, sizeof *r);
    snprintf(path, sizeof path, "%s/out", dir);
    mkdir(dir, 0755);
    mkdir(path, 0755);
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) become(m, dir, !library, at, rest);
    if (!library) status = follow(pid, at, r);
    else if (waitpid(pid, &status, 0) < 0) die("waitpid");
    r->code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    collect(r, dir);
    if (!library) return;
    size_t n;
    snprintf(path, sizeof path, "%s/report", dir);
    char *report = slurp(path, &n);
    r->live = -1;
    if (report && sscanf(report, "allocations %ld failed %*d live %ld", &r->calls, &r->live) != 2) r->live = -1;
    const char *line = report ? strchr(report, '\n') : NULL;
    r->site = calloc((size_t)r->calls + 1, sizeof *r->site);
    for (long i = 0; i < r->calls && line && r->site; i++, line = strchr(line + 1, '\n'))
        r->site[i] = (unsigned)strtoul(line + 1, NULL, 10);
    free(report);
    remove(path);
}

static void forget(result *r)
{
    for (int i = 0; i < r->files; i++) free(r->out[i].data);
    free(r->site);
    free(r->tried);
}

/* ---------------------------------------------------------------------------------- judgement */

static const file *named(const result *r, const char *name)
{
    for (int i = 0; i < r->files; i++)
        if (strcmp(r->out[i].name, name) == 0) return &r->out[i];
    return NULL;
}

/* NULL: as it should be. */
static const char *fault(const result *r, const result *whole)
{
    static char why[128];
    const char *end = strchr(r->err, '\n');
    if (r->code >= 1000) return "a signal ended it";
    if (r->code < 0 || r->code > 2) return "no exit code of the program's";
    if (r->live > 0) return "memory was not freed";
    if (r->live < 0) return "it ended before its end";
    bool quiet = r->mute && !*r->err;   /* its line could not be written */
    /* more than one thing failed */
    while (r->several && end && strncmp(end, "\nsd: ", 5) == 0) end = strchr(end + 1, '\n');
    if (r->code && !quiet && (strncmp(r->err, "sd: ", 4) != 0 || !end || end[1])) return "not one line on stderr";
    if (r->code && library && !strstr(r->err, "memory")) return "the line does not speak of memory";
    if (r->code == 2 && library) return "running out of memory is no mistake of the user's";
    for (int i = 0; i < r->files; i++) {
        const file *same = named(whole, r->out[i].name);
        /* may end early; names its directory */
        if (i == 0 && (r->code || strstr(r->out[0].data ? r->out[0].data : "", work))) continue;
        if (!same) return snprintf(why, sizeof why, "it leaves %s", r->out[i].name), why;
        if (same->n != r->out[i].n || memcmp(same->data, r->out[i].data, same->n) != 0)
            return snprintf(why, sizeof why, "another %s", *same->name ? same->name : "output"), why;
    }
    if (!r->code && r->files != whole->files) return "success, but a file is not there";
    return NULL;
}

/* Which allocations are tried: of each place in the code the first three and some twelve of the rest; and the first
 * once more with all that follow it. System calls: each. */
enum { FIRST = 3, SOME = 12, MASK = (1 << 16) - 1 };
static long choose(result *whole)
{
    static long all[MASK + 1], before[MASK + 1];   /* by place; two that share a number are tried a little less often */
    long n = 0;
    memset(all, 0, sizeof all);
    memset(before, 0, sizeof before);
    whole->tried = calloc((size_t)whole->calls + 1, 1);
    if (!whole->tried) die("calloc");
    for (long i = 0; library && i < whole->calls; i++) all[whole->site[i] & MASK]++;
    for (long i = 0; i < whole->calls; i++) {
        long *k = library ? &before[whole->site[i] & MASK] : NULL;
        bool yes = !library || *k < FIRST || *k % (all[whole->site[i] & MASK] / SOME + 1) == 0;
        whole->tried[i + 1] = (char)(yes ? k && *k == 0 ? 2 : 1 : 0);
        n += whole->tried[i + 1];
        if (k) ++*k;
    }
    return n;
}

/* The share of one of the workers. Exit code 1 if something was wrong. */
static int worker(int me, const result *whole, int report)
{
    char dir[128];
    long sum[4] = {0};   /* runs that ended with 0, 1, 2; those that were wrong */
    static result r;
    snprintf(dir, sizeof dir, "%s/%d", work, me);
    for (int m = 0; m < MODES; m++)
        for (int rest = 0; rest < (library ? 2 : 1); rest++)
            for (long at = 1 + me; at <= whole[m].calls; at += WORKERS) {
                if (!whole[m].tried[at] || (rest && whole[m].tried[at] < 2)) continue;
                run(&modes[m], dir, at, rest != 0, &r);
                r.several = rest != 0;
                const char *why = fault(&r, &whole[m]);
                if (r.code >= 0 && r.code < 3) sum[r.code]++;
                if (why) {
                    sum[3]++;
                    printf("%s, %s %ld%s of %ld: %s; exit code %d; %s%s", modes[m].name, library ? "allocation"
                           : r.failed, at,
                           rest ? " and all that follow" : "", whole[m].calls, why, r.code, r.err, *r.err ? "" : "\n");
                    fflush(stdout);
                }
                forget(&r);
            }
    return write(report, sum, sizeof sum) != sizeof sum || sum[3] > 0;
}

/* -------------------------------------------------------------------------------------- inputs */

#ifdef SD_WITH_JPEG
static void write_jpeg(const char *path)
{
    enum { SIDE = 24 };
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char row[SIDE * 3], *rows[] = {row};
    FILE *f = fopen(path, "wb");
    if (!f) die(path);
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, f);
    c.image_width = c.image_height = SIDE;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_simple_progression(&c);   /* takes more memory to read */
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE * 3; x++) row[x] = (unsigned char)(x * y * 7);
        jpeg_write_scanlines(&c, rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    fclose(f);
}
#endif

static FILE *create(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", work, name);
    FILE *f = fopen(path, "wb");
    if (!f) die(path);
    return f;
}

/* The model in the box with a short vocabulary. */
static void make_model(void)
{
    static const char *const parts[] = {"text_encoder", "unet", "vae", "scheduler"};
    char path[256], here[2048], from[2200];
    if (!getcwd(here, sizeof here)) die("getcwd");
    snprintf(path, sizeof path, "%s/model", work);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/model/tokenizer", work);
    mkdir(path, 0755);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "%s/model/%s", work, parts[i]);
        snprintf(from, sizeof from, "%s/weights/tiny/%s", here, parts[i]);
        if (symlink(from, path) != 0) die(path);
    }
    FILE *merges = fopen("weights/tiny/tokenizer/merges.txt", "r"), *f = create(path, "model/tokenizer/merges.txt");
    if (!merges) die("merges.txt");
    for (int lines = 0, c; lines < 61 && (c = fgetc(merges)) != EOF; lines += c == '\n') fputc(c, f);
    fclose(merges);
    fclose(f);
    f = create(path, "model/tokenizer/special_tokens_map.json");
    fputs("{\"bos_token\":\"<|startoftext|>\",\"eos_token\":\"<|endoftext|>\",\"pad_token\":\"!\"}", f);
    fclose(f);
}

/* What the modes read: lines, a mask, a picture, latents. */
static void make_inputs(void)
{
    static const struct mode encoding =
        {"", {"encode", "docs/apple.png", "-W", "64", "-H", "64", "-s", "1", "-o", "%i/latents.safetensors"}};
    char path[256];
    FILE *f = create(path, "lines.txt");
    for (int i = 0; i < 5; i++) fprintf(f, "a red apple number %d, %0*d\n", i, 200, i);
    fclose(f);
    f = create(path, "prompts.txt");
    fprintf(f, "a red apple\na house --steps 2\n");
    fclose(f);
    f = create(path, "mask.ppm");
    fprintf(f, "P6\n16 16\n255\n");
    for (int i = 0; i < 16 * 16 * 3; i++) fputc(i < 300 ? 255 : 0, f);
    fclose(f);
#ifdef SD_WITH_JPEG
    fclose(create(path, "picture.jpg"));
    write_jpeg(path);
#else
    f = create(path, "picture.jpg");
    fprintf(f, "P6\n16 16\n255\n");
    for (int i = 0; i < 16 * 16 * 3; i++) fputc(i * 7 & 255, f);
    fclose(f);
#endif
    make_model();
    snprintf(path, sizeof path, "%s/encoded", work);
    pid_t pid = fork();
    int status = 0;
    mkdir(path, 0755);
    library = NULL;
    if (pid == 0) become(&encoding, path, false, 0, false);
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status) die("cannot encode docs/apple.png");
}

/* Each mode once without a failure: what it writes, and how much of it can fail. Again, to see that all runs do the
 * same. */
static long rehearse(result *whole)
{
    char dir[128];
    static result again;
    long sum = 0;
    snprintf(dir, sizeof dir, "%s/whole", work);
    for (int m = 0; m < MODES; m++) {
        run(&modes[m], dir, 0, false, &whole[m]);
        run(&modes[m], dir, 0, false, &again);
        const char *why = fault(&again, &whole[m]);
        if (whole[m].code || why || whole[m].live) {
            printf("%s, nothing fails: exit code %d, %ld blocks not freed: %s%s\n", modes[m].name, whole[m].code,
                   whole[m].live,
                   why ? why : "", whole[m].err);
            exit(1);
        }
        forget(&again);
        sum += whole[m].calls;
        long tried = choose(&whole[m]);
        printf("%s: %ld %s, %ld runs\n", modes[m].name, whole[m].calls, library ? "allocations" : "system calls",
               tried);
    }
    fflush(stdout);
    return sum;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int main(int argc, char **argv)
{
    static result whole[MODES];
    int wrong = 0, status;
    bool alloc = argc > 3 && strcmp(argv[1], "alloc") == 0, io = argc > 2 && strcmp(argv[1], "io") == 0;
    if (!alloc && !io) return fprintf(stderr, "usage: run_faults alloc PROGRAM FAIL_ALLOC.so | io PROGRAM\n"), 3;
    program = argv[2];
    snprintf(work, sizeof work, "/tmp/sd_faults_XXXXXX");
    if (!mkdtemp(work)) die("mkdtemp");
    make_inputs();
    library = alloc ? argv[3] : NULL;
    long sum = rehearse(whole), total[4] = {0}, one[4];
    int report[2];
    if (pipe(report) != 0) die("pipe");
    for (int me = 0; me < WORKERS; me++)
        if (fork() == 0) exit(worker(me, whole, report[1]));
    while (wait(&status) > 0) wrong |= status != 0;
    close(report[1]);
    while (read(report[0], one, sizeof one) == (ssize_t)sizeof one)
        for (int i = 0; i < 4; i++) total[i] += one[i];
    for (int m = 0; m < MODES; m++) forget(&whole[m]);
    nftw(work, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    printf("%ld %s, %ld runs with failures: exit code 0: %ld, 1: %ld, 2: %ld; %ld wrong\n", sum,
           alloc ? "allocations" : "system calls", total[0] + total[1] + total[2], total[0], total[1], total[2],
               total[3]);
    return wrong;
}
