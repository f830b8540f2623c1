/* test_opencl_memory.c - the OpenCL backend's memory: weights go to the device as they are, are packed, and are found
 * again. */
#include "opencl.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_is_packed_into_strips_of_its_own_type),
        cmocka_unit_test(a_weight_is_there_as_floats_in_the_order_of_its_file),
        cmocka_unit_test(a_weight_with_a_number_is_uploaded_once_for_each_version),
    };
    return cmocka_run_group_tests_name("opencl memory", tests, NULL, NULL);
}
