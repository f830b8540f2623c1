/* test_sampler.c - sampler.c against diffusers: tables and runs of tests/golden/sampler_*.txt (made by
 * tools/golden_sampler.py), and the known mistakes, which must be caught. */
#include "../rng.h"
#include "../sampler.h"

#include <float.h>
#include <math.h>

#include "test.h"
/* ------------------------------------------------------------------------------------- helpers */

enum { SIZE = 20, SHOWN = 5, MAX_AFTER = 16, TRAIN = 1000 };

static sd_error no_error(void) { return (sd_error){.status = SD_OK}; }

/* The settings of Stable Diffusion's published files. */
static sd_sched_config sd_config(sd_method method)
{
    sd_sched_config c;
    sd_sched_defaults(&c, method);
    c.beta_schedule = SD_BETA_SCALED_LINEAR;
    c.beta_start = 0.00085;
    c.beta_end = 0.012;
    c.steps_offset = 1;
    c.spacing = SD_SPACE_LEADING;
    c.set_alpha_to_one = c.clip_sample = false;
    c.skip_prk_steps = true;
    return c;
}

static sd_sampler *start(const sd_sched_config *c, int steps)
{
    sd_error e = no_error();
    sd_sampler *s;
    if (sd_sampler_new(&s, c, steps, &e)) fail_msg("%d steps of %s: %s", steps, sd_method_name(c->method), e.text);
    assert_non_null(s);
    return s;
}

static void refuses(const sd_sched_config *c, int steps, const char *because)
{
    sd_error e = no_error();
    sd_sampler *s;
    assert_int_equal(sd_sampler_new(&s, c, steps, &e), SD_ERR_ARG);
    assert_null(s);
    if (!strstr(e.text, because)) fail_msg("expected \"%s\" in: %s", because, e.text);
}

static char *golden(const char *path)
{
    sd_error e = no_error();
    char *text;
    size_t n;
    if (sd_read_file(path, (size_t)1 << 22, &text, &n, &e)) fail_msg("%s", e.text);
    return text;
}

/* The next line after *at, which moves on; comments are skipped. NULL at the end. */
static char *next_line(char **at)
{
    for (;;) {
        char *line = *at, *end = strchr(line, '\n');
        if (!*line) return NULL;
        *at = end ? end + 1 : line + strlen(line);
        if (end) *end = 0;
        if (*line && *line != '#') return line;
    }
}

static char *word(char **at)
{
    *at += strspn(*at, " ");
    char *w = *at;
    *at += strcspn(*at, " ");
    if (**at) *(*at)++ = 0;
    assert_true(*w != 0);
    return w;
}

static double number(char **at) { return strtod(word(at), NULL); }
static int whole(char **at) { return (int)strtol(word(at), NULL, 10); }

static bool is_near(double found, double expected, double relative)
{
    return fabs(found - expected) <= relative * fmax(fabs(expected), 1e-30) || found == expected;
}

static uint32_t bits_of(double x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static uint64_t fnv1a(uint64_t h, uint32_t bits)
{
    for (unsigned byte = 0; byte < 4; byte++) h = (h ^ (bits >> (8 * byte) & 0xffu)) * UINT64_C(0x100000001b3);
    return h;
}

static sd_method method_named(const char *name)
{
    sd_error e = no_error();
    sd_method m;
    assert_int_equal(sd_method_parse(&m, NULL, name, &e), SD_OK);
    return m;
}

static sd_spacing spacing_named(const char *name)
{
    sd_error e = no_error();
    sd_spacing s;
    assert_int_equal(sd_spacing_parse(&s, name, &e), SD_OK);
    return s;
}

static sd_prediction prediction_named(const char *name)
{
    sd_error e = no_error();
    sd_prediction p;
    assert_int_equal(sd_prediction_parse(&p, name, &e), SD_OK);
    return p;
}

/* A caller of the sampler: what the tests put around it. */
typedef struct caller {
    const sd_sampler *s;
    size_t n;
    sd_rng rng;
    double (*model)(const struct caller *c, int i, double t, size_t k, double x);  /* one number of the prediction */
    void (*before)(struct caller *c, int i, float *latents);
    void (*denoised)(struct caller *c, int i, const float *x0);
    const void *data;
    double worst;
    int evaluations;
} caller;

static sd_status call_model(void *user, int i, double t, const float *input, float *prediction)
{
    caller *c = user;
    assert_int_equal(i, c->evaluations);
    c->evaluations++;
    assert_true(t == sd_sampler_timestep(c->s, i));
    for (size_t k = 0; k < c->n; k++) prediction[k] = c->model ? (float)c->model(c, i, t, k, input[k]) : 0.0f;
    return SD_OK;
}

static sd_status call_before(void *user, int i, float *latents)
{
    caller *c = user;
    if (c->before) c->before(c, i, latents);
    return SD_OK;
}

static void call_denoised(void *user, int i, const float *x0)
{
    caller *c = user;
    if (c->denoised) c->denoised(c, i, x0);
}

static sd_status call_noise(void *user, double from, double to, float *out, size_t n)
{
    caller *c = user;
    assert_true(from >= to);
    sd_rng_normal(&c->rng, out, n);
    return SD_OK;
}

/* A run; the number of evaluations is what was promised. */
static void run(caller *c, const sd_sampler *s, float *x, size_t n)
{
    sd_denoiser d = {c, call_model, call_before, call_denoised, call_noise, 1, NULL, NULL};
    sd_error e = no_error();
    c->s = s;
    c->n = n;
    c->evaluations = 0;
    if (sd_sampler_run(s, x, n, &d, &e)) fail_msg("%s", e.text);
    assert_int_equal(c->evaluations, sd_sampler_count(s));
}

/* ------------------------------------------------------------------------------ noise schedule */

/* DDIM with as many steps as there are training timesteps shows the whole table, last timestep first. */
static sd_sampler *whole_table(const sd_sched_config *like)
{
    sd_sched_config c = *like;
    c.steps_offset = 0;
    c.spacing = SD_SPACE_LEADING;
    c.prediction = SD_PRED_V;   /* epsilon cannot use zero terminal SNR's last timestep */
    return start(&c, c.train_steps);
}

/* Zero terminal SNR takes square roots in float32, and those of a torch with MKL are one unit off for one number in
 * five; the subtraction that follows magnifies it towards the end of the table. Measured: 2.6e-5. */
static const double zero_snr_bound = 4e-5;

static void check_alphas(const sd_sampler *s, int n, bool zero_snr, char *line)
{
    const char *expected = word(&line);
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int t = 0; t < n; t++) h = fnv1a(h, bits_of(sd_sampler_alpha(s, n - 1 - t)));
    if (!zero_snr && h != strtoull(expected, NULL, 16)) fail_msg("other bits than %s, %d timesteps", expected, n);
    const int shown[] = {0, n / 2, n - 1};
    for (int i = 0; i < 3; i++) {
        uint32_t u = (uint32_t)strtoul(word(&line), NULL, 16);
        float f;
        memcpy(&f, &u, sizeof f);
        if (!zero_snr) assert_int_equal(bits_of(sd_sampler_alpha(s, n - 1 - shown[i])), u);
        assert_true(is_near(sd_sampler_alpha(s, n - 1 - shown[i]), f, zero_snr_bound));
    }
}

