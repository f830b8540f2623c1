/* test_layouts.c - models in the layouts that people have. */
#include "test.h"
#include "layouts.h"
#include "network.h"
#include "single.h"
#include "tempdir.h"

#include <sys/stat.h>

/* Each published file by its list of tensors: a file of full size is read like any other. Where the published size is
 * known, the list comes to that size to the byte, so no name, type or shape is missing or too long. These are the
 * exceptions: their headers have more texts, or their tensors were in an order of which we know nothing but that its
 * offsets have a few digits more or less. */
static const char *const not_exact[] = {
    "v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.safetensors",
    "unet-xl/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors", "text_encoder_2/model.fp16.safetensors", "sd_xl_base_1.0.safetensors",
    "sd_xl_refiner_1.0.safetensors", "sd_xl_turbo_1.0_fp16.safetensors", "lcm-lora-sdxl.safetensors"};

static bool is_exact(const key_list *l)
{
    for (size_t i = 0; i < SD_COUNT(not_exact); i++)
        if (strcmp(not_exact[i], l->file) == 0) return false;
    return l->published != 0;
}

TEST(lists_of_published_tensors_come_to_the_published_sizes)
{
    int files = 0, exact = 0;
    for (;; files++) {
        key_list l;
        sd_error e = {0};
        sd_weight_file f;
        struct stat about;
        const char *path = temp_path("published.safetensors");
        if (key_list_read(&l, files, &e)) fail_msg("%s", e.text);
        if (!l.file[0]) break;
        if (key_list_write(&l, path, &e) || sd_weight_file_open(&f, path, &e)) fail_msg("%s: %s", l.file, e.text);
        assert_int_equal(f.n, l.n);
        assert_int_equal(stat(path, &about), 0);
        for (size_t i = 0; i < l.n; i++) {
            const sd_entry *t = &f.entry[i];
            assert_string_equal(t->name, l.key[i].name);
            assert_int_equal(t->dt, l.key[i].dt);
            assert_int_equal(t->nd, l.key[i].nd);
            assert_int_equal(t->bytes, l.key[i].bytes);
            assert_memory_equal(t->dim, l.key[i].dim, (size_t)t->nd * sizeof *t->dim);
        }
        if (is_exact(&l)) {
            assert_int_equal(about.st_size, l.published);
            exact++;
        } else if (l.published) {
            int64_t more = (int64_t)l.published - (int64_t)about.st_size;
            assert_in_range(more + 8, 0, 50000);
        }
        sd_weight_file_close(&f);
        key_list_free(&l);
    }
    assert_in_range(files, 40, 100);
    assert_int_equal(exact, 10);
}

/* layout of tests/golden/layouts -> the published file that has all of its names */
static const char *const published[][2] = {
    {"sd1", "v1-5-pruned.safetensors"}, {"sd1-bare-text", "sd1-finetune-old.safetensors"},
    {"sd1-ema", "v1-5-pruned.safetensors"}, {"sd1-inpaint", "sd-v1-5-inpainting.safetensors"},
    {"sd2", "v2-1_768-ema-pruned.safetensors"}, {"sd2-sgm", "sd2-sgm.safetensors"},
    {"sd2-exported", "sd2-exported.safetensors"}, {"ckpt", "v1-5-pruned.safetensors"},
    {"ckpt-ema", "v1-5-pruned.safetensors"}, {"vae", "vae-ft-mse-840000-ema-pruned.safetensors"},
    {"vae-old", "vae-old/diffusion_pytorch_model.safetensors"},
    {"vae-diffusers", "vae/diffusion_pytorch_model.safetensors"}};

static const key *key_find(const key_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->key[i].name, name) == 0) return &l->key[i];
    return NULL;
}

