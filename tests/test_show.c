/* test_show.c - sd samplers and sd schedule from outside: what they print and draw, and how bad requests end. */
#define _XOPEN_SOURCE 700
#include <math.h>

#include "test.h"
#include "../sd.h"
#include "child.h"
#include "tempdir.h"

static int count_of(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)) != NULL; text += strlen(part)) n++;
    return n;
}

TEST(samplers_are_listed_with_their_names_and_papers)
{
    sd_sampler_info s;
    int n = 0;
    RUN("samplers");
    expect_success("samplers");
    for (; sd_get_sampler(n, &s); n++)
        if (!strstr(ran.out, s.name) || !strstr(ran.out, s.paper) || (s.diffusers && !strstr(ran.out, s.diffusers)))
            fail_msg("sd samplers lacks %s", s.name);
    assert_true(n >= 25 && !sd_get_sampler(-1, &s));
    for (int i = 0; sd_schedule_name(i); i++) assert_non_null(strstr(ran.out, sd_schedule_name(i)));
    RUN("samplers", "--json");
    expect_success("samplers --json");
    assert_int_equal(count_of(ran.out, "\"paper\":"), n);
    assert_int_equal(count_of(ran.out, "\n"), 1);
}

#define SCHEDULE "schedule", "-m", "weights/tiny", "--steps", "20"

/* Known numbers: Euler with leading spacing and offset 1 begins at 951, 901; Karras' curve at 14.6146. */
TEST(schedules_are_printed)
{
    RUN(SCHEDULE, "--sampling-method", "euler", "--scheduler", "leading");
    expect_success("schedule");
    assert_non_null(strstr(ran.out, "951"));
    assert_non_null(strstr(ran.out, "901"));
    RUN(SCHEDULE, "--sampling-method", "heun", "--scheduler", "karras@kdiffusion,beta", "--json");
    expect_success("schedule --json");
    assert_int_equal(count_of(ran.out, "\"evaluations\":39"), 2);
    assert_int_equal(count_of(ran.out, "\n"), 1);
    const char *sigmas = strstr(ran.out, "\"sigmas\":[");
    assert_non_null(sigmas);
    assert_true(fabs(strtod(sigmas + 10, NULL) - 14.6146) < 1e-2);
    RUN("schedule", "-m", "weights/tiny", "--sampling-method", "pndm", "--steps", "40");
    assert_non_null(strstr(ran.out, "41 evaluations of the network for 40 steps\n"));
    RUN("schedule", "-m", "weights/tiny", "--sampling-method", "dpm_adaptive");
    expect_success("schedule of dpm_adaptive");
    assert_non_null(strstr(ran.out, "while it runs"));
}

/* The model's own sampler, PNDM, goes by its own levels: who asks for others without naming a sampler gets one that
 * takes them. */
TEST(a_schedule_for_a_model_of_pndm_brings_its_sampler)
{
    static const char *const schedules[][2] = {{"--scheduler", "karras"}, {"--sigmas", "14.6,5,1,0"},
                                               {"--timesteps", "900,500,1"}};
    for (size_t i = 0; i < 3; i++) {
        RUN(SCHEDULE, schedules[i][0], schedules[i][1]);
        expect_success("a schedule with PNDM's model");
        if (!strstr(ran.err, "pndm, goes by its own noise levels: dpm++2m draws with those of"))
            fail_msg("%s", ran.err);
        char *alone = strdup(ran.out);
        RUN(SCHEDULE, schedules[i][0], schedules[i][1], "--sampling-method", "dpm++2m");
        expect_success("a schedule with dpm++2m");
        assert_string_equal(ran.out, alone);
        assert_string_equal(ran.err, "");
        free(alone);
    }
    RUN(SCHEDULE);   /* without one it stays PNDM */
    expect_success("PNDM's own");
    assert_string_equal(ran.err, "");
    RUN("-p", "x", "-s", "1", "--steps", "2", "-W", "32", "-H", "32", "--scheduler", "karras", "-o",
        temp_path("a.ppm"));
    expect_success("drawing");
    assert_int_equal(count_of(ran.err, "dpm++2m draws"), 1);
    temp_clear();
}

