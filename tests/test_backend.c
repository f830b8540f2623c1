/* test_backend.c - a backend whose memory nobody but itself can read draws the CPU's picture, bit for bit. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include "distant.h"
#include "network.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------------- everything that is seen */

/* Every traced tensor by a number: the bits of them all, in order. */
typedef struct digest { uint64_t hash[4096]; char name[4096][96]; int n; } digest;

static void take(void *user, const sd_traced *t)
{
    digest *d = user;
    size_t bytes = sd_dtype_size(t->dtype);
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < t->nd; i++) bytes *= (size_t)t->dim[i];
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)t->data)[i]) * UINT64_C(0x100000001b3);
    assert_true((size_t)d->n < SD_COUNT(d->hash));
    snprintf(d->name[d->n], sizeof d->name[0], "%s", t->name);
    d->hash[d->n++] = h;
}

/* The context's run, moved to the device. */
static distant *move_away(sd_ctx *c)
{
    distant *d = distant_open(&c->cpu);
    sd_run_free(&c->run);
    c->run.be = &distant_backend;
    c->run.device = d;
    return d;
}

static digest near, far;

/* What passes the filter has the same bits on both. Returns the device's state, to be looked at and closed. */
static distant *compare_bits(const char *filter)
{
    static float posterior[2][2 * ENCODED];
    sd_ctx *c = open_tiny(SD_PART_ALL, 2);
    near.n = far.n = 0;
    assert_int_equal(sd_set_trace(c, filter, take, &near), SD_OK);
    sd_image image = draw_and_encode(c, posterior[0]);
    sd_image_free(&image);
    distant *d = move_away(c);
    assert_int_equal(sd_set_trace(c, filter, take, &far), SD_OK);
    image = draw_and_encode(c, posterior[1]);
    sd_image_free(&image);
    assert_int_equal(near.n, far.n);
    for (int i = 0; i < near.n; i++) {
        assert_string_equal(near.name[i], far.name[i]);
        if (near.hash[i] != far.hash[i]) fail_msg("%s: other bits", near.name[i]);
    }
    assert_memory_equal(posterior[0], posterior[1], sizeof posterior[0]);
    sd_close(c);
    return d;
}

TEST(a_distant_device_draws_the_same_picture)
{
    distant *d = compare_bits("image");
    assert_int_equal(far.n, 1);
    assert_true(d->weights > 200);
    enum { EVALUATIONS = 5 };                                 /* PNDM's, of four steps */
    assert_int_equal(d->uploads, 2 * EVALUATIONS + 1 + 1);    /* latents and context each time; latents; a picture */
    assert_int_equal(d->downloads, 1 + EVALUATIONS + 1 + 1);  /* the prompts' context; noise each time; two results */
    distant_close(d);
}

TEST(every_traced_tensor_of_a_distant_device_has_the_same_bits)
{
    distant *d = compare_bits(NULL);
    assert_true(far.n > 1000);
    distant_close(d);
}

/* The proof's other half: whoever looks at an activation of that device is not left alive. */
TEST(a_peek_at_distant_memory_is_the_end)
{
    pid_t child = fork();
    if (child == 0) {
        sd_error e = {0};
        sd_cpu cpu = {.kern = &sd_kern_spec, .threads = 1};
        distant *d = distant_open(&cpu);
        sd_run r = {.err = &e, .be = &distant_backend, .device = d};
        if (sd_reserve(&r, 4096, "a test")) _exit(0);
        sd_tensor x = sd_new2(&r, 2, 2);
        const volatile float *peek = x.data;
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        _exit(*peek > 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_distant_device_draws_the_same_picture),
        cmocka_unit_test(every_traced_tensor_of_a_distant_device_has_the_same_bits),
        cmocka_unit_test(a_peek_at_distant_memory_is_the_end),
    };
    return cmocka_run_group_tests_name("backend", tests, NULL, NULL);
}
