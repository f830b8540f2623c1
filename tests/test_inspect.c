/* test_inspect.c - sd inspect from outside: what it says of every published file, of broken ones and of numbers; its
 * JSON, its hashes, its comparison of two files. And SHA-256. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"
#include "../json.h"
#include "../sha256.h"
#include "../weights_values.h"
#include "child.h"
#include "layouts.h"
#include "tempdir.h"

/* ------------------------------------------------------------------------------------------ SHA-256 */

static const char *digest(const void *data, size_t n, size_t step)
{
    static char hex[SD_SHA256_HEX];
    sd_sha256 h;
    sd_sha256_init(&h);
    for (size_t at = 0; at < n; at += step) sd_sha256_add(&h, (const char *)data + at, n - at < step ? n - at : step);
    sd_sha256_hex(&h, hex);
    return hex;
}

/* FIPS 180-4's examples: one block, two, a million letters; and the empty message. */
TEST(sha256_gives_the_digests_of_the_standard)
{
    static const struct { const char *text, *hex; } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
         "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < SD_COUNT(known); i++)
        assert_string_equal(digest(known[i].text, strlen(known[i].text), 1000), known[i].hex);
    char *as = malloc(1000000);
    memset(as, 'a', 1000000);
    static const size_t steps[] = {1000000, 1, 63, 64, 65, 977};   /* however it is cut */
    for (size_t i = 0; i < SD_COUNT(steps); i++)
        assert_string_equal(digest(as, 1000000, steps[i]),
                            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(as);
}

/* ------------------------------------------------------------------------------------------- helpers */

static sd_status put_numbers(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    const sd_traced *t = *(const sd_traced **)user + i;
    size_t n = sd_dtype_size(t->dtype);
    for (int k = 0; k < t->nd; k++) n *= (size_t)t->dim[k];
    if (n && fwrite(t->data, 1, n, to) != n) sd_fail(e, SD_ERR_IO, "cannot write %s", path);
    return e->status;
}

/* A file of tensors, with one text in its header. */
static const char *make(const char *name, const sd_traced *tensors, size_t n)
{
    sd_error e = {0};
    static char note[] = "note", value[] = "made for a test";
    const sd_pair pair = {note, value};
    const sd_file_plan plan = {.tensor = tensors, .n = n, .meta = &pair, .n_meta = 1, .put = put_numbers,
                               .user = &tensors};
    if (sd_safetensors_write_plan(temp_path(name), &plan, &e)) fail_msg("%s", e.text);
    return temp_path(name);
}

/* What the program printed, which must be one JSON value. sd_json_free it. */
static sd_json *answer(void)
{
    sd_error e = {0};
    sd_json *j = sd_json_parse(ran.out, strlen(ran.out), "the answer", &e);
    if (!j) fail_msg("%s: %.300s", e.text, ran.out);
    return j;
}

static const sd_json *first_of(const sd_json *j, const char *list) { return sd_json_item(sd_json_get(j, list), 0); }

static const char *text_at(const sd_json *j, const char *name)
{
    const char *text = sd_json_text(sd_json_get(j, name));
    return text ? text : "(nothing)";
}

static double number_at(const sd_json *j, const char *name)
{
    const sd_json *x = sd_json_get(j, name);
    if (!sd_json_is(x, SD_JSON_NUMBER)) fail_msg("%s is no number but %s", name, sd_json_kind(x));
    return x->number;
}

static bool has_text(const sd_json *list, const char *text)
{
    const sd_json *x;
    SD_JSON_EACH(x, list)
        if (x->text && strcmp(x->text, text) == 0) return true;
    return false;
}

/* ------------------------------------------------------------------------------------------- numbers */

/* Counts and moments by hand. */
TEST(numbers_are_counted)
{
    const float floats[] = {1, -2, 0, -0.0f, 1e-40f, (float)NAN, (float)INFINITY, -(float)INFINITY, 4};
    const uint16_t halves[] = {0x3C00, 0x0001, 0x8000, 0x7C00, 0x7E00, 0xC400};   /* 1, 2^-24, -0, inf, NaN, -4 */
    const int16_t words[] = {-3, 0, 5};
    const unsigned char bytes[] = {255, 0};
    const double doubles[] = {1e100, -1e100};
    const sd_traced tensors[] = {
        {"bytes", SD_U8, 1, {2}, bytes}, {"doubles", SD_F64, 1, {2}, doubles}, {"floats", SD_F32, 2, {3, 3}, floats},
        {"halves", SD_F16, 1, {6}, halves}, {"none", SD_F32, 1, {0}, floats}, {"words", SD_I16, 1, {3}, words},
    };
    static const struct expected {
        const char *name;
        double n, nan, inf, subnormal, zero, min, max, mean, std;
    } all[] = {
        {"bytes", 2, 0, 0, 0, 1, 0, 255, 127.5, 127.5},
        {"doubles", 2, 0, 0, 0, 0, -1e100, 1e100, 0, 1e100},
        {"floats", 9, 1, 2, 1, 2, -2, 4, 0.5, 1.8027756377319946},   /* sqrt(13/4): of 1 -2 0 0 1e-40 4 */
        {"halves", 6, 1, 1, 1, 1, -4, 1, -0.74999998509883881, 1.9202864427870502},
        {"none", 0, 0, 0, 0, 0, 0, 0, 0, 0},
        {"words", 3, 0, 0, 0, 1, -3, 5, 2.0 / 3, 3.2998316455372216},
    };
    RUN("inspect", "--json", "--values", "--tensors", make("a.safetensors", tensors, SD_COUNT(tensors)));
    expect_success("inspect --values");
    sd_json *j = answer();
    const sd_json *list = sd_json_get(first_of(j, "inspected"), "tensor_list");
    assert_int_equal(sd_json_count(list), SD_COUNT(all));
    for (size_t i = 0; i < SD_COUNT(all); i++) {
        const struct expected *x = &all[i];
        const sd_json *t = sd_json_item(list, (int)i), *v = sd_json_get(t, "values");
        assert_string_equal(text_at(t, "name"), x->name);
        const double want[] = {x->n, x->nan, x->inf, x->subnormal, x->zero, x->min, x->max, x->mean, x->std};
        static const char *const keys[] = {"n", "nan", "inf", "subnormal", "zero", "min", "max", "mean", "std"};
        for (size_t k = 0; k < SD_COUNT(keys); k++) {
            double is = number_at(v, keys[k]);
            if (!(fabs(is - want[k]) <= 4e-16 * fabs(want[k])))
                fail_msg("%s: %s is %.17g, not %.17g", x->name, keys[k], is, want[k]);
        }
    }
    sd_json_free(j);
}

/* Numbers that lie apart, as in a transposed tensor of a pickle: a reader that ignores strides finds others. */
TEST(numbers_that_lie_apart_are_found)
{
    const float data[] = {1, 2, 3, 4, 5, 6, 77, 78};
    static const int64_t transposed[] = {1, 3}, every_third[] = {3};
    static char name[] = "x";
    const sd_entry whole = {.name = name, .dt = SD_F32, .nd = 2, .dim = {3, 2}, .stride = transposed, .data = data,
                            .bytes = 24};
    const sd_entry some = {.name = name, .dt = SD_F32, .nd = 1, .dim = {2}, .stride = every_third, .data = data,
                           .bytes = 16};
    const float gathered[] = {1, 4, 2, 5, 3, 6};
    const sd_scaled a = {.of = whole},
                    b = {.of = {.name = name, .dt = SD_F32, .nd = 2, .dim = {3, 2}, .data = gathered, .bytes = 24}};
    sd_error e = {0};
    sd_values v;
    sd_distance d;
    assert_int_equal(sd_values_of(&v, &some, &e), SD_OK);
    assert_true(v.n == 2 && v.min == 1 && v.max == 4 && v.mean == 2.5);
    assert_int_equal(sd_distance_of(&d, &a, &b, &e), SD_OK);
    assert_true(d.n == 6 && d.other == 0 && d.at == -1);
}

/* Joined in a fixed order, so that no bit depends on how many cores look. */
TEST(the_number_of_threads_changes_no_bit)
{
    enum { N = 300000 };
    float *x = malloc(N * sizeof *x);
    for (int i = 0; i < N; i++) x[i] = sinf((float)i * 0.37f) * (float)(i % 1000) + 1e-3f;
    const sd_traced t[] = {{"x", SD_F32, 1, {N}, x}};
    const char *path = make("a.safetensors", t, 1);
    char *alone = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        run_with.env[0] = threads == 1 ? "OMP_NUM_THREADS=1" : threads == 2 ? "OMP_NUM_THREADS=2" : "OMP_NUM_THREADS=3";
        RUN("inspect", "--json", "--values", "--tensors", "--hash", path);
        expect_success("inspect --values");
        if (!alone) alone = strdup(ran.out);
        assert_string_equal(ran.out, alone);
    }
    free(alone);
    free(x);
}

