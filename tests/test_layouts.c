/* test_layouts.c - models in the layouts that people have. */
#include "test.h"
#include "layouts.h"
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
        tensor_set s;
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
        tensor_set_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_single_files_have_the_names_and_ranks_of_published_ones),
        cmocka_unit_test(lists_of_published_tensors_come_to_the_published_sizes),
    };
    return cmocka_run_group_tests_name("layouts", tests, temp_make, temp_remove);
}