TEST(small_single_files_have_the_names_and_ranks_of_published_ones)
{
    for (size_t i = 0; i < SD_COUNT(published); i++) {
        sd_tensor_set s;
        key_list l;
        sd_error e = {0};
        if (single_compose(&s, published[i][0], NULL, &e) || key_list_find(&l, published[i][1], &e))
            fail_msg("%s", e.text);
        size_t networks = 0;
        for (size_t k = 0; k < s.n; k++) {
            const key *known = key_find(&l, s.name[k]);
            if (!known) fail_msg("%s: %s has no %s", published[i][0], published[i][1], s.name[k]);
            else if (known->nd != s.tensor[k].nd) fail_msg("%s: %s is of another rank", published[i][0], s.name[k]);
        }
        /* and none of the UNet's and the VAE's is missing, if the file has them */
        for (size_t k = 0; k < l.n; k++) {
            if (!sd_glob_list("model.diffusion_model.*,first_stage_model.*", l.key[k].name)) continue;
            networks++;
            bool found = false;
            for (size_t j = 0; j < s.n && !found; j++) found = strcmp(s.name[j], l.key[k].name) == 0;
            if (!found) fail_msg("%s lacks %s", published[i][0], l.key[k].name);
        }
        assert_true(networks == 0 || networks == 686 + 248);
        key_list_free(&l);
        sd_tensor_set_free(&s);
    }
}

/* Number i of a tensor, in PyTorch's order, whatever its strides. */
static float number(const sd_entry *t, size_t i)
{
    int64_t at = 0;
    float x;
    size_t rest = i, size = sd_dtype_size(t->dt);
    for (int k = t->nd - 1; k >= 0; k--) {
        int64_t along = (int64_t)(rest % (size_t)t->dim[k]);
        rest /= (size_t)t->dim[k];
        if (t->stride) at += along * t->stride[k];
    }
    if (t->dt == SD_I64 || t->dt == SD_I32) return 0;
    sd_widen(&x, (const char *)t->data + (t->stride ? (size_t)at : i) * size, t->dt, 1, sd_kern_select(NULL));
    return x;
}

/* torch.save's own files (tests/golden/layouts) -> their tensors */
static const char *const pickles[][2] = {
    {"lightning.ckpt", "ckpt-ema"}, {"legacy.ckpt", "ckpt"}, {"strides.pt", "ckpt"}};

TEST(pickles_have_every_tensor_of_their_model)
{
    for (size_t i = 0; i < SD_COUNT(pickles); i++) {
        char path[128];
        sd_weight_file f;
        sd_tensor_set s;
        sd_error e = {0};
        size_t strided = 0;
        snprintf(path, sizeof path, "tests/golden/layouts/%s", pickles[i][0]);
        if (single_compose(&s, pickles[i][1], NULL, &e) || sd_weight_file_open(&f, path, &e)) fail_msg("%s", e.text);
        assert_int_equal(f.n, s.n);
        for (size_t k = 0; k < s.n; k++) {
            const sd_traced *want = &s.tensor[k];
            const sd_entry *t = sd_weight_file_find(&f, want->name);
            if (!t) {
                fail_msg("%s has no %s", path, want->name);
                continue;
            }
            assert_int_equal(t->dt, want->dtype == SD_F32 ? SD_F16 : want->dtype);
            assert_int_equal(t->nd, want->nd);
            assert_memory_equal(t->dim, want->dim, (size_t)t->nd * sizeof *t->dim);
            strided += t->stride != NULL;
            size_t n = 1;
            for (int d = 0; d < want->nd; d++) n *= (size_t)want->dim[d];
            for (size_t at = 0; at < n && want->dtype == SD_F32; at++) {
                float w = ((const float *)want->data)[at];
                if (number(t, at) != w) fail_msg("%s: %s[%zu] is not %g", path, want->name, at, (double)w);
            }
        }
        /* the token embedding's diagonals, and all matrices where strides were asked for */
        assert_in_range(strided, strcmp(pickles[i][0], "strides.pt") == 0 ? 300 : 1, s.n);
        sd_weight_file_close(&f);
        sd_tensor_set_free(&s);
    }
}

/* ------------------------------------------------------------------------------------------ drawn */

