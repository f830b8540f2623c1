/* test_layouts.c - models in the layouts that people have. */
#include "test.h"
#include "layouts.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_published_tensors_come_to_the_published_sizes),
    };
    return cmocka_run_group_tests_name("layouts", tests, temp_make, temp_remove);
}
