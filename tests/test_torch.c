/* test_torch.c - files of torch.save that are made by hand: tensors that reach beyond their storages, graphs that never
 * end, archives that promise too much, files that were cut; and strides, when a network takes its weights. */
#include "test.h"
#include "../weights.h"
#include "tempdir.h"

#define GOLDEN "tests/golden/pickle/"

/* ---------------------------------------------------------------------------------- made by hand */

typedef struct bytes { unsigned char *b; size_t n; } bytes;

static void add(bytes *a, const void *data, size_t n)
{
    a->b = realloc(a->b, a->n + n + 1);
    if (n) memcpy(a->b + a->n, data, n);
    a->n += n;
}

static void add_number(bytes *a, uint64_t v, int n)
{
    for (; n > 0; n--, v >>= 8) add(a, &(unsigned char){(unsigned char)v}, 1);
}

/* A file of an archive; `claims`: its size, if it says that it is deflated. */
typedef struct member { const char *name; const void *data; size_t n, claims; } member;

static void add_header(bytes *a, const member *m, bool central, size_t place)
{
    add_number(a, central ? 0x02014b50 : 0x04034b50, 4);
    add_number(a, 20, central ? 4 : 2);
    add_number(a, 0, 2);
    add_number(a, m->claims ? 8 : 0, 2);
    add_number(a, 0, 8);
    add_number(a, m->n, 4);
    add_number(a, m->claims ? m->claims : m->n, 4);
    add_number(a, strlen(m->name), 2);
    add_number(a, 0, 2);
    if (central) add_number(a, 0, 10), add_number(a, place, 4);
    add(a, m->name, strlen(m->name));
}

static void write_zip(const char *name, const member *m, size_t n)
{
    bytes a = {0};
    size_t place[8];
    for (size_t i = 0; i < n; i++) {
        place[i] = a.n;
        add_header(&a, &m[i], false, 0);
        add(&a, m[i].data, m[i].n);
    }
    size_t directory = a.n;
    for (size_t i = 0; i < n; i++) add_header(&a, &m[i], true, place[i]);
    size_t size = a.n - directory;
    add_number(&a, 0x06054b50, 4), add_number(&a, 0, 4), add_number(&a, n, 2), add_number(&a, n, 2);
    add_number(&a, size, 4), add_number(&a, directory, 4), add_number(&a, 0, 2);
    temp_write(name, a.b, a.n);
    free(a.b);
}

#define PICKLE(text) text, sizeof(text) - 1
/* Pickles in protocol 0, which can be read. Storage "0" has the numbers 0, 1, ... 15. */
#define STORAGE_OF(type, key, n) "(Vstorage\nc" type "\nV" key "\nVcpu\nI" n "\ntQ"
#define FLOATS(key, n) STORAGE_OF("torch\nFloatStorage", key, n)
#define STORAGE FLOATS("0", "16")
#define TENSOR_OF(storage, offset, size, stride) \
    "ctorch._utils\n_rebuild_tensor_v2\n(" storage "I" offset "\n(" size "t(" stride "tI00\nNtR"
#define TENSOR(offset, size, stride) TENSOR_OF(STORAGE, offset, size, stride)
#define DICT(key, value) "}V" key "\n" value "s."
#define GOOD TENSOR("0", "I2\nI3\n", "I3\nI1\n")

static sd_status open_pickle(sd_weight_file *f, const char *text, size_t n, sd_error *e)
{
    float numbers[16];
    for (int i = 0; i < 16; i++) numbers[i] = (float)i;
    const member m[] = {{"x/data.pkl", text, n, 0}, {"x/data/0", numbers, sizeof numbers, 0}};
    write_zip("x.pt", m, SD_COUNT(m));
    return sd_weight_file_open(f, temp_path("x.pt"), e);
}