/* A file in a layout, and the oracle's run that it must agree with. */
typedef struct drawn {
    const char *layout;            /* of tests/golden/layouts; with a point: one of its files, ckpt-small's */
    const char *run;               /* in tests/golden/layouts/CONFIG.safetensors */
    const char *ending;            /* safetensors or GGUF */
    sd_dtype dtype;                /* of its floats */
    const char *scale;             /* of 8-bit floats: what the scale's name ends with */
} drawn;

static const drawn files[] = {
    /* these have the directory's numbers: so the picture is the directory's, byte for byte */
    {"sd1", "file", "safetensors", SD_F32, NULL},
    {"sd1", "file", "safetensors", SD_F16, NULL},
    {"sd1", "file", "safetensors", SD_BF16, NULL},
    {"sd1", "file", "safetensors", SD_F64, NULL},
    {"sd1", "file", "gguf", SD_F32, NULL},
    {"sd1", "file", "gguf", SD_F16, NULL},
    {"sd1-bare-text", "file", "safetensors", SD_F32, NULL},
    {"sd1-ema", "file", "safetensors", SD_F32, NULL},
    {"sd2", "file", "safetensors", SD_F32, NULL},
    {"sd2", "file", "safetensors", SD_F16, NULL},
    {"sd2", "file", "gguf", SD_F32, NULL},
    {"sd2-sgm", "file", "safetensors", SD_F32, NULL},
    {"sd2-exported", "file", "safetensors", SD_F32, NULL},
    {"ckpt", "file", "safetensors", SD_F32, NULL},
    {"lightning.ckpt", "file", "", SD_F16, NULL},
    {"legacy.ckpt", "file", "", SD_F16, NULL},
    {"strides.pt", "file", "", SD_F16, NULL},
    /* these have rounded matrices, and runs of their own */
    {"sd1", "q8", "gguf", SD_Q8_0, NULL},
    {"sd1", "f8", "safetensors", SD_F8_E4M3, "scale_weight"},
    {"sd1", "f8", "safetensors", SD_F8_E4M3, "weight_scale"},
    {"sd1", "f8_e5m2", "safetensors", SD_F8_E5M2, "scale_weight"},
};

/* The file of a row, and whose numbers it has. */
static const char *file_of(const drawn *d, char config[32])
{
    static char path[512];
    char name[32];
    sd_tensor_set s;
    sd_error e = {0};
    memcpy(config, "ckpt-small", sizeof "ckpt-small");
    snprintf(path, sizeof path, "tests/golden/layouts/%s", d->layout);
    if (strchr(d->layout, '.')) return path;
    snprintf(name, sizeof name, "file.%s", d->ending);
    snprintf(path, sizeof path, "%s", temp_path(name));
    if (single_compose(&s, d->layout, config, &e)) fail_msg("%s", e.text);
    if (d->dtype != SD_F32 && single_cast(&s, d->dtype, d->scale, &e)) fail_msg("%s", e.text);
    if (single_write(path, &s, &e)) fail_msg("%s", e.text);
    sd_tensor_set_free(&s);
    return path;
}

/* The directory of a configuration: with its weights, or of configurations and the tokenizer alone. */
static const char *directory_of(const char *config, bool weights)
{
    static char path[2][512];
    sd_error e = {0};
    const synth_options none = {.without = "*"};
    char *p = path[weights], name[64];
    snprintf(name, sizeof name, "%s%s", config, weights ? "" : "-config");
    snprintf(p, sizeof path[0], "%s", temp_path(name));
    struct stat about;
    if (stat(p, &about) == 0) return p;
    assert_int_equal(mkdir(p, 0777), 0);
    if (synth_write_model(p, config, weights ? NULL : &none, &e)) fail_msg("%s", e.text);
    return p;
}

static sd_params run_of_layouts(const char *config)   /* tools/golden_layouts.py's RUN */
{
    static synth_run_list list;
    sd_error e = {0};
    sd_params p;
    if (synth_runs(&list, config, &e)) fail_msg("%s", e.text);
    sd_params_init(&p);
    p.prompt = list.prompt;
    p.negative_prompt = list.negative;
    p.width = 72;
    p.height = 88;
    p.sampling.steps = 3;
    p.sampling.sampler = "ddim";
    p.guidance.scale = 7.5;
    p.seed = 20;
    return p;
}

