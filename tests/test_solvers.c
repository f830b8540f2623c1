/* test_solvers.c - every sampler on every schedule, against diffusers and k-diffusion in float64 (tests/golden/
 * sampler_solvers.txt, made by tools/golden_solvers.py), against the exact solution of a problem that has one, and with
 * the known mistakes, which must be caught. */
#include "../rng.h"
#include "../sampler_run.h"
#include "../selftest.h"

#include <float.h>
#include <math.h>

#include "test.h"

static sd_error no_error(void) { return (sd_error){.status = SD_OK}; }

/* -------------------------------------------------------------------------------- golden runs */

typedef sd_sampler_case golden_case;

static golden_case *cases;
static int n_cases;

/* The whole file; free it. */
static char *read_golden(void)
{
    sd_error e = no_error();
    char *text;
    size_t n;
    if (sd_read_file("tests/golden/sampler_solvers.txt", (size_t)1 << 22, &text, &n, &e)) fail_msg("%s", e.text);
    return text;
}

static int load(UNUSED void **state)
{
    sd_error e = no_error();
    if (sd_sampler_cases_read("tests/golden/sampler_solvers.txt", &cases, &n_cases, &e)) fail_msg("%s", e.text);
    return 0;
}

static int unload(UNUSED void **state)
{
    free(cases);
    return 0;
}

static sd_sched_config config_of(const golden_case *g)
{
    sd_error e = no_error();
    sd_sched_config c;
    if (sd_sampler_case_config(g, &c, &e)) fail_msg("%s", e.text);
    return c;
}

static void note(double *worst, double bad)
{
    if (!(bad <= *worst)) *worst = bad;
}

/* A golden run with the settings c; worst and worst_schedule tell. */
static sd_sampler_case_result run_case(const golden_case *g, const sd_sched_config *c)
{
    sd_error e = no_error();
    sd_sampler_case_result r;
    if (sd_sampler_case_run(g, c, &r, &e)) fail_msg("%s %s %d steps: %s", g->name, g->curve, g->steps, e.text);
    return r;
}

TEST(every_sampler_on_every_schedule_equals_its_program)
{
    double worst = 0, schedule = 0;
    int bad = 0;
    for (int i = 0; i < n_cases; i++) {
        const golden_case *g = &cases[i];
        sd_sched_config c = config_of(g);
        sd_sampler_case_result by = run_case(g, &c);
        /* dpm_adaptive's levels follow from its latents, which are float32 */
        double allowed = c.method == SD_DPM_ADAPTIVE ? 1e-5 : 1e-6;
        if (!(by.worst <= 1) || !(by.worst_schedule <= allowed)) {
            bad++;
            print_message("%s %s %s %s %d%s: latents %.3g of what is allowed, schedule off by %.3g, %d of %d "
                          "evaluations\n", g->name, g->curve, g->spacing, g->prediction, g->steps, g->more, by.worst,
                          by.worst_schedule, by.evaluations, g->count);
        }
        note(&worst, by.worst);
        if (c.method != SD_DPM_ADAPTIVE) note(&schedule, by.worst_schedule);
    }
    print_message("%d runs, largest error %.3f of max(3 e32, 4 roundings), of a schedule %.2g\n", n_cases, worst,
                  schedule);
    assert_int_equal(bad, 0);
}

/* ----------------------------------------------------------------------------- wrong twins */

/* Judges one mistake: `spoil` changes the settings of each run it applies to, and every such run must then fail. */
static void twin_fails(bool (*spoil)(const golden_case *, sd_sched_config *), int at_least)
{
    int seen = 0;
    for (int i = 0; i < n_cases; i++) {
        const golden_case *g = &cases[i];
        sd_sched_config c = config_of(g);
        if (!spoil(g, &c)) continue;
        sd_sampler_case_result by = run_case(g, &c);
        if (!(by.worst > 3))
            fail_msg("the mistake passes: %s %s %s %d%s: %.3g", g->name, g->curve, g->spacing, g->steps, g->more,
                     by.worst);
        seen++;
    }
    assert_true(seen >= at_least);
}

