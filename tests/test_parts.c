/* test_parts.c - a sampler's run cut into parts, as an ensemble of experts draws, against diffusers in float64
 * (tests/golden/sampler_parts.txt, made by tools/golden_parts.py): which timesteps each part takes, and its latents. */
#include "../rng.h"
#include "../sampler_run.h"

#include <float.h>
#include <math.h>

#include "test.h"

enum { SIZE = 20, SHOWN = 2, MOST_PARTS = 3 };

static sd_error no_error(void) { return (sd_error){.status = SD_OK}; }

typedef struct part { double end, sum_t, sum_it, x[SHOWN], e32; int count; } part;

typedef struct chain {
    char name[32], spacing[16], curve[32], prediction[16];
    int offset, prk, steps, n;
    part part[MOST_PARTS];
} chain;

static chain *chains;
static int n_chains;

static int load(UNUSED void **state)
{
    sd_error e = no_error();
    char *text;
    size_t n;
    if (sd_read_file("tests/golden/sampler_parts.txt", (size_t)1 << 22, &text, &n, &e)) fail_msg("%s", e.text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "chain ", 6) == 0) {
            chain *more = realloc(chains, (size_t)(n_chains + 1) * sizeof *more), *g;
            assert_non_null(more);
            chains = more;
            g = &chains[n_chains++];
            memset(g, 0, sizeof *g);
            int parts;
            assert_int_equal(sscanf(line, "chain %31s %15s %31s %15s %d %d %d %d", g->name, g->spacing, g->curve,
                                    g->prediction, &g->offset, &g->prk, &g->steps, &parts), 8);
        } else if (strncmp(line, "part ", 5) == 0) {
            chain *g = &chains[n_chains - 1];
            assert_true(g->n < MOST_PARTS);
            part *p = &g->part[g->n++];
            assert_int_equal(sscanf(line, "part %lf %d %lf %lf %lf %lf %lf", &p->end, &p->count, &p->sum_t, &p->sum_it,
                                    &p->x[0], &p->x[1], &p->e32), 7);
        }
    }
    free(text);
    return 0;
}

static int unload(UNUSED void **state)
{
    free(chains);
    return 0;
}

static sd_sched_config config_of(const chain *g)
{
    sd_error e = no_error();
    sd_method m = SD_DDIM;
    sd_sched_config c;
    if (sd_method_parse(&m, NULL, g->name, &e)) fail_msg("%s", e.text);
    sd_sched_defaults(&c, m);
    c.beta_schedule = SD_BETA_SCALED_LINEAR;
    c.beta_start = 0.00085;
    c.beta_end = 0.012;
    c.steps_offset = g->offset;
    c.clip_sample = false;
    c.skip_prk_steps = !g->prk;
    if (*g->curve != '-' && sd_curve_parse(&c.curve, g->curve, &e)) fail_msg("%s", e.text);
    if (sd_spacing_parse(&c.spacing, g->spacing, &e) || sd_prediction_parse(&c.prediction, g->prediction, &e))
        fail_msg("%s", e.text);
    return c;
}

/* ------------------------------------------------------------------------------------- running */

typedef struct caller {
    sd_rng rng;
    double sum_t, sum_it;
    int evaluations;
} caller;

static sd_status sines(void *user, int i, double t, const float *input, float *prediction)
{
    caller *c = user;
    c->evaluations++;
    c->sum_t += t;
    c->sum_it += i * t;
    for (int k = 0; k < SIZE; k++) prediction[k] = (float)(0.9 * sin(1.3 * input[k] + 0.2 * k) + 0.05 * cos(0.02 * t));
    return SD_OK;
}

static sd_status normals(void *user, UNUSED double from, UNUSED double to, float *out, size_t n)
{
    sd_rng_normal(&((caller *)user)->rng, out, n);
    return SD_OK;
}

/* The largest error of any part as a share of its bound; INFINITY where a part has other timesteps. */
typedef struct outcome { double latents, schedule; float end[SIZE]; } outcome;

static double off_by(double found, double expected) { return fabs(found - expected) / fmax(fabs(expected), 1.0); }

static void judge_part(outcome *o, const part *p, const caller *by, const float *x)
{
    double largest = 1, error = 0;
    if (by->evaluations != p->count) o->schedule = INFINITY;
    o->schedule = fmax(o->schedule, fmax(off_by(by->sum_t, p->sum_t), off_by(by->sum_it, p->sum_it)));
    for (int k = 0; k < SHOWN; k++) {
        largest = fmax(largest, fabs(p->x[k]));
        error = fmax(error, fabs(x[k] - p->x[k]));
    }
    o->latents = fmax(o->latents, error / fmax(3 * p->e32, 4 * (double)FLT_EPSILON * largest));
}

