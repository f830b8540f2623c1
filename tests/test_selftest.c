/* test_selftest.c - sd selftest: it passes here; it fails where a kernel, a table of numbers, a tokenizer or a
 * configuration is wrong, and where bits depend on threads; it leaves nothing behind. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../json.h"
#include "../selftest.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#define DATA "share/selftest"

/* ------------------------------------------------------------------------------------- running it */

static sd_error error;
static sd_selftest_run now;

/* The checks of these names with one table of kernels. */
static void check(const sd_kern *kern, const char *only, const char *data)
{
    static char scratch[512];
    free(now.row);
    error = (sd_error){0};
    snprintf(scratch, sizeof scratch, "%s", temp_path("scratch"));
    mkdir(scratch, 0777);
    now = (sd_selftest_run){.data = data, .scratch = scratch, .merges = "weights/merges.txt", .only = only,
                            .threads = 2, .table = {{kern, "twin"}}, .tables = 1, .e = &error};
    if (sd_selftest_check(&now)) fail_msg("%s", error.text);
    assert_int_equal(rmdir(scratch), 0);   /* nothing was left */
}

static const sd_check_row *row_of(const char *group, const char *what)
{
    for (size_t i = 0; i < now.n; i++)
        if (strcmp(now.row[i].group, group) == 0 && strcmp(now.row[i].what, what) == 0) return &now.row[i];
    fail_msg("%s %s was not checked", group, what);
    return NULL;
}

static void expect_failure(const char *group, const char *what, const char *why)
{
    const sd_check_row *r = row_of(group, what);
    if (!sd_check_failed(r)) fail_msg("%s %s passed, its worst is %g", group, what, r->worst);
    if (!strstr(r->why, why)) fail_msg("%s %s: expected \"%s\" in \"%s\"", group, what, why, r->why);
}

static void expect_pass(const char *group, const char *what)
{
    const sd_check_row *r = row_of(group, what);
    if (sd_check_failed(r)) fail_msg("%s %s failed: %s", group, what, r->why);
    assert_true(r->cases > 0);
}

TEST(everything_passes_here_with_every_instruction_set)
{
    char *text, why[512];
    int failed;
    sd_selftest_options o;
    sd_selftest_options_init(&o);
    o.device = "cpu";
    o.json = 1;
    if (sd_selftest(&o, &text, &failed, why)) fail_msg("%s", why);
    sd_error e = {0};
    sd_json *root = sd_json_parse(text, strlen(text), "the report", &e);
    assert_non_null(root);
    const sd_json *rows = sd_json_get(root, "rows");
    int tables = 1, checked = 0, of_networks = 0;
    static const char *const names[] = {"avx512", "avx2", "sse2", "neon", "scalar"};
    for (size_t i = 0; i < SD_COUNT(names); i++) tables += sd_kern_select(names[i]) != NULL;
    for (const sd_json *r = rows->first; r; r = r->next) {
        bool network = strcmp(sd_json_get(r, "group")->text, "networks") == 0;
        if (!sd_json_is(sd_json_get(r, "passed"), SD_JSON_TRUE))
            fail_msg("%s: %s", sd_json_get(r, "what")->text, sd_json_get(r, "why")->text);
        assert_true(sd_json_get(r, "comparisons")->number > 0);
        if (network) assert_true(sd_json_get(r, "worst")->number < 0.9);
        checked++;
        of_networks += network;
    }
    assert_int_equal(failed, 0);
    assert_int_equal(of_networks, 25 * tables);   /* cases of tools/golden_selftest.py */
    assert_true(checked >= of_networks + 2 * tables + 6 + 2 + 37 + 4);
    sd_json_free(root);
    sd_free(text);
}

/* -------------------------------------------------------------------------------------- wrong kernels */

static const sd_kern *right;   /* what a wrong one is made from */

static void inexact_silu(float *y, const float *x, size_t n)
{
    right->silu(y, x, n);
    for (size_t i = 0; i < n; i++) y[i] *= 1.0001f;
}

static void tanh_gelu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        y[i] = (float)(v / 2 * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))));
    }
}