static bool spoil_prediction(const golden_case *g, sd_sched_config *c)
{
    bool edm = c->method == SD_EDM_EULER;   /* where the other type is another sign */
    if (c->prediction == SD_PRED_SAMPLE || c->method == SD_IPNDM || c->rescale_zero_snr) return false;
    c->prediction = c->prediction == SD_PRED_V ? SD_PRED_EPSILON : SD_PRED_V;
    return g->steps > 1 || edm;
}

static bool spoil_order(const golden_case *g, sd_sched_config *c)
{
    c->order--;
    return strstr(g->more, "order=") && c->order > 0 && c->method != SD_DPM_ADAPTIVE;
}

static bool spoil_solver(const golden_case *g, sd_sched_config *c)
{
    static const sd_solver other[] = {SD_SOLVER_HEUN, SD_SOLVER_MIDPOINT, SD_SOLVER_BH2, SD_SOLVER_BH1};
    c->solver = other[c->solver];
    return strstr(g->more, "solver") && c->order > 1;
}

/* Trap 37: diffusers' curves lie between the ends of the spaced sigmas, k-diffusion's between those of the model. */
static bool spoil_range(const golden_case *g, sd_sched_config *c)
{
    bool karras = c->curve == SD_CURVE_KARRAS;
    c->curve = karras ? SD_CURVE_KARRAS_K : SD_CURVE_EXPONENTIAL_K;
    bool other_ends = g->steps > 2 && strcmp(g->spacing, "linspace") != 0;
    return other_ends && strcmp(g->curve, karras ? "karras" : "exponential") == 0;
}

static bool spoil_curve(const golden_case *g, sd_sched_config *c)
{
    if (c->curve != SD_CURVE_KARRAS && c->curve != SD_CURVE_KARRAS_K) return false;
    c->curve = c->curve == SD_CURVE_KARRAS ? SD_CURVE_EXPONENTIAL : SD_CURVE_EXPONENTIAL_K;
    return g->steps > 2 && c->method != SD_RESTART;   /* it makes its own curve */
}

static bool spoil_eta(const golden_case *g, sd_sched_config *c)
{
    if (!strstr(g->more, " eta=")) return false;
    c->eta = 0.75;
    return true;
}

static bool spoil_churn(const golden_case *g, sd_sched_config *c)
{
    (void)g;
    bool churns = c->s_churn > 0;
    c->s_noise = 1.0;
    return churns;
}

TEST(twin_that_confuses_epsilon_and_v_is_wrong) { twin_fails(spoil_prediction, 500); }
TEST(twin_of_a_lower_order_is_wrong) { twin_fails(spoil_order, 25); }
TEST(twin_with_the_other_solver_type_is_wrong) { twin_fails(spoil_solver, 15); }
TEST(twin_with_the_models_whole_range_is_wrong) { twin_fails(spoil_range, 16); }
TEST(twin_with_another_curve_is_wrong) { twin_fails(spoil_curve, 60); }
TEST(twin_with_another_eta_is_wrong) { twin_fails(spoil_eta, 8); }
TEST(twin_that_churns_without_s_noise_is_wrong) { twin_fails(spoil_churn, 3); }

/* Trap 40 for all: k-diffusion's ancestral samplers draw nothing in the last step, diffusers' Euler a does. */
TEST(twin_that_draws_in_the_last_step_shifts_the_next_picture)
{
    int seen = 0;
    for (int i = 0; i < n_cases; i++) {
        if (strcmp(cases[i].name, "euler_a@kdiffusion") != 0 || cases[i].steps < 2) continue;
        sd_sched_config c = config_of(&cases[i]);
        c.program = SD_DIFFUSERS;
        if (c.curve == SD_CURVE_SPACED) c.curve = SD_CURVE_LINSPACE_K;
        sd_sampler_case_result by = run_case(&cases[i], &c);
        assert_true(isinf(by.worst));
        seen++;
    }
    assert_true(seen > 15);
}

/* ComfyUI's: the plain form of each is another sampler, and its golden runs must tell the two apart. */
static const struct { const char *name, *plain; } comfy[] = {
    {"gradient_estimation@comfy", "euler@kdiffusion"}, {"res_multistep@comfy", "dpm++2m@kdiffusion"},
    {"res_multistep_a@comfy", "euler_a@kdiffusion"}, {"res_multistep_a@comfy", "res_multistep@comfy"}};