/* Runs the parts one after another; `shift` is added to the shares where they are cut, as a mistake. */
static outcome run_chain(const chain *g, double shift)
{
    sd_sched_config c = config_of(g);
    sd_error e = no_error();
    caller by = {.evaluations = 0};
    outcome o = {0};
    float x[SIZE];
    sd_rng_seed(&by.rng, 77);
    sd_rng_normal(&by.rng, x, SIZE);
    for (int i = 0; i < g->n; i++) {
        sd_sampler *s;
        const sd_sampler_part p = {0, i ? g->part[i - 1].end + shift : 0, i < g->n - 1 ? g->part[i].end + shift : 1, 0};
        if (sd_sampler_new_part(&s, &c, g->steps, &p, &e)) fail_msg("%s: %s", g->name, e.text);
        for (int k = 0; i == 0 && k < SIZE; k++) x[k] = (float)(x[k] * sd_sampler_init_sigma(s));
        by.evaluations = 0;
        by.sum_t = by.sum_it = 0;
        const sd_denoiser d = {&by, sines, NULL, NULL, normals, 1, NULL, NULL};
        if (sd_sampler_run(s, x, SIZE, &d, &e)) fail_msg("%s", e.text);
        assert_int_equal(by.evaluations, sd_sampler_count(s));
        judge_part(&o, &g->part[i], &by, x);
        sd_sampler_free(s);
    }
    memcpy(o.end, x, sizeof x);
    return o;
}

TEST(parts_of_every_samplers_runs_equal_diffusers)
{
    outcome worst = {0};
    int bad = 0;
    for (int i = 0; i < n_chains; i++) {
        const chain *g = &chains[i];
        outcome o = run_chain(g, 0);
        if (!(o.latents <= 1) || !(o.schedule <= 1e-6)) {
            bad++;
            print_message("%s %s %s %s offset %d, %d steps, cut at %g: latents %.3g of what is allowed, schedule off "
                          "by %.3g\n", g->name, g->spacing, g->curve, g->prediction, g->offset, g->steps,
                          g->part[0].end, o.latents, o.schedule);
        }
        worst.latents = fmax(worst.latents, o.latents);
        worst.schedule = fmax(worst.schedule, o.schedule);
    }
    print_message("%d runs in parts, largest error %.3f of max(3 e32, 4 roundings), of a schedule %.2g\n", n_chains,
                  worst.latents, worst.schedule);
    assert_int_equal(bad, 0);
}

/* -------------------------------------------------------------------------------- wrong twins */

/* A timestep that is the cutoff belongs to the part before. */
TEST(a_cutoff_that_is_a_timestep_shorter_is_noticed)
{
    int seen = 0;
    for (int i = 0; i < n_chains; i++) {
        sd_sched_config c = config_of(&chains[i]);
        if (chains[i].offset || sd_method_row_of(c.method)->levels->one_more) continue;   /* none has timestep 500 */
        outcome o = run_chain(&chains[i], -0.001);
        if (!(o.schedule > 1e-3)) fail_msg("%s: %g", chains[i].name, o.schedule);
        seen++;
    }
    assert_true(seen >= 10);
}

/* The whole run, uncut: what a sampler without a memory draws in parts as well; one with a memory, or one that is cut
 * in the middle of a step, does not. */
static double whole_run_is_off_by(const chain *g)
{
    sd_sched_config c = config_of(g);
    sd_error e = no_error();
    caller by = {.evaluations = 0};
    outcome o = {0};
    sd_sampler *s;
    float x[SIZE];
    if (sd_sampler_new(&s, &c, g->steps, &e)) fail_msg("%s", e.text);
    sd_rng_seed(&by.rng, 77);
    sd_rng_normal(&by.rng, x, SIZE);
    for (int k = 0; k < SIZE; k++) x[k] = (float)(x[k] * sd_sampler_init_sigma(s));
    const sd_denoiser d = {&by, sines, NULL, NULL, normals, 1, NULL, NULL};
    if (sd_sampler_run(s, x, SIZE, &d, &e)) fail_msg("%s", e.text);
    by.evaluations = g->part[g->n - 1].count;
    judge_part(&o, &g->part[g->n - 1], &by, x);
    sd_sampler_free(s);
    return o.latents;
}