TEST(alphas_cumprod_equal_diffusers_in_every_bit)
{
    char *text = golden("tests/golden/sampler_tables.txt"), *at = text, *line;
    int seen = 0;
    while ((line = next_line(&at))) {
        if (strcmp(word(&line), "alphas") != 0) continue;
        sd_sched_config c;
        sd_sched_defaults(&c, SD_DDIM);
        const char *schedule = word(&line);
        static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2"};
        for (int b = 0; b < 3; b++)
            if (strcmp(betas[b], schedule) == 0) c.beta_schedule = (sd_beta)b;
        c.beta_start = number(&line);
        c.beta_end = number(&line);
        int n = c.train_steps = whole(&line);
        c.rescale_zero_snr = whole(&line) != 0;
        sd_sampler *s = whole_table(&c);
        check_alphas(s, n, c.rescale_zero_snr, line);
        sd_sampler_free(s);
        seen++;
    }
    assert_true(seen > 80);
    free(text);
}

static void check_sd_table(const sd_sched_config *c, int *differ)
{
    char *text = golden("tests/golden/sampler_tables.txt"), *at = text, *line;
    bool seen = false;
    *differ = 0;
    while ((line = next_line(&at))) {
        if (strcmp(word(&line), "sd") != 0) continue;
        sd_sampler *s = whole_table(c);
        for (int t = 0; t < TRAIN; t++)
            *differ += bits_of(sd_sampler_alpha(s, TRAIN - 1 - t)) != strtoul(word(&line), NULL, 16);
        sd_sampler_free(s);
        seen = true;
    }
    assert_true(seen);
    free(text);
}

TEST(the_table_of_stable_diffusion_is_diffusers)
{
    sd_sched_config c = sd_config(SD_DDIM);
    int differ;
    check_sd_table(&c, &differ);
    assert_int_equal(differ, 0);
}

/* Trap 31: scaled_linear is linear in sqrt(beta); CompVis calls it "linear". */
TEST(twin_with_plainly_linear_betas_is_wrong)
{
    sd_sched_config c = sd_config(SD_DDIM);
    c.beta_schedule = SD_BETA_LINEAR;
    int differ;
    check_sd_table(&c, &differ);
    assert_true(differ > TRAIN - 10);
}

/* Trap 32: CompVis computes the table in double. Rounded to float32 it still is another one. */
TEST(twin_with_betas_in_double_has_other_bits)
{
    sd_sched_config c = sd_config(SD_DDIM);
    sd_sampler *s = whole_table(&c);
    double product = 1, first = sqrt(c.beta_start), last = sqrt(c.beta_end), most = 0;
    int differ = 0;
    for (int t = 0; t < TRAIN; t++) {
        double root = first + (last - first) * t / (TRAIN - 1);
        product *= 1 - root * root;
        differ += bits_of(product) != bits_of(sd_sampler_alpha(s, TRAIN - 1 - t));
        most = fmax(most, fabs(product / sd_sampler_alpha(s, TRAIN - 1 - t) - 1));
    }
    assert_true(differ > TRAIN / 2);
    assert_true(most < 1e-5);
    sd_sampler_free(s);
}

/* Trap 47: the Euler classes put 2^-24 where zero terminal SNR leaves 0; DDIM keeps 0 and cannot divide by its root. */
TEST(zero_terminal_snr_is_finite_for_euler_and_zero_for_ddim)
{
    const sd_method eulers[] = {SD_EULER, SD_EULER_A};
    for (int i = 0; i < 2; i++) {
        sd_sched_config c = sd_config(eulers[i]);
        c.rescale_zero_snr = true;
        c.spacing = SD_SPACE_TRAILING;
        sd_sampler *s = start(&c, 10);
        assert_true(is_near(sd_sampler_sigma(s, 0), sqrt(0x1p24 - 1), 1e-12));
        assert_true(is_near(sd_sampler_alpha(s, 0), 0x1p-24, 1e-12));
        sd_sampler_free(s);
    }
    sd_sched_config c = sd_config(SD_DDIM);
    c.rescale_zero_snr = true;
    c.spacing = SD_SPACE_TRAILING;
    refuses(&c, 10, "epsilon prediction cannot use timestep 999");
    c.prediction = SD_PRED_V;
    sd_sampler *s = start(&c, 10);
    assert_true(sd_sampler_alpha(s, 0) == 0.0 && isinf(sd_sampler_sigma(s, 0)));
    sd_sampler_free(s);
    sd_sched_config pndm = sd_config(SD_PNDM), plain = pndm;   /* PNDMScheduler does not know the key */
    pndm.rescale_zero_snr = true;
    sd_sampler *a = start(&pndm, 10), *b = start(&plain, 10);
    assert_true(sd_sampler_alpha(a, 0) == sd_sampler_alpha(b, 0));
    sd_sampler_free(a);
    sd_sampler_free(b);
}

/* ---------------------------------------------------------------------------------- timesteps */

