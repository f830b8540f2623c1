/* test_opencl_memory.c - the OpenCL backend's memory: weights go to the device as they are, are packed, and are found
 * again. */
#include "opencl.h"
#include "context.h"
#include "../pipeline.h"

#include <stdlib.h>
#include <string.h>

typedef struct weight_case { sd_dtype dt; double scale; int64_t O, I, kh; sd_cl_type type; } weight_case;

/* A weight of this type: its numbers are in *bytes, at an odd address; free() them. */
static sd_tensor weight_of(const weight_case *c, unsigned char **bytes)
{
    size_t n = (size_t)(c->O * c->I * c->kh * c->kh);
    float *x = cl_numbers((uint32_t)n, n, 1, 0);
    *bytes = malloc(sd_dtype_bytes(c->dt, n) + 1);
    assert_non_null(*bytes);
    sd_narrow(*bytes + 1, c->dt, x, n);
    free(x);
    return (sd_tensor){.nd = 4, .dim = {c->O, c->I, c->kh, c->kh}, .dt = c->dt, .scale = (float)c->scale,
                       .data = *bytes + 1, .name = "weight"};
}

static void *read_buffer(cl_bench *b, cl_mem buffer, size_t bytes)
{
    void *to = malloc(bytes);
    assert_non_null(to);
    sd_cl_wait(&b->run);
    assert_int_equal(clEnqueueReadBuffer(b->cl->queue, buffer, CL_TRUE, 0, bytes, to, 0, NULL, NULL), CL_SUCCESS);
    return to;
}

static double number_of(const void *x, sd_cl_type type, size_t i)
{
    uint16_t h;
    float f;
    if (type == SD_CL_FLOAT) {
        memcpy(&f, (const unsigned char *)x + i * sizeof f, sizeof f);
        return f;
    }
    memcpy(&h, (const unsigned char *)x + i * sizeof h, sizeof h);
    sd_widen(&f, &h, type == SD_CL_HALF ? SD_F16 : SD_BF16, 1, &sd_kern_spec);
    return f;
}

/* [O / 32][ky][kx][i][32] */
static void expect_strips(cl_bench *b, const sd_tensor *w, sd_cl_matrix m)
{
    size_t O = (size_t)w->dim[0], I = (size_t)w->dim[1], taps = (size_t)(w->dim[2] * w->dim[3]), K = I * taps;
    size_t strips = (O + SD_CL_STRIP - 1) / SD_CL_STRIP, n = strips * SD_CL_STRIP * K;
    float *x = malloc(O * K * sizeof *x);
    assert_non_null(x);
    sd_widen_weight(x, w, 0, O * K, &sd_kern_spec);
    void *y = read_buffer(b, m.buffer, n * (m.type == SD_CL_FLOAT ? 4 : 2));
    for (size_t i = 0; i < n; i++) {
        size_t o = i / SD_CL_STRIP / K * SD_CL_STRIP + i % SD_CL_STRIP, k = i / SD_CL_STRIP % K;
        double expected = o < O ? (double)x[o * K + k % I * taps + k / I] : 0;
        if (number_of(y, m.type, i) != expected) fail_msg("number %zu of the strips is wrong", i);
    }
    free(x);
    free(y);
}

static const weight_case weights[] = {
    {SD_F32, 0, 64, 48, 1, SD_CL_FLOAT}, {SD_F32, 0, 77, 5, 3, SD_CL_FLOAT}, {SD_F16, 0, 77, 5, 3, SD_CL_HALF},
    {SD_F16, 0, 3, 33, 1, SD_CL_HALF}, {SD_BF16, 0, 40, 7, 3, SD_CL_BFLOAT}, {SD_F16, 0.5, 33, 4, 1, SD_CL_FLOAT},
    {SD_F64, 0, 33, 4, 3, SD_CL_FLOAT}, {SD_F8_E4M3, 0, 33, 4, 3, SD_CL_FLOAT}, {SD_Q8_0, 0, 33, 96, 1, SD_CL_FLOAT},
    {SD_F32, 0, 3000, 3200, 1, SD_CL_FLOAT}};   /* several pieces */