/* --------------------------------------------------------------------------------------------- hashes */

TEST(hashes_are_those_by_which_other_programs_know_a_file)
{
    enum { N = 300000 };
    float *x = calloc(N, sizeof *x);
    for (int i = 0; i < N; i++) x[i] = (float)i;
    const sd_traced t[] = {{"b", SD_F32, 2, {N / 2, 2}, x}, {"a", SD_U8, 1, {3}, "xyz"}};
    const char *path = make("a.safetensors", t, 2);
    size_t n, header = 8;
    unsigned char *bytes = (unsigned char *)slurp(path, &n);
    for (int i = 7; i >= 0; i--) header += (size_t)bytes[i] << 8 * i;
    RUN("inspect", "--json", "--hash", "--tensors", path);
    expect_success("inspect --hash");
    sd_json *j = answer();
    const sd_json *seen = first_of(j, "inspected"), *h = sd_json_get(first_of(seen, "files"), "hashes");
    assert_string_equal(text_at(h, "sha256"), digest(bytes, n, n));
    assert_memory_equal(text_at(h, "a1111"), digest(bytes, n, n), 10);
    assert_memory_equal(text_at(h, "autov2"), digest(bytes, n, n), 10);
    assert_string_equal(text_at(h, "sshs_model_hash"), digest(bytes + header, n - header, n));
    assert_memory_equal(text_at(h, "autov3"), digest(bytes + header, n - header, n), 12);
    assert_int_equal(strlen(text_at(h, "autov3")), 12);
    assert_memory_equal(text_at(h, "a1111_old"), digest(bytes + 0x100000, 0x10000, n), 8);
    const sd_json *list = sd_json_get(seen, "tensor_list");
    assert_string_equal(text_at(sd_json_item(list, 0), "sha256"), digest("xyz", 3, 3));
    assert_string_equal(text_at(sd_json_item(list, 1), "sha256"), digest(x, N * sizeof *x, 4096));
    sd_json_free(j);
    free(bytes);
    free(x);
}

