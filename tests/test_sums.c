/* test_sums.c - the sums that diffusers' own tests of its schedulers state: numbers that need no weights. */
#include "../rng.h"
#include "../sampler.h"

#include <math.h>

#include "test.h"
enum { N = 768 };

typedef struct loop {
    const sd_sampler *s;
    sd_rng rng;
} loop;

/* The Euler family scales what it gives to the model. */
static double scale_of(const loop *l, int i)
{
    return sd_sampler_init_sigma(l->s) == 1.0 ? 1.0 : sqrt(1 + pow(sd_sampler_sigma(l->s, i), 2));
}

/* tests/schedulers of diffusers: x = arange(768)/768 as (3,8,8,4) permuted to (4,3,8,8), model(x, t) = x t / (t + 1),
 * betas linear, mostly 10 steps; the Euler loops put the scaled latents in the latents' place. The latents
 * are the scaled ones already, and the sampler scales what it gives to the model once more. */
static sd_status share_of_t(void *user, int i, double t, const float *input, float *prediction)
{
    double scale = scale_of(user, i);
    for (int k = 0; k < N; k++) prediction[k] = (float)(input[k] * scale * t / (t + 1));
    return SD_OK;
}

static sd_status put_scaled_latents(void *user, int i, float *latents)
{
    const loop *l = user;
    if (i == sd_sampler_count(l->s)) return SD_OK;
    for (int k = 0; k < N; k++) latents[k] = (float)(latents[k] / scale_of(l, i));
    return SD_OK;
}

static sd_status torch_noise(void *user, double from, double to, float *out, size_t n)
{
    (void)from;
    (void)to;
    sd_rng_normal(&((loop *)user)->rng, out, n);
    return SD_OK;
}

/* sum |x| at the end. */
static double full_loop(const sd_sched_config *c, int steps)
{
    sd_error e = {.status = SD_OK};
    sd_sampler *s;
    float x[N];
    if (sd_sampler_new(&s, c, steps, &e)) fail_msg("%s", e.text);
    for (int k = 0; k < N; k++) {
        int b = k / 192, rest = k % 192;
        x[k] = (float)(((rest * 4 + b) / 768.0) * sd_sampler_init_sigma(s));
    }
    loop l = {.s = s};
    sd_rng_seed(&l.rng, 0);
    sd_denoiser d = {&l, share_of_t, put_scaled_latents, NULL, torch_noise, 1, NULL, NULL};
    if (sd_sampler_run(s, x, N, &d, &e)) fail_msg("%s", e.text);
    sd_sampler_free(s);
    double sum = 0;
    for (int k = 0; k < N; k++) sum += fabs(x[k]);
    return sum;
}

TEST(sums_of_diffusers_tests_come_out)
{
    const struct { sd_method m; sd_prediction p; int alpha_one; double beta_start, sum; } cases[] = {
        {SD_DDIM, SD_PRED_EPSILON, -1, 0.0001, 172.0067},
        {SD_DDIM, SD_PRED_V, -1, 0.0001, 52.5302},
        {SD_DDIM, SD_PRED_EPSILON, 1, 0.01, 149.8295},
        {SD_DDIM, SD_PRED_EPSILON, 0, 0.01, 149.0784},
        {SD_PNDM, SD_PRED_EPSILON, -1, 0.0001, 198.1318},
        {SD_PNDM, SD_PRED_V, -1, 0.0001, 67.3986},
        {SD_PNDM, SD_PRED_EPSILON, 1, 0.01, 230.0369},   /* the class in float64; stated: 230.0399 +- 0.01 */
        {SD_PNDM, SD_PRED_EPSILON, 0, 0.01, 186.9448},   /* stated: 186.9482 +- 0.01; in float32 186.9412 */
        {SD_EULER, SD_PRED_EPSILON, -1, 0.0001, 10.0807},
        {SD_EULER, SD_PRED_V, -1, 0.0001, 0.0},
        {SD_EULER_A, SD_PRED_EPSILON, -1, 0.0001, 152.3192},   /* with torch's noise of seed 0 */
        {SD_EULER_A, SD_PRED_V, -1, 0.0001, 108.4439},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_sched_config c;
        sd_sched_defaults(&c, cases[i].m);
        c.prediction = cases[i].p;
        c.beta_start = cases[i].beta_start;
        if (cases[i].alpha_one >= 0) c.set_alpha_to_one = cases[i].alpha_one;
        if (cases[i].m == SD_EULER || cases[i].m == SD_EULER_A) c.train_steps = 1100;
        double sum = full_loop(&c, 10);
        if (fabs(sum - cases[i].sum) > 5e-4)
            fail_msg("%s %s: expected %.4f, found %.4f", sd_method_name(c.method), sd_prediction_name(c.prediction),
                     cases[i].sum, sum);
    }
}

