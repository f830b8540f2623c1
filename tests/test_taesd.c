/* test_taesd.c - a TAESD in the place of the VAE: every module and whole runs against float64 (tools/golden_taesd.py
 * writes the truth). */
#define _POSIX_C_SOURCE 200809L
#include "test.h"

#include <math.h>
#include <sys/stat.h>

#include "network.h"
#include "needs.h"
#include "pictures.h"
#include "child.h"
#include "tempdir.h"

#define TAESD "taesd-small"

/* The models of the runs, and the TAESD's directory in diffusers' layout. */
static const char *model_dir(const char *config)
{
    sd_error e = {0};
    const char *dir = temp_path(config);
    if (mkdir(dir, 0777) == 0 && synth_write_model(dir, config, NULL, &e)) fail_msg("%s", e.text);
    return dir;
}

static const char *taesd_dir(void)
{
    static char dir[512];
    snprintf(dir, sizeof dir, "%s/vae", model_dir(TAESD));
    return dir;
}

/* A model with the TAESD at this path. */
static void open_with(network *n, const char *config, unsigned parts, int precise, const char *taesd)
{
    sd_error e = {0};
    sd_options o;
    char model[512];
    memset(n, 0, sizeof *n);
    n->config = TAESD;
    if (golden_open(&n->golden, TAESD, &e)) fail_msg("%s", e.text);
    snprintf(model, sizeof model, "%s", model_dir(config));
    sd_options_init(&o);
    o.model = model;
    o.parts = parts;
    o.precise = precise;
    o.taesd = taesd;
    if (sd_open(&n->ctx, &o)) fail_msg("%s", sd_error_text(n->ctx));
}

/* ----------------------------------------------------------------------------------------- modules */

static float *decode(network *n)
{
    int64_t dim[4];
    float *latents = network_input(n, "vae_latents", dim),
        *picture = malloc((size_t)(dim[0] * 3 * 64 * dim[2] * dim[3]) * sizeof *picture);
    if (sd_vae_decode(n->ctx, (int)dim[0], (int)dim[2], (int)dim[3], latents, picture))
        fail_msg("%s", sd_error_text(n->ctx));
    free(latents);
    return picture;
}

static float *encode(network *n)
{
    int64_t dim[4];
    float *picture = network_input(n, "picture", dim);
    int h = (int)dim[2] / 8, w = (int)dim[3] / 8;
    size_t count = (size_t)(dim[0] * 4 * h * w);
    float *mean = malloc(count * sizeof *mean), *logvar = malloc(count * sizeof *logvar);
    if (sd_vae_encode(n->ctx, (int)dim[0], h, w, picture, mean, logvar)) fail_msg("%s", sd_error_text(n->ctx));
    for (size_t i = 0; i < count; i++) assert_true(logvar[i] == -INFINITY);   /* it has no posterior */
    sd_vae_sample(mean, logvar, picture, count, 1, logvar);   /* any numbers are noise: they do not count */
    assert_memory_equal(mean, logvar, count * sizeof *mean);
    free(picture);
    free(logvar);
    return mean;
}

static void modules_against_float64(int precise)
{
    network n;
    open_with(&n, "sd1-small", SD_PART_VAE, precise, taesd_dir());
    assert_int_equal(sd_set_trace(n.ctx, NULL, network_compare, &n), SD_OK);
    float *picture = decode(&n), *mean = encode(&n);
    network_check(&n, "vae.picture", 4, (const int64_t[]){2, 3, 24, 40}, picture);
    network_check(&n, "vae.mean", 4, (const int64_t[]){2, 4, 3, 5}, mean);
    network_finish(&n, "vae.", "decoder", "vae.picture");
    network_finish(&n, "vae.", "encoder", "vae.mean");
    assert_int_equal(n.compared, 61);
    free(picture);
    free(mean);
    network_close(&n);
}

TEST(every_module_is_within_its_bound_of_float64) { modules_against_float64(0); }
TEST(every_module_is_within_its_bound_precisely) { modules_against_float64(1); }

/* ------------------------------------------------------------------------------------- whole runs */

