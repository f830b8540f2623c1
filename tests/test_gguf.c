/* test_gguf.c - GGUF files: read as gguf's own reader reads them, refused when hostile, and written as gguf's own
 * writer writes them (tests/golden/types.* and written.gguf, by tools/golden_types.py). */
#include "test.h"
#include "../weights.h"
#include "tempdir.h"

/* ----------------------------------------------------------------------------------- bytes from words */

/* Writes the bytes that the words of a description stand for: w7 and q7 are whole numbers of 4 and 8 bytes, b7 one
 * byte, s:text a text with its length, r:text a text without, z7 so many zeros, a32 zeros up to a multiple of 32. */
static size_t assemble(unsigned char *out, size_t most, const char *words)
{
    size_t n = 0;
    for (const char *at = words; *at; at += *at == ' ') {
        const char *word = at, *text = at + 2;
        at += strcspn(at, " ");
        unsigned long long x = strtoull(word + 1, NULL, 0);
        size_t letters = (size_t)(at - text), whole = *word == 'w' ? 4 : *word == 'q' ? 8 : *word == 'b';
        if (*word == 's') x = letters, whole = 8;
        for (size_t i = 0; i < whole; i++) out[n++] = (unsigned char)(x >> 8 * i);
        if (*word == 's' || *word == 'r') memcpy(out + n, text, letters), n += letters;
        for (size_t i = 0; *word == 'z' && i < x; i++) out[n++] = 0;
        while (*word == 'a' && n % x) out[n++] = 0;
        assert_true(n < most);
    }
    return n;
}

static void make(const char *name, const char *words)
{
    static unsigned char bytes[1 << 16];
    temp_write(name, bytes, assemble(bytes, sizeof bytes, words));
}

/* ---------------------------------------------------------------------------------------------- hostile */

#define HEAD(tensors, pairs) "r:GGUF w3 q" tensors " q" pairs " "
#define F32_4 "w1 q4 w0"   /* a shape of 4 and a type */