TEST(a_weight_is_packed_into_strips_of_its_own_type)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    for (size_t i = 0; i < SD_COUNT(weights); i++) {
        unsigned char *bytes;
        sd_tensor w = weight_of(&weights[i], &bytes);
        sd_cl_matrix m = sd_cl_packed(&b.run, &w);
        if (b.err.status) fail_msg("%s", b.err.text);
        assert_int_equal(m.type, weights[i].type);
        expect_strips(&b, &w, m);
        free(bytes);
    }
    cl_stop(&b);
}

TEST(a_weight_is_there_as_floats_in_the_order_of_its_file)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    for (size_t i = 0; i < SD_COUNT(weights); i++) {
        unsigned char *bytes;
        sd_tensor w = weight_of(&weights[i], &bytes);
        size_t n = (size_t)sd_numel(&w);
        float *x = malloc(n * sizeof *x);
        assert_non_null(x);
        sd_widen_weight(x, &w, 0, n, &sd_kern_spec);
        cl_mem m = sd_cl_floats(&b.run, &w);
        if (b.err.status) fail_msg("%s", b.err.text);
        float *y = read_buffer(&b, m, n * sizeof *x);
        assert_memory_equal(x, y, n * sizeof *x);
        free(x);
        free(y);
        free(bytes);
    }
    assert_true(sd_cl_floats(&b.run, NULL) == b.cl->nothing);
    cl_stop(&b);
}

TEST(a_weight_with_a_number_is_uploaded_once_for_each_version)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    unsigned char *bytes;
    sd_tensor w = weight_of(&weights[1], &bytes);
    w.id = 5000;
    cl_mem first = sd_cl_packed(&b.run, &w).buffer, flat = sd_cl_floats(&b.run, &w);
    memset(bytes + 1, 0, 4);
    assert_true(sd_cl_packed(&b.run, &w).buffer == first);
    assert_true(sd_cl_floats(&b.run, &w) == flat && flat != first);
    uint64_t taken = 0;
    for (w.version = 1; w.version < 8; w.version++) {
        if (w.version == 4) taken = b.cl->taken;
        expect_strips(&b, &w, sd_cl_packed(&b.run, &w));
    }
    assert_int_equal(b.cl->taken, taken);   /* the old ones have gone */
    free(bytes);
    cl_stop(&b);
}

/* ---- little memory */

enum { NETWORK = 24, ROWS = 96, WIDTH = 200 };   /* 76.8 KB each: none is so small that it always stays */

typedef struct network { float *numbers[NETWORK]; sd_tensor w[NETWORK]; } network;

static network network_of(uint32_t id)
{
    network n;
    for (uint32_t i = 0; i < NETWORK; i++) {
        n.numbers[i] = cl_numbers(id + i, ROWS * WIDTH, 1, 0);
        n.w[i] = cl_weight(n.numbers[i], 4, (const int64_t[]){ROWS, WIDTH, 1, 1});
        n.w[i].id = id + i;
    }
    return n;
}

static void free_network(network *n)
{
    for (int i = 0; i < NETWORK; i++) free(n->numbers[i]);
}

/* Uses all weights in turn. Returns how many of them stay on the device. */
static int pass(cl_bench *b, const network *n)
{
    for (int i = 0; i < NETWORK; i++) {
        sd_cl_matrix m = sd_cl_packed(&b->run, &n->w[i]);
        if (b->err.status) fail_msg("%s", b->err.text);
        expect_strips(b, &n->w[i], m);
        assert_true(b->cl->taken <= b->cl->memory);
    }
    return (int)(b->cl->weight_bytes / (ROWS * WIDTH * sizeof(float)));
}

TEST(weights_that_do_not_fit_pass_through_and_the_others_stay)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    network n = network_of(1);
    b.cl->memory = 1000000;
    sd_cl_enter(&b.run, false);
    pass(&b, &n);
    int stay = pass(&b, &n);
    assert_true(stay > 3 && stay < NETWORK);   /* of 1.84 MB */
    assert_int_equal(pass(&b, &n), stay);
    b.cl->memory = 10000000;
    assert_int_equal(pass(&b, &n), NETWORK);
    free_network(&n);
    cl_stop(&b);
}