/* The settings of a run, of the sampler `name`. */
static sd_sched_config as_sampler(const golden_case *g, const char *name)
{
    golden_case other = *g;
    snprintf(other.name, sizeof other.name, "%s", name);
    return config_of(&other);
}

TEST(twin_of_the_plain_sampler_is_wrong)
{
    for (size_t k = 0; k < SD_COUNT(comfy); k++) {
        int seen = 0;
        for (int i = 0; i < n_cases; i++) {
            const golden_case *g = &cases[i];
            if (strcmp(g->name, comfy[k].name) != 0 || g->steps < 5 || g->steps > 20) continue;
            if (strstr(g->more, "eta=0")) continue;
            sd_sched_config c = as_sampler(g, comfy[k].plain);
            sd_sampler_case_result by = run_case(g, &c);
            if (!(by.worst > 3))
                fail_msg("%s passes for %s %s %d%s: %.3g", comfy[k].plain, g->name, g->curve, g->steps, g->more,
                         by.worst);
            seen++;
        }
        assert_true(seen >= 8);
    }
}

/* Two derivations of one formula: a straight line in lambda is what DPM-Solver++(2M) of type heun has. */
TEST(res_multistep_is_dpmpp_2m_of_type_heun)
{
    int seen = 0;
    for (int i = 0; i < n_cases; i++) {
        const golden_case *g = &cases[i];
        if (strcmp(g->name, "res_multistep@comfy") != 0) continue;
        sd_sched_config c = as_sampler(g, "dpm++2m@kdiffusion");
        c.solver = SD_SOLVER_HEUN;
        assert_true(run_case(g, &c).worst <= 1);
        seen++;
    }
    assert_true(seen >= 15);
}

/* --------------------------------------------------------------------------------- schedules */

static sd_sched_config stable_diffusion(const char *name)
{
    golden_case g = {.curve = "spaced", .spacing = "leading", .prediction = "epsilon"};
    snprintf(g.name, sizeof g.name, "%s", name);
    return config_of(&g);
}

/* Formulas of ComfyUI and A1111, computed by tools/golden_solvers.py. */
TEST(schedules_of_other_programs_have_their_sigmas)
{
    char *text = read_golden();
    int seen = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char name[32];
        int steps, count, used;
        if (sscanf(line, "curve %31s %d %d %n", name, &steps, &count, &used) != 3) continue;
        sd_sched_config c = stable_diffusion("euler");
        sd_error e = no_error();
        sd_sampler *s;
        assert_int_equal(sd_curve_parse(&c.curve, name, &e), SD_OK);
        if (sd_sampler_new(&s, &c, steps, &e)) fail_msg("%s: %s", name, e.text);
        assert_int_equal(sd_sampler_count(s), count);
        char *at = line + used;
        for (int i = 0; i < count; i++) {
            double sigma = strtod(at, &at);
            if (!(fabs(sd_sampler_sigma(s, i) / sigma - 1) < 1e-6))
                fail_msg("%s, %d steps: sigma %d is %.9g, not %.9g", name, steps, i, sd_sampler_sigma(s, i), sigma);
        }
        assert_true(sd_sampler_sigma(s, count) == 0);
        sd_sampler_free(s);
        seen++;
    }
    assert_int_equal(seen, 28);
    free(text);
}

/* What a run of Align Your Steps' eleven numbers as custom sigmas gives: the numbers, and timesteps between those
 * around
 * them. */
TEST(custom_sigmas_and_timesteps_are_taken_as_they_are)
{
    static const double sigmas[] = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0};
    static const double steps[] = {999, 850, 736, 645, 545, 455, 343, 233, 124, 24};
    const char *const names[] = {"euler", "heun", "dpm++2m", "unipc", "euler@kdiffusion"};
    for (size_t k = 0; k < SD_COUNT(names); k++) {
        sd_sched_config c = stable_diffusion(names[k]);
        sd_error e = no_error();
        sd_sampler *s;
        c.curve = SD_CURVE_SIGMAS;
        c.sigmas = sigmas;
        assert_int_equal(sd_sampler_new(&s, &c, 10, &e), SD_OK);
        assert_true(fabs(sd_sampler_sigma(s, 0) - 14.615) < 1e-9 && sd_sampler_sigma(s, sd_sampler_count(s)) == 0);
        if (k == 0)   /* the table's own timesteps for these, to what three digits of sigma say */
            for (int i = 1; i < 10; i++) assert_true(fabs(sd_sampler_timestep(s, i) - steps[i]) < 1.0);
        sd_sampler_free(s);
        c.curve = SD_CURVE_TIMESTEPS;
        c.timesteps = steps;
        assert_int_equal(sd_sampler_new(&s, &c, 10, &e), SD_OK);
        assert_true(sd_sampler_timestep(s, 0) == 999);
        sd_sampler_free(s);
    }
}