static const struct hostile {
    const char *words;
    const char *says, *also;   /* what the sentence must hold; NULL: nothing more */
} hostile[] = {
    /* the head */
    {"r:GGUF", "cut short: the head should have 4 bytes, but only 0 follow", NULL},
    {"r:GGUF w3 q1", "the head should have 8 bytes, but only 0 follow", NULL},
    {"r:GGUF w1 w0 w0 q0", "version 1", "only 2 and 3"},
    {"r:GGUF w4 q0 q0", "version 4", "only 2 and 3"},
    {"r:GGUF w0x03000000 q0 q0", "big-endian", "only little-endian"},
    {HEAD("0x4000000000000000", "0"), "4611686018427387904 tensors", "do not fit the 0 bytes"},
    {HEAD("0", "0xffffffffffffffff"), "18446744073709551615 keys", "do not fit"},
    {HEAD("2", "0") "s:a " F32_4 " q0 z8", "2 tensors", "do not fit the 41 bytes"},
    /* keys and values */
    {HEAD("0", "1") "q0x7fffffffffffffff r:abcdefgh",
     "a key should have 9223372036854775807 bytes, but only 8 follow", NULL},
    {HEAD("0", "1") "q0xffffffffffffffff r:abcdefgh", "a key should have 18446744073709551615 bytes", NULL},
    {HEAD("0", "1") "q2 b0x61 b0 w4 w1", "a key is not UTF-8 or holds a NUL", "\"a\""},
    {HEAD("0", "1") "q2 b0x61 b0xff w4 w1", "a key is not UTF-8", NULL},
    {HEAD("0", "1") "s:k w13 q0", "\"k\": a value of kind 13", NULL},
    {HEAD("0", "1") "s:k w0xffffffff q0", "a value of kind 4294967295", NULL},
    {HEAD("0", "1") "s:k w10 w0", "a value should have 8 bytes, but only 4 follow", NULL},
    {HEAD("0", "1") "s:k w8 q9 r:abc", "a text should have 9 bytes, but only 3 follow", NULL},
    {HEAD("0", "1") "s:k w9 w4 q0x4000000000000000 w1",
     "an array should have 4611686018427387904 values", "only 4 bytes"},
    {HEAD("0", "1") "s:k w9 w8 q0x2000000000000000 q0", "an array should have 2305843009213693952 values", NULL},
    {HEAD("0", "1") "s:k w9 w9 q1 w4 q1 w1", "an array of values of kind 9", NULL},
    {HEAD("0", "1") "s:k w9 w77 q1 w1", "an array of values of kind 77", NULL},
    {HEAD("0", "1") "s:k w9 w8 q2 s:a q8 r:b", "a text should have 8 bytes, but only 1 follow", NULL},
    {HEAD("0", "2") "s:k w4 w1 s:k w4 w2", "the key \"k\" comes twice", NULL},
    {HEAD("0", "1") "s:general.alignment w4 w0", "must be a power of two up to 2^30, found 0", NULL},
    {HEAD("0", "1") "s:general.alignment w4 w48", "must be a power of two", "found 48"},
    {HEAD("0", "1") "s:general.alignment w5 w0xffffffff", "must be a power of two", "found -1"},
    {HEAD("0", "1") "s:general.alignment w10 q0x8000000000000000",
     "must be a power of two", "found 9223372036854775808"},
    {HEAD("0", "1") "s:general.alignment w8 s:big", "must be a power of two", "found big"},
    /* names and shapes */
    {HEAD("1", "0") "q0x4000000000000000 r:a " F32_4 " q0 z40",
     "a tensor's name should have 4611686018427387904", NULL},
    {HEAD("1", "0") "q0 " F32_4 " q0 a32 z16", "must not be empty", NULL},
    {HEAD("1", "0") "q3 r:a b10 r:b " F32_4 " q0 a32 z16", "control characters", NULL},
    {HEAD("2", "0") "s:a " F32_4 " q0 s:a " F32_4 " q32 a32 z64", "\"a\"", "two tensors have this name"},
    {HEAD("1", "0") "s:a w9 q1 q1 q1 q1 q1 q1 q1 q1 q1 w0 q0 z32", "9 dimensions, more than 8", NULL},
    {HEAD("1", "0") "s:a w4294967295 q1 q1 w0 q0 z32", "4294967295 dimensions", NULL},
    {HEAD("1", "0") "s:a w1 q0xffffffffffffffff w0 q0 z32", "\"a\"", "a negative dimension"},
    {HEAD("1", "0") "s:a w1 q0x4000000000000000 w0 q0 z32", "\"a\"", "the product of its shape overflows"},
    {HEAD("1", "0") "s:a w2 q0x100000000 q0x100000000 w0 q0 z32", "\"a\"", "the product of its shape overflows"},
    {HEAD("1", "0") "s:a w2 q0x4000000000000000 q4 w8 q0 z32", "\"a\"", "the product of its shape overflows"},
    {HEAD("1", "0") "s:a w1 q48 w8 q0 a32 z64", "rows of 48 numbers are no whole blocks of Q8_0, which have 32", NULL},
    {HEAD("1", "0") "s:a w2 q32 q8 w14 q0 a32 z400",
     "rows of 32 numbers are no whole blocks of Q6_K, which have 256", NULL},
    {HEAD("1", "0") "s:a w0 w8 q0 a32 z64", "rows of 1 numbers are no whole blocks of Q8_0", NULL},
    /* places */
    {HEAD("1", "0") "s:a " F32_4 " q0x2000000000000000 a32 z16",
     "16 bytes at 2305843009213693952 reach beyond", "16 bytes of data"},
    {HEAD("1", "0") "s:a " F32_4 " q0xffffffffffffffe0 a32 z16", "reach beyond the file's 16 bytes", NULL},
    {HEAD("1", "0") "s:a " F32_4 " q8 a32 z32", "begin at 8, which is no multiple of the alignment, 32", NULL},
    {HEAD("1", "0") "s:a " F32_4 " q0 a32 z15", "16 bytes at 0 reach beyond the file's 15 bytes", NULL},
    {HEAD("1", "0") "s:a " F32_4 " q0", "reach beyond the file's 0 bytes", NULL},
    {HEAD("1", "0") "s:a w2 q768 q75 w0 q0 a32 z219552",
     "230400 bytes at 0 reach beyond the file's 219552 bytes", NULL},
    {HEAD("2", "0") "s:a w1 q9 w0 q0 s:b " F32_4 " q32 a32 z64", "\"b\"", "overlap those of \"a\""},
    {HEAD("2", "0") "s:a " F32_4 " q0 s:b " F32_4 " q0 a32 z64", "overlap", NULL},
    /* original shapes */
    {HEAD("1", "1") "s:comfy.gguf.orig_shape.a w9 w5 q2 w2 w3 s:a " F32_4 " q0 a32 z16",
     "it has 4 numbers, which is not its original shape [2,3]", NULL},
    {HEAD("1", "1") "s:comfy.gguf.orig_shape.a w9 w5 q2 w0xffffffff w0xfffffffc s:a " F32_4 " q0 a32 z16",
     "its original shape should be a list of at most 8 dimensions, found [-1,-4]", NULL},
    {HEAD("1", "1") "s:comfy.gguf.orig_shape.a w9 w11 q2 q0x4000000000000001 q4 s:a " F32_4 " q0 a32 z16",
     "which is not its original shape", NULL},
    {HEAD("1", "1") "s:comfy.gguf.orig_shape.a w4 w4 s:a " F32_4 " q0 a32 z16", "should be a list", "found 4"},
    {HEAD("1", "1") "s:comfy.gguf.orig_shape.a w9 w0 q9 b1 b1 b1 b1 b1 b1 b1 b1 b4 s:a " F32_4 " q0 a32 z16",
     "should be a list of at most 8", NULL},
};