static void check_row(const sd_sampler *s, char *line, bool exact_timestep, double relative)
{
    assert_string_equal(word(&line), "row");
    int i = whole(&line), n = sd_sampler_count(s);
    double t = number(&line), sigma = number(&line);
    assert_in_range(i, 0, n);
    if (i < n && exact_timestep) assert_true(sd_sampler_timestep(s, i) == t);
    if (i < n) assert_true(is_near(sd_sampler_timestep(s, i), t, 1e-6));
    assert_true(is_near(sd_sampler_sigma(s, i), sigma, relative));
    double a = sd_sampler_alpha(s, i);
    assert_true(is_near(sqrt((1 - a) / a), sd_sampler_sigma(s, i), 1e-9));
}

static void check_table(char *line, char **at)
{
    sd_sched_config c = sd_config(method_named(word(&line)));
    c.spacing = spacing_named(word(&line));
    c.steps_offset = whole(&line);
    int steps = whole(&line);
    c.set_alpha_to_one = whole(&line) != 0;
    c.skip_prk_steps = whole(&line) != 0;
    c.rescale_zero_snr = whole(&line) != 0;
    int n = whole(&line);
    double init = number(&line), sum = number(&line), weighted = number(&line);
    int rows = whole(&line);
    sd_sampler *s = start(&c, steps);
    assert_int_equal(sd_sampler_count(s), n);
    assert_true(is_near(sd_sampler_init_sigma(s), init, 1e-6));
    for (int i = 0; i < n; i++) {
        sum -= sd_sampler_timestep(s, i);
        weighted -= i * sd_sampler_timestep(s, i);
    }
    bool exact = c.method == SD_DDIM || c.method == SD_PNDM;
    assert_true(fabs(sum) <= (exact ? 0 : 1e-6 * n) && fabs(weighted) <= (exact ? 0 : 1e-6 * n * n));
    while (rows--) check_row(s, next_line(at), exact, c.rescale_zero_snr ? zero_snr_bound : 1e-6);
    sd_sampler_free(s);
}

TEST(timesteps_and_sigmas_equal_diffusers)
{
    char *text = golden("tests/golden/sampler_tables.txt"), *at = text, *line;
    int seen = 0;
    while ((line = next_line(&at)))
        if (strcmp(word(&line), "table") == 0) {
            check_table(line, &at);
            seen++;
        }
    assert_true(seen > 170);
    free(text);
}

/* trap 36: 20 steps are 21 evaluations */
TEST(pndm_takes_its_first_step_twice)
{
    sd_sched_config c = sd_config(SD_PNDM);
    sd_sampler *s = start(&c, 20);
    const double expected[] = {951, 901, 901, 851, 801};
    assert_int_equal(sd_sampler_count(s), 21);
    for (int i = 0; i < 5; i++) assert_true(sd_sampler_timestep(s, i) == expected[i]);
    sd_sampler_free(s);
    s = start(&c, 1);
    assert_int_equal(sd_sampler_count(s), 1);
    sd_sampler_free(s);
}

TEST(euler_leading_starts_at_the_published_numbers)
{
    sd_sched_config c = sd_config(SD_EULER);
    sd_sampler *s = start(&c, 20);
    const double t[] = {951, 901, 851}, sigma[] = {11.0283, 8.3907, 6.5064};
    assert_true(fabs(sd_sampler_init_sigma(s) - 11.0736) < 5e-4);
    for (int i = 0; i < 3; i++) {
        assert_true(sd_sampler_timestep(s, i) == t[i]);
        assert_true(fabs(sd_sampler_sigma(s, i) - sigma[i]) < 5e-4);
    }
    sd_sampler_free(s);
}

/* Trap 33: 14.6146 is the largest sigma of Stable Diffusion; with leading spacing the initial noise is sqrt(1 +
 * sigma^2). */
TEST(euler_scales_its_initial_noise_by_spacing)
{
    const sd_method eulers[] = {SD_EULER, SD_EULER_A};
    for (int i = 0; i < 2; i++) {
        sd_sched_config c = sd_config(eulers[i]);
        c.steps_offset = 0;
        sd_sampler *s = start(&c, 1000);
        double sigma = sd_sampler_sigma(s, 0), leading = sd_sampler_init_sigma(s);
        assert_true(fabs(sigma - 14.6146) < 5e-5 && fabs(leading - 14.6488) < 5e-5);
        sd_sampler_free(s);
        const sd_spacing others[] = {SD_SPACE_LINSPACE, SD_SPACE_TRAILING};
        for (int k = 0; k < 2; k++) {
            c.spacing = others[k];
            s = start(&c, 20);
            assert_true(fabs(sd_sampler_init_sigma(s) - 14.6146) < 5e-5);
            assert_false(is_near(sd_sampler_init_sigma(s), leading, 1e-3));   /* the twin's number */
            sd_sampler_free(s);
        }
    }
    const sd_method others[] = {SD_DDIM, SD_PNDM};
    for (int i = 0; i < 2; i++) {
        sd_sched_config c = sd_config(others[i]);
        sd_sampler *s = start(&c, 20);
        assert_true(sd_sampler_init_sigma(s) == 1.0);
        sd_sampler_free(s);
    }
}

static double input_is_scaled(const caller *c, int i, double t, size_t k, double x)
{
    (void)t;
    if (i == 0) assert_true(is_near(x, ((const double *)c->data)[k], 1e-7));
    return 0;
}

TEST(only_euler_scales_the_input)
{
    float x[3] = {1, -2, 3}, y[3] = {1, -2, 3};
    double scaled[3], same[3] = {1, -2, 3};
    sd_sched_config c = sd_config(SD_EULER);
    sd_sampler *s = start(&c, 20);
    double sigma = sd_sampler_sigma(s, 0);
    for (int i = 0; i < 3; i++) scaled[i] = x[i] / sqrt(sigma * sigma + 1);
    run(&(caller){.model = input_is_scaled, .data = scaled}, s, x, 3);
    sd_sampler_free(s);
    c = sd_config(SD_PNDM);
    s = start(&c, 20);
    run(&(caller){.model = input_is_scaled, .data = same}, s, y, 3);
    sd_sampler_free(s);
}

