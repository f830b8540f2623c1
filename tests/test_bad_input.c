/* test_bad_input.c - what the program does with files, sizes and places it cannot use: one clear line, its exit code,
 * nothing left behind. Bad models are the tiny one with one part replaced. */
#define _XOPEN_SOURCE 700
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "child.h"
#include "needs.h"
#include "tempdir.h"

static const char *const tiny = "weights/tiny";

/* ------------------------------------------------------------------------------------ bad models */

static const struct part { const char *dir, *file; } parts[] = {
    {"vae", "diffusion_pytorch_model.safetensors"}, {"unet", "diffusion_pytorch_model.safetensors"},
        {"text_encoder", "model.safetensors"},
    {"tokenizer", "merges.txt"}, {"scheduler", "scheduler_config.json"},
};

static void link_to(const char *name, const char *path)
{
    char real[4096];
    assert_non_null(realpath(name, real));
    if (symlink(real, path) != 0) fail_msg("cannot link %s", path);
}

static int models;

/* A new copy of the tiny model by links, but the part's directory is real and lacks `without`. Returns its path. */
static const char *new_model(const char *part, const char *without)
{
    static char model[4096];
    static const char *const files[] = {"config.json", "diffusion_pytorch_model.safetensors", "model.safetensors",
                                        "merges.txt", "vocab.json",
                                        "tokenizer_config.json", "special_tokens_map.json", "scheduler_config.json"};
    char from[4096], to[8192];
    snprintf(model, sizeof model, "%s", in_work("model%d", models++));
    assert_int_equal(mkdir(model, 0755), 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(from, sizeof from, "%s/%s", tiny, parts[i].dir);
        snprintf(to, sizeof to, "%s/%s", model, parts[i].dir);
        if (strcmp(parts[i].dir, part) != 0) link_to(from, to);
        else assert_int_equal(mkdir(to, 0755), 0);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(from, sizeof from, "%s/%s/%s", tiny, part, files[i]);
        snprintf(to, sizeof to, "%s/%s/%s", model, part, files[i]);
        if (access(from, R_OK) == 0 && strcmp(files[i], without) != 0) link_to(from, to);
    }
    return model;
}

static void draw_with(const char *model, const char *what, int code, const char *word)
{
    RUN("-m", model, "-p", "x", "-s", "1", "--steps", "1", "--sampling-method", "ddim", "-o", temp_path("a.ppm"));
    expect_error(what, code, word);
}

/* The model with one file of one part replaced by these bytes. */
static void draw_with_file(const char *part, const char *file, const void *data, size_t n, const char *what, int code,
                           const char *word)
{
    char path[8192];
    const char *model = new_model(part, file);
    snprintf(path, sizeof path, "%s/%s/%s", model, part, file);
    spill(path, data, n);
    draw_with(model, what, code, word);
}

/* ----------------------------------------------------------------------------------- safetensors */

/* A safetensors file taken apart: its header as text, and the rest. */
typedef struct weights {
    char *file, *header, *data;
    size_t header_size, data_size;
} weights;

static weights vae_weights(void)
{
    weights w;
    size_t n;
    w.file = slurp("weights/tiny/vae/diffusion_pytorch_model.safetensors", &n);
    uint64_t size = 0;
    for (int i = 7; i >= 0; i--) size = size << 8 | (unsigned char)w.file[i];
    assert_true(size < n - 8);
    w.header_size = (size_t)size;
    w.data_size = n - 8 - w.header_size;
    w.header = calloc(1, w.header_size + 1);
    assert_non_null(w.header);
    memcpy(w.header, w.file + 8, w.header_size);
    w.data = w.file + 8 + w.header_size;
    return w;
}

static void weights_free(weights *w)
{
    free(w->file);
    free(w->header);
}

/* Draws with a VAE whose header is this text. */
static void draw_with_header(const weights *w, const char *header, size_t n, const char *what, int code,
                             const char *word)
{
    size_t size = 8 + n + w->data_size;
    unsigned char *file = malloc(size);
    assert_non_null(file);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(file + 8, header, n);
    memcpy(file + 8 + n, w->data, w->data_size);
    draw_with_file("vae", parts[0].file, file, size, what, code, word);
    free(file);
}