TEST(every_hostile_file_gets_its_own_sentence)
{
    static unsigned char bytes[1 << 18];
    for (size_t i = 0; i < SD_COUNT(hostile); i++) {
        const struct hostile *h = &hostile[i];
        sd_error e = {0};
        sd_weight_file f;
        temp_write("bad.gguf", bytes, assemble(bytes, sizeof bytes, h->words));
        sd_status got = sd_weight_file_open(&f, temp_path("bad.gguf"), &e);
        bool good = (got == SD_ERR_FORMAT || got == SD_ERR_UNSUPPORTED) && strstr(e.text, "bad.gguf") &&
                    strstr(e.text, h->says) && (!h->also || strstr(e.text, h->also));
        if (!good) print_error("%s\n  -> %s: %s\n", h->words, sd_status_name(got), e.text);
        assert_true(good);
        assert_null(f.file.data);
        assert_null(f.entry);
    }
}

/* Cut anywhere, the golden file is refused, but for what is no tensor's: the zeros at its end. */
TEST(a_file_that_is_cut_short_is_refused_wherever_it_ends)
{
    sd_error whole = {0};
    sd_weight_file f;
    size_t n, end = 0;
    if (sd_weight_file_open(&f, "tests/golden/written.gguf", &whole)) fail_msg("%s", whole.text);
    for (size_t i = 0; i < f.n; i++) {
        size_t last = (size_t)((const char *)f.entry[i].data - (const char *)f.file.data) + f.entry[i].bytes;
        if (last > end) end = last;
    }
    n = f.file.size;
    unsigned char *bytes = malloc(n);
    memcpy(bytes, f.file.data, n);
    sd_weight_file_close(&f);
    assert_true(end < n);
    for (size_t k = 0; k <= n; k++) {
        sd_error e = {0};
        temp_write("cut.gguf", bytes, k);
        assert_int_equal(sd_weight_file_open(&f, temp_path("cut.gguf"), &e) == SD_OK, k >= end);
        sd_weight_file_close(&f);
    }
    free(bytes);
}