static void refuses(const sd_sched_config *c, int steps, const char *because)
{
    sd_error e = no_error();
    sd_sampler *s;
    if (sd_sampler_new(&s, c, steps, &e) != SD_ERR_ARG || s) fail_msg("accepted, expected \"%s\": %s", because, e.text);
    if (!strstr(e.text, because) || strchr(e.text, '\n')) fail_msg("expected \"%s\" in: %s", because, e.text);
}

TEST(what_cannot_be_combined_is_refused_in_one_line)
{
    static const double rising[] = {1, 2, 0}, down[] = {5, 1, 0};
    sd_sched_config c = stable_diffusion("euler");
    c.curve = SD_CURVE_SIGMAS;
    refuses(&c, 2, "needs a list");
    c.sigmas = rising;
    refuses(&c, 2, "sigmas should fall");
    c = stable_diffusion("deis");
    c.curve = SD_CURVE_SIGMAS;
    c.sigmas = down;
    refuses(&c, 2, "deis cannot end at sigma 0");
    const char *const table[] = {"ddim", "pndm", "ddpm", "lcm", "tcd", "ipndm", "dpm_fast", "dpm_adaptive",
                                 "ddim_inverse"};
    for (size_t i = 0; i < SD_COUNT(table); i++) {
        c = stable_diffusion(table[i]);
        c.curve = SD_CURVE_KARRAS;
        refuses(&c, 10, "takes no schedule");
        assert_false(sd_takes_curve(&c));
    }
    c = stable_diffusion("lcm");
    refuses(&c, 51, "lcm takes 1 to 50 steps");
    c = stable_diffusion("ddim_inverse");
    c.spacing = SD_SPACE_LINSPACE;
    refuses(&c, 10, "leading and trailing");
    c = stable_diffusion("dpm++2m");
    refuses(&c, 1000, "sigmas should fall");   /* 1001 places for 1000 timesteps */
    refuses(&c, 1001, "steps should be 1..1000");
    c.order = 4;
    refuses(&c, 10, "the order of dpm++2m should be 1..3, found 4");
    c = stable_diffusion("unipc");
    c.lower_order_final = false;
    refuses(&c, 10, "unipc cannot end at sigma 0");
    c = stable_diffusion("euler");   /* ComfyUI's beta leaves out timesteps that would come twice */
    c.curve = SD_CURVE_BETA_COMFY;
    sd_error e = no_error();
    sd_sampler *s;
    assert_int_equal(sd_sampler_new_from(&s, &c, 900, 890, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "and the first of them should be 890"));
    assert_null(s);
    c = stable_diffusion("lcm");
    c.timestep_scaling = 1e200;   /* its square is no double */
    refuses(&c, 4, "timestep_scaling should be 1e-6..1e6");
    c = stable_diffusion("euler_a");
    c.s_noise = 1e300;
    refuses(&c, 4, "s_noise should be 0..1000, found 1e+300");
    c = stable_diffusion("edm_euler");
    c.sigma_data = 1e200;
    refuses(&c, 4, "sigma_data");
    c = stable_diffusion("edm_euler");
    c.rho = 1e-3;
    refuses(&c, 4, "rho 0.1..100");
    c = stable_diffusion("ddim");
    c.guidance_scale = NAN;
    refuses(&c, 4, "_guidance_scale should be -1000..1000, found nan");
    c = stable_diffusion("heun");
    c.s_churn = -1;
    refuses(&c, 10, "should not be negative");
    c = stable_diffusion("edm_euler");
    c.sigma_min = 100;
    refuses(&c, 10, "sigma_min");
}