static void draw(sd_ctx *ctx, const char *what, const char *config, sd_image *image)
{
    sd_params p = run_of_layouts(config);
    if (sd_generate(ctx, &p, image)) fail_msg("%s: %s", what, sd_error_text(ctx));
}

/* The directory's picture, drawn once. */
static const sd_image *picture_of(const char *config)
{
    static struct { char config[32]; sd_image image; } known[4];
    size_t i = 0;
    while (i < SD_COUNT(known) && *known[i].config && strcmp(known[i].config, config) != 0) i++;
    assert_true(i < SD_COUNT(known));
    if (*known[i].config) return &known[i].image;
    sd_options o;
    sd_options_init(&o);
    o.model = directory_of(config, true);
    sd_ctx *c = open_context(&o, SD_OK);
    draw(c, o.model, config, &known[i].image);
    sd_close(c);
    snprintf(known[i].config, sizeof known[i].config, "%s", config);
    return &known[i].image;
}

static bool same_picture(const sd_image *a, const sd_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    return memcmp(a->data, b->data, 3 * (size_t)a->width * (size_t)a->height) == 0;
}

/* The mistakes that a layout invites could not pass for the truth. */
static void look_at_mistakes(network *n)
{
    static const char *const parts[][2] = {{"run", "run.file.latents.3"}, {"text", "prompt_embeds"}};
    for (size_t i = 0; i < SD_COUNT(parts); i++) {
        const char *name;
        golden_result r = golden_compare(&n->golden, parts[i][1], 0, NULL, NULL);
        assert_true(r.found && r.bound > 0);
        assert_true(golden_least_mistake(&n->golden, parts[i][0], &name) > 1000 * r.bound);
    }
}

/* The latents of every step against the oracle's, the picture against the directory's. */
static void draw_file(const drawn *d)
{
    char config[32], golden_file[128];
    bool same = strcmp(d->run, "file") == 0;
    sd_options o;
    sd_image image;
    network n = {0};
    sd_error e = {0};
    sd_options_init(&o);
    o.model = file_of(d, config);
    o.config = directory_of(config, false);
    n.config = config;
    n.ctx = open_context(&o, SD_OK);
    snprintf(golden_file, sizeof golden_file, "tests/golden/layouts/%s.safetensors", config);
    if (golden_open_file(&n.golden, golden_file, &e)) fail_msg("%s", e.text);
    snprintf(n.prefix, sizeof n.prefix, "run.%s.", d->run);
    assert_int_equal(sd_set_trace(n.ctx, same ? "latents.*,prompt_embeds" : "latents.*", network_compare, &n), SD_OK);
    draw(n.ctx, o.model, config, &image);
    assert_int_equal(n.compared, same ? 5 : 4);
    look_at_mistakes(&n);
    if (same != same_picture(&image, picture_of(config)))
        fail_msg("%s: the picture is %s the directory's", d->layout, same ? "not" : "unexpectedly");
    print_message("%-14s %-11s %-7s at most %.2f of the bound\n", d->layout, d->ending, sd_dtype_name(d->dtype),
                  n.worst);
    sd_image_free(&image);
    golden_close(&n.golden);
    sd_close(n.ctx);
}

TEST(files_in_every_layout_are_drawn_as_the_oracle_draws_them)
{
    for (size_t i = 0; i < SD_COUNT(files); i++) draw_file(&files[i]);
    temp_clear();
}

static void transpose_square(sd_tensor_set *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->name[i], name) != 0) continue;
        size_t n = (size_t)s->tensor[i].dim[0];
        float *x = (float *)(uintptr_t)s->tensor[i].data;
        assert_int_equal(s->tensor[i].dim[1], n);
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < r; c++) {
                float kept = x[r * n + c];
                x[r * n + c] = x[c * n + r];
                x[c * n + r] = kept;
            }
    }
}