/* -------------------------------------------------------------------------------------- what gguf reads */

static sd_weight_file file;

static void open_golden(const char *path)
{
    sd_error e = {0};
    if (sd_weight_file_open(&file, path, &e)) fail_msg("%s", e.text);
}

TEST(every_type_widens_to_the_bits_of_gguf)
{
    sd_weight_file want;
    sd_error e = {0};
    float y[512];
    int compared = 0;
    if (sd_weight_file_open(&want, "tests/golden/types.safetensors", &e)) fail_msg("%s", e.text);
    open_golden("tests/golden/types.gguf");
    assert_string_equal(file.format->name, "GGUF");
    for (size_t i = 0; i < want.n; i++) {
        const sd_entry *w = &want.entry[i];
        if (strchr(w->name, '.')) continue;   /* for test_types.c */
        const sd_entry *t = sd_weight_file_find(&file, w->name);
        assert_non_null(t);
        size_t n = w->bytes / sizeof(float);
        assert_true(n <= SD_COUNT(y) && t->nd == w->nd && memcmp(t->dim, w->dim, sizeof t->dim) == 0);
        assert_true(sd_dtype_is_float(t->dt) && sd_dtype_bytes(t->dt, n) == t->bytes);
        sd_widen(y, t->data, t->dt, n, &sd_kern_spec);
        for (size_t k = 0; k < n; k++)
            if (memcmp(&y[k], (const float *)w->data + k, sizeof(float)) != 0)
                fail_msg("%s: number %zu is %a, expected %a", w->name, k, (double)y[k],
                         (double)((const float *)w->data)[k]);
        compared++;
    }
    assert_int_equal(compared, 15);
    sd_weight_file_close(&want);
    sd_weight_file_close(&file);
}

TEST(other_types_are_named_and_whole_numbers_stay_whole)
{
    open_golden("tests/golden/types.gguf");
    const sd_entry *other = sd_weight_file_find(&file, "other"), *whole = sd_weight_file_find(&file, "I32");
    assert_true(other && whole);
    assert_true(other->dt == SD_DTYPE_UNKNOWN && other->bytes == 18 && other->nd == 2 && other->dim[1] == 32);
    assert_string_equal(sd_entry_dtype(other), "IQ4_NL");
    assert_true(whole->dt == SD_I32 && whole->bytes == 16 && ((const int32_t *)whole->data)[3] == 3);
    sd_weight_file_close(&file);
    make("new.gguf", HEAD("1", "0") "s:a w1 q4 w99 q0 a32 z16");
    open_golden(temp_path("new.gguf"));
    assert_string_equal(sd_entry_dtype(&file.entry[0]), "ggml type 99");
    sd_weight_file_close(&file);
}

TEST(values_of_every_kind_become_texts)
{
    static const struct { const char *key, *value; } want[] = {
        {"general.architecture", "sd1"},
        {"kind.uint8", "200"},
        {"kind.int8", "-100"},
        {"kind.uint16", "60000"},
        {"kind.int16", "-30000"},
        {"kind.uint32", "4000000000"},
        {"kind.int32", "-2000000000"},
        {"kind.uint64", "18000000000000000000"},
        {"kind.int64", "-9000000000000000000"},
        {"kind.float32", "0.375"},
        {"kind.float64", "0.1"},
        {"kind.bool", "true"},
        {"kind.string", "a \"cat\",\n\303\274"},
        {"kind.array", "[1,-2,3]"},
        {"kind.texts", "[\"a\",\"b\\n\",\"\303\274\"]"},
        {"kind.long", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,... 40 values]"},
        {"comfy.gguf.orig_shape.flat", "[2,32,2,2]"},
    };
    open_golden("tests/golden/types.gguf");
    assert_int_equal(file.n_meta, SD_COUNT(want));
    for (size_t i = 0; i < SD_COUNT(want); i++) {
        assert_string_equal(file.meta[i].key, want[i].key);
        assert_string_equal(file.meta[i].value, want[i].value);
    }
    sd_weight_file_close(&file);
}