/* False: refused, with a sentence. A run that is not refused ends with finite latents. */
static bool runs(const sd_sched_config *c, int steps, const char *what)
{
    golden_case g = {.count = -1, .steps = steps};
    sd_sampler_case_result r;
    sd_error e = no_error();
    sd_sampler *s;
    if (sd_sampler_new(&s, c, steps, &e)) {
        assert_true(e.status == SD_ERR_ARG && *e.text);
        return false;
    }
    assert_int_equal(sd_sampler_case_run(&g, c, &r, &e), SD_OK);
    for (size_t k = 0; k < SD_COUNT(r.x); k++)
        if (!isfinite(r.x[k])) fail_msg("%s %s %d steps: not finite", sd_method_name(c->method), what, steps);
    for (int i = 0; i < sd_sampler_count(s); i++)
        if (c->method != SD_EDM_EULER && !(sd_sampler_timestep(s, i) >= 0))
            fail_msg("%s %s %d steps: timestep %g", sd_method_name(c->method), what, steps, sd_sampler_timestep(s, i));
    sd_sampler_free(s);
    return true;
}

/* Every sampler, schedule and number of steps either runs, to finite latents, or is refused with a sentence. */
TEST(no_combination_comes_to_nan)
{
    int ran = 0;
    for (int m = 0; m < SD_METHOD_COUNT; m++)
        for (int curve = 0; curve < SD_CURVE_SIGMAS; curve++)
            for (int program = 0; program < SD_PROGRAM_COUNT; program++)
                for (int steps = 1; steps <= 30; steps += steps < 5 ? 1 : 5) {
                    const sd_method_row *of = sd_method_row_of((sd_method)m);
                    if (of->home != (sd_program)program && !of->elsewhere[program]) continue;
                    sd_sched_config c = stable_diffusion(of->about.name);
                    c.program = (sd_program)program;
                    c.curve = (sd_curve)curve;
                    ran += runs(&c, steps, sd_curve_name(c.curve));
                }
    assert_true(ran > 2000);
}

/* Every list of levels of the caller's: out of range, not falling, not numbers: refused by every sampler. */
TEST(lists_of_levels_have_a_range)
{
    static const struct { double list[3]; const char *says; } bad_timesteps[] = {
        {{-500000, -600000, -700000}, "number 1 of 3 is -500000"}, {{5, 1, -3}, "number 3 of 3 is -3"},
            {{NAN, 5, 1}, "number 1 of 3 is nan"},
        {{1000, 5, 1}, "each should be 0 to 999, number 1 of 3 is 1000"}, {{1e6, 5, 1}, "is 1e+06"},
            {{999, NAN, 1}, "number 2 of 3 is nan"},
        {{INFINITY, 5, 1}, "is inf"}, {{5, 5, 1}, "number 2 of 3 is 5 and comes after 5"}, {{1, 2, 3}, "should fall"}};
    static const struct { double list[4]; const char *says; } bad_sigmas[] = {
        {{NAN, 5, 1, 0}, "number 1 of 4 is nan"}, {{INFINITY, 5, 1, 0}, "number 1 of 4 is inf"},
            {{1e300, 5, 1, 0}, "is 1e+300"},
        {{14, 5, 1, -1}, "number 4 of 4 is -1"}, {{14, 5, 1, NAN}, "number 4 of 4 is nan"},
            {{14, 5, 0, 0}, "number 3 of 4 is 0"},
        {{14, 5, 1e-300, 0}, "number 3 of 4 is 1e-300"}, {{14, 5, 1, 2}, "comes after 1"},
            {{14, 5, 5, 0}, "comes after 5"}};
    static const double widest[] = {1e9, 1, 1e-9, 0}, fractions[] = {998.5, 500.25, 0.5}, ends[] = {999, 500, 0};
    int by_timesteps = 0, by_sigmas = 0, wide = 0, cut = 0;
    for (int m = 0; m < SD_METHOD_COUNT; m++) {
        sd_sched_config c = stable_diffusion(sd_method_name((sd_method)m));
        c.curve = SD_CURVE_TIMESTEPS;
        c.timesteps = ends;
        if (runs(&c, 3, "0 to 999") && ++by_timesteps)
            for (size_t i = 0; i < SD_COUNT(bad_timesteps); i++) {
                c.timesteps = bad_timesteps[i].list;
                refuses(&c, 3, bad_timesteps[i].says);
            }
        c.timesteps = fractions;
        cut += runs(&c, 3, "fractions");
        c.curve = SD_CURVE_SIGMAS;
        c.sigmas = (const double[]){14, 5, 1, 0.5};
        if (runs(&c, 3, "sigmas") && ++by_sigmas)
            for (size_t i = 0; i < SD_COUNT(bad_sigmas); i++) {
                c.sigmas = bad_sigmas[i].list;
                refuses(&c, 3, bad_sigmas[i].says);
            }
        c.sigmas = widest;
        wide += runs(&c, 3, "1e9 to 1e-9");
    }
    printf("timesteps %d, with fractions %d, sigmas %d, widest %d\n", by_timesteps, cut, by_sigmas, wide);
    assert_true(by_timesteps >= 15 && by_sigmas >= 15 && cut >= 9 && cut < by_timesteps && wide >= 13);
}

