/* test_open.c - model_layouts.c, model_schedule.c: a model is the same wherever its parts are: in a directory, in one
 * file under any names, in a cache, in files of their own. What is no model, or lacks something, is said by name. */
#define _XOPEN_SOURCE 700   /* realpath */
#include <sys/stat.h>
#include <unistd.h>

#include "../model.h"
#include "context.h"
#include "layouts.h"
#include "tempdir.h"
#include "test.h"

/* ------------------------------------------------------------------------------- the model in the box as files */

enum { MOST = 2048, NAME = 160 };
typedef struct single { sd_traced t[MOST]; char name[MOST][NAME]; size_t n; } single;
static single file;
static sd_model tiny;
static const char zeros[4 << 20];

/* How a file is written. */
typedef struct how {
    unsigned parts;         /* 0: all */
    bool diffusers;         /* names as diffusers has them; else LDM's */
    bool bare;              /* without roots */
    bool texts;             /* config.json and scheduler_config.json in the header */
    bool averages;          /* the UNet's weights are under model_ema, and zeros in their place */
} how;

static void add(const char *root, const char *name, const sd_weight *w, bool conv1, const void *data)
{
    assert_true(file.n < MOST);
    sd_traced *t = &file.t[file.n];
    snprintf(file.name[file.n], NAME, "%s%s", root, name);
    *t = (sd_traced){file.name[file.n++], w->field->dt, w->field->nd, {1, 1, 1, 1}, data};
    memcpy(t->dim, w->field->dim, (size_t)t->nd * sizeof t->dim[0]);
    if (conv1) t->nd = 4, t->dim[2] = t->dim[3] = 1;
}

static void add_average(const sd_weight *w)
{
    char name[NAME], *to = name;
    for (const char *c = w->ldm; *c; c++)
        if (*c != '.') *to++ = *c;
    *to = 0;
    add("model_ema.diffusion_model", name, w, false, w->field->data);
}

static void add_module(const sd_module *x, const how *h)
{
    static const struct { unsigned part; const char *ldm, *diffusers; } roots[] = {
        {SD_PART_UNET, "model.diffusion_model.", "unet."}, {SD_PART_VAE, "first_stage_model.", "vae."},
        {SD_PART_TEXT, "cond_stage_model.transformer.", "text_encoder."}};
    for (size_t i = 0; i < SD_COUNT(roots); i++) {
        if (roots[i].part != x->kind->part) continue;
        bool ldm = !h->diffusers && x->kind->part != SD_PART_TEXT;
        bool averages = h->averages && x->kind->part == SD_PART_UNET;
        for (size_t k = 0; k < x->binder.n_weights; k++) {
            const sd_weight *w = &x->binder.weight[k];
            const char *root = h->bare ? "" : h->diffusers ? roots[i].diffusers : roots[i].ldm;
            add(root, ldm ? w->ldm : w->path, w, ldm && (w->flags & SD_BIND_CONV1),
                averages ? zeros : w->field->data);
            if (averages) add_average(w);
        }
    }
}

static sd_status put(void *user, size_t i, FILE *to, const char *path, sd_error *e)
{
    const sd_traced *t = (const sd_traced *)user + i;
    size_t n = sd_dtype_size(t->dtype);
    for (int k = 0; k < t->nd; k++) n *= (size_t)t->dim[k];
    return fwrite(t->data, 1, n, to) == n ? SD_OK : sd_fail(e, SD_ERR_IO, "cannot write %s", path);
}

static const char *const texts[] = {"unet/config.json", "vae/config.json", "text_encoder/config.json",
                                    "scheduler/scheduler_config.json"};