/* Every number of steps: all table look-ups stay inside (under a sanitizer), timesteps fall, sigmas fall to the end. */
TEST(every_number_of_steps_has_a_plan)
{
    for (int m = SD_DDIM; m <= SD_EULER_A; m++)
        for (int spacing = SD_SPACE_LEADING; spacing <= SD_SPACE_LINSPACE; spacing++)
            for (int prk = 0; prk <= (m == SD_PNDM); prk++)
                for (int train = 40; train <= 160; train += 60)
                    for (int steps = prk ? 4 : 1; steps <= train; steps++) {
                        sd_sched_config c = sd_config((sd_method)m);
                        c.spacing = (sd_spacing)spacing;
                        c.skip_prk_steps = !prk;
                        c.train_steps = train;
                        c.steps_offset = 0;
                        sd_sampler *s = start(&c, steps);
                        int n = sd_sampler_count(s);
                        assert_int_equal(n, prk ? steps + 9 : m == SD_PNDM && steps > 1 ? steps + 1 : steps);
                        for (int i = 0; i < n; i++) {
                            double t = sd_sampler_timestep(s, i), next = i + 1 < n ? sd_sampler_timestep(s, i + 1) : -1;
                            assert_true(t >= 0 && t <= train - 1 && (t > next || m == SD_PNDM));
                            assert_true(sd_sampler_sigma(s, i) > 0 && sd_sampler_alpha(s, i) > 0);
                        }
                        assert_true(sd_sampler_sigma(s, n) <= sd_sampler_sigma(s, n - 1));
                        sd_sampler_free(s);
                    }
}

/* numpy.arange(1000, 0, -1000/61) has 62 numbers, the last 1e-13: diffusers runs a 62nd evaluation at timestep -1, with
 * the alpha of timestep 999. We end after the 61st. */
TEST(trailing_does_not_overshoot)
{
    const int overshooting[] = {61, 103, 121, 206, 457};
    for (int m = SD_DDIM; m <= SD_EULER_A; m++)
        for (int i = 0; i < 5; i++) {
            sd_sched_config c = sd_config((sd_method)m);
            c.spacing = SD_SPACE_TRAILING;
            sd_sampler *s = start(&c, overshooting[i]);
            int n = sd_sampler_count(s);
            assert_int_equal(n, overshooting[i] + (m == SD_PNDM));
            assert_true(sd_sampler_timestep(s, 0) == 999 && sd_sampler_timestep(s, n - 1) >= 0);
            sd_sampler_free(s);
        }
}

/* numpy rounds halves to even and multiplies a stride that was rounded once: both can be seen at whole timesteps. */
TEST(twin_with_naive_trailing_timesteps_is_wrong)
{
    int differ = 0;
    for (int steps = 1; steps <= TRAIN; steps++) {
        sd_sched_config c = sd_config(SD_DDIM);
        c.spacing = SD_SPACE_TRAILING;
        sd_sampler *s = start(&c, steps);
        for (int i = 0; i < steps; i++)
            differ += sd_sampler_timestep(s, i) != floor(TRAIN - i * ((double)TRAIN / steps) + 0.5) - 1;
        sd_sampler_free(s);
    }
    assert_true(differ > 100);
}

/* ---------------------------------------------------------------------------------------- runs */

typedef struct golden_run {
    sd_sched_config c;
    int steps, count, n_after;
    double next_normal;
    struct { double t, x[SHOWN], e32, x0[SHOWN], x0_e32; } after[MAX_AFTER];
} golden_run;

static void read_run(golden_run *r, char *line)
{
    memset(r, 0, sizeof *r);
    r->c = sd_config(method_named(word(&line)));
    r->c.spacing = spacing_named(word(&line));
    r->c.steps_offset = whole(&line);
    r->c.prediction = prediction_named(word(&line));
    r->c.set_alpha_to_one = whole(&line) != 0;
    r->c.clip_sample = whole(&line) != 0;
    r->c.skip_prk_steps = whole(&line) != 0;
    r->c.rescale_zero_snr = whole(&line) != 0;
    r->steps = whole(&line);
    double eta = number(&line);   /* of DDIM */
    if (r->c.method == SD_DDIM) r->c.eta = eta;
    r->count = whole(&line);
    r->next_normal = number(&line);
}

static void read_after(golden_run *r, char *line)
{
    assert_true(r->n_after < MAX_AFTER);
    int i = r->n_after++;
    r->after[i].t = number(&line);
    for (int k = 0; k < SHOWN; k++) r->after[i].x[k] = number(&line);
    r->after[i].e32 = number(&line);
    for (int k = 0; k < SHOWN; k++) r->after[i].x0[k] = number(&line);
    r->after[i].x0_e32 = number(&line);
}

/* The model that tools/golden_sampler.py puts in the UNet's place. */
static double model_of(double x, double t, size_t k)
{
    return 0.9 * sin(1.3 * x + 0.2 * (double)k) + 0.05 * cos(0.02 * t);
}

static double golden_model(const caller *c, int i, double t, size_t k, double x)
{
    (void)c;
    (void)i;
    return model_of(x, t, k);
}

static void model(float *out, const float *x, double t, int n)
{
    for (int k = 0; k < n; k++) out[k] = (float)model_of(x[k], t, (size_t)k);
}

/* Largest error as a share of what is allowed: three times torch-float32's own, at least a few roundings of the largest
 * number. */
static double judge(const float *found, const double *expected, double e32)
{
    double largest = 1, worst = 0;
    for (int k = 0; k < SHOWN; k++) largest = fmax(largest, fabs(expected[k]));
    for (int k = 0; k < SHOWN; k++) {
        double err = fabs(found[k] - expected[k]);
        if (!(err <= worst)) worst = err;   /* NaN too */
    }
    return worst / fmax(3 * e32, 4 * (double)FLT_EPSILON * largest);
}

/* Which line of a golden run tells of evaluation i; long runs have gaps: -1. */
static int line_of(const golden_run *r, int i)
{
    return r->n_after == r->count || i < 2 ? i : i == r->count - 1 ? r->n_after - 1 : -1;
}