/* --------------------------------------------------------------------------------- published files */

/* What is known of each, and which sentence tells how to draw with it, or why not. */
static const struct published { const char *file, *family, *kind; int networks; const char *says; } published[] = {
    {"v1-5-pruned-emaonly.safetensors", "sd15", "checkpoint", 3, "sd -m "},
    {"v1-5-pruned.safetensors", "sd15", "checkpoint", 3, "sd -m "},
    {"sd-v1-5-inpainting.safetensors", "sd15-inpaint", "checkpoint", 3, "--mask MASK"},
    {"instruct-pix2pix-00-22000.safetensors", "instruct-pix2pix", "checkpoint", 3, " -i PICTURE -p \"make the"},
    {"sd1-finetune-fp16.safetensors", "sd15", "checkpoint", 3, "sd -m "},
    {"v2-1_768-ema-pruned.safetensors", "sd21", "checkpoint", 3, "sd -m "},
    {"512-inpainting-ema.safetensors", "sd21-inpaint", "checkpoint", 3, "--mask MASK"},
    {"512-depth-ema.safetensors", "sd2-depth", "checkpoint", 3, " --depth MAP -i PICTURE -p "},
    {"x4-upscaler-ema.safetensors", "x4-upscaler", "checkpoint", 3, " -i PICTURE -p "},
    {"sd2-exported.safetensors", "sd21", "checkpoint", 3, "sd -m "},
    {"sd_xl_base_1.0.safetensors", "sdxl", "checkpoint", 4, NULL},
    {"sd_xl_refiner_1.0.safetensors", "sdxl-refiner", "checkpoint", 3, NULL},
    {"vae-ft-mse-840000-ema-pruned.safetensors", NULL, "VAE", 1, "sd -m MODEL --vae "},
    {"unet/diffusion_pytorch_model.safetensors", "sd15", "UNet", 1, "sd -m MODEL --unet "},
    {"text_encoder/model.safetensors", NULL, "text encoder", 1, "sd -m MODEL --text-encoder "},
    {"control_v11p_sd15_canny.safetensors", NULL, "ControlNet", 0, "ControlNet"},
    {"lora-sd1-kohya.safetensors", NULL, "LoRA", 0, "LoRA"},
    {"learned_embeds.safetensors", NULL, "textual inversion", 0, "textual inversion"},
    {"taesd_decoder.safetensors", NULL, "TAESD", 0, "sd -m MODEL --taesd "},
    {"taesd_encoder.safetensors", NULL, "TAESD", 0, "sd -m MODEL --taesd DECODER,"},
};

/* Writes a published file of full size, a hole behind its header. */
static const char *publish(const char *file)
{
    key_list l = {.n = 0};
    sd_error e = {0};
    const char *path = temp_path("published.safetensors");
    if (key_list_find(&l, file, &e) || key_list_write(&l, path, &e)) fail_msg("%s: %s", file, e.text);
    key_list_free(&l);
    return path;
}