TEST(weights_of_an_earlier_network_leave_where_memory_is_short)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    network one = network_of(1), other = network_of(100);
    b.cl->memory = 3500000;
    sd_cl_enter(&b.run, false);
    assert_int_equal(pass(&b, &one), NETWORK);
    sd_cl_enter(&b.run, false);
    pass(&b, &other);
    for (int i = 0; i < NETWORK; i++) {   /* all stay: not one number is asked for again */
        memset(other.numbers[i], 0, sizeof(float));
        sd_cl_packed(&b.run, &other.w[i]);
    }
    uint64_t uses = b.cl->slot[0].bytes + b.cl->next_slot;
    for (int i = 0; i < NETWORK; i++) sd_cl_packed(&b.run, &other.w[i]);
    assert_int_equal(b.cl->slot[0].bytes + b.cl->next_slot, uses);
    free_network(&one);
    free_network(&other);
    cl_stop(&b);
}

TEST(a_network_that_streams_leaves_only_small_weights_behind)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    network n = network_of(1);
    sd_tensor small = cl_weight(n.numbers[0], 1, (const int64_t[4]){200});
    small.id = 99;
    sd_cl_enter(&b.run, true);
    pass(&b, &n);
    assert_int_equal(pass(&b, &n), 0);
    cl_mem stays = sd_cl_floats(&b.run, &small);
    assert_int_equal(b.cl->weight_bytes, 200 * sizeof(float));
    pass(&b, &n);
    assert_true(sd_cl_floats(&b.run, &small) == stays);
    sd_cl_enter(&b.run, false);
    assert_int_equal(pass(&b, &n), NETWORK);
    free_network(&n);
    cl_stop(&b);
}

TEST(working_memory_drives_weights_out_and_what_is_more_than_all_is_a_sentence)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    network n = network_of(1);
    b.cl->memory = 4000000;
    sd_cl_enter(&b.run, false);
    assert_int_equal(pass(&b, &n), NETWORK);
    assert_int_equal(sd_reserve(&b.run, 2500000, "the working space"), SD_OK);
    int stay = pass(&b, &n);
    assert_true(stay > 0 && stay < NETWORK);
    assert_true(sd_room_of(&b.run).bytes < 750000);
    assert_int_equal(sd_reserve(&b.run, 5000000, "the working space of the UNet"), SD_ERR_MEMORY);
    assert_non_null(strstr(b.err.text, " has no memory for the working space of the UNet: 5.0 MB, beside "));
    assert_non_null(strstr(b.err.text, " MB that are taken, of 4.0 MB in all"));
    sd_error_clear(&b.err);
    free_network(&n);
    cl_stop(&b);
}

TEST(memory_is_several_buffers_where_one_cannot_be_large_enough)
{
    cl_bench b;
    cl_start(&b, 1 << 10);
    sd_run_free(&b.run);
    b.cl->most = 100000;   /* parts of 99968 bytes */
    float *x = cl_numbers(3, 20004, 1, 0);
    assert_int_equal(sd_reserve(&b.run, 400000, "a test"), SD_OK);
    assert_int_equal(b.cl->block[0].buffers, 5);
    sd_tensor t[4];
    for (int i = 0; i < 4; i++) t[i] = sd_new_from(&b.run, 2, (const int64_t[]){1, 20000}, x + i);   /* 80 KB each */
    if (b.err.status) fail_msg("%s", b.err.text);
    assert_true(sd_cl_find(&b.run, t[0]).buffer != sd_cl_find(&b.run, t[1]).buffer);
    assert_int_equal(b.run.arena.peak, 3 * 99968 + 80000);
    size_t mark = sd_mark(&b.run) - 80000 - 99968;
    t[3] = sd_move_down(&b.run, mark, t[3]);
    float *y = cl_read(&b.run, t[3]);
    assert_memory_equal(x + 3, y, 20000 * sizeof *x);
    free(y);
    sd_new2(&b.run, 1, 30000);
    assert_int_equal(b.err.status, SD_ERR_MEMORY);
    sd_error_clear(&b.err);
    free(x);
    cl_stop(&b);
}

/* ---- pictures */

typedef struct limits {
    const char *what;
    int residency;
    double of_weights;   /* so much of the weights' bytes fits; 0: all and more */
    uint64_t most;       /* bytes of a buffer; 0: as the device says */
    uint64_t vae_memory;
} limits;

typedef struct drawn { sd_image image; uint64_t taken, weights; } drawn;