TEST(what_is_unusual_but_right_is_read)
{
    /* version 2; another alignment; gaps; a scalar; no numbers at all; a text that is none; an array of long texts */
    make("odd.gguf", "r:GGUF w2 q4 q4 s:general.alignment w4 w8 s:t w8 q2 b0 b1 s:u w9 w8 q0 s:v w7 b1 "
         "s:scalar w0 w0 q16 s:none w2 q0 q3 w0 q16 s:a " F32_4 " q24 s:h w1 q2 w1 q48 a8 z52");
    open_golden(temp_path("odd.gguf"));
    assert_int_equal(file.n, 4);
    const sd_entry *scalar = sd_weight_file_find(&file, "scalar"), *none = sd_weight_file_find(&file, "none");
    assert_true(scalar->nd == 0 && scalar->bytes == 4 && none->bytes == 0 && none->dim[0] == 3 && none->dim[1] == 0);
    assert_string_equal(sd_weight_file_meta(&file, "t"), "(2 bytes)");
    assert_string_equal(sd_weight_file_meta(&file, "u"), "[]");
    assert_string_equal(sd_weight_file_meta(&file, "v"), "true");
    sd_weight_file_close(&file);
    make("odd.gguf", HEAD("0", "0"));
    open_golden(temp_path("odd.gguf"));
    assert_int_equal(file.n, 0);
    sd_weight_file_close(&file);
}

/* ---------------------------------------------------------------------------------------------- writing */

static const sd_traced small[] = {   /* the numbers of put_eighths */
    {"b.weight", SD_F32, 2, {2, 3}, NULL},   {"a.weight", SD_F16, 1, {3}, NULL},
    {"c.weight", SD_BF16, 2, {2, 32}, NULL}, {"d.weight", SD_Q8_0, 2, {2, 32}, NULL},
    {"e.bias", SD_F32, 1, {1}, NULL},
};
static sd_pair architecture = {(char *)"general.architecture", (char *)"sd1"};

static sd_status put_eighths(void *user, size_t i, FILE *to, UNUSED const char *path, UNUSED sd_error *e)
{
    const sd_traced *t = (const sd_traced *)user + i;
    size_t n = 1;
    float x[64];
    unsigned char y[sizeof x];
    for (int k = 0; k < 64; k++) x[k] = (float)k / 8.0f;
    for (int k = 0; k < t->nd; k++) n *= (size_t)t->dim[k];
    sd_narrow(y, t->dtype, x, n);
    size_t bytes = sd_dtype_bytes(t->dtype, n);
    assert_int_equal(fwrite(y, 1, bytes, to), bytes);
    return SD_OK;
}

static sd_status write_small(sd_file_plan p, const char *name, sd_error *e)
{
    union { const void *in; void *out; } user = {p.tensor};
    p.put = put_eighths;
    p.user = user.out;
    return sd_gguf_write_plan(temp_path(name), &p, e);
}

TEST(a_file_is_written_with_the_bytes_of_gguf)
{
    static const sd_pair meta[] = {
        {(char *)"general.architecture", (char *)"sd1"}, {(char *)"general.quantization_version", (char *)"2"},
        {(char *)"general.alignment", (char *)"64"},   /* of the file that this one was made from */
        {(char *)"a.text", (char *)"a \"cat\",\n\303\274"},
    };
    sd_error e = {0};
    size_t n;
    if (write_small((sd_file_plan){.tensor = small, .n = SD_COUNT(small), .meta = meta, .n_meta = SD_COUNT(meta)},
                    "out.gguf", &e))
        fail_msg("%s", e.text);
    open_golden("tests/golden/written.gguf");
    char *found = temp_read("out.gguf", &n);
    assert_int_equal(n, file.file.size);
    assert_memory_equal(found, file.file.data, n);
    free(found);
    sd_weight_file_close(&file);
}