static void check_refused(const char *what, sd_weight_file *f, const sd_error *e, sd_status status, const char *says)
{
    bool good = e->status == status && strstr(e->text, says) && strstr(e->text, "x.pt") && !strchr(e->text, '\n');
    if (!good) print_error("%s -> %s: %s\n", what, sd_status_name(e->status), e->text);
    assert_true(good);
    assert_null(f->entry);
}

static const struct refused { const char *text; size_t n; sd_status status; const char *says; } refused[] = {
    /* shapes and places */
    {PICKLE(DICT("a", TENSOR("0", "I17\n", "I1\n"))), SD_ERR_FORMAT,
     "\"a\": its shape needs numbers 0 to 16 of a storage that has 16"},
    {PICKLE(DICT("a", TENSOR("15", "I2\n", "I1\n"))), SD_ERR_FORMAT, "needs numbers 15 to 16"},
    {PICKLE(DICT("a", TENSOR("16", "I1\n", "I1\n"))), SD_ERR_FORMAT, "needs numbers 16 to 16"},
    {PICKLE(DICT("a", TENSOR("999999999999999999", "I1\n", "I1\n"))), SD_ERR_FORMAT, "999999999999999999"},
    {PICKLE(DICT("a", TENSOR("0", "I2\n", "I16\n"))), SD_ERR_FORMAT, "needs numbers 0 to 16"},
    {PICKLE(DICT("a", TENSOR("0", "I2\n", "I999999999999999999\n"))), SD_ERR_FORMAT, "overflows"},
    {PICKLE(DICT("a", TENSOR("0", "I5\nI5\n", "I1\nI3\n"))), SD_ERR_FORMAT, "needs numbers 0 to 16"},
    {PICKLE(DICT("a", TENSOR("0", "I9999999999\nI9999999999\n", "I1\nI1\n"))), SD_ERR_FORMAT, "overflows"},
    {PICKLE(DICT("a", TENSOR("0", "I4294967296\nI4294967296\n", "I0\nI0\n"))), SD_ERR_FORMAT, "overflows"},
    {PICKLE(DICT("a", TENSOR("0", "I9999999999\n", "I0\n"))), SD_ERR_FORMAT, "repeats its numbers too often"},
    {PICKLE(DICT("a", TENSOR("0", "I-1\n", "I1\n"))), SD_ERR_FORMAT, "\"a\": its shape is not a list"},
    {PICKLE(DICT("a", TENSOR("0", "F1.0\n", "I1\n"))), SD_ERR_FORMAT, "its shape is not a list"},
    {PICKLE(DICT("a", TENSOR("0", "I1\nI1\nI1\nI1\nI1\nI1\nI1\nI1\nI1\n", ""))), SD_ERR_FORMAT,
     "up to 8 whole numbers"},
    {PICKLE(DICT("a", TENSOR("0", "I2\n", "I-1\n"))), SD_ERR_FORMAT, "its strides are no whole numbers"},
    {PICKLE(DICT("a", TENSOR("0", "I2\n", ""))), SD_ERR_FORMAT, "not as many as its dimensions"},
    {PICKLE(DICT("a", TENSOR("-1", "I2\n", "I1\n"))), SD_ERR_FORMAT, "its place in the storage is no whole number"},
    /* storages */
    {PICKLE(DICT("a", TENSOR_OF(FLOATS("9", "1"), "0", "", ""))), SD_ERR_FORMAT,
     "\"a\": its numbers should be in x/data/9, which is not there"},
    {PICKLE(DICT("a", TENSOR_OF(FLOATS("0", "17"), "0", "", ""))), SD_ERR_FORMAT,
     "its storage x/data/0 should have 68 bytes and has 64"},
    {PICKLE(DICT("a", TENSOR_OF(STORAGE_OF("torch\nDoubleStorage", "0", "9"), "0", "", ""))), SD_ERR_FORMAT,
     "should have 72 bytes and has 64"},
    {PICKLE(DICT("a", TENSOR_OF(FLOATS("0", "-1"), "0", "", ""))), SD_ERR_FORMAT, "make no sense"},
    {PICKLE(DICT("a", TENSOR_OF(STORAGE_OF("torch\nfloat32", "0", "1"), "0", "", ""))), SD_ERR_FORMAT, "make no sense"},
    {PICKLE(DICT("a", TENSOR_OF("N", "0", "", ""))), SD_ERR_FORMAT, "its numbers are in no storage"},
    {PICKLE(DICT("a", "ctorch._utils\n_rebuild_tensor_v2\n(tR")), SD_ERR_FORMAT, "its numbers are in no storage"},
    {PICKLE(DICT("a", "ctorch._utils\n_rebuild_tensor_v3\n(" STORAGE "I0\n))I00\nNNtR")), SD_ERR_FORMAT,
     "no type of numbers"},
    {PICKLE(DICT("a", "ctorch._utils\n_rebuild_sparse_tensor\n(NtR")), SD_ERR_UNSUPPORTED,
     "\"a\": it is made by torch._utils._rebuild_sparse_tensor, which is not read"},
    /* names */
    {PICKLE("}X\x03\0\0\0a\0b" GOOD "s."), SD_ERR_FORMAT, "has a NUL"},
    {PICKLE("}X\x03\0\0\0a\nb" GOOD "s."), SD_ERR_FORMAT, "control characters"},
    {PICKLE("}X\x01\0\0\0\xff" GOOD "s."), SD_ERR_FORMAT, "not UTF-8"},
    {PICKLE("}V\n" GOOD "s."), SD_ERR_FORMAT, "must not be empty"},
    {PICKLE("}Va\n" GOOD "sVa\n" GOOD "s."), SD_ERR_FORMAT, "two tensors have this name"},
    /* harm, at its place in data.pkl */
    {PICKLE("}Va\n" GOOD "sVb\ncos\nsystem\n(Vid\ntRs."), SD_ERR_UNSUPPORTED, "names os.system"},
};

