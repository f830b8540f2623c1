/* test_context.c - a context from outside: calls on one that was not opened, cancelling at the right and the wrong
 * time, calls within calls. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <time.h>

#include "test.h"
#include "../sd.h"
#include "context.h"
#include "tempdir.h"

/* ------------------------------------------------------------------------ contexts that were not opened */

static void ignore_traced(void *user, const sd_traced *t) { (void)user, (void)t; }

static void expect_all_calls_to_return(sd_ctx *c, sd_status status)
{
    sd_params p = short_run("a red apple", 64), resolved;
    sd_model_info info;
    sd_tokens tokens;
    sd_image image, picture = {8, 8, 3, calloc(192, 1)};
    sd_timings times;
    float x[64] = {0};
    float *data;
    char *text;
    int n, nd;
    int64_t dim[4];
    const sd_traced tensor = {"x", SD_F32, 1, {1}, x};
    const sd_denoised step = {0, 1, 1, 4, 1, 1, x};
    assert_int_equal(sd_get_info(c, &info), status);
    assert_int_equal(sd_tokenize(c, "x", &tokens), status);
    assert_null(sd_token_piece(c, 320));
    assert_int_equal(sd_encode_text(c, "x", 1, x, 64), status);
    assert_int_equal(sd_unet(c, 1, 1, 1, x, x, x, x), status);
    assert_int_equal(sd_vae_decode(c, 1, 1, 1, x, x), status);
    assert_int_equal(sd_vae_encode(c, 1, 1, 1, x, x, x), status);
    assert_int_equal(sd_generate(c, &p, &image), status);
    assert_int_equal(sd_resolve_params(c, &p, &resolved), status);
    assert_int_equal(sd_parameters_text(c, &p, &text), status);
    assert_null(text);
    assert_int_equal(sd_schedule(c, &p, &n, NULL, NULL, NULL), status);
    assert_int_equal(sd_set_trace(c, NULL, ignore_traced, NULL), status);
    assert_int_equal(sd_trace_open(c, temp_path("t.safetensors"), NULL), status);
    assert_int_equal(sd_trace_close(c), status);
    assert_int_equal(sd_image_read(c, "docs/apple.png", &image), status);
    assert_null(image.data);
    assert_int_equal(sd_image_resize(c, &picture, 4, 4, NULL, &image), status);
    assert_int_equal(sd_image_write(c, temp_path("a.png"), &picture, NULL), status);
    assert_int_equal(sd_step_picture(c, &step, 0, 1, &image), status);
    assert_int_equal(sd_tensor_read(c, "weights/tiny/vae/diffusion_pytorch_model.safetensors", "x", &data, &nd, dim),
                     status);
    assert_null(data);
    assert_int_equal(sd_tensors_write(c, temp_path("t.safetensors"), &tensor, 1), status);
    sd_set_progress(c, NULL, NULL);
    sd_set_step(c, NULL, NULL);
    sd_set_random_draw(c, NULL, NULL);
    sd_get_timings(c, &times);
    sd_cancel(c);
    sd_abandon(c);
    assert_non_null(sd_error_place(c));
    free(picture.data);
    assert_int_equal(temp_files(), 0);
}

TEST(every_call_on_a_context_that_was_not_opened_returns_its_error)
{
    static const struct { const char *model, *isa; sd_status status; const char *says; } cases[] = {
        {"/nonexistent", NULL, SD_ERR_MISSING, "/nonexistent"},
        {"Makefile", NULL, SD_ERR_FORMAT, "Makefile"},
        {"tests", NULL, SD_ERR_MISSING, "has nothing of a model"},
        {"weights/tiny", "z80", SD_ERR_ARG, "z80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sd_options o;
        sd_ctx *c;
        sd_options_init(&o);
        o.model = cases[i].model;
        if (cases[i].isa) setenv("SD_ISA", cases[i].isa, 1);
        assert_int_equal(sd_open(&c, &o), cases[i].status);
        unsetenv("SD_ISA");
        expect_all_calls_to_return(c, cases[i].status);
        assert_non_null(strstr(sd_error_text(c), cases[i].says));
        sd_close(c);
    }
    expect_all_calls_to_return(NULL, SD_ERR_MEMORY);   /* what sd_open gives when there is no memory at all */
}

/* ----------------------------------------------------------------------------------------- cancelling */

TEST(a_cancel_with_nothing_running_cancels_nothing)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    sd_params p = short_run("a red apple", 64);
    sd_image image;
    sd_tokens tokens;
    sd_cancel(c);
    assert_int_equal(sd_tokenize(c, "x", &tokens), SD_OK);
    sd_cancel(c);
    assert_int_equal(sd_generate(c, &p, &image), SD_OK);
    sd_image_free(&image);
    sd_close(c);
}