typedef struct run { const char *kind, *model; int masked, steps; } run;
static const run runs[] = {{"draw", "sd1-small", 0, 3}, {"img2img", "sd1-small", 0, 3},
                           {"inpaint", "sd1-small", 1, 3}, {"inpaint9", "inpaint-small", 1, 3}};

static void params_of(const run *r, const sd_image *init, const sd_image *mask, sd_params *p)
{
    bool edits = r != &runs[0];
    sd_params_init(p);
    p->prompt = "a red apple on a blue table, isn't it great!";
    p->negative_prompt = "blurry";
    if (!edits) p->width = 72;
    if (!edits) p->height = 88;
    p->seed = edits ? 31 : 20;
    p->sampling.sampler = "ddim";
    p->sampling.steps = edits ? 5 : 3;
    p->guidance.scale = 7.5;
    p->edit.init = edits ? init : NULL;
    p->edit.mask = r->masked ? mask : NULL;
    if (edits) p->edit.strength = 0.6;
}

static void draw(network *n, const run *r)
{
    const char *mistake;
    char name[64];
    sd_params p;
    sd_image image, init = golden_picture(56, 40), mask = golden_mask(56, 40);
    snprintf(n->prefix, sizeof n->prefix, "run.%s.", r->kind);
    params_of(r, &init, &mask, &p);
    assert_int_equal(sd_set_trace(n->ctx, NULL, network_compare_found, n), SD_OK);
    if (sd_generate(n->ctx, &p, &image)) fail_msg("%s: %s", r->kind, sd_error_text(n->ctx));
    sd_image_free(&image);
    sd_image_free(&init);
    sd_image_free(&mask);
    const char *unseen = golden_unseen(&n->golden, n->prefix);
    if (unseen) fail_msg("%s: nothing was traced under %s", r->kind, unseen);
    snprintf(name, sizeof name, "run.%s.image", r->kind);
    golden_result g = golden_compare(&n->golden, name, 0, NULL, NULL);
    double least = golden_least_mistake(&n->golden, r->kind, &mistake);
    if (*mistake && !(least > 10 * fmax(3 * g.e32, 2e-6)))
        fail_msg("%s: the mistake %s (%.2g) would not be seen", r->kind, mistake, least);
}

TEST(runs_with_it_are_within_their_bound_of_float64)
{
    for (int precise = 0; precise < precisions(); precise++)
        for (size_t i = 0; i < SD_COUNT(runs); i++) {
            network n;
            open_with(&n, runs[i].model, SD_PART_ALL, precise, taesd_dir());
            draw(&n, &runs[i]);
            print_message("%s: %d tensors, worst %.2f of its bound (%s)\n", runs[i].kind, n.compared, n.worst,
                          n.worst_name);
            network_close(&n);
        }
}

/* ------------------------------------------------------------------------------------------- files */

/* The TAESD's tensors under other names, or without some. `wanted`: "encoder", "decoder" or "coder". */
typedef struct renaming { const char *wanted, *root[2]; bool raw; const char *without; } renaming;

