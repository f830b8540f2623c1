/* test_show_tensors.c - what tensors are like, and their hashes, without all their numbers: --trace-stats,
 * --trace-hash, sd show. */
#define _POSIX_C_SOURCE 200809L
#include <float.h>
#include <math.h>
#include <unistd.h>

#include "test.h"
#include "../sd_tools.h"
#include "../sha256.h"
#include "../trace_table.h"
#include "child.h"
#include "tempdir.h"

static char *read_text(const char *name)
{
    size_t n;
    return temp_read(name, &n);
}

/* What sd_show says of a file in the directory. */
static char *show(const char *file, const sd_show_options *o)
{
    static char *text;
    char error[512];
    if (sd_show(temp_path(file), o, &text, error)) fail_msg("%s", error);
    return text;
}

static sd_show_options options(void)
{
    sd_show_options o;
    sd_show_options_init(&o);
    return o;
}

static void write_tensors(const char *name, const sd_traced *t, size_t n)
{
    sd_error e = {0};
    if (sd_safetensors_write(temp_path(name), t, n, &e)) fail_msg("%s", e.text);
}

static void expect_lines(const char *text, const char *const *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strstr(text, line[i])) fail_msg("\"%s\" is not in:\n%s", line[i], text);
}

/* Values that are known: 1 to 4, twice those, and what is no number. */
static const float plain[] = {1, 2, 3, 4}, odd[] = {NAN, INFINITY, 0, -3, 5, FLT_MIN / 2};
static const int64_t ids[] = {7, 9};
static const sd_traced known[] = {
    {.name = "a", .dtype = SD_F32, .nd = 2, .dim = {2, 2}, .data = plain},
    {.name = "b,\"c\"", .dtype = SD_F32, .nd = 1, .dim = {6}, .data = odd},
    {.name = "tokens", .dtype = SD_I64, .nd = 1, .dim = {2}, .data = ids}};

TEST(a_row_has_mean_deviation_extremes_norm_and_counts)
{
    static const char *const csv[] = {
        "name,dtype,shape,numbers,mean,std,min,max,norm,nan,inf,zero,subnormal\n",
        "\na,F32,2x2,4,2.5,1.118033988749895,1,4,5.477225575051661,0,0,0,0\n",
        "\n\"b,\"\"c\"\"\",F32,6,6,0.5,2.8722813232690143,-3,5,5.830951894845301,1,1,1,1\n",
        "\ntokens,I64,2,2,8,1,7,9,11.40175425099138,0,0,0,0\n"};
    static const char *const lines[] = {"a [2,2]\n", "    2  b,\"c\" [6]\n", "tokens [2] I64\n"};
    static const char *const json[] = {"{\"name\":\"a\",\"dtype\":\"F32\",\"shape\":[2,2],\"numbers\":4,\"mean\":2.5,",
                                       "\"name\":\"b,\\\"c\\\"\"", "\"nan\":1,\"inf\":1,\"zero\":1,\"subnormal\":1}"};
    sd_show_options o = options();
    static const float none[] = {NAN, NAN};
    static const sd_traced no_number = {"odd", SD_F32, 1, {2}, none};
    write_tensors("odd.safetensors", &no_number, 1);
    char *text = show("odd.safetensors", &o);
    assert_non_null(strstr(text, "-            -            -       2  odd [2]\n"));   /* no number has no mean */
    sd_free(text);
    o.csv = 1;
    text = show("odd.safetensors", &o);
    assert_non_null(strstr(text, "\nodd,F32,2,2,nan,nan,nan,nan,nan,2,0,0,0\n"));
    sd_free(text);
    o.csv = 0;
    write_tensors("known.safetensors", known, SD_COUNT(known));
    text = show("known.safetensors", &o);
    expect_lines(text, lines, SD_COUNT(lines));
    sd_free(text);
    o.csv = 1;
    text = show("known.safetensors", &o);
    expect_lines(text, csv, SD_COUNT(csv));
    sd_free(text);
    o.csv = 0;
    o.json = 1;
    text = show("known.safetensors", &o);
    expect_lines(text, json, SD_COUNT(json));
    sd_free(text);
}

/* What a plain loop finds in x[n], where all are finite. */
static void expect_row(const float *x, int n, const char *csv)
{
    double sum = 0, square = 0, low = HUGE_VAL, high = -HUGE_VAL, got[10];
    int zero = 0, subnormal = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)x[i];
        low = fmin(low, (double)x[i]);
        high = fmax(high, (double)x[i]);
        zero += x[i] == 0;
        subnormal += x[i] != 0 && fabsf(x[i]) < FLT_MIN;
    }
    for (int i = 0; i < n; i++) square += pow((double)x[i] - sum / n, 2);
    const char *at = strstr(csv, "\nx,F32,");
    assert_non_null(at);
    char *end = strchr(at + 7, ',');   /* behind the shape */
    for (int i = 0; i < 10; i++) got[i] = strtod(end + 1, &end);
    const double norm = sqrt(square + sum * sum / n);
    const double want[] = {n, sum / n, sqrt(square / n), low, high, norm, 0, 0, zero, subnormal};
    for (int i = 0; i < 10; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-12 * fmax(1, fabs(want[i]))))
            fail_msg("column %d is %.17g, not %.17g", i, got[i], want[i]);
}