static void note(caller *c, double bad)
{
    if (!(bad <= c->worst)) c->worst = bad;
}

static void compare_latents(caller *c, int i, float *latents)
{
    const golden_run *r = c->data;
    int at = i > 0 ? line_of(r, i - 1) : -1;   /* "after" evaluation i - 1 is before evaluation i */
    if (at < 0) return;
    if (sd_sampler_timestep(c->s, i - 1) != r->after[at].t) note(c, 1e3);
    note(c, judge(latents, r->after[at].x, r->after[at].e32));
}

static void compare_x0(caller *c, int i, const float *x0)
{
    const golden_run *r = c->data;
    int at = line_of(r, i);
    if (at >= 0) note(c, judge(x0, r->after[at].x0, r->after[at].x0_e32));
}

/* A run with the settings c against a golden run; what must not exceed 1. The generator must have given as much noise
 * as diffusers drew. */
static double run_against(const golden_run *r, const sd_sched_config *c)
{
    sd_sampler *s = start(c, r->steps);
    if (sd_sampler_count(s) != r->count) {
        sd_sampler_free(s);
        return INFINITY;
    }
    caller by = {.model = golden_model, .before = compare_latents, .denoised = compare_x0, .data = r};
    float x[SIZE], next;
    sd_rng_seed(&by.rng, 77);
    sd_rng_normal(&by.rng, x, SIZE);
    for (int k = 0; k < SIZE; k++) x[k] = (float)(x[k] * sd_sampler_init_sigma(s));
    run(&by, s, x, SIZE);
    sd_rng_normal(&by.rng, &next, 1);
    if (fabs(next - r->next_normal) > 1e-6) by.worst = INFINITY;
    sd_sampler_free(s);
    return by.worst;
}

static golden_run *all_runs;
static int n_runs;

static int load_runs(UNUSED void **state)
{
    char *text = golden("tests/golden/sampler_runs.txt"), *at = text, *line;
    while ((line = next_line(&at))) {
        bool first = strcmp(word(&line), "run") == 0;
        if (first) {
            golden_run *more = realloc(all_runs, (size_t)(n_runs + 1) * sizeof *more);
            assert_non_null(more);
            all_runs = more;
            read_run(&all_runs[n_runs++], line);
        } else {
            read_after(&all_runs[n_runs - 1], line);
        }
    }
    free(text);
    return 0;
}

static int free_runs(UNUSED void **state)
{
    free(all_runs);
    return 0;
}

TEST(every_step_equals_diffusers_in_float64)
{
    assert_true(n_runs > 70);
    double worst = 0;
    for (int i = 0; i < n_runs; i++) {
        const golden_run *r = &all_runs[i];
        double w = run_against(r, &r->c);
        worst = fmax(worst, w);
        if (!(w <= 1))
            fail_msg("%s %s %s, %d steps, eta %g: error %.3g of what is allowed", sd_method_name(r->c.method),
                     sd_prediction_name(r->c.prediction), sd_spacing_name(r->c.spacing), r->steps, r->c.eta, w);
    }
    print_message("%d runs, largest error %.3f of max(3 e32, 4 roundings)\n", n_runs, worst);
}

/* Judges one mistake: `spoil` changes the settings of each run it applies to, and every such run must then fail. */
static void twin_fails(bool (*spoil)(const golden_run *, sd_sched_config *), int at_least)
{
    int seen = 0;
    for (int i = 0; i < n_runs; i++) {
        sd_sched_config c = all_runs[i].c;
        if (!spoil(&all_runs[i], &c)) continue;
        double w = run_against(&all_runs[i], &c);
        if (!(w > 10))
            fail_msg("the mistake passes: %s %s %s, %d steps: %.3g", sd_method_name(c.method),
                     sd_prediction_name(c.prediction), sd_spacing_name(c.spacing), all_runs[i].steps, w);
        seen++;
    }
    assert_true(seen >= at_least);
}

static bool spoil_betas(const golden_run *r, sd_sched_config *c)
{
    c->beta_schedule = SD_BETA_LINEAR;
    return !r->c.rescale_zero_snr;
}

static bool spoil_offset(const golden_run *r, sd_sched_config *c)
{
    c->steps_offset = !c->steps_offset;
    return c->spacing == SD_SPACE_LEADING && r->steps < TRAIN;
}

static bool spoil_last_alpha(const golden_run *r, sd_sched_config *c)
{
    (void)r;   /* where the last step goes below timestep 0; v and Euler do not depend on it */
    c->set_alpha_to_one = !c->set_alpha_to_one;
    return c->method <= SD_PNDM && c->spacing != SD_SPACE_TRAILING;
}

static bool spoil_prediction(const golden_run *r, sd_sched_config *c)
{
    (void)r;
    if (c->prediction == SD_PRED_SAMPLE || c->rescale_zero_snr) return false;
    c->prediction = c->prediction == SD_PRED_V ? SD_PRED_EPSILON : SD_PRED_V;
    return true;
}

static bool spoil_clip(const golden_run *r, sd_sched_config *c)
{
    c->clip_sample = !c->clip_sample;
    return c->method == SD_DDIM && c->prediction == SD_PRED_EPSILON && r->steps == 5;
}

static bool spoil_eta(const golden_run *r, sd_sched_config *c)
{
    (void)r;
    c->eta = c->eta > 0 ? 0 : 0.5;
    return c->method == SD_DDIM;
}

static bool spoil_runge_kutta(const golden_run *r, sd_sched_config *c)
{
    c->skip_prk_steps = !c->skip_prk_steps;
    return c->method == SD_PNDM && r->steps >= 4;
}

TEST(twin_with_linear_betas_draws_other_pictures) { twin_fails(spoil_betas, 60); }
TEST(twin_with_another_steps_offset_is_wrong) { twin_fails(spoil_offset, 20); }
TEST(twin_with_another_last_alpha_is_wrong) { twin_fails(spoil_last_alpha, 20); }
TEST(twin_that_confuses_epsilon_and_v_is_wrong) { twin_fails(spoil_prediction, 40); }
TEST(twin_with_the_other_clip_sample_is_wrong) { twin_fails(spoil_clip, 5); }
TEST(twin_with_another_eta_is_wrong) { twin_fails(spoil_eta, 15); }
TEST(twin_with_the_other_pndm_start_is_wrong) { twin_fails(spoil_runge_kutta, 10); }

