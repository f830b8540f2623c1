/* test_recognise.c - what files are, told from the names and shapes of their tensors. */
#include "test.h"
#include "layouts.h"
#include "../recognise.h"

/* ------------------------------------------------------------------------------ files without numbers */

/* A store of entries in memory. */
typedef struct made {
    sd_weight_file file;
    sd_store store;
    sd_recognised is;
} made;

static void put(made *m, const char *name, sd_dtype dt, int nd, const int64_t *dim)
{
    sd_error e = {0};
    sd_entry *t = sd_weight_file_add(&m->file, name, &e);
    assert_non_null(t);
    t->dt = dt;
    t->nd = nd;
    size_t n = 1;
    for (int i = 0; i < nd; i++) n *= (size_t)(t->dim[i] = dim[i]);
    t->bytes = sd_dtype_bytes(dt, n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sd_entry *)a)->name, ((const sd_entry *)b)->name);
}

static const sd_recognised *recognise(made *m)
{
    sd_error e = {0};
    qsort(m->file.entry, m->file.n, sizeof *m->file.entry, by_name);
    m->store = (sd_store){.file = &m->file, .n_files = 1};
    sd_recognised_free(&m->is);
    assert_int_equal(sd_recognise(&m->store, &m->is, &e), SD_OK);
    return &m->is;
}

static void done(made *m)
{
    sd_recognised_free(&m->is);
    sd_weight_file_close(&m->file);
    memset(m, 0, sizeof *m);
}