/* The path of a new file with weights of the model in the box. */
static const char *write_file(const char *name, const how *h)
{
    static const int64_t ids[77];
    static const float betas[1000];
    sd_pair meta[4];
    char keys[4][64], *text[4], path[300];
    sd_error e = {0};
    file.n = 0;
    for (int i = 0; i < tiny.n; i++)
        if (!h->parts || (h->parts & tiny.module[i]->kind->part)) add_module(tiny.module[i], h);
    if (!h->bare && !h->diffusers) {   /* what published files have besides */
        file.t[file.n] = (sd_traced){"cond_stage_model.transformer.text_model.embeddings.position_ids", SD_I64, 2,
                                     {1, 77}, ids};
        file.t[file.n + 1] = (sd_traced){"alphas_cumprod", SD_F32, 1, {1000}, betas};
        file.n += 2;
    }
    for (size_t i = 0; i < 4; i++) {
        size_t n;
        snprintf(path, sizeof path, "weights/tiny/%s", texts[i]);
        if (sd_read_file(path, 1 << 20, &text[i], &n, &e)) fail_msg("%s", e.text);
        snprintf(keys[i], sizeof keys[i], "sd:%s", texts[i]);
        meta[i] = (sd_pair){keys[i], text[i]};
    }
    const sd_file_plan plan = {.tensor = file.t, .n = file.n, .meta = meta, .n_meta = h->texts ? 4 : 0, .put = put,
                               .user = file.t};
    const char *out = temp_path(name);
    if (sd_safetensors_write_plan(out, &plan, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < 4; i++) free(text[i]);
    return out;
}

/* ---------------------------------------------------------------------------------------- pictures */

static sd_image expected;
static char print[17];

static sd_params run(void)
{
    sd_params p = short_run("a green tree in a field", 64);
    p.guidance.scale = 3;
    return p;
}

static sd_options options(const char *model)
{
    sd_options o;
    sd_options_init(&o);
    o.model = model;
    return o;
}

/* Asks that these options draw the directory's picture, with the directory's fingerprint. */
static void expect_picture(const char *what, const sd_options *o)
{
    sd_ctx *c;
    sd_image image;
    sd_params p = run();
    if (sd_open(&c, o) || sd_generate(c, &p, &image)) fail_msg("%s: %s", what, sd_error_text(c));
    if (memcmp(image.data, expected.data, 64 * 64 * 3) != 0) fail_msg("%s: another picture", what);
    char *text = NULL;
    assert_int_equal(sd_parameters_text(c, &p, &text), SD_OK);
    const char *at = strstr(text, "Model fingerprint: ");
    assert_non_null(at);
    if (!*print) snprintf(print, sizeof print, "%.16s", at + 19);
    if (strncmp(at + 19, print, 16) != 0) fail_msg("%s: fingerprint %.16s, not %s", what, at + 19, print);
    sd_free(text);
    sd_image_free(&image);
    sd_close(c);
}

static int begin(void **state)
{
    sd_error e = {0};
    sd_options o = options("weights/tiny");
    const sd_model_request q = {.path = "weights/tiny", .options = &o};
    sd_params p = run();
    if (temp_make(state)) return 1;
    if (sd_model_open(&tiny, &q, &e)) return print_error("%s\n", e.text), 1;
    sd_ctx *c = open_tiny(SD_PART_ALL, 0);
    sd_status status = sd_generate(c, &p, &expected);
    sd_close(c);
    o = options("weights/tiny");
    if (!status) expect_picture("the directory", &o);
    return status != SD_OK;
}

static int end(void **state)
{
    sd_model_close(&tiny);
    sd_image_free(&expected);
    return temp_remove(state);
}

TEST(a_file_draws_the_picture_of_its_directory)
{
    static const struct { const char *what; how h; bool config; } cases[] = {
        {"diffusers' names, configured by the header", {.diffusers = true, .texts = true}, false},
        {"LDM's names, configured by the header", {.texts = true}, false},
        {"LDM's names, configured by a directory", {.parts = 0}, true},
        {"diffusers' names, configured by a directory", {.diffusers = true}, true}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_options o = options(write_file("model.safetensors", &cases[i].h));
        if (cases[i].config) o.config = "weights/tiny";
        for (int r = SD_RESIDENCY_MAP; r <= SD_RESIDENCY_RAM; r++) {
            o.residency = r;
            if (i < 2 || r == SD_RESIDENCY_MAP) expect_picture(cases[i].what, &o);
        }
    }
}

TEST(averages_are_taken_when_they_are_asked_for)
{
    const how h = {.texts = true, .averages = true};
    sd_options o = options(write_file("model.safetensors", &h));
    o.ema = 1;
    expect_picture("--ema", &o);
    sd_ctx *c;
    o = options("weights/tiny");
    o.ema = 1;
    assert_int_equal(sd_open(&c, &o), SD_ERR_MISSING);
    assert_non_null(strstr(sd_error_text(c), "has no averages of the UNet's weights"));
    sd_close(c);
    o = options(temp_path("model.safetensors"));   /* the plain weights are the default: here zeros */
    sd_params p = run();
    sd_image image;
    if (sd_open(&c, &o) || sd_generate(c, &p, &image)) fail_msg("%s", sd_error_text(c));
    assert_memory_not_equal(image.data, expected.data, 64 * 64 * 3);
    sd_image_free(&image);
    sd_close(c);
}

TEST(parts_come_from_other_files_and_directories)
{
    const how bare = {.parts = SD_PART_VAE, .bare = true, .texts = true}, whole = {.texts = true},
              rooted = {.parts = SD_PART_VAE, .texts = true}, unet = {.parts = SD_PART_UNET, .texts = true},
              text = {.parts = SD_PART_TEXT, .bare = true, .texts = true},
              hf = {.parts = SD_PART_VAE, .bare = true, .diffusers = true, .texts = true};
    static const char *const dirs[] = {"weights/tiny/vae", "weights/tiny",
                                       "weights/tiny/vae/diffusion_pytorch_model.safetensors"};
    const how *const vaes[] = {&bare, &rooted, &whole, &hf};
    sd_options o = options("weights/tiny");
    for (size_t i = 0; i < SD_COUNT(vaes) + SD_COUNT(dirs); i++) {
        o.vae = i < SD_COUNT(vaes) ? write_file("vae.safetensors", vaes[i]) : dirs[i - SD_COUNT(vaes)];
        expect_picture(o.vae, &o);
    }
    const how silent[] = {{.parts = SD_PART_UNET}, {.parts = SD_PART_VAE, .bare = true}, {.parts = SD_PART_TEXT}};
    o = options("weights/tiny");   /* what shapes leave open is as the directory has it */
    o.unet = write_file("unet.safetensors", &silent[0]);
    expect_picture("a UNet's file that says nothing of heads", &o);
    o.vae = write_file("vae.safetensors", &silent[1]);
    o.text_encoder = write_file("text.safetensors", &silent[2]);
    expect_picture("three files that say nothing", &o);
    o = options(write_file("unet.safetensors", &unet));
    o.vae = "weights/tiny/vae";
    o.text_encoder = write_file("text.safetensors", &text);
    o.tokenizer = "weights/tiny/tokenizer";
    expect_picture("a UNet's file with the rest beside it", &o);
    o.tokenizer = "weights/merges.txt";
    expect_picture("the merges alone", &o);
    o = options("weights/tiny/unet");
    o.vae = o.text_encoder = "weights/tiny";
    o.config = "weights/tiny";
    expect_picture("a UNet's directory with the rest beside it", &o);
}

/* ------------------------------------------------------------------------------------- directories */

static void make(const char *dir) { assert_true(mkdir(temp_path(dir), 0700) == 0); }

static void link_here(const char *to, const char *from)
{
    char path[4096];
    assert_non_null(realpath(from, path));
    assert_int_equal(symlink(path, temp_path(to)), 0);
}

TEST(a_repository_in_hugging_faces_cache_is_its_snapshot)
{
    temp_clear();
    make("models--x--tiny");
    make("models--x--tiny/refs");
    make("models--x--tiny/blobs");
    make("models--x--tiny/snapshots");
    link_here("models--x--tiny/snapshots/0123abcd", "weights/tiny");
    temp_write("models--x--tiny/refs/main", "0123abcd", 8);
    sd_options o = options(temp_path("models--x--tiny"));
    expect_picture("by refs/main", &o);
    remove(temp_path("models--x--tiny/refs/main"));
    expect_picture("the only snapshot", &o);
    temp_write("models--x--tiny/refs/main", "../../..", 8);
    sd_ctx *c;
    assert_int_equal(sd_open(&c, &o), SD_ERR_FORMAT);
    assert_non_null(strstr(sd_error_text(c), "hexadecimal"));
    sd_close(c);
}

TEST(a_directory_with_one_file_of_weights_is_that_file)
{
    const how h = {.texts = true};
    temp_clear();
    make("folder");
    write_file("folder/model.safetensors", &h);
    temp_write("folder/README.md", "x", 1);
    char folder[300];
    snprintf(folder, sizeof folder, "%s", temp_path("folder"));
    sd_options o = options(folder);
    expect_picture("the only file", &o);
    write_file("folder/other.safetensors", &h);
    sd_ctx *c;
    assert_int_equal(sd_open(&c, &o), SD_ERR_ARG);
    assert_non_null(strstr(sd_error_text(c), "has 2 files of weights: give one of them ("));
    assert_non_null(strstr(sd_error_text(c), "other.safetensors"));
    sd_close(c);
}

TEST(one_of_several_shards_stands_for_all)
{
    const how unet = {.parts = SD_PART_UNET, .bare = true, .diffusers = true, .texts = true};
    temp_clear();
    write_file("x-00001-of-00001.safetensors", &unet);
    sd_text index = {0};
    sd_text_add(&index, "{\"weight_map\":{");
    for (size_t i = 0; i < file.n; i++)
        sd_text_add(&index, "%s\"%s\":\"x-00001-of-00001.safetensors\"", i ? "," : "", file.t[i].name);
    sd_text_add(&index, "}}");
    temp_write("x.safetensors.index.json", index.s, index.n);
    free(index.s);
    sd_options o = options("weights/tiny");
    o.unet = temp_path("x-00001-of-00001.safetensors");
    expect_picture("a shard", &o);
    o.unet = temp_path("x.safetensors.index.json");
    expect_picture("an index", &o);
}

/* ------------------------------------------------------------------------------------------ errors */

static void expect_error(const sd_options *o, sd_status status, const char *says)
{
    sd_ctx *c;
    sd_status got = sd_open(&c, o);
    if (got != status || !strstr(sd_error_text(c), says) || strchr(sd_error_text(c), '\n'))
        fail_msg("expected %s with \"%s\", found %s: %s", sd_status_name(status), says, sd_status_name(got),
                 sd_error_text(c));
    sd_close(c);
}

TEST(what_a_file_lacks_is_said_with_the_options_that_give_it)
{
    static const struct { unsigned parts; const char *says; } cases[] = {
        {SD_PART_UNET, "it lacks the text encoder, the VAE, to be given with --text-encoder, --vae"},
        {SD_PART_VAE, "it lacks the text encoder, the UNet, to be given with --text-encoder, --unet"},
        {SD_PART_UNET | SD_PART_TEXT, "it lacks the VAE, to be given with --vae"}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        const how h = {.parts = cases[i].parts, .texts = true};
        const sd_options o = options(write_file("part.safetensors", &h));
        expect_error(&o, SD_ERR_MISSING, cases[i].says);
    }
    const how h = {.parts = SD_PART_UNET, .texts = true};
    sd_options o = options("weights/tiny");
    o.vae = write_file("part.safetensors", &h);
    expect_error(&o, SD_ERR_MISSING, "has not the VAE: it is a");
    o = options("weights/tiny/vae");
    expect_error(&o, SD_ERR_MISSING, "it lacks the text encoder, the UNet, to be given with --text-encoder, --unet");
    const how shapes = {.parts = 0};
    o = options(write_file("shapes.safetensors", &shapes));
    expect_error(&o, SD_ERR_UNSUPPORTED, "give --config");
    o.config = "sd99";
    expect_error(&o, SD_ERR_ARG, "--config must be a directory in diffusers' layout, a YAML file, or one of sd15");
    o.config = "sd15";
    expect_error(&o, SD_ERR_MISSING, "of another shape");
    expect_error(&o, SD_ERR_MISSING, "/shapes.safetensors: text_encoder: ");
}

TEST(what_is_no_model_is_said)
{
    static const float x[64];
    static const struct { const char *name[2], *says; } tensors[] = {
        {{"lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
          "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"}, "is a LoRA: it changes the weights"},
        {{"emb_params", NULL}, "embedding"},
        {{"what.is.this", "and.that"}, "is no model: nobody knows its tensors (and.that, ...)"}};
    for (size_t i = 0; i < SD_COUNT(tensors); i++) {
        sd_error e = {0};
        sd_traced t[2];
        size_t n = 0;
        for (; n < 2 && tensors[i].name[n]; n++) t[n] = (sd_traced){tensors[i].name[n], SD_F32, 2, {8, 8}, x};
        sd_safetensors_write(temp_path("a.safetensors"), t, n, &e);
        const sd_options o = options(temp_path("a.safetensors"));
        expect_error(&o, SD_ERR_UNSUPPORTED, tensors[i].says);
    }
    static const struct { const char *bytes; const char *says; } files[] = {
        {"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", "web page"},
        {"\x1f\x8b\x08\x08 a file of gzip", "packed by gzip: unpack it first"},
        {"# a list of models to try", "is a text, not a file of weights: it begins with \"# a list of mode\""},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4265146304\n", "git lfs pull"}};
    for (size_t i = 0; i < SD_COUNT(files); i++) {
        temp_write("a.safetensors", files[i].bytes, strlen(files[i].bytes));
        const sd_options o = options(temp_path("a.safetensors"));
        expect_error(&o, SD_ERR_FORMAT, files[i].says);
    }
}

/* -------------------------------------------------------------------------- what stands in, and why */

static void copy_config(const char *part)
{
    char from[200], to[200], *text;
    size_t n;
    sd_error e = {0};
    snprintf(to, sizeof to, "config/%s", part);
    make(to);
    snprintf(from, sizeof from, "weights/tiny/%s/config.json", part);
    snprintf(to, sizeof to, "config/%s/config.json", part);
    if (sd_read_file(from, 1 << 20, &text, &n, &e)) fail_msg("%s", e.text);
    temp_write(to, text, n);
    free(text);
}

static void expect_info(const sd_options *o, const char *prediction, const char *why)
{
    sd_ctx *c;
    sd_model_info info;
    if (sd_open(&c, o)) fail_msg("%s", sd_error_text(c));
    sd_get_info(c, &info);
    if (strcmp(info.prediction, prediction) != 0 || !strstr(info.prediction_why, why))
        fail_msg("%s because of \"%s\", not %s because of \"%s\"", info.prediction, info.prediction_why, prediction,
                 why);
    sd_close(c);
}

/* The model in the box predicts v. */
TEST(a_yaml_beside_a_checkpoint_says_what_it_predicts)
{
    static const char yaml[] = "model:\n  params:\n    parameterization: \"v\"\n    linear_start: 0.00085\n"
                               "    linear_end: 0.0120\n    unet_config:\n      params:\n        in_channels: 4\n"
                               "        context_dim: 96\n";
    static const char other[] = "model:\n  params:\n    parameterization: \"v\"\n    unet_config:\n      params:\n"
                                "        in_channels: 9\n";
    const how h = {.parts = 0};
    temp_clear();
    make("config");
    copy_config("unet");
    copy_config("vae");
    copy_config("text_encoder");
    char model[300], config[300];
    snprintf(model, sizeof model, "%s", write_file("model.safetensors", &h));
    snprintf(config, sizeof config, "%s", temp_path("config"));
    sd_options o = options(model);
    o.config = config;
    expect_info(&o, "epsilon", "not decided: before the first picture the UNet is asked");
    static const char beside[] = "{\"_class_name\":\"DDIMScheduler\",\"prediction_type\":\"v_prediction\"}";
    temp_write("scheduler_config.json", beside, sizeof beside - 1);
    expect_info(&o, "v_prediction", "scheduler_config.json");
    remove(temp_path("scheduler_config.json"));
    temp_write("model.yaml", yaml, sizeof yaml - 1);
    o.config = config;
    expect_info(&o, "v_prediction", "model.yaml says so");
    expect_picture("by its YAML", &o);
    temp_write("model.yaml", other, sizeof other - 1);
    expect_info(&o, "epsilon", "not decided");
    o.config = temp_path("model.yaml");
    expect_error(&o, SD_ERR_SHAPE, "is of another model");
}

/* Files of full size without their numbers: opening looks at nothing else. */
TEST(published_files_are_opened_by_names_and_shapes)
{
    static const struct { const char *file, *family, *prediction, *why, *layout; int size; } cases[] = {
        {"v1-5-pruned-emaonly.safetensors", "sd15", "epsilon", "as in every family", "LDM file", 512},
        {"v2-1_768-ema-pruned.safetensors", "sd21", "v_prediction", "not decided", "LDM file", 768}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        key_list l;
        sd_error e = {0};
        sd_ctx *c;
        sd_model_info info;
        temp_clear();
        if (key_list_find(&l, cases[i].file, &e) || key_list_write(&l, temp_path("model.safetensors"), &e))
            fail_msg("%s", e.text);
        key_list_free(&l);
        sd_options o = options(temp_path("model.safetensors"));
        if (sd_open(&c, &o)) fail_msg("%s: %s", cases[i].file, sd_error_text(c));
        sd_get_info(c, &info);
        assert_string_equal(info.family, cases[i].family);
        assert_string_equal(info.prediction, cases[i].prediction);
        assert_string_equal(info.layout, cases[i].layout);
        if (!strstr(info.prediction_why, cases[i].why)) fail_msg("%s: %s", cases[i].file, info.prediction_why);
        assert_int_equal(info.width, cases[i].size);
        assert_float_equal(info.scaling_factor, 0.18215, 0);
        sd_tokens t;   /* SD 2 pads with id 0, SD 1 with its end token */
        assert_int_equal(sd_tokenize(c, "a cat", &t), SD_OK);
        assert_int_equal(t.id[76], i == 0 ? 49407 : 0);
        sd_close(c);
    }
}

/* diffusers' names of the text encoders, which traces and conversions have: the refiner's only one is the second. */
TEST(text_encoders_of_a_file_are_called_as_in_a_directory)
{
    static const struct { const char *file, *name[2]; int width[2]; } cases[] = {
        {"sd_xl_base_1.0.safetensors", {"text_encoder", "text_encoder_2"}, {768, 1280}},
        {"sd_xl_refiner_1.0.safetensors", {"text_encoder_2", NULL}, {1280, 0}}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        key_list l;
        sd_error e = {0};
        sd_model m;
        temp_clear();
        if (key_list_find(&l, cases[i].file, &e) || key_list_write(&l, temp_path("model.safetensors"), &e))
            fail_msg("%s", e.text);
        key_list_free(&l);
        sd_options o = options(temp_path("model.safetensors"));
        const sd_model_request q = {.path = o.model, .options = &o, .merges = "weights"};
        if (sd_model_open(&m, &q, &e)) fail_msg("%s: %s", cases[i].file, e.text);
        for (int k = 0; k < 2; k++) {
            const sd_module *x = sd_model_module(&m, SD_PART_TEXT, k);
            assert_int_equal(x != NULL, cases[i].name[k] != NULL);
            if (x) assert_string_equal(x->place->name, cases[i].name[k]);
            if (x) assert_int_equal(((const sd_clip *)x->net)->cfg.width, cases[i].width[k]);
        }
        sd_model_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_draws_the_picture_of_its_directory),
        cmocka_unit_test(averages_are_taken_when_they_are_asked_for),
        cmocka_unit_test(parts_come_from_other_files_and_directories),
        cmocka_unit_test(a_repository_in_hugging_faces_cache_is_its_snapshot),
        cmocka_unit_test(a_directory_with_one_file_of_weights_is_that_file),
        cmocka_unit_test(one_of_several_shards_stands_for_all),
        cmocka_unit_test(what_a_file_lacks_is_said_with_the_options_that_give_it),
        cmocka_unit_test(what_is_no_model_is_said),
        cmocka_unit_test(a_yaml_beside_a_checkpoint_says_what_it_predicts),
        cmocka_unit_test(published_files_are_opened_by_names_and_shapes),
        cmocka_unit_test(text_encoders_of_a_file_are_called_as_in_a_directory),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