static const golden_run *find_run(sd_method m, sd_spacing spacing, int steps)
{
    for (int i = 0; i < n_runs; i++) {
        const golden_run *r = &all_runs[i];
        if (r->c.method == m && r->c.spacing == spacing && r->steps == steps && r->c.prediction == SD_PRED_EPSILON
            && r->c.eta == 0 && r->c.skip_prk_steps && r->c.steps_offset == 1)
            return r;
    }
    fail_msg("no such golden run");
    return NULL;
}

/* Steps of formula (9), which for a constant output is DDIM's; a and a1 are given by the caller. */
static void transfer(double *x, const double *eps, double a, double a1)
{
    for (int k = 0; k < SIZE; k++)
        x[k] = sqrt(a1 / a) * x[k] - (a1 - a) * eps[k] / (a * sqrt(1 - a1) + sqrt(a * (1 - a) * a1));
}

/* Trap 36: PLMS without the repeated evaluation, as a first step of order one. */
TEST(twin_of_pndm_without_the_repeated_step_is_wrong)
{
    const golden_run *r = find_run(SD_PNDM, SD_SPACE_LEADING, 5);
    sd_sampler *table = whole_table(&r->c);
    static const double weights[4][4] = {{1}, {1.5, -0.5}, {23 / 12.0, -16 / 12.0, 5 / 12.0},
                                         {55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0}};
    double x[SIZE], history[5][SIZE];
    float f[SIZE], output[SIZE];
    sd_rng rng;
    sd_rng_seed(&rng, 77);
    sd_rng_normal(&rng, f, SIZE);
    for (int k = 0; k < SIZE; k++) x[k] = f[k];
    for (int i = 0; i < 5; i++) {
        int t = 801 - 200 * i, to = i < 4 ? t - 200 : 0, order = i < 3 ? i : 3;
        double eps[SIZE] = {0};
        for (int k = 0; k < SIZE; k++) f[k] = (float)x[k];
        model(output, f, t, SIZE);
        for (int k = 0; k < SIZE; k++) {
            history[i][k] = output[k];
            for (int j = 0; j <= order; j++) eps[k] += weights[order][j] * history[i - j][k];
        }
        transfer(x, eps, sd_sampler_alpha(table, TRAIN - 1 - t), sd_sampler_alpha(table, TRAIN - 1 - to));
    }
    sd_sampler_free(table);
    for (int k = 0; k < SIZE; k++) f[k] = (float)x[k];
    assert_int_equal(r->count, 6);
    assert_true(judge(f, r->after[5].x, r->after[5].e32) > 100);
}

/* A step of linspace ends one stride of 1000/n below its start, not where the next one begins (888 for 10 steps, not
 * 899). */
TEST(twin_of_ddim_that_goes_to_the_next_timestep_is_wrong)
{
    const golden_run *r = find_run(SD_DDIM, SD_SPACE_LINSPACE, 5);
    sd_sampler *s = start(&r->c, 5), *table = whole_table(&r->c);
    double x[SIZE], eps[SIZE];
    float f[SIZE], output[SIZE];
    sd_rng rng;
    sd_rng_seed(&rng, 77);
    sd_rng_normal(&rng, f, SIZE);
    model(output, f, 999, SIZE);
    for (int right = 0; right < 2; right++) {
        for (int k = 0; k < SIZE; k++) {
            x[k] = f[k];
            eps[k] = output[k];
        }
        transfer(x, eps, sd_sampler_alpha(s, 0), right ? sd_sampler_alpha(table, 200) : sd_sampler_alpha(s, 1));
        float y[SIZE];
        for (int k = 0; k < SIZE; k++) y[k] = (float)x[k];
        double bad = judge(y, r->after[0].x, r->after[0].e32);
        assert_true(right ? bad <= 1 : bad > 100);
    }
    sd_sampler_free(s);
    sd_sampler_free(table);
}

/* Trap 40: diffusers' Euler a draws noise in its last step too, where it is multiplied by 0; k-diffusion does not. The
 * picture is the same, the next one from the same generator is not. DDIM draws for eta > 0 alone, but then in its last
 * step too. */
TEST(noise_is_drawn_when_diffusers_draws_it)
{
    const struct { sd_method m; double eta; int draws; } cases[] = {
        {SD_DDIM, 0, 0}, {SD_DDIM, 0.3, 6}, {SD_PNDM, 0, 0}, {SD_EULER, 0, 0}, {SD_EULER_A, 0, 6}};
    for (size_t i = 0; i < SD_COUNT(cases); i++) {
        sd_sched_config c = sd_config(cases[i].m);
        if (cases[i].m == SD_DDIM) c.eta = cases[i].eta;
        sd_sampler *s = start(&c, 6);
        sd_rng counted, twin;
        caller by = {.model = NULL};
        float x[SIZE] = {1}, y[SIZE], z[SIZE];
        sd_rng_seed(&by.rng, 5);
        sd_rng_seed(&counted, 5);
        sd_rng_seed(&twin, 5);
        run(&by, s, x, SIZE);
        for (int k = 0; k < cases[i].draws; k++) sd_rng_normal(&counted, y, SIZE);
        for (int k = 0; k < cases[i].draws - 1; k++) sd_rng_normal(&twin, y, SIZE);
        sd_rng_normal(&by.rng, x, SIZE);
        sd_rng_normal(&counted, y, SIZE);
        sd_rng_normal(&twin, z, SIZE);
        assert_memory_equal(x, y, sizeof x);
        if (cases[i].draws) assert_memory_not_equal(x, z, sizeof x);
        sd_sampler_free(s);
    }
}

/* --------------------------------------------------------------------- what diffusers refuses */

/* What a model that knows x0 (data) says of it. */
static double knows_x0(const caller *c, int i, double t, size_t k, double x)
{
    (void)t;
    double a = sd_sampler_alpha(c->s, i), known = ((const float *)c->data)[k];
    double eps = (x - sqrt(a) * known) / sqrt(1 - a);
    return c->worst == SD_PRED_SAMPLE ? known : c->worst == SD_PRED_V ? sqrt(a) * eps - sqrt(1 - a) * known : eps;
}