/* Long tensors are looked at in vectors, and pieces with NaN are not: both find what a plain loop does. A large mean
 * costs no digits of the deviation. */
TEST(statistics_of_long_tensors_are_those_of_a_plain_loop)
{
    enum { LONG = 200005 };
    static float x[LONG];
    static const float shift[] = {0, 1000};
    sd_show_options o = options();
    o.csv = 1;
    for (size_t k = 0; k < SD_COUNT(shift); k++) {
        uint32_t seed = 1;
        for (int i = 0; i < LONG; i++) {
            seed = seed * 1664525U + 1013904223U;
            x[i] = (float)(seed >> 8) / 16777216.0F - 0.5F + shift[k];
        }
        x[5] = x[70000] = 0;
        x[6] = -FLT_MIN / 4;
        x[131071] = 2000;
        x[131072] = -3000;
        const sd_traced t = {.name = "x", .dtype = SD_F32, .nd = 1, .dim = {LONG}, .data = x};
        write_tensors("x.safetensors", &t, 1);
        char *text = show("x.safetensors", &o);
        expect_row(x, LONG, text);
        sd_free(text);
    }
    x[1030] = NAN;
    x[LONG - 1] = -INFINITY;
    const sd_traced t = {.name = "x", .dtype = SD_F32, .nd = 1, .dim = {LONG}, .data = x};
    write_tensors("x.safetensors", &t, 1);
    char *text = show("x.safetensors", &o);
    assert_non_null(strstr(text, ",-3000,2000,"));
    assert_non_null(strstr(text, ",1,1,2,1\n"));
    sd_free(text);
}

TEST(extremes_are_found_wherever_they_are)
{
    enum { N = 67 };
    float x[N], min, max, least;
    const sd_kern *tables[] = {&sd_kern_spec, sd_kern_select_precise(NULL), sd_kern_select("scalar"),
                               sd_kern_select("sse2"), sd_kern_select("avx2"), sd_kern_select("avx512"),
                               sd_kern_select("neon")};
    for (size_t table = 0; table < SD_COUNT(tables); table++)
        for (size_t n = 1; tables[table] && n <= N; n++)
            for (size_t at = 0; at < n; at++) {
                for (size_t i = 0; i < n; i++) x[i] = i % 2 ? 2 : -2;
                x[at] = 3;
                x[(at + 1) % n] = n > 1 ? -4 : x[0];
                x[(at + 2) % n] = n > 2 ? -0.5F : x[(at + 2) % n];
                tables[table]->extremes(&min, &max, &least, x, n);
                assert_true(max == 3 && min == (n > 1 ? -4 : 3) && least == (n > 2 ? 0.5F : 3));
            }
}

TEST(a_hash_is_that_of_the_numbers_bytes)
{
    char hex[SD_SHA256_HEX], line[128];
    sd_sha256 h;
    sd_show_options o = options();
    o.hash = 1;
    o.filter = "a";
    write_tensors("known.safetensors", known, SD_COUNT(known));
    char *text = show("known.safetensors", &o);
    sd_sha256_init(&h);
    sd_sha256_add(&h, plain, sizeof plain);
    sd_sha256_hex(&h, hex);
    snprintf(line, sizeof line, "%s  a\n", hex);
    assert_string_equal(text, line);
    sd_free(text);
}

TEST(numbers_are_shown_of_the_part_that_is_asked_for)
{
    static const struct { const char *what, *text; } cases[] = {
        {"x[1,0:2,-1]", "x[1,0:2,-1] F32, shape [2]\n[           15,            19]\n"},
        {"x[0,1]", "x[0,1] F32, shape [4]\n[            4,             5,             6,             7]\n"},
        {"x[1,2,3]", "x[1,2,3] F32, shape []\n           23\n"},
        {"x[:,2:,0:1]", "x[:,2:,0:1] F32, shape [2,1,1]\n[[[            8]],\n [[           20]]]\n"}};
    float x[24];
    for (int i = 0; i < 24; i++) x[i] = (float)i;
    const sd_traced t = {.name = "x", .dtype = SD_F32, .nd = 3, .dim = {2, 3, 4}, .data = x};
    write_tensors("x.safetensors", &t, 1);
    sd_show_options o = options();
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        o.tensor = cases[i].what;
        char *text = show("x.safetensors", &o);
        assert_string_equal(text, cases[i].text);
        sd_free(text);
    }
    o.tensor = "x[1,:,2]";
    o.json = 1;
    char *text = show("x.safetensors", &o);
    assert_non_null(strstr(text, "\"shape\":[3],\"numbers\":[14,18,22]}"));
    sd_free(text);
}

