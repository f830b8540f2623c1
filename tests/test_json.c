/* test_json.c - json.c: JSON is read as Python reads it. What Python says of each text stands beside it. */
#include "test.h"
#include "tempdir.h"

#include <limits.h>
#include <locale.h>

/* json.c once more, in the place of the library's, with memory that ends. */
static int allocations_left = INT_MAX;
static bool may_allocate(void) { return allocations_left-- > 0; }
#define malloc(n) (may_allocate() ? malloc(n) : NULL)
#define calloc(n, size) (may_allocate() ? calloc(n, size) : NULL)
#include "../json.c"
#undef malloc
#undef calloc

static sd_json *read_text(const char *text, size_t n, sd_error *e)
{
    *e = (sd_error){0};
    temp_write("a.json", text, n);
    return sd_json_read(temp_path("a.json"), 1 << 20, e);
}

static double number_of(const sd_json *root, const char *key)
{
    const sd_json *j = sd_json_get(root, key);
    assert_true(sd_json_is(j, SD_JSON_NUMBER));
    return j->number;
}

TEST(the_last_of_equal_keys_counts_at_every_depth)
{
    static const char text[] =
        "{\"a\":1,\"b\":{\"c\":1,\"d\":5,\"c\":2,\"c\":3},\"a\":[{\"e\":1,\"e\":9}],\"A\":4,\"f\":0,\"\\u0066\":6}";
    sd_error e = {0};
    sd_json *root = read_text(text, sizeof text - 1, &e);
    if (!root) fail_msg("%s", e.text);
    const sd_json *b = sd_json_get(root, "b"), *a = sd_json_get(root, "a");
    assert_int_equal(sd_json_count(root), 4);
    assert_int_equal(sd_json_count(b), 2);
    assert_true(number_of(b, "c") == 3 && number_of(b, "d") == 5);
    assert_true(sd_json_is(a, SD_JSON_LIST) && number_of(a->first, "e") == 9);
    assert_true(number_of(root, "A") == 4 && number_of(root, "f") == 6);   /* one key, spelled in two ways */
    sd_json_free(root);
    root = sd_json_parse(text, sizeof text - 1, "text", &e);   /* who asks for all gets all */
    assert_non_null(root);
    assert_int_equal(sd_json_count(root), 6);
    sd_json_free(root);
}

/* Many keys are looked up in a hash table. An enemy would choose keys whose FNV-1a ends in the same bits. They are
 * sorted instead, and equal ones are found among them too. */
TEST(equal_keys_are_found_among_many_and_among_colliding_ones)
{
    enum { MANY = 20000 };
    for (int colliding = 0; colliding < 2; colliding++)
        for (int twice = 0; twice < 2; twice++) {
            sd_text t = {0};
            sd_error e = {0};
            unsigned long key = 0;
            sd_text_add(&t, "{");
            for (int i = 0; i < (colliding ? MANY / 40 : MANY); i++, key++) {
                for (;; key++) {
                    char name[24];
                    uint64_t h = 14695981039346656037u;
                    snprintf(name, sizeof name, "%lu", key);
                    for (const char *c = name; *c; c++) h = (h ^ (unsigned char)*c) * 1099511628211u;
                    if (!colliding || h % 1024 == 0) break;
                }
                sd_text_add(&t, "%s\"%lu\":%d", i ? "," : "", key, i);
            }
            sd_text_add(&t, twice ? ",\"%lu\":-7}" : "}", key - 1);
            sd_json *root = read_text(t.s, t.n, &e);
            char last[24];
            snprintf(last, sizeof last, "%lu", key - 1);
            assert_non_null(root);
            assert_int_equal(sd_json_count(root), colliding ? MANY / 40 : MANY);
            assert_true(number_of(root, last) == (twice ? -7 : (colliding ? MANY / 40 : MANY) - 1));
            sd_json_free(root);
            free(t.s);
        }
}