TEST(what_a_tensor_cannot_have_is_refused_with_its_name)
{
    for (size_t i = 0; i < SD_COUNT(refused); i++) {
        sd_weight_file f;
        sd_error e = {0};
        open_pickle(&f, refused[i].text, refused[i].n, &e);
        check_refused(refused[i].says, &f, &e, refused[i].status, refused[i].says);
    }
}

TEST(a_storage_that_is_shorter_than_its_tensor_is_refused)
{
    static const char text[] = DICT("*", TENSOR_OF(FLOATS("0", "57600"), "0", "I75\nI768\n",
                                                   "I768\nI1\n"));
    size_t n = 54888 * sizeof(float);
    const member m[] = {{"x/data.pkl", text, sizeof text - 1, 0}, {"x/data/0", calloc(1, n), n, 0}};
    sd_weight_file f;
    sd_error e = {0};
    write_zip("x.pt", m, SD_COUNT(m));
    sd_weight_file_open(&f, temp_path("x.pt"), &e);
    check_refused("75 x 768", &f, &e, SD_ERR_FORMAT,
                  "\"*\": its storage x/data/0 should have 230400 bytes and has 219552");
    free((void *)(uintptr_t)m[1].data);
}

/* ---------------------------------------------------------------------------------------- graphs */

TEST(values_that_contain_themselves_are_walked_once)
{
    static const struct { const char *text; size_t n; } cases[] = {
        {PICKLE("}p0\nVa\n" GOOD "sVb\ng0\ns.")},                                  /* a dictionary in itself */
        {PICKLE("}Va\n" GOOD "sVb\n]p0\ng0\nas.")},                                /* a list in itself */
        {PICKLE("}Va\n" GOOD "sVb\ncargparse\nNamespace\n)\x81p0\n}Vx\ng0\nsbs.")},   /* an object in its own state */
        {PICKLE("}p0\nVb\n}Vc\ng0\nssVa\n" GOOD "s.")},                            /* two in each other */
        {PICKLE("}Vstate_dict\n}p0\nVstate_dict\ng0\nsVa\n" GOOD "ss.")},          /* a wrapper in itself */
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_weight_file f;
        sd_error e = {0};
        if (open_pickle(&f, cases[i].text, cases[i].n, &e)) print_error("%zu: %s\n", i, e.text);
        assert_int_equal(e.status, SD_OK);
        assert_int_equal(f.n, 1);
        assert_string_equal(f.entry[0].name, "a");
        sd_weight_file_close(&f);
    }
}