TEST(a_part_that_there_is_not_is_an_error)
{
    static const char *const parts[] = {"a[2]", "a[0,0,0]", "a[-3]", "a[1:1]", "a[0:3]", "a[]", "a[0", "a[x]", "a[0]]",
                                        "a[9223372036854775807]", "a[-9223372036854775808:]", "z", "a[:,", "a[0;1]"};
    char error[512], *text;
    sd_show_options o = options();
    write_tensors("known.safetensors", known, SD_COUNT(known));
    for (size_t i = 0; i < SD_COUNT(parts); i++) {
        o.tensor = parts[i];
        sd_status status = sd_show(temp_path("known.safetensors"), &o, &text, error);
        if (!status || !*error) fail_msg("%s: %s", parts[i], text);
        assert_null(text);
    }
    o.tensor = NULL;
    o.filter = "nothing";
    assert_int_equal(sd_show(temp_path("known.safetensors"), &o, &text, error), SD_ERR_ARG);
    assert_non_null(strstr(error, "none of the 3 tensors"));
}

TEST(large_tensors_are_shortened_unless_all_is_asked_for)
{
    float x[1001];
    for (int i = 0; i < 1001; i++) x[i] = 0.1F;
    const sd_traced t = {.name = "x", .dtype = SD_F32, .nd = 1, .dim = {1001}, .data = x};
    write_tensors("x.safetensors", &t, 1);
    sd_show_options o = options();
    o.tensor = "x";
    char *text = show("x.safetensors", &o);
    assert_non_null(strstr(text, "0.100000001,   0.100000001, ...,   0.100000001,"));
    sd_free(text);
    o.all = 1;
    text = show("x.safetensors", &o);
    assert_null(strstr(text, "..."));
    sd_free(text);
}

/* ---- the sinks: what they write of a run is what sd_show says of its trace */

#define RUN_OF_TRACE "--steps", "1", "-s", "3", "-W", "64", "-H", "64", "-q"
#define RUN_OF RUN_OF_TRACE, "-o", out_picture
static char out_picture[512], paths[4][512];

static void set_paths(void)
{
    static const char *const names[] = {"t.safetensors", "t.csv", "t.json", "t.sha256"};
    snprintf(out_picture, sizeof out_picture, "%s", temp_path("a.ppm"));
    for (size_t i = 0; i < SD_COUNT(names); i++) snprintf(paths[i], sizeof paths[i], "%s", temp_path(names[i]));
}

static void expect_same(char *shown, const char *file)
{
    char *written = read_text(file);
    assert_string_equal(shown, written);
    sd_free(shown);
    free(written);
}

TEST(what_is_written_of_a_run_is_what_is_shown_of_its_trace)
{
    sd_show_options o = options();
    set_paths();
    RUN("-p", "a red apple", RUN_OF, "--trace", paths[0], "--trace-stats", paths[1], "--trace-hash", paths[3]);
    assert_int_equal(ran.code, 0);
    o.csv = 1;
    expect_same(show("t.safetensors", &o), "t.csv");
    o.csv = 0;
    o.hash = 1;
    expect_same(show("t.safetensors", &o), "t.sha256");
    RUN("-p", "a red apple", RUN_OF, "--trace-stats", paths[2], "--trace-filter", "latents.*");   /* and no trace */
    assert_int_equal(ran.code, 0);
    o.hash = 0;
    o.json = 1;
    o.filter = "latents.*";
    expect_same(show("t.safetensors", &o), "t.json");
}

TEST(two_runs_have_the_same_hashes_and_another_seed_has_others)
{
    set_paths();
    RUN("-p", "a red apple", RUN_OF, "--trace-hash", paths[3]);
    assert_int_equal(ran.code, 0);
    char *first = read_text("t.sha256");
    RUN("-p", "a red apple", RUN_OF, "--threads", "1", "--trace-hash", paths[3]);
    assert_int_equal(ran.code, 0);
    char *again = read_text("t.sha256");
    assert_string_equal(first, again);
    free(again);
    RUN("-p", "a red apple", RUN_OF, "-s", "4", "--trace-hash", paths[3]);
    assert_int_equal(ran.code, 0);
    again = read_text("t.sha256");
    assert_string_not_equal(first, again);
    free(again);
    free(first);
}