static void tanh_geglu(float *y, const float *value, const float *gate, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g;
        tanh_gelu(&g, &gate[i], 1);
        y[i] = value[i] * g;
    }
}

static void quick_for_gelu(float *y, const float *x, size_t n) { right->gelu(y, x, n); }

static void norm_without_bias(float *y, const float *x, double mean, double rstd, const float *g, const float *b,
                              size_t n)
{
    float none[4096] = {0};
    (void)b;
    assert_true(n <= SD_COUNT(none));
    right->norm_affine(y, x, mean, rstd, g, none, n);
}

static void affine_forgets_silu(float *y, const float *x, const float *m, const float *a, const float *b, size_t n,
                                bool silu)
{
    (void)silu;
    right->affine(y, x, m, a, b, n, false);
}

static void gemm_without_bias(void *scratch, size_t M, size_t N, size_t K, const float *A, size_t lda, const void *B,
                              size_t ldb, bool b_trans, sdk_widen *widen, float *C, size_t ldc, const float *bias)
{
    (void)bias;
    right->gemm(scratch, M, N, K, A, lda, B, ldb, b_trans, widen, C, ldc, NULL);
}

static void add_loses_the_last(float *y, const float *a, const float *b, size_t n)
{
    memmove(y, a, n * sizeof *y);
    right->add(y, y, b, n ? n - 1 : 0);
}

TEST(each_wrong_kernel_is_found_by_itself_and_in_a_network)
{
    right = sd_kern_select("scalar");
    const struct { const char *name, *kernels, *why, *network; sd_kern k; } twins[] = {
#define TWIN(row, why, network, field, function) {#function, row, why, network, (sd_kern){.field = function}}
        TWIN("rows", "silu of ", "sd15 unet", silu, inexact_silu),
        TWIN("rows", "gelu of ", "sd21 ddim", gelu, tanh_gelu),
        TWIN("rows", "geglu of ", "sd15 unet", geglu, tanh_geglu),
        TWIN("rows", "quick_gelu of ", "sd15 pndm", quick_gelu, quick_for_gelu),
        TWIN("rows", "norm_affine of ", "sd15 unet", norm_affine, norm_without_bias),
        TWIN("rows", "affine+silu of ", "sd15 decoder", affine, affine_forgets_silu),
        TWIN("rows", "add of ", "sd15 encoder", add, add_loses_the_last),
        TWIN("products", "product of whole numbers", "sd15 unet", gemm, gemm_without_bias),
#undef TWIN
    };
    for (size_t i = 0; i < SD_COUNT(twins); i++) {
        sd_kern k = *right;
        const sd_kern *t = &twins[i].k;
        char only[128];
        if (t->silu) k.silu = t->silu;
        if (t->gelu) k.gelu = t->gelu;
        if (t->geglu) k.geglu = t->geglu;
        if (t->quick_gelu) k.quick_gelu = t->quick_gelu;
        if (t->norm_affine) k.norm_affine = t->norm_affine;
        if (t->affine) k.affine = t->affine;
        if (t->add) k.add = t->add;
        if (t->gemm) k.gemm = t->gemm;
        snprintf(only, sizeof only, "kernels *,networks %s", twins[i].network);
        check(&k, only, DATA);
        expect_failure("kernels", twins[i].kernels, twins[i].why);
        expect_failure("networks", twins[i].network, "");
        expect_pass("kernels", strcmp(twins[i].kernels, "rows") == 0 ? "products" : "rows");
    }
}

/* The first tensor that is named is where the mistake is, not where the network ends. */
TEST(the_first_wrong_module_is_named)
{
    right = sd_kern_select(NULL);
    sd_kern k = *right;
    k.geglu = tanh_geglu;
    check(&k, "networks sd15 unet", DATA);
    expect_failure("networks", "sd15 unet", "unet.down_blocks.0.attentions.0: error ");
    k = *right;
    k.norm_affine = norm_without_bias;   /* layer norm alone */
    check(&k, "networks sd15 pndm", DATA);
    expect_failure("networks", "sd15 pndm", "text_encoder.text_model.encoder.layers.0: error ");
}