TEST(published_files_are_known)
{
    for (size_t i = 0; i < SD_COUNT(published); i++) {
        const struct published *p = &published[i];
        RUN("inspect", "--json", publish(p->file));
        expect_success(p->file);
        sd_json *j = answer();
        const sd_json *seen = first_of(j, "inspected"), *networks = sd_json_get(seen, "networks"), *w;
        const char *family = sd_json_text(sd_json_get(seen, "family"));
        const char *command = sd_json_text(sd_json_get(seen, "command"));
        const char *refusal = sd_json_text(sd_json_get(seen, "refusal"));
        if ((family && !p->family) || (p->family && strcmp(text_at(seen, "family"), p->family) != 0))
            fail_msg("%s is of the family %s", p->file, text_at(seen, "family"));
        if (strcmp(text_at(seen, "kind"), p->kind) != 0) fail_msg("%s is a %s", p->file, text_at(seen, "kind"));
        if (sd_json_count(networks) != p->networks) fail_msg("%s has %d networks", p->file, sd_json_count(networks));
        if (!command == !refusal || (p->says && !strstr(command ? command : refusal, p->says)))
            fail_msg("%s: %s", p->file, command ? command : refusal ? refusal : "neither command nor refusal");
        SD_JSON_EACH(w, networks)
            if (sd_json_count(sd_json_get(w, "missing")) || sd_json_count(sd_json_get(w, "misfits")) ||
                sd_json_text(sd_json_get(w, "unchecked")))
                fail_msg("%s: the %s is not complete", p->file, text_at(w, "name"));
        if (sd_json_count(sd_json_get(seen, "unknown"))) fail_msg("%s has tensors that are not known", p->file);
        sd_json_free(j);
    }
}

/* The counts of the published files. */
TEST(networks_have_the_published_counts)
{
    static const struct { const char *name; double tensors, parameters, bytes; } all[] = {
        {"unet", 686, 859520964, 3438083856}, {"vae", 248, 83653863, 334615452},
        {"text_encoder", 196, 123060480, 492241920},
    };
    RUN("inspect", "--json", publish("v1-5-pruned.safetensors"));
    expect_success("inspect");
    sd_json *j = answer();
    const sd_json *seen = first_of(j, "inspected"), *networks = sd_json_get(seen, "networks");
    for (int i = 0; i < 3; i++) {
        const sd_json *w = sd_json_item(networks, i), *f32 = sd_json_get(sd_json_get(w, "types"), "F32");
        assert_string_equal(text_at(w, "name"), all[i].name);
        assert_true(number_at(w, "tensors") == all[i].tensors && number_at(w, "parameters") == all[i].parameters);
        assert_true(number_at(w, "bytes") == all[i].bytes && number_at(f32, "bytes") == all[i].bytes);
    }
    assert_true(number_at(seen, "ema") == 686);
    sd_json_free(j);
}

/* A hole of 7 GB behind a header: to look at it takes no time and no memory. */
TEST(headers_alone_are_read)
{
    const char *path = publish("v1-5-pruned.safetensors");
    run_with.env[0] = "OMP_NUM_THREADS=1";
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        RUN("inspect", path);
        expect_success("inspect");
        best = ran.seconds < best ? ran.seconds : best;
    }
    if (best > 0.2 * SLOW) fail_msg("%.3f seconds", best);
    assert_non_null(strstr(ran.out, "a whole model of Stable Diffusion 1"));
    assert_non_null(strstr(ran.out, "7.70 GB, 1,831 tensors"));
}

TEST(long_reading_can_be_interrupted)
{
    run_with.signal = SIGINT;
    run_with.at_once = true;
    run_with.delay = 0.3;
    RUN("inspect", "--hash", publish("v1-5-pruned.safetensors"));
    assert_int_equal(ran.code, 130);
    if (ran.seconds > 1.0 * SLOW) fail_msg("%.3f seconds until it stopped", ran.seconds);
}

TEST(a_terminal_sees_how_far_reading_is)
{
    run_with.terminal = true;
    run_with.columns = 80;
    RUN("inspect", "--hash", "weights/tiny/unet");
    assert_int_equal(ran.code, 0);
    assert_non_null(strstr(ran.err, "hashing: 100 % of 0.01 GB"));
}

/* ------------------------------------------------------------------------------------- what is odd */