/* Dictionaries in each other; `twice`: each is in the next under two keys, which makes 2^n ways to the innermost. */
static void chain(bytes *a, int n, bool twice)
{
    char key[40];
    add(a, "}Va\n" GOOD "s", strlen("}Va\n" GOOD "s"));
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "p%d\n0}Vx\ng%d\ns", i, i);
        add(a, key, strlen(key));
        snprintf(key, sizeof key, "Vy\ng%d\ns", i);
        if (twice) add(a, key, strlen(key));
    }
    add(a, ".", 1);
}

TEST(graphs_with_too_many_ways_or_too_deep_are_refused)
{
    for (int twice = 0; twice < 2; twice++) {
        bytes a = {0};
        sd_weight_file f;
        sd_error e = {0};
        chain(&a, twice ? 40 : 200, twice);
        open_pickle(&f, (const char *)a.b, a.n, &e);
        check_refused("a chain", &f, &e, SD_ERR_FORMAT, twice ? "reached in too many ways" : "too deep");
        free(a.b);
    }
}

TEST(numbers_that_are_not_read_are_called_by_their_type)
{
    static const char text[] = DICT("a", TENSOR_OF(STORAGE_OF("torch\nComplexFloatStorage", "0", "8"), "0", "", ""));
    sd_weight_file f;
    sd_error e = {0};
    if (open_pickle(&f, text, sizeof text - 1, &e)) fail_msg("%s", e.text);
    assert_string_equal(sd_entry_dtype(&f.entry[0]), "ComplexFloat");
    sd_weight_file_close(&f);
}

/* `from`, n times `each`, `to`. */
static bytes repeated(const char *from, const char *each, int n, const char *to)
{
    bytes a = {0};
    add(&a, from, strlen(from));
    for (int i = 0; i < n; i++) add(&a, each, strlen(each));
    add(&a, to, strlen(to));
    return a;
}

TEST(many_references_to_a_few_values_are_refused_and_not_followed)
{
    const struct { bytes a; const char *says; } cases[] = {
        /* one tensor, a hundred thousand times: 128 bytes for each of two */
        {repeated("]p0\n0]p1\n0" GOOD "p2\n0g1\n(", "h\2", 100000, "e."), "names the same tensors too often"},
        /* settings: a large dictionary under many keys beside the tensors */
        {repeated("}p0\n0(dp3\n(", "I1\nN", 3000, "u0}Vstate_dict\n}Va\n" GOOD "ss("), NULL},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        bytes a = cases[i].a;
        sd_weight_file f;
        sd_error e = {0};
        if (!cases[i].says) {
            for (int k = 0; k < 3000; k++) add(&a, "Vb\ng3\n", 6);
            add(&a, "u.", 2);
        }
        open_pickle(&f, (const char *)a.b, a.n, &e);
        check_refused("references", &f, &e, SD_ERR_FORMAT, cases[i].says ? cases[i].says : "in too many ways");
        free(a.b);
    }
}

/* -------------------------------------------------------------------------------------- archives */