#ifdef _OPENMP
static void silu_of_a_thread(float *y, const float *x, size_t n)
{
    right->silu(y, x, n);
    if (omp_get_thread_num() > 0 && n) y[0] = nextafterf(y[0], 2);
}

TEST(bits_that_depend_on_threads_are_found)
{
    right = sd_kern_select(NULL);
    sd_kern k = *right;
    k.silu = silu_of_a_thread;
    check(&k, "threads sd15,networks sd15 euler_a", DATA);
    expect_failure("threads", "sd15", "other bits with 2 threads than with 1, first in ");
    expect_pass("networks", "sd15 euler_a");   /* it is too small for the bounds */
    check(right, "threads sd15,networks sd15 euler_a", DATA);
    expect_pass("threads", "sd15");
}
#endif

/* ---------------------------------------------------------------------- wrong numbers, wrong settings */

/* Calls fn with each file that is shipped. */
static void each_file(void (*fn)(const char *path, const char *name))
{
    struct dirent *d;
    char path[600];
    DIR *dir = opendir(DATA);
    assert_non_null(dir);
    while ((d = readdir(dir)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", DATA, d->d_name);
        if (d->d_name[0] != '.') fn(path, d->d_name);
    }
    closedir(dir);
}

static struct { const char *dir, *file, *from, *to; } spoil;

static void copy(const char *path, const char *name)
{
    char to[600];
    size_t n;
    char *text = slurp(path, &n), *at = strcmp(name, spoil.file) == 0 ? strstr(text, spoil.from) : NULL;
    if (!at && strcmp(name, spoil.file) == 0) fail_msg("%s has no \"%s\"", name, spoil.from);
    snprintf(to, sizeof to, "%s/%s", spoil.dir, name);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    size_t before = at ? (size_t)(at - text) : 0;
    fwrite(text, 1, before, f);
    if (at) fputs(spoil.to, f);
    if (at) before += strlen(spoil.from);
    fwrite(text + before, 1, n - before, f);
    assert_int_equal(fclose(f), 0);
    free(text);
}

/* What is shipped, in the directory `dir`, with `from` replaced by `to` where it first stands in `file`. */
static void ship_spoiled(const char *dir, const char *file, const char *from, const char *to)
{
    spoil.dir = dir;
    spoil.file = file;
    spoil.from = from;
    spoil.to = to;
    mkdir(dir, 0777);
    each_file(copy);
}

/* As if the generator, the tokenizer, the sampler or the reader of configurations were wrong: what is compared is the
 * same. */
TEST(a_number_that_differs_is_found_wherever_it_is)
{
    static const struct { const char *file, *from, *to, *group, *what, *why; } twins[] = {
        {"generators.txt", "draw torch-cpu 42 20 ", "draw torch-cpu 43 20 ", "generators", "torch-cpu",
         "seed 43, number 0"},
        {"generators.txt", "1.54099607", "1.54099619", "generators", "torch-cpu", "seed 0, number 0"},   /* one ulp */
        {"generators.txt", "draw torch-cuda 1 ", "draw torch-cuda 2 ", "generators", "torch-cuda", "seed 2"},
        {"generators.txt", "draw numpy-pcg64 42", "draw numpy-pcg64 41", "generators", "numpy-pcg64", "seed 41"},
        {"generators.txt", "path 6 ", "path 7 ", "generators", "brownian", "other bits"},
        {"tokens.txt", "21122", "21123", "tokenizer", "as SD 1 pads", "other ids"},
        {"samplers.txt", "case euler spaced leading epsilon", "case euler spaced trailing epsilon", "samplers",
         "euler", ""},
        {"samplers.txt", "case dpm++2m spaced leading epsilon", "case dpm++2m spaced leading v_prediction", "samplers",
         "dpm++2m", "the latents"},
        {"sd15.txt", "\"norm_eps\":1e-05", "\"norm_eps\":1e-06", "networks", "sd15 unet",
         "unet.down_blocks.0.resnets.0"},
        {"sd15.txt", "\"flip_sin_to_cos\":true", "\"flip_sin_to_cos\":false", "networks", "sd15 unet",
         "unet.time_proj"},
        {"sd15.txt", "\"quick_gelu\"", "\"gelu\"", "networks", "sd15 pndm", "text_encoder.text_model.encoder.layers.0"},
        {"sd15.txt", "\"scaling_factor\":0.18215", "\"scaling_factor\":0.18", "networks", "sd15 pndm", "image"},
    };
    for (size_t i = 0; i < SD_COUNT(twins); i++) {
        char only[128], dir[512];
        snprintf(only, sizeof only, "%s %s", twins[i].group, twins[i].what);
        snprintf(dir, sizeof dir, "%s", temp_path("data"));
        ship_spoiled(dir, twins[i].file, twins[i].from, twins[i].to);
        check(sd_kern_select(NULL), only, dir);
        expect_failure(twins[i].group, twins[i].what, twins[i].why);
    }
}

/* ------------------------------------------------------------------------------------------ the files */

static double bytes;

static void add_size(const char *path, const char *name)
{
    struct stat s;
    (void)name;
    assert_int_equal(stat(path, &s), 0);
    bytes += (double)s.st_size;
}

TEST(what_is_shipped_is_small)
{
    bytes = 0;
    each_file(add_size);
    assert_true(bytes > 1e6 && bytes < 2e6);
}

/* tools/golden_selftest.py takes a part of the tests' goldens, and computes nothing. */
static void same_as_shipped(const char *path, const char *name)
{
    if (!same_files(path, in_work("made/%s", name))) fail_msg("%s is not what tools/golden_selftest.py makes", path);
}

TEST(what_is_shipped_is_of_the_goldens)
{
    char command[700];
    snprintf(command, sizeof command, "python3 tools/golden_selftest.py --out %s >/dev/null 2>&1", in_work("made"));
    if (system("python3 -c pass >/dev/null 2>&1") != 0) {
        print_message("skipped: there is no python3\n");
        skip();
    }
    assert_int_equal(system(command), 0);
    each_file(same_as_shipped);
}

/* ---------------------------------------------------------------------------------------- the program */

TEST(the_program_says_what_passed_and_what_failed)
{
    RUN("selftest", "--device", "cpu", "--only", "generators *,kernels *", "-q");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.out, "self-test: all "));
    assert_non_null(strstr(ran.out, "\nmachine "));
    assert_non_null(strstr(ran.out, "\nkernels: rows "));
    assert_null(strstr(ran.out, "FAIL"));
    RUN("selftest", "--device", "cpu", "--only", "generators *", "--json");
    assert_int_equal(ran.code, 0);
    sd_error e = {0};
    sd_json *root = sd_json_parse(ran.out, strlen(ran.out), "the report", &e);
    assert_true(root && sd_json_is(sd_json_get(root, "passed"), SD_JSON_TRUE));
    sd_json_free(root);
    RUN("selftest", "--device", "cpu", "--only", "nothing *");
    expect_error("a name that no check has", 2, "no check has the name");
    run_with.env[0] = "TMPDIR=/nowhere/at/all";
    RUN("selftest", "--device", "cpu", "--only", "generators *");
    expect_error("no place for small models", 2, "cannot make the directory /nowhere/at/all");
}