/* ------------------------------------------------------------------------------- convergence
 * Data that are normally distributed, x0 ~ N(MEAN, SPREAD^2): the best UNet is known, and so is the solution of the
 * probability flow ODE. With x = S x0 + N eps,
 *   E[x0 | x] = (SPREAD^2 S x + N^2 MEAN) / (SPREAD^2 S^2 + N^2),
 *   x(end) - S MEAN = (x(start) - S0 MEAN) sqrt((SPREAD^2 S^2 + N^2) / (SPREAD^2 S0^2 + N0^2)). */

static const double MEAN = 0.3;

typedef struct gaussian {
    const sd_sampler *s;
    const sd_sched_config *c;
    double variance;         /* SPREAD^2 */
    int evaluations;
} gaussian;

/* Both parts of a level, on the scale of variance 1. */
static void level(const gaussian *g, int i, double *S, double *N)
{
    double a = sd_sampler_alpha(g->s, i);
    *S = sqrt(a);
    *N = isinf(sd_sampler_sigma(g->s, i)) ? 1 : sd_sampler_sigma(g->s, i) * *S;
}

static sd_status best_unet(void *user, int i, double t, const float *input, float *prediction)
{
    gaussian *g = user;
    double S, N, x = input[0];
    (void)t;
    g->evaluations++;
    level(g, i, &S, &N);
    double sigma = N / S, d = g->c->sigma_data;
    if (g->c->method == SD_EDM_EULER) x *= sqrt(sigma * sigma + d * d) / sqrt(sigma * sigma + 1);
    double k = g->variance, x0 = (k * S * x + N * N * MEAN) / (k * S * S + N * N), eps = (x - S * x0) / N;
    bool v = g->c->method == SD_IPNDM && g->c->program == SD_DIFFUSERS;   /* all that the class knows */
    prediction[0] = (float)(v ? S * eps - N * x0 : eps);
    if (g->c->method == SD_EDM_EULER) {
        double skip = d * d / (sigma * sigma + d * d), out = sigma * d / sqrt(sigma * sigma + d * d);
        prediction[0] = (float)((x0 - skip * x / S) / out);
    }
    return SD_OK;
}

static sd_status no_noise(void *user, double from, double to, float *out, size_t n)
{
    (void)user;
    (void)from;
    (void)to;
    memset(out, 0, n * sizeof *out);
    return SD_OK;
}

/* The error at the end of a run from 1.2 (on the scale of variance 1). */
static double error_for(const sd_sampler *s, gaussian *g)
{
    double S, N, S0, N0, k = g->variance;
    sd_error e = no_error();
    level(g, 0, &S0, &N0);
    level(g, sd_sampler_count(s), &S, &N);
    bool exploding = sd_sampler_init_sigma(s) != 1.0;
    float x = (float)(exploding ? 1.2 / S0 : 1.2);
    double start = x * (exploding ? S0 : 1.0);   /* as float32 has it */
    double end = S * MEAN + (start - S0 * MEAN) * sqrt((k * S * S + N * N) / (k * S0 * S0 + N0 * N0));
    sd_denoiser d = {g, best_unet, NULL, NULL, no_noise, 1, NULL, NULL};
    if (sd_sampler_run(s, &x, 1, &d, &e)) fail_msg("%s", e.text);
    return x * (exploding ? S : 1.0) - end;
}

