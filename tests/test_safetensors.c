/* test_safetensors.c - a reader that survives hostile files and says what is wrong with them; a writer that is exact
 * to the byte. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../weights.h"
#include "tempdir.h"

/* A file of a header (NULL: nothing at all), a declared header length (-1: the true one) and `data` zero bytes. */
static void make(const char *name, const char *header, long long length, size_t data)
{
    size_t n = header ? strlen(header) : 0, at = 0;
    unsigned char *b = calloc(1, 8 + n + data);
    unsigned long long N = length == -1 ? n : (unsigned long long)length;
    for (; header && at < 8; at++) b[at] = (unsigned char)(N >> 8 * at);
    if (header) memcpy(b + 8, header, n);
    temp_write(name, b, at + n + data);
    free(b);
}

#define T(name, dtype, shape, offsets)                                                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"
static char long_name[700];

static const struct hostile {
    const char *header;
    long long length;
    size_t data;
    sd_status status;
    const char *says, *also;   /* what the sentence must hold; NULL: nothing more */
} hostile[] = {
    /* the frame */
    {NULL, 0, 0, SD_ERR_FORMAT, "only 0 bytes", NULL},
    {NULL, 0, 7, SD_ERR_FORMAT, "only 7 bytes", NULL},
    {"", -1, 0, SD_ERR_FORMAT, "header has 0 bytes", NULL},
    {"{}", 3, 0, SD_ERR_FORMAT, "should have 3 bytes", "only 2 follow"},
    {"{}", 0x7fffffffffffffff, 0, SD_ERR_FORMAT, "should have 9223372036854775807 bytes", NULL},
    {"{}", (long long)0xfffffffffffffff8u, 0, SD_ERR_FORMAT, "cut short", NULL},
    {"{", -1, 0, SD_ERR_FORMAT, "not JSON", NULL},
    {"{\"a\"}", -1, 0, SD_ERR_FORMAT, "not JSON", NULL},
    {"{} x", -1, 0, SD_ERR_FORMAT, "not JSON", NULL},
    {"{}{}", -1, 0, SD_ERR_FORMAT, "not JSON", NULL},
    {"[]", -1, 0, SD_ERR_FORMAT, "expected a JSON object, found a list", NULL},
    {"7", -1, 0, SD_ERR_FORMAT, "expected a JSON object, found a number", NULL},
    {"{}      ", 2, 0, SD_ERR_FORMAT, "last 6 bytes belong to no tensor", NULL},
    /* names */
    {"{" A "," A "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "two tensors have this name"},
    {"{" T("", "F32", "[1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "empty", NULL},
    {"{" T("a\\u0000b", "F32", "[1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "NUL", NULL},
    {"{" T("a\\\\\\u0000b", "F32", "[1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "NUL", NULL},
    {"{" T("a\\nb", "F32", "[1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "control characters", "\"a?b\""},
    /* entries */
    {"{\"a\":7}", -1, 0, SD_ERR_FORMAT, "\"a\"", "not a JSON object"},
    {"{\"a\":[]}", -1, 0, SD_ERR_FORMAT, "\"a\"", "not a JSON object"},
    {"{\"a\":null}", -1, 0, SD_ERR_FORMAT, "\"a\"", "not a JSON object"},
    {"{\"a\":{}}", -1, 0, SD_ERR_FORMAT, "\"a\"", "no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", -1, 4, SD_ERR_FORMAT, "\"a\"", "no shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", -1, 4, SD_ERR_FORMAT, "\"a\"", "no data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", -1, 4, SD_ERR_FORMAT,
     "\"a\"", "two values for dtype"},
    {"{\"a\":{\"dtype\":0,\"shape\":[1],\"data_offsets\":[0,4]}}", -1, 4, SD_ERR_FORMAT, "\"a\"",
     "dtype is not a string"},
    /* shapes */
    {"{" T("a", "F32", "4", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "shape is not a list"},
    {"{" T("a", "F32", "{}", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "shape is not a list"},
    {"{" T("a", "F32", "[-1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a whole number"},
    {"{" T("a", "F32", "[0.5]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a whole number"},
    {"{" T("a", "F32", "[\"1\"]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a whole number"},
    {"{" T("a", "F32", "[null]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a whole number"},
    {"{" T("a", "F32", "[true]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a whole number"},
    {"{" T("a", "F32", "[9007199254740992]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "number below 2^53"},
    {"{" T("a", "F32", "[1e400]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a whole number"},
    {"{" T("a", "F32", "[NaN]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "not JSON", NULL},
    {"{" T("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "overflows"},
    {"{" T("a", "F64", "[4503599627370496,256]", "[0,8]") "}", -1, 8, SD_ERR_FORMAT, "\"a\"", "overflows"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "more than 8 dimensions"},
    /* offsets */
    {"{" T("a", "F32", "[1]", "0") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[0,4,8]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[0,4.5]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[-4,0]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[0,18446744073709551616]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"",
     "not a list of two whole numbers"},
    {"{" T("a", "F32", "[1]", "[4,0]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "end before they begin"},
    {"{" T("a", "F32", "[2]", "[0,8]") "}", -1, 7, SD_ERR_FORMAT, "\"a\"", "beyond the file's 7 bytes"},
    {"{" T("a", "F32", "[1]", "[9007199254740987,9007199254740991]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"",
     "beyond the file"},
    {"{" T("a", "F32", "[2]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "span 4 bytes, but shape and dtype need 8"},
    {"{" T("a", "F32", "[0]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "\"a\"", "span 4 bytes, but shape and dtype need 0"},
    /* tiling */
    {"{" A "," T("b", "F32", "[1]", "[0,4]") "}", -1, 4, SD_ERR_FORMAT, "overlap", NULL},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", -1, 12, SD_ERR_FORMAT, "\"b\"",
     "overlap those of \"a\""},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[0]", "[4,4]") "}", -1, 8, SD_ERR_FORMAT, "\"b\"", "overlap"},
    {"{" T("a", "F32", "[1]", "[4,8]") "}", -1, 8, SD_ERR_FORMAT, "\"a\"",
     "4 bytes before its data belong to no tensor"},
    {"{" A "," T("b", "F32", "[1]", "[8,12]") "}", -1, 12, SD_ERR_FORMAT, "\"b\"", "4 bytes before its data"},
    {"{" A "}", -1, 5, SD_ERR_FORMAT, "last 1 bytes belong to no tensor", NULL},
    {"{}", -1, 1, SD_ERR_FORMAT, "last 1 bytes belong to no tensor", NULL},
};

TEST(every_hostile_file_gets_its_own_sentence)
{
    for (size_t i = 0; i < SD_COUNT(hostile); i++) {
        const struct hostile *h = &hostile[i];
        sd_error e = {0};
        sd_weight_file f;
        make("bad.safetensors", h->header, h->length, h->data);
        sd_status got = sd_weight_file_open(&f, temp_path("bad.safetensors"), &e);
        bool good = got == h->status && strstr(e.text, "bad.safetensors") && strstr(e.text, h->says) &&
                    (!h->also || strstr(e.text, h->also));
        if (!good) print_error("%s\n  -> %s: %s\n", h->header ? h->header : "(no header)", sd_status_name(got), e.text);
        assert_true(good);
        assert_null(f.file.data);
        assert_null(f.entry);
    }
}

TEST(long_names_do_not_push_the_reason_out_of_the_sentence)
{
    char header[2000];
    sd_error e = {0};
    sd_weight_file f;
    memset(long_name, 'n', sizeof long_name - 1);
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", long_name);
    make("bad.safetensors", header, -1, 4);
    assert_int_equal(sd_weight_file_open(&f, temp_path("bad.safetensors"), &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "end before they begin"));
}

TEST(what_is_not_a_file_is_said_to_be_none)
{
    sd_weight_file f;
    sd_error e = {0};
    assert_int_equal(sd_weight_file_open(&f, temp_path("absent.safetensors"), &e), SD_ERR_MISSING);
    assert_non_null(strstr(e.text, "absent.safetensors: No such file"));
    sd_error_clear(&e);
    assert_int_equal(sd_weight_file_open(&f, temp_path(""), &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "found a directory"));
    if (geteuid() != 0) {   /* root may read anything */
        make("locked.safetensors", "{}", -1, 0);
        chmod(temp_path("locked.safetensors"), 0);
        sd_error_clear(&e);
        assert_int_equal(sd_weight_file_open(&f, temp_path("locked.safetensors"), &e), SD_ERR_IO);
        assert_non_null(strstr(e.text, "Permission denied"));
    }
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167540\n";
    temp_write("lfs.safetensors", pointer, sizeof pointer - 1);
    sd_error_clear(&e);
    assert_int_equal(sd_weight_file_open(&f, temp_path("lfs.safetensors"), &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "Git LFS pointer"));
}

TEST(a_header_over_100_MB_is_refused_unread)
{
    sd_weight_file f;
    sd_error e = {0};
    make("big.safetensors", "{}", 100000001, 0);
    assert_int_equal(truncate(temp_path("big.safetensors"), 100000009), 0);   /* a hole: takes no room */
    assert_int_equal(sd_weight_file_open(&f, temp_path("big.safetensors"), &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "100000001 bytes is over the limit"));
    make("big.safetensors", "{}", 100000000, 0);
    assert_int_equal(truncate(temp_path("big.safetensors"), 100000008), 0);
    sd_error_clear(&e);
    assert_int_equal(sd_weight_file_open(&f, temp_path("big.safetensors"), &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "from byte 2 on"));   /* allowed, looked at */
    remove(temp_path("big.safetensors"));
}

TEST(an_open_error_is_kept)
{
    sd_weight_file f;
    sd_error e = {0};
    make("ok.safetensors", "{" A "}", -1, 4);
    sd_fail(&e, SD_ERR_SHAPE, "earlier");
    assert_int_equal(sd_weight_file_open(&f, temp_path("ok.safetensors"), &e), SD_ERR_SHAPE);
    assert_null(f.file.data);
    sd_weight_file_close(&f);
    sd_weight_file_close(&f);
}

TEST(a_dtype_that_we_do_not_have_is_no_fault_of_the_file)
{
    make("eight.safetensors",
         "{" T("a", "F8_E8M0", "[4]", "[0,4]") "," T("b", "F32", "[1]", "[4,8]") "," T("c", "F4", "[2,3]", "[8,11]") ","
         T("d", "a_name_longer_than_most", "[0]", "[11,11]") "," T("e", "f32", "[1]", "[11,15]") "}", -1, 15);
    sd_weight_file f;
    sd_error e = {0};
    if (sd_weight_file_open(&f, temp_path("eight.safetensors"), &e)) fail_msg("%s", e.text);
    const sd_entry *a = sd_weight_file_find(&f, "a"), *b = sd_weight_file_find(&f, "b"),
        *c = sd_weight_file_find(&f, "c");
    assert_true(a && b && c && f.n == 5);
    assert_true(a->dt == SD_DTYPE_UNKNOWN && a->bytes == 4 && c->dt == SD_DTYPE_UNKNOWN && c->bytes == 3
                && b->dt == SD_F32);
    assert_string_equal(sd_entry_dtype(a), "F8_E8M0");
    assert_string_equal(sd_entry_dtype(b), "F32");
    assert_string_equal(sd_entry_dtype(sd_weight_file_find(&f, "d")), "a_name_longer_t");
    sd_weight_file_close(&f);
    /* but its place is looked at as any other's */
    make("eight.safetensors", "{" T("a", "F8_E8M0", "[4]", "[0,4]") "," T("b", "F8_E8M0", "[4]", "[2,6]") "}", -1, 6);
    assert_int_equal(sd_weight_file_open(&f, temp_path("eight.safetensors"), &e), SD_ERR_FORMAT);
    assert_non_null(strstr(e.text, "overlap"));
}

TEST(unusual_but_legal_headers_are_read)
{
    /* leading and trailing space, metadata, keys we do not know, any order, a scalar, tensors of no size, an escaped
     * quote, UTF-8 */
    make("odd.safetensors",
         " {\"__metadata__\":{\"format\":\"pt\"},"
         T("z", "I64", "[2]", "[12,28]") ","
         "\"b\":{\"extra\":[1,{}],\"shape\":[2,3],\"data_offsets\":[0,12],\"dtype\":\"F16\"},"
         T("s", "F64", "[]", "[28,36]") ","
         T("e", "F32", "[3,0,2]", "[12,12]") ","
         T("f", "BOOL", "[0]", "[36,36]") ","
         T("q\\\"\\\\u0000\\u00e9", "U8", "[1,1,1,1,1,1,1,1]", "[36,37]") "}\t\n  ", -1, 37);
    sd_weight_file f;
    sd_error e = {0};
    assert_int_equal(sd_weight_file_open(&f, temp_path("odd.safetensors"), &e), SD_OK);
    assert_int_equal(f.n, 6);
    assert_true(f.file.mapped);
    for (size_t i = 1; i < f.n; i++) assert_true(strcmp(f.entry[i - 1].name, f.entry[i].name) < 0);
    const sd_entry *b = sd_weight_file_find(&f, "b"), *s = sd_weight_file_find(&f, "s"),
                   *t = sd_weight_file_find(&f, "e");
    assert_true(b && s && t && sd_weight_file_find(&f, "z") && sd_weight_file_find(&f, "f") &&
                sd_weight_file_find(&f, "q\"\\u0000\xc3\xa9"));
    assert_int_equal(b->dt, SD_F16);
    assert_int_equal(b->nd, 2);
    assert_int_equal(b->dim[0], 2);
    assert_int_equal(b->dim[1], 3);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(s->nd, 0);
    assert_int_equal(s->bytes, 8);
    assert_int_equal((const char *)s->data - (const char *)b->data, 28);
    assert_int_equal(t->bytes, 0);
    assert_null(sd_weight_file_find(&f, "a"));
    assert_null(sd_weight_file_find(&f, "zz"));
    assert_null(sd_weight_file_find(&f, "__metadata__"));
    sd_weight_file_close(&f);
    make("none.safetensors", "{}", -1, 0);
    assert_int_equal(sd_weight_file_open(&f, temp_path("none.safetensors"), &e), SD_OK);
    assert_int_equal(f.n, 0);
    assert_null(sd_weight_file_find(&f, "a"));
    sd_weight_file_close(&f);
}

/* A pipe has no size and cannot be mapped: `--noise <(...)`. */
TEST(a_pipe_is_read_like_a_file)
{
    const char *fifo = temp_path("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    pid_t child = fork();
    if (child == 0) {
        FILE *to = fopen(fifo, "wb");
        const char header[] = "{" A "}";
        const unsigned char n[8] = {sizeof header - 1};
        if (to)
            fwrite(n, 1, 8, to), fwrite(header, 1, sizeof header - 1, to), fwrite("\0\0\x80?", 1, 4, to), fclose(to);
        _exit(0);
    }
    sd_weight_file f;
    sd_error e = {0};
    assert_int_equal(sd_weight_file_open(&f, fifo, &e), SD_OK);
    assert_false(f.file.mapped);
    float x;
    memcpy(&x, sd_weight_file_find(&f, "a")->data, sizeof x);
    assert_true(x == 1.0f);
    sd_weight_file_close(&f);
    remove(fifo);
}

/* Every prefix of a good file, and every single flipped bit of its header, ends in success or in one sentence (the
 * sanitizer watches). */
TEST(cutting_or_flipping_any_bit_is_survived)
{
    size_t n, bad = 0;
    const float x[3] = {1, 2, 3};
    const sd_traced t[] = {
        {"weight.one", SD_F32, 2, {3, 1}, x}, {"two", SD_F16, 1, {2}, x}, {"three", SD_I64, 1, {1}, x}};
    sd_error e = {0};
    sd_weight_file f;
    assert_int_equal(sd_safetensors_write(temp_path("good.safetensors"), t, 3, &e), SD_OK);
    char *good = temp_read("good.safetensors", &n);
    for (size_t cut = 0; cut < n; cut++) {
        temp_write("bad.safetensors", good, cut);
        sd_error_clear(&e);
        assert_int_not_equal(sd_weight_file_open(&f, temp_path("bad.safetensors"), &e), SD_OK);
        assert_int_not_equal(e.text[0], 0);
    }
    for (size_t bit = 0; bit < 8 * (n - 28); bit++) {
        good[bit / 8] = (char)(good[bit / 8] ^ 1 << bit % 8);
        temp_write("bad.safetensors", good, n);
        sd_error_clear(&e);
        if (sd_weight_file_open(&f, temp_path("bad.safetensors"), &e) == SD_OK) sd_weight_file_close(&f);
        else bad++;
        good[bit / 8] = (char)(good[bit / 8] ^ 1 << bit % 8);
    }
    assert_true(bad > n);   /* most of them break it; a flipped letter of a name does not */
    free(good);
}

/* ------------------------------------------------------------------------------------ writer */

TEST(the_writer_is_exact_to_the_byte)
{
    const uint16_t h[3] = {0x3C00, 0x4000, 0xC200};
    const int64_t i[1] = {-2};
    const float x[2] = {1.5f, -0.25f};
    const sd_traced t[] = {{"h\"\\\xc3\xa9", SD_F16, 1, {3}, h},
                           {"none", SD_F32, 2, {0, 7}, NULL},
                           {"x", SD_F32, 2, {1, 2}, x},
                           {"i", SD_I64, 0, {0}, i}};
    static const char header[] =
        "{\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[8,8]},"
        "\"x\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"
        "\"h\\\"\\\\\xc3\xa9\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[16,22]}}";
    static const unsigned char data[22] = {0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0,    0, 0xC0,
                                           0x3F, 0,    0,    0x80, 0xBE, 0,    0x3C, 0,    0x40, 0, 0xC2};
    sd_error e = {0};
    assert_int_equal(sd_safetensors_write(temp_path("w.safetensors"), t, 4, &e), SD_OK);
    size_t n, len = sizeof header - 1, padded = (len + 7) / 8 * 8;
    char *b = temp_read("w.safetensors", &n);
    assert_int_equal(n, 8 + padded + sizeof data);
    assert_int_equal((unsigned char)b[0] + 256 * (unsigned char)b[1], padded);
    for (int k = 2; k < 8; k++) assert_int_equal(b[k], 0);
    assert_memory_equal(b + 8, header, len);
    for (size_t k = len; k < padded; k++) assert_int_equal(b[8 + k], ' ');
    assert_memory_equal(b + 8 + padded, data, sizeof data);
    free(b);
}

TEST(what_is_written_is_read_back)
{
    float x[24];
    int64_t ids[77];
    for (int i = 0; i < 24; i++) x[i] = (float)i / 7;
    for (int i = 0; i < 77; i++) ids[i] = 49407 - i;
    const sd_traced t[] = {{"half.first", SD_BF16, 1, {3}, x},
                           {"tokens", SD_I64, 2, {1, 77}, ids},
                           {"latents.0", SD_F32, 4, {1, 2, 3, 4}, x}};
    sd_error e = {0};
    sd_weight_file f;
    assert_int_equal(sd_safetensors_write(temp_path("r.safetensors"), t, 3, &e), SD_OK);
    assert_int_equal(sd_weight_file_open(&f, temp_path("r.safetensors"), &e), SD_OK);
    assert_int_equal(f.n, 3);
    for (int i = 0; i < 3; i++) {
        const sd_entry *g = sd_weight_file_find(&f, t[i].name);
        assert_non_null(g);
        assert_int_equal(g->dt, t[i].dtype);
        assert_int_equal(g->nd, t[i].nd);
        for (int k = 0; k < g->nd; k++) assert_int_equal(g->dim[k], t[i].dim[k]);
        assert_memory_equal(g->data, t[i].data, g->bytes);
        assert_int_equal((uintptr_t)g->data % sd_dtype_size(g->dt),
                         0);   /* an odd number of halves before them misaligns none */
    }
    sd_weight_file_close(&f);
    assert_int_equal(sd_safetensors_write(temp_path("empty.safetensors"), NULL, 0, &e), SD_OK);
    assert_int_equal(sd_weight_file_open(&f, temp_path("empty.safetensors"), &e), SD_OK);
    assert_int_equal(f.n, 0);
    sd_weight_file_close(&f);
}

TEST(bad_requests_write_nothing)
{
    const float x[4] = {0};
    const struct { sd_traced t[2]; size_t n; } bad[] = {
        {{{"a", SD_F32, 1, {1}, x}, {"a", SD_F32, 1, {1}, x}}, 2},
        {{{"", SD_F32, 1, {1}, x}}, 1}, {{{NULL, SD_F32, 1, {1}, x}}, 1}, {{{"a", (sd_dtype)77, 1, {1}, x}}, 1},
        {{{"a", SD_F32, 5, {1}, x}}, 1}, {{{"a", SD_F32, -1, {1}, x}}, 1}, {{{"a", SD_F32, 1, {-1}, x}}, 1},
        {{{"a", SD_F32, 2, {INT64_MAX, INT64_MAX}, x}}, 1},
        /* names that the reader refuses */
        {{{"__metadata__", SD_F32, 1, {1}, x}}, 1}, {{{"a\nb", SD_F32, 1, {1}, x}}, 1},
            {{{"\x7f", SD_F32, 1, {1}, x}}, 1},
        {{{"a\xff", SD_F32, 1, {1}, x}}, 1}, {{{"\xc3", SD_F32, 1, {1}, x}}, 1},
            {{{"\xed\xa0\x80", SD_F32, 1, {1}, x}}, 1},
        {{{"a", SD_F32, 1, {1}, NULL}}, 1},
        {{{"a", SD_F32, 1, {(int64_t)1 << 50}, x}, {"b", SD_F32, 1, {((int64_t)1 << 51) - 1}, x}}, 2}};
    temp_clear();
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        assert_int_equal(sd_safetensors_write(temp_path("b.safetensors"), bad[i].t, bad[i].n, &e), SD_ERR_ARG);
        assert_non_null(strstr(e.text, "b.safetensors"));
    }
    assert_int_equal(temp_files(), 0);
}

TEST(a_full_disk_leaves_nothing_and_the_old_file)
{
    float *x = calloc(50000, sizeof *x);
    const sd_traced small = {"a", SD_F32, 1, {1}, x}, large = {"a", SD_F32, 1, {50000}, x};
    sd_error e = {0};
    temp_clear();
    assert_int_equal(sd_safetensors_write(temp_path("d.safetensors"), &small, 1, &e), SD_OK);
    temp_disk_limit(100000);
    sd_status got = sd_safetensors_write(temp_path("d.safetensors"), &large, 1, &e);
    temp_disk_limit(40);   /* not even the header fits: noticed when the buffer is flushed */
    sd_error late = {0};
    sd_status got_late = sd_safetensors_write(temp_path("d.safetensors"), &small, 1, &late);
    temp_disk_limit(0);
    assert_int_equal(got, SD_ERR_IO);
    assert_non_null(strstr(e.text, "d.safetensors: File too large"));
    assert_int_equal(got_late, SD_ERR_IO);
    assert_non_null(strstr(late.text, "d.safetensors: File too large"));
    assert_int_equal(temp_files(), 1);
    sd_weight_file f;
    sd_error_clear(&e);
    assert_int_equal(sd_weight_file_open(&f, temp_path("d.safetensors"), &e), SD_OK);
    assert_int_equal(f.entry[0].dim[0], 1);
    sd_weight_file_close(&f);
    free(x);
    assert_int_equal(sd_safetensors_write(temp_path("d.safetensors/x.safetensors"), &small, 0, &e), SD_ERR_MISSING);
    assert_non_null(strstr(e.text, "Not a directory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hostile_file_gets_its_own_sentence),
        cmocka_unit_test(long_names_do_not_push_the_reason_out_of_the_sentence),
        cmocka_unit_test(what_is_not_a_file_is_said_to_be_none),
        cmocka_unit_test(a_header_over_100_MB_is_refused_unread),
        cmocka_unit_test(an_open_error_is_kept),
        cmocka_unit_test(a_dtype_that_we_do_not_have_is_no_fault_of_the_file),
        cmocka_unit_test(unusual_but_legal_headers_are_read),
        cmocka_unit_test(a_pipe_is_read_like_a_file),
        cmocka_unit_test(cutting_or_flipping_any_bit_is_survived),
        cmocka_unit_test(the_writer_is_exact_to_the_byte),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(bad_requests_write_nothing),
        cmocka_unit_test(a_full_disk_leaves_nothing_and_the_old_file),
    };
    return cmocka_run_group_tests_name("safetensors", tests, temp_make, temp_remove);
}