static void x0_is_known(caller *c, int i, const float *x0)
{
    (void)i;
    for (size_t k = 0; k < c->n; k++) assert_true(fabs(x0[k] - ((const float *)c->data)[k]) < 2e-5);
}

/* Euler a and PNDM refuse sample prediction; ours is the same formula with other numbers. A model that knows x0 says
 * the same thing as noise, as v and as x0, and must lead to the same place; exactly to x0 where the run ends at alpha
 * 1. */
TEST(all_predictions_of_a_model_that_knows_x0_agree)
{
    for (int m = SD_DDIM; m <= SD_EULER_A; m++)
        for (int p = SD_PRED_EPSILON; p <= SD_PRED_SAMPLE; p++)
            for (int prk = 0; prk <= (m == SD_PNDM); prk++) {
                sd_sched_config c = sd_config((sd_method)m);
                c.prediction = (sd_prediction)p;
                c.set_alpha_to_one = true;
                c.skip_prk_steps = !prk;
                sd_sampler *s = start(&c, 20);
                float x[SIZE], known[SIZE];
                caller by = {.model = knows_x0, .denoised = x0_is_known, .data = known, .worst = p};
                sd_rng_seed(&by.rng, 1);
                sd_rng_normal(&by.rng, known, SIZE);
                sd_rng_normal(&by.rng, x, SIZE);
                for (int k = 0; k < SIZE; k++) x[k] = (float)(x[k] * sd_sampler_init_sigma(s));
                run(&by, s, x, SIZE);
                /* PNDM averages noise or v of several levels: near x0, not at it */
                double bound = m == SD_PNDM && p != SD_PRED_SAMPLE ? 0.2 : 2e-5;
                for (int k = 0; k < SIZE; k++) assert_true(fabs(x[k] - known[k]) < bound);
                sd_sampler_free(s);
            }
}

TEST(steps_are_bounded)
{
    for (int m = SD_DDIM; m <= SD_EULER_A; m++) {
        sd_sched_config c = sd_config((sd_method)m);
        refuses(&c, 0, "steps should be 1..1000");
        refuses(&c, -5, "found -5");
        refuses(&c, 1001, "steps should be 1..1000");
        c.train_steps = SD_MAX_TRAIN_STEPS + 1;
        refuses(&c, 10, "num_train_timesteps");
    }
    sd_sched_config c = sd_config(SD_PNDM);
    c.skip_prk_steps = false;
    refuses(&c, 3, "needs 4 steps");
}

/* Trap 34: with steps_offset 1, 1000 steps begin at timestep 1000. DDIM and PNDM of diffusers raise an IndexError; its
 * Euler takes the last sigma twice. */
TEST(a_thousand_steps_with_an_offset_stay_inside_the_table)
{
    sd_sched_config c = sd_config(SD_DDIM);
    refuses(&c, 1000, "begin at timestep 1000, but the last one is 999");
    c = sd_config(SD_PNDM);
    refuses(&c, 1000, "begin at timestep 1000");
    c = sd_config(SD_EULER);
    sd_sampler *s = start(&c, 1000);
    assert_true(sd_sampler_timestep(s, 0) == 1000 && sd_sampler_sigma(s, 0) == sd_sampler_sigma(s, 1));
    sd_sampler_free(s);
}

TEST(settings_are_bounded)
{
    const double bad_betas[] = {0, -1, 1, 2, NAN, INFINITY};
    for (size_t i = 0; i < SD_COUNT(bad_betas); i++) {
        sd_sched_config c = sd_config(SD_DDIM);
        c.beta_start = bad_betas[i];
        refuses(&c, 5, "beta_start");
        c = sd_config(SD_EULER);
        c.beta_end = bad_betas[i];
        refuses(&c, 5, "beta_end");
    }
    sd_sched_config c = sd_config(SD_DDIM);
    c.eta = 1.5;
    refuses(&c, 5, "eta");
    c.eta = NAN;
    refuses(&c, 5, "eta");
    c = sd_config(SD_DDIM);
    c.steps_offset = -1;
    refuses(&c, 5, "steps_offset");
    c = sd_config(SD_DDIM);
    c.clip_sample_range = 0;
    refuses(&c, 5, "clip_sample_range");
    c = sd_config(SD_DDIM);
    c.beta_start = 1e-12;   /* rounds to alpha 1 in float32 */
    c.beta_schedule = SD_BETA_LINEAR;
    refuses(&c, 5, "unusable noise schedule");
    c = sd_config(SD_EULER);
    c.train_steps = SD_MAX_TRAIN_STEPS;   /* the product underflows: no finite sigma */
    c.spacing = SD_SPACE_TRAILING;
    refuses(&c, 5, "cannot use timestep");
    c = sd_config(SD_DDIM);
    c.method = (sd_method)99;
    refuses(&c, 5, "unknown sampler");
}

TEST(misused_runs_are_refused)
{
    sd_sched_config c = sd_config(SD_PNDM);
    sd_sampler *s = start(&c, 5);
    caller by = {.s = s, .n = SIZE};
    sd_denoiser d = {&by, call_model, NULL, NULL, NULL, 1, NULL, NULL};
    float x[SIZE] = {0};
    const size_t bad[] = {0, SIZE_MAX, SIZE_MAX / 8};
    for (size_t k = 0; k < SD_COUNT(bad); k++) {
        sd_error e = no_error();
        assert_int_equal(sd_sampler_run(s, x, bad[k], &d, &e), SD_ERR_ARG);
        assert_non_null(strstr(e.text, "latents of"));
    }
    sd_error e = no_error();
    assert_int_equal(sd_sampler_run(s, x, SIZE, &d, &e), SD_OK);
    sd_sampler_free(s);
    c = sd_config(SD_EULER_A);
    s = start(&c, 5);
    assert_int_equal(sd_sampler_run(s, x, SIZE, &d, &e), SD_ERR_ARG);
    assert_non_null(strstr(e.text, "needs a generator"));
    sd_sampler_free(s);
}