static void published(made *m, const char *file)
{
    key_list l;
    sd_error e = {0};
    memset(m, 0, sizeof *m);
    if (key_list_find(&l, file, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < l.n; i++) put(m, l.key[i].name, l.key[i].dt, l.key[i].nd, l.key[i].dim);
    key_list_free(&l);
}

/* ------------------------------------------------------------------------------------ published files */

typedef struct expected {
    const char *file;
    sd_file_kind kind;
    const char *layout, *family, *prediction;   /* NULL: none, not decided */
    int networks;
    size_t unet[2], text[2], skipped, ema;      /* tensors and parameters of the UNet and the first text encoder */
} expected;

/* Counts of tensors and parameters are those of the published files. */
static const expected networks[] = {
    {"v1-5-pruned-emaonly.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 15, 0},
    {"v1-5-pruned.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 701, 686},
    {"sd-v1-5-inpainting.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15-inpaint", "epsilon", 3,
     {686, 859535364}, {196, 123060480}, 15, 0},
    {"instruct-pix2pix-00-22000.safetensors", SD_FILE_CHECKPOINT, "LDM", "instruct-pix2pix", "epsilon", 3,
     {686, 859532484}, {196, 123060480}, 701, 686},
    {"sd1-finetune-fp16.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 1, 0},
    {"sd1-finetune-old.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd15", "epsilon", 3,
     {686, 859520964}, {196, 123060480}, 0, 0},
    {"v2-1_768-ema-pruned.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3,
     {686, 865910724}, {280, 340387840}, 28, 0},
    {"v2-1_512-ema-pruned.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3,
     {686, 865910724}, {280, 340387840}, 28, 0},
    {"512-inpainting-ema.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21-inpaint", "epsilon", 3,
     {686, 865925124}, {280, 340387840}, 28, 0},
    {"512-depth-ema.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd2-depth", "epsilon", 3,
     {686, 865913604}, {280, 340387840}, 0, 0},
    {"x4-upscaler-ema.safetensors", SD_FILE_CHECKPOINT, "LDM", "x4-upscaler", "v_prediction", 3,
     {687, 473398020}, {280, 340387840}, 36, 0},
    {"sd2-sgm.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3, {686, 865910724}, {280, 340387840}, 15, 0},
    {"sd2-exported.safetensors", SD_FILE_CHECKPOINT, "LDM", "sd21", NULL, 3, {686, 865910724}, {280, 340387840}, 0, 0},
    {"sd_xl_base_1.0.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl", "epsilon", 4,
     {1680, 2567463684}, {196, 123060480}, 2, 0},
    {"sd_xl_refiner_1.0.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl-refiner", "epsilon", 3,
     {1220, 2259526660}, {389, 694659840}, 1, 0},
    {"sd_xl_base_1.0_inpainting_0.1.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl-inpaint", "epsilon", 4,
     {1680, 2567478084}, {196, 123060480}, 2, 0},
    {"sd_xl_turbo_1.0_fp16.safetensors", SD_FILE_CHECKPOINT, "LDM", "sdxl", "epsilon", 4,
     {1680, 2567463684}, {196, 123060480}, 2, 0},
    {"SSD-1B.safetensors", SD_FILE_CHECKPOINT, "LDM", "ssd-1b", "epsilon", 4,
     {944, 1331334404}, {196, 123060480}, 2, 0},
    {"segmind-vega.safetensors", SD_FILE_CHECKPOINT, "LDM", "vega", "epsilon", 4,
     {564, 745225604}, {196, 123060480}, 2, 0},
    {"small-sd.safetensors", SD_FILE_CHECKPOINT, "LDM", "small-sd", "epsilon", 3,
     {442, 579384964}, {196, 123060480}, 0, 0},
    {"tiny-sd.safetensors", SD_FILE_CHECKPOINT, "mixed", "tiny-sd", "epsilon", 3,
     {358, 323384964}, {196, 123060480}, 0, 0},
    {"LCM_Dreamshaper_v7.safetensors", SD_FILE_CHECKPOINT, "LDM", "lcm", "epsilon", 3,
     {687, 859602884}, {196, 123060480}, 1, 0},
    {"vae-ft-mse-840000-ema-pruned.safetensors", SD_FILE_VAE, "LDM", NULL, NULL, 1, {0}, {0}, 2, 0},
    {"vae/diffusion_pytorch_model.safetensors", SD_FILE_VAE, "diffusers", NULL, NULL, 1, {0}, {0}, 0, 0},
    {"vae-old/diffusion_pytorch_model.safetensors", SD_FILE_VAE, "diffusers", NULL, NULL, 1, {0}, {0}, 0, 0},
    {"unet/diffusion_pytorch_model.safetensors", SD_FILE_UNET, "diffusers", "sd15", "epsilon", 1,
     {686, 859520964}, {0}, 0, 0},
    {"unet-lcm/diffusion_pytorch_model.safetensors", SD_FILE_UNET, "diffusers", "lcm", "epsilon", 1,
     {687, 859602884}, {0}, 0, 0},
    {"unet-xl/diffusion_pytorch_model.safetensors", SD_FILE_UNET, "diffusers", "sdxl", "epsilon", 1,
     {1680, 2567463684}, {0}, 0, 0},
    {"text_encoder/model.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1, {0}, {196, 123060480}, 1, 0},
    {"text_encoder-xl/model.fp16.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1,
     {0}, {196, 123060480}, 0, 0},
    {"text_encoder_2/model.fp16.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1,
     {0}, {517, 694659840}, 0, 0},
    {"text_encoder-2-1/model.safetensors", SD_FILE_TEXT, "transformers", NULL, NULL, 1,
     {0}, {372, 340387840}, 1, 0},
};

static size_t skipped(const sd_recognised *r)
{
    size_t n = 0;
    for (int i = 0; i < r->n_skipped; i++) n += r->skipped[i].tensors;
    return n;
}

static void assert_same_text(const char *a, const char *b)
{
    if (a && b) assert_string_equal(a, b);
    else assert_ptr_equal(a, b);
}

static void assert_share(const sd_network *n, const size_t want[2])
{
    if (!want[0]) {
        assert_null(n);
        return;
    }
    assert_non_null(n);
    assert_int_equal(n->all.tensors, want[0]);
    assert_int_equal(n->all.params, want[1]);
}

TEST(every_published_file_is_its_family_to_the_last_tensor)
{
    for (size_t i = 0; i < SD_COUNT(networks); i++) {
        const expected *x = &networks[i];
        made m;
        published(&m, x->file);
        const sd_recognised *r = recognise(&m);
        print_message("%s\n", x->file);
        assert_int_equal(r->kind, x->kind);
        assert_same_text(r->layout, x->layout);
        assert_same_text(r->family ? r->family->name : NULL, x->family);
        assert_same_text(r->prediction, x->prediction);
        assert_int_equal(r->n_networks, x->networks);
        assert_share(sd_recognised_network(r, SD_PART_UNET, 0), x->unet);
        assert_share(sd_recognised_network(r, SD_PART_TEXT, 0), x->text);
        if (x->skipped) assert_int_equal(skipped(r), x->skipped);
        assert_int_equal(r->ema, x->ema);
        assert_int_equal(r->n_leftover, 0);
        for (int k = 0; k < r->n_networks; k++) assert_true(r->network[k].has_config);
        done(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_published_file_is_its_family_to_the_last_tensor),
    };
    return cmocka_run_group_tests_name("recognise", tests, NULL, NULL);
}