TEST(what_python_reads_is_read)
{
    static const char *const good[] = {
        "{}", " \t\r\n{} \n",
            "{\"a\":-0,\"b\":0.5e+3,\"c\":1E-2,\"d\":[],\"e\":[[],{}],\"f\":null,\"g\":true,\"h\":false}",
        "{\"a\":Infinity,\"b\":-Infinity,\"c\":\"Infinity \\\" Infinity\"}", "{\"\":1}",
            "{\"a\":\"\\u00e4\\ud83d\\ude00\\/\\b\\f\"}",
        "{\"\xc3\xa4\":\"\x7f\xf0\x9f\x98\x80\"}", "{\"a\":1e999}",
    };
    for (size_t i = 0; i < SD_COUNT(good); i++) {
        sd_error e = {0};
        sd_json *root = read_text(good[i], strlen(good[i]), &e);
        if (!root) fail_msg("%s: %s", good[i], e.text);
        sd_json_free(root);
    }
    sd_error e = {0};
    sd_json *root = read_text(good[3], strlen(good[3]), &e);
    assert_true(number_of(root, "a") > 1e308 && number_of(root, "b") < -1e308);
    assert_string_equal(sd_json_text(sd_json_get(root, "c")), "Infinity \" Infinity");
    sd_json_free(root);
}

TEST(what_python_refuses_is_refused_with_the_byte)
{
    static const struct { const char *text; size_t n; const char *says; } bad[] = {
        {"", 0, "byte 0 on: a value is expected"},
        {"{} x", 4, "byte 3 on: there is more after its end"},       /* Extra data: char 3 */
        {"{}{}", 4, "byte 2 on: there is more after its end"},
        {"{}\0", 3, "byte 2 on: there is more after its end"},
        {"{}\f", 3, "byte 2 on: there is more"},
        {"\xef\xbb\xbf{}", 5, "byte 0 on: a value is expected"},     /* Unexpected UTF-8 BOM */
        {"\xff\xfe{}", 4, "byte 0 on"},
        {"{\"a\":01}", 8, "byte 6 on: a comma or the end"},          /* Expecting ',' delimiter: char 6 */
        {"{\"a\":1.}", 8, "byte 7 on: a digit"},
        {"{\"a\":.5}", 8, "byte 5 on: a value"},
        {"{\"a\":+5}", 8, "byte 5 on: a value"},
        {"{\"a\":-}", 7, "byte 6 on: a digit"},
        {"{\"a\":0x1}", 9, "byte 6 on: a comma"},
        {"{\"a\":1e}", 8, "byte 7 on: a digit"},
        {"{\"a\":-Infinit}", 14, "byte 6 on"},
        {"{\"a\":1,}", 8, "byte 7 on: a string is expected"},        /* Expecting property name: char 7 */
        {"{\"a\" 1}", 7, "byte 5 on: a colon"},
        {"{\"a\":[1 2]}", 11, "byte 8 on: a comma"},
        {"{\"a\":[1,]}", 10, "byte 8 on: a value"},
        {"{\"a\":\"\x01\"}", 9, "byte 6 on: a control character"},   /* Invalid control character at: char 6 */
        {"{\"a\":\"\n\"}", 9, "byte 6 on: a control character"},
        {"{\"a\":\"\\x\"}", 10, "byte 7 on: an escape"},
        {"{\"a\":\"\\u00e\"}", 13, "byte 11 on: four hexadecimal digits"},
        {"{\"a\":\"", 6, "byte 6 on: a string has no end"},
        {"{\"a\":tru}", 9, "byte 5 on: a value"},
        {"{\"a\":\"\xc3\"}", 9, "byte 6 on: a byte that is not UTF-8"},
        {"{\"a\":\"\xed\xa0\x80\"}", 11, "byte 6 on: a byte that is not UTF-8"},
        /* Python takes these; no key that we read can have such a value */
        {"{\"a\":NaN}", 9, "byte 5 on: a value"},
        {"{\"a\":\"\\ud800\"}", 14, "half of a surrogate pair"},
        {"{\"a\":\"\\u0000\"}", 14, "a NUL character"},
    };
    for (size_t i = 0; i < SD_COUNT(bad); i++) {
        sd_error e = {0};
        sd_json *root = read_text(bad[i].text, bad[i].n, &e);
        if (root || e.status != SD_ERR_FORMAT || !strstr(e.text, bad[i].says))
            fail_msg("%s: status %d, \"%s\"", bad[i].text, e.status, e.text);
    }
    sd_error e = {0};
    assert_null(read_text("[1]", 3, &e));
    assert_non_null(strstr(e.text, "expected a JSON object, found a list"));
}