static const char *write_file(const char *name, const renaming *as)
{
    sd_error e = {0};
    sd_tensor_set set = {0};
    sd_traced out[160];
    static char names[160][96], path[512];
    size_t n = 0;
    if (synth_tensors(&set, TAESD, "vae", "", &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < set.n; i++) {
        int layer, used = 0, decoder = set.tensor[i].name[0] == 'd';
        if (!strstr(set.tensor[i].name, as->wanted)) continue;
        if (as->without && sd_glob(as->without, set.tensor[i].name)) continue;
        sscanf(set.tensor[i].name + strlen("encoder.layers."), "%d%n", &layer, &used);
        const char *leaf = set.tensor[i].name + strlen("encoder.layers.") + used;
        if (as->raw) snprintf(names[n], sizeof names[n], "%s%d%s", as->root[decoder], layer + decoder, leaf);
        else snprintf(names[n], sizeof names[n], "%s%s", as->root[decoder], set.tensor[i].name);
        out[n] = set.tensor[i];
        out[n].name = names[n];
        n++;
    }
    snprintf(path, sizeof path, "%s", temp_path(name));
    if (sd_safetensors_write(path, out, n, &e)) fail_msg("%s", e.text);
    sd_tensor_set_free(&set);
    return path;
}

static const renaming raw_encoder = {"encoder", {"", ""}, true, NULL}, raw_decoder = {"decoder", {"", ""}, true, NULL};

/* What a context decodes and encodes. */
typedef struct results { float *picture, *mean; } results;

static results results_of(const char *taesd)
{
    network n;
    open_with(&n, "sd1-small", SD_PART_VAE, 0, taesd);
    results r = {decode(&n), encode(&n)};
    network_close(&n);
    return r;
}

static void results_free(results *r)
{
    free(r->picture);
    free(r->mean);
}

TEST(files_of_all_kinds_give_the_same_bits)
{
    static const renaming kinds[] = {
        {"coder", {"", ""}, false, NULL}, {"coder", {"taesd_encoder.", "taesd_decoder."}, true, NULL},
        {"coder", {"encoder.", "decoder."}, true, NULL}, {"coder", {"vae.", "vae."}, false, NULL}};
    results right = results_of(taesd_dir());
    char pair[1200], dir[512];
    for (size_t i = 0; i <= SD_COUNT(kinds) + 2; i++) {
        snprintf(dir, sizeof dir, "%s", temp_path("author"));
        const char *path = i < SD_COUNT(kinds) ? write_file("whole.safetensors", &kinds[i]) : dir;
        if (i == SD_COUNT(kinds)) mkdir(dir, 0777);
        if (i >= SD_COUNT(kinds)) {   /* in a directory with others, and as a pair in either order */
            write_file("author/taesd_encoder.safetensors", &raw_encoder);
            write_file("author/taesd_decoder.safetensors", &raw_decoder);
            spill(temp_path("author/taesdxl_decoder.pth"), "x", 1);
        }
        if (i > SD_COUNT(kinds)) {
            bool first = i == SD_COUNT(kinds) + 1;
            snprintf(pair, sizeof pair, "%s/taesd_%s.safetensors,%s/taesd_%s.safetensors", dir,
                     first ? "encoder" : "decoder", dir, first ? "decoder" : "encoder");
            path = pair;
        }
        results r = results_of(path);
        assert_memory_equal(r.picture, right.picture, 2 * 3 * 24 * 40 * sizeof(float));
        assert_memory_equal(r.mean, right.mean, 2 * 4 * 3 * 5 * sizeof(float));
        results_free(&r);
    }
    results_free(&right);
}

/* A model's directory whose VAE is a TAESD. */
TEST(a_model_may_have_one_as_its_vae)
{
    sd_error e = {0};
    char dir[512], files[600];
    results right = results_of(taesd_dir());
    snprintf(dir, sizeof dir, "%s", model_dir("sd1-small"));
    if (synth_write_model(dir, TAESD, NULL, &e)) fail_msg("%s", e.text);   /* over the other one's files */
    network n;
    open_with(&n, "sd1-small", SD_PART_ALL, 0, NULL);
    results r = {decode(&n), encode(&n)};
    assert_memory_equal(r.picture, right.picture, 2 * 3 * 24 * 40 * sizeof(float));
    draw(&n, &runs[0]);
    snprintf(files, sizeof files, "%s/file.safetensors", dir);
    sd_convert_options o;
    sd_convert_options_init(&o);
    o.output = files;
    assert_int_equal(sd_convert(n.ctx, &o), SD_ERR_UNSUPPORTED);
    assert_non_null(strstr(sd_error_text(n.ctx), "TAESD"));
    network_close(&n);
    results_free(&r);
    results_free(&right);
}

/* ---------------------------------------------------------------------------- one without an encoder */

static char said[512];
static void listen(UNUSED void *user, int level, const char *line)
{
    if (level < 2 && strstr(line, "TAESD")) snprintf(said, sizeof said, "%s", line);
}

TEST(without_its_encoder_the_vae_encodes)
{
    const char *decoder = write_file("decoder.safetensors", &raw_decoder);
    sd_error e = {0};
    sd_ctx *with, *without;
    sd_options o;
    sd_image image, init = golden_picture(56, 40);
    sd_params p;
    sd_model_info info;
    float mean[2][4 * 5 * 7], logvar[2][4 * 5 * 7], x[3 * 40 * 56];
    sd_options_init(&o);
    o.model = model_dir("sd1-small");
    assert_int_equal(sd_open(&without, &o), SD_OK);
    o.taesd = decoder;
    o.log = listen;
    if (sd_open(&with, &o)) fail_msg("%s", sd_error_text(with));
    assert_int_equal(sd_get_info(with, &info), SD_OK);
    assert_true(info.scaling_factor == 1 && info.encoding_factor == 0.18215);
    assert_int_equal(sd_image_to_floats(with, &init, x), SD_OK);
    assert_int_equal(sd_vae_encode(with, 1, 5, 7, x, mean[0], logvar[0]), SD_OK);
    assert_int_equal(sd_vae_encode(without, 1, 5, 7, x, mean[1], logvar[1]), SD_OK);
    assert_memory_equal(mean[0], mean[1], sizeof mean[0]);
    assert_memory_equal(logvar[0], logvar[1], sizeof logvar[0]);
    params_of(&runs[1], &init, NULL, &p);
    if (sd_generate(with, &p, &image)) fail_msg("%s", sd_error_text(with));
    assert_string_equal(said, "the TAESD has no encoder: the VAE encodes the picture");
    sd_image_free(&image);
    sd_image_free(&init);
    sd_close(with);
    sd_close(without);
    (void)e;
}

/* ------------------------------------------------------------------------------------- bad files */

static void refused(const char *path, sd_status status, const char *says)
{
    sd_ctx *c;
    sd_options o;
    sd_options_init(&o);
    o.model = model_dir("sd1-small");
    o.taesd = path;
    sd_status got = sd_open(&c, &o);
    if (got != status || !strstr(sd_error_text(c), says)) fail_msg("%s: %d, %s", path, got, sd_error_text(c));
    sd_close(c);
}

TEST(bad_files_are_refused_with_a_sentence)
{
    const renaming gap = {"coder", {"", ""}, false, "decoder.layers.6.*"},
        weight = {"coder", {"", ""}, false, "*2.conv.2.weight"},
        bias = {"coder", {"", ""}, false, "decoder.layers.9.conv.4.bias"};
    refused(temp_path("nowhere"), SD_ERR_MISSING, "neither a file nor a directory");
    refused(write_file("gap.safetensors", &gap), SD_ERR_MISSING, "do not make a TAESD's decoder");
    refused(write_file("weight.safetensors", &weight), SD_ERR_MISSING, "decoder.layers.2.conv.2.weight");
    refused(write_file("bias.safetensors", &bias), SD_ERR_MISSING, "1 tensor missing (decoder.layers.9.conv.4.bias)");
    refused(write_file("encoder.safetensors", &raw_encoder), SD_ERR_MISSING, "has no decoder of a TAESD");
    char other[600], whole[512];
    snprintf(whole, sizeof whole, "%s", model_dir("sd1-small"));
    snprintf(other, sizeof other, "%s/unet/diffusion_pytorch_model.safetensors", whole);
    refused(other, SD_ERR_UNSUPPORTED, "is no TAESD: it is a UNet");
    refused(whole, SD_ERR_MISSING, "has no TAESD");
    /* as a model */
    sd_ctx *c;
    sd_options o;
    sd_options_init(&o);
    o.model = write_file("decoder.safetensors", &raw_decoder);
    assert_int_equal(sd_open(&c, &o), SD_ERR_UNSUPPORTED);
    assert_non_null(strstr(sd_error_text(c), "give it with --taesd"));
    sd_close(c);
}

/* -------------------------------------------------------------------------------- previews, texts */

typedef struct watcher { sd_ctx *ctx; sd_image seen[3]; sd_status status; } watcher;

static void look(void *user, const sd_denoised *step)
{
    watcher *w = user;
    if (step->index != 2) return;
    for (int how = 0; how < 3 && !w->status; how++) w->status = sd_step_picture(w->ctx, step, 0, how, &w->seen[how]);
}

/* The last step of DDIM ends at what it predicts, so that the last preview is the picture. */
static void preview(bool only, watcher *w, sd_image *image)
{
    network n;
    sd_params p;
    sd_options o;
    sd_options_init(&o);
    o.model = model_dir("sd1-small");
    o.taesd = taesd_dir();
    o.taesd_preview_only = only;
    memset(w, 0, sizeof *w);
    if (sd_open(&w->ctx, &o)) fail_msg("%s", sd_error_text(w->ctx));
    sd_set_step(w->ctx, look, w);
    params_of(&runs[0], NULL, NULL, &p);
    p.sampling.set_alpha_to_one = 1;
    p.sampling.steps_offset = 0;
    if (sd_generate(w->ctx, &p, image)) fail_msg("%s", sd_error_text(w->ctx));
    assert_int_equal(w->status, SD_OK);
    (void)n;
}

TEST(previews_are_decoded_by_it_and_the_picture_by_whom_it_should)
{
    watcher w;
    sd_image image, of_taesd;
    size_t bytes = 72 * 88 * 3;
    preview(false, &w, &of_taesd);
    assert_memory_equal(w.seen[SD_STEP_DECODED].data, of_taesd.data, bytes);
    assert_memory_equal(w.seen[SD_STEP_TAESD].data, of_taesd.data, bytes);
    assert_int_equal(w.seen[SD_STEP_ROUGH].width, 9);
    for (int i = 0; i < 3; i++) sd_image_free(&w.seen[i]);
    sd_close(w.ctx);
    preview(true, &w, &image);
    assert_memory_equal(w.seen[SD_STEP_DECODED].data, image.data, bytes);
    assert_memory_equal(w.seen[SD_STEP_TAESD].data, of_taesd.data, bytes);
    assert_memory_not_equal(image.data, of_taesd.data, bytes);
    for (int i = 0; i < 3; i++) sd_image_free(&w.seen[i]);
    sd_image_free(&image);
    sd_image_free(&of_taesd);
    sd_close(w.ctx);
}

TEST(the_text_of_a_picture_names_it)
{
    sd_params p;
    char *text[3], error[512];
    sd_recipe *r[3];
    sd_ctx *c;
    sd_options o;
    params_of(&runs[0], NULL, NULL, &p);
    for (int i = 0; i < 3; i++) {   /* without one, with one, with one for previews */
        sd_options_init(&o);
        o.model = model_dir("sd1-small");
        o.taesd = i ? taesd_dir() : NULL;
        o.taesd_preview_only = i == 2;
        if (sd_open(&c, &o) || sd_parameters_text(c, &p, &text[i])) fail_msg("%s", sd_error_text(c));
        assert_int_equal(sd_recipe_read(text[i], &r[i], error), SD_OK);
        assert_string_equal(r[i]->notices, "");
        sd_close(c);
    }
    assert_string_equal(text[0], text[2]);
    assert_true(!r[0]->taesd && !r[0]->taesd_hash);
    assert_string_equal(r[1]->taesd, "vae");
    assert_int_equal(strlen(r[1]->taesd_hash), 16);
    assert_string_equal(r[0]->model_hash, r[1]->model_hash);
    for (int i = 0; i < 3; i++) {
        sd_recipe_free(r[i]);
        sd_free(text[i]);
    }
}

static int clear(UNUSED void **state) { temp_clear(); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_module_is_within_its_bound_of_float64, clear),
        unit_test_needing_teardown(NEED_CPU, every_module_is_within_its_bound_precisely, clear),
        cmocka_unit_test_teardown(runs_with_it_are_within_their_bound_of_float64, clear),
        cmocka_unit_test_teardown(files_of_all_kinds_give_the_same_bits, clear),
        cmocka_unit_test_teardown(a_model_may_have_one_as_its_vae, clear),
        cmocka_unit_test_teardown(without_its_encoder_the_vae_encodes, clear),
        cmocka_unit_test_teardown(bad_files_are_refused_with_a_sentence, clear),
        cmocka_unit_test_teardown(previews_are_decoded_by_it_and_the_picture_by_whom_it_should, clear),
        cmocka_unit_test_teardown(the_text_of_a_picture_names_it, clear),
    };
    return cmocka_run_group_tests_name("taesd", tests, temp_make, temp_remove);
}