/* SD 1's VAE without a tensor, with one of another shape, one of integers, and one more. */
TEST(what_is_missing_misshapen_and_unknown_is_named)
{
    key_list l = {.n = 0};
    sd_error e = {0};
    const char *path = temp_path("odd.safetensors");
    if (key_list_find(&l, "vae/diffusion_pytorch_model.safetensors", &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < l.n; i++) {
        key *k = &l.key[i];
        if (strcmp(k->name, "decoder.conv_in.bias") == 0) memcpy(k->name, "decoder.conv_xx.bias", strlen(k->name));
        if (strcmp(k->name, "decoder.conv_out.bias") == 0) {
            k->dim[0] = 4;
            k->bytes = 16;
        }
        if (strcmp(k->name, "encoder.conv_out.bias") == 0) k->dt = SD_I32;
    }
    if (key_list_write(&l, path, &e)) fail_msg("%s", e.text);
    key_list_free(&l);
    RUN("inspect", "--json", path);
    expect_success("inspect");
    sd_json *j = answer();
    const sd_json *seen = first_of(j, "inspected"), *w = first_of(seen, "networks");
    const sd_json *misfits = sd_json_get(w, "misfits");
    assert_int_equal(sd_json_count(sd_json_get(w, "missing")), 1);
    assert_true(has_text(sd_json_get(w, "missing"), "decoder.conv_in.bias"));
    assert_int_equal(sd_json_count(misfits), 2);
    assert_string_equal(text_at(sd_json_item(misfits, 0), "name"), "encoder.conv_out.bias");
    assert_string_equal(text_at(sd_json_item(misfits, 0), "how"), "expected floats, found I32");
    assert_string_equal(text_at(sd_json_item(misfits, 1), "name"), "decoder.conv_out.bias");
    assert_string_equal(text_at(sd_json_item(misfits, 1), "how"), "expected [3], found [4]");
    assert_int_equal(sd_json_count(sd_json_get(seen, "unknown")), 1);
    assert_true(has_text(sd_json_get(seen, "unknown"), "decoder.conv_xx.bias"));
    assert_string_equal(text_at(seen, "refusal"), "the VAE is not complete");
    sd_json_free(j);
    RUN("inspect", path);
    expect_success("inspect");
    static const char *const said[] = {"the VAE lacks 1 of its 248 tensors",
                                       "missing from the VAE\n    decoder.conv_in.bias\n",
                                       "decoder.conv_out.bias: expected [3], found [4]", "1 missing, 2 misfits",
                                       "decoder.conv_xx.bias F32 [512]"};
    for (size_t i = 0; i < SD_COUNT(said); i++)
        if (!strstr(ran.out, said[i])) fail_msg("not said: %s", said[i]);
}

/* Names and commands are not broken. */
static void expect_80_columns(void)
{
    for (const char *line = ran.out, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        const char *word = line + strspn(line, " "), *blank = strchr(word, ' ');
        bool one_word = !blank || blank > end, command = strncmp(line, "    sd -m", 9) == 0;
        if (end - line > 80 && !one_word && !command) fail_msg("%.*s", (int)(end - line), line);
    }
}

TEST(lines_are_as_wide_as_a_terminal)
{
    static const char *const files[] = {"v2-1_768-ema-pruned.safetensors", "sd_xl_base_1.0.safetensors",
                                        "lora-sdxl-kohya.safetensors"};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        RUN("inspect", publish(files[i]));
        expect_success(files[i]);
        expect_80_columns();
    }
    RUN("inspect", "--values", "--hash", "weights/tiny");
    expect_success("inspect --values --hash");
    assert_non_null(strstr(ran.out, "NaN inf subnormal"));
    expect_80_columns();
}

TEST(long_texts_of_a_header_are_shortened_unless_they_are_asked_for)
{
    char note[3000];
    memset(note, 'n', sizeof note);
    snprintf(note + 2990, 10, "the-end");
    static char name[] = "note";
    const sd_traced t[] = {{"x", SD_U8, 1, {1}, "x"}}, *tensors = t;
    const sd_pair pair = {name, note};
    const sd_file_plan plan = {.tensor = t, .n = 1, .meta = &pair, .n_meta = 1, .put = put_numbers, .user = &tensors};
    sd_error e = {0};
    if (sd_safetensors_write_plan(temp_path("a.safetensors"), &plan, &e)) fail_msg("%s", e.text);
    RUN("inspect", temp_path("a.safetensors"));
    assert_non_null(strstr(ran.out, "... (2997 bytes)"));
    assert_null(strstr(ran.out, "the-end"));
    RUN("inspect", "--metadata", temp_path("a.safetensors"));
    assert_non_null(strstr(ran.out, "the-end"));
    RUN("inspect", "--json", temp_path("a.safetensors"));
    assert_non_null(strstr(ran.out, "the-end"));
}

TEST(tensors_are_listed_by_their_names)
{
    RUN("inspect", "--tensors=*conv_in*", "weights/tiny/unet");
    expect_success("inspect --tensors");
    assert_non_null(strstr(ran.out, "  conv_in.bias  F16 [48]  96 bytes at "));
    assert_non_null(strstr(ran.out, "  conv_in.weight  F16 [48,4,3,3]  3456 bytes at "));
    assert_null(strstr(ran.out, "  conv_out.bias  "));
    RUN("inspect", "--tensors=nothing*", "weights/tiny/unet");
    assert_non_null(strstr(ran.out, "none has a name like nothing*"));
}

/* -------------------------------------------------------------------------------------- directories */

