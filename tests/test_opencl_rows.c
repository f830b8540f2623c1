/* test_opencl_rows.c - element-wise operations of the OpenCL backend, and those that move numbers: in the form for CPUs
 * and in the one for GPUs, against functions in double and against the CPU's specification. */
#include "opencl.h"

#include <math.h>
#include <stdlib.h>

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* ------------------------------------------------------------------------------- activations */

static double true_silu(double x) { return x / (1 + exp(-x)); }
static double true_quick_gelu(double x) { return x / (1 + exp(-1.702 * x)); }
static double true_gelu(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }
static double true_relu(double x) { return x < 0 ? 0 : x; }
static double true_soft_clamp(double x) { return 3 * tanh(x / 3); }
static double true_to_unit(double x) { return (float)((float)(x + 1) * 0.5f); }
static double true_from_unit(double x) { return (float)(2 * x - 1); }
static double tanh_gelu(double x) { return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

/* Results below this may be flushed to zero: the exponential ends at the smallest normal float. */
#define FLUSHED 1.1e-36

/* Bounds in units in the last place, those of the CPU's vector kernels (tests/test_kernels.c). */
static const struct { const char *name; sd_act act; double (*truth)(double); double bound; } activations[] = {
    {"silu", SD_ACT_SILU, true_silu, 3.4}, {"gelu", SD_ACT_GELU, true_gelu, 5.4},
    {"quick_gelu", SD_ACT_QUICK_GELU, true_quick_gelu, 3.5}, {"relu", SD_ACT_RELU, true_relu, 0},
    {"soft_clamp", SD_ACT_SOFT_CLAMP, true_soft_clamp, 2.5}, {"to_unit", SD_ACT_TO_UNIT, true_to_unit, 0},
    {"from_unit", SD_ACT_FROM_UNIT, true_from_unit, 0},
};

static double error_in_ulps(float y, double exact)
{
    int e;
    if (fabs(y - exact) <= FLUSHED) return 0;
    frexp(exact, &e);
    return fabs(y - exact) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

/* y = act(x) on the device, and the number that lies behind y stays what it was. */
static void run_act(cl_bench *b, float *y, const float *x, int64_t n, sd_act act)
{
    float after[16], seven[16];
    for (int i = 0; i < 16; i++) seven[i] = 7;
    sd_reset(&b->run, 0);
    sd_tensor t = sd_new_from(&b->run, 2, (const int64_t[]){1, n}, x),
        behind = sd_new_from(&b->run, 2, (const int64_t[]){1, 16}, seven);
    sd_act_(&b->run, t, act);
    sd_download(&b->run, t, y);
    sd_download(&b->run, behind, after);
    if (!sd_ok(&b->run)) fail_msg("%s", b->err.text);
    assert_memory_equal(after, seven, sizeof seven);
}

/* Every exponent and both signs, and the numbers between -8 and 8 more densely. */
TEST(activations_are_right_over_all_floats_in_both_forms)
{
    enum { N = 150000 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), *first = malloc(N * sizeof *first);
    int n = 0;
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += 60013)
        if (isfinite(float_of((uint32_t)u))) x[n++] = float_of((uint32_t)u);
    for (int i = 0; n < N - 13; i++) x[n++] = (float)(-8 + i * 2.1e-4);
    cl_bench b;
    cl_start(&b, 4 << 20);
    for (size_t a = 0; a < SD_COUNT(activations); a++) {
        double worst = 0;
        for (int cpu = 1; cpu >= 0; cpu--) {
            cl_form(&b, cpu);
            run_act(&b, cpu ? first : y, x, n, activations[a].act);
        }
        assert_memory_equal(first, y, (size_t)n * sizeof *y);
        for (int i = 0; i < n; i++) {
            double e = error_in_ulps(y[i], activations[a].truth(x[i]));
            if (e > worst) worst = e;
            if (e > activations[a].bound)
                fail_msg("%s(%.9g) is off by %.2f ULP: %.9g", activations[a].name, (double)x[i], e, (double)y[i]);
        }
        print_message("    %-10s max %.2f ULP\n", activations[a].name, worst);
    }
    free(x);
    free(y);
    free(first);
    cl_stop(&b);
}

/* The three are within 0.02 of one another. */
TEST(each_gelu_is_out_of_the_others_bounds)
{
    double worst[3] = {0};
    for (double x = -6; x <= 6; x += 0.01) {
        worst[0] = fmax(worst[0], error_in_ulps((float)tanh_gelu(x), true_gelu(x)));
        worst[1] = fmax(worst[1], error_in_ulps((float)true_quick_gelu(x), true_gelu(x)));
        worst[2] = fmax(worst[2], error_in_ulps((float)true_gelu(x), true_quick_gelu(x)));
    }
    for (int i = 0; i < 3; i++) assert_true(worst[i] > 1000);
}

TEST(activations_have_no_accidents_at_the_ends)
{
    enum { N = 21 };
    static const float big[] = {20, 87.3f, 88.8f, 104, 1e4f, 1e19f, 1e30f, 3.4e38f};
    float x[N] = {0.0f, -0.0f, INFINITY, NAN, -NAN}, y[N];
    for (int i = 0; i < 8; i++) x[5 + i] = big[i], x[13 + i] = -big[i];
    cl_bench b;
    cl_start(&b, 1 << 20);
    for (int cpu = 1; cpu >= 0; cpu--) {
        cl_form(&b, cpu);
        for (size_t a = 0; a < 4; a++) {
            run_act(&b, y, x, N, activations[a].act);
            assert_true(y[0] == 0 && !signbit(y[0]) && y[1] == 0 && signbit(y[1]));
            assert_true(y[2] == INFINITY && isnan(y[3]) && isnan(y[4]));
            for (int i = 0; i < 8; i++) assert_true(y[5 + i] == x[5 + i] && y[13 + i] <= 0 && y[13 + i] > -1e-7f);
        }
    }
    run_act(&b, y, x, N, SD_ACT_SOFT_CLAMP);
    assert_true(y[2] == 3 && isnan(y[3]) && y[5 + 7] == 3 && y[13 + 7] == -3);
    cl_stop(&b);
}

/* ------------------------------------------------------------------------------- the others */

/* A tensor of a fixed sequence of numbers */
static sd_tensor some(sd_run *r, uint32_t seed, int64_t n, int64_t h, int64_t w, int64_t c)
{
    float *x = cl_numbers(seed, (size_t)(n * h * w * c), 1, 0);
    sd_tensor t = sd_new_from(r, 4, (const int64_t[]){n, h, w, c}, x);
    free(x);
    return t;
}

typedef struct size { int64_t n, h, w, c; } size;

static sd_tensor op_add(sd_run *r, size s)
{
    sd_tensor y = some(r, 1, s.n, s.h, s.w, s.c);
    sd_add_(r, y, some(r, 2, s.n, s.h, s.w, s.c));
    return y;
}
static sd_tensor op_add_channels(sd_run *r, size s)
{
    sd_tensor y = some(r, 1, s.n, s.h, s.w, s.c);
    sd_add_channels_(r, y, sd_view2(r, some(r, 2, s.n, 1, 1, s.c), s.n, s.c));
    return y;
}
static sd_tensor op_concat(sd_run *r, size s)
{
    return sd_concat(r, some(r, 1, s.n, s.h, s.w, s.c), some(r, 2, s.n, s.h, s.w, s.c / 2 + 3));
}
static sd_tensor op_upsample(sd_run *r, size s)
{
    return sd_upsample(r, some(r, 1, s.n, s.h, s.w, s.c), 2 * s.h + 1, 3 * s.w - 1);
}
static sd_tensor op_sinusoid(sd_run *r, size s)
{
    const float value[] = {999, 0.5f, 3};
    return sd_sinusoid(r, 3, 2 * s.c, value, s.n == 1, 1);
}
static sd_tensor op_embed(sd_run *r, size s)
{
    static uint16_t half[8 * 320];
    const int32_t ids[] = {3, 0, 7, 7, 1, 2};
    float *numbers = cl_numbers(3, (size_t)(3 * s.c), 1, 0);
    for (size_t i = 0; i < SD_COUNT(half); i++) half[i] = (uint16_t)(0x3000 + 37 * i % 0x0c00);
    sd_tensor token = {.nd = 2, .dim = {8, s.c}, .dt = SD_F16, .data = half},
        position = {.nd = 2, .dim = {3, s.c}, .dt = SD_F32, .data = numbers};
    sd_tensor y = sd_embed(r, ids, 2, 3, &token, s.n == 1 ? NULL : &position);
    free(numbers);
    return y;
}

static const struct { const char *name; sd_tensor (*run)(sd_run *r, size s); } operations[] = {
    {"add", op_add}, {"add_channels", op_add_channels}, {"concat", op_concat}, {"upsample", op_upsample},
    {"sinusoid", op_sinusoid}, {"embed", op_embed}};

/* Both forms; fewer numbers than a vector has, and more than a group takes. */
TEST(other_operations_have_the_specifications_bits)
{
    const size sizes[] = {{1, 1, 1, 1}, {2, 3, 5, 7}, {2, 9, 8, 40}, {1, 6, 11, 320}, {2, 33, 31, 17}};
    cl_bench b;
    cl_start(&b, 8 << 20);
    for (int cpu = 0; cpu < 2; cpu++) {
        cl_form(&b, cpu);
        for (size_t o = 0; o < SD_COUNT(operations); o++)
            for (size_t s = 0; s < SD_COUNT(sizes); s++) {
                sd_reset(&b.run, 0);
                sd_reset(&b.near, 0);
                sd_tensor t = operations[o].run(&b.near, sizes[s]);
                float *truth = cl_read(&b.near, t), *y = cl_read(&b.run, operations[o].run(&b.run, sizes[s]));
                if (memcmp(truth, y, (size_t)sd_numel(&t) * sizeof *y) != 0)
                    fail_msg("%s of size %zu differs (cpu %d)", operations[o].name, s, cpu);
                free(truth);
                free(y);
            }
    }
    cl_stop(&b);
}

/* The value comes first, the gate second. */
TEST(geglu_multiplies_by_gelu_of_the_second_half)
{
    const int64_t columns[] = {1, 5, 16, 100, 1280};
    cl_bench b;
    cl_start(&b, 4 << 20);
    for (int cpu = 0; cpu < 2; cpu++) {
        cl_form(&b, cpu);
        for (size_t i = 0; i < SD_COUNT(columns); i++) {
            int64_t C = columns[i], rows = 37;
            float *x = cl_numbers(7, (size_t)(rows * 2 * C), 3, 0);
            sd_reset(&b.run, 0);
            float *y = cl_read(&b.run, sd_geglu(&b.run, sd_new_from(&b.run, 2, (const int64_t[]){rows, 2 * C}, x)));
            double swapped = 0;
            for (int64_t k = 0; k < rows * C; k++) {
                double value = x[k / C * 2 * C + k % C], gate = x[k / C * 2 * C + C + k % C];
                assert_true(error_in_ulps(y[k], value * true_gelu(gate)) < 6.5);
                swapped = fmax(swapped, error_in_ulps(y[k], gate * true_gelu(value)));
            }
            assert_true(swapped > 1000);
            free(x);
            free(y);
        }
    }
    cl_stop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_are_right_over_all_floats_in_both_forms),
        cmocka_unit_test(each_gelu_is_out_of_the_others_bounds),
        cmocka_unit_test(activations_have_no_accidents_at_the_ends),
        cmocka_unit_test(other_operations_have_the_specifications_bits),
        cmocka_unit_test(geglu_multiplies_by_gelu_of_the_second_half),
    };
    return cmocka_run_group_tests_name("opencl_rows", tests, NULL, NULL);
}