/* A copy of the header in which, after the tensor's name, the first `find` has become `put`. */
static char *edited(const weights *w, const char *tensor, const char *find, const char *put)
{
    char *at = strstr(w->header, tensor);
    assert_non_null(at);
    at = strstr(at, find);
    assert_non_null(at);
    char *copy = calloc(1, w->header_size + strlen(put) + 1);
    assert_non_null(copy);
    memcpy(copy, w->header, (size_t)(at - w->header));
    strcat(copy, put);
    strcat(copy, at + strlen(find));
    return copy;
}

TEST(edited_headers_are_refused)
{
    static const struct { const char *what, *tensor, *find, *put, *word; } cases[] = {
        {"unknown dtype", "\"decoder.conv_in.weight\"", "\"F16\"", "\"Q4_K\"", "Q4_K"},
        {"integer weights", "\"decoder.conv_in.weight\"", "\"F16\"", "\"I16\"", "decoder.conv_in.weight"},
        {"wrong shape", "\"decoder.conv_in.weight\"", "[64,4,3,3]", "[4,64,3,3]", "decoder.conv_in.weight"},
        {"shape and size differ", "\"decoder.conv_in.weight\"", "[64,4,3,3]", "[64,4,3,5]", "decoder.conv_in.weight"},
        {"negative dimension", "\"decoder.conv_in.weight\"", "[64,4,3,3]", "[-64,4,3,3]", "decoder.conv_in.weight"},
        {"product overflows", "\"decoder.conv_in.weight\"", "[64,4,3,3]", "[4294967296,4294967296,3,3]",
         "decoder.conv_in.weight"},
        {"nine dimensions", "\"decoder.conv_in.weight\"", "[64,4,3,3]", "[64,4,3,3,1,1,1,1,1]",
         "decoder.conv_in.weight"},
        {"fractional dimension", "\"decoder.conv_in.weight\"", "[64,4,3,3]", "[64.5,4,3,3]", "decoder.conv_in.weight"},
        {"offset beyond the file", "\"decoder.conv_in.weight\"", "\"data_offsets\":[", "\"data_offsets\":[1000000000,",
         "decoder.conv_in.weight"},
        {"negative offset", "\"decoder.conv_in.weight\"", "\"data_offsets\":[", "\"data_offsets\":[-",
         "decoder.conv_in.weight"},
        {"offsets past 2^53", "\"decoder.conv_in.weight\"", "\"data_offsets\":[",
         "\"data_offsets\":[99999999999999999999", "decoder.conv_in.weight"},
        {"a name twice", "\"decoder.conv_in.weight\"", "\"decoder.conv_in.weight\"", "\"decoder.conv_in.bias\"",
         "decoder.conv_in.bias"},
        {"no dtype", "\"decoder.conv_in.weight\"", "\"dtype\"", "\"type\"", "dtype"},
        {"a name with a newline", "\"decoder.conv_in.weight\"", "decoder.conv_in.weight", "decoder.conv_in.\\nweight",
         "control characters"},
        {"cut off", "\"decoder.conv_in.weight\"", ":{", ":{\"", "JSON"},
    };
    weights w = vae_weights();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *header = edited(&w, cases[i].tensor, cases[i].find, cases[i].put);
        draw_with_header(&w, header, strlen(header), cases[i].what, 2, cases[i].word);
        free(header);
    }
    weights_free(&w);
}

/* The second tensor is told to lie where the first does. */
TEST(overlapping_tensors_are_refused)
{
    weights w = vae_weights();
    unsigned long begin, end;
    char second[64], first[64], *at = strstr(w.header, "\"decoder.conv_norm_out.bias\"");
    assert_non_null(at);
    assert_int_equal(sscanf(strstr(at, "\"data_offsets\""), "\"data_offsets\":[%lu,%lu]", &begin, &end), 2);
    snprintf(second, sizeof second, "[%lu,%lu]", begin, end);
    snprintf(first, sizeof first, "[%lu,%lu]", begin - 2, end - 2);
    char *header = edited(&w, "\"decoder.conv_norm_out.bias\"", second, first);
    draw_with_header(&w, header, strlen(header), "overlap", 2, "overlap");
    free(header);
    weights_free(&w);
}