TEST(a_directory_is_seen_as_a_whole)
{
    RUN("inspect", "--json", "weights/tiny");
    expect_success("inspect");
    sd_json *j = answer();
    const sd_json *seen = first_of(j, "inspected"), *networks = sd_json_get(seen, "networks");
    static const char *const names[] = {"unet", "vae", "text_encoder"};
    assert_int_equal(sd_json_count(networks), 3);
    for (int i = 0; i < 3; i++) {
        const sd_json *w = sd_json_item(networks, i);
        char config[64];
        snprintf(config, sizeof config, "weights/tiny/%s/config.json", names[i]);
        assert_string_equal(text_at(w, "name"), names[i]);
        assert_string_equal(text_at(w, "component"), names[i]);
        assert_string_equal(text_at(sd_json_get(w, "config"), "from"), config);
    }
    assert_string_equal(text_at(seen, "scheduler"), "PNDMScheduler");
    assert_string_equal(text_at(seen, "prediction"), "v_prediction");
    assert_string_equal(text_at(seen, "command"), "sd -m weights/tiny -p \"a red apple\"");
    assert_true(number_at(sd_json_get(seen, "memory"), "working") > 1e6);
    sd_json_free(j);
    RUN("inspect", "weights/tiny/vae");
    assert_non_null(strstr(ran.out, "sd -m MODEL --vae weights/tiny/vae -p \"a red apple\""));
}

/* Words of a command line without quotes in words; MODEL becomes the model in the box. */
static int split(char *command, const char **words)
{
    int n = 0;
    for (char *at = strtok(command, " "); at; at = strtok(NULL, " "))
        words[n++] = strcmp(at, "MODEL") ? at : "weights/tiny";
    return n;
}

/* What is printed as "draw with it" draws. */
TEST(the_command_draws)
{
    char file[4096], *command;
    snprintf(file, sizeof file, "%s", in_work("whole.safetensors"));
    remove(file);
    RUN("convert", "-q", "weights/tiny", file);
    expect_success("convert");
    const char *const paths[] = {"weights/tiny", file, "weights/tiny/vae",
                                 "weights/tiny/text_encoder/model.safetensors",
                                 "weights/tiny/unet/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < SD_COUNT(paths); i++) {
        RUN("inspect", "--json", paths[i]);
        expect_success(paths[i]);
        sd_json *j = answer();
        command = strdup(text_at(first_of(j, "inspected"), "command"));
        sd_json_free(j);
        char *prompt = strstr(command, " -p \"a red apple\"");
        if (!prompt) fail_msg("%s: %s", paths[i], command);
        *prompt = 0;
        const char *words[40] = {NULL};
        int n = split(command + strlen("sd "), words);
        static const char *const rest[] = {"-p", "a red apple", "--steps", "1", "-W", "32", "-H", "32", "-s", "1",
                                          "-q", "-o"};
        for (size_t k = 0; k < SD_COUNT(rest); k++) words[n++] = rest[k];
        words[n] = temp_path("drawn.ppm");
        run_list(words);
        if (ran.code) fail_msg("%s does not draw: %s", command, ran.err);
        free(command);
    }
    remove(file);
    temp_clear();
}

/* People keep a part's file beside its config.json. */
TEST(a_configuration_beside_a_file_belongs_to_it)
{
    RUN("inspect", "--json", "weights/tiny/unet/diffusion_pytorch_model.safetensors");
    expect_success("inspect");
    sd_json *j = answer();
    const sd_json *config = sd_json_get(first_of(first_of(j, "inspected"), "networks"), "config");
    assert_string_equal(text_at(config, "from"), "weights/tiny/unet/config.json");
    assert_true(sd_json_is(sd_json_get(config, "guessed"), SD_JSON_FALSE));
    sd_json_free(j);
}

/* The command that is printed can be pasted into a shell. */
TEST(names_are_quoted_for_a_shell)
{
    const sd_traced t[] = {{"emb_params", SD_F32, 2, {1, 768}, calloc(768, 4)}};
    char *command = NULL;
    RUN("inspect", "--json", make("it's one.safetensors", t, 1));
    expect_success("inspect");
    key_list l = {.n = 0};
    sd_error e = {0};
    if (key_list_find(&l, "vae-ft-mse-840000-ema-pruned.safetensors", &e) ||
        key_list_write(&l, temp_path("it's one.safetensors"), &e)) fail_msg("%s", e.text);
    key_list_free(&l);
    RUN("inspect", "--json", temp_path("it's one.safetensors"));
    sd_json *j = answer();
    command = strdup(text_at(first_of(j, "inspected"), "command"));
    assert_non_null(strstr(command, "it'\\''s one.safetensors' -p"));
    free(command);
    sd_json_free(j);
    free((void *)(uintptr_t)t[0].data);
}

/* ------------------------------------------------------------------------------------ what cannot be read */