/* In hexadecimal: what json.loads makes of each, as float.hex() writes it. */
TEST(numbers_are_those_of_strtod_in_every_locale)
{
    static const struct { const char *text; double value; } cases[] = {
        {"0", 0}, {"-0", 0}, {"1", 1}, {"-12", -12}, {"999999999999999", 999999999999999.0},
        {"-100000000000001", -100000000000001.0}, {"0.1", 0x1.999999999999ap-4}, {"1e-2", 0x1.47ae147ae147bp-7},
        {"123456789012345678", 0x1.b69b4ba630f35p+56}, {"9007199254740993", 0x1p+53},
        {"9007199254740993.0000000000000000000000000000000000000000000000000000000000000000001", 0x1.0000000000001p+53},
        {"4.9406564584124654e-324", 0x1p-1074}, {"2.4703282292062327e-324", 0}, {"2.4703282292062328e-324", 0x1p-1074},
        {"1.7976931348623157e308", 0x1.fffffffffffffp+1023}, {"0.012", 0x1.89374bc6a7efap-7}, {"1E5", 1e5},
        {"1e+05", 1e5}, {"0.00085", 0x1.bda5119ce075fp-11}, {"5e-1", 0.5},
    };
    for (size_t i = 0; i < 2 * SD_COUNT(cases); i++) {
        char text[160];
        sd_error e = {0};
        if (i == SD_COUNT(cases) && !temp_comma_locale()) break;
        int n = snprintf(text, sizeof text, "{\"a\":%s}", cases[i % SD_COUNT(cases)].text);
        sd_json *root = sd_json_parse(text, (size_t)n, "text", &e);
        double want = cases[i % SD_COUNT(cases)].value;
        bool right = root && number_of(root, "a") == want;
        if (right && want == 0) right = !signbit(number_of(root, "a")) == (text[5] != '-');
        sd_json_free(root);
        if (!right) fail_msg("%s in locale %s: %s", text, setlocale(LC_NUMERIC, NULL), e.text);
    }
    setlocale(LC_ALL, "C");
}