static sd_status stop_at_third(void *user, int i, double t, const float *input, float *prediction)
{
    (void)t;
    (void)input;
    ++*(int *)user;
    prediction[0] = 0;
    return i == 2 ? SD_ERR_CANCELLED : SD_OK;
}

static sd_status refuse_the_second(void *user, int i, float *latents)
{
    (void)latents;
    return i == 1 ? ++*(int *)user, SD_ERR_NUMERIC : SD_OK;
}

/* A cancelled evaluation is the last one, whatever the sampler; the status comes back as it is. */
TEST(a_status_of_the_caller_ends_the_run)
{
    for (int m = 0; m < SD_METHOD_COUNT; m++) {
        sd_sched_config c = sd_config((sd_method)m);
        c.eta = 0;
        sd_sampler *s = start(&c, 6);
        float x = 1;
        int calls = 0;
        sd_error e = no_error();
        sd_denoiser d = {&calls, stop_at_third, NULL, NULL, NULL, 1, NULL, NULL};
        if (sd_method_about((sd_method)m)->draws != SD_DRAWS_ALWAYS) {
            assert_int_equal(sd_sampler_run(s, &x, 1, &d, &e), SD_ERR_CANCELLED);
            assert_int_equal(e.status, SD_ERR_CANCELLED);
            assert_int_equal(calls, 3);
            calls = 0;
            e = no_error();
            d = (sd_denoiser){&calls, stop_at_third, refuse_the_second, NULL, NULL, 1, NULL, NULL};
            assert_int_equal(sd_sampler_run(s, &x, 1, &d, &e), SD_ERR_NUMERIC);
            assert_int_equal(calls, 2);
        }
        sd_sampler_free(s);
    }
}

/* A sampler can be run again: nothing of a run stays in it. */
TEST(a_second_run_equals_the_first)
{
    for (int m = SD_DDIM; m <= SD_EULER_A; m++)
        for (int prk = 0; prk <= (m == SD_PNDM); prk++) {
            sd_sched_config c = sd_config((sd_method)m);
            c.skip_prk_steps = !prk;
            sd_sampler *s = start(&c, 6);
            float x[2][SIZE];
            for (int k = 0; k < 2; k++) {
                caller by = {.model = golden_model};
                sd_rng_seed(&by.rng, 3);
                sd_rng_normal(&by.rng, x[k], SIZE);
                run(&by, s, x[k], SIZE);
            }
            assert_memory_equal(x[0], x[1], sizeof x[0]);
            sd_sampler_free(s);
        }
}

static double third_is_nan(const caller *c, int i, double t, size_t k, double x)
{
    (void)c;
    (void)i;
    (void)t;
    (void)x;
    return k == 3 ? (double)NAN : 0.0;
}

static void third_x0_is_nan(caller *c, int i, const float *x0)
{
    (void)c;
    (void)i;
    assert_true(isnan(x0[3]) && !isnan(x0[2]));
}

/* Clipping must not hide a model that has gone wrong. */
TEST(nan_goes_through)
{
    for (int m = SD_DDIM; m <= SD_EULER_A; m++) {
        sd_sched_config c = sd_config((sd_method)m);
        c.clip_sample = true;
        sd_sampler *s = start(&c, 5);
        float x[SIZE] = {0};
        caller by = {.model = third_is_nan, .denoised = third_x0_is_nan};
        sd_rng_seed(&by.rng, 0);
        run(&by, s, x, SIZE);
        assert_true(isnan(x[3]) && !isnan(x[2]));
        sd_sampler_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alphas_cumprod_equal_diffusers_in_every_bit),
        cmocka_unit_test(the_table_of_stable_diffusion_is_diffusers),
        cmocka_unit_test(twin_with_plainly_linear_betas_is_wrong),
        cmocka_unit_test(twin_with_betas_in_double_has_other_bits),
        cmocka_unit_test(zero_terminal_snr_is_finite_for_euler_and_zero_for_ddim),
        cmocka_unit_test(timesteps_and_sigmas_equal_diffusers),
        cmocka_unit_test(pndm_takes_its_first_step_twice),
        cmocka_unit_test(euler_leading_starts_at_the_published_numbers),
        cmocka_unit_test(euler_scales_its_initial_noise_by_spacing),
        cmocka_unit_test(only_euler_scales_the_input),
        cmocka_unit_test(every_number_of_steps_has_a_plan),
        cmocka_unit_test(trailing_does_not_overshoot),
        cmocka_unit_test(twin_with_naive_trailing_timesteps_is_wrong),
        cmocka_unit_test(every_step_equals_diffusers_in_float64),
        cmocka_unit_test(twin_with_linear_betas_draws_other_pictures),
        cmocka_unit_test(twin_with_another_steps_offset_is_wrong),
        cmocka_unit_test(twin_with_another_last_alpha_is_wrong),
        cmocka_unit_test(twin_that_confuses_epsilon_and_v_is_wrong),
        cmocka_unit_test(twin_with_the_other_clip_sample_is_wrong),
        cmocka_unit_test(twin_with_another_eta_is_wrong),
        cmocka_unit_test(twin_with_the_other_pndm_start_is_wrong),
        cmocka_unit_test(twin_of_pndm_without_the_repeated_step_is_wrong),
        cmocka_unit_test(twin_of_ddim_that_goes_to_the_next_timestep_is_wrong),
        cmocka_unit_test(noise_is_drawn_when_diffusers_draws_it),
        cmocka_unit_test(all_predictions_of_a_model_that_knows_x0_agree),
        cmocka_unit_test(steps_are_bounded),
        cmocka_unit_test(a_thousand_steps_with_an_offset_stay_inside_the_table),
        cmocka_unit_test(settings_are_bounded),
        cmocka_unit_test(misused_runs_are_refused),
        cmocka_unit_test(a_status_of_the_caller_ends_the_run),
        cmocka_unit_test(a_second_run_equals_the_first),
        cmocka_unit_test(nan_goes_through),
    };
    return cmocka_run_group_tests_name("sampler", tests, load_runs, free_runs);
}