static void cancel_after_text(void *user, const sd_progress *p)
{
    if (strcmp(p->stage, "text") == 0) sd_cancel(user);
}

/* Calls that are made within the run do not forget that it was cancelled. */
static void write_and_cancel(void *user, const sd_denoised *step)
{
    sd_image image;
    sd_tokens tokens;
    sd_cancel(user);
    assert_int_equal(sd_tokenize(user, "x", &tokens), SD_OK);
    if (sd_step_picture(user, step, 0, 1, &image)) return;
    sd_status status = sd_image_write(user, temp_path("a.png"), &image, NULL);
    assert_true(status == SD_OK || status == SD_ERR_CANCELLED);
    sd_image_free(&image);
}

TEST(a_cancel_within_a_run_ends_that_run_alone)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    sd_params p = short_run("a red apple", 64);
    sd_image image;
    for (int way = 0; way < 2; way++) {
        sd_set_progress(c, way ? NULL : cancel_after_text, c);
        sd_set_step(c, way ? write_and_cancel : NULL, c);
        assert_int_equal(sd_generate(c, &p, &image), SD_ERR_CANCELLED);
        sd_set_progress(c, NULL, NULL);
        sd_set_step(c, NULL, NULL);
        assert_int_equal(sd_generate(c, &p, &image), SD_OK);
        sd_image_free(&image);
    }
    assert_int_equal(temp_files(), 0);
    sd_close(c);
}

/* An error of a call that is made within a run ends the run, and does not outlive it. */
static void write_nowhere(void *user, const sd_denoised *step)
{
    sd_image image;
    sd_tokens tokens;
    if (sd_step_picture(user, step, 0, 1, &image)) return;
    assert_int_equal(sd_image_write(user, temp_path("no/such/a.png"), &image, NULL), SD_ERR_MISSING);
    assert_int_equal(sd_tokenize(user, "x", &tokens), SD_ERR_MISSING);
    sd_image_free(&image);
}

TEST(an_error_within_a_run_ends_it)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    sd_params p = short_run("a red apple", 64);
    sd_image image;
    sd_set_step(c, write_nowhere, c);
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_MISSING);
    assert_non_null(strstr(sd_error_text(c), "no/such/a.png"));
    sd_set_step(c, NULL, NULL);
    assert_int_equal(sd_generate(c, &p, &image), SD_OK);
    sd_image_free(&image);
    sd_close(c);
}

static void *cancel_later(void *user)
{
    struct timespec t = {0, 50000000};
    nanosleep(&t, NULL);
    sd_cancel(user);
    return NULL;
}

TEST(another_thread_cancels)
{
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    sd_params p = short_run("a red apple", 64);
    sd_image image;
    p.sampling.steps = 900;
    p.sampling.sampler = "euler";
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, c), 0);
        sd_status status = sd_generate(c, &p, &image);
        pthread_join(thread, NULL);
        assert_int_equal(status, SD_ERR_CANCELLED);
    }
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_on_a_context_that_was_not_opened_returns_its_error),
        cmocka_unit_test(a_cancel_with_nothing_running_cancels_nothing),
        cmocka_unit_test(a_cancel_within_a_run_ends_that_run_alone),
        cmocka_unit_test(an_error_within_a_run_ends_it),
        cmocka_unit_test(another_thread_cancels),
    };
    return cmocka_run_group_tests_name("context", tests, temp_make, temp_remove);
}