/* The same for the other classes; their tests state sums or means of |x|. */
TEST(sums_of_the_other_classes_tests_come_out)
{
    const struct { sd_method m; sd_prediction p; int train, steps; bool ends_low; double stated, within; } cases[] = {
        {SD_HEUN, SD_PRED_EPSILON, 1100, 10, false, 0.1233, 1e-2},
        {SD_LMS, SD_PRED_EPSILON, 1100, 10, false, 1006.388, 2e-3},
        {SD_DPM2, SD_PRED_EPSILON, 1100, 10, false, 20.4125, 1e-2},
        {SD_DPM2_A, SD_PRED_EPSILON, 1100, 10, false, 13979.9433, 5e-1},
        {SD_UNIPC, SD_PRED_EPSILON, 1000, 10, true, 0.2464 * 768, 0.05},
        {SD_DEIS, SD_PRED_EPSILON, 1000, 10, true, 0.23916 * 768, 0.05},
        {SD_DPMPP_2M, SD_PRED_EPSILON, 1000, 10, true, 0.3301 * 768, 0.05},
        {SD_DPMPP_2S, SD_PRED_EPSILON, 1000, 10, true, 0.2791 * 768, 0.05},
        {SD_DDPM, SD_PRED_EPSILON, 1000, 1000, false, 258.9606, 1e-2},
        {SD_DDPM, SD_PRED_V, 1000, 1000, false, 202.0296, 1e-2},
        {SD_LCM, SD_PRED_EPSILON, 1000, 1, false, 18.7097, 1e-3},
        {SD_LCM, SD_PRED_EPSILON, 1000, 10, false, 197.7616, 1e-3},
        {SD_TCD, SD_PRED_EPSILON, 1000, 1, false, 29.8715, 1e-3},
        {SD_TCD, SD_PRED_EPSILON, 1000, 10, false, 181.2040, 1e-3},
    };
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_sched_config c;
        sd_sched_defaults(&c, cases[i].m);
        c.prediction = cases[i].p;
        c.train_steps = cases[i].train;
        if (c.method != SD_LCM && c.method != SD_TCD) {
            c.beta_start = 0.0001;
            c.beta_end = 0.02;
        }
        if (c.method == SD_TCD) c.eta = 0;
        if (c.method == SD_DPMPP_2M) c.lower_order_final = false;
        c.final_sigma_min = cases[i].ends_low;
        double sum = full_loop(&c, cases[i].steps);
        if (fabs(sum - cases[i].stated) > cases[i].within)
            fail_msg("%s, %d steps: stated %.4f, found %.4f", sd_method_name(c.method), cases[i].steps, cases[i].stated,
                     sum);
    }
    sd_sched_config c;   /* Euler on Karras' levels; the class in float64: 124.5178 */
    sd_sched_defaults(&c, SD_EULER);
    c.train_steps = 1100;
    c.curve = SD_CURVE_KARRAS;
    assert_true(fabs(full_loop(&c, 10) - 124.5230) < 1e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_diffusers_tests_come_out),
        cmocka_unit_test(sums_of_the_other_classes_tests_come_out),
    };
    return cmocka_run_group_tests_name("sums", tests, NULL, NULL);
}