/* before: what the same picture took without limits; NULL: this one has none */
static drawn draw(const limits *l, const drawn *before)
{
    sd_options o;
    drawn d = {{0}, 0, 0};
    sd_options_init(&o);
    o.device = "opencl";
    o.cache = "";
    o.residency = l->residency;
    o.vae_memory = l->vae_memory;
    sd_ctx *c = open_context(&o, SD_OK);
    sd_cl *cl = c->run.device;
    double others = before ? (double)(before->taken - before->weights) : 0;
    if (before && l->of_weights > 0)
        cl->memory = (uint64_t)((others + l->of_weights * (double)before->weights) * 16 / 15);
    if (l->most) cl->most = l->most;
    sd_params p = short_run("a red apple", 64);
    if (sd_generate(c, &p, &d.image)) fail_msg("%s: %s", l->what, sd_error_text(c));
    assert_true(cl->taken <= cl->memory);
    d.taken = cl->taken;
    d.weights = cl->weight_bytes;
    sd_close(c);
    return d;
}

TEST(little_memory_changes_no_bit_of_a_picture)
{
    static const limits none = {"all there is", SD_RESIDENCY_MAP, 0, 0, 0};
    static const limits cases[] = {
        {"weights that stream", SD_RESIDENCY_STREAM, 0, 0, 0},
        {"a device that holds a half of the weights", SD_RESIDENCY_MAP, 0.5, 0, 0},
        {"small buffers", SD_RESIDENCY_MAP, 0, 2 << 20, 0},
        {"a VAE in bands, in small buffers", SD_RESIDENCY_MAP, 0, 2 << 20, 1 << 20}};
    cl_bench b;
    cl_start(&b, 1 << 10);   /* skips without a device */
    cl_stop(&b);
    drawn all = draw(&none, NULL);
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        drawn d = draw(&cases[i], &all);
        print_message("    %s: %.1f MB, of which %.1f MB are weights, instead of %.1f and %.1f\n", cases[i].what,
                      (double)d.taken / 1e6, (double)d.weights / 1e6, (double)all.taken / 1e6,
                      (double)all.weights / 1e6);
        if (memcmp(d.image.data, all.image.data, 64 * 64 * 3) != 0) fail_msg("%s: another picture", cases[i].what);
        sd_image_free(&d.image);
    }
    sd_image_free(&all.image);
}

TEST(too_little_memory_is_a_sentence_and_the_next_run_has_what_it_needs)
{
    sd_options o;
    cl_bench b;
    cl_start(&b, 1 << 10);
    cl_stop(&b);
    sd_options_init(&o);
    o.device = "opencl";
    o.cache = "";
    sd_ctx *c = open_context(&o, SD_OK);
    sd_cl *cl = c->run.device;
    uint64_t memory = cl->memory, most = cl->most;
    sd_image image = {0};
    sd_params p = short_run("a red apple", 64);
    cl->memory = cl->taken + 1000000;
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_MEMORY);
    assert_non_null(strstr(sd_error_text(c), "drawing 1 picture of 64x64 at once takes "));
    assert_non_null(strstr(sd_error_text(c), " GB of the device's memory, and "));
    cl->memory = memory;
    cl->most = 100000;
    assert_int_equal(sd_generate(c, &p, &image), SD_ERR_MEMORY);
    assert_non_null(strstr(sd_error_text(c), " has a tensor of "));
    assert_non_null(strstr(sd_error_text(c), " GB, and this device can have 0.0001 GB at once"));
    cl->most = most;
    if (sd_generate(c, &p, &image)) fail_msg("%s", sd_error_text(c));
    sd_image_free(&image);
    sd_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_memory_changes_no_bit_of_a_picture),
        cmocka_unit_test(too_little_memory_is_a_sentence_and_the_next_run_has_what_it_needs),
        cmocka_unit_test(weights_that_do_not_fit_pass_through_and_the_others_stay),
        cmocka_unit_test(weights_of_an_earlier_network_leave_where_memory_is_short),
        cmocka_unit_test(a_network_that_streams_leaves_only_small_weights_behind),
        cmocka_unit_test(working_memory_drives_weights_out_and_what_is_more_than_all_is_a_sentence),
        cmocka_unit_test(memory_is_several_buffers_where_one_cannot_be_large_enough),
        cmocka_unit_test(a_weight_is_packed_into_strips_of_its_own_type),
        cmocka_unit_test(a_weight_is_there_as_floats_in_the_order_of_its_file),
        cmocka_unit_test(a_weight_with_a_number_is_uploaded_once_for_each_version),
    };
    return cmocka_run_group_tests_name("opencl memory", tests, NULL, NULL);
}