TEST(missing_tensors_are_named_all_at_once)
{
    weights w = vae_weights();
    /* encoder and decoder, weight and bias */
    for (char *at = w.header; (at = strstr(at, "conv_norm_out.")) != NULL; at++) at[0] = 'k';
    draw_with_header(&w, w.header, w.header_size, "four missing", 2, "decoder.conv_norm_out.weight");
    static const char *const names[] = {"decoder.conv_norm_out.bias", "encoder.conv_norm_out.weight",
                                        "encoder.conv_norm_out.bias"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strstr(ran.err, names[i])) fail_msg("%s is not named: %s", names[i], ran.err);
    weights_free(&w);
}

TEST(broken_files_are_refused)
{
    weights w = vae_weights();
    const char *name = parts[0].file;
    size_t whole = 8 + w.header_size + w.data_size;
    char *file = w.file, *garbage = malloc(65536), *deep = malloc(200000);
    assert_true(garbage && deep);
    draw_with_file("vae", name, file, 0, "empty file", 2, "vae");
    draw_with_file("vae", name, file, 7, "7 bytes", 2, "vae");
    draw_with_file("vae", name, file, 8, "only the length", 2, "cut short");
    draw_with_file("vae", name, file, 8 + w.header_size / 2, "half a header", 2, "cut short");
    draw_with_file("vae", name, file, whole / 2, "half a file", 2, "beyond");
    draw_with_file("vae", name, file, whole - 1, "one byte short", 2, "beyond");

    uint32_t random = 1;
    for (size_t i = 0; i < 65536; i++) garbage[i] = (char)((random = random * 1664525u + 1013904223u) >> 24);
    draw_with_file("vae", name, garbage, 65536, "garbage", 2, "safetensors");
    memcpy(garbage, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
    draw_with_file("vae", name, garbage, 65536, "a header of 2^63 bytes", 2, "header");
    memcpy(garbage, "\x00\x00\x01\x00\x00\x00\x00\x00", 8);
    draw_with_file("vae", name, garbage, 65536, "a header of the file's length", 2, "header");

    draw_with_header(&w, "hello", 5, "no JSON", 2, "JSON");
    draw_with_header(&w, "[]", 2, "a list", 2, "JSON object");
    draw_with_header(&w, "{}", 2, "no tensors", 2, "vae");
    memset(deep, '[', 200000);
    draw_with_header(&w, deep, 200000, "nested 200,000 deep", 2, "JSON");
    free(garbage);
    free(deep);
    weights_free(&w);
}

TEST(weights_that_are_not_numbers_are_named)
{
    weights w = vae_weights();
    unsigned long begin;
    char *at = strstr(w.header, "\"decoder.conv_norm_out.weight\"");
    assert_non_null(at);
    assert_int_equal(sscanf(strstr(at, "\"data_offsets\""), "\"data_offsets\":[%lu,", &begin), 1);
    w.data[begin] = 0x00;
    w.data[begin + 1] = 0x7e;   /* NaN in half precision */
    draw_with_header(&w, w.header, w.header_size, "NaN", 2, "decoder.conv_norm_out.weight");
    weights_free(&w);
}

TEST(files_in_the_wrong_place_are_refused)
{
    char path[8192];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        draw_with(new_model(parts[i].dir, parts[i].file), parts[i].dir, 2, parts[i].dir);
        const char *model = new_model(parts[i].dir, parts[i].file);
        snprintf(path, sizeof path, "%s/%s/%s", model, parts[i].dir, parts[i].file);
        assert_int_equal(mkdir(path, 0755), 0);
        RUN("-m", model, "-p", "x", "-o", temp_path("a.ppm"));
        expect_error("a directory instead of a file", 2, parts[i].dir);
    }
    draw_with("/nowhere", "no such model", 2, "/nowhere");
    draw_with("Makefile", "a file as model", 2, "Makefile");
    draw_with("Makefile/x", "below a file", 2, "Makefile/x");
    draw_with("", "an empty name", 2, "model");
    draw_with(in_work(""), "an empty directory", 2, "nothing of a model");
}