TEST(what_cannot_be_read_ends_in_one_line)
{
    temp_clear();
    static const struct { const char *name, *bytes; size_t n; } files[] = {
        {"empty", "", 0}, {"short", "\x10\0\0", 3}, {"long header", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10},
        {"no json", "\4\0\0\0\0\0\0\0abcd", 12}, {"text", "hello, world, this is no model", 30},
        {"lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 64},
    };
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        spill(in_work("%s", files[i].name), files[i].bytes, files[i].n);
        RUN("inspect", in_work("%s", files[i].name));
        expect_error(files[i].name, 2, files[i].name);
        assert_string_equal(ran.out, "");
        RUN("inspect", "--diff", "weights/tiny/unet", in_work("%s", files[i].name));
        expect_error("inspect --diff", 2, files[i].name);
    }
    RUN("inspect", temp_path("nothing"));
    expect_error("no file", 2, "there is no file or directory");
    RUN("inspect", "weights");
    expect_error("a directory without a model", 2, "none of the parts of a model");
    RUN("inspect");
    expect_error("no argument", 2, "give a file or directory");
    RUN("inspect", "--diff", "weights/tiny");
    expect_error("one to compare", 2, "not 1");
}

/* One that cannot be read does not hide the others. */
TEST(several_are_told_one_after_another)
{
    RUN("inspect", "weights/tiny/vae", temp_path("nothing"), "weights/tiny/unet");
    assert_int_equal(ran.code, 2);
    assert_non_null(strstr(ran.out, "weights/tiny/vae\n"));
    assert_non_null(strstr(ran.out, "weights/tiny/unet\n"));
    assert_non_null(strstr(ran.err, "there is no file or directory"));
    RUN("inspect", "--json", "weights/tiny/vae", temp_path("nothing"), "weights/tiny/unet");
    assert_int_equal(ran.code, 2);
    sd_json *j = answer();
    const sd_json *list = sd_json_get(j, "inspected");
    assert_int_equal(sd_json_count(list), 3);
    assert_non_null(strstr(text_at(sd_json_item(list, 1), "error"), "there is no file or directory"));
    sd_json_free(j);
}

/* ---------------------------------------------------------------------------------------- comparing */

TEST(differences_of_two_files_are_named)
{
    float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 2, 3, 4, 5, 6.5f};
    const uint16_t halves[2] = {0x3C00, 0x4000};   /* 1, 2 */
    const sd_traced one[] = {{"gone", SD_F32, 1, {1}, a}, {"numbers", SD_F32, 1, {6}, a},
                             {"same", SD_F32, 2, {2, 3}, a},
                             {"shape", SD_F32, 2, {2, 3}, a}, {"type", SD_F32, 1, {2}, a}};
    const sd_traced two[] = {{"new", SD_F32, 1, {1}, a}, {"numbers", SD_F32, 1, {6}, b}, {"same", SD_F32, 2, {2, 3}, a},
                             {"shape", SD_F32, 2, {3, 2}, a}, {"type", SD_F16, 1, {2}, halves}};
    char p[512], q[512];
    snprintf(p, sizeof p, "%s", make("a.safetensors", one, SD_COUNT(one)));
    snprintf(q, sizeof q, "%s", make("b.safetensors", two, SD_COUNT(two)));
    RUN("inspect", "--diff", p, p);
    expect_success("the same file");
    assert_non_null(strstr(ran.out, "5 tensors are the same, 0 differ"));
    RUN("inspect", "--diff", "--json", p, q);
    assert_int_equal(ran.code, 1);
    assert_string_equal(ran.err, "");
    sd_json *j = answer();
    static const char *const lists[][2] = {{"only_a", "gone"}, {"only_b", "new"}, {"other_shape", "shape"},
                                           {"other_type", "type"}, {"other_numbers", "numbers"}};
    for (size_t i = 0; i < SD_COUNT(lists); i++) {
        assert_int_equal(sd_json_count(sd_json_get(j, lists[i][0])), 1);
        assert_string_equal(text_at(first_of(j, lists[i][0]), "name"), lists[i][1]);
    }
    const sd_json *d = first_of(j, "other_numbers");
    assert_true(number_at(j, "same") == 1 && number_at(d, "other") == 1 && number_at(d, "at") == 5);
    assert_true(number_at(d, "max") == 0.5 && fabs(number_at(d, "relative_l2") - 0.5 / sqrt(91)) < 1e-15);
    assert_true(number_at(first_of(j, "other_type"), "other") == 0);
    sd_json_free(j);
    RUN("inspect", "--diff", p, q);
    assert_int_equal(ran.code, 1);
    assert_non_null(strstr(ran.out, "numbers: 1 of 6 numbers, at most 0.5 apart, at 5; relative L2 0.0524"));
    assert_non_null(strstr(ran.out, "type: F32 / F16, the same numbers"));
}

#define LAYOUTS "tests/golden/layouts/"

/* Three forms of torch.save with the same weights: a zip, one pickle after another, tensors that are not contiguous. */
TEST(the_same_weights_in_other_files_do_not_differ)
{
    static const char *const files[][2] = {{LAYOUTS "lightning.ckpt", "pickle in a zip"},
                                           {LAYOUTS "strides.pt", "pickle"}};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        RUN("inspect", files[i][0]);
        expect_success(files[i][0]);
        assert_non_null(strstr(ran.out, files[i][1]));
        assert_non_null(strstr(ran.out, "it is not said whether the UNet predicts"));
        assert_non_null(strstr(ran.out, "--config DIR"));
        RUN("inspect", "--diff", LAYOUTS "legacy.ckpt", files[i][0]);
        expect_success("inspect --diff");
        assert_non_null(strstr(ran.out, "970 tensors are the same, 0 differ; matched by diffusers' names"));
    }
}