/* Root mean square for data of two spreads, for a run of n steps: where one error changes its sign the other does not.
 * evaluations may be NULL. */
static double error_of(const sd_sched_config *config, int n, int *evaluations)
{
    enum { MOST = 1024 };
    double sigma[MOST + 1], sum = 0;
    sd_sched_config c = *config;
    sd_error e = no_error();
    sd_sampler *s;
    for (int i = 0; i <= n; i++) sigma[i] = exp(log(100) + (log(0.1) - log(100)) * i / n);
    c.sigmas = sigma;
    if (sd_sampler_new(&s, &c, n, &e)) fail_msg("%s: %s", sd_method_name(c.method), e.text);
    for (int k = 0; k < 2; k++) {
        gaussian g = {s, &c, k ? 1.0 : 0.25, 0};
        double error = error_for(s, &g);
        sum += error * error;
        if (evaluations) *evaluations = g.evaluations;
    }
    sd_sampler_free(s);
    return sqrt(sum / 2);
}

typedef struct solver_case { const char *name; int order, stated, from, to; } solver_case;

/* Multi-step samplers begin with a step of order 1: their order shows where that step's error does not count, here
 * because the ODE is almost linear at large sigma. `from`, `to`: steps of the two runs, numbers that divide 1000 for
 * those that walk on whole timesteps. */
static const solver_case solver_cases[] = {
    {"ddim", 0, 1, 50, 100}, {"pndm", 0, 2, 50, 100}, {"tcd", 0, 1, 50, 100}, {"ddim_inverse", 0, 1, 50, 100},
    {"euler", 0, 1, 64, 128}, {"euler@kdiffusion", 0, 1, 64, 128}, {"euler_a", 0, 1, 64, 128},
    {"edm_euler", 0, 1, 64, 128},
    {"heun", 0, 2, 32, 64}, {"restart", 0, 2, 8, 16},
    {"dpm2", 0, 2, 32, 64}, {"dpm2_a", 0, 2, 32, 64}, {"dpm++2s_a", 0, 2, 32, 64},
    {"dpm++sde", 0, 2, 32, 64}, {"dpm_fast", 0, 3, 26, 50}, {"lms", 1, 1, 64, 128}, {"lms", 2, 2, 64, 128},
    {"lms", 3, 3, 64, 128}, {"lms", 4, 4, 64, 128}, {"dpm++2m", 1, 1, 64, 128}, {"dpm++2m", 2, 2, 32, 64},
    {"dpm++2m", 3, 2, 128, 256}, {"dpm++2m@kdiffusion", 0, 2, 32, 64}, {"dpm++2m_sde@kdiffusion", 0, 2, 32, 64},
    {"dpm++3m_sde@kdiffusion", 0, 2, 128, 256}, {"dpm++2s", 2, 2, 32, 64}, {"dpm++2s", 3, 3, 24, 48},
    {"deis", 1, 1, 64, 128}, {"deis", 2, 2, 32, 64}, {"deis", 3, 3, 32, 64}, {"unipc", 1, 2, 32, 64},
    {"unipc", 2, 3, 32, 64},
    {"unipc", 3, 4, 32, 64}, {"sa_solver", 1, 1, 64, 128}, {"sa_solver", 2, 2, 32, 64}, {"sa_solver", 3, 3, 16, 32},
    {"ipndm", 1, 1, 64, 128}, {"ipndm", 4, 1, 64, 128}, {"ipndm@comfy", 1, 1, 64, 128}, {"ipndm@comfy", 2, 2, 32, 64},
    {"ipndm@comfy", 4, 2, 32, 64}, {"gradient_estimation", 0, 1, 64, 128}, {"res_multistep", 0, 2, 32, 64},
    {"res_multistep_a", 0, 2, 32, 64},
};