TEST(schedules_are_drawn)
{
    static const char *const path = "curves.ppm";
    size_t n;
    RUN(SCHEDULE, "--sampling-method", "dpm++2m", "--scheduler", "karras,exponential", "--plot", temp_path(path));
    expect_success("schedule --plot");
    assert_non_null(strstr(ran.out, "blue: karras"));
    unsigned char *ppm = (unsigned char *)slurp(temp_path(path), &n);
    size_t pixels = 800 * 500 * 3;
    assert_true(n > pixels && memcmp(ppm, "P6", 2) == 0);
    int blue = 0, orange = 0;
    for (size_t i = n - pixels; i < n; i += 3) {
        blue += ppm[i] == 31 && ppm[i + 1] == 119 && ppm[i + 2] == 180;
        orange += ppm[i] == 255 && ppm[i + 1] == 127 && ppm[i + 2] == 14;
    }
    assert_true(blue > 500 && orange > 500);
    free(ppm);
    remove(temp_path(path));
}

/* Dark pixels in a rectangle of a picture of 800x500, without the grid and the curves. */
static int ink(const unsigned char *rgb, int x0, int y0, int x1, int y1)
{
    int n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const unsigned char *p = rgb + 3 * (y * 800 + x);
            n += p[0] < 120 && p[1] < 120 && p[2] < 120;
        }
    return n;
}

TEST(a_drawing_has_numbers_names_of_axes_and_a_legend)
{
    static const char *const schedules[] = {"karras,exponential", "karras,beta"};
    unsigned char *ppm[2], *rgb[2];
    for (int i = 0; i < 2; i++) {
        size_t n;
        RUN(SCHEDULE, "--sampling-method", "dpm++2m", "--scheduler", schedules[i], "--plot", temp_path("a.ppm"));
        expect_success("schedule --plot");
        ppm[i] = (unsigned char *)slurp(temp_path("a.ppm"), &n);
        rgb[i] = ppm[i] + n - 800 * 500 * 3;
        remove(temp_path("a.ppm"));
    }
    static const struct { const char *what; int x0, y0, x1, y1; } places[] = {
        {"100", 30, 38, 66, 54}, {"10", 40, 137, 66, 153}, {"1", 48, 236, 66, 252}, {"0.01", 10, 434, 66, 450},
        {"0 below", 64, 448, 76, 464}, {"20 below", 764, 448, 790, 464}, {"axis below", 300, 470, 560, 490},
        {"axis above", 8, 10, 190, 30}, {"sampler and steps", 600, 10, 780, 30}, {"legend", 620, 50, 780, 90}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (ink(rgb[0], places[i].x0, places[i].y0, places[i].x1, places[i].y1) < 8) fail_msg("no %s", places[i].what);
    /* the first line says the same, the second another name */
    int longer = ink(rgb[0], 620, 72, 780, 90), shorter = ink(rgb[1], 620, 72, 780, 90);
    assert_true(longer > shorter + 20 && shorter > 20);
    free(ppm[0]);
    free(ppm[1]);
}

TEST(bad_requests_end_in_one_line)
{
    static const struct { const char *args[8], *word; } cases[] = {
        {{"samplers", "x"}, "unexpected argument"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method", "eulr"}, "the nearest are euler"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method", "ddim@kdiffusion"}, "is not there"},
        {{"schedule", "-m", "weights/tiny", "--scheduler", "karas"}, "the nearest schedules are karras"},
        {{"schedule", "-m", "weights/tiny", "--sigmas", "1,x"}, "numbers with commas"},
        {{"schedule", "-m", "weights/tiny", "--sigmas", "1"}, "sigmas: 2 to 1001 numbers are possible, not 1"},
        {{"schedule", "-m", "weights/tiny", "--sigmas", "1,2,0", "--sampling-method=euler"}, "sigmas should fall"},
        {{"schedule", "-m", "weights/tiny", "--sigmas", "2,0", "--timesteps", "3"}, "give one of them"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=ddim", "--scheduler", "karras"},
         "takes no schedule, found \"karras\": euler, dpm++2m"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=pndm", "--timesteps", "500,1"}, "takes none: euler"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--timesteps=-500000,-600000"},
         "number 1 of 2 is -500000"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=lcm", "--timesteps=500,-3"}, "number 2 of 2 is -3"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--timesteps", "1000000,5"},
         "each should be 0 to 999"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--timesteps", "nan,5"}, "decimal numbers"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--timesteps", "0x20,5"}, "decimal numbers"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--sigmas", "inf,5"}, "decimal numbers"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--sigmas", "5, 1"}, "decimal numbers"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=euler", "--sigmas", "1e300,1"},
         "number 1 of 2 is 1e+300"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=unipc", "--order", "4"}, "order of unipc should be"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=lcm", "--steps", "60"}, "1 to 50 steps"},
        {{"schedule", "-m", "weights/tiny", "--sampling-method=dpm++2m", "--steps", "1000"}, "sigmas should fall"},
        {{"schedule", "-m", "weights/tiny", "--plot", "x.jpg"}, "--plot must end"},
        {{"-p", "x", "--guidance-rescale", "2"}, "--guidance-rescale must be"},
        {{"-p", "x", "--s-churn", "-1"}, "--s-churn must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[64];
        snprintf(what, sizeof what, "case %zu", i);
        run_list(cases[i].args);
        expect_error(what, 2, cases[i].word);
    }
}