/* SDXL's second encoder: its projection is square in the file and transposed, which no shape betrays. */
TEST(sdxls_single_file_draws_the_directorys_picture_and_only_with_its_projection_transposed)
{
    for (int wrong = 0; wrong < 2; wrong++) {
        char config[32];
        sd_tensor_set s;
        sd_error e = {0};
        sd_options o;
        sd_image image;
        sd_options_init(&o);
        o.model = temp_path("xl.safetensors");
        if (single_compose(&s, "sdxl", config, &e)) fail_msg("%s", e.text);
        if (wrong) transpose_square(&s, "conditioner.embedders.1.model.text_projection");
        if (single_write(o.model, &s, &e)) fail_msg("%s", e.text);
        sd_tensor_set_free(&s);
        o.config = directory_of(config, false);
        sd_ctx *c = open_context(&o, SD_OK);
        draw(c, "sdxl", config, &image);
        if (same_picture(&image, picture_of(config)) == wrong) fail_msg("wrong: %d", wrong);
        sd_image_free(&image);
        sd_close(c);
    }
    temp_clear();
}

/* What the program itself makes of the directory needs no configuration: the file's header has it, the padding of
 * prompts included, which for SD 2 is not what it is for most. */
TEST(converted_files_draw_the_directorys_picture)
{
    static const char *const configs[] = {"sd1-small", "sd2-file", "sdxl-file"};
    static const char *const endings[] = {"safetensors", "gguf"};
    for (size_t i = 0; i < SD_COUNT(configs) * SD_COUNT(endings); i++) {
        const char *config = configs[i / 2];
        char name[64];
        sd_options o;
        sd_convert_options to;
        sd_image image;
        sd_options_init(&o);
        sd_convert_options_init(&to);
        snprintf(name, sizeof name, "%s.%s", config, endings[i % 2]);
        o.model = directory_of(config, true);
        to.output = temp_path(name);
        sd_ctx *c = open_context(&o, SD_OK);
        if (sd_convert(c, &to)) fail_msg("%s: %s", name, sd_error_text(c));
        sd_close(c);
        o.model = to.output;
        c = open_context(&o, SD_OK);
        draw(c, name, config, &image);
        if (!same_picture(&image, picture_of(config))) fail_msg("%s: another picture", name);
        sd_image_free(&image);
        sd_close(c);
    }
    temp_clear();
}

/* Files of one network in the place of the directory's. */
TEST(networks_in_files_of_their_own_draw_the_directorys_picture)
{
    static const struct { const char *layout; bool vae; } rows[] = {
        {"vae", true}, {"vae-whole", true}, {"vae-old", true}, {"vae-diffusers", true}, {"unet", false},
        {"unet-prefixed", false}, {"sd1", true}, {"sd1", false}};
    for (size_t i = 0; i < SD_COUNT(rows); i++) {
        char config[32];
        sd_options o;
        sd_image image;
        const drawn d = {rows[i].layout, "file", "safetensors", SD_F32, NULL};
        const char *file = file_of(&d, config);
        sd_options_init(&o);
        o.model = directory_of(config, true);
        if (rows[i].vae) o.vae = file;
        else o.unet = file;
        o.config = directory_of(config, false);
        sd_ctx *c = open_context(&o, SD_OK);
        draw(c, rows[i].layout, config, &image);
        if (!same_picture(&image, picture_of(config))) fail_msg("%s: another picture", rows[i].layout);
        sd_image_free(&image);
        sd_close(c);
    }
    temp_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_single_files_have_the_names_and_ranks_of_published_ones),
        cmocka_unit_test(pickles_have_every_tensor_of_their_model),
        cmocka_unit_test(files_in_every_layout_are_drawn_as_the_oracle_draws_them),
        cmocka_unit_test(sdxls_single_file_draws_the_directorys_picture_and_only_with_its_projection_transposed),
        cmocka_unit_test(converted_files_draw_the_directorys_picture),
        cmocka_unit_test(networks_in_files_of_their_own_draw_the_directorys_picture),
        cmocka_unit_test(lists_of_published_tensors_come_to_the_published_sizes),
    };
    return cmocka_run_group_tests_name("layouts", tests, temp_make, temp_remove);
}