/* A directory and a single file with other names; a number that was changed has the name that diffusers gives it. */
TEST(other_names_are_no_difference)
{
    enum { EXPONENT = 0x40 };
    char path[4096];
    snprintf(path, sizeof path, "%s", in_work("model.safetensors"));
    remove(path);
    RUN("convert", "-q", "weights/tiny", path);
    expect_success("convert");
    RUN("inspect", "--diff", "weights/tiny", path);
    expect_success("inspect --diff");
    assert_non_null(strstr(ran.out, "566 tensors are the same, 0 differ; matched by diffusers' names"));
    RUN("inspect", "--json", "--tensors=*middle_block.1.transformer_blocks.0.attn2.to_k.weight", path);
    expect_success("inspect --tensors");
    sd_json *j = answer();
    const sd_json *t = first_of(first_of(j, "inspected"), "tensor_list");
    size_t at = (size_t)number_at(t, "offset"), n;
    sd_json_free(j);
    char *bytes = slurp(path, &n);
    bytes[at + 21] = (char)(bytes[at + 21] ^ EXPONENT);   /* of the tenth number, an F16 */
    spill(path, bytes, n);
    free(bytes);
    RUN("inspect", "--diff", "--json", "weights/tiny", path);
    assert_int_equal(ran.code, 1);
    j = answer();
    const sd_json *d = first_of(j, "other_numbers");
    assert_string_equal(text_at(d, "name"), "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight");
    assert_true(number_at(d, "at") == 10 && number_at(d, "other") == 1 && number_at(j, "same") == 565);
    sd_json_free(j);
    remove(path);
}

/* What GGUF rounds differs by its type and by less than a hundredth. */
TEST(blocks_of_numbers_are_compared_with_floats)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", in_work("model.gguf"));
    remove(path);
    RUN("convert", "-q", "--type", "Q8_0", "weights/tiny", path);
    expect_success("convert");
    RUN("inspect", "--json", path);
    expect_success("inspect");
    sd_json *j = answer();
    const sd_json *seen = first_of(j, "inspected"), *file = first_of(seen, "files");
    assert_string_equal(text_at(file, "format"), "GGUF");
    assert_true(number_at(file, "version") == 3);
    assert_non_null(sd_json_get(sd_json_get(first_of(seen, "networks"), "types"), "Q8_0"));
    sd_json_free(j);
    RUN("inspect", "--diff", "--json", "weights/tiny", path);
    assert_int_equal(ran.code, 1);
    j = answer();
    const sd_json *d = first_of(j, "other_type");   /* the worst comes first */
    assert_true(number_at(d, "relative_l2") > 1e-3 && number_at(d, "relative_l2") < 1e-2);
    assert_int_equal(sd_json_count(sd_json_get(j, "other_numbers")), 0);
    sd_json_free(j);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_digests_of_the_standard),
        cmocka_unit_test(numbers_are_counted),
        cmocka_unit_test(numbers_that_lie_apart_are_found),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(hashes_are_those_by_which_other_programs_know_a_file),
        cmocka_unit_test(published_files_are_known),
        cmocka_unit_test(networks_have_the_published_counts),
        cmocka_unit_test(headers_alone_are_read),
        cmocka_unit_test(long_reading_can_be_interrupted),
        cmocka_unit_test(a_terminal_sees_how_far_reading_is),
        cmocka_unit_test(what_is_missing_misshapen_and_unknown_is_named),
        cmocka_unit_test(lines_are_as_wide_as_a_terminal),
        cmocka_unit_test(long_texts_of_a_header_are_shortened_unless_they_are_asked_for),
        cmocka_unit_test(tensors_are_listed_by_their_names),
        cmocka_unit_test(a_directory_is_seen_as_a_whole),
        cmocka_unit_test(the_command_draws),
        cmocka_unit_test(a_configuration_beside_a_file_belongs_to_it),
        cmocka_unit_test(names_are_quoted_for_a_shell),
        cmocka_unit_test(what_cannot_be_read_ends_in_one_line),
        cmocka_unit_test(several_are_told_one_after_another),
        cmocka_unit_test(differences_of_two_files_are_named),
        cmocka_unit_test(the_same_weights_in_other_files_do_not_differ),
        cmocka_unit_test(other_names_are_no_difference),
        cmocka_unit_test(blocks_of_numbers_are_compared_with_floats),
    };
    return cmocka_run_group_tests_name("inspect", tests, child_setup, child_teardown);
}