TEST(a_sampler_that_keeps_its_memory_into_the_next_part_is_noticed)
{
    static const struct { const char *name; bool same; } samplers[] = {
        {"euler", true}, {"ddim", true}, {"euler_a", true}, {"ddpm", true}, {"lcm", true}, {"tcd", true},
        {"dpm++2m", false}, {"dpm++2m_sde", false}, {"dpm++3m_sde", false}, {"unipc", false}, {"deis", false},
        {"lms", false}, {"pndm", false}, {"sa_solver", false}, {"heun", false}};
    for (size_t k = 0; k < SD_COUNT(samplers); k++) {
        double most = 0;
        for (int i = 0; i < n_chains; i++)
            if (strcmp(chains[i].name, samplers[k].name) == 0) most = fmax(most, whole_run_is_off_by(&chains[i]));
        if (samplers[k].same ? !(most <= 1) : !(most > 10)) fail_msg("%s: %g", samplers[k].name, most);
    }
}

/* ------------------------------------------------------------------------------------ refusals */

static void refuses(const char *name, double start, double end, const char *because)
{
    sd_error e = no_error();
    sd_method m = SD_DDIM;
    sd_program program = SD_DIFFUSERS;
    sd_sched_config c;
    sd_sampler *s;
    if (sd_method_parse(&m, &program, name, &e)) fail_msg("%s", e.text);
    sd_sched_defaults(&c, m);
    c.program = program;
    if (sd_sampler_new_part(&s, &c, 10, &(sd_sampler_part){0, start, end, 0}, &e) != SD_ERR_ARG || s
        || !strstr(e.text, because))
        fail_msg("%s from %g to %g: expected \"%s\": %s", name, start, end, because, e.text);
}

TEST(a_run_that_cannot_be_cut_says_why)
{
    refuses("dpm_fast", 0, 0.5, "neither begin nor end in the middle of a run: its noise levels are not those");
    refuses("dpm_adaptive", 0.5, 1, "its noise levels are not known before");
    refuses("restart", 0, 0.5, "it goes back to noise levels");
    refuses("ddim_inverse", 0, 0.5, "it goes from a picture to noise");
    refuses("ipndm", 0, 0.5, "its timesteps are none of the training schedule");
    refuses("edm_euler", 0, 0.5, "its timesteps are none of the training schedule");
    refuses("euler", 0.5, 0.5, "goes from a share of 0 or more to a larger one, at most 1, not from 0.5 to 0.5");
    refuses("euler", 0, 0, "at most 1, not from 0 to 0");
    refuses("euler", 0, 0.0001, "no step of 10 of euler is between the shares 0 and 0.0001");
    refuses("ddim", 0.51, 0.52, "no step of 10 of ddim is between");
}

/* k-diffusion's samplers have no class that counts timesteps: they are cut between steps, and nothing comes twice. */
TEST(other_programs_samplers_are_cut_between_steps)
{
    static const char *const names[] = {"heun@kdiffusion", "dpm2@kdiffusion", "euler@kdiffusion", "dpm++2s_a",
                                        "ipndm@comfy", "dpm++sde@kdiffusion", "res_multistep"};
    for (size_t k = 0; k < SD_COUNT(names); k++) {
        sd_error e = no_error();
        sd_sched_config c;
        sd_method m = SD_DDIM;
        sd_program program = SD_DIFFUSERS;
        sd_sampler *all, *a, *b;
        if (sd_method_parse(&m, &program, names[k], &e)) fail_msg("%s", e.text);
        sd_sched_defaults(&c, m);
        c.program = program;
        if (sd_sampler_new(&all, &c, 7, &e) || sd_sampler_new_part(&a, &c, 7, &(sd_sampler_part){0, 0, 0.6, 0}, &e)
            || sd_sampler_new_part(&b, &c, 7, &(sd_sampler_part){0, 0.6, 1, 0}, &e))
            fail_msg("%s: %s", names[k], e.text);
        int first = sd_sampler_count(a);
        assert_int_equal(first + sd_sampler_count(b), sd_sampler_count(all));
        for (int i = 0; i < sd_sampler_count(b); i++)
            assert_true(sd_sampler_timestep(b, i) == sd_sampler_timestep(all, first + i));
        assert_true(sd_sampler_timestep(b, 0) < 400 && sd_sampler_timestep(a, 0) >= 400);
        assert_true(sd_sampler_sigma(a, first) == sd_sampler_sigma(b, 0));
        sd_sampler_free(all);
        sd_sampler_free(a);
        sd_sampler_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_every_samplers_runs_equal_diffusers),
        cmocka_unit_test(a_cutoff_that_is_a_timestep_shorter_is_noticed),
        cmocka_unit_test(a_sampler_that_keeps_its_memory_into_the_next_part_is_noticed),
        cmocka_unit_test(a_run_that_cannot_be_cut_says_why),
        cmocka_unit_test(other_programs_samplers_are_cut_between_steps),
    };
    return cmocka_run_group_tests_name("parts", tests, load, unload);
}