TEST(bad_configurations_are_refused)
{
    static const struct { const char *part, *file, *text, *word; } cases[] = {
        {"unet", "config.json", "", "JSON"},
        {"unet", "config.json", "{", "JSON"},
        {"unet", "config.json", "[1]", "JSON"},
        {"unet", "config.json", "{\"block_out_channels\":[]}", "block_out_channels"},
        {"unet", "config.json", "{\"block_out_channels\":[0,0]}", "block_out_channels"},
        {"unet", "config.json", "{\"block_out_channels\":[1e9,1e9]}", "block_out_channels"},
        {"vae", "config.json", "{\"block_out_channels\":[16,24],\"layers_per_block\":1000000}", "layers_per_block"},
        {"text_encoder", "config.json", "{\"hidden_size\":-1}", "hidden_size"},
        {"scheduler", "scheduler_config.json", "{\"_class_name\":\"MagicScheduler\"}", "MagicScheduler"},
        {"scheduler", "scheduler_config.json", "{\"_class_name\":\"DDIMScheduler\",\"num_train_timesteps\":1e18}",
         "num_train_timesteps"},
        {"tokenizer", "merges.txt", "\xff\xfe", "tokenizer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[96];
        snprintf(what, sizeof what, "%s/%s case %zu", cases[i].part, cases[i].file, i);
        draw_with_file(cases[i].part, cases[i].file, cases[i].text, strlen(cases[i].text), what, 2, cases[i].word);
    }
}

/* ------------------------------------------------------------------------------- sizes and texts */

TEST(sizes_steps_and_texts_out_of_range_are_refused)
{
    static const struct { const char *option, *value, *word; } cases[] = {
        {"-W", "100", "multiple of 8"},       {"-H", "127", "multiple of 8"}, {"-W", "7", "width"},
        {"-W", "65536000", "--width"},
        {"--steps", "0", "--steps must be"},  {"--steps", "-1", "--steps"},   {"--steps", "1000001", "1000"},
        {"--steps", "1000000000000", "1000"},
        {"--batch-size", "513", "512"},       {"-p", "\x80", "byte"},         {"-p", "ab\xc3(", "byte"},
        {"-n", "\xed\xa0\x80", "byte"},
        {"--noise", "/nowhere", "/nowhere"},  {"--noise", "tests", "tests"},  {"--noise", "Makefile", "Makefile"},
        {"--noise", "weights/tiny/vae/diffusion_pytorch_model.safetensors", "tensors"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RUN("-p", "x", cases[i].option, cases[i].value, "-o", temp_path("a.ppm"));
        if (ran.code != 1 && ran.code != 2) fail_msg("%s %s: exit code %d", cases[i].option, cases[i].value, ran.code);
        expect_error(cases[i].option, ran.code, cases[i].word);
    }
}

/* Everything that can be known without the networks is said before the seed, so that a log has no seed of a run that
 * never was. */
TEST(lists_of_levels_are_refused_before_the_seed)
{
    static const char *const lists[][2] = {{"--sigmas=3,5,0", "should fall"}, {"--sigmas=1e12,1,0", "1 of 3"},
                                           {"--timesteps=1000,5", "0 to 999"}, {"--timesteps=5,900", "should fall"}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        RUN("-p", "x", "-s", "1", "-o", temp_path("a.ppm"), lists[i][0]);
        expect_error(lists[i][0], 2, lists[i][1]);
        assert_string_equal(ran.out, "");
    }
}

/* The name is there, only nobody can tell what it is: that is not "no directory". */
TEST(a_directory_that_cannot_be_looked_at_is_not_called_absent)
{
    const char *round = in_work("round");
    assert_int_equal(symlink(round, round), 0);
    draw_with(round, "the model", 2, "symbolic links");
    RUN("plan", "-m", round);
    expect_error("a plan", 2, "symbolic links");
}

TEST(noise_of_another_shape_is_refused)
{
    static const struct { const char *shape; int count; const char *word; } cases[] = {
        {"[4,16,16]", 1024, "[1,4,16,16]"}, {"[1,4,8,32]", 1024, "[1,4,16,16]"}, {"[2,4,16,16]", 2048, "[1,4,16,16]"},
        {"[0]", 0, "[1,4,16,16]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char file[8 + 128 + 2048 * 4] = {0};
        int n = snprintf((char *)file + 8, 128, "{\"noise\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,%d]}}",
                         cases[i].shape, cases[i].count * 4);
        file[0] = (unsigned char)n;
        spill(in_work("noise.safetensors"), file, 8 + (size_t)n + (size_t)cases[i].count * 4);
        RUN("-p", "x", "--noise", in_work("noise.safetensors"), "-o", temp_path("a.ppm"));
        expect_error(cases[i].shape, 2, cases[i].word);
    }
}

/* ------------------------------------------------------------------------------------------ places */

TEST(outputs_that_cannot_be_written_are_refused_before_any_work)
{
    char below_a_file[4096];
    snprintf(below_a_file, sizeof below_a_file, "%s/Makefile/a.ppm", realpath(".", (char[4096]){0}));
    const struct { const char *path, *word; } cases[] = {
        {in_work("nowhere/a.ppm"), "nowhere"}, {below_a_file, "Makefile"}, {in_work("a.jpg"), ".ppm"},
        {in_work("a"), ".ppm"}, {"", "needs a value"}, {".ppm", ".ppm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        RUN("-p", "x", "--steps", "500", "-W", "1024", "-H", "1024", "-o", cases[i].path);
        expect_error("output", 2, cases[i].word);
        if (ran.seconds > 1.0 * SLOW) fail_msg("%s: only after %.1f s", cases[i].path, ran.seconds);
    }
    const char *directory = in_work("folder.safetensors");
    assert_int_equal(mkdir(directory, 0755), 0);
    RUN("-p", "x", "-o", temp_path("a.ppm"), "--trace", directory);   /* -o takes one: test_prompts.c */
    expect_error("a directory", 2, "directory");
    RUN("-p", "x", "-o", temp_path("a.ppm"), "--trace", in_work("nowhere/t.safetensors"));
    expect_error("trace", 2, "nowhere");
}

/* A limit on the size of files is what a full disk looks like to a program. */
static void fill_the_disk(long limit, const char *file)
{
    run_with.file_limit = limit;
    RUN("-p", "x", "-s", "1", "--steps", "1", "-o", temp_path(file));
    expect_error(file, 1, file);
}

TEST(a_full_disk_leaves_no_file)
{
    fill_the_disk(2000, "a.ppm");
    fill_the_disk(49000, "a.ppm");
    run_with.file_limit = 60000;   /* enough for the picture */
    RUN("-p", "x", "-s", "1", "--steps", "2", "-o", temp_path("a.ppm"), "--trace", temp_path("t.safetensors"));
    expect_error("trace", 1, "t.safetensors");
}

TEST(a_full_disk_leaves_no_png)
{
    fill_the_disk(2000, "a.png");
}

/* What is there stays whole when the new picture cannot be written. */
TEST(a_failed_write_keeps_the_old_file)
{
    size_t n;
    temp_write("a.ppm", "old", 3);
    run_with.file_limit = 2000;
    RUN("-p", "x", "-s", "1", "--steps", "1", "-o", temp_path("a.ppm"));
    assert_int_equal(ran.code, 1);
    expect_files_in_out(1, "old file");
    char *old = temp_read("a.ppm", &n);
    assert_int_equal(n, 3);
    assert_string_equal(old, "old");
    free(old);
    temp_clear();
}

TEST(a_closed_standard_output_is_a_failure)
{
    run_with.file_limit = 100;
    RUN("tokenize", "a red apple on a white background", "--json");
    expect_error("stdout is full", 1, "standard output");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edited_headers_are_refused),
        cmocka_unit_test(overlapping_tensors_are_refused),
        cmocka_unit_test(missing_tensors_are_named_all_at_once),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(weights_that_are_not_numbers_are_named),
        cmocka_unit_test(files_in_the_wrong_place_are_refused),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(sizes_steps_and_texts_out_of_range_are_refused),
        cmocka_unit_test(lists_of_levels_are_refused_before_the_seed),
        cmocka_unit_test(a_directory_that_cannot_be_looked_at_is_not_called_absent),
        cmocka_unit_test(noise_of_another_shape_is_refused),
        cmocka_unit_test(outputs_that_cannot_be_written_are_refused_before_any_work),
        cmocka_unit_test(a_full_disk_leaves_no_file),
        unit_test_needing(NEED_PNG, a_full_disk_leaves_no_png),
        cmocka_unit_test(a_failed_write_keeps_the_old_file),
        cmocka_unit_test(a_closed_standard_output_is_a_failure),
    };
    return cmocka_run_group_tests_name("bad input", tests, child_setup, child_teardown);
}