TEST(archives_that_are_not_of_torch_are_refused_by_what_they_lack)
{
    static const char object[] = DICT("a", GOOD);
    static const struct { member m[3]; size_t n; sd_status status; const char *says; } cases[] = {
        {{{"x/weights", "", 0, 0}}, 1, SD_ERR_FORMAT, "no data.pkl in one folder"},
        {{{"x/y/data.pkl", "", 0, 0}}, 1, SD_ERR_FORMAT, "no data.pkl in one folder"},
        {{{"x/data.pkl", ".", 1, 0}, {"y/data.pkl", ".", 1, 0}}, 2, SD_ERR_FORMAT, "more than one data.pkl"},
        {{{"x/data.pkl", PICKLE(object), 0}, {"x/byteorder", "big", 3, 0}}, 2, SD_ERR_UNSUPPORTED, "big-endian"},
        {{{"x/data.pkl", "", 0, 0}}, 1, SD_ERR_FORMAT, "cut short"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_weight_file f;
        sd_error e = {0};
        write_zip("x.pt", cases[i].m, cases[i].n);
        sd_weight_file_open(&f, temp_path("x.pt"), &e);
        check_refused(cases[i].says, &f, &e, cases[i].status, cases[i].says);
    }
}

TEST(an_archive_that_would_become_far_larger_is_refused_before_it_is_unpacked)
{
    enum { PACKED = 140000 };
    static const char text[] = DICT("a", TENSOR_OF(FLOATS("0", "18000000"), "0", "I18000000\n",
                                                   "I1\n"));
    static unsigned char packed[PACKED];
    const member data[] = {{"x/data.pkl", text, sizeof text - 1, 0}, {"x/data/0", packed, PACKED / 2, 72000000}};
    const member pickle[] = {{"x/data.pkl", packed, PACKED, 130000000}};
    sd_weight_file f;
    sd_error e = {0};
    write_zip("x.pt", data, 2);
    sd_weight_file_open(&f, temp_path("x.pt"), &e);
    check_refused("storages", &f, &e, SD_ERR_FORMAT, "no model compresses so well");
    sd_error_clear(&e);
    write_zip("x.pt", pickle, 1);
    sd_weight_file_open(&f, temp_path("x.pt"), &e);
    check_refused("data.pkl", &f, &e, SD_ERR_FORMAT, "data.pkl would unpack to 130000000 bytes");
}

/* ------------------------------------------------------------------------------------ legacy form */

#define MAGIC "\x80\x02\x8a\x0al\xfc\x9c" "F\xf9 j\xa8P\x19."
#define PREFACE MAGIC "\x80\x02M\xe9\x03." "\x80\x02}Vlittle_endian\nI01\ns."
#define KEYS "\x80\x02](V0\ne."
#define FLOATS_4 "\x04\0\0\0\0\0\0\0" "\0\0\0\0" "\0\0\x80\x3f" "\0\0\0\x40" "\0\0\x40\x40"   /* 0, 1, 2, 3 */
#define OBJECT(n, view) \
    "\x80\x02}Va\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI" n "\n" view \
    "tQI0\n(I2\nt(I1\ntI00\nNtRs."

TEST(a_view_of_a_storage_begins_where_it_says)
{
    static const char text[] = PREFACE OBJECT("4", "(Vv\nI2\nI2\nt") KEYS FLOATS_4;
    sd_weight_file f;
    sd_error e = {0};
    float x[2];
    temp_write("x.pt", text, sizeof text - 1);
    if (sd_weight_file_open(&f, temp_path("x.pt"), &e)) print_error("%s\n", e.text);
    assert_int_equal(e.status, SD_OK);
    assert_int_equal(f.n, 1);
    memcpy(x, f.entry[0].data, sizeof x);
    assert_true(x[0] == 2 && x[1] == 3);
    sd_weight_file_close(&f);
}

TEST(legacy_files_that_lie_are_refused)
{
    static char tar[600] = "pickle";
    memcpy(tar + 257, "ustar", 5);
    static const struct refused cases[] = {
        {PICKLE("\x80\x02}Vaaaaaaaa\nI1\ns."), SD_ERR_UNSUPPORTED, "a pickle, but not one of torch.save"},
        {PICKLE("\x80\x02" "cos\nsystem\n(Vid\ntR."), SD_ERR_UNSUPPORTED, "byte 2 of the pickle names os.system"},
        {PICKLE(MAGIC), SD_ERR_FORMAT, "cut short"},
        {PICKLE(MAGIC "\x80\x02M\xe8\x03."), SD_ERR_UNSUPPORTED, "version 1000"},
        {PICKLE(MAGIC "\x80\x02M\xe9\x03." "\x80\x02}Vlittle_endian\nI00\ns."), SD_ERR_UNSUPPORTED, "big-endian"},
        {PICKLE(PREFACE), SD_ERR_FORMAT, "cut short"},
        {PICKLE(PREFACE OBJECT("4", "")), SD_ERR_FORMAT, "cut short"},
        {PICKLE(PREFACE OBJECT("4", "") KEYS), SD_ERR_FORMAT, "storage 0 should have 4 numbers of 4 bytes"},
        {PICKLE(PREFACE OBJECT("5", "") KEYS FLOATS_4), SD_ERR_FORMAT, "storage 0 should have 5 numbers of 4 bytes"},
        {PICKLE(PREFACE OBJECT("4", "") "\x80\x02](V1\ne." FLOATS_4), SD_ERR_FORMAT, "names one that is in no tensor"},
        {PICKLE(PREFACE OBJECT("4", "") "\x80\x02](V0\nV0\ne." FLOATS_4 FLOATS_4), SD_ERR_FORMAT, "or one twice"},
        {PICKLE(PREFACE OBJECT("4", "") "\x80\x02]." FLOATS_4), SD_ERR_FORMAT, "not in the file's list"},
        {PICKLE(PREFACE OBJECT("4", "") "\x80\x02K\x01." FLOATS_4), SD_ERR_FORMAT, "no list of storages"},
        {PICKLE(PREFACE OBJECT("4", "(Vv\nI3\nI2\nt") KEYS FLOATS_4), SD_ERR_FORMAT, "view reaches beyond"},
        {PICKLE(PREFACE OBJECT("4", "(Vv\nI5\nI0\nt") KEYS FLOATS_4), SD_ERR_FORMAT, "view reaches beyond"},
        {PICKLE(PREFACE OBJECT("4", "(Vv\nI-1\nI2\nt") KEYS FLOATS_4), SD_ERR_FORMAT, "view reaches beyond"},
        {tar, sizeof tar, SD_ERR_UNSUPPORTED, "tar archive"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_weight_file f;
        sd_error e = {0};
        temp_write("x.pt", cases[i].text, cases[i].n);
        sd_weight_file_open(&f, temp_path("x.pt"), &e);
        check_refused(cases[i].says, &f, &e, cases[i].status, cases[i].says);
    }
}

TEST(files_that_are_cut_or_have_another_byte_do_no_harm)
{
    static const char *const names[] = {"protocol4.pt", "legacy4.pt", "deflated.pt", "embedding_dict.pt"};
    for (size_t i = 0; i < SD_COUNT(names); i++) {
        char *data, path[200];
        size_t n;
        sd_weight_file f;
        sd_error e = {0};
        snprintf(path, sizeof path, GOLDEN "%s", names[i]);
        assert_int_equal(sd_read_file(path, 1 << 20, &data, &n, &e), SD_OK);
        for (size_t k = 0; k < n; k += 3) {
            temp_write("x.pt", data, k);
            sd_error_clear(&e);
            assert_int_not_equal(sd_weight_file_load(&f, temp_path("x.pt"), &e), SD_OK);
            data[k] = (char)(data[k] ^ 0x41);
            temp_write("x.pt", data, n);
            data[k] = (char)(data[k] ^ 0x41);
            sd_error_clear(&e);
            if (sd_weight_file_load(&f, temp_path("x.pt"), &e)) assert_true(*e.text && !strchr(e.text, '\n'));
            sd_weight_file_close(&f);
        }
        free(data);
    }
}

/* ---------------------------------------------------------------------------------------- binding */

typedef struct weights {
    sd_tensor transposed, channels_last, expanded, every_other, column, ones, plain, turned, lower;
} weights;

#define FIELD(x) offsetof(weights, x)
static const sd_bind_row rows[] = {
    {FIELD(transposed), "transposed", NULL, "ab", 0}, {FIELD(channels_last), "channels_last", NULL, "cb22", 0},
    {FIELD(expanded), "expanded", NULL, "ab", 0}, {FIELD(every_other), "every_other", NULL, "cb", 0},
    {FIELD(column), "column", NULL, "a", 0}, {FIELD(ones), "ones_aside", NULL, "b", 0},
    {FIELD(plain), "plain", NULL, "ba", 0},
};
/* Under other names, as a network of the other convention would take them. */
static const sd_bind_row twisted[] = {
    {FIELD(turned), "absent.turned", "transposed", "ba", SD_BIND_TRANSPOSE},
    {FIELD(lower), "absent.lower", "transposed", "cb", SD_BIND_SLICE(1, 2)},
};

static void check_bound(const sd_tensor *got, const char *name, const float *want)
{
    int64_t n = sd_numel(got);
    assert_int_equal(got->dt, SD_F32);
    for (int64_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, (const char *)got->data + (size_t)i * sizeof x, sizeof x);
        if (x != want[i])
            print_error("%s: number %lld is %g, not %g\n", name, (long long)i, (double)x, (double)want[i]);
        assert_true(x == want[i]);
    }
}

static const float *expected(const sd_weight_file *f, const char *name)
{
    char whole[100];
    snprintf(whole, sizeof whole, "lightning.ckpt/%s", name);
    return sd_weight_file_find(f, whole)->data;
}

TEST(a_network_gets_its_weights_in_order_whatever_their_strides)
{
    static const char letters[] = "abc";
    static const int64_t values[] = {4, 3, 2};
    weights w;
    sd_store s;
    sd_weight_file f;
    sd_error e = {0};
    sd_binder b = {.err = &e, .store = &s};
    memset(&w, 0, sizeof w);
    assert_int_equal(sd_weight_file_open(&f, GOLDEN "expected.safetensors", &e), SD_OK);
    assert_int_equal(sd_store_open_file(&s, GOLDEN "lightning.ckpt", &e), SD_OK);
    sd_bind(&b, &w, rows, SD_COUNT(rows), "", NULL, letters, values);
    sd_bind(&b, &w, twisted, SD_COUNT(twisted), "", "", letters, values);
    if (sd_bind_finish(&b, "the test", NULL)) print_error("%s\n", e.text);
    assert_int_equal(e.status, SD_OK);
    for (size_t i = 0; i < SD_COUNT(rows); i++)
        check_bound((const sd_tensor *)((const char *)&w + rows[i].field), rows[i].hf, expected(&f, rows[i].hf));
    check_bound(&w.turned, "turned", expected(&f, "plain"));   /* the transpose of the transpose */
    check_bound(&w.lower, "lower", expected(&f, "transposed") + 2 * 3);
    sd_binder_free(&b);
    sd_store_close(&s);
    sd_weight_file_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_tensor_cannot_have_is_refused_with_its_name),
        cmocka_unit_test(a_storage_that_is_shorter_than_its_tensor_is_refused),
        cmocka_unit_test(values_that_contain_themselves_are_walked_once),
        cmocka_unit_test(graphs_with_too_many_ways_or_too_deep_are_refused),
        cmocka_unit_test(numbers_that_are_not_read_are_called_by_their_type),
        cmocka_unit_test(many_references_to_a_few_values_are_refused_and_not_followed),
        cmocka_unit_test(archives_that_are_not_of_torch_are_refused_by_what_they_lack),
        cmocka_unit_test(an_archive_that_would_become_far_larger_is_refused_before_it_is_unpacked),
        cmocka_unit_test(a_view_of_a_storage_begins_where_it_says),
        cmocka_unit_test(legacy_files_that_lie_are_refused),
        cmocka_unit_test(files_that_are_cut_or_have_another_byte_do_no_harm),
        cmocka_unit_test(a_network_gets_its_weights_in_order_whatever_their_strides),
    };
    return cmocka_run_group_tests(tests, temp_make, temp_remove);
}