TEST(a_device_that_is_none_is_no_failed_check)
{
    RUN("selftest", "--device", "nope", "--only", "generators *");
    expect_error("no device's name", 2, "not \"nope\"");
    RUN("selftest", "--device", "opencl:99", "--only", "generators *");
    assert_int_equal(ran.code, 2);
}

/* Where OpenCL runs on a CPU, its compiler may take longer than all other checks. */
TEST(a_cpus_driver_is_left_out_until_it_is_asked_for)
{
    RUN("selftest", "--only", "networks taesd decoder", "--json");
    assert_int_equal(ran.code, 0);
    sd_error e = {0};
    sd_json *root = sd_json_parse(ran.out, strlen(ran.out), "the report", &e);
    assert_non_null(root);
    for (const sd_json *d = sd_json_get(root, "devices")->first; d; d = d->next) {
        bool listed = false, out = sd_json_is(sd_json_get(d, "left_out"), SD_JSON_TEXT);
        bool refused = sd_json_is(sd_json_get(d, "refused"), SD_JSON_TEXT);
        for (const sd_json *r = sd_json_get(root, "rows")->first; r; r = r->next)
            listed |= sd_json_is(sd_json_get(r, "on"), SD_JSON_TEXT)
                && strcmp(sd_json_get(r, "on")->text, sd_json_get(d, "device")->text) == 0;
        assert_int_equal(listed, !out && !refused);
        if (strstr(sd_json_get(d, "name")->text, "pthread")) assert_true(out);   /* PoCL's */
    }
    sd_json_free(root);
}