TEST(a_table_is_refused_where_it_cannot_be_written_or_would_be_empty)
{
    set_paths();
    RUN("-p", "a red apple", RUN_OF, "--trace-stats", "/nowhere/t.csv");
    assert_int_not_equal(ran.code, 0);
    RUN("-p", "a red apple", RUN_OF, "--trace-stats", paths[1], "--trace-filter", "latnts.*");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "latents.0"));
    RUN("-p", "a red apple", RUN_OF, "--batch-count", "2", "--trace-hash", paths[3]);
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.err, "--trace-hash is for one run"));
}

TEST(sd_trace_tells_of_a_run_without_its_picture)
{
    int before = access("output.png", F_OK) + access("output.ppm", F_OK);
    set_paths();
    RUN("trace", "-p", "a red apple", RUN_OF_TRACE, "--trace-hash", paths[3], "--stats", "-o", paths[1]);
    assert_int_equal(ran.code, 0);
    RUN("trace", "-p", "a red apple", RUN_OF_TRACE, "-o", paths[0]);
    assert_int_equal(ran.code, 0);
    sd_show_options o = options();
    o.csv = 1;
    expect_same(show("t.safetensors", &o), "t.csv");
    RUN("trace", "-p", "a red apple", RUN_OF_TRACE, "--hash-only");   /* to the standard output, and nothing else is */
    assert_int_equal(ran.code, 0);
    char *written = read_text("t.sha256");
    assert_string_equal(ran.out, written);
    free(written);
    RUN("trace", "-p", "a red apple", RUN_OF_TRACE, "--stats", "--filter", "latents.0");
    assert_non_null(strstr(ran.out, "latents.0 [1,4,"));
    assert_null(strstr(ran.out, "seed"));
    assert_int_equal(access("output.png", F_OK) + access("output.ppm", F_OK), before);   /* no picture */
}

TEST(sd_trace_must_be_told_what_and_where)
{
    set_paths();
    RUN("trace", "-p", "a red apple", RUN_OF_TRACE);
    expect_error("nothing is asked for", 2, "--list, --stats, --hash-only");
    RUN("trace", "-p", "a red apple", "--stats", "--list");
    expect_error("two things", 2, "exclude each other");
    RUN("trace", "-p", "a red apple", "-o", "-");
    expect_error("numbers to the standard output", 2, "a trace goes to a file");
    RUN("trace", "-p", "a red apple", "-o", paths[1]);
    expect_error("numbers into a table", 2, "must end in .safetensors");
    RUN("trace", "-p", "a red apple", "--stats", "-o", paths[1], "--trace-stats", paths[2]);
    expect_error("two places", 2, "give one");
    RUN("trace", "--stats");
    expect_error("no prompt", 2, "there is nothing to draw");
}

TEST(the_program_shows_tensors)
{
    write_tensors("known.safetensors", known, SD_COUNT(known));
    RUN("show", temp_path("known.safetensors"), "--tensor", "a[1]");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "a[1] F32, shape [2]\n"));
    RUN("show", temp_path("known.safetensors"), "--tensor", "a[0,0,0]");
    assert_non_null(strstr(ran.err, "has more indices than the 2 dimensions of a\n"));
    RUN("show", temp_path("known.safetensors"), "--csv", "--hash");
    assert_int_equal(ran.code, 2);
    RUN("show", temp_path("known.safetensors"), "--tensor", "aa");
    assert_non_null(strstr(ran.err, "nearest is a"));
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_row_has_mean_deviation_extremes_norm_and_counts, clear),
        cmocka_unit_test_teardown(statistics_of_long_tensors_are_those_of_a_plain_loop, clear),
        cmocka_unit_test(extremes_are_found_wherever_they_are),
        cmocka_unit_test_teardown(a_hash_is_that_of_the_numbers_bytes, clear),
        cmocka_unit_test_teardown(numbers_are_shown_of_the_part_that_is_asked_for, clear),
        cmocka_unit_test_teardown(a_part_that_there_is_not_is_an_error, clear),
        cmocka_unit_test_teardown(large_tensors_are_shortened_unless_all_is_asked_for, clear),
        cmocka_unit_test_teardown(what_is_written_of_a_run_is_what_is_shown_of_its_trace, clear),
        cmocka_unit_test_teardown(two_runs_have_the_same_hashes_and_another_seed_has_others, clear),
        cmocka_unit_test_teardown(a_table_is_refused_where_it_cannot_be_written_or_would_be_empty, clear),
        cmocka_unit_test_teardown(sd_trace_tells_of_a_run_without_its_picture, clear),
        cmocka_unit_test_teardown(sd_trace_must_be_told_what_and_where, clear),
        cmocka_unit_test_teardown(the_program_shows_tensors, clear),
    };
    return cmocka_run_group_tests_name("show tensors", tests, child_setup, child_teardown);
}
