/* test_json.c - json.c: JSON is read as Python reads it. What Python says of each text stands beside it. */
#include "test.h"
#include "../json.h"
#include "needs.h"
#include "tempdir.h"

#ifdef SD_WITH_CJSON

static cJSON *read_text(const char *text, size_t n, sd_error *e)
{
    *e = (sd_error){0};
    temp_write("a.json", text, n);
    return sd_json_read(temp_path("a.json"), 1 << 20, e);
}

static double number_of(const cJSON *root, const char *key)
{
    const cJSON *j = cJSON_GetObjectItemCaseSensitive(root, key);
    assert_true(cJSON_IsNumber(j));
    return j->valuedouble;
}

TEST(the_last_of_equal_keys_counts_at_every_depth)
{
    static const char text[] =
        "{\"a\":1,\"b\":{\"c\":1,\"d\":5,\"c\":2,\"c\":3},\"a\":[{\"e\":1,\"e\":9}],\"A\":4,\"f\":0,\"\\u0066\":6}";
    sd_error e = {0};
    cJSON *root = read_text(text, sizeof text - 1, &e);
    if (!root) fail_msg("%s", e.text);
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(root, "b"), *a = cJSON_GetObjectItemCaseSensitive(root, "a");
    assert_int_equal(cJSON_GetArraySize(root), 4);
    assert_int_equal(cJSON_GetArraySize(b), 2);
    assert_true(number_of(b, "c") == 3 && number_of(b, "d") == 5);
    assert_true(cJSON_IsArray(a) && number_of(a->child, "e") == 9);
    assert_true(number_of(root, "A") == 4 && number_of(root, "f") == 6);   /* one key, spelled in two ways */
    cJSON_Delete(root);
    root = sd_json_parse(text, sizeof text - 1, "text", &e);   /* who asks for all gets all */
    assert_non_null(root);
    assert_int_equal(cJSON_GetArraySize(root), 6);
    cJSON_Delete(root);
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
        cJSON *root = read_text(good[i], strlen(good[i]), &e);
        if (!root) fail_msg("%s: %s", good[i], e.text);
        cJSON_Delete(root);
    }
    sd_error e = {0};
    cJSON *root = read_text(good[3], strlen(good[3]), &e);
    assert_true(number_of(root, "a") > 1e308 && number_of(root, "b") < -1e308);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(root, "c")), "Infinity \" Infinity");
    cJSON_Delete(root);
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
        cJSON *root = read_text(bad[i].text, bad[i].n, &e);
        if (root || e.status != SD_ERR_FORMAT || !strstr(e.text, bad[i].says))
            fail_msg("%s: status %d, \"%s\"", bad[i].text, e.status, e.text);
    }
    sd_error e = {0};
    assert_null(read_text("[1]", 3, &e));
    assert_non_null(strstr(e.text, "expected a JSON object, found a list"));
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
        cJSON *root = read_text(t.s, t.n, &e);
        assert_int_equal(root != NULL, n == 255);
        if (!root) assert_non_null(strstr(e.text, "nested too deep"));
        cJSON_Delete(root);
        free(t.s);
    }
}

/* cJSON fails where memory runs out, and that is what is said. */
static int allocations_left;
static void *some_memory(size_t n) { return allocations_left-- > 0 ? malloc(n) : NULL; }

TEST(running_out_of_memory_is_not_called_a_broken_file)
{
    cJSON_Hooks few = {some_memory, free};
    for (int n = 0; n < 6; n++) {
        sd_error e = {0};
        allocations_left = n;
        cJSON_InitHooks(&few);
        cJSON *root = read_text("{\"a\":[1,\"x\"]}", 13, &e);
        cJSON_InitHooks(NULL);
        assert_null(root);
        if (e.status != SD_ERR_MEMORY) fail_msg("%d allocations: %s", n, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_of_equal_keys_counts_at_every_depth),
        cmocka_unit_test(what_python_reads_is_read),
        cmocka_unit_test(what_python_refuses_is_refused_with_the_byte),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(running_out_of_memory_is_not_called_a_broken_file),
    };
    return cmocka_run_group_tests_name("json", tests, temp_make, temp_remove);
}

#else

int main(void) { return skip_group(NEED_JSON, "files_are_read"); }

#endif