TEST(what_cannot_be_written_is_named_and_leaves_no_file)
{
    static const struct { sd_traced t; const char *says; } bad[] = {
        {{"a", SD_Q8_0, 2, {2, 48}, NULL}, "rows of \"a\" have 48 numbers, which are no whole blocks of 32 as Q8_0"},
        {{"a", SD_Q8_0, 4, {32, 32, 3, 3}, NULL}, "have 3 numbers"},
        {{"a", SD_F8_E4M3, 1, {4}, NULL}, "GGUF files cannot hold F8_E4M3"},
        {{"a", SD_BOOL, 1, {4}, NULL}, "GGUF files cannot hold BOOL"},
        {{"a", SD_DTYPE_UNKNOWN, 1, {4}, NULL}, "a known dtype"},
        {{"", SD_F32, 1, {4}, NULL}, "needs a name"},
        {{"a\n", SD_F32, 1, {4}, NULL}, "control characters"},
        {{"a\377", SD_F32, 1, {4}, NULL}, "not UTF-8"},
        {{"a", SD_F32, 1, {-4}, NULL}, "out of range"},
        {{"a", SD_F32, 2, {INT64_MAX / 2, 4}, NULL}, "out of range"},
    };
    temp_clear();
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        assert_int_equal(write_small((sd_file_plan){.tensor = &bad[i].t, .n = 1}, "out.gguf", &e), SD_ERR_ARG);
        if (!strstr(e.text, bad[i].says)) fail_msg("%s", e.text);
    }
    sd_error e = {0};
    const sd_traced twice[] = {small[0], small[0]};
    const sd_pair keys[] = {architecture, architecture};
    assert_int_equal(write_small((sd_file_plan){.tensor = twice, .n = 2}, "out.gguf", &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "two tensors are called \"b.weight\""));
    sd_error_clear(&e);
    assert_int_equal(write_small((sd_file_plan){.tensor = small, .n = 1, .meta = keys, .n_meta = 2}, "out.gguf", &e),
                     SD_ERR_ARG);
    assert_non_null(strstr(e.text, "two texts have the key \"general.architecture\""));
    sd_error_clear(&e);
    assert_int_equal(sd_safetensors_write(temp_path("out.safetensors"), &small[3], 1, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "safetensors files cannot hold Q8_0"));
    assert_int_equal(temp_files(), 0);
}

TEST(a_full_disk_leaves_no_half_file)
{
    sd_error e = {0};
    temp_clear();
    temp_disk_limit(300);
    sd_status got = write_small((sd_file_plan){.tensor = small, .n = SD_COUNT(small)}, "out.gguf", &e);
    temp_disk_limit(0);
    assert_int_equal(got, SD_ERR_IO);
    assert_int_equal(temp_files(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hostile_file_gets_its_own_sentence),
        cmocka_unit_test(a_file_that_is_cut_short_is_refused_wherever_it_ends),
        cmocka_unit_test(every_type_widens_to_the_bits_of_gguf),
        cmocka_unit_test(other_types_are_named_and_whole_numbers_stay_whole),
        cmocka_unit_test(values_of_every_kind_become_texts),
        cmocka_unit_test(what_is_unusual_but_right_is_read),
        cmocka_unit_test(a_file_is_written_with_the_bytes_of_gguf),
        cmocka_unit_test(what_cannot_be_written_is_named_and_leaves_no_file),
        cmocka_unit_test(a_full_disk_leaves_no_half_file),
    };
    return cmocka_run_group_tests_name("gguf", tests, temp_make, temp_remove);
}