/* The program reads what lies beside it. */
TEST(a_failure_is_exit_code_1_and_the_text_says_where)
{
    size_t n;
    char place[500], path[600], *program, *merges = slurp("weights/merges.txt", &n);
    snprintf(place, sizeof place, "%s", in_work("built"));
    mkdir(place, 0777);
    snprintf(path, sizeof path, "%s/share", place);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/share/selftest", place);
    ship_spoiled(path, "generators.txt", "draw numpy 42", "draw numpy 41");
    snprintf(path, sizeof path, "%s/weights", place);
    mkdir(path, 0777);
    spill(in_work("built/weights/merges.txt"), merges, n);
    free(merges);
    program = slurp(getenv("SD_PROGRAM") ? getenv("SD_PROGRAM") : "./sd", &n);
    snprintf(path, sizeof path, "%s/sd", place);
    spill(path, program, n);
    free(program);
    assert_int_equal(chmod(path, 0755), 0);
    run_with.program = path;
    RUN("selftest", "--device", "cpu", "--only", "generators *", "--all");
    assert_int_equal(ran.code, 1);
    assert_non_null(strstr(ran.out, "1 of 6 checks FAILED"));
    assert_non_null(strstr(ran.out, "generators, numpy: seed 41, number 0 of 9 is "));
}

/* An interrupted program removes what it wrote. */
TEST(an_interrupted_self_test_leaves_nothing_behind)
{
    char env[600], place[500];
    snprintf(place, sizeof place, "%s", in_work("temporary"));
    mkdir(place, 0777);
    snprintf(env, sizeof env, "TMPDIR=%s", place);
    run_with.env[0] = env;
    run_with.signal = SIGTERM;
    run_with.at_once = true;
    run_with.delay = 1.5;
    RUN("selftest", "--device", "cpu");
    assert_int_equal(ran.code, 130);
    assert_int_equal(rmdir(place), 0);
}

static int teardown(void **state)
{
    free(now.row);
    return child_teardown(state);
}
static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(everything_passes_here_with_every_instruction_set, clear),
        cmocka_unit_test_teardown(each_wrong_kernel_is_found_by_itself_and_in_a_network, clear),
        cmocka_unit_test_teardown(the_first_wrong_module_is_named, clear),
#ifdef _OPENMP
        cmocka_unit_test_teardown(bits_that_depend_on_threads_are_found, clear),
#endif
        cmocka_unit_test_teardown(a_number_that_differs_is_found_wherever_it_is, clear),
        cmocka_unit_test(what_is_shipped_is_small),
        cmocka_unit_test(what_is_shipped_is_of_the_goldens),
        cmocka_unit_test(an_interrupted_self_test_leaves_nothing_behind),
        cmocka_unit_test(a_device_that_is_none_is_no_failed_check),
        cmocka_unit_test_teardown(a_cpus_driver_is_left_out_until_it_is_asked_for, clear),
        cmocka_unit_test(a_failure_is_exit_code_1_and_the_text_says_where),
        cmocka_unit_test_teardown(the_program_says_what_passed_and_what_failed, clear),
    };
    return cmocka_run_group_tests_name("selftest", tests, child_setup, teardown);
}