/* Every sampler draws a picture with the model in the box, and says which one it was in the picture's text. */
TEST(every_sampler_draws)
{
    sd_sampler_info s;
    for (int i = 0; sd_get_sampler(i, &s); i++) {
        const char *path = temp_path("a.ppm");
        RUN("-p", "a red apple", "-s", "3", "--steps", "3", "--sampling-method", s.name, "-q", "-o", path,
            "-W", "64", "-H", "64");
        expect_success(s.name);
        remove(path);
    }
}

TEST(settings_of_samplers_change_the_picture)
{
    static const char *const changes[][4] = {
        {"--scheduler", "karras", "--order", "2"}, {"--scheduler", "karras", "--order", "1"},
        {"--scheduler", "exponential", "--order", "2"}, {"--sigmas", "14,5,1,0", "--order", "2"},
        {"--scheduler", "karras", "--guidance-rescale", "0.7"}};
    enum { N = sizeof changes / sizeof *changes };
    char *pictures[N];
    size_t n[N];
    for (int i = 0; i < N; i++) {
        const char *path = temp_path("b.ppm");
        RUN("-p", "a red apple", "-s", "3", "--steps", "3", "--sampling-method", "dpm++2m", "-o", path, changes[i][0],
            changes[i][1], changes[i][2], changes[i][3]);
        expect_success("a setting");
        pictures[i] = slurp(path, &n[i]);
        remove(path);
        for (int k = 0; k < i; k++) assert_true(memcmp(pictures[i], pictures[k], n[i]) != 0);
    }
    for (int i = 0; i < N; i++) free(pictures[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samplers_are_listed_with_their_names_and_papers),
        cmocka_unit_test(schedules_are_printed),
        cmocka_unit_test(a_schedule_for_a_model_of_pndm_brings_its_sampler),
        cmocka_unit_test(schedules_are_drawn),
        cmocka_unit_test(a_drawing_has_numbers_names_of_axes_and_a_legend),
        cmocka_unit_test(bad_requests_end_in_one_line),
        cmocka_unit_test(every_sampler_draws),
        cmocka_unit_test(settings_of_samplers_change_the_picture),
    };
    return cmocka_run_group_tests_name("show", tests, child_setup, child_teardown);
}
