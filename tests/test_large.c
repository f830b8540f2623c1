/* test_large.c - files of more than 4 GB: places in them do not fit 32 bits. They are sparse: what only one side has is
 * a hole, and no number of it is read. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "child.h"

#define HOLE ((uint64_t)5 << 30)   /* bytes of the tensor that only REF has */

/* Bytes that are made in memory. */
typedef struct bytes { unsigned char at[2048]; size_t n; } bytes;

static void put(bytes *b, const void *x, size_t n)
{
    assert_true(b->n + n <= sizeof b->at);
    memcpy(b->at + b->n, x, n);
    b->n += n;
}

static void number(bytes *b, uint64_t x, int size)
{
    for (int i = 0; i < size; i++, x >>= 8) put(b, &(unsigned char){(unsigned char)x}, 1);
}

/* Where a file system has no holes, or no room for such a file, nothing can be said. */
static bool write_around_hole(const char *path, const bytes *before, uint64_t hole, const bytes *behind)
{
    FILE *f = fopen(path, "wb");
    bool good = f && fwrite(before->at, 1, before->n, f) == before->n;
    good = good && fseeko(f, (off_t)(before->n + hole), SEEK_SET) == 0;
    good = good && fwrite(behind->at, 1, behind->n, f) == behind->n;
    return f && fclose(f) == 0 && good;
}

static void compare(const char *ref, const char *mine)
{
    RUN("compare", ref, mine);
    if (ran.code != 1 || !strstr(ran.out, "diverges first at conv_out") || !strstr(ran.out, "REF 4, MINE 5") ||
        !strstr(ran.out, "only REF has it (1): conv_in"))
        fail_msg("%s: %.600s", ran.err, ran.out);
}

static const float four[] = {1, 2, 3, 4}, five[] = {1, 2, 3, 5};

static bool safetensors(const char *path, uint64_t hole, const float x[4])
{
    char head[512];
    bytes a = {.n = 0}, b = {.n = 0};
    const unsigned long long h = hole;
    int n = snprintf(head, sizeof head,
                     "{\"conv_out\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[%llu,%llu]}", h, h + 16);
    if (hole) n += snprintf(head + n, sizeof head - (size_t)n,
                            ",\"conv_in\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}", h, h);
    n += snprintf(head + n, sizeof head - (size_t)n, "}");
    n += snprintf(head + n, sizeof head - (size_t)n, "%*s", 8 - n % 8, "");
    number(&a, (uint64_t)n, 8);
    put(&a, head, (size_t)n);
    put(&b, x, 16);
    return write_around_hole(path, &a, hole, &b);
}

/* A .npy file's header of 128 bytes. */
static void npy(bytes *b, const char *type, uint64_t size)
{
    char head[118];
    int n = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%llu,)}", type,
                     (unsigned long long)size);
    put(b, "\x93NUMPY\x01", 7);
    number(b, 0, 1);
    number(b, 118, 2);
    put(b, head, (size_t)n);
    for (; n < 117; n++) put(b, " ", 1);
    put(b, "\n", 1);
}

/* A header of the archive: a file's own, or the directory's with the place of that. Sizes are zip64's. */
static void entry(bytes *b, const char *name, uint64_t size, bool directory, uint64_t at)
{
    const size_t n = strlen(name), extra = directory ? 24 : 16;
    number(b, directory ? 0x02014b50 : 0x04034b50, 4);
    if (directory) number(b, 45, 2);
    number(b, 45, 2);
    number(b, 0, 8);                     /* flags, method, time, date */
    number(b, 0, 4);                     /* CRC: of what is not packed it is not looked at */
    number(b, 0xFFFFFFFF, 4);
    number(b, 0xFFFFFFFF, 4);
    number(b, n, 2);
    number(b, 4 + extra, 2);
    if (directory) number(b, 0, 8);
    if (directory) number(b, 0, 2);
    if (directory) number(b, 0xFFFFFFFF, 4);
    put(b, name, n);
    number(b, 1, 2);
    number(b, extra, 2);
    number(b, size, 8);
    number(b, size, 8);
    if (directory) number(b, at, 8);
}

/* numpy.savez(path, conv_in=, conv_out=) */
static bool npz(const char *path, uint64_t hole, const float x[4])
{
    bytes a = {.n = 0}, b = {.n = 0};
    entry(&a, "conv_in.npy", 128 + hole, false, 0);
    npy(&a, "|u1", hole);
    const uint64_t second = a.n + hole;
    entry(&b, "conv_out.npy", 128 + 16, false, 0);
    npy(&b, "<f4", 4);
    put(&b, x, 16);
    const uint64_t directory = second + b.n, begin = b.n;
    entry(&b, "conv_in.npy", 128 + hole, true, 0);
    entry(&b, "conv_out.npy", 128 + 16, true, second);
    const uint64_t end = second + b.n, length = b.n - begin;
    number(&b, 0x06064b50, 4);
    number(&b, 44, 8);
    number(&b, 45, 2);
    number(&b, 45, 2);
    number(&b, 0, 8);
    number(&b, 2, 8);
    number(&b, 2, 8);
    number(&b, length, 8);
    number(&b, directory, 8);
    number(&b, 0x07064b50, 4);
    number(&b, 0, 4);
    number(&b, end, 8);
    number(&b, 1, 4);
    number(&b, 0x06054b50, 4);
    number(&b, 0, 4);
    number(&b, 0xFFFFFFFF, 4);           /* how many files, on this disk and in all */
    number(&b, 0xFFFFFFFF, 4);
    number(&b, 0xFFFFFFFF, 4);
    number(&b, 0, 2);
    return write_around_hole(path, &a, hole, &b);
}

TEST(tensors_behind_4_gb_are_compared)
{
    char ref[512], mine[512];
    snprintf(ref, sizeof ref, "%s", in_work("large.safetensors"));
    snprintf(mine, sizeof mine, "%s", in_work("small.safetensors"));
    if (!safetensors(ref, HOLE, four)) skip();
    assert_true(safetensors(mine, 0, five));
    compare(ref, mine);
    remove(ref);
}

TEST(archives_of_more_than_4_gb_are_read)
{
    char ref[512], mine[512];
    snprintf(ref, sizeof ref, "%s", in_work("large.npz"));
    snprintf(mine, sizeof mine, "%s", in_work("small.safetensors"));
    if (!npz(ref, HOLE, four)) skip();
    assert_true(safetensors(mine, 0, five));
    compare(ref, mine);
    remove(ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_behind_4_gb_are_compared),
        cmocka_unit_test(archives_of_more_than_4_gb_are_read),
    };
    return cmocka_run_group_tests_name("large", tests, child_setup, child_teardown);
}