TEST(texts_are_decoded)
{
    static const struct { const char *json, *text; } cases[] = {
        {"\"\"", ""}, {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\b\f\n\r\tz"},
        {"\"\\u0041\\u00e4\\u20AC\"", "A\xc3\xa4\xe2\x82\xac"},
        {"\"\\ud83d\\ude00\\udbff\\udfff\"", "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"}, {"\"\xc3\xa4\x7f\"", "\xc3\xa4\x7f"},
        {"\"\\u0001\\uD7FF\\uE000\"", "\x01\xed\x9f\xbf\xee\x80\x80"},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        char text[128];
        sd_error e = {0};
        int n = snprintf(text, sizeof text, "{%s:[%s]}", cases[i].json, cases[i].json);
        sd_json *root = sd_json_parse(text, (size_t)n, "text", &e);
        if (!root) fail_msg("%s: %s", text, e.text);
        assert_string_equal(root->first->key, cases[i].text);
        assert_string_equal(sd_json_text(root->first->first), cases[i].text);
        sd_json_free(root);
    }
}

/* A text is decoded where it stands: what follows it must not be harmed, and a text that is the caller's not at all. */
TEST(texts_that_become_shorter_harm_no_neighbour)
{
    static const char text[] =
        "{\"\\u0061\":\"\\n\",\"b\\u00e4\\\\c\":[\"\",\"\\ud83d\\ude00x\\ty\",1.25,"
        "\"\xc3\xa4\\u0062\"],\"d\":\"\\\"\"}";
    char before[sizeof text];
    sd_error e = {0};
    memcpy(before, text, sizeof text);
    for (int file = 0; file < 2; file++) {
        sd_json *root = file ? read_text(text, sizeof text - 1, &e) : sd_json_parse(text, sizeof text - 1, "text", &e);
        if (!root) fail_msg("%s", e.text);
        char *printed = sd_json_print(root);
        assert_string_equal(printed, "{\"a\":\"\\n\",\"b\xc3\xa4\\\\c\":[\"\",\"\xf0\x9f\x98\x80x\\ty\",1.25,"
                                     "\"\xc3\xa4" "b\"],\"d\":\"\\\"\"}");
        free(printed);
        sd_json_free(root);
    }
    assert_memory_equal(text, before, sizeof text);
}

TEST(what_was_read_is_printed_without_white_space)
{
    static const char text[] =
        " { \"a\" : [ 1 , -2.50 , [ ] , { } ] , \"\\u00e4\\n\" : { \"b\" : null } ,\"c\":true,\"d\":false } ";
    sd_error e = {0};
    sd_json *root = sd_json_parse(text, sizeof text - 1, "text", &e);
    assert_non_null(root);
    char *printed = sd_json_print(root);
    assert_string_equal(printed, "{\"a\":[1,-2.5,[],{}],\"\xc3\xa4\\n\":{\"b\":null},\"c\":true,\"d\":false}");
    free(printed);
    sd_json_free(root);
}

TEST(values_have_a_limit)
{
    for (int more = 0; more < 2; more++) {   /* with the root and the list, 1048576 values, and one more */
        sd_text t = {0};
        sd_error e = {0};
        sd_text_add(&t, "{\"a\":[0");
        for (int i = 1; i < (1 << 20) - 2 + more; i++) sd_text_addn(&t, ",0", 2);
        sd_text_add(&t, "]}");
        sd_json *root = sd_json_parse(t.s, t.n, "text", &e);
        assert_int_equal(root != NULL, !more);
        if (!root) assert_non_null(strstr(e.text, "more than 1048576 values"));
        sd_json_free(root);
        free(t.s);
    }
}

TEST(depth_has_a_limit)
{
    /* lists in the object: 255, 256, 100000 */
    for (int n = 255; n <= 100000; n = n == 255 ? 256 : 100000 + (n == 100000)) {
        sd_text t = {0};
        sd_error e = {0};
        sd_text_add(&t, "{\"a\":");
        for (int i = 0; i < n; i++) sd_text_add(&t, "[");
        for (int i = 0; i < n; i++) sd_text_add(&t, "]");
        sd_text_add(&t, "}");
        sd_json *root = read_text(t.s, t.n, &e);
        assert_int_equal(root != NULL, n == 255);
        if (!root) assert_non_null(strstr(e.text, "nested too deep"));
        sd_json_free(root);
        free(t.s);
    }
}

TEST(running_out_of_memory_is_not_called_a_broken_file)
{
    static const char text[] = "{\"a\":[1.5,\"x\",2.5]}";
    for (int copied = 0; copied < 2; copied++) {
        int n = 0;
        for (;; n++) {
            sd_error e = {0};
            allocations_left = n;
            sd_json *root = copied ? sd_json_load(text, sizeof text - 1, "text", &e)
                                   : read_text(text, sizeof text - 1, &e);
            allocations_left = INT_MAX;
            sd_json_free(root);
            if (root) break;
            if (e.status != SD_ERR_MEMORY) fail_msg("%d allocations: %s", n, e.text);
        }
        assert_int_equal(n, 4 + copied);   /* document, block of values, room for a number, table of keys; the copy */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_of_equal_keys_counts_at_every_depth),
        cmocka_unit_test(equal_keys_are_found_among_many_and_among_colliding_ones),
        cmocka_unit_test(what_python_reads_is_read),
        cmocka_unit_test(what_python_refuses_is_refused_with_the_byte),
        cmocka_unit_test(numbers_are_those_of_strtod_in_every_locale),
        cmocka_unit_test(texts_are_decoded),
        cmocka_unit_test(texts_that_become_shorter_harm_no_neighbour),
        cmocka_unit_test(what_was_read_is_printed_without_white_space),
        cmocka_unit_test(values_have_a_limit),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(running_out_of_memory_is_not_called_a_broken_file),
    };
    return cmocka_run_group_tests_name("json", tests, temp_make, temp_remove);
}