/* The sampler without noise, without the orders that fall at the end, and with an end above sigma 0. */
static sd_sched_config plain_ode(const solver_case *k)
{
    golden_case g = {.curve = "spaced", .spacing = "trailing", .prediction = "epsilon"};
    snprintf(g.name, sizeof g.name, "%s", k->name);
    sd_sched_config c = config_of(&g);
    c.eta = 0;
    c.lower_order_final = false;
    c.final_sigma_min = true;
    c.original_steps = 500;
    if (k->order) c.order = c.corrector_order = k->order;
    bool table = c.method == SD_DDIM || c.method == SD_PNDM || c.method == SD_TCD || c.method == SD_DDIM_INVERSE;
    bool own = c.method == SD_EDM_EULER || (c.method == SD_IPNDM && c.program == SD_DIFFUSERS);
    if (!table && !own && c.method != SD_DPM_FAST) c.curve = SD_CURVE_SIGMAS;
    c.skip_prk_steps = true;
    c.set_alpha_to_one = false;
    return c;
}

/* How errors fall with the steps' size: the slope between the two runs. */
static double measured_order(const solver_case *k)
{
    sd_sched_config c = plain_ode(k);
    return log(error_of(&c, k->from, NULL) / error_of(&c, k->to, NULL)) / log((double)k->to / k->from);
}

TEST(errors_fall_at_the_stated_order)
{
    int bad = 0;
    for (int m = 0; m < SD_METHOD_COUNT; m++) {   /* none is left out */
        const sd_method_row *of = sd_method_row_of((sd_method)m);
        size_t i = 0, n = strlen(of->about.name);
        while (i < SD_COUNT(solver_cases) && strncmp(solver_cases[i].name, of->about.name, n) != 0) i++;
        if (of->about.order && !of->open_ended && i == SD_COUNT(solver_cases))
            fail_msg("%s: its order, %d, is not measured", of->about.name, of->about.order);
    }
    for (size_t i = 0; i < SD_COUNT(solver_cases); i++) {
        const solver_case *k = &solver_cases[i];
        double order = measured_order(k);
        if (!(order > k->stated - 0.35 && order < k->stated + 1.1)) {
            bad++;
            sd_sched_config c = plain_ode(k);
            print_message("%s, order %d: stated %d, measured %.2f;", k->name, k->order, k->stated, order);
            for (int n = 8; n <= 256; n *= 2) print_message(" %.2g", error_of(&c, n, NULL));
            print_message("\n");
        }
    }
    assert_int_equal(bad, 0);
}

/* Errors against evaluations, for tools/plot_samplers.py. */
static int print_errors(void)
{
    for (size_t i = 0; i < SD_COUNT(solver_cases); i++) {
        sd_sched_config c = plain_ode(&solver_cases[i]);
        static const int steps[] = {5, 10, 20, 40, 100, 200, 250};   /* divisors of 1000 */
        for (size_t k = 0; k < SD_COUNT(steps); k++) {
            int n = steps[k], evaluations = 0;
            double error = error_of(&c, n, &evaluations);
            printf("%s %d %d %d %d %.6g\n", solver_cases[i].name, solver_cases[i].order, solver_cases[i].stated, n,
                   evaluations, error);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--errors") == 0) return print_errors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sampler_on_every_schedule_equals_its_program),
        cmocka_unit_test(twin_that_confuses_epsilon_and_v_is_wrong),
        cmocka_unit_test(twin_of_a_lower_order_is_wrong),
        cmocka_unit_test(twin_with_the_other_solver_type_is_wrong),
        cmocka_unit_test(twin_with_the_models_whole_range_is_wrong),
        cmocka_unit_test(twin_with_another_curve_is_wrong),
        cmocka_unit_test(twin_with_another_eta_is_wrong),
        cmocka_unit_test(twin_that_churns_without_s_noise_is_wrong),
        cmocka_unit_test(twin_that_draws_in_the_last_step_shifts_the_next_picture),
        cmocka_unit_test(twin_of_the_plain_sampler_is_wrong),
        cmocka_unit_test(res_multistep_is_dpmpp_2m_of_type_heun),
        cmocka_unit_test(schedules_of_other_programs_have_their_sigmas),
        cmocka_unit_test(custom_sigmas_and_timesteps_are_taken_as_they_are),
        cmocka_unit_test(what_cannot_be_combined_is_refused_in_one_line),
        cmocka_unit_test(no_combination_comes_to_nan),
        cmocka_unit_test(lists_of_levels_have_a_range),
        cmocka_unit_test(errors_fall_at_the_stated_order),
    };
    return cmocka_run_group_tests_name("solvers", tests, load, unload);
}
